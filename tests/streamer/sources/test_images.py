import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamer.frame import Clock, Pixels
from streamer.sources import Captured, SourceInvalidFrame, SourceOptions, SourceUnavailable, open_source
from streamer.sources.pictures import decode_gray, picture_size
from tests.streamer.sources.clips import drain, number_of, numbered, numbers

FAST = SourceOptions(pace="fast")


def encoded(suffix: str, pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return cv2.imencode(suffix, pixels)[1].tobytes()


def fill(folder: Path, names: list[str], first: int = 0) -> None:
    for number, name in enumerate(names, first):
        (folder / name).write_bytes(encoded(Path(name).suffix, numbered(number)))


def test_pictures_come_in_natural_order_whatever_their_format(tmp_path: Path) -> None:
    fill(
        tmp_path,
        ["frame 1.png", "frame 2.jpg", "frame 9.bmp", "Frame 10.tif", "frame 11.JPG", "frame 100.png"],
    )
    (tmp_path / "notes.txt").write_text("not a picture")

    with open_source(str(tmp_path), FAST) as source:
        assert source.policy == "every"
        assert numbers(source) == [0, 1, 2, 3, 4, 5]


def test_pictures_are_due_at_the_rate_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png", "3.png"])

    with open_source(str(tmp_path), SourceOptions(fps=100)) as source:
        frames = [item for item in drain(source) if isinstance(item, Captured)]

    assert np.diff([frame.monotonic for frame in frames]) == pytest.approx(10_000_000, abs=1)
    assert [frame.media_time_s for frame in frames] == pytest.approx([0, 0.01, 0.02])
    assert {frame.clock for frame in frames} == {Clock.PTS}


def test_a_looped_folder_starts_over(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png"])

    with open_source(str(tmp_path), SourceOptions(pace="fast", loop=True)) as source:
        frames = [source.read() for _ in range(5)]

    assert [number_of(frame.pixels) for frame in frames if frame] == [0, 1, 0, 1, 0]


def test_an_unreadable_picture_is_named_and_the_next_one_comes(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png", "3.png"])
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])

    with open_source(str(tmp_path), FAST) as source:
        first, second, third = drain(source)

    assert isinstance(first, Captured)
    assert isinstance(second, SourceInvalidFrame)
    assert "2.png: the picture is damaged or cut short" in str(second)
    assert isinstance(third, Captured)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="no pictures in .*: expected .bmp, .jpeg"):
        open_source(str(tmp_path))


def test_close_ends_a_read_that_waits(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png"])
    source = open_source(str(tmp_path), SourceOptions(fps=0.01))
    source.read()
    last: list[Captured | None] = []
    reader = threading.Thread(target=lambda: last.append(source.read()))
    reader.start()

    source.close()
    reader.join(timeout=10)

    assert last == [None]


def test_colour_and_transparency_become_gray() -> None:
    colour = np.zeros((20, 30, 4), np.uint8)
    colour[..., 1], colour[..., 3] = 255, 10

    pixels = decode_gray(encoded(".png", colour))

    assert pixels.shape == (20, 30)
    assert pixels.min() == pixels.max()
    assert int(pixels[0, 0]) == pytest.approx(0.587 * 255, abs=2)  # green's share of luma


def test_sixteen_bits_are_scaled_by_the_picture_s_own_maximum() -> None:
    deep = np.array([[0, 1000, 2000]], np.uint16)

    assert decode_gray(encoded(".png", deep)).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_the_size_is_read_from_the_header_alone(suffix: str) -> None:
    data = encoded(suffix, numbered(5, 200, 100))

    assert picture_size(data) == (200, 100)
    for length in (0, 1, 3, 10, 20):
        assert picture_size(data[:length]) is None


def oversized() -> list[bytes]:
    png = bytearray(encoded(".png", numbered(1)))
    png[16:24] = struct.pack(">II", 65535, 65535)
    jpeg = bytearray(encoded(".jpg", numbered(1)))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65535, 65535)
    bmp = bytearray(encoded(".bmp", numbered(1)))
    bmp[18:26] = struct.pack("<ii", 65535, -65535)
    return [bytes(png), bytes(jpeg), bytes(bmp)]


@pytest.mark.parametrize("data", oversized(), ids=["png", "jpeg", "bmp"])
def test_a_header_that_claims_a_huge_picture_is_refused_before_it_is_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder was called"))

    with pytest.raises(SourceInvalidFrame, match="65535x65535 refused"):
        decode_gray(data)


def test_gray_pictures_are_unchanged() -> None:
    picture: Pixels = numbered(77)

    assert np.array_equal(decode_gray(encoded(".png", picture)), picture)
