"""A run on one page: report.html, which needs no other file, no network and no script.

Everything in it that came from outside (names, options, warnings) is escaped, and the page forbids
itself to load anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import engine, figures, storage
from ..core import Batch, Refusal, answers, duration
from ..data import Data, Reading, picture
from ..evaluation.exam import Drawn
from ..figures import CSS, TEMPLATE, html, safe
from ..inference.sampling import samples
from ..metrics import neighbours
from ..metrics.card import GROUPS, Score, short
from ..runs.labels import named
from ..runs.run import AVERAGE, INSIDE, Run
from ..training import doctor
from ..training.snapshots import POINTS
from . import progress
from .terminal import TITLES

PAGE = "report.html"
SHARP, LARGE = 64, 128
"""pixels: images up to the one are shown with square pixels, beyond the other as JPEG, and fewer of them"""
MOMENTS = 8
"""pictures in the row that shows how samples changed"""
FEW_IMAGES, NAMED = 1000, 5
FILM = "One column a moment, one line a sample: the noise is always the same."
FILM_OF_POINTS = "One picture a moment: the noise is always the same."
RIVALS = (  # the weakest first: of each measure only one is named
    ("bits/dim", "independent pixels", "it knows less of these images than a histogram for each pixel"),
    (
        "squared error",
        "mean image",
        "it is worse than the mean image, so that its code carries no information",
    ),
    ("squared error", "PCA", "a linear code of that size, or a smaller one, keeps more"),
)

MEANS = {
    "rate in nats": "cost of an image's latent variables in the bound: near 0 the code is not used",
    "active units": "dimensions of the code whose mean varies over images, by more than 0.01 (Burda et al. "
    "2016, section 5.2)",
}
"""what measures are whose name does not say it"""


def write(run: Run, data: Data, scores: Sequence[Score], drawn: Drawn | None = None) -> Path:
    """Replace report.html in the run's folder; returns its path."""
    storage.write(run.folder / PAGE, page(run, data, scores, drawn).encode())
    return run.folder / PAGE


def page(run: Run, data: Data, scores: Sequence[Score], drawn: Drawn | None = None) -> str:
    """The whole report as one HTML document: the same bytes for the same run, data, scores and samples.

    drawn: the samples that were scored, which are shown; without them some are drawn, of the seed of the
    scores.
    """
    title = f"{run.config.method} on {Path(data.source).name or data.source}"
    sections = [
        html.section("What to look out for", _warnings(run, data, scores)),
        *_pictures(run, data, scores, drawn),
        html.section("While it trained", _findings(run), "What the doctor found; some of it passed."),
        html.section("Over time", _film(run), FILM_OF_POINTS if data.spec.points else FILM),
        html.section(
            "Learning curves",
            _curves(run),
            "Faint: as logged, in means where it is long. Dark: mean of its surroundings. Point at the "
            "line for values.",
        ),
        html.section("Scores", cards(scores, _everywhere(scores)), _setting(scores)),
        html.section("How to make it again", _commands(run)),
        html.section("Data", html.table(_about_data(data))),
        html.section("Options", _options(run)),
    ]
    foot = f"likeness {run.config.facts.get('likeness', '')} · {run.folder.name} · {run.seen:,} images seen"
    return _document(run, data, title, _status(run, data), sections, f"<footer>{safe(foot)}</footer>")


def _document(run: Run, data: Data, title: str, status: str, sections: Sequence[str], foot: str = "") -> str:
    head = (
        f'<p class="kind">likeness</p><h1>{safe(title)}</h1><p '
        f'class="status">{safe(status)}</p>{_facts(run, data)}'
    )
    body = f"<header>{head}</header><main>{''.join(sections)}</main>{foot}"
    return TEMPLATE.format(title=safe(title), css=CSS, body=body)


