"""CTG-Net's objective against its equations 8 and 9."""

import math

import pytest
import torch

import models
from tests.train.objective_cases import answers, batch, network, output, rows
from train.learning.batch import UNKNOWN
from train.objectives import make_objective
from train.objectives.ctg_net import CTGNetObjective


def ctg(**options: object) -> CTGNetObjective:
    objective = make_objective(network("ctg_net"), "ctg_net", options)
    assert isinstance(objective, CTGNetObjective)
    return objective


def test_two_tasks_are_weighed_by_how_fast_their_losses_fell_over_three_epochs() -> None:
    objective = ctg()
    given, (out, _) = batch([0, 1, 0, 1], glands=True), output(network("ctg_net"), 4, coarse=3)

    def total() -> tuple[float, dict[str, float]]:
        losses = {name: float(value.detach()) for name, value in objective(out, given).items()}
        return losses["total"], losses

    first, parts = total()
    assert first == pytest.approx(parts["class"] + parts["coarse"] + parts["mask"])
    objective.on_epoch({"class": 0.8, "coarse": 0.6, "mask": 0.4, "total": 1.8})
    assert objective.weights == (1, 1), "one epoch has no ratio"
    objective.on_epoch({"class": 0.6, "coarse": 0.3, "mask": 0.2, "total": 1.1})
    # w = 0.6 / 0.8 for the class, (0.3 + 0.2) / (0.6 + 0.4) for the masks; T = 2; K = 2.
    slow, fast = math.exp(0.75 / 2), math.exp(0.5 / 2)
    expected = 2 * slow / (slow + fast), 2 * fast / (slow + fast)
    assert objective.weights == pytest.approx(expected)
    assert sum(objective.weights) == pytest.approx(2)
    third, parts = total()
    assert third == pytest.approx(
        expected[0] * parts["class"] + expected[1] * (parts["coarse"] + parts["mask"])
    )


def test_without_dynamic_weights_both_tasks_weigh_one() -> None:
    objective = ctg(dwa=False)
    for value in (0.8, 0.4, 0.1):
        objective.on_epoch({"class": value, "coarse": 0.5, "mask": 0.5})
    assert objective.weights == (1, 1)


def test_an_epoch_without_class_labels_leaves_the_weights() -> None:
    objective = ctg()
    objective.on_epoch({"class": 0.8, "coarse": 0.6, "mask": 0.4})
    objective.on_epoch({"class": 0.4, "coarse": 0.6, "mask": 0.4})
    before = objective.weights
    objective.on_epoch({"class": 0.0, "coarse": 0.1, "mask": 0.1})
    assert objective.weights == before != (1, 1)


def test_a_step_may_be_an_iteration_but_validation_is_none() -> None:
    objective = ctg(dwa_step="iteration")
    given = batch([0, 1, 0, 1])
    for seed in (0, 1):
        objective(output(network("ctg_net"), 4, coarse=3, seed=seed)[0], given)
    weights = objective.weights
    assert weights != (1, 1)
    objective.on_epoch({"class": 0.1, "coarse": 0.9, "mask": 0.9})
    with torch.no_grad():
        objective(output(network("ctg_net"), 4, coarse=3, seed=2)[0], given)
    assert objective.weights == weights


def test_a_resumed_run_goes_on_with_the_same_weights() -> None:
    objective, resumed = ctg(), ctg()
    for value in (0.8, 0.3):
        objective.on_epoch({"class": value, "coarse": 0.5, "mask": 0.5})
    resumed.load_state_dict(objective.state_dict())
    assert resumed.weights == objective.weights
    for one in (objective, resumed):
        one.on_epoch({"class": 0.2, "coarse": 0.1, "mask": 0.1})
    assert resumed.weights == objective.weights


def test_glands_train_the_coarse_mask_only_where_they_are_known() -> None:
    objective = ctg()
    out, _ = output(network("ctg_net"), 4, coarse=3)
    given = batch([0, 1, 0, 1], glands=True)
    assert given.glands is not None
    assert given.gland_known is not None

    def coarse(glands: torch.Tensor) -> torch.Tensor:
        return objective(out, given._replace(glands=glands))["coarse"]

    known = given.gland_known.view(-1, 1, 1, 1)
    plain = coarse(given.glands)
    assert torch.equal(plain, coarse(torch.where(known, given.glands, 1 - given.glands)))
    assert not torch.equal(plain, coarse(torch.where(known, 1 - given.glands, given.glands)))
    unknown = given._replace(gland_known=torch.zeros_like(given.gland_known))
    assert torch.equal(objective(out, unknown)["coarse"], objective(out, batch([0, 1, 0, 1]))["coarse"])


def test_dice_of_the_fine_mask_is_the_papers_by_hand() -> None:
    """1 - (2 sum p g + 1) / (sum p^2 + sum g^2 + 1), mean over background and lesion."""
    out, _ = output(network("ctg_net"), 1, coarse=3)
    given = batch([0])
    assert out.lesion is not None
    p, g = out.lesion.detach().double(), given.masks[0].double()
    terms = [
        1 - (2 * (q * h).sum() + 1) / ((q * q).sum() + (h * h).sum() + 1) for q, h in ((1 - p, 1 - g), (p, g))
    ]
    assert float(ctg()(out, given)["mask"].detach()) == pytest.approx(float(sum(terms)) / 2, rel=1e-5)


def test_every_part_of_the_network_is_trained_and_without_masks_only_what_the_class_reads() -> None:
    torch.manual_seed(0)
    net = models.create("ctg_net", size=32, channels=16)
    objective = make_objective(net, "ctg_net", {})
    whole, bare = batch([0, 1, UNKNOWN]), batch([0, 1, UNKNOWN], masked=[False] * 3)
    small = [
        given._replace(frames=given.frames[..., ::2, ::2], masks=given.masks[..., ::2, ::2])
        for given in (whole, bare)
    ]

    def reached(given: object) -> set[str]:
        net.zero_grad()
        objective(net(given.frames), given)["total"].backward()  # type: ignore[attr-defined]
        trained = {name for name, one in net.named_parameters() if one.grad is not None and one.grad.any()}
        return {name.split(".")[0] for name in trained}

    assert reached(small[0]) == {"backbone", "aspp", "coarse", "classify", "csm", "akgm", "fine"}
    # The coarse masks gate the class's features; the fine mask is reached by nothing.
    assert reached(small[1]) == {"backbone", "aspp", "coarse", "classify"}


def test_masks_of_some_images_are_the_mean_of_those() -> None:
    objective = ctg()
    out, _ = output(network("ctg_net"), 4, coarse=3)
    given = batch([0, 1, 0, 1], masked=[True, False, True, False], glands=True)
    alone = objective(answers(out, [0, 2]), rows(given, [0, 2]))
    torch.testing.assert_close(objective(out, given)["coarse"], alone["coarse"])
