// What stands where a signal is shown, by the kind of signal. Another kind brings another renderer; no panel knows which.

import { h } from "./ui.js";
import { state } from "./state.js";

const SMALL = 128;

class ImageCell {
  constructor(label) {
    this.element = h("canvas", { class: "cell", role: "img", "aria-label": label, width: 1, height: 1 });
    const { width, height } = state.facts.signal;
    this.element.style.setProperty("--ratio", `${width} / ${height}`);
    this.turn = 0;
    this.shown = 0;
  }

  // Draws a picture once it is decoded, unless a newer one has been drawn meanwhile; the old one stays until then.
  async show(blob) {
    const turn = ++this.turn;
    const bitmap = await createImageBitmap(blob);
    if (turn > this.shown) {
      this.shown = turn;
      const canvas = this.element;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, 0);
      canvas.classList.toggle("pixels", Math.max(bitmap.width, bitmap.height) <= SMALL && !state.smooth);
      canvas.dataset.shown = String(turn);
    }
    bitmap.close();
  }

  set label(text) { this.element.setAttribute("aria-label", text); }
}

const RENDERERS = { image: ImageCell };

export const shows = (kind) => kind in RENDERERS;
export const cell = (label) => new RENDERERS[state.facts.signal.kind](label);
