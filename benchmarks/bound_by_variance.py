"""How far the bound of a perfect denoiser lies above the entropy: DDPM by variance and steps, and the bound
in continuous time.

    python benchmarks/bound_by_variance.py

The data are pairs of one of 32 levels, with the probabilities of a mixture of three Gaussians, so that the
best denoiser and the entropy are sums over 1,024 examples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from likeness.core import Batch, Condition, Noise, Spec
from likeness.models.ddpm import DDPM
from likeness.models.edm import EDM
from likeness.parts.bounds import reconstruction
from likeness.parts.schedules import mixed, over

LEVELS, N = 32, 2000
CENTRES, VARIANCES, WEIGHTS = [[0.0, 0.8], [0.8, -0.4], [-0.8, -0.4]], [0.02, 0.05, 0.01], [0.5, 0.3, 0.2]


def law() -> tuple[Tensor, Tensor]:
    """The pairs (1024, 2) and their probabilities."""
    line = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    far = (places[:, None] - torch.tensor(CENTRES, dtype=torch.float64)).square().sum(-1)
    v = torch.tensor(VARIANCES, dtype=torch.float64)
    log_p = (torch.tensor(WEIGHTS, dtype=torch.float64).log() - far / (2 * v) - v.log()).logsumexp(1)
    return places, log_p.softmax(0)


PLACES, P = law()


def perfect(schedule: Any, x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] by Bayes' rule over all examples."""
    flat, alpha, sigma = x_t.flatten(1).double(), schedule.alpha(t.double()), schedule.sigma(t.double())
    far = (flat[:, None] - over(alpha, flat)[..., None] * PLACES).square().sum(-1)
    return ((P.log() - far / (2 * over(sigma, flat).square())).softmax(1) @ PLACES).view_as(x_t).to(x_t.dtype)


class PerfectDDPM(DDPM):
    def image(self, said: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return perfect(self.schedule, x_t, t)


class BestFixed(PerfectDDPM):
    """The variance that, of those which are the same for all pixels, is best: before the last step beta tilde
    plus what is not known of the mean (Bao et al., "Analytic-DPM", 2022, Theorem 1); at the last, where
    levels are told apart, the best of many."""

    def build(self) -> None:
        super().build()
        x = PLACES[
            torch.multinomial(P, 500, replacement=True, generator=torch.Generator().manual_seed(1))
        ].view(-1, 2, 1, 1)
        last, *others = (self.expected(x, t) for t in range(1, self.T + 1))
        errors = torch.stack([(expected - x).square().mean() for expected in others])
        best = self.small[1:] + self.of_x_0[1:].square() * errors
        self.best = torch.cat([self.best_last(x, last)[None], best])

    def expected(self, x: Tensor, t: int) -> Tensor:
        """Of images x (N, 2, 1, 1), seen through the noise of step t."""
        at = torch.full((len(x),), t)
        return perfect(
            self.schedule, mixed(self.schedule, x, Noise(range(len(x)), t).normal(2, 1, 1).double(), at), at
        )

    def best_last(self, x: Tensor, expected: Tensor) -> Tensor:
        deviations = torch.logspace(-4, 0, 81, dtype=torch.float64)
        nats = [reconstruction(self.p, x, expected, s).mean() for s in deviations.tolist()]
        return deviations[torch.stack(nats).argmin()].square()

    def log_variance(self, t: Tensor, v: Tensor | None) -> Tensor:
        return self.best[t.long() - 1].log().view(-1, 1, 1, 1)


class PerfectEDM(EDM):
    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        return perfect(self.schedule, x_t, t)


def main() -> None:
    drawn = torch.multinomial(P, N, replacement=True, generator=torch.Generator().manual_seed(0))
    x, own = PLACES[drawn].float().view(N, 2, 1, 1), -P[drawn].log() / 2
    print(
        f"entropy {-float(P @ P.log()) / 2:.3f} nats a dimension, of these examples "
        f"{float(own.mean()):.3f}; excess of the bound:\n"
    )
    print("| model | nats a dimension above |\n|---|---|")
    spec = Spec(2, 1, levels=LEVELS)
    kinds: list[tuple[str, Any]] = [
        (
            f"ddpm, {beta}, T {T}, {name}",
            kind(spec=spec, net="mlp", scale=0.25, beta=beta, T=T, variance=variance, evaluations=32),
        )
        for beta in ("linear", "cosine")
        for T in (100, 1000)
        for name, kind, variance in (
            ("`--variance small`", PerfectDDPM, "small"),
            ("`--variance large`", PerfectDDPM, "large"),
            ("the best fixed one", BestFixed, "small"),
        )
    ]
    for name, model in [
        *kinds,
        ("edm, continuous time", PerfectEDM(spec=spec, net="mlp", scale=0.25, evaluations=32)),
    ]:
        above = model.terms(Batch(x, None, Noise(range(N)))).total / 2 - own
        print(f"| {name} | {float(above.mean()):.3f} ± {float(above.std()) / math.sqrt(N):.3f} |", flush=True)


if __name__ == "__main__":
    main()
