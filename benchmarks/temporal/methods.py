"""Ways to steady a network's answers: ours, and the plain ones that it must beat."""

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.temporal.network import Answer
from benchmarks.temporal.sequences import Instant
from streamer.frame import Pixels
from streamer.smoothing import Memory, Smoother, SmoothingSettings, ViewChange
from streamer.smoothing.motion import Motion


class Shown(NamedTuple):
    """What a method would show."""

    lesion: Pixels
    classes: NDArray[np.float32]
    label: int
    forget_tracks: bool = False
    motion: Motion | None = None
    change: ViewChange | None = None


class Method(Protocol):
    """Steadies one sequence."""

    def show(self, instant: Instant, answer: Answer) -> Shown:
        """Take an instant's answer and say what to show."""


class Raw:
    """Every answer as it is."""

    def show(self, instant: Instant, answer: Answer) -> Shown:  # noqa: ARG002
        """Show it."""
        return Shown(answer.lesion, answer.classes, int(np.argmax(answer.classes)))


class Exponential:
    """A plain exponential average with a fixed weight for every frame."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._lesion: NDArray[np.float32] | None = None

    def show(self, instant: Instant, answer: Answer) -> Shown:  # noqa: ARG002
        """Move the average."""
        if self._lesion is None:
            self._lesion, self._classes = answer.lesion.astype(np.float32), answer.classes.copy()
        self._lesion += np.float32(self._weight) * (answer.lesion - self._lesion)
        self._classes += np.float32(self._weight) * (answer.classes - self._classes)
        rounded = np.rint(self._lesion).astype(np.uint8)
        return Shown(rounded, self._classes.copy(), int(np.argmax(self._classes)))


class Median:
    """The median of the last 3 or 5 frames, cell by cell and class by class."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._lesions: deque[Pixels] = deque(maxlen=frames)
        self._classes: deque[NDArray[np.float32]] = deque(maxlen=frames)

    def show(self, instant: Instant, answer: Answer) -> Shown:  # noqa: ARG002
        """Take the middle."""
        for _ in range(1 if self._lesions else self._frames):
            self._lesions.append(answer.lesion)
            self._classes.append(answer.classes)
        classes = np.median(np.stack(list(self._classes)), axis=0)
        return Shown(_middle(*self._lesions), classes.astype(np.float32), int(np.argmax(classes)))


def _middle(a: Pixels, b: Pixels, c: Pixels, d: Pixels | None = None, e: Pixels | None = None) -> Pixels:
    """Return the median of three or five maps, which comparing pairs finds without sorting."""
    if d is not None and e is not None:
        low = np.maximum(np.minimum(a, b), np.minimum(c, d))
        high = np.minimum(np.maximum(a, b), np.maximum(c, d))
        a, b, c = low, high, e
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


class Ours:
    """The smoother of the live path."""

    def __init__(self, settings: SmoothingSettings | None = None) -> None:
        self._smoother = Smoother(settings)

    def show(self, instant: Instant, answer: Answer) -> Shown:
        """Smooth it."""
        smoothed = self._smoother.update(
            instant.view,
            answer.lesion,
            answer.classes,
            round((1 + instant.time_s) * 1e9),
            (instant.view.shape[0], instant.view.shape[1]),
        )
        return Shown(
            smoothed.lesion.copy(),
            smoothed.classes,
            smoothed.label,
            smoothed.forgets(Memory.TRACKS),
            smoothed.motion,
            smoothed.change,
        )
