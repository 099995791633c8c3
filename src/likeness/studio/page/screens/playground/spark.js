// @ts-check
// A small line of one meter over the frames that can be gone back to: pane A solid, pane B dashed.

import { h, token } from "../../widgets/dom.js";
import { short } from "../../widgets/numbers.js";

const HEIGHT = 44, KEPT = 600;

/** @typedef {{name: string, colour: string, dashed?: boolean, of: (m: any, b: any) => (number|null|undefined)}} Line */

/** @param {{title: string, unit?: string, log?: boolean, low?: number, high?: number, lines: Line[]}} about */
export function spark(about) {
  const canvas = h("canvas", { role: "img", class: "pg-spark", "aria-label": about.title });
  const now = h("output", { class: "w-number" });
  const root = h("figure", { class: "pg-meter" }, h("figcaption", {}, h("span", { text: about.title }), now), canvas);
  /** @type {Map<number, (number|null)[]>} */
  const past = new Map();

  /** @param {number} frame @param {any} a @param {any} b */
  function add(frame, a, b) {
    past.set(frame, about.lines.map((line) => {
      const v = line.of(a, b);
      return typeof v === "number" && Number.isFinite(v) ? v : null;
    }));
    if (past.size > KEPT) past.delete(/** @type {number} */ (past.keys().next().value));
  }
  /** @param {number} frame that is shown @param {number} first @param {number} last */
  function draw(frame, first, last) {
    const width = canvas.clientWidth, ratio = devicePixelRatio || 1;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) (canvas.width = Math.round(width * ratio)), (canvas.height = HEIGHT * ratio);
    const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, HEIGHT);
    const up = (/** @type {number} */ v) => (about.log ? Math.log10(Math.max(v, 1e-8)) : v);
    let low = about.low ?? Infinity, high = about.high ?? -Infinity;
    for (const [f, values] of past) if (f >= first && f <= last) for (const v of values) if (v !== null) (low = Math.min(low, up(v))), (high = Math.max(high, up(v)));
    if (!(high > low)) high = low + 1;
    const span = Math.max(60, last - first);
    const x = (/** @type {number} */ f) => ((f - first) / span) * (width - 4) + 2;
    const y = (/** @type {number} */ v) => HEIGHT - 3 - ((up(v) - low) / (high - low)) * (HEIGHT - 6);
    about.lines.forEach((line, i) => {
      c.strokeStyle = token(line.colour, "#5B6068");
      c.lineWidth = 1.4;
      c.setLineDash(line.dashed ? [4, 3] : []);
      c.beginPath();
      let open = false;
      for (const [f, values] of past) {
        const v = values[i];
        if (f < first || f > last || v === null) continue;
        if (open) c.lineTo(x(f), y(v));
        else c.moveTo(x(f), y(v));
        open = true;
      }
      c.stroke();
    });
    c.setLineDash([]);
    c.fillStyle = token("--muted", "#5B6068");
    c.fillRect(x(frame), 0, 1, HEIGHT);
    const here = past.get(frame) || [];
    const text = about.lines.map((line, i) => (here[i] === null || here[i] === undefined ? "" : `${line.name ? `${line.name} ` : ""}${short(/** @type {number} */ (here[i]), 3)}`)).filter(Boolean).join(" · ");
    now.textContent = text ? `${text}${about.unit ? ` ${about.unit}` : ""}` : "–";
    canvas.setAttribute("aria-label", `${about.title}: ${now.textContent}`);
  }
  return { root, add, draw, forget: () => past.clear() };
}
