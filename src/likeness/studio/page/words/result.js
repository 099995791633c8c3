// @ts-check
// What is drawn, large: images in a grid, or a clip as a film with its strip; and the gallery of what was.
import { h } from "../widgets/dom.js";
import { film } from "../widgets/film.js";
import { painted, raw } from "../widgets/pixels.js";
import { slider } from "../widgets/slider.js";
import { tiles } from "../widgets/tiles.js";
import { button, tick } from "../samples/common.js";

/** @param {import("./prompt.js").Context} ctx @param {{restore: (args: any) => void}} how */
export function result(ctx, how) {
  const { studio, info } = ctx, clips = info.frames > 0;
  const says = h("p", { class: "small muted", role: "status", text: "Type a text and press Ctrl-Enter." });
  const progress = h("progress", { max: 1, value: 0, "aria-label": "drawn", hidden: true });
  const images = tiles({ label: clips ? "Clips, first frame" : "Images", tile: 160, onCursor: (i) => clips && void look(i), onPick: (i) => clips && void look(i) });
  const play = clips ? player() : null;
  const kept = h("div", { class: "t-gallery" }), none = h("p", { class: "small muted" });
  const root = h("div", {}, says, progress, images.root, play?.root, h("h2", { text: "Gallery" }), none, kept);
  /** @type {any} */
  let arr = null;
  let count = -1;

  /** @param {any} data @param {any} arrays */
  async function show(data, arrays) {
    if (!arrays.images) {
      says.textContent = data.too_large ? "There are too many pixels for the page; the file has them all." : "";
      return;
    }
    arr = arrays.images;
    const [n, ...shape] = arr.shape, first = clips ? shape.slice(1) : shape, size = shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1), one = size / (clips ? shape[0] : 1);
    const pixels = clips ? firsts(arr.data, n, size, one) : arr.data;
    await images.set(raw(pixels, [n, ...first]), { names: (data.names ?? []).slice(0, n), columns: data.columns > 1 ? Math.min(data.columns, 16) : undefined, tile: n > 16 ? 96 : 160 });
    if (clips) await look(Math.min(images.cursor, n - 1));
  }
  /** @param {Uint8Array} data @param {number} n @param {number} size @param {number} one */
  function firsts(data, n, size, one) {
    const out = new Uint8Array(n * one);
    for (let i = 0; i < n; i++) out.set(data.subarray(i * size, i * size + one), i * one);
    return out;
  }
  /** A clip, frame by frame. @param {number} i */
  async function look(i) {
    if (!arr || !play || i < 0 || i >= arr.shape[0]) return;
    const [, frames, ...shape] = arr.shape, size = frames * shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    await play.set(await painted(raw(arr.data.subarray(i * size, (i + 1) * size), [frames, ...shape])), i);
  }
  /** A value of the queue. @param {any} data @param {any} arrays */
  async function drawn(data, arrays) {
    progress.hidden = data.share >= 1;
    progress.value = data.share;
    const whole = data.share >= 1;
    says.textContent = `${data.text || "no text"}: ${whole ? `${data.n} ${clips ? "clips" : "images"}` : `step ${data.step}`}`;
    await show(data, arrays);
    root.dataset.drawn = whole ? data.name : "";
  }
  async function gallery() {
    try {
      const out = await ctx.ask("gallery");
      if (out) list(out.gallery);
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @param {any[]} all */
  function list(all) {
    count = all.length;
    none.textContent = count ? "" : "Nothing has been drawn here yet.";
    kept.replaceChildren(...all.map((one) => {
      const text = String(one.args.text || "no text"), name = `${text}, seed ${one.args.seed ?? 0}`;
      const img = h("img", { src: one.url, alt: "", loading: "lazy", class: "pixels" });
      return h("figure", { "data-name": one.name },
        h("button", { type: "button", class: "t-thumb", "aria-label": `show ${name}`, title: one.command, onclick: () => void open(one) }, img),
        h("figcaption", { class: "caption" }, h("span", { text: name }), h("span", { class: "row" },
          h("button", { type: "button", class: "plain", text: "Use", "aria-label": `take over ${name}`, onclick: () => how.restore(one.args) }),
          h("button", { type: "button", class: "plain", text: "Delete", "aria-label": `delete ${name}`, onclick: () => void forget(one.name) }))));
    }));
  }
  /** @param {any} one */
  async function open(one) {
    try {
      const data = await ctx.ask("show", { name: one.name }, { key: "show", onValue: async (/** @type {any} */ d, /** @type {any} */ arrays) => {
        await show(d, arrays);
        says.textContent = `${d.args?.text || "no text"}: ${d.n} ${clips ? "clips" : "images"} of seed ${d.args?.seed ?? 0}`;
      } });
      if (data) studio.status({ saved: data.saved, command: data.command });
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @param {string} name */
  async function forget(name) {
    try {
      const out = await ctx.ask("forget", { name });
      if (out) list(out.gallery);
    } catch (error) {
      studio.fail(error);
    }
  }
  /** What was drawn last, as its file has it, where its last value has not come. @param {string} name @param {boolean} shown */
  async function ended(name, shown) {
    await gallery();
    if (!shown) await open({ name });
    progress.hidden = true;
  }
  return { root, drawn, gallery, ended, get count() { return count; }, end() { play?.end(); } };
}

/** A film with its strip of frames, in a loop, at a pace. */
function player() {
  /** @type {HTMLCanvasElement[]} */
  let frames = [];
  let timer = 0, pace = 12;
  const strip = h("div", { class: "s-strip" });
  const screen = film({
    label: "Clip", load: (i) => (frames[i] ? Promise.resolve(frames[i]) : Promise.reject(new Error("gone"))), caption: (i) => `frame ${i + 1} of ${frames.length}`,
    onFrame: (i) => strip.querySelectorAll("button").forEach((b, k) => b.setAttribute("aria-pressed", String(k === i))),
  });
  screen.canvas.classList.add("s-film", "pixels");
  const loop = tick("in a loop", false, (on) => turn(on));
  const speed = slider({ label: "frames per second (on this page; the file has its own)", min: 1, max: 30, step: 1, value: pace, onChange: (v) => ((pace = v), timer && turn(true)) });
  /** Round and round, until it is switched off. @param {boolean} on */
  function turn(on) {
    clearInterval(timer);
    timer = 0;
    screen.run(false);
    if (on && frames.length > 1) timer = setInterval(() => void screen.go((screen.at + 1) % frames.length), 1000 / pace);
  }
  return {
    root: h("div", { class: "t-player" }, screen.root, strip, h("div", { class: "row" }, loop.root), speed.root),
    /** @param {HTMLCanvasElement[]} made @param {number} clip */
    async set(made, clip) {
      frames = made;
      strip.replaceChildren(...made.map((frame, i) => {
        const canvas = h("canvas", { class: "pixels", "aria-hidden": "true", width: frame.width, height: frame.height });
        canvas.getContext("2d")?.drawImage(frame, 0, 0);
        return h("button", { type: "button", class: "s-tile", "aria-label": `clip ${clip + 1}, frame ${i + 1}`, "aria-pressed": "false", onclick: () => (turn(false), (loop.input.checked = false), void screen.go(i)) }, canvas);
      }));
      screen.forget();
      screen.set(frames.length);
      await screen.go(0);
    },
    end() {
      clearInterval(timer);
      screen.stop();
    },
  };
}
