// Sliders along directions, in standard deviations. They are a view of the current point, so that undo moves them, too.

import { get } from "../api.js";
import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { saveEntries } from "../save.js";
import { defineGroup, noun, on, same, setCurrent, state } from "../state.js";
import { button, h, head, menu, segments, select, showError, slider, soft, toast } from "../ui.js";

const TITLES = { pca: "Principal components", sefa: "Style factors (SeFa)" };
const SET_HINT = "Where directions come from: principal components of codes, closed-form factors of style layers, labels, files, or two groups";
const LAYER_HINTS = {
  all: "All layers of the synthesis network",
  coarse: "The layers of the lowest resolutions: pose and shape",
  middle: "The layers in between: features",
  fine: "The layers of the highest resolutions: colours and texture",
  custom: "Choose layers one by one",
};
const NOTES = { logistic: "Logistic regression on labels", svm: "Support vector machine on labels", linear: "Least squares on labels",
  means: "Difference of two means" };
const SHOWN = 10;
const isOwn = (set) => /^[0-9a-f]{32}$/.test(set);

function setTitle(set) {
  const names = state.directionSets.get(set)?.names;
  if (set.startsWith("labels:")) return `Label: ${set.slice(7)}`;
  return TITLES[set] ?? (isOwn(set) && names?.length === 1 ? `Own: ${names[0]}` : set);
}

function sliderLabel(set, name, i) {
  return { pca: `Component ${i + 1}`, sefa: `Factor ${i + 1}` }[set] ?? name;
}

function caption(directions, i) {
  const [measure, values] = Object.entries(directions.measures)[0] ?? [];
  const size = "in standard deviations (σ) of codes";
  if (measure === undefined) return size;
  const value = measure === "variance" ? `${(100 * values[i]).toFixed(1)} % of the variance` : `${measure} ${values[i].toFixed(2)}`;
  return `${value}; ${size}`;
}

const base = () => (state.current.kind === "move" ? state.current.of : state.current);
const moves = () => (state.current.kind === "move" ? state.current.along : []);

// Which layers the sliders act on: all, a named range, or those that are chosen one by one.
class LayerChoice {
  constructor(onchange) {
    const { layers } = state.model;
    this.name = "all";
    this.custom = new Set(layers ? [...Array(layers.count).keys()] : []);
    this.onchange = onchange;
    this.element = layers ? this.build(layers) : null;
  }

  build(layers) {
    const chips = h("div", { class: "chips", hidden: true }, layers.sides.map((side, layer) => this.chip(side, layer)));
    const options = ["all", ...Object.keys(layers.groups), "custom"].map((name) => [name, name === "custom" ? "choose" : name, LAYER_HINTS[name]]);
    const control = segments("Layers", options, "all", (value) => {
      this.name = value;
      chips.hidden = value !== "custom";
      this.onchange();
    });
    return h("div", { class: "stack tight" }, h("h3", {}, "Layers"), control, chips);
  }

  chip(side, layer) {
    const chip = button(`${layer}`, () => {
      this.custom[this.custom.has(layer) ? "delete" : "add"](layer);
      chip.setAttribute("aria-pressed", String(this.custom.has(layer)));
      this.onchange();
    }, { kind: "chip", pressed: true, title: `Layer ${layer}, of feature maps of ${side} pixels` });
    return chip;
  }

  // Indices of layers; null for all of them.
  get value() {
    if (this.name === "all" || !state.model.layers) return null;
    return this.name === "custom" ? [...this.custom].sort((a, b) => a - b) : state.model.layers.groups[this.name];
  }
}

// The sliders of one set of directions.
class Sliders {
  constructor(onfollow) {
    const { directions } = state.model;
    this.set = state.editSet && directions.includes(state.editSet) ? state.editSet : directions[0];
    this.all = false;
    this.sliders = [];
    this.onfollow = onfollow;
    this.layers = new LayerChoice(() => this.follow());
    this.list = h("div", { class: "sliders" });
    this.note = soft("");
    this.more = button("Show all", () => { this.all = !this.all; this.build(); }, { kind: "bare small" });
    this.sets = select("Directions", [], (set) => this.choose(set), { hint: SET_HINT });
  }

  get element() {
    return h("div", { class: "card stack" }, h("div", { class: "row" }, this.sets, this.note), this.layers.element, this.list, this.more);
  }

  fillSets() {
    const own = [...state.directionSets.keys()].filter(isOwn);
    this.sets.fill([...state.model.directions, ...own].map((set) => [set, setTitle(set)]));
    this.sets.value = this.set;
  }

