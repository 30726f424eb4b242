"""The report of a run: from its folder alone, one file that opens offline."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from torch import Tensor, nn

from models.networks.base import Network, Output
from models.networks.registry import build, list_models
from tests.programs import require_program
from tests.streamer.view.conftest import ARGUMENTS
from tests.train.runs import finished_run
from train.data import DataError
from train.report import write
from train.report.gradcam import grad_cam, layer_of
from train.report.papers import paper_of, published
from train.report.pictures import rank
from train.report.words import words


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = finished_run(tmp_path_factory.mktemp("runs") / "run")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "results.json").read_text())
    return read


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_program("chromium", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


def test_the_report_opens_offline_without_an_error_or_a_request(
    run: Path, browser: Browser, tmp_path: Path
) -> None:
    alone = shutil.copy(run / "report.html", tmp_path / "report.html")  # without anything beside it
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url[:80]))

    page.goto(Path(alone).as_uri())

    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [Path(alone).as_uri()[:80]]
    shown = page.evaluate(
        "() => [...document.images].map((one) => [one.complete && one.naturalWidth, one.alt])"
    )
    assert len(shown) >= 8
    assert all(width and alt for width, alt in shown)
    for heading in (
        "Main figures",
        "Fold by fold",
        "Beside the papers",
        "Curves",
        "Pictures",
        "Data and model",
    ):
        assert page.get_by_role("heading", name=heading, exact=True).is_visible()
    assert page.get_by_text("Research use only.").first.is_visible()
    # Nothing sticks out of a page that is printed.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 760, "height": 1000})
    assert page.evaluate("() => document.body.scrollWidth <= window.innerWidth")
    page.close()


def test_results_hold_the_figures_of_every_fold_and_what_they_come_to(
    run: Path, results: dict[str, Any], page: str
) -> None:
    assert results["schema"] == "sonostream.results/1"
    dice = [fold["figures"]["dice"] for fold in results["folds"]]
    summary = results["summary"]["dice"]

    assert summary["mean"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert summary["sd"] == pytest.approx(np.std(dice, ddof=1), abs=1e-5)
    assert f"{summary['mean']:.3f} ± {summary['sd']:.3f}" in page
    pooled = results["parts"][0]["figures"]["dice"]
    low, high = pooled["interval_95"]
    assert f"{pooled['value']:.3f} [{low:.3f}, {high:.3f}]" in page
    one = json.loads((run / "fold-2" / "results.json").read_text())["parts"][0]["figures"]["dice"]["value"]
    assert one == pytest.approx(dice[1])


def test_results_say_how_far_probabilities_were_off_before_the_temperature_and_are_after_it(
    results: dict[str, Any],
) -> None:
    part = results["parts"][0]
    for bins, error in (
        ("reliability_before_temperature", "error_before_temperature"),
        ("reliability", "error_after_temperature"),
    ):
        off = [abs(one["confidence"] - one["accuracy"]) * one["images"] for one in part[bins]]
        assert part["calibration"][error] == pytest.approx(sum(off) / 18, abs=1e-5)
    assert part["calibration"]["error_after_temperature"] == part["figures"]["calibration_error"]["value"]


def test_the_report_says_how_the_paper_differs_and_where_its_figures_are_from(
    results: dict[str, Any], page: str
) -> None:
    points = {row["says"] for row in results["papers"]["protocol"]}

    assert points == {"images", "split", "checkpoint", "positive class", "spread", "distances"}
    assert "18 tested, 6 normals among them" in page
    assert "780 of BUSI" in page
    assert "unverified" in page  # MTL-OCA's tables are lost
    assert "near-duplicates and patients kept together" in page


def test_the_report_shows_the_data_the_calibration_and_the_command(page: str) -> None:
    assert "CC BY 4.0" in page
    assert "pairs of images that show nearly the same" in page
    assert "before temperature" in page or "Temperature 1.5" in page
    assert "--data &lt;BUSI&gt;" in page  # escaped: what is in a file name is text


def test_weights_chosen_on_the_test_part_are_called_optimistic(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "fold-2")
    data = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps({**data, "selection": "test part", "heldout": "use"}))

    write(copy)

    page = (copy / "report.html").read_text()
    assert "Optimistic: the weights" in page
    assert "held-out fifth was used" in page
    assert "Fold by fold" not in page  # one fold has no spread


def test_a_run_that_tested_nothing_has_no_report(tmp_path: Path) -> None:
    (tmp_path / "fold-1").mkdir()
    with pytest.raises(DataError, match="has no fold with answers"):
        write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_report_that_cannot_be_written_says_so(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()  # in its way
    with pytest.raises(DataError, match=r"cannot write .*report\.html: "):
        write(copy)
    assert not list(copy.glob("*.partial"))


class Averaging(Network):
    """One convolution, its mean over the picture, one weight per class: Grad-CAM is the CAM of its map."""

    def __init__(self) -> None:
        super().__init__(size=8, size_divisor=1, classes=("benign", "malignant"), regions=(), in_channels=1)
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)

    def forward(self, frames: Tensor) -> Output:
        logits: Tensor = self.fc(self.maps(frames).mean(dim=(2, 3)))
        return Output(None, None, logits, {})


def test_grad_cam_of_an_averaging_network_is_its_weighted_map() -> None:
    network = Averaging()
    with torch.no_grad():
        network.maps.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        network.fc.weight.copy_(torch.tensor([[-1.0, 0.0], [2.0, 1.0]]))
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2, 3], pixels[5, 5] = 200, 100

    malignant = grad_cam(network, pixels, 1, "maps")
    benign = grad_cam(network, pixels, 0, "maps")

    # Maps are x and -x, weights 2 and 1: 2 x - x = x; for benign -x, of which nothing is left.
    assert malignant == pytest.approx(pixels / 200)
    assert not benign.any()


@pytest.mark.parametrize("name", [name for name in list_models() if paper_of(name)])
def test_every_network_of_a_paper_that_classifies_has_a_layer_to_be_explained_at(name: str) -> None:
    with torch.device("meta"):
        network = build(name)
    layer = layer_of(network)
    assert (layer is not None) == bool(network.classes)


def test_what_the_papers_print_is_read_on_our_scale() -> None:
    rows = {(row.network, row.data): row for row in published()}

    assert rows["acsnet", "BUSI"].figures["dice"] == pytest.approx((0.849, 0.0169))
    assert rows["acsnet", "BUSI"].figures["hd95_px"] == pytest.approx((13.04, 2.58))
    assert rows["ctg_net", "UDIAT"].figures["sensitivity"] == (0.87, None)
    assert {row.network for row in rows.values()} <= set(list_models())
    assert {paper_of(row.network) for row in rows.values()} == {row.paper for row in rows.values()}
    for row in rows.values():
        assert all(words(name).says for name in row.figures)
        assert re.search(r"Table", row.source)


def test_best_median_and_worst_are_different_images() -> None:
    dice = np.array([0.1, 0.9, 0.5, 0.7, np.nan, 0.3, 0.8])
    rows = np.isfinite(dice)

    assert dict(rank(dice, rows, 2)) == {"best": [1, 6], "median": [3, 2], "worst": [0, 5]}
    assert dict(rank(dice, rows & (dice > 0.6), 2)) == {"best": [1], "median": [6], "worst": [3]}
