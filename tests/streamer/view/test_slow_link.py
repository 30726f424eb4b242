"""A page whose connection stalls: what it sees then, and what others see meanwhile."""

import socket
import threading
from contextlib import suppress
from itertools import pairwise

from websockets.sync.client import connect

from streamer.view import Viewer
from tests.streamer.view.drawn_feed import DrawnFeed
from tests.streamer.view.test_server import acknowledge, next_picture, open_page


class StallingLink:
    """Passes a connection on; what the viewer sends waits while `open` is not set, as on a bad radio link."""

    def __init__(self, port: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._onward = socket.create_connection(("127.0.0.1", port))
        self._near: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._near, _ = self._listener.accept()
        back = threading.Thread(target=self._pass, args=(self._near, self._onward, False))
        back.start()
        self._pass(self._onward, self._near, True)
        back.join()

    def _pass(self, source: socket.socket, target: socket.socket, stalling: bool) -> None:
        with suppress(OSError):
            while data := source.recv(8192):
                if stalling:
                    self.open.wait()
                target.sendall(data)

    def close(self) -> None:
        self.open.set()
        for each in (self._near, self._onward):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        for each in (self._near, self._onward, self._listener):
            if each is not None:
                each.close()


def test_a_viewer_on_a_slow_link_sees_fewer_pictures_and_never_an_old_one_next() -> None:
    with DrawnFeed(rate_hz=30) as feed, Viewer(feed.address, port=0) as viewer, open_page(viewer) as fast:
        link = StallingLink(viewer.port)
        fast_seqs = [next_picture(fast)["seq"]]

        def watch(pictures: int) -> None:
            for _ in range(pictures):
                acknowledge(fast)
                fast_seqs.append(next_picture(fast)["seq"])

        try:
            with connect(f"ws://127.0.0.1:{link.port}/live", max_size=1 << 24, close_timeout=0.2) as slow:
                seen = [next_picture(slow)["seq"]]
                for _ in range(3):
                    link.open.clear()
                    acknowledge(slow)
                    watch(10)  # one picture is under way to the other page, and gets no further
                    link.open.set()
                    seen.append(next_picture(slow)["seq"])
                    newest = fast_seqs[-1]
                    acknowledge(slow)
                    seen.append(next_picture(slow)["seq"])
                    assert seen[-1] >= newest
        finally:
            link.close()

    assert len(seen) == 7
    assert len(fast_seqs) == 31
    assert all(later > earlier for earlier, later in pairwise(fast_seqs))
    assert all(later > earlier for earlier, later in pairwise(seen))
