"use strict";
// The map of map_page.py: drawn on one canvas, from one picture that holds all images.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const canvas = by("map"), pen = canvas.getContext("2d"), tip = by("tip"), find = by("find"), what = by("what"), size = by("size");
const sheet = by("sheet"), dark = matchMedia("(prefers-color-scheme: dark)");
const X = data.x, Y = data.y, N = X.length;
const view = { x: 0.5, y: 0.5, zoom: 1 };  // the place in the middle, and the enlargement of a map of side 1
let wide = 0, high = 0, hovered = -1, only = -1, shown = new Uint8Array(N).fill(1), colours = [], waiting = false;

const group = () => data.groups[what.selectedIndex] || { of: null, names: [] };
const scale = () => Math.min(wide, high) * 0.94 * view.zoom;
const across = (x) => wide / 2 + (x - view.x) * scale();
const down = (y) => high / 2 + (y - view.y) * scale();

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function lighter(hex) {  // dark paper asks for brighter ink
  const part = (i) => Math.round(parseInt(hex.slice(i, i + 2), 16) * 0.62 + 255 * 0.38);
  return `rgb(${part(1)},${part(3)},${part(5)})`;
}

function ink(g) {
  const hex = g < 0 ? data.none : data.colours[g % data.colours.length];
  return dark.matches ? lighter(hex) : hex;
}

function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }

function draw() {
  waiting = false;
  const dense = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  wide = box.width; high = box.height;
  if (canvas.width !== Math.round(wide * dense) || canvas.height !== Math.round(high * dense)) {
    canvas.width = Math.round(wide * dense); canvas.height = Math.round(high * dense);
  }
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, wide, high);
  const side = data.spacing * scale() * size.value, tiles = data.side > 0 && sheet.complete && side >= 9;
  const radius = Math.max(1.4, Math.min(7, 0.22 * side + 1.2)), of = group().of, parts = new Map();
  dots(data.under, radius * 0.8, ink(-1), 0.35);
  for (let i = 0; i < N; i++) {
    const x = across(X[i]), y = down(Y[i]), edge = Math.max(side, radius);
    if (x < -edge || y < -edge || x > wide + edge || y > high + edge) continue;
    const g = of ? of[i] : -1, key = shown[i] ? g : "out";
    if (!parts.has(key)) parts.set(key, []);
    parts.get(key).push(i);
  }
  if (parts.has("out")) dots(places(parts.get("out")), radius, ink(-1), 0.14);
  for (const [g, rows] of parts) {
    if (g === "out") continue;
    if (!tiles) { dots(places(rows), radius, ink(g), 0.9, again(g)); continue; }
    pen.fillStyle = ink(g);
    for (const i of rows) picture(pen, i, across(X[i]) - side / 2, down(Y[i]) - side / 2, side, side > 16 && of ? 2 : 1);
  }
  if (!tiles) names(of);
  if (hovered >= 0) {
    pen.lineWidth = 2; pen.strokeStyle = css("--ink"); pen.beginPath();
    if (tiles) pen.rect(across(X[hovered]) - side / 2 - 1, down(Y[hovered]) - side / 2 - 1, side + 2, side + 2);
    else pen.arc(across(X[hovered]), down(Y[hovered]), radius + 3, 0, 7);
    pen.stroke();
  }
}

function places(rows) { return rows.flatMap((i) => [X[i], Y[i]]); }

function again(g) { return Math.floor(g / data.colours.length) % 2 === 1; }  // a colour comes again: then with squares

function dots(at, radius, colour, opacity, square = false) {
  pen.fillStyle = colour; pen.globalAlpha = opacity; pen.beginPath();
  for (let k = 0; k < at.length; k += 2) {
    const x = across(at[k]), y = down(at[k + 1]);
    if (square) pen.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
    else { pen.moveTo(x + radius, y); pen.arc(x, y, radius, 0, 7); }
  }
  pen.fill(); pen.globalAlpha = 1;
}

