"""The command line.  Every flag of a model is one of its options; none is declared here.

Nothing heavy is imported before a verb needs it, so that `likeness --help` is instant.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .arguments import Parser, closest, common, count, flags, on_runs, positive, target
from .asking import brought, complete, diffuse, edit, field, reconstruct, score
from .lab.features import features
from .lab.look import look
from .lab.map import map as mapped
from .lab.neighbours import neighbours

if TYPE_CHECKING:
    from .api import Trained
    from .core import Model
    from .data import Data
    from .metrics.card import Score

Verb = Callable[[list[str]], int]


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
    parser.add_argument(
        "data", metavar="DATA", help="a folder of images, a .npy, .npz or idx file, a name from `likeness data`, or a run that encodes: its codes"
    )
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


def sample(argv: list[str]) -> int:
    """sample RUN: new images, each with its recipe; image i of a seed is always the same"""
    from . import api, nearest, show

    parser = Parser(
        "sample", "New images of a trained model, as one picture, one file each, or an array.", "RUN [-n 64] [-o out.png | out.npy | folder/] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    common(parser, "-n", "--seed", "-o", "--raw", "--json")
    parser.add_argument("--label", type=int, metavar="CLASS", help="of this class only, where the model is class-conditional")
    parser.add_argument("--nearest", action="store_true", help="at the end of each row, framed, the training image nearest to its last sample")
    parser.add_argument("--beside", type=Path, metavar="RUN", help="a weaker run of the same denoising model, which --guidance leads away from")
    said, [(run, live)] = on_runs(argv, parser)
    weak = api.open(said["beside"]) if said["beside"] else None
    points = run.config.spec.points
    n = said["n"] or (2000 if points else 64)
    usual = run.folder / "samples" / f"seed-{said['seed']}-n-{n}{'-raw' if said['raw'] else ''}{'-nearest' if said['nearest'] else ''}.png"
    path = target(said["o"], usual, ".png", *([] if said["nearest"] else [".npy", ""]))
    pictures = run.sample(n, said["seed"], label=said["label"], beside=weak, **live)
    says = f"{n} {'points' if points else 'images'}"
    if said["nearest"]:
        found = nearest.beside(pictures.x, run.data, run.run.config.training.mirror)
        pictures = replace(pictures, page=found.page, recipe=dict(pictures.recipe, nearest=found.row, distance=found.distance))
        says += f", framed training images {min(found.distance):.1f} to {max(found.distance):.1f} levels from the sample beside them"
    pictures.save(path)
    show.result(dict(pictures.recipe, path=str(path)), said["json"], f"{says}: {path}")
    return 0


def evaluate(argv: list[str]) -> int:
    """evaluate RUN...: score cards, scores.json and report.html; of several runs compare.html as well"""
    from . import compare, show
    from .core import Refusal

    text = "The same questions to every run, answered as score cards: value, interval, n, split, seed, and what real images would get."
    parser = Parser("evaluate", text, "RUN [RUN ...] [-n 1000] [options]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--network", default="auto", help="to compare samples by: classifier, vicreg, inception, dinov2, clip, a run, a .pt file, none [auto]")
    parser.add_argument("--parzen", action="store_true", help="the Parzen-window estimate of the first adversarial models as well, which takes minutes")
    common(parser, "-n", "--seed", "-o", "--raw", "--json")
    said, runs = on_runs(argv, parser)
    if said["o"] and (len(runs) == 1 or said["o"].suffix):
        raise Refusal(f"-o {said['o']} would be the folder of compare.html, which takes two runs or more; leave it out, or name a folder.")
    found: list[list[Score] | Refusal] = []
    for run, live in runs:
        try:
            found.append(scored(run, said, live, alone=len(runs) == 1))
        except Refusal as refusal:
            if len(runs) == 1:
                raise
            show.say(f"{run.folder}: {refusal}")
            found.append(refusal)
    refused = [r for r in found if isinstance(r, Refusal)]
    if len(refused) == len(found):
        raise refused[0]
    cards = {str(run.folder): [s.as_dict() for s in scores] for (run, _), scores in zip(runs, found) if not isinstance(scores, Refusal)}
    if said["json"]:
        print(json.dumps(cards, indent=1))
    if len(runs) > 1:
        side_by_side = compare.compare([run.run for run, _ in runs], found)
        page = side_by_side.write(said["o"] or Path(os.path.commonpath([run.folder.resolve().parent for run, _ in runs])))
        if not said["json"]:
            print(side_by_side.table(shutil.get_terminal_size((120, 24)).columns))
        show.say(f"all on one page: {page}", said["json"])
    return refused[0].code if refused else 0


def scored(run: Trained, said: dict[str, Any], live: dict[str, Any], alone: bool) -> list[Score]:
    """The cards of one run, which are written into its folder, too."""
    from . import report, show

    how = (said["n"] or 1000, said["seed"], said["network"], said["parzen"])
    show.say(run.outlook(*how, **live), said["json"])
    scores = list(show.listed(run.scores(*how, **live), str(run.folder), said["json"]))
    if alone:
        show.scores(scores, said["json"])
    show.say(f"report: {run.folder / report.PAGE}", said["json"])
    return scores


def latent(argv: list[str]) -> int:
    """latent RUN...: pictures of the code: random codes, interpolation, traversal, the 2-D plane, arithmetic"""
    from . import latent as codes
    from . import show

    parser = Parser("latent", codes.__doc__ or "", "RUN [RUN ...] [--picture NAME] [-o out.png]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--picture", metavar="|".join(codes.PICTURES), default="random", help="which [random]")
    parser.add_argument("--images", metavar=("A", "B", "C"), nargs=3, help="for arithmetic: three folders or files of a kind each [classes of the data]")
    common(parser, "-n", "--seed", "-o", "--json")
    said, runs = on_runs(argv, parser)
    path = target(said["o"], runs[0][0].folder / "samples" / f"{said['picture']}.png", ".png")
    groups = [x for source in said["images"] or () if (x := brought(runs[0][0], source, codes.MEMBERS)[0]) is not None]
    codes.draw([(r.run, r.data) for r, _ in runs], said["picture"], path, said["n"], said["seed"], groups)
    show.result(dict(path=str(path), picture=said["picture"]), said["json"], str(path))
    return 0


def export(argv: list[str]) -> int:
    """export RUN: a ddpm for the library diffusers, as a folder that its DDPMPipeline loads"""
    from . import exchange, show

    parser = Parser("export", "Write a trained ddpm as a folder that diffusers.DDPMPipeline.from_pretrained loads.", "RUN [-o FOLDER] [--label CLASS]")
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--label", type=int, metavar="CLASS", help="that is drawn there, where the model is class-conditional; none if left out")
    common(parser, "-o", "--raw", "--json")
    said, [(run, _)] = on_runs(argv, parser)
    path = target(said["o"], run.folder / "diffusers", "")
    exchange.export(run.model, path, said["label"])
    show.result(dict(run=str(run.folder), path=str(path), label=said["label"]), said["json"], f'{path}: DDPMPipeline.from_pretrained("{path}") loads it')
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
    from .data import points
    from .data.check import check as inspect

    parser = Parser(
        "check", "Reads the data as training would, and measures for a few seconds what training costs on this machine.", "DATA [--model vae] [options]"
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--model", metavar="NAME", help="whose training is measured; none skips it [vae, for points gan]")
    common(parser, "--json")
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    said = vars(parser.parse_intermixed_args(argv))
    reading = {f.name: said[f.name] for f in api.option_fields(datasets.Reading) if f.name in said}
    name = said["model"] or ("gan" if points.is_points(said["data"]) else "vae")
    kind = None if name == "none" else models.load(name)
    found = inspect(said["data"], datasets.Reading(**reading))
    costs = cost.measure(name, kind, datasets.load(said["data"], **reading)) if kind else []
    show.checked(found, costs, said["json"])
    return 0


def bayes(argv: list[str]) -> int:
    """bayes DATA: classes by Bayes' rule and by a network: accuracy by labels, calibration, images of another kind"""
    import time

    from . import api, bayes_page, show, watch
    from . import bayes as study
    from . import data as datasets
    from .metrics.card import Score

    parser = Parser("bayes", study.__doc__ or "", "DATA [-o FOLDER] [--minutes 8] [-k 1] [options]")
    parser.add_argument("data", metavar="DATA", help="images with classes: a sub-folder a class, or a name from `likeness data`")
    parser.add_argument("--minutes", type=positive, default=8.0, metavar="M", help="of training and judging, about [8]")
    parser.add_argument("-k", type=count, default=1, help="importance samples of log p(x|y) [1]")
    common(parser, "-o", "--seed", "--json")
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    said = vars(parser.parse_intermixed_args(argv))
    reading = {f.name: said[f.name] for f in api.option_fields(datasets.Reading) if f.name in said}
    folder, cards, last = said["o"] or api.default_folder("bayes", said["data"]), list[Score](), time.monotonic()
    with watch.stopping() as stop:
        for at in study.run(datasets.load(api.place(said["data"]), **reading), folder, said["minutes"], said["seed"], said["k"], stop=stop):
            if isinstance(at, Score):
                cards.append(at)
            elif time.monotonic() - last > show.EVERY:
                last = time.monotonic()
                show.say(f"{at.share:4.0%}  {at.text}", said["json"])
    if stop.signal:
        show.say(f"stopped and saved in {folder}; the same command goes on from here")
        return 128 + stop.signal
    result = dict(folder=str(folder), picture=str(folder / bayes_page.PICTURE), cards=[c.as_dict() for c in cards])
    show.result(result, said["json"], "\n".join([*bayes_page.findings(cards), f"picture: {folder / bayes_page.PICTURE}", f"page: {folder / bayes_page.PAGE}"]))
    return 0


