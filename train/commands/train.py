"""`sonostream train`."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.table import Table

from models.networks.registry import ModelError
from train.data import DataError
from train.learning.checkpoint import CheckpointError
from train.learning.saved import LAST
from train.objectives import ObjectiveError
from train.recipe import RecipeError, load_recipe
from train.run.request import Outcome, Request, Selection
from train.run.watch import Interrupted, RunError, TrainingError
from train.run.whole import run
from train.splits import Split

_CHOICES = {
    "selection": ("inner", "test-fold"),
    "split": ("grouped", "paper", "given"),
    "heldout": ("leave-out", "use"),
    "device": ("auto", "cpu", "cuda"),
}


def train_command(
    data: Annotated[
        list[str],
        typer.Option(
            help="Folder of BUSI, BUS-BRA or UDIAT in its original layout, a CSV manifest, or phantom:N; may "
            "be given several times."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, artifact, report.")],
    model: Annotated[str, typer.Option(help="Network, as listed by `sonostream models`.")] = "sonolite",
    recipe: Annotated[
        str, typer.Option(help="`live` (for streams), `paper` (the network's own), or a TOML file.")
    ] = "live",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value of the recipe as TABLE.KEY=VALUE, e.g. optimizer.lr=1e-4."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights of the backbone: a local copy of torchvision's file."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Go on learning from a checkpoint (.pt) of the same network, instead of afresh."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Train every fold of a cross-validation of this many.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=1, help="Train this one of the folds (5 unless --folds says otherwise).")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="`grouped` keeps duplicates and patients together; `paper` does not; `given` by the data."
        ),
    ] = "grouped",
    selection: Annotated[
        str,
        typer.Option(
            help="Choose the checkpoint on an `inner` validation part, or on the `test-fold` (optimistic)."
        ),
    ] = "inner",
    heldout: Annotated[
        str, typer.Option(help="BUSI's held-out fifth: `leave-out`, or `use` it as the papers do.")
    ] = "leave-out",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="End a fold after this time; the schedule ends with it.")
    ] = None,
    masked_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Use this share of the masks, hide the others.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, weights and everything random.")] = 0,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; torch's own choice if absent.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs too.")] = False,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Train a network, test it, export it and report on it.

    Under `torchrun` the same command shares every batch between the processes, on a shared folder.
    """
    settings = list(setting or [])
    settings += [f"train.epochs={epochs}"] if epochs is not None else []
    settings += [f"train.minutes={minutes}"] if minutes is not None else []
    settings += [f"draw.masked_share={masked_share}"] if masked_share is not None else []
    given = {"selection": selection, "split": split, "heldout": heldout, "device": device}
    for name, value in given.items():
        if value not in _CHOICES[name]:
            _fail(f"--{name} is {' or '.join(_CHOICES[name])}, not {value!r}")
    if epochs is not None and minutes is not None:
        _fail("give --epochs or --minutes, not both")
    if weights is not None and start is not None:
        _fail("give --weights or --start, not both: a checkpoint holds its backbone's weights too")
    if tensorboard and not _has_tensorboard():
        _fail("--tensorboard needs the package tensorboard: pip install tensorboard")
    console = Console()
    command = shlex.join(["sonostream", "train", *_arguments()])
    try:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        request = Request(
            model=model,
            data=tuple(data),
            recipe=load_recipe(recipe, model, settings),
            out=out,
            folds=folds or 5,
            which=(fold,) if fold else tuple(range(1, folds + 1)) if folds else (1,),
            split=cast(Split, split),
            selection=cast(Selection, selection),
            heldout="use" if heldout == "use" else "leave_out",
            seed=seed,
            weights=weights,
            start=start,
            device=device,
            resume=resume,
            tensorboard=tensorboard,
            cache=cache,
            command=command,
        )
        with _stop_signals() as stopping:
            outcome = run(request, console, stopping)
    except Interrupted:
        again = command if resume else f"{command} --resume"
        typer.echo(f"stopped; everything is saved. Continue with: {again}", err=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        saved = any(out.glob(f"fold-*/{LAST}"))
        words = (
            f"its last checkpoint is intact. Continue with --resume --out {out}"
            if saved
            else "nothing was saved"
        )
        typer.echo(f"stopped; {words}", err=True)
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
        _fail(str(error))
    if outcome is not None:
        _say(console, request, outcome)


class _Stop:
    """Ctrl-C and SIGTERM end the run after the present step; before the first one, or again, at once."""

    def __init__(self) -> None:
        self._asked = self._training = False

    def __call__(self) -> bool:
        self._training = True
        return self._asked

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self._training:
            raise KeyboardInterrupt
        self._asked = True


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(console: Console, request: Request, outcome: Outcome) -> None:
    table = Table(title=f"{request.model}, recipe {request.recipe.name}: test parts")
    table.add_column("fold")
    names = list(dict.fromkeys(name for one in outcome.folds for name in one.figures))
    for name in ("epoch", *names):
        table.add_column(name.replace("_", " "), justify="right")
    for one in outcome.folds:
        cells = [f"{one.figures[name]:.3f}" if name in one.figures else "" for name in names]
        table.add_row(str(one.number), str(one.epoch), *cells)
    table.caption = "Research use only."
    console.print(table)
    if outcome.artifact is not None:
        console.print(f"wrote {outcome.artifact}", soft_wrap=True, highlight=False)
    else:
        console.print(f"no artifact: {outcome.problem}", soft_wrap=True, highlight=False)
    console.print(f"wrote {request.out / 'report.html'}", soft_wrap=True, highlight=False)


def _arguments() -> list[str]:
    arguments = sys.argv[1:]
    return arguments[1:] if arguments[:1] == ["train"] else arguments


def _has_tensorboard() -> bool:
    return find_spec("tensorboard") is not None


def _fail(message: str) -> NoReturn:
    typer.echo(f"sonostream train: {message}", err=True)
    raise typer.Exit(2)
