// @ts-check
// What the shell knows of Words before it is opened; the rest comes then.

const FACTS = ["run", "model", "seen", "weights", "texts", "negative", "seed", "n", "grid", "upscale", "unknown", "label", "label_number", "class"];
const LEARNT = ["text", "strengths", "kept", "embedding_steps", "tuning_steps", "embedding_rate", "tuning_rate"];

/** @type {import("../../app.js").Known} */
export default {
  id: "words",
  title: "Words",
  group: "Make",
  key: "w",
  needsRun: true,
  accepts: (run) => run.spec?.vocabulary > 0 && !(run.spec.source?.[0] > 0) && run.answers.includes("sample"),
  open: reopened,
  load: () => import("../words.js"),
};

/** The choices of the screen that made a picture, from its recipe; null where another did. @param {any} recipe */
export function reopened(recipe) {
  const live = Object.fromEntries(Object.entries(recipe).filter(([k, v]) => !FACTS.includes(k) && !LEARNT.includes(k) && ["number", "string", "boolean"].includes(typeof v)));
  if (Array.isArray(recipe.strengths) && typeof recipe.text === "string")
    return { tab: "edit", text: recipe.text, seed: recipe.seed ?? 0, strength: recipe.strengths[0], embedding: recipe.embedding_steps, tuning: recipe.tuning_steps };
  if (!Array.isArray(recipe.texts) || recipe.texts.length !== 1 || recipe.upscale) return null;
  const grid = Object.entries(recipe.grid ?? {}).map(([name, values]) => `${name}=${/** @type {any[]} */ (values).join(",")}`);
  return { tab: "draw", text: recipe.texts[0], negative: recipe.negative ?? "", seed: recipe.seed, n: recipe.n, label: recipe.class ?? recipe.label ?? "", live, grid };
}
