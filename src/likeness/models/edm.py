"""The design space of diffusion models, made one design: noise of any strength is taken away by a network
that always sees unit variance.

Karras, Aittala, Aila & Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022.

    D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x; c_noise(sigma))                        (7)
    minimise  E_sigma lambda(sigma) || D(x_0 + n; sigma) - x_0 ||^2,   n ~ N(0, sigma^2 I)               (8)
    ln sigma ~ N(P_mean, P_std^2)                                                                        table 1

Nothing is taken away from the image, so the time is the noise's standard deviation.  c_in makes what the
network sees of unit variance, c_skip and c_out what it should say, and lambda weighs all noise levels alike
at the beginning (appendix B.6): then (8) is the plain squared error of F.

Departures: the networks are those of parts/denoisers.py, without augmentation of images (appendix F there)
and without dropout unless --dropout (0.13 there); they are told 250 ln(sigma), a thousand times c_noise,
since they are made for times up to 1000; churn never puts the clock back beyond sigma_max, has no S_tmin and
S_tmax, and S_noise is 1.
"""  # noqa: E501

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Condition, Loss, Noise, Training, option
from ..parts import chance
from ..parts.denoising import SAMPLERS, Denoiser
from ..parts.schedules import Sigmas, over


class Scales(NamedTuple):
    """Table 1, column "Ours"; (B,) each, in float64."""

    skip: Tensor
    out: Tensor
    into: Tensor


class EDM(Denoiser):
    least = 0.0  # the paper's own levels
    sampler: str = option(
        "heun",
        "way from noise to an image; all but heun ask the network once a step, heun twice",
        choices=SAMPLERS,
        live=True,
    )
    steps: int = option(18, "of the sampler", 1, 10_000, live=True)
    sigma_data: float = option(
        0.0,
        "standard deviation of the data, about; 0 is 0.5 for images, and 1 for points and codes",
        0.0,
        1e3,
    )
    p_mean: float = option(-1.2, "mean of ln sigma in training", -20.0, 20.0)
    p_std: float = option(1.2, "and its standard deviation", 1e-3, 20.0)
    sigma_min: float = option(0.002, "least noise of a sampler", 1e-6, 1.0)
    sigma_max: float = option(80.0, "most noise", 1.0, 1e6)

    defaults = Training(batch=32, rate=1e-3, images=300_000, warmup=2_000, schedule="cosine", ema=50_000)

    def build(self) -> None:
        self.schedule: Sigmas = Sigmas(self.sigma_min, self.sigma_max)
        self.network = self.make()
        self.std = self.sigma_data or (0.5 if self.spec.levels else 1.0)

    def scales(self, sigma: Tensor) -> Scales:
        total = (sigma.double().square() + self.std**2).sqrt()
        return Scales(self.std**2 / total.square(), sigma * self.std / total, 1 / total)

    def F_theta(self, x: Tensor, sigma: Tensor, y: Condition | None, noise: Noise | None = None) -> Tensor:
        """What the network says of noisy images (B, C, H, W); c_noise is ln(sigma) / 4, in thousandths."""
        c_noise = 250 * sigma.double().clamp(min=self.sigma_min / 10).log()
        out: Tensor = self.network(over(self.scales(sigma).into, x) * x, c_noise.float(), y, noise)
        return out.float()

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """(7)"""
        c = self.scales(t)
        return over(c.skip, x_t) * x_t + over(c.out, x_t) * self.F_theta(x_t, t, y)

    def loss(self, batch: Batch) -> Loss:
        """(8), for what the network should say: lambda c_out^2 = 1."""
        x_0, y = batch.x, self.condition(batch)
        sigma = (self.p_mean + self.p_std * batch.noise.normal(1)[:, 0].double()).exp()
        x = x_0 + over(sigma, x_0) * batch.noise.normal(*self.spec.shape)
        c = self.scales(sigma)
        target = over(1 / c.out, x_0) * (x_0 - over(c.skip, x_0) * x)
        return Loss(F.mse_loss(self.F_theta(x, sigma, y, batch.noise), target))

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows no more of each pixel than its mean and its variance."""
        sigma = (self.p_mean + self.p_std * torch.special.ndtri(chance.shares())).exp()
        c, one = self.scales(sigma), torch.ones_like(sigma)
        target = -c.skip * sigma / c.out, (1 - c.skip) / c.out
        return {"model": chance.unexplained(batch.x, one, sigma, *target, linear=bool(self.spec.levels))}
