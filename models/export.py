"""Turns a trained network into an artifact: one ONNX file from pixels to probabilities.

The file is checked before it gets its name: read back by the contract, run in ONNX Runtime and compared
with the network on frames.
"""

import logging
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifact import CLASSES, INPUT, LESION, METADATA_KEY, ModelCard, card_json, load_artifact
from models.deployed import Deployed
from models.networks.base import Network

Pixels = NDArray[np.uint8]

OPSET = 20
# Rounding to 255 levels may fall on either side, and two engines add up in different orders.
MAX_LESION_DRIFT = 2
MAX_CLASS_DRIFT = 1e-3


class ExportError(RuntimeError):
    """The network cannot become an artifact; the message says what differs or does not fit."""


def export(network: Network, card: ModelCard, path: Path, frames: Pixels) -> None:
    """Write a network as an artifact.

    :param network: with trained weights; put into evaluation mode.
    :param card: goes into the file; its input size, classes and temperature must be the network's.
    :param path: ends in .onnx; replaced only by a file that passed every check.
    :param frames: N x H x W x C uint8, N >= 2, on which the file must agree with the network.
    :raises ExportError: if card, network and frames do not fit, or the file's answers differ.
    :raises ArtifactError: if the card or the file breaks the contract.
    """
    _check(network, card, frames)
    text = card_json(card)
    deployed = Deployed(network.eval(), card.temperature)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        file = Path(folder) / path.name
        write_graph(deployed, torch.from_numpy(frames[:2]), text, file)
        load_artifact(file)
        with torch.inference_mode():
            lesion, classes = deployed(torch.from_numpy(frames))
        _compare(file, frames, lesion.numpy(), classes.numpy())
        with file.open("rb") as written:
            os.fsync(written.fileno())
        file.replace(path)


def replace_card(path: Path, card: ModelCard) -> None:
    """Give an artifact another card, for instance with the figures that were measured on it.

    :raises ArtifactError: if the card does not fit the file, which is then left as it was.
    """
    text = card_json(card)
    model = onnx.load_model(path)
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=text)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        file = Path(folder) / path.name
        onnx.save_model(model, file)
        load_artifact(file)
        file.replace(path)


def _check(network: Network, card: ModelCard, frames: Pixels) -> None:
    height, width = network.size
    size = card.input
    if (size.height, size.width, size.channels) != (height, width, network.in_channels):
        raise ExportError(
            f"the card says frames of {size.height} x {size.width} x {size.channels}, the network reads "
            f"{height} x {width} x {network.in_channels}; correct the card"
        )
    if card.classes != network.classes:
        raise ExportError(
            f"the card's classes {list(card.classes)} are not the network's {list(network.classes)}, in order"
        )
    if (
        frames.dtype != np.uint8
        or frames.shape[1:] != (height, width, network.in_channels)
        or len(frames) < 2
    ):
        raise ExportError(
            f"the file is checked on at least two uint8 frames of {height} x {width} x "
            f"{network.in_channels}, got {frames.dtype} {list(frames.shape)}"
        )


def write_graph(deployed: Deployed, example: Tensor, text: str, file: Path) -> None:
    """Write a network's graph, whatever its precision, without comparing it.

    :param example: two uint8 frames, N x H x W x C.
    :param text: the card.
    :raises ExportError: if torch cannot express it.
    """
    # It tells at every export that torchvision, whose operators no network here has, is absent.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter's own use of deprecated torch functions, nothing a caller can change.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[INPUT],
            output_names=[LESION, CLASSES],
            dynamic_shapes={"frame": {0: torch.export.Dim("n", min=1)}},
            verbose=False,
        )
    if program is None:
        raise ExportError("torch wrote no program; its exporter says why above")
    model = program.model_proto
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=text)
    # Traces of this machine's source files, in every node.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, file)


def _compare(file: Path, frames: Pixels, lesion: Pixels, classes: NDArray[np.float32]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    # Singly and together: a graph that froze the batch would pass one and fail the other.
    batches = [frames, *(frames[row : row + 1] for row in range(min(2, len(frames))))]
    expected = [(lesion, classes), *((lesion[row : row + 1], classes[row : row + 1]) for row in range(2))]
    for batch, (want_lesion, want_classes) in zip(batches, expected, strict=False):
        got_lesion, got_classes = session.run([LESION, CLASSES], {INPUT: batch})
        levels = int(np.abs(got_lesion.astype(int) - want_lesion.astype(int)).max())
        drift = float(np.abs(got_classes - want_classes).max())
        if levels > MAX_LESION_DRIFT or not drift <= MAX_CLASS_DRIFT:
            raise ExportError(
                f"the exported file differs from the network: lesion by {levels} of 255 levels (at most "
                f"{MAX_LESION_DRIFT}), classes by {drift:.2g} (at most {MAX_CLASS_DRIFT}); "
                "nothing was written"
            )
