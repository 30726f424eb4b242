"""LA-Net learns close-ups of the phantom from scratch, and in its second stage what its first cannot tell.

What is reached here says that network, objective and stages work; it says nothing about people. The mask is
small: 96 pixels a side give it 3 x 3 cells. The best that these can draw of the lesions here has a Dice of
0.67; their targets, the lesion's share of every cell, have one of 0.60.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import Network
from models.networks.registry import CLASSES
from tests.train.small import fit as train_on
from tests.train.small import make_trainer, small_network, small_recipe
from train.data import Images, fit, shrink
from train.learning.draw import hide_masks
from train.learning.stages import plan
from train.learning.validation import figures, predict
from train.phantoms import still
from train.run.whole import keep_memory

LEARNING = {"schedule": {"name": "cosine", "warm_up": 0.1}, "augment": {"horizontal_flip": 0.5}}
# Sides of a close-up, in pixels: of what is cut out of a still, and of what it is brought to.
WINDOW, SIDE = 288, 96


class Pictures(NamedTuple):
    train: Images
    other: Images
    """Of other seeds."""


def close_ups(part: str, count: int) -> Images:
    """Cut lesions out of stills, somewhere about the middle, half of them malignant.

    In a whole still many a lesion is smaller than a cell of the mask.
    """
    pixels = np.empty((count, SIDE, SIDE), np.uint8)
    masks = np.empty_like(pixels)
    names, labels = [], []
    numbers = [number for number in range(2 * count) if number % 3 < 2][:count]  # every third is normal
    for row, number in enumerate(numbers):
        name, frame = still(part, number)
        aside = np.random.default_rng(number).uniform(-48, 48, 2)
        middle = np.argwhere(frame.lesion_mask).mean(axis=0) + aside
        top, left = np.clip(middle - WINDOW / 2, 0, np.array(frame.pixels.shape) - WINDOW).astype(int)
        window = slice(top, top + WINDOW), slice(left, left + WINDOW)
        fit(np.ascontiguousarray(frame.pixels[window]), pixels[row])
        fit(np.ascontiguousarray(frame.lesion_mask[window]), masks[row])
        names.append(name)
        labels.append(CLASSES.index(frame.label))
    return Images(tuple(names), np.arange(count), pixels, masks, np.array(labels))


@pytest.fixture(scope="module")
def phantom() -> Iterator[Pictures]:
    threads = torch.get_num_threads()
    # As a run does: else a step takes several times as long.
    keep_memory()
    # How many there are decides how sums round, and with that where a run ends.
    torch.set_num_threads(1)
    yield Pictures(close_ups("train", 300), close_ups("validation", 100))
    torch.set_num_threads(threads)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_la_net_learns_the_phantom_from_scratch(phantom: Pictures, tmp_path: Path) -> None:
    """Accuracy 0.90 on pictures of other seeds, and with masks of 3 x 3 cells a Dice of 0.50."""
    recipe = small_recipe(
        optimizer={"lr": 2e-3},
        train={"epochs": 10, "batch": 16, "ema": 0.9},
        objective={"name": "generic", "dice_weight": 1.0},
        **LEARNING,
    )
    network = small_network("la_net_r18", size=SIDE)
    run = make_trainer(phantom.train, recipe, network=network, seed=0)
    reports = train_on(run, phantom.other, tmp_path)

    reached = max(reports, key=lambda report: report.score or 0.0).validation["validation"]
    assert reached["accuracy"] >= 0.90
    assert reached["dice"] >= 0.50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_second_stage_with_a_quarter_of_the_masks_beats_what_the_first_can_tell(
    phantom: Pictures, tmp_path: Path
) -> None:
    """The first stage learns where lesions are and trains no class head (Algorithm 1).

    Its classifier is the head that is then fitted to its frozen features, on the classes of all images that
    the second stage learns from.
    """
    recipe = small_recipe(
        optimizer={"lr": 2e-3},
        train={"epochs": 7, "batch": 16, "ema": 0.9},
        draw={"masked_share": 0.25},
        objective={"name": "la_net"},
        # From scratch: there is no ImageNet that the second stage could start its features from.
        stages={"first_epochs": 6, "reuse_fex": True},
        score={"accuracy": 1.0},
        **LEARNING,
    )
    train, other = (shrink(images, 64) for images in phantom)
    train = hide_masks(train, recipe.draw.masked_share, seed=0)
    reached, before = [], None
    for stage in plan(recipe):
        network = small_network("la_net_r18", size=64)
        stage.start(network, before)
        run = make_trainer(train, recipe, network=network, stage=stage, seed=0)
        train_on(run, other, tmp_path)
        before = {name: value.clone() for name, value in run.judged.state_dict().items()}
        if not stage.last:
            fit_class_head(run.judged, train)
        reached.append(figures(predict(run.judged, other), other))

    assert train.masked.mean() == pytest.approx(0.25, abs=0.01)
    first, second = reached
    assert second["auc"] >= first["auc"] + 0.10
    assert second["accuracy"] > first["accuracy"]


def fit_class_head(network: Network, images: Images) -> None:
    """Give a network the linear class head that tells the images best, its features as they are."""
    head = network.fc
    assert isinstance(head, nn.Linear)
    read: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    predict(network, images)
    handle.remove()
    features, labels = torch.cat(read).clone(), torch.from_numpy(images.labels)
    mean, spread = features.mean(dim=0), features.std(dim=0) + 1e-6
    fitted = nn.Linear(features.shape[1], head.out_features)
    optimizer = torch.optim.LBFGS(fitted.parameters(), max_iter=200)

    def loss() -> Tensor:
        optimizer.zero_grad()
        surprise = F.cross_entropy(fitted((features - mean) / spread), labels)
        total = surprise + 0.01 * fitted.weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_(fitted.weight / spread)
        head.bias.copy_(fitted.bias - head.weight @ mean)
