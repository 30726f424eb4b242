"""What docs/TRAINING.md shows can be typed, and what it says of recipes is what they hold."""

import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer

pytest.importorskip("torch", reason="trains (pip install 'sonostream[train]')")

from benchmarks.commands.networks import networks
from models.networks.cards import CARDS
from train.ablations.__main__ import main as train_ablations
from train.ablations.rows import ablations
from train.commands.evaluate import evaluate_command
from train.commands.train import train_command
from train.objectives import resolve
from train.recipe import load_recipe, paper_recipes
from train.sets import read

PAGE = (Path(__file__).parents[1] / "docs" / "TRAINING.md").read_text()
LINES = re.findall(
    r"^    (.*(?:sonostream (?:train|evaluate|bench networks)|-m train).*)$", PAGE, re.MULTILINE
)
SETTINGS = re.findall(r"--set\s+([a-z_]+\.[^\s`]+)", PAGE)


COMMANDS = {
    "train": train_command,
    "evaluate": evaluate_command,
    "train.ablations": train_ablations,
    "networks": networks,
}


def parse(line: str) -> dict[str, Any]:
    """Read a line as its command would, without running it."""
    words = shlex.split(line)
    place = next(index for index, word in enumerate(words) if word in COMMANDS)
    app = typer.Typer()
    app.command()(COMMANDS[words[place]])
    return dict(typer.main.get_command(app).make_context("page", words[place + 1 :]).params)


@pytest.mark.parametrize("line", LINES)
def test_every_line_it_shows_is_understood(line: str) -> None:
    given = parse(line)
    if "recipe" in given:
        recipe = load_recipe(given["recipe"], given["model"], given["setting"] or ())
        assert given["model"] in CARDS
        resolve(recipe.objective.name, recipe.objective.options)
    assert set(given.get("study") or ()) <= set(ablations())


def test_it_shows_every_papers_recipe_with_the_weights_it_starts_from() -> None:
    shown = {given["model"]: given for given in map(parse, LINES) if given.get("recipe") == "paper"}
    assert set(shown) == {"mtl_oca", "ctg_net", "rmtl_net", "la_net_r18", "acsnet"}
    for name, given in shown.items():
        weights = given["weights"]
        assert (None if weights is None else str(weights)) == CARDS[name].weights


def test_every_setting_it_names_belongs_to_a_recipe() -> None:
    homes = {"objective": paper_recipes(), "network": ["ctg_net"], "stages": ["la_net_r18"]}
    for setting in SETTINGS:
        table, _, rest = setting.partition(".")
        key = rest.partition("=")[0]
        recipes = [load_recipe("paper", name) for name in homes.get(table, ["mtl_oca"])]
        if table == "objective":
            known = {key for one in recipes for key in resolve(one.objective.name, one.objective.options)}
            assert key in known | {"lossnet"}, setting
        elif table == "network":
            assert key in ("gland", "num_classes"), setting
        else:
            assert hasattr(getattr(recipes[0], table), key), setting
    assert len(SETTINGS) >= 8


def test_the_csv_file_it_shows_is_read_as_it_says(tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(0)
    for name in sorted(set(re.findall(r"a/\w+\.png", table))):
        picture = rng.integers(0, 255, (300, 400), np.uint8)
        if "_" in name:
            picture[:] = 0
            picture[100:150, 150:220] = 255
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "set.csv").write_text(table)

    one, two, three, four = read([str(tmp_path / "set.csv")]).studies
    assert (one.label, one.patient, one.spacing_mm) == ("benign", "P17", (0.08, 0.08))
    assert two.masks is None
    assert tuple(two.boxes[0]) == (210, 95, 120, 80)
    assert three.masks == ()
    assert three.gland is not None
    assert four.masks is not None
    assert (four.label, len(four.masks)) == (None, 2)
