"""Chooses the model, as `choice` chooses the engine: the most accurate that ships and keeps up here.

Accuracy is what the cards say of the same real images; speed is measured, once for each model, machine and
batch. A model keeps up if its 99th percentile leaves a quarter of the frame interval to everything else that
is done to a frame: decoding, resizing, smoothing, outlines.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.artifact import Artifact, ArtifactError, ModelCard, load_artifact, zoo_names
from models.runtimes import Precision, available, cpu, load
from models.runtimes.base import EngineError, Session

logger = logging.getLogger(__name__)

JUDGED_ON = "busi_heldout"
"""The figures of a card that models are compared by: real images that nothing was fitted to."""
SHARE = 0.75
"""Of the frame interval, for the engine's slowest calls but one in a hundred."""
BUDGET_S = 1.5
_WARM_UP = 3
_MIN_CALLS, _MAX_CALLS = 100, 300


class Rung(msgspec.Struct, frozen=True):
    """One model that ships."""

    name: str
    version: str
    sha256: str
    accuracy: float | None
    """Mean of lesion Dice and AUC on the real images held out; None where the card does not say."""
    runtime: str = ""
    precision: str = ""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """Of one call with a frame of every source; None if it could not be run."""
    problem: str = ""
    """Why it is not to be had."""


class Ladder(msgspec.Struct, frozen=True):
    """The models that ship, on this machine."""

    rungs: tuple[Rung, ...]
    """Most accurate first; those that cannot be taken last."""
    taken: str
    """Name of the one that is taken."""
    interval_ms: float
    """Between two frames."""

    @property
    def keeps_up(self) -> bool:
        """Whether the one that is taken meets the frame interval."""
        return _meets(self._taken, self.interval_ms)

    @property
    def reason(self) -> str:
        """Say why, on one line."""
        rung = self._taken
        timed = f"p99 {rung.p99_ms:.3g} ms of {self.interval_ms:.3g} ms between frames"
        others = [each for each in self.rungs if each.p99_ms is not None]
        if not self.keeps_up:
            which = "the only model that ships" if len(others) == 1 else "the fastest of those that ship"
            return f"{which}, too slow for every frame on this machine: {timed}"
        if len(others) == 1:
            return f"the only model that ships, fast enough: {timed}"
        return f"the most accurate of {len(others)} that is fast enough: {timed}"

    @property
    def _taken(self) -> Rung:
        return next(rung for rung in self.rungs if rung.name == self.taken)


class _Timing(msgspec.Struct, frozen=True):
    runtime: str
    precision: str
    p50_ms: float
    p99_ms: float


def climb(
    *,
    fps: float,
    runtime: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    batch: int = 1,
    classes: Sequence[str] = (),
    cache_dir: Path | None = None,
    load_into: Callable[..., Session] = load,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Artifact, Ladder]:
    """Choose the most accurate model that ships and keeps up; if none does, the fastest.

    :param fps: frames per second of the fastest source.
    :param runtime: engine to run them in, as for `models.runtimes.load`, like `precision` and `threads`.
    :param batch: frames in one call: the number of sources.
    :param classes: names of classes it must have, in order; empty: any.
    :param cache_dir: where what was measured is kept; None: nowhere.
    :param load_into: loads a model into an engine.
    :param clock: in seconds.
    :return: the model, and how all of them did.
    :raises ArtifactError: if no model ships that has those classes and is whole.
    :raises EngineError: if none of them can be run; what the most accurate one's engine said.
    """
    artifacts: dict[str, Artifact] = {}
    rungs: list[Rung] = []
    problems: list[Exception] = []
    for name in zoo_names():
        try:
            artifact = load_artifact(name)
        except ArtifactError as error:
            problems.append(error)
            continue
        card = artifact.card
        if classes and tuple(classes) != card.classes:
            continue
        rung = Rung(name, card.version, artifact.sha256, accuracy(card))
        if rung.accuracy is None:
            problem = f"its card has no lesion Dice and AUC on {JUDGED_ON}"
            rungs.append(msgspec.structs.replace(rung, problem=problem))
            continue
        wanted = {"runtime": runtime, "precision": precision, "threads": threads, "max_batch": batch}
        try:
            timing = _timing(artifact, wanted, cache_dir, load_into, clock)
        except EngineError as error:
            problems.append(error)
            rungs.append(msgspec.structs.replace(rung, problem=str(error)))
            continue
        artifacts[name] = artifact
        rungs.append(msgspec.structs.replace(rung, **msgspec.structs.asdict(timing)))
    if not artifacts:
        if problems:
            raise problems[0]
        raise ArtifactError(
            "model.artifact is auto, but no model that ships "
            + (f"has the classes {', '.join(classes)}; " if classes else "says how accurate it is; ")
            + "name an .onnx file"
        )
    rungs.sort(key=lambda rung: (rung.p99_ms is None, -(rung.accuracy or 0), rung.p99_ms or 0))
    ladder = Ladder(tuple(rungs), _take(rungs, 1e3 / fps), 1e3 / fps)
    return artifacts[ladder.taken], ladder


