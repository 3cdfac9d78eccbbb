// A small line of rates, with what is expected, where incidents were, and what is still counting.

import { svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 54;
const EDGE = 3;

/** Runs of numbers without a gap: [[first, last], …]. */
export function runs(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value == null) return;
    if (at && values[at - 1] != null) found.at(-1)[1] = at;
    else found.push([at, at]);
  });
  return found;
}

function path(values, x, y) {
  return runs(values)
    .map(([first, last]) => {
      const points = [];
      for (let at = first; at <= last; at++) points.push(`${x(at).toFixed(1)} ${y(values[at]).toFixed(1)}`);
      return first === last ? `M${points[0]}h0.01` : `M${points.join("L")}`;
    })
    .join("");
}

function band(low, high, x, y) {
  return runs(low)
    .map(([first, last]) => {
      const there = [];
      const back = [];
      for (let at = first; at <= last; at++) {
        there.push(`${x(at).toFixed(1)} ${y(high[at]).toFixed(1)}`);
        back.unshift(`${x(at).toFixed(1)} ${y(low[at]).toFixed(1)}`);
      }
      return `M${there.join("L")}L${back.join("L")}Z`;
    })
    .join("");
}

/**
 * Draw into an svg element. `line` has rate, low, high and expected; `shades` are [from, to] in ms.
 * All lines of a step share `floor`, so that they can be compared.
 */
export function spark(node, line, { starts, every_ms: every, partial_from: partial }, shades, floor) {
  const from = starts[0];
  const span = starts.at(-1) + every - from;
  const across = (ms) => (Math.min(Math.max((ms - from) / span, 0), 1)) * WIDTH;
  const x = (at) => across(starts[at] + every / 2);
  const y = (rate) => HEIGHT - EDGE - (Math.max(Math.min(rate, 1) - floor, 0) / (1 - floor || 1)) * (HEIGHT - 2 * EDGE);
  const whole = line.rate.map((rate, at) => (partial != null && starts[at] >= partial ? null : rate));
  node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  node.setAttribute("preserveAspectRatio", "none");
  node.replaceChildren(
    ...shades.filter(([begin, end]) => end > from && begin < from + span).map(([begin, end]) =>
      svg("rect", { class: "incident", x: across(begin), width: Math.max(across(end) - across(begin), 1.5), y: 0, height: HEIGHT })),
    svg("path", { class: "interval", d: band(line.low.map((low, at) => (whole[at] == null ? null : low)), line.high, x, y) }),
    svg("path", { class: "expected", d: path(line.expected, x, y) }),
    svg("path", { class: "rate", d: path(whole, x, y) }),
  );
}

/** The lowest rate of lines, as the floor of their drawing, a little room below; what is still counting has no say. */
export function floorOf(lines, { starts, partial_from: partial }) {
  const whole = (rate, at) => rate != null && (partial == null || starts[at] < partial);
  const rates = lines.flatMap((line) => [...line.rate.filter(whole), ...line.expected.filter((rate) => rate != null)]);
  return rates.length ? Math.max(0, Math.floor((Math.min(...rates) - 0.04) * 10) / 10) : 0;
}
