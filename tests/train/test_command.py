"""`sonostream train` as a user meets it: what it leaves behind, how it stops, how it goes on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.artifact import load_artifact
from models.checkpoint import read_checkpoint
from streamer.cli import app
from tests.train.layouts import write_busi
from train.evaluation.answers import load_answers
from train.learning import checkpoint

TINY = [
    "network.size=32",
    "network.widths=[8, 8, 16]",
    "network.bridge=16",
    "network.key_channels=8",
    "train.batch=6",
    "train.bf16=false",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantoms")


def arguments(out: Path, cache: Path, *more: str, epochs: int = 2) -> list[str]:
    settings = [word for setting in TINY for word in ("--set", setting)]
    fixed = ["--model", "mtl_oca", "--data", "phantom:45", "--folds", "3", "--device", "cpu"]
    # One thread: how many there are decides how sums round. An epoch: the images there are.
    fixed += ["--threads", "1", "--set", "train.epoch_images=0"]
    return [*fixed, "--epochs", str(epochs), "--out", str(out), "--cache", str(cache), *settings, *more]


def train(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == code, result.output
    return result.output


def epochs_of(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    times = ("elapsed_s", "images_per_s")
    return [{name: value for name, value in line.items() if name not in times} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run of one fold, start to end."""
    out = tmp_path_factory.mktemp("whole")
    printed = train(*arguments(out, cache, "--fold", "2", "--tensorboard"))
    assert re.search(r"training epoch 2/2 \| loss \d.* images/s \| 0 s left", printed)
    assert "test part: dice" in printed
    return out


def test_a_run_leaves_a_checkpoint_an_artifact_and_a_report(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "data.json",
        "fold-2",
        "folds.csv",
        "mtl_oca.onnx",
        "recipe.toml",
        "report.html",
        "results.json",
    }
    fold = whole / "fold-2"
    names = {"answers.npz", "best.pt", "epochs.jsonl", "last.pt", "results.json", "tensorboard"}
    assert {path.name for path in fold.iterdir()} == names
    assert any(fold.glob("tensorboard/events*"))
    answers, images = load_answers(fold / "answers.npz")
    assert len(images) == 15
    card = load_artifact(whole / "mtl_oca.onnx").card
    assert card.temperature == answers.temperature == checkpoint.load(fold / "best.pt")["temperature"]
    assert card.training_data[0].name == "phantom"
    assert card.metrics["test_part"]["protocol"].startswith("Test part of fold 2: 15 images of phantom")
    assert read_checkpoint(fold / "best.pt").network.size == (32, 32)
    known = json.loads((whole / "data.json").read_text())
    assert (known["network"], known["selection"]) == ("mtl_oca", "inner validation split")


def test_all_folds_of_a_naive_split_are_trained_in_both_of_la_nets_stages(tmp_path: Path) -> None:
    """Chosen on the test part, with a quarter of the masks, without a damaged file: what is left says all."""
    data, out = write_busi(tmp_path / "busi", benign=9, malignant=8, normal=0), tmp_path / "out"
    cut = data / "benign" / "benign (9).png"
    cut.write_bytes(cut.read_bytes()[:-300])
    settings = ["network.size=64", "stages.first_epochs=1", "train.batch=4"]
    words = ["--model", "la_net_r18", "--recipe", "paper", "--data", str(data), "--folds", "2"]
    words += ["--split", "paper", "--selection", "test-fold", "--masked-share", "0.25", "--epochs", "1"]
    words += ["--device", "cpu", "--threads", "1", "--out", str(out)]
    printed = train(*words, *(word for setting in settings for word in ("--set", setting)))

    assert "the checkpoint is chosen on the test part: the figures are optimistic" in " ".join(
        printed.split()
    )
    for fold in (1, 2):
        lines = epochs_of(out / f"fold-{fold}")
        # One or two of the images that it trains on keep a mask: a batch of the first stage.
        assert [(line["stage"], line["step"]) for line in lines] == [("locate", 1), ("joint", 2)]
        assert [list(line["validation"]) for line in lines] == [["test"], ["test"]]  # type: ignore[call-overload]
    known = json.loads((out / "data.json").read_text())
    assert (known["split"], known["selection"]) == ("paper", "test part")
    assert [Path(one["file"]).name for one in known["findings"]["skipped"]["items"]] == ["benign (9).png"]
    assert "masked_share = 0.25" in (out / "recipe.toml").read_text()
    results = json.loads((out / "results.json").read_text())
    assert [(fold["fold"], fold["images"]) for fold in results["folds"]] == [(1, 8), (2, 8)]
    assert load_artifact(out / "la_net_r18.onnx").card.training_data[0].name == "busi"


