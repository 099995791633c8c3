// @ts-check
// Which is real? Pairs of a held-out image and a sample; what the votes are worth, with a binomial interval.
import { h } from "../widgets/dom.js";
import { button, canvases, shown } from "../samples/common.js";

/** @param {{studio: import("../app.js").Studio, ask: (screen: string, method: string, args: any, how?: any) => Promise<any>, runs: () => string[]}} ctx */
export function quiz({ studio, ask, runs }) {
  const N = 20;
  /** @type {HTMLCanvasElement[][]} */
  let sides = [];
  /** @type {number[]} */
  let votes = [];
  let seed = 0;
  const pair = h("div", { class: "row s-pair" }), progress = h("p", { role: "status" }), result = h("div", {});
  const root = h("div", {}, h("p", { text: "One of the two is a held-out image, the other a sample. Choose the real one." }), h("div", { class: "row" }, button("Begin", () => void begin())), progress, pair, result);

  async function begin() {
    const done = studio.busy("drawing pairs");
    seed = Math.floor(Math.random() * 1e9);
    votes = [];
    result.replaceChildren();
    try {
      await ask("compare", "quiz", { runs: runs(), seed, n: N }, {
        key: "quiz",
        onValue: async (/** @type {any} */ _, /** @type {any} */ arrays) => {
          sides = await Promise.all([canvases(arrays.left), canvases(arrays.right)]);
          next();
        },
      });
    } catch (error) {
      studio.fail(error);
    } finally {
      done();
    }
  }
  function next() {
    const i = votes.length;
    progress.textContent = i < N ? `pair ${i + 1} of ${N}` : "";
    if (i >= N) {
      pair.replaceChildren();
      return void judge();
    }
    pair.replaceChildren(...["left", "right"].map((name, k) => h("div", {}, shown(sides[k][i], name, 192, ""), button(`The ${name} one is real`, () => vote(k), k ? "→" : "←"))));
  }
  /** @param {number} k */
  function vote(k) {
    if (!sides.length || votes.length >= N) return;
    const focused = pair.contains(document.activeElement);
    votes.push(k);
    next();
    if (focused) pair.querySelectorAll("button")[k]?.focus();
  }
  async function judge() {
    try {
      const data = await ask("compare", "judge", { runs: runs(), seed, n: N, votes }, { key: "judge" });
      if (!data) return;
      const line = (/** @type {any} */ v) => h("tr", {}, h("th", { scope: "row", text: v.path || "all" }), h("td", { text: `${v.right} of ${v.n}` }), h("td", { text: v.n ? `${Math.round(100 * v.share)} % [${Math.round(100 * v.low)}, ${Math.round(100 * v.high)}]` : "–" }), h("td", { text: v.says }));
      result.replaceChildren(h("table", {}, h("caption", { text: "Told right, with the 95 % interval of a share (Wilson); guessing is 50 %" }),
        h("thead", {}, h("tr", {}, ...["run", "right", "share", "verdict"].map((t) => h("th", { scope: "col", text: t })))), h("tbody", {}, ...data.runs.map(line), line(data.all))));
      studio.say(`${data.all.right} of ${data.all.n} right: ${data.all.says}`);
    } catch (error) {
      studio.fail(error);
    }
  }
  return {
    root,
    reset() {
      sides = [];
      votes = [];
      pair.replaceChildren();
      result.replaceChildren();
      progress.textContent = "";
    },
    keys: [
      { key: "ArrowLeft", label: "the left one is real", run: () => vote(0) },
      { key: "ArrowRight", label: "the right one is real", run: () => vote(1) },
    ],
  };
}
