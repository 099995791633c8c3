// @ts-check
// A collection as points: what resembles what, who is near whom, and how far that may be believed.
import { add, h, styled } from "../widgets/dom.js";
import { button, canvases, dropped, select } from "../samples/common.js";
import { counted, honesty, legend, strip } from "../map/panels.js";
import { plot } from "../map/plot.js";
import about from "./about/map.js";

/** @typedef {import("../app.js").Studio} Studio */
/** @typedef {import("../wire.js").Arrays} Arrays */
const KEPT = 5000, LIST = 24;

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    const href = new URL("../map/map.css", import.meta.url).href;
    if (![...document.querySelectorAll("link")].some((l) => l.href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
    styled();
    root.classList.add("m-screen");
    const screen = new MapScreen(root, studio);
    void screen.begin();
    return () => {
      screen.end();
      root.classList.remove("m-screen");
      delete root.dataset.map;
    };
  },
};

class MapScreen {
  /** @param {HTMLElement} root @param {Studio} studio */
  constructor(root, studio) {
    this.root = root;
    this.studio = studio;
    this.gone = false;
    this.tab = Math.random().toString(36).slice(2, 10);
    /** @type {any} */ this.info = null;
    /** @type {(Uint8Array | Uint16Array)[]} */ this.labels = [];
    this.group = 0;
    this.mask = new Uint8Array(0);
    this.count = 0;
    this.listed = LIST;
    this.timer = 0;
    this.settling = 0;
    this.plot = plot({
      onHover: (i) => this.read(i, 120), onFocus: (i) => this.focused(i), onMask: (mask, how) => this.pick(mask, how),
      onView: () => this.moved(), onDrawn: (what) => this.drawn(what), onSeen: (rows) => void this.fetch(rows).then(() => this.plot.overlay()),
    });
    this.reading = h("div", { class: "m-reading", role: "status" });
    this.facts = h("p", { class: "small muted" });
    this.side = h("div", { class: "m-side" });
    this.legend = h("section", { class: "panel", "aria-label": "Legend" });
    this.near = h("section", { class: "panel", "aria-label": "Neighbours" });
    this.chosen = h("section", { class: "panel", "aria-label": "Selection" });
    this.honest = h("div", {});
    this.how = select("a new selection", [["replace", "replaces the old"], ["add", "adds to it"], ["subtract", "takes off it"]], "replace", () => {});
    this.mode = select("show", [["auto", "points or density"], ["points", "points"], ["density", "density"]], studio.hash.get("shown", "auto"), (v) => (studio.hash.set({ shown: v }), this.plot.show(this.selected, v)));
    this.tools = h("div", { class: "m-tools", role: "toolbar", "aria-label": "Tools" });
    this.place = h("div", { hidden: true }, this.tools, this.plot.root, this.facts, this.reading);
    this.top = h("div", { class: "m-top" });
    add(root, h("h1", { text: "Map" }), this.top, this.place, this.side);
    this.side.hidden = true;
    add(this.side, this.legend, this.chosen, this.near, this.honest);
    const use = (/** @type {string} */ id) => this.use(this.plot.tool === id ? "pan" : id);
    for (const [id, text, key] of [["pan", "Move", "v"], ["lasso", "Lasso", "x"], ["box", "Box", "b"]]) {
      const one = button(text, () => this.use(id), key.toUpperCase());
      one.dataset.tool = id;
      add(this.tools, one);
    }
    add(this.tools, button("Fit", () => this.plot.fit(), "Z"), button("+", () => this.plot.zoom(1.5)), button("−", () => this.plot.zoom(1 / 1.5)), this.how.root, this.mode.root);
    this.use("pan");
    this.keys = studio.keys.add([
      { key: "x", label: "lasso (Shift adds, Alt takes off)", run: () => use("lasso") },
      { key: "b", label: "box", run: () => use("box") },
      { key: "v", label: "move the map", run: () => this.use("pan") },
      { key: "z", label: "fit the whole map", run: () => this.plot.fit() },
      { key: "n", label: "neighbours of the point in focus", run: () => void this.neighbours() },
      { key: "Enter", label: "open the point in focus", run: () => void this.enlarge() },
      { key: "Space", label: "select the point in focus, or take it off", run: () => this.toggle() },
      { key: "+", label: "nearer", run: () => this.plot.zoom(1.5) },
      { key: "-", label: "farther", run: () => this.plot.zoom(1 / 1.5) },
      ...["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].map((key) => ({ key, label: "to the nearest point in that direction", run: () => this.plot.step(key) })),
    ]);
    dropped(this.place, () => {}, (file) => void this.bring(file));
  }

  get selected() {
    return this.count ? this.mask : null;
  }

  /** @param {string} method @param {any} args @param {any} [how] */
  ask(method, args, how = {}) {
    return this.studio.ask("map", method, args, { ...how, key: `map/${this.tab}/${how.key ?? method}` });
  }

  async begin() {
    const { studio } = this;
    try {
      this.there = await this.ask("sources", {});
    } catch (error) {
      return studio.fail(error);
    }
    if (this.gone || !this.there) return;
    this.form();
    const wanted = studio.hash.get("wanted", /** @type {any} */ (null)), named = studio.hash.get("map", "");
    const fits = wanted && this.there.maps.find((/** @type {any} */ m) => Object.keys(wanted).every((k) => m.settings[k] === wanted[k]));
    if (wanted) studio.hash.set({ wanted: null });
    if (fits || named) await this.open(fits ? fits.path : named);
    else if (wanted) studio.fail(new Error(`The map of ${wanted.data} is not in this studio any more. Make it again: ${wanted.method}, seed ${wanted.seed}.`));
    this.root.dataset.map = "ready";
  }

  /** Which map: one that there is, or a new one. */
  form() {
    const { there, studio } = this, list = h("datalist", { id: "m-list" });
    for (const value of [...there.folders, ...there.matrices, ...there.runs, "digits", "faces", "shapes:2000"]) add(list, h("option", { value }));
    const data = h("input", { class: "m-data", list: "m-list", id: "m-data", value: studio.hash.get("data", "") });
    const network = h("select", {}, ...there.networks.map((/** @type {string} */ n) => h("option", { value: n, text: n || "none: the pixels" })));
    const method = h("select", {}, ...there.methods.map((/** @type {string} */ n) => h("option", { value: n, text: n })));
    const number = (/** @type {string} */ label, /** @type {number} */ low, /** @type {string} */ hint) => h("input", { type: "number", min: low, step: "any", placeholder: hint, "aria-label": label });
    const perplexity = number("perplexity", 1, "usual"), size = number("pixels a side", 4, "usual"), n = number("images", 4, "all"), seed = number("seed", 0, "0");
    const make = h("button", { type: "submit", class: "primary", text: "Make the map" });
    const form = h("form", { class: "m-form" }, list, h("label", { for: "m-data" }, "folder, matrix of features, run, or set", data), h("label", {}, "network", network), h("label", {}, "method", method),
      h("label", {}, "perplexity", perplexity), h("label", {}, "pixels a side", size), h("label", {}, "images", n), h("label", {}, "seed", seed), make, button("Stop", () => studio.stop(`map/${this.tab}/make`)));
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      const of = Object.fromEntries(Object.entries({ perplexity, size, n, seed }).filter(([, v]) => v.value !== "").map(([k, v]) => [k, Number(v.value)]));
      void this.make({ data: data.value, network: network.value, method: method.value, ...of });
    });
    this.maps = select("map", [["", there.maps.length ? "choose one" : "none yet"], ...there.maps.map((/** @type {any} */ m) => /** @type {[string, string]} */ ([m.path, m.path]))], studio.hash.get("map", ""), (v) => v && void this.open(v));
    this.fresh = h("details", {}, h("summary", { text: "Make a new map" }), form);
    this.fresh.open = !there.maps.length;
    const empty = there.maps.length ? "" : h("p", { class: "muted", text: "There is no map here yet. Make one of your images, or" });
    this.top.replaceChildren(this.maps.root, ...(empty ? [empty, button("map the embedded digits", () => void this.make({ data: "digits", size: 8, n: 1000 }))] : []), this.fresh);
  }

  /** @param {string} path */
  async open(path) {
    await this.shown("open", { map: path }, "opening the map");
  }

  /** @param {any} args */
  async make(args) {
    await this.shown("make", args, "making the map");
    if (this.gone) return;
    this.there = await this.ask("sources", {});
    if (!this.gone && this.there) this.form();
  }

  /** @param {"open" | "make"} method @param {any} args @param {string} text */
  async shown(method, args, text) {
    const { studio } = this, done = studio.busy(text);
    studio.fail(null);
    let steps = 0;
    try {
      await this.ask(method, args, { onValue: (/** @type {any} */ data, /** @type {Arrays} */ arrays) => {
        if (this.gone) return;
        if (data.map) return this.set(data, arrays);
        studio.status({ command: data.command });
        this.facts.textContent = `${data.text}${data.kl === undefined || data.kl === null ? "" : `, KL ${data.kl.toFixed(3)}`}`;
        if (!arrays.x) return void (this.place.hidden = false);
        this.place.hidden = false;
        this.side.hidden = true;
        const p = { x: /** @type {Float32Array} */ (arrays.x.data), y: /** @type {Float32Array} */ (arrays.y.data), label: new Uint8Array(data.n) };
        this.plot.set(p, { palette: ["#5b6068"], none: "#5b6068", images: false }, steps++ > 0);
        this.plot.fit();
      } });
    } catch (error) {
      if (!this.gone) studio.fail(error);
    } finally {
      done();
    }
  }

  /** @param {any} info @param {Arrays} arrays */
  set(info, arrays) {
    const { studio } = this, fields = /** @type {any} */ (arrays);
    this.info = info;
    this.labels = info.groups.map((/** @type {any} */ _, /** @type {number} */ i) => {
      const { data, shape } = fields[`group${i}`];
      return shape.length > 1 ? new Uint16Array(data.buffer, data.byteOffset, shape[0]) : data;
    });
    if (!info.groups.length) {
      info.groups = [{ what: "image", names: ["all"], colours: ["#0072b2"], counts: [info.n], none: 0 }];
      this.labels = [new Uint8Array(info.n)];
    }
    this.group = Math.min(studio.hash.get("by", 0), info.groups.length - 1);
    this.mask = new Uint8Array(info.n);
    this.count = 0;
    this.place.hidden = this.side.hidden = false;
    const again = studio.hash.get("map", "") === info.map && !info.command;
    const view = again ? studio.hash.get("view", /** @type {number[]} */ ([])) : [], at = again ? studio.hash.get("at", -1) : -1;
    studio.hash.set({ map: info.map });
    const g = info.groups[this.group];
    this.plot.set({ x: fields.x.data, y: fields.y.data, label: this.labels[this.group] }, { palette: g.colours, none: info.none, images: info.images });
    this.plot.show(null, this.mode.input.value);
    if (view.length === 3 && view.every(Number.isFinite) && view[2] > 0) this.plot.centre(view[0], view[1], view[2]);
    if (at >= 0) this.plot.go(at);
    if (this.maps && [...this.maps.input.options].some((o) => o.value === info.map)) this.maps.input.value = info.map;
    if (info.command) studio.status({ command: info.command, saved: info.saved });
    this.honest.replaceChildren(honesty(info));
    this.near.replaceChildren(h("h2", { text: "Neighbours" }), h("p", { class: "muted", text: "Move to a point (arrows, or a click) and press N. Or ask for those of your own photo, by dropping it on the map:" }), this.photo());
    this.reading.replaceChildren(h("span", {}), h("span", { class: "muted", text: "Point at one, or use the arrow keys." }));
    this.keyed();
    this.listing();
    void studio.recall(`map/${info.map}`).then((kept) => {
      if (this.gone || this.info !== info || !Array.isArray(kept?.rows)) return;
      for (const i of kept.rows) if (Number.isInteger(i) && i >= 0 && i < info.n) this.mask[i] = 1;
      this.changed(false);
    });
    studio.say(`map of ${info.n} images`);
  }

  photo() {
    const file = h("input", { type: "file", accept: "image/*", id: "m-own", onchange: () => file.files?.[0] && void this.bring(file.files[0]) });
    return h("p", {}, h("label", { for: "m-own", text: "your own photo " }), file);
  }

  keyed() {
    const g = this.info.groups[this.group];
    const by = this.info.groups.length > 1 ? select("colour by", this.info.groups.map((/** @type {any} */ one, /** @type {number} */ i) => [String(i), one.what]), String(this.group), (v) => {
      this.group = Number(v);
      this.studio.hash.set({ by: this.group });
      const to = this.info.groups[this.group];
      this.plot.group(this.labels[this.group], to.colours, this.info.none);
      this.plot.show(this.selected, this.mode.input.value);
      this.keyed();
      this.listing();
    }).root : null;
    const box = h("details", {}, h("summary", { text: `Legend: ${g.names.length} ${g.what}s` }), legend(g, this.info.none, (i) => {
      const of = this.labels[this.group], wanted = i < 0 ? (of.BYTES_PER_ELEMENT === 2 ? 65535 : 255) : i;
      this.pick(Uint8Array.from(of, (v) => Number(v === wanted)), "");
    }));
    box.open = g.names.length <= 40;
    this.legend.replaceChildren(...(by ? [by] : []), box);
  }

  /** @param {string} id */
  use(id) {
    this.plot.use(id);
    for (const b of this.tools.querySelectorAll("[data-tool]")) b.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (b).dataset.tool === id));
  }

  /** Fewer, more or others selected. @param {Uint8Array} mask @param {string} how */
  pick(mask, how) {
    const kind = how || this.how.input.value;
    for (let i = 0; i < mask.length; i++) this.mask[i] = kind === "add" ? this.mask[i] | mask[i] : kind === "subtract" ? this.mask[i] & ~mask[i] & 1 : mask[i];
    this.changed();
  }

  toggle() {
    const i = this.plot.focus;
    if (i < 0) return;
    this.mask[i] ^= 1;
    this.changed();
  }

  changed(keep = true) {
    this.count = 0;
    for (const v of this.mask) this.count += v;
    this.listed = LIST;
    this.plot.show(this.selected);
    this.listing();
    if (keep) {
      const rows = this.count <= KEPT ? [...this.rows(KEPT)] : [];
      this.studio.keep(`map/${this.info.map}`, rows.length ? { rows } : null);
      this.studio.say(`${this.count} selected`);
    }
  }

  /** @param {number} most */
  rows(most) {
    const out = [];
    for (let i = 0; i < this.mask.length && out.length < most; i++) if (this.mask[i]) out.push(i);
    return out;
  }

  /** The selection as a list, for those who see no plot. */
  listing() {
    const g = this.info.groups[this.group], n = this.count, list = h("div", {});
    const out = h("div", { class: "row" }, ...[["csv", "CSV"], ["files", "list of files"], ["npy", ".npy of features"]].map(([id, text]) => {
      const one = button(text, () => void this.export(id));
      one.disabled = !n;
      return one;
    }));
    this.chosen.replaceChildren(h("h2", { text: `Selection: ${n.toLocaleString("en")} of ${this.info.n.toLocaleString("en")}` }),
      ...(n ? [counted(g, this.labels[this.group], this.mask), list, h("p", { class: "caption", text: "write as" }), out, button("Clear", () => this.pick(new Uint8Array(this.mask.length), "replace"))]
        : [h("p", { class: "muted", text: "Draw a lasso (X) or a box (B), press a name of the legend, or Space at a point." })]));
    if (!n) return;
    const rows = this.rows(this.listed);
    void this.fetch(rows).then(() => {
      if (this.gone) return;
      list.replaceChildren(strip(rows.map((row) => ({ row, word: this.names.get(row)?.split("/").pop() ?? String(row), name: this.named(row), image: this.plot.images.get(row) })), (row) => this.plot.go(row)),
        ...(n > this.listed && this.listed < 300 ? [button("more", () => ((this.listed += 2 * LIST), this.listing()))] : []));
    });
  }

  /** @type {Map<number, string>} */ names = new Map();
  /** @type {Map<number, string>} */ label = new Map();
  /** @type {any} */ there = null;
  /** @type {any} */ maps = null;
  fetches = 0;

  /** @param {number} row */
  named(row) {
    const label = this.label.get(row);
    return `${this.names.get(row) ?? `row ${row}`}${label ? `, ${label}` : ""}`;
  }

  /** Names and images of rows that are not here yet. @param {number[]} rows */
  async fetch(rows) {
    const info = this.info, missing = rows.filter((i) => !this.names.has(i) || (info.images && !this.plot.images.has(i))).slice(0, 320);
    if (!missing.length || !info) return;
    await this.ask("tiles", { map: info.map, rows: missing }, { key: `tiles${(this.fetches += 1) % 8}`, onValue: (/** @type {any} */ data, /** @type {Arrays} */ arrays) => this.taken(data, arrays) }).catch((error) => this.gone || this.studio.fail(error));
  }

  /** @param {any} data @param {Arrays} arrays */
  async taken(data, arrays) {
    const images = arrays.images ? await canvases(arrays.images) : [];
    data.rows.forEach((/** @type {number} */ row, /** @type {number} */ i) => {
      this.names.set(row, data.names[i]);
      if (data.labels[i]) this.label.set(row, data.labels[i]);
      if (images[i]) this.plot.images.set(row, images[i]);
    });
  }

  /** @param {number} i @param {number} wait */
  read(i, wait) {
    clearTimeout(this.timer);
    if (i < 0) return;
    this.timer = setTimeout(() => void this.fetch([i]).then(() => {
      if (this.gone) return;
      const image = this.plot.images.get(i), copy = h("canvas", { width: image?.width ?? 1, height: image?.height ?? 1, role: "img", "aria-label": this.named(i) });
      if (image) copy.getContext("2d")?.drawImage(image, 0, 0);
      this.reading.replaceChildren(image ? copy : h("span", {}), h("span", { text: this.named(i) }));
    }), wait);
  }

  /** @param {number} i */
  focused(i) {
    this.studio.hash.set({ at: i });
    this.read(i, 0);
  }

  /** The address says what one sees: the middle, and pixels a unit. */
  moved() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      if (this.gone || !this.info) return;
      const { scale } = this.plot.view, [x, y] = this.plot.middle();
      this.studio.hash.set({ view: [x, y, scale] });
    }, 200);
  }

  /** @param {{mode: string, visible: number}} what */
  drawn({ mode, visible }) {
    if (!this.info) return;
    const n = visible.toLocaleString("en");
    this.facts.textContent = `${n} of ${this.info.n.toLocaleString("en")} in view${mode === "density" ? ", as density: mean colour, stronger where there are more" : ""}. By ${this.info.features}.`;
    this.plot.canvas.setAttribute("aria-label", `Map of ${this.info.n} images, ${n} in view, coloured by ${this.info.groups[this.group].what}`);
  }

  async neighbours() {
    const row = this.plot.focus;
    if (row < 0 || !this.info) return this.studio.say("move to a point first");
    await this.nearest("neighbours", { row }, {});
  }

  /** @param {File} file */
  async bring(file) {
    if (!this.info) return;
    await this.nearest("own", {}, { arrays: { file: new Uint8Array(await file.arrayBuffer()) } });
  }

  /** @param {"neighbours" | "own"} method @param {any} args @param {any} how */
  async nearest(method, args, how) {
    const done = this.studio.busy("looking for neighbours");
    try {
      await this.ask(method, { map: this.info.map, ...args }, { ...how, key: "near", onValue: async (/** @type {any} */ data, /** @type {Arrays} */ arrays) => {
        if (this.gone) return;
        await this.taken(data, arrays);
        this.plot.mark(data.rows);
        this.near.replaceChildren(h("h2", { text: `${data.rows.length} neighbours of ${data.query.name}` }), h("p", { class: "muted", text: `nearest first, by ${data.features}; an image here is usually ${data.usual.toPrecision(3)} from its nearest` }),
          strip(data.rows.map((/** @type {number} */ row, /** @type {number} */ i) => ({ row, word: data.distances[i].toPrecision(3), name: this.named(row), image: this.plot.images.get(row) })), (row) => this.plot.go(row)),
          button("Select these", () => {
            const mask = new Uint8Array(this.mask.length);
            for (const row of data.rows) mask[row] = 1;
            this.pick(mask, "");
          }), this.photo());
        if (data.command) this.studio.status({ command: data.command });
        this.studio.say(`${data.rows.length} neighbours of ${data.query.name}`);
      } });
    } catch (error) {
      if (!this.gone) this.studio.fail(error);
    } finally {
      done();
    }
  }

  /** The image in focus, large. */
  async enlarge() {
    const row = this.plot.focus;
    if (row < 0 || !this.info) return;
    try {
      await this.ask("one", { map: this.info.map, row }, { onValue: async (/** @type {any} */ data, /** @type {Arrays} */ arrays) => {
        const [image] = arrays.images ? await canvases(arrays.images) : [];
        if (this.gone) return;
        const lines = [h("p", { text: data.labels[0] ? `label: ${data.labels[0]}` : "no label" })];
        if (image) {
          image.className = "pixels";
          image.setAttribute("role", "img");
          image.setAttribute("aria-label", data.names[0]);
          image.style.width = `${Math.max(image.width, 256)}px`;
          lines.unshift(h("p", {}, image));
        }
        this.studio.dialog(data.names[0], ...lines);
      } });
    } catch (error) {
      this.studio.fail(error);
    }
  }

  /** @param {string} format */
  async export(format) {
    try {
      const { saved, n, command } = await this.ask("export", { map: this.info.map, format }, { arrays: { mask: this.mask } });
      this.studio.status({ saved, command });
      this.studio.say(`wrote ${n} to ${saved}`);
    } catch (error) {
      this.studio.fail(error);
    }
  }

  end() {
    this.gone = true;
    clearTimeout(this.timer);
    clearTimeout(this.settling);
    this.keys();
    this.studio.stop(`map/${this.tab}/make`);
    this.plot.end();
  }
}
