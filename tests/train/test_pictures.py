"""Decoding of single picture and mask files of every depth and colour."""

from pathlib import Path

import numpy as np
import pytest

from tests.train.layouts import disc, save, speckle
from train.data import DataError
from train.pictures import read_gray, read_mask


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0), (10, 1), (12, 1), (16, 1)])
def test_sixteen_bit_files_of_every_depth_look_as_their_eight_bit_picture(
    tmp_path: Path, bits: int, tolerance: int
) -> None:
    picture = speckle(1)
    picture[0, 0] = 255
    deep = (picture.astype(np.float64) * (2**bits - 1) / 255).round().astype(np.uint16)

    read = read_gray(save(tmp_path / "deep.png", deep))

    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - picture).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_colour_and_transparency_leave_a_gray_picture_as_it_is(
    tmp_path: Path, channels: int, deep: bool
) -> None:
    gray = speckle(2)
    gray[0, 0] = 255
    picture = np.repeat(gray[:, :, None], channels, axis=2)
    if channels == 4:
        picture[:, :, 3] = 10  # nearly invisible: what is under it is the picture
    stored = picture.astype(np.uint16) * 257 if deep else picture

    read = read_gray(save(tmp_path / "colour.png", stored.squeeze()))

    assert np.abs(read.astype(int) - gray).max() <= 1


def test_a_picture_of_fractions_is_read(tmp_path: Path) -> None:
    picture = speckle(3)
    picture[0, 0] = 255
    read = read_gray(save(tmp_path / "fractions.tiff", (picture / 255).astype(np.float32)))
    assert np.array_equal(read, picture)


@pytest.mark.parametrize("inside", [1, 255, 65535])
def test_masks_mean_the_same_whatever_marks_the_inside(tmp_path: Path, inside: int) -> None:
    kind = np.uint16 if inside > 255 else np.uint8
    marked = np.where(disc() > 0, inside, 0).astype(kind)
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", marked)), disc())


def test_a_mask_with_colours_and_transparency_is_read(tmp_path: Path) -> None:
    mask = np.zeros((*disc().shape, 4), np.uint8)
    mask[:, :, 3] = 255
    mask[disc() > 0, 1] = 255
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", mask)), disc())


def test_an_empty_mask_marks_nothing(tmp_path: Path) -> None:
    assert not read_mask(save(tmp_path / "mask.png", np.zeros((5, 6), np.uint8))).any()


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_truncated_file_is_named_and_never_half_a_picture(tmp_path: Path, kind: str, share: float) -> None:
    path = save(tmp_path / f"cut.{kind}", speckle(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"cut.{kind} is cut short; replace it, or remove it"):
        read_gray(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"BM" + bytes(60)])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.bmp"
    path.write_bytes(content)
    with pytest.raises(DataError, match="odd.bmp is no picture that can be decoded"):
        read_gray(path)


def test_a_damaged_png_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "bad.png", speckle(5))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="bad.png"):
        read_gray(path)
    capfd.readouterr()


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.png does not exist"):
        read_gray(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_gray(tmp_path)


def test_a_picture_beyond_all_scanners_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.pictures.MAX_PIXELS", 1_000_000)
    with pytest.raises(DataError, match="larger than 1 million pixels"):
        read_gray(save(tmp_path / "huge.png", np.zeros((1001, 1001), np.uint8)))
