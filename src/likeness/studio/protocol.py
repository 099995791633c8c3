"""What goes over the wire: frames, messages, and the arguments in them, checked on arrival.

A frame is a uint32 (little-endian) with the length of its header, the header as JSON, padded by spaces so
that what follows begins at a multiple of 8, and then the bytes of its arrays, each at a multiple of 8.  The
header lists them: `arrays: [{name, dtype, shape, offset, bytes}]`, offsets from the end of the header; a
picture that is encoded is an array "u1" with `mime` beside it."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import Refusal

if TYPE_CHECKING:
    import numpy as np

HEADER = 1 << 20
"""bytes of a header, at most"""
FRAME = 64 << 20
"""bytes of a frame from a page, at most"""
KEPT = 64 << 10
"""bytes of a value that a page asks to keep"""
ARRAYS = 64
"""in a frame"""
DEPTH = 32
"""lists and objects within one another, at most: whatever walks through JSON does so by recursion"""
SIZES = {"u1": 1, "i4": 4, "f4": 4}
MIMES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/apng", "application/octet-stream")


class Picture(NamedTuple):
    """An encoded image file."""

    bytes: bytes
    mime: str


@dataclass
class Answer:
    """One value of an answer: JSON, and arrays (uint8, int32, float32) or pictures beside it."""

    data: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray | Picture] = field(default_factory=dict)


# Frames


def pack(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A frame whose arrays, if any, are described in the header already."""
    text = json.dumps(finite(header), separators=(",", ":"), allow_nan=False, default=_plain).encode()
    text += b" " * (-(4 + len(text)) % 8)
    return struct.pack("<I", len(text)) + text + payload


def described(arrays: Mapping[str, np.ndarray | Picture]) -> tuple[list[dict[str, Any]], bytes]:
    """The entries of arrays for a header, and their bytes one after the other.  Raises TypeError for an array
    that is not of uint8, int32 or float32."""
    import numpy as np

    entries, parts, at = list[dict[str, Any]](), list[bytes](), 0
    for name, value in arrays.items():
        if isinstance(value, Picture):
            entry, raw = dict(name=name, dtype="u1", shape=[len(value.bytes)], mime=value.mime), value.bytes
        else:
            dtype = value.dtype.newbyteorder("<").str[1:]
            if dtype not in SIZES:
                raise TypeError(
                    f"the array {name} is of {value.dtype}; a page takes uint8, int32 and float32"
                )
            raw = np.ascontiguousarray(value).astype(f"<{dtype}", copy=False).tobytes()
            entry = dict(name=name, dtype=dtype, shape=list(value.shape))
        entries.append(entry | dict(offset=at, bytes=len(raw)))
        padding = -len(raw) % 8
        parts += [raw, b"\0" * padding]
        at += len(raw) + padding
    return entries, b"".join(parts)


def encode(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray | Picture]) -> bytes:
    """A frame with these arrays."""
    entries, payload = described(arrays)
    return pack(dict(header, arrays=entries), payload)


