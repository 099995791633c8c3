"""The score card: a number, how sure it is, and everything one must know to read it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from ..core import Refusal

FEW, TOO_FEW = 100, 10
"""images below which an interval is doubtful, and below which none is given"""
Z = 1.959964
"""standard errors from the middle to the end of a 95 % interval"""
GROUPS = (
    "likelihood",
    "resemblance",
    "modes",
    "text",
    "motion",
    "memorisation",
    "reconstruction",
    "translation",
    "representation",
    "cost",
    "diagnosis",
)
"""the blocks of a report, in order"""
RENAMED = {
    "told apart": "C2ST accuracy",
    "authentic": "AuthPct",
    "kernel distance (KID)": "KID",
    "grey levels": "brightness histogram",
    "copies": "near-duplicates",
    "exact copies": "exact duplicates",
    "duplicates": "duplicate samples",
    "classes missing|missing classes": "missing classes",
    "class (share )?gap": "class share gap",
    "modes found": "modes covered",
    "high quality": "high-quality samples",
    "findings of the doctor": "findings",
    "distance to training": "distance to nearest training image",
    "nearer than held out": "nearer than held-out images",
}
"""names of measures in scores.json of schema 1, and what they are called now"""
VERSIONS = {"SSIM": 2}
"""of measures whose formula was put right: cards of one name and different versions are not comparable; 1
where nothing stands here"""


@dataclass(frozen=True)
class Score:
    name: str
    """the measure, such as bits/dim: cards of one name are comparable"""
    value: float
    """nan if the measure was refused; `warnings` then say why"""
    unit: str = ""
    of: str = "model"
    """whose score it is: the model's, or that of a baseline, by name"""
    low: float | None = None
    high: float | None = None
    """ends of the 95 % interval"""
    how: str = ""
    """what the interval accounts for"""
    n: int = 0
    against: int | None = None
    """number of images on the other side, where two sets are compared or a baseline is fitted"""
    split: str = "held out"
    """what the n are: images "held out" or of "train", or "samples" of the model"""
    seed: int = 0
    kind: Literal["exact", "upper bound", "estimate", "measured"] = "measured"
    better: Literal["lower", "higher", ""] = ""
    network: str = ""
    """whose features were compared, by name"""
    network_sha: str = ""
    """the first digits of the sha256 of its weights"""
    scope: str = ""
    """where numbers in these features may be compared: "anywhere", or "only within" a data set"""
    resize: str = ""
    """how images were brought to the size that the network takes"""
    floor: float | None = None
    """the same measure of real images against real images, at the same n on both sides: what a perfect model
    would get"""
    floor_spread: float = 0.0
    """standard error of the floor"""
    note: str = ""
    warnings: tuple[str, ...] = ()
    """what a reader must hear about it, a sentence each"""
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    """of the formula, see VERSIONS"""
    group: str = ""
    """the block of a report that it belongs to, one of GROUPS"""

    @property
    def warning(self) -> str:
        """All warnings on one line."""
        return "; ".join(self.warnings)

    @property
    def features(self) -> str:
        """The network on one line: its name, its weights, and where its numbers may be compared."""
        return ", ".join(filter(None, (f"{self.network} {self.network_sha}".strip(), self.scope)))

    @property
    def whose(self) -> str:
        """The model's, told from that of its raw weights where these were asked."""
        return str(self.settings.get("weights", self.of)) if self.of == "model" else self.of

    @property
    def refused(self) -> bool:
        return math.isnan(self.value)

    @property
    def spread(self) -> float:
        """The standard error that the interval stands for; 0 where there is none."""
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / (2 * Z)

    @property
    def beyond(self) -> float:
        """By how much the value is worse than the floor, beyond three standard errors of their difference; 0
        if it is not."""
        if self.floor is None or self.refused or not self.better:
            return 0.0
        worse = self.value - self.floor if self.better == "lower" else self.floor - self.value
        return max(0.0, worse - 3 * math.hypot(self.spread, self.floor_spread))

    @property
    def verdict(self) -> str:
        """The value read against the floor, or nothing where there is none."""
        if self.floor is None or self.refused or not self.better:
            return ""
        return f"worse than real ({short(self.floor)})" if self.beyond else f"as real ({short(self.floor)})"

    @property
    def number(self) -> str:
        """The value for people, with its interval."""
        if self.refused:
            return "refused"
        interval = (
            "" if self.low is None or self.high is None else (f" [{short(self.low)}, {short(self.high)}]")
        )
        return short(self.value) + interval  # one of no width, too: what is computed is shown

    @property
    def text(self) -> str:
        """The card on one line."""
        unit = f" {self.unit}" if self.unit else ""
        kind = "" if self.kind == "measured" else f" ({self.kind})"
        sides = f"n={self.n:,}" + ("" if self.against is None else f" against {self.against:,}")
        verdict = f", {self.verdict}" if self.verdict else ""
        warning = f"  Warning: {self.warning}" if self.warning else ""
        return (
            f"{self.name} of {self.whose}: {self.number}{unit}{kind}{verdict}, {self.split}, {sides}, seed "
            f"{self.seed}{warning}"
        )

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows neither nan nor infinity: they become null."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()
        }


