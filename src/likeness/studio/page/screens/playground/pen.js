// @ts-check
// Points of one's own: ink drawn with a pen, or by arrow keys and Enter, or a picture whose dark places hold many.

import { h } from "../../widgets/dom.js";

const SIDE = 128, WIDTH = 9, STEP = 4;

/** @param {(ink: Uint8Array, side: number) => void} use @param {(text: string) => void} say */
export function pen(use, say) {
  const canvas = h("canvas", {
    class: "pg-pen", width: SIDE, height: SIDE, tabindex: 0, role: "application", "data-arrows": true,
    "aria-label": "Drawing: arrow keys move the pen, Enter puts ink there",
  });
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  let at = [SIDE / 2, SIDE / 2], down = false;
  const clear = () => ((c.fillStyle = "#fff"), c.fillRect(0, 0, SIDE, SIDE));
  /** @param {number[]} to */
  function line(to) {
    c.strokeStyle = "#000";
    c.lineWidth = WIDTH;
    c.lineCap = "round";
    c.beginPath();
    c.moveTo(at[0], at[1]);
    c.lineTo(to[0] + 0.01, to[1]);
    c.stroke();
    at = to;
  }
  const place = (/** @type {PointerEvent} */ e) => [(e.offsetX / canvas.clientWidth) * SIDE, (e.offsetY / canvas.clientHeight) * SIDE];
  canvas.addEventListener("pointerdown", (e) => (canvas.setPointerCapture(e.pointerId), (down = true), (at = place(e)), line(at)));
  canvas.addEventListener("pointermove", (e) => down && line(place(e)));
  canvas.addEventListener("pointerup", () => (down = false));
  canvas.addEventListener("keydown", (e) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (!way && e.key !== "Enter") return;
    e.preventDefault();
    e.stopPropagation();
    if (!way) return line(at), say(`ink at ${Math.round(at[0])}, ${Math.round(at[1])}`);
    const to = [0, 1].map((i) => Math.max(0, Math.min(SIDE - 1, at[i] + way[i] * STEP)));
    if (e.shiftKey) line(to);
    else (at = to), say(`pen at ${to.map(Math.round).join(", ")}`);
  });
  const file = h("input", { type: "file", accept: "image/*", id: "pg-density" });
  file.addEventListener("change", async () => {
    const picture = file.files?.[0] && (await createImageBitmap(file.files[0]).catch(() => null));
    if (!picture) return;
    clear();
    const by = SIDE / Math.max(picture.width, picture.height);
    c.drawImage(picture, (SIDE - by * picture.width) / 2, (SIDE - by * picture.height) / 2, by * picture.width, by * picture.height);
    done();
  });
  function done() {
    const { data } = c.getImageData(0, 0, SIDE, SIDE), ink = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < ink.length; i++) ink[i] = 255 - Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
    use(ink, SIDE);
  }
  const root = h("div", { class: "pg-drawing", hidden: true }, canvas,
    h("p", { class: "caption", text: "Draw with the pointer; or by keys: arrows move the pen, Enter puts ink, Shift with an arrow draws." }),
    h("div", { class: "row" }, h("button", { type: "button", class: "primary", text: "Train on it", onclick: done }), h("button", { type: "button", text: "Clear", onclick: clear })),
    h("label", { for: file.id, text: "or a picture, dense where it is dark" }), file);
  clear();
  return { root };
}
