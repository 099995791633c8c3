"""What every other part sees of the data: `Data`; and how it was asked to be read: `Reading`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core import BadData, check_options, option
from .cache import Entry
from .captions import Vocabulary
from .labels import NONE, absent
from .lazy import Lazy, Made

# torch is imported when pixels become tensors: a folder is refused, and the sets are listed, without it
if TYPE_CHECKING:
    from torch import Tensor

    from ..core import Batch, Noise, Spec


@dataclass(frozen=True)
class Reading:
    """How images are read.  Each field is a flag of every command that takes DATA, and an
    argument of `load`."""

    size: int = option(
        0,
        "height and width in pixels: images are scaled and cropped to it; 0 is as the data is, or 64 for a "
        "folder",
        0,
        4096,
    )
    colour: str = option(
        "auto",
        "channels to keep; auto is grey when every image is, however it is stored",
        choices=("auto", "grey", "rgb"),
    )
    binarize: bool = option(
        False,
        "turn each pixel black or white once, white with the probability of its brightness (static "
        "binarisation)",
    )
    background: str = option("white", "colour behind transparent pixels: a name or #rrggbb")
    white: float = option(
        0.0,
        "value of white (black is 0) in float or wide integer pixels; 0 is told from the data, or refused",
        0.0,
        1e12,
    )
    held_out: float = option(
        0.0,
        "share of images held out where there is no official split; 0 is a tenth, or 64 images of a small "
        "folder",
        0.0,
        0.5,
    )
    validation: str = option(
        "auto",
        "the validation part of an .npz file: auto trains on it beside a test part, else holds it out",
        choices=("auto", "train", "held-out", "none"),
    )
    layout: str = option(
        "auto",
        "what folders inside are: classes, pairs (images/ masks/) or two domains (trainA/ trainB/); together "
        "is one set of images; side-by-side: two squares of a pair in one file; auto goes by their names",
        choices=("auto", "classes", "together", "pairs", "domains", "side-by-side"),
    )
    task: str = option(
        "",
        "what a model makes of each image: the source is made from it (its grey, its reduced size, a hole in "
        "it, its edges; of videos slow2 and slow4: every second or fourth frame)",
        choices=("", "colourise", "upscale2", "upscale4", "inpaint", "edges", "slow2", "slow4"),
    )
    to: str = option(
        "", "the second domain, B, which DATA, domain A, is translated to: a folder, file or name"
    )
    tiles: bool = option(
        False, "cut photos into squares of --size at full resolution, instead of scaling them down"
    )
    swap: bool = option(False, "exchange source and target of pairs, or the two domains")
    frames: int = option(
        0,
        "read videos (GIF, APNG, WebP, MP4, WebM, folders of frames) as clips of so many frames, spread over "
        "their time; 0 reads still images",
        0,
        1000,
    )

    def __post_init__(self) -> None:
        check_options("data", self)

    def key(self, size: int = 0, colour: str = "") -> tuple[object, ...]:
        """What decoded pixels depend on; binarisation comes later."""
        tiles = (TILES,) if self.tiles else ()
        clips = (f"{self.frames} frames",) if self.frames else ()
        return size or self.size, colour or self.colour, self.background, self.white, *tiles, *clips


TILES = "tiles 1"
"""in what decoded pixels depend on; raised whenever the same photo would be cut otherwise"""


class Lines(Lazy[str]):
    """Many short texts in one piece of memory: a million file names take 40 MB instead of 150."""

    def __init__(self, blob: bytes | np.ndarray, ends: np.ndarray):
        """blob: all the texts in UTF-8, one after another.  ends: int64 (N,), where each ends."""
        self.blob, self.ends = memoryview(blob if isinstance(blob, bytes) else blob.data), ends

    def __len__(self) -> int:
        return len(self.ends)

    def item(self, i: int) -> str:
        return bytes(self.blob[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


class Modes(NamedTuple):
    """Where the points of a law lie that has modes: Gaussians of equal weight around them."""

    centres: np.ndarray
    """(K, 2)"""
    sigma: float


@dataclass(frozen=True)
class Images:
    """What a reader found, before it is split: the same fields as in `Data`."""

    x: np.ndarray
    hashes: np.ndarray
    """uint64 (N,) of the pixels of each image"""
    verdict: str
    levels: int = 256
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    texts: Sequence[str] | None = None
    attributes: Sequence[dict[str, Any]] | None = None
    names: Sequence[str] | None = None
    test: np.ndarray | None = None
    """bool (N,): the rows of the official test split, where there is one"""
    keys: np.ndarray | None = None
    """uint64 (N,) of what each image was made from, which choose the split; else the hashes do"""
    new: np.ndarray | None = None
    """bool (N,): the rows whose combination of attributes is held out, where this was asked for"""
    entry: Entry | None = None
    """where the reader wrote what else it found out"""
    skipped: dict[str, int] = field(default_factory=dict)
    """files skipped, by reason"""
    full_list: str = ""
    """path of the list of them"""
    modes: Modes | None = None
    copies: np.ndarray | None = None
    """uint64 (N,): what is equal for images that must be on one side of the split; else the hashes"""
    whole: np.ndarray | None = None
    """int64 (N,): number of the photo that each tile was cut from; those of one are on one side of the
    split"""


@dataclass(frozen=True)
class Data:
    """A set of images of one shape, with what is known about each, split into train and held out.

    Pixels lie in memory, in the cache or in the user's own .npy file (mapped read-only).  A folder is decoded
    into the cache before anything else happens, so that a file which changes or goes while a model trains on
    it changes nothing.
    """

    source: str
    """what the user typed: a built-in name or a path"""
    fingerprint: str
    """hex digest that changes when any image, label, caption, the split or the way of reading them changes"""
    x: np.ndarray
    """uint8 (N, C, H, W), in memory or memory-mapped read-only; or float32 points (N, 2, 1, 1)"""
    train: np.ndarray
    """int64 rows of x to learn from"""
    held_out: np.ndarray
    """int64 rows of x never trained on; no image here has an exact duplicate in train"""
    y: np.ndarray | None = None
    """int64 (N,) class of each image; labels.NONE of one that is unlabelled"""
    classes: tuple[str, ...] = ()
    texts: Sequence[str] | None = None
    """a caption for each image; empty where the file that holds them has none"""
    attributes: Sequence[dict[str, Any]] | None = None
    """what was drawn, exactly (built-in set `shapes`)"""
    names: Sequence[str] | None = None
    """file name of each image, where it came from a file; bytes that are not UTF-8 or cannot be printed are
    escaped"""
    levels: int = 256
    """2 where every pixel of every image is 0 or 255, 17 for the set `digits` as it is, 0 for points, else
    256"""
    settings: dict[str, Any] = field(default_factory=dict)
    """how it was read (size, colour, binarize ...): load(source, **settings) gives the same data again"""
    verdict: str = ""
    """one line: how many images were found, used, skipped and why"""
    modes: Modes | None = None
    """of points, where their law has any"""
    parts: dict[str, str] = field(default_factory=dict)
    """hex digests of pixels, labels, captions and split: which of them differs where the fingerprint does"""
    pairs: np.ndarray | Made | None = None
    """uint8 (N, C', H', W'): the other image of each example, the source, which a Condition then holds; in
    memory, mapped, or made when it is asked for"""
    combinations: np.ndarray | None = None
    """int64 rows of x that combine attributes as no training image does, and no row of held_out"""
    other: Data | None = None
    """a second domain, A, of which nobody knows what in it belongs to what is here: its training images come
    in an order of their own"""
    truth: np.ndarray | None = None
    """uint8 (n, C, H, W): what each of the n held-out images of `other` looks like on this side, where that
    is known (sets drawn by code, domains with equal names).  For scoring only: no batch holds it"""

    @property
    def spec(self) -> Spec:
        from ..core import Spec

        words, longest = (len(self.vocabulary), self.vocabulary.longest) if self.vocabulary else (0, 0)
        beside = self.pairs if self.pairs is not None else self.other.x if self.other is not None else None
        source = (0, 0) if beside is None else (beside.shape[1], beside.shape[-1])
        frames = self.x.shape[2] if self.x.ndim == 5 else 0
        return Spec(
            self.x.shape[1],
            self.x.shape[-1],
            len(self.classes),
            self.levels,
            False,
            frames,
            words,
            longest,
            source,
            self.absent,
        )

    @cached_property
    def absent(self) -> tuple[int, ...]:
        """Classes that no training image has."""
        return absent(self.y, self.train, self.classes)

    @cached_property
    def labelled(self) -> Data:
        """The same without the images, of either side, that have no class, for models that take it."""
        if self.y is None or not (self.y[np.concatenate([self.train, self.held_out])] == NONE).any():
            return self
        train, held_out = (rows[self.y[rows] != NONE] for rows in (self.train, self.held_out))
        return replace(self, train=train, held_out=held_out)

    def usable(self, parts: Sequence[str]) -> Data:
        """What a model can use that takes these parts of a Condition: for classes, the labelled images."""
        if "label" not in parts or self.labelled is self:
            return self
        lost = len(self.train) + len(self.held_out) - len(self.labelled.train) - len(self.labelled.held_out)
        text, arrow, full_list = self.verdict.partition(" -> ")
        text += f"; the {lost:,} unlabelled are left out, since this model takes the class"
        return replace(self.labelled, verdict=f"{text}{arrow}{full_list}")

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words of the captions of training images, where there are any."""
        return None if self.texts is None else Vocabulary.of(self.texts[int(row)] for row in self.train)

    @cached_property
    def tokens(self) -> np.ndarray | None:
        """int32 (N, T): the caption of each image."""
        return None if self.texts is None or self.vocabulary is None else self.vocabulary.tokens(self.texts)

    def with_pairs(self, pairs: np.ndarray | Made, digest: str = "") -> Data:
        """The same examples, each with its other image: uint8 (N, C', H', W').  digest: changes with any
        pixel of these, where that is known without reading all.  Raises BadData where their numbers
        differ."""
        if len(pairs) != len(self.x) or pairs.dtype != np.uint8 or pairs.ndim != self.x.ndim:
            raise BadData(
                f"{self.source} holds {len(self.x):,} images, and the other sides of its pairs are "
                f"{pairs.dtype} {pairs.shape}; uint8 (N, C, H, W) are needed."
            )
        digest = digest or hashlib.blake2b(np.ascontiguousarray(pairs), digest_size=16).hexdigest()
        return replace(self, pairs=pairs, fingerprint=_extended(self.fingerprint, digest))

    def with_domain(self, other: Data) -> Data:
        """The same examples beside those of another domain.  Raises BadData where one of them has no training
        images or other sizes."""
        if self.x.shape[2:] != other.x.shape[2:]:
            raise BadData(
                f"{self.source} holds images of {self.x.shape[2:]} pixels and {other.source} of "
                f"{other.x.shape[2:]}; read both with the same --size."
            )
        if empty := [side.source for side in (self, other) if not len(side.train)]:
            raise BadData(f"{empty[0]} has no training images; both domains need some.")
        return replace(self, other=other, fingerprint=_extended(self.fingerprint, other.fingerprint))

    @property
    def place(self) -> str:
        """Where the images of x are: the source, or the second place that was named."""
        to = str(self.settings.get("to") or "")
        return to if to and not self.settings.get("swap") else self.source

    @property
    def identity(self) -> dict[str, Any]:
        """What a run writes down about its data."""
        return dict(source=self.source, fingerprint=self.fingerprint, **self.settings)

    def batch(self, seed: int, seen: int, n: int, rows: slice = slice(None), key: int = 0) -> Batch:
        """`rows` of the n training images that come after `seen` others; each carries noise of its own place
        in the walk."""
        import torch

        from ..core import Noise

        at = np.arange(seen, seen + n)[rows]
        there = None if self.other is None else self.other.train[self.other.order(seed, at, OTHER)]
        return self.take(self.train[self.order(seed, at)], Noise(torch.from_numpy(at), key), there)

    def take(self, index: np.ndarray, noise: Noise | None = None, there: np.ndarray | None = None) -> Batch:
        """The images of rows `index` (int64) of x, as floats (n, C, H, W) in [-1, 1], with all that is known
        of each.

        there: rows of the other domain, one for each of `index`, where there is such a domain; without them
        those that opposite() has.
        """
        import torch

        from ..core import Batch, Condition, Noise

        label = None if self.y is None else torch.from_numpy(self.y[index])
        tokens = None if self.tokens is None else torch.from_numpy(self.tokens[index]).long()
        image = None if self.pairs is None else picture(self.pairs[index])
        if image is None and self.other is not None:
            image = picture(self.other.x[self.opposite(index) if there is None else there])
        y = None if label is tokens is image is None else Condition(label, tokens, image)
        return Batch(picture(self.x[index]), y, noise or Noise(torch.from_numpy(index)))

    def opposite(self, index: np.ndarray) -> np.ndarray:
        """Rows of the other domain, int64 (n,), beside rows `index` (n,): what is at the same place of the
        same split, in turns where that is shorter, and of its training images where it holds none out."""
        assert self.other is not None
        train, (place, held_out) = self.other.train, self._places
        beside = self.other.held_out if len(self.other.held_out) else train
        return np.where(held_out[index], beside[place[index] % len(beside)], train[place[index] % len(train)])

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each row of x: its place in its split, int64 (N,), and whether that is the held-out one, bool
        (N,)."""
        place, held_out = np.arange(len(self.x)), np.zeros(len(self.x), bool)
        for rows in (self.train, self.held_out):
            place[rows] = np.arange(len(rows))
        held_out[self.held_out] = True
        return place, held_out

    def order(self, seed: int, at: np.ndarray, domain: int = 0) -> np.ndarray:
        """Indices into `train` of places `at` of an endless walk that is shuffled anew every epoch; another
        domain walks in another order."""
        n = len(self.train)
        epochs = at // n
        if len(at) and (epochs == epochs[0]).all():  # as nearly always: a tiny network notices the rest
            return _permutation((seed, int(epochs[0]), domain)[: 3 if domain else 2], n)[at - epochs[0] * n]
        out = np.empty(len(at), np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = _permutation((seed, int(epoch), domain)[: 3 if domain else 2], n)[at[here] % n]
        return out


@lru_cache(maxsize=4)
def _permutation(seeds: tuple[int, ...], n: int) -> np.ndarray:
    return np.random.default_rng(seeds).permutation(n)


OTHER = 1
"""the number of the second domain, in what its order depends on"""


def _extended(fingerprint: str, by: str) -> str:
    return hashlib.blake2b(f"{fingerprint} {by}".encode(), digest_size=16).hexdigest()


def picture(x: np.ndarray) -> Tensor:
    """uint8 becomes float in [-1, 1]; points are what they are."""
    import torch

    if x.dtype == np.float32:
        return torch.from_numpy(np.ascontiguousarray(x))
    return torch.from_numpy(np.ascontiguousarray(x)).float().mul_(2 / 255).sub_(1)
