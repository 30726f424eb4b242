"""The model that ships says the same in every precision, on real images it was not trained on."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import load_artifact, zoo_names
from models.export import replace_card
from models.quantize import quantize
from models.runtimes import available, load
from train.busi import divide, read_busi
from train.data import Images, read_images

BUSI = Path(__file__).parents[3] / "shared" / "data" / "busi"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUSI.is_dir(), reason=f"needs BUSI in {BUSI}"),
    pytest.mark.skipif("default" not in zoo_names(), reason="this checkout has no default model"),
]
AGREEMENT, DICE_DROP = 0.99, 0.01
CALIBRATION = 64


class Said(NamedTuple):
    lesion: NDArray[np.uint8]
    labels: NDArray[np.int64]


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    """Images to calibrate with and those held out."""
    development, heldout = divide(read_busi(BUSI))
    side = load_artifact("default").card.input.height
    return read_images(development[:: len(development) // CALIBRATION], side), read_images(heldout, side)


@pytest.fixture(scope="module")
def int8(images: tuple[Images, Images], tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = load_artifact("default")
    path = tmp_path_factory.mktemp("int8") / "default-int8.onnx"
    quantize(artifact.path, path, images[0].pixels[..., None])
    replace_card(path, msgspec.structs.replace(artifact.card, precision="int8", quantization="cpu"))
    return path


def say(model: str | Path, runtime: str, precision: str, images: Images) -> Said:
    with load(model, runtime, precision=precision) as session:  # type: ignore[arg-type]
        lesion = np.empty_like(images.pixels)
        labels = np.empty(len(images), np.int64)
        for row, picture in enumerate(images.pixels):
            prediction = session.predict(picture[None, :, :, None])
            lesion[row], labels[row] = prediction.lesion[0], int(prediction.classes[0].argmax())
    return Said(lesion, labels)


@pytest.fixture(scope="module")
def exact(images: tuple[Images, Images]) -> Said:
    return say("default", "onnxruntime", "fp32", images[1])


def dice(said: Said, images: Images) -> float:
    """Against the true masks; images without a lesion left out."""
    scores = []
    for lesion, mask in zip(said.lesion >= 128, images.masks >= 128, strict=True):
        if mask.any():
            scores.append(2 * (lesion & mask).sum() / (lesion.sum() + mask.sum()))
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("kind", "runtime", "precision"),
    [
        ("fp32", "openvino", "fp32"),
        ("fp32", "openvino", "bf16"),
        ("int8", "openvino", "bf16"),
        ("int8", "openvino", "fp32"),
        ("int8", "onnxruntime", "fp32"),
    ],
)
def test_labels_agree_and_no_overlap_is_lost(
    kind: str,
    runtime: str,
    precision: str,
    images: tuple[Images, Images],
    exact: Said,
    int8: Path,
) -> None:
    status = next(status for status in available() if status.name == runtime)
    if precision not in status.precisions:
        pytest.skip(status.reason or f"{runtime} does not compute in {precision} here")
    said = say(int8 if kind == "int8" else "default", runtime, precision, images[1])
    agreement = float((said.labels == exact.labels).mean())
    drop = dice(exact, images[1]) - dice(said, images[1])
    print(f"{kind} {runtime} {precision}: labels {agreement:.4f}, Dice drop {drop:+.4f}")
    assert agreement >= AGREEMENT
    assert drop <= DICE_DROP
