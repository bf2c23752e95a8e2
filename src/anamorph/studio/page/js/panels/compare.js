// The same image, or the same seed, through several models.

import { get, postFor, upload } from "../api.js";
import { cell } from "../cell.js";
import { Channel } from "../live.js";
import { noun, on, state } from "../state.js";
import { button, h, head, segments, toast } from "../ui.js";

const SHOWN = 6;

export function mount(root) {
  const mine = state.facts;
  const open = mine.data ? [["data", "reconstruct"]] : [];
  const modes = [...open, ["seed", "draw"]];
  let mode = modes[0][0], first = 0, gone = false;
  const rows = new Map();
  const table = h("div", { class: "compare" });
  const signalOf = (run) => JSON.stringify(Object.entries(run.signal ?? {}).sort());
  const sameSize = (run) => signalOf(run) === signalOf(state.runs.find((r) => r.id === state.run));
  const [digits, unit] = mine.signal.kind === "audio" ? [1, " dB"] : [4, ""];
  const candidates = state.runs.filter((run) => run.seen !== null && sameSize(run));
  const originals = [...Array(SHOWN).keys()].map(() => cell(`The ${noun()}`));
  const originalRow = h("div", { class: "compare-row" }, h("div", { class: "who" }, h("strong", {}, noun()), h("span", { class: "soft" }, "held out")), ...originals.map((c) => c.element));

  // Images of this run's data are brought to the others as files: theirs may be other ones.
  const brought = new Map();
  async function bring(index) {
    if (!brought.has(index)) {
      const answer = await postFor(`runs/${state.run}/original`, { point: { kind: "data", index } });
      const labels = JSON.parse(answer.headers.get("labels"));
      const point = { kind: "file", digest: (await upload(await answer.blob())).digest, name: `data ${index}` };
      brought.set(index, { point, labels });
    }
    return brought.get(index);
  }
  let chosen = [];
  // What the data say of it is given to a model that decodes such a label, by its own number for that class.
  function labelled(facts, { point, labels }) {
    const known = Object.entries(facts.decoder_labels).map(([name, classes]) => [name, classes.indexOf(labels[name])]).filter(([, i]) => i >= 0);
    return known.length ? { kind: "relabel", of: point, labels: known } : point;
  }
  async function choose() {
    const [wanted, kind] = [first, mode];
    const all = [...Array(SHOWN).keys()].map((i) => (kind === "data" ? bring((wanted + i) % mine.data.size) : { point: { kind: "seed", seed: wanted + i + 1 }, labels: {} }));
    const found = await Promise.all(all);
    if (wanted !== first || kind !== mode) return;
    chosen = found;
    order();
    rows.forEach((_, id) => ask(id));
  }

  async function add(id) {
    try {
      const facts = id === state.run ? mine : await get(`runs/${id}`);
      if (gone) return;
      const cells = [...Array(SHOWN).keys()].map((i) => cell(`${id}, ${i + 1}`));
      const error = h("span", { class: "soft number" });
      const element = h("div", { class: "compare-row" }, h("div", { class: "who" }, h("strong", {}, id), h("span", { class: "soft" }, facts.model), error), ...cells.map((c) => c.element));
      const channel = new Channel(async (header, blobs) => {
        error.textContent = mode === "data" ? `error ${(header.errors.reduce((a, b) => a + b, 0) / header.errors.length).toFixed(digits)}${unit}` : "";
        await Promise.all([...cells.map((c, i) => c.show(blobs[i])), ...(mode === "data" && id === teller() ? originals.map((c, i) => c.show(blobs[SHOWN + i])) : [])]);
      }, (text) => toast(`${id}: ${text}`, true));
      rows.set(id, { facts, element, channel, cells });
      order();
      ask(id);
    } catch (error) {
      toast(`${id}: ${error.message}`, true);
      chips.get(id)?.setAttribute("aria-pressed", "false");
    }
  }
  function drop(id) {
    rows.get(id)?.channel.close();
    rows.delete(id);
    order();
  }
  const can = (facts) => facts.capabilities.includes(mode === "data" ? "encode" : "sample");
  // The first model that shows something has the originals shown, too.
  const teller = () => candidates.find((run) => rows.has(run.id) && can(rows.get(run.id).facts))?.id;
  function order() {
    originalRow.hidden = mode !== "data";
    table.replaceChildren(originalRow, ...candidates.filter((run) => rows.has(run.id)).map((run) => rows.get(run.id).element));
    for (const { element, facts } of rows.values()) element.classList.toggle("cannot", !can(facts));
  }
  function ask(id) {
    const row = rows.get(id);
    if (!row || !chosen.length || !can(row.facts)) return;
    const points = chosen.map((one) => labelled(row.facts, one));
    row.channel.ask({ run: id, points, look: { noise: "fixed" }, originals: mode === "data" });
  }
  const all = () => choose().catch((error) => toast(error.message, true));

  const chips = new Map();
  const picks = h("div", { class: "chips" }, candidates.map((run) => {
    const chip = button(run.id, () => {
      const now = !rows.has(run.id);
      if (now && rows.size >= 4) { toast("Four models side by side are the most that stay in memory", true); return; }
      chip.setAttribute("aria-pressed", String(now));
      now ? add(run.id) : drop(run.id);
    }, { kind: "chip", pressed: false });
    chips.set(run.id, chip);
    return chip;
  }));
  const turn = (by) => { first = Math.max(0, first + by * SHOWN); all(); };
  root.append(head("Compare", `The same ${noun()}s, or the same seeds, through several models.`,
    segments("What is compared", modes, mode, (value) => { mode = value; first = 0; all(); }),
    h("div", { class: "row" }, button("Earlier", () => turn(-1)), button("Later", () => turn(1)))), picks, table);
  for (const run of [candidates.find((r) => r.id === state.run), ...candidates.filter((r) => r.id !== state.run)].slice(0, 3)) {
    chips.get(run.id).setAttribute("aria-pressed", "true");
    add(run.id);
  }
  all();
  const off = on("smooth", all);
  return () => { gone = true; off(); rows.forEach((row) => row.channel.close()); };
}
