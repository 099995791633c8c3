"""Photos through a run from image to image, or in the style of paintings: a queue, and its results.

Everything here is what `likeness translate` and `likeness style` do; each result is the file that its command
writes, to the byte.
"""

from __future__ import annotations

import hashlib
import io
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageSequence

from ... import figures, storage
from ...core import Refusal, Translates, answers, no_way_back
from ...data import photos as files
from ...data.decode import kind
from ...data.photos import Unused
from ...inference import arbitrary, style, stylise
from ...inference import translate as work
from ..orders import NAME, OUT, Order, Queue, command, near, safe
from ..protocol import Answer, Picture, choice, confined, flag, number, text, whole

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
LARGEST = 32 << 20
"""bytes of a photo"""
MANY, PAINTINGS = 500, 4
"""photos of an order, and paintings"""
SIDE, THUMB, PREVIEW = 2048, 72, 384
"""pixels of the long side of what a page sees: of a view, in a strip, while it is worked at"""
SEEDS = 2**31 - 1
OFTEN, BESIDE = 0.15, 0.1
"""seconds: between two looks at the queue, and from one value of it to the next at least"""
BROUGHT = ".studio/brought"
ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
FORMATS = ("png", "same", "jpg", "webp")
QUEUES = dict[Path, Queue]()
"""by the root of the studio: one a process"""


def queue_of(desk: Desk) -> Queue:
    root = desk.root.resolve()
    if root not in QUEUES:
        QUEUES[root] = Queue(root, done)
        QUEUES[root].go()
    return QUEUES[root]


# What the screen may show


