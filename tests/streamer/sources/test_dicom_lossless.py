"""Lossless JPEG in DICOM files: the very samples, and no picture that ends the process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamer.sources import Captured, SourceInvalidFrame, SourceUnavailable, open_source
from streamer.sources.picture_work import check_jpeg
from tests.streamer.sources.clips import drain, numbered
from tests.streamer.sources.lossless_jpeg import CODES, END, START, encode, frame, scan, segment

pydicom = pytest.importorskip("pydicom", reason="needs pip install 'sonostream[formats]'")

from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import convert_color_space  # noqa: E402
from pydicom.pixels.decoders import JPEG2000LosslessDecoder  # noqa: E402
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1  # noqa: E402

from streamer.sources.dicom_lossless import decode, read_header  # noqa: E402
from tests.streamer.sources.test_dicom import FAST, clip, dataset, frames_of, save  # noqa: E402

Samples = np.ndarray[Any, Any]


def soft(shape: tuple[int, ...], bits: int) -> Samples:
    """Samples that neighbours predict well but for a little noise."""
    rng = np.random.default_rng(bits)
    top = (1 << bits) - 1
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    base = (np.sin(columns / 9) + np.cos(rows / 7) + 2) / 4 * top
    layers = [base, base[::-1], base[:, ::-1]] if len(shape) == 3 else [base]
    made = np.stack(layers, -1).reshape(shape) + rng.normal(0, top / 40, shape)
    return np.clip(made, 0, top).astype(np.uint8 if bits <= 8 else np.uint16)


def noise(shape: tuple[int, ...], bits: int) -> Samples:
    # Never half of the range apart, which 16 bits could be.
    top = (1 << bits) - 1 if bits < 16 else 32767
    return np.random.default_rng(bits).integers(0, top + 1, shape, np.uint8 if bits <= 8 else np.uint16)


def lossless(frames: Samples, kind: str = "MONOCHROME2", *, coding: Any = None, **elements: Any) -> Any:
    """A data set of these frames, coded; `coding` is for the encoder."""
    coding = coding or {}
    made = dataset(frames, kind, **elements)
    made.PixelData = encapsulate([encode(each, bits=made.BitsStored, **coding) for each in frames])
    made.file_meta.TransferSyntaxUID = JPEGLosslessSV1 if coding.get("predictor", 1) == 1 else JPEGLossless
    return made


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [7, 8, 9, 12, 16])
@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3)], ids=["gray", "colours"])
def test_every_predictor_gives_the_very_samples_at_every_depth(
    predictor: int, bits: int, shape: tuple[int, ...]
) -> None:
    if len(shape) == 3 and bits == 9:
        bits = 11  # those of 9 are refused, see below
    for made in (soft, noise):
        samples = made(shape, bits)
        for choice in ({}, {"rows": 1}, {"rows": 4}, {"interleaved": False}, {"first_name": 82}):
            coded = encode(samples, bits=bits, predictor=predictor, **choice)

            assert np.array_equal(decode(read_header(coded)), samples), choice
        kept = decode(read_header(encode(samples, bits=bits, predictor=predictor, shift=1)))
        assert np.array_equal(kept, samples >> 1 << 1)


@pytest.mark.parametrize("predictor", [1, 6])
def test_a_clip_in_gray_gives_the_very_pixels(tmp_path: Path, predictor: int) -> None:
    made = lossless(clip(), FrameTime=40, coding={"predictor": predictor})

    frames = frames_of(save(made, tmp_path / "study.dcm"))

    assert np.array_equal(np.stack([each.pixels for each in frames]), clip())


@pytest.mark.parametrize("stored", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
def test_deep_pixels_are_those_of_the_file_stored_uncompressed(
    tmp_path: Path, stored: int, signed: int
) -> None:
    pixels = np.stack([soft((40, 48), stored)] * 2).astype(np.uint16)
    if signed:
        pixels = (pixels.astype(np.int32) - (1 << (stored - 1))).astype(np.int16).view(np.uint16)
    told = {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": signed}
    plain = frames_of(save(dataset(pixels, **told), tmp_path / "plain.dcm"))
    made = lossless(pixels & ((1 << stored) - 1), **told)

    frames = frames_of(save(made, tmp_path / "study.dcm"))

    assert np.ptp(plain[0].pixels) > 200
    for ours, expected in zip(frames, plain, strict=True):
        assert np.array_equal(ours.pixels, expected.pixels)


@pytest.mark.parametrize("planar", [0, 1])  # of no meaning in a coded file, whatever it says
@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_colours_are_taken_for_what_the_file_says(tmp_path: Path, kind: str, planar: int) -> None:
    colours = soft((40, 48, 3), 8)
    stored = colours if kind == "RGB" else convert_color_space(colours, "RGB", kind)
    made = lossless(stored[None], kind, PlanarConfiguration=planar)

    (shown,) = frames_of(save(made, tmp_path / "study.dcm"))

    gray = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    assert np.abs(shown.pixels.astype(int) - gray).max() <= (0 if kind == "RGB" else 2)
    assert np.abs(cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY).astype(int) - gray).max() > 20


def test_notes_in_a_picture_change_nothing() -> None:
    samples = soft((40, 48, 3), 8)
    coded = encode(samples)
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01")  # says YCbCr
    lines = segment(0xE0, b"AVI1\x01\0\0\0\0\0\0\0\0\0\0\0")  # says every second row
    other = segment(0xE0, b"LJIF\0\0\0\0\0\0\0\0\x02\0\0\0")  # says differences of colours
    noted = START + adobe + lines + other + segment(0xFE, b"CS=ITU601") + coded[2:]

    assert np.array_equal(decode(read_header(noted)), samples)


@pytest.mark.parametrize("colours", [False, True], ids=["gray", "colours"])
@pytest.mark.parametrize("predictor", [1, 7])
def test_a_difference_that_would_be_misread_is_an_error(colours: bool, predictor: int) -> None:
    samples = np.full((9, 11, 3) if colours else (9, 11), 100, np.uint16)
    samples[4, 5] += 32768

    with pytest.raises(SourceInvalidFrame, match="damaged"):
        decode(read_header(encode(samples, predictor=predictor)))


CODED = encode(soft((40, 48), 8))
IN_COLOURS = encode(soft((40, 48, 3), 8), interleaved=False)
SAMPLES = CODED[CODED.index(scan([1])) + len(scan([1])) : -2]


@pytest.mark.parametrize(
    ("coded", "why"),
    [
        (CODED[: len(CODED) // 2], "damaged or cut short"),
        (CODED[:12], "damaged or cut short"),
        (CODED[: len(CODED) // 2] + END, "cannot be decoded"),
        (START + frame(48, 40, 8, b"\x01") + scan([1]) + SAMPLES + END, "picture is damaged"),
        (encode(soft((41, 48), 8)), "a coded frame of 48x41 in a file of 48x40"),
        (START + frame(48, 40, 17, b"\x01") + CODES + scan([1]) + SAMPLES + END, "1 x 17 bits"),
        (START + frame(48, 40, 8, b"\x01\x02") + CODES + scan([1, 2]) + SAMPLES + END, "2 x 8 bits"),
        (
            START
            + frame(48, 40, 8, b"\x01\x01\x02")
            + CODES
            + scan([1])
            + SAMPLES
            + scan([2])
            + SAMPLES
            + END,
            "picture is damaged",
        ),
        (
            START
            + frame(48, 40, 8, b"\x01\x02\x03")
            + CODES
            + b"".join(scan([each] * 3) + SAMPLES * 3 for each in (1, 2, 3))
            + END,
            "picture is damaged",
        ),
        (START + frame(48, 40, 9, b"\x01\x02\x03") + CODES + scan([1, 2, 3]) + SAMPLES + END, "9 bits"),
        (START + frame(48, 40, 8, b"\x01\x02\x03", 0x21) + CODES + scan([1]) + END, "half the size"),
        (START + frame(48, 40, 8, b"\x01") + CODES + scan([2]) + SAMPLES + END, "picture is damaged"),
        (START + frame(48, 40, 8, b"\x01") + CODES + scan([1], 0) + SAMPLES + END, "picture is damaged"),
        (START + frame(48, 40, 8, b"\x01") + CODES + scan([1], 1, 8) + SAMPLES + END, "picture is damaged"),
        (
            START + frame(48, 40, 8, b"\x01") + segment(0xC4, bytes(9)) + scan([1]) + SAMPLES + END,
            "picture is damaged",
        ),
        (START + frame(48, 40, 8, b"\x01") + CODED[2:], "picture is damaged"),
        (IN_COLOURS[: IN_COLOURS.index(scan([3]))] + END, "picture is damaged"),
        (encode(soft((40, 48, 3), 8)), "cannot be decoded"),
        (encode(soft((40, 48), 12), bits=12), "cannot be decoded"),
        (cv2.imencode(".jpg", soft((40, 48), 8))[1].tobytes(), "coded as another JPEG"),
    ],
    ids=[
        *("cut", "cut in the header", "cut and closed", "no codes", "another size", "17 bits"),
        *("two colours", "one name twice", "one colour thrice", "9 bits", "small colours"),
        *("scan of another", "no predictor"),
        *("no bits left", "torn codes", "two headers", "a colour missing", "colours in a gray file"),
        *("deeper than the file", "another coding"),
    ],
)
def test_a_damaged_picture_is_one_error_and_the_next_one_comes(
    tmp_path: Path, coded: bytes, why: str
) -> None:
    made = lossless(np.stack([soft((40, 48), 8)] * 3), FrameTime=40)
    made.PixelData = encapsulate([CODED, coded, CODED])

    with open_source(save(made, tmp_path / "study.dcm"), FAST) as source:
        first, second, third = drain(source)

    assert isinstance(second, SourceInvalidFrame)
    assert why in str(second)
    assert str(second).count("study.dcm") == 1
    for each in (first, third):
        assert isinstance(each, Captured)
        assert np.array_equal(each.pixels, soft((40, 48), 8))


HAMMER = """
import sys
from pathlib import Path
import numpy as np
from streamer.sources import Captured, SourceInvalidFrame, SourceUnavailable, open_source
from tests.streamer.sources.test_dicom import FAST
from tests.streamer.sources.clips import drain

