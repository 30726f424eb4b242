"""Folds: nothing leaks between their parts, every class has its share, and they can be had again."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.layouts import write_bus_bra, write_busi
from train.data import DataError, Study
from train.sets import read
from train.splits import FoldTable, Parts, Split, make_folds, read_folds


def study(number: int, label: str | None, group: int, **more: object) -> Study:
    made = Study(f"{number:04}.png", label, group, Path(f"{number}.png"), (), source="set")
    return replace(made, **more)  # type: ignore[arg-type]


def many(benign: int = 40, malignant: int = 20, normal: int = 15) -> list[Study]:
    labels = ["benign"] * benign + ["malignant"] * malignant + ["normal"] * normal
    return [study(number, label, number) for number, label in enumerate(labels)]


@st.composite
def sets(draw: st.DrawFn) -> list[Study]:
    """Sets of any shape: groups of any size, of several classes, without a class or a mask, contradictory."""
    chance = random.Random(draw(st.integers(0, 10_000)))
    largest = draw(st.integers(1, 8))
    labels = draw(st.sampled_from([("benign",), ("benign", "malignant"), ("benign", "malignant", "normal")]))
    found: list[Study] = []
    for group in range(draw(st.integers(1, 60))):
        contradictory = chance.random() < 0.1
        for _ in range(chance.randint(1, largest)):
            made = study(
                len(found),
                chance.choice([*labels, None]),
                group,
                masks=chance.choice([None, ()]),
                source=chance.choice(["one", "two"]),
                contradictory=contradictory,
            )
            found.append(made)
    return found


def names(part: list[Study]) -> list[tuple[str, str]]:
    return [(one.source, one.name) for one in part]


@settings(max_examples=150, deadline=None)
@given(sets(), st.integers(2, 6), st.integers(0, 5), st.sampled_from(["grouped", "paper"]))
def test_nothing_leaks_between_the_parts_of_a_fold(
    studies: list[Study], folds: int, seed: int, split: Split
) -> None:
    try:
        table = make_folds(studies, folds=folds, seed=seed, split=split)
    except DataError as error:
        assert "class" in str(error)  # noqa: PT017
        return
    used = [one for one in studies if split == "paper" or not one.contradictory]
    tested = [table.parts(fold).test for fold in range(1, table.folds + 1)]

    assert sorted(name for part in tested for name in names(part)) == sorted(names(used))
    for fold in range(1, table.folds + 1):
        parts = table.parts(fold)
        assert sorted(name for part in parts for name in names(part)) == sorted(names(used))
        if split == "grouped":
            groups = [{one.group for one in part} for part in parts]
            assert not groups[0] & groups[1]
            assert not groups[0] & groups[2]
            assert not groups[1] & groups[2]
        labels = {one.label for one in used} - {None}
        assert all(labels <= {one.label for one in part} for part in parts)


def test_duplicates_and_patients_that_are_read_stay_together(tmp_path: Path) -> None:
    busi = write_busi(tmp_path / "busi", benign=12, malignant=12, normal=12)
    for number in (1, 4, 7):
        for kind, label in enumerate(("benign", "malignant", "normal")):
            copy = busi / label / f"{label} (10{number}).png"
            copy.write_bytes((busi / label / f"{label} ({number}).png").read_bytes())
            mask = busi / label / f"{label} ({number + kind})_mask.png"
            copy.with_name(f"{label} (10{number})_mask.png").write_bytes(mask.read_bytes())
    studies = read([busi, write_bus_bra(tmp_path / "bra", cases=24)]).studies

    table = make_folds(studies, folds=4, seed=3)

    for fold in range(1, 5):
        part_of: dict[str | int, str] = {}
        for name, part in zip(Parts._fields, table.parts(fold), strict=True):
            for one in part:
                key = one.patient or one.group
                assert part_of.setdefault(key, name) == name
    assert table.left_out() == []


def test_every_fold_has_its_share_of_every_class_and_set() -> None:
    studies = many(100, 50, 35)
    studies += [replace(one, source="other", group=one.group + 1000) for one in many(60, 30, 0)]
    table = make_folds(studies, folds=5, seed=1)
    whole = Counter((one.source, one.label) for one in studies)
    for fold in range(1, 6):
        train, validation, test = (
            Counter((one.source, one.label) for one in part) for part in table.parts(fold)
        )
        for kind, count in whole.items():
            assert abs(test[kind] - count / 5) <= 1
            assert abs(validation[kind] - 0.15 * 0.8 * count) <= 1.5
            assert train[kind] + validation[kind] + test[kind] == count


def test_images_without_a_mask_are_spread_over_the_folds() -> None:
    studies = [
        replace(one, masks=() if number % 4 == 0 else None) for number, one in enumerate(many(80, 40, 0))
    ]
    table = make_folds(studies, folds=5)
    masked = [sum(one.masks is not None for one in table.parts(fold).test) for fold in range(1, 6)]
    assert max(masked) - min(masked) <= 1


def test_folds_are_fixed_by_the_seed_whatever_the_order_of_the_images() -> None:
    studies = many()
    shuffled = random.Random(4).sample(studies, len(studies))
    assert make_folds(studies, seed=7) == make_folds(shuffled, seed=7)
    assert make_folds(studies, seed=7) != make_folds(studies, seed=8)


def test_networks_with_and_without_normals_are_tested_on_the_same_lesions() -> None:
    whole = make_folds(many(), folds=4)
    lesions = make_folds([one for one in many() if one.label != "normal"], folds=4)
    for fold in range(1, 5):
        for part, other in zip(whole.parts(fold), lesions.parts(fold), strict=True):
            assert names([one for one in part if one.label != "normal"]) == names(other)


def test_contradictory_images_are_left_out_except_by_the_papers_split() -> None:
    studies = [replace(one, contradictory=one.group in (3, 50)) for one in many()]
    assert {one.group for one in make_folds(studies).left_out()} == {3, 50}
    assert make_folds(studies, split="paper").left_out() == []


def test_the_papers_split_takes_no_notice_of_groups() -> None:
    studies = [replace(one, group=one.group // 5) for one in many()]
    parts = make_folds(studies, split="paper").parts(1)
    assert {one.group for one in parts.train} & {one.group for one in parts.test}


@pytest.mark.parametrize(
    ("studies", "folds", "message"),
    [
        (many(40, 4, 15), 5, "class malignant has 4 independent images, too few for 5 folds"),
        (many(40, 20, 1), 5, "class normal has 1 independent image, too few"),
        (many(2, 2, 0), 2, "class benign has 2 independent images, too few"),
        (
            [replace(one, group=one.group // 12) for one in many(40, 20, 0)],
            5,
            "class benign has 4 independent",
        ),
    ],
)
def test_a_class_that_would_be_missing_from_a_fold_is_named(
    studies: list[Study], folds: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_folds(studies, folds=folds)


@pytest.mark.parametrize("split", ["grouped", "paper"])
def test_a_written_table_is_read_back_as_it_was(tmp_path: Path, split: Split) -> None:
    studies = [replace(one, contradictory=one.group == 3) for one in many()]
    table = make_folds(studies, split=split)
    table.write(tmp_path / "folds.csv")

    assert read_folds(tmp_path / "folds.csv", reversed(studies), split=split) == table
    lines = (tmp_path / "folds.csv").read_text().splitlines()
    assert lines[0].startswith("image,source,class,group,fold")
    assert lines[1].startswith("0000.png,set,benign,0,")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_table_of_other_images_or_one_that_leaks_is_refused(tmp_path: Path) -> None:
    path, studies = tmp_path / "folds.csv", many()
    make_folds(studies).write(path)

    with pytest.raises(
        DataError, match=r"set 0000.png is in the table and not in the data; the data has changed"
    ):
        read_folds(path, studies[1:])
    with pytest.raises(DataError, match=r"set 9999.png is in the data and not in the table"):
        read_folds(path, [*studies, study(9999, "benign", 9999)])
    with pytest.raises(DataError, match="of the same lesion or patient, in the"):
        read_folds(path, [replace(one, group=1) for one in studies])
    path.write_text(path.read_text().replace("0000.png,set,benign,0,", "0000.png,set,benign,0,x"))
    with pytest.raises(DataError, match="a fold is a number from 1"):
        read_folds(path, studies)
    path.write_text("image\n")
    with pytest.raises(DataError, match="is no table of folds"):
        read_folds(path, studies)
    with pytest.raises(DataError, match="cannot be read"):
        read_folds(tmp_path / "none.csv", studies)


def test_a_table_that_cannot_be_written_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folds.csv"
    make_folds(many()).write(path)
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match="folds.csv cannot be written .No space left on device"):
        make_folds(many(), seed=9).write(path)
    assert path.read_text() == before


def test_a_fold_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="there is no fold 6; folds are numbered from 1 to 5"):
        make_folds(many()).parts(6)
    with pytest.raises(DataError, match="2 folds or more"):
        make_folds(many(), folds=1)


def stated(table: FoldTable, part: str) -> set[str | None]:
    return {one.split for one in getattr(table.parts(1), part)}


def test_splits_that_the_data_states_are_taken() -> None:
    words = ("train", "validation", "test")
    studies = [replace(one, split=words[number % 3]) for number, one in enumerate(many())]
    table = make_folds(studies, split="given")
    assert table.folds == 1
    assert [stated(table, part) for part in words] == [{"train"}, {"validation"}, {"test"}]


def test_a_validation_split_is_made_where_the_data_states_none(tmp_path: Path) -> None:
    studies = [replace(one, split=("train", "test")[number % 2]) for number, one in enumerate(many())]
    table = make_folds(studies, split="given")
    assert stated(table, "validation") == {"train"}
    table.write(tmp_path / "folds.csv")
    assert read_folds(tmp_path / "folds.csv", studies, split="given") == table


def test_folds_that_the_data_states_are_taken(tmp_path: Path) -> None:
    table = make_folds(read([write_bus_bra(tmp_path, cases=36, folds=True)]).studies, split="given")
    assert table.folds == 2
    assert stated(table, "test") == {"1"}
    assert stated(table, "train") == {"2"}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", None, "test"], r"set 0001.png is in no given split; use --split grouped"),
        (["train", "holdout", "test"], "the data states the splits holdout, test, train"),
        (["1", "1", "1"], "states one fold only"),
        (["train", "train", "train"], "the data states the splits train"),
    ],
)
def test_given_splits_that_cannot_be_used_are_refused(splits: list[str | None], message: str) -> None:
    studies = [replace(one, split=splits[number % 3]) for number, one in enumerate(many())]
    with pytest.raises(DataError, match=message):
        make_folds(studies, split="given")


def test_given_splits_that_separate_duplicates_are_refused() -> None:
    studies = [
        replace(one, split=("train", "test")[number % 2], group=one.group // 2)
        for number, one in enumerate(many())
    ]
    with pytest.raises(DataError, match=r"0000.png and 0001.png show the same lesion or patient"):
        make_folds(studies, split="given")
