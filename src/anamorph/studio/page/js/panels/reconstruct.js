// An image, and what the model makes of it: side by side under a divider, with the error; refined by optimisation, live.

import { upload } from "../api.js";
import { cell, play } from "../cell.js";
import { Channel } from "../live.js";
import { saving } from "../save.js";
import { noun, on, setCurrent, state } from "../state.js";
import { draggable, droppable } from "../tray.js";
import { button, h, head, menu, segments, slider, toast } from "../ui.js";

const PAGE = 12;
const FREE = { w: "one code", "w+": "per layer", noise: "with noise" };
const PICTURES = ["image/", /\.(png|jpe?g|webp|gif|bmp|tiff?)$/i, "image/*", "PNG, JPEG, WebP, GIF, BMP or TIFF"];
const SOUNDS = ["audio/", /\.(wav|flac|ogg)$/i, "audio/*,.flac", "WAV, FLAC or OGG"];
const original = (point) => point?.kind === "data" || point?.kind === "file";

export function mount(root) {
  const facts = state.facts;
  let page = 0, target = null, refining = false;
  const files = [];
  const audio = facts.signal.kind === "audio";
  const [type, ending, accept, kinds] = audio ? SOUNDS : PICTURES;
  const before = cell(`The ${noun()}`), after = cell("Its reconstruction");
  const divider = h("input", { type: "range", class: "divider", min: "0", max: "100", value: "50", "aria-label": "How much of the reconstruction is shown" });
  const stage = h("div", { class: "stage" }, before.element, h("div", { class: "over" }, after.element), h("span", { class: "line" }),
    h("span", { class: "tag left" }, "reconstruction"), h("span", { class: "tag right" }, noun()), divider);
  const wipe = () => stage.style.setProperty("--at", `${divider.value}%`);
  divider.addEventListener("input", wipe);
  wipe();
  const numbers = h("dl", { class: "numbers" });
  const showNumbers = (entries) => numbers.replaceChildren(...entries.flatMap(([what, value]) => [h("dt", {}, what), h("dd", { class: "number" }, value)]));

  const main = new Channel(async (header, blobs) => {
    const [error] = header.errors;
    showNumbers(audio ? [["log-spectral distance", `${error.toFixed(1)} dB`]] : [["mean squared error", error.toFixed(4)], ["PSNR", `${(10 * Math.log10(4 / error)).toFixed(1)} dB`]]);
    await Promise.all([after.show(blobs[0]), before.show(blobs[1])]);
  }, (error) => toast(error, true));
  const strip = new Channel((header, blobs, request) => Promise.all(blobs.slice(request.points.length).map((blob, i) => request.cells[i].show(blob))), (error) => toast(error, true));
  const work = new Channel(async (header, blobs) => {
    bar.value = header.step / header.steps;
    const showing = after.show(blobs[0]);
    if (header.point) {
      finish();
      showNumbers([["error before", header.before.toFixed(4)], ["error after", header.after.toFixed(4)], ["PSNR", `${(10 * Math.log10(4 / header.after)).toFixed(1)} dB`]]);
      setCurrent(header.point);
    }
    await showing;
  }, (error) => { finish(); toast(error, true); });

  function choose(point) {
    if (refining) stop();
    target = point;
    for (const select of voices) select.value = "";
    setCurrent(point);
    mark();
    main.ask({ run: state.run, points: [point], look: state.look, originals: true });
  }

  // The same codes with another label, such as who speaks.
  const voices = Object.entries(facts.decoder_labels).map(([name, classes]) => h("select", { "data-name": name, onchange: tellOther },
    h("option", { value: "" }, "as it was"), classes.map((text, i) => h("option", { value: String(i) }, text))));
  function tellOther() {
    const labels = voices.filter((select) => select.value !== "").map((select) => [select.dataset.name, Number(select.value)]);
    const point = labels.length ? { kind: "relabel", of: target, labels } : target;
    setCurrent(point);
    other.ask({ run: state.run, points: [point], look: state.look });
  }
  const other = new Channel((header, blobs) => after.show(blobs[0]), (error) => toast(error, true));

  const row = h("div", { class: "filmstrip" });
  let boxes = [];
  function showStrip() {
    const more = facts.data ? [...Array(PAGE).keys()].map((i) => page * PAGE + i).filter((i) => i < facts.data.size) : [];
    const points = [...files, ...more.map((index) => ({ kind: "data", index }))].slice(0, 64);
    const cells = points.map((point) => cell(point.kind === "data" ? `data ${point.index}` : point.name));
    boxes = points.map((point, i) => ({ point, element: draggable(h("button", { type: "button", class: "slot", title: point.kind === "data" ? `data:${point.index}` : point.name, onclick: () => choose(point) }, cells[i].element), () => point) }));
    row.replaceChildren(...boxes.map((box) => box.element));
    mark();
    if (!points.length) return;
    const request = { run: state.run, points, look: state.look, originals: true };
    Object.defineProperty(request, "cells", { value: cells });
    strip.ask(request);
  }
  const mark = () => boxes.forEach((box) => box.element.setAttribute("aria-current", String(JSON.stringify(box.point) === JSON.stringify(target))));

  async function bring(list) {
    const images = [...list].filter((file) => file.type.startsWith(type) || ending.test(file.name));
    if (!images.length) toast(`Drop ${noun()} files: ${kinds}`, true);
    for (const file of images.slice(0, 16)) {
      try {
        const { digest } = await upload(file);
        files.unshift({ kind: "file", digest, name: file.name.slice(0, 80) });
      } catch (error) {
        toast(`${file.name}: ${error.message}`, true);
      }
    }
    if (files.length && images.length) { showStrip(); choose(files[0]); }
  }

  const picker = h("input", { type: "file", accept, multiple: true, hidden: true, "aria-label": `Files of ${noun()}s`, onchange: () => { bring(picker.files); picker.value = ""; } });
  const zone = h("button", { type: "button", class: "dropzone", onclick: () => picker.click() }, h("strong", {}, `Drop, paste or pick ${audio ? "a sound" : "an image"}`), h("span", { class: "soft" }, "it stays on this machine"));
  const dropped = (event) => { if (event.dataTransfer?.files.length) { event.preventDefault(); bring(event.dataTransfer.files); } };
  const pasted = (event) => { if (event.clipboardData?.files.length) bring(event.clipboardData.files); };
  root.addEventListener("drop", dropped);
  document.addEventListener("paste", pasted);
  droppable(stage, (point) => choose(point));

  const turn = (by) => { page = Math.max(0, Math.min(page + by, Math.ceil(facts.data.size / PAGE) - 1)); at.value = String(page * PAGE); showStrip(); };
  const at = h("input", { type: "number", min: "0", max: String((facts.data?.size ?? 1) - 1), value: "0", onchange: () => { page = Math.floor((at.valueAsNumber || 0) / PAGE); turn(0); } });
  const pager = facts.data ? h("div", { class: "row" }, button("Earlier", () => turn(-1), { kind: "small" }), button("Later", () => turn(1), { kind: "small" }),
    h("label", { class: "field" }, `held-out ${noun()}`, at), h("span", { class: "soft" }, `of ${facts.data.size.toLocaleString("en")}`)) : null;

  let free = facts.layers ? "w+" : "w", steps = 200;
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "How far the refinement has come" });
  const go = button("Refine", () => (refining ? stop() : start()), { symbol: "play", kind: "main" });
  function start() {
    if (target === null) return;
    refining = true;
    go.lastChild.textContent = "Stop";
    bar.hidden = false;
    bar.value = 0;
    work.ask({ run: state.run, points: [target], look: { noise: "fixed" }, project: { free, steps } });
  }
  function finish() {
    refining = false;
    go.lastChild.textContent = "Refine";
    bar.hidden = true;
  }
  function stop() {
    work.ask({ stop: true });
    finish();
  }
  const ways = Object.entries(FREE).filter(([key]) => key === "w" || (key === "w+" && facts.layers) || (key === "noise" && facts.noise));
  const refine = facts.discrete ? null : h("div", { class: "card stack" }, h("h3", {}, "Refine by optimisation"),
    h("p", { class: "soft" }, "Moves the code, step by step, until its image comes closer."),
    ways.length > 1 ? segments("What is moved", ways, free, (value) => { free = value; }) : null,
    slider({ label: "steps", min: 20, max: 1000, step: 20, value: 200, format: (v) => String(v), oninput: (v) => { steps = v; } }), h("div", { class: "row" }, go), bar);

  const hear = audio ? h("div", { class: "row centred controls" },
    button("What was said", () => play(before), { symbol: "play" }), button("What came back", () => play(after), { symbol: "play", kind: "main" }),
    ...voices.map((select) => h("label", { class: "field" }, select.dataset.name, select))) : null;
  root.append(head("Reconstruct", `Encode ${audio ? "a sound" : "an image"} and decode it again: drag the divider to compare${audio ? ", and listen to both" : ""}.`,
    menu("Save", "save", saving(() => ({ points: [state.current] }), `${state.run}-reconstruction`))),
    h("div", { class: "split" }, h("div", { class: "stack" }, stage, hear, numbers), h("div", { class: "stack" }, zone, picker, h("div", { class: "card stack" }, h("h3", {}, "From the data"), row, pager ?? h("p", { class: "soft" }, `The run's ${noun()}s are not at hand.`)), refine)));
  showStrip();
  if (original(state.current)) choose(state.current);
  else if (facts.data) choose({ kind: "data", index: 0 });
  const off = on("look", () => target && main.ask({ run: state.run, points: [target], look: state.look, originals: true }));
  return () => { off(); root.removeEventListener("drop", dropped); document.removeEventListener("paste", pasted); [main, strip, work, other].forEach((channel) => channel.close()); };
}
