"""What goes wrong in a training: by which numbers one sees it, and what to type.

    for step in doctor.watch(run, data, steps): ...        a line when something happens, kept in doctor.jsonl
    for finding in doctor.examine(run, data, model, x):    the state of a trained run

The rules, with their thresholds, are in training/symptoms.py; here stand what looks, when, and what is kept
of it.

Looking changes nothing: probes ask the EMA, which is in evaluation mode, and the loop seeds itself anew at
each step.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from .. import engine, storage
from ..core import (
    Checks,
    Classifies,
    Decodes,
    Diagnoses,
    Encodes,
    KnowsChance,
    Model,
    Noise,
    Player,
    Refusal,
    Samples,
    check_options,
)
from ..data import Data
from ..data.labels import NONE
from ..inference import sampling
from ..metrics import neighbours, probing
from ..parts import collapse
from ..parts.adversarial import Packs, Penalises
from ..parts.augment import POLICIES
from ..runs.run import Run
from . import symptoms, translated
from .loop import Step
from .symptoms import Finding, Line

FILE = "doctor.jsonl"

EARLY = 100
"""batches, and of a generator steps, that are passed over: whatever begins at random begins badly"""
MEMORY = 20
"""lines that are looked at for a course of things, about 1000 batches"""

# Probes cost a little, and so come twice in every doubling of the images seen.
FIRST = 512
"""batches before the first: a generator finds its modes one after another"""
DRAWN, POINTS = 128, 1024
"""samples, and real images to compare them with, and points, which are cheap; as many images are judged"""
CLASSED_BY_NEIGHBOURS = 0.8
"""of held-out images whose nearest training image is of their class, at least: else that says nothing of
samples"""
SHEET, ROOM = 2, 16
"""numbers in z that draw images along a line or on a sheet, and how many do not"""
LESS = ("k", "d_rate", "beta", "centring")
"""options of which less helps; of all other numbers it is more"""
EITHER = ("images", "rate", "identity")
"""options of which less helps against one thing, and more against another"""
USUAL = 3.0
"""times the model's own rate, or a part of it: one further off is to go back to it, any other to a third of
itself"""
PROBED = 1024
"""training images whose classes are told to features, and most held-out images that are asked about"""
GUESSED = 2**20
"""values of training images from which a guess is worked out, or those of 64 images"""
SEARCHED = 2**25
"""values of training images that are searched for the nearest to a sample: a third of a second on one core"""


def examine(run: Run, data: Data, model: Model, samples: np.ndarray | None = None) -> Iterator[Finding]:
    """Everything that is wrong now, by the log and by probes; costs about a second.

    samples: (n, C, H, W) of the model in the form of data.x, drawn for as many of each class as the data have
    if it is conditional; without them nothing is said of what is drawn.  The verdicts of diagnose() are among
    the findings.
    """
    yield from consult(run, run.log(), guessed(run, data))
    if run.seen >= FIRST * stride(run):
        yield from probed(run, data, model, samples)


def stride(run: Run) -> int:
    """Images in which each player has moved once: a generator whose discriminator moves five times has seen a
    fifth of the batches."""
    return run.config.training.batch * max(player.steps for player in run.model.players())


def together(model: Model) -> int:
    """Images that one logit is of, where a discriminator judges several at once."""
    return model.pack if isinstance(model, Packs) else 1


def suited(run: Run, findings: Iterable[Finding | None]) -> Iterator[Finding]:
    """With those remedies only that this model has as options, and of them what it does not do already, or
    more of."""
    training, usual = run.config.training, type(run.model).defaults.rate
    off = not usual / USUAL <= training.rate <= USUAL * usual
    slower = usual if training.rate > USUAL * usual else float(f"{training.rate / 3:.1g}")
    there = run.model.options() | asdict(training)
    points, latent = run.config.spec.points, there.get("latent", 0)
    numbers = dict(
        slower=slower,
        usual=usual if off else training.rate,
        milder=training.rate if off else slower,
        shorter=max(1, run.seen // 2),
        larger=max(64, 2 * training.batch),
        longer=2 * max(run.seen, training.images),
        stronger=3 * there.get("gamma", 0) or 1,
        calm=3 * max(there.get("r1", 0), there.get("r2", 0)) or 0.1,
        heavier=10 * there.get("style_weight", 0) or 10,
        fuller=10 * there.get("content_weight", 0) or 1,
        wider=SHEET if points else ROOM if latent <= SHEET else latent,
    )
    for finding in filter(None, findings):
        known = [asked(remedy.format(**numbers), there) for remedy in finding.remedies]
        typed = (flags(wishes) for wishes in known if wishes and accepts(run.model, wishes))
        yield finding._replace(remedies=tuple(dict.fromkeys(typed)))


def flags(wishes: dict[str, Any]) -> str:
    """As they are typed."""
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in wishes.items()}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in shown.items())


def asked(remedy: str, there: dict[str, Any]) -> dict[str, Any]:
    """What flags with a value each would set that helps; nothing if one of them is unknown."""
    words = remedy.split()
    named = {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2])}
    if not named.keys() <= there.keys():
        return {}
    try:
        wishes = {name: type(there[name])(value) for name, value in named.items()}
    except ValueError:  # of two models one has a number under that name, and the other a word
        return {}
    return {name: value for name, value in wishes.items() if helps(name, there[name], value)}


def helps(name: str, now: Any, then: Any) -> bool:
    """Whether it is not so already, or stronger: who has --r1 10 is not told to take less."""
    if name == "clip":
        return bool(now == 0 or then < now)
    if name == "augment":
        return list(POLICIES).index(now) < list(POLICIES).index(then)
    if name in EITHER or isinstance(now, str | bool):
        return bool(then != now)
    return bool(then < now if name in LESS else then > now)


def accepts(model: Model, wishes: dict[str, Any]) -> bool:
    """Whether the model would take these beside the options that it has."""
    twin = copy.copy(model)
    for name, value in wishes.items():
        setattr(twin, name, value)
    try:
        check_options(type(model).__name__.lower(), twin)
        if isinstance(twin, Checks):
            twin.check()
    except Refusal:
        return False
    return True


# Rules of the log


def consult(run: Run, log: Sequence[Line], guess: Mapping[str, float] = {}) -> Iterator[Finding]:
    """What the first line of a log and the last ones say; guess: that of the model, see guessed()."""
    recent = [line for line in log[-MEMORY:] if line["seen"] > EARLY * stride(run)]
    # a line has the last of several steps of D
    counted = together(run.model) * stride(run) // run.config.training.batch
    of_games = (
        symptoms.saturation(recent, isinstance(run.model, Penalises) and bool(run.model.gradient_penalty)),
        symptoms.silence(recent),
        symptoms.oscillation(recent, counted),
    )
    grown, same = symptoms.divergence(log), _of_features(recent)
    unbalanced = translated.weighed(recent, guess)
    lost = (
        None
        if same or grown or unbalanced
        else symptoms.relapse(log) or symptoms.nothing_learnt(recent, guess)
    )
    yield from suited(run, (*of_games, grown, same, unbalanced, lost))


def _of_features(lines: Sequence[Line]) -> Finding | None:
    """The first that holds: what is the same for every image also lies on a line."""
    rules = (symptoms.alike, symptoms.dominated, symptoms.narrow)
    return next(filter(None, (rule(lines) for rule in rules)), None)


def guessed(run: Run, data: Data) -> dict[str, float]:
    """What terms of the loss would be of one that knows nothing of an image; empty where the model cannot
    say."""
    if not isinstance(run.model, KnowsChance) or not len(data.train):
        return {}
    rows = chosen(data.train, min(1024, max(64, GUESSED // data.spec.dims)))
    with torch.no_grad():
        return run.model.chance(engine.put(data.take(rows)))


# Probes


def probed(run: Run, data: Data, model: Model, samples: np.ndarray | None) -> Iterator[Finding]:
    """Of the data and the model as it is.  What is drawn is not looked at where the model itself says that it
    is ill: the one follows from the other."""
    own = list(verdicts(data, model))
    yield from own
    result = [
        known_by_heart(data, model),
        judged(run, data, model),
        beside_untrained(run, data, model, samples),
    ]
    made = translated.probe(data, model, draws=samples is not None)
    if made is not None:  # whose samples are as many as their sources, and may well be alike
        result += translated.findings(made)
    elif samples is not None and not own:
        result += of_samples(data, samples, run.config.training.mirror)
    yield from suited(run, result)


def beside_untrained(run: Run, data: Data, model: Model, samples: np.ndarray | None) -> Finding | None:
    """Of losses that may be anything, those of a game and of agreement: whether the first weights did as
    well."""
    if samples is not None and len(run.model.players()) > 1:
        first, n = drawn(untrained(run), data), _many(data)
        return (
            None if first is None else symptoms.no_nearer(samples[:n], first, data.x[chosen(data.train, n)])
        )
    if isinstance(model, Encodes) and any("RankMe" in line["losses"] for line in run.log()[-1:]):
        return symptoms.unlearnt(*_worth(data, model, untrained(run)))
    return None


def untrained(run: Run) -> Model:
    """The model at its first weights, as it answers."""
    return engine.place(run.config.build(run.folder)).eval()


def _worth(data: Data, *models: Model) -> Iterator[Any]:
    """RankMe of the features of each model, and, if there are classes, which images are told by each."""
    data = data.labelled if len(data.labelled.held_out) else data
    known, asked = chosen(data.train, PROBED), chosen(data.held_out, PROBED)
    enough = len(asked) >= collapse.SEEN
    batches = [engine.put(data.take(rows)) for rows in (known, asked if enough else known)]
    with torch.no_grad():
        features = [[collapse.encoded(model, batch, 2 * DRAWN) for batch in batches] for model in models]
    yield from (float(collapse.rankme(there)) for _, there in features)
    if data.y is not None and data is data.labelled and data.spec.labels > 1 and enough:
        for here, there in features:
            yield probing.knn(here.cpu().numpy(), data.y[known], there.cpu().numpy()) == data.y[asked]


def of_samples(data: Data, samples: np.ndarray, mirror: bool = False) -> Iterator[Finding | None]:
    samples = samples[: _many(data)]
    if (alike := symptoms.collapse(samples, data.x[chosen(data.train, len(samples))])) is not None:
        yield alike  # whatever else is missing is missing for that reason
    elif data.modes is not None:
        centres, real = data.modes.centres, data.x[chosen(data.train, 4096)]
        yield symptoms.dropped(nearest_centre(samples, centres), nearest_centre(real, centres), "modes")
    elif data.levels and len(data.train):
        yield from beside_training(data, samples, mirror)


def nearest_centre(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n, 2, 1, 1) to (n,).  Any distance: that samples are not sharp is another matter."""
    return cast(np.ndarray, np.square(x.reshape(len(x), 1, -1) - centres).sum(2).argmin(1))


