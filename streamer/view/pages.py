"""The conversation with one open page."""

import asyncio
import contextlib
import time

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.view.messages import MAX_PAGE_MESSAGE_BYTES, Ack, Hello, Pong, Status, decode_from_page, encode
from streamer.view.newest import Newest

STATUS_S = 0.2
"""The page counts the viewer as gone after 1 s, so four must be lost first."""


class Page:
    """Sends one page the newest there is, as fast as it draws and no faster.

    One picture per source may be on its way; the next one is chosen when the page has acknowledged it. A slow
    page therefore sees fewer pictures, never older ones, and its connection never holds more than those.
    """

    def __init__(self, websocket: WebSocket, newest: Newest, hello: Hello) -> None:
        """Speak through an accepted WebSocket."""
        self._websocket = websocket
        self._newest = newest
        self._hello = hello
        self._wake = asyncio.Event()
        self._ping: float | None = None
        self._undrawn: set[str] = set()
        self._sent: dict[str, int] = {}

    async def run(self) -> None:
        """Serve the page until it or the viewer is closed."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closing
                loop.call_soon_threadsafe(self._wake.set)

        with self._newest.watched(wake):
            tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tell())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result

    async def _listen(self) -> None:
        while True:
            text = await self._websocket.receive_text()
            try:
                if len(text) > MAX_PAGE_MESSAGE_BYTES:
                    raise msgspec.DecodeError("too long")
                message = decode_from_page(text)
            except msgspec.DecodeError:
                await self._websocket.close(1008, "not a message this viewer knows")
                return
            if isinstance(message, Ack):
                self._undrawn.discard(message.source)
            else:
                self._ping = message.sent
            self._wake.set()

    async def _tell(self) -> None:
        await self._send(self._hello)
        version: int | None = None
        due = 0.0
        while True:
            self._wake.clear()
            if self._ping is not None:
                sent, self._ping = self._ping, None
                await self._send(Pong(sent, time.monotonic_ns() / 1e6))
            if version != self._newest.version or time.monotonic() >= due:
                version = self._newest.version
                due = time.monotonic() + STATUS_S
                await self._send(self._newest.status())
            await self._send_pictures()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._wake.wait()

    async def _send_pictures(self) -> None:
        for source in self._newest.sources():
            picture = self._newest.picture(source)
            if picture is None or source in self._undrawn or self._sent.get(source) == picture.number:
                continue
            self._undrawn.add(source)
            self._sent[source] = picture.number
            await self._websocket.send_bytes(picture.message)

    async def _send(self, message: Hello | Pong | Status) -> None:
        await self._websocket.send_text(encode(message))
