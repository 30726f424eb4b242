"""A name that is burned into a picture's border, or written in its file or address, is in no output."""

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from streamer.client import Subscriber
from streamer.config import ConfigError, load_config
from streamer.frame import Pixels
from streamer.openigtlink_messages import (
    HEADER_BYTES,
    image_head_bytes,
    parse_header,
    parse_image,
    take_pixels,
)
from streamer.sources.registry import without_credentials
from streamer.view import Viewer
from tests.models.tiny import save as save_model
from tests.models.tiny import tiny_model
from tests.streamer.running import Daemon, free_port, running, sonostream
from tests.streamer.view.test_server import header_of, open_page

pytest.importorskip("pydicom", reason="needs pip install 'sonostream[formats]'")
pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

from mcap.reader import make_reader
from pydicom.sequence import Sequence

from streamer.recording import Recorded, read_recording, survey
from tests.streamer.sources.test_dicom import dataset, region, save

PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"
WIDTH, HEIGHT = 320, 240
X, Y, COLUMNS, ROWS = 80, 60, 160, 120
BRIGHTEST = 90
"""In the region; the name around it is white."""
# Long enough not to come up by chance in a mask.
NAMES = [b"DOE^JANE", b"DOE_JANE", b"DOE JANE", b"DOEJANE0001", b"19700230"]
USER, PASSWORD, TOKEN = "nurse7", "hunter2secret", "abc123token"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def screen(number: int) -> Pixels:
    """A scanner's screen: a name above and below, on either side, and speckle between."""
    rng = np.random.default_rng(number)
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for at in (30, 220):
        cv2.putText(picture, "DOE JANE 1970", (4, at), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 3)
    picture[:, :60] = picture[:, 250:] = 255
    picture[Y : Y + ROWS, X : X + COLUMNS] = rng.integers(40, BRIGHTEST, (ROWS, COLUMNS))
    return picture


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A clip of DOE JANE, in a folder of her name."""
    folder = tmp_path / "DOE_JANE"
    folder.mkdir()
    tissue = region(X, Y, X + COLUMNS - 1, Y + ROWS - 1)
    frames = np.stack([screen(number) for number in range(10)])
    made = dataset(
        frames,
        FrameTime=40,
        SequenceOfUltrasoundRegions=Sequence([tissue]),
        PatientID="DOEJANE0001",
        PatientBirthDate="19700230",
        StudyDescription="MAMMA OF DOE JANE",
        InstitutionName="JANE HOSPITAL",
    )
    return save(made, folder / "DOE_JANE.dcm")


def decoded(data: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def assert_region_only(pixels: Pixels, *, lossless: bool = False) -> None:
    assert pixels.shape == (ROWS, COLUMNS)
    # JPEG may overshoot a little.
    assert pixels.max() < BRIGHTEST + (0 if lossless else 60)


def assert_nameless(data: bytes, what: str) -> None:
    for name in NAMES:
        for spelled in (name, name.lower(), name.decode().encode("utf-16-le")):
            assert spelled not in data, (what, spelled, data[:200])


def messages(address: str, count: int) -> Iterator[list[bytes]]:
    """Everything that comes from a daemon, as it is on the wire."""
    import zmq

    heard = zmq.Context.instance().socket(zmq.SUB)
    heard.subscribe("")
    heard.connect(address)
    try:
        for _ in range(count):
            assert heard.poll(10_000)
            yield heard.recv_multipart()
    finally:
        heard.close(0)


def openigtlink_pictures(port: int, count: int) -> Iterator[tuple[bytes, Pixels]]:
    """Messages as bytes; of label maps the pixels."""
    with socket.create_connection(("127.0.0.1", port)) as link, link.makefile("rb") as stream:
        while count:
            head = stream.read(HEADER_BYTES)
            header = parse_header(head)
            body = stream.read(header.body_bytes)
            pixels = np.zeros((0, 0), np.uint8)
            if header.kind == "IMAGE":
                pixels = take_pixels(parse_image(header, body[: image_head_bytes(header)]), body)
                count -= 1
            yield head + body, pixels


def view(daemon: Daemon) -> tuple[bytes, bytes]:
    """What a page gets: the message, and the picture in it."""
    with Viewer(daemon.address, port=0) as viewer, open_page(viewer) as page:
        while isinstance(message := page.recv(), str) or header_of(message)["mask"] is None:
            assert_nameless(message.encode() if isinstance(message, str) else b"", "the page")
    header = header_of(message)
    at = 4 + int.from_bytes(message[:4], "little") + header["mask"]["width"] * header["mask"]["height"]
    return message, message[at:]


def test_a_planted_name_is_in_no_output_no_recording_no_log_and_no_crash_dump(
    model: Path, study: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    link = free_port()
    flags = [study, "--source.loop=true", "--source.name=probe", f"--record.path={out / 'study.mcap'}"]
    flags += [f"--openigtlink.port={link}", "--log.level=debug", "--log.format=json"]
    with running(model, *flags) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        kinds = set()
        pictures = 0
        for parts in messages(daemon.address, 60):
            kinds.add(parts[0].split(b"/")[1])
            assert_nameless(b"".join(parts[:3]), "a message")
            if len(parts) > 3:
                assert_region_only(decoded(parts[3]))
                pictures += 1
        assert kinds == {b"analysis", b"preview", b"event"}
        assert pictures > 3
        for data, pixels in openigtlink_pictures(link, 4):
            assert_nameless(data, "OpenIGTLink")
            assert pixels.shape in ((0, 0), (ROWS, COLUMNS))
            assert pixels.max(initial=0) <= 1
        message, picture = view(daemon)
        assert_nameless(message[: -len(picture)], "the page")
        assert_region_only(decoded(picture))
        for page in ("/metrics", "/status", "/healthz", "/readyz"):
            assert_nameless(daemon.get(page)[1].encode(), page)
        daemon.process.send_signal(signal.SIGABRT)
        _, said = daemon.process.communicate(timeout=20)

    assert_nameless(said.encode(), "the log")
    assert [path.name for path in out.iterdir()] == ["study.mcap"]  # and no dump
    recorded = list(read_recording(out / "study.mcap"))
    assert len(recorded) > 10
    for each in recorded:
        assert_nameless(msgspec.json.encode(each), "the recording")
        if isinstance(each, Recorded):
            assert each.picture is not None
            assert_region_only(decoded(each.picture.data), lossless=True)
    overview = survey(out / "study.mcap")
    assert_nameless(f"{overview.sources} {overview.config}".encode(), "the recording's head")
    assert_nameless((out / "study.mcap").read_bytes(), "the recording's bytes")


def test_passwords_names_and_places_are_in_no_page_of_the_daemon_and_in_no_recording(
    model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "DOE_JANE"
    folder.mkdir()
    study = folder / "study.mcap"
    address = f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{free_port()}/DOE_JANE?token={TOKEN}"
    config = tmp_path / "sonostream.toml"
    config.write_text(
        f'[[source]]\nuri = "{address}"\nrequired = false\ntimeout_s = 1\n[[source]]\nuri = "{PHANTOM}"\n'
    )
    with running(model, "--config", str(config), f"--record.path={study}", "--log.level=debug") as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        daemon.wait_for(lambda: study.stat().st_size > 100_000)
        pages = {page: daemon.get(page)[1] for page in ("/metrics", "/status", "/healthz", "/nothing")}
        with Subscriber(daemon.address) as subscriber:
            heard = [subscriber.receive(10) for _ in range(20)]
        # The recorder closes its file: what is in it can be read as a whole.
        code, said = daemon.stop()
    shown = subprocess.run(
        sonostream("run", "--config", str(config), "--print-config"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert code == 0, said
    assert "cannot be opened" in said
    assert "***@127.0.0.1" in shown
    with study.open("rb") as file:
        kept = [each.metadata for each in make_reader(file).iter_metadata()]
    everything = {**pages, "log": said, "configuration": shown, "recording": str(kept), "results": str(heard)}
    for where, text in everything.items():
        for secret in (USER, PASSWORD, TOKEN):
            assert secret not in text, where
    for where in (*pages, "recording", "results"):
        for private in ("DOE_JANE", str(tmp_path), str(model.parent), "rtsp:"):
            assert private not in everything[where], where


def labels(metrics: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, value in re.findall(r'(\w+)="([^"]*)"', metrics):
        found.setdefault(name, set()).add(value)
    return found


def test_metrics_and_status_tell_only_names_that_the_operator_chose(model: Path) -> None:
    with running(model, PHANTOM, "--source.name=left") as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        found = labels(daemon.get("/metrics")[1])
        status: dict[str, Any] = json.loads(daemon.get("/status")[1])

    assert found["source"] <= {"left", ""}
    for name, values in found.items():
        assert not any("/" in value or "@" in value for value in values), (name, values)
    assert not any("/" in str(value) for source in status["sources"] for value in source.values())
    assert not any("/" in str(value) for value in status["model"].values())


def test_recordings_are_for_their_owner_only_whatever_the_umask(model: Path, tmp_path: Path) -> None:
    def program(*arguments: str) -> list[str]:
        return ["sh", "-c", 'umask 000; exec "$@"', "sh", *sonostream(*arguments)]

    study, copy = tmp_path / "study.mcap", tmp_path / "copy.mcap"
    with running(model, PHANTOM, f"--record.path={study}", program=program) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        client = subprocess.Popen(program("record", daemon.address, str(copy)), stderr=subprocess.DEVNULL)
        daemon.wait_for(lambda: copy.exists() and copy.stat().st_size > 0)
        client.terminate()
        client.wait(15)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (study, copy)] == [0o600, 0o600]


WATCHED = """
import sys
def note(event, values):
    if event in ("socket.connect", "socket.sendto", "urllib.Request"):
        print("CALLS", event, values[1:] if event != "urllib.Request" else values, file=sys.stderr)