def detect(argv: list[str]) -> int:
    """detect RUN... -o FOLDER: can a run's images be told from real ones; detect FOLDER --images PATH...: what is known of files"""
    from rich.markup import escape

    from . import api, evaluate, show, sides
    from . import data as datasets
    from . import detect as detection
    from .core import Refusal

    usage = "RUN [RUN ...] [--data DATA] -o FOLDER [options] | FOLDER --images PATH [PATH ...]"
    parser = Parser("detect", "Trains a detector of the runs' images and puts it to the test; or asks one about image files.", usage)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+", help="runs whose images are to be told from real ones; or one detector, with --images")
    parser.add_argument("--images", metavar="PATH", type=Path, nargs="+", help="files, or folders of them, to be judged by the detector")
    parser.add_argument("--data", metavar="DATA", help="the real images, read as the first run's were [those it was trained on]")
    parser.add_argument("--error", type=positive, default=0.05, metavar="SHARE", help="of the answers that may be wrong; else it cannot tell [0.05]")
    common(parser, "-n", "--seed", "-o", "--json")
    said, runs = on_runs(argv, parser)
    if said["images"]:
        return judged(said)
    if said["o"] is None:
        raise Refusal("a detector is a folder of its own; name it with -o FOLDER, or ask one about files with --images PATH.")
    first = runs[0][0]
    images = datasets.load(api.place(said["data"]), **first.config.reading) if said["data"] else first.data
    makers = sides.makers([(run.run, live) for run, live in runs], images)
    steps = detection.learn(makers, images, said["o"], said["n"] or 2000, error=said["error"], seed=said["seed"])
    with show.err.status("") as status:
        for at in steps:
            status.update(f"{at.share:4.0%}  {escape(at.doing)}")
    scores = evaluate.load_scores(said["o"])
    show.scores(scores, said["json"], title=str(said["o"]))
    if said["json"]:
        print(json.dumps([s.as_dict() for s in scores], indent=1))
    return 0


