"""What goes wrong with agents: by which numbers one sees it, and what to type.

    for finding in examine(run, chance): ...    of a run that has been trained for a while

Rules are functions to a Finding or None.  They read the log, options and the agent; the last also lets it
play.  What may be as well as ill, such as a policy that no longer explores, is named only where the return is
poor: no better than chance, or less than half way from chance to the best there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import engine
from ..core import option_fields
from ..training.symptoms import Finding
from . import load, opening, playing
from .dqn import DQN
from .pqn import PQN
from .run import AgentRun, one_thread

RECENT = 10
"""lines that are looked at, a fortieth of a run"""
SURE = 0.02
"""of the entropy of a uniform policy, at most: below it one of a thousand actions is not the best"""
FAR = 10.0
"""deviation of advantages, at least, or its inverse at most, that is far from 1"""
EXPLODED = 3.0
"""times the largest return, at least, that a mean value is: where rewards have one sign, discounted ones
cannot sum to more than all of them"""
PLAYED = 40
"""episodes that values are compared with"""
OVER, SIGMAS = 0.2, 4.0
"""of the returns' size, and standard errors of the mean, at least, by which values are too high"""

Line = Mapping[str, Any]


class Known(NamedTuple):
    """What the return may be held against."""

    low: float
    high: float
    """of the random policy, a 95 % interval"""
    best: float | None = None


def examine(run: AgentRun, chance: Known) -> Iterator[Finding]:
    """Everything that is wrong now; costs `PLAYED` episodes."""
    log, options = [] if run.agent.by_chance else run.log(), run.config.options
    recent = [line for line in log if "return" in line][-RECENT:]
    poor = short(recent, chance)
    found = (
        below_chance(recent, chance),
        no_exploration(recent, options, run.agent.space.actions) if poor else None,
        unscaled(recent, options) if poor else None,
        exploded(log),
        stale(run),
        overestimates(*values(run)) if isinstance(run.agent, DQN | PQN) else None,
    )
    yield from suited(run, [finding for finding in found if finding])


def suited(run: AgentRun, findings: Sequence[Finding]) -> Iterator[Finding]:
    """With those remedies only that this agent has as options."""
    there = {f.name for f in option_fields(load(run.config.agent).Options)}
    for finding in findings:
        typed = (remedy.format(**numbers(run.config.options)) for remedy in finding.remedies)
        known = [text for text in typed if flag(text) in there and helps(text, run.config.options)]
        yield finding._replace(remedies=tuple(known))


def flag(remedy: str) -> str:
    return remedy.split()[0].removeprefix("--").replace("-", "_")


def helps(remedy: str, options: Mapping[str, Any]) -> bool:
    """Whether it is not so already."""
    now, (_, *value) = options[flag(remedy)], remedy.split()
    return now is False if not value else float(value[0]) != now and (flag(remedy) != "epsilon" or now < 0.05)


def numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        slower=f"{options['rate'] / 3:.1g}",
        entropy=f"{max(0.01, 3 * options.get('entropy', 0.0)):g}",
        sooner=max(1, options["steps"] // 50),
        later=3 * options.get("target_every", 0),
        shorter=f"{max(0.9, 1 - 3 * (1 - options['gamma'])):g}",
    )


def short(recent: Sequence[Line], chance: Known) -> bool:
    """Whether the return is no better than chance, or less than half way to the best."""
    if not recent:
        return False
    now = float(np.mean([line["return"] for line in recent]))
    half = -math.inf if chance.best is None else (chance.high + chance.best) / 2
    return now <= max(chance.high, half)


def below_chance(recent: Sequence[Line], chance: Known) -> Finding | None:
    """Worse than who looks at nothing: what was learnt is wrong, not missing."""
    if not recent or (now := float(np.mean([line["return"] for line in recent]))) >= chance.low:
        return None
    text = (
        f"the last {len(recent)} lines of the log have a return of {now:.4g}, and the random policy has "
        f"{chance.low:.4g} to {chance.high:.4g}"
    )
    return Finding("return below random", text, ("--rate {slower}", "--entropy {entropy}", "--epsilon 0.05"))


