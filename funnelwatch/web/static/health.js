// The pipeline: whether the numbers can be believed, and how old they are.

import { el, keyed, say } from "./dom.js";
import { brief, count, lasting } from "./format.js";

const MARKS = { ok: "●", warn: "◣", bad: "▼", none: "?" };
const WORDS = { ok: "good", warn: "check it", bad: "bad", none: "not known" };

/** The items of the strip: name, value, what it is, and how it is. `now` is the server's clock. */
export function items(health, now, nowMs) {
  const closed = now?.closed_through;
  const behind = closed == null ? null : nowMs - closed;
  const window = now?.window_ms ?? 60_000;
  const mark = (value, warn, bad) => (value == null ? "none" : value >= bad ? "bad" : value >= warn ? "warn" : "ok");
  const watermark = health.watermark == null ? null : Math.max(0, nowMs - health.watermark);
  const rate = health.per_second;
  return [
    {
      name: "Complete through", state: mark(behind, 4 * window, 15 * window),
      value: behind == null ? "no window yet" : `${lasting(behind)} ago`, more: "the newest closed window",
    },
    {
      name: "Lag", state: health.lag == null ? "none" : mark(health.lag, Math.max(1000, 10 * (rate ?? 0)), Math.max(10_000, 60 * (rate ?? 0))),
      value: health.lag == null ? "not known" : count(health.lag), more: "events that no worker has counted yet",
    },
    {
      name: "Watermark", state: health.idle ? "ok" : mark(watermark, 60_000, 300_000),
      value: watermark == null ? "none yet" : `${lasting(watermark)} old`, more: health.idle ? "nothing unread: idle" : "event time is complete up to it",
    },
    {
      name: "Events", state: rate == null ? "none" : "ok",
      value: rate == null ? "…" : `${brief(rate)} / s`, more: health.accepted == null ? "counted so far: not known" : `${brief(health.accepted)} counted`,
    },
    {
      name: "Dead letters", state: mark(health.rejected, 1, Math.max(10, 0.01 * (health.accepted + health.rejected))),
      value: health.rejected == null ? "not known" : count(health.rejected),
      more: health.rejected === 0 ? "nothing was rejected" : "see funnelwatch dead-letters list",
    },
    {
      name: "Numbers from", state: now?.source == null ? "none" : now.source === "redis" || !now.uses_redis ? "ok" : "warn",
      value: { redis: "Redis", database: "TimescaleDB" }[now?.source] ?? "nowhere yet",
      more: now?.source !== "database" ? "the cache" : now.uses_redis ? "Redis does not have them" : "no Redis is configured",
    },
  ];
}

function make() {
  return el("div", { class: "stat" }, el("dt", {}), el("dd", { class: "stat-value" }, el("span", { class: "glyph", "aria-hidden": "true" }), " ", el("span", { class: "stat-text" }), el("span", { class: "unseen" })), el("dd", { class: "fine" }));
}

function update(node, item) {
  node.dataset.state = item.state;
  say(node.querySelector("dt"), item.name);
  say(node.querySelector(".glyph"), MARKS[item.state]);
  say(node.querySelector(".stat-text"), item.value);
  say(node.querySelector(".unseen"), `, ${WORDS[item.state]}`);
  say(node.querySelector(".fine"), item.more);
}

export function showHealth(list, health, now, nowMs) {
  keyed(list, items(health, now, nowMs), (item) => item.name, make, update);
}

const ADVICE = {
  Redis: "Rates come from TimescaleDB meanwhile, a few seconds later.",
  TimescaleDB: "Expected rates, alerts and the time line are as they were.",
  Kafka: "The lag is not known.",
};

export function showErrors(list, errors) {
  keyed(list, errors, ({ server }) => server, () => el("li", {}), (node, { server, error }) => {
    say(node, `▲ ${server}: ${error} ${ADVICE[server] ?? ""}`);
  });
}
