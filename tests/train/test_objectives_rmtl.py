"""RMTL-Net's objective: the ring at known geometry, equations 7 to 9 by hand."""

import math

import numpy as np
import pytest
import torch

from tests.train.objective_cases import batch, disc, network, output
from train.objectives import make_objective
from train.objectives.rmtl_net import region_targets, within


def test_the_ring_around_one_pixel_is_a_disc_of_32_pixels() -> None:
    masks = torch.zeros(1, 1, 101, 101)
    masks[0, 0, 50, 50] = 1
    regions = region_targets(masks)[0]

    assert regions[50, 50] == 0
    assert (regions[50, 51:83] == 1).all()
    assert regions[50, 83] == 2
    assert regions[50 + 32, 50] == 1
    assert regions[50 + 33, 50] == 2
    assert regions[50 + 22, 50 + 23] == 1, "22^2 + 23^2 = 1013 <= 1024"
    assert regions[50 + 23, 50 + 23] == 2, "23^2 + 23^2 = 1058 > 1024"


def test_the_ring_is_32_pixels_wide_on_every_side_of_a_rectangle_and_stops_at_the_border() -> None:
    masks = torch.zeros(1, 1, 128, 128)
    masks[0, 0, 10:40, 60:80] = 1
    regions = region_targets(masks)[0]

    assert (regions[10:40, 60:80] == 0).all()
    assert (regions[25, 28:60] == 1).all()
    assert regions[25, 27] == 2
    assert (regions[40:72, 70] == 1).all()
    assert regions[72, 70] == 2
    assert (regions[0:10, 70] == 1).all()
    assert int((regions == 0).sum()) == 30 * 20


@pytest.mark.parametrize("distance", [1, 4.5, 32])
def test_distances_are_exact(distance: float) -> None:
    rng = np.random.default_rng(0)
    marked = rng.random((3, 70, 90)) < 0.002
    marked[2] = False
    near = within(torch.from_numpy(marked), distance).numpy()
    rows, columns = np.mgrid[:70, :90]
    for one, found in zip(marked[:2], near[:2], strict=True):
        nearest = np.min([(rows - y) ** 2 + (columns - x) ** 2 for y, x in np.argwhere(one)], axis=0)
        assert np.array_equal(found, nearest <= distance**2)
    assert not near[2].any()


def test_several_lesions_are_one_tumour_with_one_ring_and_no_lesion_is_background_alone() -> None:
    masks = torch.zeros(2, 1, 64, 64)
    masks[0] = torch.maximum(disc(20, 30, 5), disc(44, 30, 5))
    regions = region_targets(masks, ring_px=10)
    assert regions[0, 30, 32] == 1
    assert set(regions[0].unique().tolist()) == {0, 1, 2}
    assert (regions[1] == 2).all()


def test_segmentation_weighs_nine_tenths_by_hand() -> None:
    net = network("rmtl_net")
    out, _ = output(net, 2)
    given = batch([0, 1])
    losses = make_objective(net, "rmtl_net", {"ring_px": 6})(out, given)

    assert out.lesion_logits is not None
    assert out.class_logits is not None
    p, y = out.lesion_logits.detach().double().softmax(dim=1), region_targets(given.masks, 6)
    q = out.class_logits.detach().double().softmax(dim=1)
    l_seg = -p.gather(1, y.unsqueeze(1)).log().mean()
    l_cls = -(math.log(q[0, 0]) + math.log(q[1, 1])) / 2
    assert float(losses["mask"].detach()) == pytest.approx(float(l_seg), rel=1e-5)
    assert float(losses["class"].detach()) == pytest.approx(l_cls, rel=1e-5)
    assert float(losses["total"].detach()) == pytest.approx(0.9 * float(l_seg) + 0.1 * l_cls, rel=1e-5)


def test_a_network_without_regions_learns_lesion_and_background() -> None:
    net = network("mtl_net")
    out, _ = output(net, 2)
    given = batch([0, 1])
    losses = make_objective(net, "rmtl_net", {})(out, given)
    assert out.lesion_logits is not None
    log_odds = (out.lesion_logits[:, 0] - out.lesion_logits[:, 1]).detach()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(log_odds, given.masks[:, 0])
    torch.testing.assert_close(losses["mask"].detach(), expected)


def test_a_network_of_one_task_has_that_tasks_loss_whole() -> None:
    out, _ = output(network("uresnet"), 2)
    losses = make_objective(network("uresnet"), "rmtl_net", {})(out, batch([0, 1]))
    assert list(losses) == ["mask", "total"]
    assert torch.equal(losses["mask"], losses["total"])
