"""likeness from Python, in three lines.

    run = likeness.train("vae", "digits", minutes=1)
    run.sample(64)
    run.evaluate()

The command line walks the same way: `begin` opens or makes a run, `work` trains it.
"""

from __future__ import annotations

import copy
import operator
import signal
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from . import data as datasets
from . import engine, figures, models
from .backbones import hub
from .core import Completes, Condition, Model, Redraws, Refusal, answers, ask, final, label_of
from .data import Data, photos, user_images
from .data.source import Source
from .inference import complete as completion
from .inference import diffusion_process, inputs, inversion, latent_space, nearest, sampling
from .inference import edit as editing
from .inference import imagic as imagery
from .inference import imagine as imagination
from .inference import receptive_field as receptive
from .inference import score as surprise
from .inference import trace as tracing
from .inference import translate as translation
from .inference import walk as walks
from .inference.translate import Translation
from .metrics.card import Score
from .parts.denoising import Denoiser
from .reports import terminal
from .reports.notebook import Cards, Neighbours, Page, Partly, Pictures, Stage, staged
from .runs import labels, origin
from .runs.run import AVERAGE, Config, Run
from .runs.source import parse
from .training import log_writers, snapshots
from .training.session import Wishes, begin, work

if TYPE_CHECKING:
    from .data.check import Check
    from .evaluation import exam
    from .inference import manifold
    from .maps.single import Mapped
    from .reports.framed import Frame
    from .reports.looks import Look
    from .reports.paintings import Painting


def train(
    model: str,
    source: str | Path | Source,
    folder: str | Path | None = None,
    *,
    minutes: float | None = None,
    images: int | None = None,
    progress: bool = True,
    device: str | None = None,
    log: Sequence[str] = (),
    data: str | Path | None = None,
    **options: Any,
) -> Trained:
    """Train `model` on `source`, or go on where its run folder is.

    data: where the images of `source` are now, if that is a run whose codes are learnt.
    device: cpu, cuda, cuda:1, mps; a GPU of CUDA where there is one, else the CPU, unless it is named.
    options: any of the model's, of Training (batch, rate, seed ...) and of Reading (size, colour, binarize);
    preset: the name of several that go together (`likeness train MODEL --help` lists them).
    log: "csv", "tensorboard" or both, written into the run folder beside log.jsonl.
    Ctrl-C saves, and is then raised as KeyboardInterrupt.
    """
    source, budget, log = parse(source), _budget(minutes, images), (log,) if isinstance(log, str) else log
    log_writers.refuse(log)
    target = Path(folder or source.run_folder(model, options.get("task", ""), options.get("to", "")))
    typed = options | {k: v for k, v in budget.items() if k == "images"}
    wishes = Wishes.sort(models.load(model), typed, source)
    _compute_on(device)
    with (
        begin(model, source, target, wishes, budget, str(data or "")) as (run, images_of),
        terminal.training(run, images_of, budget, quiet=not progress) as tick,
    ):
        number = work(run, images_of, tick, log, **budget)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)
    return Trained(Run.open(target), images_of)


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


def _compute_on(device: str | None) -> None:
    if device is not None:
        engine.choose(device)


def open(
    folder: str | Path, raw: bool = False, data: str | Path | None = None, device: str | None = None
) -> Trained:
    """The run in `folder`, to ask it questions: the EMA of its weights, or these without any average if
    `raw`.

    data: where its data are now, if they have moved.  Where they are the same ones the run remembers it.
    device: as in train().
    """
    _compute_on(device)
    run = Trained(Run.open(Path(folder), raw))
    if data is not None:
        run.locate(data)
    return run


def open_data(run: Run, place: str | Path = "", to: str | Path = "") -> Data:
    """The data that a run was trained on, read as it was then; from `place`, and the second domain from `to`,
    if they are there now, which the run then remembers."""
    data = origin.load(run.config, run.folder, str(place), str(to))
    if why := origin.changed(run.config, run.folder, data):
        print(f"likeness: {why}; what is compared with it may be off.", file=sys.stderr)
    elif place or to:
        run.config = origin.remember(run.config, run.folder, data)
    return data.usable(run.model.takes)


def devices() -> tuple[str, ...]:
    """What this machine can compute on, by the names that `device` takes."""
    return engine.there()


def check(source: str | Path, **reading: Any) -> Check:
    """What is in the data, what was skipped and why, and which images are copies.  reading: size, colour ...,
    as in train()."""
    from .data.check import check as inspect

    return inspect(str(source), datasets.Reading(**reading))


