"""Drawing images from memory against a full pass for each sub-pixel, for every autoregressive model at its
default size.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --full --models pixelcnn

Without --full the time of the naive way is that of a few full passes, times the number of sub-pixels; with
it, every image is drawn both ways, and the images are compared.  Weights are random: what is drawn does not
matter to the clock.  Beside the measured ratio stands that of the multiply-adds that torch counts in the
products of both ways, for one image.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from measure import heading, machine, spread, table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from likeness import engine, models
from likeness.core import Noise, Spec
from likeness.parts.autoregressive import Autoregressive


@dataclass
class Times:
    """Seconds of each round."""

    cached: list[float]
    naive: list[float]

    @property
    def ratios(self) -> list[float]:
        return [slow / quick for slow, quick in zip(self.naive, self.cached)]


def variants(names: list[str]) -> Iterator[tuple[str, type[Autoregressive], dict[str, Any]]]:
    """Each model, once for every choice of every option that has choices."""
    for name in names:
        kind = models.load(name)
        if issubclass(kind, Autoregressive):
            choices = {f.name: f.metadata["choices"] for f in fields(kind) if f.metadata.get("choices")}
            for chosen in itertools.product(*choices.values()):
                yield " ".join((name, *chosen)), kind, dict(zip(choices, chosen))


def draw(model: Autoregressive, n: int, naive: bool = False) -> Tensor:
    noise, size = Noise(range(n)).to(engine.device()), model.spec.size
    nothing = torch.zeros(size, size, dtype=torch.bool)
    *_, x = model.complete(
        torch.full((n, *model.spec.shape), -1.0, device=noise.device), nothing, noise, naive=naive
    )
    return x


def seconds(work: Callable[[], object]) -> float:
    engine.synchronise()
    began = time.perf_counter()
    work()
    engine.synchronise()
    return time.perf_counter() - began


def measure(model: Autoregressive, n: int, rounds: int, passes: int) -> Times:
    """Both ways in turns.  passes: full passes from which the naive way is estimated; 0 goes all of it."""
    x, times = torch.zeros(n, *model.spec.shape, device=engine.device()), Times([], [])
    draw(model, 1), model.predict(x)
    for _ in range(rounds):
        times.cached.append(seconds(lambda: draw(model, n)))
        if passes:
            some = seconds(lambda: [model.predict(x) for _ in range(passes)])
            times.naive.append(some * model.spec.dims / passes)
        else:
            times.naive.append(seconds(lambda: draw(model, n, naive=True)))
    return times


def multiply_adds(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2


def row(label: str, model: Autoregressive, times: Times, args: argparse.Namespace) -> list[str]:
    one = torch.zeros(1, *model.spec.shape, device=engine.device())
    image, drawing = multiply_adds(lambda: model.predict(one)), multiply_adds(lambda: draw(model, 1))
    same = (
        [f"{float((draw(model, args.images) == draw(model, args.images, naive=True)).float().mean()):.2%}"]
        if args.full
        else []
    )
    weights = sum(p.numel() for p in model.parameters())
    counted = f"{model.spec.dims * image / drawing:,.0f}"
    return [
        label,
        f"{weights:,}",
        f"{image / 1e6:,.1f}",
        spread(times.cached, 1),
        spread(times.naive),
        f"**{spread(times.ratios)}**",
        counted,
        *same,
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(models.NAMES), choices=models.NAMES)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--levels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--passes", type=int, default=4, help="full passes a round, from which the naive way is estimated"
    )
    parser.add_argument("--full", action="store_true", help="go the naive way to its end: minutes to hours")
    parser.add_argument("--threads", type=int, default=0, help="0 is torch's own number")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    args, load = arguments(), machine()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine.start()
    spec, rows, ratios, dims = (
        Spec(args.channels, args.size, levels=args.levels),
        [],
        [],
        args.channels * args.size**2,
    )
    for label, kind, options in variants(args.models):
        torch.manual_seed(0)
        model = engine.place(kind(spec=spec, **options)).eval()
        times = measure(model, args.images, args.rounds, 0 if args.full else args.passes)
        ratios.append(statistics.median(times.ratios))
        rows.append(row(label, model, times, args))
        print(" ".join(rows[-1]), flush=True)
    way = "all of it" if args.full else f"estimated from {args.passes} of {dims} passes"
    what = (
        f"{args.images} images of {args.channels} x {args.size} x {args.size}, {args.levels} levels, fp32, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"\n{heading(load)}\n\n{what}, {args.rounds} rounds: median (min-max); naive: {way}\n")
    head = [
        "model",
        "weights",
        "M multiply-adds an image",
        "from memory, s",
        "naive, s",
        "ratio",
        "ratio of multiply-adds",
    ]
    print(table([*head, "same sub-pixels"] if args.full else head, rows))
    print(f"\nratios from {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
