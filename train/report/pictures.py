"""Pictures with outlines and heat maps, as data URIs."""

import base64
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.networks.registry import CLASSES
from train.data import Images, Pixels
from train.evaluation.answers import Answers
from train.evaluation.scores import THRESHOLD
from train.metrics import Bools, Floats

SIDE = 256
"""Of a picture in a report, in pixels."""
# Blue and orange stay apart for every kind of colour vision; BGR.
TRUTH, PREDICTED = (230, 170, 60), (20, 110, 240)


class Example(NamedTuple):
    """One picture of a report."""

    picture: str
    """Data URI."""
    title: str
    says: str


def rank(dice: Floats, rows: Bools, each: int) -> list[tuple[str, list[int]]]:
    """Choose images by their Dice.

    :param dice: M.
    :param rows: M: which to choose from.
    :param each: how many of each kind.
    :return: `best`, `median` and `worst`, each with indices; none is in two.
    """
    order = np.flatnonzero(rows)[np.argsort(-dice[rows], kind="stable")]
    each = max(0, min(each, len(order) // 3))
    middle = (len(order) - each) // 2
    parts = {"best": order[:each], "median": order[middle : middle + each], "worst": order[::-1][:each]}
    return [(name, part.tolist()) for name, part in parts.items()]


def overlay(answers: Answers, images: Images, row: int, dice: float) -> Example:
    """Draw the true outline and the predicted one on a picture."""
    canvas = _canvas(images.pixels[row])
    for mask, colour in ((images.masks[row], TRUTH), (answers.lesion[row], PREDICTED)):
        large = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        outlines, _ = cv2.findContours(
            (large >= THRESHOLD).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA)
    return Example(_uri(canvas), images.names[row], f"Dice {dice:.2f}{_named(answers, images, row)}")


def heat(images: Images, row: int, cam: NDArray[np.float32], says: str) -> Example:
    """Lay a heat map (H x W, 0 to 1) over a picture."""
    canvas = _canvas(images.pixels[row])
    large = cv2.resize(cam, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((large * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = (0.6 * large)[:, :, None]
    mixed = (canvas * (1 - share) + colours * share).astype(np.uint8)
    true = cv2.resize(images.masks[row], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) >= THRESHOLD
    outlines, _ = cv2.findContours(true.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(mixed, outlines, -1, TRUTH, 1, cv2.LINE_AA)
    return Example(_uri(mixed), images.names[row], says)


def _named(answers: Answers, images: Images, row: int) -> str:
    label = int(images.labels[row])
    true = CLASSES[label] if label >= 0 else "class unknown"
    if not answers.classes.shape[1]:
        return f"; {true}"
    named = int(answers.classes[row].argmax())
    return f"; {true}, named {CLASSES[named]} ({answers.classes[row, named]:.0%})"


def _canvas(pixels: Pixels) -> Pixels:
    large = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8)


def _uri(canvas: Pixels) -> str:
    done, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
