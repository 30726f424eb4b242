"""Frames from a DICOM file: ultrasound clips and stills, in every coding that pydicom's plugins decode.

Only the elements that describe pixels and their timing are ever read from a file: names, identifiers and
dates of a patient never enter the process, so nothing can log or publish them.
"""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.frame import Clock, Pixels
from streamer.sources import dicom_lossless
from streamer.sources.base import Captured, Source, SourceInvalidFrame, SourceOptions, SourceUnavailable
from streamer.sources.dicom_regions import Tissue, find_tissue
from streamer.sources.libav_pixels import fits, too_large
from streamer.sources.pacing import Pacer
from streamer.sources.picture_work import DAMAGED, check_jpeg
from streamer.sources.pictures import picture_size

try:
    import pydicom
    from pydicom.encaps import generate_frames
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.decoders.base import JPEGLosslessDecoder, JPEGLosslessSV1Decoder, get_decoder
    from pydicom.pixels.processing import apply_color_lut, apply_voi_lut
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit, RLELossless
except ImportError:
    raise SourceUnavailable("DICOM files need pydicom: pip install 'sonostream[formats]'") from None

log = logging.getLogger(__name__)
# It quotes values of elements it stumbles over.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

DEFAULT_FPS = 25.0
"""For a clip that says no rate of its own."""
MAX_FRAMES = 200_000
MAX_INFLATED_BYTES = 1 << 30

