"""What every objective promises, whatever the batch lacks."""

from typing import Any

import pytest
import torch

import models
from models.networks.cards import CARDS
from tests.train.objective_cases import ALL_UNKNOWN, answers, batch, network, output, rows
from train.learning.batch import UNKNOWN
from train.objectives import OBJECTIVES, Objective, ObjectiveError, make_objective, resolve

# Network, its options, channels of its coarse mask, objective, options.
CASES: list[tuple[str, dict[str, Any], int, str, dict[str, Any]]] = [
    ("mtl_oca", {}, 2, "mtl_oca", {}),
    ("mtl_oca", {"oca": False}, 0, "mtl_oca", {}),
    ("ctg_net", {"num_classes": 3}, 3, "ctg_net", {}),
    ("ctg_net", {"num_classes": 3, "gland": "absent"}, 2, "ctg_net", {}),
    ("rmtl_net", {"num_classes": 3}, 0, "rmtl_net", {}),
    ("mtl_net", {"num_classes": 3}, 0, "rmtl_net", {}),
    ("uresnet", {}, 0, "rmtl_net", {}),
    ("la_net_r18", {"num_classes": 3}, 0, "la_net", {"stage": "locate"}),
    ("la_net_r18", {"num_classes": 3}, 0, "la_net", {}),
    ("la_net_r18", {"num_classes": 3}, 0, "la_net", {"gate": "pixel"}),
    ("acsnet", {"num_classes": 3}, 0, "acsnet", {"gamma": 0.0}),
    ("acsnet", {"num_classes": 3}, 0, "acsnet", {"gamma": 0.0, "task_weighting": "uncertainty"}),
    ("unet", {}, 0, "acsnet", {"gamma": 0.0}),
    ("resnet18", {"num_classes": 3}, 0, "acsnet", {}),
    ("mtl_oca", {}, 2, "generic", {"dice_weight": 1.0, "label_smoothing": 0.05}),
    ("ctg_net", {"num_classes": 3}, 3, "generic", {"dice_weight": 1.0}),
    ("rmtl_net", {"num_classes": 3}, 0, "generic", {"dice_weight": 1.0}),
    ("la_net_r18", {"num_classes": 3}, 0, "generic", {"dice_weight": 1.0}),
    ("unet", {}, 0, "generic", {}),
    ("resnet18", {"num_classes": 3}, 0, "generic", {}),
]
NAMES = [
    f"{case[0]}-{'-'.join(map(str, case[1].values()))}-{case[3]}-{'-'.join(map(str, case[4].values()))}"
    for case in CASES
]

BATCHES = {
    "complete": batch([0, 1, 2, 0], glands=True),
    "all normal": batch([2, 2, 2, 2]),
    "no mask known": batch([0, 1, 2, 0], masked=[False] * 4, glands=True),
    "no class known": batch(ALL_UNKNOWN),
    "nothing known": batch(ALL_UNKNOWN, masked=[False] * 4),
    "boxes only": batch([0, 1, 0, 1], masked=[False] * 4, boxed=[True] * 4),
    "a little of each": batch([0, UNKNOWN, 2, 1], masked=[True, True, True, False], glands=True),
}


def objective(case: tuple[str, dict[str, Any], int, str, dict[str, Any]]) -> Objective:
    name, options, _, kind, settings = case
    return make_objective(network(name, **options), kind, settings)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_whatever_a_batch_lacks_the_loss_and_its_gradient_are_finite(case: Any) -> None:
    loss = objective(case)
    keys = set()
    for name, given in BATCHES.items():
        out, leaves = output(network(case[0], **case[1]), 4, coarse=case[2])
        losses = loss(out, given)
        losses["total"].backward()
        assert all(value.isfinite() for value in losses.values()), name
        assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves), name
        keys.add(tuple(losses))
    assert len(keys) == 1, "an epoch's means are over all its batches"


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_extreme_logits_cost_much_but_stay_finite(case: Any) -> None:
    out, leaves = output(network(case[0], **case[1]), 4, coarse=case[2])
    huge = out._replace(
        lesion_logits=None if out.lesion_logits is None else 1e4 * out.lesion_logits,
        class_logits=None if out.class_logits is None else 1e4 * out.class_logits,
    )
    losses = objective(case)(huge, BATCHES["complete"])
    losses["total"].backward()
    assert losses["total"].isfinite()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_images_without_a_label_leave_the_losses_of_the_others_as_they_are(case: Any) -> None:
    loss = objective(case)
    out, _ = output(network(case[0], **case[1]), 4, coarse=case[2])
    whole = batch([0, UNKNOWN, 2, 1], masked=[True, True, False, False], glands=True)
    mixed = loss(out, whole)

    masked, labelled = [0, 1], [0, 2, 3]
    for part, chosen in (("mask", masked), ("dice", masked), ("coarse", masked), ("class", labelled)):
        if part in mixed:
            alone = loss(answers(out, chosen), rows(whole, chosen))
            torch.testing.assert_close(mixed[part], alone[part], msg=part)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_an_unknown_mask_holds_does_not_matter(case: Any) -> None:
    loss = objective(case)
    out, _ = output(network(case[0], **case[1]), 4, coarse=case[2])
    plain = batch([0, 1, 2, 1], masked=[True, False, True, False])
    other = plain._replace(masks=torch.where(plain.masked.view(-1, 1, 1, 1), plain.masks, 0.7))
    torch.testing.assert_close(loss(out, plain)["total"], loss(out, other)["total"])


