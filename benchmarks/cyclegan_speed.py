"""Training steps a second of cyclegan beside the same networks trained in the usual way.

    OMP_NUM_THREADS=1 python benchmarks/cyclegan_speed.py --size 64 --batch 4 --width 16 --blocks 6
    OMP_NUM_THREADS=1 python benchmarks/cyclegan_speed.py --norms

usual: plain PyTorch as it is written in public: modules of torch.nn (InstanceNorm2d, ReflectionPad2d), each
generator called once for each term, fakes drawn anew for the discriminators, four passes of these, a pool in
Python, Adam.  shared: the same, but with fakes drawn once, as in the authors' code.  Ours is the training loop
as `likeness train cyclegan` has it, with its EMA and its log.  All begin with the same weights, whose first
losses are compared, and take turns in one process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness import engine, models
from likeness.data import Data
from likeness.parts.norms import InstanceNorm
from likeness.runs.run import Config, Run
from likeness.training import loop


# As it is usually written


def norm(c: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(c, affine=True)


class Block(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        conv = lambda: [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=False), norm(c)]  # noqa: E731
        self.layers = nn.Sequential(*conv(), nn.ReLU(inplace=True), *conv())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def generator(inside: int, outside: int, width: int, blocks: int) -> nn.Sequential:
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(inside, width, 7, bias=False), norm(width), nn.ReLU(True)]
    for c in (width, 2 * width):
        down = nn.Conv2d(c, 2 * c, 3, stride=2, bias=False)
        layers += [nn.ReflectionPad2d(1), down, norm(2 * c), nn.ReLU(True)]
    layers += [Block(4 * width) for _ in range(blocks)]
    for c in (2 * width, width):
        layers += [nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False), norm(c), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outside, 7), nn.Tanh())


def discriminator(inside: int, width: int, depth: int) -> nn.Sequential:
    layers = [nn.Conv2d(inside, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    c = width
    for k in range(1, depth + 1):
        after = width * min(8, 1 << k)
        layers += [nn.Conv2d(c, after, 4, 2 if k < depth else 1, 1, bias=False), norm(after)]
        layers += [nn.LeakyReLU(0.2, True)]
        c = after
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


class Usual:
    """A step of CycleGAN, one call after another."""

    def __init__(self, ours: Any, rate: float, cycle: float, identity: float, pool: int, shared: bool):
        a, b = ours.spec.source[0], ours.spec.channels
        layers = sum(isinstance(m, nn.Conv2d) for m in ours.D_A) - 2
        self.G, self.F = (generator(*io, ours.width, ours.blocks) for io in ((a, b), (b, a)))
        self.D_A, self.D_B = (discriminator(c, ours.width, layers) for c in (a, b))
        for name in ("G", "F", "D_A", "D_B"):
            same_weights(getattr(self, name), getattr(ours, name))
        both = itertools.chain(self.G.parameters(), self.F.parameters())
        self.optimizer_G = torch.optim.Adam(both, rate, (0.5, 0.999))
        both = itertools.chain(self.D_A.parameters(), self.D_B.parameters())
        self.optimizer_D = torch.optim.Adam(both, rate, (0.5, 0.999))
        self.cycle, self.identity, self.shared = cycle, identity, shared
        self.pools: list[list[Tensor]] = [[], []]
        self.size = pool

    def query(self, pool: list[Tensor], images: Tensor) -> Tensor:
        out = []
        for image in images.detach():
            if len(pool) < self.size:
                pool.append(image)
                out.append(image)
            elif random.random() < 0.5:
                k = random.randrange(self.size)
                out.append(pool[k])
                pool[k] = image
            else:
                out.append(image)
        return torch.stack(out)

    def step(self, a: Tensor, b: Tensor, cast: Callable[[], Any]) -> dict[str, float]:
        D = [*self.D_A.parameters(), *self.D_B.parameters()]
        for p in D:
            p.requires_grad_(False)
        self.optimizer_G.zero_grad()
        with cast():
            fake_b, fake_a = self.G(a), self.F(b)
            judged_b, judged_a = self.D_B(fake_b), self.D_A(fake_a)
            loss = F.mse_loss(judged_b.float(), torch.ones_like(judged_b).float())
            loss = loss + F.mse_loss(judged_a.float(), torch.ones_like(judged_a).float())
            loss = loss + self.cycle * (F.l1_loss(self.F(fake_b), a) + F.l1_loss(self.G(fake_a), b))
            if self.identity:
                loss = loss + self.identity * (F.l1_loss(self.G(b), b) + F.l1_loss(self.F(a), a))
        loss.backward()
        self.optimizer_G.step()
        for p in D:
            p.requires_grad_(True)
        self.optimizer_D.zero_grad()
        with cast():
            if not self.shared:
                fake_b, fake_a = self.G(a).detach(), self.F(b).detach()
            losses = []
            for net, real, fake, pool in (
                (self.D_A, a, fake_a, self.pools[0]),
                (self.D_B, b, fake_b, self.pools[1]),
            ):
                judged, false = net(real), net(self.query(pool, fake))
                loss_D = F.mse_loss(judged.float(), torch.ones_like(judged).float())
                losses.append((loss_D + F.mse_loss(false.float(), torch.zeros_like(false).float())) / 2)
        sum(losses).backward()
        self.optimizer_D.step()
        return dict(generator=loss.item(), discriminator=float(sum(losses)))


def same_weights(one: nn.Module, other: nn.Module) -> None:
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        for p, q in pairs:
            p.copy_(q.reshape(p.shape))


# Side by side


def images(n: int, size: int, seed: int) -> Data:
    x = np.random.default_rng(seed).integers(0, 256, (n, 3, size, size)).astype(np.uint8)
    return Data("noise", str(seed), x, np.arange(n), np.arange(0))


def compare(args: argparse.Namespace, precision: str) -> dict[str, Any]:
    data = images(256, args.size, 0).with_domain(images(256, args.size, 1))
    kind = models.load("cyclegan")
    options = dict(width=args.width, blocks=args.blocks, identity=args.identity)
    training = replace(
        kind.defaults, batch=args.batch, precision=precision, images=10**9, schedule="constant"
    )
    built = kind(spec=data.spec, **options)
    config = Config("cyclegan", data.spec, training, built.options(), data.identity, engine.facts())
    cast = (lambda: torch.autocast("cpu", torch.bfloat16)) if precision == "bf16" else (lambda: nullcontext())
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", config)
        more = (training.rate, run.student.cycle, args.identity, run.student.pool)
        sides = {name: Usual(run.student, *more, name == "shared") for name in ("usual", "shared")}
        steps = loop.fit(run, data, save_every=1e9)
        first = next(steps).losses
        batch = data.batch(training.seed, 0, args.batch)
        beside = {name: side.step(batch.y.image, batch.x, cast) for name, side in sides.items()}
        seen = {name: itertools.count(1) for name in sides}

        def one(name: str) -> None:
            if name == "ours":
                next(steps)
                return
            batch = data.batch(training.seed, next(seen[name]) * args.batch, args.batch)
            sides[name].step(batch.y.image, batch.x, cast)

        times: dict[str, list[float]] = {name: [] for name in ("ours", *sides)}
        for _ in range(args.rounds):
            for name, taken in times.items():
                began = time.process_time()
                for _ in range(args.steps):
                    one(name)
                taken.append((time.process_time() - began) / args.steps)
        run.close()
    median = {name: float(np.median(taken)) for name, taken in times.items()}
    return dict(
        precision=precision,
        first=dict(ours={k: first[k] for k in ("generator", "discriminator")}, **beside),
        steps_per_second={name: 1 / seconds for name, seconds in median.items()},
        ratio={name: median[name] / median["ours"] for name in sides},
        rounds=times,
    )


def norms(steps: int = 20) -> Iterator[dict[str, Any]]:
    """Milliseconds of InstanceNorm and of F.instance_norm, forth and back, channels last."""
    for shape in ((8, 16, 32, 32), (8, 64, 8, 8), (4, 64, 64, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            layout = torch.channels_last
            x = torch.randn(shape).to(dtype).to(memory_format=layout).requires_grad_()
            up, ours = torch.randn(shape).to(dtype).to(memory_format=layout), InstanceNorm(shape[1])
            functions = dict(
                ours=ours, usual=lambda x: F.instance_norm(x, weight=ours.weight, bias=ours.bias)
            )
            times: dict[str, list[float]] = {name: [] for name in functions}
            for _ in range(7):
                for name, f in functions.items():
                    began = time.process_time()
                    for _ in range(steps):
                        f(x).backward(up)
                    times[name].append((time.process_time() - began) / steps * 1e3)
            row = {name: float(np.median(taken)) for name, taken in times.items()}
            yield dict(shape=shape, dtype=str(dtype), **row, ratio=row["usual"] / row["ours"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--norms", action="store_true", help="time the normalisation alone")
    for name, value in dict(size=64, batch=4, width=16, blocks=6, rounds=7, steps=5).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--identity", type=float, default=0.0, help="weight of the identity loss, on both sides"
    )
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.norms:
        for row in norms():
            print(json.dumps(row), flush=True)
        return
    for precision in args.precision:
        row = compare(args, precision)
        print(json.dumps(row), flush=True)
        rates = {name: f"{rate:.2f}" for name, rate in row["steps_per_second"].items()}
        print(precision, rates, "ratio", {name: f"{ratio:.2f}" for name, ratio in row["ratio"].items()})


if __name__ == "__main__":
    main()
