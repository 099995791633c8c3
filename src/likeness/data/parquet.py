"""A Parquet file with a column of encoded images, as Hugging Face writes it: bytes, or struct{bytes, path}.

Beside them `text` or `caption` is the caption and `label` the class; the names of classes are in the file's
metadata where Hugging Face wrote it. Images are read a few rows at a time, so that neither the file nor one
of its row groups has to fit in memory.  Two columns of images, such as `image` beside `conditioning_image`,
`mask`, `label` or `target`, are pairs (beside.py).
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from ..core import BadData, Refusal
from .archive import RATIO, InOrder, Known, Member, stamp, unchanged
from .decode import MOST_BYTES, Skip
from .listing import Words
from .pairs import columns, role

ROWS, KEPT = 16, 8
"""images read at once, and how many such parts are kept: threads ask a little out of order"""
PIXELS, TEXTS, LABELS = (
    ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo"),
    ("text", "caption"),
    ("label", "cls", "class"),
)
"""names of columns"""


def library() -> Any:
    """pyarrow.parquet.  Raises Refusal where it is not installed."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Refusal(
            "Parquet files are read through pyarrow, which is not installed here; type: pip install "
            "'likeness[parquet]'"
        ) from None


class Parquet(InOrder):
    def __init__(self, path: Path, column: str = ""):
        """column: that of the images, where it is not to be told by its name"""
        self.path, self.lock = path, threading.Lock()
        reader, self.handle = library(), path.open("rb")
        self.stamp = stamp(self.handle)
        self.file = reader.ParquetFile(self.handle, buffer_size=1 << 16)
        groups = [self.file.metadata.row_group(g).num_rows for g in range(self.file.num_row_groups)]
        self.starts = [0, *accumulate(groups)]
        schema = self.file.schema_arrow
        features = _features(schema.metadata)
        held = _columns(schema, features)
        self.images = tuple(held)
        self.column = column or _chosen(path, schema, self.images)
        self.bytes, self.names = held[self.column]
        self.text = _named(schema, TEXTS, ("string", "large_string", "string_view"))
        self.label = _named(
            schema,
            LABELS,
            (
                "string",
                "large_string",
                "string_view",
                *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)),
            ),
        )
        self.classes = _classes(features.get(self.label or ""))
        self._no_bomb()
        self.parts: deque[tuple[int, int, Any]] = deque(maxlen=KEPT)
        self.rest: Iterator[tuple[int, int, Any]] = iter(())

    def __len__(self) -> int:
        return self.starts[-1]

    def of_column(self, name: str) -> Parquet:
        """The same rows with the images of another column."""
        return self if name == self.column else Parquet(self.path, name)

    def _no_bomb(self) -> None:
        for g in range(self.file.num_row_groups):
            group = self.file.metadata.row_group(g)
            for c in range(group.num_columns):
                column = group.column(c)
                if column.path_in_schema == self.bytes and column.total_uncompressed_size > max(
                    MOST_BYTES, RATIO * column.total_compressed_size
                ):
                    raise BadData(
                        f"{self.path} unpacks to over {RATIO} times its size, as no photographs do; make or "
                        "fetch it again."
                    )

    def members(self) -> Iterator[Member]:
        for row, name in enumerate(self._values(self.names) if self.names else [None] * len(self)):
            base = (
                os.path.basename(name.replace("\\", "/")).encode("utf-8", "replace")
                if isinstance(name, str)
                else b""
            )
            yield Member(
                base if base.strip(b".") else b"%s-%07d" % (os.fsencode(self.path.stem), row), 0, row
            )

    def _values(self, column: str) -> Iterator[Any]:
        """Of a column of short values, one row after another; dots lead into a struct."""
        for batch in self.file.iter_batches(1024, columns=[column], use_threads=False):
            values: Any = batch.column(0)
            for part in column.split(".")[1:]:
                values = values.field(part) if values.null_count == 0 else _field(values, part)
            yield from values.to_pylist()

    def words(self) -> Iterator[Words]:
        texts = self._values(self.text) if self.text else iter([None] * len(self))
        labels = self._values(self.label) if self.label else iter([None] * len(self))
        for text, label in zip(texts, labels):
            yield Words(text or "", self._label(label))

    def _label(self, value: Any) -> str:
        if isinstance(value, int) and self.classes:
            # -1 is Hugging Face's "not known"
            return self.classes[value] if 0 <= value < len(self.classes) else ""
        return "" if value is None else str(value)

    def read(self, at: int, size: int, known: Known | None = None) -> bytes:
        unchanged(self.handle, self.stamp)
        with self.lock:
            try:
                value = self._cell(at)
            except Exception as why:  # hostile files raise everything
                raise Skip("damaged", f"{type(why).__name__}: {str(why)[:200]}") from None
            if not value.is_valid:
                raise Skip("not in the file", "the row names an image and does not hold it")
            if len(value.as_buffer()) > MOST_BYTES:
                raise Skip("too large", f"{len(value.as_buffer()):,} bytes")
            blob: bytes = value.as_py()
        if not blob:
            raise Skip("empty", "zero bytes")
        if known and not known(blob[:32]):
            raise Skip("not images", f"begins with {blob[:8]!r}")
        return blob

    def _cell(self, at: int) -> Any:
        """The binary scalar of a row: from what was read last, from what follows, or from its row group's
        beginning."""
        for again in (False, True):
            for first, end, values in chain(tuple(self.parts), self._following(at, again)):
                if first <= at < end:
                    return values[at - first]
        raise EOFError("the row group ends before its last row")

    def _following(self, at: int, again: bool) -> Iterator[tuple[int, int, Any]]:
        """Parts up to the one that holds row `at`."""
        if again:
            self.rest = self._stream(bisect_right(self.starts, at) - 1)
        if not again and self.parts and at < self.parts[0][0]:
            return
        for part in self.rest:
            self.parts.append(part)
            yield part
            if part[1] > at:
                return

    def _stream(self, group: int) -> Iterator[tuple[int, int, Any]]:
        for g in range(group, self.file.num_row_groups):
            first = self.starts[g]
            for batch in self.file.iter_batches(
                ROWS, row_groups=[g], columns=[self.bytes], use_threads=False
            ):
                values = batch.column(0)
                values = _field(values, "bytes") if self.bytes != self.column else values
                yield first, first + len(values), values
                first += len(values)


