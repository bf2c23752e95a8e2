// A signal and its reconstruction, side by side under a divider, with the error; its code can be refined by optimisation, live.

import { upload } from "../api.js";
import { cell, play, showAll } from "../cell.js";
import { Channel } from "../live.js";
import { saveEntries } from "../save.js";
import { noun, on, pointTitle, same, setCurrent, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, select, showError, slider, slot, soft } from "../ui.js";

const PAGE = 12;
const MOST_FILES = 16;
const MOST_PICTURES = 64;
const SPACES = {
  w: ["one code", "One code for all layers (W)"],
  "w+": ["per layer", "A code of its own for each layer (W+)"],
  noise: ["with noise", "A code for each layer (W+), and the noise maps"],
};
const IMAGES = { type: "image/", ending: /\.(png|jpe?g|webp|gif|bmp|tiff?)$/i, accept: "image/*", formats: "PNG, JPEG, WebP, GIF, BMP or TIFF" };
const SOUNDS = { type: "audio/", ending: /\.(wav|flac|ogg)$/i, accept: "audio/*,.flac", formats: "WAV, FLAC or OGG" };
const HINTS = {
  "mean squared error": "Of pixels in [-1, 1]; lower is better",
  "error before": "Mean squared error of the encoder's code; lower is better",
  "error after": "Mean squared error of the refined code; lower is better",
  PSNR: "Peak signal-to-noise ratio; higher is better",
  "log-spectral distance": "Root mean squared difference of log-spectra; lower is better",
};
const isAudio = () => state.model.signal.kind === "audio";
const encodable = (point) => point?.kind === "data" || point?.kind === "file";
const article = () => (isAudio() ? "a sound" : "an image");
const psnr = (error) => ["PSNR", `${(10 * Math.log10(4 / error)).toFixed(1)} dB`];

// The two pictures under a divider, and numbers below.
class Stage {
  constructor() {
    this.original = cell(`The ${noun()}`);
    this.reconstruction = cell("Its reconstruction");
    this.numbers = h("dl", { class: "numbers" });
    const divider = h("input", { type: "range", class: "divider", min: "0", max: "100", value: "50",
      "aria-label": "How much of the reconstruction is shown" });
    this.element = h("div", { class: "stage" }, this.original.element, h("div", { class: "over" }, this.reconstruction.element),
      h("span", { class: "line" }), h("span", { class: "tag left" }, "reconstruction"), h("span", { class: "tag right" }, noun()), divider);
    const wipe = () => this.element.style.setProperty("--at", `${divider.value}%`);
    divider.addEventListener("input", wipe);
    wipe();
  }

  showNumbers(entries) {
    this.numbers.replaceChildren(...entries.flatMap(([name, value]) =>
      [h("dt", { title: HINTS[name] }, name), h("dd", { class: "number" }, value)]));
  }

  showError(error) {
    if (isAudio()) this.showNumbers([["log-spectral distance", `${error.toFixed(1)} dB`]]);
    else this.showNumbers([["mean squared error", error.toFixed(4)], psnr(error)]);
  }
}

// The target, what is computed of it, and the streams of pictures.
class Reconstruction {
  constructor() {
    this.stage = new Stage();
    this.target = null;
    this.onchoose = () => {};
    this.encoding = new Channel(async (header, blobs) => {
      this.stage.showError(header.errors[0]);
      await showAll([this.stage.reconstruction, this.stage.original], blobs);
    }, showError);
    this.relabelling = new Channel((header, blobs) => this.stage.reconstruction.show(blobs[0]), showError);
    // The same codes conditioned on another class, such as another speaker.
    this.classSelects = Object.entries(state.model.decoder_labels).map(([name, classes]) => {
      const options = [["", "unchanged"], ...classes.map((text, i) => [i, text])];
      const element = select(name, options, () => this.relabel(), { hint: `Decode the same codes conditioned on another ${name}` });
      element.dataset.name = name;
      return element;
    });
  }

  choose(point) {
    this.target = point;
    for (const element of this.classSelects) element.value = "";
    setCurrent(point);
    this.onchoose();
    this.show();
  }

  show() {
    if (this.target) this.encoding.send({ run: state.run, points: [this.target], look: state.look, originals: true });
  }

