"""scores.json: one evaluation of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .. import storage
from ..core import BadData
from ..metrics.card import Score, from_dict

SCORES = "scores.json"


def save_scores(folder: Path, scores: Sequence[Score]) -> Path:
    """Replace scores.json, which holds one evaluation."""
    text = json.dumps([s.as_dict() for s in scores], indent=2, ensure_ascii=False, allow_nan=False, default=str)
    storage.write(folder / SCORES, text.encode(errors="backslashreplace"))
    return folder / SCORES


def load_scores(folder: Path) -> list[Score]:
    """The last evaluation, or nothing if there was none.  Raises BadData if the file is damaged."""
    try:
        return [from_dict(said) for said in json.loads((folder / SCORES).read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{folder / SCORES} cannot be read ({error}); evaluate the run again.") from None
