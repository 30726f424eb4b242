"""An engine that hangs, fails or answers nonsense in a running daemon, and a model changed under it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.analyzer import GIVE_UP_AFTER
from streamer.client import Subscriber
from streamer.notify import Supervisor
from streamer.push import FramePusher
from streamer.wire import Received
from tests.models.tiny import save, tiny_card, tiny_model
from tests.streamer import broken_engine
from tests.streamer.running import Daemon, free_port, running

PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tiny_model(), tmp_path / "tiny.onnx")


@pytest.fixture
def notices() -> Iterator[socket.socket]:
    """What a daemon tells its supervisor."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # the system names it
        listener.settimeout(30)
        yield listener


def watched(notices: socket.socket) -> dict[str, str]:
    name = notices.getsockname()
    return {"NOTIFY_SOCKET": "@" + name[1:].decode(), "WATCHDOG_USEC": "400000"}


def told(notices: socket.socket, what: str) -> list[str]:
    """Everything told up to this."""
    heard: list[str] = []
    while not heard or not heard[-1].startswith(what):
        heard.append(notices.recv(4096).decode())
    return heard


def drain(notices: socket.socket) -> None:
    """Take away what was told so far."""
    notices.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            notices.recv(4096)
    notices.settimeout(30)


def next_result(subscriber: Subscriber, *, where: Callable[[Received], bool] = lambda _: True) -> Received:
    while True:
        message = subscriber.receive(20)
        assert message is not None, "nothing arrived within twenty seconds"
        if isinstance(message, Received) and where(message):
            return message


def test_a_hanging_engine_is_seen_by_health_checks_and_ends_the_daemon_with_3(
    model: Path, tmp_path: Path, notices: socket.socket
) -> None:
    when = tmp_path / "how"
    flags = [PHANTOM, "--model.watchdog_s=0.5"]
    environment = {"BROKEN_WHEN": str(when), **watched(notices)}
    with running(model, *flags, program=broken_engine.command, **environment) as daemon:
        told(notices, "READY=1")
        told(notices, "WATCHDOG=1")
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        assert daemon.get("/healthz") == (200, "ok\n")
        when.write_text("hang")
        daemon.wait_for(lambda: daemon.get("/healthz") == (503, "not alive\n"))
        (source,) = daemon.status()["sources"]
        drain(notices)
        assert told(notices, "STOPPING=1") == ["STOPPING=1"]  # no sign of life any more
        _, said = daemon.process.communicate(timeout=20)

    assert daemon.process.returncode == 3
    assert "the engine has not answered for" in said
    assert "model.watchdog_s is 0.5" in said
    assert source["captured"] == source["analyzed"] + sum(source["dropped"].values()) + source["in_flight"]


def test_a_daemon_is_not_ready_before_its_model_is_warm_though_frames_come(
    model: Path, tmp_path: Path
) -> None:
    how = tmp_path / "how"
    how.write_text("load")
    with running(model, PHANTOM, program=broken_engine.command, BROKEN_WHEN=str(how)) as daemon:
        daemon.wait_for(lambda: daemon.status()["sources"][0]["captured"] > 3)

        assert daemon.status()["sources"][0]["state"] == "live"
        assert daemon.get("/healthz") == (200, "ok\n")
        assert daemon.get("/readyz") == (503, "not ready\n")


def test_a_daemon_that_is_stopped_tells_its_supervisor_so(model: Path, notices: socket.socket) -> None:
    with running(model, PHANTOM, **watched(notices)) as daemon:
        assert told(notices, "READY=1") == ["READY=1"]
        code, _ = daemon.stop()

    assert code == 0
    assert set(told(notices, "STOPPING=1")) <= {"WATCHDOG=1", "STOPPING=1"}


