// Samples without end. A tile is computed again while a slider moves; those in view first.

import { cell, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { saveEntries } from "../save.js";
import { noun, on, pin, same, seedPoint, setCurrent, setLook, state } from "../state.js";
import { draggable } from "../tray.js";
import { button, h, head, icon, menu, segments, select, showError, slider, slot } from "../ui.js";

const BATCH = 16;
const MOST_TILES = 4096;
const MOST_SAVED = 64;
const LARGEST_SEED = 9007199254740000;
const HINTS = {
  truncation: "Truncation moves w towards its mean: lower values give more typical, less diverse samples",
  temperature: "Temperature of the prior: lower values give likelier, less diverse samples",
  topP: "Nucleus sampling: only the likeliest codes are sampled, whose probabilities sum to p",
  noise: "Noise maps add the detail that codes do not hold",
};

// How seeds are sampled: the settings that the sliders and selects have chosen.
const settings = { temperature: 1, topP: 1, labels: {} };

function pointOf(seed) {
  const chosen = Object.entries(settings.labels).filter(([, value]) => value >= 0);
  return seedPoint(seed, {
    ...(settings.temperature === 1 ? {} : { temperature: settings.temperature }),
    ...(settings.topP < 1 ? { top_p: settings.topP } : {}),
    ...(chosen.length ? { labels: chosen } : {}),
  });
}

class Tile {
  constructor(seed, visible, onlike) {
    Object.assign(this, { seed, visible, cell: cell(`seed ${seed}`), version: -1, liked: false, onlike });
    this.like = h("button", { type: "button", class: "like", "aria-pressed": "false", "aria-label": `Like seed ${seed}`,
      title: "Like (L)", onclick: () => this.toggle() }, icon("like"));
    this.take = slot(this.cell, `seed ${seed}: make it the current ${noun()}`, () => setCurrent(this.point));
    this.element = draggable(h("div", { class: "tile" }, this.take, this.like), () => this.point);
    this.element.addEventListener("keydown", (event) => { if (event.key.toLowerCase() === "l") this.toggle(); });
    this.element.tile = this;
  }

  get point() { return pointOf(this.seed); }

  toggle() {
    this.liked = !this.liked;
    this.like.setAttribute("aria-pressed", String(this.liked));
    this.onlike();
  }

  mark() { this.take.setAttribute("aria-current", String(same(this.point, state.current))); }
}

// The tiles, which grow at the end when it comes into view.
class Tiles {
  constructor(onlike) {
    Object.assign(this, { first: 1, version: 0, waiting: false, tiles: [], onlike });
    this.element = h("div", { class: "wall" });
    this.sentinel = h("div", { class: "sentinel" });
    this.channel = new Channel((header, blobs, context) => this.show(blobs, context), (error) => { this.waiting = false; showError(error); });
    this.inView = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.target.tile.visible = entry.isIntersecting;
      this.request();
    }, { rootMargin: "120px" });
    this.atEnd = new IntersectionObserver((entries) => { if (entries[0].isIntersecting) this.grow(); }, { rootMargin: "500px" });
  }

  grow() {
    if (this.tiles.length >= MOST_TILES) return;
    for (let i = 0; i < BATCH; i++) this.add(this.first + this.tiles.length);
    this.atEnd.unobserve(this.sentinel);
    this.atEnd.observe(this.sentinel); // reports again if it is still in view
  }

  add(seed) {
    const tile = new Tile(seed, this.tiles.length < 2 * BATCH, this.onlike);
    this.tiles.push(tile);
    this.element.append(tile.element);
    this.inView.observe(tile.element);
  }

  // Requests the next tiles in view that are out of date.
  request() {
    if (this.waiting) return;
    const stale = this.tiles.filter((tile) => tile.version !== this.version && tile.visible).slice(0, BATCH);
    if (!stale.length) return;
    this.waiting = true;
    const request = { run: state.run, points: stale.map((tile) => tile.point), look: state.look };
    this.channel.send(request, { tiles: stale, version: this.version });
  }

  async show(blobs, { tiles, version }) {
    this.waiting = false;
    for (const tile of tiles) tile.version = version;
    const shown = showAll(tiles.map((tile) => tile.cell), blobs);
    this.request();
    await shown;
  }

  update() {
    this.version += 1;
    this.request();
  }

  restart(seed) {
    this.first = seed;
    this.tiles.length = 0;
    this.element.replaceChildren();
    this.onlike();
    this.update();
    this.grow();
  }

  get liked() { return this.tiles.filter((tile) => tile.liked); }

  get inViewPoints() { return this.tiles.filter((tile) => tile.visible).slice(0, MOST_SAVED).map((tile) => tile.point); }

  mark() { for (const tile of this.tiles) tile.mark(); }

  close() {
    this.channel.close();
    this.inView.disconnect();
    this.atEnd.disconnect();
  }
}