def bayes(
    source: str | Path,
    folder: str | Path | None = None,
    *,
    minutes: float = 8.0,
    seed: int = 0,
    k: int = 1,
    **reading: Any,
) -> Cards:
    """Classes by Bayes' rule and by a network: accuracy by labels, calibration, images of another kind; with
    bayes.html in the folder.  k: importance samples of log p(x|y)."""
    from .studies import bayes as study

    named, budget = parse(source), _budget(minutes, None)
    place, images = Path(folder or named.run_folder("bayes")), datasets.load(named.anywhere, **reading)
    steps = study.run(images, place, budget["minutes"], seed, _whole("k", k, 1))
    return Cards([at for at in steps if isinstance(at, Score)])


def style(
    content: str | Path | Tensor,
    styles: str | Path | Tensor | Sequence[str | Path | Tensor],
    *,
    size: int = 512,
    weights: str = "",
    device: str | None = None,
    arbitrary: str = "",
    strength: float | None = None,
    encoders: str = "",
    decoders: str = "",
    **options: Any,
) -> Pictures:
    """The content in the style of one or several paintings (Gatys et al. 2016).

    arbitrary: adain, wct or a run of adain, without optimisation, with files of encoders and decoders and a
    strength of 0 to 1 [1]; of the options it takes shares and colour.  Images are files, or tensors (3, H, W)
    in [-1, 1].  options: the flags of `likeness style`, as inference.style.How has them: content_weight,
    strokes, colour, shares, steps, network ...  inference.style.style() yields every state on the way.
    """
    from .inference import style as transfer

    _compute_on(device)
    several = [styles] if isinstance(styles, (str, Path, Tensor)) else list(styles)
    try:
        how = transfer.How(**options)
    except TypeError as why:
        raise Refusal(f"style: {why}; likeness style --help lists what there is.") from None
    if not arbitrary and (encoders or decoders or strength is not None):
        raise Refusal("style: strength, encoders and decoders are of arbitrary, and do nothing without it.")
    if arbitrary and (idle := sorted({*options, *(["weights"] if weights else [])} - {"shares", "colour"})):
        raise Refusal(
            f"style: {', '.join(idle)}: of the optimisation, and nothing to arbitrary; leave out one."
        )
    images = [_image(one, side) for one, side in [(content, size), *((s, 4096) for s in several)]]
    x, *paintings = (image.to(engine.device()) for image in images)
    if arbitrary:
        from .inference import arbitrary as at_once

        share = 1.0 if strength is None else strength
        nets = at_once.opened(arbitrary, encoders, decoders)
        made = at_once.stylise(nets, x, paintings, how.shares, share, how.colour)
        known = dict(arbitrary=arbitrary, strength=share, shares=how.shares, colour=how.colour, size=size)
        return Pictures(made.cpu(), known | dict(source=nets.source))
    state = final(transfer.style(how.open(weights), x, paintings, how))
    recipe = vars(how) | dict(loss=state.loss, gradients=state.step, size=size)
    return Pictures(state.x.cpu(), recipe)


def _image(source: str | Path | Tensor, side: int) -> Tensor:
    """(1, 3, H, W), of a file or a tensor, its long side at most `side`."""
    from .data import user_images
    from .inference.style import with_long_side

    if not isinstance(source, Tensor):
        return user_images.whole(source, side).x
    x = source.float()[None] if source.ndim == 3 else source.float()
    if x.ndim != 4 or len(x) != 1 or x.shape[1] not in (1, 3):
        raise Refusal(f"style: an image is a tensor (3, H, W), and this one is {tuple(source.shape)}.")
    x = x.expand(-1, 3, -1, -1)
    return with_long_side(x, side) if max(x.shape[2:]) > side else x.contiguous()


def look(
    image: Tensor | str | Path | None = None,
    network: str | Path = "resnet50",
    what: str = "saliency",
    **how: Any,
) -> Look:
    """Look into a network with the flags of `likeness look`: see reports.looks.look."""
    from .reports import looks

    return looks.look(image, network, what, **how)


