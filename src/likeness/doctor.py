"""What goes wrong in a training: by which numbers one sees it, and what to type.

    for step in doctor.watch(run, data, steps): ...        a line when something happens, kept in doctor.jsonl
    for finding in doctor.examine(run, data, model, x):    the state of a trained run

A rule is a function of lines of the log, or of what a probe has measured, to a Finding or None.  It knows terms of a loss and
questions, and no model.  Terms of an adversarial loss: "told apart" (share of pairs in which the real image gets the higher
logit: 1/2 is a guess), "on real" and "on fake" (mean logits), "pull" (mean |dL_G / dD(G(z))|).  Norms of gradients are logged
for every player.

Looking changes nothing: probes ask the running average, which is in evaluation mode, and the loop seeds itself anew at each step.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch

from . import engine, store
from .core import Batch, Decodes, Model, Player, Refusal, Samples
from .data import Data
from .loop import Step
from .metrics import neighbours
from .noise import Noise
from .run import Run

FILE = "doctor.jsonl"

# Of the log.  A line is the mean over about 50 batches.
EARLY = 100
"""batches that are passed over: whatever begins at random begins badly"""
RECENT = 8
"""lines that are to agree on what the state is, about 400 batches: a discriminator may be ahead for a hundred"""
MEMORY = 20
"""lines that are looked at for a course of things, about 1000 batches"""
NO_CONTEST = 0.98
"""of pairs told apart, at least: healthy runs on points and digits stay below 0.93"""
WINS = 0.95
"""the same where the generator hears next to nothing as well"""
VANISHED = 0.1
"""pull, at most: a fifth of the 1/2 that it has in the games with logits while the discriminator guesses"""
SWING = 0.03
"""by how much more than 1/2 the better side of a swing tells apart, and the worse side less, at least"""
SIGMAS = 4
"""and standard errors of that share, from the number of images of a line"""
SWINGS = 4
"""changes of side within the memory: a game that settles changes once or twice"""
GROWN = 100.0
"""times that a gradient, a loss or a gap between logits is what it was at the first step, or above 1; healthy ones stay within 20"""

# Of probes, which cost a little, and so come twice in every doubling of the images seen.
FIRST = 512
"""batches before the first: a generator finds its modes one after another"""
DRAWN, POINTS = 128, 1024
"""samples, and real images to compare them with, and points, which are cheap; as many images are judged"""
NARROW = 0.2
"""variance of samples against that of the data, at most: blurred samples have a half and more"""
TWINS = 0.1
"""how far a sample is from the sample next to it, against the same of real images, at most"""
MISSING = 0.1
"""of the samples that a mode or a class would get if all were as in the data, at most"""
EXPECTED = 10
"""and fewest of those that all would be: by chance none of them comes once in twenty thousand times"""
TOLD_BY_NEIGHBOURS = 0.8
"""of held-out images whose nearest training image is of their class, at least: else that says nothing of samples"""
FEW = 16
"""images of each side below which nothing is said"""
TOGETHER = 8
"""images whose mean logit is one measurement: a loss says no others"""
BY_HEART = 0.65
"""share of pairs in which a training image gets a higher logit than a held-out one, at least: 1/2 if it generalises.
0.70 to 0.82 of 50 digits, 0.54 at most of the same with --augment gentle, and of 1,600"""
SEARCHED = 2**25
"""values of training images that are searched for the nearest to a sample: a third of a second on one core"""


class Finding(NamedTuple):
    name: str
    evidence: str
    """numbers, and what they would be if all were well"""
    remedies: tuple[str, ...] = ()
    """flags to train anew with, the best first; none where the evidence is a model's own verdict, which ends with them"""

    @property
    def text(self) -> str:
        """All of it on one line."""
        return f"{self.name}: {self.evidence}" + (f".  Train anew with {', or '.join(self.remedies)}" if self.remedies else "")


CALM, PENALTY = "--r1 0.1 --r2 0.1", "--gradient-penalty 10"
PAIRED = f"--game relativistic {CALM}"
SLOWER, SHORTER, LONGER, STRONGER = "--rate {slower:.1g}", "--images {shorter}", "--images {longer}", "--gamma {stronger:g}"
"""filled in by suited()"""
VARIED = (PAIRED, "--pack 2", "--beta 1", LONGER)


