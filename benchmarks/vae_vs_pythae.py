"""Training images a second of our VAE and of pythae's: same networks, first weights, data, batch, optimiser
and likelihood.

    python benchmarks/vae_vs_pythae.py --data mnist --seconds 20

Both go through their own whole loop, as a user calls it: TrainingPipeline with BaseTrainerConfig there,
fit(run, data) with log, EMA, clipping and NaN guard here.  Each measurement is a process of its own; first
each side's settings are tried one after another, then the best of both take turns.  The images that a side
has seen are counted between the end of its first steps and the end of the time.  At the end both train on the
same number of images, and the held-out bound of both is computed by the same code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

WARM = 30
"""steps before the clock starts"""
SIDES = ("pythae", "likeness")
NETS = {
    "mlp": dict(net="mlp", latent=32, hidden=400, depth=2),
    "conv": dict(net="conv", latent=32),
    "wide": dict(net="conv", latent=32, width=32),
}


@dataclass(frozen=True)
class Setting:
    """One measurement: what is trained, and how its side is set up."""

    side: str
    net: str
    data: str
    batch: int
    rate: float
    threads: int = 2
    waiting: str = "PASSIVE"
    """what threads do between two operations: PASSIVE or ACTIVE"""
    precision: str = "fp32"
    workers: int = 0
    fused: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        own = (
            self.precision + ", compiled" * self.compiled
            if self.side == "likeness"
            else f"fp32, {self.workers} workers, {'fused' if self.fused else 'default'} AdamW"
        )
        return (
            f"{self.threads} "
            f"thread{'s' * (self.threads > 1)}{'' if self.waiting == 'PASSIVE' else ' (spinning)'}, {own}"
        )

    def measure(self, seconds: float = 0.0, images: int = 0) -> dict[str, float]:
        """Run it in a process of its own for some seconds, or for some images."""
        # A progress bar that is not drawn costs pythae nothing; tqdm reads this when it is first imported,
        # and torch imports it.
        env = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": self.waiting,
            "CUDA_VISIBLE_DEVICES": "",
            "TQDM_DISABLE": "1",
        }
        one = json.dumps(asdict(self) | dict(seconds=seconds, images=images))
        done = subprocess.run(
            [sys.executable, __file__, "--one", one], env=env, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{self.side} ({self}) failed:\n{done.stderr}")
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result


# One measurement, in its own process


class Clock:
    """tick(images seen) after each step; True when it is over."""

    def __init__(self, batch: int, seconds: float, images: int):
        self.warm, self.seconds, self.images = batch * WARM, seconds, images
        self.began = self.first = self.seen = self.now = 0.0

    def tick(self, seen: int) -> bool:
        self.seen, self.now = seen, time.perf_counter()
        if seen >= self.warm and not self.began:
            self.began, self.first = self.now, seen
        return (
            seen >= self.images if self.images else bool(self.began) and self.now - self.began >= self.seconds
        )

    def rate(self) -> float:
        return (self.seen - self.first) / (self.now - self.began) if self.now > self.began else 0.0


def one(wish: dict[str, Any]) -> dict[str, float]:
    import torch

    from likeness import data as datasets

    seconds, images = wish.pop("seconds"), wish.pop("images")
    setting = Setting(**wish)
    torch.set_num_threads(setting.threads)
    data = datasets.load(setting.data, binarize=True)
    clock = Clock(setting.batch, seconds, images)
    model = (ours if setting.side == "likeness" else theirs)(setting, data, clock.tick)
    return dict(images_per_second=clock.rate(), seen=clock.seen, bound=bound(model, data) if images else 0.0)


def start(setting: Setting, data: Any, folder: Path) -> Any:
    """Our run at its first weights; pythae gets a copy of them."""
    from likeness import models
    from likeness.runs.run import Config, Run

    kind = models.load("vae")
    training = replace(
        kind.defaults,
        batch=setting.batch,
        rate=setting.rate,
        warmup=0,
        images=10**12,
        precision=setting.precision,
        compile=setting.compiled,
    )
    return Run.create(folder, Config("vae", data.spec, training, NETS[setting.net]))


def ours(setting: Setting, data: Any, tick: Callable[[int], bool]) -> Any:
    from likeness import engine
    from likeness.training.loop import fit

    engine.start()

    with tempfile.TemporaryDirectory() as folder:
        run = start(setting, data, Path(folder))
        for step in fit(run, data):
            if tick(step.seen):
                break
        run.close()
    return run.student


def theirs(setting: Setting, data: Any, tick: Callable[[int], bool]) -> Any:
    import pythae_side
    import torch

    with tempfile.TemporaryDirectory() as folder:
        run = start(setting, data, Path(folder))
    twin = pythae_side.twin(run.student)
    x = torch.from_numpy(data.x[data.train]).float() / 255
    pythae_side.train(twin, x, setting.batch, setting.rate, setting.workers, setting.fused, tick)
    return pythae_side.untwin(twin, run.student)


def bound(model: Any, data: Any, n: int = 2000) -> float:
    """The negative ELBO of held-out images, in nats."""
    model.eval()
    bits = model.bits_per_dim(data.take(data.held_out[:n])).values.mean()
    return float(bits) * model.spec.dims * 0.6931471805599453


# All of them


def tune(base: Setting, seconds: float, say: Callable[[str], None]) -> Setting:
    """The fastest settings of a side: threads with loader workers or precision, then what is left, one after
    the other."""
    tried: dict[Setting, float] = {}

    def fastest(settings: list[Setting]) -> Setting:
        for s in settings:
            if s not in tried:
                tried[s] = s.measure(seconds)["images_per_second"]
                say(f"{s.net:5}{s.side:9}{s}: {tried[s]:,.0f} images/s")
        return max(settings, key=tried.__getitem__)

    waiting = ("ACTIVE", "PASSIVE")
    if base.side == "likeness":
        best = fastest([replace(base, threads=t, precision=p) for t in (1, 2) for p in ("fp32", "bf16")])
        best = fastest([replace(best, threads=t, waiting=w) for t in (1, 2) for w in waiting])
        return fastest([best, replace(best, compiled=True)])
    best = fastest([replace(base, threads=t, workers=w) for t in (1, 2) for w in (0, 1, 2)])
    best = fastest([best, replace(best, fused=True)])
    return fastest([replace(best, threads=t, waiting=w) for t in (1, 2) for w in waiting])


def compare(net: str, args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Both sides at their best in turns; then both for the same number of images."""
    best = {
        side: tune(Setting(side, net, args.data, args.batch, args.rate), max(1.0, args.seconds / 4), say)
        for side in SIDES
    }
    if best["likeness"].precision != "fp32":
        best["likeness fp32"] = replace(best["likeness"], precision="fp32")
    rates: dict[str, list[float]] = {name: [] for name in best}
    for _ in range(args.pairs):
        for name, setting in best.items():
            rates[name].append(setting.measure(args.seconds)["images_per_second"])
            say(f"{net:5}{name:15}{rates[name][-1]:,.0f} images/s")
    bounds = {name: setting.measure(images=args.images)["bound"] for name, setting in best.items()}
    ratios = {name: [a / b for a, b in zip(rates[name], rates["pythae"])] for name in best}
    return dict(
        net=net,
        settings={name: str(s) for name, s in best.items()},
        images_per_second=rates,
        ratios=ratios,
        held_out_nats=bounds,
    )


