// @ts-check
// The tree of branches: a list in lists, each branch a button with its picture.

import { h } from "../../widgets/dom.js";
import { small } from "./view.js";

/** @typedef {import("./view.js").Spec} Spec */
/** @typedef {{id: number, parent: number|null, title: string, state: any, levels: Int32Array|null, says: string}} Node */

/** @param {Spec} spec @param {(node: Node) => void} onChoose */
export function tree(spec, onChoose) {
  /** @type {Node[]} */ let nodes = [];
  let chosen = 0, count = 0;
  const root = h("div", { class: "tree" });

  /** @param {number|null} parent @returns {HTMLElement|null} */
  function list(parent) {
    const own = nodes.filter((n) => n.parent === parent);
    if (!own.length) return null;
    const items = own.map((node) => {
      const picture = node.levels ? small(node.levels, spec) : h("span");
      picture.setAttribute("aria-hidden", "true");
      picture.classList.add("twig");
      const button = h("button", { type: "button", class: "row", "aria-pressed": String(node.id === chosen), onclick: () => onChoose(node) },
        picture, h("span", { text: node.title }), h("small", { text: node.says }));
      return h("li", {}, button, list(node.id));
    });
    return h("ul", {}, ...items);
  }
  function draw() {
    const focused = document.activeElement instanceof HTMLElement && root.contains(document.activeElement);
    root.replaceChildren(list(null) ?? h("p", { class: "muted small", text: "No branch yet: go to a pixel and press B. Each branch keeps what lies before that pixel and draws the rest anew." }));
    if (focused) /** @type {HTMLElement|null} */ (root.querySelector("[aria-pressed=true]"))?.focus();
  }
  draw();
  return {
    root,
    get chosen() { return chosen; },
    get nodes() { return nodes; },
    /** @param {Omit<Node, "id">} node */
    add(node) {
      count += 1;
      nodes.push({ ...node, id: count });
      draw();
      return count;
    },
    /** @param {number} id @param {Partial<Node>} what */
    change(id, what) {
      nodes = nodes.map((n) => (n.id === id ? { ...n, ...what } : n));
      draw();
    },
    /** @param {number} id */
    choose(id) {
      chosen = id;
      draw();
    },
    clear() {
      nodes = [];
      chosen = 0;
      draw();
    },
  };
}
