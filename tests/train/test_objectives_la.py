"""LA-Net's objective: its two stages and both gates of the pseudo labels, equations 6 and 7 by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models.networks.base import Output
from tests.train.objective_cases import SIDE, batch, network
from train.learning.batch import Batch
from train.objectives import ObjectiveError, make_objective
from train.objectives.la_net import carry_over

SURE, UNSURE = (5.0, 0.0), (0.5, 0.0)  # softmax: 0.993 and 0.622


def said(mask: list[float], classes: list[tuple[float, float]]) -> Output:
    """Four cells of the same probability per image."""
    logits = torch.tensor(mask).logit().view(-1, 1, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    return Output(logits, logits.sigmoid(), torch.tensor(classes).requires_grad_(), {})


def full(masked: list[bool], boxed: list[bool] | None = None) -> Batch:
    """Lesions that fill the frame, so that every cell's target is 1 where there is one."""
    given = batch([0] * len(masked), masked=masked, boxed=boxed)
    located = given.masked | given.boxed
    return given._replace(masks=located.view(-1, 1, 1, 1).float().repeat(1, 1, SIDE, SIDE))


def losses(out: Output, given: Batch, **options: Any) -> dict[str, Tensor]:
    return make_objective(network("la_net_r18"), "la_net", options)(out, given)


def surprise(p: float) -> float:
    return float(-torch.tensor(p).log())


def test_the_first_stage_is_the_masks_cross_entropy_alone() -> None:
    out = said([0.7, 0.4, 0.9], [SURE, UNSURE, SURE])
    found = losses(out, full([True, True, False]), stage="locate")
    found["total"].backward()
    assert float(found["total"].detach()) == pytest.approx((surprise(0.7) + surprise(0.4)) / 2, rel=1e-5)
    assert list(found) == ["mask", "total"]
    assert out.class_logits is not None
    assert out.class_logits.grad is not None
    assert not out.class_logits.grad.any()


@pytest.mark.parametrize("stage", ["locate", "joint"])
def test_a_box_is_a_location_label(stage: str) -> None:
    out = said([0.7, 0.4], [SURE, SURE])
    boxes = losses(out, full([False, False], [True, True]), stage=stage)
    masks = losses(out, full([True, True]), stage=stage)
    assert float(boxes["mask"].detach()) > 0
    torch.testing.assert_close(boxes["total"], masks["total"])


def test_the_parts_of_the_second_stage_are_weighed_as_in_equation_7() -> None:
    out = said([0.7, 0.9], [UNSURE, SURE])
    found = {name: float(part.detach()) for name, part in losses(out, full([True, False])).items()}
    # The second image has no mask; its class is sure, its pixels above 0.5: its pseudo mask is all lesion.
    assert found["mask"] == pytest.approx(surprise(0.7), rel=1e-5)
    assert found["pseudo"] == pytest.approx(surprise(0.9), rel=1e-5)
    assert found["class"] == pytest.approx((surprise(0.622459) + surprise(0.993307)) / 2, rel=1e-4)
    assert found["total"] == pytest.approx(
        0.5 * found["class"] + 0.5 * (found["mask"] + 0.1 * found["pseudo"]), rel=1e-6
    )


@pytest.mark.parametrize(
    ("gate", "classes", "pixel", "expected"),
    [
        ("class", SURE, 0.6, surprise(0.6)),  # above 0.5: lesion
        ("class", SURE, 0.4, surprise(0.6)),  # below: background
        ("class", UNSURE, 0.9, 0.0),  # the class is not sure enough: not used
        ("pixel", UNSURE, 0.9, surprise(0.9)),  # used whatever the class
        ("pixel", SURE, 0.6, surprise(0.4)),  # not sure enough to be lesion: background
    ],
)
def test_each_gate_lets_through_what_its_source_says(
    gate: str, classes: tuple[float, float], pixel: float, expected: float
) -> None:
    found = losses(said([pixel], [classes]), full([False]), gate=gate)
    assert float(found["pseudo"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_threshold_of_the_class_gate_is_an_option() -> None:
    out = said([0.9], [UNSURE])
    assert float(losses(out, full([False]), tau=0.6)["pseudo"].detach()) > 0
    assert float(losses(out, full([False]), tau=0.63)["pseudo"].detach()) == 0


def test_images_with_a_mask_have_no_pseudo_label() -> None:
    assert float(losses(said([0.9], [SURE]), full([True]))["pseudo"].detach()) == 0


def test_each_stage_reaches_the_parameters_that_algorithm_1_names() -> None:
    torch.manual_seed(0)
    net = models.create("la_net_r18", size=64)
    given = batch([0, 1, 0, 1], masked=[True, True, False, False])

    def reached(**options: Any) -> set[str]:
        net.zero_grad()
        make_objective(net, "la_net", options)(net(given.frames), given)["total"].backward()
        return {
            name.split(".")[0]
            for name, one in net.named_parameters()
            if one.grad is not None and one.grad.any()
        }

    assert reached(stage="locate") == {"fex", "la_net"}
    assert reached(stage="joint") == {"fex", "la_net", "fc"}


def test_the_class_alone_trains_the_mask_through_the_attention() -> None:
    torch.manual_seed(0)
    net = models.create("la_net_r18", size=64)
    given = batch([0, 1, 0, 1], masked=[False] * 4)
    make_objective(net, "la_net", {"alpha": 0.0})(net(given.frames), given)["total"].backward()
    assert any(one.grad is not None and one.grad.any() for one in net.la_net.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("reuse_fex", [False, True])
def test_the_second_stage_takes_over_the_mask_and_on_request_the_features(reuse_fex: bool) -> None:
    torch.manual_seed(0)
    first = models.create("la_net_r18", size=64).state_dict()
    net = models.create("la_net_r18", size=64)
    fresh = {name: value.clone() for name, value in net.state_dict().items()}
    carry_over(net, first, reuse_fex=reuse_fex)
    taken = ("la_net.", "fex.") if reuse_fex else ("la_net.",)
    for name, value in net.state_dict().items():
        assert torch.equal(value, (first if name.startswith(taken) else fresh)[name]), name


def test_weights_of_another_first_stage_are_refused() -> None:
    other = models.create("la_net_r18", size=64, sam_kernel=7, sam_convs=1).state_dict()
    with pytest.raises(ObjectiveError, match="train both stages anew"):
        carry_over(models.create("la_net_r18", size=64), other)
