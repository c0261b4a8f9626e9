// The view of one service: its figures over time, its actions, its replicas, its dead letters.

import { actions } from "./actions.js";
import { chart } from "./chart.js";
import { eachOf, el, write } from "./elements.js";
import { age, count, milliseconds, rate } from "./figures.js";
import { letters } from "./letters.js";
import { healthOf, tiles } from "./services.js";

export function serviceView(name, about) {
  const throughput = chart("Requests per second", rate);
  const latency = chart("Latency", milliseconds);
  const badge = el("span", { class: "badge" });
  const delivery = el("span", { class: "kind" });
  const figures = tiles(["Requests/s", "Errors/s", "In progress", "In memory", "On disk", "In the inbox"]);
  const gone = el("p", { class: "empty", hidden: true },
    "No service of this name is alive now. It shows here again when it is started.");
  const called = actions(name, about);
  const running = replicas();
  const dead = letters({ service: name }, about);
  const node = el("div", {},
    el("p", { class: "crumbs" }, el("a", { href: "#/" }, "Services"), " / "),
    el("h1", {}, el("bdi", {}, name), " ", delivery, badge),
    gone, figures.node,
    el("div", { class: "charts" }, throughput.node, latency.node),
    called.node, running.node, dead.node);
  return {
    name: "services",
    title: name,
    node,
    close: called.close,
    show(fleet, history) {
      const seen = fleet.services.find((service) => service.service === name);
      const [kind, words] = seen ? healthOf(seen) : ["gone", "not running"];
      badge.dataset.kind = kind;
      write(badge, words);
      gone.hidden = Boolean(seen);
      write(delivery, seen ? seen.delivery : "");
      figures.show(seen ? figuresOf(seen) : Array(6).fill("–"));
      const line = (title, figure) => ({ name: title, points: history.ofService(name, figure) });
      throughput.show([line("requests", "requests"), { ...line("errors", "errors"), isBad: true }], history.now);
      latency.show([line("p50, half are faster", "p50"), line("p99, 99 of 100 are faster", "p99")], history.now);
      called.show(seen);
      running.show(seen?.replicas ?? []);
      dead.show(seen?.dead_letters ?? 0, history.now);
    },
  };
}

function figuresOf(seen) {
  return [
    rate(seen.requests_per_s),
    [rate(seen.errors_per_s), seen.errors_per_s > 0 ? "bad" : ""],
    count(seen.in_progress),
    count(seen.backlog),
    count(seen.spilled),
    seen.waiting_in_inbox === null ? "–" : count(seen.waiting_in_inbox),
  ];
}

function replicas() {
  const rows = el("tbody");
  const node = el("section", { class: "card" },
    el("h2", {}, "Replicas"),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...["Host", "Pid", "Up for", "Requests/s", "p99", "Workers", "Handled", "Errors", "Gaps"]
        .map((name, number) => el("th", { scope: "col", class: number ? "figure" : "" }, name)))),
      rows)));
  const showRows = eachOf(rows, (replica) => replica.replica_id, replicaRow);
  return {
    node,
    show(seen) {
      node.hidden = seen.length === 0;
      showRows(seen);
    },
  };
}

function replicaRow() {
  const health = el("i", { class: "health" });
  const host = el("bdi");
  const troubles = el("small", { class: "bad" });
  const cells = Array.from({ length: 8 }, () => el("td", { class: "figure" }));
  const node = el("tr", {}, el("th", { scope: "row" }, health, host, troubles), ...cells);
  return {
    node,
    show(seen) {
      health.dataset.kind = seen.is_ready ? "good" : "bad";
      write(host, seen.host);
      write(troubles, [...seen.troubles, ...incidentsOf(seen)].join("; "));
      [String(seen.pid), age(seen.uptime_s), rate(seen.requests_per_s), milliseconds(seen.p99_ms),
        `${count(seen.max_workers)}${seen.processes ? ` + ${count(seen.processes)} processes` : ""}`,
        count(seen.handled), count(seen.errors), count(seen.gaps),
      ].forEach((text, number) => write(cells[number], text));
    },
  };
}

const incidentsOf = (seen) =>
  Object.entries(seen.incidents).map(([kind, times]) => `${kind.replaceAll("_", " ")}: ${count(times)}`);
