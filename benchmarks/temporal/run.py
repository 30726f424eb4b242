"""Run every method on every sequence, rate and strength of noise, and hold ours against the others."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.progress import Progress

from benchmarks.figures import machine, percentiles, versions
from benchmarks.temporal.methods import Exponential, Median, Method, Ours, Raw, Shown
from benchmarks.temporal.network import STRENGTHS, Answer, ArtifactNetwork, Network, SimulatedNetwork
from benchmarks.temporal.scores import Scores, Truth, displayed
from benchmarks.temporal.sequences import BASE_FPS, CLASSES, Instant, at_rate, make_sequence, with_drops
from models.artifact import load_artifact
from models.runtimes import Session, load
from streamer.smoothing import Smoother, SmoothingSettings

SCHEMA = "sonostream.bench.temporal/1"
RATES = (15, 30, 60)
_AVERAGES_S = (0.04, 0.07, 0.1, 0.14, 0.2, 0.3, 0.45)
"""Time constants of the exponential averages among which the best is sought."""
_SCALES = (1.0, 0.2, 0.4, 0.65, 1.6)
"""Ours with all its time constants scaled, to be compared at the delay of other baselines."""
_TRACKED = ("raw", "ours")


@dataclass(frozen=True)
class TemporalSettings:
    """What is run."""

    network: str = "simulated"
    """Or a model: its file, or its name in the zoo."""
    cost_model: str = "default"
    """Model whose inference the cost is a ratio to."""
    seeds: int = 4
    first_seed: int = 100
    """Below 100 are the seeds that the defaults were chosen on."""
    seconds: float = 16.0
    side: int = 128
    """Of a simulated network's input."""


class Trace(NamedTuple):
    """One run to draw: per instant the truth, the raw answer and what we show."""

    time_s: list[float]
    area: dict[str, list[float]]
    """Of `truth`, `raw` and `smoothed`, as a part of the picture."""
    malignancy: dict[str, list[float]]
    changes: list[tuple[float, str]]


def methods(fps: int) -> dict[str, Method]:
    """Make every method afresh, by name."""
    made: dict[str, Method] = {"raw": Raw(), "median of 3": Median(3), "median of 5": Median(5)}
    for constant_s in _AVERAGES_S:
        made[f"average {constant_s:g} s"] = Exponential(1 - np.exp(-1 / fps / constant_s))
    settings = SmoothingSettings()
    for scale in _SCALES:
        made["ours" if scale == 1 else f"ours x {scale:g}"] = Ours(
            replace(
                settings,
                mask_time_s=settings.mask_time_s * scale,
                outline_time_s=settings.outline_time_s * scale,
                class_time_s=settings.class_time_s * scale,
            )
        )
    return made


