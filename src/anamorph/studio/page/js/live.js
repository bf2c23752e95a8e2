// The WebSocket: on each channel one request is in flight, and of those that come meanwhile only the newest is sent.

const channels = new Map();
let socket = null;
let tries = 0;

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { tries = 0; for (const channel of channels.values()) channel.again(); };
  socket.onmessage = (event) => (typeof event.data === "string" ? failed(JSON.parse(event.data)) : arrived(event.data));
  socket.onclose = () => { socket = null; setTimeout(connect, Math.min(5000, 250 * 2 ** tries++)); };
}

function arrived(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let at = 4 + length;
  const blobs = header.parts.map(([type, bytes]) => {
    const blob = new Blob([new Uint8Array(data, at, bytes)], { type });
    at += bytes;
    return blob;
  });
  channels.get(header.channel)?.take(header, blobs);
}

function failed(said) {
  channels.get(said.channel)?.fail(said);
}

export class Channel {
  // onframe(header, blobs): an answer. onerror(text). Free the channel with close().
  constructor(onframe, onerror = () => {}) {
    this.onframe = onframe;
    this.onerror = onerror;
    this.id = [...Array(16).keys()].find((i) => !channels.has(i));
    this.serial = Math.floor(Math.random() * 1e9);
    this.flying = null;
    this.next = null;
    channels.set(this.id, this);
    if (socket === null) connect();
  }

  ask(request) {
    this.next = request;
    if (this.flying === null || request.stop) this.send();
  }

  send() {
    if (this.next === null || socket?.readyState !== WebSocket.OPEN) return;
    this.flying = { request: this.next, serial: ++this.serial, since: performance.now() };
    this.next = null;
    socket.send(JSON.stringify({ channel: this.id, serial: this.serial, ...this.flying.request }));
    if (this.flying.request.stop) this.flying = null;
  }

  // After a lost connection: what was in flight is asked for again, unless something newer waits.
  again() {
    if (this.flying !== null && this.next === null && !this.flying.request.project) this.next = this.flying.request;
    this.flying = null;
    this.send();
  }

  async take(header, blobs) {
    if (this.flying === null || header.serial !== this.flying.serial) return;
    const { request, since } = this.flying;
    const more = request.project && header.point === undefined;
    if (!more) this.flying = null;
    this.send();
    await this.onframe(header, blobs, request);
    document.dispatchEvent(new CustomEvent("studio:frame", { detail: { channel: this.id, ms: performance.now() - since, count: blobs.length } }));
  }

  fail(said) {
    if (this.flying === null || said.serial !== this.flying.serial) return;
    this.flying = null;
    this.onerror(said.error);
    this.send();
  }

  close() {
    if (this.flying?.request.project && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ channel: this.id, stop: true }));
    channels.delete(this.id);
  }
}
