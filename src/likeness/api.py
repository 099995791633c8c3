"""likeness from Python, in three lines.

    run = likeness.train("vae", "digits", minutes=1)
    run.sample(64)
    run.evaluate()

The command line walks the same way: `begin` opens or makes a run, `work` trains it.
"""

from __future__ import annotations

import operator
import signal
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from . import data as datasets
from . import models
from .core import Completes, Condition, Model, Redraws, Refusal, answers, ask, final, label_of
from .data import Data
from .data.source import Source
from .inference import complete as completion
from .inference import edit as editing
from .inference import inputs, inversion, sampling
from .inference import receptive_field as receptive
from .inference import score as surprise
from .metrics.card import Score
from .parts.denoising import Denoiser
from .reports import terminal
from .reports.notebook import Cards, Pictures, Stage, staged
from .runs.run import AVERAGE, Config, Run
from .runs.source import parse
from .training import snapshots
from .training.session import Wishes, begin, work

if TYPE_CHECKING:
    from .evaluation import exam


def train(
    model: str,
    source: str | Path | Source,
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
    source, budget = parse(source), _budget(minutes, images)
    target = Path(folder) if folder else source.run_folder(model)
    wishes = Wishes.sort(models.load(model), options | {k: v for k, v in budget.items() if k == "images"})
    with (
        begin(model, source, target, wishes, budget) as (run, data),
        terminal.training(run, data, budget, quiet=not progress) as tick,
    ):
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


def _page(
    drawn: Tensor, draws: int, x: Tensor, page: Callable[[Tensor, Tensor], np.ndarray]
) -> np.ndarray | None:
    """Originals beside their draws, as far as all draws of an image are there."""
    rows = len(drawn) // draws
    return page(x[:rows], drawn[: rows * draws].unflatten(0, (rows, draws))) if rows else None


# A run to ask


def open(folder: str | Path, raw: bool = False) -> Trained:
    """The run in `folder`, to ask it questions: the EMA of its weights, or these without any average if
    `raw`."""
    return Trained(Run.open(Path(folder), raw))


def open_data(run: Run) -> Data:
    """The data that a run was trained on, read as it was then."""
    data = datasets.load(run.config.data["source"], **run.config.reading)
    if data.fingerprint != run.config.data["fingerprint"]:
        print(
            f"likeness: {data.source} has changed since {run.folder} was made; what is compared with it may "
            "be off.",
            file=sys.stderr,
        )
    return data


class Trained:
    """A run that answers.  `model`, `folder`, `config` and `log()` are those of the run."""

    def __init__(self, run: Run, data: Data | None = None):
        self.run, self._data = run, data
        self.model: Model = run.model
        self.folder: Path = run.folder
        self.config: Config = run.config
        self.log: Callable[[], list[dict[str, Any]]] = run.log
        self.drawn: exam.Drawn | None = None
        """the samples that were scored last"""

    @property
    def data(self) -> Data:
        self._data = self._data or open_data(self.run)
        return self._data

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        first: int = 0,
        label: int | None = None,
        beside: Trained | None = None,
        **live: Any,
    ) -> Pictures:
        """Images number first ... first+n-1 of this seed: each is the same in whatever company it is drawn.

        beside: a weaker run of the same denoising model, which guidance above 1 leads away from.
        """
        return final(self.sampling(n, seed, first, label, beside, **live)).pictures

    def sampling(
        self,
        n: int = 64,
        seed: int = 0,
        first: int = 0,
        label: int | None = None,
        beside: Trained | None = None,
        **live: Any,
    ) -> Iterator[Stage]:
        """The way there, ever better: the last stage has what sample() returns.  Raises Refusal at once."""
        n, seed, first = _whole("n", n, 1), _whole("seed", seed, 0), _whole("first", first, 0)
        hint = "Its codes can be decoded: likeness latent" if "decode" in answers(self.model) else ""
        model = sampling.tuned(self.model, **live)
        if beside is not None:
            model = self._beside(model, beside, live)
        ask(model, "sample", hint)
        y = self._conditions(first, n, label)
        recipe = self._recipe(seed=seed, first=first, n=n, **live) | (
            {} if beside is None else {"beside": beside.folder.name}
        )
        recipe |= {} if label is None else {"label": label}
        return staged(
            sampling.draw(model, y, n, seed, first, completion.AT_ONCE), lambda x: Pictures(x, recipe)
        )

    def _beside(self, model: Model, weak: Trained, live: dict[str, Any]) -> Model:
        if not isinstance(model, Denoiser):
            raise Refusal(
                f"{self.config.model} is not guided by another run: a ddpm, edm, flowmatching or meanflow "
                "is, of images or points, not of codes."
            )
        if live.get("guidance", model.guidance) == 1:
            raise Refusal(
                "beside a weaker run the guidance says how far to go away from it, and 1 is not at all; "
                "type --guidance 2."
            )
        return model.beside(cast(Denoiser, weak.model))

    def _conditions(self, first: int, n: int, label: int | None) -> Condition | None:
        """What images number first ... first+n-1 are of: their classes in turns, or class `label`; of texts
        and images, those of the data."""
        labels = self.config.spec.labels if "label" in self.model.takes else 0
        if label is not None and not labels:
            self._refuse_label(label)
        if label is not None and not 0 <= label < labels:
            raise Refusal(f"there is no label {label}: {self.folder} knows 0 to {labels - 1}.")
        beside = self.data if set(self.model.takes) - {"label"} else None
        return sampling.conditions(self.model, np.arange(first, first + n), beside, label=label)

    def _refuse_label(self, label: int) -> NoReturn:
        raise Refusal(
            f"{self.config.model} in {self.folder} draws of no class, so not of class {label}; leave the "
            "label out."
        )

    @torch.no_grad()
    def reconstruct(
        self, x: Tensor | None = None, n: int = 16, steps: int | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(originals, what is left of them after the code), both (B, C, H, W) in [-1, 1]; held-out images
        unless x is given.

        The code of a model that only decodes is searched for, from samples of `seed`, in 200 steps or as many
        as are said; one that encodes is refined by those that are said.
        """
        ask(self.model, "decode")
        y = None
        if x is None:
            held_out = self.data.take(self.data.held_out[: _whole("n", n, 1)])
            x, y = held_out.x, held_out.y
        z = inversion.codes(
            self.model, x, y, None if steps is None else _whole("steps", steps, 0), _whole("seed", seed, 0)
        )
        return x, inversion.decoded(self.model, z)

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
        """Images of which the upper `keep` of the rows is given, or the pixels `known`, bool (H, W), and the
        rest is drawn, `draws` times.

        Held-out images unless x (B, C, H, W) in [-1, 1] is given.  Draw k of image i is number i * draws + k
        of the result, and shown in row i, beside the original and what was given of it.  A class-conditional
        model is told the classes of held-out images; of your own it draws one for each, by how well it fits
        what is given, unless `label` is said.
        """
        return final(
            self.completing(x, n, keep, known=known, draws=draws, seed=seed, label=label, **live)
        ).pictures

    def completing(
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
    ) -> Iterator[Stage]:
        """The way there: the last stage has what complete() returns."""
        draws, spec = _whole("draws", draws, 1), self.config.spec
        model = sampling.tuned(self.model, **live)
        inputs.answer(model, "complete")
        asked = self._asked(x, n, seed, label)
        there = completion.upper(spec, keep) if known is None else completion.checked(known, spec)
        states = completion.completing(
            cast(Completes, model), asked.batch.x, asked.batch.y, there, draws, _whole("seed", seed, 0)
        )
        recipe = self._recipe(seed=seed, n=len(asked.batch.x), draws=draws, known=int(there.sum()), **live)
        return staged(
            states,
            lambda drawn: Pictures(
                drawn,
                recipe,
                _page(drawn, draws, asked.batch.x, lambda *both: completion.page(both[0], there, both[1])),
            ),
        )

    def edit(
        self,
        x: Tensor | None = None,
        n: int = 8,
        strength: float = 0.5,
        *,
        draws: int = 1,
        seed: int = 0,
        label: int | None = None,
        **live: Any,
    ) -> Pictures:
        """Images like x (B, C, H, W) in [-1, 1], or like held-out ones: noise is added for the share
        `strength` of the way, and taken away again.

        Draw k of image i is number i * draws + k of the result, and shown in row i beside the original.
        `label`: what they shall become, where the model is class-conditional; held-out images keep their
        class unless it is said.
        """
        return final(self.editing(x, n, strength, draws=draws, seed=seed, label=label, **live)).pictures

    def editing(
        self,
        x: Tensor | None = None,
        n: int = 8,
        strength: float = 0.5,
        *,
        draws: int = 1,
        seed: int = 0,
        label: int | None = None,
        **live: Any,
    ) -> Iterator[Stage]:
        """The way there, from the images themselves on: the last stage has what edit() returns."""
        draws, model = _whole("draws", draws, 1), sampling.tuned(self.model, **live)
        inputs.answer(model, "redraw")
        asked = self._asked(x, n, seed, None)
        y = asked.batch.y if label is None else self._conditions(0, len(asked.names), label)
        states = editing.redrawing(
            cast(Redraws, model), asked.batch.x, y, strength, draws, _whole("seed", seed, 0)
        )
        recipe = self._recipe(seed=seed, n=len(asked.batch.x), draws=draws, strength=strength, **live)
        return staged(
            states, lambda drawn: Pictures(drawn, recipe, _page(drawn, draws, asked.batch.x, editing.page))
        )

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
        """-log2 p of images in bits/dim, their rank among held-out images, and, where the model knows, where
        in each image its bits are.

        Held-out images unless x (B, C, H, W) in [-1, 1] is given.  `label`: the class of your own, for a
        class-conditional model.
        """
        model = sampling.tuned(self.model, **live)
        inputs.answer(model, "bits_per_dim")
        asked = self._asked(x, n, seed, label, names)
        if "label" in model.takes and label_of(asked.batch.y) is None:
            raise Refusal(
                f"{self.folder} judges an image of a class; say which, from 0 to "
                f"{self.config.spec.labels - 1}, as its label."
            )
        usual = inputs.held_out(self.data, surprise.REFERENCE, seed) if len(self.data.held_out) else None
        return surprise.score(model, asked, usual, maps, self._recipe(seed=seed, n=len(asked.names), **live))

    def field(self, n: int = 4, seed: int = 0) -> list[receptive.Field]:
        """Which pixels the predictions of two pixels depend on, and how much: the mean over n held-out
        images."""
        inputs.answer(self.model, "surprise")
        asked = inputs.held_out(self.data, _whole("n", n, 1), _whole("seed", seed, 0))
        return receptive.fields(self.model, asked.batch, f"{self.folder.name}: {self.config.model}")

    def _asked(
        self, x: Tensor | None, n: int, seed: int, label: int | None, names: Sequence[str] | None = None
    ) -> inputs.Inputs:
        """The images of a question: held-out ones of their own classes, or somebody's own, of class `label`
        or none."""
        y = None if label is None else self._conditions(0, 1 if x is None else len(x), label)
        if x is None and y is not None:
            raise Refusal(
                f"held-out images have classes of their own, so label {label} cannot be theirs; leave it "
                "out, or name images of your own."
            )
        if x is None:
            return inputs.held_out(self.data, _whole("n", n, 1), _whole("seed", seed, 0))
        return inputs.own(x, y, names, self.config.spec, seed, self.config.data.get("binarize", False))

    def _recipe(self, **said: Any) -> dict[str, Any]:
        weights = {} if self.run.weights == AVERAGE else {"weights": self.run.weights}
        return dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, **weights, **said)

    def evaluate(
        self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any
    ) -> Cards:
        """Every yardstick that applies; written to scores.json and report.html as well."""
        return Cards(list(self.scores(n, seed, network, parzen, **live)))

    def scores(
        self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any
    ) -> Iterator[Score]:
        """The same one by one, as they are known."""
        from .evaluation import exam
        from .evaluation.scores import save_scores
        from .reports import run_page

        n, seed, scores = _whole("n", n, 1), _whole("seed", seed, 0), list[Score]()
        asked = exam.prepare(self.run, self.data, n, seed, network, parzen, **live)
        for score in asked.cards():
            scores.append(score)
            yield score
        self.drawn = asked.drawn
        save_scores(self.folder, scores)
        run_page.write(self.run, self.data, scores, self.drawn)

    def outlook(
        self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any
    ) -> str:
        """What scoring it will take, by a short try."""
        from .evaluation import exam

        return exam.prepare(
            self.run, self.data, _whole("n", n, 1), _whole("seed", seed, 0), network, parzen, **live
        ).outlook()

    def _repr_html_(self) -> str:
        view = snapshots.view(self.run, self.data, 36)
        shown = (
            b""
            if view is None
            else Pictures(
                view.cpu(), dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, seed=0)
            )._repr_png_()
        )
        picture = (
            (f'<img alt="what the model shows" src="data:image/png;base64,{b64encode(shown).decode()}">')
            if shown
            else ""
        )
        return (
            f"<p><b>{escape(str(self.folder))}</b>: {escape(self.config.model)}, {self.run.seen:,} images "
            f"seen</p>{picture}"
        )

    def __repr__(self) -> str:
        return (
            f"<{self.config.method} in {self.folder}, {self.run.seen:,} images seen; answers "
            f"{', '.join(answers(self.model))}>"
        )
