// The state of the page: the run, the current point with its history, the pins, and how points are decoded.

import { post } from "./api.js";

export const state = {
  runs: [], run: "", model: null, panel: "wall",
  current: null, picture: null, past: [], future: [],
  pins: [], groups: [], directionSets: new Map(),
  look: { noise: "fixed", noise_seed: 0 },
  smooth: localStorage.getItem("anamorph-smooth") !== "no", psi: 1,
};
const HISTORY = 200;

const listeners = new Map();
// Calls a function at every event of a name; returns what ends that.
export const on = (event, listener) => {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(listener);
  return () => listeners.get(event).delete(listener);
};
export const emit = (event, ...values) => { for (const listener of listeners.get(event) ?? []) listener(...values); };

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// Makes a point the current one. gesture: while it stays the same, the history grows by one step only.
let lastGesture = null;
export function setCurrent(point, { gesture = null } = {}) {
  if (same(point, state.current)) return;
  if (state.current !== null && (gesture === null || gesture !== lastGesture)) {
    state.past.push(state.current);
    if (state.past.length > HISTORY) state.past.shift();
  }
  lastGesture = gesture;
  state.future = [];
  state.current = point;
  emit("current");
}
export const endGesture = () => { lastGesture = null; };

function travel(from, to) {
  if (!from.length) return;
  to.push(state.current);
  state.current = from.pop();
  lastGesture = null;
  emit("current");
}
export const undo = () => travel(state.past, state.future);
export const redo = () => travel(state.future, state.past);

export function pin(point, group = "") {
  if (state.pins.some((entry) => same(entry.point, point))) return;
  state.pins.push({ point, group });
  emit("pins");
}
export function unpin(entry) {
  state.pins = state.pins.filter((other) => other !== entry);
  emit("pins");
}

export const setLook = (changes) => {
  state.look = { ...state.look, ...changes };
  emit("look");
};

export const canSample = () => state.model.capabilities.includes("sample");

// The point of a seed, with the current truncation.
export function seedPoint(seed, settings = {}) {
  const point = { kind: "seed", seed, ...settings };
  return state.model.w_mean && state.psi !== 1 ? { kind: "truncate", of: point, psi: state.psi } : point;
}

export const randomPoint = () => (canSample()
  ? { kind: "seed", seed: Math.floor(Math.random() * 1e6) }
  : { kind: "data", index: Math.floor(Math.random() * state.model.data.size) });

// Points to begin with: the pins, then the first seeds or images of the data.
export const initialPoints = (count) => {
  const others = [...Array(count).keys()].map((i) => (canSample() ? seedPoint(i + 1) : { kind: "data", index: i }));
  return [...state.pins.map((entry) => entry.point), ...others].slice(0, count);
};

export async function defineGroup(group) {
  const directions = await post(`runs/${state.run}/directions`, group);
  state.directionSets.set(directions.set, directions);
  if (!state.groups.some((other) => same(other, group))) state.groups.push(group);
  return directions;
}

// The word for what the model makes: image or sound.
export const noun = () => state.model.signal.noun;

const className = ([label, i]) => state.model.decoder_labels[label]?.[i] ?? i;

// A short description of a point.
export function pointTitle(point) {
  switch (point.kind) {
    case "seed": return `seed ${point.seed}`;
    case "data": return `data ${point.index}`;
    case "file": return point.name || "image";
    case "codes": return "refined";
    case "mean": return `mean of ${point.of.length}`;
    case "truncate": return `${pointTitle(point.of)}, ψ ${point.psi}`;
    case "move": return point.along.length ? `${pointTitle(point.of)}, edited` : pointTitle(point.of);
    case "mix": return `${pointTitle(point.of)} × ${pointTitle(point.source)}`;
    case "between": return "interpolated";
    case "relabel": return `${pointTitle(point.of)}, ${point.labels.map(className).join(", ")}`;
    case "paint": return `${pointTitle(point.of)}, painted`;
    default: return `${pointTitle(point.of)}, resampled`;
  }
}
