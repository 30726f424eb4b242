"""Checkpoints that a crash cannot break: written beside the old one, flushed, then renamed over it."""

import io
import os
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit the run; the message says what to do."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; at every instant `path` holds the old one whole or the new one whole.

    :raises CheckpointError: if it cannot be written; the old one is then untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # without it the rename itself may be lost with the power
        finally:
            os.close(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}; the checkpoint before it is intact"
        ) from None


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted, never code.

    :raises CheckpointError: if there is none, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; leave out --resume to start anew")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path} is no checkpoint that can be read ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint of this program")
    return state
