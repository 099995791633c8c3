// @ts-check
// Gradients with respect to pixels: input | map | overlay, confidence bars beneath, tabs above.
import { button, field, select, tick } from "../samples/common.js";
import { bars } from "../widgets/bars.js";
import { add, h } from "../widgets/dom.js";
import { film } from "../widgets/film.js";
import { opened, painted, raw } from "../widgets/pixels.js";
import { slider } from "../widgets/slider.js";
import { tabs } from "../widgets/tabs.js";
import about, { KINDS } from "./about/gradients.js";

const SIDE = 256;

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const screen = { gone: false, end: () => {} };
    root.classList.add("s-screen");
    add(root, h("h1", { text: "Gradients" }));
    void begin(root, studio, screen);
    return () => {
      screen.gone = true;
      root.classList.remove("s-screen");
      delete root.dataset.gradients;
      screen.end();
    };
  },
};

/** A square with its name, which paints whatever comes. @param {string} label */
function square(label) {
  const canvas = h("canvas", { role: "img", "aria-label": label, class: "pixels", width: 1, height: 1 });
  const says = h("figcaption", { class: "caption", text: label });
  canvas.style.width = canvas.style.maxWidth = "100%";
  canvas.style.aspectRatio = "1";
  canvas.style.objectFit = "contain";
  const root = h("figure", { class: "s-picture" }, canvas, says);
  root.style.flex = `1 1 120px`;
  root.style.maxWidth = `${SIDE}px`;
  return {
    root, canvas,
    /** @param {CanvasImageSource & {width: number, height: number}} image @param {string} text @param {(c: CanvasRenderingContext2D) => void} [more] */
    show(image, text, more) {
      canvas.width = image.width;
      canvas.height = image.height;
      const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      c.drawImage(image, 0, 0);
      more?.(c);
      canvas.setAttribute("aria-label", text);
      says.textContent = text;
    },
  };
}

/** @param {import("../wire.js").Arr} arr */
const images = async (arr) => (arr.mime ? [await opened(/** @type {Uint8Array} */ (arr.data))] : painted(raw(/** @type {Uint8Array} */ (arr.data), arr.shape)));

