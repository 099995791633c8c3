"""What few steps cost: samplers of one denoising run at equal calls of its network, by Fréchet distance and
seconds.

    likeness train ddpm fashion-mnist runs/ddpm --images 400000 --schedule cosine
    python benchmarks/sampler_table.py runs/ddpm -n 2000 -o docs/results/samplers.md

The same noise for all of them.  The floor is that of as many real images against the same held-out ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import likeness
from likeness.api import Trained
from likeness.evaluation import distribution
from likeness.features import networks
from likeness.metrics import neighbours

CALLS = (5, 10, 20, 50)
RECIPES: list[tuple[str, dict[str, object]]] = [
    (f"{sampler}, {spacing}", dict(sampler=sampler, spacing=spacing))
    for spacing in ("even", "karras")
    for sampler in ("ancestral", "ddim", "heun", "dpm2m")
]


def steps_for(sampler: object, calls: int) -> int:
    """Heun's last step, to the image itself, takes one call."""
    return (calls + 1) // 2 if sampler == "heun" else calls


def row(
    run: Trained, reference: distribution.Reference, name: str, live: dict[str, object], calls: int, n: int
) -> str:
    steps, began = steps_for(live["sampler"], calls), time.perf_counter()
    x = run.sample(n, steps=steps, **live).x
    seconds = time.perf_counter() - began
    seen = distribution.look(reference.network, neighbours.grid(x.numpy()))
    found = reference.frechet(seen)
    made = 2 * steps - 1 if live["sampler"] == "heun" else steps
    return (
        f"| {name} | {steps} | {made} | {found.value:.1f} [{found.low:.1f}, {found.high:.1f}] | "
        f"{seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=2000, help="samples")
    parser.add_argument(
        "--calls", type=int, nargs="*", default=CALLS, help="of the network, that samplers are compared at"
    )
    parser.add_argument(
        "--full", type=int, default=1000, help="steps of ancestral sampling, once; 0 leaves it out"
    )
    parser.add_argument("--network", default="classifier")
    parser.add_argument("-o", type=Path, help="a file for the table")
    said = parser.parse_args()
    run = likeness.open(said.run)
    reference = distribution.prepare(run.data, networks.load(said.network, run.data), said.n)
    floor = next(m for m in distribution.MEASURES if m.take is distribution.Reference.frechet)
    lines = [
        f"{run.config.model}, {run.run.seen:,} images seen; {said.n:,} samples; floor "
        f"{reference.floor(floor).value:.1f}",
        "",
        "| sampler | steps | calls | Fréchet distance | seconds |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        print(line, flush=True)
    jobs = [(name, live, calls) for name, live in RECIPES for calls in said.calls] + [
        (*RECIPES[0], said.full)
    ] * bool(said.full)
    for name, live, calls in jobs:
        lines.append(row(run, reference, name, live, calls, said.n))
        print(lines[-1], flush=True)
    if said.o:
        said.o.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
