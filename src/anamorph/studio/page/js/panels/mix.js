// A table: each cell is its column's image with some layers of its row's (or, without layers, a share of the way to it).

import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { saving } from "../save.js";
import { called, on, setCurrent, starting, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, slider, toast } from "../ui.js";

const MOST = 8;
const LETTERS = { coarse: "C", middle: "M", fine: "F", all: "A" };

export function mount(root) {
  const facts = state.facts;
  const names = facts.layers ? [...Object.keys(facts.layers.groups), "all"] : [];
  const points = starting(7);
  let columns = points.slice(0, 4), rows = points.slice(4, 7);
  let range = names[0] ?? "", share = 0.5;
  const special = new Map(); // a cell's own range of layers, by its row and column
  const table = h("div", { class: "mix" });
  let cells = [];

  const layersOf = (name) => (name === "all" ? [...Array(facts.layers.count).keys()] : facts.layers.groups[name]);
  const key = (row, column) => JSON.stringify([row, column]);
  const rangeOf = (row, column) => special.get(key(row, column)) ?? range;
  const mixed = (row, column) => ({ kind: "mix", of: column, source: row, ...(facts.layers ? { layers: layersOf(rangeOf(row, column)) } : { share }) });
  const all = () => [...columns, ...rows, ...rows.flatMap((row) => columns.map((column) => mixed(row, column)))];

  const channel = new Channel((header, blobs, request) => Promise.all(blobs.map((blob, i) => request.cells[i]?.show(blob))), (error) => toast(error, true));
  function show() {
    const request = { run: state.run, points: all(), look: state.look };
    Object.defineProperty(request, "cells", { value: cells });
    channel.ask(request);
  }

  // A header: click it to put the current image there, drop one on it, drag it onto another to swap them.
  function header(list, i, what) {
    const picture = cell(`${what} ${i + 1}: ${called(list[i])}`);
    cells.push(picture);
    const put = (point) => {
      const from = list.findIndex((p) => JSON.stringify(p) === JSON.stringify(point));
      if (from >= 0) list[from] = list[i];
      list[i] = point;
      build();
    };
    const slot = h("button", { type: "button", class: "slot", title: `${called(list[i])}: click to put the current image here`, onclick: () => put(state.current) }, picture.element);
    const away = list.length > 1 ? button(`Remove this ${what}`, () => { list.splice(i, 1); build(); }, { symbol: "close", only: true, kind: "small away" }) : null;
    return droppable(draggable(h("div", { class: `mix-head ${what}` }, slot, away), () => list[i]), put);
  }

  function body(row, column) {
    const picture = cell(`${called(column)} with ${rangeOf(row, column) || "half"} of ${called(row)}`);
    cells.push(picture);
    const box = h("div", { class: "mix-cell" }, h("button", { type: "button", class: "slot", title: "Take as current", onclick: () => setCurrent(mixed(row, column)) }, picture.element));
    if (names.length > 1) {
      const mark = h("button", { type: "button", class: "mark range", "aria-label": `Layers of this cell: ${rangeOf(row, column)}`, title: "Other layers for this cell",
        onclick: () => {
          const next = names[(names.indexOf(rangeOf(row, column)) + 1) % names.length];
          special.set(key(row, column), next);
          mark.textContent = LETTERS[next];
          mark.setAttribute("aria-label", `Layers of this cell: ${next}`);
          mark.setAttribute("aria-pressed", String(next !== range));
          show();
        } }, LETTERS[rangeOf(row, column)]);
      mark.setAttribute("aria-pressed", String(rangeOf(row, column) !== range));
      box.append(mark);
    }
    return draggable(box, () => mixed(row, column));
  }

  function build() {
    cells = [];
    table.style.setProperty("--columns", String(columns.length));
    const top = columns.map((_, i) => header(columns, i, "column"));
    const left = rows.map((_, i) => header(rows, i, "row"));
    const inner = rows.map((row) => columns.map((column) => body(row, column)));
    const adder = (list, what) => button(`Add the current image as a ${what}`, () => { if (list.length < MOST) list.push(state.current); build(); }, { symbol: "plus", only: true, kind: "bare add" });
    table.replaceChildren(h("div", { class: "corner" }), ...top, adder(columns, "column"), ...rows.flatMap((_, i) => [left[i], ...inner[i], h("div")]), adder(rows, "row"));
    show();
  }

  const control = facts.layers
    ? segments("Layers from the rows", names.map((name) => [name, name]), range, (value) => { range = value; special.clear(); build(); })
    : slider({ label: "share of the row", min: 0, max: 1, step: 0.01, value: share, inline: true, oninput: (v) => { share = v; show(); } });
  const what = () => ({ points: rows.flatMap((row) => columns.map((column) => mixed(row, column))), columns: columns.length });
  root.append(head("Mix", facts.layers ? "Each cell has its column's image, with these layers of its row's." : "Each cell lies between its column's image and its row's.",
    menu("Save", "save", saving(what, `${state.run}-mix`))),
    h("div", { class: "row controls" }, facts.layers ? h("span", { class: "soft" }, "from the rows") : null, control), table);
  build();
  const off = [on("look", show), on("smooth", show)];
  return () => { off.forEach((stop) => stop()); channel.close(); };
}
