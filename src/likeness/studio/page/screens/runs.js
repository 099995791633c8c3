// @ts-check
// Runs: the table of what there is, one run or two beside each other, and the form of a new one.

import { make } from "../app.js";
import { Details } from "../runs/details.js";
import { starter } from "../runs/start.js";
import { short } from "../widgets/numbers.js";

const COLUMNS = ["run", "model", "data", "images seen", "images/s", "losses", "state", "pin"];

/** @type {import("../app.js").Screen} */
export default {
  id: "runs",
  title: "Runs",
  group: "Watch",
  key: "r",
  needsRun: false,
  accepts: () => true,
  open: (recipe) => (typeof recipe.seen === "number" && recipe.n === undefined ? { step: recipe.seen } : null),
  mount(root, studio) {
    const filter = make("input", { type: "search", placeholder: "filter" });
    filter.setAttribute("aria-label", "filter runs");
    filter.value = studio.hash.get("filter", "");
    const fresh = make("button", { type: "button", textContent: "New training", onclick: () => begin() });
    const body = make("tbody", {});
    const heads = make("tr", {}, ...COLUMNS.map((t) => make("th", { scope: "col", role: "columnheader", textContent: t, className: t.startsWith("images") ? "number" : "" })));
    const table = make("table", { role: "grid" }, make("thead", { role: "rowgroup" }, heads), body);
    heads.setAttribute("role", "row");
    body.setAttribute("role", "rowgroup");
    table.setAttribute("aria-label", "runs");
    const panel = make("div", {}), stillborn = make("div", {}), shown = make("div", { className: "columns wide" });
    root.append(make("div", { className: "row between" }, make("h1", { textContent: "Runs" }), make("div", { className: "row" }, filter, fresh)),
      make("div", { className: "scroll" }, table), panel, stillborn, shown);

    /** @type {Map<string, Details>} */
    const details = new Map();
    let cursor = studio.run?.path ?? "";
    const pins = () => studio.hash.get("pins", /** @type {string[]} */ ([]));
    const fits = () => studio.runs.filter((r) => `${r.path} ${r.model} ${/** @type {any} */ (r).data} ${r.state}`.toLowerCase().includes(filter.value.toLowerCase()));

    /** @param {string} path */
    const pin = (path) => {
      const now = pins();
      const next = now.includes(path) ? now.filter((p) => p !== path) : [...now, path].slice(-2);
      studio.hash.set({ pins: next.length ? next : null });
      draw();
    };
    /** @param {string} path */
    const open = (path) => {
      studio.hash.set({ run: path, step: null });
      studio.choose();
      draw();
    };

    /** @param {any} run */
    function row(run) {
      const one = make("tr", { role: "row" });
      const losses = Object.entries(run.losses).filter(([n]) => !n.endsWith("gradient")).slice(0, 3).map(([n, v]) => `${n} ${short(/** @type {number} */ (v))}`).join(", ");
      const cells = ["", run.model, run.data, run.seen.toLocaleString("en"), run.rate ? short(run.rate) : "", losses, run.state, ""];
      cells.forEach((text, i) => one.append(make("td", { role: "gridcell", textContent: text, className: i === 3 || i === 4 ? "number" : "" })));
      const link = make("button", { type: "button", className: "plain", textContent: run.path, onclick: () => open(run.path) });
      const on = pins().includes(run.path);
      const pinned = make("button", { type: "button", className: "plain", textContent: on ? "unpin" : "pin", onclick: () => pin(run.path) });
      pinned.setAttribute("aria-label", `${on ? "unpin" : "pin"} ${run.path}`);
      link.tabIndex = run.path === cursor ? 0 : -1;
      link.dataset.run = run.path;
      link.onfocus = () => {
        cursor = run.path;
        for (const other of body.querySelectorAll("[data-run]")) /** @type {HTMLElement} */ (other).tabIndex = other === link ? 0 : -1;
      };
      one.children[0].append(link);
      one.children[7].append(pinned);
      one.setAttribute("aria-selected", String(run.path === studio.run?.path));
      return one;
    }

    function draw() {
      const all = fits(), focus = /** @type {HTMLElement|null} */ (document.activeElement)?.dataset?.run;
      if (!all.some((r) => r.path === cursor)) cursor = all[0]?.path ?? "";
      body.replaceChildren(...all.map(row));
      if (focus) /** @type {HTMLElement|null} */ (body.querySelector(`[data-run="${CSS.escape(focus)}"]`))?.focus();
      if (!all.length) body.append(make("tr", { role: "row" }, make("td", { role: "gridcell", colSpan: COLUMNS.length, textContent: studio.runs.length ? "No run fits." : "No run is here yet: start a training on a set that is built in, or on your own folder." })));
      const none = studio.run ? undefined : studio.jobs.find((j) => j.run === studio.hash.get("run", ""));
      const words = none?.state === "failed" ? none.lines.join("\n") || "It printed nothing." : "";
      if (stillborn.dataset.words !== words) {  // refused before there was a folder: it has no row that could say so
        stillborn.dataset.words = words;
        stillborn.replaceChildren(...(words ? [make("div", { className: "failed", role: "alert" },
          make("p", {}, make("strong", { textContent: `The training of ${none?.run} did not begin.` })), make("p", { textContent: words }))] : []));
      }
      const wanted = pins().filter((p) => studio.runs.some((r) => r.path === p));
      if (!wanted.length && studio.run) wanted.push(studio.run.path);
      for (const [path, one] of details) if (!wanted.includes(path)) (one.close(), one.root.remove(), details.delete(path));
      for (const path of wanted) {
        const there = details.get(path) ?? new Details(studio, path, { onScrub: scrub, onFork: fork });
        details.set(path, there);
        if (!there.root.isConnected) shown.append(there.root);
        void there.update(/** @type {any} */ (studio.runs.find((r) => r.path === path)));
      }
      shown.classList.toggle("two", wanted.length > 1);
    }

    /** Films of two runs go together. @param {number} seen @param {Details} from */
    function scrub(seen, from) {
      const last = from.data.samples.at(-1)?.seen === seen;
      studio.hash.set({ step: last ? null : seen });
      for (const one of details.values()) if (one !== from) one.scrub(seen);
    }

    /** @param {any} [more] */
    async function begin(more = {}) {
      const done = studio.busy("asking the models for their options");
      try {
        const known = await studio.ask("runs", "models", {}, { key: "models" });
        if (!known) return;
        panel.replaceChildren(starter(studio, { ...known, ...more, onStart: (run) => (panel.replaceChildren(), open(run)), onClose: () => panel.replaceChildren() }));
        panel.scrollIntoView({ block: "nearest" });
      } catch (error) {
        studio.fail(error);
      } finally {
        done();
      }
    }

    /** @param {string} path @param {Record<string, any>} changes @param {boolean} forked */
    async function fork(path, changes, forked) {
      const like = studio.runs.find((r) => r.path === path);
      const there = details.get(path)?.data ?? (await studio.ask("runs", "details", { path }, { key: `details:${path}` }));
      if (!like || !there) return;
      const { options = {}, training = {}, data = {} } = there.config;
      await begin({ like, own: { ...options, ...training, ...data }, changes: { ...options, ...training, ...data, ...changes }, fork: forked, states: there.states });
    }

    /** @param {number} by */
    const move = (by) => {
      const all = fits(), at = all.findIndex((r) => r.path === cursor);
      const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
      if (!next) return;
      cursor = next.path;
      /** @type {HTMLElement|null} */ (body.querySelector(`[data-run="${CSS.escape(cursor)}"]`))?.focus();
    };
    table.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e6, End: 1e6 }[event.key];
      if (by) (event.preventDefault(), move(by));
    });
    filter.oninput = () => (studio.hash.set({ filter: filter.value || null }), draw());
    const keys = studio.keys.add([
      { key: "n", label: "new training", run: () => begin() },
      { key: "f", label: "fork the run at the cursor", run: () => cursor && fork(cursor, {}, true) },
      { key: "p", label: "pin the run at the cursor, beside another", run: () => cursor && pin(cursor) },
      { key: "/", label: "filter the runs", run: () => filter.focus() },
    ]);
    const unwatch = studio.watch("runs", () => draw());
    draw();
    return () => {
      unwatch();
      keys();
      for (const one of details.values()) one.close();
    };
  },
};
