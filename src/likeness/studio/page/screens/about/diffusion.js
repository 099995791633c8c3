// @ts-check
// What the shell knows of Diffusion before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "diffusion",
  title: "Diffusion",
  group: "Watch",
  key: "d",
  needsRun: true,
  accepts: (run) => run.answers.includes("denoise") && (run.spec.size ?? 0) > 1,
  load: () => import("../diffusion.js"),
};
