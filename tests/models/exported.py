"""Every network as an artifact of every precision, at the smallest size that exercises it."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint import Checkpoint, card_of
from models.quantize import Target
from tests.models.networks.configurations import DEFAULTS, awake

NETWORKS = ("mtl_oca", "ctg_net", "rmtl_net", "la_net_r18", "acsnet", "sonolite")
PRECISIONS = ("fp32", "fp16", "int8")
# Half the paper's widths, where a network has such an option: this is about graphs.
_OPTIONS: dict[str, dict[str, Any]] = {"mtl_oca": {"widths": (32, 64, 128), "bridge": 256}}

_trained: dict[str, Checkpoint] = {}


def checkpoint(network: str) -> Checkpoint:
    """A network with random weights whose every branch carries a signal."""
    if network not in _trained:
        built = awake(network, **{**DEFAULTS[network], **_OPTIONS.get(network, {})}).eval()
        _trained[network] = Checkpoint(built, card_of(built, version="1"))
    return _trained[network]


def some_frames(network: str, count: int = 4) -> NDArray[np.uint8]:
    """Patches of a shade each, N x H x W x C."""
    card = checkpoint(network).card.input
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, card.height // 8, card.width // 8), dtype=np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)[..., None]
    return np.ascontiguousarray(frames.repeat(card.channels, axis=3))


def exported(folder: Path, network: str, precision: str, *, target: Target = "cpu") -> Path:
    """The path of an artifact; written once."""
    from models.artifact import card_json
    from models.deployed import Deployed
    from models.export import replace_card, write_graph
    from models.half import half
    from models.quantize import quantize

    target = target if precision == "int8" else "cpu"
    path = folder / f"{network}-{precision}-{target}.onnx"
    if path.exists():
        return path
    trained, frames = checkpoint(network), some_frames(network)
    changes = {"precision": precision, "quantization": target if precision == "int8" else ""}
    card = type(trained.card)(**{**_fields(trained.card), **changes, "date": dt.date(2026, 1, 1).isoformat()})
    if precision == "int8":
        quantize(exported(folder, network, "fp32"), path, frames, target=target)
        replace_card(path, card)
        return path
    narrow = half(trained.network) if precision == "fp16" else trained.network
    write_graph(
        Deployed(narrow.eval(), card.temperature), torch.from_numpy(frames[:2]), card_json(card), path
    )
    return path


def _fields(card: Any) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__struct_fields__}
