"""Number and instant of a frame in its own pixels."""

import cv2
import numpy as np
import pytest

from streamer.analysis import Region
from streamer.frame import Pixels
from streamer.preview import encode_picture
from streamer.sources import SourceOptions, open_source
from streamer.sources.phantom.code import TICK_NS, Code, read, stamp
from tests.streamer.results import result


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (800, 600), (1280, 1024)])
def test_number_and_time_survive_jpeg(size: tuple[int, int]) -> None:
    for number in (0, 1, 4711, (1 << 20) - 1):
        due_ns = 86_400_000_000_000 + number * 33_333_333
        coded = stamp(noise(*size, seed=number), number, due_ns)
        _, jpeg = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, 85])
        seen = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)
        assert read(seen) == Code(number, due_ns // TICK_NS % (1 << 28))


def test_a_picture_without_a_strip_says_nothing() -> None:
    assert sum(read(noise(320, 240, seed)) is not None for seed in range(50)) < 5


def test_half_of_one_frame_and_half_of_the_next_say_nothing() -> None:
    first = stamp(noise(320, 240), 1000, 5_000_000_000)
    second = stamp(noise(320, 240), 1001, 5_033_333_333)
    torn = first.copy()
    torn[240 - 2 * 240 // 36 :] = second[240 - 2 * 240 // 36 :]
    assert read(torn) is None


def test_the_picture_given_is_left_as_it_is() -> None:
    picture = noise(320, 240)
    before = picture.copy()
    assert not np.array_equal(stamp(picture, 5, 5), before)
    assert np.array_equal(picture, before)


def test_a_coded_phantom_tells_each_frames_index_and_instant_in_its_pixels() -> None:
    uri = "phantom:?code=true&width=320&height=240&fps=200&start=7&prerender=3"
    with open_source(uri, SourceOptions()) as source:
        for _ in range(8):
            captured = source.read()
            assert captured is not None
            assert read(captured.pixels) == (captured.upstream_id, captured.monotonic // TICK_NS % (1 << 28))


def test_a_preview_keeps_the_code_readable() -> None:
    frame = result(pixels=stamp(noise(640, 480), 99, 123_400_000)).frame
    jpeg = encode_picture(frame, Region(0, 0, 640, 480), max_side=1280, quality=85)
    seen = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
    assert read(seen) == Code(99, 1234)
