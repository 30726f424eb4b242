"""Small blocks that several networks share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.registry import CLASSES, ModelError


def upsample2(x: Tensor, *, align_corners: bool = False) -> Tensor:
    """Double height and width, bilinear: N x C x H x W -> N x C x 2H x 2W."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)


def full_precision(x: Tensor) -> Tensor:
    """Widen half precision to FP32; FP32 and wider stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def class_names(num_classes: int) -> tuple[str, ...]:
    """Name K classes: benign, malignant, normal, then class 3 and on.

    :raises ModelError: if there would be fewer than two.
    """
    if num_classes < 2:
        raise ModelError(
            f"num_classes must be 2 (benign, malignant) or more (3: and normal), not {num_classes}"
        )
    return CLASSES[:num_classes] + tuple(f"class {k}" for k in range(len(CLASSES), num_classes))


def one_of(option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that an option does not have.

    :raises ModelError: if it is not among `allowed`.
    """
    if value not in allowed:
        raise ModelError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def conv_gn_relu(
    in_channels: int, out_channels: int, kernel: int, *, groups: int, bias: bool
) -> nn.Sequential:
    """Convolution, GroupNorm, ReLU; the size is kept."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias),
        nn.GroupNorm(groups, out_channels),
        nn.ReLU(inplace=True),
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; the size is kept."""
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
