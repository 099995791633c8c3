"""Whether cyclegan, trained on two unpaired sets of emoji, beats baselines on the true pairs held out.

    OMP_NUM_THREADS=1 python benchmarks/emoji.py ../shared/data/emoji --size 32 --minutes 5 --picture e.png

Both sets draw the same code points.  Files are called by them, so the same code points are held out of both
domains (data/partners.py), and the right image of each held-out source is known.  Training sees no pair: the
two domains come in orders of their own.  Each way of translation is scored by the mean absolute error in
levels of 255 and the mean PSNR over held-out pairs:

    identity             the source itself
    histogram matching   each channel with the histogram of the training targets
    affine colour map    the colours' mean and covariance made those of the training targets
    nearest neighbour    the training target nearest in pixels to the source
    mean of B            the mean training target
    cyclegan             what it makes

The affine map that is fitted to true training pairs is shown as well: it knows more than the others may.
Needs noto64.webp, emojitwo64.webp and emoji_index.json (grids of 64-pixel tiles and their code points).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hidden_map import kind_of
from PIL import Image
from torch import Tensor

from likeness import data as datasets
from likeness import engine, figures, models
from likeness.core import Model
from likeness.data import Data, pairs, picture
from likeness.metrics import reconstruction, translation
from likeness.runs.run import Config, Run
from likeness.training import loop


def cut(folder: Path, name: str, out: Path) -> Path:
    """A grid of tiles as a folder of PNGs, each called by its code point."""
    index = json.loads((folder / "emoji_index.json").read_text())
    side, across = index["size"], index["columns"]
    out.mkdir(parents=True)
    with Image.open(folder / f"{name}{side}.webp") as grid:
        grid = grid.convert("RGB")
        for i, code in enumerate(index["codepoints"]):
            y, x = divmod(i, across)
            tile = grid.crop((side * x, side * y, side * x + side, side * y + side))
            tile.save(out / f"{code}.png", compress_level=1)
    return out


def trained(data: Data, args: argparse.Namespace, folder: Path) -> tuple[Model, dict[str, Any]]:
    """The model as it answers; images seen and seconds."""
    kind = models.load("cyclegan")
    wishes = dict(images=args.images, batch=args.batch, rate=args.rate, seed=args.seed, mirror=args.mirror)
    settings = engine.settle(replace(kind.defaults, **wishes), data.spec)
    built = kind(spec=data.spec, **{k: kind_of(v) for k, v in (word.split("=") for word in args.set)})
    config = Config("cyclegan", data.spec, settings, built.options(), data.identity, engine.facts(), {}, [])
    run = Run.create(folder, config)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in loop.fit(run, data, save_every=1e9):
        if args.minutes and time.process_time() - cpu > 60 * args.minutes:
            break
    took = dict(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, images=run.seen)
    run.close()
    return run.model, took


def partners(data: Data) -> tuple[Tensor, Tensor]:
    """Training images of A, and the image of B that each should become."""
    assert data.other is not None and data.names is not None and data.other.names is not None
    at = {pairs.stem(data.names[row]): row for row in data.train}
    both = [(row, at[s]) for row in data.other.train if (s := pairs.stem(data.other.names[row])) in at]
    a, b = np.array(both).T
    return picture(data.other.x[a]), picture(data.x[b])


def ways(data: Data, model: Model) -> dict[str, Any]:
    """Translations (B, C, H, W) to the same."""
    assert data.other is not None
    a, b = picture(data.other.x[data.other.train]), picture(data.x[data.train])
    mean = b.mean(0, keepdim=True)
    return {
        "identity": lambda x: x,
        "mean of B": lambda x: mean.expand_as(x),
        "histogram matching": translation.HistogramMatch.of(a, b),
        "affine colour map": translation.Affine.of_domains(a, b),
        "nearest neighbour": translation.Nearest.of(b, b),
        "affine colour map of true pairs": translation.Affine.of_pairs(*partners(data)),
        "cyclegan": lambda x: model.translate(x.to(engine.device())).float().cpu().clamp(-1, 1),
    }


def scored(made: Tensor, right: Tensor) -> dict[str, float]:
    error, psnr = translation.mae(made, right), reconstruction.psnr(made, right)
    return dict(
        mae=float(error.mean()),
        mae_se=float(error.std() / len(error) ** 0.5),
        psnr=float(psnr.mean()),
        ssim=float(reconstruction.ssim(made, right).mean()),
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="that holds the grids")
    parser.add_argument("--a", default="noto")
    parser.add_argument("--b", default="emojitwo")
    parser.add_argument("--size", type=int, default=32, choices=(32, 64))
    parser.add_argument("--minutes", type=float, default=0.0, help="of processor time; 0 is until --images")
    parser.add_argument("--images", type=int, default=100_000, help="to see at most, of each domain")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], help="options of cyclegan, such as identity=5")
    parser.add_argument("--picture", type=Path, help="source, made, truth of held-out pairs")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as there:
        a, b = (cut(args.folder, name, Path(there) / name) for name in (args.a, args.b))
        data = datasets.load(a, args.size, to=b, cache=Path(there) / "cache")
        assert data.other is not None and data.truth is not None, data.verdict
        print(data.verdict.replace(there, ""), flush=True)
        source, right = picture(data.other.x[data.other.held_out]), picture(data.truth)
        model, took = trained(data, args, Path(there) / "run")
        made = {name: way(source) for name, way in ways(data, model).items()}
    rows = {name: scored(x, right) for name, x in made.items()}
    facts = dict(data=f"{args.a} to {args.b}", size=args.size, seed=args.seed, options=args.set, **took)
    print(json.dumps(dict(facts, held_out=len(right), rows=rows)))
    print(shown(rows))
    if args.picture:
        shape = figures.beside(source[:24], made["cyclegan"][:24], right[:24], across=12)
        figures.write_png(args.picture, shape, facts | rows["cyclegan"])


def shown(rows: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':34}{'MAE':>8}{'+-':>6}{'PSNR':>8}{'SSIM':>8}"]
    lines += [
        f"{name:34}{row['mae']:8.1f}{row['mae_se']:6.1f}{row['psnr']:8.2f}{row['ssim']:8.3f}"
        for name, row in rows.items()
    ]
    free = [name for name in rows if name not in ("cyclegan", "affine colour map of true pairs")]
    beaten = [name for name in free if rows["cyclegan"]["mae"] < rows[name]["mae"]]
    lost = [name for name in free if name not in beaten]
    lines.append(f"by MAE, cyclegan beats {', '.join(beaten) or 'none'}")
    return "\n".join(lines + [f"and does not beat {', '.join(lost)}"] * bool(lost))


if __name__ == "__main__":
    main()
