// @ts-check
// What the shell knows of Map before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "map",
  title: "Map",
  group: "Look",
  key: "m",
  needsRun: false,
  accepts: () => true,
  open: reopened,
  load: () => import("../map.js"),
};

/** The map that a picture of `likeness map` shows, by its settings. @param {any} recipe */
export function reopened(recipe) {
  if (recipe.picture !== "map") return null;
  const settings = Object.fromEntries(["data", "features", "method", "perplexity", "seed"].filter((k) => k in recipe).map((k) => [k, recipe[k]]));
  return { map: null, wanted: settings };
}
