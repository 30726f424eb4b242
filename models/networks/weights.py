"""ImageNet weights from a local file with torchvision's key names."""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from models.networks.registry import ModelError

# Classifiers: an encoder has none, or one that it never uses.
_CLASSIFIERS = ("fc.", "classifier.")


def load_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load an encoder's weights; those of a colour stem are summed for a gray one.

    Summing is exact for frames whose three channels are equal after normalisation.

    :param path: a file of torch.save, a mapping of torchvision's names to tensors.
    :raises ModelError: if it is missing, is no such file, or belongs to another encoder.
    """
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"no such weights file: {path}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{path} is not a file of weights saved by torch.save: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(value, Tensor) for value in given.values()):
        raise ModelError(f"{path} does not hold a mapping of names to tensors (a state dict)")
    expected = {key: value for key, value in encoder.state_dict().items() if not key.startswith(_CLASSIFIERS)}
    chosen = {key: value for key, value in given.items() if not key.startswith(_CLASSIFIERS)}
    # Files from before BatchNorm counted its batches lack the counters.
    missing = sorted(
        key for key in expected.keys() - chosen.keys() if not key.endswith("num_batches_tracked")
    )
    surplus = sorted(chosen.keys() - expected.keys())
    if missing or surplus:
        raise ModelError(
            f"{path} holds another network's weights: it lacks {_some(missing)} and has {_some(surplus)}"
        )
    for key, value in chosen.items():
        wanted = expected[key].shape
        if value.ndim == 4 and value.shape[1] == 3 and wanted[1] == 1 and value.shape[0] == wanted[0]:
            chosen[key] = value = value.sum(dim=1, keepdim=True)
        if value.shape != wanted:
            raise ModelError(
                f"{path} holds another network's weights: {key} is {tuple(value.shape)}, not {tuple(wanted)}"
            )
    encoder.load_state_dict(chosen, strict=False)


def _some(keys: list[str]) -> str:
    return (
        ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") if keys else "nothing"
    )
