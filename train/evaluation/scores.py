"""Every figure of a model on a set of images, with its interval."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.networks.registry import CLASSES
from train import metrics
from train.data import Images
from train.evaluation.answers import Answers
from train.metrics import Bin, Bools, Empty, Floats, Interval, Ints, Rates, Roc

BENIGN, MALIGNANT, NORMAL = range(3)
Positive = Literal["malignant", "benign"]

THRESHOLD = 128
"""Of lesion maps and masks (0 to 255): probability 0.5."""
FALSE_POSITIVE_SHARE = 0.005

SIZES = (0.02, 0.08)
"""Shares of the image's area that separate small, medium and large lesions."""
SIZES_MM = (10.0, 20.0)
"""The same as equivalent diameters, where every pixel spacing is known; 20 mm bounds stage T1."""


class Group(NamedTuple):
    """Lesions of about one size."""

    name: str
    images: int
    dice: float
    missed: float
    """Share of lesions that the mask does not touch; NaN, as Dice, for a model that does not segment."""
    accuracy: float
    """Share whose class is recognised; NaN for a model that does not classify."""


class Scores(NamedTuple):
    """What is reported of a model on a set of images."""

    figures: dict[str, Interval]
    classes: tuple[str, ...]
    positive: Positive
    confusion: Ints
    """K x K images: true class (row), most probable class (column)."""
    roc: Roc | None
    """Positive against the other kind of lesion; None where one of them is absent."""
    reliability: list[Bin]
    uncalibrated: list[Bin]
    """The same without the temperature; empty where there is none."""
    sizes: list[Group]
    counts: dict[str, int]
    """Images by what they could be used for."""


class PerImage(NamedTuple):
    """Figures of every image, M each; NaN where they are not defined."""

    dice: Floats
    jaccard: Floats
    tpr: Floats
    fpr: Floats
    tfpr: Floats
    pixel_specificity: Floats
    pixel_accuracy: Floats
    hd95: Floats
    asd: Floats
    assd: Floats
    missed: Floats
    marked: Floats
    """Share of the image's area that is marked."""


def per_image(answers: Answers, images: Images, empty: Empty = "undefined") -> PerImage:
    """Compare every mask with its truth; distances in pixels of the 256 grid."""
    marked: Bools = answers.lesion >= THRESHOLD
    truth: Bools = images.masks >= THRESHOLD
    missed: Floats = np.asarray(~(marked & truth).any(axis=(1, 2)), float)
    area: Floats = np.asarray(marked.mean(axis=(1, 2)), float)
    return PerImage(
        metrics.dice(marked, truth),
        metrics.jaccard(marked, truth),
        metrics.tpr(marked, truth),
        metrics.fpr(marked, truth),
        metrics.tfpr(marked, truth),
        metrics.pixel_specificity(marked, truth),
        metrics.pixel_accuracy(marked, truth),
        *metrics.distances(marked, truth, empty=empty),
        missed,
        area,
    )


