"""The images of a collection that are nearest to one: a file, or one of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..core import Refusal
from . import embedding, pictures
from .collection import Collection, looked_at


def search(
    query: str, collection: Collection, k: int, network: str = "", weights: str = ""
) -> tuple[list[int], list[float], np.ndarray | None, float]:
    """The k nearest: which of the collection, and their distances; the query's own pixels; and the median
    distance from an image to its nearest.

    An image of the collection is not among its own neighbours.
    """
    own = member(query, collection)
    if own is not None:
        one, asked = (
            np.asarray(collection.features[own : own + 1], np.float32),
            None if collection.x is None else collection.x[own],
        )
    elif os.path.isfile(os.path.expanduser(query)):
        one, asked = looked_at(query, collection, network, weights)
    else:
        raise Refusal(
            f"{query!r} is no file, and no name or row among the {len(collection.names):,} images of "
            f"{collection.source}; name an image."
        )
    if k > len(collection.names) - (own is not None):
        raise Refusal(
            f"-k {k} asks for more than the {len(collection.names) - (own is not None):,} other images that "
            "there are; type a smaller one."
        )
    far = np.concatenate(
        [
            np.sqrt(np.square(part - one.astype(np.float32), dtype=np.float64).sum(1))
            for _, part in embedding.blocks(collection.features)
        ]
    )
    if own is not None:
        far[own] = np.inf
    some = np.sort(np.random.default_rng(0).choice(len(far), min(len(far), 200), replace=False))
    near = embedding.distances(collection.features, some).min(1)
    usual = embedding.unit(collection.features) * float(np.median(np.sqrt(np.maximum(near, 0))))
    rows = np.argsort(far, kind="stable")[:k]
    return rows.tolist(), far[rows].tolist(), asked, usual


def member(query: str, collection: Collection) -> int | None:
    """Which image of the collection this is, by its name or its row; None if it is none of them."""
    if query in collection.names:
        return collection.names.index(query)
    rows = collection.rows.tolist()
    return rows.index(int(query)) if query.isdecimal() and int(query) in rows else None


def page(
    asked: np.ndarray, collection: Collection, rows: list[int], distance: list[float], query: str
) -> np.ndarray:
    """The query, then its neighbours, nearest first, each with its distance, its label and its name."""
    assert collection.x is not None
    labels = [collection.labels[i] for i in rows] if collection.labels else [""] * len(rows)
    near = [
        (collection.x[i], [f"{d:.4g}", *filter(None, [label]), collection.names[i]])
        for i, d, label in zip(rows, distance, labels)
    ]
    own = member(query, collection)
    words = (
        [Path(query).name]
        if own is None
        else [*filter(None, [collection.labels[own] if collection.labels else ""]), collection.names[own]]
    )
    return pictures.strip([(asked, ["asked for", *words]), *near])