rng = np.random.default_rng(7)
path = Path(sys.argv[1]) / "broken.dcm"
read = refused = 0
for whole in [Path(each).read_bytes() for each in sys.argv[2:]]:
    start = whole.index(b"\\xff\\xd8\\xff\\xc3")
    for _ in range(150):
        broken = bytearray(whole)
        reach = 90 if rng.random() < 0.5 else len(whole) - start
        for at in start + rng.integers(0, reach, rng.integers(1, 5)):
            broken[at] = int(rng.integers(0, 256))
        if rng.random() < 0.2:
            at = start + int(rng.integers(0, len(whole) - start))
            broken[at:] = broken[at + int(rng.integers(0, 9)):]
        path.write_bytes(broken)
        try:
            with open_source(str(path), FAST) as source:
                items = list(drain(source))
        except SourceUnavailable:
            refused += 1
            continue
        assert all(isinstance(item, (Captured, SourceInvalidFrame)) for item in items)
        refused += any(isinstance(item, SourceInvalidFrame) for item in items)
        read += all(isinstance(item, Captured) for item in items)
print(read, refused)
"""


def test_hundreds_of_damaged_files_are_refused_or_read_and_the_process_goes_on(tmp_path: Path) -> None:
    files = [
        save(lossless(np.stack([soft((24, 30), 8)] * 2)), tmp_path / "gray.dcm"),
        save(lossless(soft((24, 30), 16)[None], coding={"predictor": 4, "rows": 2}), tmp_path / "deep.dcm"),
        save(lossless(soft((24, 30, 3), 8)[None], "RGB"), tmp_path / "colours.dcm"),
    ]

    done = subprocess.run(
        [sys.executable, "-c", HAMMER, str(tmp_path), *files],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    read, refused = map(int, done.stdout.split())
    assert read + refused == 450
    assert refused > 200


def test_the_memory_of_deep_pixels_counts_twice() -> None:
    # Noise of 16 bits takes more coded than half as much again as one byte a pixel.
    header = START + frame(3000, 2000, 16, b"\x01") + CODES + scan([1])

    check_jpeg(header + bytes(12 << 20) + END, 3000, 2000)
    with pytest.raises(SourceInvalidFrame, match="38 MB refused"):
        check_jpeg(START + frame(5000, 4000, 16, b"\x01") + CODES + scan([1]) + END, 5000, 4000)


def test_what_only_gdcm_decodes_is_refused_even_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lossless(np.stack([numbered(0)]))
    made.file_meta.TransferSyntaxUID = JPEG2000Lossless
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {"gdcm": lambda *_: pytest.fail("asked")})

    with pytest.raises(SourceUnavailable, match="JPEG 2000 .* needs a decoder"):
        open_source(save(made, tmp_path / "study.dcm"), FAST)


def test_a_lossy_jpeg_of_12_bits_says_what_to_export_instead(tmp_path: Path) -> None:
    made = lossless(soft((40, 48), 12)[None], BitsStored=12, HighBit=11)
    made.file_meta.TransferSyntaxUID = JPEGExtended12Bit

    with pytest.raises(SourceUnavailable, match="more than 8 bits .* export the clip as lossless JPEG"):
        open_source(save(made, tmp_path / "study.dcm"), FAST)