def draft(run: Run, data: Data, status: str, scores: Sequence[Score]) -> str:
    """The report of a run that is being trained: what it has written down so far, and nothing that its model
    would have to be asked for.  scores: of an earlier evaluation."""
    title = f"{run.config.method} on {Path(data.source).name or data.source}"
    pictures = sorted(p for p in (run.folder / "samples").glob("*.png") if re.fullmatch(r"\d+", p.stem))
    sharp = run.config.spec.size <= SHARP and not data.spec.points
    newest = f'<div class="{"sharp" if sharp else ""}">{_whole(pictures[-1])}</div>' if pictures else ""
    at = f"After {int(pictures[-1].stem):,} images, by the EMA of the weights." if pictures else ""
    sections = [
        html.section("Newest snapshot", newest, at),
        html.section("While it trained", _findings(run), "What the doctor found; some of it passed."),
        html.section("Over time", _film(run), FILM_OF_POINTS if data.spec.points else FILM),
        html.section("Learning curves", _curves(run)),
        html.section("Scores", cards(scores, _everywhere(scores)), _setting(scores)),
        html.section("How to make it again", _commands(run)),
        html.section("Data", html.table(_about_data(data))),
        html.section("Options", _options(run)),
    ]
    return _document(run, data, title, status, sections)


def _whole(picture: Path) -> str:
    """A snapshot as it is."""
    return f'<img class="plane" alt="the newest snapshot" src="{figures.uri(picture.read_bytes())}">'


def _status(run: Run, data: Data) -> str:
    goal = run.config.training.images
    done = "finished" if run.seen >= goal else f"stopped at {run.seen / max(goal, 1):.0%} of {goal:,} images"
    what = "points in the plane" if data.spec.points else f"images of {'×'.join(map(str, data.spec.shape))}"
    return (
        f"{done} · {len(data.train):,} training {what} · answers {', '.join(answers(run.model)) or 'nothing'}"
    )


def _facts(run: Run, data: Data) -> str:
    """The numbers at the top."""
    last: dict[str, float] = next((line["time"] for line in reversed(run.log()) if "time" in line), {})
    weights = sum(p.numel() for p in run.model.parameters())
    known = {
        "images seen": f"{run.seen:,}",
        "passes": f"{run.seen / max(len(data.train), 1):.1f}",
        "training time": duration(run.seconds) if run.seen else "",
        "images a second": f"{last['images_per_second']:,.0f}" if "images_per_second" in last else "",
        "memory": f"{last['memory_mb']:,.0f} MB" if "memory_mb" in last else "",
        "weights": f"{weights:,}",
    } | {
        name: str(run.config.facts[name])
        for name in ("device", "threads", "torch")
        if name in run.config.facts
    }
    return (
        "<dl>"
        + "".join(f"<div><dt>{safe(k)}</dt><dd>{safe(v)}</dd></div>" for k, v in known.items() if v)
        + "</dl>"
    )


def lookout(run: Run, data: Data, scores: Sequence[Score]) -> list[str]:
    """Everything suspicious, a sentence each, and each once."""
    result: dict[str, list[str]] = {}
    for score in scores:
        for text in score.warnings if score.of == "model" else ():
            names = result.setdefault(text, [])
            names += [score.name] if score.name not in names else []
    own = [] if scores else ["It has not been evaluated yet."]
    if len(data.train) < FEW_IMAGES and not data.spec.points:
        own.append(
            f"{len(data.train):,} training images are few: look at the nearest training images below before "
            "believing in new ones."
        )
    own += standing(scores)
    if run.seen < len(data.train):
        own.append("It has not seen every training image once: too early to judge.")
    return own + [f"{text} ({', '.join(names)})" for text, names in result.items()]


def _warnings(run: Run, data: Data, scores: Sequence[Score]) -> str:
    """The same as a list, or the sentence that there was nothing."""
    items = "".join(f"<li>{safe(text)}</li>" for text in lookout(run, data, scores))
    return (
        html.tag("ul", "warn", items)
        if items
        else html.tag("p", "fine", "No check has found anything suspicious.")
    )


def _findings(run: Run) -> str:
    """The doctor's findings during the training."""
    spans = (
        (f"from image {f.since:,} " + ("on" if f.until is None else f"to {f.until:,}"), f.text)
        for f in doctor.history(run)
    )
    items = "".join(f"<li>{safe(span)}: {safe(text)}</li>" for span, text in spans)
    return html.tag("ul", "warn", items) if items else ""


