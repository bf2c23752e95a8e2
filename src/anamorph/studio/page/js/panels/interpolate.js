// Between two images or four: a pad that follows the pointer, a strip or grid of steps, and a film of it.

import { cell, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { save } from "../save.js";
import { initialPoints, noun, on, pointTitle, randomPoint, setCurrent, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, showError, slider, slot } from "../ui.js";

const KEY_STEP = 0.05;
const FILM_STEPS = 50;
const MOST_PICTURES = 64;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const clamp = (v) => Math.min(1, Math.max(0, v));

class Interpolation {
  constructor() {
    Object.assign(this, { count: 4, x: 0.5, y: 0.5, steps: 7, ends: initialPoints(4), cells: [] });
    this.corners = this.ends.map((_, i) => cell(`End ${i + 1}`));
    this.slots = this.corners.map((corner, i) => this.cornerSlot(corner, i));
    this.strip = h("div", { class: "way" });
    this.pad = this.makePad();
    this.field = h("div", { class: "field-of" }, this.slots[0], this.slots[1], this.pad, this.slots[2], this.slots[3]);
    this.padChannel = new Channel((header, blobs) => this.picture.show(blobs[0]), showError);
    this.stripChannel = new Channel((header, blobs, cells) => showAll(cells, blobs), showError);
  }

  get usedEnds() { return this.ends.slice(0, this.count); }

  at(x, y) { return { kind: "between", ends: this.usedEnds, x, ...(this.count === 4 ? { y } : {}) }; }

  takeCurrent() { setCurrent(this.at(this.x, this.y)); }

  cornerSlot(corner, i) {
    const put = (point) => { this.ends[i] = point; this.show(); };
    const element = slot(corner, "", () => put(state.current));
    return droppable(draggable(h("div", { class: `corner corner-${i}` }, element), () => this.ends[i]), put);
  }

  makePad() {
    this.picture = cell("The interpolated image");
    this.dot = h("span", { class: "dot" });
    const pad = h("div", { class: "pad", role: "application", tabindex: "0",
      "aria-label": "Move between the ends: drag, or use the arrow keys" }, this.picture.element, this.dot);
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      this.moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); pad.focus(); follow(event); });
    pad.addEventListener("pointermove", (event) => { if (event.buttons || event.pointerType === "mouse") follow(event); });
    pad.addEventListener("pointerup", () => this.takeCurrent());
    pad.addEventListener("keydown", (event) => this.onKey(event));
    return pad;
  }

  onKey(event) {
    const [dx, dy] = ARROWS[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") this.takeCurrent();
    else if (!dx && !dy) return;
    event.preventDefault();
    this.moveTo(this.x + KEY_STEP * dx, this.y + KEY_STEP * dy);
  }

  moveTo(x, y) {
    [this.x, this.y] = [clamp(x), clamp(y)];
    this.dot.style.left = `${100 * this.x}%`;
    this.dot.style.top = `${this.count === 4 ? 100 * this.y : 50}%`;
    this.padChannel.send({ run: state.run, points: [this.at(this.x, this.y)], look: state.look });
  }

  // The shares [x, y] of all steps of the strip or grid.
  places() {
    const { steps } = this;
    if (this.count === 2) return [...Array(steps).keys()].map((i) => [i / (steps - 1), 0]);
    return [...Array(steps * steps).keys()].map((i) => [(i % steps) / (steps - 1), Math.floor(i / steps) / (steps - 1)]);
  }

  buildStrip(places) {
    this.cells = places.map((_, i) => cell(`Step ${i + 1}`));
    this.strip.replaceChildren(...this.cells.map((step, i) =>
      slot(step, `Make it the current ${noun()}`, () => setCurrent(this.at(...this.places()[i])))));
  }

  show() {
    this.slots.forEach((element, i) => {
      element.hidden = i >= this.count;
      element.firstChild.title = `${pointTitle(this.ends[i])}: click to put the current ${noun()} here`;
    });
    this.field.classList.toggle("line", this.count === 2);
    this.strip.style.setProperty("--columns", String(this.steps));
    const places = this.places();
    if (this.cells.length !== places.length) this.buildStrip(places);
    const points = [...this.usedEnds, ...places.map(([x, y]) => this.at(x, y))].slice(0, MOST_PICTURES);
    const cells = [...this.corners.slice(0, this.count), ...this.cells];
    this.stripChannel.send({ run: state.run, points, look: state.look }, cells);
    this.moveTo(this.x, this.y);
  }

  randomEnds() {
    this.ends.forEach((_, i) => { this.ends[i] = randomPoint(); });
    this.show();
  }

  close() {
    this.padChannel.close();
    this.stripChannel.close();
  }
}

function saveMenu(between) {
  const name = `${state.run}-interpolation`;
  const saveSteps = (kind) => () => save(kind, { ends: between.usedEnds, steps: between.steps }, name);
  const saveFilm = (kind) => () => (between.count === 2
    ? save(kind, { ends: between.usedEnds, steps: FILM_STEPS }, name)
    : showError("a film goes between two images: choose two"));
  return menu("Save", "save", [
    ["Strip or grid (PNG)", saveSteps("png")],
    ["Film (WebP)", saveFilm("webp")],
    ["Film (MP4)", saveFilm("mp4")],
    ["Codes (safetensors)", saveSteps("codes")],
    ["Python code", saveSteps("python")],
  ]);
}

export function mount(root) {
  const between = new Interpolation();
  const show = () => between.show();
  const counts = segments("Ends", [["2", "two images"], ["4", "four"]], "4", (value) => { between.count = Number(value); show(); });
  const steps = slider({ label: "steps", hint: "Steps of the strip, or of each side of the grid", min: 3, max: 7, step: 1, value: between.steps,
    inline: true, format: (v) => String(v), oninput: (v) => { between.steps = v; show(); } });
  const other = button("Other ends", () => between.randomEnds(), { symbol: "dice", title: "Choose the ends at random" });
  root.append(
    head("Interpolate", "Linear interpolation of codes. Move the pointer over the middle; a click makes what you see the current image.",
      counts, saveMenu(between)),
    h("div", { class: "split even" }, between.field, h("div", { class: "stack" }, h("div", { class: "row" }, steps, other), between.strip)));
  show();
  const off = [on("look", show), on("smooth", show)];
  return () => { off.forEach((stop) => stop()); between.close(); };
}
