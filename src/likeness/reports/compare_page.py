"""compare.html: any runs on one page, which needs no other file, no network and no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from .. import figures
from ..metrics.card import Score, short
from . import perception, run_page
from .ranking import Column, Row, ends_of, shown

_e = figures.safe

NOTHING = "No check has found anything suspicious."
LEAD = """Best: better than every run that it may be held against, 95 % intervals apart.  Tie: none of those is better, but intervals meet,
or both are as good as real images.  Each strip shows the interval within its row.  What has no better end, or may not be held against
others, is not ranked."""  # noqa: E501
TRADEOFF = """Nearer to the truth is to the right, more like real images is further down.  Beyond some point one costs the other, whatever the
model (Blau and Michaeli 2018).  Grey: what costs nothing."""  # noqa: E501
SAMPLES = """The first of a seed, not chosen, as they were scored where that was just done.  Of one seed sample i gets the same noise in every
run, as far as the models take noise of the same form."""  # noqa: E501
CURVES = """Only losses of one model on one data set share a chart: others are different quantities.  Each twice, over the time spent in
training steps and over images seen; a mean of its surroundings, on logarithmic axes where it spans much."""  # noqa: E501
COLOURS = ("#2f7fc1", "#d9601a", "#1f9e78", "#d6338a", "#7d6fc4", "#a9791c", "#69a31f", "#858585")
DASHES = ("none", "8 3", "2 3")
AXES = ("seconds of training", "images seen")
WIDE, HIGH, LEFT, TOP = 400.0, 170.0, 48.0, 26.0


def page(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """All of it as one HTML document."""
    title = f"{len(columns)} runs side by side" if len(columns) > 1 else columns[0].name
    about = ", ".join(dict.fromkeys(c.subject for c in columns))
    sections = [
        _section(
            "What to look out for",
            _tag("div", "warned", "".join(map(_warned, columns))) or _tag("p", "fine", NOTHING),
        ),
        _section("Scores", _table(columns, rows) + _meanings(rows), LEAD),
        _section("Perception and distortion", perception.picture(columns, rows, COLOURS), TRADEOFF),
        _section("Samples", _samples(columns), SAMPLES),
        _section("Learning curves", _curves(columns), CURVES),
        _section(
            "What differs",
            _differences(columns),
            "Of all that the runs were made with: whatever is not the same in each.",
        ),
    ]
    head = f'<p class="kind">likeness</p><h1>{_e(title)}</h1><p class="status">{_e(about)}</p>'
    return figures.TEMPLATE.format(
        title=_e(title),
        css=figures.CSS + CSS,
        body=f"<header>{head}</header><main>{''.join(sections)}</main>",
    )


def _section(title: str, body: str, lead: str = "") -> str:
    return (
        f"<section><h2>{title}</h2>{_tag('p', 'lead', _e(lead)) if lead else ''}{body}</section>"
        if body
        else ""
    )


def _tag(name: str, kind: str, inner: str) -> str:
    return f'<{name} class="{kind}">{inner}</{name}>' if inner else ""


def _warned(column: Column) -> str:
    items = "".join(f"<li>{_e(text)}</li>" for text in column.warnings)
    return f"<div><h3>{_e(column.name)}</h3>{_tag('ul', 'warn', items)}</div>" if items else ""


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    heads = [
        f"{_key_line(i)} {_e(x.name)}{_small(f'{x.subject}, {x.seen:,} images')}"
        for i, x in enumerate(columns)
    ]
    seeds, one = (
        len({card.seed for row in rows for card in row.cards}) > 1,
        len({column.data for column in columns}) == 1,
    )
    parts = ([row for row in rows if row.group == name] for name in dict.fromkeys(row.group for row in rows))
    return (
        '<div class="wide" tabindex="0"><table '
        f'class="runs">{"".join(_part(part, heads, seeds, one) for part in parts)}</table></div>'
    )


def _part(rows: Sequence[Row], heads: Sequence[str], seeds: bool, one: bool) -> str:
    """A group of measures: what is the same for all of them is told once, above."""
    ours = [row for row in rows if row.key.of == "model"]
    remarks = [_remarks([row.cells[i] for row in ours], seeds) for i in range(len(heads))]
    once = [
        name
        for name in dict.fromkeys(n for t in remarks for n in t)
        if name not in ("kind", "note") and all(len(t.get(name, "")) < 2 for t in remarks)
    ]
    every = {name: {text for t in remarks for text in t.get(name, ())} for name in once}
    above = [text for texts in every.values() if len(texts) == 1 for text in texts]
    own = [
        "; ".join(text for name in once if len(every[name]) > 1 for text in t.get(name, ())) for t in remarks
    ]
    names = "".join(f'<th scope="col">{head}{_small(text)}</th>' for head, text in zip(heads, own))
    lines = "".join(_row(row, seeds, once) if row.key.of == "model" else _beside(row, one) for row in rows)
    return (
        "<tbody><tr "
        'class="group"><th '
        f'scope="rowgroup">{rows[0].group}{_small("; ".join(above))}</th>{names}</tr>{lines}</tbody>'
    )


def _remarks(cards: Iterable[Score | None], seeds: bool) -> dict[str, set[str]]:
    """All that is said of some cards, by name."""
    remarks: dict[str, set[str]] = {}
    for name, text in (
        fact for card in cards if card is not None for fact in _facts(card, seeds).items() if fact[1]
    ):
        remarks.setdefault(name, set()).add(text)
    return remarks


def _facts(card: Score, seeds: bool) -> dict[str, str]:
    """What one must know to read a value, by name; nothing is said of what is switched off."""
    sides = (
        (f"n = {card.n:,} {card.split}") + ("" if card.against is None else f" against {card.against:,}")
        if card.n
        else ""
    )
    kind, seed = "" if card.kind == "measured" else card.kind, f"seed {card.seed}" if seeds else ""
    facts = dict(
        n=sides,
        kind=kind,
        network=card.features,
        resize=f"resize: {card.resize}" if card.resize else "",
        seed=seed,
    )
    return (
        facts
        | {k: "" if v is False else f"{k} = {v}" for k, v in card.settings.items() if k != "seen"}
        | dict(note=card.note)
    )


def _row(row: Row, seeds: bool, above: Sequence[str]) -> str:
    """What all cards have in common stands at the head of the row, the rest at each."""
    facts = [
        {k: v for k, v in _facts(card, seeds).items() if k not in above} if card else {} for card in row.cells
    ]
    names = {
        name: {f[name] for f in facts if name in f}
        for name in dict.fromkeys(name for f in facts for name in f)
    }
    common = {name: next(iter(texts)) for name, texts in names.items() if len(texts) == 1}
    own = ["; ".join(text for name, text in f.items() if text and name not in common) for f in facts]
    cells = "".join(
        _cell(card, place, text, _span(row)) for card, place, text in zip(row.cells, row.places, own)
    )
    direction = f"{row.cards[0].better} is better" if row.cards[0].better else ""
    pixels = "" if row.cards[0].network or "network" not in above else "without the network"
    about = "; ".join(
        filter(None, [direction, pixels, *(text for name, text in common.items() if name != "note")])
    )
    head = (
        _e(", ".join(filter(None, (row.key.name, row.key.unit))))
        + _small(about)
        + _tag("small", "why", _e(row.why))
    )
    return f'<tr><th scope="row" title="{_e(common.get("note", ""))}">{head}</th>{cells}</tr>'


def _span(row: Row) -> tuple[float, float]:
    """Ends of the strips of a row: only what may be ranked is drawn on one scale."""
    ends = [end for card in row.cards for end in (card.value, *(ends_of(card) or ())) if math.isfinite(end)]
    return (
        (min(ends), max(ends))
        if row.cards[0].better and len(row.cards) > 1 and ends and not row.why
        else (0.0, 0.0)
    )


def _small(text: str) -> str:
    return f"<small>{_e(text)}</small>" if text else ""


def _cell(card: Score | None, place: str, own: str, span: tuple[float, float]) -> str:
    if card is None:
        return '<td class="none">–</td>'
    marks = _tag("span", "place", place) + (
        f'<span class="doubt" title="{_e(card.warning)}">!</span>' if card.warning else ""
    )
    below = _strip(card, span) + "".join(map(_small, (_between(card), card.verdict.partition(" (")[0], own)))
    return f'<td class="{place}"><b>{_e(shown(card))}</b>{marks}{below}</td>'


def _between(card: Score) -> str:
    ends = ends_of(card)
    return f"{short(ends[0])} – {short(ends[1])}" if ends and ends[0] < ends[1] else ""


def _strip(card: Score, span: tuple[float, float]) -> str:
    """Where the value and its interval lie within the row."""
    if card.refused or not span[0] < span[1]:
        return ""
    ends = ends_of(card) or (card.value, card.value)
    low, high, value = (100 * (v - span[0]) / (span[1] - span[0]) for v in (*ends, card.value))
    return (
        f'<span class="strip"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i><u '
        f'style="left:{value:.1f}%"></u></span>'
    )


def _beside(row: Row, one: bool) -> str:
    """A baseline, or the floor: told once where it is the same for all runs, which are on one data set."""
    texts = ["–" if card is None else f"{shown(card)}{_small(_between(card))}" for card in row.cells]
    known = {text for text, card in zip(texts, row.cells) if card is not None}
    once = f'<td colspan="{len(texts)}"><span class="pin">{next(iter(known))}</span></td>'
    cells = (
        once
        if one and len(known) == 1 and len(row.cards) > 1
        else "".join(f"<td>{text}</td>" for text in texts)
    )
    return (
        '<tr class="beside"><th scope="row" '
        f'title="{_e(row.cards[0].note)}">{_e(row.key.of)}</th>{cells}</tr>'
    )


def _meanings(rows: Sequence[Row]) -> str:
    notes = {
        row.key.name: row.cards[0].note
        for row in rows
        if row.key.of == "model" and len({card.note for card in row.cards}) == 1
    }
    return _tag(
        "dl",
        "meanings",
        "".join(f"<div><dt>{_e(name)}</dt><dd>{_e(note)}</dd></div>" for name, note in notes.items() if note),
    )


def _samples(columns: Sequence[Column]) -> str:
    figures = [_figure(c, c.x) for c in columns if c.x is not None]
    without = ", ".join(c.name for c in columns if c.x is None)
    return (
        _tag("div", "grids", "".join(figures))
        + (_tag("p", "note", _e(f"Without samples: {without}.")) if without else "")
        if figures
        else ""
    )


def _figure(column: Column, x: Tensor) -> str:
    size, points = x.shape[-1], x.shape[1:] == (2, 1, 1)
    image = figures.shown(x) if points else figures.grid(x, 8 if size <= run_page.LARGE else 4)
    recipe = dict(run=column.name, model=column.model, seen=column.seen, seed=column.seed, n=len(x))
    file = (figures.png if size <= run_page.LARGE else figures.jpeg)(image, recipe)
    sharp = ' class="sharp"' if size <= run_page.SHARP and not points else ""
    below = f"<figcaption>{_e(f'{column.name}, seed {column.seed}')}</figcaption>"
    return (
        f'<figure{sharp}><img alt="samples of {_e(column.name)}" src="{figures.uri(file)}">{below}</figure>'
    )


def _differences(columns: Sequence[Column]) -> str:
    names = dict.fromkeys(name for c in columns for name in c.setup)
    values = {name: [str(c.setup.get(name, "–")) for c in columns] for name in names}
    lines = [
        f'<tr><th scope="row">{_e(k)}</th>{"".join(f"<td>{_e(v)}</td>" for v in vs)}</tr>'
        for k, vs in values.items()
        if len(set(vs)) > 1
    ]
    heads = "".join(f'<th scope="col">{_e(c.name)}</th>' for c in columns)
    return (
        (
            '<div class="wide" tabindex="0"><table class="runs"><tr '
            f'class="group"><th></th>{heads}</tr>{"".join(lines)}</table></div>'
        )
        if lines
        else ""
    )


def _key_line(i: int) -> str:
    """How the curves of column i look."""
    return (
        f'<svg class="key" viewBox="0 0 22 8" aria-hidden="true"><path d="M1 4h20" style="{_ink(i)}"/></svg>'
    )


def _ink(i: int) -> str:
    return f"stroke:{COLOURS[i % len(COLOURS)]};stroke-dasharray:{DASHES[i // len(COLOURS) % len(DASHES)]}"


def _curves(columns: Sequence[Column]) -> str:
    """Two charts for each loss of each model on each data set, with all runs of that kind in them."""
    charts = []
    for subject, data, name in dict.fromkeys((c.subject, c.data, name) for c in columns for name in c.curves):
        title = f"{subject}: {'loss' if name == 'model' else name}"
        tables = {
            i: c.curves[name]
            for i, c in enumerate(columns)
            if (c.subject, c.data) == (subject, data) and name in c.curves
        }
        charts += [
            _chart({i: _over(table, axis) for i, table in tables.items()}, title, below)
            for axis, below in enumerate(AXES)
        ]
    legend = "".join(f"<span>{_key_line(i)} {_e(c.name)}</span>" for i, c in enumerate(columns))
    return f'<p class="legend">{legend}</p>{_tag("div", "charts", "".join(charts))}' if any(charts) else ""


def _over(table: np.ndarray, axis: int) -> np.ndarray:
    """(n, 2): the axis, rising, and the loss."""
    rising = table[table[:, axis].argsort(kind="stable")]
    return rising[np.isfinite(rising[:, axis])][:, [axis, 2]]


def _chart(lines: dict[int, np.ndarray], title: str, below: str) -> str:
    """Curves (n, 2) as SVG, by column; axes are logarithmic where figures.curve has them so."""
    lines = {i: table for i, table in lines.items() if len(table) > 1}
    if not lines:
        return ""
    x, y = np.concatenate(list(lines.values())).T
    across = figures.Axis(x, WIDE, bool(x.min() > 0 and x.max() > 100 * x.min()))
    up = figures.Axis(y, HIGH, bool(y.min() > 0 and y.max() > 100 * y.min()))
    rows, marks = up.ticks(), across.ticks()
    left = [(TOP + HIGH - up.place(v), text) for v, text in zip(rows, figures.labels(rows))]
    under = [(LEFT + across.place(v), text) for v, text in zip(marks, figures.labels(marks))]
    frame = [
        f'<path d="M{LEFT:g} {v:.1f}h{WIDE:g}"/><text class="y" x="{LEFT - 6:g}" '
        f'y="{v + 4:.1f}">{text}</text>'
        for v, text in left
    ]
    frame += [f'<text class="x" x="{v:.1f}" y="{TOP + HIGH + 16:g}">{text}</text>' for v, text in under]
    words = (
        f'<text class="name" x="0" y="13">{_e(title)}</text><text class="below" x="{LEFT + WIDE:g}" '
        f'y="{TOP + HIGH + 32:g}">{_e(below)}</text>'
    )
    drawn = "".join(_drawn_line(i, table, across, up) for i, table in lines.items())
    box = f"0 0 {LEFT + WIDE + 8:g} {TOP + HIGH + 38:g}"
    return (
        f'<svg class="curve" viewBox="{box}" role="img" '
        f'aria-label="{_e(f"{title} over {below}")}">{words}{"".join(frame)}{drawn}</svg>'
    )


def _drawn_line(i: int, table: np.ndarray, across: figures.Axis, up: figures.Axis) -> str:
    """At most 400 points of the local mean."""
    places = np.array([across.place(v) for v in table[:, 0]])
    smooth = figures.smooth(places / WIDE, table[:, 1])
    few = np.unique(np.linspace(0, len(table) - 1, 400).astype(int))
    points = " ".join(f"{LEFT + places[k]:.1f},{TOP + HIGH - up.place(smooth[k]):.1f}" for k in few)
    return f'<polyline class="smooth" style="{_ink(i)}" points="{points}"/>'


CSS = """
body { max-width:min(100%,84rem); }
.warned { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr)); gap:1rem 2rem; }
h3 { overflow-wrap:anywhere; }
.warn { font-size:.9rem; }
ul.warn { max-height:16rem; overflow:auto; overflow-wrap:anywhere; }
.runs { border-collapse:separate; border-spacing:0; }
.runs th,.runs td,.runs td:last-child { vertical-align:top; padding:.45rem 1rem .45rem .5rem; white-space:normal;
  min-width:8.5rem; color:inherit; }
