"""ACSNet's objective against its equations 8 to 13, and MTL-OCA's against 4 and 5."""

import math
from pathlib import Path

import pytest
import torch

from models.losses import LossNet
from models.networks.vgg import VGG16
from tests.train.objective_cases import batch, network, output
from train.objectives import ObjectiveError, make_objective


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the right shape; what it was trained on does not matter here."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(VGG16().state_dict(), path)
    return path


def test_the_parts_are_weighed_as_in_equations_12_and_13(vgg16: Path) -> None:
    net = network("acsnet")
    out, _ = output(net, 2)
    given = batch([0, 1])
    objective = make_objective(net, "acsnet", {"lossnet": str(vgg16)})
    found = {name: float(part.detach()) for name, part in objective(out, given).items()}

    assert out.lesion is not None
    assert out.class_logits is not None
    q = out.class_logits.detach().double().softmax(dim=1)
    l_cls = -(math.log(q[0, 0]) + math.log(q[1, 1])) / 2
    p, g = out.lesion.detach().double(), given.masks[:, 0].double()
    l_dice = [1 - (2 * (p[n] * g[n]).sum() + 1) / (p[n].sum() + g[n].sum() + 1) for n in (0, 1)]
    l_lossnet = LossNet(vgg16)(out.lesion.detach().unsqueeze(1), given.masks)
    assert found["class"] == pytest.approx(l_cls, rel=1e-5)
    assert found["dice"] == pytest.approx(float(sum(l_dice)) / 2, rel=1e-5)
    assert found["lossnet"] == pytest.approx(float(l_lossnet), rel=1e-4)
    assert found["total"] == pytest.approx(
        0.3 * found["class"] + 0.7 * (found["dice"] + 0.2 * found["lossnet"]), rel=1e-5
    )


def test_lossnet_teaches_the_mask_but_learns_nothing_and_stays_out_of_checkpoints(vgg16: Path) -> None:
    net = network("acsnet")
    objective = make_objective(net, "acsnet", {"lossnet": str(vgg16)})
    out, leaves = output(net, 2)
    objective(out, batch([0, 1]))["lossnet"].backward()

    assert leaves[0].grad is not None
    assert leaves[0].grad.any()
    assert not [one for one in objective.parameters() if one.requires_grad]
    assert list(objective.parameters()), "they must follow the network to its device"
    assert not objective.state_dict()
    objective.load_state_dict(objective.state_dict())


def test_without_weights_for_lossnet_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ObjectiveError, match=r"--set objective.lossnet=FILE.*--set objective.gamma=0"):
        make_objective(network("acsnet"), "acsnet", {})
    with pytest.raises(ObjectiveError, match="objective.lossnet: no such weights file"):
        make_objective(network("acsnet"), "acsnet", {"lossnet": str(tmp_path / "none.pth")})


def test_learned_weights_are_trained_and_kept() -> None:
    net = network("acsnet")
    options = {"gamma": 0.0, "task_weighting": "uncertainty"}
    objective, resumed = (make_objective(net, "acsnet", options) for _ in range(2))
    (weights,) = [one for one in objective.parameters() if one.requires_grad]
    found = objective(output(net, 2)[0], batch([0, 1]))
    found["total"].backward()
    # 0.5 / s^2 L + log(1 + s^2) at s = 1.
    expected = 0.5 * (found["class"] + found["dice"]) + 2 * math.log(2)
    torch.testing.assert_close(found["total"], expected)
    # Its slope there: 1 - L.
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, 1 - torch.stack([found["class"], found["dice"]]).detach())
    with torch.no_grad():
        weights.fill_(2.0)
    resumed.load_state_dict(objective.state_dict())
    assert [one.tolist() for one in resumed.parameters()] == [[2.0, 2.0]]


def test_a_network_of_one_task_has_that_tasks_loss_whole() -> None:
    losses = make_objective(network("unet"), "acsnet", {"gamma": 0.0})(
        output(network("unet"), 2)[0], batch([0, 1])
    )
    assert torch.equal(losses["total"], losses["dice"])
    losses = make_objective(network("resnet18"), "acsnet", {})(
        output(network("resnet18"), 2)[0], batch([0, 1])
    )
    assert torch.equal(losses["total"], losses["class"])


def test_mtl_oca_adds_three_cross_entropies_the_soft_regions_with_alpha() -> None:
    net = network("mtl_oca")
    out, _ = output(net, 3, coarse=2)
    given = batch([0, 1, 2])
    found = {
        name: float(part.detach()) for name, part in make_objective(net, "mtl_oca", {})(out, given).items()
    }

    def cross_entropy(logits: torch.Tensor) -> float:
        p = logits.detach().double().softmax(dim=1)[:, 1]
        g = given.masks[:, 0].double()
        return float(-(g * p.log() + (1 - g) * (1 - p).log()).mean())

    assert out.lesion_logits is not None
    assert out.class_logits is not None
    assert found["mask"] == pytest.approx(cross_entropy(out.lesion_logits), rel=1e-5)
    assert found["coarse"] == pytest.approx(cross_entropy(out.auxiliary["coarse_logits"]), rel=1e-5)
    q = out.class_logits.detach().double().softmax(dim=1)
    assert found["class"] == pytest.approx(-sum(math.log(q[n, n]) for n in range(3)) / 3, rel=1e-5)
    assert found["total"] == pytest.approx(found["mask"] + 0.4 * found["coarse"] + found["class"], rel=1e-6)


def test_mtl_ocas_alpha_is_an_option() -> None:
    net = network("mtl_oca")
    out, _ = output(net, 3, coarse=2)
    found = make_objective(net, "mtl_oca", {"alpha": 0.0})(out, batch([0, 1, 2]))
    torch.testing.assert_close(found["total"], found["mask"] + found["class"])
