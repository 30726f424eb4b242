"""`sonostream bench overload`: more frames, or more feeds, than the machine can analyse.

What is delivered must stay as fresh as ever, and the rest be dropped at once and counted: no backlog. A feed
of raw phantom frames comes at given multiples of what the daemon delivers when it is flooded; then come
several feeds of 30 fps. A frame that is dropped has missed every deadline.
"""

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.daemon import BenchError, RunningDaemon, Usage, running_daemon
from benchmarks.feeds import Feeds, FeedSettings, phantom_uri
from benchmarks.figures import machine, percentiles, versions
from benchmarks.measured import Block, accounts, by_source, deadline_misses
from benchmarks.watch import (
    PROCESSES,
    FloorProcess,
    Introduction,
    Window,
    artifact_of,
    floor_process,
    watching,
)
from models.runtimes import cpu

SCHEMA = "sonostream.bench.overload/1"

SOURCES_FPS = 30.0
SOURCES_DEADLINE_MS = "33.3"
ANSWERED_SHARE = 0.99
"""So many of the frames due must be answered within the deadline: a p99 that drops cannot make better."""

_PRERENDERED = 60
_FLOODED = 0.8
"""A feed floods a daemon that analyses less than this part of it."""
_FIRST_FLOOD_FPS, _LAST_FLOOD_FPS = 200.0, 1000.0
_FLOOR_SAMPLES = 40
_START_WITHIN_S = 60.0


@dataclass(frozen=True)
class OverloadSettings:
    """What is run."""

    factors: tuple[float, ...] = (1.0, 1.5, 2.0, 4.0)
    """Rates of the feed, in parts of what the machine can do."""
    sources: tuple[int, ...] = (1, 2, 3, 4)
    """Numbers of 30 fps feeds."""
    width: int = 800
    height: int = 600
    seconds: float = 10.0
    """Of each step."""
    warm_up_s: float = 1.5
    repeats: int = 1
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"


class _Step(NamedTuple):
    block: Block
    in_flight: int
    """Most frames of one source that were waiting or being analysed, as far as looks at it saw."""


