"""Trained networks against each other: runs made by the trainer, timed, drawn and kept."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import pytest
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("torch", reason="compares trained networks (pip install 'sonostream[train]')")

from benchmarks.command import bench
from benchmarks.daemon import BenchError
from benchmarks.live import progress_bar
from benchmarks.networks.draw import draw
from benchmarks.networks.front import pareto_front
from benchmarks.networks.keep import keep
from benchmarks.networks.labels import Box, place
from benchmarks.networks.run import ComparisonSettings, run_networks, write
from benchmarks.networks.runs import read_runs
from benchmarks.networks.tables import as_markdown, with_interval
from train.ablations.rows import Row, plan_row, train_row
from train.recipe import load_recipe
from train.run.request import Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # torch.export's own bookkeeping, on its way out of PyTorch.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

TINY = {"widths": [8, 8, 16], "bridge": 16, "key_channels": 8}
SETTINGS = ["network.size=32", "train.epochs=1", "train.batch=6", "train.bf16=false"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Runs of a network that does both tasks and of one that has no masks, of other folds."""
    folder = tmp_path_factory.mktemp("runs")
    common = Request(
        "",
        ("phantom:18",),
        load_recipe("live", "mtl_oca"),
        folder,
        folds=2,
        device="cpu",
        cache=folder / "cache",
    )
    made = []
    for seed, study, row in (
        (1, "la_net", Row(name="classifier", network="resnet18")),
        (0, "mtl_oca", Row(name="proposed", network="mtl_oca", options=TINY)),
    ):
        planned = plan_row(study, row, common._replace(seed=seed), settings=SETTINGS)
        train_row(planned, Console(quiet=True))
        made.append(planned.request.out)
    return tuple(made)


@pytest.fixture(scope="module")
def compared(folders: tuple[Path, ...]) -> dict[str, Any]:
    settings = ComparisonSettings(rounds=3, data=("phantom:18",), cache=folders[0].parents[1] / "cache")
    with pytest.MonkeyPatch.context() as patch, progress_bar(Console(file=StringIO())) as progress:
        patch.setattr("models.runtimes.choice.BUDGET_S", 0.0)  # whichever engine: it is not what is tested
        return run_networks(read_runs(folders), settings, progress)


