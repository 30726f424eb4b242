"""The training loop: draw, augment, step, average, validate, keep the best."""

import ctypes
import math
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.networks.base import Network, Output
from models.networks.registry import CLASSES
from train import checkpoint, metrics
from train.augment import UNKNOWN, Batch, augment
from train.data import Images, shrink
from train.recipe import Recipe

_WARM_UP = 0.02


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When a run ends and how often it looks up; exactly one of `minutes` and `steps`."""

    minutes: float | None = None
    steps: int | None = None
    validations: int = 12
    """How many times the run is validated and a checkpoint is kept, evenly spread."""

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the run that is done, 0 to 1."""
        done = elapsed_s / (60 * self.minutes) if self.minutes else step / (self.steps or 1)
        return min(1.0, done)


class Report(NamedTuple):
    """What is known after a validation."""

    step: int
    progress: float
    elapsed_s: float
    lr: float
    losses: dict[str, float]
    """Means since the last report."""
    figures: dict[str, dict[str, float]]
    """By validation set."""
    score: float
    images_per_s: float


class Trainer:
    """One run: its network, its averaged copy, its random state."""

    def __init__(
        self, network: Network, real: Images, synthetic: Images | None, recipe: Recipe, *, seed: int
    ) -> None:
        """Prepare a run.

        :param real: at least as large as the network's input, better larger: crops are drawn from it.
        :param synthetic: of the same size, or None.
        """
        self.network, self.recipe = network.train(), recipe
        self.averaged = deepcopy(network).eval().requires_grad_(False)
        self.size = network.size[0]
        kind = torch.optim.AdamW if recipe.weight_decay else torch.optim.Adam
        self.optimizer = kind(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        sets = [real] if synthetic is None else [real, synthetic]
        shares = [1.0] if synthetic is None else [1 - recipe.synthetic_share, recipe.synthetic_share]
        self._pixels = torch.from_numpy(np.concatenate([part.pixels for part in sets]))
        self._masks = torch.from_numpy(np.concatenate([part.masks for part in sets]))
        self._labels = torch.from_numpy(np.concatenate([part.labels for part in sets]))
        weights = [_weights(part, recipe, share) for part, share in zip(sets, shares, strict=True)]
        self._weights = torch.from_numpy(np.concatenate(weights))
        self.step = 0
        self.elapsed_s = 0.0
        self.best_score = -math.inf
        self.best: dict[str, Tensor] = {}

    def fit(
        self,
        budget: Budget,
        validation: dict[str, Images],
        folder: Path,
        on_report: Callable[[Report], None] = lambda _: None,
        on_step: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Train to the end of the budget; `folder` gets `last.pt` after every validation.

        :param on_step: called with the progress after every step.
        :raises TrainingError: if the loss is not finite.
        """
        small = {name: shrink(images, self.size) for name, images in validation.items()}
        sums: dict[str, float] = {}
        before, since = time.monotonic() - self.elapsed_s, self.step
        progress = budget.progress(self.step, self.elapsed_s)
        next_look = math.floor(progress * budget.validations + 1e-9) + 1
        looked = time.monotonic()
        while progress < 1:
            lr = rate(self.recipe, progress)
            for name, value in self.train_step(lr).items():
                sums[name] = sums.get(name, 0.0) + value
            self.elapsed_s = time.monotonic() - before
            progress = budget.progress(self.step, self.elapsed_s)
            on_step(progress)
            if progress * budget.validations + 1e-9 < next_look:
                continue
            next_look = math.floor(progress * budget.validations + 1e-9) + 1
            steps = self.step - since
            speed = steps * self.recipe.batch / (time.monotonic() - looked)
            figures = {name: validate(self.averaged, images) for name, images in small.items()}
            score = float(np.mean([_score(part) for part in figures.values()])) if figures else progress
            if score > self.best_score:
                self.best_score = score
                self.best = {name: value.clone() for name, value in self.averaged.state_dict().items()}
            checkpoint.save(folder / "last.pt", self.state())
            losses = {name: value / steps for name, value in sums.items()}
            on_report(Report(self.step, progress, self.elapsed_s, lr, losses, figures, score, speed))
            sums, since, looked = {}, self.step, time.monotonic()

    def train_step(self, lr: float) -> dict[str, float]:
        """Take one step.

        :return: the losses, each unweighted, and their weighted `total`.
        :raises TrainingError: if the total is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        rows = torch.multinomial(self._weights, self.recipe.batch, True, generator=self.generator)
        batch = Batch(
            self._pixels[rows].unsqueeze(1).float() / 255,
            self._masks[rows].unsqueeze(1).float() / 255,
            self._labels[rows],
        )
        batch = augment(batch, self.size, self.recipe.augment, self.generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            output = self.network(batch.frames)
        losses = compute_losses(output, batch, self.recipe)
        total = losses["total"]
        if not torch.isfinite(total):
            values = {name: float(value.detach()) for name, value in losses.items()}
            raise TrainingError(f"loss is not finite at step {self.step}, images {rows.tolist()}: {values}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _average(self) -> None:
        decay = min(self.recipe.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                mean.lerp_(value, 1 - decay)

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs to go on bit by bit."""
        return {
            "network": self.network.name,
            "options": self.network.options,
            "recipe": asdict(self.recipe),
            "classes": list(CLASSES),
            "weights": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best,
            "best_score": self.best_score,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        :raises CheckpointError: if it is of another network or recipe.
        """
        for name, mine in (("network", self.network.name), ("recipe", asdict(self.recipe))):
            if state.get(name) != mine:
                raise checkpoint.CheckpointError(
                    f"the checkpoint has {name} {state.get(name)!r}, this run {mine!r}; "
                    "resume with the settings it was started with"
                )
        try:
            self.network.load_state_dict(state["weights"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"the checkpoint does not fit the network: {error}") from None
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        self.best, self.best_score = state["best"], state["best_score"]


def rate(recipe: Recipe, progress: float) -> float:
    """Learning rate at a share of the run."""
    if recipe.schedule == "constant":
        return recipe.lr
    if progress < _WARM_UP:
        return recipe.lr * (0.05 + 0.95 * progress / _WARM_UP)
    done = (progress - _WARM_UP) / (1 - _WARM_UP)
    return recipe.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def compute_losses(output: Output, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """L = L_aug + alpha L_coarse + Dice + L_cls (eqs 4 and 5; Dice and the weights are the recipe's).

    :return: each part unweighted, and `total`.
    """
    assert output.lesion_logits is not None
    assert output.class_logits is not None
    target = batch.masks[:, 0]
    logits = output.lesion_logits.float()
    losses = {"mask": _mask_loss(logits, target)}
    total = losses["mask"]
    if "coarse_logits" in output.auxiliary:
        losses["coarse"] = _mask_loss(output.auxiliary["coarse_logits"].float(), target)
        total = total + recipe.coarse_weight * losses["coarse"]
    if recipe.dice_weight:
        probability = logits.softmax(dim=1)[:, 1]
        overlap = (probability * target).sum(dim=(1, 2))
        sizes = probability.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
        # The constant lets an empty mask be right: without it every normal would cost the full loss.
        losses["dice"] = (1 - (2 * overlap + 20) / (sizes + 20)).mean()
        total = total + recipe.dice_weight * losses["dice"]
    if (batch.labels != UNKNOWN).any():
        losses["class"] = F.cross_entropy(
            output.class_logits.float(),
            batch.labels,
            ignore_index=UNKNOWN,
            label_smoothing=recipe.label_smoothing,
        )
        total = total + recipe.class_weight * losses["class"]
    losses["total"] = total
    return losses


def _mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], target)


class Prediction(NamedTuple):
    """What a network says of a set of images."""

    lesion: NDArray[np.float32]
    """M x H x W, probability."""
    logits: NDArray[np.float32]
    """M x K."""


def predict(network: Network, images: Images, *, batch: int = 32, bf16: bool = True) -> Prediction:
    """Run a network over images of its own size."""
    lesions, logits = [], []
    training = network.training
    network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for start in range(0, len(images), batch):
            frames = torch.from_numpy(images.pixels[start : start + batch]).unsqueeze(1).float() / 255
            output = network(frames)
            assert output.lesion is not None
            assert output.class_logits is not None
            lesions.append(output.lesion.float().numpy())
            logits.append(output.class_logits.float().numpy())
    network.train(training)
    return Prediction(np.concatenate(lesions), np.concatenate(logits))


def validate(network: Network, images: Images) -> dict[str, float]:
    """Score a network on images of its own size."""
    lesion, logits = predict(network, images)
    probabilities = torch.from_numpy(logits).softmax(dim=1).double().numpy()
    marked, truth, labels = lesion >= 0.5, images.masks >= 128, images.labels
    with_lesion = labels != CLASSES.index("normal")
    return {
        "dice": float(metrics.dice(marked, truth)[with_lesion].mean()),
        "auc": metrics.auc(probabilities[with_lesion, 1], labels[with_lesion] == CLASSES.index("malignant")),
        "accuracy": metrics.accuracy(probabilities, labels),
        "balanced_accuracy": metrics.balanced_accuracy(probabilities, labels),
        "false_positives": metrics.false_positive_rate(marked[~with_lesion]),
        "cross_entropy": float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))),
    }


def _score(figures: dict[str, float]) -> float:
    return (
        2 * figures["dice"]
        + figures["auc"]
        + figures["balanced_accuracy"]
        + 0.5 * (1 - figures["false_positives"])
    )


def _weights(images: Images, recipe: Recipe, share: float) -> NDArray[np.float64]:
    """Chance of every image to be drawn, `share` in total."""
    weights = np.ones(len(images))
    if recipe.class_shares is not None:
        for label, wanted in enumerate(recipe.class_shares):
            here = images.labels == label
            weights[here] = wanted / max(1, here.sum())
    normalised: NDArray[np.float64] = weights / weights.sum() * share
    return normalised


def keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back after every layer.

    Feature maps are large enough to be mapped and zeroed anew each time: measured 97 against 63 ms per image
    and step. Does nothing elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
