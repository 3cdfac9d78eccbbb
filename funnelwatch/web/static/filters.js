// The filters: shown by selects, kept in the address, so that a view can be sent to somebody.

import { el } from "./dom.js";
import { named, titled } from "./format.js";

const DEFAULTS = { funnel: "sign_up", since: "1h" };
const RANGES = ["15m", "1h", "6h", "24h"];
const DIMENSION = /^[a-z][a-z0-9_]{0,62}$/;
const NO_DIMENSIONS = ["funnel", "since", "step"];

export class Filters {
  /** `changed()` is called when somebody chooses. */
  constructor(form, changed) {
    this.form = form;
    this.known = {};
    this.read();
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
    // Another funnel has other dimensions.
    if (name === "funnel") for (const one of this.dimensions()) this.asked.delete(one);
    const query = this.asked.toString();
    history.pushState(null, "", query ? `?${query}` : location.pathname);
    this.show();
  }

  /** The dimensions that can be chosen, and those that are. */
  dimensions() {
    const names = [...Object.keys(this.known), ...this.asked.keys()];
    return [...new Set(names)].filter((name) => DIMENSION.test(name) && !NO_DIMENSIONS.includes(name));
  }

  /** The address of the stream for what is chosen. */
  stream() {
    const query = new URLSearchParams();
    for (const name of ["funnel", ...this.dimensions(), "since"]) {
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
    const names = this.dimensions();
    for (const select of this.form.querySelectorAll("select[data-dimension]")) {
      if (!names.includes(select.name)) select.parentElement.remove();
    }
    let before = this.form.elements.namedItem("funnel").parentElement;
    for (const name of names) {
      const known = this.form.querySelector(`select[data-dimension="${name}"]`)?.parentElement;
      const node = known ?? el("span", { class: "filter" }, el("label", { for: `filter-${name}` }, titled(name)), " ",
        el("select", { id: `filter-${name}`, name, "data-dimension": name }));
      // To move a select would close it under somebody's hand.
      if (before.nextElementSibling !== node) before.after(node);
      before = node;
    }
    for (const name of ["funnel", ...names]) this.#fill(name);
    this.form.querySelector("#filter-since").value = this.get("since");
  }

  #fill(name) {
    const select = this.form.querySelector(`#filter-${name}`);
    const isDimension = name !== "funnel";
    const value = this.get(name);
    const values = [...new Set([...(this.known[name] ?? []), ...(value == null ? [] : [value])])].sort();
    const offered = JSON.stringify(values);
    if (select.offered !== offered) {
      select.offered = offered;
      select.replaceChildren(
        ...(isDimension ? [el("option", { value: "" }, "All")] : []),
        ...values.map((one) => el("option", { value: `=${one}` }, named(one))),
      );
    }
    select.value = value == null ? "" : `=${value}`;
    select.parentElement.dataset.chosen = String(isDimension && value != null);
  }
}
