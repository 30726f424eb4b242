"""Every network with every part it can leave out, at the smallest size that exercises it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.networks.base import Network
from models.networks.registry import build
from models.networks.rmtl_net import RMTLNet

Configuration = tuple[str, dict[str, Any]]

DEFAULTS: dict[str, dict[str, Any]] = {
    "mtl_oca": {"size": 32},
    "ctg_net": {"size": 64},
    "rmtl_net": {"size": 64},
    "la_net_r18": {"size": 64},
    "la_net_r50": {"size": 64},
    "acsnet": {"size": 64},
    "sonolite": {"size": 64},
    "unet": {"size": 64},
    "cunet": {"size": 64},
    "uresnet": {"size": 64},
    "mtl_net": {"size": 64},
    "mtl_cosa": {"size": 64},
    "resnet18": {"size": 64},
    "resnet50": {"size": 64},
}

ABLATIONS: dict[str, list[dict[str, Any]]] = {
    "mtl_oca": [
        {"oca": False},
        {"cls_source": "augmented"},
        {"edge_channel": False},
        {"edge_norm": "fixed"},
        {"cls_pool": "gap+gmp"},
        {"cls_pool": 2},
        {"widths": (32, 64, 128), "bridge": 256},
    ],
    "ctg_net": [
        {"lam_gland": False, "lam_lesion": False},
        {"lam_gland": False},
        {"lam_lesion": False},
        {"lam_identity": False},
        {"csm": False},
        {"akgm": False},
        {"csm": False, "akgm": False, "lam_gland": False, "lam_lesion": False},
        {"gland": "absent"},
        {"gland": "prior"},
        {"vgg_bn": True},
    ],
    "rmtl_net": [
        {"regions": ("T",)},
        {"regions": ("T", "B")},
        {"detach_regions": True},
        {"stem": "deep"},
    ],
    "la_net_r18": [
        {"cam": False},
        {"sam": False},
        {"mam": False},
        {"sam_kernel": 7, "sam_convs": 1},
        {"size": 128},
    ],
    "acsnet": [
        {"gate": False},
        {"dsa": False},
        {"multi_scale": False},
        {"channel_attention": False},
        {"classify": False, "multi_scale": False, "channel_attention": False},
        {"segment": False, "gate": False, "dsa": False, "multi_scale": False},
        {"segment": False, "gate": False, "dsa": False, "multi_scale": False, "channel_attention": False},
    ],
    "sonolite": [
        {"gate": False},
        {"regions": False},
    ],
}

ABLATED: list[Configuration] = [
    (name, {**DEFAULTS[name], **options}) for name, ablations in ABLATIONS.items() for options in ablations
]
ALL: list[Configuration] = [*DEFAULTS.items(), *ABLATED]

HUGE = ("uresnet", "mtl_net", "mtl_cosa")
"""Baselines of 90 million weights and more, which take long and are nearly RMTL-Net."""


def label(configuration: Configuration) -> str:
    """Name a configuration in a test's id."""
    name, options = configuration
    changes = {key: value for key, value in options.items() if DEFAULTS[name].get(key) != value}
    return "-".join([name, *(f"{key}={value}" for key, value in changes.items())])


def awake(name: str, *, training: bool = False, **options: Any) -> Network:
    """Build a network whose every branch carries a signal.

    Some start closed: CTG-Net's position attention is multiplied by 0, ACSNet's taps are not displaced, and
    random probabilities seldom pass RMTL-Net's 0.5, which sharp and balanced ones do. BatchNorm has
    statistics of real features, without which random networks say the same of every frame.
    """
    torch.manual_seed(3)
    network = build(name, **options)
    for key, parameter in network.named_parameters():
        if key.endswith("akgm.a"):
            torch.nn.init.constant_(parameter, 0.7)
        elif ".offset." in key or ".mask." in key:
            torch.nn.init.normal_(parameter, std=0.05)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        # A tenth of the variance of 1 stays: a channel that is silent here must not be blown up elsewhere.
        norm.momentum = 0.9
    with torch.no_grad():
        network.train()(frames(network, 4))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)
    if isinstance(network, RMTLNet):
        with torch.no_grad():
            # In the pixels that the coarsest grid samples, which the regions are made of.
            logits = network(frames(network, 4)).lesion_logits[:, :, ::32, ::32]
            sharper = 5 / logits.std(dim=(0, 2, 3))
            network.decoder.conv2.weight *= sharper.view(-1, 1, 1, 1)
            network.decoder.conv2.bias.sub_(logits.mean(dim=(0, 2, 3))).mul_(sharper)
    return network


def frames(network: Network, count: int, channels: int = 1) -> torch.Tensor:
    """Draw frames that a network reads, repeatably: patches of a shade each, so that masks are patches too.

    A patch is 32 pixels wide and centred where the coarsest grid samples it.
    """
    generator = torch.Generator().manual_seed(count)
    height, width = network.size
    shades = torch.rand(count, channels, height // 32 + 1, width // 32 + 1, generator=generator)
    patches = F.interpolate(shades, scale_factor=32)[:, :, 16 : 16 + height, 16 : 16 + width]
    return 0.9 * patches + 0.1 * torch.rand(patches.shape, generator=generator)
