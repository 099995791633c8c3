// @ts-check
// Points to pixels, and questions about points in the plane: plain typed arrays, the same in a Worker and without one.
// A view says where a point lies: right = x * scale + ox, down = oy - y * scale, in pixels of the canvas.

/** @typedef {{scale: number, ox: number, oy: number}} View */
/** @typedef {{x: Float32Array, y: Float32Array, label: Uint8Array | Uint16Array}} Points */
/** @typedef {{mode: string, size: number, palette: Uint32Array, pale: Uint32Array, paper: number, mask: Uint8Array | null}} Look */

/** points a pixel from which on they are a crowd */
export const CROWD = 0.25;

/** As a pixel of a canvas. @param {string} hex @param {number} [alpha] over white or another ground @param {number[]} [ground] */
export function pixel(hex, alpha = 1, ground = [255, 255, 255]) {
  const [r, g, b] = [1, 3, 5].map((i, k) => Math.round(alpha * parseInt(hex.slice(i, i + 2), 16) + (1 - alpha) * ground[k]));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** The whole of it, with a margin. @param {Points} p @param {number} width @param {number} height @returns {View} */
export function fitted(p, width, height) {
  const [left, right] = ends(p.x), [low, high] = ends(p.y);
  const scale = 0.94 * Math.min(width / Math.max(right - left, 1e-9), height / Math.max(high - low, 1e-9));
  return { scale, ox: width / 2 - (scale * (left + right)) / 2, oy: height / 2 + (scale * (low + high)) / 2 };
}

/** @param {Float32Array} v */
function ends(v) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < v.length; i++) {
    if (v[i] < low) low = v[i];
    if (v[i] > high) high = v[i];
  }
  return [low, high];
}

/** How many lie within. @param {Points} p @param {View} view @param {number} width @param {number} height */
export function within(p, { scale, ox, oy }, width, height) {
  const { x, y } = p, left = -ox / scale, right = (width - ox) / scale, high = oy / scale, low = (oy - height) / scale;
  let n = 0;
  for (let i = 0; i < x.length; i++) if (x[i] >= left && x[i] < right && y[i] > low && y[i] <= high) n++;
  return n;
}

/** Which lie within, at most so many. @param {Points} p @param {View} view @param {number} width @param {number} height @param {number} most */
export function seen(p, { scale, ox, oy }, width, height, most) {
  const { x, y } = p, out = [];
  for (let i = 0; i < x.length && out.length < most; i++) {
    const px = x[i] * scale + ox, py = oy - y[i] * scale;
    if (px >= 0 && px < width && py >= 0 && py < height) out.push(i);
  }
  return out;
}

/** Draws into pixels; keeps what a crowd needs. */
export class Raster {
  constructor() {
    this.sums = new Uint32Array(0);
  }

  /** @param {Uint32Array} out @param {number} width @param {number} height @param {Points} p @param {View} view @param {Look} look
   * @returns {{mode: string, visible: number}} */
  draw(out, width, height, p, view, look) {
    const visible = within(p, view, width, height);
    const crowded = look.mode === "density" || (look.mode === "auto" && visible > CROWD * width * height);
    if (crowded) this.crowd(out, width, height, p, view, look);
    else dots(out, width, height, p, view, look);
    return { mode: crowded ? "density" : "points", visible };
  }

  /** The mean colour of the points of a pixel, stronger the more they are. @param {Uint32Array} out @param {number} width
   * @param {number} height @param {Points} p @param {View} view @param {Look} look */
  crowd(out, width, height, { x, y, label }, { scale, ox, oy }, { palette, pale, paper, mask }) {
    const area = width * height, last = palette.length - 1;
    if (this.sums.length < 4 * area) this.sums = new Uint32Array(4 * area);
    const sums = this.sums;
    sums.fill(0, 0, 4 * area);
    for (let i = 0; i < x.length; i++) {
      const px = x[i] * scale + ox, py = oy - y[i] * scale;
      if (!(px >= 0 && px < width && py >= 0 && py < height)) continue;
      const k = 4 * ((py | 0) * width + (px | 0)), of = label[i] < last ? label[i] : last;
      const c = mask && !mask[i] ? pale[of] : palette[of];
      sums[k] += 1;
      sums[k + 1] += c & 255;
      sums[k + 2] += (c >> 8) & 255;
      sums[k + 3] += (c >> 16) & 255;
    }
    let most = 1;
    for (let k = 0; k < 4 * area; k += 4) if (sums[k] > most) most = sums[k];
    const strength = new Float32Array(Math.min(most, 4095) + 1);
    for (let n = 1; n < strength.length; n++) strength[n] = 0.3 + 0.7 * Math.min(1, Math.log(n + 1) / Math.log(most + 1));
    const pr = paper & 255, pg = (paper >> 8) & 255, pb = (paper >> 16) & 255;
    for (let j = 0, k = 0; j < area; j++, k += 4) {
      const n = sums[k];
      if (!n) {
        out[j] = paper;
        continue;
      }
      const a = strength[n < 4095 ? n : strength.length - 1], f = a / n, rest = 1 - a;
      out[j] = -16777216 | ((f * sums[k + 3] + rest * pb) << 16) | ((f * sums[k + 2] + rest * pg) << 8) | (f * sums[k + 1] + rest * pr);
    }
  }
}

