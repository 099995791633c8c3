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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from . import data as datasets
from . import engine, evaluate, loop, models, pictures, report, show, store, watch
from .core import Model, Refusal, Training, answers, ask
from .data import Data, named
from .metrics.card import Score
from .run import Config, Run, is_run, read_config


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
    name = Path(os.path.expanduser(source))
    return Path("runs") / f"{Path(model).stem}-{source.replace(':', '-') if is_named(source) else name.resolve().stem}"


def place(source: str) -> str:
    """A name stays; a path becomes absolute, so that the run finds its data from any folder."""
    path = os.path.expanduser(source)
    return source if is_named(source) or not os.path.exists(path) else str(Path(path).resolve())


def is_named(source: str) -> bool:
    """Whether this is one of `likeness data`, such as mnist or shapes:50000."""
    return source.partition(":")[0] in named.NAMES


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
            data = datasets.load(place(source), **read_config(folder).reading)
            run = Run.resume(folder, lock=False)
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
    kind = models.load(model)
    if not is_run(folder):
        data = datasets.load(source, **wishes.reading)
        return Run.create(folder, _config(model, kind, data, wishes, budget)), data
    config = read_config(folder)
    _compare(folder, config, model, dict(options=wishes.options, training=_plain(wishes.training), data=dict(source=source) | wishes.reading))
    data = datasets.load(source, **config.reading)
    _compare(folder, config, model, dict(data=data.identity))
    loop.refuse(model, config.training, config.build(folder), **budget)
    return Run.resume(folder), data


def _config(model: str, kind: type[Model], data: Data, wishes: Wishes, budget: dict[str, Any]) -> Config:
    settings = engine.settle(replace(kind.defaults, **wishes.training), data.spec)
    built = kind(spec=data.spec, **wishes.options)
    loop.refuse(model, settings, built, **budget)
    return Config(model, data.spec, settings, built.options(), data.identity, engine.facts())  # the defaults of today are written down


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
    """Train, with pictures on the way; SIGINT and SIGTERM save and end it.  Returns the number of the signal, or 0."""
    with watch.stopping() as stop:
        for step in watch.record(run, data, loop.fit(run, data, stop=stop, **budget)):
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


def open(folder: str | Path) -> Trained:
    """The run in `folder`, to ask it questions."""
    return Trained(Run.open(Path(folder)))


def open_data(run: Run) -> Data:
    """The data that a run was trained on, read as it was then."""
    data = datasets.load(run.config.data["source"], **run.config.reading)
    if data.fingerprint != run.config.data["fingerprint"]:
        print(f"likeness: {data.source} has changed since {run.folder} was made; what is compared with it may be off.", file=sys.stderr)
    return data


@dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """Images that show themselves in a notebook.  x: (B, C, H, W) in [-1, 1]."""

    x: Tensor
    recipe: dict[str, Any] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.x.numpy().astype(dtype or "float32")

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"<{len(self)} images of {'x'.join(map(str, self.x.shape[1:]))}, {self.recipe}>"

    def save(self, target: str | Path) -> Path:
        """As one picture (.png), an array (.npy, uint8 (N, H, W, C)), or a file each (a folder); each with its recipe."""
        target = Path(target)
        if target.suffix not in ("", ".png", ".npy"):
            raise Refusal(f"{target}: images are written as one .png, as .npy, or into a folder.")
        store.make(target.parent if target.suffix else target)
        if target.suffix == ".png":
            pictures.write_png(target, pictures.grid(self.x), self.recipe)
        elif target.suffix == ".npy":
            self._save_array(target)
        else:
            self._save_files(target)
        return target

    def _levels(self) -> np.ndarray:
        return ((self.x.clamp(-1, 1) + 1) * 127.5).round().byte().numpy().transpose(0, 2, 3, 1)

    def _save_array(self, target: Path) -> None:
        try:
            np.save(target, self._levels())
        except OSError as error:
            raise store.trouble(error, target) from error

    def _save_files(self, target: Path) -> None:
        for number, picture in enumerate(self._levels(), self.recipe.get("first", 0)):
            plain = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
            pictures.write_png(target / f"{number:06d}.png", plain, dict(self.recipe, number=number))

    def _repr_png_(self) -> bytes:
        return pictures.png(pictures.grid(self.x), self.recipe)


