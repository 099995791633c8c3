// @ts-check
// Photos through a run from image to image, or in the style of paintings: what is put in, the queue, and before and after.
import { add, h } from "../widgets/dom.js";
import { film } from "../widgets/film.js";
import { slider } from "../widgets/slider.js";
import { tabs } from "../widgets/tabs.js";
import { tiles } from "../widgets/tiles.js";
import { raw } from "../widgets/pixels.js";
import { button, canvases, field, select, tick } from "../samples/common.js";
import { photos } from "../translate/photos.js";
import { figures, viewer } from "../translate/view.js";
import about, { able, STYLE } from "./about/translate.js";


/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const screen = { gone: false, end: () => {} };
    root.classList.add("t-screen");
    const href = new URL("../translate/translate.css", import.meta.url).href;
    if (![...document.querySelectorAll("link[rel=stylesheet]")].some((l) => /** @type {HTMLLinkElement} */ (l).href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
    add(root, h("h1", { text: "Translate" }));
    void begin(root, studio, screen);
    return () => {
      screen.gone = true;
      root.classList.remove("t-screen");
      delete root.dataset.translate;
      screen.end();
    };
  },
};

/** @param {HTMLElement} root @param {import("../app.js").Studio} studio @param {{gone: boolean, end: () => void}} screen */
async function begin(root, studio, screen) {
  const tab = Math.random().toString(36).slice(2, 10);
  const ask = (/** @type {string} */ method, /** @type {any} */ args, /** @type {any} */ how = {}) => studio.ask("translate", method, args, { ...how, key: how.shared ?? `translate/${tab}/${how.key ?? method}` });
  const ctx = { studio, ask };
  /** @type {any} */
  const state = { photos: [], content: [], paintings: [], ...((await studio.recall("translate")) ?? {}) };
  if (screen.gone) return;
  const remember = () => studio.keep("translate", { photos: sent.all, content: content.all, paintings: paintings.all });
  const list = (/** @type {any} */ v) => (Array.isArray(v) ? v.filter((o) => o && typeof o.photo === "string" && typeof o.name === "string") : []);

  // Translate

  const asked = { run: studio.run && able(studio.run) ? studio.run.path : "", back: false, size: 0, seed: 0, format: "png", ...studio.hash.get("asked", {}) };
  const sent = photos(ctx, { label: "Photos to translate", most: 500, place: "bring", chosen: [], onChange: remember });
  const runs = select("model", [], "", (path) => ((asked.run = path), void describe()));
  const facts = h("p", { class: "small muted", role: "status" });
  const back = tick("from B to A", asked.back, (on) => keepAsked({ back: on }));
  const size = field("short side in pixels first (0: as it is)", asked.size, { min: 0, max: 4096 }, (v) => keepAsked({ size: v }));
  const seed = field("seed", asked.seed, { min: 0, max: 2 ** 31 - 1 }, (v) => keepAsked({ seed: v }));
  const format = select("files", [["png", "PNG"], ["same", "as the photo"], ["jpg", "JPEG"], ["webp", "WebP"]], asked.format, (v) => keepAsked({ format: v }));
  const go = button("Translate them", () => void order("translate", { ...asked, photos: sent.all }));
  go.classList.add("primary");
  const first = h("div", {}, sent.root, h("div", { class: "row" }, runs.root, back.root, size.root, seed.root, format.root), facts, h("p", {}, go));
  /** @param {any} to */
  function keepAsked(to) {
    Object.assign(asked, to);
    studio.hash.set({ asked: { back: asked.back, size: asked.size, seed: asked.seed, format: asked.format } });
  }
  function listRuns() {
    const there = studio.runs.filter(able);
    const names = there.map((r) => r.path).join("\n");
    if (runs.input.dataset.names === names) return;
    runs.input.dataset.names = names;
    if (!there.some((r) => r.path === asked.run)) asked.run = there[0]?.path ?? "";
    runs.input.replaceChildren(...there.map((r) => h("option", { value: r.path, text: r.path })));
    runs.input.value = asked.run;
    go.disabled = !there.length;
    facts.textContent = there.length ? "" : "No run here translates. Train pix2pix, cyclegan, superres or faststyle first.";
    how.input.replaceChildren(...ways().map(([value, text]) => h("option", { value, text })));
    how.input.value = setting.arbitrary;
    void describe();
  }
  async function describe() {
    if (!asked.run) return;
    try {
      const info = await ask("about", { run: asked.run });
      if (screen.gone || !info) return;
      back.input.disabled = !info.back;
      if (!info.back) back.input.checked = asked.back = false;
      seed.root.hidden = !info.draws;
      facts.textContent = [`${info.model}, ${info.seen.toLocaleString("en")} images seen`, info.task && `task ${info.task}`, info.scale > 1 ? `enlarges ${info.scale} times` : "", info.back ? "both ways" : ""].filter(Boolean).join(" · ");
    } catch (error) {
      studio.fail(error);
    }
  }

  // Style

  /** @type {any} */
  const setting = { ...STYLE, ...studio.hash.get("style", {}) };
  const content = photos(ctx, { label: "Photos", most: 500, place: "content", chosen: [], onChange: remember });
  const paintings = photos(ctx, { label: "Paintings, one to four", most: 4, place: "paintings", chosen: [], onChange: remember });
  const ways = () => /** @type {[string, string][]} */ ([["", "optimisation (Gatys)"], ["adain", "at once: AdaIN"], ["wct", "at once: WCT"], ...studio.runs.filter((r) => r.answers.includes("stylise")).map((r) => [r.path, `at once: run ${r.path}`])]);
  const how = select("by", ways(), setting.arbitrary, (v) => (keepStyle({ arbitrary: v }), idle()));
  const weight = slider({ label: "content weight", min: 0.001, max: 1, log: true, value: setting.content_weight, onChange: (v) => keepStyle({ content_weight: v }) });
  const strokes = slider({ label: "width of strokes", min: 0.25, max: 4, log: true, value: setting.strokes, onChange: (v) => keepStyle({ strokes: v }) });
  const strength = slider({ label: "strength", min: 0, max: 1, step: 0.05, value: setting.strength, onChange: (v) => keepStyle({ strength: v }) });
  const long = field("long side in pixels", setting.size, { min: 32, max: 2048 }, (v) => keepStyle({ size: v }));
  const steps = field("steps a size", setting.steps, { min: 1, max: 1000 }, (v) => keepStyle({ steps: v }));
  const colours = select("colours", [["style", "of the painting"], ["luminance", "of the photo"], ["histogram", "painting's, fitted"]], setting.colour, (v) => keepStyle({ colour: v }));
  const network = select("network", [["vgg16", "VGG16"], ["vgg19", "VGG19"]], setting.network, (v) => keepStyle({ network: v }));
  const weights = select("its weights", [["", "published"], ["none", "random"]], setting.weights, (v) => keepStyle({ weights: v }));
  const nine = button("Sheet of nine", () => void order("styled", { ...setting, photos: content.all.slice(0, 1), paintings: paintings.all, sheet: true }));
  const paint = button("Paint them", () => void order("styled", { ...setting, photos: content.all, paintings: paintings.all }));
  paint.classList.add("primary");
  const walked = h("div", {}, h("div", { class: "columns" }, weight.root, strokes.root), h("div", { class: "row" }, steps.root, network.root, weights.root, nine));
  const sheet = h("section", { class: "panel", hidden: true, "aria-label": "Sheet of weights" });
  const cells = tiles({ label: "Nine settings: Enter takes one", tile: 120, columns: 3, many: false, wheel: false, onPick: (i) => pick(i) });
  /** @type {any[]} */
  let offered = [];
  const taken = h("p", { class: "small", role: "status" });
  add(sheet, h("h2", { text: "Content weight to the right, strokes downwards: choose one" }), cells.root, taken);
  const second = h("div", {}, content.root, paintings.root, h("div", { class: "row" }, how.root, long.root, colours.root), walked, strength.root, sheet, h("p", {}, paint));
  /** @param {any} to */
  function keepStyle(to) {
    Object.assign(setting, to);
    studio.hash.set({ style: setting });
  }
  function idle() {
    walked.hidden = Boolean(setting.arbitrary);
    strength.root.hidden = !setting.arbitrary;
  }
  /** A cell of the sheet becomes the setting. @param {number} i */
  function pick(i) {
    const one = offered[i];
    if (!one) return;
    keepStyle(one);
    weight.value = one.content_weight;
    strokes.value = one.strokes;
    cells.mark(new Map([[i, "chosen"]]));
    taken.textContent = `content weight ${one.content_weight}, strokes ${one.strokes}: as set above`;
  }
  idle();

  // Queue and results

  const queued = h("section", { class: "panel", "aria-label": "Queue" }, h("h2", { text: "Queue" }), h("p", { class: "muted small", text: "reading what there is" })), strip = h("div", { class: "t-strip", role: "group", "aria-label": "results of this order" });
  const view = viewer(studio), notes = h("p", { class: "t-notes" }), more = h("div", { class: "row" }), there = h("div", {}), heading = h("h2", { text: "" });
  const moving = film({ label: "Film of the style", load: async (i) => {
    /** @type {any} */
    let image = null;
    await ask("frame", { order: shown.order, number: shown.number, at: i }, { key: `frame${i % 4}`, onValue: async (/** @type {any} */ _, /** @type {any} */ arrays) => void ([image] = await canvases(arrays.image)) });
    return image;
  } });
  moving.root.hidden = true;
  const result = h("div", {}, heading, strip, view.root, notes, more, there, moving.root);
  const shown = { order: studio.hash.get("order", ""), photo: studio.hash.get("photo", ""), number: 0, n: 0, had: 0 };
  /** @type {any[]} */
  let orders = [];

  /** @param {string} method @param {any} args */
  async function order(method, args) {
    studio.fail(null);
    if (!args.photos.length) return void ((method === "translate" ? sent : content).input.focus(), studio.say("Choose one or more photos first."));
    try {
      const made = await ask(method, args, { key: "order" });
      if (!made) return;
      Object.assign(shown, { order: made.order, photo: "", number: 0, n: 0, had: 0 });
      studio.hash.set({ order: made.order, photo: null });
      await follow();
    } catch (error) {
      studio.fail(error);
    }
  }
  /** The queue, as long as there is work; all pages look at one. */
  const follow = () => ask("queue", {}, { shared: "translate/queue" }).catch((/** @type {any} */ e) => studio.fail(e));
  /** @param {string} method @param {string} name */
  async function act(method, name) {
    await ask(method, { order: name }, { key: "act" }).catch((/** @type {any} */ e) => studio.fail(e));
    await follow();
  }
  const live = h("canvas", { role: "img", class: "pixels", "aria-label": "what is worked at", hidden: true });
  const unwatch = studio.watch("translate/queue", async (data, arrays) => {
    if (screen.gone || !data?.orders) return;
    orders = data.orders;
    if (arrays.preview) {
      const [image] = await canvases(arrays.preview);
      live.width = image.width;
      live.height = image.height;
      live.getContext("2d")?.drawImage(image, 0, 0);
      live.setAttribute("aria-label", `so far: ${data.caption}`);
    }
    live.hidden = !arrays.preview;
    rows(data);
    await follows();
  });
  /** @param {any} data */
  function rows(data) {
    const focus = /** @type {HTMLElement | null} */ (document.activeElement?.closest("[data-act]"))?.dataset.act;
    queued.replaceChildren(h("h2", { text: data.busy ? "Queue: at work" : "Queue" }), live, orders.length ? "" : h("p", { class: "muted small", text: "Nothing yet. What you order stays here when the page is closed." }), ...orders.map((o) => {
      const act_ = (/** @type {string} */ word, /** @type {() => void} */ run) => h("button", { type: "button", "data-act": `${word} ${o.name}`, "aria-label": `${word} ${o.name}`, onclick: run, text: word });
      const waits = o.state === "waiting" || o.state === "working";
      const many = `${o.results.length} of ${o.kind === "sheet" ? 1 : o.photos.length}`;
      const bar = h("progress", { max: 1, value: o.share, "aria-label": `${o.name}, share that is done` });
      return h("div", { class: "t-order" }, h("p", {}, h("strong", { text: o.name }), ` ${o.state}, ${many}`, o.run ? ` · ${o.run}` : ""), waits ? bar : "",
        o.name === data.now && data.caption ? h("p", { class: "caption", text: data.caption }) : "", o.error.what ? h("p", { class: "small bad", text: [o.error.what, o.error.why, o.error.do].filter(Boolean).join(" ") }) : "",
        ...o.skipped.map((/** @type {any} */ s) => h("p", { class: "small warn", text: `${s.photo} is skipped: ${s.why}` })),
        h("p", { class: "row" }, act_("show", () => (Object.assign(shown, { order: o.name, photo: "", number: 0, n: 0, had: 0 }), studio.hash.set({ order: o.name, photo: null }), void follows())), waits ? act_("stop", () => void act("stop", o.name)) : act_("hide", () => void act("hide", o.name)), o.state === "stopped" || o.state === "failed" ? act_("go on", () => void act("again", o.name)) : ""));
    }));
    if (focus) /** @type {HTMLElement | null} */ (queued.querySelector(`[data-act="${focus}"]`))?.focus();
  }
  /** Show what the order that is chosen has by now. */
  async function follows() {
    const o = orders.find((x) => x.name === shown.order) ?? null;
    heading.textContent = o ? `${o.name}: ${o.results.length} result${o.results.length === 1 ? "" : "s"}` : "";
    if (!o) return;
    if (o.kind === "sheet" && Math.round(o.share * 9) !== shown.had) {
      shown.had = Math.round(o.share * 9);
      await ask("cells", { order: o.name }, { onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
        offered = data.settings;
        sheet.hidden = !offered.length;
        if (arrays.images) await cells.set(raw(arrays.images.data, arrays.images.shape), { names: offered.map((s) => `content weight ${s.content_weight}, strokes ${s.strokes}`) });
      } }).catch((/** @type {any} */ e) => studio.fail(e));
    }
    if (o.results.length === shown.n) return;
    const before = shown.n;
    shown.n = o.results.length;
    if (shown.photo) shown.number = Math.max(0, o.results.findIndex((/** @type {any} */ r) => r.photo === shown.photo));
    await ask("thumbs", { order: o.name }, { onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
      const images = arrays.images ? await canvases(arrays.images) : [];
      strip.replaceChildren(...images.slice(0, o.results.length).map((image, i) => h("button", { type: "button", "aria-label": `result of ${o.results[i].photo}`, "aria-pressed": String(i === shown.number), title: o.results[i].photo, onclick: () => void look(i) }, (image.setAttribute("aria-hidden", "true"), image))));
    } }).catch((/** @type {any} */ e) => studio.fail(e));
    if (!before) await look(shown.number);
  }
  /** @param {number} i */
  async function look(i) {
    if (i < 0 || i >= shown.n) return;
    shown.number = i;
    there.replaceChildren();
    [...strip.children].forEach((b, at) => b.setAttribute("aria-pressed", String(at === i)));
    await ask("view", { order: shown.order, number: i }, { onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
      const [[before], [after], bicubic] = await Promise.all([canvases(arrays.before), canvases(arrays.after), arrays.bicubic ? canvases(arrays.bicubic) : [null]]);
      shown.photo = data.photo;
      studio.hash.set({ photo: data.photo });
      view.show({ before, after, bicubic: bicubic[0] }, data.photo);
      notes.textContent = [`${data.photo}: ${data.size[0]} × ${data.size[1]} pixels`, data.shown < 1 ? `shown at ${Math.round(100 * data.shown)} %` : "", ...data.notes].filter(Boolean).join(" · ");
      const run = studio.runs.find((r) => r.path === orders.find((o) => o.name === data.order)?.run);
      const both = data.kind === "translate" && run && (await ask("about", { run: run.path }, { key: "both" }))?.back;
      more.replaceChildren(both ? button("There and back", () => void round()) : "");
      studio.status({ saved: data.saved, command: data.command });
      moving.root.hidden = !data.film;
      moving.forget();
      root.dataset.shown = `${data.order}/${data.photo}`;
      if (data.film) await ask("frame", { order: data.order, number: i }, { key: "frames", onValue: (/** @type {any} */ f) => moving.set(f.frames) });
    } }).catch((/** @type {any} */ e) => studio.fail(e));
  }
  /** A -> B -> A of the result that is shown. */
  async function round() {
    await ask("cycle", { order: shown.order, number: shown.number }, { onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
      const [[a], [b], [c]] = await Promise.all([canvases(arrays.before), canvases(arrays.after), canvases(arrays.again)]);
      there.replaceChildren(h("h3", { text: `There and back: ${data.error.toFixed(1)} of 255 levels away (root of the mean square)` }), figures([["A", a, "real"], ["B", b, "generated"], ["A again", c, "generated"]]));
      studio.status({ command: data.command });
    } }).catch((/** @type {any} */ e) => studio.fail(e));
  }

  const panels = tabs({ label: "What is made", chosen: studio.hash.get("tab", "translate"), tabs: [{ id: "translate", title: "Translate", panel: first }, { id: "style", title: "Style", panel: second }], onChange: (id) => studio.hash.set({ tab: id }) });
  add(root, h("div", { class: "with-inspector" }, h("div", {}, panels.root, result), queued));
  sent.set(list(state.photos));
  content.set(list(state.content));
  paintings.set(list(state.paintings));
  const unruns = studio.watch("runs", () => void setTimeout(listRuns));
  listRuns();
  const unbind = studio.keys.add([
    { key: "m", label: "translate: another way to compare", run: () => view.next() },
    { key: "Space", label: "translate: the original, while it is held", run: () => view.hold() },
    { key: "ArrowLeft", label: "translate: the result before", run: () => void look(shown.number - 1) },
    { key: "ArrowRight", label: "translate: the next result", run: () => void look(shown.number + 1) },
    { key: "1", label: "tab Translate", run: () => panels.at(0) },
    { key: "2", label: "tab Style", run: () => panels.at(1) },
  ]);
  screen.end = () => {
    unbind();
    unwatch();
    unruns();
    view.end();
    moving.stop();
  };
  root.dataset.translate = "ready";
  void follow();
}
