"""Reads the network out of a checkpoint of training."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.artifact import InputSize, ModelCard, TrainingData
from models.networks.base import Network
from models.networks.cost import count_gmacs, count_parameters
from models.networks.registry import ModelError, build

INTENDED_USE = "Research only. Not a medical device; not for diagnosis or any decision about a patient."


class Checkpoint(NamedTuple):
    """A trained network and what is known of it."""

    network: Network
    """In evaluation mode."""
    card: ModelCard


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the best averaged weights of a checkpoint, else its last averaged ones.

    :raises ModelError: if there is no such file, it is damaged, or it holds no network of ours.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        # Only tensors and plain values: a checkpoint from elsewhere must not run code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        kind = "; it is an exported model, give the checkpoint" if path.suffix == ".onnx" else ""
        raise ModelError(f"{path} is no checkpoint that can be read ({type(error).__name__}){kind}") from None
    if not isinstance(state, dict) or not {"network", "options"} <= state.keys():
        raise ModelError(f"{path} is no checkpoint of `sonostream train`")
    weights = state.get("best") or state.get("averaged") or state.get("weights")
    if not isinstance(weights, dict):
        raise ModelError(f"{path} holds no weights")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in state["options"].items()}
    network = build(state["network"], **options)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:400]
        raise ModelError(f"{path}: its weights do not fit {state['network']}: {words}") from None
    network.eval()
    return Checkpoint(network, card_of(network, version=hashlib.sha256(data).hexdigest()[:12], state=state))


def card_of(
    network: Network, *, version: str, state: dict[str, Any] | None = None, precision: str = "fp32"
) -> ModelCard:
    """Write the card of a network, with what a checkpoint says of its training.

    :param version: of the model.
    :param state: of the checkpoint; None: the network was not trained.
    :param precision: of the graph.
    """
    height, width = network.size
    state = state or {}
    recipe = state.get("recipe")
    name = recipe.get("name", "") if isinstance(recipe, dict) else ""
    gmacs, _ = count_gmacs(network)
    note = f"recipe {name}, {state.get('step', 0)} steps" if state else "not trained"
    return ModelCard(
        name=network.name,
        version=version,
        network=network.name,
        classes=network.classes,
        input=InputSize(height=height, width=width, channels=network.in_channels),
        training_data=(TrainingData(name="as given to `sonostream train`", licence="unknown", note=note),)
        if state
        else (),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        metrics={},
        temperature=float(state.get("temperature") or 1.0),
        precision=precision,
        intended_use=INTENDED_USE,
        parameters=count_parameters(network),
        gmacs=round(gmacs, 3),
        notes=f"options {network.options}",
    )
