// Print the results of a sonostream daemon: node subscribe.mjs [tcp://host:port]
// Research use only, not for diagnosis.
import { Subscriber } from "zeromq";

const socket = new Subscriber();
socket.connect(process.argv[2] ?? "tcp://127.0.0.1:7070");
socket.subscribe("sonostream/analysis/");
for await (const [, header] of socket) {
  const { source, frame_id: frame, state, age, classes, lesions } = JSON.parse(header);
  const finding = classes ? `${classes.label}${classes.stable ? "" : "?"}` : "no result";
  const sizes = lesions.map((lesion) => (lesion.longest_mm ? `${lesion.longest_mm.toFixed(1)} mm` : `${lesion.longest_px.toFixed(0)} px`));
  console.log(source, frame, state, finding, `${(age * 1000).toFixed(1)} ms`, ...sizes);
}
