// @ts-check
// The endless plane: whole places are samples; or the plane of a code of two numbers, with the data over it.
import { h, palette, sharp, token } from "../widgets/dom.js";
import { short } from "../widgets/numbers.js";
import { button, canvases, field, select, tick } from "./common.js";

/** @param {import("./common.js").Context} ctx */
export function plane(ctx) {
  const { studio } = ctx, flat = ctx.info.flat;
  let x = studio.hash.get("x", 0), y = studio.hash.get("y", 0), step = studio.hash.get("step", flat ? 0.5 : 0.5), n = studio.hash.get("side", 5);
  /** @type {{x: number, y: number, step: number, n: number, images: HTMLCanvasElement[]} | null} */
  let drawn = null;
  /** @type {{places: Float32Array, labels: Int32Array, classes: string[], real: boolean} | null} */
  let atlas = null;
  let dots = true, version = 0, saving = 0;
  const canvas = h("canvas", { role: "img", tabindex: 0, class: "s-plane", "data-arrows": true, "aria-label": "Plane of codes. Arrow keys pan, plus and minus zoom." });
  const says = h("p", { class: "caption" }), legend = h("ul", { class: "w-legend" });
  const fx = field("x", x, { step: "any" }, (v) => go(v, y, step)), fy = field("y", y, { step: "any" }, (v) => go(x, v, step));
  const fs = field("distance of images", step, { min: 0.0001, max: 100, step: "any" }, (v) => go(x, y, v));
  const side = select("images", [3, 5, 7, 9].map((k) => /** @type {[string, string]} */ ([String(k), `${k} × ${k}`])), String(n), (v) => {
    n = Number(v);
    go(x, y, step);
  });
  const over = tick("data points", true, (v) => ((dots = v), draw()));
  over.root.hidden = !flat;
  const root = h("div", {}, h("div", { class: "row" }, fx.root, fy.root, fs.root, side.root, over.root, button("Middle", () => go(0, 0, step))), canvas, says, legend);

  const across = () => (canvas.clientWidth || 400) / n;
  const draw = sharp(canvas, 480, (c, width, height) => {
    const tile = width / n, scale = tile / step;  // pixels a unit
    c.fillStyle = token("--grey", "#808080");
    c.fillRect(0, 0, width, height);
    c.imageSmoothingEnabled = false;
    const middle = [width / 2, height / 2];
    if (drawn) {
      const size = tile * (drawn.step / step);
      drawn.images.forEach((image, i) => {
        if (!drawn) return;
        const half = (drawn.n - 1) / 2, px = drawn.x + drawn.step * ((i % drawn.n) - half), py = drawn.y - drawn.step * (Math.floor(i / drawn.n) - half);
        c.drawImage(image, middle[0] + (px - x) * scale - size / 2 + 1, middle[1] - (py - y) * scale - size / 2 + 1, size - 2, size - 2);
      });
    }
    if (flat && dots && atlas) {
      const { places, labels } = atlas, colours = palette();
      for (let i = 0; i < labels.length; i++) {
        const px = middle[0] + (places[2 * i] - x) * scale, py = middle[1] - (places[2 * i + 1] - y) * scale;
        if (px < 0 || py < 0 || px > width || py > height) continue;
        c.fillStyle = labels[i] < 0 ? token("--real", "#1A66A8") : colours[labels[i] % colours.length];
        c.strokeStyle = "#fff";
        c.lineWidth = 0.5;
        c.beginPath();
        c.arc(px, py, 2.5, 0, 7);
        c.fill();
        c.stroke();
      }
    }
  });
  const fit = () => {
    const high = Math.max(200, Math.min(canvas.clientWidth, 520));
    canvas.style.height = `${high}px`;
  };
  /** @param {number} nx @param {number} ny @param {number} nstep */
  function go(nx, ny, nstep) {
    const far = 1e6;
    [x, y] = [nx, ny].map((v) => Math.max(-far, Math.min(far, Number(v.toPrecision(6)))));
    step = Math.max(1e-4, Math.min(100, Number(nstep.toPrecision(4))));
    fx.input.value = String(x);
    fy.input.value = String(y);
    fs.input.value = String(step);
    clearTimeout(saving);
    saving = setTimeout(() => studio.hash.set({ x, y, step, side: n }), 200);
    draw();
    void load();
  }
  async function load() {
    const turn = ++version, asked = { x, y, step, n };
    try {
      await ctx.ask("plane", { ...asked, seed: ctx.seed, label: ctx.label }, {
        key: "plane",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          const images = await canvases(arrays.images);
          if (turn !== version && !drag) return;
          drawn = { ...asked, images };
          canvas.dataset.drawn = `${asked.x},${asked.y},${asked.step},${asked.n}`;
          draw();
          says.textContent = `${n} × ${n} images about ${short(x)}, ${short(y)}, ${short(step)} apart${flat ? "; dots are codes of training images" : `; whole places are samples of seed ${ctx.seed}`}`;
          studio.status({ command: data.command });
        },
      });
      if (turn === version) studio.say(says.textContent ?? "");
    } catch (error) {
      studio.fail(error);
    }
  }
  async function places() {
    try {
      await ctx.ask("atlas", {}, {
        key: "atlas",
        onValue: (/** @type {any} */ data, /** @type {any} */ arrays) => {
          atlas = { places: arrays.places.data, labels: arrays.labels.data, classes: data.classes, real: data.real };
          const colours = palette(), there = new Set(atlas.labels);
          legend.replaceChildren(...data.classes.flatMap((/** @type {string} */ name, /** @type {number} */ i) => {
            if (!there.has(i)) return [];
            const key = h("span", { class: "s-dot", "aria-hidden": "true" });
            key.style.background = colours[i % colours.length];
            return [h("li", {}, key, name)];
          }));
          draw();
        },
      });
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @type {{x: number, y: number, px: number, py: number} | null} */
  let drag = null;
  canvas.addEventListener("pointerdown", (e) => {
    drag = { x, y, px: e.clientX, py: e.clientY };
    canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", (e) => {
    if (drag) go(drag.x - ((e.clientX - drag.px) * step) / across(), drag.y + ((e.clientY - drag.py) * step) / across(), step);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drag = null));
  canvas.addEventListener("wheel", (e) => {
    if (e.ctrlKey) return;
    e.preventDefault();
    go(x, y, step * (e.deltaY > 0 ? 1.15 : 1 / 1.15));
  }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const far = step * (e.shiftKey ? 10 : 1);
    const way = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] })[e.key];
    if (way) go(x + way[0], y + way[1], step);
    else if (e.key === "+" || e.key === "=") go(x, y, step / 1.25);
    else if (e.key === "-") go(x, y, step * 1.25);
    else if (e.key === "Home") go(0, 0, step);
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  new ResizeObserver(fit).observe(root);
  return { root, load: () => (flat && !atlas ? Promise.all([load(), places()]) : load()), end() {} };
}
