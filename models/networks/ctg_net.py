"""CTG-Net: segmentation and classification that guide each other.

Yang, Suzuki, Ye, Nosato, Izumori, Sakanashi. "CTG-Net: Cross-task guided network for breast ultrasound
diagnosis". PLoS ONE 17(8): e0271106, 2022. The paper states neither input size, widths, D, the shape of the
class vectors nor how data without gland masks were trained: those are ours.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.attention import PositionAttention
from models.networks.base import IMAGENET_MEAN, IMAGENET_STD, Network, Output
from models.networks.blocks import class_names, conv_bn_relu, full_precision, one_of, upsample2
from models.networks.registry import ModelError
from models.networks.vgg import VGG16

Gland = Literal["supervised", "pseudo", "absent", "prior"]


class CTGNet(Network):
    """CTG-Net (Fig. 2).

    Output: `lesion_logits` N x 2 x H x W (background, lesion), the fine mask; `lesion` is their softmax;
    `class_logits` N x K; auxiliary `coarse_logits` N x 3 x H x W (background, gland, lesion), or
    N x 2 x H x W (rest, lesion) where `gland` is "absent" or "prior".
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        channels: int = 256,
        gland: Gland = "supervised",
        lam_identity: bool = True,
        lam_gland: bool = True,
        lam_lesion: bool = True,
        csm: bool = True,
        akgm: bool = True,
        vgg_bn: bool = False,
    ) -> None:
        """Build the network.

        :param num_classes: C; benign, malignant, normal.
        :param in_channels: channels the stem reads, 1 or 3.
        :param size: side of the frame or (height, width), multiples of 16.
        :param channels: D, of F', and D1, of the class vectors.
        :param gland: where the gland mask M_m comes from. "supervised" (masks of the data) and "pseudo"
            (masks of a teacher) build the same graph; "absent": there is none, so F_ma is left out and
            M_m = 1 in eq 6; "prior": a fixed soft band over depth, for ablation only.
        :param lam_identity: F' in eq 1.
        :param lam_gland: F_ma in eq 1; always off where `gland` is "absent".
        :param lam_lesion: F_la in eq 1.
        :param csm: the category selection module (eq 5).
        :param akgm: the anatomical knowledge guidance module (eqs 6 and 7); off, F' takes its place.
        :param vgg_bn: VGG-16 with BatchNorm.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=16,
            classes=class_names(num_classes),
            regions=("background", "lesion"),
            in_channels=in_channels,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        one_of("gland", gland, ("supervised", "pseudo", "absent", "prior"))
        self.gland = gland
        self.lam = LAM(identity=lam_identity, gland=lam_gland and gland != "absent", lesion=lam_lesion)
        self.backbone = VGG16(in_channels=in_channels, bn=vgg_bn)
        self.aspp = ASPP(512, channels)
        self.coarse = UpsamplingUnit(channels, 3 if gland in ("supervised", "pseudo") else 2)
        self.classify = ClassVectors(channels, num_classes)
        self.csm = CSM(channels) if csm else None
        self.akgm = AKGM(channels) if akgm else None
        self.fine = UpsamplingUnit(channels + (num_classes if csm else 0), 2)

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1] (Algorithm 1)."""
        f = self.aspp(self.backbone(self.prepare(frames)))
        m = self.coarse(f)
        m_m, m_l = self.guidance(m, f)
        g_global = self.classify(self.lam(f, m_m, m_l).mean(dim=(2, 3)))
        h = self.classify.scores(g_global)
        f_akgm = f if self.akgm is None else self.akgm(f, m_m)
        f_fine = f_akgm
        if self.csm is not None:
            f_csm = self.csm(f, g_global, h.softmax(dim=1))
            f_fine = torch.cat([f_csm, f_akgm], dim=1)  # eq 4
        fine = self.fine(f_fine)
        return Output(fine, full_precision(fine).softmax(dim=1)[:, 1], h, {"coarse_logits": m})

    def guidance(self, m: Tensor, f: Tensor) -> tuple[Tensor | None, Tensor]:
        """Bring the coarse masks to the size of F'.

        :param m: coarse logits M, N x 3 or 2 x H x W.
        :param f: F', N x D x H/16 x W/16.
        :return: M_m (None where there is no gland mask) and M_l, each N x 1 x H/16 x W/16.
        """
        masks = F.avg_pool2d(full_precision(m).softmax(dim=1), 16).to(f.dtype)
        m_l = masks[:, -1:]
        if self.gland == "absent":
            return None, m_l
        if self.gland == "prior":
            depth = (torch.arange(f.shape[2], device=f.device, dtype=f.dtype) + 0.5) / f.shape[2]
            # Below skin and fat, above the chest wall.
            band = torch.exp(-((depth - 0.4) ** 2) / (2 * 0.2**2))
            return band.view(1, 1, -1, 1).expand_as(m_l), m_l
        return masks[:, 1:2], m_l

    def pretrained(self) -> nn.Module:
        """The VGG-16."""
        return self.backbone


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLabv3+: rates 6, 12, 18 and the whole image."""

    def __init__(self, in_channels: int, channels: int) -> None:
        """Channels in and out."""
        super().__init__()
        self.point = conv_bn_relu(in_channels, channels, 1)
        self.atrous = nn.ModuleList(
            conv_bn_relu(in_channels, channels, 3, dilation=rate) for rate in (6, 12, 18)
        )
        self.pool = conv_bn_relu(in_channels, channels, 1)
        self.project = conv_bn_relu(5 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """F: N x 512 x h x w -> F': N x D x h x w."""
        pooled = self.pool(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        f: Tensor = self.project(
            torch.cat([self.point(x), *(conv(x) for conv in self.atrous), pooled], dim=1)
        )
        return f


class UpsamplingUnit(nn.Module):
    """Four times: double the size, two 3x3 convolutions; then a 1x1 convolution to the masks."""

    def __init__(self, in_channels: int, masks: int) -> None:
        """Channels in and masks out."""
        super().__init__()
        widths = (256, 128, 64, 32)
        self.steps = nn.ModuleList(
            nn.Sequential(conv_bn_relu(inputs, width, 3), conv_bn_relu(width, width, 3))
            for inputs, width in zip((in_channels, *widths[:-1]), widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], masks, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x h x w -> N x masks x 16h x 16w logits."""
        for step in self.steps:
            x = step(upsample2(x))
        logits: Tensor = self.head(x)
        return logits


class LAM(nn.Module):
    """Lesion attention module: F_LAM = F' + F_ma + F_la (eq 1), or any of the three (Table 7)."""

    def __init__(self, *, identity: bool, gland: bool, lesion: bool) -> None:
        """Which of F', F_ma and F_la are summed.

        :raises ModelError: if none is.
        """
        super().__init__()
        if not (identity or gland or lesion):
            raise ModelError(
                "nothing is left for the classifier: one of lam_identity, lam_lesion and lam_gland (not with "
                "gland='absent') must be True"
            )
        self.identity, self.gland, self.lesion = identity, gland, lesion

    def forward(self, f: Tensor, m_m: Tensor | None, m_l: Tensor) -> Tensor:
        """F' N x D x h x w and M_m, M_l N x 1 x h x w -> F_LAM N x D x h x w."""
        terms = [f] if self.identity else []
        if self.gland and m_m is not None:
            terms.append(f * m_m)  # eq 2
        if self.lesion:
            terms.append(f * m_l)  # eq 3
        return torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]


class ClassVectors(nn.Module):
    """One vector per class, G_global = {g_c}, and one score per vector, h_c = w_c . g_c + b_c."""

    def __init__(self, channels: int, num_classes: int) -> None:
        """D = D1 and C."""
        super().__init__()
        self.num_classes = num_classes
        self.channels = channels
        self.vectors = nn.Linear(channels, num_classes * channels)
        self.weight = nn.Parameter(torch.empty(num_classes, channels).uniform_(-1, 1) / channels**0.5)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, pooled: Tensor) -> Tensor:
        """GAP(F_LAM), N x D -> G_global, N x D1 x C."""
        vectors: Tensor = self.vectors(pooled)
        return vectors.view(-1, self.num_classes, self.channels).transpose(1, 2)

    def scores(self, g_global: Tensor) -> Tensor:
        """N x D1 x C -> class logits h, N x C."""
        return (g_global * self.weight.T).sum(dim=1) + self.bias


