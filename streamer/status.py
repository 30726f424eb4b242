"""`/metrics`, `/healthz`, `/readyz` and `/status` on one port."""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class StatusError(Exception):
    """The port cannot be listened on; says why."""


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a client that sends nothing does not hold a thread for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


class StatusServer:
    """Answers from a thread of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        """Listen.

        :param alive: whether the process does its work; `/healthz` answers 200 or 503.
        :param ready: whether the model is warm and a source delivers; `/readyz` answers 200 or 503.
        :param status: what `/status` shows, as JSON.
        :raises StatusError: if the port is taken or the address is not this machine's.
        """
        self._metrics = make_wsgi_app(registry)
        self._alive, self._ready, self._status = alive, ready, status
        try:
            self._server: WSGIServer = make_server(
                host, port, self._answer, server_class=ThreadingWSGIServer, handler_class=_Quiet
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StatusError(
                f"cannot listen on {host}:{port} for metrics and health: {reason}; choose another http.port"
            ) from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    def _answer(self, environment: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environment, start)
            return body
        if path in ("/healthz", "/readyz"):
            good = self._alive() if path == "/healthz" else self._ready()
            start(
                "200 OK" if good else "503 Service Unavailable",
                [("Content-Type", "text/plain; charset=utf-8")],
            )
            return [b"ok\n" if good else b"not ready\n" if path == "/readyz" else b"not alive\n"]
        if path == "/status":
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._status(), indent=2).encode() + b"\n"]
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"there are /metrics, /healthz, /readyz and /status\n"]

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)
