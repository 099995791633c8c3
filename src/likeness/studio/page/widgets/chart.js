/** Lines on a canvas, with a table of the same numbers. Peaks stay: each column shows its lowest and highest value. */
import { h, palette, sharp, styled, token, unique } from "./dom.js";
import { envelope, extent, named, powers, short, smooth, ticks } from "./numbers.js";

/**
 * @typedef {{name: string, x: ArrayLike<number>, y: ArrayLike<number>, colour?: string}} Line  x ascending
 * @typedef {{label: string, height?: number, xName?: string, yName?: string, smoothing?: number, log?: boolean,
 *   controls?: boolean, onPick?: (x: number) => void}} Options
 */

const LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 22;
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 4], [3, 6]];

/** @param {Options} options  smoothing: 0 to 0.99, drawn over the pale raw line */
export function chart(options) {
  styled();
  const stem = unique("chart");
  const canvas = h("canvas", { role: "img", class: "w-chart", tabindex: 0, "aria-label": options.label });
  const legend = h("ul", { class: "w-legend" }), reading = h("p", { class: "w-reading", "aria-live": "polite" });
  const table = h("div", { class: "w-scroll", tabindex: 0, role: "region", "aria-label": `${options.label}, numbers` });
  const details = h("details", { class: "w-table" }, h("summary", { text: "data table" }), table);
  const log = h("input", { type: "checkbox", id: `${stem}-log`, onchange: () => draw() });
  log.checked = options.log ?? false;
  const weight = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: options.smoothing ?? 0, id: `${stem}-smooth`, oninput: () => draw() });
  const controls = h("div", { class: "w-row" }, log, h("label", { for: log.id, text: "logarithmic" }), h("label", { for: weight.id, text: "smoothing" }), weight);
  controls.hidden = options.controls === false;
  const root = h("figure", { class: "w-figure" }, h("figcaption", { text: options.label }), canvas, legend, reading, controls, details);
  /** @type {Line[]} */
  let lines = [];
  /** @type {number | null} */
  let at = null, box = { lo: 0, hi: 1 };

  const colour = (/** @type {number} */ i) => lines[i].colour ?? palette()[i % 8];
  const draw = sharp(canvas, options.height ?? 220, (c, width, height) => {
    const xs = extent(lines.flatMap((l) => (l.x.length ? [l.x[0], l.x[l.x.length - 1]] : [])));
    const [low, high] = extent((function* () { for (const l of lines) yield* Array.from(l.y); })(), log.checked);
    box = { lo: xs[0], hi: xs[1] };
    const wide = width - LEFT - RIGHT, tall = height - TOP - BOTTOM;
    const up = (/** @type {number} */ v) => (log.checked ? Math.log10(Math.max(v, low)) : v);
    const y = (/** @type {number} */ v) => TOP + tall - ((up(v) - up(low)) / (up(high) - up(low))) * tall;
    const x = (/** @type {number} */ v) => LEFT + ((v - xs[0]) / (xs[1] - xs[0])) * wide;
    axes(c, x, y, { low, high, lo: xs[0], hi: xs[1], width, height });
    c.save();
    c.beginPath();
    c.rect(LEFT, TOP, wide, tall);
    c.clip();
    lines.forEach((line, i) => {
      const smoothed = Number(weight.value) > 0;
      c.setLineDash(DASHES[i % DASHES.length]);
      stroke(c, envelope(line.x, line.y, xs[0], xs[1], wide), x, y, colour(i), smoothed ? 0.3 : 1, smoothed ? 1 : 1.6);
      if (smoothed) stroke(c, envelope(line.x, smooth(line.y, Number(weight.value)), xs[0], xs[1], wide), x, y, colour(i), 1, 2);
    });
    c.setLineDash([]);
    if (at !== null) {
      c.strokeStyle = token("--muted", "#5B6068");
      c.lineWidth = 1;
      c.strokeRect(Math.round(x(at)) + 0.5, TOP, 0, tall);
    }
    c.restore();
  });
  /**
   * @param {CanvasRenderingContext2D} c @param {(v: number) => number} x @param {(v: number) => number} y
   * @param {{low: number, high: number, lo: number, hi: number, width: number, height: number}} b
   */
  function axes(c, x, y, b) {
    c.font = "12px system-ui, sans-serif";
    c.fillStyle = token("--muted", "#5B6068");
    c.strokeStyle = token("--hairline", "#DEDAD2");
    c.lineWidth = 1;
    c.textAlign = "right";
    c.textBaseline = "middle";
    const marks = log.checked ? powers(b.low, b.high) : ticks(b.low, b.high, 4), names = named(marks);
    marks.forEach((v, i) => {
      c.strokeRect(LEFT, Math.round(y(v)) + 0.5, b.width - LEFT - RIGHT, 0);
      c.fillText(names[i], LEFT - 6, y(v));
    });
    c.textBaseline = "top";
    for (const v of ticks(b.lo, b.hi, Math.max(2, Math.floor(b.width / 110)))) {
      c.textAlign = x(v) > b.width - 40 ? "right" : "center";
      c.fillText(short(v, 3), Math.min(b.width, x(v)), b.height - BOTTOM + 6);
    }
  }
  /**
   * @param {CanvasRenderingContext2D} c @param {[number, number][]} points @param {(v: number) => number} x @param {(v: number) => number} y
   * @param {string} ink @param {number} alpha @param {number} wide
   */
  function stroke(c, points, x, y, ink, alpha, wide) {
    c.globalAlpha = alpha;
    c.strokeStyle = c.fillStyle = ink;
    c.lineWidth = wide;
    c.beginPath();
    points.forEach(([a, b], i) => (i ? c.lineTo(x(a), y(b)) : c.moveTo(x(a), y(b))));
    if (points.length === 1) c.fillRect(x(points[0][0]) - 2, y(points[0][1]) - 2, 4, 4);
    c.stroke();
    c.globalAlpha = 1;
  }
  /** Index of the value nearest to x. @param {Line} line @param {number} x */
  const near = (line, x) => {
    let best = 0;
    for (let i = 0; i < line.x.length; i++) if (Math.abs(line.x[i] - x) < Math.abs(line.x[best] - x)) best = i;
    return best;
  };
  /** @param {number | null} x */
  function read(x) {
    at = x;
    reading.textContent = x === null ? "" : [`${options.xName ?? "x"} ${short(x)}`, ...lines.filter((l) => l.x.length).map((l) => `${l.name} ${short(l.y[near(l, x)])}`)].join(" · ");
    draw();
  }
  const under = (/** @type {PointerEvent | MouseEvent} */ e) => box.lo + Math.max(0, Math.min(1, (e.offsetX - LEFT) / (canvas.clientWidth - LEFT - RIGHT))) * (box.hi - box.lo);
  canvas.addEventListener("pointermove", (e) => read(under(e)));
  canvas.addEventListener("pointerleave", () => read(null));
  canvas.addEventListener("click", (e) => options.onPick?.(under(e)));
  canvas.addEventListener("keydown", (e) => {
    const line = lines.find((l) => l.x.length), way = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!line || (!way && e.key !== "Enter")) return;
    e.preventDefault();
    e.stopPropagation();
    const i = at === null ? line.x.length - 1 : near(line, at) + (way ?? 0) * (e.shiftKey ? 10 : 1);
    read(line.x[Math.max(0, Math.min(line.x.length - 1, i))]);
    if (e.key === "Enter" && at !== null) options.onPick?.(at);
  });
  details.addEventListener("toggle", fill);
  function fill() {
    if (!details.open) return;
    const rows = lines.flatMap((l) => Array.from(l.x, (x, i) => h("tr", {}, h("th", { scope: "row", text: l.name }), h("td", { text: short(x, 6) }), h("td", { text: short(l.y[i], 6) }))));
    table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...["line", options.xName ?? "x", options.yName ?? "y"].map((t) => h("th", { scope: "col", text: t })))), h("tbody", {}, ...rows.slice(-500))));
  }
  return {
    root, canvas,
    /** @param {Line[]} to */
    set(to) {
      lines = to;
      const last = to.filter((l) => l.y.length).map((l) => `${l.name} ends at ${short(l.y[l.y.length - 1])}`);
      canvas.setAttribute("aria-label", `${options.label}: ${last.join(", ") || "no values yet"}`);
      legend.replaceChildren(...to.map((l, i) => {
        const key = h("span", { class: "w-key", "aria-hidden": "true" });
        key.style.borderTopColor = colour(i);
        key.style.borderTopStyle = i % 3 === 0 ? "solid" : i % 3 === 1 ? "dashed" : "dotted";
        return h("li", {}, key, l.name);
      }));
      fill();
      draw();
    },
  };
}
