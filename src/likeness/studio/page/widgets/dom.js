/** Elements in one line, and what several widgets share. No markup is ever parsed from a text. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | EventListener | ((e: any) => void) | null | undefined>} Attrs */

/**
 * An element with attributes (`on...` functions are listeners, `text` its text) and children.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Attrs} [attrs] @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attrs = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "text") node.textContent = String(value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, ...children);
  return node;
}

/** @param {Element} node @param {...Child} children */
export function add(node, ...children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

let count = 0;
/** An id that nothing else on the page has. @param {string} [stem] */
export const unique = (stem = "w") => `${stem}-${++count}`;

/** The value of a CSS variable of the page. @param {string} name @param {string} usual */
export function token(name, usual) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || usual;
}

/** Colours of charts: real blue, generated orange, then Okabe and Ito's. @returns {string[]} */
export function palette() {
  return [token("--real", "#1A66A8"), token("--generated", "#B8560F"),
    "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#5B6068"];
}

/** Whether the reader has asked for less movement. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * A canvas as wide as its box and sharp on any screen: calls `draw` after every change of size.
 * @param {HTMLCanvasElement} canvas @param {number} height in CSS pixels
 * @param {(c: CanvasRenderingContext2D, width: number, height: number) => void} draw
 * @returns {() => void} draw anew
 */
export function sharp(canvas, height, draw) {
  const paint = () => {
    const width = canvas.clientWidth, high = canvas.clientHeight || height, ratio = devicePixelRatio || 1;
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(high * ratio);
    const c = canvas.getContext("2d");
    if (!c) return;
    c.scale(ratio, ratio);
    c.clearRect(0, 0, width, height);
    draw(c, width, high);
  };
  canvas.style.height = `${height}px`;
  new ResizeObserver(paint).observe(canvas);
  return paint;
}

/** The style sheet of the widgets, once. */
export function styled() {
  const href = new URL("./widgets.css", import.meta.url).href;
  for (const sheet of document.querySelectorAll("link[rel=stylesheet]"))
    if (/** @type {HTMLLinkElement} */ (sheet).href === href) return;
  document.head.append(h("link", { rel: "stylesheet", href }));
}
