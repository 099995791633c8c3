"""The command line.  Every flag of a model is one of its options; none is declared here.

Nothing heavy is imported before a verb needs it, so that `likeness --help` is instant.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__

if TYPE_CHECKING:
    from .api import Trained
    from .core import Model
    from .data import Data

Verb = Callable[[list[str]], int]


class Parser(argparse.ArgumentParser):
    """Refuses in one sentence, with the flag that was probably meant."""

    def __init__(self, verb: str, text: str, usage: str):
        super().__init__(
            f"likeness {verb}", usage=f"likeness {verb} {usage}", description=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.verb = verb

    def error(self, message: str) -> NoReturn:
        from .core import Refusal

        known = [flag for action in self._actions for flag in action.option_strings]
        wrong = re.search(r"(--[\w-]+)", message) if message.startswith("unrecognized") else None
        hint = f"  {_closest(wrong[1], known)}" if wrong else ""
        raise Refusal(f"{message}.{hint}  likeness {self.verb} --help shows what there is.")


def _closest(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"Did you mean {near[0]}?" if near else ""


def flags(parser: argparse.ArgumentParser, title: str, owner: type, defaults: object, live: bool = False, leave_out: Set[str] = frozenset()) -> None:
    """A flag for each declared option; an option that is not typed is absent from the result."""
    from .api import option_fields

    group = parser.add_argument_group(title)
    for f in option_fields(owner, live):
        if f.name in leave_out:
            continue
        default, says = getattr(defaults, f.name, f.default), f.metadata
        flag, where = f"--{f.name.replace('_', '-')}", dict(dest=f.name, default=argparse.SUPPRESS)
        span = f", {_short(says['low'])} to {_short(says['high'])}" if says["low"] is not None and says["high"] is not None else ""
        text = f"{says['help']} [{_short(default)}{span}]".replace("%", "%%")
        if isinstance(f.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text, **where)
        elif says["choices"]:
            group.add_argument(flag, metavar="|".join(says["choices"]), help=text, **where)
        else:
            group.add_argument(flag, type=_number(type(f.default)), metavar=type(f.default).__name__.upper(), help=text, **where)


def _number(kind: type) -> Callable[[str], Any]:
    """1e6 and 10_000 are whole numbers, too."""

    def read(text: str) -> Any:
        if kind is not int or text.lstrip("+-").isdigit():
            return kind(text)
        if not float(text).is_integer():
            raise ValueError(text)
        return int(float(text))

    read.__name__ = {"int": "whole number", "float": "number"}.get(kind.__name__, kind.__name__)
    return read


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def natural(text: str) -> int:
    value: int = _number(int)(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**31 - 1}")
    return value


def count(text: str) -> int:
    value: int = _number(int)(text)
    if not 0 < value <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 10,000,000")
    return value


def common(parser: argparse.ArgumentParser, *names: str) -> None:
    """The flags that mean the same for every verb."""
    known: dict[str, dict[str, Any]] = {
        "--json": dict(action="store_true", help="print the result as JSON"),
        "--seed": dict(type=natural, default=0, help="of samples and of the choice of held-out images [0]"),
        "-n": dict(type=count, help="how many"),
        "-o": dict(type=Path, metavar="FILE", help="where to put it"),
    }
    for name in names:
        parser.add_argument(name, **known[name])


def train(argv: list[str]) -> int:
    """train MODEL DATA [RUN]: learn, or go on where the run folder is; leaves samples, scores and a report"""
    from . import api, engine, show

    name, kind, said = train_said(argv)
    folder = said["run"] or api.default_folder(name, said["data"])
    wishes = api.Wishes.sort(kind, {k: v for k, v in said.items() if k not in ("model", "data", "run", "minutes", "no_report", "json")})
    budget = {k: v for k, v in (("minutes", said["minutes"]), ("images", wishes.training.get("images"))) if v is not None}
    with api.begin(name, said["data"], folder, wishes, budget) as (run, images):
        with show.training(run, images, budget, quiet=said["json"]) as tick:
            number = api.work(run, images, tick, **budget)
        log, seen, seconds = run.log(), run.seen, run.seconds
        if engine.rank() > 0:
            return 128 + number if number else 0
    if number:
        show.say(f"stopped and saved at image {seen:,}; the same command goes on from here")
        return 128 + number
    page = None if said["no_report"] else train_scored(folder, images, said["json"])
    result = dict(run=str(folder), seen=seen, seconds=round(seconds, 2), losses=log[-1]["losses"] if log else {}, report=str(page) if page else None)
    show.result(result, said["json"], f"done: {folder}, {seen:,} images in {seconds:,.0f} s of training" + (f"\nreport: {page}" if page else ""))
    return 0


def train_said(argv: list[str]) -> tuple[str, type[Model], dict[str, Any]]:
    """The model's name, its class, and what was said: a flag for each of its options, so the model must be found first."""
    from . import data, models
    from .core import Refusal, Training, answers

    name = next((a for a in argv if a in models.NAMES or a.endswith(".py")), None)
    if name is None and (typed := [a for a in argv if not a.startswith("-")]):
        models.load(typed[0])
    kind = models.load(name) if name else None
    about = f"MODEL is one of: {', '.join(models.NAMES)}, or a Python file."
    if kind:
        about = (sys.modules[kind.__module__].__doc__ or "") + f"\nAnswers: {', '.join(answers(kind))}."
    parser = Parser("train", about, "MODEL DATA [RUN] [options]")
    parser.add_argument("model", metavar="MODEL", help="a name from `likeness models`, or a Python file")
    parser.add_argument("data", metavar="DATA", help="a folder of images, a .npy, .npz or idx file, or a name from `likeness data`")
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run folder [runs/MODEL-DATA]")
    parser.add_argument("--minutes", type=positive, metavar="M", help="end after M minutes of training in all, instead of after --images")
    parser.add_argument("--no-report", action="store_true", help="do not score at the end")
    common(parser, "--json")
    if kind:
        flags(parser, f"options of {name}", kind, kind)
        flags(parser, "training", Training, kind.defaults)
    flags(parser, "reading the data", data.Reading, data.Reading())
    said = vars(parser.parse_intermixed_args(argv))
    if kind is None or name is None or said["model"] != name:
        models.load(said["model"])
        raise Refusal(f"the model comes first, then the data: likeness train {said['data']} {said['model']}")
    if not said["data"]:
        raise Refusal("DATA is an empty text; name a folder of images, a file, or a set from `likeness data`.")
    return name, kind, said


