"""What a network costs: parameters and multiply-accumulates."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.networks.base import Network, Output


def count_parameters(module: nn.Module) -> int:
    """Count trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_gmacs(network: Network) -> tuple[float, Output]:
    """Count billions of multiply-accumulates for one frame, in convolutions and matrix products.

    Works on the meta device too, where nothing is computed.

    :return: the count, and the output for that frame.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = network(torch.zeros(1, network.in_channels, *network.size, device=device))
    network.train(training)
    flops: int = counter.get_total_flops()
    return flops / 2e9, output
