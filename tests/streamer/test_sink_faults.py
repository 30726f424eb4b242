"""What a slow, stopped, killed or full receiver costs: itself, and nobody else."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from streamer.client import Subscriber
from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Feed
from streamer.publisher import Picture, Publisher
from streamer.sinks import Result
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.programs import require_program
from tests.streamer.results import result
from tests.streamer.running import Daemon, running, sonostream
from tests.streamer.scripted import opener

WARMING_UP = 10**6
PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    config = SourceConfig(uri="phantom:", name="probe")
    feed = Feed(config, FeedConfig(), bell=threading.Condition(), tell=lambda *_: None, open_it=opener())
    made = Publisher("tcp://127.0.0.1:*")
    made.start([feed])
    yield made
    made.stop()


def until(claim: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(1000):
        if claim():
            return
        tick.wait(0.01)
    raise AssertionError("not within ten seconds")


def received_from(subscriber: Subscriber) -> int:
    while not isinstance(message := subscriber.receive(10), Received):
        assert message is not None, "nothing arrived within ten seconds"
    return message.analysis.seq


def joined(publisher: Publisher, subscriber: Subscriber, make: Callable[[int], Picture | Result]) -> None:
    """Wait until results reach a new subscriber."""

    def arrives() -> bool:
        publisher.offer(make(WARMING_UP))
        return isinstance(subscriber.receive(0.05), Received)

    until(arrives)
    while isinstance(message := subscriber.receive(0.3), Received):
        assert message.analysis.seq == WARMING_UP


def picture(seq: int) -> Picture:
    made = result(seq)
    return Picture(made.analysis, made.mask, bytes(200_000))


LISTENER = """
import sys
from streamer.client import Subscriber
from streamer.wire import Received
with Subscriber(sys.argv[1], channels=("preview",)) as subscriber:
    while True:
        message = subscriber.receive(30)
        if isinstance(message, Received):
            print(message.analysis.seq, flush=True)
