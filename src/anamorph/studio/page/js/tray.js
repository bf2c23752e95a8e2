// The current image with its history, and the pins: at hand in every panel.

import { cell, play } from "./cell.js";
import { Channel } from "./live.js";
import { saving } from "./save.js";
import { called, noun, on, pin, redo, setCurrent, state, tell, undo, unpin } from "./state.js";
import { button, h, menu, toast } from "./ui.js";

const DRAGGED = "application/x-anamorph-point";
export const dragged = (event) => {
  const text = event.dataTransfer?.getData(DRAGGED);
  return text ? JSON.parse(text) : null;
};

// An element that can be dragged as a point, and one that a point can be dropped on.
export function draggable(element, point) {
  element.draggable = true;
  element.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(DRAGGED, JSON.stringify(point()));
    event.dataTransfer.effectAllowed = "copyMove";
  });
  return element;
}
export function droppable(element, take) {
  element.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes(DRAGGED)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("over");
    const point = dragged(event);
    if (point === null) return;
    event.preventDefault();
    event.stopPropagation();
    take(point);
  });
  return element;
}

export function mountTray(root) {
  const current = cell(`The current ${noun()}`);
  const name = h("div", { class: "soft name" });
  const back = button("Undo", undo, { symbol: "undo", only: true, kind: "bare" });
  const forth = button("Redo", redo, { symbol: "redo", only: true, kind: "bare" });
  const keep = button("Pin", () => state.current && pin(state.current), { symbol: "pin", title: `Keep the current ${noun()} (P)` });
  const listen = current.wav === undefined ? null : button("Play", () => play(current), { symbol: "play", only: true, title: "Play, or stop" });
  const keeping = menu("Save", "save", saving(() => ({ points: [state.current] })), { only: true });
  const pins = h("div", { class: "pins" });
  const none = h("p", { class: "soft hint" }, state.facts.discrete ? `Pin ${noun()}s to come back to them.` : `Pin ${noun()}s to mix them, go between them, or make a direction of two groups.`);
  const title = h("h3", {}, "Pins");
  root.replaceChildren(
    h("div", { class: "now" }, draggable(h("div", { class: "now-picture" }, current.element), () => state.current), h("div", { class: "now-text" }, name),
      h("div", { class: "row now-acts" }, listen, keep, back, forth, keeping)),
    h("div", { class: "pinned" }, title, none, pins));

  // The one stream of the current image: panels that show it, too, listen to "picture".
  const shown = new Channel((header, blobs) => {
    [state.picture] = blobs;
    tell("picture", blobs[0]);
    return current.show(blobs[0]);
  }, (error) => toast(error, true));
  const thumbs = new Channel((header, blobs, request) => Promise.all(blobs.map((blob, i) => request.cells?.[i]?.show(blob))), (error) => toast(error, true));
  // Cells stay on this side: what is sent is plain data.
  const askThumbs = (points, cells) => {
    const request = { run: state.run, points, look: state.look };
    Object.defineProperty(request, "cells", { value: cells, enumerable: false });
    thumbs.ask(request);
  };

  const showCurrent = () => {
    name.textContent = state.current ? called(state.current) : "";
    back.disabled = !state.past.length;
    forth.disabled = !state.future.length;
    if (state.current) shown.ask({ run: state.run, points: [state.current], look: state.look });
  };
  const showPins = () => {
    none.hidden = state.pins.length > 0;
    const cells = [];
    pins.replaceChildren(...state.pins.map((entry) => {
      const picture = cell(called(entry.point));
      cells.push(picture);
      const take = h("button", { type: "button", class: "slot", title: `${called(entry.point)}: take as current`, onclick: () => setCurrent(entry.point) }, picture.element);
      const mark = (group, text) => h("button", { type: "button", class: `mark ${group}`, "aria-pressed": String(entry.group === group),
        title: `In group ${text}`, "aria-label": `Group ${text}`,
        onclick: () => { entry.group = entry.group === group ? "" : group; tell("pins"); } }, text);
      return draggable(h("div", { class: "pin-box" }, take, h("div", { class: "marks" }, mark("a", "A"), mark("b", "B"),
        h("button", { type: "button", class: "mark", "aria-label": "Remove this pin", title: "Remove", onclick: () => unpin(entry) }, "×"))), () => entry.point);
    }));
    if (cells.length) askThumbs(state.pins.slice(0, 64).map((p) => p.point), cells);
  };
  const off = [on("current", showCurrent), on("pins", showPins), on("look", () => { showCurrent(); showPins(); }), on("smooth", () => { showCurrent(); showPins(); })];
  showCurrent();
  showPins();
  return () => { off.forEach((stop) => stop()); shown.close(); thumbs.close(); };
}
