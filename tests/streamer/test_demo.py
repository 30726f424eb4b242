"""The demonstration, as a user starts and ends it."""

import re
import signal
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from streamer.client import Subscriber
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.streamer.running import free_port, sonostream


def test_ctrl_c_ends_the_demo_with_a_summary_of_the_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONOSTREAM_MODEL__ARTIFACT", str(save(tiny_model(), tmp_path / "tiny.onnx")))
    address, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    demo = subprocess.Popen(
        sonostream(
            "demo", "phantom:?width=160&height=120&prerender=20&lift=false&cut=false", "--no-browser",
            f"--publish={address}", f"--port={port}", f"--http-port={free_port()}",
        ),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        with Subscriber(address) as subscriber:
            seen = 0
            while seen < 20:
                seen += isinstance(subscriber.receive(60), Received)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=3) as answer:
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(0.05)
        # A terminal sends Ctrl-C to the demo; it tells its two processes.
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=60)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.communicate()

    words = re.sub(r"\s+", " ", said)
    assert demo.returncode == 0, said
    assert "Research only" in words
    found = re.search(r"(\d+) frames analysed; .*median ([\d.]+) ms, 95 % within ([\d.]+) ms, 99 %", words)
    assert found is not None, said
    assert int(found[1]) > 0
    assert float(found[2]) <= float(found[3])
    assert "Traceback" not in said
