"""The vocabulary of the whole program, on one page.

    Spec      what one example of the data is
    Batch     some examples, what is known about each, and the randomness to treat them with
    Loss      what a model wants to be small, and the terms it consists of
    Player    one player's move in a training step: whose weights, which loss
    Training  how long and how fast
    Model     a method from one paper: weights, and answers to questions
    Noise     randomness in which image i depends on seed i alone
    Bits      bits per dimension, and how they are to be read
    Refusal   an error that is a lesson: what was asked, why not, what to type instead

An image is a float tensor (batch, channels, height, width) in [-1, 1] wherever it crosses a
function of this program.  A model that needs anything else (256 levels, logits, latents)
converts inside its own file.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, dataclass_transform, runtime_checkable

import numpy as np
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .noise import Noise

T = TypeVar("T")


class Refusal(Exception):
    """The request cannot be met as asked.  The text is one sentence for a person; `code` is the exit status."""

    code: ClassVar[int] = 2


class Diverged(Refusal):
    code = 3


class BadData(Refusal):
    code = 65


class Offline(Refusal):
    code = 69


class DiskTrouble(Refusal):
    code = 74


class Busy(Refusal):
    code = 75


class NotAllowed(Refusal):
    code = 77


@dataclass(frozen=True)
class Spec:
    """What one example is.  A model learns nothing else about the data set."""

    channels: int
    size: int
    """height and width in pixels; 1 for points, whose coordinates are the channels"""
    labels: int = 0
    """number of classes in y, or 0"""
    levels: int = 256
    """brightness values that a pixel can take, evenly spaced: 256, 2 for black-and-white data, 17 for scikit-learn's digits; 0 for
    any number, as in the codes of an autoencoder"""
    symbols: bool = False
    """the levels are names, as in the codes of a VQ-VAE: that one lies beside another means nothing"""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.size, self.size)

    @property
    def dims(self) -> int:
        return math.prod(self.shape)

    @property
    def points(self) -> bool:
        """Each example is a point in the plane, (2, 1, 1): neither brightness nor neighbours mean anything."""
        return self.shape == (2, 1, 1) and not self.levels


@dataclass(frozen=True)
class Batch:
    x: Tensor
    y: Tensor | None
    noise: Noise
    """all the randomness that a loss or a bound may use: then a batch may be split, or shared among processes"""
    step: int = 0
    """of a training: batches that came before.  What changes in its course is a function of this or of `seen`"""
    seen: int = 0
    """of a training: images that came before"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the examples, each with its own randomness."""
        return Batch(self.x[rows], None if self.y is None else self.y[rows], self.noise[rows], self.step, self.seen)

    def split(self, size: int) -> list[Batch]:
        return [self[i : i + size] for i in range(0, len(self), size)]


class Loss(NamedTuple):
    total: Tensor
    terms: dict[str, Tensor] = {}


@dataclass(frozen=True)
class Player:
    """One player's move: minimise `loss` over the weights of `module`, all others held fixed."""

    name: str
    module: nn.Module
    loss: Callable[[Batch], Loss]
    steps: int = 1
    rate: float = 1.0
    """multiplies the training's rate, for papers in which the players learn at different speeds"""
    optimizer: Callable[..., Optimizer] = Adam
    after: Callable[[], None] | None = None
    """what follows each of its steps and has no gradient, such as clipping weights"""


def option(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: Sequence[str] | None = None,
    live: bool = False,
    file: bool = False,
) -> Any:
    """Declare an option once: flag, slider, line of config.json and row of the docs all come from here.

    A live option may be turned on a trained model; any other is fixed when the model is built.  One that names a file is kept
    as its whole path, so that the run finds it from any folder.
    """
    return field(default=default, metadata=dict(help=help, low=low, high=high, choices=choices, live=live, file=file))


