"""OpenIGTLink against pyigtl's own server and client."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.analysis import Mask, Region
from streamer.crc64 import crc64
from streamer.frame import Clock, FeedState, Frame, Placement
from streamer.openigtlink import OpenIGTLinkError, OpenIGTLinkSink, describe_findings
from streamer.openigtlink_messages import MessageError, pack_image, parse_header
from streamer.sinks import Result
from streamer.sources import (
    Captured,
    Source,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
    open_source,
)
from tests.models.tiny import save, tiny_model
from tests.streamer.results import analysis
from tests.streamer.running import free_port, running
from tests.streamer.scripted import picture

pyigtl = pytest.importorskip("pyigtl", reason="needs pip install pyigtl")

MATRIX = np.array([[0.2, 0, 0, 5], [0, 0.1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """A listening socket that the test speaks OpenIGTLink on, byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def image(pixels: "np.ndarray[Any, Any]", version: int = 1, **settings: Any) -> Any:
    message = pyigtl.ImageMessage(pixels, device_name="Probe", ijk_to_world_matrix=MATRIX, **settings)
    message.header_version = version
    return message


def planes(pixels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return pixels[np.newaxis]


def connected(listener: socket.socket, query: str = "", timeout_s: float = 5) -> tuple[Source, socket.socket]:
    port = listener.getsockname()[1]
    source = open_source(f"igtl://127.0.0.1:{port}{query}", SourceOptions(timeout_s=timeout_s))
    connection, _ = listener.accept()
    return source, connection


def one(listener: socket.socket, data: bytes) -> Captured:
    source, connection = connected(listener)
    with source, connection:
        connection.sendall(data)
        captured = source.read()
    assert captured is not None
    return captured


def test_pictures_of_a_real_server_arrive_with_stamp_and_spacing() -> None:
    port = free_port()
    server = pyigtl.OpenIGTLinkServer(port=port, local_server=True)
    try:
        sent_at = time.time()
        with open_source(f"igtl://127.0.0.1:{port}") as source:
            while not server.is_connected():
                time.sleep(0.01)
            before = time.monotonic_ns()
            server.send_message(pyigtl.StringMessage("hello", device_name="Text"), wait=True)
            server.send_message(image(planes(picture(3)), timestamp=sent_at), wait=True)
            captured = source.read()
    finally:
        server.stop()

    assert captured is not None
    assert source.policy == "newest"
    assert np.array_equal(captured.pixels, picture(3))
    assert captured.clock is Clock.DEVICE
    assert captured.monotonic <= before  # when it was acquired, not when it came
    assert captured.spacing_mm == pytest.approx((0.1, 0.2))
    assert captured.placement is not None
    assert captured.placement.coordinates == "LPS"
    # The message tells the middle, the matrix the first pixel.
    assert captured.placement.axes[9:] == pytest.approx((5 + 79.5 * 0.2, 6 + 59.5 * 0.1, 7))


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_the_header_are_read(peer: socket.socket, version: int) -> None:
    message = image(planes(picture(1)), version)
    message.metadata = {"Status": "OK"} if version == 2 else {}

    assert np.array_equal(one(peer, message.pack()).pixels, picture(1))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.stack([picture(1), picture(2), picture(3)], axis=-1), None),
        (picture(1).astype("<u2") * 256 + 7, picture(1)),
        (picture(1).astype(">u2") * 256 + 7, picture(1)),
    ],
    ids=["RGB", "16 bits little endian", "16 bits big endian"],
)
def test_colour_and_deep_pixels_are_taken(
    peer: socket.socket, pixels: "np.ndarray[Any, Any]", expected: Any
) -> None:
    message = image(planes(pixels.astype(pixels.dtype.newbyteorder("<"))))
    data = bytearray(message.pack())
    if pixels.dtype.byteorder == ">":
        at = 58 + 72
        data[58 + 4] = 1
        data[at:] = pixels.tobytes()
        data[50:58] = struct.pack(">Q", crc64(bytes(data[58:])))

    captured = one(peer, bytes(data))

    assert np.array_equal(captured.pixels, pixels if expected is None else expected)


def test_a_picture_written_as_a_column_of_one_is_turned_right(peer: socket.socket) -> None:
    # What pyigtl makes of a two-dimensional array.
    captured = one(peer, image(picture(1)).pack())

    assert np.array_equal(captured.pixels, picture(1))
    assert captured.spacing_mm is None  # its rows are steps of exactly 1 mm: nobody measured them


def test_other_devices_and_messages_are_passed_over(peer: socket.socket) -> None:
    source, connection = connected(peer, "?device=Second")
    other = pyigtl.ImageMessage(planes(picture(1)), device_name="First")
    wanted = pyigtl.ImageMessage(planes(picture(2)), device_name="Second")
    with source, connection:
        connection.sendall(pyigtl.TransformMessage(np.eye(4), device_name="Second").pack())
        connection.sendall(other.pack() + wanted.pack())
        captured = source.read()

    assert captured is not None
    assert np.array_equal(captured.pixels, picture(2))
    assert captured.spacing_mm is None  # an identity matrix: nobody calibrated it


