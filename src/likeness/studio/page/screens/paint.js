// @ts-check
// Paint: strokes on the left, what the run makes of them on the right, candidates below.
import { button, canvases, field, select, tick } from "../samples/common.js";
import { add, h } from "../widgets/dom.js";
import { raw } from "../widgets/pixels.js";
import { slider } from "../widgets/slider.js";
import { tiles } from "../widgets/tiles.js";
import { Failed } from "../wire.js";
import about from "./about/paint.js";
import { board } from "../paint/board.js";
import { byForm, layers, spoken } from "../paint/layers.js";
import { KINDS, RADII, packed, unpacked } from "../paint/strokes.js";

/** @typedef {import("../paint/strokes.js").Stroke} Stroke */
const KEYS = /** @type {Record<string, string>} */ ({ colour: "b", sketch: "k", warp: "w", erase: "e", keep: "o" });

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const screen = { gone: false, end: () => {} };
    root.classList.add("s-screen", "p-screen");
    const href = new URL("../paint/paint.css", import.meta.url).href;
    if (![...document.querySelectorAll("link[rel=stylesheet]")].some((l) => /** @type {HTMLLinkElement} */ (l).href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
    add(root, h("h1", { text: "Paint" }));
    void begin(root, studio, screen);
    return () => {
      screen.gone = true;
      root.classList.remove("s-screen", "p-screen");
      delete root.dataset.paint;
      screen.end();
    };
  },
};

