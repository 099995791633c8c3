"""Returns of several runs in several worlds: Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", 2021.  Scores are (runs, tasks)."""

from __future__ import annotations

import numpy as np

from ..core import Refusal


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean over runs and tasks together: of the middle half, whole scores at either end left
    out as scipy's trim_mean(0.25) does.  Raises Refusal where there is no return, or one is not finite."""
    flat = np.sort(np.asarray(scores, np.float64), axis=None)
    if not len(flat) or not np.isfinite(flat).all():
        raise Refusal("the IQM is that of one finite return or more.")
    cut = int(0.25 * len(flat))
    return float(flat[cut : len(flat) - cut].mean())


def stratified(
    scores: np.ndarray, seed: int = 0, repeats: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the IQM: runs are drawn anew within each task, none between tasks.

    Raises Refusal for fewer than two runs, of which nothing can be drawn."""
    runs, tasks = scores.shape
    if runs < 2 or not np.isfinite(scores).all():
        raise Refusal(f"an interval over seeds is that of two runs or more with finite returns, not {runs}.")
    rng = np.random.default_rng((seed, 0x1A3))
    drawn = scores[rng.integers(0, runs, (repeats, runs, tasks)), np.arange(tasks)].reshape(repeats, -1)
    drawn.sort(1)
    cut = int(0.25 * runs * tasks)
    means = drawn[:, cut : runs * tasks - cut].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
