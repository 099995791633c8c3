"""Paint: strokes on an image, and what a run makes of them.

Of a run that is searched in codes the answer `set` goes on while one draws: newer strokes are taken into the search
(inference/live.py).  `answer` is what `likeness paint` makes of the same strokes, of any run that can, and `save`
writes its files.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ... import figures, storage
from ...core import BadData, Refusal, answers, final
from ...data.decode import kind
from ...inference import constraints, inputs, manifold, strokes
from ...inference.live import LONG, Live
from ...inference.strokes import GRID, MOST_POINTS, MOST_STROKES, Stroke
from ...reports import paintings
from ..hub import sentences
from ..orders import command
from ..protocol import Answer, Picture, choice, flag, number, text, whole
from ..worker import marked
from .samples import LARGEST, SEEDS, near

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
Shown = dict[str, np.ndarray | Picture]
LIVE = {"set"}
FOLDER, STARTS, KEPT = "edits", "start", ".studio/paint"
"""in the root: what is saved, the images that are drawn on, and the strokes that a reload finds again"""
FIRST, THEN = 0.012, 0.03
"""seconds of search before the next look: of the leading candidate, and of all"""
PEN = 0.15
"""seconds after a change in which the next one is to be expected: a step of all would keep it waiting"""
SESSIONS: OrderedDict[tuple[Any, ...], Live] = OrderedDict()
FOUND: OrderedDict[str, tuple[paintings.Painting, Wish]] = OrderedDict()
"""the last answers, for those who save them"""
SHOWN = 512
"""pixels of the long side of a photograph on the page"""
ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


# What is asked


@dataclass(frozen=True)
class Wish:
    """A question of the page, checked."""

    run: str
    start: Path | None
    strokes: tuple[Stroke, ...]
    """those that are not hidden"""
    weight: dict[str, float]
    how: manifold.How
    version: int

    @property
    def key(self) -> str:
        known = [self.run, str(self.start), [s.facts() for s in self.strokes], self.weight, vars(self.how)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _wish(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Wish:
    weight = args.get("weight", {})
    if not isinstance(weight, dict) or set(weight) - set(constraints.WEIGHTS):
        raise Refusal(f"weight is of: {', '.join(constraints.WEIGHTS)}.")
    heavy = {k: number(weight, k, 0, 1000) for k in constraints.WEIGHTS if k in weight}
    how = manifold.How(
        whole(args, "n", 1, 16, manifold.CANDIDATES),
        whole(args, "steps", 0, 1000, 0),
        number(args, "strength", 0.01, 1, manifold.STRENGTH),
        whole(args, "seed", 0, SEEDS, 0),
    )
    drawn = tuple(s for s, hidden in _strokes(args, arrays) if not hidden)
    version = whole(args, "version", 0, 2**53, 0)
    return Wish(text(args, "run", 1000), _start(desk, args), drawn, heavy, how, version)


def _strokes(args: dict[str, Any], arrays: Arrays) -> list[tuple[Stroke, bool]]:
    """Strokes, and whether each is hidden.  args: kind, count, radius, colour, weight, hidden of each; points: int32
    (N, 2), of one after the other, in 4096ths of the side."""  # noqa: E501
    listed, points = args.get("strokes", []), arrays.get("points", np.zeros((0, 2), np.int32))
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise Refusal("strokes are a list of objects.")
    if len(listed) > MOST_STROKES or len(points) > MOST_POINTS:
        raise Refusal(
            f"there are {len(listed):,} strokes of {len(points):,} points; {MOST_STROKES} strokes and "
            f"{MOST_POINTS:,} points are the most."
        )
    if points.dtype != np.int32 or points.ndim != 2 or points.shape[1] != 2:
        raise Refusal("points are an array of x and y.")
    out, at = list[tuple[Stroke, bool]](), 0
    for one in listed:
        count = whole(one, "count", 1, MOST_POINTS)
        own = (points[at : at + count] / GRID).tolist()
        if len(own) < count:
            raise Refusal("a stroke has more points than came with it.")
        at += count
        known = {k: one[k] for k in ("kind", "radius", "colour", "weight") if one.get(k) is not None}
        (made,) = strokes.some([known | dict(points=own)])
        out.append((made, flag(one, "hidden", False)))
    return out


# The image that is drawn on


def _folder(desk: Desk) -> Path:
    return desk.root / FOLDER / STARTS


def _start(desk: Desk, args: dict[str, Any]) -> Path | None:
    """Its file: a photograph that was brought, or a sample or held-out image, written once."""
    asked = args.get("start", {})
    if not isinstance(asked, dict):
        raise Refusal("start is an object.")
    what = choice(asked, "kind", ("none", "file", "sample", "held"), "none")
    if what == "none":
        return None
    if what == "file":
        name = text(asked, "file", 100)
        if (
            not name
            or Path(name).name != name
            or name.startswith(".")
            or not (_folder(desk) / name).is_file()
        ):
            raise Refusal(f"the image {name[:60]!r} is no longer here; drop it once more.")
        return _folder(desk) / name
    at, run = whole(asked, "number", 0, 10**6, 0), desk.run(text(args, "run", 1000))
    seed = whole(asked, "seed", 0, SEEDS, 0) if what == "sample" else 0
    stem = f"{run.folder.name}-{run.run.seen}-seed-{seed}" if what == "sample" else f"{run.folder.name}-held"
    path = _folder(desk) / f"{stem}-{at:06d}.png"
    if not path.is_file():
        storage.make(path.parent)
        if what == "sample":
            x, facts = final(run.sampling(1, seed, at)).pictures.x, dict(seed=seed, first=at)
        else:
            there = inputs.held_out(run.data, at + 1, 0)
            x, facts = there.batch.x[[at % len(there.names)]], dict(held=at)
        figures.write(path, figures.pixels(x)[0], run._recipe(**facts))
    return path


def bring(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A photograph that somebody brings: kept by its digest, once the run can read it."""
    file = arrays.get("file")
    if file is None or file.dtype != np.uint8 or not 0 < file.size <= LARGEST:
        raise Refusal(f"an image file of up to {LARGEST >> 20} MB is wanted; make it smaller.")
    raw, name = file.tobytes(), text(args, "name", 300, "photo")
    ending = ENDINGS.get(str(kind(raw[:32])).upper())
    if ending is None:
        raise Refusal(f"{name[:60]} is no image file; drop PNG, JPEG, WebP, GIF or BMP.")
    path = _folder(desk) / f"{hashlib.sha256(raw).hexdigest()[:16]}.{ending}"
    there = path.is_file()
    if not there:
        storage.make(path.parent)
        storage.write(path, raw)
    try:
        desk.run(text(args, "run", 1000)).paintable(path)
    except (Refusal, BadData) as why:
        if not there:
            path.unlink(missing_ok=True)
        raise Refusal(str(why).replace(str(path), name[:60])) from None
    yield Answer(dict(start=dict(kind="file", file=path.name)))


