"""Examples in the help pages, and completion in the shell."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from streamer.cli import COMMANDS, _load
from streamer.cli.examples import EXAMPLES
from tests.streamer.running import sonostream


def test_every_command_has_examples() -> None:
    assert list(EXAMPLES) == list(COMMANDS)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_is_understood(line: str) -> None:
    program, name, *arguments = shlex.split(line)
    command = _load(name)

    assert program == "sonostream"
    with command.make_context(name, arguments) as context:
        if isinstance(context.command, typer.core.TyperGroup):
            _, inner, rest = context.command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert inner is not None
            inner.make_context(inner.name, rest, parent=context)


def test_the_help_page_shows_them_one_a_line() -> None:
    shown = subprocess.run(
        sonostream("replay", "--help"),
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    ).stdout
    lines = [line.strip() for line in shown.splitlines()]

    assert "Examples:" in lines
    for example in EXAMPLES["replay"]:
        assert example in lines


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("sonostream ex", {"extract", "export"}), ("sonostream run --http.p", {"--http.port"})],
)
def test_the_shell_completes_commands_and_flags(typed: str, expected: set[str], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("sonostream")
    if not program.exists():
        pytest.skip("needs the installed program `sonostream`: pip install -e .")
    words = typed.split()
    offered = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=os.environ
        | {"_SONOSTREAM_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)},
    ).stdout

    assert expected <= set(re.split(r"\s+", offered.strip())), offered
