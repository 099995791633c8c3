"""A run to train: opened or made, walked through, and let go of."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import data as datasets
from .. import engine, models
from ..core import Model, Refusal, Spec, Training, closest, duration, option_fields, words
from ..data import Data
from ..data.quick import training_images
from ..data.source import Source
from ..parts.denoising import Denoising
from ..runs import first_stage, latent_model, origin
from ..runs.run import Config, Run, Stage, is_run, read_config
from ..runs.source import parse
from . import doctor, fork, log_writers, loop, plan, signals, snapshots


@dataclass(frozen=True)
class Wishes:
    """What somebody typed, and nothing they did not: the rest is the model's own, or the run's."""

    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def sort(cls, kind: type[Model], options: dict[str, Any], source: str | Source = "") -> Wishes:
        """Tell a model's options from those of the training and of reading the data; `preset` stands for
        several, of which those win that are there themselves.

        source: by whose images a refusal counts."""
        if "preset" in options:
            options = _preset(kind, options["preset"]) | {k: v for k, v in options.items() if k != "preset"}
        parts = [{f.name for f in option_fields(k)} for k in (kind, Training, datasets.Reading)]
        if unknown := [name for name in options if not any(name in part for part in parts)]:
            known = set().union(*parts) | {"minutes", "device"}
            flags = frozenset(f"--{name.replace('_', '-')}" for name in known)
            batch = options.get("batch", kind.defaults.batch)
            count = partial(training_images, source, {k: v for k, v in options.items() if k in parts[2]})
            asked = words.Asked("train", flags, batch if isinstance(batch, int) else 0, count)
            hint = words.argument(unknown[0], options[unknown[0]], asked)
            raise Refusal(
                f"{kind.__name__.lower()} has no option {unknown[0]!r}; "
                f"{hint or closest(unknown[0], tuple(sorted(known)))}"
            )
        return cls(*({k: v for k, v in options.items() if k in part} for part in parts))


def _preset(kind: type[Model], name: str) -> dict[str, Any]:
    if name not in kind.presets:
        there = ", ".join(kind.presets) or "none"
        raise Refusal(f"{kind.__name__.lower()} has no preset {name!r}; its presets are: {there}.")
    return kind.presets[name]


# A run to train


@contextmanager
def begin(
    model: str,
    source: str | Source,
    folder: Path,
    wishes: Wishes,
    budget: dict[str, Any],
    place_of_data: str = "",
    forked: Path | None = None,
) -> Iterator[tuple[Run, Data]]:
    """Open the run in `folder`, or make it, to train on; with the data it learns from.  Lets go of its lock
    at the end.  place_of_data: where the images are now, if `source` is a run whose codes are learnt.
    forked: the run, or its state, that a new run goes on from (fork.py).

    The first of several processes decides; the others wait for it, and end with it if it refuses.
    """
    engine.start()
    run, threads = None, torch.get_num_threads()
    try:
        if engine.rank() == 0:
            if forked is not None:
                _fork(model, forked, folder, wishes)
            run, data = _first(model, parse(source).anywhere, folder, wishes, budget, place_of_data)
        else:
            _end_if_refused(engine.broadcast_text())
            run = Run.resume(folder, lock=False)
            data = origin.load(run.config, folder)
        yield run, data.usable(run.model.takes)
    finally:
        if run is not None:
            run.close()
        torch.set_num_threads(threads)  # the run has its own
        engine.finish()


def _fork(model: str, forked: Path, folder: Path, wishes: Wishes) -> None:
    try:
        fork.make(forked, folder, wishes.options, _plain(wishes.training), model)
    except Refusal as refusal:
        engine.broadcast_text(f"{refusal.code} {refusal}")
        raise


def _first(
    model: str, asked: Source, folder: Path, wishes: Wishes, budget: dict[str, Any], place_of_data: str
) -> tuple[Run, Data]:
    try:
        result = _open(model, asked, folder, wishes, budget, place_of_data)
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
    model: str, asked: Source, folder: Path, wishes: Wishes, budget: dict[str, Any], place_of_data: str
) -> tuple[Run, Data]:
    kind, first, source = models.load(model), first_stage.find(asked), asked.text
    if place_of_data and first is None:
        raise Refusal(f"{source} is the data itself; --data says where those of a run are: leave it out.")
    files = _files(kind, wishes.options)
    named = wishes.options | files | _reader(wishes.options)
    wishes = replace(wishes, options=named, reading=_placed(wishes.reading))
    if first is not None:
        wishes = replace(wishes, reading=first_stage.reading(first, _plain(wishes.reading)))
    if not is_run(folder):
        data = (
            datasets.load(source, **wishes.reading)
            if first is None
            else origin.load(first.config, first.folder, place_of_data)
        )
        stage = None if first is None else first_stage.stage(first, data)
        config = _config(model, kind, data, wishes, budget, stage)
        config = replace(config, origin=origin.of(data, folder, files))
        return Run.create(folder, config, stage), data
    config = read_config(folder)
    first_stage.compare(folder, config, model, source, first)
    defaults = {f.name: f.default for f in option_fields(kind)}  # of an option that is younger than the run
    options = {k: v for k, v in wishes.options.items() if k not in files}
    longer = {"images"} if budget.get("images", 0) > config.training.images else set()
    to, reading = wishes.reading.get("to", ""), wishes.reading
    if to and parse(to).path is not None and parse(str(config.data.get("to", ""))).path is not None:
        reading = {k: v for k, v in reading.items() if k != "to"}  # what is there decides, not its name
    named_otherwise = first is None and asked.path is None and source != config.data.get("source")
    typed = dict(
        options=options,
        training={k: v for k, v in _plain(wishes.training).items() if k not in longer},
        data=reading | (dict(source=source) if named_otherwise else {}),
    )
    _compare(folder, replace(config, options=defaults | config.options), model, typed)
    data = _data(config, folder, source, first, place_of_data, to)
    origin.refuse_changed(config, folder, data)
    _refuse_gone(folder, config, files)
    # whether it is what it was, the model sees by what is in it: prepare() of its state refuses others
    files = origin.missing_files(config, folder) | files
    moved = origin.moved(config, folder, data)
    moved = replace(
        moved,
        options=config.options | files,
        origin=moved.origin | origin.of(data, folder, _file_options(kind, config.options | files)),
    )
    loop.unsuited(model, config.training, moved.build(folder), budget.get("minutes", math.inf))
    run = Run.resume(folder, moved)
    if (later := plan.extended(run, budget)) != run.config:
        run.notes.append(
            f"the schedule ends at image {later.training.images:,} from now on, and not at "
            f"{run.config.training.images:,}: the rate is "
            f"{loop.pace(later.training, run.seen):.0%} of its value, where it was "
            f"{loop.pace(run.config.training, run.seen):.0%}"
        )
        run.replan(later)
    return run, data


def _placed(reading: dict[str, Any]) -> dict[str, Any]:
    """With the whole path of the second domain, where it is one."""
    to = reading.get("to")
    return reading | {"to": parse(str(to)).anywhere.text} if to else reading


def _data(
    config: Config, folder: Path, source: str, first: Run | None, place_of_data: str, to: str = ""
) -> Data:
    """Of a run that goes on: where somebody says, else where it or its first stage remembers them."""
    if first is None:
        return origin.load(config, folder, source, to)
    if place_of_data:
        data = origin.load(config, folder, place_of_data)
        origin.remember(first.config, first.folder, data)
        return data
    if origin.places(config, folder):
        return origin.load(config, folder)
    return origin.load(first.config, first.folder)


def _config(
    model: str, kind: type[Model], data: Data, wishes: Wishes, budget: dict[str, Any], stage: Stage | None
) -> Config:
    _suits(model, kind, data)
    if stage is None:
        _belongs(model, kind, data)
    settings = engine.settle(
        replace(kind.defaults, **wishes.training), data.spec if stage is None else stage.code
    )
    built = latent_model.make(kind, data.spec, wishes.options, None if stage is None else stage.model)
    loop.refuse(model, settings, built, budget.get("minutes", math.inf))
    if 0 < built.largest_batch < settings.batch:
        raise Refusal(
            f"{model}: a pool of {built.largest_batch} images would hardly change with --batch "
            f"{settings.batch}: a place that several images of a batch want stays as it is.  Type --pool "
            f"{settings.batch} or more, a smaller --batch, or --pool 0 for none."
        )
    _refuse_task(model, built, data)
    first = {} if stage is None else first_stage.identity(stage.run)
    options = built.options()  # the defaults of today are written down
    words = list(data.vocabulary.words) if data.vocabulary and "tokens" in built.takes else []
    config = Config(
        model, data.spec, settings, options, data.identity, engine.facts(), first, list(data.classes), words
    )
    measure = partial(plan.measured, data=data, first=stage)
    torch.set_num_threads(plan.threads(config, budget, measure))
    config = replace(config, facts=engine.facts())
    return plan.planned(config, plan.least(built), wishes.training.keys(), budget, measure)


def _suits(name: str, kind: type[Model], data: Data) -> None:
    """Refuse data without the other images that the model needs, or with such as do not belong to its x."""
    if kind.needs and not data.spec.source[0]:
        some = "a folder of pairs (A/ and B/)"
        if kind.needs == "domains":
            some = "two folders (A --to B), or one of two kinds (trainA/ and trainB/) or of pairs (A/ and B/)"
        raise Refusal(
            f"{name} learns from two images at a time, and {data.source} holds single ones; name {some}, or "
            "make the other image of each by --task colourise."
        )
    if kind.needs == "pairs" and data.other is not None:
        raise Refusal(
            f"{name} learns from pairs, and in {data.source} nobody knows what belongs together; train "
            "cyclegan on it."
        )


def _belongs(name: str, kind: type[Model], data: Data) -> None:
    """Refuse two domains to a denoiser, which would learn that a source says nothing of its target."""
    if issubclass(kind, Denoising) and data.other is not None and data.pairs is None:
        raise Refusal(
            f"{name} draws an image of another that belongs to it, and in {data.source} nobody knows what "
            "belongs together; train cyclegan on it, or name one of the two folders alone."
        )


def _files(kind: type[Model], options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that name a file, with its whole path."""
    typed = _file_options(kind, options)
    return {name: os.path.abspath(os.path.expanduser(path)) for name, path in typed.items()}


