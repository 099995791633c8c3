"""Training steps a second of our DCGAN and of the same networks as they are commonly written
(public_dcgan.py).

    python benchmarks/dcgan_training.py --data shapes --seconds 20

Ours goes through its whole loop, as a user calls it: fit(run, data) with log, EMA, clipping and NaN guard.
Theirs: a DataLoader over a TensorDataset of images that are decoded already, fp32, the step of the paper, no
more.  Both begin with the same weights and must give the same first losses of both players before a clock
starts; theirs have no biases, so ours begin at 0.  They take turns in one process, whose allocator is set as
ours likes it, each with every number of threads that is asked for; the best of these counts for either side.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import public_dcgan
import torch
import torch.nn.functional as F
from measure import heading, machine, ours, spread, table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from likeness import data as datasets
from likeness import engine, models
from likeness.core import Batch
from likeness.data import Data
from likeness.runs.run import Config, Run

USUAL = "as commonly written"
LATENT, RATE = 100, 2e-4
WARM = 2
"""steps before the clock starts, the first time"""


def begin(precision: str, data: Data, args: argparse.Namespace, folder: Path) -> Run:
    """Our run; every weight that theirs lacks is 0."""
    kind = models.load("gan")
    training = replace(kind.defaults, batch=args.batch, rate=RATE, images=10**12, precision=precision)
    options = dict(net="dcgan", latent=LATENT, width=args.width, beta2=0.999)
    run = Run.create(folder, Config("gan", data.spec, engine.settle(training, data.spec), options))
    for module in run.student.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return run


def twins(run: Run, args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """Their G and D with our weights, which come in the same order; what is a linear map of ours is a
    convolution there."""
    m: Any = run.student
    G, D = public_dcgan.generator(LATENT, args.width), public_dcgan.discriminator(args.width)
    with torch.no_grad():
        for theirs, ours in ((G, m.G), (D, m.D)):
            for a, b in zip(weighty(ours), weighty(theirs), strict=True):
                w = a.weight.T if isinstance(b, nn.ConvTranspose2d) and isinstance(a, nn.Linear) else a.weight
                b.weight.copy_(w.reshape(b.weight.shape))
                if isinstance(b, nn.BatchNorm2d):
                    b.bias.copy_(a.bias)
    return G.to(engine.device()), D.to(engine.device())


def weighty(net: nn.Module) -> list[Any]:
    return [
        m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d)
    ]


def compare_losses(run: Run, G: nn.Module, D: nn.Module, data: Data) -> str:
    """Of D and of G, at the first weights and the same z; both sides must agree."""

    def first() -> Batch:
        return engine.put(data.batch(0, 0, 16))

    m: Any = run.student
    with torch.no_grad():
        mine = [float(m.discriminator_loss(first()).total), float(m.generator_loss(first()).total)]
        batch, z = first(), first().noise.normal(LATENT)[..., None, None]
        real, drawn = D(batch.x).view(-1), D(G(z)).view(-1)
        one, nil = torch.ones_like(real), torch.zeros_like(real)
        other = [
            float(F.binary_cross_entropy(real, one) + F.binary_cross_entropy(drawn, nil)),
            float(F.binary_cross_entropy(drawn, one)),
        ]
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(mine, other)):
        sys.exit(f"the networks differ: losses {mine} of ours, {other} of theirs")
    return ", ".join(f"{value:.4f}" for value in mine)


def batches(data: Data, size: int) -> Iterator[Tensor]:
    """Of a large set the first images, which is all that can be seen meanwhile."""
    x = data.take(data.train[:4_000]).x.contiguous()
    loader = DataLoader(TensorDataset(x), size, shuffle=True, drop_last=True)
    while True:
        yield from (x.to(engine.device()) for (x,) in loader)


def rate(steps: Iterator[int], seconds: float, batch: int) -> float:
    """Steps a second."""
    first = next(steps)
    engine.synchronise()
    began = now = time.perf_counter()
    while now - began < seconds:
        seen = next(steps)
        if not engine.cuda() or seen // batch % 16 == 0:
            engine.synchronise()
            now = time.perf_counter()
    engine.synchronise()
    return (seen - first) / batch / (time.perf_counter() - began)


def compare(data: Data, args: argparse.Namespace) -> list[list[str]]:
    precisions = list(dict.fromkeys(["fp32", "bf16" if engine.native_bf16() else "fp32"]))
    with tempfile.TemporaryDirectory() as folder:
        runs = {p: begin(p, data, args, Path(folder, p)) for p in precisions}
        G, D = twins(runs["fp32"], args)
        losses = compare_losses(runs["fp32"], G, D, data)
        sides = {USUAL: public_dcgan.train(G, D, batches(data, args.batch), LATENT, RATE)} | {
            f"likeness {p}": ours(run, data) for p, run in runs.items()
        }
        for steps in sides.values():
            for _ in range(WARM):
                next(steps)
        rates: dict[str, dict[int, list[float]]] = {name: {n: [] for n in args.threads} for name in sides}
        for _ in range(args.rounds):
            for threads in args.threads:
                torch.set_num_threads(threads)
                for name, steps in sides.items():
                    rates[name][threads].append(rate(steps, args.seconds, args.batch))
                    print(
                        f"{name:20}{threads} threads {rates[name][threads][-1]:8.3f} steps/s",
                        file=sys.stderr,
                        flush=True,
                    )
        for run in runs.values():
            run.close()
    weights = {
        name: sum(p.numel() for net in nets for p in net.parameters())
        for name, nets in ((USUAL, (G, D)), ("ours", (runs["fp32"].student,)))
    }
    best = {
        name: max(found.items(), key=lambda pair: statistics.median(pair[1])) for name, found in rates.items()
    }
    base = best[USUAL][1]
    return [
        [
            name,
            str(threads),
            f"{weights.get(name, weights['ours']):,}",
            losses,
            spread(found, 3),
            spread([a / b for a, b in zip(found, base)], 2),
        ]
        for name, (threads, found) in best.items()
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="shapes", help="images in colour, which are brought to 64x64")
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64, help="channels of the largest layer")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[torch.get_num_threads()], help="the best of these counts"
    )
    return parser.parse_args()


def main() -> None:
    args, load = arguments(), machine()
    engine.start()
    data = datasets.load(args.data, size=64, colour="rgb")
    rows = compare(data, args)
    print(
        f"{heading(load)}\n\n{args.data}, 3x64x64, batch {args.batch}, {args.rounds} rounds of "
        f"{args.seconds:g} s: median (min-max)\n"
    )
    print(
        table(
            ["side", "threads", "weights", "first losses of D and G", "steps/s", "ratio, round by round"],
            rows,
        )
    )


if __name__ == "__main__":
    main()