def standing(scores: Sequence[Score]) -> list[str]:
    """Baselines without learning that the model should have left behind, and where its samples are not as
    real images are."""
    known, result = {(s.name, s.of): s.value for s in scores}, dict[str, str]()
    for name, rival, meaning in RIVALS:
        own, others = known.get((name, "model")), known.get((name, rival))
        if own is not None and others is not None and own > others:
            result.setdefault(
                name, f"{name}: the model ({short(own)}) is behind {rival} ({short(others)}); {meaning}."
            )
    asked = [s for s in scores if s.of == "model" and s.floor is not None]
    worse = [s.name for s in asked if s.beyond]
    named = ", ".join(worse[:NAMED]) + (f" and {len(worse) - NAMED} more" if len(worse) > NAMED else "")
    return list(result.values()) + (
        [f"Samples are worse than real images in {len(worse)} of {len(asked)} measures: {named}."]
        if worse
        else []
    )


def _commands(run: Run) -> str:
    c, here = run.config, str(run.folder)
    train, source = ["likeness", "train", c.model], str((c.inside or c.data).get("source", "DATA"))
    wishes = _changed(c.options, {f.name: f.default for f in fields(run.model)}) | _changed(
        asdict(c.training), asdict(type(run.model).defaults)
    )
    wishes |= _changed(c.reading, asdict(Reading()))
    if run.seen:
        wishes["images"] = run.seen
    flags = " ".join(_flag(name, value) for name, value in wishes.items())
    start = f"{shlex.join([*train, source, f'{here}-again'])} {flags}"
    longer = (
        f"{shlex.join([*train, str(run.folder / INSIDE) if c.inside else source, here])} --images "
        f"{2 * max(run.seen, c.training.images)}"
    )
    lines = {
        "from nothing to here, in a new folder": start,
        "to go on": longer,
        "to score it anew": shlex.join(["likeness", "evaluate", here]),
    }
    return html.tag(
        "dl",
        "commands",
        "".join(
            f"<div><dt>{what}</dt><dd><code>{safe(line)}</code></dd></div>" for what, line in lines.items()
        ),
    )


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in defaults or defaults[k] != v}


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return shlex.quote(f"--{flag}" if value else f"--no-{flag}")
    return shlex.join([f"--{flag}", str(value)])


def _about_data(data: Data) -> dict[str, Any]:
    names = ", ".join(data.classes[:20]) + (" …" if len(data.classes) > 20 else "")
    sides = f"{len(data.train):,} to learn from, {len(data.held_out):,} held out"
    known = {
        "source": data.source,
        "verdict": data.verdict,
        "split": sides,
        "classes": f"{len(data.classes)}: {names}" if data.classes else "",
    }
    known["fingerprint"] = data.fingerprint[:16]
    return known if data.spec.points else known | {"levels": data.levels} | data.settings


def _options(run: Run) -> str:
    parts = {
        "model": run.config.options,
        "training": asdict(run.config.training),
        "machine": run.config.facts,
        "first stage": run.config.inside,
    }
    return html.tag(
        "div",
        "columns",
        "".join(
            f"<div><h3>{name}</h3>{html.table(values)}</div>" for name, values in parts.items() if values
        ),
    )


# Scores


def cards(scores: Sequence[Score], same: dict[str, Any] | None = None) -> str:
    """Score cards as an HTML table, measure by measure: the model among its baselines, best first.

    same: settings that all cards of the model share, which are stated elsewhere.
    """
    groups: dict[str, list[Score]] = {}
    order = {name: i for i, name in enumerate(GROUPS)}
    for score in sorted(scores, key=lambda s: order.get(s.group, len(order))):
        groups.setdefault(score.name, []).append(score)
    if not groups:
        return ""
    columns = (
        "whose",
        '<span class="hidden">as a bar</span>',
        "value",
        "95 % interval",
        "images",
        "kind",
        "what it is",
    )
    head = "".join(f'<th scope="col">{c}</th>' for c in columns)
    body = "".join(_measure(name, group, same or {}) for name, group in groups.items())
    return f'<div class="wide"><table class="scores"><thead><tr>{head}</tr></thead>{body}</table></div>'