def about(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Of a run that translates: whether there is a way back, how many times it enlarges, its task."""
    run = desk.run(text(args, "run", 1000))
    able, model = answers(run.model), run.model
    if "translate" not in able:
        raise Refusal(work.cannot(model))
    made = work.Translator(model, run.config.reading, work.How())
    yield Answer(
        dict(
            back=not no_way_back(cast(Translates, model)),
            scale=made.scale,
            task=made.task,
            draws=not made.network,
            size=made.trained,
            model=run.config.model,
            seen=run.run.seen,
            fresh=desk.fresh(args["run"]),
        )
    )


# Photos


def bring(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A photo that somebody brings: kept by its digest, checked, and shown small."""
    file = arrays.get("file")
    if file is None or file.dtype != np.uint8 or not 0 < file.size <= LARGEST:
        raise Refusal(f"an image file of up to {LARGEST >> 20} MB is wanted.")
    raw, name = file.tobytes(), text(args, "name", 300, "photo")
    ending = ENDINGS.get(str(kind(raw[:32])).upper())
    if ending is None:
        raise Refusal(f"{name[:60]} is no image file; drop PNG, JPEG, WebP, GIF, BMP or TIFF.")
    at = desk.root / BROUGHT / f"{hashlib.sha256(raw).hexdigest()[:24]}.{ending}"
    if not at.is_file():
        storage.make(at.parent)
        storage.write(at, raw)
    photo = _read(at)
    wide, high = photo.size
    data = dict(photo=at.name, name=name, width=wide, height=high, notes=list(photo.notes))
    yield Answer(data, {"thumb": thumb(colour(photo.pixels.transpose(1, 2, 0)))})


def _read(at: Path) -> files.Photo:
    (found,) = files.find([at], {})
    photo = found.read()
    if isinstance(photo, Unused):
        raise Refusal(f"that photo cannot be used ({photo.reason}{photo.detail and ': '}{photo.detail}).")
    return photo


def _brought(
    desk: Desk, args: dict[str, Any], name: str, most: int, least: int = 1
) -> list[tuple[Path, str]]:
    """Files that were brought, each with the name that it had."""
    known = args.get(name, [])
    if not isinstance(known, list) or not least <= len(known) <= most:
        raise Refusal(f"{name} is a list of {least} to {most} photos; drop some here.")
    return [_one(desk, one) for one in known]


def _one(desk: Desk, one: Any) -> tuple[Path, str]:
    if not isinstance(one, dict):
        raise Refusal("a photo of an order is an object.")
    digest, _, ending = text(one, "photo", 40).partition(".")
    if len(digest) != 24 or set(digest) - set("0123456789abcdef") or ending not in ENDINGS.values():
        raise Refusal("a photo of an order is one that was brought here; drop it once more.")
    at = desk.root / BROUGHT / f"{digest}.{ending}"
    if not at.is_file():
        raise Refusal("that photo is no longer here; drop it once more.")
    return at, text(one, "name", 300, "photo")


def _copied(brought: list[tuple[Path, str]], folder: Path) -> list[str]:
    storage.make(folder)
    taken, names = set[str](), list[str]()
    for at, name in brought:
        names.append(safe(name, taken, at.suffix[1:]))
        shutil.copyfile(at, folder / names[-1])
    return names


# Orders


def translate(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An order of photos for a run."""
    run, brought = desk.run(text(args, "run", 1000)), _brought(desk, args, "photos", MANY)
    settings: dict[str, Any] = dict(
        back=flag(args, "back", False),
        size=whole(args, "size", 0, 4096, 0),
        seed=whole(args, "seed", 0, SEEDS, 0),
        format=choice(args, "format", FORMATS, "png"),
    )
    how = work.How(settings["back"], settings["size"], None, settings["seed"])
    work.Translator(
        run.model, run.config.reading, how
    )  # refuses what it cannot do, before anything is written

    def fill(order: Order, folder: Path) -> None:
        order.photos = _copied(brought, folder / "photos")

    asked = dict(photos=list[str](), run=run.folder.resolve().relative_to(desk.root.resolve()).as_posix())
    order = queue_of(desk).add("translate", fill, settings=settings, **asked)
    yield Answer(dict(order=order.name))


def styled(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An order of photos in the style of paintings; sheet: nine small results of the first of them."""
    kind_of = "sheet" if flag(args, "sheet", False) else "style"
    brought, paintings = _brought(desk, args, "photos", MANY), _brought(desk, args, "paintings", PAINTINGS)
    settings = _style_settings(args)
    at_once = settings["arbitrary"]
    if at_once and kind_of == "sheet":
        raise Refusal("a sheet of weights is of the optimisation; choose that first.")
    if at_once and at_once not in arbitrary.KINDS:
        run = desk.run(at_once)
        if "stylise" not in answers(run.model):
            raise Refusal(f"{run.folder.name} does not stylise; choose a run of adain.")
        settings["arbitrary"] = near(run.folder)
    elif not at_once:
        _how(settings)

    def fill(order: Order, folder: Path) -> None:
        order.photos = _copied(brought[:1] if kind_of == "sheet" else brought, folder / "photos")
        order.paintings = _copied(paintings, folder / "paintings")

    order = queue_of(desk).add(kind_of, fill, photos=[], settings=settings)
    yield Answer(dict(order=order.name))


def _style_settings(args: dict[str, Any]) -> dict[str, Any]:
    return dict(
        arbitrary=text(args, "arbitrary", 1000, ""),
        strength=number(args, "strength", 0, 1, 1.0),
        size=whole(args, "size", style.LEAST, 2048, 256),
        colour=choice(args, "colour", style.COLOURS, "style"),
        content_weight=number(args, "content_weight", 0, 1000, style.CONTENT_WEIGHT),
        strokes=number(args, "strokes", 0.1, 8, 1.0),
        steps=whole(args, "steps", 1, 1000, style.STEPS),
        network=choice(args, "network", style.NETWORKS, "vgg16"),
        weights=choice(args, "weights", ("", "none"), ""),
        seed=whole(args, "seed", 0, SEEDS, 0),
    )


def _how(settings: dict[str, Any], sheet: bool = False) -> style.How:
    """As the command has it, which does not take weight and strokes beside --sheet."""
    own = () if sheet else ("content_weight", "strokes")
    names = (*own, "steps", "network", "colour", "seed")
    return style.How(**{name: settings[name] for name in names})


def stop(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    queue_of(desk).stop(text(args, "order", 40))
    yield Answer()


def again(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    queue_of(desk).again(text(args, "order", 40))
    yield Answer()


def hide(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    queue_of(desk).hide(text(args, "order", 40))
    yield Answer()


def queue(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The orders, the newest first, as long as there is work; beside them what is worked at."""
    orders, seen, busy = queue_of(desk), -1, True
    while busy:
        version, busy = orders.wait(seen, OFTEN)
        first, seen = seen < 0, version
        image = orders.preview
        yield Answer(orders.said() | dict(busy=busy), {} if image is None else {"preview": image})
        if busy and not first:
            orders.wait(orders.version, BESIDE)  # never faster than that


# The work, in the thread of the queue


def done(orders: Queue, order: Order) -> None:
    """An order, from its first photo to its last."""
    folder = orders.folder / order.name
    if order.kind == "translate":
        _translated(orders, order, folder)
    elif order.kind == "sheet":
        _sheet(orders, order, folder)
    else:
        for at, photo in enumerate(order.photos):
            if not any(r["photo"] == photo for r in order.results):
                _styled(orders, order, folder, photo, at)


def _words(order: Order, folder: Path, run: Path) -> list[str]:
    """What somebody types behind `likeness translate` for the same files."""
    s = order.settings
    words = [near(run), near(folder / "photos"), "-o", near(folder)]
    words += [] if s["format"] == "same" else ["--format", s["format"]]
    words += ["--back"] if s["back"] else []
    words += ["--size", str(s["size"])] if s["size"] else []
    return words + (["--seed", str(s["seed"])] if s["seed"] else [])


def _opened(folder: Path) -> Trained:
    """The run, for the thread alone."""
    from ... import api

    return api.open(folder)


def _translated(orders: Queue, order: Order, folder: Path) -> None:
    run = _opened(confined(orders.root, order.run))
    s, typed = order.settings, command("translate", *_words(order, folder, run.folder))
    able, found = run.translator(
        [str(folder / "photos")], back=s["back"], size=s["size"], mask=None, seed=s["seed"]
    )
    recipe = run.translation_recipe(command=typed)

    def tell(at: int, share: float) -> None:
        orders.progress(order, (at + share) / len(found), f"{at + 1} of {len(found)}: {found[at].name}")

    orders.progress(order, 0.0, f"1 of {len(found)}: {found[0].name}")
    order.results, order.skipped = [], []
    for at, result in enumerate(work.through(able, found, recipe, folder, s["format"], tell)):
        if isinstance(result, Unused):
            order.skipped.append(dict(photo=result.name, why=f"{result.reason} {result.detail}".strip()))
            continue
        new = isinstance(result, work.Translation)
        image = preview(result.image) if isinstance(result, work.Translation) else None
        notes = list(result.notes) if isinstance(result, work.Translation) else ["it was there already"]
        path = cast(Path, result.path)
        order.results.append(
            dict(
                photo=result.name,
                file=path.relative_to(folder).as_posix(),
                command=typed,
                notes=notes,
                new=new,
            )
        )
        orders.save(order)
        orders.progress(order, (at + 1) / len(found), "", image)
    if not order.results:
        raise work.nothing([near(folder / "photos")], [u for f in found if isinstance(u := f.read(), Unused)])


def _free(path: Path) -> Path:
    """The name, or the same with a number behind it where something has that."""
    out, at = path, 1
    while out.exists():
        at += 1
        out = path.with_stem(f"{path.stem}-{at}")
    return out


def _typed_style(order: Order, named: list[Path], out: Path, film: Path | None) -> str:
    s, words = order.settings, [near(path) for path in named]
    words += ["-o", near(out), "--size", str(s["size"])]
    words += [] if s["colour"] == "style" else ["--colour", s["colour"]]
    if s["arbitrary"]:
        more = [] if s["strength"] == 1 else ["--strength", f"{s['strength']:g}"]
        return command("style", *words, "--arbitrary", s["arbitrary"], *more)
    plain = dict(
        steps=(style.STEPS, str(s["steps"])), network=("vgg16", s["network"]), seed=(0, str(s["seed"]))
    )
    if order.kind == "style":
        plain |= {
            "content-weight": (style.CONTENT_WEIGHT, repr(s["content_weight"])),
            "strokes": (1.0, repr(s["strokes"])),
        }
    for name, (usual, value) in plain.items():
        words += [] if str(usual) == value else [f"--{name}", value]
    words += ["--weights", s["weights"]] if s["weights"] else []
    words += ["--sheet"] if order.kind == "sheet" else []
    return command("style", *words, *(["--film", near(film)] if film else []))


def _named(order: Order, folder: Path, photo: str) -> tuple[Path, list[Path]]:
    return folder / "photos" / photo, [folder / "paintings" / one for one in order.paintings]


def _styled(orders: Queue, order: Order, folder: Path, photo: str, at: int) -> None:
    s, (content, paintings) = order.settings, _named(order, folder, photo)
    out, notes, many = _free(folder / f"{Path(photo).stem}.png"), list[str](), len(order.photos)
    typed_content, typed_paintings = near(content), [near(one) for one in paintings]
    film_path = None if s["arbitrary"] else _free(out.with_suffix(".gif"))
    typed = _typed_style(order, [content, *paintings], out, film_path)
    orders.progress(order, at / many, f"{at + 1} of {many}: {photo}")
    named = (typed_content, typed_paintings, s["size"])
    if s["arbitrary"]:
        nets = arbitrary.opened(s["arbitrary"])
        x, others = stylise.opened(*named, s["size"], notes.append, s["colour"], True)
        made = arbitrary.stylise(nets, x, others, (), s["strength"], s["colour"]).cpu()
        told = (s["arbitrary"], typed_content, typed_paintings, None, s["strength"], s["colour"], s["size"])
        recipe = stylise.recipe_at_once(*told, nets.source)
    else:
        how = _how(s)
        x, others = stylise.opened(*named, stylise.largest(s["size"], how), notes.append, s["colour"], True)
        net = how.open(s["weights"])
        plan = style.planned(net, (x.shape[2], x.shape[3]), how, [o.shape[2:] for o in others])
        film = stylise.Film(how.steps * len(plan.sizes))
        for number_, state in enumerate(style.style(net, x, others, how, plan)):
            film.take(number_, state.x)
            high, wide = state.size
            says = f"{at + 1} of {many}: {photo}, {wide}x{high}, step {state.step}, loss {state.loss:.4g}"
            orders.progress(order, (at + state.share) / many, says, preview(figures.pixels(state.x)[0]))
        recipe = stylise.recipe(*named, net, how) | stylise.recipe_of_way(state)
        made = state.x
        figures.create(cast(Path, film_path), film.file(made, recipe))
    stylise.write(out, made, recipe, typed_content, new=True)
    film_name = film_path.name if film_path else ""
    order.results.append(
        dict(photo=photo, file=out.name, film=film_name, command=typed, notes=notes, new=True)
    )
    orders.save(order)
    orders.progress(order, (at + 1) / many, "", preview(figures.pixels(made)[0]))


def _sheet(orders: Queue, order: Order, folder: Path) -> None:
    s, photo = order.settings, order.photos[0]
    (content, paintings), how = _named(order, folder, photo), _how(s, sheet=True)
    out = _free(folder / f"{Path(photo).stem}-sheet.png")
    named, notes = (near(content), [near(one) for one in paintings], s["size"]), list[str]()
    x, others = stylise.opened(*named, stylise.largest(s["size"], how), notes.append, s["colour"], True)
    net, tiles = how.open(s["weights"]), list[np.ndarray]()
    storage.make(folder / "cells")
    n = len(style.SHEET_WEIGHTS) * len(style.SHEET_STROKES)
    orders.progress(order, 0.0, f"sheet of {photo}")
    for one, image in style.sheet(net, x, others, how):
        tiles.append(figures.pixels(image)[0])
        figures.write_png(folder / "cells" / f"{len(tiles) - 1}.png", tiles[-1], {})
        says = f"{len(tiles)} of {n}: content weight {one.content_weight:g}, strokes {one.strokes:g}"
        orders.progress(order, len(tiles) / n, says, preview(tiles[-1]))
    figures.create(
        out, figures.encode(out, stylise.sheet(tiles), stylise.recipe(*named, net, how) | dict(sheet=True))
    )
    typed = _typed_style(order, [content, *paintings], out, None)
    order.results = [dict(photo=photo, file=out.name, command=typed, notes=notes, new=True)]


# Results


def colour(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of (H, W, 1 or 3)."""
    return np.ascontiguousarray(np.repeat(image, 3, 2) if image.shape[2] == 1 else image)


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, 3) with a long side of at most so many pixels."""
    h, w = image.shape[:2]
    if max(h, w) <= side:
        return image
    size = max(1, round(w * side / max(h, w))), max(1, round(h * side / max(h, w)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def preview(image: np.ndarray) -> np.ndarray:
    return scaled(colour(image), PREVIEW)


def thumb(image: np.ndarray) -> np.ndarray:
    """uint8 (THUMB, THUMB, 3): the middle square."""
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return np.asarray(square.resize((THUMB, THUMB), Image.Resampling.LANCZOS))


def _result(desk: Desk, args: dict[str, Any]) -> tuple[Order, Path, dict[str, Any]]:
    order = queue_of(desk).find(_order_name(args))
    if not order.results:
        raise Refusal("that order has no result yet; wait for its first photo.")
    folder = desk.root.resolve() / OUT / order.name
    return order, folder, order.results[whole(args, "number", 0, len(order.results) - 1, 0)]


def _order_name(args: dict[str, Any]) -> str:
    name = text(args, "order", 40)
    if not NAME.fullmatch(name):
        raise Refusal("an order is named like translate-1.")
    return name


def _pixels(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) of a result; what is transparent shows the pixels below."""
    try:
        with Image.open(path) as file:
            return np.array(file.convert("RGB"))
    except OSError:
        raise Refusal(f"{path.name} is gone or damaged; do the order once more.") from None


def view(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Before and after of a result, uint8 (H, W, 3); where it is larger than before, that enlarged by
    Pillow's bicubic filter as well."""
    order, folder, result = _result(desk, args)
    after = _pixels(folder / result["file"])
    before, more = _before(desk, order, folder, result, after), dict[str, np.ndarray]()
    scale = after.shape[0] // before.shape[0]
    if scale > 1 and order.kind == "translate":
        size = (after.shape[1], after.shape[0])
        more["bicubic"] = np.asarray(Image.fromarray(before).resize(size, Image.Resampling.BICUBIC))
    share = min(1.0, SIDE / max(after.shape))
    small: dict[str, np.ndarray | Picture] = {
        k: scaled(v, SIDE) for k, v in dict(after=after, **more).items()
    }
    small["before"] = scaled(before, max(1, round(max(before.shape[:2]) * share)))
    yield Answer(
        dict(
            order=order.name,
            kind=order.kind,
            photo=result["photo"],
            notes=result["notes"],
            saved=near(folder / result["file"]),
            film=bool(result.get("film")),
            command=result["command"],
            scale=scale,
            size=[after.shape[1], after.shape[0]],
            shown=share,
        ),
        small,
    )


def _before(desk: Desk, order: Order, folder: Path, result: dict[str, Any], after: np.ndarray) -> np.ndarray:
    """What the model was given; of a style the photo at the size of the result."""
    at = folder / "photos" / result["photo"]
    if order.kind != "translate":
        photo = colour(_read(at).pixels.transpose(1, 2, 0))
        size = (after.shape[1], after.shape[0])
        return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    s, run = order.settings, desk.run(order.run)
    able, (found,) = run.translator([str(at)], back=s["back"], size=s["size"], mask=None, seed=s["seed"])
    photo_ = found.read()
    if isinstance(photo_, Unused):
        raise Refusal(f"{result['photo']} is gone or damaged; do the order once more.")
    x, hole, _ = able.prepared(photo_)
    return colour(x[: len(x) - (hole is not None)].transpose(1, 2, 0))


def thumbs(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The results of an order, small: uint8 (n, 72, 72, 3), 64 at most."""
    order = queue_of(desk).find(_order_name(args))
    folder, made = desk.root.resolve() / OUT / order.name, list[np.ndarray]()
    for result in order.results[:64]:
        try:
            made.append(thumb(_pixels(folder / result["file"])))
        except Refusal:
            made.append(np.full((THUMB, THUMB, 3), 128, np.uint8))
    yield Answer(dict(order=order.name, n=len(made)), {"images": np.stack(made)} if made else {})


def cycle(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """There and back: a result put through the other way, and how far that is from what was put in, as the
    root of the mean square in levels of 255."""
    order, folder, result = _result(desk, args)
    if order.kind != "translate":
        raise Refusal("there is no way back from a style.")
    run, s = desk.run(order.run), order.settings
    there = work.How(s["back"], s["size"], None, s["seed"])
    back = work.Translator(run.model, run.config.reading, work.How(not s["back"], 0, None, s["seed"]))
    able = work.Translator(run.model, run.config.reading, there)
    given, _, _ = able.prepared(_read(folder / "photos" / result["photo"]))
    after = _read(folder / result["file"])
    x, _, _ = back.prepared(after)
    again_ = back.translate(x, after.key >> 1)
    before = given.transpose(1, 2, 0)
    if again_.shape[2] != before.shape[2]:
        before, again_ = colour(before), colour(again_)
    error = math.sqrt(float(((again_.astype(float) - before) ** 2).mean()))
    words = [near(run.folder), near(folder / result["file"]), *([] if s["back"] else ["--back"])]
    yield Answer(
        dict(error=error, command=command("translate", *words)),
        {
            "before": scaled(colour(before), PREVIEW),
            "after": scaled(_pixels(folder / result["file"]), PREVIEW),
            "again": scaled(colour(again_), PREVIEW),
        },
    )


def cells(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The cells of a sheet so far: uint8 (n, H, W, 3), row by row, with weight and strokes of each."""
    order = queue_of(desk).find(_order_name(args))
    folder = desk.root.resolve() / OUT / order.name / "cells"
    there = [folder / f"{i}.png" for i in range(9)]
    made = [_pixels(path) for path in there if path.is_file()]
    known = [dict(content_weight=w, strokes=s) for s in style.SHEET_STROKES for w in style.SHEET_WEIGHTS]
    same = [image for image in made if image.shape == made[0].shape]
    yield Answer(
        dict(order=order.name, settings=known[: len(same)]), {"images": np.stack(same)} if same else {}
    )


def frame(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A frame of the film of a style, and how many there are."""
    _, folder, result = _result(desk, args)
    if not result.get("film"):
        raise Refusal("that result has no film; it was made at once.")
    raw = (folder / result["film"]).read_bytes()
    with Image.open(io.BytesIO(raw)) as film:
        n = int(getattr(film, "n_frames", 1))
        at = whole(args, "at", 0, n - 1, n - 1)
        shown = next(f for i, f in enumerate(ImageSequence.Iterator(film)) if i == at)
        image = np.array(shown.convert("RGB"))
    yield Answer(dict(frames=n, at=at), {"image": image})


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    f.__name__: f
    for f in (about, bring, translate, styled, stop, again, hide, queue, view, thumbs, cycle, cells, frame)
}
