// @ts-check
// A text in the words of a run: unknown ones are underlined, the nearest known ones a click away.
import { h, unique } from "../widgets/dom.js";

/** @typedef {{studio: import("../app.js").Studio, run: any, info: any, history: string[], ask: (method: string, args?: any, how?: any) => Promise<any>}} Context */
/** @typedef {ReturnType<typeof box>} Box */

/** @param {Context} ctx @param {{label: string, name: "text" | "negative", rows: number, history?: boolean, start?: string}} how */
export function box(ctx, how) {
  const { studio } = ctx, id = unique("t-box");
  const input = h("textarea", { id, rows: how.rows, maxlength: 2000, spellcheck: "false", autocomplete: "off", "aria-describedby": `${id}-help` });
  const behind = h("div", { class: "t-behind", "aria-hidden": "true" });
  const help = h("div", { id: `${id}-help`, class: "t-help small" });
  const root = h("div", { class: "t-box" }, h("label", { for: id, text: how.label }), h("div", { class: "t-over" }, behind, input), help);
  input.value = studio.hash.get(how.name, how.start ?? "");
  let timer = 0, version = 0, at = -1, draft = "";
  /** @type {Set<(text: string) => void>} */
  const listeners = new Set();

  function typed() {
    behind.textContent = input.value;  // without lines until the server has read it
    studio.hash.set({ [how.name]: input.value || null });
    clearTimeout(timer);
    timer = setTimeout(look, 200);
    for (const fn of listeners) fn(input.value);
  }
  async function look() {
    const turn = ++version, text = input.value;
    try {
      const read = await ctx.ask("read", { [how.name]: text }, { key: `read/${id}` });
      if (read && turn === version && text === input.value) show(text, read);
    } catch (error) {
      studio.fail(error);
    }
  }
  /** @param {string} text @param {any} read */
  function show(text, read) {
    const letters = Array.from(text), words = read[how.name];  // the server counts letters, not halves of them
    /** @type {(Node | string)[]} */
    const parts = [];
    let from = 0;
    for (const w of words) {
      parts.push(letters.slice(from, w.start).join(""), h("span", { class: "t-unknown", text: letters.slice(w.start, w.end).join("") }));
      from = w.end;
    }
    behind.replaceChildren(...parts, letters.slice(from).join(""));
    const notes = how.name === "text" && (text.trim() || !words.length) ? read.notes.filter((/** @type {string} */ n) => !/^no training caption/.test(n)) : [];
    help.replaceChildren(...words.map((/** @type {any} */ w) => h("p", { class: "row" }, h("span", { class: "t-unknown", text: w.word }), " stands in no training caption", w.near.length ? "; nearest:" : ".",
      ...w.near.map((/** @type {string} */ n) => h("button", { type: "button", class: "plain", text: n, "aria-label": `write ${n} for ${w.word}`, onclick: () => replace(w, n) })))),
    ...notes.map((/** @type {string} */ n) => h("p", { class: "muted", text: `${n[0].toUpperCase()}${n.slice(1)}.` })));
  }
  /** @param {{start: number, end: number}} w @param {string} by */
  function replace(w, by) {
    const letters = Array.from(input.value);
    input.value = [...letters.slice(0, w.start), by, ...letters.slice(w.end)].join("");
    typed();
    input.focus();
  }
  input.addEventListener("input", () => ((at = -1), typed()));
  input.addEventListener("scroll", () => (behind.scrollTop = input.scrollTop));
  input.addEventListener("keydown", (e) => {
    if (!how.history || !e.altKey || (e.key !== "ArrowUp" && e.key !== "ArrowDown")) return;
    e.preventDefault();
    const texts = ctx.history;
    if (at < 0) draft = input.value;
    const next = e.key === "ArrowUp" ? Math.min(at + 1, texts.length - 1) : Math.max(at - 1, -1);
    if (next === at) return;
    at = next;
    input.value = at < 0 ? draft : texts[texts.length - 1 - at];
    typed();
  });
  behind.textContent = input.value;
  return {
    root, input, look,
    get value() { return input.value; },
    set value(v) {
      input.value = v;
      typed();
    },
    focus() { input.focus(); },
    /** @param {(text: string) => void} fn */
    follow(fn) { listeners.add(fn); },
    /** The text is one of those that Alt and an arrow bring back. */
    remember() {
      at = -1;
      const text = input.value.slice(0, 1000), there = ctx.history.indexOf(text);
      if (there >= 0) ctx.history.splice(there, 1);
      ctx.history.push(text);
      ctx.history.splice(0, Math.max(0, ctx.history.length - 30));
    },
    /** Put a word where the cursor is. @param {string} word */
    insert(word) {
      const from = input.selectionStart, before = input.value.slice(0, from), after = input.value.slice(input.selectionEnd);
      const gap = before && !/\s$/.test(before) ? " " : "", end = after && !/^\s/.test(after) ? " " : "";
      input.value = before + gap + word + end + after;
      input.selectionStart = input.selectionEnd = (before + gap + word).length;
      typed();
      input.focus();
    },
  };
}

/** The words of the run, commonest first, with how often each stands in the captions. @param {Context} ctx @param {Box} into */
export function glossary(ctx, into) {
  const { info } = ctx, filter = h("input", { type: "search", "aria-label": "find a word", placeholder: "find a word", oninput: () => show() });
  const list = h("div", { class: "t-glossary" }), says = h("p", { class: "small muted", role: "status" });
  /** @type {number[]} */
  let often = [];
  function show() {
    const fit = info.words.map((/** @type {string} */ w, /** @type {number} */ i) => [w, i]).filter((/** @type {[string, number]} */ [w]) => w.includes(filter.value.toLowerCase()));
    list.replaceChildren(...fit.slice(0, 200).map((/** @type {[string, number]} */ [w, i]) =>
      h("button", { type: "button", class: "plain", "aria-label": `insert ${w}`, onclick: () => into.insert(w) }, w, often.length ? h("small", { class: "muted", text: ` ${often[i].toLocaleString("en-US")}` }) : null)));
    says.textContent = `${Math.min(200, fit.length)} of ${info.known.toLocaleString("en-US")} words${often.length ? ", with how often the captions have them" : ""}; the longest caption has ${info.longest} words.`;
  }
  const root = h("details", { class: "s-options" }, h("summary", { text: `the ${info.known.toLocaleString("en-US")} words that this run knows` }), h("div", { class: "row" }, filter), list, says);
  root.addEventListener("toggle", async () => {
    if (!root.open || often.length) return;
    show();
    const counted = await ctx.ask("counts").catch(() => null);  // where the captions are not at hand the words stand alone
    often = counted?.counts ?? [];
    show();
  });
  return root;
}
