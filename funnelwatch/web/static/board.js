// The board: what comes from the stream goes to its places on the page.

import { about, showAlerts, whereOf } from "./alerts.js";
import { el, say } from "./dom.js";
import { Filters } from "./filters.js";
import { clock, lasting, named, percent } from "./format.js";
import { showErrors, showHealth } from "./health.js";
import { People } from "./people.js";
import { STATES, ofConversion, rateOf } from "./states.js";
import { Steps } from "./steps.js";
import { listen } from "./stream.js";
import { TimeLine } from "./timeline.js";

const id = (name) => document.getElementById(name);
const seen = { now: null, history: null, people: null, alerts: [], health: null };
const SILENT_MS = 20_000; // the server reads the pipeline every two seconds
let link = "connecting";
let offset = 0; // the server's clock minus ours, ms
let beaten = null;
let checked = null; // time of the server's last reading of the pipeline
let shown = "";

const serverNow = () => Date.now() + offset;
const filters = new Filters(document.querySelector(".filters"), () => {
  Object.assign(seen, { now: null, history: null, people: null });
  id("steps").setAttribute("aria-busy", "true");
  people.show(null);
  again();
});
const steps = new Steps(id("steps"), id("steps-table"), (step) => focus(filters.asked.get("step") === step ? null : step));
const people = new People(id("people"), id("people-words"), id("people-table"));
const timeline = new TimeLine({ chart: id("chart"), legend: id("legend"), reading: id("reading"), table: id("time-table") });

function focus(step) {
  filters.set("step", step);
  draw();
}

function draw() {
  const step = filters.asked.get("step");
  if (seen.now) {
    const select = id("focus");
    const names = seen.now.steps.map((cell) => cell.step);
    if (select.offered !== JSON.stringify(names)) {
      select.offered = JSON.stringify(names);
      select.replaceChildren(el("option", { value: "" }, "All"), ...names.map((name) => el("option", { value: `=${name}` }, named(name))));
    }
    select.value = names.includes(step) ? `=${step}` : "";
    steps.mark(step);
    steps.reach(seen.people);
  }
  if (!seen.history || !seen.now) return;
  const known = seen.history.series.some((line) => line.step === step) ? step : null;
  steps.draw(seen.history, seen.alerts, serverNow());
  timeline.show(seen.history, seen.alerts, known, serverNow());
}

/** The rate that an alert is about: now, if it is on the page, else as the alert has it. The page counts no sessions. */
function standing(alert) {
  const step = seen.now.steps.find((cell) => cell.step === alert.step);
  const cell = alert.scope.os == null ? step : step?.by_os.find((one) => one.os === alert.scope.os);
  return alert.basis !== "session" && cell?.rate != null && cell.expected != null
    ? `${percent(cell.rate)} now, ${percent(cell.expected)} expected`
    : `${rateOf(alert)}, ${percent(alert.expected)} expected`;
}

/** How current the figures are: the server's word, or that there is none. Only "fresh" is good. */
function freshness() {
  const silent = performance.now() - (link === "lost" ? beaten ?? 0 : checked ?? 0);
  if (link === "lost") {
    return { state: "stale", reason: "link", message: `The board's server has not answered for ${lasting(silent)}: these figures are old` };
  }
  if (checked == null) return { state: "unknown", reason: "waiting", message: "" };
  if (silent > SILENT_MS) {
    return { state: "unknown", reason: "silent", message: `The board's server has not read the pipeline for ${lasting(silent)}: nobody knows whether these figures are current` };
  }
  return seen.health.freshness;
}

const UNSURE = {
  not_evaluated: "No rules are evaluated: alerts may be missing",
  worker_error: "Not known: a worker reports an error",
  unreachable: "Not known: a server does not answer",
  silent: "Not known: the board's server does not answer",
  waiting: "Waiting for the state of the pipeline …",
};

/** The banner above all figures. */
function banner(fresh) {
  const place = id("freshness");
  place.hidden = fresh.state === "fresh" || fresh.reason === "waiting";
  place.dataset.state = fresh.state;
  say(place.querySelector(".glyph"), fresh.state === "stale" ? "⚠" : "?");
  say(id("freshness-words"), `${fresh.message}.`);
  document.body.classList.toggle("old", !place.hidden);
}

