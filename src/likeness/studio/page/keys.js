// @ts-check
// One registry of keys: no clash, never in text fields, single letters can be turned off (WCAG 2.1.4).

/** @typedef {{key: string, label: string, run: (event: KeyboardEvent) => void, where?: string}} Binding */

const TYPING = "input:not([type=range]):not([type=checkbox]):not([type=radio]):not([type=button]), textarea, select, [contenteditable]";

/** The name of a pressed key: "Ctrl+K", "Shift+ArrowLeft", "a", "?", " " is "Space".
 * @param {KeyboardEvent} event */
export function named(event) {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key : event.key;
  const mod = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = event.shiftKey && (event.key.length > 1 || mod) ? "Shift+" : "";
  return mod + shift + (key.length === 1 && mod ? key.toUpperCase() : key);
}

export class Keys {
  /** @param {Document} doc */
  constructor(doc = document) {
    /** @type {Map<string, Binding>} */ this.bindings = new Map();
    this.letters = true;
    this.going = false;
    doc.addEventListener("keydown", (event) => this.press(event));
  }

  /** Keys of a screen; throws where one is taken. A screen's own key may be "g x" as well: after g.
   * @param {Binding[]} bindings @returns {() => void} that removes them */
  add(bindings) {
    for (const one of bindings) {
      const there = this.bindings.get(one.key);
      if (there) throw new Error(`the key ${one.key} is taken by "${there.label}" and cannot be "${one.label}"`);
      this.bindings.set(one.key, one);
    }
    return () => bindings.forEach((one) => this.bindings.get(one.key) === one && this.bindings.delete(one.key));
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.defaultPrevented || event.altKey) return;
    const at = event.target instanceof Element ? event.target : null;
    const name = named(event), single = !event.ctrlKey && !event.metaKey;
    const typing = at !== null && at.closest(TYPING) !== null;
    if (typing && single && name !== "Escape") return;
    if (single && event.key.length === 1 && !this.letters) return;
    if (this.native(at, name)) return;
    const full = this.going ? `g ${name}` : name;
    this.going = !this.going && name === "g" && single;
    const binding = this.bindings.get(full);
    if (!binding) return;
    event.preventDefault();
    binding.run(event);
  }

  /** Keys that a focused control has of its own: Space and Enter of a button, arrows of a slider or a grid.
   * @param {Element|null} at @param {string} name */
  native(at, name) {
    if (!at || document.querySelector("dialog[open]")) return Boolean(at && name !== "Escape");
    if (["Space", "Enter"].includes(name)) return at.matches("button, a, summary, input, [role=gridcell], [role=tab], [role=option]");
    if (/Arrow|Home|End|Page/.test(name)) return at.matches("input, [role=slider], [role=tab], [role=grid] *, [role=grid], [data-arrows], [data-arrows] *");
    return false;
  }

  /** @returns {Binding[]} */
  all() {
    return [...this.bindings.values()];
  }
}
