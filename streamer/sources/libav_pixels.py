"""From a decoded frame to gray pixels, without a copy wherever the format allows."""

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from streamer.frame import Pixels
from streamer.sources.base import SourceInvalidFrame

MAX_SIDE = 8192
MAX_PIXELS = 8192 * 8192

# Formats whose first plane is 8-bit luma, one byte a pixel.
_PLANAR_LUMA = frozenset(
    ["gray", "nv12", "nv21", "nv16", "nv24", "yuva420p", "yuva422p", "yuva444p"]
    + [f"yuv{kind}p" for kind in (410, 411, 420, 422, 440, 444)]
    + [f"yuvj{kind}p" for kind in (411, 420, 422, 440, 444)]
)
# Packed 4:2:2: every second byte is luma, from this offset on.
_PACKED_LUMA = {"yuyv422": 0, "yvyu422": 0, "uyvy422": 1}
# RGB in bytes: OpenCV's conversion takes a third of swscale's time.
_RGB = {
    "rgb24": (3, cv2.COLOR_RGB2GRAY),
    "bgr24": (3, cv2.COLOR_BGR2GRAY),
    "rgb0": (4, cv2.COLOR_RGBA2GRAY),
    "rgba": (4, cv2.COLOR_RGBA2GRAY),
    "bgr0": (4, cv2.COLOR_BGRA2GRAY),
    "bgra": (4, cv2.COLOR_BGRA2GRAY),
}
# Codecs whose unmarked gray means limited range; elsewhere gray is full range.
_LIMITED_GRAY_CODECS = frozenset({"h264", "hevc", "av1", "vp9"})


class GrayReader:
    """Takes the gray picture out of decoded frames; keeps the converter between frames."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._reformatter = VideoReformatter()

    def read(self, frame: av.VideoFrame) -> tuple[Pixels, bool]:
        """Give the gray pixels of a frame.

        Luma in one byte a pixel is a read-only view into the decoder's buffer, which lives as long as the
        view; anything else is converted to full-range gray.

        :return: pixels (H x W, uint8) and whether they use the full range 0 to 255.
        :raises SourceInvalidFrame: if the frame is larger than 8192 x 8192.
        """
        width, height, name = frame.width, frame.height, frame.format.name
        if not fits(width, height):
            raise SourceInvalidFrame(too_large(width, height))
        if name in _PLANAR_LUMA:
            return _view(frame, (height, width)), self._is_full_range(frame, name)
        if name in _PACKED_LUMA:
            pairs = _view(frame, (height, width, 2))
            return pairs[..., _PACKED_LUMA[name]], self._is_full_range(frame, name)
        if name in _RGB:
            channels, conversion = _RGB[name]
            return cv2.cvtColor(_view(frame, (height, width, channels)), conversion), True  # type: ignore[return-value]
        gray = self._reformatter.reformat(frame, format="gray")
        return _view(gray, (height, width)), True

    def _is_full_range(self, frame: av.VideoFrame, name: str) -> bool:
        if frame.color_range != ColorRange.UNSPECIFIED:
            return bool(frame.color_range == ColorRange.JPEG)
        return name.startswith("yuvj") or (name == "gray" and self._codec not in _LIMITED_GRAY_CODECS)


def fits(width: int, height: int) -> bool:
    """Say whether a picture is within the bounds of what is decoded."""
    return 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS


def too_large(width: int, height: int) -> str:
    """Word the refusal of a picture that does not fit."""
    return f"frame of {width}x{height} refused: at most {MAX_SIDE}x{MAX_SIDE} pixels are accepted"


def _view(frame: av.VideoFrame, shape: tuple[int, ...]) -> Pixels:
    """View the first plane as rows of pixels, or of pixels of several bytes."""
    plane = frame.planes[0]
    line = plane.line_size
    pixel = shape[2] if len(shape) == 3 else 1
    # Stored bottom up, the buffer starts at the last row.
    offset = (shape[0] - 1) * -line if line < 0 else 0
    strides = (line, pixel, 1)[: len(shape)]
    pixels: Pixels = np.ndarray(shape, np.uint8, memoryview(plane), offset, strides)
    pixels.flags.writeable = False
    return pixels
