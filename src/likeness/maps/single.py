"""One map with the scores beside it, in memory, as Python shows it.  The command line writes more
(cli/map.py): a page to walk about in, clusters, copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import final
from ..metrics.card import Score
from . import embedding, pictures
from .collection import Collection


class Single(NamedTuple):
    made: embedding.Map
    scores: list[Score]
    image: np.ndarray
    """uint8 (height, width, 3)"""


def arranged(collection: Collection, method: str, perplexity: float | None, seed: int) -> Single:
    """Raises Refusal for an unknown method, too few images, and a perplexity that they do not allow."""
    embedding.check(method)
    axes = embedding.principal(collection.features, seed=seed)
    reduced = axes.of(collection.features)
    perplexity = perplexity or embedding.usual_perplexity(len(reduced))
    y = final(embedding.arrange(reduced, method, perplexity, seed)).y.numpy()
    how = dict(perplexity=perplexity) if method == "tsne" else {}
    settings = dict(
        data=collection.source, features=collection.seen, **collection.how, method=method, **how, seed=seed
    )
    made = embedding.Map(y, collection.rows, collection.names, collection.labels, settings, axes, reduced)
    groups = pictures.grouped(collection.labels) if collection.labels else None
    scores = embedding.cards(collection.features, made, None if groups is None else groups.of)
    title = f"{len(y):,} images, {method} of {collection.seen}"
    if collection.x is None:
        shown = groups or pictures.Groups(np.zeros(len(y), np.int64), ("image",), "images")
        return Single(made, scores, pictures.points(y, shown, title))
    return Single(made, scores, pictures.images(y, collection.x, groups, title)[0])