/** One sentence that can be read from across the room. */
function verdict() {
  const { now } = seen;
  const fresh = freshness();
  banner(fresh);
  const firing = seen.alerts.filter((alert) => alert.state === "firing" && !alert.silenced);
  const place = id("verdict");
  let [state, glyph, title, more] = ["waiting", "…", "Waiting for the first numbers …", ""];
  if (now && now.closed_through == null) {
    title = now.choices.funnel.length ? `No window of ${named(now.funnel)} is closed yet` : "No events yet";
    more = now.choices.funnel.length ? "It closes when the watermark has passed it." : "Produce some, and run a worker: funnelwatch worker";
  } else if (now) {
    const low = now.steps.filter((cell) => cell.state === "low");
    const rated = now.steps.filter((cell) => cell.state !== "few");
    if (firing.length) {
      [state, glyph] = ["alert", "▼"];
      const [first] = [...firing.filter(ofConversion), ...firing];
      title = ofConversion(first) ? `${about(first)} is below what is expected` : `${about(first)}: ${first.summary}`;
      const others = firing.length > 1 ? `and ${firing.length - 1} more alert${firing.length > 2 ? "s" : ""}` : "";
      more = [ofConversion(first) ? standing(first) : "", whereOf(first), others].filter(Boolean).join(" · ");
    } else if (fresh.state !== "fresh") {
      [state, glyph] = [fresh.state === "stale" ? "stale" : "unsure", fresh.state === "stale" ? "⚠" : "?"];
      title = UNSURE[fresh.reason] ?? "Not known: these figures are old";
    } else if (low.length) {
      [state, glyph] = ["low", STATES.low.glyph];
      title = `${low.map((cell) => named(cell.step)).join(", ")} ${low.length > 1 ? "are" : "is"} low`;
      more = "Surely below what is expected; no alert fires yet.";
    } else if (rated.length) {
      [state, glyph] = ["ok", "●"];
      title = rated.some((cell) => cell.state === "ok") ? "The funnel converts as expected" : "The funnel converts; nothing is known yet of what to expect";
    } else {
      [state, glyph, title] = ["few", STATES.few.glyph, "Too few events for a rate"];
    }
  }
  place.dataset.state = state;
  say(place.querySelector(".glyph"), glyph);
  say(id("verdict-title"), title);
  const span = now?.from == null ? "" : `Rates of ${clock(now.from)} to ${clock(now.to)} UTC`;
  say(id("verdict-more"), [more, span].filter(Boolean).join(" · "));
  const open = firing.length ? `▼ ${firing.length} ` : "";
  const old = { stale: "⚠ old figures · ", unknown: fresh.reason === "waiting" ? "" : "? not known · " }[fresh.state] ?? "";
  document.title = `${open}${old}${filters.get("funnel")} – funnelwatch`;
}

/** The link, and how old what is shown is; every second. */
function tick() {
  const old = beaten == null ? null : performance.now() - beaten;
  const fresh = freshness();
  const live = { fresh: "Live", stale: "Connected; figures are old", unknown: "Connected" }[fresh.state];
  const words = { live, connecting: "Connecting…", lost: "Reconnecting…" };
  const age = link === "lost" && old != null ? ` numbers are ${lasting(old)} old` : "";
  id("link").dataset.state = link === "live" && fresh.state !== "fresh" ? "unsure" : link;
  if (shown !== fresh.state + fresh.message) {
    shown = fresh.state + fresh.message;
    verdict();
  }
  say(id("link-word"), `${words[link]}${age}`);
  document.body.classList.toggle("stale", link === "lost");
  if (seen.health) showHealth(id("health"), seen.health, seen.now, serverNow());
}

const on = {
  beat({ server }) {
    offset = server - Date.now();
    beaten = performance.now();
  },
  now(message) {
    seen.now = message;
    id("steps").removeAttribute("aria-busy");
    filters.offer(message.choices);
    steps.show(message);
    verdict();
    draw();
  },
  history(message) {
    seen.history = message;
    draw();
  },
  people(message) {
    seen.people = message;
    people.show(message);
    draw();
  },
  alerts({ alerts, known }) {
    seen.alerts = alerts;
    showAlerts(id("alerts"), id("no-alerts"), id("alerts-count"), alerts, known);
    verdict();
    draw();
  },
  health(message) {
    seen.health = message;
    checked = performance.now();
    showErrors(id("warnings"), message.errors);
  },
};

id("focus").addEventListener("change", (event) => focus(event.target.value === "" ? null : event.target.value.slice(1)));
const again = listen(
  () => filters.stream(),
  (part, message) => {
    if (message != null) on[part](message);
    tick();
  },
  (state) => {
    link = state;
    tick();
  },
);
setInterval(tick, 1000);
