"""Two models asked about the same images: how far they are apart, and how sure that is."""

from collections.abc import Callable

import numpy as np

from train import metrics
from train.data import Images
from train.evaluation.answers import Answers
from train.evaluation.scores import MALIGNANT, NORMAL, THRESHOLD
from train.metrics import Bools, Floats, Interval, Ints

Asked = tuple[Answers, Images]
"""What a model said, and of which images."""


def differences(ours: Asked, theirs: Asked, *, rounds: int = 1000) -> dict[str, Interval]:
    """Subtract their figures from ours over the images that both were asked about.

    Image for image the two share what makes an image easy or hard, so these intervals are narrower than those
    of either figure. They say nothing of what another training of the same networks would give.

    :param rounds: of the bootstrap; 0 leaves the intervals NaN.
    :return: `dice` (lesions with an outline), `accuracy`, and `auc` (malignant against benign); without those
        that one of the two does not have, or no image allows.
    """
    (our_answers, our_images), (their_answers, their_images) = ours, theirs
    numbers = {key: number for number, key in enumerate(_keys(their_images))}
    common = [
        (mine, numbers[key]) for mine, key in enumerate(_keys(our_images)) if numbers.get(key) is not None
    ]
    if not common:
        return {}
    mine, yours = np.array(common).T
    images = our_images.take(mine)
    our_answers, their_answers = our_answers.take(mine), their_answers.take(yours)
    found: dict[str, Interval] = {}
    if our_answers.segments and their_answers.segments:
        apart = _dice(our_answers, images) - _dice(their_answers, their_images.take(yours))
        drawn = images.masked & np.isfinite(apart)
        found |= _over("dice", drawn, images, lambda rows: float(apart[rows].mean()), rounds)
    classes = min(our_answers.classes.shape[1], their_answers.classes.shape[1])
    if classes:
        named = (images.labels >= 0) & (images.labels < classes)
        right = _right(our_answers, images) - _right(their_answers, images)
        found |= _over("accuracy", named, images, lambda rows: float(right[rows].mean()), rounds)
        found |= _over(
            "auc",
            named & (images.labels != NORMAL),
            images,
            lambda rows: _auc(our_answers, images, rows) - _auc(their_answers, images, rows),
            rounds,
        )
    return found


def _keys(images: Images) -> list[tuple[str, str]]:
    return list(zip(images.sources, images.names, strict=True))


def _dice(answers: Answers, images: Images) -> Floats:
    """Dice of every image; NaN where there is no lesion."""
    truth: Bools = images.masks >= THRESHOLD
    found: Floats = np.where(truth.any(axis=(1, 2)), metrics.dice(answers.lesion >= THRESHOLD, truth), np.nan)
    return found


def _right(answers: Answers, images: Images) -> Floats:
    return np.asarray(answers.classes.argmax(axis=1) == images.labels, float)


def _auc(answers: Answers, images: Images, rows: Ints) -> float:
    return metrics.auc(answers.classes[rows, MALIGNANT], images.labels[rows] == MALIGNANT)


def _over(
    name: str, rows: Bools, images: Images, figure: Callable[[Ints], float], rounds: int
) -> dict[str, Interval]:
    chosen = np.flatnonzero(rows)
    if not len(chosen):
        return {}
    found = metrics.bootstrap(lambda picks: figure(chosen[picks]), images.groups[chosen], rounds=rounds)
    return {name: found} if np.isfinite(found.value) else {}
