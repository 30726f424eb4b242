"""The whole daemon on feeds as they are met: a scanner's screen, a network stream, a foreign sender."""

import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamer.client import Subscriber
from streamer.frame import Pixels
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.programs import require_program
from tests.streamer.running import Daemon, free_port, running

WIDTH, HEIGHT = 320, 240
REGION = (80, 60, 160, 120)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


class Screen:
    """A real X screen whose pixels a test writes straight into the file of its frame buffer.

    Written, not mapped: a server that makes its file anew would end the process that has it mapped.
    """

    def __init__(self, display: str, buffer: Path) -> None:
        self.display = display
        header = struct.unpack(">25I", buffer.read_bytes()[:100])
        self._offset = header[0] + header[19] * 12  # an XWD file: its header, then its colours
        self._buffer = buffer

    def draw(self, picture: Pixels) -> None:
        """Show a gray picture of the screen's size."""
        with self._buffer.open("r+b") as file:
            file.seek(self._offset)
            file.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGRA).tobytes())


@contextmanager
def virtual_screen(folder: Path) -> Iterator[Screen]:
    xvfb = require_program("Xvfb", package="xvfb")
    options = [
        "-displayfd",
        "1",
        "-screen",
        "0",
        f"{WIDTH}x{HEIGHT}x24",
        "-nolisten",
        "tcp",
        "-noreset",
        "-fbdir",
        str(folder),
    ]
    with subprocess.Popen(
        [xvfb, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        number = server.stdout.readline().strip()
        try:
            yield Screen(f":{number}", folder / "Xvfb_screen0")
        finally:
            server.terminate()


@contextmanager
def scanning(screen: Screen) -> Iterator[None]:
    """Keep drawing a scanner's screen: a name at the top, moving speckle in the region."""
    done = threading.Event()
    x, y, width, height = REGION

    def draw() -> None:
        picture = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.putText(picture, "DOE JANE 1970", (4, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 3)
        rng = np.random.default_rng(0)
        while not done.wait(0.02):
            picture[y : y + height, x : x + width] = rng.integers(40, 90, (height, width), dtype=np.uint8)
            screen.draw(picture)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)


def first_live(daemon: Daemon) -> Received:
    """The first picture of a live feed; asks the daemon's own word where none comes."""
    with Subscriber(daemon.address, channels=("preview",)) as subscriber:
        while True:
            message = subscriber.receive(20)
            assert message is not None, daemon.get("/status")[1]
            if isinstance(message, Received) and message.analysis.state == "live":
                return message


def test_a_scanners_screen_is_analysed_and_nothing_outside_its_region_leaves(
    model: Path, tmp_path: Path
) -> None:
    region = ",".join(map(str, REGION))
    with (
        virtual_screen(tmp_path) as screen,
        scanning(screen),
        running(model, f"x11grab:{screen.display}", f"--source.region={region}", "--source.fps=30") as daemon,
    ):
        received = first_live(daemon)

    assert received.analysis.classes is not None
    assert received.picture is not None
    shown = cv2.imdecode(np.frombuffer(received.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert shown.shape == (120, 160)
    assert shown.max() < 150  # the speckle ends at 90, the name is 255


def test_a_region_is_found_on_a_scanners_screen(model: Path, tmp_path: Path) -> None:
    with (
        virtual_screen(tmp_path) as screen,
        scanning(screen),
        running(model, f"x11grab:{screen.display}", "--source.region=auto", "--source.fps=30") as daemon,
    ):
        found = first_live(daemon).analysis.region

    for value, expected in zip((found.x, found.y, found.width, found.height), REGION, strict=True):
        assert abs(value - expected) <= 12


def test_a_stream_from_a_real_encoder_is_analysed_until_it_is_cut_and_after_it_returns(model: Path) -> None:
    ffmpeg = require_program("ffmpeg", package="ffmpeg")
    uri = f"udp://127.0.0.1:{free_port()}"
    picture = "testsrc2=size=320x240:rate=25"
    send = [ffmpeg, "-loglevel", "error", "-re", "-f", "lavfi", "-i", picture, "-c:v", "libx264"]
    send += [
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "25",
        "-f",
        "mpegts",
        f"{uri}?pkt_size=1316",
    ]

    with running(model, uri, "--source.required=false", "--source.timeout_s=1") as daemon:

        def is_live() -> bool:
            return daemon.get("/readyz")[0] == 200

        with subprocess.Popen(send, stdin=subprocess.DEVNULL) as sender:
            daemon.wait_for(is_live)
            sender.kill()
        daemon.wait_for(lambda: daemon.status()["sources"][0]["state"] == "no_signal")
        assert daemon.get("/readyz")[0] == 503
        with subprocess.Popen(send, stdin=subprocess.DEVNULL) as sender:
            daemon.wait_for(is_live)
            (source,) = daemon.status()["sources"]
            sender.kill()

    assert source["reconnects"] >= 1
    left = source["analyzed"] + sum(source["dropped"].values()) + source["in_flight"]
    assert source["captured"] == left


def test_an_unmodified_imagezmq_sender_is_analysed(model: Path) -> None:
    pytest.importorskip("imagezmq", reason="pip install imagezmq")
    address = f"tcp://127.0.0.1:{free_port()}"
    code = (
        "import imagezmq, numpy as np, itertools\n"
        f"sender = imagezmq.ImageSender(connect_to='{address}')\n"
        "for n in itertools.count():\n"
        "    picture = np.random.default_rng(n).integers(0, 255, (120, 160), dtype=np.uint8)\n"
        "    sender.send_image('scanner', picture)\n"
    )
    with (
        running(model, f"zmq+{address}?mode=rep&bind=1") as daemon,
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", code]) as sender,
    ):
        try:
            received = first_live(daemon)
        finally:
            sender.kill()

    assert (received.analysis.frame.width, received.analysis.frame.height) == (160, 120)
