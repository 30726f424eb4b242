"""Latency of every network in PyTorch on a GPU, by precision, CUDA graph and batch, from host to host.

`python -m benchmarks.gpu --json results.json`. Runs on a processor too, without graphs and events, so that
the script is known to work before there is a GPU.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import machine, percentiles
from models.checkpoint import Checkpoint, card_of
from models.networks.registry import build
from models.runtimes.base import Precision
from models.runtimes.torch import TorchSession, precisions

# MTL-OCA's paper reads 128 x 128, the others 256 x 256.
NETWORKS = (
    ("mtl_oca", 128),
    ("mtl_oca", 256),
    ("ctg_net", 256),
    ("rmtl_net", 256),
    ("la_net_r18", 256),
    ("la_net_r50", 256),
    ("acsnet", 256),
    ("sonolite", 192),
)


def measure(
    networks: tuple[tuple[str, int], ...], batches: tuple[int, ...], calls: int
) -> Iterator[dict[str, Any]]:
    """Measure one combination after the other; each row is complete when it is yielded.

    :param networks: name and side of the frame, in pixels.
    :param calls: timed calls of each combination.
    """
    on_gpu = torch.cuda.is_available()
    for name, size in networks:
        torch.manual_seed(0)
        network = build(name, size=size).eval()
        trained = Checkpoint(network, card_of(network, version="0"))
        for precision in precisions():
            for graph in (True, False) if on_gpu else (False,):
                for batch in batches:
                    yield {
                        "network": name,
                        "size": size,
                        "precision": precision,
                        "cuda_graph": graph,
                        "batch": batch,
                    } | _one(trained, precision, graph, batch, calls)


def _one(trained: Checkpoint, precision: str, graph: bool, batch: int, calls: int) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with TorchSession(
        trained, precision=cast(Precision, precision), max_batch=batch, cuda_graph=graph
    ) as session:
        frames = np.random.default_rng(0).integers(0, 256, session.input(batch).shape, dtype=np.uint8)
        for _ in range(5):
            session.predict(frames)
        wall = _wall(lambda: session.predict(frames), calls)
        events = _events(session, batch, calls) if on_gpu else None
    return {
        "wall_ms": percentiles(wall),
        "gpu_ms": percentiles(events) if events else None,
        "frames_per_s": round(batch * 1e3 / float(np.median(wall)), 1),
        "memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if on_gpu else None,
    }


def _wall(call: Callable[[], object], calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _events(session: TorchSession, batch: int, calls: int) -> list[float]:
    """Time by the GPU's own clock, copies included."""
    stream = session.stream
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    times = []
    for _ in range(calls):
        start.record(stream)
        session.infer(batch)
        end.record(stream)
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def about() -> dict[str, Any]:
    """Name the GPU, its driver and the versions."""
    found = {"machine": machine(), "torch": str(torch.__version__), "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        found |= {"gpu": torch.cuda.get_device_name(), "compute_capability": capability}
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            found["driver"] = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            found["driver"] = "unknown"
    return found


def run(
    json_file: Annotated[Path, typer.Option("--json", help="Written anew after every row.")],
    network: Annotated[list[str] | None, typer.Option(help="Only these; every one if left out.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the frame instead of the papers'.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes; 1, 4 and 16 if left out.")] = None,
    calls: Annotated[int, typer.Option(min=2, help="Timed calls of each combination.")] = 300,
) -> None:
    """Measure every network in PyTorch on the GPU at hand."""
    chosen = tuple(
        dict.fromkeys((name, size or side) for name, side in NETWORKS if not network or name in network)
    )
    rows: list[dict[str, Any]] = []
    report = {"benchmark": "gpu", **about(), "rows": rows}
    for row in measure(chosen, tuple(batch or (1, 4, 16)), calls):
        rows.append(row)
        # Time on a GPU may end at any moment.
        json_file.write_text(json.dumps(report, indent=1) + "\n")
        wall = row["wall_ms"]
        typer.echo(
            f"{row['network']} {row['size']} {row['precision']} graph={row['cuda_graph']} "
            f"batch {row['batch']}: "
            f"p50 {wall['p50']:.3f} ms, p99 {wall['p99']:.3f} ms, {row['frames_per_s']} frames/s"
        )
    Console().print(table(report))


def table(report: dict[str, Any]) -> Table:
    """Lay out a report."""
    title = report.get("gpu") or f"{report['machine']['cpu']} (no GPU)"
    shown = Table(title=f"{title}: ms from host frame to host result", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (
        "network",
        "size",
        "precision",
        "graph",
        "batch",
        "p50",
        "p99",
        "GPU p50",
        "frames/s",
        "MiB",
    ):
        shown.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for row in report["rows"]:
        gpu = row["gpu_ms"]
        shown.add_row(
            row["network"],
            str(row["size"]),
            row["precision"],
            "yes" if row["cuda_graph"] else "no",
            str(row["batch"]),
            f"{row['wall_ms']['p50']:.3f}",
            f"{row['wall_ms']['p99']:.3f}",
            f"{gpu['p50']:.3f}" if gpu else "",
            str(row["frames_per_s"]),
            str(row["memory_mib"] or ""),
        )
    return shown


if __name__ == "__main__":
    typer.run(run)
