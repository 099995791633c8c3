// @ts-check
// A form for a new training, made from what the model declares; or for one like another run, or a fork of it.

import { make } from "../app.js";
import { form } from "../widgets/form.js";

/** @typedef {import("../widgets/form.js").Option} Option */

/** Options as a form needs them, with these values as the usual ones.
 * @param {any} entry @param {Record<string, any>} own @returns {Option[]} */
function options(entry, own) {
  /** @type {[string, string][]} */
  const parts = [["options", `options of ${entry.name}`], ["training", "training"], ["reading", "reading the data"]];
  return parts.flatMap(([part, group]) => (entry[part] ?? []).map((/** @type {any} */ o) => ({
    name: o.name, help: o.help, default: own[o.name] ?? o.here, low: o.low, high: o.high, choices: o.choices,
    whole: o.kind === "int", group,
  })));
}

/** @param {import("../app.js").Studio} studio
 * @param {{models: any[], sets: any[], like?: import("../app.js").Run|null, own?: Record<string, any>, changes?: Record<string, any>,
 *   fork?: boolean, states?: string[], onStart: (run: string) => void, onClose: () => void}} how */
export function starter(studio, { models, sets, like = null, own = {}, changes = {}, fork = false, states = [], onStart, onClose }) {
  const field = (/** @type {string} */ text, /** @type {HTMLElement} */ input) => make("label", { className: "row" }, make("span", { textContent: text }), input);
  const model = make("select", {}, ...models.map((m) => make("option", { value: m.name, textContent: m.name })));
  model.value = models.some((m) => m.name === "vae") ? "vae" : model.value;
  const list = make("datalist", { id: "sets" }, ...sets.map((s) => make("option", { value: s.name })));
  const data = make("input", { type: "text", value: "digits", spellcheck: false });
  data.setAttribute("list", "sets");
  const run = make("input", { type: "text", spellcheck: false });
  const minutes = make("input", { type: "number", min: "0", step: "any", value: like ? "" : "2" });
  const state = make("select", {}, ...[...states].reverse().map((s) => make("option", { value: s, textContent: `image ${Number(s).toLocaleString("en")}` })));
  const nice = make("input", { type: "checkbox", checked: true });
  const about = make("p", { className: "muted small" }), place = make("div", {}), shown = make("code", {});
  const title = like ? (fork ? `Fork of ${like.name}` : `A run like ${like.name}`) : "New training";
  let named = false, made = form({ options: [] });

  const entry = () => models.find((m) => m.name === (like ? like.model : model.value)) ?? { name: like?.model ?? "", options: [], training: [], reading: [] };
  const differing = () => {
    const usual = Object.fromEntries(options(entry(), own).map((o) => [o.name, o.default]));
    return Object.fromEntries(Object.entries(made.values()).filter(([name, value]) => value !== usual[name]));
  };
  const asked = () => {
    const common = { run: run.value.trim(), options: differing(), nice: nice.checked ? 10 : 0, ...(minutes.value ? { minutes: Number(minutes.value) } : {}) };
    return like ? { ...common, like: like.path, fork, state: fork ? state.value : "" } : { ...common, model: model.value, data: data.value.trim() };
  };
  let shows = 0;
  const show = () => {
    clearTimeout(shows);
    shows = setTimeout(async () => {
      try {
        const { command } = (await studio.ask("runs", "start", { ...asked(), show: true }, { key: "start:show" })) ?? {};
        if (command) shown.textContent = command;
      } catch (error) {
        shown.textContent = error instanceof Error ? error.message : String(error);
      }
    }, 150);
  };
  const rename = () => {
    if (named) return;
    const stem = like ? like.path : `${model.value}-${data.value.split("/").filter(Boolean).at(-1) ?? "data"}`.replace(/[^\w.+=-]+/g, "-");
    const names = new Set(studio.runs.map((r) => r.path));
    let name = like ? `${stem}-${fork ? "fork" : "b"}` : stem;
    for (let i = 2; names.has(name); i++) name = `${like ? `${stem}-${fork ? "fork" : "b"}` : stem}-${i}`;
    run.value = name;
  };
  const rebuild = () => {
    const now = entry();
    about.textContent = now.about ?? "";
    made = form({ options: options(now, own), values: changes, onChange: show });
    const more = make("details", { open: Object.keys(changes).length > 0 }, make("summary", { textContent: `${now.options.length + now.training.length + now.reading.length} options` }), made.root);
    place.replaceChildren(more);
    rename();
    show();
  };
  const start = async () => {
    try {
      const done = await studio.ask("runs", "start", asked(), { key: "start" });
      if (!done) return;
      studio.status({ command: done.command });
      studio.say(`training of ${done.run} begins`);
      onStart(done.run);
    } catch (error) {
      studio.fail(error);
    }
  };
  model.onchange = rebuild;
  data.oninput = () => (rename(), show());
  run.oninput = () => ((named = true), show());
  for (const one of [minutes, state, nice]) one.onchange = show;
  const root = make("form", { className: "panel" }, make("h2", { textContent: title }));
  root.onsubmit = (event) => (event.preventDefault(), void start());
  if (!like) root.append(field("model", model), field("data", data), list, about);
  else if (fork) root.append(field("from its state of", state), make("p", { className: "caption", textContent: "Weights, optimisers and log are taken along; what does not change the networks may be otherwise." }));
  root.append(field("run", run), field("minutes", minutes), field("the page comes first", nice), place,
    make("p", {}, shown),
    make("p", { className: "row" }, make("button", { type: "submit", className: "primary", textContent: fork ? "Fork" : "Start" }), make("button", { type: "button", textContent: "Close", onclick: onClose })));
  rebuild();
  setTimeout(() => (like ? run : model).focus());
  return root;
}
