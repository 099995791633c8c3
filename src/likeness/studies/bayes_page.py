"""Bayes' rule against a network on one picture, and the page around it: what `bayes.run` found,
for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .. import figures, storage
from ..data import Data
from ..metrics.card import Score, short
from ..reports import run_page

PICTURE, PAGE = "bayes.png", "bayes.html"
FINE = 2
"""pixels drawn for each one kept, so that lines are smooth"""
WIDE, HIGH = 1500, 620
INK, SOFT, LINE = (36, 35, 31), (120, 116, 108), (226, 223, 214)
BLUE, ORANGE, GREEN, VIOLET = (38, 98, 160), (206, 92, 30), (60, 140, 90), (130, 90, 170)
SIDES = {"vae": BLUE, "classifier": ORANGE, "nearest neighbour": SOFT}
MEASURES = {
    "vae, log p(x)": BLUE,
    "vae, typicality": GREEN,
    "vae, max p(y|x)": VIOLET,
    "classifier, max p(y|x)": ORANGE,
}
SCALE = {0.0: "0", 0.2: "20 %", 0.4: "40 %", 0.6: "60 %", 0.8: "80 %", 1.0: "100 %"}


def write(folder: Path, data: Data, cards: Sequence[Score], result: dict[str, Any]) -> None:
    """bayes.png and bayes.html in `folder`.  Raises DiskTrouble or NotAllowed."""
    image = draw(
        cards,
        result["reliability"],
        f"{Path(data.source).name or data.source}, {max(card.n for card in cards):,} held-out images",
    )
    recipe = {key: result[key] for key in ("data", "fingerprint", "seed", "minutes", "k")}
    figures.write_png(folder / PICTURE, image, recipe)
    storage.write(folder / PAGE, page(cards, result, figures.uri(figures.png(image, recipe))).encode())


class Panel:
    """A place on the picture with two axes; both coordinates of what is drawn run from 0 to 1."""

    def __init__(
        self,
        canvas: ImageDraw.ImageDraw,
        left: int,
        wide: int,
        title: str,
        below: str = "",
        top: int = 74,
        high: int = 380,
    ):
        self.canvas, self.box = canvas, (left, top, wide, high)
        self.words(left, top - 34, title, INK, 19)
        self.words(left + wide / 2, top + high + 26, below, SOFT, 15, "ma")

    def place(self, x: float, y: float) -> tuple[float, float]:
        left, top, wide, high = self.box
        return left + x * wide, top + (1 - y) * high

    def words(
        self,
        x: float,
        y: float,
        text: str,
        ink: tuple[int, int, int] = SOFT,
        size: int = 14,
        anchor: str = "la",
    ) -> None:
        """At a place in pixels."""
        self.canvas.text((x * FINE, y * FINE), text, ink, ImageFont.load_default(size * FINE), anchor)

    def line(
        self, points: Sequence[tuple[float, float]], ink: tuple[int, int, int], thick: float = 2.5
    ) -> None:
        flat = [(a * FINE, b * FINE) for a, b in (self.place(x, y) for x, y in points)]
        self.canvas.line(flat, ink, round(thick * FINE), "curve")

    def dot(self, x: float, y: float, ink: tuple[int, int, int], radius: float = 5.0) -> None:
        a, b = self.place(x, y)
        self.canvas.ellipse([v * FINE for v in (a - radius, b - radius, a + radius, b + radius)], ink)

    def across(self, ticks: dict[float, str]) -> None:
        """Lines from bottom to top, with what stands below them."""
        for x, text in ticks.items():
            self.line([(x, 0), (x, 1)], LINE, 1)
            self.words(*self.place(x, 0), text, anchor="ma")

    def up(self, ticks: dict[float, str]) -> None:
        for y, text in ticks.items():
            self.line([(0, y), (1, y)], LINE, 1)
            a, b = self.place(0, y)
            self.words(a - 8, b, text, anchor="rm")

    def key(self, entries: dict[str, tuple[int, int, int]]) -> None:
        """What the colours mean, a line each, below the axis: no curve goes there."""
        left, top, _, high = self.box
        for i, (text, ink) in enumerate(entries.items()):
            a, b = left, top + high + 66
            self.canvas.ellipse([v * FINE for v in (a, b + 22 * i - 5, a + 10, b + 22 * i + 5)], ink)
            self.words(a + 18, b + 22 * i, text, INK, anchor="lm")


def draw(cards: Sequence[Score], curves: dict[str, Any], about: str) -> np.ndarray:
    """The picture, uint8 (height, width, 3): accuracy by labels, reliability with all labels, and what looks
    familiar."""
    image = Image.new("RGB", (WIDE * FINE, HIGH * FINE), (255, 255, 255))
    canvas = ImageDraw.Draw(image)
    accuracy(Panel(canvas, 70, 390, "Accuracy by labels", f"labels to learn from; {about}"), cards)
    most = max(curves, key=int)
    reliability(Panel(canvas, 560, 330, f"Reliability, {int(most):,} labels", "how sure it is"), curves[most])
    familiarity(
        Panel(canvas, 1130, 330, "Told from held-out images", "AUROC; below 0.5 the strange looks familiar"),
        cards,
    )
    return np.array(image.resize((WIDE, HIGH), Image.Resampling.LANCZOS))


def accuracy(panel: Panel, cards: Sequence[Score]) -> None:
    own = [c for c in cards if c.name == "accuracy"]
    labels = sorted({c.settings["labels"] for c in own})
    low, high = math.log(labels[0]), math.log(labels[-1])
    across: Callable[[int], float] = lambda m: (math.log(m) - low) / max(high - low, 1e-9)  # noqa: E731
    panel.up(SCALE)
    panel.across({across(m): figures.compact(m) for m in labels})
    for side, ink in SIDES.items():
        result = sorted((c.settings["labels"], c) for c in own if c.of == side)
        panel.line([(across(m), c.value) for m, c in result], ink)
        for m, c in result:
            panel.line(
                [
                    (across(m), c.value if c.low is None else c.low),
                    (across(m), c.value if c.high is None else c.high),
                ],
                ink,
                1.5,
            )
            panel.dot(across(m), c.value, ink)
    panel.key({"vae, by Bayes' rule": BLUE, "classifier": ORANGE, "nearest neighbour": SOFT})


def reliability(panel: Panel, curves: dict[str, Any]) -> None:
    """How often it is right, by how sure it is: on the diagonal its probabilities mean what they say."""
    panel.up(SCALE)
    panel.across(SCALE)
    panel.line([(0, 0), (1, 1)], SOFT, 1)
    inks = {
        "vae": BLUE,
        "vae after temperature": GREEN,
        "classifier": ORANGE,
        "classifier after temperature": VIOLET,
    }
    for side, ink in inks.items():
        curve = curves[side]
        panel.line(list(zip(curve["confidence"], curve["accuracy"])), ink, 1.5)
        for x, y in zip(curve["confidence"], curve["accuracy"]):
            panel.dot(x, y, ink, 4)
    panel.key(inks)


def familiarity(panel: Panel, cards: Sequence[Score]) -> None:
    """A row a kind of images, a dot a measure."""
    own = [c for c in cards if c.name == "AUROC"]
    kinds = list(dict.fromkeys(c.note for c in own))
    panel.across({0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"})
    panel.line([(0.5, 0), (0.5, 1)], SOFT, 1)
    for i, kind in enumerate(kinds):
        y = 1 - (i + 0.5) / len(kinds)
        panel.up({y: kind if len(kind) < 24 else f"{kind[:22]}…"})
        for shift, (of, ink) in enumerate(MEASURES.items()):
            for c in (c for c in own if c.note == kind and c.of == of):
                panel.dot(c.value, y + (1.5 - shift) * 0.012, ink)
    panel.key(MEASURES)


# The page


def page(cards: Sequence[Score], result: dict[str, Any], picture: str) -> str:
    """One HTML document that needs no other file."""
    title = f"Discriminative and generative on {Path(str(result['data'])).name}"
    lines = "".join(f"<li>{figures.safe(line)}</li>" for line in findings(cards))
    alt = "accuracy by labels, reliability, and areas under the ROC curve against images of other kinds"
    parts = {
        "": f'<img style="width:100%" alt="{alt}" src="{picture}">',
        "What was found": f"<ul>{lines}</ul>",
        "Scores": run_page.cards(cards),
    }
    sections = "".join(
        f"<section>{name and f'<h2>{name}</h2>'}{inner}</section>" for name, inner in parts.items()
    )
    body = (
        f'<header><p class="kind">likeness</p><h1>{figures.safe(title)}</h1></header><main>{sections}</main>'
    )
    return figures.TEMPLATE.format(title=figures.safe(title), css=figures.CSS, body=body)


def findings(cards: Sequence[Score]) -> list[str]:
    """What the cards say, in sentences: nothing that was not measured."""
    right = {(c.settings["labels"], c.of): c for c in cards if c.name == "accuracy"}
    out = []
    for m in sorted({m for m, _ in right}):
        a, b = right[m, "vae"], right[m, "classifier"]
        out.append(
            f"From {m:,} labels: Bayes' rule is right in {a.value:.1%}, the classifier in {b.value:.1%}; "
            f"{_ahead(a, b)}."
        )
    out += list(dict.fromkeys(f"{c.warning}." for c in right.values() if "too early" in c.warning))
    for side in ("vae", "classifier"):
        raw, tempered = (
            next(c for c in reversed(cards) if c.name == "calibration error" and c.of == of)
            for of in (side, f"{side} after temperature")
        )
        out.append(
            f"Calibration error of the {side}: {raw.value:.1%}, after temperature {tempered.value:.1%}; "
            f"perfect probabilities would show {raw.floor or 0:.1%}."
        )
    fooled = [c for c in cards if c.name == "AUROC" and (c.high or 1.0) < 0.5]
    out += [
        f"{c.note} looks more familiar than held-out images to the measure {c.of} (AUROC {short(c.value)})."
        for c in fooled
    ]
    return out


def _ahead(a: Score, b: Score) -> str:
    if (
        a.low is None
        or b.low is None
        or a.high is None
        or b.high is None
        or (a.low <= b.high and b.low <= a.high)
    ):
        return "the intervals overlap"
    return f"the {'generative' if a.value > b.value else 'discriminative'} side is ahead"
