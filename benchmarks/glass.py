"""`sonostream bench glass`: from a frame's instant to its pixels on the page in a real browser.

The phantom writes each frame's number and the instant at which it was due into the picture itself. A script
on the viewer's page looks at the canvas after every animation frame and reads both back: no timestamp that
any part of the program made is believed. Daemon, viewer and browser are processes of their own, on one
machine and so on one clock; what a screen adds, its own refresh, is not in the figures.
"""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import plot
from benchmarks.daemon import BenchError, free_port, running_daemon
from benchmarks.figures import machine, percentiles, versions
from streamer.client import Subscriber
from streamer.sources.phantom.code import CELLS, NUMBER_BITS, TICK_NS, TIME_BITS, check, strip
from streamer.wire import Received

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from playwright.sync_api import Page

SCHEMA = "sonostream.bench.glass/1"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# It must not call home, and has neither a GPU nor a sandbox in a container.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
_WITHIN_S = 60.0

# A message posted while the page draws is delivered once it has drawn: what the canvas holds then is shown.
# White of the past is drawn at half its brightness, 127; black under a lesion's shade is up to 89.
_WATCH = """([x, y, width, height, cells]) => {
  const seen = window.coded = [];
  let animation = 0, before = "";
  const { port1, port2 } = new MessageChannel();
  const line = (data, stride, top) => {
    let low = 0, high = 0;
    for (let bit = 0; bit < cells; bit++) {
      const column = Math.round((bit + 0.5) * stride.x);
      if (data[(top * stride.row + column) * 4] > 108) bit < 16 ? low |= 1 << bit : high |= 1 << (bit - 16);
    }
    return high * 65536 + low;
  };
  port1.onmessage = () => {
    const at = performance.now();
    const tile = document.querySelector(".tile[data-picture]");
    if (!tile) return;
    const region = window.codedRegion;
    const [left, top, shownWidth] = tile.dataset.picture.split(" ").map(Number);
    const scale = shownWidth / region;
    const canvas = tile.querySelector("canvas");
    const row = Math.ceil(cells * width * scale);
    const { data } = canvas.getContext("2d").getImageData(
      Math.round(left + x * scale), Math.round(top + y * scale), row, Math.ceil(2 * height * scale));
    const stride = { x: width * scale, row };
    const first = line(data, stride, Math.round(0.5 * height * scale));
    const second = line(data, stride, Math.round(1.5 * height * scale));
    const facts = window.sonostream;
    const key = `${first} ${second} ${facts.frame_id}`;
    if (key === before) return;
    before = key;
    seen.push([at, first, second, facts.frame_id, animation, tile.dataset.state === "live" ? 1 : 0]);
  };
  const look = () => {
    animation += 1;
    port2.postMessage(null);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
_TAKE = "() => { const taken = window.coded.splice(0); return taken; }"


@dataclass(frozen=True)
class GlassSettings:
    """What is run."""

    seconds: float = 30.0
    warm_up_s: float = 3.0
    fps: float = 30.0
    width: int = 800
    height: int = 600
    window: tuple[int, int] = (1280, 720)
    """Of the browser."""
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"
    seed: int = 0
    prerendered: int = 240
    """Frames of the phantom, which are played forth and back; their numbers go on."""


@dataclass(frozen=True)
class Shown:
    """A picture that appeared on the page."""

    at_ns: float
    """When it was drawn, on CLOCK_MONOTONIC."""
    first: int
    second: int
    """The strip's two rows."""
    frame_id: int
    """Of the overlay and the numbers beside it, as the page says."""
    live: bool


