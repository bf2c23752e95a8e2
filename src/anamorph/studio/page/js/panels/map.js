// Images of the data, placed by their codes. Wheel or pinch zooms, a drag moves; with Shift, or in box mode, it selects.

import { get, getBlob } from "../api.js";
import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { on, pin, setCurrent, state } from "../state.js";
import { button, h, head, segments, toast } from "../ui.js";

const COUNTS = [512, 1024, 2048, 4000];
const FIRST = 192;
const LAYOUTS = { pca: "PCA", tsne: "t-SNE", umap: "UMAP" };
const hue = (i, n, dark) => `hsl(${(360 * i) / n} ${dark ? "75% 68%" : "68% 42%"})`;

export function mount(root) {
  let n = 1024, layout = "pca", found = null, sprites = null, view = { x: 0, y: 0, zoom: 1 }, colour = "", mode = "move", gone = false;
  let shownCount = 0, chosen = -1, near = [], box = null, picked = [];
  const canvas = h("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": "Map of the data's codes: arrow keys move, plus and minus zoom" });
  const note = h("p", { class: "soft" });
  const dark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
  const size = () => Math.min(canvas.clientWidth, canvas.clientHeight) / 2.15;
  const place = ([x, y]) => [canvas.clientWidth / 2 + (x - view.x) * size() * view.zoom, canvas.clientHeight / 2 - (y - view.y) * size() * view.zoom];
  const inverse = (px, py) => [view.x + (px - canvas.clientWidth / 2) / (size() * view.zoom), view.y - (py - canvas.clientHeight / 2) / (size() * view.zoom)];
  const thumb = () => Math.max(9, Math.min(72, 15 * Math.min(1, Math.sqrt(canvas.clientWidth / 800)) * Math.sqrt(1000 / Math.max(1, found?.places.length ?? n)) * view.zoom ** 0.75));

  // The view in which nearly all of the map is seen.
  function fit() {
    const [xs, ys] = [0, 1].map((axis) => found.places.map((p) => p[axis]).sort((a, b) => a - b));
    const cut = (values, share) => values[Math.round(share * (values.length - 1))];
    const [left, right, low, high] = [cut(xs, 0.004), cut(xs, 0.996), cut(ys, 0.004), cut(ys, 0.996)];
    const zoom = 0.93 * Math.min(canvas.clientWidth / (right - left + 0.08), canvas.clientHeight / (high - low + 0.08)) / size();
    view = { x: (left + right) / 2, y: (low + high) / 2, zoom: bound(zoom) };
    draw();
  }

  let queued = false;
  const draw = () => { if (!queued) { queued = true; requestAnimationFrame(paint); } };
  function paint() {
    queued = false;
    if (gone || !found || !sprites) return;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    g.imageSmoothingEnabled = true;
    const side = thumb(), labels = colour ? found.labels[colour] : null, inDark = dark();
    const put = (i, scale = 1, ring = "") => {
      const [px, py] = place(found.places[i]), s = side * scale;
      if (px < -s || py < -s || px > width + s || py > height + s) return;
      const edge = ring || (labels ? hue(labels.of[i], labels.classes.length, inDark) : "");
      if (edge) {
        const w = ring ? 3 : Math.max(1.5, s * 0.12);
        g.fillStyle = edge;
        g.beginPath(); g.roundRect(px - s / 2 - w, py - s / 2 - w, s + 2 * w, s + 2 * w, 3); g.fill();
      }
      g.drawImage(sprites, (i % found.columns) * found.side, Math.floor(i / found.columns) * found.side, found.side, found.side, px - s / 2, py - s / 2, s, s);
    };
    for (let i = 0; i < found.places.length; i++) put(i);
    const accent = style.getPropertyValue("--accent"), like = style.getPropertyValue("--like");
    picked.forEach((i) => put(i, 1.15, accent));
    near.forEach((i) => put(i, 1.5, accent));
    if (chosen >= 0) put(chosen, 2.2, like);
    if (box) {
      g.strokeStyle = accent; g.lineWidth = 1.5; g.fillStyle = accent;
      const [x, y, w, hh] = [Math.min(box[0], box[2]), Math.min(box[1], box[3]), Math.abs(box[2] - box[0]), Math.abs(box[3] - box[1])];
      g.globalAlpha = 0.12; g.fillRect(x, y, w, hh); g.globalAlpha = 1; g.strokeRect(x, y, w, hh);
    }
  }

  // A small map first, so that there is something to see while the larger one is made.
  async function load() {
    const wanted = `${n}/${layout}`;
    if (!found && n > FIRST) await draft(FIRST);
    if (!gone && wanted === `${n}/${layout}`) await draft(n);
  }
  async function draft(n) {
    const [mine, query] = [layout, `n=${n}&layout=${layout}`];
    note.textContent = mine === "pca" ? `Encoding ${n.toLocaleString("en")} images …` : `Placing ${n.toLocaleString("en")} images by ${LAYOUTS[mine]} …`;
    try {
      const facts = await get(`runs/${state.run}/map?${query}`);
      const bitmap = await createImageBitmap(await getBlob(`runs/${state.run}/map/atlas?${query}`));
      if (gone || mine !== layout) return;
      [found, sprites, chosen, near, picked, shownCount] = [facts, bitmap, -1, [], [], n];
      const shares = found.shares.length ? `The plane shows ${(100 * (found.shares[0] + found.shares[1])).toFixed(0)} % of how codes differ.` : "Neighbours lie together; how far groups are apart means little.";
      note.textContent = `${found.places.length.toLocaleString("en")} held-out images. ${shares}`;
      showGroup();
      fit();
    } catch (error) {
      if (gone || mine !== layout) return;
      note.textContent = error.message;
      toast(error.message, true);
    }
  }

  const at = (px, py) => {
    let best = -1, least = Math.max(thumb(), 24) ** 2;
    found?.places.forEach((p, i) => { const [x, y] = place(p), d = (x - px) ** 2 + (y - py) ** 2; if (d < least) [best, least] = [i, d]; });
    return best;
  };
  async function choose(i) {
    chosen = i;
    near = [];
    draw();
    if (i < 0) return showNear();
    setCurrent({ kind: "data", index: i });
    try {
      near = await get(`runs/${state.run}/map/neighbours?index=${i}&n=${shownCount}&layout=${layout}&k=12`);
    } catch (error) { toast(error.message, true); }
    draw();
    showNear();
  }

  const strip = h("div", { class: "filmstrip" });
  const channel = new Channel((header, blobs, request) => Promise.all(blobs.slice(request.points.length).map((blob, i) => request.cells[i].show(blob))), (error) => toast(error, true));
  function showNear() {
    const points = near.map((index) => ({ kind: "data", index }));
    const cells = points.map((p) => cell(`data ${p.index}`));
    strip.replaceChildren(...points.map((p, i) => h("button", { type: "button", class: "slot", title: `data:${p.index}`, onclick: () => choose(p.index) }, cells[i].element)));
    nearBox.hidden = !points.length;
    if (!points.length) return;
    const request = { run: state.run, points, look: state.look, originals: true };
    Object.defineProperty(request, "cells", { value: cells });
    channel.ask(request);
  }
  const nearBox = h("div", { class: "card stack", hidden: true }, h("h3", {}, "Nearest in the latent space"), strip);

  const count = h("strong");
  const group = h("div", { class: "card row", hidden: true }, count,
    button("Group A", () => keep("a")), button("Group B", () => keep("b")), button("Take their mean", () => setCurrent({ kind: "mean", of: few() })), button("Clear", () => { picked = []; showGroup(); draw(); }, { kind: "bare" }));
  const few = () => { const step = Math.max(1, picked.length / 16); return [...Array(Math.min(16, picked.length)).keys()].map((i) => ({ kind: "data", index: picked[Math.floor(i * step)] })); };
  const keep = (name) => { few().forEach((p) => pin(p, name)); toast(`${few().length} of them are pinned, in group ${name.toUpperCase()}`); };
  const showGroup = () => { group.hidden = !picked.length; count.textContent = `${picked.length} in the box`; };

  const pointers = new Map();
  let start = null, pinch = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    start = { x: event.offsetX, y: event.offsetY, view: { ...view }, moved: false, select: mode === "box" || event.shiftKey };
    if (pointers.size === 2) pinch = { apart: apart(), zoom: view.zoom };
  });
  const apart = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pinch && pointers.size === 2) { view.zoom = bound((pinch.zoom * apart()) / pinch.apart); start.moved = true; draw(); return; }
    const [dx, dy] = [event.offsetX - start.x, event.offsetY - start.y];
    if (Math.hypot(dx, dy) > 4) start.moved = true;
    if (!start.moved) return;
    if (start.select) box = [start.x, start.y, event.offsetX, event.offsetY];
    else { view.x = start.view.x - dx / (size() * view.zoom); view.y = start.view.y + dy / (size() * view.zoom); }
    draw();
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    pinch = null;
    if (box) {
      const [[x0, y0], [x1, y1]] = [inverse(Math.min(box[0], box[2]), Math.max(box[1], box[3])), inverse(Math.max(box[0], box[2]), Math.min(box[1], box[3]))];
      picked = found.places.flatMap(([x, y], i) => (x >= x0 && x <= x1 && y >= y0 && y <= y1 ? [i] : []));
      box = null;
      showGroup();
    } else if (start && !start.moved && event.type === "pointerup") choose(at(event.offsetX, event.offsetY));
    draw();
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  const bound = (zoom) => Math.min(40, Math.max(0.5, zoom));
  function zoomAt(px, py, by) {
    const [x, y] = inverse(px, py);
    view.zoom = bound(view.zoom * by);
    const [qx, qy] = place([x, y]);
    view.x += (qx - px) / (size() * view.zoom);
    view.y -= (qy - py) / (size() * view.zoom);
    draw();
  }
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * 0.0016)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const by = 0.12 / view.zoom;
    const moves = { ArrowLeft: () => { view.x -= by; }, ArrowRight: () => { view.x += by; }, ArrowUp: () => { view.y += by; }, ArrowDown: () => { view.y -= by; },
      "+": () => zoomAt(canvas.clientWidth / 2, canvas.clientHeight / 2, 1.25), "-": () => zoomAt(canvas.clientWidth / 2, canvas.clientHeight / 2, 0.8),
      Enter: () => choose(at(canvas.clientWidth / 2, canvas.clientHeight / 2)) }[event.key];
    if (!moves) return;
    event.preventDefault();
    moves();
    draw();
  });

  const names = Object.keys(state.facts.data.labels);
  const tint = h("select", { "aria-label": "Colour by label", onchange: () => { colour = tint.value; draw(); } }, h("option", { value: "" }, "no colour"), names.map((name) => h("option", { value: name }, `colour by ${name}`)));
  const counts = h("select", { "aria-label": "How many images", onchange: () => { n = Number(counts.value); load(); } }, COUNTS.map((c) => h("option", { value: String(c), selected: c === n }, `${c.toLocaleString("en")} images`)));
  const kinds = segments("How they are placed", Object.entries(LAYOUTS), layout, (value) => { layout = value; load(); });
  root.append(head("Map", "Near each other: codes alike. Click an image for its neighbours; drag a box to make a group.",
    segments("A drag", [["move", "move"], ["box", "box"]], "move", (value) => { mode = value; })),
    h("div", { class: "row controls" }, kinds, counts, names.length ? tint : null, button("Whole map", () => found && fit(), { symbol: "reset" }), note), canvas, group, nearBox);
  load();
  const resized = new ResizeObserver(draw);
  resized.observe(canvas);
  const off = on("theme", draw);
  return () => { gone = true; resized.disconnect(); off(); channel.close(); };
}
