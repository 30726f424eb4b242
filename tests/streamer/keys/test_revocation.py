"""A client that is taken off the list while it is connected hears and says nothing any more."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from streamer.analysis import Event
from streamer.client import Subscriber
from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Feed
from streamer.keys import ServerKeys
from streamer.publisher import Publisher
from streamer.push import FramePusher
from streamer.sources import SourceLost, SourceOptions, open_source
from streamer.wire import Received
from tests.streamer.results import result
from tests.streamer.running import free_port
from tests.streamer.scripted import opener

GRAY = np.full((40, 50), 9, np.uint8)


@pytest.fixture
def server(tmp_path: Path) -> ServerKeys:
    return ServerKeys.create(tmp_path / "keys")


@pytest.fixture
def publisher(server: ServerKeys) -> Iterator[Publisher]:
    config = SourceConfig(uri="phantom:", name="probe")
    feed = Feed(config, FeedConfig(), bell=threading.Condition(), tell=lambda *_: None, open_it=opener())
    made = Publisher("tcp://127.0.0.1:*", keys=server.folder)
    made.start([feed])
    yield made
    made.stop()


def until(claim: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(500):
        if claim():
            return
        tick.wait(0.02)
    raise AssertionError("not within ten seconds")


def hears(subscriber: Subscriber, kind: type[Event] | type[Received], timeout_s: float = 10) -> bool:
    while (message := subscriber.receive(timeout_s)) is not None:
        if isinstance(message, kind):
            return True
    return False


def test_a_revoked_client_is_cut_off_and_the_others_are_back_at_once(
    publisher: Publisher, server: ServerKeys
) -> None:
    revoked, kept = server.new_client("old-display"), server.new_client("display")
    with (
        Subscriber(publisher.address, keys=revoked) as former,
        Subscriber(publisher.address, keys=kept) as display,
    ):
        assert hears(former, Event)
        assert hears(display, Event)
        before = publisher.refused
        server.revoke("old-display")
        until(lambda: publisher.refused > before)  # it tries to come back
        while former.receive(0) is not None:
            pass  # what it had been sent before

        assert hears(display, Event)
        publisher.offer(result(7))
        assert hears(display, Received)
        assert former.receive(0.6) is None  # two heartbeats
        assert not former.connected
        assert publisher.dropped == 0


def test_taking_off_a_client_that_is_not_there_disturbs_nobody(
    publisher: Publisher, server: ServerKeys
) -> None:
    server.new_client("never-came")
    with Subscriber(publisher.address, keys=server.new_client("display")) as display:
        assert hears(display, Event)
        server.revoke("never-came")
        gate = publisher._gate
        for seq in range(20):
            publisher.offer(result(seq))
            assert hears(display, Received)

        assert publisher._gate is gate


def test_nobody_stays_connected_while_the_list_is_open_to_others(
    publisher: Publisher, server: ServerKeys
) -> None:
    with Subscriber(publisher.address, keys=server.new_client("display")) as display:
        assert hears(display, Event)
        (server.folder / "allowed").chmod(0o644)
        until(lambda: publisher.refused > 0)
        while display.receive(0) is not None:
            pass
        assert display.receive(0.6) is None

        (server.folder / "allowed").chmod(0o600)
        assert hears(display, Event)


def test_frames_of_a_revoked_sender_are_not_taken_any_more(server: ServerKeys) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    options = SourceOptions(keys=server.folder)
    with FramePusher(address, "probe", keys=server.new_client("scanner")) as pusher:
        with open_source(f"zmq+{address}", options) as source:
            until(lambda: pusher.push(GRAY))
            assert source.read() is not None
            server.revoke("scanner")

            def read_on() -> None:
                while source.read() is not None:
                    pusher.push(GRAY)

            with pytest.raises(SourceLost, match="taken off the list"):
                read_on()
        with open_source(f"zmq+{address}", options) as again:
            until(lambda: pusher.push(GRAY) or again.refused > 0)
            until(lambda: again.refused > 0)


def test_a_receiver_that_is_revoked_gets_no_more_frames_of_a_sender_that_binds(server: ServerKeys) -> None:
    port = free_port()
    keys = server.new_client("daemon")
    with (
        FramePusher(f"tcp://127.0.0.1:{port}", "probe", mode="pub", keys=server.folder) as pusher,
        open_source(f"zmq+tcp://127.0.0.1:{port}?mode=sub", SourceOptions(keys=keys)) as source,
    ):
        frames: list[int] = []

        def read() -> None:
            while source.read() is not None:
                frames.append(1)

        reader = threading.Thread(target=read)
        reader.start()
        until(lambda: pusher.push(GRAY) and bool(frames))
        gate = pusher._gate
        assert gate is not None
        server.revoke("daemon")
        until(gate.revoked.is_set)
        pusher.push(GRAY)
        refused = pusher._gate
        assert refused is not None
        until(lambda: refused.refused > 0)
        count = len(frames)
        for _ in range(10):
            pusher.push(GRAY)

        assert len(frames) == count
        source.close()
        reader.join(5)