def test_a_stamp_of_another_clock_is_not_believed(peer: socket.socket) -> None:
    captured = one(peer, image(planes(picture(1)), timestamp=1_000_000.0).pack())

    assert captured.clock is Clock.RECEIVE


def test_a_damaged_picture_is_refused_and_the_next_one_comes(peer: socket.socket) -> None:
    broken = bytearray(image(planes(picture(1))).pack())
    broken[2000] ^= 1
    part = bytearray(image(planes(picture(1))).pack())
    part[58 + 60 : 58 + 62] = struct.pack(">H", 1)
    source, connection = connected(peer)
    with source, connection:
        connection.sendall(bytes(broken) + bytes(part) + image(planes(picture(2))).pack())
        with pytest.raises(SourceInvalidFrame, match="the checksum is wrong"):
            source.read()
        with pytest.raises(SourceInvalidFrame, match="a part of a picture"):
            source.read()
        captured = source.read()

    assert captured is not None
    assert np.array_equal(captured.pixels, picture(2))


def test_a_checksum_of_zero_means_there_is_none(peer: socket.socket) -> None:
    data = bytearray(image(planes(picture(1))).pack())
    data[50:58] = bytes(8)

    assert np.array_equal(one(peer, bytes(data)).pixels, picture(1))


def edited(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(image(planes(picture(1))).pack())
    change(data)
    return bytes(data)


def set_bytes(at: int, value: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + len(value)] = value

    return change


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (set_bytes(0, b"HTTP/1.1"), SourceLost, "no OpenIGTLink message"),
        (set_bytes(42, struct.pack(">Q", 1 << 40)), SourceLost, "a message of 1099511627776 bytes"),
        (set_bytes(58 + 6, struct.pack(">3H", 9000, 9000, 1)), SourceInvalidFrame, "part of a picture"),
        (set_bytes(58 + 2, b"\x01\x0b"), SourceInvalidFrame, "scalar type 11"),
        (set_bytes(58 + 2, b"\x07\x03"), SourceInvalidFrame, "pixels of 7 components"),
    ],
)
def test_what_claims_too_much_is_refused_before_anything_is_allocated(
    peer: socket.socket, change: Callable[[bytearray], None], kind: type[Exception], said: str
) -> None:
    source, connection = connected(peer)
    with source, connection:
        connection.sendall(edited(change))
        with pytest.raises(kind, match=said):
            source.read()


def test_random_headers_are_refused_or_read_and_never_crash() -> None:
    rng = np.random.default_rng(1)
    whole = image(planes(picture(1))).pack()[:58]
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, 58, 4):
            data[at] = int(rng.integers(0, 256))
        try:
            parse_header(data)
        except MessageError:
            continue


def test_a_server_that_goes_or_falls_silent_is_lost(peer: socket.socket) -> None:
    source, connection = connected(peer)
    with source:
        connection.close()
        with pytest.raises(SourceLost, match="the server closed the connection"):
            source.read()
    source, connection = connected(peer, timeout_s=0.1)
    with source, connection, pytest.raises(SourceLost, match=r"no message for 0\.1 s"):
        source.read()


def test_close_ends_a_read_that_waits(peer: socket.socket) -> None:
    source, connection = connected(peer)
    last: list[Captured | None] = []
    reader = threading.Thread(target=lambda: last.append(source.read()))
    reader.start()

    source.close()
    reader.join(10)
    connection.close()

    assert last == [None]


def test_nobody_there_is_said_in_one_line() -> None:
    with pytest.raises(SourceUnavailable, match="is PLUS or Slicer running as server"):
        open_source(f"igtl://127.0.0.1:{free_port()}")
    with pytest.raises(SourceUnavailable, match="expected igtl://host:port"):
        open_source("igtl://")


def test_the_checksum_is_the_protocol_s_own() -> None:
    # The check value of CRC-64/ECMA-182.
    assert crc64(b"123456789") == 0x6C40DF5F0B497347
    assert crc64(b"") == 0


def result(**changes: Any) -> Result:
    region = Region(30, 20, 100, 80)
    made = analysis(0, region=region, mask=Mask(4, 4), pixel_spacing_mm=(0.1, 0.2), **changes)
    placement = changes.pop("placement", None)
    frame = Frame(
        picture(0),
        "probe",
        0,
        made.captured_monotonic,
        made.captured_at,
        made.clock,
        spacing_mm=(0.1, 0.2),
        placement=placement,
    )
    mask = np.zeros((4, 4), np.uint8)
    mask[:, 2:] = 255
    return Result(made, mask.tobytes() if made.mask else b"", frame)


