// @ts-check
// The table of cards: groups of rows, a column a run; a sticky head, intervals, n, and why a row is not ranked.
import { h } from "../widgets/dom.js";

const PLACES = /** @type {Record<string, string>} */ ({ best: "best", tie: "tie" });

/** @param {any} data of the question `sheet` @param {(path: string) => void} onScore */
export function table(data, onScore) {
  const heads = data.columns.map((/** @type {any} */ c) => h("th", { scope: "col" }, c.name, h("br"), h("small", { class: "muted", text: `${c.subject}, ${c.seen.toLocaleString("en-US")} images` }), h("br"), h("small", { class: "muted", text: `data ${c.reference}` }),
    c.scored ? null : h("p", {}, h("button", { type: "button", text: "Score it", "aria-label": `Score ${c.name}`, onclick: () => onScore(c.path) }))));
  const groups = [...new Set(data.rows.map((/** @type {any} */ r) => r.group))];
  const bodies = groups.map((group) => h("tbody", {}, h("tr", {}, h("th", { scope: "rowgroup", colspan: heads.length + 1, class: "s-group", text: String(group) })),
    ...data.rows.filter((/** @type {any} */ r) => r.group === group).map((/** @type {any} */ r) => row(r))));
  const warnings = data.columns.filter((/** @type {any} */ c) => c.warnings.length).map((/** @type {any} */ c) => h("details", {}, h("summary", { text: `${c.name}: ${c.warnings.length} to look out for` }), h("ul", {}, ...c.warnings.map((/** @type {string} */ w) => h("li", { class: "small", text: w })))));
  const others = h("input", { type: "checkbox", onchange: () => whole.classList.toggle("s-own", !others.checked) });
  const whole = h("div", { class: "s-own" }, ...warnings, h("label", { class: "row s-field" }, others, "baselines and real images as well"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores of the runs" },
    h("table", { class: "s-scores" }, h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "measure" }), ...heads)), ...bodies)),
    h("p", { class: "caption", text: "best: better than every run that it may be held against, 95 % intervals apart. tie: none is better. Rows of different n, data or network are not ranked." }));
  return whole;
}

/** @param {any} r */
function row(r) {
  const own = r.of === "model", name = own ? `${r.measure}${r.unit ? `, ${r.unit}` : ""}` : r.of;
  return h("tr", { class: own ? null : "muted s-beside" }, h("th", { scope: "row" }, own ? name : h("small", { text: name }), own && r.better ? h("small", { class: "muted", text: ` ${r.better} is better` }) : null,
    r.why ? h("small", { class: "warn s-why", text: r.why }) : null), ...r.cells.map((/** @type {any} */ c) => cell(c)));
}

/** @param {any} c */
function cell(c) {
  if (!c) return h("td", { text: "–" });
  const between = c.low !== null && c.high !== null && c.low < c.high ? c.number.slice(c.number.indexOf("[")) : "";
  return h("td", { class: c.place ? `s-${c.place}` : null }, h("strong", { text: c.shown }), PLACES[c.place] ? h("span", { class: "chip", text: PLACES[c.place] }) : null,
    c.warnings.length ? h("span", { class: "warn", title: c.warnings.join("; "), text: " !" }) : null, ...[between, c.sides, c.features].filter(Boolean).map((t) => h("small", { class: "muted s-line", text: t })));
}
