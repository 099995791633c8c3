// @ts-check
// The forward process in closed form, and what is seen of a noisy image. No DOM in here.

/** @typedef {{t: Float32Array, alpha: Float32Array, sigma: Float32Array, log_snr: Float32Array}} Table  levels, evenly spread in log SNR */
/** @typedef {{step: number, t: number, alpha: number, sigma: number, log_snr: number|null, x: Float32Array, x_0: Float32Array}} Frame */

/** x_t = alpha x_0 + sigma eps (Ho et al. 2020, eq. 4). @param {Float32Array} x_0 @param {Float32Array} eps @param {number} alpha @param {number} sigma */
export function mixed(x_0, eps, alpha, sigma) {
  const out = new Float32Array(x_0.length);
  for (let i = 0; i < out.length; i++) out[i] = alpha * x_0[i] + sigma * eps[i];
  return out;
}

/** As a frame, of an image and its noise at a row of the table. @param {Table} table @param {number} i @param {Float32Array} x_0 @param {Float32Array} eps @returns {Frame} */
export function noised(table, i, x_0, eps) {
  const alpha = table.alpha[i], sigma = table.sigma[i];
  return { step: i, t: table.t[i], alpha, sigma, log_snr: table.log_snr[i], x: mixed(x_0, eps, alpha, sigma), x_0 };
}

const ROWS = 512;
/** Where a frame stands on the axis, within its ends; at the right end the image itself alone. @param {{alpha: number, sigma: number, log_snr: number|null}} frame @param {number} low @param {number} high */
export function place({ alpha, sigma, log_snr }, low, high) {
  if (sigma === 0) return high;
  if (alpha === 0 || log_snr === null) return low;
  return Math.max(low, Math.min(high - (high - low) / ROWS, log_snr));
}

/** The frame nearest to a log SNR; of several the last. @param {Frame[]} frames @param {number} at @param {number} low @param {number} high */
export function nearest(frames, at, low, high) {
  let best = -1, far = Infinity;
  frames.forEach((frame, i) => {
    const away = frame ? Math.abs(place(frame, low, high) - at) : Infinity;
    if (away < Infinity && away <= far) [best, far] = [i, away];
  });
  return best;
}

export const VIEWS = /** @type {[string, string][]} */ ([["x_t", "xₜ, the noisy image"], ["x_0", "x̂₀, the image expected in it"], ["eps", "the noise estimate"], ["away", "|xₜ − x̂₀|"]]);

/** What a view shows of a frame, in its own numbers. @param {Frame} frame @param {string} view */
export function seen({ x, x_0, alpha, sigma }, view) {
  if (view === "x_0") return x_0;
  const unit = 1 / Math.hypot(alpha, sigma), out = new Float32Array(x.length);
  for (let i = 0; i < out.length; i++) {
    if (view === "x_t") out[i] = x[i] * unit;
    else if (view === "eps") out[i] = sigma ? (x[i] - alpha * x_0[i]) / sigma : 0;
    else out[i] = Math.abs(x[i] * unit - x_0[i]);
  }
  return out;
}

/** Its bytes: -1 to 1 from black to white; noise -3 to 3; a difference 0 to 2. @param {Float32Array} values @param {string} view @param {number} size @param {number} channels */
export function bytes(values, view, size, channels) {
  const n = size * size, out = new Uint8ClampedArray(4 * n);
  const [low, wide] = view === "eps" ? [-3, 6] : view === "away" ? [0, 2] : [-1, 2];
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) out[4 * i + c] = Math.round(((values[(channels >= 3 ? c : 0) * n + i] - low) / wide) * 255);
    out[4 * i + 3] = 255;
  }
  return out;
}

export const BINS = 48, EDGE = 4;
/** Density of values from -EDGE to EDGE, with mean and deviation of all. @param {Float32Array} values */
export function histogram(values) {
  const density = new Float32Array(BINS), wide = (2 * EDGE) / BINS;
  let sum = 0, squares = 0;
  for (const v of values) {
    const i = Math.floor((v + EDGE) / wide);
    if (i >= 0 && i < BINS) density[i] += 1 / (values.length * wide);
    sum += v;
    squares += v * v;
  }
  const mean = sum / values.length;
  return { density, mean, deviation: Math.sqrt(Math.max(0, squares / values.length - mean * mean)) };
}

/** @param {number} v */
export const normal = (v) => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);
