// The form of one action: its payload as fields or as JSON, and the responses as they come.

import { el, write } from "./elements.js";
import { checkJson, fieldsFor } from "./fields.js";
import { counted, milliseconds } from "./figures.js";
import { call } from "./requests.js";

// More responses than these push the first ones out, so that no stream fills the page.
const MOST_RESPONSES = 200;

export function actionForm(service, action, schemas, about) {
  const fields = fieldsFor(action.payload, schemas);
  const json = el("textarea", { rows: "6", spellcheck: "false", class: "mono", "aria-label": "Payload as JSON" });
  const asFields = el("div", { class: "fields" }, ...(fields?.nodes ?? []),
    fields?.isEmpty ? el("p", { class: "dim" }, "It takes nothing.") : null);
  const asJson = el("div", { class: "fields" }, json);
  const modes = [["Fields", false], ["JSON", true]].map(([name, isJson]) =>
    el("button", { type: "button", onclick: () => change(isJson) }, name));
  const timeout = el("input", { type: "number", value: "30", min: "0.1", max: "3600", step: "any", id: "timeout", required: true });
  const start = el("button", { class: "primary" }, "Call");
  const stop = el("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Cancel");
  const trouble = el("p", { class: "bad", role: "alert", hidden: true });
  const responses = el("ol", { class: "responses" });
  const outcome = el("p", { class: "outcome", role: "status" });
  const node = el("form", { class: "call", novalidate: true, onsubmit: submitted },
    el("h3", {}, el("bdi", {}, action.name)),
    action.description ? el("p", { class: "description" }, action.description) : null,
    el("div", { class: "modes", role: "group", "aria-label": "How to give the payload" }, ...modes),
    asFields, asJson,
    el("p", { class: "buttons" }, start, stop,
      el("label", { for: "timeout" }, "give up after "), timeout, " s"),
    trouble, outcome, responses);
  let isJson = fields === null;
  let running = null;
  json.value = "{}";
  start.disabled = about.is_read_only;
  if (about.is_read_only) write(outcome, "This dashboard is read-only.");
  arrange();

  /** What the fields say is taken along to the JSON; the way back leaves the fields as they were. */
  function change(toJson) {
    if (toJson && !isJson) {
      try {
        json.value = fields.text("\n  ");
      } catch {
        json.value = "{}";
      }
    }
    isJson = toJson;
    arrange();
  }

  function arrange() {
    asFields.hidden = isJson;
    asJson.hidden = !isJson;
    modes.forEach((button, number) => button.setAttribute("aria-pressed", String(isJson === (number === 1))));
    modes[0].disabled = fields === null;
    modes[0].title = fields === null ? "The service does not say what fields there are" : "";
  }

  function payload() {
    if (!isJson) return fields.text();
    const text = json.value.trim() || "{}";
    checkJson(text, "The payload");
    return text;
  }

  function submitted(event) {
    event.preventDefault();
    if (running) return;
    trouble.hidden = true;
    const wrong = [...node.elements].find((input) => !input.closest("[hidden]") && !input.checkValidity());
    if (wrong) {
      node.classList.add("checked");
      wrong.reportValidity();
      return;
    }
    try {
      run(payload());
    } catch (error) {
      trouble.hidden = false;
      write(trouble, error.message);
    }
  }

  async function run(text) {
    running = new AbortController();
    responses.replaceChildren();
    start.disabled = true;
    stop.hidden = false;
    tell("", "Waiting for the first response …");
    const began = performance.now();
    try {
      const query = { service, action: action.name, timeout_s: timeout.value };
      let isOver = false;
      for await (const line of call(query, text, running.signal)) {
        answered(line);
        isOver = line.is_final || line.kind === "error";
      }
      if (!isOver) tell("bad", "The dashboard was ended before the final response came.");
    } catch (error) {
      if (error.name === "AbortError") tell("bad", `Cancelled after ${milliseconds(performance.now() - began)}.`);
      else tell("bad", error.message, error.code);
    } finally {
      running = null;
      start.disabled = false;
      stop.hidden = true;
    }
  }

  function answered(line) {
    if (line.kind === "response") {
      responses.append(el("li", { value: line.number, class: line.is_final ? "final" : "" },
        el("small", { class: "dim" }, `${line.is_final ? "final, " : ""}after ${milliseconds(line.after_ms)}`),
        el("pre", { tabindex: "0" }, line.text)));
      if (responses.children.length > MOST_RESPONSES) responses.firstChild.remove();
      const came = counted(line.number, "response");
      if (line.is_final) tell("good", `Done after ${milliseconds(line.after_ms)}, ${came}.`);
      else tell("", `${came} so far …`);
    } else {
      tell("bad", `${line.error} (after ${milliseconds(line.after_ms)})`, line.code);
    }
  }

  function tell(kind, text, code) {
    outcome.dataset.kind = kind;
    outcome.replaceChildren(code ? el("code", { class: "badge" }, code) : "", code ? " " : "", text);
  }

  return { node, close: () => running?.abort(), isBusy: () => running !== null };
}
