"""Every network's graph is one that TensorRT builds; TensorRT-RTX does so without a GPU."""

from pathlib import Path

import pytest

from models.artifact import load_artifact
from models.runtimes import EngineFailed
from models.runtimes.tensorrt_engine import build, import_api
from tests.models.exported import NETWORKS, PRECISIONS, exported
from tests.models.tiny import save, tiny_model

api = pytest.importorskip(
    "tensorrt_rtx", reason="builds engines with tensorrt-rtx (pip install tensorrt-rtx)"
)
AMPERE = (8, 6)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_builds_in_every_precision(network: str, precision: str, exports: Path) -> None:
    artifact = load_artifact(exported(exports, network, precision, target="tensorrt"))
    assert len(build(api, artifact, max_batch=4, capability=AMPERE)) > 10_000


def test_timings_and_progress_work_in_the_real_package(tiny: Path, tmp_path: Path) -> None:
    phases: set[str] = set()
    plan = build(
        api,
        load_artifact(tiny),
        max_batch=2,
        capability=AMPERE,
        timing_cache=tmp_path / "timings.cache",
        progress=lambda phase, _done, _steps: phases.add(phase),
    )
    assert plan


def test_a_graph_that_tensorrt_does_not_know_is_told_in_its_words(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node[2].op_type = "Undreamtof"
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(EngineFailed, match="TensorRT cannot read .*Undreamtof"):
        build(api, load_artifact(path), max_batch=1, capability=AMPERE)


def test_either_package_is_found() -> None:
    assert import_api().__name__ in ("tensorrt", "tensorrt_rtx")
