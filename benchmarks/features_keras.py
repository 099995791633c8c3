"""Features of a folder of photographs: images a second of `likeness features` and of the lab's program in
Keras.

    python benchmarks/features_keras.py photos/ --keras /path/to/python-with-keras

Both read the same files, press them to 224x224, have the same random weights and write the same matrix, which
is compared.  The program of the lab predicts one image after another; beside it stands the same with all
images in batches of 32.  Neither the start of a program nor its first image is counted.  Sides take turns,
each measurement in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import heading, machine, spread, table

CASES = (
    ("vgg19", "block4_pool"),
    ("vgg19", "fc2"),
    ("mobilenet", "conv_pw_13_relu"),
    ("mobilenet", "global_average_pooling2d"),
)
SIDE = Path(__file__).with_name("keras_side.py")


def ours(folder: str, network: str, layer: str, weights: str, out: str, precision: str) -> dict[str, Any]:
    from likeness.features import extract, opening

    net = opening.load(network, weights, [layer])
    # looks at one image, to know how long a row is
    work = extract.extract(net, folder, [layer], Path(out), precision=precision)
    wall, cpu = time.perf_counter(), time.process_time()
    *_, at = work
    return dict(
        images=at.done.rows,
        wall=time.perf_counter() - wall,
        cpu=time.process_time() - cpu,
        program="likeness",
    )


def measured(command: list[str], threads: int) -> dict[str, Any]:
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--keras", default=sys.executable, help="a Python that has Keras [this one]")
    parser.add_argument("-n", type=int, default=300, help="images [300]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cases", nargs="+", default=["/".join(c) for c in CASES], metavar="NETWORK/LAYER")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.one:
        print(json.dumps(ours(*said.one)))
        return
    print(heading(machine()))
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        photos.mkdir()
        for i, file in enumerate(sorted(p for p in Path(said.folder).rglob("*") if p.is_file())[: said.n]):
            shutil.copy(file, photos / f"{i:05}{file.suffix}")
        rows = [row for case in said.cases for row in compared(*case.split("/"), photos, Path(place), said)]
    head = (
        "network, layer",
        "program",
        "images/s",
        "images per CPU second",
        "times the lab's by CPU",
        "largest difference",
    )
    print(table(head, rows))


def compared(
    network: str, layer: str, photos: Path, place: Path, said: argparse.Namespace
) -> list[list[str]]:
    """A row a program."""
    weights = str(place / f"{network}.npz")
    names = ("the lab's", "in batches of 32", "likeness fp32", "likeness bf16")
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    made: dict[str, np.ndarray] = {}
    for _ in range(said.rounds):
        for name in names:
            out = str(place / f"{name.replace(' ', '')}.npy")
            args = [str(photos), network, layer, weights, out]
            if name.startswith("likeness"):
                for left in place.glob("likeness*.*"):
                    left.unlink()
                command = [
                    sys.executable,
                    __file__,
                    str(photos),
                    "--one",
                    *args,
                    name.removeprefix("likeness "),
                ]
            else:
                command = [said.keras, str(SIDE), *args, "1" if name == "the lab's" else "32"]
            figures[name].append(measured(command, said.threads))
            made[name] = np.load(out)
    base = made["the lab's"]
    rows = []
    for name, runs in figures.items():
        other = made[name]
        by_wall, by_cpu = ([r["images"] / r[kind] for r in runs] for kind in ("wall", "cpu"))
        times = [a["cpu"] / b["cpu"] for a, b in zip(figures["the lab's"], runs)]
        program = name if name.startswith("likeness") else f"{name}, {runs[0]['program']}"
        apart = f"{np.abs(other - base).max() / np.abs(base).max():.1e}"
        rows.append(
            [f"{network} {layer}", program, spread(by_wall, 2), spread(by_cpu, 2), spread(times, 2), apart]
        )
    return rows


if __name__ == "__main__":
    main()