  async choose(set) {
    this.set = state.editSet = set;
    this.fillSets();
    try {
      if (!state.directionSets.has(set)) {
        state.directionSets.set(set, await get(`runs/${state.run}/directions/${encodeURIComponent(set)}`));
      }
      if (this.set === set) this.build();
    } catch (error) {
      this.list.replaceChildren(soft(error.message));
      showError(error);
    }
  }

  build() {
    const directions = state.directionSets.get(this.set);
    if (!directions) return;
    const { length } = directions.names;
    this.sliders = directions.names.slice(0, this.all ? length : SHOWN).map((name, i) => slider({
      label: sliderLabel(this.set, name, i), hint: caption(directions, i), min: -4, max: 4, step: 0.05, value: 0, rest: 0,
      format: (v) => `${v > 0 ? "+" : ""}${v.toFixed(2)} σ`, oninput: (v) => this.move(i, v),
    }));
    this.list.replaceChildren(...this.sliders);
    this.more.hidden = length <= SHOWN;
    this.more.textContent = this.all ? "Show fewer" : `Show all ${length}`;
    this.note.textContent = NOTES[directions.method] ?? "";
    this.follow();
  }

  matches(step, which) {
    return step.directions === this.set && step.which === which && same(step.layers ?? null, this.layers.value);
  }

  move(which, steps) {
    const layers = this.layers.value;
    if (layers !== null && !layers.length) return;
    const others = moves().filter((step) => !this.matches(step, which));
    const own = { directions: this.set, which, steps, ...(layers ? { layers } : {}) };
    const along = Math.abs(steps) < 1e-9 ? others : [...others, own];
    setCurrent(along.length ? { kind: "move", of: base(), along } : base(), { gesture: `edit ${this.set} ${which}` });
  }

  follow() {
    this.sliders.forEach((element, which) => element.set(moves().find((step) => this.matches(step, which))?.steps ?? 0));
    this.onfollow();
  }
}

// The edited image, with a button that shows it unedited while it is held.
function picturePane() {
  let held = false;
  const picture = cell("The edited image");
  const unedited = new Channel((header, blobs) => held && picture.show(blobs[0]), showError);
  const show = () => {
    if (held) unedited.send({ run: state.run, points: [base()], look: state.look });
    else if (state.picture) picture.show(state.picture);
  };
  const reset = button("Reset", () => setCurrent(base()), { symbol: "reset", title: "Remove all edits" });
  const compare = button("Hold to compare", () => {}, { title: `Hold to see the ${noun()} without the edits` });
  const hold = (next) => {
    if (held === next) return;
    held = next;
    compare.setAttribute("aria-pressed", String(next));
    show();
  };
  compare.addEventListener("pointerdown", () => hold(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) compare.addEventListener(end, () => hold(false));
  compare.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") hold(true); });
  const enable = () => { reset.disabled = compare.disabled = !moves().length; };
  const element = h("div", { class: "stack" }, h("div", { class: "big" }, picture.element), h("div", { class: "row centred" }, compare, reset));
  return { element, show, enable, close: () => unedited.close() };
}

// A direction from the mean of the pins in group A to that of group B.
function ownDirection(sliders) {
  const points = (group) => state.pins.filter((entry) => entry.group === group).map((entry) => entry.point);
  const name = h("input", { type: "text", maxlength: "60", placeholder: "name", "aria-label": "Name of the new direction" });
  const text = soft("");
  const make = button("Make a direction", async () => {
    try {
      const directions = await defineGroup({ name: name.value.trim() || "A to B", towards: points("b"), away: points("a") });
      sliders.choose(directions.set);
      toast("Positive values of the slider go from A to B");
    } catch (error) {
      showError(error);
    }
  });
  const count = () => {
    const [a, b] = [points("a").length, points("b").length];
    text.textContent = `Mark pins as A or B: the direction goes from the mean of A (${a}) to that of B (${b}).`;
    make.disabled = !a || !b;
  };
  return { element: h("div", { class: "card stack" }, h("h3", {}, "A direction of your own"), text, h("div", { class: "row" }, name, make)), count };
}

export function mount(root) {
  const pane = picturePane();
  const sliders = new Sliders(pane.enable);
  const own = ownDirection(sliders);
  root.append(
    head("Edit", "Each slider moves the code along one direction of the latent space. A double click resets it.",
      menu("Save", "save", saveEntries(() => ({ points: [state.current] }), `${state.run}-edited`))),
    h("div", { class: "split" }, pane.element, h("div", { class: "stack" }, sliders.element, own.element)));
  own.count();
  sliders.choose(sliders.set);
  pane.show();
  const off = [on("current", () => sliders.follow()), on("picture", pane.show), on("smooth", pane.show), on("pins", own.count)];
  return () => { off.forEach((stop) => stop()); pane.close(); };
}
