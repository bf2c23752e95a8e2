// The frame of the page: which run, which panel, the theme, sessions; the panels themselves are in panels/.

import { get, post } from "./api.js";
import { shows } from "./cell.js";
import { download } from "./save.js";
import { defineGroup, endGesture, pin, redo, seeded, setCurrent, state, tell, undo } from "./state.js";
import { mountTray } from "./tray.js";
import { button, h, icon, menu, toast } from "./ui.js";

const PANELS = {
  wall: "Wall", reconstruct: "Reconstruct", edit: "Edit", mix: "Mix", interpolate: "Interpolate",
  codes: "Codes", map: "Map", training: "Training", compare: "Compare",
};
const root = document.getElementById("panel");
const nav = document.getElementById("nav");
const chooser = document.getElementById("run");
let leave = () => {};
let leaveTray = () => {};
let turn = 0;

const address = () => `#${state.run}/${state.panel}`;
const offered = () => state.facts.panels.filter((name) => name in PANELS && (name !== "compare" || state.runs.length > 1));

function showNav() {
  nav.replaceChildren(...offered().map((name) =>
    h("a", { href: `#${state.run}/${name}`, "aria-current": name === state.panel ? "page" : undefined }, icon(name), h("span", {}, PANELS[name]))));
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function showPanel() {
  const mine = ++turn;
  if (!offered().includes(state.panel)) state.panel = offered()[0];
  if (location.hash !== address()) history.replaceState(null, "", address());
  showNav();
  const module = await import(`./panels/${state.panel}.js`);
  if (mine !== turn) return;
  leave();
  root.replaceChildren();
  root.dataset.panel = state.panel;
  document.title = `${PANELS[state.panel]} · ${state.run} · anamorph studio`;
  leave = module.mount(root) ?? (() => {});
}

async function openRun(id) {
  root.classList.add("waiting");
  try {
    const facts = await get(`runs/${id}`);
    if (!shows(facts.signal.kind)) throw new Error(`${id} makes ${facts.signal.kind}, which this studio cannot show yet`);
    leave();
    leaveTray();
    leave = () => {};
    Object.assign(state, { run: id, facts, current: null, picture: null, past: [], future: [], pins: [], groups: [], sets: new Map(), psi: 1 });
    state.look = { noise: "fixed", noise_seed: 0 };
    chooser.value = id;
    document.getElementById("about").textContent =
      `${facts.title} · ${facts.signal.text} · ${facts.seen.toLocaleString("en")} ${facts.signal.noun}s seen`;
    setCurrent(facts.capabilities.includes("sample") ? seeded(1) : { kind: "data", index: 0 });
    leaveTray = mountTray(document.getElementById("tray"));
  } finally {
    root.classList.remove("waiting");
  }
}

async function route() {
  const [run, panel] = decodeURIComponent(location.hash.slice(1)).split("/");
  try {
    const id = state.runs.some((r) => r.id === run) ? run : state.run || firstRun();
    state.panel = panel || state.panel;
    if (id !== state.run) await openRun(id);
    await showPanel();
  } catch (error) {
    toast(error.message, true);
    chooser.value = state.run;
    if (state.run) history.replaceState(null, "", address());
  }
}
const firstRun = () => (state.runs.find((r) => r.seen !== null) ?? state.runs[0]).id;

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const saved = localStorage.getItem("anamorph-theme");
  if (saved) document.documentElement.dataset.theme = saved;
  return button("Light or dark", () => {
    const next = shown() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("anamorph-theme", next);
    tell("theme");
  }, { symbol: "sun", only: true, kind: "bare" });
}

const session = () => ({
  anamorph: "studio session", format: 2, run: state.run, current: state.current, pins: state.pins, groups: state.groups,
  look: state.look, panel: state.panel,
});

async function openSession(file) {
  try {
    const said = await post("sessions", JSON.parse(await file.text()));
    await openRun(said.run);
    state.look = said.look;
    for (const group of said.groups) await defineGroup(group);
    for (const entry of said.pins) pin(entry.point, entry.group);
    if (said.current) setCurrent(said.current);
    tell("pins");
    state.panel = said.panel || "wall";
    await showPanel();
  } catch (error) {
    toast(error instanceof SyntaxError ? "this file is no session" : error.message, true);
  }
}

function sessions() {
  const file = h("input", { type: "file", accept: ".json", hidden: true, "aria-label": "A session's file", onchange: () => { openSession(file.files[0]); file.value = ""; } });
  const box = menu("Session", "session", [
    ["Save this session", () => download(new Blob([JSON.stringify(session(), null, 1)], { type: "application/json" }), `${state.run}-session.json`)],
    ["Open a session …", () => file.click()],
    ["Smooth or sharp pixels", () => { state.smooth = !state.smooth; localStorage.setItem("anamorph-smooth", state.smooth ? "yes" : "no"); tell("smooth"); }],
  ], { only: true, kind: "bare" });
  box.append(file);
  return box;
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches?.("input, select, textarea") && event.target.type !== "range") return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "z") { event.preventDefault(); (event.shiftKey ? redo : undo)(); }
  else if (command && event.key.toLowerCase() === "y") { event.preventDefault(); redo(); }
  else if (!command && !event.altKey && event.key.toLowerCase() === "p" && state.current) pin(state.current);
});
document.addEventListener("pointerup", endGesture);
document.addEventListener("keyup", endGesture);
window.addEventListener("hashchange", route);
window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => event.preventDefault());

document.getElementById("bar-end").append(sessions(), theme());
chooser.addEventListener("change", () => { location.hash = `#${chooser.value}/${state.panel}`; });
try {
  state.runs = await get("runs");
  const folders = Map.groupBy(state.runs, (r) => r.folder);
  chooser.replaceChildren(...[...folders].map(([folder, runs]) =>
    h("optgroup", { label: folder }, runs.map((r) => h("option", { value: r.id, disabled: r.seen === null }, r.seen === null ? `${r.id} (no checkpoint)` : r.id)))));
  await route();
} catch (error) {
  toast(error.message, true);
}
