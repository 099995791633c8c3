// @ts-check
// The shell: bar, screens, status line, keys, dropped files. A screen is a file in screens/; none is named here.

import { places } from "./recipes.js";
import { Wire, Failed } from "./wire.js";
import { Hash } from "./state.js";
import { Keys } from "./keys.js";

/** @typedef {{path: string, name: string, model: string, answers: string[], options: Record<string, any>, spec: any, images: number, seen: number, state: string, kind: string}} Run */
/** @typedef {(root: HTMLElement, studio: Studio) => (() => void)} Mount */
/** @typedef {{id: string, title: string, group: string, key: string, needsRun: boolean, accepts: (run: Run) => boolean,
 *   open?: (recipe: any) => Record<string, any>|null}} About  what the shell knows of a screen before it is opened */
/** @typedef {About & {mount: Mount}} Screen */
/** @typedef {About & {mount?: Mount, load?: () => Promise<{default: Screen}>}} Known */

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const GROUPS = ["Watch", "Make", "Look"];
const PATIENCE = 5000;

export class Studio {
  constructor() {
    this.hash = new Hash();
    this.keys = new Keys();
    /** @type {Known[]} */ this.screens = [];
    /** @type {Run[]} */ this.runs = [];
    /** @type {any[]} */ this.jobs = [];
    /** @type {Run|null} */ this.run = null;
    this.root = $("work");
    /** @type {Known|null} */ this.screen = null;
    this.unmount = () => {};
    this.turn = 0;
    this.lacks = "";
    this.late = false;
    this.spoken = 0;
    /** @type {string[]} */ this.tasks = [];
    this.command = "";
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.wire = new Wire(`${scheme}://${location.host}/wire`, (on) => this.connected(on));
    this.stats = this.wire.stats;
  }

  async begin() {
    /** @type {Promise<boolean>} */
    const table = new Promise((resolve) => {
      this.wire.watch("runs", (data) => (this.table(data), resolve(true)));
      setTimeout(resolve, PATIENCE, false);
    });
    const names = (document.documentElement.dataset.screens || "").split(" ").filter(Boolean);
    const modules = await Promise.all(names.map((name) => import(`./screens/${name}.js`).then((m) => m.default, (error) => console.error(name, error))));
    this.screens = modules.filter(Boolean);
    const order = ["runs", "samples", "playground", "pixels", "diffusion"];
    const place = (/** @type {Known} */ s) => (order.indexOf(s.id) + 1 || 99);
    this.screens.sort((a, b) => place(a) - place(b) || a.title.localeCompare(b.title));
    this.shellKeys();
    this.listen();
    const wanted = this.wanted(this.hash.screen);
    if (wanted) void this.loaded(wanted);
    this.late = !(await table);
    await this.go(this.hash.screen);
    document.documentElement.dataset.ready = "yes";
  }

  // What a screen uses

  /** @param {string} screen @param {string} method @param {any} args @param {any} [how] @returns {Promise<any>} */
  ask(screen, method, args, how) {
    return this.wire.ask(screen, method, args, how);
  }
  /** @param {string} key */
  stop(key) {
    this.wire.stop(key);
  }
  /** @param {string} key @param {import("./wire.js").OnValue} fn */
  watch(key, fn) {
    return this.wire.watch(key, fn);
  }
  /** @param {string} key @param {any} value */
  keep(key, value) {
    this.wire.keep(key, value);
  }
  /** @param {string} key */
  recall(key) {
    return this.wire.recall(key);
  }

  /** The status line: what was saved where, and the command that makes the same. @param {{saved?: string, command?: string}} what */
  status({ saved, command }) {
    if (saved !== undefined) $("saved").textContent = saved && `saved ${saved}`;
    if (command === undefined) return;
    this.command = command;
    $("command").textContent = command;
    $("copy").hidden = !command;
  }

  /** To the polite live region, at most once in two seconds; the last one counts. @param {string} text */
  say(text) {
    clearTimeout(this.speaking);
    const wait = Math.max(0, this.spoken + 2000 - Date.now());
    this.speaking = setTimeout(() => {
      this.spoken = Date.now();
      $("said").textContent = text;
    }, wait);
  }

