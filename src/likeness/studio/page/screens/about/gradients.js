// @ts-check
// What the shell knows of Gradients before it is opened; the rest comes then.

export const KINDS = /** @type {const} */ ([["saliency", "Saliency"], ["class", "Class image"], ["dream", "DeepDream"], ["fool", "Fool"]]);

/** @type {import("../../app.js").Known} */
export default {
  id: "gradients", title: "Gradients", group: "Look", key: "e", needsRun: false, accepts: () => true, open: reopened,
  load: () => import("../gradients.js"),
};

/** The choices that made a picture of `likeness look`; null where another verb did. @param {any} recipe */
export function reopened(recipe) {
  if (!KINDS.some(([id]) => id === recipe.look)) return null;
  const own = /own\/[0-9a-f]{16}\.\w+$/.exec(recipe.image ?? "")?.[0] ?? "";
  const of = recipe.of ?? recipe.aim;
  const { layer, steps, samples, budget, octaves, seed, size } = recipe;
  const set = Object.fromEntries(Object.entries({ layer, steps, samples, budget, octaves, seed, size, of: of === undefined ? undefined : String(of), ...recipe.rules }).filter(([, v]) => v !== undefined && v !== null));
  return { tab: recipe.look, net: recipe.network, random: String(recipe.source).startsWith("random"), image: own, pick: recipe.pick ?? 0, set };
}
