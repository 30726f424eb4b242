"""The container files, as far as they can be judged without building them."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from streamer.cli import COMMANDS
from streamer.config import HttpConfig, PublishConfig, load_config

ROOT = Path(__file__).parents[2]
FILES = ("Containerfile", "Containerfile.gpu")


def text(name: str) -> str:
    return (ROOT / "packaging" / name).read_text()


@pytest.mark.parametrize("name", FILES)
def test_what_it_copies_and_installs_exists(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = [
        part
        for line in re.findall(r"^COPY (?!--from)(.+)$", text(name), re.MULTILINE)
        for part in shlex.split(line)[:-1]
    ]

    assert {"streamer", "models", "pyproject.toml"} <= set(copied)
    assert all((ROOT / part).exists() for part in copied)
    (asked,) = re.findall(r"'\.\[([\w,]+)\]'", text(name))
    assert set(asked.split(",")) <= set(extras)


@pytest.mark.parametrize("name", FILES)
def test_the_commands_and_flags_it_names_exist(name: str) -> None:
    for line in re.findall(r"sonostream(?:-gpu)? (run .+)$", text(name), re.MULTILINE):
        command, *rest = shlex.split(line)
        assert command in COMMANDS
        for section, key in re.findall(r"--(\w+)\.(\w+)", " ".join(rest)):
            config = load_config(environment={}, sources=("phantom:",))
            where = config.source[0] if section == "source" else getattr(config, section)
            assert key in type(where).model_fields
    for port in (HttpConfig().port, int(PublishConfig().bind.rpartition(":")[2])):
        assert re.search(rf"EXPOSE .*\b{port}\b", text(name))


@pytest.mark.parametrize("name", FILES)
def test_it_says_that_it_was_not_built_and_runs_as_nobody_special(name: str) -> None:
    assert "NOT BUILT" in text(name)
    assert "Research use only" in text(name)
    assert "USER sonostream" in text(name)
