"""MTL-OCA: a Res-UNet whose mask is refined by object contextual attention.

Lu, Sun, Wang, Yu. "Automatic joint segmentation and classification of breast ultrasound images via multi-task
learning with object contextual attention". Front. Oncol. 2025. The published text has lost its equations and
prints no widths: equations follow its prose and the object-contextual representations it builds on (Yuan,
Chen, Wang, ECCV 2020); widths, group counts, the class head's pooling and sigma are ours.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import Network, Output, gray
from models.networks.blocks import class_names, conv_gn_relu, full_precision, one_of, upsample2
from models.networks.registry import ModelError


class MTLOCA(Network):
    """MTL-OCA (Fig. 1).

    The three configurations of its ablation (Table 6): `oca=False`; `cls_source="augmented"`; the default.

    Output: `lesion_logits` N x 2 x H x W (background, lesion), `lesion` is their softmax, `class_logits`
    N x K; auxiliary `coarse_logits` N x 2 x H x W, absent without `oca`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 3,
        in_channels: int = 1,
        size: int | tuple[int, int] = 128,
        widths: tuple[int, int, int] = (64, 128, 256),
        bridge: int = 512,
        key_channels: int = 64,
        oca: bool = True,
        cls_source: Literal["backbone", "augmented"] = "backbone",
        cls_pool: Literal["gap", "gap+gmp"] | int = "gap",
        edge_channel: bool = True,
        edge_norm: Literal["max", "fixed"] = "max",
        sigma: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: always 1: the network reads gray (and makes its own second channel).
        :param size: side of the frame or (height, width), multiples of 8.
        :param widths: channels of the three levels; `(32, 64, 128)` is the slim variant.
        :param bridge: channels below the third level.
        :param key_channels: channels of the keys and of the augmented representation.
        :param oca: refine the mask by object contextual attention.
        :param cls_source: what the class head reads: backbone features X or augmented features Z.
        :param cls_pool: average, average and maximum, or an average over n x n cells.
        :param edge_channel: append the Gaussian-derivative magnitude to the gray channel.
        :param edge_norm: "max" divides the magnitude by its maximum over the frame; "fixed" by that of an
            ideal edge from black to white, which does not flicker with a bright spot.
        :param sigma: of the Gaussian, in pixels.
        :param dropout: on the augmented features.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=8,
            classes=class_names(num_classes),
            regions=("background", "lesion"),
            in_channels=in_channels,
            mean=(0.5,),
            std=(0.5,),
        )
        if in_channels != 1:
            raise ModelError("mtl_oca reads gray (colour frames are reduced to it): in_channels must be 1")
        one_of("cls_source", cls_source, ("backbone", "augmented"))
        if cls_source == "augmented" and not oca:
            raise ModelError(
                "cls_source='augmented' needs oca=True: without it there are no augmented features"
            )
        self.cls_source = cls_source
        channels = widths[0]
        self.edge = GaussianDerivative(sigma, edge_norm) if edge_channel else None
        self.backbone = ResUNet(2 if edge_channel else 1, widths, bridge)
        self.coarse = nn.Conv2d(channels, 2, 1)
        self.oca = ObjectContextualAttention(channels, key_channels, dropout) if oca else None
        self.segment = nn.Conv2d(key_channels, 2, 1) if oca else None
        self.classify = ClassHead(
            key_channels if cls_source == "augmented" else channels, num_classes, cls_pool
        )
        self.apply(_initialise)

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        x = self.backbone(self.prepare(frames))
        d = self.coarse(x)
        if self.oca is None or self.segment is None:
            logits, auxiliary, features = d, {}, x
        else:
            z = self.oca(x, d)
            logits, auxiliary = self.segment(z), {"coarse_logits": d}
            features = z if self.cls_source == "augmented" else x
        return Output(logits, full_precision(logits).softmax(dim=1)[:, 1], self.classify(features), auxiliary)

    def prepare(self, frames: Tensor) -> Tensor:
        """Make the network's input: gray and, with `edge_channel`, its derivative magnitude, both in [-1, 1].

        :return: N x 2 x H x W (N x 1 x H x W without `edge_channel`).
        """
        image = gray(self.check(frames))
        if self.edge is not None:
            image = torch.cat([image, self.edge(image)], dim=1)
        return ((image - self.mean.to(image.dtype)) / self.std.to(image.dtype)).to(self.dtype)