  /** The failed state: what, why, what to do; the last good result of the screen stays. @param {unknown} error */
  fail(error) {
    this.root.querySelector(":scope > .failed")?.remove();
    if (!error) return;
    const failure = error instanceof Failed ? error.failure : { what: "Something in the page failed.", why: String(error), do: "Reload the page; nothing is lost." };
    if (!(error instanceof Failed)) console.error(error);
    const box = make("div", { className: "failed", role: "alert" });
    box.append(make("p", {}, make("strong", { textContent: failure.what })));
    for (const line of [failure.why, failure.do]) if (line) box.append(make("p", { textContent: line }));
    const text = [failure.what, failure.why, failure.do].filter(Boolean).join("\n");
    const copy = make("button", { type: "button", textContent: "Copy details", onclick: () => this.copy(text) });
    const close = make("button", { type: "button", textContent: "Close", onclick: () => box.remove() });
    box.append(make("p", { className: "row" }, copy, close));
    this.root.prepend(box);
  }

  /** Shown in the bar after 400 ms. @param {string} text @returns {() => void} to be called at the end */
  busy(text) {
    const mine = { text };
    const show = () => ($("busy").textContent = this.tasks.at(-1) || "");
    const timer = setTimeout(() => (this.tasks.push(mine.text), show()), 400);
    return () => {
      clearTimeout(timer);
      const at = this.tasks.indexOf(mine.text);
      if (at >= 0) this.tasks.splice(at, 1);
      show();
    };
  }

