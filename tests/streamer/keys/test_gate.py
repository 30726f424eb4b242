"""Real sockets with keys: who gets results and frames, and who gets nothing."""

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from streamer.analysis import Event
from streamer.client import Subscriber, subscribe
from streamer.config import ConfigError, FeedConfig, SourceConfig, load_config
from streamer.feed import Feed
from streamer.keys import ClientKeys, ServerKeys
from streamer.publisher import Publisher, PublisherError
from streamer.push import FramePusher
from streamer.sources import Captured, Source, SourceOptions, SourceUnavailable, open_source
from streamer.view import Viewer
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.streamer.results import result
from tests.streamer.running import free_port, running
from tests.streamer.scripted import opener


@pytest.fixture
def server(tmp_path: Path) -> ServerKeys:
    return ServerKeys.create(tmp_path / "keys")


@pytest.fixture
def publisher(server: ServerKeys) -> Iterator[Publisher]:
    feed = Feed(
        SourceConfig(uri="phantom:", name="probe"),
        FeedConfig(),
        bell=threading.Condition(),
        tell=lambda *_: None,
        open_it=opener(),
    )
    made = Publisher("tcp://127.0.0.1:*", keys=server.folder)
    made.start([feed])
    yield made
    made.stop()


def until(claim: Callable[[], bool]) -> None:
    """Wait for what a thread of the library does; its own waits are short."""
    tick = threading.Event()
    for _ in range(500):
        if claim():
            return
        tick.wait(0.02)
    raise AssertionError("not within ten seconds")


def refused_all(address: str, publisher: Publisher, keys: Path | None) -> None:
    """A client with these keys is refused, and hears nothing although the daemon speaks."""
    with Subscriber(address, keys=keys) as stranger:
        before = publisher.refused
        until(lambda: publisher.refused > before)
        assert stranger.receive(0.6) is None  # two heartbeats
        assert not stranger.connected


def test_an_allowed_client_gets_results(publisher: Publisher, server: ServerKeys) -> None:
    with Subscriber(publisher.address, keys=server.new_client("display")) as subscriber:
        while not isinstance(subscriber.receive(5), Event):
            pass
        publisher.offer(result(7))
        while not isinstance(message := subscriber.receive(5), Received):
            assert message is not None

    assert message.analysis.seq == 7
    assert publisher.refused == 0


def test_results_are_read_with_subscribe_and_shown_by_a_viewer_that_has_keys(
    publisher: Publisher, server: ServerKeys
) -> None:
    keys = server.new_client("display")
    stop = threading.Event()

    def repeat() -> None:
        seq = 0
        while not stop.wait(0.02):
            publisher.offer(result(seq := seq + 1))

    thread = threading.Thread(target=repeat)
    thread.start()
    results = subscribe(publisher.address, keys=keys)
    try:
        assert next(results).analysis.source == "probe"
        with Viewer(publisher.address, port=0, keys=keys) as viewer:
            until(lambda: viewer._newest.status().connected)
    finally:
        stop.set()
        thread.join(5)
        results.close()  # type: ignore[attr-defined]


def test_a_client_without_keys_gets_nothing_and_is_counted(publisher: Publisher) -> None:
    refused_all(publisher.address, publisher, None)


def test_a_client_that_is_not_on_the_list_gets_nothing_and_is_counted(
    publisher: Publisher, server: ServerKeys
) -> None:
    keys = server.new_client("display")
    server.revoke("display")

    refused_all(publisher.address, publisher, keys)


def test_a_client_that_expects_another_server_gets_nothing_and_is_counted(
    publisher: Publisher, tmp_path: Path
) -> None:
    other = ServerKeys.create(tmp_path / "other")

    refused_all(publisher.address, publisher, other.new_client("display"))


def test_a_program_that_speaks_something_else_gets_nothing_and_is_counted(publisher: Publisher) -> None:
    port = int(publisher.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(5)
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(100))
        until(lambda: publisher.refused > 0)
        heard = b""
        try:
            while part := stranger.recv(4096):
                heard += part
        except (TimeoutError, ConnectionResetError):
            pass

    assert b"sonostream" not in heard


def test_a_client_that_is_allowed_while_the_daemon_runs_gets_in(
    publisher: Publisher, server: ServerKeys
) -> None:
    keys = server.new_client("display")
    public = ClientKeys.load(keys).public
    server.revoke("display")
    with Subscriber(publisher.address, keys=keys) as subscriber:
        until(lambda: publisher.refused > 0)
        server.allow("display", public)

        assert isinstance(subscriber.receive(20), Event)


def test_others_are_served_while_a_stranger_knocks(publisher: Publisher, server: ServerKeys) -> None:
    with (
        Subscriber(publisher.address) as stranger,
        Subscriber(publisher.address, keys=server.new_client("display")) as subscriber,
    ):
        until(lambda: publisher.refused == 1)

        assert isinstance(subscriber.receive(5), Event)
        assert stranger.receive(0) is None


