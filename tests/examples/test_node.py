"""The Node example reads a real publisher."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import require_program
from tests.streamer.view.drawn_feed import DrawnFeed

EXAMPLE = Path(__file__).parents[2] / "examples" / "node"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its one dependency."""
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    npm = require_program("npm", package="npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        pytest.skip(f"npm install failed, is the registry reachable? {done.stderr.strip()[-300:]}")
    return folder


def test_the_node_example_prints_every_result_in_order(installed: Path) -> None:
    node = require_program("node", package="nodejs")
    with DrawnFeed(channel="analysis") as feed:
        process = subprocess.Popen(
            [node, "subscribe.mjs", feed.address], cwd=installed, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
        finally:
            process.kill()
            process.communicate()
    found = [re.fullmatch(r"left (\d+) live malignant 20\.0 ms [\d.]+ mm\n", line) for line in lines]
    assert all(found), lines
    frames = [int(match[1]) for match in found if match]
    assert frames == list(range(frames[0], frames[0] + 5))
