// Everything that is seen can be saved: pictures, films, codes, and the Python lines that make it again.

import { postFor } from "./api.js";
import { noun, state } from "./state.js";
import { button, h, toast } from "./ui.js";

const ENDS = { png: "png", webp: "webp", mp4: "mp4", wav: "wav", codes: "safetensors", python: "py" };

export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const asked = (kind, { points, columns, ends, steps }) =>
  ends
    ? postFor(`runs/${state.run}/interpolate`, { ends, steps, as: kind, look: state.look })
    : postFor(`runs/${state.run}/decode`, { points, columns, as: kind, look: state.look });

// what: {points, columns} or {ends, steps}.
export async function save(kind, what, name = state.run) {
  try {
    const answer = await asked(kind, what);
    if (kind === "python") showPython(await answer.text(), name);
    else download(await answer.blob(), `${name}.${ENDS[kind]}`);
  } catch (error) {
    toast(error.message, true);
  }
}

function showPython(text, name) {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied");
    } catch {
      getSelection().selectAllChildren(box.querySelector("pre"));
      toast("Selected: press Ctrl-C to copy");
    }
  }, { kind: "main" });
  const box = h("dialog", { "aria-label": "Python lines" },
    h("h2", {}, "The same, in Python"),
    h("p", { class: "soft" }, `These lines load the model and write this very ${noun()}.`),
    h("pre", { tabindex: "0" }, text),
    h("div", { class: "row" }, copy,
      button("Save .py", () => download(new Blob([text], { type: "text/x-python" }), `${name}.py`)),
      button("Close", () => box.close(), { kind: "bare" })));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

export const saving = (what, name) => [
  ...(state.facts.signal.kind === "audio" ? [["Sound (WAV)", () => save("wav", what(), name)]] : []),
  ["Picture (PNG)", () => save("png", what(), name)],
  ["Codes (safetensors)", () => save("codes", what(), name)],
  ["Python lines", () => save("python", what(), name)],
];