def score(
    answers: Answers,
    images: Images,
    *,
    positive: Positive = "malignant",
    empty: Empty = "undefined",
    rounds: int = 1000,
) -> Scores:
    """Compute every figure with its interval.

    Masks: means over the images with a lesion whose outline (not only a box) is known. Images without a
    lesion are not among them; `false_positives` is the share of those with more than 0.5 % of the area
    marked. `sensitivity`, `specificity`, `precision`, `f1` and `auc` are those of `positive` against the
    other kind of lesion; `recall_X`, `precision_X`, ... those of each class against the rest, all images.
    Figures without an image are left out.

    :param positive: RMTL-Net counts benign as positive, the others malignant.
    :param empty: see `train.metrics.Empty`.
    :param rounds: of the bootstrap; 0 leaves the intervals NaN.
    """
    each = per_image(answers, images, empty)
    count = answers.classes.shape[1]
    drawn: Bools = images.masked & (images.masks >= THRESHOLD).any(axis=(1, 2))
    clear: Bools = images.masked & ~drawn
    named: Bools = (images.labels >= 0) & (images.labels < count)
    figures: dict[str, Interval] = {}
    if answers.segments:
        figures |= _masks(each, images, drawn, rounds)
        figures |= _millimetres(answers, images, drawn, empty, rounds)
        figures |= _over(
            clear,
            ("false_positives",),
            images,
            lambda rows: np.array([(each.marked[rows] > FALSE_POSITIVE_SHARE).mean()]),
            rounds,
        )
    table = np.zeros((count, count), np.int64)
    curve, sure, before = None, [], []
    if count:
        figures |= _classes(answers.classes, images, named, rounds)
        figures |= _lesion_classes(answers.classes, images, named, positive, rounds)
        predicted = answers.classes[named].argmax(axis=1)
        table = metrics.confusion(predicted, images.labels[named], count)
        label = CLASSES.index(positive)
        pair = named & (images.labels != NORMAL)
        is_positive = images.labels[pair] == label
        if is_positive.any() and not is_positive.all():
            curve = metrics.roc(answers.classes[pair, label], is_positive)
        if named.any():
            sure = metrics.reliability(answers.classes[named], images.labels[named])
            if answers.temperature != 1:
                before = metrics.reliability(answers.uncalibrated()[named], images.labels[named])
    return Scores(
        figures,
        CLASSES[:count],
        positive,
        table,
        curve,
        sure,
        before,
        _sizes(each, answers, images, drawn, named) if drawn.any() else [],
        {
            "images": len(images),
            "with a lesion outline": int(drawn.sum()),
            "without a lesion": int(clear.sum()),
            "with a class": int(named.sum()),
            "lesions without a predicted outline (distances undefined)": int(
                np.isnan(each.hd95[drawn]).sum()
            ),
        },
    )


def confusion(answers: Answers, images: Images) -> list[list[int]]:
    """Count images by true class (row) and most probable class (column)."""
    table: list[list[int]] = score(answers, images, rounds=0).confusion.tolist()
    return table


def _over(
    rows: Bools, names: tuple[str, ...], images: Images, figures: Any, rounds: int
) -> dict[str, Interval]:
    """Compute figures of the chosen images; nothing where there is no image."""
    chosen = np.flatnonzero(rows)
    if not len(chosen):
        return {}
    found = metrics.bootstrap_all(lambda picks: figures(chosen[picks]), images.groups[chosen], rounds=rounds)
    return {name: each for name, each in zip(names, found, strict=True) if np.isfinite(each.value)}


def _masks(each: PerImage, images: Images, drawn: Bools, rounds: int) -> dict[str, Interval]:
    names = {
        "dice": each.dice,
        "jaccard": each.jaccard,
        "tpr": each.tpr,
        "fpr": each.fpr,
        "tfpr": each.tfpr,
        "pixel_specificity": each.pixel_specificity,
        "pixel_accuracy": each.pixel_accuracy,
        "hd95_px": each.hd95,
        "asd_px": each.asd,
        "assd_px": each.assd,
        "missed": each.missed,
    }
    figures = _over(drawn, tuple(names), images, _means(np.stack(list(names.values()))), rounds)
    for label, name in ((BENIGN, "dice_benign"), (MALIGNANT, "dice_malignant")):
        figures |= _over(drawn & (images.labels == label), (name,), images, _means(each.dice[None]), rounds)
    return figures


def _millimetres(
    answers: Answers, images: Images, drawn: Bools, empty: Empty, rounds: int
) -> dict[str, Interval]:
    known = np.flatnonzero(drawn & np.isfinite(images.spacing_mm).all(axis=1))
    if not len(known):
        return {}
    found = metrics.distances(
        answers.lesion[known] >= THRESHOLD,
        images.masks[known] >= THRESHOLD,
        images.spacing_mm[known],
        empty=empty,
    )
    part = images.take(known)
    return _over(
        np.ones(len(known), bool), ("hd95_mm", "asd_mm", "assd_mm"), part, _means(np.stack(found)), rounds
    )


