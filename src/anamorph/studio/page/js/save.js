// Whatever is shown can be saved: as pictures, films, codes, and Python code that makes it again.

import { postFor } from "./api.js";
import { noun, state } from "./state.js";
import { button, h, showError, soft, toast } from "./ui.js";

const EXTENSIONS = { png: "png", webp: "webp", mp4: "mp4", wav: "wav", codes: "safetensors", python: "py" };

export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const request = (kind, { points, columns, ends, steps }) =>
  ends
    ? postFor(`runs/${state.run}/interpolate`, { ends, steps, as: kind, look: state.look })
    : postFor(`runs/${state.run}/decode`, { points, columns, as: kind, look: state.look });

// content: {points, columns} or {ends, steps}.
export async function save(kind, content, name = state.run) {
  try {
    const response = await request(kind, content);
    if (kind === "python") showPython(await response.text(), name);
    else download(await response.blob(), `${name}.${EXTENSIONS[kind]}`);
  } catch (error) {
    showError(error);
  }
}

async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    getSelection().selectAllChildren(element);
    toast("Selected: press Ctrl-C to copy");
  }
}

function showPython(text, name) {
  const code = h("pre", { tabindex: "0" }, text);
  const dialog = h("dialog", { "aria-label": "Python code" },
    h("h2", {}, "The same in Python"),
    soft(`This code loads the model and writes the same ${noun()}s.`),
    code,
    h("div", { class: "row" },
      button("Copy", () => copy(text, code), { kind: "main" }),
      button("Save .py", () => download(new Blob([text], { type: "text/x-python" }), `${name}.py`)),
      button("Close", () => dialog.close(), { kind: "bare" })));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// Entries of a menu that saves content(), which is asked for when an entry is chosen.
export const saveEntries = (content, name) => [
  ...(state.model.signal.kind === "audio" ? [["Sound (WAV)", () => save("wav", content(), name)]] : []),
  ["Picture (PNG)", () => save("png", content(), name)],
  ["Codes (safetensors)", () => save("codes", content(), name)],
  ["Python code", () => save("python", content(), name)],
];
