"""MeanFlow: learn how far the flow goes, instead of how fast it is, and draw an image in one step.

Geng, Deng, Bai, Kolter & He, "Mean Flows for One-step Generative Modeling", 2025.  On the straight lines of
flow matching, x_t = (1 - t) x_0 + t eps with velocity v = eps - x_0, the mean velocity between two times is

    u(z_t, r, t) = 1 / (t - r)  int_r^t v(z_s, s) ds                                                     (3)

Multiplied with t - r and differentiated along the flow that becomes a condition which needs no integral,

    u(z_t, r, t) = v(z_t, t) - (t - r) d/dt u(z_t, r, t),    d/dt u = v dz u + dt u                      (6) and (8)

so the network is trained on || u_theta - sg(v - (t - r) d/dt u_theta) ||^2, (9), where the derivative is one
product of u's Jacobian with (v, 0, 1) in forward mode.  One step from noise is an image:

    x_0 = eps - u(eps, 0, 1)                                                                             (12)

Where r = t this is flow matching, u is the velocity itself, and any sampler can be used.

Departures: the weight is a function of the mean square of the numbers of an error, in the paper of their sum
of squares: c = 1e-3 here is 1e-3 times the numbers of an image there (0.8 for 28x28), and the loss is smaller
by a power of these, which Adam does not see. p is 0.75 as for CIFAR-10 there (1 for ImageNet). Times are
logit-normal with mean -0.4 and deviation 2 (there -2 and 2 for CIFAR-10, -0.4 and 1 for ImageNet), r and t
differ in half of a batch (0.75 and 0.25 there), and the network is told ten times the time. Guidance is not
part of the training.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..core import Batch, Condition, Loss, Noise, Training, option
from ..parts import chance
from ..parts.denoising import SAMPLERS, Denoiser
from ..parts.samplers import State
from ..parts.schedules import Level, Straight, mixed, over

CLOCK = 10.0
"""times the time is what the network is told: (8) multiplies with how fast it answers to that, which at the
1000 of other models drowns the rest"""
POWER, SOFT = 0.75, 1e-3
"""of the weight 1 / (error + SOFT)^POWER that keeps far-off targets from drowning the others (section 4.3;
CIFAR-10 in the paper)"""


class MeanFlow(Denoiser):
    sampler: str = option(
        "jump",
        "way from noise to an image: jump by mean velocities; the others by the velocity alone",
        choices=("jump", *SAMPLERS),
        live=True,
    )
    steps: int = option(1, "of the sampler", 1, 10_000, live=True)
    apart: float = option(
        0.5, "share of a batch for which r lies below t; the rest is flow matching", 0.0, 1.0
    )

    defaults = Training(batch=32, rate=1e-3, images=300_000, warmup=2_000, schedule="cosine", ema=50_000)

    fewest, drawing = 20, "even"
    keeps_early = False

    def build(self) -> None:
        self.schedule: Straight = Straight()
        self.network = self.make(times=2)

    def u(
        self, z: Tensor, r: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Mean velocity from time t (B,) back to r (B,), (B, C, H, W); the network is told t and t - r."""
        out: Tensor = self.network(z, CLOCK * torch.stack([t, t - r], 1).to(z.dtype), y, noise)
        return out.to(z.dtype)

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        return x_t - over(t, x_t) * self.u(x_t, t, t, y)

    def loss(self, batch: Batch) -> Loss:
        """(9).  Of images with r = t the target is v, so the derivative is asked for the others alone."""
        x_0, y = batch.x, self.condition(batch)
        r, t = self.two_times(batch.noise)
        eps = batch.noise.normal(*self.spec.shape)
        z, v = mixed(self.schedule, x_0, eps, t), eps - x_0
        target, some = v.clone(), (r < t).nonzero()[:, 0]
        if len(some):
            du = self.total_derivative(z[some], v[some], r[some], t[some], None if y is None else y[some])
            target[some] = v[some] - over((t - r)[some], v) * du
        error = (self.u(z, r, t, y, batch.noise) - target).flatten(1).square().mean(1)
        return Loss((error / (error.detach() + SOFT) ** POWER).mean(), {"error": error.mean()})

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: twice the error of (9) of one that knows no more of each pixel than its variance v,
        of a Gaussian.

        With S_t = (1 - t)^2 v + t^2 the flow then scales a pixel by sqrt(S_t): u = z (1 - sqrt(S_r / S_t)) /
        (t - r), which misses the target by v S_r / S_t^2.  Twice, since the target of a network in training
        holds its own derivative, which is rough.
        """
        v = chance.variances(batch.x)
        if not self.spec.levels:
            return {"error": 2 * (1 + v.mean().item())}
        times = torch.stack(self.two_times(Noise(range(1024))), 1).double()
        # of r and t: (2, dims), one pair after another
        s = ((1 - rt).square() * v + rt.square() for rt in times[:, :, None])
        return {
            "error": 2
            * torch.stack([(v * s_r / s_t.square().clamp(min=1e-30)).mean() for s_r, s_t in s]).mean().item()
        }

    def two_times(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """r <= t, (B,) each: two draws of a logit-normal law, or twice the same (section 4.3).  It is wide,
        as the paper's for CIFAR-10: a narrow one never meets r = 0 and t = 1, which is what one step asks
        for."""
        both = (2 * noise.normal(2) - 0.4).sigmoid()
        t = both.amax(1)
        return torch.where(noise.uniform() < self.apart, both.amin(1), t), t

    @torch.no_grad()
    def total_derivative(self, z: Tensor, v: Tensor, r: Tensor, t: Tensor, y: Condition | None) -> Tensor:
        """d/dt u(z_t, r, t) along the flow, (8)."""
        at, along = (z, r, t), (v, torch.zeros_like(r), torch.ones_like(t))
        du: Tensor = torch.func.jvp(lambda z, r, t: self.u(z, r, t, y), at, along)[1]
        return du

    def walk(
        self, levels: Sequence[Level], x: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[State]:
        return self.jump(levels, x, y) if self.sampler == "jump" else super().walk(levels, x, noise, y)

    def jump(self, levels: Sequence[Level], x: Tensor, y: Condition | None) -> Iterator[State]:
        """(12), in as many jumps as there are steps; guided, mean velocities are drawn on as velocities are
        elsewhere."""
        for here, there in pairwise(levels):
            t, r = (torch.full((len(x),), level.t, device=x.device) for level in (here, there))
            u = self.led(mean_velocity, y, x, r, t)
            x_0, x = self.kept(x - here.t * u), x - (here.t - there.t) * u
            yield State(x if there.sigma else x_0, x_0, there)


def mean_velocity(model: MeanFlow, y: Condition | None, x: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return model.u(x, r, t, y)
