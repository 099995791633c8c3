"""Maps: images as points in the plane, by PCA, t-SNE or UMAP of their features; how far such a map may be
believed; and new images on it.

A map is a picture of neighbourhoods.  Sizes of islands and distances between them mean little, and any cloud
can be made to look like islands, so numbers stand beside it: what share of neighbours it keeps, beside what a
PCA plot and chance would keep; whether what it shows side by side is so; and how much of it another start
would show, too.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import storage
from ..core import BadData, Refusal, final
from ..engine.minimize import minimize
from ..metrics.card import Score, measure
from . import tsne

METHODS = ("tsne", "umap", "pca")
DIMENSIONS = 50
"""that PCA leaves before t-SNE or UMAP look at the rest"""
K = 10
"""neighbours that a map is asked to keep"""
ASKED = 2000
"""images, at most, whose neighbours are looked up for that"""
WIDE = 1024
"""features, or images, up to which principal components come from a matrix of all products"""
ROWS = 2**24
"""numbers of a block of features in memory"""
HELD = 2**25
"""distances from asked images to all, at once in memory, in features and as many in a map: with 100,000
images six passes over the features"""


# Principal components


class Axes(NamedTuple):
    """The principal components of some features."""

    mean: np.ndarray
    """float32 (D,)"""
    vectors: np.ndarray
    """float32 (d, D), orthonormal, the one with the largest variance first"""
    share: float
    """of the variance that they keep"""
    unit: float = 1.0
    """of the numbers that come out, in that of the features: another than 1 where their squares would leave
    float32"""

    def of(self, x: np.ndarray) -> np.ndarray:
        """Features (n, D), in memory or mapped, to float32 (n, d), in units of `unit`."""
        if x.shape[1] != len(self.mean):
            raise Refusal(
                f"this map is of features with {len(self.mean):,} numbers, and these have {x.shape[1]:,}; "
                "take the same network, layer and size."
            )
        mean = self.mean / np.float32(self.unit)
        with np.errstate(over="ignore", invalid="ignore"):
            out = np.concatenate([(part - mean) @ self.vectors.T for _, part in blocks(x, self.unit)])
        if not np.isfinite(out).all():
            bad = int((~np.isfinite(out).all(1)).sum())
            raise Refusal(
                f"features of {bad} images are no numbers, or far beyond those of the map; look at these "
                "images, or take another network or layer."
            )
        return out


def blocks(x: np.ndarray, unit: float = 1.0) -> Iterator[tuple[int, np.ndarray]]:
    """Some rows of x (n, D) after another, as float32, in units of a power of two, with the number of the
    first."""
    step = max(1, ROWS // x.shape[1])
    for i in range(0, len(x), step):
        with np.errstate(over="ignore"):
            part = np.asarray(x[i : i + step], np.float32)
        yield i, part if unit == 1 else part / np.float32(unit)


def unit(x: np.ndarray) -> float:
    """By which features x (n, D) are to be divided before they are squared: see tsne.unit.  Raises Refusal
    for what is not finite in float32."""
    # of nan it is nan
    largest = float(np.max([np.maximum(part.max(), -part.min()) for _, part in blocks(x)], initial=0.0))
    if not math.isfinite(largest):
        raise Refusal(
            "some features are not finite numbers that float32 holds; look at these images, or take "
            "another network or layer."
        )
    return tsne.unit(largest)


def principal(x: np.ndarray, most: int = DIMENSIONS, seed: int = 0) -> Axes:
    """The first principal components of features x (n, D), at most `most` of them, in a few passes over
    blocks of rows.

    Exact where there are few images or few features; else by subspace iteration from random vectors (Halko,
    Martinsson & Tropp 2011, section 4.5).  Raises Refusal where the features are not finite, or all rows are
    equal.
    """
    n, wide = x.shape
    scale = unit(x)
    mean = np.zeros(wide)
    for _, part in blocks(x, scale):
        mean += part.sum(0, dtype=np.float64)
    mean = (mean / n).astype(np.float32)
    total = sum(float(np.square(part - mean).sum(dtype=np.float64)) for _, part in blocks(x, scale))
    if total <= 1e-12 * n * max(1e-30, float(np.square(mean, dtype=np.float64).sum())):
        raise Refusal(
            f"the features of all {n:,} images are equal: there is nothing to arrange; take another layer."
        )
    k = min(most, n - 1, wide)
    if wide <= WIDE:
        around = np.eye(wide, dtype=np.float32)
    elif n <= WIDE:
        # the rows span all there is
        around = np.linalg.qr((np.asarray(x, np.float32) / np.float32(scale) - mean).T)[0]
    else:
        around = np.linalg.qr(
            np.random.default_rng((seed, 0xCA)).normal(size=(wide, k + 10)).astype(np.float32)
        )[0]
        for _ in range(5):
            around = np.linalg.qr(
                sum(c.T @ (c @ around) for c in (part - mean for _, part in blocks(x, scale)))
            )[0]
    inner = np.zeros((around.shape[1],) * 2)
    for _, part in blocks(x, scale):
        within = (part - mean) @ around if wide > WIDE else part - mean
        inner += within.T @ within
    values, vectors = np.linalg.eigh(inner)
    axes = (around @ vectors[:, ::-1][:, :k].astype(np.float32)).T
    largest = np.abs(axes).argmax(1)
    axes *= np.sign(axes[np.arange(k), largest])[:, None]  # of the two directions of an axis, always the same
    return Axes(
        mean * np.float32(scale), np.ascontiguousarray(axes), float(values[::-1][:k].sum() / total), scale
    )


# Maps


@dataclass(frozen=True, eq=False)
class Map:
    y: np.ndarray
    """float32 (n, 2), x to the right and y up"""
    rows: np.ndarray
    """int64 (n,), of the features that it was made from"""
    names: tuple[str, ...]
    """of the images"""
    labels: tuple[str, ...]
    """of each image, or nothing"""
    settings: dict[str, Any]
    """method, perplexity, seed, and what the features are"""
    axes: Axes
    reduced: np.ndarray
    """float32 (n, d): the features as the method saw them"""

    def save(self, path: Path) -> None:
        """As .npz with the arrays coordinates, rows, names, labels, settings (JSON), mean, components,
        reduced; nothing is pickled."""
        import io

        file, text = (
            io.BytesIO(),
            (
                np.array([t.encode(errors="backslashreplace").decode() for t in ts], dtype=np.str_)
                for ts in (self.names, self.labels)
            ),
        )
        answer = json.dumps(dict(self.settings, kept=self.axes.share, unit=self.axes.unit), sort_keys=True)
        arrays = dict(zip(("names", "labels"), text)) | dict(
            settings=np.array(answer), mean=self.axes.mean, components=self.axes.vectors, reduced=self.reduced
        )
        np.savez_compressed(file, coordinates=self.y, rows=self.rows, **arrays)
        storage.write(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> Map:
        """What save() wrote.  Raises Refusal where there is no such file, BadData where it is
        none of ours."""
        try:
            with np.load(path, allow_pickle=False) as f:
                settings = json.loads(str(f["settings"]))
                y, mean, vectors, reduced = (
                    np.asarray(f[name], np.float32)
                    for name in ("coordinates", "mean", "components", "reduced")
                )
                rows, names, labels = (
                    np.asarray(f["rows"], np.int64),
                    tuple(map(str, f["names"])),
                    tuple(map(str, f["labels"])),
                )
            result = cls(
                y,
                rows,
                names,
                labels,
                settings,
                Axes(mean, vectors, float(settings.pop("kept")), float(settings.pop("unit", 1.0))),
                reduced,
            )
            n, of = len(y), (len(mean),)
            shapes = (
                y.shape == (n, 2)
                and rows.shape == (n,)
                and reduced.shape == (n, len(vectors))
                and vectors.shape[1:] == mean.shape == of
            )
            whole = (
                shapes
                and len(names) == n > 0
                and len(labels) in (0, n)
                and all(np.isfinite(a).all() for a in (y, mean, vectors, reduced))
            )
        except FileNotFoundError:
            raise Refusal(f"there is no map {path}; name the .npz that `likeness map` wrote.") from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise BadData(f"{path} is no map ({error}); name the .npz that `likeness map` wrote.") from None
        if not whole:
            raise BadData(f"{path} is a damaged map; make it again with likeness map.")
        return result


def usual_perplexity(n: int) -> float:
    """30, or a third of the others where that is less: a whole number, unless nothing above 1 would be left
    of it."""
    most = (n - 1) / tsne.NEIGHBOURS
    return min(tsne.PERPLEXITY, math.floor(most) if most >= 2 else most)


def check(method: str) -> None:
    """Refuse a method that there is not, and UMAP where its package is missing."""
    if method not in METHODS:
        raise Refusal(
            f"there is no method {method!r}; type --method {', '.join(METHODS[:-1])} or {METHODS[-1]}."
        )
    if method == "umap" and find_spec("umap") is None:
        raise Refusal(
            "UMAP needs the package umap-learn: pip install 'likeness[maps]'; or type --method tsne, which "
            "needs nothing."
        )


def arrange(
    reduced: np.ndarray,
    method: str = "tsne",
    perplexity: float = tsne.PERPLEXITY,
    seed: int = 0,
    random: bool = False,
    near: tsne.Affinities | None = None,
) -> Iterator[tsne.Step]:
    """Yield ever better maps of rows by principal components, float32 (n, d); the last counts.  The same seed
    gives the same bits.

    random: begin at random places, of t-SNE, and not at the two largest components.  Only t-SNE has a KL and
    more than one step.
    near: the affinities of these rows, which maps from several starts share; by `perplexity` where they are
    not given. Raises Refusal for an unknown method, too few rows, a perplexity that they do not allow, and
    where the package of UMAP is missing.
    """
    check(method)
    x = torch.from_numpy(reduced)
    if method == "tsne":
        near = tsne.affinities(x, perplexity) if near is None else near
        yield from tsne.descend(near, tsne.start(x, seed, random))
    elif method == "umap":
        yield tsne.Step(0, torch.from_numpy(_umap(reduced, seed)), math.nan)
    else:
        yield tsne.Step(0, torch.cat([x, x.new_zeros(len(x), 1)], 1)[:, :2].clone(), math.nan)


def _umap(reduced: np.ndarray, seed: int) -> np.ndarray:
    import umap  # type: ignore[import-not-found, unused-ignore]

    if len(reduced) < tsne.LEAST:
        raise Refusal(
            f"UMAP arranges {len(reduced)} images no better than you do by hand: bring {tsne.LEAST} or more."
        )
    around = umap.UMAP(
        n_neighbors=min(15, len(reduced) - 1),
        random_state=seed,
        n_jobs=1,
        init="random" if len(reduced) < 20 else "spectral",
    )
    return np.ascontiguousarray(around.fit_transform(reduced), dtype=np.float32)


# How far it may be believed


class Kept(NamedTuple):
    """For each image that was asked, (q,)."""

    recall: np.ndarray
    """share of the k nearest in the map than which fewer than k are nearer in features: any of those that are
    equally near will do"""
    trust: np.ndarray
    """1 minus a penalty for those near in the map that are far in features: the mean is trustworthiness
    (Venna & Kaski 2001)"""
    right: np.ndarray
    """whether the commonest label among the k nearest in the map is the image's own; of features the same:
    `right_before`"""
    right_before: np.ndarray


def kept(
    x: np.ndarray, ys: dict[str, np.ndarray], labels: np.ndarray | None = None, k: int = K, seed: int = 0
) -> dict[str, Kept]:
    """What each of the maps ys, (n, 2) by their names, keeps of features x (n, D), in memory or mapped; of a
    random 2,000 images where there are more.

    labels: int (n,), -1 where there is none.  k is at most half of the others.
    """
    n = len(x)
    k = max(1, min(k, (n - 1) // 2))
    asked = (
        np.arange(n)
        if n <= ASKED
        else np.sort(np.random.default_rng((seed, 0xA5)).choice(n, ASKED, replace=False))
    )
    before, ranks = np.empty((len(asked), k), np.int64), {name: np.empty((len(asked), k)) for name in ys}
    after = {name: np.empty_like(before) for name in ys}
    step = max(1, HELD // n)
    for i in range(0, len(asked), step):
        some = asked[i : i + step]
        far = distances(x, some)
        before[i : i + step] = _least(far, k)
        for name, y in ys.items():
            after[name][i : i + step] = _least(distances(y, some), k)
        for j, row in enumerate(far, i):
            order = np.sort(row)
            for name, near in after.items():
                ranks[name][j] = 1 + np.searchsorted(order, row[near[j]])
    sides_kept, right_before = dict[str, Kept](), _right(labels, asked, before)
    for name, near in after.items():
        recall = (ranks[name] <= k).mean(1)
        trust = 1 - 2 * np.maximum(ranks[name] - k, 0).sum(1) / (k * (2 * n - 3 * k - 1))
        sides_kept[name] = Kept(recall, trust, _right(labels, asked, near), right_before)
    return sides_kept


def _least(far: np.ndarray, k: int) -> np.ndarray:
    """Where the k least of each row (q, n) stand, int64 (q, k), in any order; row by row, since all places
    take twice the memory of the distances."""
    return np.stack([np.argpartition(row, k - 1)[:k] for row in far])


def distances(x: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Squared distances, float32 (q, n), of rows `some` of x (n, D) to all, in units of unit(x); to itself
    infinity."""
    scale = unit(x)
    centre = (np.asarray(x[:: max(1, len(x) // 1000)], np.float32) / np.float32(scale)).mean(0)
    queries = np.asarray(x[some], np.float32) / np.float32(scale) - centre
    out = np.empty((len(some), len(x)), np.float32)
    for i, part in blocks(x, scale):
        part, there = part - centre, out[:, i : i + len(part)]
        np.matmul(queries, part.T, out=there)
        there *= -2
        there += np.einsum("ij,ij->i", part, part)
    out += np.einsum("ij,ij->i", queries, queries)[:, None]
    out[np.arange(len(some)), some] = np.inf
    return out


def _right(labels: np.ndarray | None, asked: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Whether the neighbours (q, k) of those asked (q,) vote for their label, of those that have one."""
    if labels is None:
        return np.empty(0)
    own = labels[asked]
    return (_voted(labels, near) == own)[own >= 0].astype(np.float64)


def _voted(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The commonest label among the neighbours in each of `rows` (q, k), the first of several."""
    names, at = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(rows), len(names)))
    np.add.at(votes, (np.arange(len(rows))[:, None], at[rows]), 1)
    votes[:, names < 0] = 0
    return names[votes.argmax(1)]


def overlap(maps: list[np.ndarray], k: int = K) -> np.ndarray:
    """Share of the k nearest that two maps (n, 2) of the same images have in common, (n,): the mean over all
    pairs of maps."""
    n = len(maps[0])
    k = max(1, min(k, (n - 1) // 2))
    near = [tsne.nearest(torch.from_numpy(y), k)[1].numpy() for y in maps]
    pairs = [(a[:, :, None] == b[:, None, :]).any(2).mean(1) for i, a in enumerate(near) for b in near[:i]]
    return np.mean(pairs, axis=0)


def cards(
    x: np.ndarray, made: Map, labels: np.ndarray | None = None, others: list[np.ndarray] | None = None
) -> list[Score]:
    """What stands beside a map, as score cards of it ("map"), of a PCA plot and of chance.

    x: the features (n, D) that it was made from, as they are.  others: maps from other starts.
    """
    seed, n, k = int(made.settings["seed"]), len(x), max(1, min(K, (len(x) - 1) // 2))
    sides = {"map": made.y} | (
        {} if made.settings["method"] == "pca" else {"PCA plot": next(arrange(made.reduced, "pca")).y.numpy()}
    )
    result, scores = kept(x, sides, labels, seed=seed), []
    about: dict[str, Any] = dict(against=n, split="images", better="higher", settings=dict(k=k), seed=seed)
    note = f"of the {k} nearest in features, the share among the {k} nearest in the map"
    for name, each in result.items():
        scores.append(measure("neighbours kept", each.recall, of=name, note=note, **about))
    chance = k / (n - 1)
    scores.append(
        Score(
            "neighbours kept",
            chance,
            of="chance",
            kind="exact",
            n=n,
            note="points at random",
            split="images",
            better="higher",
        )
    )
    for name, each in result.items():
        scores.append(
            measure(
                "trustworthiness",
                each.trust,
                of=name,
                note="1: whatever is near in the map is near in features; about 0.5: chance",
                **about,
            )
        )
    if labels is not None and len(result["map"].right):
        right, note = (
            {"features": result["map"].right_before} | {name: each.right for name, each in result.items()},
            f"most of the {k} nearest share the label",
        )
        scores += [
            measure("label of neighbours", values, of=name, unit="share", note=note, **about)
            for name, values in right.items()
        ]
    if others:
        note = (
            f"share of {k} nearest that two maps from different random starts have in common, {len(others)} "
            "maps"
        )
        scores.append(measure("stability", overlap(others, k), of="map", note=note, **about))
    return scores


# New images on an old map


def place(made: Map, x: np.ndarray, perplexity: float = 5.0, steps: int = 100) -> np.ndarray:
    """Where new features x (m, D) lie on a map, float32 (m, 2); nothing on the map moves, and each row is
    placed by itself.

    By the same two laws as in t-SNE between a new row and those of the map, whichever method made it:
    KL(p_.|i || q_.|i) is minimised over y_i, from that one of its neighbours which is nearest to all of them
    (after Poličar, Stražar & Zupan 2021, "Embedding to reference t-SNE space addresses batch effects"; their
    mean may lie in the void between two islands).
    """
    new, old, y = torch.from_numpy(made.axes.of(x)), torch.from_numpy(made.reduced), torch.from_numpy(made.y)
    k = min(len(old), math.ceil(tsne.NEIGHBOURS * perplexity))
    scale = _unit(y)
    return (
        torch.cat(
            [
                _placed(part, old, y / scale, min(perplexity, max(1.0, k / 2)), k, steps)
                for part in new.split(max(1, tsne.BLOCK // len(old)))
            ]
        )
        .mul(scale)
        .numpy()
    )


def _unit(y: Tensor) -> float:
    """The scale of a map, whichever method made it: points of a t-SNE map lie about 0.5 from their nearest
    few."""
    k = min(5, len(y) - 1)
    return max(1e-12, float(tsne.nearest(y, k)[0][:, -1].sqrt().median()) / 0.5) if k else 1.0


def _placed(new: Tensor, old: Tensor, y: Tensor, perplexity: float, k: int, steps: int) -> Tensor:
    # whoever lies far off all of them
    scale = tsne.unit(float(torch.maximum(new.abs().max(), old.abs().max())))
    new, old = new / scale, old / scale
    result = torch.cdist(new, old, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False)
    p, near = tsne.conditionals(result.values.square(), perplexity), y[result.indices]

    def divergence(at: Tensor) -> Tensor:
        pull = (p * (at[:, None] - near).square().sum(2).log1p()).sum(1)
        return (
            pull
            + (1 / (1 + torch.cdist(at, y, compute_mode="donot_use_mm_for_euclid_dist").square()))
            .sum(1)
            .log()
        )

    apart = torch.cdist(near, near, compute_mode="donot_use_mm_for_euclid_dist")
    first = (apart @ p[..., None])[..., 0].argmin(1)
    return final(minimize([near[torch.arange(len(near)), first]], divergence, steps, 0.1)).at[0]
