// @ts-check
// Samples and latent space of a run. The tabs are those that its answers allow; no model is known by name.
import { add, h } from "../widgets/dom.js";
import { form } from "../widgets/form.js";
import { tabs } from "../widgets/tabs.js";
import { button, canvases, field, nothing, pictured, restored, select, strip } from "../samples/common.js";
import { grid } from "../samples/grid.js";
import { path } from "../samples/path.js";
import { plane } from "../samples/plane.js";
import { slide } from "../samples/slide.js";
import { sum } from "../samples/sum.js";
import about from "./about/samples.js";

const TABS = /** @type {const} */ ([
  ["grid", "Grid", grid, false], ["plane", "Plane", plane, true], ["slide", "Sliders", slide, true],
  ["path", "Path", path, true], ["sum", "Arithmetic", sum, true],
]);

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const screen = { gone: false, end: () => {} };
    root.classList.add("s-screen");
    add(root, h("h1", { text: "Samples" }));
    void begin(root, studio, screen);
    return () => {
      screen.gone = true;
      root.classList.remove("s-screen");
      delete root.dataset.samples;
      screen.end();
    };
  },
};

/** @param {HTMLElement} root @param {import("../app.js").Studio} studio @param {{gone: boolean, end: () => void}} screen */
async function begin(root, studio, screen) {
  const run = /** @type {any} */ (studio.run), tab = Math.random().toString(36).slice(2, 10), place = `samples/${run.path}`;
  const ask = (/** @type {string} */ method, /** @type {any} */ args, /** @type {any} */ how = {}) =>
    studio.ask("samples", method, { ...args, run: run.path }, { ...how, key: `samples/${tab}/${how.key ?? method}` });
  const done = studio.busy("opening the run");
  /** @type {any} */
  let info;
  /** @type {any} */
  let kept;
  try {
    [info, kept] = await Promise.all([ask("about", {}), studio.recall(place)]);
  } catch (error) {
    return screen.gone || studio.fail(error);
  } finally {
    done();
  }
  if (screen.gone || !info) return;
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {import("../samples/common.js").Context} */
  const ctx = {
    studio, run, info, ask, listeners, state: kept ? restored(kept) : nothing(), seed: studio.hash.get("seed", 0), label: studio.hash.get("label", ""),
    live: studio.hash.get("live", {}), images: new Map(),
    follow: (fn) => void listeners.add(fn),
    changed() {
      studio.keep(place, ctx.state);
      for (const fn of listeners) fn();
    },
    async fetch(codes) {
      const missing = [...new Set(codes)].filter((c) => !ctx.images.has(c));
      if (!missing.length || info.no_codes) return;
      await ask("tiles", { codes: missing, seed: ctx.seed, label: ctx.label }, {
        key: "tiles",
        onValue: async (/** @type {any} */ _, /** @type {any} */ arrays) => {
          if (arrays.images) (await canvases(arrays.images)).forEach((image, i) => ctx.images.set(missing[i], image));
        },
      }).catch(studio.fail.bind(studio));
    },
  };
  Object.assign(ctx.state, restored({ ...ctx.state, ...studio.hash.get("put", {}) }));
  studio.hash.set({ put: null });

  const kinds = TABS.filter(([, , , codes]) => !codes || !info.no_codes).map(([id, title, make]) => ({ id, title, ...make(ctx) }));
  const keepers = h("div", {}), locked = { on: studio.hash.get("locked", false) };
  const seed = field("seed", ctx.seed, { min: 0, max: 2 ** 31 - 1 }, (v) => reseed(v));
  const lock = button("Lock seed", () => hold(!locked.on), "L");
  lock.setAttribute("aria-pressed", String(locked.on));
  const label = info.conditional ? select("class", [["", "all in turns"], ...info.classes.map((/** @type {string} */ c) => /** @type {[string, string]} */ ([c, c]))], ctx.label, (v) => {
    ctx.label = v;
    studio.hash.set({ label: v });
    void here().load();
  }) : null;
  const bar = h("div", { class: "row" }, seed.root, button("New seed", () => locked.on || reseed(Math.floor(Math.random() * 1e6)), "R"), lock, label?.root);
  add(root, bar, live(), keepers);
  let settling = 0;
  const view = tabs({
    label: "Views of the samples", chosen: studio.hash.get("tab", "grid"), tabs: kinds.map((k) => ({ id: k.id, title: k.title, panel: k.root })),
    onChange: (id) => {
      studio.hash.set({ tab: id });
      bind();
      clearTimeout(settling);  // who only passes by asks for nothing
      settling = setTimeout(() => screen.gone || void here().load(), 150);
    },
  });
  if (info.no_codes) add(root, h("p", { class: "muted small", text: `Grid only. ${info.no_codes}` }));
  add(root, view.root);

  const here = () => kinds.find((k) => k.id === view.chosen) ?? kinds[0];
  /** @param {number} v */
  function reseed(v) {
    ctx.seed = v;
    seed.input.value = String(v);
    studio.hash.set({ seed: v });
    void here().load();
  }
  /** @param {boolean} on */
  function hold(on) {
    locked.on = on;
    lock.setAttribute("aria-pressed", String(on));
    studio.hash.set({ locked: on });
  }
  function live() {
    if (!info.options.length) return null;
    const made = form({ options: info.options, values: ctx.live, onChange: () => {
      ctx.live = Object.fromEntries(Object.entries(made.values()).filter(([name, v]) => info.options.find((/** @type {any} */ o) => o.name === name)?.default !== v));
      studio.hash.set({ live: ctx.live });
      void here().load();
    } });
    return h("details", { class: "s-options" }, h("summary", { text: "options of sampling" }), made.root);
  }
  function show() {
    const codes = ctx.state.keepers, there = /** @type {HTMLElement[]} */ ([...keepers.querySelectorAll("[data-code]")]);
    const same = there.map((one) => one.dataset.code).join("\n") === codes.join("\n");
    // what is there stays there: one of them may be under way to a well
    if (same) for (const one of there) pictured(/** @type {HTMLCanvasElement} */ (one.firstElementChild), ctx.images.get(one.dataset.code ?? ""));
    else keepers.replaceChildren(...(codes.length ? [h("h2", { text: `Kept: ${codes.length}` }), strip(ctx, codes, "put back", (code) => {
      ctx.state.keepers = codes.filter((c) => c !== code);
      ctx.changed();
    })] : []));
    for (const k of kinds) if ("mark" in k) /** @type {any} */ (k).mark();
  }
  ctx.follow(show);
  let unbind = () => {};
  function bind() {
    unbind();
    unbind = studio.keys.add(/** @type {any} */ (here()).keys ?? []);
  }
  const always = studio.keys.add([
    { key: "r", label: "new seed", run: () => locked.on || reseed(Math.floor(Math.random() * 1e6)) },
    { key: "l", label: "lock the seed", run: () => hold(!locked.on) },
    ...kinds.map((k, i) => ({ key: String(i + 1), label: `tab ${k.title}`, run: () => view.at(i) })),
  ]);
  screen.end = () => {
    unbind();
    always();
    for (const k of kinds) k.end();
  };
  bind();
  await ctx.fetch([...ctx.state.keepers, ...ctx.state.stops, ...ctx.state.a, ...ctx.state.b, ...ctx.state.c]);
  for (const fn of listeners) fn();
  if (!screen.gone) await here().load();
  root.dataset.samples = "ready";
}
