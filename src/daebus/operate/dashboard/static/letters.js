// Dead letters of a service or a queue: a list to read, retry and, when that is confirmed, drop.

import { eachOf, el, write } from "./elements.js";
import { age, count, counted } from "./figures.js";
import { change, read } from "./requests.js";

/**
 * `owner` is `{service}`, `{queue}` or `{pipeline}`; `show(number, now)` says how many there are
 * at this moment of the server's clock.
 */
export function letters(owner, about) {
  const title = el("h2", {}, "Dead letters");
  const note = el("p", { class: "dim" });
  const told = el("p", { role: "status", class: "told" });
  const list = el("div", { class: "letters" });
  const all = el("span", { class: "buttons" },
    el("button", { type: "button", onclick: () => retry(null) }, "Retry all"),
    el("button", { type: "button", class: "danger", onclick: () => drop(null) }, "Drop all …"));
  const node = el("section", { class: "card dead" }, el("div", { class: "head" }, title, all), note, told, list);
  const showEach = eachOf(list, (letter) => letter.id, (letter) => letterPart(letter, { owner, about, retry, drop }));
  let listed = [];
  let now = 0;
  let shown = null;
  let loading = false;
  let isStale = false;

  const showList = () => showEach(listed.map((letter) => ({ ...letter, now })));

  /** Read the list; one that is being read while something changes is read again. */
  async function load() {
    isStale = true;
    if (loading) return;
    loading = true;
    while (isStale) {
      isStale = false;
      await loadOnce();
    }
    loading = false;
  }

  async function loadOnce() {
    try {
      const found = await read("/api/letters", owner);
      listed = found.letters;
      showList();
      write(note, listed.length === 0 ? nothing(owner)
        : found.has_more ? `The oldest ${count(listed.length)} are listed.` : "");
      all.hidden = about.is_read_only || listed.length === 0;
      if (told.classList.contains("bad")) tell("", "");
    } catch (error) {
      tell("bad", error.message);
      shown = null; // The next look tries again.
    }
  }

  function tell(kind, text) {
    told.className = `told ${kind}`;
    write(told, text);
  }

  const retry = (id) => act("/api/letters/retry", id, "given back");

  async function drop(id) {
    const what = id === null ? "all dead letters" : "this dead letter";
    const name = owner.service ?? owner.queue;
    if (await confirmed(`Remove ${what} of ${name} for good?`, "Remove")) {
      await act("/api/letters/drop", id, "removed");
    }
  }

  async function act(path, id, words) {
    try {
      const { done } = await change(path, { ...owner, id });
      tell("", `${counted(done, "dead letter")} ${words}.`);
    } catch (error) {
      tell("", error.message);
    }
    await load();
  }

  return {
    node,
    show(number, at) {
      now = at;
      write(title, number ? `Dead letters (${count(number)})` : "Dead letters");
      if (number === shown) {
        showList(); // Their ages go on.
        return;
      }
      shown = number;
      load();
    },
  };
}

const nothing = (owner) => owner.service
  ? "None. A message that fails too often is kept here with its reason, until somebody decides about it."
  : "None.";

function letterPart(letter, { owner, about, retry, drop }) {
  const contents = el("div", { class: "contents" });
  const when = el("span", { class: "dim" });
  const node = el("details", { class: "letter", ontoggle: () => node.open && open() },
    el("summary", {},
      el("bdi", { class: "target" }, targetOf(letter)),
      el("bdi", { class: "bad reason" }, letter.reason || "no reason is known"),
      when),
    contents,
    about.is_read_only ? null : el("p", { class: "buttons" },
      el("button", { type: "button", onclick: () => retry(letter.id) }, "Retry"),
      el("button", { type: "button", class: "danger", onclick: () => drop(letter.id) }, "Drop …")));

  async function open() {
    if (contents.firstChild) return;
    try {
      const whole = await read("/api/letters/one", { ...owner, id: letter.id });
      contents.replaceChildren(
        el("p", { class: "dim mono" }, `${whole.where} · ${whole.id}`),
        ...whole.contents.map((message) => el("div", {},
          message.message_id ? el("p", { class: "dim mono" }, whole.where === "pipeline" ? "from " : "message id ", el("bdi", {}, message.message_id)) : null,
          el("pre", { tabindex: "0" }, message.text))),
        whole.contents.length < whole.messages
          ? el("p", { class: "dim" }, `and ${count(whole.messages - whole.contents.length)} more`) : "");
    } catch (error) {
      contents.replaceChildren(el("p", { class: "bad" }, error.message));
    }
  }

  return {
    node,
    show: (seen) => write(when,
      `${counted(seen.deliveries, seen.where === "inbox" ? "delivery" : "try")}, ${age(seen.now - seen.at)} ago`),
  };
}

function targetOf(letter) {
  const more = letter.messages > 1 ? ` and ${count(letter.messages - 1)} more` : "";
  if (letter.where === "queue") return counted(letter.messages, "event");
  if (letter.where === "pipeline") return letter.message_id ?? "an event";
  if (letter.channel !== null) return `channel ${letter.channel}${more}`;
  return `action ${letter.action ?? "?"}${more}`;
}

/** Ask before what cannot be undone. */
function confirmed(question, word) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { onclose: () => { resolve(dialog.returnValue === "yes"); dialog.remove(); } },
      el("form", { method: "dialog" },
        el("p", {}, question),
        el("p", { class: "buttons" },
          el("button", { value: "no", autofocus: true }, "Keep"),
          el("button", { value: "yes", class: "danger" }, word))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
