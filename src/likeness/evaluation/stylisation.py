"""How well photos are painted: what is left of the photo, and how near the painting's style is.

Johnson, Alahi & Fei-Fei 2016, eq. 5, before weights: squared relative errors, of features and of Gram
matrices, as in the log.  A model answers by `errors(made, x)` and `crop(size)`.  The judge is VGG-16 where
its weights and the painting are at hand, or else the network that the run has learnt with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import engine
from ..core import BadData, Refusal
from ..metrics.card import Score
from . import translation

if TYPE_CHECKING:
    from .exam import Exam

SIDE = "translation"
NOTES = {
    "content error": "squared error of features, relative to what the photo has: 0 is the photo itself",
    "style error": "squared error of Gram matrices, relative to what the painting has, mean over layers",
}
OWN = ("network", "weights", "content_layer", "style_layers")
"""options that say who judges"""


@runtime_checkable
class Paints(Protocol):
    def translate(self, x: Tensor, back: bool = False) -> Tensor: ...

    def errors(self, made: Tensor, x: Tensor) -> dict[str, Tensor]: ...

    def crop(self, size: int) -> Tensor: ...


def cards(exam: Exam) -> Iterator[Score]:
    if not isinstance(exam.model, Paints):
        return
    judge, name = _judge(exam)
    made, plain, crops, painted = [], [], [], _crop(exam)
    for batch in exam.batches(exam.rows):
        x = batch.x
        made.append(_errors(judge, translation.translated(exam, x), x))
        plain.append(_errors(judge, x, x))
        if painted is not None:
            crops.append(_errors(judge, painted.expand_as(x), x))
    about = dict[str, Any](group=SIDE, better="lower", warnings=exam.remarks, settings=exam.settings)
    for i, what in enumerate(NOTES):
        for of, errors, note in (
            ("model", made, ""),
            ("photo", plain, "; of the photo itself"),
            ("painting", crops, "; of the middle of the painting, as large as a photo"),
        ):
            if errors:
                note = f"{NOTES[what]}{note}; by {name}"
                yield exam.card(what, torch.cat(errors)[:, i].numpy(), of=of, note=note, **about)


@torch.no_grad()
def _errors(judge: Any, made: Tensor, x: Tensor) -> Tensor:
    """(B, 2): of content and of style."""
    errors = judge.errors(made.to(x), x)
    return torch.stack([errors["content"], errors["style"]], 1).double().cpu()


def _judge(exam: Exam) -> tuple[Any, str]:
    """A model that judges, and the name of its network."""
    own: Any = exam.model
    if own.network == "random":
        others = {k: v for k, v in own.options().items() if k not in OWN}
        judge = type(own)(spec=own.spec, **others).to(engine.device())
        try:
            judge.prepare()
        except (Refusal, BadData):  # the weights or the painting are not here
            pass
        else:
            return judge, judge.network
    own.prepare()
    return own, f"{own.network}, which it has learnt with"


def _crop(exam: Exam) -> Tensor | None:
    """The painting as one of the photos, where it is at hand and large enough."""
    model: Any = exam.model
    try:
        x: Tensor = model.crop(exam.data.spec.size)
    except BadData:
        return None
    return x.to(engine.device()) if x.shape[-1] == exam.data.spec.size else None