@dataclass
class _Told:
    """What the daemon says of each frame: the other half of every comparison."""

    address: str
    frames: dict[int, tuple[int, int]]
    """Frame number -> index in the phantom, capture stamp in ns."""
    fps: float

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the results in a thread."""
        stop = threading.Event()

        def follow() -> None:
            with Subscriber(self.address) as subscriber:
                while not stop.is_set():
                    message = subscriber.receive(0.1)
                    if isinstance(message, Received) and message.analysis.media_time is not None:
                        analysis, media_s = message.analysis, message.analysis.media_time
                        index = round(media_s * self.fps)
                        self.frames[analysis.frame_id] = (index, analysis.captured_monotonic)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def find_browser() -> str:
    """Find Chromium.

    :raises BenchError: if there is none, or playwright is not installed; says what to install.
    """
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise BenchError("reading the page needs playwright: pip install 'sonostream[dev]'") from None
    for name in _BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise BenchError("reading the page needs Chromium: apt install chromium")


def run_glass(settings: GlassSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes; durations in ms.
    :raises BenchError: if something does not start, or an overlay was of another frame than its picture.
    """
    browser = find_browser()
    task = progress.add_task("starting daemon, viewer and browser", total=settings.seconds)
    query = f"seed={settings.seed}&fps={settings.fps:g}&width={settings.width}&height={settings.height}"
    uri = f"phantom:?{query}&lift=false&cut=false&code=true&prerender={settings.prerendered}"
    flags = {
        "model.artifact": settings.artifact,
        "model.runtime": settings.runtime,
        "model.precision": settings.precision,
    }
    with ExitStack() as stack:
        daemon = stack.enter_context(running_daemon([uri], flags))
        model = daemon.status()["model"]
        url = stack.enter_context(_viewer(daemon.address))
        page = stack.enter_context(_page(browser, settings))
        told = _Told(daemon.address, {}, settings.fps)
        stack.enter_context(told.following())
        version = _open(page, url, settings)
        offset_ms, uncertain_ms = _clock(page)
        begin = time.monotonic() + settings.warm_up_s
        seen: list[list[float]] = []
        progress.update(task, description=f"looking at {settings.fps:g} fps")
        while (now := time.monotonic()) < begin + settings.seconds:
            page.wait_for_timeout(250)
            seen += page.evaluate(_TAKE)
            progress.update(task, completed=max(0.0, now - begin))
        last_offset_ms, _ = _clock(page)
        account = daemon.status()["sources"][0]
    shown = [
        Shown((at + offset_ms) * 1e6, int(first), int(second), int(frame), bool(live))
        for at, first, second, frame, _, live in seen
        if at + offset_ms >= begin * 1e3
    ]
    report = judge(shown, told.frames)
    animations = [entry[4] for entry in seen]
    ticks = (animations[-1] - animations[0]) / ((seen[-1][0] - seen[0][0]) * 1e-3) if len(seen) > 1 else 0.0
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions() | {"chromium": version},
        "settings": asdict(settings),
        "model": model,
        **report,
        "animation_frames_per_s": round(ticks, 1),
        "clock": {
            "uncertain_ms": round(uncertain_ms, 3),
            "drift_ms": round(last_offset_ms - offset_ms, 3),
        },
        "captured": account["captured"],
        "analyzed": account["analyzed"],
    }


@contextmanager
def _viewer(address: str) -> Iterator[str]:
    """Run `sonostream view`; yields the page's URL."""
    port = free_port()
    command = [sys.executable, "-m", "streamer", "view", address, "--no-browser", f"--port={port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            if not viewer.stdout.readline():
                raise BenchError("the viewer did not start")
            yield f"http://127.0.0.1:{port}/"
        finally:
            viewer.terminate()


@contextmanager
def _page(browser: str, settings: GlassSettings) -> "Iterator[Page]":
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(_ARGUMENTS))
        except Error as error:
            raise BenchError(f"{browser} does not start: {error.message.splitlines()[0]}") from None
        width, height = settings.window
        try:
            yield chromium.new_page(viewport={"width": width, "height": height})
        finally:
            chromium.close()


def _open(page: "Page", url: str, settings: GlassSettings) -> str:
    """Open the page, wait for its first picture, and begin to look at it; the browser's version."""
    from playwright.sync_api import Error

    try:
        page.goto(url)
        page.wait_for_selector(".tile[data-picture]", timeout=_WITHIN_S * 1e3)
    except Error as error:
        raise BenchError(f"the page showed no picture: {error.message.splitlines()[0]}") from None
    page.evaluate(f"() => {{ window.codedRegion = {settings.width}; }}")
    page.evaluate(_WATCH, [*strip(settings.width, settings.height), CELLS])
    browser = page.context.browser
    return "" if browser is None else browser.version


