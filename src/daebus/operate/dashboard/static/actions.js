// The actions of a service: a list with their figures, and a form for the one that is chosen.

import { actionForm } from "./action_form.js";
import { eachOf, el, write } from "./elements.js";
import { milliseconds, rate } from "./figures.js";
import { read } from "./requests.js";

export function actions(service, about) {
  const list = el("ul", { class: "actions" });
  const place = el("div", { class: "form-place" });
  const note = el("p", { class: "dim", hidden: true });
  const channels = el("p", { class: "dim", hidden: true });
  const node = el("section", { class: "card" }, el("h2", {}, "Actions"), note,
    el("div", { class: "two" }, list, place), channels);
  const showList = eachOf(list, (action) => action.name, (action) => actionItem(action, choose));
  let contract = null;
  let isTold = false; // Whether the service has said what its actions take, or cannot.
  let replicas = "";
  let chosen = null;
  let form = null;
  let last = [];

  function choose(name) {
    chosen = name;
    form?.close();
    form = actionForm(service, contractOf(name), contract?.schemas ?? {}, about);
    place.replaceChildren(form.node);
    mark();
  }

  const contractOf = (name) =>
    contract?.actions.find((action) => action.name === name) ?? { name, description: "", payload: {} };

  function mark() {
    for (const item of list.querySelectorAll("button")) {
      item.setAttribute("aria-pressed", String(item.dataset.name === chosen));
    }
  }

  async function learn() {
    try {
      const told = await read("/api/contract", { service });
      const before = chosen && JSON.stringify([contractOf(chosen), contract?.schemas]);
      contract = told;
      // A form that is being filled in stays as it is, unless the action has changed.
      const isOther = before !== JSON.stringify([contractOf(chosen), contract.schemas]);
      if (chosen && isOther && !form.isBusy()) choose(chosen);
      note.hidden = true;
      channels.hidden = contract.channels.length === 0;
      write(channels, `Listens to ${contract.channels.map((channel) => channel.channel).join(", ")}`);
    } catch (error) {
      note.hidden = false;
      write(note, `What the actions take is not known: ${error.message}`);
      // A service of an earlier version does not tell; anything else may pass.
      if (error.code !== "unknown_action") replicas = "";
    }
    isTold = true;
    show(last);
  }

  /** Figures are of actions that were seen at work, names of all. */
  function show(seen) {
    last = seen;
    const figures = new Map(seen.map((action) => [action.name, action]));
    const names = new Set([...(contract?.actions ?? []).map((action) => action.name), ...figures.keys()]);
    const shown = [...names].filter((name) => !name.startsWith("daebus.")).sort();
    showList(shown.map((name) => ({ name, ...figures.get(name) })));
    node.hidden = shown.length === 0 && contract === null;
    if (chosen === null && isTold && shown.length) choose(shown[0]);
    mark();
  }

  return {
    node,
    close: () => form?.close(),
    show(seen) {
      const now = (seen?.replicas ?? []).map((replica) => replica.replica_id).sort().join(" ");
      if (now !== replicas) {
        replicas = now;
        if (now) learn();
      }
      show((seen?.actions ?? []).filter((action) => !action.is_channel));
    },
  };
}

function actionItem({ name }, choose) {
  const figures = el("small", { class: "dim" });
  const node = el("li", {}, el("button",
    { type: "button", "data-name": name, "aria-pressed": "false", onclick: () => choose(name) },
    el("bdi", {}, name), figures));
  return {
    node,
    show: (seen) => write(figures, seen.requests_per_s > 0
      ? `${rate(seen.requests_per_s)}/s · p99 ${milliseconds(seen.p99_ms)}` : "idle"),
  };
}
