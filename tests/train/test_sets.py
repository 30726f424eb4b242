"""Data sets in their layouts on disk: what is read, what is left out and listed, what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.layouts import (
    SIZE,
    disc,
    save,
    speckle,
    write_bus_bra,
    write_busi,
    write_csv,
    write_udiat,
    write_xlsx,
)
from train.data import Box, DataError, Study
from train.sets import DataSet, read


def by_name(found: DataSet) -> dict[str, Study]:
    return {study.name: study for study in found.studies}


def test_busi_is_read_without_an_index(tmp_path: Path) -> None:
    found = read([write_busi(tmp_path)])

    studies = by_name(found)
    assert len(studies) == 9
    assert studies["benign/benign (2).png"].label == "benign"
    assert studies["benign/benign (2).png"].masks == (tmp_path / "benign" / "benign (2)_mask.png",)
    assert {study.source for study in found.studies} == {"busi"}
    assert len({study.group for study in found.studies}) == 9
    assert set(found.findings) == {"sets"}


def test_several_masks_of_an_image_are_reported_and_joined(tmp_path: Path) -> None:
    save(write_busi(tmp_path) / "malignant" / "malignant (1)_mask_1.png", disc(radius=3))
    found = read([tmp_path])
    assert found.findings["several_masks"]["items"] == ["busi: malignant/malignant (1).png"]
    assert len(by_name(found)["malignant/malignant (1).png"].masks or ()) == 2


def test_exact_and_near_duplicates_share_a_group_and_are_listed(tmp_path: Path) -> None:
    write_busi(tmp_path)
    large = speckle(77, (480, 640))
    marked = large[8:470, 20:630].copy()
    cv2.drawMarker(marked, (300, 200), 255, cv2.MARKER_CROSS, 20, 2)
    for number, picture in ((7, large), (8, large), (9, marked)):
        save(tmp_path / "benign" / f"benign ({number}).png", picture)
        save(tmp_path / "benign" / f"benign ({number})_mask.png", disc(picture.shape[:2]))

    found = read([tmp_path])

    groups = {name: study.group for name, study in by_name(found).items()}
    assert len({groups[f"benign/benign ({number}).png"] for number in (7, 8, 9)}) == 1
    assert len(set(groups.values())) == len(groups) - 2
    exact, near = found.findings["exact_duplicates"], found.findings["near_duplicates"]
    assert exact["items"] == [["busi: benign/benign (7).png", "busi: benign/benign (8).png"]]
    assert near["items"] == [["busi: benign/benign (7).png", "busi: benign/benign (9).png"]]
    assert not any(study.contradictory for study in found.studies)


def test_the_same_picture_in_two_classes_is_marked_as_contradictory(tmp_path: Path) -> None:
    write_busi(tmp_path)
    save(tmp_path / "malignant" / "malignant (2).png", speckle(1))  # benign (1)
    found = read([tmp_path])
    names = {"benign/benign (1).png", "malignant/malignant (2).png"}
    assert {study.name for study in found.studies if study.contradictory} == names
    assert found.findings["contradictory"]["count"] == 1


def test_groups_that_an_index_states_are_joined_with_those_that_are_found(tmp_path: Path) -> None:
    write_busi(tmp_path)
    save(tmp_path / "normal" / "normal (2).png", speckle(2001))  # normal (1)
    stated = [["normal/normal (2).png", 5], ["normal/normal (3).png", 5]]
    write_csv(tmp_path / "index.csv", [["image", "near_dup_group"], *stated])
    found = read([tmp_path])
    normal = {study.group for study in found.studies if study.label == "normal"}
    assert len(normal) == 1
    assert "index.csv states" in found.findings["stated_duplicates"]["says"]


def test_the_hidden_files_of_an_archive_are_no_images(tmp_path: Path) -> None:
    (write_busi(tmp_path) / "benign" / "._benign (1).png").write_bytes(b"Mac OS X")
    found = read([tmp_path])
    assert len(found.studies) == 9
    assert "skipped" not in found.findings


def test_a_set_without_normals_is_read(tmp_path: Path) -> None:
    write_busi(tmp_path, normal=0)
    assert {study.label for study in read([tmp_path]).studies} == {"benign", "malignant"}


@pytest.mark.parametrize("name", ["malignent", "Malignant", "malignants"])
def test_a_misspelt_class_folder_is_named(tmp_path: Path, name: str) -> None:
    write_busi(tmp_path)
    (tmp_path / "malignant").rename(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is no class; rename it to malignant"):
        read([tmp_path])


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_busi(tmp_path, malignant=0)
    (tmp_path / "malignant").mkdir()
    with pytest.raises(DataError, match="malignant holds no image"):
        read([tmp_path])


def test_files_that_cannot_be_used_are_left_out_and_listed_with_the_reason(tmp_path: Path) -> None:
    write_busi(tmp_path, benign=4, malignant=4, normal=4)
    (tmp_path / "benign" / "benign (1).png").unlink()
    cut = tmp_path / "benign" / "benign (2).png"
    cut.write_bytes(cut.read_bytes()[:-300])
    save(tmp_path / "benign" / "benign (3)_mask.png", disc((SIZE[0], SIZE[1] + 1)))
    (tmp_path / "malignant" / "malignant (1)_mask.png").write_bytes(b"nothing")
    save(tmp_path / "normal" / "normal (1)_mask.png", disc())

    found = read([tmp_path])

    skipped = {Path(item["file"]).name: item["reason"] for item in found.findings["skipped"]["items"]}
    assert found.findings["skipped"]["count"] == 5
    assert "has no image" in skipped["benign (1)_mask.png"]
    assert "is cut short" in skipped["benign (2).png"]
    assert "is 97 x 72 pixels, its image is 96 x 72" in skipped["benign (3).png"]
    assert "is no picture" in skipped["malignant (1).png"]
    assert "is normal, yet a lesion is marked" in skipped["normal (1).png"]
    assert len(found.studies) == 7


def test_a_lesion_without_a_mask_or_with_an_empty_one_keeps_its_class_only(tmp_path: Path) -> None:
    write_busi(tmp_path)
    (tmp_path / "benign" / "benign (1)_mask.png").unlink()
    save(tmp_path / "benign" / "benign (2)_mask.png", np.zeros(SIZE, np.uint8))
    found = read([tmp_path])
    assert found.findings["no_mask"]["items"] == ["busi: benign/benign (1).png"]
    assert found.findings["empty_masks"]["items"] == ["busi: benign/benign (2).png"]
    studies = by_name(found)
    assert studies["benign/benign (1).png"].masks is studies["benign/benign (2).png"].masks is None
    assert studies["benign/benign (3).png"].masks is not None


def test_bus_bra_is_read_with_its_patients_and_folds(tmp_path: Path) -> None:
    found = read([write_bus_bra(tmp_path, folds=True)])

    left, right = by_name(found)["bus_0003-l.png"], by_name(found)["bus_0003-r.png"]
    assert left.label == right.label == "malignant"
    assert left.patient == right.patient == "3"
    assert left.group == right.group
    assert left.masks == (tmp_path / "Masks" / "mask_0003-l.png",)
    assert left.split == "2"
    assert len({study.group for study in found.studies}) == 6
    assert found.findings["sets"]["items"][0]["patients"] == 6


def test_what_does_not_match_bus_bras_table_is_listed(tmp_path: Path) -> None:
    write_bus_bra(tmp_path)
    (tmp_path / "Images" / "bus_0001-l.png").unlink()
    save(tmp_path / "Images" / "bus_0099-l.png", speckle(5))
    (tmp_path / "Masks" / "mask_0002-r.png").unlink()

    found = read([tmp_path])

    reasons = sorted(item["reason"] for item in found.findings["skipped"]["items"])
    assert reasons == [
        "has no image",
        "has no image Images/bus_0001-l.png",
        "has no row in bus_data.csv",
    ]
    assert found.findings["no_mask"]["items"] == ["bus_bra: bus_0002-r.png"]


def test_a_patient_in_two_given_splits_is_refused(tmp_path: Path) -> None:
    write_bus_bra(tmp_path, folds=True)
    folds = tmp_path / "5-fold-cv.csv"
    folds.write_text(folds.read_text().replace("bus_0004-r,benign,1", "bus_0004-r,benign,2"))
    with pytest.raises(
        DataError, match=r"patient 4 of bus_bra is in two splits: bus_0004-l.png in 1, bus_0004-r"
    ):
        read([tmp_path])


@pytest.mark.parametrize("table", ["DatasetB.xlsx", "classes.csv"])
def test_udiat_is_read_with_either_table(tmp_path: Path, table: str) -> None:
    found = read([write_udiat(tmp_path, table=table)])
    labels = [study.label for study in found.studies]
    assert labels == ["benign", "benign", "malignant"] * 2
    assert found.studies[0].masks == (tmp_path / "GT" / "000001.png",)
    assert found.studies[0].name == "000001.png"


def test_udiat_without_a_table_of_classes_is_refused(tmp_path: Path) -> None:
    (write_udiat(tmp_path) / "DatasetB.xlsx").unlink()
    with pytest.raises(DataError, match="has no table of classes"):
        read([tmp_path])


def test_a_damaged_excel_file_is_named(tmp_path: Path) -> None:
    table = write_udiat(tmp_path) / "DatasetB.xlsx"
    table.write_bytes(table.read_bytes()[:200])
    with pytest.raises(DataError, match=r"DatasetB.xlsx is no Excel file that can be read; save it as CSV"):
        read([tmp_path])


def test_a_class_that_is_none_is_named_with_its_cell(tmp_path: Path) -> None:
    write_udiat(tmp_path)
    write_xlsx(tmp_path / "DatasetB.xlsx", [["Image", "Type"], [1, "Benign"], [2, "Bening"]])
    with pytest.raises(DataError, match=r"DatasetB.xlsx, line 3, column type: 'Bening' is no class"):
        read([tmp_path])


def manifest(folder: Path, *rows: str) -> Path:
    path = folder / "breasts.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_manifest_says_everything_that_can_be_known_of_an_image(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / "images" / f"{number}.png", speckle(number))
    save(tmp_path / "a.png", disc())
    save(tmp_path / "b.png", disc(radius=3))
    path = manifest(
        tmp_path,
        "image,mask,class,patient,spacing_mm,gland,boxes,operator",
        "images/0.png,a.png;b.png,benign,p1,0.08,b.png,,x",
        "images/1.png,none,,p1,0.08 0.07,,,y",
        "images/2.png,,malignant,,,,4 5 10 12; 40 30 8 8,z",
        "images/3.png,,normal,,,,,",
        "images/4.png,,,,,,,",
    )

    found = read([path])

    zero, one, two, three, four = found.studies
    assert zero.masks == (tmp_path / "a.png", tmp_path / "b.png")
    assert zero.gland == tmp_path / "b.png"
    assert (zero.patient, zero.spacing_mm) == ("p1", (0.08, 0.08))
    assert (one.masks, one.label, one.spacing_mm) == ((), None, (0.08, 0.07))
    assert zero.group == one.group != two.group
    assert (two.masks, two.boxes) == (None, (Box(4, 5, 10, 12), Box(40, 30, 8, 8)))
    assert (three.masks, three.label) == ((), "normal")
    assert (four.masks, four.label, four.boxes) == (None, None, ())
    assert found.findings["unused_columns"]["items"] == ["breasts: operator"]
    assert found.findings["sets"]["items"][0]["classes"] == {
        "benign": 1, "unknown": 2, "malignant": 1, "normal": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["picture,class", "0.png,benign"], "has no column image; its columns may be image, mask"),
        (["image,clas", "0.png,benign"], "has a column 'clas'; did you mean class"),
        (["image,class", "0.png,bad"], r"breasts.csv, line 2, column class: 'bad' is no class"),
        (["image,class", "0.png,benign", "0.png,benign"], "0.png is in line 2 too"),
        (["image,class", ",benign"], "line 2, column image is empty"),
        (["image,spacing", "0.png,wide"], "column spacing_mm: 'wide' is not a pixel's size in mm"),
        (["image,spacing_mm", "0.png,80"], "'80' is not a pixel's size in mm"),
        (["image,boxes", "0.png,1 2 3"], "'1 2 3' is not boxes as `x y width height`"),
        (["image,boxes", "0.png,1 2 0 4"], "'1 2 0 4' is not boxes"),
        (["image,class", "0.png,benign,more"], "line 2 has 3 cells, there are 2 columns"),
        (["image,class"], "is empty: it needs a line of column names and a line for every image"),
        (["image,class,class", "0.png,benign,benign"], "has two columns 'class'"),
        (["image,class", "1.png,benign"], r"1.png does not exist"),
        (["image,boxes", "0.png,90 0 20 20"], "lies outside its 96 x 72 pixels"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    save(tmp_path / "0.png", speckle(0))
    with pytest.raises(DataError, match=message):
        read([manifest(tmp_path, *rows)])


def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "breasts.csv"
    path.write_bytes("image,class\nbüste.png,benign\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read([path])


def test_a_manifest_with_semicolons_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    save(tmp_path / "0.png", speckle(0))
    path = tmp_path / "breasts.csv"
    path.write_bytes("image;class\r\n0.png;m\r\n".encode("utf-8-sig"))
    assert read([path]).studies[0].label == "malignant"


def test_several_sets_are_one_and_their_common_pictures_share_a_group(tmp_path: Path) -> None:
    busi = write_busi(tmp_path / "busi")
    udiat = write_udiat(tmp_path / "udiat")
    save(udiat / "original" / "000001.png", speckle(2))  # benign (2) of BUSI
    found = read([busi, udiat, busi])

    assert {study.source for study in found.studies} == {"busi", "udiat", "busi-2"}
    groups = {(study.source, study.name): study.group for study in found.studies}
    one = groups["busi", "benign/benign (2).png"]
    assert one == groups["udiat", "000001.png"] == groups["busi-2", "benign/benign (2).png"]
    assert groups["udiat", "000002.png"] != one
    assert len(found.findings["sets"]["items"]) == 3


def test_findings_can_be_written_as_json(tmp_path: Path) -> None:
    found = read([write_busi(tmp_path)])
    assert json.loads(json.dumps(found.findings)) == found.findings


def test_a_path_of_no_known_layout_says_which_there_are(tmp_path: Path) -> None:
    write_busi(tmp_path / "outer" / "BUSI")
    with pytest.raises(DataError, match=r"has no known layout; did you mean .*BUSI\?; known are BUSI"):
        read([tmp_path / "outer"])
    with pytest.raises(DataError, match="does not exist"):
        read([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="is no folder and no CSV file"):
        read([save(tmp_path / "one.png", speckle(1))])


def test_synthetic_images_come_with_everything_and_are_kept(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = read(["phantom:3"], cache=tmp_path, on_image=lambda done, of: seen.append((done, of)))

    assert [study.label for study in found.studies] == ["benign", "malignant", "normal"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for study in found.studies:
        assert study.gland is not None
        assert study.spacing_mm is not None
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = read(["phantom:4"], cache=tmp_path)
    assert again.studies[:3] == found.studies
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    other = read(["phantom:1:test"], cache=tmp_path)
    assert other.studies[0].image not in [study.image for study in again.studies]


@pytest.mark.parametrize("path", ["phantom:", "phantom:0", "phantom:many", "phantom:3:mine", "phantom:-2"])
def test_a_wrong_number_of_synthetic_images_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="is no set of synthetic images; write phantom:N"):
        read([path], cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        read(["phantom:1"], cache=tmp_path / "cache")
