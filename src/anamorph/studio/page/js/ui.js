// Elements, and the controls that panels share.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  wall: "M3 3h8v8H3zM13 3h8v8h-8zM3 13h8v8H3zM13 13h8v8h-8z",
  reconstruct: "M12 3v18M4 5h6v14H4zM14 5h6v14h-6",
  edit: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  mix: "M3 9h18M9 3v18M3 3h18v18H3z",
  interpolate: "M4 20C4 10 20 14 20 4M4 20h.01M20 4h.01",
  codes: "M4 4h4v4H4zM10 4h4v4h-4zM16 10h4v4h-4zM4 16h4v4H4zM10 10h4v4h-4zM16 16h4v4h-4z",
  map: "M6 8h.01M10 14h.01M15 6h.01M18 12h.01M8 19h.01M14 18h.01M3 3h18v18H3z",
  training: "M3 4v16h18M6 8c4 8 6 8 13 9",
  compare: "M3 5h8v14H3zM13 5h8v14h-8z",
  pin: "M12 21s7-6.2 7-11.5A7 7 0 0 0 5 9.500C5 14.800 12 21 12 21zM12 12a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5",
  undo: "M9 7 4 12l5 5M4 12h10a6 6 0 0 1 6 6",
  redo: "M15 7l5 5-5 5M20 12H10a6 6 0 0 0-6 6",
  like: "M12 20s-8-5-8-11a4.500 4.500 0 0 1 8-2.800A4.500 4.500 0 0 1 20 9c0 6-8 11-8 11z",
  close: "M6 6l12 12M18 6 6 18",
  save: "M12 4v11M7 11l5 5 5-5M4 20h16",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600 19 19M19 5l-1.400 1.400M6.400 17.600 5 19",
  session: "M4 5h6l2 3h8v11H4z",
  dice: "M4 4h16v16H4zM8.500 8.500h.01M15.500 15.500h.01M12 12h.01M15.500 8.500h.01M8.500 15.500h.01",
  upload: "M12 16V5M7 9l5-5 5 5M4 20h16",
  play: "M7 4l13 8-13 8z",
  stop: "M6 6h12v12H6z",
  reset: "M4 12a8 8 0 1 0 2.500-5.800M4 4v5h5",
  plus: "M12 5v14M5 12h14",
};

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(label, onclick, { symbol, kind = "", title, pressed, only = false } = {}) {
  const props = { type: "button", class: `${kind} ${only ? "icon" : ""}`.trim(), onclick, title: title ?? (only ? label : undefined) };
  if (only) props["aria-label"] = label;
  if (pressed !== undefined) props["aria-pressed"] = String(pressed);
  return h("button", props, symbol ? icon(symbol) : null, only ? null : label);
}

// A slider that reports every value while it moves; a double click, or Delete, resets it. hint: explains it in a tooltip.
export function slider(options) {
  const { label, hint = label, min, max, step, value, rest = value, format = (v) => v.toFixed(2), oninput, inline = false } = options;
  const input = h("input", { type: "range", min: String(min), max: String(max), step: String(step), "aria-label": label });
  const output = h("output", { class: "number" });
  const element = h("label", { class: `slider ${inline ? "inline" : ""}`, title: hint }, h("span", {}, label), input, output);
  const share = (v) => (100 * (v - min)) / (max - min);
  const paint = () => {
    const [a, b] = [share(Math.max(min, 0)), share(input.valueAsNumber)].sort((p, q) => p - q);
    input.style.setProperty("--a", `${a}%`);
    input.style.setProperty("--b", `${b}%`);
    output.textContent = format(input.valueAsNumber);
    element.classList.toggle("changed", Math.abs(input.valueAsNumber - rest) > 1e-9);
  };
  element.set = (next) => { input.value = String(next); paint(); };
  const reset = () => { element.set(rest); oninput(rest); };
  input.addEventListener("input", () => { paint(); oninput(input.valueAsNumber); });
  input.addEventListener("dblclick", reset);
  input.addEventListener("keydown", (event) => { if (event.key === "Delete" || event.key === "Backspace") reset(); });
  element.set(value);
  return element;
}

// One of a few options, [value, text, tooltip] each, as buttons side by side; arrow keys move among them.
export function segments(label, options, value, onchange) {
  const group = h("div", { class: "segments", role: "radiogroup", "aria-label": label });
  group.set = (next) => {
    for (const child of group.children) {
      const checked = child.dataset.value === next;
      child.setAttribute("aria-checked", String(checked));
      child.tabIndex = checked ? 0 : -1;
    }
  };
  const choose = (next) => { group.set(next); onchange(next); };
  for (const [key, text, title] of options) {
    group.append(h("button", { type: "button", role: "radio", "data-value": key, title, onclick: () => choose(key) }, text));
  }
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...group.children];
    const next = buttons[(buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length];
    next.focus();
    choose(next.dataset.value);
  });
  group.set(value);
  return group;
}

// A select of [value, text] options.
export function select(label, options, onchange, { value, hint } = {}) {
  const element = h("select", { "aria-label": label, title: hint, onchange: () => onchange(element.value) });
  element.fill = (next) => element.replaceChildren(...next.map(([key, text]) => h("option", { value: String(key) }, text)));
  element.fill(options);
  if (value !== undefined) element.value = String(value);
  return element;
}

// A picture that can be clicked.
export const slot = (cell, title, onclick) => h("button", { type: "button", class: "slot", title, onclick }, cell.element);

// A paragraph in a soft colour.
export const soft = (text) => h("p", { class: "soft" }, text);

// A button that opens a list of [text, action] entries.
export function menu(label, symbol, entries, { only = false, kind = "" } = {}) {
  const list = h("div", { role: "menu", hidden: true });
  const opener = button(label, () => toggle(list.hidden), { symbol, only, kind });
  opener.setAttribute("aria-haspopup", "menu");
  const toggle = (open) => {
    list.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open) list.querySelector("button")?.focus();
  };
  for (const [text, action] of entries) {
    list.append(h("button", { type: "button", role: "menuitem", onclick: () => { toggle(false); action(); } }, text));
  }
  const box = h("div", { class: "menu" }, opener, list);
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") { toggle(false); opener.focus(); } });
  box.addEventListener("focusout", (event) => { if (!box.contains(event.relatedTarget)) toggle(false); });
  return box;
}

export function toast(text, bad = false) {
  const note = h("div", { class: `toast ${bad ? "bad" : ""}`, role: bad ? "alert" : undefined }, text);
  const place = document.getElementById("toasts");
  for (const other of [...place.children]) if (other.textContent === text) other.remove();
  place.append(note);
  setTimeout(() => note.remove(), bad ? 9000 : 3500);
}

// Shows an error, or the text of one.
export const showError = (error) => toast(error.message ?? error, true);

// The heading of a panel: its title, a sentence, and controls.
export function head(title, text, ...controls) {
  return h("div", { class: "head" }, h("div", {}, h("h2", {}, title), h("p", {}, text)), ...controls);
}
