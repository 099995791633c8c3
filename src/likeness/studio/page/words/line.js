// @ts-check
// The queue of the server: what is drawn now, step by step, and what waits.
import { h } from "../widgets/dom.js";
import { button } from "../samples/common.js";

const KEY = "words/work";

/** @param {import("./prompt.js").Context} ctx @param {{onDrawn: (data: any, arrays: any) => void|Promise<void>, onEnd: (name: string, shown: boolean) => void}} how */
export function line(ctx, how) {
  const { studio } = ctx;
  /** @type {any[]} */
  let entries = [];
  let now = "", ended = "", working = false;
  const list = h("ol", { class: "t-line" }), says = h("p", { class: "small muted" });
  const root = h("div", {}, h("h2", { text: "Queue" }), says, list);

  /** @param {any[]} queue */
  function show(queue) {
    entries = queue;
    says.textContent = queue.length ? "It is on the server, and outlives this page; it is drawn while a page looks on." : "Nothing waits.";
    list.replaceChildren(...queue.map((e, i) => {
      const text = e.text || "no text", other = e.run === ctx.run.path ? "" : ` (${e.run})`;
      return h("li", { "data-id": e.id },
        h("span", { class: "t-text", text: text + other, title: e.command }),
        h("span", { class: `small ${e.why ? "bad" : "muted"}`, role: e.why ? "alert" : null, text: e.why || (e.id === now ? "is drawn" : "waits") }),
        h("span", { class: "row" },
          i || e.why ? h("button", { type: "button", "aria-label": `${e.why ? "again" : "first"}: ${text}`, text: e.why ? "Again" : "First", onclick: () => void change("first", e.id) }) : null,
          h("button", { type: "button", "aria-label": `cancel: ${text}`, text: e.why ? "Dismiss" : "Cancel", onclick: () => void change("cancel", e.id) })));
    }));
  }
  /** @param {string} method @param {string} id */
  async function change(method, id) {
    try {
      const out = await ctx.ask(method, { id }, { key: `${method}/${id}` });
      if (out) show(out.queue);
      work();
    } catch (error) {
      studio.fail(error);
    }
  }
  /** Draw what waits; where that goes on already, look on. */
  function work() {
    if (!entries.some((e) => !e.why)) return;
    working = true;
    ctx.ask("work", {}, { full: KEY }).catch((error) => studio.fail(error)).finally(() => (working = false));
  }
  const unwatch = studio.watch(KEY, async (data, arrays) => {
    if (!data?.queue) return;
    now = data.id;
    const mine = data.run === ctx.run.path, last = data.latest ?? {};
    if (mine && data.id) await how.onDrawn(data, arrays);
    if (last.id && last.id !== ended) {  // its own value may have been passed over: the last one wins
      ended = last.id;
      if (last.run === ctx.run.path) {
        studio.status({ saved: last.saved, command: last.command });
        how.onEnd(last.name, Boolean(data.name));
      }
      studio.say(`drawn: ${last.text || "no text"}`);
    }
    if (entries.length !== data.queue.length || data.name || !data.id || list.querySelector("[data-now]")?.getAttribute("data-id") !== now) {
      show(data.queue);
      list.querySelector(`[data-id="${CSS.escape(now)}"]`)?.setAttribute("data-now", "");
    }
  });
  return {
    root, show, work,
    get working() { return working; },
    async begin() {
      try {
        const there = await ctx.ask("queue");
        if (there) show(there.queue);
        work();
      } catch (error) {
        studio.fail(error);
      }
    },
    end() { unwatch(); },
  };
}
