"""Whether features say something at all: signs of collapse that the loss of a self-supervised method does not
show.

A contrastive loss of features that are all the same is log(2N - 1), which is also what random features have;
a loss of agreement alone is best when all are the same.  Two numbers tell, and neither needs a label:

    spread    standard deviation of features of length one, times sqrt(d): 1 where they point everywhere, 0 where all point one way
              (Chen & He, "Exploring Simple Siamese Representation Learning", 2021, section 4.1)
    RankMe    how many dimensions are in use: the exponential of the entropy of the singular values
              (Garrido et al., "RankMe", 2023, eq. 1)
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch

POINT = 0.1
"""spread at which features are called collapsed, at most: healthy ones have 0.3 and more"""
FEW = 0.1
"""share of the dimensions in use that is called a partial collapse, at most"""
SEEN = 16
"""images below which nothing is called a collapse: two that happen to be alike have a spread of 0"""
PROJECTIONS = "spread of projections"
"""the card of what is compared, where that are not the features"""
EVERY = 25
"""steps between two of which RankMe is taken: singular values make a GPU wait"""


def unit_spread(h: Tensor) -> Tensor:
    """Of features (n, d): a number, 0-dimensional."""
    return F.normalize(h.double(), dim=1).std(0, correction=0).mean() * h.shape[1] ** 0.5


def rankme(h: Tensor) -> Tensor:
    """Of features (n, d): between 1 and min(n, d), 0-dimensional."""
    s = torch.linalg.svdvals(torch.nan_to_num(h.double()))
    p = s / s.sum().clamp(min=1e-30) + 1e-7
    return (-(p * p.log()).sum()).exp()


class Health(nn.Module):
    """Both, for the log of a training, of the embeddings of a batch, or the mean over the pieces that it is
    split into.

    RankMe is what it last was between two times that it is taken.  Beside it stands what it can be: n images
    have n dimensions at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rank = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def forward(self, z: Tensor, step: int, of: str = "") -> dict[str, Tensor]:
        """of: "feature " where that is what they are of, and nothing that is compared."""
        if self.training and step % EVERY == 0:
            self.rank.copy_(rankme(z))
        most = torch.full_like(self.rank, min(z.shape))
        return {f"{of}spread": unit_spread(z), f"{of}RankMe": self.rank.clone(), f"{of}RankMe at most": most}


def encoded(model: Any, batch: Batch, size: int = 512) -> Tensor:
    """Features (n, d) of a batch by a model that encodes, `size` images at a time."""
    return torch.cat([model.encode(part.x) for part in batch.split(size)])


def verdicts(h: Tensor, remedy: str = "", more: str = "") -> Iterator[tuple[str, float, str]]:
    """Name, value and warning of both, of features (n, d) of images that were not trained on; what to do
    about a point, and about few dimensions.

    Where nothing can be done nothing is wrong: a method that compares no features cannot be tempted to make
    them all the same.
    """
    if len(h) < 2:
        return
    spread, rank, most = float(unit_spread(h)), float(rankme(h)), min(h.shape)
    if len(h) < SEEN:
        remedy = more = ""
    yield (
        "spread of features",
        spread,
        (f"all features point the same way: collapsed; {remedy}") if remedy and spread < POINT else "",
    )
    yield (
        "RankMe",
        rank,
        (f"only about {rank:.1f} of {most} dimensions are in use: partly collapsed; {more}")
        if more and rank < FEW * most
        else "",
    )
