"""likeness look: what in an image a network's answer depends on, and images that please or fool it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, closest, common, count, natural, picture_file, positive, target, writable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..backbones.layers import Probe
    from ..explain.dream import Rules, State

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


def look(argv: list[str]) -> int:
    """look IMAGE: where a network looks, what would fool it, what it wants to see: saliency, fool, class,
    invert, dream"""
    from torch.backends import cudnn

    from ..core import Refusal
    from ..figures import ENDINGS
    from ..reports import terminal

    args = _parsed(argv)
    what = args["what"]
    if what not in TAKES:
        raise Refusal(
            f"there is no look {what!r}; {closest(what, list(TAKES))}  There are: {', '.join(TAKES)}."
        )
    _refuse_others(what, args)
    stem = Path(args["image"] or str(args["of"])).stem
    path = writable(target(args["o"], Path("looks") / f"{stem}-{what}.png", *ENDINGS))
    net = _opened(args)
    began = time.monotonic()
    # torch rounds what a convolution on a GPU is given to 11 bits unless told
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        result, text = LOOKS[what](net, args, path)
    result |= dict(
        what=what,
        network=net.name,
        weights=net.sha256,
        path=str(path),
        seconds=round(time.monotonic() - began, 1),
    )
    terminal.result(result, args["json"], f"{text}\n{path}")
    return 0


def _parsed(argv: list[str]) -> dict[str, Any]:
    from ..explain.dream import WISHES
    from ..explain.fooling import BUDGETS
    from ..features import named

    usage = "IMAGE [--what saliency|fool|class|invert|dream] [--network resnet50] [-o out.png] [options]"
    parser = Parser(
        "look",
        "Gradients of a network's output with respect to the pixels: saliency maps, adversarial examples,\n"
        "class images, inverted layers and dreams.",
        usage,
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="a file; or a folder, an array or a set that has a name, with --pick",
    )
    parser.add_argument(
        "--pick", type=natural, metavar="I", help="which image of a folder, an array or a set, from 0 [0]"
    )
    parser.add_argument(
        "--what", metavar="|".join(TAKES), default="saliency", help="kind of analysis [saliency]"
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        default="resnet50",
        help=f"network: {named.choices(named.LAYERS)} [resnet50]",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default="",
        help="a .safetensors, .npz, .h5 or .pth, or none for random ones [the published ones]",
    )
    parser.add_argument(
        "--class",
        dest="of",
        metavar="CLASS",
        help="class, by name or number: of the map, of the attack, of the image [the likeliest; any other]",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer to invert, to dream of, or of Grad-CAM; likeness features --layers NETWORK lists all",
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="PIXELS",
        help=f"side of the picture; the long side of a dream [the network's own; {WHOLE}]",
    )
    parser.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help="optimisation steps, of a dream in each octave; of integrated gradients the most gradients",
    )
    parser.add_argument("--rate", type=positive, metavar="R", help="step size")
    common(parser, "--seed", "-o", "--device", "--json", o=picture_file())
    group = parser.add_argument_group("saliency")
    group.add_argument(
        "--samples", type=count, metavar="N", help="noisy copies that SmoothGrad averages over"
    )
    group.add_argument(
        "--spread",
        type=positive,
        metavar="SHARE",
        help="standard deviation of that noise, as a fraction of the image's range",
    )
    group.add_argument(
        "--sanity",
        action="store_true",
        default=None,
        help="compare with the maps of a network whose weights are randomised from the top down",
    )
    group = parser.add_argument_group("fool")
    group.add_argument("--norm", metavar="|".join(BUDGETS), help="norm of the perturbation [linf]")
    group.add_argument(
        "--budget",
        type=positive,
        metavar="B",
        help="largest norm of the perturbation: linf in levels of 255, l2 on [0, 1] "
        f"[{', '.join(f'{v:g}' for v in BUDGETS.values())}]",
    )
    group = parser.add_argument_group("class and invert")
    group.add_argument("--variation", type=float, metavar="W", help="weight of the total variation, squared")
    group.add_argument("--bound", type=float, metavar="W", help="weight of mean |x|^6")
    group.add_argument(
        "--blur", type=float, metavar="PIXELS", help="standard deviation of the Gaussian blur, in pixels"
    )
    group.add_argument(
        "--jitter",
        type=float,
        metavar="SHARE",
        help="largest random shift at each step, as a fraction of the side; class zooms by 5 times that",
    )
    group = parser.add_argument_group("dream")
    group.add_argument(
        "--octaves", type=count, metavar="N", help="image sizes, each 1.4 times the one before"
    )
    group.add_argument(
        "--wish", metavar="|".join(WISHES), help="mean of the activations that is maximised [l2]"
    )
    group.add_argument("--guide", metavar="IMAGE", help="image whose features the dream takes up")
    group = parser.add_argument_group("intermediate pictures (not saliency)")
    group.add_argument("--frames", type=Path, metavar="FOLDER", help="folder for intermediate pictures")
    group.add_argument("--every", type=count, metavar="K", help="steps between two of them [10]")
    return parser.read(argv)


def _refuse_others(what: str, args: dict[str, Any]) -> None:
    from ..core import Refusal

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


def _saliency(net: Probe, args: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    from .. import figures, storage
    from ..explain import saliency
    from ..reports import terminal

    x = args["x"]
    y, p = _class(net, x, args["of"])
    how = saliency.How(seed=args["seed"], **_typed(args, "samples", "spread", "steps", "layer"))
    name, checks = saliency.label(net, int(y)), []
    with terminal.err.status("") as status:
        for result in saliency.explain(net, x, y, how):
            status.update(f"{result.share:4.0%}  maps of class {name}")
        for check in saliency.sanity(net, x, y, result.maps, how) if args["sanity"] else ():
            checks.append(check)
            status.update(f"the same with random weights down to {check.layer}")
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
    arrays = path.with_suffix(".npz")
    storage.make(path.parent)
    figures.write(path, saliency.page(x, result.maps, f"{name}, {p:.1%}", checks), recipe)
    storage.write(arrays, _arrays(x, result.maps, recipe))
    complete = dict(sum=total, difference=wanted, error=error, gradients=result.path.used)
    lines = [
        f"{name} (class {int(y)}), {p:.1%}",
        f"integrated gradients sum to {total:.4f}; F(image) - F(black) is {wanted:.4f}: off by {error:.2%} "
        f"after {result.path.used} gradients",
    ]
    if error > 0.01:
        lines.append(f"that is more than 1 %: ask for more than {how.steps} steps")
    lines += [f"random down to {c.layer}: {_agreement(c)}" for c in checks]
    agreement = [
        dict(layer=c.layer, signed=_numbers(c.signed), absolute=_numbers(c.absolute)) for c in checks
    ]
    return dict(
        recipe, probability=p, label=name, complete=complete, sanity=agreement, maps=str(arrays)
    ), "\n".join([*lines, f"all numbers: {arrays}"])


def _agreement(check: Any) -> str:
    from ..explain.saliency import METHODS

    return ", ".join(
        f"{name} {check.signed[name][0]:.2f} ({check.absolute[name][0]:.2f} without sign)" for name in METHODS
    )


def _numbers(maps: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in maps.items()}


def _arrays(x: Tensor, maps: dict[str, Tensor], recipe: dict[str, Any]) -> bytes:
    import io
    import json

    import numpy as np

    file, known = io.BytesIO(), {name.replace(" ", "_"): m[0].cpu().numpy() for name, m in maps.items()}
    np.savez_compressed(
        file,
        allow_pickle=False,
        image=x[0].cpu().numpy(),
        recipe=np.array(json.dumps(recipe, default=str)),
        **known,
    )
    return file.getvalue()


def _fool(net: Probe, args: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    import torch

    from .. import figures, storage
    from ..core import Refusal
    from ..explain import fooling, saliency

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
    state = _walked(
        fooling.fool(net, x, y, budget, aim, recipe["steps"]), args, recipe, x, "fooling: log odds of failure"
    )
    file = path.with_name(f"{path.stem}-image.png")
    storage.make(path.parent)
    figures.write_png(file, figures.pixels(state.x)[0], recipe)
    verdict = fooling.judge(net, x, int(y), aim, budget, file)
    figures.write(path, fooling.page(net, x, state.x, verdict), dict(recipe, **verdict._asdict()))
    name = saliency.label
    was, is_now = (
        (f"{name(net, verdict.before)} {verdict.sure_before:.1%}"),
        (f"{name(net, verdict.after)} {verdict.sure_after:.1%}"),
    )
    says = (
        f"{was} -> {is_now}, as {file.name} says when it is read again: "
        f"{'fooled' if verdict.fooled else 'not fooled'}"
    )
    inside = "within" if verdict.within else "outside of"
    return dict(recipe, image=str(file), **verdict._asdict()), (
        f"{says}\nchanged by at most {verdict.linf} of 255 levels, L2 {verdict.l2:.3g}: {inside} the budget "
        f"of {budget.size:g} in {norm}"
    )


def _class_image(net: Probe, args: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    import torch

    from ..explain import dream, saliency

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
    state = _walked(walk, args, recipe, None, f"{name}: minus its logit, and rules")
    with torch.no_grad():
        p = float(saliency.logits(net, state.x).softmax(1)[0, y])
    _write(path, _enlarged(state.x), dict(recipe, probability=p))
    return dict(recipe, label=name, probability=p), f"{name} (class {y}): {p:.1%} sure"


def _invert(net: Probe, args: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    from .. import figures
    from ..explain import dream
    from ..metrics.reconstruction import psnr

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
    state = _walked(walk, args, recipe, x, f"inverting {layer}: squared distance, and rules")
    apart, decibels = dream.apart(net, x, state.x, layer), float(psnr(x.cpu(), state.x.cpu()))
    columns = [figures.pixels(x), figures.pixels(state.x)]
    _write(
        path,
        figures.sheet(columns, ["image", f"what {layer} has kept"], tile=128),
        dict(recipe, apart=apart, psnr=decibels),
    )
    says = f"{layer} differs by {apart:.1%} of its size; the images by {decibels:.2f} dB"
    return dict(recipe, apart=apart, psnr=decibels), says


def _dream(net: Probe, args: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    from ..explain import dream

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
    state = _walked(walk, args, recipe, x, f"dreaming of {layer}: minus what is to grow")
    before, after = dream.pleased(net, x, layer, wish, guide), dream.pleased(net, state.x, layer, wish, guide)
    _write(path, _enlarged(state.x), dict(recipe, before=before, after=after))
    return dict(recipe, before=before, after=after), (
        f"what {layer} sees grew from {before:.4g} to {after:.4g}"
    )


LOOKS: dict[str, Callable[[Probe, dict[str, Any], Path], tuple[dict[str, Any], str]]] = {
    "saliency": _saliency,
    "fool": _fool,
    "class": _class_image,
    "invert": _invert,
    "dream": _dream,
}


# Images


def _opened(args: dict[str, Any]) -> Probe:
    """The network, and its pictures into `args`: first these, where weights may have to be fetched for
    minutes and an image is not even there."""
    from ..backbones import catalogue
    from ..features import opening
    from ..features.named import LAYERS, parse

    layers = [args["layer"]] if args["layer"] else []
    if parse(args["network"], LAYERS).kind == "graph":
        shape = catalogue.named(args["network"])
        shape.check(layers)
        args |= _pictures(shape, args)
        return opening.load(args["network"], args["weights"], layers, args["seed"])
    net = opening.load(args["network"], args["weights"], layers, args["seed"])
    args |= _pictures(net, args)
    return net


def _pictures(net: Probe, args: dict[str, Any]) -> dict[str, Tensor | None]:
    """x, the image that was named, and other, that of the guide.  Of the network only what it is is asked,
    and not its weights."""
    from ..explain import dream

    whole = args["what"] == "dream" and not dream.fixed(net, args["layer"] or dream.usual_layer(net))
    other = (
        None if args["guide"] is None else picture(net, dict(args, image=args["guide"], pick=None, size=None))
    )
    return dict(x=None if args["image"] is None else picture(net, args, whole), other=other)


def picture(net: Probe, args: dict[str, Any], whole: bool = False) -> Tensor:
    """The image (1, 3, H, W) that was named: the middle square of it, or all of it if `whole` and it is a
    file."""
    from .. import engine
    from ..core import Refusal, Spec
    from ..data import user_images
    from ..data.source import parse
    from ..features.opening import OfRun

    source, pick = parse(args["image"]), args["pick"] or 0
    if whole and source.kind == "file" and source.path is not None and args["pick"] is None:
        return _uncut(source.path, args["size"] or WHOLE).to(engine.device())
    side = args["size"] or net.side
    settings = vars(net.reading) if isinstance(net, OfRun) else {}
    result = user_images.images(source, Spec(3, side), settings, pick + 1)
    if pick >= len(result.x):
        raise Refusal(
            f"{source.text} has {len(result.x):,} images, numbered from 0, and none is number {pick}."
        )
    return result.x[pick : pick + 1].float().to(engine.device())


def _uncut(path: Path, side: int) -> Tensor:
    """An image file in its own proportions, its long side no longer than `side`."""
    import os

    import numpy as np

    from ..core import BadData
    from ..data import picture as floats
    from ..data.dataset import Reading
    from ..data.decode import Skip, decode
    from ..data.pixels import within

    status = path.stat()
    result = decode(os.fsencode(path), (status.st_size, status.st_mtime_ns), Reading(size=side), within)
    if isinstance(result, Skip):
        raise BadData(f"{path} cannot be used ({result.reason}: {result.detail}); name another image.")
    return floats(np.array(result.pixels[None])).float().expand(-1, 3, -1, -1)


def _class(net: Probe, x: Tensor, args: str | None) -> tuple[Tensor, float]:
    """The class (1,) that was named, or the likeliest, and how sure the network is of it."""
    import torch

    from ..explain import saliency

    if args is None:
        y, p = saliency.likeliest(net, x)
        return y, float(p)
    number = saliency.class_of(net, args)
    with torch.no_grad():
        return torch.tensor([number], device=x.device), float(saliency.logits(net, x).softmax(1)[0, number])


def _enlarged(x: Tensor) -> np.ndarray:
    from .. import figures

    return figures.enlarge(figures.pixels(x)[0], figures.enlargement(x.shape[2], x.shape[3]))


# What all of them do


def _walked(
    states: Iterable[State], args: dict[str, Any], recipe: dict[str, Any], like: Tensor | None, text: str
) -> State:
    """Go to the end of the way, with a word on how far it is, and pictures of it where these are
    asked for."""
    from .. import figures, storage
    from ..explain.dream import resized
    from ..reports import terminal

    folder, every, last_update, kept = args["frames"], args["every"] or 10, time.monotonic(), -1
    if folder is not None:
        storage.make(folder)

    def keep() -> None:
        x = state.x if like is None else resized(state.x, (like.shape[2], like.shape[3]))
        figures.write_png(
            folder / f"{number:06d}.png", _enlarged(x), dict(recipe, frame=number, loss=state.loss)
        )

    with terminal.err.status("") as status:
        for number, state in enumerate(states):
            status.update(f"{state.share:4.0%}  {text} {state.loss:.4g}")
            if not terminal.err.is_terminal and time.monotonic() - last_update > terminal.EVERY:
                last_update = time.monotonic()
                terminal.say(f"{state.share:4.0%}  {text} {state.loss:.4g}", args["json"])
            if folder is not None and number % every == 0:
                keep()
                kept = number
    if folder is not None and kept != number:
        keep()
    return state


def _recipe(net: Probe, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    what = {name: args[name] for name in ("image", "pick", "layer", "seed") if args[name] is not None}
    return dict(look=args["what"], network=net.name, weights=net.sha256, source=net.source, **what) | more


def _typed(args: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: args[name] for name in names if args[name] is not None}


def _rules(args: dict[str, Any], usual: Rules) -> Rules:
    from dataclasses import replace

    return replace(usual, **_typed(args, "variation", "bound", "blur", "jitter"))


def _write(path: Path, page: np.ndarray, recipe: dict[str, Any]) -> None:
    from .. import figures, storage

    storage.make(path.parent)
    figures.write(path, page, recipe)
