// @ts-check
// Choices of the page alone, in location.hash: #samples&run=vae-digits&seed=3&tab=Plane
// Types survive: numbers, booleans and lists come back as what they were (JSON, where a text would be read otherwise).

/** @param {any} value */
export function write(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  try {
    JSON.parse(value);
    return JSON.stringify(value);
  } catch {
    return value;
  }
}

/** @param {string} text */
export function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {string} text what somebody typed into the address may be no code of anything */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export class Hash {
  /** @param {Location} place @param {History} history */
  constructor(place = location, history = window.history) {
    this.place = place;
    this.history = history;
  }

  parts() {
    const [screen, ...rest] = this.place.hash.slice(1).split("&");
    const pairs = rest.filter((p) => p.includes("=")).map((p) => {
      const at = p.indexOf("=");
      return /** @type {[string, string]} */ ([decoded(p.slice(0, at)), decoded(p.slice(at + 1))]);
    });
    return { screen: decoded(screen || ""), values: new Map(pairs) };
  }

  get screen() {
    return this.parts().screen;
  }

  /** The value of that name if it is of the type of the fallback, else the fallback.
   * @template T @param {string} name @param {T} fallback @returns {T} */
  get(name, fallback) {
    const text = this.parts().values.get(name);
    if (text === undefined) return fallback;
    const value = read(text);
    const same = fallback === null || fallback === undefined
      || (typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback));
    return same ? value : fallback;
  }

  /** @param {Record<string, any>} changes undefined and null forget a name @param {string} [screen] */
  set(changes, screen) {
    const { screen: now, values } = this.parts();
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined || value === null) values.delete(name);
      else values.set(name, write(value));
    }
    const text = [...values].map(([n, v]) => `${encodeURIComponent(n)}=${encodeURIComponent(v)}`);
    this.history.replaceState(null, "", `#${[encodeURIComponent(screen ?? now), ...text].join("&")}`);
  }
}
