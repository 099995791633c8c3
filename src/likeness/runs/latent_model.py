"""A model that learns the codes of a frozen autoencoder instead of images.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017, section 3.3: first an
autoencoder, then a prior over its codes; and Rombach et al., "High-Resolution Image Synthesis with Latent
Diffusion Models", 2022, section 3.

    z = compress(x)                                        the first stage, which never changes
    minimise the model's own loss on z                     the second stage: any model
    draw z, then expand(z)                                 new images
    -log p(x) <= -log p(z) - log p(x|z)                    where both are known: P(x) is a sum over all codes, and one term of
                                                           it is no more than the whole

The composition has the options, players and weights of the inner model, and answers what the two answer
together.  It does not complete an image, since a code says of a place more than what is seen there, and has
no noisy images, only noisy codes.
"""  # noqa: E501

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from .. import models
from ..core import (
    Batch,
    Bits,
    Classifies,
    Compresses,
    Condition,
    Decodes,
    Diagnoses,
    Distorts,
    Encodes,
    KnowsChance,
    Loss,
    Model,
    Noise,
    Player,
    Redraws,
    Refusal,
    Samples,
    Scores,
    Spec,
)

ROWS = 256
"""images asked about at a time by diagnose"""


# The first stage


class Numbers(nn.Module):
    """A code of numbers, (B, n), as an image whose channels each have zero mean and unit variance.

    It has c channels at h x h places, n = c h^2, where the model lays its code out on a grid (Rombach et al.
    2022, appendix G, where one number scales all channels); else n channels at one place.
    """

    def __init__(self, model: Model, mean: Tensor, std: Tensor):
        """mean, std: (c,), of the codes of training images."""
        super().__init__()
        self.model = model
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        self.code = Spec(len(mean), grid(model), model.spec.labels, levels=0, absent=model.spec.absent)

    def compress(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, c, h, h)."""
        z = cast(Encodes, self.model).encode(x).unflatten(1, self.code.shape)
        return (z - self.mean[:, None, None]) / self.std[:, None, None]

    def expand(self, z: Tensor) -> Tensor:
        """(B, c, h, h) to (B, C, H, W)."""
        return cast(Decodes, self.model).decode(
            (z * self.std[:, None, None] + self.mean[:, None, None]).flatten(1)
        )


def grid(model: Model) -> int:
    """Height and width of the model's code as an image: its option of that name, if it has one."""
    return int(getattr(model, "grid", 0)) or 1


@torch.no_grad()
def measured(model: Model, images: Iterable[Tensor]) -> Numbers:
    """The first stage that a model which encodes and decodes makes, its codes measured on these images (B, C,
    H, W)."""
    z = torch.cat([cast(Encodes, model).encode(x).float() for x in images])
    if z.ndim != 2:
        raise Refusal(
            f"{type(model).__name__.lower()}: its code of shape {tuple(z.shape[1:])} is no vector; a model "
            "whose code is an image answers compress."
        )
    z = z.unflatten(1, (-1, grid(model) ** 2))
    std, mean = z.std((0, 2), correction=0), z.mean((0, 2))
    # a number that never varies says nothing
    return Numbers(model, mean, torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std)))


# The composition


def make(kind: type[Model], spec: Spec, options: dict[str, Any], first: nn.Module | None) -> Model:
    """A model of images, or of what `first` makes of them."""
    if first is None:
        return _own(kind, spec, options)
    stage = cast(Any, first.eval().requires_grad_(False))
    # codes are of the same text as the image
    code = replace(stage.code, vocabulary=spec.vocabulary, tokens=spec.tokens)
    inner = kind(spec=code, **options)
    return _class(kind, type(getattr(stage, "model", stage)), tuple(_abilities(inner, stage)))(
        inner, stage, spec
    )


def _own(kind: type[Model], spec: Spec, options: dict[str, Any]) -> Model:
    """A model of the data itself.  Whoever asks one for images to learn points is told which models do."""
    try:
        return kind(spec=spec, **options)
    except Refusal:
        if not spec.points or _learns(kind, spec):
            raise
        able = [name for name in models.NAMES if _learns(models.load(name), spec)]
        raise Refusal(
            f"{kind.__name__.lower()} learns images, and these are points in the plane; models that learn "
            f"points: {', '.join(able)}."
        ) from None


def _learns(kind: type[Model], spec: Spec) -> bool:
    try:
        kind(spec=spec)
        return True
    except Refusal:
        return False


def _abilities(inner: Model, first: object) -> Iterator[type[Within]]:
    """What the two can answer together."""
    # a density is no probability
    bounded = isinstance(inner, Scores) and isinstance(first, Distorts) and inner.spec.levels > 1
    able: list[tuple[type[Within], bool]] = [
        (Drawing, isinstance(inner, Samples)),
        (Redrawing, isinstance(inner, Redraws)),
        (Bounding, bounded),
        (Encoding, isinstance(inner, Encodes)),
        (Decoding, isinstance(inner, Decodes)),
        (Classifying, isinstance(inner, Classifies)),
        (Guessing, isinstance(inner, KnowsChance)),
        (Diagnosing, bounded or isinstance(inner, Diagnoses) or isinstance(first, Diagnoses)),
    ]
    return (ability for ability, there in able if there)


