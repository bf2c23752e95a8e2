// The frame of the page: the choice of the run and the panel, the theme, and sessions. The panels are in panels/.

import { get, post } from "./api.js";
import { canShow } from "./cell.js";
import { download } from "./save.js";
import { canSample, defineGroup, emit, endGesture, pin, redo, seedPoint, setCurrent, state, undo } from "./state.js";
import { mountTray } from "./tray.js";
import { button, h, icon, menu, showError } from "./ui.js";

// Titles, and the field's words for what a panel does.
const PANELS = {
  wall: ["Samples", "Samples of the model, without end"],
  reconstruct: ["Reconstruct", "Encode a signal and decode it again"],
  edit: ["Edit", "Move along directions of the latent space"],
  mix: ["Mix", "Style mixing: layers of one code, the others of another"],
  interpolate: ["Interpolate", "Between two or four codes"],
  codes: ["Codes", "Grids of discrete codes (tokens)"],
  map: ["Map", "The data, placed by their codes: an embedding in two dimensions"],
  training: ["Training", "Losses and metrics of runs"],
  compare: ["Compare", "The same inputs or seeds in several models"],
};
const root = document.getElementById("panel");
const nav = document.getElementById("nav");
const runSelect = document.getElementById("run");
let leavePanel = () => {};
let leaveTray = () => {};
let turn = 0;

const address = () => `#${state.run}/${state.panel}`;
const panels = () => state.model.panels.filter((name) => name in PANELS && (name !== "compare" || state.runs.length > 1));

function navLink(name) {
  const [text, title] = PANELS[name];
  const current = name === state.panel ? "page" : undefined;
  return h("a", { href: `#${state.run}/${name}`, title, "aria-current": current }, icon(name), h("span", {}, text));
}

function showNav() {
  nav.replaceChildren(...panels().map(navLink));
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function showPanel() {
  const mine = ++turn;
  if (!panels().includes(state.panel)) state.panel = panels()[0];
  if (location.hash !== address()) history.replaceState(null, "", address());
  showNav();
  const module = await import(`./panels/${state.panel}.js`);
  if (mine !== turn) return;
  leavePanel();
  root.replaceChildren();
  root.dataset.panel = state.panel;
  document.title = `${PANELS[state.panel][0]} · ${state.run} · anamorph studio`;
  leavePanel = module.mount(root) ?? (() => {});
}

function showAbout(model) {
  const about = document.getElementById("about");
  about.textContent = `${model.title} · ${model.signal.text} · ${model.seen.toLocaleString("en")} ${model.signal.noun}s seen`;
  about.title = `${model.paper}. ${model.parameters.toLocaleString("en")} parameters; training has seen this many ${model.signal.noun}s.`;
}

async function openRun(id) {
  root.classList.add("waiting");
  try {
    const model = await get(`runs/${id}`);
    const { kind } = model.signal;
    if (!canShow(kind)) throw new Error(`${id} is a model of ${kind}, which this studio cannot show: open another run`);
    leavePanel();
    leaveTray();
    leavePanel = () => {};
    const empty = { current: null, picture: null, past: [], future: [], pins: [], groups: [], directionSets: new Map(), psi: 1 };
    Object.assign(state, { run: id, model, look: { noise: "fixed", noise_seed: 0 }, ...empty });
    runSelect.value = id;
    showAbout(model);
    setCurrent(canSample() ? seedPoint(1) : { kind: "data", index: 0 });
    leaveTray = mountTray(document.getElementById("tray"));
  } finally {
    root.classList.remove("waiting");
  }
}

const firstRun = () => (state.runs.find((run) => run.seen !== null) ?? state.runs[0]).id;

async function route() {
  const [run, panel] = decodeURIComponent(location.hash.slice(1)).split("/");
  try {
    const id = state.runs.some((known) => known.id === run) ? run : state.run || firstRun();
    state.panel = panel || state.panel;
    if (id !== state.run) await openRun(id);
    await showPanel();
  } catch (error) {
    showError(error);
    runSelect.value = state.run;
    if (state.run) history.replaceState(null, "", address());
  }
}

function themeButton() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const saved = localStorage.getItem("anamorph-theme");
  if (saved) document.documentElement.dataset.theme = saved;
  return button("Light or dark theme", () => {
    const next = current() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("anamorph-theme", next);
    emit("theme");
  }, { symbol: "sun", only: true, kind: "bare" });
}

function saveSession() {
  const { run, current, pins, groups, look, panel } = state;
  const session = { anamorph: "studio session", format: 2, run, current, pins, groups, look, panel };
  download(new Blob([JSON.stringify(session, null, 1)], { type: "application/json" }), `${run}-session.json`);
}

async function openSession(file) {
  try {
    const session = await post("sessions", JSON.parse(await file.text()));
    await openRun(session.run);
    state.look = session.look;
    for (const group of session.groups) await defineGroup(group);
    for (const entry of session.pins) pin(entry.point, entry.group);
    if (session.current) setCurrent(session.current);
    emit("pins");
    state.panel = session.panel || "wall";
    await showPanel();
  } catch (error) {
    showError(error instanceof SyntaxError ? "this file is not JSON, so it is no session: choose a file that the studio has saved" : error);
  }
}

function toggleSmooth() {
  state.smooth = !state.smooth;
  localStorage.setItem("anamorph-smooth", state.smooth ? "yes" : "no");
  emit("smooth");
}

function sessionMenu() {
  const open = () => { openSession(file.files[0]); file.value = ""; };
  const file = h("input", { type: "file", accept: ".json", hidden: true, "aria-label": "File of a session", onchange: open });
  const box = menu("Session", "session", [
    ["Save this session", saveSession],
    ["Open a session …", () => file.click()],
    ["Smooth or sharp pixels", toggleSmooth],
  ], { only: true, kind: "bare" });
  box.append(file);
  return box;
}

function onKey(event) {
  if (event.target.matches?.("input, select, textarea") && event.target.type !== "range") return;
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (command && (key === "z" || key === "y")) {
    event.preventDefault();
    (key === "y" || event.shiftKey ? redo : undo)();
  } else if (!command && !event.altKey && key === "p" && state.current) pin(state.current);
}

const runOption = ({ id, seen }) => h("option", { value: id, disabled: seen === null }, seen === null ? `${id} (no checkpoint)` : id);

function fillRuns() {
  const folders = Map.groupBy(state.runs, (run) => run.folder);
  runSelect.replaceChildren(...[...folders].map(([folder, runs]) => h("optgroup", { label: folder }, runs.map(runOption))));
}

document.addEventListener("keydown", onKey);
document.addEventListener("pointerup", endGesture);
document.addEventListener("keyup", endGesture);
window.addEventListener("hashchange", route);
window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => event.preventDefault());
document.getElementById("bar-end").append(sessionMenu(), themeButton());
runSelect.addEventListener("change", () => { location.hash = `#${runSelect.value}/${state.panel}`; });
try {
  state.runs = await get("runs");
  fillRuns();
  await route();
} catch (error) {
  showError(error);
}