def _reader(options: dict[str, Any]) -> dict[str, str]:
    """An encoder of texts that a folder holds, with its whole path."""
    kind, colon, folder = str(options.get("reader", "")).partition(":")
    return {"reader": f"{kind}:{os.path.abspath(os.path.expanduser(folder))}"} if colon else {}


def _file_options(kind: type[Model], options: dict[str, Any]) -> dict[str, str]:
    named = {f.name for f in option_fields(kind) if f.metadata["file"]} & options.keys()
    return {
        name: options[name]
        for name in named
        if isinstance(options[name], str) and options[name] not in ("", "none")
    }


def _refuse_gone(folder: Path, config: Config, files: dict[str, Any]) -> None:
    """Refuse another file for an option of a run where no file is: nothing could say whether it is equal."""
    for name, path in files.items():
        if path != config.options.get(name) and not os.path.exists(path):
            raise Refusal(
                f"there is no file {path}; leave --{name.replace('_', '-')} out to go on with what {folder} "
                "has learnt."
            )


def _plain(wishes: dict[str, Any]) -> dict[str, Any]:
    """`auto` asks for whatever the run has."""
    return {k: v for k, v in wishes.items() if v != "auto"}


def _refuse_task(model: str, built: Model, data: Data) -> None:
    """A model that looks at no source learns no task."""
    if (task := data.settings.get("task")) and "image" not in built.takes:
        able = ", ".join(name for name in models.NAMES if _takes_image(models.load(name), data.spec))
        raise Refusal(
            f"--task {task} is learnt by a model that takes an image, and {model} takes none; leave --task "
            f"out, or train one of: {able or 'a file of your own'}."
        )


