"""Images of texts that somebody types, by a run that has learnt from captioned images.

A text is put into the words of the run's training captions; of a word that none of them has nothing is known,
which a note says, with the nearest known one.  What is longer than the longest training caption is cut off,
with a note as well, and an empty text says nothing: what is drawn of it is p(x).

--guidance leads away from what is drawn without a text, or with --negative from what is drawn of that text.
--grid draws the same text and noise for each value of one or two options: guidance=1,2,4 steps=10,50.

--upscale names runs that were trained on pairs, --task upscale2 and --text: what has been drawn goes through
each of them in turn, with the text (Ho et al., "Cascaded Diffusion Models for High Fidelity Image
Generation", 2022, section 3).  Clips gain frames in the same way (--task slow4).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, models
from ..core import Condition, Model, Refusal, ask
from ..data.captions import Vocabulary, words
from ..parts.denoising import Denoiser
from . import sampling
from .sampling import State

WRITTEN = 60
"""letters of a text beside its images"""
LINES = 10_000
"""texts of a file, at most"""
Grid = Mapping[str, Sequence[Any]]
"""values of each of one or two options"""


class Text(NamedTuple):
    """A text as a model reads it."""

    text: str
    """without what was cut off"""
    notes: tuple[str, ...]
    """what whoever has typed it should know"""
    unknown: tuple[str, ...]


def read(text: str, vocabulary: Vocabulary) -> Text:
    """A text in the words that a run knows."""
    typed, notes = words(text), list[str]()
    if len(typed) > vocabulary.longest:
        notes.append(
            f"the text has {len(typed):,} words, and the longest caption in training had "
            f"{vocabulary.longest}: it is read up to {typed[vocabulary.longest - 1]!r}, word "
            f"{vocabulary.longest}"
        )
        text = " ".join(typed[: vocabulary.longest])
    if not typed:
        notes.append("the text has no word, so that images are drawn as if nothing were asked for")
    if remark := vocabulary.remark(text):
        notes.append(remark)
    return Text(text, tuple(notes), tuple(vocabulary.unknown(text)))


def texts_of(file: Path) -> list[str]:
    """The texts of a file, one a line; empty lines are passed over.  Raises Refusal."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is no text in UTF-8"
        raise Refusal(
            f"--texts {file} cannot be read ({reason}); name a file with one text a line."
        ) from None
    texts = [line for line in lines if line]
    if not 0 < len(texts) <= LINES:
        raise Refusal(f"--texts {file} has {len(texts):,} texts; write 1 to {LINES:,} of them, one a line.")
    return texts


def reads(model: Model) -> bool:
    return "tokens" in model.spec.parts(model.takes)


def refuse(model: Model) -> None:
    """Raises Refusal of a model that draws nothing from a text alone."""
    name = type(model).__name__.lower()
    if not reads(model):
        kind = models.load(name) if name in models.NAMES else type(model)
        option = "--text" if issubclass(kind, Denoiser) else ""
        raise Refusal(
            f"this {name} has learnt nothing of texts"
            + (
                f"; train another on captioned images: likeness train {name} DATA {option}."
                if option
                else ".  Those that draw from a text: dalle, and ddpm, edm, flowmatching and meanflow that "
                "are trained with --text on captioned images."
            )
        )
    if "image" in model.spec.parts(model.takes):
        raise Refusal(
            f"this {name} draws from a text and a smaller image beside it: name a run that draws such an "
            "image, and this one behind --upscale."
        )
    ask(model, "sample")


# Settings


def settings(model: Model, typed: Sequence[str]) -> dict[str, list[Any]]:
    """What --grid says: "guidance=1,2,4" and perhaps another one.  Raises Refusal."""
    live = {f.name: f for f in fields(model) if f.metadata.get("live")}
    known, out = ", ".join(sorted(live)), dict[str, list[Any]]()
    for one in typed:
        flag, _, values = one.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if name not in live or not values or name in out:
            raise Refusal(
                f"--grid {one}: write an option of this run once, and its values, as in guidance=1,2,4; its "
                f"options are: {known or 'none'}."
            )
        out[name] = [_value(name, text.strip(), live[name].default) for text in values.split(",")]
    return checked(out)


