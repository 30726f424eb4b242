"""What the TensorRT session asks of TensorRT and CUDA, against stand-ins that enforce their rules."""

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import Artifact, load_artifact
from models.runtimes import EngineFailed, EngineUnavailable, FramesInvalid, PredictionInvalid, load
from models.runtimes.tensorrt import TensorRtSession, engine_key
from models.runtimes.tensorrt_engine import path_of
from tests.models.runtimes.fake_tensorrt import FakeCuda, FakeTensorRt, Status
from tests.models.tiny import HEIGHT, WIDTH, expected, save, tiny_card, tiny_model


class Bench:
    """A machine with a GPU, for a while."""

    def __init__(self, tiny: Path, cache_dir: Path) -> None:
        self.cuda = FakeCuda()
        self.api = FakeTensorRt(self.cuda)
        self.artifact: Artifact = load_artifact(tiny)
        self.cache_dir = cache_dir

    def session(self, max_batch: int = 4) -> TensorRtSession:
        return TensorRtSession(
            self.artifact, max_batch=max_batch, cache_dir=self.cache_dir, api=self.api, cuda=self.cuda
        )

    def kept(self) -> Path:
        (file,) = (self.cache_dir / "tensorrt").glob("*.engine")
        return file


@pytest.fixture
def bench(tiny: Path, tmp_path: Path) -> Bench:
    return Bench(tiny, tmp_path)


def frames(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, HEIGHT, WIDTH, 1), dtype=np.uint8)


def test_answers_are_those_of_the_engine_at_every_batch_size(bench: Bench) -> None:
    session = bench.session()
    for n in (1, 4, 2, 1, 4):
        prediction = session.predict(frames(n, n))
        lesion, classes = expected(frames(n, n))
        np.testing.assert_array_equal(prediction.lesion, lesion)
        np.testing.assert_array_equal(prediction.classes, classes)


def test_each_batch_size_is_recorded_once_and_replayed(bench: Bench) -> None:
    session = bench.session()
    for _ in range(3):
        session.predict(frames(2))
    assert len(bench.api.contexts) == 1
    assert len(bench.cuda.graphs) == 1
    session.predict(frames(3))
    assert len(bench.cuda.graphs) == 2
    assert bench.cuda.launches == 4


def test_a_call_allocates_nothing(bench: Bench) -> None:
    session = bench.session()
    session.warm_up()
    before = (len(bench.cuda.host), len(bench.cuda.device), len(bench.api.contexts), len(bench.cuda.graphs))
    for n in (1, 4, 3):
        session.predict(frames(n))
    assert before == (
        len(bench.cuda.host), len(bench.cuda.device), len(bench.api.contexts), len(bench.cuda.graphs)
    )  # fmt: skip


def test_closing_frees_everything(bench: Bench) -> None:
    session = bench.session()
    session.warm_up()
    session.close()
    session.close()
    left = (bench.cuda.host, bench.cuda.device, bench.cuda.streams, bench.cuda.graphs)
    assert not any(left)
    with pytest.raises(EngineFailed, match="closed"):
        session.infer(1)


def test_an_engine_is_built_once_and_kept(bench: Bench) -> None:
    bench.session()
    bench.session().predict(frames(1))
    assert bench.api.builds == 1


@pytest.mark.parametrize("change", ["gpu", "capability", "version", "batch", "model"])
def test_whatever_an_engine_depends_on_has_an_engine_of_its_own(
    bench: Bench, change: str, tmp_path: Path
) -> None:
    bench.session()
    match change:
        case "gpu":
            bench.cuda.properties.name = b"NVIDIA Other"
        case "capability":
            bench.cuda.properties.minor = 9
        case "version":
            bench.api.__version__ = "11.5.0"
        case "batch":
            bench.session(max_batch=2)
        case "model":
            other = save(tiny_model(card=tiny_card(version="2")), tmp_path / "other.onnx")
            bench.artifact = load_artifact(other)
    bench.session(max_batch=2 if change == "batch" else 4)
    assert bench.api.builds == 2


def test_an_engine_built_for_another_gpu_is_refused_and_rebuilt(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.session()
    foreign = bench.kept().read_bytes()
    bench.cuda.properties.name = b"NVIDIA Other"
    key = engine_key(bench.api, bench.artifact, bench.session()._cuda.gpu(), 4)
    path_of(bench.cache_dir, key).write_bytes(foreign)
    with caplog.at_level(logging.WARNING):
        bench.session().predict(frames(1))
    assert "was built for NVIDIA Test with tensorrt 11.4.0, not for NVIDIA Other" in caplog.text
    assert bench.api.builds == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "header"])
