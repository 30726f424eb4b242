"""MTL-OCA against its equations, written out literally in float64."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.networks.mtl_oca import ClassHead, GaussianDerivative, ObjectContextualAttention
from models.networks.registry import build
from tests.models.networks.configurations import frames

N, C, KEY, HEIGHT, WIDTH = 2, 8, 16, 5, 6


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def oca() -> ObjectContextualAttention:
    torch.manual_seed(0)
    return ObjectContextualAttention(C, KEY, dropout=0.1).double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, C, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def d() -> Tensor:
    return torch.randn(N, 2, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def pixels(x: Tensor, n: int) -> list[Tensor]:
    return [x[n, :, row, column] for row in range(x.shape[2]) for column in range(x.shape[3])]


def region(x: Tensor, d: Tensor, n: int, k: int) -> Tensor:
    """Eq 1."""
    degrees = [math.exp(float(v)) for v in d[n, k].flatten()]
    return sum((w / sum(degrees) * x_i for w, x_i in zip(degrees, pixels(x, n), strict=True)), torch.zeros(C))


def test_regions_are_means_of_pixels_weighted_by_their_degree(
    oca: ObjectContextualAttention, x: Tensor, d: Tensor
) -> None:
    f = oca.regions(x, d)

    assert f.shape == (N, C, 2, 1)
    for n in range(N):
        for k in range(2):
            torch.testing.assert_close(f[n, :, k, 0], region(x, d, n, k))


def test_relations_are_a_softmax_over_regions_of_scaled_products(
    oca: ObjectContextualAttention, x: Tensor, d: Tensor
) -> None:
    f = oca.regions(x, d)
    phi, psi = oca.phi(x), oca.psi(f)

    w = oca.relation(x, f)

    for n in range(N):
        for i, phi_i in enumerate(pixels(phi, n)):
            kappa = [float(phi_i @ psi[n, :, k, 0]) / math.sqrt(KEY) for k in range(2)]
            for k in range(2):
                expected = math.exp(kappa[k]) / sum(math.exp(v) for v in kappa)
                assert float(w[n, i, k]) == pytest.approx(expected)


def test_context_is_the_related_regions_transformed(
    oca: ObjectContextualAttention, x: Tensor, d: Tensor
) -> None:
    f = oca.regions(x, d)
    w = oca.relation(x, f)
    delta = oca.delta(f)

    mixed = torch.zeros(N, KEY, HEIGHT, WIDTH, dtype=torch.float64)
    for n in range(N):
        for i in range(HEIGHT * WIDTH):
            mixed[n, :, i // WIDTH, i % WIDTH] = sum(w[n, i, k] * delta[n, :, k, 0] for k in range(2))

    y = oca.context(w, f, x)
    torch.testing.assert_close(y, oca.rho(mixed))
    torch.testing.assert_close(oca(x, d), oca.g(torch.cat([x, y], dim=1)))


def test_transforms_have_the_layers_of_object_contextual_representations(
    oca: ObjectContextualAttention,
) -> None:
    def convolutions(module: nn.Module) -> list[tuple[int, int, tuple[int, ...]]]:
        return [
            (m.in_channels, m.out_channels, m.kernel_size)
            for m in module.modules()
            if isinstance(m, nn.Conv2d)
        ]

    assert convolutions(oca.phi) == convolutions(oca.psi) == [(C, KEY, (1, 1)), (KEY, KEY, (1, 1))]
    assert convolutions(oca.delta) == [(C, KEY, (1, 1))]
    assert convolutions(oca.rho) == [(KEY, C, (1, 1))]
    assert convolutions(oca.g) == [(2 * C, KEY, (1, 1))]


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_the_edge_channel_is_the_magnitude_of_the_gaussian_derivative(sigma: float) -> None:
    image = torch.rand(16, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    radius = math.ceil(3 * sigma)

    def reflect(i: int, size: int) -> int:
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i

    def gaussian(x: float, y: float) -> float:
        return math.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)

    expected = torch.zeros_like(image)
    for row in range(16):
        for column in range(17):
            dx = dy = 0.0
            for y in range(-radius, radius + 1):
                for x in range(-radius, radius + 1):
                    f = float(image[reflect(row - y, 16), reflect(column - x, 17)])
                    dx += -x / sigma**2 * gaussian(x, y) * f
                    dy += -y / sigma**2 * gaussian(x, y) * f
            expected[row, column] = math.sqrt(dx**2 + dy**2)

    raw = expected * math.sqrt(2 * math.pi) * sigma
    fixed = GaussianDerivative(sigma, "fixed")(image[None, None])[0, 0]
    normalised = GaussianDerivative(sigma, "max")(image[None, None])[0, 0]
    torch.testing.assert_close(fixed, raw, atol=1e-5, rtol=0)
    # 1e-12 under the root and 1e-6 beside the maximum keep gradients and divisions finite.
    torch.testing.assert_close(normalised, expected / expected.max(), atol=1e-4, rtol=0)


def test_the_fixed_gain_maps_a_step_from_black_to_white_to_about_one() -> None:
    step = torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 1

    peak = float(GaussianDerivative(2.0, "fixed")(step).max())

    assert 0.95 < peak <= 1.0


def test_a_bright_spot_dims_other_edges_only_when_normalised_by_the_maximum() -> None:
    image = torch.full((1, 1, 32, 32), 0.2)
    image[..., :8] = 0.4
    spotted = image.clone()
    spotted[..., 20:24, 20:24] = 1.0

    def edge(norm: str, image: Tensor) -> Tensor:
        return GaussianDerivative(1.0, norm)(image)[..., 4:12, 4:12]  # type: ignore[arg-type]

    torch.testing.assert_close(edge("fixed", spotted), edge("fixed", image))
    assert edge("max", spotted).max() < 0.5 * edge("max", image).max()


def test_both_input_channels_are_brought_to_minus_one_to_one() -> None:
    network = build("mtl_oca", size=32)
    given = frames(network, 2)

    x = network.prepare(given)

    torch.testing.assert_close(x[:, :1], given * 2 - 1)
    torch.testing.assert_close(x[:, 1:], GaussianDerivative(1.0, "max")(given) * 2 - 1)


def test_the_class_head_pools_as_it_says() -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(4))

    def expect(head: ClassHead, pooled: Tensor) -> None:
        torch.testing.assert_close(head(x), head.fc2(head.fc1(pooled).clamp(min=0)))

    expect(ClassHead(4, 3, "gap"), x.mean(dim=(2, 3)))
    expect(ClassHead(4, 3, "gap+gmp"), torch.cat([x.mean(dim=(2, 3)), x.flatten(2).max(dim=2).values], dim=1))
    cells = x.view(2, 4, 2, 3, 2, 3).mean(dim=(3, 5))
    expect(ClassHead(4, 3, 2), cells.flatten(1))
