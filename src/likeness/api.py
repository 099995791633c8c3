"""likeness from Python, in three lines.

    run = likeness.train("vae", "digits", minutes=1)
    run.sample(64)
    run.evaluate()

The command line walks the same way: `begin` opens or makes a run, `work` trains it.
"""

from __future__ import annotations

import operator
import os
import signal
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from . import completion, doctor, editing, engine, evaluate, given, inside, loop, minimize, models, report, show, surprise, watch, within
from . import data as datasets
from . import field as receptive
from .core import Completes, Model, Redraws, Refusal, Training, answers, ask, final
from .data import Data, named, points
from .metrics.card import Score
from .parts.denoising import Denoiser
from .results import Cards, Pictures
from .run import AVERAGE, Config, Run, Stage, is_run, read_config


@dataclass(frozen=True)
class Wishes:
    """What somebody typed, and nothing they did not: the rest is the model's own, or the run's."""

    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def sort(cls, kind: type[Model], given: dict[str, Any]) -> Wishes:
        """Tell a model's options from those of the training and of reading the data."""
        parts = [{f.name for f in option_fields(k)} for k in (kind, Training, datasets.Reading)]
        if unknown := [name for name in given if not any(name in part for part in parts)]:
            raise Refusal(f"{kind.__name__.lower()} has no option {unknown[0]!r}; {models.closest(unknown[0], tuple(sorted(set().union(*parts))))}")
        return cls(*({k: v for k, v in given.items() if k in part} for part in parts))


def option_fields(kind: type, live: bool = False) -> list[Any]:
    """Everything declared with core.option in a model, in Training or in Reading."""
    return [f for f in fields(kind) if "help" in f.metadata and (not live or f.metadata["live"])]


def default_folder(model: str, source: str) -> Path:
    picture = points.drawing(source)
    name = Path(os.path.expanduser(source if picture is None else picture)).resolve().stem
    return Path("runs") / f"{Path(model).stem}-{source.replace(':', '-') if picture is None and named.is_named(source) else name}"


def place(source: str) -> str:
    """A name stays; a path becomes absolute, so that the run finds its data from any folder."""
    picture = points.drawing(source)
    path = os.path.expanduser(source if picture is None else picture)
    if (picture is None and named.is_named(source)) or not os.path.exists(path):
        return source
    return f"{'' if picture is None else f'{points.DENSITY}:'}{Path(path).resolve()}"


# A run to train


@contextmanager
def begin(model: str, source: str, folder: Path, wishes: Wishes, budget: dict[str, Any]) -> Iterator[tuple[Run, Data]]:
    """Open the run in `folder`, or make it, to train on; with the data it learns from.  Lets go of its lock at the end.

    The first of several processes decides; the others wait for it, and end with it if it refuses.
    """
    engine.start()
    run = None
    try:
        if engine.rank() == 0:
            run, data = _first(model, place(source), folder, wishes, budget)
        else:
            _heed(engine.told())
            run = Run.resume(folder, lock=False)
            data = datasets.load(run.config.data["source"], **run.config.reading)
        yield run, data
    finally:
        if run is not None:
            run.close()
        engine.finish()


def _first(model: str, source: str, folder: Path, wishes: Wishes, budget: dict[str, Any]) -> tuple[Run, Data]:
    try:
        found = _open(model, source, folder, wishes, budget)
    except Refusal as refusal:
        engine.told(f"{refusal.code} {refusal}")
        raise
    engine.told()
    return found


def _heed(told: str) -> None:
    """The first process has refused, and has said why."""
    if told:
        raise SystemExit(int(told.split()[0]))


def _open(model: str, source: str, folder: Path, wishes: Wishes, budget: dict[str, Any]) -> tuple[Run, Data]:
    kind, first = models.load(model), inside.find(source)
    files = _files(kind, wishes.options)
    wishes = replace(wishes, options=wishes.options | files)
    if first is not None:
        wishes, source = replace(wishes, reading=inside.reading(first, _plain(wishes.reading))), first.config.data["source"]
    if not is_run(folder):
        data = datasets.load(source, **wishes.reading)
        stage = None if first is None else inside.stage(first, data)
        return Run.create(folder, _config(model, kind, data, wishes, budget, stage), stage), data
    config = read_config(folder)
    inside.compare(folder, config, model, source, first)
    defaults = {f.name: f.default for f in option_fields(kind)}  # of an option that is younger than the run
    options = {k: v for k, v in wishes.options.items() if k not in files}
    asked = dict(options=options, training=_plain(wishes.training), data=dict(source=source) | wishes.reading)
    _compare(folder, replace(config, options=defaults | config.options), model, asked)
    data = datasets.load(source, **config.reading)
    _compare(folder, config, model, dict(data=data.identity))
    moved = replace(config, options=config.options | files)  # whether it is what it was, the model sees by what is in it
    loop.refuse(model, config.training, moved.build(folder), **budget)
    return Run.resume(folder, moved), data


