"""How a network is trained: TOML files of a few tables, checked, overridden value by value, saved resolved.

`live` (train/recipes/live.toml) is one recipe for every network, made for streams; `paper` is the network's
own (in train/recipes/paper).
"""

import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from train.augment.strength import Strength

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class RecipeError(ValueError):
    """A recipe cannot be used; the message names the file, the key and what is expected."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Optimizer(_Table):
    """What turns gradients into steps."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    momentum: Share = 0.9
    """Of `sgd`."""
    weight_decay: NotNegative = 0.0


class Schedule(_Table):
    """How the learning rate changes over the run."""

    name: Literal["constant", "cosine", "step"] = "constant"
    warm_up: Share = 0.0
    """Share of the run in which the rate rises from 5 % of `lr` to all of it."""
    final: Share = 0.01
    """Of `cosine`: share of `lr` at the end."""
    every_epochs: Annotated[int, Field(ge=1)] = 20
    """Of `step`: the rate is multiplied by `gamma` after this many epochs."""
    gamma: Share = 0.9


class Train(_Table):
    """How long, how many at a time, in what precision. The run ends after `epochs` or `minutes`."""

    batch: Annotated[int, Field(ge=1)] = 16
    """Images of a step, over all processes."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    minutes: Positive | None = None
    """The schedule then follows the clock."""
    epoch_images: Annotated[int, Field(ge=0)] = 0
    """Images of an epoch; 0: as many as there are real images to train on."""
    bf16: bool = False
    """Compute in bfloat16 where autocast allows it."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the averaged weights that are validated and exported; 0: the weights themselves."""
    clip: NotNegative = 0.0
    """Largest norm of the gradient; 0: no limit."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many epochs without a better score; 0: never."""


class Draw(_Table):
    """What the training images of an epoch are."""

    class_shares: tuple[Share, ...] | None = None
    """Share of every class in what is drawn (with repeats); None: every image once per epoch."""
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of phantom images in what is drawn."""
    masked_share: Share = 1.0
    """Share of the training masks that are used; the others are hidden, chosen by the seed."""
    oversize: Annotated[float, Field(ge=1, le=4)] = 1.0
    """Images are kept this many times larger than the network's input, for sharp crops."""


class Stages(_Table):
    """LA-Net's two stages (its Algorithm 1)."""

    first_epochs: Annotated[int, Field(ge=1)] = 10
    """Of the first stage: location alone, on images with a mask or a box; `train.epochs` is the second's."""
    first_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of a run that ends after `train.minutes`."""
    first_batch: Annotated[int, Field(ge=1)] | None = None
    """None: as `train.batch`."""
    reuse_fex: bool = False
    """Take the first stage's feature extractor into the second, not LA-Net alone."""


class Objective(_Table):
    """The loss by its name; every other key is an option of it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "generic"

    @property
    def options(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.model_extra or {})


class Recipe(_Table):
    """Everything about a run but the network's name, the data and the seed."""

    name: str
    networks: tuple[str, ...] = ()
    """Whose paper's recipe it is."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train = Train()
    draw: Draw = Draw()
    augment: Strength = Strength()
    objective: Objective = Objective()
    stages: Stages | None = None
    """None: one stage."""
    network: dict[str, Any] = {}
    """Options of the network, as of `models.create`."""
    score: dict[Literal["dice", "auc", "accuracy", "balanced_accuracy", "false_positives"], float] = {
        "dice": 1.0,
        "accuracy": 1.0,
    }
    """Weights of the validation figures whose sum chooses the checkpoint; empty: the last epoch's is kept."""
    calibrate: bool = False
    """Fit the temperature of the class probabilities on the validation part."""

    @model_validator(mode="after")
    def _one_end(self) -> "Recipe":
        if (self.train.epochs is None) == (self.train.minutes is None):
            raise ValueError("train needs either epochs or minutes")
        return self


def load_recipe(name: str, network: str, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe and change some of its values.

    :param name: `live`, `paper`, or a TOML file.
    :param network: whose recipe `paper` is.
    :param settings: each TABLE.KEY=VALUE, the value in TOML's spelling; a bare word is text.
    :raises RecipeError: if there is no such recipe, or a key or value is not one that it can have.
    """
    path = _find(name, network)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{path} is no TOML: {error}") from None
    values.setdefault("name", path.stem)
    parse(values, str(path))  # so that what the file has wrong is not blamed on the settings
    for setting in settings:
        _override(values, setting)
    return parse(values, "--set")


def parse(values: dict[str, Any], where: str) -> Recipe:
    """Check the values of a recipe.

    :param where: they come from, for the message.
    :raises RecipeError: if one is not right.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "train"
        if first["type"] == "extra_forbidden":
            raise RecipeError(f"{where}: there is no key {key}; {_known(first['loc'])}") from None
        raise RecipeError(f"{where}: {key}: {first['msg']}, not {first['input']!r:.80}") from None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as TOML that `load_recipe` reads back."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def paper_recipes() -> dict[str, Path]:
    """Find the recipe of every network that has one of its own; a paper's baselines share its recipe."""
    folder = Path(str(files("train") / "recipes" / "paper"))
    return {
        network: path
        for path in sorted(folder.glob("*.toml"))
        for network in tomllib.loads(path.read_text(encoding="utf-8"))["networks"]
    }


def _find(name: str, network: str) -> Path:
    if name == "live":
        return Path(str(files("train") / "recipes" / "live.toml"))
    if name == "paper":
        known = paper_recipes()
        if network not in known:
            raise RecipeError(
                f"{network} has no paper recipe, only {', '.join(known)}; use --recipe live, or a TOML file "
                "of your own"
            )
        return known[network]
    path = Path(name)
    if not path.is_file():
        raise RecipeError(f"no recipe {name}: it is live, paper or the name of a TOML file")
    return path


def _override(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {setting}: write TABLE.KEY=VALUE, for instance optimizer.lr=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    for part in parts[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {setting}: {part} is a value, not a table")
        values = inner
    values[parts[-1]] = value
    # The run has one end: naming it replaces the other.
    if parts[-1] in ("epochs", "minutes"):
        values.pop({"epochs": "minutes", "minutes": "epochs"}[parts[-1]], None)


def _known(location: tuple[int | str, ...]) -> str:
    tables = {name: field.annotation for name, field in Recipe.model_fields.items()}
    if len(location) < 2:
        return f"the tables and keys are {', '.join(tables)}"
    table = Stages if location[0] == "stages" else tables.get(str(location[0]))
    if isinstance(table, type) and issubclass(table, BaseModel):
        return f"{location[0]} has {', '.join(table.model_fields)}"
    return f"look at {location[0]}"
