"""What the viewer lets in, how it refuses, and what it sends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
import typer
import zmq
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from streamer.view import Viewer, ViewerError
from streamer.view.command import view_command
from streamer.view.newest import MAX_SOURCES, TransitClock
from tests.streamer.view.drawn_feed import DrawnFeed

TOKEN = "a token that is long enough"
NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture
def guarded(feed: DrawnFeed) -> Iterator[Viewer]:
    with Viewer(feed.address, port=0, token=TOKEN) as viewer:
        yield viewer


def get(viewer: Viewer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def open_page(viewer: Viewer, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{viewer.port}/live", max_size=1 << 24, **options)


def header_of(message: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
    return header


def next_picture(page: ClientConnection) -> dict[str, Any]:
    while True:
        message = page.recv()
        if isinstance(message, bytes):
            return header_of(message)


def next_text(page: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message = page.recv()
        if isinstance(message, str):
            body: dict[str, Any] = json.loads(message)
            if body["type"] == kind:
                return body


def read_to_the_end(page: ClientConnection) -> None:
    for _ in range(1000):
        page.recv()


def acknowledge(page: ClientConnection, source: str = "left") -> None:
    page.send(json.dumps({"type": "ack", "source": source}))


def test_a_page_that_does_not_draw_gets_no_second_picture_and_then_the_newest(
    feed: DrawnFeed, viewer: Viewer
) -> None:
    with open_page(viewer) as page:
        first = next_picture(page)["seq"]
        until = feed.number + 10
        while feed.number < until:
            assert isinstance(page.recv(), str)
        with open_page(viewer) as other:
            newest = next_picture(other)["seq"]
        acknowledge(page)
        assert next_picture(page)["seq"] >= newest > first + 1


def test_a_picture_is_sent_once_even_if_it_is_acknowledged_again(feed: DrawnFeed, viewer: Viewer) -> None:
    with open_page(viewer) as page:
        next_picture(page)
        feed.pictures = False
        last = feed.number
        acknowledge(page)
        seen = []
        for _ in range(8):
            message = page.recv()
            if isinstance(message, bytes):
                seen.append(header_of(message)["seq"])
            acknowledge(page)
        assert len(seen) == len(set(seen))
        assert all(seq <= last for seq in seen)


def test_a_message_holds_header_mask_and_picture_as_its_layout_says(viewer: Viewer) -> None:
    with open_page(viewer) as page:
        while isinstance(message := page.recv(), str):
            pass
    header = header_of(message)
    length = int.from_bytes(message[:4], "little")
    size = header["mask"]["width"] * header["mask"]["height"]
    assert message[4 + length + size :].startswith(b"\xff\xd8")
    assert header["schema"] == "sonostream.analysis/1"
    assert header["view"]["age_ms"] >= header["age"] * 1e3


def test_the_status_tells_of_the_daemon_and_of_its_silence(feed: DrawnFeed, viewer: Viewer) -> None:
    with open_page(viewer) as page:
        while not (status := next_text(page, "status"))["connected"] or not status["sources"]:
            pass
        assert status["sources"][0]["source"] == "left"
        feed.stop()
        while next_text(page, "status")["connected"]:
            pass


def test_a_ping_comes_back_with_the_viewers_clock(viewer: Viewer) -> None:
    with open_page(viewer) as page:
        page.send(json.dumps({"type": "ping", "sent": 12.5}))
        before = time.monotonic_ns() / 1e6
        pong = next_text(page, "pong")
        assert pong["sent"] == 12.5
        assert pong["clock_ms"] <= time.monotonic_ns() / 1e6
        assert pong["clock_ms"] > before - 60_000


@pytest.mark.parametrize(
    "junk", ["{", '{"type": "shutdown"}', json.dumps({"type": "ack", "source": "x" * 900})]
)
def test_a_page_that_talks_nonsense_is_closed_and_the_others_go_on(viewer: Viewer, junk: str) -> None:
    with open_page(viewer) as other, open_page(viewer) as page:
        page.send(junk + " " * 200)
        with pytest.raises(ConnectionClosed):
            read_to_the_end(page)
        acknowledge(other)
        assert next_picture(other)


def test_a_restarted_daemon_replaces_the_sources_of_the_former_one(unused_port: int) -> None:
    with Viewer(f"tcp://127.0.0.1:{unused_port}", port=0) as viewer, open_page(viewer) as page:
        with DrawnFeed(["left", "gone"], port=unused_port, publisher="first") as feed:
            while {"left", "gone"} != {source["source"] for source in next_text(page, "status")["sources"]}:
                pass
            feed.number = 5000
        with DrawnFeed(["left"], port=unused_port, publisher="second"):
            while [source["publisher"] for source in next_text(page, "status")["sources"]] != ["second"]:
                pass
            acknowledge(page)
            while (header := next_picture(page))["publisher"] != "second":
                acknowledge(page, header["source"])
            assert header["seq"] < 5000


def test_foreign_data_on_the_address_is_named_and_does_not_end_the_viewer(unused_port: int) -> None:
    with zmq.Context.instance().socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        publisher.bind(f"tcp://127.0.0.1:{unused_port}")
        with Viewer(f"tcp://127.0.0.1:{unused_port}", port=0) as viewer, open_page(viewer) as page:
            while not (status := next_text(page, "status"))["problem"]:
                publisher.send_multipart([b"sonostream/preview/left", b'{"schema": "other/9"}'])
            assert "sonostream/preview/left" in status["problem"]
            assert status["sources"] == []


def test_more_sources_than_can_be_shown_are_named_instead_of_kept() -> None:
    names = [f"s{i:02}" for i in range(MAX_SOURCES + 3)]
    with (
        DrawnFeed(names, rate_hz=2) as feed,
        Viewer(feed.address, port=0) as viewer,
        open_page(viewer) as page,
    ):
        feed.pictures = False
        while not (status := next_text(page, "status"))["problem"]:
            pass
        assert len(status["sources"]) == MAX_SOURCES
        assert "--source" in status["problem"]


def test_only_the_chosen_source_is_shown() -> None:
    feed = DrawnFeed(["left", "left-2"])
    with feed, Viewer(feed.address, port=0, sources=["left"]) as viewer, open_page(viewer) as page:
        for _ in range(3):
            assert next_picture(page)["source"] == "left"
            acknowledge(page)


def test_every_answer_carries_the_security_headers(viewer: Viewer) -> None:
    for path in ("/", "/app.js", "/nothing"):
        headers = get(viewer, path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/../server.py", "/%2e%2e/server.py", "/page/app.js", "/nothing.js"])
def test_only_the_pages_own_files_are_served(viewer: Viewer, path: str) -> None:
    assert get(viewer, path).status == HTTPStatus.NOT_FOUND


def test_a_page_of_another_site_cannot_connect(viewer: Viewer) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        open_page(viewer, origin="http://example.org")
    with open_page(viewer, origin=f"http://127.0.0.1:{viewer.port}") as page:
        assert next_text(page, "hello")


def test_another_sites_name_for_this_machine_is_refused(viewer: Viewer) -> None:
    """A site may point its name at 127.0.0.1; its pages then count as ours but for the name."""
    assert get(viewer, "/", Host=f"example.org:{viewer.port}").status == HTTPStatus.FORBIDDEN
    assert get(viewer, "/", Host=f"localhost:{viewer.port}").status == HTTPStatus.OK


def test_without_the_token_there_is_no_page_and_no_data(guarded: Viewer) -> None:
    for path in ("/", "/app.js", "/?token=wrong", "/?token="):
        assert get(guarded, path).status == HTTPStatus.UNAUTHORIZED
    assert get(guarded, "/", Cookie=f"sonostream_{guarded.port}={TOKEN}").status == HTTPStatus.UNAUTHORIZED
    with pytest.raises(InvalidStatus, match="403"):
        open_page(guarded)


def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(guarded: Viewer) -> None:
    response = get(guarded, f"/?token={TOKEN.replace(' ', '%20')}")
    assert response.status == HTTPStatus.SEE_OTHER
    assert response.headers["Location"] == "/"
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert TOKEN not in cookie
    cookie = cookie.partition(";")[0]
    assert get(guarded, "/", Cookie=cookie).status == HTTPStatus.OK
    with open_page(guarded, additional_headers={"Cookie": cookie}) as page:
        assert next_picture(page)


def test_a_script_may_give_the_token_as_bearer(guarded: Viewer) -> None:
    assert get(guarded, "/", Authorization=f"Bearer {TOKEN}").status == HTTPStatus.OK
    assert get(guarded, "/", Authorization="Bearer wrong").status == HTTPStatus.UNAUTHORIZED


def test_a_browser_opens_the_page_with_the_address_that_is_printed(page: Any, feed: DrawnFeed) -> None:
    with Viewer(feed.address, port=0, token="a-token-that-is-long-enough") as viewer:
        page.goto(viewer.url)
        page.wait_for_selector("body[data-state=live] .tile[data-seq]")
        assert "token" not in page.url


def test_beyond_loopback_a_token_is_asked_for_by_name() -> None:
    with pytest.raises(ViewerError, match="--token"):
        Viewer(NOWHERE, host="0.0.0.0", port=0)


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ViewerError, match="at least 16"):
        Viewer(NOWHERE, port=0, token="short")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], r"cannot connect to 'nonsense'"),
        (["--host", "0.0.0.0"], r"--token"),
        (["--host", "no.such.host.invalid"], r"cannot listen on 'no\.such\.host\.invalid'"),
        (["--host", "192.0.2.1", "--token", TOKEN], r"cannot listen on 192\.0\.2\.1"),
    ],
)
def test_what_cannot_start_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    result = run_command("--port", "0", *arguments)
    assert result.exit_code == 2
    assert re.match(f"error: .*{words}", result.stderr)
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_named_with_the_flag_to_change_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_command("--port", str(port))
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"error: port {port} on 127.0.0.1 is already in use; choose another one with --port\n"
    )


def run_command(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(view_command)
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_supervisor_end_the_viewer_quietly_with_a_page_open(
    feed: DrawnFeed, ending: signal.Signals
) -> None:
    code = "import typer; from streamer.view.command import view_command; typer.run(view_command)"
    # A script's background job ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-c", code, feed.address, "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert port is not None
        with connect(f"ws://127.0.0.1:{port[1]}/live", max_size=1 << 24) as page:
            next_picture(page)
            process.send_signal(ending)
            _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_transit_from_another_machine_is_what_exceeds_the_fastest_message() -> None:
    clock = TransitClock(same_machine=False)
    start, offset = 10**15, -7 * 10**14
    assert clock.transit_ns(start, start + offset) == 0
    assert clock.transit_ns(start + 10**8, start + 10**8 + offset + 3 * 10**8) == pytest.approx(3e8, rel=0.01)
    assert clock.transit_ns(start + 10**9, start + 10**9 + offset - 5) == 0


def test_transit_on_one_machine_is_the_difference_of_its_clock() -> None:
    clock = TransitClock(same_machine=True)
    assert clock.transit_ns(10**9, 10**9 + 4000) == 4000
    assert clock.transit_ns(2 * 10**9, 2 * 10**9 + 900) == 900


def test_a_tunnel_does_not_pass_for_the_same_machine() -> None:
    clock = TransitClock(same_machine=True)
    assert clock.transit_ns(10**15, 10**9) == 0
    assert clock.transit_ns(10**15 + 10**8, 10**9 + 3 * 10**8) == pytest.approx(2e8, rel=0.01)
