"""One picture of a feed, and what is known about when it was taken."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# ITU-R BT.601/709 "limited range" luma: 16 is black, 235 is white.
_FULL_RANGE = np.clip((np.arange(256, dtype=np.float32) - 16) * (255 / 219), 0, 255).round().astype(np.uint8)


class Clock(StrEnum):
    """Which instant a frame's capture stamp means."""

    DEVICE = "device"
    """The instrument's own clock."""
    KERNEL = "kernel"
    """The capture driver, when the buffer was filled."""
    RTCP = "rtcp"
    """The sender's clock, mapped through RTCP sender reports."""
    PTS = "pts"
    """When the frame was due by its presentation time."""
    RECEIVE = "receive"
    """When its last byte reached this process."""


class Placement(NamedTuple):
    """Where a picture lies in the room, as a tracked scanner tells it."""

    axes: tuple[float, ...]
    """12 numbers: the step of a column, of a row and of a slice, and the middle; each (x, y, z) in mm."""
    coordinates: Literal["RAS", "LPS"]
    """The axes point right, anterior and superior, or left, posterior and superior."""


class FeedState(StrEnum):
    """What a feed shows at this moment; only a live feed is analysed."""

    LIVE = "live"
    FROZEN = "frozen"
    """The scanner repeats a picture."""
    NO_SIGNAL = "no_signal"
    """Black, lost or absent."""
    STALE = "stale"
    """Connected, but the next frame is overdue."""


@dataclass(slots=True, frozen=True)
class Frame:
    """A frame as a source hands it over.

    The pixels may be a view into a decoder's buffer: they are read, never written.
    """

    pixels: Pixels
    """H x W gray, or H x W x 3 RGB."""
    source: str
    """Name of the source, unique in the process."""
    frame_id: int
    """Counts from 0 at the source without gaps: a gap downstream is a frame we dropped."""
    captured_monotonic: int
    """Capture instant in ns on CLOCK_MONOTONIC; every latency is computed from it."""
    captured_at: int
    """The same instant in ns since the epoch, for correlation with other logs only."""
    clock: Clock
    spacing_mm: tuple[float, float] | None = None
    """Size of one pixel as (row, column) in mm, where the source knows it."""
    media_time_s: float | None = None
    """Presentation time within the clip or stream, where there is one."""
    full_range: bool = True
    """False for limited-range luma (16 to 235), the rule in coded video."""

    placement: Placement | None = None
    """Where the whole frame lies in the room, where the source knows it."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


def expand_range(pixels: Pixels, out: Pixels | None = None) -> Pixels:
    """Map limited-range luma (16 to 235) to 0 to 255.

    :param pixels: any shape, uint8.
    :param out: written in place where given; may be `pixels` itself.
    :return: an array of the same shape.
    """
    return cv2.LUT(pixels, _FULL_RANGE, out)  # type: ignore[return-value]
