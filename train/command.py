"""`sonostream train`: from a folder of images to a checkpoint and its log."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import models
from models.networks.registry import ModelError
from train import checkpoint, splits
from train.busi import divide, read_busi
from train.data import DataError, Images, read_images
from train.loop import Budget, Report, Trainer, TrainingError, keep_memory
from train.phantoms import Mixture, load_or_render
from train.recipe import recipe as find_recipe

# Crops are drawn from pictures this many times larger than the network's input.
_OVERSIZE = 2
INNER_FRACTION = 0.15
INNER_SEED = 1
TRAIN_MIXTURE = Mixture(stills=1500, sweeps=50, frames=20)
VALIDATION_MIXTURE = Mixture(stills=60, sweeps=4, frames=10)


def train_command(
    data: Annotated[Path, typer.Option(help="Folder of BUSI in its original layout, with index.csv.")],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint and the log.")],
    model: Annotated[str, typer.Option(help="Network, as listed by `sonostream models`.")] = "mtl_oca",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the network as NAME=JSON, for instance widths=[32,64,128]."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="`live` or `paper`.")] = "live",
    minutes: Annotated[float, typer.Option(help="Time to train; the schedule ends with it.")] = 60,
    synthetic: Annotated[bool, typer.Option(help="Mix in pictures of the phantom.")] = True,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    resume: Annotated[bool, typer.Option(help="Continue from OUT/last.pt.")] = False,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Train a network on BUSI (without its held-out fifth) and pictures of the phantom."""
    console = Console()
    try:
        torch.set_num_threads(threads)
        keep_memory()
        network = models.create(model, **_options(option or []))
        network.to(torch.float32)
        real, validation, images = _load(data, network.size[0], synthetic=synthetic, cache=cache)
        trainer = Trainer(network, real, images, find_recipe(recipe), seed=seed)
        if resume:
            trainer.restore(checkpoint.load(out / "last.pt"))
        console.print(
            f"{len(real)} real and {len(images) if images else 0} synthetic images to train on; "
            + ", ".join(f"{len(part)} {name}" for name, part in validation.items())
            + " to choose the checkpoint by"
        )
        _run(console, trainer, Budget(minutes=minutes), validation, out)
    except (DataError, ModelError, TrainingError, checkpoint.CheckpointError, ValueError) as error:
        typer.echo(f"sonostream train: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; --resume continues from {out / 'last.pt'}", err=True)
        raise typer.Exit(130) from None


def _run(
    console: Console, trainer: Trainer, budget: Budget, validation: dict[str, Images], out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=1.0)

        def report(state: Report) -> None:
            bar.console.print(_line(state), highlight=False)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(state._asdict()) + "\n")

        trainer.fit(budget, validation, out, report, lambda done: bar.update(task, completed=done))


def _line(state: Report) -> str:
    losses = " ".join(f"{name} {value:.3f}" for name, value in state.losses.items())
    parts = [
        f"{state.progress:4.0%} step {state.step} lr {state.lr:.1e} {state.images_per_s:.1f} images/s",
        losses,
    ]
    parts += [
        f"{name}: dice {one['dice']:.3f} auc {one['auc']:.3f} accuracy {one['accuracy']:.3f} "
        f"false positives {one['false_positives']:.0%}"
        for name, one in state.figures.items()
    ]
    return " | ".join([*parts, f"score {state.score:.3f}"])


def _load(
    data: Path, size: int, *, synthetic: bool, cache: Path
) -> tuple[Images, dict[str, Images], Images | None]:
    development, _ = divide(read_busi(data))
    rest, inner = splits.split(development, INNER_FRACTION, INNER_SEED)
    real = read_images(rest, _OVERSIZE * size)
    validation = {"real": read_images(inner, _OVERSIZE * size)}
    if not synthetic:
        return real, validation, None
    validation["phantom"] = load_or_render("validation", VALIDATION_MIXTURE, _OVERSIZE * size, cache)
    return real, validation, load_or_render("train", TRAIN_MIXTURE, _OVERSIZE * size, cache)


def _options(texts: list[str]) -> dict[str, object]:
    options: dict[str, object] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        options[name] = tuple(parsed) if isinstance(parsed, list) else parsed
    return options
