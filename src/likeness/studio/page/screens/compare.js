// @ts-check
// Compare: runs are columns, questions are rows. Ranks and reasons come from the evaluator; the page adds none.
import { chart } from "../widgets/chart.js";
import { add, h } from "../widgets/dom.js";
import { raw } from "../widgets/pixels.js";
import { tabs } from "../widgets/tabs.js";
import { tiles } from "../widgets/tiles.js";
import { quiz } from "../compare/quiz.js";
import { table } from "../compare/table.js";
import { button, field } from "../samples/common.js";
import about from "./about/compare.js";

const MOST = 6;

/** @type {import("../app.js").Screen} */
export default {
  ...about,
  mount(root, studio) {
    root.classList.add("s-screen");
    const tab = Math.random().toString(36).slice(2, 10), gone = { yes: false };
    const ask = (/** @type {string} */ screen, /** @type {string} */ method, /** @type {any} */ args, /** @type {any} */ how = {}) =>
      studio.ask(screen, method, args, { ...how, key: `compare/${tab}/${how.key ?? method}` });
    /** @type {string[]} */
    let chosen = studio.hash.get("runs", /** @type {string[]} */ ([]));
    let seed = studio.hash.get("seed", 0), version = 0;
    const known = () => studio.runs.filter((r) => r.kind === "model");
    const picks = h("fieldset", { class: "s-picks" }), scores = h("div", {}), samples = h("div", { class: "columns" }), curves = h("div", { class: "columns" });
    const copies = h("div", { class: "columns" }), hint = h("p", { class: "muted" });
    const game = quiz({ studio, ask, runs: () => chosen });
    const seeds = field("seed", seed, { min: 0, max: 2 ** 31 - 1 }, (v) => {
      seed = v;
      studio.hash.set({ seed });
      void draw();
    });
    const views = tabs({
      label: "Questions to the runs", chosen: studio.hash.get("tab", "scores"),
      tabs: [["scores", "Scores", scores], ["samples", "Samples", samples], ["curves", "Curves", curves], ["copies", "Nearest pairs", copies], ["quiz", "Which is real?", game.root]]
        .map(([id, title, panel]) => /** @type {any} */ ({ id, title, panel })),
      onChange: (id) => (studio.hash.set({ tab: id }), bind(), void draw()),
    });
    add(root, h("h1", { text: "Compare" }), picks, h("div", { class: "row" }, seeds.root, button("Export page and CSV", () => void save(), "S")), hint, views.root);

    function list() {
      const boxes = known().map((run) => {
        const box = h("input", { type: "checkbox", value: run.path, onchange: () => pick(run.path, box.checked) });
        box.checked = chosen.includes(run.path);
        box.disabled = !box.checked && chosen.length >= MOST;
        return h("label", { class: "row s-field" }, box, run.path);
      });
      picks.replaceChildren(h("legend", { text: `Runs, two to ${MOST}` }), h("div", { class: "row" }, ...boxes));
      hint.textContent = known().length < 2 ? "There are fewer than two runs here; train another." : chosen.length < 2 ? "Choose two runs or more." : "";
    }
    /** @param {string} path @param {boolean} on */
    function pick(path, on) {
      chosen = on ? [...chosen, path] : chosen.filter((p) => p !== path);
      studio.hash.set({ runs: chosen });
      list();
      /** @type {HTMLElement | null} */ (picks.querySelector(`input[value="${CSS.escape(path)}"]`))?.focus();
      game.reset();
      void draw();
    }
    async function draw() {
      const turn = ++version, view = views.chosen;
      if (!chosen.length) return;
      const done = studio.busy("comparing");
      try {
        if (view === "scores" || view === "curves") await sheet(turn);
        else if (view === "samples") await drawn(turn);
        else if (view === "copies") await pairs(turn);
      } catch (error) {
        if (!gone.yes) studio.fail(error);
      } finally {
        done();
        root.dataset.drawn = `${view} ${turn}`;
      }
    }
    /** @param {number} turn */
    async function sheet(turn) {
      await ask("compare", "sheet", { runs: chosen }, {
        onValue: (/** @type {any} */ data, /** @type {any} */ arrays) => {
          if (turn !== version) return;
          scores.replaceChildren(table(data, (path) => void evaluate(path)));
          curves.replaceChildren(...charts(data, arrays));
          studio.status({ command: data.command });
        },
      });
    }
    /** Losses of one model on one data set share a chart; others are different quantities. @param {any} data @param {any} arrays */
    function charts(data, arrays) {
      /** @type {Map<string, {name: string, x: number[], y: number[]}[]>} */
      const lines = new Map();
      data.columns.forEach((/** @type {any} */ column, /** @type {number} */ i) => column.terms.forEach((/** @type {string} */ term, /** @type {number} */ k) => {
        const flat = arrays[`curve${i}.${k}`].data, n = flat.length / 3;
        const title = `${column.subject} (${column.reference}): ${term}`;
        const line = { name: column.name, x: Array.from({ length: n }, (_, j) => flat[3 * j + 1]), y: Array.from({ length: n }, (_, j) => flat[3 * j + 2]) };
        lines.set(title, [...(lines.get(title) ?? []), line]);
      }));
      return [...lines].map(([label, each]) => {
        const one = chart({ label, xName: "images seen", yName: "loss", height: 180 });
        one.set(each);
        return one.root;
      });
    }
    /** @param {number} turn */
    async function drawn(turn) {
      const grids = chosen.map((path) => ({ path, images: tiles({ label: `Samples of ${path}`, tile: 48, columns: 4 }), note: h("p", { class: "caption generated", text: `${path}, seed ${seed}` }) }));
      samples.replaceChildren(...grids.map((g) => h("div", {}, h("h2", { text: g.path }), g.images.root, g.note)));
      await Promise.all(grids.map((g, i) => ask("samples", "grid", { run: g.path, n: 16, seed }, {
        key: `grid${i}`,
        onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
          if (turn !== version) return;
          studio.status({ command: data.command });
          if (arrays.images) await g.images.set(raw(arrays.images.data, arrays.images.shape), { names: Array.from({ length: 16 }, (_, k) => `sample ${k}`) });
          else g.note.textContent = `${g.path} draws no still images`;
        },
      }).catch((error) => (g.note.textContent = String(error.message)))));
    }
    /** @param {number} turn */
    async function pairs(turn) {
      copies.replaceChildren();
      for (const [i, path] of chosen.entries()) {
        const box = h("div", {}, h("h2", { text: path }));
        copies.append(box);
        await ask("compare", "pairs", { run: path, seed }, {
          key: `pairs${i}`,
          onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
            if (turn !== version) return;
            const far = data.distance.map((/** @type {number} */ d) => d.toFixed(1));
            const own = tiles({ label: `${path}: samples nearest to training images`, columns: 4, tile: 64 }), near = tiles({ label: `${path}: their nearest training images`, columns: 4, tile: 64 });
            add(box, h("p", { class: "caption generated", text: `samples, of ${data.among} the nearest to training images` }), own.root, h("p", { class: "caption real", text: "their nearest training images" }), near.root, h("p", { class: "small", text: `${far.join(", ")} levels apart` }));
            await own.set(raw(arrays.samples.data, arrays.samples.shape), { names: far.map((/** @type {string} */ d, /** @type {number} */ k) => `sample ${data.numbers[k]}, ${d} levels`) });
            await near.set(raw(arrays.images.data, arrays.images.shape), { names: far.map((/** @type {string} */ d, /** @type {number} */ k) => `training image ${data.rows[k]}, ${d} levels`) });
            studio.status({ command: data.command });
          },
        }).catch((error) => add(box, h("p", { class: "bad small", text: error.message })));
      }
    }
    /** @param {string} path */
    async function evaluate(path) {
      const done = studio.busy(`scoring ${path}`);
      try {
        const last = await ask("compare", "evaluate", { run: path }, {
          key: `evaluate`, onValue: (/** @type {any} */ data) => ((hint.textContent = data.last && `${data.cards} cards: ${data.last}`), studio.status({ command: data.command })),
        });
        hint.textContent = "";
        if (last?.saved) studio.status({ saved: last.saved });
        await draw();
      } catch (error) {
        studio.fail(error);
      } finally {
        done();
      }
    }
    async function save() {
      const done = studio.busy("writing the page");
      try {
        const out = await ask("compare", "export", { runs: chosen }, { key: "export" });
        if (!out) return;
        studio.status({ saved: out.saved, command: out.command });
        hint.replaceChildren("Written: ", h("a", { href: `/files/${out.page}`, target: "_blank", rel: "noopener", text: out.saved }), " with compare.csv and compare.json beside it.");
      } catch (error) {
        studio.fail(error);
      } finally {
        done();
      }
    }
    let unbind = () => {};
    function bind() {
      unbind();
      unbind = studio.keys.add(views.chosen === "quiz" ? game.keys : []);
    }
    const always = studio.keys.add([
      { key: "s", label: "export page and CSV", run: () => void save() },
      ...["Scores", "Samples", "Curves", "Nearest pairs", "Which is real?"].map((title, i) => ({ key: String(i + 1), label: `tab ${title}`, run: () => views.at(i) })),
    ]);
    const unwatch = studio.watch("runs", () => {
      const paths = known().map((r) => r.path).join("\n");
      if (paths !== picks.dataset.paths) list();
      picks.dataset.paths = paths;
    });
    list();
    bind();
    void draw();
    return () => {
      gone.yes = true;
      root.classList.remove("s-screen");
      unbind();
      always();
      unwatch();
    };
  },
};
