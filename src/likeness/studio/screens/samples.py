"""Samples and latent space of a run: grid, nearest training images, likelihood; plane, sliders, path, sums.

Everything here is what `likeness sample`, `score` and `walk` do, and each answer has the command for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import figures, storage
from ...core import Refusal, answers, final, option_fields
from ...data.decode import kind
from ...inference import nearest, walk
from ...inference.walk import DIRECTIONS, Walk
from ..protocol import Answer, Picture, choice, flag, number, text, whole

if TYPE_CHECKING:
    from ...api import Trained
    from ...reports.notebook import Pictures
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
OFTEN = 0.1
"""seconds between two looks at images that are being drawn"""
LARGEST = 32 << 20
"""bytes of an image that somebody brings"""
SEEDS, MANY = 2**31 - 1, 256
KEPT, OWN, PATHS = "samples/keep", "samples/own", "paths"
"""folders in a run"""
OWN_NAME = re.compile(r"own/[0-9a-f]{16}\.(png|jpg|webp|gif|bmp)")
FILMS = {"gif": "image/gif", "apng": "image/apng"}


def near(path: Path) -> str:
    """The path as seen from the folder where the studio was started."""
    with_dots = os.path.relpath(path)
    return str(path) if with_dots.startswith("..") else with_dots


def typed(path: Path) -> str:
    """As somebody would type it there."""
    return shlex.quote(near(path))


def _run(desk: Desk, args: dict[str, Any]) -> Trained:
    return desk.run(text(args, "run", 1000))


def _seen(desk: Desk, args: dict[str, Any], run: Trained, **facts: Any) -> dict[str, Any]:
    """What every answer says: of which weights it is, and whether training has moved on."""
    return dict(seen=run.run.seen, fresh=desk.fresh(args["run"])) | facts


# What the screen may show


def about(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Of a run: which tabs it has, and why not the others."""
    run = _run(desk, args)
    able, spec, model = answers(run.model), run.config.spec, run.model
    why, flat, latent = "", False, 0
    try:
        codes = run.space
        flat, latent = codes.flat, codes.latent
    except Refusal as refusal:
        why = str(refusal)
    conditional = "label" in model.takes and bool(spec.labels)
    yield Answer(
        _seen(
            desk,
            args,
            run,
            model=run.config.model,
            latent=latent,
            flat=flat,
            no_codes=why,
            samples="sample" in able,
            likelihood="bits_per_dim" in able,
            encodes="encode" in able,
            conditional=conditional,
            classes=list(run.classes) if conditional else [],
            tiles=not spec.points and not spec.frames,
            size=spec.size,
            options=options(type(model), model),
        )
    )


def options(kind: type, model: Any) -> list[dict[str, Any]]:
    """Those that may be set on a trained model, as a form takes them; what the run has is their default."""
    return [
        dict(
            name=f.name,
            default=getattr(model, f.name),
            whole=isinstance(getattr(model, f.name), int) and not isinstance(getattr(model, f.name), bool),
            **{k: f.metadata[k] for k in ("help", "low", "high", "choices")},
        )
        for f in option_fields(kind, live=True)
    ]


