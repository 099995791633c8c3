"""Seconds from typing a command to its answer: of this source tree, and of another one, by turns.

OMP_NUM_THREADS=1 python benchmarks/startup.py --beside ../other/src

Wall and CPU (user and system) seconds, medians of --repeats; each command has run once before, so that files
lie in memory and the table of models is in the cache.  The run that samples are drawn from is trained by the
other tree, whose runs this one can read.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

OURS = Path(__file__).resolve().parents[1] / "src"
COMMANDS = {
    "likeness --help": "-m likeness --help",
    "import likeness.api": "-c import\tlikeness.api",
    "likeness sample RUN -n 64": "-m likeness sample run -n 64 -o out.png",
    "likeness sample runs/nosuch": "-m likeness sample runs/nosuch",
    "likeness train vae digits --wrong 1": "-m likeness train vae digits --wrong 1",
    "likeness models": "-m likeness models",
    "likeness data": "-m likeness data",
    "import torch": "-c import\ttorch",
}
"""python's arguments, by what is typed; the last is what none can be faster than that needs torch"""
TRAIN = "-m likeness train vae digits run --images 2000 --no-report --json"


class Took(NamedTuple):
    wall: float
    cpu: float


def took(words: str, tree: Path, folder: Path) -> Took:
    """A process in `folder` with the likeness of `tree`."""
    command = [sys.executable, *(word.replace("\t", " ") for word in words.split(" "))]
    places = dict(PYTHONPATH=str(tree), LIKENESS_CACHE=str(folder / f"cache{abs(hash(tree))}"))
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        command, cwd=folder, env=os.environ | places, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, os.times()
    return Took(
        wall, after.children_user + after.children_system - before.children_user - before.children_system
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", type=Path, metavar="SRC", help="the folder src of another version")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    trees = [OURS, *([args.beside.resolve()] if args.beside else [])]
    print(
        "| command | "
        + " | ".join(f"{name}, wall | CPU" for name in ("this", "beside")[: len(trees)])
        + (" | times as fast |" if args.beside else " |")
    )
    print("|---" * (1 + 2 * len(trees) + bool(args.beside)) + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        took(TRAIN, trees[-1], folder)
        for typed, words in COMMANDS.items():
            found: list[list[Took]] = [[] for _ in trees]
            for i in range(args.repeats + 1):
                for tree, times in list(zip(trees, found))[:: (-1) ** i]:
                    times.append(took(words, tree, folder))
            middle = [Took(*map(median, zip(*times[1:]))) for times in found]
            faster = f" {middle[1].wall / middle[0].wall:.1f} |" if args.beside else ""
            print(
                f"| {typed} |" + "".join(f" {m.wall:.2f} | {m.cpu:.2f} |" for m in middle) + faster,
                flush=True,
            )


if __name__ == "__main__":
    main()
