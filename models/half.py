"""Narrows a network to FP16 or bfloat16 where that is safe, by rule."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from models.networks.base import Network
from models.networks.registry import ModelError

# Statistics over a whole map: sums of squares pass 65,504, the largest half, on a map of 256 x 256.
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
# Layers that draw a map of logits or a gate have few outputs, so width costs nothing there, and a lesion's
# edge, where |logit| is small beside its neighbours', is what they decide.
_FEW_CHANNELS = 4


class HalfError(ModelError):
    """The network has weights that FP16 cannot hold."""


def half(network: Network, dtype: torch.dtype = torch.float16) -> Network:
    """Copy a network with weights of 16 bits, but where that breaks it.

    What stays FP32: GroupNorm and its like (`_NORMS`); fully connected layers and maps of few channels, so
    all logits; every softmax and sigmoid that gives probabilities, among them the softmax over all pixels in
    eq. 1 of MTL-OCA, whose mean weight at 128 x 128 is the smallest normal half (the networks widen those
    themselves, see `full_precision`). BatchNorm is a scale and a shift by then and is folded into its
    convolution.

    :param network: in evaluation mode, FP32.
    :param dtype: float16 or bfloat16.
    :return: a copy; frames stay FP32, and so do the logits and probabilities of its output.
    :raises HalfError: if a weight is beyond FP16's range.
    """
    finals = _final_layers(network)
    narrow = deepcopy(network).to(dtype)
    for name, values in narrow.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise HalfError(
                f"{name} has values beyond 65504, the largest that FP16 holds; export in fp32 or int8"
            )
    originals = dict(network.named_modules())
    for name, module in list(narrow.named_modules()):
        if _stays_wide(module):
            parent, _, leaf = name.rpartition(".")
            # From the original's weights: rounding to half and back would lose what width is to keep.
            wide = _Wide(deepcopy(originals[name]), narrow_to=None if name in finals else dtype)
            setattr(narrow.get_submodule(parent), leaf, wide)
    return narrow


class _Wide(nn.Module):
    """A layer that computes in FP32 among others that do not."""

    def __init__(self, layer: nn.Module, *, narrow_to: torch.dtype | None) -> None:
        super().__init__()
        self.layer = layer
        self.narrow_to = narrow_to

    def forward(self, x: Tensor) -> Tensor:
        """Widen, compute, and narrow again unless this is the network's last word."""
        y: Tensor = self.layer(x.float())
        return y if self.narrow_to is None else y.to(self.narrow_to)


def _stays_wide(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.out_channels <= _FEW_CHANNELS
    return isinstance(module, (*_NORMS, nn.Linear))


def _final_layers(network: Network) -> set[str]:
    """Names of the layers whose output is the network's output, untouched."""
    made: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: made.__setitem__(name, output))
        for name, module in network.named_modules()
        if _stays_wide(module)
    ]
    try:
        with torch.inference_mode():
            output = network(torch.zeros(1, network.in_channels, *network.size))
    finally:
        for hook in hooks:
            hook.remove()
    return {name for name, y in made.items() if y is output.lesion_logits or y is output.class_logits}