/** @param {HTMLElement} root @param {import("../app.js").Studio} studio @param {{gone: boolean, end: () => void}} screen */
async function begin(root, studio, screen) {
  const run = /** @type {any} */ (studio.run).path, tab = Math.random().toString(36).slice(2, 10), key = `paint/${tab}`;
  const ask = (/** @type {string} */ method, /** @type {any} */ args, /** @type {any} */ how = {}) => studio.ask("paint", method, { ...args, run }, { ...how, key: `${key}/${method}` });
  const opening = studio.busy("opening the run");
  /** @type {any} */
  let info = null;
  /** @type {Stroke[]} */
  let strokes = [];
  const put = studio.hash.get("put", /** @type {any} */ (null));
  studio.hash.set({ put: null });
  try {
    await ask("about", {}, { onValue: (/** @type {any} */ data, /** @type {any} */ arrays) => {
      info = data;
      strokes = unpacked(data.strokes, arrays.points?.data);
    } });
    if (put && info) {
      const there = await read({ strokes: put.strokes });
      strokes = there ?? strokes;
    }
  } catch (error) {
    if (!screen.gone) studio.fail(error);
  } finally {
    opening();
  }
  if (screen.gone || !info) return;
  const kept = { ...(info.kept ?? {}), ...(put ?? {}) }, S = info.size;
  const now = {
    brush: "colour", colour: "#d62728", radius: RADII.colour, shown: true, version: 0, at: /** @type {number|null} */ (null),
    start: kept.start?.kind ? kept.start : info.held ? { kind: "held", number: 0 } : { kind: "none" },
    seed: Number.isInteger(kept.seed) ? kept.seed : 0, weight: /** @type {Record<string, number>} */ (kept.weight && typeof kept.weight === "object" ? kept.weight : {}), strength: Number(kept.strength) || info.strength,
  };
  /** @type {Stroke[][]} */ let past = [];
  /** @type {Stroke[][]} */ let future = [];
  /** @type {any} */ let last = null;
  /** @type {any} */ let answer = null;
  /** @type {HTMLCanvasElement[]} */ let images = [];
  /** @type {HTMLCanvasElement[]} */ let way = [];
  /** @type {HTMLCanvasElement|null} */ let start = null;
  /** @type {Map<number, number>} */ const sent = new Map();
  let refusals = 0, asked = 0;
  /** @type {number[]} */ const times = (/** @type {any} */ (studio.stats).strokes = []);

  // What is shown
  const easel = board({ size: S, label: "Drawing: arrow keys move the pen, Space or Enter puts it down and lifts it", begin: () => ({ kind: now.brush, points: [], radius: now.radius, weight: 1, hidden: false, ...(now.brush === "colour" ? { colour: now.colour } : {}) }),
    moved: () => info.live && soon(), done: (s) => change([...strokes, s]), say: (t) => studio.say(t) });
  const result = h("canvas", { class: "pixels p-result", role: "img", width: S, height: S, "aria-label": "result" });
  const says = h("p", { class: "p-note", role: "status" }), off = h("p", { class: "p-note muted" });
  const back = h("canvas", { class: "pixels p-back", role: "img", width: S, height: S, "aria-label": "the image as the model has it", hidden: true });
  const list = layers((to) => change(to)), below = h("div", {});
  const choice = tiles({ label: "candidates, best first", many: false, wheel: false, tile: 92, columns: 4, onPick: (i) => pick(i) });
  const morph = slider({ label: "from the start to the result", min: 0, max: 1, step: 0.01, value: 1, show: (v) => `${Math.round(100 * v)} %`, onInput: (v) => void moved(v) });
  const state = h("progress", { max: 1, value: 0, "aria-label": "search" });

  // Brushes
  const brushes = KINDS.map((kind) => {
    const b = button(kind === "erase" ? "eraser" : kind, () => brush(kind), KEYS[kind]);
    b.disabled = kind in info.refused;
    if (b.disabled) b.title = info.refused[kind];
    return b;
  });
  const tint = h("input", { type: "color", value: now.colour, "aria-label": "colour of the brush", oninput: () => (now.colour = tint.value) });
  const size = slider({ label: "size of the brush", min: 0.005, max: 0.4, log: true, value: now.radius, onInput: (v) => (now.radius = v) });
  /** @param {string} kind */
  function brush(kind) {
    if (kind in info.refused) return studio.fail(new Failed({ what: `${info.by} takes no ${kind}.`, why: info.refused[kind], do: "Use another brush, or open a run of another family." }));
    now.brush = kind;
    size.value = now.radius = RADII[kind];
    KINDS.forEach((k, i) => brushes[i].setAttribute("aria-pressed", String(k === kind)));
    tint.hidden = kind !== "colour";
  }

  // The image to begin with
  const kinds = /** @type {[string, string][]} */ ([...(info.needs_image ? [] : [["none", "none: a drawn one"]]), ...(info.samples ? [["sample", "sample"]] : []), ...(info.held ? [["held", "held-out image"]] : []), ["file", "own photo"]]);
  const from = select("begin with", kinds, now.start.kind, (v) => (v === "file" ? (file.click(), (from.input.value = now.start.kind)) : restart({ kind: v, number: now.start.number ?? 0 })));
  const numbered = field("number", now.start.number ?? 0, { min: 0, max: 1e6 }, (v) => now.start.kind !== "file" && restart({ ...now.start, number: v }));
  const file = h("input", { type: "file", accept: "image/*", "aria-label": "own photo, or drop it here", onchange: () => file.files?.[0] && void bring(file.files[0]) });
  const vectors = h("input", { type: "file", accept: ".json,application/json", "aria-label": "a file of strokes", onchange: () => vectors.files?.[0] && void load(vectors.files[0]) });
  /** @param {any} to */
  function restart(to) {
    now.start = to;
    now.at = null;
    start = null;
    numbered.root.hidden = !["sample", "held"].includes(to.kind);
    from.input.value = to.kind;
    send(true);
  }
  /** @param {File} photo */
  async function bring(photo) {
    const done = studio.busy("reading the photo");
    try {
      if (photo.size > 32 * 2 ** 20) throw new Failed({ what: `${photo.name} has more than 32 MB.`, why: "That is the most this screen takes.", do: "Make it smaller first." });
      const got = await ask("bring", { name: photo.name.slice(-200) }, { arrays: { file: new Uint8Array(await photo.arrayBuffer()) } });
      if (got) restart(got.start);
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
      file.value = "";
    }
  }
  /** @param {any} args @param {any} [how] @returns {Promise<Stroke[]|null>} */
  async function read(args, how = {}) {
    /** @type {Stroke[]|null} */
    let out = null;
    await ask("read", args, { ...how, onValue: (/** @type {any} */ data, /** @type {any} */ arrays) => void (out = unpacked(data.strokes, arrays.points?.data)) });
    return out;
  }
  /** @param {File} of */
  async function load(of) {
    try {
      const there = of.size > 8e6 ? null : await read({ name: of.name }, { arrays: { file: new Uint8Array(await of.arrayBuffer()) } });
      if (there) change(there);
      else throw new Failed({ what: `${of.name} has ${of.size.toLocaleString("en")} bytes.`, why: "A file of strokes has 8,000,000 at most.", do: "Leave out every other point." });
    } catch (error) {
      studio.fail(error);
    } finally {
      vectors.value = "";
    }
  }

  // Strokes, and their history
  /** @param {Stroke[]} to */
  function change(to) {
    past = [...past.slice(-199), strokes];
    future = [];
    strokes = to;
    changed();
  }
  function changed() {
    answer = null;
    way = [];
    list.show(strokes);
    undo.disabled = !past.length;
    redo.disabled = !future.length;
    paint();
    send(true);
  }
  function turn(/** @type {boolean} */ forth) {
    const [to, other] = forth ? [future, past] : [past, future], there = to.at(-1);
    if (!there) return;
    other.push(strokes);
    to.pop();
    strokes = there;
    changed();
    studio.say(`${forth ? "done again" : "undone"}: ${strokes.length} strokes`);
  }
  const undo = button("Undo", () => turn(false), "Ctrl-Z"), redo = button("Redo", () => turn(true), "Ctrl-Shift-Z");

  // Questions
  const args = () => {
    const p = packed(easel.drawing ? [...strokes, easel.drawing] : strokes);
    return { args: { start: now.start, seed: now.seed, weight: now.weight, strength: now.strength, strokes: p.strokes }, arrays: { points: p.points } };
  };
  function soon() {
    if (!asked) asked = requestAnimationFrame(() => ((asked = 0), send(false)));
  }
  /** @param {boolean} rest whether the pen is up, and a reload is to find this again */
  function send(rest) {
    if (screen.gone) return;
    root.dataset.paint = "busy";
    const { args: a, arrays } = args(), version = ++now.version;
    sent.set(version, performance.now());
    studio.ask("paint", "set", { ...a, run, key, rest, version, pick: now.at }, { key, arrays }).catch((error) => {
      if (screen.gone) return;
      studio.fail(error);
      root.dataset.paint = "ready";
    });
  }
  async function took(/** @type {any} */ data, /** @type {any} */ arrays) {
    if (screen.gone || answer) return;
    if (arrays.start) start = (await canvases(arrays.start))[0];
    if (data.begins !== undefined) {
      state.value = data.begins;
      says.textContent = "looking for the image in the model";
    } else {
      if (data.refused[0] !== refusals) {
        refusals = data.refused[0];
        studio.fail(new Failed(data.refused[1]));
      }
      last = data;
      if (arrays.images) {
        images = await canvases(arrays.images);
        if (now.at === null || data.order[0] === data.lead) way = [];
        label(data.off, arrays.images, data.order);
        state.value = data.share;
      } else if (arrays.leader && images.length) {
        const at = data.order.indexOf(data.lead);
        images[at] = (await canvases(arrays.leader))[0];
        if (at === place()) off.textContent = spelled(at, data.off);
      }
      if (!data.start) start = null;
      says.textContent = told(data);
    }
    if (arrays.back) {
      back.hidden = false;
      back.getContext("2d")?.drawImage((await canvases(arrays.back))[0], 0, 0);
    } else back.hidden = true;
    paint();
    for (const [version, at] of sent) if (version <= data.version) {
      if (data.begins === undefined) times.push(performance.now() - at);
      sent.delete(version);
    }
    if (times.length > 4000) times.splice(0, 2000);
    if (data.resting && data.version === now.version) root.dataset.paint = "ready";
  }
  /** @param {any} data */
  function told(data) {
    const wrong = data.wrong === null || data.wrong === undefined ? "" : `As the model has it, the image is ${data.wrong.toFixed(1)} grey levels off (rms). `;
    return wrong + (info.live ? (data.strokes ? (data.resting ? "The search is at rest." : "The search goes on.") : "Draw on the left.") : `${info.by}: draw, then press Paint.`);
  }
  /** Names of candidates; numbers of the search go with a candidate for good. @param {number[]} losses @param {any} arr @param {number[]|null} order */
  function label(losses, arr, order) {
    const at = order ? order.indexOf(now.at ?? order[0]) : now.at ?? 0;
    void choice.set(raw(arr.data, arr.shape), { columns: 4, names: losses.map((l, i) => `candidate ${i + 1}${l === null ? "" : `, off by ${l.toFixed(3)}`}`) });
    choice.mark(new Map([[at, String(at + 1)]]));
    off.textContent = spelled(at, losses);
  }
  /** @param {number} at @param {number[]} losses */
  function spelled(at, losses) {
    const l = losses[at];
    return l === null || l === undefined ? "" : `candidate ${at + 1} of ${losses.length}, off by ${l.toFixed(3)}`;
  }
  const place = () => (answer || !last?.order ? now.at ?? 0 : Math.max(0, last.order.indexOf(now.at ?? last.order[0])));
  function paint() {
    const c = result.getContext("2d"), share = morph.value, there = images[place()];
    const shown = share < 1 && way.length ? way[Math.round(share * (way.length - 1))] : there;
    if (c && shown) c.drawImage(shown, 0, 0, S, S);
    result.setAttribute("aria-label", `result: ${off.textContent || "nothing yet"}`);
    easel.show(start ?? there ?? null, now.shown ? strokes : []);
  }
  /** @param {number} i where it stands */
  function pick(i) {
    now.at = answer || !last?.order ? i : last.order[i];
    way = [];
    morph.value = 1;
    if (answer) (label(answer.off, answer.arr, null), paint());
    else if (info.live) send(true);
    studio.say(`candidate ${i + 1} is the result`);
  }
  /** @param {number} share */
  async function moved(share) {
    if (share < 1 && !way.length) {
      const { args: a, arrays } = args();
      try {
        await ask("morph", answer ? { answer: answer.name, at: now.at ?? 0 } : { ...a, pick: now.at }, { arrays: answer ? undefined : arrays, onValue: async (/** @type {any} */ _, /** @type {any} */ got) => void (way = await canvases(got.images)) });
      } catch (error) {
        studio.fail(error);
      }
    }
    paint();
  }
  /** What the command makes of the strokes. */
  async function finish() {
    const { args: a, arrays } = args(), done = studio.busy("painting");
    root.dataset.paint = "busy";
    studio.stop(key);
    go.disabled = true;
    try {
      await ask("answer", a, { arrays, onValue: async (/** @type {any} */ data, /** @type {any} */ got) => {
        state.value = data.share;
        if (!got.images) return;
        images = await canvases(got.images);
        if (data.final) {
          answer = { name: data.answer, off: data.off, arr: got.images };
          now.at = null;
          way = [];
          morph.value = 1;
          label(data.off, got.images, null);
          says.textContent = [...data.notes, Object.entries(data.terms).map(([name, v]) => `${name} ${Number(v).toFixed(4)}`).join(", ")].join(". ");
        }
        paint();
      } });
      studio.say("painted");
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
      go.disabled = false;
      root.dataset.paint = "ready";
    }
  }
  async function save() {
    if (!answer) await finish();
    if (!answer) return;
    try {
      await ask("save", { answer: answer.name, at: now.at ?? 0 }, { onValue: async (/** @type {any} */ data, /** @type {any} */ got) => {
        studio.status(data);
        studio.say(`saved ${data.saved}`);
        const names = { before: "photograph", after: "edited", share: `orange: the model's pixels, ${((data.share ?? 0) * 100).toFixed(1)} %; blue: the photograph's` };
        const parts = await Promise.all(Object.entries(names).filter(([n]) => got[n]).map(async ([n, text]) => {
          const [image] = await canvases(got[n]);
          image.setAttribute("role", "img");
          image.setAttribute("aria-label", text);
          return h("figure", { class: "s-picture" }, image, h("figcaption", { class: "caption", text }));
        }));
        below.replaceChildren(...(parts.length ? [h("h2", { text: "On the photograph" }), h("div", { class: "p-three" }, ...parts)] : []));
      } });
    } catch (error) {
      studio.fail(error);
    }
  }

  const go = button("Paint", () => void finish(), "P");
  const seed = field("seed", now.seed, { min: 0, max: 2 ** 31 - 1 }, (v) => ((now.seed = v), send(true)));
  const weights = ["realism", "smooth", "rest"].map((name) => slider({ label: { realism: "realism", smooth: "stay close to the start", rest: "leave the rest as it is" }[name] ?? name, min: 0, max: 4 * info.weights[name], step: info.weights[name] / 10, value: now.weight[name] ?? info.weights[name], onChange: (v) => {
    if (v === info.weights[name]) delete now.weight[name];
    else now.weight[name] = v;
    changed();
  } }).root);
  const strength = slider({ label: "how much is drawn anew", min: 0.05, max: 1, step: 0.05, value: now.strength, onChange: (v) => ((now.strength = v), changed()) });
  add(root, h("div", { class: "row" }, from.root, numbered.root, h("label", { class: "row s-field" }, "photo", file), seed.root),
    h("div", { class: "row", role: "group", "aria-label": "brushes" }, ...brushes, tint, undo, redo, tick("show strokes", true, (v) => ((now.shown = v), paint())).root), size.root,
    h("div", { class: "p-layout" }, h("figure", {}, h("figcaption", { class: "caption", text: "draw here" }), easel.canvas, h("div", { class: "row" }, back, says)),
      h("figure", {}, h("figcaption", { class: "caption generated", text: "result" }), result, morph.root, off, choice.root, state),
      h("div", {}, h("h2", { text: "Strokes" }), list.root, byForm((s) => (change([...strokes, s]), studio.say(`added: ${spoken(s)}`)), (what) => studio.fail(new Failed({ what, why: "Nothing was added.", do: "Type the number that is marked once more." }))),
        h("details", { class: "p-more" }, h("summary", { text: "weights, and strokes from a file" }), ...weights, info.family === "sampling" ? strength.root : null, h("label", { class: "row s-field" }, "strokes.json", vectors)),
        h("p", { class: "row" }, go, button("Save", () => void save(), "S")))), below);
  const over = (/** @type {DragEvent} */ e) => e.preventDefault();
  root.addEventListener("drop", drop);
  root.addEventListener("dragover", over);
  /** @param {DragEvent} e A photo is drawn on; a picture of ours restores its screen, which the shell does. */
  function drop(e) {
    const one = e.dataTransfer?.files[0];
    if (!one || !(e.target instanceof Node && (easel.canvas.contains(e.target) || e.target === file))) return;
    e.preventDefault();
    e.stopPropagation();
    document.body.classList.remove("dropping");
    void bring(one);
  }
  const resize = (/** @type {number} */ by) => (size.value = now.radius = Math.max(0.005, Math.min(0.4, now.radius * by)));
  const always = studio.keys.add([
    ...KINDS.map((k) => ({ key: KEYS[k], label: `brush: ${k}`, run: () => brush(k) })),
    { key: "Ctrl+Z", label: "undo", run: () => turn(false) }, { key: "Ctrl+Shift+Z", label: "redo", run: () => turn(true) },
    { key: "[", label: "smaller brush", run: () => resize(1 / 1.25) }, { key: "]", label: "larger brush", run: () => resize(1.25) },
    { key: "p", label: "paint as the command does", run: () => void finish() }, { key: "s", label: "save", run: () => void save() },
  ]);
  const unwatch = studio.watch(key, took);
  screen.end = () => {
    always();
    unwatch();
    studio.stop(key);
    root.removeEventListener("drop", drop);
    root.removeEventListener("dragover", over);
  };
  brush("colour");
  list.show(strokes);
  numbered.root.hidden = !["sample", "held"].includes(now.start.kind);
  undo.disabled = redo.disabled = true;
  send(true);
}
