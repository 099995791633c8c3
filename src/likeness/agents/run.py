"""A run of an agent is a folder, and can be stopped at any moment.

    config.json   agent and its options, world, seed, machine
    state/        weights, optimiser, what is remembered, generators, and the place of the world (storage/)
    log.jsonl     the learning curve: what is in it is a function of the config alone
    scores.json   the last evaluation

Going on from a state gives the bits of a run that was never stopped (on one kind of machine): all
randomness is of generators that are written down, and of the seeds of episodes (world.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import engine, storage
from ..core import BadData, Refusal, option_fields
from ..storage import lock
from . import load
from .agent import Agent
from .opening import world as open_world
from .world import Episode, World

CONFIG, LOG = "config.json", "log.jsonl"
LINES = 400
"""of the log in a whole run, about"""
EVERY = 60.0
"""seconds between two states"""


@dataclass(frozen=True)
class Config:
    agent: str
    world: str
    seed: int
    options: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    """what decides bits beside the above: versions, threads, instruction set"""


@dataclass
class Step:
    """What an update came to."""

    steps: int
    clock: int
    terms: dict[str, float]
    episodes: list[Episode]


def settled(agent: str, world: str, typed: dict[str, Any]) -> dict[str, Any]:
    """All options of a run: the agent's own, those that suit the world, and what was typed."""
    kind = load(agent)
    return asdict(kind.Options(**kind.settings.get(world, {}) | typed))


def learn(agent: Agent, world: World, steps: int) -> Iterator[Step]:
    """Updates until the world has made so many steps, or the agent says otherwise."""
    while agent.clock(world) < agent.whole(steps):
        terms = agent.update(world)
        yield Step(world.steps, agent.clock(world), terms, world.take())


