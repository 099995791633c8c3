"""Networks of other people's packages: every sub-module is a layer, and `code` is what they know an image by.

dinov2, clip            as published, by transformers; dinov2:FOLDER for weights that are kept there
transformers:WHAT       any vision model that transformers.AutoModel opens: a name of the hub, or a folder
timm:NAME               any of timm's, with the weights that it knows, those of a .safetensors, or random ones

Pictures are brought to the size that the network was trained on and scaled as its own pre-processing says;
what that crops away is kept.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import engine
from ..core import BadData, Offline, Refusal
from ..data.pixels import SCALINGS
from . import weights as stored
from .hub import HUB, SIDE, backbone, digest, first_line, projected
from .layers import LOGITS, Hooked, Input

UNIT_LEVELS = 255


def load(kind: str, what: str, weights: str = "", seed: int = 0) -> Hooked:
    """The network `what` of one of KINDS.  weights: for timm alone, a .safetensors or "none", whose random
    ones `seed` decides.

    Raises Refusal where a package is missing or it is no network of images, Offline where its weights are.
    """
    if kind in HUB:
        return hub(kind, what)
    if not what:
        raise Refusal(f"{kind} has many networks; name one, as in {kind}:{EXAMPLES[kind]}")
    return by_timm(what, weights, seed) if kind == "timm" else by_transformers(what)


EXAMPLES = dict(transformers="facebook/dinov2-small", timm="vit_small_patch16_224")
KINDS = (*HUB, *EXAMPLES)


def hub(kind: str, place: str) -> Hooked:
    """DINOv2 or CLIP: `code` is what scores compare images by."""
    about, model = HUB[kind], backbone(kind, place)
    net = Hooked(
        kind,
        model,
        {"code": lambda x: about.pick(model, x)},
        shown(SIDE, in_levels(about.mean, about.std)),
        (3, SIDE, SIDE),
    )
    return described(net, place or about.where)


def by_transformers(place: str) -> Hooked:
    """`code` is the features that a model shares with texts, its own pooled ones, or the mean over tokens or
    places, the first of these that it has."""
    transformers, where = package("transformers", "transformers"), os.path.expanduser(place)
    where = os.path.abspath(where) if os.path.isdir(where) else where
    name, own = f"transformers:{where}", dict(trust_remote_code=False)  # a repository's own Python is not run
    pillow = dict(backend="pil") if int(transformers.__version__.split(".")[0]) > 4 else dict(use_fast=False)
    try:
        config = transformers.AutoConfig.from_pretrained(where, **own)
        decides = any("ForImageClassification" in a for a in config.architectures or ())
        seen = transformers.AutoImageProcessor.from_pretrained(where, **own, **pillow).to_dict()
        side, inputs, scaling = side_of(seen, config), input_of(seen), resampling(seen.get("resample"))
        labels = tuple(str(config.id2label[i]) for i in range(config.num_labels)) if decides else ()
        kind = transformers.AutoModelForImageClassification if decides else transformers.AutoModel
        model, result = kind.from_pretrained(where, use_safetensors=True, output_loading_info=True, **own)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as why:
        wants = "config.json, model.safetensors and preprocessor_config.json, on the hub or in a folder"
        raise Offline(f"{name} cannot be loaded ({first_line(why)[:300]}); it wants {wants}.") from None
    lost = sorted(key for key in result["missing_keys"] if "pooler" not in key)
    if lost:
        raise BadData(
            f"{name} has no weights for {lost[0]} and {len(lost) - 1} more, which would be random; name a "
            "model that was saved whole."
        )
    model = model.float().eval().to(engine.device())
    base: Any = model.base_model if decides else model
    base = getattr(model, "vision_model", model) if base is model and decides else base
    answers: dict[str, Callable[[Tensor], Tensor]] = {
        "code": lambda x: pooled(base, x, not result["missing_keys"])
    }
    if decides:
        answers[LOGITS] = lambda x: model(pixel_values=x).logits
    net = opened(name, model, answers, side, inputs)
    net.labels = labels
    return described(net, where, scaling)


def by_timm(what: str, weights: str, seed: int) -> Hooked:
    """`code` is what its last layer is told."""
    timm, name = package("timm", "timm, and a torchvision that fits this torch"), f"timm:{what}"
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: Any = timm.create_model(what, pretrained=not weights)
    except RuntimeError as why:
        raise Refusal(
            f"{name} cannot be made ({first_line(why)}); python -c 'import timm; print(timm.list_models())' "
            "shows all names."
        ) from None
    except (OSError, ValueError) as why:
        raise Offline(
            f"the weights of {name} cannot be had ({first_line(why)}); name a file with --weights, or none "
            "for random ones."
        ) from None
    if weights not in ("", "none"):
        fill(model, weights, what)
    model = model.eval().to(engine.device())
    seen = timm.data.resolve_model_data_config(model)
    answers: dict[str, Callable[[Tensor], Tensor]] = {
        "code": lambda x: model.forward_head(model.forward_features(x), pre_logits=True).flatten(1)
    }
    if model.num_classes:
        answers[LOGITS] = model
    net = opened(name, model, answers, seen["input_size"][-1], in_levels(seen["mean"], seen["std"]))
    net.labels = stored.labels(model.num_classes) if model.num_classes else ()
    source = (
        Path(weights).name
        if weights not in ("", "none")
        else (f"random weights, seed {seed}")
        if weights
        else what
    )
    return described(net, source, resampling(seen["interpolation"]))


def fill(model: nn.Module, file: str, what: str) -> None:
    """Weights of a .safetensors."""
    try:
        model.load_state_dict(load_file(os.path.expanduser(file)))
    except (SafetensorError, OSError) as why:
        raise BadData(
            f"{file} cannot be read ({first_line(why)}); name the .safetensors of {what}."
        ) from None
    except RuntimeError as why:
        raise BadData(
            f"the weights in {file} do not fit {what} ({first_line(why)}); name those of {what}."
        ) from None


def package(name: str, needs: str) -> ModuleType:
    """A package that is no dependency of ours."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as why:  # RuntimeError: a torchvision that was built for another torch
        raise Refusal(
            f"{name}:NAME needs {needs} ({first_line(why)}); type: pip install {name}, or name a network of "
            "ours."
        ) from None