def accuracy(card: ModelCard) -> float | None:
    """Mean of lesion Dice and AUC on the real images held out, 0 to 1; None where the card does not say.

    Both count alike: the model is there to say where and what.
    """
    figures: Any = card.metrics.get(JUDGED_ON)
    try:
        return (float(figures["dice"]["value"]) + float(figures["auc"]["value"])) / 2
    except (KeyError, TypeError, ValueError):
        return None


def _take(rungs: list[Rung], interval_ms: float) -> str:
    runnable = [rung for rung in rungs if rung.p99_ms is not None]
    fit = [rung for rung in runnable if _meets(rung, interval_ms)]
    return fit[0].name if fit else min(runnable, key=lambda rung: rung.p99_ms or 0.0).name


def _meets(rung: Rung, interval_ms: float) -> bool:
    return rung.p99_ms is not None and rung.p99_ms <= SHARE * interval_ms


def _timing(
    artifact: Artifact,
    wanted: dict[str, Any],
    cache_dir: Path | None,
    load_into: Callable[..., Session],
    clock: Callable[[], float],
) -> _Timing:
    """Measure a model, or remember what was measured."""
    # Whatever may change how fast it is; the processor too, since homes are shared by machines.
    engines = [(engine.name, engine.version) for engine in available(automatic=True) if engine.usable]
    machine = [engines, cpu.name(), cpu.notable_flags(), cpu.usable_cores()]
    said = json.dumps([artifact.sha256, wanted, machine])
    key = hashlib.sha256(said.encode()).hexdigest()[:32]
    file = None if cache_dir is None else cache_dir / "ladder" / f"{key}.json"
    if file is not None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=_Timing)
        except (OSError, msgspec.DecodeError):  # never written, or not by us: measure again
            pass
    session = load_into(artifact, cache_dir=cache_dir, **wanted)
    try:
        timing = _measure(session, clock)
    finally:
        session.close()
    _write(file, timing)
    return timing


def _measure(session: Session, clock: Callable[[], float]) -> _Timing:
    session.warm_up()
    frames = session.input(session.max_batch)
    frames[...] = np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)
    for _ in range(_WARM_UP):
        session.infer(session.max_batch)
    times: list[float] = []
    end = clock() + BUDGET_S
    while len(times) < _MIN_CALLS or (len(times) < _MAX_CALLS and clock() < end):
        start = clock()
        session.infer(session.max_batch)
        times.append((clock() - start) * 1e3)
    p50, p99 = np.percentile(times, (50, 99))
    ran = session.description
    return _Timing(ran.name, ran.precision, round(float(p50), 4), round(float(p99), 4))


def _write(file: Path | None, timing: _Timing) -> None:
    if file is None:
        return
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(timing))
        partial.replace(file)
    except OSError as error:
        logger.warning("what was measured is not kept for the next start: %s: %s", file.parent, error)
