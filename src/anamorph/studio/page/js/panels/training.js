// How runs are doing: their curves, several overlaid, followed while they train; and the pictures they have left.

import { get } from "../api.js";
import { on, state } from "../state.js";
import { button, h, head, segments, slider, toast } from "../ui.js";

const EVERY = 2000;
// The curve that says most about a training, by the role of a phase: the error of an inversion, the held-out cost of a prior.
const HEADLINES = { inversion: (phase) => phase.terms[0], prior: () => "check/held_out_nats_per_code" };
const COLOURS = { light: ["#4338ca", "#c2410c", "#0f766e", "#be185d", "#4d7c0f", "#7c3aed"], dark: ["#aab4ff", "#fdba74", "#5eead4", "#f9a8d4", "#bef264", "#d8b4fe"] };
const dark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
const short = (n) => (n >= 1e6 ? `${+(n / 1e6).toPrecision(3)}M` : n >= 1e3 ? `${+(n / 1e3).toPrecision(3)}k` : String(n));
const label = (v) => (v === 0 ? "0" : Math.abs(v) < 0.01 || Math.abs(v) >= 1e4 ? v.toExponential(1) : String(+v.toPrecision(3)));

function ticks(low, high, count) {
  const raw = (high - low) / count, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-12; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

export function mount(root) {
  const runs = new Map(); // id -> {lines, total, running}
  let term = null, smoothing = 0.6, logarithmic = false, gone = false, timer = 0;
  const canvas = h("canvas", { class: "curves", role: "img", "aria-label": "The curves" });
  const legend = h("div", { class: "legend" });
  const reports = h("div", { class: "row", "data-shown": "" });
  const terms = h("select", { "aria-label": "What is drawn", onchange: () => { term = terms.value; draw(); } });
  const status = h("p", { class: "soft number" });
  let hover = null;

  async function follow(id) {
    const known = runs.get(id) ?? { lines: [] };
    const after = known.lines.at(-1)?.images ?? -1;
    const found = await get(`runs/${id}/metrics?after=${after}`);
    runs.set(id, { lines: [...known.lines, ...found.lines], total: found.total, running: found.running, report: found.report, phases: found.phases });
  }
  async function round() {
    clearTimeout(timer);
    try {
      await Promise.all([...runs.keys()].map(follow));
    } catch (error) {
      toast(error.message, true);
    }
    if (gone) return;
    choices();
    draw();
    offer();
    timer = setTimeout(round, EVERY);
  }
  // The reports of those that have been evaluated, each in a window of its own.
  function offer() {
    const measured = [...runs].filter(([, run]) => run.report).map(([id]) => id);
    if (reports.dataset.shown === measured.join(" ")) return;
    reports.dataset.shown = measured.join(" ");
    reports.replaceChildren(...measured.map((id) => h("a", { class: "report", href: `/api/runs/${id}/report`, target: "_blank", rel: "noopener" }, `Evaluation of ${id}`)));
  }
  function choices() {
    const names = [...new Set([...runs.values()].flatMap((run) => (run.lines.at(-1) ? Object.keys(run.lines.at(-1)).filter((name) => name.includes("/")) : [])))];
    if (names.length === terms.options.length && names.every((name, i) => terms.options[i].value === name)) return;
    const groups = Map.groupBy(names, groupOf);
    terms.replaceChildren(...[...groups].map(([group, all]) => h("optgroup", { label: group }, all.map((name) => h("option", { value: name }, name.replaceAll("_", " "))))));
    const headlines = [...runs.values()].flatMap((run) => run.phases ?? []).map((phase) => HEADLINES[phase.role]?.(phase));
    if (!names.includes(term)) term = names.find((name) => headlines.includes(name)) ?? names[0] ?? null;
    if (term) terms.value = term;
  }

  // A term belongs to its phase, which is called by its role, too; other numbers to what measures them.
  function groupOf(name) {
    const phase = [...runs.values()].flatMap((run) => run.phases ?? []).find((one) => one.terms.includes(name));
    const prefix = name.split("/")[0];
    if (phase) return phase.role === phase.name ? phase.name : `${phase.name} (${phase.role})`;
    return prefix === "check" ? "health checks" : prefix;
  }

  function series(run) {
    let mean = null;
    const raw = run.lines.filter((line) => Number.isFinite(line[term])).map((line) => [line.images, line[term]]);
    const smooth = raw.map(([at, v]) => [at, (mean = mean === null ? v : smoothing * mean + (1 - smoothing) * v)]);
    return { raw, smooth };
  }
  function draw() {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    if (!box.width) return;
    [canvas.width, canvas.height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colours = COLOURS[dark() ? "dark" : "light"];
    g.scale(ratio, ratio);
    g.font = `12px ${style.getPropertyValue("--font")}`;
    const all = [...runs].map(([id, run], i) => ({ id, run, colour: colours[i % colours.length], ...series(run) }));
    const scale = (v) => (logarithmic ? Math.log10(Math.max(v, 1e-12)) : v);
    const values = all.flatMap((s) => s.smooth.map(([, v]) => v)).filter((v) => !logarithmic || v > 0).map(scale);
    const sorted = [...values].sort((a, b) => a - b);
    const last = Math.max(1, ...all.flatMap((s) => [s.raw.at(-1)?.[0] ?? 0]));
    let low = sorted[Math.floor(0.005 * sorted.length)] ?? 0, high = sorted[Math.ceil(0.995 * sorted.length) - 1] ?? 1;
    if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
    const room = 0.06 * (high - low);
    [low, high] = [low - room, high + room];
    const left = 58, right = box.width - 14, top = 12, bottom = box.height - 30;
    const X = (v) => left + ((right - left) * v) / last, Y = (v) => bottom - ((bottom - top) * (scale(v) - low)) / (high - low);
    g.strokeStyle = style.getPropertyValue("--line");
    g.fillStyle = style.getPropertyValue("--soft");
    g.textAlign = "right";
    g.textBaseline = "middle";
    for (const v of ticks(low, high, 5)) {
      const y = bottom - ((bottom - top) * (v - low)) / (high - low);
      g.beginPath(); g.moveTo(left, y); g.lineTo(right, y); g.stroke();
      g.fillText(label(logarithmic ? 10 ** v : v), left - 8, y);
    }
    g.textAlign = "center";
    for (const v of ticks(0, last, Math.max(3, Math.floor(box.width / 140)))) g.fillText(short(v), X(v), bottom + 17);
    const path = (points, colour, width, alpha) => {
      g.strokeStyle = colour; g.lineWidth = width; g.globalAlpha = alpha; g.lineJoin = "round";
      g.beginPath();
      points.forEach(([at, v], i) => g[i ? "lineTo" : "moveTo"](X(at), Math.min(bottom + 2, Math.max(top - 2, Y(v)))));
      g.stroke();
      g.globalAlpha = 1;
    };
    for (const s of all) { if (smoothing > 0) path(s.raw, s.colour, 1, 0.22); path(s.smooth, s.colour, 2.2, 1); }
    let read = "";
    if (hover !== null && hover >= left && hover <= right) {
      const at = ((hover - left) / (right - left)) * last;
      g.strokeStyle = style.getPropertyValue("--edge"); g.lineWidth = 1;
      g.beginPath(); g.moveTo(hover, top); g.lineTo(hover, bottom); g.stroke();
      read = `at ${Math.round(at).toLocaleString("en")} images`;
      for (const s of all) {
        const near = s.smooth.reduce((best, p) => (Math.abs(p[0] - at) < Math.abs((best ?? p)[0] - at) ? p : best), s.smooth[0]);
        s.value = near ? label(near[1]) : "–";
        if (near) { g.fillStyle = s.colour; g.beginPath(); g.arc(X(near[0]), Y(near[1]), 4, 0, 7); g.fill(); }
      }
    }
    legend.replaceChildren(...all.map((s) => {
      const mark = h("span", { class: "swatch" });
      mark.style.background = s.colour;
      const seen = s.run.lines.at(-1)?.images ?? 0;
      return h("span", { class: "key" }, mark, h("strong", {}, s.id), h("span", { class: "soft" }, s.run.running ? `training, ${Math.round((100 * seen) / (s.run.total || seen || 1))} %` : `${short(seen)} images`),
        h("span", { class: "number" }, s.value ?? (s.smooth.length ? label(s.smooth.at(-1)[1]) : "–")));
    }));
    status.textContent = read || "\u00a0";
  }

  const picks = h("div", { class: "chips" }, state.runs.map((run) => {
    const chip = button(run.id, () => {
      if (runs.has(run.id)) runs.delete(run.id);
      else runs.set(run.id, { lines: [] });
      chip.setAttribute("aria-pressed", String(runs.has(run.id)));
      round();
    }, { kind: "chip", pressed: run.id === state.run });
    return chip;
  }));
  canvas.addEventListener("pointermove", (event) => { hover = event.offsetX; draw(); });
  canvas.addEventListener("pointerleave", () => { hover = null; draw(); });

  const gallery = h("div", { class: "stack" });
  async function pictures() {
    const names = await get(`runs/${state.run}/pictures`);
    if (gone || !names.length) return;
    const main = ["timeline.png", ...names.filter((name) => name === "codebook.png")].filter((name) => names.includes(name));
    const rest = names.filter((name) => /^(samples|reconstructions)-\d+/.test(name)).sort((a, b) => a.match(/\d+/)[0] - b.match(/\d+/)[0] || a.localeCompare(b));
    const image = h("img", { class: "left-behind", alt: "" });
    const show = (name) => { image.src = `/api/runs/${state.run}/pictures/${name}`; image.alt = name; pick.value = name; };
    const pick = h("select", { "aria-label": "Picture", onchange: () => show(pick.value) }, [...main, ...rest].map((name) => h("option", { value: name }, name.replace(".png", "").replace(/-0*(\d+)/, (_, n) => ` at ${Number(n).toLocaleString("en")} images`))));
    gallery.replaceChildren(h("div", { class: "row" }, h("h3", {}, "Pictures of this training"), pick), image);
    show(main[0] ?? rest.at(-1));
  }

  root.append(head("Training", "The curves of one run or several; those in progress grow while you watch."), picks,
    h("div", { class: "card stack" }, h("div", { class: "row controls" }, terms,
      slider({ label: "smoothing", min: 0, max: 0.98, step: 0.02, value: smoothing, inline: true, oninput: (v) => { smoothing = v; draw(); } }),
      segments("Scale", [["linear", "linear"], ["log", "logarithmic"]], "linear", (value) => { logarithmic = value === "log"; draw(); })), canvas, status, legend, reports), gallery);
  runs.set(state.run, { lines: [] });
  round();
  pictures().catch((error) => toast(error.message, true));
  const resized = new ResizeObserver(draw);
  resized.observe(canvas);
  const off = on("theme", draw);
  return () => { gone = true; clearTimeout(timer); resized.disconnect(); off(); };
}
