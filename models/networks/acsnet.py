"""ACSNet: gated skips and deformable attention for the mask, multi-scale channel attention for the class.

He, Yang, Su, Wang. "Multi-task learning for segmentation and classification of breast tumors from ultrasound
images". Comput. Biol. Med. 2024. The paper prints 42.99 M parameters: that is a profiler counting the encoder
twice. The network has 31,824,945. UNet and CUNet are this network with parts left out.
"""

import torch
from torch import Tensor, nn

from models.networks.base import Network, Output
from models.networks.blocks import class_names, conv_gn_relu, full_precision, upsample2
from models.networks.deformable import DeformableConv2d
from models.networks.registry import ModelError
from models.networks.resnet import ResNet, Stages

# BUSI's own, for all channels.
_MEAN, _STD = 0.330, 0.204


class ACSNet(Network):
    """ACSNet (Fig. 2).

    Output: `lesion_logits` N x 1 x H x W, `lesion` is their sigmoid, `class_logits` N x K; no auxiliary maps.
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        gate: bool = True,
        dsa: bool = True,
        multi_scale: bool = True,
        channel_attention: bool = True,
        segment: bool = True,
        classify: bool = True,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: channels the stem reads, 1 or 3.
        :param size: side of the frame or (height, width), multiples of 32 from 64 on.
        :param gate: gate units on the skips and on stage 5.
        :param dsa: the DSA modules of stages 6 and 7.
        :param multi_scale: classify from stages 4, 5 and 6; off: from stage 5.
        :param channel_attention: channel attention on what the class head reads.
        :param segment: have a decoder.
        :param classify: have a class head.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=32,
            classes=class_names(num_classes) if classify else (),
            regions=("lesion",) if segment else (),
            in_channels=in_channels,
            mean=(_MEAN,),
            std=(_STD,),
        )
        if min(self.size) < 64:
            raise ModelError(
                f"size {self.size} is too small: the coarsest features need 64 or more pixels a side"
            )
        if not segment and (gate or dsa or multi_scale):
            raise ModelError("segment=False leaves no decoder: gate, dsa and multi_scale must be False too")
        if not classify and (multi_scale or channel_attention):
            raise ModelError(
                "classify=False leaves no class head: multi_scale and channel_attention must be False"
            )
        if not (segment or classify):
            raise ModelError("segment or classify must be True: a network without either returns nothing")
        self.encoder = ResNet(18, in_channels=in_channels)
        self.decoder = Decoder(gate=gate, dsa=dsa) if segment else None
        self.classify = (
            ClassificationBranch(num_classes, multi_scale, channel_attention) if classify else None
        )

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        stages = self.encoder(self.prepare(frames))
        logits = lesion = class_logits = stage6 = None
        if self.decoder is not None:
            logits, stage6 = self.decoder(stages)
            lesion = full_precision(logits).sigmoid()[:, 0]
        if self.classify is not None:
            class_logits = self.classify(stages.c4, stages.c5, stage6)
        return Output(logits, lesion, class_logits, {})

    def pretrained(self) -> nn.Module:
        """The ResNet-18."""
        return self.encoder


class Decoder(nn.Module):
    """Stages 6 to 9 and the output; a stage concatenates [gated skip, what comes from below]."""

    def __init__(self, *, gate: bool, dsa: bool) -> None:
        """Which of the paper's modules it has."""
        super().__init__()

        def gate_unit(channels: int) -> nn.Module:
            return GateUnit(channels) if gate else nn.Identity()

        def dsa_module(channels: int) -> nn.Module:
            return DSAModule(channels) if dsa else nn.Identity()

        self.gate1, self.gate2, self.gate3, self.gate4, self.gate5 = map(gate_unit, (64, 64, 128, 256, 512))
        self.up1, self.up2, self.up3, self.up4 = _up(512, 256), _up(512, 128), _up(256, 64), _up(128, 64)
        self.stage6 = nn.Sequential(_conv(512, 512), _conv(512, 512), dsa_module(512))
        self.stage7 = nn.Sequential(_conv(256, 256), _conv(256, 256), dsa_module(256))
        self.stage8 = nn.Sequential(_conv(128, 128), _conv(128, 128))
        self.stage9 = nn.Sequential(nn.Conv2d(128, 128, 1), nn.ReLU(inplace=True), _conv(128, 128))
        self.out = nn.Sequential(_conv(128, 128), nn.Conv2d(128, 1, 1))

    def forward(self, stages: Stages) -> tuple[Tensor, Tensor]:
        """Stages of an H x W frame -> logits N x 1 x H x W and stage 6, N x 512 x H/16 x W/16."""
        stage6 = self.stage6(torch.cat([self.gate4(stages.c4), _up2(self.up1(self.gate5(stages.c5)))], dim=1))
        stage7 = self.stage7(torch.cat([self.gate3(stages.c3), _up2(self.up2(stage6))], dim=1))
        stage8 = self.stage8(torch.cat([self.gate2(stages.c2), _up2(self.up3(stage7))], dim=1))
        stage9 = self.stage9(torch.cat([self.gate1(stages.c1), _up2(self.up4(stage8))], dim=1))
        return self.out(_up2(stage9)), stage6


