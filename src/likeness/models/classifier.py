"""Convolutional classifier: the discriminative model p(y|x), and 64 numbers of every image that tell classes
apart.

LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, with the
residual blocks of He et al., "Deep Residual Learning for Image Recognition", 2016.

    h = trunk(x)                       features: what goes into the last layer, and what encode() answers
    log p(y|x) = log softmax(W h + b)
    minimise  -log p(y|x)              cross-entropy: a proper score, least in expectation only at the true p(y|x)

Because the score is proper, confidence is meant to be accuracy.  Networks drift from that once they have
learnt their training images by heart (Guo et al., "On Calibration of Modern Neural Networks", 2017), against
which stand here: shifted images, a short training whose rate falls to zero, and the EMA of the weights.
Labels are not smoothed, which would bend the very probabilities that are to be read.  Expected calibration
error is that of Guo et al., section 2.

Departures: residual blocks of parts/resnet.py, with Adam, in place of LeNet's layers and of SGD with
momentum; no batch normalisation; images are moved by whole pixels, and mirrored only with --mirror.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Noise, Refusal, Training, label_of, option
from ..parts import chance, classes, resnet

BINS = 15
"""of confidence, as in Guo et al. 2017"""


class Classifier(Model):
    features: int = option(64, "numbers in the layer before the last, which encode() answers", 2, 4096)
    width: int = option(16, "channels at 14 pixels", 4, 512)
    depth: int = option(1, "residual blocks a level", 0, 16)
    shift: float = option(0.04, "how far images are moved while training, as a share of their side", 0.0, 0.5)

    defaults = Training(batch=64, rate=2e-3, images=160_000, warmup=6_000, schedule="cosine", ema=20_000)
    takes = ("label",)

    def build(self) -> None:
        if self.spec.labels < 2:
            there = "only one class" if self.spec.labels else "no labels"
            raise Refusal(
                f"classifier learns to tell classes apart, and these images have {there}; put the images of "
                "each class into a folder of their own, or train vicreg, which needs no labels."
            )
        self.trunk = nn.Sequential(
            resnet.encoder(self.spec.channels, self.spec.size, self.features, self.width, self.depth),
            nn.ReLU(),
        )
        self.last = nn.Linear(self.features, self.spec.labels)

    def loss(self, batch: Batch) -> Loss:
        y = classes.required("classifier", label_of(batch.y))
        x = shifted(batch.x, batch.noise, round(self.shift * self.spec.size))
        log_p = self.classify(x)
        return Loss(F.nll_loss(log_p, y), {"errors": (log_p.argmax(1) != y).float().mean()})

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows how common each class is."""
        return {} if (y := label_of(batch.y)) is None else {"model": chance.entropy(y.bincount()).item()}

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, features), none below zero."""
        h: Tensor = self.trunk(x)
        return h.float()

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|x), (B, labels)."""
        return self.last(self.encode(x)).float().log_softmax(1)

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards, from labelled images: how often it is right, and whether it knows
        how often."""
        if (y := label_of(batch.y)) is None:
            return
        p = torch.cat([self.classify(part.x) for part in batch.split(512)]).exp()
        right = (p.argmax(1) == y).double()
        accuracy, guess = float(right.mean()), float(y.bincount().max()) / len(batch)
        useless = (
            f"always answering the commonest class would be right in {guess:.1%}: it knows nothing of new "
            "images"
        )
        yield "accuracy", accuracy, useless if accuracy <= guess else ""
        error, sure = calibration(p.amax(1), right), float(p.amax(1).mean())
        wrong = (
            f"it is {sure:.1%} sure on average and right in {accuracy:.1%}: its probabilities cannot be "
            "taken at their word"
        )
        yield "calibration error", error, wrong if error > 0.05 and len(batch) >= 20 * BINS else ""


def shifted(x: Tensor, noise: Noise, most: int) -> Tensor:
    """Each image of x (B, C, H, W) moved by up to `most` whole pixels to any side; its border is repeated
    where nothing is known."""
    if not most:
        return x
    down, right = ((noise.uniform(2) - 0.5) * (2 * most + 1)).round().long().split(1, 1)
    rows = (torch.arange(x.shape[2], device=x.device) + down).clamp(0, x.shape[2] - 1)
    columns = (torch.arange(x.shape[3], device=x.device) + right).clamp(0, x.shape[3] - 1)
    return x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, columns[:, None, None, :].expand_as(x))


def calibration(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error of answers (B,): mean distance of confidence from accuracy over bins of
    equal width (Guo et al. 2017, eq. 3)."""
    which = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64, device=which.device)
    gap.index_add_(0, which, (confidence - right).double())
    return float(gap.abs().sum()) / len(which)
