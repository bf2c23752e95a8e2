// Elements that show a signal, by its kind. Another kind has another renderer; no panel knows which.

import { counted } from "./pending.js";
import { state } from "./state.js";
import { h } from "./ui.js";

const PIXELATED_UP_TO = 128;
const SPECTROGRAM = [208, 126]; // width and height in pixels

class ImageCell {
  constructor(label) {
    this.element = h("canvas", { class: "cell", role: "img", "aria-label": label, width: 1, height: 1 });
    const [width, height] = this.size;
    this.element.style.setProperty("--ratio", `${width} / ${height}`);
    this.requested = 0;
    this.shown = 0;
  }

  // Draws a picture once it is decoded, unless a newer one has been drawn meanwhile; the old one stays until then.
  show(blob) {
    return counted(() => this.decodeAndDraw(blob, ++this.requested));
  }

  async decodeAndDraw(blob, turn) {
    const bitmap = await createImageBitmap(await this.pictureOf(blob));
    if (turn > this.shown) {
      this.shown = turn;
      this.draw(bitmap);
      this.element.dataset.shown = String(turn);
      this.afterDraw(blob);
    }
    bitmap.close();
  }

  draw(bitmap) {
    const canvas = this.element;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0);
    canvas.classList.toggle("pixels", Math.max(bitmap.width, bitmap.height) <= PIXELATED_UP_TO && !state.smooth);
  }

  // For kinds whose picture is only a part of what is sent.
  pictureOf(blob) { return blob; }
  afterDraw() {}

  get size() { return [state.model.signal.width, state.model.signal.height]; }
}

// A spectrogram that plays its sound when it is clicked. Both come in one WAV file: the picture is its chunk "spec".
class SoundCell extends ImageCell {
  constructor(label) {
    super(`${label}, as a spectrogram`);
    this.element.classList.add("sound");
    this.element.sound = this;
    this.wav = null;
  }

  get size() { return SPECTROGRAM; }

  pictureOf(blob) { return pictureIn(blob); }

  // A sound that still plays is not the one that is shown any more.
  afterDraw(blob) {
    this.wav = blob;
    this.picture = this.element.getContext("2d").getImageData(0, 0, this.element.width, this.element.height);
    if (playing?.sound === this) playing.stop();
  }

  // Draws the line that moves over the picture while the sound plays; share: of its duration; null: no line.
  drawPosition(share) {
    const { width, height } = this.element;
    const context = this.element.getContext("2d");
    context.putImageData(this.picture, 0, 0);
    if (share === null) return;
    context.fillStyle = "#fff";
    context.fillRect(Math.round(share * width), 0, 2, height);
  }
}

async function pictureIn(blob) {
  const data = new DataView(await blob.arrayBuffer());
  for (let at = 12; at + 8 <= data.byteLength;) {
    const [name, size] = [data.getUint32(at), data.getUint32(at + 4, true)];
    if (name === 0x73706563) return new Blob([new Uint8Array(data.buffer, at + 8, size)], { type: "image/webp" });
    at += 8 + size + (size % 2);
  }
  throw new Error("a sound was sent without its spectrogram");
}

let playing = null;

// Plays a sound, and stops the one that plays; the same one again is only stopped.
export function play(sound) {
  const stopsOnly = playing?.sound === sound;
  playing?.stop();
  if (stopsOnly || !sound?.wav) return;
  const address = URL.createObjectURL(sound.wav);
  const player = new Audio(address);
  const stop = () => {
    if (playing?.player !== player) return;
    playing = null;
    player.pause();
    URL.revokeObjectURL(address);
    sound.drawPosition(null);
    delete sound.element.dataset.playing;
  };
  const move = () => {
    if (playing?.player !== player) return;
    if (player.duration) sound.drawPosition(player.currentTime / player.duration);
    requestAnimationFrame(move);
  };
  playing = { sound, player, stop };
  sound.element.dataset.playing = "yes";
  player.addEventListener("ended", stop);
  player.play().then(move, stop);
}

// A click on a sound, or on the button around it, plays it; another click stops it.
document.addEventListener("click", (event) => {
  const element = event.target.closest(".sound") ?? event.target.closest("button.slot")?.querySelector(".sound");
  if (element) play(element.sound);
});

const RENDERERS = { image: ImageCell, audio: SoundCell };

export const canShow = (kind) => kind in RENDERERS;
export const cell = (label) => new RENDERERS[state.model.signal.kind](label);

// Shows pictures in cells, in order. A cell that is missing is passed over.
export const showAll = (cells, blobs) => Promise.all(blobs.map((blob, i) => cells[i]?.show(blob)));
