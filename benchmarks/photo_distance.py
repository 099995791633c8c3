"""How far samples are from the few photographs that they were learnt from, in features that have seen a
million others.

    python benchmarks/photo_distance.py runs/r3gan-photos runs/vae-photos --weights mobilenet_v2.safetensors

Kernel distance (KID, times 1,000) in the 1,280 features of MobileNetV2, of 400 samples to all images of the
run's data at the run's size. It says which of several runs is nearer to photographs of such things; not
whether one has learnt them by heart: `likeness evaluate` says that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import likeness
from likeness.metrics import kernels, neighbours

N = 400
SEEN = ["--network", "mobilenet_v2", "--layer", "out_relu", "--pool", "avg", "--interpolation", "bilinear"]


def features(images: np.ndarray, weights: list[str]) -> np.ndarray:
    """float64 (n, 1280) of uint8 (n, C, H, W)."""
    with tempfile.TemporaryDirectory() as inside:
        folder, out = Path(inside, "images"), Path(inside, "f.npy")
        folder.mkdir()
        for i, x in enumerate(images):
            Image.fromarray(x.transpose(1, 2, 0).squeeze()).save(folder / f"{i:05}.png")
        words = [sys.executable, "-m", "likeness", "features", str(folder), *SEEN, *weights, "-o", str(out)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return np.load(out).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--weights", help="of MobileNetV2, a file [the published ones]")
    said = parser.parse_args()
    weights = ["--weights", said.weights] if said.weights else []
    print("| run | images seen | kernel distance to the photographs |\n|---|---|---|")
    photographs: dict[str, np.ndarray] = {}
    for path in said.run:
        run = likeness.open(path)
        if run.data.fingerprint not in photographs:
            photographs[run.data.fingerprint] = features(np.asarray(run.data.x), weights)
        drawn = features(neighbours.grid(run.sample(N).x.numpy()), weights)
        far = kernels.kid(drawn, photographs[run.data.fingerprint])
        print(f"| {path} | {run.run.seen:,} | {1000 * far.value:.0f} ± {1000 * far.error:.0f} |", flush=True)


if __name__ == "__main__":
    main()
