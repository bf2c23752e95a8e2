// Samples without end. A tile is drawn again while a slider moves; those in view first.

import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { saving } from "../save.js";
import { called, on, pin, setCurrent, setLook, state } from "../state.js";
import { draggable } from "../tray.js";
import { button, h, head, icon, menu, segments, slider, toast } from "../ui.js";

const BATCH = 16;

export function mount(root) {
  const facts = state.facts;
  let first = 1, temperature = 1, topP = 1, version = 0, asking = false;
  const labels = {};
  const tiles = [];
  const liked = new Set();
  const grid = h("div", { class: "wall" });
  const sentinel = h("div", { class: "sentinel" });
  const channel = new Channel(
    async (header, blobs, request) => {
      asking = false;
      request.tiles.forEach((tile) => { tile.version = request.version; });
      const showing = Promise.all(blobs.map((blob, i) => request.tiles[i].cell.show(blob)));
      pump();
      await showing;
    },
    (error) => { asking = false; toast(error, true); });

  const pointOf = (seed) => {
    const extra = {};
    if (temperature !== 1) extra.temperature = temperature;
    if (topP < 1) extra.top_p = topP;
    const chosen = Object.entries(labels).filter(([, value]) => value >= 0);
    if (chosen.length) extra.labels = chosen;
    const point = { kind: "seed", seed, ...extra };
    return facts.w_mean && state.psi !== 1 ? { kind: "truncate", of: point, psi: state.psi } : point;
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.target.tile.visible = entry.isIntersecting;
    pump();
  }, { rootMargin: "120px" });
  const end = new IntersectionObserver((entries) => { if (entries[0].isIntersecting) grow(); }, { rootMargin: "500px" });

  function grow() {
    if (tiles.length >= 4096) return;
    for (let i = 0; i < BATCH; i++) add(first + tiles.length);
    end.unobserve(sentinel);
    end.observe(sentinel); // tells again, if it is still in view
  }

  function add(seed) {
    const tile = { seed, cell: cell(`seed ${seed}`), version: -1, visible: tiles.length < 2 * BATCH };
    const like = h("button", { type: "button", class: "like", "aria-pressed": "false", "aria-label": `Like seed ${seed}`, onclick: () => toggle(tile) }, icon("like"));
    const take = h("button", { type: "button", class: "slot", title: `seed ${seed}`, onclick: () => setCurrent(pointOf(seed)) }, tile.cell.element);
    tile.element = draggable(h("div", { class: "tile" }, take, like), () => pointOf(seed));
    tile.element.addEventListener("keydown", (event) => { if (event.key.toLowerCase() === "l") toggle(tile); });
    Object.assign(tile, { like, take });
    tile.element.tile = tile;
    tiles.push(tile);
    grid.append(tile.element);
    seen.observe(tile.element);
  }

  function toggle(tile) {
    const now = !liked.has(tile);
    liked[now ? "add" : "delete"](tile);
    tile.like.setAttribute("aria-pressed", String(now));
    showLiked();
  }

  function pump() {
    if (asking) return;
    const stale = tiles.filter((tile) => tile.version !== version && tile.visible).slice(0, BATCH);
    if (!stale.length) return;
    asking = true;
    const request = { run: state.run, points: stale.map((tile) => pointOf(tile.seed)), look: state.look };
    Object.defineProperties(request, { tiles: { value: stale }, version: { value: version } });
    channel.ask(request);
  }
  const again = () => { version += 1; pump(); };

  function restart(seed) {
    first = seed;
    seedBox.value = String(seed);
    tiles.length = 0;
    liked.clear();
    grid.replaceChildren();
    showLiked();
    again();
    grow();
  }

  const points = () => [...liked].map((tile) => pointOf(tile.seed));
  const count = h("strong");
  const mean = button("Take their mean", () => setCurrent({ kind: "mean", of: points() }), { kind: "main" });
  const bar = h("div", { class: "liked card", hidden: true }, count,
    facts.discrete ? null : mean,
    button("Pin them", () => points().forEach((point) => pin(point)), { symbol: "pin" }),
    facts.discrete ? null : button("Group A", () => points().forEach((point) => pin(point, "a"))),
    facts.discrete ? null : button("Group B", () => points().forEach((point) => pin(point, "b"))),
    button("Clear", () => [...liked].forEach(toggle), { kind: "bare" }));
  const showLiked = () => {
    bar.hidden = liked.size === 0;
    count.textContent = `${liked.size} liked`;
  };

  const seedBox = h("input", { type: "number", min: "0", max: "9007199254740000", value: "1", onchange: () => restart(Math.max(0, Math.floor(seedBox.valueAsNumber || 0))) });
  const controls = h("div", { class: "row controls" },
    h("label", { class: "field" }, "from seed", seedBox),
    button("Other samples", () => restart(Math.floor(Math.random() * 1e6)), { symbol: "dice" }));
  if (facts.w_mean) {
    controls.append(slider({ label: "truncation ψ", min: 0, max: 1.5, step: 0.01, value: state.psi, rest: 1, inline: true,
      oninput: (v) => { state.psi = v; again(); } }));
  }
  if (facts.temperature) {
    controls.append(slider({ label: "temperature", min: 0.1, max: 2, step: 0.05, value: 1, inline: true, oninput: (v) => { temperature = v; again(); } }));
    controls.append(slider({ label: "top-p", min: 0.1, max: 1, step: 0.05, value: 1, inline: true, oninput: (v) => { topP = v; again(); } }));
  }
  if (facts.noise) {
    controls.append(segments("Noise", [["fixed", "fixed noise"], ["off", "off"], ["fresh", "fresh"]], state.look.noise, (noise) => setLook({ noise, noise_seed: noise === "fresh" ? state.look.noise_seed + 1 : 0 })));
  }
  for (const [name, classes] of Object.entries(facts.classes)) {
    controls.append(h("label", { class: "field" }, name, h("select", { onchange: (event) => { labels[name] = Number(event.target.value); again(); } },
      h("option", { value: "-1" }, "any"), classes.map((text, i) => h("option", { value: String(i) }, text)))));
  }
  const shown = () => tiles.filter((tile) => tile.visible).slice(0, 64).map((tile) => pointOf(tile.seed));
  root.append(head("Wall", `What the model draws, without end. Click ${facts.signal.kind === "audio" ? "a sound to hear and take it; like some to pin them" : "an image to take it; like several to take their mean"}.`,
    menu("Save", "save", saving(() => ({ points: shown() }), `${state.run}-wall`))), controls, grid, sentinel, bar);

  const mark = () => { for (const tile of tiles) tile.take.setAttribute("aria-current", String(JSON.stringify(pointOf(tile.seed)) === JSON.stringify(state.current))); };
  const off = [on("look", again), on("smooth", again), on("current", mark)];
  grow();
  mark();
  pump();
  end.observe(sentinel);
  return () => { off.forEach((stop) => stop()); channel.close(); seen.disconnect(); end.disconnect(); };
}