class CSM(nn.Module):
    """Category selection module: F_CSM = [Conv(G_global) * H_score^T] Conv(F') (eq 5)."""

    def __init__(self, channels: int) -> None:
        """D = D1."""
        super().__init__()
        self.conv_g = nn.Conv1d(channels, channels, 1)
        self.conv_f = nn.Conv2d(channels, channels, 1)

    def forward(self, f: Tensor, g_global: Tensor, h_score: Tensor) -> Tensor:
        """Make one score-weighted map per class.

        :param f: F', N x D x h x w.
        :param g_global: N x D1 x C.
        :param h_score: N x C, softmax of the class logits.
        :return: N x C x h x w.
        """
        weighted: Tensor = self.conv_g(g_global) * h_score.unsqueeze(1)
        f_csm: Tensor = weighted.transpose(1, 2) @ self.conv_f(f).flatten(2)
        return f_csm.view(-1, f_csm.shape[1], *f.shape[2:])


class AKGM(nn.Module):
    """Anatomical knowledge guidance module: F_AKGM = a (V S^T) + F' (eq 7), S as in eq 6."""

    def __init__(self, channels: int) -> None:
        """D; queries and keys have an eighth of it."""
        super().__init__()
        self.attention = PositionAttention(channels, channels // 8)
        self.a = nn.Parameter(torch.zeros(1))

    def forward(self, f: Tensor, m_m: Tensor | None) -> Tensor:
        """F' N x D x h x w and M_m N x 1 x h x w (None: ones) -> N x D x h x w."""
        f_akgm: Tensor = self.a * self.attention(f, m_m) + f
        return f_akgm
