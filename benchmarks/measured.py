"""From stamps to figures: latency, age, jitter, deadlines and accounts of one or more stretches of a feed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import percentiles
from benchmarks.watch import FloorRun, Seen, Window

TICKS_PER_S = 60
"""Of a display that shows the newest result."""
DEADLINES_MS = (16.7, 33.3)

Floats = NDArray[np.float64]


@dataclass
class Block:
    """A stretch of time in which one program was watched."""

    window: Window
    due_ns: list[int]
    """When the frame of each result was due, on CLOCK_MONOTONIC; results in the order of arrival."""
    done_ns: list[int]
    """When each result was there."""
    interval_ms: float
    cpu_s: float
    memory_mib: list[float]
    floor: FloorRun
    expected: int
    """Frames due from the first result's to the last's."""
    seen: list[Seen] = field(default_factory=list)
    """The results themselves, of a daemon."""

    @property
    def latency_ms(self) -> Floats:
        """From when each frame was due to its result."""
        spent: Floats = (np.asarray(self.done_ns) - np.asarray(self.due_ns)) * 1e-6
        return spent

    @property
    def age_ms(self) -> Floats:
        """Age of the newest result at every tick of a display, from the first result on."""
        done, due = np.asarray(self.done_ns), np.maximum.accumulate(np.asarray(self.due_ns))
        ticks = np.arange(done[0], int(self.window.end * 1e9), 1_000_000_000 // TICKS_PER_S)
        newest = due[np.searchsorted(done, ticks, side="right") - 1]
        return np.asarray((ticks - newest) * 1e-6, np.float64)


def timings(blocks: Sequence[Block]) -> dict[str, Any]:
    """Latency and what follows from it, of one program, over all blocks; ms."""
    latency = np.concatenate([block.latency_ms for block in blocks])
    end_to_end = percentiles(latency)
    samples = [sample for block in blocks for sample in block.floor.samples]
    floor = percentiles([sample.total for sample in samples])
    frames, expected = len(latency), sum(block.expected for block in blocks)
    ages = np.concatenate([block.age_ms for block in blocks])
    interval = blocks[0].interval_ms
    cpu = 1e3 * sum(block.cpu_s for block in blocks) / frames
    floor_cpu = 1e3 * sum(block.floor.cpu_s for block in blocks) / len(samples)
    return {
        "frames": frames,
        "frames_due": expected,
        "floor_ms": floor,
        "floor_parts_ms": {
            part: percentiles([getattr(sample, part) for sample in samples])
            for part in ("decode", "resize", "engine")
        },
        "floor_samples": len(samples),
        "end_to_end_ms": end_to_end,
        "overhead_ratio": {name: round(end_to_end[name] / floor[name], 4) for name in ("p50", "p99")},
        "age_at_display_ms": percentiles(ages),
        # In steady state the newest result is at most an interval older than when it came.
        "age_above_interval_plus_p99_share": round(float(np.mean(ages > interval + end_to_end["p99"])), 5),
        "jitter_ms": percentiles(np.concatenate([np.abs(np.diff(block.latency_ms)) for block in blocks])),
        "deadline_misses": deadline_misses(latency, expected),
        "cpu_ms_per_frame": {
            "program": round(cpu, 3),
            "floor": round(floor_cpu, 3),
            "ratio": round(cpu / floor_cpu, 4),
        },
        "memory_mib": {
            "start": round(blocks[0].memory_mib[0], 1),
            "end": round(blocks[-1].memory_mib[-1], 1),
            "max": round(max(max(block.memory_mib) for block in blocks), 1),
        },
    }


def deadline_misses(latency_ms: Floats, expected: int) -> dict[str, dict[str, float]]:
    """Count the frames that had no answer in time; one that was dropped has none.

    :param latency_ms: of the frames that were answered.
    :param expected: frames that were due.
    """
    found = {}
    for deadline in DEADLINES_MS:
        missed = int(np.count_nonzero(latency_ms > deadline)) + expected - len(latency_ms)
        found[f"{deadline:g}"] = {"frames": missed, "share": round(missed / expected, 5)}
    return found


def accounts(blocks: Sequence[Block]) -> dict[str, Any]:
    """Where frames went between the first result and the last, over all sources and blocks.

    By the frames' own numbers: captured = analysed + passed over + dropped + lost by the subscriber.
    """
    captured = analyzed = passed_over = lost = dropped = 0
    reasons: dict[str, int] = defaultdict(int)
    for block in blocks:
        for results in by_source(block.seen).values():
            gaps = results[-1].seq - results[0].seq + 1 - len(results)
            live = sum(result.live for result in results)
            span = results[-1].frame_id - results[0].frame_id + 1
            captured += span
            analyzed += live
            passed_over += len(results) - live
            lost += gaps
            dropped += span - len(results) - gaps
            for result in results[1:]:
                for reason, count in result.dropped.items():
                    reasons[reason] += count
    return {
        "captured": captured,
        "analyzed": analyzed,
        # Of a feed that is frozen or without signal: reported, but not analysed.
        "passed_over": passed_over,
        "dropped_frames": dropped,
        # As the daemon counts them; a frame that is dropped while a result is made may be told with the next.
        "dropped": dict(reasons),
        "lost_by_subscriber": lost,
    }


def stages(blocks: Sequence[Block]) -> dict[str, dict[str, float]]:
    """Where a daemon's time goes, in the order of the stages; ms."""
    found: dict[str, list[float]] = defaultdict(list)
    for block in blocks:
        for result in block.seen:
            if result.live:
                for name, spent in result.stages_ms.items():
                    found[name].append(spent)
    return {name: percentiles(values) for name, values in found.items()}


def by_source(seen: Sequence[Seen]) -> dict[str, list[Seen]]:
    """Sort results by source, keeping their order."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for result in seen:
        found[result.source].append(result)
    return dict(found)


def spread(repeats: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Lowest and highest of the repeats' main figures, and how far apart in parts of the middle one."""
    found = {}
    for path in ("end_to_end_ms.p50", "end_to_end_ms.p99", "floor_ms.p50", "overhead_ratio.p50"):
        key, _, name = path.partition(".")
        values = sorted(repeat[key][name] for repeat in repeats)
        low, middle, high = values[0], float(np.median(values)), values[-1]
        found[path] = {"low": low, "high": high, "relative": round((high - low) / middle, 4)}
    return found
