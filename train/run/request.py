"""What a run was asked for, and what it has made."""

from pathlib import Path
from typing import Literal, NamedTuple

from train.recipe import Recipe
from train.run.fold import Tested
from train.sets import Heldout
from train.splits import Split

Selection = Literal["inner", "test-fold"]


class Request(NamedTuple):
    """What `sonostream train` was asked for."""

    model: str
    data: tuple[str, ...]
    recipe: Recipe
    out: Path
    folds: int = 5
    which: tuple[int, ...] = (1,)
    """Folds to train, from 1."""
    split: Split = "grouped"
    selection: Selection = "inner"
    heldout: Heldout = "leave_out"
    seed: int = 0
    weights: Path | None = None
    start: Path | None = None
    """Checkpoint of a network of the same kind, to go on learning from."""
    device: str = "auto"
    resume: bool = False
    tensorboard: bool = False
    cache: Path = Path(".cache")
    command: str = ""


class Outcome(NamedTuple):
    """What a run has made."""

    folds: tuple[Tested, ...]
    artifact: Path | None
    problem: str
    """Why there is no artifact."""
