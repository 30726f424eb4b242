"""Makes the artifact of a run: the network of its best fold, with a card that says how it was made."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from models.artifact import TrainingData
from models.checkpoint import card_of
from models.export import ExportError, export
from models.networks.base import Network
from train.evaluation.answers import load_answers
from train.recipe import Recipe
from train.run.fold import ANSWERS, Tested
from train.run.request import Request
from train.splits import FoldTable

_FRAMES = 16


def export_best(request: Request, recipe: Recipe, table: FoldTable, done: Sequence[Tested]) -> Path:
    """Export the fold whose weights did best where they were chosen; never by its test figures.

    :return: RUN/NETWORK.onnx.
    :raises ExportError: if the network does not both segment and classify, or the file differs from it.
    """
    chosen = max(done, key=lambda one: (one.score is not None, one.score or 0.0, -one.number))
    network = chosen.network
    if not network.classes or not network.regions:
        task = "classify" if not network.classes else "segment"
        raise ExportError(f"{network.name} does not {task}, and an artifact does both; best.pt holds it")
    folder = request.out / f"fold-{chosen.number}"
    _, images = load_answers(folder / ANSWERS)
    parts = table.parts(chosen.number)
    card = card_of(network, version="1")
    card = msgspec.structs.replace(
        card,
        temperature=chosen.temperature,
        training_data=tuple(
            TrainingData(
                name=source or "unnamed",
                licence="as its owner states",
                note=f"{count} images trained on; fold {chosen.number} of {table.folds}, seed {request.seed}",
            )
            for source, count in sorted(Counter(study.source for study in parts.train).items())
        ),
        metrics={
            "test_part": {
                "protocol": f"Test part of fold {chosen.number}: {len(images)} images of "
                f"{', '.join(sorted(set(images.sources)))}, split {table.split}. The whole report is beside "
                "the file.",
                **{name: round(value, 4) for name, value in chosen.figures.items()},
            }
        },
        notes=f"recipe {recipe.name}, epoch {chosen.epoch}, options {network.options}"
        + ("; chosen on its own test part: optimistic" if request.selection == "test-fold" else ""),
    )
    path = request.out / f"{network.name}.onnx"
    export(network, card, path, _frames(network, images.pixels))
    return path


def _frames(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Choose what the file is checked on: N x H x W x C."""
    rows = np.linspace(0, len(pixels) - 1, min(_FRAMES, max(2, len(pixels)))).round().astype(int)
    return np.ascontiguousarray(np.repeat(pixels[rows][..., None], network.in_channels, axis=3))
