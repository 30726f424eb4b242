"""Rows of an ablation trained for real, on a network and pictures small enough for a test."""

from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from train.ablations.__main__ import main
from train.ablations.rows import Row, plan_row, train_row
from train.ablations.tables import as_markdown, show, tabulate
from train.recipe import load_recipe
from train.run.request import Request
from train.run.watch import RunError

SLIM = {"widths": [8, 8, 16], "bridge": 16, "key_channels": 8}
ROWS = (
    Row(name="proposed", network="mtl_oca", options=SLIM),
    Row(name="no contextual attention", network="mtl_oca", options={**SLIM, "oca": False}),
)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("ablations")
    recipe = load_recipe("live", "mtl_oca")
    return Request(
        "", ("phantom:12",), recipe, folder / "runs", folds=2, device="cpu", cache=folder / "cache"
    )


def test_a_row_is_trained_once_and_tabulated(common: Request) -> None:
    settings = ["network.size=32", "train.epochs=1"]
    planned = [plan_row("mtl_oca", row, common, settings=settings) for row in ROWS]
    train_row(planned[0], Console(quiet=True))
    results = planned[0].request.out / "results.json"
    made = results.stat().st_mtime_ns
    train_row(planned[0], Console(quiet=True))
    assert results.stat().st_mtime_ns == made, "a row that is done is not trained again"

    table = tabulate(planned)["mtl_oca"]
    assert [row["name"] for row in table["rows"]] == ["proposed"], "the other row has not been trained"
    assert table["rows"][0]["parameters"] == planned[0].parameters
    assert table["rows"][0]["folds"] == [1]
    assert 0 <= table["rows"][0]["figures"]["dice"]["value"] <= 1
    page = as_markdown(tabulate(planned))
    assert "| **proposed** | 1 | 0.02 M | " in page
    assert "Research use only" in page
    assert "image for image" not in page, "there is nothing to compare with"

    longer = plan_row("mtl_oca", ROWS[0], common, settings=["network.size=32", "train.epochs=2"])
    with pytest.raises(RunError, match="trained with another recipe; name another folder"):
        train_row(longer, Console(quiet=True))


def test_a_further_fold_joins_those_that_are_done_and_rows_are_compared_image_for_image(
    common: Request,
) -> None:
    settings = ["network.size=32", "train.epochs=1"]
    both = common._replace(out=common.out.with_name("both"))
    planned = [plan_row("mtl_oca", row, both, settings=settings) for row in ROWS]
    for one in planned:
        train_row(one, Console(quiet=True))
    answers = planned[0].request.out / "fold-1" / "answers.npz"
    made = answers.stat().st_mtime_ns

    second = both._replace(which=(2,))
    for one in (plan_row("mtl_oca", row, second, settings=settings) for row in ROWS):
        train_row(one, Console(quiet=True))

    assert answers.stat().st_mtime_ns == made, "a fold that is done is not trained again"
    rows = tabulate(planned)["mtl_oca"]["rows"]
    without, proposed = sorted(rows, key=lambda row: str(row["name"]))
    assert without["folds"] == proposed["folds"] == [1, 2]
    assert proposed["figures"]["accuracy"]["images"] == 12, "every image was tested once"
    assert "minus_reference" not in proposed
    for figure in ("dice", "accuracy"):
        apart = without["minus_reference"][figure]
        far = without["figures"][figure]["value"] - proposed["figures"][figure]["value"]
        assert apart["value"] == pytest.approx(far, abs=2e-6)
        assert apart["interval_95"][0] <= apart["value"] <= apart["interval_95"][1]
    page = as_markdown(tabulate(planned))
    assert "Less **proposed**, image for image:" in page
    assert "| **proposed** | 1, 2 | " in page
    assert len(show(tabulate(planned))) == 2, "the figures, and the differences"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "rmtl"], "no table rmtl; --study is one of mtl_oca, ctg_net"),
        (["--study", "acsnet"], "--set objective.gamma=0"),
        (["--study", "mtl_oca", "--row", "best"], "no row best; --row is one of no contextual"),
        (["--study", "mtl_oca", "--set", "train.epoch=1"], "there is no key train.epoch"),
        (["--study", "mtl_oca", "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    data = [] if "--data" in arguments else ["--data", "phantom:6"]
    app = typer.Typer()
    app.command()(main)
    given = [
        *data,
        "--out",
        str(tmp_path / "runs"),
        "--cache",
        str(tmp_path / "cache"),
        "--size",
        "64",
        *arguments,
    ]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
