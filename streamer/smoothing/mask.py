"""Steady a lesion's probability map: carried along the motion, then moved towards the new one."""

import math

import cv2
import numpy as np

from streamer.frame import Pixels
from streamer.smoothing.motion import Motion

_NEWS_OVER = 9 / 128
"""News is a change over a window of this part of the map; jitter of an outline is thinner."""
_JITTER, _NEWS = 0.25, 0.55
"""Mean change of probability over the window: up to the first it is jitter, from the second on news."""


_EVEN, _ONE_SIDED = 0.4, 0.8
"""Balance of what the outline gains and loses: up to the first it is jitter, from the second on growth."""


class MaskSmoother:
    """The map of one view.

    A thin change along the outline is mostly the network's and follows with `outline_time_s`. A change of a
    whole patch is news and follows with `mask_time_s`, and so does an outline that keeps growing or
    shrinking. Where the motion is in doubt the new map counts.
    """

    def __init__(self, shape: tuple[int, int], mask_time_s: float, outline_time_s: float) -> None:
        self._fast_s, self._slow_s = mask_time_s, max(mask_time_s, outline_time_s)
        side = max(3, round(_NEWS_OVER * max(shape)) | 1)
        self._window = (side, side)
        self._map, self._carried, self._change, self._news = np.zeros((4, *shape), np.float32)
        self._rounded = np.zeros(shape, np.uint8)
        self._drift = 0.0

    def begin(self, lesion: Pixels) -> Pixels:
        """Start from a single map."""
        np.copyto(self._map, lesion)
        np.copyto(self._rounded, lesion)
        self._drift = 0.0
        return self._rounded

    def advance(self, lesion: Pixels, motion: Motion, elapsed_s: float, age_s: float) -> Pixels:
        """Take the next map.

        :param lesion: H x W, 0 to 255.
        :param motion: since the map before.
        :param elapsed_s: since the map before.
        :param age_s: from the first map to this one; a young average weighs all its maps alike.
        :return: H x W, 0 to 255; overwritten by the next call.
        """
        carried, change, news = self._carried, self._change, self._news
        cv2.remap(
            self._map,
            motion.where,
            None,  # type: ignore[call-overload]
            cv2.INTER_LINEAR,
            dst=carried,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.subtract(lesion, carried, dst=change, dtype=cv2.CV_32F)
        cv2.blur(change, self._window, dst=news)
        np.abs(news, out=news)
        equal = elapsed_s / (age_s + elapsed_s)
        slow, fast = max(share(elapsed_s, self._slow_s), equal), max(share(elapsed_s, self._fast_s), equal)
        slow += (fast - slow) * self._growth(elapsed_s)
        if elapsed_s > 2 * self._fast_s:
            # After so long a pause an outline is elsewhere for other reasons than jitter.
            slow = fast
        # Straight from slow at _JITTER to fast at _NEWS, all in one pass over the map.
        slope = (fast - slow) / (255 * (_NEWS - _JITTER))
        news *= np.float32(slope)
        news += np.float32(slow - slope * 255 * _JITTER)
        np.clip(news, slow, fast, out=news)
        np.maximum(news, motion.doubt, out=news)
        cv2.multiply(change, news, dst=change)
        cv2.add(carried, change, dst=self._map)
        np.rint(self._map, out=self._rounded, casting="unsafe")
        return self._rounded

    def _growth(self, elapsed_s: float) -> float:
        """Return how surely the outline grows or shrinks as a whole, 0 to 1: to one side, and lasting."""
        total = cv2.norm(self._change, cv2.NORM_L1)
        one_sided = cv2.sumElems(self._change)[0] / total if total else 0.0
        self._drift += share(elapsed_s, self._fast_s) * (one_sided - self._drift)
        return min(1.0, max(0.0, (abs(self._drift) - _EVEN) / (_ONE_SIDED - _EVEN)))


def share(elapsed_s: float, time_s: float) -> float:
    """Return the weight of the new value that makes an average forget with a time constant."""
    return 1 - math.exp(-elapsed_s / time_s)
