"""Looks into a network, each a picture with its numbers: where in an image its answer depends, what fools it,
and what it wants to see.

    saliency   gradients, SmoothGrad, integrated gradients, Grad-CAM of the class
    fool       an image hardly changed that is taken for another
    class      an image that the network takes for a class
    invert     an image with the same values in a layer
    dream      DeepDream: an image with more of what a layer sees

The command line and Python ask here in the same words.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.backends import cudnn

from .. import engine, figures, storage
from ..backbones import catalogue
from ..backbones.resize import resized
from ..core import BadData, Refusal, Spec, closest
from ..data import picture as floats
from ..data import user_images
from ..data.dataset import Reading
from ..data.decode import Skip, decode
from ..data.pixels import within
from ..data.source import parse
from ..explain import dream, fooling, saliency
from ..features import named, opening
from ..metrics.reconstruction import psnr
from . import terminal
from .notebook import Page

if TYPE_CHECKING:
    from ..backbones.layers import Probe
    from ..explain.dream import Rules

WHOLE = 448
"""pixels of the long side of an image that is dreamt in"""
TAKES = {
    "saliency": ("image", "pick", "of", "layer", "samples", "spread", "steps", "sanity"),
    "fool": ("image", "pick", "of", "norm", "budget", "steps", "frames", "every"),
    "class": ("of", "size", "steps", "rate", "variation", "bound", "blur", "jitter", "frames", "every"),
    "invert": (
        "image",
        "pick",
        "layer",
        "size",
        "steps",
        "rate",
        "variation",
        "bound",
        "blur",
        "frames",
        "every",
    ),
    "dream": (
        "image",
        "pick",
        "layer",
        "size",
        "steps",
        "rate",
        "octaves",
        "wish",
        "guide",
        "frames",
        "every",
    ),
}
"""what each kind of look asks for; anything else that was typed is refused"""


@dataclass(frozen=True, eq=False, repr=False)
class Look(Page):
    """What was looked for, as a picture with its numbers."""

    x: Tensor = field(default_factory=lambda: torch.zeros(0))
    """the image itself that came of it, or that was looked at, float32 (1, 3, H, W) in [-1, 1]"""
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    """of saliency: float32 (H, W) of each method"""
    numbers: dict[str, Any] = field(default_factory=dict)
    """what --json says of it"""
    text: str = ""
    """and the terminal"""
    beside: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """files that are written beside the picture, by what they are: ending and content"""

    def save(self, target: str | Path) -> Path:
        """As Page.save; all numbers of saliency are written beside it (.npz), and the image that fools
        (-image.png)."""
        target = super().save(target)
        for place, (_, content) in zip(self.files(target).values(), self.beside.values()):
            storage.write(place, content)
        return target

    def files(self, target: Path) -> dict[str, Path]:
        """Where save() writes what lies beside the picture."""
        return {name: target.with_name(target.stem + end) for name, (end, _) in self.beside.items()}


def look(
    image: Tensor | str | Path | None = None,
    network: str | Path = "resnet50",
    what: str = "saliency",
    *,
    weights: str = "",
    pick: int | None = None,
    of: str | int | None = None,
    layer: str | None = None,
    size: int | None = None,
    steps: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    samples: int | None = None,
    spread: float | None = None,
    sanity: bool | None = None,
    norm: str | None = None,
    budget: float | None = None,
    variation: float | None = None,
    bound: float | None = None,
    blur: float | None = None,
    jitter: float | None = None,
    octaves: int | None = None,
    wish: str | None = None,
    guide: str | Path | None = None,
    frames: str | Path | None = None,
    every: int | None = None,
    progress: bool = True,
) -> Look:
    """Look into `network`: its name, or the folder of a run that encodes.

    image: a file; a folder, an array or a set, of which image number `pick` is taken; or a tensor (C, H, W)
    in [-1, 1].  of: a class, by name or number.  The others are the flags of `likeness look`, each for the
    looks that TAKES lists it with.

    Raises Refusal for what a look has no use for, lacks or cannot find, BadData for a file that is no image.
    """
    args = dict(locals())
    own = image if isinstance(image, Tensor) else None
    args |= dict(network=str(network), own=own, of=None if of is None else str(of), progress=None)
    args |= dict(image="the image" if own is not None else None if image is None else str(image))
    args |= dict(guide=None if guide is None else str(guide), frames=None if frames is None else Path(frames))
    refuse_others(what, args)
    return looked(opened(args), dict(args, quiet=not progress))


def looked(net: Probe, args: dict[str, Any]) -> Look:
    """What was asked, of a network and images that opened() has at hand."""
    began = time.monotonic()
    # torch rounds what a convolution on a GPU is given to 11 bits unless told
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        way = LOOKS[args["what"]](net, args)
        result = way.found(_walked(way, args))
    return counted(net, args, result, time.monotonic() - began)


def counted(net: Probe, args: dict[str, Any], result: Look, seconds: float) -> Look:
    """With what every look says of itself."""
    about = dict(what=args["what"], network=net.name, weights=net.sha256)
    return replace(result, numbers=result.numbers | about | dict(seconds=round(seconds, 1)))


def refuse_others(what: str, args: dict[str, Any]) -> None:
    """Refuse a look that there is not, and one that was asked with what it has no use for, or without what it
    needs."""
    if what not in TAKES:
        raise Refusal(f"there is no look {what!r}; {closest(what, tuple(TAKES))}")
    flags = {"of": "class"}
    for name in dict.fromkeys(n for names in TAKES.values() for n in names):
        if args[name] is not None and name not in TAKES[what]:
            takers = ", ".join(w for w, names in TAKES.items() if name in names)
            named = f"the image {args[name]!r}" if name == "image" else f"--{flags.get(name, name)}"
            raise Refusal(
                f"{what} has no use for {named}, which is for {takers}; leave it out, or name one of these "
                "with --what."
            )
    needs = {"image": "an image: likeness look photo.jpg", "layer": "--layer NAME", "of": "--class NAME"}
    for name in {"class": ("of",), "invert": ("image", "layer"), "dream": ("image",)}.get(what, ("image",)):
        if args[name] is None:
            more = "" if name == "image" else f"; likeness look --what {what} --help shows all flags"
            raise Refusal(f"{what} asks for {needs[name]}{more}.")


# The kinds of look


@dataclass(frozen=True)
class Way:
    """How to a look: the states on it, each better than the one before, and what the last of them is."""

    states: Iterator[Any]
    """dream.State, or Maps"""
    says: Callable[[Any], str]
    """a state in a line"""
    found: Callable[[Any], Look]
    recipe: dict[str, Any]
    """of its frames"""
    like: Tensor | None = None
    """the image whose size frames have"""


class Maps(NamedTuple):
    """A place on the way to maps: those that are known, and what random weights have made of them so far."""

    progress: saliency.Progress
    of: Tensor
    """the class, (1,)"""
    sure: float
    """of it"""
    checks: tuple[saliency.Agreement, ...] = ()


def _saliency(net: Probe, args: dict[str, Any]) -> Way:
    x = args["x"]
    y, p = _class(net, x, args["of"])
    how = saliency.How(seed=args["seed"], **_typed(args, "samples", "spread", "steps", "layer"))
    name = saliency.label(net, int(y))

    def states() -> Iterator[Maps]:
        for result in saliency.explain(net, x, y, how):
            yield Maps(result, y, p)
        checks: tuple[saliency.Agreement, ...] = ()
        for check in saliency.sanity(net, x, y, result.maps, how) if args["sanity"] else ():
            yield Maps(result, y, p, checks := (*checks, check))

    def says(state: Maps) -> str:
        if state.checks:
            return f"the same with random weights down to {state.checks[-1].layer}"
        return f"{state.progress.share:4.0%}  maps of class {name}"

    return Way(states(), says, lambda state: _mapped(net, args, how, state), {})


def _mapped(net: Probe, args: dict[str, Any], how: saliency.How, state: Maps) -> Look:
    x, y, p, result, checks = args["x"], state.of, state.sure, state.progress, state.checks
    name = saliency.label(net, int(y))
    assert result.path is not None
    total, wanted, error = (
        float(result.path.map.sum()),
        float(result.path.difference),
        float(result.path.error),
    )
    recipe = _recipe(
        net,
        args,
        of=int(y),
        layer=how.layer or saliency.last_with_places(net),
        samples=how.samples,
        spread=how.spread,
        steps=result.path.used,
    )
    complete = dict(sum=total, difference=wanted, error=error, gradients=result.path.used)
    lines = [
        f"{name} (class {int(y)}), {p:.1%}",
        f"integrated gradients sum to {total:.4f}; F(image) - F(black) is {wanted:.4f}: off by {error:.2%} "
        f"after {result.path.used} gradients",
    ]
    if error > 0.01:
        lines.append(f"that is more than 1 %: ask for more than {how.steps} steps")
    lines += [f"random down to {c.layer}: {_agreement(c)}" for c in checks]
    agreement = [dict(layer=c.layer, signed=numbers(c.signed), absolute=numbers(c.absolute)) for c in checks]
    return Look(
        saliency.page(x, result.maps, f"{name}, {p:.1%}", checks),
        recipe,
        x,
        {name: m[0].cpu().numpy() for name, m in result.maps.items()},
        dict(recipe, probability=p, label=name, complete=complete, sanity=agreement),
        "\n".join(lines),
        dict(maps=(".npz", _arrays(x, result.maps, recipe))),
    )


def _agreement(check: Any) -> str:
    return ", ".join(
        f"{name} {check.signed[name][0]:.2f} ({check.absolute[name][0]:.2f} without sign)"
        for name in saliency.METHODS
    )


def numbers(maps: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in maps.items()}


def _arrays(x: Tensor, maps: dict[str, Tensor], recipe: dict[str, Any]) -> bytes:

    file, known = io.BytesIO(), {name.replace(" ", "_"): m[0].cpu().numpy() for name, m in maps.items()}
    np.savez_compressed(
        file,
        allow_pickle=False,
        image=x[0].cpu().numpy(),
        recipe=np.array(json.dumps(recipe, default=str)),
        **known,
    )
    return file.getvalue()


def _fool(net: Probe, args: dict[str, Any]) -> Way:
    x = args["x"]
    first, _ = saliency.likeliest(net, x)
    aim = args["of"] is not None
    y = torch.tensor([saliency.class_of(net, args["of"])], device=x.device) if aim else first
    if aim and int(y) == int(first):
        raise Refusal(f"{net.name} takes this image for {args['of']} as it is; name another class to aim at.")
    norm = args["norm"] or "linf"
    budget = fooling.Budget(norm, args["budget"] or fooling.BUDGETS.get(norm, 0.0))
    recipe = _recipe(
        net,
        args,
        norm=norm,
        budget=budget.size,
        steps=args["steps"] or fooling.STEPS,
        **{"aim" if aim else "away": int(y)},
    )
    states = fooling.fool(net, x, y, budget, aim, recipe["steps"])
    says = _told("fooling: log odds of failure")
    return Way(states, says, lambda state: _fooled(net, x, int(y), budget, aim, recipe, state), recipe, x)


def _fooled(
    net: Probe,
    x: Tensor,
    y: int,
    budget: fooling.Budget,
    aim: bool,
    recipe: dict[str, Any],
    state: dream.State,
) -> Look:
    content = figures.png(figures.pixels(state.x)[0], recipe)
    with tempfile.TemporaryDirectory() as folder:  # the file is what fools, rounded to 256 levels
        file = Path(folder) / "image.png"
        file.write_bytes(content)
        verdict = fooling.judge(net, x, y, aim, budget, file)
    name = saliency.label
    was, is_now = (
        (f"{name(net, verdict.before)} {verdict.sure_before:.1%}"),
        (f"{name(net, verdict.after)} {verdict.sure_after:.1%}"),
    )
    says = (
        f"{was} -> {is_now}, by the file of the image, read again: "
        f"{'fooled' if verdict.fooled else 'not fooled'}"
    )
    inside = "within" if verdict.within else "outside of"
    text = (
        f"{says}\nchanged by at most {verdict.linf} of 255 levels, L2 {verdict.l2:.3g}: {inside} the budget "
        f"of {budget.size:g} in {budget.norm}"
    )
    known = dict(recipe, **verdict._asdict())
    page = fooling.page(net, x, state.x, verdict)
    return Look(page, known, state.x, {}, known, text, dict(image=("-image.png", content)))


def _class_image(net: Probe, args: dict[str, Any]) -> Way:
    y, side = saliency.class_of(net, args["of"]), args["size"] or net.side
    rules = _rules(args, dream.CLASS_RULES)
    recipe = _recipe(
        net,
        args,
        of=y,
        size=side,
        rules=rules,
        steps=args["steps"] or dream.CLASS_STEPS,
        rate=args["rate"] or dream.CLASS_RATE,
    )
    walk = dream.class_image(
        net, y, (side, side), steps=recipe["steps"], rate=recipe["rate"], rules=rules, seed=args["seed"]
    )
    name = saliency.label(net, y)

    def found(state: dream.State) -> Look:
        with torch.no_grad():
            p = float(saliency.logits(net, state.x).softmax(1)[0, y])
        known, text = dict(recipe, probability=p), f"{name} (class {y}): {p:.1%} sure"
        return Look(_enlarged(state.x), known, state.x, {}, dict(known, label=name), text)

    return Way(walk, _told(f"{name}: minus its logit, and rules"), found, recipe)


def _invert(net: Probe, args: dict[str, Any]) -> Way:
    x, layer = args["x"], args["layer"]
    rules = _rules(args, dream.INVERT_RULES)
    recipe = _recipe(
        net,
        args,
        rules=rules,
        steps=args["steps"] or dream.INVERT_STEPS,
        rate=args["rate"] or dream.INVERT_RATE,
    )
    walk = dream.invert(
        net, x, layer, steps=recipe["steps"], rate=recipe["rate"], rules=rules, seed=args["seed"]
    )

    def found(state: dream.State) -> Look:
        apart, decibels = dream.apart(net, x, state.x, layer), float(psnr(x.cpu(), state.x.cpu()))
        columns = [figures.pixels(x), figures.pixels(state.x)]
        page = figures.sheet(columns, ["image", f"what {layer} has kept"], tile=128)
        text = f"{layer} differs by {apart:.1%} of its size; the images by {decibels:.2f} dB"
        known = dict(recipe, apart=apart, psnr=decibels)
        return Look(page, known, state.x, {}, known, text)

    return Way(walk, _told(f"inverting {layer}: squared distance, and rules"), found, recipe, x)


def _dream(net: Probe, args: dict[str, Any]) -> Way:
    x, guide, layer = args["x"], args["other"], args["layer"] or dream.usual_layer(net)
    octaves, wish = args["octaves"] or dream.OCTAVES, args["wish"] or "l2"
    recipe = _recipe(
        net,
        args,
        layer=layer,
        guide=args["guide"],
        octaves=octaves,
        wish=wish,
        steps=args["steps"] or dream.DREAM_STEPS,
        rate=args["rate"] or dream.DREAM_RATE,
    )
    walk = dream.dream(
        net,
        x,
        layer,
        steps=recipe["steps"],
        rate=recipe["rate"],
        octaves=octaves,
        wish=wish,
        guide=guide,
        seed=args["seed"],
    )

    def found(state: dream.State) -> Look:
        before, after = (dream.pleased(net, at, layer, wish, guide) for at in (x, state.x))
        known = dict(recipe, before=before, after=after)
        text = f"what {layer} sees grew from {before:.4g} to {after:.4g}"
        return Look(_enlarged(state.x), known, state.x, {}, known, text)

    return Way(walk, _told(f"dreaming of {layer}: minus what is to grow"), found, recipe, x)


LOOKS: dict[str, Callable[[Probe, dict[str, Any]], Way]] = {
    "saliency": _saliency,
    "fool": _fool,
    "class": _class_image,
    "invert": _invert,
    "dream": _dream,
}


# Images


def opened(args: dict[str, Any]) -> Probe:
    """The network, and its pictures into `args`: first these, where weights may have to be fetched for
    minutes and an image is not even there."""
    layers = [args["layer"]] if args["layer"] else []
    if named.parse(args["network"], named.LAYERS).kind == "graph":
        shape = catalogue.named(args["network"])
        shape.check(layers)
        args |= pictures(shape, args)
        return opening.load(args["network"], args["weights"], layers, args["seed"])
    net = opening.load(args["network"], args["weights"], layers, args["seed"])
    args |= pictures(net, args)
    return net


def pictures(net: Probe, args: dict[str, Any]) -> dict[str, Tensor | None]:
    """x, the image that was named, and other, that of the guide.  Of the network only what it is is asked,
    and not its weights."""
    whole = args["what"] == "dream" and not dream.fixed(net, args["layer"] or dream.usual_layer(net))
    other = (
        None if args["guide"] is None else picture(net, dict(args, image=args["guide"], pick=None, size=None))
    )
    if args.get("own") is not None:
        return dict(x=_tensor(net, args["own"], whole), other=other)
    return dict(x=None if args["image"] is None else picture(net, args, whole), other=other)


def _tensor(net: Probe, x: Tensor, whole: bool) -> Tensor:
    """One's own (C, H, W) in [-1, 1], as (1, 3, H, W).  Raises Refusal for any other shape."""
    if x.ndim != 3 or x.shape[0] not in (1, 3) or not (whole or x.shape[1:] == (net.side, net.side)):
        there = "any size" if whole else f"{net.side} pixels a side, or name the file"
        raise Refusal(
            f"x has the shape {tuple(x.shape)}, and an image for {net.name} is (1 or 3, height, width) of "
            f"{there}."
        )
    return x[None].expand(-1, 3, -1, -1).float().to(engine.device())


