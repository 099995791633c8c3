// @ts-check
// What the shell knows of Translate before it is opened; the rest comes then.

export const able = (/** @type {any} */ run) => run.answers.includes("translate");
export const STYLE = { arbitrary: "", strength: 1, size: 256, colour: "style", content_weight: 0.03, strokes: 1, steps: 60, network: "vgg16", weights: "", seed: 0 };

/** @type {import("../../app.js").Known} */
export default {
  id: "translate",
  title: "Translate",
  group: "Make",
  key: "t",
  needsRun: false,
  accepts: able,
  open: reopened,
  load: () => import("../translate.js"),
};

/** What the screen is to show of a picture that it or a command made; null where another did. @param {any} recipe */
export function reopened(recipe) {
  const at = (/** @type {any} */ path) => /(?:^|[\s/])out\/((?:translate|style|sheet)-\d+)(?=[\s/]|$)/.exec(String(path ?? ""))?.[1] ?? "";
  if ("digest" in recipe && "photo" in recipe && "run" in recipe)
    return { tab: "translate", order: at(recipe.command), photo: recipe.photo, asked: { back: Boolean(recipe.back), size: recipe.size ?? 0, seed: recipe.seed ?? 0 } };
  if (!("content" in recipe) || !Array.isArray(recipe.style)) return null;
  const known = Object.fromEntries(Object.keys(STYLE).filter((k) => k !== "weights" && recipe[k] !== undefined && recipe[k] !== null).map((k) => [k, recipe[k]]));
  if (/random/.test(String(recipe.source)) || recipe.weights === "") known.weights = "none";
  return { tab: "style", order: at(recipe.content), photo: String(recipe.content).split("/").at(-1), style: known };
}
