"""`sonostream view`."""

import os
import signal
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from streamer.no_dumps import forbid_dumps
from streamer.view.server import ViewerError, serve


def view_command(
    address: Annotated[
        str, typer.Argument(help="Address of the daemon's results.", show_default=True)
    ] = "tcp://127.0.0.1:7070",
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 7080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SONOSTREAM_VIEW_TOKEN",
            help="What a browser must know to open the page. The environment keeps it out of process lists.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, where there is a desktop.")
    ] = True,
    source: Annotated[
        list[str] | None, typer.Option(help="Show this source only; may be repeated.", show_default=False)
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="This client's key file, for a daemon that asks for keys (sonostream keys).",
            show_default=False,
        ),
    ] = None,
    stale_after_ms: Annotated[
        float, typer.Option(min=50, max=10000, help="Age from which the overlay is greyed out.")
    ] = 250.0,
) -> None:
    """Show a daemon's results in a web page.

    The page shows the newest picture with its contour, the class, and how old what you see is. Any number of
    viewers and pages may run; none of them slows the daemon. Research use only, not for diagnosis.

    Example: sonostream view tcp://127.0.0.1:7070 --no-browser
    """

    def ready(url: str) -> None:
        typer.echo(f"showing {address} at {url}  (Ctrl-C ends)")
        if open_browser and _has_desktop():
            webbrowser.open(url)

    forbid_dumps()
    # A supervisor's SIGTERM ends it as Ctrl-C does: pages are told at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(
            address,
            host=host,
            port=port,
            token=token,
            sources=source or (),
            stale_after_s=stale_after_ms / 1e3,
            keys=keys,
            ready=ready,
        )
    except ViewerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _has_desktop() -> bool:
    """Whether a browser would get a window: on a bare Linux console it would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
