// The first view: all services, their figures together, and the busiest ones as lines.

import { chart, sparkline } from "./chart.js";
import { eachOf, el, write } from "./elements.js";
import { count, counted, milliseconds, rate } from "./figures.js";

// So many services are drawn; all are in the table.
const MOST_LINES = 6;

export function servicesView(about) {
  const throughput = chart("Requests per second", rate);
  const latency = chart("Latency, 99th percentile", milliseconds);
  const totals = tiles(["Services", "Requests/s", "Errors/s", "Slowest p99", "Waiting", "Dead letters"]);
  const rows = el("tbody");
  const table = el("div", { class: "scroll" },
    el("table", { class: "services" },
      el("thead", {}, el("tr", {},
        ...[["Service", ""], ["Requests/s", "figure"], ["", "wide spark-place"], ["Errors/s", "figure"],
          ["p50", "figure wide"], ["p99", "figure"], ["In progress", "figure wide"],
          ["Waiting", "figure wide"], ["Dead", "figure"]]
          .map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
      rows));
  const nothing = el("section", { class: "empty", hidden: true },
    el("h2", {}, "No service is alive"),
    el("p", {}, "Nobody has told of itself at ", el("bdi", { class: "mono" }, about.server), " yet."),
    el("p", {}, "Start one with ", el("code", {}, "daebus run service:app"),
      "; its ", el("code", {}, "--url"), " or ", el("code", {}, "DAEBUS_URL"), " must be the same."));
  const charts = el("div", { class: "charts" }, throughput.node, latency.node);
  const node = el("div", {}, el("h1", { class: "unseen" }, "Services"), nothing, totals.node, charts,
    el("section", { class: "card" }, table));
  const showRows = eachOf(rows, (service) => service.service, serviceRow);

  return {
    name: "services",
    title: "Services",
    node,
    show(fleet, history) {
      const services = fleet.services;
      nothing.hidden = services.length > 0 || Boolean(fleet.trouble);
      for (const part of [totals.node, charts, table.parentNode]) part.hidden = services.length === 0;
      totals.show(totalsOf(services));
      showRows(services.map((service) => ({ ...service, history })));
      const busiest = busiestOf(services);
      throughput.show(busiest.map((name) => ({ name, points: history.ofService(name, "requests") })), history.now);
      latency.show(busiest.map((name) => ({ name, points: history.ofService(name, "p99") })), history.now);
    },
  };
}

/** A row of figures with their names; `show` gives them all, each a text or [text, kind]. */
export function tiles(names) {
  const values = names.map(() => el("dd"));
  const node = el("dl", { class: "tiles" },
    ...names.map((name, number) => el("div", {}, el("dt", {}, name), values[number])));
  return {
    node,
    show: (texts) => texts.forEach((given, number) => {
      const [text, kind] = Array.isArray(given) ? given : [given, ""];
      write(values[number], text);
      values[number].className = kind;
    }),
  };
}

/** What waits for a service: in memory, on disk, and in its inbox. */
export const waitingOf = (service) =>
  service.backlog + service.spilled + (service.waiting_in_inbox ?? 0);

function totalsOf(services) {
  const sum = (of) => services.reduce((total, service) => total + (of(service) ?? 0), 0);
  const slowest = services.map((service) => service.p99_ms).filter((ms) => ms !== null);
  const errors = sum((service) => service.errors_per_s);
  const dead = sum((service) => service.dead_letters);
  return [
    count(services.length),
    rate(sum((service) => service.requests_per_s)),
    [rate(errors), errors > 0 ? "bad" : ""],
    milliseconds(slowest.length ? Math.max(...slowest) : null),
    count(sum(waitingOf)),
    [count(dead), dead > 0 ? "bad" : ""],
  ];
}

/** The names of those with the most requests, in an order that does not change with each look. */
function busiestOf(services) {
  return [...services]
    .sort((one, other) => (other.handled - one.handled) || (one.service < other.service ? -1 : 1))
    .slice(0, MOST_LINES)
    .map((service) => service.service)
    .sort();
}

function serviceRow({ service }) {
  const spark = sparkline();
  const health = el("i", { class: "health" });
  const note = el("small");
  const cells = Array.from({ length: 7 }, () => el("span"));
  const cell = (number, kind = "") => el("td", { class: `figure ${kind}` }, cells[number]);
  const node = el("tr", {},
    el("th", { scope: "row" }, health,
      el("a", { href: `#/service/${encodeURIComponent(service)}` }, el("bdi", {}, service)), note),
    cell(0), el("td", { class: "wide" }, spark.node), cell(1), cell(2, "wide"), cell(3),
    cell(4, "wide"), cell(5, "wide"), cell(6));
  return {
    node,
    show(seen) {
      const [kind, words] = healthOf(seen);
      health.dataset.kind = kind;
      write(note, words);
      [rate(seen.requests_per_s), rate(seen.errors_per_s), milliseconds(seen.p50_ms),
        milliseconds(seen.p99_ms), count(seen.in_progress), count(waitingOf(seen)), count(seen.dead_letters),
      ].forEach((text, number) => write(cells[number], text));
      cells[1].className = seen.errors_per_s > 0 ? "bad" : "";
      cells[6].className = seen.dead_letters > 0 ? "bad" : "";
      spark.show(seen.history.ofService(service, "requests"), seen.history.now);
    },
  };
}

/** How a service is: a kind for the colour, and words. */
export function healthOf(service) {
  const { replicas, ready } = service;
  if (replicas.length === 0) return ["gone", "not running"];
  if (ready < replicas.length) return ["bad", `${ready} of ${counted(replicas.length, "replica")} ready`];
  return ["good", counted(replicas.length, "replica")];
}
