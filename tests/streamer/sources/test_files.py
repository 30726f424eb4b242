import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.frame import Clock
from streamer.sources import (
    Captured,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
    open_source,
)
from streamer.sources.libav_pixels import GrayReader
from tests.streamer.sources.clips import drain, encode, number_of, numbered, numbers

FAST = SourceOptions(pace="fast")
CLIPS = Path(__file__).parents[4] / "shared" / "data" / "video"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".flv"])
def test_every_frame_of_a_file_comes_once_and_in_order(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", 40)

    with open_source(str(path), FAST) as source:
        assert source.policy == "every"
        assert numbers(source) == list(range(40))


def test_frames_that_were_coded_out_of_order_come_in_order_with_their_own_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 40, options={"bf": "3", "preset": "medium"})

    with open_source(str(path), FAST) as source:
        frames = [item for item in drain(source) if isinstance(item, Captured)]

    assert [number_of(frame.pixels) for frame in frames] == list(range(40))
    assert [frame.media_time_s for frame in frames] == pytest.approx([number / 25 for number in range(40)])


def test_in_real_time_a_frame_is_stamped_with_the_instant_it_was_due(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 6)

    with open_source(str(path)) as source:
        frames = []
        for item in drain(source):
            assert isinstance(item, Captured)
            assert item.monotonic <= time.monotonic_ns()
            frames.append(item)

    assert {frame.clock for frame in frames} == {Clock.PTS}
    assert np.diff([frame.monotonic for frame in frames]) == pytest.approx(40_000_000, abs=1)


def test_a_looped_file_starts_over_and_its_time_goes_on(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 5)

    with open_source(str(path), SourceOptions(pace="fast", loop=True)) as source:
        frames = [source.read() for _ in range(12)]

    assert [number_of(frame.pixels) for frame in frames if frame] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    times = [frame.media_time_s for frame in frames if frame and frame.media_time_s is not None]
    assert np.diff(times) == pytest.approx(0.04)


def test_luma_is_a_read_only_view_that_outlives_the_source(tmp_path: Path) -> None:
    with open_source(str(encode(tmp_path / "clip.mp4", 30)), FAST) as source:
        frames = [item.pixels for item in drain(source) if isinstance(item, Captured)]

    assert not any(pixels.flags.owndata or pixels.flags.writeable for pixels in frames)
    assert [number_of(pixels) for pixels in frames] == list(range(30))


def test_coded_video_is_limited_range_unless_it_says_otherwise(tmp_path: Path) -> None:
    limited = encode(tmp_path / "limited.mp4", 2)
    full = encode(tmp_path / "full.avi", 2, codec="mjpeg", pix_fmt="yuvj420p")

    with open_source(str(limited), FAST) as first, open_source(str(full), FAST) as second:
        frames = first.read(), second.read()

    assert [frame.full_range for frame in frames if frame] == [False, True]


@pytest.mark.parametrize(
    "pix_fmt", ["rgb24", "bgr24", "bgr0", "rgba", "yuyv422", "uyvy422", "nv12", "gray", "yuv420p10le", "gbrp"]
)
def test_any_pixel_format_gives_the_same_gray(pix_fmt: str) -> None:
    picture = numbered(0b1011001, 322, 98)
    if pix_fmt == "yuv420p10le":
        # Written here: FFmpeg's own conversion into it now and then gets a few pixels wrong.
        luma = np.rint(64 + picture * (876 / 255)).astype(np.uint16)
        chroma = np.full((picture.shape[0] // 2, picture.shape[1]), 512, np.uint16)
        frame = av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format=pix_fmt)
    else:
        rgb = np.repeat(picture[..., None], 3, 2)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)

    pixels, full_range = GrayReader("rawvideo").read(frame)

    gray = pixels.astype(float) if full_range else (pixels.astype(float) - 16) * 255 / 219
    assert pixels.shape == picture.shape
    assert np.abs(gray - picture).max() <= 2


