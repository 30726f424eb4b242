"""The folder of a run before it is trained: its recipe, its folds, what is known of its data."""

import json

from lightning_fabric import Fabric

from models.networks.base import Network
from models.networks.registry import CLASSES, card
from train.data import Study
from train.learning.saved import LAST, check_recipe
from train.recipe import Recipe, load_recipe, save_recipe
from train.run.request import Request
from train.run.watch import RunError
from train.sets import DataSet
from train.splits import FoldTable, make_folds, read_folds


def has_class(study: Study, network: Network) -> bool:
    """Whether a network can learn from an image: its class is one of the network's, or not known."""
    classes = network.classes
    return study.label is None or not classes or study.label in classes


def claim(request: Request, recipe: Recipe) -> None:
    """Take the folder for a run and save its recipe there.

    :param recipe: resolved.
    :raises RunError: if another run has it, none is there to continue, or it cannot be written.
    :raises CheckpointError: if the run to continue has another recipe.
    """
    saved = request.out / "recipe.toml"
    started = saved.is_file() or any(request.out.glob(f"fold-*/{LAST}"))
    if started and not request.resume:
        raise RunError(f"{request.out} holds a run; continue it with --resume, or name another folder")
    if request.resume and not started:
        raise RunError(f"{request.out} holds no run to continue; leave out --resume to start one")
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        if request.resume and saved.is_file():
            before = load_recipe(str(saved), request.model)
            check_recipe(before, recipe, saved)
        save_recipe(recipe, saved)
    except OSError as error:
        raise RunError(
            f"cannot write {saved}: {error.strerror or error}; name another folder with --out"
        ) from None


def folds_of(request: Request, studies: list[Study], fabric: Fabric) -> FoldTable:
    """Make the folds and write them to `folds.csv`, or read those of the run that is continued.

    :raises DataError: if they cannot be made, read or written.
    :raises RunError: if a fold that is asked for does not exist.
    """
    path = request.out / "folds.csv"
    if request.resume and path.is_file():
        table = read_folds(path, studies, split=request.split)
    else:
        table = make_folds(studies, folds=request.folds, seed=request.seed, split=request.split)
    fabric.barrier()
    if fabric.is_global_zero:
        table.write(path)
    missing = [number for number in request.which if number > table.folds]
    if missing:
        raise RunError(f"there is no fold {missing[0]}: the split has {table.folds}")
    return table


def notes_on(request: Request, data: DataSet, others: int, network: Network) -> tuple[str, ...]:
    """Say what the user should know before the run starts, a sentence each.

    :param others: images of classes that the network does not have.
    """
    notes = []
    if others:
        notes.append(
            f"{others} images are left out: {request.model} tells {', '.join(network.classes)} apart; "
            f"--set network.num_classes={len(CLASSES)} would use them"
        )
    published = card(request.model).weights
    if request.weights is None and request.start is None and network.pretrained() is not None:
        notes.append(
            f"{request.model} starts from random weights, its paper from ImageNet's: --weights takes a "
            f"local copy of torchvision's {published}"
        )
    if request.start is not None:
        notes.append(
            f"starts from {request.start.name}: images that it was trained on must not judge this run's folds"
        )
    if request.selection == "test-fold":
        notes.append("the checkpoint is chosen on the test part: the figures are optimistic")
    if request.heldout == "use":
        notes.append("BUSI's held-out fifth is used: it cannot judge this model any more")
    if request.recipe.draw.synthetic_share and any(path.startswith("phantom:") for path in request.data):
        notes.append("draw.synthetic_share has no effect: the data is synthetic already")
    notes += [f"{one['count']} {one['says']}" for kind, one in data.findings.items() if kind != "sets"]
    return tuple(notes)


def write_data(request: Request, data: DataSet, notes: tuple[str, ...]) -> None:
    """Write `data.json`: what was found in the data, and how it is used."""
    says = {
        "findings": data.findings,
        "command": request.command,
        "network": request.model,
        "split": request.split,
        "selection": "test part" if request.selection == "test-fold" else "inner validation split",
        "heldout": request.heldout,
        "seed": request.seed,
        "weights": file.name if (file := request.weights or request.start) else None,
        "notes": notes,
    }
    path = request.out / "data.json"
    partial = path.with_name("data.json.partial")
    partial.write_text(json.dumps(says, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
