// What the server tells, as it happens; the browser itself connects again when it was cut off.

// The server tells something each second; silence for so long means that the line is dead.
const SILENCE_MS = 10_000;

/**
 * Listen to the server. `on.hello(about)` comes first and again after each cut, `on.fleet(fleet)`
 * with each look, `on.lost()` when there is no connection, `on.refused()` when there will be none.
 */
export function listen(on) {
  const source = new EventSource("/api/events");
  let silence = null;

  function heard() {
    clearTimeout(silence);
    silence = setTimeout(again, SILENCE_MS);
  }

  function again() {
    clearTimeout(silence);
    source.close();
    on.lost();
    setTimeout(() => check(on), 1000);
  }

  source.addEventListener("hello", (event) => {
    heard();
    on.hello(JSON.parse(event.data));
  });
  source.addEventListener("fleet", (event) => {
    heard();
    on.fleet(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    // Closed: the answer was an error, such as 401 after a restart with another token.
    if (source.readyState === EventSource.CLOSED) again();
    else on.lost();
  });
  heard();
}

async function check(on) {
  try {
    const response = await fetch("/", { method: "HEAD" });
    if (response.status === 401) {
      on.refused();
      return;
    }
  } catch {
    // Not there at all; try again.
  }
  listen(on);
}
