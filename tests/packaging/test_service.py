"""The service file, judged by systemd itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import require_program

UNIT = Path(__file__).parents[2] / "packaging" / "sonostream.service"
# systemd's own scale from 0 (sealed) to 10 (open); below 2 it says "OK" and means it.
MOST_EXPOSED = 2.0


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, starting a program that exists on this machine."""
    text = UNIT.read_text().replace("/opt/sonostream/bin/sonostream", sys.executable)
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = require_program("systemd-analyze", package="systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_calls_the_service_well_hardened(unit: Path) -> None:
    done = analyze("security", "--no-pager", "--offline=true", str(unit))
    level = re.search(r"exposure level for [^:]*: ([0-9.]+)", done.stdout)

    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= MOST_EXPOSED, done.stdout