@pytest.fixture(scope="module")
def written(compared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("comparison") / "out"
    write(compared, out)
    return out


@pytest.fixture
def copied(folders: tuple[Path, ...], tmp_path: Path) -> Path:
    """The run that does both tasks, to be spoilt."""
    return Path(shutil.copytree(folders[1], tmp_path / "run"))


def test_every_figure_is_the_runs_own_and_says_how_it_was_made(
    written: Path, folders: tuple[Path, ...]
) -> None:
    report = json.loads((written / "comparison.json").read_text())
    rows = {row["label"]: row for row in report["networks"]}

    assert list(rows) == ["mtl_oca", "resnet18"], "networks with masks come first"
    for folder, row in zip(folders, (rows["resnet18"], rows["mtl_oca"]), strict=True):
        results = json.loads((folder / "results.json").read_text())
        figures = results["parts"][0]["figures"]
        assert row["figures"] == {name: figures.get(name) for name in ("dice", "auc", "accuracy")}
        made = row["training"]
        assert made["size"] == made["recipe"]["network"]["size"] == 32
        assert (made["folds"], made["of_folds"], made["epochs"]) == ([1], 2, [1])
        assert made["images"]["test"] == made["tested"] == results["parts"][0]["counts"]["images"]
        assert made["selection"] == "inner validation split"
        assert sum(one["images"] for one in row["by_size"]) == 6, "every lesion of the test part"
    assert report["machine"]["cores"] >= 1
    assert rows["resnet18"]["figures"]["dice"] is None
    assert {"network.size: 32 (paper's recipe: 128)", "train.epochs: 1 (paper's recipe: 400)"} <= set(
        rows["mtl_oca"]["differs_from_paper"]
    )
    assert any(said.startswith("first weights: random") for said in rows["resnet18"]["differs_from_paper"])


def test_every_network_is_timed_in_an_engine_also_one_without_masks(written: Path) -> None:
    for row in json.loads((written / "comparison.json").read_text())["networks"]:
        times = row["latency_ms"]
        assert 0 < times["min"] <= times["p50"] <= times["p95"]
        assert row["calls"] == 6, "the first of every three calls is not counted"
        assert row["engine"]["name"] != "torch"


def test_probabilities_are_calibrated_on_other_images_than_they_are_judged_on(
    compared: dict[str, Any], folders: tuple[Path, ...]
) -> None:
    parts = {run.label: run.part for run in read_runs(folders)}
    for row in compared["networks"]:
        found, figures = row["calibration"], parts[row["label"]]["figures"]
        assert found["fitted_by"] == "this comparison, on the inner validation part"
        for name in ("calibration_error", "brier"):
            assert found["before"][name]["value"] == pytest.approx(figures[name]["value"], abs=1e-5)
            assert found["after"][name]["value"] >= 0
        assert 0.05 <= found["temperatures"][0] <= 20


def test_the_page_shows_the_figures_of_the_json_file(written: Path) -> None:
    report = json.loads((written / "comparison.json").read_text())
    page = (written / "comparison.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines() if "x 32 x" in line}

    assert "Research use only" in page
    for row in report["networks"]:
        line = lines[row["label"]].replace("**", "")
        for figure in row["figures"].values():
            assert figure is None or f"| {with_interval(figure)} |" in line
        assert f"| {row['latency_ms']['p50']:.2f} |" in line
        assert all(f"- {said}" in page for said in row["differs_from_paper"])
    assert f"**{with_interval(report['networks'][0]['figures']['dice'])}**" in page, "alone, so on the front"


def test_networks_that_were_tested_on_other_lesions_are_told_apart(
    compared: dict[str, Any], folders: tuple[Path, ...]
) -> None:
    lesions = []
    for folder in folders:
        with (folder / "folds.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        lesions.append({row["image"] for row in rows if row["fold"] == "1" and row["class"] != "normal"})
    assert lesions[0] != lesions[1], "another seed deals other folds"

    first, second = compared["tested_alike"]
    assert (first["networks"], second["networks"]) == (["resnet18"], ["mtl_oca"])
    assert (second["lesions"], second["shared"]) == (len(lesions[1]), len(lesions[0] & lesions[1]))
    assert "mtl_oca: tested on other lesions than resnet18" in as_markdown(compared)
    alike = {**compared, "tested_alike": [{**first, "networks": ["resnet18", "mtl_oca"]}]}
    assert "tested on other lesions" not in as_markdown(alike)


def test_the_picture_is_legible_at_800_pixels(written: Path) -> None:
    picture = cv2.imread(str(written / "comparison.png"))
    assert picture is not None
    assert picture.shape[1] == pytest.approx(800, abs=1)
    assert "<svg" in (written / "comparison.html").read_text()


def test_a_network_is_only_in_the_panels_it_has_figures_for(
    compared: dict[str, Any],
) -> None:
    dice, auc = draw(compared).axes
    assert [text.get_text() for text in dice.texts] == ["mtl_oca", "a frame at 30 fps"]
    assert {text.get_text() for text in auc.texts} == {"mtl_oca", "resnet18", "a frame at 30 fps"}


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.6)}, ["a", "c"]),
        ({"same": (1, 0.5), "as": (1, 0.5)}, ["same", "as"]),
        ({"slower": (2, 0.5), "faster": (1, 0.5)}, ["faster"]),
        ({"worse": (1, 0.4), "better": (1, 0.5)}, ["better"]),
        ({"unknown": (0.1, None), "known": (1, 0.0)}, ["known"]),
        ({"unknown": (1, None)}, []),
        ({}, []),
    ],
)
def test_the_front_holds_what_nothing_else_beats(
    points: dict[str, tuple[float, float | None]], front: list[str]
) -> None:
    assert pareto_front(points) == front


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    points = {f"network {n}": (100 + 13.0 * (n % 3), 100 + 9.0 * (n // 3)) for n in range(9)}
    placed = place(points, dict.fromkeys(points, (60, 12)), Box(0, 0, 350, 350))

    boxes = [*placed.values(), *(Box(x - 4, y - 4, x + 4, y + 4) for x, y in points.values())]
    for number, box in enumerate(placed.values()):
        assert all(box.overlap(other) == 0 for place, other in enumerate(boxes) if place != number)
        assert box.overlap(Box(0, 0, 350, 350)) == pytest.approx(60 * 12)


def test_a_kept_run_names_no_place_of_the_machine(copied: Path, tmp_path: Path) -> None:
    home = tmp_path / "sets" / "busi"
    home.mkdir(parents=True)
    results, data = copied / "results.json", copied / "data.json"
    for file in (results, data):
        file.write_text(file.read_text().replace("phantom:18", str(home)))
    (run,) = read_runs([copied])

    names = {file.name for file in keep([run], tmp_path / "kept")}

    assert names == {"results.json", "recipe.toml", "folds.csv", "epochs.jsonl"}, "a report shows patients"
    text = (tmp_path / "kept" / "mtl_oca" / "results.json").read_text()
    assert "PATH_OF_PHANTOM" in text
    assert str(tmp_path) not in text
    own = f"--out {tmp_path}/sets --cache={tmp_path}/sets "
    results.write_text(results.read_text().replace('"command": "', f'"command": "{own}'))
    keep([run], tmp_path / "kept")
    assert '"command": "--out OUT --cache=CACHE ' in (tmp_path / "kept/mtl_oca/results.json").read_text()
    results.write_text(results.read_text().replace('"command": "', f'"command": "{tmp_path}/sets '))
    with pytest.raises(BenchError, match="names .*sets, a place of this machine"):
        keep([run], tmp_path / "kept")


def test_what_is_no_finished_run_is_one_clear_error(copied: Path, tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        done = CliRunner().invoke(bench, ["networks", str(folder), "--out", str(tmp_path / "out")])
        assert done.exit_code == 2, done.output
        assert done.stderr.count("\n") == 1
        return done.stderr

    (copied / "mtl_oca.onnx").unlink()
    assert "holds no mtl_oca.onnx: finish the run, or export its best weights" in said(copied)
    results = copied / "results.json"
    whole = json.loads(results.read_text())
    results.write_text(json.dumps({**whole, "schema": "sonostream.results/2"}))
    assert "has the schema 'sonostream.results/2', this version reads 'sonostream.results/1'" in said(copied)
    results.write_text(json.dumps({**whole, "kind": "evaluation"}))
    assert "is of an evaluation, not of a run" in said(copied)
    results.write_text("{")
    assert "cannot be read" in said(copied)
    results.unlink()
    assert "holds no results.json" in said(copied)
