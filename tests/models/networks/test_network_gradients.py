from itertools import pairwise

import pytest
import torch
from torch import nn

from models.networks.attention import PositionAttention
from models.networks.base import Network
from models.networks.baselines import MTLCOSA, ContextOrientedSelfAttention
from models.networks.rmtl_net import RegionFusion
from tests.models.networks.configurations import ALL, HUGE, Configuration, awake, frames, label


def flat_in_theory(network: Network) -> set[str]:
    """Parameters that cancel out: biases before a BatchNorm, and those of keys in a softmax over keys."""
    cancelled: set[str] = set()
    for key, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            cancelled |= {
                f"{key}.{position}.bias"
                for position, (first, second) in enumerate(pairwise(module))
                if isinstance(first, nn.Conv2d | nn.ConvTranspose2d) and isinstance(second, nn.BatchNorm2d)
            }
        elif isinstance(module, RegionFusion):
            cancelled.add(f"{key}.conv.bias")
        elif isinstance(module, PositionAttention):
            cancelled.add(f"{key}.key.bias")
    if isinstance(network, MTLCOSA):
        # The mask of random weights is too ragged for three regions; the test below gives it one that is not.
        cancelled |= {key for key, _ in network.named_parameters() if key.startswith("ra.attention.")}
    return cancelled


@pytest.mark.parametrize(
    "configuration",
    [pytest.param(one, marks=pytest.mark.heavy if one[0] in HUGE else (), id=label(one)) for one in ALL],
)
def test_every_parameter_learns_in_fp32_and_bf16(configuration: Configuration) -> None:
    name, options = configuration
    network = awake(name, training=True, **options)
    cancelled = flat_in_theory(network)

    for precision in (torch.float32, torch.bfloat16):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            output = network(frames(network, 4))
        parts = [output.lesion_logits, output.lesion, output.class_logits, *output.auxiliary.values()]
        learning = [part.float() for part in parts if part is not None and part.requires_grad]
        torch.stack([(part * torch.randn_like(part)).mean() for part in learning]).sum().backward()

        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{key} has no gradient in {precision}"
            assert torch.isfinite(parameter.grad).all(), f"{key} has a non-finite gradient in {precision}"
            if key not in cancelled:
                assert parameter.grad.abs().max() > 0, f"{key} has a zero gradient in {precision}"


def test_every_parameter_of_mtl_cosas_attention_learns() -> None:
    torch.manual_seed(0)
    cosa = ContextOrientedSelfAttention(64).train()
    lesion = torch.zeros(2, 1, 256, 256)
    lesion[0, :, 50:150, 50:150] = 1
    lesion[1, :, 62:126, 94:200] = 1

    f_w, regions = cosa(torch.rand(2, 64, 8, 8), torch.cat([lesion, 1 - lesion], dim=1))
    (f_w * torch.randn_like(f_w)).sum().backward()

    assert (regions.sum(dim=(0, 2, 3)) > 0).all()
    for key, parameter in cosa.named_parameters():
        if not key.endswith(("key.bias", "fuse.conv.bias")):
            assert parameter.grad.abs().max() > 0, f"{key} has a zero gradient"
