// The WebSocket. Each channel has one request in flight; of those that come meanwhile only the newest is sent.

import { beginWork, endWork } from "./pending.js";

const channels = new Map();
let socket = null;
let attempts = 0;

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    attempts = 0;
    for (const channel of channels.values()) channel.resend();
  };
  socket.onmessage = (event) => (typeof event.data === "string" ? receiveError(JSON.parse(event.data)) : receive(event.data));
  socket.onclose = () => {
    socket = null;
    setTimeout(connect, Math.min(5000, 250 * 2 ** attempts++));
  };
}

function receive(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let offset = 4 + length;
  const blobs = header.parts.map(([type, size]) => {
    const blob = new Blob([new Uint8Array(data, offset, size)], { type });
    offset += size;
    return blob;
  });
  channels.get(header.channel)?.receive(header, blobs);
}

function receiveError(message) {
  channels.get(message.channel)?.fail(message);
}

export class Channel {
  // onframe(header, blobs, context): a response to a request, and what was given with that. onerror(text): it failed.
  constructor(onframe, onerror = () => {}) {
    this.onframe = onframe;
    this.onerror = onerror;
    this.id = [...Array(16).keys()].find((i) => !channels.has(i));
    this.serial = Math.floor(Math.random() * 1e9);
    this.inFlight = null;
    this.next = null;
    this.showing = 0;
    this.pending = false;
    channels.set(this.id, this);
    if (socket === null) connect();
  }

  // context stays on this side: it is handed to onframe with the response.
  send(request, context = null) {
    this.next = { request, context };
    if (this.inFlight === null || request.stop) this.sendNext();
    this.track();
  }

  // Counts the channel as pending work until its last response has been shown.
  track() {
    const pending = channels.get(this.id) === this && (this.inFlight !== null || this.next !== null || this.showing > 0);
    if (pending === this.pending) return;
    this.pending = pending;
    (pending ? beginWork : endWork)();
  }

  sendNext() {
    if (this.next === null || socket?.readyState !== WebSocket.OPEN) return;
    this.inFlight = { ...this.next, serial: ++this.serial, since: performance.now() };
    this.next = null;
    const { request, serial } = this.inFlight;
    socket.send(JSON.stringify({ channel: this.id, serial, ...request }));
    if (request.stop) this.inFlight = null;
  }

  // After a lost connection, the request in flight is sent again, unless a newer one waits.
  resend() {
    if (this.inFlight !== null && this.next === null && !this.inFlight.request.project) this.next = this.inFlight;
    this.inFlight = null;
    this.sendNext();
    this.track();
  }

  async receive(header, blobs) {
    if (this.inFlight === null || header.serial !== this.inFlight.serial) return;
    const { request, context, since } = this.inFlight;
    const more = request.project && header.point === undefined;
    if (!more) this.inFlight = null;
    this.showing += 1;
    this.sendNext();
    try {
      await this.onframe(header, blobs, context);
    } finally {
      this.showing -= 1;
      this.track();
    }
    const detail = { channel: this.id, ms: performance.now() - since, count: blobs.length };
    document.dispatchEvent(new CustomEvent("studio:frame", { detail }));
  }

  fail(message) {
    if (this.inFlight === null || message.serial !== this.inFlight.serial) return;
    this.inFlight = null;
    this.onerror(message.error);
    this.sendNext();
    this.track();
  }

  close() {
    const stop = this.inFlight?.request.project && socket?.readyState === WebSocket.OPEN;
    if (stop) socket.send(JSON.stringify({ channel: this.id, stop: true }));
    channels.delete(this.id);
    this.track();
  }
}