def train_scored(folder: Path, images: Data, quiet: bool) -> Path | None:
    """Score the run and write its page."""
    from . import api, report, show
    from .run import Run

    trained = api.Trained(Run.open(folder), images)
    show.scores(list(show.listed(trained.scores(), "scoring", quiet)), quiet)
    page = folder / report.PAGE
    return page if page.exists() else None


def on_runs(argv: list[str], parser: Parser) -> tuple[dict[str, Any], list[tuple[Trained, dict[str, Any]]]]:
    """Parse for a verb on runs: what was said, and the runs, each with those of the typed live options that it has."""
    from . import api, show
    from .core import Refusal
    from .run import is_run

    folders = [Path(a) for before, a in zip(["", *argv], argv) if not a.startswith("-") and before != "-o" and is_run(Path(a))]
    opened = {folder: api.open(folder) for folder in folders}
    turns = {f: {o.name for o in api.option_fields(type(t.model), live=True)} for f, t in opened.items()}
    known: set[str] = set()
    for t in opened.values():
        flags(parser, f"options of {type(t.model).__name__.lower()} that may be turned", type(t.model), t.model, live=True, leave_out=known)
        known |= turns[t.folder]
    said = vars(parser.parse_intermixed_args(argv))
    wanted = said["run"] if isinstance(said["run"], list) else [said["run"]]
    if missing := [folder for folder in wanted if folder not in opened]:
        here = ", ".join(str(p.parent) for p in sorted(Path("runs").glob("*/config.json")))
        raise Refusal(f"{missing[0]} is not a run: it has no config.json.  Runs here: {here or 'none'}.")
    typed = {name for name in known if name in said}
    for folder in wanted:
        if lacking := typed - turns[folder]:
            show.say(f"note: {folder} has no option {', '.join(sorted(lacking))}; it is asked without")
    return said, [(opened[f], {name: said[name] for name in typed & turns[f]}) for f in wanted]


