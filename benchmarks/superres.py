"""Set5, four times as large: PSNR on Y by minutes of training, and the perception-distortion picture.

    python benchmarks/superres.py --data ../shared/data --minutes 2 5 10 30
    python benchmarks/superres.py --data ../shared/data --images 7792 --keep runs/set5
    python benchmarks/superres.py --minutes 5 --loss perceptual --begin runs/set5/pixel-7792

The data folder holds photos/kodak, photos/caltech101_toy_12x30.zip, superres/Set5 and, for features,
weights/.  Trained on squares of 128 pixels of those photos at full resolution, their small sides by Pillow's
bicubic; each time, or number of images, is a training of its own, whose rate falls to nothing at its end.  Of
minutes the number of images is that of the first seconds' speed, so that a machine that is busy at that
moment, and not later, is done early.  The small images of Set5 are those of MATLAB's imresize.

PSNR: Y of ITU-R BT.601 (16 ... 235) of 8-bit images, 4 pixels of the border left out.  Features: squared
distance, divided by what the large image has, at layers of VGG-16; block2_conv2 is part of the perceptual
loss, the others are not.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import likeness  # noqa: F401  (sets the environment before torch is imported)

import torch  # isort: skip
from torch import Tensor  # isort: skip

from likeness import engine
from likeness.data import Data
from likeness.models.superres import SuperRes
from likeness.parts.perceptual import Perceptual, content
from likeness.runs.run import Config, Run
from likeness.training.loop import fit

SCALE, SIDE = 4, 128
LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3")
LOSSES: dict[str, dict[str, Any]] = dict(pixel=dict(pixel=1.0), **SuperRes.presets)
Upscale = Callable[[Image.Image], np.ndarray]


def photos(root: Path) -> Iterator[np.ndarray]:
    for path in sorted((root / "photos/kodak").glob("*.webp")):
        yield np.asarray(Image.open(path).convert("RGB"))
    with zipfile.ZipFile(root / "photos/caltech101_toy_12x30.zip") as archive:
        for name in sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))):
            yield np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))


def starts(length: int) -> np.ndarray:
    """Of squares that cover it, on the grid of small pixels."""
    return np.linspace(0, (length - SIDE) // SCALE, -(-length // SIDE)).astype(int) * SCALE


def pairs(root: Path) -> Data:
    large, small = list[np.ndarray](), list[np.ndarray]()
    for photo in photos(root):
        high, wide = (side // SCALE * SCALE for side in photo.shape[:2])
        if min(high, wide) < SIDE:
            continue
        photo, side = photo[:high, :wide], SIDE // SCALE
        reduced = np.asarray(
            Image.fromarray(photo).resize((wide // SCALE, high // SCALE), Image.Resampling.BICUBIC)
        )
        for top, left in itertools.product(starts(high), starts(wide)):
            large.append(photo[top : top + SIDE, left : left + SIDE])
            small.append(reduced[top // SCALE :, left // SCALE :][:side, :side])
    x, a = (np.stack(part).transpose(0, 3, 1, 2).copy() for part in (large, small))
    return Data("tiles", "tiles-1", x, np.arange(len(x)), np.arange(0), pairs=a)


def luma(x: np.ndarray) -> np.ndarray:
    """MATLAB's rgb2ycbcr of uint8, rounded: 16 ... 235."""
    return np.floor(16.5 + x.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255)


def tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None].float() / 127.5 - 1


def set5(root: Path, upscale: Upscale, eye: Perceptual | None) -> dict[str, Any]:
    psnr, features = list[float](), {name: list[float]() for name in LAYERS}
    for i in range(1, 6):
        wanted = np.asarray(Image.open(root / f"superres/Set5/0{i}_HR.webp").convert("RGB"))
        made = upscale(Image.open(root / f"superres/Set5/0{i}_LRx{SCALE}.webp").convert("RGB"))
        wanted = wanted[: made.shape[0], : made.shape[1]]
        error = (luma(made) - luma(wanted))[SCALE:-SCALE, SCALE:-SCALE]
        psnr.append(10 * np.log10(255**2 / np.mean(error**2)))
        if eye is None:
            continue
        with torch.no_grad():
            one, two = eye.features(tensor(made)), eye.features(tensor(wanted))
        for name in LAYERS:
            features[name].append(float(content(one[name], two[name]) / two[name].square().mean()))
    known = {name: float(np.mean(each)) for name, each in features.items() if each}
    return dict(psnr=float(np.mean(psnr)), each=[round(p, 2) for p in psnr], features=known)


