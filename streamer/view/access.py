"""Who may open the page: loopback without a token, everyone else with one."""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.loopback import is_loopback

MIN_TOKEN_CHARACTERS = 16

HEADERS = {
    # `connect-src 'self'` includes the WebSocket of the same host and port.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

_ASK_FOR_TOKEN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>sonostream</title>
<link rel="stylesheet" href="/style.css"><body class="ask"><form action="/" method="get">
<label for="token">This viewer asks for its token</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus>
<button>Open</button></form></body></html>"""


class Guard:
    """Lets through what may pass, and puts the security headers on every answer.

    Without a token only requests that name this machine in `Host` pass: a web site could otherwise reach the
    page by pointing its own name at 127.0.0.1. A WebSocket must come from our own page, because browsers let
    any site open one.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, public: frozenset[str]) -> None:
        """Wrap an application.

        :param token: None to trust everyone on this machine.
        :param public: paths that need no token.
        """
        self._app = app
        self._token = token
        self._public = public
        # A cookie that does not hold the token itself: the browser's files then don't, either.
        self._ticket = hmac.new((token or "").encode(), b"sonostream view", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refuse(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None and not _names_this_machine(host):
            return PlainTextResponse("the viewer answers to localhost only; --token lets others in", 403)
        origin = headers.get("origin")
        if scope["type"] == "websocket" and origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("a page of another site may not connect", 403)
        if self._token is None or scope["path"] in self._public:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and _same(given, self._token):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(_cookie_name(host), self._ticket, httponly=True, samesite="lax")
            return answer
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self._token):
            return None
        if _same(_cookie(headers, _cookie_name(host)), self._ticket):
            return None
        return HTMLResponse(_ASK_FOR_TOKEN, 401, {"WWW-Authenticate": "Bearer"})


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name.endswith(".localhost") or is_loopback(name)
    except ValueError:
        return False


def _cookie_name(host: str) -> str:
    """Cookies are shared between ports, and several viewers may run on one machine."""
    return f"sonostream_{host.rpartition(':')[2] if ':' in host else '80'}".replace("]", "")


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
