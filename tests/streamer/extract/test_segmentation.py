"""DICOM Segmentations, read back with highdicom."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")
highdicom = pytest.importorskip("highdicom", reason="needs pip install highdicom")
pydicom = pytest.importorskip("pydicom")

from streamer.analysis import Region, Size  # noqa: E402
from streamer.extract.frames import ExtractError, Span, shown_frames  # noqa: E402
from streamer.extract.segmentation import DicomFolder, fill  # noqa: E402
from streamer.recording import RecordingWriter  # noqa: E402
from streamer.sources import SourceOptions, open_source  # noqa: E402
from tests.streamer.extract.study import (  # noqa: E402
    EMPTY,
    FRAMES,
    FROZEN,
    HEIGHT,
    WIDTH,
    left_of,
    record,
    result,
)
from tests.streamer.sources.test_dicom import clip, dataset, region, save  # noqa: E402


def make(recording: Path, folder: Path, of: Path | None = None) -> Path:
    maker = DicomFolder(folder, of=of)
    for shown in shown_frames(recording, "probe", Span()):
        maker.add(shown)
    maker.close()
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    return make(record(folder / "study.mcap"), folder / "out")


def masks(folder: Path, uid: str, count: int) -> "np.ndarray[Any, Any]":
    seg = highdicom.seg.segread(folder / "segmentation.dcm")
    read: np.ndarray[Any, Any] = seg.get_pixels_by_source_frame(
        uid, list(range(1, count + 1)), combine_segments=True, assert_missing_frames_are_empty=True
    )
    return read


def test_every_frame_of_the_segmentation_lies_on_the_lesion_of_its_frame(made: Path) -> None:
    image = pydicom.dcmread(made / "clip.dcm")
    read = masks(made, image.SOPInstanceUID, FRAMES)

    assert read.shape == (FRAMES, HEIGHT, WIDTH)
    for number, mask in enumerate(read):
        if number in FROZEN | EMPTY:
            assert not mask.any()
            continue
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        expected[100:140, left_of(number) : left_of(number) + 60] = 1
        overlap = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
        assert overlap > 0.97


def test_it_says_who_made_it_and_for_what(made: Path) -> None:
    seg = highdicom.seg.segread(made / "segmentation.dcm")
    (segment,) = seg.SegmentSequence

    assert int(seg.NumberOfFrames) == FRAMES
    assert "Research use only" in seg.ContentDescription
    assert "Research use only" in seg.SeriesDescription
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "sonostream tiny"
    assert "FrameOfReferenceUID" not in seg
    assert seg.SegmentationType == "BINARY"


def test_the_clip_is_a_source_with_the_recorded_pictures_timing_and_spacing(made: Path) -> None:
    frames = []
    with open_source(str(made / "clip.dcm"), SourceOptions(pace="fast")) as source:
        while (frame := source.read()) is not None:
            frames.append(frame)

    assert len(frames) == FRAMES
    assert frames[0].spacing_mm == pytest.approx((0.1, 0.2))
    assert np.diff([frame.media_time_s or 0 for frame in frames]) == pytest.approx(0.04)
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.pixels, result(number).frame.pixels[30:270, 40:360])


def test_the_clip_names_nobody(made: Path) -> None:
    image = pydicom.dcmread(made / "clip.dcm", stop_before_pixels=True)

    assert {str(image.get(name)) for name in ("PatientName", "PatientID", "PatientBirthDate")} == {""}


@pytest.mark.parametrize(("coding", "lossy"), [("ffv1", ("00", None)), ("h264", ("01", "ISO_14496_10"))])
def test_the_clip_says_whether_its_pixels_are_exact(
    tmp_path: Path, coding: str, lossy: tuple[str, str | None]
) -> None:
    folder = make(record(tmp_path / "study.mcap", 4, coding=coding), tmp_path / "out")
    image = pydicom.dcmread(folder / "clip.dcm")

    assert (image.LossyImageCompression, image.get("LossyImageCompressionMethod")) == lossy
    if lossy[1]:
        assert float(image.LossyImageCompressionRatio) > 2


def test_a_patient_s_name_is_not_quoted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    source = original(tmp_path / "study.dcm")
    source.PatientName = "UNCOMMON"
    save(source, tmp_path / "study.dcm")
    make(recorded(tmp_path / "study.mcap", [0, 2]), tmp_path / "out", of=tmp_path / "study.dcm")

    assert not [str(each.message) for each in recwarn if "UNCOMMON" in str(each.message)]


def original(path: Path) -> Any:
    made = dataset(clip(5), FrameTime=40.0, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    made.SequenceOfUltrasoundRegions = [region(20, 10, 299, 219)]
    save(made, path)
    return made


def recorded(path: Path, order: list[int], **changes: Any) -> Path:
    writer = RecordingWriter(path)
    for seq, number in enumerate(order):
        analysis = msgspec.structs.replace(
            result(number).analysis,
            seq=seq,
            frame=Size(320, 240),
            region=Region(20, 10, 280, 210),
            media_time=seq * 0.04 if changes.get("played") else number * 0.04,
            captured_monotonic=10**12 + seq * 40_000_000,
        )
        writer.add(analysis, None, None)
    writer.close()
    return path


def test_a_recording_of_a_dicom_clip_refers_to_its_frames_in_its_study(tmp_path: Path) -> None:
    source = original(tmp_path / "study.dcm")
    # The daemon passed over frame 1, and looped.
    folder = make(recorded(tmp_path / "study.mcap", [0, 2, 4]), tmp_path / "out", of=tmp_path / "study.dcm")
    seg = highdicom.seg.segread(folder / "segmentation.dcm")
    read = masks(folder, source.SOPInstanceUID, 5)

    assert (seg.StudyInstanceUID, str(seg.PatientID)) == ("1.2.3", "4711")
    assert not (folder / "clip.dcm").exists()
    assert [bool(mask.any()) for mask in read] == [True, False, True, False, True]
    for number in (0, 2, 4):
        columns = np.flatnonzero(read[number].any(axis=0))
        # The lesion's coordinates are the whole frame's.
        assert (columns.min(), columns.max()) == (40 + left_of(number), 40 + left_of(number) + 59)
    references = [
        int(item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for item in seg.PerFrameFunctionalGroupsSequence
    ]
    assert references == [1, 3, 5]


def test_a_clip_that_was_not_analysed_is_refused(tmp_path: Path) -> None:
    original(tmp_path / "study.dcm")
    record(tmp_path / "other.mcap", 3)
    (tmp_path / "text.dcm").write_text("something else")

    with pytest.raises(ExtractError, match="is that the clip that was analysed"):
        make(tmp_path / "other.mcap", tmp_path / "out", of=tmp_path / "study.dcm")
    with pytest.raises(ExtractError, match="is not a DICOM picture"):
        DicomFolder(tmp_path / "out2", of=tmp_path / "text.dcm")
    assert not (tmp_path / "out2").exists()


def test_a_picture_that_was_scaled_is_filled_at_its_own_size() -> None:
    analysis = result(5).analysis
    mask = fill(analysis, (WIDTH // 2, HEIGHT // 2), whole_frame=False)

    columns = np.flatnonzero(mask.any(axis=0))
    assert (columns.min(), columns.max()) == (left_of(5) // 2, left_of(5) // 2 + 29)
