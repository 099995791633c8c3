/** A form made of descriptions of options: the page knows none of them by name. */
import { add, h, styled, unique } from "./dom.js";

/**
 * @typedef {{name: string, help?: string, default: number | string | boolean, low?: number | null, high?: number | null,
 *   choices?: string[] | null, whole?: boolean, group?: string, unit?: string}} Option
 *   as core.option describes it; whole: an integer
 * @typedef {Record<string, number | string | boolean>} Values
 */

/** What is wrong with a text as the value of an option, or "". @param {Option} option @param {string | boolean} typed */
export function wrong(option, typed) {
  if (option.choices) return option.choices.includes(String(typed)) ? "" : `is none of: ${option.choices.join(", ")}`;
  if (typeof option.default !== "number") return "";
  const value = Number(typed);
  if (typed === "" || !Number.isFinite(value)) return "should be a number";
  if (option.whole && !Number.isInteger(value)) return "should be a whole number";
  if (option.low !== null && option.low !== undefined && value < option.low) return `must be at least ${option.low}`;
  if (option.high !== null && option.high !== undefined && value > option.high) return `must be at most ${option.high}`;
  return "";
}

/** The flag that sets it on the command line, or "" where it has its default. @param {Option} option @param {number | string | boolean} value */
export function flag(option, value) {
  const name = option.name.replaceAll("_", "-");
  if (value === option.default) return "";
  if (typeof value === "boolean") return value ? `--${name}` : `--no-${name}`;
  const text = String(value);
  return `--${name} ${/^[\w.,:/+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`}`;
}

/** @param {Option} option */
const span = (option) => [option.low, option.high].every((v) => v === null || v === undefined) ? "" : `${option.low ?? "…"} to ${option.high ?? "…"}`;

/** @param {{options: Option[], values?: Values, onChange?: (name: string, value: number | string | boolean) => void}} about */
export function form({ options, values = {}, onChange = () => {} }) {
  styled();
  const stem = unique("form"), root = h("div", { class: "w-form" });
  /** @type {Map<string, {option: Option, input: HTMLInputElement | HTMLSelectElement, error: HTMLElement}>} */
  const fields = new Map();
  /** @type {Map<string, Element>} */
  const groups = new Map();

  for (const option of options) {
    const id = `${stem}-${option.name}`, error = h("small", { class: "w-error", id: `${id}-error`, role: "alert" });
    const note = [option.help, span(option), `usual: ${option.default === "" ? "none" : option.default}`].filter(Boolean).join(" · ");
    const input = made(option, id);
    input.setAttribute("aria-describedby", `${id}-help ${id}-error`);
    input.addEventListener(option.choices || typeof option.default === "boolean" ? "change" : "input", () => {
      if (check(option.name)) onChange(option.name, read(option.name));
    });
    fields.set(option.name, { option, input, error });
    const label = h("label", { for: id, text: option.name.replaceAll("_", " ") }), help = h("small", { id: `${id}-help`, class: "w-help", text: note });
    add(place(option.group), h("div", { class: "w-field" }, label, input, help, error));
  }
  set(values);

  /** @param {string | undefined} group */
  function place(group) {
    if (!group) return root;
    const there = groups.get(group);
    if (there) return there;
    const made = h("fieldset", {}, h("legend", { text: group }));
    groups.set(group, made);
    add(root, made);
    return made;
  }
  /** @param {Option} option @param {string} id */
  function made(option, id) {
    if (option.choices) return h("select", { id, name: option.name }, ...option.choices.map((c) => h("option", { value: c, text: c || "none" })));
    if (typeof option.default === "boolean") return h("input", { id, name: option.name, type: "checkbox" });
    if (typeof option.default === "number") return h("input", { id, name: option.name, type: "number", min: option.low, max: option.high, step: option.whole ? 1 : "any", inputmode: option.whole ? "numeric" : "decimal" });
    return h("input", { id, name: option.name, type: "text", spellcheck: "false", autocomplete: "off" });
  }
  /** @param {string} name */
  function field(name) {
    const there = fields.get(name);
    if (!there) throw new RangeError(`there is no option ${name}`);
    return there;
  }
  /** @param {string} name */
  function read(name) {
    const { option, input } = field(name);
    if (input instanceof HTMLInputElement && input.type === "checkbox") return input.checked;
    return typeof option.default === "number" ? Number(input.value) : input.value;
  }
  /** @param {string} name */
  function check(name) {
    const { option, input, error } = field(name);
    const typed = input instanceof HTMLInputElement && input.type === "checkbox" ? input.checked : input.value;
    const what = wrong(option, typed);
    error.textContent = what && `${option.name.replaceAll("_", " ")} ${what}`;
    input.setAttribute("aria-invalid", String(Boolean(what)));
    return !what;
  }
  /** @param {Values} to */
  function set(to) {
    for (const [name, { option, input }] of fields) {
      const value = to[name] ?? option.default;
      if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = Boolean(value);
      else input.value = String(value);
      check(name);
    }
  }
  return {
    root, set,
    /** All values that are allowed; those of refused fields are left out. @returns {Values} */
    values() { return Object.fromEntries([...fields.keys()].filter(check).map((name) => [name, read(name)])); },
    /** Whether every field may be used. */
    get valid() { return [...fields.keys()].map(check).every(Boolean); },
    /** Flags of what differs from its default. */
    flags() { return [...fields.values()].map(({ option }) => flag(option, read(option.name))).filter(Boolean).join(" "); },
    /** @param {boolean} off */
    disable(off) { for (const { input } of fields.values()) input.disabled = off; },
  };
}
