// @ts-check
// What the shell knows of Playground before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "playground",
  title: "Playground",
  group: "Watch",
  key: "p",
  needsRun: false,
  accepts: () => false,
  load: () => import("../playground.js"),
};
