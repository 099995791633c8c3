// @ts-check
// Strokes as vectors in whole numbers, 4096ths of the side, and the pixels that each covers: the rule of
// inference/strokes.py, to the last pixel (docs/painting.md).

/** @typedef {{kind: string, points: number[], radius: number, colour?: string, weight: number, hidden: boolean}} Stroke  points: x, y, x, y ... in 4096ths */

export const G = 4096;
export const KINDS = /** @type {const} */ (["colour", "sketch", "warp", "erase", "keep"]);
/** @type {Record<string, number>} */
export const RADII = { colour: 0.06, sketch: 0.02, warp: 0.15, keep: 0.1, erase: 0.1 };

/** The pixels of an S x S image that a stroke covers; of a warp where it is dragged from. @param {Stroke} stroke @param {number} S @returns {Uint8Array} */
export function covers(stroke, S) {
  const R = Math.max(Math.floor(G * stroke.radius + 0.5), Math.ceil((3 * G) / (4 * S)));
  /** @type {number[][]} */
  const at = [];
  for (let i = 0; i + 1 < (stroke.kind === "warp" ? 2 : stroke.points.length); i += 2) at.push([stroke.points[i], stroke.points[i + 1]]);
  const centres = at.slice(0, 1);
  for (let s = 1; s < at.length; s++) {
    const p = at[s - 1], d = [at[s][0] - p[0], at[s][1] - p[1]];
    const n = Math.max(1, Math.ceil(Math.max(Math.abs(d[0]), Math.abs(d[1])) / Math.max(1, Math.floor(R / 4))));
    for (let k = 1; k <= n; k++) centres.push([0, 1].map((a) => p[a] + Math.floor((2 * k * d[a] + n) / (2 * n))));
  }
  const out = new Uint8Array(S * S), most = (2 * S * R) ** 2;
  for (const [x, y] of centres) {
    const reach = Math.ceil((R * S) / G) + 1, column = Math.floor((x * S) / G), row = Math.floor((y * S) / G);
    for (let i = Math.max(0, row - reach); i <= Math.min(S - 1, row + reach); i++)
      for (let j = Math.max(0, column - reach); j <= Math.min(S - 1, column + reach); j++)
        if ((2 * S * x - (2 * j + 1) * G) ** 2 + (2 * S * y - (2 * i + 1) * G) ** 2 <= most) out[S * i + j] = 1;
  }
  return out;
}

/** @type {WeakMap<number[], {of: string, mask: Uint8Array}>} */
const KNOWN = new WeakMap();
/** covers(), kept as long as the stroke stays as it is. @param {Stroke} s @param {number} S */
function mask(s, S) {
  const of = `${S} ${s.kind} ${s.radius} ${s.points.length}`, there = KNOWN.get(s.points);
  if (there?.of === of) return there.mask;
  const made = covers(s, S);
  KNOWN.set(s.points, { of, mask: made });
  return made;
}

/** The strokes over an RGBA image S x S, in place: colours as they are, sketches black, a drag orange at its origin and
 * blue where it goes, what is kept green and what is erased white, each in a pattern of its own.
 * @param {Uint8ClampedArray} rgba @param {number} S @param {Stroke[]} strokes */
export function lay(rgba, S, strokes) {
  for (const s of strokes) {
    if (s.hidden) continue;
    const own = mask(s, S);
    const to = s.kind === "warp" ? covers({ ...s, kind: "keep", points: s.points.slice(2, 4) }, S) : null;
    for (let i = 0; i < S * S; i++) {
      const row = Math.floor(i / S), even = (row + i) % 3 === 0;
      if (s.kind === "colour" && own[i]) put(rgba, i, rgb(s.colour ?? "#ff0000"));
      else if (s.kind === "sketch" && own[i]) put(rgba, i, [20, 20, 20]);
      else if (s.kind === "keep" && own[i] && even) put(rgba, i, [30, 150, 60]);
      else if (s.kind === "erase" && own[i] && even) put(rgba, i, [255, 255, 255]);
      else if (to && own[i] && even) put(rgba, i, [184, 86, 15]);
      else if (to && to[i] && (row + i) % 3 === 1) put(rgba, i, [26, 102, 168]);
    }
  }
}
/** @param {string} hex @returns {number[]} */
export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
/** @param {Uint8ClampedArray} to @param {number} i @param {number[]} colour */
function put(to, i, colour) {
  for (let c = 0; c < 3; c++) to[4 * i + c] = colour[c];
}

/** As they go over the wire. @param {Stroke[]} strokes */
export function packed(strokes) {
  const flat = strokes.flatMap((s) => s.points);
  return {
    strokes: strokes.map(({ points, ...rest }) => ({ ...rest, count: points.length / 2 })),
    points: { data: Int32Array.from(flat), shape: [flat.length / 2, 2] },
  };
}

/** The other way. @param {any[]} listed @param {ArrayLike<number>|undefined} points @returns {Stroke[]} */
export function unpacked(listed, points) {
  let at = 0;
  return listed.map(({ count, ...rest }) => {
    const own = Array.from(points ?? []).slice(2 * at, 2 * (at + count));
    at += count;
    return { weight: 1, hidden: false, ...rest, points: own };
  });
}
