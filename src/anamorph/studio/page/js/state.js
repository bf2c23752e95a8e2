// What is looked at: the run, the current point with its history, the pins, and how points are shown.

import { post } from "./api.js";

export const state = {
  runs: [], run: "", facts: null, panel: "wall",
  current: null, picture: null, past: [], future: [],
  pins: [], groups: [], sets: new Map(),
  look: { noise: "fixed", noise_seed: 0 },
  smooth: localStorage.getItem("anamorph-smooth") !== "no", psi: 1,
};

const listeners = new Map();
export const on = (what, act) => {
  if (!listeners.has(what)) listeners.set(what, new Set());
  listeners.get(what).add(act);
  return () => listeners.get(what).delete(act);
};
export const tell = (what, ...said) => { for (const act of listeners.get(what) ?? []) act(...said); };

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// Takes a point as the current one. gesture: while it is the same one, the history grows by one step only.
let gesture = null;
export function setCurrent(point, { by = null } = {}) {
  if (same(point, state.current)) return;
  if (state.current !== null && (by === null || by !== gesture)) {
    state.past.push(state.current);
    if (state.past.length > 200) state.past.shift();
  }
  gesture = by;
  state.future = [];
  state.current = point;
  tell("current", by);
}
export const endGesture = () => { gesture = null; };
export function undo() {
  if (!state.past.length) return;
  state.future.push(state.current);
  state.current = state.past.pop();
  gesture = null;
  tell("current", null);
}
export function redo() {
  if (!state.future.length) return;
  state.past.push(state.current);
  state.current = state.future.pop();
  gesture = null;
  tell("current", null);
}

export function pin(point, group = "") {
  if (state.pins.some((p) => same(p.point, point))) return;
  state.pins.push({ point, group });
  tell("pins");
}
export function unpin(entry) {
  state.pins = state.pins.filter((p) => p !== entry);
  tell("pins");
}

export const setLook = (look) => { state.look = { ...state.look, ...look }; tell("look"); };

// A seed as it is drawn with the current truncation.
export function seeded(seed, extra = {}) {
  const point = { kind: "seed", seed, ...extra };
  return state.facts.w_mean && state.psi !== 1 ? { kind: "truncate", of: point, psi: state.psi } : point;
}

// Points that show what a model does before anything was chosen.
export const starting = (count) => {
  const pinned = state.pins.map((p) => p.point);
  const draws = state.facts.capabilities.includes("sample");
  const more = [...Array(count).keys()].map((i) => (draws ? seeded(i + 1) : { kind: "data", index: i }));
  return [...pinned, ...more].slice(0, count);
};

export async function defineGroup(group) {
  const found = await post(`runs/${state.run}/directions`, group);
  state.sets.set(found.set, found);
  if (!state.groups.some((g) => same(g, group))) state.groups.push(group);
  return found;
}

// What the model makes, in a word: image or sound.
export const noun = () => state.facts.signal.noun;

// Of a point, in words.
export function called(point) {
  switch (point.kind) {
    case "seed": return `seed ${point.seed}`;
    case "data": return `data ${point.index}`;
    case "file": return point.name || "image";
    case "codes": return "refined";
    case "mean": return `mean of ${point.of.length}`;
    case "truncate": return `${called(point.of)}, ψ ${point.psi}`;
    case "move": return point.along.length ? `${called(point.of)}, edited` : called(point.of);
    case "mix": return `${called(point.of)} × ${called(point.source)}`;
    case "between": return "in between";
    case "relabel": return `${called(point.of)}, ${point.labels.map(([name, i]) => state.facts.decoder_labels[name]?.[i] ?? i).join(", ")}`;
    case "paint": return `${called(point.of)}, painted`;
    default: return `${called(point.of)}, redrawn`;
  }
}
