// Draws one picture with its own overlay: both come from one frame object, so they can't be of two frames.

import { certainty } from "./message.js";
import { classColour, PAST, UNCERTAIN } from "./palette.js";

const FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif';
const shade = document.createElement("canvas");

/** The colour of a frame's lesions, and whether the class is certain enough to have one. */
export function lesionStyle(header, past) {
  const classes = header.classes;
  const certain = classes !== null && classes.stable && classes.label !== "normal";
  if (past) return { colour: PAST, dashed: true };
  return certain
    ? { colour: classColour(classes.label, classes.names), dashed: false }
    : { colour: UNCERTAIN, dashed: true };
}

/** @return {string} diameters in mm, or in pixels where the spacing is unknown */
export function diameters(lesion) {
  return lesion.longest_mm == null
    ? `${lesion.longest_px.toFixed(0)} × ${lesion.perpendicular_px.toFixed(0)} px`
    : `${lesion.longest_mm.toFixed(1)} × ${lesion.perpendicular_mm.toFixed(1)} mm`;
}

/** @return {{x, y, width, height}} the largest rectangle of the frame's proportions inside the box */
export function fit(region, width, height) {
  const scale = Math.min(width / region.width, height / region.height);
  const w = Math.round(region.width * scale);
  const h = Math.round(region.height * scale);
  return { x: Math.round((width - w) / 2), y: Math.round((height - h) / 2), width: w, height: h };
}

/**
 * Draw a frame.
 * @param {CanvasRenderingContext2D} ctx
 * @param {{header: object, mask: Uint8Array | null, bitmap: ImageBitmap}} frame
 * @param {{x, y, width, height}} at where the picture goes, in canvas pixels
 * @param {{overlay: boolean, opacity: number, past: boolean, unit: number}} look `unit`: canvas pixels per CSS pixel
 */
export function paint(ctx, frame, at, look) {
  const { header, bitmap } = frame;
  ctx.save();
  ctx.imageSmoothingQuality = "high";
  ctx.globalAlpha = look.past ? 0.5 : 1;
  ctx.drawImage(bitmap, at.x, at.y, at.width, at.height);
  ctx.globalAlpha = 1;
  ctx.beginPath();
  ctx.rect(at.x, at.y, at.width, at.height);
  ctx.clip();
  if (look.overlay) {
    const style = lesionStyle(header, look.past);
    if (header.lesions.length) paintMask(ctx, frame, at, style.colour, look.past ? 0 : look.opacity);
    for (const lesion of header.lesions) paintContour(ctx, header, lesion, at, style, look.unit);
    for (const lesion of header.lesions) paintCalipers(ctx, header, lesion, at, style, look.unit);
    for (const lesion of header.lesions) paintName(ctx, header, lesion, at, style, look);
  }
  paintScale(ctx, header, at, look.unit);
  ctx.restore();
}

function paintMask(ctx, frame, at, colour, opacity) {
  if (!frame.mask || opacity <= 0) return;
  const { width, height } = frame.header.mask;
  if (shade.width !== width || shade.height !== height) Object.assign(shade, { width, height });
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  // Probability 0.3 and less stays clear, so that the speckle outside a lesion is left alone. Little endian RGBA.
  const table = new Uint32Array(256);
  for (let p = 0; p < 256; p++) {
    const alpha = Math.round(255 * opacity * Math.max(0, (p / 255 - 0.3) / 0.7));
    table[p] = ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }
  const context = shade.getContext("2d");
  const pixels = context.createImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = table[frame.mask[i]];
  context.putImageData(pixels, 0, 0);
  ctx.drawImage(shade, at.x, at.y, at.width, at.height);
}

/** Contours are in pixels of the source's frame; the picture shows its region only. */
function place(header, at, x, y) {
  const { region } = header;
  return [
    at.x + ((x - region.x) * at.width) / region.width,
    at.y + ((y - region.y) * at.height) / region.height,
  ];
}

