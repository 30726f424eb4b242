"""Exports a checkpoint in a precision, and lets no file pass that drifted."""

import os
import tempfile
from pathlib import Path

import msgspec
import torch

from models.artifact import Artifact, card_json, load_artifact
from models.checkpoint import Checkpoint
from models.deployed import Deployed
from models.export import ExportError, export, replace_card, write_graph
from models.half import half
from models.parity import Parity, measure_parity, reference
from models.quantize import Target, quantize
from models.runtimes.base import Pixels

PRECISIONS = ("fp32", "fp16", "int8")


def export_as(
    checkpoint: Checkpoint,
    path: Path,
    *,
    precision: str,
    frames: Pixels,
    calibration: Pixels | None = None,
    target: Target = "cpu",
    allow_drift: bool = False,
) -> tuple[Artifact, list[Parity]]:
    """Write a network as an artifact of a precision, with its parity in the card.

    :param checkpoint: network and card; the card's precision is set here.
    :param path: ends in .onnx; replaced only by a file that passed every check.
    :param precision: one of `PRECISIONS`.
    :param frames: N x H x W x C uint8, N >= 2, to compare the engines with PyTorch on.
    :param calibration: frames to calibrate int8 with; None: the same.
    :param target: what an int8 file is for; see `models.quantize`.
    :param allow_drift: write a file that is past its bound too, and say so in its card.
    :return: the artifact, and how every engine did.
    :raises ExportError: if the network cannot be exported, or drifted past the bound of its precision.
    :raises ModelError: if a weight does not fit the precision, or the network lacks one of the two outputs.
    :raises QuantizeError: if there is nothing to quantise.
    :raises EngineError: if an engine cannot run the file.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    card = msgspec.structs.replace(
        checkpoint.card, precision=precision, quantization=target if precision == "int8" else ""
    )
    network = checkpoint.network
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        draft = Path(folder) / path.name
        if precision == "fp16":
            deployed = Deployed(half(network), card.temperature)
            write_graph(deployed, torch.from_numpy(frames[:2]), card_json(card), draft)
        else:
            whole = Path(folder) / "fp32.onnx"
            export(network, msgspec.structs.replace(card, precision="fp32", quantization=""), whole, frames)
            if precision == "int8":
                quantize(whole, draft, frames if calibration is None else calibration, target=target)
                replace_card(draft, card)
            else:
                draft = whole
        rows = measure_parity(load_artifact(draft), reference(checkpoint, frames), frames)
        drifted = [row for row in rows if not row.within]
        if drifted and not allow_drift:
            raise ExportError(
                f"{path.name} drifts past the bound of its precision: {'; '.join(map(_said, drifted))}; "
                "nothing was written (--allow-drift writes it and says so in its card)"
            )
        parity = tuple(msgspec.to_builtins(row) for row in rows)
        replace_card(draft, msgspec.structs.replace(card, parity=parity, drift_allowed=bool(drifted)))
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    return load_artifact(path), rows


def _said(row: Parity) -> str:
    return (
        f"{row.runtime} {row.precision}: Dice {row.dice:.4f}, class probabilities by up to "
        f"{row.classes_max:.3g}, labels agree on {row.agreement:.1%} of {row.frames} frames"
    )
