// How numbers, times and the texts of other people are written.

export const NONE = "(none)";

/** A dimension's value as it is shown; empty has a name. */
export const named = (value) => (value === "" ? NONE : value);

/** A share as 84.1 %; a dash where there is none. */
export const percent = (share, digits = 1) => (share == null ? "–" : `${(share * 100).toFixed(digits)} %`);

/** A count with separators. */
export const count = (number) => Math.round(number).toLocaleString("en");

/** A large count in few characters. */
export const brief = (number) =>
  number >= 100_000 ? Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(number) : count(number);

const pad = (number) => String(number).padStart(2, "0");

/** A time of day, UTC: 12:04, with seconds where they matter. */
export function clock(ms, seconds = false) {
  const at = new Date(ms);
  const time = `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}`;
  return seconds || at.getUTCSeconds() ? `${time}:${pad(at.getUTCSeconds())}` : time;
}

/** A time with its day where that is not today's. */
export function moment(ms, now) {
  const day = new Date(ms).toISOString().slice(0, 10);
  return day === new Date(now).toISOString().slice(0, 10) ? clock(ms) : `${day} ${clock(ms)}`;
}

/** A span of time in its two largest units: 1 h 5 min. */
export function lasting(ms) {
  let seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [];
  for (const [name, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (seconds >= length) {
      parts.push(`${Math.floor(seconds / length)} ${name}`);
      seconds %= length;
    } else if (parts.length) {
      break;
    }
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

const TITLES = { os: "OS", app_version: "App version" };

/** The name of a dimension for people: "App version"; in the middle of a sentence "app version". */
export function titled(name, first = true) {
  const words = TITLES[name] ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
  return first || name === "os" ? words : words.charAt(0).toLowerCase() + words.slice(1);
}