def checked(grid: Grid) -> dict[str, list[Any]]:
    if len(grid) > 2 or not all(len(values) for values in grid.values()):
        raise Refusal("--grid has rows and columns, values of one or two options; name no more.")
    return {name: list(values) for name, values in grid.items()}


def _value(name: str, text: str, default: Any) -> Any:
    """As the flag of that option is read."""
    try:
        if isinstance(default, bool):
            return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]
        return type(default)(text)
    except (ValueError, KeyError):
        raise Refusal(f"--grid {name}={text}: {text!r} is no value of --{name.replace('_', '-')}.") from None


@dataclass(frozen=True)
class Asked:
    """What is to be drawn: of each text, in each cell of the grid, n images."""

    texts: tuple[str, ...]
    n: int
    seed: int = 0
    negative: str = ""
    grid: Grid | None = None

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The options of each cell, row by row."""
        grid = self.grid or {}
        return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]

    @property
    def total(self) -> int:
        return len(self.texts) * len(self.cells) * self.n


class Upscaler(NamedTuple):
    """A stage of a cascade."""

    name: str
    model: Model
    vocabulary: Vocabulary


def fit_together(base: Model, stages: Sequence[Upscaler]) -> None:
    """Raises Refusal where a stage does not take what the one before it draws."""
    shape = base.spec.shape
    for stage in stages:
        spec = stage.model.spec
        if "image" not in spec.parts(stage.model.takes):
            raise Refusal(
                f"--upscale {stage.name}: it draws from no other image; name a run that was trained with "
                "--task upscale2 or upscale4 (or slow2 or slow4, of clips) and --text."
            )
        wanted = (spec.source[0], *([spec.frames] if spec.frames else []), spec.source[1], spec.source[1])
        # of a clip with fewer frames each stands for several
        fits = len(shape) == len(wanted) and shape[0] == wanted[0] and shape[-1] == wanted[-1]
        if not fits or (spec.frames and spec.frames % shape[1]):
            given, needed = ("x".join(map(str, one)) for one in (shape, wanted))
            raise Refusal(
                f"--upscale {stage.name} continues images of {needed}, and what is drawn before it is "
                f"{given}; name a run of that size."
            )
        shape = spec.shape


def states(
    model: Model,
    vocabulary: Vocabulary,
    asked: Asked,
    live: Mapping[str, Any],
    label: int | None = None,
    stages: Sequence[Upscaler] = (),
) -> Iterator[State]:
    """The images on their way, (asked.total, C, H, W): cell by cell, in it text by text, and of each text
    samples 0 ... n-1 of the seed, the same noise for each.  Raises Refusal before any is drawn.

    stages: what each image goes through afterwards; only what the last of them draws is shown on its way."""
    refuse(model)
    fit_together(model, stages)
    tuned = [sampling.tuned(model, **dict(live) | cell) for cell in asked.cells]
    if asked.negative:
        tuned = [_against(one, vocabulary, asked.negative) for one in tuned]
        if all(getattr(one, "guidance", 1.0) == 1 for one in tuned):
            raise Refusal(
                "--negative is what guidance leads away from, and --guidance 1 is not at all; type "
                "--guidance 3."
            )
    y = condition(model, vocabulary, asked.texts, asked.n, label)
    numbers = torch.arange(asked.n).repeat(len(asked.texts))
    drawn = _drawn(tuned, y, numbers, asked.seed)
    for depth, stage in enumerate(stages, 1):
        drawn = _continued(drawn, stage, asked, depth)
    return drawn


def _continued(before: Iterator[State], stage: Upscaler, asked: Asked, depth: int) -> Iterator[State]:
    """What the stage makes of images drawn before it, each with its text and noises of its own."""
    x = torch.cat(list(sampling.batches(before)))
    x = x.clamp(-1, 1) if stage.model.spec.levels else x
    cells = len(x) // (len(asked.texts) * asked.n)
    tokens = condition(stage.model, stage.vocabulary, asked.texts, asked.n).tokens
    assert tokens is not None
    y = Condition(None, tokens.repeat(cells, 1), x)
    numbers = torch.arange(asked.n).repeat(len(asked.texts) * cells)
    parts = y if "tokens" in stage.model.spec.parts(stage.model.takes) else Condition(image=x)
    yield from _drawn([stage.model], parts, numbers, engine.derive("cascade", asked.seed, depth))


def condition(
    model: Model, vocabulary: Vocabulary, texts: Sequence[str], n: int, label: int | None = None
) -> Condition:
    """What n images of each text are told, (len(texts) * n) rows."""
    tokens = torch.from_numpy(vocabulary.tokens(texts).astype(np.int64)).repeat_interleave(n, 0)
    of = None if label is None else torch.full((len(tokens),), label)
    return Condition(of if "label" in model.takes else None, tokens)


def _against(model: Model, vocabulary: Vocabulary, negative: str) -> Model:
    name, tokens = (
        type(model).__name__.lower(),
        torch.from_numpy(vocabulary.tokens([negative]).astype(np.int64)),
    )
    if not hasattr(model, "against"):
        raise Refusal(
            f"{name} has no guidance, so that there is nothing to lead away from; leave --negative out."
        )
    return cast(Model, cast(Any, model).against(tokens))


def _drawn(tuned: Sequence[Model], y: Condition, numbers: Tensor, seed: int) -> Iterator[State]:
    size = max(1, min(sampling.MOST, sampling.CHUNK // tuned[0].spec.dims))
    device, noise = engine.device(), engine.sampling_noise(seed, 0, int(numbers.max()) + 1)

    def way(model: Model, i: int) -> Iterable[Tensor]:
        rows = slice(i, i + size)
        return cast(
            Iterable[Tensor], ask(model, "sample")(noise[numbers[rows].to(device)], y[rows].to(device))
        )

    ways = (way(model, i) for model in tuned for i in range(0, len(y), size))
    return sampling.walk(ways, len(tuned) * len(y))


# Showing


def page(x: Tensor, asked: Asked) -> np.ndarray | None:
    """How the images, (asked.total, ...), are shown: a row for each text, or, of a grid, for each value of
    the first of its options, with words; None where a plain grid of all says as much."""
    cells, many = asked.cells, len(asked.texts) > 1
    if x.ndim != 4 or x.shape[1:] == (2, 1, 1) or (len(cells) == 1 and not many):
        return None
    tiles = figures.pixels(x).reshape(len(cells), len(asked.texts), asked.n, *x.shape[2:], 3)
    names = list(asked.grid or {})
    across = len((asked.grid or {})[names[1]]) if len(names) == 2 else 1
    rows = [cells[i : i + across] for i in range(0, len(cells), across)]
    # (rows, texts) downwards, (columns, samples) to the right
    table = tiles.reshape(len(rows), across, *tiles.shape[1:]).transpose(0, 2, 1, 3, 4, 5, 6)
    table = table.reshape(len(rows) * len(asked.texts), across * asked.n, *x.shape[2:], 3)
    titles = [
        f"{names[1]} {rows[0][k][names[1]]}" if len(names) == 2 and not i else ""
        for k in range(across)
        for i in range(asked.n)
    ]
    notes = [
        ", ".join([f"{name} {row[0][name]}" for name in names[:1]] + [shortened(text)] * many)
        for row in rows
        for text in asked.texts
    ]
    return figures.sheet(list(table.swapaxes(0, 1)), titles, notes)


def shortened(text: str) -> str:
    return text if len(text) <= WRITTEN else f"{text[: WRITTEN - 3]}..."
