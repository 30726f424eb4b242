"""Makes a model that ships: calibrates a checkpoint, exports it, scores the file, writes its card.

`python -m train.publish CHECKPOINT --data PATH --artifact models/zoo/default.onnx --version 1`
"""

import datetime as dt
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

import models
from models.artifact import InputSize, ModelCard, TrainingData
from models.export import export, replace_card
from models.networks.cost import count_gmacs, count_parameters
from models.runtimes import load
from train import checkpoint, splits
from train.busi import divide, read_busi
from train.calibration import temperature
from train.data import Images, read_images
from train.evaluate import evaluate, load_phantom
from train.page import write_page
from train.run import TRAIN_MIXTURE
from train.validation import predict

INNER_FRACTION = 0.15
INNER_SEED = 1
INTENDED_USE = "Research only. Not a medical device; not for diagnosis or any decision about a patient."


def publish(path: Path, data: Path, artifact: Path, version: str, cache: Path) -> ModelCard:
    """Export a checkpoint's best averaged weights with a card that holds their figures.

    The temperature is fitted on the inner validation split, the figures come from the held-out part, through
    the file itself in its fastest engine.

    :raises CheckpointError: if the checkpoint cannot be read.
    :raises DataError: if the data set cannot be read.
    :raises ExportError: if the file differs from the network.
    """
    state = checkpoint.load(path)
    network = models.create(state["network"], **_options(state["options"]))
    network.load_state_dict(state.get("best") or state.get("averaged") or state["weights"])
    network.eval()
    development, heldout = divide(read_busi(data))
    rest, inner = splits.split(development, INNER_FRACTION, INNER_SEED)
    validation = read_images(inner, network.size[0])
    logits = predict(network, validation).logits
    assert logits is not None  # an artifact classifies
    scale = temperature(logits, validation.labels)
    synthetic = load_phantom(network.size[0], cache)
    card = ModelCard(
        name=artifact.stem,
        version=version,
        network=state["network"],
        classes=network.classes,
        input=InputSize(height=network.size[0], width=network.size[1], channels=network.in_channels),
        training_data=_training_data(len(rest), len(inner), len(heldout)),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        metrics={},
        temperature=round(scale, 4),
        precision="fp32",
        intended_use=INTENDED_USE,
        parameters=count_parameters(network),
        gmacs=round(count_gmacs(network)[0], 3),
        notes=f"options {state['options']}, recipe {state['recipe']['name']}, {state['step']} steps",
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / artifact.name
        export(network, card, draft, _some_frames(validation, synthetic))
        with load(draft, max_batch=8) as session:
            engine = session.description
            figures = evaluate(session, data, cache)
        figures["engine"] = {"name": engine.name, "version": engine.version, "precision": engine.precision}
        card = msgspec.structs.replace(card, metrics=figures)
        replace_card(draft, card)
        shutil.copyfile(draft, artifact)
    return card


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _training_data(trained: int, chosen: int, heldout: int) -> tuple[TrainingData, ...]:
    return (
        TrainingData(
            name="BUSI (Al-Dhabyani, Gomaa, Khaled, Fahmy, Data in Brief 28 (2020) 104863)",
            licence="CC BY 4.0 (its article's; the archive itself states none)",
            note=f"{trained} images trained on, {chosen} to choose the checkpoint and the temperature, "
            f"{heldout} held out; near-duplicates grouped, groups with contradictory labels left out",
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
    path: Annotated[Path, typer.Argument(help="Checkpoint of `sonostream train`.")],
    data: Annotated[Path, typer.Option(help="Folder of BUSI.")],
    artifact: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    version: Annotated[str, typer.Option(help="Version of the model.")],
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Publish a checkpoint: the .onnx file and, beside it, its card as a page."""
    card = publish(path, data, artifact, version, cache)
    page = write_page(card, f"sonostream evaluate {card.name} --data PATH_OF_BUSI")
    artifact.with_suffix(".md").write_text(page)
    print(page)


if __name__ == "__main__":
    typer.run(command)
