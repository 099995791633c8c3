"""Has a model found every mode of its data, and how evenly?  For data whose modes are known.

A sample is of the mode that `of_points` or a classifier says, or of none.  Three numbers, by the protocol of
Lin, Khetan, Fanti & Oh, "PacGAN: the power of two samples in generative adversarial networks", 2018, section
4.1 (as in Srivastava et al., "VEEGAN", 2017):

    modes found    those of which there is at least one sample
    high quality   share of samples within 3 standard deviations of the nearest centre
    reverse KL     sum_k p_k log(p_k / q_k), nats: p the shares of the modes among samples that are of any, q those in the data

All modes found proves little: one stray sample finds a mode.  Even a perfect model has a reverse KL of about
(K - 1) / 2n, so it is read beside that of real images at the same n.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..core import Refusal
from .card import TOO_FEW, Score, measure, sentences, small

NONE = -1
"""the mode of a sample that is of none"""
REACH = 3.0
"""standard deviations within which a point is of high quality"""


def of_points(x: np.ndarray, centres: np.ndarray, sigma: float) -> np.ndarray:
    """The mode that each point of x (n, d) belongs to, int64 (n,): the nearest of centres (K, d), or NONE if
    that is not within 3 sigma, or nan."""
    if x.ndim != 2 or centres.ndim != 2 or x.shape[1] != centres.shape[1] or not len(centres):
        raise Refusal(
            f"points of shape {x.shape} have no modes among centres of shape {centres.shape}; give points "
            "and centres of the same dimensions."
        )
    apart = np.linalg.norm(x[:, None].astype(np.float64) - centres, axis=2)
    nearest = apart.argmin(1)
    return np.where(apart[np.arange(len(x)), nearest] < REACH * sigma, nearest, NONE)


def counts(modes: np.ndarray, k: int) -> np.ndarray:
    """How many samples are of each mode 0 ... k-1: modes (..., n) to (..., k)."""
    if modes.size and (not np.issubdtype(modes.dtype, np.integer) or modes.min() < NONE or modes.max() >= k):
        raise Refusal(
            f"modes are whole numbers from 0 to {k - 1}, or {NONE} for none; give those that of_points or a "
            "classifier says."
        )
    flat = modes.reshape(-1, modes.shape[-1])
    cells = flat + (k + 1) * np.arange(len(flat))[:, None] + 1
    return np.bincount(cells.ravel(), minlength=len(flat) * (k + 1)).reshape(*modes.shape[:-1], k + 1)[
        ..., 1:
    ]


def covered(counted: np.ndarray) -> np.ndarray:
    """Modes with at least one sample: counts (..., K) to (...)."""
    return np.asarray((counted > 0).sum(-1, dtype=np.float64))


def reverse_kl(counted: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """KL(p | q) in nats of counts (..., K), p their shares and q = shares (K,), to (...): nan without a
    sample, infinite where q is 0 and p is not."""
    from scipy.special import rel_entr

    if counted.shape[-1] != len(shares):
        raise Refusal(
            f"counts of {counted.shape[-1]} modes cannot be compared with the shares of {len(shares)}; give "
            "those of the same modes."
        )
    total = counted.sum(-1, keepdims=True)
    p = np.divide(counted, total, out=np.full(counted.shape, np.nan), where=total > 0)
    return np.asarray(rel_entr(p, shares).sum(-1))


def cards(
    modes: np.ndarray, real: np.ndarray | None, shares: np.ndarray, quality: bool, seed: int = 0, **about: Any
) -> Iterator[Score]:
    """The three numbers of samples, whose modes are (n,); without the second where every sample is of some
    mode (`quality`).

    real (m,): the modes of real images, for the floor.  shares (K,): of the modes in the data.
    """
    others = [] if real is None else list(cards(real, None, shares, quality, seed))
    for card in _cards(modes, shares, quality, seed, about):
        floor = next((f for f in others if f.name == card.name), None)
        yield card if floor is None else replace(card, floor=floor.value, floor_spread=floor.spread)


def _cards(
    modes: np.ndarray, shares: np.ndarray, quality: bool, seed: int, about: dict[str, Any]
) -> Iterator[Score]:
    k = len(shares)
    if not len(modes):
        raise Refusal("modes are found in samples, and there is none; draw some.")
    counted = counts(modes, k)
    common = about | dict[str, Any](
        n=len(modes), seed=seed, warnings=sentences(about.get("warnings", ()), small(len(modes)))
    )
    low, high = interval(counted, len(modes), covered, seed)
    how = "95 % bootstrap over samples, less its bias"
    yield Score(
        "modes covered",
        float(covered(counted)),
        unit=f"of {k:,}",
        low=low,
        high=min(high, k),
        how=how,
        better="higher",
        **common,
    )
    if quality:
        yield measure(
            "high-quality samples",
            (modes != NONE).astype(np.float64),
            seed,
            unit="share",
            better="higher",
            **about,
        )
    yield _divergence(counted, len(modes), shares, seed, common | dict(unit="nats", how=how, better="lower"))


def _divergence(counted: np.ndarray, n: int, shares: np.ndarray, seed: int, about: dict[str, Any]) -> Score:
    value, of_any = float(reverse_kl(counted, shares)), int(counted.sum())
    why = (
        "no sample is of any mode"
        if not of_any
        else ("samples are of modes that the data do not have")
        if math.isinf(value)
        else ""
    )
    few = f"only {of_any} samples are of any mode" if 0 < of_any < TOO_FEW <= n else ""
    about["warnings"] = sentences(about["warnings"], why, few)
    if why:
        return Score("reverse KL", math.nan, **about | dict(how=""))
    if of_any < TOO_FEW:
        return Score("reverse KL", value, **about | dict(how=""))
    low, high = interval(counted, n, lambda c: reverse_kl(c, shares), seed)
    return Score("reverse KL", value, low=max(0.0, low), high=high, **about)


def interval(
    counted: np.ndarray,
    n: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int = 0,
    repeats: int = 1000,
) -> tuple[float, float]:
    """Where statistic(counts (..., K)) of n other samples would lie in 95 % of cases, by the bootstrap over
    samples (Efron 1979).

    Resampled samples miss some modes that were found, and are less even: both numbers are biased in them, so
    that the plain percentiles would not even hold the value.  Here they are moved by the bias.  Of a perfect
    model the interval of the divergence is too wide, by a factor of sqrt(3): the resamples' own unevenness,
    chi-squared with K - 1 degrees, adds that of the sample, of which it is no part.
    """
    all_shares = np.append(counted, n - counted.sum()) / n
    draws = statistic(np.random.default_rng((seed, 0xB007)).multinomial(n, all_shares, repeats)[:, :-1])
    low, high = np.nanquantile(draws, [0.025, 0.975]) + (float(statistic(counted)) - np.nanmean(draws))
    return float(low), float(high)
