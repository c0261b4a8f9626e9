// The figures of the last minutes, by service and by queue; what charts draw.

const MOST_POINTS = 600;

export class History {
  constructor() {
    this.now = 0;
    this.services = new Map();
    this.queues = new Map();
  }

  /** Begin again with what the server has kept. */
  reset(points) {
    this.services.clear();
    this.queues.clear();
    this.now = 0;
    points.forEach((point) => this.add(point));
  }

  /** Add one moment; what has not been seen for long is forgotten. */
  add(point) {
    if (point.at === this.now) return; // It was among the kept ones already.
    this.now = point.at;
    for (const [rows, lines] of [[point.services, this.services], [point.queues, this.queues]]) {
      for (const [name, ...figures] of rows) {
        if (!lines.has(name)) lines.set(name, []);
        const line = lines.get(name);
        line.push([point.at, ...figures]);
        if (line.length > MOST_POINTS) line.shift();
      }
      for (const [name, line] of lines) {
        if (line.at(-1)[0] < point.at - MOST_POINTS) lines.delete(name);
      }
    }
  }

  /** One figure of a service over time: [[seconds, value], …]. */
  ofService(name, figure) {
    const column = { requests: 1, errors: 2, p50: 3, p99: 4 }[figure];
    return (this.services.get(name) ?? []).map((row) => [row[0], row[column]]);
  }

  /** Events in or out of a queue over time. */
  ofQueue(path, figure) {
    const column = { in: 1, out: 2 }[figure];
    return (this.queues.get(path) ?? []).map((row) => [row[0], row[column]]);
  }
}
