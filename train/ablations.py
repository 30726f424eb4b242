"""`python -m train.ablations`: trains the papers' ablations, row by row, and tabulates them.

The rows are in train/recipes/ablations.toml. Every row is a run of its own, with its report; one that is done
is not trained again, one that was interrupted goes on.
"""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import tomli_w
import torch
import typer
from rich.console import Console
from rich.table import Table

from models.checkpoint import INTENDED_USE
from models.networks.cost import count_parameters
from models.networks.registry import ModelError, build, card
from train.data import DataError
from train.learning.checkpoint import CheckpointError
from train.objectives import ObjectiveError, make_objective
from train.recipe import RecipeError, load_recipe
from train.run.fold import network_options
from train.run.request import Request
from train.run.watch import RunError, TrainingError
from train.run.whole import resolve_recipe, run
from train.sets import read

SCHEMA = "sonostream.ablations/1"
FIGURES = ("dice", "jaccard", "accuracy", "auc", "sensitivity", "specificity")


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
    """Train a row, unless it is done.

    :raises RunError: if its folder holds a run of other settings.
    """
    request = planned.request
    saved = request.out / "recipe.toml"
    if saved.is_file() and load_recipe(str(saved), request.model) != request.recipe:
        raise RunError(f"{request.out} was trained with another recipe; name another folder with --out")
    if not (request.out / "results.json").is_file():
        run(request._replace(resume=saved.is_file()), console, lambda: False)


def tabulate(planned: Sequence[Planned]) -> dict[str, Any]:
    """Gather the figures of the rows that are done, by table."""
    tables: dict[str, Any] = {}
    for one in planned:
        study = ablations()[one.study]
        table = tables.setdefault(one.study, {"paper": study.paper, "reference": study.reference, "rows": []})
        path = one.request.out / "results.json"
        if not path.is_file():
            continue
        figures = json.loads(path.read_text(encoding="utf-8"))["parts"][0]["figures"]
        table["rows"].append(
            {
                "name": one.row.name,
                "network": one.row.network,
                "options": one.request.recipe.network,
                "settings": one.row.settings,
                "parameters": one.parameters,
                "figures": {name: figures[name] for name in FIGURES if name in figures},
            }
        )
    return tables


def show(tables: dict[str, Any]) -> list[Table]:
    """Lay the tables out for a terminal; the papers' own configurations are bold."""
    shown = []
    for table in tables.values():
        grid = Table(title=table["paper"], caption="Research use only.", caption_justify="left")
        for column in ("", "weights", *FIGURES):
            grid.add_column(column, justify="right" if column else "left")
        for row in table["rows"]:
            style = "bold" if row["name"] == table["reference"] else ""
            cells = [_value(row["figures"].get(figure)) for figure in FIGURES]
            grid.add_row(row["name"], _millions(row["parameters"]), *cells, style=style)
        shown.append(grid)
    return shown


def as_markdown(tables: dict[str, Any]) -> str:
    """Write the tables out with their 95 % intervals, which are over images and not over runs."""
    lines = [
        "Research use only. In brackets: 95 % intervals over images; another seed may differ by more.",
        "",
    ]
    for table in tables.values():
        lines += [f"## {table['paper']}", "", "| | weights | " + " | ".join(FIGURES) + " |"]
        lines.append("|---|" + "---:|" * (1 + len(FIGURES)))
        for row in table["rows"]:
            name = f"**{row['name']}**" if row["name"] == table["reference"] else row["name"]
            cells = [_with_interval(row["figures"].get(figure)) for figure in FIGURES]
            lines.append(f"| {name} | {_millions(row['parameters'])} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(
    data: Annotated[list[str], typer.Option(help="As of `sonostream train`; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs, ablations.json and ablations.md.")] = Path(
        "runs/ablations"
    ),
    study: Annotated[list[str] | None, typer.Option(help="Tables to train; all of them if absent.")] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Rows to train, by name; all of them if absent.")
    ] = None,
    fold: Annotated[int, typer.Option(min=1, help="Fold that is tested.")] = 1,
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
    """Train the papers' ablations on one fold and tabulate them; run it again to go on."""
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
            which=(fold,),
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
        header = {"data": data, "fold": fold, "folds": folds, "seed": seed, "set": settings}
        _check_header(out / "ablations.json", header)
        wanted = _wanted(planned, row)
        for number, one in enumerate(wanted, start=1):
            console.print(f"{number} of {len(wanted)}: {one.study}, {one.row.name}", highlight=False)
            train_row(one, console)
            tables = tabulate(planned)
            report = {"schema": SCHEMA, "intended_use": INTENDED_USE, **header, "tables": tables}
            _write(out / "ablations.json", json.dumps(report, indent=1) + "\n")
            _write(out / "ablations.md", as_markdown(tables))
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


def _value(figure: dict[str, Any] | None) -> str:
    return "" if figure is None or figure["value"] is None else f"{figure['value']:.3f}"


def _with_interval(figure: dict[str, Any] | None) -> str:
    value = _value(figure)
    if figure is None or not value or None in figure["interval_95"]:
        return value
    low, high = figure["interval_95"]
    return f"{value} [{low:.2f}, {high:.2f}]"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _toml(value: Any) -> str:
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    typer.run(main)