_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "FrameTime", "FrameTimeVector", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate",
    "SequenceOfUltrasoundRegions",
]  # fmt: skip
_COLOURS = frozenset(
    {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2"}
)
# Never GDCM, which ends the process over some damaged frames, even where it is installed.
_DECODERS = ("ffmpeg", "pyjpegls", "pylibjpeg", "pillow", "pydicom")
for _decoder in (JPEGLosslessDecoder, JPEGLosslessSV1Decoder):
    _decoder.add_plugin("ffmpeg", (dicom_lossless.__name__, dicom_lossless.decode_frame.__name__))
_FRAME_TIME_VECTOR, _FRAME_TIME = 0x00181065, 0x00181063


def open_dicom(uri: str, options: SourceOptions) -> Source:
    """Open a DICOM file.

    :raises SourceUnavailable: if it cannot be read, has no pixels, is too large, or needs a plugin that
        is not installed.
    """
    path = Path(uri.removeprefix("dicom:"))
    # It warns about padding and odd lengths that real scanners write.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    try:
        return DicomFile(path, _read_header(path), options)
    except OSError as error:
        raise SourceUnavailable(f"cannot read {path}: {error.strerror or 'it is cut short'}") from None
    except InvalidDicomError:
        raise SourceUnavailable(f"{path} is not a DICOM file") from None
    except SourceUnavailable:
        raise
    except Exception as error:  # its text may quote elements
        raise SourceUnavailable(f"{path} is a damaged DICOM file ({type(error).__name__})") from None


class DicomFile(Source):
    """The frames of one file."""

    policy = "every"

    def __init__(self, path: Path, header: Any, options: SourceOptions) -> None:
        self._path = path
        self._header = header
        self._width, self._height, self._count = _check(path, header)
        self._plugin = ""
        self._decodable()
        self._tissue: Tissue = find_tissue(header, width=self._width, height=self._height)
        self._times_s = frame_times(header, self._count, fallback_fps=options.fps)
        lap_s = self._times_s.pop()
        self._lap_ns = int(lap_s * 1e9)
        self._loop = options.loop
        self._pacer = Pacer(options, length_s=lap_s)
        self._lap = self._next = 0
        self._frames: Iterator[Any] = iter(())
        self._coded: Iterator[bytes] | None = None
        self._open_at(0)

    def read(self) -> Captured | None:
        """Wait until the next frame is due; see `Source.read`."""
        if self._next >= self._count and self._loop:
            self._lap += 1
            self._next = 0
            self._open_at(0)
        if self._pacer.closed or self._next >= self._count:
            return None
        number, self._next = self._next, self._next + 1
        pixels = self._decode(number)
        media_ns = self._lap * self._lap_ns + int(self._times_s[number] * 1e9)
        due = self._pacer.wait(media_ns)
        if due is None:
            return None
        return Captured(
            pixels,
            due,
            Clock.PTS,
            spacing_mm=self._tissue.spacing_mm,
            media_time_s=media_ns * 1e-9,
            region=self._tissue.region,
        )

    def close(self) -> None:
        """Make a waiting `read` return."""
        self._pacer.close()

    def _decodable(self) -> None:
        syntax = self._header.file_meta.TransferSyntaxUID
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise SourceUnavailable(
                f"{self._path}: transfer syntax {syntax.name} is not a still-picture coding; "
                "export the clip as JPEG, RLE or uncompressed DICOM, or as a video file"
            ) from None
        if syntax == JPEGExtended12Bit and int(self._header.BitsStored) > 8:
            raise SourceUnavailable(
                f"{self._path}: lossy JPEG of more than 8 bits is not understood; "
                "export the clip as lossless JPEG, JPEG 2000, RLE or uncompressed DICOM"
            )
        self._plugin = next((name for name in _DECODERS if name in decoder.available_plugins), "")
        if syntax.is_encapsulated and not self._plugin:
            raise SourceUnavailable(
                f"{self._path}: {syntax.name} needs a decoder: pip install 'sonostream[formats]'"
            )

    def _open_at(self, number: int) -> None:
        """Begin to decode at a frame."""
        syntax = self._header.file_meta.TransferSyntaxUID
        # A deflated file has no place to seek to; it was bounded when it was inflated.
        source = self._header if syntax == DeflatedExplicitVRLittleEndian else self._path
        self._frames = iter_pixels(source, indices=range(number, self._count), decoding_plugin=self._plugin)
        if number == 0:
            self._coded = _coded_frames(self._path, self._count) if syntax.is_encapsulated else None

    def _decode(self, number: int) -> Pixels:
        try:
            if self._coded is not None:
                self._check_coded(next(self._coded))
            return self._to_gray(next(self._frames))
        except SourceInvalidFrame:
            self._open_at(self._next)
            raise
        except StopIteration:
            self._next = self._count
            raise SourceInvalidFrame(
                f"{self._path}: frame {number + 1} of {self._count} is missing; copy or export the file again"
            ) from None
        except Exception as error:
            # A decoder that failed is not asked again: the next frame gets a fresh one.
            self._open_at(self._next)
            which = f"frame {number + 1} of {self._count}"
            raise SourceInvalidFrame(
                f"{self._path}: {which} cannot be decoded ({type(error).__name__})"
            ) from None

    def _check_coded(self, data: bytes) -> None:
        """Refuse a coded frame that claims another size than the file, before it is decoded."""
        syntax = self._header.file_meta.TransferSyntaxUID
        if syntax == RLELossless:
            return
        size = picture_size(data) or _jpeg2000_size(data)
        if size is None:
            raise SourceInvalidFrame(f"{self._path}: a coded frame without a header")
        if size != (self._width, self._height):
            raise SourceInvalidFrame(
                f"{self._path}: a coded frame of {size[0]}x{size[1]} "
                f"in a file of {self._width}x{self._height}"
            )
        if data.startswith(b"\xff\xd8"):
            try:
                check_jpeg(data, *size, strict=True)
                if dicom_lossless.is_available(syntax):
                    dicom_lossless.read_header(data)
            except (SourceInvalidFrame, struct.error) as error:
                why = error if isinstance(error, SourceInvalidFrame) else DAMAGED
                raise SourceInvalidFrame(f"{self._path}: {why}") from None

    def _to_gray(self, decoded: Any) -> Pixels:
        header = self._header
        kind, stored = header.PhotometricInterpretation, int(header.BitsStored)
        if kind == "PALETTE COLOR":
            decoded = apply_color_lut(decoded, header)
            # The tables say how deep their entries are, whatever the indices are.
            stored = int(header.RedPaletteColorLookupTableDescriptor[2])
        elif stored > 8 and decoded.ndim == 2:
            decoded = apply_voi_lut(decoded, header)
        gray = _eight_bits(decoded, stored, signed=bool(header.PixelRepresentation))
        if gray.ndim == 3:
            gray = np.asarray(cv2.cvtColor(gray, cv2.COLOR_RGB2GRAY), np.uint8)
        return np.asarray(255 - gray if kind == "MONOCHROME1" else gray, np.uint8)


def frame_times(header: Any, count: int, *, fallback_fps: float | None = None) -> list[float]:
    """Return when each frame is due, in seconds after the first; one more entry is the end.

    From FrameTimeVector or FrameTime (in ms), whichever FrameIncrementPointer names, else from CineRate or
    RecommendedDisplayFrameRate (per second).

    :param fallback_fps: rate of a file that tells none.
    """
    pointer = header.get("FrameIncrementPointer")
    vector = _positive_numbers(header.get("FrameTimeVector"))
    period_s = next(iter(_positive_numbers(header.get("FrameTime"))), 0.0) * 1e-3
    if len(vector) == count > 1 and (pointer == _FRAME_TIME_VECTOR or not period_s):
        steps = np.asarray(vector) * 1e-3
        # Increments: the first one is from nothing to the first frame.
        steps[0] = 0.0
        times: list[float] = np.cumsum(steps).tolist()
        if times[-1] > 0:
            return [*times, times[-1] + times[-1] / (count - 1)]
    if not period_s:
        rates = (header.get("CineRate"), header.get("RecommendedDisplayFrameRate"))
        period_s = next((1 / rate for given in rates for rate in _positive_numbers(given) if rate > 0), 0.0)
    if not period_s or not 1e-4 <= period_s <= 60:
        period_s = 1 / (fallback_fps or DEFAULT_FPS)
        if count > 1:
            log.warning("a DICOM clip tells no usable frame rate: played at %g frames a second", 1 / period_s)
    return [number * period_s for number in range(count + 1)]


def _read_header(path: Path) -> Any:
    meta = pydicom.filereader.read_file_meta_info(path)
    deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if deflated:
        _check_inflated(path, meta.get("FileMetaInformationGroupLength"))
    tags = [*_TAGS, "PixelData"] if deflated else _TAGS
    return pydicom.dcmread(path, stop_before_pixels=not deflated, specific_tags=list(tags))


def _check_inflated(path: Path, meta_length: Any) -> None:
    """Inflate without keeping it, to know that it fits."""
    if not isinstance(meta_length, int):
        raise SourceUnavailable(f"{path}: its header tells no length: save it uncompressed")
    with path.open("rb") as file:
        file.seek(128 + 4 + 12 + meta_length)  # preamble, magic and the element that holds the length
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while (data := file.read(1 << 16)) and not inflater.eof:
            # After its end zlib hands the rest back for ever.
            while data and not inflater.eof and size <= MAX_INFLATED_BYTES:
                size += len(inflater.decompress(data, 1 << 20))
                data = inflater.unconsumed_tail
            if size > MAX_INFLATED_BYTES:
                raise SourceUnavailable(
                    f"{path} inflates to more than {MAX_INFLATED_BYTES >> 20} MB: save it uncompressed"
                )


def _check(path: Path, header: Any) -> tuple[int, int, int]:
    """Return width, height and number of frames, all bounded."""

    def number(name: str, default: int | None = None) -> int:
        try:
            return int(header.get(name, default))
        except (TypeError, ValueError):
            raise SourceUnavailable(f"{path}: {name} is missing or not a number: not a picture") from None

    width, height = number("Columns"), number("Rows")
    if not fits(width, height):
        raise SourceUnavailable(f"{path}: {too_large(width, height)}")
    count = number("NumberOfFrames", 1)
    if not 1 <= count <= MAX_FRAMES:
        raise SourceUnavailable(f"{path}: {count} frames; 1 to {MAX_FRAMES} are accepted")
    kind, depth = header.get("PhotometricInterpretation"), number("BitsAllocated")
    number("PixelRepresentation", 0)
    if "TransferSyntaxUID" not in header.file_meta:
        raise SourceUnavailable(f"{path}: tells no transfer syntax: export it again as a DICOM file")
    if kind not in _COLOURS or depth not in (8, 16) or not 1 <= number("BitsStored", depth) <= depth:
        raise SourceUnavailable(f"{path}: pixels of {depth} bits in {kind} are not understood")
    return width, height, count


def _coded_frames(path: Path, count: int) -> Iterator[bytes]:
    """Yield the coded bytes of each frame, for a look at their headers."""
    with path.open("rb") as file:
        pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
        file.seek(12, 1)  # tag, VR and undefined length of the pixel data
        yield from generate_frames(file, number_of_frames=count)


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(data) < at + 24:
        return None
    width, height, left, top = (int.from_bytes(data[at + 8 + 4 * i : at + 12 + 4 * i]) for i in range(4))
    return width - left, height - top


def _eight_bits(pixels: Any, stored: int, *, signed: bool) -> Pixels:
    if pixels.dtype == np.uint8:
        shift = max(0, 8 - stored)
        return np.asarray(pixels << shift if shift else pixels, np.uint8)
    lowest = -(1 << (stored - 1)) if signed else 0
    scaled = (pixels.astype(np.float32) - lowest) * (255 / ((1 << stored) - 1))
    return np.asarray(np.clip(scaled + 0.5, 0, 255), np.uint8)


def _positive_numbers(value: Any) -> list[float]:
    """Return an element's values as numbers, or none if one of them is not, or is negative."""
    if value is None or value == "":
        return []
    values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        numbers = [float(each) for each in values]
    except (TypeError, ValueError):
        return []
    return numbers if all(math.isfinite(each) and each >= 0 for each in numbers) else []
