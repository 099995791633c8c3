"""Verbs that say what there is: models, data sets, what a folder holds; and write a model for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, common, flags, on_runs, target

if TYPE_CHECKING:
    from .catalogue import Entry


def export(argv: list[str]) -> int:
    """export RUN [FILE]: for other programs: model.onnx, a folder for diffusers, or card.md; with a model
    card"""
    parser = Parser(
        "export",
        "The ending of FILE decides.  FILE.onnx: one part of the model, for onnxruntime and others.\n"
        "FILE.md: the model card alone.  A folder [RUN/diffusers]: a ddpm as its DDPMPipeline loads it.\n"
        "A model card, README.md, with the scores of the run is written beside what is exported.",
        "RUN [FILE] [--part ANSWER] [--label CLASS]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path)
    parser.add_argument(
        "--part",
        metavar="denoise|decode|classify|encode|translate|translate-back",
        help="that an .onnx file holds [the first of these that the model has]",
    )
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="that is drawn in diffusers, by name or number, where the model is class-conditional; none if "
        "left out",
    )
    common(parser, "-o", "--raw", "--json", o="output file (.onnx, .md) or output folder; the same as FILE")
    args, [(run, _)] = on_runs(argv, parser, data=False)

    from ..core import Refusal
    from ..reports import exporting, terminal

    path = target(args["file"] or args["o"], run.folder / "diffusers", "", ".onnx", ".md")
    for flag, value, ending in (("--part", args["part"], ".onnx"), ("--label", args["label"], "")):
        if value is not None and path.suffix.lower() != ending:
            what = "an .onnx file" if ending else "a folder for diffusers"
            raise Refusal(f"{flag} is for {what}, and {path} is none; leave it out.")
    result, text = exporting.export(run, path, args["part"], run.class_of(args["label"]))
    result |= run.named_class(args["label"])
    terminal.result(dict(run=str(run.folder), path=str(path), **result), args["json"], text)
    return 0


def models(argv: list[str]) -> int:
    """models [MODEL...]: what can be trained, and what each can answer"""
    from ..reports import terminal
    from . import catalogue, train

    parser = Parser(
        "models", "All models: the files in likeness/models; or some of them.", "[MODEL...] [--json]"
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="*", help="a name, or a Python file; with --json all its options"
    )
    common(parser, "--json")
    args = parser.read(argv)
    wanted = args["model"] or catalogue.NAMES
    result = {
        name: catalogue.entry(name) if name in catalogue.NAMES else catalogue.of(train.loaded(name))
        for name in wanted
    }
    rows = [
        dict(name=name, about=one.about.split("\n")[0], answers=one.answers)
        | (_declared(one) if args["model"] else {})
        for name, one in result.items()
    ]
    terminal.table(
        "models",
        rows,
        ("name", "answers", "about"),
        args["json"],
        "likeness train NAME --help shows the options of one.",
    )
    return 0


def _declared(entry: Entry) -> dict[str, Any]:
    """Options of a model, of its training and of reading the data, as a form needs them."""
    from .. import data
    from .arguments import declared

    parts = dict(
        options=entry.options, training=entry.training, reading=declared(data.Reading, data.Reading())
    )
    listed = {
        name: [one._asdict() | dict(kind=type(one.default).__name__) for one in part]
        for name, part in parts.items()
    }
    return listed | dict(presets=entry.presets)


def data(argv: list[str]) -> int:
    """data: the data sets that have a name, their licences, and whether they are here"""
    from ..data import FILES, named
    from ..reports import terminal

    parser = Parser("data", "Data sets that need no path.", "[--json]")
    common(parser, "--json")
    args = parser.read(argv)
    terminal.table(
        "sets",
        named.listed(),
        ("name", "here", "about", "licence"),
        args["json"],
        f"A folder of images, or {FILES}, will do as well.",
    )
    return 0


def check(argv: list[str]) -> int:
    """check DATA: what is in it, what was skipped and why, and what training on it will cost here"""
    from .. import data as datasets

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
    common(parser, "--device", "--json")
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    args = parser.read(argv)

    from .. import models
    from ..core import option_fields
    from ..data.check import Check, checking
    from ..data.source import parse
    from ..reports import terminal
    from ..training import throughput

    reading = {f.name: args[f.name] for f in option_fields(datasets.Reading) if f.name in args}
    source = parse(args["data"])
    name = args["model"] or ("gan" if source.kind == "points" else "vae")
    kind = None if name == "none" else models.load(name)
    result: Check | None = None
    costs, interrupted = list[dict[str, Any]](), False
    try:
        with terminal.stages("check", args["json"]) as notify:
            for known in checking(source, datasets.Reading(**reading), notify=notify):
                result = known
            if kind is not None:
                part = f"measuring what training {name} costs here"
                images = datasets.load(source, **reading)
                costs = throughput.measure(name, kind, images, lambda share: notify(part, share))
    except KeyboardInterrupt:
        if result is None:
            raise
        interrupted = True
    assert result is not None, "there is always a first look"
    terminal.checked(result, costs, args["json"])
    if interrupted:
        terminal.say("interrupted: this is what was known until then", args["json"])
    return 130 if interrupted else 0
