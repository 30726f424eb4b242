"""What an exported model promises, and how a file is held to it.

An artifact is one `.onnx` file. Input `frame`: uint8 [N, H, W, C] with N dynamic. Outputs `lesion`: uint8
[N, H, W], lesion probability x 255, and `classes`: float32 [N, K], probabilities. Everything in between is
inside the graph. The metadata property `sonostream` holds the model's card as JSON.

Files are hostile until read: what breaks the contract is refused before an engine sees it.
"""

import hashlib
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from models.onnx_header import FLOAT32, UINT8, Header, HeaderError, TensorType, read_header

METADATA_KEY = "sonostream"
"""Name of the ONNX metadata property that holds the card."""
SCHEMA = 1
"""Schema number this version writes and reads. Within a number fields are only ever added."""
INPUT = "frame"
LESION = "lesion"
CLASSES = "classes"

_MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit for one message
_MAX_CARD_BYTES = 2**20
_MAX_SIDE = 4096
_MAX_NAME = 64


class ArtifactError(Exception):
    """The file is not a model that can be run; the message says what is wrong with it and what to do."""


class InputSize(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame must be resized to."""

    height: int
    width: int
    channels: int
    """1 for gray, 3 for RGB."""


class TrainingData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One data set that the weights were fitted to."""

    name: str
    licence: str
    note: str = ""
    """What of it was used: split, number of images, source."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is, what it was made from and how well it did; travels inside the artifact."""

    schema: int = SCHEMA
    name: str
    version: str
    network: str
    """Name of the architecture, for instance `mtl_oca`."""
    classes: tuple[str, ...]
    """In the order of the `classes` output."""
    input: InputSize
    training_data: tuple[TrainingData, ...]
    date: str
    """Day of the export, ISO 8601."""
    metrics: dict[str, Any]
    """Figures by data set, each with the protocol they were measured by."""
    temperature: float
    """Divides the class logits (inside the graph) to calibrate the probabilities; 1 leaves them."""
    precision: str
    """Of the graph's weights: `fp32`, `fp16` or `int8`. An engine may compute in another."""
    intended_use: str
    parameters: int
    """Number of weights."""
    gmacs: float
    """Multiply-accumulates for one frame, in 10^9."""
    notes: str = ""
    quantization: str = ""
    """Of an int8 graph: for `cpu` or for `tensorrt`; each refuses the other's."""
    parity: tuple[dict[str, Any], ...] = ()
    """How far each engine and precision was from PyTorch at export; see `models.parity`."""
    drift_allowed: bool = False
    """It was exported although it drifted past its stated bound."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was read and keeps the contract."""

    path: Path
    card: ModelCard
    sha256: str
    """Of the whole file, in hexadecimal."""


def card_json(card: ModelCard) -> str:
    """Encode a card as the text of the metadata property.

    :raises ArtifactError: if a value is outside what `read_card` accepts.
    """
    _check_card(card)
    return msgspec.json.encode(card).decode()


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file and check the file against the contract.

    :raises ArtifactError: if the file is missing, damaged, foreign or breaks the contract.
    """
    return load_artifact(Path(path)).card


def zoo_names() -> list[str]:
    """Names of the models that ship with the package."""
    zoo = files("models") / "zoo"
    if not zoo.is_dir():
        return []
    return sorted(entry.name.removesuffix(".onnx") for entry in zoo.iterdir() if entry.name.endswith(".onnx"))


def load_artifact(model: str | Path) -> Artifact:
    """Read a model file, or one from the zoo by its name.

    :param model: a path, or a bare name such as `default`; text with a slash or a dot is a path.
    :raises ArtifactError: if there is no such model, or the file is damaged, foreign or breaks the contract.
    """
    path = Path(model) if isinstance(model, Path) or "." in model or "/" in model else _zoo_path(model)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ArtifactError(f"{path} is not a file; give the path of an .onnx model")
        if size > _MAX_FILE_BYTES:
            raise ArtifactError(f"{path} has {size} bytes; a model of one file has less than 2 GiB")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"no such model file: {path}; `sonostream doctor` lists those that ship"
        ) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        header = read_header(data)
        card = _decode_card(header.metadata)
        _check_card(card)
        _check_signature(header, card)
    except (ArtifactError, HeaderError) as error:
        raise ArtifactError(f"{path}: {error}") from None
    return Artifact(path, card, hashlib.sha256(data).hexdigest())


def _zoo_path(name: str) -> Path:
    names = zoo_names()
    if name in names:
        return Path(str(files("models") / "zoo" / f"{name}.onnx"))
    if name == "default":
        raise ArtifactError(
            "the default model is missing from this installation (models/zoo/default.onnx); "
            "reinstall sonostream, or name an .onnx file"
        )
    known = ", ".join(names) or "none"
    raise ArtifactError(
        f"no model named {name!r}; models that ship: {known}; a file is named by its path, ending in .onnx"
    )


# What the card must say


def _decode_card(metadata: dict[str, bytes]) -> ModelCard:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ArtifactError(
            f"an ONNX model without the metadata property {METADATA_KEY!r}: "
            "it was not exported for sonostream; export it with `sonostream export`"
        )
    if len(text) > _MAX_CARD_BYTES:
        raise ArtifactError(f"its card has {len(text)} bytes; at most {_MAX_CARD_BYTES} are read")
    try:
        # The number first: a later schema may have other fields, and the useful answer is to upgrade.
        schema = msgspec.json.decode(text, type=_Numbered).schema
        if schema > SCHEMA:
            raise ArtifactError(
                f"its card has schema {schema}, this version reads up to {SCHEMA}; upgrade sonostream"
            )
        return msgspec.json.decode(text, type=ModelCard)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"its card cannot be read: {error}; export the model again") from None


class _Numbered(msgspec.Struct):
    schema: int


def _check_card(card: ModelCard) -> None:
    size = card.input
    problem = None
    if card.schema != SCHEMA:
        problem = f"schema is {card.schema}, expected {SCHEMA}"
    elif not _is_name(card.name) or not _is_name(card.version):
        problem = f"name and version must be 1 to {_MAX_NAME} printable characters"
    elif not card.classes or len(set(card.classes)) != len(card.classes):
        problem = f"classes must be different names, got {list(card.classes)}"
    elif not all(map(_is_name, card.classes)):
        problem = f"names of classes must be 1 to {_MAX_NAME} printable characters"
    elif not (0 < size.height <= _MAX_SIDE and 0 < size.width <= _MAX_SIDE and size.channels in (1, 3)):
        problem = (
            f"input is {size.height} x {size.width} x {size.channels}, "
            f"expected sides of 1 to {_MAX_SIDE} and 1 or 3 channels"
        )
    elif not (math.isfinite(card.temperature) and card.temperature > 0):
        problem = f"temperature is {card.temperature}, expected a positive number"
    if problem:
        raise ArtifactError(f"its card is wrong: {problem}; export the model again")


def _is_name(text: str) -> bool:
    # Names reach terminals, logs and metric labels.
    return 0 < len(text) <= _MAX_NAME and text.isprintable()


# What the graph must look like


def _check_signature(model: Header, card: ModelCard) -> None:
    size, count = card.input, len(card.classes)
    if list(model.inputs) != [INPUT]:
        raise ArtifactError(
            f"expected one input named {INPUT!r}, got {list(model.inputs)}; export the model again"
        )
    frame = TensorType(UINT8, (None, size.height, size.width, size.channels))
    _check_tensor("input", INPUT, model.inputs[INPUT], frame)
    expected = {
        LESION: TensorType(UINT8, (None, size.height, size.width)),
        CLASSES: TensorType(FLOAT32, (None, count)),
    }
    for name, tensor in expected.items():
        if name not in model.outputs:
            raise ArtifactError(f"has no output {name!r}, only {list(model.outputs)}; export the model again")
        _check_tensor("output", name, model.outputs[name], tensor)


def _check_tensor(role: str, name: str, got: TensorType, expected: TensorType) -> None:
    assert expected.shape is not None
    fits = got.element == expected.element
    if fits and got.shape is None:
        fits = role == "output"  # exporters may leave an output's shape to inference, never the input's
    elif fits and got.shape is not None:
        # A dynamic length in an output is left to the engine to settle, and is checked on every answer.
        fits = len(got.shape) == len(expected.shape) and all(
            have == want or (have is None and role == "output")
            for have, want in zip(got.shape, expected.shape, strict=True)
        )
    if not fits:
        raise ArtifactError(
            f"{role} {name!r} is {got}, expected {expected} by its card; export the model again"
        )