def opened(
    name: str, model: nn.Module, answers: dict[str, Callable[[Tensor], Tensor]], side: int, prepare_as: Input
) -> Hooked:
    """Raises Refusal for what does not answer for images, or answers differently each time."""
    prepare = shown(side, prepare_as)
    try:
        net = Hooked(name, model, answers, prepare, (3, side, side))
        with torch.no_grad():
            x = prepare(torch.linspace(-1, 1, 6 * side**2, device=engine.device()).view(2, 3, side, side))
            same = torch.equal(answers["code"](x), answers["code"](x))
    except (TypeError, ValueError, RuntimeError, AttributeError) as why:
        raise Refusal(
            f"{name} does not answer for images of {side}x{side} ({first_line(why)}); name a model of images."
        ) from None
    if not same:
        raise Refusal(
            f"{name} answers differently each time, as models do that hide a part of what they see; name "
            "one that does not."
        )
    return net


def described(net: Hooked, source: str, scaling: str = "bicubic") -> Hooked:
    net.sha256, net.source, net.scaling, net.fixed = digest(net.module.state_dict()), source, scaling, True
    return net


def shown(side: int, scale: Input) -> Callable[[Tensor], Tensor]:
    def prepare(x: Tensor) -> Tensor:
        x = scale.of(x)
        return (
            x
            if x.shape[2:] == (side, side)
            else F.interpolate(x, (side, side), mode="bicubic", antialias=True, align_corners=False)
        )

    return prepare


def pooled(base: Any, x: Tensor, pooler: bool = True) -> Tensor:
    """(B, C).  pooler: whether what it says of all places together was learnt."""
    if hasattr(base, "get_image_features"):
        return projected(base, x)
    output = base(pixel_values=x)
    result: Tensor | None = getattr(output, "pooler_output", None) if pooler else None
    if result is None:
        last: Tensor = output.last_hidden_state
        result = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
    return result.flatten(1)


# What a network was trained on


def in_levels(mean: Any, std: Any, factor: float = 1 / UNIT_LEVELS, bgr: bool = False) -> Input:
    """Of mean and deviation after brightness 0 to 255 was multiplied by `factor`."""
    (r, g, b), (dr, dg, db) = ([v / factor for v in values] for values in (mean, std))
    return Input(bgr=bgr, mean=(r, g, b), scale=(dr, dg, db))


def input_of(seen: dict[str, Any]) -> Input:
    """Of an image processor's settings.  Raises ValueError for what is more than a scale and a shift."""
    if more := [name for name in ("rescale_offset", "include_top") if seen.get(name)]:
        raise ValueError(f"its pre-processing has {more[0]}, which is not known here")
    factor = float(seen.get("rescale_factor", 1 / UNIT_LEVELS)) if seen.get("do_rescale", True) else 1.0
    plain = not seen.get("do_normalize", "image_mean" in seen)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else (seen["image_mean"], seen["image_std"])
    return in_levels(mean, std, factor, bool(seen.get("do_flip_channel_order", False)))


def resampling(name: Any) -> str:
    """One of gallery.SCALINGS, of Pillow's number or timm's word."""
    word = Image.Resampling(name).name.lower() if isinstance(name, int) else str(name)
    return word if word in SCALINGS else "bicubic"


def side_of(seen: dict[str, Any], config: Any) -> int:
    """Of the square that its own pre-processing ends with."""
    cropped = seen.get("crop_size") if seen.get("do_center_crop", False) else None
    size: Any = cropped or seen.get("size") or getattr(config, "image_size", None)
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size or SIDE)