def check_options(owner: str, thing: Any) -> None:
    """Refuse a value of the wrong kind or out of its range."""
    for f in fields(thing):
        if "help" not in f.metadata:
            continue
        value, low, high, choices = getattr(thing, f.name), *(f.metadata[k] for k in ("low", "high", "choices"))
        if isinstance(value, np.generic):  # what a notebook holds
            value = value.item()
            object.__setattr__(thing, f.name, value)
        flag = f"{owner}: --{f.name.replace('_', '-')} {value!r}"
        if choices and value not in choices:
            raise Refusal(f"{flag} is none of: {', '.join(choices)}.")
        kinds = (int, float) if isinstance(f.default, float) else (type(f.default),)
        if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(f.default, bool)):
            raise Refusal(f"{flag} should be {'a number' if float in kinds else type(f.default).__name__}.")
        if isinstance(value, (int, float)) and not (value >= (-math.inf if low is None else low) and value <= (math.inf if high is None else high)):
            raise Refusal(f"{flag} is outside of what makes sense, {low} to {high}.")


@dataclass(frozen=True)
class Training:
    """How long and how fast; a model's own values are those of its paper, scaled to a laptop."""

    batch: int = option(64, "images a step, over all processes", 1, 1_000_000)
    rate: float = option(1e-3, "learning rate", 0.0, 10.0)
    images: int = option(200_000, "images to see before it ends", 0, 10**13)
    warmup: int = option(2_000, "images over which the rate rises to its value", 0, 10**12)
    schedule: str = option("constant", "what the rate does after that", choices=("constant", "cosine"))
    ema: int = option(10_000, "images after which a weight has faded to one half in the running average", 0, 10**12)
    micro: int = option(0, "images at once, where a batch does not fit into memory; 0 is all of it", 0, 1_000_000)
    clip: float = option(1.0, "largest norm of a player's gradient; 0 is no limit", 0.0, 1e9)
    seed: int = option(0, "of weights, order and noise", 0, 2**31 - 1)
    precision: str = option("auto", "auto is bf16 where that is faster on this machine, else fp32", choices=("auto", "fp32", "bf16"))
    mirror: bool = option(False, "half of the images of a batch are mirrored: right for photographs, wrong for digits and writing")
    compile: bool = option(False, "compile the networks: a slow start; small ones get no faster")

    def __post_init__(self) -> None:
        check_options("training", self)


@dataclass_transform(kw_only_default=True)
@dataclass(eq=False, repr=False)
class Model(nn.Module):
    """A method from one paper.

    To add one, put a file into models/: declare options, build() the networks, say what the loss
    is, then answer those of the questions below that the method can answer.
    """

    spec: Spec
    defaults: ClassVar[Training] = Training()
    """how long and how fast, unless the user says otherwise"""
    conditional: ClassVar[bool] = False
    """sample() and the loss use labels y"""
    whole_batch = False
    """the loss compares the examples of a batch, which therefore must not be split"""

    def __init_subclass__(cls) -> None:
        """Make a dataclass of it, so that an instance holds its own config."""
        for name, kind in vars(cls).get("__annotations__", {}).items():
            if not hasattr(cls, name) and "ClassVar" not in str(kind):
                raise TypeError(f"{cls.__name__}.{name} has no default.  The body of a model declares options; weights and buffers are made in build()")
        dataclass(eq=False, repr=False, kw_only=True)(cls)

    def __post_init__(self) -> None:
        super().__init__()
        check_options(type(self).__name__.lower(), self)
        self.build()
        self.whole_batch = self.whole_batch or any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules())

    def build(self) -> None:
        """Make the networks as attributes; refuse a Spec or options that do not go together."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Have at hand what training needs and answers do not, before anything is made or moved; raises Refusal."""

    def loss(self, batch: Batch) -> Loss:
        raise NotImplementedError

    def players(self) -> tuple[Player, ...]:
        return (Player("model", self, self.loss),)

    def tallies(self) -> tuple[Tensor, ...]:
        """Sums over the batch that loss() has added up for after_step(): those of several processes are made one first."""
        return ()

    def after_step(self) -> None:
        """Whatever moves without a gradient: a teacher's weights, a pool of past images."""

    def options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spec"}


