// @ts-check
// Diffusion: an image on its way into noise, computed here, and out of it, frame by frame from the model.

import { chart } from "../widgets/chart.js";
import { h, still, styled } from "../widgets/dom.js";
import { slider } from "../widgets/slider.js";
import { histograms, large, track } from "./diffusion/draw.js";
import { VIEWS, nearest, noised, place, seen } from "./diffusion/noise.js";
import about from "./about/diffusion.js";

/** @typedef {import("./diffusion/noise.js").Frame} Frame */
/** @typedef {{sampler: string, steps: number, eta: number, guidance: number, branches: [number, number][]}} Lane */
const STEPS = [10, 50, 250, 1000];

/** The stylesheet of this screen, once. */
function style() {
  styled();
  const href = new URL("./diffusion/diffusion.css", import.meta.url).href;
  if (![...document.styleSheets].some((s) => s.href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
}

class Diffusion {
  /** @param {HTMLElement} root @param {any} studio @param {any} about @param {any} table */
  constructor(root, studio, about, table) {
    this.root = root;
    this.studio = studio;
    this.about = about;
    this.table = table;
    this.run = studio.run;
    this.seed = 0;
    this.number = 0;
    this.label = about.labels.length ? about.labels[0] : null;
    /** @type {Lane[]} */ this.lanes = [this.usual()];
    /** @type {Frame[][]} */ this.frames = [[], []];
    /** @type {boolean[]} */ this.drawing = [false, false];
    /** @type {string[]} */ this.commands = ["", ""];
    /** @type {{x_0: Float32Array, eps: Float32Array, name: string}|null} */ this.image = null;
    /** @type {{bytes: Uint8Array, name: string}|null} */ this.file = null;
    this.held = 0;
    this.last = table.log_snr.length - 1;
    this.at = Math.round(this.last / 2);
    this.view = "x_t";
    this.follow = false;
    this.gone = false;
    this.restored = this.due = false;
    this.since = -Infinity;
    this.tab = Math.random().toString(36).slice(2, 10);
    this.shown = "";
    const later = /** @type {any} */ (null);  // made by build()
    /** @type {HTMLButtonElement} */ this.drawButton = later;
    /** @type {HTMLButtonElement} */ this.twoButton = later;
    /** @type {HTMLButtonElement} */ this.saveSecond = later;
    /** @type {HTMLInputElement} */ this.seedInput = later;
    /** @type {HTMLInputElement} */ this.time = later;
    /** @type {HTMLInputElement} */ this.fileInput = later;
    /** @type {HTMLSelectElement} */ this.classInput = later;
    /** @type {HTMLSelectElement} */ this.viewInput = later;
    /** @type {HTMLElement} */ this.progress = later;
    /** @type {HTMLElement} */ this.timeSays = later;
    /** @type {HTMLElement} */ this.imageSays = later;
    /** @type {HTMLElement} */ this.lossSays = later;
    /** @type {ReturnType<typeof track>[]} */ this.tracks = later;
    /** @type {ReturnType<typeof large>[]} */ this.views = later;
    /** @type {ReturnType<typeof histograms>} */ this.histogram = later;
    /** @type {ReturnType<typeof chart>} */ this.loss = later;
    /** @type {{root: HTMLElement, show: () => void}[]} */ this.forms = later;
    /** @type {ReturnType<typeof setTimeout>|undefined} */ this.keeping = later;
    this.build();
  }

  /** @returns {Lane} */
  usual() {
    const { sampler, steps, eta, guidance } = this.about.usual;
    return { sampler, steps, eta, guidance, branches: [] };
  }
  /** @param {string} what */
  key(what) {
    return `diffusion:${what}:${this.run.path}`;
  }
  /** Of what is answered at once: another tab that asks the same does not take its place. @param {string} what */
  own(what) {
    return `${this.key(what)}:${this.tab}`;
  }

  build() {
    const { about } = this, button = (/** @type {string} */ text, /** @type {() => void} */ run, /** @type {any} */ more = {}) => h("button", { type: "button", text, onclick: run, ...more });
    this.drawButton = button("Draw", () => this.toggle(), { title: "Space", class: "primary" });
    this.twoButton = button("Second sampler", () => this.two(), { title: "D", "aria-pressed": "false" });
    this.seedInput = h("input", { type: "number", min: 0, max: 2 ** 31 - 1, value: 0, "aria-label": "Seed of the noise", onchange: () => this.noise(Number(this.seedInput.value) || 0) });
    this.classInput = h("select", { "aria-label": "Class", onchange: () => ((this.label = Number(this.classInput.value)), this.begin()) },
      ...about.labels.map((/** @type {number} */ k, /** @type {number} */ i) => h("option", { value: k, text: about.classes[i] })));
    this.viewInput = h("select", { "aria-label": "Shown", onchange: () => this.look(this.viewInput.value) }, ...VIEWS.map(([value, text]) => h("option", { value, text })));
    const top = h("div", { class: "row" }, this.drawButton, button("Branch here", () => this.branch(), { title: "B" }), this.twoButton,
      button("New noise", () => this.noise(Math.floor(Math.random() * 1e6)), { title: "R" }), h("label", {}, "Seed ", this.seedInput),
      about.labels.length > 0 && h("label", {}, "Class ", this.classInput), h("label", {}, "Shown ", this.viewInput));
    this.progress = h("p", { class: "small muted", role: "status" });
    this.time = h("input", { type: "range", min: 0, max: this.last, step: 1, value: this.at, "aria-label": "Time, as log signal-to-noise ratio", oninput: () => this.scrub(Number(this.time.value)) });
    this.timeSays = h("output", { class: "small" });
    const pick = (/** @type {number} */ share) => this.scrub(Math.round(share * this.last));
    this.tracks = [track(about, "Forward", pick), track(about, "Reverse", pick), track(about, "Second", pick)];
    this.views = [large(about, "Forward: into noise", "real"), large(about, "Reverse", "generated"), large(about, "Second", "generated")];
    this.tracks[2].root.hidden = this.views[2].root.hidden = true;
    this.histogram = histograms();
    const left = h("div", {}, top, this.progress, h("div", { class: "time" }, this.time), ...this.tracks.map((t) => t.root),
      h("div", { class: "axis caption", "aria-hidden": "true" }, h("span", { text: "noise" }), h("span", { text: "log SNR" }), h("span", { text: "image" })),
      this.timeSays, h("div", { class: "lanes" }, ...this.views.map((v) => v.root)), this.histogram.root);
    this.root.append(h("h1", { text: "Diffusion" }), h("div", { class: "with-inspector" }, left, this.inspector(button)));
  }

  /** @param {(text: string, run: () => void, more?: any) => HTMLButtonElement} button */
  inspector(button) {
    this.forms = [this.form(0), this.form(1)];
    this.forms[1].root.hidden = true;
    this.fileInput = h("input", { type: "file", accept: "image/*", "aria-label": "An image of your own", onchange: () => void this.load() });
    this.imageSays = h("p", { class: "caption of-image" });
    const image = h("fieldset", {}, h("legend", { text: "Image for the way into noise" }),
      h("div", { class: "row" }, button("Next held-out image", () => ((this.held += 1), (this.file = null), void this.forward()), { title: "J" }), h("label", {}, "your own ", this.fileInput)), this.imageSays);
    this.loss = chart({ label: "Error of the expected image by noise level", xName: "log SNR", yName: "mean squared error", height: 150, controls: false,
      onPick: (x) => this.scrub(Math.round(((x - this.about.low) / (this.about.high - this.about.low)) * this.last)) });
    this.loss.root.hidden = true;
    this.lossSays = h("p", { class: "caption" });
    return h("div", {}, ...this.forms.map((f) => f.root), image, h("h2", { text: "Loss by noise level" }),
      button("Measure on 16 held-out images", () => void this.measure(), { title: "L" }), this.loss.root, this.lossSays,
      h("div", { class: "row" }, button("Save the way", () => void this.save(0), { title: "S" }), (this.saveSecond = button("Save the second", () => void this.save(1), { hidden: true }))));
  }

  /** The options of a lane. @param {number} i */
  form(i) {
    const lane = () => this.lanes[i] ?? this.lanes[0], changed = () => (lane().branches = [], this.begin(i));
    const sampler = h("select", { "aria-label": `Sampler ${i + 1}`, onchange: () => ((lane().sampler = sampler.value), changed()) }, ...this.about.samplers.map((/** @type {string} */ s) => h("option", { value: s, text: s })));
    const usual = this.about.usual.steps, choices = [...new Set([...STEPS, usual])].sort((a, b) => a - b);
    const steps = h("select", { "aria-label": `Steps ${i + 1}`, onchange: () => ((lane().steps = Number(steps.value)), changed()) }, ...choices.map((n) => h("option", { value: n, text: String(n) })));
    const eta = slider({ label: "eta", min: 0, max: 1, step: 0.05, value: 0, help: "of ddim: 0 adds no noise on the way, 1 is ancestral", onChange: (v) => ((lane().eta = v), changed()) });
    const guidance = slider({ label: "Guidance", min: 0, max: 10, step: 0.25, value: 1, help: "1 is the model itself", onChange: (v) => ((lane().guidance = v), changed()) });
    guidance.root.hidden = !this.about.guided;
    const root = h("fieldset", {}, h("legend", { text: i ? "Second sampler, from the same noise" : "Sampler" }),
      h("div", { class: "row" }, h("label", {}, "Way ", sampler), h("label", {}, "Steps ", steps)), eta.root, guidance.root);
    return { root, show: () => {
      const now = lane();
      sampler.value = now.sampler;
      if (![...steps.options].some((o) => Number(o.value) === now.steps)) steps.append(h("option", { value: now.steps, text: String(now.steps) }));
      steps.value = String(now.steps);
      eta.value = now.eta;
      eta.disable(now.sampler !== "ddim");
      guidance.value = now.guidance;
    } };
  }

  keys() {
    const key = (/** @type {string} */ key, /** @type {string} */ label, /** @type {() => void} */ run) => ({ key, label, run });
    return this.studio.keys.add([
      key("Space", "draw, or cancel", () => this.toggle()), key("ArrowLeft", "a frame towards noise", () => this.move(-1)), key("ArrowRight", "a frame towards the image", () => this.move(1)),
      key("Shift+ArrowLeft", "ten frames towards noise", () => this.move(-10)), key("Shift+ArrowRight", "ten frames towards the image", () => this.move(10)),
      key("Home", "to noise", () => this.scrub(0)), key("End", "to the image", () => this.scrub(this.last)),
      key("v", "show something else", () => this.look(VIEWS[(VIEWS.findIndex(([id]) => id === this.view) + 1) % VIEWS.length][0])),
      key("b", "branch here: new noise from this time on", () => this.branch()), key("d", "a second sampler", () => this.two()), key("r", "new noise", () => this.noise(Math.floor(Math.random() * 1e6))),
      key("j", "the next held-out image", () => ((this.held += 1), (this.file = null), void this.forward())), key("l", "measure the loss by noise level", () => void this.measure()),
      key("s", "save the way", () => void this.save(0)), key("Escape", "cancel", () => this.cancel()),
    ]);
  }

  // Forward: from the image and its noise, here

  async load() {
    const file = this.fileInput.files?.[0];
    if (!file) return;
    this.file = { bytes: new Uint8Array(await file.arrayBuffer()), name: file.name.slice(0, 200) };
    await this.forward();
  }
  async forward() {
    const args = { run: this.run.path, seed: this.seed, ...(this.file ? { name: this.file.name } : { held: this.held }) };
    try {
      await this.studio.ask("diffusion", "forward", args, { key: this.own("forward"), arrays: this.file ? { file: this.file.bytes } : undefined,
        onValue: (/** @type {any} */ data, /** @type {any} */ a) => {
          this.image = { x_0: a.x_0.data, eps: a.eps.data, name: data.name };
          this.imageSays.textContent = data.name;
          const all = Array.from({ length: 9 }, (_, k) => this.noised(Math.round((k / 8) * this.last)));
          this.tracks[0].set(/** @type {Frame[]} */ (all), this.view);
          this.show();
        } });
    } catch (error) {
      this.studio.fail(error);
    }
    this.kept();
  }
  /** @param {number} i */
  noised(i) {
    return this.image && noised(this.table, i, this.image.x_0, this.image.eps);
  }

  // Reverse: frames as they come

  /** @param {number} i */
  args(i) {
    const { sampler, steps, eta, guidance, branches } = this.lanes[i];
    const lane = { slot: i, sampler, steps, branches, ...(sampler === "ddim" && eta ? { eta } : {}), ...(this.about.guided && guidance !== 1 ? { guidance } : {}) };
    return { run: this.run.path, seed: this.seed, number: this.number, label: this.label, lanes: [lane] };
  }
  toggle() {
    if (this.drawing.some(Boolean)) this.cancel();
    else this.begin();
  }
  cancel() {
    this.lanes.forEach((_, i) => this.drawing[i] && this.studio.stop(this.key(`reverse${i}`)));
  }
  /** @param {number} [only] */
  begin(only) {
    this.follow = true;
    this.fields();
    this.lanes.forEach((_, i) => (only === undefined || only === i) && void this.draw(i));
    this.kept();
  }
  /** @param {number} i */
  async draw(i) {
    const mine = /** @type {Frame[]} */ ([]);
    this.frames[i] = mine;
    this.drawing[i] = true;
    this.fields();
    try {
      await this.studio.ask("diffusion", "reverse", this.args(i), { key: this.key(`reverse${i}`), onValue: (/** @type {any} */ data, /** @type {any} */ a) => mine === this.frames[i] && this.take(i, data, a) });
      if (mine === this.frames[i]) await this.fill(i);
    } catch (error) {
      this.studio.fail(error);
    }
    if (mine !== this.frames[i] || this.gone) return;
    this.drawing[i] = false;
    if (still() && this.follow && this.ended(i)) this.at = this.last;
    this.progress.textContent = this.ended(i) ? "" : `cancelled; ${mine.filter(Boolean).length} frames are kept`;
    this.fields();
    this.show(true);
    this.kept();
    this.studio.say(this.ended(i) ? "the image is drawn" : "cancelled");
  }
  /** @param {number} i */
  ended(i) {
    return this.frames[i].at(-1)?.sigma === 0;
  }
  /** @param {number} i @param {any} data @param {any} arrays */
  take(i, data, arrays) {
    const n = this.about.size ** 2 * this.about.channels, first = data.first ?? data.counts[0] - data.frames.length;
    data.frames.forEach((/** @type {any} */ row, /** @type {number} */ k) => {
      this.frames[i][first + k] = { ...row, x: arrays.x.data.slice(k * n, (k + 1) * n), x_0: arrays.x_0.data.slice(k * n, (k + 1) * n) };
    });
    this.commands[i] = data.commands?.[0] ?? data.command;
    this.studio.status({ command: this.commands[i] });
    if (data.commands) {
      this.progress.textContent = `${Math.round(100 * data.share)} % of ${data.steps[0].toLocaleString("en-US")} steps${data.left ? `, about ${Math.ceil(data.left)} s left` : ""}`;
    }
    const newest = this.frames[i].at(-1);
    if (this.follow && !still() && i === 0 && newest) this.at = this.row(newest);
    this.show(true);
  }
  /** Ask for frames that were not sent. @param {number} i */
  async fill(i) {
    for (let tries = 0; tries < 20; tries++) {
      const first = this.frames[i].findIndex((_, k) => !this.frames[i][k]);
      if (first < 0) return;
      await this.studio.ask("diffusion", "again", { ...this.args(i), first }, { key: this.own(`again${i}`), onValue: (/** @type {any} */ d, /** @type {any} */ a) => this.take(i, d, a) });
    }
  }
  two() {
    const on = this.lanes.length === 1;
    if (on) {
      const other = this.about.samplers.find((/** @type {string} */ s) => s !== this.lanes[0].sampler) ?? this.lanes[0].sampler;
      this.lanes.push({ ...this.lanes[0], sampler: other, branches: [] });
      this.begin(1);
    } else {
      this.studio.stop(this.key("reverse1"));
      this.lanes.length = 1;
      this.frames[1] = [];
      this.drawing[1] = false;
      this.studio.status({ command: this.commands[0] });
      this.fields();
      this.show(true);
      this.kept();
    }
  }
  branch() {
    const { low, high } = this.about, frame = this.frames[0][nearest(this.frames[0], this.table.log_snr[this.at], low, high)];
    if (!frame || frame.sigma === 0) return this.studio.say("go to a frame before the last one, and branch there");
    const seed = Math.floor(Math.random() * 1e6);
    this.lanes[1] = { ...this.lanes[0], branches: [...this.lanes[0].branches.filter(([step]) => step < frame.step), [frame.step, seed]] };
    this.fields();
    this.follow = false;
    void this.draw(1);
    this.kept();
  }
  /** @param {number} seed */
  noise(seed) {
    this.seed = Math.max(0, Math.floor(seed));
    this.number = 0;
    this.lanes.forEach((lane) => (lane.branches = []));
    void this.forward();
    this.begin();
  }

  async measure() {
    const done = this.studio.busy("measuring");
    try {
      await this.studio.ask("diffusion", "levels", { run: this.run.path, n: 16 }, { key: this.own("levels"), onValue: (/** @type {any} */ d, /** @type {any} */ a) => {
        this.loss.root.hidden = false;
        this.loss.set([{ name: "error", x: a.log_snr.data, y: a.error.data }, { name: "nats a dimension gained", x: a.log_snr.data, y: a.nats.data }]);
        this.lossSays.textContent = `${d.n} held-out images; the area under what is gained is ${d.area.toFixed(3)} nats a dimension, the rate of the bound.`;
        this.studio.status({ command: d.command });
      } });
    } catch (error) {
      this.studio.fail(error);
    }
    done();
  }
  /** @param {number} i */
  async save(i) {
    if (!this.lanes[i]) return;
    const done = this.studio.busy("saving");
    try {
      await this.studio.ask("diffusion", "keep", this.args(i), { key: this.own("keep"), onValue: (/** @type {any} */ d) => {
        this.studio.status({ saved: d.paths.join(", "), command: d.command });
        this.studio.say(`saved ${d.frames} frames`);
      } });
    } catch (error) {
      this.studio.fail(error);
    }
    done();
  }

  // What is shown

  /** The row of the table where a frame stands. @param {Frame} frame */
  row(frame) {
    const { low, high } = this.about;
    return Math.round(((place(frame, low, high) - low) / (high - low)) * this.last);
  }
  /** @param {number} i */
  scrub(i) {
    this.follow = false;
    this.at = Math.max(0, Math.min(this.last, i));
    this.show();
    this.kept();
  }
  /** A frame of the way, or where there is none a fortieth of the axis. @param {number} by */
  move(by) {
    const { low, high } = this.about, here = nearest(this.frames[0], this.table.log_snr[this.at], low, high);
    if (here < 0) return this.scrub(this.at + by * Math.round(this.last / 40));
    const last = this.frames[0].length - 1, way = Math.sign(by);
    let to = Math.max(0, Math.min(last, here + by));
    while (to > 0 && to < last && this.row(this.frames[0][to]) === this.at) to += way;  // where frames stand closer than rows
    if (this.frames[0][to]) this.scrub(this.row(this.frames[0][to]));
  }
  /** @param {string} view */
  look(view) {
    this.view = this.viewInput.value = view;
    this.studio.hash.set({ shown: view });
    if (this.image) void this.forward();
    this.show(true);
  }
  /** @param {boolean} [all] the tracks, too */
  show(all = false) {
    if (this.gone) return;
    const began = performance.now(), { low, high } = this.about, at = this.table.log_snr[this.at], view = this.view;
    this.time.value = String(this.at);
    const names = VIEWS.find(([id]) => id === view)?.[1] ?? "";
    this.timeSays.textContent = `log SNR ${at.toFixed(2)} · t ${Number(this.table.t[this.at].toPrecision(4))} · α ${this.table.alpha[this.at].toFixed(4)} · σ ${this.table.sigma[this.at].toFixed(4)}`;
    this.time.setAttribute("aria-valuetext", this.timeSays.textContent);
    const forward = this.noised(this.at), lines = [];
    this.views[0].set(forward, view, forward ? `${view === "x_0" ? "x₀, the image itself" : names}` : "choose an image");
    if (forward) lines.push({ name: "forward", colour: "--real", values: seen(forward, view) });
    this.lanes.forEach((lane, i) => {
      const k = nearest(this.frames[i], at, low, high), frame = k < 0 ? null : this.frames[i][k];
      const branch = lane.branches.at(-1);
      this.views[i + 1].name(i && branch ? `Branch after step ${branch[0]}` : `${i ? "Second" : "Reverse"}: ${lane.sampler}`);
      this.views[i + 1].set(frame, view, frame ? `step ${frame.step} of ${lane.steps}, t ${Number(frame.t.toPrecision(4))}: ${names}` : "press Draw");
      if (frame) lines.push({ name: i ? "second" : "reverse", colour: i ? "--c3" : "--generated", values: seen(frame, view) });
      if (all) this.tracks[i + 1].set(this.frames[i], view);
    });
    this.histogram.set(lines);
    this.tracks.forEach((t) => t.at(this.at / this.last));
    /** @type {any} */ (window).studio.scrubbed = performance.now() - began;
  }
  fields() {
    const two = this.lanes.length > 1;
    this.tracks[2].root.hidden = this.views[2].root.hidden = this.forms[1].root.hidden = this.saveSecond.hidden = !two;
    this.twoButton.setAttribute("aria-pressed", String(two));
    this.forms.forEach((f) => f.show());
    this.seedInput.value = String(this.seed);
    if (this.label !== null) this.classInput.value = String(this.label);
    this.drawButton.textContent = this.drawing.some(Boolean) ? "Cancel" : "Draw";
  }
  /** The choices and whether there is a way, at once, or 200 ms after the last time: not while it is still being restored,
   * when there is none yet. */
  kept() {
    if (!this.restored) return;
    clearTimeout(this.keeping);
    this.due = true;
    this.keeping = setTimeout(() => this.flush(), Math.max(0, this.since + 200 - performance.now()));
  }
  flush() {
    clearTimeout(this.keeping);
    if (!this.due) return;
    const { seed, number, label, lanes, at, view, held } = this;
    const drawn = this.drawing[0] || this.frames[0].length > 0, cancelled = lanes.map((_, i) => drawn && !this.drawing[i] && !this.ended(i));
    this.studio.keep(this.key("state"), { seed, number, label, lanes, at, view, held, drawn, cancelled });
    this.due = false;
    this.since = performance.now();
  }
  /** Where it was left. Frames that the server still has are sent again; else they are drawn anew. */
  async restore() {
    const asked = this.studio.hash.get("plan", null), there = asked ?? (await this.studio.recall(this.key("state")));
    if (this.gone) return;
    if (there) {
      Object.assign(this, { seed: there.seed ?? 0, number: there.number ?? 0, label: there.label ?? this.label, held: there.held ?? 0, at: there.at ?? this.last });
      if (Array.isArray(there.lanes)) this.lanes = there.lanes.map((/** @type {any} */ lane) => ({ ...this.usual(), ...lane }));
    }
    if (asked) this.studio.hash.set({ plan: null });
    const view = this.studio.hash.get("shown", there?.view ?? "x_t");
    this.view = this.viewInput.value = VIEWS.some(([id]) => id === view) ? view : "x_t";
    this.fields();
    try {
      await this.forward();
      if (asked || there?.drawn) for (let i = 0; i < this.lanes.length && !this.gone; i++) {
        const known = await this.known(i);  // what was being drawn is drawn to its end; what was cancelled stays as it was
        if (!(known && this.ended(i)) && !there?.cancelled?.[i]) await this.draw(i);
      }
    } finally {
      this.restored = true;
    }
    if (this.gone) return;
    this.kept();
    this.show(true);
    this.progress.dataset.restored = "yes";
  }
  /** Fetch the frames that the server has of a lane; false where it has none, or not all. @param {number} i */
  async known(i) {
    let count = Infinity;
    while (this.frames[i].length < count && !this.gone) {
      const first = this.frames[i].length;
      await this.studio.ask("diffusion", "again", { ...this.args(i), first }, { key: this.own(`again${i}`), onValue: (/** @type {any} */ d, /** @type {any} */ a) => ((count = d.counts[0]), this.take(i, d, a)) });
      if (this.frames[i].length === first) break;
    }
    return this.frames[i].length > 0 && this.frames[i].length >= count;
  }
}

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    style();
    /** @type {Diffusion|null} */ let screen = null;
    let gone = false, remove = () => {};
    const path = studio.run?.path;
    studio.ask("diffusion", "about", { run: path }, { key: `diffusion:about:${path}:${Math.random().toString(36).slice(2, 10)}`, onValue: (/** @type {any} */ about, /** @type {any} */ a) => {
      if (gone || screen) return;
      const { t, alpha, sigma, log_snr } = a;
      screen = new Diffusion(root, studio, about, { t: t.data, alpha: alpha.data, sigma: sigma.data, log_snr: log_snr.data });
      remove = screen.keys();
      void screen.restore().catch((/** @type {unknown} */ error) => studio.fail(error));
    } }).catch((/** @type {unknown} */ error) => !gone && studio.fail(error));
    return () => {
      gone = true;
      remove();
      if (!screen) return;
      screen.flush();
      screen.gone = true;
      screen.cancel();
    };
  },
};
