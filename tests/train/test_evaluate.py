"""`sonostream evaluate` from the command line: what it judges by, what it writes, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models.checkpoint import read_checkpoint
from models.export import export
from streamer.cli import app
from tests.train.runs import network, pictures
from train.commands.evaluate import choose
from train.data import DataError, Study
from train.learning import checkpoint
from train.sets import DataSet

pytestmark = [
    pytest.mark.timeout(300),
    # torch.export's own bookkeeping, on its way out of PyTorch.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = network()
    path = tmp_path_factory.mktemp("run") / "best.pt"
    state = {"network": net.name, "options": net.options, "weights": net.state_dict(), "temperature": 1.5}
    checkpoint.save(path, state)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def evaluate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def read(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_a_checkpoint_and_its_file_are_judged_alike(weights: Path, cache: Path, tmp_path: Path) -> None:
    trained = read_checkpoint(weights)
    artifact = tmp_path / "lesion.onnx"
    export(trained.network, trained.card, artifact, pictures().pixels[:, :, :, None])
    options = ("--data", "phantom:6", "--no-synthetic", "--cache", cache)

    status, said = evaluate(weights, *options, "--mask-marks", "--out", tmp_path / "torch")
    assert status == 0, said
    status, said = evaluate(artifact, *options, "--runtime", "onnxruntime", "--out", tmp_path / "onnx")
    assert status == 0, said

    ours, theirs = read(tmp_path / "torch"), read(tmp_path / "onnx")
    assert (ours["model"]["runtime"], ours["model"]["precision"]) == ("torch", "fp32")
    assert theirs["model"]["runtime"] == "onnxruntime"
    assert [part["temperature"] for part in (ours["parts"][0], theirs["parts"][0])] == [1.5, 1.5]
    for name, figure in ours["parts"][0]["figures"].items():
        other = theirs["parts"][0]["figures"][name]["value"]
        assert other == pytest.approx(figure["value"], rel=0.02, abs=0.02), name
    # Phantoms carry no marks: nothing is painted over, and the two columns are the same.
    plain, painted = ours["parts"]
    assert painted["name"] == "all images, marks painted over"
    assert painted["figures"] == plain["figures"]
    assert "on 0" in painted["protocol"]
    assert plain["synthetic"]
    assert "nothing about people" in ours["warnings"][0]
    # Gradients are had from a checkpoint only.
    assert "Grad-CAM" in (tmp_path / "torch" / "report.html").read_text()
    assert "Grad-CAM" not in (tmp_path / "onnx" / "report.html").read_text()


def studies() -> tuple[Study, ...]:
    plain = [Study(f"{row}.png", "benign", row, Path(f"{row}.png"), (), source="busi") for row in range(4)]
    return (*plain[:3], replace(plain[3], contradictory=True))


def held(*names: str) -> DataSet:
    items = [f"busi: {name}" for name in names]
    return DataSet(studies(), {"heldout": {"count": len(items), "says": "held out", "items": items}})


def test_images_that_were_held_out_are_what_is_judged_by_where_there_are_some() -> None:
    kept, name, protocol = choose(held("1.png", "2.png"), None)
    assert ([one.name for one in kept], name) == (["1.png", "2.png"], "BUSI held-out")
    assert "never used for training" in protocol

    kept, name, protocol = choose(held("1.png"), "all")
    assert ([one.name for one in kept], name) == (["0.png", "1.png", "2.png"], "all images")
    assert "MAY HAVE BEEN TRAINED ON" in protocol
    assert "but 1 whose duplicates contradict" in protocol

    assert choose(DataSet(studies(), {}), None)[1] == "all images"
    with pytest.raises(DataError, match="none of BUSI's held-out images"):
        choose(DataSet(studies(), {}), "heldout")


def test_a_fold_is_judged_by_what_it_was_tested_on(tmp_path: Path) -> None:
    fold = tmp_path / "fold-2"
    fold.mkdir()
    rows = (
        "image,source,class,group,fold\n0.png,busi,benign,0,1\n1.png,busi,benign,1,2\n2.png,busi,benign,2,2\n"
    )
    (tmp_path / "folds.csv").write_text(rows)

    kept, name, _ = choose(DataSet(studies(), {}), str(fold))
    assert ([one.name for one in kept], name) == (["1.png", "2.png"], "test part of fold-2")

    with pytest.raises(DataError, match="tested on 2 images, the data hold 1 of them"):
        choose(DataSet(studies()[:2], {}), str(fold))
    with pytest.raises(DataError, match="has no image in fold 3"):
        choose(DataSet(studies(), {}), str(tmp_path / "fold-3"))
    with pytest.raises(DataError, match="is no fold of a run: name RUN/fold-N"):
        choose(DataSet(studies(), {}), str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing.onnx",), "no such model file"),
        (("default", "--positive", "normal"), "--positive is 'normal'; it can be malignant or benign"),
        (("default", "--empty", "one"), "--empty is 'one'; it can be undefined or zero"),
        (("default", "--part", "heldout"), "use --part all"),
        (("WEIGHTS", "--runtime", "openvino"), "is a checkpoint: openvino runs it once"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_sentence(
    arguments: tuple[str, ...], says: str, weights: Path, cache: Path
) -> None:
    named = [str(weights) if one == "WEIGHTS" else one for one in arguments]

    status, said = evaluate(*named, "--data", "phantom:3", "--no-synthetic", "--cache", cache)

    assert status == 2
    assert says in " ".join(said.split())
    assert "Traceback" not in said


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    status, said = evaluate("default", "--data", tmp_path / "nowhere")

    assert status == 2
    assert "does not exist" in said


def test_a_folder_that_cannot_be_written_is_named(weights: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, where the folder should be")

    status, said = evaluate(
        weights, "--data", "phantom:3", "--no-synthetic", "--cache", cache, "--out", tmp_path / "out"
    )

    assert status == 2
    assert "cannot write" in said
    assert "results.json" in "".join(said.split())


def test_figures_do_not_depend_on_how_many_images_are_asked_at_once(weights: Path) -> None:
    from models.runtimes import load
    from train.evaluation.answers import ask, ask_network

    images = pictures()
    with load(weights, "torch", precision="fp32", max_batch=4) as session:
        asked = ask(session, images)
    direct = ask_network(read_checkpoint(weights).network, images, temperature=1.5)

    assert np.abs(asked.lesion.astype(int) - direct.lesion).max() <= 1
    assert asked.classes == pytest.approx(direct.classes, abs=1e-4)
