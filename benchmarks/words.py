"""How far samples follow their text, against guidance; few steps against many; one pass against two.

    python benchmarks/words.py RUN [RUN ...] [--n 256] [--guidance 1,2,3,4,6,8] [--steps 10,250]
    python benchmarks/words.py --speed [--n 1,4,16,64] [--size 32] [--rounds 7]

The first, of runs on `shapes` or `moving-shapes` that read texts: samples of n held-out captions, and of n
captions of combinations that no training image has, are read from the pixels (evaluation/captions.py); "all"
is the share that has all attributes right, in per cent, with its standard error; "diversity" the root mean
squared difference, in levels, of samples of one text.  --steps is compared at the guidance that is best.  The
second takes alternating rounds.
Prints tables and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likeness
from likeness import models
from likeness.core import Condition, Spec
from likeness.evaluation import captions
from likeness.inference import sampling
from likeness.metrics import neighbours


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


class Asked:
    """A run, with the texts that it is asked for."""

    def __init__(self, folder: Path, n: int, seed: int):
        self.run, self.seed = likeness.open(folder), seed
        self.data = self.run.data
        self.kind = captions.kind(self.data)
        if not self.kind or "tokens" not in self.run.model.takes:
            raise SystemExit(f"{folder}: no run on shapes or moving-shapes that reads texts")
        held, new = self.data.held_out, self.data.combinations
        self.rows = {"trained": held[:n]} | ({} if new is None or not len(new) else {"new": new[:n]})
        self.twice = np.repeat(held[:16], 8)

    def drawn(self, rows: np.ndarray, live: dict[str, Any]) -> np.ndarray:
        y = self.data.take(rows).y
        assert y is not None
        model = sampling.tuned(self.run.model, **live)
        states = sampling.draw(model, y.only(model.takes), len(rows), self.seed)
        return np.concatenate(
            [neighbours.grid(x.numpy(), self.data.levels) for x in sampling.batches(states)]
        )

    def measure(self, **live: Any) -> dict[str, Any]:
        out: dict[str, Any] = dict(live)
        read, _ = captions.SETS[self.kind]
        for name, rows in self.rows.items():
            began = time.process_time()
            x = self.drawn(rows, live)
            out[f"{name} s/image"] = (time.process_time() - began) / len(rows)
            values = captions.agreements(read(x), captions.wanted_of(self.data, rows))
            out[name] = {key: float(np.nanmean(v)) for key, v in values.items()}
            share = out[name][captions.ALL]
            out[f"{name} error"] = (share * (1 - share) / len(rows)) ** 0.5
        flat = self.drawn(self.twice, live).astype(np.float32).reshape(16, 8, -1)
        out["diversity"] = float(captions._apart(flat).mean())
        return out


def line(label: str, row: dict[str, Any]) -> str:
    parts = row["trained"]
    cells = [f"{100 * parts[captions.ALL]:5.1f} +- {100 * row['trained error']:.1f}"]
    cells += (
        [f"{100 * row['new'][captions.ALL]:5.1f} +- {100 * row['new error']:.1f}"] if "new" in row else ["-"]
    )
    cells += [f"{100 * v:4.0f}" for k, v in parts.items() if k != captions.ALL]
    return " | ".join([f"| {label}", *cells, f"{row['diversity']:.1f}", f"{row['trained s/image']:.3f} |"])


def follow(folders: list[Path], a: argparse.Namespace) -> list[dict[str, Any]]:
    out = []
    for folder in folders:
        asked = Asked(folder, a.n, a.seed)
        title = f"{asked.run.config.model}, {asked.run.run.seen:,} images seen"
        print(f"\n{folder}: {title}; {len(asked.rows['trained'])} texts each")
        rows = list[dict[str, Any]]()
        for w in numbers(a.guidance):
            rows.append(asked.measure(guidance=w))
            if len(rows) == 1:
                each = [k for k in rows[0]["trained"] if k != captions.ALL]
                print(f"| guidance | all | all, new | {' | '.join(each)} | diversity | CPU s/image |")
                print("|---" * (5 + len(each)) + "|")
            print(line(f"{w:g}", rows[-1]), flush=True)
        best = max(rows, key=lambda row: row["trained"][captions.ALL])["guidance"]
        if a.steps and hasattr(asked.run.model, "steps"):
            for steps in numbers(a.steps):
                rows.append(asked.measure(guidance=best, steps=int(steps)))
                print(line(f"{best:g}, {int(steps)} steps", rows[-1]), flush=True)
        out.append(
            dict(run=str(folder), model=asked.run.config.model, seen=asked.run.run.seen, n=a.n, rows=rows)
        )
    return out


def two(model: Any, x: torch.Tensor, t: torch.Tensor, y: Condition) -> torch.Tensor:
    nothing, told = model.predict(x, t, None), model.predict(x, t, y)
    return torch.lerp(nothing, told, model.guidance).clamp(-1, 1)


def one(model: Any, x: torch.Tensor, t: torch.Tensor, y: Condition) -> torch.Tensor:
    out: torch.Tensor = model.denoise(x, t, y)
    return out


def speed(a: argparse.Namespace) -> list[dict[str, Any]]:
    """Of the median round: two passes, one with the text and one without, against one of both."""
    torch.set_num_threads(a.threads)
    device, out = torch.device(a.device), []
    spec = Spec(3, a.size, vocabulary=34, tokens=30)
    print("| network | images | two passes, ms | one pass, ms | times |\n|---|---|---|---|---|")
    for net in ("patches", "dit"):
        torch.manual_seed(0)
        model = models.load("flowmatching")(spec=spec, net=net, text=True).to(device).eval()
        model.to(memory_format=torch.channels_last)
        for n in (int(v) for v in numbers(str(a.n))):
            x = torch.randn(n, 3, a.size, a.size, device=device).to(memory_format=torch.channels_last)
            t, y = (
                torch.full((n,), 0.5, device=device),
                Condition(tokens=torch.randint(2, 34, (n, 30), device=device)),
            )
            model.guidance = 3.0

            with torch.no_grad():
                assert torch.allclose(two(model, x, t, y), one(model, x, t, y), atol=1e-4)
                took: dict[Any, list[float]] = {two: [], one: []}
                for _ in range(a.rounds):
                    for work, times in took.items():
                        if device.type == "cuda":
                            torch.cuda.synchronize()
                        began = time.perf_counter()
                        work(model, x, t, y)
                        if device.type == "cuda":
                            torch.cuda.synchronize()
                        times.append(1000 * (time.perf_counter() - began))
            both, single = (statistics.median(times) for times in took.values())
            print(f"| {net} | {n} | {both:.1f} | {single:.1f} | {both / single:.2f} |", flush=True)
            out.append(dict(net=net, n=n, two=both, one=single))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="*", type=Path)
    p.add_argument("--speed", action="store_true")
    p.add_argument("--n", default=None)
    p.add_argument("--guidance", default="1,2,3,4,6,8")
    p.add_argument("--steps", default="10,250")
    p.add_argument("--device", default="cpu")
    for name, value in dict(seed=0, size=32, threads=1, rounds=7).items():
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    if a.speed:
        a.n = a.n or "1,4,16,64"
        rows = speed(a)
    else:
        a.n = int(a.n or 256)
        rows = follow(a.runs, a)
    print(json.dumps(dict(asked={k: str(v) for k, v in vars(a).items()}, results=rows)))


if __name__ == "__main__":
    main()
