// The funnel of people: how far the sessions came that entered, step by step in order.

import { el, keyed, say, svg, table } from "./dom.js";
import { brief, clock, count, lasting, named, percent } from "./format.js";

const END = "end"; // no step is called so: steps have their place before their name

/** Who came this far, of those who entered; the part that may still go on is hatched. */
function bar(node, reached, open, entered) {
  const share = (number) => `${(entered ? Math.min(number / entered, 1) : 0) * 100}%`;
  node.replaceChildren(
    svg("rect", { class: "track", x: 0, y: 0, width: "100%", height: 26, rx: 4 }),
    svg("rect", { class: "fill", x: 0, y: 0, width: share(reached), height: 26, rx: 4 }),
    ...(open ? [svg("rect", { class: "open", x: share(reached - open), y: 0, width: share(open), height: 26 })] : []),
  );
}

function makePerson() {
  return el("li", { class: "person" },
    el("span", { class: "person-head" }, el("span", { class: "place" }), " ", el("span", { class: "name" })),
    svg("svg", { class: "person-bar", width: "100%", height: 26, "aria-hidden": "true" }),
    el("span", { class: "person-reached" }, el("strong"), " ", el("span", { class: "person-count" })),
    el("span", { class: "person-drop fine" }),
    el("span", { class: "person-rate fine" }));
}

const isLast = (people, at) => at === people.steps.length - 1;

function drop({ people, at, step }) {
  if (step.dropped == null || !step.reached) return "";
  const what = isLast(people, at) ? "did not complete it" : "dropped off";
  return `${brief(step.dropped)} ${what}${step.of_first == null ? "" : `, ${percent(step.dropped / step.reached)}`}`;
}

function update(node, item) {
  const { people, at, step } = item;
  const part = (name) => node.querySelector(`.${name}`);
  const end = step == null;
  node.classList.toggle("person-end", end);
  node.classList.toggle("unordered", people.entered == null);
  say(part("place"), end ? "✓" : String(at + 1));
  part("name").replaceChildren(...(end ? "Completed" : named(step.step)).split(/(?<=_)/).flatMap((one) => [one, el("wbr")]));
  const [reached, open, share] = end
    ? [people.completed, 0, people.rate]
    : [step.reached ?? 0, step.open ?? 0, step.of_first];
  bar(part("person-bar"), reached, open, people.entered);
  say(part("person-reached").querySelector("strong"), percent(share));
  const interval = end && people.low != null ? `[${percent(people.low)} – ${percent(people.high)}]` : "";
  say(part("person-count"), brief(reached));
  say(part("person-drop"), end ? `of ${brief(people.entered)} who entered` : drop(item));
  say(part("person-rate"), end ? interval : `${percent(step.sessions.rate)} by sessions · ${percent(step.events.rate)} by events`);
}

/** Whether the sessions have had all of their time, in words. */
function openness({ entered, open, session_window_ms: width }) {
  if (!entered) return "";
  if (!open) return "All of them are closed: these figures are final.";
  const who = open === entered ? "All of them" : `${count(open)} of them (hatched)`;
  return `${who} entered less than ${lasting(width)} ago: still open, they may go on.`;
}

function words(people) {
  if (people == null) return "…";
  if (people.why) return `Not shown: ${people.why}.`;
  const span = `${clock(people.from)} to ${clock(people.to)} UTC`;
  if (people.entered == null) return `${span}. The steps of this funnel are not declared, so they have no order: only the rates of its steps are known.`;
  return `${count(people.entered)} sessions entered from ${span}. ${openness(people)}`.trim();
}

export class People {
  /** The panel's list, its sentence, and its table. */
  constructor(list, sentence, tableNode) {
    Object.assign(this, { list, sentence, table: tableNode });
  }

  /** The message `people`; null while it is not known. */
  show(people) {
    say(this.sentence, words(people));
    const steps = people?.steps ?? [];
    const items = steps.map((step, at) => ({ people, at, step }));
    if (people?.entered != null) items.push({ people, at: steps.length, step: null });
    keyed(this.list, items, ({ at, step }) => (step == null ? END : `${at} ${step.step}`), makePerson, update);
    table(this.table, "Sessions by step; the rate of a step by sessions, and by events",
      ["Step", "Reached", "Of step 1", "Dropped off", "Completed", "Still open", "Sessions", "Succeeded", "Rate by sessions", "Impressions", "Successes", "Rate by events"],
      steps.map((step) => [
        named(step.step), ...[step.reached, step.of_first, step.dropped, step.completed, step.open].map((one, at) =>
          one == null ? "–" : at === 1 ? percent(one) : count(one)),
        count(step.sessions.of), count(step.sessions.made), percent(step.sessions.rate),
        count(step.events.of), count(step.events.made), percent(step.events.rate),
      ]));
  }
}
