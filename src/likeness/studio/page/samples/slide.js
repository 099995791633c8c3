// @ts-check
// Sliders along the directions in which codes differ most, in standard deviations; a sum of them can have a name.
import { h } from "../widgets/dom.js";
import { slider } from "../widgets/slider.js";
import { button, canvases, select, shown, spoken, tick } from "./common.js";

const FIRST = 8;

/** @param {import("./common.js").Context} ctx */
export function slide(ctx) {
  const { studio } = ctx;
  let base = studio.hash.get("base", "0"), ready = false, all = false, version = 0, saving = 0;
  /** @type {Record<string, number>} */
  let along = studio.hash.get("along", {});
  /** @type {{sigmas: number[], named: string[]}} */
  let known = { sigmas: [], named: [] };
  const list = h("div", {}), pictures = h("div", { class: "row s-pictures" });
  const name = h("input", { type: "text", maxlength: 60, "aria-label": "name of the direction", placeholder: "name" });
  const choose = select("start", [], base, (v) => {
    base = v;
    changed();
  });
  const root = h("div", { class: "with-inspector" }, h("div", {}, h("div", { class: "row" }, choose.root, button("Reset", reset), button("By chance", chance)), pictures),
    h("div", { class: "panel" }, h("h2", { text: "Directions, most important first" }), list,
      h("form", { class: "row", onsubmit: (/** @type {Event} */ e) => (e.preventDefault(), void save()) }, name, h("button", { text: "Save direction" }))));
  /** @type {Map<string, ReturnType<typeof slider>>} */
  const sliders = new Map();
  const locked = (/** @type {string} */ key) => ctx.state.locks.includes(key);

  function build() {
    sliders.clear();
    const keys = [...known.named, ...known.sigmas.slice(0, all ? 99 : FIRST).map((_, i) => String(i + 1))];
    list.replaceChildren(...keys.map((key) => {
      const numbered = /^\d+$/.test(key);
      const one = slider({
        label: numbered ? `direction ${key}` : key, min: -4, max: 4, step: 0.05, value: 0, unit: "σ",
        onInput: (v) => ((along[key] = v), changed()),
      });
      one.value = along[key] ?? 0;
      sliders.set(key, one);
      const lock = tick("lock", locked(key), (on) => {
        ctx.state.locks = ctx.state.locks.filter((k) => k !== key).concat(on ? [key] : []);
        one.disable(on);
        ctx.changed();
      });
      lock.input.setAttribute("aria-label", `lock ${numbered ? `direction ${key}` : key}`);
      one.disable(locked(key));
      const forget = numbered ? null : button("Forget", () => void drop(key));
      return h("div", { class: "s-direction" }, one.root, h("div", { class: "row" }, lock.root, forget));
    }));
    if (!all && known.sigmas.length > FIRST) list.append(button(`${known.sigmas.length - FIRST} more`, () => ((all = true), build())));
  }
  function starts() {
    const codes = [...new Set(["0", base, ...ctx.state.keepers])];
    choose.input.replaceChildren(...codes.map((c) => h("option", { value: c, text: spoken(c) })));
    choose.input.value = base;
  }
  function changed() {
    clearTimeout(saving);
    saving = setTimeout(() => studio.hash.set({ base, along: moved() }), 200);
    void draw();
  }
  const moved = () => Object.fromEntries(Object.entries(along).filter(([, v]) => v));
  function reset() {
    for (const key of Object.keys(along)) if (!locked(key)) along[key] = 0;
    put();
  }
  function chance() {
    for (const key of sliders.keys()) if (!locked(key) && /^\d+$/.test(key)) along[key] = Math.round(40 * (Math.random() + Math.random() + Math.random() - 1.5)) / 20;
    put();
  }
  function put() {
    for (const [key, one] of sliders) one.value = along[key] ?? 0;
    changed();
  }
  async function draw() {
    const turn = ++version;
    try {
      await ctx.ask("slide", { codes: [base], along: moved(), seed: ctx.seed, label: ctx.label }, {
        key: "slide",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          const [[start], [now]] = await Promise.all([canvases(arrays.start), canvases(arrays.images)]);
          if (turn < version - 3) return;
          pictures.replaceChildren(shown(start, `start: ${spoken(base)}`, 192), shown(now, "moved", 320));
          pictures.dataset.along = JSON.stringify(moved());
          studio.status({ command: data.command });
        },
      });
    } catch (error) {
      studio.fail(error);
    }
  }
  async function save() {
    try {
      const out = await ctx.ask("name_direction", { name: name.value, along: moved() }, { key: "direction" });
      if (!out) return;
      known.named = out.named;
      name.value = "";
      build();
      studio.status({ saved: out.saved });
      studio.say(`saved ${out.saved}`);
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @param {string} key */
  async function drop(key) {
    try {
      const out = await ctx.ask("forget_direction", { name: key }, { key: "direction" });
      if (!out) return;
      known.named = out.named;
      delete along[key];
      build();
      changed();
    } catch (error) {
      studio.fail(error);
    }
  }
  ctx.follow(starts);
  return {
    root,
    async load() {
      starts();
      if (!ready) {
        const done = studio.busy("looking for directions");
        try {
          const out = await ctx.ask("directions", {}, { key: "directions" });
          if (!out) return;
          known = out;
          ready = true;
          build();
        } catch (error) {
          return studio.fail(error);
        } finally {
          done();
        }
      }
      await draw();
    },
    end() {},
  };
}
