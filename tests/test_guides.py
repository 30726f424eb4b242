"""Commands and programs in the guides run, in order, as they stand on the page.

A fence's marker says how: `run` to its end, `until-analysed` until frames were analysed and then Ctrl-C,
`background` until the page is over. Ports are replaced by free ones, the capture device by a phantom, and the
model by a tiny one.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from streamer.cli import COMMANDS
from tests.models.tiny import save, tiny_model
from tests.streamer.running import free_port

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = ("TUTORIAL", "CONNECTING", "CHOOSING", "CLIENTS", "OPERATING")
DEVICE = "'phantom:?width=160&height=120&prerender=20&lift=false&cut=false'"
WITHIN_S = 90.0


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    how: str
    text: str


def blocks(page: str) -> list[Block]:
    return [
        Block(*each)
        for each in re.findall(r"^```(\w+) ?([\w-]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]


class Guide:
    """Runs the blocks of one page in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {known: free_port() for known in ("7070", "7071", "7080")}
        programs = folder / "bin"
        programs.mkdir()
        for name, command in (("sonostream", "-m streamer"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (programs / name).chmod(0o755)
        self.work = folder / "work"
        self.work.mkdir()
        model = save(tiny_model(), folder / "tiny.onnx")
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("SONOSTREAM")
        } | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SONOSTREAM_MODEL__ARTIFACT": str(model),
            "SONOSTREAM_PUBLISH__BIND": f"tcp://127.0.0.1:{self.ports['7070']}",
            "SONOSTREAM_HTTP__PORT": str(self.ports["7071"]),
            "OMP_NUM_THREADS": "1",
        }
        self.running: list[subprocess.Popen[str]] = []

    def here(self, text: str) -> str:
        """Put free ports and a phantom where the page has the usual ones."""
        for known, free in self.ports.items():
            text = re.sub(rf"\b{known}\b", str(free), text)
        text = text.replace("/dev/video0", DEVICE)
        # Sizes and rates are asked of a device; a phantom of another size has the region elsewhere.
        text = re.sub(r"phantom: ", f"{DEVICE} ", text)
        return re.sub(r" --source\.size \S+", "", text)

    def start(self, block: Block) -> "subprocess.Popen[str]":
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else ["python", "-c"]
        text = self.here(block.text)
        if block.how in ("background", "until-analysed"):
            text = f"exec {text}"
        return subprocess.Popen(
            [*command, text], cwd=self.work, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, block: Block) -> str:
        process = self.start(block)
        try:
            said, _ = process.communicate(timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"did not end: {block.text}\n{process.communicate()[0]}") from None
        assert process.returncode == 0, f"{block.text}\n{said}"
        return said

    def run_until_analysed(self, block: Block) -> None:
        process = self.start(block)
        self.wait_for_analyses(process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0, f"{block.text}\n{said}"

    def leave_running(self, block: Block) -> None:
        process = self.start(block)
        self.running.append(process)
        if " run " in block.text:
            self.wait_for_analyses(process)
        else:
            self.wait(
                process,
                lambda: bool(socket.create_connection(("127.0.0.1", self.ports["7080"]), 1).close() or 1),
            )

    def wait_for_analyses(self, process: "subprocess.Popen[str]") -> None:
        def analysed() -> bool:
            with urlopen(f"http://127.0.0.1:{self.ports['7071']}/status", timeout=3) as answer:
                status = json.load(answer)
            return any(source["analyzed"] > 3 for source in status["sources"])

        self.wait(process, analysed)

    def wait(self, process: "subprocess.Popen[str]", claim) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            try:
                if claim():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        process.kill()
        raise AssertionError(f"nothing happened: {process.communicate()[0]}")


@contextmanager
def opened(folder: Path) -> Iterator[Guide]:
    guide = Guide(folder)
    try:
        yield guide
    finally:
        for process in guide.running:
            process.terminate()
        for process in guide.running:
            process.communicate(timeout=WITHIN_S)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", GUIDES)
def test_what_a_guide_says_to_type_works(name: str, tmp_path: Path) -> None:
    ran = 0
    with opened(tmp_path) as guide:
        for block in blocks((DOCS / f"{name}.md").read_text()):
            if block.how == "run":
                guide.run(block)
            elif block.how == "until-analysed":
                guide.run_until_analysed(block)
            elif block.how == "background":
                guide.leave_running(block)
            else:
                assert block.how == "", block
                continue
            ran += 1

    assert ran >= 2
    if name in ("TUTORIAL", "OPERATING"):
        assert "<svg" in (guide.work / "summary.html").read_text()
    if name == "TUTORIAL":
        assert (guide.work / "study.mp4").stat().st_size > 1000


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_and_flag_of_a_guide_exists(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    commands = set(re.findall(r"(?:^|[`/ ])sonostream ([a-z]+)(?=[ `])", page, re.MULTILINE))
    commands -= {"is", "as"}

    assert commands
    assert commands <= set(COMMANDS), commands - set(COMMANDS)
    assert "Research use only" in page.partition("##")[0]


@pytest.mark.parametrize("name", GUIDES)
def test_links_of_a_guide_lead_somewhere(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page):
        path, _, heading = target.partition("#")
        file = (DOCS / path) if path else DOCS / f"{name}.md"
        assert file.exists(), target
        headings = {
            re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-")
            for each in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
        } if heading else {""}  # fmt: skip
        assert heading in headings, target
