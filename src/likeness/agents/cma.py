"""CMA-ES: a Gaussian over solutions that moves to the better ones and takes the shape of the valley.

Hansen, "The CMA Evolution Strategy: A Tutorial", 2016.

    x_k = m + sigma y_k,   y_k = B D z_k ~ N(0, C)                                            (38)-(40)
    m <- m + sigma <y>,    <y> = sum_{i <= mu} w_i y_{i:lambda}                               (41), (42)
    p_sigma <- (1 - c_sigma) p_sigma + sqrt(c_sigma (2 - c_sigma) mu_eff) C^(-1/2) <y>        (43)
    sigma <- sigma exp(c_sigma / d_sigma (|p_sigma| / E|N(0, I)| - 1))                        (44)
    p_c <- (1 - c_c) p_c + h_sigma sqrt(c_c (2 - c_c) mu_eff) <y>                             (45)
    C <- (1 + c_1 delta - c_1 - c_mu) C + c_1 p_c p_c' + c_mu sum_i w_i y_i y_i'              (47)

The result depends on the order of the solutions alone, and is the same after a rotation of the space.

Departures: the weights of the worse half are 0, not negative, so that C stays
positive definite by itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class CMAES:
    """Makes a function of n numbers large."""

    def __init__(self, mean: np.ndarray, sigma: float, population: int, rng: np.random.Generator):
        """population: lambda, 4 or more; (48) has 4 + 3 ln n as the least that is sensible."""
        n = self.n = len(mean)
        self.rng, self.population = rng, population
        raw = math.log((population + 1) / 2) - np.log(np.arange(1, population // 2 + 1))  # (49)
        self.weights = raw / raw.sum()
        self.mu_eff = m = 1 / float(np.square(self.weights).sum())
        self.c_sigma = (m + 2) / (n + m + 5)  # (55)
        self.d_sigma = 1 + 2 * max(0.0, math.sqrt((m - 1) / (n + 1)) - 1) + self.c_sigma
        self.c_c = (4 + m / n) / (n + 4 + 2 * m / n)  # (56)
        self.c_1 = 2 / ((n + 1.3) ** 2 + m)  # (57)
        self.c_mu = min(1 - self.c_1, 2 * (1 / 4 + m + 1 / m - 2) / ((n + 2) ** 2 + m))  # (58)
        self.length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        """E|N(0, I)|, nearly"""
        self.generation, self.decomposed = 0, 0
        self.mean, self.sigma = np.array(mean, np.float64), float(sigma)
        self.p_sigma, self.p_c = np.zeros(n), np.zeros(n)
        self.c, self.axes, self.scales = np.eye(n), np.eye(n), np.ones(n)
        """C = axes diag(scales^2) axes', of a few generations ago"""

    def ask(self) -> np.ndarray:
        """(population, n) solutions to be tried."""
        z = self.rng.standard_normal((self.population, self.n))
        return np.asarray(self.mean + self.sigma * (z * self.scales) @ self.axes.T)

    def tell(self, solutions: np.ndarray, values: np.ndarray) -> None:
        """Move to the larger values (population,)."""
        order = np.argsort(-values, kind="stable")[: len(self.weights)]
        y = (solutions[order] - self.mean) / self.sigma
        step = self.weights @ y
        self.mean = self.mean + self.sigma * step
        self.generation += 1
        white = self.axes @ ((self.axes.T @ step) / self.scales)
        self.p_sigma = self._path(self.p_sigma, self.c_sigma, white)
        length = float(np.linalg.norm(self.p_sigma))
        settled = math.sqrt(1 - (1 - self.c_sigma) ** (2 * self.generation))
        # a path that is long because sigma is too small says nothing of the shape
        h = length / settled < (1.4 + 2 / (self.n + 1)) * self.length
        self.p_c = self._path(self.p_c, self.c_c, step * h)
        missing = 0.0 if h else self.c_c * (2 - self.c_c)
        keep = 1 + self.c_1 * missing - self.c_1 - self.c_mu
        rank_mu = (y.T * self.weights) @ y
        self.c = keep * self.c + self.c_1 * np.outer(self.p_c, self.p_c) + self.c_mu * rank_mu
        self.sigma *= math.exp(min(1.0, self.c_sigma / self.d_sigma * (length / self.length - 1)))
        # so seldom that it takes no more time than the rest (appendix B.2)
        if self.generation - self.decomposed > 1 / ((self.c_1 + self.c_mu) * self.n * 10):
            self._decompose()

    def _path(self, path: np.ndarray, rate: float, step: np.ndarray) -> np.ndarray:
        return (1 - rate) * path + math.sqrt(rate * (2 - rate) * self.mu_eff) * step

    def _decompose(self) -> None:
        self.c = (self.c + self.c.T) / 2
        squares, self.axes = np.linalg.eigh(self.c)
        self.scales, self.decomposed = np.sqrt(squares.clip(1e-20)), self.generation

    ARRAYS = ("mean", "p_sigma", "p_c", "c", "axes", "scales")

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in self.ARRAYS}

    def facts(self) -> dict[str, Any]:
        return dict(sigma=self.sigma, generation=self.generation, decomposed=self.decomposed)

    def restore(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        for name in self.ARRAYS:
            setattr(self, name, arrays[name].copy())
        self.sigma, self.generation, self.decomposed = (
            facts[k] for k in ("sigma", "generation", "decomposed")
        )
