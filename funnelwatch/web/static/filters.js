// The filters: shown by selects, kept in the address, so that a view can be sent to somebody.

import { el } from "./dom.js";
import { named } from "./format.js";

const CHOSEN = ["funnel", "os", "browser", "app_version"];
const ALL = { os: "All", browser: "All", app_version: "All" };
const DEFAULTS = { funnel: "sign_up", since: "1h" };
const RANGES = ["15m", "1h", "6h", "24h"];

export class Filters {
  /** `changed()` is called when somebody chooses. */
  constructor(form, changed) {
    this.form = form;
    this.read();
    this.known = {};
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      const { name, value } = event.target;
      this.set(name, name === "since" ? value : value === "" ? null : value.slice(1));
      changed();
    });
    addEventListener("popstate", () => {
      this.read();
      this.show();
      changed();
    });
    this.show();
  }

  read() {
    this.asked = new URLSearchParams(location.search);
    if (!RANGES.includes(this.asked.get("since"))) this.asked.delete("since");
  }

  get(name) {
    return this.asked.get(name) ?? DEFAULTS[name] ?? null;
  }

  set(name, value) {
    if (value == null) this.asked.delete(name);
    else this.asked.set(name, value);
    const query = this.asked.toString();
    history.pushState(null, "", query ? `?${query}` : location.pathname);
    this.show();
  }

  /** The address of the stream for what is chosen. */
  stream() {
    const query = new URLSearchParams();
    for (const name of [...CHOSEN, "since"]) {
      if (this.asked.has(name)) query.set(name, this.asked.get(name));
    }
    return `/live?${query}`;
  }

  /** What there is to choose, from the server. */
  offer(choices) {
    this.known = choices;
    this.show();
  }

  show() {
    for (const name of CHOSEN) {
      const select = this.form.elements[name];
      const value = this.get(name);
      const values = [...new Set([...(this.known[name] ?? []), ...(value == null ? [] : [value])])].sort();
      const offered = JSON.stringify(values);
      if (select.offered !== offered) {
        select.offered = offered;
        select.replaceChildren(
          ...(ALL[name] ? [el("option", { value: "" }, ALL[name])] : []),
          ...values.map((one) => el("option", { value: `=${one}` }, named(one))),
        );
      }
      select.value = value == null ? "" : `=${value}`;
      select.parentElement.dataset.chosen = String(Boolean(ALL[name]) && value != null);
    }
    this.form.elements.since.value = this.get("since");
  }
}
