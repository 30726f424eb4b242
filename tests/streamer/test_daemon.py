"""The whole daemon, as a process: what goes in, what comes out, and what is said when it cannot start."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from streamer.analysis import Event
from streamer.client import Subscriber
from streamer.push import FramePusher
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.programs import require_program
from tests.streamer.running import Daemon, free_port, running, sonostream

PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def daemon(model: Path) -> Iterator[Daemon]:
    with running(model, PHANTOM) as started:
        started.wait_for(lambda: started.get("/readyz")[0] == 200)
        yield started


def analyses(daemon: Daemon, count: int, channel: str = "analysis") -> list[Received]:
    received: list[Received] = []
    with Subscriber(daemon.address, channels=(channel,)) as subscriber:  # type: ignore[arg-type]
        while len(received) < count:
            message = subscriber.receive(10)
            assert message is not None, "nothing arrived within ten seconds"
            if isinstance(message, Received):
                received.append(message)
    return received


def test_a_live_feed_is_analysed_frame_by_frame(daemon: Daemon) -> None:
    results = analyses(daemon, 10)

    first = results[0].analysis
    assert [r.analysis.seq for r in results] == list(range(first.seq, first.seq + 10))
    assert (first.source, first.state, first.intended_use) == ("phantom", "live", "research only")
    assert first.model.name == "tiny"
    assert first.classes is not None
    assert sum(first.classes.smoothed) == pytest.approx(1, abs=1e-5)
    assert list(first.latency.stages) == ["capture", "wait", "resize", "inference", "smoothing", "lesions"]
    assert 0 < first.latency.total <= first.age


def test_mask_and_picture_of_a_preview_show_the_same_frame(daemon: Daemon) -> None:
    received = analyses(daemon, 1, "preview")[0]

    assert received.picture is not None
    picture = cv2.imdecode(np.frombuffer(received.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert picture.shape == (120, 160)
    assert received.mask is not None
    # The tiny model's mask is the negative of what it saw.
    seen = cv2.resize(picture, received.mask.shape[::-1], interpolation=cv2.INTER_AREA).astype(float)
    assert np.corrcoef(seen.ravel(), 255.0 - received.mask.ravel())[0, 1] > 0.95


def test_a_daemon_asked_to_stop_drains_and_exits_with_0(daemon: Daemon) -> None:
    code, said = daemon.stop(signal.SIGTERM)

    assert code == 0, said
    assert "Traceback" not in said


def test_a_signal_that_comes_twice_is_the_same_as_once(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGTERM)
    code, said = daemon.stop(signal.SIGTERM)

    assert code == 0, said
    assert "Traceback" not in said


def test_accounts_balance_at_every_look(daemon: Daemon) -> None:
    for _ in range(20):
        (source,) = daemon.status()["sources"]

        assert (
            source["captured"] == source["analyzed"] + sum(source["dropped"].values()) + source["in_flight"]
        )
        assert 0 <= source["in_flight"] <= 3


def test_health_tells_apart_alive_and_ready(model: Path) -> None:
    nobody = f"tcp://127.0.0.1:{free_port()}"
    with running(model, nobody, "--source.required=false") as lonely:
        lonely.wait_for(lambda: lonely.status()["model"] is not None)

        assert lonely.get("/healthz")[0] == 200
        assert lonely.get("/readyz") == (503, "not ready\n")
        assert lonely.get("/nothing")[0] == 404


def test_a_real_prometheus_scrapes_the_metrics(daemon: Daemon, tmp_path: Path) -> None:
    prometheus = require_program("prometheus", package="prometheus")
    port = free_port()
    config = tmp_path / "prometheus.yml"
    target = f"{{targets: ['127.0.0.1:{daemon.port}']}}"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: sonostream, static_configs: [{target}]}}]\n"
    )
    storage, listen = f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"
    server = subprocess.Popen(
        [prometheus, f"--config.file={config}", storage, listen], stderr=subprocess.DEVNULL
    )

    def ask(query: str) -> list[dict[str, object]]:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={quote(query)}", timeout=5) as answer:
            found: list[dict[str, object]] = json.load(answer)["data"]["result"]
            return found

    try:
        daemon.wait_for(lambda: bool(ask("sonostream_frames_analyzed_total > 5")))
        names = {str(row["metric"]["__name__"]) for row in ask('{__name__=~"sonostream_.*"}')}  # type: ignore[index]
        (up,) = ask('up{job="sonostream"}')
    finally:
        server.terminate()
        server.wait(15)

    assert up["value"][1] == "1"  # type: ignore[index]
    assert {
        "sonostream_frames_captured_total",
        "sonostream_frames_analyzed_total",
        "sonostream_frames_dropped_total",
        "sonostream_stage_duration_seconds_bucket",
        "sonostream_end_to_end_latency_seconds_bucket",
        "sonostream_result_age_seconds",
        "sonostream_source_state",
        "sonostream_source_reconnects_total",
        "sonostream_sink_dropped_total",
        "sonostream_batch_size_bucket",
        "sonostream_model_info",
        "sonostream_build_info",
    } <= names


def test_several_sources_of_different_kinds_share_one_model(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 255, (90, 120), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    pushed = f"zmq+tcp://127.0.0.1:{free_port()}?bind=1&mode=pull"
    with running(model, PHANTOM, str(tmp_path), pushed) as daemon:
        daemon.wait_for(lambda: daemon.status()["model"] is not None)
        with FramePusher(pushed.removeprefix("zmq+").partition("?")[0], source="probe") as pusher:
            sent = 0

            def all_delivered() -> bool:
                nonlocal sent
                pusher.push(np.random.default_rng(sent).integers(0, 255, (50, 60), dtype=np.uint8))
                sent += 1
                return all(source["analyzed"] > 0 for source in daemon.status()["sources"])

            daemon.wait_for(all_delivered)
        names = [source["name"] for source in daemon.status()["sources"]]

    assert names == ["phantom", "images", "zmq"]


def test_every_frame_of_a_file_is_analysed_and_the_daemon_ends_with_it(model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 120))
    for number in range(60):
        writer.write(np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8))
    writer.release()

    with running(model, str(clip)) as daemon, Subscriber(daemon.address) as subscriber:
        seen = []
        while isinstance(message := subscriber.receive(20), Received | Event):
            seen.append(message)
            if isinstance(message, Event) and message.kind == "ended":
                break
        _, said = daemon.process.communicate(timeout=15)

    assert daemon.process.returncode == 0
    assert "file: 60 frames captured, 60 analysed, dropped: none" in said
    frames = [m.analysis.frame_id for m in seen if isinstance(m, Received)]
    assert frames == list(range(frames[0], frames[0] + len(frames)))


def test_a_killed_subscriber_changes_nothing(daemon: Daemon) -> None:
    listen = (
        "import zmq; s = zmq.Context().socket(zmq.SUB); s.subscribe('');"
        f"s.connect('{daemon.address}'); s.recv(); print('on', flush=True); input()"
    )
    viewer = subprocess.Popen(
        [sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert viewer.stdout is not None
    viewer.stdout.readline()
    viewer.kill()
    viewer.communicate()

    seqs = [r.analysis.seq for r in analyses(daemon, 10)]

    assert seqs == list(range(seqs[0], seqs[0] + 10))


def refused(*arguments: str, cwd: Path) -> str:
    """Run a command that must refuse to start; the one line it says."""
    done = subprocess.run(
        sonostream(*arguments), capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("sonostream: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_what_cannot_start_says_why_in_one_line_and_exits_with_2(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[http]\nprot = 1\n")
    (tmp_path / "clip.mp4").write_bytes(b"this is no video" * 100)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes()[:200])
    artifact = f"--model.artifact={model}"
    free = ["--http.port=0", "--publish.bind=tcp://127.0.0.1:0"]

    def say(*arguments: str) -> str:
        return refused("run", *arguments, cwd=tmp_path)

    assert "no source" in say()
    assert "no such device: /dev/video99" in say("/dev/video99")
    assert "gopher" in say("gopher://there")
    assert "http.prot: unknown key (did you mean port?)" in say("phantom:", "--config=bad.toml")
    assert "clip.mp4" in say("clip.mp4", artifact, *free)
    assert "model.onnx" in say("phantom:", "--model.artifact=model.onnx", *free)
    assert "no such model file: absent.onnx" in say("phantom:", "--model.artifact=absent.onnx", *free)
    assert "no runtime named 'abacus'" in say("phantom:", artifact, "--model.runtime=abacus", *free)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in say("phantom:", artifact, f"--http.port={port}")
        bound = say("phantom:", artifact, "--http.port=0", f"--publish.bind=tcp://127.0.0.1:{port}")
        assert "already in use" in bound


def test_the_resolved_configuration_is_shown_without_passwords() -> None:
    shown = subprocess.run(
        sonostream("run", "rtsp://doctor:secret@10.0.0.1/live", "--http.port=9", "--print-config"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert "port = 9" in shown
    assert "***@10.0.0.1" in shown
    assert "secret" not in shown


def test_starting_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('a scanner-side install has no torch')\n")
    modules = "streamer.daemon, streamer.doctor, streamer.view.command, models, models.runtimes"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    paths = f"{tmp_path}:{Path(__file__).parents[2]}"

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
    )

    assert done.stdout.strip() == "False"


def test_the_memory_of_a_lost_source_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the heap is larger after each return: what lives on lies between the pictures that are gone."""
    from streamer import daemon as life
    from streamer.config import Config, SourceConfig

    given_back: list[str] = []
    monkeypatch.setattr(life, "_return_free_memory", lambda: given_back.append("all"))
    made = life.Daemon(Config(source=(SourceConfig(uri=PHANTOM, name="probe"),)))
    (feed,) = made._feeds

    made._on_event(feed, "state", "")
    assert given_back == []
    made._on_event(feed, "lost", "")
    assert given_back == ["all"]


def test_a_signal_is_heeded_though_it_comes_while_the_main_thread_is_about_to_wait() -> None:
    from streamer import daemon as life
    from streamer.config import Config, SourceConfig

    made = life.Daemon(Config(source=(SourceConfig(uri=PHANTOM, name="probe"),)))
    threading.Thread(target=made._heed_signals, daemon=True).start()
    handled = threading.Event()

    def main_thread() -> None:
        with made._should_exit._cond:  # type: ignore[attr-defined]  # as within Event.wait
            made._on_signal(signal.SIGTERM, None)
        handled.set()

    threading.Thread(target=main_thread, daemon=True).start()

    assert handled.wait(5)
    assert made._should_exit.wait(5)
    made._signals.put(None)
