"""A run to train: opened or made, walked through, and let go of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import data as datasets
from .. import engine, models
from ..core import Model, Refusal, Training, closest, option_fields
from ..data import Data
from ..data.source import Source
from ..runs import first_stage, latent_model
from ..runs.run import Config, Run, Stage, is_run, read_config
from ..runs.source import parse
from . import doctor, loop, signals, snapshots


@dataclass(frozen=True)
class Wishes:
    """What somebody typed, and nothing they did not: the rest is the model's own, or the run's."""

    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def sort(cls, kind: type[Model], options: dict[str, Any]) -> Wishes:
        """Tell a model's options from those of the training and of reading the data."""
        parts = [{f.name for f in option_fields(k)} for k in (kind, Training, datasets.Reading)]
        if unknown := [name for name in options if not any(name in part for part in parts)]:
            raise Refusal(
                f"{kind.__name__.lower()} has no option {unknown[0]!r}; "
                f"{closest(unknown[0], tuple(sorted(set().union(*parts))))}"
            )
        return cls(*({k: v for k, v in options.items() if k in part} for part in parts))


# A run to train


@contextmanager
def begin(
    model: str, source: str | Source, folder: Path, wishes: Wishes, budget: dict[str, Any]
) -> Iterator[tuple[Run, Data]]:
    """Open the run in `folder`, or make it, to train on; with the data it learns from.  Lets go of its lock
    at the end.

    The first of several processes decides; the others wait for it, and end with it if it refuses.
    """
    engine.start()
    run = None
    try:
        if engine.rank() == 0:
            run, data = _first(model, parse(source).anywhere, folder, wishes, budget)
        else:
            _end_if_refused(engine.broadcast_text())
            run = Run.resume(folder, lock=False)
            data = datasets.load(run.config.data["source"], **run.config.reading)
        yield run, data
    finally:
        if run is not None:
            run.close()
        engine.finish()


def _first(
    model: str, asked: Source, folder: Path, wishes: Wishes, budget: dict[str, Any]
) -> tuple[Run, Data]:
    try:
        result = _open(model, asked, folder, wishes, budget)
    except Refusal as refusal:
        engine.broadcast_text(f"{refusal.code} {refusal}")
        raise
    engine.broadcast_text()
    return result


def _end_if_refused(text: str) -> None:
    """The first process has refused, and has said why."""
    if text:
        raise SystemExit(int(text.split()[0]))


def _open(
    model: str, asked: Source, folder: Path, wishes: Wishes, budget: dict[str, Any]
) -> tuple[Run, Data]:
    kind, first, source = models.load(model), first_stage.find(asked), asked.text
    files = _files(kind, wishes.options)
    wishes = replace(wishes, options=wishes.options | files)
    if first is not None:
        wishes, source = (
            replace(wishes, reading=first_stage.reading(first, _plain(wishes.reading))),
            first.config.data["source"],
        )
    if not is_run(folder):
        data = datasets.load(source, **wishes.reading)
        stage = None if first is None else first_stage.stage(first, data)
        return Run.create(folder, _config(model, kind, data, wishes, budget, stage), stage), data
    config = read_config(folder)
    first_stage.compare(folder, config, model, source, first)
    defaults = {f.name: f.default for f in option_fields(kind)}  # of an option that is younger than the run
    options = {k: v for k, v in wishes.options.items() if k not in files}
    typed = dict(options=options, training=_plain(wishes.training), data=dict(source=source) | wishes.reading)
    _compare(folder, replace(config, options=defaults | config.options), model, typed)
    data = datasets.load(source, **config.reading)
    _compare(folder, config, model, dict(data=data.identity))
    # whether it is what it was, the model sees by what is in it
    moved = replace(config, options=config.options | files)
    loop.refuse(model, config.training, moved.build(folder), **budget)
    return Run.resume(folder, moved), data


def _config(
    model: str, kind: type[Model], data: Data, wishes: Wishes, budget: dict[str, Any], stage: Stage | None
) -> Config:
    settings = engine.settle(
        replace(kind.defaults, **wishes.training), data.spec if stage is None else stage.code
    )
    built = latent_model.make(kind, data.spec, wishes.options, None if stage is None else stage.model)
    loop.refuse(model, settings, built, **budget)
    first = {} if stage is None else first_stage.identity(stage.run)
    options = built.options()  # the defaults of today are written down
    words = list(data.vocabulary.words) if data.vocabulary and "tokens" in built.takes else []
    return Config(
        model, data.spec, settings, options, data.identity, engine.facts(), first, list(data.classes), words
    )


def _files(kind: type[Model], options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that name a file, with its whole path."""
    named = {f.name for f in option_fields(kind) if f.metadata["file"]} & options.keys()
    typed = {
        name: options[name]
        for name in named
        if isinstance(options[name], str) and options[name] not in ("", "none")
    }
    return {name: os.path.abspath(os.path.expanduser(path)) for name, path in typed.items()}


def _plain(wishes: dict[str, Any]) -> dict[str, Any]:
    """`auto` asks for whatever the run has."""
    return {k: v for k, v in wishes.items() if v != "auto"}


def _compare(folder: Path, config: Config, model: str, asked: dict[str, dict[str, Any]]) -> None:
    lines = config.differences({part: _plain(wishes) for part, wishes in asked.items()})
    if model.endswith(".py") and config.model.endswith(".py"):
        same = Path(model).read_bytes() == (folder / config.model).read_bytes()
        lines += (
            []
            if same
            else [f"{model} is no longer what this run was made with, which is {folder / config.model}"]
        )
    elif model != config.model:
        lines.insert(0, f"model is {config.model!r} there, {model!r} was asked for")
    if lines:
        raise Refusal(
            f"{folder} is a run of another kind: {'; '.join(lines)}.  Name another folder for a new run, or "
            "leave those options out to go on with this one."
        )


def work(run: Run, data: Data, tick: loop.Tick, **budget: Any) -> int:
    """Train, with pictures and the doctor's findings on the way; SIGINT and SIGTERM save and end it.  Returns
    the number of the signal, or 0."""
    with signals.stopping() as stop:
        for step in doctor.watch(
            run, data, snapshots.record(run, data, loop.fit(run, data, stop=stop, **budget))
        ):
            tick(step)
        return stop.signal
