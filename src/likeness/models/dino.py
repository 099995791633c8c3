"""DINO: a vision transformer learns to say of any view what its slower copy says of a whole image, by classes
that nobody named.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021.  Student and teacher,
of weights theta_s and theta_t, map a view x to K numbers g(x):

    P_s(x) = softmax(g_s(x) / tau_s),   P_t(x) = softmax((g_t(x) - c) / tau_t)             (1)
    loss   = mean of  H(P_t(x), P_s(x')),   H(a, b) = -a log b                             (2), (3)

over global views x, and all views x' != x of the same image.  Then, without a gradient,

    c       <- m c + (1 - m) 1/B sum_i g_t(x_i)                                            (4)
    theta_t <- lambda theta_t + (1 - lambda) theta_s

No two images are compared.  Two ways to collapse pull in opposite directions and are held in balance: the
centre c forbids that one of the K numbers wins for every image, and tau_t < tau_s, which sharpens, forbids
that all are alike (section 5.3).  By H = entropy of P_t + divergence of P_s from it, both in the log, one
sees which is happening: the divergence is 0 where the teacher says the same of all.

encode() asks the student's token that belongs to no patch: what answers questions is the student's EMA, as
the teacher is.

Departures: networks, K and batches are small. A training of a few thousand steps needs a teacher and a centre
that follow sooner (lambda 0.99 and m 0.5 where the paper has 0.996 and 0.9), and has no use for schedules:
tau_t and the weight decay (0.04) stay as they are, the last layer learns from the first step, and lambda
rises to 1 only with --rise. The weight decay is on biases and norms as well; the authors leave these out,
which here would change the bits of runs that are resumed. No stochastic depth; positions are fixed, the
perceptrons gated and attention without biases (transformer.py). No local views unless --local (8 there); they
have three sevenths of the side, as there. Views are those of views.py: without mirror, blur and solarisation
unless asked for, then alike for both global views. The average (4) is one of what there was, not of zeros:
its first steps are weighted accordingly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from ..core import Batch, Loss, Player, Training, option
from ..parts import collapse, views, vit
from ..parts.teacher import follow, rising, teacher

LOCAL = 3 / 7
"""side of a local view, as a share of a global one's: 96 of 224 pixels"""
SMALLEST = 0.05
"""area of the smallest local view, as a share of the image's"""


