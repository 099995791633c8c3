// @ts-check
// Words: images and clips of a text, by a queue on the server; and Imagic, an image that a text edits.
import { button, field, select } from "../samples/common.js";
import { form } from "../widgets/form.js";
import { add, h } from "../widgets/dom.js";
import { tabs } from "../widgets/tabs.js";
import { edit } from "../words/edit.js";
import { axes } from "../words/axes.js";
import { line } from "../words/line.js";
import { box, glossary } from "../words/prompt.js";
import { result } from "../words/result.js";
import about from "./about/words.js";


/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const screen = { gone: false, end: () => {} };
    root.classList.add("s-screen", "t-words");
    add(root, h("h1", { text: "Words" }));
    void begin(root, studio, screen);
    return () => {
      screen.gone = true;
      root.classList.remove("s-screen", "t-words");
      delete root.dataset.words;
      screen.end();
    };
  },
};

/** @param {HTMLElement} root @param {import("../app.js").Studio} studio @param {{gone: boolean, end: () => void}} screen */
async function begin(root, studio, screen) {
  const run = /** @type {any} */ (studio.run), tab = Math.random().toString(36).slice(2, 10), place = `words/${run.path}`;
  const ask = (/** @type {string} */ method, /** @type {any} */ args = {}, /** @type {any} */ how = {}) =>
    studio.ask("words", method, { ...args, run: run.path }, { ...how, key: how.full ?? `words/${tab}/${how.key ?? method}` });
  const done = studio.busy("opening the run");
  /** @type {any} */
  let info;
  /** @type {any} */
  let kept;
  try {
    [info, kept] = await Promise.all([ask("about"), studio.recall(place)]);
  } catch (error) {
    return screen.gone || studio.fail(error);
  } finally {
    done();
  }
  if (screen.gone || !info) return;
  const texts = Array.isArray(kept?.history) ? kept.history.filter((/** @type {any} */ t) => typeof t === "string") : [];
  /** @type {import("../words/prompt.js").Context} */
  const ctx = { studio, run, info, ask, history: texts.slice(-30) };
  const known = new Set(info.options.map((/** @type {any} */ o) => o.name));
  const state = {
    n: studio.hash.get("n", 4), seed: studio.hash.get("seed", 0), label: studio.hash.get("label", ""), locked: studio.hash.get("locked", false),
    live: Object.fromEntries(Object.entries(studio.hash.get("live", {})).filter(([k]) => known.has(k))),
  };

  const text = box(ctx, { label: "What the image shall show", name: "text", rows: 2, history: true });
  const negative = box(ctx, { label: "What it shall not show (guidance leads away from it)", name: "negative", rows: 1 });
  const many = field("images", state.n, { min: 1, max: 64 }, (v) => studio.hash.set({ n: (state.n = v) }));
  const seed = field("seed", state.seed, { min: 0, max: 2 ** 31 - 1 }, (v) => reseed(v));
  const lock = button("Lock seed", () => hold(!state.locked), "L");
  lock.setAttribute("aria-pressed", String(state.locked));
  const label = info.classes.length ? select("class", [["", "none"], ...info.classes.map((/** @type {string} */ c) => /** @type {[string, string]} */ ([c, c]))], state.label, (v) => studio.hash.set({ label: (state.label = v) })) : null;
  const sentence = h("summary", {});
  const made = form({ options: info.options, values: state.live, onChange: () => {
    state.live = Object.fromEntries(Object.entries(made.values()).filter(([k, v]) => info.options.find((/** @type {any} */ o) => o.name === k)?.default !== v));
    studio.hash.set({ live: state.live });
    told();
  } });
  const grid = axes(ctx, told);
  const go = h("button", { type: "button", class: "primary", text: "Run", title: "Ctrl-Enter", onclick: () => void ordered() });
  const out = result(ctx, { restore });
  const waiting = line(ctx, { onDrawn: (data, arrays) => out.drawn(data, arrays), onEnd: (name, shown) => void out.ended(name, shown) });

  /** The parameters as one sentence, which opens on a click. */
  function told() {
    const values = info.options.map((/** @type {any} */ o) => `${o.name.replaceAll("_", " ")} ${state.live[o.name] ?? o.default}`);
    const over = grid.value().map((g) => g.replace("=", " in "));
    sentence.textContent = [...values.filter((/** @type {string} */ v) => /^(steps|guidance|temperature) /.test(v)), ...over.map((o) => `grid: ${o}`)].join(" · ") || "options of sampling";
  }
  /** @param {number} v */
  function reseed(v) {
    state.seed = v;
    seed.input.value = String(v);
    studio.hash.set({ seed: v });
  }
  /** @param {boolean} on */
  function hold(on) {
    state.locked = on;
    lock.setAttribute("aria-pressed", String(on));
    studio.hash.set({ locked: on });
  }
  async function ordered() {
    const asked = { text: text.value, negative: info.negative ? negative.value : "", n: state.n, seed: state.seed, label: state.label, live: state.live, grid: grid.value() };
    try {
      const answer = await ask("add", asked, { key: `add/${Date.now()}` });
      if (!answer) return;
      studio.fail(null);
      studio.status({ command: answer.command, saved: "" });
      waiting.show(answer.queue);
      studio.say(`${answer.queue.length} in the queue`);
      text.remember();
      studio.keep(place, { history: ctx.history });
      if (!state.locked) reseed(Math.floor(Math.random() * 1e6));
      waiting.work();
    } catch (error) {
      studio.fail(error);
    }
  }
  /** Take over what made a picture. @param {any} args */
  function restore(args) {
    text.value = String(args.text ?? "");
    negative.value = String(args.negative ?? "");
    state.n = Number(args.n ?? 4);
    many.input.value = String(state.n);
    state.label = String(args.label ?? "");
    if (label) label.input.value = state.label;
    reseed(Number(args.seed ?? 0));
    hold(true);
    grid.set(Array.isArray(args.grid) ? args.grid : []);
    state.live = { ...args.live };
    made.set(Object.fromEntries(info.options.map((/** @type {any} */ o) => [o.name, state.live[o.name] ?? o.default])));
    studio.hash.set({ n: state.n, label: state.label, live: state.live });
    told();
    text.focus();
    studio.say("its text, seed and options are back");
  }

  told();
  const draw = h("div", { class: "t-layout" },
    h("div", {}, out.root),
    h("aside", { class: "panel t-queue", "aria-label": "Queue" }, waiting.root));
  const panel = h("div", {},
    text.root, glossary(ctx, text), info.negative ? negative.root : null,
    h("div", { class: "row" }, go, many.root, seed.root, button("New seed", () => state.locked || reseed(Math.floor(Math.random() * 1e6)), "R"), lock, label?.root),
    h("details", { class: "s-options" }, sentence, made.root, grid.root), draw);
  const editor = info.edits ? edit(ctx) : null;
  const views = [{ id: "draw", title: info.frames ? "Clips" : "Images", panel }];
  if (editor) views.push({ id: "edit", title: "Imagic", panel: editor.root });
  const view = tabs({ label: "What the words do", chosen: studio.hash.get("tab", "draw"), tabs: views, onChange: (id) => {
    studio.hash.set({ tab: id });
    if (id === "edit") editor?.load(text.value);
  } });
  add(root, view.root);
  if (!editor) add(root, h("p", { class: "muted small", text: `No editing of an image here: ${info.no_edits}` }));
  const always = studio.keys.add([
    { key: "Ctrl+Enter", label: "run what is typed", run: () => void (view.chosen === "edit" ? editor?.run() : ordered()) },
    { key: "r", label: "new seed", run: () => state.locked || reseed(Math.floor(Math.random() * 1e6)) },
    { key: "l", label: "lock the seed", run: () => hold(!state.locked) },
    ...views.map((v, i) => ({ key: String(i + 1), label: `tab ${v.title}`, run: () => view.at(i) })),
  ]);
  screen.end = () => {
    always();
    waiting.end();
    out.end();
    editor?.end();
  };
  text.look();
  await Promise.all([waiting.begin(), out.gallery()]);
  if (view.chosen === "edit") editor?.load(text.value);
  root.dataset.words = "ready";
}