def resized(how: Image.Resampling) -> Upscale:
    return lambda small: np.asarray(small.resize((SCALE * small.width, SCALE * small.height), how))


def by(model: SuperRes) -> Upscale:
    def upscale(small: Image.Image) -> np.ndarray:
        made = model.translate(tensor(np.asarray(small)))[0].permute(1, 2, 0)
        return ((made + 1) * 127.5).round().clamp(0, 255).byte().numpy()

    return upscale


def make(folder: Path, data: Data, images: int, args: argparse.Namespace) -> Run:
    asked = dict(batch=args.batch, rate=args.rate, images=images, precision=args.precision)
    asked |= dict(ema=min(10_000, images // 4), warmup=min(2_000, images // 20))
    training = engine.settle(replace(SuperRes.defaults, **asked), data.spec)
    own = dict(width=args.width, depth=args.depth, begin=args.begin) | LOSSES[args.loss]
    options = SuperRes(spec=data.spec, **own).options()
    return Run.create(folder, Config("superres", data.spec, training, options, data.identity, engine.facts()))


def speed(data: Data, args: argparse.Namespace) -> float:
    """Images a second."""
    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder) / "run", data, 10**6, args)
        steps = fit(run, data, save_every=float("inf"))
        list(itertools.islice(steps, 4))
        began = time.monotonic()
        list(itertools.islice(steps, args.trial))
        return args.trial * args.batch / (time.monotonic() - began)


def trained(
    data: Data, images: int, eye: Perceptual | None, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    name = f"{args.loss}-{images}"
    with nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder) / name, data, images, args)
        began, busy = time.monotonic(), time.process_time()
        for _ in fit(run, data, save_every=float("inf")):
            pass
        spent = dict(
            images=run.seen,
            seconds=round(time.monotonic() - began, 1),
            core_seconds=round(time.process_time() - busy, 1),
        )
        model = run.model
        assert isinstance(model, SuperRes)
        yield dict(name=args.loss, **spent, **set5(args.data, by(model), eye))
        model.ensemble = True
        yield dict(name=f"{args.loss}, ensemble", **spent, **set5(args.data, by(model), eye))
        model.ensemble = False
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            for i in range(1, 6):
                small = Image.open(args.data / f"superres/Set5/0{i}_LRx{SCALE}.webp").convert("RGB")
                Image.fromarray(by(model)(small)).save(args.pictures / f"{name}-{i}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 5.0, 10.0])
    parser.add_argument("--images", type=int, nargs="+", help="train on so many, instead of for minutes")
    parser.add_argument("--begin", default="", help="a run that --keep has left, to begin with")
    parser.add_argument("--keep", type=Path, help="folder that the trained runs are left in")
    parser.add_argument("--loss", choices=list(LOSSES), default="pixel")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0 is all cores")
    parser.add_argument("--trial", type=int, default=20, help="steps that the speed is measured over")
    parser.add_argument("--pictures", type=Path, help="folder for the enlarged images")
    parser.add_argument("--json", type=Path, help="write the results there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    os.environ.setdefault("LIKENESS_DATA", str(args.data.resolve()))
    eye = Perceptual("vgg16", LAYERS) if (args.data / "weights").is_dir() else None
    data = pairs(args.data)
    budgets = args.images
    if not budgets:
        rate = speed(data, args)
        print(f"{rate:.1f} images/s", flush=True)
        budgets = [max(args.batch, int(60 * minutes * rate)) for minutes in args.minutes]
    print(f"{len(data.x)} squares, {torch.get_num_threads()} threads", flush=True)
    rows = [
        dict(name="bicubic", **set5(args.data, resized(Image.Resampling.BICUBIC), eye)),
        dict(name="Lanczos", **set5(args.data, resized(Image.Resampling.LANCZOS), eye)),
    ]
    print(f"| | images | core seconds | PSNR of Y | {' | '.join(LAYERS)} |\n|---|---|---|---|---|---|---|")
    for row in itertools.chain(rows[:], *(trained(data, n, eye, args) for n in budgets)):
        features = " | ".join(f"{row['features'].get(name, float('nan')):.4f}" for name in LAYERS)
        spent = f"{row.get('images', '')} | {row.get('core_seconds', '')}"
        print(f"| {row['name']} | {spent} | {row['psnr']:.2f} | {features} |", flush=True)
        rows += [row] if row not in rows else []
    result = dict(facts=engine.facts(), width=args.width, depth=args.depth, loss=args.loss, rows=rows)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