/** A square for each point; those that are selected lie above. @param {Uint32Array} out @param {number} width @param {number} height
 * @param {Points} p @param {View} view @param {Look} look */
function dots(out, width, height, { x, y, label }, { scale, ox, oy }, { palette, pale, paper, mask, size }) {
  out.fill(paper, 0, width * height);
  const half = size >> 1, last = palette.length - 1;
  for (let pass = mask ? 0 : 1; pass < 2; pass++) {
    const colours = pass ? palette : pale;
    for (let i = 0; i < x.length; i++) {
      if (mask && mask[i] !== pass) continue;
      const px = x[i] * scale + ox, py = oy - y[i] * scale;
      if (!(px > -size && px < width + size && py > -size && py < height + size)) continue;
      const c = colours[label[i] < last ? label[i] : last], left = Math.floor(px) - half, top = Math.floor(py) - half;
      if (size === 1) {
        if (left >= 0 && left < width && top >= 0 && top < height) out[top * width + left] = c;
        continue;
      }
      const right = Math.min(width, left + size), bottom = Math.min(height, top + size);
      for (let row = Math.max(0, top); row < bottom; row++) for (let k = row * width + Math.max(0, left), e = row * width + right; k < e; k++) out[k] = c;
    }
  }
}

/** Points in square cells, in the order of cells: whoever is near is found without looking at all. */
export class Grid {
  /** @param {Points} p */
  constructor(p) {
    const { x, y } = p, n = x.length;
    this.p = p;
    const [left, right] = ends(x), [low, high] = ends(y), side = Math.max(right - left, high - low) || 1;
    this.left = left;
    this.low = low;
    this.cells = Math.max(1, Math.min(1024, Math.ceil(Math.sqrt(n / 2))));
    this.unit = (side * (1 + 1e-6)) / this.cells;
    const of = new Int32Array(n);
    this.first = new Int32Array(this.cells * this.cells + 1);
    for (let i = 0; i < n; i++) this.first[(of[i] = this.cell(x[i], y[i])) + 1]++;
    for (let c = 0; c < this.first.length - 1; c++) this.first[c + 1] += this.first[c];
    const at = this.first.slice();
    this.rows = new Int32Array(n);
    for (let i = 0; i < n; i++) this.rows[at[of[i]]++] = i;
  }

  /** @param {number} x @param {number} y */
  cell(x, y) {
    const clamp = (/** @type {number} */ v) => Math.max(0, Math.min(this.cells - 1, Math.floor(v)));
    return clamp((y - this.low) / this.unit) * this.cells + clamp((x - this.left) / this.unit);
  }

  /** The point nearest to a place, -1 where none is as near as `most`. @param {number} x @param {number} y @param {number} most */
  nearest(x, y, most) {
    const clamp = (/** @type {number} */ v) => Math.max(0, Math.min(this.cells - 1, Math.floor(v)));
    const [a, b] = [x - most, x + most].map((v) => clamp((v - this.left) / this.unit)), [c, d] = [y - most, y + most].map((v) => clamp((v - this.low) / this.unit));
    let best = -1, far = most * most;
    for (let row = c; row <= d; row++) for (let k = this.first[row * this.cells + a]; k < this.first[row * this.cells + b + 1]; k++) {
      const i = this.rows[k], dx = this.p.x[i] - x, dy = this.p.y[i] - y, f = dx * dx + dy * dy;
      if (f <= far) [best, far] = [i, f];
    }
    return best;
  }
}

/** The nearest point in a direction (45 degrees to both sides); the point itself where there is none.
 * @param {Points} p @param {number} from @param {number} dx @param {number} dy */
export function toward({ x, y }, from, dx, dy) {
  let best = from, least = Infinity;
  for (let i = 0; i < x.length; i++) {
    const ax = x[i] - x[from], ay = y[i] - y[from], along = ax * dx + ay * dy, across = Math.abs(ax * dy - ay * dx);
    if (along <= 0 || across > along) continue;
    const far = along * along + 4 * across * across;  // straight ahead before aside
    if (far < least) [best, least] = [i, far];
  }
  return best;
}

/** 1 for each point within a closed line (even-odd rule). @param {Points} p @param {[number, number][]} line of x, y @returns {Uint8Array} */
export function lassoed({ x, y }, line) {
  const out = new Uint8Array(x.length), n = line.length, lx = Float64Array.from(line, (q) => q[0]), ly = Float64Array.from(line, (q) => q[1]);
  const left = Math.min(...lx), right = Math.max(...lx), low = Math.min(...ly), high = Math.max(...ly);
  for (let i = 0; i < x.length; i++) {
    const px = x[i], py = y[i];
    if (px < left || px > right || py < low || py > high) continue;
    let odd = 0;
    for (let a = n - 1, b = 0; b < n; a = b++)
      if (ly[b] > py !== ly[a] > py && px < ((lx[a] - lx[b]) * (py - ly[b])) / (ly[a] - ly[b]) + lx[b]) odd ^= 1;
    out[i] = odd;
  }
  return out;
}
