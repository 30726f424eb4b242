"""The training loop: draw, augment, step, average; after every epoch validate, keep the best, save.

All that is random in a step follows from the seed and the step's number, so a run that continues from a
checkpoint goes on bit by bit, and several processes that share a batch see what one would.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from models.networks.base import Network
from train.augment.feed import augment
from train.data import Images
from train.learning.chance import Chance, mix
from train.learning.checkpoint import CheckpointError
from train.learning.draw import Pool
from train.learning.processes import (
    any_process,
    first_process,
    own_rows,
    share_statistics,
    whole_batch,
    whole_output,
)
from train.learning.saved import Saved, check_header
from train.learning.schedule import make_optimizer, rate
from train.learning.stages import Stage
from train.learning.step import Losses, average
from train.learning.validation import figures, predict_shared, score
from train.objectives import Objective
from train.recipe import Recipe
from train.run.watch import Interrupted, Report, Watch


class Trainer:
    """One stage of a run: its network, its averaged copy, where it has got to."""

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        objective: Objective,
        pool: Pool,
        recipe: Recipe,
        stage: Stage,
        *,
        seed: int,
    ) -> None:
        """Prepare a stage.

        :raises RunError: if the batch cannot be shared by the processes.
        """
        self.fabric, self.recipe, self.stage, self.seed, self.pool = fabric, recipe, stage, seed, pool
        self.rows = own_rows(pool.batch, fabric)
        self.averaged = deepcopy(network).eval().requires_grad_(False) if recipe.train.ema else None
        self.network = network.train()
        self.objective = objective.to(fabric.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = make_optimizer(recipe.optimizer, network, objective)
        self.module, self.optimizer = fabric.setup(share_statistics(network), optimizer)
        if self.averaged is not None:
            self.averaged.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.saved, self.losses = Saved(), Losses()

    @property
    def judged(self) -> Network:
        """The network that is validated and exported."""
        return self.network if self.averaged is None else self.averaged

    @property
    def progress(self) -> float:
        """Share of the stage that is done."""
        return self.stage.budget.progress(self._epochs, self.saved.elapsed_s)

    @property
    def finished(self) -> bool:
        """Whether the stage is over."""
        patience = self.recipe.train.patience
        tired = self.stage.last and patience > 0 and self.saved.waited >= patience
        return self.saved.position == 0 and (tired or self.progress >= 1)

    @property
    def _epochs(self) -> float:
        return self.saved.epoch + self.saved.position / self.pool.steps

    def fit(self, validation: Mapping[str, Images], folder: Path, watch: Watch) -> None:
        """Train to the end; `folder` gets `last.pt` and a line of `epochs.jsonl` after every epoch.

        :param validation: images of the network's size.
        :raises Interrupted: if `watch.stopping` says so; `last.pt` then continues after the last step.
        :raises TrainingError: if a loss is not finite.
        :raises CheckpointError: if a checkpoint cannot be written.
        """
        began = time.monotonic() - self.saved.elapsed_s
        while not self.finished:
            order = self.pool.order(mix(self.seed, "order", self.stage.number, self.saved.epoch))
            entered, first, lr = time.monotonic(), self.saved.position, 0.0
            for rows in order[self.saved.position :]:
                lr = rate(self.recipe.schedule, self.recipe.optimizer.lr, self.progress, self._epochs)
                self.train_step(rows, lr)
                self.saved.position += 1
                self._read_clock(began)
                watch.on_step(self.progress, self.losses.latest)
                if self.stage.budget.minutes is not None and self.progress >= 1:
                    break
                if any_process(watch.stopping(), self.fabric.device):
                    self.losses.read()
                    self._save(folder)
                    raise Interrupted
            self.losses.read()
            speed = (self.saved.position - first) * self.pool.batch / (time.monotonic() - entered)
            report = self._close(validation, folder, lr, speed)
            self._read_clock(began)
            self._save(folder)
            watch.on_epoch(report)

    def train_step(self, rows: NDArray[np.int64], lr: float) -> dict[str, float]:
        """Take one step.

        :param rows: of the pool, of the whole batch.
        :return: the last losses known: on a GPU those of the step before.
        :raises TrainingError: if a loss is not finite.
        """
        own, which = self.rows, (self.stage.number, self.saved.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(mix(self.seed, "dropout", *which, self.fabric.global_rank))
        chance = Chance(mix(self.seed, "augment", *which), own, self.fabric.device)
        batch = self.pool.take(rows[own.first : own.first + own.own])
        batch = augment(batch, self.network.size, self.recipe.augment, chance)
        output = self.module(batch.frames.contiguous(memory_format=torch.channels_last))
        losses = self.objective(whole_output(output), whole_batch(batch))
        self.losses.add(losses, [self.pool.names[row] for row in rows])
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(losses["total"])
        if self.recipe.train.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.train.clip)
        self.optimizer.step()
        self.saved.step += 1
        if self.averaged is not None:
            # Early on the mean reaches back a tenth of the run so far, not to the random weights.
            early = self.saved.step / (self.saved.step + 10)
            average(self.averaged, self.network, min(self.recipe.train.ema, early))
        return self.losses.latest

    def _read_clock(self, began: float) -> None:
        elapsed = time.monotonic() - began
        # A run that the clock ends must end at the same step everywhere.
        timed = self.stage.budget.minutes is not None
        self.saved.elapsed_s = first_process(elapsed, self.fabric.device) if timed else elapsed

    def _close(self, validation: Mapping[str, Images], folder: Path, lr: float, speed: float) -> Report:
        """End an epoch: judge it, keep it if it is the best, note it."""
        saved, progress = self.saved, self.progress
        losses = {name: value / saved.position for name, value in self.losses.sums.items()}
        self.objective.on_epoch(losses)
        sets = {
            name: figures(predict_shared(self.judged, images, bf16=self.recipe.train.bf16), images)
            for name, images in validation.items()
        }
        weights = {str(name): weight for name, weight in self.recipe.score.items()}
        value = score(sets, weights) if self.stage.last else None
        saved.epoch, saved.position, self.losses.sums = saved.epoch + 1, 0, {}
        epoch = saved.epochs_before + saved.epoch
        better = value is None or saved.best_epoch is None or value > saved.best_score
        best = self.stage.last and better
        saved.waited = 0 if best else saved.waited + 1
        if best:
            saved.best_epoch, saved.best_score = epoch, value or 0.0
        report = Report(
            stage=self.stage.name,
            epoch=epoch,
            step=saved.step,
            progress=progress,
            elapsed_s=saved.elapsed_s,
            lr=lr,
            losses=losses,
            validation=sets,
            score=value,
            best=best,
            images_per_s=speed,
        )
        if self.fabric.is_global_zero:
            if best:
                saved.write_best(folder, self.network, self.judged, self.recipe)
            saved.append(folder, report._asdict())
        return report

    def _save(self, folder: Path) -> None:
        if self.fabric.is_global_zero:
            self.saved.write(folder, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs to go on bit by bit."""
        return {
            **self.saved.header(self.network, self.recipe),
            "seed": self.seed,
            "images": mix(*self.pool.names),
            "stage": self.stage.number,
            "weights": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "place": self.saved.place(),
            "sums": self.losses.sums,
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Continue from a checkpoint.

        :param path: it was read from.
        :raises CheckpointError: if it is of another network, recipe, seed or data set.
        """
        check_header(state, self.network, self.recipe, path)
        for name, mine in (("seed", self.seed), ("images", mix(*self.pool.names))):
            if state.get(name) != mine:
                what = f"seed {state.get(name)}" if name == "seed" else "other training images"
                raise CheckpointError(f"{path} was made with {what}; resume with what it was started with")
        try:
            self.network.load_state_dict(state["weights"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.objective.load_state_dict(state["objective"])
            self.saved = Saved(**state["place"])
            self.losses.sums = dict(state["sums"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} does not fit this run ({error}); start anew without --resume"
            ) from None