def picture(net: Probe, args: dict[str, Any], whole: bool = False) -> Tensor:
    """The image (1, 3, H, W) that was named: the middle square of it, or all of it if `whole` and it is a
    file."""
    source, pick = parse(args["image"]), args["pick"] or 0
    if whole and source.kind == "file" and source.path is not None and args["pick"] is None:
        return _uncut(source.path, args["size"] or WHOLE).to(engine.device())
    side = args["size"] or net.side
    settings = vars(net.reading) if isinstance(net, opening.OfRun) else {}
    result = user_images.images(source, Spec(3, side), settings, pick + 1)
    if pick >= len(result.x):
        raise Refusal(
            f"{source.text} has {len(result.x):,} images, numbered from 0, and none is number {pick}."
        )
    return result.x[pick : pick + 1].float().to(engine.device())


def _uncut(path: Path, side: int) -> Tensor:
    """An image file in its own proportions, its long side no longer than `side`."""
    status = path.stat()
    result = decode(os.fsencode(path), (status.st_size, status.st_mtime_ns), Reading(size=side), within)
    if isinstance(result, Skip):
        raise BadData(f"{path} cannot be used ({result.reason}: {result.detail}); name another image.")
    return floats(np.array(result.pixels[None])).float().expand(-1, 3, -1, -1)


