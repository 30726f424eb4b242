import pytest
import torch

from models import ModelError
from models.networks.registry import build
from models.networks.sonolite import RegionHead, Sonolite


def test_the_class_does_not_pull_the_mask_out_of_shape() -> None:
    torch.manual_seed(0)
    network = build("sonolite", size=64).train()

    logits = network(torch.rand(4, 1, 64, 64)).class_logits
    assert logits is not None
    logits.square().sum().backward()

    assert isinstance(network, Sonolite)
    assert network.fine.weight.grad is None
    assert network.stem[0][0].weight.grad is not None


def test_the_class_is_read_inside_the_lesion_and_on_its_rim() -> None:
    torch.manual_seed(0)
    head = RegionHead(4, 4, 4, 3, regions=True, dropout=0).eval()
    inside = torch.zeros(1, 1, 16, 16)
    inside[..., 4:8, 4:8] = 1
    decoded = torch.rand(1, 4, 16, 16)
    middle, deepest = torch.rand(1, 4, 8, 8), torch.rand(1, 4, 4, 4)

    def changes(rows: slice) -> bool:
        other = decoded.clone()
        other[..., rows, rows] += 1
        before, after = (head(inside, features, middle, deepest) for features in (decoded, other))
        return not torch.equal(before, after)

    assert changes(slice(5, 6))
    assert changes(slice(2, 3)), "the rim is two cells wide"
    assert not changes(slice(12, 14)), "far from the lesion the decoder says nothing of its class"


def test_a_frame_without_a_lesion_is_classified_all_the_same() -> None:
    head = RegionHead(4, 4, 4, 3, regions=True, dropout=0).eval()

    logits = head(
        torch.zeros(2, 1, 16, 16), torch.rand(2, 4, 16, 16), torch.rand(2, 4, 8, 8), torch.rand(2, 4, 4, 4)
    )

    assert torch.isfinite(logits).all()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ModelError, match="in_channels must be 1"):
        build("sonolite", in_channels=3)
    with pytest.raises(ModelError, match="widths must be four"):
        build("sonolite", widths=(8, 8))
