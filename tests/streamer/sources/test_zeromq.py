import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import imagezmq
import numpy as np
import pytest
import zmq

from streamer.frame import Clock
from streamer.push import FramePusher
from streamer.sources import Captured, Source, SourceInvalidFrame, SourceUnavailable, open_source
from tests.streamer.sources.clips import number_of, numbered


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def source(port: int) -> Iterator[Source]:
    with open_source(f"zmq+tcp://127.0.0.1:{port}") as opened:
        yield opened


@pytest.fixture
def peer(port: int) -> Iterator["zmq.Socket[bytes]"]:
    context = zmq.Context()
    with context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{port}")
        yield push
    context.term()


def message(pixels: np.ndarray, source_id: bytes = b"probe", **changes: Any) -> list[bytes]:  # type: ignore[type-arg]
    header = {"frame_id": 3, "captured_at": time.time_ns(), "shape": pixels.shape, "dtype": "uint8"}
    return [source_id, json.dumps(header | {"encoding": "raw"} | changes).encode(), pixels.tobytes()]


def received(source: Source) -> Captured:
    captured = source.read()
    assert captured is not None
    return captured


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_pushed_frames_arrive_with_their_number_stamp_and_spacing(
    source: Source, port: int, encoding: Any
) -> None:
    assert source.policy == "newest"
    at = time.time_ns() - 50_000_000
    with FramePusher(f"tcp://127.0.0.1:{port}", "probe", encoding=encoding, spacing_mm=(0.1, 0.2)) as pusher:
        for number in range(3):
            assert pusher.push(numbered(number), captured_at=at)
            frame = received(source)

            assert number_of(frame.pixels) == number
            assert frame.upstream_id == number
            assert frame.spacing_mm == (0.1, 0.2)
            assert frame.clock == Clock.DEVICE
            wall_minus_monotonic = time.time_ns() - time.monotonic_ns()
            assert frame.monotonic == pytest.approx(at - wall_minus_monotonic, abs=10_000_000)


def test_colour_frames_are_rgb_and_become_gray(source: Source, port: int) -> None:
    red = np.zeros((40, 50, 3), np.uint8)
    red[..., 0] = 255
    with FramePusher(f"tcp://127.0.0.1:{port}", "probe") as pusher:
        pusher.push(red)
        frame = received(source)

    assert frame.pixels.shape == (40, 50)
    assert set(np.unique(frame.pixels)) == {76}


def test_published_frames_are_taken_by_topic(port: int) -> None:
    with (
        FramePusher(f"tcp://127.0.0.1:{port}", "left", mode="pub") as left,
        open_source(f"zmq+tcp://127.0.0.1:{port}?mode=sub&topic=left") as source,
    ):
        frame = push_until_received(lambda: left.push(numbered(9)), source)

    assert number_of(frame.pixels) == 9


def test_every_message_is_returned_in_turn(source: Source, peer: "zmq.Socket[bytes]") -> None:
    for number in range(6):
        peer.send_multipart(message(numbered(number), frame_id=number))

    assert [received(source).upstream_id for _ in range(6)] == list(range(6))


@pytest.mark.parametrize("offset_s", [-11, 1])
def test_a_stamp_from_a_clock_that_is_off_is_not_believed(
    source: Source, peer: "zmq.Socket[bytes]", offset_s: int
) -> None:
    before = time.monotonic_ns()
    peer.send_multipart(message(numbered(1), captured_at=time.time_ns() + offset_s * 1_000_000_000))
    frame = received(source)

    assert frame.clock == Clock.RECEIVE
    assert before <= frame.monotonic <= time.monotonic_ns()


JPEG = cv2.imencode(".jpg", numbered(1))[1].tobytes()
GRAY = numbered(1)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([b"alone"], "a message of 1 parts"),
        ([b"a", b"b", b"c", b"d"], "a message of 4 parts"),
        ([b"probe", b"not json", b""], "bad header"),
        ([b"probe", b"{}", b""], "bad header.*frame_id"),
        ([b"probe", b" " * 70_000, b""], "a header of 70000 bytes"),
        (message(GRAY, dtype="float32"), "bad header.*float32"),
        (message(GRAY, encoding="webp"), "bad header.*webp"),
        (message(GRAY, shape=[0, 10]), "bad header"),
        (message(GRAY, shape=[100_000, 100_000]), "bad header"),
        (message(GRAY, shape=[10]), "bad header"),
        (message(GRAY, shape=[10, 10, 7]), "10 x 10 x 7"),
        (message(GRAY, shape=[10, 10]), "76800 bytes for 10 x 10: expected 100"),
        (message(GRAY, frame_id=-1), "bad header"),
        (message(GRAY, pixel_spacing_mm=[0, 1]), "bad header"),
        (message(GRAY, encoding="jpeg"), "not a PNG, JPEG"),
        (
            [*message(GRAY, encoding="jpeg", shape=[9, 9])[:2], JPEG],
            "the header says 9 x 9, the picture is 240 x 320",
        ),
        ([*message(GRAY, encoding="jpeg")[:2], JPEG[:700]], "damaged or cut short|the header says"),
        ([b"not json", b"payload"], "bad header"),
        ([b'{"msg": "pi", "dtype": "float64", "shape": [2, 2]}', b"\0" * 32], "pixels of type float64"),
        ([b'{"msg": "pi", "dtype": "uint8", "shape": [-1, 2]}', b"\0" * 4], "refused"),
        ([b'{"msg": "pi"}', b"\0" * 4], "not a PNG, JPEG"),
    ],
)
def test_a_malformed_message_is_refused_and_the_next_frame_arrives(
    source: Source, peer: "zmq.Socket[bytes]", parts: list[bytes], says: str
) -> None:
    peer.send_multipart(parts)
    peer.send_multipart(message(numbered(5)))

    with pytest.raises(SourceInvalidFrame, match=says) as error:
        source.read()
    assert "\n" not in str(error.value)
    assert number_of(received(source).pixels) == 5