def _takes_image(kind: type[Model], spec: Spec) -> bool:
    """Whether it does by its default options."""
    if isinstance(kind.takes, property):  # an option decides
        try:
            return "image" in kind(spec=spec).takes
        except Refusal:
            return False
    return "image" in kind.takes


def _compare(folder: Path, config: Config, model: str, asked: dict[str, dict[str, Any]]) -> None:
    lines = config.differences({part: _plain(wishes) for part, wishes in asked.items()})
    changed = []
    if model.endswith(".py") and config.model.endswith(".py"):
        same = Path(model).read_bytes() == (folder / config.model).read_bytes()
        if not same:
            changed = [f"{model} is no longer what this run was made with, which is {folder / config.model}"]
    elif model != config.model:
        lines.insert(0, f"model {config.model}, not {model}")
    if lines or changed:
        made = [f"{folder} was made with {'; '.join(lines)}"] if lines else []
        raise Refusal(
            f"{'; '.join([*made, *changed])}.  Name another folder for a new run, or leave those options out "
            "to go on with this one."
        )


def finished(run: Run, images: int | None = None, minutes: float = math.inf) -> str:
    """What to say of a run for which nothing is left to do, and how to go on; nothing, where there is."""
    if run.seen < loop.last_image(run.config.training, images, minutes) and run.seconds < 60 * minutes:
        return ""
    if text := plan.cut_short(run):
        return f"nothing is left to do: {text}"
    return (
        f"nothing is left to do: {run.folder} has seen {run.seen:,} images in {duration(run.seconds)} of "
        f"training.  To go on, ask for more in all: --images {2 * max(run.seen, run.config.training.images)}"
        + (f" or --minutes {math.ceil(2 * run.seconds / 60):g}" if run.config.plan else "")
    )


def work(run: Run, data: Data, tick: loop.Tick, log: Sequence[str] = (), **budget: Any) -> int:
    """Train, with pictures and the doctor's findings on the way; SIGINT and SIGTERM save and end it.  Returns
    the number of the signal, or 0.

    log: formats in which the log is written as well (log_writers.FORMATS).
    """
    with signals.stopping() as stop:
        steps = snapshots.record(run, data, loop.fit(run, data, stop=stop, **budget))
        for step in doctor.watch(run, data, log_writers.record(run, log, steps)):
            tick(step)
        if not stop.signal and (text := plan.cut_short(run)):
            run.notes.append(text)
        return stop.signal