def test_every_network_has_an_objective_that_fits_it() -> None:
    for name in CARDS:
        assert make_objective(network(name), "generic", {}).classes == len(network(name).classes)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("la-net", {}, "no objective named 'la-net'; objective.name is one of generic, ctg_net"),
        ("la_net", {"lam": 1}, "la_net has no option 'lam'; it has stage, lambda, alpha"),
        ("la_net", {"alpha": 1.5}, r"la_net: Expected `float` <= 1.0 - at `\$.alpha`"),
        ("rmtl_net", {"lambda": "big"}, r"rmtl_net: Expected `float`, got `str` - at `\$.lambda`"),
        ("ctg_net", {"dwa_step": "day"}, "ctg_net: Invalid enum value 'day'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        make_objective(network("la_net_r18"), name, options)
    with pytest.raises(ObjectiveError, match=message):
        resolve(name, options)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "generic"])
def test_an_objective_refuses_a_network_that_returns_something_else(name: str) -> None:
    wrong = {
        "ctg_net": "acsnet",
        "mtl_oca": "unet",
        "rmtl_net": "ctg_net",
        "la_net": "mtl_oca",
        "acsnet": "mtl_net",
    }
    with pytest.raises(ObjectiveError, match="use objective.name=generic"):
        make_objective(network(wrong[name]), name, {})


def test_a_class_that_the_network_does_not_tell_is_named() -> None:
    loss = make_objective(network("la_net_r18"), "la_net", {})
    with pytest.raises(ObjectiveError, match="an image has class 2, but the network tells 2 classes"):
        loss(output(network("la_net_r18"), 4)[0], batch([0, 1, 2, 0]))


def test_resolved_options_name_every_default() -> None:
    assert resolve("la_net", {"tau": 0.9}) == {
        "stage": "joint",
        "lambda": 0.5,
        "alpha": 0.1,
        "tau": 0.9,
        "gate": "class",
    }
    assert "lossnet" not in resolve("acsnet", {})


def test_the_generic_objective_draws_a_small_masks_target_as_the_share_of_each_cell() -> None:
    net = network("la_net_r18", num_classes=3)
    out, _ = output(net, 1)
    given = batch([0])
    given.masks[:] = 0
    given.masks[:, :, :32, :16] = 1  # half of the first of four cells
    assert out.lesion_logits is not None
    losses = make_objective(net, "generic", {})(out, given)
    p = out.lesion_logits.sigmoid().flatten()
    expected = -(0.5 * p[0].log() + 0.5 * (1 - p[0]).log() + (1 - p[1:]).log().sum()) / 4
    torch.testing.assert_close(losses["mask"], expected)


def test_the_generic_objective_reads_the_lesion_wherever_a_network_puts_it() -> None:
    """MTL-OCA's lesion is its second region, MTL-Net's its first, U-Net's its only one."""
    given = batch([0, 1])
    values = []
    for name, channel in (("mtl_oca", 1), ("mtl_net", 0), ("unet", None)):
        net = network(name)
        out, _ = output(net, 2)
        log_odds = output(network("unet"), 2)[0].lesion_logits
        assert log_odds is not None
        logits = log_odds if channel is None else torch.cat([0 * log_odds] * 2, dim=1)
        if channel is not None:
            logits = logits.index_add(1, torch.tensor([channel]), log_odds)
        values.append(make_objective(net, "generic", {})(out._replace(lesion_logits=logits), given)["mask"])
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_a_few_steps_on_a_real_network_lower_every_part() -> None:
    torch.manual_seed(0)
    net = models.create("mtl_oca", widths=(8, 8, 16), bridge=16, key_channels=8, size=64, dropout=0.0)
    loss = make_objective(net, "mtl_oca", {})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    given = batch([0, 1, 2, 0])
    given = given._replace(frames=(given.frames + given.masks) / 2)
    history = []
    for _ in range(30):
        losses = loss(net(given.frames), given)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    assert all(history[-1][name] < history[0][name] for name in history[0])
