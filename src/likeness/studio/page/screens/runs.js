// @ts-check
// Runs: the table of what is there, and what each has come to.

/** @type {import("../app.js").Screen} */
export default {
  id: "runs",
  title: "Runs",
  group: "Watch",
  key: "r",
  needsRun: false,
  accepts: () => true,
  mount(root) {
    const head = document.createElement("h1");
    head.textContent = "Runs";
    root.append(head);
    return () => root.replaceChildren();
  },
};
