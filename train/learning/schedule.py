"""When a run ends and what the learning rate is on the way."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from train.recipe import Optimizer, Schedule


@dataclass(frozen=True, slots=True)
class Budget:
    """When a stage ends; exactly one of the two."""

    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.epochs is None):
            raise ValueError("give either minutes or epochs")

    def progress(self, epochs: float, elapsed_s: float) -> float:
        """Share of the stage that is done, 0 to 1.

        :param epochs: done, with the part of the present one.
        :param elapsed_s: training time of the stage.
        """
        done = elapsed_s / (60 * self.minutes) if self.minutes else epochs / (self.epochs or 1)
        return min(1.0, done)


def rate(schedule: Schedule, lr: float, progress: float, epochs: float) -> float:
    """Learning rate at a point of the run.

    :param lr: the recipe's.
    :param progress: share of the run that is done, 0 to 1.
    :param epochs: done.
    """
    if schedule.name == "step":
        return lr * schedule.gamma ** (int(epochs + 1e-9) // schedule.every_epochs)
    if progress < schedule.warm_up:
        return lr * (0.05 + 0.95 * progress / schedule.warm_up)
    if schedule.name == "constant":
        return lr
    done = (progress - schedule.warm_up) / max(1e-9, 1 - schedule.warm_up)
    return lr * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * done)) / 2)


def make_optimizer(options: Optimizer, *modules: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of all weights that learn."""
    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    if options.name == "sgd":
        return torch.optim.SGD(
            weights, options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(weights, options.lr, options.betas, options.eps, options.weight_decay)
