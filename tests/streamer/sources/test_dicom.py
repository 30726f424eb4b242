"""DICOM files: written by pydicom in several codings, and real ones that come with it."""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamer.config import FeedConfig, SourceConfig
from streamer.sources import Captured, SourceInvalidFrame, SourceOptions, SourceUnavailable, open_source
from streamer.sources.registry import parse_uri
from tests.streamer.sources.clips import drain, numbered, numbers

pydicom = pytest.importorskip("pydicom", reason="needs pip install 'sonostream[formats]'")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

FAST = SourceOptions(pace="fast")
PATIENT = "DOE^JANE"


def dataset(frames: np.ndarray[Any, Any], kind: str = "MONOCHROME2", **elements: Any) -> Dataset:
    """A multi-frame ultrasound of these pixels, F x H x W (x 3), with a patient in it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = Dataset()
    made.file_meta, made.preamble = meta, b"\0" * 128
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Modality, made.PatientName, made.PatientID = "US", PATIENT, "4711"
    made.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    if frames.ndim == 4:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = kind
    made.NumberOfFrames, made.Rows, made.Columns = frames.shape[:3]
    made.BitsAllocated = made.BitsStored = frames.dtype.itemsize * 8
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    made.PixelData = frames.tobytes()
    made["PixelData"].VR = "OB" if frames.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def clip(count: int = 5) -> np.ndarray[Any, Any]:
    return np.stack([numbered(number) for number in range(count)])


def region(left: int, top: int, right: int, bottom: int, **changes: Any) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.02, 0.01
    for name, value in changes.items():
        setattr(item, name, value)
    return item


def save(made: Dataset, path: Path) -> str:
    made.save_as(path, enforce_file_format=True)
    return str(path)


def frames_of(uri: str, options: SourceOptions = FAST) -> list[Captured]:
    with open_source(uri, options) as source:
        items = list(drain(source))
    assert all(isinstance(item, Captured) for item in items), items
    return [item for item in items if isinstance(item, Captured)]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda uid: uid.name.replace(" ", "-"),
)
def test_lossless_codings_give_the_very_pixels(tmp_path: Path, syntax: Any) -> None:
    made = dataset(clip(), FrameTime=40)
    if syntax == RLELossless:
        made.compress(RLELossless)
    made.file_meta.TransferSyntaxUID = syntax
    uri = save(made, tmp_path / "study.dcm")

    frames = frames_of(uri)

    assert np.array_equal(np.stack([frame.pixels for frame in frames]), clip())


def test_jpeg_frames_come_in_order(tmp_path: Path) -> None:
    made = dataset(clip(12), FrameTime=40)
    coded = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in clip(12)]
    made.PixelData = encapsulate(coded)
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    with open_source(save(made, tmp_path / "study.dcm"), FAST) as source:
        assert source.policy == "every"
        assert numbers(source) == list(range(12))


@pytest.mark.parametrize(
    ("name", "count", "mean"),
    [
        ("examples_ybr_color.dcm", 30, 9.6),  # ultrasound, JPEG, YBR_FULL_422
        ("examples_palette.dcm", 1, 19),  # ultrasound, palette
        ("examples_rgb_color.dcm", 1, 35),  # ultrasound, RGB
        ("examples_jpeg2k.dcm", 1, 35),  # ultrasound, JPEG 2000, YBR_RCT
        ("SC_ybr_full_422_uncompressed.dcm", 1, 127),
        ("SC_rgb_jpeg_gdcm.dcm", 1, 127),  # JPEG lossless
        ("SC_rgb_jls_lossy_line.dcm", 1, 127),  # JPEG-LS
        ("SC_rgb_rle_16bit.dcm", 1, 127),
        ("image_dfl.dcm", 1, 127),  # deflated
    ],
)
def test_real_files_decode_to_gray(name: str, count: int, mean: float) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} does not come with this pydicom")

    frames = frames_of(f"dicom:{path}")

    assert len(frames) == count
    assert {(frame.pixels.ndim, str(frame.pixels.dtype)) for frame in frames} == {(2, "uint8")}
    assert float(np.mean([frame.pixels.mean() for frame in frames])) == pytest.approx(mean, abs=1)


def test_monochrome_1_is_turned_around(tmp_path: Path) -> None:
    (frame,) = frames_of(save(dataset(255 - clip(1), "MONOCHROME1"), tmp_path / "study.dcm"))

    assert np.array_equal(frame.pixels, numbered(0))


def test_a_palette_is_applied(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16)[::-1] * 257
    tables = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", levels.tobytes()))
    }
    (frame,) = frames_of(save(dataset(clip(1), "PALETTE COLOR", **tables), tmp_path / "study.dcm"))

    assert np.array_equal(frame.pixels, 255 - numbered(0))


def test_deep_pixels_are_scaled_by_the_bits_they_use(tmp_path: Path) -> None:
    deep = np.zeros((1, 40, 40), np.uint16)
    deep[0, :20] = 4095
    deep[0, 20:] = 2048
    made = dataset(deep, BitsStored=12, HighBit=11)

    (frame,) = frames_of(save(made, tmp_path / "study.dcm"))

    assert np.unique(frame.pixels).tolist() == [128, 255]


@pytest.mark.parametrize(
    ("elements", "times"),
    [
        ({"FrameTime": "50", "FrameIncrementPointer": 0x00181063}, [0, 0.05, 0.1, 0.15]),
        (
            {"FrameTimeVector": [0, 10, 20, 40], "FrameIncrementPointer": 0x00181065, "FrameTime": "50"},
            [0, 0.01, 0.03, 0.07],
        ),
        ({"CineRate": "20"}, [0, 0.05, 0.1, 0.15]),
        ({"RecommendedDisplayFrameRate": "10"}, [0, 0.1, 0.2, 0.3]),
        ({"FrameTimeVector": [0, 10], "CineRate": "20"}, [0, 0.05, 0.1, 0.15]),
        ({"FrameTime": "0"}, [0, 0.04, 0.08, 0.12]),
    ],
    ids=["time", "vector", "cine rate", "display rate", "vector of another length", "none"],
)
def test_frames_are_due_when_the_file_says(
    tmp_path: Path, elements: dict[str, Any], times: list[float]
) -> None:
    frames = frames_of(save(dataset(clip(4), **elements), tmp_path / "study.dcm"))

    assert [frame.media_time_s for frame in frames] == pytest.approx(times)
    stamps = np.array([frame.monotonic for frame in frames])
    assert np.diff(stamps).tolist() == np.diff(np.array(times) * 1e9).round().astype(int).tolist()


def test_at_its_own_pace_no_frame_comes_early(tmp_path: Path) -> None:
    import time

    uri = save(dataset(clip(4), FrameTime=5), tmp_path / "study.dcm")
    with open_source(uri) as source:
        while (frame := source.read()) is not None:
            assert time.monotonic_ns() >= frame.monotonic


def test_a_loop_goes_on_without_a_gap(tmp_path: Path) -> None:
    uri = save(dataset(clip(2), FrameTime=10), tmp_path / "study.dcm")
    with open_source(uri, SourceOptions(pace="fast", loop=True)) as source:
        times = [frame.media_time_s for _ in range(5) if (frame := source.read())]

    assert times == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])


def test_the_tissue_region_and_its_spacing_are_taken_among_several(tmp_path: Path) -> None:
    doppler = region(0, 0, 319, 239, RegionSpatialFormat=3, RegionDataType=3)
    small = region(250, 10, 300, 60)
    tissue = region(40, 20, 239, 219)
    made = dataset(clip(1), SequenceOfUltrasoundRegions=Sequence([doppler, small, tissue]))

    (frame,) = frames_of(save(made, tmp_path / "study.dcm"))

    assert frame.region == (40, 20, 200, 200)
    assert frame.spacing_mm == pytest.approx((0.1, 0.2))  # row, column: pixels are not square


@pytest.mark.parametrize(
    "changes",
    [
        {"PhysicalUnitsXDirection": 4},  # seconds: an M-mode axis
        {"PhysicalUnitsYDirection": 1},  # percent
        {"PhysicalDeltaX": float("nan")},
        {"PhysicalDeltaX": 0.0},
    ],
)
def test_a_calibration_not_in_centimetres_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = dataset(clip(1), SequenceOfUltrasoundRegions=Sequence([region(40, 20, 239, 219, **changes)]))

    (frame,) = frames_of(save(made, tmp_path / "study.dcm"))

    assert frame.region == (40, 20, 200, 200)
    assert frame.spacing_mm is None


def test_regions_of_another_picture_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    # A real file whose pixels were scaled down after its regions were written.
    path = get_testdata_file("examples_ybr_color.dcm", download=False)

    with caplog.at_level(logging.WARNING):
        frame = frames_of(f"dicom:{path}")[0]

    assert (frame.region, frame.spacing_mm) == (None, None)
    assert "reaches outside the picture of 320 x 240" in caplog.text


@pytest.mark.parametrize(
    ("setting", "expected"), [("full", (40, 20, 200, 200)), ((0, 0, 64, 64), (0, 0, 64, 64))]
)
def test_the_feed_analyses_the_file_s_region_unless_told_another(
    tmp_path: Path, setting: Any, expected: tuple[int, ...]
) -> None:
    import threading

    from streamer.feed import Feed

    made = dataset(clip(1), SequenceOfUltrasoundRegions=Sequence([region(40, 20, 239, 219)]))
    uri = save(made, tmp_path / "study.dcm")
    config = SourceConfig(uri=uri, name="a", region=setting, pace="fast")
    feed = Feed(config, FeedConfig(), bell=threading.Condition(), tell=lambda *_: None)
    feed.start()
    arrival = feed.mailbox.take(10)
    feed.stop()

    assert arrival is not None
    assert (arrival.region.x, arrival.region.y, arrival.region.width, arrival.region.height) == expected


def test_a_coded_frame_of_another_size_is_refused_and_the_next_one_comes(tmp_path: Path) -> None:
    made = dataset(clip(3), FrameTime=40)
    coded = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in clip(3)]
    coded[1] = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8))[1].tobytes()
    made.PixelData = encapsulate(coded)
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    with open_source(save(made, tmp_path / "study.dcm"), FAST) as source:
        first, second, third = drain(source)

    assert isinstance(first, Captured)
    assert isinstance(second, SourceInvalidFrame)
    assert "a coded frame of 4000x4000 in a file of 320x240" in str(second)
    assert isinstance(third, Captured)


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (b"\xff\xd8\x32\xc0\x00\x11\x08\xff\xff\xff\xff\x01\x01\x11", "without a header"),
        (b"\x00" * 20, "without a header"),
        (b"\xff\xd8\xab\xcd\xff\xc0\x00\x0b\x08\x00\xf0\x01\x40\x01\x01\x11\x00", "damaged"),
    ],
    ids=["damaged", "none", "bytes astray"],
)
def test_a_coded_frame_whose_header_is_damaged_never_reaches_the_decoder(
    tmp_path: Path, start: bytes, why: str
) -> None:
    made = dataset(clip(2), FrameTime=40)
    whole = cv2.imencode(".jpg", clip(2)[1])[1].tobytes()
    made.PixelData = encapsulate([start + bytes(80), whole])
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    with open_source(save(made, tmp_path / "study.dcm"), FAST) as source:
        first, second = drain(source)

    assert isinstance(first, SourceInvalidFrame)
    assert why in str(first)
    assert isinstance(second, Captured)


def test_a_file_cut_short_loses_its_last_frames_only(tmp_path: Path) -> None:
    made = dataset(clip(3), FrameTime=40)
    made.compress(RLELossless)
    path = Path(save(made, tmp_path / "study.dcm"))
    path.write_bytes(path.read_bytes()[:-300])

    with open_source(str(path), FAST) as source:
        items = list(drain(source))

    assert [isinstance(item, Captured) for item in items] == [True, True, False]


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000x60000 refused"),
        ({"NumberOfFrames": 2_000_000_000}, "2000000000 frames; 1 to 200000 are accepted"),
        ({"Rows": None}, "Rows is missing"),
        ({"PhotometricInterpretation": "CMYK"}, "pixels of 8 bits in CMYK are not understood"),
        ({"BitsAllocated": 32}, "pixels of 32 bits"),
    ],
)
def test_what_it_cannot_or_will_not_decode_is_refused_at_once(
    tmp_path: Path, elements: dict[str, Any], said: str
) -> None:
    uri = save(dataset(clip(1), **elements), tmp_path / "study.dcm")

    with pytest.raises(SourceUnavailable, match=said):
        open_source(uri)


def test_a_video_coding_says_what_to_export_instead(tmp_path: Path) -> None:
    made = dataset(clip(1))
    made.PixelData = encapsulate([b"\0\0\1\xb3" + bytes(100)])
    made.file_meta.TransferSyntaxUID = MPEG2MPML

    with pytest.raises(SourceUnavailable, match="MPEG2 .* export the clip as JPEG, RLE"):
        open_source(save(made, tmp_path / "study.dcm"))


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(np.zeros((10, 200, 200), np.uint8))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    uri = save(made, tmp_path / "study.dcm")
    monkeypatch.setattr("streamer.sources.dicom.MAX_INFLATED_BYTES", 100_000)

    with pytest.raises(SourceUnavailable, match="inflates to more than"):
        open_source(uri)


def test_bytes_turned_over_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    tissue = region(40, 20, 239, 219)
    made = dataset(clip(2), FrameTimeVector=[0, 40], SequenceOfUltrasoundRegions=Sequence([tissue]))
    made.compress(RLELossless)
    path = Path(save(made, tmp_path / "study.dcm"))
    whole = path.read_bytes()
    start = whole.index(b"\x18\x00\x65\x10")  # among the elements, not the preamble
    rng = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(whole)
        for at in rng.integers(132 if rng.random() < 0.3 else start, len(whole) - 1000, 4):
            broken[at] = int(rng.integers(0, 256))
        path.write_bytes(broken)
        try:
            with open_source(str(path), FAST) as source:
                for _ in zip(range(5), drain(source), strict=False):
                    pass
        except SourceUnavailable:
            continue


def test_a_file_is_known_by_its_magic_or_its_suffix(tmp_path: Path) -> None:
    unnamed = save(dataset(clip(1)), tmp_path / "IM000001")
    (tmp_path / "not.dcm").write_bytes(b"something else" * 20)

    assert parse_uri(unnamed) == "dicom"
    assert parse_uri(str(tmp_path / "not.dcm")) == "dicom"
    with pytest.raises(SourceUnavailable, match=r"not\.dcm is not a DICOM file"):
        open_source(str(tmp_path / "not.dcm"))


def test_no_patient_field_enters_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import gc

    made = dataset(clip(2), FrameTime="40", PatientBirthDate="19700230")
    uri = save(made, tmp_path / "study.dcm")
    del made
    with caplog.at_level(logging.DEBUG), open_source(uri, FAST) as source:
        assert len(list(drain(source))) == 2
        gc.collect()
        # Not isinstance: lazy modules of other libraries warn when asked for their class.
        read = [each for each in gc.get_objects() if issubclass(type(each), Dataset)]

    assert not any("PatientName" in each or "PatientID" in each for each in read)
    assert "DOE" not in caplog.text
    assert "4711" not in caplog.text
