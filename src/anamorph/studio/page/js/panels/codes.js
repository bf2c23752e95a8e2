// Grids of discrete codes: shown as pictures, painted by hand, sampled anew by the prior; and how often each code is used.

import { get, post, postFor } from "../api.js";
import { Board, cellKey } from "../board.js";
import { prepareCanvas, themeValue } from "../canvas.js";
import { cell } from "../cell.js";
import { saveEntries } from "../save.js";
import { noun, on, setCurrent, state } from "../state.js";
import { button, h, head, menu, segments, showError, slider, soft } from "../ui.js";

const TOOLS = {
  paint: ["paint", "Paint with the chosen code"],
  pick: ["pick a code", "Choose the code of a cell"],
  mask: ["mask", "Mark cells that are sampled anew"],
};
const PERPLEXITY = "Perplexity: the number of codes that would be as hard to predict if all were used equally often";

// What is drawn and edited: one map of one grid of the current point's codes, and the pictures of all codes.
class Grid {
  constructor() {
    Object.assign(this, { spec: state.model.grid[0], map: 0, code: 0, allCodes: null, patches: null, layout: null, usage: null });
    this.mask = new Set();
  }

  // Rows of codes; undefined until they are loaded.
  get codes() { return this.allCodes?.[this.spec.space]?.[this.map]; }

  // The rectangle of a code's picture in the atlas.
  patch(code) {
    const { side, columns } = this.layout;
    return [(code % columns) * side, Math.floor(code / columns) * side, side, side];
  }

  async loadCodes(point) {
    const allCodes = await post(`runs/${state.run}/grids`, { point });
    if (point === state.current) this.allCodes = allCodes;
  }

  async loadPatches() {
    const { space } = this.spec;
    const response = await postFor(`runs/${state.run}/palette`, { point: state.current, space });
    const patches = await createImageBitmap(await response.blob());
    const usage = await get(`runs/${state.run}/usage/${encodeURIComponent(space)}`);
    if (space !== this.spec.space) return; // another grid was chosen meanwhile
    Object.assign(this, { layout: JSON.parse(response.headers.get("layout")), patches, usage });
  }
}

// All codes, the most used first, and a histogram of their use.
class Palette {
  constructor(grid, onchoose) {
    this.grid = grid;
    this.onchoose = onchoose;
    this.swatches = h("div", { class: "palette", role: "listbox", "aria-label": "Codes" });
    this.histogram = h("canvas", { class: "histogram", role: "img", "aria-label": "How often each code is used" });
    this.note = h("p", { class: "soft", title: PERPLEXITY });
  }

  get element() {
    const title = h("h3", {}, "Codes, the most used first");
    return h("div", { class: "card stack" }, title, this.swatches, this.histogram, this.note);
  }

  get order() {
    const { counts } = this.grid.usage;
    return [...counts.keys()].sort((a, b) => counts[b] - counts[a]);
  }

  build() {
    const { usage, spec } = this.grid;
    const perplexity = usage.perplexity.toFixed(1);
    this.note.textContent = `${usage.used} of ${spec.num_codes} codes are used in ${usage.images} images; perplexity ${perplexity}.`;
    this.swatches.replaceChildren(...this.order.map((code) => this.swatch(code)));
    this.choose(this.order[0]);
  }

  swatch(code) {
    const { usage, layout, patches } = this.grid;
    const picture = h("canvas", { width: layout.side, height: layout.side });
    picture.getContext("2d").drawImage(patches, ...this.grid.patch(code), 0, 0, layout.side, layout.side);
    const onclick = () => { this.choose(code); this.onchoose(); };
    return h("button", { type: "button", role: "option", class: "swatch-code", "data-code": String(code), onclick,
      "aria-label": `code ${code}`, title: `code ${code}: used ${usage.counts[code].toLocaleString("en")} times` }, picture);
  }

  choose(code) {
    this.grid.code = code;
    for (const child of this.swatches.children) child.setAttribute("aria-selected", String(Number(child.dataset.code) === code));
    this.draw();
  }

  draw() {
    if (!this.grid.usage) return;
    const { context, width, height } = prepareCanvas(this.histogram);
    const { counts } = this.grid.usage;
    const most = Math.max(1, ...counts);
    const step = width / counts.length;
    this.order.forEach((code, i) => {
      const tall = (height * counts[code]) / most;
      context.fillStyle = themeValue(code === this.grid.code ? "--like" : "--accent");
      context.fillRect(i * step, height - tall, Math.max(1, step - 0.5), tall);
    });
  }
}

