// @ts-check
// The wire: frames over one websocket, questions and their values, acknowledged when they are drawn.
// After a lost connection everything watched and every open question is asked again, by the same id.

/** @typedef {{data: Uint8Array|Int32Array|Float32Array, shape: number[], dtype: string, mime?: string}} Arr */
/** @typedef {Record<string, Arr>} Arrays */
/** @typedef {(data: any, arrays: Arrays, seq: number) => (void|Promise<void>)} OnValue */
/** @typedef {{id: string, key: string, frame: ArrayBuffer, onValue?: OnValue, drawn: Promise<void>, resolve: (data: any) => void, reject: (e: Error) => void}} Question */
/** @typedef {{what: string, why: string, do: string}} Failure */

export class Failed extends Error {
  /** @param {Failure} failure */
  constructor(failure) {
    super([failure.what, failure.why, failure.do].filter(Boolean).join(" "));
    this.failure = failure;
  }
}

/** @type {Record<string, any>} */
const KINDS = { u1: Uint8Array, i4: Int32Array, f4: Float32Array };

/** @param {any} header @param {Record<string, {data: ArrayBufferView, shape?: number[]}|ArrayBufferView>} [arrays] */
export function encode(header, arrays = {}) {
  /** @type {{name: string, dtype: string, shape: number[], offset: number, bytes: number}[]} */
  const entries = [];
  /** @type {Uint8Array[]} */
  const parts = [];
  let at = 0;
  for (const [name, value] of Object.entries(arrays)) {
    const data = ArrayBuffer.isView(value) ? value : value.data;
    const shape = (!ArrayBuffer.isView(value) && value.shape) || [/** @type {any} */ (data).length];
    const dtype = data instanceof Float32Array ? "f4" : data instanceof Int32Array ? "i4" : "u1";
    entries.push({ name, dtype, shape, offset: at, bytes: data.byteLength });
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    at += data.byteLength + ((8 - (data.byteLength % 8)) % 8);
  }
  let text = new TextEncoder().encode(JSON.stringify({ ...header, arrays: entries }));
  const length = text.length + ((8 - ((4 + text.length) % 8)) % 8);
  const frame = new Uint8Array(4 + length + at);
  new DataView(frame.buffer).setUint32(0, length, true);
  frame.fill(32, 4, 4 + length);
  frame.set(text, 4);
  parts.forEach((part, i) => frame.set(part, 4 + length + entries[i].offset));
  return frame.buffer;
}

/** @param {ArrayBuffer} frame @returns {{header: any, arrays: Arrays}} */
export function decode(frame) {
  const length = new DataView(frame).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(frame, 4, length)));
  /** @type {Arrays} */
  const arrays = {};
  for (const { name, dtype, shape, offset, bytes, mime } of header.arrays || []) {
    const Kind = KINDS[dtype];
    arrays[name] = { data: new Kind(frame, 4 + length + offset, bytes / Kind.BYTES_PER_ELEMENT), shape, dtype, mime };
  }
  return { header, arrays };
}

export class Wire {
  /** @param {string} address @param {(connected: boolean) => void} onState */
  constructor(address, onState) {
    this.address = address;
    this.onState = onState;
    /** frames drawn, acknowledgements, last seq and bytes received: for tests */
    this.stats = { frames: 0, acks: 0, seq: 0, bytes: 0, connections: 0 };
    /** @type {Map<string, Question>} */ this.questions = new Map();
    /** @type {Map<string, Set<OnValue>>} */ this.watchers = new Map();
    /** @type {Map<string, ((value: any) => void)[]>} */ this.recalls = new Map();
    /** @type {Set<string>} */ this.held = new Set();
    this.number = 0;
    this.tab = Array.from(crypto.getRandomValues(new Uint32Array(2)), (n) => n.toString(36)).join("");
    this.wait = 100;
    /** @type {WebSocket|null} */ this.socket = null;
    /** @type {any[]} */ this.unsent = [];
    this.connect();
  }

  connect() {
    const socket = new WebSocket(this.address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = 100;
      this.stats.connections += 1;
      this.socket = socket;
      this.held.clear();
      for (const key of this.watchers.keys()) this.hold(key);
      for (const { key, frame } of this.questions.values()) (this.held.add(key), socket.send(frame));
      for (const header of this.unsent.splice(0)) this.send(header);  // what is to be kept before what is recalled
      for (const key of this.recalls.keys()) this.send({ type: "recall", key });
      this.onState(true);
    };
    socket.onmessage = (event) => void this.take(event.data);
    socket.onclose = () => {
      this.socket = null;
      this.onState(false);
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(2 * this.wait, 3000);
    };
  }

