"""Flow matching: learn the velocity with which noise becomes an image, along straight lines.

Lipman, Chen, Ben-Hamu, Nickel & Le, "Flow Matching for Generative Modeling", 2023; Liu, Gong & Liu, "Flow
Straight and Fast", 2023. Time runs as in diffusion, from the image at 0 to noise at 1:

    x_t = (1 - t) x_0 + t eps
    minimise  E || v_theta(x_t, t) - (eps - x_0) ||^2                       conditional flow matching (Lipman et al., eq. 9 and 23)
    dx_t / dt = v_theta(x_t, t)                                             the flow, from 1 to 0

Each pair of an image and a noise is a line, and where lines cross the network learns their mean, so that the
flow bends.  Which noise belongs to which image is free: paired within a batch so that the sum of squared
distances is least, fewer lines cross, and fewer steps are needed (Tong et al., "Improving and Generalizing
Flow-Based Generative Models with Minibatch Optimal Transport", 2024, section 3.2.3; Pooladian et al. 2023).

Departures: time runs from the image to noise; the line ends in the image itself (sigma_min = 0 in Lipman et
al., eq. 20); samplers of fixed steps (dpm2m by default) in place of an adaptive solver; no second training on
the pairs that a first flow has made (the rectification of Liu et al.).
"""  # noqa: E501

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Condition, Loss, Noise, Refusal, Training, label_of, option
from ..parts import chance
from ..parts.denoising import WORDS, Denoiser
from ..parts.schedules import Straight, mixed, over


class FlowMatching(Denoiser):
    drawn_by = "sde2m"
    coupling: str = option(
        "independent",
        "of images and noise: as they come, or by optimal transport within a batch",
        choices=("independent", "ot"),
    )
    times: str = option(
        "uniform",
        "law of t in training; logit-normal dwells in the middle, and shifted where the noise is strong "
        "(Esser et al. 2024): there alone a text says what the image does not show",
        choices=("uniform", "logit-normal", "shifted"),
    )

    defaults = Training(batch=32, rate=1e-3, images=300_000, warmup=2_000, schedule="cosine", ema=50_000)
    presets = Denoiser.presets | {"words": WORDS | dict(times="shifted")}

    def build(self) -> None:
        self.schedule: Straight = Straight()
        self.network = self.make()
        self.whole_batch = self.coupling == "ot"
        self.check()

    def check(self) -> None:
        """Raises Refusal where the noise of a pair would not be N(0, I): each source has one target alone, so
        that transport would have nothing to choose from but what tells the target."""
        if self.coupling == "ot" and {"image", "tokens"} & set(self.takes):
            raise Refusal(
                "flowmatching: --coupling ot chooses the noise by the target, which a translation, or an "
                "image from a text, does not know beforehand; leave it out for pairs and texts."
            )

    def velocity(
        self, x_t: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None
    ) -> Tensor:
        """v_theta, (B, C, H, W), at times t (B,)."""
        out: Tensor = self.network(x_t, 1000 * t.float(), y, noise)
        return out.float()

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        """Where the straight line through x_t with this velocity began."""
        return x_t - over(t, x_t) * self.velocity(x_t, t, y)

    def loss(self, batch: Batch) -> Loss:
        x_0, y = batch.x, self.condition(batch)
        t = self.time(batch.noise)
        eps = batch.noise.normal(*self.spec.shape)
        if self.coupling == "ot":
            eps = paired(x_0, eps, label_of(batch.y) if self.conditional else None)
        return Loss(
            F.mse_loss(self.velocity(mixed(self.schedule, x_0, eps, t), t, y, batch.noise), eps - x_0)
        )

    def time(self, noise: Noise) -> Tensor:
        """t of each image of a training batch, (B,)."""
        if self.times == "logit-normal":
            return noise.normal(1)[:, 0].sigmoid()
        u = noise.uniform()
        return shifted(u) if self.times == "shifted" else u

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows no more of each pixel than its mean and its variance."""
        u = chance.shares()
        t = {"uniform": u, "shifted": shifted(u), "logit-normal": torch.special.ndtri(u).sigmoid()}[
            self.times
        ]
        one = torch.ones_like(t)
        return {"model": chance.unexplained(batch.x, 1 - t, t, one, -one, linear=bool(self.spec.levels))}


SHIFT = 3.0
"""times as much noise as image at u = 1/2"""


def shifted(u: Tensor) -> Tensor:
    """The time at which the noise is SHIFT times as strong beside the image as at u (Esser et al., "Scaling
    Rectified Flow Transformers", 2024, eq. 23)."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def paired(x: Tensor, eps: Tensor, y: Tensor | None) -> Tensor:
    """The noise of each image, by transport; among those of its class where there are classes y (B,), since
    the noise of a class must stay N(0, I)."""
    out = eps.clone()
    for rows in (
        [torch.arange(len(x), device=x.device)]
        if y is None
        else [(y == c).nonzero()[:, 0] for c in y.unique()]
    ):
        out[rows] = eps[rows][transport(x[rows], eps[rows])]
    return out


def transport(x: Tensor, eps: Tensor) -> Tensor:
    """For each image of x (B, ...) its noise among eps (B, ...), as rows (B,): the pairing with the least sum
    of squared distances."""
    from scipy.optimize import linear_sum_assignment

    apart = -(x.flatten(1).double() @ eps.flatten(1).double().T)  # the squares of both are in every pairing
    _, rows = linear_sum_assignment(apart.cpu().numpy())
    return torch.from_numpy(rows).to(x.device)