def run_temporal(settings: TemporalSettings, progress: Progress) -> tuple[dict[str, Any], Trace]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes, and a run to draw.
    :raises ArtifactError: if the model cannot be read.
    :raises EngineError: if the model cannot be run.
    """
    cv2.setNumThreads(1)
    session = None if settings.network == "simulated" else load(load_artifact(settings.network))
    size = (settings.side,) * 2
    if session is not None:
        size = (session.card.input.width, session.card.input.height)
    strengths = ("usual", "noisy") if session is None else ("model",)
    task = progress.add_task("sequences", total=settings.seeds * (1 + len(strengths) * len(RATES)))
    scores = {(s, fps, name): Scores() for s in strengths for fps in RATES for name in methods(fps)}
    alike: list[dict[str, float]] = []
    trace: Trace | None = None
    for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
        progress.update(task, description=f"seed {seed}: rendering")
        sequence = make_sequence(seed, settings.seconds, size)
        progress.advance(task)
        alike.append(_rates_alike(sequence, _network(session, size, "clean", seed)))
        for strength in strengths:
            answers = _answers(_network(session, size, strength, seed), sequence)
            for fps in RATES:
                progress.update(task, description=f"seed {seed}: {strength}, {fps} fps")
                instants = with_drops(at_rate(sequence, fps), seed)
                shown = _score(scores, strength, fps, instants, answers)
                progress.advance(task)
                if trace is None and fps == 30:
                    trace = _trace(instants, answers, shown)
    assert trace is not None
    progress.update(task, description="cost")
    summaries: dict[str, dict[str, dict[str, Any]]] = {}
    for (strength, fps, name), score in scores.items():
        summaries.setdefault(f"{strength}, {fps} fps", {})[name] = score.summary()
    report = {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "smoothing": asdict(SmoothingSettings()),
        "strengths": {name: asdict(STRENGTHS[name]) for name in strengths if name in STRENGTHS},
        "runs": summaries,
        "compared": {
            run: _compared(by_name, int(run.split(", ")[1].split()[0])) for run, by_name in summaries.items()
        },
        "rates_alike": {key: float(np.mean([each[key] for each in alike])) for key in alike[0]},
        "cost": _cost(settings.cost_model, sequence),
    }
    return report, trace


def _network(session: Session | None, size: tuple[int, int], strength: str, seed: int) -> Network:
    if session is not None:
        return ArtifactNetwork(session)
    return SimulatedNetwork(size, STRENGTHS[strength], seed)


def _answers(network: Network, sequence: list[Instant]) -> dict[int, Answer]:
    """Return every instant's answer, by its number, with the classes in the truth's order."""
    order = [list(network.classes).index(name) for name in CLASSES]
    answers = {}
    for instant in sequence:
        answer = network.answer(instant)
        answers[instant.number] = Answer(answer.lesion, answer.classes[order])
    return answers


def _score(
    scores: dict[tuple[str, int, str], Scores],
    strength: str,
    fps: int,
    instants: list[Instant],
    answers: dict[int, Answer],
) -> list[Shown]:
    ours: list[Shown] = []
    truth = Truth(instants)
    for name, method in methods(fps).items():
        score = scores[strength, fps, name]
        shown = []
        for instant in instants:
            each = method.show(instant, answers[instant.number])
            if name in _TRACKED:
                score.track(instant, each, restart=instant is instants[0])
            shown.append(each._replace(motion=None))
        score.add(truth, shown, fps)
        if name == "ours":
            ours = shown
    return ours


def _compared(by_name: dict[str, dict[str, Any]], fps: int) -> dict[str, Any]:
    """Hold ours against raw output, and against each baseline at its delay.

    Ours is the calmest of its settings that is no slower than the baseline plus half a frame. The best
    average is the calmest that is no slower than ours plus half a frame.
    """
    half_frame_ms = 500 / fps
    own = {name: by_name[name] for name in by_name if name.startswith("ours")}
    ours, raw = by_name["ours"], by_name["raw"]

    def against(key: str, delay: str) -> dict[str, Any]:
        limit = ours[delay]["mean"] + half_frame_ms
        averages = [name for name in by_name if name.startswith("average")]
        in_time = [name for name in averages if by_name[name][delay]["mean"] <= limit] or averages[:1]
        best = min(in_time, key=lambda name: float(by_name[name][key]))
        rivals = {}
        for name in ("median of 3", "median of 5", best):
            rival = by_name[name]
            fits = [
                each for each in own.values() if each[delay]["mean"] <= rival[delay]["mean"] + half_frame_ms
            ]
            value = min((each[key] for each in fits), default=None)
            rivals[name] = {"rival": rival[key], "ours_at_its_delay": value}
        return {
            "raw_over_ours": raw[key] / ours[key] if ours[key] else None,
            "best_average": best,
            "rivals": rivals,
        }

    return {
        "mask": against("mask_flicker_percent", "mask_delay_ms"),
        "label": against("label_flicker_per_min", "label_delay_ms"),
    }


def _rates_alike(sequence: list[Instant], network: Network) -> dict[str, float]:
    """Compare ours at 15, 30 and 60 fps at the same instants, without noise and drops."""
    answers = _answers(network, sequence)
    runs = []
    for fps in RATES:
        method = Ours()
        runs.append({i.number: method.show(i, answers[i.number]) for i in at_rate(sequence, fps)})
    overlaps, apart = [], []
    for number in runs[0]:
        slow, *others = (run[number] for run in runs)
        for other in others:
            one, two = displayed(slow.lesion), displayed(other.lesion)
            total = np.count_nonzero(one) + np.count_nonzero(two)
            if total:
                overlaps.append(2 * np.count_nonzero(one & two) / total)
            apart.append(float(np.abs(slow.classes - other.classes).max()))
    return {
        "dice_mean": float(np.mean(overlaps)),
        "dice_p5": float(np.percentile(overlaps, 5)),
        "probability_apart_mean": float(np.mean(apart)),
        "probability_apart_p95": float(np.percentile(apart, 95)),
    }


def _trace(instants: list[Instant], answers: dict[int, Answer], shown: list[Shown]) -> Trace:
    def part(mask: Any) -> float:
        return float(np.count_nonzero(displayed(mask)) / mask.size)

    malignant = CLASSES.index("malignant")
    return Trace(
        [instant.time_s for instant in instants],
        {
            "truth": [part(instant.truth) for instant in instants],
            "raw": [part(answers[instant.number].lesion) for instant in instants],
            "smoothed": [part(each.lesion) for each in shown],
        },
        {
            "truth": [float(instant.label == malignant) for instant in instants],
            "raw": [float(answers[instant.number].classes[malignant]) for instant in instants],
            "smoothed": [float(each.classes[malignant]) for each in shown],
        },
        [
            (instant.time_s, each.change)
            for instant, each in zip(instants, shown, strict=True)
            if each.change is not None
        ],
    )


def _cost(model: str, sequence: list[Instant]) -> dict[str, Any]:
    """Time an update on one core, in turn with the model's inference on one thread."""
    session = load(load_artifact(model), threads=1)
    size = session.card.input
    frames = session.input(1)
    smoothers = {side: Smoother() for side in (128, 256)}
    classes = np.full(3, 1 / 3, np.float32)
    times: dict[str, list[float]] = {"inference": [], **{f"smoothing_{side}": [] for side in smoothers}}
    for n, instant in enumerate(_steady(sequence)):
        view = np.asarray(cv2.resize(instant.view, (size.width, size.height)), np.uint8)
        np.copyto(frames[0], view[:, :, None])
        times["inference"].append(_timed(session.infer))
        for side, smoother in smoothers.items():
            picture = np.asarray(cv2.resize(instant.view, (side, side)), np.uint8)
            lesion = np.asarray(cv2.resize(instant.truth, (side, side)), np.uint8)
            now = round((n + 1) * 1e9 / 30)
            took = _timed(smoother.update, picture, lesion, classes, now, (side, side))
            times[f"smoothing_{side}"].append(took)
    session.close()
    figures = {f"{name}_ms": percentiles(values[20:]) for name, values in times.items()}
    ratio = figures["smoothing_256_ms"]["p50"] / figures["inference_ms"]["p50"]
    own = f"smoothing_{128 if size.width <= 128 else 256}_ms"
    return {
        **figures,
        "model": f"{session.card.name} {session.card.version}",
        "model_input": [size.width, size.height],
        "ratio_at_256": ratio,
        "ratio_at_the_models_size": figures[own]["p50"] / figures["inference_ms"]["p50"],
    }


def _steady(sequence: list[Instant]) -> Iterator[Instant]:
    """Walk forth and back over a stretch without cuts, 300 instants long."""
    stretch = at_rate(sequence[: 3 * BASE_FPS], 30)
    for n in range(300):
        place = n % (2 * len(stretch) - 2)
        yield stretch[min(place, 2 * len(stretch) - 2 - place)]


def _timed(call: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    call(*arguments)
    return (time.perf_counter() - start) * 1e3
