// @ts-check
// One run: what it has come to, its film, its curves, what the doctor has noted, and what can be done with it.

import { make } from "../app.js";
import { chart } from "../widgets/chart.js";
import { film } from "../widgets/film.js";
import { short } from "../widgets/numbers.js";
import { slider } from "../widgets/slider.js";

/** @typedef {{at: number[], low: (number|null)[], high: (number|null)[], mean: (number|null)[]}} Curve */

/** milliseconds between two looks at a run in training */
const EVERY = 3000;
const ALIVE = ["training", "starting"];

/** @param {string} url */
async function picture(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return createImageBitmap(await answer.blob());
}

/** Two points a bucket where it has two: no peak is lost. @param {string} name @param {Curve} curve */
function line(name, curve) {
  /** @type {number[]} */ const x = [];
  /** @type {number[]} */ const y = [];
  curve.at.forEach((at, i) => {
    const low = curve.low[i], high = curve.high[i];
    if (low === null || high === null) return;
    x.push(at);
    y.push(low);
    if (high !== low) x.push(at), y.push(high);
  });
  return { name, x, y };
}

/** @param {number|null|undefined} n @param {string} unit */
const counted = (n, unit) => (typeof n === "number" ? `${Math.round(n).toLocaleString("en")} ${unit}` : "");

export class Details {
  /** @param {import("../app.js").Studio} studio @param {string} path
   * @param {{onScrub: (seen: number, from: Details) => void, onFork: (path: string, changes: Record<string, any>, fork: boolean) => void}} on */
  constructor(studio, path, on) {
    this.studio = studio;
    this.path = path;
    this.on = on;
    this.gone = false;
    this.asked = 0;
    /** @type {any} */ this.data = null;
    /** @type {Map<string, boolean>} whether a fork can take a remedy */ this.fits = new Map();
    /** @type {import("../app.js").Run|null} */ this.row = null;
    this.head = make("div", {});
    this.film = film({
      label: `samples of ${path}`,
      load: (i) => picture(this.data.samples[i].url),
      caption: (i) => (this.data?.samples[i] ? `${this.data.samples[i].seen.toLocaleString("en")} images` : ""),
      onFrame: (i) => {  // of a film that somebody moves; the other one follows, and is not followed
        if (this.film.root.contains(document.activeElement)) this.on.onScrub(this.data.samples[i].seen, this);
      },
      perSecond: 4,
    });
    const sort = (/** @type {string} */ label, height = 180, controls = true) => chart({ label, xName: "images seen", height, controls, smoothing: 0 });
    this.charts = { losses: sort("losses", 220), gradients: sort("norms of gradients"), speed: sort("images a second", 110, false), memory: sort("memory, MB", 110, false) };
    this.agent = make("img", { alt: `film of ${path}`, className: "pixels", hidden: true });
    this.notes = make("div", {});
    this.scores = make("div", {});
    this.left = make("div", {}, this.charts.losses.root, this.charts.gradients.root, this.charts.speed.root, this.charts.memory.root);
    this.right = make("div", {}, this.agent, this.film.root, this.notes, this.scores);
    this.root = make("section", { className: "panel" }, this.head, make("div", { className: "columns" }, this.right, this.left));
    this.root.setAttribute("aria-label", `run ${path}`);
  }

  /** @param {import("../app.js").Run} row as the table has it now */
  async update(row) {
    if (this.row && JSON.stringify(row) === JSON.stringify(this.row)) return;
    const same = this.row && row.state === this.row.state && row.answers.length === this.row.answers.length;
    if (same && Date.now() - this.asked < EVERY) return;  // the table changes again
    this.row = row;
    this.asked = Date.now();
    try {
      this.data = await this.studio.ask("runs", "details", { path: this.path }, { key: `details:${this.path}` });
    } catch (error) {
      if (!this.gone) this.studio.fail(error);
      return;
    }
    if (this.gone || !this.data) return;
    this.draw();
  }

