"""likeness from Python, in three lines.

    run = likeness.train("vae", "digits", minutes=1)
    run.sample(64)
    run.evaluate()

The command line walks the same way: `begin` opens or makes a run, `work` trains it.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import data as datasets
from . import engine, loop, models, pictures, report
from . import evaluate as evaluation
from .core import Model, Refusal, Training, answers, ask
from .data import Data
from .metrics.card import Score
from .run import CONFIG, Config, Run, read_config

Tick = Callable[[loop.Step], None]


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
    return Path("runs") / f"{Path(model).stem}-{Path(source).resolve().stem if Path(source).exists() else source.replace(':', '-')}"


@contextmanager
def begin(model: str, source: str, folder: Path, wishes: Wishes) -> Iterator[tuple[Run, Data]]:
    """Open the run in `folder`, or make it, to train on; with the data it learns from.  Lets go of its lock at the end."""
    engine.start()
    chief = engine.rank() == 0
    if not chief:
        engine.wait_for_all()
    exists = (folder / CONFIG).exists()
    data = datasets.load(source, **(_stored_reading(folder, source) if exists else {}) | wishes.reading)
    if chief and not exists:
        run = Run.create(folder, _config(model, data, wishes))
    else:
        _compare(folder, model, data, wishes)
        run = Run.resume(folder, lock=chief)
    if chief:
        engine.wait_for_all()
    try:
        yield run, data
    finally:
        run.close()


def _config(model: str, data: Data, wishes: Wishes) -> Config:
    kind = models.load(model)
    settings = engine.settle(replace(kind.defaults, **wishes.training), data.spec)
    options = kind(spec=data.spec, **wishes.options).options()  # the defaults of today are written down
    return Config(model, data.spec, settings, options, _identity(data), engine.facts())


def _identity(data: Data) -> dict[str, Any]:
    return dict(source=data.source, fingerprint=data.fingerprint, **data.settings)


def _stored_reading(folder: Path, source: str) -> dict[str, Any]:
    stored = {k: v for k, v in read_config(folder).data.items() if k not in ("source", "fingerprint")}
    return stored


def _compare(folder: Path, model: str, data: Data, wishes: Wishes) -> None:
    config = read_config(folder)
    asked = dict(options=wishes.options, training=wishes.training, data=_identity(data))
    lines = config.differences(asked)
    if not model.endswith(".py") and model != config.model:
        lines.insert(0, f"model is {config.model!r} there, {model!r} was asked for")
    if lines:
        raise Refusal(
            f"{folder} is a run of another kind: {'; '.join(lines)}.  Name another folder for a new run, or leave those options out to go on with this one."
        )


def open_data(run: Run) -> Data:
    """The data that a run was trained on, read as it was then."""
    stored = dict(run.config.data)
    source, fingerprint = stored.pop("source"), stored.pop("fingerprint")
    data = datasets.load(source, **stored)
    if data.fingerprint != fingerprint:
        print(f"likeness: {source} has changed since {run.folder} was made; what is compared with it may be off.", file=sys.stderr)
    return data


def images(x: Tensor, **recipe: Any) -> Pictures:
    return Pictures(x.detach().cpu(), recipe)


@dataclass(frozen=True)
class Pictures:
    """Images that show themselves in a notebook.  x: (B, C, H, W) in [-1, 1]."""

    x: Tensor
    recipe: dict[str, Any] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.x.numpy().astype(dtype or "float32")

    def __len__(self) -> int:
        return len(self.x)

    def save(self, path: str | Path) -> Path:
        """As one picture, with the recipe in its text."""
        pictures.write_png(Path(path), pictures.grid(self.x), self.recipe)
        return Path(path)

    def _repr_png_(self) -> bytes:
        return pictures.png(pictures.grid(self.x), self.recipe)


@dataclass(frozen=True)
class Cards:
    """Score cards that show themselves as a table."""

    scores: list[Score]

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __getitem__(self, name: str) -> Score:
        """The model's own card of that name, such as "bits/dim"."""
        return next(s for s in self.scores if s.name == name and s.of == "model")

    def __repr__(self) -> str:
        return "\n".join(str(s) for s in self.scores)

    def _repr_html_(self) -> str:
        return report.cards(self.scores)