def _everywhere(scores: Sequence[Score]) -> dict[str, Any]:
    """The settings that all cards of the model have in common."""
    own = [s.settings for s in scores if s.of == "model"]
    return {k: v for k, v in own[0].items() if all(k in s and s[k] == v for s in own)} if own else {}


def _measure(name: str, group: list[Score], same: dict[str, Any]) -> str:
    worst = max((abs(s.value) for s in group if not s.refused), default=0.0)
    upwards = group[0].better == "higher"
    order = sorted(group, key=lambda s: (s.refused, -s.value if upwards else s.value))
    direction = {"lower": "lower is better", "higher": "higher is better", "": ""}[group[0].better]
    shared = group[0].note if len({s.note for s in group}) == 1 else ""
    seen_by = f"features of {group[0].features}, resizing: {group[0].resize}" if group[0].network else ""
    about = "; ".join(filter(None, (group[0].unit, MEANS.get(name), shared, direction, seen_by)))
    heading = (
        f'<tr class="measure"><th scope="rowgroup" colspan="7">{safe(TITLES.get(name, name))} <span '
        f'class="note">{safe(about)}</span></th></tr>'
    )
    return f"<tbody>{heading}{''.join(_row(s, worst, shared, same) for s in order)}</tbody>"


def _row(s: Score, worst: float, shared: str, same: dict[str, Any]) -> str:
    share = 0.0 if s.refused or not worst else 100 * abs(s.value) / worst
    images = f"{s.n:,} {s.split}" + ("" if s.against is None else f" / {s.against:,}")
    between = "" if s.low is None or s.high is None else f"{short(s.low)} – {short(s.high)}"
    settings = ", ".join(f"{k} = {v}" for k, v in s.settings.items() if k != "seen" and k not in same)
    about = "; ".join(filter(None, (s.verdict, "" if s.note == shared else s.note, settings)))
    text = [between, images, "" if s.kind == "measured" else s.kind, s.warning if s.refused else about]
    cells = "".join(f"<td>{safe(c)}</td>" for c in text)
    bar = f'<td class="bar"><span style="width:{share:.1f}%"></span></td>'
    own = ' class="model"' if s.of == "model" else ""
    return (
        f"<tr{own}><th "
        f'scope="row">{safe(s.of)}</th>{bar}<td '
        f'class="value">{safe("refused" if s.refused else short(s.value))}</td>{cells}</tr>'
    )


def _setting(scores: Sequence[Score]) -> str:
    if not scores:
        return ""
    seen = next((s.settings["seen"] for s in scores if "seen" in s.settings), None)
    how = ", ".join(sorted({s.how for s in scores if s.how}))
    at = f" after {seen:,} images seen" if isinstance(seen, int) else ""
    sides = (
        "Where two numbers of images stand, the second is that of the other side: training images, or "
        "held-out ones."
    )
    options = ", ".join(f"{k} = {v}" for k, v in _everywhere(scores).items() if k != "seen")
    at += f", with {options}" if options else ""
    return f"Seed {scores[0].seed}{at}. Intervals: {how or 'none, too few images'}. {sides}"


# Pictures


def _pictures(run: Run, data: Data, scores: Sequence[Score], drawn: Drawn | None) -> list[str]:
    """What the model can show; a question that it refuses leaves its section out."""
    out = []
    for show in (lambda: _samples(run, data, scores, drawn), lambda: _reconstructions(run, data)):
        try:
            out.append(show())
        except Refusal as refusal:
            out.append(html.section("Pictures", f"<p>{safe(refusal)}</p>"))
    return out


def seed_of(scores: Sequence[Score]) -> int:
    """That of the samples to be shown beside scores."""
    return scores[0].seed if scores else 0


