// Print the results of a sonostream daemon. Research use only, not for diagnosis.
// Debian: apt install g++ cppzmq-dev nlohmann-json3-dev
// g++ -std=c++17 -O1 subscribe.cpp -lzmq -o subscribe && ./subscribe [tcp://host:port]
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>
#include <zmq.hpp>
#include <zmq_addon.hpp>

int main(int argc, char** argv) {
  const std::string address = argc > 1 ? argv[1] : "tcp://127.0.0.1:7070";
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 12);
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.set(zmq::sockopt::maxmsgsize, int64_t{32} << 20);
  socket.set(zmq::sockopt::subscribe, "sonostream/analysis/");
  socket.set(zmq::sockopt::subscribe, "sonostream/event/");
  socket.set(zmq::sockopt::rcvtimeo, 900);  // every source is heard of four times a second
  socket.connect(address);
  bool connected = true;
  for (;;) {
    std::vector<zmq::message_t> parts;
    if (!zmq::recv_multipart(socket, std::back_inserter(parts))) {
      if (connected) std::printf("no connection to %s\n", address.c_str());
      connected = false;
      continue;
    }
    connected = true;
    if (parts.size() < 3) continue;  // an event: a sign of life
    const auto header = nlohmann::json::parse(parts[1].to_string_view(), nullptr, false);
    if (header.is_discarded()) continue;
    const auto& classes = header["classes"];
    // The mask, parts[2], is header["mask"]["height"] rows of bytes over the region: 255 is surely lesion.
    const std::string finding =
        classes.is_null() ? "no result"
                          : classes["label"].get<std::string>() + (classes["stable"].get<bool>() ? "" : "?");
    std::printf("%s %lld %s %s %.1f ms", header["source"].get<std::string>().c_str(),
                header["frame_id"].get<long long>(), header["state"].get<std::string>().c_str(),
                finding.c_str(), header["age"].get<double>() * 1000);
    for (const auto& lesion : header["lesions"]) {
      if (lesion["longest_mm"].is_null())
        std::printf(" %.0f px", lesion["longest_px"].get<double>());
      else
        std::printf(" %.1f mm", lesion["longest_mm"].get<double>());
    }
    std::printf("\n");
  }
}
