// What stands where a signal is shown, by the kind of signal. Another kind brings another renderer; no panel knows which.

import { h } from "./ui.js";
import { state } from "./state.js";

const SMALL = 128;
const PANEL = [208, 126]; // of a spectrogram, in pixels

class ImageCell {
  constructor(label) {
    this.element = h("canvas", { class: "cell", role: "img", "aria-label": label, width: 1, height: 1 });
    const [width, height] = this.size;
    this.element.style.setProperty("--ratio", `${width} / ${height}`);
    this.turn = 0;
    this.shown = 0;
  }

  // Draws a picture once it is decoded, unless a newer one has been drawn meanwhile; the old one stays until then.
  async show(blob) {
    const turn = ++this.turn;
    const bitmap = await createImageBitmap(await this.pictureOf(blob));
    if (turn > this.shown) {
      this.shown = turn;
      const canvas = this.element;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, 0);
      canvas.classList.toggle("pixels", Math.max(bitmap.width, bitmap.height) <= SMALL && !state.smooth);
      canvas.dataset.shown = String(turn);
      this.drawn(blob);
    }
    bitmap.close();
  }

  // For a kind whose picture is a part of what is sent, and which keeps the rest.
  pictureOf(blob) { return blob; }
  drawn() {}

  get size() { return [state.facts.signal.width, state.facts.signal.height]; }

  set label(text) { this.element.setAttribute("aria-label", text); }
}

// A spectrogram that sounds when it is clicked. Both come in one WAV file: the picture is its part "spec".
class SoundCell extends ImageCell {
  constructor(label) {
    super(`${label}, as a spectrogram`);
    this.element.classList.add("sound");
    this.element.sound = this;
    this.wav = null;
  }

  get size() { return PANEL; }

  pictureOf(blob) { return pictureIn(blob); }

  // What still plays is not what is seen any more.
  drawn(blob) {
    this.wav = blob;
    this.picture = this.element.getContext("2d").getImageData(0, 0, this.element.width, this.element.height);
    if (playing?.sound === this) playing.stop();
  }

  // The line moves over the picture while the sound lasts.
  follow(share) {
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
  throw new Error("a sound came without its picture");
}

let playing = null;

export function play(sound) {
  const again = playing?.sound === sound;
  playing?.stop();
  if (again || !sound?.wav) return;
  const address = URL.createObjectURL(sound.wav);
  const player = new Audio(address);
  const stop = () => {
    if (playing?.player !== player) return;
    playing = null;
    player.pause();
    URL.revokeObjectURL(address);
    sound.follow(null);
    delete sound.element.dataset.playing;
  };
  const move = () => {
    if (playing?.player !== player) return;
    if (player.duration) sound.follow(player.currentTime / player.duration);
    requestAnimationFrame(move);
  };
  playing = { sound, player, stop };
  sound.element.dataset.playing = "yes";
  player.addEventListener("ended", stop);
  player.play().then(move, stop);
}

// A click on a sound, or on the button around it, plays it; another click stops it.
document.addEventListener("click", (event) => {
  const found = event.target.closest(".sound") ?? event.target.closest("button.slot")?.querySelector(".sound");
  if (found) play(found.sound);
});

const RENDERERS = { image: ImageCell, audio: SoundCell };

export const shows = (kind) => kind in RENDERERS;
export const cell = (label) => new RENDERERS[state.facts.signal.kind](label);
