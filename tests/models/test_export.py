"""An exported file must say what the network says, or not exist."""

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import models
from models.artifact import ArtifactError, InputSize, ModelCard, TrainingData, load_artifact
from models.export import ExportError, export, replace_card
from models.networks.base import Network, Output
from models.runtimes import load


def small_network() -> Network:
    torch.manual_seed(0)
    return models.create("mtl_oca", widths=(4, 8, 8), bridge=8, key_channels=8, size=32, edge_norm="fixed")


def card_of(network: Network, temperature: float = 1.5) -> ModelCard:
    return ModelCard(
        name="small",
        version="1",
        network="mtl_oca",
        classes=network.classes,
        input=InputSize(height=32, width=32, channels=1),
        training_data=(TrainingData(name="none", licence="none"),),
        date="2026-01-01",
        metrics={},
        temperature=temperature,
        precision="fp32",
        intended_use="tests",
        parameters=1,
        gmacs=0.0,
    )


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)


def test_an_exported_network_answers_as_the_network_does(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    network, path = small_network(), tmp_path / "small.onnx"
    card = card_of(network)

    export(network, card, path, frames)

    with torch.inference_mode():
        output = network(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
    assert output.lesion is not None
    assert output.class_logits is not None
    with load(path, "onnxruntime", max_batch=5) as session:
        prediction = session.predict(frames)
        np.testing.assert_allclose(prediction.lesion, output.lesion.numpy() * 255, atol=1)
        expected = (output.class_logits / 1.5).softmax(dim=1).numpy()
        np.testing.assert_allclose(prediction.classes, expected, atol=1e-4)
    assert load_artifact(path).card == card
    assert list(tmp_path.iterdir()) == [path]


def test_torch_says_nothing_of_packages_that_no_network_needs(
    tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    # Where it says so; it passes nothing on to the root, where pytest listens.
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    logger.addHandler(handler)
    try:
        network = small_network()
        export(network, card_of(network), tmp_path / "small.onnx", frames)
    finally:
        logger.removeHandler(handler)

    assert said == []


def test_a_file_that_disagrees_with_its_network_is_not_written(
    tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    network, path = small_network(), tmp_path / "small.onnx"
    path.write_bytes(b"the model before")

    with pytest.raises(ExportError, match=r"differs from the network: lesion by \d+ of 255 levels"):
        export(_Fickle(network), card_of(network), path, frames)

    assert path.read_bytes() == b"the model before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_card_changes_nothing_else(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    network, path = small_network(), tmp_path / "small.onnx"
    card = card_of(network)
    export(network, card, path, frames)
    with load(path, "onnxruntime", max_batch=5) as session:
        before = session.predict(frames).classes.copy()

    measured = msgspec.structs.replace(card, metrics={"dice": 0.5})
    replace_card(path, measured)

    assert load_artifact(path).card == measured
    with load(path, "onnxruntime", max_batch=5) as session:
        assert np.array_equal(session.predict(frames).classes, before)
    wide = msgspec.structs.replace(card, input=InputSize(height=32, width=64, channels=1))
    with pytest.raises(ArtifactError):
        replace_card(path, wide)
    assert load_artifact(path).card == measured


def test_a_card_of_another_size_or_other_classes_is_refused(
    tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    network = small_network()
    card = card_of(network)
    wide = msgspec.structs.replace(card, input=InputSize(height=32, width=64, channels=1))
    with pytest.raises(
        ExportError, match="the card says frames of 32 x 64 x 1, the network reads 32 x 32 x 1"
    ):
        export(network, wide, tmp_path / "small.onnx", frames)
    shuffled = msgspec.structs.replace(card, classes=("malignant", "benign", "normal"))
    with pytest.raises(ExportError, match="in order"):
        export(network, shuffled, tmp_path / "small.onnx", frames)


def test_frames_of_another_shape_cannot_check_an_export(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    network = small_network()
    with pytest.raises(ExportError, match="at least two uint8 frames of 32 x 32 x 1"):
        export(network, card_of(network), tmp_path / "small.onnx", frames[:1])


class _Fickle(Network):
    """Answers otherwise when it is run than when it was exported."""

    def __init__(self, network: Network) -> None:
        super().__init__(
            size=32, size_divisor=8, classes=network.classes, regions=network.regions, in_channels=1
        )
        self.network = network

    def forward(self, frames: torch.Tensor) -> Output:
        output = self.network(frames)
        if torch.compiler.is_exporting():
            assert output.lesion is not None
            return output._replace(lesion=1 - output.lesion)
        return output
