"""A checkpoint in PyTorch answers as the network does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.checkpoint import Checkpoint, read_checkpoint
from models.networks.registry import ModelError
from models.runtimes import EngineFailed, EngineUnavailable, FramesInvalid, load
from models.runtimes.torch import TorchSession, precisions
from tests.models.exported import checkpoint, some_frames


def saved(trained: Checkpoint, path: Path, **changes: Any) -> Path:
    """What training keeps, as far as it is read."""
    network = trained.network
    state = {"network": network.name, "options": network.options, "best": network.state_dict(), "step": 3}
    torch.save(state | changes, path)
    return path


@pytest.fixture(scope="module")
def trained() -> Checkpoint:
    return checkpoint("mtl_oca")


def test_a_checkpoint_runs_and_answers_as_its_network(trained: Checkpoint, tmp_path: Path) -> None:
    frames = some_frames("mtl_oca")
    session = load(saved(trained, tmp_path / "last.pt"), "torch", precision="fp32", threads=1, max_batch=4)
    with torch.inference_mode():
        output = trained.network(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
    for n in (4, 1, 3):
        prediction = session.predict(frames[:n])
        np.testing.assert_allclose(prediction.lesion, output.lesion[:n].numpy() * 255, atol=1)
        np.testing.assert_allclose(prediction.classes, output.class_logits[:n].softmax(1).numpy(), atol=1e-4)
    assert (session.description.name, session.description.precision) == ("torch", "fp32")


def test_every_precision_here_answers_much_the_same(trained: Checkpoint) -> None:
    frames = some_frames("mtl_oca")
    answers = [
        TorchSession(trained, precision=each, threads=1, max_batch=4).predict(frames).classes.copy()  # type: ignore[arg-type]
        for each in precisions()
    ]
    for answer in answers:
        np.testing.assert_allclose(answer, answers[-1], atol=0.05)


def test_it_asks_for_batches_on_a_gpu_alone(trained: Checkpoint) -> None:
    session = TorchSession(trained, precision="fp32", threads=1, max_batch=2)
    assert session.batch_pays == torch.cuda.is_available()


def test_buffers_are_the_same_in_every_call(trained: Checkpoint) -> None:
    session = TorchSession(trained, precision="fp32", threads=1, max_batch=2)
    assert np.shares_memory(session.infer(1).lesion, session.infer(2).lesion)


def test_a_batch_above_the_buffers_is_refused(trained: Checkpoint) -> None:
    with pytest.raises(FramesInvalid, match="a batch of 3 frames, expected 1 to max_batch = 2"):
        TorchSession(trained, threads=1, max_batch=2).predict(some_frames("mtl_oca", 3))


def test_an_exported_model_is_not_a_checkpoint(tiny: Path) -> None:
    with pytest.raises(EngineUnavailable, match="torch runs checkpoints, and .* is an exported model"):
        TorchSession(load_artifact(tiny))
    with pytest.raises(EngineFailed, match="it is an exported model, give the checkpoint"):
        load(tiny, "torch")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no checkpoint that can be read"),
        (b"\x00" * 100, "is no checkpoint that can be read"),
        (None, "cannot read .*No such file"),
    ],
)
def test_a_damaged_or_absent_checkpoint_is_one_clear_line(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineFailed, match=said) as caught:
        load(path, "torch")
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(trained: Checkpoint, tmp_path: Path) -> None:
    path = saved(trained, tmp_path / "last.pt", options={**trained.network.options, "key_channels": 8})
    with pytest.raises(ModelError, match="its weights do not fit mtl_oca"):
        read_checkpoint(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ModelError, match="is no checkpoint of `sonostream train`"):
        read_checkpoint(path)


def test_a_precision_that_the_machine_lacks_names_those_it_has(
    trained: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.runtimes.torch.precisions", lambda: ["fp32"])
    with pytest.raises(EngineUnavailable, match="precision 'bf16'.*use one of: auto, fp32"):
        TorchSession(trained, precision="bf16")