def _config(model: str, kind: type[Model], data: Data, wishes: Wishes, budget: dict[str, Any], stage: Stage | None) -> Config:
    settings = engine.settle(replace(kind.defaults, **wishes.training), data.spec if stage is None else stage.code)
    built = within.make(kind, data.spec, wishes.options, None if stage is None else stage.model)
    loop.refuse(model, settings, built, **budget)
    first = {} if stage is None else inside.identity(stage.run)
    options = built.options()  # the defaults of today are written down
    return Config(model, data.spec, settings, options, data.identity, engine.facts(), first, list(data.classes))


def _files(kind: type[Model], options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that name a file, with its whole path."""
    named = {f.name for f in option_fields(kind) if f.metadata["file"]} & options.keys()
    typed = {name: options[name] for name in named if isinstance(options[name], str) and options[name] not in ("", "none")}
    return {name: os.path.abspath(os.path.expanduser(path)) for name, path in typed.items()}


def _plain(wishes: dict[str, Any]) -> dict[str, Any]:
    """`auto` asks for whatever the run has."""
    return {k: v for k, v in wishes.items() if v != "auto"}


def _compare(folder: Path, config: Config, model: str, asked: dict[str, dict[str, Any]]) -> None:
    lines = config.differences({part: _plain(wishes) for part, wishes in asked.items()})
    if model.endswith(".py") and config.model.endswith(".py"):
        same = Path(model).read_bytes() == (folder / config.model).read_bytes()
        lines += [] if same else [f"{model} is no longer what this run was made with, which is {folder / config.model}"]
    elif model != config.model:
        lines.insert(0, f"model is {config.model!r} there, {model!r} was asked for")
    if lines:
        raise Refusal(
            f"{folder} is a run of another kind: {'; '.join(lines)}.  Name another folder for a new run, or leave those options out to go on with this one."
        )


def work(run: Run, data: Data, tick: show.Tick, **budget: Any) -> int:
    """Train, with pictures and the doctor's findings on the way; SIGINT and SIGTERM save and end it.  Returns the number of the signal, or 0."""
    with watch.stopping() as stop:
        for step in doctor.watch(run, data, watch.record(run, data, loop.fit(run, data, stop=stop, **budget))):
            tick(step)
        return stop.signal


def train(
    model: str,
    source: str | Path,
    folder: str | Path | None = None,
    *,
    minutes: float | None = None,
    images: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Trained:
    """Train `model` on `source`, or go on where its run folder is.

    options: any of the model's, of Training (batch, rate, seed ...) and of Reading (size, colour, binarize).
    Ctrl-C saves, and is then raised as KeyboardInterrupt.
    """
    source, budget = str(source), _budget(minutes, images)
    target = Path(folder) if folder else default_folder(model, source)
    wishes = Wishes.sort(models.load(model), options | {k: v for k, v in budget.items() if k == "images"})
    with begin(model, source, target, wishes, budget) as (run, data), show.training(run, data, budget, quiet=not progress) as tick:
        number = work(run, data, tick, **budget)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)
    return Trained(Run.open(target), data)


def _budget(minutes: Any, images: Any) -> dict[str, Any]:
    """What was given of both, checked before anything is made."""
    out: dict[str, Any] = {}
    if minutes is not None:
        try:
            out["minutes"] = float(minutes)
        except (TypeError, ValueError):
            raise Refusal(f"minutes={minutes!r} is not a number.") from None
        if not out["minutes"] > 0:
            raise Refusal(f"minutes={minutes!r} is no time to train for; give a number above 0.")
    if images is not None:
        out["images"] = _whole("images", images, 0)
    return out


def _whole(name: str, value: Any, low: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise Refusal(f"{name}={value!r} should be a whole number.") from None
    if number < low:
        raise Refusal(f"{name}={value!r} should be {low} or more.")
    return number


# A run to ask


def open(folder: str | Path, raw: bool = False) -> Trained:
    """The run in `folder`, to ask it questions: the running average of its weights, or these without any average if `raw`."""
    return Trained(Run.open(Path(folder), raw))


def open_data(run: Run) -> Data:
    """The data that a run was trained on, read as it was then."""
    data = datasets.load(run.config.data["source"], **run.config.reading)
    if data.fingerprint != run.config.data["fingerprint"]:
        print(f"likeness: {data.source} has changed since {run.folder} was made; what is compared with it may be off.", file=sys.stderr)
    return data


class Trained:
    """A run that answers.  `model`, `folder`, `config` and `log()` are those of the run."""

    def __init__(self, run: Run, data: Data | None = None):
        self.run, self._data = run, data
        self.model: Model = run.model
        self.folder: Path = run.folder
        self.config: Config = run.config
        self.log: Callable[[], list[dict[str, Any]]] = run.log

    @property
    def data(self) -> Data:
        self._data = self._data or open_data(self.run)
        return self._data

    @torch.no_grad()
    def sample(self, n: int = 64, seed: int = 0, first: int = 0, label: int | None = None, beside: Trained | None = None, **live: Any) -> Pictures:
        """Images number first ... first+n-1 of this seed: each is the same in whatever company it is drawn.

        beside: a weaker run of the same denoising model, which guidance above 1 leads away from.
        """
        n, seed, first = _whole("n", n, 1), _whole("seed", seed, 0), _whole("first", first, 0)
        hint = "Its codes can be decoded: likeness latent" if "decode" in answers(self.model) else ""
        model = evaluate.tuned(self.model, **live)
        if beside is not None:
            model = self._beside(model, beside, live)
        draw = ask(model, "sample", hint)
        numbers = torch.arange(first, first + n, device=engine.device())
        y, parts = self._labels(numbers, label), []
        for i in range(0, n, 64):
            rows = slice(i, min(i + 64, n))
            parts.append(final(draw(engine.sampling_noise(seed, first + i, rows.stop - i), None if y is None else y[rows])).cpu())
        recipe = self._recipe(seed=seed, first=first, n=n, **live) | ({} if beside is None else {"beside": beside.folder.name})
        return Pictures(torch.cat(parts), recipe if label is None else recipe | {"label": label})

    def _beside(self, model: Model, weak: Trained, live: dict[str, Any]) -> Model:
        if not isinstance(model, Denoiser):
            raise Refusal(f"{self.config.model} is not guided by another run: a ddpm, edm, flowmatching or meanflow is, of images or points, not of codes.")
        if live.get("guidance", model.guidance) == 1:
            raise Refusal("beside a weaker run the guidance says how far to go away from it, and 1 is not at all; type --guidance 2.")
        return model.beside(cast(Denoiser, weak.model))

    def _labels(self, numbers: Tensor, label: int | None) -> Tensor | None:
        labels = self.config.spec.labels if self.model.conditional else 0
        if label is not None and not labels:
            self._refuse_label(label)
        if label is not None and not 0 <= label < labels:
            raise Refusal(f"there is no label {label}: {self.folder} knows 0 to {labels - 1}.")
        return None if not labels else numbers % labels if label is None else torch.full_like(numbers, label)

    def _refuse_label(self, label: int) -> NoReturn:
        raise Refusal(f"{self.config.model} in {self.folder} draws of no class, so not of class {label}; leave the label out.")

    @torch.no_grad()
    def reconstruct(self, x: Tensor | None = None, n: int = 16, steps: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
        """(originals, what is left of them after the code), both (B, C, H, W) in [-1, 1]; held-out images unless x is given.

        The code of a model that only decodes is searched for, from samples of `seed`, in 200 steps or as many as are said; one
        that encodes is refined by those that are said.
        """
        ask(self.model, "decode")
        y = None
        if x is None:
            held_out = self.data.take(self.data.held_out[: _whole("n", n, 1)])
            x, y = held_out.x, held_out.y
        z = minimize.codes(self.model, x, y, None if steps is None else _whole("steps", steps, 0), _whole("seed", seed, 0))
        return x, minimize.decoded(self.model, z)

    def complete(
        self,
        x: Tensor | None = None,
        n: int = 16,
        keep: float = 0.5,
        *,
        known: Tensor | None = None,
        draws: int = 1,
        seed: int = 0,
        label: int | None = None,
        **live: Any,
    ) -> Pictures:
        """Images of which the upper `keep` of the rows is given, or the pixels `known`, bool (H, W), and the rest is drawn, `draws` times.

        Held-out images unless x (B, C, H, W) in [-1, 1] is given.  Draw k of image i is number i * draws + k of the result, and
        shown in row i, beside the original and what was given of it.  A class-conditional model is told the classes of held-out
        images; of your own it draws one for each, by how well it fits what is given, unless `label` is said.
        """
        draws, spec = _whole("draws", draws, 1), self.config.spec
        model = evaluate.tuned(self.model, **live)
        given.answer(model, "complete")
        asked = self._asked(x, n, seed, label)
        there = completion.upper(spec, keep) if known is None else completion.checked(known, spec)
        drawn = completion.complete(cast(Completes, model), asked.batch.x, asked.batch.y, there, draws, _whole("seed", seed, 0))
        recipe = self._recipe(seed=seed, n=len(drawn), draws=draws, known=int(there.sum()), **live)
        return Pictures(drawn.flatten(0, 1), recipe, completion.page(asked.batch.x, there, drawn))

    def edit(
        self, x: Tensor | None = None, n: int = 8, strength: float = 0.5, *, draws: int = 1, seed: int = 0, label: int | None = None, **live: Any
    ) -> Pictures:
        """Images like x (B, C, H, W) in [-1, 1], or like held-out ones: noise is added for the share `strength` of the way, and taken away again.

        Draw k of image i is number i * draws + k of the result, and shown in row i beside the original.  `label`: what they shall become,
        where the model is class-conditional; held-out images keep their class unless it is said.
        """
        draws, model = _whole("draws", draws, 1), evaluate.tuned(self.model, **live)
        given.answer(model, "redraw")
        asked = self._asked(x, n, seed, None)
        y = asked.batch.y if label is None else self._labels(torch.arange(len(asked.names)), label)
        drawn = editing.redraw(cast(Redraws, model), asked.batch.x, y, strength, draws, _whole("seed", seed, 0))
        recipe = self._recipe(seed=seed, n=len(drawn), draws=draws, strength=strength, **live)
        return Pictures(drawn.flatten(0, 1), recipe, editing.page(asked.batch.x, drawn))

    def score(
        self,
        x: Tensor | None = None,
        n: int = 16,
        *,
        maps: bool = True,
        seed: int = 0,
        label: int | None = None,
        names: Sequence[str] | None = None,
        **live: Any,
    ) -> surprise.Scored:
        """-log2 p of images in bits/dim, their rank among held-out images, and, where the model knows, where in each image its bits are.

        Held-out images unless x (B, C, H, W) in [-1, 1] is given.  `label`: the class of your own, for a class-conditional model.
        """
        model = evaluate.tuned(self.model, **live)
        given.answer(model, "bits_per_dim")
        asked = self._asked(x, n, seed, label, names)
        if model.conditional and asked.batch.y is None:
            raise Refusal(f"{self.folder} judges an image of a class; say which, from 0 to {self.config.spec.labels - 1}, as its label.")
        usual = given.held_out(self.data, surprise.REFERENCE, seed) if len(self.data.held_out) else None
        return surprise.score(model, asked, usual, maps, self._recipe(seed=seed, n=len(asked.names), **live))

    def field(self, n: int = 4, seed: int = 0) -> list[receptive.Field]:
        """Which pixels the predictions of two pixels depend on, and how much: the mean over n held-out images."""
        given.answer(self.model, "surprise")
        asked = given.held_out(self.data, _whole("n", n, 1), _whole("seed", seed, 0))
        return receptive.fields(self.model, asked.batch, f"{self.folder.name}: {self.config.model}")

    def _asked(self, x: Tensor | None, n: int, seed: int, label: int | None, names: Sequence[str] | None = None) -> given.Given:
        """The images of a question: held-out ones of their own classes, or somebody's own, of class `label` or none."""
        y = None if label is None else self._labels(torch.arange(1 if x is None else len(x)), label)
        if x is None and y is not None:
            raise Refusal(f"held-out images have classes of their own, so label {label} cannot be theirs; leave it out, or name images of your own.")
        if x is None:
            return given.held_out(self.data, _whole("n", n, 1), _whole("seed", seed, 0))
        return given.own(x, y, names, self.config.spec, seed, self.config.data.get("binarize", False))

    def _recipe(self, **said: Any) -> dict[str, Any]:
        weights = {} if self.run.weights == AVERAGE else {"weights": self.run.weights}
        return dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, **weights, **said)

    def evaluate(self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any) -> Cards:
        """Every yardstick that applies; written to scores.json and report.html as well."""
        return Cards(list(self.scores(n, seed, network, parzen, **live)))

    def scores(self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any) -> Iterator[Score]:
        """The same one by one, as they are known."""
        n, seed, scores = _whole("n", n, 1), _whole("seed", seed, 0), list[Score]()
        for score in evaluate.evaluate(self.run, self.data, n, seed, network, parzen, **live):
            scores.append(score)
            yield score
        evaluate.save_scores(self.folder, scores)
        report.write(self.run, self.data, scores)

    def outlook(self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any) -> str:
        """What scoring it will take, by a short try."""
        return evaluate.prepare(self.run, self.data, _whole("n", n, 1), _whole("seed", seed, 0), network, parzen, **live).outlook()

    def _repr_html_(self) -> str:
        view = watch.view(self.run, self.data, 36)
        shown = b"" if view is None else Pictures(view.cpu(), dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, seed=0))._repr_png_()
        picture = f'<img alt="what the model shows" src="data:image/png;base64,{b64encode(shown).decode()}">' if shown else ""
        return f"<p><b>{escape(str(self.folder))}</b>: {escape(self.config.model)}, {self.run.seen:,} images seen</p>{picture}"

    def __repr__(self) -> str:
        return f"<{self.config.method} in {self.folder}, {self.run.seen:,} images seen; answers {', '.join(answers(self.model))}>"
