// @ts-check
// A grid over one or two options: which, and their values.
import { h } from "../widgets/dom.js";
import { select } from "../samples/common.js";

/** @param {import("./prompt.js").Context} ctx @param {() => void} changed */
export function axes(ctx, changed) {
  const { studio, info } = ctx, names = info.options.map((/** @type {any} */ o) => o.name);
  const rows = ["rows", "columns"].map((which) => {
    const values = h("input", { type: "text", placeholder: "1,2,4", maxlength: 200, class: "t-values", "aria-label": `values of the ${which}`, onchange: () => told() });
    const option = select(which, [["", "none"], ...names.map((/** @type {string} */ n) => /** @type {[string, string]} */ ([n, n.replaceAll("_", " ")]))], "", () => told());
    option.input.setAttribute("aria-label", which);
    return { option, values, root: h("div", { class: "row" }, option.root, values) };
  });
  function told() {
    studio.hash.set({ grid: value() });
    changed();
  }
  /** As `--grid` takes it. @returns {string[]} */
  function value() {
    const out = rows.filter((r) => r.option.input.value && r.values.value.trim()).map((r) => `${r.option.input.value}=${r.values.value.replace(/\s+/g, "")}`);
    return [...new Set(out)];
  }
  /** @param {string[]} grid */
  function set(grid) {
    rows.forEach((row, i) => {
      const [name, values] = (grid[i] ?? "").split("=");
      row.option.input.value = names.includes(name) ? name : "";
      row.values.value = row.option.input.value ? values ?? "" : "";
    });
    studio.hash.set({ grid: value() });
  }
  set(studio.hash.get("grid", /** @type {string[]} */ ([])));
  return { value, set, root: h("fieldset", {}, h("legend", { text: "grid over one or two options: the same text and noise for each of their values" }), ...rows.map((r) => r.root)) };
}