  /** @param {string} text */
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      this.say("copied");
    } catch {
      const selection = getSelection();
      const range = document.createRange();
      range.selectNodeContents($("command"));
      selection?.removeAllRanges();
      selection?.addRange(range);
      this.say("selected; press Ctrl-C to copy");
    }
  }

  /** Open a run, by its path; the screen is mounted anew. @param {string} path */
  open(path) {
    if (path === (this.run?.path ?? "")) return;
    this.hash.set({ run: path || null });
    this.choose();
    this.go(this.screen?.id ?? "runs");
  }

  // Screens

  /** The screen of that name, or the first. @param {string} id */
  wanted(id) {
    return this.screens.find((s) => s.id === id) || this.screens.find((s) => s.id === "runs") || this.screens[0];
  }

  /** Its files come when it is opened; fulfilled when it is there, or another has been opened meanwhile. @param {string} id */
  async go(id) {
    const screen = this.wanted(id);
    if (!screen) return;
    const same = screen === this.screen;
    this.turn += 1;
    this.unmount();
    this.unmount = () => {};
    this.root.replaceChildren();
    this.status({ saved: "", command: "" });
    if (!same || this.hash.screen !== screen.id) this.hash.set({}, screen.id);
    this.screen = screen;
    this.choose();
    document.title = `${screen.title} · likeness studio`;
    this.nav();
    this.lacks = this.lacking(screen);
    if (this.lacks) this.empty(screen);
    else if (screen.mount) this.mounted(screen.mount);
    else await this.opened(screen);
  }

  /** @param {Known} screen */
  async opened(screen) {
    const turn = this.turn, done = this.busy("opening the screen");
    const mount = await this.loaded(screen);
    done();
    if (turn === this.turn && mount) this.mounted(mount);
  }

  /** @param {Known} screen @returns {Promise<Mount|undefined>} */
  async loaded(screen) {
    try {
      screen.mount ??= (await screen.load?.())?.default.mount;
    } catch (error) {
      if (screen === this.screen) this.fail(error);
    }
    return screen.mount;
  }

  /** @param {Mount} mount */
  mounted(mount) {
    try {
      this.unmount = mount(this.root, this) || (() => {});
    } catch (error) {
      this.fail(error);
    }
  }

  /** The runs that could be asked. @param {Known} screen */
  able(screen) {
    return this.runs.filter((run) => run.kind === "model" && screen.accepts(run));
  }

  /** Why a screen has nothing to ask, with what would do; "" where it has its run. @param {Known} screen */
  lacking(screen) {
    if (!screen.needsRun || (this.run && screen.accepts(this.run))) return "";
    return [this.run?.name ?? "", ...this.able(screen).map((run) => run.path)].join("\n") || "nothing";
  }

  /** The empty state of a screen that needs a run and has none that it takes. @param {Known} screen */
  empty(screen) {
    const box = make("div", { className: "empty" }), able = this.able(screen);
    const why = this.run ? `${this.run.name} cannot be asked that.` : "No run is open.";
    box.append(make("p", { textContent: `${why} ${able.length ? "Open one of these:" : "Start a training first."}` }));
    const row = make("p", { className: "row" });
    for (const run of able.slice(0, 12)) row.append(make("button", { type: "button", textContent: run.name, onclick: () => this.open(run.path) }));
    if (!able.length) row.append(make("button", { type: "button", textContent: "Go to runs", onclick: () => this.go("runs") }));
    box.append(row);
    this.root.append(make("h1", { textContent: screen.title }), box);
  }

  nav() {
    const nav = $("nav");
    nav.replaceChildren();
    nav.classList.remove("open");
    $("menu").setAttribute("aria-expanded", "false");
    for (const group of GROUPS) {
      const own = this.screens.filter((s) => s.group === group);
      if (own.length) nav.append(make("h2", { textContent: group }));
      for (const s of own) {
        const link = make("a", { href: `#${s.id}` }, make("span", { textContent: s.title }), make("kbd", { textContent: `g ${s.key}` }));
        if (s === this.screen) link.setAttribute("aria-current", "page");
        link.onclick = (event) => (event.preventDefault(), this.go(s.id), this.root.focus());
        nav.append(link);
      }
    }
  }

  // Runs and jobs

  /** @param {{runs: Run[], jobs: any[]}} data */
  table(data) {
    this.runs = data.runs;
    this.jobs = data.jobs;
    const select = /** @type {HTMLSelectElement} */ ($("run"));
    const names = ["", ...data.runs.map((r) => r.path)];
    if ([...select.options].map((o) => o.value).join("\n") !== names.join("\n")) {
      select.replaceChildren(...names.map((path) => make("option", { value: path, textContent: path || "none" })));
    }
    this.choose();
    const alive = data.jobs.filter((j) => j.state === "training" || j.state === "starting");
    const chip = $("job");
    chip.hidden = !alive.length;
    if (alive.length) chip.textContent = alive.map((j) => `${j.name}: ${j.line || j.state}`).join(" · ");
    this.settle();
  }

  /** The run of a screen may come after the screen: its row, or what it answers, which is asked of a model's class. */
  settle() {
    if (!this.screen || !(this.late || (this.lacks && this.lacks !== this.lacking(this.screen)))) return;
    this.late = false;
    void this.go(this.screen.id);
  }

  choose() {
    const path = this.hash.get("run", "");
    this.run = this.runs.find((r) => r.path === path) || null;
    /** @type {HTMLSelectElement} */ ($("run")).value = this.run ? path : "";
  }

  /** @param {boolean} on */
  connected(on) {
    const banner = $("lost");
    clearTimeout(this.losing);
    if (on) banner.hidden = true;
    else this.losing = setTimeout(() => {
      banner.textContent = "The studio does not answer: it has ended, or is being started anew. What you typed stays; this page tries again by itself. To start it: likeness studio";
      banner.hidden = false;
    }, 600);
  }

  // Keys, palette, dropped files

  shellKeys() {
    this.keys.add([
      { key: "?", label: "this list of keys", run: () => this.help() },
      { key: "Ctrl+K", label: "go to a screen or a run", run: () => this.palette() },
      { key: "y", label: "copy the command that reproduces this", run: () => this.command && this.copy(this.command) },
      ...this.screens.map((s) => ({ key: `g ${s.key}`, label: `go to ${s.title}`, run: () => (this.go(s.id), this.root.focus()) })),
    ]);
  }

  help() {
    const rows = this.keys.all().map((b) => make("tr", {}, make("td", {}, make("kbd", { textContent: b.key })), make("td", { textContent: b.label })));
    const letters = make("input", { type: "checkbox", checked: this.keys.letters, id: "letters" });
    letters.onchange = () => ((this.keys.letters = letters.checked), localStorage.setItem("letters", String(letters.checked)));
    this.dialog("Keys", make("table", {}, make("tbody", {}, ...rows)), make("p", {}, letters, make("label", { htmlFor: "letters", textContent: " single letters are keys" })));
  }

  palette() {
    const goals = [
      ...this.screens.map((s) => ({ text: s.title, run: () => this.go(s.id) })),
      ...this.runs.map((r) => ({ text: `run ${r.path}`, run: () => this.open(r.path) })),
    ];
    const input = make("input", { type: "text", placeholder: "screen or run" });
    input.setAttribute("aria-label", "screen or run");
    const list = make("ul", {});
    const show = () => {
      const fit = goals.filter((g) => g.text.toLowerCase().includes(input.value.toLowerCase())).slice(0, 12);
      list.replaceChildren(...fit.map((g) => make("li", {}, make("button", { type: "button", textContent: g.text, onclick: () => (closed(), g.run()) }))));
    };
    const closed = this.dialog("Go to", input, list);
    input.oninput = show;
    input.onkeydown = (event) => {
      if (event.key === "Enter") /** @type {HTMLElement|null} */ (list.querySelector("button"))?.click();
    };
    show();
    input.focus();
  }

  /** @param {string} title @param {...HTMLElement} content @returns {() => void} that closes it */
  dialog(title, ...content) {
    const dialog = /** @type {HTMLDialogElement} */ ($("dialog"));
    const close = make("button", { type: "button", textContent: "Close", onclick: () => dialog.close() });
    dialog.replaceChildren(make("h1", { textContent: title, id: "dialog-title" }), ...content, make("p", {}, close));
    if (!dialog.open) dialog.showModal();
    return () => dialog.close();
  }

  listen() {
    this.keys.letters = localStorage.getItem("letters") !== "false";
    $("help").onclick = () => this.help();
    $("palette").onclick = () => this.palette();
    $("copy").onclick = () => this.copy(this.command);
    $("menu").onclick = () => $("menu").setAttribute("aria-expanded", String($("nav").classList.toggle("open")));
    /** @type {HTMLSelectElement} */ ($("run")).onchange = (event) => this.open(/** @type {HTMLSelectElement} */ (event.target).value);
    window.addEventListener("hashchange", () => this.hash.screen && this.go(this.hash.screen));
    document.addEventListener("visibilitychange", () => {  // where nobody looks, the server need not look either
      if (document.hidden) this.wire.send({ type: "unwatch", key: "runs" });
      else this.wire.hold("runs");
    });
    const over = (/** @type {DragEvent} */ event, /** @type {boolean} */ on) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      document.body.classList.toggle("dropping", on);
    };
    document.addEventListener("dragover", (event) => over(event, true));
    document.addEventListener("dragleave", (event) => over(event, false));
    document.addEventListener("drop", (event) => {
      over(event, false);
      const file = event.dataTransfer?.files[0];
      if (file) void this.dropped(file);
    });
  }

  /** A picture with a recipe restores the screen that made it. @param {File} file */
  async dropped(file) {
    try {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const { recipe, run } = await this.ask("recipe", "read", {}, { key: "recipe", arrays: { file: bytes } });
      this.restore(recipe, run);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Show the screen that made a picture: by what the studio wrote into it, or by what the screens make of the recipe of
   * a command. @param {any} recipe @param {string} run the path of its run, "" where that is not here */
  restore(recipe, run) {
    const { screen, hash } = this.place(recipe, this.runs.find((r) => r.path === run) ?? null);
    if (recipe.run && !run) throw new Failed({ what: `This picture is of the run ${recipe.run}.`, why: "No run of that name is in this studio.", do: "Start the studio on the folder that holds it." });
    this.hash.set({ ...hash, run: run || null }, screen);
    this.screen = null;
    this.go(screen);
    this.say(`restored ${screen}`);
  }

  /** The screen of a picture, and its choices; whatever a stranger wrote into it leads to the run alone.
   * @param {any} recipe @param {Run|null} run @returns {import("./recipes.js").Place} */
  place(recipe, run) {
    const there = (/** @type {any} */ p) => this.screens.find((s) => s.id === p?.screen);
    const plain = (/** @type {any} */ hash) => typeof hash === "object" && hash !== null && !Array.isArray(hash);
    if (there(recipe.studio) && plain(recipe.studio.hash)) return recipe.studio;
    try {
      const able = places(recipe).find((p) => run && there(p)?.accepts(run));
      const offers = this.screens.map((s) => ({ screen: s.id, hash: s.open ? s.open(recipe) : null }));
      const offered = offers.find((o) => o.hash);
      return able ?? (offered?.hash ? { screen: offered.screen, hash: offered.hash } : { screen: "runs", hash: {} });
    } catch {
      return { screen: "runs", hash: {} };
    }
  }
}

/** An element with properties and children; text is text, never markup.
 * @template {keyof HTMLElementTagNameMap} K @param {K} tag @param {Record<string, any>} props @param {...(Node|string)} children
 * @returns {HTMLElementTagNameMap[K]} */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node && name !== "role") /** @type {any} */ (node)[name] = value;
    else node.setAttribute(name, String(value));
  }
  node.append(...children);
  return node;
}

if (typeof document !== "undefined" && document.getElementById("work")) {
  const studio = new Studio();
  /** @type {any} */ (window).studio = studio;
  void studio.begin();
}
