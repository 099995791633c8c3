"""Captions as tokens: the words of the training captions by number.

A caption is cut into words and signs, all in small letters.  Number 0 stands behind the last word (core.PAD),
1 for any word that no training caption has, and the others for words from the commonest to the rarest,
equally common ones by alphabet: a function of the training captions alone, which a run keeps in its
config.json.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

UNKNOWN = 1
LONGEST = 77
"""words kept of a caption: as many tokens as CLIP takes"""
MOST = 20_000
"""words of a vocabulary; rarer ones are unknown"""
NAMED = 8
"""unknown words that are named"""
_WORDS = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """A text in words and signs, in small letters: "A red circle, small." is a, red, circle, ",",
    small, "."."""
    return _WORDS.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    words: tuple[str, ...]
    """word i has the number i + 2"""
    longest: int
    """words of the longest training caption, at most LONGEST; what is longer is cut off"""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """The words of these captions."""
        count, longest = Counter[str](), 1
        for text in texts:
            result = words(text)[:LONGEST]
            count.update(result)
            longest = max(longest, len(result))
        ranked = sorted(count, key=lambda word: (-count[word], word))[:MOST]
        return cls(tuple(ranked), longest)

    def __len__(self) -> int:
        """How many numbers there are, those for nothing and for an unknown word among them."""
        return len(self.words) + 2

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, 2)}

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int32 (N, longest), PAD behind the last word of each."""
        from ..core import PAD

        out = np.full((len(texts), self.longest), PAD, np.int32)
        for row, text in zip(out, texts):
            result = [self._number.get(word, UNKNOWN) for word in words(text)[: self.longest]]
            row[: len(result)] = result
        return out

    def unknown(self, text: str) -> list[str]:
        """Words of a text that no training caption has, each once."""
        return [word for word in dict.fromkeys(words(text)) if word not in self._number]

    def remark(self, text: str) -> str:
        """A sentence about the unknown words of a text, with the nearest known ones; nothing where all are
        known, and of many of them the first."""
        if not (strange := self.unknown(text)):
            return ""
        near = {word: difflib.get_close_matches(word, self.words, 1) for word in strange[:NAMED]}
        hints = "  ".join(f"for {word!r} did you mean {known[0]!r}?" for word, known in near.items() if known)
        more = f" and {len(strange) - NAMED:,} more" if len(strange) > NAMED else ""
        return (
            f"no training caption has the word {', '.join(map(repr, near))}{more}, so nothing is known of "
            f"it.  {hints}"
        ).strip()
