// A canvas on which a grid of codes is shown and edited, by pointer or keyboard.

import { themeValue } from "./canvas.js";
import { setCurrent, state } from "./state.js";
import { h } from "./ui.js";

const LEAST_SIDE = 8;
const NUMBERED_FROM = 56; // pixels of a cell from which its code is written on it
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const clamp = (value, most) => Math.min(most, Math.max(0, value));

export const cellKey = (y, x) => `${y},${x}`;

export class Board {
  // grid: what is shown. tool(): paint, pick or mask. pick(code) and onfinish() report what was done; onmask() draws the board.
  constructor(grid, { tool, pick, onmask, onfinish }) {
    Object.assign(this, { grid, tool, pick, onmask, onfinish, painting: false, erasing: false, cursor: [0, 0], strokes: 0, stroke: null });
    this.element = h("canvas", { class: "board", tabindex: "0", role: "application",
      "aria-label": "The grid of codes: arrow keys move, space paints" });
    this.listen();
  }

  listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      const place = this.placeOf(event);
      this.erasing = this.tool() === "mask" && this.grid.mask.has(cellKey(...place));
      this.begin();
      this.touch(...place);
    });
    element.addEventListener("pointermove", (event) => { if (this.painting && event.buttons) this.touch(...this.placeOf(event)); });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => this.finish());
    element.addEventListener("keydown", (event) => this.onKey(event));
    for (const change of ["focus", "blur"]) element.addEventListener(change, () => this.draw());
  }

  onKey(event) {
    const [dy, dx] = ARROWS[event.key] ?? [0, 0];
    if (event.key === " " || event.key === "Enter") {
      this.begin();
      this.touch(...this.cursor);
      this.finish();
    } else if (!dy && !dx) return;
    event.preventDefault();
    const { rows, columns } = this.grid.spec;
    this.cursor = [clamp(this.cursor[0] + dy, rows - 1), clamp(this.cursor[1] + dx, columns - 1)];
    this.draw();
  }

  // Row and column under a pointer.
  placeOf(event) {
    const box = this.element.getBoundingClientRect();
    const { rows, columns } = this.grid.spec;
    return [Math.floor(((event.clientY - box.top) / box.height) * rows), Math.floor(((event.clientX - box.left) / box.width) * columns)];
  }

  // Begins a stroke, which is one step of the history: its cells are added to those painted before on the same map.
  begin() {
    const { spec, map } = this.grid;
    const { current } = state;
    const continues = current.kind === "paint" && current.space === spec.space && current.cells.every((one) => one.map === map);
    const cells = continues ? current.cells.map((one) => [cellKey(one.y, one.x), one]) : [];
    this.strokes += 1;
    this.stroke = { base: continues ? current.of : current, cells: new Map(cells) };
    this.painting = true;
  }

  finish() {
    if (!this.painting) return;
    this.painting = false;
    this.erasing = false;
    this.onfinish();
  }

  touch(y, x) {
    const { codes, spec, mask } = this.grid;
    if (y < 0 || x < 0 || y >= spec.rows || x >= spec.columns || !codes) return;
    const tool = this.tool();
    if (tool === "mask") {
      mask[this.erasing ? "delete" : "add"](cellKey(y, x));
      this.onmask();
      return;
    }
    if (tool === "pick") this.pick(codes[y][x]);
    else this.paint(y, x);
    this.draw();
  }

  paint(y, x) {
    const { codes, code, map, spec } = this.grid;
    codes[y][x] = code;
    this.stroke.cells.set(cellKey(y, x), { map, y, x, code });
    const point = { kind: "paint", of: this.stroke.base, space: spec.space, cells: [...this.stroke.cells.values()] };
    setCurrent(point, { gesture: `stroke ${this.strokes}` });
  }

  draw() {
    const { codes, patches, spec } = this.grid;
    if (!codes || !patches) return;
    const { rows, columns } = spec;
    const canvas = this.element;
    const side = Math.max(LEAST_SIDE, Math.round((canvas.clientWidth * (devicePixelRatio || 1)) / columns));
    [canvas.width, canvas.height] = [columns * side, rows * side];
    canvas.style.setProperty("--ratio", `${columns} / ${rows}`);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) this.drawCell(context, side, y, x);
    this.drawLines(context, side);
    if (document.activeElement === canvas) this.drawCursor(context, side);
  }

  drawCell(context, side, y, x) {
    const code = this.grid.codes[y][x];
    context.drawImage(this.grid.patches, ...this.grid.patch(code), x * side, y * side, side, side);
    if (side >= NUMBERED_FROM) {
      context.font = `600 ${Math.round(side / 5)}px ${themeValue("--mono")}`;
      context.textBaseline = "bottom";
      context.lineWidth = 3;
      context.strokeStyle = "rgb(0 0 0 / .65)";
      context.fillStyle = "#fff";
      context.strokeText(String(code), x * side + 4, (y + 1) * side - 4);
      context.fillText(String(code), x * side + 4, (y + 1) * side - 4);
    }
    if (this.grid.mask.has(cellKey(y, x))) {
      context.fillStyle = themeValue("--accent");
      context.globalAlpha = 0.55;
      context.fillRect(x * side, y * side, side - 1, side - 1);
      context.globalAlpha = 1;
    }
  }

  drawLines(context, side) {
    const { rows, columns } = this.grid.spec;
    context.fillStyle = themeValue("--card");
    context.globalAlpha = 0.35;
    for (let x = 1; x < columns; x++) context.fillRect(x * side, 0, 1, rows * side);
    for (let y = 1; y < rows; y++) context.fillRect(0, y * side, columns * side, 1);
    context.globalAlpha = 1;
  }

  drawCursor(context, side) {
    const [y, x] = this.cursor;
    context.strokeStyle = themeValue("--like");
    context.lineWidth = 3;
    context.strokeRect(x * side + 1, y * side + 1, side - 3, side - 3);
  }
}
