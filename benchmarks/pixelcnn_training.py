"""Training images a second of our PixelCNN and of the same network as it is commonly written
(public_pixelcnn.py).

    python benchmarks/pixelcnn_training.py --data mnist --seconds 20

Ours goes through its whole loop, as a user calls it: fit(run, data) with log, EMA, clipping and NaN guard.
Theirs: a DataLoader over a TensorDataset, cross-entropy, Adam, fp32, no more.  Both begin with the same
weights, and must give the same loss before a clock starts.  They take turns in one process, whose allocator
and threads are set as ours likes them.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import public_pixelcnn
import torch
import torch.nn.functional as F
from measure import heading, machine, ours, spread, table
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from likeness import data as datasets
from likeness import engine, models
from likeness.data import Data
from likeness.parts.causal import CausalConv
from likeness.parts.conditionals import level
from likeness.runs.run import Config, Run

THEIRS = {"gated": public_pixelcnn.GatedPixelCNN, "plain": public_pixelcnn.PixelCNN}
WARM = 5
"""steps before the clock starts, the first time"""


def begin(net: str, precision: str, data: Data, args: argparse.Namespace, folder: Path) -> Run:
    kind = models.load("pixelcnn")
    training = replace(
        kind.defaults, batch=args.batch, rate=args.rate, warmup=0, images=10**12, precision=precision
    )
    return Run.create(
        folder, Config("pixelcnn", data.spec, engine.settle(training, data.spec), dict(net=net))
    )


def twin(run: Run) -> nn.Module:
    """Their network with our weights: the layers come in the same order, and of their kernels only the part
    that is not masked is ours."""
    m: Any = run.student
    theirs = THEIRS[m.net](m.width, m.depth, m.kernel, m.first, m.spec.levels)
    pairs = zip(convolutions(m, CausalConv), convolutions(theirs, nn.Conv2d), strict=True)
    with torch.no_grad():
        for a, b in pairs:
            high, wide = a.weight.shape[2:]
            b.weight.zero_()
            b.weight[:, :, :high, :wide] = a.masked
            b.bias.copy_(a.bias)
    return theirs.to(engine.device())


def convolutions(net: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in net.modules() if isinstance(m, kind)]


def set_of(data: Data) -> TensorDataset:
    """Images in [-1, 1] and the levels to be predicted; of a large set the first ones, which is all that can
    be seen meanwhile."""
    x = data.take(data.train[:10_000]).x
    return TensorDataset(x, level(x, data.levels)[:, 0])


def train(net: nn.Module, images: TensorDataset, args: argparse.Namespace) -> Iterator[int]:
    """Yields images seen after each step."""
    loader = DataLoader(images, args.batch, shuffle=True, drop_last=True)
    optimizer, device, seen = torch.optim.Adam(net.parameters(), args.rate), engine.device(), 0
    while True:
        for x, target in loader:
            x, target = x.to(device), target.to(device)
            loss = F.cross_entropy(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(x)
            yield seen


def compare_losses(run: Run, theirs: nn.Module, images: TensorDataset) -> float:
    """Nats a sub-pixel of both, which must agree."""
    x, target = (t.to(engine.device()) for t in images[:64])
    with torch.no_grad():
        ours, other = float(run.student.surprise(x).mean()), float(F.cross_entropy(theirs(x), target))
    if not math.isclose(ours, other, rel_tol=1e-4):
        sys.exit(f"the networks differ: {ours:.6f} nats a pixel of ours, {other:.6f} of theirs")
    return ours


def rate(steps: Iterator[int], seconds: float) -> float:
    first = next(steps)
    engine.synchronise()
    began = now = time.perf_counter()
    while now - began < seconds:
        seen = next(steps)
        if not engine.cuda() or seen // 64 % 16 == 0:
            engine.synchronise()
            now = time.perf_counter()
    engine.synchronise()
    return (seen - first) / (time.perf_counter() - began)


def compare(net: str, data: Data, args: argparse.Namespace) -> list[list[str]]:
    images = set_of(data)
    precisions = list(dict.fromkeys(["fp32", "bf16" if engine.native_bf16() else "fp32"]))
    with tempfile.TemporaryDirectory() as folder:
        runs = {p: begin(net, p, data, args, Path(folder, p)) for p in precisions}
        other = twin(runs["fp32"])
        nats = compare_losses(runs["fp32"], other, images)
        sides = {"as commonly written": train(other, images, args)} | {
            f"likeness {p}": ours(run, data) for p, run in runs.items()
        }
        for steps in sides.values():
            for _ in range(WARM):
                next(steps)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, steps in sides.items():
                rates[name].append(rate(steps, args.seconds))
                print(f"{net:6}{name:20}{rates[name][-1]:,.0f} images/s", file=sys.stderr, flush=True)
        for run in runs.values():
            run.close()
    weights = {
        name: sum(p.numel() for p in m.parameters())
        for name, m in (("theirs", other), ("ours", runs["fp32"].student))
    }
    base = rates["as commonly written"]
    return [
        [
            net,
            name,
            f"{weights['theirs' if values is base else 'ours']:,}",
            f"{nats:.4f}",
            spread(values),
            spread([a / b for a, b in zip(values, base)], 2),
        ]
        for name, values in rates.items()
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", help="grey images: mnist, fashion-mnist, digits")
    parser.add_argument("--binarize", action="store_true", help="black and white: 2 levels instead of 256")
    parser.add_argument("--nets", nargs="+", default=list(THEIRS), choices=list(THEIRS))
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=0, help="0 is torch's own number")
    return parser.parse_args()


def main() -> None:
    args, load = arguments(), machine()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine.start()
    data = datasets.load(args.data, binarize=args.binarize)
    rows = [row for net in args.nets for row in compare(net, data, args)]
    print(
        f"{heading(load)}\n\n{args.data}, {data.levels} levels, batch {args.batch}, Adam {args.rate:g}, "
        f"{torch.get_num_threads()} threads, ",
        end="",
    )
    print(f"{args.rounds} rounds of {args.seconds:g} s: median (min-max)\n")
    print(
        table(
            ["net", "side", "weights kept", "first loss, nats a pixel", "images/s", "ratio, round by round"],
            rows,
        )
    )


if __name__ == "__main__":
    main()
