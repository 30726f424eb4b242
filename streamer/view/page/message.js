// The binary message of one picture; its layout is described in streamer/view/messages.py.

const text = new TextDecoder();

/**
 * Take a message apart.
 * @param {ArrayBuffer} buffer
 * @return {{header: object, headerText: string, mask: Uint8Array | null, picture: Uint8Array}}
 */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  // The text is kept as it came: its instants in nanoseconds are larger than a JavaScript number is exact.
  const headerText = text.decode(new Uint8Array(buffer, 4, length));
  const header = JSON.parse(headerText);
  const start = 4 + length;
  const size = header.mask ? header.mask.width * header.mask.height : 0;
  return {
    header,
    headerText,
    mask: size ? new Uint8Array(buffer, start, size) : null,
    picture: new Uint8Array(buffer, start + size),
  };
}

/** @return {"stable" | "uncertain" | "settling"} how far the shown class is to be taken for granted */
export function certainty(classes) {
  if (classes.uncertain) return "uncertain";
  return classes.stable ? "stable" : "settling";
}
