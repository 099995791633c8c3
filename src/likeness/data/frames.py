"""Videos as clips: GIF, APNG, animated WebP, a folder of numbered frames, and, with PyAV, what cameras
write.

    film = read(path)                     frames and how long each is shown
    clip(film, 16)                        16 of them at equal distances in time, uint8 (16, H, W, 3)

Time counts, and not files or pictures: a program that saves an animation merges frames that are equal and
adds up their times (Pillow does, in GIF, APNG and WebP), so that frame number 5 of a file is not what is
seen after 5/16 of it. A clip of n frames shows what is seen in the middle of each n-th of the time.

Frames are scaled while they are read, each for itself as images are (pixels.fit): those of unequal size in
one folder become alike, and a long video does not fill the memory.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from ..core import BadData, Refusal
from .decode import MOST_BYTES, MOST_PIXELS, kind
from .pixels import fit, ground

ANIMATIONS = (".gif", ".png", ".apng", ".webp")
VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
STILLS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
DEFAULT = 0.1
"""seconds that a frame is shown of which no time, or none at all, is said: as browsers do"""
MOST = 10_000
"""frames of one video; what follows is left out"""
BYTES = 1 << 30
"""of decoded frames in memory"""


@dataclass(frozen=True)
class Film:
    frames: np.ndarray
    """uint8 (n, H, W, 3)"""
    seconds: np.ndarray
    """float64 (n,): how long each is shown, more than 0"""
    notes: tuple[str, ...] = ()
    """what a reader must hear: frames of unequal size, of no time, left out"""

    @property
    def length(self) -> float:
        """Seconds."""
        return float(self.seconds.sum())

    @property
    def begins(self) -> np.ndarray:
        """float64 (n,): when each frame appears, in seconds."""
        return np.cumsum(self.seconds) - self.seconds

    def at(self, times: np.ndarray) -> np.ndarray:
        """int64 (m,): which frame is seen at times (m,) in seconds, where one takes over from another the
        later one; before the first and after the last, that one."""
        # sums of tenths are off by a rounding error, and no file knows a microsecond
        ends = np.cumsum(self.seconds)
        return np.clip(np.searchsorted(ends, times + 1e-6, "right"), 0, len(self.frames) - 1)


def is_film(path: Path) -> bool:
    """Whether a file claims by its name to be an animation or a video, or is a folder of frames alone."""
    if path.is_dir():
        return any(p.suffix.lower() in STILLS for p in path.iterdir()) and not any(
            p.is_dir() for p in path.iterdir()
        )
    return path.suffix.lower() in (*ANIMATIONS, *VIDEOS)


def clip(film: Film, n: int) -> np.ndarray:
    """uint8 (n, H, W, 3): what is seen in the middle of each n-th of the time.  A film of one frame stands
    still."""
    if n < 1:
        raise Refusal(f"a clip of {n} frames shows nothing; ask for 1 or more.")
    return film.frames[film.at((np.arange(n) + 0.5) * (film.length / n))]


def clips(film: Film, n: int, spacing: float = 0.0) -> np.ndarray:
    """uint8 (m, n, H, W, 3): clips one after another, of n frames each, `spacing` seconds apart; 0 is one
    clip of all of it.  What is left at the end, and is shorter than a clip, is left out, unless it is all
    there is."""
    whole = n * spacing
    if not spacing or film.length <= whole:
        return clip(film, n)[None]
    # a file counts time in hundredths or thousandths of a second
    count = int(film.length / whole + 1e-6)
    times = (np.arange(count * n) + 0.5) * spacing
    return film.frames[film.at(times)].reshape(count, n, *film.frames.shape[1:])


def read(path: str | Path, size: int = 0, background: str = "white", fps: float = 1 / DEFAULT) -> Film:
    """The frames of an animation, a video, a picture (one frame) or a folder of frames in the order of their
    numbers.

    size: height and width to which each frame is scaled and cropped; 0 is that of the first.  background:
    behind transparent pixels.  fps: of a folder, whose files have no times.  Raises Refusal for what is not
    there and where PyAV is needed, BadData for what cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder(path, size, background, fps)
    if not path.is_file():
        raise Refusal(f"there is no video {str(path)!r}; name an animation, a video or a folder of frames.")
    if path.stat().st_size > MOST_BYTES:
        raise BadData(
            f"{path} has {path.stat().st_size:,} bytes, more than the {MOST_BYTES:,} that are read."
        )
    blob = path.read_bytes()
    if (format := kind(blob[:32])) is not None:
        return animation(blob, format, size, background, str(path))
    if path.suffix.lower() in VIDEOS:
        return _video(blob, size, str(path))
    raise BadData(
        f"{path} is no animation and no video by its first bytes {blob[:8]!r}; GIF, APNG, WebP and, with "
        "pip install 'likeness[video]', MP4 and WebM are read."
    )


def animation(blob: bytes, format: str, size: int, background: str, name: str) -> Film:
    """The bytes of a GIF, a PNG, a WebP or a still picture of another `format`.  Raises BadData."""
    frames, seconds, timeless = _Frames(size), [], 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(blob), formats=[format]) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise BadData(
                        f"{name} has frames of {image.width}x{image.height} pixels, which is too much."
                    )
                # a PNG may show those who know no animations a picture that is not part of it
                alone = bool(getattr(image, "default_image", False)) and getattr(image, "n_frames", 1) > 1
                for frame in ImageSequence.Iterator(image):
                    if alone:
                        alone = False
                        continue
                    frames.add(_opaque(frame, background))
                    shown = float(frame.info.get("duration", 0) or 0) / 1000
                    timeless += shown <= 0
                    seconds.append(shown if shown > 0 else DEFAULT)
                    if frames.full:
                        break
    except UnidentifiedImageError:
        raise BadData(f"{name} is not what its first bytes say ({format}).") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as why:
        raise BadData(f"{name} is too large: {why}") from None
    except BadData:
        raise
    # hostile files raise everything in a decoder
    except Exception as why:
        if not seconds:
            raise BadData(f"{name} cannot be read: {type(why).__name__}: {str(why)[:200]}") from None
        frames.notes.append(f"damaged after frame {len(seconds)}, of which the first are used")
    if timeless and len(seconds) > 1:
        frames.notes.append(f"{timeless} of {len(seconds)} frames say no time; each is shown {DEFAULT:g} s")
    return frames.film(seconds, name)


