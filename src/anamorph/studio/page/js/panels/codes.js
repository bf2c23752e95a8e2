// Grids of discrete codes: seen as pictures, painted by hand, drawn anew by the prior; and how often each is used.

import { get, post, postFor } from "../api.js";
import { cell } from "../cell.js";
import { saving } from "../save.js";
import { on, setCurrent, state } from "../state.js";
import { button, h, head, menu, segments, slider, toast } from "../ui.js";

export function mount(root) {
  const facts = state.facts;
  let grid = facts.grid[0], map = 0, tool = "paint", code = 0, temperature = 1, gone = false;
  let numbers = null, patches = null, layout = null, counts = null, painting = false, gesture = 0;
  const mask = new Set();
  const picture = cell("The decoded image");
  const show = () => { if (state.picture) picture.show(state.picture); };
  const board = h("canvas", { class: "board", tabindex: "0", role: "application", "aria-label": "The grid of codes: arrow keys move, space paints" });
  const swatches = h("div", { class: "palette", role: "listbox", "aria-label": "Codes" });
  const note = h("p", { class: "soft" });
  let cursor = [0, 0];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

  const ids = () => numbers?.[grid.space]?.[map];
  const source = (k) => [(k % layout.columns) * layout.side, Math.floor(k / layout.columns) * layout.side, layout.side, layout.side];

  function draw() {
    if (!ids() || !patches) return;
    const [rows, columns] = [grid.rows, grid.columns];
    const side = Math.max(8, Math.round((board.clientWidth * (devicePixelRatio || 1)) / columns));
    [board.width, board.height] = [columns * side, rows * side];
    board.style.setProperty("--ratio", `${columns} / ${rows}`);
    const g = board.getContext("2d");
    g.imageSmoothingEnabled = false;
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
      g.drawImage(patches, ...source(ids()[y][x]), x * side, y * side, side, side);
      if (side >= 56) {
        g.font = `600 ${Math.round(side / 5)}px ${style("--mono")}`;
        g.textBaseline = "bottom";
        g.lineWidth = 3;
        g.strokeStyle = "rgb(0 0 0 / .65)";
        g.fillStyle = "#fff";
        g.strokeText(String(ids()[y][x]), x * side + 4, (y + 1) * side - 4);
        g.fillText(String(ids()[y][x]), x * side + 4, (y + 1) * side - 4);
      }
      if (mask.has(`${y},${x}`)) { g.fillStyle = style("--accent"); g.globalAlpha = 0.55; g.fillRect(x * side, y * side, side - 1, side - 1); g.globalAlpha = 1; }
    }
    g.fillStyle = style("--card");
    g.globalAlpha = 0.35;
    for (let x = 1; x < columns; x++) g.fillRect(x * side, 0, 1, board.height);
    for (let y = 1; y < rows; y++) g.fillRect(0, y * side, board.width, 1);
    g.globalAlpha = 1;
    if (document.activeElement === board) { g.strokeStyle = style("--like"); g.lineWidth = 3; g.strokeRect(cursor[1] * side + 1, cursor[0] * side + 1, side - 3, side - 3); }
  }

  async function follow() {
    if (painting) return;
    try {
      const point = state.current, found = await post(`runs/${state.run}/grids`, { point });
      if (gone || point !== state.current || painting) return;
      numbers = found;
      draw();
    } catch (error) { toast(error.message, true); }
  }

  async function palette() {
    try {
      const answer = await postFor(`runs/${state.run}/palette`, { point: state.current, space: grid.space });
      layout = JSON.parse(answer.headers.get("layout"));
      patches = await createImageBitmap(await answer.blob());
      counts = await get(`runs/${state.run}/usage/${encodeURIComponent(grid.space)}`);
      if (gone) return;
      note.textContent = `${counts.used} of ${grid.num_codes} codes are used in ${counts.images} images; perplexity ${counts.perplexity.toFixed(1)}.`;
      swatch();
      draw();
      histogram();
    } catch (error) { toast(error.message, true); }
  }
  function swatch() {
    const order = [...Array(grid.num_codes).keys()].sort((a, b) => counts.counts[b] - counts.counts[a]);
    swatches.replaceChildren(...order.map((k) => {
      const patch = h("canvas", { width: layout.side, height: layout.side });
      patch.getContext("2d").drawImage(patches, ...source(k), 0, 0, layout.side, layout.side);
      return h("button", { type: "button", role: "option", class: "swatch-code", "data-code": String(k), title: `code ${k}: used ${counts.counts[k].toLocaleString("en")} times`, "aria-label": `code ${k}`, onclick: () => { choose(k); tools.set("paint"); tool = "paint"; showTool(); } }, patch);
    }));
    choose(order[0]);
  }
  function choose(k) {
    code = k;
    for (const child of swatches.children) child.setAttribute("aria-selected", String(Number(child.dataset.code) === k));
    histogram();
  }

  const bars = h("canvas", { class: "histogram", role: "img", "aria-label": "How often each code is used" });
  function histogram() {
    if (!counts) return;
    const ratio = devicePixelRatio || 1, width = bars.clientWidth, height = bars.clientHeight;
    [bars.width, bars.height] = [width * ratio, height * ratio];
    const g = bars.getContext("2d");
    g.scale(ratio, ratio);
    const order = counts.counts.map((count, k) => [count, k]).sort((a, b) => b[0] - a[0]), most = Math.max(1, order[0][0]), w = width / order.length;
    order.forEach(([count, k], i) => { g.fillStyle = k === code ? style("--like") : style("--accent"); const tall = (height * count) / most; g.fillRect(i * w, height - tall, Math.max(1, w - 0.5), tall); });
  }

  // One stroke is one step of the history: cells add up on the point that it began with.
  let stroke = null;
  function touch(y, x) {
    if (y < 0 || x < 0 || y >= grid.rows || x >= grid.columns || !ids()) return;
    if (tool === "mask" || tool === "unmask") {
      mask[tool === "mask" ? "add" : "delete"](`${y},${x}`);
      redraw.disabled = !mask.size;
    } else if (tool === "pick") choose(ids()[y][x]);
    else {
      ids()[y][x] = code;
      stroke.cells.set(`${y},${x}`, { map, y, x, code });
      setCurrent({ kind: "paint", of: stroke.base, space: grid.space, cells: [...stroke.cells.values()] }, { by: `stroke ${gesture}` });
    }
    draw();
  }
  const begin = () => {
    gesture += 1;
    const again = state.current.kind === "paint" && state.current.space === grid.space;
    const known = again ? state.current.cells.map((c) => [`${c.y},${c.x}`, c]).filter(([, c]) => c.map === map) : [];
    const whole = again && state.current.cells.every((c) => c.map === map);
    stroke = whole ? { base: state.current.of, cells: new Map(known) } : { base: state.current, cells: new Map() };
    painting = true;
  };
  const finish = () => { if (painting) { painting = false; follow(); } };
  const spot = (event) => { const box = board.getBoundingClientRect(); return [Math.floor(((event.clientY - box.top) / box.height) * grid.rows), Math.floor(((event.clientX - box.left) / box.width) * grid.columns)]; };
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    if (tool === "mask" && mask.has(spot(event).join(","))) tool = "unmask";
    begin();
    touch(...spot(event));
  });
  board.addEventListener("pointermove", (event) => { if (painting && event.buttons) touch(...spot(event)); });
  for (const end of ["pointerup", "pointercancel"]) board.addEventListener(end, () => { if (tool === "unmask") tool = "mask"; finish(); });
  board.addEventListener("keydown", (event) => {
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === " " || event.key === "Enter") { begin(); touch(...cursor); finish(); }
    else if (!dy && !dx) return;
    event.preventDefault();
    cursor = [Math.min(grid.rows - 1, Math.max(0, cursor[0] + dy)), Math.min(grid.columns - 1, Math.max(0, cursor[1] + dx))];
    draw();
  });
  board.addEventListener("focus", draw);
  board.addEventListener("blur", draw);

  const resamples = facts.temperature && facts.grid.length >= 1;
  let tries = 0, beneath = null;
  const redraw = button("Draw anew", () => {
    if (state.current.kind !== "redraw") beneath = state.current;
    else beneath = state.current.of;
    setCurrent({ kind: "redraw", of: beneath, places: [...mask].map((text) => text.split(",").map(Number)), seed: tries++, temperature });
  }, { symbol: "dice", kind: "main" });
  redraw.disabled = true;
  const clear = button("Clear the mask", () => { mask.clear(); redraw.disabled = true; draw(); }, { kind: "bare" });
  const lower = button("Lower half", () => { for (let y = Math.ceil(grid.rows / 2); y < grid.rows; y++) for (let x = 0; x < grid.columns; x++) mask.add(`${y},${x}`); redraw.disabled = false; tools.set("mask"); tool = "mask"; showTool(); draw(); });
  const maskBox = h("div", { class: "stack tight" }, h("div", { class: "row" }, redraw, lower, clear),
    slider({ label: "temperature", min: 0.1, max: 2, step: 0.05, value: 1, oninput: (v) => { temperature = v; } }), h("p", { class: "soft" }, "Codes are drawn from the top left on, given those before them."));
  const tools = segments("Tool", [["paint", "paint"], ["pick", "pick a code"], ...(resamples ? [["mask", "mask"]] : [])], tool, (value) => { tool = value; showTool(); });
  const showTool = () => { maskBox.hidden = tool !== "mask"; };

  const finest = facts.grid[0];
  const levels = facts.grid.flatMap((g) => [...Array(g.maps).keys()].map((m) => [`${g.space}/${m}`, g.maps > 1 ? `${g.space} ${m + 1}` : `${g.space} ${g.rows}×${g.columns}`]));
  const level = levels.length > 1 ? segments("Grid", levels, levels[0][0], (value) => {
    const [space, m] = value.split("/");
    const other = space !== grid.space;
    [grid, map] = [facts.grid.find((g) => g.space === space), Number(m)];
    if (grid !== finest && tool === "mask") { tool = "paint"; tools.set("paint"); showTool(); }
    if (other) palette(); else draw();
  }) : null;
  root.append(head("Codes", "An image as a grid of codes. Paint with a code, and see what it says.", menu("Save", "save", saving(() => ({ points: [state.current] }), `${state.run}-codes`))),
    h("div", { class: "row controls" }, tools, level, facts.data ? button("Another image", () => setCurrent({ kind: "data", index: Math.floor(Math.random() * facts.data.size) }), { symbol: "dice" }) : null),
    h("div", { class: "split codes" }, h("div", { class: "boards" }, board, picture.element),
      h("div", { class: "stack" }, maskBox, h("div", { class: "card stack" }, h("h3", {}, "Codes, the most used first"), swatches, bars, note))));
  showTool();
  show();
  follow();
  palette();
  const resized = new ResizeObserver(() => { histogram(); draw(); });
  resized.observe(bars);
  resized.observe(board);
  const off = [on("current", follow), on("picture", show), on("theme", () => { draw(); histogram(); }), on("smooth", show)];
  return () => { gone = true; off.forEach((stop) => stop()); resized.disconnect(); };
}
