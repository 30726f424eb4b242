"""ResNet encoders, with torchvision's parameter names so that its weight files load."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.blocks import one_of

Depth = Literal[18, 50, 101]
Stem = Literal["plain", "deep"]
_BLOCKS: dict[Depth, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Stages(NamedTuple):
    """Features of an H x W frame, from the finest; channels as in `ResNet.channels`."""

    c1: Tensor
    """N x C x H/2 x W/2, after the stem."""
    c2: Tensor
    """N x C x H/4 x W/4, after layer1."""
    c3: Tensor
    """N x C x H/8 x W/8, after layer2."""
    c4: Tensor
    """N x C x H/16 x W/16, after layer3."""
    c5: Tensor
    """N x C x H/32 x W/32, after layer4."""


class ResNet(nn.Module):
    """ResNet-18, -50 or -101 (v1.5: the stride is on the 3x3 convolution) without its classifier."""

    def __init__(
        self, depth: Depth, *, in_channels: int = 3, stem: Stem = "plain", unused_fc: bool = False
    ) -> None:
        """Build the encoder.

        :param depth: 18, 50 or 101.
        :param in_channels: channels of the image.
        :param stem: "plain", one 7x7 convolution to 64 channels; "deep", three 3x3 to 64, 64 and 128.
        :param unused_fc: keep the 1000-way classifier, which nothing reads, to meet a printed count.
        """
        super().__init__()
        one_of("depth", depth, tuple(_BLOCKS))
        one_of("stem", stem, ("plain", "deep"))
        block, expansion = (BasicBlock, 1) if depth == 18 else (Bottleneck, 4)
        width = 64 if stem == "plain" else 128
        self.channels = (width, *(expansion * c for c in (64, 128, 256, 512)))
        if stem == "plain":
            self.conv1: nn.Module = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = _deep_stem(in_channels)
        self.bn1 = nn.BatchNorm2d(width)
        first, *deeper = _BLOCKS[depth]
        self.layer1 = _layer(block, width, 64, first, stride=1)
        self.layer2, self.layer3, self.layer4 = (
            _layer(block, expansion * 64 * 2**i, 128 * 2**i, blocks, stride=2)
            for i, blocks in enumerate(deeper)
        )
        self.fc = nn.Linear(self.channels[-1], 1000) if unused_fc else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Stages:
        """N x `in_channels` x H x W -> the features of five stages."""
        c1 = F.relu(self.bn1(self.conv1(x)))
        c2 = self.layer1(F.max_pool2d(c1, 3, stride=2, padding=1))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return Stages(c1, c2, c3, c4, self.layer4(c4))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        """Channels in, channels out, stride of the first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x width x H/stride x W/stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut; four times as many channels out as within."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        """Channels in, channels of the 3x3 convolution, its stride."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x 4 width x H/stride x W/stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def _layer(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    out_channels = width * (4 if block is Bottleneck else 1)
    later = [block(out_channels, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, width, stride), *later)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def _deep_stem(in_channels: int) -> nn.Sequential:
    """Stride 2, then two of stride 1; the norm and ReLU after the last are the encoder's own."""

    def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)

    layers: Sequence[nn.Module] = (
        conv(in_channels, 64, stride=2),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        conv(64, 64),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        conv(64, 128),
    )
    return nn.Sequential(*layers)
