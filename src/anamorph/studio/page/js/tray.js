// The current image with its history, and the pins: within reach in every panel.

import { cell, play, showAll } from "./cell.js";
import { Channel } from "./live.js";
import { saveEntries } from "./save.js";
import { emit, noun, on, pin, pointTitle, redo, setCurrent, state, undo, unpin } from "./state.js";
import { button, h, menu, showError, slot } from "./ui.js";

const POINT_TYPE = "application/x-anamorph-point";
const MOST_PICTURES = 64;

function droppedPoint(event) {
  const text = event.dataTransfer?.getData(POINT_TYPE);
  return text ? JSON.parse(text) : null;
}

// Makes an element draggable as a point, which is asked for when a drag starts.
export function draggable(element, point) {
  element.draggable = true;
  element.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(POINT_TYPE, JSON.stringify(point()));
    event.dataTransfer.effectAllowed = "copyMove";
  });
  return element;
}

// Makes an element accept points that are dropped on it.
export function droppable(element, accept) {
  element.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes(POINT_TYPE)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("over");
    const point = droppedPoint(event);
    if (point === null) return;
    event.preventDefault();
    event.stopPropagation();
    accept(point);
  });
  return element;
}

const hint = () => (state.model.discrete ? `Pin ${noun()}s to come back to them.`
  : `Pin ${noun()}s to mix them, to interpolate between them, or to make a direction from two groups.`);

// The current image. This is its only stream: panels that show it, too, listen to "picture".
function currentBox() {
  const picture = cell(`The current ${noun()}`);
  const name = h("div", { class: "soft name" });
  const undoButton = button("Undo", undo, { symbol: "undo", only: true, kind: "bare", title: "Undo (Ctrl-Z)" });
  const redoButton = button("Redo", redo, { symbol: "redo", only: true, kind: "bare", title: "Redo (Ctrl-Y)" });
  const pinButton = button("Pin", () => state.current && pin(state.current), { symbol: "pin", title: `Keep the current ${noun()} (P)` });
  const playButton = picture.wav === undefined ? null
    : button("Play", () => play(picture), { symbol: "play", only: true, title: "Play or stop" });
  const saveMenu = menu("Save", "save", saveEntries(() => ({ points: [state.current] })), { only: true });
  const channel = new Channel((header, blobs) => {
    [state.picture] = blobs;
    emit("picture", blobs[0]);
    return picture.show(blobs[0]);
  }, showError);
  const show = () => {
    name.textContent = state.current ? pointTitle(state.current) : "";
    name.title = name.textContent;
    undoButton.disabled = !state.past.length;
    redoButton.disabled = !state.future.length;
    if (state.current) channel.send({ run: state.run, points: [state.current], look: state.look });
  };
  const element = h("div", { class: "now" },
    draggable(h("div", { class: "now-picture" }, picture.element), () => state.current),
    h("div", { class: "now-text" }, name),
    h("div", { class: "row now-acts" }, playButton, pinButton, undoButton, redoButton, saveMenu));
  return { element, show, close: () => channel.close() };
}

function groupMark(entry, group, text) {
  const toggle = () => {
    entry.group = entry.group === group ? "" : group;
    emit("pins");
  };
  return h("button", { type: "button", class: `mark ${group}`, "aria-pressed": String(entry.group === group), onclick: toggle,
    title: `Group ${text}, for a direction from A to B`, "aria-label": `Group ${text}` }, text);
}

function pinBox(entry, picture) {
  const title = pointTitle(entry.point);
  const remove = h("button", { type: "button", class: "mark", "aria-label": "Remove this pin", title: "Remove",
    onclick: () => unpin(entry) }, "×");
  const marks = h("div", { class: "marks" }, groupMark(entry, "a", "A"), groupMark(entry, "b", "B"), remove);
  const take = slot(picture, `${title}: make it the current ${noun()}`, () => setCurrent(entry.point));
  return draggable(h("div", { class: "pin-box" }, take, marks), () => entry.point);
}

function pinsBox() {
  const pins = h("div", { class: "pins" });
  const none = h("p", { class: "soft hint" }, hint());
  const channel = new Channel((header, blobs, cells) => showAll(cells, blobs), showError);
  const show = () => {
    none.hidden = state.pins.length > 0;
    const cells = state.pins.map((entry) => cell(pointTitle(entry.point)));
    pins.replaceChildren(...state.pins.map((entry, i) => pinBox(entry, cells[i])));
    const points = state.pins.slice(0, MOST_PICTURES).map((entry) => entry.point);
    if (points.length) channel.send({ run: state.run, points, look: state.look }, cells);
  };
  return { element: h("div", { class: "pinned" }, h("h3", {}, "Pins"), none, pins), show, close: () => channel.close() };
}

export function mountTray(root) {
  const [current, pins] = [currentBox(), pinsBox()];
  root.replaceChildren(current.element, pins.element);
  const showBoth = () => { current.show(); pins.show(); };
  const off = [on("current", current.show), on("pins", pins.show), on("look", showBoth), on("smooth", showBoth)];
  showBoth();
  return () => { off.forEach((stop) => stop()); current.close(); pins.close(); };
}
