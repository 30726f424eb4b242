"""A whole run: data sets -> folds -> trained networks -> an artifact and a report, in one folder."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as remember

from lightning_fabric import Fabric
from rich.console import Console

from models.artifact import ArtifactError
from models.export import ExportError
from models.networks.base import Network
from train.data import Images
from train.learning.processes import make_fabric
from train.learning.stages import plan
from train.objectives import resolve
from train.phantoms import Mixture, load_or_render
from train.recipe import Objective, Recipe
from train.report import write
from train.run.finish import export_best
from train.run.fold import Setup, Tested, create_network, train_fold
from train.run.folder import claim, folds_of, has_class, notes_on, write_data
from train.run.progress import Display
from train.run.request import Outcome, Request
from train.run.watch import RunError, Watch
from train.sets import read
from train.splits import FoldTable

TRAIN_MIXTURE = Mixture(stills=1500, sweeps=50, frames=20)
VALIDATION_MIXTURE = Mixture(stills=60, sweeps=4, frames=10)


def run(request: Request, console: Console, stopping: Callable[[], bool]) -> Outcome | None:
    """Train what was asked for, test it, export it and report on it.

    :param console: shows how it goes, from the first process only.
    :param stopping: asked after every step.
    :return: None in all processes but the first.
    :raises RunError: if the folder holds another run, or an option does not fit the network.
    :raises RecipeError: if the recipe does not fit the network.
    :raises DataError: if the data cannot be used.
    :raises Interrupted: if `stopping` says so; everything is saved.
    :raises TrainingError: if training cannot go on.
    :raises CheckpointError: if a checkpoint cannot be written or does not fit.
    """
    keep_memory()
    fabric = make_fabric(bf16=request.recipe.train.bf16, accelerator=request.device)
    recipe = resolve_recipe(request.recipe)
    stages = plan(recipe)
    setup = _setup(request, recipe, fabric)
    network = create_network(setup, 1)
    _check_size(network)
    if fabric.is_global_zero:
        claim(request, recipe)
    with _first_alone(fabric):
        data = read(request.data, heldout=request.heldout, cache=request.cache)
    studies = [study for study in data.studies if has_class(study, network)]
    notes = notes_on(request, data, len(data.studies) - len(studies), network)
    table = folds_of(request, studies, fabric)
    if not fabric.is_global_zero:
        for number in request.which:
            watch = Watch(stopping=stopping)
            train_fold(setup, table.parts(number), number, request.out, watch, resume=request.resume)
        return None
    write_data(request, data, notes)
    epochs = [stage.budget.epochs for stage in stages]
    total = None if None in epochs else sum(count or 0 for count in epochs)
    done = []
    with Display(console, folds=len(request.which), epochs=total) as display:
        for note in notes:
            display.say(note)
        for number in request.which:
            parts = table.parts(number)
            display.start_fold(number, parts, request.out if request.tensorboard else None)
            watch = Watch(display.on_step, display.on_epoch, stopping)
            tested = train_fold(setup, parts, number, request.out, watch, resume=request.resume)
            assert tested is not None
            display.end_fold(tested.figures)
            done.append(tested)
        display.say("writing the artifact and the report")
        return _finish(request, recipe, table, tuple(done))


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Fill in what an objective's options leave out, so that the saved recipe is whole.

    :raises ObjectiveError: if there is no such objective or option.
    """
    options = resolve(recipe.objective.name, recipe.objective.options)
    return recipe.model_copy(update={"objective": Objective(name=recipe.objective.name, **options)})


def keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back after every layer.

    Feature maps are large enough to be mapped and zeroed anew each time: measured 97 against 63 ms per image
    and step. Does nothing elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _setup(request: Request, recipe: Recipe, fabric: Fabric) -> Setup:
    # phantom:N draws the same pictures as the synthetic part: some of them would be tested on.
    phantom_data = any(path.startswith("phantom:") for path in request.data)
    synthetic = recipe.draw.synthetic_share > 0 and not phantom_data
    glands = recipe.network.get("gland") == "supervised"

    @remember
    def render(part: str, mixture: Mixture, size: int) -> Images:
        with _first_alone(fabric):
            return load_or_render(part, mixture, size, request.cache, glands=glands)

    return Setup(
        fabric,
        request.model,
        request.weights,
        request.start,
        recipe,
        request.seed,
        request.selection == "test-fold",
        (lambda size: render("train", TRAIN_MIXTURE, size)) if synthetic else None,
        (lambda size: render("validation", VALIDATION_MIXTURE, size)) if synthetic else None,
    )


@contextmanager
def _first_alone(fabric: Fabric) -> Iterator[None]:
    """Let the first process of a machine fill a cache before the others read it."""
    if fabric.local_rank:
        fabric.barrier()
    yield
    if not fabric.local_rank:
        fabric.barrier()


def _check_size(network: Network) -> None:
    height, width = network.size
    if height != width:
        raise RunError(
            f"training needs a square input, not {height} x {width}; give --set network.size={height}"
        )


def _finish(request: Request, recipe: Recipe, table: FoldTable, done: tuple[Tested, ...]) -> Outcome:
    artifact, problem = None, ""
    try:
        artifact = export_best(request, recipe, table, done)
    except (ArtifactError, ExportError) as error:
        problem = str(error)
    write(request.out)
    return Outcome(done, artifact, problem)
