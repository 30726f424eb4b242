// The connection to the viewer: reconnects by itself, knows when it is dead, and knows the viewer's clock.

/** Silence after which the viewer counts as gone; it speaks at least every 200 ms. */
const SILENT_MS = 1000;
/** Silence after which a connection is given up and opened anew. */
const GIVE_UP_MS = 3000;
const RETRY_MS = 700;
const PING_MS = 1000;
/** The shortest round trip of this many pings sets the clock. */
const PINGS_KEPT = 20;

export class Link {
  /**
   * @param {{status: (message: object) => void, picture: (buffer: ArrayBuffer) => void}} on
   */
  constructor(on) {
    this.on = on;
    this.staleAfterMs = 250;
    this.address = "";
    this.offset = null;
    this.pings = [];
    this.heardAt = -Infinity;
    this.openedAt = 0;
    this.open();
    setInterval(() => this.ping(), PING_MS);
    setInterval(() => this.watch(), 200);
  }

  /** Whether the viewer was heard within the last second. */
  get alive() {
    return performance.now() - this.heardAt < SILENT_MS;
  }

  /** Now, in milliseconds on the viewer's clock. */
  get viewerNow() {
    return performance.now() + (this.offset ?? 0);
  }

  open() {
    this.openedAt = performance.now();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.receive(event.data);
    socket.onopen = () => {
      for (const delay of [0, 60, 150, 400]) setTimeout(() => this.ping(), delay);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.heardAt = -Infinity;
      setTimeout(() => this.socket === socket && this.open(), RETRY_MS);
    };
    this.socket = socket;
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  ack(source) {
    this.send({ type: "ack", source });
  }

  ping() {
    this.send({ type: "ping", sent: performance.now() });
  }

  watch() {
    const since = Math.max(this.heardAt, this.openedAt);
    if (performance.now() - since < GIVE_UP_MS || this.socket.readyState === WebSocket.CLOSED) return;
    this.socket.onclose = null;
    this.socket.close();
    this.open();
  }

  receive(data) {
    this.heardAt = performance.now();
    if (data instanceof ArrayBuffer) {
      this.on.picture(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "pong") {
      this.setClock(message);
    } else if (message.type === "hello") {
      this.staleAfterMs = message.stale_after_ms;
      this.address = message.address;
      this.pings = [];
      // Too small by the way here; the first ping mends it.
      this.offset = message.clock_ms - this.heardAt;
    } else if (message.type === "status") {
      this.on.status(message);
    }
  }

  setClock({ sent, clock_ms: clock }) {
    const now = performance.now();
    this.pings.push({ roundTrip: now - sent, offset: clock - (sent + now) / 2 });
    if (this.pings.length > PINGS_KEPT) this.pings.shift();
    this.offset = this.pings.reduce((best, ping) => (ping.roundTrip < best.roundTrip ? ping : best)).offset;
  }
}
