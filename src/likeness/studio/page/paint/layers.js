// @ts-check
// Strokes as layers, and one that is typed as numbers.
import { button, field, select } from "../samples/common.js";
import { h } from "../widgets/dom.js";
import { G, KINDS, RADII } from "./strokes.js";

/** @typedef {import("./strokes.js").Stroke} Stroke */

/** What a stroke is, in words. @param {Stroke} s */
export function spoken(s) {
  const at = (/** @type {number} */ i) => `${(s.points[i] / G).toFixed(2)}, ${(s.points[i + 1] / G).toFixed(2)}`;
  const n = s.points.length / 2, where = s.kind === "warp" ? `${at(0)} to ${at(2)}` : n === 1 ? at(0) : `${n} points from ${at(0)}`;
  return `${s.kind}${s.colour ? ` ${s.colour}` : ""}, ${where}`;
}

/** @param {(strokes: Stroke[]) => void} change */
export function layers(change) {
  const root = h("ol", { class: "p-layers", "aria-label": "Strokes" });
  return {
    root,
    /** @param {Stroke[]} all */
    show(all) {
      const focus = /** @type {HTMLElement|null} */ (root.contains(document.activeElement) ? document.activeElement : null)?.dataset.at;
      const put = (/** @type {number} */ i, /** @type {Partial<Stroke>} */ to) => change(all.map((s, j) => (i === j ? { ...s, ...to } : s)));
      root.replaceChildren(...all.map((s, i) => {
        const name = `stroke ${i + 1}`;
        const weight = h("input", { type: "number", min: 0.01, max: 100, step: "any", value: s.weight, "aria-label": `weight of ${name}`, class: "s-number", "data-at": `w${i}` });
        weight.addEventListener("change", () => weight.checkValidity() && weight.value && put(i, { weight: Number(weight.value) }));
        const hide = h("button", { type: "button", "aria-pressed": String(s.hidden), "aria-label": `hide ${name}`, "data-at": `h${i}`, onclick: () => put(i, { hidden: !s.hidden }) }, "hide");
        const off = h("button", { type: "button", "aria-label": `delete ${name}`, "data-at": `d${i}`, onclick: () => change(all.filter((_, j) => j !== i)) }, "delete");
        const key = h("span", { class: "p-key", "aria-hidden": "true" });
        key.style.background = s.colour ?? "transparent";
        return h("li", {}, key, h("span", { class: "p-name", text: spoken(s) }), weight, hide, off);
      }));
      if (focus) /** @type {HTMLElement|null} */ (root.querySelector(`[data-at="${focus}"]`))?.focus();
    },
  };
}

/** A stroke by numbers: the same as one that is drawn. @param {(s: Stroke) => void} add @param {(text: string) => void} wrong */
export function byForm(add, wrong) {
  const now = { kind: "colour", x: 0.5, y: 0.5, x2: 0.7, y2: 0.5, radius: 0.1, colour: "#d62728" };
  const range = { min: 0, max: 1, step: "any" };
  const kind = select("what", KINDS.map((k) => [k, k]), now.kind, (v) => ((now.kind = v), (radius.input.value = String((now.radius = RADII[v]))), fit()));
  const x = field("x", now.x, range, (v) => (now.x = v)), y = field("y", now.y, range, (v) => (now.y = v));
  const x2 = field("to x", now.x2, range, (v) => (now.x2 = v)), y2 = field("to y", now.y2, range, (v) => (now.y2 = v));
  const radius = field("radius", now.radius, { min: 0.001, max: 1, step: "any" }, (v) => (now.radius = v));
  const tint = h("input", { type: "color", value: now.colour, oninput: () => (now.colour = tint.value) });
  const colour = h("label", { class: "row s-field" }, "colour", tint);
  function fit() {
    colour.hidden = now.kind !== "colour";
    x2.root.hidden = y2.root.hidden = now.kind === "colour" || now.kind === "keep" || now.kind === "erase";
  }
  fit();
  const put = () => {
    const typed = [x, y, x2, y2, radius].filter((f) => !f.root.hidden);
    const bad = typed.find((f) => !f.input.value || !f.input.checkValidity());
    if (bad) return wrong(`A stroke needs numbers from 0 to 1: x to the right, y down, as shares of the side; the radius above 0.`);
    const q = (/** @type {number} */ v) => Math.floor(G * v + 0.5);
    const points = [q(Number(x.input.value)), q(Number(y.input.value)), ...(x2.root.hidden ? [] : [q(Number(x2.input.value)), q(Number(y2.input.value))])];
    add({ kind: now.kind, points, radius: Number(radius.input.value), ...(now.kind === "colour" ? { colour: now.colour } : {}), weight: 1, hidden: false });
  };
  return h("details", { class: "p-form" }, h("summary", { text: "by form: a stroke as numbers" }),
    h("div", { class: "row" }, kind.root, colour, x.root, y.root, x2.root, y2.root, radius.root, button("Add stroke", put)));
}
