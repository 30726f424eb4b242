"""The benchmarks of engines and of a GPU run through, on whatever machine this is."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("torch", reason="benchmarks PyTorch too (pip install 'sonostream[train]')")

from benchmarks.command import bench
from benchmarks.engines import EAGER, NETWORKS, EngineSettings, run_engines, show
from benchmarks.gpu import measure, table

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.timeout(300),
    # torch.export's own bookkeeping, on its way out of PyTorch.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


@pytest.mark.slow
def test_the_table_compares_every_engine_with_pytorch_in_the_same_run(tmp_path: Path) -> None:
    settings = EngineSettings(networks=("mtl_oca",), threads=(1,), batches=(1, 2), rounds=3, size=32)
    report = run_engines(settings, tmp_path)
    json.dumps(report)
    rows = {(row["runtime"], row["precision"], row["batch"]): row for row in report["rows"]}
    assert rows[EAGER, "fp32", 1]["times_eager"] == 1.0
    assert {("onnxruntime", "fp32", 2), ("onnxruntime", "int8+fp32", 1)} <= rows.keys()
    assert {auto["file"] for auto in report["auto"]} == {"fp32", "int8"}
    console = Console(width=200)
    with console.capture() as capture:
        show(report, console)
    assert "torch eager" in capture.get()


def test_the_gpu_script_runs_on_a_processor_too() -> None:
    rows = list(measure((("mtl_oca", 32),), batches=(1, 2), calls=2))
    assert {row["batch"] for row in rows} == {1, 2}
    assert all(row["wall_ms"]["p50"] > 0 for row in rows)
    report = {"machine": {"cpu": "a processor"}, "rows": rows}
    assert table(report).row_count == len(rows)


def test_the_page_of_engines_shows_the_stored_figures() -> None:
    stored = json.loads((ROOT / "benchmarks/results/epyc-2-cores/engines.json").read_text())
    rows = {(row["network"], row["runtime"], row["precision"], row["batch"]): row for row in stored["rows"]}
    engines = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8+bf16")]
    page = (ROOT / "docs/ENGINES.md").read_text()
    for network in NETWORKS:
        cells = [f"{rows[network, EAGER, 'fp32', 1]['ms']:.1f}"]
        for engine in engines:
            row = rows[(network, *engine, 1)]
            cells.append(f"{row['ms']:.1f} ({row['times_eager']:.1f}x)")
        assert f"| {network} | {' | '.join(cells)} |" in page


def test_an_unknown_network_is_one_clear_line() -> None:
    result = CliRunner().invoke(bench, ["engines", "--network", "alexnet"])
    assert result.exit_code == 2
    assert "--network is one of mtl_oca" in result.output
