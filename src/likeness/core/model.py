"""What a model is: options, networks, losses, and whose move a training step is; how long and how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, dataclass_transform

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .batch import Batch, Spec
from .errors import Refusal
from .options import check_options, option


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


@dataclass(frozen=True)
class Training:
    """How long and how fast; a model's own values are those of its paper, scaled to a laptop."""

    batch: int = option(64, "images a step, over all processes", 1, 1_000_000)
    rate: float = option(1e-3, "learning rate", 0.0, 10.0)
    images: int = option(200_000, "images to see before it ends", 0, 10**13)
    warmup: int = option(2_000, "images over which the rate rises to its value", 0, 10**12)
    schedule: str = option("constant", "what the rate does after that", choices=("constant", "cosine"))
    ema: int = option(10_000, "images after which a weight has faded to one half in the EMA", 0, 10**12)
    micro: int = option(
        0, "images at once, where a batch does not fit into memory; 0 is all of it", 0, 1_000_000
    )
    clip: float = option(1.0, "largest norm of a player's gradient; 0 is no limit", 0.0, 1e9)
    seed: int = option(0, "of weights, order and noise", 0, 2**31 - 1)
    precision: str = option(
        "auto",
        "auto is bf16 where that is faster on this machine, else fp32",
        choices=("auto", "fp32", "bf16"),
    )
    mirror: bool = option(
        False,
        "half of the images of a batch are mirrored: right for photographs, wrong for digits and writing",
    )
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
    presets: ClassVar[dict[str, dict[str, Any]]] = {"photographs": dict(mirror=True)}
    """options of the model and of Training that go together, by the name of what they are for; `--preset
    NAME` stands for all of them"""
    takes: ClassVar[tuple[str, ...]] = ()
    """which parts of a Condition the loss, sample() and the others use: of "label", "tokens" and "image" """
    needs: ClassVar[str] = ""
    """what the loss cannot do without: "pairs", in which the image of a Condition belongs to x, or "domains",
    where it is any image of another kind, and pairs will do as well; nothing, where x alone is learnt"""
    videos: ClassVar[bool] = False
    """x is (B, C, T, H, W)"""
    units: ClassVar[dict[str, str]] = {}
    """what the terms of the loss are measured in, by their names in the log; one in "nats/dim" is shown in
    bits/dim"""
    whole_batch = False
    """the loss compares the examples of a batch, which therefore must not be split"""
    largest_batch = 0
    """of training, where after_step() could not cope with more; 0 is any"""

    def __init_subclass__(cls) -> None:
        """Make a dataclass of it, so that an instance holds its own config."""
        for name, kind in vars(cls).get("__annotations__", {}).items():
            if not hasattr(cls, name) and "ClassVar" not in str(kind):
                raise TypeError(
                    f"{cls.__name__}.{name} has no default.  The body of a model declares options; weights "
                    "and buffers are made in build()"
                )
        dataclass(eq=False, repr=False, kw_only=True)(cls)

    def __post_init__(self) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        if self.spec.frames and not self.videos:
            raise Refusal(
                f"{name} learns still images, and these are videos of {self.spec.frames} frames; name a "
                "model of videos."
            )
        check_options(name, self)
        self.build()
        self.whole_batch = self.whole_batch or any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules()
        )

    def build(self) -> None:
        """Make the networks as attributes; refuse a Spec or options that do not go together."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Have at hand what training needs and answers do not, before anything is made or moved; raises
        Refusal."""

    def knows(self, words: Sequence[str]) -> None:
        """The words of the run's vocabulary by their number - 2, for a model that must spell them."""

    def loss(self, batch: Batch) -> Loss:
        raise NotImplementedError

    def players(self) -> tuple[Player, ...]:
        return (Player("model", self, self.loss),)

    def tallies(self) -> tuple[Tensor, ...]:
        """Sums over the batch that loss() has added up for after_step(): those of several processes are made
        one first."""
        return ()

    def answering(self) -> None:
        """Leave out what only training needs: the copy that holds the EMA does not train."""

    def after_step(self) -> None:
        """Whatever moves without a gradient: a teacher's weights, a pool of past images."""

    def options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spec"}
