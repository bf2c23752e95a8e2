// Sliders along directions, in standard deviations. They are a view of the current point: undo moves them, too.

import { get } from "../api.js";
import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { saving } from "../save.js";
import { defineGroup, on, setCurrent, state } from "../state.js";
import { button, h, head, menu, segments, slider, toast } from "../ui.js";

const TITLES = { pca: "Principal components", sefa: "Style factors (SeFa)" };
const SHOWN = 10;
const nameOf = (set, names) => TITLES[set] ?? (set.startsWith("labels:") ? `Label: ${set.slice(7)}` : names?.length === 1 && /^[0-9a-f]{32}$/.test(set) ? `Mine: ${names[0]}` : set);

export function mount(root) {
  const facts = state.facts;
  let set = state.editSet && facts.directions.includes(state.editSet) ? state.editSet : facts.directions[0];
  let layers = "all", all = false, held = false;
  const custom = new Set(facts.layers ? [...Array(facts.layers.count).keys()] : []);
  const picture = cell("The edited image");
  const unedited = new Channel((header, blobs) => held && picture.show(blobs[0]), (error) => toast(error, true));

  const base = () => (state.current.kind === "move" ? state.current.of : state.current);
  const along = () => (state.current.kind === "move" ? state.current.along : []);
  const chosen = () => (layers === "all" || !facts.layers ? null : layers === "custom" ? [...custom].sort((a, b) => a - b) : facts.layers.groups[layers]);
  const matches = (step, which) => step.directions === set && step.which === which && JSON.stringify(step.layers ?? null) === JSON.stringify(chosen());

  function stepTo(which, steps) {
    const others = along().filter((step) => !matches(step, which));
    const range = chosen();
    if (range !== null && !range.length) return;
    const moved = Math.abs(steps) < 1e-9 ? others : [...others, { directions: set, which, steps, ...(range ? { layers: range } : {}) }];
    setCurrent(moved.length ? { kind: "move", of: base(), along: moved } : base(), { by: `edit ${set} ${which}` });
  }

  const show = () => {
    if (held) unedited.ask({ run: state.run, points: [base()], look: state.look });
    else if (state.picture) picture.show(state.picture);
  };
  const list = h("div", { class: "sliders" });
  const note = h("p", { class: "soft" });
  const more = button("Show all", () => { all = !all; build(); }, { kind: "bare small" });
  let sliders = [];

  async function choose(next) {
    set = state.editSet = next;
    try {
      if (!state.sets.has(set)) state.sets.set(set, await get(`runs/${state.run}/directions/${encodeURIComponent(set)}`));
      if (set === next) build();
    } catch (error) {
      list.replaceChildren(h("p", { class: "soft" }, error.message));
      toast(error.message, true);
    }
  }

  function caption(found, i) {
    const [what, values] = Object.entries(found.measures)[0] ?? [];
    if (what === "variance") return `${(100 * values[i]).toFixed(1)} % of the variance`;
    return what ? `${what} ${values[i].toFixed(2)}` : "";
  }

  function build() {
    const found = state.sets.get(set);
    if (!found) return;
    const names = all ? found.names : found.names.slice(0, SHOWN);
    sliders = names.map((name, which) => {
      const label = set === "pca" ? `Component ${which + 1}` : set === "sefa" ? `Factor ${which + 1}` : name;
      const element = slider({ label, min: -4, max: 4, step: 0.05, value: 0, rest: 0, format: (v) => `${v > 0 ? "+" : ""}${v.toFixed(2)} σ`, oninput: (v) => stepTo(which, v) });
      element.title = caption(found, which);
      return element;
    });
    list.replaceChildren(...sliders);
    more.hidden = found.names.length <= SHOWN;
    more.textContent = all ? "Show fewer" : `Show all ${found.names.length}`;
    note.textContent = { labels: "Found from labels", means: "From two groups" }[found.method] ?? "";
    follow();
  }
  function follow() {
    sliders.forEach((element, which) => element.set(along().find((step) => matches(step, which))?.steps ?? 0));
    reset.disabled = !along().length;
    compare.disabled = !along().length;
  }

  const sets = h("select", { "aria-label": "Directions", onchange: () => choose(sets.value) });
  const fillSets = () => {
    const own = [...state.sets.keys()].filter((name) => /^[0-9a-f]{32}$/.test(name));
    sets.replaceChildren(...[...facts.directions, ...own].map((name) => h("option", { value: name }, nameOf(name, state.sets.get(name)?.names))));
    sets.value = set;
  };

  const reset = button("Reset", () => setCurrent(base()), { symbol: "reset" });
  const compare = button("Hold to compare", () => {}, { title: "Hold: the image without the edits" });
  const hold = (now) => { if (held !== now) { held = now; compare.setAttribute("aria-pressed", String(now)); show(); } };
  compare.addEventListener("pointerdown", () => hold(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) compare.addEventListener(end, () => hold(false));
  compare.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") hold(true); });
  compare.addEventListener("keyup", () => hold(false));

  const each = h("div", { class: "chips", hidden: true });
  if (facts.layers) {
    facts.layers.sides.forEach((side, layer) => each.append(h("button", { type: "button", class: "chip", "aria-pressed": "true", title: `layer ${layer}, ${side} pixels`,
      onclick: (event) => { custom[custom.has(layer) ? "delete" : "add"](layer); event.currentTarget.setAttribute("aria-pressed", String(custom.has(layer))); follow(); } }, `${layer}`)));
  }
  const ranges = facts.layers ? h("div", { class: "stack tight" }, h("h3", {}, "Layers"),
    segments("Layers", [["all", "all"], ...Object.keys(facts.layers.groups).map((name) => [name, name]), ["custom", "choose"]], "all", (value) => { layers = value; each.hidden = value !== "custom"; follow(); }), each) : null;

  const title = h("input", { type: "text", maxlength: "60", placeholder: "its name", "aria-label": "Name of the new direction" });
  const groups = h("p", { class: "soft" });
  const make = button("Make a direction", async () => {
    const [towards, away] = ["b", "a"].map((group) => state.pins.filter((p) => p.group === group).map((p) => p.point));
    try {
      const found = await defineGroup({ name: title.value.trim() || "A to B", towards, away });
      set = found.set;
      fillSets();
      choose(set);
      toast("The slider goes from A to B");
    } catch (error) {
      toast(error.message, true);
    }
  });
  const count = () => {
    const [a, b] = ["a", "b"].map((group) => state.pins.filter((p) => p.group === group).length);
    groups.textContent = `Mark pins as A or B: the direction goes from the mean of A (${a}) to that of B (${b}).`;
    make.disabled = !a || !b;
  };

  root.append(head("Edit", "Each slider goes along one direction of the latent space. A double click puts it back.",
    menu("Save", "save", saving(() => ({ points: [state.current] }), `${state.run}-edited`))),
    h("div", { class: "split" },
      h("div", { class: "stack" }, h("div", { class: "big" }, picture.element), h("div", { class: "row centred" }, compare, reset)),
      h("div", { class: "stack" },
        h("div", { class: "card stack" }, h("div", { class: "row" }, sets, note), ranges, list, more),
        h("div", { class: "card stack" }, h("h3", {}, "A direction of your own"), groups, h("div", { class: "row" }, title, make)))));
  fillSets();
  count();
  choose(set);
  show();
  const off = [on("current", follow), on("picture", show), on("smooth", show), on("pins", count)];
  return () => { off.forEach((stop) => stop()); unedited.close(); };
}