def _classes(probabilities: Floats, images: Images, named: Bools, rounds: int) -> dict[str, Interval]:
    count = probabilities.shape[1]
    right = probabilities.argmax(axis=1)
    fields = Rates._fields
    names = ["accuracy", "balanced_accuracy", "calibration_error", "brier", "auc_macro"]
    names += [f"{field}_{mean}" for mean in ("macro", "weighted") for field in fields]
    for name in CLASSES[:count]:
        names += [f"recall_{name}", *(f"{field}_{name}" for field in fields[1:]), f"auc_{name}"]

    def compute(rows: Ints) -> Floats:
        labels, chances = images.labels[rows], probabilities[rows]
        table = metrics.confusion(right[rows], labels, count)
        values = [
            float(np.trace(table) / table.sum()),
            metrics.macro(table).sensitivity,
            metrics.calibration_error(chances, labels),
            metrics.brier(chances, labels),
            metrics.auc_macro(chances, labels),
            *metrics.macro(table),
            *metrics.weighted(table),
        ]
        for label in range(count):
            one = metrics.one_versus_rest(table, label)
            values += [*one, metrics.auc(chances[:, label], labels == label)]
        return np.array(values)

    figures = _over(named, tuple(names), images, compute, rounds)
    for label, name in enumerate(CLASSES[:count]):
        if found := figures.get(f"recall_{name}"):
            of_class = int((images.labels == label).sum())
            figures[f"recall_{name}"] = found._replace(images=of_class)
    return figures


def _lesion_classes(
    probabilities: Floats, images: Images, named: Bools, positive: Positive, rounds: int
) -> dict[str, Interval]:
    label = CLASSES.index(positive)
    predicted = probabilities.argmax(axis=1)
    count = probabilities.shape[1]

    def compute(rows: Ints) -> Floats:
        labels = images.labels[rows]
        table = metrics.confusion(predicted[rows], labels, count)
        auc = metrics.auc(probabilities[rows, label], labels == label)
        return np.array([auc, float(np.trace(table) / table.sum()), *metrics.one_versus_rest(table, label)])

    names = ("auc", "accuracy_lesions", *Rates._fields)
    return _over(named & (images.labels != NORMAL), names, images, compute, rounds)


def _means(rows: Floats) -> Any:
    """Means of every row over chosen columns, without those that are not defined."""

    def compute(picks: Ints) -> Floats:
        chosen = rows[:, picks]
        defined = np.isfinite(chosen)
        counts = defined.sum(axis=1)
        sums = np.where(defined, chosen, 0).sum(axis=1)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    return compute


def _sizes(each: PerImage, answers: Answers, images: Images, drawn: Bools, named: Bools) -> list[Group]:
    area = (images.masks >= THRESHOLD).mean(axis=(1, 2))
    height, width = images.masks.shape[1:]
    if drawn.any() and np.isfinite(images.spacing_mm[drawn]).all():
        low, high = SIZES_MM
        size = 2 * np.sqrt(area * height * width * images.spacing_mm.prod(axis=1) / np.pi)
        words = (f"up to {low:g} mm", f"{low:g} to {high:g} mm", f"over {high:g} mm")
    else:
        low, high = SIZES
        size = area
        words = (
            f"small: under {low:.0%} of the area",
            f"medium: {low:.0%} to {high:.0%}",
            f"large: over {high:.0%}",
        )
    groups = []
    for name, rows in zip(words, (size <= low, (size > low) & (size <= high), size > high), strict=True):
        rows = rows & drawn
        both, outlined = rows & named, rows.any() and answers.segments
        right: NDArray[np.bool_] = (
            answers.classes[both].argmax(axis=1) == images.labels[both] if both.any() else np.empty(0, bool)
        )
        groups.append(
            Group(
                name,
                int(rows.sum()),
                float(each.dice[rows].mean()) if outlined else float("nan"),
                float(each.missed[rows].mean()) if outlined else float("nan"),
                float(right.mean()) if both.any() else float("nan"),
            )
        )
    return groups
