/** Bars: a value each, on a canvas, with a summary in words and a table of numbers. */
import { h, palette, sharp, styled, token, unique } from "./dom.js";
import { short } from "./numbers.js";

/**
 * @typedef {{values: ArrayLike<number>, labels?: string[], mark?: number, low?: number, high?: number, colour?: string,
 *   summary?: string, table?: boolean}} Bars
 */

/** The three highest bars in words. @param {Bars} bars */
export function words({ values, labels, mark }) {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[b] - values[a]).slice(0, 3);
  const name = (/** @type {number} */ i) => labels?.[i] ?? String(i);
  const top = order.map((i) => `${name(i)}: ${short(values[i], 3)}`).join(", ");
  return `${values.length} bars; highest ${top}${mark === undefined ? "" : `; marked ${name(mark)}: ${short(values[mark], 3)}`}`;
}

const NAMED = 40, LINE = 16;  // pixels of a bar that has its name below, and of that line

/** @param {{label: string, height?: number, onPick?: (i: number) => void}} options */
export function bars(options) {
  styled();
  const id = unique("bars");
  const canvas = h("canvas", { role: "img", class: "w-bars", "aria-label": options.label });
  const body = h("tbody");
  const table = h("details", { class: "w-table" }, h("summary", { text: "numbers" }),
    h("table", { "aria-label": options.label }, h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "bar" }), h("th", { scope: "col", text: "value" }))), body));
  const root = h("figure", { class: "w-figure" }, h("figcaption", { id, text: options.label }), canvas, table);
  /** @type {Bars} */
  let now = { values: [] };

  const draw = sharp(canvas, options.height ?? 120, (c, width, all) => {
    const n = now.values.length;
    if (!n) return;
    const named = now.labels !== undefined && width / n >= NAMED, height = named ? all - LINE : all;
    const low = now.low ?? Math.min(0, ...Array.from(now.values)), high = now.high ?? Math.max(...Array.from(now.values), low + 1e-9);
    const y = (/** @type {number} */ v) => height - ((Math.min(high, Math.max(low, v)) - low) / (high - low)) * height;
    const wide = width / n, gap = wide > 4 ? 1 : 0;
    for (let i = 0; i < n; i++) {
      c.fillStyle = i === now.mark ? token("--generated", "#B8560F") : now.colour ?? palette()[0];
      const top = y(now.values[i]), base = y(0);
      c.fillRect(i * wide, Math.min(top, base), wide - gap, Math.max(1, Math.abs(base - top)));
      if (!named) continue;
      c.fillStyle = token("--ink", "#1F2328");
      c.font = "12px system-ui, sans-serif";
      c.fillText(`${now.labels?.[i]}: ${short(now.values[i], 2)}`, i * wide + 2, all - 3, wide - 6);
    }
    if (now.mark !== undefined) {  // not by colour alone
      c.fillStyle = token("--ink", "#1F2328");
      const x = (now.mark + 0.5) * wide;
      c.beginPath();
      c.moveTo(x - 5, 0);
      c.lineTo(x + 5, 0);
      c.lineTo(x, 7);
      c.fill();
    }
  });
  canvas.addEventListener("click", (e) => {
    const i = Math.floor((e.offsetX / canvas.clientWidth) * now.values.length);
    if (i >= 0 && i < now.values.length) options.onPick?.(i);
  });
  table.addEventListener("toggle", () => fill());
  function fill() {
    if (!table.open) return;
    body.replaceChildren(...Array.from(now.values, (v, i) =>
      h("tr", i === now.mark ? { "aria-current": "true" } : {}, h("th", { scope: "row", text: now.labels?.[i] ?? String(i) }), h("td", { text: short(v, 5) }))));
  }
  return {
    root,
    /** @param {Bars} bars */
    set(bars) {
      now = bars;
      canvas.setAttribute("aria-label", `${options.label}. ${bars.summary ?? words(bars)}`);
      table.hidden = bars.table === false;
      fill();
      draw();
    },
  };
}