def no_exploration(recent: Sequence[Line], options: Mapping[str, Any], actions: int) -> Finding | None:
    """Nothing else is tried any more, and what is done is poor."""
    if recent and all("entropy" in line for line in recent):
        share = max(line["entropy"] for line in recent) / math.log(actions)
        if share >= SURE:
            return None
        text = f"the policy's entropy is {share:.1%} of that of a uniform one, and its return is poor"
        return Finding("no exploration left", text, ("--entropy {entropy}", "--rate {slower}"))
    if recent and all(line.get("epsilon", 1.0) < 0.001 for line in recent):
        text = f"{options['epsilon']:g} of the actions are random (--epsilon), and the return is poor"
        return Finding("no exploration left", text, ("--epsilon 0.05", "--exploration 0.5"))
    return None


def unscaled(recent: Sequence[Line], options: Mapping[str, Any]) -> Finding | None:
    """The size of rewards is that of the policy's gradient, beside which entropy and critic weigh nothing, or
    too much."""
    sizes = [line["advantage"] for line in recent if "advantage" in line]
    if not sizes or options.get("normalise", True) or 1 / FAR < (size := float(np.median(sizes))) < FAR:
        return None
    text = f"advantages have a deviation of {size:.3g} and are not normalised, and the return is poor"
    return Finding("advantage not normalised", text, ("--normalise",))


def exploded(log: Sequence[Line]) -> Finding | None:
    """Values that no return has ever had the size of."""
    returns = [abs(line["return"]) for line in log if "return" in line]
    sizes = [abs(line[name]) for line in log[-RECENT:] for name in ("q", "baseline") if name in line]
    if not returns or not sizes or (size := float(np.median(sizes))) <= EXPLODED * max(1.0, *returns):
        return None
    text = f"the mean value is {size:.3g}, and the largest return of any line {max(returns):.4g}"
    remedies = ("--target-every {later}", "--rate {slower}", "--gamma {shorter}", "--clip 1")
    return Finding("value explosion", text, remedies)


def stale(run: AgentRun) -> Finding | None:
    """The network learns towards its first weights for ever: one step of value iteration."""
    agent = run.agent
    if not isinstance(agent, DQN) or agent.copied or (updates := agent.adam.number) < 100:
        return None
    every = run.config.options["target_every"]
    text = f"after {updates:,} gradients the target still has its first weights (--target-every {every:,})"
    return Finding("target never updated", text, ("--target-every {sooner}",))


class Values(NamedTuple):
    """Of first sights: what the agent says of them, and what came of it."""

    said: np.ndarray
    came: np.ndarray


def values(run: AgentRun) -> Values:
    """max Q of the first sight of PLAYED episodes, and the discounted rewards of its best actions.  Where a
    time limit cuts one off, the value of its last sight is added, discounted."""
    gamma, seed = run.config.options["gamma"], engine.derive("doctor") % 2**32
    world = opening.world(run.config.world, PLAYED, seed)

    def best(see: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return run.agent.scores(see).amax(1).numpy().astype(np.float64)

    with one_thread():
        said, came = best(world.see), np.zeros(PLAYED)
        on, over = np.ones(PLAYED), np.zeros(PLAYED, bool)
        for _ in range(playing.LONGEST):
            moved = world.step(run.agent.choose(world.see))
            came += np.where(over, 0.0, on * moved.reward)
            on = on * np.where(moved.real, gamma, 1.0)
            if (cut := moved.truncated & ~over).any():
                came[cut] += on[cut] * best(moved.after)[cut]
            over |= moved.ended
            if over.all():
                break
    return Values(said, came)


def overestimates(said: np.ndarray, came: np.ndarray) -> Finding | None:
    """The largest of noisy values is too large, and learnt from (Thrun & Schwartz 1993)."""
    gap = said - came
    error = gap.std(ddof=1) / math.sqrt(len(gap))
    if gap.mean() <= max(OVER * (np.abs(came).mean() + came.std()), SIGMAS * error):
        return None
    text = (
        f"Q says {said.mean():.4g} of the first sights of {len(gap)} episodes, and their discounted returns "
        f"are {came.mean():.4g} (+- {error:.2g} of the difference)"
    )
    remedies = ("--double", "--target-every {later}", "--rate {slower}", "--trace 0.95")
    return Finding("Q overestimates", text, remedies)
