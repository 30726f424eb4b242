"""What the README shows is true."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.cli import COMMANDS
from streamer.config import load_config
from tests.models.tiny import save, tiny_model
from tests.streamer.running import Daemon, running

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    with running(model, "phantom:?width=160&height=120&prerender=20&lift=false&cut=false") as started:
        started.wait_for(lambda: started.get("/readyz")[0] == 200)
        yield started


def test_the_python_lines_print_live_results(daemon: Daemon) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 5

    reader = subprocess.Popen(
        [sys.executable, "-u", "-c", code.replace("tcp://127.0.0.1:7070", daemon.address)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert reader.stdout is not None
    lines = [reader.stdout.readline() for _ in range(3)]
    reader.kill()
    reader.communicate()

    for line in lines:
        assert re.fullmatch(r"\d+ live (benign|malignant|normal) 0\.\d{3} s\n", line), lines


def test_the_node_lines_are_those_of_the_example() -> None:
    (code,) = blocks("js")

    assert code == (ROOT / "examples/node/subscribe.mjs").read_text()


def test_every_command_and_flag_it_names_exists() -> None:
    commands = set(re.findall(r"(?:^|`|/)sonostream ([a-z]+)", README, re.MULTILINE))
    keys = {key for key in re.findall(r"--([a-z]+\.[a-z_]+)", README) if not key.startswith("source.")}

    assert {"run", "view", "demo", "doctor"} <= commands
    assert commands <= set(COMMANDS)
    for key in keys:
        section, _, name = key.partition(".")
        assert name in getattr(load_config(environment={}), section).model_dump(), key


def test_its_latencies_are_those_of_the_stored_runs() -> None:
    rows = set(README.splitlines())
    stored = sorted((ROOT / "benchmarks/results/epyc-2-cores").glob("live-*.json"))
    assert stored

    for file in stored:
        report = json.loads(file.read_text())
        names = ("p50", "p95", "p99", "p999", "max")
        title = {"phantom": "raw frames", "h264": "live H.264"}[report["settings"]["feed"]]
        for what, values in (("end to end", report["end_to_end_ms"]), ("floor", report["floor_ms"])):
            cells = " | ".join(f"{values[name]:.1f}" for name in names)
            assert f"| {title}, {what} | {cells} |" in rows


def test_its_accuracies_are_those_of_the_models_card() -> None:
    card = (ROOT / "models/zoo/default.md").read_text()
    rows = re.findall(
        r"^\| ([^|]+) \| (\d[^|]+) \|$", README.partition("## The model that ships")[2], re.MULTILINE
    )
    assert len(rows) == 5

    for title, figure in rows:
        assert f"| {title} | {figure} |" in card


def test_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
