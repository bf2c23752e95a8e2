// The same images, or the same seeds, in several models.

import { get, postFor, upload } from "../api.js";
import { cell, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { noun, on, same, state } from "../state.js";
import { button, h, head, segments, showError, toast } from "../ui.js";

const SHOWN = 6;
const MOST_MODELS = 4;
const AT_FIRST = 3;
const indices = [...Array(SHOWN).keys()];
const sorted = (signal) => Object.entries(signal ?? {}).sort();
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// A point with the labels that its data give it, as far as a model decodes them, by the model's own number of each class.
function withLabels(model, { point, labels }) {
  const known = Object.entries(model.decoder_labels).map(([name, classes]) => [name, classes.indexOf(labels[name])]).filter(([, i]) => i >= 0);
  return known.length ? { kind: "relabel", of: point, labels: known } : point;
}

class Comparison {
  constructor() {
    this.model = state.model;
    this.mode = this.model.data ? "data" : "seed";
    this.first = 0;
    this.closed = false;
    this.inputs = [];
    this.rows = new Map();
    this.uploads = new Map();
    const mine = sorted(state.runs.find((run) => run.id === state.run).signal);
    this.candidates = state.runs.filter((run) => run.seen !== null && same(sorted(run.signal), mine));
    this.originals = indices.map(() => cell(`The original ${noun()}`));
    this.originalRow = h("div", { class: "compare-row" },
      h("div", { class: "who" }, h("strong", {}, noun()), h("span", { class: "soft" }, "held out")), ...this.originals.map((c) => c.element));
    this.element = h("div", { class: "compare" });
  }

  // Images of this run's data are uploaded for the others, whose data may be other ones.
  async uploaded(index) {
    if (!this.uploads.has(index)) {
      const response = await postFor(`runs/${state.run}/original`, { point: { kind: "data", index } });
      const labels = JSON.parse(response.headers.get("labels"));
      const { digest } = await upload(await response.blob());
      this.uploads.set(index, { point: { kind: "file", digest, name: `data ${index}` }, labels });
    }
    return this.uploads.get(index);
  }

  async chooseInputs() {
    const { first, mode } = this;
    const { size } = this.model.data ?? {};
    const inputs = await Promise.all(indices.map((i) =>
      (mode === "data" ? this.uploaded((first + i) % size) : { point: { kind: "seed", seed: first + i + 1 }, labels: {} })));
    if (first !== this.first || mode !== this.mode) return;
    this.inputs = inputs;
    this.arrange();
    this.rows.forEach((row) => this.request(row));
  }

  update() { this.chooseInputs().catch(showError); }

  turn(by) {
    this.first = Math.max(0, this.first + by * SHOWN);
    this.update();
  }

  setMode(mode) {
    this.mode = mode;
    this.first = 0;
    this.update();
  }

  async add(id) {
    const model = id === state.run ? this.model : await get(`runs/${id}`);
    if (this.closed) return;
    const row = { id, model, cells: indices.map((i) => cell(`${id}, ${i + 1}`)), error: h("span", { class: "soft number" }) };
    const title = h("div", { class: "who", title: model.title }, h("strong", {}, id), h("span", { class: "soft" }, model.model), row.error);
    row.element = h("div", { class: "compare-row" }, title, ...row.cells.map((c) => c.element));
    row.channel = new Channel((header, blobs) => this.show(row, header, blobs), (text) => showError(`${id}: ${text}`));
    this.rows.set(id, row);
    this.arrange();
    this.request(row);
  }

  remove(id) {
    this.rows.get(id)?.channel.close();
    this.rows.delete(id);
    this.arrange();
  }

  can(row) { return row.model.capabilities.includes(this.mode === "data" ? "encode" : "sample"); }

  // The first row that shows something also brings the originals.
  bringsOriginals(row) {
    const first = this.candidates.find((run) => this.rows.has(run.id) && this.can(this.rows.get(run.id)));
    return this.mode === "data" && row.id === first?.id;
  }

  async show(row, header, blobs) {
    const audio = this.model.signal.kind === "audio";
    const error = () => (audio ? `${mean(header.errors).toFixed(1)} dB` : mean(header.errors).toFixed(4));
    row.error.textContent = this.mode === "data" ? `error ${error()}` : "";
    row.error.title = `The mean ${audio ? "log-spectral distance" : "squared error, of pixels in [-1, 1]"}; lower is better`;
    await Promise.all([showAll(row.cells, blobs.slice(0, SHOWN)),
      this.bringsOriginals(row) ? showAll(this.originals, blobs.slice(SHOWN)) : null]);
  }

  arrange() {
    this.originalRow.hidden = this.mode !== "data";
    const rows = this.candidates.filter((run) => this.rows.has(run.id)).map((run) => this.rows.get(run.id));
    this.element.replaceChildren(this.originalRow, ...rows.map((row) => row.element));
    for (const row of rows) row.element.classList.toggle("cannot", !this.can(row));
  }

  request(row) {
    if (!this.inputs.length || !this.can(row)) return;
    const points = this.inputs.map((input) => withLabels(row.model, input));
    row.channel.send({ run: row.id, points, look: { noise: "fixed" }, originals: this.mode === "data" });
  }

  close() {
    this.closed = true;
    this.rows.forEach((row) => row.channel.close());
  }
}

// Buttons that choose the models; a few are chosen at first, the current one among them.
function runChips(comparison) {
  const { candidates, rows } = comparison;
  const chips = new Map();
  const toggle = async (id) => {
    const pressed = !rows.has(id);
    if (pressed && rows.size >= MOST_MODELS) {
      toast(`at most ${MOST_MODELS} models fit side by side: remove one first`, true);
      return;
    }
    chips.get(id).setAttribute("aria-pressed", String(pressed));
    try {
      if (pressed) await comparison.add(id);
      else comparison.remove(id);
    } catch (error) {
      showError(`${id}: ${error.message}`);
      chips.get(id).setAttribute("aria-pressed", "false");
    }
  };
  for (const { id } of candidates) chips.set(id, button(id, () => toggle(id), { kind: "chip", pressed: false }));
  const others = candidates.filter((run) => run.id !== state.run);
  const mine = candidates.filter((run) => run.id === state.run);
  [...mine, ...others].slice(0, AT_FIRST).forEach((run) => toggle(run.id));
  return h("div", { class: "chips" }, ...chips.values());
}

export function mount(root) {
  const comparison = new Comparison();
  const modes = [...(state.model.data ? [["data", "reconstructions", "Held-out data, encoded and decoded"]] : []),
    ["seed", "samples", "The same seeds"]];
  root.append(
    head("Compare", `The same ${noun()}s, or the same seeds, in several models.`,
      segments("What is compared", modes, comparison.mode, (mode) => comparison.setMode(mode)),
      h("div", { class: "row" }, button("Previous", () => comparison.turn(-1)), button("Next", () => comparison.turn(1)))),
    runChips(comparison), comparison.element);
  comparison.update();
  const off = on("smooth", () => comparison.update());
  return () => { off(); comparison.close(); };
}
