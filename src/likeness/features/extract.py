"""Outputs of a network's layers for every image of a set: one pass, a matrix a layer, a row an image.

    features.npy     float32 (images, values), written chunk by chunk, readable at any time with
                     np.load(..., mmap_mode="r")
    features.csv     row, file, label
    features.json    the request, and the images done so far: the same request continues from there, another
                     one is refused

Images that cannot be used are skipped and listed.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from .. import engine, storage
from ..backbones.layers import Probe, rows
from ..core import BadData, Busy, DiskTrouble, Refusal
from ..data.dataset import Reading
from ..data.decode import Skip
from ..data.pixels import SCALINGS
from ..data.source import Source, parse
from .images import Pictures, ahead, pictures, some
from .opening import OfRun, again

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "": rows,
    "avg": lambda y: y.mean((2, 3)) if y.ndim == 4 else y.mean(1) if y.ndim == 3 else y,
    "max": lambda y: y.amax((2, 3)) if y.ndim == 4 else y.amax(1) if y.ndim == 3 else y,
}
AT_ONCE = dict(cpu=8, cuda=64)
"""images of 224x224 in one go"""
MANY = 32
"""images for which it pays to get the network ready"""
SAVE = 5.0
"""seconds after which what is done is put on the disk"""


@dataclass(frozen=True)
class Asked:
    """A request: all that the numbers depend on, and where to find again what they were made of."""

    source: str
    """a name or an absolute path; the same images may be called otherwise"""
    opens: str
    """what opens the network again, from any folder"""
    data: str
    """fingerprint of the images, or of the files and when they were changed"""
    network: str
    weights: str
    sha256: str
    layers: tuple[str, ...]
    pool: str
    size: int
    interpolation: str
    precision: str
    reading: dict[str, Any] = field(default_factory=dict)
    """of the images, beside their size, where it is not the usual one"""
    chosen: tuple[int, ...] = ()
    """so many, of how many, by which seed; nothing for all of them"""

    def decides(self) -> dict[str, Any]:
        """What the numbers depend on, as it stands in a .json."""
        result: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in result.items() if name not in ("source", "opens")}

    def differences(self, other: dict[str, Any]) -> list[str]:
        # What is empty may as well be absent: older files do not speak of it.
        own = self.decides().items()
        return [
            f"{name} {other.get(name)!r} there, {value!r} asked for"
            for name, value in own
            if (other.get(name) or None) != (value or None)
        ]

    def digest(self) -> str:
        return hashlib.blake2b(json.dumps(self.decides(), sort_keys=True).encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class Done:
    """How far it has come."""

    files: int = 0
    """of the set: used or skipped"""
    rows: int = 0
    listed: int = 0
    """bytes of the .csv"""
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    """file, reason, detail"""
    finished: bool = False


@dataclass(frozen=True)
class At:
    """A word on the way."""

    done: Done
    total: int
    seconds: float
    """since this process began"""
    fresh: int
    """rows that it has made"""


# Files


def targets(out: Path, layers: Sequence[str]) -> tuple[dict[str, Path], Path]:
    """Where each layer's matrix goes, and the name without ending of what is written beside: `out` is an
    .npy, or a folder."""
    if out.suffix.lower() == ".npy":
        stem = out.with_suffix("")
        return (
            {layers[0]: out}
            if len(layers) == 1
            else {n: stem.with_name(f"{stem.name}-{_safe(n)}.npy") for n in layers}
        ), stem
    if out.suffix:
        raise Refusal(f"-o {out} should end in .npy, or be a folder.")
    return {n: out / f"{_safe(n)}.npy" for n in layers}, out / "features"


def _safe(layer: str) -> str:
    return layer.replace("/", "-")


def header(rows: int, width: int) -> bytes:
    """Of an .npy file; numpy pads it so that it is as long for any number of rows."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, dict(descr="<f4", fortran_order=False, shape=(rows, width)))
    return out.getvalue()