def _class(net: Probe, x: Tensor, args: str | None) -> tuple[Tensor, float]:
    """The class (1,) that was named, or the likeliest, and how sure the network is of it."""
    if args is None:
        y, p = saliency.likeliest(net, x)
        return y, float(p)
    number = saliency.class_of(net, args)
    with torch.no_grad():
        return torch.tensor([number], device=x.device), float(saliency.logits(net, x).softmax(1)[0, number])


def _enlarged(x: Tensor) -> np.ndarray:
    return figures.enlarge(figures.pixels(x)[0], figures.enlargement(x.shape[2], x.shape[3]))


# What all of them do


def _told(text: str) -> Callable[[dream.State], str]:
    return lambda state: f"{state.share:4.0%}  {text} {state.loss:.4g}"


def _walked(way: Way, args: dict[str, Any]) -> Any:
    """Go to the end of the way, with a word on how far it is, and pictures of it where these are
    asked for."""
    folder, every, kept = args["frames"], args["every"] or 10, -1
    if folder is not None:
        storage.make(folder)

    def keep() -> None:
        x = state.x if way.like is None else resized(state.x, (way.like.shape[2], way.like.shape[3]))
        about = dict(way.recipe, frame=number, loss=state.loss)
        figures.write_png(folder / f"{number:06d}.png", _enlarged(x), about)

    with terminal.status(args["quiet"]) as status:
        for number, state in enumerate(way.states):
            status(way.says(state))
            if folder is not None and number % every == 0:
                keep()
                kept = number
    if folder is not None and kept != number:
        keep()
    return state


def _recipe(net: Probe, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    names = ("image", "pick", "layer", "seed") if args.get("own") is None else ("layer", "seed")
    what = {name: args[name] for name in names if args[name] is not None}
    return dict(look=args["what"], network=net.name, weights=net.sha256, source=net.source, **what) | more


def _typed(args: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: args[name] for name in names if args[name] is not None}


def _rules(args: dict[str, Any], usual: Rules) -> Rules:
    from dataclasses import replace

    return replace(usual, **_typed(args, "variation", "bound", "blur", "jitter"))
