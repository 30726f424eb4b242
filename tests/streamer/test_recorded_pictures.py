"""Pictures of a recording: what each coding keeps, and what is said when one is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from streamer.analysis import Region, Size
from streamer.frame import Frame, Pixels
from streamer.sinks import Result
from streamer.sources import SourceInvalidFrame, SourceOptions, open_source
from tests.models.tiny import save, tiny_model
from tests.streamer.results import analysis
from tests.streamer.scripted import picture

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

from streamer.recorded_pictures import Coding, PictureDecoder, PictureEncoder
from streamer.recorder import Recorder
from streamer.recording import RecordingWriter, read_recording
from streamer.replay import Rerun
from streamer.smoothing import SmoothingSettings

CODINGS: tuple[Coding, ...] = get_args(Coding)
LOSSLESS: tuple[Coding, ...] = ("png", "ffv1")
Draw = Callable[[int], Pixels]
# Odd, which H.264 knows nothing of.
REGION = Region(30, 20, 101, 81)


def colourful(number: int) -> Pixels:
    gray = picture(number)
    return np.stack([gray, np.roll(gray, 3, axis=1), 255 - gray], axis=2)


def result(number: int, pixels: Pixels, *, full_range: bool = True) -> Result:
    made = analysis(
        number,
        region=REGION,
        frame=Size(160, 120),
        captured_monotonic=10**12 + number * 33_000_000,
        captured_at=10**18 + number * 33_000_000,
    )
    frame = Frame(
        pixels, "probe", number, made.captured_monotonic, made.captured_at, made.clock, full_range=full_range
    )
    return Result(made, bytes(range(12)), frame)


def record(path: Path, results: list[Result], coding: Coding) -> None:
    recorder = Recorder(path, pictures=True, coding=coding, config="", publisher="test")
    recorder.start()
    for each in results:
        recorder.offer(each, wait=True)
    recorder.stop()


def played(path: Path) -> list[Pixels]:
    with open_source(str(path), SourceOptions(pace="fast")) as source:
        got = []
        while (frame := source.read()) is not None:
            x, y, width, height = frame.region or (0, 0, frame.pixels.shape[1], frame.pixels.shape[0])
            got.append(frame.pixels[y : y + height, x : x + width].copy())
    return got


def shown(pixels: Pixels) -> Pixels:
    return pixels[20:101, 30:131]


@pytest.mark.parametrize("coding", LOSSLESS)
@pytest.mark.parametrize("draw", [picture, colourful], ids=["gray", "colour"])
def test_a_lossless_coding_gives_back_every_pixel(tmp_path: Path, coding: Coding, draw: Draw) -> None:
    record(tmp_path / "study.mcap", [result(n, draw(n)) for n in range(5)], coding)

    got = played(tmp_path / "study.mcap")

    assert len(got) == 5
    for number, pixels in enumerate(got):
        assert np.array_equal(pixels, shown(draw(number)))


@pytest.mark.parametrize("draw", [picture, colourful], ids=["gray", "colour"])
def test_h264_is_close_in_every_frame_and_of_the_same_size(tmp_path: Path, draw: Draw) -> None:
    # Colour is kept at half the resolution: smooth it, as a scanner's overlay is.
    frames = [np.asarray(cv2.GaussianBlur(draw(n), (0, 0), 3), np.uint8) for n in range(40)]
    record(tmp_path / "study.mcap", [result(n, frame) for n, frame in enumerate(frames)], "h264")

    got = played(tmp_path / "study.mcap")

    assert len(got) == 40
    for pixels, frame in zip(got, frames, strict=True):
        assert pixels.shape == shown(frame).shape
        assert cv2.PSNR(pixels, shown(frame)) > 36


@pytest.mark.parametrize("coding", CODINGS)
def test_luma_of_limited_range_is_not_stretched(tmp_path: Path, coding: Coding) -> None:
    gray = np.asarray(16 + picture(0).astype(np.uint16) * 219 // 255, np.uint8)
    record(tmp_path / "study.mcap", [result(0, gray, full_range=False)], coding)

    (item,) = list(read_recording(tmp_path / "study.mcap"))
    (pixels,) = played(tmp_path / "study.mcap")

    assert item.picture is not None and not item.picture.full_range  # type: ignore[union-attr]  # noqa: PT018
    assert abs(float(pixels.mean()) - float(shown(gray).mean())) < 1


@pytest.mark.parametrize("coding", CODINGS)
def test_a_file_cut_anywhere_plays_up_to_there(tmp_path: Path, coding: Coding) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(n, picture(n)) for n in range(6)], coding)
    whole, complete = path.read_bytes(), played(path)
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:cut])
        some = played(path)
        assert 0 < len(some) <= 6
        assert all(np.array_equal(a, b) for a, b in zip(some, complete, strict=False))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_picture_that_changes_its_size_or_gains_colour_goes_on(coding: Coding) -> None:
    encoder, decoder = PictureEncoder(coding), PictureDecoder()
    for pixels in (picture(0), picture(1, height=60, width=80), colourful(2), picture(3)):
        coded = encoder.encode(pixels, full_range=True)
        got = decoder.decode(coded, (pixels.shape[1], pixels.shape[0]))
        assert got.shape == pixels.shape


def test_what_leans_on_a_missing_picture_is_refused_until_the_next_that_stands_alone() -> None:
    encoder, decoder = PictureEncoder("h264"), PictureDecoder()
    coded = [encoder.encode(picture(n), full_range=True) for n in range(3)]
    encoder.restart()
    coded.append(encoder.encode(picture(3), full_range=True))

    with pytest.raises(SourceInvalidFrame, match="leans on one that is missing"):
        decoder.decode(coded[1], (160, 120))
    assert decoder.decode(coded[3], (160, 120)).shape == (120, 160)


@pytest.mark.parametrize("coding", CODINGS)
def test_damage_costs_frames_and_never_the_reader(coding: Coding) -> None:
    encoder, decoder = PictureEncoder(coding), PictureDecoder()
    rng = np.random.default_rng(2)
    for number in range(60):
        coded = encoder.encode(picture(number % 5), full_range=True)
        data = bytearray(coded.data)
        for at in rng.integers(0, len(data), 4):
            data[at] ^= int(rng.integers(1, 256))
        try:
            pixels = decoder.decode(coded._replace(data=bytes(data)), (160, 120))
        except SourceInvalidFrame:
            continue
        assert pixels.shape[:2] == (120, 160) or coding == "png"


def test_a_claim_of_another_size_is_refused() -> None:
    coded = PictureEncoder("ffv1").encode(picture(0), full_range=True)

    with pytest.raises(SourceInvalidFrame):
        PictureDecoder().decode(coded, (20_000, 20_000))
    with pytest.raises(SourceInvalidFrame):
        PictureDecoder().decode(coded._replace(data=b"nothing"), (160, 120))


def test_video_is_a_channel_of_its_own_kind_for_other_programs(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    record(tmp_path / "study.mcap", [result(n, picture(n)) for n in range(2)], "h264")
    with (tmp_path / "study.mcap").open("rb") as file:
        schemas = {
            channel.topic: schema.name
            for schema, channel, _ in make_reader(file).iter_messages()
            if schema is not None
        }

    assert schemas["/probe/picture"] == "foxglove.CompressedVideo"
    assert schemas["/probe/mask"] == "foxglove.CompressedImage"


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_replays_to_the_same_answers_each_time(tmp_path: Path, coding: Coding) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    path = tmp_path / "study.mcap"
    record(path, [result(n, picture(n)) for n in range(8)], coding)
    rerun = Rerun(str(model))
    runs = [
        [
            (each.analysis.classes, each.analysis.lesions, each.mask)
            for each in rerun.answers(path, "probe", SmoothingSettings())
        ]
        for _ in range(2)
    ]
    rerun.close()

    assert len(runs[0]) == 8
    assert runs[0] == runs[1]


def test_lossless_codings_replay_to_the_same_answers_as_each_other(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    rerun = Rerun(str(model))
    answers = []
    for coding in LOSSLESS:
        path = tmp_path / f"{coding}.mcap"
        record(path, [result(n, picture(n)) for n in range(5)], coding)
        answers.append(
            [(each.analysis.classes, each.mask) for each in rerun.answers(path, "probe", SmoothingSettings())]
        )
    rerun.close()

    assert answers[0] == answers[1]


def test_after_a_write_that_failed_the_next_picture_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.mcap"
    add, calls = RecordingWriter.add, []

    def fail_once(self: RecordingWriter, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        add(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RecordingWriter, "add", fail_once)
    frames = [np.asarray(cv2.GaussianBlur(picture(n), (0, 0), 3), np.uint8) for n in range(6)]
    record(path, [result(n, frame) for n, frame in enumerate(frames)], "h264")

    got = played(path)

    assert len(got) == 5
    for pixels, number in zip(got, (0, 1, 3, 4, 5), strict=True):
        assert cv2.PSNR(pixels, shown(frames[number])) > 36