def read(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Strokes of a file, as `likeness paint --strokes` reads it, or of a recipe (args strokes)."""
    if (file := arrays.get("file")) is not None:
        if file.dtype != np.uint8 or file.nbytes > strokes.MOST_BYTES:
            raise Refusal(
                f"a file of strokes has {strokes.MOST_BYTES:,} bytes at most; leave out every other point."
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "strokes.json"
            path.write_bytes(file.tobytes())
            try:
                known = strokes.load(path)
            except (Refusal, BadData) as why:
                raise Refusal(str(why).replace(str(path), text(args, "name", 200, "it")[:60])) from None
    else:
        listed = args.get("strokes")
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise Refusal("strokes are a list of objects; drop another picture.")
        known = strokes.some(listed)
    yield _packed([(one, False) for one in known])


def _packed(known: list[tuple[Stroke, bool]], **more: Any) -> Answer:
    """The other way of _strokes()."""
    facts, points = list[dict[str, Any]](), list[np.ndarray]()
    for one, hidden in known:
        points.append(np.floor(np.array(one.points) * GRID + 0.5).astype(np.int32))
        facts.append(
            {k: v for k, v in one.facts().items() if k != "points"}
            | dict(count=len(one.points), hidden=hidden, weight=one.weight)
        )
    every = np.concatenate(points) if points else np.zeros((0, 2), np.int32)
    return Answer(dict(strokes=facts, **more), {"points": every})


# Of a run


def about(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """What the run can do, and the strokes that were on the screen last."""
    run = desk.run(text(args, "run", 1000))
    model, spec = run.model, run.config.spec
    family = manifold.family(model)
    line = constraints.compiled([strokes.parse("sketch:line:0.2,0.5 0.8,0.5")], spec.channels, spec.size)
    refused = dict[str, str]()
    try:
        manifold.check(model, replace(line, start=torch.zeros(spec.shape)))
    except Refusal as why:
        refused["sketch"] = str(why)
    try:
        held = len(run.data.held_out) > 0
    except Refusal:  # its images are gone
        held = False
    known, listed = _kept(desk, args)
    facts = dict(
        family=family,
        by=manifold.FAMILIES[family],
        live=family == "codes",
        size=spec.size,
        channels=spec.channels,
        samples="sample" in answers(model),
        held=held,
        needs_image=family == "codes" and "sample" not in answers(model),
        refused=refused,
        weights=constraints.WEIGHTS,
        strength=manifold.STRENGTH,
        most=dict(strokes=MOST_STROKES, points=MOST_POINTS),
        long=LONG,
    )
    yield _packed(listed, **facts, kept=known)


def _state(desk: Desk, run: str) -> Path:
    return desk.root / KEPT / f"{hashlib.sha256(run.encode()).hexdigest()[:16]}.json"


def _keep(desk: Desk, args: dict[str, Any], arrays: Arrays) -> None:
    """What a reload is to find again."""
    path = _state(desk, text(args, "run", 1000))
    kept = {k: args[k] for k in ("start", "strokes", "weight", "seed", "n", "strength") if k in args}
    storage.make(path.parent)
    storage.write(path, json.dumps(kept | dict(points=arrays.get("points", np.zeros(0)).tolist())).encode())


def _kept(desk: Desk, args: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[Stroke, bool]]]:
    try:
        known = json.loads(_state(desk, text(args, "run", 1000)).read_text())
        points = np.array(known.pop("points"), np.int32).reshape(-1, 2)
        return known, _strokes(known, dict(points=points))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, Refusal):
        return {}, []


# While one draws


def set_(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The candidates, ever better, until they are at rest; newer questions of the key are taken up."""
    key = text(args, "key", 100)
    refused: tuple[int, dict[str, str]] = (0, {})
    newest: tuple[dict[str, Any], Arrays] | None = (args, arrays)
    wish, session, since = None, None, 0.0
    while True:
        changed = newest is not None
        if newest is not None:
            try:
                wish = _wish(desk, *newest)
                if flag(newest[0], "rest", False):
                    _keep(desk, *newest)
                run = desk.run(wish.run)
                if manifold.family(run.model) != "codes":
                    yield _still(run, wish, refused)
                    session = None
                else:
                    session = yield from _session(desk, run, wish)
                    session.pick(_picked(newest[0], wish.how.n))
                    session.ask(wish.strokes, wish.weight)
            except (Refusal, BadData) as why:
                if session is None:
                    raise
                what, reason, do = sentences(str(why))
                refused = refused[0] + 1, dict(what=what, why=reason, do=do)
        assert wish is not None
        if session is not None:
            since = time.perf_counter() if changed else since
            leader = not session.resting and time.perf_counter() - since < PEN
            if leader:
                session.quick(FIRST)
            else:
                session.walk(THEN)
            yield _frame(session, wish, refused, leader)
        waiting = desk.inbox(key)
        newest = waiting[-1][1:] if waiting else None
        if newest is None and (session is None or session.resting):
            return


def _picked(args: dict[str, Any], n: int) -> int | None:
    return None if args.get("pick") is None else whole(args, "pick", 0, n - 1)


def _session(desk: Desk, run: Trained, wish: Wish) -> Any:
    """The search of that run and image: one that is there, or a new one, which yields how far it is."""
    key = _key(desk, wish)
    if key not in SESSIONS:
        start = None if wish.start is None else run.paintable(wish.start)
        line = [Stroke("sketch", ((0.5, 0.5),), 0.1)]
        manifold.check(run.model, replace(constraints.compiled(line, *_sizes(run)), start=start))
        new = Live(run.model, start, wish.how, run.encoder())
        for at in new.begin():
            shown: Shown = {} if start is None else {"start": _pixels(start), "back": _pixels(at.x)}
            yield Answer(dict(version=wish.version, begins=at.share), shown)
        SESSIONS[key] = new
        while len(SESSIONS) > 3:
            SESSIONS.popitem(last=False)
    SESSIONS.move_to_end(key)
    return SESSIONS[key]


def _sizes(run: Trained) -> tuple[int, int]:
    return run.config.spec.channels, run.config.spec.size


def _key(desk: Desk, wish: Wish) -> tuple[Any, ...]:
    return wish.run, marked(desk.root / wish.run), str(wish.start), wish.how.n, wish.how.seed


def _pixels(x: Tensor) -> np.ndarray:
    """uint8 (H, W, C)."""
    return figures.pixels(x[None])[0]


def _still(run: Trained, wish: Wish, refused: Any) -> Answer:
    """Of a run that answers on a button: whether it takes the strokes, and the image."""
    start = None if wish.start is None else run.paintable(wish.start)
    if wish.strokes:
        c = constraints.compiled(wish.strokes, *_sizes(run), start, wish.weight)
        manifold.check(run.model, c)
    shown: Shown = {} if start is None else {"start": _pixels(start)}
    return Answer(dict(version=wish.version, refused=refused, resting=True, **_told(wish)), shown)


def _told(wish: Wish) -> dict[str, Any]:
    return dict(start="" if wish.start is None else wish.start.name, strokes=len(wish.strokes))


def _frame(live: Live, wish: Wish, refused: Any, leader: bool) -> Answer:
    """leader: that one alone, while strokes grow."""
    order = live.order.tolist()
    off = live.least[live.order].tolist()
    arrays: Shown
    if leader:
        arrays = {"leader": _pixels(live.images[live.lead].cpu())}
    else:
        arrays = {"images": figures.pixels(live.images[live.order].cpu())}
    if live.start is not None and live.back is not None:
        arrays |= {"start": _pixels(live.start.cpu()), "back": _pixels(live.back)}
    data = dict(
        version=wish.version, order=order, off=off, lead=live.lead, wrong=live.wrong, note=live.note,
        share=min(1.0, float(live.age.mean()) / LONG), resting=live.resting, refused=refused, **_told(wish),
    )  # fmt: skip
    return Answer(data, arrays)


def morph(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The way of a candidate, uint8 (T, H, W, C): of an answer (args answer, at), or of the search (pick)."""
    if name := text(args, "answer", 16, ""):
        made, _ = _found(name)
        way = made.painted.way(whole(args, "at", 0, len(made) - 1, 0))
    else:
        wish = _wish(desk, args, arrays)
        if (live := SESSIONS.get(_key(desk, wish))) is None:
            raise Refusal("that search is no longer in memory; draw once more.")
        picked = _picked(args, len(live.best))
        way = live.way(int(live.order[0]) if picked is None else picked)
    yield Answer(dict(frames=len(way)), {"images": figures.pixels(way)})


# As the command does it


def answer(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """What `likeness paint` makes of the strokes, with the candidates on their way."""
    wish = _wish(desk, args, arrays)
    run = desk.run(wish.run)
    known = FOUND.get(wish.key)
    made = None if known is None else known[0]
    if made is None:
        yield Answer(dict(share=0.0, final=False))
        image = None if wish.start is None else near(wish.start)
        for at in run.painting(wish.strokes, image, wish.how, wish.weight):
            if isinstance(at, paintings.Painting):
                made = at
            else:
                yield Answer(
                    dict(share=min(at.share, 0.999), final=False), {"images": figures.pixels(at.x.cpu())}
                )
        assert made is not None
        FOUND[wish.key] = made, wish
        while len(FOUND) > 4:
            FOUND.popitem(last=False)
    data = dict(
        share=1.0, final=True, answer=wish.key, off=made.painted.off.tolist(), notes=list(made.painted.notes),
        terms={name: float(term[0]) for name, term in made.painted.terms.items()}, wrong=made.painted.wrong,
        photo=made.photo is not None,
    )  # fmt: skip
    yield Answer(data, {"images": figures.pixels(made.x)})


def _found(name: str) -> tuple[paintings.Painting, Wish]:
    if name not in FOUND:
        raise Refusal("that answer is no longer in memory; paint once more.")
    return FOUND[name]


def save(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An answer as the files of its command, in a folder of its own; of a photograph what became of it."""
    made, wish = _found(text(args, "answer", 16))
    pick, run = whole(args, "at", 0, len(made) - 1, 0), desk.run(wish.run)
    if pick:
        made = paintings.picked(made, pick, run.config.spec)
    target = _free(desk.root / FOLDER, run.folder.name)
    file = target / "strokes.json"
    facts = dict(schema=strokes.SCHEMA, strokes=paintings.described(wish.strokes))
    storage.write(file, json.dumps(facts, indent=1).encode())
    made.save(near(target))
    shown: Shown = {}
    if made.photo is not None and made.applied is not None:
        shown = {
            "before": paintings.shown(made.photo),
            "after": paintings.shown(made.applied.x),
            "share": paintings.shown_share(made.applied, made.photo),
        }
    share = None if made.applied is None else float(made.applied.share.mean())
    yield Answer(
        dict(saved=near(target), command=_command(run, wish, pick, file, target), share=share), shown
    )


def _command(run: Trained, wish: Wish, pick: int, file: Path, target: Path) -> str:
    how, words = wish.how, [near(run.folder), *([] if wish.start is None else [near(wish.start)])]
    words += ["--strokes", near(file)]
    words += [] if how.n == manifold.CANDIDATES else ["-n", str(how.n)]
    words += ["--steps", str(how.steps)] if how.steps else []
    words += [] if how.strength == manifold.STRENGTH else ["--strength", repr(how.strength)]
    words += ["--seed", str(how.seed)] if how.seed else []
    words += [f"--weight={name}={value!r}" for name, value in wish.weight.items()]
    words += ["--pick", str(pick + 1)] if pick else []
    return command("paint", *words, "-o", near(target))


def _free(root: Path, stem: str) -> Path:
    """A new folder; nothing is overwritten."""
    storage.make(root)
    for at in range(1, 10**6):
        path = root / f"{stem}-{at}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise Refusal(f"{near(root)} is full; delete some of what is there.")


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    "about": about,
    "bring": bring,
    "read": read,
    "set": set_,
    "morph": morph,
    "answer": answer,
    "save": save,
}