def test_a_watchdog_meant_for_another_process_is_not_fed() -> None:
    assert Supervisor({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Supervisor({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert Supervisor({"WATCHDOG_USEC": "soon"}).watchdog_s is None


def test_answers_of_another_shape_are_never_published_and_end_the_daemon(model: Path, tmp_path: Path) -> None:
    when = tmp_path / "how"
    with (
        running(model, PHANTOM, program=broken_engine.command, BROKEN_WHEN=str(when)) as daemon,
        Subscriber(daemon.address) as subscriber,
    ):
        next_result(subscriber)
        when.write_text("shape")
        _, said = daemon.process.communicate(timeout=20)

    assert daemon.process.returncode == 3
    assert f"the engine failed {GIVE_UP_AFTER} times in a row" in said


def test_frames_whose_answer_is_not_a_number_are_dropped_as_failed(model: Path, tmp_path: Path) -> None:
    when = tmp_path / "how"
    when.write_text("nan")
    flags = [f"zmq+tcp://127.0.0.1:{(port := free_port())}"]
    dark = np.random.default_rng(0).integers(0, 200, (48, 32), dtype=np.uint8)
    bright = dark // 20 + np.uint8(245)
    with (
        running(model, *flags, program=broken_engine.command, BROKEN_WHEN=str(when)) as daemon,
        FramePusher(f"tcp://127.0.0.1:{port}", "probe") as pusher,
        Subscriber(daemon.address) as subscriber,
    ):
        sent = 0

        def push_until(claim: Callable[[dict[str, Any]], bool], *, bright_ones: bool) -> None:
            def done() -> bool:
                nonlocal sent
                sent += 1
                pusher.push(np.roll(bright if bright_ones and sent % 3 == 0 else dark, sent, axis=0))
                return bool(claim(daemon.status()["sources"][0]))

            daemon.wait_for(done)

        daemon.wait_for(lambda: daemon.status()["model"] is not None)
        push_until(lambda source: source["analyzed"] > 0, bright_ones=False)
        before = daemon.status()["sources"][0]["dropped"]["failed"]
        push_until(lambda source: source["dropped"]["failed"] > before, bright_ones=True)
        results: list[Received] = []

        def heard(_: object) -> bool:
            message = subscriber.receive(0)
            if isinstance(message, Received) and message.analysis.classes is not None:
                results.append(message)
            return len(results) >= 3

        push_until(heard, bright_ones=True)
        code, said = daemon.stop()

    assert code == 0, said
    assert before == 0
    assert "returned class probabilities that are not numbers" in said
    for result in results:
        assert result.analysis.classes is not None
        assert np.isfinite(result.analysis.classes.raw).all()


def swap(daemon: Daemon, model: Path, new: Path) -> None:
    shutil.move(new, model)
    daemon.process.send_signal(signal.SIGHUP)


def test_a_new_model_takes_over_between_two_frames(model: Path, tmp_path: Path) -> None:
    new = save(tiny_model(card=tiny_card(version="2")), tmp_path / "new.onnx")
    with running(model, PHANTOM) as daemon, Subscriber(daemon.address) as subscriber:
        before = next_result(subscriber).analysis
        swap(daemon, model, new)
        results = [before]
        while results[-1].model.version != "2":
            results.append(next_result(subscriber).analysis)
        daemon.wait_for(lambda: daemon.status()["model"]["version"] == "2")
        assert 'sonostream_model_info{name="tiny"' in daemon.get("/metrics")[1]
        assert daemon.status()["model"]["sha256"] == results[-1].model.sha256 != before.model.sha256
        code, said = daemon.stop()

    assert code == 0
    assert "the model is switched: tiny 2" in said
    assert [r.seq for r in results] == list(range(before.seq, before.seq + len(results)))
    versions = [r.model.version for r in results]
    assert versions == sorted(versions)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("other classes", "its classes are cyst, malignant, normal, expected benign, malignant, normal"),
        ("not a number", "returned class probabilities that are not numbers"),
        ("junk", "the model is not switched, tiny 1 stays"),
    ],
)
def test_a_new_model_that_will_not_do_leaves_the_old_one_working(
    model: Path, tmp_path: Path, content: str, says: str
) -> None:
    new = tmp_path / "new.onnx"
    if content == "junk":
        new.write_bytes(model.read_bytes()[:300])
    elif content == "other classes":
        save(tiny_model(card=tiny_card(classes=("cyst", "malignant", "normal"))), new)
    else:
        broken = tiny_model(not_a_number=True)
        limit = next(each for each in broken.graph.initializer if each.name == "limit")
        limit.raw_data = np.float32(-1).tobytes()  # not a number for any picture, so warming up finds it
        save(broken, new)
    log = ["--log.format=json", "--model.precision=fp32"]
    with running(model, PHANTOM, *log) as daemon, Subscriber(daemon.address) as subscriber:
        next_result(subscriber)
        sha256 = daemon.status()["model"]["sha256"]
        swap(daemon, model, new)
        assert daemon.process.stderr is not None
        lines = []
        while not lines or "not switched" not in lines[-1]["message"]:
            lines.append(json.loads(daemon.process.stderr.readline()))
        at = time.monotonic_ns()
        after = next_result(subscriber, where=lambda r: r.analysis.captured_monotonic > at)
        assert daemon.status()["model"]["sha256"] == after.analysis.model.sha256 == sha256
        code, _ = daemon.stop()

    assert code == 0
    assert (lines[-1]["level"], says in lines[-1]["message"]) == ("error", True), lines[-1]


def test_a_watched_file_that_changes_is_loaded_and_a_bad_one_is_not(model: Path, tmp_path: Path) -> None:
    good = save(tiny_model(card=tiny_card(version="2")), tmp_path / "good.onnx").read_bytes()
    with (
        running(model, PHANTOM, "--model.watch=true", "--log.format=json") as daemon,
        Subscriber(daemon.address) as subscriber,
    ):
        before = next_result(subscriber).analysis
        os.utime(model)  # the same model in a file that looks new
        assert daemon.process.stderr is not None
        # As a copy over the network comes: half of it, and then the rest.
        model.write_bytes(good[: len(good) // 2])
        lines: list[str] = []
        while not lines or "not switched" not in lines[-1]:
            lines.append(json.loads(daemon.process.stderr.readline())["message"])
        assert next_result(subscriber).analysis.model == before.model
        model.unlink()
        after_loss = next_result(subscriber).analysis.frame_id
        next_result(subscriber, where=lambda r: r.analysis.frame_id > after_loss + 10)
        model.write_bytes(good)
        switched = next_result(subscriber, where=lambda r: r.analysis.model.version == "2").analysis
        daemon.wait_for(lambda: daemon.status()["model"]["sha256"] == switched.model.sha256)
        (source,) = daemon.status()["sources"]
        code, said = daemon.stop()

    assert code == 0, said
    assert sum("has changed" in line for line in [*lines, *said.splitlines()]) == 2
    assert source["captured"] == source["analyzed"] + sum(source["dropped"].values()) + source["in_flight"]


def test_a_file_that_is_not_watched_changes_nothing(model: Path, tmp_path: Path) -> None:
    new = save(tiny_model(card=tiny_card(version="2")), tmp_path / "new.onnx")
    with running(model, PHANTOM) as daemon, Subscriber(daemon.address) as subscriber:
        before = next_result(subscriber).analysis
        shutil.move(new, model)
        after = next_result(subscriber, where=lambda r: r.analysis.frame_id > before.frame_id + 50)

    assert after.analysis.model == before.model
