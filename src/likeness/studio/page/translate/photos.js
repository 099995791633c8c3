// @ts-check
// Photos that are brought: a file input, a place to drop them, and a strip of what will be sent.
import { h, unique } from "../widgets/dom.js";
import { canvases } from "../samples/common.js";

/** @typedef {{photo: string, name: string}} Brought */
/** @typedef {{studio: import("../app.js").Studio, ask: (method: string, args: any, how?: any) => Promise<any>}} Context */

/**
 * @param {Context} ctx
 * @param {{label: string, most: number, place: string, chosen: Brought[], onChange: (all: Brought[]) => void}} how  place: under which it is kept
 */
export function photos(ctx, how) {
  const id = unique("t-file");
  /** @type {Brought[]} */
  let all = [];
  /** @type {Map<string, HTMLCanvasElement>} */
  const images = new Map();
  const strip = h("div", { class: "t-strip" }), says = h("p", { class: "small muted", role: "status" });
  const input = h("input", { type: "file", id, accept: "image/*", multiple: true, onchange: () => void bring([...(input.files ?? [])]) });
  const root = h("section", { class: "t-drop", "aria-label": how.label }, h("p", { class: "row" }, h("label", { for: id, text: `${how.label} (or drop them here)` }), input), strip, says);
  root.addEventListener("dragover", (e) => {
    e.preventDefault();
    root.classList.add("s-over");
  });
  root.addEventListener("dragleave", () => root.classList.remove("s-over"));
  root.addEventListener("drop", (e) => {
    root.classList.remove("s-over");
    if (!e.dataTransfer?.files.length) return;
    e.preventDefault();
    e.stopPropagation();
    document.body.classList.remove("dropping");
    void bring([...e.dataTransfer.files]);
  });

  /** @param {File[]} files */
  async function bring(files) {
    const done = ctx.studio.busy("reading photos");
    try {
      for (const [i, file] of files.slice(0, how.most - all.length).entries()) {
        says.textContent = `reading ${i + 1} of ${files.length}: ${file.name}`;
        if (file.size > 32 * 2 ** 20) throw new RangeError(`${file.name} is larger than 32 MB; make it smaller first.`);
        const bytes = new Uint8Array(await file.arrayBuffer());
        await ctx.ask("bring", { name: file.name.slice(-200).replace(/[\x00-\x1f\x7f]/g, "_") }, {
          key: how.place, arrays: { file: bytes },
          onValue: async (/** @type {any} */ data, /** @type {any} */ arrays) => {
            images.set(data.photo, (await canvases(arrays.thumb))[0]);
            all.push({ photo: data.photo, name: data.name });
            if (data.notes.length) ctx.studio.say(`${data.name}: ${data.notes.join("; ")}`);
          },
        });
      }
    } catch (error) {
      ctx.studio.fail(error);
    } finally {
      done();
      input.value = "";
      changed();
    }
  }
  function changed() {
    show();
    how.onChange(all);
  }
  function show() {
    says.textContent = all.length ? `${all.length} of at most ${how.most}; a click takes one off` : "";
    strip.replaceChildren(...all.map((one, i) => {
      const canvas = h("canvas", { "aria-hidden": "true", width: 72, height: 72 }), image = images.get(one.photo);
      if (image) canvas.getContext("2d")?.drawImage(image, 0, 0);
      return h("button", { type: "button", "aria-label": `take off ${one.name}`, title: one.name, onclick: () => (all.splice(i, 1), changed()) }, canvas);
    }));
  }
  return {
    root, input,
    get all() { return all; },
    /** @param {Brought[]} to */
    set(to) {
      all = to;
      show();
    },
  };
}
