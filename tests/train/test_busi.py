"""The reader and the splits, on folders made here and on BUSI itself where it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.layouts import speckle
from train.busi import HELDOUT_FRACTION, HELDOUT_SEED, divide, heldout_names, read_busi, write_heldout
from train.data import DataError, read_images
from train.splits import split

BUSI = Path(__file__).parents[3] / "shared" / "data" / "busi"
needs_busi = pytest.mark.skipif(not BUSI.is_dir(), reason=f"BUSI is not at {BUSI}")


def write(path: Path, value: int = 0, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, value, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ["image,near_dup_group"]
    for group, label in enumerate(("benign", "malignant", "normal")):
        for number in (1, 2):
            write(tmp_path / label / f"{label} ({number}).png", 100)
            write(tmp_path / label / f"{label} ({number})_mask.png", 0)
            rows.append(f"{label}/{label} ({number}).png,{10 * group + number}")
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_masks_of_an_image_are_joined(folder: Path) -> None:
    for name, columns in (("_mask", slice(0, 20)), ("_mask_1", slice(40, 60))):
        mask = np.zeros((40, 60), np.uint8)
        mask[:, columns] = 255
        cv2.imwrite(str(folder / "benign" / f"benign (1){name}.png"), mask)

    images = read_images(read_busi(folder), 30)

    lesion = images.masks[images.names.index("benign/benign (1).png")]
    assert lesion[15].tolist() == [255] * 10 + [0] * 10 + [255] * 10


def test_groups_with_contradictory_labels_are_left_out(folder: Path) -> None:
    index = folder / "index.csv"
    index.write_text(index.read_text().replace("malignant (2).png,12", "malignant (2).png,1"))

    names = [study.name for study in read_busi(folder)]

    assert "malignant/malignant (2).png" not in names
    assert "benign/benign (1).png" not in names
    assert len(names) == 4


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    with pytest.raises(DataError, match="it has no folder malignant, normal; name the folder that holds"):
        read_busi(tmp_path)


def test_without_an_index_the_groups_are_found_by_comparing_the_pictures(folder: Path) -> None:
    (folder / "index.csv").unlink()
    for number, label in enumerate(("benign", "benign", "malignant", "malignant", "normal", "normal")):
        picture = speckle(number, (40, 60))
        cv2.imwrite(str(folder / label / f"{label} ({number % 2 + 1}).png"), picture)
    cv2.imwrite(str(folder / "normal" / "normal (3).png"), speckle(5, (40, 60)))
    cv2.imwrite(str(folder / "malignant" / "malignant (3).png"), speckle(0, (40, 60)))

    groups = {study.name: study.group for study in read_busi(folder)}

    assert "benign/benign (1).png" not in groups, "it is malignant (3) too"
    assert groups["normal/normal (2).png"] == groups["normal/normal (3).png"]
    assert len(set(groups.values())) == len(groups) - 1 == 5


def test_an_image_without_its_row_mask_or_image_is_named(folder: Path) -> None:
    write(folder / "benign" / "benign (7)_mask.png")
    with pytest.raises(DataError, match=r"benign \(7\)_mask.png has no image"):
        read_busi(folder)
    write(folder / "benign" / "benign (7).png")
    with pytest.raises(DataError, match=r"has no row for benign/benign \(7\).png"):
        read_busi(folder)
    (folder / "benign" / "benign (7)_mask.png").unlink()
    with pytest.raises(DataError, match=r"benign \(7\).png has no mask"):
        read_busi(folder)


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    write(folder / "benign" / "benign (1)_mask.png", size=(41, 60))
    with pytest.raises(DataError, match="is 60 x 41 pixels, its image benign .1..png is 60 x 40"):
        read_images(read_busi(folder), 32)


def test_a_damaged_picture_is_named(folder: Path) -> None:
    (folder / "normal" / "normal (2).png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"normal \(2\).png is cut short"):
        read_images(read_busi(folder), 32)


@needs_busi
def test_no_split_of_busi_shares_a_group_or_an_image() -> None:
    development, heldout = divide(read_busi(BUSI))
    rest, inner = split(development, 0.15, 1)
    parts = [rest, inner, heldout]

    for one in range(3):
        for other in range(one):
            assert not {s.group for s in parts[one]} & {s.group for s in parts[other]}
            assert not {s.name for s in parts[one]} & {s.name for s in parts[other]}
    assert sum(map(len, parts)) == 761


@needs_busi
def test_the_heldout_list_is_a_stratified_fifth_and_fixed_by_its_seed(tmp_path: Path) -> None:
    studies = read_busi(BUSI)
    names = heldout_names()
    for label in ("benign", "malignant", "normal"):
        of_label = [study for study in studies if study.label == label]
        share = sum(study.name in names for study in of_label) / len(of_label)
        assert abs(share - 0.2) < 0.01

    write_heldout(BUSI, tmp_path / "again.csv")

    listed = (Path(__file__).parents[2] / "train" / "busi_heldout.csv").read_text()
    assert (tmp_path / "again.csv").read_text() == listed
    assert {s.name for s in split(studies, HELDOUT_FRACTION, HELDOUT_SEED)[1]} == names


@needs_busi
def test_a_near_duplicate_of_a_heldout_image_is_kept_from_development() -> None:
    studies = read_busi(BUSI)
    twin = next(s for s in studies if s.name in heldout_names())
    added = type(twin)("benign/benign (9999).png", twin.label, twin.group, twin.image, twin.masks)

    development, heldout = divide([*studies, added])

    assert added not in development
    assert added not in heldout
