"""Images a second of training: this tree beside another, by turns, in processes of their own.

    python benchmarks/training_speed.py --beside ../base/src

Five families on shapes of 16x16, as a user trains them: fit() with log, EMA, clipping and saves, in fp32.  A
number is the median of the rounds, from the third line of the log on, so that no first step counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FAMILIES = {"vae": 20_000, "ddpm": 3_200, "r3gan": 6_400, "pixelcnn": 3_200, "simclr": 8_000}
"""images that each is trained for"""
OWN = Path(__file__).resolve().parents[1] / "src"


def train(name: str) -> float:
    import likeness

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        images = FAMILIES[name]
        likeness.train(name, "shapes:2000", run, size=16, images=images, precision="fp32", progress=False)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    begin, end = lines[2], lines[-1]
    return (end["seen"] - begin["seen"]) / (end["time"]["seconds"] - begin["time"]["seconds"])


def once(source: Path, name: str, cache: str) -> float:
    env = os.environ | {"PYTHONPATH": str(source), "LIKENESS_CACHE": cache}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name]
    return float(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", type=Path, help="the folder src of the other tree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=list(FAMILIES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(train(args.one))
        return
    print("| model | here, images/s | there | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for name in FAMILIES:
            pairs = [
                (once(OWN, name, cache), once(args.beside.resolve(), name, cache)) for _ in range(args.rounds)
            ]
            here, there = map(statistics.median, zip(*pairs))
            print(f"| {name} | {here:,.0f} | {there:,.0f} | {here / there:.2f} |", flush=True)


if __name__ == "__main__":
    main()