// What can be done with the liked tiles; hidden while there are none.
function likedBar(tiles) {
  const points = () => tiles().liked.map((tile) => tile.point);
  const pinAll = (group) => points().forEach((point) => pin(point, group));
  const count = h("strong");
  const group = (name) => button(`Group ${name}`, () => pinAll(name.toLowerCase()),
    { title: `Pin them in group ${name}, for a direction from A to B` });
  const mean = button("Use their mean", () => setCurrent({ kind: "mean", of: points() }),
    { kind: "main", title: `Make the mean of their codes the current ${noun()}` });
  const element = h("div", { class: "liked card", hidden: true }, count,
    state.model.discrete ? null : mean,
    button("Pin them", () => pinAll(""), { symbol: "pin" }),
    ...(state.model.discrete ? [] : [group("A"), group("B")]),
    button("Clear", () => tiles().liked.forEach((tile) => tile.toggle()), { kind: "bare" }));
  const show = () => {
    const { length } = tiles().liked;
    element.hidden = length === 0;
    count.textContent = `${length} liked`;
  };
  return { element, show };
}

function seedControls(tiles) {
  const start = (seed) => { input.value = String(seed); tiles.restart(seed); };
  const input = h("input", { type: "number", min: "0", max: String(LARGEST_SEED), value: "1",
    onchange: () => start(Math.max(0, Math.floor(input.valueAsNumber || 0))) });
  return [h("label", { class: "field", title: "The seed of the first sample; the others count on from it" }, "from seed", input),
    button("Other samples", () => start(Math.floor(Math.random() * 1e6)), { symbol: "dice", title: "Start at a random seed" })];
}

function samplingControls(update) {
  const controls = [];
  const add = (label, hint, min, max, step, value, apply) => controls.push(
    slider({ label, hint, min, max, step, value, rest: 1, inline: true, oninput: (v) => { apply(v); update(); } }));
  if (state.model.w_mean) add("truncation ψ", HINTS.truncation, 0, 1.5, 0.01, state.psi, (v) => { state.psi = v; });
  if (state.model.temperature) {
    add("temperature", HINTS.temperature, 0.1, 2, 0.05, 1, (v) => { settings.temperature = v; });
    add("top-p", HINTS.topP, 0.1, 1, 0.05, 1, (v) => { settings.topP = v; });
  }
  return controls;
}

function noiseControl() {
  const change = (noise) => setLook({ noise, noise_seed: noise === "fresh" ? state.look.noise_seed + 1 : 0 });
  const options = [["fixed", "fixed noise", HINTS.noise], ["off", "off", "Decode without noise maps"],
    ["fresh", "random", "New noise maps at each click"]];
  return segments("Noise maps", options, state.look.noise, change);
}

function classControls(update) {
  return Object.entries(state.model.classes).map(([name, classes]) => {
    const options = [[-1, "any"], ...classes.map((text, i) => [i, text])];
    const change = (value) => { settings.labels[name] = Number(value); update(); };
    return h("label", { class: "field", title: `Condition the samples on a class of ${name}` }, name, select(name, options, change));
  });
}

export function mount(root) {
  Object.assign(settings, { temperature: 1, topP: 1, labels: {} });
  const audio = state.model.signal.kind === "audio";
  const bar = likedBar(() => tiles);
  const tiles = new Tiles(() => bar.show());
  const update = () => tiles.update();
  const controls = h("div", { class: "row controls" }, ...seedControls(tiles), ...samplingControls(update),
    state.model.noise ? noiseControl() : null, ...classControls(update));
  const help = audio ? "Click a sound to hear it and make it the current one; like some to pin them."
    : "Click an image to make it the current one; like several to use their mean.";
  root.append(
    head("Samples", `Samples of the model, without end. ${help}`,
      menu("Save", "save", saveEntries(() => ({ points: tiles.inViewPoints }), `${state.run}-samples`))),
    controls, tiles.element, tiles.sentinel, bar.element);
  const off = [on("look", update), on("smooth", update), on("current", () => tiles.mark())];
  tiles.grow();
  tiles.mark();
  tiles.request();
  tiles.atEnd.observe(tiles.sentinel);
  return () => { off.forEach((stop) => stop()); tiles.close(); };
}
