// @ts-check
// Before and after of one result: a divider, side by side, the original while a key is held, the difference, blinking.
import { add, h, still } from "../widgets/dom.js";

export const MODES = /** @type {const} */ ([["divider", "Divider"], ["beside", "Side by side"], ["difference", "Difference × 4"], ["blink", "Blink"]]);

/** @typedef {{before: HTMLCanvasElement, after: HTMLCanvasElement, bicubic: HTMLCanvasElement | null}} Pair */

/** Values of |a - b| * 4, opaque. @param {Uint8ClampedArray} a @param {Uint8ClampedArray} b */
export function difference(a, b) {
  const out = new Uint8ClampedArray(a.length);
  for (let i = 0; i < a.length; i++) out[i] = i % 4 === 3 ? 255 : 4 * Math.abs(a[i] - b[i]);
  return out;
}

/** @param {import("../app.js").Studio} studio */
export function viewer(studio) {
  /** @type {Pair | null} */
  let pair = null;
  let mode = studio.hash.get("mode", "divider"), split = 50, held = false, timer = 0, odd = false, name = "", by = studio.hash.get("by", "pixels");
  const canvas = h("canvas", { role: "img", "aria-label": "no result yet", class: "t-view" });
  const handle = h("div", { class: "t-handle", role: "slider", tabindex: 0, "aria-label": "divider of original and result", "aria-valuemin": 0, "aria-valuemax": 100 });
  const stage = h("div", { class: "t-stage" }, canvas, handle), beside = h("div", { class: "t-beside" });
  const hold = h("button", { type: "button", title: "key Space", text: "Hold to see the original" });
  const modes = h("div", { class: "row", role: "group", "aria-label": "how to compare" }, ...MODES.map(([id, title]) => h("button", { type: "button", "data-mode": id, text: title, onclick: () => choose(id) })), hold);
  const enlarged = h("select", { onchange: () => ((by = enlarged.value), studio.hash.set({ by }), draw()) }, h("option", { value: "pixels", text: "its pixels" }), h("option", { value: "bicubic", text: "bicubic" }));
  enlarged.value = by === "bicubic" ? "bicubic" : "pixels";
  const original = h("label", { class: "row s-field", hidden: true }, "the original is enlarged by", enlarged);
  const root = h("div", { hidden: true }, modes, original, stage, beside);

  /** The original, as large as the result. */
  function before() {
    if (!pair) return canvas;
    if (pair.bicubic && by === "bicubic") return pair.bicubic;
    const { after } = pair, out = h("canvas", { width: after.width, height: after.height }), c = out.getContext("2d");
    if (c) {
      c.imageSmoothingEnabled = false;
      c.drawImage(pair.before, 0, 0, out.width, out.height);
    }
    return out;
  }
  function draw() {
    if (!pair) return;
    const { after } = pair, { width, height } = after, old = before(), c = canvas.getContext("2d", { willReadFrequently: true });
    if (!c) return;
    const side = mode === "beside";
    stage.hidden = side;
    beside.hidden = !side;
    handle.hidden = mode !== "divider" || held;
    if (side) return pictures(old, after, pair.bicubic);
    canvas.width = width;
    canvas.height = height;
    const factor = Math.max(1, Math.floor(Math.min(640 / width, 480 / height)));
    canvas.style.width = `${width * factor}px`;
    const at = Math.round((split / 100) * width);
    if (held || (mode === "blink" && odd)) c.drawImage(old, 0, 0);
    else c.drawImage(after, 0, 0);
    if (mode === "divider" && !held && at) c.drawImage(old, 0, 0, at, height, 0, 0, at, height);
    if (mode === "difference" && !held) {
      const a = c.getImageData(0, 0, width, height), b = old.getContext("2d")?.getImageData(0, 0, width, height);
      if (b) c.putImageData(new ImageData(difference(a.data, b.data), width, height), 0, 0);
    }
    const what = held ? "the original" : { divider: `original left of ${split} %, result right of it`, difference: "difference of result and original, times 4", blink: "result and original in turns", beside: "" }[/** @type {"divider"} */ (mode)];
    canvas.setAttribute("aria-label", `${name}: ${what}`);
    handle.style.left = `${split}%`;
    handle.setAttribute("aria-valuenow", String(split));
    handle.setAttribute("aria-valuetext", `${split} % original`);
  }
  /** @param {HTMLCanvasElement} old @param {HTMLCanvasElement} after @param {HTMLCanvasElement | null} bicubic */
  function pictures(old, after, bicubic) {
    const all = /** @type {[string, HTMLCanvasElement, string][]} */ ([["original", pair?.bicubic ? nearest() : old, "real"], ...(bicubic ? [["bicubic", bicubic, "muted"]] : []), ["result", after, "generated"]]);
    const factor = Math.max(1, Math.floor(300 / after.width));
    beside.replaceChildren(...all.map(([word, image, kind]) => {
      const copy = h("canvas", { role: "img", "aria-label": `${name}: ${word}`, width: image.width, height: image.height });
      copy.getContext("2d")?.drawImage(image, 0, 0);
      copy.style.width = `${image.width * factor}px`;
      return h("figure", {}, copy, h("figcaption", { class: `caption ${kind}`, text: word }));
    }));
  }
  function nearest() {
    const was = by;
    by = "pixels";
    const out = before();
    by = was;
    return out;
  }
  /** @param {string} id */
  function choose(id) {
    mode = MODES.some(([m]) => m === id) ? id : "divider";
    studio.hash.set({ mode });
    for (const b of modes.querySelectorAll("[data-mode]")) b.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (b).dataset.mode === mode));
    clearInterval(timer);
    odd = false;
    if (mode === "blink") timer = setInterval(() => ((odd = !odd), draw()), still() ? 2000 : 700);
    draw();
  }
  /** @param {number} to */
  function move(to) {
    split = Math.max(0, Math.min(100, Math.round(to)));
    draw();
  }
  /** @param {boolean} on */
  function keep(on) {
    if (held === on) return;
    held = on;
    draw();
  }
  handle.addEventListener("keydown", (e) => {
    const by_ = e.shiftKey ? 10 : 1, to = { ArrowRight: split + by_, ArrowUp: split + by_, ArrowLeft: split - by_, ArrowDown: split - by_, PageUp: split + 10, PageDown: split - 10, Home: 0, End: 100 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    move(to);
  });
  stage.addEventListener("pointerdown", (e) => {
    if (mode !== "divider") return;
    stage.setPointerCapture(e.pointerId);
    drag(e);
  });
  stage.addEventListener("pointermove", (e) => e.buttons && mode === "divider" && drag(e));
  /** @param {PointerEvent} e */
  function drag(e) {
    const box = canvas.getBoundingClientRect();
    move((100 * (e.clientX - box.left)) / box.width);
  }
  hold.addEventListener("pointerdown", () => keep(true));
  for (const event of ["pointerup", "pointerleave", "blur"]) hold.addEventListener(event, () => keep(false));
  hold.addEventListener("keydown", (e) => {
    if (e.key === " " || e.key === "Enter") keep(true);
  });
  const up = (/** @type {KeyboardEvent} */ e) => (e.key === " " || e.key === "Enter") && keep(false);
  document.addEventListener("keyup", up);
  choose(mode);
  return {
    root, canvas,
    /** @param {Pair} to @param {string} of */
    show(to, of) {
      pair = to;
      name = of;
      root.hidden = false;
      original.hidden = !to.bicubic;
      draw();
    },
    clear() {
      pair = null;
      root.hidden = true;
    },
    next() { choose(MODES[(MODES.findIndex(([m]) => m === mode) + 1) % MODES.length][0]); },
    hold: () => keep(true),
    end() {
      clearInterval(timer);
      document.removeEventListener("keyup", up);
    },
  };
}

/** Pictures with a word below each. @param {[string, HTMLCanvasElement, string][]} all */
export function figures(all) {
  const box = h("div", { class: "t-beside" });
  for (const [word, image, kind] of all) {
    const canvas = h("canvas", { role: "img", "aria-label": word, width: image.width, height: image.height });
    canvas.getContext("2d")?.drawImage(image, 0, 0);
    canvas.style.width = `${image.width * Math.max(1, Math.floor(160 / image.width))}px`;
    add(box, h("figure", {}, canvas, h("figcaption", { class: `caption ${kind}`, text: word })));
  }
  return box;
}
