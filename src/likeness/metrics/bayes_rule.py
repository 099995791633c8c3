"""Bayes' rule: from how likely each class makes an image to how likely the image makes each class.

    p(y|x) = p(x|y) p(y) / p(x),     p(x) = sum_y p(x|y) p(y)

Everything is a natural logarithm, since p(x|y) of an image is far below what a float can hold.  A class that
is impossible (-inf) stays so.  An image that every class calls impossible has taught nothing: its posterior
is the prior.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import Refusal


class Posterior(NamedTuple):
    log_p: np.ndarray
    """(n, C) log p(y|x); each row sums to 1 in probabilities"""
    evidence: np.ndarray
    """(n,) log p(x) in nats, -inf where no class can make the image"""

    @property
    def choice(self) -> np.ndarray:
        """(n,) the most probable class, the first of equals: the rule with the least errors there can be, if
        p(x|y) and p(y) are right."""
        return np.asarray(self.log_p.argmax(1))


def log_prior(labels: np.ndarray, classes: int) -> np.ndarray:
    """log of the share of each class among `labels` (n,), as (classes,); -inf for a class that does not
    occur."""
    y = np.asarray(labels)
    if (
        y.ndim != 1
        or not len(y)
        or not np.issubdtype(y.dtype, np.integer)
        or y.min() < 0
        or y.max() >= classes
    ):
        raise Refusal(
            f"a prior over {classes} classes is counted from labels 0 to {classes - 1}, one or more of "
            "them; give those of the training images."
        )
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.bincount(y, minlength=classes) / len(y)))


def posterior(log_likelihood: np.ndarray, prior: np.ndarray) -> Posterior:
    """log_likelihood (n, C): log p(x|y) in nats, or lower bounds on it, each as loose as the others; prior
    (C,): log p(y).

    Raises Refusal for what is no likelihood: nan or +inf.
    """
    from scipy.special import logsumexp

    result = np.asarray(log_likelihood, np.float64)
    if result.ndim != 2 or np.shape(prior) != result.shape[1:] or not result.shape[1]:
        raise Refusal(
            "log p(x|y) should be (images, classes), and the prior one number a class; here are "
            f"{result.shape} and {np.shape(prior)}: give such."
        )
    if np.isnan(result).any() or (result == np.inf).any():
        bad = int((np.isnan(result) | (result == np.inf)).any(1).sum())
        raise Refusal(
            f"log p(x|y) of {bad} of {len(result)} images is no number; the model has diverged: train it "
            "again with a lower --rate."
        )
    joint = result + prior
    evidence = logsumexp(joint, axis=1)
    known = np.isfinite(evidence)
    return Posterior(
        np.where(known[:, None], joint - np.where(known, evidence, 0.0)[:, None], prior), evidence
    )


def log_odds(log_p: np.ndarray) -> np.ndarray:
    """log p / (1 - p) of the most probable class, from log p(y|x) (n, C): ranks images as its probability
    does, where that is rounded to 1."""
    from scipy.special import logsumexp

    if np.ndim(log_p) != 2 or not np.shape(log_p)[1] or np.isnan(log_p).any():
        raise Refusal(
            f"odds are those of log p(y|x), (images, classes), and these of shape {np.shape(log_p)} are "
            "not; give those of `posterior`."
        )
    ranked = np.sort(log_p, axis=1)
    return np.asarray(ranked[:, -1] - logsumexp(ranked[:, :-1], axis=1))
