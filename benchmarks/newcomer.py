"""The first ten minutes of somebody with photographs of their own, step by step with its seconds.

    LIKENESS_DATA=../shared/data python benchmarks/newcomer.py OUT 40 [--tree ../base]
    LIKENESS_DATA=../shared/data python benchmarks/newcomer.py OUT 4000

A clone and a virtual environment of its own; 40 photographs, every other one HEIC as a phone makes it, or
4,000 images of CIFAR-10 as JPEG; then what README says: check, train, sample, evaluate.  --tree: another
clone, in which HEIC cannot be read and its own line of README is typed.  fp32, and as many threads as there
are cores.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LIKENESS_DATA", "../shared/data"))
TRAIN = "--size 32 --preset photographs --features none --precision fp32"
BEFORE = (
    "--size 32 --mirror --augment translation --gamma 0.02 --scale 2 --batch 16 --rate 1e-3 --precision fp32"
)


def photographs(folder: Path, n: int, heic: bool) -> None:
    """Of PACS, at 128 pixels."""
    with zipfile.ZipFile(DATA / "unpaired" / "pacs_photo_vs_art_128.zip") as archive:
        names = sorted(m for m in archive.namelist() if "photo/" in m and m.endswith(".jpg"))
        for i, name in enumerate(names[:: len(names) // n][:n]):
            if i % 2 and heic:
                import pillow_heif

                pillow_heif.register_heif_opener()
                Image.open(io.BytesIO(archive.read(name))).save(folder / f"IMG_{i:04}.HEIC")
            else:
                (folder / f"IMG_{i:04}.jpg").write_bytes(archive.read(name))


def cifar(folder: Path, n: int) -> None:
    sheets = sorted((DATA / "cifar10").rglob("train_*.webp"))[: n // 1000]
    for k, sheet in enumerate(sheets):
        tiles = np.asarray(Image.open(sheet)).reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4)
        for i, tile in enumerate(tiles.reshape(-1, 32, 32, 3)):
            Image.fromarray(tile).save(folder / f"{k}-{i:03}.jpg", quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=int, choices=(40, 4000))
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training [4]")
    args = parser.parse_args()
    out = args.out.resolve()
    (out / "photos").mkdir(parents=True)
    cifar(out / "photos", 4000) if args.images == 4000 else photographs(out / "photos", 40, not args.tree)
    likeness = f"{out}/venv/bin/likeness"
    extra = "" if args.tree else "[heic]"
    options = f"{BEFORE if args.tree else TRAIN} --minutes {args.minutes:g}"
    steps = (
        f"git clone -q {args.tree or HERE} {out}/likeness",
        f"python3 -m venv {out}/venv",
        f"{out}/venv/bin/pip install -q torch==2.13.0 '{out}/likeness{extra}'",
        f"{likeness} check photos --size 32",
        f"{likeness} train r3gan photos {options} --no-report",
        f"{likeness} sample runs/r3gan-photos -n 64 -o new.png",
        f"{likeness} evaluate runs/r3gan-photos",
    )
    env = os.environ | {"LIKENESS_CACHE": str(out / "cache")}
    total = 0.0
    print("| step | seconds |\n|---|---|")
    for step in steps:
        began = time.monotonic()
        done = subprocess.run(step, shell=True, cwd=out, env=env, capture_output=True, text=True)
        total += (spent := time.monotonic() - began)
        shown = step.replace(f"{out}/", "").replace(str(HERE), ".").replace("venv/bin/", "")
        print(
            f"| `{shown}` | {spent:.1f}{'' if done.returncode == 0 else f' (exit {done.returncode})'} |",
            flush=True,
        )
        (out / "log.txt").open("a").write(f"$ {shown}\n{done.stdout}{done.stderr}\n")
    print(f"| in all | {total:.0f} |")
    sys.exit(0)


if __name__ == "__main__":
    main()