@pytest.fixture
def sink() -> Iterator[OpenIGTLinkSink]:
    made = OpenIGTLinkSink("127.0.0.1", 0, sources=1)
    made.start()
    yield made
    made.stop()


def received(sink: OpenIGTLinkSink, each: Result) -> dict[str, Any]:
    """What pyigtl's client gets, by device name."""
    client = pyigtl.OpenIGTLinkClient("127.0.0.1", sink.port)
    messages: dict[str, Any] = {}
    deadline = time.monotonic() + 20
    try:
        while len(messages) < 2 and time.monotonic() < deadline:
            sink.offer(each)
            messages |= {message.device_name: message for message in client.get_latest_messages()}
            time.sleep(0.02)
    finally:
        client.stop()
    return messages


def test_a_real_client_gets_the_label_map_where_the_picture_lies(sink: OpenIGTLinkSink) -> None:
    each = result()

    messages = received(sink, each)

    label = messages["probe_lesion"]
    assert label.image.shape == (1, 80, 100)
    assert np.unique(label.image).tolist() == [0, 1]
    assert label.image[0, :, 60:].all()
    assert not label.image[0, :, :40].any()
    # pyigtl's matrix tells the first pixel: that of the region, at column 30 and row 20 of the frame.
    expected = [[0.2, 0, 0, 30 * 0.2], [0, 0.1, 0, 20 * 0.1], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert label.ijk_to_world_matrix == pytest.approx(np.array(expected), abs=1e-4)
    assert label.timestamp == pytest.approx(each.analysis.captured_at * 1e-9, abs=1e-5)
    assert messages["probe_findings"].string == describe_findings(each.analysis)
    assert "malignant (stable), malignancy 0.70; lesion 1: 22 x 18 px; research only" in describe_findings(
        each.analysis
    )


def test_a_tracked_picture_s_lesion_lies_in_the_room() -> None:
    from streamer.openigtlink import place_region

    placement = Placement((0, 0.2, 0, 0, 0, 0.1, 1, 0, 0, 10, 20, 30), "RAS")
    each = result()
    region = Region(40, 25, 100, 80)
    tracked = Frame(each.frame.pixels, "probe", 0, 0, 0, Clock.DEVICE, placement=placement)

    placed = place_region(tracked, analysis(0, region=region))

    assert placed.coordinates == "RAS"
    assert placed.axes[:9] == placement.axes[:9]
    # The region's middle is ten columns to the right of the frame's, and five rows below.
    assert placed.axes[9:] == pytest.approx((10, 20 + 10 * 0.2, 30 + 5 * 0.1))


def test_a_feed_that_is_not_live_clears_the_label_map(sink: OpenIGTLinkSink) -> None:
    made = result()
    dead = Result(
        analysis(
            0, state=FeedState.FROZEN, classes=None, lesions=[], mask=None, region=Region(30, 20, 100, 80)
        ),
        b"",
        made.frame,
    )

    messages = received(sink, dead)

    assert not messages["probe_lesion"].image.any()
    assert messages["probe_findings"].string == "no answer: feed frozen; research only"


def test_a_client_that_takes_nothing_delays_nobody(sink: OpenIGTLinkSink) -> None:
    with socket.create_connection(("127.0.0.1", sink.port)):
        messages = received(sink, result())

    assert len(messages) == 2


def test_a_port_in_use_is_said(sink: OpenIGTLinkSink) -> None:
    with pytest.raises(OpenIGTLinkError, match=f"127.0.0.1:{sink.port}: address already in use"):
        OpenIGTLinkSink("127.0.0.1", sink.port, sources=1)


def test_a_daemon_takes_pictures_from_one_link_and_answers_on_another(tmp_path: Path) -> None:
    model, port, answers = save(tiny_model(), tmp_path / "tiny.onnx"), free_port(), free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        stop = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                number = 0
                while not stop.is_set():
                    number += 1
                    axes = (0.2, 0, 0, 0, 0.1, 0, 0, 0, 1, 15.9, 5.95, 0)
                    try:
                        connection.sendall(
                            pack_image("Probe", time.time_ns(), picture(number), Placement(axes, "RAS"))
                        )
                    except OSError:
                        return
                    stop.wait(0.02)

        server = threading.Thread(target=serve)
        server.start()
        with running(model, f"igtl://127.0.0.1:{port}", f"--openigtlink.port={answers}") as daemon:
            daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
            client = pyigtl.OpenIGTLinkClient("127.0.0.1", answers)
            label = client.wait_for_message("igtl_lesion", timeout=20)
            text = client.wait_for_message("igtl_findings", timeout=20)
            client.stop()
            stop.set()
            daemon.stop()
        server.join()

    assert label is not None
    assert label.image.shape == (1, 120, 160)
    assert label.world_coordinate_system == "ras"
    assert text is not None
    assert text.string.endswith("research only")
