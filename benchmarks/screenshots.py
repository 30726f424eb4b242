"""Make the pictures of the documentation: `python -m benchmarks.screenshots`.

Runs the daemon on phantoms and the viewer as a user would, opens the page in Chromium, waits until it shows
what a picture is meant to show, and writes PNG files to docs/images.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[1] / "docs" / "images"
MAX_BYTES = 300_000
_WITHIN_S = 90.0
# A busy machine must not make a live picture truthfully stale.
_STALE_AFTER_MS = 1000
_CHART_S = 21.0
"""Until the chart of the last 20 seconds is full."""
# Chromium must not call home, and has neither a GPU nor a sandbox in a container.
_CHROMIUM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_LIVE = "body[data-state=live][data-overlay=on]"
_CERTAIN = f"{_LIVE} #stability[data-stable=true]"
# Lets the page draw until what it has just drawn is what is wanted, and then no more.
_DRAW_UNTIL = """([css, label, after]) => {
  const draw = window.requestAnimationFrame.bind(window);
  window.drawn = false;
  window.requestAnimationFrame = (callback) => window.drawn ? 0 : draw((now) => {
    if (window.drawn) return;
    callback(now);
    const shown = document.getElementById("label")?.textContent;
    window.drawn = now > after * 1000 && !!document.querySelector(css) && (!label || shown === label);
  });
}"""


class Feed(NamedTuple):
    """A daemon with its viewer."""

    url: str
    daemon: "subprocess.Popen[bytes]"


class Shot(NamedTuple):
    """One picture."""

    name: str
    sources: tuple[str, ...]
    size: tuple[int, int]
    shows: str
    """Selector that matches while the page shows what the picture is for."""
    label: str = ""
    """The class that it shows; any where empty."""
    after_s: float = 0.0
    """Not before the page is so old."""
    prepare: Callable[["Page", Feed], None] = lambda *_: None


def _kill_daemon(page: "Page", feed: Feed) -> None:
    page.wait_for_selector(".tile[data-overlay=on]", timeout=_WITHIN_S * 1e3)
    feed.daemon.kill()


def _hold(page: "Page", _feed: Feed) -> None:
    page.wait_for_selector(_LIVE, timeout=_WITHIN_S * 1e3)
    page.keyboard.press("f")


# Rendered before, so that the feed costs nothing while it runs.
_FEED = "prerender=200&lift=false&cut=false"
_MALIGNANT = f"phantom:?lesion=malignant&seed=3&start=60&{_FEED}"
_BENIGN = f"phantom:?lesion=benign&seed=5&start=60&{_FEED}"
_TWO = f"{_LIVE} .tile[data-overlay=on] ~ .tile[data-overlay=on]"
SHOTS = (
    Shot("view.png", (_MALIGNANT,), (1280, 720), _CERTAIN, "malignant", _CHART_S),
    Shot("view-tablet.png", (_MALIGNANT,), (820, 1180), _CERTAIN, "malignant", _CHART_S),
    Shot("view-two-sources.png", (_MALIGNANT, _BENIGN), (1280, 720), _TWO),
    Shot("view-frozen.png", (_MALIGNANT,), (1280, 720), "body[data-state=held]", prepare=_hold),
    Shot(
        "view-no-connection.png",
        (_MALIGNANT,),
        (1280, 720),
        "body[data-state=no_daemon]",
        prepare=_kill_daemon,
    ),
)


def main() -> None:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="of pictures, such as view.png; all where left out")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--model", default="default", help="an exported model, or the one that ships")
    options = parser.parse_args()
    known = {shot.name for shot in SHOTS}
    if unknown := set(options.names) - known:
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    from playwright.sync_api import sync_playwright

    options.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_CHROMIUM)
        for shot in SHOTS:
            if options.names and shot.name not in options.names:
                continue
            take(browser, shot, options.folder / shot.name, options.model)
            print(f"{shot.name}: {(options.folder / shot.name).stat().st_size / 1e3:.0f} kB", flush=True)
        browser.close()


def take(browser: "Browser", shot: Shot, path: Path, model: str) -> None:
    """Make one picture.

    :raises playwright.sync_api.TimeoutError: if the page never shows what it should.
    """
    width, height = shot.size
    with _running(shot.sources, model) as feed:
        page = browser.new_page(viewport={"width": width, "height": height})
        try:
            told = json.dumps([shot.shows, shot.label, shot.after_s])
            page.add_init_script(f"({_DRAW_UNTIL})({told})")
            page.goto(feed.url)
            shot.prepare(page, feed)
            page.wait_for_function("() => window.drawn", timeout=_WITHIN_S * 1e3, polling=50)
            page.screenshot(path=path)
            shrink(path)
        finally:
            page.close()


def shrink(path: Path, most: int = MAX_BYTES) -> None:
    """Reduce a picture's colours until it fits; speckle needs few.

    :raises ValueError: if it does not fit even then.
    """
    from PIL import Image

    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    for colours in (256, 128, 64, 40):
        whole.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size < most:
            return
    raise ValueError(f"{path} does not fit into {most} bytes")


@contextmanager
def _running(sources: tuple[str, ...], model: str) -> Iterator[Feed]:
    address, port, http = f"tcp://127.0.0.1:{_free_port()}", _free_port(), _free_port()
    run = ["run", *sources, f"--publish.bind={address}", f"--http.port={http}", f"--model.artifact={model}"]
    daemon = subprocess.Popen([sys.executable, "-m", "streamer", *run, "--log.level=warning"])
    view = ["view", address, "--no-browser", f"--port={port}", f"--stale-after-ms={_STALE_AFTER_MS}"]
    viewer = subprocess.Popen([sys.executable, "-m", "streamer", *view], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, viewer)
        yield Feed(f"http://127.0.0.1:{port}/", daemon)
    finally:
        for process in (viewer, daemon):
            process.terminate()
        for process in (viewer, daemon):
            process.wait(15)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the viewer did not start")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
