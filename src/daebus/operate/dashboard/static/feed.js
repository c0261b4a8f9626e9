// What the server tells, as it happens; the browser itself connects again when it was cut off.

/**
 * Listen to the server. `on.hello(about)` comes first and again after each cut, `on.fleet(fleet)`
 * with each look, `on.lost()` when there is no connection, `on.refused()` when there will be none.
 */
export function listen(on) {
  const source = new EventSource("/api/events");
  source.addEventListener("hello", (event) => on.hello(JSON.parse(event.data)));
  source.addEventListener("fleet", (event) => on.fleet(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      // The answer was an error, such as 401 after a restart with another token: ask why.
      on.lost();
      setTimeout(() => check(on), 1000);
    } else {
      on.lost();
    }
  });
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
