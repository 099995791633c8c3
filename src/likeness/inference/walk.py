"""Images of codes that somebody chooses: an endless plane, sliders along directions, a path, arithmetic.

images      of the codes that are named
plane       whole places are samples, and between them lies their mixture; of a model whose code has two
            numbers the plane of its codes
slide       a code moved along the directions in which codes, or images, differ most, in standard deviations
path        from code to code, as frames
sum         mean of A + strength (mean of C - mean of B) (Radford et al. 2016, figure 7)

A code is named by the number of a sample, 17; with its seed before it, 3:17; or by the file of an image,
whose code is looked for.
"""

from __future__ import annotations

import io
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, storage
from ..core import BadData, Encodes, Model, Noise, Refusal, Samples, ask, closest
from ..data import Data, user_images
from ..runs.run import Run
from . import inputs, inversion, latent_space, sampling
from .latent_space import Subject, arc, fitted, straight

KINDS = {"images": 16, "plane": 5, "slide": 1, "path": 24, "sum": 1}
"""what can be made, and the usual -n of each"""
DIRECTIONS = "directions"
"""folder in a run, of directions with a name"""
MOST, SIDE = 1000, 40
"""images of one picture at most, and of the side of a plane"""
FILES = 256
"""codes of files that are remembered"""
PLACED = 1_000_000
"""whole numbers beyond which the plane has no samples"""


class Asked(Protocol):
    """A run as api.Trained has it."""

    run: Run
    model: Model

    @property
    def data(self) -> Data: ...


class Address(NamedTuple):
    """Which code: a sample, or that of an image file."""

    seed: int
    number: int
    file: str = ""


def address(text: str, seed: int = 0) -> Address:
    """17 is a sample of `seed`, 3:17 one of seed 3, anything else a file.  Raises Refusal where that is
    none."""
    if known := re.fullmatch(r"(?:(\d{1,18}):)?(\d{1,18})", text):
        return Address(int(known[1] or seed), int(known[2]))
    if not Path(text).is_file():
        raise Refusal(
            f"{text!r} names no code: type the number of a sample such as 17, one of another seed such as "
            "3:17, or the file of an image."
        )
    return Address(seed, 0, text)


# The plane


def number(x: int, y: int) -> int:
    """Which sample lies at a whole place of the plane: 0 in the middle, the others around it in a square
    spiral."""
    ring = max(abs(x), abs(y))
    if ring == 0:
        return 0
    side = 2 * ring
    if y == ring:  # from above on the right to the left, and around
        along = ring - x
    elif x == -ring:
        along = side + ring - y
    elif y == -ring:
        along = 2 * side + x + ring
    else:
        along = 3 * side + y + ring
    return (side - 1) ** 2 + along


def corners(x: float, y: float) -> list[tuple[int, int, float]]:
    """The whole places around (x, y), with their weights, which sum to 1; those of weight 0 are left out."""
    left, below = math.floor(x), math.floor(y)
    across, up = x - left, y - below
    each = [
        (left + i, below + j, (across if i else 1 - across) * (up if j else 1 - up))
        for j in (0, 1)
        for i in (0, 1)
    ]
    return [corner for corner in each if corner[2] > 0]


def spread(x: float, y: float, n: int, step: float) -> list[tuple[float, float]]:
    """The n x n places of a mosaic about (x, y), row by row from above; y grows upwards."""
    ways = [step * (i - (n - 1) / 2) for i in range(n)]
    return [(x + across, y - down) for down in ways for across in ways]


# Codes of a run