def _folder(path: Path, size: int, background: str, fps: float) -> Film:
    """Files in the order of the numbers in their names: frame 2 before frame 10."""
    if not fps > 0:
        raise Refusal(f"{fps:g} frames a second are none; give more than 0.")
    files = sorted(
        (p for p in path.iterdir() if p.suffix.lower() in STILLS and not p.name.startswith(".")),
        key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", p.name)],
    )
    if not files:
        raise BadData(f"{path} holds no frames; their names should end in {', '.join(STILLS)}.")
    frames = _Frames(size)
    for file in files:
        blob = file.read_bytes()
        try:
            with Image.open(io.BytesIO(blob), formats=[kind(blob[:32]) or ""]) as image:
                frames.add(_opaque(image, background))
        except Exception as why:
            raise BadData(
                f"frame {file.name} of {path} cannot be read ({type(why).__name__}), and without it time "
                "would jump; delete it or make it anew."
            ) from None
        if frames.full:
            break
    return frames.film([1 / fps] * len(frames.kept), str(path))


def available() -> bool:
    """Whether PyAV is installed."""
    try:
        importlib.import_module("av")
    except ImportError:
        return False
    return True


def _video(blob: bytes, size: int, name: str) -> Film:
    """MP4, WebM and others, through PyAV."""
    if not available():
        raise Refusal(
            f"{name} is a video, and these are read through PyAV, which is not installed here: "
            "pip install 'likeness[video]'.  GIF, APNG, animated WebP and folders of frames need nothing."
        )
    av: Any = importlib.import_module("av")
    frames, times, last = _Frames(size), list[float](), 0.0
    try:
        with av.open(io.BytesIO(blob)) as container:
            if not container.streams.video:
                raise BadData(f"{name} holds no pictures, only {len(container.streams)} other streams.")
            for picture in container.decode(video=0):
                frames.add(picture.to_image())
                times.append(float(picture.time) if picture.time is not None else len(times) * DEFAULT)
                last = float(picture.duration or 0) * float(picture.time_base or 0)
                if frames.full:
                    break
    except BadData:
        raise
    except Exception as why:
        if not times:
            raise BadData(f"{name} cannot be read: {type(why).__name__}: {str(why)[:200]}") from None
        frames.notes.append(f"damaged after frame {len(times)}, of which the first are used")
    return frames.film(_shown(times, last), name)


def _shown(times: list[float], last: float) -> list[float]:
    """How long each is shown of frames that appear at these times.  The last one: as it says, else as long as
    the others in the middle."""
    gaps = [max(b - a, 0.0) for a, b in pairwise(times)]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else DEFAULT
    return [gap or usual or DEFAULT for gap in [*gaps, last or usual]]


class _Frames:
    """Those of one film, each scaled as it comes."""

    def __init__(self, size: int):
        self.size, self.kept, self.sizes = size, list[np.ndarray](), set[tuple[int, int]]()
        self.notes: list[str] = []

    @property
    def full(self) -> bool:
        return bool(self.kept) and len(self.kept) >= min(MOST, max(1, BYTES // self.kept[0].nbytes))

    def add(self, image: Image.Image) -> None:
        self.sizes.add(image.size)
        if self.size:
            image = fit(image, self.size)
        elif self.kept and image.size != (shape := self.kept[0].shape[1::-1]):
            image = _into(image, shape[0], shape[1])
        self.kept.append(np.asarray(image))

    def film(self, seconds: list[float], name: str) -> Film:
        if not self.kept:
            raise BadData(f"{name} holds no frames.")
        notes = list(self.notes)
        if len(self.sizes) > 1:
            shown = ", ".join(f"{w}x{h}" for w, h in sorted(self.sizes)[:4])
            notes.append(f"frames of unequal size ({shown}) are scaled to one")
        if self.full:
            notes.append(f"only the first {len(self.kept):,} frames are read")
        return Film(np.stack(self.kept), np.array(seconds, np.float64), tuple(notes))


def _into(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scaled so that it covers width x height, the middle kept."""
    scale = max(width / image.width, height / image.height)
    w, h = width / scale, height / scale
    left, top = (image.width - w) / 2, (image.height - h) / 2
    return image.resize((width, height), Image.Resampling.LANCZOS, (left, top, left + w, top + h))


def _opaque(frame: Image.Image, background: str) -> Image.Image:
    clear = frame.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in frame.info
    if not clear:
        return frame.convert("RGB")
    whole = frame.convert("RGBA")
    under = Image.new("RGBA", whole.size, (*ground(background), 255))
    return Image.alpha_composite(under, whole).convert("RGB")


def each(paths: list[Path], reader: Callable[[Path], Film] = read) -> Iterator[tuple[Path, Film | str]]:
    """The film of each path, or why it cannot be read."""
    for path in paths:
        try:
            yield path, reader(path)
        except Refusal as why:
            yield path, str(why)
