"""Grad-CAM: which parts of a picture speak for a class.

Selvaraju et al.: Grad-CAM. ICCV, 2017. MTL-OCA's and LA-Net's papers show such maps, CTG-Net's plain class
activation maps; the others are shown at the deepest map that their class head reads.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.base import Network
from train.data import Pixels

# Module whose output is weighed. MTL-OCA: the last convolution of the backbone, as its paper says.
LAYERS = {
    "MTLOCA": "backbone.dec1",
    "LANet": "fex.layer4",
    "CTGNet": "aspp.project",
    "ACSNet": "encoder.layer4",
    "RMTLNet": "encoder.layer4",
}


def layer_of(network: Network) -> str | None:
    """Name the layer that a network is explained at; None where it has no class or no such layer."""
    if not network.classes:
        return None
    modules = dict(network.named_modules())
    known = LAYERS.get(type(network).__name__)
    if known in modules:
        return known
    deepest = [name for name in modules if name.rpartition(".")[2] == "layer4"]
    return deepest[0] if deepest else None


def grad_cam(network: Network, pixels: Pixels, label: int, layer: str) -> NDArray[np.float32]:
    """Compute how much every part of a picture speaks for a class.

    :param pixels: H x W gray, of the network's size.
    :param label: index of the class.
    :param layer: name of the module whose output is weighed.
    :return: H x W, 0 to 1; zeros where nothing speaks for the class.
    """
    kept: list[Tensor] = []
    module: nn.Module = network.get_submodule(layer)
    handle = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            frame = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)[None, None].float() / 255
            logits = network(frame.requires_grad_()).class_logits
            assert logits is not None
            (gradient,) = torch.autograd.grad(logits[0, label], kept[0])
    finally:
        handle.remove()
        network.train(training)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    weighed = F.relu((weights * kept[0]).sum(dim=1, keepdim=True)).detach()
    weighed = F.interpolate(weighed, size=pixels.shape, mode="bilinear", align_corners=False)[0, 0]
    peak = float(weighed.max())
    answer: NDArray[np.float32] = (weighed / peak if peak > 0 else weighed).float().cpu().numpy()
    return answer
