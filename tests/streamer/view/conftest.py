"""A real browser, a real publisher and a viewer between them."""

import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from streamer.view import Viewer
from tests.programs import require_program
from tests.streamer.view.drawn_feed import DrawnFeed

# Chromium must not call home, and has neither a GPU nor a sandbox in a container.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module only: while it runs, Playwright's event loop occupies the main thread."""
    chromium = require_program("chromium", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page that fails the test if a script on it fails."""
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def feed() -> Iterator[DrawnFeed]:
    with DrawnFeed() as feed:
        yield feed


# Eight times the default: a busy machine must not make a live page truthfully stale in the middle of a test.
STALE_AFTER_S = 2.0


@pytest.fixture
def viewer(feed: DrawnFeed) -> Iterator[Viewer]:
    with Viewer(feed.address, port=0, stale_after_s=STALE_AFTER_S) as viewer:
        yield viewer


@pytest.fixture
def live(page: Page, viewer: Viewer) -> Page:
    """The viewer's page, showing the live feed."""
    page.goto(viewer.url)
    page.wait_for_selector("body[data-state=live] .tile[data-seq][data-overlay=on]")
    return page


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
