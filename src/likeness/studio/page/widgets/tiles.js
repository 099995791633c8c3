/**
 * A grid of images on one canvas. Around the canvas lies a list box with an option an image, so that keys and
 * screen readers have real elements, and the pointer has the canvas.
 *
 * Keys: arrows move the cursor, Home and End, Enter or Space picks, + and - zoom about the cursor.
 * Pointer: a click picks, the wheel zooms, dragging moves what is zoomed.
 */
import { add, h, styled, token, unique } from "./dom.js";
import { painted } from "./pixels.js";

/**
 * @typedef {{pixels: Uint8Array, n: number, height: number, width: number, channels: number}} Raw
 *   images one after the other, (n, height, width, channels) with 1 or 3 channels
 * @typedef {{names?: string[], columns?: number, tile?: number}} How
 * @typedef {{label: string, columns?: number, tile?: number, gap?: number, many?: boolean, wheel?: boolean,
 *   onPick?: (i: number, e: Event) => void, onCursor?: (i: number) => void}} Options
 */

/** @param {Options} options  tile: CSS pixels a side at most; columns: nearly square unless set */
export function tiles(options) {
  styled();
  const stem = unique("tiles"), gap = options.gap ?? 2;
  const canvas = h("canvas", { "aria-hidden": "true" });
  const list = h("div", { class: "w-unseen" });
  const root = h("div", { class: "w-tiles", role: "listbox", tabindex: 0, "aria-label": options.label, "aria-multiselectable": options.many !== false ? "true" : null }, canvas, list);
  /** @type {HTMLCanvasElement[]} */
  let images = [];
  let columns = 1, rows = 1, side = 32, cursor = 0, version = 0;
  let aspect = 1, most = options.tile ?? 64;
  /** @type {string[]} */
  let names = [];
  /** @type {Map<number, string>} */
  let marks = new Map();
  let view = { scale: 1, x: 0, y: 0 };

  const n = () => images.length;
  const pitch = () => side + gap;
  function layout() {
    const room = root.clientWidth || 320;
    columns = Math.max(1, Math.min(n(), fixed ?? Math.ceil(Math.sqrt(n()))));
    rows = Math.max(1, Math.ceil(n() / columns));
    side = Math.max(8, Math.min(most, Math.floor((room - gap) / columns) - gap));
    const ratio = devicePixelRatio || 1, wide = columns * pitch() + gap, high = rows * (side * aspect + gap) + gap;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    draw();
  }
  /** @type {number | undefined} */
  let fixed = options.columns;

  /** Place of an image in CSS pixels of the canvas, before zooming. @param {number} i */
  const place = (i) => ({ x: gap + (i % columns) * pitch(), y: gap + Math.floor(i / columns) * (side * aspect + gap), w: side, h: side * aspect });

  function draw() {
    const c = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
    if (!c) return;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = token("--tiles", "#808080");
    c.fillRect(0, 0, canvas.width, canvas.height);
    c.imageSmoothingEnabled = false;
    const { scale } = view;
    for (let i = 0; i < n(); i++) {
      const p = place(i), x = (p.x - view.x) * scale, y = (p.y - view.y) * scale;
      c.drawImage(images[i], x, y, p.w * scale, p.h * scale);
      const mark = marks.get(i);
      if (mark === undefined) continue;
      c.lineWidth = 2;
      c.strokeStyle = token("--accent", "#2456A6");
      c.strokeRect(x + 1, y + 1, p.w * scale - 2, p.h * scale - 2);
      if (!mark) continue;
      c.font = "600 11px system-ui, sans-serif";
      const wide = c.measureText(mark).width + 6;
      c.fillStyle = token("--accent", "#2456A6");
      c.fillRect(x, y, wide, 15);
      c.fillStyle = token("--paper", "#FBFAF7");
      c.fillText(mark, x + 3, y + 11);
    }
    if (n() && root.matches(":focus-visible")) ring(c);
  }
  /** The cursor: light in dark, to be seen on any image. @param {CanvasRenderingContext2D} c */
  function ring(c) {
    const p = place(cursor), x = (p.x - view.x) * view.scale, y = (p.y - view.y) * view.scale;
    for (const [wide, colour] of /** @type {[number, string][]} */ ([[5, "#FFFFFF"], [2.5, token("--accent", "#2456A6")]])) {
      c.lineWidth = wide;
      c.strokeStyle = colour;
      c.strokeRect(x, y, p.w * view.scale, p.h * view.scale);
    }
  }

  /** @param {number} i */
  function go(i) {
    cursor = Math.max(0, Math.min(n() - 1, i));
    root.setAttribute("aria-activedescendant", `${stem}-${cursor}`);
    const p = place(cursor), s = view.scale, w = canvas.clientWidth, tall = canvas.clientHeight;
    if (s > 1) look(Math.min(p.x, Math.max(view.x, p.x + p.w - w / s)), Math.min(p.y, Math.max(view.y, p.y + p.h - tall / s)), s);
    draw();
    options.onCursor?.(cursor);
  }
  /** @param {number} x @param {number} y @param {number} scale */
  function look(x, y, scale) {
    const w = canvas.clientWidth, tall = canvas.clientHeight;
    view = { scale, x: Math.max(0, Math.min(w - w / scale, x)), y: Math.max(0, Math.min(tall - tall / scale, y)) };
    draw();
  }
  /** Keep the point (x, y) of the canvas where it is. @param {number} factor @param {number} x @param {number} y */
  function zoom(factor, x, y) {
    const to = Math.max(1, Math.min(16, view.scale * factor));
    look(view.x + x / view.scale - x / to, view.y + y / view.scale - y / to, to);
  }
  /** Which image lies at a place of the canvas, or -1. @param {number} x @param {number} y */
  function hit(x, y) {
    const cx = x / view.scale + view.x - gap, cy = y / view.scale + view.y - gap;
    const column = Math.floor(cx / pitch()), i = Math.floor(cy / (side * aspect + gap)) * columns + column;
    return cx >= 0 && cy >= 0 && column < columns && i < n() ? i : -1;
  }

  root.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const to = { ArrowRight: cursor + 1, ArrowLeft: cursor - 1, ArrowDown: cursor + columns, ArrowUp: cursor - columns, Home: 0, End: n() - 1 }[e.key];
    const p = place(cursor), x = (p.x + p.w / 2 - view.x) * view.scale, y = (p.y + p.h / 2 - view.y) * view.scale;
    if (to !== undefined) {
      if (to >= 0 && to < n()) go(to);
    } else if (e.key === "Enter" || e.key === " ") options.onPick?.(cursor, e);
    else if ((e.key === "+" || e.key === "=") && options.wheel !== false) zoom(1.5, x, y);
    else if (e.key === "-" && options.wheel !== false) zoom(1 / 1.5, x, y);
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  /** @type {{x: number, y: number, moved: boolean} | null} */
  let drag = null;
  canvas.addEventListener("pointerdown", (e) => (drag = { x: e.offsetX, y: e.offsetY, moved: false }));
  canvas.addEventListener("pointermove", (e) => {
    const i = hit(e.offsetX, e.offsetY);
    canvas.title = i < 0 ? "" : names[i] ?? "";
    if (!drag || !e.buttons || view.scale === 1) return;
    drag.moved ||= Math.hypot(e.offsetX - drag.x, e.offsetY - drag.y) > 3;
    if (!drag.moved) return;
    look(view.x - (e.offsetX - drag.x) / view.scale, view.y - (e.offsetY - drag.y) / view.scale, view.scale);
    drag = { x: e.offsetX, y: e.offsetY, moved: true };
  });
  canvas.addEventListener("click", (e) => {
    const i = hit(e.offsetX, e.offsetY);
    if (i >= 0 && !drag?.moved) (go(i), options.onPick?.(i, e));
  });
  canvas.addEventListener("wheel", (e) => {
    if (options.wheel === false || e.ctrlKey) return;
    e.preventDefault();
    zoom(e.deltaY < 0 ? 1.25 : 0.8, e.offsetX, e.offsetY);
  }, { passive: false });
  for (const event of ["focus", "blur"]) root.addEventListener(event, draw);
  new ResizeObserver(layout).observe(root);

  function label() {
    const known = list.children.length;
    for (let i = known; i < n(); i++) add(list, h("div", { role: "option", id: `${stem}-${i}` }));
    while (list.children.length > n()) list.lastElementChild?.remove();
    for (let i = 0; i < n(); i++) {
      const mark = marks.get(i), text = (names[i] ?? `image ${i}`) + (mark ? `, ${mark}` : "");
      if (list.children[i].textContent !== text) list.children[i].textContent = text;
      list.children[i].setAttribute("aria-selected", String(mark !== undefined));
    }
    if (n()) root.setAttribute("aria-activedescendant", `${stem}-${Math.min(cursor, n() - 1)}`);
  }

  return {
    root, canvas, hit, draw,
    get cursor() { return cursor; },
    set cursor(i) { go(i); },
    get length() { return n(); },
    get view() { return view; },
    /** One of the images. @param {number} i */
    image: (i) => images[i],
    /** Show images: raw values, or encoded files (JPEG, PNG) one each. @param {Raw | Uint8Array[]} from @param {How} [how] */
    async set(from, how = {}) {
      const latest = ++version;
      const made = await painted(from);
      if (latest !== version) return;  // a newer one has come
      images = made;
      names = how.names ?? [];
      fixed = how.columns ?? options.columns;
      most = how.tile ?? options.tile ?? 64;
      aspect = made.length ? made[0].height / made[0].width : 1;
      cursor = Math.min(cursor, Math.max(0, n() - 1));
      label();
      layout();
    },
    /** Frame some images, with a word each in the corner. @param {Map<number, string>} to */
    mark(to) { marks = to; label(); draw(); },
    unzoom() { look(0, 0, 1); },
  };
}
