"""What every engine must do alike; runs on those that are usable here."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.artifact import ArtifactError, load_artifact
from models.runtimes import (
    ENGINES,
    EngineError,
    EngineFailed,
    EngineUnavailable,
    FramesInvalid,
    PredictionInvalid,
    Session,
    available,
    load,
)
from tests.models.tiny import HEIGHT, WIDTH, expected, save, tiny_model

# Those that need a checkpoint or a server have tests of their own.
STATUSES = {status.name: status for status in available() if ENGINES[status.name].reads == "artifact"}


@pytest.fixture(params=STATUSES)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not STATUSES[name].usable:
        pytest.skip(STATUSES[name].reason)
    return name


@pytest.fixture
def session(runtime: str, tiny: Path) -> Session:
    return load(tiny, runtime, max_batch=4)


def frames(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise in steps of 16, of another brightness in every frame: see `SHARES`."""
    steps = np.random.default_rng(seed).integers(0, 4, (n, HEIGHT, WIDTH, 1))
    return ((steps + np.arange(n).reshape(n, 1, 1, 1) * 3) * 16).astype(np.uint8)


@pytest.mark.parametrize("n", [1, 4, 2])
def test_answers_are_exact_at_any_batch_size(session: Session, n: int) -> None:
    lesion, classes = expected(frames(n))

    prediction = session.predict(frames(n))

    np.testing.assert_array_equal(prediction.lesion, lesion)
    np.testing.assert_array_equal(prediction.classes, classes)
    assert (prediction.lesion.dtype, prediction.classes.dtype) == (np.uint8, np.float32)


def test_every_precision_of_an_engine_gives_the_same_answer(runtime: str, tiny: Path) -> None:
    for precision in STATUSES[runtime].precisions:
        session = load(tiny, runtime, precision=precision)  # type: ignore[arg-type]
        assert session.description.precision == precision
        np.testing.assert_array_equal(session.predict(frames(1)).classes, expected(frames(1))[1])


def test_only_engines_of_a_gpu_ask_for_batches(session: Session, runtime: str) -> None:
    assert session.batch_pays == (runtime == "tensorrt")


def test_the_batch_size_may_change_between_calls(session: Session) -> None:
    for n in (4, 1, 3, 4, 2):
        np.testing.assert_array_equal(session.predict(frames(n, n)).lesion, expected(frames(n, n))[0])


def test_frames_written_in_place_are_what_is_analysed(session: Session) -> None:
    session.input(2)[:] = frames(2)
    np.testing.assert_array_equal(session.infer(2).lesion, expected(frames(2))[0])


def test_buffers_are_the_same_in_every_call(session: Session) -> None:
    first, second = session.infer(1), session.infer(4)
    assert np.shares_memory(session.input(1), session.input(4))
    assert np.shares_memory(first.lesion, second.lesion)
    assert np.shares_memory(first.classes, second.classes)


def test_a_warmed_up_session_answers(session: Session) -> None:
    session.warm_up()
    np.testing.assert_array_equal(session.predict(frames(1)).lesion, expected(frames(1))[0])


def test_a_session_says_what_it_is(session: Session, runtime: str) -> None:
    description = session.description
    assert description.name == runtime
    assert description.version[0].isdigit()
    assert description.device
    assert session.card.name == "tiny"
    assert session.max_batch == 4


def test_the_number_of_threads_can_be_set(runtime: str, tiny: Path) -> None:
    assert load(tiny, runtime, threads=1).description.threads == 1


def test_a_session_may_be_used_from_another_thread(session: Session) -> None:
    answers = []
    thread = threading.Thread(target=lambda: answers.append(session.predict(frames(2)).lesion.copy()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(answers[0], expected(frames(2))[0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, HEIGHT, WIDTH), np.uint8),
        np.zeros((1, WIDTH, HEIGHT, 1), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 1), np.float32),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(session: Session, wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(FramesInvalid, match=r"reads uint8 frames \[n, 24, 16, 1\], got (uint8|float32) \["):
        session.predict(wrong)


@pytest.mark.parametrize("n", [0, 5, -1])
def test_a_batch_beyond_the_buffers_is_refused(session: Session, n: int) -> None:
    for call in (session.input, session.infer):
        with pytest.raises(FramesInvalid, match=f"a batch of {n} frames, expected 1 to max_batch = 4"):
            call(n)


def test_a_refused_batch_leaves_the_session_usable(session: Session) -> None:
    with pytest.raises(FramesInvalid):
        session.predict(frames(5))
    np.testing.assert_array_equal(session.predict(frames(4)).lesion, expected(frames(4))[0])


def test_not_a_number_is_never_an_answer(runtime: str, tmp_path: Path) -> None:
    session = load(save(tiny_model(not_a_number=True), tmp_path / "m.onnx"), runtime)
    session.predict(np.full((1, HEIGHT, WIDTH, 1), 16, np.uint8))
    with pytest.raises(PredictionInvalid, match=r"not numbers from 0 to 1: .*nan"):
        session.predict(np.full((1, HEIGHT, WIDTH, 1), 255, np.uint8))


def test_logits_are_not_probabilities(runtime: str, tmp_path: Path) -> None:
    model = tiny_model()
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.float32(1), "scale"))
    with pytest.raises(PredictionInvalid, match=runtime):
        load(save(model, tmp_path / "m.onnx"), runtime).predict(frames(1))


def test_an_output_of_another_size_than_the_card_says_is_refused(runtime: str, tmp_path: Path) -> None:
    model = tiny_model()
    inverse = next(node for node in model.graph.node if node.output == ["lesion"])
    inverse.input[0] = "half"
    starts, ends, axes = ("starts", [0]), ("ends", [HEIGHT // 2]), ("axes", [1])
    for name, values in (starts, ends, axes):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    at = list(model.graph.node).index(inverse)
    model.graph.node.insert(at, helper.make_node("Slice", ["inverse", "starts", "ends", "axes"], ["half"]))
    shape = helper.make_tensor_value_info("lesion", TensorProto.UINT8, ["N", "h", "w"])
    model.graph.output[0].CopyFrom(shape)
    path = save(model, tmp_path / "m.onnx")

    with pytest.raises(EngineError, match="12"):
        load(path, runtime).warm_up()


def test_a_graph_that_an_engine_cannot_read_is_one_clear_line(runtime: str, tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node[2].op_type = "Undreamtof"
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(EngineFailed, match="Undreamtof") as caught:
        load(path, runtime)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_damaged_file_never_reaches_an_engine(runtime: str, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="cut short"):
        load(path, runtime)


def test_a_file_that_vanished_after_it_was_read_is_one_clear_line(
    runtime: str, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.read_bytes())
    artifact = load_artifact(path)
    path.unlink()
    with pytest.raises(EngineFailed, match=str(path)) as caught:
        load(artifact, runtime)
    assert "\n" not in str(caught.value)


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(EngineFailed, match="closed"):
        session.infer(1)


def test_a_precision_that_the_machine_lacks_names_those_it_has(
    runtime: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime == "openvino":
        monkeypatch.setattr("models.runtimes.openvino.precisions", lambda: ["fp32"])
    with pytest.raises(EngineUnavailable, match="precision 'bf16'.*fp32"):
        load(tiny, runtime, precision="bf16")


def test_engines_print_nothing(
    runtime: str, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(tiny, runtime).warm_up()
    path = save(tiny_model(not_a_number=True), tmp_path / "m.onnx")
    with pytest.raises(PredictionInvalid):
        load(path, runtime).predict(np.full((1, HEIGHT, WIDTH, 1), 255, np.uint8))
    assert capfd.readouterr() == ("", "")