@runtime_checkable
class Diagnoses(Protocol):
    """A model may know best what is wrong with it, such as unused dimensions of its code."""

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """Yield name, value, and a warning (empty if all is well), from held-out images."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A model may know which of its options do not go together."""

    def check(self) -> None:
        """Raises Refusal."""
        ...


Line = dict[str, Any]
"""of log.jsonl: images seen, and the mean of each term"""


def examine(run: Run, data: Data, model: Model, samples: np.ndarray | None = None) -> Iterator[Finding]:
    """Everything that is wrong now, by the log and by probes; costs about a second.

    samples: (n, C, H, W) of the model in the form of data.x, drawn for as many of each class as the data have if it is
    conditional; without them nothing is said of what is drawn.  The verdicts of diagnose() are among the findings.
    """
    yield from consult(run, run.log())
    if run.seen >= FIRST * stride(run):
        yield from probed(run, data, model, samples)


def stride(run: Run) -> int:
    """Images in which each player has moved once: a generator whose discriminator moves five times has seen a fifth of the batches."""
    return run.config.training.batch * max(player.steps for player in run.model.players())


def together(model: Model) -> int:
    """Images that one logit is of, where a discriminator judges several at once."""
    return int(getattr(model, "pack", 1))


def suited(run: Run, findings: Iterable[Finding | None]) -> Iterator[Finding]:
    """With those remedies only that this model has as options, and that are not as it is already."""
    training = run.config.training
    there = run.model.options() | asdict(training)
    numbers = dict(slower=training.rate / 3, shorter=max(1, run.seen // 2), longer=2 * max(run.seen, training.images), stronger=3 * there.get("gamma", 0))
    for finding in filter(None, findings):
        known = ((r, asked(r, there)) for r in (remedy.format(**numbers) for remedy in finding.remedies))
        yield finding._replace(remedies=tuple(r for r, wishes in known if wishes and accepts(run.model, wishes)))


def asked(remedy: str, there: dict[str, Any]) -> dict[str, Any]:
    """What flags with a value each would set; nothing if one of them is unknown or none changes anything."""
    words = remedy.split()
    flags = {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2])}
    if not flags.keys() <= there.keys():
        return {}
    wishes = {name: type(there[name])(value) for name, value in flags.items()}
    return wishes if any(there[name] != value for name, value in wishes.items()) else {}


def accepts(model: Model, wishes: dict[str, Any]) -> bool:
    """Whether a model that can check its options would take these beside those that it has."""
    if not isinstance(model, Checks):
        return True
    twin = copy.copy(model)
    for name, value in wishes.items():
        setattr(twin, name, value)
    try:
        twin.check()
    except Refusal:
        return False
    return True


# Rules of the log


def consult(run: Run, log: Sequence[Line]) -> Iterator[Finding]:
    """What the first line of a log and the last ones say."""
    recent = [line for line in log[-MEMORY:] if line["seen"] > EARLY * run.config.training.batch]
    yield from suited(run, (saturation(recent), oscillation(recent, together(run.model)), divergence(log)))


def course(lines: Sequence[Line], name: str) -> np.ndarray:
    """A term, line by line; empty if not every line has it."""
    found = [line["losses"].get(name, math.nan) for line in lines]
    return np.array([] if any(map(math.isnan, found)) else found)


def saturation(lines: Sequence[Line]) -> Finding | None:
    """The discriminator wins every time; where the game lets that silence the generator, its gradient has vanished (Goodfellow et al. 2014, section 3)."""
    told, pull = (course(lines[-RECENT:], name) for name in ("told apart", "pull"))
    if len(told) < RECENT or told.mean() < WINS:
        return None
    share = f"the discriminator tells {told.mean():.1%} of pairs apart (50% is a guess)"
    if len(pull) and pull.mean() < VANISHED:
        heard = f"{share}, and of its slope only {pull.mean():.2g} reaches the generator (0.5 at a guess)"
        return Finding("vanishing gradient", heard, ("--game nonsaturating", PAIRED, "--k 1"))
    if told.mean() < NO_CONTEST or held(lines):
        return None
    real, fake = (course(lines[-RECENT:], name).mean() for name in ("on real", "on fake"))
    return Finding("no contest", f"{share}, by logits of {real:.3g} against {fake:.3g}", (CALM, STRONGER, "--k 1", "--d-rate 1"))


