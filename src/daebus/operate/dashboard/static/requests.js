// Requests to the dashboard's own server, and its errors as text.

export class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

/** Read something; `query` are its parameters. */
export async function read(path, query) {
  return result(await sent(`${path}?${new URLSearchParams(query)}`, {}));
}

/** Change something; `value` goes as JSON. */
export async function change(path, value) {
  return result(await sent(path, posted(JSON.stringify(value))));
}

/**
 * Call an action: yields each line of the answer as it comes, as an object. `payload` is JSON text,
 * which goes as it is typed: a number of 20 digits stays one.
 */
export async function* call(query, payload, signal) {
  const response = await sent(`/api/call?${new URLSearchParams(query)}`, { ...posted(payload), signal });
  if (!response.ok) await result(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read().catch(lost);
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

const posted = (body) =>
  ({ method: "POST", headers: { "Content-Type": "application/json" }, body });

const sent = (path, options) => fetch(path, options).catch(lost);

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Refused("no_connection", "The connection to the dashboard was lost, or there is none.");
}

async function result(response) {
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    told = {};
  }
  throw new Refused(told.code ?? `http_${response.status}`, told.detail ?? told.title ?? text);
}
