"""One fold of a run: its images, its stages, its best weights, its answers on the part that it tests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric

from models.checkpoint import read_checkpoint
from models.networks.base import Network
from models.networks.registry import ModelError, build, card, create
from train.data import Images, read_images
from train.evaluation.answers import ask_network, save_answers
from train.evaluation.calibration import temperature
from train.learning import checkpoint
from train.learning.batch import UNKNOWN
from train.learning.chance import mix
from train.learning.draw import Pool, for_network, hide_masks
from train.learning.loop import Trainer
from train.learning.saved import BEST, LAST, rewind
from train.learning.stages import Stage, plan
from train.learning.validation import figures, predict
from train.objectives import make_objective
from train.recipe import Recipe
from train.run.watch import Watch
from train.splits import Parts

ANSWERS = "answers.npz"


class Setup(NamedTuple):
    """What all folds of a run have in common."""

    fabric: Fabric
    model: str
    weights: Path | None
    """ImageNet weights of the backbone."""
    start: Path | None
    """Checkpoint of a network of the same kind, to go on learning from."""
    recipe: Recipe
    seed: int
    test_selects: bool
    """Choose the checkpoint on the test part, as some public programs do: optimistic."""
    synthetic: Callable[[int], Images] | None
    """Phantom images of a size to train on."""
    synthetic_validation: Callable[[int], Images] | None
    """Phantom images of a size to choose the checkpoint by."""


class Tested(NamedTuple):
    """A fold that is done."""

    number: int
    score: float | None
    """Of the chosen epoch, on the part it was chosen on."""
    epoch: int
    temperature: float
    figures: dict[str, float]
    """On the test part."""
    network: Network
    """With the chosen weights."""


def create_network(setup: Setup, fold: int) -> Network:
    """Build a fold's network, with the same first weights every time: random, or those of `start`.

    :raises ModelError: if there is no such network or option, or the weights do not fit.
    """
    torch.manual_seed(mix(setup.seed, "weights", fold))
    options = network_options(setup.recipe, setup.model)
    if setup.weights is not None:
        return create(setup.model, weights=setup.weights, **options)
    network = build(setup.model, **options)
    if setup.start is not None:
        take_over(network, setup.start)
    return network


def take_over(network: Network, start: Path) -> None:
    """Give a network the weights of a checkpoint of one like it.

    :raises ModelError: if the checkpoint cannot be read, or is of another network or of other options.
    """
    former = read_checkpoint(start).network
    if (former.name, former.classes) != (network.name, network.classes):
        raise ModelError(
            f"{start} holds {former.name} for {', '.join(former.classes)}, this run trains {network.name} "
            f"for {', '.join(network.classes)}; start from one of the same kind"
        )
    try:
        network.load_state_dict(former.state_dict())
    except RuntimeError:
        raise ModelError(
            f"{start} holds {former.name} with the options {former.options}, this run's are "
            f"{network.options}: its weights do not fit; give the same options"
        ) from None


def network_options(recipe: Recipe, network: str) -> dict[str, Any]:
    """Options of the network as `models.create` takes them: TOML's lists are its tuples.

    A number of classes is for networks that classify: it says nothing to the others.
    """
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in recipe.network.items()}
    if "num_classes" in card(network).preset:
        options.pop("num_classes", None)
    return options


def train_fold(
    setup: Setup, parts: Parts, number: int, run: Path, watch: Watch, *, resume: bool
) -> Tested | None:
    """Train one fold to its end and test it.

    :param parts: what it trains on, validates on and tests.
    :param run: its `fold-N` gets `last.pt`, `best.pt`, `epochs.jsonl` and `answers.npz`.
    :param resume: continue from `last.pt` where it is there.
    :return: None in all processes but the first.
    :raises DataError: if an image cannot be read.
    :raises Interrupted: if the watch asks to stop.
    :raises TrainingError: if training cannot go on.
    """
    network, folder = create_network(setup, number), run / f"fold-{number}"
    size, classes = network.size[0], len(network.classes)
    test = for_network(read_images(parts.test, size), classes)
    validation = test if setup.test_selects else for_network(read_images(parts.validation, size), classes)
    if not (folder / ANSWERS).is_file():
        _train(setup, network, parts.train, validation, number, folder, watch, resume=resume)
    setup.fabric.barrier()
    if not setup.fabric.is_global_zero:
        return None
    return _test(setup, number, validation, test, folder)


def _train(
    setup: Setup,
    network: Network,
    studies: Sequence[Any],
    validation: Images,
    number: int,
    folder: Path,
    watch: Watch,
    *,
    resume: bool,
) -> None:
    recipe, size, classes = setup.recipe, network.size[0], len(network.classes)
    seed = mix(setup.seed, "fold", number)
    kept = round(recipe.draw.oversize * size)
    real = hide_masks(for_network(read_images(studies, kept), classes), recipe.draw.masked_share, setup.seed)
    synthetic = for_network(setup.synthetic(kept), classes) if setup.synthetic else None
    selection = {"test" if setup.test_selects else "validation": validation}
    if setup.synthetic_validation:
        selection["phantom"] = for_network(setup.synthetic_validation(size), classes)
    state = checkpoint.load(folder / LAST) if resume and (folder / LAST).is_file() else None
    before: Mapping[str, torch.Tensor] | None = None
    epochs = 0
    for stage in plan(recipe):
        if state is not None and state.get("stage", 0) > stage.number:
            continue
        if stage.number:
            network = create_network(setup, number)
            stage.start(network, before)
        trainer = _trainer(setup, network, real, synthetic, stage, seed)
        trainer.saved.epochs_before = epochs
        if state is not None:
            trainer.restore(state, folder / LAST)
            state = None
            if setup.fabric.is_global_zero:
                rewind(folder, trainer.saved.epochs_before + trainer.saved.epoch)
        trainer.fit(selection, folder, watch)
        before = {name: value.cpu() for name, value in trainer.judged.state_dict().items()}
        epochs = trainer.saved.epochs_before + trainer.saved.epoch


def _trainer(
    setup: Setup, network: Network, real: Images, synthetic: Images | None, stage: Stage, seed: int
) -> Trainer:
    recipe = setup.recipe
    pool = Pool(
        stage.images(real),
        None if synthetic is None else stage.images(synthetic),
        recipe,
        setup.fabric.device,
        batch=stage.batch,
        classes=len(network.classes),
    )
    objective = make_objective(
        network, recipe.objective.name, {**recipe.objective.options, **stage.objective}
    )
    return Trainer(setup.fabric, network, objective, pool, recipe, stage, seed=seed)


def _test(setup: Setup, number: int, validation: Images, test: Images, folder: Path) -> Tested:
    state = checkpoint.load(folder / BEST)
    network = build(setup.model, **network_options(setup.recipe, setup.model))
    network.load_state_dict(state["weights"])
    network.eval().to(setup.fabric.device)
    scale = state.get("temperature")
    if scale is None:
        scale = _calibrated(network, validation) if setup.recipe.calibrate else 1.0
        checkpoint.save(folder / BEST, {**state, "temperature": scale})
    if not (folder / ANSWERS).is_file():
        save_answers(folder / ANSWERS, ask_network(network, test, temperature=scale), test)
    tested = figures(predict(network, test), test)
    return Tested(number, state["score"], state["epoch"], scale, tested, network.cpu())


def _calibrated(network: Network, validation: Images) -> float:
    logits = predict(network, validation).logits
    known = validation.labels != UNKNOWN
    if logits is None or not known.any():
        return 1.0
    return round(temperature(logits[known], validation.labels[known]), 4)
