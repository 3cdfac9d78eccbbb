// The steps of the funnel: a large number each, what was expected beside it, and below it each os.

import { el, keyed, say, svg, table } from "./dom.js";
import { brief, clock, count, named, percent } from "./format.js";
import { floorOf, spark } from "./spark.js";
import { STATES, concerns, ofConversion } from "./states.js";

const HIDDEN = { few: true };

function chip(state) {
  const { glyph, word } = STATES[state];
  return [el("span", { class: "glyph", "aria-hidden": "true" }, glyph), ` ${word}`];
}

function points(cell) {
  if (cell.rate == null || cell.expected == null || HIDDEN[cell.state]) return null;
  const change = (cell.rate - cell.expected) * 100;
  return `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(1)} points`;
}

/** A name that may be broken after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, el("wbr")]);

/** The rate within its interval on a scale from 0 to 1, and a mark for what is expected. */
function scale(node, cell) {
  const x = (rate) => `${Math.min(Math.max(rate, 0), 1) * 100}%`;
  node.replaceChildren(
    svg("rect", { class: "track", x: 0, y: 6, width: "100%", height: 6, rx: 3 }),
    ...(cell.rate == null ? [] : [svg("rect", { class: "fill", x: 0, y: 6, width: x(cell.rate), height: 6, rx: 3 })]),
    ...(cell.low == null
      ? []
      : [svg("line", { class: "interval", x1: x(cell.low), x2: x(cell.high), y1: 9, y2: 9 })]),
    ...(cell.expected == null
      ? []
      : [svg("line", { class: "expected", x1: x(cell.expected), x2: x(cell.expected), y1: 0, y2: 18 })]),
  );
}

function makeStep() {
  return el("li", { class: "step" },
    el("button", { type: "button", class: "card" },
      el("span", { class: "step-head" }, el("span", { class: "place" }), el("span", { class: "name" })),
      el("span", { class: "chip" }),
      el("span", { class: "big" }),
      el("span", { class: "against" }),
      svg("svg", { class: "scale", width: "100%", height: 18, "aria-hidden": "true" }),
      el("span", { class: "fine shown" }),
      el("span", { class: "fine reached" }),
      el("span", { class: "fine open" }),
    ),
    el("ul", { class: "oses" }),
  );
}

function updateStep(node, cell, at) {
  const part = (name) => node.querySelector(`.${name}`);
  node.dataset.state = cell.state;
  say(part("place"), String(at + 1));
  part("name").replaceChildren(...breakable(named(cell.step)));
  part("chip").replaceChildren(...chip(cell.state));
  const rate = cell.state === "few" ? null : cell.rate;
  part("big").replaceChildren(
    ...(rate == null ? ["–"] : [(rate * 100).toFixed(1), el("span", { class: "unit" }, " %")]));
  const change = points(cell);
  part("against").replaceChildren(
    cell.expected == null ? "nothing known to expect" : "expected ",
    ...(cell.expected == null ? [] : [el("strong", {}, percent(cell.expected))]),
    ...(change ? [el("span", { class: "change" }, ` ${change}`)] : []),
  );
  scale(part("scale"), cell);
  const interval = cell.low == null ? "" : ` [${percent(cell.low)} – ${percent(cell.high)}]`;
  say(part("shown"), cell.state === "few"
    ? `only ${count(cell.impressions)} shown: too few for a rate`
    : `${brief(cell.successes)} of ${brief(cell.impressions)}${interval}`);
  say(part("open"), `Still counting: ${brief(cell.open.successes)} of ${brief(cell.open.impressions)}`);
}

function makeOs() {
  return el("li", { class: "os" },
    el("span", { class: "os-name" }), el("span", { class: "os-rate" }), el("span", { class: "os-state" }),
    svg("svg", { class: "spark", role: "img" }));
}

function updateOs(node, cell) {
  node.dataset.state = cell.state;
  say(node.querySelector(".os-name"), named(cell.os));
  say(node.querySelector(".os-rate"), cell.state === "few" ? "–" : percent(cell.rate));
  const known = cell.expected != null && cell.state !== "few";
  node.querySelector(".os-state").replaceChildren(
    ...(cell.state === "ok" ? [el("span", { class: "glyph", "aria-hidden": "true" }, "●")] : chip(cell.state)),
    ...(known ? [`${cell.state === "ok" ? "" : " ·"} ${percent(cell.expected, 0)} expected`] : []));
}

export class Steps {
  /** `focus(step)` is called when somebody presses a step. */
  constructor(list, tableNode, focus) {
    this.list = list;
    this.table = tableNode;
    list.addEventListener("click", (event) => {
      const step = event.target.closest(".step");
      if (step && event.target.closest(".card")) focus(step.dataset.key);
    });
  }

  /** The message `now`. */
  show(now) {
    const places = new Map(now.steps.map((cell, at) => [cell.step, at]));
    keyed(this.list, now.steps, (cell) => cell.step, makeStep, (node, cell) => {
      updateStep(node, cell, places.get(cell.step));
      keyed(node.querySelector(".oses"), cell.by_os, (one) => one.os, makeOs, updateOs);
    });
    const span = now.from == null ? "" : `, windows of ${clock(now.from)} to ${clock(now.to)} UTC`;
    table(this.table, `Steps now${span}`,
      ["Step", "OS", "State", "Rate", "95 % interval", "Expected", "Impressions", "Successes", "Failures"],
      now.steps.flatMap((cell) => [{ ...cell, os: null }, ...cell.by_os.map((one) => ({ ...one, step: cell.step }))]).map((cell) => [
        named(cell.step), cell.os == null ? "all" : named(cell.os), STATES[cell.state].word, percent(cell.rate),
        cell.low == null ? "–" : `${percent(cell.low)} – ${percent(cell.high)}`, percent(cell.expected),
        count(cell.impressions), count(cell.successes), count(cell.failures),
      ]));
  }

  /** The message `people`: which share of those who entered the funnel came to each step. */
  reach(people) {
    for (const node of this.list.children) {
      const share = people?.steps.find((one) => one.step === node.dataset.key)?.of_first;
      say(node.querySelector(".reached"), share == null ? "" : `${percent(share, 0)} of those who entered get here`);
    }
  }

  /** The message `history`, with the alerts there are: the small lines. */
  draw(history, alerts, now) {
    for (const step of this.list.children) {
      const lines = history.series.filter((line) => line.step === step.dataset.key && line.os != null);
      const floor = floorOf(lines, history);
      for (const node of step.querySelectorAll(".os")) {
        const line = lines.find((one) => one.os === node.dataset.key);
        const picture = node.querySelector(".spark");
        if (!line) {
          picture.replaceChildren();
          continue;
        }
        const shades = alerts
          .filter((alert) => ofConversion(alert) && concerns(alert, line.step))
          .filter((alert) => (alert.scope.os ?? (alert.where?.dimension === "os" ? alert.where.value : line.os)) === line.os)
          .map((alert) => [alert.started, alert.resolved ?? now]);
        spark(picture, line, history, shades, floor);
        const rates = line.rate.filter((rate) => rate != null);
        picture.setAttribute("aria-label", rates.length
          ? `${named(line.os)} since ${clock(history.starts[0])}: between ${percent(Math.min(...rates), 0)} and ${percent(Math.max(...rates), 0)}`
          : `${named(line.os)}: no rates`);
      }
    }
  }

  /** Mark the step that the time line shows. */
  mark(step) {
    for (const node of this.list.children) {
      node.querySelector(".card").setAttribute("aria-pressed", String(node.dataset.key === step));
    }
  }
}