def _samples(run: Run, data: Data, scores: Sequence[Score], drawn: Drawn | None) -> str:
    """Samples, those that were scored if there are any, and the training images nearest to them."""
    if "sample" not in answers(run.model):
        return ""
    seed = seed_of(scores) if drawn is None else drawn.seed
    x = samples(run.model, _room(data), seed, data) if drawn is None else picture(drawn.x[: _room(data)])
    n, recipe = len(x), dict(_recipe(run), seed=seed) | ({} if drawn is None else drawn.live)
    how = (f"drawn from {'the EMA of the weights' if run.weights == AVERAGE else run.weights}") + (
        "" if drawn is None else ", as they were scored"
    )
    if data.spec.points:
        lead = f"The first {n:,} of seed {seed}, {how}; pale beneath them as many training points."
        return html.section(
            "Samples",
            _plane(x, data.take(data.train[:n]).x, recipe, f"{n:,} samples over training points"),
            lead,
        )
    labels = None if drawn is None else drawn.labels
    of = [{} if labels is None else named(run.config, int(labels[i])) for i in range(n)]
    tiles = [_img(image, recipe | {"sample": i} | of[i]) for i, image in enumerate(figures.pixels(x))]
    lead = f"The first {n} of seed {seed}, not chosen, {how}."
    return html.section("Samples", _tiles(tiles, data, f"{n} samples"), lead) + _neighbours(
        run, data, x[: _pairs(data)]
    )


def _neighbours(run: Run, data: Data, x: Tensor) -> str:
    """Of the first few samples only: `evaluate` has looked at many."""
    if not len(data.train):
        return ""
    result = neighbours.nearest(
        neighbours.grid(x.numpy(), data.levels), data.x, data.train, 1, run.config.training.mirror
    )
    order = result.distance[:, 0].argsort(kind="stable")
    own, others = figures.pixels(x[order]), figures.pixels(data.take(result.row[order, 0]).x)
    says = [f"{result.distance[i, 0]:.1f} levels apart; training image {result.row[i, 0]}" for i in order]
    pairs = [_pair(run, a, b, text) for a, b, text in zip(own, others, says)]
    lead = (
        f"The first {len(x)} samples, nearest first, each above its nearest training image. If the two are "
        "the same picture, it has been learnt by heart."
    )
    return html.section(
        "Nearest training images",
        _tiles(pairs, data, f"{len(pairs)} samples above their nearest training images"),
        lead,
    )


def _plane(x: Tensor, under: Tensor, recipe: dict[str, Any], alt: str) -> str:
    """One picture of points (N, 2, 1, 1) over others."""
    return (
        f'<img class="plane" alt="{safe(alt)}" '
        f'src="{figures.uri(figures.png(figures.shown(x, under), recipe))}">'
    )


@torch.no_grad()
def _reconstructions(run: Run, data: Data) -> str:
    if not {"encode", "decode"} <= set(answers(run.model)):
        return ""
    rows = data.held_out if len(data.held_out) else data.train
    batch = _placed(run, data.take(np.random.default_rng(0).permutation(rows)[: _pairs(data)]))
    back = run.model.decode(run.model.encode(batch.x)).float().cpu()  # type: ignore[operator]
    if data.spec.points:
        lead = f"{len(back):,} held-out points pale beneath, and what is left of them after the code."
        return html.section(
            "Reconstructions",
            _plane(back, batch.x.cpu(), _recipe(run), "reconstructions over held-out points"),
            lead,
        )
    pairs = zip(figures.pixels(batch.x), figures.pixels(back))
    tiles = [_pair(run, a, b, "") for a, b in pairs]
    lead = (
        f"{'Held-out' if len(data.held_out) else 'Training'} images, chosen by chance, each above what is "
        "left of it after the code."
    )
    return html.section(
        "Reconstructions", _tiles(tiles, data, f"{len(tiles)} images above their reconstructions"), lead
    )


def _placed(run: Run, batch: Batch) -> Batch:
    return engine.put(batch)


def _room(data: Data) -> int:
    """Samples shown."""
    return (
        POINTS if data.spec.points else 64 if data.spec.size <= 32 else 32 if data.spec.size <= LARGE else 12
    )


def _pairs(data: Data) -> int:
    return POINTS if data.spec.points else 16 if data.spec.size <= LARGE else 8


def _recipe(run: Run) -> dict[str, Any]:
    return dict(
        run=run.folder.name,
        model=run.config.model,
        seen=run.seen,
        version=run.config.facts.get("likeness", ""),
    )


