"""How long a frame takes in every network, all of them in turns."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from benchmarks.daemon import BenchError
from benchmarks.figures import percentiles
from benchmarks.networks.runs import Trained
from models.artifact import ArtifactError, card_json
from models.checkpoint import read_checkpoint
from models.deployed import Deployed
from models.export import ExportError, write_graph
from models.networks.registry import ModelError
from models.runtimes import EngineError, RuntimeDescription, Session, load

_CALLS = 3
"""Of one network in a turn; the first is not timed: it finds the caches full of another network's weights."""


class Timing(NamedTuple):
    """How long one frame takes in a network."""

    milliseconds: dict[str, float]
    """By percentile; the least too, which says what a busy machine hides."""
    calls: int
    engine: RuntimeDescription
    input: tuple[int, int, int]
    """Height, width and channels of the frame."""
    parameters: int
    gmacs: float


class OneTask(Deployed):
    """A network that only segments or only classifies, with the output that it lacks held constant.

    So it runs in the same engines, from the same bytes, as those that do both. It is measured, never used.
    """

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C uint8 -> N x H x W uint8, N x K float32."""
        output = self.network(frame.to(torch.float32).permute(0, 3, 1, 2) / 255)
        if output.lesion is None:
            lesion = frame[:, :, :, 0] * 0
        else:
            lesion = (output.lesion.float() * 255).round().clamp(0, 255).to(torch.uint8)
        if output.class_logits is None:
            classes = frame[:, :1, 0, 0].to(torch.float32) * 0 + 1
        else:
            classes = (output.class_logits.float() / self.temperature).softmax(dim=1)
        return lesion, classes


def measure(
    runs: Sequence[Trained], folder: Path, progress: Progress, *, rounds: int, threads: int | None = None
) -> dict[str, Timing]:
    """Time one frame in every run's artifact, in the engine that `auto` takes on this machine.

    All networks take turns, so whatever else the machine does slows all of them alike.

    :param folder: where graphs of networks that segment or classify only are written.
    :param rounds: turns of every network.
    :param threads: of the engine; None: one for each physical core, as the daemon has it.
    :return: by the runs' labels.
    :raises BenchError: if a file cannot be run, or is not of its run's network.
    """
    task = progress.add_task("loading", total=len(runs) + rounds)
    times: dict[str, list[float]] = {run.label: [] for run in runs}
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for run in runs:
            progress.update(task, description=f"loading {run.label}")
            sessions[run.label] = stack.enter_context(_load(run, folder, threads))
            progress.advance(task)
        progress.update(task, description="measuring")
        for _ in range(rounds):
            for label, session in sessions.items():
                times[label] += _turn(session)
            progress.advance(task)
        return {
            label: Timing(
                percentiles(times[label]) | {"min": round(min(times[label]), 4)},
                len(times[label]),
                session.description,
                msgspec.structs.astuple(session.card.input),
                session.card.parameters,
                session.card.gmacs,
            )
            for label, session in sessions.items()
        }


def _turn(session: Session) -> list[float]:
    spent = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        session.infer(1)
        spent.append((time.perf_counter() - start) * 1e3)
    return spent[1:]


def _load(run: Trained, folder: Path, threads: int | None) -> Session:
    try:
        session = load(run.artifact or _stand_in(run, folder), "auto", threads=threads)
    except (ArtifactError, EngineError, ExportError, ModelError) as error:
        raise BenchError(str(error)) from None
    if session.card.network != run.network:
        session.close()
        raise BenchError(f"{run.artifact} is {session.card.network}, and its run trained {run.network}")
    picture = run.folds[0].images.pixels[:1, :, :, None]
    frame: Any = session.input(1)
    if picture.shape[:3] == frame.shape[:3]:
        frame[:] = picture
    else:
        frame[:] = np.random.default_rng(0).integers(0, 256, frame.shape, dtype=np.uint8)
    return session


def _stand_in(run: Trained, folder: Path) -> Path:
    network, card = read_checkpoint(run.folds[0].folder / "best.pt")
    card = msgspec.structs.replace(card, classes=card.classes or ("not classified",))
    path = folder / f"{run.folder.resolve().name}-{run.network}.onnx"
    height, width = network.size
    example = torch.zeros(2, height, width, network.in_channels, dtype=torch.uint8)
    write_graph(OneTask(network, card.temperature), example, card_json(card), path)
    return path
