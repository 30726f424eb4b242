"""`sonostream train` and `sonostream evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import models
from models.artifact import ArtifactError
from models.networks.registry import ModelError
from models.runtimes import EngineError, Precision, load
from train import checkpoint, splits
from train.busi import divide, read_busi
from train.data import DataError, Images, read_images
from train.evaluate import evaluate
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


def evaluate_command(
    artifact: Annotated[str, typer.Argument(help="An .onnx file, or the name of a model that ships.")],
    data: Annotated[Path, typer.Option(help="Folder of BUSI in its original layout, with index.csv.")],
    runtime: Annotated[str, typer.Option(help="Engine to judge it by.")] = "auto",
    precision: Annotated[str, typer.Option(help="`auto`, `fp32` or `bf16`.")] = "auto",
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")] = None,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Score a model on BUSI's held-out fifth and, apart from it, on pictures of the phantom."""
    try:
        with load(artifact, runtime, precision=cast("Precision", precision), max_batch=8) as session:
            session.warm_up()
            results = evaluate(session, data, cache)
            engine = session.description
            card = session.card
            title = f"{card.name} {card.version} in {engine.name} {engine.version} {engine.precision}"
    except (ArtifactError, DataError, EngineError) as error:
        typer.echo(f"sonostream evaluate: {error}", err=True)
        raise typer.Exit(2) from None
    table = Table(title=title, caption="95 % intervals in brackets. Research use only.")
    table.add_column("figure")
    for name in results:
        table.add_column(name, justify="right")
    for figure in [key for key, value in next(iter(results.values())).items() if isinstance(value, dict)]:
        cells = [_cell(part[figure]) for part in results.values()]
        table.add_row(figure.replace("_", " "), *cells)
    Console().print(table)
    for name, part in results.items():
        typer.echo(f"{name}: {part['protocol']}")
    if output is not None:
        output.write_text(json.dumps({"model": artifact, "engine": title, "results": results}, indent=1))


def _cell(figure: dict[str, Any]) -> str:
    low, high = figure["interval_95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}] n={figure['images']}"


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
            bar.console.print(_line(state), highlight=False, soft_wrap=True)
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