  draw() {
    const { data, row } = this;
    if (!row) return;
    this.heading(row);
    this.film.root.hidden = !data.samples.length;
    if (data.samples.length) {
      this.film.set(data.samples.length);
      const wanted = this.studio.hash.get("step", -1);
      if (!this.placed && wanted >= 0) this.scrub(wanted);
      this.placed = true;
    }
    this.agent.hidden = !data.film;
    if (data.film && this.agent.getAttribute("src") !== data.film) this.agent.src = data.film;
    /** @type {[string, Curve][]} */
    const all = Object.entries(data.curves);
    const of = (/** @type {(name: string) => boolean} */ fits) => all.filter(([name]) => fits(name)).map(([name, c]) => line(name, c));
    const own = ["images/s", "memory, MB"];
    const sets = {
      losses: of((n) => !n.endsWith("gradient") && !own.includes(n)),
      gradients: of((n) => n.endsWith("gradient")),
      speed: of((n) => n === "images/s"),
      memory: of((n) => n === "memory, MB"),
    };
    for (const [name, lines] of Object.entries(sets)) {
      const one = this.charts[/** @type {keyof typeof sets} */ (name)];
      one.root.hidden = !lines.length;
      if (lines.length) one.set(lines);
    }
    this.findings(data.findings);
    this.cards(data.scores);
    this.studio.status({ command: data.command });
  }

  /** @param {any} row */
  heading(row) {
    const facts = [row.model, row.data, `${counted(row.seen, "images seen")} of ${row.images.toLocaleString("en")}`,
      row.rate ? `${short(row.rate)} images/s` : "", row.memory ? `${short(row.memory)} MB` : "", row.state];
    const job = this.studio.jobs.find((j) => j.id === row.job);
    const title = make("h2", { textContent: row.path });
    const says = make("p", { className: "muted small", textContent: facts.filter(Boolean).join(" · ") });
    const origin = this.data.fork.run ? make("p", { className: "caption", textContent: `fork of ${this.data.fork.run} at image ${this.data.fork.seen.toLocaleString("en")}` }) : "";
    this.head.replaceChildren(title, says, origin, this.buttons(row, job));
    if (job && ALIVE.includes(job.state)) this.head.append(this.priority(job));
    if (job && job.state === "failed") this.head.append(this.died(job));
    if (row.state === "training" && !job) this.head.append(make("p", { className: "caption", textContent: "Trained by another process; it is stopped where it was started." }));
  }

  /** @param {any} row @param {any} job */
  buttons(row, job) {
    const row_ = make("p", { className: "row" });
    const add = (/** @type {string} */ text, /** @type {() => any} */ act) => row_.append(make("button", { type: "button", textContent: text, onclick: () => act() }));
    const ask = async (/** @type {string} */ method, /** @type {any} */ args) => {
      try {
        const done = await this.studio.ask("runs", method, args, { key: `job:${this.path}` });
        if (done?.command) this.studio.status({ command: done.command });
      } catch (error) {
        this.studio.fail(error);
      }
    };
    if (job && ALIVE.includes(job.state)) {
      add("Pause", () => ask("pause", { job: job.id }));
      add("Stop", () => ask("pause", { job: job.id, state: "stopped" }));
    } else if (row.kind === "model" && row.state !== "training") {
      if (job && job.state !== "done") add("Resume", () => ask("again", { job: job.id }));
      else {
        const goal = row.seen < row.images ? row.images : 2 * row.seen;
        add(`Train on to ${goal.toLocaleString("en")} images`, () => ask("resume", { path: row.path, images: goal }));
      }
    }
    if (row.kind === "model") {
      add("Fork …", () => this.on.onFork(row.path, {}, true));
      add("Like this …", () => this.on.onFork(row.path, {}, false));
    }
    if (row.report) row_.append(make("a", { href: `/files/${row.path.split("/").map(encodeURIComponent).join("/")}/report.html`, target: "_blank", rel: "noopener", textContent: "Report" }));
    return row_;
  }

  /** @param {any} job */
  priority(job) {
    const one = slider({
      label: "training first ⇄ page first", min: 0, max: 19, step: 1, value: job.nice,
      show: (v) => `nice ${v}`,
      help: "how much of a busy processor the training leaves to the page",
      onChange: async (level) => {
        try {
          const done = await this.studio.ask("runs", "nice", { job: job.id, level }, { key: `nice:${job.id}` });
          if (done && !done.now) this.studio.say("the system lets it only give way further; this holds from the next start on: pause, then resume");
          this.studio.status({ command: `renice -n ${level} -p ${job.pid ?? ""}` });
        } catch (error) {
          this.studio.fail(error);
        }
      },
    });
    return one.root;
  }

  /** @param {any} job */
  died(job) {
    const why = job.code === null || job.code === undefined ? "Nobody could write down how." : job.code < 0 ? `It was killed by signal ${-job.code}.` : `Exit status ${job.code}.`;
    const box = make("div", { className: "failed", role: "alert" }, make("p", {}, make("strong", { textContent: "This training has ended before its time." })), make("p", { textContent: `${why} What it had saved is intact: Resume goes on from there.` }));
    const text = make("pre", { textContent: job.lines.join("\n"), tabIndex: 0 });
    text.setAttribute("role", "region");
    text.setAttribute("aria-label", "its last lines");
    if (job.lines.length) box.append(text);
    return box;
  }

