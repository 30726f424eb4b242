"""A switch that changes nothing would make an ablation study of nothing."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from models.networks.base import Network, Output
from tests.models.networks.configurations import ABLATED, DEFAULTS, Configuration, awake, frames, label

# Switches of how a network is trained: its forward pass stays the same.
TRAINING_ONLY = ("detach_regions",)
SAME_GRAPH = [c for c in ABLATED if not set(c[1]) & set(TRAINING_ONLY)]


@lru_cache(maxsize=1)
def whole_network(name: str) -> Network:
    return awake(name, **DEFAULTS[name])


def tensors(output: Output) -> list[Tensor | None]:
    return [output.lesion, output.class_logits]


@pytest.mark.parametrize("configuration", SAME_GRAPH, ids=label)
def test_a_switch_changes_what_the_network_says(configuration: Configuration) -> None:
    """With the same weights wherever both have them, so that only the switch can make the difference."""
    name, options = configuration
    whole = whole_network(name)
    changed = awake(name, **options)
    shared = {
        key: value
        for key, value in whole.state_dict().items()
        if key in changed.state_dict() and changed.state_dict()[key].shape == value.shape
    }
    changed.load_state_dict(shared, strict=False)

    with torch.no_grad():
        before, after = tensors(whole(frames(whole, 2))), tensors(changed(frames(changed, 2)))

    pairs = list(zip(before, after, strict=True))
    assert any(
        a is None or b is None or a.shape != b.shape or (a - b).abs().max() > 1e-6 for b, a in pairs
    ), f"{label(configuration)} says what {name} says"
    assert any(a is not None for a in after)


def test_the_class_is_read_from_where_cls_source_says() -> None:
    """Only with augmented features does the class depend on the attention."""
    for source, depends in (("backbone", False), ("augmented", True)):
        network = awake("mtl_oca", size=32, cls_source=source)
        with torch.no_grad():
            before = network(frames(network, 1)).class_logits
            network.oca.rho[0].weight += 1.0
            after = network(frames(network, 1)).class_logits

        assert torch.equal(before, after) is not depends


@pytest.mark.parametrize(("part", "options"), [("lam_gland", 1), ("lam_lesion", 2)])
def test_a_part_of_lam_listens_to_its_own_mask(part: str, options: int) -> None:
    """With the attention and the class maps off, a coarse mask reaches the class through LAM alone."""
    for on in (True, False):
        other = {"lam_gland", "lam_lesion"} - {part}
        network = awake(
            "ctg_net", size=64, csm=False, akgm=False, **{part: on}, **dict.fromkeys(other, False)
        )
        with torch.no_grad():
            before = network(frames(network, 1)).class_logits
            network.coarse.head.bias[options] += 3.0
            after = network(frames(network, 1)).class_logits

        assert torch.equal(before, after) is not on


def test_mam_is_the_only_way_of_the_mask_to_the_class() -> None:
    for mam in (True, False):
        network = awake("la_net_r18", size=64, mam=mam)
        with torch.no_grad():
            before = network(frames(network, 1)).class_logits
            network.la_net.fuse[1].bias += 2.0
            after = network(frames(network, 1)).class_logits

        assert torch.equal(before, after) is not mam


def test_the_mask_grid_grows_with_the_size() -> None:
    network = awake("la_net_r18", size=128)

    assert network(frames(network, 1)).auxiliary["mask"].shape == (1, 1, 4, 4)
