"""Phantom sequences with their truth: a probe lift, a cut, and lesions that come and go."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.fit import Fitter
from streamer.frame import Pixels
from streamer.sources.phantom import Phantom, PhantomFrame

CLASSES = ("normal", "benign", "malignant")
BASE_FPS = 60
"""Every rate divides this one, so that all rates show the same instants."""
_PICTURE = (320, 240)
_SEARCH_S = 100.0


class Instant(NamedTuple):
    """What is shown at one instant, and what is true then."""

    time_s: float
    number: int
    """Of the instant at the base rate."""
    view: Pixels
    """H x W gray, at the network's size."""
    truth: Pixels
    """H x W: how much of each cell is lesion, 0 to 255."""
    label: int
    scene: int
    """Changes with every cut."""
    contact: bool
    lesion: int | None
    """Number of the lesion in view, or None."""


def make_sequence(seed: int, seconds: float, size: tuple[int, int]) -> list[Instant]:
    """Render a sequence at the base rate: half of it around a probe lift, then a cut to another place.

    :param size: (width, height) of the network's input.
    """
    half = int(seconds / 2 * BASE_FPS)
    first, second = (
        Phantom(seed=seed + 1000 * part, width=_PICTURE[0], height=_PICTURE[1], fps=BASE_FPS)
        for part in range(2)
    )
    lift = _find_lift(first)
    start = max(0, lift - half * 2 // 3)
    frames = [(0, first.frame(start + n)) for n in range(half)]
    frames += [(100, second.frame(2 * BASE_FPS + n)) for n in range(half)]
    fitter = Fitter(*size)
    return [_instant(number, part, frame, fitter, size) for number, (part, frame) in enumerate(frames)]


def at_rate(sequence: list[Instant], fps: int) -> list[Instant]:
    """Show a sequence at a lower rate.

    :param fps: divides the base rate.
    """
    return sequence[:: BASE_FPS // fps]


def with_drops(sequence: list[Instant], seed: int, *, part: float = 0.05, bursts: int = 2) -> list[Instant]:
    """Lose single frames, and now and then a quarter of a second."""
    rng = np.random.default_rng([seed, 41])
    lost = rng.random(len(sequence)) < part
    for _ in range(bursts):
        start_s = rng.uniform(1, sequence[-1].time_s - 1)
        lost |= [start_s <= instant.time_s < start_s + 0.25 for instant in sequence]
    lost[0] = False
    return [instant for instant, gone in zip(sequence, lost, strict=True) if not gone]


def _find_lift(phantom: Phantom) -> int:
    step = BASE_FPS // 2
    for index in range(0, int(_SEARCH_S * BASE_FPS), step):
        if not phantom.frame(index).contact:
            return index
    raise ValueError(f"the phantom of seed {phantom.seed} has no lift within {_SEARCH_S:g} s")


def _instant(number: int, part: int, frame: PhantomFrame, fitter: Fitter, size: tuple[int, int]) -> Instant:
    view = np.empty((size[1], size[0], 1), np.uint8)
    fitter.fit(frame.pixels, view)
    truth: NDArray[np.uint8] = np.asarray(cv2.resize(frame.lesion_mask, size, interpolation=cv2.INTER_AREA))
    lesion = max(frame.instances, key=lambda seen: seen.visible_fraction, default=None)
    return Instant(
        number / BASE_FPS,
        number,
        view[:, :, 0],
        truth,
        CLASSES.index(frame.label),
        part + frame.scene,
        frame.contact,
        None if lesion is None else 100_000 * part + lesion.id,
    )
