// Making elements. Text goes in as text: nothing that an event says is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value != null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== ""));
  return node;
}

/** An HTML element with attributes and children; a string becomes text. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Set a text only if it is another one, so that a screen reader does not say it again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Bring a list's children in line with items: one child a key, kept while its key is there.
 * `make(item)` gives a new child, `update(child, item)` is called whenever its item is another than before.
 */
export function keyed(list, items, key, make, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    const content = JSON.stringify(item);
    if (child.content !== content) {
      child.content = content;
      update(child, item);
    }
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
  });
  for (const child of known.values()) child.remove();
}

/** A table with a caption: rows of cells, the first of each its heading. */
export function table(node, caption, headings, rows) {
  node.replaceChildren(
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...headings.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...rows.map(([first, ...cells]) =>
      el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, cell))))),
  );
}
