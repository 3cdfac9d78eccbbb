// Tells a funnelwatch collector what happens to the steps of a sign-up. Plain JavaScript, no dependencies.
//
//   import { funnel } from "./funnel.js";
//   const signUp = funnel({ url: "https://collector.example", key: "fw_…", appVersion: "5.2.0" });
//   signUp.shown("INPUT_PHONE_NUMBER");
//   signUp.verified("INPUT_PHONE_NUMBER", response.ok);

const SEND_AFTER_MS = 300;
const MOST_KEPT = 500;

export function funnel({ url, key, appVersion = "" }) {
  const session = sessionId();
  const shownAt = new Map();
  let waiting = []; // what the collector has not acknowledged yet
  let timer = null;

  function put(event) {
    // The id makes sending twice harmless: the event is counted once.
    waiting.push({ event_id: id(), sign_up_session_id: session, app_version: appVersion, ts: Date.now(), ...event });
    waiting = waiting.slice(-MOST_KEPT);
    later(SEND_AFTER_MS);
  }

  function later(ms) {
    timer ??= setTimeout(send, ms);
  }

  // sent_at lets the collector put right a clock that is wrong.
  const body = (events) => JSON.stringify({ sent_at: Date.now(), events });

  async function send() {
    timer = null;
    const events = waiting;
    if (!events.length) return;
    try {
      const response = await fetch(`${url}/v1/events`, {
        method: "POST",
        headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
        body: body(events),
      });
      if (response.status === 429 || response.status === 503) {
        return later(1000 * Number(response.headers.get("Retry-After") ?? 5));
      }
      waiting = waiting.filter((event) => !events.includes(event));
      if (!response.ok) console.warn("funnelwatch:", await response.text());
    } catch {
      later(5000); // no network
    }
  }

  // A page that goes away takes its requests with it, but not its beacons.
  addEventListener("pagehide", () => {
    if (waiting.length) navigator.sendBeacon(`${url}/v1/events?key=${encodeURIComponent(key)}`, body(waiting));
    waiting = [];
  });

  return {
    session,
    shown(step) {
      shownAt.set(step, performance.now());
      put({ step, phase: "IMPRESSION" });
    },
    verified(step, ok) {
      const began = shownAt.get(step);
      const duration = began === undefined ? {} : { duration_ms: Math.round(performance.now() - began) };
      put({ step, phase: "POST_VERIFICATION", status: ok ? "SUCCESS" : "FAILURE", ...duration });
    },
  };
}

function sessionId() {
  const known = sessionStorage.getItem("funnel_session") ?? id();
  sessionStorage.setItem("funnel_session", known);
  return known;
}

function id() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
