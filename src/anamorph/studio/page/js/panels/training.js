// The curves of one run or several, which are followed while they train; the pictures and reports of runs.

import { get } from "../api.js";
import { Curves, shortCount, shortValue } from "../curves.js";
import { on, state } from "../state.js";
import { button, h, head, segments, showError, slider } from "../ui.js";

const INTERVAL = 2000; // milliseconds between two requests
// The curve that says most about a training, by the role of a phase: the error of an inversion, the held-out cost of a prior.
const HEADLINES = { inversion: (phase) => phase.terms[0], prior: () => "check/held_out_nats_per_code" };
const ROLES = {
  reconstruction: "minimises a reconstruction error or a negative log-likelihood",
  critic: "learns to tell real from generated examples",
  generator: "learns to be taken for real by the critic",
  inversion: "teaches the encoder to invert the generator",
  prior: "learns the distribution of codes",
};
const PICTURES = /^(samples|reconstructions)-(\d+)/;

// The runs that are shown, with what is known of each: lines of its log, its phases, and whether it is training.
class Runs {
  constructor() { this.runs = new Map(); }

  toggle(id) {
    if (!this.runs.delete(id)) this.runs.set(id, { lines: [], phases: [] });
    return this.runs.has(id);
  }

  get entries() { return [...this.runs]; }
  get phases() { return [...this.runs.values()].flatMap((run) => run.phases); }

  // Names of all losses and metrics.
  get terms() {
    const lines = [...this.runs.values()].flatMap((run) => run.lines.slice(-1));
    return [...new Set(lines.flatMap((line) => Object.keys(line).filter((name) => name.includes("/"))))];
  }

  async update() {
    await Promise.all([...this.runs.keys()].map(async (id) => {
      const { lines } = this.runs.get(id);
      const answer = await get(`runs/${id}/metrics?after=${lines.at(-1)?.images ?? -1}`);
      if (this.runs.has(id)) this.runs.set(id, { ...answer, lines: [...lines, ...answer.lines] });
    }));
  }

  points(term) {
    return [...this.runs.values()].map((run) =>
      run.lines.filter((line) => Number.isFinite(line[term])).map((line) => [line.images, line[term]]));
  }
}

// A select of losses and metrics, grouped by the phase that logs them.
class TermSelect {
  constructor(runs, onchange) {
    this.runs = runs;
    this.element = h("select", { "aria-label": "Loss or metric", onchange: () => { this.explain(); onchange(); } });
  }

  get value() { return this.element.value || null; }

  phaseOf(term) { return this.runs.phases.find((phase) => phase.terms.includes(term)); }

  groupOf(term) {
    const phase = this.phaseOf(term);
    const prefix = term.split("/")[0];
    if (phase) return phase.role === phase.name ? phase.name : `${phase.name} (${phase.role})`;
    return prefix === "check" ? "health checks" : prefix;
  }

  update() {
    const { terms } = this.runs;
    const { options } = this.element;
    if (terms.length === options.length && terms.every((term, i) => options[i].value === term)) return;
    const { value } = this;
    const option = (term) => h("option", { value: term }, term.replaceAll("_", " "));
    const groups = Map.groupBy(terms, (term) => this.groupOf(term));
    this.element.replaceChildren(...[...groups].map(([label, group]) => h("optgroup", { label }, group.map(option))));
    const headlines = this.runs.phases.map((phase) => HEADLINES[phase.role]?.(phase));
    this.element.value = terms.includes(value) ? value : terms.find((term) => headlines.includes(term)) ?? terms[0] ?? "";
    this.explain();
  }

  explain() {
    const phase = this.value && this.phaseOf(this.value);
    this.element.title = phase ? `The phase ${phase.name} ${ROLES[phase.role]}` : "Measured at intervals, on the averaged weights";
  }
}

function legendEntry([id, run], colour, value) {
  const swatch = h("span", { class: "swatch" });
  swatch.style.background = colour;
  const seen = run.lines.at(-1)?.images ?? 0;
  const progress = run.running ? `training, ${Math.round((100 * seen) / (run.total || seen || 1))} %` : `${shortCount(seen)} images`;
  return h("span", { class: "key" }, swatch, h("strong", {}, id), h("span", { class: "soft" }, progress),
    h("span", { class: "number" }, value === undefined ? "–" : shortValue(value)));
}

