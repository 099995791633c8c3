"""Encoders of texts: from a Condition to a vector for each word, for attention.

    TextEncoder(vocabulary, longest, width)(y, n)    a small transformer, trained with the model
    Relative(vocabulary, longest, width)(y, n)       the same, to which the distance of two words counts
    Frozen(folder, words, longest)(y, n)             another's encoder of texts, which stays as it is

Both give conditioning.Text: words (B, T, width) and which of them are there, bool (B, T).  A text that is not
told is one learned vector, so that whoever attends always has something to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import PAD, Condition, Refusal
from .conditioning import Text
from .transformer import Gated, Transformer, rotation, turn

PREFIX = "transformers:"
"""what a frozen encoder is named by: transformers:FOLDER"""
READERS = ("relative", "absolute")
"""kinds of encoders that learn with the model"""
NEAR = 9
"""words that a convolution sees at once"""


@dataclass(frozen=True)
class Texts:
    """What a network that reads texts is made for."""

    vocabulary: int
    longest: int
    """words"""
    width: int
    """features of a word"""
    reader: str = "absolute"
    """one of READERS, or transformers:FOLDER"""

    @classmethod
    def read_by(cls, reader: str, vocabulary: int, longest: int, width: int) -> Texts:
        """width: where the encoder is one of ours.  Raises Refusal where there is no such encoder."""
        if reader.startswith(PREFIX):
            return cls(vocabulary, longest, width_in(reader), reader)
        if reader not in READERS:
            raise Refusal(
                f"there is no --reader {reader}; it is {' or '.join(READERS)}, which learn with the model, "
                f"or {PREFIX}FOLDER, an encoder of the library transformers that stays as it is."
            )
        return cls(vocabulary, longest, width, reader)

    def encoder(self) -> TextEncoder | Relative | Frozen:
        if self.reader.startswith(PREFIX):
            return Frozen(self.reader, (), self.longest)
        kind = TextEncoder if self.reader == "absolute" else Relative
        return kind(self.vocabulary, self.longest, self.width)


class TextEncoder(nn.Module):
    """A vector for each word of the vocabulary and for each place, then `depth` blocks in which every word
    sees all words of its text, and no others (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, vocabulary: int, longest: int, width: int, depth: int = 2, heads: int = 4):
        super().__init__()
        self.width, self.longest = width, longest
        self.table = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.places = nn.Embedding(longest, width)
        self.nothing = nn.Parameter(torch.randn(width) * 0.2)
        for table in (self.table, self.places):
            nn.init.normal_(table.weight, std=0.2)
        self.net = Transformer(width, depth, heads, causal=False)

    def forward(self, y: Condition | None, n: int = 0) -> Text:
        """n: examples where there is no y at all.  The text of each depends on nothing but its own words: not
        on how much room is left behind them, and not on its company."""
        tokens = tokens_of(y, n, self.longest, self.nothing.device)
        there = tokens != PAD
        silent = ~there.any(1)
        there = there | (silent[:, None] & (torch.arange(self.longest, device=tokens.device) == 0))
        h = self.table(tokens) + self.places.weight
        h = torch.where(silent[:, None, None], self.nothing, h)
        return Text(self.net(h, seen=there[:, None, None]) * there[..., None], there)

    def vector(self, y: Condition | None, n: int = 0) -> Tensor:
        """The mean over the words of each text, (B, width)."""
        words, there = self(y, n)
        return words.sum(1) / there.sum(1, keepdim=True)


