"""ACSNet against its equations, written out literally in float64."""

import math
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from models.networks.acsnet import ChannelAttention, ClassificationBranch, DSAModule, GateUnit
from models.networks.deformable import DeformableConv2d, deform_conv2d
from tests.models.networks.configurations import awake, frames


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bilinear(image: Tensor, y: float, x: float) -> float:
    """Between pixels of H x W; zero outside."""
    total = 0.0
    for row, column in product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * float(image[row, column])
    return total


def test_deformable_convolution_is_its_definition() -> None:
    """Offsets reach well beyond the border and between pixels."""
    n, channels, out_channels, height, width = 2, 3, 2, 4, 5
    x, weight = draw(n, channels, height, width), draw(out_channels, channels, 3, 3, seed=1)
    offset, mask = 2 * draw(n, 18, height, width, seed=2), draw(n, 9, height, width, seed=3).sigmoid()

    expected = torch.zeros(n, out_channels, height, width, dtype=torch.float64)
    for b, row, column, tap in product(range(n), range(height), range(width), range(9)):
        y = row + tap // 3 - 1 + float(offset[b, 2 * tap, row, column])
        x_ = column + tap % 3 - 1 + float(offset[b, 2 * tap + 1, row, column])
        for c in range(channels):
            sample = float(mask[b, tap, row, column]) * bilinear(x[b, c], y, x_)
            expected[b, :, row, column] += weight[:, c, tap // 3, tap % 3] * sample

    torch.testing.assert_close(deform_conv2d(x, offset, mask, weight), expected, atol=1e-12, rtol=1e-12)


def test_deformable_convolution_starts_as_half_a_convolution() -> None:
    """Zero offsets leave the taps in place, and a mask of sigmoid(0) halves them."""
    conv = DeformableConv2d(4, 6).double()
    x = draw(2, 4, 7, 5)

    torch.testing.assert_close(conv(x), 0.5 * torch.nn.functional.conv2d(x, conv.weight, padding=1))


def test_gradients_of_deformable_convolution_are_right() -> None:
    given = [draw(1, 2, 3, 4), draw(1, 18, 3, 4, seed=1), draw(1, 9, 3, 4, seed=2), draw(2, 2, 3, 3, seed=3)]
    for tensor in given:
        tensor.requires_grad_()

    with torch.enable_grad():
        assert torch.autograd.gradcheck(deform_conv2d, given)


def test_the_gate_unit_scales_a_skip_by_one_number_per_image() -> None:
    gate = GateUnit(32).double()
    x = draw(2, 32, 5, 6)

    f = gate.squeeze(x)
    y = gate(x)

    for n in range(2):
        pixels = list(product(range(5), range(6)))
        g1 = sum(1 / (1 + math.exp(-float(f[n, 0, r, c]))) for r, c in pixels) / 30
        g2 = max(1 / (1 + math.exp(-float(f[n, 1, r, c]))) for r, c in pixels)
        torch.testing.assert_close(y[n : n + 1], gate.conv((g1 + g2) * x[n : n + 1]))


def test_the_dsa_module_attends_by_mean_and_maximum_between_two_deformable_convolutions() -> None:
    torch.manual_seed(0)
    dsa = DSAModule(8).double()
    for parameter in dsa.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = draw(2, 8, 4, 4)

    def sigmoid_conv(image: Tensor, conv: torch.nn.Conv2d) -> Tensor:
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        out = torch.zeros_like(image)
        for row, column in product(range(4), range(4)):
            window = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = (window * conv.weight[0, 0]).sum(dim=(1, 2)) + conv.bias
        return 1 / (1 + (-out).exp())

    x1 = dsa.norm1(dsa.dconv1(x)).clamp(min=0)
    s1 = sigmoid_conv(x1.sum(dim=1) / 8, dsa.conv_mean)
    s2 = sigmoid_conv(x1.max(dim=1).values, dsa.conv_max)
    both = torch.cat([x1 * s1[:, None], x1 * s2[:, None]], dim=1)

    torch.testing.assert_close(dsa(x), dsa.norm2(dsa.dconv2(both)).clamp(min=0))


def test_channel_attention_reads_mean_and_maximum_together() -> None:
    ca = ChannelAttention(16).double()
    x = draw(2, 16, 3, 3)

    out = ca(x)

    for n in range(2):
        pooled = torch.cat([x[n].flatten(1).mean(dim=1), x[n].flatten(1).max(dim=1).values])
        hidden = (ca.fc1.weight @ pooled + ca.fc1.bias).clamp(min=0)
        w = ca.fc2.weight @ hidden + ca.fc2.bias
        for c in range(16):
            expected = (x[n, c] / (1 + math.exp(-float(w[c])))).clamp(min=0)
            torch.testing.assert_close(out[n, c], expected)


@pytest.mark.parametrize("attention", [True, False])
def test_the_class_head_reads_three_scales(attention: bool) -> None:
    branch = ClassificationBranch(2, multi_scale=True, channel_attention=attention).double()
    stage4, stage5, stage6 = draw(2, 256, 4, 4), draw(2, 512, 2, 2, seed=1), draw(2, 512, 4, 4, seed=2)

    scales = [ca(stage) for ca, stage in zip(branch.ca, (stage4, stage5, stage6), strict=True)]
    # Stage 5 is enlarged first; from 2 x 2 to 4 x 4, that leaves its mean as it is.
    pooled = torch.cat([scale.mean(dim=(2, 3)) for scale in scales], dim=1)

    torch.testing.assert_close(branch(stage4, stage5, stage6), branch.fc2(branch.fc1(pooled).clamp(min=0)))


def test_the_class_head_without_scales_reads_stage_5() -> None:
    branch = ClassificationBranch(2, multi_scale=False, channel_attention=False).double()
    stage5 = draw(2, 512, 2, 2)

    expected = branch.fc2(branch.fc1(stage5.mean(dim=(2, 3))).clamp(min=0))
    torch.testing.assert_close(branch(draw(2, 256, 4, 4), stage5, None), expected)


def test_the_bottleneck_and_every_skip_pass_a_gate() -> None:
    network = awake("acsnet", size=64).eval()
    seen: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, GateUnit):
            module.register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape[1:])))

    network(frames(network, 1))

    assert sorted(seen) == [(64, 16, 16), (64, 32, 32), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
