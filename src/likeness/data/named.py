"""The sets that have a name: `digits`, `shapes`, `faces` and points without a network; `mnist`, what is made
of it, `fashion-mnist` and `cifar10` by the lock table."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core import BadData, Refusal
from ..storage.cache import Progress, key_of
from . import arrays, downloads, drawn, faces, formats, moving_shapes, points, shapes
from .cache import fetch, room_for
from .dataset import Images, Reading
from .formats import Raw
from .pixels import resize
from .writer import Writer, digest64

NAMES = {
    "digits": "1,797 handwritten digits, 8x8 grey, from scikit-learn; no network",
    "shapes": "coloured shapes drawn by code, 32x32 RGB, with captions and exact attributes; "
    "shapes:50000 for as "
    "many; no network",
    "moving-shapes": "clips of coloured shapes that move, drawn by code, 16 frames of 32x32 RGB or any other "
    "size, with captions and exact trajectories; moving-shapes:50000 for as many; no network",
    "faces": "portraits drawn by code, 32x32 RGB or any other size, with captions and exact attributes; "
    "faces:50000 for as many; no network",
    "mnist": "70,000 handwritten digits, 28x28 grey",
    "stacked-mnist": "three digits of mnist as red, green and blue: 1,000 classes, 28x28 RGB; "
    "stacked-mnist:50000 for "
    "as many to learn from",
    "fashion-mnist": "70,000 pieces of clothing, 28x28 grey",
    "cifar10": "60,000 photographs of ten classes, 32x32 RGB",
    **drawn.NAMES,
    **points.NAMES,
}
DRAWN: dict[str, Any] = {"shapes": shapes, "moving-shapes": moving_shapes, "faces": faces}
"""modules that invent() and draw() images"""
NEW = "combinations"
"""what follows the name of a set whose new combinations of attributes are held out: shapes:combinations,
shapes:50000:combinations"""
COMBINED = ("shapes", "moving-shapes")
"""sets that have them"""
COUNTED = {
    **dict.fromkeys(DRAWN, 10_000),
    **dict.fromkeys(drawn.KINDS, drawn.COUNT),
    "stacked-mnist": 128_000,
    **dict.fromkeys(points.LAWS, points.COUNT),
}
"""sets drawn by code, and how many unless a number is said, as in shapes:50000"""
STACKED_TESTS = 26_000
"""held-out images of stacked-mnist, whatever it has to learn from"""
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


def is_named(source: str) -> bool:
    """Whether this is no path but the name of a set, such as mnist, shapes:50000 or density:drawing.png."""
    return source in NAMES or source.partition(":")[0] in COUNTED or points.drawing(source) is not None


def read(name: str, reading: Reading, base: Callable[[], Path], progress: Progress | None) -> Images:
    """The set called `name`, of which is_named() is true.  `base` is asked for the cache only where it is
    needed."""
    if name == "digits":
        return _digits(reading, progress)
    if points.is_points(name):
        return points.read(name, points.COUNT if points.drawing(name) is not None else _count(name), reading)
    if (kind := name.partition(":")[0]) in DRAWN:
        return _drawn(name, reading, base(), progress)
    if kind in drawn.KINDS:  # of two sides that which is learnt: sides.py reads both
        return drawn.read(kind, _count(name), reading, base(), progress).b
    if kind == "stacked-mnist":
        return _stacked(_count(name), reading, base, progress)
    digests = [f.digest for f in downloads.FILES[name]]
    # How much of CIFAR-10 there is depends on where it was found.
    where = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in _sheets()] if name == "cifar10" else []
    return arrays.settle(
        lambda: _named(name, base(), progress), (name, digests, where), name, reading, base(), progress
    )


def _digits(reading: Reading, progress: Progress | None) -> Images:
    """Held in memory, so that it works where nothing can be written but a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        result = arrays.settle(_read_digits, ("digits",), "digits", reading, Path(place), progress)
        levels = 17 if result.x.shape[2] == 8 else result.levels  # the table counts 0 to 16
        return replace(
            result, x=np.array(result.x), hashes=np.array(result.hashes), entry=None, levels=levels
        )


