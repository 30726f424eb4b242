"""The command line as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli import COMMANDS
from tests.streamer.running import sonostream

ROOT = Path(__file__).parents[2]


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments] if code else sonostream(*arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_the_help_page_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys\nfrom streamer.cli import app\n"
        "try: app(['--help'])\nfinally: print('torch' in sys.modules, 'zmq' in sys.modules)"
    )
    shown = run(code=code).stdout

    for name in COMMANDS:
        assert f" {name} " in shown
    assert shown.strip().endswith("False False")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page(name: str) -> None:
    done = run(name, "--help")

    assert done.returncode == 0, done.stderr
    assert f"sonostream {name}" in done.stdout or f"streamer {name}" in done.stdout


def test_a_help_text_is_broken_where_the_terminal_ends_and_not_where_its_source_file_does() -> None:
    done = subprocess.run(
        sonostream("bench", "live", "--help"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "400"},
    )

    assert "the report names." in next(line for line in done.stdout.splitlines() if "The floor" in line)


def test_a_command_whose_extra_is_missing_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom streamer.cli import app\napp(['train'])"

    done = run(code=code)

    assert done.returncode == 2
    assert done.stderr.strip() == "sonostream: `train` needs torch: pip install 'sonostream[train]'"


def test_an_unknown_command_is_refused() -> None:
    done = run("trian")

    assert done.returncode == 2
    assert "No such command 'trian'" in done.stderr
