"""CTG-Net against its equations, written out literally in float64."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.networks.attention import PositionAttention
from models.networks.ctg_net import AKGM, ASPP, CSM, LAM, ClassVectors
from models.networks.registry import build
from tests.models.networks.configurations import awake, frames

N, D, CLASSES, HEIGHT, WIDTH = 2, 16, 3, 3, 4


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def f() -> Tensor:
    return draw(N, D, HEIGHT, WIDTH)


@pytest.fixture
def m_m() -> Tensor:
    return draw(N, 1, HEIGHT, WIDTH, seed=1).sigmoid()


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, n: int, i: int) -> Tensor:
    """A 1x1 convolution at position i of image n."""
    return weight.flatten(1) @ x[n].flatten(1)[:, i] + (0 if bias is None else bias)


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("gland", [True, False])
@pytest.mark.parametrize("lesion", [True, False])
def test_lam_adds_the_masked_features_it_is_told_to(
    f: Tensor, m_m: Tensor, identity: bool, gland: bool, lesion: bool
) -> None:
    if not (identity or gland or lesion):
        return
    m_l = 1 - m_m

    out = LAM(identity=identity, gland=gland, lesion=lesion)(f, m_m, m_l)

    for n in range(N):
        for c in range(D):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    value = f[n, c, y, x]
                    expected = (
                        identity * value + gland * value * m_m[n, 0, y, x] + lesion * value * m_l[n, 0, y, x]
                    )
                    assert float(out[n, c, y, x]) == pytest.approx(float(expected))


def test_scores_are_one_product_per_class_vector() -> None:
    classify = ClassVectors(D, CLASSES).double()
    pooled = draw(N, D, seed=2)

    g_global = classify(pooled)
    h = classify.scores(g_global)

    assert g_global.shape == (N, D, CLASSES)
    for n in range(N):
        flat = classify.vectors.weight @ pooled[n] + classify.vectors.bias
        for c in range(CLASSES):
            g_c = flat[c * D : (c + 1) * D]
            torch.testing.assert_close(g_global[n, :, c], g_c)
            torch.testing.assert_close(h[n, c], classify.weight[c] @ g_c + classify.bias[c])


def test_csm_maps_each_class_vector_weighted_by_its_score(f: Tensor) -> None:
    csm = CSM(D).double()
    g_global, h_score = draw(N, D, CLASSES, seed=3), draw(N, CLASSES, seed=4).softmax(dim=1)

    out = csm(f, g_global, h_score)

    for n in range(N):
        for c in range(CLASSES):
            g = csm.conv_g.weight[:, :, 0] @ g_global[n, :, c] + csm.conv_g.bias
            for i in range(HEIGHT * WIDTH):
                f_i = pointwise(f, csm.conv_f.weight, csm.conv_f.bias, n, i)
                torch.testing.assert_close(out[n, c].flatten()[i], h_score[n, c] * g @ f_i)


@pytest.mark.parametrize("masked", [True, False])
def test_position_attention_is_a_softmax_over_keys(f: Tensor, m_m: Tensor, masked: bool) -> None:
    attention = PositionAttention(D, 4).double()
    mask = m_m if masked else None

    out = attention(f, mask)

    for n in range(N):
        tokens = range(HEIGHT * WIDTH)
        m = [float(m_m[n].flatten()[i]) if masked else 1.0 for i in tokens]
        q = [pointwise(f, attention.query.weight, attention.query.bias, n, i) * m[i] for i in tokens]
        k = [pointwise(f, attention.key.weight, attention.key.bias, n, i) * m[i] for i in tokens]
        v = [pointwise(f, attention.value.weight, attention.value.bias, n, i) for i in tokens]
        for i in tokens:
            s = [math.exp(float(q[i] @ k[j])) for j in tokens]
            expected = sum((s[j] / sum(s) * v[j] for j in tokens), torch.zeros(D))
            torch.testing.assert_close(out[n].flatten(1)[:, i], expected)


def test_akgm_starts_as_the_features_themselves_and_adds_attention(f: Tensor, m_m: Tensor) -> None:
    akgm = AKGM(D).double()

    torch.testing.assert_close(akgm(f, m_m), f)
    torch.nn.init.constant_(akgm.a, 0.3)
    torch.testing.assert_close(akgm(f, m_m), 0.3 * akgm.attention(f, m_m) + f)


def test_guidance_masks_are_cell_means_of_the_coarse_probabilities() -> None:
    network = build("ctg_net", size=32)
    m, f = draw(N, 3, 32, 32, seed=5), draw(N, 256, 2, 2, seed=6)

    m_m, m_l = network.guidance(m, f)

    p = m.exp() / m.exp().sum(dim=1, keepdim=True)
    for row in range(2):
        for column in range(2):
            cell = p[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].mean(dim=(2, 3))
            torch.testing.assert_close(m_m[:, 0, row, column], cell[:, 1])
            torch.testing.assert_close(m_l[:, 0, row, column], cell[:, 2])


def test_without_gland_masks_the_coarse_unit_has_two_channels_and_attention_is_plain() -> None:
    network = awake("ctg_net", size=32, gland="absent").eval()
    m, f = draw(N, 2, 32, 32, seed=5), draw(N, 256, 2, 2, seed=6)

    m_m, m_l = network.guidance(m, f)

    assert m_m is None
    torch.testing.assert_close(m_l[:, 0], torch.nn.functional.avg_pool2d(m.softmax(dim=1)[:, 1], 16))
    assert network(frames(network, 2)).auxiliary["coarse_logits"].shape == (2, 2, 32, 32)


def test_the_prior_is_a_band_over_depth_alone() -> None:
    network = build("ctg_net", size=(128, 32), gland="prior")

    m_m, _ = network.guidance(torch.zeros(1, 2, 128, 32), torch.zeros(1, 256, 8, 2))

    expected = [math.exp(-((((row + 0.5) / 8) - 0.4) ** 2) / 0.08) for row in range(8)]
    torch.testing.assert_close(m_m[0, 0, :, 0], torch.tensor(expected))
    torch.testing.assert_close(m_m[..., 0], m_m[..., 1])


def test_aspp_concatenates_five_views_of_the_features() -> None:
    aspp = ASPP(8, 4).double().eval()
    x = draw(N, 8, 20, 20, seed=7)

    rates = [branch[0].dilation for branch in aspp.atrous]
    views = [aspp.point(x), *(branch(x) for branch in aspp.atrous)]
    views.append(aspp.pool(x.mean(dim=(2, 3), keepdim=True)).repeat(1, 1, 20, 20))

    assert rates == [(6, 6), (12, 12), (18, 18)]
    torch.testing.assert_close(aspp(x), aspp.project(torch.cat(views, dim=1)))
