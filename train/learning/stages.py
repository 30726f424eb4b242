"""The stages of a run: one, or LA-Net's two (its Algorithm 1).

The first stage learns to locate, on the images with a mask or a box; the second starts from what it learned
and learns to classify on all images. Pseudo labels of images without a mask are made anew for every batch
of the second stage, from the network as it then is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from models.networks.base import Network
from train.data import Images
from train.learning.schedule import Budget
from train.objectives.la_net import carry_over
from train.recipe import Recipe, RecipeError


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run with its own objective and its own optimizer."""

    name: str
    number: int
    """From 0."""
    budget: Budget
    objective: dict[str, Any]
    """Options that differ from the recipe's."""
    batch: int
    located_only: bool = False
    """Learn from images with a mask or a box alone."""
    last: bool = True
    """Its best epoch is the run's result."""
    carries: dict[str, bool] = field(default_factory=dict)
    """What the stage takes over from the one before: keywords of `carry_over`."""

    def images(self, images: Images) -> Images:
        """Choose the images that it learns from.

        :raises RecipeError: if none of them says where a lesion is.
        """
        if not self.located_only:
            return images
        located = images.masked | images.boxed
        if not located.any():
            raise RecipeError(
                "the first stage learns where lesions are, and no training image has a mask or a box; add "
                "some, or raise draw.masked_share"
            )
        return images if located.all() else images.take(located)

    def start(self, network: Network, before: Mapping[str, Tensor] | None) -> None:
        """Give a fresh network what the stage before has learned."""
        if before is not None:
            carry_over(network, before, **self.carries)


def plan(recipe: Recipe) -> tuple[Stage, ...]:
    """Divide a run into its stages.

    :raises RecipeError: if the objective knows no stages.
    """
    train, stages = recipe.train, recipe.stages
    if stages is None:
        return (Stage("training", 0, Budget(train.epochs, train.minutes), {}, train.batch),)
    if recipe.objective.name != "la_net":
        raise RecipeError(
            f"[stages] is for objective.name = 'la_net', not {recipe.objective.name!r}; remove the table"
        )
    if train.minutes is not None:
        first = Budget(minutes=train.minutes * stages.first_share)
        second = Budget(minutes=train.minutes * (1 - stages.first_share))
    else:
        first, second = Budget(epochs=stages.first_epochs), Budget(epochs=train.epochs)
    return (
        Stage(
            "locate",
            0,
            first,
            {"stage": "locate"},
            stages.first_batch or train.batch,
            located_only=True,
            last=False,
        ),
        Stage(
            "joint",
            1,
            second,
            {"stage": "joint"},
            train.batch,
            carries={"reuse_fex": stages.reuse_fex},
        ),
    )
