"""Images and clips of a text, and an image that a text edits: what `likeness imagine` and `likeness imagic`
do.

What is asked for waits in a queue, which `work` draws, one entry after another, for as long as a page
watches."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import figures, storage
from ...core import BadData, Refusal, answers
from ...data.captions import NAMED, words
from ...inference import imagic, imagine
from ...parts.denoising import Denoiser
from ...reports.notebook import Pictures
from .. import library
from ..protocol import Answer, number, text, whole
from ..queue import Queue
from .samples import LARGEST, OFTEN, OWN_NAME, SEEDS, _command, _live, _stored, near, options, typed

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
LIVE = {"work"}
WORK = "words/work"
"""the key under which the queue is drawn, and whatever page looks on"""
LETTERS = 2000
"""of a text"""
MANY, IMAGES = 256, 64
"""images of an entry, and of a cell"""
WIDEST = 32 << 20
"""bytes of pixels that are sent to a page at once"""
SHOWN = 60
"""pictures of the gallery"""
FOLDER, EDITED = "imagined", "imagic/drawn"
"""folders in a run"""
NAME = re.compile(r"[0-9a-f]{16}")
COUNTED = 2000
"""words that a page is told of"""


def _run(desk: Desk, args: dict[str, Any]) -> Trained:
    """A run that draws from texts.  Raises Refusal."""
    run = desk.run(text(args, "run", 1000))
    imagine.refuse(run.model)
    return run


# Words


def about(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Of a run: its words, commonest first, its options, and whether it can edit an image."""
    run = _run(desk, args)
    model, spec = run.model, run.config.spec
    conditional = "label" in model.takes and bool(spec.labels)
    edits = isinstance(model, Denoiser) and not conditional and not spec.frames
    yield Answer(
        dict(
            words=list(run.config.words.words[:COUNTED]),
            known=len(run.config.words.words),
            longest=run.config.words.longest,
            options=options(type(model), model),
            negative=hasattr(model, "against"),
            classes=list(run.classes) if conditional else [],
            frames=spec.frames,
            size=spec.size,
            edits=edits and "sample" in answers(model),
            no_edits="" if edits else "imagic edits with diffusion models of single images without classes.",
            seen=run.run.seen,
        )
    )