def read(folder: Path) -> Config:
    """Raises Refusal where no agent has run."""
    try:
        return Config(**json.loads((folder / CONFIG).read_text()))
    except FileNotFoundError:
        raise Refusal(
            f"{folder} is not a run: it has no {CONFIG}.  A run of an agent is made by: likeness play ppo "
            f"CartPole-v1 {folder}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise BadData(f"{folder / CONFIG} is not of an agent's run, or damaged ({error}).") from None


class AgentRun:
    """An agent and the world that it learns in."""

    def __init__(self, folder: Path, config: Config, trainable: bool):
        """trainable: with its world, and all that is needed to go on."""
        self.folder, self.config = folder, config
        self.notes: list[str] = []
        self.seconds = 0.0
        """of the processor, spent in updates so far"""
        kind = load(config.agent)
        self.options = kind.Options(**config.options)
        self.world = open_world(config.world, self.options.worlds if trainable else 1, config.seed)
        self.agent = kind(self.world.space, self.options, config.seed)
        self.steps = 0
        self._lock: int | None = None
        self._saved = -1

    @classmethod
    def open(cls, folder: Path) -> AgentRun:
        """To play: the newest good state."""
        run = cls(folder, read(folder), trainable=False)
        run._load(with_world=False)
        return run

    @classmethod
    def begin(cls, folder: Path, agent: str, world: str, seed: int | None, typed: dict[str, Any]) -> AgentRun:
        """A new run, or the one in the folder where it stands, locked; what was typed must be what it was
        made with, but for more steps.  Close it."""
        if (folder / CONFIG).exists():
            config = _same(folder, read(folder), agent, world, seed, typed)
        else:
            options = settled(agent, world, typed)
            config = Config(agent, world, seed or 0, options, facts())
        run = cls(folder, config, trainable=True)
        storage.make(folder)
        run._lock = lock.take(folder)
        try:
            if differs := _differs(config.facts):
                run.notes.append(
                    f"going on, but not bit by bit as an uninterrupted run would: {'; '.join(differs)}"
                )
            storage.write(folder / CONFIG, json.dumps(asdict(config), indent=2).encode())
            run._load(with_world=True)
            storage.sweep(folder)
            run._trim()
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def clock(self) -> int:
        return self.agent.clock(self.world)

    # State

    def save(self) -> None:
        """Commit the state; raises DiskTrouble with the one before intact."""
        if self._saved == self.clock:
            return
        arrays, place = self.world.state()
        tensors = {f"world/{k}": torch.from_numpy(np.ascontiguousarray(a)) for k, a in arrays.items()}
        tensors |= {f"agent/{k}": t for k, t in self.agent.tensors().items()}
        about = dict(world=place, agent=self.agent.facts(), seconds=self.seconds, facts=facts())
        storage.flush(self.folder / LOG)  # a state never knows more than the log
        storage.save(self.folder / "state", self.clock, tensors, about)
        self._saved = self.clock

    def _load(self, with_world: bool) -> None:
        result = storage.newest(self.folder / "state")
        if result is None:
            return
        tensors, facts, damaged = result
        if damaged:
            self.notes.append(f"state {', '.join(damaged)} is damaged; the one before it is used")
        try:
            self.agent.restore(_part(tensors, "agent"), facts["agent"])
            self.steps, self.seconds = facts["world"]["steps"], facts["seconds"]
            if with_world:
                self.world.restore({k: t.numpy() for k, t in _part(tensors, "world").items()}, facts["world"])
                self._saved = -1 if damaged else self.clock
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadData(f"the state in {self.folder} is not one of this config ({error}).") from None

    # Log

    def log(self) -> list[dict[str, Any]]:
        """Its lines; one that was half-written when a process was killed is left out."""
        try:
            lines = (self.folder / LOG).read_text().splitlines()
        except FileNotFoundError:
            return []
        out = []
        for line in lines:
            try:
                out.append(json.loads(line))
            except ValueError:
                break
        return out

    def _trim(self) -> None:
        """Without the lines after the state, which are about to be written again."""
        lines = [line for line in self.log() if line.get("clock", line["steps"]) <= self.clock]
        storage.write(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def _note(self, line: dict[str, Any]) -> None:
        try:
            with (self.folder / LOG).open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise storage.trouble(error, self.folder / LOG) from error

    # The loop

    def fit(self, stop: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
        """Learn to the end, and yield the lines of the log; saved now and then, at the end, and where `stop`
        says so.  States are of the moments between two lines, so nothing of a line is ever lost."""
        total, window = self.agent.whole(self.options.steps), list[Step]()
        began, saved = time.process_time(), time.monotonic()
        line = self.clock // max(1, total // LINES)
        with one_thread():
            for step in learn(self.agent, self.world, self.options.steps):
                window.append(step)
                now = step.clock // max(1, total // LINES)
                if now == line and step.clock < total:
                    continue
                line, text = now, summary(window)
                window, self.steps = [], step.steps
                self.seconds, began = self.seconds + time.process_time() - began, time.process_time()
                self._note(text)
                if stopped := stop():
                    self.save()
                elif time.monotonic() - saved > EVERY:
                    self.save()
                    saved = time.monotonic()
                yield text
                if stopped:
                    return
        self.save()


def summary(window: list[Step]) -> dict[str, Any]:
    """A line of the log: means over what has happened since the one before; no return where no episode
    ended.  Raises Diverged where a number is none any more."""
    from ..core import Diverged

    ended = [episode for step in window for episode in step.episodes]
    names = dict.fromkeys(name for step in window for name in step.terms)
    terms = {n: float(np.mean([s.terms[n] for s in window if n in s.terms])) for n in names}
    if bad := [name for name, value in terms.items() if not np.isfinite(value)]:
        raise Diverged(
            f"{', '.join(bad)} is no number any more at step {window[-1].steps:,}; begin in another folder "
            "with a smaller --rate.  What was saved before is intact."
        )
    last = window[-1]
    out: dict[str, Any] = dict(steps=last.steps, episodes=len(ended))
    if last.clock != last.steps:
        out["clock"] = last.clock
    if ended:
        out |= {
            "return": float(np.mean([e.total for e in ended])),
            "length": float(np.mean([e.length for e in ended])),
        }
    return out | terms


@contextmanager
def one_thread() -> Iterator[None]:
    """The networks are too small to share: several threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def facts() -> dict[str, Any]:
    """What decides bits, in the one thread that is computed in."""
    with one_thread():
        return engine.facts()


def _differs(then: dict[str, Any]) -> list[str]:
    with one_thread():
        return engine.match(then)


def _part(tensors: dict[str, Any], part: str) -> dict[str, Any]:
    return {k.removeprefix(f"{part}/"): t for k, t in tensors.items() if k.startswith(f"{part}/")}


def _same(
    folder: Path, config: Config, agent: str, world: str, seed: int | None, typed: dict[str, Any]
) -> Config:
    """The config to go on with.  Raises Refusal where what was typed is another run."""
    own = dict(agent=config.agent, world=config.world, seed=config.seed) | config.options
    asked = dict(agent=agent, world=world) | ({} if seed is None else dict(seed=seed)) | typed
    known = {f.name for f in option_fields(load(config.agent).Options)} | {"agent", "world", "seed"}
    name = load(config.agent).longer
    more = int(typed.get(name, config.options[name]))
    longer = {name} if more >= config.options[name] else set()
    differs = [
        f"{k} {own.get(k)}, not {v}" for k, v in asked.items() if k in known - longer and own.get(k) != v
    ]
    if differs:
        raise Refusal(
            f"{folder} was made with {'; '.join(differs)}.  Name another folder for a new run, or leave "
            "those out to go on with this one."
        )
    return replace(config, options=config.options | {name: more})
