// The view of queues and pipelines on this machine's disk: their batches by state, and their flow.

import { chart } from "./chart.js";
import { eachOf, el, write } from "./elements.js";
import { age, count, counted, rate } from "./figures.js";
import { letters } from "./letters.js";

const STATES = ["loading", "ready", "chosen", "dead"];
const MEANING = {
  loading: "being filled by a producer",
  ready: "waiting for a consumer",
  chosen: "being worked on",
  dead: "failed too often",
};

export function queuesView(about) {
  const pipelines = el("div");
  const queues = el("div");
  const nothing = el("section", { class: "empty", hidden: true },
    el("h2", {}, "No queue or pipeline was found"),
    about.folders.length
      ? el("p", {}, "None is in ", el("bdi", { class: "mono" }, about.folders.join(", ")), ".")
      : el("p", {}, "Name the folders where they are: ", el("code", {}, "daebus dashboard --folder ./orders"), "."),
    el("p", {}, "A queue is a folder; a producer makes it: ", el("code", {}, "Queue(\"events\").producer()"), "."));
  const showPipelines = eachOf(pipelines, (one) => one.path, (one) => pipelineCard(one, about));
  const showQueues = eachOf(queues, (one) => one.path, (one) => queueCard(one, about));
  return {
    name: "queues",
    title: "Queues",
    node: el("div", {}, el("h1", { class: "unseen" }, "Queues and pipelines"), nothing, pipelines, queues),
    show(fleet, history) {
      nothing.hidden = fleet.queues.length + fleet.pipelines.length > 0;
      showPipelines(fleet.pipelines.map((one) => ({ ...one, history })));
      showQueues(fleet.queues.map((one) => ({ ...one, history })));
    },
  };
}

function pipelineCard({ path, name }, about) {
  const status = el("span", { class: "badge" });
  const facts = el("p", { class: "dim" });
  const steps = el("div", { class: "steps" });
  const flow = chart("Events per second", rate);
  const retrying = el("p", { class: "dim" }, "They are tried again with ",
    el("code", {}, "turbo-queue run FILE --retry-dead"), ", when what they failed at is mended.");
  // To try them again takes the pipeline's work, which is not here.
  const dead = letters({ pipeline: path }, { ...about, is_read_only: true });
  dead.node.append(retrying);
  const showSteps = eachOf(steps, (queue) => queue.path, (queue) => queuePart(queue));
  const node = el("section", { class: "card" },
    el("h2", {}, el("bdi", {}, name), " ", el("span", { class: "kind" }, "pipeline"), status),
    el("p", { class: "mono dim" }, el("bdi", {}, path)), facts, steps, flow.node, dead.node);
  return {
    node,
    show(seen) {
      write(status, seen.is_running ? `running${seen.pid ? `, pid ${seen.pid}` : ""}` : "not running");
      status.dataset.kind = seen.is_running ? "good" : "gone";
      write(facts, `${counted(seen.waiting, "event")} waiting`);
      showSteps(seen.queues);
      dead.node.hidden = seen.dead_letters === 0;
      dead.show(seen.dead_letters, seen.history.now);
      showFlow(flow, path, seen.history);
    },
  };
}

function queueCard({ path, name }, about) {
  const part = queuePart({ path, name });
  const status = el("span", { class: "badge", hidden: true });
  const facts = el("p", { class: "dim" });
  const trouble = el("p", { class: "bad", hidden: true });
  const flow = chart("Events per second", rate);
  const dead = letters({ queue: path }, about);
  const node = el("section", { class: "card" },
    el("h2", {}, el("bdi", {}, name), " ", el("span", { class: "kind" }, "queue"), status),
    el("p", { class: "mono dim" }, el("bdi", {}, path)), facts, trouble,
    el("div", { class: "halves" }, part.node, flow.node), dead.node);
  return {
    node,
    show(seen) {
      status.hidden = !seen.is_closed;
      write(status, "closed");
      trouble.hidden = !seen.trouble;
      write(trouble, seen.trouble ?? "");
      write(facts, `${counted(seen.producers.length, "producer")}, ${counted(seen.consumers.length, "consumer")}; `
        + `${count(seen.events_in)} events in, ${count(seen.events_out)} out`
        + (seen.bad_files ? `; ${counted(seen.bad_files, "bad file")}` : ""));
      part.show(seen);
      showFlow(flow, path, seen.history);
      dead.show(seen.states.dead?.batches ?? 0, seen.history.now);
      dead.node.hidden = !seen.states.dead?.batches;
    },
  };
}

/** The batches of one queue: a bar with a part for each state, and the same in words. */
function queuePart({ name }) {
  const bar = el("div", { class: "bar", role: "img" });
  const parts = STATES.map((state) => bar.appendChild(el("i", { class: state })));
  const words = STATES.map((state) => el("span"));
  const node = el("div", { class: "queue" },
    el("h3", {}, el("bdi", {}, name.split("/").at(-1))),
    bar,
    el("ul", { class: "states" }, ...STATES.map((state, number) =>
      el("li", { title: MEANING[state] }, el("i", { class: `dot ${state}` }), `${state}: `, words[number]))));
  return {
    node,
    show(seen) {
      const states = STATES.map((state) => seen.states[state] ?? { batches: 0, events: 0, abandoned: 0, oldest_s: 0 });
      const whole = states.reduce((sum, state) => sum + state.batches, 0);
      states.forEach((state, number) => {
        parts[number].style.flexGrow = state.batches;
        parts[number].hidden = state.batches === 0;
        write(words[number], wordsOf(state));
      });
      bar.classList.toggle("nothing", whole === 0);
      bar.setAttribute("aria-label",
        `Batches: ${STATES.map((state, number) => `${states[number].batches} ${state}`).join(", ")}`);
    },
  };
}

function wordsOf({ batches, events, abandoned, oldest_s: oldest }) {
  if (batches === 0) return "0";
  return [
    counted(batches, "batch"),
    events ? counted(events, "event") : "",
    `oldest ${age(oldest)}`,
    abandoned ? `${count(abandoned)} abandoned` : "",
  ].filter(Boolean).join(", ");
}

function showFlow(flow, path, history) {
  flow.show([
    { name: "in", points: history.ofQueue(path, "in") },
    { name: "out", points: history.ofQueue(path, "out") },
  ], history.now);
}
