// @ts-check
// Pixel by pixel: an image as an autoregressive model draws it, and what it held possible at each place.
// This page is the clock; an image is a function of its plan, and the plan is kept on the server and in the address.

import { bars } from "../widgets/bars.js";
import { h, still, styled } from "../widgets/dom.js";
import { slider } from "../widgets/slider.js";
import { round, summed, view } from "./pixels/view.js";
import { tree } from "./pixels/tree.js";
import about from "./about/pixels.js";

const FASTEST = 2000;
const OVERLAYS = [["image", "image"], ["surprise", "surprise, −log₂ p"], ["entropy", "entropy"], ["field", "receptive field of the cursor"]];
const NAMES = ["red", "green", "blue"];

/** @typedef {{seed: number, number: number, known: number, of: number, label: number|null, fixed: Record<string, number>, heat: [number, number][]}} Plan */

/** @returns {Plan} */
const fresh = (seed = 0) => ({ seed, number: 0, known: 0, of: 0, label: null, fixed: {}, heat: [[0, 1]] });

/** The stylesheet of this screen, once. */
function style() {
  styled();
  const href = new URL("./pixels/pixels.css", import.meta.url).href;
  if (![...document.styleSheets].some((s) => s.href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
}

class Pixels {
  /** @param {HTMLElement} root @param {any} studio @param {any} about */
  constructor(root, studio, about) {
    this.root = root;
    this.studio = studio;
    this.about = about;
    this.run = studio.run;
    /** @type {Plan} */ this.plan = fresh();
    if (about.labels.length) this.plan.label = about.labels[0];
    this.dims = about.size ** 2 * about.channels;
    /** @type {Int32Array|null} */ this.start = null;
    this.place = 0;
    this.wanted = 0;
    this.pending = Promise.resolve();
    this.total = 0;
    /** @type {any} */ this.judged = null;
    this.file = /** @type {{bytes: Uint8Array, name: string}|null} */ (null);
    this.held = 0;
    this.cursor = { row: 0, column: 0, channel: 0 };
    this.follow = true;
    this.overlay = "image";
    this.playing = false;
    this.pace = still() ? FASTEST : 20;
    /** @type {any[]} */ this.past = [];
    /** @type {any[]} */ this.future = [];
    /** @type {Float32Array|null} */ this.influence = null;
    this.gone = false;
    this.came = false;
    const n = this.dims;
    this.picture = { levels: new Int32Array(n).fill(-1), bits: new Float32Array(n).fill(NaN), entropy: new Float32Array(n).fill(NaN) };
    /** @type {Float32Array|null} */ this.p = null;
    const later = /** @type {any} */ (null);  // made by build()
    /** @type {HTMLButtonElement} */ this.playButton = later;
    /** @type {HTMLInputElement} */ this.seedInput = later;
    /** @type {HTMLInputElement} */ this.levelInput = later;
    /** @type {HTMLInputElement} */ this.fileInput = later;
    /** @type {HTMLSelectElement} */ this.classInput = later;
    /** @type {HTMLSelectElement} */ this.overlayInput = later;
    /** @type {HTMLSelectElement} */ this.channelInput = later;
    /** @type {HTMLElement} */ this.scale = later;
    /** @type {HTMLElement} */ this.stale = later;
    /** @type {HTMLElement} */ this.count = later;
    /** @type {HTMLElement} */ this.countSays = later;
    /** @type {HTMLElement} */ this.verdict = later;
    /** @type {ReturnType<typeof slider>} */ this.paceSlider = later;
    /** @type {ReturnType<typeof slider>} */ this.heatSlider = later;
    /** @type {ReturnType<typeof bars>} */ this.bars = later;
    /** @type {ReturnType<typeof tree>} */ this.tree = later;
    /** @type {ReturnType<typeof view>} */ this.view = later;
    this.fieldSays = "";
    this.build();
  }

  key(/** @type {string} */ what) {
    return `pixels:${what}:${this.run.path}`;
  }

  // The screen

  build() {
    const { about } = this, button = (/** @type {string} */ text, /** @type {() => void} */ run, /** @type {any} */ more = {}) =>
      h("button", { type: "button", text, onclick: run, ...more });
    this.view = view(about, { onCursor: (row, column, picked) => this.move(row, column, picked) });
    this.playButton = button("Play", () => this.toggle(), { title: "Space", class: "primary" });
    const steps = h("div", { class: "row", role: "group", "aria-label": "Drawing" }, this.playButton,
      button("Pixel", () => this.step("pixel"), { title: ". key" }),
      about.channels > 1 && button("Channel", () => this.step("channel"), { title: ", key" }),
      button("Row", () => this.step("row"), { title: "↓ key" }),
      button("To the end", () => void this.to(this.dims), { title: "End" }),
      button("From the start", () => void this.to(this.plan.known * about.channels), { title: "Home" }),
      button("New seed", () => this.seed(Math.floor(Math.random() * 1e6)), { title: "R" }));
    this.paceSlider = slider({ label: "Pace", min: 1, max: FASTEST, value: this.pace, log: true, unit: "pixels/s",
      show: (v) => (v >= FASTEST * 0.98 ? "as fast as it goes" : `${v < 10 ? v.toFixed(1) : Math.round(v)} pixels/s`), onInput: (v) => (this.pace = v) });
    this.heatSlider = slider({ label: "Temperature", min: 0.1, max: 4, value: 1, log: true, show: (v) => v.toFixed(2),
      help: "counts from the next pixel on; 1 is the model itself", onChange: (v) => this.temperature(v) });
    this.seedInput = h("input", { type: "number", min: 0, max: 2 ** 31 - 1, step: 1, value: 0, "aria-label": "Seed", onchange: () => this.seed(Number(this.seedInput.value) || 0) });
    this.classInput = h("select", { "aria-label": "Class", onchange: () => this.change(() => ((this.plan.label = Number(this.classInput.value)), (this.plan.fixed = {})), 0) },
      ...about.labels.map((/** @type {number} */ k, /** @type {number} */ i) => h("option", { value: k, text: about.classes[i] })));
    this.overlayInput = h("select", { "aria-label": "Shown", onchange: () => this.lay(this.overlayInput.value) },
      ...OVERLAYS.map(([value, text]) => h("option", { value, text })));
    this.scale = h("span", { class: "caption" });
    const top = h("div", { class: "row second" }, h("label", {}, "Seed ", this.seedInput),
      about.labels.length > 0 && h("label", {}, "Class ", this.classInput), h("label", {}, "Shown ", this.overlayInput), this.scale);
    this.stale = h("p", { class: "warn small", hidden: true });
    const left = h("div", {}, steps, top, this.stale, h("div", { class: "pixel-stage" }, this.view.root), this.view.says,
      h("div", { class: "columns" }, this.paceSlider.root, this.heatSlider.root));
    this.root.append(h("h1", { text: "Pixel by pixel" }), h("div", { class: "with-inspector" }, left, this.inspector(button)));
  }

  /** @param {(text: string, run: () => void, more?: any) => HTMLButtonElement} button */
  inspector(button) {
    const { about } = this;
    this.count = h("output", { class: "big", "aria-label": "bits per dimension so far" });
    this.countSays = h("p", { class: "caption" });
    this.bars = bars({ label: "What the sub-pixel may be", height: 130, onPick: (i) => ((this.levelInput.value = String(i)), this.fix()) });
    this.levelInput = h("input", { type: "number", min: 0, max: about.levels - 1, step: 1, value: 0, "aria-label": "Level of the cursor's sub-pixel" });
    this.channelInput = h("select", { "aria-label": "Channel", onchange: () => ((this.cursor.channel = Number(this.channelInput.value)), this.ask()) },
      ...Array.from({ length: about.channels }, (_, i) => h("option", { value: i, text: about.channels === 3 ? NAMES[i] : `channel ${i + 1}` })));
    const fixing = h("div", { class: "row" }, h("label", {}, "Level ", this.levelInput), about.channels > 1 && h("label", {}, "of ", this.channelInput),
      button("Fix", () => this.fix(), { title: "F" }), button("Free", () => this.free(), { title: "X" }));
    this.tree = tree(about, (node) => this.adopt(node));
    this.fileInput = h("input", { type: "file", accept: "image/*", "aria-label": "An image of your own", onchange: () => void this.load() });
    this.verdict = h("p", { class: "small", role: "status" });
    const own = h("fieldset", {}, h("legend", { text: "Judge an image, or go on from it" }),
      h("div", { class: "row" }, button("Held-out image", () => void this.judge(this.held++, null), { title: "J" }), h("label", {}, "your own ", this.fileInput)), this.verdict,
      button("Draw from the cursor on", () => void this.complete(), { title: "C" }));
    return h("div", {}, h("div", { class: "panel" }, this.count, this.countSays, this.bars.root, fixing,
      h("p", { class: "caption", text: "A fixed sub-pixel is what it is for all that come after it; those before have not heard of it." })),
      h("h2", { text: "Branches" }), h("div", { class: "row" }, button("4 branches here", () => void this.branch(), { title: "B" })), this.tree.root,
      h("h2", { text: "Own image" }), own,
      h("div", { class: "row" }, button("Save picture and numbers", () => void this.save(), { title: "S" })));
  }

  keys() {
    const key = (/** @type {string} */ key, /** @type {string} */ label, /** @type {() => void} */ run) => ({ key, label, run });
    return this.studio.keys.add([
      key("Space", "play or pause", () => this.toggle()), key(".", "draw a pixel", () => this.step("pixel")),
      key(",", "draw a channel", () => this.step("channel")), key("ArrowDown", "draw a row", () => this.step("row")),
      key("End", "draw to the end", () => void this.to(this.dims)), key("Home", "begin anew", () => void this.to(this.plan.known * this.about.channels)),
      key("r", "new seed", () => this.seed(Math.floor(Math.random() * 1e6))), key("t", "to the temperature", () => this.heatSlider.input.focus()),
      key("f", "fix the sub-pixel", () => this.fix()), key("x", "free the sub-pixel", () => this.free()),
      key("b", "4 branches at the cursor", () => void this.branch()), key("j", "judge the next held-out image", () => void this.judge(this.held++, null)),
      key("c", "draw from the cursor on", () => void this.complete()), key("s", "save picture and numbers", () => void this.save()),
      key("v", "show something else", () => this.lay(OVERLAYS[(OVERLAYS.findIndex(([id]) => id === this.overlay) + 1) % OVERLAYS.length][0])),
      key("Escape", "pause", () => this.pause()), key("Ctrl+Z", "undo", () => this.back(this.past, this.future)), key("Ctrl+Shift+Z", "redo", () => this.back(this.future, this.past)),
    ]);
  }

  // Drawing

  args(/** @type {any} */ more = {}) {
    return { run: this.run.path, ...this.plan, ...more };
  }
  arrays() {
    const { size, channels } = this.about;
    return this.start && this.plan.known ? { start: { data: this.start, shape: [channels, size, size] } } : undefined;
  }

  /** Draw, or go back, until so many sub-pixels are known. @param {number} upto */
  to(upto) {
    this.judged = null;
    this.wanted = Math.max(this.plan.known * this.about.channels, Math.min(this.dims, upto));
    this.pending = this.draw(this.args({ upto: this.wanted }));
    return this.pending;
  }
  /** @param {any} draw what is asked for */
  async draw(draw) {
    try {
      await this.studio.ask("pixels", "draw", draw, { key: this.key("draw"), arrays: this.arrays(), onValue: (/** @type {any} */ d, /** @type {any} */ a) => this.take(d, a) });
    } catch (error) {
      this.pause();
      this.studio.fail(error);
    }
    this.kept();
  }

  /** @param {any} data @param {any} arrays */
  take(data, arrays) {
    if (this.gone || !arrays.levels) return;
    this.came = true;
    this.place = data.place;
    this.total = data.bits;
    this.picture = { levels: arrays.levels.data, bits: arrays.bits.data, entropy: arrays.entropy.data };
    if (data.command) this.studio.status({ command: data.command });
    if (data.last && this.follow) {
      this.cursor = { ...data.last };
      this.p = arrays.p.data;
    }
    this.stale.hidden = data.seen === this.about.seen;
    this.stale.textContent = `Training has moved on: drawn by the weights after ${data.seen.toLocaleString("en-US")} images.`;
    this.show();
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.place >= this.dims || this.judged) {
      this.judged = null;
      this.place = this.plan.known * this.about.channels;
    }
    this.playing = true;
    this.follow = true;
    this.playButton.textContent = "Pause";
    void this.clock();
  }
  pause() {
    if (this.playing) {
      this.studio.stop(this.key("draw"));
      this.wanted = this.place;
    }
    this.playing = false;
    this.playButton.textContent = "Play";
    if (this.place) this.studio.say(this.words());
  }
  async clock() {
    const channels = this.about.channels;
    let owed = 0, before = performance.now();
    while (this.playing && !this.gone && this.place < this.dims) {
      if (this.pace >= FASTEST * 0.98) {
        await this.to(this.dims);
      } else {
        const now = performance.now();
        owed = Math.min(owed + ((now - before) / 1000) * this.pace, this.pace);
        before = now;
        const pixels = Math.floor(owed);
        owed -= pixels;
        if (pixels) await this.to((Math.floor(this.place / channels) + pixels) * channels);
        else await new Promise((resolve) => setTimeout(resolve, Math.max(8, Math.min(100, (1000 * (1 - owed)) / this.pace))));
      }
    }
    if (this.playing) this.pause();
  }
  /** @param {"pixel"|"channel"|"row"} unit */
  step(unit) {
    if (this.playing) this.pause();
    this.follow = true;
    const { channels, size } = this.about, by = { channel: 1, pixel: channels, row: channels * size }[unit];
    void this.to((Math.floor(this.wanted / by) + 1) * by).then(() => this.studio.say(this.words()));
  }

  // Changes of the plan, each of which can be undone

  state() {
    return { plan: structuredClone(this.plan), start: this.start, place: this.judged ? this.dims : this.place };
  }
  /** @param {() => void} change @param {number} [upto] */
  change(change, upto) {
    this.pause();
    this.past.push(this.state());
    this.future = [];
    change();
    this.fields();
    void this.to(upto ?? this.place);
  }
  /** @param {any[]} from @param {any[]} onto */
  back(from, onto) {
    const state = from.pop();
    if (!state) return;
    onto.push(this.state());
    Object.assign(this, { plan: state.plan, start: state.start });
    this.fields();
    void this.to(state.place);
  }
  /** @param {number} seed */
  seed(seed) {
    const { label } = this.plan, heat = this.heatSlider.value;
    this.tree.clear();
    this.change(() => ((this.plan = { ...fresh(Math.max(0, Math.floor(seed))), label, heat: [[0, heat]] }), (this.start = null)), 0);
  }
  /** @param {number} t */
  temperature(t) {
    this.change(() => {
      const at = this.place >= this.dims ? 0 : this.place;
      this.plan.heat = at <= this.plan.known * this.about.channels ? [[0, t]] : [...this.plan.heat.filter(([p]) => p < at), [at, t]];
    }, this.place >= this.dims ? 0 : this.place);
  }
  number() {
    const { row, column, channel } = this.cursor;
    return (row * this.about.size + column) * this.about.channels + channel;
  }
  fix() {
    const level = Math.max(0, Math.min(this.about.levels - 1, Math.round(Number(this.levelInput.value) || 0))), at = this.number();
    if (at < this.plan.known * this.about.channels) return this.studio.fail({ message: "That pixel is part of what is kept; begin the drawing before it." });
    this.follow = false;
    this.change(() => (this.plan.fixed[at] = level), Math.max(this.place, at + 1));
  }
  free() {
    if (this.number() in this.plan.fixed) this.change(() => delete this.plan.fixed[this.number()]);
  }

  async branch() {
    this.pause();
    await this.pending;
    const { size, channels } = this.about, pixel = this.cursor.row * size + this.cursor.column;
    const known = Math.min(pixel, Math.floor((this.judged ? this.dims : this.place) / channels));
    const start = this.picture.levels.slice(), seed = Math.floor(Math.random() * 1e6), title = `from row ${Math.floor(known / size) + 1}, column ${(known % size) + 1}`;
    const parent = this.tree.chosen || null, heat = /** @type {[number, number][]} */ ([[0, this.heatSlider.value]]);
    const fixed = Object.fromEntries(Object.entries(this.plan.fixed).filter(([at]) => Number(at) >= known * channels));
    /** @type {number[]} */ const ids = [];
    const done = this.studio.busy("drawing branches");
    const n = size * size * channels, plan = { ...this.plan, seed, known, fixed, heat, of: this.plan.known ? this.plan.of : this.plan.number };
    try {
      await this.studio.ask("pixels", "branch", { run: this.run.path, ...plan, draws: 4 }, {
        key: this.key("branch"), arrays: known ? { start: { data: start, shape: [channels, size, size] } } : undefined,
        onValue: (/** @type {any} */ data, /** @type {any} */ a) => {
          for (let k = 0; k < 4; k++) {
            const levels = a.levels.data.slice(k * n, (k + 1) * n), says = `${(data.bits[k] / Math.max(1, data.place)).toFixed(3)} bits/dim`;
            const state = { plan: { ...structuredClone(plan), number: k }, start: known ? start : null, place: this.dims };
            if (ids.length < 4) ids.push(this.tree.add({ parent, title: `${title}, draw ${k + 1}`, levels, says, state }));
            else this.tree.change(ids[k], { levels, says });
          }
        },
      });
      this.studio.say("4 branches are drawn");
    } catch (error) {
      this.studio.fail(error);
    }
    done();
  }
  /** @param {import("./pixels/tree.js").Node} node */
  adopt(node) {
    this.tree.choose(node.id);
    this.change(() => Object.assign(this, { plan: structuredClone(node.state.plan), start: node.state.start }), this.dims);
  }

  // One's own image

  async load() {
    const file = this.fileInput.files?.[0];
    if (!file) return;
    this.file = { bytes: new Uint8Array(await file.arrayBuffer()), name: file.name.slice(0, 200) };
    await this.judge(null, this.file);
  }
  /** @param {number|null} held @param {{bytes: Uint8Array, name: string}|null} file */
  async judge(held, file) {
    this.pause();
    await this.pending;
    const done = this.studio.busy("judging");
    const args = { run: this.run.path, rank: "yes", ...(file ? { name: file.name, label: this.plan.label } : { held }) };
    try {
      await this.studio.ask("pixels", "judge", args, { key: this.key("judge"), arrays: file ? { file: file.bytes } : undefined,
        onValue: (/** @type {any} */ data, /** @type {any} */ a) => {
          this.judged = data;
          if (data.label !== null && this.about.labels.length) this.plan.label = data.label;
          this.follow = false;
          this.take(data, a);
          const rank = data.rank === null || data.rank === undefined ? "" : `; more than ${Math.round(100 * data.rank)} % of ${data.against} held-out images`;
          this.verdict.textContent = `${data.name}: ${data.bits_per_dim.toFixed(4)} bits/dim${rank}`;
          this.studio.status({ command: data.command });
          this.fields();
          void this.ask();
        } });
    } catch (error) {
      this.studio.fail(error);
    }
    done();
  }
  async complete() {
    this.pause();
    await this.pending;
    const { size, channels } = this.about, pixel = this.cursor.row * size + this.cursor.column;
    const known = Math.min(pixel || Math.floor(size ** 2 / 2), Math.floor((this.judged ? this.dims : this.place) / channels));
    const start = this.picture.levels.slice();
    this.change(() => ((this.plan = { ...fresh(this.plan.seed), known, label: this.plan.label, heat: [[0, this.heatSlider.value]] }), (this.start = start), (this.judged = null)), known * channels);
    this.toggle();
  }

  async save() {
    this.pause();
    await this.pending;
    const done = this.studio.busy("saving");
    try {
      await this.studio.ask("pixels", "keep", this.args({ upto: this.place }), { key: this.key("keep"), arrays: this.arrays(),
        onValue: (/** @type {any} */ data) => (this.studio.status({ saved: data.paths.join(", "), command: data.command }), this.studio.say("saved")) });
    } catch (error) {
      this.studio.fail(error);
    }
    done();
  }

  // What is shown

  /** @param {number} row @param {number} column @param {boolean} picked */
  move(row, column, picked) {
    this.cursor = { row, column, channel: this.cursor.channel };
    this.follow = false;
    this.show();
    void this.ask();
    if (picked) this.levelInput.select();
  }
  /** The softmax at the cursor, and its receptive field where that is shown. */
  async ask() {
    const { size, channels } = this.about, { row, column, channel } = this.cursor;
    const image = { levels: { data: this.picture.levels, shape: [channels, size, size] } };
    const args = { run: this.run.path, row, column, channel, label: this.plan.label, of: this.plan.known ? this.plan.of : this.plan.number };
    try {
      const asked = [this.studio.ask("pixels", "at", args, { key: this.key("at"), arrays: image,
        onValue: (/** @type {any} */ d, /** @type {any} */ a) => {
          if (d.row !== this.cursor.row || d.column !== this.cursor.column || d.channel !== this.cursor.channel) return;
          this.p = a.p.data;
          this.show();
          this.studio.say(this.words());
        } })];
      if (this.overlay === "field")
        asked.push(this.studio.ask("pixels", "field", args, { key: this.key("field"), arrays: image,
          onValue: (/** @type {any} */ d, /** @type {any} */ a) => {
            this.influence = a.influence.data;
            this.fieldSays = d.says;
            this.studio.status({ command: d.command });
            this.show();
          } }));
      await Promise.all(asked);
    } catch (error) {
      this.studio.fail(error);
    }
  }
  /** @param {string} overlay */
  lay(overlay) {
    this.overlay = overlay;
    this.overlayInput.value = overlay;
    this.studio.hash.set({ shown: overlay });
    if (overlay === "field") void this.ask();
    this.show();
  }
  over() {
    if (this.overlay === "image") return null;
    if (this.overlay === "field") return this.influence;
    return summed(this.overlay === "surprise" ? this.picture.bits : this.picture.entropy, this.about);
  }
  words() {
    const { row, column, channel } = this.cursor, { size, channels, levels } = this.about;
    const level = this.picture.levels[channel * size * size + row * size + column];
    const name = channels === 1 ? "" : channels === 3 ? `, ${NAMES[channel]}` : `, channel ${channel + 1}`;
    if (level < 0) return `row ${row + 1}, column ${column + 1}${name}: not drawn yet`;
    const p = this.p ? `, p = ${this.p[level].toPrecision(2)}` : "";
    const i = channel * size * size + row * size + column, bits = this.picture.bits[i];
    return `row ${row + 1}, column ${column + 1}${name}: level ${level} of ${levels - 1}${p}${Number.isFinite(bits) ? `, ${bits.toFixed(2)} bits` : ""}${this.number() in this.plan.fixed ? ", fixed" : ""}`;
  }
  show() {
    const { channels, size } = this.about, values = this.over();
    const top = values ? round(Math.max(...Array.from(values).filter(Number.isFinite))) : 1;
    this.scale.textContent = values ? (this.overlay === "field" ? this.fieldSays : `dark 0, light ${top} bits a pixel`) : "";
    const share = this.place / this.dims;
    this.view.set({ levels: this.picture.levels, values, top, cursor: this.cursor, place: this.judged ? this.dims : this.place,
      fixed: new Set(Object.keys(this.plan.fixed).map((k) => Math.floor(Number(k) / channels))),
      words: `${this.judged ? this.judged.name : `Image of seed ${this.plan.seed}`}, ${Math.round(100 * share)} % drawn, ${size} x ${size} pixels, shown: ${this.overlay}` });
    this.view.says.textContent = this.words();
    const each = this.total / Math.max(1, this.place);
    this.count.textContent = this.place ? `${each.toFixed(4)} bits/dim` : "0 bits";
    this.countSays.textContent = `${this.total.toFixed(1)} bits for ${this.place.toLocaleString("en-US")} of ${this.dims.toLocaleString("en-US")} sub-pixels`;
    const level = this.picture.levels[this.cursor.channel * size * size + this.cursor.row * size + this.cursor.column];
    if (this.p) this.bars.set({ values: this.p, mark: level < 0 ? undefined : level, low: 0, summary: this.words() });
    if (level >= 0 && document.activeElement !== this.levelInput) this.levelInput.value = String(level);
    this.channelInput.value = String(this.cursor.channel);
  }
  /** The controls say what the plan says. */
  fields() {
    this.seedInput.value = String(this.plan.seed);
    this.heatSlider.value = this.plan.heat[this.plan.heat.length - 1][1];
    if (this.plan.label !== null) this.classInput.value = String(this.plan.label);
  }
  /** Not before the first image has come: where that is refused, or another tab takes its place, the older state stays. */
  kept() {
    if (this.gone || this.judged || !this.came) return;
    const own = this.start && this.plan.known && this.dims <= 12_000 ? Array.from(this.start) : null;
    if (this.plan.known && !own) return;
    this.studio.keep(this.key("state"), { plan: this.plan, place: this.place, start: own, held: this.held });
  }
  /** Where it was left: by the address, if that says it, or as the server has kept it. */
  async begin() {
    const asked = this.studio.hash.get("plan", null), there = await this.studio.recall(this.key("state"));
    let place = 0;
    if (asked) {
      const { start, ...plan } = asked;
      this.plan = { ...this.plan, ...plan };
      this.start = start ? Int32Array.from(start) : null;
      place = this.studio.hash.get("upto", this.dims);
      this.studio.hash.set({ plan: null, upto: null });
    } else if (there?.plan) {
      this.plan = { ...this.plan, ...there.plan };
      this.start = there.start ? Int32Array.from(there.start) : null;
      this.held = there.held || 0;
      place = there.place;
    }
    if (this.gone) return;
    const shown = this.studio.hash.get("shown", "image");
    this.overlay = this.overlayInput.value = OVERLAYS.some(([id]) => id === shown) ? shown : "image";
    this.fields();
    await this.to(place);
  }
}

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    style();
    /** @type {Pixels|null} */ let screen = null;
    let gone = false, remove = () => {};
    const path = studio.run?.path;
    studio.ask("pixels", "about", { run: path }, { key: `pixels:about:${path}:${Math.random().toString(36).slice(2, 10)}`, onValue: (/** @type {any} */ about) => {
      if (gone || screen) return;
      screen = new Pixels(root, studio, about);
      remove = screen.keys();
      void screen.begin();
    } }).catch((/** @type {unknown} */ error) => !gone && studio.fail(error));
    return () => {
      gone = true;
      remove();
      if (!screen) return;
      screen.gone = true;
      screen.playing = false;
      studio.stop(screen.key("draw"));
    };
  },
};
