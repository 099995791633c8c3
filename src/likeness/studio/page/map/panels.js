// @ts-check
// What stands beside the plot: legend, what the map may be believed, and images as buttons.
import { h } from "../widgets/dom.js";

/** @param {any} group @param {string} none @param {(i: number) => void} onPick */
export function legend(group, none, onPick) {
  const most = 300, rows = group.names.slice(0, most).map((/** @type {string} */ name, /** @type {number} */ i) => entry(name, group.colours[i], group.counts[i], () => onPick(i)));
  if (group.none) rows.push(entry("none", none, group.none, () => onPick(-1)));
  if (group.names.length > most) rows.push(h("li", { text: `and ${group.names.length - most} more` }));
  return h("ul", { class: "m-legend", tabindex: 0, "aria-label": `${group.what}s: press one to select it` }, ...rows);
}

/** @param {string} name @param {string} colour @param {number} n @param {() => void} onPick */
function entry(name, colour, n, onPick) {
  const key = h("span", { class: "m-key", "aria-hidden": "true" });
  key.style.background = colour;
  return h("li", {}, h("button", { type: "button", onclick: onPick, title: `select ${name}` }, key, name, h("span", { class: "m-count", text: n.toLocaleString("en") })));
}

/** What may be believed of it. @param {any} info */
export function honesty(info) {
  const scores = info.stated.flatMap((/** @type {string[]} */ [name, own, beside]) => [h("dt", { text: name }), h("dd", {}, own, beside ? h("span", { class: "muted", text: ` (${beside})` }) : "")]);
  return h("section", { class: "panel", "aria-label": "What this map may be believed" }, h("h2", { text: "What it may be believed" }),
    scores.length ? h("dl", { class: "m-stated" }, ...scores) : h("p", { class: "muted", text: "No scores stand beside this map; `likeness map` writes them with it." }),
    h("p", { text: `Neighbours kept: of the ${info.k} nearest in features, the share among the ${info.k} nearest on the map.` }),
    h("p", {}, h("strong", { text: "Sizes of clusters and distances between them mean nothing." }), " Nor does how the map is turned. Neighbours are looked up in the features, never on the map."),
    info.why ? h("p", { class: "warn", text: `${info.why}.` }) : "");
}

/** Images as buttons, with a word each. @param {{row: number, word: string, name: string, image: HTMLCanvasElement | undefined}[]} shown @param {(row: number) => void} onPick */
export function strip(shown, onPick) {
  return h("ul", { class: "m-strip" }, ...shown.map(({ row, word, name, image }) => {
    const copy = image ? h("canvas", { width: image.width, height: image.height, "aria-hidden": "true" }) : null;
    if (copy && image) copy.getContext("2d")?.drawImage(image, 0, 0);
    return h("li", {}, h("button", { type: "button", title: name, "aria-label": `${name}, ${word}`, "data-row": row, onclick: () => onPick(row) }, copy, word));
  }));
}

/** How many of each label are selected. @param {any} group @param {Uint8Array | Uint16Array} label @param {Uint8Array} mask */
export function counted(group, label, mask) {
  const counts = new Map();
  for (let i = 0; i < mask.length; i++) if (mask[i]) counts.set(label[i], (counts.get(label[i]) ?? 0) + 1);
  const rows = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 50);
  return h("table", {}, h("caption", { class: "caption", text: `selected, by ${group.what}` }), h("thead", {}, h("tr", {}, h("th", { scope: "col", text: group.what }), h("th", { scope: "col", class: "number", text: "selected" }), h("th", { scope: "col", class: "number", text: "of" }))),
    h("tbody", {}, ...rows.map(([i, n]) => h("tr", {}, h("td", { text: group.names[i] ?? "none" }), h("td", { class: "number", text: n.toLocaleString("en") }), h("td", { class: "number", text: (group.counts[i] ?? group.none).toLocaleString("en") })))));
}
