"""Where a run has got to, and the files it leaves in its folder: `last.pt`, `best.pt`, `epochs.jsonl`."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.networks.base import Network
from train.learning import checkpoint
from train.learning.checkpoint import CheckpointError
from train.recipe import Recipe

LAST, BEST, EPOCHS = "last.pt", "best.pt", "epochs.jsonl"


@dataclass(slots=True)
class Saved:
    """How far a stage is."""

    epochs_before: int = 0
    """In earlier stages."""
    epoch: int = 0
    """Epochs of the stage that are done."""
    position: int = 0
    """Steps of the present epoch that are done."""
    step: int = 0
    """Steps of the stage that are done."""
    elapsed_s: float = 0.0
    best_epoch: int | None = None
    best_score: float = 0.0
    waited: int = 0
    """Epochs since the best one."""

    def place(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @staticmethod
    def header(network: Network, recipe: Recipe) -> dict[str, Any]:
        """Say what a checkpoint is of."""
        return {
            "network": network.name,
            "options": network.options,
            "classes": list(network.classes),
            "recipe": recipe.model_dump(mode="json", exclude_none=True),
        }

    def write(self, folder: Path, state: dict[str, Any]) -> None:
        """Replace `last.pt`.

        :raises CheckpointError: if it cannot be written; the old one is then untouched.
        """
        checkpoint.save(folder / LAST, state)

    def write_best(self, folder: Path, network: Network, judged: Network, recipe: Recipe) -> None:
        """Replace `best.pt`: the weights to export, without what training needs.

        :raises CheckpointError: as `write`.
        """
        state = {
            **self.header(network, recipe),
            "weights": judged.state_dict(),
            "epoch": self.best_epoch,
            "step": self.step,
            "score": self.best_score,
        }
        checkpoint.save(folder / BEST, state)

    def append(self, folder: Path, report: dict[str, Any]) -> None:
        """Add a line to `epochs.jsonl`.

        :raises CheckpointError: if it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / EPOCHS).open("a", encoding="utf-8") as log:
                log.write(json.dumps(report) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"cannot write {folder / EPOCHS}: {error.strerror or error}; the checkpoint before is intact"
            ) from None


def rewind(folder: Path, epochs: int) -> None:
    """Drop lines of `epochs.jsonl` about epochs that the checkpoint does not hold: they will be run again."""
    path = folder / EPOCHS
    if path.is_file():
        kept = [line for line in _lines(path) if json.loads(line)["epoch"] <= epochs]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        partial.replace(path)


def read_epochs(folder: Path) -> list[dict[str, Any]]:
    """Read `epochs.jsonl`; a last line that was cut off by a crash is left out."""
    path = folder / EPOCHS
    return [json.loads(line) for line in _lines(path)] if path.is_file() else []


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except json.JSONDecodeError:
            return
        yield line


def check_recipe(before: Recipe, recipe: Recipe, path: Path) -> None:
    """Compare the recipe of a run with the one it is to continue with.

    :raises CheckpointError: if they differ; names the value.
    """
    theirs, mine = (one.model_dump(mode="json", exclude_none=True) for one in (before, recipe))
    _refuse("recipe", theirs, mine, path)


def check_header(state: dict[str, Any], network: Network, recipe: Recipe, path: Path) -> None:
    """Compare a checkpoint with the run that wants to continue from it.

    :raises CheckpointError: if it is of another network or recipe; names what differs.
    """
    for name, mine in Saved.header(network, recipe).items():
        _refuse(name, state.get(name), mine, path)


def _refuse(name: str, theirs: Any, mine: Any, path: Path) -> None:
    theirs, mine = _plain(theirs), _plain(mine)
    if theirs != mine:
        key, old, new = _difference(name, theirs, mine)
        raise CheckpointError(
            f"{path} was made with {key} = {old!r}, this run has {new!r}; resume with the settings it was "
            "started with, or start anew in another folder"
        )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _difference(key: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return _difference(f"{key}.{name}", old.get(name), new.get(name))
    return key, old, new