class Bits(NamedTuple):
    """-log2 P(image) / dims of each image, where an image is a point of the grid of spec.levels values."""

    values: Tensor
    """(B,)"""
    kind: Literal["exact", "upper bound", "estimate"]
    error: float | None = None
    """bits/dim by which single values are off, root mean square, where an equation was solved to a tolerance; None where none was"""


# The questions.  A model answers one by having the method; nothing else declares it.


@runtime_checkable
class Samples(Protocol):
    def sample(self, noise: Noise, y: Tensor | None = None) -> Iterator[Tensor]:
        """Yield ever better versions of len(noise) images; the last one counts."""
        ...


@runtime_checkable
class Scores(Protocol):
    def bits_per_dim(self, batch: Batch) -> Bits: ...


@runtime_checkable
class Completes(Protocol):
    def complete(self, x: Tensor, known: Tensor, noise: Noise, y: Tensor | None = None) -> Iterator[Tensor]:
        """Draw the pixels of x (B, C, H, W) that are not known, bool (H, W), again and again; the last version counts."""
        ...


@runtime_checkable
class Surprises(Protocol):
    """A model that knows where in an image its bits are spent."""

    def surprise(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p of each sub-pixel, given those that come before it: nats (B, C, H, W), which add up to those of the image."""
        ...

    def entropy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """What the model expects that to be, before it sees the sub-pixel."""
        ...


@runtime_checkable
class Encodes(Protocol):
    def encode(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Decodes(Protocol):
    latent: int

    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class Compresses(Protocol):
    """An autoencoder whose code is an image of another Spec, which any other model may learn (within.py).

    One that knows -log p(x|z) answers distortion(x, z) as well, nats (B,): then the two together have a likelihood.
    """

    @property
    def code(self) -> Spec:
        """What compress() makes of an image."""
        ...

    def compress(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, *code.shape); on the grid of code.levels, if these are not 0."""
        ...

    def expand(self, z: Tensor) -> Tensor:
        """And back, from a drawn code just as well."""
        ...


@runtime_checkable
class Denoises(Protocol):
    def denoise(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The image expected in a noisy one, (B, C, H, W) both, at times t (B,) by the model's own clock (parts/schedules.py)."""
        ...


@runtime_checkable
class Redraws(Protocol):
    def redraw(self, x: Tensor, strength: float, noise: Noise, y: Tensor | None = None) -> Iterator[Tensor]:
        """Draw images like x (B, C, H, W): x itself at strength 0, images that have nothing to do with it at 1; the last version counts."""
        ...


@runtime_checkable
class Translates(Protocol):
    def translate(self, x: Tensor, back: bool = False) -> Tensor: ...


@runtime_checkable
class Classifies(Protocol):
    def classify(self, x: Tensor) -> Tensor: ...


QUESTIONS: dict[str, type] = {
    "sample": Samples,
    "bits_per_dim": Scores,
    "complete": Completes,
    "surprise": Surprises,
    "encode": Encodes,
    "decode": Decodes,
    "compress": Compresses,
    "denoise": Denoises,
    "redraw": Redraws,
    "translate": Translates,
    "classify": Classifies,
}


def answers(model: object) -> tuple[str, ...]:
    """The questions that this model answers, by name."""
    return tuple(name for name, question in QUESTIONS.items() if isinstance(model, question))


def final(states: Iterable[T]) -> T:
    """The last state that a generator yields.  No other is kept, as `*_, x = states` would: a thousand steps of a batch are gigabytes."""
    (state,) = deque(states, maxlen=1)
    return state


def ask(model: Any, question: str, hint: str = "") -> Any:
    """The method that answers `question`, or a refusal that says what the model does answer."""
    if isinstance(model, QUESTIONS[question]):
        return getattr(model, question)
    raise Refusal(f"{type(model).__name__.lower()} does not answer {question}; it answers: {', '.join(answers(model))}.{hint and '  ' + hint}")
