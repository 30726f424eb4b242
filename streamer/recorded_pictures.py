"""Pictures of a recording: coded as they come, and decoded in the order they were coded.

PNG and FFV1 keep every bit, and each of their pictures stands alone. H.264 takes a fraction of the room and
is not exact; its pictures lean on those before, up to a key picture every second or so.
"""

import re
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np

from streamer.frame import Pixels
from streamer.recording import Picture
from streamer.sources.base import SourceInvalidFrame
from streamer.sources.libav_pixels import MAX_PIXELS, fits, too_large
from streamer.sources.pictures import bounded_picture

Coding = Literal["png", "ffv1", "h264"]
VIDEO: frozenset[str] = frozenset({"ffv1", "h264"})
"""Formats whose pictures are packets of a video stream."""

# Speckle repeats nothing that a search for repetitions could find: without it a picture takes a quarter of
# the time and no more room.
_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB),
]
# Golomb-Rice codes take half the time of range codes for 2 % more room; slices carry checksums.
_FFV1 = {"level": "3", "coder": "0", "g": "1", "slices": "4", "slicecrc": "1"}
# At 18 no difference is seen; without look-ahead every picture comes out at once, so that a kill costs none.
_H264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "18", "g": "30"}
_KEY_PICTURE = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")
_FULL_RANGE, _LIMITED_RANGE = 2, 1


def encode_png(pixels: Pixels) -> bytes:
    """Code a gray or RGB picture without loss."""
    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
    return cv2.imencode(".png", pixels, _PNG)[1].tobytes()


