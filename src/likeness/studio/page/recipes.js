// @ts-check
// Which screen shows what a picture of the command line shows. Recipes of a picture that somebody drops are hostile:
// what is no recipe of ours comes back to the run alone.

/** @typedef {{screen: string, hash: Record<string, any>}} Place */

const TABS = /** @type {Record<string, string>} */ ({ random: "grid", interpolation: "path", traversal: "slide", plane: "plane", arithmetic: "sum" });
const NOISE = ["forward", "reverse", "schedule", "rate", "distortion"];

/** The screens in order of preference, with the choices that each takes from its address: of `latent`, `diffusion`, `field`,
 * `complete`, `edit`, `reconstruct`, `score` and `paint`. What `sample` and `walk` made the screen Samples itself reads.
 * @param {any} recipe @returns {Place[]} */
export function places(recipe) {
  const seed = Number.isInteger(recipe.seed) && recipe.seed >= 0 ? recipe.seed : 0;
  const pixels = (/** @type {any} */ more = {}) => ({ screen: "pixels", hash: { plan: { seed }, ...more } });
  const diffusion = { screen: "diffusion", hash: { plan: { seed, number: 0 } } };
  const samples = (/** @type {string} */ tab) => ({ screen: "samples", hash: { tab, seed } });
  const { picture } = recipe;
  if (Array.isArray(recipe.strokes) && typeof recipe.family === "string") return [painting(recipe)];
  if (typeof picture === "string" && Array.isArray(recipe.runs)) {
    if (picture === "field") return [pixels({ shown: "field" })];
    if (NOISE.includes(picture)) return [diffusion];
    return Object.hasOwn(TABS, picture) ? [samples(TABS[picture])] : [];
  }
  if (picture !== undefined || "first" in recipe || "texts" in recipe || "text" in recipe || "weights_sha256" in recipe) return [];
  if ("draws" in recipe) return "known" in recipe ? [pixels(), diffusion, samples("grid")] : [diffusion, pixels(), samples("grid")];
  if ("steps" in recipe) return [samples("sum"), diffusion];  // photos and what their codes give back
  return "seed" in recipe && "n" in recipe ? [pixels({ shown: "surprise" }), samples("grid")] : [];
}

/** Strokes, and the image they are on, of a picture of `likeness paint`. @param {any} recipe @returns {Place} */
function painting({ strokes, seed, weight, image }) {
  const file = typeof image === "string" ? image.split(/[\\/]/).pop() : "";
  return { screen: "paint", hash: { put: { strokes, seed, weight, start: file ? { kind: "file", file } : { kind: "none" } } } };
}
