// Data placed by their codes, in two dimensions. Wheel or pinch zooms, a drag moves; with Shift, or in box mode, it selects.

import { get, getBlob } from "../api.js";
import { isDark } from "../canvas.js";
import { cell, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { MapInput } from "../map_input.js";
import { classColour, MapView } from "../map_view.js";
import { noun, on, pin, pointTitle, setCurrent, state } from "../state.js";
import { button, h, head, segments, select, showError, slot, toast } from "../ui.js";

const COUNTS = [512, 1024, 2048, 4000];
const DRAFT = 192; // images of the small map that is shown while the first large one is made
const NEIGHBOURS = 12;
const LEGEND = 24; // classes that the legend names
const GROUP = 16; // images of a selection that are pinned
const LAYOUTS = {
  pca: ["PCA", "The first two principal components of the codes"],
  tsne: ["t-SNE", "t-distributed stochastic neighbour embedding: keeps neighbours together"],
  umap: ["UMAP", "Uniform manifold approximation and projection: keeps neighbours together"],
};
const number = (n) => n.toLocaleString("en");

function explanation({ places, shares }) {
  const count = `${number(places.length)} held-out images.`;
  if (!shares.length) return `${count} Neighbours lie together; distances between groups mean little.`;
  return `${count} The plane explains ${(100 * (shares[0] + shares[1])).toFixed(0)} % of the variance of codes.`;
}

// The nearest neighbours of the chosen image.
class Neighbours {
  constructor(onchoose) {
    this.onchoose = onchoose;
    this.strip = h("div", { class: "filmstrip" });
    this.element = h("div", { class: "card stack", hidden: true },
      h("h3", { title: "By the Euclidean distance of codes, in all dimensions" }, "Nearest neighbours in the latent space"), this.strip);
    this.channel = new Channel((header, blobs, cells) => showAll(cells, blobs.slice(cells.length)), showError);
  }

  show(indices) {
    const points = indices.map((index) => ({ kind: "data", index }));
    const cells = points.map((point) => cell(pointTitle(point)));
    this.strip.replaceChildren(...points.map(({ index }, i) => slot(cells[i], `data:${index}`, () => this.onchoose(index))));
    this.element.hidden = !points.length;
    if (points.length) this.channel.send({ run: state.run, points, look: state.look, originals: true }, cells);
  }
}

// What can be done with the images in the box.
class Selection {
  constructor(onclear) {
    this.images = [];
    this.count = h("strong");
    const group = (name) => button(`Group ${name}`, () => this.pin(name),
      { title: `Pin up to ${GROUP} of them in group ${name}, for a direction from A to B` });
    const mean = button("Use their mean", () => setCurrent({ kind: "mean", of: this.some() }),
      { title: `Make the mean of up to ${GROUP} codes the current ${noun()}` });
    const clear = button("Clear", onclear, { kind: "bare" });
    this.element = h("div", { class: "card row", hidden: true }, this.count, group("A"), group("B"), mean, clear);
  }

  show(images) {
    this.images = images;
    this.element.hidden = !images.length;
    this.count.textContent = `${images.length} in the box`;
  }

  // Points of some of the images, evenly spread.
  some() {
    const step = Math.max(1, this.images.length / GROUP);
    return [...Array(Math.min(GROUP, this.images.length)).keys()].map((i) => ({ kind: "data", index: this.images[Math.floor(i * step)] }));
  }

  pin(name) {
    const points = this.some();
    points.forEach((point) => pin(point, name.toLowerCase()));
    toast(`${points.length} of them are pinned in group ${name}`);
  }
}

class MapPanel {
  constructor() {
    Object.assign(this, { count: 1024, shownCount: 0, layout: "pca", mode: "move", closed: false });
    this.note = h("p", { class: "soft" });
    this.legend = h("div", { class: "legend" });
    this.view = new MapView();
    this.neighbours = new Neighbours((index) => this.choose(index));
    this.selection = new Selection(() => this.select([]));
    new MapInput(this.view, {
      boxMode: () => this.mode === "box",
      onchoose: (index) => this.choose(index),
      onselect: (images) => this.select(images),
    });
  }

  // A small map first, so that there is something to see while the larger one is made.
  async load() {
    const wanted = `${this.count}/${this.layout}`;
    if (!this.view.map && this.count > DRAFT) await this.loadMap(DRAFT);
    if (!this.closed && wanted === `${this.count}/${this.layout}`) await this.loadMap(this.count);
  }

  async loadMap(count) {
    const { layout } = this;
    const outdated = () => this.closed || layout !== this.layout;
    const query = `n=${count}&layout=${layout}`;
    this.note.textContent = layout === "pca" ? `Encoding ${number(count)} images …` : `Placing ${number(count)} images by ${LAYOUTS[layout][0]} …`;
    try {
      const map = await get(`runs/${state.run}/map?${query}`);
      const sprites = await createImageBitmap(await getBlob(`runs/${state.run}/map/atlas?${query}`));
      if (outdated()) return;
      this.shownCount = count;
      this.note.textContent = explanation(map);
      this.view.set(map, sprites);
      this.draw();
      this.select([]);
    } catch (error) {
      if (outdated()) return;
      this.note.textContent = error.message;
      showError(error);
    }
  }

  // Makes an image the current one and shows its neighbours; -1: none.
  async choose(index) {
    const { view } = this;
    view.chosen = index;
    view.neighbours = [];
    view.draw();
    if (index >= 0) {
      setCurrent({ kind: "data", index });
      try {
        const query = `index=${index}&n=${this.shownCount}&layout=${this.layout}&k=${NEIGHBOURS}`;
        const neighbours = await get(`runs/${state.run}/map/neighbours?${query}`);
        if (view.chosen !== index) return; // another one was chosen meanwhile
        view.neighbours = neighbours;
      } catch (error) {
        showError(error);
      }
      view.draw();
    }
    this.neighbours.show(view.neighbours);
  }

  // Draws the map again, with a legend of the classes by which it is coloured.
  draw() {
    const classes = this.view.map?.labels[this.view.label]?.classes ?? [];
    this.legend.replaceChildren(...classes.slice(0, LEGEND).map((name, i) => {
      const swatch = h("span", { class: "swatch square" });
      swatch.style.background = classColour(i, classes.length, isDark());
      return h("span", { class: "key" }, swatch, name);
    }));
    this.view.draw();
  }

  select(images) {
    this.view.selected = images;
    this.selection.show(images);
    this.view.draw();
  }

  controls() {
    const layouts = Object.entries(LAYOUTS).map(([key, [text, hint]]) => [key, text, hint]);
    const labels = Object.keys(state.model.data.labels);
    const counts = COUNTS.map((count) => [count, `${number(count)} images`]);
    const colours = [["", "no colour"], ...labels.map((name) => [name, `colour by ${name}`])];
    return h("div", { class: "row controls" },
      segments("Layout", layouts, this.layout, (value) => { this.layout = value; this.load(); }),
      select("How many images", counts, (value) => { this.count = Number(value); this.load(); }, { value: this.count }),
      labels.length ? select("Colour by label", colours, (value) => { this.view.label = value; this.draw(); }) : null,
      button("Whole map", () => this.view.map && this.view.fit(), { symbol: "reset", title: "Show all of the map again" }), this.note);
  }
}

export function mount(root) {
  const panel = new MapPanel();
  const { view, selection, neighbours } = panel;
  const modes = [["move", "move", "A drag moves the map"], ["box", "box", "A drag selects images (or hold Shift)"]];
  root.append(
    head("Map", "Images with similar codes lie near each other. Click one for its neighbours; drag a box to make a group.",
      segments("What a drag does", modes, panel.mode, (mode) => { panel.mode = mode; })),
    panel.controls(), panel.legend, view.canvas, selection.element, neighbours.element);
  panel.load();
  const draw = () => view.draw();
  const resized = new ResizeObserver(draw);
  resized.observe(view.canvas);
  const off = on("theme", () => panel.draw());
  return () => { panel.closed = true; resized.disconnect(); off(); neighbours.channel.close(); };
}