def _field(values: Any, name: str) -> Any:
    """A field of an array of structs, null where the struct is: flatten() heeds that, field() does not."""
    return values.flatten()[values.type.get_field_index(name)]


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What Hugging Face wrote about the columns."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return features if isinstance(features, dict) else {}
    return {}


def _classes(feature: Any) -> tuple[str, ...]:
    names = feature.get("names") if isinstance(feature, dict) else None
    return (
        tuple(names)
        if isinstance(names, list)
        and all(isinstance(n, str) and n for n in names)
        and len(set(names)) == len(names)
        else ()
    )


def _named(schema: Any, names: tuple[str, ...], kinds: tuple[str, ...]) -> str | None:
    there = {f.name: str(f.type) for f in schema}
    return next((n for n in names if there.get(n) in kinds), None)


def _columns(schema: Any, features: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Of each column of images, that of their bytes, and that of their paths or nothing."""
    binary, held = ("binary", "large_binary", "binary_view"), dict[str, tuple[str, str]]()
    for f in schema:
        kind = str(f.type)
        inside = (
            {f.type.field(k).name: str(f.type.field(k).type) for k in range(f.type.num_fields)}
            if kind.startswith("struct<")
            else {}
        )
        if inside.get("bytes") in binary:
            held[f.name] = (
                f"{f.name}.bytes",
                f"{f.name}.path" if inside.get("path") in ("string", "large_string") else "",
            )
        elif kind in binary:
            held[f.name] = f.name, ""
    images = [n for n in held if isinstance(features.get(n), dict) and features[n].get("_type") == "Image"]
    return {n: held[n] for n in images or held}


def _chosen(path: Path, schema: Any, images: tuple[str, ...]) -> str:
    """The column of images to learn from, or of two that are a pair the target.  Raises BadData."""
    chosen = next((n for n in PIXELS if n in images), images[0] if len(images) == 1 else None)
    if chosen is None and (pair := columns(images)) and any(map(role, pair)):
        chosen = pair[1]
    if chosen is None:
        what = (
            (f"several of images ({', '.join(images)})")
            if images
            else (f"none of encoded images, only {', '.join(f.name for f in schema)[:200] or 'nothing'}")
        )
        raise BadData(
            f"{path} has {what} among its columns; call the one to learn from `image`: bytes, or "
            "struct{bytes, path} as Hugging Face has it."
        )
    return chosen