  relabel() {
    const labels = this.classSelects.filter((element) => element.value !== "").map((element) => [element.dataset.name, Number(element.value)]);
    const point = labels.length ? { kind: "relabel", of: this.target, labels } : this.target;
    setCurrent(point);
    this.relabelling.send({ run: state.run, points: [point], look: state.look });
  }

  close() {
    this.encoding.close();
    this.relabelling.close();
  }
}

// Signals to choose from: files that were brought, and a page of the held-out data.
class Strip {
  constructor(choose) {
    Object.assign(this, { choose, page: 0, files: [], boxes: [], target: null });
    this.element = h("div", { class: "filmstrip" });
    this.channel = new Channel((header, blobs, cells) => showAll(cells, blobs.slice(cells.length)), showError);
  }

  get points() {
    const size = state.model.data?.size ?? 0;
    const indices = [...Array(PAGE).keys()].map((i) => this.page * PAGE + i).filter((i) => i < size);
    return [...this.files, ...indices.map((index) => ({ kind: "data", index }))].slice(0, MOST_PICTURES);
  }

  show() {
    const { points } = this;
    const cells = points.map((point) => cell(pointTitle(point)));
    this.boxes = points.map((point, i) => {
      const title = point.kind === "data" ? `data:${point.index}` : point.name;
      return { point, element: draggable(slot(cells[i], title, () => this.choose(point)), () => point) };
    });
    this.element.replaceChildren(...this.boxes.map((box) => box.element));
    this.mark(this.target);
    if (points.length) this.channel.send({ run: state.run, points, look: state.look, originals: true }, cells);
  }

  mark(target) {
    this.target = target;
    for (const { point, element } of this.boxes) element.setAttribute("aria-current", String(same(point, target)));
  }

  pager() {
    const { size } = state.model.data;
    const turn = (by) => {
      this.page = Math.max(0, Math.min(this.page + by, Math.ceil(size / PAGE) - 1));
      input.value = String(this.page * PAGE);
      this.show();
    };
    const input = h("input", { type: "number", min: "0", max: String(size - 1), value: "0",
      onchange: () => { this.page = Math.floor((input.valueAsNumber || 0) / PAGE); turn(0); } });
    return h("div", { class: "row" }, button("Previous", () => turn(-1), { kind: "small" }), button("Next", () => turn(1), { kind: "small" }),
      h("label", { class: "field", title: "Data that the model was not trained on" }, `held-out ${noun()}`, input),
      h("span", { class: "soft" }, `of ${size.toLocaleString("en")}`));
  }
}

// Files that are dropped, pasted or picked: each is uploaded, and the last is chosen.
function fileZone(root, strip) {
  const { type, ending, accept, formats } = isAudio() ? SOUNDS : IMAGES;
  const add = async (list) => {
    const files = [...list].filter((file) => file.type.startsWith(type) || ending.test(file.name));
    if (!files.length) showError(`Drop ${noun()} files: ${formats}`);
    for (const file of files.slice(0, MOST_FILES)) {
      try {
        const { digest } = await upload(file);
        strip.files.unshift({ kind: "file", digest, name: file.name.slice(0, 80) });
      } catch (error) {
        showError(`${file.name}: ${error.message}`);
      }
    }
    if (!strip.files.length || !files.length) return;
    strip.show();
    strip.choose(strip.files[0]);
  };
  const onDrop = (event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  };
  const onPaste = (event) => { if (event.clipboardData?.files.length) add(event.clipboardData.files); };
  root.addEventListener("drop", onDrop);
  document.addEventListener("paste", onPaste);
  const input = h("input", { type: "file", accept, multiple: true, hidden: true, "aria-label": `Files of ${noun()}s`,
    onchange: () => { add(input.files); input.value = ""; } });
  const zone = h("button", { type: "button", class: "dropzone", onclick: () => input.click() },
    h("strong", {}, `Drop, paste or choose ${article()}`), h("span", { class: "soft" }, "it stays on this machine"));
  const close = () => { root.removeEventListener("drop", onDrop); document.removeEventListener("paste", onPaste); };
  return { elements: [zone, input], close };
}

