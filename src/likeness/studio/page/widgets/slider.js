/** A slider: a native range input with its name, its number and, if it has one, its unit. */
import { h, styled, unique } from "./dom.js";
import { short } from "./numbers.js";

/**
 * @typedef {{label: string, min: number, max: number, step?: number, value: number, unit?: string, help?: string,
 *   log?: boolean, show?: (v: number) => string, onInput?: (v: number) => void, onChange?: (v: number) => void}} Options
 */

const FINE = 1000;

/**
 * `onInput` while it moves, `onChange` once it rests. Shift with an arrow key goes ten steps; a double click
 * goes back to the first value. `log`: equal ways are equal factors (min > 0).
 * @param {Options} options
 */
export function slider(options) {
  styled();
  const { label, unit = "", log = false, onInput = () => {}, onChange = () => {} } = options;
  const { min, max } = options;
  const step = options.step ?? (max - min) / 100;
  const show = options.show ?? ((/** @type {number} */ v) => `${short(v)}${unit ? ` ${unit}` : ""}`);
  const to = (/** @type {number} */ v) => (log ? (FINE * Math.log(v / min)) / Math.log(max / min) : v);
  const from = (/** @type {number} */ p) => {
    if (!log) return p;
    const v = min * Math.exp((p / FINE) * Math.log(max / min));
    return options.step ? Math.max(min, Math.round(v / options.step) * options.step) : Number(v.toPrecision(3));
  };
  const id = unique("slider"), described = options.help ? `${id}-help` : null;
  const input = h("input", {
    type: "range", id, min: log ? 0 : min, max: log ? FINE : max, step: log ? 1 : step, "aria-describedby": described,
  });
  const output = h("output", { for: id, class: "w-number" });
  const tell = () => {
    const text = show(value());
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  const value = () => from(Number(input.value));
  /** @param {number} v */
  const set = (v) => {
    input.value = String(to(v));
    tell();
  };
  set(options.value);
  input.addEventListener("input", () => (tell(), onInput(value())));
  input.addEventListener("change", () => onChange(value()));
  input.addEventListener("keydown", (e) => {
    const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[e.key];
    if (!way || !e.shiftKey) return;
    e.preventDefault();
    input.value = String(Number(input.value) + way * 10 * Number(input.step));
    tell();
    onInput(value());
    onChange(value());
  });
  input.addEventListener("dblclick", () => (set(options.value), onInput(value()), onChange(value())));
  const root = h("div", { class: "w-slider" }, h("label", { for: id }, label), output, input,
    options.help && h("small", { id: described, class: "w-help" }, options.help));
  return {
    root, input,
    get value() { return value(); },
    set value(v) { set(v); },
    /** @param {boolean} off */
    disable(off) { input.disabled = off; },
  };
}
