"""Start-up on a folder of very many small files: the first time, when they are decoded into the cache, and
the second.

python benchmarks/many_files.py --files 100000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = 1000
"""files in each sub-folder"""
START = """
import json, resource, sys, time
from likeness.data import load
held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, wall, cpu = held(), time.perf_counter(), time.process_time()
data = load(sys.argv[1], size=32)
data.batch(0, 0, 64)
seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps(dict(seconds=seconds, cpu_seconds=cpu, memory_mb=held(), of_which_imports_mb=before, verdict=data.verdict)))
"""  # noqa: E501


def draw(folder: Path, files: int) -> None:
    """PNGs of 32x32 in colour, all different."""
    rng = np.random.default_rng(0)
    for k in range(0, files, FOLDER):
        (here := folder / f"{k // FOLDER:03}").mkdir(parents=True)
        x = rng.integers(0, 256, (min(FOLDER, files - k), 8, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
        for i, image in enumerate(x):
            Image.fromarray(image).save(here / f"{i}.png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    files = parser.parse_args().files
    from measure import heading, machine

    with tempfile.TemporaryDirectory() as place:
        draw(Path(place) / "images", files)
        print(heading(machine()))
        for name in ("first", "second"):
            env = os.environ | {"LIKENESS_CACHE": f"{place}/cache"}
            out = subprocess.run(
                [sys.executable, "-c", START, f"{place}/images"],
                env=env,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            print(f"{name} start:", json.dumps(json.loads(out)))


if __name__ == "__main__":
    main()