.runs tr>th:first-child { position:sticky; left:0; z-index:1; background:var(--paper); min-width:16rem; max-width:16rem; padding-left:0; font-weight:600; }
.runs small { display:block; color:var(--soft); font-weight:400; font-size:.76rem; line-height:1.4; overflow-wrap:anywhere; }
.runs .why { font-style:italic; }
.runs b { font-weight:500; }
.runs .group th { border-bottom:2px solid var(--line); padding-top:2rem; font-size:.9rem; overflow-wrap:anywhere; }
.runs .group th:first-child { font-size:1.05rem; color:var(--mine); }
.runs .beside th:first-child { font-weight:400; padding-left:1rem; }
.runs .beside,.runs .beside th { color:var(--soft); font-size:.82rem; }
.runs .beside th,.runs .beside td { padding-top:.15rem; padding-bottom:.15rem; }
.runs .best b { font-weight:700; color:var(--mine); }
.place { margin-left:.5em; font-size:.72rem; color:var(--soft); }
.best .place { color:var(--paper); background:var(--mine); padding:.05em .5em; border-radius:1em; }
.doubt { display:inline-block; width:1.25em; margin-left:.5em; border-radius:1em; text-align:center; font-size:.75rem; font-weight:700;
  background:var(--edge); color:var(--paper); }
