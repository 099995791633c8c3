/** Numbers for people and for charts; no DOM in here. */

/**
 * A number in few digits: 12,400 · 0.0312 · 1.2e-7.
 * @param {number} value @param {number} [digits] significant ones
 */
export function short(value, digits = 4) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return value.toLocaleString("en-US");
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(Math.max(0, digits - 2));
  return String(Number(value.toPrecision(digits)));
}

/** About n round places between lo and hi. @param {number} lo @param {number} hi @param {number} [n] */
export function ticks(lo, hi, n = 5) {
  if (!(hi > lo)) return [lo];
  const rough = (hi - lo) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9)) ?? 10 * power;
  const first = Math.ceil(lo / step - 1e-9), count = Math.floor(hi / step + 1e-9) - first + 1;
  if (!(Math.abs(first) < 2 ** 40 && count <= 20 * n)) return [lo];  // so near each other that k and k + 1 are one number
  return Array.from({ length: Math.max(0, count) }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

/** Names of ticks, with as many digits as it takes to tell them apart. @param {number[]} values */
export function named(values) {
  for (let digits = 3; digits < 12; digits++) {
    const texts = values.map((v) => short(v, digits));
    if (new Set(texts).size === new Set(values).size) return texts;
  }
  return values.map(String);
}

/** Powers of ten between lo and hi, both positive, at most n. @param {number} lo @param {number} hi @param {number} [n] */
export function powers(lo, hi, n = 6) {
  if (!(lo > 0 && hi >= lo && hi < Infinity)) return [lo];
  const first = Math.ceil(Math.log10(lo) - 1e-9), last = Math.floor(Math.log10(hi) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / n)), out = [];
  for (let k = first; k <= last; k += step) out.push(Number(`1e${k}`));
  return out.length ? out : [lo];
}

/**
 * What a line of many points looks like in few columns: the first, the lowest, the highest and the last value of
 * each, in their order, so that no peak is lost. Values that are no numbers are passed over.
 * @param {ArrayLike<number>} x ascending @param {ArrayLike<number>} y
 * @param {number} lo @param {number} hi @param {number} columns
 * @returns {[number, number][]}
 */
export function envelope(x, y, lo, hi, columns) {
  /** @type {[number, number][]} */
  const out = [];
  /** @type {number[]} */
  let held = [];
  let column = -1;
  const flush = () => {
    if (!held.length) return;
    let low = held[0], high = held[0];
    for (const i of held) {
      if (y[i] < y[low]) low = i;
      if (y[i] > y[high]) high = i;
    }
    const chosen = new Set([held[0], low, high, held[held.length - 1]]);
    for (const i of [...chosen].sort((a, b) => a - b)) out.push([x[i], y[i]]);
    held = [];
  };
  for (let i = 0; i < x.length; i++) {
    if (x[i] < lo || x[i] > hi || !Number.isFinite(y[i])) continue;
    const at = hi > lo ? Math.min(columns - 1, Math.floor(((x[i] - lo) / (hi - lo)) * columns)) : 0;
    if (at !== column) {
      flush();
      column = at;
    }
    held.push(i);
  }
  flush();
  return out;
}

/**
 * Exponential mean of a line, without the pull of its first value to zero: weight 0 keeps it, 0.99 smooths most.
 * @param {ArrayLike<number>} y @param {number} weight @returns {Float64Array}
 */
export function smooth(y, weight) {
  const out = new Float64Array(y.length);
  let mean = 0, whole = 0;
  for (let i = 0; i < y.length; i++) {
    if (Number.isFinite(y[i])) {
      mean = weight * mean + (1 - weight) * y[i];
      whole = weight * whole + (1 - weight);
    }
    out[i] = whole ? mean / whole : NaN;
  }
  return out;
}

/** Lowest and highest number; positive ones alone if `log`. @param {Iterable<number>} values @param {boolean} [log] @returns {[number, number]} */
export function extent(values, log = false) {
  let lo = Infinity, hi = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v) || (log && v <= 0)) continue;
    if (v < lo) lo = v;
    if (v > hi) hi = v;
  }
  if (lo > hi) return log ? [0.1, 1] : [0, 1];
  if (lo === hi) return log ? [lo / 2, hi * 2] : [lo - Math.max(1e-9, Math.abs(lo) * 0.1), hi + Math.max(1e-9, Math.abs(hi) * 0.1)];
  return [lo, hi];
}

/** The nearest multiple of step from low, within [low, high]. @param {number} value @param {number} low @param {number} high @param {number} [step] */
export function held(value, low, high, step = 0) {
  const on = step ? low + Math.round((value - low) / step) * step : value;
  return Number(Math.min(high, Math.max(low, on)).toPrecision(12));
}
