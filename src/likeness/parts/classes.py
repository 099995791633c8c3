"""The class that a model with --conditional is told beside its code z.

A code is z (B, latent), and behind it the class as a one-hot vector: so that the codes of a conditional
model, too, are vectors that one can keep, change and decode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import NONE, Noise, Refusal, Spec


def several(name: str, spec: Spec) -> int:
    """How many classes there are; raises Refusal where a model called `name` could not tell them apart."""
    if spec.labels < 2:
        raise Refusal(
            f"{name}: --conditional asks for images of two classes or more and these have {spec.labels}; "
            "leave it out, or make a sub-folder a class."
        )
    return spec.labels


def required(name: str, y: Tensor | None) -> Tensor:
    """The classes, which must be known."""
    if y is None or (not y.is_cuda and bool((y == NONE).any())):
        raise Refusal(
            f"{name}: this class-conditional model asks for the class of each image, and it is not known; "
            "give labelled images."
        )
    return y


def beside(z: Tensor, y: Tensor, labels: int) -> Tensor:
    """z (B, latent) and classes y (B,) to (B, latent + labels)."""
    return torch.cat([z, F.one_hot(y, labels).to(z.dtype)], 1)


def drawn(noise: Noise, spec: Spec) -> Tensor:
    """A class for each, (B,), all that training images have equally likely."""
    return noise.choose(learnt(torch.zeros(len(noise), spec.labels, device=noise.device), spec))


def learnt(logits: Tensor, spec: Spec) -> Tensor:
    """Of logits (B, labels), -inf for the classes that no training image has, so that none is chosen."""
    return (
        logits.index_fill(1, torch.tensor(spec.absent, device=logits.device), -torch.inf)
        if spec.absent
        else logits
    )


def measured(name: str, z: Tensor, latent: int, labels: int) -> Tensor:
    """z, if it has as many numbers as a code of the model; labels: 0 for one without classes."""
    if z.shape[1] != latent + labels:
        form = f"{latent} + {labels} numbers, z and the class," if labels else f"{latent} numbers"
        raise Refusal(f"{name}: a code of this model has {form} and not {z.shape[1]}.")
    return z