def test_a_second_sender_on_one_address_is_refused(source: Source, peer: "zmq.Socket[bytes]") -> None:
    peer.send_multipart(message(numbered(1), b"left"))
    peer.send_multipart(message(numbered(2), b"right"))

    assert number_of(received(source).pixels) == 1
    with pytest.raises(SourceInvalidFrame, match="frame of source 'right' refused: this feed takes 'left'"):
        source.read()


def test_an_address_in_use_is_refused(source: Source, port: int) -> None:  # noqa: ARG001
    with pytest.raises(SourceUnavailable, match=f"tcp://127.0.0.1:{port}: the address is in use"):
        open_source(f"zmq+tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.0.2.1", "[::]"])
def test_an_address_open_to_the_network_is_refused(host: str) -> None:
    with pytest.raises(
        SourceUnavailable, match="anyone on the network: give --source.keys.* or bind to tcp://127.0.0.1:5555"
    ):
        open_source(f"zmq+tcp://{host}:5555")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("zmq+tcp://127.0.0.1", "expected zmq\\+tcp://HOST:PORT"),
        ("zmq+tcp://127.0.0.1:5555?mode=dealer", "the options are mode=pull"),
        ("zmq+tcp://127.0.0.1:5555?speed=9", "the options are .* not speed"),
        ("zmq+ipc:///nosuch/folder/frames.ipc", "cannot open ipc:///nosuch/folder/frames.ipc"),
    ],
)
def test_a_wrong_address_is_refused(uri: str, says: str) -> None:
    with pytest.raises(SourceUnavailable, match=says):
        open_source(uri)


def test_frames_come_over_a_local_socket_file(tmp_path: Path) -> None:
    with (
        open_source(f"zmq+ipc://{tmp_path}/frames.ipc") as source,
        FramePusher(f"ipc://{tmp_path}/frames.ipc", "probe") as pusher,
    ):
        pusher.push(numbered(4))
        assert number_of(received(source).pixels) == 4


def test_close_ends_a_read_that_waits(port: int) -> None:
    source = open_source(f"zmq+tcp://127.0.0.1:{port}")
    last: list[Captured | None] = []
    reader = threading.Thread(target=lambda: last.append(source.read()))
    reader.start()

    source.close()
    source.close()
    reader.join(timeout=10)

    assert last == [None]
    open_source(f"zmq+tcp://127.0.0.1:{port}").close()


def test_a_pusher_without_a_receiver_drops_and_says_so(port: int) -> None:
    with FramePusher(f"tcp://127.0.0.1:{port}", "probe") as pusher:
        assert not all(pusher.push(numbered(number)) for number in range(20))


def test_a_pusher_refuses_what_is_not_a_picture(port: int) -> None:
    with (
        FramePusher(f"tcp://127.0.0.1:{port}", "probe") as pusher,
        pytest.raises(ValueError, match="float32"),
    ):
        pusher.push(np.zeros((4, 4), np.float32))  # type: ignore[arg-type]


def send_with_imagezmq(endpoint: str, request_reply: bool, jpeg: bool) -> None:
    """Run in a process of its own, exactly as imagezmq's documentation has it."""
    sender = imagezmq.ImageSender(connect_to=endpoint, REQ_REP=request_reply)
    number = 0
    while True:
        picture = cv2.cvtColor(numbered(number % 1000), cv2.COLOR_GRAY2BGR)
        if jpeg:
            sender.send_jpg("pi", cv2.imencode(".jpg", picture)[1])
        else:
            sender.send_image("pi", picture)
        number += 1
        time.sleep(0.02)


@pytest.fixture
def imagezmq_sender() -> Iterator[Any]:
    processes: list[BaseProcess] = []

    def start(*args: Any) -> None:
        processes.append(multiprocessing.get_context("spawn").Process(target=send_with_imagezmq, args=args))
        processes[-1].start()

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.parametrize("jpeg", [False, True], ids=["raw", "jpeg"])
@pytest.mark.parametrize("mode", ["rep", "sub"])
def test_an_unmodified_imagezmq_sender_is_understood(
    port: int, imagezmq_sender: Any, mode: str, jpeg: bool
) -> None:
    imagezmq_sender(f"tcp://127.0.0.1:{port}", mode == "rep", jpeg)

    with open_source(f"zmq+tcp://127.0.0.1:{port}?mode={mode}") as source:
        frames = [received(source) for _ in range(10)]

    numbers = [number_of(frame.pixels) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + 10))
    assert {frame.clock for frame in frames} == {Clock.RECEIVE}


def push_until_received(push: Any, source: Source) -> Captured:
    """Push until a subscription has got through and one arrives."""
    done = threading.Event()

    def keep_pushing() -> None:
        while not done.wait(0.02):
            push()

    pusher = threading.Thread(target=keep_pushing)
    pusher.start()
    try:
        return received(source)
    finally:
        done.set()
        pusher.join()
