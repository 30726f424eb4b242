"""What the reader finds in BUSI itself, where it is, against lists that were made by another method."""

import csv
from pathlib import Path

import pytest

from train.sets import DataSet, read
from train.sets.heldout import heldout_names

BUSI = Path(__file__).parents[3] / "shared" / "data" / "busi"
pytestmark = pytest.mark.skipif(not BUSI.is_dir(), reason=f"BUSI is not at {BUSI}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BUSI as it is distributed: without an index."""
    root = tmp_path_factory.mktemp("busi")
    for label in ("benign", "malignant", "normal"):
        (root / label).symlink_to(BUSI / label)
    return root


@pytest.fixture(scope="module")
def found(bare: Path) -> DataSet:
    return read([bare], heldout="use")


def rows(name: str) -> list[dict[str, str]]:
    with (BUSI / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_near_duplicates_of_busi_are_found_without_its_index(found: DataSet) -> None:
    group_of = {study.name.split("/")[1].removesuffix(".png"): study.group for study in found.studies}
    listed = {frozenset((row["image_a"], row["image_b"])) for row in rows("near_duplicates.csv")}
    joined = {pair for pair in listed if len({group_of[name] for name in pair}) == 1}
    pairs = found.findings["near_duplicates"]["items"] + found.findings["exact_duplicates"]["items"]
    same = {frozenset(name.split("/")[1].removesuffix(".png") for name in pair) for pair in pairs}

    assert len(joined) / len(listed) >= 0.99
    # Most of the others are crops of one frame, or frames of one lesion, that the list lacks.
    assert len(same & listed) / len(same) >= 0.88
    assert len(set(group_of.values())) >= 570


def test_the_contradictions_and_the_double_masks_of_busi_are_found(found: DataSet) -> None:
    contradictory = {study.name for study in found.studies if study.contradictory}
    assert contradictory >= {row["image"] for row in rows("index.csv") if row["group_spans_classes"] == "1"}
    assert len(contradictory) <= 22
    assert found.findings["exact_duplicates"]["items"] == [
        ["busi: benign/benign (433).png", "busi: malignant/malignant (145).png"]
    ]
    assert found.findings["several_masks"]["count"] == 17
    assert "skipped" not in found.findings


def test_the_heldout_part_is_left_out_with_what_nearly_duplicates_it(bare: Path, found: DataSet) -> None:
    names = heldout_names()
    held_groups = {study.group for study in found.studies if study.name in names}

    free = read([bare])

    assert {study.name for study in free.studies} == {
        study.name for study in found.studies if study.group not in held_groups
    }
    assert free.findings["heldout"]["count"] == len(found.studies) - len(free.studies)
    assert "USED" in found.findings["heldout"]["says"]


def test_heldout_images_are_known_by_their_pixels_in_another_layout(tmp_path: Path) -> None:
    held = next(name for name in sorted(heldout_names()) if name.startswith("benign"))
    free = next(row["image"] for row in rows("index.csv") if row["near_dup_group"] not in _held_groups())
    (tmp_path / "renamed.png").symlink_to(BUSI / held)
    (tmp_path / "free.png").symlink_to(BUSI / free)
    path = tmp_path / "mine.csv"
    path.write_text("image,class\nrenamed.png,benign\nfree.png,benign\n")

    assert [study.name for study in read([path]).studies] == ["free.png"]
    assert [study.name for study in read([path], heldout="only").studies] == ["renamed.png"]


def _held_groups() -> set[str]:
    names = heldout_names()
    return {row["near_dup_group"] for row in rows("index.csv") if row["image"] in names}
