"""What a model answered on a set of images, with its scores, as tables, pictures and JSON."""

import math
from typing import Any, NamedTuple

import numpy as np

from models.networks.base import Network
from models.networks.registry import CLASSES
from train.data import Images
from train.evaluation.answers import Answers
from train.evaluation.scores import FALSE_POSITIVE_SHARE, THRESHOLD, Scores, per_image
from train.metrics import Interval, expected_error
from train.report.gradcam import grad_cam, layer_of
from train.report.pictures import Example, heat, overlay, rank
from train.report.words import EVERY_CLASS, FIGURES, MAIN, words

__all__ = [
    "MAIN",
    "Part",
    "Row",
    "as_json",
    "cams",
    "class_names",
    "class_rows",
    "examples",
    "figure_rows",
    "is_synthetic",
    "number",
    "show",
]

_EACH = 4
_CAMS = 4


class Part(NamedTuple):
    """One set of images a model was asked about."""

    name: str
    protocol: str
    answers: Answers
    images: Images
    scores: Scores
    synthetic: bool = False


def is_synthetic(images: Images) -> bool:
    """Whether all images are the phantom's."""
    return bool(images.sources) and all(source.startswith("phantom") for source in images.sources)


class Row(NamedTuple):
    """One line of a table: a figure in every part."""

    says: str
    better: str
    cells: list[str]


def show(figure: Interval | None) -> str:
    """Write a figure with its interval."""
    if figure is None:
        return "-"
    digits = 3 if abs(figure.value) < 2 else 1
    text = f"{figure.value:.{digits}f}"
    if math.isfinite(figure.low):
        text += f" [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"
    return text


def figure_rows(parts: list[Part], names: tuple[str, ...] | None = None) -> list[Row]:
    """Tabulate figures by part.

    :param names: which; None: all but those of single classes.
    """
    rows = []
    for name in names or tuple(FIGURES):
        found = [part.scores.figures.get(name) for part in parts]
        if any(found):
            known = words(name, parts[0].scores.positive)
            rows.append(Row(known.says, known.better, [show(figure) for figure in found]))
    return rows


def class_rows(part: Part) -> list[Row]:
    """Tabulate the figures of every class against the rest; the columns are the classes that occur."""
    names = class_names(part)
    return [
        Row(known.says, known.better, [show(part.scores.figures.get(f"{kind}_{name}")) for name in names])
        for kind, known in EVERY_CLASS.items()
    ]


def class_names(part: Part) -> list[str]:
    """Name the classes of which there are images."""
    counts = part.scores.confusion.sum(axis=1)
    return [name for name, count in zip(part.scores.classes, counts, strict=True) if count]


def examples(part: Part) -> list[tuple[str, list[Example]]]:
    """Show the best, median and worst outlines, and images without a lesion where most is marked."""
    answers, images = part.answers, part.images
    if not answers.segments:
        return []
    each = per_image(answers, images)
    drawn = images.masked & (images.masks >= THRESHOLD).any(axis=(1, 2))
    groups = [
        (f"{kind} Dice", [overlay(answers, images, row, float(each.dice[row])) for row in rows])
        for kind, rows in rank(each.dice, drawn, _EACH)
        if rows
    ]
    alarms = np.flatnonzero(images.masked & ~drawn & (each.marked > FALSE_POSITIVE_SHARE))
    worst = alarms[np.argsort(-each.marked[alarms], kind="stable")][:_EACH]
    if len(worst):
        shown = [overlay(answers, images, int(row), float(each.dice[row])) for row in worst]
        groups.append(("marked although there is no lesion", shown))
    return groups


def cams(part: Part, network: Network) -> tuple[str, list[Example]]:
    """Explain the surest right and the surest wrong answers.

    :param network: what gave the answers.
    :return: the layer, and the pictures; empty where the network does not classify.
    """
    layer = layer_of(network)
    labels, chances = part.images.labels, part.answers.classes
    named = (labels >= 0) & (labels < chances.shape[1])
    if layer is None or not named.any():
        return "", []
    guess, sure = chances.argmax(axis=1), chances.max(axis=1)
    shown = []
    for right in (True, False):
        rows = np.flatnonzero(named & ((guess == labels) == right))
        for row in rows[np.argsort(-sure[rows], kind="stable")][:_CAMS]:
            label = int(guess[row])
            cam = grad_cam(network, part.images.pixels[row], label, layer)
            says = f"{CLASSES[labels[row]]}; what speaks for {CLASSES[label]} ({sure[row]:.0%})"
            shown.append(heat(part.images, int(row), cam, says))
    return layer, shown


def as_json(part: Part) -> dict[str, Any]:
    """Turn a part's figures into plain values."""
    scores = part.scores
    return {
        "name": part.name,
        "protocol": part.protocol,
        "synthetic": part.synthetic,
        "counts": scores.counts,
        "positive": scores.positive,
        "temperature": part.answers.temperature,
        "figures": {
            name: {
                "value": number(figure.value),
                "interval_95": [number(figure.low), number(figure.high)],
                "images": figure.images,
            }
            for name, figure in scores.figures.items()
        },
        "confusion": {"classes": list(scores.classes), "true_by_predicted": scores.confusion.tolist()},
        "roc": None
        if scores.roc is None
        else {name: [number(value) for value in points] for name, points in scores.roc._asdict().items()},
        "calibration": _calibration(part),
        "reliability": [one._asdict() for one in scores.reliability],
        "reliability_before_temperature": [one._asdict() for one in scores.uncalibrated],
        "sizes": [{key: number(value) for key, value in one._asdict().items()} for one in scores.sizes],
    }


def _calibration(part: Part) -> dict[str, float | None]:
    """Say how far probabilities are from what they mean, without the temperature and with it."""
    scores, scaled = part.scores, part.answers.temperature != 1
    before = scores.uncalibrated if scaled else scores.reliability
    return {
        "error_before_temperature": number(expected_error(before)),
        "error_after_temperature": number(expected_error(scores.reliability)) if scaled else None,
    }


def number(value: Any) -> Any:
    """Round a number for JSON, which has no NaN."""
    if isinstance(value, str | int):
        return value
    return round(float(value), 6) if math.isfinite(value) else None
