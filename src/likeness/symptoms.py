"""By which numbers one sees what goes wrong in a training: rules, each a function to a Finding or None.

A rule reads lines of the log, or what a probe has measured.  It knows terms of a loss and questions, and no model.  Terms of an
adversarial loss: "told apart" (share of pairs in which the real image gets the higher logit: 1/2 is a guess), "on real" and
"on fake" (mean logits), "pull" (mean |dL_G / dD(G(z))|).  Of a self-supervised one: "spread" and "RankMe" (of what it compares,
parts/collapse.py), "chance" (what the loss would be of one that knows nothing; where no line has it, the model's method says it,
parts/chance.py), "entropy" and "divergence" (of a teacher's answers).
Norms of gradients are logged for every player.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .metrics import neighbours
from .parts.collapse import POINT, PROJECTIONS

# Of the log.  A line is the mean over about 50 batches.
RECENT = 8
"""lines that are to agree on what the state is, about 400 batches: a discriminator may be ahead for a hundred"""
NO_CONTEST = 0.98
"""of pairs told apart, at least: healthy runs on points and digits stay below 0.93"""
WINS = 0.95
"""the same where the generator hears next to nothing as well"""
VANISHED = 0.1
"""pull, at most: a fifth of the 1/2 that it has in the games with logits while the discriminator guesses"""
SILENT = 1e-8
"""norm of the generator's gradient in most lines, at most: less than what Adam adds to the root of its square moves nothing"""
SWING = 0.03
"""by how much more than 1/2 the better side of a swing tells apart, and the worse side less, at least"""
SIGMAS = 4
"""and standard errors of that share, from the number of images of a line"""
SWINGS = 4
"""changes of side within the memory: a game that settles changes once or twice"""
GROWN = 100.0
"""times that a gradient, a loss or a gap between logits is what it was at the first step, or above 1; healthy ones stay within 20"""
LASTING = 3
"""lines that are to agree on a collapse: it never comes back"""
LINE = 1.5
"""dimensions in use, at most, at which what is compared is called a line: healthy runs soon have 5 and more"""
LEARNT, PATIENCE = 0.01, 16
"""of what one that knows nothing would lose, that a loss is to save, at least; and lines that one waits for it"""
BLOWN, LOST = 10.0, 1.25
"""times its lowest value so far that a loss has been, at least, and that it has stayed above ever since; what is below a tenth of its first value
counts as a tenth: a loss that has come near 0 may be a hundred times that for a while"""

# Of probes.
NARROW = 0.2
"""variance of samples against that of the data, at most: blurred samples have a half and more"""
TWINS = 0.1
"""how far a sample is from the sample next to it, against the same of real images, at most"""
MISSING = 0.1
"""of the samples that a mode or a class would get if all were as in the data, at most"""
EXPECTED = 10
"""and fewest of those that all would be: by chance none of them comes once in twenty thousand times"""
FEW = 16
"""images of each side below which nothing is said"""
TOGETHER = 8
"""images whose mean logit is one measurement: a loss says no others"""
BY_HEART = 0.65
"""share of pairs in which a training image gets a higher logit than a held-out one, at least: 1/2 if it generalises.
0.70 to 0.82 of 50 digits, 0.54 at most of the same with --augment gentle, and of 1,600"""


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


CALM, STRONGER = "--r1 {calm:g} --r2 {calm:g}", "--gamma {stronger:g}"
PAIRED = f"--game relativistic {CALM}"
SLOWER, SHORTER, LONGER, WIDER = "--rate {slower:.2g}", "--images {shorter}", "--images {longer}", "--latent {wider}"
USUAL = "--rate {usual:.2g}"
"""filled in by suited()"""
VARIED = (WIDER, CALM, STRONGER, "--pack 2", PAIRED, "--beta 1", LONGER)
CHANGED = ("--augment gentle", "--augment full", SHORTER)


Line = dict[str, Any]
"""of log.jsonl: images seen, and the mean of each term"""


# Rules of the log


def course(lines: Sequence[Line], name: str) -> np.ndarray:
    """A term, line by line; empty if not every line has it."""
    found = [line["losses"].get(name, math.nan) for line in lines]
    return np.array([] if any(map(math.isnan, found)) else found)


