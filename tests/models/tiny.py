"""A model small enough to compute by hand, with every part of the artifact's contract."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.artifact import InputSize, ModelCard, TrainingData, card_json

HEIGHT, WIDTH = 24, 16
CLASSES = ("benign", "malignant", "normal")
# With the brightest pixel a multiple of 16, every probability is exact even in bfloat16.
SHARES = (0.75, 0.25)


def tiny_card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "network": "arithmetic",
        "classes": CLASSES,
        "input": InputSize(height=HEIGHT, width=WIDTH, channels=1),
        "training_data": (TrainingData(name="none", licence="none"),),
        "date": "2026-01-01",
        "metrics": {},
        "temperature": 1.0,
        "precision": "fp32",
        "intended_use": "tests",
        "parameters": 0,
        "gmacs": 0.0,
    }
    return ModelCard(**(fields | changes))


def expected(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Lesion map and class probabilities the tiny model must give for frames [n, H, W, 1]."""
    brightest = frames.max(axis=(1, 2, 3)).astype(np.float32) / 256
    classes = np.stack([brightest * SHARES[0], brightest * SHARES[1], 1 - brightest], axis=1)
    return 255 - frames[..., 0], classes


def tiny_model(
    *, card: ModelCard | None = None, metadata: str | None = None, not_a_number: bool = False
) -> onnx.ModelProto:
    """Build the model: lesion = 255 - pixel; classes from the brightest pixel of the frame.

    :param metadata: text of the card's property; None: the card's own; "": no property at all.
    :param not_a_number: divide the first probability by zero where the brightest pixel is 240.
    """
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["x", "channel"], ["gray"]),
        helper.make_node("Sub", ["white", "gray"], ["inverse"]),
        helper.make_node("Cast", ["inverse"], ["lesion"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["gray", "plane"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "scale"], ["m"]),
        helper.make_node("Unsqueeze", ["m", "last"], ["column"]),
        helper.make_node("Mul", ["column", "shares"], ["lesions"]),
        helper.make_node("Sub", ["one", "column"], ["normal"]),
        helper.make_node("Concat", ["lesions", "normal"], ["classes"], axis=1),
    ]
    if not_a_number:
        # The square root of a negative number from there up.
        nodes[-1] = helper.make_node("Concat", ["lesions", "root"], ["classes"], axis=1)
        nodes[-1:-1] = [
            helper.make_node("Sub", ["limit", "column"], ["distance"]),
            helper.make_node("Sqrt", ["distance"], ["root"]),
        ]
    constants = {
        "channel": np.array([3]),
        "plane": np.array([1, 2]),
        "last": np.array([1]),
        "white": np.float32(255),
        "scale": np.float32(1 / 256),
        "one": np.float32(1),
        "limit": np.float32(239 / 256),
        "shares": np.array([SHARES], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 1])],
        [
            helper.make_tensor_value_info("lesion", TensorProto.UINT8, ["N", HEIGHT, WIDTH]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["N", len(CLASSES)]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # Opset and IR version that the oldest supported engines read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    text = card_json(card or tiny_card()) if metadata is None else metadata
    if text:
        helper.set_model_props(model, {"sonostream": text})
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