class Trained:
    """A run that answers.  `model`, `folder`, `config` and `log()` are those of the run."""

    def __init__(self, run: Run, data: Data | None = None):
        self.run, self._data = run, data

    @property
    def data(self) -> Data:
        self._data = self._data or open_data(self.run)
        return self._data

    @property
    def model(self) -> Model:
        return self.run.model

    @property
    def folder(self) -> Path:
        return self.run.folder

    @torch.no_grad()
    def sample(self, n: int = 64, seed: int = 0, first: int = 0, label: int | None = None, **live: Any) -> Pictures:
        """Images number first ... first+n-1 of this seed: each is the same in whatever company it is drawn."""
        hint = "Its codes can be decoded: likeness latent" if "decode" in answers(self.model) else ""
        draw = ask(evaluation.tuned(self.model, **live), "sample", hint)
        labels = self.run.config.spec.labels
        if label is not None and not 0 <= label < labels:
            raise Refusal(f"there is no label {label}: {self.folder} knows {f'0 to {labels - 1}' if labels else 'no labels'}.")
        numbers = torch.arange(first, first + n, device=engine.device())
        y = None if not labels else numbers % labels if label is None else torch.full_like(numbers, label)
        parts = []
        for i in range(0, n, 64):
            rows = slice(i, min(i + 64, n))
            *_, x = draw(engine.sampling_noise(seed, first + i, rows.stop - i), None if y is None else y[rows])
            parts.append(x.cpu())
        return images(torch.cat(parts), run=self.folder.name, model=self.run.config.model, seen=self.run.seen, seed=seed, first=first, n=n)

    @torch.no_grad()
    def reconstruct(self, x: Tensor | None = None, n: int = 16) -> tuple[Tensor, Tensor]:
        """(originals, what is left of them after the code), both (B, C, H, W) in [-1, 1]; held-out images unless x is given."""
        encode, decode = ask(self.model, "encode"), ask(self.model, "decode")
        x = self.data.take(self.data.held_out[:n]).x if x is None else x
        back = [decode(encode(part.to(engine.device()))).cpu() for part in x.split(64)]
        return x, torch.cat(back)

    def evaluate(self, n: int = 1000, seed: int = 0, **live: Any) -> Cards:
        """Every yardstick that applies; written to scores.json and report.html as well."""
        scores = list(self.scores(n, seed, **live))
        return Cards(scores)

    def scores(self, n: int = 1000, seed: int = 0, **live: Any) -> Iterator[Score]:
        """The same one by one, as they are known."""
        scores = []
        for score in evaluation.evaluate(self.run, self.data, n, seed, **live):
            scores.append(score)
            yield score
        evaluation.save_scores(self.folder, scores)
        report.write(self.run, self.data, scores)

    def _repr_html_(self) -> str:
        view = loop.view(self.run, self.data, 36)
        picture = "" if view is None else f'<img alt="samples" src="data:image/png;base64,{b64encode(images(view)._repr_png_()).decode()}">'
        return f"<p><b>{escape(str(self.folder))}</b>: {escape(self.run.config.model)}, {self.run.seen:,} images seen</p>{picture}"

    def __repr__(self) -> str:
        return f"<{self.run.config.model} in {self.folder}, {self.run.seen:,} images seen; answers {', '.join(answers(self.model))}>"


def work(run: Run, data: Data, tick: Tick, **budget: Any) -> int:
    """Train, with pictures on the way; SIGINT and SIGTERM save and end it.  Returns the number of the signal, or 0."""
    with loop.stopping() as stop:
        for step in loop.record(run, data, loop.fit(run, data, stop=stop, **budget)):
            tick(step)
        return stop.signal


def train(
    model: str, source: str | Path, folder: str | Path | None = None, *, minutes: float | None = None, images: int | None = None, **options: Any
) -> Trained:
    """Train `model` on `source`, or go on where its run folder is.

    options: any of the model's, of Training (batch, rate, seed ...) and of Reading (size, colour, binarize).
    """
    source = str(source)
    target = Path(folder) if folder else default_folder(model, source)
    wishes = Wishes.sort(models.load(model), options | ({} if images is None else {"images": images}))
    budget = {} if minutes is None else {"minutes": minutes}
    with begin(model, source, target, wishes) as (run, data):
        work(run, data, lambda step: None, images=images, **budget)
    return Trained(Run.open(target), data)


def open(folder: str | Path) -> Trained:
    """The run in `folder`, to ask it questions."""
    return Trained(Run.open(Path(folder)))
