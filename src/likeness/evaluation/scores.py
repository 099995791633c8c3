"""scores.json: one evaluation of a run, {"schema": 2, "cards": [...]}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .. import storage
from ..core import BadData
from ..metrics.card import Score, from_dict

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


def load_scores(folder: Path) -> list[Score]:
    """The last evaluation, or nothing if there was none.  Raises BadData if the file is damaged, or newer
    than this version."""
    try:
        held = json.loads((folder / SCORES).read_bytes())
        if isinstance(held, dict) and held["schema"] != SCHEMA:
            raise ValueError(f"it is of schema {held['schema']!r}, and this version reads up to {SCHEMA}")
        return [from_dict(card) for card in (held["cards"] if isinstance(held, dict) else held)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{folder / SCORES} cannot be read ({error}); evaluate the run again.") from None
