"""RMTL-Net and MTL-COSA against their equations, written out literally in float64."""

import pytest
import torch
from torch import Tensor

from models.networks.baselines import ContextOrientedSelfAttention, mask_regions
from models.networks.registry import build
from models.networks.rmtl_net import Deconv, RegionalAttention

N, C = 2, 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def p() -> Tensor:
    """Sharp probabilities, so that most cells have a majority and every region has cells."""
    return (6 * draw(N, 3, 128, 96, seed=1)).softmax(dim=1)


@pytest.fixture
def c5() -> Tensor:
    return draw(N, C, 4, 3)


def pooled(c5: Tensor, p: Tensor, n: int, x: int) -> Tensor:
    """Steps 2 to 5 for one region: resize, threshold (eq 1), multiply (eq 2), pool (eq 3)."""
    g = torch.zeros(C, dtype=torch.float64)
    for row in range(4):
        for column in range(3):
            p1 = float(
                torch.nn.functional.interpolate(p[n : n + 1, x : x + 1], (4, 3), mode="nearest")[
                    0, 0, row, column
                ]
            )
            p2 = p1 if p1 > 0.5 else 0.0
            g += c5[n, :, row, column] * p2
    return g / 12


def test_every_region_has_cells_in_this_test(p: Tensor) -> None:
    assert ((p[:, :, ::32, ::32] > 0.5).sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("regions", ["T", "P", "B"])
def test_one_region_is_pooled_without_weights(c5: Tensor, p: Tensor, regions: str) -> None:
    ra = RegionalAttention([regions]).double()  # type: ignore[list-item]

    f_w, _ = ra(c5, p)

    assert list(ra.parameters()) == []
    for n in range(N):
        torch.testing.assert_close(f_w[n], pooled(c5, p, n, "TPB".index(regions)))


@pytest.mark.parametrize("regions", ["TP", "PB", "TB", "TPB"])
def test_regions_are_pooled_and_weighed(c5: Tensor, p: Tensor, regions: str) -> None:
    ra = RegionalAttention(list(regions)).double().eval()  # type: ignore[arg-type]
    assert ra.fuse is not None
    torch.nn.init.constant_(ra.fuse.bn.running_mean, 0.1)
    torch.nn.init.constant_(ra.fuse.bn.running_var, 2.0)

    f_w, kept = ra(c5, p)

    w, bias = ra.fuse.conv.weight.flatten(), ra.fuse.conv.bias
    for n in range(N):
        g = [pooled(c5, p, n, "TPB".index(region)) for region in regions]
        weighed = sum((w_x * g_x for w_x, g_x in zip(w, g, strict=True)), torch.zeros(C)) + bias
        torch.testing.assert_close(f_w[n], (weighed - 0.1) / (2.0 + 1e-5) ** 0.5)
    coarse = p[:, ["TPB".index(region) for region in regions]][:, :, ::32, ::32]
    torch.testing.assert_close(kept, torch.where(coarse > 0.5, coarse, 0.0))


def test_cells_without_a_majority_vanish(c5: Tensor) -> None:
    undecided = torch.full((N, 3, 128, 96), 1 / 3, dtype=torch.float64)

    _, kept = RegionalAttention(["T", "P", "B"]).double()(c5, undecided)

    assert kept.abs().max() == 0


def test_a_probability_of_exactly_one_half_does_not_pass(c5: Tensor) -> None:
    half = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).view(1, 3, 1, 1).expand(N, 3, 128, 96)

    _, kept = RegionalAttention(["T", "P", "B"]).double()(c5, half)

    assert kept.abs().max() == 0


@pytest.mark.parametrize("detach", [False, True])
def test_the_class_loss_trains_the_decoder_unless_regions_are_detached(detach: bool) -> None:
    torch.manual_seed(0)
    network = build("rmtl_net", size=32, detach_regions=detach).eval()
    torch.nn.init.constant_(network.decoder.conv2.bias, 0.0)
    with torch.no_grad():
        network.decoder.conv2.bias[0] = 2.0

    class_logits = network(torch.rand(2, 1, 32, 32)).class_logits
    class_logits.sum().backward()

    gradient = network.decoder.conv2.weight.grad
    assert (gradient is None) if detach else (gradient is not None and gradient.abs().max() > 0)


def test_deconv_concatenates_what_comes_up_with_the_skip() -> None:
    deconv = Deconv(8, 4, 6).double().eval()
    below, skip = draw(N, 8, 2, 3), draw(N, 6, 4, 6, seed=1)

    torch.testing.assert_close(deconv(below, skip), deconv.convs(torch.cat([deconv.up(below), skip], dim=1)))


def test_cosas_regions_are_the_mask_its_contour_and_the_rest() -> None:
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    mask[..., 10:30, 12:28] = True

    tumour, peritumoral, background = mask_regions(mask)[0].bool()

    def rectangle(top: int, bottom: int, left: int, right: int) -> Tensor:
        inside = torch.zeros(40, 40, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        return inside

    # The contour, the mask's outermost pixel, widened by two to either side.
    assert torch.equal(tumour, rectangle(13, 27, 15, 25))
    assert torch.equal(peritumoral, rectangle(8, 32, 10, 30) & ~rectangle(13, 27, 15, 25))
    assert torch.equal(background, ~rectangle(8, 32, 10, 30))


def test_cosa_attends_within_each_region_and_weighs_them() -> None:
    cosa = ContextOrientedSelfAttention(16).double().eval()
    c5 = draw(1, 16, 2, 2)
    lesion = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    lesion[..., :40, :20] = 1.0

    f_w, regions = cosa(c5, torch.cat([lesion, 1 - lesion], dim=1))

    cells = mask_regions(lesion > 0.5)[:, :, ::32, ::32].double()
    g = [a(c5 * cells[:, k : k + 1]).mean(dim=(2, 3)) for k, a in enumerate(cosa.attention)]
    w, bias = cosa.fuse.conv.weight.flatten(), cosa.fuse.conv.bias
    expected = (w[0] * g[0] + w[1] * g[1] + w[2] * g[2] + bias) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(regions, cells)
    torch.testing.assert_close(f_w, expected)
