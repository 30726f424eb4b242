"""`sonostream export` from the command line: what is written, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from models.artifact import load_artifact
from models.checkpoint import Checkpoint, card_of
from models.export import ExportError
from models.parity import BOUNDS, Parity
from models.precisions import export_as
from models.runtimes import load
from streamer.cli import app
from tests.models.test_export import small_network
from train.commands.export import parity_table

pytestmark = [
    pytest.mark.timeout(300),
    # torch.export's own bookkeeping, on its way out of PyTorch.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    path = tmp_path_factory.mktemp("run") / "last.pt"
    state = {"network": network.name, "options": network.options, "temperature": 1.5}
    torch.save({**state, "best": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (48, 64), dtype=np.uint8))
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_checkpoint_becomes_a_file_with_its_parity(
    checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lesion.onnx"
    repository = tmp_path / "repository"
    status, said = run(
        checkpoint, "-o", path, "--calibrate", pictures, "--triton", repository, "--temperature", 2
    )
    assert status == 0, said
    assert load_artifact(path).card.temperature == 2
    assert "onnxruntime" in said
    card = load_artifact(path).card
    assert card.precision == "fp32"
    assert {row["runtime"] for row in card.parity} >= {"onnxruntime"}
    assert all(row["frames"] == 3 and row["within"] for row in card.parity if row["precision"] == "fp32")
    assert (repository / "mtl_oca" / "1" / "model.onnx").read_bytes() == path.read_bytes()


def test_a_checkpoints_calibration_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    status, said = run(checkpoint, "-o", tmp_path / "lesion.onnx")

    assert status == 0, said
    assert load_artifact(tmp_path / "lesion.onnx").card.temperature == 1.5


def test_int8_is_calibrated_and_says_what_it_is_for(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    # Random weights: it is the path that is tested here, not the accuracy.
    network = small_network()
    wide = type(network)(size=32, widths=(32, 32, 32), bridge=32, key_channels=32).eval()
    wide.name, wide.options = "mtl_oca", {
        "size": 32, "widths": (32, 32, 32), "bridge": 32, "key_channels": 32
    }  # fmt: skip
    path = tmp_path / "last.pt"
    torch.save({"network": "mtl_oca", "options": wide.options, "best": wide.state_dict()}, path)
    output = tmp_path / "int8.onnx"
    status, said = run(path, "-o", output, "--precision", "int8", "--calibrate", pictures, "--allow-drift")
    assert status == 0, said
    card = load_artifact(output).card
    assert (card.precision, card.quantization) == ("int8", "cpu")
    assert b"QuantizeLinear" in output.read_bytes()
    with load(output, "onnxruntime") as session:
        assert session.description.precision == "int8"
    assert checkpoint.exists()


def test_a_file_that_drifts_is_refused_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small_network()
    trained = Checkpoint(network, card_of(network, version="1"))
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    path = tmp_path / "small.onnx"
    path.write_bytes(b"the model before")
    # A bound that nothing meets.
    monkeypatch.setitem(BOUNDS, "fp32", BOUNDS["fp32"]._replace(dice=2.0))
    with pytest.raises(ExportError, match=r"small.onnx drifts past the bound .* fp32: Dice \d"):
        export_as(trained, path, precision="fp32", frames=frames)
    assert path.read_bytes() == b"the model before"
    export_as(trained, path, precision="fp32", frames=frames, allow_drift=True)
    assert load_artifact(path).card.drift_allowed
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "fp8"], "--precision is fp32, fp16, int8, not 'fp8'"),
        (["--target", "gpu"], "--target is cpu or tensorrt, not 'gpu'"),
        (["--precision", "int8", "--engine"], "--engine with int8 needs --target tensorrt"),
        (["--calibrate", "/no/such/folder"], "--calibrate is a folder of pictures; /no/such/folder is none"),
    ],
)
def test_wrong_options_are_one_clear_line(
    checkpoint: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    status, output = run(checkpoint, "-o", tmp_path / "lesion.onnx", *options)
    assert status == 2
    assert said in output
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_is_one_clear_line(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "empty.pt").touch()
    for given, said in (
        (tmp_path / "absent.pt", "cannot read"),
        (tmp_path / "empty.pt", "is no checkpoint that can be read"),
    ):
        status, output = run(given, "-o", tmp_path / "lesion.onnx")
        assert status == 2
        assert said in output
    status, output = run(checkpoint, "-o", tmp_path / "lesion.engine")
    assert status == 2
    assert "--output is a file that ends in .onnx" in output


def test_a_folder_without_pictures_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    status, output = run(checkpoint, "-o", tmp_path / "lesion.onnx", "--calibrate", tmp_path)
    assert status == 2
    assert "has 0 pictures" in output


def test_the_table_of_differences_fits_a_terminal_of_80_columns() -> None:
    row = Parity("onnxruntime", "fp32", 16, 255, 12.345, 0.9876, 0.0123, 1.0, 12.34, within=True)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(parity_table([row]))

    shown = capture.get().split()
    assert {"bound", "within", "speed", "12.34", "100.0%"} <= set(shown)
