// @ts-check
// What the shell knows of Samples before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "samples",
  title: "Samples",
  group: "Watch",
  key: "s",
  needsRun: true,
  accepts: (run) => run.answers.includes("sample") || run.answers.includes("decode"),
  open: reopened,
  load: () => import("../samples.js"),
};

/** The choices of the screen that made a picture, from its recipe; null where another did. @param {any} recipe */
export function reopened(recipe) {
  const kind = /^walk (\w+)$/.exec(recipe.picture ?? "")?.[1];
  if (!kind) return recipe.picture === undefined && !("texts" in recipe) && "seed" in recipe && ("first" in recipe || "n" in recipe) ? { tab: "grid", seed: recipe.seed, n: recipe.n, label: recipe.label ?? "" } : null;
  const shared = { tab: kind === "images" ? "grid" : kind, seed: recipe.seed, label: recipe.label ?? "" };
  if (kind === "plane") return { ...shared, x: recipe.at[0], y: recipe.at[1], step: recipe.step, side: recipe.n };
  if (kind === "slide") return { ...shared, base: recipe.codes[0] ?? "0", along: recipe.along };
  if (kind === "path") return { ...shared, way: recipe.way, loop: recipe.loop, frames: recipe.n, put: { stops: recipe.codes } };
  if (kind === "sum") return { ...shared, strength: recipe.strength, put: { a: recipe.codes, b: recipe.less, c: recipe.plus } };
  return shared;
}
