"""The vocabulary of the whole program.

    Spec       what one example of the data is
    Condition  what a model may be told about each: its class, a text, another image
    Batch      some examples, what is known about each, and the randomness to treat them with
    Loss       what a model wants to be small, and the terms it consists of
    Player     one player's move in a training step: whose weights, which loss
    Training   how long and how fast
    Model      a method from one paper: weights, and answers to questions
    Noise      randomness in which image i depends on seed i alone
    Bits       bits per dimension, and how they are to be read
    Refusal    an error that is a lesson: what was asked, why not, what to type instead

An image is a float tensor (batch, channels, height, width) in [-1, 1] wherever it crosses a
function of this program.  A model that needs anything else (256 levels, logits, latents)
converts inside its own file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import Batch as Batch
    from .batch import Spec as Spec
    from .condition import NONE as NONE
    from .condition import PAD as PAD
    from .condition import Condition as Condition
    from .condition import given as given
    from .condition import label_of as label_of
    from .durations import duration as duration
    from .eager import eagerly as eagerly
    from .eager import leave_alone as leave_alone
    from .errors import BadData as BadData
    from .errors import Busy as Busy
    from .errors import DiskTrouble as DiskTrouble
    from .errors import Diverged as Diverged
    from .errors import NotAllowed as NotAllowed
    from .errors import Offline as Offline
    from .errors import Refusal as Refusal
    from .errors import closest as closest
    from .model import Loss as Loss
    from .model import Model as Model
    from .model import Player as Player
    from .model import Training as Training
    from .noise import Noise as Noise
    from .options import check_options as check_options
    from .options import option as option
    from .options import option_fields as option_fields
    from .questions import QUESTIONS as QUESTIONS
    from .questions import Bits as Bits
    from .questions import Checks as Checks
    from .questions import Classifies as Classifies
    from .questions import Completes as Completes
    from .questions import Compresses as Compresses
    from .questions import Decodes as Decodes
    from .questions import Denoises as Denoises
    from .questions import Diagnoses as Diagnoses
    from .questions import Distorts as Distorts
    from .questions import Encodes as Encodes
    from .questions import Guesses as Guesses
    from .questions import KnowsChance as KnowsChance
    from .questions import Predicts as Predicts
    from .questions import Redraws as Redraws
    from .questions import Samples as Samples
    from .questions import Scores as Scores
    from .questions import Stylises as Stylises
    from .questions import Surprises as Surprises
    from .questions import T as T
    from .questions import Translates as Translates
    from .questions import answers as answers
    from .questions import ask as ask
    from .questions import final as final
    from .questions import no_way_back as no_way_back

_NAMES = {
    "batch": "Batch Spec",
    "condition": "NONE PAD Condition given label_of",
    "durations": "duration",
    "eager": "eagerly leave_alone",
    "errors": "BadData Busy DiskTrouble Diverged NotAllowed Offline Refusal closest",
    "model": "Loss Model Player Training",
    "noise": "Noise",
    "options": "check_options option option_fields",
    "questions": "QUESTIONS Bits Checks Classifies Completes Compresses Decodes Denoises Diagnoses Distorts "
    "Encodes Guesses KnowsChance Predicts Redraws Samples Scores Stylises Surprises T Translates answers ask "
    "final no_way_back",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Each name is imported when it is first asked for: an error can be raised, and a flag refused, without
    torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
