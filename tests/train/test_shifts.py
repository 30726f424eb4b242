import json
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.train.layouts import write_busi
from train.data import read_images
from train.sets import read
from train.shifts import CHANGES, changed_images, command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_busi(tmp_path_factory.mktemp("busi"))


def test_pictures_as_they_are_are_those_that_evaluation_reads(folder: Path) -> None:
    studies = read([str(folder)]).studies

    images = changed_images(studies, CHANGES["as they are"], 64)

    expected = read_images(studies, 64)
    assert np.array_equal(images.pixels, expected.pixels)
    assert np.array_equal(images.masks, expected.masks)
    assert np.array_equal(images.labels, expected.labels)


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "as they are"])
def test_a_change_shows_in_the_picture_and_keeps_the_lesion(folder: Path, name: str) -> None:
    studies = [study for study in read([str(folder)]).studies if study.label != "normal"]
    plain = changed_images(studies, CHANGES["as they are"], 64)

    changed = changed_images(studies, CHANGES[name], 64)

    assert not np.array_equal(changed.pixels, plain.pixels)
    assert np.array_equal(changed.pixels, changed_images(studies, CHANGES[name], 64).pixels)
    before, after = plain.masks.mean(axis=(1, 2)), changed.masks.mean(axis=(1, 2))
    if name == "closer":
        assert (after > before).all()
    elif name == "farther":
        assert (after < before).all()
        assert (after > 0).all()
    else:
        assert np.array_equal(changed.masks, plain.masks)


def test_the_command_scores_every_change(folder: Path, tmp_path: Path) -> None:
    program = Typer()
    program.command()(command)

    answer = CliRunner().invoke(
        program, ["default", "--data", str(folder), "--json", str(tmp_path / "shifts.json")]
    )

    assert answer.exit_code == 0, answer.output
    assert "not other scanners" in answer.output
    report = json.loads((tmp_path / "shifts.json").read_text())
    assert list(report["changes"]) == list(CHANGES)
    assert all(0 <= row["dice"] <= 1 for row in report["changes"].values())
