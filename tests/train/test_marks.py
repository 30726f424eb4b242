"""Calipers and text are found on tissue, and tissue is not taken for them."""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest

from streamer.sources.phantom import Phantom
from train.evaluation.marks import find_marks, paint_over
from train.pictures import Pixels

WHITE = 228


def tissue(seed: int = 4) -> Pixels:
    return np.ascontiguousarray(Phantom.still(seed, width=560, height=470, label="benign").pixels)


def with_text(picture: Pixels) -> Pixels:
    return np.asarray(
        cv2.putText(picture.copy(), "RT UOQ", (220, 400), cv2.FONT_HERSHEY_SIMPLEX, 0.5, WHITE, 2), np.uint8
    )


def with_calipers(picture: Pixels) -> Pixels:
    """Two crosses and a dotted line between them, as scanners draw them."""
    marked = picture.copy()
    for x, y in ((180, 200), (330, 220)):
        marked[y - 1 : y + 2, x - 8 : x + 9] = WHITE
        marked[y - 9 : y + 10, x - 1 : x + 2] = WHITE
    steps = np.arange(12, 140, 5)
    for step in steps:
        x, y = 180 + round(step * 150 / 151.3), 200 + round(step * 20 / 151.3)
        marked[y : y + 2, x : x + 2] = WHITE
    return marked


@pytest.mark.parametrize("draw", [with_text, with_calipers])
def test_burned_in_marks_are_found_and_painted_over(draw: Callable[[Pixels], Pixels]) -> None:
    plain = tissue()
    marked = draw(plain)
    drawn = (marked == WHITE) & (plain != WHITE)

    found = find_marks(marked)
    cleaned = paint_over(marked, found)

    assert found[drawn].mean() > 0.85
    assert found.mean() < 3 * drawn.mean()
    away = np.abs(cleaned.astype(int) - plain)[drawn].mean()
    assert away < 0.35 * np.abs(marked.astype(int) - plain)[drawn].mean()


@pytest.mark.parametrize("seed", range(4))
def test_tissue_is_not_taken_for_marks(seed: int) -> None:
    plain = tissue(seed)

    assert not find_marks(plain).any()
    assert paint_over(plain, find_marks(plain)) is plain


def test_a_picture_too_small_for_marks_has_none() -> None:
    assert not find_marks(np.full((6, 6), 255, np.uint8)).any()


def test_a_bright_tissue_border_between_two_calipers_is_no_dotted_line() -> None:
    picture = np.full((200, 300), 40, np.uint8)
    ends = ((60, 100), (240, 100))
    for one, other in pairwise(ends):
        cv2.line(picture, one, other, 190, 7)  # thick, as a fascia
    for x, y in ends:
        cv2.line(picture, (x - 8, y - 20), (x + 8, y - 20), WHITE, 3)
        cv2.line(picture, (x, y - 28), (x, y - 12), WHITE, 3)

    assert not find_marks(picture)[96:105, 90:210].any()
