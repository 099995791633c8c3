"""The questions that a model may answer.  It answers one by having the method; nothing else declares it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from .batch import Batch, Spec
from .condition import Condition
from .errors import Refusal
from .noise import Noise

T = TypeVar("T")


class Bits(NamedTuple):
    """-log2 P(image) / dims of each image, where an image is a point of the grid of spec.levels values."""

    values: Tensor
    """(B,)"""
    kind: Literal["exact", "upper bound", "estimate"]
    error: float | None = None
    """bits/dim by which single values are off, root mean square, where an equation was solved to a tolerance;
    None where none was"""


@runtime_checkable
class Samples(Protocol):
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Yield ever better versions of len(noise) images; the last one counts."""
        ...


@runtime_checkable
class Scores(Protocol):
    def bits_per_dim(self, batch: Batch) -> Bits: ...


@runtime_checkable
class Completes(Protocol):
    def complete(
        self, x: Tensor, known: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        """Draw the pixels of x (B, C, H, W) that are not known, bool (H, W), again and again; the last
        version counts."""
        ...


@runtime_checkable
class Surprises(Protocol):
    """A model that knows where in an image its bits are spent."""

    def surprise(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """-log p of each sub-pixel, given those that come before it: nats (B, C, H, W), which add up to those
        of the image."""
        ...

    def entropy(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """What the model expects that to be, before it sees the sub-pixel."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A model that draws one sub-pixel after another, and may be asked before each."""

    def predictive(self, x: Tensor, known: int = 0, y: Condition | None = None) -> Iterator[Tensor]:
        """Yield log p(x_i = each level | x_1 ... x_{i-1}) but for a constant, (B, levels), of the sub-pixels
        of x (B, C, H, W) in the order of rows, columns and channels, from pixel number `known` on.  Each is
        of what stands in x when it is asked for."""
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
    """An autoencoder whose code is an image of another Spec, which any other model may learn
    (runs/latent_model.py).

    One that knows -log p(x|z) answers distortion(x, z) as well, nats (B,): then the two together have a
    likelihood.
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
    def denoise(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """The image expected in a noisy one, (B, C, H, W) both, at times t (B,) by the model's own clock
        (parts/schedules.py)."""
        ...


@runtime_checkable
class Redraws(Protocol):
    def redraw(
        self, x: Tensor, strength: float, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        """Draw images like x (B, C, H, W): x itself at strength 0, images that have nothing to do with it at
        1; the last version counts."""
        ...


@runtime_checkable
class Translates(Protocol):
    def translate(self, x: Tensor, back: bool = False) -> Tensor: ...


@runtime_checkable
class Stylises(Protocol):
    def stylise(
        self, x: Tensor, styles: Sequence[Tensor], shares: Sequence[float] = (), strength: float = 1.0
    ) -> Tensor:
        """x (B, C, H, W) in the styles (1 or B, C, h, w) of other images, each by its share; x itself, as
        well as the model can draw it, at strength 0."""
        ...


@runtime_checkable
class Classifies(Protocol):
    def classify(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Guesses(Protocol):
    """A model that was taught where the search for a code may begin."""

    def guess(self, x: Tensor) -> Tensor | None:
        """(B, C, H, W) to (B, latent), or None if this one was not."""
        ...


@runtime_checkable
class Distorts(Protocol):
    """A first stage may know how likely an image is, given its code."""

    def distortion(self, x: Tensor, z: Tensor) -> Tensor:
        """-log p(x|z) in nats, (B,), of images (B, C, H, W) on their grid and codes as compress() makes
        them."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A model may know best what is wrong with it, such as unused dimensions of its code."""

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """Yield name, value, and a warning (empty if all is well), from held-out images."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A model may know which of its options do not go together."""

    def check(self) -> None:
        """Raises Refusal."""
        ...


@runtime_checkable
class KnowsChance(Protocol):
    """A model may know what its loss would be of one that knows nothing."""

    def chance(self, batch: Batch) -> dict[str, float]:
        """Terms of its loss, and what each would be of an answer that is the same for all such images
        (parts/chance.py)."""
        ...


QUESTIONS: dict[str, type] = {
    "sample": Samples,
    "bits_per_dim": Scores,
    "complete": Completes,
    "surprise": Surprises,
    "predictive": Predicts,
    "encode": Encodes,
    "decode": Decodes,
    "compress": Compresses,
    "denoise": Denoises,
    "redraw": Redraws,
    "translate": Translates,
    "stylise": Stylises,
    "classify": Classifies,
    "guess": Guesses,
    "distortion": Distorts,
    "diagnose": Diagnoses,
    "check": Checks,
    "chance": KnowsChance,
}
ASKED_BY = {
    "sample": ("draw images", "sample"),
    "bits_per_dim": ("say how likely an image is", "score"),
    "complete": ("complete an image", "complete"),
    "surprise": ("say where in an image its bits are", "field, score -o"),
    "predictive": ("say what the next pixel may be", "trace"),
    "encode": ("encode an image", "features"),
    "decode": ("make an image of a code", "latent, reconstruct"),
    "compress": ("be the first stage of another model", "train MODEL RUN"),
    "denoise": ("take noise away", "diffuse"),
    "redraw": ("edit an image", "edit"),
    "translate": ("translate an image", "translate"),
    "stylise": ("paint an image in the style of another", "style --arbitrary RUN"),
    "classify": ("say of which class an image is", "look"),
}
"""what a question is to people, and the verbs of the command line that ask it"""
OF_OURS = ("guess", "distortion", "diagnose", "check", "chance")
"""asked by likeness itself; people are not shown them"""


def answers(model: object) -> tuple[str, ...]:
    """The questions that this model answers, by name; without those of likeness itself."""
    asked = {name: question for name, question in QUESTIONS.items() if name not in OF_OURS}
    return tuple(name for name, question in asked.items() if isinstance(model, question))


def no_way_back(model: Translates) -> str:
    """Why a model that translates A to B does not translate B to A, in its own words; empty where it does.
    It is asked for one image."""
    spec, weight = model.spec, next(model.parameters(), torch.zeros(()))  # type: ignore[attr-defined]
    try:
        with torch.no_grad():
            model.translate(torch.zeros(1, spec.channels, spec.size, spec.size, device=weight.device), True)
    except Refusal as why:
        return str(why)
    return ""


def final(states: Iterable[T]) -> T:
    """The last state that a generator yields.  No other is kept, as `*_, x = states` would: a thousand steps
    of a batch are gigabytes."""
    (state,) = deque(states, maxlen=1)
    return state


def ask(model: Any, question: str, hint: str = "") -> Any:
    """The method that answers `question`, or a refusal that says what the model does answer."""
    if isinstance(model, QUESTIONS[question]):
        return getattr(model, question)
    what, verb = ASKED_BY.get(question, (f"answer {question}", ""))
    able = [f"{can} ({by})" if by else can for can, by in map(ASKED_BY.__getitem__, answers(model))]
    raise Refusal(
        f"{type(model).__name__.lower()} cannot {what}{verb and f' (likeness {verb})'}; it can: "
        f"{', '.join(able) or 'learn, and no more'}.{hint and '  ' + hint}"
    )
