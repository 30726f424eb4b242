"""LA-Net against its equations, written out literally in float64."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.networks.la_net import CAM, SAM
from tests.models.networks.configurations import awake, frames

N, C, HEIGHT, WIDTH = 2, 32, 4, 5


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_cam_weighs_channels_by_a_shared_perceptron_of_mean_and_maximum() -> None:
    cam = CAM(C).double()
    x = draw(N, C, HEIGHT, WIDTH)
    first, _, second = cam.mlp

    def mlp(pooled: Tensor) -> Tensor:
        hidden = torch.tensor([max(0.0, float(v)) for v in first.weight @ pooled + first.bias], dtype=x.dtype)
        return second.weight @ hidden + second.bias

    out = cam(x)

    for n in range(N):
        mean = torch.stack([x[n, c].sum() / (HEIGHT * WIDTH) for c in range(C)])
        maximum = torch.stack([x[n, c].max() for c in range(C)])
        w = mlp(mean) + mlp(maximum)
        for c in range(C):
            torch.testing.assert_close(out[n, c], x[n, c] * sigmoid(float(w[c])))


@pytest.mark.parametrize(("kernel", "convs"), [(3, 3), (7, 1)])
def test_sam_weighs_pixels_by_convolutions_of_maximum_and_mean(kernel: int, convs: int) -> None:
    sam = SAM(kernel, convs).double().eval()
    x = draw(N, C, HEIGHT, WIDTH)

    maps = torch.stack([torch.stack([x[n].max(dim=0).values, x[n].sum(dim=0) / C]) for n in range(N)])
    convolutions = [m for m in sam.convs if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == convs
    for step, convolution in enumerate(convolutions):
        weight = convolution.weight
        padded = torch.nn.functional.pad(maps, [kernel // 2] * 4)
        out = torch.zeros(N, weight.shape[0], HEIGHT, WIDTH, dtype=x.dtype)
        for row in range(HEIGHT):
            for column in range(WIDTH):
                window = padded[:, :, row : row + kernel, column : column + kernel]
                out[:, :, row, column] = torch.einsum("ncij,ocij->no", window, weight)
        # BatchNorm as it starts: mean 0, variance 1.
        maps = out / math.sqrt(1 + 1e-5)
        if step < convs - 1:
            maps = maps.clamp(min=0)

    torch.testing.assert_close(sam(x), x / (1 + (-maps).exp()))


@pytest.mark.parametrize("mam", [True, False])
def test_mam_adds_the_masked_features_to_what_the_classifier_reads(mam: bool) -> None:
    network = awake("la_net_r18", size=64, mam=mam).double().eval()
    given = frames(network, 2).double()

    output = network(given)

    f = network.fex(network.prepare(given))[1:]
    f_mask = network.la_net(list(f)).sigmoid()
    f_att = f[3] + f[3] * f_mask if mam else f[3]
    expected = torch.stack(
        [network.fc.weight @ f_att[n].flatten(1).mean(dim=1) + network.fc.bias for n in range(2)]
    )
    torch.testing.assert_close(output.class_logits, expected)
    torch.testing.assert_close(output.auxiliary["mask"], f_mask)


def test_the_mask_is_fused_from_four_squeezed_levels_of_the_coarsest_size() -> None:
    network = awake("la_net_r18", size=64).double().eval()
    f = [draw(1, c, s, s, seed=c) for c, s in ((64, 16), (128, 8), (256, 4), (512, 2))]
    la_net = network.la_net

    squeezed = []
    for level in range(4):
        s = la_net.squeeze[level](la_net.cbam[level](f[level]))[0, 0]
        # Bilinear to 2 x 2 with aligned corners reads the corners.
        squeezed.append(torch.stack([s[0, 0], s[0, -1], s[-1, 0], s[-1, -1]]).view(2, 2))

    torch.testing.assert_close(la_net(f), la_net.fuse(torch.stack(squeezed)[None]))


def test_the_lesion_map_is_the_mask_enlarged_with_aligned_corners() -> None:
    network = awake("la_net_r18", size=64).eval()

    output = network(frames(network, 2))

    mask, lesion = output.auxiliary["mask"][:, 0], output.lesion
    torch.testing.assert_close(lesion[:, [0, 0, -1, -1], [0, -1, 0, -1]], mask.flatten(1))
    torch.testing.assert_close(output.lesion_logits.sigmoid(), output.auxiliary["mask"])
    # One pixel along the first row is a 63rd of the way between the first two cells.
    torch.testing.assert_close(lesion[:, 0, 1], mask[:, 0, 0] * 62 / 63 + mask[:, 0, 1] / 63)
