// @ts-check
// From keeper to keeper: an arc or a line, as a film, written as GIF or APNG.
import { h } from "../widgets/dom.js";
import { film } from "../widgets/film.js";
import { slider } from "../widgets/slider.js";
import { button, canvases, select, spoken, strip, tick } from "./common.js";

/** @param {import("./common.js").Context} ctx */
export function path(ctx) {
  const { studio } = ctx;
  let way = studio.hash.get("way", "arc"), loop = studio.hash.get("loop", false), n = studio.hash.get("frames", 24), seconds = 0.1, version = 0;
  /** @type {HTMLCanvasElement[]} */
  let frames = [];
  const stops = h("div", {}), add = h("div", {}), note = h("p", { class: "muted" });
  const screen = film({ label: "Path", load: (i) => (frames[i] ? Promise.resolve(frames[i]) : Promise.reject(new Error("gone"))), caption: (i) => `frame ${i + 1} of ${frames.length}` });
  screen.canvas.classList.add("s-film");
  const arc = select("between stops", [["arc", "an arc (slerp)"], ["line", "a straight line"]], way, (v) => ((way = v), changed()));
  const round = tick("loop", loop, (v) => ((loop = v), changed()));
  const count = slider({ label: "frames", min: 4, max: 120, step: 1, value: n, onChange: (v) => ((n = v), changed()) });
  const pace = slider({ label: "seconds a frame", min: 0.02, max: 1, step: 0.01, value: seconds, onChange: (v) => (seconds = v) });
  const root = h("div", { class: "with-inspector" }, h("div", {}, h("h2", { text: "Stops" }), stops, note, screen.root),
    h("div", { class: "panel" }, h("h2", { text: "Add a stop" }), add, arc.root, round.root, count.root, pace.root,
      h("div", { class: "row" }, button("Save GIF", () => void save("gif"), "S"), button("Save APNG", () => void save("apng")))));

  function list() {
    stops.replaceChildren(strip(ctx, ctx.state.stops, "remove", (code) => {
      ctx.state.stops.splice(ctx.state.stops.indexOf(code), 1);
      ctx.changed();
      changed();
    }));
    add.replaceChildren(strip(ctx, ctx.state.keepers, "add", (code) => {
      if (ctx.state.stops.length >= 6) return studio.say("a path has up to six stops");
      ctx.state.stops.push(code);
      ctx.changed();
      changed();
    }));
    note.textContent = ctx.state.stops.length >= 2 ? "" : ctx.state.keepers.length ? "Add two to six of the kept samples as stops." : "Keep some samples in the grid first.";
  }
  function changed() {
    studio.hash.set({ way, loop, frames: n });
    list();
    void load();
  }
  const args = () => ({ codes: ctx.state.stops, way, loop, n, seed: ctx.seed, label: ctx.label });
  async function load() {
    list();
    if (ctx.state.stops.length < 2) return screen.set(0);
    const turn = ++version, done = studio.busy("drawing the path");
    try {
      await ctx.ask("path", args(), {
        key: "path",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          const made = await canvases(arrays.images);
          if (turn !== version) return;
          frames = made;
          screen.forget();
          screen.set(frames.length);
          await screen.go(0);
          studio.status({ command: data.command });
          studio.say(`a path of ${frames.length} frames through ${ctx.state.stops.map(spoken).join("; ")}`);
        },
      });
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
    }
  }
  /** @param {string} format */
  async function save(format) {
    const done = studio.busy("writing the film");
    try {
      const out = await ctx.ask("export", { ...args(), format, seconds }, { key: `export/${format}` });
      if (!out) return;
      studio.status(out);
      studio.say(`saved ${out.saved}`);
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
    }
  }
  ctx.follow(list);
  return {
    root, load,
    keys: [
      { key: "i", label: "arc or line", run: () => ((way = way === "arc" ? "line" : "arc"), (arc.input.value = way), changed()) },
      { key: "s", label: "save the path as GIF", run: () => void save("gif") },
      { key: "Space", label: "play or pause", run: () => screen.run(!screen.playing) },
    ],
    end() { screen.stop(); },
  };
}
