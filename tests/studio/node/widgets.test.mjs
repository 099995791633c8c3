/** What the widgets compute without a page: run by tests/studio/test_widgets.py with `node --test`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { words } from "../../../src/likeness/studio/page/widgets/bars.js";
import { cache } from "../../../src/likeness/studio/page/widgets/film.js";
import { flag, wrong } from "../../../src/likeness/studio/page/widgets/form.js";
import { envelope, extent, held, named, powers, short, smooth, ticks } from "../../../src/likeness/studio/page/widgets/numbers.js";
import { raw, rgba } from "../../../src/likeness/studio/page/widgets/pixels.js";

test("an envelope keeps every peak and trough in few points", () => {
  const n = 100_000, x = Float64Array.from({ length: n }, (_, i) => i), y = x.map((i) => Math.sin(i / 50));
  y[31_415] = 9;
  y[77_777] = -9;
  const points = envelope(x, y, 0, n - 1, 300);
  assert.ok(points.length <= 1200);
  assert.deepEqual(points.find(([, v]) => v === 9), [31_415, 9]);
  assert.deepEqual(points.find(([, v]) => v === -9), [77_777, -9]);
  assert.ok(points.every(([a], i) => !i || a > points[i - 1][0]), "ascending");
  assert.deepEqual(points[0], [0, 0]);
  assert.equal(points[points.length - 1][0], n - 1);
});

test("an envelope passes over what is no number and what lies outside", () => {
  assert.deepEqual(envelope([0, 1, 2, 3], [1, NaN, Infinity, 4], 0, 3, 10), [[0, 1], [3, 4]]);
  assert.deepEqual(envelope([0, 1, 2, 3], [1, 2, 3, 4], 1, 2, 10), [[1, 2], [2, 3]]);
  assert.deepEqual(envelope([5], [2], 5, 5, 10), [[5, 2]]);
});

test("smoothing keeps a constant, has no pull to zero, and is the weighted mean of its definition", () => {
  assert.deepEqual([...smooth([3, 3, 3], 0.9)].map((v) => Number(v.toFixed(9))), [3, 3, 3]);
  assert.deepEqual([...smooth([1, 5, 2], 0)], [1, 5, 2]);
  const w = 0.7, y = [1, 4, 9, 16], out = smooth(y, w);
  y.forEach((_, t) => {
    const weights = y.slice(0, t + 1).map((_, k) => w ** (t - k)), whole = weights.reduce((a, b) => a + b);
    assert.ok(Math.abs(out[t] - weights.reduce((a, v, k) => a + v * y[k], 0) / whole) < 1e-12);
  });
  assert.equal(smooth([2, NaN, 2], 0.5)[1], 2);
});

test("ticks are round, in the range, and about as many as asked for", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(-3, 3, 3), [-2, 0, 2]);
  assert.deepEqual(ticks(5, 5.000000000000001), [5], "neighbouring numbers: counting on would never end");
  assert.deepEqual(powers(0, 10), [0], "nor would powers from 0 on");
  for (const [lo, hi] of [[0.00012, 0.00019], [-1e6, 3e7], [17, 17.3]]) {
    const t = ticks(lo, hi, 5);
    assert.ok(t.length >= 2 && t.length <= 7 && t[0] >= lo - 1e-12 && t[t.length - 1] <= hi + 1e-6, `${t}`);
  }
  assert.deepEqual(powers(0.02, 5000), [0.1, 1, 10, 100, 1000]);
  assert.deepEqual(powers(2, 3), [2]);
  assert.deepEqual(named([1.386, 1.388, 1.39]), ["1.386", "1.388", "1.39"]);
});

test("numbers for people", () => {
  assert.equal(short(12400), "12,400");
  assert.equal(short(0.03124159), "0.03124");
  assert.equal(short(1.23456e-7), "1.23e-7");
  assert.equal(short(NaN), "nan");
  assert.equal(held(0.34, 0, 1, 0.25), 0.25);
  assert.equal(held(9, 0, 1), 1);
  assert.deepEqual(extent([3, NaN, -2, Infinity]), [-2, 3]);
  assert.deepEqual(extent([0, -1, 10, 0.1], true), [0.1, 10]);
});

test("images become RGBA one after the other; grey is spread; a wrong length is refused", () => {
  const grey = rgba({ pixels: Uint8Array.of(7, 9), n: 2, height: 1, width: 1, channels: 1 });
  assert.deepEqual([...grey], [7, 7, 7, 255, 9, 9, 9, 255]);
  const colour = rgba({ pixels: Uint8Array.of(1, 2, 3, 4, 5, 6), n: 1, height: 1, width: 2, channels: 3 });
  assert.deepEqual([...colour], [1, 2, 3, 255, 4, 5, 6, 255]);
  assert.throws(() => rgba({ pixels: new Uint8Array(5), n: 1, height: 1, width: 2, channels: 3 }), RangeError);
  assert.equal(raw(new Uint8Array(12), [2, 2, 1, 3]).channels, 3);
  assert.equal(raw(new Uint8Array(128), [2, 8, 8]).n, 2);
  assert.equal(raw(new Uint8Array(192), [8, 8, 3]).n, 1);
});

test("a film asks for a frame once, keeps the most recent, and drops the oldest", async () => {
  const asked = [];
  const frames = cache(async (i) => (asked.push(i), /** @type {any} */ ({ i })), 2);
  const both = await Promise.all([frames.get(1), frames.get(1)]);
  assert.equal(both[0], both[1]);
  await frames.get(2);
  await frames.get(1);  // 2 is the oldest now
  await frames.get(3);
  assert.equal(frames.now(2), undefined);
  assert.ok(frames.now(1));
  assert.deepEqual(asked, [1, 2, 3]);
  const failing = cache(() => Promise.reject(new Error("gone")), 2);
  await assert.rejects(failing.get(0));
  await assert.rejects(failing.get(0));
});

test("a form refuses what the option refuses, in its own words", () => {
  const rate = { name: "rate", default: 0.1, low: 0, high: 1 }, size = { name: "size", default: 8, whole: true, low: 1, high: null };
  assert.equal(wrong(rate, "0.5"), "");
  assert.match(wrong(rate, "2"), /at most 1/);
  assert.match(wrong(rate, "-1"), /at least 0/);
  assert.match(wrong(rate, ""), /number/);
  assert.match(wrong(size, "1.5"), /whole/);
  assert.equal(wrong(size, "1000000"), "");
  assert.match(wrong({ name: "kind", default: "a", choices: ["a", "b"] }, "c"), /none of: a, b/);
});

test("flags of the command line are only of what differs, and quoted where a shell would cut", () => {
  assert.equal(flag({ name: "batch_size", default: 8 }, 16), "--batch-size 16");
  assert.equal(flag({ name: "batch_size", default: 8 }, 8), "");
  assert.equal(flag({ name: "mirror", default: true }, false), "--no-mirror");
  assert.equal(flag({ name: "text", default: "" }, "a b'c"), "--text 'a b'\\''c'");
});

test("bars in words", () => {
  assert.equal(words({ values: [1, 5, 2], labels: ["a", "b", "c"], mark: 0 }), "3 bars; highest b: 5, c: 2, a: 1; marked a: 1");
});
