"""Decoded sets: every fact of a study arrives at the row of its image, on the grid that it was brought to."""

import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.train.layouts import disc, save, speckle
from train.data import UNKNOWN_LABEL, Box, DataError, Images, Study, join, read_images, shrink


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Four images of 64 x 128 pixels: all known, boxed, its class only, normal."""
    images = [save(tmp_path / f"{number}.png", speckle(number, (64, 128))) for number in range(4)]
    mask = save(tmp_path / "mask.png", disc((64, 128)))
    gland = save(tmp_path / "gland.png", np.full((64, 128), 255, np.uint8))
    return [
        Study("0", "benign", 0, images[0], (mask,), gland=gland, spacing_mm=(0.1, 0.2), source="set"),
        Study("1", None, 1, images[1], None, boxes=(Box(32, 16, 64, 32), Box(-5, -5, 13, 9))),
        Study("2", "malignant", 2, images[2], None),
        Study("3", "normal", 3, images[3], ()),
    ]


def test_what_is_known_of_an_image_is_told_apart_from_what_is_not(studies: list[Study]) -> None:
    images = read_images(studies, 32)

    assert images.labels.tolist() == [0, UNKNOWN_LABEL, 1, 2]
    assert images.masked.tolist() == [True, False, False, True]
    assert images.boxed.tolist() == [False, True, False, False]
    assert images.gland_known.tolist() == [True, False, False, False]
    assert images.glands is not None
    assert images.glands[0].min() == 255
    assert not images.glands[1:].any()
    assert images.sources == ("set", "", "", "")
    assert images.masks[0].any()
    assert not images.masks[2:].any()


def test_boxes_are_filled_where_they_lie(studies: list[Study]) -> None:
    mask = read_images(studies, 64).masks[1] == 255
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    expected[:4, :4] = True
    assert np.array_equal(mask, expected)


def test_a_pixels_size_is_that_of_the_new_grid(studies: list[Study]) -> None:
    images = read_images(studies, 32)
    assert images.spacing_mm[0] == pytest.approx([0.1 * 128 / 32, 0.2 * 64 / 32])
    assert np.isnan(images.spacing_mm[1:]).all()
    assert shrink(images, 16).spacing_mm[0] == pytest.approx([0.8, 0.8])


def test_a_gland_mask_of_another_size_is_refused(studies: list[Study], tmp_path: Path) -> None:
    save(tmp_path / "gland.png", np.zeros((64, 127), np.uint8))
    with pytest.raises(DataError, match="gland.png is 127 x 64 pixels, its image 0.png is 128 x 64"):
        read_images(studies, 32)


def same(one: Images, other: Images) -> None:
    for field in fields(Images):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), field.name
        else:
            assert left == right, field.name


def test_a_set_that_is_taken_apart_and_joined_is_the_same(studies: list[Study]) -> None:
    images = read_images(studies, 32)
    same(images.take(np.arange(4)), images)
    same(images.take(images.labels >= 0), images.take(np.array([0, 2, 3])))
    parts = join([images.take(np.array([0, 1])), read_images(studies[2:], 32)])
    assert len(set(parts.groups.tolist())) == 4
    for name in ("names", "sources", "spacing_mm", "gland_known", "glands", "masked", "labels"):
        one, other = getattr(parts, name), getattr(images, name)
        assert one == other if isinstance(one, tuple) else np.array_equal(one, other, equal_nan=True)


def test_a_set_too_large_for_the_memory_is_mapped_and_stays_so(studies: list[Study]) -> None:
    images, mapped = read_images(studies, 32), read_images(studies, 32, memory_bytes=100)
    assert isinstance(mapped.pixels, np.memmap)
    same(images, mapped)
    part = mapped.take(np.array([2, 0]))
    assert isinstance(part.pixels, np.memmap)
    same(part, images.take(np.array([2, 0])))
    assert isinstance(shrink(mapped, 16).masks, np.memmap)
    same(shrink(mapped, 16), shrink(images, 16))


def test_a_disk_without_room_for_a_mapped_set_is_told(
    studies: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DataError, match=f"{tempfile.gettempdir()} has no room for .* set TMPDIR to a folder"):
        read_images(studies, 32, memory_bytes=100)


def test_rows_that_do_not_fit_together_are_refused(studies: list[Study]) -> None:
    images = read_images(studies, 32)
    with pytest.raises(ValueError, match="labels has 3 rows, there are 4 images"):
        Images(images.names, images.groups, images.pixels, images.masks, images.labels[:3])
