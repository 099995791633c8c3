// @ts-check
// One square of the playground on a canvas: real points blue circles, generated ones orange diamonds, and what D says.

import { h, token } from "../../widgets/dom.js";
import { short } from "../../widgets/numbers.js";

/** @typedef {import("../../wire.js").Arrays} Arrays */
/** @typedef {Record<string, any>} Meters */
/** @typedef {Record<string, string>} Inks */

const ARROWS = 160, LONGEST = 0.28, PULL = 0.12;
const PHASE = 2;

/** @returns {Inks} */
export const inks = () => ({
  real: token("--real", "#1A66A8"), generated: token("--generated", "#B8560F"), ink: token("--ink", "#1F2328"),
  muted: token("--muted", "#5B6068"), hairline: token("--hairline", "#DEDAD2"), surface: token("--surface", "#FFF"),
});

/** Red, green and blue of #rrggbb. @param {string} colour @returns {number[]} */
export const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/** Pieces of the line where values on a square lattice cross a level: marching squares. Places in cells, from the
 * middle of the first. @param {ArrayLike<number>} values @param {number} n @param {number} level @returns {number[][]} */
export function contour(values, n, level) {
  /** @type {number[][]} */
  const out = [];
  const part = (/** @type {number} */ a, /** @type {number} */ b) => (a === b ? 0.5 : (level - a) / (b - a));
  for (let r = 0; r + 1 < n; r++) for (let c = 0; c + 1 < n; c++) {
    const [a, b, d, e] = [values[r * n + c], values[r * n + c + 1], values[(r + 1) * n + c + 1], values[(r + 1) * n + c]];
    /** @type {number[][]} */
    const cut = [];
    if (a > level !== b > level) cut.push([c + part(a, b), r]);
    if (b > level !== d > level) cut.push([c + 1, r + part(b, d)]);
    if (e > level !== d > level) cut.push([c + part(e, d), r + 1]);
    if (a > level !== e > level) cut.push([c, r + part(a, e)]);
    for (let i = 0; i + 1 < cut.length; i += 2) out.push([...cut[i], ...cut[i + 1]]);
  }
  return out;
}

/** Share of the square where D is certain: below 0.05 or above 0.95. @param {ArrayLike<number>} heat sigmoid D */
export function certain(heat) {
  let n = 0;
  for (let i = 0; i < heat.length; i++) n += heat[i] < 0.05 || heat[i] > 0.95 ? 1 : 0;
  return heat.length ? n / heat.length : 0;
}

/** What the square shows, in words. @param {string} name @param {Meters} m @param {Arrays} arrays @param {string} pane */
export function summary(name, m, arrays, pane) {
  const parts = [`${name}, step ${short(m.step)}`];
  if (m.diverged) parts.push(m.diverged);
  if (m.theta !== undefined) {
    parts.push(`theta ${m.theta.toFixed(2)}, psi ${m.psi.toFixed(2)}, ${m.radius.toFixed(2)} from the equilibrium`);
    if (m.off !== null) parts.push(`${m.off.toFixed(3)} off the closed form`);
  }
  if (m.modes !== undefined) parts.push(`${m.modes} of ${m.of} modes hit, ${percent(m.on_modes)} of the points on one`);
  if (m.w2 !== undefined && m.w2 !== null) parts.push(`sliced W2 ${m.w2.toFixed(3)}`);
  const heat = arrays[`${pane}.heat`];
  if (heat) parts.push(`D is certain on ${percent(certain(heat.data))} of the square`);
  if (arrays[`${pane}.push`]) parts.push(`the median pull on a generated point is ${short(pullOf(m), 2)}`);
  return `${parts.join("; ")}.`;
}

/** @param {number} x */
export const percent = (x) => `${Math.round(100 * x)} %`;
/** The pull by the game that is played, if it is one of the two that are compared. @param {Meters} m */
const pullOf = (m) => (Object.keys(m.pulls || {}).length ? m.pulls[m.game] ?? Object.values(m.pulls)[0] : 0);

