"""Photos put through a model from image to image: at their own size and aspect, without seams.

A network of convolutions sees the whole photo: strips of rows are computed with just the rows around them
that they depend on, and the statistics of instance normalisation are those of all rows.  A denoiser that was
told another image knows one size only: it draws overlapping tiles of it, from noise that belongs to the
pixels of the photo, and they are blended.

A run made for a task (--task colourise, upscale2 ...) is given what the task makes of the photo: its grey,
its edges, the photo itself to enlarge, the photo with a hole (a mask, or what is transparent in it).

Transparent photos lie on the background that training images lay on; the opacity is put back on the result.
EXIF data are kept, but for the orientation, which has been applied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import engine, figures, models, storage
from ..core import (
    BadData,
    Condition,
    Model,
    Refusal,
    Samples,
    Stylises,
    Translates,
    answers,
    final,
    no_way_back,
)
from ..data import picture, tasks
from ..data.photos import Found, Photo, Unused, mask
from ..data.pixels import planes
from ..data.writer import as_colour, content_hash
from ..figures import photo_files
from . import strips
from .tiles import Blend, Field, places

AT_ONCE = 1 << 19
"""pixels of a photo up to which it is put through a network in one piece"""
CROP = 256
"""pixels a side of what bf16 is tried on"""
LEVELS = 2.0
"""of 255, by which bf16 may change any pixel of it"""
SMALL = 4
"""strides of a network that a photo has a side at least, or it goes on as in a mirror"""
LARGER = 4.0
"""times the size that training images had from which on a note says so"""
TILES = 16
"""drawn at once"""
FORMATS = ("same", "png", "jpg", "webp")
ROWS, THUMB = 12, 320
"""photos in the picture of before and after, and pixels a side of each there"""
BESIDE = {"command", "left_out", "likeness", "tiles", "disagreement"}
"""of a recipe, by which results are not told apart"""
Notify = Callable[[float], None]


@dataclass(frozen=True)
class How:
    """What was asked for."""

    back: bool = False
    size: int = 0
    """pixels of the short side to which photos are scaled first; 0 leaves them"""
    mask: Path | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Translation:
    """A photo, what the model was given of it, and what it made of that."""

    photo: Photo
    given: np.ndarray
    """uint8 (H, W, 1 or 3)"""
    image: np.ndarray
    """uint8 (scale * H, scale * W, 1 or 3)"""
    opacity: np.ndarray | None
    recipe: dict[str, Any]
    notes: tuple[str, ...] = ()
    path: Path | None = None
    """of the file, where it was written"""

    @property
    def name(self) -> str:
        return self.photo.name

    def pil(self) -> Image.Image:
        return Image.fromarray(self.image[..., 0] if self.image.shape[2] == 1 else self.image)

    def save(self, target: str | Path, new: bool = False) -> Path:
        """As .png, .jpg or .webp, with its recipe, and with EXIF data, colour profile and transparency of the
        photo.  new: raise FileExistsError rather than replace anything.  Raises Refusal for any other
        suffix."""
        target = Path(target)
        profile = self.photo.profile if self.image.shape[2] == len(self.photo.pixels) else b""
        storage.make(target.parent)
        photo_files.write(
            target, self.image, self.recipe, new, opacity=self.opacity, exif=self.photo.exif, profile=profile
        )
        return target

    def _repr_png_(self) -> bytes:
        return figures.png(page([self]), self.recipe)

    def __repr__(self) -> str:
        h, w = self.image.shape[:2]
        return f"<{self.name}: {w} x {h}, {self.recipe}>"


@dataclass(frozen=True)
class Done:
    """A photo that had been translated before, by the same recipe."""

    name: str
    path: Path
    recipe: dict[str, Any]


# The model


class Translator:
    """A model, ready to translate photos one way.  Raises Refusal where it cannot."""

    def __init__(self, model: Model, settings: dict[str, Any], how: How):
        self.model, self.how, spec = model, how, model.spec
        self.task = "" if how.back else str(settings.get("task") or "")
        self.trained, self.tiled = spec.size, bool(settings.get("tiles"))
        self.network = isinstance(model, Translates)
        can = self.network or ("image" in model.takes and isinstance(model, Samples))
        if not can or ("image" in model.takes and not spec.source[0]):
            raise Refusal(cannot(model))
        channels, side = spec.source if spec.source[0] else (spec.channels, spec.size)
        if how.back and not self.network:
            raise Refusal(
                f"{named(model)} draws the target of a source, and not the other way round; train another "
                "with --swap for the way back, or cyclegan for both."
            )
        if how.back and (why := no_way_back(cast(Translates, model))):
            raise Refusal(why)
        self.channels, self.out = (spec.channels, channels) if how.back else (channels, spec.channels)
        self.side = spec.size if how.back else side
        """pixels a side of a source, in training"""
        if self.out not in (1, 3) or (self.channels not in (1, 3) and self.task != "inpaint"):
            raise Refusal(
                f"{named(model)} translates images of {self.channels} channels to {self.out}, and files of "
                "photos have 1 or 3; ask it in Python: run.model.translate(x)."
            )
        if how.mask is not None and self.task != "inpaint":
            raise Refusal("--mask is the hole for a run that was trained with --task inpaint; leave it out.")
        self.scale = int(getattr(model, "scale", 1)) if self.network else max(1, spec.size // side)
        self.stride = max(1, int(getattr(model, "stride", 1))) if self.network else 1
        self._bf16: bool | None = None

    # What it is given

    def prepared(self, photo: Photo) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
        """Of a photo what the model is given, uint8 (channels, H, W), with the hole in it, bool (H, W), and
        what there is to say."""
        notes = list[str]()
        hole = self._hole(photo) if self.task == "inpaint" else None
        pixels, hole = self._scaled(photo, hole)
        grey = len(pixels) == 1
        if self.task == "edges":
            pixels = tasks.edges(pixels[None])[0]
        colours = self.channels - (self.task == "inpaint")
        if grey and colours == 3:
            notes.append("it is grey, and the model has learnt from colours")
        if not grey and colours == 1 and self.task not in ("colourise", "edges"):
            notes.append("its colours are left out: the model has learnt from grey images")
        pixels = as_colour(pixels[None], "rgb" if colours == 3 else "grey")[0]
        if hole is not None:
            pixels = np.concatenate(
                [np.where(hole, np.uint8(tasks.HOLE), pixels), hole[None] * np.uint8(255)]
            )
        short = min(pixels.shape[1:])
        if self.stride > 1 and short < self.stride:
            notes.append(
                f"it is smaller than the {self.stride} pixels that the network needs, and goes on as in a "
                "mirror"
            )
        elif short < self.side and not self.network:
            notes.append(f"it is smaller than the model's {self.side} pixels, and goes on as in a mirror")
        if self.scale == 1 and not self.tiled and short >= LARGER * self.side:
            notes.append(
                f"its short side has {short:,} pixels, and images were scaled to {self.side} for training: "
                f"what is in it looks {short / self.side:.0f} times as large as there; --size {self.side} "
                "shows it as there"
            )
        return pixels, hole, notes

    def _hole(self, photo: Photo) -> np.ndarray:
        if self.how.mask is not None:
            return mask(self.how.mask, photo.size)
        if photo.opacity is None:
            raise Refusal(
                f"{photo.name} has no hole to fill in: make that part of it transparent, or name a picture "
                "of its size that is white there with --mask."
            )
        return np.asarray(photo.opacity < 128)

    def _scaled(self, photo: Photo, hole: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        w, h = photo.size
        share = self.how.size / min(w, h) if self.how.size else 1.0
        if share == 1:
            return photo.pixels, hole
        size = max(1, round(w * share)), max(1, round(h * share))
        return resized(photo.pixels, size), None if hole is None else resized(
            hole[None] * np.uint8(255), size
        )[0] > 0

    # What it makes of that

    def translate(self, x: np.ndarray, number: int = 0, notify: Notify = lambda share: None) -> np.ndarray:
        """uint8 (channels, H, W) to uint8 (scale * H, scale * W, out).  number: below 2^63, of which and the
        seed a denoiser's noise is a function."""
        h, w = x.shape[1:]
        if not self.network:
            return self._drawn(x, number, notify)
        least = max(2 * self.stride, min(SMALL * self.stride, self.side // self.stride * self.stride))
        x = mirrored(x, *(max(least, -(-n // self.stride) * self.stride) for n in (h, w)))
        out = np.empty((x.shape[1] * self.scale, x.shape[2] * self.scale, self.out), np.uint8)

        def use(span: strips.Span, rows: Tensor) -> None:
            out[span[0] : span[1]] = _levels(rows[0])

        shape = (1, *x.shape)
        precision = "bf16" if self.bf16(x) else "fp32"
        with torch.no_grad(), _cast(precision == "bf16"):
            if h * w <= AT_ONCE:
                use((0, len(out)), self._network(self._rows(x, 0, x.shape[1])))
            else:
                number_ = 2 if precision == "bf16" else 4
                plan = strips.planned(self._network, shape, number_, engine.device())
                rows = lambda a, b: self._rows(x, a, b)  # noqa: E731
                strips.run(self._network, shape, rows, use, plan, notify, number_, engine.device())
        notify(1.0)
        return out[: h * self.scale, : w * self.scale]

    def _network(self, x: Tensor) -> Tensor:
        translate = cast(Translates, self.model).translate
        return translate(x, True) if self.how.back else translate(x)

    def _rows(self, x: np.ndarray, a: int, b: int) -> Tensor:
        part = picture(x[None, :, a:b]).to(engine.device())
        return part.contiguous(memory_format=torch.channels_last)

    def bf16(self, x: np.ndarray) -> bool:
        """Whether products are in bf16: where this machine multiplies it itself, a photo is large, and no
        pixel in the middle of the first of them changes by more than LEVELS."""
        if x.shape[1] * x.shape[2] <= AT_ONCE or not engine.native_bf16():
            return False
        if self._bf16 is None:
            side = max(self.stride, min(CROP, *x.shape[1:]) // self.stride * self.stride)
            top, left = ((n - side) // 2 for n in x.shape[1:])
            crop = self._rows(np.ascontiguousarray(x[:, top : top + side, left : left + side]), 0, side)
            with torch.no_grad():
                full = self._network(crop)
                with _cast(True):
                    half = self._network(crop)
            self._bf16 = float((full - half.float()).abs().max()) <= LEVELS * 2 / 255
        return self._bf16

    def _drawn(self, x: np.ndarray, number: int, notify: Notify) -> np.ndarray:
        """By a denoiser: tiles, drawn and blended."""
        h, w = x.shape[1:]
        side, scale, target = self.side, self.scale, self.model.spec.size
        x = mirrored(x, max(h, side), max(w, side))
        corners = [(t, left) for t in places(x.shape[1], side) for left in places(x.shape[2], side)]
        whole = x.shape[1] * scale, x.shape[2] * scale
        blend = Blend(self.out, *whole)
        noise = Field(
            number,
            engine.derive("translate", self.how.seed),
            [(t * scale, left * scale) for t, left in corners],
            whole,
            target,
        ).to(engine.device())
        sample = cast(Samples, self.model).sample
        for i in range(0, len(corners), TILES):
            some = corners[i : i + TILES]
            parts = np.stack([x[:, t : t + side, left : left + side] for t, left in some])
            y = Condition(image=picture(parts)).to(engine.device())
            drawn = final(sample(noise[i : i + TILES], y)).float().cpu().clamp(-1, 1)
            for tile, (t, left) in zip(drawn, some):
                blend.add(tile, t * scale, left * scale)
            notify((i + len(some)) / len(corners))
        self.tiles, self.disagreement = len(corners), 127.5 * blend.disagreement
        return _levels(blend.image)[: h * scale, : w * scale]

    tiles, disagreement = 0, 0.0
    """of the photo that was drawn last: how many there were, and how far they are from their mean where they
    overlap, in levels of 255"""


def named(model: Model) -> str:
    return type(model).__name__.lower()


def cannot(model: Model) -> str:
    """Why a model does not translate, and which do."""
    name, able = named(model), [n for n in models.NAMES if _translates(n)]
    if isinstance(model, Stylises):
        return (
            f"{name} needs a painting beside each photo; type likeness style PHOTO PAINTING --arbitrary RUN."
        )
    if "image" in model.takes or isinstance(model, Translates):
        return (
            f"{name} translates only what it has learnt from pairs or two domains, and this run has learnt "
            "from single images; train another with --task colourise, --to OTHER or a folder of pairs."
        )
    can = ", ".join(answers(model)) or "learn, and no more"
    return (
        f"{name} cannot translate an image (likeness translate); it can: {can}.  These do: "
        f"{', '.join(able)}, and ddpm, edm and flowmatching that are trained on pairs."
    )


def _translates(name: str) -> bool:
    return isinstance(models.load(name), Translates)


def _cast(bf16: bool) -> Any:
    return torch.autocast(engine.device().type, torch.bfloat16) if bf16 else nullcontext()


def _levels(x: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] as uint8 (H, W, C)."""
    levels = x.float().nan_to_num(0.0).clamp(-1, 1).add(1).mul(127.5).round().byte()
    return np.asarray(levels.permute(1, 2, 0).cpu().numpy())


def mirrored(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, H, W) that goes on to this height and width as in a mirror, again and again where that is far."""
    for axis, n in ((1, height), (2, width)):
        if n > x.shape[axis]:
            period = max(1, 2 * (x.shape[axis] - 1))
            at = np.arange(n) % period
            x = np.take(x, np.minimum(at, period - at) if x.shape[axis] > 1 else at * 0, axis)
    return x


def resized(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (1 or 3, H, W) of this width and height (Lanczos, antialiased)."""
    image = Image.fromarray(np.ascontiguousarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0)))
    return planes(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


# Photos


def one(
    able: Translator, photo: Photo, recipe: dict[str, Any], notify: Notify = lambda share: None
) -> Translation:
    """A photo, translated."""
    x, hole, notes = able.prepared(photo)
    image = able.translate(x, photo.key >> 1, notify)
    if hole is not None:  # what was not to be filled in stays as it was
        known, _ = able._scaled(photo, None)
        kept = as_colour(known[None], "rgb" if able.out == 3 else "grey")[0].transpose(1, 2, 0)
        image = np.where(hole[..., None], image, kept)
    opacity = _opacity(photo, (image.shape[1], image.shape[0]), hole)
    if not able.network and able.tiles > 1:
        recipe = recipe | dict(tiles=able.tiles, disagreement=round(able.disagreement, 2))
        notes.append(
            f"{able.tiles:,} tiles were drawn, which differ by {able.disagreement:.1f} of 255 levels from "
            "their mean where they overlap"
        )
    if opacity is not None:
        where = "" if hole is None else " outside the hole"
        notes.append(f"what is transparent was laid on the background; the opacity{where} is put back")
    given = x[: len(x) - (hole is not None)].transpose(1, 2, 0)
    return Translation(photo, given, image, opacity, recipe, (*photo.notes, *notes))


def _opacity(photo: Photo, size: tuple[int, int], hole: np.ndarray | None) -> np.ndarray | None:
    """Of the result, uint8 (H, W) of this width and height: what was filled in is opaque.  None where all
    is."""
    if photo.opacity is None:
        return None
    out = photo.opacity if photo.size == size else resized(photo.opacity[None], size)[0]
    if hole is None:
        return out
    out = np.where(hole, np.uint8(255), out)
    return None if (out == 255).all() else out


def recipe_of(able: Translator, photo: Photo) -> dict[str, Any]:
    """What the result depends on beside the run."""
    how, out = able.how, dict[str, Any](photo=photo.name, digest=f"{photo.key:016x}")
    out |= dict(back=True) if how.back else {}
    out |= dict(size=how.size) if how.size else {}
    out |= dict(task=able.task) if able.task else {}
    if how.mask:
        white = np.packbits(mask(how.mask, photo.size))
        out |= dict(mask=str(how.mask), mask_digest=f"{content_hash(white):016x}")
    return out if able.network else out | dict(seed=how.seed)


def through(
    able: Translator,
    found: Sequence[Found],
    recipe: dict[str, Any],
    folder: Path | None = None,
    format: str = "same",
    notify: Callable[[int, float], None] = lambda number, share: None,
) -> Iterator[Translation | Unused | Done]:
    """Each of these photos, written into the folder, if there is one, before the next begins.

    Nothing is overwritten: a result of the same recipe that is there already is Done, and another one gets
    another name.  notify: is called with the number of the photo and the share of it that is done."""
    for number, at in enumerate(found):
        photo = at.read()
        if isinstance(photo, Unused):
            yield photo
            continue
        own = recipe | recipe_of(able, photo)
        if folder is not None:
            path, there = place_for(folder, photo.name, format, own)
            if there:
                yield Done(photo.name, path, own)
                continue
        steps = partial(notify, number)
        # no name for the result, and none for the photo: they would be held while the next one is computed
        if folder is None:
            yield one(able, photo, own, steps)
        else:
            yield kept(one(able, photo, own, steps), folder, format, own)
        del photo


def kept(result: Translation, folder: Path, format: str, recipe: dict[str, Any]) -> Translation | Done:
    """The same, written under a name that is free now: another command may have taken, since the photo was
    begun, the one that was free then; or Done where that has made the same."""
    while True:
        path, there = place_for(folder, result.name, format, recipe)
        if there:
            return Done(result.name, path, recipe)
        try:
            result.save(path, new=True)
            break
        except FileExistsError:
            continue
    if path.suffix.lower() in (".jpg", ".jpeg") and result.opacity is not None:
        lost = "JPEG has no place for the opacity; --format png keeps it"
        result = replace(result, notes=(*result.notes, lost))
    return replace(result, path=path)


def place_for(folder: Path, name: str, format: str, recipe: dict[str, Any]) -> tuple[Path, bool]:
    """Where a result goes, and whether it is there already: the name of the photo, with a number behind it
    where that is taken by something else."""
    photo = Path(*[part for part in Path(name).parts if part not in ("/", "..")])
    ending = photo.suffix.lower() if format == "same" else f".{format}"
    ending = ending if ending in figures.ENDINGS else ".png"
    for number in range(1, 1_000_000):
        path = folder / photo.with_name(f"{photo.stem}{'' if number == 1 else f'-{number}'}{ending}")
        if not os.path.lexists(path):
            return path, False
        if _same(path, recipe):
            return path, True
    raise Refusal(f"{folder} holds too many results called {photo.stem}; name another folder with -o.")


def numbered(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> Path:
    """Write a picture under this name, or with a number behind it where something has that; where it lies.
    Raises Refusal, DiskTrouble or NotAllowed."""
    for number in range(1, 1_000_000):
        at = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        with suppress(FileExistsError):
            if not os.path.lexists(at):
                figures.create(at, figures.encode(at, image, recipe))
                return at
    raise Refusal(f"{path.parent} holds too many pictures called {path.stem}; name another folder with -o.")


def nothing(places: Sequence[str | Path], skipped: Sequence[Unused]) -> Refusal:
    """Why there is no result."""
    named_ = " ".join(map(str, places[:3]))
    if not skipped:
        return BadData(f"{named_} holds no photos; name files or folders that do.")
    one = skipped[0]
    return BadData(
        f"none of the {len(skipped)} files of {named_} can be used, such as {one.name} ({one.reason}"
        f"{one.detail and ': '}{one.detail}); name other photos."
    )


def _same(path: Path, recipe: dict[str, Any]) -> bool:
    """Whether the file at `path` was made by this recipe.  What one of the two lacks counts as well."""
    try:
        there = figures.read_recipe(path)
    except Refusal:
        return False
    asked = plain_of(recipe)
    return all(there.get(k) == asked.get(k) for k in (there.keys() | asked.keys()) - BESIDE)


def plain_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """As JSON holds it."""
    out: dict[str, Any] = json.loads(json.dumps(recipe, default=str))
    return out


def outside(folder: Path, found: Sequence[Found]) -> Path:
    """The same folder, refused where photos come from."""
    there = folder.resolve()
    for at in found:
        own = None if at.folder is None else at.folder.resolve()
        if own is not None and (there == own or (at.deep and own in there.parents)):
            where = "the folder" if there == own else "inside the folder"
            raise Refusal(
                f"-o {folder} is {where} of the photos themselves, where results would be taken for photos "
                "the next time; name another folder."
            )
    return folder


# The picture of before and after


def page(results: Sequence[Translation]) -> np.ndarray:
    """A row a photo: what the model was given and what it made of it, the middle of both where it enlarges;
    with the photo itself where a task has made the one of the other."""
    shown = [reduced(at) for at in results[:ROWS]]
    columns, titles = [[at.given for at in shown], [at.image for at in shown]], ["before", "after"]
    if any(at.recipe.get("task") in ("colourise", "edges", "inpaint") for at in shown):
        columns.append([at.photo.pixels.transpose(1, 2, 0) for at in shown])
        titles = ["given", "translated", "photo"]
    tiles = [[_enlarged(image) for image in column] for column in columns]
    height, width = (max(image.shape[axis] for column in tiles for image in column) for axis in (0, 1))
    page = [np.stack([_centred(image, height, width) for image in column]) for column in tiles]
    return figures.sheet(page, titles, [Path(at.name).stem for at in shown], tile=1)


def reduced(at: Translation) -> Translation:
    """The same in little memory, as the picture of before and after shows it."""
    given, image = at.given, at.image
    if (scale := image.shape[0] // given.shape[0]) > 1 and max(image.shape) > THUMB:
        given, image = _middle(given, THUMB // scale), _middle(image, THUMB // scale * scale)
        given = figures.enlarge(given, scale)
    small = _thumb(at.photo.pixels.transpose(1, 2, 0)).transpose(2, 0, 1)
    photo = at.photo._replace(pixels=small, opacity=None)
    return replace(at, photo=photo, given=_thumb(given), image=_thumb(image), opacity=None)


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, (n - side) // 2) for n in image.shape[:2])
    return np.array(image[top : top + side, left : left + side])


def _thumb(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 1 or 3) with the long side THUMB at most, in its own memory."""
    h, w = image.shape[:2]
    share = min(1.0, THUMB / max(h, w))
    if share == 1:
        return np.array(image)
    size = max(1, round(w * share)), max(1, round(h * share))
    return resized(image.transpose(2, 0, 1), size).transpose(1, 2, 0)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """A small one in larger pixels, in three channels."""
    return figures.enlarge(np.repeat(image, 3 // image.shape[2], 2), max(1, THUMB // max(image.shape[:2])))


def _centred(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """On white."""
    out = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out