class Output:
    """The files of one request, open to be written.  What is on the disk when a process is killed is cut back
    to what was saved last."""

    def __init__(self, asked: Asked, widths: dict[str, int], out: Path):
        """widths: values that each layer has for an image."""
        self.asked, self.widths = asked, widths
        self.paths, stem = targets(out, asked.layers)
        self.table, self.manifest = (stem.with_name(f"{stem.name}.{end}") for end in ("csv", "json"))
        self.done = Done()
        self.saved = time.monotonic()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Found as it was left, or made anew.  Raises Refusal where another request was written there, Busy
        where one is at it."""
        storage.make(self.manifest.parent)
        self.done = self._left()
        with ExitStack() as stack:
            try:
                files = {
                    path: stack.enter_context(_alone(path)) for path in (self.table, *self.paths.values())
                }
                self.list, self.files = (
                    files[self.table],
                    {name: files[path] for name, path in self.paths.items()},
                )
                if self.manifest.exists():
                    self._whole()
                if not self.done.finished:
                    self._cut()
            except OSError as why:
                raise storage.trouble(why, self.manifest.parent) from None
            if not self.done.finished:
                self.save()
            yield

    def _left(self) -> Done:
        if not self.manifest.exists():
            if there := next((p for p in (self.table, *self.paths.values()) if p.exists()), None):
                raise Refusal(
                    f"{there} exists, and there is no {self.manifest.name} that says what it holds; name "
                    "another file with -o, or remove it."
                )
            return Done()
        try:
            manifest = json.loads(self.manifest.read_text())
            differs, done = self.asked.differences(manifest["asked"]), Done(**manifest["done"])
        except (OSError, ValueError, KeyError, TypeError):
            raise BadData(f"{self.manifest} is damaged; name another file with -o, or remove it.") from None
        if differs:
            raise Refusal(
                f"{self.manifest} holds other features: {'; '.join(differs)}.  Name another file with -o, "
                "or remove that one."
            )
        if lost := next((p for p in (self.table, *self.paths.values()) if not p.exists()), None):
            raise BadData(
                f"{lost} is gone, which {self.manifest} speaks of; remove that, too, and run the command "
                "again."
            )
        return done

    def _whole(self) -> None:
        """Raises BadData where a file has lost what was saved: filled up with zeros it would pass for
        features."""
        sizes = {
            name: len(header(self.done.rows, width)) + 4 * self.done.rows * width
            for name, width in self.widths.items()
        }
        for path, file, size in (
            (self.table, self.list, self.done.listed),
            *((self.paths[n], f, sizes[n]) for n, f in self.files.items()),
        ):
            if os.fstat(file.fileno()).st_size < size:
                raise BadData(
                    f"{path} is shorter than {self.manifest} says; remove both and run the command again."
                )

    def _cut(self) -> None:
        """Back to what was saved."""
        if not self.done.listed:
            self.list.write(b"row,file,label\n")
            self.done = replace(self.done, listed=self.list.tell())
        self.list.truncate(self.done.listed)
        self.list.seek(0, os.SEEK_END)
        for name, file in self.files.items():
            start = header(self.done.rows, self.widths[name])
            file.seek(0)
            file.write(start)
            file.truncate(len(start) + 4 * self.done.rows * self.widths[name])
            file.seek(0, os.SEEK_END)

    def add(
        self, part: list[tuple[int, np.ndarray | Skip]], features: dict[str, np.ndarray], images: Pictures
    ) -> None:
        """The images of a chunk, and the rows of those that can be used.  What fails or is broken off on the
        way counts for nothing."""
        lines, row, skipped = io.StringIO(), self.done.rows, list(self.done.skipped)
        writer = csv.writer(lines, lineterminator="\n")
        for i, picture in part:
            if isinstance(picture, Skip):
                skipped.append((images.name(i), picture.reason, picture.detail))
            else:
                writer.writerow((row, images.name(i), images.label(i)))
                row += 1
        try:
            self.list.write(lines.getvalue().encode())
            for name, values in features.items():
                self.files[name].write(np.ascontiguousarray(values, "<f4").data)
        except OSError as why:
            raise storage.trouble(why, self.manifest.parent) from None
        self.done = Done(self.done.files + len(part), row, self.list.tell(), skipped)

    def save(self, finished: bool = False) -> None:
        """First the numbers, then the note that they are there."""
        done = replace(self.done, finished=finished)
        try:
            for name, file in self.files.items():
                file.seek(0)
                file.write(header(done.rows, self.widths[name]))
                file.seek(0, os.SEEK_END)
            for file in (self.list, *self.files.values()):
                file.flush()
                os.fsync(file.fileno())
        except OSError as why:
            raise storage.trouble(why, self.manifest.parent) from None
        files = {name: path.name for name, path in self.paths.items()}
        storage.write(
            self.manifest,
            json.dumps(dict(asked=asdict(self.asked), files=files, done=asdict(done)), indent=1).encode(),
        )
        self.done, self.saved = done, time.monotonic()


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """A file to read and write, which no other process has open like this."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"{path} is being written by another process; wait for it, or name another file with -o."
            ) from None
        yield file
    finally:
        with suppress(OSError):  # what could not be written has been told, and counts for nothing
            file.close()


