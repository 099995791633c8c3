// @ts-check
// An image of levels on a canvas, pixel by pixel, with what is laid over it, a cursor, and marks of fixed pixels.

import { h, token, unique } from "../../widgets/dom.js";

/** @typedef {{row: number, column: number, channel: number}} Place */
/** @typedef {{size: number, channels: number, levels: number}} Spec */
/** @typedef {{levels: Int32Array, values: Float32Array|null, top: number, cursor: Place, place: number, fixed: Set<number>, words: string}} Shown
 *   values: what is laid over, a number a pixel; top: where its scale ends; fixed: numbers of pixels */

const STOPS = [[20, 22, 26], [43, 63, 107], [138, 79, 125], [217, 115, 78], [247, 214, 138]];

/** A colour of the one ramp, share 0 to 1; by the square root, since between certain and a toss-up lies one bit. @param {number} share */
export function heat(share) {
  const at = Math.sqrt(Math.max(0, Math.min(1, share))) * (STOPS.length - 1);
  const i = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[i].map((v, k) => Math.round(v + (STOPS[i + 1][k] - v) * (at - i)));
}

/** Values of a map with channels (C, H, W), summed over channels; NaN is nothing. @param {Float32Array} map @param {Spec} spec */
export function summed(map, { size, channels }) {
  const n = size * size, out = new Float32Array(n);
  for (let c = 0; c < channels; c++) for (let i = 0; i < n; i++) out[i] += Number.isFinite(map[c * n + i]) ? map[c * n + i] : 0;
  return out;
}

/** The next round number. @param {number} v */
export function round(v) {
  if (!(v > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(v));
  return [1, 1.5, 2, 3, 5, 7, 10].map((m) => m * power).find((s) => s >= v * (1 - 1e-9)) ?? v;
}

/** RGBA of an image of levels (C, H, W); what is not drawn is clear. @param {Int32Array} levels @param {Spec} spec */
export function rgba(levels, { size, channels, levels: count }) {
  const n = size * size, out = new Uint8ClampedArray(4 * n), top = Math.max(1, count - 1);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) {
      const k = levels[(channels >= 3 ? c : 0) * n + i];
      out[4 * i + c] = k < 0 ? 0 : Math.round((k * 255) / top);
    }
    out[4 * i + 3] = levels[i] < 0 ? 0 : 255;
  }
  return out;
}

/** A canvas of the image's own size. @param {Int32Array} levels @param {Spec} spec */
export function small(levels, spec) {
  const canvas = h("canvas", { width: spec.size, height: spec.size });
  canvas.getContext("2d")?.putImageData(new ImageData(rgba(levels, spec), spec.size, spec.size), 0, 0);
  return canvas;
}

/**
 * @param {Spec} spec
 * @param {{onCursor: (row: number, column: number, picked: boolean) => void}} how
 */
export function view(spec, how) {
  const id = unique("image");
  const canvas = h("canvas", { role: "img", class: "pixels stage" });
  const root = h("div", { tabindex: 0, role: "group", "data-arrows": "", "aria-label": "Image; arrow keys move the cursor, Shift goes eight pixels, Enter picks a pixel", "aria-describedby": id }, canvas);
  const says = h("p", { id, class: "small", role: "status" });
  /** @type {Shown|null} */ let now = null;
  let scale = 1;

  function draw() {
    const c = canvas.getContext("2d");
    if (!c || !now) return;
    const room = Math.min(560, root.clientWidth || 560);
    scale = Math.max(1, Math.floor(room / spec.size));
    const wide = scale * spec.size, ratio = Math.max(1, Math.round(devicePixelRatio || 1));
    if (canvas.width !== wide * ratio) canvas.width = canvas.height = wide * ratio;
    canvas.style.width = canvas.style.height = `${wide}px`;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.imageSmoothingEnabled = false;
    c.fillStyle = token("--sunken", "#F3F1EC");
    c.fillRect(0, 0, wide, wide);
    c.drawImage(now.values ? painted(now.values, now) : small(now.levels, spec), 0, 0, wide, wide);
    marks(c);
  }
  /** @param {Float32Array} values @param {Shown} shown */
  function painted(values, { top, levels }) {
    const image = new ImageData(spec.size, spec.size);
    for (let i = 0; i < values.length; i++) {
      if (Number.isNaN(values[i]) || levels[i] < 0) continue;
      image.data.set([...heat(values[i] / top), 255], 4 * i);
    }
    const one = h("canvas", { width: spec.size, height: spec.size });
    one.getContext("2d")?.putImageData(image, 0, 0);
    return one;
  }
  /** @param {CanvasRenderingContext2D} c */
  function marks(c) {
    if (!now) return;
    c.fillStyle = token("--generated", "#B8560F");
    for (const i of now.fixed) {  // a corner, so that the colour can still be seen
      const x = (i % spec.size) * scale, y = Math.floor(i / spec.size) * scale, s = Math.max(3, scale * 0.4);
      c.beginPath();
      c.moveTo(x, y);
      c.lineTo(x + s, y);
      c.lineTo(x, y + s);
      c.fill();
    }
    const next = Math.floor(now.place / spec.channels);
    if (next < spec.size ** 2) {
      c.fillStyle = token("--border", "#8C877D");
      c.fillRect((next % spec.size) * scale + scale / 2 - 2, Math.floor(next / spec.size) * scale + scale / 2 - 2, 4, 4);
    }
    const { row, column } = now.cursor;
    for (const [ink, width] of /** @type {[string, number][]} */ ([["#fff", 4], ["#1f2328", 2]])) {
      c.strokeStyle = ink;
      c.lineWidth = width;
      c.strokeRect(column * scale + 1, row * scale + 1, scale - 2, scale - 2);
    }
  }
  /** @param {number} row @param {number} column @param {boolean} picked */
  const go = (row, column, picked) =>
    how.onCursor(Math.max(0, Math.min(spec.size - 1, row)), Math.max(0, Math.min(spec.size - 1, column)), picked);
  canvas.addEventListener("click", (e) => go(Math.floor(e.offsetY / scale), Math.floor(e.offsetX / scale), true));
  root.addEventListener("keydown", (e) => {
    if (!now || e.ctrlKey || e.metaKey || e.altKey) return;
    const by = e.shiftKey ? 8 : 1, { row, column } = now.cursor;
    /** @type {Record<string, [number, number]>} */
    const ways = { ArrowLeft: [0, -by], ArrowRight: [0, by], ArrowUp: [-by, 0], ArrowDown: [by, 0], Home: [0, -column], End: [0, spec.size], Enter: [0, 0] };
    const way = ways[e.key];
    if (!way) return;
    e.preventDefault();
    e.stopPropagation();
    go(row + way[0], column + way[1], e.key === "Enter");
  });
  new ResizeObserver(draw).observe(root);
  return {
    root, says, canvas,
    /** @param {Shown} shown */
    set(shown) {
      now = shown;
      canvas.setAttribute("aria-label", shown.words);
      canvas.dataset.place = String(shown.place);
      draw();
    },
  };
}
