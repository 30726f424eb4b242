"""LA-Net: a lesion mask from attended features of four levels multiplies what the classifier sees.

Fan, Gong, Tang, Lee, Zhang, Song, Chen, Li. "Joint localization and classification of breast masses on
ultrasound images using an auxiliary attention-based framework". Med. Image Anal. 90: 102960, 2023. Input
range and the shape of the spatial attention follow the runs its results come from; the paper's words are
options.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import Network, Output
from models.networks.blocks import class_names, full_precision, one_of
from models.networks.registry import ModelError
from models.networks.resnet import Depth, ResNet

_DEPTHS: dict[str, Depth] = {"resnet18": 18, "resnet50": 50}


class LANet(Network):
    """FEX + LA-Net + AC (Fig. 1). S is a 32nd of the side of the frame.

    Output: `lesion_logits` N x 1 x S x S, of f_mask before its sigmoid; `lesion` N x H x W, f_mask enlarged;
    `class_logits` N x K; auxiliary `mask`, f_mask itself, N x 1 x S x S in [0, 1].
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        backbone: Literal["resnet18", "resnet50"] = "resnet18",
        cam: bool = True,
        sam: bool = True,
        mam: bool = True,
        sam_kernel: int = 3,
        sam_convs: int = 3,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: channels the stem reads, 1 or 3.
        :param size: side of the frame or (height, width), multiples of 32; the paper has 256 and 512.
        :param backbone: the feature extractor, FEX.
        :param cam: channel attention in each CBAM.
        :param sam: spatial attention in each CBAM.
        :param mam: multiply the mask into the classifier's features (eq 4).
        :param sam_kernel: side of the spatial attention's kernels: 3, or 7 as in the paper's words.
        :param sam_convs: its convolutions: 3, or 1 as in the paper's words.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=32,
            classes=class_names(num_classes),
            regions=("lesion",),
            in_channels=in_channels,
            mean=(0.5,),
            std=(0.5,),
        )
        one_of("backbone", backbone, tuple(_DEPTHS))
        self.fex = ResNet(_DEPTHS[backbone], in_channels=in_channels)
        self.la_net = LesionAwareNetwork(self.fex.channels[1:], cam, sam, sam_kernel, sam_convs)
        self.mam = mam
        self.fc = nn.Linear(self.fex.channels[-1], num_classes)

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        f1, f2, f3, f4 = self.fex(self.prepare(frames))[1:]  # eq 1
        logits = self.la_net([f1, f2, f3, f4])
        f_mask = logits.sigmoid()  # eq 2
        f_att = f4 + f4 * f_mask if self.mam else f4  # eq 4
        class_logits = self.fc(f_att.mean(dim=(2, 3)))  # eq 5, before its softmax
        lesion = F.interpolate(full_precision(f_mask), self.size, mode="bilinear", align_corners=True)[:, 0]
        return Output(logits, lesion, class_logits, {"mask": f_mask})

    def pretrained(self) -> nn.Module:
        """The FEX."""
        return self.fex


class LesionAwareNetwork(nn.Module):
    """LA-Net (Fig. 2a): a CBAM per level, squeezed to one channel each, fused."""

    def __init__(
        self, channels: tuple[int, ...], cam: bool, sam: bool, sam_kernel: int, sam_convs: int
    ) -> None:
        """Channels of f_1 to f_4 and the parts of each CBAM."""
        super().__init__()
        self.cbam = nn.ModuleList(
            nn.Sequential(
                CAM(width) if cam else nn.Identity(),
                SAM(sam_kernel, sam_convs) if sam else nn.Identity(),
            )
            for width in channels
        )
        self.squeeze = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in channels)
        self.fuse = nn.Sequential(nn.Conv2d(len(channels), 1, 3, padding=1), nn.BatchNorm2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, features: list[Tensor]) -> Tensor:
        """f_1 to f_4, the last N x C x S x S -> N x 1 x S x S logits of f_mask."""
        size = features[-1].shape[2:]
        squeezed = [
            F.interpolate(squeeze(cbam(f)), size, mode="bilinear", align_corners=True)
            for f, cbam, squeeze in zip(features, self.cbam, self.squeeze, strict=True)
        ]
        logits: Tensor = self.fuse(torch.cat(squeezed, dim=1))
        return logits


class CAM(nn.Module):
    """Channel attention module (Fig. 2c): x * sigmoid(MLP(GAP(x)) + MLP(GMP(x))), one MLP for both."""

    def __init__(self, channels: int) -> None:
        """Channels in and out; a 16th of them within."""
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // 16), nn.ReLU(inplace=True), nn.Linear(channels // 16, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        w: Tensor = (self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))).sigmoid()
        return x * w[:, :, None, None]


class SAM(nn.Module):
    """Spatial attention module (Fig. 2d): x * sigmoid(convs([max over channels; mean over channels]))."""

    def __init__(self, kernel: int, convs: int) -> None:
        """Side of the kernels and number of convolutions; 8 channels between them.

        :raises ModelError: if the kernel is even or there is no convolution.
        """
        super().__init__()
        if kernel % 2 == 0 or convs < 1:
            raise ModelError(f"sam_kernel must be odd and sam_convs at least 1, not {kernel} and {convs}")
        widths = (2, *[8] * (convs - 1), 1)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False))
            layers.extend([nn.BatchNorm2d(outputs, momentum=0.01), nn.ReLU(inplace=True)])
        self.convs = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        m: Tensor = self.convs(pooled).sigmoid()
        return x * m
