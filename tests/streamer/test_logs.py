"""What the log looks like, wherever it goes."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