def test_a_damaged_engine_is_rebuilt_and_never_loaded(
    bench: Bench, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.session()
    data = bytearray(bench.kept().read_bytes())
    match damage:
        case "cut":
            data = data[:-3]
        case "flipped":
            data[-1] ^= 1
        case "empty":
            data = bytearray()
        case "foreign":
            data = bytearray(b"\x00" * 1000)
        case "header":
            data[8:12] = b"\xff\xff\xff\xff"
    bench.kept().write_bytes(data)
    with caplog.at_level(logging.WARNING):
        bench.session().predict(frames(1))
    assert "is damaged; the engine is built again" in caplog.text
    assert bench.api.builds == 2
    bench.session()
    assert bench.api.builds == 2


def test_a_kept_engine_that_tensorrt_refuses_is_rebuilt_with_its_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    # Deserializing returns None without an exception; then the log is all there is.
    bench.api.refuse_to_load = True
    with pytest.raises(EngineFailed, match="does not load the engine it built.*serialization assertion"):
        bench.session()
    bench.api.refuse_to_load = False
    bench.session()
    assert bench.api.builds == 2
    bench.api.refuse_to_load = True
    with caplog.at_level(logging.WARNING), pytest.raises(EngineFailed):
        bench.session()
    assert "refuses the kept engine" in caplog.text


def test_the_timings_of_one_build_help_the_next(bench: Bench) -> None:
    bench.session()
    bench.session(max_batch=2)
    assert bench.api.timings == [b"", b"timings of this GPU"]


def test_damaged_timings_are_measured_anew(bench: Bench) -> None:
    bench.session()
    (file,) = (bench.cache_dir / "tensorrt").glob("timings-*.cache")
    file.write_bytes(b"damaged")
    bench.session(max_batch=2)
    assert bench.api.timings == [b"", b""]
    assert file.read_bytes() == b"timings of this GPU"


def test_progress_of_a_build_is_told(bench: Bench) -> None:
    told: list[tuple[str, int, int]] = []
    TensorRtSession(
        bench.artifact,
        api=bench.api,
        cuda=bench.cuda,
        progress=lambda phase, done, steps: told.append((phase, done, steps)),
    )
    assert told == [("Building", 0, 2), ("Building", 1, 2), ("Building", 2, 2)]


def test_a_graph_that_the_parser_refuses_is_told_in_its_words(bench: Bench) -> None:
    bench.api.refuse_to_parse = True
    with pytest.raises(EngineFailed, match=r"cannot read .*tiny.onnx: In node 4 \(Transpose\)"):
        bench.session()
    assert not bench.cuda.streams


def test_a_build_that_fails_quotes_the_log(bench: Bench) -> None:
    bench.api.refuse_to_build = True
    with pytest.raises(EngineFailed, match="cannot build an engine .*: no implementation for node /conv1"):
        bench.session()


def test_a_call_that_fails_quotes_the_log_and_the_next_may_succeed(bench: Bench) -> None:
    session = bench.session()
    bench.api.refuse_to_run = True
    with pytest.raises(EngineFailed, match="TensorRT failed: enqueueV3: the device is lost"):
        session.predict(frames(1))
    bench.api.refuse_to_run = False
    np.testing.assert_array_equal(session.predict(frames(1)).lesion, expected(frames(1))[0])


def test_an_error_of_cuda_names_the_function(bench: Bench) -> None:
    session = bench.session()
    bench.cuda.fail_next = Status.cudaErrorMemoryAllocation
    with pytest.raises(EngineFailed, match="CUDA failed in cudaMemcpyAsync: cudaErrorMemoryAllocation"):
        session.predict(frames(1))


def test_a_batch_above_the_profile_is_refused(bench: Bench) -> None:
    with pytest.raises(FramesInvalid, match="a batch of 5 frames, expected 1 to max_batch = 4"):
        bench.session().predict(frames(5))


def test_an_engine_with_other_tensors_is_refused(bench: Bench) -> None:
    bench.api.shapes = {"frame": (-1, HEIGHT, WIDTH, 1), "mask": (-1, HEIGHT, WIDTH), "classes": (-1, 3)}
    with pytest.raises(PredictionInvalid, match=r"has tensors \['classes', 'frame', 'mask'\]"):
        bench.session()


def test_an_engine_of_another_size_is_refused(bench: Bench) -> None:
    bench.api.shapes["lesion"] = (-1, HEIGHT // 2, WIDTH)
    with pytest.raises(PredictionInvalid, match="'lesion'.*its card says uint8"):
        bench.session()
    assert not bench.cuda.device


def test_another_precision_than_the_files_is_refused(bench: Bench) -> None:
    with pytest.raises(EngineUnavailable, match="this one is fp32; export it with --precision fp16"):
        TensorRtSession(bench.artifact, precision="fp16", api=bench.api, cuda=bench.cuda)


def test_a_file_that_was_quantised_for_processors_is_refused(bench: Bench, tmp_path: Path) -> None:
    card = tiny_card(precision="int8", quantization="cpu")
    bench.artifact = load_artifact(save(tiny_model(card=card), tmp_path / "cpu.onnx"))
    with pytest.raises(EngineUnavailable, match="--target tensorrt"):
        bench.session()


def test_a_machine_without_a_gpu_is_told_so_in_one_line(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.cuda.count = 0
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA GPU that CUDA can use \(cudaErrorNoDevice\)"):
        bench.session()
    monkeypatch.setattr("models.runtimes.tensorrt.driver_present", lambda: False)
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU and its driver; there is none here"):
        load(tiny, "tensorrt")
