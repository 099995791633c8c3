"""What is left of held-out images after the code, beside the mean image and principal components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core import answers
from ..data import picture
from ..metrics import reconstruction
from ..metrics.card import Score

if TYPE_CHECKING:
    from .exam import Exam

MEASURES: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor], str, str], ...] = (
    ("squared error", reconstruction.mse, "", "lower"),
    ("PSNR", reconstruction.psnr, "dB", "higher"),
    ("SSIM", reconstruction.ssim, "", "higher"),
)
NOTES = {
    "squared error": "mean over pixels, images in [-1, 1]",
    "points": "mean over coordinates",
    "PSNR": "10 log10(4 / squared error) of each image, at most 100",
    "SSIM": reconstruction.SSIM_NOTE,
}


def cards(exam: Exam) -> Iterator[Score]:
    able = set(answers(exam.model))
    # whose code is as long as the image, and says nothing of what it has learnt
    if not {"encode", "decode"} <= able or "denoise" in able:
        return
    code = exam.code
    yield from compared(
        exam, lambda x: rebuilt(exam, x), warnings=exam.remarks, settings=exam.settings | {"code": code}
    )
    train = picture(np.asarray(exam.data.x[exam.some(reconstruction.affordable(exam.data.spec.dims))]))
    note = f"of {len(train):,} training images"
    yield from compared(
        exam,
        reconstruction.mean_image(train),
        of="mean image",
        against=len(train),
        note=f"mean {note}, no code at all",
    )
    linear = reconstruction.pca(train, code)
    about = dict(
        against=len(train), note=f"principal components {note}", settings={"code": linear.axes.shape[1]}
    )
    yield from compared(exam, linear, of="PCA", **about)


def compared(exam: Exam, rebuild: Callable[[Tensor], Tensor], **about: Any) -> Iterator[Score]:
    """Three measures of a way to rebuild images, batch by batch."""
    pairs = ((batch.x.cpu(), rebuild(batch.x)) for batch in exam.batches(exam.rows))
    measures = MEASURES if exam.data.levels else MEASURES[:1]
    result = zip(*([take(x, y) for _, take, _, _ in measures] for x, y in pairs))
    for (name, _, unit, better), values in zip(measures, result):
        note = NOTES[name if exam.data.levels else "points"]
        yield exam.card(
            name, torch.cat(values).numpy(), **{"unit": unit, "better": better, "note": note} | about
        )


def rebuilt(exam: Exam, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = exam.model.decode(exam.encode(x)).float().cpu()  # type: ignore[operator]
        return x.clamp(-1, 1) if exam.data.levels else x
