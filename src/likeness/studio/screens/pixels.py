"""Pixel by pixel: an image as an autoregressive model draws it, or judges it.

The page is the clock: it asks for as many sub-pixels as its pace wants, and an image is a function of its
plan, so that a pause, a reload or a lost worker changes nothing.  The drawings that were asked about last are
kept, to go on from where they are.
"""

from __future__ import annotations

import shlex
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ... import figures
from ...core import Condition, Model, Refusal, label_of
from ...inference import inputs, receptive_field, score
from ...inference.pixel_by_pixel import Drawing, Place, Plan, possible, save
from ...parts.conditionals import level, value
from ..protocol import Answer, Picture, choice, number, whole
from ._images import chosen, given
from .samples import near, typed

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Args = dict[str, Any]
Arrays = dict[str, np.ndarray]
SLICE = 0.04
"""seconds between two values of a drawing"""
KEPT = 4
"""drawings that go on from where they are"""
DRAWS, FIXED, HEATS = 16, 4096, 1000
"""branches at once, sub-pixels that are fixed, and changes of temperature, at most"""
_drawings = OrderedDict[tuple[Any, ...], tuple[Model, Drawing]]()


def about(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """What the images of a run are."""
    run = _run(desk, args)
    spec, labelled = run.config.spec, "label" in run.model.takes and run.config.spec.labels > 0
    if len(spec.shape) != 3 or spec.points:
        raise Refusal("clips and points are not drawn pixel by pixel; open the run of a model of images.")
    yield Answer(
        dict(
            size=spec.size,
            channels=spec.channels,
            levels=spec.levels,
            symbols=spec.symbols,
            classes=[run.classes[k] for k in spec.learnt] if labelled else [],
            labels=list(spec.learnt) if labelled else [],
            temperature=float(getattr(run.model, "temperature", 1.0)),
            seen=run.run.seen,
        )
    )


def draw(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """The image of a plan up to sub-pixel `upto`, in values of SLICE seconds each."""
    run = _run(desk, args)
    plan, dims = _plan(run, args, arrays), run.config.spec.dims
    upto = whole(args, "upto", 0, dims)
    drawing = _drawing(run, plan, args, upto)
    while True:
        began = time.monotonic()
        while drawing.place < upto and time.monotonic() - began < SLICE:
            drawing.step()
        answer = _answer(run, drawing)
        answer.data["command"] = _command(run, plan, args, drawing.place)
        yield answer
        if drawing.place >= upto:
            return


def branch(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """`draws` ways to go on from an image of which the first `known` pixels are there, as `likeness complete`
    draws them."""
    run = _run(desk, args)
    draws = whole(args, "draws", 1, DRAWS, 4)
    plan = replace(_plan(run, args, arrays), number=0)
    if not plan.known:
        plan = replace(plan, start=None)
    drawing = Drawing(run.model, plan, _told(run, args, draws), draws)
    while not drawing.done:
        began = time.monotonic()
        while not drawing.done and time.monotonic() - began < SLICE:
            drawing.step()
        yield _answer(run, drawing)


def at(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """What the model held possible at one sub-pixel of an image, given those before it."""
    run = _run(desk, args)
    x, place = _image(run, arrays, "levels"), _place(run, args)
    log_p = possible(run.model, x[None].to(_weight(run)), place, _told(run, args))[0]
    k = int(level(x[place.channel, place.row, place.column], run.config.spec.levels))
    yield Answer(
        dict(place._asdict(), level=k, p=float(log_p[k].exp())), dict(p=log_p.exp().float().cpu().numpy())
    )


def field(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """Which pixels the prediction of one depends on in this image, and how much."""
    run = _run(desk, args)
    inputs.answer(run.model, "surprise")
    x, place = _image(run, arrays, "levels"), _place(run, args)
    seen = receptive_field.at(run.model, x[None], _told(run, args), place.row, place.column)
    yield Answer(
        dict(seen.as_dict(), says=seen.says, command=f"likeness field {typed(run.folder)}"),
        dict(influence=seen.influence.numpy().astype(np.float32)),
    )


def judge(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """An image of the run's data, or one's own, as `likeness score` judges it: bits of every sub-pixel."""
    run = _run(desk, args)
    asked = given(run, args, arrays)
    label = _label(args)
    y = asked.batch.y if label is None else run._conditions(0, 1, label)
    if "label" in run.model.takes and label_of(y) is None:
        raise Refusal("a class-conditional model judges an image of a class; choose one beside the image.")
    asked = asked._replace(batch=replace(asked.batch, y=None if y is None else y.only(run.model.takes)))
    held = (
        inputs.held_out(run.data, score.REFERENCE, 0)
        if choice(args, "rank", ("yes", "no"), "no") == "yes"
        else None
    )
    scored = score.score(run.model, asked, held, True, {})
    assert scored.surprise is not None and scored.entropy is not None
    row = scored.rows()[0]
    yield Answer(
        dict(
            row,
            place=run.config.spec.dims,
            bits=float(row["bits"]),
            kind=scored.kind,
            against=scored.against,
            command=shlex.join(["likeness", "score", near(run.folder), *_own(args)]),
            label=None if label_of(y) is None else int(cast(Any, label_of(y))[0]),
            seen=run.run.seen,
        ),
        dict(
            levels=level(scored.x, run.config.spec.levels).numpy().astype(np.int32),
            bits=scored.surprise.numpy().astype(np.float32),
            entropy=scored.entropy.numpy().astype(np.float32),
        ),
    )


def image(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """The levels of an image, to begin a completion from."""
    run = _run(desk, args)
    asked = given(run, args, arrays)
    label = label_of(asked.batch.y)
    yield Answer(
        dict(name=asked.names[0], label=None if label is None else int(label[0])),
        dict(levels=level(asked.batch.x, run.config.spec.levels).numpy().astype(np.int32)),
    )


def keep(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """Save what is drawn, as `likeness trace` does, and beside it what it began from, if that is an image."""
    run = _run(desk, args)
    plan, upto = _plan(run, args, arrays), whole(args, "upto", 0, run.config.spec.dims)
    drawing = _drawing(run, plan, args, upto).to(upto)
    label, levels = _label(args), run.config.spec.levels
    recipe = run._recipe(upto=upto, of=_of(args), studio=plan.studio(upto, _of(args), label, levels))
    recipe |= run.named_class(label)
    target = run.folder / "samples" / f"pixels-{_digest(plan, args, upto)}.png"
    written = list(save(drawing, target, recipe))
    if plan.start is not None:
        written.append(target.with_name(f"{target.stem}-start.png"))
        figures.write(written[-1], figures.pixels(plan.start[None])[0], recipe)
    yield Answer(
        dict(paths=[near(p) for p in written], place=drawing.place, command=_command(run, plan, args, upto))
    )


def _own(args: Args) -> list[str]:
    """The file of one's own image, as it was called."""
    return [str(args["name"])] if args.get("name") and args.get("held") is None else []


def _command(run: Trained, plan: Plan, args: Args, upto: int) -> str:
    """What draws the same from the command line."""
    spec, words = run.config.spec, ["likeness", "trace", near(run.folder)]
    if plan.known:
        words += [near(run.folder / "samples" / f"pixels-{_digest(plan, args, upto)}-start.png")]
        words += ["--known", str(plan.known)]
    for flag, chose in (("seed", plan.seed), ("number", plan.number), ("of", _of(args))):
        words += [f"--{flag}", str(chose)] if chose else []
    label = _label(args)
    words += [] if label is None else ["--label", run.classes[label]]
    for k, v in sorted(plan.fixed.items()):
        at = Place.number(k, spec.channels, spec.size)
        words += ["--fix", ",".join(str(i + 1) for i in at) + f"={v}"]
    words += [] if plan.heat[0][1] == 1 else ["--temperature", f"{plan.heat[0][1]:g}"]
    for k, t in plan.heat[1:]:
        words += [
            "--heat",
            ",".join(str(i + 1) for i in Place.number(k, spec.channels, spec.size)) + f"={t:g}",
        ]
    words += [] if upto == spec.dims else ["--until", str(upto)]
    return shlex.join(words)


ASKS = dict(about=about, draw=draw, branch=branch, at=at, field=field, judge=judge, image=image, keep=keep)


# What was asked


def _run(desk: Desk, args: Args) -> Trained:
    run = desk.run(chosen(args))
    inputs.answer(run.model, "predictive")
    return run


def _label(args: Args) -> int | None:
    return None if args.get("label") is None else whole(args, "label", 0, 10**6)


def _of(args: Args) -> int:
    """The sample whose class and text an image has."""
    return whole(args, "of", 0, 2**31 - 1, 0)


def _told(run: Trained, args: Args, draws: int = 1) -> Condition | None:
    y = run._conditions(_of(args), 1, _label(args))
    return None if y is None else y.to(_weight(run).device).repeat(draws)


def _weight(run: Trained) -> torch.Tensor:
    return next(run.model.parameters())


def _place(run: Trained, args: Args) -> Place:
    n, c = run.config.spec.size - 1, run.config.spec.channels - 1
    return Place(whole(args, "row", 0, n), whole(args, "column", 0, n), whole(args, "channel", 0, c, 0))


def _image(run: Trained, arrays: Arrays, name: str) -> torch.Tensor:
    """An image by its levels, (C, H, W); where nothing is drawn yet, by the lowest."""
    spec, levels = run.config.spec, arrays.get(name)
    if levels is None or levels.shape != spec.shape or levels.dtype != np.int32:
        raise Refusal(f"an image is an array of levels of shape {spec.shape}.")
    if levels.min() < -1 or levels.max() >= spec.levels:
        raise Refusal(f"levels lie between 0 and {spec.levels - 1}.")
    return value(torch.from_numpy(levels).clamp(min=0).float(), spec.levels)


def _plan(run: Trained, args: Args, arrays: Arrays) -> Plan:
    spec, fixed, heat = run.config.spec, args.get("fixed", {}), args.get("heat", [[0, 1.0]])
    known = whole(args, "known", 0, spec.size**2, 0)
    if not isinstance(fixed, dict) or len(fixed) > FIXED:
        raise Refusal(f"at most {FIXED:,} sub-pixels are fixed.")
    if not isinstance(heat, list) or not 0 < len(heat) <= HEATS:
        raise Refusal(f"the temperature changes at most {HEATS:,} times.")
    pairs = [[whole(dict(p=k), "p", 0, spec.dims - 1), v] for k, v in _numbered(fixed)]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in heat):
        raise Refusal("a temperature stands beside the sub-pixel from which on it counts.")
    return Plan(
        whole(args, "seed", 0, 2**31 - 1, 0),
        whole(args, "number", 0, 2**31 - 1, 0),
        known,
        _image(run, arrays, "start") if known else None,
        {k: whole(dict(level=v), "level", 0, spec.levels - 1) for k, v in pairs},
        tuple(
            (
                whole(dict(place=p), "place", 0, spec.dims),
                number(dict(temperature=t), "temperature", 0.01, 100),
            )
            for p, t in heat
        ),
    )


def _numbered(fixed: dict[str, Any]) -> list[tuple[int, Any]]:
    try:
        return [(int(k), v) for k, v in fixed.items()]
    except ValueError:
        raise Refusal("sub-pixels are named by their number.") from None


# What is drawn


def _drawing(run: Trained, plan: Plan, args: Args, upto: int) -> Drawing:
    """The kept one of the same plan, if it has not gone beyond what is asked for; else one from the start."""
    begin = b"" if plan.start is None else plan.start.numpy().tobytes()
    key = (chosen(args), plan.seed, plan.number, plan.known, _label(args), _of(args), begin)
    model, drawing = _drawings.pop(key, (None, None))
    if drawing is None or model is not run.model or not _same(drawing.plan, plan, drawing.place, upto):
        drawing = Drawing(run.model, plan, _told(run, args))
    drawing.plan = plan
    _drawings[key] = (run.model, drawing)
    while len(_drawings) > KEPT:
        _drawings.popitem(last=False)
    return drawing


def _same(old: Plan, new: Plan, place: int, upto: int) -> bool:
    """Whether the old plan has led to `place` as the new one would."""

    def past(plan: Plan) -> tuple[Any, ...]:
        heat: list[float] = [
            plan.temperature(at) for at in sorted({0, *(p for p, _ in (*old.heat, *new.heat))}) if at < place
        ]
        return {k: v for k, v in plan.fixed.items() if k < place}, heat

    return place <= upto and past(old) == past(new)


def _answer(run: Trained, drawing: Drawing) -> Answer:
    spec, total = run.config.spec, drawing.total
    maps = dict(
        levels=drawing.levels, bits=drawing.bits.numpy().copy(), entropy=drawing.entropy.numpy().copy()
    )
    data: dict[str, Any] = dict(place=drawing.place, bits=total.tolist(), seen=run.run.seen)
    alone = len(drawing.x) == 1
    if alone:
        data["bits"] = float(total[0])
    arrays: dict[str, np.ndarray | Picture] = {n: m[0] if alone else m for n, m in maps.items()}
    if drawing.log_p is not None:
        last = Place.number(drawing.place - 1, spec.channels, spec.size)
        data["last"] = last._asdict()
        arrays["p"] = drawing.log_p[0].exp().float().cpu().numpy()
    return Answer(data, arrays)


def _digest(plan: Plan, args: Args, upto: int) -> str:
    """Eight letters that the same plan always has."""
    import hashlib

    begin = b"" if plan.start is None else plan.start.numpy().tobytes()
    facts = repr((plan.facts(), _label(args), _of(args), upto)).encode()
    return hashlib.sha256(facts + begin).hexdigest()[:8]
