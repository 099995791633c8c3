"""Which models learn points, and by which options: asked of each model by making it, so that a new file in
models/ appears by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from ... import models
from ...core import Model, Refusal, Samples, Spec, Training, option_fields
from ...core.options import check_options
from ...data import Data
from ...data.points import LAWS
from ...runs.run import Config
from . import dirac, points
from .points import LEVELS

SMALL: dict[str, Any] = dict(hidden=64, depth=2, latent=2, width=16, scale=0.25, heads=2, steps=10)
"""options that make a network as small as points need, of those that a model has"""
SQUARE = Spec(2, 1, 0, 0)
LATTICE = Spec(2, 1, 0, LEVELS)
BATCH = 128
RATE = 2e-3
MOST = 400_000
"""weights of a model that a step of is quick enough to watch"""
DIRAC = "dirac"
TRAINING = ("batch", "rate", "clip", "ema", "seed")
"""what of the training can be set"""


@dataclass(frozen=True)
class Entry:
    """A model that learns points."""

    name: str
    title: str
    options: dict[str, Any]
    """that differ from its own defaults"""
    lattice: bool
    """it learns brightness, and points on a lattice"""


class OfDirac(Config):
    """Of the model that lies beside this file and not in models/."""

    def build(self, folder: Path, first: nn.Module | None = None) -> Model:
        return dirac.Dirac(spec=self.spec, **self.options)


def kind(name: str) -> type[Model]:
    return dirac.Dirac if name == DIRAC else models.load(name)


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Every model in models/ that draws points and has learnt nothing but their Spec, by name; then the
    Dirac-GAN."""
    found = {name: entry for name in models.NAMES if (entry := _entry(name)) is not None}
    return found | {DIRAC: Entry(DIRAC, "Dirac-GAN: one number", {}, False)}


def _entry(name: str) -> Entry | None:
    model = models.load(name)
    if getattr(model, "needs", ""):
        return None
    small = {k: v for k, v in SMALL.items() if k in {f.name for f in option_fields(model)}}
    for spec in (SQUARE, LATTICE):
        for options in _tries(small, model):
            with contextlib.suppress(Refusal):
                made = model(spec=spec, **options)
                if isinstance(made, Samples) and 0 < sum(p.numel() for p in made.parameters()) <= MOST:
                    return Entry(name, _title(model), options, bool(spec.levels))
    return None


def _tries(small: dict[str, Any], model: type[Model]) -> Iterator[dict[str, Any]]:
    """Small first; then without what its ranges refuse; each as a fully connected network too, where it has
    one."""
    net = next((f for f in option_fields(model) if f.name == "net"), None)
    mlp = {"net": "mlp"} if net is not None and "mlp" in (net.metadata["choices"] or ()) else {}
    fitting = {
        k: v for f in option_fields(model) if (v := small.get(k := f.name)) is not None and _fits(f, v)
    }
    for options in (fitting, {}):
        yield options
        if mlp:
            yield mlp | options


def _fits(field: Any, value: Any) -> bool:
    low, high = field.metadata["low"], field.metadata["high"]
    right = type(field.default) is type(value)
    return right and (low is None or value >= low) and (high is None or value <= high)


def _title(model: type[Model]) -> str:
    """The first line of its file, up to where it goes on."""
    import sys

    text = (sys.modules[model.__module__].__doc__ or model.__name__).strip().split("\n")[0]
    return text.split(":")[0].split(";")[0].rstrip(".")


def config(name: str, data: Data, options: dict[str, Any]) -> Config:
    """What a pane is made of.  options: of the model and of the training, by name, what differs from those of
    entries(); those of another model are refused.  Raises Refusal."""
    if name not in entries():
        raise Refusal(f"no model of points is called {name!r}; there are: {', '.join(entries())}.")
    model, entry = kind(name), entries()[name]
    own = {f.name for f in option_fields(model)}
    if unknown := set(options) - own - set(TRAINING):
        raise Refusal(f"{name} has no option {sorted(unknown)[0]!r}.")
    training = {k: v for k, v in options.items() if k in TRAINING}
    base = model.defaults
    if name != DIRAC:
        # a rate of images is too slow to watch, and one that rises over thousands of points as well
        base = replace(base, batch=BATCH, rate=max(base.rate, RATE), warmup=0, precision="fp32")
    settings = replace(base, **{k: _as(base, k, v) for k, v in training.items()})
    made = model(
        spec=data.spec, **(entry.options | {k: _like(model, k, v) for k, v in options.items() if k in own})
    )
    check_options(name, made)
    whole = OfDirac if name == DIRAC else Config
    return whole(name, data.spec, settings, made.options(), data.identity, {})


def _as(training: Training, name: str, value: Any) -> Any:
    return float(value) if isinstance(getattr(training, name), float) and isinstance(value, int) else value


def _like(model: type[Model], name: str, value: Any) -> Any:
    """JSON writes 1.0 as 1, and JavaScript 2 as 2.0."""
    default = next(f.default for f in option_fields(model) if f.name == name)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    whole = type(default) is int and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def data_for(name: str, law: str, ink: Any = None) -> Data:
    """Points as this model takes them.  Raises Refusal."""
    if name == DIRAC:
        return dirac.data()
    data = points.load(law, ink)
    return points.on_lattice(data) if name in entries() and entries()[name].lattice else data


def described(config: Config) -> list[dict[str, Any]]:
    """The options of a model and of its training as the sliders of a form: name, help, value, kind, range,
    choices,
    and whether the value is that of the model's own defaults."""
    model = kind(config.model)
    usual = entries()[config.model].options
    fields = [(f, "model", config.options[f.name]) for f in option_fields(model) if not f.metadata["file"]]
    fields += [
        (f, "training", getattr(config.training, f.name))
        for f in option_fields(Training)
        if f.name in TRAINING
    ]
    return [
        dict(
            name=f.name,
            part=part,
            help=f.metadata["help"],
            value=value,
            default=usual.get(f.name, f.default) if part == "model" else value,
            kind=type(f.default).__name__,
            low=f.metadata["low"],
            high=f.metadata["high"],
            choices=f.metadata["choices"],
            live=f.metadata["live"],
        )
        for f, part, value in fields
    ]


def command(config: Config, law: str, run: str = "runs/playground") -> str:
    """What trains the same model on the same law by the command line, or nothing where there is no such."""
    if config.model == DIRAC or law not in LAWS or config.spec.levels:
        return ""
    model = kind(config.model)
    own = {f.name: f.default for f in option_fields(model)}
    usual = {k: getattr(model.defaults, k) for k in (*TRAINING, "warmup", "precision")}
    changed = {k: v for k, v in config.options.items() if v != own[k]}
    changed |= {k: getattr(config.training, k) for k, v in usual.items() if getattr(config.training, k) != v}
    return " ".join(
        [f"likeness train {config.model} {law} {run}", *(_flag(k, v) for k, v in changed.items())]
    )


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"