def _read_digits() -> Raw:
    """Read the table of scikit-learn's load_digits without importing scikit-learn, which takes as long as
    importing torch."""
    place = importlib.util.find_spec("sklearn")
    table = (
        Path(place.origin).parent / "datasets" / "data" / "digits.csv.gz" if place and place.origin else None
    )
    if table is None or not table.is_file():
        raise BadData(
            "digits are part of scikit-learn, and they are not in the one installed here; reinstall it: "
            "pip install --force-reinstall scikit-learn."
        )
    rows = np.loadtxt(table, np.int64, delimiter=",")
    return Raw(
        np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8),
        rows[:, -1],
        classes=CLASSES["mnist"],
    )


def listed() -> list[dict[str, Any]]:
    """A row for each set that has a name, and whether it is on this machine."""
    rows = []
    for name, about in NAMES.items():
        made_of = name.removeprefix("stacked-")
        here = made_of not in downloads.FILES or downloads.complete(made_of)
        rows.append(
            dict(
                name=name,
                about=about,
                licence=downloads.LICENCES.get(made_of, "free to use"),
                here="yes" if here else "after a download",
            )
        )
    return rows


def count(name: str) -> int:
    """How many a set has that is drawn by code."""
    return _count(name)


def _count(name: str) -> int:
    """shapes:50000 has 50,000."""
    kind, _, count = name.removesuffix(f":{NEW}" if name.partition(":")[0] in COMBINED else "").partition(":")
    number = count or str(COUNTED[kind])
    if not (number.isascii() and number.isdecimal() and 2 <= int(number[:12]) <= 10_000_000):
        many = "points" if points.is_points(name) else "images"
        raise Refusal(f"{name!r} should end in a number of {many} from 2 to 10000000, such as {kind}:50000.")
    return int(number)


def _drawn(name: str, reading: Reading, base: Path, progress: Progress | None) -> Images:
    kind, n = name.partition(":")[0], _count(name)
    by = DRAWN[kind]
    side = by.side(reading.size)
    size = reading.size or side
    scenes = by.invent(n, side)

    def build(folder: Path) -> dict[str, Any]:
        room_for(folder, n * 3 * size * size * getattr(by, "FRAMES", 1))
        writer = Writer(folder, reading.colour)
        for x in by.draw(scenes):
            keys = [digest64(b"scene %d" % (len(writer.keys) + i)) for i in range(len(x))]
            writer.add(resize(x, size), keys)
            if progress:
                progress(len(writer.hashes), n)
        return writer.finish()

    key = partial(key_of, kind, by.VERSION, n, side, size)
    entry = fetch(
        base, key(reading.colour), build, lambda meta: key("rgb" if meta["shape"][1] == 3 else "grey")
    )
    what = "clips" if entry.x.ndim == 5 else "images"
    return Images(
        entry.x,
        entry.hashes,
        f"{n:,} {what}: {n:,} used, 0 skipped; drawn by code",
        entry.meta["levels"],
        scenes.y.astype(np.int64),
        by.CLASSES,
        shapes.Descriptions(scenes, by.caption),
        scenes,
        keys=entry.keys,
        new=scenes.new if name.endswith(f":{NEW}") else None,
    )


def _stacked(n: int, reading: Reading, base: Callable[[], Path], progress: Progress | None) -> Images:
    """n images to learn from, of digits from MNIST's training images, and others to be judged by, of digits
    from its test images.

    Class 100 R + 10 G + B of three digits drawn by chance, each a channel: 1,000 modes, nearly equally
    frequent (Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3.1; the numbers are
    those of Lin et al., "PacGAN", 2018, section 4.2).
    """
    if reading.colour == "grey":
        raise Refusal("stacked-mnist tells its digits apart by their colours; leave --colour grey out.")

    def build(folder: Path) -> dict[str, Any]:
        digits = read("mnist", Reading(), base, progress)
        assert digits.y is not None and digits.test is not None
        first = _three(np.flatnonzero(~digits.test), n, 0)
        rows = np.concatenate([first, _three(np.flatnonzero(digits.test), STACKED_TESTS, 1)])
        (folder / "y.i64").write_bytes((digits.y[rows] @ np.array([100, 10, 1])).tobytes())
        size = reading.size or digits.x.shape[2]
        room_for(folder, len(rows) * 3 * size * size)
        writer, step, pixels = Writer(folder), 4096, resize(digits.x, size)[:, 0]
        for i in range(0, len(rows), step):
            writer.add(pixels[rows[i : i + step]])
            if progress:
                progress(len(writer.hashes), len(rows))
        return writer.finish()

    key = partial(key_of, "stacked-mnist", [f.digest for f in downloads.FILES["mnist"]], n, STACKED_TESTS)
    entry = fetch(base(), key(reading.size), build, lambda meta: key(meta["shape"][2]))
    y, test = np.array(entry.array("y.i64", np.int64)), np.arange(n + STACKED_TESTS) >= n
    note = (
        f"{len(y):,} images: {len(y):,} used, 0 skipped; drawn by code; the {STACKED_TESTS:,} made of "
        "MNIST's test images are held out"
    )
    return Images(
        entry.x,
        entry.hashes,
        note,
        entry.meta["levels"],
        y,
        tuple(f"{k:03}" for k in range(1000)),
        test=test,
        entry=entry,
    )


