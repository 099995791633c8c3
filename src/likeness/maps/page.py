"""map.html: a map to walk about in, which needs no other file and no network.

All images are one picture within the page, what came from outside (names, labels) is escaped, and the page
forbids itself to load anything or to run any script but its own, which it names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import figures
from ..metrics.card import Score, short
from ..reports import run_page
from . import pictures, tsne

_e = figures.safe

LEAD = """Drag to move, turn the wheel or pinch to come nearer; images take the place of points where there is room.  Point at one to see it,
press a name to see its group alone.  How the map is turned, how large its islands are and how far apart they lie means little."""  # noqa: E501


class Listed(NamedTuple):
    """Some images that are shown below the map, under a heading."""

    title: str
    lead: str
    lines: list[tuple[str, list[tuple[int, str]]]]
    """each with what it is, and its images: row and caption"""


def page(
    title: str,
    status: str,
    y: np.ndarray,
    names: Sequence[str],
    groups: Sequence[pictures.Groups],
    x: np.ndarray | None,
    cards: Sequence[Score],
    lists: Sequence[Listed],
    facts: dict[str, Any],
    under: np.ndarray | None = None,
) -> str:
    """All of it as one HTML document.

    y: (n, 2), y up.  x: uint8 (n, C, H, W), or None where only the features are known.  under: points (m, 2)
    of an older map.
    """
    sheet = pictures.sprites(x) if x is not None else None
    script = files(__package__).joinpath("map.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    options = "".join(f"<option>{_e(g.what)}</option>" for g in groups)
    below = [
        _section("How far it may be believed", _scores(cards)),
        *(_listed(result, sheet is not None) for result in lists),
        _section("How it was made", _facts(facts)),
    ]
    return PAGE.format(
        title=_e(title),
        status=_e(status),
        css=figures.CSS + CSS,
        digest=digest,
        lead=_e(LEAD),
        options=options or "<option>nothing</option>",
        sheet=_sheet(sheet, facts),
        below="".join(below),
        data=_json(_data(y, names, groups, x, sheet, under)),
        script=script,
    )


def _sheet(sheet: pictures.Sprites | None, facts: dict[str, Any]) -> str:
    if sheet is None:
        return "data:,"
    recipe = dict(facts, picture="sprites", side=sheet.side)
    as_png = figures.png(sheet.sheet, recipe) if sheet.side < 32 else b""
    as_jpeg = figures.jpeg(sheet.sheet, recipe)
    return figures.uri(as_png if as_png and len(as_png) < 2 * len(as_jpeg) else as_jpeg)


def _data(
    y: np.ndarray,
    names: Sequence[str],
    groups: Sequence[pictures.Groups],
    x: np.ndarray | None,
    sheet: pictures.Sprites | None,
    under: np.ndarray | None,
) -> dict[str, Any]:
    """What the script reads: places between 0 and 1, y down."""
    every = y if under is None else np.concatenate([y, under])
    low, span = every.min(0), max(1e-12, float((every.max(0) - every.min(0)).max()))
    middle = (1 - (every.max(0) - low) / span) / 2

    def placed(points: np.ndarray) -> np.ndarray:
        at = (points - low) / span + middle
        return np.round(np.stack([at[:, 0], 1 - at[:, 1]], 1), 5)

    at, of = placed(y), list(groups)
    return dict(
        x=at[:, 0].tolist(),
        y=at[:, 1].tolist(),
        under=[] if under is None else placed(under).reshape(-1).tolist(),
        names=[_plain(name) for name in names],
        groups=[
            dict(what=g.what, of=g.of.tolist(), names=[_plain(n) for n in g.names], middle=_middles(y, g))
            for g in of
        ],
        spacing=_spacing(at),
        side=0 if sheet is None else sheet.side,
        columns=1 if sheet is None else sheet.columns,
        sharp=x is not None and max(x.shape[2:]) <= run_page.SHARP,
        colours=list(pictures.COLOURS),
        none=pictures.NONE,
        named=pictures.NAMED,
    )


def _plain(text: str) -> str:
    """Bytes that are no UTF-8, as a file name may have, written out."""
    return text.encode(errors="backslashreplace").decode()


def _middles(y: np.ndarray, groups: pictures.Groups) -> list[int]:
    """The row nearest to the median of each group, -1 of an empty one."""
    result = [np.flatnonzero(groups.of == g) for g in range(len(groups.names))]
    return [
        int(rows[((y[rows] - np.median(y[rows], 0)) ** 2).sum(1).argmin()]) if len(rows) else -1
        for rows in result
    ]


def _spacing(at: np.ndarray) -> float:
    """About how far apart neighbours lie: so large an image may be drawn."""
    if len(at) < 3:
        return 0.1
    some = torch.from_numpy(at[:5000])
    apart = float(tsne.nearest(some, 1)[0].sqrt().median()) * math.sqrt(len(some) / len(at))
    return min(0.1, max(0.002, 2 * apart))


def _json(values: dict[str, Any]) -> str:
    """For a script element: no < and no &, so that nothing in a name can end it."""
    text = json.dumps(values, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _section(title: str, body: str, lead: str = "") -> str:
    return (
        f'<section><h2>{_e(title)}</h2>{f"""<p class="lead">{_e(lead)}</p>""" if lead else ""}{body}</section>'  # noqa: E501
        if body
        else ""
    )


def _scores(cards: Sequence[Score]) -> str:
    """A group of rows for each measure: the map first, then what it is held against."""
    rows = []
    for name in dict.fromkeys(card.name for card in cards):
        own = [card for card in cards if card.name == name]
        rows.append(
            f'<tr class="measure"><th scope="rowgroup" colspan="4">{_e(name)} <span '
            f'class="note">{_e(own[0].note)}</span></th></tr>'
        )
        rows += [_row(card) for card in own]
    return f'<div class="wide"><table class="scores">{"".join(rows)}</table></div>' if rows else ""


def _row(card: Score) -> str:
    between = (
        ""
        if card.low is None or card.high is None or card.low == card.high
        else (f"{short(card.low)} – {short(card.high)}")
    )
    kind = ' class="model"' if card.of == "map" else ""
    bar = f'<td class="bar"><span style="width:{100 * max(0.0, min(1.0, card.value)):.1f}%"></span></td>'
    remark = "; ".join(filter(None, (between, card.warning)))
    return (
        f"<tr{kind}><th "
        f'scope="row">{_e(card.of)}</th>{bar}<td '
        f'class="value">{_e(short(card.value))}</td><td>{_e(remark)}</td></tr>'
    )


def _listed(images: Listed, pictured: bool) -> str:
    lines = "".join(
        f"<h3>{_e(what)}</h3>" * bool(what)
        + f'<div class="shots">{"".join(_shot(*shot, pictured) for shot in shots)}</div>'
        for what, shots in images.lines
    )
    return _section(images.title, lines, images.lead)


def _shot(row: int, caption: str, pictured: bool) -> str:
    image = '<canvas width="72" height="72"></canvas>' if pictured else ""
    return f'<button type="button" data-row="{row}">{image}<small>{_e(caption)}</small></button>'


def _facts(facts: dict[str, Any]) -> str:
    return f"<dl>{''.join(f'<div><dt>{_e(k)}</dt><dd>{_e(v)}</dd></div>' for k, v in facts.items() if v not in ('', None))}</dl>"  # noqa: E501


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'">
<style>{css}</style></head><body>
<header><p class="kind">likeness</p><h1>{title}</h1><p class="status">{status}</p></header>
<main>
<div class="tools">
<label>colour <select id="what">{options}</select></label>
<label class="grow">find <input id="find" type="search" placeholder="part of a file name" autocomplete="off"></label><output id="count"></output>
<label>size <input id="size" type="range" min="0.4" max="4" step="0.1" value="1" aria-label="size of images"></label>
<span class="zoom"><button id="farther" type="button" aria-label="farther">−</button><button id="closer" type="button"
 aria-label="closer">+</button><button id="whole" type="button">whole map</button></span>
</div>
<div id="legend" class="legend"></div>
<div class="frame"><canvas id="map" tabindex="0" role="img" aria-label="map of images: {status}">This map needs a browser with scripts.</canvas>
<div id="tip" hidden><canvas id="shot" width="192" height="192"></canvas><b id="name"></b><span id="about"></span></div></div>
<p class="lead">{lead}</p>
{below}
</main>
<img id="sheet" src="{sheet}" alt="" hidden>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body></html>
"""  # noqa: E501

