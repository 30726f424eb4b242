"""A trainer on a network and pictures small enough for a test."""

from pathlib import Path

import numpy as np
import torch

from models.networks.base import Network
from models.networks.registry import build
from train.data import Images
from train.learning.draw import Pool
from train.learning.loop import Trainer
from train.learning.processes import make_fabric
from train.learning.stages import Stage, plan
from train.objectives import make_objective
from train.phantoms import Mixture, render
from train.recipe import Recipe, parse
from train.run.watch import Report, Watch

TINY: dict[str, object] = {
    "widths": (8, 8, 16),
    "bridge": 16,
    "key_channels": 8,
    "size": 32,
    "edge_norm": "fixed",
}
AUGMENT: dict[str, object] = {"horizontal_flip": 0.5, "zoom": 0.2, "speckle": 0.1, "marks": 0.3}


def stills(count: int, size: int) -> Images:
    """Synthetic pictures, a third of each class."""
    return render("train", Mixture(stills=count, sweeps=0, frames=0), size)


def small_recipe(**tables: object) -> Recipe:
    """A recipe of two epochs of four images a step."""
    values: dict[str, object] = {
        "name": "small",
        "train": {"epochs": 2, "batch": 4, "ema": 0.9},
        "augment": AUGMENT,
        "score": {"dice": 1.0, "accuracy": 1.0},
    }
    return parse({**values, **tables}, "test")


def small_network(name: str = "mtl_oca", **options: object) -> Network:
    """The same weights every time."""
    torch.manual_seed(0)
    return build(name, **(options or TINY))


def make_trainer(
    images: Images,
    recipe: Recipe,
    *,
    network: Network | None = None,
    stage: Stage | None = None,
    seed: int = 3,
) -> Trainer:
    """A trainer on the CPU."""
    network = network or small_network()
    stage = stage or plan(recipe)[0]
    fabric = make_fabric(bf16=recipe.train.bf16, accelerator="cpu")
    images = stage.images(images)
    pool = Pool(images, None, recipe, fabric.device, batch=stage.batch, classes=len(network.classes))
    options = {**recipe.objective.options, **stage.objective}
    objective = make_objective(network, recipe.objective.name, options)
    return Trainer(fabric, network, objective, pool, recipe, stage, seed=seed)


def fit(trainer: Trainer, images: Images, folder: Path, **watch: object) -> list[Report]:
    """Train to the end, validating on the images."""
    reports: list[Report] = []
    watching = Watch(on_epoch=reports.append, **watch)  # type: ignore[arg-type]
    trainer.fit({"validation": images}, folder, watching)
    return reports


def learn_by_heart(trainer: Trainer, steps: int, lr: float) -> None:
    """Take steps on all images of the pool at once."""
    rows = np.arange(trainer.pool.batch)
    for _ in range(steps):
        trainer.train_step(rows, lr)
