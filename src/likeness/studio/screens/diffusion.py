"""Diffusion: an image as it goes into noise and comes out of it.

Forward the page computes itself, from an image, its noise and the levels of the schedule.  Reverse frames are
sent as they are made, and kept here until the next way of the same lane, so that a page that missed some asks
again.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ... import engine
from ...core import Refusal, label_of
from ...inference import diffusion_process, inputs, trajectory
from ...inference.trajectory import Frame, Plan
from ...parts import bounds
from ...parts.denoising import SAMPLERS, Denoising
from ..protocol import Answer, Picture, choice, number, whole
from ._images import chosen, given
from .samples import near, typed

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Args = dict[str, Any]
Arrays = dict[str, np.ndarray]
LANES, BRANCHES, STEPS, KEPT = 2, 64, 1000, 8
TABLE = 513
"""levels of the schedule that a page is told"""
TOGETHER = 8
"""frames in one value, at most"""
SLICE = 0.04
"""seconds between two values"""
NUMBERS = dict(eta=(0.0, 1.0), guidance=(0.0, 50.0), churn=(0.0, 1000.0))
_ways = OrderedDict[str, tuple[object, list[Frame]]]()


def about(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """What can be set of a run's sampler, and the levels of its schedule, evenly spread in log SNR."""
    run, model = _run(desk, args)
    spec, known = run.config.spec, {f.name: f.metadata for f in fields(model) if f.metadata.get("live")}
    low, high = bounds.ends(model.schedule)
    levels = trajectory.levels_between(model.schedule, low, high, TABLE)
    labelled = "label" in model.takes and spec.labels > 0
    yield Answer(
        dict(
            size=spec.size,
            channels=spec.channels,
            levels=spec.levels,
            samplers=list(known["sampler"]["choices"]),
            spacings=list(known["spacing"]["choices"]),
            usual=dict(
                {name: getattr(model, name) for name in ("sampler", "spacing", "eta", "guidance")},
                steps=len(model.levels()) - 1,
            ),
            guided=bool(model.takes) and bool(model.label_dropout),
            takes=list(spec.parts(model.takes)),
            classes=[run.classes[k] for k in spec.learnt] if labelled else [],
            labels=list(spec.learnt) if labelled else [],
            low=low,
            high=high,
            seen=run.run.seen,
        ),
        dict(
            t=np.array([at.t for at in levels], np.float32),
            alpha=np.array([at.alpha for at in levels], np.float32),
            sigma=np.array([at.sigma for at in levels], np.float32),
            log_snr=np.array([at.log_snr for at in levels], np.float32),
        ),
    )