/** @param {HTMLElement} root @param {import("../app.js").Studio} studio @param {{gone: boolean, end: () => void}} screen */
async function begin(root, studio, screen) {
  const tab = Math.random().toString(36).slice(2, 10), hash = studio.hash;
  let runs = studio.runs.filter((r) => r.answers.includes("classify"));
  const kept = (await studio.recall("gradients")) ?? {};
  /** @type {any} */
  let info = {};
  const wanted = hash.get("net", "") || (studio.run && runs.includes(studio.run) ? studio.run.path : kept.net ?? "");
  const lab = (await studio.ask("gradients", "about", {}, { key: `gradients/${tab}/lab` }).catch((e) => studio.fail(e)))?.lab ?? [];
  if (screen.gone) return;
  const names = () => [...runs.map((r) => r.path), ...lab.map((/** @type {any} */ l) => l.name)];
  const named = () => names().find((n) => n === wanted || n.split("/").pop() === wanted);
  const now = { net: named() ?? names()[0], random: hash.get("random", Boolean(kept.random)), image: hash.get("image", String(kept.image ?? "")), pick: hash.get("pick", Number(kept.pick) || 0), set: /** @type {Record<string, any>} */ (hash.get("set", {})) };
  const isRun = () => runs.some((r) => r.path === now.net);
  const about = () => ({ network: now.net, random: !isRun() && now.random, image: now.image, pick: now.pick });
  const keep = () => {
    hash.set({ net: now.net, random: now.random, image: now.image, pick: now.pick, set: now.set });
    studio.keep("gradients", { net: now.net, random: now.random, image: now.image, pick: now.pick });
  };
  const changed = () => (keep(), void load());

  let chosen = !wanted || Boolean(named());
  const net = select("network", [], now.net, (v) => ((chosen = true), (now.net = v), (now.set = {}), keep(), void meet()));
  const offer = () => {
    net.input.replaceChildren(...names().map((n) => h("option", { value: n, text: lab.some((/** @type {any} */ l) => l.name === n && l.missing) ? `${n} (no weights here)` : n })));
    net.input.value = now.net;
  };
  offer();
  const random = tick("random weights", now.random, (v) => ((now.random = v), keep(), void meet()));
  const pick = field("image number", now.pick, { min: 0, max: 9999 }, (v) => ((now.pick = v), (now.image = ""), changed()));
  const file = h("input", { type: "file", accept: "image/*", id: "g-own", onchange: () => file.files?.[0] && void bring(file.files[0]) });
  const source = h("p", { class: "caption" }), options = h("datalist", { id: "g-classes" }), facts = h("p", { class: "small", role: "status" });
  const squares = [square("input"), square("map"), square("overlay")], row = h("div", { class: "row" }, ...squares.map((s) => s.root));
  row.style.flexWrap = "nowrap";
  row.style.alignItems = "flex-start";
  const before = bars({ label: "confidence", height: 90 }), after = bars({ label: "confidence after", height: 90 });
  const panels = Object.fromEntries(KINDS.map(([id]) => [id, h("div", {})])), below = h("div", {});
  let frames = /** @type {HTMLCanvasElement[]} */ ([]), last = /** @type {any} */ (null), turn = 0, method = hash.get("method", "integrated gradients"), signed = false, opacity = 0.5, times = 20;
  const reel = film({ label: "the image as it comes", load: async (i) => frames[i], keep: 400, caption: (i) => `step ${i}`, onFrame: (i) => frames[i] && squares[1].show(frames[i], `step ${i}`) });
  reel.canvas.hidden = true;
  const view = tabs({ label: "Ways of looking", chosen: hash.get("tab", "saliency"), tabs: KINDS.map(([id, title]) => ({ id, title, panel: panels[id] })), onChange: (id) => (hash.set({ tab: id }), controls(), changed()) });
  const save = async () => {
    if (!last?.key) return;
    try {
      const out = await studio.ask("gradients", "save", { key: last.key, command: last.command }, { key: `gradients/${tab}/save` });
      if (out) (studio.status(out), studio.say(`saved ${out.saved}`));
    } catch (error) {
      studio.fail(error);
    }
  };
  add(root, h("div", { class: "row" }, net.root, random.root, pick.root, h("label", { for: "g-own", text: "or a photo of yours" }), file), source, options, view.root, row,
    reel.root, facts, before.root, after.root, below, h("p", {}, button("Save picture and numbers", () => void save(), "S")));

  /** The controls of the tab that is shown. */
  function controls() {
    const id = view.chosen, put = (/** @type {string} */ name) => (/** @type {any} */ v) => ((now.set[name] = v), changed());
    const of = h("input", { type: "text", list: "g-classes", value: now.set.of ?? (id === "class" ? "0" : ""), placeholder: id === "fool" ? "any other" : "the likeliest", onchange: () => put("of")(of.value) });
    const klass = h("label", { class: "row s-field" }, id === "fool" ? "target" : "class", of);
    const layer = (/** @type {string[]} */ among, /** @type {string} */ usual) => select("layer", (among ?? []).map((n) => [n, n]), now.set.layer ?? usual, put("layer")).root;
    const whole = (/** @type {string} */ name, /** @type {number} */ usual, /** @type {number} */ max) => field(name, now.set[name] ?? usual, { min: 1, max }, put(name)).root;
    const real = (/** @type {string} */ label, /** @type {string} */ name, /** @type {number} */ usual, /** @type {number} */ max) => slider({ label, min: 0, max, step: max / 100, value: now.set[name] ?? usual, onChange: put(name) }).root;
    const parts = id === "saliency" ? [klass, select("map", ["gradient", "gradient x input", "SmoothGrad", "integrated gradients", "Grad-CAM"].map((m) => [m, m]), method, (v) => ((method = v), hash.set({ method: v }), void paint())).root,
      tick("for or against", signed, (v) => ((signed = v), void paint())).root, layer(info.places, info.cam), whole("samples", 30, 200), whole("steps", 256, 2000), button("Do the maps know the network?", () => ((now.set.sanity = true), void load())),
      slider({ label: "overlay", min: 0, max: 1, step: 0.05, value: opacity, onInput: (v) => ((opacity = v), void paint()) }).root]
      : id === "class" ? [klass, whole("steps", 200, 2000), real("variation", "variation", 0, 2), real("bound", "bound", 0, 2), real("blur, pixels", "blur", 0, 4), real("jitter", "jitter", 0.05, 0.3)]
        : id === "dream" ? [layer(info.layers, info.layer), whole("octaves", 4, 10), whole("steps", 12, 200)]
          : [klass, whole("budget", 2, 64), whole("steps", 40, 500), slider({ label: "perturbation times", min: 1, max: 100, step: 1, value: times, onInput: (v) => ((times = v), void paint()) }).root];
    panels[id].replaceChildren(h("div", { class: "row" }, ...parts));
  }
  /** Another network. */
  async function meet() {
    random.root.hidden = isRun();
    root.dataset.gradients = "busy";
    try {
      info = (await studio.ask("gradients", "about", about(), { key: `gradients/${tab}/about` })) ?? info;
      source.textContent = `${info.source}; images of ${info.side} pixels`;
      options.replaceChildren(...info.labels.map((/** @type {string} */ l) => h("option", { value: l })));
    } catch (error) {
      root.dataset.gradients = "ready";
      return studio.fail(error);
    }
    if (screen.gone) return;
    controls();
    await load();
  }
  /** What the tab asks for. */
  async function load() {
    const id = view.chosen, mine = ++turn, done = studio.busy("looking"), { sanity, ...set } = now.set;
    now.set = set;
    root.dataset.gradients = "busy";
    last = null;
    frames = [];
    reel.forget();
    reel.stop();
    reel.root.hidden = id === "saliency" || id === "fool";
    after.root.hidden = id !== "fool";
    before.root.hidden = id === "dream";
    row.children[2].toggleAttribute("hidden", id === "class" || id === "dream");
    row.children[0].toggleAttribute("hidden", id === "class");
    below.replaceChildren();
    /** @type {Record<string, any>} */
    const args = { ...set, ...about(), ...(sanity ? { sanity: true } : {}), ...(id === "class" ? { of: set.of || "0" } : {}) };
    if (id === "class" || id === "fool") delete args.layer;
    try {
      await studio.ask("gradients", id, args, { key: `gradients/${tab}/look`, onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
        if (mine !== turn) return;
        /** @type {Record<string, HTMLCanvasElement[]>} */
        const pictures = {};
        for (const name of ["input", "strength", "sign", "frame", "result"]) if (arrays[name]) pictures[name] = await images(arrays[name]);
        last = { ...data, pictures };
        if (pictures.frame && data.share < 1) (frames.push(pictures.frame[0]), reel.set(frames.length));
        studio.status({ command: data.command });
        facts.textContent = data.text?.replaceAll("\n", " · ") ?? `${Math.round(100 * data.share)} %`;
        await paint();
      } });
      if (mine === turn && last?.text) studio.say(last.text);
    } catch (error) {
      if (mine === turn) studio.fail(error);
    } finally {
      done();
      if (mine === turn) root.dataset.gradients = "ready";
    }
  }
  async function paint() {
    if (!last) return;
    const { pictures: p, bars: b } = last, id = view.chosen;
    if (p.input) squares[0].show(p.input[0], "input");
    if (id === "saliency" && p.strength) {
      const at = Math.max(0, last.methods.indexOf(method)), map = (signed ? p.sign : p.strength)[at];
      squares[1].show(map, `${last.methods[at]} of ${last.label}`);
      squares[2].show(p.input[0], `overlay of ${last.methods[at]}`, (c) => ((c.globalAlpha = opacity), c.drawImage(map, 0, 0), (c.globalAlpha = 1)));
      if (last.checks.length) below.replaceChildren(h("h2", { text: "Rank correlation with the maps of random weights" }), h("div", { class: "scroll", tabindex: 0 }, h("table", {},
        h("tr", {}, h("th", { scope: "col", text: "random down to" }), ...last.methods.map((/** @type {string} */ m) => h("th", { scope: "col", text: m }))),
        ...last.checks.map((/** @type {any} */ c) => h("tr", {}, h("th", { scope: "row", text: c.layer }), ...last.methods.map((/** @type {string} */ m) => h("td", { text: c.signed[m].toFixed(2) })))))),
        h("p", { class: "muted small", text: "A map that stays near 1 shows edges of the image, and not what the network has learnt." }));
    }
    if (id === "fool" && p.result) {
      squares[1].show(p.input[0], `change, ${times} times`, (c) => enlarged(c, p.input[0], p.result[0]));
      squares[2].show(p.result[0], "result");
      after.set({ values: b.map((/** @type {any} */ x) => x.after), labels: b.map((/** @type {any} */ x) => x.label), low: 0, high: 1 });
      if (last.retests) below.replaceChildren(h("h2", { text: "Is it still taken for that?" }), h("table", {}, h("tr", {}, h("th", { scope: "col", text: "after" }), h("th", { scope: "col", text: "class" }), h("th", { scope: "col", text: "confidence" })),
        ...last.retests.map((/** @type {any} */ r) => h("tr", {}, h("th", { scope: "row", text: r.name }), h("td", { text: r.label }), h("td", { text: `${(100 * r.p).toFixed(1)} %` })))));
    }
    if (b?.length) before.set({ values: b.map((/** @type {any} */ x) => x.p), labels: b.map((/** @type {any} */ x) => x.label), low: 0, high: 1 });
  }
  /** The difference around grey. @param {CanvasRenderingContext2D} c @param {HTMLCanvasElement} from @param {HTMLCanvasElement} to */
  function enlarged(c, from, to) {
    const [a, b] = [from, to].map((x) => /** @type {CanvasRenderingContext2D} */ (x.getContext("2d")).getImageData(0, 0, x.width, x.height));
    for (let i = 0; i < a.data.length; i++) if (i % 4 < 3) a.data[i] = 128 + times * (b.data[i] - a.data[i]);
    c.putImageData(a, 0, 0);
  }
  /** @param {File} photo */
  async function bring(photo) {
    try {
      const out = await studio.ask("gradients", "own", {}, { key: `gradients/${tab}/own`, arrays: { file: new Uint8Array(await photo.arrayBuffer()) } });
      if (out) ((now.image = out.image), changed());
    } catch (error) {
      studio.fail(error);
    } finally {
      file.value = "";
    }
  }
  const always = studio.keys.add([{ key: "s", label: "save this look", run: () => void save() }, ...KINDS.map(([, title], i) => ({ key: String(i + 1), label: `tab ${title}`, run: () => view.at(i) }))]);
  /** A run may be known after the screen is there, or what it answers. */
  const unwatch = studio.watch("runs", () => {
    const there = studio.runs.filter((r) => r.answers.includes("classify"));
    if (there.map((r) => r.path).join("\n") === runs.map((r) => r.path).join("\n")) return;
    runs = there;
    const late = chosen ? undefined : named();
    if (late) (chosen = true), (now.net = late);
    offer();
    if (late) void meet();
  });
  screen.end = () => (always(), unwatch(), studio.stop(`gradients/${tab}/look`));
  await meet();
}
