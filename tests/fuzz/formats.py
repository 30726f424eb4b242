"""The formats of other programs, and our own recordings: functions to fuzz, and seeds."""

import base64
import json
import socket
import struct
import tempfile
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Event

import cv2
import msgspec
import numpy as np
from mcap.writer import CompressionType, Writer
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from streamer.frame import Placement
from streamer.openigtlink_messages import pack_image, pack_string
from streamer.recording import Picture, RecordingError, RecordingWriter, read_recording, survey
from streamer.sources import Source, SourceError, SourceInvalidFrame, SourceOptions, open_source
from streamer.sources import dicom as _dicom  # noqa: F401 - imported here, it is watched by the fuzzer
from streamer.sources import mcap as _mcap  # noqa: F401
from streamer.sources.openigtlink import OpenIGTLinkSource
from streamer.view.messages import decode_from_page
from tests.streamer.results import result
from tests.streamer.sources import lossless_jpeg
from tests.streamer.sources.test_dicom import dataset, region

_FOLDER = Path(tempfile.mkdtemp(prefix="sonostream-fuzz-formats-"))
_FAST = SourceOptions(pace="fast")


def _look(source: Source) -> None:
    """Read a few frames."""
    with source:
        for _ in range(4):
            try:
                if source.read() is None:
                    return
            except SourceInvalidFrame:
                continue


def openigtlink(data: bytes) -> None:
    """What a server sends, until it hangs up."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        theirs.setblocking(False)
        with suppress(BlockingIOError):
            theirs.send(data[: 1 << 17])
        theirs.shutdown(socket.SHUT_WR)
        try:
            _look(_Link(ours))
        except SourceError:
            return


class _Link(OpenIGTLinkSource):
    """A connection that is a pair of sockets: it has no delay to switch off."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        self._socket, self._device = connection, ""
        self._closed = Event()


def dicom(data: bytes) -> None:
    """A DICOM file."""
    path = _FOLDER / "study.dcm"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of odd values
        try:
            _look(open_source(str(path), _FAST))
        except SourceError:
            return


def mcap(data: bytes) -> None:
    """A recording."""
    path = _FOLDER / "study.mcap"
    path.write_bytes(data)
    try:
        survey(path)
        list(read_recording(path))
    except RecordingError:
        pass
    try:
        _look(open_source(str(path), _FAST))
    except SourceError:
        return


def page_message(data: bytes) -> None:
    """What a page sends to the viewer."""
    try:
        decode_from_page(data.decode(errors="surrogateescape"))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return


