"""An image edited by a text: what the text says changes, and the rest stays.

Kawar et al., "Imagic: Text-Based Real Image Editing with Diffusion Models", 2023, section 3.2:

    e_tgt   what the text encoder makes of the target text
    e_opt   begins there and comes to draw the image, with the model held fixed                         (1)
            minimise over e      E_t,eps  L(x, t, eps; theta, e)
    theta'  minimise over theta  E_t,eps  L(x, t, eps; theta, e_opt): the image itself is drawn of e_opt (2)
    draw    of  e = s e_tgt + (1 - s) e_opt  by the model theta'                                         (3)

The strength s is 0 for the image and 1 for all that the text says; what is asked for changes somewhere
between.  (1) and (2) are work, and kept in a folder; with them another strength costs a sample.

Departures: the whole network is fine-tuned for (2), but its text encoder, which is not used any more; the
loss is that of the run's own model, whatever it predicts; one resolution.  s is the paper's eta.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import engine, storage
from ..core import PAD, Batch, Condition, Model, Noise, Refusal, final
from ..data.captions import words
from ..parts.conditioning import Text
from ..parts.denoising import Denoiser
from ..parts.text import Frozen, Relative, TextEncoder
from . import imagine

EMBEDDING_STEPS = 200
TUNING_STEPS = 400
EMBEDDING_RATE, TUNING_RATE = 1e-2, 3e-4
BATCH = 8
"""noises of a step"""
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Fixed(nn.Module):
    """In place of an encoder of texts: one text wherever any is told, and what that encoder made of none
    where none is."""

    def __init__(self, text: Text, nothing: Text):
        super().__init__()
        # an encoder may give no more vectors than a text has words
        text, nothing = longer(text, nothing.words.shape[1]), longer(nothing, text.words.shape[1])
        self.words = nn.Parameter(text.words[0].clone())
        self.there, self.nothing = nn.Buffer(text.there[0]), nn.Buffer(nothing.words[0])
        self.nothing_there = nn.Buffer(nothing.there[0])

    def forward(self, y: Condition | None, n: int = 0) -> Text:
        if y is None or y.tokens is None:
            told = torch.zeros(n or (0 if y is None else len(y)), dtype=torch.bool, device=self.words.device)
        else:
            told = (y.tokens != PAD).any(1)
        words = torch.where(told[:, None, None], self.words, self.nothing)
        return Text(words, torch.where(told[:, None], self.there, self.nothing_there))


def longer(text: Text, length: int) -> Text:
    """With room for `length` words at least."""
    room = max(0, length - text.words.shape[1])
    return Text(nn.functional.pad(text.words, (0, 0, 0, room)), nn.functional.pad(text.there, (0, room)))


def reader(model: nn.Module) -> nn.Module:
    """The part of a network that holds its encoder of texts as `text`."""
    kinds = TextEncoder, Relative, Frozen, Fixed
    holders = [m for m in model.modules() if isinstance(getattr(m, "text", None), kinds)]
    assert len(holders) == 1
    return holders[0]


@dataclass(frozen=True)
class How:
    """What was asked for."""

    embedding_steps: int = EMBEDDING_STEPS
    """of (1); 0 leaves it out"""
    tuning_steps: int = TUNING_STEPS
    """of (2); 0 leaves it out"""
    embedding_rate: float = EMBEDDING_RATE
    tuning_rate: float = TUNING_RATE
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far (1) and (2) are."""

    part: str
    share: float
    loss: float
    edit: Edit | None = None
    """at the end"""


@dataclass(frozen=True, eq=False)
class Edit:
    """All that another strength needs: what (1) and (2) came to."""

    model: Model
    """theta', with Fixed in place of its encoder"""
    target: Tensor
    """e_tgt, (T, width)"""
    optimised: Tensor
    """e_opt, (T, width)"""
    tokens: Tensor
    """int64 (1, T)"""

    def at(self, strength: float, n: int = 1, seed: int = 0, **live: Any) -> Tensor:
        """(3): n images (n, C, H, W) of noises 0 ... n-1 of the seed, in memory."""
        if not 0 <= strength <= 2:
            raise Refusal(
                f"--strength {strength:g} is no share of the way from 0, the image, to 1, what the text says "
                "(or a little beyond, 2 at most)."
            )
        model = imagine.sampling.tuned(self.model, **live)
        fixed = cast(Fixed, reader(self.model).text)
        with torch.no_grad():
            fixed.words.copy_(torch.lerp(self.optimised, self.target, strength))
            y = Condition(tokens=self.tokens.expand(n, -1)).to(engine.device())
            x = final(cast(Denoiser, model).sample(engine.sampling_noise(seed, 0, n), y)).float().cpu()
        return x.clamp(-1, 1) if model.spec.levels else x


class Plan(NamedTuple):
    """What is to be learnt of an image and a text, and where it is kept."""

    x: Tensor
    """(1, C, H, W)"""
    text: str
    tokens: Tensor
    how: How
    facts: dict[str, Any]
    """as identity() has them"""
    place: Path