def counts(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """How often each of the words stands in the training captions; nothing where these are not at hand."""
    run = _run(desk, args)
    try:
        texts, train = run.data.texts, run.data.train
    except (Refusal, BadData, OSError):
        texts, train = None, np.zeros(0, np.int64)
    often = Counter[str]()
    for row in train if texts is not None else ():
        often.update(words(texts[int(row)]))  # type: ignore[index]
    yield Answer(dict(counts=[often[word] for word in run.config.words.words[:COUNTED]] if often else []))


def read(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """What the run reads of a text: where unknown words stand, the nearest known ones, and notes."""
    run = _run(desk, args)
    asked = {name: text(args, name, LETTERS, "") for name in ("text", "negative")}
    known = run.config.words
    notes = [
        note
        for name, one in asked.items()
        if name == "text" or one
        for note in imagine.read(one, known).notes
    ]
    yield Answer(dict(notes=notes, **{name: _unknown(one, known.words) for name, one in asked.items()}))


def _unknown(typed_text: str, known: tuple[str, ...]) -> list[dict[str, Any]]:
    """Words that no training caption has, where they begin and end, with at most three that are like it."""
    there, out = set(known), list[dict[str, Any]]()
    for match in re.finditer(r"\w+|[^\w\s]", typed_text):
        word = match[0].lower()
        if word not in there:
            alike = difflib.get_close_matches(word, known, 3) if len(out) < NAMED else []
            out.append(dict(word=match[0], start=match.start(), end=match.end(), near=alike))
    return out


# What is asked for


@dataclasses.dataclass(frozen=True)
class Wish:
    """A question, checked."""

    text: str
    negative: str
    n: int
    seed: int
    label: str | None
    grid: tuple[str, ...]
    """as `--grid` takes it"""
    live: dict[str, Any]
    flags: str

    def stages(self, run: Trained) -> Iterator[Any]:
        """As `likeness imagine` draws it.  Raises Refusal at once."""
        grid = imagine.settings(run.model, self.grid) if self.grid else None
        if grid and (twice := sorted(grid.keys() & self.live.keys())):
            raise Refusal(
                f"the grid has several values of {twice[0]}, so that it has no single one beside them."
            )
        n = self.n
        cells = int(np.prod([len(values) for values in (grid or {}).values()], dtype=int))
        if cells * n > MANY:
            raise Refusal(
                f"{cells} cells of {n} images are more than {MANY} at once; ask for fewer of either."
            )
        return run.imagining(
            self.text, n, self.seed, negative=self.negative, grid=grid, label=self.label, **self.live
        )

    def names(self, run: Trained) -> tuple[list[str], int]:
        """What each image is, and how many stand beside each other."""
        grid = imagine.settings(run.model, self.grid) if self.grid else None
        cells = imagine.Asked((self.text,), self.n, self.seed, self.negative, grid).cells
        out = [
            ", ".join([*(f"{k} {v}" for k, v in cell.items()), f"image {i}"])
            for cell in cells
            for i in range(self.n)
        ]
        sizes = [len(values) for values in (grid or {}).values()]
        return out, (sizes[1] * self.n if len(sizes) == 2 else sizes[0] if sizes and self.n == 1 else self.n)


def _text(args: dict[str, Any], name: str) -> str:
    asked = text(args, name, LETTERS, "").strip()
    if asked.startswith("-"):
        raise Refusal("a text begins with a word, and not with a dash, as a flag does.")
    return asked


def _wish(run: Trained, args: dict[str, Any]) -> Wish:
    grid = args.get("grid", [])
    if not isinstance(grid, list) or len(grid) > 2:
        raise Refusal("a grid has one or two options with several values each.")
    grid = [text({"grid": one}, "grid", 300) for one in grid]
    several, single = {one.partition("=")[0] for one in grid}, args.get("live", {})
    if isinstance(single, dict):  # of what the grid has several values there is no single one
        single = {k: v for k, v in single.items() if k not in several}
    live, flags = _live(run, dict(args, live=single))
    return Wish(
        _text(args, "text"),
        _text(args, "negative"),
        whole(args, "n", 1, IMAGES, 1 if grid else 4),
        whole(args, "seed", 0, SEEDS, 0),
        text(args, "label", 200, "") or None,
        tuple(grid),
        live,
        flags,
    )


def _target(run: Trained, wish: Wish) -> Path:
    """The picture of a question: the same one for the same weights."""
    facts = [run.run.seen, dataclasses.asdict(wish)]
    stem = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return run.folder / FOLDER / f"{stem}.{'gif' if run.config.spec.frames else 'png'}"


def _imagine(run: Trained, wish: Wish, target: Path) -> str:
    """The command that draws it."""
    parts = [
        shlex.quote(wish.text),
        f"-n {wish.n} --seed {wish.seed}",
        f"--negative {shlex.quote(wish.negative)}" if wish.negative else "",
        f"--label {shlex.quote(wish.label)}" if wish.label else "",
        wish.flags,
        f"--grid {shlex.join(wish.grid)}" if wish.grid else "",
        f"-o {typed(target)}",
    ]
    return _command(run, "imagine", *parts)


# The queue


def _queue(desk: Desk) -> Queue:
    """The one of this studio, read once by each worker."""
    file = desk.root / ".studio" / "words.json"
    if file not in _QUEUES:
        _QUEUES[file] = Queue(file)
    return _QUEUES[file]


_QUEUES: dict[Path, Queue] = {}


def _listed(queue: Queue) -> list[dict[str, Any]]:
    return [
        dict(
            id=e["id"], run=e["run"], why=e["why"], command=e["command"], text=str(e["args"].get("text", ""))
        )
        for e in queue.entries
    ]


def queue(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    yield Answer(dict(queue=_listed(_queue(desk))))


ARGS = ("text", "negative", "n", "seed", "label", "grid", "live")


def add(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A question more.  Whatever is wrong with it is said at once, before it waits."""
    run = _run(desk, args)
    wish = _wish(run, args)
    wish.stages(run)
    command = _imagine(run, wish, _target(run, wish))
    there = _queue(desk)
    name = there.add(args["run"], {k: args[k] for k in ARGS if k in args}, command)
    yield Answer(dict(queue=_listed(there), id=name, command=command))


def cancel(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Out of the queue, drawn in part or not."""
    there = _queue(desk)
    there.drop(text(args, "id", 20))
    yield Answer(dict(queue=_listed(there)))


def first(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """To the head of those that wait; what is being drawn begins anew after it."""
    there = _queue(desk)
    there.first(text(args, "id", 20))
    yield Answer(dict(queue=_listed(there)))


def work(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Draw what waits: each step of each entry as it comes."""
    there, latest = _queue(desk), dict[str, Any]()
    while (entry := there.next()) is not None:
        desk.inbox(WORK)  # who has asked meanwhile looks on
        try:
            for answer in _drawn(desk, there, entry):
                if "name" in answer.data:
                    latest = {k: answer.data[k] for k in ("id", "run", "name", "saved", "command", "text")}
                # the last value wins on its way to a page: each says what was finished last
                yield dataclasses.replace(answer, data=dict(answer.data, latest=latest))
        except Refusal as refusal:
            there.fail(entry["id"], str(refusal))
        except Exception:
            there.fail(entry["id"], "that is a defect of likeness; its lines are in the terminal.")
            raise
    yield Answer(dict(queue=_listed(there), id="", latest=latest))


def _drawn(desk: Desk, there: Queue, entry: dict[str, Any]) -> Iterator[Answer]:
    run = _run(desk, dict(run=entry["run"]))
    wish = _wish(run, entry["args"])
    names, columns = wish.names(run)
    facts = dict(id=entry["id"], run=entry["run"], names=names, columns=columns, text=wish.text, n=len(names))
    last, stage, steps = 0.0, None, 0
    for stage in wish.stages(run):
        steps += 1
        if time.perf_counter() - last > OFTEN:
            shown = Pictures(stage.state.images)
            yield _pixels(shown, dict(facts, queue=_listed(there), step=steps, share=stage.share))
            last = time.perf_counter()
            if there.next() is not entry:
                return  # cancelled, or another one goes first
    assert stage is not None
    target = _target(run, wish)
    command, drawn = _imagine(run, wish, target), stage.pictures
    drawn.save(target)
    drawn.save(target.with_suffix(".npz"))
    kept = dict(args=entry["args"], names=names, columns=columns, command=command, seen=run.run.seen)
    storage.write(target.with_suffix(".json"), json.dumps(kept).encode())
    there.drop(entry["id"])
    done = dict(facts, queue=_listed(there), step=steps, share=1.0)
    yield _pixels(drawn, dict(done, name=target.stem, saved=typed(target), command=command))


def _pixels(drawn: Pictures, data: dict[str, Any]) -> Answer:
    """uint8 (n, H, W, C), or (n, T, H, W, C) of clips; without them where they are too many."""
    pixels = drawn.numpy()
    if pixels.nbytes > WIDEST:
        return Answer(dict(data, too_large=True))
    return Answer(data, {"images": pixels})


# Gallery


def gallery(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """What has been drawn here, the newest first."""
    run, out = _run(desk, args), list[dict[str, Any]]()
    files = [f for f in (run.folder / FOLDER).glob("*.json") if NAME.fullmatch(f.stem)]
    for file in sorted(files, key=lambda f: -f.stat().st_mtime_ns)[:SHOWN]:
        picture = file.with_suffix(".gif" if run.config.spec.frames else ".png")
        facts = library.read_json(file)
        if picture.is_file() and isinstance(facts.get("args"), dict):
            facts = {k: facts.get(k) for k in ("args", "command")}
            out.append(dict(facts, name=file.stem, url=library.address(desk.root, picture)))
    yield Answer(dict(gallery=out))


def _kept(run: Trained, args: dict[str, Any]) -> Path:
    name = text(args, "name", 16)
    file = run.folder / FOLDER / f"{name}.json"
    if not NAME.fullmatch(name) or not file.is_file():
        raise Refusal("that picture is no longer in the folder of the run; draw it again.")
    return file


def show(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A picture of the gallery, image by image."""
    run = _run(desk, args)
    file = _kept(run, args)
    facts = library.read_json(file)
    try:
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as known:
            pixels = known["x"]
    except (OSError, ValueError, KeyError):
        raise Refusal("the images of that picture cannot be read any more; draw it again.") from None
    saved = file.with_suffix(".gif" if run.config.spec.frames else ".png")
    data = {k: facts.get(k) for k in ("args", "names", "columns", "command")}
    data |= dict(name=file.stem, saved=typed(saved), n=len(pixels))
    if pixels.dtype != np.uint8 or pixels.nbytes > WIDEST:
        yield Answer(dict(data, too_large=True))
    else:
        yield Answer(data, {"images": pixels})


def forget(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Take a picture out of the gallery, and off the disk."""
    file = _kept(_run(desk, args), args)
    for suffix in (".json", ".npz", ".png", ".gif"):
        file.with_suffix(suffix).unlink(missing_ok=True)
    yield from gallery(desk, args, arrays)


# Imagic


def own(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image that somebody brings, kept in the run's folder, as the model sees it."""
    run = _run(desk, args)
    name = _stored(run, arrays)
    yield Answer(dict(image=name), {"images": figures.pixels(run.imagic_image(_own(run, name)))})


def _own(run: Trained, name: Any) -> str:
    if not isinstance(name, str) or not OWN_NAME.fullmatch(name):
        raise Refusal(f"bring an image first: a PNG, JPEG, WebP, GIF or BMP of up to {LARGEST >> 20} MB.")
    file = run.folder / "samples" / name
    if not file.is_file():
        raise Refusal("that image is no longer in the folder of the run; bring it again.")
    return near(file)


def _plan(run: Trained, args: dict[str, Any]) -> imagic.Plan:
    how = imagic.How(
        whole(args, "embedding_steps", 0, 10_000, imagic.EMBEDDING_STEPS),
        whole(args, "tuning_steps", 0, 10_000, imagic.TUNING_STEPS),
        seed=whole(args, "seed", 0, SEEDS, 0),
    )
    plan = run.imagic_plan(_own(run, args.get("image")), _text(args, "text"), how)
    return plan._replace(place=Path(near(plan.place)))


_EDITS: dict[str, tuple[dict[str, Any], imagic.Edit]] = {}
"""what has been learnt last, by its folder: a strength then costs a sample, and not a look at the disk"""


def _edit(run: Trained, plan: imagic.Plan) -> imagic.Edit | None:
    known = _EDITS.get(str(plan.place))
    if known is not None and known[0] == plan.facts and plan.place.is_dir():
        return known[1]
    done = imagic.kept(run.model, plan.place, plan.facts)
    if done is not None:
        _remember(plan, done)
    return done


def _remember(plan: imagic.Plan, done: imagic.Edit) -> None:
    _EDITS.clear()
    _EDITS[str(plan.place)] = plan.facts, done


def learnt(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Whether what learn() makes of this image and text is there already."""
    run = _run(desk, args)
    plan = _plan(run, args)
    x = figures.pixels(plan.x)
    yield Answer(dict(ready=_edit(run, plan) is not None, kept=typed(plan.place)), {"images": x})


def learn(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The embedding, then the model: what each has come to.  Kept as `likeness imagic` keeps it."""
    run = _run(desk, args)
    plan = _plan(run, args)
    if _edit(run, plan) is None:
        last, done = 0.0, None
        for at in imagic.editing(run.model, plan.x, plan.tokens, plan.how):
            if at.edit is None and (time.perf_counter() - last > OFTEN or at.share == 1):
                yield Answer(dict(part=at.part, share=at.share, loss=at.loss, ready=False))
                last = time.perf_counter()
            done = at.edit
        assert done is not None
        imagic.keep(done, plan.place, plan.facts)
        _remember(plan, done)
    yield Answer(dict(part="", share=1.0, ready=True, kept=typed(plan.place)))


def _edited(
    desk: Desk, args: dict[str, Any], strengths: list[float]
) -> tuple[Trained, imagic.Plan, Pictures, str]:
    run = _run(desk, args)
    plan, (live, flags) = _plan(run, args), _live(run, args)
    if (done := _edit(run, plan)) is None:
        raise Refusal("nothing has been learnt of this image and text yet; begin with the first card.")
    drawn = run.imagic_shown(plan, done, strengths, plan.how.seed, **live)
    usual = imagic.How()
    steps = [
        f"--{name.replace('_', '-')} {value}"
        for name in ("embedding_steps", "tuning_steps")
        if (value := getattr(plan.how, name)) != getattr(usual, name)
    ]
    command = _command(
        run,
        "imagic",
        shlex.quote(_own(run, args.get("image"))),
        shlex.quote(_text(args, "text")),
        "--strength " + ",".join(f"{s:.10g}" for s in strengths),
        f"--seed {plan.how.seed}",
        *steps,
        flags,
    )
    return run, plan, drawn, command


def strength(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The image at a strength: a sample, whatever was learnt before."""
    s = number(args, "strength", 0, 2, 0.5)
    *_, drawn, command = _edited(desk, args, [s])
    yield Answer(dict(strength=s, command=command), {"images": drawn.numpy()})


def save_edit(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """One strength, or the usual row of them, as the picture that the command writes."""
    asked = args.get("strengths", list(imagic.STRENGTHS))
    if not isinstance(asked, list) or not 0 < len(asked) <= 20:
        raise Refusal("strengths are a list of up to 20 numbers.")
    strengths = [number({"strength": s}, "strength", 0, 2) for s in asked]
    run, plan, drawn, command = _edited(desk, args, strengths)
    facts = json.dumps([plan.facts, strengths, drawn.recipe], sort_keys=True, default=str)
    target = run.folder / EDITED / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.png"
    drawn.save(target)
    yield Answer(dict(saved=typed(target), command=f"{command} -o {typed(target)}"))


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    f.__name__: f
    for f in (
        about, counts, read, queue, add, cancel, first, work, gallery, show, forget,
        own, learnt, learn, strength, save_edit,
    )
}  # fmt: skip
