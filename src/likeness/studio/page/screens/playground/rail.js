// @ts-check
// The model as five small cards, from noise to verdict, each with a live miniature.

import { h } from "../../widgets/dom.js";
import { inks, percent, rgb } from "./plot.js";

const SIDE = 64;
const CARDS = [
  ["noise", "z, noise"], ["g", "G"], ["fake", "fake"], ["d", "D"], ["verdict", "verdict"],
];

/** The same noise in every frame: a spiral with the spacing of a Gaussian. @returns {number[][]} */
function noise() {
  return Array.from({ length: 120 }, (_, i) => {
    const r = Math.sqrt(-2 * Math.log(1 - (i + 0.5) / 120)), a = i * 2.39996;
    return [r * Math.cos(a), r * Math.sin(a)];
  });
}

export function rail() {
  const root = h("ol", { class: "pg-rail", "aria-label": "The model, from noise to verdict" });
  const cards = CARDS.map(([id, title]) => {
    const canvas = h("canvas", { class: "pg-mini", "aria-hidden": "true", width: 2 * SIDE, height: 2 * SIDE });
    const note = h("span", { class: "caption", text: "" });
    const item = h("li", { class: "pg-card", "data-card": id }, h("strong", { text: title }), canvas, note);
    root.append(item);
    return { id, canvas, note, item };
  });

  /** @param {any} m @param {import("../../wire.js").Arrays} arrays @param {number} reach @param {any} about */
  function draw(m, arrays, reach, about) {
    const colours = inks(), fake = arrays["a.fake"], heat = arrays["a.heat"], mesh = arrays["a.warp"];
    for (const { id, canvas, note, item } of cards) {
      item.hidden = m.theta !== undefined || (["d", "verdict"].includes(id) && m.d_real === undefined);
      if (item.hidden || !fake) continue;
      const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      c.setTransform(2, 0, 0, 2, 0, 0);
      c.clearRect(0, 0, SIDE, SIDE);
      const at = (/** @type {number} */ x, /** @type {number} */ y, far = reach) => [(x / far + 1) * SIDE / 2, (1 - y / far) * SIDE / 2];
      if (id === "noise") dots(c, noise().map(([x, y]) => at(x, y, 3.2)), colours.muted), (note.textContent = "N(0, I)");
      if (id === "g") {
        note.textContent = `${about?.weights?.toLocaleString("en-US") ?? ""} weights`;
        if (mesh) lines(c, mesh, at, colours.generated);
        else arrow(c, colours.muted);
      }
      if (id === "fake") {
        const p = fake.data, some = Array.from({ length: 128 }, (_, i) => at(p[2 * i], p[2 * i + 1]));
        dots(c, some, colours.generated);
        note.textContent = `n = ${p.length / 2}`;
      }
      if (id === "d") (heat ? tint(c, heat.data, colours) : arrow(c, colours.muted)), (note.textContent = "real or not");
      if (id === "verdict") {
        bars(c, [[m.d_real, colours.real], [m.d_fake, colours.generated]]);
        note.textContent = `right: ${percent(m.d_real)}, ${percent(m.d_fake)}`;
      }
    }
  }
  return { root, draw };
}

/** @param {CanvasRenderingContext2D} c @param {number[][]} at @param {string} ink */
function dots(c, at, ink) {
  c.fillStyle = ink;
  for (const [x, y] of at) c.fillRect(x - 0.75, y - 0.75, 1.5, 1.5);
}
/** @param {CanvasRenderingContext2D} c @param {import("../../wire.js").Arr} mesh @param {(x: number, y: number) => number[]} at @param {string} ink */
function lines(c, mesh, at, ink) {
  const n = mesh.shape[0], p = mesh.data;
  c.strokeStyle = ink;
  c.lineWidth = 0.6;
  c.beginPath();
  for (let i = 0; i < n; i += 2) for (const [a, b] of [[n, 1], [1, n]]) for (let j = 0; j < n; j++) {
    const k = 2 * (a * i + b * j), [x, y] = at(p[k], p[k + 1]);
    if (j) c.lineTo(x, y);
    else c.moveTo(x, y);
  }
  c.stroke();
}
/** @param {CanvasRenderingContext2D} c @param {string} ink */
function arrow(c, ink) {
  c.strokeStyle = ink;
  c.lineWidth = 1.5;
  c.beginPath();
  c.moveTo(14, 32), c.lineTo(50, 32), c.lineTo(43, 26), c.moveTo(50, 32), c.lineTo(43, 38);
  c.stroke();
}
/** @param {CanvasRenderingContext2D} c @param {ArrayLike<number>} heat @param {Record<string, string>} colours */
function tint(c, heat, colours) {
  const real = rgb(colours.real), fake = rgb(colours.generated), cell = SIDE / 16;
  for (let r = 0; r < 16; r++) for (let k = 0; k < 16; k++) {
    const away = 2 * heat[3 * r * 48 + 3 * k] - 1;
    c.fillStyle = `rgb(${(away > 0 ? real : fake).join(" ")} / ${Math.abs(away) * 0.7})`;
    c.fillRect(k * cell, r * cell, cell, cell);
  }
}
/** @param {CanvasRenderingContext2D} c @param {[number, string][]} values */
function bars(c, values) {
  values.forEach(([v, ink], i) => {
    c.fillStyle = ink;
    c.fillRect(14 + 22 * i, SIDE - 4 - v * (SIDE - 8), 14, v * (SIDE - 8));
    c.strokeStyle = ink;
    c.lineWidth = 0.7;
    c.strokeRect(14 + 22 * i, 4, 14, SIDE - 8);
  });
}
