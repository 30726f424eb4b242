"""The papers' recipes and ablations: that they can be run, and hold what the papers print."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.networks.registry import build, list_models
from tests.train.objective_cases import network
from train.ablations.rows import Row, ablations, plan_row
from train.learning.stages import plan
from train.objectives import ObjectiveError, make_objective
from train.recipe import RecipeError, load_recipe, paper_recipes
from train.run.fold import network_options
from train.run.request import Request

# As printed: optimiser, rate, betas, weight decay, batch, epochs, schedule.
PRINTED: dict[str, tuple[Any, ...]] = {
    "mtl_oca": (1e-3, (0.9, 0.999), 0.0, 16, 400, "constant"),
    "ctg_net": (1e-4, (0.9, 0.99), 0.0, 16, 100, "constant"),
    "rmtl_net": (1e-4, (0.9, 0.99), 1e-4, 16, 100, "step"),
    "la_net_r18": (1e-3, (0.9, 0.999), 0.0, 8, 100, "constant"),
    "la_net_r50": (1e-3, (0.9, 0.999), 0.0, 8, 100, "constant"),
    "acsnet": (1e-4, (0.9, 0.99), 1e-4, 16, 100, "cosine"),
}


def common(out: Path) -> Request:
    return Request(model="", data=("phantom:4",), recipe=load_recipe("live", "mtl_oca"), out=out)


@pytest.mark.parametrize("name", PRINTED)
def test_a_recipe_holds_what_its_paper_prints(name: str) -> None:
    recipe = load_recipe("paper", name)
    assert recipe.optimizer.name == "adam"
    assert PRINTED[name] == (
        recipe.optimizer.lr,
        recipe.optimizer.betas,
        recipe.optimizer.weight_decay,
        recipe.train.batch,
        recipe.train.epochs,
        recipe.schedule.name,
    )
    assert (recipe.train.clip, recipe.train.ema, recipe.draw.synthetic_share) == (0, 0, 0)


def test_the_papers_own_terms_have_their_printed_weights() -> None:
    options = {name: load_recipe("paper", name).objective.options for name in PRINTED}
    assert options["mtl_oca"]["alpha"] == 0.4
    assert options["ctg_net"]["temperature"] == 2
    assert (options["rmtl_net"]["lambda"], options["rmtl_net"]["ring_px"]) == (0.9, 32)
    assert options["la_net_r50"] == {"lambda": 0.5, "alpha": 0.1, "tau": 0.8, "gate": "class"}
    assert (options["acsnet"]["lambda"], options["acsnet"]["gamma"]) == (0.3, 0.2)
    assert load_recipe("paper", "ctg_net").train.patience == 10
    assert load_recipe("paper", "rmtl_net").augment.rotation_deg == 5


def test_every_published_network_has_its_papers_recipe_and_objective() -> None:
    for name, path in paper_recipes().items():
        recipe = load_recipe("paper", name)
        with torch.device("meta"):
            net = build(name, **network_options(recipe, name))
        settings = {"gamma": 0.0} if recipe.objective.name == "acsnet" else {}
        make_objective(net, recipe.objective.name, {**recipe.objective.options, **settings})
        assert recipe.name == "paper", path
        assert plan(recipe)
    baselines = {"unet", "cunet", "uresnet", "mtl_net", "mtl_cosa", "resnet18", "resnet50"}
    assert set(paper_recipes()) == {*PRINTED, *baselines}
    assert set(paper_recipes()) <= set(list_models())


def test_la_net_alone_is_trained_in_two_stages() -> None:
    for name in paper_recipes():
        stages = [stage.name for stage in plan(load_recipe("paper", name))]
        assert stages == (["locate", "joint"] if name.startswith("la_net") else ["training"]), name


def test_acsnet_asks_for_the_weights_that_its_loss_needs() -> None:
    recipe = load_recipe("paper", "acsnet")
    with pytest.raises(ObjectiveError, match="--set objective.lossnet=FILE"):
        make_objective(network("acsnet"), recipe.objective.name, recipe.objective.options)


@pytest.mark.parametrize("study", ablations())
def test_every_row_of_an_ablation_is_a_different_run_that_can_start(study: str, tmp_path: Path) -> None:
    table = ablations()[study]
    settings = ["network.size=64", "train.epochs=1"]
    settings += ["objective.gamma=0"] if study == "acsnet" else []
    runs = [plan_row(study, row, common(tmp_path), settings=settings) for row in table.rows]

    assert len({one.request.out for one in runs}) == len(runs)
    assert len({one.request.recipe.model_dump_json() + one.row.network for one in runs}) == len(runs)
    assert table.reference in [row.name for row in table.rows]
    assert all(one.request.recipe.network["size"] == 64 for one in runs)
    assert all(one.request.recipe.train.epochs == 1 for one in runs)


def test_rows_count_the_papers_parameters(tmp_path: Path) -> None:
    """Of ACSNet's Table 1, as rebuilt without the encoder's unused classifier."""
    counts = {
        row.name: plan_row("acsnet", row, common(tmp_path), settings=["objective.gamma=0"]).parameters
        for row in ablations()["acsnet"].rows
    }
    assert counts["UNet"] == 17_909_057
    assert counts["C_MS UNet"] == 18_730_179
    assert counts["C_AMS UNet"] == 18_842_131
    assert counts["proposed"] == 31_824_945


def test_a_setting_that_a_row_does_not_know_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    row = Row(name="x", network="mtl_oca")
    with pytest.raises(ObjectiveError, match="mtl_oca has no option 'gamma'"):
        plan_row("mtl_oca", row, common(tmp_path), settings=["objective.gamma=0"])
    with pytest.raises(RecipeError, match="there is no key train.epoch"):
        plan_row("mtl_oca", row, common(tmp_path), settings=["train.epoch=1"])


def test_the_live_recipe_serves_networks_of_one_task_too() -> None:
    for name in ("unet", "resnet18", "sonolite"):
        with torch.device("meta"):
            net = build(name, **network_options(load_recipe("live", name), name))
        assert len(net.classes) in (0, 3)
