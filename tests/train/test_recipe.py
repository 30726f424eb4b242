"""Recipes: what a file may say, what may be overridden, what is refused."""

from pathlib import Path

import pytest

from models.networks.registry import list_models
from train.learning.stages import plan
from train.recipe import RecipeError, load_recipe, paper_recipes, save_recipe


@pytest.mark.parametrize("network", list_models())
def test_every_network_has_a_live_recipe_of_three_classes(network: str) -> None:
    live = load_recipe("live", network)
    assert live.network["num_classes"] == 3
    assert live.calibrate
    assert len(plan(live)) == 1


def test_the_live_recipe_expects_what_real_feeds_do_to_a_picture() -> None:
    live = load_recipe("live", "sonolite")
    changes = ("gain", "depth_gain", "speckle", "compression", "marks", "borders", "closer", "shift")
    assert all(getattr(live.augment, name) > 0 for name in changes)
    # Sweeps of the phantom, with lifted probes and normal tissue.
    assert live.draw.synthetic_share > 0
    assert live.objective.options["label_smoothing"] > 0


@pytest.mark.parametrize("network", sorted(paper_recipes()))
def test_a_resolved_recipe_is_read_back_as_it_was(network: str, tmp_path: Path) -> None:
    recipe = load_recipe("paper", network, ["train.epochs=7", "optimizer.lr=3e-4"])
    save_recipe(recipe, tmp_path / "recipe.toml")

    assert load_recipe(str(tmp_path / "recipe.toml"), network) == recipe


def test_values_are_overridden_one_by_one() -> None:
    plain = load_recipe("live", "mtl_oca")
    changed = load_recipe(
        "live",
        "mtl_oca",
        ["optimizer.lr=1e-4", "network.widths=[8, 8, 16]", "schedule.name=constant", "train.epochs=9"],
    )
    assert changed.optimizer.lr == 1e-4
    assert changed.network == {**plain.network, "widths": [8, 8, 16]}
    assert changed.schedule.name == "constant"
    assert (changed.train.epochs, changed.train.minutes) == (9, None)
    assert changed.augment == plain.augment


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optimizer.rate=1", "there is no key optimizer.rate; optimizer has name, lr, betas"),
        ("colour.red=1", "there is no key colour; the tables and keys are"),
        ("train.batch=0", "train.batch: Input should be greater than or equal to 1, not 0"),
        ("optimizer.lr=fast", "optimizer.lr: .*number.* not 'fast'"),
        ("augment.rotation=3", "there is no key augment.rotation"),
        ("optimizer.lr", "write TABLE.KEY=VALUE"),
        ("name.first=1", "name is a value, not a table"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_possible(setting: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe("live", "mtl_oca", [setting])


def test_a_wrong_file_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepochs = 3\nbatches = 4\n")
    with pytest.raises(RecipeError, match=r"mine\.toml: there is no key train\.batches; train has batch"):
        load_recipe(str(path), "mtl_oca")
    path.write_text("[train\n")
    with pytest.raises(RecipeError, match=r"mine\.toml is no TOML"):
        load_recipe(str(path), "mtl_oca")
    path.write_text("[optimizer]\nlr = 1e-3\n")
    with pytest.raises(RecipeError, match="either epochs or minutes"):
        load_recipe(str(path), "mtl_oca")
    with pytest.raises(RecipeError, match="it is live, paper or the name of a TOML file"):
        load_recipe("lively", "mtl_oca")


def test_stages_belong_to_la_net(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepochs = 3\n[stages]\nfirst_epochs = 2\n")
    with pytest.raises(RecipeError, match="for objective.name = 'la_net', not 'generic'"):
        plan(load_recipe(str(path), "mtl_oca"))
    first, second = plan(load_recipe("paper", "la_net_r18"))
    assert (first.located_only, first.last, second.located_only, second.last) == (True, False, False, True)
    assert (first.budget.epochs, second.budget.epochs) == (10, 100)