sys.addaudithook(note)
from streamer.cli import main
main()
"""


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_daemon_calls_nobody_by_itself(model: Path, tmp_path: Path, runtime: str) -> None:
    def program(*arguments: str) -> list[str]:
        return [sys.executable, "-c", WATCHED, *arguments]

    flags = [PHANTOM, f"--model.runtime={runtime}", f"--record.path={tmp_path / 'study.mcap'}"]
    with running(model, *flags, program=program) as daemon:
        daemon.wait_for(lambda: daemon.status()["sources"][0]["analyzed"] > 5)
        code, said = daemon.stop()

    assert code == 0, said
    assert [line for line in said.splitlines() if line.startswith("CALLS")] == []


def test_the_watch_for_calls_sees_one() -> None:
    call = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    code = WATCHED.partition("from streamer")[0] + call
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )

    assert "CALLS socket.connect" in done.stderr


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://nurse:p@ss@10.0.0.1/live?a=1", "rtsp://***@10.0.0.1/live?a=1"),
        ("srt://host:1?passphrase=abc&latency=3", "srt://host:1?passphrase=***&latency=3"),
        ("http://host/s?Token=abc", "http://host/s?Token=***"),
        ("phantom:?seed=3&fps=30", "phantom:?seed=3&fps=30"),
        ("zmq+tcp://127.0.0.1:5?mode=sub&topic=left", "zmq+tcp://127.0.0.1:5?mode=sub&topic=left"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


def test_a_mistyped_address_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(sources=(f"rtps://{USER}:{PASSWORD}@10.0.0.1/live",), environment={})

    assert "rtps" in str(refused.value)
    assert PASSWORD not in str(refused.value)