def forward(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """An image and its noise, (C, H, W) each: all that the page needs for x_t at any t."""
    run, _ = _run(desk, args)
    asked = given(run, args, arrays)
    eps = engine.sampling_noise(whole(args, "seed", 0, 2**31 - 1, 0), 0, 1).normal(*run.config.spec.shape)
    label = label_of(asked.batch.y)
    yield Answer(
        dict(
            name=asked.names[0],
            label=None if label is None else int(label[0]),
            command=f"likeness diffuse {typed(run.folder)} --picture forward",
        ),
        dict(x_0=asked.batch.x[0].numpy(), eps=eps[0].cpu().numpy()),
    )


def expect(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """What the model makes of a noisy image at time t, (C, H, W)."""
    run, model = _run(desk, args)
    x, shape = arrays.get("x"), run.config.spec.shape
    if x is None or x.shape != shape or x.dtype != np.float32 or not np.isfinite(x).all():
        raise Refusal(f"a noisy image is an array of shape {shape}.")
    t = number(args, "t", model.schedule.cleanest, model.schedule.noisiest)
    y = run._conditions(_number(args), 1, _label(args))
    device = engine.device()
    with torch.no_grad():
        x_0 = model.denoise(
            torch.from_numpy(x)[None].to(device),
            torch.tensor([t], dtype=torch.float64, device=device),
            None if y is None else y.to(device),
        )
    yield Answer(dict(t=t), dict(x_0=x_0[0].float().cpu().numpy()))


def reverse(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """Frames of one way, or of several from one noise side by side, as they are made: `lanes`, each with its
    options and branches.  Each value has the frames since the last one, by lane."""
    run, _ = _run(desk, args)
    lanes = _lanes(args)
    plans = [_plan(args, lane) for lane in lanes]
    y = run._conditions(_number(args), 1, _label(args))
    steps = [trajectory.count(run.model, plan) for plan in plans]
    ways = [trajectory.frames(run.model, plan, y) for plan in plans]
    kept = [_begin(run, name, args, plan) for name, plan in zip(_names(args, lanes), plans)]
    at, began = [0] * len(lanes), time.monotonic()
    while any(a <= s for a, s in zip(at, steps)):
        fresh = list[tuple[int, Frame]]()
        since = time.monotonic()
        while len(fresh) < TOGETHER and (not fresh or time.monotonic() - since < SLICE):
            left = [i for i in range(len(lanes)) if at[i] <= steps[i]]
            if not left:
                break
            i = min(left, key=lambda i: at[i] / (steps[i] + 1))
            frame = next(ways[i])
            at[i] = frame.step + 1
            if trajectory.keeps(frame.step, steps[i]):
                kept[i].append(frame)
                fresh.append((i, frame))
            elif time.monotonic() - since > SLICE:
                break
        share = sum(at) / (sum(steps) + len(steps))
        spent = time.monotonic() - began
        data = dict(
            steps=steps,
            share=share,
            left=spent * (1 - share) / share if share and sum(at) > 3 * len(at) else None,
            counts=[len(one) for one in kept],
            seen=run.run.seen,
            commands=[_command(run, args, plan) for plan in plans],
        )
        yield _frames(fresh, data)


def again(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """Frames of a lane that are kept here, from number `first` on."""
    run, _ = _run(desk, args)
    lanes = _lanes(args)
    lane = whole(args, "lane", 0, len(lanes) - 1, 0)
    plan = _plan(args, lanes[lane])
    kept = _known(run, _names(args, lanes)[lane], args, plan)
    first = whole(args, "first", 0, 10**6, 0)
    part = kept[first : first + TOGETHER]
    facts = dict(counts=[len(kept)], first=first, command=_command(run, args, plan))
    yield _frames([(lane, frame) for frame in part], facts)


def levels(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """The error of the expected image, and the bits that are gained, by noise level, over held-out images."""
    run, _ = _run(desk, args)
    n = whole(args, "n", 1, 256, 16)
    with torch.no_grad():
        log_snr, error, nats = diffusion_process.by_log_snr(run.run, run.data, n, 0, None)
    area = float(torch.trapezoid(nats, log_snr))
    yield Answer(
        dict(
            n=min(n, len(run.data.held_out)),
            area=area,
            command=f"likeness diffuse {typed(run.folder)} --picture rate -n {n}",
        ),
        {name: v.float().numpy() for name, v in dict(log_snr=log_snr, error=error, nats=nats).items()},
    )


def keep(desk: Desk, args: Args, arrays: Arrays) -> Iterator[Answer]:
    """Save the frames of a lane that there are, as `likeness trace` does; what was cancelled, too."""
    run, model = _run(desk, args)
    lanes = _lanes(args)
    lane = whole(args, "lane", 0, len(lanes) - 1, 0)
    plan = _plan(args, lanes[lane])
    kept = _known(run, _names(args, lanes)[lane], args, plan)
    if not kept:
        y = run._conditions(plan.number, 1, _label(args))
        steps = trajectory.count(run.model, plan)
        kept = [f for f in trajectory.frames(run.model, plan, y) if trajectory.keeps(f.step, steps)]
    recipe = run._recipe(studio=plan.studio(_label(args)), **plan.facts()) | run.named_class(_label(args))
    mark = hashlib.sha256(repr((plan.facts(), _label(args), len(kept))).encode()).hexdigest()[:8]
    target = run.folder / "trajectories" / f"{mark}.png"
    written = trajectory.save(kept, model, target, recipe)
    facts = dict(paths=[near(p) for p in written], frames=len(kept))
    yield Answer(facts | dict(command=_command(run, args, plan)))


def _command(run: Trained, args: Args, plan: Plan) -> str:
    """What draws the same from the command line."""
    words, label = ["likeness", "trace", near(run.folder)], _label(args)
    for flag, chose in (("seed", plan.seed), ("number", plan.number)):
        words += [f"--{flag}", str(chose)] if chose else []
    words += [] if label is None else ["--label", run.classes[label]]
    for flag, chose in plan.live.items():
        words += [f"--{flag}", f"{chose:g}" if isinstance(chose, float) else str(chose)]
    for step, seed in plan.branches:
        words += ["--branch", f"{step}={seed}"]
    return shlex.join(words)


ASKS = dict(
    about=about,
    forward=forward,
    expect=expect,
    reverse=reverse,
    again=again,
    levels=levels,
    keep=keep,
)


# What was asked


def _run(desk: Desk, args: Args) -> tuple[Trained, Denoising]:
    run = desk.run(chosen(args))
    inputs.answer(run.model, "denoise")
    spec = run.config.spec
    if not isinstance(run.model, Denoising) or len(spec.shape) != 3 or spec.points:
        raise Refusal("frames are of images on their way from noise; open the run of a model of images.")
    return run, run.model


def _label(args: Args) -> int | None:
    return None if args.get("label") is None else whole(args, "label", 0, 10**6)


def _number(args: Args) -> int:
    return whole(args, "number", 0, 2**31 - 1, 0)


def _lanes(args: Args) -> list[dict[str, Any]]:
    lanes = args.get("lanes", [{}])
    if (
        not isinstance(lanes, list)
        or not 1 <= len(lanes) <= LANES
        or not all(isinstance(x, dict) for x in lanes)
    ):
        raise Refusal(f"1 to {LANES} lanes are drawn side by side.")
    return lanes


def _plan(args: Args, lane: dict[str, Any]) -> Plan:
    live: dict[str, Any] = {
        name: number(lane, name, *ends) for name, ends in NUMBERS.items() if lane.get(name) is not None
    }
    if lane.get("steps") is not None:
        live["steps"] = whole(lane, "steps", 1, STEPS)
    for name, among in (
        ("sampler", (*SAMPLERS, "jump")),
        ("spacing", ("auto", "even", "karras")),
    ):
        if lane.get(name) is not None:
            live[name] = choice(lane, name, among)
    branches = lane.get("branches", [])
    if not isinstance(branches, list) or len(branches) > BRANCHES:
        raise Refusal(f"a way branches at most {BRANCHES} times.")
    if not all(isinstance(b, list) and len(b) == 2 for b in branches):
        raise Refusal("a branch is the step after which it leaves, and its seed.")
    pairs = [dict(zip(("step", "seed"), b)) for b in branches]
    return Plan(
        whole(args, "seed", 0, 2**31 - 1, 0),
        _number(args),
        live,
        tuple((whole(p, "step", 0, STEPS), whole(p, "seed", 0, 2**31 - 1)) for p in pairs),
    )


# Frames that are kept


def _names(args: Args, lanes: list[dict[str, Any]]) -> list[str]:
    """Of each lane, where its frames are kept: by its place on the page."""
    return [f"{chosen(args)}\n{whole(lane, 'slot', 0, LANES - 1, i)}" for i, lane in enumerate(lanes)]


def _facts(run: Trained, args: Args, plan: Plan) -> tuple[Any, ...]:
    return run.model, plan.facts(), _label(args)


def _begin(run: Trained, name: str, args: Args, plan: Plan) -> list[Frame]:
    kept: list[Frame] = []
    _ways.pop(name, None)
    _ways[name] = (_facts(run, args, plan), kept)
    while len(_ways) > KEPT:
        _ways.popitem(last=False)
    return kept


def _known(run: Trained, name: str, args: Args, plan: Plan) -> list[Frame]:
    facts, kept = _ways.get(name, (None, []))
    return kept if facts == _facts(run, args, plan) else []


def _frames(frames: list[tuple[int, Frame]], data: dict[str, Any]) -> Answer:
    """Their x_t and expected x_0, (frames, C, H, W), and of each its lane, step and level."""
    rows = [
        dict(lane=i, step=f.step, t=f.at.t, alpha=f.at.alpha, sigma=f.at.sigma, log_snr=f.at.log_snr)
        for i, f in frames
    ]
    arrays = dict[str, np.ndarray | Picture]()
    if frames:
        arrays["x"] = np.stack([f.x[0].numpy() for _, f in frames]).astype(np.float32)
        arrays["x_0"] = np.stack([f.x_0[0].numpy() for _, f in frames]).astype(np.float32)
    return Answer(dict(data, frames=rows), arrays)