function paintContour(ctx, header, lesion, at, style, unit) {
  if (lesion.contour.length < 3) return;
  ctx.beginPath();
  lesion.contour.forEach(([x, y], i) => {
    const [px, py] = place(header, at, x, y);
    if (i) ctx.lineTo(px, py);
    else ctx.moveTo(px, py);
  });
  ctx.closePath();
  ctx.lineJoin = "round";
  ctx.setLineDash([]);
  ctx.lineWidth = 5.5 * unit;
  ctx.strokeStyle = "rgb(0 0 0 / 70%)";
  ctx.stroke();
  ctx.setLineDash(style.dashed ? [9 * unit, 6 * unit] : []);
  ctx.lineWidth = 2.25 * unit;
  ctx.strokeStyle = style.colour;
  ctx.stroke();
  ctx.setLineDash([]);
}

/** Where both diameters are measured: a cross at each end, dots between them. */
function paintCalipers(ctx, header, lesion, at, style, unit) {
  for (const ends of [lesion.longest_ends, lesion.perpendicular_ends]) {
    if (!ends) continue;
    const [from, to] = ends.map(([x, y]) => place(header, at, x, y));
    for (const [colour, width] of [["rgb(0 0 0 / 70%)", 3.5], [style.colour, 1.25]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width * unit;
      ctx.beginPath();
      for (const [x, y] of [from, to]) {
        ctx.moveTo(x - 5 * unit, y);
        ctx.lineTo(x + 5 * unit, y);
        ctx.moveTo(x, y - 5 * unit);
        ctx.lineTo(x, y + 5 * unit);
      }
      ctx.stroke();
    }
    ctx.setLineDash([1.5 * unit, 5 * unit]);
    ctx.beginPath();
    ctx.moveTo(...from);
    ctx.lineTo(...to);
    ctx.stroke();
    ctx.setLineDash([]);
  }
}

function paintName(ctx, header, lesion, at, style, look) {
  const { unit, past } = look;
  const label = past ? "PAST" : header.classes.stable ? header.classes.label : certainty(header.classes);
  const words = `${lesion.track} ${label}   ${diameters(lesion)}`;
  ctx.font = `600 ${15 * unit}px ${FONT}`;
  ctx.textBaseline = "middle";
  const [left, top] = place(header, at, lesion.box[0], lesion.box[1]);
  const [, bottom] = place(header, at, 0, lesion.box[1] + lesion.box[3]);
  const width = ctx.measureText(words).width;
  const x = Math.min(Math.max(left, at.x + 8 * unit), at.x + at.width - width - 8 * unit);
  // Above the lesion, or below it, or inside where it fills the picture; never on the scale or the caption.
  const below = bottom + 16 * unit;
  const lowest = at.y + at.height - 48 * unit;
  const y = top - 15 * unit > at.y + 10 * unit ? top - 15 * unit : below < lowest ? below : at.y + 18 * unit;
  paintText(ctx, words, x, y, style.colour, unit);
}

function paintText(ctx, words, x, y, colour, unit) {
  ctx.lineJoin = "round";
  ctx.lineWidth = 4 * unit;
  ctx.strokeStyle = "rgb(0 0 0 / 80%)";
  ctx.strokeText(words, x, y);
  ctx.fillStyle = colour;
  ctx.fillText(words, x, y);
}

/** A bar of 10 mm (5 or 2 in a small view), where the spacing is known. */
function paintScale(ctx, header, at, unit) {
  if (!header.pixel_spacing_mm) return;
  const pixelsPerMm = at.width / header.region.width / header.pixel_spacing_mm[1];
  const length = [10, 5, 2].find((mm) => mm * pixelsPerMm < at.width / 4);
  if (!length) return;
  const x = at.x + 14 * unit;
  const y = at.y + at.height - 16 * unit;
  const end = x + length * pixelsPerMm;
  for (const [colour, width] of [["rgb(0 0 0 / 80%)", 4.5], ["#d6dce2", 1.75]]) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = width * unit;
    ctx.beginPath();
    ctx.moveTo(x, y - 5 * unit);
    ctx.lineTo(x, y);
    ctx.lineTo(end, y);
    ctx.lineTo(end, y - 5 * unit);
    ctx.stroke();
  }
  ctx.font = `500 ${13 * unit}px ${FONT}`;
  ctx.textBaseline = "alphabetic";
  paintText(ctx, `${length} mm`, end + 7 * unit, y + unit, "#d6dce2", unit);
}
