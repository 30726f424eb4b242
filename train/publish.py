"""Makes a model that ships out of a run: exports its weights, scores the file, writes its card.

`python -m train.publish RUN --data PATH --artifact models/zoo/default.onnx --version 2`
"""

import csv
import datetime as dt
import shutil
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from models.artifact import ArtifactError, ModelCard, TrainingData
from models.checkpoint import read_checkpoint
from models.export import ExportError, export, replace_card
from models.networks.registry import ModelError
from models.runtimes import EngineError, load
from train.data import DataError, Images
from train.evaluation.evaluate import evaluate, load_heldout, load_phantom
from train.page import write_page
from train.run.whole import TRAIN_MIXTURE


def publish(run: Path, data: Path, artifact: Path, version: str, cache: Path) -> ModelCard:
    """Export the best weights of a run's only fold with a card that holds their figures.

    The temperature was fitted on the validation part of the run; the figures come from BUSI's held-out part,
    through the file itself in its fastest engine.

    :raises DataError: if the data set cannot be read, or the run is not whole.
    :raises ExportError: if the file differs from the network.
    :raises ModelError: if the checkpoint cannot be read.
    """
    checkpoint = _only(run)
    network, card = read_checkpoint(checkpoint)
    counts = _parts(run, int(checkpoint.parent.name.removeprefix("fold-")))
    real, synthetic = load_heldout(data, network.size[0]), load_phantom(network.size[0], cache)
    recipe = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))
    card = msgspec.structs.replace(
        card,
        name=artifact.stem,
        version=version,
        training_data=_training_data(counts, len(real)),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes=f"options {network.options}, {_said(run, recipe)}",
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / artifact.name
        export(network, card, draft, _some_frames(real, synthetic))
        with load(draft, max_batch=8) as session:
            engine = session.description
            figures = evaluate(session, data, cache)
        figures["engine"] = {"name": engine.name, "version": engine.version, "precision": engine.precision}
        card = msgspec.structs.replace(card, metrics=figures)
        replace_card(draft, card)
        shutil.copyfile(draft, artifact)
    return card


def _only(run: Path) -> Path:
    found = sorted(run.glob("fold-*/best.pt"))
    if len(found) != 1:
        raise DataError(f"{run} holds {len(found)} trained folds; give a run of one: --fold N")
    return found[0]


def _parts(run: Path, fold: int) -> Counter[str]:
    """Count the images of a fold's parts."""
    try:
        with (run / "folds.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"cannot read {run / 'folds.csv'}: {error.strerror}; name a run's folder") from None
    return Counter(
        "test"
        if row["fold"] == str(fold)
        else "validation"
        if str(fold) in row["validation_of"].split()
        else "train"
        for row in rows
        if row["fold"].isdecimal()  # else left out
    )


def _said(run: Path, recipe: dict[str, Any]) -> str:
    last = (next(run.glob("fold-*/epochs.jsonl"))).read_text(encoding="utf-8").splitlines()[-1]
    steps, elapsed_s = (msgspec.json.decode(last)[key] for key in ("step", "elapsed_s"))
    batch = recipe["train"]["batch"]
    weights = msgspec.json.decode((run / "data.json").read_bytes()).get("weights")
    start = f", starting from {weights}" if weights else ""
    return f"recipe {recipe['name']}, {steps} steps of {batch} images in {elapsed_s / 60:.0f} minutes{start}"


def _training_data(counts: Counter[str], heldout: int) -> tuple[TrainingData, ...]:
    return (
        TrainingData(
            name="BUSI (Al-Dhabyani, Gomaa, Khaled, Fahmy, Data in Brief 28 (2020) 104863)",
            licence="CC BY 4.0 (its article's; the archive itself states none)",
            note=f"{counts['train']} images trained on, {counts['validation']} to choose the checkpoint and "
            f"the temperature, {counts['test']} in a fold of its own, {heldout} held out; near-duplicates "
            "grouped, groups with contradictory labels left out",
        ),
        TrainingData(
            name="sonostream phantom",
            licence="Apache-2.0",
            note=f"synthetic: {TRAIN_MIXTURE.stills} stills, {TRAIN_MIXTURE.sweeps} sweeps of "
            f"{TRAIN_MIXTURE.frames} frames",
        ),
    )


def _some_frames(*sets: Images) -> np.ndarray:
    return np.concatenate([images.pixels[:24] for images in sets])[:, :, :, None]


def command(
    run: Annotated[Path, typer.Argument(help="Folder of `sonostream train --fold N`.")],
    data: Annotated[Path, typer.Option(help="Folder of BUSI.")],
    artifact: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    version: Annotated[str, typer.Option(help="Version of the model.")],
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Publish a run: the .onnx file and, beside it, its card as a page."""
    try:
        card = publish(run, data, artifact, version, cache)
    except (ArtifactError, DataError, EngineError, ExportError, ModelError) as error:
        typer.echo(f"train.publish: {error}", err=True)
        raise typer.Exit(2) from None
    page = write_page(card, f"sonostream evaluate {card.name} --data PATH_OF_BUSI")
    artifact.with_suffix(".md").write_text(page)
    print(page)


if __name__ == "__main__":
    typer.run(command)