  /** @param {any[]} list */
  findings(list) {
    this.notes.replaceChildren(make("h3", { textContent: "Doctor" }));
    if (!list.length) this.notes.append(make("p", { className: "muted small", textContent: "Nothing was noted." }));
    for (const one of list) {
      const span = one.until === null ? `since image ${short(one.since)}` : `from image ${short(one.since)} to ${short(one.until)}, over now`;
      const box = make("div", { className: "finding" }, make("p", { className: one.until === null ? "warn" : "muted", textContent: `${one.text} (${span})` }));
      for (const remedy of one.until === null ? one.remedies : []) {
        const changes = parsed(remedy), forked = make("button", { type: "button", textContent: "Fork with it", hidden: !this.fits.get(remedy), onclick: () => this.on.onFork(this.path, changes, true) });
        forked.dataset.remedy = remedy;
        box.append(make("p", { className: "row" },
          make("button", { type: "button", textContent: `Train anew with ${remedy}`, onclick: () => this.on.onFork(this.path, changes, false) }), forked));
      }
      this.notes.append(box);
    }
    void this.forks(list.filter((one) => one.until === null).flatMap((one) => one.remedies).filter((remedy) => !this.fits.has(remedy)));
  }

  /** A remedy that changes the shape of a net is none for a fork: its button is there once the model says that it fits.
   * @param {string[]} remedies not asked yet */
  async forks(remedies) {
    if (!remedies.length) return;
    for (const remedy of remedies) this.fits.set(remedy, false);
    try {
      const answer = await this.studio.ask("forks", "fits", { run: this.path, remedies: remedies.map(parsed) }, { key: `fits:${this.path}:${Math.random().toString(36).slice(2, 10)}` });
      answer?.fits.forEach((/** @type {boolean} */ fits, /** @type {number} */ i) => this.fits.set(remedies[i], fits));
    } catch {
      for (const remedy of remedies) this.fits.delete(remedy);  // asked again when the table changes
    }
    for (const one of this.notes.querySelectorAll("[data-remedy]")) /** @type {HTMLElement} */ (one).hidden = !this.fits.get(/** @type {HTMLElement} */ (one).dataset.remedy ?? "");
  }

  /** @param {any[]} cards */
  cards(cards) {
    this.scores.replaceChildren();
    if (!cards.length) return;
    const rows = cards.slice(0, 40).map((c) => make("tr", {}, make("th", { scope: "row", textContent: String(c.name ?? "") }),
      make("td", { className: "number", textContent: typeof c.value === "number" ? short(c.value) : String(c.value ?? "") }),
      make("td", { textContent: Array.isArray(c.warnings) ? c.warnings.join(" ") : "" })));
    const heads = make("thead", {}, make("tr", {}, ...["score", "value", "note"].map((t) => make("th", { scope: "col", textContent: t }))));
    const table = make("div", { className: "scroll", tabIndex: 0, role: "region" }, make("table", {}, heads, make("tbody", {}, ...rows)));
    table.setAttribute("aria-label", "scores");
    this.scores.append(make("h3", { textContent: "Scores" }), table);
  }

  /** Show the frame nearest to so many images seen. @param {number} seen */
  scrub(seen) {
    const all = this.data?.samples ?? [];
    if (!all.length) return;
    let best = 0;
    for (let i = 0; i < all.length; i++) if (Math.abs(all[i].seen - seen) < Math.abs(all[best].seen - seen)) best = i;
    if (best !== this.film.at) this.film.go(best);
  }

  close() {
    this.gone = true;
    this.film.stop();
    this.studio.stop(`details:${this.path}`);
  }
}

/** "--r1 10 --game hinge --spectral" as the values that it sets. @param {string} remedy @returns {Record<string, any>} */
export function parsed(remedy) {
  const words = remedy.split(/\s+/);
  /** @type {Record<string, any>} */
  const out = {};
  for (let i = 0; i < words.length; i += 1) {
    const flag = words[i].replace(/^--/, ""), bare = i + 1 >= words.length || words[i + 1].startsWith("--");
    const name = (bare ? flag.replace(/^no-/, "") : flag).replaceAll("-", "_");
    const value = bare ? (flag.startsWith("no-") ? "False" : "True") : words[(i += 1)];
    out[name] = Number.isFinite(Number(value)) ? Number(value) : value === "True" ? true : value === "False" ? false : value;
  }
  return out;
}
