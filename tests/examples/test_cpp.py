"""The C++ example reads a real publisher."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.programs import require_program
from tests.streamer.view.drawn_feed import DrawnFeed

SOURCE = Path(__file__).parents[2] / "examples" / "cpp" / "subscribe.cpp"
HEADERS = {"zmq_addon.hpp": "cppzmq-dev", "nlohmann/json.hpp": "nlohmann-json3-dev"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = require_program("g++", package="g++")
    for header, package in HEADERS.items():
        if not any((Path(root) / header).exists() for root in ("/usr/include", "/usr/local/include")):
            pytest.skip(f"needs {header}: apt install {package}")
    built = tmp_path_factory.mktemp("cpp") / "subscribe"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-lzmq", "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return built


def test_the_cpp_example_prints_every_result_and_says_when_the_daemon_is_gone(program: Path) -> None:
    with DrawnFeed(channel="analysis") as feed:
        process = subprocess.Popen([program, feed.address], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        address = feed.address
    try:
        last = next(line for line in process.stdout if not line.startswith("left "))
    finally:
        process.kill()
        process.communicate()

    found = [re.fullmatch(r"left (\d+) live malignant 20\.0 ms [\d.]+ mm\n", line) for line in lines]
    assert all(found), lines
    frames = [int(match[1]) for match in found if match]
    assert frames == list(range(frames[0], frames[0] + 5))
    assert last == f"no connection to {address}\n"
