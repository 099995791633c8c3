"""scores.json: one evaluation of a run, {"schema": 2, "cards": [...]}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import storage
from ..core import BadData, given
from ..metrics.card import Score, from_dict
from ..runs.run import Run
from ..training.symptoms import of_today

SCORES = "scores.json"
SCHEMA = 2
"""2: {"schema": 2, "cards": [...]}, with warnings as a list and groups; 1, which is still read, was the list
of cards alone"""


def save_scores(folder: Path, scores: Sequence[Score]) -> Path:
    """Replace scores.json, which holds one evaluation."""
    held = dict(schema=SCHEMA, cards=[s.as_dict() for s in scores])
    text = json.dumps(held, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    storage.write(folder / SCORES, text.encode(errors="backslashreplace"))
    return folder / SCORES


LIKELIHOODS = ("bits/dim", "nats an image")
"""a model's likelihood in schema 1, whatever the model is told of an image"""


def load_scores(folder: Path) -> list[Score]:
    """The last evaluation, or nothing if there was none.  Raises BadData if the file is damaged, or newer
    than this version."""
    return _read(folder)[1]


def scores_of(run: Run) -> list[Score]:
    """The last evaluation of a run, as load_scores() reads it; but a likelihood of schema 1 has the name that
    it has now, such as "bits/dim given the class": it is not to be ranked among those of p(x)."""
    schema, scores = _read(run.folder)
    of = given(run.config.spec.parts(run.model.takes)) if schema == 1 else ""
    own = ("model", "training images")
    return [
        replace(card, name=card.name + of) if card.name in LIKELIHOODS and card.of in own else card
        for card in scores
    ]


def _renamed(card: Score) -> Score:
    """With the doctor's findings under their names of today."""
    if card.name != "findings":
        return card
    return replace(card, warnings=tuple(map(of_today, card.warnings)))


def _read(folder: Path) -> tuple[int, list[Score]]:
    """The schema of a scores.json, and its cards."""
    try:
        held = json.loads((folder / SCORES).read_bytes())
        if isinstance(held, dict) and held["schema"] != SCHEMA:
            raise ValueError(f"it is of schema {held['schema']!r}, and this version reads up to {SCHEMA}")
        schema, cards = (SCHEMA, held["cards"]) if isinstance(held, dict) else (1, held)
        return schema, [_renamed(from_dict(card)) for card in cards]
    except FileNotFoundError:
        return SCHEMA, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{folder / SCORES} cannot be read ({error}); evaluate the run again.") from None
