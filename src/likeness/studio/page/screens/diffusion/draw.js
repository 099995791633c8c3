// @ts-check
// Canvases of the screen: a large view, a track of thumbnails with a playhead over it, a histogram.

import { h, sharp, token } from "../../widgets/dom.js";
import { BINS, EDGE, bytes, histogram, normal, place, seen } from "./noise.js";

/** @typedef {import("./noise.js").Frame} Frame */
/** @typedef {{size: number, channels: number, low: number, high: number}} About */
const THUMBNAILS = 9;

/** @param {About} about @param {string} title @param {string} colour a token's name */
export function large(about, title, colour) {
  const { size, channels } = about;
  const canvas = h("canvas", { role: "img", class: "pixels large", width: size, height: size, "aria-label": title });
  const caption = h("figcaption", { class: "small" });
  const name = h("strong", { text: title, class: colour });
  const root = h("figure", { class: "lane" }, h("div", {}, name), canvas, caption);
  const c = canvas.getContext("2d"), image = new ImageData(size, size);
  return {
    root, canvas,
    /** @param {string} text */
    name(text) {
      name.textContent = text;
    },
    /** @param {Frame|null} frame @param {string} view @param {string} says */
    set(frame, view, says) {
      caption.textContent = says;
      canvas.setAttribute("aria-label", `${name.textContent}: ${says}`);
      canvas.dataset.step = frame ? String(frame.step) : "";
      if (!c) return;
      if (!frame) return c.clearRect(0, 0, size, size);
      image.data.set(bytes(seen(frame, view), view, size, channels));
      c.putImageData(image, 0, 0);
    },
  };
}

/** Nine frames on the axis of log SNR, under one playhead. @param {About} about @param {string} title @param {(share: number) => void} onPick */
export function track(about, title, onPick) {
  const { size, channels, low, high } = about;
  const canvas = h("canvas", { role: "img", class: "track", "aria-label": title });
  const head = h("div", { class: "playhead", "aria-hidden": "true" });
  const root = h("div", { class: "track-box" }, canvas, head);
  /** @type {Frame[]} */ let frames = [];
  let view = "x_t";
  const paint = sharp(canvas, 58, (c, width) => {
    const side = Math.min(54, width / THUMBNAILS - 4), one = h("canvas", { width: size, height: size });
    c.imageSmoothingEnabled = false;
    for (let k = 0; k < THUMBNAILS; k++) {
      const share = k / (THUMBNAILS - 1), x = share * (width - side), at = low + share * (high - low);
      c.fillStyle = token("--sunken", "#F3F1EC");
      c.fillRect(x, 2, side, side);
      const frame = closest(at);
      if (!frame) continue;
      one.getContext("2d")?.putImageData(new ImageData(bytes(seen(frame, view), view, size, channels), size, size), 0, 0);
      c.drawImage(one, x, 2, side, side);
    }
  });
  /** The frame there, unless the way has not come so far. @param {number} at */
  function closest(at) {
    let best = null, far = (high - low) / THUMBNAILS;
    for (const frame of frames) {
      if (!frame) continue;
      const away = Math.abs(place(frame, low, high) - at);
      if (away <= far) [best, far] = [frame, away];
    }
    return best;
  }
  canvas.addEventListener("pointerdown", (e) => {
    canvas.setPointerCapture(e.pointerId);
    pick(e);
  });
  canvas.addEventListener("pointermove", (e) => e.buttons && pick(e));
  /** @param {PointerEvent} e */
  const pick = (e) => onPick(Math.max(0, Math.min(1, (e.offsetX - 27) / Math.max(1, canvas.clientWidth - 54))));
  return {
    root,
    /** @param {Frame[]} to @param {string} what */
    set(to, what) {
      frames = to;
      view = what;
      canvas.setAttribute("aria-label", `${title}: ${frames.filter(Boolean).length} frames from noise on the left to the image on the right`);
      paint();
    },
    /** @param {number} share */
    at(share) {
      head.style.left = `calc(27px + ${share} * (100% - 54px))`;
    },
  };
}

/** Densities of what is shown, beside the standard normal one. */
export function histograms() {
  const canvas = h("canvas", { role: "img", class: "w-bars" });
  const says = h("p", { class: "caption" });
  const root = h("figure", { class: "w-figure" }, h("figcaption", { text: "Values, beside N(0, 1)" }), canvas, says);
  /** @type {{name: string, colour: string, density: Float32Array}[]} */ let lines = [];
  const paint = sharp(canvas, 130, (c, width, height) => {
    const x = (/** @type {number} */ v) => ((v + EDGE) / (2 * EDGE)) * width, y = (/** @type {number} */ d) => height - 12 - (Math.min(d, 1) / 1) * (height - 16);
    c.strokeStyle = token("--hairline", "#DEDAD2");
    c.strokeRect(0, y(0), width, 0);
    c.fillStyle = token("--muted", "#5B6068");
    c.font = "11px system-ui, sans-serif";
    for (const v of [-3, -1, 0, 1, 3]) c.fillText(String(v), x(v) - 3, height - 1);
    lines.forEach(({ density, colour }, k) => {
      c.strokeStyle = token(colour, "#1A66A8");
      c.lineWidth = 1.5;
      c.setLineDash(k ? [5, 3] : []);
      c.beginPath();
      for (let i = 0; i < BINS; i++) {
        const left = (i / BINS) * width, right = ((i + 1) / BINS) * width;
        c.lineTo(left, y(density[i]));
        c.lineTo(right, y(density[i]));
      }
      c.stroke();
    });
    c.setLineDash([1, 3]);
    c.strokeStyle = token("--ink", "#1F2328");
    c.beginPath();
    for (let v = -EDGE; v <= EDGE; v += 0.1) c.lineTo(x(v), y(normal(v)));
    c.stroke();
    c.setLineDash([]);
  });
  return {
    root,
    /** @param {{name: string, colour: string, values: Float32Array}[]} of */
    set(of) {
      const all = of.map(({ name, colour, values }) => ({ name, colour, ...histogram(values) }));
      lines = all;
      says.textContent = all.map((a) => `${a.name}: mean ${a.mean.toFixed(2)}, deviation ${a.deviation.toFixed(2)}`).join("; ") + "; dotted: N(0, 1)";
      canvas.setAttribute("aria-label", `Histogram. ${says.textContent}`);
      paint();
    },
  };
}
