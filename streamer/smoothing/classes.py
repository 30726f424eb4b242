"""Accumulate evidence for the classes of one thing seen over time: a view, or a lesion."""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.smoothing.mask import share
from streamer.smoothing.settings import SmoothingSettings

Floats = NDArray[np.float32]

_FLOOR = np.float32(0.02)
"""Least probability taken from one frame, so that none outweighs all that came before."""

_WITNESSES, _AGREEING = 3, 2
"""Of so many latest frames so many must name the class that takes over: one frame alone never does it."""


class Verdict(NamedTuple):
    """What the evidence says."""

    probabilities: Floats
    """K, sum to 1."""
    label: int
    """Index of the class to show."""
    stable: bool
    """The label has held, clear of its rivals, for the configured time."""
    uncertain: bool
    """The evidence conflicts: two classes are about as probable."""


class Evidence:
    """Log-odds with forgetting, and a label with hysteresis.

    Frames of one view are not independent witnesses, so log-odds are averaged, not summed: frames that agree
    give the calibrated probability that each of them gave, however many there are.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        self._settings = settings
        self._log: Floats | None = None
        self._began = self._at = self._steady_since = 0
        self._label, self._uncertain = 0, False
        self._named: deque[int] = deque(maxlen=_WITNESSES)

    def reset(self) -> None:
        """Forget everything."""
        self._log = None
        self._named.clear()

    def add(self, classes: Floats, now: int) -> Verdict:
        """Take one frame's probabilities.

        :param classes: K, sum to 1.
        :param now: when the frame was captured, ns; later than the one before.
        """
        log: Floats = np.log(np.maximum(classes, _FLOOR))
        self._named.append(int(np.argmax(classes)))
        if self._log is None or self._log.shape != log.shape:
            self._log, self._began = log, now
            self._label = int(np.argmax(classes))
            self._steady_since = now
            self._uncertain = False
            self._probabilities = _softmax(log)
        else:
            elapsed_s, age_s = (now - self._at) * 1e-9, (now - self._began) * 1e-9
            weight = max(share(elapsed_s, self._settings.class_time_s), elapsed_s / (age_s + elapsed_s))
            self._log += weight * (log - self._log)
            self._probabilities = _softmax(self._log)
        self._at = now
        self._decide(now)
        return self.verdict()

    @property
    def begun(self) -> bool:
        """Whether there is any evidence."""
        return self._log is not None

    def verdict(self) -> Verdict:
        """Repeat the last verdict; there must be evidence."""
        held_s = (self._at - self._steady_since) * 1e-9
        stable = held_s >= self._settings.stable_after_s
        return Verdict(self._probabilities, self._label, stable, self._uncertain)

    def _decide(self, now: int) -> None:
        settings, probabilities = self._settings, self._probabilities
        best = int(np.argmax(probabilities))
        leads = probabilities[best] - probabilities[self._label] > settings.label_margin
        if leads and self._named.count(best) >= _AGREEING:
            self._label, self._steady_since = best, now
        shown = float(probabilities[self._label])
        rivals = (each for k, each in enumerate(probabilities.tolist()) if k != self._label)
        lead = shown - max(rivals, default=0.0)
        limit = settings.certain_above if self._uncertain else settings.uncertain_below
        self._uncertain = lead < limit
        if self._uncertain or shown < settings.stable_above:
            self._steady_since = now


def _softmax(log: Floats) -> Floats:
    raised = np.exp(log - log.max())
    probabilities: Floats = raised / raised.sum()
    return probabilities
