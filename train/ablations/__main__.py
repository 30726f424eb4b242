"""The command."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.checkpoint import INTENDED_USE
from models.networks.registry import ModelError
from train.ablations.rows import Planned, ablations, plan_row, train_row
from train.ablations.tables import as_markdown, show, tabulate
from train.data import DataError
from train.learning.checkpoint import CheckpointError
from train.objectives import ObjectiveError
from train.recipe import RecipeError, load_recipe
from train.run.request import Request
from train.run.watch import RunError, TrainingError
from train.sets import read

SCHEMA = "sonostream.ablations/2"


def main(
    data: Annotated[list[str], typer.Option(help="As of `sonostream train`; may be given several times.")],
    out: Annotated[
        Path, typer.Option(help="Its OUT/STUDY gets the runs, ablations.json and ablations.md.")
    ] = Path("runs/ablations"),
    study: Annotated[list[str] | None, typer.Option(help="Tables to train; all of them if absent.")] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Rows to train, by name; all of them if absent.")
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Folds that are tested, one at a time; the first if absent."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of how many.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the papers'.")] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="Side of the input instead of the papers'.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A value of every row's recipe, TABLE.KEY=VALUE.")
    ] = None,
    backbones: Annotated[
        Path | None, typer.Option(help="Folder of torchvision's ImageNet weight files, by their own names.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, weights and everything random.")] = 0,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Train the papers' ablations on a fold, or several, and tabulate them; run it again to go on."""
    console = Console()
    settings = list(setting or [])
    settings += [f"train.epochs={epochs}"] if epochs is not None else []
    settings += [f"network.size={size}"] if size is not None else []
    try:
        chosen = _chosen(study, data, cache)
        common = Request(
            model="",
            data=tuple(data),
            recipe=load_recipe("live", ""),
            out=out,
            folds=folds,
            which=tuple(sorted(set(fold or (1,)))),
            seed=seed,
            device=device,
            cache=cache,
            command="python -m train.ablations",
        )
        planned = [
            plan_row(name, row, common, settings=settings, backbones=backbones)
            for name in chosen
            for row in ablations()[name].rows
        ]
        header = {"data": [Path(one).name for one in data], "of_folds": folds, "seed": seed, "set": settings}
        for name in chosen:
            _check_header(out / name / "ablations.json", header)
        wanted = _wanted(planned, row)
        for number, one in enumerate(wanted, start=1):
            console.print(f"{number} of {len(wanted)}: {one.study}, {one.row.name}", highlight=False)
            train_row(one, console)
            done = tabulate([each for each in planned if each.study == one.study])
            report = {"schema": SCHEMA, "intended_use": INTENDED_USE, **header, "tables": done}
            _write(out / one.study / "ablations.json", json.dumps(report, indent=1) + "\n")
            _write(out / one.study / "ablations.md", as_markdown(done))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last epoch", err=True)
        raise typer.Exit(130) from None
    except (
        CheckpointError,
        DataError,
        ModelError,
        ObjectiveError,
        RecipeError,
        RunError,
        TrainingError,
    ) as error:
        typer.echo(f"train.ablations: {error}", err=True)
        raise typer.Exit(2) from None
    for table in show(tabulate(planned)):
        console.print(table)


def _chosen(study: list[str] | None, data: list[str], cache: Path) -> list[str]:
    known = ablations()
    for name in study or ():
        if name not in known:
            raise RunError(f"no table {name}; --study is one of {', '.join(known)}")
    needy = [name for name in study or known if known[name].glands]
    if not needy or any(one.gland is not None for one in read(data, cache=cache).studies):
        return list(study or known)
    if study:
        raise RunError(f"{', '.join(needy)} needs gland masks, and none of the images has one")
    typer.echo(f"left out, because no image has a gland mask: {', '.join(needy)}", err=True)
    return [name for name in known if name not in needy]


def _wanted(planned: list[Planned], rows: list[str] | None) -> list[Planned]:
    names = [one.row.name for one in planned]
    for name in rows or ():
        if name not in names:
            raise RunError(f"no row {name}; --row is one of {', '.join(dict.fromkeys(names))}")
    return [one for one in planned if not rows or one.row.name in rows]


def _check_header(path: Path, header: dict[str, Any]) -> None:
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for name, value in header.items():
        # Other epochs or sizes are found row by row, where tables of other settings may lie side by side.
        if name != "set" and before.get(name) != value:
            raise RunError(f"{path} has {name} {before.get(name)!r}, not {value!r}; name another folder")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    typer.run(main)