def map(source: str | Path, network: str | Path = "", layer: str = "", **how: Any) -> Mapped:
    """A map of images with the flags of `likeness map`: see maps.single.map."""
    from .maps import single

    return single.map(source, network, layer, **how)


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

    def locate(self, place: str | Path = "", to: str | Path = "") -> None:
        """Say where its data are now; to: the second domain, of a run that learns two."""
        self._data = open_data(self.run, place, to)
        self.config = self.run.config

    @cached_property
    def space(self) -> walks.Space:
        """Its codes, to walk among.  Raises Refusal where it decodes none."""
        return walks.Space(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes by their number; numbers, where it has written down no names."""
        return labels.names(self.config)

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        first: int = 0,
        label: str | int | None = None,
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
        label: str | int | None = None,
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
        recipe |= self.named_class(label)
        return staged(
            sampling.draw(model, y, n, seed, first, completion.AT_ONCE), lambda x: Pictures(x, recipe)
        )

    def imagine(
        self,
        text: str | Sequence[str],
        n: int = 4,
        seed: int = 0,
        *,
        negative: str = "",
        grid: Mapping[str, Sequence[Any]] | None = None,
        label: str | int | None = None,
        upscale: Trained | Sequence[Trained] = (),
        **live: Any,
    ) -> Pictures:
        """n images of a text, or of each of several: image i of a seed is the same whatever it is drawn with.

        negative: a text to lead away from.  grid: values of one or two options, as dict(guidance=[1, 2, 4],
        steps=[10, 50]): n images of each text for each, of the same noise.  upscale: runs that make what is
        drawn larger, one after another, by the text as well; each with its own options.  What is unknown or
        cut off of a text is noted.
        """
        return final(
            self.imagining(text, n, seed, negative=negative, grid=grid, label=label, upscale=upscale, **live)
        ).pictures

    def imagining(
        self,
        text: str | Sequence[str],
        n: int = 4,
        seed: int = 0,
        *,
        negative: str = "",
        grid: Mapping[str, Sequence[Any]] | None = None,
        label: str | int | None = None,
        upscale: Trained | Sequence[Trained] = (),
        **live: Any,
    ) -> Iterator[Stage]:
        """The way there, ever better.  Raises Refusal at once."""
        imagination.refuse(self.model)
        texts, known = [text] if isinstance(text, str) else list(text), self.config.words
        if not texts:
            raise Refusal("no text was named; an empty one, '', draws as if nothing were asked for.")
        read = [imagination.read(one, known) for one in texts]
        away = imagination.read(negative, known)
        for note in dict.fromkeys(
            note for one in (*read, away) if one.text or one is not away for note in one.notes
        ):
            terminal.say(f"note: {note}")
        asked = imagination.Asked(
            tuple(one.text for one in read),
            _whole("n", n, 1),
            _whole("seed", seed, 0),
            away.text,
            None if grid is None else imagination.checked(grid),
        )
        runs = [upscale] if isinstance(upscale, Trained) else list(upscale)
        stages = [imagination.Upscaler(run.folder.name, run.model, run.config.words) for run in runs]
        states = imagination.states(self.model, known, asked, live, self.class_of(label), stages)
        facts = dict(negative=away.text) if negative else {}
        recipe = self._recipe(texts=list(asked.texts), seed=seed, n=n, **facts, **live) | self.named_class(
            label
        )
        recipe |= {} if grid is None else dict(grid=asked.grid)
        recipe |= {"upscale": [stage.name for stage in stages]} if stages else {}
        recipe |= (
            {"unknown": unknown} if (unknown := sorted({w for one in read for w in one.unknown})) else {}
        )
        return staged(states, lambda x: Pictures(x, recipe, imagination.page(x, asked)))

    def imagic(
        self,
        image: str | Path | Tensor,
        text: str,
        strengths: Sequence[float] = imagery.STRENGTHS,
        seed: int = 0,
        *,
        folder: str | Path | None = None,
        how: imagery.How | None = None,
        notify: Callable[[str, float], None] = lambda part, share: None,
        **live: Any,
    ) -> Pictures:
        """An image that becomes what a text says, at each of these strengths: 0 is the image, 1 all of it.

        image: a file, or (C, H, W) in [-1, 1].  folder: where what is learnt of image and text is kept, and
        taken from if it is there (RUN/imagic/... unless it is named): then another strength costs a sample.
        Unless it is set, guidance is 1, by which the image is learnt.
        """
        how = how or imagery.How(seed=_whole("seed", seed, 0))
        plan = self.imagic_plan(image, text, how, folder)
        if (done := imagery.kept(self.model, plan.place, plan.facts)) is None:
            for at in imagery.editing(self.model, plan.x, plan.tokens, how):
                notify(at.part, at.share)
            done = at.edit
            assert done is not None
            imagery.keep(done, plan.place, plan.facts)
        return self.imagic_shown(plan, done, strengths, seed, **live)

    def imagic_plan(
        self, image: str | Path | Tensor, text: str, how: imagery.How, folder: str | Path | None = None
    ) -> imagery.Plan:
        """What imagic() is to learn, and where that is kept.  Raises Refusal."""
        x = self.imagic_image(image)
        imagination.refuse(self.model)
        read = imagination.read(text, self.config.words)
        for note in read.notes:
            terminal.say(f"note: {note}")
        tokens = torch.from_numpy(self.config.words.tokens([read.text]).astype(np.int64))
        facts = imagery.identity(x, read.text, self.run.seen, how)
        name = f"{facts['image'][:8]}-{imagery.slug(read.text)}"
        place = Path(folder) if folder else self.folder / "imagic" / name
        return imagery.Plan(x, read.text, tokens, how, facts, place)

    def imagic_image(self, image: str | Path | Tensor) -> Tensor:
        """The image as the model sees it, (1, C, H, W)."""
        x = image[None] if isinstance(image, Tensor) else self._one_image(image)
        return inputs.own(x, None, None, self.config.spec, 0).batch.x

    def imagic_shown(
        self, plan: imagery.Plan, done: imagery.Edit, strengths: Sequence[float], seed: int = 0, **live: Any
    ) -> Pictures:
        """What has been learnt, drawn at each of these strengths: a sample each."""
        live = {"guidance": 1.0} | live
        drawn = torch.cat([done.at(s, 1, seed, **live) for s in strengths])
        page = figures.sheet(
            [figures.pixels(t[None]) for t in (plan.x[0], *drawn)],
            ["image", *(f"strength {s:g}" for s in strengths)],
            [imagination.shortened(plan.text)],
        )
        kept = dict(kept=str(plan.place), **vars(plan.how))
        recipe = self._recipe(text=plan.text, strengths=list(strengths), **kept, **live)
        return Pictures(drawn, recipe, page)

    def _one_image(self, path: str | Path) -> Tensor:
        own = user_images.images(str(path), self.config.spec, self.config.data, 1)
        for note in own.notes:
            terminal.say(f"note: {note}")
        return own.x

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

    def _conditions(self, first: int, n: int, label: str | int | None) -> Condition | None:
        """What images number first ... first+n-1 are of: their classes in turns, or class `label`; of texts
        and images, those of the data."""
        beside = self.data if set(self.model.spec.parts(self.model.takes)) - {"label"} else None
        return sampling.conditions(
            self.model, np.arange(first, first + n), beside, label=self.class_of(label)
        )

    def class_of(self, label: str | int | None) -> int | None:
        """The number of the class of this name or number; None for None.  Raises Refusal where there is none
        such, or the model is not class-conditional."""
        if label is None:
            return None
        if "label" not in self.model.takes or not self.config.spec.labels:
            raise Refusal(
                f"the {self.config.model} in {self.folder} is not class-conditional, so that it has no class "
                f"{label}; leave --label out."
            )
        return labels.number(self.config, label, self.folder)

    def named_class(self, label: str | int | None) -> dict[str, Any]:
        """What a recipe says of a class: its name and its number."""
        return labels.named(self.config, self.class_of(label))

    def reconstruct(
        self, x: Tensor | None = None, n: int = 16, steps: int | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(originals, what is left of them after the code), both (B, C, H, W) in [-1, 1]; held-out images
        unless x is given.

        The code of a model that only decodes is searched for, from samples of `seed`, in 200 steps or as many
        as are said; one that encodes is refined by those that are said.
        """
        ask(self.model, "decode")
        x, y = self._held_out(x, n)
        return x, final(self._searching(x, y, steps, seed)).pictures.x

    def reconstructing(
        self, x: Tensor | None = None, n: int = 16, steps: int | None = None, seed: int = 0
    ) -> Iterator[Stage]:
        """The way there: what the best codes so far decode to, below the originals.  The last stage has the
        reconstructions of reconstruct(); it is the only one where the model encodes and no steps are asked
        for.  Raises Refusal at once."""
        ask(self.model, "decode")
        return self._searching(*self._held_out(x, n), steps, seed)

    def _held_out(self, x: Tensor | None, n: int) -> tuple[Tensor, Condition | None]:
        """One's own images, or the first n held-out ones with what they are of."""
        if x is not None:
            return x, None
        batch = self.data.take(self.data.held_out[: _whole("n", n, 1)])
        return batch.x, batch.y

    def _searching(self, x: Tensor, y: Condition | None, steps: int | None, seed: int) -> Iterator[Stage]:
        seed, alone = _whole("seed", seed, 0), steps is None and "encode" in answers(self.model)
        steps = inversion.STEPS if steps is None else _whole("steps", steps, 0)
        recipe = self._recipe(n=len(x), seed=seed, steps=0 if alone else steps)

        def shown(back: Tensor) -> Pictures:
            first = x[: len(back)]
            page = figures.shown(back, first) if self.config.spec.points else figures.strips(first, back)
            return Pictures(back, recipe, page)

        def stage(share: float, z: Tensor) -> Stage:
            return Stage(Partly(share, lambda: inversion.decoded(self.model, z)), shown)

        if alone:
            return iter([stage(1.0, inversion.codes(self.model, x, y))])
        return (stage(*at) for at in inversion.search(self.model, x, y, steps, seed))

    def complete(
        self,
        x: Tensor | None = None,
        n: int = 16,
        keep: float = 0.5,
        *,
        known: Tensor | None = None,
        draws: int = 1,
        seed: int = 0,
        label: str | int | None = None,
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
        label: str | int | None = None,
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
        recipe |= self.named_class(label)
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
        label: str | int | None = None,
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
        label: str | int | None = None,
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
        recipe |= self.named_class(label)
        return staged(
            states, lambda drawn: Pictures(drawn, recipe, _page(drawn, draws, asked.batch.x, editing.page))
        )

    def paint(
        self,
        strokes: Sequence[Any],
        image: str | Path | Tensor | None = None,
        *,
        n: int = 8,
        steps: int = 0,
        strength: float = 0.6,
        seed: int = 0,
        pick: int = 1,
        weight: Mapping[str, float] | None = None,
        notify: Callable[[str, float], None] = lambda part, share: None,
        **live: Any,
    ) -> Painting:
        """n images in which the strokes are met, best first; beginning at an image, a file or (C, H, W) in
        [-1, 1], or at nothing.

        strokes: as they are typed ("colour:red:0.5,0.4:0.1"), as a file has them, or
        inference.strokes.Stroke. weight: of colour, sketch, warp, erase, keep, rest, smooth and realism.  The
        edit of a file that has more pixels than the model is carried over to it: that of candidate `pick`.
        """
        from .inference import manifold
        from .reports.paintings import Painting

        how = manifold.How(
            _whole("n", n, 1),
            _whole("steps", steps, 0),
            strength,
            _whole("seed", seed, 0),
            _whole("pick", pick, 1),
        )
        for at in self.painting(strokes, image, how, weight, **live):
            if isinstance(at, manifold.State):
                notify(manifold.FAMILIES[manifold.family(self.model)], at.share)
        assert isinstance(at, Painting)
        for note in at.painted.notes:
            terminal.say(f"note: {note}")
        return at

    def paintable(self, image: str | Path | Tensor) -> Tensor:
        """An image, a file or (C, H, W) in [-1, 1], as this run sees it: (C, H, W)."""
        x = image[None] if isinstance(image, Tensor) else self._one_image(image)
        return inputs.own(x, None, None, self.config.spec, 0).batch.x[0]

    def encoder(self) -> Callable[[Tensor], Tensor | None] | None:
        """What teach_encoder() taught to these very weights, if it did."""
        from .inference import taught

        return cast(Any, taught.kept(self.model, self.folder, taught.facts(self.model, self.run.seen)))

    def painting(
        self,
        strokes: Sequence[Any],
        image: str | Path | Tensor | None,
        how: manifold.How,
        weight: Mapping[str, float] | None = None,
        **live: Any,
    ) -> Iterator[manifold.State | Painting]:
        """paint(), with every state on the way there."""
        from dataclasses import replace

        from .inference import constraints, manifold
        from .inference import strokes as drawing
        from .reports.paintings import Painting, carried, described

        asked, spec = drawing.some(strokes), self.config.spec
        model = sampling.tuned(self.model, **live)
        kind = manifold.family(model)
        start = None if image is None else self.paintable(image)
        wanted = constraints.compiled(asked, spec.channels, spec.size, start, dict(weight or {}))
        guess = self.encoder() if kind == "codes" else None
        for at in manifold.painting(model, wanted, how, guess):
            if isinstance(at, manifold.State):
                yield at
        assert isinstance(at, manifold.Painted)
        began = at.back if at.back is not None else at.film[0] if at.start is None else at.start
        at = replace(at, notes=at.notes + constraints.unmet(wanted, began.cpu(), at.x[at.pick].cpu()))
        photo, applied = carried(at, image, spec)
        facts = dict(n=how.n, steps=how.steps, strength=how.strength, seed=how.seed)
        recipe = self._recipe(strokes=described(asked), **facts) | live
        recipe |= dict(pick=how.pick) if how.pick > 1 else {}
        recipe |= dict(weight=dict(weight)) if weight else {}
        recipe |= dict(image=str(image)) if isinstance(image, str | Path) else {}
        recipe |= dict(family=kind, **{name: float(term[0]) for name, term in at.terms.items()})
        recipe |= {} if at.wrong is None else dict(projection_rms=round(at.wrong, 2))
        source = str(image) if isinstance(image, str | Path) else ""
        yield Painting(at, tuple(asked), recipe, photo, applied, source)

    def teach_encoder(
        self,
        steps: int = 1000,
        seed: int = 0,
        notify: Callable[[str, float], None] = lambda part, share: None,
    ) -> dict[str, Any]:
        """Teach an encoder to a run that decodes and has none, and keep it in the run's folder: paint()
        begins the search for the code of an image where it points."""
        from .inference import taught

        steps, squares = _whole("steps", steps, 1), list[float]()
        for at in taught.teach(self.model, self.data, steps, _whole("seed", seed, 0)):
            squares.append(at.off)
            notify("the encoder", at.step / steps)
        path = taught.keep(at.net, self.folder, taught.facts(self.model, self.run.seen))
        last = squares[-max(1, len(squares) // 10) :]
        return self._recipe(steps=steps, seed=seed, off=127.5 * float(np.mean(last)) ** 0.5, path=str(path))

    def score(
        self,
        x: Tensor | None = None,
        n: int = 16,
        *,
        maps: bool = True,
        seed: int = 0,
        label: str | int | None = None,
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
                f"{self.folder} judges an image of a class, so say which as its label; "
                f"{labels.listed(self.config)}"
            )
        usual = inputs.held_out(self.data, surprise.REFERENCE, seed) if len(self.data.held_out) else None
        return surprise.score(
            model,
            asked,
            usual,
            maps,
            self._recipe(seed=seed, n=len(asked.names), **live) | self.named_class(label),
        )

    def translate(
        self,
        images: str | Path | Sequence[str | Path] | Tensor,
        out: str | Path | None = None,
        *,
        back: bool = False,
        size: int = 0,
        mask: str | Path | None = None,
        seed: int = 0,
        **live: Any,
    ) -> list[Translation]:
        """Photos through a model from image to image, at their own size and aspect; see translating()."""
        return list(self.translating(images, out, back=back, size=size, mask=mask, seed=seed, **live))

    def translating(
        self,
        images: str | Path | Sequence[str | Path] | Tensor,
        out: str | Path | None = None,
        *,
        back: bool = False,
        size: int = 0,
        mask: str | Path | None = None,
        seed: int = 0,
        **live: Any,
    ) -> Iterator[Translation]:
        """The same one by one: each photo of these files, folders and archives, or of a tensor (B, C, H, W)
        in [-1, 1], with what the model was given of it and what it made of that.

        out: a folder, into which each is written before the next begins; nothing is overwritten.  back: from
        B to A.  size: of the short side, to which photos are scaled first.  mask: the hole, of a run with
        task inpaint.  What cannot be read is noted and left out.  Raises Refusal at once where the run
        cannot.
        """
        able, known = self.translator(images, back=back, size=size, mask=mask, seed=seed, **live)
        folder = None if out is None else translation.outside(Path(out), known)
        return self._translations(translation.through(able, known, self.translation_recipe(**live), folder))

    def _translations(self, steps: Iterator[Any]) -> Iterator[Translation]:
        for at in steps:
            if isinstance(at, Translation):
                yield at
            elif isinstance(at, translation.Done):
                terminal.say(f"note: {at.name} is there already: {at.path}")
            else:
                terminal.say(f"note: {at.name} is skipped ({at.reason}{at.detail and ': '}{at.detail})")

    def translator(
        self, images: Any, *, back: bool, size: int, mask: str | Path | None, seed: int, **live: Any
    ) -> tuple[translation.Translator, list[photos.Found]]:
        """The model, ready to translate, and the photos that were named."""
        how = translation.How(
            back, _whole("size", size, 0), None if mask is None else Path(mask), _whole("seed", seed, 0)
        )
        settings = self.config.reading
        able = translation.Translator(sampling.tuned(self.model, **live), settings, how)
        if isinstance(images, Tensor):
            return able, photos.of_tensor(images)
        return able, photos.find([images] if isinstance(images, str | Path) else images, settings)

    def translation_recipe(self, **facts: Any) -> dict[str, Any]:
        """What the recipe of a translation says of the run and of how it was asked; another run of the same
        name has other weights."""
        return self._recipe(weights_sha256=hub.digest(self.run.model.state_dict()), **facts)

    def field(self, n: int = 4, seed: int = 0) -> list[receptive.Field]:
        """Which pixels the predictions of two pixels depend on, and how much: the mean over n held-out
        images."""
        inputs.answer(self.model, "surprise")
        asked = inputs.held_out(self.data, _whole("n", n, 1), _whole("seed", seed, 0))
        return receptive.fields(self.model, asked.batch, f"{self.folder.name}: {self.config.model}")

    def encode(self, x: Tensor | None = None, n: int = 16) -> Tensor:
        """Codes (B, latent) of images (B, C, H, W) in [-1, 1], or of n held-out ones; searched for where the
        model only decodes."""
        if "encode" not in answers(self.model):
            inputs.answer(self.model, "decode")
        x, y = self._held_out(x, n)
        with torch.no_grad():
            return inversion.codes(self.model, x, y)

    def decode(self, z: Tensor) -> Pictures:
        """Images of codes (B, latent)."""
        inputs.answer(self.model, "decode")
        with torch.no_grad():
            return Pictures(inversion.decoded(self.model, z), self._recipe(n=len(z)))

    def latent(
        self, picture: str = "random", n: int | None = None, seed: int = 0, groups: Sequence[Tensor] = ()
    ) -> Page:
        """A picture of the code: random, interpolation, traversal, plane or arithmetic (of three groups of
        images)."""
        return Page(*latent_space.page([(self.run, self.data)], picture, n, seed, groups))

    def walk(
        self,
        kind: str = "plane",
        codes: Sequence[str | int] = (),
        *,
        label: str | int | None = None,
        **how: Any,
    ) -> Pictures:
        """Images of chosen codes: images, plane, slide, path or sum.  codes: numbers of samples, 3:17 of
        another seed, or files of images.

        how: n, seed, at, step, along, way, loop, less, plus, strength, as inference.walk.Walk has them.
        """
        try:
            asked = walks.Walk(kind, tuple(str(code) for code in codes), **how)
        except TypeError as why:
            raise Refusal(f"walk: {why}; likeness walk --help lists what there is.") from None
        x = self.space.images(asked.made(self.space, self.class_of(label)))
        page = figures.grid(x, asked.number) if kind == "plane" else None
        return Pictures(x, self._recipe(**asked.facts()) | self.named_class(label), page)

    def trace(
        self,
        x: Tensor | None = None,
        *,
        seed: int = 0,
        number: int = 0,
        label: str | int | None = None,
        known: int = 0,
        of: int = 0,
        fix: Mapping[int, int] | None = None,
        heat: Mapping[int, float] | None = None,
        until: int | None = None,
        branch: Sequence[tuple[int, int]] = (),
        **live: Any,
    ) -> tracing.Traced:
        """One image and the way to it: sample `number` of the seed; or of x (1, C, H, W) in [-1, 1], of which
        the first `known` pixels are kept, completion `number`, which has the class of sample `of`.

        Of a model that draws pixel by pixel: fix, the level of sub-pixels by their number in the order of
        drawing; heat, another temperature from such a number on; until, how many are drawn.  Of a denoiser:
        branch, steps after which the noise is drawn anew, and the seeds of that.
        """
        return tracing.trace(
            self,
            x,
            _whole("seed", seed, 0),
            _whole("number", number, 0),
            label,
            _whole("known", known, 0),
            _whole("of", of, 0),
            fix or {},
            heat or {},
            until,
            branch,
            live,
        )

    def diffuse(
        self,
        picture: str = "reverse",
        n: int | None = None,
        seed: int = 0,
        x: Tensor | None = None,
        **live: Any,
    ) -> Page:
        """A picture of noise that is added and taken away: forward, reverse, schedule, rate or distortion."""
        run = copy.copy(self.run)
        run.model = sampling.tuned(self.model, **live)
        return Page(*diffusion_process.page([(run, self.data)], picture, n, seed, x, **live))

    def nearest(self, drawn: Pictures) -> Page:
        """Samples, and at the end of each row, framed, the training image that is nearest to its last one."""
        result = nearest.beside(drawn.x, self.data, self.config.training.mirror)
        return Page(result.page, dict(drawn.recipe, nearest=result.row, distance=result.distance))

    def features(
        self, source: str | Path | None = None, layer: str = "code", out: str | Path | None = None, **how: Any
    ) -> np.ndarray:
        """What a layer says of every image of `source`, or of the run's own data: float32 (images, values),
        mapped from the file `out` (RUN/features.npy unless it is named), with their names beside it.

        how: pool, size, interpolation, precision, as the command line has them.
        """
        from .features import extract, opening

        target = self.folder / "features.npy" if out is None else Path(out)
        source = self.data.place if source is None else source
        net = opening.load(str(self.folder), "", [layer])
        work = extract.extract(net, str(source), [layer], target, **how)
        for _ in work:
            pass
        return cast(np.ndarray, np.load(work.output.paths[layer], mmap_mode="r"))

    def map(
        self, source: str | Path | None = None, method: str | None = None, layer: str = "", **how: Any
    ) -> Mapped:
        """What resembles what by the code of this run or another layer, among images of `source` or of its
        own data.

        method: tsne, umap or pca.  how: perplexity, perplexities, clusters, starts, into, n, seed ..., as in
        likeness.map().  save("map.html") writes the page to walk about in.
        """
        return map(*self._seen_by(source, layer), method=method, **dict(folder=self.folder / "maps") | how)

    def _seen_by(self, source: str | Path | None, layer: str) -> tuple[str | Path, str | Path, str]:
        """What a map is of, by which network and layer: of the run's own data and code the run itself."""
        if source is None and not layer:
            return self.folder, "", ""
        return self.folder if source is None else source, self.folder, layer or "code"

    def neighbours(
        self, query: str | Path, source: str | Path | None = None, k: int = 8, layer: str = "", **how: Any
    ) -> Neighbours:
        """The k images of `source`, or of the run's own data, whose codes, or values in another layer, are
        nearest to those of an image: a file, or the name or the row of one of them.

        how: pool, n, seed ..., as in likeness.map().
        """
        from .maps.neighbours import page, search
        from .maps.single import collected

        among = collected(*self._seen_by(source, layer), **dict(folder=self.folder / "maps") | how)
        rows, far, asked, usual = search(str(query), among, _whole("k", k, 1), str(self.folder))
        if asked is None or among.x is None:
            raise Refusal(f"{query} has no picture among {among.source}; name images.")
        image = page(asked, among, rows, far, str(query))
        recipe = dict(picture="neighbours", query=str(query), data=among.source, features=among.seen, k=k)
        own = tuple(int(among.rows[i]) for i in rows)
        return Neighbours(image, recipe, tuple(among.names[i] for i in rows), own, tuple(far), usual)

    def look(
        self,
        x: Tensor | str | Path | None = None,
        of: int | str | None = None,
        seed: int = 0,
        what: str = "saliency",
        **how: Any,
    ) -> Look:
        """Look into this run: with `what` saliency (where in an image its class depends), fool, class, invert
        or dream; the first three ask for a run that classifies.

        x: an image (C, H, W) in [-1, 1], or a file.  of: a class, by name or number.  how: layer, steps ...,
        as in likeness.look().
        """
        return look(x, self.folder, what, of=of, seed=_whole("seed", seed, 0), **how)

    def export(
        self, file: str | Path | None = None, part: str | None = None, label: str | int | None = None
    ) -> Path:
        """For other programs, by the ending of `file`: .onnx, one part of the model (decode, denoise,
        classify or encode); .md, the model card alone; none, a ddpm as a folder for diffusers (RUN/diffusers
        unless it is named), which draws class `label`."""
        from .reports import exporting

        target = self.folder / "diffusers" if file is None else Path(file)
        exporting.export(self, target, part, self.class_of(label))
        return target

    def detect(
        self, folder: str | Path, *others: Trained, n: int = 2000, error: float = 0.05, seed: int = 0
    ) -> Cards:
        """How well a detector, trained into `folder`, tells images of this run and of others from real
        ones."""
        from .evaluation.scores import load_scores
        from .studies import detector, real_and_generated

        makers = real_and_generated.makers([(one.run, {}) for one in (self, *others)], self.data)
        for _ in detector.learn(makers, self.data, Path(folder), _whole("n", n, 1), error=error, seed=seed):
            pass
        return Cards(load_scores(Path(folder)))

    def _asked(
        self, x: Tensor | None, n: int, seed: int, label: str | int | None, names: Sequence[str] | None = None
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

    def _recipe(self, **facts: Any) -> dict[str, Any]:
        weights = {} if self.run.weights == AVERAGE else {"weights": self.run.weights}
        return dict(run=self.folder.name, model=self.config.model, seen=self.run.seen, **weights, **facts)

    def evaluate(
        self, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any
    ) -> Cards:
        """Every yardstick that applies; written to scores.json and report.html as well."""
        return Cards(list(self.scores(n, seed, network, parzen, **live)))

    def scores(
        self,
        n: int = 1000,
        seed: int = 0,
        network: str = "auto",
        parzen: bool = False,
        notify: Callable[[str, float], None] | None = None,
        **live: Any,
    ) -> Iterator[Score]:
        """The same one by one, as they are known.  notify(part, share) is called with how far it is."""
        from .evaluation import exam
        from .evaluation.kept import Watch
        from .evaluation.scores import save_scores
        from .reports import run_page

        n, seed, scores = _whole("n", n, 1), _whole("seed", seed, 0), list[Score]()
        asked = exam.prepare(self.run, self.data, n, seed, network, parzen, Watch(notify), **live)
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

    def studio(self, height: int = 800) -> Frame:
        """The studio in a frame of a notebook, with this run open.  It needs likeness[studio]."""
        from .reports.framed import Frame

        return Frame(self.folder.parent, self.folder.name, height=height)

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
