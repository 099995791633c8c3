// @ts-check
// The square that is drawn on: by a pen, or by keys. It shows an image with the strokes laid over it.
import { h } from "../widgets/dom.js";
import { G, lay } from "./strokes.js";

/** @typedef {import("./strokes.js").Stroke} Stroke */

/**
 * @param {{size: number, label: string, begin: () => Stroke, moved: (s: Stroke) => void, done: (s: Stroke) => void, say: (text: string) => void}} how
 *   begin: the stroke that the chosen brush makes; moved: it has become longer; done: the pen is up
 */
export function board(how) {
  const S = how.size, MARGIN = G / 10;
  const canvas = h("canvas", { class: "pixels p-board", width: S, height: S, tabindex: 0, role: "application", "data-arrows": true, "aria-label": how.label });
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  /** @type {Stroke|null} */
  let now = null;
  let at = [G / 2, G / 2], byKeys = false;
  /** @type {HTMLCanvasElement|null} */
  let under = null;
  /** @type {Stroke[]} */
  let strokes = [];

  function draw() {
    c.fillStyle = "#808080";
    c.fillRect(0, 0, S, S);
    if (under) c.drawImage(under, 0, 0, S, S);
    const all = now ? [...strokes, now] : strokes;
    if (all.length) {
      const image = c.getImageData(0, 0, S, S);
      lay(image.data, S, all);
      c.putImageData(image, 0, 0);
    }
    if (byKeys && document.activeElement === canvas) {
      c.fillStyle = now ? "#b8560f" : "#2456a6";
      c.fillRect(Math.floor((at[0] * S) / G), Math.floor((at[1] * S) / G), 1, 1);
    }
  }
  const clamped = (/** @type {number} */ v) => Math.max(0, Math.min(G, Math.round(v)));
  /** @param {PointerEvent} e */
  const place = (e) => [(e.offsetX / canvas.clientWidth) * G, (e.offsetY / canvas.clientHeight) * G];
  /** @param {number[]} p */
  function extend(p) {
    if (!now || p.some((v) => v < -MARGIN || v > G + MARGIN)) return;  // outside of the canvas nothing is drawn
    const q = p.map(clamped), n = now.points.length;
    if (now.kind === "warp") now.points = [...now.points.slice(0, 2), ...q];
    else if (now.points[n - 2] !== q[0] || now.points[n - 1] !== q[1]) now.points.push(...q);
    else return;
    draw();
    how.moved(now);
  }
  /** @param {number[]} p */
  function down(p) {
    now = how.begin();
    now.points = p.map(clamped);
    if (now.kind === "warp") now.points.push(...now.points);
    draw();
    how.moved(now);
  }
  function up() {
    const made = now;
    now = null;
    if (made) how.done(made);
    draw();
  }
  canvas.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    e.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(e.pointerId);
    byKeys = false;
    down(place(e));
  });
  canvas.addEventListener("pointermove", (e) => now && !byKeys && extend(place(e)));
  canvas.addEventListener("pointerup", () => byKeys || up());
  canvas.addEventListener("pointercancel", () => byKeys || up());
  canvas.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (!way && e.key !== "Enter" && e.key !== " ") return;
    e.preventDefault();
    e.stopPropagation();
    byKeys = true;
    if (way) {
      at = [0, 1].map((i) => clamped(at[i] + (way[i] * G * (e.shiftKey ? 8 : 1)) / S));
      if (now) extend(at);
    } else if (now) up();
    else down(at);
    draw();
    how.say(`${now ? "pen down" : "pen up"} at ${at.map((v) => (v / G).toFixed(2)).join(", ")}`);
  });
  for (const event of ["focus", "blur"]) canvas.addEventListener(event, draw);
  return {
    canvas, draw,
    get drawing() { return now; },
    /** @param {HTMLCanvasElement|null} image @param {Stroke[]} over */
    show(image, over) {
      under = image;
      strokes = over;
      draw();
    },
  };
}