def saturation(lines: Sequence[Line], critic: bool = False) -> Finding | None:
    """The discriminator wins every time; where the game lets that silence the generator, its gradient has vanished (Goodfellow et al. 2014, section 3).

    critic: it is one under a gradient penalty, and to be near its optimum is what it is for (Gulrajani et al. 2017).
    Nothing is said where others judge as well, whose logits pull however far they are ahead (parts/projected.py); silence() sees if that is not enough.
    """
    if len(course(lines[-RECENT:], "told apart by features")):
        return None
    told, pull = (course(lines[-RECENT:], name) for name in ("told apart", "pull"))
    if len(told) < RECENT or told.mean() < WINS:
        return None
    share = f"the discriminator tells {told.mean():.1%} of pairs apart (50% is a guess)"
    if len(pull) and pull.mean() < VANISHED:
        heard = f"{share}, and of its slope only {pull.mean():.2g} reaches the generator (0.5 at a guess)"
        return Finding("vanishing gradient", heard, ("--k 1", "--game nonsaturating", PAIRED))
    if told.mean() < NO_CONTEST or critic:
        return None
    real, fake = (course(lines[-RECENT:], name).mean() for name in ("on real", "on fake"))
    return Finding("no contest", f"{share}, by logits of {real:.3g} against {fake:.3g}", ("--k 1", CALM, STRONGER, "--d-rate 1"))


def silence(lines: Sequence[Line]) -> Finding | None:
    """The game would let the generator hear, but at what it draws the discriminator is flat, and nothing pulls at it."""
    told, pull, gradient, others = (course(lines[-RECENT:], name) for name in ("told apart", "pull", "generator gradient", "told apart by features"))
    if min(len(told), len(pull), len(gradient)) < RECENT or np.median(gradient) > SILENT or (pull.mean() < VANISHED and not len(others)):
        return None
    said = f"the generator's gradient is {np.median(gradient):.2g}, at {told.mean():.1%} of pairs told apart"
    return Finding("silent discriminator", said, ("--k 1", "--d-rate 1", SLOWER))