// Cells that the prior samples anew, and how.
class Resampling {
  constructor(grid, onmask) {
    Object.assign(this, { grid, onmask, temperature: 1, seed: 0 });
    this.button = button("Resample", () => this.resample(), { symbol: "dice", kind: "main", title: "Sample the marked cells anew from the prior" });
    const clear = button("Clear the mask", () => { grid.mask.clear(); this.update(); }, { kind: "bare" });
    const lower = button("Lower half", () => this.markLowerHalf());
    const temperature = slider({ label: "temperature", hint: "Lower values give likelier, less diverse codes", min: 0.1, max: 2, step: 0.05,
      value: 1, oninput: (v) => { this.temperature = v; } });
    this.element = h("div", { class: "stack tight" }, h("div", { class: "row" }, this.button, lower, clear), temperature,
      soft("Codes are sampled from the top left on, each given those before it."));
    this.update();
  }

  update() {
    this.button.disabled = !this.grid.mask.size;
    this.onmask();
  }

  markLowerHalf() {
    const { rows, columns } = this.grid.spec;
    for (let y = Math.ceil(rows / 2); y < rows; y++) for (let x = 0; x < columns; x++) this.grid.mask.add(cellKey(y, x));
    this.update();
  }

  resample() {
    const of = state.current.kind === "redraw" ? state.current.of : state.current;
    const places = [...this.grid.mask].map((key) => key.split(",").map(Number));
    setCurrent({ kind: "redraw", of, places, seed: this.seed++, temperature: this.temperature });
  }
}

class CodesPanel {
  constructor() {
    this.closed = false;
    this.tool = "paint";
    this.finest = state.model.grid[0];
    this.grid = new Grid();
    this.picture = cell(`The decoded ${noun()}`);
    this.board = new Board(this.grid, { tool: () => this.tool, pick: (code) => this.palette.choose(code),
      onmask: () => this.resampling.update(), onfinish: () => this.follow() });
    this.palette = new Palette(this.grid, () => this.setTool("paint"));
    this.resampling = new Resampling(this.grid, () => this.board.draw());
    const names = state.model.temperature ? ["paint", "pick", "mask"] : ["paint", "pick"];
    this.tools = segments("Tool", names.map((name) => [name, ...TOOLS[name]]), this.tool, (tool) => this.setTool(tool));
    this.setTool("paint");
  }

  setTool(tool) {
    this.tool = tool;
    this.tools.set(tool);
    this.resampling.element.hidden = tool !== "mask";
  }

  // One choice for each map of each grid; null if there is only one.
  levels() {
    const options = state.model.grid.flatMap((spec) => [...Array(spec.maps).keys()].map((map) =>
      [`${spec.space}/${map}`, spec.maps > 1 ? `${spec.space} ${map + 1}` : `${spec.space} ${spec.rows}×${spec.columns}`]));
    return options.length > 1 ? segments("Grid", options, options[0][0], (value) => this.setLevel(...value.split("/"))) : null;
  }

  setLevel(space, map) {
    const other = space !== this.grid.spec.space;
    this.grid.spec = state.model.grid.find((spec) => spec.space === space);
    this.grid.map = Number(map);
    if (this.grid.spec !== this.finest && this.tool === "mask") this.setTool("paint");
    if (other) {
      this.grid.patches = null;
      this.loadPalette();
    } else this.board.draw();
  }

  async follow() {
    if (this.board.painting) return;
    try {
      await this.grid.loadCodes(state.current);
      if (!this.closed && !this.board.painting) this.board.draw();
    } catch (error) {
      showError(error);
    }
  }

  async loadPalette() {
    try {
      await this.grid.loadPatches();
      if (this.closed || !this.grid.patches) return;
      this.palette.build();
      this.board.draw();
    } catch (error) {
      showError(error);
    }
  }

  show() { if (state.picture) this.picture.show(state.picture); }

  draw() {
    this.palette.draw();
    this.board.draw();
  }
}

export function mount(root) {
  const panel = new CodesPanel();
  const { board, palette, resampling } = panel;
  const { data } = state.model;
  const other = data ? button("Another image", () => setCurrent({ kind: "data", index: Math.floor(Math.random() * data.size) }),
    { symbol: "dice", title: `A random held-out ${noun()}` }) : null;
  root.append(
    head("Codes", "An image as a grid of discrete codes (tokens). Paint with a code to see what it stands for.",
      menu("Save", "save", saveEntries(() => ({ points: [state.current] }), `${state.run}-codes`))),
    h("div", { class: "row controls" }, panel.tools, panel.levels(), other),
    h("div", { class: "split codes" }, h("div", { class: "boards" }, board.element, panel.picture.element),
      h("div", { class: "stack" }, resampling.element, palette.element)));
  panel.show();
  panel.follow();
  panel.loadPalette();
  const resized = new ResizeObserver(() => panel.draw());
  resized.observe(palette.histogram);
  resized.observe(board.element);
  const show = () => panel.show();
  const off = [on("current", () => panel.follow()), on("picture", show), on("theme", () => panel.draw()), on("smooth", show)];
  return () => { panel.closed = true; off.forEach((stop) => stop()); resized.disconnect(); };
}
