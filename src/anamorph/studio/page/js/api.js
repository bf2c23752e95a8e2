// Requests by HTTP. What goes wrong is thrown as an Error with the server's own words.

async function answer(response) {
  if (response.ok) return response;
  const text = await response.text();
  let said = text;
  try { said = JSON.parse(text).error ?? text; } catch { /* plain text */ }
  throw new Error(said || `the studio answered ${response.status}`);
}

const at = (path) => `/api/${path}`;
const asked = async (path, options) => {
  try {
    return await answer(await fetch(at(path), options));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("the studio does not answer: is it still running?");
    throw error;
  }
};
const posting = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const get = async (path) => (await asked(path)).json();
export const getBlob = async (path) => (await asked(path)).blob();
export const post = async (path, body) => (await asked(path, posting(body))).json();
export const postFor = (path, body) => asked(path, posting(body));
export const upload = async (file) => (await asked("images", { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file })).json();
export const uploadCodes = async (run, file) => (await asked(`runs/${run}/codes`, { method: "POST", body: file })).json();
