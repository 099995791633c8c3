// @ts-check
// What the shell knows of Paint before it is opened; the rest comes then.

const ABLE = ["decode", "denoise", "complete", "surprise", "predictive"];

/** @type {import("../../app.js").Known} */
export default {
  id: "paint",
  title: "Paint",
  group: "Make",
  key: "i",
  needsRun: true,
  accepts: (run) => !run.spec?.points && run.answers.some((a) => ABLE.includes(a)),
  load: () => import("../paint.js"),
};