def run_overload(settings: OverloadSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes; durations in ms.
    :raises BenchError: if the daemon does not start, dies, or cannot be flooded.
    """
    with ExitStack() as stack:
        conductor = _Conductor(settings, progress, stack)
        capacity = conductor.capacity_fps()
        load: dict[str, list[_Step]] = defaultdict(list)
        sources: dict[str, list[_Step]] = defaultdict(list)
        for _ in range(settings.repeats):
            for factor in settings.factors:
                load[f"{factor:g}"].append(conductor.step(capacity * factor, 1))
            for n in settings.sources:
                sources[str(n)].append(conductor.step(SOURCES_FPS, n))
        model = conductor.introduction.model
    repeats = [_tables(load, sources, repeat) for repeat in range(settings.repeats)]
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings) | {"factors": list(settings.factors), "sources": list(settings.sources)},
        "model": msgspec.to_builtins(model),
        "capacity_fps": round(capacity, 4),
        **_tables(load, sources, None),
        "repeats": repeats,
    }


class _Conductor:
    """Starts a daemon for every step and watches it."""

    def __init__(self, settings: OverloadSettings, progress: Progress, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._progress, self._task = progress, progress.add_task("preparing", total=None)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sonostream-bench-")))
        self._feed = FeedSettings(width=settings.width, height=settings.height)
        self._feeds = Feeds(self._feed, folder)
        self._arrived: Semaphore = PROCESSES.Semaphore(0)
        self._floor: FloorProcess | None = None
        self.introduction: Introduction

    def capacity_fps(self) -> float:
        """Flood a daemon and count what it delivers, frames a second."""
        rate = _FIRST_FLOOD_FPS
        while True:
            block = self.step(rate, 1).block
            answered = len(block.due_ns) / block.expected
            if answered < _FLOODED:
                return (len(block.due_ns) - 1) / ((block.done_ns[-1] - block.done_ns[0]) * 1e-9)
            if rate >= _LAST_FLOOD_FPS:
                raise BenchError(f"{rate:g} frames a second do not flood this machine: try a larger model")
            rate = min(_LAST_FLOOD_FPS, 2 * rate)

    def step(self, fps: float, sources: int) -> _Step:
        """Watch a daemon with so many feeds of that rate each; then the floor by itself."""
        settings = self._settings
        self._progress.update(self._task, description=f"{sources} x {fps:.1f} fps")
        flags = {
            "model.artifact": settings.artifact,
            "model.runtime": settings.runtime,
            "model.precision": settings.precision,
        }
        uris = [
            phantom_uri(replace(self._feed, fps=fps, seed=seed), prerender=_PRERENDERED)
            for seed in range(sources)
        ]
        with running_daemon(uris, flags) as daemon, watching(daemon.address) as watcher:
            self.introduction = watcher.introduction
            _wait_for_all(daemon)
            begin = time.monotonic() + settings.warm_up_s
            window = Window(begin, begin + settings.seconds)
            watcher.begin(window)
            usage = Usage(daemon, *window)
            in_flight = 0
            while time.monotonic() < window.end:
                usage.look()
                in_flight = max(in_flight, *(each["in_flight"] for each in daemon.status()["sources"]))
                time.sleep(min(0.25, max(0.0, window.end - time.monotonic())))
            usage.look()
            seen = [result for result in watcher.finish() if result.live]
            cpu_s = usage.cpu_s()
        if len(seen) < 2:
            raise BenchError(f"only {len(seen)} results arrived in {settings.seconds:g} s")
        expected = 0
        for results in by_source(seen).values():
            span_s = (results[-1].captured_ns - results[0].captured_ns) * 1e-9
            expected += round(span_s * fps) + 1
        block = Block(
            window=window,
            due_ns=[result.captured_ns for result in seen],
            done_ns=[result.received_ns for result in seen],
            interval_ms=1e3 / fps,
            cpu_s=cpu_s,
            memory_mib=usage.memory_mib,
            floor=self._warm_floor().by_itself(_FLOOR_SAMPLES, 0.03),
            expected=expected,
            seen=seen,
        )
        return _Step(block, in_flight)

    def _warm_floor(self) -> FloorProcess:
        model = self.introduction.model
        if self._floor is None:
            frames = self._feeds.for_floor(self.introduction.width, self.introduction.height)
            self._floor = self._stack.enter_context(
                floor_process(
                    artifact_of(self._settings.artifact, self.introduction),
                    frames,
                    self._arrived,
                    runtime=model.runtime,
                    precision=model.precision,
                    threads=cpu.usable_cores(),
                )
            )
        return self._floor


def _wait_for_all(daemon: RunningDaemon) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    while any(not source["analyzed"] for source in daemon.status()["sources"]):
        if time.monotonic() > deadline:
            raise BenchError(f"not every source was analysed within {_START_WITHIN_S:g} s")
        time.sleep(0.1)


def _tables(
    load: dict[str, list[_Step]], sources: dict[str, list[_Step]], repeat: int | None
) -> dict[str, Any]:
    """Figures of every step of one repeat, or of all repeats together."""

    def figures(steps: dict[str, list[_Step]]) -> dict[str, Any]:
        chosen = {name: each if repeat is None else each[repeat : repeat + 1] for name, each in steps.items()}
        return {name: _figures(each) for name, each in chosen.items() if each}

    by_sources = figures(sources)
    kept = itertools.takewhile(lambda name: _keeps_up(by_sources[name]), sorted(by_sources, key=int))
    by_load = figures(load)
    return {
        "load": by_load,
        "sources": by_sources,
        "largest_sources": max((int(name) for name in kept), default=0),
        "checks": _checks(by_load, by_sources),
    }


def _figures(steps: Sequence[_Step]) -> dict[str, Any]:
    blocks = [step.block for step in steps]
    latency = np.concatenate([block.latency_ms for block in blocks])
    expected = sum(block.expected for block in blocks)
    seconds = sum(block.window.end - block.window.begin for block in blocks)
    samples = [sample.total for block in blocks for sample in block.floor.samples]
    return {
        "interval_ms": round(blocks[0].interval_ms, 4),
        "frames_due": expected,
        "frames": len(latency),
        "answered_share": round(len(latency) / expected, 5),
        "answers_per_s": round(len(latency) / seconds, 2),
        "end_to_end_ms": percentiles(latency),
        "floor_ms": percentiles(samples),
        "deadline_misses": deadline_misses(latency, expected),
        "accounts": accounts(blocks),
        "in_flight_max": max(step.in_flight for step in steps),
        "cpu_ms_per_answer": round(1e3 * sum(block.cpu_s for block in blocks) / len(latency), 3),
        "memory_mib_max": round(max(max(block.memory_mib) for block in blocks), 1),
    }


def _keeps_up(figures: dict[str, Any]) -> bool:
    share: float = figures["deadline_misses"][SOURCES_DEADLINE_MS]["share"]
    return share <= 1 - ANSWERED_SHARE


def _checks(load: dict[str, Any], sources: dict[str, Any]) -> dict[str, float]:
    """What budgets are set on; each is good where it is at most 1 (or as the budget says)."""
    found = {}
    if load:
        # Half an interval passes on average until the engine is free: a whole one is the bound.
        found["p50_over_floor_and_interval"] = max(
            each["end_to_end_ms"]["p50"] / (each["floor_ms"]["p50"] + each["interval_ms"])
            for each in load.values()
        )
        if "1.5" in load:
            heaviest = load[max(load, key=float)]
            found["p99_heaviest_over_1.5"] = (
                heaviest["end_to_end_ms"]["p99"] / load["1.5"]["end_to_end_ms"]["p99"]
            )
    every = [*load.values(), *sources.values()]
    found["in_flight_max"] = max(each["in_flight_max"] for each in every)
    return {name: round(value, 4) for name, value in found.items()}
