"""What one playground is: pane A, perhaps pane B beside it on the same noise and data, their past, and
whether time runs.

A session outlives the answers that pull it: an answer ends while nothing moves, and the next action goes on
with it."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors

from ... import figures, storage
from ...core import BadData, Refusal
from . import breaking, dirac, games, points
from .pane import Pane, Snapshot

PAST = 600
"""frames that one can go back to"""
PAST_BYTES = 256 << 20
"""of their weights, at most"""
BUDGET = 0.036
"""seconds of training between two frames, at most: a wish for more steps is cut, and said to be"""
PACES = (1, 60)
SLOW = ("discriminator", "generator")
FOLDER = "playground"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,59}")
LAYERS = ("heat", "arrows", "warp", "lines")
EVERY = 3
"""frames between two measurements while time runs"""
TRAIL = 400
"""places of an orbit that are shown"""

UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)

Past = tuple[int, dict[str, Snapshot]]


class Session:
    """Raises Refusal for a setup that cannot be."""

    def __init__(self, setup: Mapping[str, Any], ink: np.ndarray | None = None):
        model, law = str(setup.get("model", "gan")), str(setup.get("law", "ring"))
        options, lead = dict(setup.get("options", {})), 0
        self.failure = str(setup.get("break", ""))
        if self.failure:
            if self.failure not in breaking.FAILURES:
                raise Refusal(
                    f"nothing is broken by {self.failure!r}; there are: {', '.join(breaking.FAILURES)}."
                )
            chosen = breaking.FAILURES[self.failure]
            model, law, options, lead = chosen.model, chosen.law, dict(chosen.options), chosen.lead
        self.law, self.ink = law, ink
        self.data = games.data_for(model, law, ink)
        self.panes = {"a": Pane(games.config(model, self.data, options), self.data)}
        self.fresh: list[str] = []
        """what began anew in pane B"""
        self.remedy = ""
        self.running = False
        self.pace, self.slow = 10, 0.0
        self.layers = {"heat", "arrows"}
        self.frame = 0
        self.past: deque[Past] = deque(maxlen=PAST)
        self.at: int | None = None
        """the frame that is looked at, where it is not the newest"""
        self.cut = False
        self.saved = ""
        self.caption = ""
        self._trails: dict[str, deque[tuple[float, float]]] = {"a": deque(maxlen=TRAIL)}
        self.refused = (0, "")
        """how many wishes could not be met, and why the last one could not"""
        self.news = 0
        """how often something beside the plot has changed"""
        self._kept = (0, 0)
        self._meters: dict[int, tuple[int, dict[str, Any]]] = {}
        self._turn = 0
        self._rate: deque[tuple[float, int]] = deque(maxlen=40)
        for _ in range(lead):
            self.panes["a"].step((breaking.D,))
        self._settle()
        self.remember()

    # Time

    def advance(self) -> None:
        """The steps of one frame, in every pane: as many as asked for, or as there is time for."""
        self.forget_future()
        began, done = time.monotonic(), 0
        who: tuple[str, ...] = ()
        if self.slow:
            names = [p.name for p in self.panes["a"].run.players]
            who = (names[self._turn % len(names)],)
            self._turn += 1
            self.caption = caption(who[0])
        wanted = 1 if self.slow else self.pace
        while done < wanted and (done == 0 or time.monotonic() - began < BUDGET):
            self._step(who)
            done += 1
        self.cut = done < wanted
        self._settle()
        self._rate.append((time.monotonic(), done))
        self.remember()

    def step(self, who: str, n: int) -> None:
        """n steps of D, of G, or of both."""
        players = [p.name for p in self.panes["a"].run.players]
        chosen = () if who == "both" or who not in players else (who,)
        self.forget_future()
        for _ in range(n):
            self._step(chosen)
        self.caption = caption(chosen[0]) if chosen else ""
        self._settle()
        self.remember()

    def _step(self, who: tuple[str, ...]) -> None:
        for name, pane in self.panes.items():
            pane.step(who)
            if not pane.flat:
                self._trails.setdefault(name, deque(maxlen=TRAIL)).append(pane.place())

    def _settle(self) -> None:
        for pane in self.panes.values():
            pane.check()
        if all(p.diverged for p in self.panes.values()):
            self.running = False

    def speed(self) -> float:
        """Training steps a second of late, of each pane."""
        if len(self._rate) < 2 or self._rate[-1][0] - self._rate[0][0] <= 0:
            return 0.0
        return sum(n for _, n in list(self._rate)[1:]) / (self._rate[-1][0] - self._rate[0][0])

    def start(self, running: bool) -> None:
        self.running = running and not all(p.diverged for p in self.panes.values())
        self._rate.clear()

    # The past

    def remember(self) -> None:
        self.frame += 1
        if any(p.diverged for p in self.panes.values()) and self.past:
            return  # weights that are no numbers are nothing to go back to
        self.past.append((self.frame, {name: pane.snapshot() for name, pane in self.panes.items()}))
        size = sum(s.bytes for s in self.past[-1][1].values())
        while len(self.past) > max(2, PAST_BYTES // max(1, size)):
            self.past.popleft()

    def rewind(self, frame: int) -> None:
        """Look at a frame of the past, the nearest there is; training goes on from there, and what came
        after is forgotten then."""
        self.running = False
        number, then = min(self.past, key=lambda p: abs(p[0] - frame))
        for name, pane in self.panes.items():
            if name in then:
                pane.restore(then[name])
        self.at = number if number != self.past[-1][0] else None
        self.caption = ""

    def forget_future(self) -> None:
        if self.at is None:
            return
        self._meters.clear()
        while self.past and self.past[-1][0] > self.at:
            self.past.pop()
        self.frame, self.at = self.past[-1][0], None

    # Panes

    def change(self, changes: dict[str, Any]) -> None:
        """Other options in pane A, with its weights."""
        self.forget_future()
        pane, self.fresh = self.panes["a"].fork(breaking.changed(self.panes["a"].config, changes, self.data))
        self._instead({"a": pane})

    def mend(self, remedy: str, changes: dict[str, Any]) -> None:
        """Pane B: the weights of A as they are now with one remedy, or other options, on the same noise and
        data."""
        self.forget_future()
        a = self.panes["a"]
        config = (
            breaking.apply(a.config, remedy, self.data)
            if remedy
            else breaking.changed(a.config, changes, self.data)
        )
        b, self.fresh = a.fork(config)
        self.remedy = remedy
        self._trails["b"] = deque(self._trails["a"], maxlen=TRAIL)
        self._instead({"a": a, "b": b})

    def close(self, keep: str) -> None:
        """One pane again: that one."""
        if keep not in self.panes:
            raise Refusal(f"there is no pane {keep!r}.")
        self._trails = {"a": self._trails.get(keep, deque(maxlen=TRAIL))}
        self.remedy, self.fresh = "", []
        self._instead({"a": self.panes[keep]})

    def _instead(self, panes: dict[str, Pane]) -> None:
        """The past of other panes cannot be put into these."""
        self.panes = panes
        self._meters.clear()
        self.past.clear()
        self._settle()
        self.remember()

    def average(self, shown: bool) -> None:
        for pane in self.panes.values():
            pane.average = shown

    # What is to be seen

    def view(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        data, arrays = dict[str, Any](), dict[str, np.ndarray]()
        for name, pane in self.panes.items():
            seen = self._flat(pane) if pane.flat else self._orbit(name, pane)
            data[name] = seen[0]
            arrays |= {f"{name}.{key}": np.ascontiguousarray(value) for key, value in seen[1].items()}
        first = self.past[0][0] if self.past else 0
        out = dict(
            frame=self.frame if self.at is None else self.at,
            first=first,
            last=self.frame,
            past=len(self.past),
            running=self.running,
            pace=self.pace,
            slow=self.slow,
            cut=self.cut,
            speed=round(self.speed(), 1),
            caption=self.caption,
            layers=sorted(self.layers),
            panes=data,
            saved=self.saved,
        )
        return out, arrays

    def _flat(self, pane: Pane) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        fakes = pane.fakes()
        arrays = dict(fake=_f4(fakes), real=_f4(pane.real))
        pulls = dict[str, float]()
        if pane.duel:
            pulls, push = pane.pulls(fakes)
            if "arrows" in self.layers:
                arrays["push"] = _f4(push)
            if "heat" in self.layers:
                arrays["heat"] = _f4(pane.heat())
        else:
            if "arrows" in self.layers and (field := pane.field()) is not None:
                arrays["field"] = _f4(field)
            if "heat" in self.layers and (density := pane.density()) is not None:
                arrays["density"] = np.rint(np.sqrt(density) * 255).astype(np.uint8)
        for layer, make in (("warp", pane.warp), ("lines", pane.lines)):
            shown = layer in self.layers or (layer == "warp" and pane.quick)  # small, beside the plot
            if shown and (made := make()) is not None:
                arrays[layer] = _f4(made)
        return self._measured(pane, fakes, pulls) | dict(diverged=pane.diverged), arrays

    def _measured(self, pane: Pane, fakes: torch.Tensor, pulls: dict[str, float]) -> dict[str, Any]:
        """The meters: of this frame while time stands still, of every third while it runs."""
        known = self._meters.get(id(pane))
        if self.running and known is not None and self.frame - known[0] < EVERY:
            return known[1] | dict(step=pane.step_count, seen=pane.run.seen, pulls=pulls)
        found = pane.measure(fakes, pulls)
        self._meters[id(pane)] = self.frame, found
        return found

    def _orbit(self, name: str, pane: Pane) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        theta, psi = pane.place()
        o = pane.config.options
        first = (
            (o["theta"], o["psi"])
            if name == "a"
            else self._trails[name][0]
            if self._trails[name]
            else (theta, psi)
        )
        closed = dirac.orbit(first[0], first[1], pane.config.training.rate, o["game"], o["r1"])
        trail = np.array([*self._trails.get(name, ()), (theta, psi)], np.float32).reshape(-1, 2)
        radius = float(np.hypot(theta, psi))
        facts = dict(theta=theta, psi=psi, radius=radius, off=off_orbit(trail[-1], closed))
        return pane.measure(torch.zeros(0, 1), {}) | facts | dict(diverged=pane.diverged), dict(
            trail=trail, orbit=closed.astype(np.float32)
        )

    def about(self) -> dict[str, Any]:
        """What changes with a pane and not with a step: options, remedies, the command."""
        panes = {}
        for name, pane in self.panes.items():
            panes[name] = dict(
                model=pane.config.model,
                title=games.entries()[pane.config.model].title,
                options=games.described(pane.config),
                command=games.command(pane.config, self.law),
                players=[p.name for p in pane.run.players],
                weights=sum(p.numel() for p in pane.run.student.parameters()),
                shows=pane_layers(pane),
            )
        a = self.panes["a"]
        if "b" in self.panes:
            panes["b"] |= dict(diff=breaking.difference(a.config, self.panes["b"].config), fresh=self.fresh)
        failure = breaking.FAILURES.get(self.failure)
        return dict(
            law=self.law,
            reach=points.REACH,
            remedy=self.remedy,
            panes=panes,
            failure=self.failure,
            see=failure.see if failure else "",
            remedies=list(breaking.remedies(a.config, self.data)) if a.duel else [],
        )

    # Kept

    def save(self, root: Path, name: str) -> str:
        """Write playground/<name>/ below the root: weights, recipe and a picture of pane A, and how pane B
        was forked from it.  Raises Refusal for a name that is taken or is none."""
        if not NAME.fullmatch(name):
            raise Refusal("a name is of letters, digits, spaces, - and _, up to 60 of them.")
        folder = root / FOLDER / name
        if folder.exists():
            raise Refusal(f"{FOLDER}/{name} is there already; choose another name.")
        tensors, recipe = self._state()
        storage.make(folder)
        storage.write(folder / "state.safetensors", write_tensors(tensors))
        storage.write(folder / "recipe.json", json.dumps(recipe, indent=1).encode())
        if (pane := self.panes["a"]).flat:
            page = figures.scatter(pane.fakes(), torch.from_numpy(pane.real))
            choices = dict(open=name, model=recipe["model"], law=self.law, options=recipe["panes"]["a"])
            shows = dict(screen="playground", hash=choices)
            figures.write_png(folder / "frame.png", page, recipe | dict(studio=shows, synthetic=True))
        self.saved = f"{FOLDER}/{name}"
        return self.saved

    def keep(self, file: Path) -> None:
        """Write the same into one file, for the case that this process ends, if anything has moved since the
        last time; not of numbers that are none."""
        now = (self.frame, self.news)
        if self._kept == now or any(pane.diverged for pane in self.panes.values()):
            return
        self._kept = now
        tensors, recipe = self._state()
        storage.make(file.parent)
        storage.write(file, write_tensors(tensors, {"recipe": json.dumps(recipe)}))

    def _state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, at = dict[str, torch.Tensor](), dict[str, Any]()
        for key, pane in self.panes.items():
            then = pane.snapshot()
            tensors[key], at[key] = then.numbers, dict(seen=then.seen, moved=then.moved, steps=then.steps)
        if self.ink is not None:
            tensors["ink"] = torch.from_numpy(self.ink)
        return tensors, self.recipe() | dict(at=at)

    def recipe(self) -> dict[str, Any]:
        """What makes the same session again, but for the weights."""

        def options(pane: Pane) -> dict[str, Any]:
            training = {k: getattr(pane.config.training, k) for k in games.TRAINING}
            return pane.config.options | training

        return dict(
            schema=1,
            model=self.panes["a"].config.model,
            law=self.law,
            panes={name: options(pane) for name, pane in self.panes.items()},
            remedy=self.remedy,
            failure=self.failure,
        )

    @classmethod
    def open(cls, root: Path, name: str) -> Session:
        """What save() wrote.  Raises Refusal, or BadData where it cannot be read."""
        if not NAME.fullmatch(name) or not (folder := root / FOLDER / name).is_dir():
            raise Refusal(f"there is nothing called {name!r} in {FOLDER}/.")
        try:
            recipe = json.loads((folder / "recipe.json").read_text())
            session = cls._of(recipe, read_tensors((folder / "state.safetensors").read_bytes()))
        except UNREADABLE as error:
            raise BadData(f"{folder} cannot be read ({error}); save it anew.") from None
        session.saved = f"{FOLDER}/{name}"
        return session

    @classmethod
    def kept(cls, file: Path) -> Session | None:
        """What keep() wrote, or None where there is nothing that can be read."""
        try:
            with safe_open(file, "pt") as opened:
                recipe = json.loads(opened.metadata()["recipe"])
                return cls._of(recipe, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
        except (*UNREADABLE, Refusal):
            return None

    @classmethod
    def _of(cls, recipe: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Session:
        ink = tensors["ink"].numpy() if "ink" in tensors else None
        session = cls(dict(model=recipe["model"], law=recipe["law"], options=recipe["panes"]["a"]), ink)
        if "b" in recipe["panes"]:
            session.mend("", recipe["panes"]["b"])
        for key, pane in session.panes.items():
            at = recipe["at"][key]
            pane.restore(Snapshot(at["seen"], tensors[key], tuple(at["moved"]), dict(at["steps"])))
        session.remedy, session.failure = str(recipe.get("remedy", "")), str(recipe.get("failure", ""))
        session._instead(session.panes)
        return session


def pane_layers(pane: Pane) -> list[str]:
    """Which layers this pane has anything to show for."""
    if not pane.flat:
        return []
    heat = pane.duel or pane.density() is not None
    arrows = pane.duel or pane.field() is not None
    return [
        name
        for name, there in zip(LAYERS, (heat, arrows, pane.warp() is not None, pane.lines(2) is not None))
        if there
    ]


def caption(player: str) -> str:
    """What has just happened, of a step in slow motion."""
    said = {
        "discriminator": "D has looked at real and at generated points, and moved its boundary between them.",
        "generator": "G has moved each generated point along its arrow: where D is more easily convinced.",
    }
    return said.get(player, f"{player} has made a step down the gradient of its loss.")


def off_orbit(at: np.ndarray, closed: np.ndarray) -> float | None:
    """How far a place is from the curve of the closed form, or None where there is none."""
    return float(np.linalg.norm(closed - at, axis=1).min()) if len(closed) else None


def _f4(x: Any) -> np.ndarray:
    return np.asarray(x.numpy() if isinstance(x, torch.Tensor) else x, np.float32)