def _clock(page: "Page") -> tuple[float, float]:
    """Compare the page's clock with CLOCK_MONOTONIC, by the quickest of 40 asks.

    :return: offset and uncertainty in ms.
    """
    best, offset = float("inf"), 0.0
    for _ in range(40):
        asked = time.monotonic() * 1e3
        said = float(page.evaluate("() => performance.now()"))
        answered = time.monotonic() * 1e3
        if answered - asked < best:
            best, offset = answered - asked, (asked + answered) / 2 - said
    return offset, best / 2


def judge(shown: list[Shown], told: dict[int, tuple[int, int]]) -> dict[str, Any]:
    """Compare what was read from the pixels with what the page and the daemon said of the same frame.

    :param shown: in order.
    :param told: by frame number, the phantom's index and the capture stamp in ns, as the daemon published.
    :return: latencies in ms and counts.
    :raises BenchError: if an overlay was of another frame than its picture, or nothing could be read.
    """
    latency, unreadable, past, compared = [], 0, 0, 0
    numbers: list[int] = []
    for picture in shown:
        number, ticks = picture.first & (1 << NUMBER_BITS) - 1, picture.second
        if picture.first >> NUMBER_BITS != check(number, ticks):
            unreadable += 1
            continue
        if picture.frame_id in told:
            index, captured_ns = told[picture.frame_id]
            compared += 1
            if index % (1 << NUMBER_BITS) != number or captured_ns // TICK_NS % (1 << TIME_BITS) != ticks:
                raise BenchError(
                    f"the overlay of frame {picture.frame_id}, the feed's {index}, was on picture {number}"
                )
        if numbers and number == numbers[-1]:
            continue
        past += not picture.live
        now = picture.at_ns / TICK_NS
        latency.append((now - ticks) % (1 << TIME_BITS) * TICK_NS * 1e-6)
        numbers.append(number)
    if not latency or not compared:
        raise BenchError(f"none of {len(shown)} pictures on the page could be read and compared")
    intervals = np.diff([picture.at_ns for picture in shown]) * 1e-6
    return {
        "pictures": len(latency),
        "compared": compared,
        "unreadable": unreadable,
        "shown_as_past": past,
        "frames_not_shown": numbers[-1] - numbers[0] + 1 - len(numbers),
        "glass_to_glass_ms": percentiles(latency),
        "between_pictures_ms": percentiles(intervals) if len(intervals) else {},
        "latency_ms": [round(value, 2) for value in latency],
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table."""
    settings, model = report["settings"], report["model"]
    size = f"{settings['width']} x {settings['height']}"
    engine = f"{model['name']} {model['version']} on {model['runtime']} {model['precision']}"
    table = Table(
        title=f"phantom {size} at {settings['fps']:g} fps; {engine}; "
        f"Chromium {report['versions']['chromium']}; {report['machine']['cpu']}"
    )
    table.add_column("ms")
    names = list(report["glass_to_glass_ms"])
    for name in names:
        table.add_column(name, justify="right")
    for title, key in (
        ("glass to glass", "glass_to_glass_ms"),
        ("between two pictures", "between_pictures_ms"),
    ):
        table.add_row(title, *(f"{report[key][name]:.1f}" for name in names))
    console.print(table)
    console.print(
        f"{report['pictures']} pictures read from the page's pixels, {report['frames_not_shown']} frames "
        f"skipped by it, {report['unreadable']} unreadable; overlay and picture of the same frame in all "
        f"{report['compared']} compared; shown as past: {report['shown_as_past']}; "
        f"{report['animation_frames_per_s']:.0f} animation frames a second; clocks agree to "
        f"{report['clock']['uncertain_ms']:.2f} ms"
    )


def draw(report: dict[str, Any]) -> "Figure":
    """Draw latency over time, and its distribution.

    :raises BenchError: if matplotlib is not installed.
    """
    figure = plot.figure(9, 4)
    over, distribution = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    latency = report["latency_ms"]
    over.plot(latency, ".", markersize=3)
    over.set(xlabel="picture", ylabel="glass to glass, ms", ylim=(0, None))
    distribution.hist(latency, bins=60, orientation="horizontal")
    distribution.set(xlabel="pictures")
    for name in ("p50", "p99"):
        at = report["glass_to_glass_ms"][name]
        distribution.axhline(at, color="tab:red", linewidth=0.8)
        distribution.text(distribution.get_xlim()[1], at, f"{name} {at:.1f}", ha="right", va="bottom")
    return figure
