"""Denoising diffusion: destroy an image with noise, step by step, and learn to walk back.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", 2020.  With abar_t = prod_{s <= t} (1 - beta_s)

    q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I)                                             (2)
    q(x_t | x_0)     = N(sqrt(abar_t) x_0, (1 - abar_t) I)                                               (4)
    p(x_{t-1} | x_t) = N(mu_theta(x_t, t), sigma_t^2 I)                                                  (1)
    -log p(x_0) <= KL(q(x_T|x_0) || p(x_T)) + sum_{t > 1} KL(q(x_{t-1}|x_t, x_0) || p(x_{t-1}|x_t)) - log p(x_0|x_1)     (5)
    L_simple     = E || eps - eps_theta(sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t) ||^2                 (14)

The mean mu_theta is that of q(x_{t-1} | x_t, x_0), (7), at the image that the network expects.  What the
network says may be the noise, the image, or v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho,
"Progressive Distillation", 2022, appendix D): one follows from the other, but where hardly anything is left
of an image, its noise says nothing about it, and the first of few steps is then blind.  So v is what
--predicts says unless it is told otherwise.

The variance sigma_t^2 matters little to samples of 1000 steps and much to the bound: beta tilde is right if
all images are the same, beta if images are noise, and a learnt one lies between (Nichol & Dhariwal, "Improved
Denoising Diffusion Probabilistic Models", 2021, eq. 15), with L_simple + 0.001 L_vlb (16).

Departures: v and the cosine schedule by default, for the noise and the linear one of the paper (--predicts
eps --beta linear); a U-Net on squares of 2x2 pixels, attention at 8 pixels and below instead of at 16, no
dropout (0.1 on CIFAR-10 there), no mirrored images unless --mirror; the EMA forgets by images
(half in 50,000), not by steps (0.9999 a step, half in 887,000 images at a batch of 128 there). A learnt
variance takes t uniformly, where Nichol & Dhariwal draw it by importance. The bound's variance at t = 1 is
that of t = 2, as in their code. Few steps and other samplers are not in the paper.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Condition, Loss, Noise, Training, option
from ..parts import bounds, chance
from ..parts.bounds import Terms
from ..parts.denoising import Denoiser
from ..parts.samplers import Posterior, State, posterior
from ..parts.schedules import BETAS, Level, Steps, mixed, over

VLB = 1e-3
"""weight of the bound beside L_simple, in nats, when the variance is learnt (Nichol & Dhariwal 2021, section
3.1)"""


class DDPM(Denoiser):
    drawn_by = "sde2m"
    T: int = option(1000, "steps of the forward process", 2, 10_000)
    beta: str = option(
        "cosine",
        "variances of its steps: Ho et al. 2020, or Nichol & Dhariwal 2021",
        choices=("linear", "cosine"),
    )
    predicts: str = option(
        "v",
        "what the network says: the noise (the paper), the image, or v, which few steps need",
        choices=("eps", "x0", "v"),
    )
    objective: str = option("simple", "L_simple (14), or the bound (5) itself", choices=("simple", "bound"))
    variance: str = option(
        "small",
        "sigma_t^2 of (1): beta tilde, beta, or between them by the network",
        choices=("small", "large", "learned"),
    )

    defaults = Training(batch=32, rate=1e-3, images=300_000, warmup=2_000, schedule="cosine", ema=50_000)
    units = {"nats/dim": "nats/dim"}

    def build(self) -> None:
        self.schedule: Steps = Steps(BETAS[self.beta](self.T))
        self.network = self.make(outputs=2 if self.variance == "learned" else 1)
        self.of_x_0, self.small, self.large = (
            nn.Buffer(values, persistent=False) for values in Reverse.of(self.schedule)
        )

    # The network

    def ask(
        self, x_t: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What the network says of images (B, C, H, W) at times t (B,), and, if it learns that, how far from
        small to large the variance lies."""
        out = self.network(x_t, (t.float() - 1) * (1000 / self.T), y, noise).float()
        if self.variance != "learned":
            return out, None
        output, v = out.chunk(2, 1)
        return output, (v + 1) / 2

    def image(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x_0, of what the network says."""
        alpha, sigma = over(self.schedule.alpha(t), x_t), over(self.schedule.sigma(t), x_t)
        if self.predicts == "x0":
            return output
        return (x_t - sigma * output) / alpha if self.predicts == "eps" else alpha * x_t - sigma * output

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        return self.image(self.ask(x_t, t, y)[0], x_t, t)

    def q(self, x_0: Tensor, noise: Noise) -> Iterator[Tensor]:
        """x_1 ... x_T of images (B, C, H, W), each from the one before by (2); mixed() says any of them at
        once by (4)."""
        x = x_0
        for beta in self.schedule.beta.tolist():
            x = math.sqrt(1 - beta) * x + math.sqrt(beta) * noise.normal(*x_0.shape[1:])
            yield x

    # Training: Algorithm 1

    def loss(self, batch: Batch) -> Loss:
        """One t for each image, uniform on 1 ... T, and the squared error of what the network says there; or
        its term of the bound."""
        x_0, y = batch.x, self.condition(batch)
        t = 1 + (batch.noise.uniform() * self.T).long()
        eps = batch.noise.normal(*self.spec.shape)
        x_t = mixed(self.schedule, x_0, eps, t)
        output, v = self.ask(x_t, t, y, batch.noise)
        simple = F.mse_loss(output, self.target(x_0, eps, t))
        if self.variance == "learned" or self.objective == "bound":
            mean = output if self.objective == "bound" else output.detach()
            bound = self.step_nats(x_0, self.image(mean, x_t, t), t, v).mean() * (self.T / self.spec.dims)
            return Loss(
                bound if self.objective == "bound" else simple + VLB * bound,
                {"simple": simple, "nats/dim": bound},
            )
        return Loss(simple)

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network should say."""
        if self.predicts == "v":
            return over(self.schedule.alpha(t), x_0) * eps - over(self.schedule.sigma(t), x_0) * x_0
        return eps if self.predicts == "eps" else x_0

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows no more of each pixel than its mean and its variance."""
        t = torch.arange(1, self.T + 1, device=self.schedule.beta.device)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        one, none = torch.ones_like(alpha), torch.zeros_like(alpha)
        target = dict(eps=(one, none), x0=(none, one), v=(alpha, -sigma))[self.predicts]
        error = chance.unexplained(batch.x, alpha, sigma, *target, linear=bool(self.spec.levels))
        return {"simple" if self.variance == "learned" or self.objective == "bound" else "model": error}

    # The reverse process

    def log_variance(self, t: Tensor, v: Tensor | None) -> Tensor:
        """log sigma_t^2 of (1) at times t (B,), (B, 1, 1, 1) or, learnt, (B, C, H, W)."""
        small, large = (values[t.long() - 1].log().view(-1, 1, 1, 1) for values in (self.small, self.large))
        if v is not None:
            return torch.lerp(small.to(v.dtype), large.to(v.dtype), v)
        return small if self.variance == "small" else large

    def walk(
        self, levels: Sequence[Level], x: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[State]:
        return (
            self.algorithm_2(levels, x, noise, y)
            if self.rule == "ancestral"
            else super().walk(levels, x, noise, y)
        )

    def algorithm_2(
        self, levels: Sequence[Level], x: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[State]:
        """Ancestral sampling, through all T steps or some of them (Nichol & Dhariwal 2021, section 4), with
        this model's variance."""
        for here, there in pairwise(levels):
            t, q = torch.full((len(x),), here.t, device=x.device), posterior(here, there)
            if self.variance == "learned":
                output, v = self.ask(x, t, y)
                x_0 = self.kept(self.image(output, x, t)) if self.plain(y) else self.denoise(x, t, y)
            else:
                v, x_0 = None, self.denoise(x, t, y)
            x = q.of_x * x + q.of_x_0 * x_0  # (7)
            if there.sigma:
                x = x + self.deviation(q, v) * noise.normal(*x.shape[1:])
            yield State(x, x_0, there)

    def deviation(self, q: Posterior, v: Tensor | None) -> Tensor | float:
        """Of a reverse step between any two levels."""
        if v is None:
            return math.sqrt(q.small if self.variance == "small" else q.large)
        return torch.exp(math.log(q.small) * (1 - v) / 2 + math.log(q.large) * v / 2)

    # The bound

    def step_nats(self, x_0: Tensor, expected: Tensor, t: Tensor, v: Tensor | None) -> Tensor:
        """The term of (5) that belongs to the step from t, (B,): a divergence of two Gaussians, or for t = 1
        the last term."""
        log_var = self.log_variance(t, v)
        ratio = log_var - self.small[t.long() - 1].log().view(-1, 1, 1, 1)
        apart = over(self.of_x_0[t.long() - 1], x_0) * (x_0 - expected)
        divergence = (
            ((ratio + torch.exp(-ratio) - 1 + apart.square() * torch.exp(-log_var)) / 2)
            .expand_as(x_0)
            .flatten(1)
            .sum(1)
        )
        if self.p is None:
            return divergence
        out = torch.cat([expected, (math.log(4) + log_var / 2).to(x_0.dtype).expand_as(x_0)], 1)
        return torch.where(t == 1, -self.p.log_prob(x_0, out).to(divergence.dtype), divergence)

    def terms(self, batch: Batch) -> Terms:
        """(5) of each image, from `evaluations` of its T steps, or from all of them where that is as many."""
        self.on_a_grid()
        y = self.told_of(batch)
        last, _ = self.step(batch, torch.ones(len(batch), dtype=torch.long, device=batch.x.device), y)
        total = torch.zeros_like(last)
        for t, weight in self.some_steps(batch):
            total += weight * self.step(batch, t, y)[0]
        return Terms(bounds.prior(batch.x, self.schedule.level(self.T).log_snr), total, last)

    def by_step(self, batch: Batch, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rate and distortion of Ho et al. 2020, section 4.3, at some t of 1 ... T: the mean term of (5) in
        nats, and the mean squared error a dimension of the image that is expected in x_t; both
        (len(steps),) float64.  Those of all t > 1 add up to what terms() says is told on the way."""
        y, rates, distortions = self.told_of(batch), [], []
        for at in steps:
            nats, expected = self.step(batch, torch.full((len(batch),), at, device=batch.x.device), y)
            rates.append(nats.mean())
            distortions.append((expected - batch.x).square().mean())
        return torch.stack(rates), torch.stack(distortions)

    def step(self, batch: Batch, t: Tensor, y: Condition | None) -> tuple[Tensor, Tensor]:
        """The term of the step from t (B,), with an x_t drawn afresh, in nats (B,), and the image that is
        expected in it; float64."""
        x_t = mixed(self.schedule, batch.x, batch.noise.normal(*self.spec.shape), t)
        output, v = self.ask(x_t, t, y)
        expected = self.image(output, x_t, t).clamp(-1, 1).double()
        return self.step_nats(batch.x.double(), expected, t, None if v is None else v.double()), expected

    def some_steps(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps from t > 1, (B,), and what each stands for, (B,): one of each equal part of the range of log
        SNR, in which the terms are alike."""
        n, device = len(batch), batch.x.device
        if self.evaluations >= self.T - 1:
            yield from (
                (torch.full((n,), t, device=device), torch.ones(n, dtype=torch.float64, device=device))
                for t in range(2, self.T + 1)
            )
            return
        share = (self.schedule.log_snr[:-1] - self.schedule.log_snr[1:]) / (
            self.schedule.log_snr[0] - self.schedule.log_snr[-1]
        )
        upto = share.cumsum(0)
        for i in range(self.evaluations):
            at = torch.searchsorted(upto, (i + batch.noise.uniform().double()) / self.evaluations).clamp(
                max=len(share) - 1
            )
            yield at + 2, 1 / (self.evaluations * share[at])


class Reverse(NamedTuple):
    """q(x_{t-1} | x_t, x_0) for t = 1 ... T, (T,) float64 each: what x_0 counts for in its mean (7), its
    variance, and that of a forward step."""

    of_x_0: Tensor
    small: Tensor
    large: Tensor

    @classmethod
    def of(cls, schedule: Steps) -> Reverse:
        t = torch.arange(1, len(schedule.beta) + 1, dtype=torch.float64)
        before, large = (
            torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), schedule.log_snr[:-1]]),
            schedule.beta,
        )
        lost = -torch.expm1(schedule.log_snr - before)
        small = (-before).sigmoid() * lost
        small[0] = small[1]  # where it is zero: as in Nichol & Dhariwal 2021
        return cls(schedule.alpha(t - 1) * lost, small, large)
