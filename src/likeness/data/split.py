"""Which images are held out: a function of what they were made from, with copies of one picture never on both
sides."""

from __future__ import annotations

import numpy as np

from ..core import BadData

SHARE = 0.1
MOST = 10_000
WANTED, FEWEST = 64, 30
"""held-out images that are aimed at, and below which nothing can be compared with samples, so that a third is
not worth it"""


def split(
    hashes: np.ndarray, test: np.ndarray | None = None, keys: np.ndarray | None = None, share: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, both int64 and ascending; no hash is on both sides.

    hashes: uint64 (N,) of the images' content.  keys: uint64 (N,) of what they were made from (the bytes of a
    file, a row before it was resized); else the hashes.  test: bool (N,), the official test split; those rows
    are held out, and every other row that copies one of them is in neither part. Without it the distinct
    pictures with the smallest keys are held out, where copies share the smallest of theirs: about `share` of
    all, at least one, at most twice the share and 10,000.  Share 0 is a tenth, but 64 where these are no more
    than a third of the pictures, and a third where that is from 30 to 64.  Which side a picture is on depends
    neither on its name or place nor on size, colour or decoder, and from 90 pictures on each one that is
    added moves one other across at most.  Raises BadData where one side would be empty.
    """
    if test is None:
        test = _by_key(hashes, hashes if keys is None else keys, share)
    held_out = np.flatnonzero(test)
    return without_copies(np.flatnonzero(~test), held_out, hashes), held_out


EVERY = 5
"""of the combinations of two attributes one in so many is held out"""


def paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which examples combine two attributes in a way that is held out: a, b int64, the places of their values
    in their tables.  Of each value of either some combinations are learnt and some are not."""
    return (a + b) % EVERY == 0


def without_copies(train: np.ndarray, held_out: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The rows of `train` whose hash no row of `held_out` has.  Raises BadData where either would
    be empty."""
    train = train[~np.isin(hashes[train], hashes[held_out])]
    if not len(train) or not len(held_out):
        raise BadData(
            f"{len(hashes):,} images hold too few different pictures to learn from some and be judged on "
            "others; two at least are needed."
        )
    return train


def without_new(
    train: np.ndarray, held_out: np.ndarray, new: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both parts of a split without the rows that are `new`, bool (N,), and these.  Raises BadData where too
    few are left."""
    if new is None:
        return train, held_out, None
    train, held_out = train[~new[train]], held_out[~new[held_out]]
    if not len(train) or not len(held_out):
        raise BadData(
            f"of {len(new):,} images {int(new.sum()):,} are of combinations that are held out, and too few "
            "others are left to learn from some and be judged on others; ask for more."
        )
    return train, held_out, np.flatnonzero(new)


def _by_key(hashes: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    """bool (N,): the pictures to hold out."""
    groups, inside, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    lowest = np.full(len(groups), 2**64 - 1, np.uint64)
    np.minimum.at(lowest, inside, keys)
    order = np.lexsort((groups, lowest))
    # A placeholder that fills a third of a folder would otherwise be a third of what models are judged on.
    rare = order[counts[order] <= max(1, SHARE * len(hashes))]
    candidates = rare if len(rare) else order[:-1]
    below = int((lowest[candidates] < np.uint64((share or SHARE) * 2**64)).sum())
    count = min(max(below, 1), MOST, max(1, int(2 * (share or SHARE) * len(groups))))
    if not share and (third := len(groups) // 3) >= FEWEST:
        count = max(count, min(WANTED, third))
    return np.isin(inside, candidates[: min(count, len(groups) - 1)])