@dataclass(frozen=True, eq=False, repr=False)
class Cards:
    """Score cards that show themselves as a table."""

    scores: list[Score]

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __getitem__(self, name: str) -> Score:
        """The model's own card of that name, such as "bits/dim"."""
        mine = {s.name: s for s in self.scores if s.of == "model"}
        if name not in mine:
            raise KeyError(f"no card is called {name!r}; there are: {', '.join(mine)}")
        return mine[name]

    def __repr__(self) -> str:
        return "\n".join(str(s) for s in self.scores)

    def _repr_html_(self) -> str:
        return report.cards(self.scores)


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
    def sample(self, n: int = 64, seed: int = 0, first: int = 0, label: int | None = None, **live: Any) -> Pictures:
        """Images number first ... first+n-1 of this seed: each is the same in whatever company it is drawn."""
        n, seed, first = _whole("n", n, 1), _whole("seed", seed, 0), _whole("first", first, 0)
        hint = "Its codes can be decoded: likeness latent" if "decode" in answers(self.model) else ""
        draw = ask(evaluate.tuned(self.model, **live), "sample", hint)
        numbers = torch.arange(first, first + n, device=engine.device())
        y, parts = self._labels(numbers, label), []
        for i in range(0, n, 64):
            rows = slice(i, min(i + 64, n))
            *_, x = draw(engine.sampling_noise(seed, first + i, rows.stop - i), None if y is None else y[rows])
            parts.append(x.cpu())
        recipe = dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, seed=seed, first=first, n=n, **live)
        return Pictures(torch.cat(parts), recipe if label is None else recipe | {"label": label})

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
    def reconstruct(self, x: Tensor | None = None, n: int = 16) -> tuple[Tensor, Tensor]:
        """(originals, what is left of them after the code), both (B, C, H, W) in [-1, 1]; held-out images unless x is given."""
        encode, decode = ask(self.model, "encode"), ask(self.model, "decode")
        x = self.data.take(self.data.held_out[: _whole("n", n, 1)]).x if x is None else x
        back = [decode(encode(part.to(engine.device()))).cpu() for part in x.split(64)]
        return x, torch.cat(back)

    def evaluate(self, n: int = 1000, seed: int = 0, network: str = "auto", **live: Any) -> Cards:
        """Every yardstick that applies; written to scores.json and report.html as well."""
        return Cards(list(self.scores(n, seed, network, **live)))

    def scores(self, n: int = 1000, seed: int = 0, network: str = "auto", **live: Any) -> Iterator[Score]:
        """The same one by one, as they are known."""
        n, seed, scores = _whole("n", n, 1), _whole("seed", seed, 0), list[Score]()
        for score in evaluate.evaluate(self.run, self.data, n, seed, network, **live):
            scores.append(score)
            yield score
        evaluate.save_scores(self.folder, scores)
        report.write(self.run, self.data, scores)

    def outlook(self, n: int = 1000, seed: int = 0, network: str = "auto", **live: Any) -> str:
        """What scoring it will take, by a short try."""
        return evaluate.prepare(self.run, self.data, _whole("n", n, 1), _whole("seed", seed, 0), network, **live).outlook()

    def _repr_html_(self) -> str:
        view = watch.view(self.run, self.data, 36)
        shown = b"" if view is None else Pictures(view.cpu(), dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, seed=0))._repr_png_()
        picture = f'<img alt="what the model shows" src="data:image/png;base64,{b64encode(shown).decode()}">' if shown else ""
        return f"<p><b>{escape(str(self.folder))}</b>: {escape(self.config.model)}, {self.run.seen:,} images seen</p>{picture}"

    def __repr__(self) -> str:
        return f"<{self.config.model} in {self.folder}, {self.run.seen:,} images seen; answers {', '.join(answers(self.model))}>"
