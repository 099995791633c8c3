"""Gradients of a network with respect to pixels: saliency with its sanity check, class images,
dreams, and images that fool.

Everything here is a way of reports/looks.py, which `likeness look` walks as well, shown state by state.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ... import figures, storage
from ...backbones import weights
from ...backbones.catalogue import GRAPHS
from ...core import Refusal
from ...data.decode import kind
from ...explain import dream, fooling, saliency
from ...features import opening
from ...reports import looks
from ...runs.folder import is_run
from ...storage import cache
from ..library import CONFIG, read_json
from ..protocol import Answer, Picture, confined, flag, number, text, whole
from ..worker import marked
from .samples import LARGEST, OFTEN, OWN_NAME, SEEDS, near, typed

if TYPE_CHECKING:
    from ...backbones.layers import Probe
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
SET = "digits"
"""images that need no file, for a network that brings none of its own"""
FOLDER, BARS, LARGE = "gradients", 5, 64
"""in the studio's root; classes that bars show; side above which frames go as JPEG"""
NETS: OrderedDict[tuple[Any, ...], Probe] = OrderedDict()
FOUND: OrderedDict[str, looks.Look] = OrderedDict()
"""the last looks, for those who save them"""

WORDS = dict(of=200, layer=200)
WHOLES = dict(
    samples=(1, 200), steps=(1, 2000), size=(16, 1024), octaves=(1, 10), every=(1, 10**6), seed=(0, SEEDS)
)
NUMBERS = dict(
    spread=(1e-3, 2.0), budget=(1.0, 64.0), rate=(1e-5, 10.0), variation=(0.0, 1e3), bound=(0.0, 1e3),
    blur=(0.0, 10.0), jitter=(0.0, 0.5),
)  # fmt: skip


# The network


def _network(desk: Desk, args: dict[str, Any]) -> tuple[str, str]:
    """Its name as the command line takes it, and --weights.  Raises Refusal where it cannot be opened."""
    name, chance = text(args, "network", 1000), flag(args, "random", False)
    if name in GRAPHS:
        if not chance and not _here(name):
            file = weights.FILES[name][0].file
            raise Refusal(
                f"the weights of {name} are not on this machine: {file} is missing; put it into "
                f"{cache.where() / 'weights'}, or choose random weights."
            )
        return name, "none" if chance else ""
    folder = confined(desk.root, name)
    if not is_run(folder):
        raise Refusal(f"{name[:80]} is no run of this studio any more; choose another network.")
    if chance:
        raise Refusal("a run has its own weights; only networks of the lab may have random ones.")
    return near(folder), ""


def _here(name: str) -> bool:
    """Whether the weights up to the classes of a network of the lab are on this machine."""
    files = weights.FILES[name]
    return any(file.ends == files[0].ends and weights.lookup(file) for file in files)


def _net(desk: Desk, args: dict[str, Any], own: bool = False) -> Probe:
    """Opened once, until its weights change; own: for this question alone, which will change them."""
    name, kind_of = _network(desk, args)
    if own:
        return opening.load(name, kind_of)
    key = (name, kind_of, () if name in GRAPHS else marked(Path(name)))
    if key not in NETS:
        NETS[key] = opening.load(name, kind_of)
        while len(NETS) > 2:
            NETS.popitem(last=False)
    NETS.move_to_end(key)
    saliency.classes(NETS[key])
    return NETS[key]