def rows(result: dict[str, Any]) -> Iterator[list[str]]:
    from measure import spread

    for name, rates in result["images_per_second"].items():
        ratio = "1" if name == "pythae" else spread(result["ratios"][name], 2)
        yield [
            result["net"],
            name,
            result["settings"][name],
            spread(rates),
            ratio,
            f"{result['held_out_nats'][name]:.2f}",
        ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", help="mnist, digits or shapes; made black and white")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each side")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--images", type=int, default=120_000, help="after which the held-out bounds are compared"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(one(args.one)))
        return
    from measure import heading, machine, table

    load = machine()
    results = [compare(net, args, lambda line: print(line, file=sys.stderr, flush=True)) for net in args.nets]
    if args.json:
        print(json.dumps(dict(machine=load, arguments=vars(args), results=results)))
        return
    head = [
        "net",
        "side",
        "best settings",
        "images/s: median (min-max)",
        "ratio, pair by pair",
        f"held-out -ELBO after {args.images:,} images, nats",
    ]
    print(
        f"{heading(load)}\n\n{args.data}, black and white, batch {args.batch}, AdamW {args.rate:g}, "
        f"{args.pairs} pairs\n"
    )
    print(table(head, (row for r in results for row in rows(r))))
    for r in results:
        print(f"\n{r['net']}: {statistics.median(r['ratios']['likeness']):.2f} times pythae")


if __name__ == "__main__":
    main()
