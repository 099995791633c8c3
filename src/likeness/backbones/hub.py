"""DINOv2 and CLIP by the package `transformers`, and the hash of the weights of any network."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .. import engine
from ..core import Offline, Refusal


def digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over the name, shape and bytes of each tensor, in the order of names."""
    out = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        flat = value.detach().cpu().contiguous()
        out.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        out.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return out.hexdigest()


def coloured(x: np.ndarray) -> np.ndarray:
    """uint8 (n, 1 or 3, H, W) to (n, 3, H, W)."""
    return np.repeat(x, 3, 1) if x.shape[1] == 1 else x


def first_line(why: Exception) -> str:
    return next(
        (line.strip() for line in reversed(str(why).splitlines()) if line.strip()), type(why).__name__
    )


@dataclass(frozen=True)
class Hub:
    """A network of the package `transformers`."""

    where: str
    """its name on the hub, unless a folder or another name is given"""
    mean: tuple[float, float, float]
    """of its training images, in each channel from 0 to 1"""
    std: tuple[float, float, float]
    pick: Callable[[Any, Tensor], Any]
    """features (n, d) of the model and pixels (n, 3, 224, 224)"""


def _token(model: Any, pixels: Tensor) -> Any:
    """The class token after the last normalisation: what Stein et al. 2023 compare in FD-DINOv2."""
    return model(pixel_values=pixels).last_hidden_state[:, 0]


def projected(model: Any, pixels: Tensor) -> Any:
    """Image features in the space shared with texts: a tensor in transformers 4, the pooler_output of one
    thing in 5."""
    result = model.get_image_features(pixel_values=pixels)
    return getattr(result, "pooler_output", result)


SIDE = 224
HUB = {
    "dinov2": Hub("facebook/dinov2-large", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _token),
    "clip": Hub(
        "openai/clip-vit-large-patch14",
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        projected,
    ),
}


def backbone(kind: str, where: str = "") -> nn.Module:
    """DINOv2 or CLIP by transformers.AutoModel, from a folder or by a name of the hub; weights are read from
    safetensors only.

    Raises Refusal where the package is missing, Offline where the weights are.
    """
    place = os.path.expanduser(where) or HUB[kind].where
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise Refusal(
            f"{kind} needs a package that is not installed; type: pip install transformers, or use "
            "classifier, vicreg or inception."
        ) from None
    try:
        model: nn.Module = transformers.AutoModel.from_pretrained(
            place, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as why:
        raise Offline(
            f"{kind} cannot be loaded from {place} ({first_line(why)}); type {kind}:FOLDER for one that "
            "holds config.json and model.safetensors."
        ) from None
    return model.float().eval().requires_grad_(False).to(engine.device())
