import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.frame import Clock
from streamer.sources import (
    Captured,
    Source,
    SourceError,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
    open_source,
)
from streamer.sources.libav_errors import shown_url
from streamer.sources.libav_live import LiveSource
from tests.programs import require_program
from tests.streamer.sources.clips import encode, number_of, numbered, numbers

PATIENT = SourceOptions(timeout_s=8)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def sender(clip: Path, *output: str) -> Iterator[subprocess.Popen[bytes]]:
    """Play a clip at its own rate, over and over, with a real ffmpeg."""
    ffmpeg = require_program("ffmpeg", package="ffmpeg")
    command = [ffmpeg, "-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
    process = subprocess.Popen([*command, *output], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(
        tmp_path_factory.mktemp("clips") / "clip.mp4",
        50,
        options={"preset": "ultrafast", "tune": "zerolatency", "g": "10"},
    )


def read_frames(source: Source, count: int) -> list[Captured]:
    frames: list[Captured] = []
    while len(frames) < count:
        with contextlib.suppress(SourceInvalidFrame):
            captured = source.read()
            assert captured is not None
            assert captured.monotonic <= time.monotonic_ns()
            frames.append(captured)
    return frames


def check_live(source: Source) -> None:
    """A live source must give each picture once, in order, stamped when it arrived."""
    assert source.policy == "newest"
    frames = read_frames(source, 30)
    numbers = [number_of(frame.pixels) for frame in frames]
    assert {frame.clock for frame in frames} == {Clock.RECEIVE}
    assert set(np.diff(numbers) % 50) == {1}
    assert (np.diff([frame.monotonic for frame in frames]) > 0).all()


def test_mpeg_ts_over_udp_is_received_live(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with (
        sender(clip, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"),
        open_source(f"udp://127.0.0.1:{port}", PATIENT) as source,
    ):
        check_live(source)


def test_a_stream_joined_far_from_its_tables_is_received_live(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    sparse = ("-muxrate", "4M", "-pat_period", "0.5")  # 250 kB from table to table
    with sender(clip, *sparse, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as earlier:
            earlier.bind(("127.0.0.1", port))
            earlier.settimeout(30)
            for _ in range(40):  # the first table goes by
                earlier.recv(2000)
        with open_source(f"udp://127.0.0.1:{port}", PATIENT) as source:
            check_live(source)


@pytest.mark.parametrize("container", ["mpegts", "flv", "nut", "matroska"])
def test_any_container_over_tcp_is_received_live(clip: Path, container: str) -> None:
    port = free_port()
    with (
        sender(clip, "-flush_packets", "1", "-f", container, f"tcp://127.0.0.1:{port}?listen=1"),
        open_when_ready(f"tcp://127.0.0.1:{port}") as source,
    ):
        check_live(source)


def test_rtsp_is_received_live(clip: Path) -> None:
    port = free_port()
    opening = open_in_background(f"rtsp://127.0.0.1:{port}/live?listen", port)
    with (
        sender(clip, "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{port}/live"),
        opening() as source,
    ):
        check_live(source)


def srt_or_skip() -> None:
    ffmpeg = require_program("ffmpeg", package="ffmpeg")
    protocols = subprocess.run(
        [ffmpeg, "-v", "error", "-protocols"], capture_output=True, text=True, check=True
    )
    if "srt" not in protocols.stdout.split():
        pytest.skip("this ffmpeg was built without SRT")


def test_srt_is_received_live(clip: Path) -> None:
    srt_or_skip()
    port = free_port(socket.SOCK_DGRAM)
    with (
        sender(clip, "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener"),
        open_when_ready(f"srt://127.0.0.1:{port}") as source,
    ):
        check_live(source)


def test_frames_coded_out_of_order_carry_the_stamp_of_their_own_packet(tmp_path: Path) -> None:
    options = {"bf": "2", "g": "12", "preset": "medium", "x264-params": "b-adapt=0"}
    path = encode(tmp_path / "reordered.mp4", 50, options=options)
    port = free_port()
    with (
        sender(path, "-flush_packets", "1", "-f", "nut", f"tcp://127.0.0.1:{port}?listen=1"),
        open_when_ready(f"tcp://127.0.0.1:{port}") as source,
    ):
        frames = read_frames(source, 40)

    numbers = [number_of(frame.pixels) for frame in frames]
    stamps = [frame.monotonic for frame in frames]
    assert set(np.diff(numbers) % 50) == {1}
    # A picture that others are predicted from is sent before pictures that are shown before it.
    assert stamps != sorted(stamps)


@pytest.mark.parametrize(("lengths", "ahead"), [("0", 0), ("1", 1)])
def test_mpeg_ts_is_not_held_back_by_more_than_the_container_itself(lengths: str, ahead: int) -> None:
    """Each picture is only written when the one before it was read; `ahead`: or the one before that.

    Without packet lengths nothing but the next picture says that one is complete.
    """
    port = free_port()
    opening = open_in_background(f"tcp://127.0.0.1:{port}?listen=1", port)
    may_write = threading.Semaphore(40)  # what probing reads, and some
    writer = threading.Thread(target=write_pictures, args=(port, may_write, lengths), daemon=True)
    writer.start()
    with opening() as source:
        seen, written = -1, 40
        while seen < 60:
            seen = number_of(read_frames(source, 1)[0].pixels)
            if seen + 1 + ahead >= written:
                may_write.release()
                written += 1

    assert seen == 60


def write_pictures(port: int, may_write: threading.Semaphore, omit_lengths: str) -> None:
    options = {"flush_packets": "1", "omit_video_pes_length": omit_lengths}
    container = av.open(f"tcp://127.0.0.1:{port}", "w", format="mpegts", options=options)
    stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "5"})
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    with contextlib.suppress(OSError, av.error.FFmpegError):  # the reader leaves first
        for number in range(100):
            may_write.acquire()
            frame = av.VideoFrame.from_ndarray(numbered(number), format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))


def test_pictures_that_arrive_in_pieces_are_put_together(tmp_path: Path) -> None:
    """Noise at low compression makes pictures larger than what libav keeps in one piece."""
    path = tmp_path / "noise.ts"
    rng = np.random.default_rng(7)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"qp": "1", "preset": "ultrafast", "g": "2"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(50):
            gray = rng.integers(16, 235, (480, 640), dtype=np.uint8)
            gray[:16] = numbered(number, 640, 480)[:16]
            frame = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert path.stat().st_size / 50 > 250_000
    port = free_port()
    with (
        sender(path, "-flush_packets", "1", "-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1"),
        open_when_ready(f"tcp://127.0.0.1:{port}") as source,
    ):
        numbers = [number_of(frame.pixels) for frame in read_frames(source, 30)]

    assert set(np.diff(numbers[2:]) % 50) == {1}


def test_a_reader_that_falls_behind_goes_on_with_the_newest_key_frame(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clip read as if it were live comes at once: the reader is behind from the first frame on.
    source = LiveSource(av.open(str(clip)), "probe", timeout_s=8, may_end=True)
    first = source.read()
    source._pump.join()
    monkeypatch.setattr("streamer.sources.libav_live._BEHIND_S", 0.0)

    with source:
        with pytest.raises(SourceInvalidFrame, match="faster than it is decoded: 39 frames left out"):
            source.read()
        after = numbers(source)

    assert first is not None
    assert number_of(first.pixels) == 0
    assert after == list(range(40, 50))


def test_a_sender_that_goes_away_is_a_loss(clip: Path) -> None:
    port = free_port()
    with (
        sender(clip, "-flush_packets", "1", "-f", "nut", f"tcp://127.0.0.1:{port}?listen=1") as process,
        open_when_ready(f"tcp://127.0.0.1:{port}") as source,
    ):
        read_frames(source, 3)
        process.kill()

        with pytest.raises(SourceLost, match=f"tcp://127.0.0.1:{port}"):
            read_frames(source, 1000)
        with pytest.raises(SourceLost):
            source.read()


def test_a_sender_that_falls_silent_is_a_loss_after_the_timeout(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with (
        sender(clip, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316") as process,
        open_source(f"udp://127.0.0.1:{port}", SourceOptions(timeout_s=2)) as source,
    ):
        read_frames(source, 3)
        process.kill()

        with pytest.raises(SourceLost, match="delivered nothing for 2 s"):
            read_frames(source, 1000)


def test_close_ends_a_read_that_waits_for_a_silent_sender(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with (
        sender(clip, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316") as process,
        open_source(f"udp://127.0.0.1:{port}", SourceOptions(timeout_s=60)) as source,
    ):
        read_frames(source, 3)
        process.kill()
        ended = threading.Event()

        def read_to_end() -> None:
            while source.read() is not None:
                pass
            ended.set()

        reader = threading.Thread(target=read_to_end)
        reader.start()
        source.close()

        assert ended.wait(timeout=10)
        reader.join()


def test_close_leaves_no_receiver_of_a_silent_srt_sender_behind(clip: Path) -> None:
    srt_or_skip()
    port = free_port(socket.SOCK_DGRAM)
    with sender(clip, "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener") as process:
        source = open_when_ready(f"srt://127.0.0.1:{port}")
        read_frames(source, 3)
        process.send_signal(signal.SIGSTOP)
        source.close()

    assert str(port) not in "".join(
        line.read_text(errors="replace") for line in Path("/proc").glob("[0-9]*/cmdline")
    )


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("tcp://user:secret@127.0.0.1:{port}?token=secret", "connection refused; nobody listens there"),
        ("rtsp://user:secret@127.0.0.1:{port}/live", "connection refused; nobody listens there"),
        ("http://user:secret@127.0.0.1:{port}/live", "connection refused; nobody listens there"),
        ("udp://127.0.0.1:{port}", "nothing came in time; check that the sender is running"),
    ],
)
def test_a_stream_that_does_not_open_says_why_and_keeps_secrets(uri: str, says: str) -> None:
    with pytest.raises(SourceUnavailable, match=says) as error:
        open_source(uri.format(port=free_port()), SourceOptions(timeout_s=1))

    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_peer_that_does_not_send_video_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"220 mail.example.org ready\r\n" * 2000)
            connection.close()

        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(SourceUnavailable, match=f"cannot open tcp://127.0.0.1:{port}: "):
            open_source(f"tcp://127.0.0.1:{port}", SourceOptions(timeout_s=5))
        greeter.join()


def test_a_shown_url_has_no_user_password_or_query() -> None:
    shown = shown_url("srt://user:pass@host:9000/path?passphrase=secret")

    assert shown == "srt://host:9000/path"


def open_when_ready(uri: str) -> Source:
    """Open a stream whose sender is only just starting."""
    return retry(lambda: open_source(uri, PATIENT))


def retry(action: Callable[[], Source]) -> Source:
    deadline = time.monotonic() + 30
    while True:
        try:
            return action()
        except SourceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def open_in_background(uri: str, port: int) -> Callable[[], Source]:
    """Start opening a source that listens; return once it does. The result waits for the source."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(open_source, uri, PATIENT)
    executor.shutdown(wait=False)
    wait_until_listening(port)
    return future.result


def wait_until_listening(port: int) -> None:
    """Wait without connecting: the receiver takes one connection only."""
    entry = f"0100007F:{port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + 30
    while entry not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        time.sleep(0.02)
