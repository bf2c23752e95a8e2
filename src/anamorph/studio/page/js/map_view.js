// The canvas of the map: which part of it is in view, and what is drawn there.

import { isDark, prepareCanvas, themeValue } from "./canvas.js";
import { h } from "./ui.js";

const [LEAST_ZOOM, MOST_ZOOM] = [0.5, 40];
const NEAR = 24; // pixels from an image within which a click takes it
export const classColour = (i, n, dark) => `hsl(${(360 * i) / n} ${dark ? "75% 68%" : "68% 42%"})`;
const bounded = (zoom) => Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom));
const quantile = (sorted, share) => sorted[Math.round(share * (sorted.length - 1))];

export class MapView {
  constructor() {
    Object.assign(this, { map: null, sprites: null, label: "", chosen: -1, neighbours: [], selected: [], box: null });
    Object.assign(this, { x: 0, y: 0, zoom: 1, queued: false });
    this.canvas = h("canvas", { class: "map", tabindex: "0", role: "application",
      "aria-label": "Map of the data's codes: arrow keys move, plus and minus zoom, Enter takes the image in the middle" });
  }

  // Replaces the map; what was chosen on the old one is forgotten.
  set(map, sprites) {
    Object.assign(this, { map, sprites, chosen: -1, neighbours: [], selected: [] });
    this.fit();
  }

  get width() { return this.canvas.clientWidth; }
  get height() { return this.canvas.clientHeight; }
  get centre() { return [this.width / 2, this.height / 2]; }

  // Pixels of one unit of the map.
  get scale() { return (Math.min(this.width, this.height) / 2.15) * this.zoom; }

  get thumbnailSide() {
    const crowded = Math.sqrt(1000 / Math.max(1, this.map.places.length));
    const narrow = Math.min(1, Math.sqrt(this.width / 800));
    return Math.max(9, Math.min(72, 15 * narrow * crowded * this.zoom ** 0.75));
  }

  toPixels([x, y]) { return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale]; }

  fromPixels(px, py) { return [this.x + (px - this.width / 2) / this.scale, this.y - (py - this.height / 2) / this.scale]; }

  // Shows nearly all of the map.
  fit() {
    const [xs, ys] = [0, 1].map((axis) => this.map.places.map((place) => place[axis]).sort((a, b) => a - b));
    const [left, right, low, high] = [quantile(xs, 0.004), quantile(xs, 0.996), quantile(ys, 0.004), quantile(ys, 0.996)];
    [this.x, this.y, this.zoom] = [(left + right) / 2, (low + high) / 2, 1];
    this.zoom = bounded((0.93 * Math.min(this.width / (right - left + 0.08), this.height / (high - low + 0.08))) / this.scale);
    this.draw();
  }

  moveBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.draw();
  }

  // Zooms so that what is at a pixel stays there.
  zoomAt(px, py, zoom) {
    const [x, y] = this.fromPixels(px, py);
    this.zoom = bounded(zoom);
    const [qx, qy] = this.toPixels([x, y]);
    this.moveBy((qx - px) / this.scale, -(qy - py) / this.scale);
  }

  // The image at a pixel; -1 if there is none near.
  imageAt(px, py) {
    if (!this.map) return -1;
    let [best, least] = [-1, Math.max(this.thumbnailSide, NEAR) ** 2];
    this.map.places.forEach((place, i) => {
      const [x, y] = this.toPixels(place);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  // The images within a box of pixels [x0, y0, x1, y1].
  imagesIn([x0, y0, x1, y1]) {
    const [left, high] = this.fromPixels(Math.min(x0, x1), Math.min(y0, y1));
    const [right, low] = this.fromPixels(Math.max(x0, x1), Math.max(y0, y1));
    return this.map.places.flatMap(([x, y], i) => (x >= left && x <= right && y >= low && y <= high ? [i] : []));
  }

  // Draws at the next frame of the screen.
  draw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => { this.queued = false; this.paint(); });
  }

  paint() {
    if (!this.map || !this.sprites || !this.canvas.isConnected) return;
    const { context } = prepareCanvas(this.canvas);
    const [accent, like, side, dark] = [themeValue("--accent"), themeValue("--like"), this.thumbnailSide, isDark()];
    const labels = this.label ? this.map.labels[this.label] : null;
    this.map.places.forEach((_, i) => {
      const frame = labels ? classColour(labels.of[i], labels.classes.length, dark) : "";
      this.drawImage(context, i, side, frame, Math.max(1.5, side * 0.12));
    });
    for (const i of this.selected) this.drawImage(context, i, side * 1.15, accent, 3);
    for (const i of this.neighbours) this.drawImage(context, i, side * 1.5, accent, 3);
    if (this.chosen >= 0) this.drawImage(context, this.chosen, side * 2.2, like, 3);
    if (this.box) this.drawBox(context, accent);
  }

  // Draws an image of the map; frame: the colour of a line around it, or none.
  drawImage(context, i, size, frame, line) {
    const [x, y] = this.toPixels(this.map.places[i]);
    if (x < -size || y < -size || x > this.width + size || y > this.height + size) return;
    if (frame) {
      context.fillStyle = frame;
      context.beginPath();
      context.roundRect(x - size / 2 - line, y - size / 2 - line, size + 2 * line, size + 2 * line, 3);
      context.fill();
    }
    const { side, columns } = this.map;
    context.drawImage(this.sprites, (i % columns) * side, Math.floor(i / columns) * side, side, side, x - size / 2, y - size / 2, size, size);
  }

  drawBox(context, colour) {
    const [x0, y0, x1, y1] = this.box;
    const area = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
    Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: 1.5, globalAlpha: 0.12 });
    context.fillRect(...area);
    context.globalAlpha = 1;
    context.strokeRect(...area);
  }
}
