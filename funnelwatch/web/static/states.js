// What a rate is called: a shape and a word each, never a colour alone.

export const STATES = {
  alert: { glyph: "▼", word: "Alert", tells: "an alert about it is firing" },
  low: { glyph: "◣", word: "Low", tells: "surely below what is expected; no alert fires" },
  ok: { glyph: "●", word: "As expected", tells: "as expected, or better" },
  few: { glyph: "◌", word: "Too few", tells: "too few were shown it for a rate" },
  unknown: { glyph: "?", word: "No history", tells: "nothing is known yet of what to expect" },
  over: { glyph: "↑", word: "Over 100 %", tells: "more successes than impressions: they answer earlier ones" },
};

/** Whether an alert concerns conversion, rather than events that do not come. */
export const ofConversion = (alert) => alert.basis === "window" || alert.basis === "cohort";

/** Whether an alert concerns a step. */
export const concerns = (alert, step) => alert.step === step || alert.step === "*" || alert.steps.includes(step);
