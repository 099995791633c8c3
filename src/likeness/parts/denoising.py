"""What every model has in common that learns to take noise away.

A model says its schedule, its loss, and predict(): the image it expects in a noisy one.  From that alone
follow samples by any sampler, guidance, the code of an image and its decoding, the drawing of what is missing
or only roughly there, and a bound on the likelihood.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ..core import NONE, Batch, Bits, Condition, Model, Noise, Player, Refusal, label_of, option
from ..engine.muon import Muon, matrices
from . import bounds, classes, ode, samplers
from .conditioning import told_and_not
from .denoisers import network
from .likelihoods import Gaussian
from .samplers import State
from .schedules import Level, Schedule, over
from .text import Frozen

ROWS = 256
"""images whose bound is taken at a time"""
CHECKED = 8
"""images of a batch whose equation is solved once more, to a tenth of the tolerance, to tell the
error of all"""
WAY = 20
"""steps of a sampler, and of an edit, that is not told how many"""
WORDS: dict[str, Any] = dict(
    text=True,
    batch=16,
    rate=1e-3,
    schedule="cosine",
    images=300_000,
    ema=4_000,
    optimizer="adam",
    sampler="dpm2m",
)
"""what goes together to follow texts: many steps of few images (docs/words.md); measured with these alone"""
FAR, HIDDEN = 2.0, 1.5
"""of autoguidance, and the noise beside an image above which it is left out: there it would decide what is
drawn, and some things would be drawn more often than they should be"""
SAMPLERS = ("auto", "ancestral", "ddim", "heun", "dpm2m", "sde2m")


class Denoising(Model):
    """What needs no network: all that follows from an expected image."""

    conditional: bool = option(False, "p(x|y): learn what each class looks like, from labelled images")
    label_dropout: float = option(
        0.1,
        "probability of dropping the class, the text, or the other image of a pair, in training: for "
        "guidance",
        0.0,
        1.0,
    )
    sampler: str = option(
        "auto",
        "way from noise to an image; all but heun ask the network once a step, heun twice; auto is sde2m for "
        "images, by ddpm and flowmatching, and dpm2m for all else",
        choices=SAMPLERS,
        live=True,
    )
    steps: int = option(0, "of the sampler; 0 is 10 for sde2m, else 20", 0, 10_000, live=True)
    spacing: str = option(
        "auto",
        "of the steps: even by the model's own clock, or as in Karras et al. 2022; auto is karras from "
        "noise alone, but not for ancestral, else even",
        choices=("auto", "even", "karras"),
        live=True,
    )
    eta: float = option(0.0, "of ddim: 0 adds no noise, 1 is ancestral sampling", 0.0, 1.0, live=True)
    churn: float = option(
        0.0, "of heun: noise added on the way, S_churn of Karras et al. 2022", 0.0, 1000.0, live=True
    )
    guidance: float = option(
        1.0,
        "how far to follow class and text: 1 is the model itself, 0 ignores them, above 1 exaggerates",
        0.0,
        50.0,
        live=True,
    )
    repeats: int = option(
        8, "of complete: how often each step is taken back and done again", 1, 1000, live=True
    )
    if TYPE_CHECKING:
        schedule: Schedule

    weak: ClassVar[Denoising | None] = None
    """whom guidance leads away from, if not from the model's own idea of no class"""
    early: ClassVar[Denoising | None] = None
    """the model as it was at half of its training, where the run has kept it"""
    negative: ClassVar[Tensor | None] = None
    """int64 (1, T), a text that guidance leads away from in place of none"""
    drawing: ClassVar[str] = "karras"
    """what auto spacing is from noise alone: few steps are worth most where the noise is strong, and where it
    is nearly gone; ancestral sampling stays even, since in as many steps as there are it is to take each
    of them"""
    drawn_by: ClassVar[str] = "dpm2m"
    """the sampler that auto is for images of grey levels"""
    least: ClassVar[float] = 0.0
    """noise beside an image of grey levels from which auto spacing goes to the image in one step"""
    fewest: ClassVar[int] = 1
    """steps of all that is no drawing from noise: a model that draws in one step still walks the way for
    these"""
    clips = True
    """what is expected of an image is kept within what an image can be"""

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Class and text where they are asked for, and the other image of each pair where there is one: p(x |
        image) of "Palette", Saharia et al. 2022, and "SR3", Saharia et al. 2021."""
        parts = dict(label=self.conditional, tokens=self.reads, image=bool(self.spec.source[0]))
        return tuple(name for name, taken in parts.items() if taken)

    @property
    def reads(self) -> bool:
        """Whether it is told texts."""
        return False

    # What a model gives

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """The expected x_0 of noisy images (B, C, H, W) at times t (B,) as the network has it; y (B,), of
        which `labels` is no class, and a middle grey image none, or None."""
        raise NotImplementedError

    # What follows from it

    def condition(self, batch: Batch) -> Condition | None:
        """What the network is told of a batch in training: of some examples nothing."""
        if (y := self.told_of(batch)) is None:
            return None
        return y.dropped(batch.noise.uniform() < self.label_dropout)

    def denoise(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """E[x_0 | x_t, y] of images (B, C, H, W) at times t (B,), guided; within what an image can be."""
        return self.kept(self.led(lambda model, y, x_t, t: model.predict(x_t, t, y), y, x_t, t))

    def aim(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """What drawing takes for x_0 of images (B, C, H, W), all at one time, t (B,): denoise(), or, where
        there is little noise, led away from the model's own early self: autoguidance (Karras et al.
        2024, eq. 2, by a model that was trained for half as long) within an interval (Kynkäänniemi et al.,
        "Applying Guidance in a Limited Interval", 2024)."""
        far = self.far
        if far == 1 or self.schedule.level(float(t[0])).ratio > HIDDEN:
            return self.denoise(x_t, t, y)
        assert self.early is not None
        return self.kept(torch.lerp(self.early.predict(x_t, t, y), self.predict(x_t, t, y), far))

    @property
    def far(self) -> float:
        """How far autoguidance leads; nowhere beside other guidance.  Raises Refusal where it is asked for
        and there is no early self."""
        asked = getattr(self, "autoguidance", 0.0)
        if self.early is None:
            if asked in (0, 1):
                return 1.0
            raise Refusal(
                f"--autoguidance {asked:g} leads away from what a run is at half of its training, and this "
                "one has not kept that; leave it out, or name a weaker run with --beside and set --guidance."
            )
        if self.weak is not None or self.guidance != 1:
            return 1.0
        return asked or (FAR if self.spec.levels and not {"tokens", "image"} & {*self.takes} else 1.0)

    def kept(self, x_0: Tensor) -> Tensor:
        return x_0.clamp(-1, 1) if self.spec.levels and self.clips else x_0

    def led(self, predict: Callable[..., Tensor], y: Condition | None, *inputs: Tensor) -> Tensor:
        """What the model says of noisy images that are told y, predict(model, y, *inputs), drawn on from what
        it says without: classifier-free guidance in the convention w = 1 for none, D(x) + w (D(x|y) - D(x))
        (Ho & Salimans 2022, eq. 6, with w - 1 for their w).  Both come of one pass of twice the rows.
        inputs: (B, ...) each.

        Where there is a weaker model, it stands for D(x), told the class as well: autoguidance, Karras et al.
        2024, eq. 2. The law that it draws from is not p(x) (p(x|y)/p(x))^w: of Gaussians it has the standard
        deviation s^w, and the other law has not.
        """
        if self.plain(y):
            return predict(self, y, *inputs)
        if self.weak is not None:
            weak = predict(self.weak, y, *inputs)
            return torch.lerp(weak, predict(self, y, *inputs), self.guidance) if self.guidance else weak
        assert y is not None
        both = told_and_not(y, negative=self.negative)
        if not self.guidance:
            return predict(self, both[len(y) :], *inputs)
        told, nothing = predict(self, both, *(torch.cat([x, x]) for x in inputs)).chunk(2)
        return torch.lerp(nothing, told, self.guidance)

    def plain(self, y: Condition | None) -> bool:
        """Whether nothing is guided.  Raises Refusal where guidance has nothing to begin from."""
        if self.guidance == 1 or (self.weak is None and self.takes and y is None):
            return True
        if self.weak is None and not (self.takes and self.label_dropout):
            what = "an image" if "image" in self.takes else "a text" if self.reads else "a class"
            why = (
                (f"was trained with --label-dropout 0, so that it has no idea of no {what.split()[1]}")
                if self.takes
                else "knows no classes and no texts"
            )
            raise Refusal(
                f"--guidance {self.guidance:g} leads away from what is drawn without {what}, and this "
                f"model {why}; name a weaker run with --beside."
            )
        return False

    def against(self, negative: Tensor) -> Denoising:
        """The same model, guided away from a text, int64 (1, T), in place of no text."""
        twin = copy.copy(self)
        twin.__dict__["negative"] = negative
        return twin

    def beside(self, weak: Denoising) -> Denoising:
        """The same model, guided away from what a weaker one of its kind says: trained for less time, or
        smaller."""
        if (
            type(weak) is not type(self)
            or weak.spec.shape != self.spec.shape
            or weak.class_count() != self.class_count()
            or weak.spec.source != self.spec.source
            or weak.takes != self.takes
            or (
                self.reads
                and (weak.spec.vocabulary, weak.spec.tokens) != (self.spec.vocabulary, self.spec.tokens)
            )
            or weak.clock() != self.clock()
        ):
            name = type(self).__name__.lower()
            raise Refusal(
                f"{name} is guided by another {name} of the same images, classes and noise, trained for "
                "less time or smaller; name one."
            )
        twin = copy.copy(self)
        twin.__dict__["weak"] = weak
        return twin

    def class_count(self) -> int:
        return self.spec.labels if self.conditional else 0

    def clock(self) -> list[Level]:
        return self.schedule.levels(8)

    def levels(self, steps: int | None = None) -> list[Level]:
        """What a sampler walks through, from noise alone to the image."""
        steps = steps or self.steps or (10 if self.rule == "sde2m" else WAY)
        if self.spacing != "auto":
            return self.schedule.levels(steps, self.spacing)
        spacing = "even" if self.rule == "ancestral" else self.drawing
        least = self.least if self.spec.levels else 0.0
        return self.schedule.levels(steps, spacing, least=least)

    def way(self) -> list[Level]:
        """The same, for what begins at an image."""
        return self.schedule.levels(
            max(self.steps or WAY, self.fewest), "even" if self.spacing == "auto" else self.spacing
        )

    @property
    def rule(self) -> str:
        """The sampler: what is set, or what auto is.  A law that is narrow, such as points on a ring, needs
        more steps with noise than without; an image that a network half knows needs fewer."""
        if self.sampler != "auto":
            return self.sampler
        return self.drawn_by if self.spec.levels else "dpm2m"

    def walk(
        self, levels: Sequence[Level], x: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[State]:
        """From x (B, C, H, W), as it is at the first of the levels, to the last, by the sampler
        that is set."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.aim(x_t, t, y)

        if self.rule == "ddim":
            return samplers.ddim(denoise, levels, x, noise, self.eta)
        if self.rule == "heun":
            return samplers.heun(denoise, levels, x, noise, self.churn, self.schedule)
        plain = dict(dpm2m=samplers.dpm2m, sde2m=samplers.sde2m, ancestral=samplers.ancestral)
        return plain[self.rule](denoise, levels, x, noise)

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Yields what the image is expected to be after each step.  A conditional model draws the class where
        none is said; one of pairs needs the other image, y.image."""
        y = self.drawn_for(noise, y)
        levels = self.levels()
        for state in self.walk(levels, samplers.start(levels, noise, *self.spec.shape), noise, y):
            yield state.x if state.at.sigma == 0 else state.x_0

    def drawn_for(self, noise: Noise, y: Condition | None) -> Condition | None:
        """What a sample is one of: y, with a class drawn where the model asks for one and there is none.
        Raises Refusal where the other image is missing."""
        image, label = self.image_of(y), label_of(y)
        if self.conditional and label is None:
            label = classes.drawn(noise, self.spec)
        return self.of(label, self.text_of(y), image)

    def text_of(self, y: Condition | None) -> Tensor | None:
        """The text of each, where the model reads it; none is as good as any, p(x)."""
        return y.tokens if self.reads and y is not None else None

    @staticmethod
    def of(label: Tensor | None, tokens: Tensor | None, image: Tensor | None) -> Condition | None:
        return None if label is tokens is image is None else Condition(label, tokens, image)

    def image_of(self, y: Condition | None) -> Tensor | None:
        """The other image of each, which a model of pairs must be told; None of any other model."""
        if "image" not in self.takes:
            return None
        if y is None or y.image is None:
            name, (channels, size) = type(self).__name__.lower(), self.spec.source
            raise Refusal(
                f"{name}: this one learnt from pairs, and answers about an image beside another, of "
                f"{channels}x{size}x{size}, which is missing; type likeness translate RUN IMAGES, or give "
                "Condition(image=...)."
            )
        return y.image

    def named(self, y: Condition | None) -> Condition | None:
        """What an edit is told: class and text if there are any, and the other image, which must be
        there."""
        return self.of(label_of(y) if self.conditional else None, self.text_of(y), self.image_of(y))

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        """Draw what is not known of images x (B, C, H, W), wherever it lies; known: bool (H, W).  See
        samplers.inpaint."""
        x, known, y = x.to(noise.device), known.to(noise.device).bool(), self.named(y)
        for state in samplers.inpaint(
            lambda x_t, t: self.denoise(x_t, t, y), self.way(), x, known, noise, self.repeats
        ):
            yield torch.where(known, x, state.x_0)

    @torch.no_grad()
    def redraw(
        self, x: Tensor, strength: float, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        """Images like x (B, C, H, W), from where the share `strength` of the steps still lies ahead: SDEdit,
        Meng et al. 2022.  At 0 it yields nothing."""
        levels = self.way()
        if strength == 0:
            return
        share = max(1, round(strength * (len(levels) - 1)))
        ahead = levels[-1 - share :]
        y = self.named(y)
        x_t = ahead[0].alpha * x.to(noise.device) + ahead[0].sigma * noise.normal(*x.shape[1:])
        for state in self.walk(ahead, x_t, noise, y):
            yield state.x if state.at.sigma == 0 else state.x_0

    def told_of(self, batch: Batch) -> Condition | None:
        """What the images of a batch are judged beside: classes, texts and other images, none unless the
        model takes them, and then classes and images must be there."""
        label = classes.required(type(self).__name__.lower(), label_of(batch.y)) if self.conditional else None
        return self.of(label, self.text_of(batch.y), self.image_of(batch.y))


class Denoiser(Denoising):
    """By a network; what is differentiable and nearly exact has a code and a likelihood as well."""

    keeps_early: ClassVar[bool] = True
    """whether a run keeps what it is at half of its training, for autoguidance"""
    least = 0.02
    """two and a half levels of 256: below, steps gain nothing"""

    net: str = option(
        "auto",
        "kind of network; auto is mlp for points and codes of one pixel, patches for images of 16 pixels "
        "and more, else unet, the one that can be exported",
        choices=("auto", "patches", "unet", "dit", "mlp"),
    )
    scale: float = option(
        1.0, "size of the network: channels grow with it, and time with its square or more", 0.25, 16.0
    )
    dropout: float = option(0.0, "share of activations left out while training", 0.0, 0.9)
    text: bool = option(False, "p(x|text): learn to draw what captions say, from captioned images")
    reader: str = option(
        "relative",
        "what reads captions: relative or absolute places of words, a small transformer each that learns "
        "with the model; or transformers:FOLDER, an encoder of that library, which stays as it is",
    )
    augment: float = option(
        0.0,
        "most noise that is added in training to the other image, so that one which another model drew will "
        "do: 0.2 for a cascade",
        0.0,
        1.0,
    )
    optimizer: str = option(
        "muon",
        "what moves the weights: muon, in whose steps all directions of a matrix weigh the same, or adam",
        choices=("muon", "adam"),
    )
    autoguidance: float = option(
        0.0,
        "how far drawing leads away from the run's own weights at half of its training: 1 is not at all; 0 "
        "is 2 for images, if they are told no text and no other image",
        0.0,
        50.0,
        live=True,
    )
    evaluations: int = option(
        16, "noise levels at which bits_per_dim asks the network about an image", 1, 100_000, live=True
    )
    likelihood: str = option(
        "bound",
        "bits_per_dim by the variational bound, or by the probability-flow equation",
        choices=("bound", "ode"),
        live=True,
    )
    tolerance: float = option(1e-4, "of a step of that equation's solution", 1e-9, 1.0, live=True)

    def make(self, outputs: int = 1, times: int = 1) -> nn.Module:
        """The network, with `outputs` numbers for each of the image's; for build()."""
        spec, name = self.spec, type(self).__name__.lower()
        if spec.symbols:
            raise Refusal(
                f"{name}: it learns numbers, and these are the names of codes; take those of an ae or a "
                "vae, or train pixelcnn on these."
            )
        if self.text and not spec.vocabulary:
            raise Refusal(
                f"{name}: --text asks for images with captions, and these have none; write them beside the "
                "images, into metadata.jsonl or .txt files (docs/data.md), or leave it out."
            )
        self.p = Gaussian(spec.levels) if spec.levels > 1 else None
        labels = classes.several(name, spec) if self.conditional else 0
        numbers = outputs * spec.channels
        return network(
            self.net, spec, self.scale, numbers, labels, times, self.dropout, self.text, self.reader
        )

    def players(self) -> tuple[Player, ...]:
        muon = partial(Muon, hidden=matrices(self))
        return (Player("model", self, self.loss, optimizer=muon if self.optimizer == "muon" else Adam),)

    @property
    def reads(self) -> bool:
        return self.text

    def knows(self, words: Sequence[str]) -> None:
        for part in self.modules():
            if isinstance(part, Frozen):
                part.words = tuple(words)

    def condition(self, batch: Batch) -> Condition | None:
        return self.blurred(super().condition(batch), batch.noise)

    def blurred(self, y: Condition | None, noise: Noise) -> Condition | None:
        """The other image with noise of any strength up to `augment` (Ho et al., "Cascaded Diffusion Models",
        2022, section 4)."""
        if y is None or y.image is None or not self.augment:
            return y
        strength = self.augment * over(noise.uniform(), y.image)
        return Condition(y.label, y.tokens, y.image + strength * noise.normal(*y.image.shape[1:]))

    # The noise that an image comes from

    @property
    def latent(self) -> int:
        """Numbers of a code: as many as the image has."""
        return self.spec.dims

    @torch.no_grad()
    def encode(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """The noise, (B, dims) and near N(0, I), that the probability-flow equation leads from to x (B, C, H,
        W): Heun's rule, backwards.

        Conditional: (B, dims + labels), and behind it the class, or zeros where none was said.  It is the
        noise that leads there where no text and no other image is told: a code has no place for them.
        """
        y = self.class_alone(y)
        up = [level for level in reversed(self.way()) if level.sigma]
        x_t = up[0].alpha * x
        for state in (
            samplers.heun(lambda x, t: self.predict(x, t, y), up, x_t, Noise([])) if len(up) > 1 else ()
        ):
            x_t = state.x
        z = x_t.flatten(1) / up[-1].sigma
        if not self.conditional:
            return z
        return (
            classes.beside(z, label, self.spec.labels)
            if (label := label_of(y)) is not None
            else torch.cat([z, z.new_zeros(len(z), self.spec.labels)], 1)
        )

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The image (B, C, H, W) that such noise leads to."""
        self.class_alone(None)
        name, labels = type(self).__name__.lower(), self.spec.labels if self.conditional else 0
        code = classes.measured(name, z, self.latent, labels)
        y = None
        if labels:
            classes_part = code[:, self.latent :]
            y = Condition(torch.where(classes_part.amax(1) > 0, classes_part.argmax(1), NONE))
        levels = self.way()
        x = levels[0].sigma * code[:, : self.latent].view(-1, *self.spec.shape)
        for state in samplers.heun(lambda x, t: self.predict(x, t, y), levels, x, Noise([])):
            x = state.x
        return self.kept(x)

    def class_alone(self, y: Condition | None) -> Condition | None:
        """y but for its text and its image.  Raises Refusal of a model that never learnt to do without."""
        if not {"image", "tokens"} & set(self.takes):
            return y
        if not self.label_dropout:
            what = ("the other image of a pair", "image") if "image" in self.takes else ("a text", "text")
            raise Refusal(
                f"{type(self).__name__.lower()}: a code has no place for {what[0]}, and this model was "
                f"trained with --label-dropout 0, so that it has no idea of no {what[1]}; leave it out."
            )
        return None if y is None else y.only(("label",))

    # How likely an image is

    def terms(self, batch: Batch) -> bounds.Terms:
        """Of a bound on -log P(x), or -log P(x|y), of each image: without guidance, whatever samples are
        drawn with."""
        grid, y = self.on_a_grid(), self.told_of(batch)
        return bounds.bound(
            lambda x_t, t: self.predict(x_t, t, y).clamp(-1, 1),
            self.schedule,
            grid,
            batch.x,
            batch.noise,
            self.evaluations,
        )

    def density(self, batch: Batch, tolerance: float = 0.0) -> ode.Density:
        """By the probability-flow equation: log P of images on their grid by Hutchinson's estimate; of points
        log p, exactly but for the tolerance, which is the model's own unless another one is given."""
        y, probes = self.told_of(batch), 0 if self.spec.points else 1
        return ode.nats(
            self.predict,
            self.schedule,
            batch.x,
            batch.noise,
            self.spec.levels,
            probes=probes,
            tol=tolerance or self.tolerance,
            y=y,
        )

    def on_a_grid(self) -> Gaussian:
        if self.p is None:
            name = type(self).__name__.lower()
            raise Refusal(
                f"{name}: these are numbers without a grid, of which there are densities and no "
                "probabilities; it has bits of images."
            )
        return self.p

    @torch.no_grad()
    def bits_per_dim(self, batch: Batch) -> Bits:
        """Of points their density.  Of images an unbiased estimate, from as many noise levels as
        `evaluations`, of an upper bound (parts/bounds.py); or one by the probability-flow equation
        (parts/ode.py), which is that of samples drawn without noise on the way.  Its error is that of the
        solution, found on a few images, and no part of it is chance."""
        flow, unit = self.likelihood == "ode" or self.spec.points, self.spec.dims * math.log(2)
        nats = torch.cat(
            [-self.density(part).log_p if flow else self.terms(part).total for part in batch.split(ROWS)]
        )
        if not flow:
            return Bits((nats / unit).float(), "upper bound")
        few = batch[:CHECKED]
        error = ode.unsolved(lambda tol: -self.density(few[:], tol).log_p, nats[:CHECKED], self.tolerance)
        return Bits((nats / unit).float(), "estimate", error / unit)

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """How the bound divides: what is told on the way, and what at the end (Ho et al. 2020, section 4.3);
        what chance an estimate has."""
        if self.p is not None and self.likelihood == "ode":
            error = self.density(batch[:ROWS]).error / (self.spec.dims * math.log(2))
            yield "standard error of an image's bits/dim", float(error.square().mean().sqrt()), ""
        if self.p is not None:
            parts = [self.terms(part) for part in batch.split(ROWS)]
            yield "rate in nats", float(torch.cat([part.prior + part.diffusion for part in parts]).mean()), ""
            yield "distortion in nats", float(torch.cat([part.reconstruction for part in parts]).mean()), ""
