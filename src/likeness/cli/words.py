"""Words of other tools on the command line: what means the same is understood, the rest is answered with the
command to type (core/words.py has the table)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from ..core import words
from ..core.errors import Refusal

MOST_STEPS = 1_000
"""steps of a sampler beyond which those of a training are probably meant"""


class Token(NamedTuple):
    """A word of the command, or a flag that is none of ours with its value."""

    flag: str
    word: str = ""
    """of core/words.py; nothing where the token is one of ours"""
    value: str = ""

    @property
    def typed(self) -> str:
        return f"{self.flag} {self.value}".rstrip()


class Speaker(NamedTuple):
    """Who is spoken to."""

    verb: str
    flags: frozenset[str]
    """all that it takes, and its places (DATA, RUN ...)"""
    batch: int = 0
    """images a step unless --batch is typed; 0 where that is not known"""
    images: Callable[[list[str]], int | None] = lambda argv: None
    """training images of the command, which has our words only"""


def understood(speaker: Speaker, argv: list[str], note: Callable[[str], None]) -> list[str]:
    """The command in our words.  Raises Refusal with the whole command to type where a word has to be
    converted, or has no place here."""
    tokens = list(_tokens(speaker, argv, note))
    typed = {token.flag: after.flag for token, after in pairwise(tokens)}
    batch = words.number(typed.get("--batch", "")) or speaker.batch
    ours = [token.flag for token in tokens if not token.word]
    asked = words.Asked(speaker.verb, speaker.flags, int(batch), lambda: speaker.images(ours))
    answers = [words.answer(t.word, t.value, asked) if t.word else None for t in tokens]
    replaced = {text for answer in answers if answer for text in answer.typed if text.startswith("--")}
    command, answered, known = list[str](), list[str](), True
    for before, token, answer in zip([Token(""), *tokens], tokens, answers):
        if answer is None:
            if not replaced & {token.flag, before.flag}:
                command += [token.flag, *filter(None, [token.value])]
            continue
        command += answer.typed
        known &= answer.known
        own = f"{token.flag} of a model is its sampler's; " if token.flag in speaker.flags else ""
        answered.append(f"{token.typed}: {own}{answer.why}" + ("" if answer.typed else "; leave it out"))
    if answered:
        line = f"likeness {speaker.verb} {shlex.join(command)}"
        raise Refusal(f"{'; '.join(answered)}.  Type{'' if known else ' something like'}: {line}")
    return command


def _tokens(speaker: Speaker, argv: list[str], note: Callable[[str], None]) -> Iterator[Token]:
    rest = list(argv)
    while rest:
        text = rest.pop(0)
        head, equals, value = text.partition("=")
        word = words.plain(head)
        if text == "--":
            yield from map(Token, [text, *rest])
            return
        if not _is_flag(text):
            yield Token(text)
        elif head in ("--batch", "--steps") and head in speaker.flags and (equals or rest):
            value = value if equals else rest.pop(0)
            yield from _counted(speaker, head, value, note)
        elif head in speaker.flags:
            yield Token(text)
        elif f"--{word}" in speaker.flags:  # --batch_size of a script
            yield Token(f"--{word}{equals}{value}")
        elif not words.of_training(word, speaker.flags) and (ours := words.same(word, speaker.flags)):
            note(f"{head} is {ours} here")
            rest = [ours + equals + value if ours.startswith("--") or not equals else ours + value, *rest]
        else:
            follows = rest and not equals and word not in words.BARE.split() and not _is_flag(rest[0])
            yield Token(head, word, rest.pop(0) if follows else value)


def _counted(speaker: Speaker, flag: str, value: str, note: Callable[[str], None]) -> Iterator[Token]:
    """--batch or --steps with its value.  A model may have --steps of its own, which are seldom what somebody
    who trains it has in mind."""
    if flag == "--steps" and speaker.verb == "train":
        if (words.number(value) or 0) > MOST_STEPS:
            yield Token(flag, "steps", value)
            return
        note("--steps is of the sampler; how long to train is --images or --minutes")
    yield from map(Token, (flag, value))


def _is_flag(text: str) -> bool:
    return text.startswith("-") and text != "-" and words.number(text.lstrip("-")) is None