CSS = """
body { max-width:min(100%,92rem); padding-top:1.5rem; }
h1 { font-size:clamp(1.5rem,3.5vw,2.1rem); }
.status { margin-bottom:.9rem; overflow-wrap:anywhere; }
.tools { display:flex; flex-wrap:wrap; align-items:center; gap:.5rem 1.1rem; font-size:.9rem; color:var(--soft); }
.tools label { display:flex; align-items:center; gap:.45rem; }
.tools .grow { flex:1 1 12rem; max-width:26rem; }
.tools input[type=search] { flex:1; min-width:6rem; }
.tools input[type=range] { width:7rem; accent-color:var(--mine); }
.tools select,.tools input[type=search],.tools button,.legend button { font:inherit; color:var(--ink); background:var(--paper); border:1px solid var(--line);
  border-radius:.45rem; padding:.25rem .6rem; }
.zoom { display:flex; gap:.3rem; }
button { cursor:pointer; }
button:hover { border-color:var(--soft); }
:focus-visible { outline:2px solid var(--mine); outline-offset:2px; }
.legend { display:flex; flex-wrap:wrap; gap:.3rem; margin:.7rem 0; font-size:.85rem; max-height:8.2rem; overflow:auto; }
.legend button { display:flex; align-items:center; gap:.4rem; padding:.1rem .55rem; border-radius:1rem; overflow-wrap:anywhere; }
.legend button[aria-pressed=true] { background:var(--ink); color:var(--paper); }
.legend i { width:.7rem; height:.7rem; border-radius:50%; flex:none; }
.legend small { opacity:.65; }
.frame { position:relative; }
#map { display:block; width:100%; height:min(76vh,60rem); min-height:22rem; border:1px solid var(--line); border-radius:.5rem;
  touch-action:none; cursor:crosshair; }
#tip { position:absolute; pointer-events:none; display:grid; gap:.2rem; max-width:14.5rem; padding:.6rem; background:var(--paper); border:1px solid var(--line);
  border-radius:.5rem; box-shadow:0 .3rem 1.2rem rgb(0 0 0/.22); font-size:.85rem; overflow-wrap:anywhere; }
#tip[hidden] { display:none; }
#tip span { color:var(--soft); }
#shot { border-radius:.25rem; }
.frame+.lead { margin-top:.8rem; font-size:.9rem; max-width:60rem; }
.scores { max-width:56rem; }
.shots { display:flex; flex-wrap:wrap; gap:.6rem; margin-bottom:1.1rem; }
.shots button { font:inherit; color:inherit; background:none; border:1px solid transparent; border-radius:.4rem; padding:.25rem;
  display:grid; gap:.2rem; width:86px;
  justify-items:center; align-content:start; }
.shots button:hover { border-color:var(--line); }
.shots small { color:var(--soft); font-size:.75rem; line-height:1.25; overflow-wrap:anywhere; text-align:center; }
"""  # noqa: E501
