"""Modulated deformable convolution (v2), in operators that every engine has."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.blocks import full_precision


class DeformableConv2d(nn.Module):
    """3x3 modulated deformable convolution without bias (Zhu et al., Deformable ConvNets v2, 2019).

    y(p) = sum_k w_k m_k(p) x(p + p_k + dp_k(p)), k over the nine taps, x bilinear between pixels and zero
    outside; offsets dp and masks m = sigmoid(.) are 3x3 convolutions of x, zero at the start.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Channels in and out; the size is kept."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.offset = nn.Conv2d(in_channels, 18, 3, padding=1)
        self.mask = nn.Conv2d(in_channels, 9, 3, padding=1)
        for conv in (self.offset, self.mask):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H x W."""
        return deform_conv2d(x, self.offset(x), self.mask(x).sigmoid(), self.weight)


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Convolve at displaced positions.

    The taps are stacked along the rows, so that one sampling and one 1x1 convolution do the work.

    :param x: N x C x H x W.
    :param offset: N x 18 x H x W, (dy, dx) of the taps in row order, in pixels.
    :param mask: N x 9 x H x W, the taps' modulation.
    :param weight: out x C x 3 x 3.
    :return: N x out x H x W, in the type of x.
    """
    height, width = x.shape[2:]
    # Positions in FP32: half a pixel is lost to bfloat16 beyond 64.
    offset = full_precision(offset)
    rows = torch.arange(height, device=x.device, dtype=offset.dtype).view(1, 1, -1, 1)
    columns = torch.arange(width, device=x.device, dtype=offset.dtype).view(1, 1, 1, -1)
    taps = torch.arange(9, device=x.device).view(1, -1, 1, 1)
    y = rows + torch.div(taps, 3, rounding_mode="floor") - 1 + offset[:, 0::2]
    x_ = columns + taps % 3 - 1 + offset[:, 1::2]
    # grid_sample counts from -1 at the first pixel's centre to 1 at the last one's.
    grid = torch.stack([2 * x_ / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=4).flatten(1, 2)
    sampled = F.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    channels = x.shape[1]
    sampled = sampled.reshape(-1, channels, 9, height, width) * mask.unsqueeze(1)
    kernel = weight.reshape(-1, 9 * channels, 1, 1)
    return F.conv2d(sampled.to(x.dtype).reshape(-1, 9 * channels, height, width), kernel)