# The pass


@dataclass
class Extraction:
    """A pass over a set of images; nothing is written before it is walked through."""

    net: Probe
    images: Pictures
    asked: Asked
    output: Output

    def __iter__(self) -> Iterator[At]:
        """Walk on from where it was left, with a word after each chunk.  Whoever stops listening has what was
        done until then saved."""
        begun, output = time.monotonic(), self.output
        with output.opened(), ExitStack() as stack:
            fresh = -output.done.rows
            self._room()
            try:
                if not output.done.finished:
                    hurry = (
                        self.net.hurried(self.asked.layers) if self.images.total >= MANY else nullcontext()
                    )
                    stack.enter_context(hurry)
                    for part in ahead(self.images, output.done.files, self._at_once()):
                        output.add(
                            part, self._looked([x for _, x in part if not isinstance(x, Skip)]), self.images
                        )
                        if time.monotonic() - output.saved > SAVE:
                            output.save()
                        yield At(
                            output.done, self.images.total, time.monotonic() - begun, fresh + output.done.rows
                        )
            finally:
                if not output.done.finished:
                    output.save(output.done.files == self.images.total)
            if not output.done.rows:
                raise BadData(
                    f"none of the {self.images.total:,} files of {self.asked.source} can be "
                    f"used{_why(output.done)}."
                )
            yield At(output.done, self.images.total, time.monotonic() - begun, fresh + output.done.rows)

    def kept(self, folder: Path, stem: str) -> Extraction:
        """The same, written into `folder` under a name that every other request has another of."""
        return replace(
            self, output=Output(self.asked, self.output.widths, folder / f"{stem}-{self.asked.digest()}.npy")
        )

    def _room(self) -> None:
        """Refuse before hours of work what the disk cannot hold."""
        place = self.output.manifest.parent
        need = 4 * (self.images.total - self.output.done.files) * sum(self.output.widths.values())
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        if need > free:
            raise DiskTrouble(
                f"the features need {need / 1e6:,.0f} MB and {place} has {free / 1e6:,.0f}; name another "
                "disk with -o, or type --pool avg."
            )

    def _at_once(self) -> int:
        return (
            max(1, AT_ONCE.get(engine.device().type, AT_ONCE["cpu"]) * 224**2 // self.asked.size**2)
            if self.asked.size > 224
            else AT_ONCE.get(engine.device().type, AT_ONCE["cpu"])
        )

    @torch.no_grad()
    def _looked(self, batch: list[np.ndarray]) -> dict[str, np.ndarray]:
        """A row an image of each layer."""
        if not batch:
            return {}
        x = torch.from_numpy(np.stack(batch)).to(engine.device())
        # by default a GPU's fp32 has 10 bits in convolutions
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with (
            exact,
            torch.autocast(engine.device().type, torch.bfloat16, enabled=self.asked.precision == "bf16"),
        ):
            outputs = self.net.outputs(x, self.asked.layers)
        return {name: POOLS[self.asked.pool](y).float().cpu().numpy() for name, y in outputs.items()}


def extract(
    net: Probe,
    source: str | Source,
    layers: Sequence[str],
    out: Path,
    pool: str = "",
    size: int = 0,
    interpolation: str = "",
    precision: str = "fp32",
    *,
    reading: Reading | None = None,
    n: int = 0,
    seed: int = 0,
) -> Extraction:
    """Get ready for the outputs of `layers` for every image of `source`, written to `out` (.npy, or a
    folder).

    pool: "" for all values of a layer, in Keras' order (H, W, C); avg or max over its places.  size: height
    and width to which images are brought, else the network's own.  interpolation: one of SCALINGS, else the
    network's own.  reading: how images are read before that; a run reads as its training did.  n: so many of
    them, chosen at random by `seed`; 0 is all.  Raises Refusal for what is no layer, source or size that the
    network takes.
    """
    layers = tuple(dict.fromkeys(layers))
    net.check(layers)
    reading = net.reading if isinstance(net, OfRun) else reading or Reading()
    if net.fixed and size not in (0, net.side):
        raise Refusal(
            f"{net.name} looks at images of {net.side}x{net.side} and brings others to that; leave --size "
            "out."
        )
    size, interpolation = size or net.side, interpolation or net.scaling
    for what, value, known in (
        ("--pool", pool, POOLS),
        ("--interpolation", interpolation, SCALINGS),
        ("--precision", precision, ("fp32", "bf16")),
    ):
        if value not in known:
            raise Refusal(f"{what} {value} is none of: {', '.join(filter(None, known))}.")
    with torch.no_grad():
        outputs = net.outputs(torch.zeros(1, 3, size, size, device=engine.device()), layers)
    widths = {name: POOLS[pool](y).shape[1] for name, y in outputs.items()}
    origin = parse(source)
    images = pictures(origin, size, interpolation, reading)
    chosen = (n, images.total, seed) if 0 < n < images.total else ()
    if chosen:
        images = images.of(some(*chosen))
    place = origin.text if origin.path is None else os.path.abspath(origin.path)
    unusual = odd(replace(reading, size=Reading().size))
    weights = (net.name, net.source, net.sha256)
    asked = Asked(
        place,
        again(net),
        images.fingerprint,
        *weights,
        layers,
        pool,
        size,
        interpolation,
        precision,
        unusual,
        chosen,
    )
    return Extraction(net, images, asked, Output(asked, widths, out))


def odd(reading: Reading) -> dict[str, Any]:
    """What is not as usual in pixels, which depend neither on the split nor on the classes."""
    return {
        f.name: value
        for f in fields(Reading)
        if f.name not in ("held_out", "validation", "layout", "task", "to", "swap")
        and (value := getattr(reading, f.name)) != f.default
    }


def _why(done: Done) -> str:
    """The commonest reasons for skipping, each with an example."""
    example = {reason: f"{name}: {detail}" for name, reason, detail in reversed(done.skipped)}
    counts = Counter(reason for _, reason, _ in done.skipped).most_common(5)
    return (
        " (" + "; ".join(f"{n:,} {reason}, such as {example[reason]}" for reason, n in counts) + ")"
        if counts
        else ""
    )


def verdict(done: Done) -> str:
    """One line: how many images were used, and why others were not."""
    return f"{done.files:,} images: {done.rows:,} used, {len(done.skipped):,} skipped{_why(done)}"
