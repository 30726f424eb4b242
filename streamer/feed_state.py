"""Tell a live feed from one that repeats a picture, shows nothing, or is silent."""

import cv2
import numpy as np

from streamer.frame import FeedState, Pixels

# Every eighth pixel in both directions: 7,500 of an 800 x 600 frame, enough to see any change a probe makes.
_STEP = 8


class FeedWatch:
    """Follows one feed; `observe` each frame, and ask `overdue` while waiting for the next one.

    A picture that comes back within `same_below` gray levels (mean over the region) for `frozen_after_s` is
    frozen: re-encoded stills differ by a little, a living picture by its noise alone differs by more.
    """

    def __init__(
        self,
        *,
        frozen_after_s: float = 0.5,
        no_signal_after_s: float = 0.3,
        stale_after_s: float = 0.25,
        same_below: float = 0.02,
        uniform_below: float = 1.5,
    ) -> None:
        """Set the limits.

        :param uniform_below: standard deviation in gray levels under which a picture shows nothing.
        """
        self._frozen_after_ns = int(frozen_after_s * 1e9)
        self._no_signal_after_ns = int(no_signal_after_s * 1e9)
        self._stale_after_ns = int(stale_after_s * 1e9)
        self._same_below = same_below
        self._uniform_below = uniform_below
        self.reset()

    def reset(self) -> None:
        """Forget the feed, as when it is opened again."""
        self._previous: Pixels | None = None
        self._changed_at: int | None = None
        self._signal_at: int | None = None
        self._seen_at: int | None = None

    def observe(self, pixels: Pixels, now: int) -> FeedState:
        """Judge a frame.

        :param pixels: the region's, H x W or H x W x 3.
        :param now: its capture instant in ns, on one clock for all calls.
        """
        sample = np.ascontiguousarray(pixels[::_STEP, ::_STEP]).reshape(-1, 1)
        previous, self._previous = self._previous, sample
        self._seen_at = now
        same = (
            previous is not None
            and previous.shape == sample.shape
            and cv2.norm(sample, previous, cv2.NORM_L1) / sample.size <= self._same_below
        )
        if not same or self._changed_at is None:
            self._changed_at = now
        if cv2.meanStdDev(sample)[1][0, 0] > self._uniform_below or self._signal_at is None:
            self._signal_at = now
        if now - self._signal_at >= self._no_signal_after_ns:
            return FeedState.NO_SIGNAL
        if now - self._changed_at >= self._frozen_after_ns:
            return FeedState.FROZEN
        return FeedState.LIVE

    def overdue(self, now: int) -> bool:
        """Whether the next frame should long have been here."""
        return self._seen_at is not None and now - self._seen_at > self._stale_after_ns
