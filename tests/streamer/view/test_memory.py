"""A page that is left open does not grow: minutes of feed are played to it as fast as it draws.

The page, its decoding and its drawing are real. Only the socket and the clock are not: the next picture comes
when the last is drawn, and each takes the page a thirtieth of a second further.
"""

import base64
import time
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
import pytest
from playwright.sync_api import CDPSession, Page

from streamer.analysis import Region, Size
from streamer.view import Viewer
from streamer.view.messages import Hello, SourceStatus, Status, View, encode, pack_picture
from streamer.wire import Received
from tests.streamer.results import analysis

FPS = 30
WARM_UP = 22 * FPS
"""Frames until the chart of the last 20 seconds is full and nothing grows that may."""
MOST_BYTES = 300_000
"""What the heap may differ by; of 900 frames a leak of a third of a kilobyte each is more."""

# In the page, before its own scripts.
ACCELERATE = """({ hello, status, picture }) => {
  const bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const rest = bytes.slice(4 + length);
  const feed = (window.feed = { sent: 0, open: 0, now: 1000, until: 0 });
  performance.now = () => feed.now;
  const make = window.createImageBitmap.bind(window);
  window.createImageBitmap = async (...given) => {
    const bitmap = await make(...given);
    feed.open += 1;
    const close = bitmap.close.bind(bitmap);
    bitmap.close = () => { feed.open -= 1; close(); };
    return bitmap;
  };
  const turns = new MessageChannel();
  const waiting = [];
  turns.port1.onmessage = () => waiting.shift()?.(feed.now);
  window.requestAnimationFrame = (callback) => {
    waiting.push(callback);
    turns.port2.postMessage(0);
    return 1;
  };
  window.WebSocket = class {
    static OPEN = 1;
    static CLOSED = 3;
    constructor() {
      this.readyState = 1;
      feed.resume = () => this.next();
      setTimeout(() => { this.onopen(); this.tell(hello); this.next(); }, 0);
    }
    tell(message) { this.onmessage({ data: JSON.stringify(message) }); }
    send(text) {
      const message = JSON.parse(text);
      if (message.type === "ping") this.tell({ type: "pong", sent: message.sent, clock_ms: feed.now });
      else setTimeout(() => this.next(), 0);
    }
    next() {
      if (feed.sent >= feed.until) return;
      feed.sent += 1;
      feed.now += 1000 / 30;
      const n = feed.sent;
      if (n % 6 === 1) {
        const sources = [{ ...status.sources[0], state_monotonic: n, captured: n, analyzed: n }];
        this.tell({ ...status, clock_ms: feed.now, sources });
      }
      const label = header.classes.names[Math.floor(n / 40) % 3];
      const changed = { ...header, seq: n, frame_id: n, published_monotonic: n,
        classes: { ...header.classes, label, stable: n % 40 > 10 }, lesions: n % 50 ? header.lesions : [],
        view: { received_ms: feed.now, age_ms: 12 } };
      const text = new TextEncoder().encode(JSON.stringify(changed));
      const message = new Uint8Array(4 + text.length + rest.length);
      new DataView(message.buffer).setUint32(0, text.length, true);
      message.set(text, 4);
      message.set(rest, 4 + text.length);
      this.onmessage({ data: message.buffer });
    }
    close() {}
  };
}"""


class Held(NamedTuple):
    """What a page holds on to."""

    heap_bytes: int
    nodes: int
    listeners: int
    bitmaps: int


def feed_script() -> str:
    made = analysis(source="left", region=Region(0, 0, 160, 120), frame=Size(160, 120))
    picture = cv2.imencode(".jpg", np.full((120, 160), 90, np.uint8))[1].tobytes()
    received = Received(made, np.full((3, 4), 200, np.uint8), picture, 0)
    status = Status(1000.0, True, "", [SourceStatus("left", made.publisher, made.state, 1)])
    told: dict[str, Any] = {
        "hello": msgspec.json.decode(encode(Hello(1000.0, "tcp://127.0.0.1:7070", 250.0))),
        "status": msgspec.json.decode(encode(status)),
        "picture": base64.b64encode(pack_picture(received, View(0.0, 12.0))).decode(),
    }
    # The label's classes must be there in turn.
    return f"({ACCELERATE})({msgspec.json.encode(told).decode()})".replace(
        '"benign","malignant"]', '"benign","malignant","normal"]'
    )


def play(page: Page, frames: int, within_s: float) -> None:
    """Let the page draw so many more frames."""
    target = page.evaluate("(more) => (window.feed.until = window.feed.sent + more)", frames)
    page.evaluate("window.feed.resume && window.feed.resume()")
    page.wait_for_function(
        "(target) => window.sonostream?.seq === target", arg=target, timeout=within_s * 1e3, polling=50
    )


def held(cdp: CDPSession) -> Held:
    for _ in range(2):
        cdp.send("HeapProfiler.collectGarbage")
    told = {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}
    bitmaps = cdp.send("Runtime.evaluate", {"expression": "window.feed.open", "returnByValue": True})
    return Held(
        int(cdp.send("Runtime.getHeapUsage")["usedSize"]),
        int(told["Nodes"]),
        int(told["JSEventListeners"]),
        int(bitmaps["result"]["value"]),
    )


@pytest.mark.parametrize(
    "minutes",
    [
        pytest.param(0.5, id="half-a-minute", marks=pytest.mark.timeout(300)),
        pytest.param(10, id="ten-minutes", marks=[pytest.mark.heavy, pytest.mark.timeout(900)]),
    ],
)
def test_a_page_that_stays_open_holds_no_more_than_at_first(
    page: Page, viewer: Viewer, minutes: float
) -> None:
    # Small, because drawing costs by the pixel and what is kept does not.
    page.set_viewport_size({"width": 480, "height": 400})
    page.add_init_script(feed_script())
    page.goto(viewer.url)
    page.wait_for_function("window.feed && window.sonostream")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    frames = int(minutes * 60 * FPS)

    play(page, WARM_UP, 140)
    before = held(cdp)
    began = time.monotonic()
    play(page, frames, 140 if minutes < 1 else 800)
    after = held(cdp)

    report = f"{frames} frames in {time.monotonic() - began:.0f} s: {before} then {after}"
    assert after.heap_bytes - before.heap_bytes < MOST_BYTES, report
    assert abs(after.nodes - before.nodes) < 50, report
    assert after.listeners <= before.listeners, report
    assert after.bitmaps <= 2, report