def _img(image: np.ndarray, recipe: dict[str, Any]) -> str:
    file = figures.png(image, recipe) if max(image.shape[:2]) <= LARGE else figures.jpeg(image, recipe)
    return f'<img alt="" src="{figures.uri(file)}">'


def _pair(run: Run, above: np.ndarray, below: np.ndarray, says: str) -> str:
    return (
        f'<div class="pair" title="{safe(says)}">{_img(above, _recipe(run))}{_img(below, _recipe(run))}</div>'
    )


def _tiles(tiles: Sequence[str], data: Data, alt: str) -> str:
    """Tiles that flow with the width of the page; sharp where images are small."""
    sharp = " sharp" if data.spec.size <= SHARP else ""
    tile, few = _wide(data.spec.size)
    widths = f"--tile:{tile}px;--few:{few}"
    return (
        f'<div class="tiles{sharp}" role="img" aria-label="{safe(alt)}" '
        f'style="{widths}">{"".join(tiles)}</div>'
    )


def _wide(size: int) -> tuple[int, int]:
    """Pixels of a tile, so that 16, 8 or 4 stand side by side on a wide page; and how many do on
    a telephone."""
    return (56, 8) if size <= 32 else (116, 4) if size <= LARGE else (200, 2)


def _film(run: Run) -> str:
    """A few moments of samples/, each twice as far on as the one before, as far as there are pictures."""
    result = sorted(p for p in (run.folder / "samples").glob("*.png") if re.fullmatch(r"\d+", p.stem))
    moments = [_moment(run, path) for path in _spread(result)]
    tile = 128 if run.config.spec.points else 78 if run.config.spec.size <= 32 else 104
    return (
        (f'<div class="film" style="--n:{len(moments)};--tile:{tile}px">{"".join(moments)}</div>')
        if len(result) > 1
        else ""
    )


def _spread(pictures: list[Path]) -> list[Path]:
    """At most eight, evenly spaced on a logarithmic scale of images seen, first and last among them."""
    if len(pictures) <= MOMENTS:
        return pictures
    seen = np.log(np.maximum(1, [int(p.stem) for p in pictures]))
    wanted = np.linspace(seen[0], seen[-1], MOMENTS)
    return [pictures[i] for i in sorted({int(abs(seen - w).argmin()) for w in wanted})]


def _moment(run: Run, path: Path) -> str:
    """The first samples of one picture, one above the other, or the whole picture if it is no
    grid of ours."""
    try:
        with Image.open(path) as file:
            whole = np.asarray(file.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    size = run.config.spec.size
    tiles = None if run.config.spec.points else figures.ungrid(whole, size)
    shown = [whole] if tiles is None else tiles[: 6 if size <= SHARP else 3 if size <= LARGE else 2]
    images = "".join(_img(tile, {"run": run.folder.name, "seen": int(path.stem)}) for tile in shown)
    label = figures.compact(int(path.stem))
    sharp = " class=sharp" if size <= SHARP and tiles is not None else ""
    return (
        f'<figure{sharp} role="img" '
        'aria-label="after '
        f"{int(path.stem):,} "
        f'images">{images}<figcaption>{label}</figcaption></figure>'
    )


def _curve(table: np.ndarray, name: str, values: np.ndarray, unit: str) -> str:
    return figures.curve(table[:, 0], values, f"{name}, {unit}" if unit else name, "images seen")


def _curves(run: Run) -> str:
    """A chart for each loss and its terms, and for the speed."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in run.log():
        rate = (
            {"images a second": line["time"]["images_per_second"]}
            if "images_per_second" in line.get("time", {})
            else {}
        )
        for name, value in (line.get("losses", {}) | rate).items():
            series.setdefault(name, []).append((line["seen"], value))
    order = sorted(series, key=lambda name: name == "images a second")
    tables = ((name, np.array(series[name], float)) for name in order if len(series[name]) > 1)
    charts = [_curve(t, *progress.measured(name, t[:, 1], run.model.units)) for name, t in tables]
    return html.tag("div", "charts", "".join(charts)) if any(charts) else ""