function picture(on, i, left, top, side, frame) {
  const s = data.side;
  if (frame) on.fillRect(left, top, side, side);
  on.imageSmoothingEnabled = !(data.sharp && side > s);
  on.drawImage(sheet, (i % data.columns) * s, Math.floor(i / data.columns) * s, s, s, left + frame, top + frame, side - 2 * frame, side - 2 * frame);
}

function names(of) {  // of groups, where most of each lies; those that would cover another are left out
  const list = group().names, taken = [];
  if (!of || list.length > data.named) return;
  pen.font = "600 15px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "middle"; pen.lineJoin = "round"; pen.lineWidth = 4;
  group().middle.forEach((i, g) => {
    if (i < 0 || (only >= 0 && only !== g)) return;
    const x = across(X[i]), y = down(Y[i]), half = pen.measureText(list[g]).width / 2 + 4;
    if (taken.some(([a, b, w]) => Math.abs(a - x) < w + half && Math.abs(b - y) < 20)) return;
    taken.push([x, y, half]);
    pen.strokeStyle = css("--paper"); pen.strokeText(list[g], x, y);
    pen.fillStyle = css("--ink"); pen.fillText(list[g], x, y);
  });
}

// What is looked at

function choose() {
  const word = find.value.trim().toLowerCase(), of = group().of;
  let n = 0;
  for (let i = 0; i < N; i++) {
    shown[i] = (only < 0 || (of && of[i] === only)) && (!word || data.names[i].toLowerCase().includes(word) || told(i).toLowerCase().includes(word)) ? 1 : 0;
    n += shown[i];
  }
  by("count").textContent = word || only >= 0 ? `${n.toLocaleString("en")} of ${N.toLocaleString("en")}` : "";
  redraw();
}

function told(i) {
  const named = (g) => (g.names[g.of[i]].startsWith(g.what) ? g.names[g.of[i]] : `${g.what} ${g.names[g.of[i]]}`);
  return data.groups.filter((g) => g.of[i] >= 0).map(named).join(", ");
}

function legend() {
  only = -1;
  const box = by("legend"), g = group();
  box.textContent = "";
  if (!g.of || g.names.length > 60) return choose();
  const counts = new Array(g.names.length).fill(0);
  for (const k of g.of) if (k >= 0) counts[k]++;
  g.names.forEach((name, k) => {
    if (!counts[k]) return;
    const button = document.createElement("button"), mark = document.createElement("i"), n = document.createElement("small");
    mark.style.background = ink(k); if (again(k)) mark.style.borderRadius = "0.1rem"; n.textContent = counts[k].toLocaleString("en");
    button.append(mark, name, n);
    button.type = "button"; button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      only = only === k ? -1 : k;
      for (const other of box.children) other.setAttribute("aria-pressed", String(other === button && only >= 0));
      choose();
    };
    box.append(button);
  });
  choose();
}

function nearest(x, y) {
  const reach = Math.max(14, (data.spacing * scale() * size.value) / 2 + 2);
  let best = -1, far = reach * reach;
  for (let i = 0; i < N; i++) {
    if (!shown[i]) continue;
    const d = (across(X[i]) - x) ** 2 + (down(Y[i]) - y) ** 2;
    if (d < far) { far = d; best = i; }
  }
  return best;
}

