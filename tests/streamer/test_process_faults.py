"""How the process ends, in good order and without warning, and what the next start finds."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.client import Subscriber
from streamer.push import FramePusher
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.streamer import broken_engine
from tests.streamer.running import Daemon, free_port, running, sonostream
from tests.streamer.sources.test_streams import srt_or_skip
from tests.streamer.test_frame_identity import until

PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def balanced(source: dict[str, Any]) -> bool:
    left = source["analyzed"] + sum(source["dropped"].values()) + source["in_flight"]
    return bool(source["captured"] == left)


def counts(line: str) -> tuple[int, int]:
    """Captured, and analysed plus dropped, of what the daemon says of a source at its end."""
    words = line.replace(",", "").split()
    numbers = [int(word) for word in words if word.isdecimal()]
    return numbers[0], sum(numbers[1:])


def test_at_its_end_every_frame_is_accounted_for(model: Path) -> None:
    with running(model, PHANTOM, "phantom:?seed=2&width=160&height=120&prerender=20") as daemon:
        daemon.wait_for(lambda: all(each["analyzed"] > 5 for each in daemon.status()["sources"]))
        code, said = daemon.stop()

    assert code == 0
    ends = [line.partition(": ")[2] for line in said.splitlines() if "frames captured" in line]
    assert len(ends) == 2
    for line in ends:
        captured, accounted = counts(line)
        assert captured == accounted > 5, line


@pytest.mark.parametrize("when", ["hang", "load"])
def test_an_engine_that_hangs_does_not_keep_a_daemon_from_stopping(
    model: Path, tmp_path: Path, when: str
) -> None:
    how = tmp_path / "how"
    if when == "load":
        how.write_text(when)
    flags = [PHANTOM, "--model.watchdog_s=600"]
    with running(model, *flags, program=broken_engine.command, BROKEN_WHEN=str(how)) as daemon:
        if when == "hang":
            daemon.wait_for(lambda: daemon.status()["sources"][0]["analyzed"] > 0)
            how.write_text(when)
            done = daemon.status()["sources"][0]["analyzed"]

            def stands() -> bool:
                nonlocal done
                before, done = done, daemon.status()["sources"][0]["analyzed"]
                superseded = daemon.status()["sources"][0]["dropped"]["superseded"]
                return bool(before == done and superseded > 5)

            daemon.wait_for(stands)
        else:
            daemon.wait_for(lambda: daemon.status()["sources"][0]["captured"] > 5)
        source = daemon.status()["sources"][0]
        code, said = daemon.stop(signal.SIGTERM)

    assert code == 0, said
    assert "Traceback" not in said
    assert balanced(source)


def test_what_a_killed_daemon_leaves_does_not_stop_the_next_one(model: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.mcap"
    address, port, frames, link = f"ipc://{tmp_path}/results.ipc", free_port(), free_port(), free_port()
    flags = [PHANTOM, f"zmq+ipc://{tmp_path}/frames.ipc", f"zmq+tcp://127.0.0.1:{frames}"]
    flags += [f"--record.path={study}", f"--openigtlink.port={link}"]
    for start in range(2):
        with (
            running(model, *flags, address=address, port=port) as daemon,
            FramePusher(f"ipc://{tmp_path}/frames.ipc", "probe") as pusher,
            Subscriber(address) as subscriber,
        ):

            def all_seen(daemon: Daemon = daemon, pusher: FramePusher = pusher) -> bool:
                pusher.push(np.random.default_rng().integers(0, 255, (120, 160), dtype=np.uint8))
                return all(each["analyzed"] > 3 for each in daemon.status()["sources"][:2])

            daemon.wait_for(all_seen)
            while not isinstance(subscriber.receive(10), Received):
                pass
            assert all(balanced(source) for source in daemon.status()["sources"])
            daemon.process.kill()
            _, said = daemon.process.communicate(timeout=10)
        assert f"recording to {study if not start else study.with_stem(f'study-{start + 1}')}" in said

    pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")
    from streamer.recording import survey

    names = sorted(path.name for path in tmp_path.glob("*.mcap"))
    assert names == ["study-2.mcap", "study.mcap"]
    for name in names:
        assert set(survey(tmp_path / name).sources) == {"phantom", "zmq"}


def test_a_socket_file_that_a_daemon_listens_on_is_not_taken_from_it(model: Path, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/results.ipc"
    with running(model, PHANTOM, address=address) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        second = subprocess.run(
            sonostream(
                "run", PHANTOM, f"--model.artifact={model}", f"--publish.bind={address}", "--http.port=0"
            ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        with Subscriber(address) as subscriber:
            while not isinstance(message := subscriber.receive(10), Received):
                assert message is not None

    assert second.returncode == 2
    assert "already in use" in second.stderr


def test_no_dump_of_a_crashed_daemon_is_written(model: Path, tmp_path: Path) -> None:
    with running(model, PHANTOM) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        owner = Path(f"/proc/{daemon.process.pid}/mem").stat().st_uid
        daemon.process.send_signal(signal.SIGABRT)
        _, said = daemon.process.communicate(timeout=20)

    (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]
    assert owner == 0  # what the kernel does to processes that may not be dumped
    assert daemon.process.returncode == -signal.SIGABRT
    assert "core dumped" not in said
    assert list(tmp_path.iterdir()) == []


RELAY = """
import sys, threading
from streamer.sources.libav_srt import SrtRelay
relay = SrtRelay(sys.argv[1], 600)
print(relay._process.pid, flush=True)
threading.Event().wait()
"""


def test_a_killed_daemon_leaves_no_receiver_that_holds_its_port() -> None:
    srt_or_skip()
    address = f"srt://127.0.0.1:{free_port()}?mode=listener"
    with subprocess.Popen(
        [sys.executable, "-c", RELAY, address], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        receiver = Path("/proc", daemon.stdout.readline().strip())
        assert receiver.exists()
        daemon.kill()
        daemon.wait(10)
        until(lambda: not receiver.exists() or "Z" in (receiver / "stat").read_text().split()[2])