def target(given: Path | None, usual: Path, *endings: str) -> Path:
    """Where to write, refused if the name asks for a format that is not written."""
    from .core import Refusal

    if given is not None and given.suffix not in endings:
        raise Refusal(f"-o {given} should end in {' or '.join(e for e in endings if e)}{', or be a folder' if '' in endings else ''}.")
    return given or usual


def sample(argv: list[str]) -> int:
    """sample RUN: new images, each with its recipe; image i of a seed is always the same"""
    from . import show

    parser = Parser(
        "sample", "New images of a trained model, as one picture, one file each, or an array.", "RUN [-n 64] [-o out.png | out.npy | folder/] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    common(parser, "-n", "--seed", "-o", "--json")
    parser.add_argument("--label", type=int, metavar="CLASS", help="of this class only, where the model is class-conditional")
    said, [(run, live)] = on_runs(argv, parser)
    n = said["n"] or 64
    path = target(said["o"], run.folder / "samples" / f"seed-{said['seed']}-n-{n}.png", ".png", ".npy", "")
    pictures = run.sample(n, said["seed"], label=said["label"], **live)
    pictures.save(path)
    show.result(dict(pictures.recipe, path=str(path)), said["json"], f"{n} images: {path}")
    return 0


def evaluate(argv: list[str]) -> int:
    """evaluate RUN...: score cards of held-out data and samples, scores.json and report.html"""
    from . import report, show

    parser = Parser(
        "evaluate", "The same questions to every run, answered as score cards: value, interval, n, split, seed.", "RUN [RUN ...] [-n 1000] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    common(parser, "-n", "--seed", "--json")
    said, runs = on_runs(argv, parser)
    out = {}
    for run, live in runs:
        scores = list(show.listed(run.scores(said["n"] or 1000, said["seed"], **live), str(run.folder), said["json"]))
        out[str(run.folder)] = [s.as_dict() for s in scores]
        show.scores(scores, said["json"], title=str(run.folder))
        show.say(f"report: {run.folder / report.PAGE}", said["json"])
    if said["json"]:
        print(json.dumps(out, indent=1))
    return 0


def reconstruct(argv: list[str]) -> int:
    """reconstruct RUN [IMAGES]: what is left of an image after the code"""
    from . import pictures, show, store
    from .data import own
    from .metrics.reconstruction import psnr

    parser = Parser("reconstruct", "Originals above, their reconstructions below: of held-out images, or of your own.", "RUN [IMAGES] [-n 16] [-o out.png]")
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("images", metavar="IMAGES", nargs="?", help="a folder or array of images; held-out ones of the run's data if left out")
    common(parser, "-n", "-o", "--json")
    said, [(run, _)] = on_runs(argv, parser)
    n, x = said["n"] or 16, None
    path = target(said["o"], run.folder / "samples" / "reconstructions.png", ".png")
    if said["images"]:
        spec = run.run.config.spec
        x = own.images(said["images"], spec, run.run.config.data, n)
    original, back = run.reconstruct(x, n)
    store.make(path.parent)
    pictures.write_png(path, pictures.strips(original, back), dict(run=run.folder.name, seen=run.run.seen, n=len(original)))
    value = float(psnr(original, back).mean())
    show.result(dict(path=str(path), n=len(original), psnr=value), said["json"], f"{len(original)} images, PSNR {value:.2f} dB: {path}")
    return 0


def latent(argv: list[str]) -> int:
    """latent RUN...: pictures of the code: random codes, interpolation, traversal, the 2-D plane"""
    from . import latent as codes
    from . import show

    parser = Parser("latent", codes.__doc__ or "", "RUN [RUN ...] [--picture random|interpolation|traversal|plane] [-o out.png]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--picture", metavar="|".join(codes.PICTURES), default="random", help="which [random]")
    common(parser, "-n", "--seed", "-o", "--json")
    said, runs = on_runs(argv, parser)
    path = target(said["o"], runs[0][0].folder / "samples" / f"{said['picture']}.png", ".png")
    codes.draw([(r.run, r.data) for r, _ in runs], said["picture"], path, said["n"], said["seed"])
    show.result(dict(path=str(path), picture=said["picture"]), said["json"], str(path))
    return 0


def models(argv: list[str]) -> int:
    """models: what can be trained, and what each can answer"""
    from . import models as library
    from . import show
    from .core import answers

    parser = Parser("models", "All models: the files in likeness/models.", "[--json]")
    common(parser, "--json")
    said = vars(parser.parse_intermixed_args(argv))
    rows = []
    for name in library.NAMES:
        kind = library.load(name)
        rows.append(dict(name=name, about=(sys.modules[kind.__module__].__doc__ or "").split("\n")[0], answers=list(answers(kind))))
    show.table(rows, ("name", "answers", "about"), said["json"], "likeness train NAME --help shows the options of one.")
    return 0


def data(argv: list[str]) -> int:
    """data: the data sets that have a name, their licences, and whether they are here"""
    from . import show
    from .data import named

    parser = Parser("data", "Data sets that need no path.", "[--json]")
    common(parser, "--json")
    said = vars(parser.parse_intermixed_args(argv))
    show.table(named.listed(), ("name", "here", "about", "licence"), said["json"], "Any folder of images, .npy, .npz or idx file will do as well.")
    return 0


def check(argv: list[str]) -> int:
    """check DATA: what is in it, what was skipped and why, and what training on it will cost here"""
    from . import api, cost, models, show
    from . import data as datasets
    from .data.check import check as inspect

    parser = Parser(
        "check", "Reads the data as training would, and measures for a few seconds what training costs on this machine.", "DATA [--model vae] [options]"
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--model", default="vae", metavar="NAME", help="whose training is measured; none skips it [vae]")
    common(parser, "--json")
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    said = vars(parser.parse_intermixed_args(argv))
    reading = {f.name: said[f.name] for f in api.option_fields(datasets.Reading) if f.name in said}
    kind = None if said["model"] == "none" else models.load(said["model"])
    found = inspect(said["data"], datasets.Reading(**reading))
    costs = cost.measure(said["model"], kind, datasets.load(said["data"], **reading)) if kind else []
    show.checked(found, costs, said["json"])
    return 0


VERBS: dict[str, Verb] = {f.__name__: f for f in (train, sample, evaluate, reconstruct, latent, check, models, data)}

HELP = f"""likeness {__version__}: generative and self-supervised models on your own images.

{chr(10).join(f"  likeness {f.__doc__}" for f in VERBS.values())}

  likeness VERB --help            what a verb takes
  likeness train MODEL --help     the options of a model

Begin with: likeness train vae digits --minutes 1"""


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"likeness {__version__}")
        return 0
    return guarded(argv)


def guarded(argv: list[str]) -> int:
    """Run a verb; whatever the user can mend is one sentence and an exit code, the rest is our own fault."""
    from .core import Refusal

    try:
        if argv[0] not in VERBS:
            raise Refusal(f"there is no verb {argv[0]!r}; {_closest(argv[0], list(VERBS))}  There are: {', '.join(VERBS)}.")
        code = VERBS[argv[0]](argv[1:])
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        print(f"likeness: {refusal}", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        print("likeness: interrupted; what was saved before is intact", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # python would complain once more when it flushes
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            print("likeness: the disk is full; what was saved before is intact", file=sys.stderr)
            return 74
        import traceback

        traceback.print_exc()
        print("likeness: that is a defect of likeness, not of your command; the lines above say where.", file=sys.stderr)
        return 1