def held(lines: Sequence[Line]) -> bool:
    """A critic under a penalty, whose slope reaches the generator as it is: to be near its optimum is what it is for (Gulrajani et al. 2017)."""
    pull, penalty = (course(lines[-RECENT:], name) for name in ("pull", "penalty"))
    return bool(len(penalty) and len(pull) and (pull == 1).all())


def oscillation(lines: Sequence[Line], pack: int = 1) -> Finding | None:
    """Discriminator and generator chase each other: what is drawn has moved on before it is known, so that guesses are worse than chance and better in turns.

    At an equilibrium it is 1/2 with the noise of counting, and a discriminator that keeps ahead is never below
    (Mescheder, Geiger & Nowozin 2018 on why the unregularised game circles).  pack: images of a pair's side.
    """
    told, seen = course(lines, "told apart"), np.array([line["seen"] for line in lines])
    if len(told) < 10:
        return None
    margin = max(SWING, SIGMAS * 0.5 / math.sqrt(np.diff(seen).mean() / pack))
    sides = np.sign(told - 0.5) * (abs(told - 0.5) > margin)
    turns = np.flatnonzero(np.diff(sides[sides != 0]) != 0)
    if len(turns) < SWINGS:
        return None
    gap = course(lines, "on real") - course(lines, "on fake")
    early, late = gap[: len(gap) // 2].std(), gap[len(gap) // 2 :].std()
    period = 2 * (seen[-1] - seen[0]) / len(turns)
    grows = f"growing {late / early:.1f}-fold" if late > 1.5 * early > 0 else "steady" if late > early / 1.5 else "dying down"
    swings = f"pairs told apart swing from {told.min():.0%} to {told.max():.0%} in about {period:,.0f} images, {grows}"
    return Finding("oscillation", swings, (bound(lines), PAIRED, STRONGER, SLOWER))


def bound(lines: Sequence[Line]) -> str:
    """What limits the slope of a discriminator: of a critic, whose slope reaches the generator as it is, and of one that gives logits."""
    pull = course(lines, "pull")
    return PENALTY if len(pull) and (pull == 1).all() else CALM


def divergence(log: Sequence[Line]) -> Finding | None:
    """Something that should settle has grown: gradients, and the loss, or where the loss is that of a game, the gap between logits."""
    if len(log) < RECENT:
        return None
    ends = [log[0], *log[-3:]]  # one of three may be a spike, which passes
    for name in log[-1]["losses"]:
        player = name.removesuffix(" gradient")
        if player == name:
            continue
        curves = {f"the gradient of the {player}": course(ends, name), f"the loss of the {player}": course(ends, player)}
        if "on real" in log[-1]["losses"]:
            curves = {f"the gradient of the {player}": course(ends, name), "the gap between logits": course(ends, "on real") - course(ends, "on fake")}
        for what, curve in curves.items():
            first, now = abs(curve[:1]), np.median(abs(curve[1:])) if len(curve) else 0.0
            if len(first) and now > GROWN * max(1.0, float(first[0])):
                grew = f"{what} has grown from {first[0]:.2g} to {now:.2g}"
                return Finding("divergence", grew, (SLOWER, "--clip 1", *([bound(ends)] if "pull" in log[-1]["losses"] else [])))
    return None


# Rules of probes


def collapse(samples: np.ndarray, real: np.ndarray) -> Finding | None:
    """Samples are all alike, or each has twins.  Both (n, ...)."""
    if (n := min(len(samples), len(real))) < FEW:
        return None
    drawn, known = (x[:n].reshape(n, -1).astype(np.float64) for x in (samples, real))
    narrow = drawn.var(0).sum() / max(known.var(0).sum(), 1e-12)
    if narrow < NARROW:
        return Finding("mode collapse", f"samples have {narrow:.2g} of the variance of the data", VARIED)
    theirs, ours = apart(drawn), apart(known)
    if theirs < TWINS * ours:
        return Finding("mode collapse", f"a sample is {theirs:.2g} from the one next to it, a real one {ours:.2g}", VARIED)
    return None


def apart(x: np.ndarray) -> float:
    """Median distance to the nearest other, of rows (n, dims)."""
    squared = np.add.outer(*[np.square(x).sum(1)] * 2) - 2 * x @ x.T
    np.fill_diagonal(squared, np.inf)
    return float(np.median(np.sqrt(np.maximum(squared.min(1), 0))))


def dropped(samples: np.ndarray, real: np.ndarray, what: str) -> Finding | None:
    """Kinds that real examples have, and samples hardly.  Whole numbers (n,): the kind of each."""
    kinds, counts = np.unique(real, return_counts=True)
    fair = counts / len(real) * len(samples)
    drawn = np.array([(samples == kind).sum() for kind in kinds])
    missing = kinds[(drawn < MISSING * fair) & (fair >= EXPECTED)]
    if not len(missing):
        return None
    named = ", ".join(str(kind) for kind in missing[:8]) + (" ..." if len(missing) > 8 else "")
    shares = f"{len(missing)} of {len(kinds)} {what} are missing from {len(samples)} samples (number {named})"
    return Finding("dropped modes", shares, VARIED)


def by_heart(train: np.ndarray, held_out: np.ndarray, drawn: np.ndarray) -> Finding | None:
    """The discriminator prefers its training images to others of their kind (after Karras et al. 2020, "Training GANs with limited data", eq. 1).

    Each (m,): mean logits of a few images.  Their spread says how far apart those of single images are.
    """
    if min(len(train), len(held_out)) < FEW // TOGETHER:
        return None
    spread = math.sqrt((train.var(ddof=1) + held_out.var(ddof=1)) / 2) + 1e-12
    ahead = (train.mean() - held_out.mean()) / spread
    sure = ahead / math.sqrt(1 / len(train) + 1 / len(held_out))
    share = (1 + math.erf(ahead / math.sqrt(TOGETHER) / 2)) / 2  # of two Gaussians, one ahead by so many standard deviations
    if sure < SIGMAS or share < BY_HEART:
        return None
    logits = f"logits of {train.mean():.3g} for training images, {held_out.mean():.3g} for held-out ones and {drawn.mean():.3g} for drawn ones"
    known = f"the discriminator prefers a training image to a held-out one in {share:.0%} of pairs (50% if it had not learnt them by heart): {logits}"
    return Finding("memorisation", known, ("--augment gentle", SHORTER))


def copying(samples: neighbours.Nearest, held_out: neighbours.Nearest) -> Finding | None:
    """Samples lie a third as far from training images as held-out images do, or nearer: no blur explains that."""
    theirs, ours = (float(np.median(found.distance[:, 0])) if len(found.row) else math.inf for found in (samples, held_out))
    if min(len(samples.row), len(held_out.row)) < FEW or theirs > ours / 3:
        return None
    near = f"samples lie {theirs:.2g} levels from a training image, held-out images {ours:.2g}"
    return Finding("memorisation", near, ("--augment gentle", SHORTER))


# Probes


def probed(run: Run, data: Data, model: Model, samples: np.ndarray | None) -> Iterator[Finding]:
    """Of the data and the model as it is.  What is drawn is not looked at where the model itself says that it is ill: the one follows from the other."""
    own = list(verdicts(data, model))
    yield from own
    yield from suited(run, [judged(run, data, model), *(of_samples(data, samples) if samples is not None and not own else [])])


def of_samples(data: Data, samples: np.ndarray) -> Iterator[Finding | None]:
    samples = samples[: _many(data)]
    if (alike := collapse(samples, data.x[chosen(data.train, len(samples))])) is not None:
        yield alike  # whatever else is missing is missing for that reason
    elif data.modes is not None:
        centres, real = data.modes.centres, data.x[chosen(data.train, 4096)]
        yield dropped(nearest_centre(samples, centres), nearest_centre(real, centres), "modes")
    elif data.levels and len(data.train):
        yield from beside_training(data, samples)


def nearest_centre(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n, 2, 1, 1) to (n,).  Any distance: that samples are not sharp is another matter."""
    return cast(np.ndarray, np.square(x.reshape(len(x), 1, -1) - centres).sum(2).argmin(1))


def beside_training(data: Data, samples: np.ndarray) -> Iterator[Finding | None]:
    """What one search for the nearest training images says: which classes are drawn, and whether any image is a copy."""
    rows, held_out = chosen(data.train, max(1, SEARCHED // data.spec.dims)), chosen(data.held_out, DRAWN)
    found = neighbours.nearest(np.concatenate([samples, data.x[held_out]]), data.x, rows, 1)
    drawn, real = found.of(np.s_[: len(samples)]), found.of(np.s_[len(samples) :])
    if len(rows) == len(data.train):
        yield copying(drawn, real)
    if data.y is not None and len(held_out) and (data.y[real.row[:, 0]] == data.y[held_out]).mean() >= TOLD_BY_NEIGHBOURS:
        yield dropped(data.y[drawn.row[:, 0]], data.y[data.train], "classes")


def judged(run: Run, data: Data, model: Model) -> Finding | None:
    """What the player who is asked about real images says of images that it learns from, and of others."""
    players = model.players()
    for player in players if len(players) > 1 else ():
        train, held_out = (np.array(list(logits(run, data, player, rows))).reshape(-1, 2) for rows in (data.train, data.held_out))
        if len(train):
            return by_heart(train[:, 0], held_out[:, 0], np.concatenate([train, held_out])[:, 1])
    return None


def logits(run: Run, data: Data, player: Player, rows: np.ndarray) -> Iterator[tuple[float, float]]:
    """Means on real and on drawn images, of a few images each; nothing where the loss has no such terms."""
    pack = together(run.model)
    some = chosen(rows, DRAWN * pack)
    batch = data.take(some, Noise(torch.from_numpy(some), engine.derive("doctor")))
    for piece in engine.put(replace(batch, step=1, seen=run.seen)).split(TOGETHER * pack):  # step 1: lazy penalties are not due
        if len(piece) < TOGETHER * pack:
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
    n, y = _many(data), None
    if model.conditional and data.y is not None:
        y = torch.from_numpy(np.resize(data.y[chosen(data.train, n)], n)).to(engine.device())
    with torch.no_grad():
        *_, x = model.sample(engine.sampling_noise(0, 0, n), y)
    found = x.float().cpu().numpy()
    return neighbours.grid(found, data.levels) if data.levels else found


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
    """Pass the steps on.  What is found goes to doctor.jsonl, and into run.notes when it happens for the first time."""
    if engine.rank() != 0:
        yield from steps
        return
    batch, last = stride(run), run.seen
    log, notes = run.log(), Notes(run)
    for step in steps:
        if step.line:
            log = [*log[:1], *log[1:][1 - MEMORY :], step.line]
            notes.take("log", step.seen, list(consult(run, log)))
        if due(last / batch, step.seen / batch):
            with suppress(Refusal):  # what cannot be looked at is no reason to lose the training
                notes.take("probe", step.seen, list(probed(run, data, run.model, drawn(run.model, data))))
        last = step.seen
        yield step


def due(before: float, now: float) -> bool:
    """Twice in every doubling of the batches seen, from the first on."""
    return now >= FIRST and (before < FIRST or math.floor(2 * math.log2(before)) < math.floor(2 * math.log2(now)))


class Notes:
    """doctor.jsonl: a line when something is found, and when it is over, by which kind of look."""

    def __init__(self, run: Run):
        """What a run that was killed has noted after the state that it resumes from will be noted again."""
        self.run, self.path = run, run.folder / FILE
        self.lines = [line for line in read(run) if line["seen"] <= run.seen]
        if self.path.is_file():
            store.write(self.path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())

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
            self.run.notes.append(str(store.trouble(error, self.path)))


def read(run: Run) -> list[dict[str, Any]]:
    """The lines of doctor.jsonl; a last one that a crash has torn is left out."""
    try:
        text = (run.folder / FILE).read_text(errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return []
    return [line for said in text.splitlines() if (line := _parsed(said))]


def _parsed(said: str) -> dict[str, Any] | None:
    try:
        line = json.loads(said)
        return line if isinstance(line, dict) and {"seen", "look", "name", "text"} <= line.keys() else None
    except ValueError:
        return None


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
