"""Training images a second of our DDPM, of the same U-Net in diffusers, and of the same as it is commonly
written (public_unet.py).

    pip install diffusers; python benchmarks/unet_training.py --data fashion-mnist --seconds 20

Ours goes through its whole loop, as a user calls it: fit(run, data) with log, EMA, clipping and NaN guard.
The other two get batches of images that are decoded already; diffusers' steps are those of its example
train_unconditional.py (AdamW, clipping, cosine rate, no EMA).  All three begin with the same weights and must
give the same outputs before a clock starts. They take turns in one process, whose allocator and threads are
set as ours likes them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import public_unet
import torch
import torch.nn.functional as F
from measure import heading, machine, ours, spread, table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from likeness import data as datasets
from likeness import engine, models
from likeness.data import Data
from likeness.runs.diffusers import config_of, named
from likeness.runs.run import Config, Run

USUAL, LIBRARY = "as commonly written", "diffusers"
WARM = 2
"""steps before the clock starts, the first time"""


def begin(precision: str, data: Data, args: argparse.Namespace, folder: Path) -> Run:
    """Our run; what begins at zero is drawn, or all networks would give the same."""
    kind = models.load("ddpm")
    training = replace(
        kind.defaults, batch=args.batch, rate=args.rate, warmup=0, images=10**12, precision=precision
    )
    run = Run.create(
        folder,
        Config(
            "ddpm",
            data.spec,
            engine.settle(training, data.spec),
            dict(net="unet", scale=args.scale, beta="linear"),
        ),
    )
    with torch.no_grad():
        for p in run.student.parameters():
            if not p.any():
                p.normal_(std=0.01, generator=torch.Generator(p.device).manual_seed(p.numel()))
    return run


def library(net: Any, size: int) -> nn.Module | None:
    """The same network in diffusers, if it is there."""
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError:
        print("diffusers is not installed: its side is left out", file=sys.stderr)
        return None
    config = config_of(net.plan, size)
    config.pop("_class_name")
    return diffusers.UNet2DModel(**config)


def twins(net: Any, size: int) -> dict[str, nn.Module]:
    """The other sides' networks, with our weights."""
    p = net.plan
    found = {
        USUAL: public_unet.Unet(p.inside, p.channels, p.attention, p.blocks, p.groups, p.head),
        LIBRARY: library(net, size),
    }
    for other in found.values():
        if other is not None:
            other.load_state_dict(dict(named(net)))
    return {name: other.to(engine.device()).train() for name, other in found.items() if other is not None}


def says(name: str, net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return net(x, t).sample if name == LIBRARY else net(x, t)


@torch.no_grad()
def compare_outputs(net: nn.Module, others: dict[str, nn.Module], x: Tensor) -> None:
    t = torch.arange(len(x), device=x.device) * 900 // len(x)
    want = net(x, t.float())
    for name, other in others.items():
        far = float((says(name, other, x, t) - want).abs().max() / want.abs().max())
        if not far < 1e-3:
            sys.exit(f"the networks differ: ours and that of {name} by {far:.1e}")


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    loader = DataLoader(images, size, shuffle=True, drop_last=True)
    while True:
        for x in loader:
            yield x.to(engine.device())


def example(net: nn.Module, images: Iterator[Tensor], rate: float) -> Iterator[int]:
    """The steps of diffusers' train_unconditional.py; yields images seen."""
    scheduler = importlib.import_module("diffusers").DDPMScheduler(num_train_timesteps=1000)
    optimizer, seen = (
        torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8),
        0,
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100_000)
    for clean in images:
        noise, t = torch.randn_like(clean), torch.randint(0, 1000, (len(clean),), device=clean.device)
        loss = F.mse_loss(net(scheduler.add_noise(clean, noise, t), t).sample, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
        seen += len(clean)
        yield seen


def rate(steps: Iterator[int], seconds: float) -> float:
    first = next(steps)
    engine.synchronise()
    began = now = time.perf_counter()
    while now - began < seconds:
        seen = next(steps)
        engine.synchronise()
        now = time.perf_counter()
    return (seen - first) / (now - began)


def compare(data: Data, args: argparse.Namespace) -> list[list[str]]:
    images = data.take(data.train[:10_000]).x
    precisions = ["fp32", "bf16"] if engine.native_bf16() else ["fp32"]
    with tempfile.TemporaryDirectory() as folder:
        runs = {p: begin(p, data, args, Path(folder, p)) for p in precisions}
        net: Any = runs["fp32"].student.network
        others = twins(net, data.spec.size)
        compare_outputs(net, others, images[:8].to(engine.device()))
        sides = {
            name: (example if name == LIBRARY else public_unet.train)(
                other, batches(images, args.batch), args.rate
            )
            for name, other in others.items()
        }
        sides |= {f"likeness {p}": ours(run, data) for p, run in runs.items()}
        for steps in sides.values():
            for _ in range(WARM):
                next(steps)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, steps in sides.items():
                rates[name].append(rate(steps, args.seconds))
                print(f"{name:20}{rates[name][-1]:,.1f} images/s", file=sys.stderr, flush=True)
        for run in runs.values():
            run.close()
    weights = f"{sum(p.numel() for p in net.parameters()):,}"
    ratios = {
        base: [spread([a / b for a, b in zip(values, rates[base])], 2) for values in rates.values()]
        for base in others
    }
    return [
        [name, weights, spread(values, 1), *(ratios[base][i] for base in others)]
        for i, (name, values) in enumerate(rates.items())
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="fashion-mnist",
        help="images whose size can be halved evenly: mnist, fashion-mnist, cifar10",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the network, as in --scale of ddpm")
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=0, help="0 is torch's own number")
    return parser.parse_args()


def main() -> None:
    args, load = arguments(), machine()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine.start()
    data = datasets.load(args.data)
    rows = compare(data, args)
    print(
        f"{heading(load)}\n\n{args.data}, batch {args.batch}, {torch.get_num_threads()} threads, "
        f"{args.rounds} rounds of {args.seconds:g} s: median (min-max)\n"
    )
    print(
        table(
            [
                "side",
                "weights",
                "images/s",
                *(f"to {name}, round by round" for name in (USUAL, LIBRARY)[: len(rows[0]) - 3]),
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