def test_keys_that_are_open_to_others_keep_the_daemon_from_publishing(server: ServerKeys) -> None:
    (server.folder / "server.key").chmod(0o644)

    with pytest.raises(PublisherError, match=r"publish\.keys: .*open to others"):
        Publisher("tcp://127.0.0.1:*", keys=server.folder)


def pushed_until_received(pusher: FramePusher, source: Source) -> Captured:
    frames: list[Captured] = []

    def read() -> None:
        if (frame := source.read()) is not None:
            frames.append(frame)

    reader = threading.Thread(target=read)
    reader.start()

    def arrived() -> bool:
        pusher.push(np.full((40, 50), 9, np.uint8))
        return bool(frames)

    until(arrived)
    reader.join(5)
    return frames[0]


def test_frames_of_an_allowed_sender_are_taken(server: ServerKeys) -> None:
    port = free_port()
    sender = server.new_client("scanner")
    with (
        open_source(f"zmq+tcp://127.0.0.1:{port}", SourceOptions(keys=server.folder)) as source,
        FramePusher(f"tcp://127.0.0.1:{port}", "probe", keys=sender) as pusher,
    ):
        assert pushed_until_received(pusher, source).pixels.shape == (40, 50)
        assert source.refused == 0


def test_frames_of_a_stranger_are_not_taken_and_it_is_counted(server: ServerKeys) -> None:
    port = free_port()
    with open_source(f"zmq+tcp://127.0.0.1:{port}", SourceOptions(keys=server.folder)) as source:
        with FramePusher(f"tcp://127.0.0.1:{port}", "probe") as stranger:
            until(lambda: source.refused > 0)
            stranger.push(np.zeros((40, 50), np.uint8))
        with FramePusher(f"tcp://127.0.0.1:{port}", "probe", keys=server.new_client("scanner")) as pusher:
            frame = pushed_until_received(pusher, source)

    assert frame.pixels[0, 0] == 9


def test_a_sender_that_binds_serves_only_those_it_allows(server: ServerKeys) -> None:
    port = free_port()
    receiver = server.new_client("daemon")
    address = f"zmq+tcp://127.0.0.1:{port}?mode=sub"
    with (
        FramePusher(f"tcp://127.0.0.1:{port}", "probe", mode="pub", keys=server.folder) as pusher,
        open_source(address, SourceOptions(keys=receiver)) as source,
    ):
        assert pushed_until_received(pusher, source).pixels.shape == (40, 50)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("zmq+tcp://0.0.0.0:5999", "anyone on the network: give --source.keys FOLDER"),
        ("zmq+tcp://192.0.2.1:5999?mode=sub", "anyone could pose as the sender: give --source.keys FILE"),
        ("zmq+ipc://@frames", "open to every user"),
    ],
)
def test_without_keys_no_socket_goes_beyond_this_machine(uri: str, says: str) -> None:
    with pytest.raises(SourceUnavailable, match=says):
        open_source(uri)


def test_with_keys_sockets_go_beyond_this_machine(server: ServerKeys) -> None:
    with open_source(f"zmq+tcp://0.0.0.0:{free_port()}", SourceOptions(keys=server.folder)):
        pass
    flags = {"publish.bind": "tcp://0.0.0.0:7070", "publish.keys": str(server.folder)}

    assert load_config(flags=flags, environment={}).publish.bind == "tcp://0.0.0.0:7070"


def test_publishing_beyond_this_machine_without_keys_names_the_key_to_set() -> None:
    with pytest.raises(ConfigError, match=r"publish\.bind: .*set publish\.keys"):
        load_config(flags={"publish.bind": "tcp://0.0.0.0:7070"}, environment={})


def test_socket_files_are_for_owner_and_group_only(tmp_path: Path) -> None:
    results, frames = tmp_path / "results.ipc", tmp_path / "frames.ipc"
    publisher = Publisher(f"ipc://{results}")
    try:
        with open_source(f"zmq+ipc://{frames}"):
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (results, frames)]
    finally:
        publisher.stop()

    assert all(mode & ~0o660 == 0 for mode in modes), [oct(mode) for mode in modes]
    with pytest.raises(ConfigError, match="open to every user"):
        load_config(flags={"publish.bind": "ipc://@results"}, environment={})


def test_a_refused_connection_is_in_the_daemons_metrics(server: ServerKeys, tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    sources = ["phantom:?width=160&height=120", f"--publish.keys={server.folder}"]
    with running(model, *sources) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        stranger = zmq.Context.instance().socket(zmq.SUB)
        stranger.connect(daemon.address)

        def counted() -> bool:
            lines = daemon.get("/metrics")[1].splitlines()
            name = 'sonostream_connections_refused_total{socket="results",source=""} '
            return any(line.startswith(name) and float(line.removeprefix(name)) > 0 for line in lines)

        daemon.wait_for(counted)
        stranger.close(0)
        with Subscriber(daemon.address, keys=server.new_client("display")) as subscriber:
            while not isinstance(message := subscriber.receive(10), Received):
                assert message is not None
        code, said = daemon.stop()

    assert code == 0
    assert "results: refused a connection" in said
    assert message.analysis.source == "phantom"