class TrainingPanel {
  constructor() {
    Object.assign(this, { runs: new Runs(), closed: false, timer: 0 });
    this.legend = h("div", { class: "legend" });
    this.reports = h("div", { class: "row", "data-shown": "" });
    this.status = h("p", { class: "soft number" });
    this.curves = new Curves((x, values) => this.showValues(x, values));
    this.terms = new TermSelect(this.runs, () => this.draw());
  }

  draw() { this.curves.set(this.runs.points(this.terms.value)); }

  showValues(x, values) {
    this.status.textContent = x === null ? "\u00a0" : `at ${Math.round(x).toLocaleString("en")} images`;
    this.legend.replaceChildren(...this.runs.entries.map((entry, i) => legendEntry(entry, this.curves.colour(i), values[i])));
  }

  async follow() {
    clearTimeout(this.timer);
    try {
      await this.runs.update();
    } catch (error) {
      showError(error);
    }
    if (this.closed) return;
    this.terms.update();
    this.draw();
    this.showReports();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.follow(), INTERVAL);
  }

  // Links to the reports of the runs that have been evaluated; each opens in a window of its own.
  showReports() {
    const evaluated = this.runs.entries.filter(([, run]) => run.report).map(([id]) => id);
    if (this.reports.dataset.shown === evaluated.join(" ")) return;
    this.reports.dataset.shown = evaluated.join(" ");
    this.reports.replaceChildren(...evaluated.map((id) =>
      h("a", { class: "report", href: `/api/runs/${id}/report`, target: "_blank", rel: "noopener" }, `Evaluation of ${id}`)));
  }

  chips() {
    return h("div", { class: "chips" }, state.runs.map(({ id }) => {
      const chip = button(id, () => {
        chip.setAttribute("aria-pressed", String(this.runs.toggle(id)));
        this.follow();
      }, { kind: "chip", pressed: id === state.run });
      return chip;
    }));
  }

  controls() {
    const smoothing = slider({ label: "smoothing", hint: "Weight of the past in the exponential moving average", min: 0, max: 0.98, step: 0.02,
      value: this.curves.smoothing, inline: true, oninput: (v) => { this.curves.smoothing = v; this.curves.draw(); } });
    const scale = segments("Scale", [["linear", "linear"], ["log", "logarithmic"]], "linear", (value) => {
      this.curves.logarithmic = value === "log";
      this.curves.draw();
    });
    return h("div", { class: "row controls" }, this.terms.element, smoothing, scale);
  }
}

const images = (name) => Number(name.match(PICTURES)[2]);
const pictureTitle = (name) => name.replace(".png", "").replace(/-0*(\d+)/, (_, n) => ` at ${Number(n).toLocaleString("en")} images`);

// The pictures that the training has made; null if there are none.
async function gallery() {
  const names = await get(`runs/${state.run}/pictures`);
  const overviews = ["timeline.png", "codebook.png"].filter((name) => names.includes(name));
  const steps = names.filter((name) => PICTURES.test(name)).sort((a, b) => images(a) - images(b) || a.localeCompare(b));
  if (!overviews.length && !steps.length) return null;
  const image = h("img", { class: "left-behind", alt: "" });
  const show = (name) => {
    image.src = `/api/runs/${state.run}/pictures/${name}`;
    image.alt = pictureTitle(name);
    choice.value = name;
  };
  const choice = h("select", { "aria-label": "Picture", onchange: () => show(choice.value) },
    [...overviews, ...steps].map((name) => h("option", { value: name }, pictureTitle(name))));
  show(overviews[0] ?? steps.at(-1));
  return h("div", { class: "stack" }, h("div", { class: "row" }, h("h3", {}, "Pictures of this training"), choice), image);
}

export function mount(root) {
  const panel = new TrainingPanel();
  root.append(head("Training", "Losses and metrics of one run or several; those in progress are followed."), panel.chips(),
    h("div", { class: "card stack" }, panel.controls(), panel.curves.canvas, panel.status, panel.legend, panel.reports));
  panel.runs.toggle(state.run);
  panel.follow();
  gallery().then((element) => { if (element && !panel.closed) root.append(element); }).catch(showError);
  const draw = () => panel.curves.draw();
  const resized = new ResizeObserver(draw);
  resized.observe(panel.curves.canvas);
  const off = on("theme", draw);
  return () => { panel.closed = true; clearTimeout(panel.timer); resized.disconnect(); off(); };
}
