// @ts-check
// The options of a model as sliders, choices and boxes, made of their descriptions: none is known by name here.

import { h, unique } from "../../widgets/dom.js";
import { short } from "../../widgets/numbers.js";
import { slider } from "../../widgets/slider.js";

const WIDE = 400;

/** @typedef {{name: string, part: string, help: string, value: any, default: any, kind: string, low: number|null, high: number|null, choices: string[]|null, live: boolean}} Option */

/** @param {Option[]} options @param {(name: string, value: any) => void} set */
export function options(options, set) {
  const root = h("div", { class: "pg-options" });
  for (const part of ["model", "training"]) {
    const own = options.filter((o) => o.part === part);
    if (own.length) root.append(h("h3", { text: part === "model" ? "Model" : "Training" }), ...own.map((o) => field(o, set)));
  }
  return root;
}

/** @param {Option} o @param {(name: string, value: any) => void} set @returns {HTMLElement} */
function field(o, set) {
  const label = o.name.replaceAll("_", " "), value = o.value;
  const span = (o.high ?? Infinity) - (o.low ?? -Infinity);
  if (["int", "float"].includes(o.kind) && o.low !== null && o.high !== null && span <= WIDE && (o.low > 0 || o.kind === "int" || span <= 20)) {
    const whole = o.kind === "int", log = o.low > 0 && o.high / o.low > 50;
    const made = slider({
      label, min: o.low, max: o.high, step: whole ? 1 : log ? undefined : span / 200, value, log, help: o.help,
      show: (v) => short(v, 3), onChange: (v) => set(o.name, whole ? Math.round(v) : v),
    });
    made.root.dataset.option = o.name;
    return made.root;
  }
  const id = unique("option"), described = `${id}-help`;
  /** @type {HTMLInputElement|HTMLSelectElement} */
  let input;
  if (o.choices) {
    input = h("select", { id, "aria-describedby": described }, ...o.choices.map((c) => h("option", { value: c, text: c || "none" })));
    input.value = String(value);
    input.addEventListener("change", () => set(o.name, input.value));
  } else if (o.kind === "bool") {
    const box = h("input", { id, type: "checkbox", "aria-describedby": described });
    box.checked = Boolean(value);
    box.addEventListener("change", () => set(o.name, box.checked));
    input = box;
  } else {
    const text = h("input", { id, type: "number", min: o.low, max: o.high, step: o.kind === "int" ? 1 : "any", "aria-describedby": described });
    text.value = String(value);
    text.style.width = "88px";
    text.addEventListener("change", () => text.value !== "" && text.checkValidity() && set(o.name, Number(text.value)));
    input = text;
  }
  return h("div", { class: "pg-choice", "data-option": o.name }, h("label", { for: id, text: label }), input, h("small", { id: described, class: "w-help", text: o.help }));
}
