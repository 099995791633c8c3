"""log p(x) by importance sampling: our bits_per_dim and pythae's get_nll, on the same weights and images.

    python benchmarks/nll_vs_pythae.py --data mnist --n 200 --k 100

A VAE is trained by our loop, its weights are copied into pythae's model, and both estimate log p(x) of
held-out images with k codes each.  Both are the same estimator, with the same small bias, so that their
difference has mean zero; its standard error over the images is printed beside it.  pythae is asked as it is
written, and again inside torch.no_grad(), which it leaves out; the time of the faster of the two counts.
Blocks of images are estimated by turns, and the ratio of times is of a block.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pythae_side
import torch
from measure import heading, machine, spread, table
from torch import Tensor, nn
from vae_vs_pythae import NETS, Setting, start

from likeness import data as datasets
from likeness.core import Batch, Noise
from likeness.training.loop import fit

ASKED = (1, 10, 100, 150, 1000)
"""numbers of samples of which is counted how many are drawn"""


def ours(model: Any, x: Tensor, k: int) -> np.ndarray:
    """log p(x) of each image, nats."""
    model.k = k
    bits = model.bits_per_dim(Batch(x, None, Noise(range(len(x))))).values
    return (-bits * model.spec.dims * math.log(2)).numpy()


def theirs(twin: Any, x: Tensor, k: int) -> np.ndarray:
    """The same; get_nll returns the mean over the images that it is given, so it is given one at a time, as
    it works anyway."""
    return np.array([twin.get_nll((one[None] + 1) / 2, n_samples=k) for one in x])


def theirs_without_graph(twin: Any, x: Tensor, k: int) -> np.ndarray:
    with torch.no_grad():
        return theirs(twin, x, k)


def drawn(decoder: nn.Module, ask: Callable[[], object]) -> tuple[int, bool]:
    """How many codes are decoded while `ask` runs, and whether a graph for gradients is built of it."""
    rows: list[int] = []
    graph: list[bool] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        rows.append(len(inputs[0]))
        graph.append(torch.is_grad_enabled())

    handle = decoder.register_forward_hook(hook)
    ask()
    handle.remove()
    return sum(rows), any(graph)


def honoured(model: Any, twin: Any, x: Tensor) -> list[list[str]]:
    """Samples asked for against samples drawn, for one image."""
    lines = []
    for k in ASKED:
        mine, graph = drawn(model.decoder, lambda k=k: ours(model, x[:1], k))
        other, their_graph = drawn(twin.decoder, lambda k=k: theirs(twin, x[:1], k))
        lines.append(
            [
                f"{k}",
                f"{mine}{', with graph' if graph else ''}",
                f"{other}{', with graph' if their_graph else ''}",
            ]
        )
    return lines


def trained(args: argparse.Namespace) -> tuple[Any, Any, Tensor]:
    """Our model after some training, pythae's with the same weights, and held-out images."""
    data = datasets.load(args.data, binarize=True)
    with tempfile.TemporaryDirectory() as folder:
        run = start(Setting("likeness", args.net, args.data, 128, 1e-3, precision="fp32"), data, Path(folder))
        for step in fit(run, data):
            if step.seen >= args.images:
                break
        run.close()
    model = run.student.eval()
    return model, pythae_side.twin(model).eval(), data.take(data.held_out[: args.n]).x


ESTIMATORS = {"likeness": ours, "pythae": theirs, "pythae in no_grad": theirs_without_graph}


def race(
    model: Any, twin: Any, x: Tensor, k: int, blocks: int
) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """log p(x) by each estimator, and its seconds an image in each block."""
    nats: dict[str, list[np.ndarray]] = {name: [] for name in ESTIMATORS}
    seconds: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for block in x.chunk(blocks):
        for name, estimate in ESTIMATORS.items():
            began = time.perf_counter()
            nats[name].append(estimate(model if name == "likeness" else twin, block, k))
            seconds[name].append((time.perf_counter() - began) / len(block))
    return {name: np.concatenate(parts) for name, parts in nats.items()}, seconds


def best_threads(model: Any, twin: Any, x: Tensor, k: int) -> dict[str, int]:
    """For each estimator, on a few images."""
    took: dict[str, dict[int, float]] = {name: {} for name in ESTIMATORS}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, seconds in race(model, twin, x, k, 3)[1].items():
            took[name][threads] = min(seconds)
    return {name: min(by, key=by.__getitem__) for name, by in took.items()}


def measured(model: Any, twin: Any, x: Tensor, k: int, blocks: int) -> dict[str, Any]:
    """Each estimator at its best number of threads, in turns."""
    threads = best_threads(model, twin, x[:30], k)

    def at(name: str, estimate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def run(*asked: Any) -> np.ndarray:
            torch.set_num_threads(threads[name])
            return estimate(*asked)

        return run

    ESTIMATORS.update({name: at(name, f) for name, f in ESTIMATORS.items()})
    nats, seconds = race(model, twin, x, k, blocks)
    torch.set_num_threads(1)
    return dict(threads=threads, nats=nats, seconds=seconds)


def rows(found: dict[str, Any]) -> list[list[str]]:
    nats, seconds = found["nats"], found["seconds"]
    lines = []
    for name in nats:
        gap = nats[name] - nats["likeness"]
        error = gap.std(ddof=1) / math.sqrt(len(gap))
        ratios = [a / b for a, b in zip(seconds[name], seconds["likeness"])]
        mine = name == "likeness"
        lines.append(
            [
                name,
                f"{found['threads'][name]}",
                f"{-nats[name].mean():.3f}",
                "" if mine else f"{-gap.mean():+.3f} ± {error:.3f}",
                spread([1000 * s for s in seconds[name]], 2),
                "1" if mine else spread(ratios, 1),
            ]
        )
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", help="mnist, digits or shapes; made black and white")
    parser.add_argument("--net", default="mlp", choices=list(NETS))
    parser.add_argument("--n", type=int, default=200, help="held-out images")
    parser.add_argument("--k", type=int, default=100, help="codes an image")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--images", type=int, default=120_000, help="that the model is trained on first")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    args, load = arguments(), machine()
    model, twin, x = trained(args)
    found = measured(model, twin, x, args.k, args.blocks)
    counts = honoured(model, twin, x)
    if args.json:
        found["nats"] = {name: values.tolist() for name, values in found["nats"].items()}
        print(json.dumps(dict(machine=load, arguments=vars(args), drawn=counts, **found)))
        return
    print(
        f"{heading(load)}\n\n{args.data}, black and white, {args.net}, {len(x)} held-out images, k = "
        f"{args.k}, fp32\n"
    )
    print(
        table(
            [
                "estimator",
                "threads",
                "-log p(x), nats",
                "difference ± standard error",
                "ms an image: median (min-max)",
                "times slower",
            ],
            rows(found),
        )
    )
    print(f"\nget_nll returns {found['nats']['pythae'].mean():+.2f}: log p(x), not its negative.\n")
    print(table(["samples asked for", "drawn by bits_per_dim", "drawn by get_nll"], counts))


if __name__ == "__main__":
    main()
