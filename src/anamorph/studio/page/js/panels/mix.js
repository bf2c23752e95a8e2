// Style mixing as a table: each cell has its column's code with some layers of its row's, or, without layers, a share of it.

import { cell, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { saveEntries } from "../save.js";
import { initialPoints, noun, on, pointTitle, same, setCurrent, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, showError, slider, slot } from "../ui.js";

const MOST = 8;
const LETTERS = { coarse: "C", middle: "M", fine: "F", all: "A" };
const RANGE_HINTS = {
  coarse: "The layers of the lowest resolutions: pose and shape",
  middle: "The layers in between: features",
  fine: "The layers of the highest resolutions: colours and texture",
  all: "All layers: the row's image itself",
};

class Table {
  constructor() {
    const { layers } = state.model;
    const points = initialPoints(7);
    this.columns = points.slice(0, 4);
    this.rows = points.slice(4, 7);
    this.names = layers ? [...Object.keys(layers.groups), "all"] : [];
    this.range = this.names[0] ?? "";
    this.share = 0.5;
    this.ownRanges = new Map(); // the range of layers of a single cell, by its row and column
    this.element = h("div", { class: "mix" });
    this.channel = new Channel((header, blobs, cells) => showAll(cells, blobs), showError);
  }

  layersOf(name) {
    const { layers } = state.model;
    return name === "all" ? [...Array(layers.count).keys()] : layers.groups[name];
  }

  rangeOf(row, column) { return this.ownRanges.get(JSON.stringify([row, column])) ?? this.range; }

  mixed(row, column) {
    const how = state.model.layers ? { layers: this.layersOf(this.rangeOf(row, column)) } : { share: this.share };
    return { kind: "mix", of: column, source: row, ...how };
  }

  get mixedPoints() { return this.rows.flatMap((row) => this.columns.map((column) => this.mixed(row, column))); }

  show() {
    const points = [...this.columns, ...this.rows, ...this.mixedPoints];
    this.channel.send({ run: state.run, points, look: state.look }, this.cells);
  }

  newCell(label) {
    const picture = cell(label);
    this.cells.push(picture);
    return picture;
  }

  // A header takes the current image when it is clicked, or a point that is dropped on it; two headers swap.
  header(list, i, kind) {
    const title = pointTitle(list[i]);
    const picture = this.newCell(`${kind} ${i + 1}: ${title}`);
    const put = (point) => {
      const from = list.findIndex((other) => same(other, point));
      if (from >= 0) list[from] = list[i];
      list[i] = point;
      this.build();
    };
    const remove = () => { list.splice(i, 1); this.build(); };
    const header = h("div", { class: `mix-head ${kind}` },
      slot(picture, `${title}: click to put the current ${noun()} here`, () => put(state.current)),
      list.length > 1 ? button(`Remove this ${kind}`, remove, { symbol: "close", only: true, kind: "small away" }) : null);
    return droppable(draggable(header, () => list[i]), put);
  }

  // The letter in a cell, which chooses other layers for that cell alone.
  rangeMark(row, column) {
    const mark = h("button", { type: "button", class: "mark range", title: "Other layers for this cell" });
    const show = () => {
      const range = this.rangeOf(row, column);
      mark.textContent = LETTERS[range];
      mark.setAttribute("aria-label", `Layers of this cell: ${range}`);
      mark.setAttribute("aria-pressed", String(range !== this.range));
    };
    mark.addEventListener("click", () => {
      const next = this.names[(this.names.indexOf(this.rangeOf(row, column)) + 1) % this.names.length];
      this.ownRanges.set(JSON.stringify([row, column]), next);
      show();
      this.show();
    });
    show();
    return mark;
  }

  body(row, column) {
    const picture = this.newCell(`${pointTitle(column)} with ${this.rangeOf(row, column) || "a share"} of ${pointTitle(row)}`);
    const take = slot(picture, `Make it the current ${noun()}`, () => setCurrent(this.mixed(row, column)));
    const box = h("div", { class: "mix-cell" }, take, this.names.length > 1 ? this.rangeMark(row, column) : null);
    return draggable(box, () => this.mixed(row, column));
  }

  adder(list, kind) {
    const add = () => { if (list.length < MOST) list.push(state.current); this.build(); };
    return button(`Add the current ${noun()} as a ${kind}`, add, { symbol: "plus", only: true, kind: "bare add" });
  }

  build() {
    this.cells = [];
    this.element.style.setProperty("--columns", String(this.columns.length));
    const top = this.columns.map((_, i) => this.header(this.columns, i, "column"));
    const left = this.rows.map((_, i) => this.header(this.rows, i, "row"));
    const inner = this.rows.map((row) => this.columns.map((column) => this.body(row, column)));
    const lines = this.rows.flatMap((_, i) => [left[i], ...inner[i], h("div")]);
    const [addColumn, addRow] = [this.adder(this.columns, "column"), this.adder(this.rows, "row")];
    this.element.replaceChildren(h("div", { class: "corner" }), ...top, addColumn, ...lines, addRow);
    this.show();
  }

  control() {
    if (!state.model.layers) {
      return slider({ label: "share of the row", hint: "How far each code is interpolated towards the row's", min: 0, max: 1, step: 0.01,
        value: this.share, inline: true, oninput: (v) => { this.share = v; this.show(); } });
    }
    const options = this.names.map((name) => [name, name, RANGE_HINTS[name]]);
    return segments("Layers of the rows", options, this.range, (value) => {
      this.range = value;
      this.ownRanges.clear();
      this.build();
    });
  }
}

export function mount(root) {
  const { layers } = state.model;
  const table = new Table();
  const content = () => ({ points: table.mixedPoints, columns: table.columns.length });
  const text = layers ? "Style mixing: each cell has its column's code, with these layers of its row's."
    : "Each cell is interpolated between its column's code and its row's.";
  root.append(head("Mix", text, menu("Save", "save", saveEntries(content, `${state.run}-mix`))),
    h("div", { class: "row controls" }, layers ? h("span", { class: "soft" }, "layers of the rows") : null, table.control()), table.element);
  table.build();
  const show = () => table.show();
  const off = [on("look", show), on("smooth", show)];
  return () => { off.forEach((stop) => stop()); table.channel.close(); };
}
