// @ts-check
// The plot: a canvas of points that a Worker draws, and above it what moves with the pointer.
import { h } from "../widgets/dom.js";
import { Grid, fitted, lassoed, pixel, seen, toward } from "./raster.js";

/** @typedef {import("./raster.js").View} View */
/** @typedef {import("./raster.js").Points} Points */

const FEW = 300, CELL = 40;
const ARROWS = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] });

/**
 * @param {{onHover: (i: number) => void, onFocus: (i: number) => void, onMask: (mask: Uint8Array, how: string) => void, onView: (view: View) => void,
 *   onDrawn: (what: {mode: string, visible: number, ms: number}) => void, onSeen: (rows: number[]) => void}} on
 */
export function plot(on) {
  const canvas = h("canvas", { class: "m-points", role: "img", "aria-label": "map" });
  const over = h("canvas", { class: "m-over", "aria-hidden": "true" });
  const root = h("div", { class: "m-plot", tabindex: 0, role: "group", "aria-label": "Map: arrows move from point to point, plus and minus zoom" }, canvas, over);
  const worker = new Worker(new URL("./painter.js", import.meta.url), { type: "module" });
  const off = canvas.transferControlToOffscreen();
  worker.postMessage({ canvas: off }, [off]);
  /** @type {Points} */ let points = { x: new Float32Array(0), y: new Float32Array(0), label: new Uint8Array(0) };
  /** @type {Grid | null} */ let grid = null;
  /** @type {View} */ let view = { scale: 1, ox: 0, oy: 0 };
  /** @type {Map<number, HTMLCanvasElement>} */ const images = new Map();
  let tool = "pan", focus = -1, hover = -1, number = 0, busy = false, waiting = false, settled = 0, pictured = false;
  /** @type {number[]} */ let shown = [];
  /** @type {number[]} */ let marks = [];
  /** @type {[number, number][]} */ let line = [];
  const ratio = () => devicePixelRatio || 1;
  const wide = () => Math.max(1, Math.round(root.clientWidth * ratio())), high = () => Math.max(1, Math.round(root.clientHeight * ratio()));
  const stats = { drawn: 0, ms: 0 };

  worker.onmessage = ({ data }) => {
    stats.drawn += 1;
    stats.ms = data.ms;
    busy = false;
    on.onDrawn(data);
    root.dataset.drawn = String(data.number);
    root.dataset.mode = data.mode;
    root.dataset.ms = data.ms.toFixed(1);
    if (waiting) paint();
    else settle(data.visible);
  };
  /** Newest view only: what comes while one is drawn waits for it. */
  function paint() {
    overlay();
    if (busy) return void (waiting = true);
    waiting = false;
    busy = true;
    clearTimeout(settled);
    worker.postMessage({ view, width: wide(), height: high(), number: ++number });
  }
  /** @param {number} visible */
  function settle(visible) {
    clearTimeout(settled);
    if (visible > FEW || !pictured) return void (shown.length && ((shown = []), overlay()));
    settled = setTimeout(() => {
      const cells = new Map();
      for (const i of seen(points, view, wide(), high(), FEW)) {
        const cell = ratio() * CELL, key = `${Math.floor((points.x[i] * view.scale + view.ox) / cell)},${Math.floor((view.oy - points.y[i] * view.scale) / cell)}`;
        if (!cells.has(key)) cells.set(key, i);
      }
      shown = [...cells.values()];
      on.onSeen(shown.filter((i) => !images.has(i)));
      overlay();
    }, 120);
  }
  /** @param {number} i */
  const at = (i) => /** @type {[number, number]} */ ([points.x[i] * view.scale + view.ox, view.oy - points.y[i] * view.scale]);
  function overlay() {
    const [w, t] = [wide(), high()];
    if (over.width !== w) over.width = w;
    if (over.height !== t) over.height = t;
    const pen = /** @type {CanvasRenderingContext2D} */ (over.getContext("2d")), r = ratio();
    pen.clearRect(0, 0, w, t);
    pen.imageSmoothingEnabled = false;
    for (const i of shown) {
      const image = images.get(i), [x, y] = at(i);
      if (image) pen.drawImage(image, x - 18 * r, y - 18 * r, 36 * r, 36 * r);
    }
    pen.lineWidth = 2 * r;
    const ink = getComputedStyle(root).color;
    const ring = (/** @type {number} */ i, /** @type {number} */ size) => {
      const [x, y] = at(i);
      for (const [colour, more] of /** @type {[string, number][]} */ ([["#fff", 2], [ink, 0]])) {
        pen.strokeStyle = colour;
        pen.beginPath();
        pen.arc(x, y, (size + more) * r, 0, 7);
        pen.stroke();
      }
    };
    for (const i of marks) ring(i, 4);
    if (hover >= 0) ring(hover, 5);
    if (focus >= 0) ring(focus, 9);
    if (line.length > 1) {
      pen.strokeStyle = ink;
      pen.setLineDash([6 * r, 4 * r]);
      pen.beginPath();
      line.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.stroke();
      pen.setLineDash([]);
    }
  }
  /** @param {number} factor @param {number} x @param {number} y */
  function zoom(factor, x = -1, y = -1) {
    if (x < 0) [x, y] = focus >= 0 ? at(focus) : [wide() / 2, high() / 2];  // by keys: what is in focus stays where it is
    look({ scale: view.scale * factor, ox: x - (x - view.ox) * factor, oy: y - (y - view.oy) * factor });
  }
  /** @param {View} to */
  function look(to) {
    if (!(to.scale > 0 && Number.isFinite(to.scale + to.ox + to.oy))) return;
    view = to;
    paint();
    on.onView(view);
  }
  const place = (/** @type {PointerEvent | WheelEvent} */ e) => {
    const box = root.getBoundingClientRect();
    return /** @type {[number, number]} */ ([(e.clientX - box.left) * ratio(), (e.clientY - box.top) * ratio()]);
  };
  /** @type {Map<number, [number, number]>} */ const fingers = new Map();
  let moved = 0;
  root.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    root.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, place(e));
    moved = 0;
    if (tool !== "pan") line = [place(e)];
  });
  root.addEventListener("pointermove", (e) => {
    const now = place(e), before = fingers.get(e.pointerId);
    if (!before) return void point(now);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (fingers.size === 2) {
      const other = /** @type {[number, number]} */ ([...fingers].find(([id]) => id !== e.pointerId)?.[1]);
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
      if (was > 0) zoom(Math.hypot(now[0] - other[0], now[1] - other[1]) / was, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (tool === "pan") look({ ...view, ox: view.ox + now[0] - before[0], oy: view.oy + now[1] - before[1] });
    else if (tool === "box") (line = [line[0], [now[0], line[0][1]], now, [line[0][0], now[1]]]), overlay();
    else line.push(now), overlay();
    fingers.set(e.pointerId, now);
  });
  root.addEventListener("pointerup", (e) => {
    if (!fingers.delete(e.pointerId)) return;
    const closed = line;
    line = [];
    if (tool !== "pan" && closed.length > 2 && moved > 6) select(closed.map(([x, y]) => [(x - view.ox) / view.scale, (view.oy - y) / view.scale]), e.shiftKey ? "add" : e.altKey ? "subtract" : "");
    else if (moved < 6) {
      point(place(e));
      if (hover >= 0) go(hover);
    }
    overlay();
  });
  root.addEventListener("pointercancel", (e) => (fingers.delete(e.pointerId), (line = []), overlay()));
  root.addEventListener("pointerleave", () => hover >= 0 && ((hover = -1), overlay()));
  root.addEventListener("wheel", (e) => {
    e.preventDefault();
    zoom(Math.exp(-Math.max(-200, Math.min(200, e.deltaY)) * 0.002), ...place(e));
  }, { passive: false });
  /** @param {[number, number]} now */
  function point([x, y]) {
    if (!points.x.length) return;
    grid = grid ?? new Grid(points);
    const i = grid.nearest((x - view.ox) / view.scale, (view.oy - y) / view.scale, (10 * ratio()) / view.scale);
    if (i === hover) return;
    hover = i;
    overlay();
    on.onHover(i);
  }
  /** @param {[number, number][]} closed in coordinates of the map @param {string} how */
  function select(closed, how) {
    on.onMask(lassoed(points, closed), how);
  }
  /** @param {number} i */
  function go(i) {
    if (!(i >= 0 && i < points.x.length)) return;
    focus = i;
    const [x, y] = at(i), [w, t] = [wide(), high()];
    if (x < 0 || y < 0 || x >= w || y >= t) look({ ...view, ox: view.ox + w / 2 - x, oy: view.oy + t / 2 - y });
    else overlay();
    on.onFocus(i);
  }
  const watcher = new ResizeObserver(() => points.x.length && paint());
  watcher.observe(root);

  return {
    root, canvas, stats, images, go, look, zoom, select, overlay,
    get view() { return view; }, get focus() { return focus; }, get points() { return points; }, get tool() { return tool; },
    /** @param {string} to */
    use(to) { tool = to; root.dataset.tool = to; },
    /** @param {Points} p @param {{palette: string[], none: string, images: boolean}} how @param {boolean} [keep] the view and the focus */
    set(p, how, keep = false) {
      const same = keep && points.x.length === p.x.length;
      points = p;
      grid = null;
      pictured = how.images;
      if (!same) [focus, hover, shown, marks] = [-1, -1, [], []], images.clear();
      worker.postMessage({ points: p });
      this.colours(how.palette, how.none);
      if (!same) this.fit();
      else paint();
    },
    /** @param {Uint8Array | Uint16Array} label @param {string[]} palette @param {string} none */
    group(label, palette, none) {
      points = { ...points, label };
      worker.postMessage({ points });
      this.colours(palette, none);
      paint();
    },
    /** @param {string[]} palette @param {string} none */
    colours(palette, none) {
      const probe = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim() || "#ffffff";
      const paper = probe.length === 4 ? "#" + [...probe.slice(1)].map((c) => c + c).join("") : probe, ground = [1, 3, 5].map((i) => parseInt(paper.slice(i, i + 2), 16));
      const all = [...palette, none], few = points.x.length < 3000;
      worker.postMessage({ look: {
        paper: pixel(paper), palette: Uint32Array.from(all, (c) => pixel(c)), pale: Uint32Array.from(all, (c) => pixel(c, 0.22, ground)),
        size: Math.max(1, Math.round((few ? 5 : points.x.length < 30_000 ? 3 : points.x.length < 300_000 ? 2 : 1) * ratio())), mode: "auto", mask: null,
      } });
    },
    /** @param {Uint8Array | null} mask @param {string} [mode] */
    show(mask, mode) {
      worker.postMessage({ look: mode ? { mask, mode } : { mask } });
      paint();
    },
    /** What lies in the middle. @returns {[number, number]} */
    middle: () => [(wide() / 2 - view.ox) / view.scale, (view.oy - high() / 2) / view.scale],
    /** @param {number} x @param {number} y @param {number} scale */
    centre(x, y, scale) { look({ scale, ox: wide() / 2 - x * scale, oy: high() / 2 + y * scale }); },
    fit() { look(fitted(points, wide(), high())); },
    /** @param {string} arrow */
    step(arrow) {
      if (!points.x.length) return;
      if (focus < 0) {
        grid = grid ?? new Grid(points);
        go(Math.max(0, grid.nearest((wide() / 2 - view.ox) / view.scale, (view.oy - high() / 2) / view.scale, 1e9)));
      } else go(toward(points, focus, ...ARROWS[arrow]));
    },
    /** @param {number[]} rows */
    mark(rows) { marks = rows; overlay(); },
    end() { worker.terminate(); watcher.disconnect(); clearTimeout(settled); },
  };
}
