// @ts-check
// What the shell knows of Pixel by pixel before it is opened; the rest comes then.

/** @type {import("../../app.js").Known} */
export default {
  id: "pixels",
  title: "Pixel by pixel",
  group: "Watch",
  key: "x",
  needsRun: true,
  accepts: (run) => run.answers.includes("predictive"),
  load: () => import("../pixels.js"),
};