def _live(run: Trained, args: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Options that differ from the run's, and their flags."""
    asked, live, words = args.get("live", {}), dict[str, Any](), list[str]()
    if not isinstance(asked, dict):
        raise Refusal("live is an object of options.")
    for known in options(type(run.model), run.model):
        name, usual = known["name"], known["default"]
        value = asked.get(name, usual)
        if (
            isinstance(usual, int)
            and not isinstance(usual, bool)
            and isinstance(value, float)
            and value.is_integer()
        ):
            value = int(value)
        if value == usual:
            continue
        dashed = name.replace("_", "-")
        live[name] = value
        words += (
            [f"--{'' if value else 'no-'}{dashed}"]
            if isinstance(value, bool)
            else [f"--{dashed}", str(value)]
        )
    return live, shlex.join(words)


# Grid


def _asked(run: Trained, args: dict[str, Any]) -> dict[str, Any]:
    """n, seed, first and class of samples, checked."""
    return dict(
        n=whole(args, "n", 1, MANY, 64),
        seed=whole(args, "seed", 0, SEEDS, 0),
        first=whole(args, "first", 0, SEEDS, 0),
        label=text(args, "label", 200, "") or None,
    )


def _command(run: Trained, verb: str, *words: str) -> str:
    return " ".join(["likeness", verb, typed(run.folder), *filter(None, words)])


def _sampling_words(asked: dict[str, Any], flags: str) -> str:
    label = f"--label {shlex.quote(asked['label'])}" if asked["label"] else ""
    first = f"--first {asked['first']}" if asked["first"] else ""
    return " ".join(filter(None, [f"-n {asked['n']} --seed {asked['seed']}", first, label, flags]))


def _stages(
    run: Trained, asked: dict[str, Any], live: dict[str, Any]
) -> Iterator[tuple[float, Callable[[], Pictures]]]:
    """Ever better samples, each made when it is looked at; of a model that only decodes images of codes."""
    if "sample" in answers(run.model):
        for stage in run.sampling(asked["n"], asked["seed"], asked["first"], asked["label"], **live):
            yield stage.share, lambda stage=stage: stage.pictures  # type: ignore[misc]
    else:
        numbers_of = [str(asked["first"] + i) for i in range(asked["n"])]
        drawn = run.walk("images", numbers_of, seed=asked["seed"], label=asked["label"])
        yield 1.0, lambda: drawn


def grid(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Samples first ... first+n-1 of a seed, ever better: uint8 (n, H, W, 3), or one page where they are no
    images."""
    run = _run(desk, args)
    asked, (live, flags) = _asked(run, args), _live(run, args)
    facts = dict(**asked, command=_grid_command(run, asked, flags))
    last, stage = 0.0, None
    for share, stage in _stages(run, asked, live):
        if time.perf_counter() - last > OFTEN:
            yield _shown(desk, args, run, stage(), facts, share)
            last = time.perf_counter()
    assert stage is not None
    yield _shown(desk, args, run, stage(), facts, 1.0)


def _grid_command(run: Trained, asked: dict[str, Any], flags: str) -> str:
    if "sample" in answers(run.model):
        return _command(run, "sample", _sampling_words(asked, flags))
    return _command(run, "walk", f"images -n {asked['n']} --seed {asked['seed']}")


def _shown(
    desk: Desk, args: dict[str, Any], run: Trained, drawn: Pictures, facts: dict[str, Any], share: float
) -> Answer:
    data = _seen(desk, args, run, share=share, drawn=len(drawn), **facts)
    if drawn.points or drawn.clips:
        return Answer(data, {"page": Picture(figures.png(drawn._page(), {}), "image/png")})
    return Answer(data, {"images": figures.pixels(drawn.x)})


def save(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The grid as the file that the command writes."""
    run = _run(desk, args)
    asked, (live, flags) = _asked(run, args), _live(run, args)
    drawn = final(_stages(run, asked, live))[1]()
    first = f"-first-{asked['first']}" if asked["first"] else ""
    path = run.folder / "samples" / f"seed-{asked['seed']}{first}-n-{asked['n']}.png"
    drawn.save(path)
    yield Answer(dict(saved=typed(path), command=_grid_command(run, asked, flags)))


def keep(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """One sample as a file of its own, named by its number."""
    run = _run(desk, args)
    asked, (live, flags) = _asked(run, args) | dict(n=1), _live(run, args)
    folder = run.folder / KEPT / f"seed-{asked['seed']}"
    drawn = final(_stages(run, asked, live))[1]()
    drawn.save(folder if "sample" in answers(run.model) else folder / f"{asked['first']:06d}.png")
    command = _command(run, "sample", _sampling_words(asked, flags), f"-o {typed(folder)}/")
    yield Answer(dict(saved=typed(folder / f"{asked['first']:06d}.png"), command=command))


def closest(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A sample, and the training image that is nearest to it, with its distance in levels."""
    run = _run(desk, args)
    asked, (live, flags) = _asked(run, args) | dict(n=1), _live(run, args)
    drawn = final(_stages(run, asked, live))[1]()
    found = nearest.of(drawn.x, run.data, run.config.training.mirror)
    row, levels = int(found.row[0, 0]), float(found.distance[0, 0])
    names = run.data.names
    yield Answer(
        dict(
            row=row,
            distance=levels,
            name=f"image {row}" if names is None else names[row],
            number=asked["first"],
            command=_command(run, "sample", _sampling_words(asked, flags), "--nearest"),
        ),
        {"sample": figures.pixels(drawn.x), "image": figures.pixels(run.data.take(found.row[0]).x)},
    )


def likelihood(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """-log2 p of a sample in bits a dimension, and its rank among held-out images, as `likeness score` of its
    file has them; or that the family has none."""
    run = _run(desk, args)
    if "bits_per_dim" not in answers(run.model):
        yield Answer(dict(bits=None, says="no likelihood"))
        return
    asked, (live, _) = _asked(run, args) | dict(n=1), _live(run, args)
    drawn = final(_stages(run, asked, live))[1]()
    label = asked["label"]
    if "label" in run.model.takes and label is None:
        learnt = run.config.spec.learnt or (0,)
        label = run.classes[learnt[asked["first"] % len(learnt)]]
    scored = run.score(drawn.x, maps=False, label=label, names=[f"{asked['first']:06d}.png"])
    file = run.folder / KEPT / f"seed-{asked['seed']}" / f"{asked['first']:06d}.png"
    words = [typed(file), f"--label {shlex.quote(label)}" if label else ""]
    yield Answer(
        dict(
            bits=float(scored.bits[0]),
            kind=scored.kind,
            of=scored.of,
            rank=float(scored.rank[0]) if scored.against else None,
            against=scored.against,
            command=_command(run, "score", *words),
        )
    )


# Walks


def _codes(run: Trained, args: dict[str, Any], name: str, most: int = 64) -> tuple[str, ...]:
    """Names of codes: numbers of samples, or own images of the run."""
    known = args.get(name, [])
    if not isinstance(known, list) or len(known) > most:
        raise Refusal(f"{name} is a list of at most {most} codes.")
    return tuple(_code(run, one) for one in known)


def _code(run: Trained, name: Any) -> str:
    if isinstance(name, str) and re.fullmatch(r"(\d{1,9}:)?\d{1,9}", name):
        return name
    if not isinstance(name, str) or not OWN_NAME.fullmatch(name):
        raise Refusal(
            "a code is the number of a sample, such as 17 or 3:17, or an image that was brought here."
        )
    file = run.folder / "samples" / name
    if not file.is_file():
        raise Refusal("that image is no longer in the folder of the run; drop it here again.")
    return near(file)


def _walked(
    desk: Desk, args: dict[str, Any], run: Trained, asked: Walk, arrays: dict[str, Any] | None = None
) -> Answer:
    label = text(args, "label", 200, "") or None
    codes = run.space
    x = codes.images(asked.made(codes, run.class_of(label)))
    words = [asked.flags(), f"--label {shlex.quote(label)}" if label else ""]
    data = _seen(desk, args, run, n=asked.number, command=_command(run, "walk", *words))
    return Answer(data, {"images": figures.pixels(x), **(arrays or {})})


def plane(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A mosaic of the endless plane, or of the plane of a code of two numbers."""
    run = _run(desk, args)
    edge = walk.PLACED
    asked = Walk(
        "plane",
        n=whole(args, "n", 1, 15, 5),
        seed=whole(args, "seed", 0, SEEDS, 0),
        at=(number(args, "x", -edge, edge, 0.0), number(args, "y", -edge, edge, 0.0)),
        step=number(args, "step", 1e-4, 100.0, 0.5),
    )
    yield _walked(desk, args, run, asked)


def atlas(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Where images lie in a code of two numbers: float32 (N, 2), and their classes int32 (N,), -1 unknown."""
    run = _run(desk, args)
    codes = run.space
    if not codes.flat:
        raise Refusal("the code of this run has no plane of its own; train with --latent 2.")
    data = run.data
    rows = np.sort(np.random.default_rng(0).permutation(data.train)[: len(codes.subject.codes)])
    encodes = "encode" in answers(run.model)
    y = np.full(len(rows), -1) if data.y is None or not encodes else data.y[rows]
    z = codes.subject.codes.numpy()
    yield Answer(
        dict(classes=list(data.classes), real=encodes, n=len(z)),
        {"places": z.astype(np.float32), "labels": y.astype(np.int32)},
    )


def _along(args: dict[str, Any]) -> dict[str, float]:
    known = args.get("along", {})
    if not isinstance(known, dict) or len(known) > 64:
        raise Refusal("along is an object of at most 64 directions.")
    moved = {text({"name": k}, "name", 60): number({k: v}, k, -100, 100) for k, v in known.items()}
    return {k: v for k, v in moved.items() if v}


def directions(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The principal directions of the run's codes, with their standard deviations, and those with a name."""
    codes = _run(desk, args).space
    yield Answer(dict(sigmas=[codes.sigma(axis) for axis in codes.axes], named=codes.named()))


def slide(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A code moved along directions."""
    run = _run(desk, args)
    asked = Walk(
        "slide", _codes(run, args, "codes", 1), seed=whole(args, "seed", 0, SEEDS, 0), along=_along(args)
    )
    start = run.space.images(dataclasses.replace(asked, along={}).made(run.space))
    yield _walked(desk, args, run, asked, {"start": figures.pixels(start)})


def name_direction(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Save what the sliders do as one direction."""
    run = _run(desk, args)
    path = run.space.save(text(args, "name", 60), _along(args))
    yield Answer(dict(saved=typed(path), named=run.space.named()))


def forget_direction(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    run = _run(desk, args)
    name = walk.checked(text(args, "name", 60))
    (run.folder / DIRECTIONS / f"{name}.npz").unlink(missing_ok=True)
    yield Answer(dict(named=run.space.named()))


def _path(run: Trained, args: dict[str, Any]) -> Walk:
    stops = _codes(run, args, "codes", 6)
    return Walk(
        "path",
        stops,
        n=whole(args, "n", 2, 240, 24),
        seed=whole(args, "seed", 0, SEEDS, 0),
        way="arc" if choice(args, "way", ("arc", "line"), "arc") == "arc" else "line",
        loop=flag(args, "loop", False),
    )


def path(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Frames from stop to stop."""
    run = _run(desk, args)
    yield _walked(desk, args, run, _path(run, args))


def export(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A path as GIF or APNG with its recipe, and what it was made of as JSON beside it."""
    run, kind_of = _run(desk, args), choice(args, "format", tuple(FILMS), "gif")
    asked, seconds = _path(run, args), number(args, "seconds", 0.02, 2.0, 0.1)
    how = {k: v for k, v in dataclasses.asdict(asked).items() if k in ("n", "seed", "way", "loop")}
    label = text(args, "label", 200, "") or None
    drawn = run.walk("path", asked.codes, label=label, **how)
    stem = hashlib.sha256(
        json.dumps([drawn.recipe, seconds], sort_keys=True, default=str).encode()
    ).hexdigest()[:8]
    target = run.folder / PATHS / f"path-{stem}.{kind_of}"
    recipe = dict(drawn.recipe, seconds=seconds)
    storage.make(target.parent)
    film = walk.film(target, drawn.x, recipe, seconds)
    storage.write(target, film)
    storage.write(target.with_suffix(".json"), json.dumps(recipe, indent=1, default=str).encode())
    label_words = f"--label {shlex.quote(label)}" if label else ""
    pace = "" if seconds == figures.SECONDS else f"--seconds {seconds:g}"
    command = _command(run, "walk", asked.flags(), label_words, pace, f"-o {typed(target)}")
    yield Answer(dict(saved=typed(target), command=command), {"film": Picture(film, FILMS[kind_of])})


def arithmetic(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """mean A + strength (mean C - mean B), and the images of the three means."""
    run = _run(desk, args)
    groups = [_codes(run, args, name, 16) for name in ("codes", "less", "plus")]
    if not groups[0]:
        raise Refusal("arithmetic begins somewhere: put one or more images into A.")
    asked = Walk(
        "sum",
        groups[0],
        seed=whole(args, "seed", 0, SEEDS, 0),
        less=groups[1],
        plus=groups[2],
        strength=number(args, "strength", -5.0, 5.0, 1.0),
    )
    means = {
        f"mean_{name}": figures.pixels(run.walk("sum", group, seed=asked.seed).x)
        for name, group in zip("abc", groups)
        if group
    }
    yield _walked(desk, args, run, asked, means)


def own(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image that somebody brings: kept in the run's folder, its code looked for, and decoded."""
    run = _run(desk, args)
    codes = run.space
    name = _stored(run, arrays)
    path_of = near(run.folder / "samples" / name)
    x = codes.image(path_of)
    for at in codes.finding(path_of):
        yield Answer(dict(code=name, share=at))
    back = codes.images(codes.of_file(path_of))
    yield Answer(
        dict(code=name, share=1.0, error=float((back - x).square().mean().sqrt()) * 127.5),
        {"image": figures.pixels(x), "back": figures.pixels(back)},
    )


def _stored(run: Trained, arrays: Arrays) -> str:
    """The file in the run's folder, named by what it holds."""
    file = arrays.get("file")
    if file is None or file.dtype != np.uint8 or not 0 < file.size <= LARGEST:
        raise Refusal(f"an image file of up to {LARGEST >> 20} MB is wanted.")
    raw = file.tobytes()
    ending = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}.get(
        str(kind(raw[:32])).upper()
    )
    if ending is None:
        raise Refusal("that is no image file; drop a PNG, JPEG, WebP, GIF or BMP.")
    name = f"own/{hashlib.sha256(raw).hexdigest()[:16]}.{ending}"
    path_of = run.folder / "samples" / name
    if not path_of.is_file():
        storage.make(path_of.parent)
        storage.write(path_of, raw)
    return name


def tiles(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Images of codes by their names: keepers, wells, stops."""
    run = _run(desk, args)
    named = _codes(run, args, "codes", 64)
    if not named:
        yield Answer(dict(n=0))
        return
    yield _walked(desk, args, run, Walk("images", named, seed=whole(args, "seed", 0, SEEDS, 0)))


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    f.__name__: f
    for f in (
        about, grid, save, keep, closest, likelihood, plane, atlas, directions, slide, name_direction,
        forget_direction, path, export, arithmetic, own, tiles,
    )
}  # fmt: skip