def test_a_change_of_resolution_yields_frames_of_the_new_size(tmp_path: Path) -> None:
    small = encode(tmp_path / "small.ts", 5)
    large = encode(tmp_path / "large.ts", 5, size=(480, 360))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())

    with open_source(str(both), FAST) as source:
        frames = [item for item in drain(source) if isinstance(item, Captured)]

    assert [frame.pixels.shape for frame in frames] == [(240, 320)] * 5 + [(360, 480)] * 5
    assert [number_of(frame.pixels) for frame in frames] == [*range(5), *range(5)]


def test_a_damaged_frame_is_refused_and_reading_goes_on(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 20, options={"g": "1"})
    with av.open(str(path)) as container:
        tenth = [packet for packet in container.demux(video=0) if packet.size][10]
        position, size = tenth.pos, tenth.size
    assert position is not None
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = b"\xa5" * (size - 4)
    path.write_bytes(data)

    with open_source(str(path), FAST) as source:
        items = list(drain(source))

    refused = [item for item in items if isinstance(item, SourceInvalidFrame)]
    assert len(refused) == 1
    assert "clip.mp4: a frame at 0.40 s cannot be decoded" in str(refused[0])
    seen = [number_of(item.pixels) for item in items if isinstance(item, Captured)]
    assert seen == [number for number in range(20) if number != 10]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_cut_short_gives_what_is_there_and_says_so(tmp_path: Path, suffix: str) -> None:
    whole = {"movflags": "faststart"} if suffix == ".mp4" else {}
    path = encode(tmp_path / f"clip{suffix}", 100, container_options=whole)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])

    seen: list[Captured | SourceInvalidFrame] = []
    with (
        open_source(str(path), FAST) as source,
        pytest.raises(SourceLost, match=rf"clip{suffix} is cut short: .* of 4.0 s are there"),
    ):
        seen.extend(drain(source))

    assert 0 < len(seen) < 100


def test_what_is_not_a_video_is_refused_with_its_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")

    with pytest.raises(SourceUnavailable, match=r"notes\.mp4 is not a video, or is cut short") as error:
        open_source(str(text))

    assert "\n" not in str(error.value)


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))

    with pytest.raises(SourceUnavailable, match=r"sound\.wav holds no video"):
        open_source(str(path))


def test_a_playlist_cannot_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")

    with pytest.raises((SourceUnavailable, SourceLost)), open_source(str(path), FAST) as source:
        source.read()


def test_frames_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "wide.avi", 2, codec="mjpeg", pix_fmt="yuvj420p", size=(8208, 64))

    with open_source(str(path), FAST) as source:
        items = list(drain(source))

    assert [str(item) for item in items] == [
        "frame of 8208x64 refused: at most 8192x8192 pixels are accepted"
    ] * 2


def test_close_ends_a_read_that_waits_for_a_frame_to_be_due(tmp_path: Path) -> None:
    path = encode(tmp_path / "slow.mkv", 3, fps=1)
    source = open_source(str(path))
    assert source.read() is not None
    last: list[Captured | None] = []
    reader = threading.Thread(target=lambda: last.append(source.read()))
    reader.start()

    source.close()
    reader.join(timeout=10)

    assert last == [None]


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the ultrasound clips of ../shared/data/video")
@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("Reg_Image_181206_crop.mp4", 495, (234, 234)),
        ("Reg_pat1Image_132943.mpeg", 280, (370, 370)),
        ("Cov_convex_volpecelli_sonographic_v1.mov", 403, (450, 450)),
    ],
)
def test_real_ultrasound_clips_are_read_whole(name: str, frames: int, shape: tuple[int, int]) -> None:
    with open_source(str(CLIPS / name), FAST) as source:
        items = list(drain(source))

    assert [item.pixels.shape for item in items if isinstance(item, Captured)] == [shape] * frames
