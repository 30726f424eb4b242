"""Writes a model repository for NVIDIA's Triton Inference Server."""

import shutil
from pathlib import Path
from typing import Literal

from models.artifact import CLASSES, INPUT, LESION, Artifact

Backend = Literal["onnxruntime", "tensorrt"]
# Long enough for the frames of daemons that run in step, short beside a frame's 33 ms.
_QUEUE_DELAY_US = 1000
# As `models.runtimes.kserve` reads it.
_SHA_PARAMETER = "sonostream_sha256"


def write_repository(
    artifact: Artifact,
    folder: Path,
    *,
    backend: Backend = "onnxruntime",
    max_batch: int = 8,
    instances: int = 1,
    gpu: bool = True,
) -> Path:
    """Write `folder/<name>/config.pbtxt` and `folder/<name>/1/model.onnx`.

    :param artifact: the model; the server runs the same file.
    :param folder: the repository, as Triton's --model-repository; may hold other models.
    :param backend: `onnxruntime` runs the file as it is; `tensorrt` runs it there with TensorRT, which builds
        an engine for the server's own GPU and version when the model is loaded.
    :param max_batch: most frames the server puts into one call, of one client or of several.
    :param instances: copies of the model on each GPU (or on the processor).
    :param gpu: whether they run on GPUs.
    :return: the model's folder.
    :raises OSError: if it cannot be written.
    """
    card = artifact.card
    model = folder / card.name
    (model / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact.path, model / "1" / "model.onnx")
    size, count = card.input, len(card.classes)
    accelerator = _TENSORRT if backend == "tensorrt" else ""
    (model / "config.pbtxt").write_text(
        _CONFIG.format(
            name=card.name,
            max_batch=max_batch,
            frame=f"{size.height}, {size.width}, {size.channels}",
            lesion=f"{size.height}, {size.width}",
            classes=count,
            delay=_QUEUE_DELAY_US,
            instances=instances,
            kind="KIND_GPU" if gpu else "KIND_CPU",
            accelerator=accelerator,
            parameter=_SHA_PARAMETER,
            sha=artifact.sha256,
            input=INPUT,
            lesion_name=LESION,
            classes_name=CLASSES,
        )
    )
    return model


_CONFIG = """\
# Written by `sonostream export --triton`. Research use only: not a medical device.
name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {max_batch}
input [ {{ name: "{input}", data_type: TYPE_UINT8, dims: [ {frame} ] }} ]
output [
  {{ name: "{lesion_name}", data_type: TYPE_UINT8, dims: [ {lesion} ] }},
  {{ name: "{classes_name}", data_type: TYPE_FP32, dims: [ {classes} ] }}
]
# Frames of several daemons go through together, but none waits longer than this for company.
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
instance_group [ {{ count: {instances}, kind: {kind} }} ]
# The daemon refuses a server that runs another file than its own.
parameters {{ key: "{parameter}", value: {{ string_value: "{sha}" }} }}
{accelerator}"""

_TENSORRT = """\
optimization { execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }
"""
