// @ts-check
// Imagic in three cards: the embedding, the model, and a strength that is free to move over what they came to.
import { h } from "../widgets/dom.js";
import { slider } from "../widgets/slider.js";
import { button, canvases, dropped, field, shown } from "../samples/common.js";
import { box } from "./prompt.js";

const PARTS = ["the embedding", "the model"];

/** @param {import("./prompt.js").Context} ctx */
export function edit(ctx) {
  const { studio } = ctx;
  const state = { image: studio.hash.get("image", ""), seed: studio.hash.get("seed", 0), embedding: studio.hash.get("embedding", 200), tuning: studio.hash.get("tuning", 400), strength: studio.hash.get("strength", 0.5) };
  let ready = false, version = 0, learning = false;
  const key = `words/learn/${ctx.run.path}`;
  const text = box(ctx, { label: "What your image shall become", name: "text", rows: 2, history: true });
  const file = h("input", { type: "file", accept: "image/*", id: "t-own", onchange: () => file.files?.[0] && void bring(file.files[0]) });
  const before = h("div", {}), after = h("div", {}), says = h("p", { class: "small", role: "status" });
  const cards = PARTS.map((part) => ({ part, bar: h("progress", { max: 1, value: 0, "aria-label": part }), loss: h("p", { class: "small muted w-number", text: "not begun" }) }));
  const seed = field("seed", state.seed, { min: 0, max: 2 ** 31 - 1 }, (v) => changed({ seed: v }));
  const steps = [
    field("steps", state.embedding, { min: 0, max: 10_000 }, (v) => changed({ embedding: v })),
    field("steps", state.tuning, { min: 0, max: 10_000 }, (v) => changed({ tuning: v })),
  ];
  const power = slider({ label: "strength", min: 0, max: 2, step: 0.05, value: state.strength, help: "0 is the image, 1 all that the text says", onInput: (v) => ((state.strength = v), void draw()), onChange: () => studio.hash.set({ strength: state.strength }) });
  const go = button("Learn", () => void learn(), "Ctrl-Enter"), stop = button("Cancel", () => studio.stop(key));
  const save = button("Save this strength", () => void keep([state.strength])), row = button("Save a row of strengths", () => void keep(undefined));
  const well = h("section", { class: "panel s-well", "aria-label": "Your image" }, h("h2", { text: "Your image" }), h("p", { class: "row" }, h("label", { for: "t-own", text: "choose a file, or drop it here:" }), file), before);
  dropped(well, () => {}, (f) => void bring(f));
  const root = h("div", {}, text.root, h("div", { class: "row" }, go, stop, seed.root), says,
    h("div", { class: "columns t-cards" }, well,
      card("1 Embedding", "What the text is to the model comes to draw your image; the model stays.", cards[0], steps[0].root),
      card("2 Fine-tuning", "The model comes to draw your image of that.", cards[1], steps[1].root),
      h("section", { class: "panel", "aria-label": "3 Strength" }, h("h2", { text: "3 Strength" }), power.root, after, h("div", { class: "row" }, save, row))));

  /** @param {string} title @param {string} why @param {typeof cards[0]} one @param {HTMLElement} count */
  function card(title, why, one, count) {
    return h("section", { class: "panel", "aria-label": title }, h("h2", { text: title }), h("p", { class: "small", text: why }), count, one.bar, one.loss);
  }
  const args = () => ({ image: state.image, text: text.value, seed: state.seed, embedding_steps: state.embedding, tuning_steps: state.tuning });
  /** @param {Partial<typeof state>} to */
  function changed(to) {
    Object.assign(state, to);
    studio.hash.set(to);
    void load();
  }
  function marks() {
    power.disable(!ready);
    save.disabled = row.disabled = !ready;
    go.disabled = learning || !state.image;
    stop.disabled = !learning;
  }
  /** Whether all is there already. */
  async function load() {
    marks();
    if (!state.image || learning) return;
    const turn = ++version;
    try {
      const there = await ctx.ask("learnt", args(), { key: "learnt", onValue: async (/** @type {any} */ _, /** @type {any} */ arrays) => mine(arrays.images) });
      if (!there || turn !== version) return;
      ready = there.ready;
      says.textContent = ready ? `Learnt already, and kept in ${there.kept}: move the strength.` : "Press Learn: both steps are kept, and the strength is then free to move.";
      for (const c of cards) [c.bar.value, c.loss.textContent] = ready ? [1, "done"] : [0, "not begun"];
      if (!ready) after.replaceChildren();
      marks();
      if (ready) await draw();
    } catch (error) {
      ready = false;
      marks();
      if (text.value.trim()) studio.fail(error);
    }
  }
  /** @param {any} arr */
  async function mine(arr) {
    if (arr) before.replaceChildren(shown((await canvases(arr))[0], "as the model sees it", 160, "real"));
  }
  /** @param {File} photo */
  async function bring(photo) {
    const done = studio.busy("reading your image");
    try {
      if (photo.size > 32 << 20) throw new Error("An image file of up to 32 MB is wanted.");
      const bytes = new Uint8Array(await photo.arrayBuffer());
      const out = await ctx.ask("own", {}, { key: "own", arrays: { file: bytes }, onValue: async (/** @type {any} */ _, /** @type {any} */ arrays) => mine(arrays.images) });
      if (out) changed({ image: out.image });
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
      file.value = "";
    }
  }
  async function learn() {
    if (learning || !state.image) return studio.say("bring an image first");
    learning = true;
    version++;
    marks();
    says.textContent = "";
    try {
      const out = await ctx.ask("learn", args(), { full: key, onValue: (/** @type {any} */ d) => {
        const at = PARTS.indexOf(d.part);
        if (at < 0) return;
        cards[at].bar.value = d.share;
        cards[at].loss.textContent = `${Math.round(100 * d.share)} %, loss ${d.loss.toFixed(4)}`;
        if (at) cards[0].bar.value = 1;
      } });
      says.textContent = out ? "" : "Cancelled; nothing of it was kept.";
      text.remember();
    } catch (error) {
      studio.fail(error);
    } finally {
      learning = false;
      await load();
    }
  }
  async function draw() {
    if (!ready) return;
    try {
      await ctx.ask("strength", { ...args(), strength: state.strength }, { key: "strength", onValue: async (/** @type {any} */ d, /** @type {any} */ arrays) => {
        after.replaceChildren(shown((await canvases(arrays.images))[0], `strength ${d.strength.toFixed(2)}`, 160));
        root.dataset.strength = String(d.strength);
        studio.status({ command: d.command, saved: "" });
      } });
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @param {number[] | undefined} strengths */
  async function keep(strengths) {
    try {
      const out = await ctx.ask("save_edit", strengths ? { ...args(), strengths } : args());
      if (!out) return;
      studio.status(out);
      studio.say(`saved ${out.saved}`);
    } catch (error) {
      studio.fail(error);
    }
  }
  let timer = 0;
  text.follow(() => {
    clearTimeout(timer);
    timer = setTimeout(load, 500);
  });
  marks();
  return {
    root,
    /** As it is shown; a text that was typed elsewhere is taken over. @param {string} typed */
    load(typed) {
      if (typed && !text.value.trim()) text.value = typed;
      else void text.look();
      void load();
    },
    run: () => void learn(),
    end() { clearTimeout(timer); },
  };
}
