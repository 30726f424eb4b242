"""Tables of the papers as rows to be trained, and each row as a run."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tomli_w
import torch
from rich.console import Console

from models.networks.cost import count_parameters
from models.networks.registry import build, card
from train.objectives import make_objective
from train.recipe import load_recipe
from train.run.fold import network_options
from train.run.request import Request
from train.run.watch import RunError
from train.run.whole import resolve_recipe, run


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network of a table."""

    name: str
    network: str
    options: dict[str, Any] = {}
    """Of the network."""
    settings: dict[str, Any] = {}
    """Values of its paper's recipe, TABLE.KEY."""


class Ablation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a paper."""

    paper: str
    reference: str
    """The row that is the paper's own configuration."""
    rows: tuple[Row, ...]
    options: dict[str, Any] = {}
    """Of every row's network."""
    glands: bool = False
    """It needs gland masks."""


class Planned(NamedTuple):
    """A row that is to be trained."""

    study: str
    row: Row
    request: Request
    parameters: int


def ablations() -> dict[str, Ablation]:
    """Read the tables that can be trained, by name."""
    text = (files("train") / "recipes" / "ablations.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, Ablation])


def plan_row(
    study: str, row: Row, common: Request, *, settings: Sequence[str] = (), backbones: Path | None = None
) -> Planned:
    """Work out the run of a row, and check all of it that can be checked before training.

    :param common: what all rows share; `out` is the folder of all tables.
    :param settings: values for every row's recipe, as of `--set`.
    :param backbones: folder of torchvision's weight files.
    :raises ModelError: if the network does not take an option.
    :raises RecipeError: if the recipe does not have a value.
    :raises ObjectiveError: if the objective does not take an option.
    """
    options = {**ablations()[study].options, **row.options}
    own = [f"network.{name}={_toml(value)}" for name, value in options.items()]
    own += [f"{name}={_toml(value)}" for name, value in row.settings.items()]
    recipe = resolve_recipe(load_recipe("paper", row.network, [*own, *settings]))
    with torch.device("meta"):
        network = build(row.network, **network_options(recipe, row.network))
    make_objective(network, recipe.objective.name, recipe.objective.options)
    file = card(row.network).weights
    request = common._replace(
        model=row.network,
        recipe=recipe,
        out=common.out / study / _slug(row.name),
        weights=backbones / file if backbones and file else None,
    )
    return Planned(study, row, request, count_parameters(network))


def train_row(planned: Planned, console: Console) -> None:
    """Train the folds of a row that are asked for and not done; those that are done stay in its figures.

    :raises RunError: if its folder holds a run of other settings.
    """
    request = planned.request
    saved = request.out / "recipe.toml"
    if saved.is_file() and load_recipe(str(saved), request.model) != request.recipe:
        raise RunError(f"{request.out} was trained with another recipe; name another folder with --out")
    done = {int(path.parent.name.removeprefix("fold-")) for path in request.out.glob("fold-*/answers.npz")}
    which = tuple(sorted(done | set(request.which)))
    if done != set(which) or not (request.out / "results.json").is_file():
        run(request._replace(which=which, resume=saved.is_file()), console, lambda: False)


def _toml(value: Any) -> str:
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
