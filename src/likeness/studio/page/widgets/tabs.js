/** Tabs as the ARIA pattern has them: one stop for the Tab key, arrows between them, Home and End. */
import { add, h, styled, unique } from "./dom.js";

/**
 * @param {{label: string, tabs: {id: string, title: string, panel: HTMLElement, hint?: string}[], chosen?: string,
 *   onChange?: (id: string) => void}} options
 */
export function tabs(options) {
  styled();
  const stem = unique("tab"), { onChange = () => {} } = options;
  const list = h("div", { role: "tablist", "aria-label": options.label, class: "w-tabs" });
  const root = h("div", { class: "w-tabbed" }, list);
  const buttons = options.tabs.map(({ id, title, panel, hint }) => {
    const button = h("button", {
      type: "button", role: "tab", id: `${stem}-${id}`, "aria-controls": `${stem}-${id}-panel`, title: hint, text: title,
      "data-tab": id, onclick: () => choose(id),
    });
    const place = h("div", { role: "tabpanel", id: `${stem}-${id}-panel`, "aria-labelledby": button.id, tabindex: 0 }, panel);
    add(list, button);
    add(root, place);
    return { id, button, place };
  });
  let chosen = "";

  /** @param {string} id @param {boolean} [quiet] */
  function choose(id, quiet = false) {
    if (!buttons.some((b) => b.id === id)) id = buttons[0].id;
    for (const b of buttons) {
      const on = b.id === id;
      b.button.setAttribute("aria-selected", String(on));
      b.button.tabIndex = on ? 0 : -1;
      b.place.hidden = !on;
    }
    const changed = chosen !== id;
    chosen = id;
    if (changed && !quiet) onChange(id);
  }

  list.addEventListener("keydown", (e) => {
    const at = buttons.findIndex((b) => b.id === chosen), n = buttons.length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: n - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    const next = buttons[(to + n) % n];
    choose(next.id);
    next.button.focus();
  });
  choose(options.chosen ?? buttons[0].id, true);
  return {
    root, choose,
    get chosen() { return chosen; },
    /** By number, from 0. @param {number} i */
    at(i) { if (buttons[i]) (choose(buttons[i].id), buttons[i].button.focus()); },
  };
}