  /** @param {any} header */
  send(header) {
    if (this.open) this.socket?.send(encode(header));
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** What must not be lost: sent as soon as there is a connection again. @param {any} header */
  surely(header) {
    if (this.open) this.send(header);
    else this.unsent.push(header);
  }

  /** @param {ArrayBuffer} frame */
  async take(frame) {
    this.stats.bytes += frame.byteLength;
    const { header, arrays } = decode(frame);
    if (header.type === "value") await this.value(header, arrays);
    else if (header.type === "recalled") {
      for (const resolve of this.recalls.get(header.key) || []) resolve(header.value);
      this.recalls.delete(header.key);
    } else if (header.type === "done" || header.type === "error") {
      await this.questions.get(header.id)?.drawn;  // an answer has ended when its last value is on the page
      this.end(header);
    }
  }

  /** @param {any} header @param {Arrays} arrays */
  async value(header, arrays) {
    const handlers = [...(this.watchers.get(header.key) || [])];
    const question = this.questions.get(header.id);
    if (question && question.onValue) handlers.push(question.onValue);
    const drawing = this.draw(handlers, header, arrays);
    if (question) question.drawn = drawing;
    await drawing;
    this.stats.frames += 1;
    this.stats.seq = header.seq;
    this.stats.acks += 1;
    this.send({ type: "ack", key: header.key, seq: header.seq });
  }

  /** @param {OnValue[]} handlers @param {any} header @param {Arrays} arrays */
  async draw(handlers, header, arrays) {
    for (const handler of handlers) {
      try {
        await handler(header.data, arrays, header.seq);
      } catch (error) {
        console.error(error);
      }
    }
  }

  /** @param {any} header */
  end(header) {
    const question = this.questions.get(header.id);
    if (!question) {
      if (header.type === "error" && !header.id) console.warn(header.what);
      return;
    }
    this.questions.delete(header.id);
    this.release(question.key);
    if (header.type === "error") question.reject(new Failed(header));
    else question.resolve(header.data);
  }

  /** The data of the answer's end; null where another question or a stop has taken its place.
   * @param {string} screen @param {string} method @param {any} args
   * @param {{key?: string, arrays?: Record<string, any>, onValue?: OnValue}} [how] @returns {Promise<any>} */
  ask(screen, method, args, { key = `${screen}:${method}`, arrays, onValue } = {}) {
    const id = `${this.tab}-${(this.number += 1)}`;
    const frame = encode({ type: "ask", id, key, screen, method, args }, arrays);
    return new Promise((resolve, reject) => {
      this.questions.set(id, { id, key, frame, onValue, drawn: Promise.resolve(), resolve, reject });
      this.held.add(key);
      if (this.open) this.socket?.send(frame);
    });
  }

  /** @param {string} key */
  stop(key) {
    this.surely({ type: "stop", key });
  }

  /** @param {string} key @param {OnValue} fn @returns {() => void} */
  watch(key, fn) {
    const there = this.watchers.get(key) || new Set();
    this.watchers.set(key, there.add(fn));
    this.hold(key);
    return () => {
      there.delete(fn);
      if (!there.size) this.watchers.delete(key);
      this.release(key);
    };
  }

  /** @param {string} key */
  hold(key) {
    this.held.add(key);
    this.send({ type: "watch", key });
  }

  /** @param {string} key */
  release(key) {
    const asked = [...this.questions.values()].some((q) => q.key === key);
    if (!asked && !this.watchers.has(key) && this.held.delete(key)) this.send({ type: "unwatch", key });
  }

  /** @param {string} key @param {any} value JSON of at most 64 kB; null forgets */
  keep(key, value) {
    this.surely({ type: "keep", key, value });
  }

  /** @param {string} key @returns {Promise<any>} null where nothing is kept */
  recall(key) {
    return new Promise((resolve) => {
      const waiting = this.recalls.get(key) || [];
      this.recalls.set(key, [...waiting, resolve]);
      this.send({ type: "recall", key });
    });
  }
}
