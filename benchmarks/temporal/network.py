"""What a network says about each instant: a real one, or one simulated from the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.temporal.sequences import CLASSES, Instant
from models.runtimes import Session
from streamer.frame import Pixels


class Answer(NamedTuple):
    """The answer to one instant."""

    lesion: Pixels
    """H x W, 0 to 255."""
    classes: NDArray[np.float32]


class Network(Protocol):
    """Answers instants, one by one."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of its input."""

    @property
    def classes(self) -> Sequence[str]:
        """Their names, in the order of its answers."""

    def answer(self, instant: Instant) -> Answer:
        """Say what is in an instant's view."""


@dataclass(frozen=True)
class Noise:
    """How a simulated network errs, anew in every frame."""

    outline: float = 1.2
    """Jitter of the outline, standard deviation in cells of a map of 128."""
    dropout: float = 0.03
    """Chance that a frame's lesion is missed."""
    blob: float = 0.03
    """Chance that a lesion is seen where none is."""
    logits: float = 1.0
    """Standard deviation of every class logit; the true class leads by 3."""
    flip: float = 0.04
    """Chance that a frame is taken for another class."""


STRENGTHS = {
    "clean": Noise(0, 0, 0, 0, 0),
    "usual": Noise(),
    "noisy": Noise(outline=2.5, dropout=0.08, blob=0.08, logits=1.6, flip=0.10),
}
_EDGE = 1.2 / 128
"""Width of the outline's slope."""
_LEAD = 3.0


class SimulatedNetwork:
    """The truth with errors of known strength, independent from frame to frame.

    It makes the judgement independent of one model. Its errors have no memory: a real network's mistakes
    that last are not in it, and smoothing could not help against them.
    """

    classes = CLASSES

    def __init__(self, size: tuple[int, int], noise: Noise, seed: int) -> None:
        self.size = size
        self._noise, self._seed = noise, seed
        self._cell = max(size) / 128

    def answer(self, instant: Instant) -> Answer:
        """Draw the answer; the same instant always gets the same one, at any frame rate."""
        rng = np.random.default_rng([self._seed, 43, instant.number])
        noise = self._noise
        lesion = self._outlined(instant.truth, rng)
        if rng.random() < noise.dropout:
            lesion *= 0.25
        if rng.random() < noise.blob:
            width, height = self.size
            blob = np.zeros(instant.truth.shape, np.uint8)
            centre = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
            cv2.circle(blob, centre, round(rng.uniform(5, 9) * self._cell), 255, cv2.FILLED)
            np.maximum(lesion, self._outlined(blob, rng), out=lesion)
        label = instant.label
        if rng.random() < noise.flip:
            label = (label + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
        logits = rng.normal(0, noise.logits, len(CLASSES)) + _LEAD * (np.arange(len(CLASSES)) == label)
        raised = np.exp(logits - logits.max())
        return Answer(np.rint(255 * lesion).astype(np.uint8), (raised / raised.sum()).astype(np.float32))

    def _outlined(self, truth: Pixels, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return probabilities that fall over the jittered outline."""
        inside = np.where(truth >= 128, np.uint8(255), np.uint8(0))
        if not inside.any():
            return np.zeros(truth.shape, np.float32)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
            255 - inside, cv2.DIST_L2, 5
        )
        depth = np.asarray(cv2.blur(depth, (3, 3)))
        if self._noise.outline:
            rows, columns = truth.shape
            field = rng.normal(size=(rows // 8 + 1, columns // 8 + 1)).astype(np.float32)
            jitter = np.asarray(cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC))
            depth = depth + jitter * (self._noise.outline * self._cell / float(field.std() or 1))
        slope = np.clip(depth / (_EDGE * max(truth.shape)), -30, 30)
        return np.asarray(1 / (1 + np.exp(-slope)), np.float32)


class ArtifactNetwork:
    """An exported model."""

    def __init__(self, session: Session) -> None:
        self._session = session
        size = session.card.input
        self.size = (size.width, size.height)
        self.classes = session.card.classes

    def answer(self, instant: Instant) -> Answer:
        """Run the model."""
        view = np.repeat(instant.view[None, :, :, None], self._session.card.input.channels, axis=3)
        prediction = self._session.predict(np.ascontiguousarray(view))
        classes = np.clip(prediction.classes[0], 0, 1)
        return Answer(prediction.lesion[0].copy(), classes / classes.sum())
