"""Which images are held out: a function of what they were made from, with copies of one picture never on both sides."""

from __future__ import annotations

import numpy as np

from ..core import BadData

SHARE = 0.1
MOST = 10_000


def split(hashes: np.ndarray, test: np.ndarray | None = None, keys: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, both int64 and ascending; no hash is on both sides.

    hashes: uint64 (N,) of the images' content.  keys: uint64 (N,) of what they were made from (the bytes of a file, a row before it was resized);
    else the hashes.  test: bool (N,), the official test split; those rows are held out, and every other row that copies one of them is in neither part.
    Without it about a tenth of the distinct pictures is held out, at least one and at most 10,000: those with the smallest keys, where copies
    share the smallest of theirs.  So adding images to a folder moves hardly any across, and which side a picture is on depends neither on its
    name or place nor on size, colour or decoder.  Raises BadData where one side would be empty.
    """
    if test is None:
        test = _by_key(hashes, hashes if keys is None else keys)
    held_out = np.flatnonzero(test)
    return without_copies(np.flatnonzero(~test), held_out, hashes), held_out


def without_copies(train: np.ndarray, held_out: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The rows of `train` whose hash no row of `held_out` has.  Raises BadData where either would be empty."""
    train = train[~np.isin(hashes[train], hashes[held_out])]
    if not len(train) or not len(held_out):
        raise BadData(f"{len(hashes):,} images hold too few different pictures to learn from some and be judged on others; two at least are needed.")
    return train


def _by_key(hashes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """bool (N,): the pictures to hold out."""
    groups, inside, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    lowest = np.full(len(groups), 2**64 - 1, np.uint64)
    np.minimum.at(lowest, inside, keys)
    order = np.lexsort((groups, lowest))
    # A placeholder that fills a third of a folder would otherwise be a third of what models are judged on.
    rare = order[counts[order] <= max(1, SHARE * len(hashes))]
    candidates = rare if len(rare) else order[:-1]
    below = int((lowest[candidates] < np.uint64(SHARE * 2**64)).sum())
    share = min(max(below, 1), MOST, max(1, len(groups) // 5), len(groups) - 1)
    return np.isin(inside, candidates[:share])
