"""Does a text find its image among others? For captions of which nothing is known: an encoder of images and
one of texts, trained on the training pairs so that a pair's two vectors point the same way.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 2.3:
of a batch of n pairs each text is to name its image and each image its text, by the cosine of their vectors
times a learned factor (InfoNCE). Here both are small: convolutions, and the mean of the vectors of words,
which knows no order. What it cannot tell from real pairs it cannot tell of samples, so its value on held-
out real pairs stands beside every other, and that on shuffled ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Refusal
from ..data import Data
from ..data.dataset import picture
from ..metrics.card import Score
from .kept import Same

if TYPE_CHECKING:
    from .exam import Exam

AMONG = 100
"""images of which one is the text's own"""
WIDTH, BATCH, STEPS, RATE = 64, 128, 1000, 2e-3
FEWEST = 200
"""training pairs below which nothing can be learnt"""


class Pair(nn.Module):
    """Unit vectors of images (B, C, H, W) or clips (B, C, T, H, W), and of texts (B, T) in tokens."""

    def __init__(self, channels: int, vocabulary: int, frames: int = 0):
        super().__init__()
        widths = (channels * (2 if frames else 1), 32, 64, 64)
        self.image = nn.Sequential(
            *(
                layer
                for a, b in pairwise(widths)
                for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU())
            )
        )
        self.last = nn.LazyLinear(WIDTH)
        self.words = nn.EmbeddingBag(vocabulary, 128, mode="mean", padding_idx=0)
        self.text = nn.Sequential(nn.SiLU(), nn.Linear(128, WIDTH))
        self.factor = nn.Parameter(torch.tensor(math.log(10.0)))

    def of_images(self, x: Tensor) -> Tensor:
        if x.ndim == 5:  # of a clip its mean frame, and how it changes
            x = torch.cat([x.mean(2), x[:, :, -1] - x[:, :, 0]], 1)
        return F.normalize(self.last(F.adaptive_avg_pool2d(self.image(x), 4).flatten(1)), dim=1)

    def of_texts(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text(self.words(tokens)), dim=1)

    def loss(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Mean of the two cross-entropies.  A text that several examples of the batch have is as right for
        each of them."""
        logits = self.of_images(x) @ self.of_texts(tokens).T * self.factor.exp().clamp(max=100)
        same = (tokens[:, None] == tokens).all(2).float()
        aim = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, aim) + F.cross_entropy(logits.T, aim)) / 2


def train(data: Data, seed: int = 0, steps: int = STEPS) -> Pair:
    """A pair trained on the training images that have a caption, on the CPU.  Raises Refusal for too few."""
    rows = _told(data, data.train)
    if len(rows) < FEWEST:
        raise Refusal(
            f"{len(rows):,} training images have a caption, and encoders of images and texts learn nothing "
            f"from fewer than {FEWEST}; add captions."
        )
    assert data.tokens is not None and data.vocabulary is not None
    rng = np.random.default_rng((seed, 0xC11B))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pair = Pair(data.x.shape[1], len(data.vocabulary), data.spec.frames)
        pair.of_images(picture(data.x[rows[:1]]))  # which makes the last layer
    optimizer = torch.optim.AdamW(pair.parameters(), RATE, weight_decay=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 50) * (1 - step / steps)
        some = rng.choice(rows, min(BATCH, len(rows)), replace=False)
        optimizer.zero_grad()
        pair.loss(picture(data.x[some]), torch.from_numpy(data.tokens[some]).long()).backward()
        optimizer.step()
    return pair.eval()


def _told(data: Data, rows: np.ndarray) -> np.ndarray:
    """Those of these rows that have a caption."""
    return rows[(data.tokens[rows] != 0).any(1)] if data.tokens is not None else rows[:0]


@torch.no_grad()
def found(pair: Pair, x: np.ndarray, tokens: np.ndarray, among: int = AMONG) -> np.ndarray:
    """Whether each text finds its image among `among` of them, float (n,): images and texts are taken in
    groups of so many, the last one filled up from the first.

    x: uint8 (n, ...).  tokens: int (n, T).  Of an image whose text is the same as the asked one it counts
    as found, too.  Raises Refusal for fewer than two examples.
    """
    n = len(x)
    if n < 2:
        raise Refusal("a text can find its image among others only; give two examples or more.")
    images = torch.cat([pair.of_images(picture(x[i : i + 256])) for i in range(0, n, 256)])
    texts = pair.of_texts(torch.from_numpy(np.asarray(tokens)).long())
    result = np.zeros(n)
    for start in range(0, n, among):
        own = np.arange(start, min(start + among, n))
        rows = np.unique(np.concatenate([own, np.arange(min(n, among - len(own)))]))
        first = rows[(texts[own] @ images[rows].T).argmax(1).numpy()]
        result[own] = (np.asarray(tokens)[first] == np.asarray(tokens)[own]).all(1)
    return result


@lru_cache(maxsize=1)
def _pair(data: Same, seed: int) -> Pair:
    return train(data.data, seed)


def cards(exam: Exam, rows: np.ndarray, x: np.ndarray) -> Iterator[Score]:
    """How often the text of a sample finds it among 100 samples; the same of real held-out images, and of
    samples beside texts of others."""
    data = exam.data
    told = np.isin(rows, _told(data, rows))
    rows, x = rows[told], x[told]
    if data.tokens is None or len(rows) < 2:
        return
    pair, tokens = _pair(Same(data), exam.seed), data.tokens[rows]
    among = min(AMONG, len(rows))
    about = dict[str, Any](unit="share", better="higher", against=among, settings=exam.settings)
    name, note = "text finds its image", f"the first of {among}, by encoders trained on the training pairs"
    yield exam.card(name, found(pair, x, tokens), split="samples", warnings=exam.doubts, note=note, **about)
    yield exam.card(name, found(pair, np.array(data.x[rows]), tokens), of="held-out images", **about)
    other = tokens[np.roll(np.arange(len(rows)), max(1, among // 2))]
    yield exam.card(name, found(pair, x, other), of="shuffled captions", split="samples", **about)
