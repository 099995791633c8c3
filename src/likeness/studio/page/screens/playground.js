// @ts-check
// The playground: models of points that train while one looks; broken, mended beside themselves, and taken back in time.

import { h, styled, unique } from "../widgets/dom.js";
import { short } from "../widgets/numbers.js";
import { slider } from "../widgets/slider.js";
import { Failed } from "../wire.js";
import { options } from "./playground/options.js";
import { pen } from "./playground/pen.js";
import { percent, plot, summary } from "./playground/plot.js";
import { rail } from "./playground/rail.js";
import { spark } from "./playground/spark.js";
import about from "./about/playground.js";

/** @typedef {import("../wire.js").Arrays} Arrays */
/** @typedef {import("../app.js").Studio} Studio */
/** @typedef {{data: any, arrays: Arrays}} Frame */

const KEY = "playground", KEPT = 600, SLOW = 1.5, READ = 250;
const LAYERS = [["real", "real points"], ["fake", "generated points"], ["heat", "what D says"], ["arrows", "arrows −∂L/∂x"], ["warp", "G's grid"], ["lines", "noise → data"]];
const SEED = { model: "gan", law: "ring" };

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount: (root, studio) => new Playground(root, studio).begin(),
};

class Playground {
  /** @param {HTMLElement} root @param {Studio} studio */
  constructor(root, studio) {
    styled();
    this.root = root;
    this.studio = studio;
    /** @type {any} */ this.about = null;
    /** @type {Frame|null} */ this.shown = null;
    /** @type {Map<number, Frame>} */ this.frames = new Map();
    this.hidden = new Set(["warp", "lines"]);
    this.news = this.refusals = -1;
    this.read = 0;
    /** @type {any} */ this.setup = SEED;
    this.plots = { a: plot("A"), b: plot("B") };
    this.rail = rail();
    /** @type {ReturnType<typeof spark>[]} */ this.sparks = [];
    this.pen = pen((ink, side) => this.start({ ...this.setup, break: "", law: "drawing", ink: null }, { ink: { data: ink, shape: [side, side] } }), (t) => studio.say(t));
    this.ui = this.build();
    this.root.append(this.ui.head, this.ui.box);
  }

  // The page