def _igtl_image(**changes: object) -> bytes:
    """An IMAGE of 6 x 4 pixels with fields replaced, by name, and without a checksum."""
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    message = bytearray(pack_image("Probe", 10**18, picture, Placement(axes, "RAS")))
    at = {
        "version": (0, ">H"),
        "body": (42, ">Q"),
        "crc": (50, ">Q"),
        "components": (60, ">B"),
        "scalar": (61, ">B"),
        "size": (64, ">3H"),
        "axes": (70, ">12f"),
        "part": (118, ">6H"),
    }
    for name, value in {"crc": 0, **changes}.items():
        offset, layout = at[name]
        struct.pack_into(layout, message, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(message)


OPENIGTLINK = (
    _igtl_image(),
    _igtl_image() * 2 + pack_string("Text", 1, "hello"),
    _igtl_image(body=2**64 - 1),
    _igtl_image(body=8192 * 8192 * 4 + 72, size=(8192, 8192, 1), part=(0, 0, 0, 8192, 8192, 1), components=4),
    _igtl_image(size=(65535, 65535, 65535), part=(0, 0, 0, 65535, 65535, 65535)),
    _igtl_image(size=(65535, 65535, 1), part=(0, 0, 0, 65535, 65535, 1), body=65535 * 65535 + 72),
    _igtl_image(size=(0, 0, 0), part=(0, 0, 0, 0, 0, 0), body=72),
    _igtl_image(part=(65535, 65535, 65535, 6, 4, 1)),
    _igtl_image(axes=(float("nan"),) * 12),
    _igtl_image(axes=(float("inf"),) * 12),
    _igtl_image(scalar=255, components=255),
    _igtl_image(version=2, body=12),
    _igtl_image(version=3, body=96 + 12),
    _igtl_image(crc=1),
    _igtl_image(body=3),
    _igtl_image().replace(b"IMAGE", b"\xff\xfe\xff\xfeE"),
    _igtl_image()[:70],
    b"",
)


def _dicom_bytes(syntax: str = "", **elements: object) -> bytes:
    path = _FOLDER / "seed.dcm"
    made = dataset(np.arange(2 * 40 * 48, dtype=np.uint8).reshape(2, 40, 48), FrameTime=40)
    if syntax == "rle":
        made.compress(RLELossless)
    elif syntax == "deflated":
        made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    elif syntax == "jpeg":
        # A picture of 65,535 pixels a side, said in a file of 48 x 40.
        made.PixelData = encapsulate(
            [b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x01\x01\x11\x00" + bytes(80)] * 2
        )
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    elif syntax == "headless jpeg":
        # Found by fuzzing: GDCM ended the process over it.
        made.PixelData = encapsulate(
            [b"\xff\xd8\x32\xc0\x00\x11\x08" + b"\xff" * 4 + b"\x01\x01\x11" + bytes(80)] * 2
        )
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    elif syntax == "whole jpeg":
        frames = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in made.pixel_array]
        made.PixelData = encapsulate(frames)
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    elif syntax == "lossless jpeg":
        made.PixelData = encapsulate([lossless_jpeg.encode(frame, rows=8) for frame in made.pixel_array])
        made.file_meta.TransferSyntaxUID = JPEGLossless
    elif syntax == "lossless jpeg in colours":
        made = dataset(np.arange(40 * 48 * 3, dtype=np.uint8).reshape(1, 40, 48, 3), "YBR_FULL")
        coded = lossless_jpeg.encode(made.pixel_array, predictor=7, interleaved=False)
        made.PixelData = encapsulate([coded])
        made.file_meta.TransferSyntaxUID = JPEGLossless
    elif syntax:
        made.compress(JPEGLSLossless if syntax == "jpeg-ls" else JPEG2000Lossless)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(made, name, value)
        made.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def deflated_bomb(mebibytes: int) -> bytes:
    """A small DICOM file that inflates to so much."""
    start = _dicom_bytes("deflated")
    meta = struct.unpack_from("<I", start, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start[: 144 + meta] + block * mebibytes


def deflated_with_a_tail() -> bytes:
    """A DICOM file that goes on after its deflated part has ended; found by fuzzing."""
    start = _dicom_bytes("deflated")
    meta = struct.unpack_from("<I", start, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return start[: 144 + meta] + packer.compress(bytes(2 << 20)) + packer.flush() + bytes(40)


def _torn_jpeg_2000() -> bytes:
    """A coded frame that breaks off inside its pixels; found by fuzzing, GDCM ended the process over it."""
    whole = _dicom_bytes("jpeg-2000")
    at = whole.rindex(b"\xff\x93") + 40
    return whole[:at] + b"\xff" * 40 + whole[at:]


DICOM = (
    _dicom_bytes(),
    _dicom_bytes("rle"),
    _dicom_bytes("deflated"),
    _dicom_bytes("jpeg"),
    _dicom_bytes("headless jpeg"),
    _dicom_bytes("whole jpeg"),
    _dicom_bytes("lossless jpeg"),
    _dicom_bytes("lossless jpeg in colours"),
    _dicom_bytes("lossless jpeg", BitsAllocated=16, BitsStored=12, HighBit=11),
    # Cut short, and closed as if it were whole.
    _dicom_bytes("lossless jpeg").replace(b"\xff\xd3", b"\xff\xd9"),
    _dicom_bytes("jpeg-ls"),
    _dicom_bytes("jpeg-2000"),
    _torn_jpeg_2000(),
    _dicom_bytes(Rows=65535, Columns=65535),
    _dicom_bytes(NumberOfFrames=2**31 - 1),
    _dicom_bytes(NumberOfFrames=-1),
    _dicom_bytes(BitsAllocated=16, BitsStored=16, HighBit=15),
    _dicom_bytes(BitsStored=0),
    _dicom_bytes(FrameTime="1e-300"),
    _dicom_bytes(SequenceOfUltrasoundRegions=[region(0, 0, 2**32 - 1, 2**32 - 1)]),
    _dicom_bytes(SequenceOfUltrasoundRegions=[region(0, 0, 40, 36, PhysicalDeltaX=float("inf"))]),
    _dicom_bytes(SequenceOfUltrasoundRegions=[region(0, 0, 40, 36, PhysicalDeltaX=float("nan"))]),
    _dicom_bytes(PhotometricInterpretation="PALETTE COLOR"),
    _dicom_bytes().replace(b"MONOCHROME2", b"\xff\xfe\xfd\xfcHROME2"),
    _dicom_bytes()[:400],
    # The length of an element is 4 GB.
    _dicom_bytes().replace(b"\x28\x00\x04\x00CS\x0c\x00", b"\x28\x00\x04\x00UN\x00\x00\xfe\xff\xff\xff"),
    deflated_bomb(8),
    deflated_with_a_tail(),
    bytes(128) + b"DICM",
    b"",
)


def _mcap_bytes(*, pictures: bool = True, **changes: object) -> bytes:
    path = _FOLDER / "seed.mcap"
    path.unlink(missing_ok=True)
    writer = RecordingWriter(path, config="[smoothing]\nmask_time_s = 0.3\n")
    for number in range(2):
        made = result(number, **changes)
        png = _PNG if pictures else None
        writer.add(made.analysis, _PNG.data, png)
    writer.close()
    return path.read_bytes()


def _foreign(
    data: bytes, topic: str = "/probe/analysis", packing: CompressionType = CompressionType.NONE
) -> bytes:
    path = _FOLDER / "foreign.mcap"
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=len(data) * 2 + 100, compression=packing)
        writer.start()
        writer.add_metadata("sonostream.source", {"name": "probe"})
        channel = writer.register_channel(topic, "json", 0)
        writer.add_message(channel, 1, data, 1)
        writer.finish()  # type: ignore[no-untyped-call]
    return path.read_bytes()


def _image(pixels: bytes = b"", **about: object) -> bytes:
    fields = {"timestamp": {}, "frame_id": "a", "data": base64.b64encode(pixels).decode(), "format": "png"}
    return json.dumps(fields | about).encode()


def _still() -> Picture:
    return Picture(cv2.imencode(".png", np.zeros((120, 160), np.uint8))[1].tobytes(), "png")


_PNG = _still()
_HUGE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00\x00\xff\xff" * 2 + b"\x08\x00" + bytes(40)
_DEEP = b"[" * 100_000
_WHOLE = _mcap_bytes()

MCAP = (
    _WHOLE,
    _WHOLE[: len(_WHOLE) // 2],
    _mcap_bytes(pictures=False),
    _foreign(_DEEP),
    _foreign(b'{"seq": NaN}'),
    _foreign(b"\xff\xfe{}"),
    _foreign(_image(_HUGE), "/probe/picture"),
    _foreign(_image(format="ffv1"), "/probe/picture"),
    _foreign(_image(format="h264", data="not base64!"), "/probe/picture"),
    _foreign(bytes(8 << 20), "/probe/picture", CompressionType.ZSTD),
    _foreign(bytes(1 << 20), "/probe/picture", CompressionType.LZ4),
    # Records of 2^64 - 1 bytes: a chunk, metadata, an unknown one.
    *(b"\x89MCAP0\r\n" + bytes([kind]) + b"\xff" * 8 + bytes(40) for kind in (6, 12, 0x7F)),
    b"\x89MCAP0\r\n",
    b"",
)

PAGE = (
    b'{"type":"ack","source":"left"}',
    b'{"type":"ping","sent":1.5}',
    b'{"type":"ping","sent":NaN}',
    b'{"type":"ping","sent":1e999}',
    b'{"type":"ack","source":"' + b"a" * 5000 + b'"}',
    b'{"type":["ack"]}',
    b"\xff\xfe",
    b'{"type":"ack","source":"\\ud800"}',
    _DEEP,
    b"",
)
