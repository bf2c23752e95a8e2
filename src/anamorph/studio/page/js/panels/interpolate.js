// Between two images or four: a pad that follows the pointer, a strip or grid of the way, a film of it.

import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { save } from "../save.js";
import { called, on, setCurrent, starting, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, slider, toast } from "../ui.js";

const clamp = (v) => Math.min(1, Math.max(0, v));

export function mount(root) {
  let count = 4, x = 0.5, y = 0.5, steps = 7;
  const ends = starting(4);
  const used = () => ends.slice(0, count);
  const at = (u, v) => ({ kind: "between", ends: used(), x: u, ...(count === 4 ? { y: v } : {}) });
  const picture = cell("In between");
  const corners = ends.map((_, i) => cell(`Corner ${i + 1}`));
  const dot = h("span", { class: "dot" });
  const pad = h("div", { class: "pad", role: "application", tabindex: "0", "aria-label": "Move between the corners: drag, or use the arrow keys" }, picture.element, dot);

  const live = new Channel((header, blobs) => picture.show(blobs[0]), (error) => toast(error, true));
  const ways = new Channel((header, blobs, request) => Promise.all(blobs.map((blob, i) => request.cells[i]?.show(blob))), (error) => toast(error, true));

  const moved = () => {
    dot.style.left = `${100 * x}%`;
    dot.style.top = `${count === 4 ? 100 * y : 50}%`;
    live.ask({ run: state.run, points: [at(x, y)], look: state.look });
  };
  const point = (event) => {
    const box = pad.getBoundingClientRect();
    x = clamp((event.clientX - box.left) / box.width);
    y = clamp((event.clientY - box.top) / box.height);
    moved();
  };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); pad.focus(); point(event); });
  pad.addEventListener("pointermove", (event) => { if (event.buttons || event.pointerType === "mouse") point(event); });
  pad.addEventListener("pointerup", () => setCurrent(at(x, y)));
  pad.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") setCurrent(at(x, y));
    else if (!dx && !dy) return;
    event.preventDefault();
    [x, y] = [clamp(x + dx), clamp(y + dy)];
    moved();
  });

  const slots = corners.map((corner, i) => {
    const put = (p) => { ends[i] = p; all(); };
    const slot = h("button", { type: "button", class: "slot", title: "Click to put the current image here", onclick: () => put(state.current) }, corner.element);
    return droppable(draggable(h("div", { class: `corner corner-${i}` }, slot), () => ends[i]), put);
  });
  const field = h("div", { class: "field-of" }, slots[0], slots[1], pad, slots[2], slots[3]);

  const way = h("div", { class: "way" });
  let cells = [];
  const places = () => (count === 2 ? [...Array(steps).keys()].map((i) => [i / (steps - 1), 0])
    : [...Array(steps * steps).keys()].map((i) => [(i % steps) / (steps - 1), Math.floor(i / steps) / (steps - 1)]));
  function all() {
    slots.forEach((slot, i) => { slot.hidden = i >= count; slot.firstChild.title = `${called(ends[i])}: click to put the current image here`; });
    field.classList.toggle("line", count === 2);
    way.style.setProperty("--columns", String(steps));
    const spots = places();
    if (cells.length !== spots.length) {
      cells = spots.map(() => cell("A step of the way"));
      way.replaceChildren(...spots.map((_, i) => h("button", { type: "button", class: "slot", title: "Take as current", onclick: () => setCurrent(at(...places()[i])) }, cells[i].element)));
    }
    const request = { run: state.run, points: [...used(), ...spots.map(([u, v]) => at(u, v))].slice(0, 64), look: state.look };
    Object.defineProperty(request, "cells", { value: [...corners.slice(0, count), ...cells] });
    ways.ask(request);
    moved();
  }

  const stepper = slider({ label: "steps", min: 3, max: 7, step: 1, value: steps, inline: true, format: (v) => String(v), oninput: (v) => { steps = v; all(); } });
  const name = () => `${state.run}-way`;
  const entries = [
    ["Strip or grid (PNG)", () => save("png", { ends: used(), steps }, name())],
    ["Film (WebP)", () => film("webp")],
    ["Film (MP4)", () => film("mp4")],
    ["Codes (safetensors)", () => save("codes", { ends: used(), steps }, name())],
    ["Python lines", () => save("python", { ends: used(), steps }, name())],
  ];
  const film = (kind) => (count === 2 ? save(kind, { ends: used(), steps: 50 }, name()) : toast("A film goes between two images: choose two", true));
  root.append(head("Interpolate", "Move the pointer over the middle: it follows. A click takes what you see.",
    segments("Ends", [["2", "two images"], ["4", "four"]], "4", (value) => { count = Number(value); all(); }), menu("Save", "save", entries)),
    h("div", { class: "split even" }, field, h("div", { class: "stack" }, h("div", { class: "row" }, stepper,
      button("Other ends", () => { ends.forEach((_, i) => { ends[i] = state.facts.capabilities.includes("sample") ? { kind: "seed", seed: Math.floor(Math.random() * 1e6) } : { kind: "data", index: Math.floor(Math.random() * state.facts.data.size) }; }); all(); }, { symbol: "dice" })), way)));
  all();
  const off = [on("look", all), on("smooth", all)];
  return () => { off.forEach((stop) => stop()); live.close(); ways.close(); };
}
