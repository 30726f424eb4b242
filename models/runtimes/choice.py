"""Chooses the engine by measuring those that are usable, once for each model and machine.

Which is fastest cannot be known beforehand: in bf16 OpenVINO is several times as fast as ONNX Runtime;
without bf16 it is 2.6 times slower than it on MTL-OCA, where every GroupNorm costs two changes of layout.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import numpy as np

from models.artifact import Artifact
from models.runtimes import cpu
from models.runtimes.base import EngineError, Session

logger = logging.getLogger(__name__)

BUDGET_S = 2.0
"""How long to try engines; the one that is being loaded when it ends is still finished."""
_WARM_UP = 2
_MIN_ROUNDS, _MAX_ROUNDS = 5, 60
_HOPELESS = 1.3
"""An engine this much slower than the best is not measured on."""


class Candidate(NamedTuple):
    """An engine and what it would compute in."""

    runtime: str
    version: str
    precision: str


class Timing(msgspec.Struct, frozen=True):
    """How long one frame took in an engine."""

    runtime: str
    precision: str
    ms: float
    """Median of one frame."""


class Choice(msgspec.Struct, frozen=True):
    """The engine that `auto` takes, and why."""

    runtime: str
    precision: str
    timings: tuple[Timing, ...] = ()
    """Fastest first; empty where there was nothing to choose from."""
    failed: tuple[str, ...] = ()
    """What engines said that could not run the model."""

    @property
    def reason(self) -> str:
        """Say why, on one line."""
        if self.runtime == "tensorrt":
            return "there is an NVIDIA GPU for it"
        if not self.timings:
            return "the only engine that is usable here"
        measured = ", ".join(f"{t.runtime} {t.precision} {t.ms:.3g} ms" for t in self.timings)
        rest = f"; could not run it: {'; '.join(self.failed)}" if self.failed else ""
        return f"measured on this machine, one frame: {measured}{rest}"


_remembered: dict[str, Choice] = {}


def choose_fastest(
    artifact: Artifact,
    candidates: list[Candidate],
    load: Callable[[Candidate], Session],
    *,
    threads: int,
    cache_dir: Path | None,
) -> Choice:
    """Take the fastest of some engines for a model: as remembered, or by measuring now.

    :param artifact: the model.
    :param candidates: at least one, the one that is fastest more often than not first.
    :param load: loads the model into one of them, for one frame.
    :param threads: that the engines will use.
    :param cache_dir: where choices are kept; None: in this process only.
    :raises EngineError: if none can run the model; what the first said.
    """
    if len(candidates) == 1:
        return Choice(candidates[0].runtime, candidates[0].precision)
    key = _key(artifact, candidates, threads)
    file = None if cache_dir is None else cache_dir / "choices" / f"{key}.json"
    choice = _remembered.get(key) or _read(file, candidates)
    if choice is None:
        choice = _measure(artifact, candidates, load)
        logger.info("auto takes %s in %s: %s", choice.runtime, choice.precision, choice.reason)
        _write(file, choice)
    _remembered[key] = choice
    return choice


def recall(artifact: Artifact, asked: Sequence[object], cache_dir: Path | None) -> Choice | None:
    """Look up what was chosen for a model before, without importing an engine to ask it; None if unknown.

    :param asked: all else that the choice depends on, but for the processor; JSON.
    """
    file = _file_of(artifact, asked, cache_dir)
    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Choice)
    except (OSError, msgspec.DecodeError):
        return None


def remember(artifact: Artifact, asked: Sequence[object], cache_dir: Path | None, choice: Choice) -> None:
    """Keep a choice for `recall`."""
    _write(_file_of(artifact, asked, cache_dir), choice)


def _file_of(artifact: Artifact, asked: Sequence[object], cache_dir: Path | None) -> Path | None:
    if cache_dir is None:
        return None
    said = json.dumps([artifact.sha256, asked, cpu.name(), cpu.notable_flags()])
    return cache_dir / "choices" / f"asked-{hashlib.sha256(said.encode()).hexdigest()[:32]}.json"


def _key(artifact: Artifact, candidates: list[Candidate], threads: int) -> str:
    # Whatever may change which is fastest; the processor too, since homes are shared by machines.
    said = json.dumps([artifact.sha256, candidates, threads, cpu.name(), cpu.notable_flags()])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _measure(artifact: Artifact, candidates: list[Candidate], load: Callable[[Candidate], Session]) -> Choice:
    end = time.perf_counter() + BUDGET_S
    size = artifact.card.input
    frame = np.random.default_rng(0).integers(
        0, 256, (1, size.height, size.width, size.channels), dtype=np.uint8
    )
    sessions: dict[Candidate, Session] = {}
    failures: list[EngineError] = []
    try:
        for candidate in candidates:
            if sessions and time.perf_counter() > end:
                logger.info("no time left to try %s in %s", candidate.runtime, candidate.precision)
                continue
            try:
                session = load(candidate)
                for _ in range(_WARM_UP):
                    session.predict(frame)
            except EngineError as error:
                failures.append(error)
            else:
                sessions[candidate] = session
        if not sessions:
            raise failures[0]
        times = _interleave(sessions, end)
    finally:
        for session in sessions.values():
            session.close()
    timings = sorted(
        (Timing(c.runtime, c.precision, round(median(ms), 4)) for c, ms in times.items()), key=lambda t: t.ms
    )
    return Choice(
        timings[0].runtime, timings[0].precision, tuple(timings), tuple(str(error) for error in failures)
    )


def _interleave(sessions: dict[Candidate, Session], end: float) -> dict[Candidate, list[float]]:
    """Time engines in turn, so that whatever else the machine does slows all of them alike."""
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in sessions}
    running = dict(sessions)
    for round_ in range(_MAX_ROUNDS):
        for candidate, session in running.items():
            start = time.perf_counter()
            session.infer(1)
            times[candidate].append((time.perf_counter() - start) * 1e3)
        if round_ + 1 >= _MIN_ROUNDS:
            best = min(median(ms) for ms in times.values())
            running = {c: s for c, s in running.items() if median(times[c]) <= _HOPELESS * best}
            if len(running) == 1 or time.perf_counter() > end:
                break
    return times


def _read(file: Path | None, candidates: list[Candidate]) -> Choice | None:
    if file is None:
        return None
    try:
        choice = msgspec.json.decode(file.read_bytes(), type=Choice)
    except (OSError, msgspec.DecodeError):  # never written, or not by us: measure again
        return None
    known = {(candidate.runtime, candidate.precision) for candidate in candidates}
    return choice if (choice.runtime, choice.precision) in known else None


def _write(file: Path | None, choice: Choice) -> None:
    if file is None:
        return
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(choice))
        partial.replace(file)
    except OSError as error:
        logger.warning(
            "the choice of engine is not kept for the next start: %s: %s",
            file.parent,
            error.strerror or error,
        )