class GateUnit(nn.Module):
    """Gate unit (eqs 1 to 3): one weight per image decides how much of a skip passes."""

    def __init__(self, channels: int) -> None:
        """Channels in and out."""
        super().__init__()
        self.squeeze = nn.Sequential(
            conv_gn_relu(channels, channels // 8, 3, groups=channels // 16, bias=True),
            nn.Conv2d(channels // 8, 2, 3, padding=1),
        )
        self.conv = conv_gn_relu(channels, channels, 3, groups=channels // 4, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """X, N x C x H x W -> Y, N x C x H x W."""
        f = self.squeeze(x).sigmoid()  # eq 1: F'_1 and F'_2
        g1 = f[:, :1].mean(dim=(2, 3), keepdim=True)  # eq 2: GAP
        g2 = f[:, 1:].amax(dim=(2, 3), keepdim=True)  # eq 2: GMP
        y: Tensor = self.conv(g1 * x + g2 * x)  # eq 3
        return y


class DSAModule(nn.Module):
    """Deformable spatial attention (Fig. 4, eqs 4 to 7)."""

    def __init__(self, channels: int) -> None:
        """Channels in and out."""
        super().__init__()
        self.dconv1 = DeformableConv2d(channels, channels)
        self.norm1 = nn.GroupNorm(channels // 4, channels)
        self.conv_mean = nn.Conv2d(1, 1, 3, padding=1)
        self.conv_max = nn.Conv2d(1, 1, 3, padding=1)
        self.dconv2 = DeformableConv2d(2 * channels, channels)
        self.norm2 = nn.GroupNorm(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """X, N x C x H x W -> Y, N x C x H x W."""
        x = self.norm1(self.dconv1(x)).relu()  # eq 4: X'
        s1 = self.conv_mean(x.mean(dim=1, keepdim=True)).sigmoid()  # eq 5
        s2 = self.conv_max(x.amax(dim=1, keepdim=True)).sigmoid()  # eq 6
        y: Tensor = self.norm2(self.dconv2(torch.cat([x * s1, x * s2], dim=1))).relu()  # eq 7
        return y


class ClassificationBranch(nn.Module):
    """Channel attention on each scale, GAP, two fully connected layers."""

    def __init__(self, num_classes: int, multi_scale: bool, channel_attention: bool) -> None:
        """Which stages it reads and whether with attention."""
        super().__init__()
        self.multi_scale = multi_scale
        widths = (256, 512, 512) if multi_scale else (512,)
        self.ca = nn.ModuleList(ChannelAttention(w) if channel_attention else nn.Identity() for w in widths)
        hidden = 640 if multi_scale else 64
        self.fc1 = nn.Linear(sum(widths), hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, stage4: Tensor, stage5: Tensor, stage6: Tensor | None) -> Tensor:
        """Features of stages 4, 5 and 6 -> N x K logits; stages 4 and 6 are read with `multi_scale` only."""
        if self.multi_scale:
            ca4, ca5, ca6 = self.ca
            x = torch.cat([ca4(stage4), _up2(ca5(stage5)), ca6(stage6)], dim=1)
        else:
            x = self.ca[0](stage5)
        logits: Tensor = self.fc2(self.fc1(x.mean(dim=(2, 3))).relu())
        return logits


class ChannelAttention(nn.Module):
    """Channel attention (CA): ReLU(x * sigmoid(FC(ReLU(FC([GAP(x); GMP(x)])))))."""

    def __init__(self, channels: int) -> None:
        """Channels in and out; a 16th of them within."""
        super().__init__()
        self.fc1 = nn.Linear(2 * channels, channels // 16)
        self.fc2 = nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        w: Tensor = self.fc2(self.fc1(pooled).relu()).sigmoid()
        return (x * w[:, :, None, None]).relu()


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return conv_gn_relu(in_channels, out_channels, 3, groups=out_channels // 32, bias=True)


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.ReLU(inplace=True))


def _up2(x: Tensor) -> Tensor:
    return upsample2(x, align_corners=True)
