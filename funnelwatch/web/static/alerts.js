// The alerts as they come: what, where, since when, how bad.

import { el, keyed, say } from "./dom.js";
import { count, lasting, moment, named, percent, titled } from "./format.js";
import { ofConversion, rateOf } from "./states.js";

const WORDS = { firing: ["▼", "Firing"], resolved: ["✓", "Resolved"] };

/** What an alert is about: its step, and the values of its dimensions. */
export function about(alert) {
  const step = alert.step === "*" ? "all steps" : alert.steps.length > 1 ? alert.steps.map(named).join(", ") : named(alert.step);
  const scope = Object.values(alert.scope).map(named).join(", ");
  return scope ? `${step} on ${scope}` : step;
}

/** Where the loss is, in words; empty where the detector found no place. */
export function whereOf(alert) {
  if (!alert.where) return "";
  const { dimension, value, share } = alert.where;
  return `${percent(share, 0)} of the loss is on ${titled(dimension, false)} ${named(value)}`;
}

function make() {
  return el("li", { class: "alert" },
    el("p", { class: "alert-head" }, el("span", { class: "chip" }), el("span", { class: "alert-when" })),
    el("p", { class: "alert-what" }), el("p", { class: "alert-rates" }), el("p", { class: "alert-where" }), el("p", { class: "fine" }));
}

function update(node, alert) {
  const [glyph, word] = WORDS[alert.state];
  node.dataset.state = alert.state;
  node.querySelector(".chip").replaceChildren(el("span", { class: "glyph", "aria-hidden": "true" }, glyph), ` ${word}`);
  say(node.querySelector(".alert-when"), `${moment(alert.fired, Date.now())} UTC`);
  say(node.querySelector(".alert-what"), about(alert));
  say(node.querySelector(".alert-rates"), ofConversion(alert)
    ? `${rateOf(alert)} where ${percent(alert.expected)} was expected · ${count(Math.max(alert.lost, 0))} conversions lost`
    : alert.summary);
  say(node.querySelector(".alert-where"), whereOf(alert) && `Where: ${whereOf(alert)}`);
  const over = alert.resolved == null ? "" : `, over at ${moment(alert.resolved, Date.now())} after ${lasting(alert.resolved - alert.started)}`;
  say(node.querySelector(".fine"),
    `Since ${moment(alert.started, Date.now())}${over} · ${alert.rule}, ${alert.severity}${alert.silenced ? " · silenced: nobody is notified" : ""}`);
}

export function showAlerts(list, none, tally, alerts, known) {
  keyed(list, alerts, (alert) => alert.id, make, update);
  none.hidden = alerts.length > 0;
  say(none, known ? "None within a day." : "Not known yet.");
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  say(tally, alerts.length ? `${firing} firing, ${alerts.length - firing} over, within a day` : "");
}
