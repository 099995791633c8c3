"""The command line.  Every flag of a model is one of its options; none is declared here.

Nothing heavy is imported before a verb needs it, so that `likeness --help` is instant.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from . import (
    ask,
    completion,
    evaluate,
    features,
    imagic,
    imagine,
    lists,
    look,
    map,
    neighbours,
    paint,
    play,
    studies,
    studio,
    style,
    trace,
    train,
    translate,
    walk,
)
from .arguments import closest

Verb = Callable[[list[str]], int]

ASKING: tuple[Verb, ...] = (
    ask.reconstruct,
    ask.complete,
    ask.edit,
    paint.paint,
    translate.translate,
    ask.score,
    ask.field,
    ask.diffuse,
    ask.latent,
    walk.walk,
    trace.trace,
)
LAB: tuple[Verb, ...] = (features.features, map.map, neighbours.neighbours, look.look, style.style, play.play)
STUDIES: tuple[Verb, ...] = (studies.bayes, studies.detect)
LISTS: tuple[Verb, ...] = (lists.export, lists.check, lists.models, lists.data, completion.completion)
VERBS: dict[str, Verb] = {
    f.__name__: f
    for f in (
        train.train,
        ask.sample,
        imagine.imagine,
        imagic.imagic,
        evaluate.evaluate,
        *ASKING,
        *LAB,
        *STUDIES,
        studio.studio,
        *LISTS,
    )
}

HELP = f"""likeness {__version__}: generative and self-supervised models on your own images.

{chr(10).join(f"  likeness {f.__doc__}" for f in VERBS.values())}

  likeness VERB --help            what a verb takes
  likeness train MODEL --help     the options of a model

Begin with: likeness train vae digits --minutes 1"""


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    word = argv[0] if argv else "help"
    if word in ("-h", "--help", "help", "-V", "--version"):
        return printed(f"likeness {__version__}" if word in ("-V", "--version") else HELP)
    try:
        return guarded(argv)
    except KeyboardInterrupt:  # also of one that is still importing
        print("likeness: interrupted; what was saved before is intact", file=sys.stderr)
        return 130


def printed(text: str) -> int:
    """Print what needs nothing heavy."""
    try:
        print(text, flush=True)
        return 0
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        return output_closed(error)


def output_closed(error: OSError) -> int:
    """Nobody takes our output: whoever read it has stopped, such as head, or the disk is full."""
    # python would complain once more when it flushes
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 141
    print(f"likeness: the disk is full ({error.strerror}); what was saved before is intact", file=sys.stderr)
    return 74


def guarded(argv: list[str]) -> int:
    """Run a verb; whatever the user can mend is one sentence and an exit code, the rest is our own fault."""
    from ..core import Refusal, words

    try:
        if argv[0] not in VERBS:
            meant = words.verb(argv[0])
            hint = f"that is likeness {meant} here." if meant else closest(argv[0], list(VERBS))
            raise Refusal(f"there is no verb {argv[0]!r}; {hint}  There are: {', '.join(VERBS)}.")
        code = VERBS[argv[0]](argv[1:])
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        print(f"likeness: {refusal}", file=sys.stderr)
        return refusal.code
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC):
            return output_closed(error)
        import traceback

        traceback.print_exc()
        print(
            "likeness: that is a defect of likeness, not of your command; the lines above say where.",
            file=sys.stderr,
        )
        return 1
