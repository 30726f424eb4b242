// The numbers of the selected source.

import { drawChart } from "./chart.js";
import { certainty } from "./message.js";
import { diameters, lesionStyle } from "./paint.js";
import { classColour, STAGES } from "./palette.js";
import { STATES } from "./tile.js";

const get = (id) => document.getElementById(id);
const ms = (seconds) => (seconds * 1000).toFixed(1);

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make a list have exactly so many items, each built once from the same HTML. */
function items(list, count, html) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.insertAdjacentHTML("beforeend", html);
  return [...list.children];
}

/** @return {string} an age for people */
export function ageText(age) {
  if (age < 1000) return `${Math.round(age)} ms`;
  if (age < 10000) return `${(age / 1000).toFixed(1)} s`;
  return age < 120000 ? `${Math.round(age / 1000)} s` : `${Math.round(age / 60000)} min`;
}

/** Show a tile's results; `now` is the instant on the viewer's clock at which its chart ends. */
export function showPanel(tile, now) {
  const header = tile.frame?.header;
  const past = tile.state !== "live" && tile.state !== "held";
  get("panel").dataset.past = String(past);
  put(get("panel-source"), tile.source);
  showVerdict(tile, header, past);
  showLesions(header);
  drawChart(get("chart"), tile, now);
  if (!header) return;
  showLatency(tile);
  showCounts(tile);
  const { name, version, runtime, precision } = header.model;
  put(get("model"), `${name} ${version} · ${runtime} ${precision}`);
}

function showVerdict(tile, header, past) {
  const classes = header?.classes;
  const [title] = STATES[tile.state];
  put(get("label"), classes ? classes.label : "no result");
  put(get("stability"), classes ? certainty(classes) : "");
  get("stability").dataset.stable = String(classes?.stable ?? true);
  get("label").style.setProperty("--class", classes?.stable ? classColour(classes.label, classes.names) : "");
  get("verdict-note").hidden = !past;
  put(get("verdict-note"), past ? (classes ? `The last result before: ${title}` : title) : "");
  const names = classes?.names ?? [];
  const html = '<li><span class="name"></span><span class="track"><i class="fill"></i></span><span class="value"></span></li>';
  items(get("bars"), names.length, html).forEach((row, i) => {
    const [name, track, value] = row.children;
    const probability = classes.smoothed[i];
    put(name, names[i]);
    put(value, `${(probability * 100).toFixed(0)} %`);
    track.firstElementChild.style.transform = `scaleX(${probability})`;
    row.style.setProperty("--class", classColour(names[i], names));
  });
}

function showLesions(header) {
  const list = get("lesions");
  const lesions = header?.lesions ?? [];
  if (!lesions.length) {
    if (!list.querySelector(".empty")) list.innerHTML = '<li class="empty">none outlined</li>';
    return;
  }
  list.querySelector(".empty")?.remove();
  const html = '<li><span class="name"></span><span class="size"></span></li>';
  const colour = lesionStyle(header, false).colour;
  items(list, lesions.length, html).forEach((row, i) => {
    const lesion = lesions[i];
    put(row.children[0], `${lesion.track} · ${(lesion.probability * 100).toFixed(0)} %`);
    put(row.children[1], diameters(lesion));
    row.children[1].style.color = colour;
  });
}

/** Means of the last 30 frames shown, so that the digits can be read. */
function showLatency(tile) {
  const mean = (pick) => tile.stages.reduce((sum, latency) => sum + pick(latency), 0) / tile.stages.length;
  const names = Object.keys(tile.stages[tile.stages.length - 1].stages);
  const values = names.map((name) => mean((latency) => latency.stages[name] ?? 0));
  const total = mean((latency) => latency.total);
  put(get("latency-total"), `${ms(total)} ms capture to result`);
  items(get("latency-bar"), names.length, "<i></i>").forEach((part, i) => {
    part.style.background = STAGES[i % STAGES.length];
    part.style.flex = `${Math.max(values[i], 0) * 1000} 0 0`;
  });
  items(get("stages"), names.length, "<li><i></i><span></span><b></b></li>").forEach((row, i) => {
    row.children[0].style.background = STAGES[i % STAGES.length];
    put(row.children[1], names[i]);
    put(row.children[2], ms(values[i]));
  });
}

function showCounts(tile) {
  const rows = [];
  const analyzed = tile.analyzedRate;
  if (analyzed !== null) rows.push(["analysed", `${analyzed.toFixed(1)} fps, ${tile.status.analyzed} in all`]);
  const dropped = Object.entries(tile.status?.dropped ?? {}).filter(([, count]) => count);
  rows.push(["dropped", dropped.map(([reason, count]) => `${count} ${reason.replace("_", " ")}`).join(", ") || "none"]);
  rows.push(["not shown here", `${tile.notShown}`]);
  const pairs = items(get("counts"), rows.length * 2, "<dt></dt>");
  rows.forEach(([name, value], i) => {
    put(pairs[2 * i], name);
    put(pairs[2 * i + 1], value);
  });
}
