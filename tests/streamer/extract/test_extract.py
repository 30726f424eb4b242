"""Extracts of a recording: what is in them, and that all of them count the same frames."""

import base64
import csv
import re
import stat
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamer.cli import app

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

from streamer.extract.facts import gather
from streamer.extract.frames import Span, shown_frames
from streamer.extract.keyframes import choose_key_frames, tracks
from tests.streamer.extract.study import (
    EMPTY,
    FRAMES,
    FROZEN,
    HEIGHT,
    WIDTH,
    code_of,
    left_of,
    record,
)


def extract(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["extract", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording and everything that is made of it."""
    pytest.importorskip("highdicom")
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("study")
    record(folder / "study.mcap")
    done = extract(
        folder / "study.mcap",
        "--video", folder / "study.mp4", "--csv", folder / "findings.csv",
        "--parquet", folder / "findings.parquet", "--dicom-seg", folder / "dicom",
        "--summary", folder / "summary.html",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"{FRAMES} frames of probe" in done.stderr
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def video(path: Path) -> list[tuple[float, np.ndarray[Any, Any]]]:
    with av.open(str(path)) as container:
        return [
            (float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]


def test_video_table_and_dicom_have_the_same_frames_at_the_same_numbers(made: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    rows = table(made / "findings.csv")
    shown = video(made / "study.mp4")
    clip = pydicom.dcmread(made / "dicom" / "clip.dcm").pixel_array

    assert [int(row["number"]) for row in rows] == list(range(FRAMES))
    assert len(shown) == len(clip) == FRAMES
    for row, (time_s, picture), still in zip(rows, shown, clip, strict=True):
        number = int(row["number"])
        assert code_of(picture, scale=2) == code_of(still) == int(row["frame_id"]) - 100 == number
        assert time_s == pytest.approx(float(row["time_s"]), abs=2e-3)


def test_the_contour_is_burned_in_where_the_lesion_is(made: Path) -> None:
    shown = [picture for _, picture in video(made / "study.mp4")]
    for number in (2, 7, 14, 23):
        row = shown[number][2 * 105 : 2 * 135].max(axis=0).astype(int)
        # Coloured or white against the gray picture of level 100.
        hits = np.flatnonzero(row.max(axis=1) > 150)
        assert hits.min() == pytest.approx(2 * left_of(number), abs=4)
        assert hits.max() == pytest.approx(2 * (left_of(number) + 60), abs=4)
    colours = {number: shown[number][2 * 120, 2 * left_of(number)].astype(int) for number in (7, 14)}
    assert colours[7][2] > colours[7][0] + 50  # benign is blue
    assert colours[14][0] > colours[14][2] + 50  # malignant is orange
    for number in FROZEN | EMPTY:
        assert shown[number][2 * 110 : 2 * 130].max() < 130


def test_every_frame_of_the_video_says_what_it_is_for(made: Path) -> None:
    with av.open(str(made / "study.mp4")) as container:
        assert container.metadata["comment"] == "Research use only. Not for diagnosis."
    strips = [picture[2 * HEIGHT :, 2 * WIDTH - 230 :] for _, picture in video(made / "study.mp4")]
    assert all((strip.max(axis=2) > 150).sum() > 300 for strip in strips)


def test_the_table_tells_lesions_and_frames_without_one(made: Path) -> None:
    rows = table(made / "findings.csv")

    assert rows[7]["label"] == "benign"
    assert rows[7]["stable"] == "True"
    assert float(rows[7]["probability_malignant"]) == pytest.approx(0.8 * 7 / FRAMES)
    assert float(rows[7]["area_px"]) == 2407
    assert float(rows[7]["longest_mm"]) == 7.2
    assert float(rows[7]["box_x"]) == 40 + left_of(7)
    for number in EMPTY:
        assert (rows[number]["lesions"], rows[number]["area_px"], rows[number]["label"]) == (
            "0",
            "",
            "benign",
        )
    for number in FROZEN:
        assert (rows[number]["state"], rows[number]["label"]) == ("frozen", "")
    assert {row["intended_use"] for row in rows} == {"research only"}


def test_parquet_holds_the_same_with_types(made: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(made / "findings.parquet")
    rows = read.to_pylist()

    for row, told in zip(rows, table(made / "findings.csv"), strict=True):
        assert {key: "" if value is None else str(value) for key, value in row.items()} == told
    assert str(read.schema.field("malignancy").type) == "double"
    assert read.schema.metadata[b"intended_use"] == b"research only"


def test_the_summary_is_one_file_with_key_frames_and_both_charts(made: Path) -> None:
    page = (made / "summary.html").read_text()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    numbers = [int(each) for each in re.findall(r"<figcaption>Frame (\d+),", page)]

    assert "http" not in page.replace("http-equiv", "")
    assert "Research use only. Not for diagnosis." in page
    assert "probe in study.mcap" in page
    assert page.count("<svg") == 2
    assert "Outlined area, mm²" in page
    assert len(pictures) == len(numbers) >= 2
    assert FRAMES - 1 in numbers  # of highest malignancy and largest
    for number, data in zip(numbers, pictures, strict=True):
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        assert code_of(np.asarray(picture, np.uint8), scale=2) == number


def test_extracts_are_for_their_owner_and_never_overwritten(made: Path) -> None:
    for name in ("study.mp4", "findings.csv", "summary.html", "dicom/segmentation.dcm"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600
    assert not list(made.glob(".*"))

    before = (made / "findings.csv").read_bytes()
    for flags in (("--csv", "findings.csv"), ("--dicom-seg", "dicom")):
        done = extract(made / "study.mcap", flags[0], made / flags[1])
        assert done.exit_code == 2
        assert "exists already: extracts are never overwritten" in done.stderr
    assert (made / "findings.csv").read_bytes() == before


def test_a_part_is_numbered_from_its_own_beginning_and_timed_from_the_recording_s(
    made: Path, tmp_path: Path
) -> None:
    done = extract(made / "study.mcap", "--csv", tmp_path / "part.csv", "--start", 0.4, "--end", 0.6)
    rows = table(tmp_path / "part.csv")

    assert done.exit_code == 0, done.stderr
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[0]["frame_id"] == "110"
    assert float(rows[0]["time_s"]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "nothing to make: give --video"),
        (("--csv", "x.csv", "--source", "other"), "no source 'other', only probe"),
        (("--csv", "x.csv", "--start", "99"), "no frame of probe in this part"),
        (("--csv", "absent/x.csv"), "cannot write"),
        (("--dicom-source", "x.dcm", "--csv", "x.csv"), "--dicom-source belongs to --dicom-seg"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_line(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = extract(made / "study.mcap", *flags)

    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_results_without_pictures_give_tables_and_a_video_that_says_so(tmp_path: Path) -> None:
    record(tmp_path / "study.mcap", 3, pictures=False)
    done = extract(tmp_path / "study.mcap", "--csv", tmp_path / "f.csv", "--video", tmp_path / "v.mp4")

    assert done.exit_code == 0, done.stderr
    assert len(table(tmp_path / "f.csv")) == len(video(tmp_path / "v.mp4")) == 3
    done = extract(tmp_path / "study.mcap", "--dicom-seg", tmp_path / "dicom")
    assert done.exit_code == 2
    assert "begins without a picture" in done.stderr


def test_key_frames_are_the_telling_ones_of_every_lesion(tmp_path: Path) -> None:
    path = record(tmp_path / "study.mcap", coding="h264")
    facts = gather(shown_frames(path, "probe", Span(), wanted=()))
    keys = choose_key_frames(facts)

    assert [(track.track, track.frames) for track in tracks(facts)] == [(1, 13), (2, 8)]
    assert [key.number for key in keys] == [15, 23]
    assert "lesion 1 at its largest" in keys[0].why
    assert "highest probability of malignancy" in keys[1].why
    wanted = {key.number for key in keys}
    for shown in shown_frames(path, "probe", Span(), wanted=wanted):
        assert (shown.pixels is not None) == (shown.number in wanted)
        if shown.pixels is not None:
            assert code_of(shown.pixels) == shown.number