def unpack(frame: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header of a frame and the bytes of its arrays, each entry of which lies within.  Raises Refusal for
    whatever is no frame."""
    view = memoryview(frame)
    if len(view) < 4 or len(view) > FRAME:
        raise Refusal(f"a frame of {len(view):,} bytes; it has 4 to {FRAME:,}.")
    (length,) = struct.unpack_from("<I", view)
    if length > min(HEADER, len(view) - 4):
        raise Refusal(f"a frame of {len(view):,} bytes with a header of {length:,}.")
    try:
        header = json.loads(bytes(view[4 : 4 + length]), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("a frame whose header is no JSON.") from None
    if not isinstance(header, dict) or deep(header):
        raise Refusal(f"a frame whose header is no object of at most {DEPTH} levels.")
    payload = view[4 + length :]
    _check_entries(header.get("arrays", []), len(payload))
    return header, payload


def deep(value: Any) -> bool:
    """Whether JSON has more than DEPTH levels."""
    level = [value]
    for _ in range(DEPTH + 1):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return False
    return True


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check_entries(entries: Any, there: int) -> None:
    if not isinstance(entries, list) or len(entries) > ARRAYS:
        raise Refusal(f"arrays of a frame are a list of at most {ARRAYS}.")
    for entry in entries:
        if not isinstance(entry, dict) or not _fits(entry, there):
            raise Refusal("an array of a frame does not lie within it, or is none of u1, i4, f4.")


def _fits(entry: dict[str, Any], there: int) -> bool:
    shape: Any = entry.get("shape")
    offset: Any = entry.get("offset")
    length: Any = entry.get("bytes")
    numbers = (
        isinstance(shape, list) and len(shape) <= 8 and all(_natural(n) for n in (*shape, offset, length))
    )
    return bool(
        numbers
        and isinstance(entry.get("name"), str)
        and entry.get("dtype") in SIZES
        and entry.get("mime") in (None, *MIMES)
        and offset % 8 == 0
        and offset + length <= there
        and math.prod(shape) * SIZES[entry["dtype"]] == length
    )


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value <= FRAME


def arrays_of(header: dict[str, Any], payload: memoryview) -> dict[str, np.ndarray]:
    """The arrays of a frame that unpack() has checked, copied, so that the frame may go."""
    import numpy as np

    return {
        e["name"]: np.frombuffer(bytes(payload[e["offset"] : e["offset"] + e["bytes"]]), f"<{e['dtype']}")
        .reshape(e["shape"])
        .copy()
        for e in header.get("arrays", [])
    }


def finite(value: Any) -> Any:
    """The same JSON with None for numbers that JSON does not have: nan and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """What numpy calls a number, and paths."""
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        return finite(value.item())
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return str(value)


# Messages of a page


@dataclass(frozen=True)
class Ask:
    """A question; it replaces the running answer of its key."""

    id: str
    key: str
    screen: str
    method: str
    args: dict[str, Any]
    frame: bytes
    """as it came, arrays among it: a worker takes the same"""


@dataclass(frozen=True)
class Stop:
    key: str


@dataclass(frozen=True)
class Watch:
    key: str


@dataclass(frozen=True)
class Unwatch:
    key: str


@dataclass(frozen=True)
class Ack:
    key: str
    seq: int


@dataclass(frozen=True)
class Keep:
    key: str
    value: Any


@dataclass(frozen=True)
class Recall:
    key: str


Message = Ask | Stop | Watch | Unwatch | Ack | Keep | Recall
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY = re.compile(r"[^\x00-\x1f\x7f]{1,400}")


def message(frame: bytes) -> Message:
    """A message of a page.  Raises Refusal for any other bytes."""
    header, _ = unpack(frame)
    kind = header.get("type")
    key = _matching(header, "key", KEY)
    if kind == "ask":
        args = header.get("args", {})
        if not isinstance(args, dict):
            raise Refusal("args of a question are an object.")
        names = [_matching(header, name, NAME) for name in ("id", "screen", "method")]
        return Ask(names[0], key, names[1], names[2], args, bytes(frame))
    if kind == "ack":
        seq: Any = header.get("seq")
        if not _natural(seq):
            raise Refusal("seq of an acknowledgement is a whole number.")
        return Ack(key, seq)
    if kind == "keep":
        value = header.get("value")
        if len(json.dumps(value)) > KEPT:
            raise Refusal(f"the state of {key} is larger than {KEPT:,} bytes.")
        return Keep(key, value)
    simple: dict[Any, type[Stop | Watch | Unwatch | Recall]] = dict(
        stop=Stop, watch=Watch, unwatch=Unwatch, recall=Recall
    )
    if not isinstance(kind, str) or kind not in simple:
        raise Refusal("a message of no known type.")
    return simple[kind](key)


def _matching(header: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = header.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Refusal(f"{name} of a message is a short text.")
    return value


# Arguments of a question: hostile until checked

NO_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]")
"""control characters, and halves of a character, which no file name can have"""


def number(
    args: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None
) -> float:
    """A finite number from low to high.  Raises Refusal for any other, and where it is missing without a
    default."""
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(f"{name} is a number from {low:g} to {high:g}.")
    return float(value)


def whole(args: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number from low to high.  Raises Refusal."""
    value = args.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refusal(f"{name} is a whole number from {low:,} to {high:,}.")
    return value


def numbers(
    args: Mapping[str, Any],
    name: str,
    low: float,
    high: float,
    most: int,
    default: Sequence[float] | None = None,
) -> list[float]:
    """A list of at most so many finite numbers.  Raises Refusal."""
    value = args.get(name, default)
    if not isinstance(value, list | tuple) or len(value) > most:
        raise Refusal(f"{name} is a list of at most {most:,} numbers.")
    return [number({name: v}, name, low, high) for v in value]


def text(args: Mapping[str, Any], name: str, longest: int = 200, default: str | None = None) -> str:
    """A text of at most so many letters, without control characters but line ends.  Raises Refusal."""
    value = args.get(name, default)
    if not isinstance(value, str) or len(value) > longest or NO_TEXT.search(value):
        raise Refusal(f"{name} is a text of at most {longest:,} letters.")
    return value


def flag(args: Mapping[str, Any], name: str, default: bool | None = None) -> bool:
    """True or false.  Raises Refusal."""
    value = args.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(f"{name} is true or false.")
    return value


def choice(args: Mapping[str, Any], name: str, among: Sequence[str], default: str | None = None) -> str:
    """One of several words.  Raises Refusal."""
    value = args.get(name, default)
    if not isinstance(value, str) or value not in among:
        raise Refusal(f"{name} is one of: {', '.join(among)}.")
    return value


def path(args: Mapping[str, Any], name: str, root: Path, default: str | None = None) -> Path:
    """A file or folder within root, as confined() checks it."""
    return confined(root, text(args, name, 1000, default))


def confined(root: Path, name: str) -> Path:
    """The path of that name below root, by whatever links, without hidden parts.  Raises Refusal for any
    other: what exists outside is not even said."""
    parts = Path(name).parts
    refused = Refusal(f"{name[:80]!r} is not in the folder of the studio.")
    if not parts or "\0" in name or any(p.startswith(".") or p == ".." for p in parts):
        raise refused
    try:
        base = root.resolve()
        whole_path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError):
        raise refused from None
    if whole_path == base or not whole_path.is_relative_to(base):
        raise refused
    if any(p.startswith(".") for p in whole_path.relative_to(base).parts):
        raise refused
    return whole_path