class DINO(views.Views):
    width: int = option(96, "features of a token, which encode() answers", 4, 2048)
    depth: int = option(4, "blocks of attention and a perceptron", 1, 64)
    heads: int = option(4, "parts of the features, each of which looks elsewhere", 1, 64)
    patch: int = option(0, "pixels a side of a patch; 0 makes 4 to 16 rows of them", 0, 256)
    hidden: int = option(256, "units of the two hidden layers after the transformer", 2, 8192)
    bottleneck: int = option(24, "numbers of which the K are products with directions", 2, 4096)
    prototypes: int = option(128, "K", 2, 65536)
    student_temperature: float = option(0.1, "tau_s", 0.01, 10.0)
    teacher_temperature: float = option(0.04, "tau_t: the lower, the sharper", 0.01, 10.0)
    centring: float = option(0.5, "m of (4): how much of the centre a step keeps", 0.0, 1.0)
    keep: float = option(0.99, "lambda: how much of the teacher's weights a step keeps, at first", 0.0, 1.0)
    rise: int = option(
        0, "images over which lambda rises to 1, best as many as --images; 0 keeps it as it is", 0, 10**13
    )
    local: int = option(0, "small views beside the two global ones", 0, 16)
    crop: float = option(
        0.4, "least share of the area that a global view shows, and most that a local one does", 0.06, 1.0
    )

    defaults = Training(batch=64, rate=1e-3, images=200_000, warmup=10_000, schedule="cosine", ema=20_000)

    def build(self) -> None:
        vit.check("dino", self.width, self.heads)
        p = vit.patch_size(self.spec.size, self.patch)
        self.small = max(2 * p, round(LOCAL * self.spec.size / p) * p)
        self.student = Student(
            vit.ViT(self.spec.channels, self.spec.size, self.width, self.depth, self.heads, p), self.head()
        )
        self.teacher = teacher(self.student)
        self.c = nn.Buffer(torch.zeros(self.prototypes))
        self.tally = nn.Buffer(torch.zeros(self.prototypes + 1))
        """the sum of g_t over the views of a step, and how many there were"""
        self.health = collapse.Health()
        self.seen = self.step = 0

    def head(self) -> nn.Sequential:
        """Section 3.1, "network architecture": three layers, length one, and a last layer whose directions
        have length one."""
        hidden = [
            m for inside in (self.width, self.hidden) for m in (nn.Linear(inside, self.hidden), nn.GELU())
        ]
        return nn.Sequential(
            *hidden, nn.Linear(self.hidden, self.bottleneck), Directions(self.bottleneck, self.prototypes)
        )

    def players(self) -> tuple[Player, ...]:
        return (Player("model", self.student, self.loss, optimizer=partial(AdamW, weight_decay=0.04)),)

    def loss(self, batch: Batch) -> Loss:
        if self.training:
            self.seen, self.step = batch.seen, batch.step
        whole = torch.cat([self.view(batch) for _ in range(2)])
        parts = [self.view(batch, SMALLEST, self.crop, self.small) for _ in range(self.local)]
        with torch.no_grad():
            g_t = self.teacher(whole).float()
            self.note(g_t)
            p_t = ((g_t - self.c) / self.teacher_temperature).softmax(1)
        h = self.student.features(whole)
        g_s = [*self.student.head(h).float().chunk(2), *(self.student(x).float() for x in parts)]
        log_s = [(g / self.student_temperature).log_softmax(1) for g in g_s]
        total = cross_entropy(p_t.chunk(2), log_s)
        entropy = -torch.special.xlogy(p_t, p_t).sum(1).mean()
        chance = entropy.new_full((), math.log(self.prototypes))
        health = self.health(h[: len(batch)], batch.step, "feature ")
        return Loss(
            total, {"entropy": entropy, "divergence": total.detach() - entropy, "chance": chance, **health}
        )

    def note(self, g: Tensor) -> None:
        if self.training:
            self.tally.add_(F.pad(g.sum(0), (0, 1), value=len(g)))

    def tallies(self) -> tuple[Tensor, ...]:
        return (self.tally,)

    @torch.no_grad()
    def after_step(self) -> None:
        share = (1 - self.centring) / (1 - self.centring ** (self.step + 1)) if self.centring < 1 else 0.0
        self.c.lerp_(self.tally[:-1] / self.tally[-1], share)
        self.tally.zero_()
        follow(self.teacher, self.student, rising(self.keep, self.seen, self.rise))

    def encode(self, x: Tensor) -> Tensor:
        """Features of the token that belongs to no patch, (B, width), of (B, C, H, W)."""
        h: Tensor = self.student.features(x)
        return h.float()

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """For the score cards: whether the features have collapsed, and how many of the K are the likeliest
        for some image."""
        yield from collapse.verdicts(collapse.encoded(self, batch, 128), REMEDY, f"{REMEDY}, or train longer")
        best = torch.cat([(self.teacher(part.x).float() - self.c).argmax(1) for part in batch.split(128)])
        used = len(best.unique())
        one = f"one of {self.prototypes} wins for every image: collapsed; {REMEDY}"
        yield "prototypes used", float(used), one if used == 1 and len(batch) >= 16 else ""


REMEDY = "lower --rate, or set --teacher-temperature and --centring nearer to their defaults"


class Student(nn.Module):
    """Also the teacher."""

    def __init__(self, backbone: vit.ViT, head: nn.Sequential):
        super().__init__()
        self.backbone, self.head = backbone, head

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.backbone(x)[:, 0]
        return out

    def forward(self, x: Tensor) -> Tensor:
        """g, (B, K)."""
        out: Tensor = self.head(self.features(x))
        return out


class Directions(nn.Module):
    """Cosines between a vector (B, inside) and each of `out` directions."""

    def __init__(self, inside: int, out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inside))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


def cross_entropy(p_t: tuple[Tensor, ...], log_s: list[Tensor]) -> Tensor:
    """(3), as a mean over pairs of views: probabilities of the global views, and log-probabilities of all,
    those first; (B, K) each."""
    pairs = [-(p * q).sum(1).mean() for (i, p), (j, q) in product(enumerate(p_t), enumerate(log_s)) if i != j]
    return torch.stack(pairs).mean()
