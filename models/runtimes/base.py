"""What every engine has in common: a session with its own buffers, and the errors it raises.

EngineError
 +-- EngineUnavailable    not installed, no such device, or it cannot compute in the precision asked for
 +-- EngineFailed         it refused the model, or a call raised
 +-- FramesInvalid        the caller's frames do not fit the session
 +-- PredictionInvalid    it answered, but not with probabilities of the right shape
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.artifact import CLASSES, LESION, ModelCard

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
"""What an engine computes in. `auto` is the fastest that the processor has instructions for."""

_TOLERANCE = 1e-2  # bfloat16 has eight bits: a probability of 1 may come out as 1.004


class EngineError(RuntimeError):
    """Base of everything a session raises; the message is written for the person who runs it."""


class EngineUnavailable(EngineError):
    """The engine cannot be used here; says what is missing and how to get it."""


class EngineFailed(EngineError):
    """The engine refused the model or a call raised; carries the engine's own words."""


class FramesInvalid(EngineError, ValueError):
    """The frames do not fit the session's input."""


class PredictionInvalid(EngineError):
    """The engine's answer is not what the artifact promises."""


class Prediction(NamedTuple):
    """What a model says about n frames; views of the session's buffers, valid until its next call."""

    lesion: Pixels
    """[n, H, W]: probability that a pixel belongs to a lesion, x 255."""
    classes: Probabilities
    """[n, K]: probabilities, in the order of the card's classes."""


@dataclass(frozen=True, slots=True)
class RuntimeDescription:
    """Which engine runs a model, and how."""

    name: str
    version: str
    precision: str
    """What it computes in: `fp32`, `bf16`, `int8`."""
    device: str
    threads: int


class Session(ABC):
    """A model in an engine, with buffers of its own that every call reuses.

    Write up to `max_batch` frames into `input(n)`, then call `infer(n)`: nothing is copied or allocated but
    what the engine itself does. Not for two threads at a time.
    """

    batch_pays = True
    """Several frames in one call take clearly less time than one after the other, each answered at once."""

    def __init__(
        self,
        card: ModelCard,
        description: RuntimeDescription,
        *,
        max_batch: int,
        allocate: Callable[[tuple[int, ...], Any], NDArray[Any]] = np.zeros,
    ) -> None:
        """Allocate the buffers.

        :param card: of the model.
        :param description: of the engine.
        :param max_batch: most frames in one call, at least 1.
        :param allocate: makes an array of a shape and type; for engines that need memory of their own kind.
        """
        if max_batch < 1:
            raise FramesInvalid(f"max_batch is {max_batch}, expected at least 1")
        self.card = card
        self.description = description
        self.max_batch = max_batch
        size, count = card.input, len(card.classes)
        frames = allocate((max_batch, size.height, size.width, size.channels), np.uint8)
        lesion = allocate((max_batch, size.height, size.width), np.uint8)
        classes = allocate((max_batch, count), np.float32)
        self._frames: NDArray[Any] = frames
        self._outputs: dict[str, NDArray[Any]] = {LESION: lesion, CLASSES: classes}
        self._inputs: list[Pixels] = [frames[:n] for n in range(1, max_batch + 1)]
        self._predictions = [Prediction(lesion[:n], classes[:n]) for n in range(1, max_batch + 1)]
        self._closed = False

    def input(self, n: int = 1) -> Pixels:
        """Return the session's own input buffer, [n, H, W, C], to be written in place.

        :raises FramesInvalid: if n is not 1 to `max_batch`.
        """
        self._check_batch(n)
        return self._inputs[n - 1]

    def infer(self, n: int = 1) -> Prediction:
        """Run the model on the first n frames of the input buffer.

        :return: views of the output buffers, overwritten by the next call.
        :raises FramesInvalid: if n is not 1 to `max_batch`.
        :raises EngineFailed: if the engine raised.
        :raises PredictionInvalid: if the answer is not finite probabilities.
        """
        self._check_batch(n)
        prediction = self._predictions[n - 1]
        classes = prediction.classes
        # An engine that leaves its output untouched must not pass the last frame's answer off as this one's.
        classes.fill(np.nan)
        self._run(n)
        # Comparisons with NaN are false, so this refuses it too.
        if not (classes.min() >= -_TOLERANCE and classes.max() <= 1 + _TOLERANCE):
            raise PredictionInvalid(
                f"{self.description.name} ({self.description.precision}) returned class probabilities that "
                f"are not numbers from 0 to 1: {classes.tolist()}; if it persists, try precision fp32"
            )
        return prediction

    def predict(self, frames: Pixels) -> Prediction:
        """Copy frames into the input buffer and run the model on them.

        :param frames: uint8 [n, H, W, C], n up to `max_batch`.
        :return: views of the output buffers, overwritten by the next call.
        :raises FramesInvalid: if shape or type is another.
        :raises EngineFailed: if the engine raised.
        :raises PredictionInvalid: if the answer is not finite probabilities.
        """
        size = self.card.input
        expected = (size.height, size.width, size.channels)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
            raise FramesInvalid(
                f"{self.card.name} reads uint8 frames [n, {size.height}, {size.width}, {size.channels}], "
                f"got {frames.dtype} {list(frames.shape)}; resize them first"
            )
        n = len(frames)
        np.copyto(self.input(n), frames)
        return self.infer(n)

    def warm_up(self) -> None:
        """Run what will be called once, so that no later call pays for a first one.

        That is every batch size where batches pay, else one frame and as many as there is room for.

        :raises EngineFailed: if the engine raised.
        :raises PredictionInvalid: if the answer is not what the artifact promises.
        """
        self.input(self.max_batch).fill(0)
        for n in range(1, self.max_batch + 1) if self.batch_pays else sorted({1, self.max_batch}):
            self.infer(n)

    def close(self) -> None:
        """Release the engine; safe to call twice."""
        self._closed = True
        self._release()

    @abstractmethod
    def _run(self, n: int) -> None:
        """Read the first n frames of the input buffer and write as many answers to the output buffers."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the engine's objects."""

    def _check_batch(self, n: int) -> None:
        if self._closed:
            raise EngineFailed("the session is closed; load the model again")
        if not 1 <= n <= self.max_batch:
            raise FramesInvalid(f"a batch of {n} frames, expected 1 to max_batch = {self.max_batch}")

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def engine_words(error: Exception) -> str:
    """What an engine's exception says, on one line, without the places in its own source."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(said)[:400] or type(error).__name__
