"""The page in a real browser."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

import streamer.view
from streamer.frame import FeedState
from streamer.view import Viewer
from tests.streamer.view.conftest import STALE_AFTER_S
from tests.streamer.view.drawn_feed import (
    CODE_AT,
    CODE_BITS,
    CODE_SIDE,
    HEIGHT,
    WIDTH,
    DrawnFeed,
    lesion_centre,
    lesion_mask,
)

# Reads the frame number from the pixels, where the contour crosses the lesion's middle rows, and what the
# page says, all in one go.
LOOK = """([x0, y0, side, bits, width]) => {
  const canvas = document.querySelector(".tile canvas");
  const [x, y, w, h] = document.querySelector(".tile").dataset.picture.split(" ").map(Number);
  const ctx = canvas.getContext("2d");
  const scale = w / width;
  let coded = 0;
  for (let bit = 0; bit < bits; bit++) {
    const at = [x + (x0 + (bit + 0.5) * side) * scale, y + (y0 + 0.5 * side) * scale].map(Math.round);
    if (ctx.getImageData(...at, 1, 1).data[0] > 128) coded |= 1 << bit;
  }
  const { data } = ctx.getImageData(x, y + Math.round(215 * scale), w, Math.round(20 * scale));
  let [count, sum] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] < 230 || data[i + 2] > 110) continue;
    count += 1;
    sum += (i / 4) % w;
  }
  return { coded, outlined: count ? sum / count / scale : null, ...window.sonostream };
}"""


def look(page: Page) -> dict[str, Any]:
    result: dict[str, Any] = page.evaluate(LOOK, [*CODE_AT, CODE_SIDE, CODE_BITS, WIDTH])
    return result


def wait_for_another_frame(page: Page) -> None:
    shown = page.get_attribute(".tile", "data-seq")
    page.wait_for_selector(f'.tile[data-seq]:not([data-seq="{shown}"])')


def test_picture_overlay_and_numbers_are_of_the_same_frame(live: Page, feed: DrawnFeed) -> None:
    """The lesion changes sides with every frame: an overlay of another frame would lie on the other side."""
    feed.jumping = True
    for _ in range(3):
        wait_for_another_frame(live)
    seen = set()
    for _ in range(15):
        wait_for_another_frame(live)
        shown = look(live)
        assert shown["coded"] == shown["frame_id"] == shown["seq"]
        assert shown["outlined"] == pytest.approx(lesion_centre(shown["seq"], jumping=True)[0], abs=40)
        seen.add(shown["seq"] % 2)
    assert len(seen) == 2


def test_the_contour_lies_on_the_lesion_of_a_region_that_does_not_start_at_the_frames_corner(
    live: Page,
) -> None:
    shown = look(live)
    assert shown["outlined"] == pytest.approx(lesion_centre(shown["seq"], jumping=False)[0], abs=15)


def test_crosses_mark_where_the_diameter_is_measured(live: Page) -> None:
    live.keyboard.press("f")
    live.wait_for_selector("body[data-state=held]")
    seq = look(live)["seq"]
    mask = lesion_mask(lesion_centre(seq, jumping=False), "malignant")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    reached, unit = live.evaluate(
        """([width, middle]) => {
          const [x, y, w] = document.querySelector(".tile").dataset.picture.split(" ").map(Number);
          const ctx = document.querySelector(".tile canvas").getContext("2d");
          const { data } = ctx.getImageData(x, y + Math.round(middle * w / width) - 2, w, 4);
          let right = 0;
          for (let i = 0; i < data.length; i += 4) {
            if (data[i] > 190 && data[i + 2] < 130) right = Math.max(right, (i / 4) % w);
          }
          return [right * width / w, width / w];
        }""",
        [WIDTH, (int(rows.min()) + int(rows.max())) / 2],
    )

    # The arm of the cross reaches 5 pixels of the screen beyond the contour, whose own line is 1 wide.
    assert reached == pytest.approx(int(columns.max()) + 5 * unit, abs=2.5 * unit)


def test_a_killed_daemon_is_told_and_its_return_too(page: Page, unused_port: int) -> None:
    command = [sys.executable, "-m", "tests.streamer.view.drawn_feed", str(unused_port)]
    with Viewer(f"tcp://127.0.0.1:{unused_port}", port=0) as viewer:
        page.goto(viewer.url)
        page.wait_for_selector("body[data-state=no_daemon] #alarm:not([hidden])")
        daemon = subprocess.Popen(command)
        try:
            page.wait_for_selector("body[data-connected=true][data-state=live]")
            assert page.locator("#alarm").is_hidden()
            daemon.send_signal(signal.SIGKILL)
            page.wait_for_selector(
                "body[data-connected=false][data-state=no_daemon][data-overlay=grey]", timeout=5000
            )
            assert "NO CONNECTION to the daemon" in page.inner_text("#alarm")
            assert page.get_attribute(".tile", "data-state") == "no_daemon"
            assert "NO CONNECTION" in page.inner_text(".tile .banner")
        finally:
            daemon.kill()
            daemon.wait()
        with DrawnFeed(port=unused_port, publisher="second") as feed:
            page.wait_for_selector("body[data-connected=true][data-state=live]")
            assert look(page)["seq"] <= feed.number


def test_a_viewer_that_is_gone_is_told_by_the_page_itself(page: Page, feed: DrawnFeed) -> None:
    with Viewer(feed.address, port=0) as viewer:
        page.goto(viewer.url)
        page.wait_for_selector("body[data-state=live]")
    page.wait_for_selector("body[data-connected=false][data-state=no_viewer][data-overlay=grey]")
    assert "NO CONNECTION to the viewer" in page.inner_text("#alarm")


@pytest.mark.parametrize(
    ("state", "words"),
    [(FeedState.FROZEN, "FEED FROZEN"), (FeedState.NO_SIGNAL, "NO SIGNAL"), (FeedState.STALE, "STALE")],
)
def test_a_feed_that_is_not_live_says_so_and_has_no_result(
    live: Page, feed: DrawnFeed, state: FeedState, words: str
) -> None:
    feed.state = state
    live.wait_for_selector(f"body[data-state={state}][data-overlay=none] .tile[data-state={state}]")
    assert words in live.inner_text(".tile .banner")
    assert live.inner_text("#feed") == words
    live.wait_for_selector("#label:text-is('no result')")
    feed.state = FeedState.LIVE
    live.wait_for_selector("body[data-state=live][data-overlay=on]")
    assert live.locator(".tile .banner").is_hidden()


def test_an_overlay_past_its_limit_turns_grey_and_says_how_old_it_is(live: Page, feed: DrawnFeed) -> None:
    feed.pictures = False
    live.wait_for_selector("body[data-connected=true][data-state=stale][data-overlay=grey]")
    assert re.search(r"STALE\s+this overlay is [\d.]+ m?s old", live.inner_text(".tile .banner"))
    assert look(live)["outlined"] is None
    assert look(live)["age_ms"] > 1e3 * STALE_AFTER_S


def test_a_result_that_was_old_when_it_was_published_is_stale_at_once(live: Page, feed: DrawnFeed) -> None:
    feed.age_s = STALE_AFTER_S + 0.4
    live.wait_for_selector("body[data-state=stale][data-overlay=grey]")
    assert look(live)["age_ms"] >= 1e3 * feed.age_s


def test_freezing_holds_picture_and_result_together_until_let_go(live: Page, feed: DrawnFeed) -> None:
    live.keyboard.press("f")
    live.wait_for_selector("body[data-state=held] .tile[data-state=held]")
    assert "FROZEN BY YOU" in live.inner_text(".tile .banner")
    held = look(live)
    feed.label = "benign"
    live.wait_for_selector(".tile .banner:has-text('feed is LIVE')")
    number = feed.number
    while feed.number < number + 5:
        live.wait_for_timeout(50)
    later = look(live)
    assert (later["seq"], later["coded"], later["overlay"]) == (held["seq"], held["coded"], "on")
    assert live.inner_text("#label").lower() == "malignant"
    live.keyboard.press(" ")
    live.wait_for_selector("body[data-state=live] #label:text-is('benign')")
    assert look(live)["seq"] > held["seq"]


def test_a_snapshot_saves_the_frame_on_screen_as_picture_and_data(live: Page, tmp_path: Path) -> None:
    live.keyboard.press("f")
    live.wait_for_selector("body[data-state=held]")
    downloads: list[Any] = []
    live.on("download", lambda download: downloads.append(download))
    with live.expect_event("download", lambda download: download.suggested_filename.endswith(".json")):
        live.click("#do-snapshot")
    while len(downloads) < 2:
        live.wait_for_timeout(20)
    for download in downloads:
        download.save_as(tmp_path / download.suggested_filename)
    picture = cv2.imread(str(next(tmp_path.glob("*.png"))), cv2.IMREAD_GRAYSCALE)
    saved = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert picture is not None
    scale = picture.shape[1] // WIDTH
    x, y = (np.array(CODE_AT) + CODE_SIDE / 2) * scale
    bits = [int(picture[int(y), int(x + bit * CODE_SIDE * scale)] > 128) << bit for bit in range(CODE_BITS)]
    assert sum(bits) == saved["analysis"]["frame_id"] == look(live)["frame_id"]
    assert picture.shape[0] > HEIGHT * scale
    assert saved["analysis"]["intended_use"] == "research only"
    assert saved["shown"]["state"] == "held"


def test_the_overlay_can_be_switched_off_and_the_page_says_that_it_is(live: Page) -> None:
    live.keyboard.press("o")
    live.wait_for_selector("body[data-overlay=off] .tile .off:not([hidden])")
    assert look(live)["outlined"] is None
    live.click("#do-overlay")
    live.wait_for_selector("body[data-overlay=on]")
    assert live.locator(".tile .off").is_hidden()


def test_keys_change_the_shading(live: Page) -> None:
    live.keyboard.press("+")
    live.wait_for_selector("#opacity:has-text('40 %')")
    live.keyboard.press("-")
    live.keyboard.press("-")
    live.wait_for_selector("#opacity:has-text('30 %')")


def test_the_panel_shows_class_stability_and_diameters(live: Page, feed: DrawnFeed) -> None:
    live.wait_for_selector("#label:text-is('malignant') + #stability:text-is('stable')")
    assert re.fullmatch(r"[\d.]+ \S [\d.]+ mm", live.inner_text("#lesions .size"))
    assert live.locator("#bars li").count() == 3
    live.wait_for_selector("#counts:has-text('6 superseded, 1 failed')")
    feed.spacing_mm = None
    feed.stable = False
    live.wait_for_selector("#stability:text-is('settling')")
    feed.uncertain = True
    live.wait_for_selector("#stability:text-is('uncertain')")
    live.wait_for_selector(".tile:has-text('malignant, uncertain')")
    live.wait_for_selector("#lesions .size:has-text(' px')")


def test_several_sources_are_tiles_and_number_keys_choose_one(page: Page) -> None:
    with DrawnFeed(["right", "left"], rate_hz=10) as feed, Viewer(feed.address, port=0) as viewer:
        page.goto(viewer.url)
        page.wait_for_selector(".tile[data-source=left][data-seq]:visible")
        page.wait_for_selector(".tile[data-source=right][data-seq]:visible")
        assert page.evaluate("() => window.sonostream.source") == "left"
        page.keyboard.press("2")
        page.wait_for_selector("#panel-source:text-is('right')")
        assert page.locator(".tile:visible").count() == 1
        page.click("#do-all")
        page.wait_for_selector(".tile[data-source=left]:visible")


def test_a_sources_name_is_shown_as_text_whatever_it_holds(page: Page) -> None:
    name = "<img src=x onerror=alert(1)>"
    with DrawnFeed([name]) as feed, Viewer(feed.address, port=0) as viewer:
        page.goto(viewer.url)
        page.wait_for_selector("body[data-state=live] .tile[data-seq]")
        assert page.inner_text(".tile .name") == name
        assert page.locator("#stage img, #panel img").count() == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1024, 768), (768, 1024)])
def test_state_use_and_controls_are_in_view_on_common_screens(live: Page, width: int, height: int) -> None:
    live.set_viewport_size({"width": width, "height": height})
    for selector in ("#feed", "#age", "#label", ".bar .use", "#do-hold", "#do-help", ".tile canvas"):
        box = live.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    assert live.inner_text(".bar .use") == "Research use only. Not for diagnosis."
    button = live.locator("#do-hold").bounding_box()
    assert button is not None
    assert button["height"] >= 44


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1024, 768), (800, 1280)])
def test_several_sources_with_long_names_push_nothing_out_of_view(
    page: Page, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    names = [f"examination room {number}, scanner" for number in range(4)]
    with (
        DrawnFeed(names, rate_hz=5) as feed,
        Viewer(feed.address, port=0, stale_after_s=STALE_AFTER_S) as viewer,
    ):
        page.goto(viewer.url)
        for name in names:
            page.wait_for_selector(f'.tile[data-source="{name}"][data-seq]')
        for selector in ("#feed", "#age", ".bar .use", "#do-help", "#panel", "#bars li:last-child .value"):
            box = page.locator(selector).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, selector
        # Shortened, not on top of each other; the state is always there.
        assert page.eval_on_selector_all(
            "#tabs button", "all => all.every(b => b.scrollWidth <= b.clientWidth)"
        )
        assert page.eval_on_selector_all("#tabs .state", "all => all.every(e => e.clientWidth > 20)")


def page_file(name: str) -> str:
    return (Path(streamer.view.__file__).parent / "page" / name).read_text()


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *(
            (text, ground)
            for text in ("text", "dim", "warn", "live", "benign", "malignant", "normal")
            for ground in ("ground", "surface", "raised")
        ),
        ("on-warn", "warn"),
        ("on-alarm", "alarm"),
        ("on-held", "held"),
    ],
)
def test_text_has_the_contrast_that_wcag_asks_for(text: str, ground: str) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", page_file("style.css")))
    low, high = sorted(luminance(colours[name]) for name in (text, ground))
    assert (high + 0.05) / (low + 0.05) >= 4.5


# Linear RGB as people without one kind of cone see it (Machado et al. 2009, severity 1).
BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize(("one", "other"), [("benign", "malignant"), ("normal", "malignant")])
def test_classes_stay_apart_for_the_colour_blind(kind: str, one: str, other: str) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", page_file("style.css")))
    seen = []
    for name in (one, other):
        rgb = np.array([int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        blind = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
        back = np.where(blind <= 0.0031308, blind * 12.92, 1.055 * blind ** (1 / 2.4) - 0.055)
        seen.append(cv2.cvtColor(back.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB).ravel())
    assert float(np.linalg.norm(seen[0] - seen[1])) > 25  # in CIELAB; 2 can just be told apart


def test_everything_can_be_done_by_touch(browser: Browser, viewer: Viewer) -> None:
    tablet = browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True)
    page = tablet.new_page()
    page.goto(viewer.url)
    page.wait_for_selector("body[data-state=live] .tile[data-seq]")

    page.tap("#do-hold")
    page.wait_for_selector("body[data-state=held]")
    with page.expect_download():
        page.tap("#do-snapshot")
    page.tap("#do-hold")
    page.wait_for_selector("body[data-state=live]")
    page.tap("#do-overlay")
    page.wait_for_selector("body[data-overlay=off]")
    page.tap("#do-overlay")
    page.tap("#do-stronger")
    page.wait_for_selector("#opacity:has-text('40 %')")
    page.tap("#do-help")
    page.tap("#help button")
    page.wait_for_selector("#help", state="hidden")
    for name in ("hold", "overlay", "fainter", "stronger", "snapshot", "help"):
        box = page.locator(f"#do-{name}").bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
    tablet.close()


def test_the_overlay_has_the_same_colours_as_the_panel() -> None:
    colours = dict(re.findall(r"--(normal|benign|malignant): (#\w{6});", page_file("style.css")))
    assert colours == dict(re.findall(r'(normal|benign|malignant): "(#\w{6})"', page_file("palette.js")))


def test_the_page_asks_for_nothing_from_elsewhere(live: Page, viewer: Viewer) -> None:
    addresses: list[str] = []
    live.on("request", lambda request: addresses.append(request.url))
    live.reload()
    live.wait_for_selector("body[data-state=live]")
    assert addresses
    assert all(address.startswith((viewer.url, "blob:")) for address in addresses)
