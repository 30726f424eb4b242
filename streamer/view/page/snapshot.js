// Save what is on screen: the picture with its overlay and its facts as PNG, and the result as JSON.

import { certainty } from "./message.js";
import { paint } from "./paint.js";
import { ageText } from "./panel.js";
import { STATES } from "./tile.js";

const FOOTER = 46;
/** Small pictures are enlarged by whole numbers, so that the contour is as crisp as on screen. */
const MIN_WIDTH = 1000;

/** Download both files of a tile that has a picture. */
export async function saveSnapshot(tile, look, age) {
  const { header, headerText } = tile.frame;
  // Both are taken before anything is waited for: the next frame closes this one's bitmap.
  const canvas = compose(tile, look, age);
  const text = `{"shown":${JSON.stringify({
    state: tile.state,
    overlay: tile.overlay,
    age_ms: Math.round(age),
    saved_at: new Date().toISOString(),
  })},"analysis":${headerText}}\n`;
  const when = new Date().toISOString().replace(/[:.]/g, "-").slice(0, 23);
  const name = `sonostream_${header.source.replace(/[^\w-]+/g, "_")}_${header.frame_id}_${when}`;
  const picture = await new Promise((done) => canvas.toBlob(done, "image/png"));
  download(picture, `${name}.png`);
  download(new Blob([text], { type: "application/json" }), `${name}.json`);
}

function compose(tile, look, age) {
  const { header } = tile.frame;
  const scale = Math.max(1, Math.ceil(MIN_WIDTH / header.region.width));
  const at = { x: 0, y: 0, width: header.region.width * scale, height: header.region.height * scale };
  const canvas = Object.assign(document.createElement("canvas"), { width: at.width, height: at.height + FOOTER });
  const ctx = canvas.getContext("2d", { alpha: false });
  const past = tile.state !== "live" && tile.state !== "held";
  paint(ctx, tile.frame, at, { ...look, past, unit: at.width / MIN_WIDTH });
  ctx.fillStyle = "#101419";
  ctx.fillRect(0, at.height, at.width, FOOTER);
  ctx.font = '600 15px system-ui, "Liberation Sans", sans-serif';
  ctx.textBaseline = "middle";
  ctx.fillStyle = "#d6dce2";
  const [title] = STATES[tile.state];
  const facts = [header.source, `frame ${header.frame_id}`, title, `age ${ageText(age)}`];
  if (header.classes) facts.push(`${header.classes.label}${header.classes.stable ? "" : ` (${certainty(header.classes)})`}`);
  ctx.fillText(facts.join("  ·  "), 14, at.height + FOOTER / 2);
  ctx.textAlign = "right";
  ctx.fillText("Research use only. Not for diagnosis.", at.width - 14, at.height + FOOTER / 2);
  return canvas;
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
