"""What a model may be told about each example beside the example itself: its class, a text, another image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NONE = -1
"""the label of an example whose class is not told"""
PAD = 0
"""the token behind the last word of a text; a text of nothing else is not told"""

NAMES = {"label": "the class", "tokens": "the text", "image": "the image"}
"""of each part"""


def given(parts: Collection[str]) -> str:
    """What a likelihood is of, beside the image: such as " given the class", or nothing.  parts: those that
    the model takes and its examples have, from `Spec.parts`."""
    names = [name for part, name in NAMES.items() if part in parts]
    return f" given {' and '.join(names)}" if names else ""


@dataclass(frozen=True)
class Condition:
    """One row an example; a part is None where no example has it.  Which parts a model uses is in
    `Model.takes`.

    The only thing that `Batch.y` may be: taking rows, moving to a device, leaving out for guidance and
    mirroring happen here, once. Raises TypeError where a part is no tensor or of another type of number, and
    ValueError where there is no part, or the parts are not of one number of examples.
    """

    label: Tensor | None = None
    """int64 (B,): the class, or NONE"""
    tokens: Tensor | None = None
    """int64 (B, T): numbers of words of the vocabulary, then PAD"""
    image: Tensor | None = None
    """float (B, C, H, W) in [-1, 1], (B, C, T, H, W) of videos: the other image of a pair, or an image of
    another domain"""

    def __post_init__(self) -> None:
        parts = self.parts()
        if not parts:
            raise ValueError(
                "a Condition has a label, tokens or an image; where examples have none of them, y is None"
            )
        for name, part in parts.items():
            if not isinstance(part, Tensor):
                raise TypeError(
                    f"Condition.{name} is {type(part).__name__}; it should be a tensor with a row for each "
                    "example"
                )
            if not (part.is_floating_point() if name == "image" else part.dtype == torch.int64):
                dtype, method = ("float", "float") if name == "image" else ("int64", "long")
                raise TypeError(
                    f"Condition.{name} is of {part.dtype}, and {dtype} is needed; make it {name}.{method}()"
                )
        if len({len(part) for part in parts.values()}) > 1:
            sizes = ", ".join(f"{name} has {len(part)}" for name, part in parts.items())
            raise ValueError(f"the parts of a Condition have a row for each example, and here {sizes}")

    def parts(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {name: part for name in PARTS if (part := getattr(self, name)) is not None}

    def __len__(self) -> int:
        return len(next(iter(self.parts().values())))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Some of the examples, by a slice, by int64 numbers or by a bool mask."""
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device | str) -> Condition:
        """On a device; images channels last, as the convolutions of `engine.place` want them."""

        def moved(part: Tensor) -> Tensor:
            layout = torch.channels_last if part.ndim == 4 else torch.preserve_format
            return part.to(device, memory_format=layout, non_blocking=True)

        return self._each(moved)

    def repeat(self, n: int) -> Condition:
        """All examples, n times over: (n * B) rows; images in the layout that they have."""
        return self._each(lambda part: torch.cat([part] * n))

    def dropped(self, where: Tensor) -> Condition:
        """Nothing is told of the examples where `where`, bool (B,), is true: no class, no word, a middle grey
        image.

        With a share of a training batch dropped, a model learns p(x) beside p(x|y), which guidance begins
        from (Ho & Salimans 2022).
        """

        def nothing(name: str, part: Tensor) -> Tensor:
            mask = where.view(-1, *[1] * (part.ndim - 1))
            return torch.where(
                mask, torch.full((), NOTHING[name], dtype=part.dtype, device=part.device), part
            )

        return Condition(**{name: nothing(name, part) for name, part in self.parts().items()})

    def mirrored(self, where: Tensor) -> Condition:
        """The images of the examples where `where`, bool (B,), is true, flipped from left to right: they
        belong to what is flipped with them."""
        if self.image is None:
            return self
        mask = where.view(-1, *[1] * (self.image.ndim - 1))
        return Condition(self.label, self.tokens, torch.where(mask, self.image.flip(-1), self.image))

    def only(self, names: Sequence[str]) -> Condition | None:
        """The parts of these names, or None where there is none of them."""
        kept = {name: part for name, part in self.parts().items() if name in names}
        return Condition(**kept) if kept else None

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        return Condition(**{name: change(part) for name, part in self.parts().items()})


PARTS = ("label", "tokens", "image")
NOTHING = {"label": NONE, "tokens": PAD, "image": 0.0}
"""what stands for a part that is not told"""


def label_of(y: Condition | None) -> Tensor | None:
    """The classes (B,), if they are told."""
    return None if y is None else y.label