def edit(model: Model, x: Tensor, tokens: Tensor, how: How = How()) -> Edit:
    """The end of editing()."""
    done = final(editing(model, x, tokens, how)).edit
    assert done is not None
    return done


def editing(model: Model, x: Tensor, tokens: Tensor, how: How = How()) -> Iterator[Progress]:
    """(1) and (2) for an image x (1, C, H, W) and the target text, int64 (1, T).  Raises Refusal of a model
    that is no denoiser which reads texts, and of a text without a word."""
    twin = _twin(model, tokens)
    fixed = cast(Fixed, reader(twin).text)
    target = fixed.words.detach().clone()
    x, tokens = x.to(engine.device()), tokens.to(engine.device())
    noise = _noises(how.seed)
    twin.requires_grad_(False)
    fixed.words.requires_grad_(True)
    yield from _learn(
        twin, [fixed.words], "the embedding", x, tokens, noise, how.embedding_steps, how.embedding_rate
    )
    optimised = fixed.words.detach().clone()
    twin.requires_grad_(True)
    fixed.words.requires_grad_(False)
    weights = [p for p in twin.parameters() if p.requires_grad]
    yield from _learn(twin, weights, "the model", x, tokens, noise, how.tuning_steps, how.tuning_rate)
    twin.requires_grad_(False)
    twin.label_dropout = cast(Denoiser, model).label_dropout
    done = Edit(twin, target, optimised, tokens)
    yield Progress("the model", 1.0, float("nan"), done)


def _twin(model: Model, tokens: Tensor) -> Denoiser:
    """A copy of the model, to which the text is Fixed and never left out."""
    imagine.refuse(model)
    if not isinstance(model, Denoiser) or model.conditional:
        raise Refusal(
            "imagic moves what a diffusion model makes of a text; name a ddpm, edm, flowmatching or meanflow "
            "of images that was trained with --text, and without --conditional."
        )
    if not bool((tokens != PAD).any()):
        raise Refusal(
            "the text has no word, so that there is nothing to become; say what the image shall show."
        )
    twin = copy.deepcopy(model).eval()
    holder, device = reader(twin), engine.device()
    with torch.no_grad():
        encoder = cast(TextEncoder, holder.text)
        holder.text = Fixed(encoder(Condition(tokens=tokens.to(device))), encoder(None, 1))
    twin.label_dropout = 0.0
    return twin


def _noises(seed: int) -> Iterator[Noise]:
    """A batch's own for each step."""
    key, step = engine.derive("imagic", seed), 0
    while True:
        yield Noise(range(step * BATCH, (step + 1) * BATCH), key, engine.device())
        step += 1


def _learn(
    model: Denoiser,
    weights: Sequence[nn.Parameter],
    part: str,
    x: Tensor,
    tokens: Tensor,
    noise: Iterator[Noise],
    steps: int,
    rate: float,
) -> Iterator[Progress]:
    adam = torch.optim.Adam(weights, rate) if steps else None
    images, y = x.expand(BATCH, -1, -1, -1), Condition(tokens=tokens.expand(BATCH, -1))
    for step in range(steps):
        assert adam is not None
        with torch.enable_grad():
            adam.zero_grad()
            loss = model.loss(Batch(images, y, next(noise))).total
            loss.backward()
            adam.step()
        yield Progress(part, (step + 1) / steps, float(loss.detach()))


# What is kept


def slug(text: str) -> str:
    """A text as a part of a file name."""
    return "-".join(words(text))[:40].strip("-")


def identity(x: Tensor, text: str, seen: int, how: How) -> dict[str, Any]:
    """What decides (1) and (2)."""
    image = hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()
    return dict(image=image, text=text, seen=seen, **vars(how))


def keep(edit: Edit, folder: Path, facts: dict[str, Any]) -> None:
    tensors = {f"model/{name}": t for name, t in edit.model.state_dict().items()}
    tensors |= dict(target=edit.target, optimised=edit.optimised, tokens=edit.tokens)
    storage.make(folder)
    storage.save(folder, 0, tensors, dict(facts=facts))


def kept(model: Model, folder: Path, facts: dict[str, Any]) -> Edit | None:
    """What keep() has written there of the same image, text and settings; None where there is none such."""
    if not folder.is_dir() or (state := storage.newest(folder)) is None or state[1].get("facts") != facts:
        return None
    tensors = {name: t.to(engine.device()) for name, t in state[0].items()}
    twin = _twin(model, tensors["tokens"])
    twin.load_state_dict({k.removeprefix("model/"): t for k, t in tensors.items() if k.startswith("model/")})
    twin.requires_grad_(False)
    twin.label_dropout = cast(Denoiser, model).label_dropout
    return Edit(twin, tensors["target"], tensors["optimised"], tensors["tokens"])
