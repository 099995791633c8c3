// @ts-check
// What the tabs of the samples screen share: the run, its facts, what is kept, and pictures of codes.
import { h } from "../widgets/dom.js";
import { painted, raw } from "../widgets/pixels.js";

/** @typedef {import("../app.js").Studio} Studio */
/** @typedef {import("../wire.js").Arr} Arr */
/** @typedef {{keepers: string[], stops: string[], a: string[], b: string[], c: string[], locks: string[]}} State */
/**
 * @typedef {{studio: Studio, run: any, info: any, state: State, seed: number, label: string, live: Record<string, any>,
 *   images: Map<string, HTMLCanvasElement>, ask: (method: string, args: any, how?: any) => Promise<any>,
 *   changed: () => void, fetch: (codes: string[]) => Promise<void>, listeners: Set<() => void>, follow: (fn: () => void) => void}} Context
 */

/** @returns {State} */
export const nothing = () => ({ keepers: [], stops: [], a: [], b: [], c: [], locks: [] });

/** What was kept, as far as it has the right form. @param {any} kept @returns {State} */
export function restored(kept) {
  const state = nothing();
  for (const name of /** @type {(keyof State)[]} */ (Object.keys(state)))
    if (Array.isArray(kept?.[name])) state[name] = kept[name].filter((/** @type {any} */ c) => typeof c === "string").slice(0, 64);
  return state;
}

/** The number of a sample and its seed, from 3:17. @param {string} code */
export function spoken(code) {
  const known = /^(\d+):(\d+)$/.exec(code);
  return known ? `sample ${known[2]}, seed ${known[1]}` : code.startsWith("own/") ? "own image" : `sample ${code}`;
}

/** Canvases of an array of images on the wire. @param {Arr} arr */
export const canvases = (arr) => painted(raw(/** @type {Uint8Array} */ (arr.data), arr.shape));

/** A large picture with its words. @param {HTMLCanvasElement} image @param {string} label @param {number} side @param {string} [kind] real, generated */
export function shown(image, label, side, kind = "generated") {
  const canvas = h("canvas", { role: "img", "aria-label": label, class: "pixels", width: image.width, height: image.height });
  canvas.getContext("2d")?.drawImage(image, 0, 0);
  canvas.style.width = `${side}px`;
  return h("figure", { class: "s-picture" }, canvas, h("figcaption", { class: `caption ${kind}`, text: label }));
}

/** A button. @param {string} text @param {() => void} run @param {string} [key] that does the same */
export const button = (text, run, key) => h("button", { type: "button", onclick: run, title: key ? `key ${key}` : null }, text);

/** A number field with its name. @param {string} label @param {number} value @param {{min?: number, max?: number, step?: number | string}} range @param {(v: number) => void} onChange */
export function field(label, value, range, onChange) {
  const input = h("input", { type: "number", value, ...range, step: range.step ?? 1, class: "s-number" });
  input.addEventListener("change", () => {
    const v = Number(input.value);
    if (input.value !== "" && input.checkValidity() && Number.isFinite(v)) onChange(v);
  });
  return { root: h("label", { class: "row s-field" }, label, input), input };
}

/** A choice with its name. @param {string} label @param {[string, string][]} among value and text @param {string} chosen @param {(v: string) => void} onChange */
export function select(label, among, chosen, onChange) {
  const input = h("select", { onchange: () => onChange(input.value) }, ...among.map(([value, text]) => h("option", { value, text })));
  input.value = chosen;
  return { root: h("label", { class: "row s-field" }, label, input), input };
}

/** A box to tick. @param {string} label @param {boolean} on @param {(v: boolean) => void} onChange */
export function tick(label, on, onChange) {
  const input = h("input", { type: "checkbox", onchange: () => onChange(input.checked) });
  input.checked = on;
  return { root: h("label", { class: "row s-field" }, input, label), input };
}

/** @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement | undefined} image where there is one by now */
export function pictured(canvas, image) {
  if (!image) return;
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d")?.drawImage(image, 0, 0);
}

/**
 * Small pictures of codes as buttons that can be dragged.
 * @param {Context} ctx @param {string[]} codes @param {string} verb what a click does @param {(code: string) => void} onPick
 */
export function strip(ctx, codes, verb, onPick) {
  return h("div", { class: "s-strip" }, ...codes.map((code) => {
    const canvas = h("canvas", { class: "pixels", "aria-hidden": "true" });
    pictured(canvas, ctx.images.get(code));
    const node = h("button", { type: "button", class: "s-tile", draggable: "true", "data-code": code, "aria-label": `${verb} ${spoken(code)}`, title: `${verb} ${spoken(code)}`, onclick: () => onPick(code) }, canvas);
    node.addEventListener("dragstart", (e) => e.dataTransfer?.setData("text/x-likeness-code", code));
    return node;
  }));
}

/** Where codes and image files may be dropped. @param {HTMLElement} node @param {(code: string) => void} onCode @param {(file: File) => void} onFile */
export function dropped(node, onCode, onFile) {
  node.addEventListener("dragover", (e) => {
    e.preventDefault();
    node.classList.add("s-over");
  });
  node.addEventListener("dragleave", () => node.classList.remove("s-over"));
  node.addEventListener("drop", (e) => {
    node.classList.remove("s-over");
    const code = e.dataTransfer?.getData("text/x-likeness-code"), file = e.dataTransfer?.files[0];
    if (!code && !file) return;
    e.preventDefault();
    e.stopPropagation();
    document.body.classList.remove("dropping");
    if (code) onCode(code);
    else if (file) onFile(file);
  });
}
