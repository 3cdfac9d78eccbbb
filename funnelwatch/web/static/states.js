// What a rate is called: a shape and a word each, never a colour alone.

import { percent } from "./format.js";

export const STATES = {
  alert: { glyph: "▼", word: "Alert", meaning: "an alert about it is firing" },
  low: { glyph: "◣", word: "Low", meaning: "significantly below the expected rate; no alert fires" },
  ok: { glyph: "●", word: "As expected", meaning: "as expected, or better" },
  few: { glyph: "◌", word: "Too few", meaning: "too few impressions for a rate" },
  unknown: { glyph: "?", word: "No history", meaning: "no history to compare with" },
  over: { glyph: "↑", word: "Over 100 %", meaning: "more successes than impressions: some answer earlier impressions" },
};

/** Whether an alert concerns conversion, rather than events that do not come. */
export const ofConversion = (alert) => alert.basis !== "instrumentation";

/** The rate of an alert in words: of sessions, where these are counted and not page loads. */
export const rateOf = (alert) => `${percent(alert.rate)}${alert.basis === "session" ? " of sessions" : ""}`;

/** Whether an alert concerns a step. */
export const concerns = (alert, step) => alert.step === step || alert.step === "*" || alert.steps.includes(step);
