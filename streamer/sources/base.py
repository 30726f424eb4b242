"""What every source has in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self

from streamer.frame import Clock, Pixels, Placement

Policy = Literal["newest", "every"]
"""What happens to frames that come faster than they are analysed: replaced, or waited for."""


class SourceError(Exception):
    """Base of everything a source raises; the message is written for the operator.

    SourceError
     +-- SourceUnavailable    cannot be opened: wrong URI, no such device, unreadable file
     +-- SourceLost           was open and broke: unplugged, connection closed, stream error
     +-- SourceInvalidFrame   one frame or message was refused; the source goes on
    """


class SourceUnavailable(SourceError):
    """The source cannot be opened; says what is wrong and what to do."""


class SourceLost(SourceError):
    """The source was delivering and stopped; opening it again may help."""


class SourceInvalidFrame(SourceError):
    """One frame was refused; the next call to `read` goes on."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Settings that apply to any kind of source."""

    fps: float | None = None
    """Asked of capture devices and generators; paces folders of images. None: the source's own rate."""
    size: tuple[int, int] | None = None
    """(width, height) asked of capture devices and generators. None: the source's own."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Files only: at their own rate, or as fast as they are consumed."""
    loop: bool = False
    """Files only: start over at the end."""
    timeout_s: float = 5.0
    """A network source or device that delivers nothing for so long is lost."""
    keys: Path | None = None
    """ZeroMQ only: the server's folder where the source binds, a client's file where it connects."""
    device_options: dict[str, str] = field(default_factory=dict)
    """Passed to libavformat as they are."""


class Captured(NamedTuple):
    """What a source knows of one frame; the feed adds the source's name and the frame number."""

    pixels: Pixels
    """H x W gray or H x W x 3 RGB, uint8; stays valid after the next read."""
    monotonic: int
    """Capture instant, ns on CLOCK_MONOTONIC."""
    clock: Clock
    spacing_mm: tuple[float, float] | None = None
    media_time_s: float | None = None
    full_range: bool = True
    upstream_id: int | None = None
    """The sender's own frame number, where it sends one."""
    region: tuple[int, int, int, int] | None = None
    """(x, y, width, height) of the ultrasound picture, where the source knows it; a configured one wins."""
    placement: Placement | None = None
    """Where the picture lies in the room, where the source knows it."""


class Source(ABC):
    """A feed that is open.

    `read` is called by one thread; `close` may be called by another and makes a waiting `read` return
    soon (within half a second).
    """

    policy: Policy = "newest"
    """How its frames are queued unless the user says otherwise: live feeds drop, files wait."""

    @property
    def refused(self) -> int:
        """Connections that failed for want of an allowed key, where senders connect to the source."""
        return 0

    @abstractmethod
    def read(self) -> Captured | None:
        """Wait for the next frame.

        :return: the frame, or None at the end of a file or after `close`.
        :raises SourceInvalidFrame: if one frame was refused; reading may go on.
        :raises SourceLost: if the feed broke.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the device, file or socket; safe to call twice."""

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