.runs .beside small { display:inline-block; margin-left:.8em; }
.pin { position:sticky; left:16.5rem; }
.none { color:var(--soft); }
.meanings { grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr)); margin-top:2rem; }
.meanings dd { font-size:.85rem; }
.strip { display:block; position:relative; height:3px; margin:.35rem 0; background:var(--line); max-width:9rem; }
.strip i { position:absolute; height:3px; min-width:2px; background:var(--bar); }
.strip u { position:absolute; width:7px; height:7px; margin:-2px 0 0 -3px; border-radius:50%; background:var(--soft); }
.best .strip u,.best .strip i { background:var(--mine); }
.grids { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,16rem),1fr)); gap:1.5rem; }
.grids figcaption { overflow-wrap:anywhere; }
.charts { grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr)); }
.plane { max-width:36rem; }
.plane circle+text { font-size:.72rem; fill:currentColor; }
.key { width:22px; height:8px; }
.key path,.curve .smooth { fill:none; stroke-width:2; }
.legend { display:flex; flex-wrap:wrap; gap:.3rem 1.5rem; font-size:.85rem; overflow-wrap:anywhere; }
@media (max-width:40rem) {
  .runs tr>th:first-child { min-width:8.5rem; max-width:8.5rem; }
  .pin { left:9rem; }
}
"""  # noqa: E501
