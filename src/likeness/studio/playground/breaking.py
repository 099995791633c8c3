"""Ways to make a GAN fail, and what later papers do about each: an exact change of options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...core import Refusal, option_fields
from ...runs.run import Config
from . import games

D = "discriminator"


@dataclass(frozen=True)
class Failure:
    """A setting that fails, and what is to be seen then."""

    id: str
    title: str
    see: str
    model: str
    law: str
    options: dict[str, Any]
    lead: int = 0
    """steps that D makes before G makes any"""


FAILURES = {
    f.id: f
    for f in (
        Failure(
            "vanish",
            "Vanishing gradient",
            "D is certain everywhere, and the minimax loss is flat where D is certain: the arrows at "
            "generated points "
            "are gone. The non-saturating loss would still pull, under the same D.",
            "gan",
            "ring",
            dict(game="minimax", k=20, rate=5e-4, d_rate=10.0),
            20,
        ),
        Failure(
            "collapse",
            "Mode collapse",
            "Many codes z, one place: G draws a few modes of 25 and leaves them only when D has learnt "
            "to reject them.",
            "gan",
            "grid",
            dict(game="nonsaturating", rate=4e-3, beta1=0.9),
        ),
        Failure(
            "oscillate",
            "Oscillation",
            "G runs after D, and D after G: the points wander around the ring, and no meter settles.",
            "gan",
            "ring",
            dict(game="wasserstein", rate=5e-3, beta1=0.9),
        ),
        Failure(
            "dirac",
            "Dirac orbit",
            "One number theta against one slope psi. The closed form is the thin line: without a penalty "
            "the orbit "
            "never ends; with R1 it falls into the middle.",
            games.DIRAC,
            "ring",
            {},
        ),
    )
}


@dataclass(frozen=True)
class Remedy:
    """What to change, and why it helps."""

    id: str
    title: str
    why: str
    changes: dict[str, Any]


REMEDIES = (
    Remedy(
        "loss",
        "Non-saturating loss",
        "G is pulled hardest where D is surest (Goodfellow et al. 2014, section 3).",
        dict(game="nonsaturating"),
    ),
    Remedy(
        "pair",
        "Relativistic loss",
        "D compares each generated point with a real one: no part of the plane is lost.",
        dict(game="relativistic"),
    ),
    Remedy(
        "squares",
        "Least squares",
        "The pull grows with the distance from the boundary (Mao et al. 2017).",
        dict(game="least-squares"),
    ),
    Remedy(
        "r1",
        "R1 penalty",
        "D must be flat at real points: the orbit becomes a spiral inwards (Mescheder et al. 2018).",
        dict(r1=1.0),
    ),
    Remedy(
        "r1r2",
        "R1 and R2",
        "D must be flat at real and at generated points (Mescheder et al. 2018; Huang et al. 2024).",
        dict(r1=0.1, r2=0.1),
    ),
    Remedy(
        "critic",
        "Critic with gradient penalty",
        "A slope near 1 everywhere in between never vanishes (Gulrajani et al. 2017).",
        dict(game="wasserstein", gradient_penalty=1.0, k=5),
    ),
    Remedy(
        "clip",
        "Critic with clipped weights",
        "The first Wasserstein GAN (Arjovsky et al. 2017).",
        dict(game="wasserstein", weight_clip=0.1, k=5),
    ),
    Remedy(
        "spectral",
        "Spectral norm",
        "No layer of D may be steeper than 1 (Miyato et al. 2018).",
        dict(spectral=True),
    ),
    Remedy(
        "noise",
        "Instance noise",
        "Both laws are blurred until they overlap (Sønderby et al. 2017).",
        dict(noise=0.1),
    ),
    Remedy("smooth", "Label smoothing", "D is kept from certainty (Salimans et al. 2016).", dict(smooth=0.1)),
    Remedy("ttur", "Two rates", "D learns four times faster than G (Heusel et al. 2017).", dict(d_rate=4.0)),
    Remedy("even", "One step each", "D no longer runs ahead.", dict(k=1)),
    Remedy(
        "unroll",
        "Unrolling",
        "G looks five steps of D ahead, and sees that a collapse will not pay (Metz et al. 2017).",
        dict(unroll=5),
    ),
    Remedy(
        "pack",
        "Packing",
        "D judges two points at once, and sees that they are alike (Lin et al. 2018).",
        dict(pack=2),
    ),
    Remedy(
        "momentum",
        "Less momentum",
        "Adam's memory of the gradient makes the circles wider (Gidel et al. 2019).",
        dict(beta1=0.0),
    ),
    Remedy("rate", "Lower rate", "A third of the step.", {}),
    Remedy(
        "waves",
        "Waves",
        "D is told sines of the coordinates, and sees small modes (Tancik et al. 2020).",
        dict(octaves=3),
    ),
)


def remedies(config: Config, data: Any) -> Iterator[dict[str, Any]]:
    """Those that change anything in this config and that its model does not refuse: id, title, why, and the
    diff as [option, before, after]."""
    for remedy in REMEDIES:
        try:
            after = apply(config, remedy.id, data)
        except Refusal:
            continue
        if diff := difference(config, after):
            yield dict(id=remedy.id, title=remedy.title, why=remedy.why, diff=diff)


def apply(config: Config, remedy: str, data: Any) -> Config:
    """The config with that remedy.  Raises Refusal where its model has no such option, or it does not go
    with the others."""
    found = next((r for r in REMEDIES if r.id == remedy), None)
    if found is None:
        raise Refusal(f"no remedy is called {remedy!r}; there are: {', '.join(r.id for r in REMEDIES)}.")
    changes = dict(found.changes) or {"rate": float(f"{config.training.rate / 3:.2g}")}
    return changed(config, changes, data)


def changed(config: Config, changes: dict[str, Any], data: Any) -> Config:
    """The config with other options, checked by making the model.  Raises Refusal."""
    own = {f.name: getattr(config.training, f.name) for f in option_fields(type(config.training))}
    now = config.options | {k: v for k, v in own.items() if k in games.TRAINING}
    return games.config(config.model, data, now | changes)


def difference(before: Config, after: Config) -> list[list[Any]]:
    """[option, before, after] of all that differs."""
    pairs = [(k, v, after.options[k]) for k, v in before.options.items()]
    pairs += [(k, getattr(before.training, k), getattr(after.training, k)) for k in games.TRAINING]
    return [[name, a, b] for name, a, b in pairs if a != b]
