"""By which numbers one sees what goes wrong in a training: rules, each a function to a Finding or None.

A rule reads lines of the log, or what a probe has measured.  It knows terms of a loss and questions, and no
model.  Terms of an adversarial loss: "told apart" (share of pairs in which the real image gets the higher
logit: 1/2 is a guess), "on real" and "on fake" (mean logits), "pull" (mean |dL_G / dD(G(z))|).  Of a
self-supervised one: "spread" and "RankMe" (of what it compares, parts/collapse.py), "chance" (what the loss
would be of one that knows nothing; other models say it by a method, parts/chance.py), "entropy" and
"divergence" (of a teacher's answers). Norms of gradients are logged for every player.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..metrics import neighbours
from ..parts.collapse import POINT, PROJECTIONS

# Of the log.  A line is the mean over about 50 batches.
RECENT = 8
"""lines that are to agree on what the state is, about 400 batches: a discriminator may be ahead
for a hundred"""
NO_CONTEST = 0.98
"""of pairs told apart, at least: healthy runs on points and digits stay below 0.93"""
CERTAIN = 6.0
"""between mean logits of real and of drawn images, at least, where the generator also learns from pairs (a
term "L1"): there a discriminator may tell all apart and do no harm; 3 in healthy runs of pix2pix"""
WINS = 0.95
"""the same where the generator hears next to nothing as well"""
VANISHED = 0.1
"""pull, at most: a fifth of the 1/2 that it has in the games with logits while the discriminator guesses"""
SILENT = 1e-8
"""norm of the generator's gradient in most lines, at most: less than what Adam adds to the root of its square
moves nothing"""
SWING = 0.03
"""by how much more than 1/2 the better side of a swing tells apart, and the worse side less, at least"""
SIGMAS = 4
"""and standard errors of that share, from the number of images of a line"""
SWINGS = 4
"""changes of side within the memory: a game that settles changes once or twice"""
GROWN = 100.0
"""times that a gradient, a loss or a gap between logits is what it was at the first step, or above 1; healthy
ones stay within 20"""
LASTING = 3
"""lines that are to agree on a collapse: it never comes back"""
LINE = 1.5
"""dimensions in use, at most, at which what is compared is called a line: healthy runs soon have
5 and more"""
ENOUGH = 8
"""dimensions that there could be, below which next to nothing is compared, and a low RankMe is no sign of a
collapse"""
LEARNT, PATIENCE = 0.01, 16
"""of what one that knows nothing would lose, that a loss is to save, at least; and lines that one waits for
it"""
BLOWN, RAISED, LOST = 2.0, 9.0, 0.25
"""times what a loss had come down by that it has risen, at least; times its first value, where it had not
come down by half of that (dino's rises to seven times that where all is well, for its teacher changes); and
times what it had come down by, or half of its first value, that it has stayed above its best ever since"""

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
NO_NEARER = 0.9
"""of the distance from the data to what the first weights draw, at least: healthy generators have a twentieth
of it after 250 batches"""
SURE = 3
"""standard errors of a difference between shares of the same images"""
POORER, HALF = 0.75, 0.5
"""of the dimensions that features of the first weights make use of, at most: where labels say the same, and
where there are none.  Healthy features gain dimensions; at a hundred times the rate they keep 0.3 to 0.5"""
BY_HEART = 0.65
"""share of pairs in which a training image gets a higher logit than a held-out one, at least: 1/2 if it
generalises. 0.70 to 0.82 of 50 digits, 0.54 at most of the same with --augment gentle, and of 1,600"""


RENAMED = {
    "no contest": "discriminator too strong",
    "silent discriminator": "zero generator gradient",
    "one answer": "teacher collapse",
    "nothing learnt": "loss at chance",
    "blown up": "training instability",
    "few to compare": "batch or projection too small",
    "labels by heart": "memorised labels",
    "one target": "collapsed output",
    "content lost": "content weight too low",
    "style unheard": "style weight too low",
}
"""findings by the names that they have in logs and scores of before"""


def of_today(text: str) -> str:
    """A finding on one line, as Finding.text has it, under its name of today."""
    name, colon, rest = text.partition(":")
    return RENAMED.get(name, name) + colon + rest


class Finding(NamedTuple):
    name: str
    evidence: str
    """numbers, and what they would be if all were well"""
    remedies: tuple[str, ...] = ()
    """flags to train anew with, the best first; none where the evidence is a model's own verdict, which ends
    with them"""

    @property
    def text(self) -> str:
        """All of it on one line."""
        return (f"{self.name}: {self.evidence}") + (
            f".  Train anew with {', or '.join(self.remedies)}" if self.remedies else ""
        )


CALM, STRONGER = "--r1 {calm:g} --r2 {calm:g}", "--gamma {stronger:g}"
PAIRED = f"--game relativistic {CALM}"
SLOWER, SHORTER, LONGER, WIDER = (
    "--rate {slower:.2g}",
    "--images {shorter}",
    "--images {longer}",
    "--latent {wider}",
)
USUAL, MILDER = "--rate {usual:.2g}", "--rate {milder:.2g}"
"""the model's own rate if this one is far off, above or below; and a third of it if it is not"""
"""filled in by suited()"""
LARGER = "--batch {larger}"
UNTRAINED = "no better than untrained"
VARIED = (WIDER, CALM, STRONGER, "--pack 2", PAIRED, "--beta 1", LONGER)
CHANGED = ("--augment gentle", "--augment full", SHORTER)


Line = dict[str, Any]
"""of log.jsonl: images seen, and the mean of each term"""


# Rules of the log


def course(lines: Sequence[Line], name: str) -> np.ndarray:
    """A term, line by line; empty if not every line has it."""
    result = [line["losses"].get(name, math.nan) for line in lines]
    return np.array([] if any(map(math.isnan, result)) else result)


def saturation(lines: Sequence[Line], critic: bool = False) -> Finding | None:
    """The discriminator wins every time; where the game lets that silence the generator, its gradient has
    vanished (Goodfellow et al. 2014, section 3).

    critic: it is one under a gradient penalty, and to be near its optimum is what it is for (Gulrajani et al.
    2017). Nothing is said where others judge as well, whose logits pull however far they are ahead
    (parts/projected.py); silence() sees if that is not enough.
    """
    if len(course(lines[-RECENT:], "told apart by features")):
        return None
    accuracy, pull = (course(lines[-RECENT:], name) for name in ("told apart", "pull"))
    if len(accuracy) < RECENT or accuracy.mean() < WINS:
        return None
    share = f"the discriminator tells {accuracy.mean():.1%} of pairs apart (50% is a guess)"
    if len(pull) and pull.mean() < VANISHED:
        heard = f"{share}, and of its slope only {pull.mean():.2g} reaches the generator (0.5 at a guess)"
        return Finding("vanishing gradient", heard, ("--k 1", "--game nonsaturating", PAIRED))
    if accuracy.mean() < NO_CONTEST or critic:
        return None
    real, fake = (course(lines[-RECENT:], name).mean() for name in ("on real", "on fake"))
    if len(course(lines[-RECENT:], "L1")) and real - fake < CERTAIN:
        return None
    return Finding(
        "discriminator too strong",
        f"{share}, by logits of {real:.3g} against {fake:.3g}",
        ("--k 1", CALM, STRONGER, "--d-rate 1", SLOWER, "--l1 100"),
    )


def silence(lines: Sequence[Line]) -> Finding | None:
    """The game would let the generator hear, but at what it draws the discriminator is flat, and nothing
    pulls at it."""
    accuracy, pull, gradient, others = (
        course(lines[-RECENT:], name)
        for name in ("told apart", "pull", "generator gradient", "told apart by features")
    )
    if (
        min(len(accuracy), len(pull), len(gradient)) < RECENT
        or np.median(gradient) > SILENT
        or (pull.mean() < VANISHED and not len(others))
    ):
        return None
    evidence = (
        f"the generator's gradient is {np.median(gradient):.2g}, at {accuracy.mean():.1%} of pairs told apart"
    )
    return Finding("zero generator gradient", evidence, ("--k 1", "--d-rate 1", SLOWER))


def oscillation(lines: Sequence[Line], a_pair: int = 1) -> Finding | None:
    """Discriminator and generator chase each other: what is drawn has moved on before it is known, so that
    guesses are worse than chance and better in turns.

    At an equilibrium it is 1/2 with the noise of counting, and a discriminator that keeps ahead is never
    below (Mescheder, Geiger & Nowozin 2018 on why the unregularised game circles).  a_pair: images seen for
    each of the pairs that are counted.
    """
    accuracy, seen = course(lines, "told apart"), np.array([line["seen"] for line in lines])
    if len(accuracy) < 10:
        return None
    margin = max(SWING, SIGMAS * 0.5 / math.sqrt(np.diff(seen).mean() / a_pair))
    sides = np.sign(accuracy - 0.5) * (abs(accuracy - 0.5) > margin)
    turns = np.flatnonzero(np.diff(sides[sides != 0]) != 0)
    if len(turns) < SWINGS:
        return None
    gap = course(lines, "on real") - course(lines, "on fake")
    early, late = gap[: len(gap) // 2].std(), gap[len(gap) // 2 :].std()
    period = 2 * (seen[-1] - seen[0]) / len(turns)
    grows = (
        f"growing {late / early:.1f}-fold"
        if late > 1.5 * early > 0
        else "steady"
        if late > early / 1.5
        else "dying down"
    )
    swings = (
        f"pairs told apart swing from {accuracy.min():.0%} to {accuracy.max():.0%} in about {period:,.0f} "
        f"images, {grows}"
    )
    return Finding("oscillation", swings, (CALM, "--game nonsaturating", PAIRED, STRONGER))


def divergence(log: Sequence[Line]) -> Finding | None:
    """Something that should settle has grown: gradients, and the loss, or where the loss is that of a game,
    the gap between logits."""
    if len(log) < RECENT:
        return None
    ends = [log[0], *log[-3:]]  # one of three may be a spike, which passes
    for name in log[-1]["losses"]:
        player = name.removesuffix(" gradient")
        if player == name:
            continue
        curves = {
            f"the gradient of the {player}": course(ends, name),
            f"the loss of the {player}": course(ends, player),
        }
        if "on real" in log[-1]["losses"]:
            curves = {
                f"the gradient of the {player}": course(ends, name),
                "the gap between logits": course(ends, "on real") - course(ends, "on fake"),
            }
        for what, curve in curves.items():
            if not what.startswith("the loss"):  # which alone may fall below 0 where all is well
                curve = abs(curve)
            first, now = curve[:1], np.median(curve[1:]) if len(curve) else 0.0
            if len(first) and now > GROWN * max(1.0, abs(float(first[0]))):
                grew = f"{what} has grown from {first[0]:.2g} to {now:.2g}"
                return Finding(
                    "divergence",
                    grew,
                    (CALM, STRONGER, "--d-rate 1", SLOWER)
                    if "pull" in log[-1]["losses"]
                    else (SLOWER, "--clip 1"),
                )
    return None


def alike(lines: Sequence[Line]) -> Finding | None:
    """What a self-supervised method compares has become the same for every image: its loss may be perfect
    (Chen & He 2021, section 4.1)."""
    spread = course(lines[-LASTING:], "spread")
    if len(spread) < LASTING or spread.max() > POINT:
        return None
    loss = course(lines[-LASTING:], "model")
    beside = f", at a loss of {loss.mean():.2g}" if len(loss) else ""
    evidence = (
        f"what is compared is the same for every image: its spread is {spread.mean():.2g} (1 where it "
        f"points everywhere){beside}; collapsed"
    )
    return Finding(PROJECTIONS, evidence, ("--target average", "--target stopped", SLOWER))


def narrow(lines: Sequence[Line]) -> Finding | None:
    """What is compared lies on one line: collapsed in all dimensions but one (Garrido et al. 2023, section
    3).

    Of a few images no more can be said than that they are few: n of them, or vectors of n numbers, have n
    dimensions at most, and what makes a batch of them different says little of a collapse.
    """
    rank, most = (course(lines[-LASTING:], name) for name in ("RankMe", "RankMe at most"))
    if len(rank) < LASTING:
        return None
    if len(most) and most.max() < ENOUGH:
        few = (
            f"RankMe is {rank.mean():.2g} of {most.max():.0f} at most, as many as a batch has images or a "
            "projection numbers"
        )
        return Finding(
            "batch or projection too small",
            f"{few}: next to nothing is compared",
            (LARGER, "--projection 64"),
        )
    if rank.max() > LINE:
        return None
    return Finding(
        "one dimension",
        f"what is compared lies on a line: RankMe is {rank.mean():.2g}",
        ("--covariance 1", SLOWER, LONGER),
    )


def dominated(lines: Sequence[Line]) -> Finding | None:
    """A teacher gives every image the same answer, and the student has learnt which (Caron et al. 2021,
    section 5.3)."""
    entropy, divergence, chance = (
        course(lines[-LASTING:], name) for name in ("entropy", "divergence", "chance")
    )
    if (
        min(len(entropy), len(divergence), len(chance)) < LASTING
        or (entropy > LEARNT * chance).any()
        or (divergence > LEARNT * chance).any()
    ):
        return None
    evidence = (
        f"the teacher's answers have an entropy of {entropy.mean():.2g} and the student's are "
        f"{divergence.mean():.2g} from them: the same for every image"
    )
    return Finding("teacher collapse", evidence, ("--centring 0.5", SLOWER))


def nothing_learnt(lines: Sequence[Line], guess: Mapping[str, float] = {}) -> Finding | None:
    """The loss has stayed where it is without any knowledge of the images.  A contrastive one is there after
    a collapse as well.

    guess: terms, and what each is of one that knows nothing, where the lines do not say "chance".
    """
    lines, chance = lines[-PATIENCE:], course(lines[-PATIENCE:], "chance")
    known = (
        {"model": chance} if len(chance) else {name: np.full(len(lines), aim) for name, aim in guess.items()}
    )
    for name, aim in known.items():
        loss = course(lines, name)
        if len(loss) == PATIENCE and (loss >= aim - LEARNT * abs(aim)).all():
            evidence = (
                f"the loss is {loss.mean():.4g}, and one that knew nothing of the images would have "
                f"{aim.mean():.4g}"
            )
            return Finding("loss at chance", evidence, ("--beta 1", USUAL, LONGER, MILDER))
    return None


def relapse(log: Sequence[Line]) -> Finding | None:
    """A loss has risen far above its best, and has never come back to it: what had been learnt is lost.

    Measured in what it had come down by, so that it may be below 0.  The losses of a game pull at each other,
    and rise and fall where all is well: there it is GROWN times that, or times 1.
    """
    of_game = len(players(log)) > 1
    for player in players(log):
        loss = course(log, player)
        if len(loss) < 2:
            continue
        best, at = peak(loss)
        first, after = float(loss[0]), loss[at + 1 :]
        learnt = max(first - loss[best], max(abs(first), 1.0) if of_game else max(0.5 * abs(first), 1e-12))
        rise = loss[at] - loss[best]
        enough = BLOWN * learnt if first - loss[best] >= 0.5 * abs(first) else RAISED * abs(first)
        if len(after) < RECENT or rise < (GROWN * learnt if of_game else enough):
            continue
        if after.min() - loss[best] < LOST * learnt:
            continue
        whose = f" of the {player}" if of_game else ""
        was = f"the loss{whose} was {loss[best]:.3g} at image {log[best]['seen']:,}"
        rose = (
            f"rose to {loss[at]:.3g} by image {log[at]['seen']:,}, and has been {after.min():.3g} or more "
            "since"
        )
        remedies = (CALM, STRONGER, "--d-rate 1", SLOWER) if of_game else (SLOWER, "--clip 1")
        return Finding("training instability", f"{was}, {rose}", remedies)
    return None


def players(log: Sequence[Line]) -> list[str]:
    """Whose losses say by their height how well they do: all, but for a generator that takes the mean logit
    itself as its loss (pull is 1 wherever it draws), to which a critic may add any number."""
    terms = log[-1]["losses"] if log else {}
    names = [name.removesuffix(" gradient") for name in terms if name.endswith(" gradient")]
    pull = course(log, "pull")
    linear = len(pull) > 0 and bool((abs(pull - 1) < 1e-3).all())
    return [name for name in names or ["model"] if not (linear and name == "generator")]


def peak(loss: np.ndarray) -> tuple[int, int]:
    """Of losses (n,), n > 1: where one is the furthest above the best before it; that best comes first."""
    at = 1 + int((loss[1:] - np.minimum.accumulate(loss)[:-1]).argmax())
    return int(loss[:at].argmin()), at


def milestones(log: Sequence[Line], memory: int) -> list[Line]:
    """Those lines that a rule will ever look at: the first, the last so many, and what relapse() needs of all
    between."""
    kept = {0, *range(max(0, len(log) - memory), len(log))}
    for player in players(log):
        if len(loss := course(log, player)) > memory:
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
    others, ours = apart(drawn), apart(known)
    if others < TWINS * ours:
        return Finding(
            "mode collapse",
            f"a sample is {others:.2g} from the one next to it, a real one {ours:.2g}",
            VARIED,
        )
    return None


def apart(x: np.ndarray) -> float:
    """Median distance to the nearest other, of rows (n, dims)."""
    squared = np.add.outer(*[np.square(x).sum(1)] * 2) - 2 * x @ x.T
    np.fill_diagonal(squared, np.inf)
    return float(np.median(np.sqrt(np.maximum(squared.min(1), 0))))


def no_nearer(samples: np.ndarray, first: np.ndarray, real: np.ndarray) -> Finding | None:
    """What is drawn is no nearer to the data than what the first weights draw.  All (n, ...), in one unit.

    By the energy distance 2 E|x - y| - E|x - x'| - E|y - y'| (Szekely & Rizzo 2013), which is 0 for equal
    laws alone.
    """
    if (n := min(len(samples), len(first), len(real))) < FEW:
        return None
    drawn, untrained, known = (x[:n].reshape(n, -1).astype(np.float64) for x in (samples, first, real))
    now, then = energy(drawn, known), energy(untrained, known)
    if not now >= NO_NEARER * then:
        return None
    evidence = (
        f"samples are {now:.3g} from the data, and those of the first weights {then:.3g} (energy distance)"
    )
    return Finding(UNTRAINED, evidence, (SLOWER, CALM, STRONGER, LONGER))


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """Energy distance of rows (n, d) and (m, d); a row is not compared with itself."""
    within = sum(distances(rows, rows).sum() / (len(rows) * (len(rows) - 1)) for rows in (x, y))
    return float(2 * distances(x, y).mean() - within)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) of rows (n, d) and (m, d)."""
    squared = np.add.outer(np.square(x).sum(1), np.square(y).sum(1)) - 2 * x @ y.T
    result: np.ndarray = np.sqrt(np.maximum(squared, 0))
    return result


Right = np.ndarray | None


def unlearnt(rank: float, first: float, right: Right = None, right_first: Right = None) -> Finding | None:
    """Features are worth less than those of the first weights: fewer dimensions are in use, and fewer classes
    are told.

    rank, first: RankMe of both.  right, right_first: whether the nearest training images have the class of an
    image, (m,) each, if there are classes.
    """
    evidence = (
        f"features make use of {rank:.3g} dimensions (RankMe), those of the first weights of {first:.3g}"
    )
    if right is None or right_first is None:
        return Finding(UNTRAINED, evidence, (SLOWER, LARGER, LONGER)) if rank < HALF * first else None
    lost = right_first.astype(float) - right
    if (
        rank > POORER * first
        or len(lost) < FEW
        or lost.mean() <= SURE * lost.std(ddof=1) / math.sqrt(len(lost))
    ):
        return None
    accuracy = (
        f"nearest neighbours tell {right.mean():.1%} of held-out images, and by the first weights "
        f"{right_first.mean():.1%}"
    )
    return Finding(UNTRAINED, f"{accuracy}; {evidence}", (SLOWER, LARGER, LONGER))


def dropped(samples: np.ndarray, real: np.ndarray, what: str, names: Sequence[str] = ()) -> Finding | None:
    """Kinds that real examples have, and samples hardly.  Whole numbers (n,): the kind of each; names of the
    kinds, where they have any."""
    kinds, counts = np.unique(real, return_counts=True)
    fair = counts / len(real) * len(samples)
    drawn = np.array([(samples == kind).sum() for kind in kinds])
    missing = kinds[(drawn < MISSING * fair) & (fair >= EXPECTED)]
    if not len(missing):
        return None
    shown = [str(kind) if not names else names[kind] for kind in missing[:8]]
    named = f"{'' if names else 'number '}{', '.join(shown)}{' ...' * (len(missing) > 8)}"
    shares = f"{len(missing)} of {len(kinds)} {what} are missing from {len(samples)} samples ({named})"
    return Finding("dropped modes", shares, VARIED)


def by_heart(train: np.ndarray, held_out: np.ndarray, drawn: np.ndarray) -> Finding | None:
    """The discriminator prefers its training images to others of their kind (after Karras et al. 2020,
    "Training GANs with limited data", eq. 1).

    Each (m,): mean logits of a few images.  Their spread says how far apart those of single images are.
    """
    if min(len(train), len(held_out)) < FEW // TOGETHER:
        return None
    spread = math.sqrt((train.var(ddof=1) + held_out.var(ddof=1)) / 2) + 1e-12
    ahead = (train.mean() - held_out.mean()) / spread
    sure = ahead / math.sqrt(1 / len(train) + 1 / len(held_out))
    # of two Gaussians, one ahead by so many standard deviations
    share = (1 + math.erf(ahead / math.sqrt(TOGETHER) / 2)) / 2
    if sure < SIGMAS or share < BY_HEART:
        return None
    logits = (
        f"logits of {train.mean():.3g} for training images, {held_out.mean():.3g} for held-out ones and "
        f"{drawn.mean():.3g} for drawn ones"
    )
    known = (
        f"the discriminator prefers a training image to a held-out one in {share:.0%} of pairs (50% if it "
        f"had not learnt them by heart): {logits}"
    )
    return Finding("memorisation", known, CHANGED)


def labels_by_heart(train: np.ndarray, held_out: np.ndarray, guess: float) -> Finding | None:
    """A classifier knows the classes of its training images, and of others no more than which is common
    (Zhang et al. 2017).

    train, held_out: whether it is right, (m,) each; guess: share of the commonest class.
    """
    if min(len(train), len(held_out)) < FEW:
        return None
    known, accuracy = float(train.mean()), float(held_out.mean())
    error = math.sqrt(known * (1 - known) / len(train) + accuracy * (1 - accuracy) / len(held_out))
    if (
        accuracy > guess + 2 * math.sqrt(guess * (1 - guess) / len(held_out))
        or known - accuracy <= SIGMAS * error
    ):
        return None
    shares = (
        f"it is right about {known:.1%} of training images and {accuracy:.1%} of held-out ones ({guess:.1%} "
        "by one answer for all)"
    )
    why = "the labels go with nothing that images show, as if shuffled; look at some images beside theirs"
    return Finding("memorised labels", f"{shares}: {why}")


def copying(samples: neighbours.Nearest, held_out: neighbours.Nearest) -> Finding | None:
    """Samples lie a third as far from training images as held-out images do, or nearer: no blur explains
    that."""
    others, ours = (
        float(np.median(result.distance[:, 0])) if len(result.row) else math.inf
        for result in (samples, held_out)
    )
    if min(len(samples.row), len(held_out.row)) < FEW or others > ours / 3:
        return None
    near = f"samples lie {others:.2g} levels from a training image, held-out images {ours:.2g}"
    return Finding("memorisation", near, CHANGED)