"""


def test_a_subscriber_that_stops_reading_loses_its_own_results_and_no_one_elses(publisher: Publisher) -> None:
    command = [sys.executable, "-c", LISTENER, publisher.address]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stopped,
        Subscriber(publisher.address, channels=("preview",)) as reader,
    ):
        try:
            assert stopped.stdout is not None
            joined(publisher, reader, picture)
            first = 0
            while not select.select([stopped.stdout], [], [], 0)[0]:
                publisher.offer(picture(first))
                assert received_from(reader) == first
                first += 1
            stopped.send_signal(signal.SIGSTOP)
            # More than its socket's buffers and its share of the publisher's can hold.
            for seq in range(first, first + 300):
                publisher.offer(picture(seq))
                assert received_from(reader) == seq
            stopped.send_signal(signal.SIGCONT)
            heard = [int(stopped.stdout.readline())]
            last = first + 300
            while heard[-1] < first + 300:
                publisher.offer(picture(last))
                assert received_from(reader) == last
                last += 1
                heard.append(int(stopped.stdout.readline()))
        finally:
            stopped.kill()

    assert publisher.dropped == 0
    assert all(later > earlier for earlier, later in pairwise(heard))
    gaps = sum(later - earlier - 1 for earlier, later in pairwise(heard))
    assert gaps > 0  # what it lost it can count: what it heard and what it missed are all there was
    assert len(heard) + gaps == heard[-1] - heard[0] + 1


def test_two_hundred_subscribers_that_join_and_leave_cost_a_steady_one_nothing(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as steady:
        joined(publisher, steady, result)
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        threads = threading.active_count()
        seq = 0
        for group in range(20):
            with ExitStack() as opened:
                guests = [
                    opened.enter_context(Subscriber(publisher.address, channels=("analysis", "preview")))
                    for _ in range(10)
                ]
                waiting = set(range(10))
                while waiting:
                    publisher.offer(result(seq))
                    assert received_from(steady) == seq
                    seq += 1
                    waiting -= {each for each in waiting if _heard(guests[each])}
                if group == 0:
                    until(lambda: publisher.wants_picture("probe"))

        def all_gone() -> bool:
            nonlocal seq
            publisher.offer(result(seq))
            assert received_from(steady) == seq
            seq += 1
            return not publisher.wants_picture("probe")

        until(all_gone)
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208

        assert threading.active_count() == threads
        assert publisher.dropped == 0


def _heard(guest: Subscriber) -> bool:
    while (message := guest.receive(0)) is not None:
        if isinstance(message, Received):
            return True
    return False


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    mount, umount = require_program("mount", package="mount"), require_program("umount", package="mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, str(folder)], check=True)


def recorder_dropped(daemon: Daemon) -> float:
    name = 'sonostream_sink_dropped_total{sink="recorder"} '
    lines = daemon.get("/metrics")[1].splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def test_a_disk_that_fills_up_and_is_cleared_costs_the_frames_between_and_each_is_counted(
    model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")
    from streamer.recording import Recorded, read_recording

    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder):
        path, filler = folder / "study.mcap", folder / "filler"
        filler.write_bytes(bytes(800_000))
        with running(model, PHANTOM, f"--record.path={path}") as daemon:
            daemon.wait_for(lambda: recorder_dropped(daemon) > 5)
            analyzed = daemon.status()["sources"][0]["analyzed"]
            daemon.wait_for(lambda: daemon.status()["sources"][0]["analyzed"] > analyzed + 10)
            filler.unlink()
            full = path.stat().st_size
            daemon.wait_for(lambda: path.stat().st_size > full + 100_000)
            code, said = daemon.stop()
        kept = [each.analysis for each in read_recording(path) if isinstance(each, Recorded)]

    assert code == 0, said
    assert "No space left on device; analysis goes on" in said
    (dropped,) = re.findall(r"recorder: (\d+) results dropped", said)
    seqs = [each.seq for each in kept]
    assert len(set(seqs)) == len(seqs)
    (handled,) = re.findall(r"phantom: \d+ frames captured, (\d+) analysed", said)
    others = sum(int(count) for count in re.findall(r"(\d+) (?:frozen|no_signal)", said))
    assert len(seqs) + int(dropped) == int(handled) + others


def test_a_recorder_killed_without_warning_has_all_but_its_last_second(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")
    from streamer.recording import Recorded, read_recording

    path = tmp_path / "study.mcap"
    with running(model, PHANTOM) as daemon, Subscriber(daemon.address, channels=("preview",)) as subscriber:
        recorder = subprocess.Popen(
            sonostream("record", daemon.address, str(path)), stderr=subprocess.DEVNULL
        )
        daemon.wait_for(lambda: path.exists() and path.stat().st_size > 20_000)
        heard = [received(subscriber) for _ in range(60)]
        recorder.kill()
        recorder.wait(10)
    kept = {each.analysis.seq: each for each in read_recording(path) if isinstance(each, Recorded)}

    sure = [each for each in heard if each.received_monotonic < heard[-1].received_monotonic - 10**9]
    assert len(sure) > 5
    first = min(kept)
    for each in sure:
        if each.analysis.seq >= first:
            assert kept[each.analysis.seq].analysis == each.analysis
            assert kept[each.analysis.seq].picture is not None


def received(subscriber: Subscriber) -> Received:
    while not isinstance(message := subscriber.receive(10), Received):
        assert message is not None, "nothing arrived within ten seconds"
    return message


def test_a_result_that_an_event_pushes_out_is_counted() -> None:
    config = SourceConfig(uri="phantom:", name="probe")
    feed = Feed(config, FeedConfig(), bell=threading.Condition(), tell=lambda *_: None, open_it=opener())
    publisher = Publisher("tcp://127.0.0.1:*")  # not started: nothing leaves it
    try:
        offered = 0
        while not publisher.dropped:
            publisher.offer(result(offered))
            offered += 1
        publisher.tell(feed, "lost", "")
        assert publisher.dropped == 2
    finally:
        publisher.stop()

    assert publisher.dropped == offered + 1  # the event, which nobody heard either, with them


def test_a_result_that_cannot_be_sent_costs_itself_and_not_the_publisher(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as subscriber:
        joined(publisher, subscriber, result)
        publisher.offer(result(1, dropped={"superseded": object()}))
        publisher.offer(result(2))

        assert received_from(subscriber) == 2

    assert publisher.dropped == 1
