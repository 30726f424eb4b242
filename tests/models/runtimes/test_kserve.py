"""A model on a server: real processes, real gRPC; Triton itself where it is installed."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tritonclient.grpc", reason="needs the client (pip install 'sonostream[kserve]')")

from models.artifact import load_artifact
from models.runtimes import EngineFailed, EngineUnavailable, PredictionInvalid, load
from models.runtimes.kserve import KServeSession
from tests.models.tiny import HEIGHT, WIDTH, expected

ROOT = Path(__file__).parents[3]


class Server:
    """A server process that can be ended and begun again on its port."""

    def __init__(self, sha256: str) -> None:
        self.sha256, self.port = sha256, 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.models.runtimes.kserve_server", str(self.port), self.sha256]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[Server]:
    running = Server(load_artifact(tiny).sha256)
    yield running
    running.stop()


def frames(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, HEIGHT, WIDTH, 1), dtype=np.uint8)


def check(session: KServeSession, n: int, seed: int) -> None:
    lesion, classes = expected(frames(n, seed))
    prediction = session.predict(frames(n, seed))
    np.testing.assert_array_equal(prediction.lesion, lesion)
    np.testing.assert_allclose(prediction.classes, classes, rtol=1e-6)


def connect(tiny: Path, server: Server, model: str = "tiny", **options: float) -> KServeSession:
    return KServeSession(
        load_artifact(tiny),
        server=f"{server.address}/{model}",
        max_batch=4,
        deadline_s=options.get("deadline_s", 30.0),
    )


def test_a_server_answers_as_an_engine_does(tiny: Path, server: Server) -> None:
    with load(tiny, "kserve", server=server.address, max_batch=4) as session:
        session.warm_up()
        for n in (1, 4, 2):
            check(session, n, seed=n)  # type: ignore[arg-type]
        assert session.description.name == "kserve"
        assert session.description.device == f"{server.address}/tiny"
        assert session.description.version == "test 2.0"


def test_several_daemons_share_one_server(tiny: Path, server: Server) -> None:
    failures: list[BaseException] = []

    def daemon(seed: int) -> None:
        try:
            with connect(tiny, server) as session:
                for frame in range(10):
                    check(session, 1 + frame % 4, seed=100 * seed + frame)
        except BaseException as error:  # told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=daemon, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_slow_server_costs_the_frame_and_no_more(tiny: Path, server: Server) -> None:
    with connect(tiny, server, "slow", deadline_s=0.1) as session:
        for _ in range(2):
            with pytest.raises(EngineFailed, match="slow: no answer within the deadline; the frame is lost"):
                session.predict(frames(1))


def test_the_first_calls_may_take_longer(tiny: Path, server: Server) -> None:
    with KServeSession(load_artifact(tiny), server=f"{server.address}/slow", deadline_s=0.1) as session:
        session.warm_up()


def test_a_server_that_ends_is_one_clear_line_and_the_next_frame_finds_it_again(tiny: Path) -> None:
    server = Server(load_artifact(tiny).sha256)
    try:
        with connect(tiny, server) as session:
            check(session, 1, seed=1)
            assert session.healthy()
            server.stop()
            with pytest.raises(EngineFailed, match="the server is down or cannot be reached; the frame is"):
                session.predict(frames(1))
            assert not session.healthy()
            server.start()
            answered = threading.Event()

            def follow() -> None:
                while not answered.is_set():
                    try:
                        check(session, 1, seed=2)
                        answered.set()
                    except EngineFailed:
                        continue

            thread = threading.Thread(target=follow, daemon=True)
            thread.start()
            found = answered.wait(30)
            answered.set()
            thread.join()
            assert found
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("small", r"returned 'lesion' as uint8 \[1, 12, 16\], expected uint8 \[1, 24, 16\]"),
        ("float", "returned 'classes' as float64"),
        ("cut", "returned 'lesion' damaged"),
    ],
)
def test_an_answer_of_another_shape_is_refused(tiny: Path, server: Server, model: str, said: str) -> None:
    with connect(tiny, server, model) as session, pytest.raises(PredictionInvalid, match=said):
        session.predict(frames(1))


def test_an_answer_to_an_earlier_request_is_never_used(tiny: Path, server: Server) -> None:
    with connect(tiny, server, "stale") as session:
        session.predict(frames(1))
        with pytest.raises(PredictionInvalid, match="answered request '1' when 2 was asked"):
            session.predict(frames(1))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("other_size", r"its input 'frame' is UINT8 \[-1, 48, 16, 1\], expected UINT8 \[-1, 24, 16, 1\]"),
        ("other_file", "runs another file as 'other_file': its SHA-256 begins with 000000000000"),
        ("narrow", "takes at most 2 frames a call for 'narrow', 4 are asked for"),
    ],
)
def test_a_server_with_another_model_is_refused(tiny: Path, server: Server, model: str, said: str) -> None:
    with pytest.raises(EngineFailed, match=said):
        connect(tiny, server, model)


def test_a_server_that_speaks_only_the_common_protocol_will_do(tiny: Path, server: Server) -> None:
    with connect(tiny, server, "silent") as session:
        check(session, 2, seed=3)


def test_a_model_that_the_server_lacks_is_named(tiny: Path, server: Server) -> None:
    with pytest.raises(EngineUnavailable, match="has no model 'absent' that is ready"):
        connect(tiny, server, "absent")


def test_no_server_at_an_address_is_one_clear_line(tiny: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no KServe v2 server answers at 127.0.0.1:9"):
        KServeSession(load_artifact(tiny), server="127.0.0.1:9", deadline_s=0.2)
    with pytest.raises(EngineUnavailable, match="runtime kserve needs a server: host:port"):
        load(tiny, "kserve")


def test_another_precision_than_the_files_is_refused(tiny: Path, server: Server) -> None:
    with pytest.raises(EngineUnavailable, match="the server runs the model in fp32"):
        load(tiny, "kserve", server=server.address, precision="bf16")


@pytest.mark.slow
def test_triton_itself_answers(tiny: Path) -> None:
    python = _python_with_triton()
    ports = [_free_port(), _free_port()]
    script = ROOT / "tests" / "models" / "runtimes" / "triton_server.py"
    process = subprocess.Popen(
        [python, script, *map(str, ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        # It writes lines of its own before.
        assert any(line.strip() == "READY" for line in process.stdout)
        with load(tiny, "kserve", server=f"127.0.0.1:{ports[0]}", max_batch=4) as session:
            session.warm_up()
            for n in (1, 4, 2):
                check(session, n, seed=n)  # type: ignore[arg-type]
            assert session.description.version.startswith("triton 2.")
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def _python_with_triton() -> str:
    """An interpreter with nvidia-pytriton: it wants its own numpy, so never ours."""
    for candidate in (os.environ.get("SONOSTREAM_TRITON_PYTHON"), "/usr/bin/python3.11"):
        python = candidate and shutil.which(candidate)
        if python and not subprocess.run([python, "-c", "import pytriton"], capture_output=True).returncode:
            return python
    pytest.skip("needs nvidia-pytriton; name its interpreter in SONOSTREAM_TRITON_PYTHON")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