class PictureEncoder:
    """Codes the pictures of one source."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._codec: av.VideoCodecContext | None = None
        self._kind: tuple[object, ...] = ()
        self._count = 0

    def encode(self, pixels: Pixels, *, full_range: bool) -> Picture:
        """Code the next picture.

        :param pixels: H x W gray or H x W x 3 RGB.
        :param full_range: False for limited-range luma, whose values are kept as they are.
        """
        if self._coding == "png":
            return Picture(encode_png(pixels), "png", full_range)
        kind = (*pixels.shape, full_range)
        if self._codec is None or kind != self._kind:
            self._codec, self._kind, self._count = _open_encoder(self._coding, pixels, full_range), kind, 0
        frame = _frame(self._coding, pixels)
        frame.pts = self._count
        self._count += 1
        (packet,) = self._codec.encode(frame)
        return Picture(
            bytes(packet),
            self._coding,
            full_range,
            setup=bytes(self._codec.extradata or b""),
            colour=pixels.ndim == 3,
        )

    def restart(self) -> None:
        """Make the next picture stand alone, because the one before may be missing."""
        self._codec = None


class PictureDecoder:
    """Decodes the pictures of one source, in order."""

    def __init__(self) -> None:
        self._codec: av.VideoCodecContext | None = None
        self._kind: tuple[object, ...] = ()
        self._whole = False

    def decode(self, picture: Picture, size: tuple[int, int]) -> Pixels:
        """Decode the next picture.

        :param size: (width, height) of the recorded region.
        :return: H x W gray or H x W x 3 RGB.
        :raises SourceInvalidFrame: if it is damaged, too large, or leans on one that is missing.
        """
        if picture.format not in VIDEO:
            return decode_still(picture.data)
        if not fits(*size):
            raise SourceInvalidFrame(too_large(*size))
        kind = (picture.format, picture.setup, picture.colour, size)
        if self._codec is None or kind != self._kind:
            self._codec, self._kind, self._whole = _open_decoder(picture, size), kind, False
        alone = picture.format == "ffv1" or _KEY_PICTURE.search(picture.data) is not None
        if not (alone or self._whole):
            raise SourceInvalidFrame("a recorded picture leans on one that is missing")
        self._whole = False
        try:
            frames = self._codec.decode(av.Packet(picture.data))
        except (av.error.FFmpegError, ValueError):
            frames = []
        if len(frames) != 1:
            self._codec = None
            raise SourceInvalidFrame("a recorded picture is damaged")
        pixels = _pixels(picture, frames[0], size)
        self._whole = True
        return pixels


def decode_still(data: bytes) -> Pixels:
    """Decode PNG or JPEG.

    :return: H x W gray or H x W x 3 RGB.
    :raises SourceInvalidFrame: if it is damaged or too large.
    """
    picture = cv2.imdecode(np.frombuffer(bounded_picture(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8:
        raise SourceInvalidFrame("a recorded picture is damaged")
    if picture.ndim == 3:
        code = cv2.COLOR_BGRA2RGB if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB
        picture = cv2.cvtColor(picture, code)
    return np.asarray(picture, np.uint8)


def _even(length: int) -> int:
    return length + length % 2


def _open_encoder(coding: Coding, pixels: Pixels, full_range: bool) -> av.VideoCodecContext:
    height, width = pixels.shape[:2]
    codec = av.CodecContext.create("ffv1" if coding == "ffv1" else "libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.time_base = Fraction(1, 30)
    codec.thread_count = 1
    if coding == "ffv1":
        codec.width, codec.height = width, height
        codec.pix_fmt = "gray" if pixels.ndim == 2 else "bgra"
        codec.options = _FFV1
    else:
        codec.width, codec.height = _even(width), _even(height)
        codec.pix_fmt = "yuv420p"
        codec.color_range = _FULL_RANGE if full_range and pixels.ndim == 2 else _LIMITED_RANGE
        codec.options = _H264
    codec.open()
    return codec


def _frame(coding: Coding, pixels: Pixels) -> av.VideoFrame:
    if coding == "ffv1":
        if pixels.ndim == 2:
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray")
        coloured = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA), np.uint8)
        return av.VideoFrame.from_ndarray(coloured, format="bgra")
    height, width = pixels.shape[:2]
    rows, columns = _even(height), _even(width)
    if (rows, columns) != (height, width):
        pixels = np.asarray(
            cv2.copyMakeBorder(pixels, 0, rows - height, 0, columns - width, cv2.BORDER_REPLICATE), np.uint8
        )
    if pixels.ndim == 3:
        planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)
    else:
        # By hand, because a conversion would squeeze full-range luma.
        planes = np.full((rows * 3 // 2, columns), 128, np.uint8)
        planes[:rows] = pixels
    return av.VideoFrame.from_ndarray(np.asarray(planes, np.uint8), format="yuv420p")


def _open_decoder(picture: Picture, size: tuple[int, int]) -> av.VideoCodecContext:
    codec = av.CodecContext.create(picture.format, "r")
    assert isinstance(codec, av.VideoCodecContext)
    codec.thread_count = 1
    if picture.format == "ffv1":
        codec.width, codec.height = size
    if picture.setup:
        codec.extradata = picture.setup
    codec.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS), "flags": "low_delay"}
    return codec


def _pixels(picture: Picture, frame: av.VideoFrame, size: tuple[int, int]) -> Pixels:
    width, height = size
    exact = picture.format == "ffv1"
    coded = (width, height) if exact else (_even(width), _even(height))
    if (frame.width, frame.height) != coded:
        raise SourceInvalidFrame(
            f"a recorded picture is of {frame.width} x {frame.height}, not {width} x {height}"
        )
    if exact and frame.format.name == "bgra":
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_BGRA2RGB), np.uint8)
    if exact and frame.format.name == "gray":
        return np.asarray(frame.to_ndarray(), np.uint8)
    if exact or frame.format.name not in ("yuv420p", "yuvj420p"):
        raise SourceInvalidFrame(f"recorded pictures of {frame.format.name} are not ours")
    planes = frame.to_ndarray()
    if picture.colour:
        return np.ascontiguousarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)[:height, :width])
    return np.ascontiguousarray(planes[:height, :width])