def _three(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n times three of these rows, by chance: the first ones are the same for every n."""
    return rows[np.random.default_rng((seed, 0x57AC)).integers(0, len(rows), (n, 3))]


def _named(name: str, base: Path, progress: Progress | None) -> Raw:
    raw = _cifar(base, progress) if name == "cifar10" else _idx(name, base, progress)
    return replace(raw, classes=CLASSES[name])


def _idx(name: str, base: Path, progress: Progress | None) -> Raw:
    x, y, tx, ty = (
        formats.read_idx(io.BytesIO(downloads.content(name, f, base, progress)))
        for f in downloads.FILES[name]
    )
    return formats.joined(x, y, tx, ty)


# CIFAR-10 comes as the authors' archive, as the six files in it, or as contact sheets of 1,000 images.

_ROW = 1 + 3 * 32 * 32


def _cifar(base: Path, progress: Progress | None) -> Raw:
    if files := downloads.batches():
        return _batches(
            [
                np.frombuffer(downloads.verified("cifar10", f, "sha1", downloads.BATCHES[f.name]), np.uint8)
                for f in files
            ]
        )
    if files := _sheets():
        return _from_sheets(files)
    with tarfile.open(
        fileobj=io.BytesIO(downloads.content("cifar10", downloads.FILES["cifar10"][0], base, progress))
    ) as archive:
        members = (archive.extractfile(f"cifar-10-batches-bin/{n}") for n in downloads.BATCHES)
        return _batches([np.frombuffer(f.read(), np.uint8) for f in members if f])


def _batches(parts: list[np.ndarray]) -> Raw:
    """Rows of a label and 32x32 pixels of red, then green, then blue."""
    rows = np.concatenate(parts).reshape(-1, _ROW)
    x, y, train = rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0], len(rows) - len(parts[-1]) // _ROW
    return formats.joined(x[:train], y[:train], x[train:], y[train:])


def _sheets() -> list[Path]:
    """The contact sheets, where the user has neither the archive nor its files."""
    return (
        []
        if downloads.lookup("cifar10", downloads.FILES["cifar10"][0].name) or downloads.batches()
        else downloads.sheets()
    )


def _from_sheets(files: list[Path]) -> Raw:
    """Part of CIFAR-10: sheets train_NN.webp and test_00.webp, and their labels, one byte an image.

    Labels are those of sheets 0 to 49 in the order of their names, with the test sheet last.
    """
    blobs = {
        f.name: downloads.verified(
            "cifar10", f, "sha256", downloads.SHEETS.get(f.name, "one of those in the lock table")
        )
        for f in files
    }
    labels = np.frombuffer(blobs.pop(downloads.LABELS), np.uint8).reshape(51, 1000)
    test = blobs.pop(downloads.TEST_SHEET)
    x = np.concatenate([_tiles(blob) for blob in (*blobs.values(), test)])
    y = labels[[*(int(Path(name).stem.removeprefix("train_")) for name in blobs), 50]].reshape(-1)
    raw = formats.joined(x[:-1000], y[:-1000], x[-1000:], y[-1000:])
    return replace(
        raw,
        note=f"; this is a part of CIFAR-10: {len(x) - 1000:,} of its 50,000 training images and {1000:,} of "
        "its 10,000 test images",
    )


def _tiles(blob: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(blob), formats=["WEBP"]) as image:
        return np.asarray(image).reshape(25, 32, 40, 32, 3).transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)
