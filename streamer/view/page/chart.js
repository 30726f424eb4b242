// The last 20 seconds: the probability of malignancy as a line, the label as a band under it.

import { classColour } from "./palette.js";

export const HISTORY_MS = 20000;
/** Beyond this the line is interrupted: nothing is known in between. */
const GAP_MS = 600;
const BAND = 15;
const LEFT = 30;
const BOTTOM = 16;

/** Draw a tile's history up to the instant `now`, in milliseconds on the viewer's clock. */
export function drawChart(canvas, tile, now) {
  const unit = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * unit) || canvas.height !== Math.round(height * unit)) {
    Object.assign(canvas, { width: Math.round(width * unit), height: Math.round(height * unit) });
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(unit, 0, 0, unit, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const plot = { top: 5, bottom: height - BOTTOM - BAND - 5, left: LEFT, right: width - 2 };
  const x = (at) => plot.right - ((now - at) / HISTORY_MS) * (plot.right - plot.left);
  const y = (p) => plot.bottom - p * (plot.bottom - plot.top);
  drawGrid(ctx, plot, y, height);
  ctx.save();
  ctx.beginPath();
  ctx.rect(plot.left, 0, plot.right - plot.left + 2, height);
  ctx.clip();
  drawCuts(ctx, tile, plot, x);
  drawLine(ctx, tile, x, y);
  drawBand(ctx, tile, plot, x);
  ctx.restore();
}

function drawGrid(ctx, plot, y, height) {
  ctx.font = '11px system-ui, "Liberation Sans", sans-serif';
  ctx.fillStyle = "#98a3af";
  ctx.strokeStyle = "#27303a";
  ctx.lineWidth = 1;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  for (const p of [0, 0.5, 1]) {
    const at = Math.round(y(p)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(plot.left, at);
    ctx.lineTo(plot.right, at);
    ctx.stroke();
    ctx.fillText(`${p * 100}`, plot.left - 6, at);
  }
  ctx.textBaseline = "alphabetic";
  for (const seconds of [20, 15, 10, 5, 0]) {
    const at = plot.right - (seconds / 20) * (plot.right - plot.left);
    ctx.textAlign = seconds === 20 ? "left" : seconds ? "center" : "right";
    ctx.fillText(seconds ? `−${seconds} s` : "now", at, height - 3);
  }
}

function drawCuts(ctx, tile, plot, x) {
  ctx.strokeStyle = "#5b6673";
  ctx.setLineDash([2, 3]);
  ctx.beginPath();
  for (const { at, cut } of tile.history) {
    if (!cut) continue;
    ctx.moveTo(x(at), plot.top);
    ctx.lineTo(x(at), plot.bottom);
  }
  ctx.stroke();
  ctx.setLineDash([]);
}

function drawLine(ctx, tile, x, y) {
  ctx.strokeStyle = "#e6ebf0";
  ctx.lineWidth = 1.75;
  ctx.lineJoin = "round";
  ctx.beginPath();
  let before = null;
  for (const point of tile.history) {
    if (point.malignancy === null) {
      before = null;
      continue;
    }
    const joined = before && point.at - before.at < GAP_MS && !point.cut;
    ctx[joined ? "lineTo" : "moveTo"](x(point.at), y(point.malignancy));
    before = point;
  }
  ctx.stroke();
}

/** Runs of one label; the letter and the height tell them apart without colour. */
function drawBand(ctx, tile, plot, x) {
  const top = plot.bottom + 5;
  const names = tile.frame?.header.classes?.names ?? [];
  const runs = [];
  for (const { at, label } of tile.history) {
    const run = runs[runs.length - 1];
    if (run && run.label === label && at - run.to < GAP_MS) run.to = at;
    else runs.push({ label, from: at, to: at });
  }
  ctx.font = '700 11px system-ui, "Liberation Sans", sans-serif';
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  runs.forEach((run, i) => {
    if (run.label === null) return;
    const next = runs[i + 1];
    const end = next && next.from - run.to < GAP_MS ? next.from : run.to;
    const [left, width] = [x(run.from), Math.max(1, x(end) - x(run.from))];
    const inset = run.label === "malignant" ? 0 : run.label === "normal" ? 9 : 4;
    ctx.fillStyle = classColour(run.label, names);
    ctx.fillRect(left, top + inset, width, BAND - inset);
    const shown = Math.max(left, plot.left);
    if (inset < 9 && x(end) - shown > 14) {
      ctx.fillStyle = "#0b0e12";
      ctx.fillText(run.label[0].toUpperCase(), shown + 3, top + inset + (BAND - inset) / 2 + 0.5);
    }
  });
}
