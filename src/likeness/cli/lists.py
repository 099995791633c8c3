"""Verbs that say what there is: models, data sets, what a folder holds; and write a model for others."""

from __future__ import annotations

from pathlib import Path

from .arguments import Parser, common, flags, on_runs, target


def export(argv: list[str]) -> int:
    """export RUN: a ddpm for the library diffusers, as a folder that its DDPMPipeline loads"""
    parser = Parser(
        "export",
        "Write a trained ddpm as a folder that diffusers.DDPMPipeline.from_pretrained loads.",
        "RUN [-o FOLDER] [--label CLASS]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument(
        "--label",
        type=int,
        metavar="CLASS",
        help="that is drawn there, where the model is class-conditional; none if left out",
    )
    common(parser, "-o", "--raw", "--json")
    args, [(run, _)] = on_runs(argv, parser)

    from ..reports import terminal
    from ..runs import diffusers

    path = target(args["o"], run.folder / "diffusers", "")
    diffusers.export(run.model, path, args["label"])
    terminal.result(
        dict(run=str(run.folder), path=str(path), label=args["label"]),
        args["json"],
        f'{path}: DDPMPipeline.from_pretrained("{path}") loads it',
    )
    return 0


def models(argv: list[str]) -> int:
    """models: what can be trained, and what each can answer"""
    from ..reports import terminal
    from . import catalogue

    parser = Parser("models", "All models: the files in likeness/models.", "[--json]")
    common(parser, "--json")
    args = vars(parser.parse_intermixed_args(argv))
    result = {name: catalogue.entry(name) for name in catalogue.NAMES}
    rows = [
        dict(name=name, about=one.about.split("\n")[0], answers=one.answers) for name, one in result.items()
    ]
    terminal.table(
        "models",
        rows,
        ("name", "answers", "about"),
        args["json"],
        "likeness train NAME --help shows the options of one.",
    )
    return 0


def data(argv: list[str]) -> int:
    """data: the data sets that have a name, their licences, and whether they are here"""
    from ..data import named
    from ..reports import terminal

    parser = Parser("data", "Data sets that need no path.", "[--json]")
    common(parser, "--json")
    args = vars(parser.parse_intermixed_args(argv))
    terminal.table(
        "sets",
        named.listed(),
        ("name", "here", "about", "licence"),
        args["json"],
        "Any folder of images, .npy, .npz or idx file will do as well.",
    )
    return 0


def check(argv: list[str]) -> int:
    """check DATA: what is in it, what was skipped and why, and what training on it will cost here"""
    from .. import data as datasets
    from .. import models
    from ..core import option_fields
    from ..data.check import check as inspect
    from ..data.source import parse
    from ..reports import terminal
    from ..training import throughput

    parser = Parser(
        "check",
        "Reads the data as training would, and measures for a few seconds what training costs on this "
        "machine.",
        "DATA [--model vae] [options]",
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument(
        "--model", metavar="NAME", help="whose training is measured; none skips it [vae, for points gan]"
    )
    common(parser, "--json")
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    args = vars(parser.parse_intermixed_args(argv))
    reading = {f.name: args[f.name] for f in option_fields(datasets.Reading) if f.name in args}
    source = parse(args["data"])
    name = args["model"] or ("gan" if source.kind == "points" else "vae")
    kind = None if name == "none" else models.load(name)
    result = inspect(source, datasets.Reading(**reading))
    costs = throughput.measure(name, kind, datasets.load(source, **reading)) if kind else []
    terminal.checked(result, costs, args["json"])
    return 0
