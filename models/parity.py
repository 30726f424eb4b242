"""How far an artifact's answers are from PyTorch's, in every engine and precision that is usable here."""

import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact import Artifact
from models.checkpoint import Checkpoint
from models.deployed import Deployed
from models.runtimes import ENGINES, RuntimeStatus, available, load
from models.runtimes.base import Pixels, Probabilities

_THRESHOLD = 128
_TIMED_FRAMES = 5


class Bound(NamedTuple):
    """How far a precision may be from FP32 in PyTorch."""

    dice: float
    """At least, between the thresholded masks; mean over the frames."""
    classes: float
    """At most, of any class probability."""
    agreement: float
    """At least, the share of frames with the same label."""


# Labels: 99 % of frames. Dice: FP32 differs by rounding at the threshold; sixteen and eight bits move an edge
# by a fraction of a pixel, which on a lesion of 40 pixels across is a Dice of 0.97.
BOUNDS = {
    "fp32": Bound(dice=0.998, classes=2e-3, agreement=1.0),
    "fp16": Bound(dice=0.99, classes=0.03, agreement=0.99),
    "bf16": Bound(dice=0.97, classes=0.15, agreement=0.99),
    "int8": Bound(dice=0.97, classes=0.15, agreement=0.99),
}


class Parity(msgspec.Struct, frozen=True):
    """One engine and precision against PyTorch in FP32, on the same frames."""

    runtime: str
    precision: str
    frames: int
    lesion_max: int
    """Of 255 levels."""
    lesion_mean: float
    """Of 255 levels."""
    dice: float
    """Between the masks at one half; mean over frames. 1 where both are empty."""
    classes_max: float
    agreement: float
    """Share of frames with the same label."""
    latency_ratio: float
    """PyTorch's median time for one frame over the engine's."""
    within: bool
    """Of the precision's bound."""


class Answers(NamedTuple):
    """What PyTorch says in FP32."""

    lesion: Pixels
    classes: Probabilities
    call: Callable[[Pixels], object]
    """One frame, for timing."""


def reference(checkpoint: Checkpoint, frames: Pixels) -> Answers:
    """Run the network in PyTorch, in FP32.

    :param frames: N x H x W x C uint8.
    """
    deployed = Deployed(checkpoint.network.eval(), checkpoint.card.temperature)

    def call(batch: Pixels) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.inference_mode():
            lesion, classes = deployed(torch.from_numpy(batch))
        return lesion.numpy(), classes.numpy()

    answers = [call(frames[row : row + 1]) for row in range(len(frames))]
    return Answers(
        np.concatenate([lesion for lesion, _ in answers]),
        np.concatenate([classes for _, classes in answers]),
        call,
    )


def measure_parity(
    artifact: Artifact, expected: Answers, frames: Pixels, *, runtimes: Iterable[str] | None = None
) -> list[Parity]:
    """Run an artifact in the engines that are usable here.

    :param artifact: the exported file.
    :param expected: what the network says about the same frames.
    :param frames: N x H x W x C uint8.
    :param runtimes: names; None: all that run files.
    :raises EngineError: if an engine that is usable cannot run the file.
    """
    rows = []
    for status in available(automatic=True):
        if status.usable and (runtimes is None or status.name in runtimes):
            rows += [
                _measure(artifact, status, each, expected, frames) for each in _precisions(artifact, status)
            ]
    return rows


def _precisions(artifact: Artifact, status: RuntimeStatus) -> tuple[str, ...]:
    precision, target = artifact.card.precision, artifact.card.quantization
    if status.name == "tensorrt":
        # It computes in the file's precision, and reads no file that was quantised for processors.
        return () if target == "cpu" else (precision,)
    if target == "tensorrt":
        return ("fp32",) if status.name == "onnxruntime" else ()
    if precision == "int8" and "bf16" in status.precisions:
        return tuple(each for each in status.precisions if each != "fp32")
    return status.precisions


def _measure(
    artifact: Artifact, status: RuntimeStatus, precision: str, expected: Answers, frames: Pixels
) -> Parity:
    with load(artifact, status.name, precision=precision) as session:  # type: ignore[arg-type]
        lesion, classes = np.empty_like(expected.lesion), np.empty_like(expected.classes)
        for row in range(len(frames)):
            prediction = session.predict(frames[row : row + 1])
            lesion[row], classes[row] = prediction.lesion[0], prediction.classes[0]
        ratio = _latency_ratio(expected.call, session.predict, frames[:1])
        computed = session.description.precision
    levels = np.abs(lesion.astype(np.int16) - expected.lesion)
    # FP32 in name, but of a graph whose weights are narrower.
    bound = BOUNDS[artifact.card.precision if computed == "fp32" else computed]
    dice = float(np.mean([_dice(a, b) for a, b in zip(lesion, expected.lesion, strict=True)]))
    classes_max = float(np.abs(classes - expected.classes).max())
    agreement = float(np.mean(classes.argmax(axis=1) == expected.classes.argmax(axis=1)))
    return Parity(
        runtime=status.name,
        precision=computed if computed != "fp32" else artifact.card.precision,
        frames=len(frames),
        lesion_max=int(levels.max()),
        lesion_mean=round(float(levels.mean()), 4),
        dice=round(dice, 5),
        classes_max=round(classes_max, 6),
        agreement=round(agreement, 4),
        latency_ratio=round(ratio, 2),
        within=dice >= bound.dice and classes_max <= bound.classes and agreement >= bound.agreement,
    )


def _dice(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    first, second = a >= _THRESHOLD, b >= _THRESHOLD
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def _latency_ratio(
    slow: Callable[[Pixels], object], fast: Callable[[Pixels], object], frame: Pixels
) -> float:
    """Time both in turn, so that whatever else the machine does slows both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED_FRAMES):
        for call, spent in zip((slow, fast), times, strict=True):
            start = time.perf_counter()
            call(frame)
            spent.append(time.perf_counter() - start)
    return median(times[0]) / median(times[1])


def unusable() -> list[str]:
    """Say of the engines that were left out why, a line each."""
    return [
        f"{status.name}: {status.reason}"
        for status in available(automatic=True)
        if not status.usable and ENGINES[status.name].reads == "artifact"
    ]