def _class(kind: type[Model], first: type, abilities: tuple[type[Within], ...]) -> type[Within]:
    """A class that has the options of `kind` and the abilities, and no others: having a method is the
    declaration."""
    own = {
        "__dataclass_fields__": kind.__dataclass_fields__,
        "__module__": kind.__module__,
        "defaults": kind.defaults,
    }
    return type(f"{kind.__name__} within {first.__name__}", abilities or (Within,), own)


class Within(Model):
    """The inner model, at the codes of a first stage.  Of the first stage nothing is trained, saved or
    averaged.

    The options of the inner model are attributes here, too; whatever else is here has a name that no option
    has.
    """

    if TYPE_CHECKING:
        _inner: Model
        _first: Compresses

    def __init_subclass__(cls) -> None:
        """The options of a composition are those of its inner model, so there are none to declare."""

    def __init__(self, inner: Model, first: nn.Module, spec: Spec):
        nn.Module.__init__(self)
        self._inner, self.spec, self.takes, self.whole_batch = inner, spec, inner.takes, inner.whole_batch  # type: ignore[misc]
        self.__dict__["_first"] = first  # unknown to nn.Module: no weight of this model's
        for name, value in inner.options().items():
            setattr(self, name, value)
        if isinstance(inner, Decodes):
            self.latent = inner.latent

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Within:
        """To a device, or to a type, the first stage goes along."""
        cast(nn.Module, self._first)._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def _compressed(self, x: Tensor) -> Tensor:
        """The codes of images (B, C, H, W), in full precision: the first stage was not trained in the
        precision of the second."""
        with torch.autocast(x.device.type, enabled=False):
            return self._first.compress(x)

    def _codes(self, batch: Batch) -> Batch:
        return replace(batch, x=self._compressed(batch.x))

    def prepare(self) -> None:
        self._inner.prepare()

    def knows(self, words: Sequence[str]) -> None:
        self._inner.knows(words)

    def players(self) -> tuple[Player, ...]:
        return tuple(replace(player, loss=self._of_codes(player.loss)) for player in self._inner.players())

    def _of_codes(self, loss: Callable[[Batch], Loss]) -> Callable[[Batch], Loss]:
        return lambda batch: loss(self._codes(batch))

    def tallies(self) -> tuple[Tensor, ...]:
        return self._inner.tallies()

    def answering(self) -> None:
        self._inner.answering()

    def after_step(self) -> None:
        self._inner.after_step()

    def _seen(self, versions: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of some of the ever better codes, ever fewer of them, and of the last: expanding costs
        as much as a step of a small model."""
        number, z = 0, None
        for number, z in enumerate(versions, 1):
            if number & (number - 1) == 0:
                yield self._first.expand(z)
        if z is not None and number & (number - 1):
            yield self._first.expand(z)

    def _turned(self) -> Any:
        """The inner model with its live options as they are set here."""
        twin = copy.copy(self._inner)
        for f in fields(self):
            if f.metadata.get("live"):
                setattr(twin, f.name, getattr(self, f.name))
        return twin


class Drawing(Within):
    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield from self._seen(self._turned().sample(noise, y))


class Redrawing(Within):
    @torch.no_grad()
    def redraw(
        self, x: Tensor, strength: float, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        yield from self._seen(self._turned().redraw(self._compressed(x), strength, noise, y))


class Bounding(Within):
    @torch.no_grad()
    def _nats(self, batch: Batch) -> tuple[Tensor, Tensor, str, float | None]:
        """-log p(z) and -log p(x|z) of each image, (B,) each, the kind of the first, and its error by
        solving, in nats."""
        codes = self._codes(batch)
        bits, kind, error = self._turned().bits_per_dim(codes)
        unit = self._first.code.dims * math.log(2)
        distortion = cast(Distorts, self._first).distortion(batch.x, codes.x)
        return bits * unit, distortion, kind, None if error is None else error * unit

    def bits_per_dim(self, batch: Batch) -> Bits:
        (rate, distortion, kind, error), unit = self._nats(batch), self.spec.dims * math.log(2)
        return Bits(
            (rate + distortion) / unit,
            "estimate" if kind == "estimate" else "upper bound",
            None if error is None else error / unit,
        )


class Encoding(Within):
    def encode(self, x: Tensor) -> Tensor:
        out: Tensor = self._turned().encode(self._compressed(x))
        return out


class Decoding(Within):
    def decode(self, z: Tensor) -> Tensor:
        return self._first.expand(self._turned().decode(z))


class Classifying(Within):
    def classify(self, x: Tensor) -> Tensor:
        out: Tensor = self._turned().classify(self._compressed(x))
        return out


class Guessing(Within):
    @torch.no_grad()
    def chance(self, batch: Batch) -> dict[str, float]:
        """What the loss would be of one that knows nothing of the codes."""
        result: dict[str, float] = self._inner.chance(self._codes(batch))  # type: ignore[operator]
        return result


class Diagnosing(Within):
    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """What each stage finds wrong with itself, and how the bound divides between them."""
        if isinstance(self._first, Diagnoses):
            yield from self._first.diagnose(batch)
        if isinstance(self._inner, Diagnoses):
            yield from (
                (f"codes: {name}", value, warning)
                for name, value, warning in self._turned().diagnose(self._codes(batch))
            )
        if isinstance(self, Bounding):
            rate, distortion = (
                torch.cat(nats) for nats in zip(*(self._nats(part)[:2] for part in batch.split(ROWS)))
            )
            yield "rate in nats", float(rate.mean()), ""
            yield "distortion in nats", float(distortion.mean()), ""
