"""Score cards of agents: the return of the last policy beside that of chance, what the way there cost, and
what the doctor says; and runs of one kind as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import engine
from ..metrics import returns
from ..metrics.card import Score, measure
from . import doctor, opening, playing
from .run import AgentRun, one_thread

RANDOM, BEST, SOLVED = "random policy", "best possible", "called solved"
ENOUGH = 5
"""runs, below which seeds say more than agents"""


def seed_of(what: str, seed: int) -> int:
    """Of episodes that no training has."""
    return engine.derive(what, seed) % 2**32


def chooser(run: AgentRun, drawn: bool, seed: int) -> playing.Choose:
    rng = np.random.default_rng(seed_of("actions", seed)) if drawn else None
    return run.agent.playing(rng)


def cards(run: AgentRun, n: int, seed: int, drawn: bool) -> list[Score]:
    """Returns of n episodes, first that of the last policy and second that of chance."""
    how: dict[str, Any] = dict(unit="reward", better="higher", split="episodes", group="representation")
    how["settings"] = dict(steps=run.steps, seconds=run.seconds, drawn=drawn)
    out: list[Score] = []
    chance = playing.uniform(run.world.space.actions, np.random.default_rng(seed_of("chance", seed)))
    for of, choose in (("model", chooser(run, drawn, seed)), (RANDOM, chance)):
        world = opening.world(run.config.world, n, seed_of("evaluation", seed))
        with one_thread():
            totals = np.array([e.total for e in playing.episodes(world, choose)])
        out.append(measure("return", totals, seed, of=of, **how))
    for of, value in ((BEST, run.world.best()), (SOLVED, run.world.solved())):
        if value is not None:
            out.append(Score("return", value, of=of, kind="exact", **how))
    with one_thread():
        own = run.agent.cards(opening.world(run.config.world, 16, seed_of("cards", seed)), seed)
    return [*out, *own, *cost(run, out), findings(run, out)]


def known(own: Sequence[Score]) -> doctor.Known:
    of = {card.of: card for card in own if card.name == "return"}
    chance = of[RANDOM]
    low, high = (chance.value if x is None else x for x in (chance.low, chance.high))
    return doctor.Known(low, high, of[BEST].value if BEST in of else None)


def findings(run: AgentRun, own: Sequence[Score]) -> Score:
    texts = tuple(finding.text for finding in doctor.examine(run, known(own)))
    note = "what the doctor sees now"
    return Score(
        "findings", len(texts), n=doctor.PLAYED, split="episodes", better="lower", note=note, warnings=texts,
        group="diagnosis",
    )  # fmt: skip


# What the way there cost


def curve(run: AgentRun) -> np.ndarray:
    """(lines, 2): steps, and the mean return of the episodes that ended since the line before."""
    log = [] if run.agent.by_chance else run.log()
    rows = [(line["steps"], line["return"]) for line in log if "return" in line]
    return np.array(rows, np.float64).reshape(-1, 2)


def cost(run: AgentRun, own: Sequence[Score]) -> list[Score]:
    """Sample efficiency, by two numbers, and speed."""
    table, of = curve(run), {card.of: card.value for card in own}
    about: dict[str, Any] = dict(n=len(table), split="lines of the log", group="cost")
    speed = Score(
        "speed", run.steps / max(run.seconds, 1e-9), "steps/s", better="higher", n=run.steps, split="steps",
        group="cost", note="of the processor, learning included",
    )  # fmt: skip
    if not len(table):
        return [speed]
    goal = of.get(BEST, of.get(SOLVED, of["model"]))
    target = (of[RANDOM] + goal) / 2
    first = reached(table, target)
    note = f"of the way from the random policy ({of[RANDOM]:.4g}) to {goal:.4g}, in the mean of five lines"
    why = () if math.isfinite(first) else (f"{target:.4g} was not reached in {run.steps:,} steps",)
    return [
        Score("return while it learnt", over_training(table), "reward", better="higher",
              note="mean over all steps, exploration included", **about),
        Score("steps to half", first, "steps", better="lower", note=note, warnings=why, **about),
        speed,
    ]  # fmt: skip


def over_training(table: np.ndarray) -> float:
    """The area below the learning curve (lines, 2), a step each, divided by the steps."""
    spans = np.diff(table[:, 0], prepend=0.0)
    return float((spans * table[:, 1]).sum() / spans.sum())


def reached(table: np.ndarray, target: float, lines: int = 5) -> float:
    """Steps until the mean return of so many lines has reached the target; nan where it never has."""
    means = np.array([table[max(0, i - lines + 1) : i + 1, 1].mean() for i in range(len(table))])
    above = np.flatnonzero(means >= target)
    return float(table[above[0], 0]) if len(above) else math.nan


# Several runs


def over_seeds(
    agent: str, world: str, folders: Sequence[Path], own: dict[Path, list[Score]], seed: int
) -> dict[str, Any]:
    """Runs of one agent in one world, as one."""
    means = np.array([[own[folder][0].value] for folder in folders])
    few = f"{len(means)} runs; seeds differ so much that five are the least to compare agents by"
    out: dict[str, Any] = dict(agent=agent, world=world, runs=len(means), iqm=returns.iqm(means))
    out["low"], out["high"] = returns.stratified(means, seed) if len(means) > 1 else (None, None)
    out["worst"], out["best_run"] = float(means.min()), float(means.max())
    chance = own[folders[0]][1]
    out["random"] = chance.value
    lost = means.mean() < (chance.low if chance.low is not None else chance.value)
    below = "its return is below that of the random policy" if lost else ""
    return out | dict(warning="; ".join(filter(None, [few if len(means) < ENOUGH else "", below])))