class GaussianDerivative(nn.Module):
    """Magnitude of the Gaussian derivative of an image (eqs 6 to 9)."""

    kernels: Tensor

    def __init__(self, sigma: float, norm: Literal["max", "fixed"]) -> None:
        """Sample dG/dx = -x/s^2 G and dG/dy = -y/s^2 G (eqs 6 to 8) to 3 s on either side.

        :raises ModelError: if sigma is not positive or the norm unknown.
        """
        super().__init__()
        if sigma <= 0:
            raise ModelError(f"sigma must be positive (pixels), not {sigma}")
        one_of("edge_norm", norm, ("max", "fixed"))
        self.norm = norm
        self.radius = math.ceil(3 * sigma)
        # The derivative of a unit step edge peaks at 1 / (sqrt(2 pi) s).
        self.gain = math.sqrt(2 * math.pi) * sigma
        steps = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        gaussian = torch.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
        kernels = torch.stack([-x / sigma**2 * gaussian, -y / sigma**2 * gaussian])
        self.register_buffer("kernels", kernels.float().unsqueeze(1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return M = sqrt((dG/dx * f)^2 + (dG/dy * f)^2) (eq 9), scaled to [0, 1].

        :param image: N x 1 x H x W in [0, 1], float32 or wider.
        :return: N x 1 x H x W.
        """
        padded = F.pad(image, (self.radius,) * 4, mode="reflect")
        gradient = F.conv2d(padded, self.kernels.to(image.dtype))
        magnitude = (gradient.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        if self.norm == "fixed":
            return magnitude * self.gain
        return magnitude / (magnitude.amax(dim=(2, 3), keepdim=True) + 1e-6)


class ResidualBlock(nn.Module):
    """conv3x3, GN, ReLU, conv3x3, GN; plus the input, by a 1x1 convolution where channels differ; ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Channels in and out; the size is kept."""
        super().__init__()
        groups = _groups(out_channels)
        self.conv1 = conv_gn_relu(in_channels, out_channels, 3, groups=groups, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        changes = in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H x W."""
        return F.relu(self.norm2(self.conv2(self.conv1(x))) + self.shortcut(x))


class ResUNet(nn.Module):
    """The backbone (Fig. 2): a three-level U-Net of residual blocks."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int], bridge: int) -> None:
        """Channels of the image, of the three levels from the finest, and below them."""
        super().__init__()
        if len(widths) != 3 or any(width < 4 or width % 4 for width in (*widths, bridge)):
            raise ModelError(f"widths must be three multiples of 4 and bridge one, not {widths} and {bridge}")
        self.enc1 = ResidualBlock(in_channels, widths[0])
        self.enc2 = ResidualBlock(widths[0], widths[1])
        self.enc3 = ResidualBlock(widths[1], widths[2])
        self.bridge = ResidualBlock(widths[2], bridge)
        self.dec3 = ResidualBlock(bridge + widths[2], widths[2])
        self.dec2 = ResidualBlock(widths[2] + widths[1], widths[1])
        self.dec1 = ResidualBlock(widths[1] + widths[0], widths[0])

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> X: N x widths[0] x H x W."""
        enc1 = self.enc1(x)
        enc2 = self.enc2(F.max_pool2d(enc1, 2))
        enc3 = self.enc3(F.max_pool2d(enc2, 2))
        bridge = self.bridge(F.max_pool2d(enc3, 2))
        dec3 = self.dec3(torch.cat([upsample2(bridge), enc3], dim=1))
        dec2 = self.dec2(torch.cat([upsample2(dec3), enc2], dim=1))
        x_features: Tensor = self.dec1(torch.cat([upsample2(dec2), enc1], dim=1))
        return x_features


class ObjectContextualAttention(nn.Module):
    """Object contextual attention over K = 2 regions, background and lesion (eqs 1 to 3)."""

    def __init__(self, channels: int, key_channels: int, dropout: float) -> None:
        """Channels of X, of the keys and of Z."""
        super().__init__()

        def transform(inputs: int, outputs: int) -> nn.Sequential:
            return conv_gn_relu(inputs, outputs, 1, groups=_groups(outputs), bias=False)

        self.key_channels = key_channels
        self.phi = nn.Sequential(transform(channels, key_channels), transform(key_channels, key_channels))
        self.psi = nn.Sequential(transform(channels, key_channels), transform(key_channels, key_channels))
        self.delta = transform(channels, key_channels)
        self.rho = transform(key_channels, channels)
        self.g = nn.Sequential(transform(2 * channels, key_channels), nn.Dropout2d(dropout))

    def forward(self, x: Tensor, d: Tensor) -> Tensor:
        """Augment pixels with the context of their region.

        :param x: pixel representations X, N x C x H x W.
        :param d: soft object regions D (logits), N x K x H x W.
        :return: Z = g([X; Y]), N x `key_channels` x H x W.
        """
        f = self.regions(x, d)
        w = self.relation(x, f)
        z: Tensor = self.g(torch.cat([x, self.context(w, f, x)], dim=1))
        return z

    def regions(self, x: Tensor, d: Tensor) -> Tensor:
        """f_k = sum_i dtilde_ki x_i, dtilde_k = softmax of D_k over the pixels (eq 1): N x C x K x 1."""
        # In FP32: the mean weight at 128 x 128 is 1/16,384, the smallest normal half.
        dtilde = full_precision(d).flatten(2).softmax(dim=2)
        f = dtilde @ full_precision(x).flatten(2).transpose(1, 2)
        return f.to(x.dtype).transpose(1, 2).unsqueeze(3)

    def relation(self, x: Tensor, f: Tensor) -> Tensor:
        """w_ik = softmax over k of phi(x_i)^T psi(f_k) / sqrt(C_key) (eq 2): N x HW x K."""
        phi = self.phi(x).flatten(2).transpose(1, 2)
        psi = self.psi(f).flatten(2)
        kappa: Tensor = phi @ psi / math.sqrt(self.key_channels)
        return kappa.softmax(dim=2)

    def context(self, w: Tensor, f: Tensor, x: Tensor) -> Tensor:
        """y_i = rho(sum_k w_ik delta(f_k)) (eq 3): N x C x H x W."""
        delta = self.delta(f).flatten(2).transpose(1, 2)
        y: Tensor = self.rho((w @ delta).transpose(1, 2).reshape(-1, self.key_channels, *x.shape[2:]))
        return y


class ClassHead(nn.Module):
    """Pooling and a perceptron of two layers."""

    def __init__(self, channels: int, num_classes: int, pool: Literal["gap", "gap+gmp"] | int) -> None:
        """Channels of the features and how they are pooled."""
        super().__init__()
        if not (pool in ("gap", "gap+gmp") or (isinstance(pool, int) and pool >= 1)):
            raise ModelError(f"cls_pool must be 'gap', 'gap+gmp' or a number of cells per side, not {pool!r}")
        self.pool = pool
        cells = pool**2 if isinstance(pool, int) else {"gap": 1, "gap+gmp": 2}[pool]
        self.fc1 = nn.Linear(channels * cells, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x K logits."""
        if isinstance(self.pool, int):
            pooled = F.adaptive_avg_pool2d(x, self.pool).flatten(1)
        elif self.pool == "gap":
            pooled = x.mean(dim=(2, 3))
        else:
            pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.fc2(F.relu(self.fc1(pooled)))
        return logits


def _groups(channels: int) -> int:
    return min(32, channels // 4)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
