"""Networks learn: eight images by heart, and the phantom's lesions from scratch.

What is reached here says that networks, losses and loop work; it says nothing about people.
"""

from pathlib import Path

import numpy as np
import pytest

from models.networks.registry import list_models
from tests.train.small import fit, learn_by_heart, make_trainer, small_network, small_recipe, stills
from train.data import Images, shrink
from train.learning.validation import figures, predict
from train.phantoms import Mixture, render
from train.run.whole import keep_memory

SLIM = {"widths": (16, 32, 64), "bridge": 64, "key_channels": 16, "size": 64, "cls_pool": "gap+gmp"}
# The smallest input of each, and for the wide ones an option that makes them cheaper.
SMALL: dict[str, dict[str, object]] = {
    "mtl_oca": {"size": 32, "widths": (16, 16, 32), "bridge": 32, "key_channels": 16, "cls_pool": "gap+gmp"},
    "ctg_net": {"size": 64, "channels": 64},
}
# 13 to 72 s each on one core. Of the networks that differ only in their backbone, the lighter one is learned.
HEAVY = {"rmtl_net", "mtl_net", "mtl_cosa", "uresnet", "ctg_net", "acsnet", "la_net_r50", "resnet50", "unet"}


@pytest.fixture(scope="module")
def eight() -> Images:
    # As a run does: else a step takes several times as long.
    keep_memory()
    return stills(12, 64).take(np.array([0, 1, 3, 4, 6, 7, 9, 10]))  # benign and malignant


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.heavy if one in HEAVY else ()) for one in list_models()],
)
@pytest.mark.timeout(600)
def test_every_network_learns_eight_images_by_heart(name: str, eight: Images) -> None:
    options = SMALL.get(name, {"size": 64})
    network = small_network(name, **options)
    size = network.size[0]
    # LA-Net's cells are 32 x 32 pixels, too large for these outlines: no Dice could tell that it learns. Its
    # mask leaves a normalisation whose scale grows with the rate.
    coarse = name.startswith("la_net")
    rate = 3e-3 if coarse else 1e-3
    recipe = small_recipe(
        train={"epochs": 1, "batch": 8, "clip": 5.0},
        augment={},
        objective={"name": "generic", "dice_weight": 0.0 if coarse else 1.0},
    )
    images = shrink(eight, size) if size != 64 else eight
    run = make_trainer(images, recipe, network=network)
    first = dict(run.train_step(np.arange(8), rate))
    for _ in range(10):
        learn_by_heart(run, 20, rate)
        reached = figures(predict(run.network, images), images)
        learned = reached.get("accuracy", 1.0) == 1.0
        drawn = run.losses.latest["mask"] < 0.8 * first["mask"] if coarse else reached.get("dice", 1.0) > 0.8
        if learned and drawn:
            break

    assert learned, reached
    assert drawn, (reached, run.losses.latest)
    assert run.losses.latest["total"] < 0.6 * first["total"]


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_mtl_oca_learns_the_phantom_from_scratch(tmp_path: Path) -> None:
    """Dice 0.80 and accuracy 0.90 on pictures of other seeds."""
    train = render("train", Mixture(stills=360, sweeps=0, frames=0), 64)
    other = render("validation", Mixture(stills=90, sweeps=0, frames=0), 64)
    recipe = small_recipe(
        optimizer={"lr": 3e-3},
        schedule={"name": "cosine", "warm_up": 0.05},
        train={"epochs": 10, "batch": 8},
        augment={"horizontal_flip": 0.5},
        objective={"name": "generic", "dice_weight": 1.0},
    )
    run = make_trainer(train, recipe, network=small_network("mtl_oca", **SLIM), seed=0)
    reports = fit(run, other, tmp_path)

    reached = max(reports, key=lambda report: report.score or 0.0).validation["validation"]
    assert reached["dice"] >= 0.80
    assert reached["accuracy"] >= 0.90