class Relative(nn.Module):
    """As TextEncoder, but a word knows no place: what it sees of another depends on how far that is off, by
    rotation (Su et al., "RoFormer", 2021).

    "a large red circle at the top" is then the same phrase wherever it stands in a text, and need not be
    learnt anew at each place.  Before the blocks each word hears of its NEAR neighbours by a convolution:
    what belongs together stands together, and attention alone is slower to find that out (docs/words.md).
    """

    def __init__(self, vocabulary: int, longest: int, width: int, depth: int = 2, heads: int = 4):
        super().__init__()
        self.width, self.longest = width, longest
        self.table = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.nothing = nn.Parameter(torch.randn(width) * 0.5)
        self.near = nn.Linear(NEAR * width, width, bias=False)
        nn.init.normal_(self.near.weight, std=(NEAR * width) ** -0.5)
        self.blocks = nn.ModuleList(Phrase(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.turns = nn.Buffer(rotation(torch.arange(longest)[:, None], width // heads), persistent=False)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, y: Condition | None, n: int = 0) -> Text:
        """n: examples where there is no y at all.  As many words as the longest text here has: what lies
        behind it costs nothing."""
        tokens = tokens_of(y, n, self.longest, self.nothing.device)
        there = tokens != PAD
        length = max(1, int(there.any(0).sum()))
        tokens, there = tokens[:, :length], there[:, :length]
        silent = ~there.any(1)
        there = there | (silent[:, None] & (torch.arange(length, device=tokens.device) == 0))
        h = torch.where(silent[:, None, None], self.nothing, self.table(tokens))
        return Text(self.through(h, there), there)

    def through(self, h: Tensor, there: Tensor) -> Tensor:
        """Vectors (B, T, width) of words to those of words in their text, 0 where none is there."""
        around = nn.functional.pad(h * there[..., None], (0, 0, NEAR // 2, NEAR // 2)).unfold(1, NEAR, 1)
        h = h + self.near(around.flatten(2))
        for block in self.blocks:
            h = block(h, self.turns[:, : h.shape[1]], there)
        out: Tensor = self.norm(h) * there[..., None]
        return out

    def vector(self, y: Condition | None, n: int = 0) -> Tensor:
        """The mean over the words of each text, (B, width)."""
        return self(y, n).mean


class Phrase(nn.Module):
    """A block of transformer.py.  Its attention is written out: on processors the fused kernel takes several
    times as long for texts (torch 2.13, bf16, a mask)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = Gated(width)

    def forward(self, x: Tensor, by: Tensor, there: Tensor) -> Tensor:
        """x (B, T, width), turned `by` rotation(); there: bool (B, T), the words that are looked at."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (q, k), v = turn(qkv[:2], by), qkv[2]
        logits = (q * q.shape[-1] ** -0.5 @ k.mT).masked_fill(~there[:, None, None], -torch.inf)
        h = x + self.out((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
        out: Tensor = h + self.mlp(self.norm2(h))
        return out


def tokens_of(y: Condition | None, n: int, longest: int, device: torch.device) -> Tensor:
    """int64 (B, longest): PAD where no text is told; what is longer is cut off."""
    told = None if y is None else y.tokens
    if told is None:
        return torch.full((n or (0 if y is None else len(y)), longest), PAD, device=device)
    return nn.functional.pad(told[:, :longest], (0, max(0, longest - told.shape[1])), value=PAD)


class Frozen(nn.Module):
    """A text encoder of the library transformers (CLIP's, T5's, BERT's ...) in a folder, never trained.

    Only configuration, tokeniser files and safetensors are read; code that lies beside them is not run.  Its
    weights are none of the model's: they are neither saved with a run nor counted.
    """

    def __init__(self, folder: str, words: Sequence[str], longest: int):
        """folder: as `transformers:FOLDER` names it, with or without the prefix.  words: of the run's
        vocabulary, word i of number i + 2, since a Condition holds numbers."""
        super().__init__()
        path = Path(folder.removeprefix(PREFIX)).expanduser()
        tokeniser, net = _opened(path)
        self.__dict__["_tokeniser"], self.__dict__["_net"] = tokeniser, net
        self.words, self.longest, self.width = tuple(words), longest, _width_of(net.config)
        self.known: dict[tuple[int, ...], Tensor] = {}

    def __deepcopy__(self, memo: Any) -> Frozen:
        """A copy of a model, such as that which holds the EMA, reads by the very same encoder."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.known = {}
        return twin

    def _apply(self, fn: Any, recurse: bool = True) -> Frozen:
        """To a device the encoder goes along."""
        self.__dict__["_net"]._apply(fn)
        self.known.clear()
        super()._apply(fn, recurse)
        return self

    def forward(self, y: Condition | None, n: int = 0) -> Text:
        """An empty text is told as "", which every encoder knows."""
        device = next(self.__dict__["_net"].parameters()).device
        tokens = tokens_of(y, n, self.longest, device).cpu()
        keys = [tuple(row[row != PAD].tolist()) for row in tokens]
        if new := [key for key in dict.fromkeys(keys) if key not in self.known]:
            for key, vectors in zip(new, self.texts([self.spelled(key) for key in new])):
                self.known[key] = vectors
        every = [self.known[key] for key in keys]
        length = max(map(len, every), default=1)
        there = torch.stack([torch.arange(length, device=device) < len(v) for v in every])
        padded = [nn.functional.pad(v, (0, 0, 0, length - len(v))) for v in every]
        return Text(torch.stack(padded), there)

    def spelled(self, numbers: Sequence[int]) -> str:
        """The text of these tokens; an unknown word is left out."""
        return " ".join(self.words[k - 2] for k in numbers if k >= 2)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> list[Tensor]:
        """What it says of each text: (tokens, width), float32."""
        tokeniser, net = self.__dict__["_tokeniser"], self.__dict__["_net"]
        result: list[Tensor] = []
        for text in texts:  # one by one: of no text does the answer depend on how long another is
            asked = tokeniser(
                text, return_tensors="pt", truncation=True, max_length=_longest(tokeniser, net)
            ).to(next(net.parameters()).device)
            names = {"input_ids", "attention_mask"} & asked.keys()
            result.append(net(**{name: asked[name] for name in names}).last_hidden_state[0].float())
        return result


def width_in(reader: str) -> int:
    """Features of a token, as config.json of transformers:FOLDER says.  Raises Refusal."""
    path = Path(reader.removeprefix(PREFIX)).expanduser()
    config = _library(path).AutoConfig
    try:
        return _width_of(config.from_pretrained(str(path), local_files_only=True, trust_remote_code=False))
    except Exception as why:
        raise _unfit(path, why) from None


def _unfit(path: Path, why: Exception) -> Refusal:
    return Refusal(
        f"{PREFIX}{path} cannot be opened as a text encoder ({type(why).__name__}: {str(why)[:200]}); it "
        "needs config.json, model.safetensors and the tokeniser's files, and no code of its own."
    )


def _library(path: Path) -> Any:
    """transformers, if it is there, and a folder that it could read."""
    try:
        import transformers
    except ImportError:
        raise Refusal(
            f"{PREFIX}{path} is a text encoder of the library transformers, which is not installed here: pip "
            "install 'likeness[features]'; or leave it out, and a small one learns with the model."
        ) from None
    if not (path / "config.json").is_file():
        raise Refusal(
            f"{PREFIX}{path} names no folder with a config.json, as transformers' save_pretrained writes it; "
            "name such a folder, with model.safetensors and the tokeniser's files in it."
        )
    return transformers


def _opened(path: Path) -> tuple[Any, Any]:
    transformers = _library(path)
    how = dict(local_files_only=True, trust_remote_code=False)
    try:
        tokeniser = transformers.AutoTokenizer.from_pretrained(str(path), **how)
        config = transformers.AutoConfig.from_pretrained(str(path), **how)
        kind = _kind(transformers, config)
        net, report = kind.from_pretrained(str(path), use_safetensors=True, output_loading_info=True, **how)
    # whatever a foreign folder makes of it
    except Exception as why:
        raise _unfit(path, why) from None
    # a version that names weights otherwise draws them by chance and says so in a log alone
    if missing := sorted(report["missing_keys"]):
        raise Refusal(
            f"{PREFIX}{path} lacks {len(missing)} of its encoder's weights, such as {missing[0]}; it was "
            "written by another version of transformers: save it anew with this one."
        )
    return tokeniser, net.eval().requires_grad_(False)


def _kind(transformers: Any, config: Any) -> Any:
    """The class of the encoder alone, where a network has more than that."""
    name = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}.get(config.model_type, "")
    with suppress(AttributeError):
        if config.is_encoder_decoder:
            name = f"{type(config).__name__.removesuffix('Config')}EncoderModel"
    return getattr(transformers, name, None) or transformers.AutoModel


def _width_of(config: Any) -> int:
    """Of a network of texts and images that of its texts."""
    own = getattr(config, "text_config", None) or config
    return int(getattr(own, "hidden_size", 0) or own.d_model)


def _longest(tokeniser: Any, net: Any) -> int:
    """Tokens that it can take; a tokeniser that does not know says an astronomical number."""
    known = getattr(net.config, "max_position_embeddings", None) or 512
    return int(min(tokeniser.model_max_length, known))