function hover(i, x, y) {
  if (i !== hovered) { hovered = i; redraw(); }
  tip.hidden = i < 0;
  if (i < 0) return;
  by("name").textContent = data.names[i];
  by("about").textContent = told(i);
  const shot = by("shot");
  shot.hidden = !data.side;
  if (data.side) { const to = shot.getContext("2d"); to.clearRect(0, 0, 192, 192); picture(to, i, 0, 0, 192, 0); }
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(wide - box.width - 4, x + 18))}px`;
  tip.style.top = `${Math.max(4, Math.min(high - box.height - 4, y + 18))}px`;
}

function zoom(factor, x = wide / 2, y = high / 2) {
  const before = scale(), px = view.x + (x - wide / 2) / before, py = view.y + (y - high / 2) / before;
  view.zoom = Math.max(0.5, Math.min(400, view.zoom * factor));
  view.x = px - (x - wide / 2) / scale(); view.y = py - (y - high / 2) / scale();
  redraw();
}

function fit(rows) {  // so that all of these are seen
  const xs = rows.map((i) => X[i]), ys = rows.map((i) => Y[i]);
  const least = (v) => v.reduce((a, b) => Math.min(a, b)), most = (v) => v.reduce((a, b) => Math.max(a, b));
  const span = Math.max(most(xs) - least(xs), most(ys) - least(ys), 8 * data.spacing);
  view.x = (most(xs) + least(xs)) / 2; view.y = (most(ys) + least(ys)) / 2; view.zoom = Math.min(400, 0.9 / span);
  redraw();
}

function whole() { view.x = view.y = 0.5; view.zoom = 1; redraw(); }

// Hands

const held = new Map();
canvas.addEventListener("pointerdown", (e) => { held.set(e.pointerId, [e.offsetX, e.offsetY]); canvas.setPointerCapture(e.pointerId); hover(nearest(e.offsetX, e.offsetY), e.offsetX, e.offsetY); });
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => held.delete(e.pointerId));
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("pointermove", (e) => {
  const now = [e.offsetX, e.offsetY], was = held.get(e.pointerId);
  if (!was) return hover(nearest(...now), ...now);
  if (held.size === 2) {
    const other = [...held.entries()].find(([id]) => id !== e.pointerId)[1], gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    zoom(gap(now) / Math.max(1, gap(was)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }
  view.x -= (now[0] - was[0]) / scale() / held.size; view.y -= (now[1] - was[1]) / scale() / held.size;
  held.set(e.pointerId, now);
  if (Math.hypot(now[0] - was[0], now[1] - was[1]) > 1) hover(-1);
  redraw();
});
canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-Math.max(-80, Math.min(80, e.deltaY)) / 300), e.offsetX, e.offsetY); }, { passive: false });
canvas.addEventListener("dblclick", (e) => zoom(2, e.offsetX, e.offsetY));
canvas.addEventListener("keydown", (e) => {
  const step = 40 / scale(), keys = {
    ArrowLeft: () => { view.x -= step; }, ArrowRight: () => { view.x += step; }, ArrowUp: () => { view.y -= step; }, ArrowDown: () => { view.y += step; },
    "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: whole, Escape: () => { find.value = ""; choose(); },
  };
  if (keys[e.key]) { e.preventDefault(); keys[e.key](); redraw(); }
});
find.addEventListener("input", choose);
find.addEventListener("keydown", (e) => {
  const rows = [...shown.keys()].filter((i) => shown[i]);
  if (e.key === "Enter" && rows.length) fit(rows);
});
what.addEventListener("change", legend);
size.addEventListener("input", redraw);
by("whole").addEventListener("click", whole);
by("closer").addEventListener("click", () => zoom(1.5));
by("farther").addEventListener("click", () => zoom(1 / 1.5));
for (const shot of document.querySelectorAll("[data-row]")) {
  shot.addEventListener("click", () => { fit([Number(shot.dataset.row)]); hovered = Number(shot.dataset.row); canvas.scrollIntoView({ block: "center" }); });
}

function stills() {  // the images in the lists below the map
  for (const shot of document.querySelectorAll("[data-row] canvas")) picture(shot.getContext("2d"), Number(shot.parentNode.dataset.row), 0, 0, shot.width, 0);
  redraw();
}
if (data.side) { if (sheet.complete) stills(); else sheet.addEventListener("load", stills); }
dark.addEventListener("change", legend);
new ResizeObserver(redraw).observe(canvas);
legend();
