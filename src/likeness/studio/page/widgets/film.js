/** A film of frames and a scrubber over them: native range input, cached frames, the newest wish wins. */
import { h, still, styled, unique } from "./dom.js";

/** @typedef {ImageBitmap | HTMLCanvasElement | OffscreenCanvas} Frame */
/**
 * @typedef {{label: string, load: (i: number) => Promise<Frame>, caption?: (i: number) => string, keep?: number,
 *   perSecond?: number, onFrame?: (i: number) => void}} Options
 */

/** Frames by number, the last `keep` of them; each is asked for once. @param {(i: number) => Promise<Frame>} load @param {number} keep */
export function cache(load, keep) {
  /** @type {Map<number, Frame>} */
  const known = new Map();
  /** @type {Map<number, Promise<Frame>>} */
  const coming = new Map();
  return {
    /** At once, if it is known. @param {number} i */
    now: (i) => known.get(i),
    /** @param {number} i @returns {Promise<Frame>} */
    get(i) {
      const there = known.get(i);
      if (there) {
        known.delete(i);  // the most recent last
        known.set(i, there);
        return Promise.resolve(there);
      }
      const asked = coming.get(i);
      if (asked) return asked;
      const wish = load(i).then((frame) => {
        known.set(i, frame);
        if (known.size > keep) known.delete(/** @type {number} */ (known.keys().next().value));
        return frame;
      }).finally(() => coming.delete(i));
      coming.set(i, wish);
      return wish;
    },
    forget() { known.clear(); },
    get size() { return known.size; },
  };
}

/** @param {Options} options  keep: frames in memory; perSecond: while it plays */
export function film(options) {
  styled();
  const id = unique("film"), frames = cache(options.load, options.keep ?? 200);
  const caption = options.caption ?? ((/** @type {number} */ i) => `frame ${i + 1}`);
  const canvas = h("canvas", { role: "img", class: "w-film", "aria-label": options.label });
  const input = h("input", { type: "range", min: 0, max: 0, step: 1, value: 0, id, "aria-label": `${options.label}, frame` });
  const play = h("button", { type: "button", text: "Play", "aria-pressed": "false", onclick: () => run(!timer) });
  const says = h("output", { for: id, class: "w-number" });
  const root = h("figure", { class: "w-figure" }, canvas, h("div", { class: "w-row w-scrub" }, play, input, says));
  let count = 0, wanted = 0, timer = 0;

  /** @param {Frame} frame @param {number} i */
  function paint(frame, i) {
    if (canvas.width !== frame.width || canvas.height !== frame.height) {
      canvas.width = frame.width;
      canvas.height = frame.height;
    }
    canvas.getContext("2d")?.drawImage(frame, 0, 0);
    canvas.dataset.frame = String(i);
    canvas.setAttribute("aria-label", `${options.label}: ${caption(i)}`);
    options.onFrame?.(i);
  }
  /** @param {number} i */
  async function go(i) {
    if (!count) return;
    wanted = Math.max(0, Math.min(count - 1, i));
    input.value = String(wanted);
    says.textContent = caption(wanted);
    input.setAttribute("aria-valuetext", caption(wanted));
    const here = wanted, known = frames.now(here);
    if (known) return paint(known, here);  // within the same event: no frame is lost
    const frame = await frames.get(here).catch(() => null);
    if (frame && here === wanted) paint(frame, here);
    for (const next of [here + 1, here - 1]) if (next >= 0 && next < count) frames.get(next).catch(() => {});
  }
  /** @param {boolean} on */
  function run(on) {
    clearInterval(timer);
    timer = 0;
    if (on && count > 1) {
      if (wanted === count - 1) go(0);
      timer = setInterval(() => (wanted < count - 1 ? go(wanted + 1) : run(false)), 1000 / (still() ? 1 : options.perSecond ?? 12));
    }
    play.textContent = timer ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(Boolean(timer)));
  }
  input.addEventListener("input", () => go(Number(input.value)));
  input.addEventListener("keydown", (e) => {
    const way = { ArrowRight: 10, ArrowLeft: -10 }[e.key];
    if (!way || !e.shiftKey) return;
    e.preventDefault();
    go(wanted + way);
  });
  return {
    root, canvas, go, run,
    get at() { return wanted; },
    get playing() { return timer !== 0; },
    /** How many frames there are now; stays where it is, or at the end if it was there. @param {number} n */
    set(n) {
      const atEnd = count === 0 || wanted === count - 1;
      count = n;
      input.max = String(Math.max(0, n - 1));
      input.disabled = play.disabled = n < 2;
      if (n) go(atEnd ? n - 1 : Math.min(wanted, n - 1));
    },
    /** Frames are others now. */
    forget() { frames.forget(); },
    stop() { run(false); },
  };
}
