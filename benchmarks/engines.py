"""Every network in every engine, precision and number of threads, against PyTorch in the same run."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import msgspec
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import machine, versions
from models.artifact import Artifact, card_json, load_artifact
from models.checkpoint import Checkpoint, card_of
from models.deployed import Deployed
from models.export import replace_card, write_graph
from models.networks.registry import build
from models.quantize import quantize
from models.runtimes import EngineError, Precision, Session, available, choose_for, load
from models.runtimes.torch import TorchSession

NETWORKS = ("mtl_oca", "ctg_net", "rmtl_net", "la_net_r18", "la_net_r50", "acsnet", "sonolite")
EAGER = "torch eager"
_CALIBRATION_FRAMES = 4


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What to measure."""

    networks: tuple[str, ...] = NETWORKS
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 4)
    precisions: tuple[str, ...] = ("fp32", "int8")
    """Of the files; what an engine computes a file in is its own matter."""
    rounds: int = 20
    size: int | None = None
    """Side of the frames; None: each network's own."""


def run_engines(
    settings: EngineSettings, folder: Path, told: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure; what `--json` writes.

    Weights are random: they do not change the time. Within a network, a number of threads and a batch size,
    all engines take turns.

    :param folder: where the networks' files are kept from run to run.
    :param told: what is being done.
    """
    rows: list[dict[str, Any]] = []
    autos: list[dict[str, Any]] = []
    for name in settings.networks:
        told(f"{name}: exporting")
        trained = _random(name, settings.size)
        files = {each: _file(folder, trained, each) for each in settings.precisions}
        for threads in settings.threads:
            for batch in settings.batches:
                told(f"{name}: {threads} threads, batch {batch}")
                cell = _measure(trained, files.values(), threads, batch, settings.rounds)
                rows += cell
                if batch == 1:
                    autos += [_auto(name, file, threads, cell) for file in files.values()]
    return {
        "benchmark": "engines",
        "machine": machine(),
        "versions": versions() | {"torch": str(torch.__version__)},
        "rows": rows,
        "auto": autos,
    }


def _random(name: str, size: int | None) -> Checkpoint:
    torch.manual_seed(0)
    options = {} if size is None else {"size": size}
    network = build(name, **options).eval()
    return Checkpoint(network, card_of(network, version="0"))


def _file(folder: Path, trained: Checkpoint, precision: str) -> Artifact:
    """Export, unless it was before."""
    card = msgspec.structs.replace(
        trained.card, precision=precision, quantization="cpu" if precision == "int8" else ""
    )
    size = card.input
    path = folder / f"{card.name}-{size.height}x{size.width}-{precision}.onnx"
    if path.exists():
        return load_artifact(path)
    folder.mkdir(parents=True, exist_ok=True)
    frames = _frames(trained, _CALIBRATION_FRAMES)
    draft = path.with_suffix(".partial.onnx")
    if precision == "int8":
        quantize(_file(folder, trained, "fp32").path, draft, frames)
        replace_card(draft, card)
    else:
        deployed = Deployed(trained.network, card.temperature)
        write_graph(deployed, torch.from_numpy(frames[:2]), card_json(card), draft)
    draft.replace(path)
    return load_artifact(path)


def _frames(trained: Checkpoint, n: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    size = trained.card.input
    shape = (n, size.height, size.width, size.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _measure(
    trained: Checkpoint, files: Iterable[Artifact], threads: int, batch: int, rounds: int
) -> list[dict[str, Any]]:
    frames = _frames(trained, batch)
    deployed = Deployed(trained.network, trained.card.temperature)
    given = torch.from_numpy(frames)

    def eager() -> None:
        with torch.inference_mode():
            deployed(given)

    calls: dict[tuple[str, ...], Callable[[], object]] = {(EAGER, "fp32"): eager}
    bare: dict[tuple[str, ...], Callable[[], object]] = {}
    sessions = _sessions(trained, files, threads, batch)
    for key, session in sessions.items():
        session.predict(frames)
        calls[key] = partial(session.infer, batch)
        bare[key] = partial(session._run, batch)
    torch.set_num_threads(threads)
    # The engine's own calls in the same turns: what a session adds is less than what a minute changes.
    times = _take_turns(calls | {(*key, "own"): call for key, call in bare.items()}, rounds)
    inner = {key: times.pop((*key, "own")) for key in bare}
    for session in sessions.values():
        session.close()
    base = median(times[EAGER, "fp32"])
    return [
        {
            "network": trained.card.name,
            "runtime": runtime,
            "precision": precision,
            "threads": threads,
            "batch": batch,
            "ms": round(median(spent), 4),
            "p95_ms": round(float(np.percentile(spent, 95)), 4),
            "times_eager": round(base / median(spent), 3),
            # What the session adds to the engine's own call on the same buffers.
            "added_ms": round(median(spent) - median(inner[runtime, precision]), 4)
            if (runtime, precision) in inner
            else None,
        }
        for (runtime, precision), spent in times.items()
    ]


def _sessions(
    trained: Checkpoint, files: Iterable[Artifact], threads: int, batch: int
) -> dict[tuple[str, str], Session]:
    found: dict[tuple[str, str], Session] = {}
    for status in available():
        if not status.usable or status.name == "kserve":
            continue
        if status.name == "torch":
            for each in status.precisions:
                found["torch channels-last", each] = TorchSession(
                    trained, precision=cast(Precision, each), threads=threads, max_batch=batch
                )
            continue
        for file in files:
            for each in status.precisions:
                precision = cast(Precision, each)
                try:
                    session = load(file, status.name, precision=precision, threads=threads, max_batch=batch)
                except EngineError:  # not every engine computes every file in every precision
                    continue
                computed = session.description.precision
                label = f"int8+{precision}" if computed == "int8" else computed
                found[status.name, label] = session
    return found


def _take_turns(
    calls: Mapping[tuple[str, ...], Callable[[], object]], rounds: int
) -> dict[tuple[str, ...], list[float]]:
    """Time in turn, so that whatever else the machine does slows all alike."""
    times: dict[tuple[str, ...], list[float]] = {key: [] for key in calls}
    for round_ in range(rounds + 2):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            spent = (time.perf_counter() - start) * 1e3
            if round_ >= 2:  # the first two warm up
                times[key].append(spent)
    return times


def _auto(name: str, file: Artifact, threads: int, cell: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the engine that `auto` takes for a file with the best row of that file."""
    choice = choose_for(file, threads=threads)
    int8 = file.card.precision == "int8"
    rows = {
        (row["runtime"], row["precision"].removeprefix("int8+")): row["ms"]
        for row in cell
        if not row["runtime"].startswith("torch") and row["precision"].startswith("int8") == int8
    }
    best = min(rows.values())
    return {
        "network": name,
        "file": file.card.precision,
        "threads": threads,
        "runtime": choice.runtime,
        "precision": choice.precision,
        "over_best": round(rows[choice.runtime, choice.precision] / best - 1, 4),
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table, one block for each network."""
    cpu = report["machine"]
    title = f"{cpu['cpu']}, {cpu['cores']} cores; median ms of a call, and times as fast as PyTorch eager"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    columns = sorted({(row["threads"], row["batch"]) for row in report["rows"]})
    for name in ("network", "runtime", "precision"):
        table.add_column(name, no_wrap=True)
    for threads, batch in columns:
        table.add_column(f"{threads} thr, batch {batch}", justify="right", no_wrap=True)
    cells = {
        (row["network"], row["runtime"], row["precision"], row["threads"], row["batch"]): row
        for row in report["rows"]
    }
    for key in dict.fromkeys(key[:3] for key in cells):
        found = [cells.get((*key, *column)) for column in columns]
        table.add_row(*key, *(f"{row['ms']:.2f} {row['times_eager']:.2f}x" if row else "" for row in found))
    console.print(table)
    for auto in report["auto"]:
        console.print(
            f"auto, {auto['network']} {auto['file']}, {auto['threads']} threads: {auto['runtime']} "
            f"{auto['precision']}, {auto['over_best']:+.1%} over the best",
            soft_wrap=True,
        )
    added = [row["added_ms"] for row in report["rows"] if row["added_ms"] is not None]
    if added:
        console.print(f"a session adds {median(added):.3f} ms to the engine's own call (median of all rows)")
