// @ts-check
// Samples of a seed: keep, zoom, nearest training image, likelihood.
import { h } from "../widgets/dom.js";
import { raw } from "../widgets/pixels.js";
import { tiles } from "../widgets/tiles.js";
import { button, canvases, select, shown } from "./common.js";

/** @param {import("./common.js").Context} ctx */
export function grid(ctx) {
  const { studio } = ctx;
  let n = studio.hash.get("n", 64), holding = false, version = 0;
  const code = (/** @type {number} */ i) => `${ctx.seed}:${i}`;
  const images = tiles({
    label: "Samples", tile: 64, onPick: (i) => void keep(i), onCursor: (i) => void look(i),
  });
  const page = h("div", {}), large = h("div", {}), near = h("div", {});
  const facts = h("p", { class: "small s-facts", role: "status" }), stale = h("p", { class: "warn small" });
  const progress = h("progress", { max: 1, value: 0, "aria-label": "drawn" });
  const count = select("images", [["16", "16"], ["36", "36"], ["64", "64"], ["144", "144"]], String(n), (v) => {
    n = Number(v);
    studio.hash.set({ n });
    void load();
  });
  const aside = h("div", { class: "panel" }, h("h2", { text: "This sample" }), h("div", { class: "row s-both" }, large, near), facts,
    h("div", { class: "row" }, button("Keep", () => void keep(images.cursor), "K"), button("Nearest training image", () => void nearest(), "N, held"), button("Likelihood", () => void likelihood())));
  const root = h("div", {}, h("div", { class: "row" }, count.root, button("Save the grid", () => void save(), "S"), progress, stale),
    h("div", { class: "with-inspector s-grid" }, h("div", {}, images.root, page), aside));
  if (!ctx.info.tiles) aside.hidden = true;

  const args = () => ({ seed: ctx.seed, label: ctx.label, live: ctx.live });
  async function load() {
    const turn = ++version, done = studio.busy("drawing samples");
    progress.hidden = false;
    try {
      const last = await ctx.ask("grid", { ...args(), n }, {
        key: "grid",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          if (turn !== version) return;
          progress.value = data.share;
          progress.hidden = data.share >= 1;
          studio.status({ command: data.command });
          ctx.info.seen = data.seen;
          stale.textContent = "";
          if (arrays.page) return void page.replaceChildren(pictured(arrays.page.data, arrays.page.mime));
          const names = Array.from({ length: arrays.images.shape[0] }, (_, i) => `sample ${i}`);
          await images.set(raw(arrays.images.data, arrays.images.shape), { names });
          mark();
        },
      });
      if (last && turn === version) {
        studio.say(`${last.drawn} samples of seed ${ctx.seed}`);
        if (ctx.info.tiles) await look(images.cursor);
      }
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
      progress.hidden = true;
    }
  }
  /** @param {Uint8Array} bytes @param {string} mime */
  function pictured(bytes, mime) {
    const img = h("img", { alt: `samples of seed ${ctx.seed}` });
    img.src = URL.createObjectURL(new Blob([/** @type {any} */ (bytes)], { type: mime }));
    img.onload = () => URL.revokeObjectURL(img.src);
    return img;
  }
  function mark() {
    const kept = new Map();
    for (let i = 0; i < images.length; i++) if (ctx.state.keepers.includes(code(i))) kept.set(i, "kept");
    images.mark(kept);
  }
  /** The sample under the cursor, large. @param {number} i */
  async function look(i) {
    const image = images.image(i);
    if (!image) return;
    large.replaceChildren(shown(image, `sample ${i} of seed ${ctx.seed}`, 138));
    facts.textContent = "";
    if (!holding) near.replaceChildren();
  }
  /** @param {number} i */
  async function keep(i) {
    if (!images.length) return;
    const at = ctx.state.keepers.indexOf(code(i));
    if (at >= 0) ctx.state.keepers.splice(at, 1);
    else {
      ctx.state.keepers.push(code(i));
      const image = images.image(i);
      if (image) ctx.images.set(code(i), image);
      try {
        // a key each: of two keepers in a hurry the first must not be replaced by the second
        const done = await ctx.ask("keep", { ...args(), first: i }, { key: `keep/${ctx.seed}/${i}` });
        if (!done) return;
        studio.status(done);
        studio.say(`kept sample ${i}`);
      } catch (error) {
        studio.fail(error);
      }
    }
    mark();
    ctx.changed();
  }
  async function nearest() {
    holding = true;
    const i = images.cursor;
    try {
      await ctx.ask("closest", { ...args(), first: i }, {
        key: "closest",
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          const [there] = await canvases(arrays.image);
          near.replaceChildren(shown(there, `nearest training image: ${data.name}`, 138, "real"));
          facts.textContent = `${data.distance.toFixed(1)} levels (of 255) from the nearest training image, root mean square`;
          studio.status({ command: data.command });
          studio.say(facts.textContent);
        },
      });
    } catch (error) {
      studio.fail(error);
    }
  }
  async function likelihood() {
    const done = studio.busy("scoring");
    try {
      const d = await ctx.ask("likelihood", { ...args(), first: images.cursor }, { key: "likelihood" });
      if (!d) return;
      const rank = d.rank === null || d.rank === undefined ? "" : `, more than ${Math.round(100 * d.rank)} % of ${d.against} held-out images`;
      facts.textContent = d.bits === null ? "no likelihood" : `${d.bits.toFixed(3)} bits/dim${d.of} (${d.kind})${rank}`;
      if (d.command) studio.status({ command: d.command });
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
    }
  }
  async function save() {
    const done = studio.busy("saving");
    try {
      const out = await ctx.ask("save", { ...args(), n }, { key: "save" });
      if (!out) return;
      studio.status(out);
      studio.say(`saved ${out.saved}`);
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
    }
  }
  const release = (/** @type {KeyboardEvent} */ e) => {
    if (e.key !== "n" || !holding) return;
    holding = false;
    near.replaceChildren();
  };
  document.addEventListener("keyup", release);
  const watching = setInterval(() => {
    const now = studio.runs.find((r) => r.path === ctx.run.path)?.seen ?? 0;
    if (ctx.info.seen && now > ctx.info.seen && !stale.textContent)
      stale.replaceChildren(`These weights are of image ${ctx.info.seen.toLocaleString("en-US")}; training has moved on. `, button("Refresh", load));
  }, 2000);
  return {
    root, load, mark,
    keys: [
      { key: "k", label: "keep this sample", run: () => void keep(images.cursor) },
      { key: "n", label: "nearest training image, while held", run: (/** @type {KeyboardEvent} */ e) => { if (!e.repeat) void nearest(); } },
      { key: "s", label: "save the grid", run: () => void save() },
    ],
    end() {
      document.removeEventListener("keyup", release);
      clearInterval(watching);
    },
  };
}