def judged(said: dict[str, Any]) -> int:
    """What a detector says about image files, each on a line as it is known."""
    from . import detect as detection
    from . import judge
    from .core import Refusal

    if len(said["run"]) > 1:
        raise Refusal(f"one detector judges images, and {len(said['run'])} were named; name one: likeness detect FOLDER --images PATH...")
    found = []
    for finding in judge.judge(detection.load(said["run"][0]), said["images"]):
        found.append(finding)
        if not said["json"]:
            print(finding.text, flush=True)
    if said["json"]:
        print(json.dumps([f._asdict() for f in found], indent=1))
    if not found:
        raise Refusal(f"there is no file in {', '.join(map(str, said['images']))}; name images to judge.")
    return 2 if any(judge.MISSING in f.remarks for f in found) else 0


ASKING: tuple[Verb, ...] = (reconstruct, complete, edit, score, field, diffuse, latent)
LAB: tuple[Verb, ...] = (features, mapped, neighbours, look)
VERBS: dict[str, Verb] = {f.__name__: f for f in (train, sample, evaluate, *ASKING, *LAB, bayes, detect, export, check, models, data)}

HELP = f"""likeness {__version__}: generative and self-supervised models on your own images.

{chr(10).join(f"  likeness {f.__doc__}" for f in VERBS.values())}

  likeness VERB --help            what a verb takes
  likeness train MODEL --help     the options of a model

Begin with: likeness train vae digits --minutes 1"""


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    word = argv[0] if argv else "help"
    if word in ("-h", "--help", "help", "-V", "--version"):
        return told(f"likeness {__version__}" if word in ("-V", "--version") else HELP)
    try:
        return guarded(argv)
    except KeyboardInterrupt:  # also of one that is still importing
        print("likeness: interrupted; what was saved before is intact", file=sys.stderr)
        return 130


def told(text: str) -> int:
    """Print what needs nothing heavy."""
    try:
        print(text, flush=True)
        return 0
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        return unheard(error)


def unheard(error: OSError) -> int:
    """Nobody takes our output: whoever read it has stopped, such as head, or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # python would complain once more when it flushes
    if isinstance(error, BrokenPipeError):
        return 141
    print(f"likeness: the disk is full ({error.strerror}); what was saved before is intact", file=sys.stderr)
    return 74


def guarded(argv: list[str]) -> int:
    """Run a verb; whatever the user can mend is one sentence and an exit code, the rest is our own fault."""
    from .core import Refusal

    try:
        if argv[0] not in VERBS:
            raise Refusal(f"there is no verb {argv[0]!r}; {closest(argv[0], list(VERBS))}  There are: {', '.join(VERBS)}.")
        code = VERBS[argv[0]](argv[1:])
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        print(f"likeness: {refusal}", file=sys.stderr)
        return refusal.code
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC):
            return unheard(error)
        import traceback

        traceback.print_exc()
        print("likeness: that is a defect of likeness, not of your command; the lines above say where.", file=sys.stderr)
        return 1