def oscillation(lines: Sequence[Line], a_pair: int = 1) -> Finding | None:
    """Discriminator and generator chase each other: what is drawn has moved on before it is known, so that guesses are worse than chance and better in turns.

    At an equilibrium it is 1/2 with the noise of counting, and a discriminator that keeps ahead is never below
    (Mescheder, Geiger & Nowozin 2018 on why the unregularised game circles).  a_pair: images seen for each of the pairs that are counted.
    """
    told, seen = course(lines, "told apart"), np.array([line["seen"] for line in lines])
    if len(told) < 10:
        return None
    margin = max(SWING, SIGMAS * 0.5 / math.sqrt(np.diff(seen).mean() / a_pair))
    sides = np.sign(told - 0.5) * (abs(told - 0.5) > margin)
    turns = np.flatnonzero(np.diff(sides[sides != 0]) != 0)
    if len(turns) < SWINGS:
        return None
    gap = course(lines, "on real") - course(lines, "on fake")
    early, late = gap[: len(gap) // 2].std(), gap[len(gap) // 2 :].std()
    period = 2 * (seen[-1] - seen[0]) / len(turns)
    grows = f"growing {late / early:.1f}-fold" if late > 1.5 * early > 0 else "steady" if late > early / 1.5 else "dying down"
    swings = f"pairs told apart swing from {told.min():.0%} to {told.max():.0%} in about {period:,.0f} images, {grows}"
    return Finding("oscillation", swings, (CALM, "--game nonsaturating", PAIRED, STRONGER))


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
                return Finding("divergence", grew, (CALM, STRONGER, "--d-rate 1", SLOWER) if "pull" in log[-1]["losses"] else (SLOWER, "--clip 1"))
    return None


def alike(lines: Sequence[Line]) -> Finding | None:
    """What a self-supervised method compares has become the same for every image: its loss may be perfect (Chen & He 2021, section 4.1)."""
    spread = course(lines[-LASTING:], "spread")
    if len(spread) < LASTING or spread.max() > POINT:
        return None
    loss = course(lines[-LASTING:], "model")
    beside = f", at a loss of {loss.mean():.2g}" if len(loss) else ""
    said = f"what is compared is the same for every image: its spread is {spread.mean():.2g} (1 where it points everywhere){beside}; collapsed"
    return Finding(PROJECTIONS, said, ("--target average", "--target stopped", SLOWER))


def narrow(lines: Sequence[Line]) -> Finding | None:
    """What is compared lies on one line: collapsed in all dimensions but one (Garrido et al. 2023, section 3)."""
    rank = course(lines[-LASTING:], "RankMe")
    if len(rank) < LASTING or rank.max() > LINE:
        return None
    return Finding("one dimension", f"what is compared lies on a line: RankMe is {rank.mean():.2g}", ("--covariance 1", SLOWER, LONGER))


def dominated(lines: Sequence[Line]) -> Finding | None:
    """A teacher gives every image the same answer, and the student has learnt which (Caron et al. 2021, section 5.3)."""
    entropy, divergence, chance = (course(lines[-LASTING:], name) for name in ("entropy", "divergence", "chance"))
    if min(len(entropy), len(divergence), len(chance)) < LASTING or (entropy > LEARNT * chance).any() or (divergence > LEARNT * chance).any():
        return None
    said = f"the teacher's answers have an entropy of {entropy.mean():.2g} and the student's are {divergence.mean():.2g} from them: the same for every image"
    return Finding("one answer", said, ("--centring 0.5", SLOWER))


def nothing_learnt(lines: Sequence[Line], guess: Mapping[str, float] = {}) -> Finding | None:
    """The loss has stayed where it is without any knowledge of the images.  That of a contrastive method is there after a collapse as well.

    guess: terms, and what each is of one that knows nothing, where the lines do not say "chance".
    """
    lines, chance = lines[-PATIENCE:], course(lines[-PATIENCE:], "chance")
    known = {"model": chance} if len(chance) else {name: np.full(len(lines), value) for name, value in guess.items()}
    for name, aim in known.items():
        loss = course(lines, name)
        if len(loss) == PATIENCE and (loss >= aim - LEARNT * abs(aim)).all():
            said = f"the loss is {loss.mean():.4g}, and one that knew nothing of the images would have {aim.mean():.4g}"
            return Finding("nothing learnt", said, ("--beta 1", USUAL, LONGER))
    return None


def relapse(log: Sequence[Line]) -> Finding | None:
    """The loss has been many times its best, and has never come back to it: what had been learnt is lost."""
    loss = course(log, "model")
    if len(loss) < 2:
        return None
    best, at = peak(loss)
    after, base = loss[at + 1 :], least(loss)
    if len(after) < RECENT or loss[at] < BLOWN * max(loss[best], base) or after.min() < LOST * max(loss[best], base):
        return None
    rose = f"the loss was {loss[best]:.3g} at image {log[best]['seen']:,} and rose to {loss[at]:.3g} by image {log[at]['seen']:,}"
    return Finding("blown up", f"{rose}; since then it has been {after.min():.3g} or more", (SLOWER, "--clip 1"))


def least(loss: np.ndarray) -> float:
    """What a loss is taken to be at least where it is divided by."""
    return max(0.1 * abs(float(loss[0])), 1e-12)


def peak(loss: np.ndarray) -> tuple[int, int]:
    """Of losses (n,), n > 1: the best before it was the most times what it had been at best, and where that was."""
    lowest = np.maximum(np.minimum.accumulate(loss), least(loss))
    at = 1 + int((loss[1:] / lowest[:-1]).argmax())
    return int(loss[:at].argmin()), at


def milestones(log: Sequence[Line], memory: int) -> list[Line]:
    """Those lines that a rule will ever look at: the first, the last so many, and what relapse() makes of those between."""
    kept = {0, *range(max(0, len(log) - memory), len(log))}
    if len(loss := course(log, "model")) > memory:
        best, at = peak(loss)
        kept |= {best, at, at + int(loss[at:].argmin())}
    return [log[i] for i in sorted(kept)]


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
    return Finding("memorisation", known, CHANGED)


def copying(samples: neighbours.Nearest, held_out: neighbours.Nearest) -> Finding | None:
    """Samples lie a third as far from training images as held-out images do, or nearer: no blur explains that."""
    theirs, ours = (float(np.median(found.distance[:, 0])) if len(found.row) else math.inf for found in (samples, held_out))
    if min(len(samples.row), len(held_out.row)) < FEW or theirs > ours / 3:
        return None
    near = f"samples lie {theirs:.2g} levels from a training image, held-out images {ours:.2g}"
    return Finding("memorisation", near, CHANGED)
