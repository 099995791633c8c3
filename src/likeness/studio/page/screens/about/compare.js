// @ts-check
// What the shell knows of Compare before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "compare",
  title: "Compare",
  group: "Look",
  key: "c",
  needsRun: false,
  accepts: (run) => run.kind === "model",
  load: () => import("../compare.js"),
};