def about(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The networks of the lab, and of the chosen one its classes and layers."""
    lab = [dict(name=n, missing="" if _here(n) else weights.FILES[n][0].file) for n in GRAPHS]
    if not args.get("network"):
        yield Answer(dict(lab=lab))
        return
    net = _net(desk, args)
    yield Answer(
        dict(
            lab=lab,
            name=net.name,
            source=net.source,
            labels=list(net.labels) or [str(i) for i in range(saliency.classes(net))],
            layers=[n for n in net.layers if n not in net.lost],
            places=[n for n, s in net.layers.items() if len(s) == 3 and min(s[1:]) > 1 and n not in net.lost],
            layer=dream.usual_layer(net),
            cam=saliency.last_with_places(net),
            side=net.side,
        )
    )


# The image


def _image(desk: Desk, args: dict[str, Any]) -> tuple[str, int | None]:
    """What `likeness look` is told: a file, or a set and a number in it."""
    name = text(args, "image", 200, "")
    if name:
        file = desk.root / FOLDER / name
        if not OWN_NAME.fullmatch(name) or not file.is_file():
            raise Refusal("that image is no longer in the folder of the studio; drop it here again.")
        return near(file), None
    network = text(args, "network", 1000)
    data = {} if network in GRAPHS else read_json(confined(desk.root, network) / CONFIG).get("data")
    source = str(data.get("source") or SET) if isinstance(data, dict) else SET
    return source, whole(args, "pick", 0, 9999, 0)


def own(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image that somebody brings: kept in the studio's folder, named by what it holds."""
    file = arrays.get("file")
    if file is None or file.dtype != np.uint8 or not 0 < file.size <= LARGEST:
        raise Refusal(f"an image file of up to {LARGEST >> 20} MB is wanted.")
    raw = file.tobytes()
    known = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
    ending = known.get(str(kind(raw[:32])).upper())
    if ending is None:
        raise Refusal("that is no image file; drop a PNG, JPEG, WebP, GIF or BMP.")
    name = f"own/{hashlib.sha256(raw).hexdigest()[:16]}.{ending}"
    path = desk.root / FOLDER / name
    if not path.is_file():
        storage.make(path.parent)
        storage.write(path, raw)
    yield Answer(dict(image=name))


# Looks


def _asked(desk: Desk, args: dict[str, Any], what: str) -> dict[str, Any]:
    """The arguments of reports.looks, all that this look takes and the page has sent."""
    network, chance = _network(desk, args)
    takes = looks.TAKES[what]
    known: dict[str, Any] = dict.fromkeys(dict.fromkeys(n for names in looks.TAKES.values() for n in names))
    known |= dict(what=what, network=network, weights=chance, seed=whole(args, "seed", 0, SEEDS, 0))
    for name in takes:
        if args.get(name) in (None, "") or name in ("image", "pick"):
            continue
        if name in WORDS:
            known[name] = text(args, name, WORDS[name])
        elif name in WHOLES:
            known[name] = whole(args, name, *WHOLES[name])
        elif name in NUMBERS:
            known[name] = number(args, name, *NUMBERS[name])
    if "sanity" in takes and flag(args, "sanity", False):
        known["sanity"] = True
    if "image" in takes:
        known["image"], known["pick"] = _image(desk, args)
    looks.refuse_others(what, known)
    return known


def _command(asked: dict[str, Any], target: Path | None = None) -> str:
    """`likeness look` with the same."""
    words = ["likeness", "look"] + ([shlex.quote(asked["image"])] if asked["image"] is not None else [])
    names = dict(of="class")
    if asked["what"] != "saliency":
        words += ["--what", asked["what"]]
    words += ["--network", shlex.quote(asked["network"])]
    for name in ("weights", "pick", "of", "layer", *WHOLES, *NUMBERS):
        value = asked.get(name)
        if value not in (None, "") and not (name == "seed" and value == 0):
            words += [
                f"--{names.get(name, name)}",
                f"{value:g}" if isinstance(value, float) else shlex.quote(str(value)),
            ]
    if asked["sanity"]:
        words.append("--sanity")
    return " ".join(words + ([f"-o {typed(target)}"] if target else []))


def _walk(
    desk: Desk, args: dict[str, Any], what: str, show: Callable[[Probe, dict[str, Any], Any], Answer]
) -> Iterator[Answer]:
    """Each state as it is shown, at most one in OFTEN seconds unless it is a frame; the last with what came
    of it."""
    began, last = time.monotonic(), 0.0
    asked = _asked(desk, args, what)
    net = _net(desk, args, own=bool(asked["sanity"]))
    asked |= looks.pictures(net, asked)
    key = _key(asked)
    facts: dict[str, Any] = dict(command=_command(asked), key=key)
    way = looks.LOOKS[what](net, asked)
    for n, state in enumerate(way.states):
        if what in ("class", "dream") or getattr(state, "checks", None) or time.monotonic() - last > OFTEN:
            shown = show(net, asked, state)
            yield Answer(dict(shown.data, n=n, share=min(shown.data["share"], 0.999), **facts), shown.arrays)
            last = time.monotonic()
    found = looks.counted(net, asked, way.found(state), time.monotonic() - began)
    FOUND[key] = found
    while len(FOUND) > 8:
        FOUND.popitem(last=False)
    shown = show(net, asked, state)
    more = _retested(net, found) if what == "fool" else {}
    numbers = {k: v for k, v in found.numbers.items() if k != "rules"}
    data = dict(shown.data, n=n, share=1.0, text=found.text, numbers=numbers, **facts, **more)
    yield Answer(data, shown.arrays)


def _key(asked: dict[str, Any]) -> str:
    plain = {k: v for k, v in asked.items() if not isinstance(v, Tensor)}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _bars(net: Probe, x: Tensor, *also: int) -> list[dict[str, Any]]:
    """The likeliest classes of an image, and these."""
    with torch.no_grad():
        p = saliency.logits(net, x).softmax(1)[0]
    first = dict.fromkeys([*also, *p.argsort(descending=True)[:BARS].tolist()])
    return [dict(y=y, label=saliency.label(net, y), p=float(p[y])) for y in first]


def saliency_maps(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """All five maps of one class, as colours (M, H, W, 3): how much, and for or against; with `sanity` also
    those of networks that are ever more random, (stages, M, H, W, 3)."""

    bars = list[dict[str, Any]]()

    def show(net: Probe, asked: dict[str, Any], state: looks.Maps) -> Answer:
        maps, y = state.progress.maps, int(state.of)
        methods = [m for m in saliency.METHODS if m in maps]
        pictures: dict[str, np.ndarray | Picture] = {
            "input": figures.pixels(asked["x"]),
            "strength": np.concatenate([saliency.strength(maps[m]) for m in methods]),
            "sign": np.concatenate([saliency.sign(maps[m]) for m in methods]),
        }
        checks = [dict(layer=c.layer, signed=looks.numbers(c.signed)) for c in state.checks]
        if state.checks:
            pictures["random"] = np.stack(
                [np.concatenate([saliency.strength(c.maps[m]) for m in methods]) for c in state.checks]
            )
        share = (state.progress.share + len(checks)) / (5 if asked["sanity"] else 1)
        data = dict(methods=methods, y=y, label=saliency.label(net, y), checks=checks, share=share)
        if not bars:  # of the network as it was
            bars.extend(_bars(net, asked["x"], y))
        return Answer(data | dict(bars=bars), pictures)

    yield from _walk(desk, args, "saliency", show)


def _frame(x: Tensor) -> np.ndarray | Picture:
    image = figures.pixels(x)
    if max(image.shape[1:3]) <= LARGE:
        return image
    return Picture(figures.jpeg(image[0], {}), "image/jpeg")


def _framed(net: Probe, asked: dict[str, Any], state: dream.State) -> Answer:
    pictures: dict[str, np.ndarray | Picture] = {"frame": _frame(state.x)}
    if asked.get("x") is not None:
        pictures["input"] = _frame(asked["x"])
    bars = [] if asked["what"] == "dream" else _bars(net, state.x, saliency.class_of(net, asked["of"]))
    return Answer(dict(share=state.share, loss=state.loss, bars=bars), pictures)


def class_image(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image of a class, as it comes: a frame a step."""
    yield from _walk(desk, args, "class", _framed)


def dreamt(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image as it turns into what a layer sees in it: a frame a step."""
    yield from _walk(desk, args, "dream", _framed)


def fool(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image, its likeness that fools, and how sure the network is of either; at the end what is left of it
    after JPEG, resizing and cropping."""

    def show(net: Probe, asked: dict[str, Any], state: dream.State) -> Answer:
        x = asked["x"]
        aim = [] if asked["of"] is None else [saliency.class_of(net, asked["of"])]
        first, then = (int(saliency.likeliest(net, at)[0]) for at in (x, state.x))
        after = {b["y"]: b for b in _bars(net, state.x, first, then, *aim)}
        before = {b["y"]: b for b in _bars(net, x, *after)}
        bars = [dict(before[y], after=b["p"]) for y, b in after.items()]
        data = dict(share=state.share, bars=bars, first=first, then=then, aim=aim[0] if aim else None)
        return Answer(data, {"input": figures.pixels(x), "result": figures.pixels(state.x)})

    yield from _walk(desk, args, "fool", show)


def _retested(net: Probe, found: looks.Look) -> dict[str, Any]:
    """What the network takes the fooling image for once it has been through what happens to images."""
    says = []
    for name, x in fooling.worn(found.x):
        y, p = saliency.likeliest(net, x)
        says.append(dict(name=name, y=int(y), label=saliency.label(net, int(y)), p=float(p)))
    return dict(retests=says)


def save(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The look that the page shows, as the files that its command writes."""
    key = text(args, "key", 12)
    if key not in FOUND:
        raise Refusal("that look is no longer in memory; make it again, then save it.")
    what = FOUND[key].numbers["what"]
    target = desk.root / FOLDER / key / f"{what}.png"
    FOUND[key].save(target)
    yield Answer(dict(saved=typed(target), command=f"{text(args, 'command', 4000, '')} -o {typed(target)}"))


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    "about": about,
    "own": own,
    "saliency": saliency_maps,
    "class": class_image,
    "dream": dreamt,
    "fool": fool,
    "save": save,
}
