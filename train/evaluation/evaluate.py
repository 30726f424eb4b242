"""Scores a model, through the engine that will run it, on real images and, apart from them, on the phantom.

`python -m train.evaluate MODEL --data PATH` is `sonostream evaluate`. Pictures are brought to the model's
size as the live path does it; masks are compared at that size, at probability 0.5.
"""

import math
from pathlib import Path
from typing import Any

from models.runtimes import Session
from train.data import Images, read_images, shrink
from train.evaluation.answers import Answers, ask, ask_network, load_answers, save_answers
from train.evaluation.scores import Scores, confusion, score
from train.phantoms import Mixture, load_or_render
from train.sets import read

__all__ = [
    "Answers",
    "as_card",
    "ask",
    "ask_network",
    "confusion",
    "evaluate",
    "load_answers",
    "load_heldout",
    "load_phantom",
    "save_answers",
    "score",
]

TEST_MIXTURE = Mixture(stills=150, sweeps=10, frames=20)
MASKS_PROTOCOL = (
    "Masks at the model's input size, probability >= 0.5, Dice per image, then the mean. 95 % intervals: "
    "bootstrap over groups, 1000 rounds."
)
REAL_PROTOCOL = (
    "BUSI, held-out fifth (train/busi_heldout.csv): stratified by class, near-duplicates grouped, groups "
    f"with contradictory labels left out, never used for training or selection. {MASKS_PROTOCOL}"
)
PHANTOM_PROTOCOL = (
    "Synthetic pictures (150 stills, 10 sweeps of 20 frames) with seeds of their own. Says that the software "
    "works, nothing about people. Dice as above."
)

CARD_FIGURES = (
    "dice",
    "dice_benign",
    "dice_malignant",
    "missed",
    "false_positives",
    "jaccard",
    "hd95_px",
    "assd_px",
    "auc",
    "sensitivity",
    "specificity",
    "accuracy",
    "calibration_error",
    "recall_benign",
    "recall_malignant",
    "recall_normal",
)
"""What a model's card holds of its figures."""


def load_heldout(data: Path, size: int) -> Images:
    """Read BUSI's held-out images.

    :raises DataError: as `train.sets.read` and `train.data.read_images`.
    """
    return read_images(read([data], heldout="only").studies, size)


def load_phantom(size: int, cache: Path) -> Images:
    """Render (or read again) the synthetic test pictures."""
    return shrink(load_or_render("test", TEST_MIXTURE, 2 * size, cache), size)


def as_card(scores: Scores, protocol: str) -> dict[str, Any]:
    """Turn scores into what a model's card holds."""
    rounded: dict[str, Any] = {
        name: {
            "value": round(figure.value, 4),
            "interval_95": [round(bound, 4) if math.isfinite(bound) else None for bound in figure[1:3]],
            "images": figure.images,
        }
        for name in CARD_FIGURES
        if (figure := scores.figures.get(name))
    }
    return {"protocol": protocol, **rounded, "confusion_true_by_predicted": scores.confusion.tolist()}


def evaluate(session: Session, data: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Score a model on BUSI's held-out images and, apart from them, on synthetic ones.

    :param cache: where rendered pictures are kept.
    :return: by data set, as the card holds it.
    :raises DataError: if the data set cannot be read.
    """
    size = session.card.input.height
    sets = {
        "busi_heldout": (load_heldout(data, size), REAL_PROTOCOL),
        "phantom": (load_phantom(size, cache), PHANTOM_PROTOCOL),
    }
    return {
        name: as_card(score(ask(session, images), images), protocol)
        for name, (images, protocol) in sets.items()
    }


if __name__ == "__main__":
    import typer

    from train.commands.evaluate import evaluate_command

    typer.run(evaluate_command)
