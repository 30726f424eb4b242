"""What docs/FORMATS.md shows can be typed."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from streamer.cli import COMMANDS
from streamer.config import Config, SourceConfig, load_config
from streamer.sources.registry import parse_uri
from tests.streamer.running import sonostream

PAGE = (Path(__file__).parents[1] / "docs" / "FORMATS.md").read_text()
LINES = re.findall(r"^    sonostream (.+)$", PAGE, re.MULTILINE)


def test_every_key_it_names_exists() -> None:
    sections = {name: type(getattr(load_config(environment={}), name)) for name in Config.model_fields}
    sections["source"] = SourceConfig
    keys = re.findall(r"`(?:--)?(source|record|publish|openigtlink)\.([a-z_]+)", PAGE)

    assert len(keys) >= 6
    for section, key in keys:
        assert key in sections[section].model_fields, f"{section}.{key}"


@pytest.mark.parametrize("line", LINES)
def test_every_line_it_shows_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *arguments = shlex.split(line)
    assert command in COMMANDS
    monkeypatch.chdir(tmp_path)
    for name in ("study.mcap", "study.dcm"):
        Path(name).touch()
    if command == "run":
        sources = [each for each in arguments if re.match(r"igtl:|study\.", each)]
        assert all(parse_uri(each) in ("igtl", "mcap", "dicom") for each in sources)
        usual = [each.replace("/dev/video0", "phantom:") for each in arguments]
        shown = subprocess.run(
            sonostream("run", *usual, "--print-config"), capture_output=True, text=True, timeout=60
        )
        assert shown.returncode == 0, shown.stderr
        return
    options = {each for each in arguments if each.startswith("--")}
    told = subprocess.run(
        sonostream(command, "--help"),
        capture_output=True,
        text=True,
        timeout=60,
        env={"COLUMNS": "300", "NO_COLOR": "1", "PATH": "", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert options <= set(re.findall(r"--[a-z-]+", told.stdout)), told.stdout + told.stderr
