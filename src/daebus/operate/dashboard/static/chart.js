// A line chart of the last minutes, drawn as SVG: lines over time, a scale, and what the pointer is at.

import { el, svg, write } from "./elements.js";

const HEIGHT = 150;
const LEFT = 52;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
// The times that may be shown, in seconds: the shortest that has all points.
const SPANS = [60, 120, 240, 600];
// Two points that are farther apart than this have nothing between them.
const GAP = 5;

/** The smallest round number that a scale of this height may end with. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * size >= value * 0.9999) * size;
}

/** The parts of a line, as an SVG path; a null value or a gap in time begins a new part. */
export function pathOf(points, x, y) {
  let path = "";
  let last = null;
  for (const [at, value] of points) {
    if (value === null || value === undefined) {
      last = null;
      continue;
    }
    const command = last !== null && at - last <= GAP ? "L" : "M";
    path += `${command}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    // A point with nothing beside it shows as a dot.
    if (command === "M") path += "h.01";
    last = at;
  }
  return path;
}

/**
 * Make a chart.
 *
 * `show(lines, now)` draws lines: `{name, points: [[seconds, value], …], isBad}`, all of one unit;
 * `text` turns a value into words.
 */
export function chart(title, text) {
  const grid = svg("g", { class: "grid" });
  const paths = svg("g", { class: "lines" });
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const drawing = svg("svg", { role: "img", height: HEIGHT }, grid, paths, cursor);
  const legend = el("ul", { class: "legend" });
  const tip = el("div", { class: "tip", hidden: true });
  const plot = el("div", { class: "plot" }, drawing, tip);
  const node = el("figure", { class: "chart" }, el("figcaption", {}, title), plot, legend);
  let drawn = null;

  function draw() {
    if (!drawn) return;
    const { lines, now } = drawn;
    const width = Math.max(plot.clientWidth, 120);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.setAttribute("width", width);
    const oldest = Math.min(now, ...lines.map((line) => line.points[0]?.[0] ?? now));
    const span = SPANS.find((seconds) => seconds >= now - oldest) ?? SPANS.at(-1);
    const from = now - span;
    const seen = lines.map((line) => line.points.filter(([at]) => at >= from));
    const most = roundUp(Math.max(0, ...seen.flat().map(([, value]) => value ?? 0)));
    const x = (at) => LEFT + ((at - from) / span) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
    Object.assign(drawn, { seen, from, span, x, width });
    grid.replaceChildren(...gridOf(width, most, span, y));
    paths.replaceChildren(
      ...seen.map((points, number) =>
        svg("path", { class: `line ${colourOf(lines[number], number)}`, d: pathOf(points, x, y) })),
    );
    drawing.setAttribute("aria-label", `${title}. ${lines.map((line) => latest(line)).join("; ")}`);
  }

  function gridOf(width, most, span, y) {
    const parts = [];
    for (const value of [0, most / 2, most]) {
      parts.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)));
    }
    for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
      const ago = Math.round(span * (1 - part));
      const words = ago === 0 ? "now" : ago % 60 === 0 ? `−${ago / 60} min` : `−${ago} s`;
      const at = LEFT + part * (width - LEFT - RIGHT);
      parts.push(svg("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, words));
    }
    return parts;
  }

  function latest(line) {
    const value = line.points.at(-1)?.[1];
    return `${line.name}: ${value === null || value === undefined ? "nothing" : text(value)}`;
  }

  function point(event) {
    if (!drawn?.seen?.some((points) => points.length)) return;
    const box = drawing.getBoundingClientRect();
    const { seen, from, span, x, width, lines, now } = drawn;
    const at = from + ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * span;
    const near = seen.map((points) => nearest(points, at));
    const moment = near.find((found) => found)?.[0];
    if (moment === undefined) return;
    cursor.setAttribute("x1", x(moment));
    cursor.setAttribute("x2", x(moment));
    cursor.setAttribute("visibility", "visible");
    tip.replaceChildren(
      el("div", { class: "dim" }, `${Math.round(now - moment)} s ago`),
      ...near.map((found, number) =>
        el("div", {}, el("i", { class: `dot ${colourOf(lines[number], number)}` }),
          el("bdi", {}, lines[number].name), " ",
          el("b", {}, found && found[1] !== null ? text(found[1]) : "–"))),
    );
    tip.hidden = false;
    tip.classList.toggle("left", x(moment) > width / 2);
    tip.style.setProperty("--at", `${x(moment)}px`);
  }

  function leave() {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  }

  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerleave", leave);
  new ResizeObserver(draw).observe(plot);

  return {
    node,
    show(lines, now) {
      drawn = { lines, now };
      while (legend.children.length > lines.length) legend.lastChild.remove();
      lines.forEach((line, number) => {
        const item = legend.children[number]
          ?? legend.appendChild(el("li", {}, el("i"), el("bdi")));
        item.firstChild.className = `dot ${colourOf(line, number)}`;
        write(item.lastChild, line.name);
      });
      draw();
    },
  };
}

/** A small line without a scale, for a row of a table. */
export function sparkline() {
  const path = svg("path", { class: "line c0" });
  const node = svg("svg", { class: "spark", viewBox: "0 0 80 20", "aria-hidden": "true" }, path);
  return {
    node,
    show(points, now) {
      const seen = points.filter(([at]) => at >= now - 120);
      const most = Math.max(1e-9, ...seen.map(([, value]) => value ?? 0));
      const x = (at) => 80 - ((now - at) / 120) * 80;
      path.setAttribute("d", pathOf(seen, x, (value) => 19 - (value / most) * 18));
    },
  };
}

const colourOf = (line, number) => (line.isBad ? "dead" : `c${number}`);

function nearest(points, at) {
  let best = null;
  for (const found of points) {
    if (!best || Math.abs(found[0] - at) < Math.abs(best[0] - at)) best = found;
  }
  return best && Math.abs(best[0] - at) <= GAP ? best : null;
}
