"""Scores an artifact, through the engine that will run it, on BUSI's held-out fifth and on the phantom.

`python -m train.evaluate ARTIFACT --data PATH` is `sonostream evaluate`. Pictures are brought to the model's
size as the live path does it; masks are compared at that size, at probability 0.5.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.networks.registry import CLASSES
from models.runtimes import Session
from train import metrics
from train.busi import divide, read_busi
from train.data import Images, read_images, shrink
from train.metrics import Interval, bootstrap
from train.phantoms import Mixture, load_or_render

BENIGN, MALIGNANT, NORMAL = range(3)
TEST_MIXTURE = Mixture(stills=150, sweeps=10, frames=20)
FALSE_POSITIVE_SHARE = 0.005
REAL_PROTOCOL = (
    "BUSI, held-out fifth (train/busi_heldout.csv): stratified by class, near-duplicates grouped, groups "
    "with contradictory labels left out, never used for training or selection. Masks at the model's input "
    "size, probability >= 0.5, Dice per image, then the mean. 95 % intervals: "
    "bootstrap over groups, 1000 rounds."
)
PHANTOM_PROTOCOL = (
    "Synthetic pictures (150 stills, 10 sweeps of 20 frames) with seeds of their own. Says that the software "
    "works, nothing about people. Dice as above."
)


class Answers(NamedTuple):
    """What a model says of a set of images."""

    lesion: NDArray[np.uint8]
    """M x H x W: probability x 255."""
    classes: NDArray[np.float64]
    """M x K: probabilities."""


def load_heldout(data: Path, size: int) -> Images:
    """Read BUSI's held-out images.

    :raises DataError: as `train.busi.read_busi` and `train.data.read_images`.
    """
    return read_images(divide(read_busi(data))[1], size)


def load_phantom(size: int, cache: Path) -> Images:
    """Render (or read again) the synthetic test pictures."""
    return shrink(load_or_render("test", TEST_MIXTURE, 2 * size, cache), size)


def ask(session: Session, images: Images) -> Answers:
    """Run a model over images of its own size."""
    lesion = np.empty_like(images.masks)
    classes = np.empty((len(images), len(session.card.classes)))
    step, channels = session.max_batch, session.card.input.channels
    for start in range(0, len(images), step):
        frames = images.pixels[start : start + step, :, :, None]
        answer = session.predict(np.repeat(frames, channels, axis=3))
        lesion[start : start + step] = answer.lesion
        classes[start : start + step] = answer.classes
    return Answers(lesion, classes)


def score(answers: Answers, images: Images) -> dict[str, Interval]:
    """Compute every figure with its interval.

    `dice`: benign and malignant; `dice_benign`, `dice_malignant`; `auc`: malignant against benign by the
    probability of malignant; `accuracy` over the three classes and the recall of each; `false_positives`:
    normals with more than 0.5 % of the area marked; `missed`: lesions whose mask is not touched;
    `calibration_error`: of the three classes, 10 bins.
    """
    marked: metrics.Bools = answers.lesion >= 128
    truth: metrics.Bools = images.masks >= 128
    dice = metrics.dice(marked, truth)
    touched: metrics.Bools = np.count_nonzero(marked & truth, axis=(1, 2)) > 0
    area: metrics.Floats = marked.mean(axis=(1, 2), dtype=np.float64)
    right: metrics.Bools = answers.classes.argmax(axis=1) == images.labels

    def over(rows: NDArray[np.bool_], figure: Any) -> Interval:
        chosen = np.flatnonzero(rows)
        return bootstrap(lambda picks: figure(chosen[picks]), images.groups[chosen])

    lesions = images.labels != NORMAL
    everything = np.ones(len(images), bool)
    figures = {
        "dice": over(lesions, lambda rows: dice[rows].mean()),
        "dice_benign": over(images.labels == BENIGN, lambda rows: dice[rows].mean()),
        "dice_malignant": over(images.labels == MALIGNANT, lambda rows: dice[rows].mean()),
        "missed": over(lesions, lambda rows: 1 - touched[rows].mean()),
        "false_positives": over(
            images.labels == NORMAL, lambda rows: (area[rows] > FALSE_POSITIVE_SHARE).mean()
        ),
        "auc": over(
            lesions,
            lambda rows: metrics.auc(answers.classes[rows, MALIGNANT], images.labels[rows] == MALIGNANT),
        ),
        "accuracy": over(everything, lambda rows: right[rows].mean()),
        "calibration_error": over(
            everything, lambda rows: metrics.calibration_error(answers.classes[rows], images.labels[rows])
        ),
    }
    for label, name in enumerate(CLASSES):
        figures[f"recall_{name}"] = over(images.labels == label, lambda rows: right[rows].mean())
    return figures


def confusion(answers: Answers, images: Images) -> list[list[int]]:
    """Count images by true class (row) and most probable class (column)."""
    table = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(table, (images.labels, answers.classes.argmax(axis=1)), 1)
    return table.tolist()


def as_card(figures: dict[str, Interval], protocol: str, table: list[list[int]]) -> dict[str, Any]:
    """Turn figures into what a model's card holds."""
    rounded: dict[str, Any] = {
        name: {
            "value": round(figure.value, 4),
            "interval_95": [round(figure.low, 4), round(figure.high, 4)],
            "images": figure.images,
        }
        for name, figure in figures.items()
    }
    return {"protocol": protocol, **rounded, "confusion_true_by_predicted": table}


def evaluate(session: Session, data: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Score a model on real held-out images and, apart from them, on synthetic ones.

    :param cache: where rendered pictures are kept.
    :return: by data set, as the card holds it.
    :raises DataError: if the data set cannot be read.
    """
    size = session.card.input.height
    sets = {
        "busi_heldout": (load_heldout(data, size), REAL_PROTOCOL),
        "phantom": (load_phantom(size, cache), PHANTOM_PROTOCOL),
    }
    results = {}
    for name, (images, protocol) in sets.items():
        answers = ask(session, images)
        results[name] = as_card(score(answers, images), protocol, confusion(answers, images))
    return results


if __name__ == "__main__":
    import typer

    from train.command import evaluate_command

    typer.run(evaluate_command)
