// The page: takes messages, decides what state everything is in, and draws it.

import { Link } from "./link.js";
import { unpack } from "./message.js";
import { ageText, showPanel } from "./panel.js";
import { saveSnapshot } from "./snapshot.js";
import { STATES, Tile } from "./tile.js";

const get = (id) => document.getElementById(id);
const stage = get("stage");
const tiles = new Map();
const look = { overlay: true, opacity: 0.35 };
let daemonHeard = false;
let problem = "";
let selected = null;
let alone = false;
/** A person selected a source; until then it is the first by name. */
let chosen = false;
let heldAt = null;
let scheduled = false;
let panelAt = -Infinity;
let panelState = null;

const link = new Link({ status: takeStatus, picture: takePicture });

/** The tile of a source, made when it is first heard of and put in order of name. */
function tileOf(source, publisher) {
  let tile = tiles.get(source);
  if (!tile) {
    tile = new Tile(source, () => select(source, !alone));
    tiles.set(source, tile);
    if (!chosen && (selected === null || source < selected)) selected = source;
    arrange();
  }
  if (tile.publisher !== publisher) tile.begin(publisher);
  return tile;
}

function takeStatus(message) {
  daemonHeard = message.connected;
  problem = message.problem;
  const named = new Set(message.sources.map((status) => status.source));
  for (const status of message.sources) {
    tileOf(status.source, status.publisher).takeStatus(status, message.clock_ms);
  }
  for (const [source, tile] of tiles) {
    if (named.has(source) || heldAt !== null) continue;
    tile.remove();
    tiles.delete(source);
    if (selected === source) selected = tiles.keys().next().value ?? null;
    arrange();
  }
  refresh();
}

async function takePicture(buffer) {
  const { header, headerText, mask, picture } = unpack(buffer);
  const done = () => link.ack(header.source);
  const tile = tileOf(header.source, header.publisher);
  tile.takeState(header.state, header.published_monotonic);
  if (heldAt !== null || !picture.length) {
    done();
    return;
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([picture], { type: "image/jpeg" }));
  } catch {
    // An overlay is never put on another frame's picture, so without this one there is nothing to show.
    done();
    return;
  }
  if (heldAt !== null || tile.publisher !== header.publisher || tiles.get(header.source) !== tile) {
    bitmap.close();
    done();
    return;
  }
  tile.takeFrame({ header, headerText, mask, bitmap, done }, link.viewerNow);
  refresh();
}

/** Redraw what has changed, at the next turn of the display. */
function refresh() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const tile of tiles.values()) {
      tile.judge(link, daemonHeard, heldAt !== null);
      if (!tile.dirty) continue;
      if (visible(tile)) tile.draw(look);
      const drawn = tile.frame?.done;
      if (drawn) {
        tile.frame.done = null;
        drawn();
      }
    }
    tell();
  });
}

function visible(tile) {
  return !alone || tile.source === selected;
}

/** Everything but the pictures. */
function tell() {
  const tile = tiles.get(selected);
  const state = overallState(tile);
  const now = link.viewerNow;
  document.body.dataset.connected = String(link.alive && daemonHeard);
  document.body.dataset.state = state;
  document.body.dataset.overlay = tile?.overlay ?? "none";
  get("feed").textContent = STATES[state][0];
  get("age").textContent = tile?.frame ? ageText(tile.calmAge(now)) : "–";
  get("rate").textContent = tile?.frame ? `${heldAt === null ? tile.rate.toFixed(0) : 0} fps` : "–";
  tellAlarm();
  for (const each of tiles.values()) each.speak(bannerWords(each, now));
  tellTabs();
  // Ten times a second is as fast as numbers can be read.
  if (tile && (performance.now() - panelAt > 90 || state !== panelState)) {
    panelAt = performance.now();
    panelState = state;
    showPanel(tile, heldAt ?? now);
  }
}

function overallState(tile) {
  if (!link.alive) return "no_viewer";
  if (!daemonHeard) return "no_daemon";
  return tile?.state ?? "waiting";
}

function tellAlarm() {
  const lost = !link.alive || !daemonHeard;
  get("alarm").hidden = !lost && !problem;
  if (!link.alive) alarm("NO CONNECTION to the viewer", "Is `sonostream view` still running? Trying again.");
  else if (problem) alarm("UNEXPECTED DATA", problem);
  else if (lost) alarm("NO CONNECTION to the daemon", `Nothing is heard from ${link.address}. Waiting for it.`);
}

function alarm(title, detail) {
  if (get("alarm-title").textContent !== title) get("alarm-title").textContent = title;
  if (get("alarm-detail").textContent !== detail) get("alarm-detail").textContent = detail;
}

function bannerWords(tile, now) {
  if (tile.state === "stale" && tile.frame) return `this overlay is ${ageText(tile.age(now))} old`;
  if (tile.state !== "held") return null;
  const feed = !link.alive || !daemonHeard ? "NO CONNECTION" : STATES[tile.feed][0];
  return `for ${ageText(Math.max(1000, now - heldAt))} · the feed is ${feed} · F goes on`;
}