class Space:
    """The codes of one run."""

    def __init__(self, run: Asked):
        self.decode = ask(run.model, "decode")
        self.of, self.model = run, run.model
        self.latent = int(self.decode.__self__.latent)
        """numbers of a code, without the class of a conditional model"""
        self._found = dict[tuple[str, int, int], Tensor]()
        if run.run.config.spec.points:
            raise Refusal("points have no look to walk among; likeness latent shows their codes.")

    @cached_property
    def subject(self) -> Subject:
        """With the codes that say where codes lie: those of training images, or drawn ones."""
        return latent_space._subject(self.of.run, self.of.data)

    @property
    def size(self) -> int:
        """Numbers of a code with those of the class, as decode() takes it."""
        return self.latent + (self.model.spec.labels if "label" in self.model.takes else 0)

    @property
    def flat(self) -> bool:
        """Whether the codes lie in a plane of their own."""
        return self.latent == 2 and "label" not in self.model.takes

    def drawn(self, numbers: Sequence[int], seed: int, label: int | None = None) -> Tensor:
        """Codes (B, ...) of samples of these numbers, in memory: those that sample() draws.  Of a model
        without a prior they come from a Gaussian fitted to the codes of training images."""
        noise = Noise(list(numbers), engine.derive("sample", seed), engine.device())
        z = noise.normal(self.latent)
        if not isinstance(self.model, Samples):
            return fitted(self.subject.codes, z.cpu())
        y = sampling.conditions(self.model, np.asarray(numbers, np.int64), label=label)
        return inversion._coded(self.model, z, None if y is None else y.to(engine.device())).cpu()

    def codes(self, named: Sequence[Address], label: int | None = None) -> Tensor:
        """Codes (B, ...) of samples and of images, in their order."""
        rows = [
            self.drawn([a.number], a.seed, label) if not a.file else self.of_file(a.file, a.seed)
            for a in named
        ]
        return torch.cat(rows)

    def of_file(self, path: str, seed: int = 0) -> Tensor:
        """The code (1, ...) of an image, read as the training images were; looked for once."""
        for _ in self.finding(path, seed):
            pass
        return self._found[self._mark(path, seed)]

    def finding(self, path: str, seed: int = 0) -> Iterator[float]:
        """Look for the code of an image, which of_file() then knows: the share of the work that is done."""
        mark = self._mark(path, seed)
        if mark in self._found:
            return
        x = self.image(path)
        if isinstance(self.model, Encodes):
            z = inversion.codes(self.model, x)
        else:
            for at in inversion.search(self.model, x, seed=seed):
                yield at.share
            z = at.z
        if len(self._found) >= FILES:
            self._found.pop(next(iter(self._found)))
        self._found[mark] = z

    def _mark(self, path: str, seed: int) -> tuple[str, int, int]:
        """Changes with the file."""
        return path, Path(path).stat().st_mtime_ns, seed

    def image(self, path: str) -> Tensor:
        """(1, C, H, W) in [-1, 1], as the model takes it."""
        config = self.of.run.config
        own = user_images.images(path, config.spec, config.data, 1)
        return inputs.own(own.x, None, own.names, config.spec, 0, config.data.get("binarize", False)).batch.x

    def images(self, z: Tensor) -> Tensor:
        """(B, C, H, W) of codes (B, ...), both in memory."""
        return inversion.decoded(self.model, z)

    def joined(self, z: Tensor, weights: Sequence[float]) -> Tensor:
        """One code (1, ...): the sum of weights times codes (B, ...); of a model with a prior brought to the
        length that a drawn code has.

        sum w_i z_i of independent z_i ~ N(0, I) has the variance sum w_i^2, by whose root it is divided.  The
        class is that of the code with the largest weight.
        """
        w = torch.tensor(list(weights), dtype=z.dtype)
        mixed = w @ z[:, : self.latent]
        if isinstance(self.model, Samples):
            mixed = mixed / w.square().sum().sqrt()
        return torch.cat([mixed, z[int(w.argmax()), self.latent :]])[None]

    def plane(self, places: Sequence[tuple[float, float]], seed: int, label: int | None = None) -> Tensor:
        """Codes (B, ...) of places in the plane."""
        if self.flat:
            return torch.tensor(list(places), dtype=torch.float32)
        if max((abs(v) for place in places for v in place), default=0) > PLACED:
            raise Refusal(f"the plane ends at {PLACED:,}; go back towards 0, 0.")
        around = [corners(x, y) for x, y in places]
        known = sorted({(i, j) for each in around for i, j, _ in each})
        row = {place: k for k, place in enumerate(known)}
        z = self.drawn([number(i, j) for i, j in known], seed, label)
        return torch.cat(
            [self.joined(z[[row[i, j] for i, j, _ in each]], [w for _, _, w in each]) for each in around]
        )

    # Directions

    @cached_property
    def axes(self) -> Tensor:
        """Unit vectors (k, ...), most important first: eigenvectors of the covariance of training images'
        codes; of a model that only decodes the directions that change its images most."""
        if self.latent >= self.of.run.config.spec.dims:
            raise Refusal(
                "this model's code has as many numbers as its image, and no direction of it means more than "
                "another; use the plane, a path or arithmetic."
            )
        with torch.no_grad():
            if not isinstance(self.model, Encodes):
                return latent_space.directions(self.subject, min(self.latent, 16))
            cov = torch.cov(self.subject.codes.T).reshape(self.subject.codes.shape[1], -1)
            return torch.linalg.eigh(cov)[1].flip(1).T[:16].contiguous()

    def sigma(self, axis: Tensor) -> float:
        """The standard deviation of where codes lie along a unit vector."""
        return float((self.subject.codes @ axis).std())

    def slid(self, z: Tensor, along: Mapping[str, float]) -> Tensor:
        """Codes moved along directions, each by its name or number from 1 on, in standard deviations."""
        for name, amount in along.items():
            axis = self.direction(name)
            z = z + amount * self.sigma(axis) * axis
        return z

    def direction(self, name: str) -> Tensor:
        """A unit vector by its number from 1 on, or by the name under which it was saved in the run.  Raises
        Refusal."""
        if name.isdecimal():
            if not 1 <= int(name) <= len(self.axes):
                raise Refusal(f"there is no direction {name}; there are 1 to {len(self.axes)}.")
            return self.axes[int(name) - 1]
        path = self.of.run.folder / DIRECTIONS / f"{checked(name)}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                axis = torch.from_numpy(file["direction"].astype(np.float32))
        except FileNotFoundError:
            there = tuple(self.named())
            raise Refusal(
                f"there is no direction {name!r}; {closest(name, there) if there else 'none is saved.'}"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise BadData(f"{path} cannot be read ({error}); save the direction again.") from None
        if axis.shape != (self.size,):
            raise BadData(f"{path} is of another model; save the direction again.")
        return axis

    def named(self) -> list[str]:
        """Directions that were saved."""
        return sorted(p.stem for p in (self.of.run.folder / DIRECTIONS).glob("*.npz"))

    def save(self, name: str, along: Mapping[str, float]) -> Path:
        """Keep the sum of some moves as one direction, by its name."""
        z = torch.zeros(1, self.subject.codes.shape[1])
        way = self.slid(z, along)[0]
        if not float(way.norm()) > 0:
            raise Refusal("no slider is moved, so there is no direction to save; move one or more.")
        path, file = self.of.run.folder / DIRECTIONS / f"{checked(name)}.npz", io.BytesIO()
        about = ", ".join(f"{k}:{v:g}" for k, v in along.items())
        np.savez(file, allow_pickle=False, direction=(way / way.norm()).numpy(), made_of=np.array(about))
        storage.make(path.parent)
        storage.write(path, file.getvalue())
        return path

    # Between codes

    def path(
        self, stops: Tensor, frames: int, way: Literal["arc", "line"] = "arc", loop: bool = False
    ) -> Tensor:
        """Codes (frames, ...) from stop to stop; of a loop the last leads back to the first, which is not
        repeated."""
        if len(stops) < 2:
            raise Refusal("a path leads from one code to another; name two or more.")
        ends = torch.cat([stops, stops[:1]]) if loop else stops
        steps = frames if loop else max(1, frames - 1)
        at = [i * (len(ends) - 1) / steps for i in range(frames)]
        return torch.cat([self._between(ends, t, way) for t in at])

    def _between(self, ends: Tensor, t: float, way: str) -> Tensor:
        k = min(int(t), len(ends) - 2)
        if t in (k, k + 1):  # a stop itself, to the bit
            return ends[int(t)][None]
        a, b, share = ends[k], ends[k + 1], torch.tensor([t - k])
        z = straight(a, b, share)
        if way == "arc":
            z[:, : self.latent] = arc(a[: self.latent], b[: self.latent], share)
        return z

    def sum(self, groups: Sequence[Tensor], strength: float = 1.0) -> Tensor:
        """mean A + strength (mean C - mean B), (1, ...), of codes A, B, C (n, ...); an empty group adds
        nothing."""
        a, b, c = groups
        if "label" in self.model.takes:
            raise Refusal(
                "this model is told the class and keeps it out of the code, where arithmetic would be done; "
                "name a run without --conditional."
            )
        if not len(a):
            raise Refusal("arithmetic begins somewhere: put one or more images into A.")
        zero = torch.zeros_like(a[:1])
        b, c = (g.mean(0, keepdim=True) if len(g) else zero for g in (b, c))
        return a.mean(0, keepdim=True) + strength * (c - b)


def checked(name: str) -> str:
    """A name that may be a file's.  Raises Refusal."""
    if not re.fullmatch(r"[\w][\w .-]{0,59}", name) or name.isdecimal():
        raise Refusal(
            f"{name[:60]!r} is no name for a direction: letters, digits, spaces, and no number alone."
        )
    return name


def moves(words: Sequence[str]) -> dict[str, float]:
    """1:2.5 smile:-1 as what slid() takes.  Raises Refusal."""
    out = dict[str, float]()
    for word in words:
        name, _, amount = word.rpartition(":")
        try:
            out[name] = float(amount)
        except ValueError:
            out[""] = math.nan
        if not name or not math.isfinite(out[name]):
            raise Refusal(f"--along {word}: type a direction and how far, such as 1:2.5 or smile:-1.")
    return out


# What is asked for


@dataclass(frozen=True)
class Walk:
    """A kind of picture and all that decides it: the flags of `likeness walk`."""

    kind: str
    codes: tuple[str, ...] = ()
    n: int = 0
    """0 is the usual"""
    seed: int = 0
    at: tuple[float, float] = (0.0, 0.0)
    step: float = 0.5
    along: Mapping[str, float] = field(default_factory=dict)
    way: Literal["arc", "line"] = "arc"
    loop: bool = False
    less: tuple[str, ...] = ()
    plus: tuple[str, ...] = ()
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Refusal(f"there is no picture {self.kind!r} to walk to; {closest(self.kind, tuple(KINDS))}")
        if not 0 <= self.n <= MOST or (self.kind == "plane" and self.n > SIDE):
            raise Refusal(
                f"-n {self.n} is too many: a plane has up to {SIDE} images a side, others up to {MOST:,}."
            )
        if not (
            math.isfinite(self.step) and self.step > 0 and all(map(math.isfinite, (*self.at, self.strength)))
        ):
            raise Refusal("places, steps and strengths are finite numbers, and a step is above 0.")
        if self.way not in ("arc", "line"):
            raise Refusal(f"the way is an arc or a line, and no {self.way!r}.")

    @property
    def number(self) -> int:
        return self.n or KINDS[self.kind]

    def made(self, space: Space, label: int | None = None) -> Tensor:
        """Codes (B, ...) in the order in which their images are shown."""
        if self.kind == "plane":
            return space.plane(spread(*self.at, self.number, self.step), self.seed, label)
        if self.kind == "images" and not self.codes:
            return space.drawn(range(self.number), self.seed, label)
        z = self._named(space, self.codes or ("0",), label)
        if self.kind == "slide":
            return space.slid(z, self.along)
        if self.kind == "path":
            return space.path(z, self.number, self.way, self.loop)
        if self.kind == "images":
            return z
        return space.sum(
            [z, *(self._named(space, named, label) for named in (self.less, self.plus))], self.strength
        )

    def _named(self, space: Space, named: Sequence[str], label: int | None) -> Tensor:
        known = [address(text, self.seed) for text in named]
        return space.codes(known, label) if known else torch.empty(0, space.size)

    def facts(self) -> dict[str, Any]:
        """What the recipe says of it."""
        own = {name: getattr(self, name) for name in OF[self.kind]}
        return dict(picture=f"walk {self.kind}", n=self.number, seed=self.seed) | own

    def flags(self) -> str:
        """What follows `likeness walk RUN`: no more than is needed."""
        own, usual = set(OF[self.kind]), Walk(self.kind)
        words = [self.kind, *(self.codes if "codes" in own else ())]
        for name in ("n", "seed", "at", "step", "along", "way", "loop", "less", "plus", "strength"):
            value = getattr(self, name)
            if value == getattr(usual, name) or (name not in own and name not in ("n", "seed")):
                continue
            words.append(f"-{name}" if name == "n" else f"--{name}")
            if isinstance(value, Mapping):
                words += [f"{k}:{_positional(v)}" for k, v in value.items()]
            elif not isinstance(value, bool):
                words += [_positional(v) if isinstance(v, float) else str(v) for v in _several(value)]
        return shlex.join(words)


OF: dict[str, tuple[str, ...]] = {
    "images": ("codes",),
    "plane": ("at", "step"),
    "slide": ("codes", "along"),
    "path": ("codes", "way", "loop"),
    "sum": ("codes", "less", "plus", "strength"),
}
"""what decides each kind, beside n and seed"""


def _positional(value: float) -> str:
    """The shortest decimal that is this number again, without an exponent, which argparse takes for a flag
    where it is negative."""
    return str(np.format_float_positional(value, trim="-"))


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def film(path: Path, x: Tensor, recipe: dict[str, Any], seconds: float) -> bytes:
    """The frames (T, C, H, W) in [-1, 1] one after the other, as large as grid() makes them, in the format
    that the ending of `path` names."""
    scale = figures.enlargement(*x.shape[-2:])
    return figures.encode_film(path, figures.enlarge(figures.pixels(x), scale), recipe, seconds)