  build() {
    const href = new URL("./playground/playground.css", import.meta.url).href;
    if (![...document.styleSheets].some((s) => s.href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
    const model = pick("model", "Model", (model) => this.start({ model, law: !this.about || this.about.law === "drawing" ? "ring" : this.about.law }));
    const law = pick("law", "Points", (law) => (law === "drawing" ? this.draw(true) : this.start({ ...this.setup, break: "", law })));
    const broken = pick("break", "Break it", (id) => id && this.start({ break: id }));
    const head = h("div", { class: "pg-head" }, h("h1", { text: "Playground" }), model.label, law.label, broken.label,
      h("button", { type: "button", text: "Start anew", onclick: () => this.start(this.setup) }));
    const squares = h("div", { class: "pg-squares" }), figures = { a: figure("a", this.plots.a), b: figure("b", this.plots.b) };
    const caption = h("p", { class: "pg-caption", role: "status", text: "The playground opens …" });
    const time = this.time(), transport = this.transport(), boxes = this.layers(), table = this.table(), sections = this.sections();
    const meters = h("div", { class: "pg-meters" }), legendary = h("span");
    const legend = h("p", { class: "caption" }, h("span", { class: "pg-key real", text: "real" }), "  ", h("span", { class: "pg-key generated", text: "generated" }), legendary);
    const stage = h("div", { class: "pg-stage" }, squares, time.row, transport.row, legend, caption, boxes, meters, table.root, transport.keep);
    const box = h("div", { class: "pg" }, this.rail.root, stage, sections.root);
    return { head, box, model, law, broken, squares, figures, caption, meters, legendary, boxes, ...time, ...transport, ...table, ...sections };
  }
  time() {
    const id = unique("time");
    const scrub = h("input", { type: "range", id, min: 0, max: 0, value: 0, oninput: () => this.seek(Number(scrub.value)) });
    const when = h("output", { for: id, class: "w-number" });
    return { row: h("div", { class: "pg-time" }, h("label", { for: id, text: "Time" }), scrub, when), scrub, when };
  }
  transport() {
    const button = (/** @type {string} */ name, /** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ fn) => h("button", { type: "button", "data-do": name, text, title, onclick: fn });
    const play = button("run", "Play", "Space", () => this.toggle());
    play.classList.add("primary");
    const pace = slider({ label: "steps a frame", min: 1, max: 60, step: 1, value: 10, onChange: (steps) => this.act("pace", { steps }) });
    const slow = h("input", { type: "checkbox", id: unique("slow"), onchange: () => this.act("pace", { slow: slow.checked ? SLOW : 0 }) });
    const name = h("input", { type: "text", id: unique("name"), size: 14, maxlength: 60, placeholder: "name" });
    const buttons = h("div", { class: "pg-transport" }, play,
      button("discriminator", "Step D", "D", () => this.step("discriminator")), button("generator", "Step G", "Shift-G", () => this.step("generator")),
      button("both", "Step", ".", () => this.step("both")), button("back", "Back 50", "Shift-←", () => this.move(-50)),
      pace.root, h("span", {}, slow, h("label", { for: slow.id, text: " slow" })));
    const keep = h("div", { class: "row" }, h("label", { for: name.id, text: "Save as" }), name, button("save", "Save", "S", () => this.save()));
    return { row: buttons, keep, buttons, play, pace, slow, name };
  }
  layers() {
    const row = h("div", { class: "pg-layers", role: "group", "aria-label": "Layers" });
    for (const [name, text] of [...LAYERS, ["average", "average of weights"]]) {
      const box = h("input", { type: "checkbox", id: unique("layer"), "data-layer": name, onchange: () => this.look() });
      box.checked = !this.hidden.has(name) && name !== "average";
      row.append(h("label", { for: box.id }, box, ` ${text}`));
    }
    return row;
  }
  table() {
    const rows = h("tbody"), columns = h("tr");
    const scroll = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Meters" }, h("table", {}, h("thead", {}, columns), rows));
    return { root: h("details", { class: "pg-numbers", open: true }, h("summary", { text: "Meters" }), scroll), rows, columns };
  }
  sections() {
    const root = h("aside", { class: "pg-inspector", "aria-label": "Data, loss and remedies" });
    const part = (/** @type {string} */ name, /** @type {string} */ title) => {
      const body = h("div"), details = h("details", { "data-part": name, open: true }, h("summary", { text: title }), body);
      root.append(details);
      return { details, body };
    };
    const data = part("data", "Data"), remedies = part("remedies", "Remedies"), options = part("options", "Loss and model");
    data.body.append(h("button", { type: "button", text: "Draw points, or take a picture", "data-do": "draw", onclick: () => this.draw() }), this.pen.root);
    return { root, data, remedies, options };
  }

  // What is asked

  begin() {
    const { studio } = this;
    const off = [studio.watch(KEY, (data, arrays) => this.take(data, arrays)), studio.keys.add([
      { key: "Space", label: "playground: play or pause", run: () => this.toggle() },
      { key: ".", label: "playground: one step of both players", run: () => this.step("both") },
      ...["d", "D"].map((key) => ({ key, label: "playground: one step of D", run: () => this.step("discriminator") })),
      { key: "G", label: "playground: one step of G (with Shift: g goes to screens)", run: () => this.step("generator") },
      ...["b", "B"].map((key) => ({ key, label: "playground: break it", run: () => this.ui.broken.select.focus() })),
      ...["f", "F"].map((key) => ({ key, label: "playground: mend it, beside", run: () => this.fix() })),
      ...["s", "S"].map((key) => ({ key, label: "playground: save", run: () => this.ui.name.focus() })),
      { key: "ArrowLeft", label: "playground: a frame back", run: () => this.move(-1) },
      { key: "ArrowRight", label: "playground: a frame on", run: () => this.move(1) },
      { key: "Shift+ArrowLeft", label: "playground: 50 frames back", run: () => this.move(-50) },
      { key: "Shift+ArrowRight", label: "playground: 50 frames on", run: () => this.move(50) },
    ])];
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(this.plots.a.canvas);
    this.ui.name.addEventListener("keydown", (e) => e.key === "Enter" && this.save());
    void this.open();
    return () => (off.forEach((one) => one()), this.resized?.disconnect(), clearTimeout(this.seeking));
  }
  /** @param {boolean} [again] */
  async open(again = false) {
    const { studio } = this, done = studio.busy("the playground opens");
    try {
      const [{ models, laws, failures }, kept] = await Promise.all([studio.ask("playground", "models", {}), studio.recall(KEY)]);
      this.fill(this.ui.model.select, models.map((/** @type {any} */ m) => [m.name, m.title]));
      this.fill(this.ui.law.select, laws.map((/** @type {string} */ law) => [law, law === "drawing" ? "a drawing …" : law]));
      this.fill(this.ui.broken.select, [["", "–"], ...failures.map((/** @type {any} */ f) => [f.id, f.title])]);
      const hash = { model: studio.hash.get("model", ""), law: studio.hash.get("law", ""), break: studio.hash.get("break", "") };
      this.setup = hash.break ? { break: hash.break } : hash.model ? hash : kept || SEED;
      this.ui.model.select.value = this.setup.model ?? SEED.model;
      const open = studio.hash.get("open", ""), options = studio.hash.get("options", {});
      studio.hash.set({ open: null, options: null });
      if (open) return await this.reopen(open, { ...this.setup, options });
      await studio.ask("playground", "act", { key: KEY, do: "show" }, { key: KEY });
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      if (/playground is gone/.test(error.failure.what)) await this.start(this.setup.law === "drawing" ? { ...this.setup, law: "ring" } : this.setup);
      else if (again) studio.fail(error);
      else await this.open(true);  // the process has ended meanwhile: the session is in its file, and a new one would take its place
    } finally {
      done();
    }
  }
  /** A dropped picture of a saved session: that one, or one with its options where it is gone. @param {string} open @param {any} setup */
  async reopen(open, setup) {
    this.setup = setup;
    this.forget();
    this.studio.keep(KEY, { model: setup.model, law: setup.law });
    try {
      await this.studio.ask("playground", "play", { key: KEY, open }, { key: KEY });
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      await this.start(setup.law === "drawing" ? { ...setup, law: "ring" } : setup);
    }
  }
  /** @param {HTMLSelectElement} select @param {string[][]} pairs */
  fill(select, pairs) {
    select.replaceChildren(...pairs.map(([value, text]) => h("option", { value, text })));
  }
  /** A new session. @param {any} setup @param {Record<string, any>} [arrays] */
  async start(setup, arrays) {
    const { ink, ...plain } = setup, { studio } = this;
    this.setup = plain;
    this.refusals = 0;
    this.forget();
    studio.keep(KEY, plain);
    studio.hash.set({ model: plain.model || null, law: plain.law || null, break: plain.break || null });
    studio.fail(null);
    const ends = studio.ask("playground", "play", { key: KEY, ...plain }, { key: KEY, arrays });
    await ends.catch((error) => (studio.fail(error), this.mark()));
  }
  /** @param {string} what @param {any} [more] */
  act(what, more = {}) {
    this.studio.fail(null);
    return this.studio.ask("playground", "act", { key: KEY, do: what, ...more }, { key: KEY }).catch((error) => this.studio.fail(error));
  }
  toggle() {
    void this.act("run", { on: !this.shown?.data.running });
  }
  /** @param {string} who */
  step(who) {
    const players = this.about?.panes.a.players || [];
    void this.act("step", { who: who === "both" || players.includes(who) ? who : "both", n: 1 });
  }
  look() {
    const on = [...this.ui.boxes.querySelectorAll("input")].filter((b) => b.checked).map((b) => b.dataset.layer || "");
    this.hidden = new Set(LAYERS.map(([name]) => name).filter((name) => !on.includes(name)));
    this.redraw();
    void this.act("look", { layers: on.filter((n) => !["real", "fake", "average"].includes(n)), average: on.includes("average") });
  }
  save() {
    const m = this.shown?.data.panes.a;
    void this.act("save", { name: this.ui.name.value.trim() || `${this.about?.panes.a.model} ${this.about?.law} ${m?.step ?? 0}` });
  }
  /** @param {boolean} [open] */
  draw(open) {
    this.pen.root.hidden = open === undefined ? !this.pen.root.hidden : !open;
    this.ui.data.details.open = true;
    if (!this.pen.root.hidden) /** @type {HTMLElement} */ (this.pen.root.firstElementChild).focus();
  }
  fix() {
    this.ui.remedies.details.open = true;
    /** @type {HTMLElement|null} */ (this.ui.remedies.body.querySelector("button"))?.focus();
  }
  /** @param {number} by */
  move(by) {
    if (this.shown) this.seek(this.shown.data.frame + by);
  }
  /** Show a frame of the past: at once if the page has it, and the weights follow. @param {number} to */
  seek(to) {
    if (!this.shown) return;
    const { first, last } = this.shown.data, frame = Math.max(first, Math.min(last, to)), there = this.frames.get(frame);
    if (there) this.show({ data: { ...there.data, first, last, running: false, news: this.news, about: null }, arrays: there.arrays });
    clearTimeout(this.seeking);
    this.seeking = setTimeout(() => this.act("rewind", { frame }), there ? 90 : 0);
  }

  // What comes

  /** @param {any} data @param {Arrays} arrays */
  take(data, arrays) {
    if (data.refused[0] !== this.refusals) {
      if (this.refusals >= 0 && data.refused[0]) this.studio.fail(new Failed({ what: data.refused[1], why: "", do: "" }));
      this.refusals = data.refused[0];
    }
    if (data.about) {
      if (JSON.stringify(Object.keys(data.panes)) !== JSON.stringify(Object.keys(this.about?.panes || {})) || data.past <= 1) this.forget();
      this.about = data.about;
      this.news = data.news;
      this.mark();
    } else if (data.news !== this.news) {
      this.news = data.news;
      void this.act("show");
    }
    const frame = { data, arrays };
    this.frames.delete(data.frame);
    this.frames.set(data.frame, frame);
    if (this.frames.size > KEPT) this.frames.delete(/** @type {number} */ (this.frames.keys().next().value));
    for (const one of this.sparks) one.add(data.frame, data.panes.a, data.panes.b);
    this.show(frame);
  }
  forget() {
    this.frames.clear();
    for (const one of this.sparks) one.forget();
  }
  /** What changes with a pane and not with a frame. */
  mark() {
    const { about, studio } = this;
    if (!about) return;
    const { a, b } = about.panes;
    this.ui.model.select.value = a.model;
    this.ui.law.select.value = about.law;
    this.ui.legendary.textContent = a.players.includes("discriminator") && a.shows.length ? ". The square is blue where D says real, orange where it says generated; the line is D = 1/2." : a.shows.length ? "" : ". The thin line is the closed form; the middle is the equilibrium.";
    this.ui.law.select.disabled = a.players.length === 2 && !a.shows.length;
    this.ui.broken.select.value = about.failure;
    this.ui.box.classList.toggle("split", Boolean(b));
    this.ui.box.classList.toggle("bare", !b && !a.shows.length);
    this.ui.squares.replaceChildren(this.ui.figures.a.root, ...(b ? [this.ui.figures.b.root] : []));
    const diff = (/** @type {any[]} */ d) => d.map(([n, x, y]) => `${n.replaceAll("_", " ")} ${value(x)} → ${value(y)}`).join(", ");
    this.ui.figures.a.title.replaceChildren(...(b ? [h("strong", { text: "A " }), "as it was"] : []));
    this.ui.figures.b.title.replaceChildren(h("strong", { text: "B " }), b ? diff(b.diff) || "the same options" : "", b?.fresh.length ? h("span", { class: "muted", text: `; anew: ${b.fresh.join(", ")}` }) : "");
    for (const box of this.ui.boxes.querySelectorAll("input")) box.disabled = !["real", "fake", "average"].includes(box.dataset.layer || "") && !a.shows.includes(box.dataset.layer);
    for (const button of this.ui.buttons.querySelectorAll("button")) if (["discriminator", "generator"].includes(button.dataset.do || "")) button.hidden = !a.players.includes(button.dataset.do);
    this.gauges(a);
    const chosen = document.activeElement instanceof HTMLElement ? document.activeElement.closest("[data-option]")?.getAttribute("data-option") : null;
    this.ui.options.body.replaceChildren(...(b ? [h("p", { class: "caption", text: "These are A's. Close one of the two to change them." })] : [options(a.options, (name, to) => this.act("set", { options: { [name]: to } }))]));
    if (chosen) /** @type {HTMLElement|null} */ (this.ui.options.body.querySelector(`[data-option="${CSS.escape(chosen)}"] :is(input, select)`))?.focus();
    this.ui.remedies.details.hidden = !about.remedies.length && !b;
    this.ui.remedies.body.replaceChildren(...(b ? this.pair() : [this.list(about.remedies)]));
    studio.status({ command: a.command });
    this.read = 0;
  }
  pair() {
    return [h("p", { text: "Both run on the same noise and the same data." }), h("div", { class: "row" },
      h("button", { type: "button", "data-do": "keep-b", text: "Go on with B", onclick: () => this.act("close", { keep: "b" }) }),
      h("button", { type: "button", "data-do": "keep-a", text: "Go on with A", onclick: () => this.act("close", { keep: "a" }) }))];
  }
  /** @param {any[]} remedies */
  list(remedies) {
    return h("ul", { class: "pg-remedies" }, ...remedies.map((r) => h("li", {}, h("button", { type: "button", "data-remedy": r.id, onclick: () => this.act("mend", { remedy: r.id }) },
      h("strong", { text: r.title }), h("code", { text: r.diff.map((/** @type {any[]} */ [n, x, y]) => `${n.replaceAll("_", "-")}: ${value(x)} → ${value(y)}`).join(", ") }), h("span", { text: r.why })))));
  }
  /** @param {any} a */
  gauges(a) {
    const kind = a.model === "dirac" ? "orbit" : a.players.includes("discriminator") ? "duel" : a.model;
    if (this.gauged === kind) return;
    this.gauged = kind;
    const both = (/** @type {(m: any) => any} */ of) => [{ name: "", colour: "--accent", of: (/** @type {any} */ x) => of(x) }, { name: "B", colour: "--c2", dashed: true, of: (/** @type {any} */ _, /** @type {any} */ y) => y && of(y) }];
    const loss = (/** @type {any} */ m) => Object.values(m.losses || {})[0];
    const about = kind === "orbit"
      ? [{ title: "distance from the equilibrium", lines: both((m) => m.radius), low: 0 }, { title: "off the closed form", lines: both((m) => m.off) }, { title: "θ", lines: both((m) => m.theta) }]
      : [{ title: "JS divergence", unit: "bit", lines: both((m) => m.js), low: 0, high: 1 }, { title: "sliced W2", lines: both((m) => m.w2), low: 0 },
        kind === "duel" ? { title: "pull on generated points", log: true, lines: [{ name: "saturating", colour: "--c2", of: (/** @type {any} */ m) => m.pulls.minimax }, { name: "non-sat.", colour: "--c1", dashed: true, of: (/** @type {any} */ m) => m.pulls.nonsaturating }] }
          : { title: "loss", lines: both(loss) }];
    this.sparks = about.map((one) => spark(one));
    this.ui.meters.replaceChildren(...this.sparks.map((one) => one.root));
  }
  redraw() {
    if (this.shown) this.show(this.shown);
  }
  /** @param {Frame} frame */
  show(frame) {
    this.shown = frame;
    const { data, arrays } = frame, reach = this.about?.reach ?? 1.25;
    for (const name of /** @type {const} */ (["a", "b"])) if (data.panes[name]) this.plots[name].draw(arrays, name, reach, this.hidden);
    this.ui.scrub.min = String(data.first);
    this.ui.scrub.max = String(data.last);
    this.ui.scrub.value = String(data.frame);
    const canvas = this.plots.a.canvas;
    canvas.dataset.frame = String(data.frame);
    canvas.dataset.step = String(data.panes.a.step);
    if (data.running && performance.now() - this.read < READ) return;
    this.read = performance.now();
    this.words(data, arrays);
    this.rail.draw(data.panes.a, arrays, reach, this.about?.panes.a);
    for (const one of this.sparks) one.draw(data.frame, data.first, data.last);
  }
  /** What can be read: a few times a second. @param {any} data @param {Arrays} arrays */
  words(data, arrays) {
    const { a, b } = data.panes, title = this.about?.panes.a.title ?? "";
    for (const name of /** @type {const} */ (["a", "b"])) {
      const m = data.panes[name];
      if (m) this.plots[name].canvas.setAttribute("aria-label", summary(b ? `${title}, pane ${name.toUpperCase()}` : title, m, arrays, name));
    }
    this.ui.play.textContent = data.running ? "Pause" : "Play";
    this.ui.play.setAttribute("aria-pressed", String(data.running));
    this.ui.slow.checked = data.slow > 0;
    if (document.activeElement !== this.ui.pace.input) this.ui.pace.value = data.pace;
    const text = `step ${short(a.step)}`;
    this.ui.when.textContent = data.frame < data.last ? `${text}, ${data.last - data.frame} frames back` : text;
    this.ui.scrub.setAttribute("aria-valuetext", this.ui.when.textContent);
    const bad = a.diverged || b?.diverged;
    const speed = data.running && data.speed ? ` ${Math.round(data.speed)} steps a second${data.cut ? "; training slowed, so that the picture stays fluent" : ""}.` : "";
    const line = bad ? `${a.diverged ? "A" : "B"} ${bad}. Go 50 back (Shift-←), or mend it.` : data.caption || `${this.about?.see || "Space plays and pauses; . makes one step, D and Shift-G one of a single player; B breaks, F mends; arrows go back in time."}${speed}`;
    if (this.ui.caption.textContent !== line) this.ui.caption.textContent = line;
    this.ui.caption.classList.toggle("bad", Boolean(bad));
    this.studio.status({ saved: data.saved });
    this.tabulate(a, b);
  }
  /** @param {any} a @param {any} b */
  tabulate(a, b) {
    const kinds = /** @type {[string, (m: any) => string|undefined][]} */ ([
      ["step", (m) => short(m.step)],
      ["JS divergence", (m) => has(m.js) && `${m.js.toFixed(3)} bit (n = ${m.n}; real against real ${m.js_floor.toFixed(3)})`],
      ["KL(real | generated)", (m) => has(m.kl) && `${m.kl.toFixed(2)} bit`],
      ["KL(generated | real)", (m) => has(m.reverse_kl) && `${m.reverse_kl.toFixed(2)} bit`],
      ["sliced W2", (m) => has(m.w2) && `${m.w2.toFixed(3)} (n = ${m.n})`],
      ["modes hit", (m) => has(m.modes) && `${m.modes} of ${m.of}`],
      ["on a mode", (m) => has(m.on_modes) && percent(m.on_modes)],
      ["D right on real, on generated", (m) => has(m.d_real) && `${percent(m.d_real)}, ${percent(m.d_fake)}`],
      ["median |∂L/∂x|, saturating", (m) => has(m.pulls?.minimax) && short(m.pulls.minimax, 3)],
      ["median |∂L/∂x|, non-saturating", (m) => has(m.pulls?.nonsaturating) && short(m.pulls.nonsaturating, 3)],
      ["θ, ψ", (m) => has(m.theta) && `${m.theta.toFixed(3)}, ${m.psi.toFixed(3)}`],
      ["distance from the equilibrium", (m) => has(m.radius) && m.radius.toFixed(4)],
      ["off the closed form", (m) => has(m.off) && m.off.toFixed(4)],
    ]);
    const panes = b ? [a, b] : [a];
    this.ui.columns.replaceChildren(h("th", { scope: "col", text: "meter" }), ...panes.map((_, i) => h("th", { scope: "col", text: b ? "AB"[i] : "now" })));
    this.ui.rows.replaceChildren(...kinds.filter(([, of]) => of(a)).map(([name, of]) => h("tr", {}, h("th", { scope: "row", text: name }), ...panes.map((m) => h("td", { text: of(m) || "–" })))));
  }
}

/** A select with its name. @param {string} name @param {string} text @param {(v: string) => void} fn */
function pick(name, text, fn) {
  const select = h("select", { id: unique("pg"), "data-pick": name, onchange: () => fn(select.value) });
  return { select, label: h("label", { for: select.id }, text, select) };
}
/** @param {"a"|"b"} name @param {ReturnType<typeof plot>} plotted */
function figure(name, plotted) {
  const title = h("figcaption");
  return { title, root: h("figure", { "data-pane": name }, title, plotted.canvas) };
}
/** @param {any} x */
const has = (x) => x !== null && x !== undefined;
/** @param {any} x */
const value = (x) => (typeof x === "number" ? short(x, 3) : x === true ? "on" : x === false ? "off" : String(x));
