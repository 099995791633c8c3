"""Seconds that it takes to compare samples of a run with held-out images, from nothing but a trained feature
network.

OMP_NUM_THREADS=2 python benchmarks/comparison_time.py mnist runs/vae -n 10000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from likeness import data as datasets
from likeness import engine
from likeness.evaluation import distribution, exam
from likeness.features import networks
from likeness.runs.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=10_000)
    args = parser.parse_args()
    engine.start()
    data, run = datasets.load(args.data), Run.open(args.run)
    networks.load("auto", data)
    began = time.perf_counter()
    real = distribution.reference(data, "auto", args.n, 0)
    looked = time.perf_counter()
    x = exam.prepare(run, data, args.n, 0).samples
    drawn = time.perf_counter()
    cards = [card for card in real.judge(x) if card.of == "model"]
    print(
        f"real images {looked - began:.1f} s, samples {drawn - looked:.1f} s, {len(cards)} measures with "
        f"floors {time.perf_counter() - drawn:.1f} s"
    )


if __name__ == "__main__":
    main()
