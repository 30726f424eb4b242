"""A daemon may run a checkpoint of training as it is, in PyTorch."""

import hashlib
import subprocess
from pathlib import Path

import pytest
import torch

from streamer.client import subscribe
from tests.models.test_export import small_network
from tests.streamer.running import free_port, running, sonostream

FEED = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = small_network()
    path = tmp_path / "last.pt"
    state = {"network": network.name, "options": network.options, "temperature": 1.5}
    torch.save({**state, "best": network.state_dict()}, path)
    return path


def test_a_checkpoint_is_run_without_an_export(checkpoint: Path) -> None:
    with running(checkpoint, FEED, "--model.runtime=torch", "--model.precision=fp32") as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        result = next(each for each in subscribe(daemon.address) if each.analysis.classes)
        code, _ = daemon.stop()

    assert code == 0
    model = result.analysis.model
    assert (model.name, model.runtime, model.precision) == ("mtl_oca", "torch", "fp32")
    assert model.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert result.mask is not None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model.artifact=default",), "runs a checkpoint of `sonostream train`: name its file"),
        (("--model.artifact=absent.pt",), "cannot read absent.pt: No such file"),
        (("--model.artifact={}", "--model.classes=lesion"), "model.classes asks for lesion"),
    ],
)
def test_what_it_cannot_run_is_one_clear_line(checkpoint: Path, flags: tuple[str, ...], said: str) -> None:
    given = [flag.replace("{}", str(checkpoint)) for flag in flags]
    ports = [f"--http.port={free_port()}", f"--publish.bind=tcp://127.0.0.1:{free_port()}"]

    done = subprocess.run(
        sonostream("run", FEED, "--model.runtime=torch", *given, *ports),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sonostream:")]
    assert said in line
    assert "Traceback" not in done.stderr
