"""Serve the page: static files, and a WebSocket with what a daemon publishes."""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.client import Subscriber
from streamer.loopback import is_loopback
from streamer.view.access import MIN_TOKEN_CHARACTERS, Guard
from streamer.view.messages import MAX_PAGE_MESSAGE_BYTES, Hello
from streamer.view.newest import Newest
from streamer.view.pages import Page

MAX_PAGES = 32
STALE_AFTER_S = 0.25

_FOLDER = Path(__file__).with_name("page")
# Named here because what a system's table says of `.js` varies, and browsers run modules of one type only.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class ViewerError(ValueError):
    """The viewer can't start as asked; says why and what to do."""


class _Server(uvicorn.Server):
    """Says when it has begun to listen."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class Viewer:
    """A viewer that serves while its `with` block runs."""

    def __init__(
        self,
        address: str,
        *,
        host: str = "127.0.0.1",
        port: int = 7080,
        token: str | None = None,
        sources: Sequence[str] = (),
        stale_after_s: float = STALE_AFTER_S,
        keys: Path | None = None,
    ) -> None:
        """Connect to the daemon and take the port.

        :param address: of the daemon's results; it may come and go.
        :param host: address or name to listen on.
        :param port: 0 for any free one.
        :param token: what a page must know; required beyond loopback.
        :param sources: names of the sources to show; all of them if empty.
        :param stale_after_s: age from which the overlay is greyed out.
        :param keys: the client's key file, for a daemon that asks for keys.
        :raises ViewerError: if the address, the host, the token or the port won't do.
        """
        if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
            raise ViewerError(
                f"--token has {len(token)} characters, at least {MIN_TOKEN_CHARACTERS} are needed; "
                "`openssl rand -hex 16` makes one"
            )
        self._socket = _listen(host, port, with_token=token is not None)
        try:
            subscriber = Subscriber(
                address, sources=sources, channels=("preview",), newest_only=True, keys=keys
            )
        except ValueError as error:
            self._socket.close()
            raise ViewerError(str(error)) from None
        self._host = host
        self._token = token
        self._newest = Newest(subscriber)
        self._hello = Hello(0.0, address, stale_after_s * 1e3)
        self._pages = 0
        self._server = _Server(
            uvicorn.Config(
                self._application(),
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=MAX_PAGE_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="view-server", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """What to open in a browser, with the token where there is one."""
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?token={self._token}" if self._token else "")

    def __enter__(self) -> Self:
        """Serve."""
        self._newest.start()
        self._thread.start()
        while not self._server.listening.wait(0.05):
            if not self._thread.is_alive():
                self._newest.close()
                raise ViewerError(f"the web server on port {self.port} did not start")
        return self

    def __exit__(self, *_: object) -> None:
        """Close all pages and stop."""
        self._server.should_exit = True
        self._thread.join()
        self._newest.close()
        self._socket.close()

    def wait(self) -> None:
        """Return when the server has stopped, which it does by itself only if it fails."""
        # In steps, because a join without end can't be interrupted with Ctrl-C on every platform.
        while self._thread.is_alive():
            self._thread.join(0.5)

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _application(self) -> Starlette:
        files = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}
        files[""] = files["index.html"]

        async def static(request: Request) -> Response:
            name = request.url.path.removeprefix("/")
            kind = _TYPES[Path(name).suffix or ".html"]
            return Response(files[name], headers={"Content-Type": kind})

        routes = [Route(f"/{name}", static, methods=["GET"]) for name in files]
        guard = Middleware(Guard, token=self._token, public=frozenset({"/style.css", "/icon.svg"}))
        return Starlette(routes=[*routes, WebSocketRoute("/live", self._live)], middleware=[guard])

    async def _live(self, websocket: WebSocket) -> None:
        if self._pages >= MAX_PAGES:
            await websocket.close(1013, "too many pages")
            return
        self._pages += 1
        try:
            await websocket.accept()
            hello = Hello(time.monotonic_ns() / 1e6, self._hello.address, self._hello.stale_after_ms)
            await Page(websocket, self._newest, hello).run()
        finally:
            self._pages -= 1


def serve(
    address: str,
    *,
    host: str = "127.0.0.1",
    port: int = 7080,
    token: str | None = None,
    sources: Sequence[str] = (),
    stale_after_s: float = STALE_AFTER_S,
    keys: Path | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted; the parameters are those of `Viewer`.

    :param ready: called with the page's URL once it can be opened.
    :raises ViewerError: if it can't start as asked.
    :raises KeyboardInterrupt: on Ctrl-C, after everything is closed.
    """
    with Viewer(
        address,
        host=host,
        port=port,
        token=token,
        sources=sources,
        stale_after_s=stale_after_s,
        keys=keys,
    ) as viewer:
        if ready is not None:
            ready(viewer.url)
        viewer.wait()


def _listen(host: str, port: int, *, with_token: bool) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError) as error:
        raise ViewerError(f"cannot listen on {host!r} port {port}: {error}") from None
    if not with_token and not is_loopback(str(where[0]).partition("%")[0]):
        raise ViewerError(
            f"{host} can be reached from other machines: choose a token of at least "
            f"{MIN_TOKEN_CHARACTERS} characters with --token, or keep to --host 127.0.0.1"
        )
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ViewerError(
                f"port {port} on {host} is already in use; choose another one with --port"
            ) from None
        raise ViewerError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener
