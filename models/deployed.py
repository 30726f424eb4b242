"""The contract of an artifact around a network, in PyTorch."""

import torch
from torch import Tensor, nn

from models.networks.base import Network
from models.networks.registry import ModelError


class Deployed(nn.Module):
    """uint8 pixels in, uint8 lesion map and calibrated probabilities out."""

    def __init__(self, network: Network, temperature: float) -> None:
        """Wrap a network.

        :param network: one that segments and classifies.
        :param temperature: divides the class logits.
        """
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C uint8 -> N x H x W uint8, N x K float32.

        :raises ModelError: if the network lacks one of the two.
        """
        # Before permute: TensorRT has no Transpose of uint8.
        frames = frame.to(torch.float32).permute(0, 3, 1, 2) / 255
        output = self.network(frames)
        if output.lesion is None or output.class_logits is None:
            raise ModelError(f"{self.network.name} must both segment and classify to become an artifact")
        lesion = (output.lesion.float() * 255).round().clamp(0, 255).to(torch.uint8)
        classes = (output.class_logits.float() / self.temperature).softmax(dim=1)
        return lesion, classes
