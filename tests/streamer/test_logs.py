"""What the log looks like, wherever it goes."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.logs import Complaints, kind_of

CODE = """
import logging, os, sys
status = os.fstat(2)
if sys.argv[1] == "journal":
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from streamer import logs
logs.set_up("info", json_lines=sys.argv[1] == "json")
log = logging.getLogger("part")
log.warning("one %s", "line")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("two")
log.debug("unseen")
"""


def said(how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, how],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stderr.splitlines()


def test_plain_lines_begin_with_their_level() -> None:
    assert said("plain")[0] == "WARNING one line"


def test_the_journal_gets_a_priority_with_every_line() -> None:
    lines = said("journal")

    assert lines[0] == "<4>one line"
    assert lines[1] == "<3>two"
    assert all(line.startswith("<3>") for line in lines[1:])


def test_json_has_one_object_a_line_with_the_traceback_inside() -> None:
    first, second = (json.loads(line) for line in said("json"))

    assert (first["level"], first["logger"], first["message"]) == ("warning", "part", "one line")
    assert first["time"].endswith("+00:00")
    assert "ZeroDivisionError" in second["exception"]


def test_every_kind_of_fault_is_told_once_and_its_values_make_no_new_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints = Complaints(logging.getLogger("part"))

    for fault in ("a message of 1 parts", "a message of 4 parts", "no header: 'x'", "no header: 'y'"):
        complaints.say(kind_of(ValueError(fault)), "refused: %s", fault)

    assert caplog.messages == ["refused: a message of 1 parts", "refused: no header: 'x'"]


def test_a_peer_cannot_flood_the_log_with_ever_new_faults(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("part"))

    for number in range(1000):
        complaints.say(kind_of(ValueError("x" * number)), "refused")

    assert len(caplog.messages) < 20
