"""Rotation prediction: features by which a network tells how an image was turned.

Gidaris, Singh & Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.

    loss = -1/K sum_{y=1}^{K} log F^y(g(x | y)),    K = 4                                  (2), (3)

where g(x | y) turns x by (y - 1) 90 degrees and F^y is the probability that the network gives to that turn.
All four turns of each image are in the batch together (section 3.1), so that a network which knows nothing
has log 4.

Whoever knows which way up things stand knows something of things.  What has no way up, a photograph from
above or a flower, teaches nothing, and what lies askew in a corner of every picture, a shadow or a date,
teaches the wrong thing.

The first layers after the features belong to the task and are thrown away: the paper's features of the last
block are worse than those two blocks before.

Departures: a small ResNet in place of network-in-network or AlexNet, Adam in place of SGD with momentum and
weight decay, and the images are windows on the originals (--crop 0.6), mirrored only with --flip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Training, option
from ..parts import collapse, resnet, views
from ..parts.mlp import mlp

TURNS = 4
"""K"""


class Rotation(Model):
    features: int = option(128, "numbers that encode() answers", 2, 4096)
    hidden: int = option(128, "units between them and the four answers", 2, 8192)
    width: int = option(16, "channels at 14 pixels", 4, 512)
    depth: int = option(1, "residual blocks a level", 0, 16)
    crop: float = option(0.6, "least share of the area that is looked at", 0.05, 1.0)
    flip: bool = option(False, "half of the images are mirrored: right for photographs, wrong for digits")

    defaults = Training(batch=64, rate=2e-3, images=200_000, warmup=3_000, schedule="cosine", ema=20_000)

    def build(self) -> None:
        trunk = resnet.encoder(self.spec.channels, self.spec.size, self.features, self.width, self.depth)
        self.trunk = nn.Sequential(trunk, nn.ReLU())
        self.head = mlp(self.features, self.hidden, TURNS)
        self.health = collapse.Health()

    def loss(self, batch: Batch) -> Loss:
        x = views.resized(batch.x, batch.noise, self.crop, flip=self.flip)
        h = self.trunk(turns(x))
        logits = self.head(h).float()
        y = which(len(x), logits.device)
        errors = (logits.argmax(1) != y).float().mean()
        health = self.health(h[: len(x)].float(), batch.step, "feature ")
        return Loss(
            F.cross_entropy(logits, y),
            {"errors": errors, "chance": errors.new_full((), math.log(TURNS)), **health},
        )

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, features), none below zero."""
        h: Tensor = self.trunk(x)
        return h.float()

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: how often it sees which way an image was turned, a quarter by a guess, and
        what its features are like."""
        logits = torch.cat(
            [
                self.head(self.trunk(turns(part.x))).argmax(1) == which(len(part), batch.x.device)
                for part in batch.split(128)
            ]
        )
        right = float(logits.float().mean())
        error = math.sqrt(3 / 16 / len(logits))
        guess = "no better than a guess: these images may have no way up, or it has to train longer"
        yield "turns told", right, guess if right < 1 / TURNS + 2 * error else ""
        yield from collapse.verdicts(collapse.encoded(self, batch))


def turns(x: Tensor) -> Tensor:
    """g(x | y) for all y: (B, C, H, W) to (4 B, C, H, W), all turned by 0 degrees first, then those by 90,
    counter-clockwise."""
    return torch.cat([x.rot90(y, (2, 3)) for y in range(TURNS)])


def which(n: int, device: torch.device) -> Tensor:
    """The y of each of turns() of n images, (4 n,)."""
    return torch.arange(TURNS, device=device).repeat_interleave(n)
