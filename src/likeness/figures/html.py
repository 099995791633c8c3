"""Self-contained pages: the template, its style sheet, and sections and tables for it."""

from __future__ import annotations

from html import escape
from typing import Any


def safe(text: object) -> str:
    """For HTML and SVG: escaped, and bytes of a file name that are no UTF-8 written out."""
    return escape(str(text).encode(errors="backslashreplace").decode())


def section(title: str, body: str, lead: str = "") -> str:
    """Nothing at all where there is nothing to show."""
    return (
        f"<section><h2>{title}</h2>{tag('p', 'lead', safe(lead)) if lead else ''}{body}</section>"
        if body
        else ""
    )


def tag(name: str, kind: str, inner: str) -> str:
    return f'<{name} class="{kind}">{inner}</{name}>'


def table(values: dict[str, Any]) -> str:
    rows = (
        f'<tr><th scope="row">{safe(k)}</th><td>{safe(v)}</td></tr>'
        for k, v in values.items()
        if v not in ("", None)
    )
    return tag("div", "wide", tag("table", "plain", "".join(rows)))


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{css}</style></head><body>{body}</body></html>
"""  # noqa: E501

CSS = """
:root { --paper:#fbfaf7; --ink:#24231f; --soft:#6a665e; --line:#e3dfd6; --mine:#2c5f8d; --bar:#cfcabe; --warn:#fdf3dc; --edge:#d09a2c; --code:#f2efe8; }
@media (prefers-color-scheme: dark) {
  :root { --paper:#161718; --ink:#e7e4dd; --soft:#a19c92; --line:#303133; --mine:#86b6e2; --bar:#4a4b4d; --warn:#2b2517; --edge:#c0923a; --code:#202123; }
}
* { box-sizing:border-box; }
body { margin:0 auto; padding:2.5rem clamp(1rem,4vw,3rem) 4rem; max-width:68rem; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif; font-variant-numeric:tabular-nums; }
h1,h2 { font-family:"Iowan Old Style","Palatino Linotype",Palatino,Georgia,"Noto Serif","DejaVu Serif",serif;
  font-weight:500; line-height:1.2; overflow-wrap:anywhere; }
h1 { font-size:clamp(1.8rem,5vw,2.7rem); margin:.1em 0 .25em; }
h2 { font-size:1.35rem; margin:0 0 .4rem; }
h3 { font-size:.95rem; margin:0 0 .3rem; }
.kind { margin:0; color:var(--mine); font-weight:600; letter-spacing:.06em; }
.status,.lead,.note,footer { color:var(--soft); }
.status { margin:0 0 1.4rem; }
.lead { margin:0 0 1rem; max-width:44rem; }
.note { font-weight:400; }
section { margin-top:2.8rem; }
footer { margin-top:3.5rem; padding-top:1rem; border-top:1px solid var(--line); font-size:.85rem; }
dl { margin:0; display:grid; grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr)); gap:0 1.5rem; }
dl div { border-top:1px solid var(--line); padding:.45rem 0 .6rem; }
dt { color:var(--soft); font-size:.8rem; }
dd { margin:0; font-size:1.05rem; overflow-wrap:anywhere; }
dl.commands { grid-template-columns:1fr; }
code { font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace; overflow-wrap:anywhere; }
ul.warn { margin:0; padding:.8rem 1.2rem .8rem 2rem; background:var(--warn); border-left:4px solid var(--edge); }
ul.warn li+li { margin-top:.35rem; }
.fine { margin:0; }
.tiles { display:grid; grid-template-columns:repeat(auto-fill,minmax(var(--tile),1fr)); gap:5px; }
.pair { display:grid; gap:2px; margin-bottom:7px; }
img { display:block; width:100%; height:auto; }
.plane { width:min(100%,400px); border:1px solid var(--line); }
.sharp img { image-rendering:pixelated; }
.film { display:grid; grid-template-columns:repeat(var(--n),minmax(0,1fr)); gap:5px; max-width:calc(var(--n)*var(--tile)); }
figure { margin:0; display:grid; gap:5px; align-content:start; }
figcaption { text-align:center; color:var(--soft); font-size:.8rem; }
.charts { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr)); gap:1.5rem 2rem; }
.curve { width:100%; height:auto; overflow:visible; }
.curve text { font-size:11px; fill:var(--soft); }
.curve .name { font-size:13px; font-weight:600; fill:var(--ink); }
.curve .x { text-anchor:middle; }
.curve .y,.curve .below { text-anchor:end; }
.curve path { stroke:var(--line); }
.curve polyline { fill:none; stroke:var(--mine); }
.curve .raw { opacity:.3; }
.curve .smooth { stroke-width:2; stroke-linejoin:round; }
.curve circle { fill:var(--mine); fill-opacity:0; }
.curve circle:hover { fill-opacity:.6; }
.wide { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:.9rem; margin-bottom:1.8rem; }
th,td { text-align:left; vertical-align:baseline; padding:.32rem .9rem .32rem 0; border-bottom:1px solid var(--line); font-weight:400; white-space:nowrap; }
thead th { color:var(--soft); font-size:.8rem; }
td:last-child { white-space:normal; min-width:13rem; color:var(--soft); padding-right:0; }
.value { text-align:right; }
.measure th { padding-top:1.5rem; font-weight:600; white-space:normal; }
.bar { width:9rem; min-width:6rem; }
.bar span { display:block; height:.6rem; background:var(--bar); }
.model th,.model .value { font-weight:650; color:var(--mine); }
.model .bar span { background:var(--mine); }
.hidden { position:absolute; clip-path:inset(50%); width:1px; height:1px; overflow:hidden; }
.columns { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr)); gap:0 2.5rem; }
.plain th { color:var(--soft); }
.plain td { white-space:normal; overflow-wrap:anywhere; color:var(--ink); min-width:0; }
@media print {
  body { max-width:none; padding:0; font-size:11pt; }
  section { break-inside:avoid; }
}
@media (max-width:40rem) {
  .film { gap:3px; }
  figure { gap:3px; }
  .tiles { gap:3px; grid-template-columns:repeat(var(--few),1fr); }
}
"""  # noqa: E501
