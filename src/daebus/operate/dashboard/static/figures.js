// Figures as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** A count: 12,345. */
export const count = (number) => plain.format(number);

const PLURALS = { batch: "batches", delivery: "deliveries", try: "tries" };

/** A count with its noun: 1 replica, 2 replicas. */
export const counted = (number, noun) =>
  `${count(number)} ${number === 1 ? noun : PLURALS[noun] ?? `${noun}s`}`;

/** So many in a second; small rates keep a digit. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  return perSecond < 10 ? fine.format(perSecond) : plain.format(perSecond);
}

/** A time given in milliseconds: 0.25 ms, 12 ms, 1.2 s. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${fine.format(ms / 1000)} s`;
}

/** A time in its two largest units: 3h 12m. */
export function age(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const number = Math.floor(left / size);
    left %= size;
    if (number || parts.length || unit === "s") parts.push(`${number}${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}
