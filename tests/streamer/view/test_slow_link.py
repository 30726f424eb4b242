"""A page whose connection is slow: what it sees, and what others see meanwhile."""

import socket
import threading
from contextlib import suppress
from itertools import pairwise

from websockets.sync.client import connect

from streamer.view import Viewer
from tests.streamer.view.drawn_feed import DrawnFeed
from tests.streamer.view.test_server import acknowledge, next_picture, open_page


class SlowLink:
    """Passes a connection on at so many bytes a second, with no more under way than a modem would hold."""

    def __init__(self, port: int, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        self.port: int = self._listener.getsockname()[1]
        self._onward = socket.socket()
        self._onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        self._onward.connect(("127.0.0.1", port))
        self._near: socket.socket | None = None
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def _run(self) -> None:
        self._near, _ = self._listener.accept()
        back = threading.Thread(target=self._pass, args=(self._near, self._onward, 0))
        back.start()
        self._pass(self._onward, self._near, self._bytes_per_s)
        back.join()

    def _pass(self, source: socket.socket, target: socket.socket, bytes_per_s: int) -> None:
        with suppress(OSError):
            while data := source.recv(8192):
                target.sendall(data)
                if bytes_per_s:
                    self._closed.wait(len(data) / bytes_per_s)

    def close(self) -> None:
        self._closed.set()
        for each in (self._near, self._onward):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in (self._near, self._onward, self._listener):
            if each is not None:
                each.close()


def test_a_viewer_on_a_slow_link_sees_fewer_pictures_and_never_an_old_one_next() -> None:
    with DrawnFeed(rate_hz=30) as feed, Viewer(feed.address, port=0) as viewer, open_page(viewer) as fast:
        link = SlowLink(viewer.port, 1_000_000)
        newest = next_picture(fast)["seq"]
        seen: list[tuple[int, int]] = []
        done = threading.Event()

        def look() -> None:
            with connect(f"ws://127.0.0.1:{link.port}/live", max_size=1 << 24, close_timeout=0.2) as slow:
                asked = 0
                while len(seen) < 6:
                    seen.append((next_picture(slow)["seq"], asked))
                    asked = newest  # what others had seen when this page asked for its next one
                    acknowledge(slow)
            done.set()

        page = threading.Thread(target=look)
        page.start()
        fast_seqs = [newest]
        try:
            while not done.is_set():
                acknowledge(fast)
                newest = next_picture(fast)["seq"]
                fast_seqs.append(newest)
                assert len(fast_seqs) < 2000
        finally:
            page.join(5)
            link.close()

    for seq, asked in seen:
        assert seq >= asked
    assert len(seen) < len(fast_seqs) / 2
    assert all(later > earlier for earlier, later in pairwise(fast_seqs))