function tellTabs() {
  const tabs = get("tabs");
  tabs.hidden = tiles.size < 2;
  [...tiles.values()].forEach((tile, i) => {
    const tab = tabs.children[i];
    if (!tab) return;
    tab.dataset.state = tile.state;
    tab.setAttribute("aria-pressed", String(tile.source === selected));
    if (tab.lastElementChild.textContent !== STATES[tile.state][0]) {
      tab.lastElementChild.textContent = STATES[tile.state][0];
    }
  });
}

/** Put tiles and tabs in order of name, and choose the number of columns that shows them largest. */
function arrange() {
  const sorted = [...tiles.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  tiles.clear();
  for (const [source, tile] of sorted) tiles.set(source, tile);
  if (tiles.size < 2) alone = false;
  get("tabs").replaceChildren(...sorted.map(([source], i) => tabFor(source, i)));
  sorted.forEach(([source, tile], i) => {
    tile.nameChip.textContent = sorted.length > 1 ? `${i + 1}  ${source}` : source;
    tile.element.hidden = !visible(tile);
    tile.element.setAttribute("aria-current", String(source === selected));
    tile.dirty = true;
    stage.append(tile.element);
  });
  stage.dataset.mode = sorted.length > 1 && !alone ? "all" : "one";
  get("do-all").hidden = sorted.length < 2;
  fitColumns();
  refresh();
}

function tabFor(source, i) {
  const tab = document.createElement("button");
  tab.type = "button";
  tab.innerHTML = "<kbd></kbd><span class=name></span><span class=state></span>";
  tab.children[0].textContent = `${i + 1}`;
  tab.children[1].textContent = source;
  tab.addEventListener("click", () => select(source, true));
  return tab;
}

function fitColumns() {
  const count = alone ? 1 : Math.max(1, tiles.size);
  const size = (columns) =>
    Math.min(stage.clientWidth / columns / 4, stage.clientHeight / Math.ceil(count / columns) / 3);
  let best = 1;
  for (let columns = 2; columns <= count; columns++) if (size(columns) > size(best)) best = columns;
  stage.style.setProperty("--columns", best);
}

function select(source, only) {
  selected = source;
  chosen = true;
  alone = only && tiles.size > 1;
  arrange();
}

function toggleHold() {
  heldAt = heldAt === null && tiles.size ? link.viewerNow : null;
  get("do-hold").setAttribute("aria-pressed", String(heldAt !== null));
  get("do-hold").firstElementChild.textContent = heldAt === null ? "Freeze" : "Go on";
  refresh();
}

function toggleOverlay() {
  look.overlay = !look.overlay;
  get("do-overlay").setAttribute("aria-pressed", String(look.overlay));
  redraw();
}

function shade(step) {
  look.opacity = Math.min(0.8, Math.max(0, Math.round((look.opacity + step) * 20) / 20));
  get("opacity").lastElementChild.textContent = `${Math.round(look.opacity * 100)} %`;
  redraw();
}

function redraw() {
  for (const tile of tiles.values()) tile.dirty = true;
  refresh();
}

function snapshot() {
  const tile = tiles.get(selected);
  if (tile?.frame) saveSnapshot(tile, look, tile.age(link.viewerNow));
}

function showAll() {
  if (tiles.size > 1) select(selected, false);
}

const KEYS = {
  f: toggleHold, " ": toggleHold, o: toggleOverlay, s: snapshot, 0: showAll,
  "+": () => shade(0.05), "=": () => shade(0.05), "-": () => shade(-0.05), "?": () => get("help").showModal(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || get("help").open) return;
  const act = KEYS[event.key.toLowerCase()];
  const source = [...tiles.keys()][Number(event.key) - 1];
  if (act) act();
  else if (source !== undefined) select(source, true);
  else return;
  // Space would press the button that was last touched as well.
  event.preventDefault();
});
for (const [id, act] of Object.entries({
  "do-hold": toggleHold, "do-overlay": toggleOverlay, "do-snapshot": snapshot, "do-all": showAll,
  "do-stronger": KEYS["+"], "do-fainter": KEYS["-"], "do-help": KEYS["?"],
})) get(id).addEventListener("click", act);

new ResizeObserver(() => {
  fitColumns();
  redraw();
}).observe(stage);
// Silence makes no event: states that time brings about are looked for.
setInterval(refresh, 50);

// A display that is left running must not go dark by itself.
async function stayAwake() {
  if (document.visibilityState === "visible") await navigator.wakeLock?.request("screen").catch(() => {});
}
document.addEventListener("visibilitychange", stayAwake);
stayAwake();

/** What is on screen, for tests and for other scripts; nothing can be changed through it. */
function facts(tile) {
  const header = tile?.drawn;
  return Object.freeze({
    source: tile?.source ?? null,
    seq: header?.seq ?? null,
    frame_id: header?.frame_id ?? null,
    state: tile ? tile.state : overallState(tile),
    age_ms: header ? tile.age(link.viewerNow) : null,
    connected: link.alive && daemonHeard,
    overlay: tile?.overlay ?? "none",
    rate: tile?.rate ?? 0,
  });
}
const shown = {};
for (const name of Object.keys(facts(null))) {
  Object.defineProperty(shown, name, { enumerable: true, get: () => facts(tiles.get(selected))[name] });
}
Object.defineProperty(shown, "sources", {
  get: () => Object.fromEntries([...tiles].map(([source, tile]) => [source, facts(tile)])),
});
Object.defineProperty(window, "sonostream", { value: Object.freeze(shown) });
