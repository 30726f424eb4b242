"""Makes the pictures of the preview channel, on a thread of its own and only while somebody wants them."""

from typing import Protocol

import cv2

from streamer.analysis import Region
from streamer.frame import Frame, Pixels, expand_range
from streamer.publisher import Picture
from streamer.region import inside
from streamer.sinks import Result, Sink


class _Audience(Protocol):
    def wants_picture(self, source: str) -> bool: ...

    def offer(self, result: Picture) -> None: ...


class Preview(Sink):
    """Encodes the region of an analysed frame as JPEG and hands it to the publisher.

    One result may wait for each source: pictures are for looking at, so the newest is the right one.
    """

    def __init__(self, publisher: _Audience, *, sources: int, max_side: int, quality: int) -> None:
        super().__init__("preview", capacity=max(1, sources))
        self._publisher = publisher
        self._max_side = max_side
        self._quality = quality

    def handle(self, result: Result) -> None:
        """Encode and pass on."""
        analysis = result.analysis
        if not self._publisher.wants_picture(analysis.source):
            return
        jpeg = encode_picture(result.frame, analysis.region, max_side=self._max_side, quality=self._quality)
        self._publisher.offer(Picture(analysis, result.mask, jpeg))


def encode_picture(frame: Frame, region: Region, *, max_side: int, quality: int) -> bytes:
    """Return the region of a frame as JPEG, scaled down where a side is longer than `max_side`."""
    picture = inside(region, frame.pixels)
    scale = max_side / max(picture.shape[:2])
    if scale < 1:
        picture = _resized(picture, scale)
    if not frame.full_range:
        picture = expand_range(picture)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _resized(picture: Pixels, scale: float) -> Pixels:
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