def test_a_folder_with_a_run_is_not_overwritten(whole: Path, cache: Path) -> None:
    output = train(*arguments(whole, cache, "--fold", "2"), code=2)

    assert "holds a run; continue it with --resume, or name another folder" in output


def test_a_run_cannot_go_on_with_other_settings_or_where_none_is(
    whole: Path, cache: Path, tmp_path: Path
) -> None:
    output = train(*arguments(whole, cache, "--fold", "2", "--resume", "--set", "optimizer.lr=0.1"), code=2)
    assert "recipe.optimizer.lr = 0.0015, this run has 0.1" in output
    output = train(*arguments(tmp_path / "none", cache, "--resume"), code=2)
    assert "holds no run to continue; leave out --resume" in output


def test_a_run_goes_on_learning_from_a_checkpoint(whole: Path, cache: Path, tmp_path: Path) -> None:
    start = whole / "fold-2" / "best.pt"
    # So slow that what it ends with is what it began with.
    slow = ("--set", "optimizer.lr=1e-12", "--set", "schedule.warm_up=0")

    train(*arguments(tmp_path / "on", cache, "--fold", "2", "--start", str(start), *slow, epochs=1))

    former, now = (read_checkpoint(path).network for path in (start, tmp_path / "on/fold-2/best.pt"))
    assert former is not now
    for name, weight in now.named_parameters():
        torch.testing.assert_close(weight, former.get_parameter(name), rtol=0, atol=1e-6)
    known = json.loads((tmp_path / "on" / "data.json").read_text())
    assert known["weights"] == "best.pt"
    assert any("must not judge this run" in note for note in known["notes"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.num_classes=2", "holds mtl_oca for benign, malignant, normal, this run trains mtl_oca for"),
        ("network.bridge=24", "its weights do not fit; give the same options"),
    ],
)
def test_a_checkpoint_of_another_network_starts_nothing(
    whole: Path, cache: Path, tmp_path: Path, setting: str, message: str
) -> None:
    start = str(whole / "fold-2" / "best.pt")

    output = train(*arguments(tmp_path / "on", cache, "--start", start, "--set", setting), code=2)

    assert message in output


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(whole: Path, cache: Path, tmp_path: Path) -> None:
    """Killed in its second epoch, which alone is lost."""
    out = tmp_path / "killed"
    words = arguments(out, cache, "--fold", "2")
    with _start(words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 1/2" in line:
                break
        process.kill()
    assert process.returncode == -signal.SIGKILL
    # The second may have ended before the signal came; then that is what the run goes on from.
    assert [line["epoch"] for line in epochs_of(out / "fold-2")][:1] == [1]

    train(*words, "--resume")

    assert epochs_of(out / "fold-2") == epochs_of(whole / "fold-2")
    one, other = (checkpoint.load(run / "fold-2" / "best.pt") for run in (out, whole))
    assert one["weights"].keys() == other["weights"].keys()
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])


def test_ctrl_c_saves_and_says_how_to_go_on(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    with _start(arguments(out, cache, epochs=5000)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "epoch 1/5000" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        said = process.stderr.read()
    assert process.returncode == 130
    assert "stopped; everything is saved. Continue with: sonostream train --model mtl_oca" in said
    assert said.rstrip().endswith("--resume")
    assert "Traceback" not in said
    place = checkpoint.load(out / "fold-1" / "last.pt")["place"]
    assert place["step"] >= 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recipe", "fast"], "it is live, paper or the name of a TOML file"),
        (["--set", "optimizer.rate=1"], "there is no key optimizer.rate"),
        (["--set", "objective.name=best"], "no objective named 'best'"),
        (["--set", "network.widht=1"], "mtl_oca has no option widht"),
        (["--selection", "best"], "--selection is inner or test-fold, not 'best'"),
        (["--minutes", "1"], "give --epochs or --minutes, not both"),
        (["--fold", "9"], "there is no fold 9: the split has 3"),
        (["--model", "unheard_of"], "no network named 'unheard_of'"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    words: list[str], says: str, cache: Path, tmp_path: Path
) -> None:
    output = train(*arguments(tmp_path / "out", cache, *words), code=2)

    assert says in " ".join(output.split())
    assert "Traceback" not in output


def _start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
