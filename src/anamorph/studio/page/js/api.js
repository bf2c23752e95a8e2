// Requests by HTTP. Failures are thrown as Errors with the server's message.

import { counted } from "./pending.js";

async function checked(response) {
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try { message = JSON.parse(text).error ?? text; } catch { /* plain text */ }
  throw new Error(message || `the studio responded with status ${response.status}`);
}

const send = async (path, options) => {
  try {
    return await checked(await fetch(`/api/${path}`, options));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("the studio does not respond: is it still running?", { cause: error });
    throw error;
  }
};
const request = (path, options) => counted(() => send(path, options));
const json = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const bytes = (body) => ({ method: "POST", headers: { "content-type": "application/octet-stream" }, body });

export const get = async (path) => (await request(path)).json();
export const getBlob = async (path) => (await request(path)).blob();
export const post = async (path, body) => (await request(path, json(body))).json();
export const postFor = (path, body) => request(path, json(body));
export const upload = async (file) => (await request("images", bytes(file))).json();
