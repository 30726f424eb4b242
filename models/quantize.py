"""INT8 by calibrated quantise/dequantise nodes, for processors or for TensorRT.

One graph cannot serve both. `cpu`: unsigned activations and signed weights per channel, biases in int32,
which OpenVINO and ONNX Runtime fuse into their fastest kernels and TensorRT refuses. `tensorrt`: everything
symmetric around zero, biases left in FP32, which is the only form TensorRT takes and is slow elsewhere.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from models.artifact import INPUT

Target = Literal["cpu", "tensorrt"]

# Maps of logits and gates, Gaussian derivatives, and a deformable convolution's 18 offsets and 9 masks: 255
# levels over their whole range move an edge or a sampling point, and few outputs cost little in FP32.
_WIDE_CHANNELS = 18


class QuantizeError(RuntimeError):
    """The graph cannot be quantised; the message says why."""


def quantize(source: Path, destination: Path, frames: NDArray[np.uint8], *, target: Target = "cpu") -> None:
    """Quantise the convolutions of an artifact.

    Everything else stays FP32: normalisation, softmax, attention's products and fully connected layers are a
    small part of the work and most of the loss.

    :param source: an FP32 artifact.
    :param destination: where to write; metadata of the source is kept as it is.
    :param frames: N x H x W x C, to calibrate with: of the kind the model will see.
    :param target: what will run the file, see above.
    :raises QuantizeError: if there are no frames, or no convolution worth quantising.
    """
    if not len(frames):
        raise QuantizeError("int8 needs frames to calibrate with; give a folder of images with --calibrate")
    model = onnx.load(source)
    nodes = _quantizable(model)
    if not nodes:
        raise QuantizeError("the graph has no convolution to quantise; export it in fp32")
    symmetric = target == "tensorrt"
    options: dict[str, Any] = {}
    if symmetric:
        options = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True}
        options["QuantizeBias"] = False
    # It warns, on the root logger, that it would like another tool to be run first.
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            model,
            destination,
            _Frames(frames),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
    finally:
        logging.disable(logging.NOTSET)


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration one frame at a time: its memory holds every tensor of the graph for a batch."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(frames[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next input, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantizable(model: ModelProto) -> list[str]:
    """Name the convolutions that are worth it, and give a name to those that have none."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    names = []
    for at, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{at}"
        if node.op_type == "Conv" and node.input[1] in weights:
            outputs = numpy_helper.to_array(weights[node.input[1]]).shape[0]
            if outputs > _WIDE_CHANNELS:
                names.append(node.name)
    return names
