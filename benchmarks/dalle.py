"""DALL-E's sampling with cached keys beside the naive full pass, and guidance in one pass beside two.

    python benchmarks/dalle.py [--n 16] [--size 8] [--codes 128] [--words 30] [--width 128] [--depth 4]

The same weights, texts and noise; both must draw the same codes.  Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from likeness.core import Condition, Noise, Spec, final
from likeness.models.dalle import DALLE


def seconds(work) -> tuple[float, torch.Tensor]:
    began = time.perf_counter()
    out = work()
    return time.perf_counter() - began, out


def main() -> None:
    p = argparse.ArgumentParser()
    for name, value in dict(
        n=16, size=8, codes=128, words=30, width=128, depth=4, threads=1, rounds=3
    ).items():
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    spec = Spec(1, a.size, levels=a.codes, symbols=True, vocabulary=50, tokens=a.words)
    model = DALLE(spec=spec, width=a.width, depth=a.depth).eval()
    y = Condition(tokens=torch.randint(2, 50, (a.n, a.words)))
    x, nothing = torch.zeros(a.n, *spec.shape), torch.zeros(a.size, a.size, dtype=torch.bool)
    rows, drawn = {}, {}
    for guidance in (1.0, 3.0):
        model.guidance = guidance
        for naive in (False, True):
            times = []
            for _ in range(1 if naive else a.rounds):
                took, out = seconds(
                    lambda n=naive: final(model.complete(x, nothing, Noise(range(a.n)), y, n))
                )
                times.append(took)
            rows[guidance, naive], drawn[guidance, naive] = min(times), out
        same = float((drawn[guidance, True] == drawn[guidance, False]).float().mean())
        cached, full = rows[guidance, False], rows[guidance, True]
        print(
            f"guidance {guidance:g}: cached {cached:.3f} s, full pass {full:.3f} s: {full / cached:.1f} times"
        )
        print(f"    {same:.2%} of codes are the same")
    print(
        json.dumps(
            dict(vars(a), times={f"{g:g} {'full' if n else 'cached'}": t for (g, n), t in rows.items()})
        )
    )


if __name__ == "__main__":
    main()