/** @param {string} name */
export function plot(name) {
  const canvas = h("canvas", { role: "img", class: "pg-plot", "aria-label": `${name}: nothing yet` });
  const small = document.createElement("canvas");
  small.width = small.height = 48;
  const bytes = new ImageData(48, 48);
  let colours = inks();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (colours = inks()));

  /** @param {Arrays} arrays @param {string} pane @param {number} reach @param {Set<string>} hidden layers that are not drawn */
  function draw(arrays, pane, reach, hidden) {
    const side = canvas.clientWidth, ratio = devicePixelRatio || 1, size = Math.round(side * ratio);
    if (!size) return;
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = colours.surface;
    c.fillRect(0, 0, side, side);
    const get = (/** @type {string} */ what) => arrays[`${pane}.${what}`];
    const phase = get("trail"), far = phase ? PHASE : reach;
    const at = (/** @type {number} */ x, /** @type {number} */ y) => [(x / far + 1) * side / 2, (1 - y / far) * side / 2];
    if (get("heat") && !hidden.has("heat")) heat(c, get("heat").data, side);
    if (get("density") && !hidden.has("heat")) density(c, get("density").data, side);
    axes(c, side, at, Boolean(phase));
    if (phase) return orbit(c, at, get("orbit").data, phase.data);
    if (get("warp") && !hidden.has("warp")) warp(c, at, get("warp"));
    if (get("lines") && !hidden.has("lines")) segments(c, at, get("lines").data, colours.muted, 0.5);
    if (!hidden.has("real")) circles(c, at, get("real").data);
    if (get("field") && !hidden.has("arrows")) segments(c, at, get("field").data, colours.ink, 0.35, true);
    if (get("push") && !hidden.has("arrows")) push(c, at, get("fake").data, get("push").data);
    if (!hidden.has("fake")) diamonds(c, at, get("fake").data, 2.6);
  }

  /** @param {CanvasRenderingContext2D} c @param {ArrayLike<number>} values @param {number} side */
  function heat(c, values, side) {
    const real = rgb(colours.real), fake = rgb(colours.generated);
    for (let i = 0; i < values.length; i++) {
      const away = 2 * values[i] - 1, ink = away > 0 ? real : fake;
      bytes.data.set([ink[0], ink[1], ink[2], Math.round(Math.abs(away) * 92)], 4 * i);
    }
    paint(c, side);
    c.strokeStyle = colours.ink;
    c.globalAlpha = 0.55;
    c.lineWidth = 1;
    c.beginPath();
    for (const [x1, y1, x2, y2] of contour(values, 48, 0.5)) {
      c.moveTo(((x1 + 0.5) * side) / 48, ((y1 + 0.5) * side) / 48);
      c.lineTo(((x2 + 0.5) * side) / 48, ((y2 + 0.5) * side) / 48);
    }
    c.stroke();
    c.globalAlpha = 1;
  }
  /** @param {CanvasRenderingContext2D} c @param {ArrayLike<number>} values @param {number} side */
  function density(c, values, side) {
    const ink = rgb(colours.generated);
    for (let i = 0; i < values.length; i++) bytes.data.set([ink[0], ink[1], ink[2], values[i] * 0.6], 4 * i);
    paint(c, side);
  }
  /** @param {CanvasRenderingContext2D} c @param {number} side */
  function paint(c, side) {
    /** @type {CanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(bytes, 0, 0);
    c.imageSmoothingEnabled = true;
    c.drawImage(small, 0, 0, side, side);
  }
  /** @param {CanvasRenderingContext2D} c @param {number} side @param {(x: number, y: number) => number[]} at @param {boolean} phase */
  function axes(c, side, at, phase) {
    c.strokeStyle = colours.muted;
    c.globalAlpha = 0.3;
    c.lineWidth = 1;
    const [x, y] = at(0, 0).map((v) => Math.round(v) + 0.5);
    c.beginPath();
    c.moveTo(0, y), c.lineTo(side, y), c.moveTo(x, 0), c.lineTo(x, side);
    c.stroke();
    c.globalAlpha = 1;
    c.fillStyle = colours.muted;
    c.font = "12px system-ui, sans-serif";
    if (!phase) {
      for (const v of [-1, 1]) c.fillText(String(v).replace("-", "−"), at(v, 0)[0] + 3, y - 4), c.fillText(String(v).replace("-", "−"), x + 4, at(0, v)[1] - 3);
      return;
    }
    c.textAlign = "right";
    c.fillText("θ, what G draws", side - 8, y - 6);
    c.textAlign = "left";
    c.fillText("ψ, slope of D", x + 6, 16);
  }
  /** @param {CanvasRenderingContext2D} c @param {(x: number, y: number) => number[]} at @param {ArrayLike<number>} closed @param {ArrayLike<number>} trail */
  function orbit(c, at, closed, trail) {
    const line = (/** @type {ArrayLike<number>} */ p) => {
      c.beginPath();
      for (let i = 0; i + 1 < p.length; i += 2) c.lineTo(.../** @type {[number, number]} */ (at(p[i], p[i + 1])));
      c.stroke();
    };
    c.strokeStyle = colours.muted;
    c.lineWidth = 1;
    line(closed);
    c.strokeStyle = colours.generated;
    c.lineWidth = 2;
    line(trail);
    c.fillStyle = colours.real;
    c.beginPath();
    c.arc(at(0, 0)[0], at(0, 0)[1], 5, 0, 2 * Math.PI);
    c.fill();
    diamonds(c, at, Array.from(trail).slice(-2), 7);
  }
  /** @param {CanvasRenderingContext2D} c @param {(x: number, y: number) => number[]} at @param {import("../../wire.js").Arr} mesh */
  function warp(c, at, mesh) {
    const n = mesh.shape[0], p = mesh.data;
    c.strokeStyle = colours.generated;
    c.globalAlpha = 0.45;
    c.lineWidth = 1;
    c.beginPath();
    for (let i = 0; i < n; i++) for (const [a, b] of [[n, 1], [1, n]]) {
      for (let j = 0; j < n; j++) {
        const k = 2 * (a * i + b * j), [x, y] = at(p[k], p[k + 1]);
        if (j) c.lineTo(x, y);
        else c.moveTo(x, y);
      }
    }
    c.stroke();
    c.globalAlpha = 1;
  }
  /** Pairs of places. @param {CanvasRenderingContext2D} c @param {(x: number, y: number) => number[]} at
   * @param {ArrayLike<number>} p @param {string} ink @param {number} alpha @param {boolean} [heads] */
  function segments(c, at, p, ink, alpha, heads = false) {
    c.strokeStyle = ink;
    c.globalAlpha = alpha;
    c.lineWidth = 1;
    c.beginPath();
    for (let i = 0; i + 3 < p.length; i += 4) {
      const part = heads ? 0.35 : 1;
      arrow(c, at(p[i], p[i + 1]), at(p[i] + part * (p[i + 2] - p[i]), p[i + 1] + part * (p[i + 3] - p[i + 1])), heads);
    }
    c.stroke();
    c.globalAlpha = 1;
  }
  /** Arrows −dL/dx: as long as the pull is strong, up to a longest. @param {CanvasRenderingContext2D} c
   * @param {(x: number, y: number) => number[]} at @param {ArrayLike<number>} x @param {ArrayLike<number>} v */
  function push(c, at, x, v) {
    c.strokeStyle = colours.ink;
    c.globalAlpha = 0.6;
    c.lineWidth = 1;
    c.beginPath();
    for (let i = 0; i < Math.min(ARROWS, x.length / 2); i++) {
      const [dx, dy] = [v[2 * i], v[2 * i + 1]], length = Math.hypot(dx, dy) || 1;
      const by = Math.min(LONGEST, PULL * length) / length;
      arrow(c, at(x[2 * i], x[2 * i + 1]), at(x[2 * i] + by * dx, x[2 * i + 1] + by * dy), by * length > 0.03);
    }
    c.stroke();
    c.globalAlpha = 1;
  }
  /** @param {CanvasRenderingContext2D} c @param {number[]} from @param {number[]} to @param {boolean} head */
  function arrow(c, from, to, head) {
    c.moveTo(from[0], from[1]);
    c.lineTo(to[0], to[1]);
    if (!head) return;
    const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
    for (const turn of [2.6, -2.6]) c.moveTo(to[0], to[1]), c.lineTo(to[0] + 4 * Math.cos(angle + turn), to[1] + 4 * Math.sin(angle + turn));
  }
  /** @param {CanvasRenderingContext2D} c @param {(x: number, y: number) => number[]} at @param {ArrayLike<number>} p */
  function circles(c, at, p) {
    c.fillStyle = colours.real;
    c.globalAlpha = 0.55;
    c.beginPath();
    for (let i = 0; i + 1 < p.length; i += 2) {
      const [x, y] = at(p[i], p[i + 1]);
      c.moveTo(x + 2, y);
      c.arc(x, y, 2, 0, 2 * Math.PI);
    }
    c.fill();
    c.globalAlpha = 1;
  }
  /** @param {CanvasRenderingContext2D} c @param {(x: number, y: number) => number[]} at @param {ArrayLike<number>} p @param {number} r */
  function diamonds(c, at, p, r) {
    c.fillStyle = colours.generated;
    c.globalAlpha = 0.85;
    c.beginPath();
    for (let i = 0; i + 1 < p.length; i += 2) {
      const [x, y] = at(p[i], p[i + 1]);
      c.moveTo(x, y - r), c.lineTo(x + r, y), c.lineTo(x, y + r), c.lineTo(x - r, y), c.closePath();
    }
    c.fill();
    c.globalAlpha = 1;
  }
  return { canvas, draw };
}