// Optimises the code of the target, and shows each step.
class Refinement {
  constructor(reconstruction) {
    Object.assign(this, { reconstruction, running: false, free: state.model.layers ? "w+" : "w", steps: 200 });
    this.bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the refinement" });
    this.button = button("Refine", () => (this.running ? this.stop() : this.start()), { symbol: "play", kind: "main" });
    this.channel = new Channel((header, blobs) => this.show(header, blobs), (error) => { this.setRunning(false); showError(error); });
  }

  setRunning(running) {
    this.running = running;
    this.button.lastChild.textContent = running ? "Stop" : "Refine";
    this.bar.hidden = !running;
  }

  start() {
    const { target } = this.reconstruction;
    if (target === null) return;
    this.setRunning(true);
    this.bar.value = 0;
    const { free, steps } = this;
    this.channel.send({ run: state.run, points: [target], look: { noise: "fixed" }, project: { free, steps } });
  }

  stop() {
    if (!this.running) return;
    this.channel.send({ stop: true });
    this.setRunning(false);
  }

  async show(header, blobs) {
    const { stage } = this.reconstruction;
    this.bar.value = header.step / header.steps;
    const drawn = stage.reconstruction.show(blobs[0]);
    if (header.point) {
      this.setRunning(false);
      stage.showNumbers([["error before", header.before.toFixed(4)], ["error after", header.after.toFixed(4)], psnr(header.after)]);
      setCurrent(header.point);
    }
    await drawn;
  }

  get element() {
    if (state.model.discrete) return null;
    const spaces = Object.keys(SPACES).filter((key) => key === "w" || (key === "w+" && state.model.layers) || (key === "noise" && state.model.noise));
    const options = spaces.map((key) => [key, ...SPACES[key]]);
    const steps = slider({ label: "steps", hint: "Steps of the optimiser", min: 20, max: 1000, step: 20, value: 200, format: (v) => String(v),
      oninput: (v) => { this.steps = v; } });
    return h("div", { class: "card stack" }, h("h3", {}, "Refine by optimisation (projection)"),
      soft(`Optimises the code so that the reconstruction comes closer to the ${noun()}.`),
      options.length > 1 ? segments("What is optimised", options, this.free, (value) => { this.free = value; }) : null,
      steps, h("div", { class: "row" }, this.button), this.bar);
  }
}

function listening({ stage, classSelects }) {
  return h("div", { class: "row centred controls" },
    button("Original", () => play(stage.original), { symbol: "play", title: "Play the original" }),
    button("Reconstruction", () => play(stage.reconstruction), { symbol: "play", kind: "main", title: "Play the reconstruction" }),
    ...classSelects.map((element) => h("label", { class: "field" }, element.dataset.name, element)));
}

export function mount(root) {
  const reconstruction = new Reconstruction();
  const { stage } = reconstruction;
  const choose = (point) => reconstruction.choose(point);
  const refinement = new Refinement(reconstruction);
  const strip = new Strip(choose);
  reconstruction.onchoose = () => { refinement.stop(); strip.mark(reconstruction.target); };
  const zone = fileZone(root, strip);
  droppable(stage.element, choose);
  const pager = state.model.data ? strip.pager() : soft(`The ${noun()}s of this run cannot be found: bring some of your own.`);
  const help = isAudio() ? "Drag the divider to compare, and listen to both." : "Drag the divider to compare.";
  root.append(
    head("Reconstruct", `Encode ${article()}, and decode it again. ${help}`,
      menu("Save", "save", saveEntries(() => ({ points: [state.current] }), `${state.run}-reconstruction`))),
    h("div", { class: "split" },
      h("div", { class: "stack" }, stage.element, isAudio() ? listening(reconstruction) : null, stage.numbers),
      h("div", { class: "stack" }, ...zone.elements, h("div", { class: "card stack" }, h("h3", {}, "From the data"), strip.element, pager),
        refinement.element)));
  strip.show();
  if (encodable(state.current)) choose(state.current);
  else if (state.model.data) choose({ kind: "data", index: 0 });
  const off = on("look", () => reconstruction.show());
  return () => { off(); zone.close(); [reconstruction, strip.channel, refinement.channel].forEach((part) => part.close()); };
}