def beside_training(data: Data, samples: np.ndarray, mirror: bool = False) -> Iterator[Finding | None]:
    """What one search for the nearest training images says: which classes are drawn, and whether any image is
    a copy."""
    rows, held_out = chosen(data.train, max(1, SEARCHED // data.spec.dims)), chosen(data.held_out, DRAWN)
    result = neighbours.nearest(np.concatenate([samples, data.x[held_out]]), data.x, rows, 1, mirror)
    drawn, real = result.of(np.s_[: len(samples)]), result.of(np.s_[len(samples) :])
    if len(rows) == len(data.train):
        yield symptoms.copying(drawn, real)
    if data.y is None:
        return
    known = data.y[held_out] != NONE
    if known.any() and (data.y[real.row[:, 0]] == data.y[held_out])[known].mean() >= CLASSED_BY_NEIGHBOURS:
        yield symptoms.dropped(data.y[drawn.row[:, 0]], data.y[data.labelled.train], "classes", data.classes)


def judged(run: Run, data: Data, model: Model) -> Finding | None:
    """What the player who is asked about real images says of images that it learns from, and of others."""
    players = model.players()
    for player in players if len(players) > 1 else ():
        train, held_out = (
            np.array(list(logits(run, data, player, rows))).reshape(-1, 2)
            for rows in (data.train, data.held_out)
        )
        if len(train):
            return symptoms.by_heart(train[:, 0], held_out[:, 0], np.concatenate([train, held_out])[:, 1])
    return None


def known_by_heart(data: Data, model: Model) -> Finding | None:
    """How often a classifier is right about images that it was trained on, and about others."""
    data = data.labelled
    if not isinstance(model, Classifies) or data.y is None or not len(data.held_out):
        return None
    train, held_out = chosen(data.train, 2 * DRAWN), chosen(data.held_out, 2 * DRAWN)
    guess = float(np.bincount(data.y[held_out]).max() / len(held_out))
    return symptoms.labels_by_heart(_right(data, model, train), _right(data, model, held_out), guess)


@torch.no_grad()
def _right(data: Data, model: Classifies, rows: np.ndarray) -> np.ndarray:
    """Which of these images get the class that they have, (m,)."""
    parts = engine.put(data.take(rows)).split(DRAWN)
    classes = torch.cat([model.classify(part.x).argmax(1) for part in parts]).cpu().numpy()
    return np.asarray(classes == np.asarray(data.y)[rows])


def logits(run: Run, data: Data, player: Player, rows: np.ndarray) -> Iterator[tuple[float, float]]:
    """Means on real and on drawn images, of a few images each; nothing where the loss has no such terms."""
    pack = together(run.model)
    some = chosen(rows, DRAWN * pack)
    batch = data.take(some, Noise(torch.from_numpy(some), engine.derive("doctor")))
    # step 1: lazy penalties are not due
    for piece in engine.put(replace(batch, step=1, seen=run.seen)).split(symptoms.TOGETHER * pack):
        if len(piece) < symptoms.TOGETHER * pack:
            return
        terms = player.loss(piece).terms
        if not {"on real", "on fake"} <= terms.keys():
            return
        yield terms["on real"].item(), terms["on fake"].item()


def verdicts(data: Data, model: Model) -> Iterator[Finding]:
    """What the model says of itself."""
    if not isinstance(model, Diagnoses):
        return
    rows = chosen(data.held_out if len(data.held_out) > 1 else data.train, 2 * DRAWN)
    with torch.no_grad():
        for name, _, warning in model.diagnose(engine.put(data.take(rows))):
            if warning:
                yield Finding(name, warning)


def chosen(rows: np.ndarray, n: int) -> np.ndarray:
    """n of the rows, by chance: always the same ones."""
    return rows if len(rows) <= n else np.random.default_rng(0xD0C).permutation(rows)[:n]


def drawn(model: Model, data: Data) -> np.ndarray | None:
    """A few samples, in the form of data.x, where drawing them is one pass of a decoder."""
    if not (isinstance(model, Samples) and isinstance(model, Decodes)):
        return None
    n = _many(data)
    result = sampling.samples(model, n, 0, data, classes=sampling.shares(data, n, 0)).numpy()
    return neighbours.grid(result, data.levels) if data.levels else result


def _many(data: Data) -> int:
    return DRAWN if data.levels else POINTS


# While it trains


class Noted(NamedTuple):
    """Something that was found, and for how long."""

    name: str
    text: str
    since: int
    until: int | None = None
    """images seen; None while it lasts"""


def watch(run: Run, data: Data, steps: Iterator[Step]) -> Iterator[Step]:
    """Pass the steps on.  What is found goes to doctor.jsonl, and into run.notes when it happens for the
    first time."""
    if engine.rank() != 0:
        yield from steps
        return
    batch, last = stride(run), run.seen
    log, notes, guess = run.log(), Notes(run), guessed(run, data)
    for step in steps:
        if step.line:
            log = symptoms.milestones([*log, step.line], MEMORY)
            notes.take("log", step.seen, list(consult(run, log, guess)))
        if due(last / batch, step.seen / batch):
            with suppress(Refusal):  # what cannot be looked at is no reason to lose the training
                notes.take("probe", step.seen, list(probed(run, data, run.model, drawn(run.model, data))))
        last = step.seen
        yield step


def due(before: float, now: float) -> bool:
    """Twice in every doubling of the batches seen, from the first on."""
    return now >= FIRST and (
        before < FIRST or math.floor(2 * math.log2(before)) < math.floor(2 * math.log2(now))
    )


class Notes:
    """doctor.jsonl: a line when something is found, and when it is over, by which kind of look."""

    def __init__(self, run: Run):
        """What a run that was killed has noted after the state that it resumes from will be noted again."""
        self.run, self.path = run, run.folder / FILE
        self.lines = [line for line in read(run) if line["seen"] <= run.seen]
        if self.path.is_file():
            storage.write(self.path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())

    def take(self, look: str, seen: int, findings: Sequence[Finding]) -> None:
        """What one kind of look has found now: all of it."""
        lasting = {line["name"]: line["text"] for line in self.lines if line["look"] == look}
        now = {finding.name: finding.text for finding in findings}
        for name, text in now.items():
            if name not in {line["name"] for line in self.lines}:
                self.run.notes.append(text)
            if not lasting.get(name):
                self.write(dict(seen=seen, look=look, name=name, text=text))
        for name in [name for name, text in lasting.items() if text and name not in now]:
            self.write(dict(seen=seen, look=look, name=name, text=""))

    def write(self, line: dict[str, Any]) -> None:
        """One that cannot be written is no reason to lose the training."""
        self.lines.append(line)
        try:
            with self.path.open("a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as error:
            self.run.notes.append(str(storage.trouble(error, self.path)))


def read(run: Run) -> list[dict[str, Any]]:
    """The lines of doctor.jsonl; a last one that a crash has torn is left out."""
    try:
        text = (run.folder / FILE).read_text(errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return []
    return [line for text_line in text.splitlines() if (line := _parsed(text_line))]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not {"seen", "look", "name", "text"} <= line.keys():
        return None
    return line | {key: symptoms.of_today(str(line[key])) for key in ("name", "text")}


def history(run: Run) -> list[Noted]:
    """What was found while it trained, in order."""
    open_, out = dict[tuple[str, str], int](), list[Noted]()
    for line in read(run):
        key = line["look"], line["name"]
        if line["text"]:
            open_[key] = len(out)
            out.append(Noted(line["name"], line["text"], line["seen"]))
        elif key in open_:
            at = open_.pop(key)
            out[at] = out[at]._replace(until=line["seen"])
    return out
