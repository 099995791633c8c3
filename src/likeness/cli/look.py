"""likeness look: what in an image a network's answer depends on, and images that please or fool it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import outline
from .arguments import Parser, common, count, natural, picture_file, positive, target, writable


def look(argv: list[str]) -> int:
    """look IMAGE: where a network looks, what would fool it, what it wants to see: saliency, fool, class,
    invert, dream"""
    args = _parsed(argv)
    from ..figures import ENDINGS
    from ..reports import looks, terminal

    looks.refuse_others(what := args["what"], args)
    stem = Path(args["image"] or str(args["of"])).stem
    path = writable(target(args["o"], Path("looks") / f"{stem}-{what}.png", *ENDINGS))
    result = looks.looked(looks.opened(args), dict(args, quiet=args["json"]))
    result.save(path)
    files = {name: str(place) for name, place in result.files(path).items()}
    text = [result.text, *(f"{name}: {place}" for name, place in files.items()), str(path)]
    terminal.result(result.numbers | files | dict(path=str(path)), args["json"], "\n".join(text))
    return 0


def _parsed(argv: list[str]) -> dict[str, Any]:
    from ..explain.dream import WISHES
    from ..explain.fooling import BUDGETS
    from ..features import named

    whats = "|".join(outline.value("reports.looks", "TAKES"))
    whole = outline.value("reports.looks", "WHOLE")
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
    parser.add_argument("--what", metavar=whats, default="saliency", help="kind of analysis [saliency]")
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
        help=f"side of the picture; the long side of a dream [the network's own; {whole}]",
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
