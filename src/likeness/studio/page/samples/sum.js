// @ts-check
// Arithmetic of mean codes: A - B + C, of kept samples and of own photos.
import { h } from "../widgets/dom.js";
import { slider } from "../widgets/slider.js";
import { canvases, dropped, select, shown, spoken, strip } from "./common.js";

const WELLS = /** @type {const} */ (["a", "b", "c"]);
const SIGN = { a: "A: begin with", b: "B: take off", c: "C: add" };

/** @param {import("./common.js").Context} ctx */
export function sum(ctx) {
  const { studio } = ctx;
  let strength = studio.hash.get("strength", 1), version = 0;
  const result = h("div", { class: "row" }), own = h("p", { class: "small", role: "status" });
  const power = slider({ label: "strength of C − B", min: -2, max: 2, step: 0.05, value: strength, onInput: (v) => ((strength = v), void load()), onChange: () => studio.hash.set({ strength }) });
  const file = h("input", { type: "file", accept: "image/*", id: "s-own", onchange: () => file.files?.[0] && void bring(file.files[0], null) });
  const wells = Object.fromEntries(WELLS.map((w) => {
    const images = h("div", {}), mean = h("div", {});
    const chooser = select("add", [], "", (code) => code && put(w, code));
    const root = h("section", { class: "panel s-well", "aria-label": SIGN[w] }, h("h2", { text: SIGN[w] }), images, chooser.root, mean);
    dropped(root, (code) => put(w, code), (f) => void bring(f, w));
    return [w, { root, images, chooser, mean }];
  }));
  const root = h("div", {}, h("div", { class: "columns" }, ...WELLS.map((w) => wells[w].root)), power.root, result,
    h("p", { class: "row" }, h("label", { for: "s-own", text: "Bring a photo of your own (or drop it into A, B or C):" }), file), own);

  /** @param {"a" | "b" | "c"} w @param {string} code */
  function put(w, code) {
    if (ctx.state[w].includes(code) || ctx.state[w].length >= 16) return;
    ctx.state[w].push(code);
    ctx.changed();
    void load();
  }
  function list() {
    for (const w of WELLS) {
      wells[w].images.replaceChildren(strip(ctx, ctx.state[w], "remove", (code) => {
        ctx.state[w] = ctx.state[w].filter((c) => c !== code);
        ctx.changed();
        void load();
      }));
      const free = ctx.state.keepers.filter((c) => !ctx.state[w].includes(c));
      wells[w].chooser.input.replaceChildren(h("option", { value: "", text: free.length ? "a kept image …" : "keep samples first" }), ...free.map((c) => h("option", { value: c, text: spoken(c) })));
      wells[w].chooser.input.setAttribute("aria-label", `add to ${w.toUpperCase()}`);
    }
  }
  async function load() {
    list();
    const turn = ++version;
    if (!ctx.state.a.length) {
      result.replaceChildren(h("p", { class: "muted", text: "Put one or more images into A." }));
      return;
    }
    try {
      await ctx.ask("arithmetic", { codes: ctx.state.a, less: ctx.state.b, plus: ctx.state.c, strength, seed: ctx.seed }, {
        key: "arithmetic",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          for (const w of WELLS) {
            const there = arrays[`mean_${w}`];
            wells[w].mean.replaceChildren(...(there ? [shown((await canvases(there))[0], `mean of ${w.toUpperCase()}`, 96)] : []));
          }
          const [image] = await canvases(arrays.images);
          if (turn < version - 3) return;
          result.replaceChildren(shown(image, `A + ${strength} (C − B)`, 256));
          studio.status({ command: data.command });
        },
      });
    } catch (error) {
      studio.fail(error);
    }
  }
  /** A photo becomes a code. @param {File} photo @param {"a" | "b" | "c" | null} w */
  async function bring(photo, w) {
    const done = studio.busy("looking for the code of your image");
    try {
      const bytes = new Uint8Array(await photo.arrayBuffer());
      await ctx.ask("own", {}, {
        key: "own", arrays: { file: bytes },
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          own.textContent = `${Math.round(100 * data.share)} % of the search for its code`;
          if (!arrays.image) return;
          const [image] = await canvases(arrays.image), [back] = await canvases(arrays.back);
          ctx.images.set(data.code, back);
          own.replaceChildren(shown(image, "your image, as the model sees it", 96, "real"), shown(back, `what its code gives: ${data.error.toFixed(1)} levels away`, 96));
          if (!ctx.state.keepers.includes(data.code)) ctx.state.keepers.push(data.code);
          if (w) put(w, data.code);
          ctx.changed();
          list();
        },
      });
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
      file.value = "";
    }
  }
  ctx.follow(list);
  return { root, load, end() {} };
}