def from_dict(card_of: dict[str, Any]) -> Score:
    """The card that as_dict() wrote down; what another version added is passed over.  Raises KeyError,
    TypeError or ValueError if it is none."""
    known, card_of = {f.name for f in fields(Score)}, _today(card_of)
    card = {k: v for k, v in card_of.items() if k in known} | {
        "value": math.nan if card_of["value"] is None else float(card_of["value"])
    }
    for name in ("low", "high", "floor"):
        card[name] = None if card.get(name) is None else float(card[name])
    card["warnings"] = tuple(map(str, card["warnings"]))
    return Score(**card | {name: int(card[name]) for name in ("n", "seed", "version") if name in card})


def _today(card: dict[str, Any]) -> dict[str, Any]:
    """A card of schema 1, which had its warnings and its network in one text each and no group, as one of
    today; that of today as it is."""
    if "warnings" in card:
        return card
    network = NETWORK_BEFORE.match(str(card.get("network", "")))
    parts = {} if network is None else network.groupdict("")
    group = next(
        group for group, words in GROUPS_BEFORE.items() if re.search(words, str(card["name"]), re.IGNORECASE)
    )
    name = RENAMED.get(str(card["name"]), card["name"])
    return (
        card
        | parts
        | {
            "name": name,
            "warnings": [w for w in str(card.get("warning") or "").split("; ") if w],
            "group": group,
        }
    )


NETWORK_BEFORE = re.compile(
    r"(?P<network>.*?)(?: "
    r"(?P<network_sha>[0-9a-f]{6,64}))?(?:, "
    r"(?P<scope>anywhere|only within .*))?$",
    re.DOTALL,
)
GROUPS_BEFORE = {  # of schema 1: the first that fits a measure's name
    "likelihood": r"bits/dim|nats an image|parzen",
    "memorisation": r"cop(y|ies)|nearer|distance to (nearest )?training|^auth|duplicate",
    "modes": r"modes|reverse kl|high.quality",
    "resemblance": r"fr[eé]chet|kernel "
    r"distance|^kid$|mmd|precision|density|told "
    r"apart|c2st|wasserstein|grey levels|brightness|classifier score|resemblance"
    r"|recall|coverage|diversity|class(es| gap| share)",
    "reconstruction": r"squared error|psnr|ssim",
    "representation": r"accuracy|log loss|calibration|auroc|cannot tell|wrong among",
    "cost": r"^training$|^sampling$|memory|^weights|images seen|images a second",
    "diagnosis": r"",
}


def sentences(*parts: str | Iterable[str]) -> tuple[str, ...]:
    """Warnings as one tuple: texts, or tuples of them, without those that are empty and what was there
    before."""
    each = (text for part in parts for text in ((part,) if isinstance(part, str) else part))
    return tuple(dict.fromkeys(filter(None, each)))


def short(value: float) -> str:
    """Four significant digits, and never in scientific notation between a thousandth and a million."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def measure(name: str, values: np.ndarray, seed: int = 0, **about: Any) -> Score:
    """The card of a mean over images, `values` (n,), with its interval and what must be said about so few."""
    n = len(values)
    about.setdefault("version", VERSIONS.get(name, 1))
    warnings = sentences(about.pop("warnings", ()), small(n))
    if n == 0 or not np.isfinite(values).all():
        bad = f"{n - int(np.isfinite(values).sum())} of {n} values are not numbers" if n else ""
        return Score(name, math.nan, n=n, seed=seed, warnings=sentences(bad, warnings), **about)
    low, high, how = None, None, ""
    if n >= TOO_FEW and about.get("unit") == "share":
        (low, high), how = wilson(float(values.sum()), n), "95 % Wilson"
    elif n >= TOO_FEW:
        (low, high), how = interval(values, seed), "95 % bootstrap over images"
    return Score(
        name,
        float(np.mean(values, dtype=np.float64)),
        low=low,
        high=high,
        how=how,
        n=n,
        seed=seed,
        warnings=warnings,
        **about,
    )


def small(n: int) -> str:
    """What a reader must hear about a score of n images, or nothing."""
    if n < TOO_FEW:
        return f"n = {n}: too few images for an interval, take at least {FEW}"
    return f"n = {n}: the interval itself is doubtful below {FEW} images" if n < FEW else ""


def interval(
    values: np.ndarray,
    seed: int = 0,
    statistic: Callable[..., np.ndarray] = np.mean,
    repeats: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `statistic(values (n, ...), axis=1)` over the images (Efron 1979).

    Resamples are drawn in chunks of at most 32 MB, from a generator of their own.  Raises Refusal for no
    values, and for some that are not finite.
    """
    if not values.size or not np.isfinite(values).all():
        raise Refusal(
            f"an interval is that of finite numbers, one or more of them, and these of shape {values.shape} "
            "are not; look at their images."
        )
    rng, n = np.random.default_rng((seed, 0xB007)), len(values)
    chunk = max(1, 2**22 // max(1, values.size))
    draws = [
        statistic(values[rng.integers(0, n, (min(chunk, repeats - i), n))], axis=1)
        for i in range(0, repeats, chunk)
    ]
    low, high = np.quantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(k: float, n: int, z: float = Z) -> tuple[float, float]:
    """The interval of a share k / n (Wilson 1927): unlike the bootstrap's it does not shrink to nothing where
    k is 0 or n; of n = 0 it is all."""
    middle, spread = k + z * z / 2, z * math.sqrt(k * (n - k) / max(n, 1) + z * z / 4)
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))
