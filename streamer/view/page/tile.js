// One source: what is known of it, and its place on the stage.

import { HISTORY_MS } from "./chart.js";
import { certainty } from "./message.js";
import { fit, lesionStyle, paint } from "./paint.js";

const RATE_OVER_MS = 2000;

/** What a person must be told in each state: title and what follows from it. */
export const STATES = {
  live: ["LIVE", ""],
  waiting: ["WAITING", "no picture yet"],
  frozen: ["FEED FROZEN", "the scanner repeats a picture; it is not analysed"],
  no_signal: ["NO SIGNAL", "the feed is black, lost or absent"],
  stale: ["STALE", "this overlay is of the past"],
  ended: ["ENDED", "the recording is over"],
  held: ["FROZEN BY YOU", ""],
  no_daemon: ["NO CONNECTION", "the daemon is not heard; what you see is of the past"],
  no_viewer: ["NO CONNECTION", "the viewer is not heard; what you see is of the past"],
};

export class Tile {
  /** @param {string} source @param {(tile: Tile) => void} chosen called when a person picks the tile */
  constructor(source, chosen) {
    this.source = source;
    this.element = document.createElement("article");
    this.element.className = "tile";
    this.element.dataset.source = source;
    this.element.innerHTML =
      '<div class="banner"><strong></strong><span></span></div><div class="view"><canvas></canvas>' +
      '<div class="caption"><span class="off" hidden>OVERLAY OFF</span><span class="class" hidden></span>' +
      '<span class="name"></span></div></div>';
    this.canvas = this.element.querySelector("canvas");
    this.title = this.element.querySelector(".banner strong");
    this.reason = this.element.querySelector(".banner span");
    this.offChip = this.element.querySelector(".off");
    this.classChip = this.element.querySelector(".class");
    this.nameChip = this.element.querySelector(".name");
    this.element.addEventListener("click", () => chosen(this));
    // Only when the display has laid it out: the banner's height depends on its words.
    new ResizeObserver(() => {
      this.dirty = true;
    }).observe(this.canvas);
    this.begin("");
  }

  /** Start over, as for another daemon. */
  begin(publisher) {
    this.frame?.bitmap.close();
    this.publisher = publisher;
    this.frame = null;
    this.drawn = null;
    this.status = null;
    this.feed = "waiting";
    this.feedAt = -Infinity;
    this.history = [];
    this.shown = [];
    this.counted = [];
    this.stages = [];
    this.notShown = 0;
    this.state = "waiting";
    this.overlay = "none";
    this.dirty = true;
  }

  /** Take what the daemon last said of the feed. */
  takeStatus(status, clock) {
    this.status = status;
    this.takeState(status.state, status.state_monotonic);
    this.counted.push({ clock, analyzed: status.analyzed });
    while (this.counted.length > 2 && clock - this.counted[0].clock > RATE_OVER_MS) this.counted.shift();
  }

  /** The newer word counts: results and events come on different ways. */
  takeState(state, at) {
    if (at < this.feedAt) return;
    this.feedAt = at;
    this.feed = state;
  }

  /** Take a frame whose picture is decoded; the one before is gone for good. */
  takeFrame(frame, viewerNow) {
    const before = this.frame;
    if (before) {
      this.notShown += Math.max(0, frame.header.seq - before.header.seq - 1);
      before.bitmap.close();
    }
    this.frame = frame;
    this.dirty = true;
    const now = performance.now();
    this.shown.push({ at: now, age: this.age(viewerNow) });
    while (now - this.shown[0].at > RATE_OVER_MS) this.shown.shift();
    this.stages.push(frame.header.latency);
    if (this.stages.length > 30) this.stages.shift();
    const { classes } = frame.header;
    this.history.push({
      at: viewerNow - this.age(viewerNow),
      malignancy: classes?.malignancy ?? null,
      label: classes?.label ?? null,
      cut: frame.header.view_change !== null,
    });
    const oldest = this.history[this.history.length - 1].at - HISTORY_MS - 1000;
    while (this.history[0].at < oldest) this.history.shift();
  }

  /** Milliseconds since the shown picture was captured. */
  age(viewerNow) {
    const { view } = this.frame.header;
    return view.age_ms + Math.max(0, viewerNow - view.received_ms);
  }

  /** The age to read: the largest of the last half second, because the instant's own flickers. */
  calmAge(viewerNow) {
    const now = performance.now();
    const recent = this.shown.filter((shown) => now - shown.at < 500).map((shown) => shown.age);
    return Math.max(this.age(viewerNow), ...recent);
  }

  /** Frames per second that were drawn here. */
  get rate() {
    const now = performance.now();
    const recent = this.shown.filter((shown) => now - shown.at < RATE_OVER_MS);
    if (recent.length < 2) return 0;
    return ((recent.length - 1) * 1000) / (now - recent[0].at);
  }

  /** Frames per second that the daemon analysed; null until it said so. */
  get analyzedRate() {
    const [first, last] = [this.counted[0], this.counted[this.counted.length - 1]];
    if (!first || last.clock === first.clock || !last.analyzed) return null;
    return ((last.analyzed - first.analyzed) * 1000) / (last.clock - first.clock);
  }

  /** Decide what state the picture on screen is in; what is nearest to the person comes first. */
  judge(link, daemonHeard, held) {
    let state = "live";
    if (held && this.frame) state = "held";
    else if (!link.alive) state = "no_viewer";
    else if (!daemonHeard) state = "no_daemon";
    else if (this.status?.ended) state = "ended";
    else if (this.feed !== "live") state = this.feed;
    else if (!this.frame) state = "waiting";
    else if (this.age(link.viewerNow) > link.staleAfterMs) state = "stale";
    if (state !== this.state) this.dirty = true;
    this.state = state;
    return state;
  }

  /** Draw the picture and its overlay. */
  draw(look) {
    this.dirty = false;
    // First, because the banner takes its room from the picture instead of hiding a part of it.
    this.element.dataset.state = this.state;
    const unit = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * unit);
    const height = Math.round(this.canvas.clientHeight * unit);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const ctx = this.canvas.getContext("2d", { alpha: false });
    ctx.fillStyle = "#000";
    ctx.fillRect(0, 0, width, height);
    if (this.frame) {
      const { header } = this.frame;
      const past = this.state !== "live" && this.state !== "held";
      const at = fit(header.region, width, height);
      paint(ctx, this.frame, at, { ...look, past, unit });
      this.overlay = !header.lesions.length ? "none" : !look.overlay ? "off" : past ? "grey" : "on";
      Object.assign(this.element.dataset, {
        seq: header.seq, frameId: header.frame_id, picture: `${at.x} ${at.y} ${at.width} ${at.height}`,
      });
      this.drawn = header;
      this.caption(header, past);
    }
    this.offChip.hidden = look.overlay;
    this.element.dataset.overlay = this.overlay;
  }

  caption(header, past) {
    this.classChip.hidden = !header.classes;
    if (!header.classes) return;
    const { label, stable } = header.classes;
    this.classChip.textContent = past ? `last: ${label}` : stable ? label : `${label}, ${certainty(header.classes)}`;
    this.classChip.style.color = past || !stable ? "" : lesionStyle(header, false).colour;
  }

  /** Put the banner's words. */
  speak(words) {
    const [title, reason] = STATES[this.state];
    const detail = words ?? (this.status?.detail || reason);
    if (this.title.textContent !== title) this.title.textContent = title;
    if (this.reason.textContent !== detail) this.reason.textContent = detail;
  }

  remove() {
    this.begin("");
    this.element.remove();
  }
}
