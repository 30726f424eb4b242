"""What is said about a picture's quality."""

import cv2
import numpy as np
import pytest

from streamer.analysis import Quality, Region
from streamer.frame import Pixels
from streamer.lesions import find_outlines, measure
from streamer.quality import assess
from streamer.sources.phantom import Phantom

SQUARE = Region(0, 0, 128, 128)


def picture(seed: int = 0) -> Pixels:
    frame = Phantom.still(seed, width=128, height=128, label="benign")
    return frame.pixels


def judge(view: Pixels) -> Quality:
    return assess(view, [], SQUARE)


def test_a_good_picture_has_contact_and_signal() -> None:
    quality = judge(picture())

    assert quality.contact > 0.7
    assert quality.signal > 0.7


def test_a_probe_that_touches_by_half_has_half_the_contact() -> None:
    half = picture()
    half[10:, 64:] = 5

    assert judge(half).contact == pytest.approx(judge(picture()).contact / 2, abs=0.1)


def test_a_lifted_probe_has_no_contact() -> None:
    phantom = Phantom(seed=0, width=160, height=120, fps=2)
    air = next(frame for n in range(200) if not (frame := phantom.frame(n)).contact)

    assert judge(air.pixels).contact < 0.3


def test_blur_lowers_sharpness_and_gain_does_not() -> None:
    sharp = picture()
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8)
    darker = (sharp * 0.7).astype(np.uint8)

    assert judge(blurred).sharpness < 0.5 * judge(sharp).sharpness
    assert judge(darker).sharpness == pytest.approx(judge(sharp).sharpness, rel=0.1)


def test_a_saturated_or_black_picture_has_no_signal() -> None:
    assert judge(np.full((128, 128), 255, np.uint8)).signal == 0
    assert judge(np.zeros((128, 128), np.uint8)).signal == 0


@pytest.mark.parametrize(("x", "cut"), [(64, False), (5, True)])
def test_a_lesion_that_runs_out_of_the_picture_is_told(x: int, cut: bool) -> None:
    rows, columns = np.indices((128, 128))
    disc = np.where((rows - 60) ** 2 + (columns - x) ** 2 < 400, 240, 10).astype(np.uint8)
    lesions = [measure(outline, 1, SQUARE, None) for outline in find_outlines(disc, SQUARE)]

    assert assess(picture(), lesions, SQUARE).lesion_cut is cut
