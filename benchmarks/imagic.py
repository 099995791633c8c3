"""Imagic on `shapes`: is the edited attribute right, are the others kept, and what is each of its steps for?

    python benchmarks/imagic.py RUN [--n 16] [--strength 0,0.2,0.4,0.5,0.6,0.7,0.8,0.9,1] [--guidance 1]
                                [--embedding-steps 200] [--tuning-steps 400] [-o imagic.png]

RUN reads texts of `shapes` (--text).  Of n held-out images with one object each the target text changes its
colour and nothing else.  For each strength, read from the pixels (evaluation/captions.py):

    edited    per cent with the new colour, and everything else that the text says
    kept      per cent with shape, size, place and background as they were
    original  per cent that still show the old text
    PSNR      to the image, dB; and over the pixels that no object touches

for Imagic, without fine-tuning, and without optimising the embedding.  Prints a table, where the edit happens
(the least strength at which half of those have changed that change at all), and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import likeness
from likeness import figures, storage
from likeness.data.shapes import COLOURS, caption
from likeness.evaluation import captions, scenes
from likeness.inference import imagic
from likeness.metrics import neighbours

WAYS = {"imagic": (1, 1), "without fine-tuning": (1, 0), "without the embedding": (0, 1)}
"""and whether each of the two steps is taken"""
SHOWN = 4
"""images in the picture"""


def psnr(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> float:
    """Of uint8 (3, H, W), over the pixels where bool (H, W)."""
    error = ((x[:, where].astype(np.float64) - y[:, where]) ** 2).mean()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def outside(scene: dict[str, Any], side: int) -> np.ndarray:
    """bool (side, side): pixels that no object reaches, with a pixel to spare."""
    axis = np.arange(side) + 0.5
    free = np.ones((side, side), bool)
    for o in scene["objects"]:
        scale = side / (64 if side > 32 else 32)
        off = np.hypot(axis[None] - o["x"] * scale, axis[:, None] - o["y"] * scale)
        free &= off > (o["radius"] + 1.5) * scale
    return free


def recoloured(scene: dict[str, Any]) -> dict[str, Any]:
    """The scene with another colour for its only object, far from the old one in the list."""
    names, (old,) = tuple(COLOURS), scene["objects"]
    new = names[(names.index(old["colour"]) + 4) % len(names)]
    return dict(scene, objects=[dict(old, colour=new)])


def picked(run: Any, n: int) -> list[int]:
    """Held-out rows with one object, whose new pair of shape and colour is in training images too."""
    data, rows = run.data, []
    seen = {
        (o["shape"], o["colour"]) for row in data.train[:4000] for o in data.attributes[int(row)]["objects"]
    }
    for row in map(int, data.held_out):
        scene = data.attributes[row]
        if len(scene["objects"]) == 1:
            (o,) = recoloured(scene)["objects"]
            rows += [row] if (o["shape"], o["colour"]) in seen else []
        if len(rows) == n:
            break
    return rows


def asked(scene: dict[str, Any]) -> dict[str, Any]:
    """What a text says of it."""
    names = captions.SETS["shapes"][1]
    return dict(
        background=scene["background"], objects=[{name: o[name] for name in names} for o in scene["objects"]]
    )


def measured(before: np.ndarray, after: np.ndarray, scene: dict[str, Any]) -> dict[str, float]:
    """Of one edit, from uint8 (3, H, W) each."""
    seen, new = scenes.read(after[None])[0], recoloured(scene)
    free = outside(scene, before.shape[-1])
    to_new, to_old = (captions.agreement(seen, asked(s)) for s in (new, scene))
    others = [value for name, value in to_new.items() if name not in ("colour", captions.ALL)]
    return {
        "edited": to_new[captions.ALL],
        "colour": to_new["colour"],
        "kept": float(all(value == 1 for value in others)),
        "original": to_old[captions.ALL],
        "PSNR": min(99.0, psnr(before, after, np.ones_like(free))),
        "PSNR outside": min(99.0, psnr(before, after, free)),
    }


def edits(
    run: Any, row: int, way: tuple[int, int], a: argparse.Namespace
) -> tuple[list[dict[str, float]], Tensor]:
    """Of one image and one way: what is measured at each strength, and what was drawn (S, 3, H, W)."""
    data = run.data
    scene = data.attributes[row]
    x = data.take(np.array([row])).x
    text = caption(recoloured(scene))
    tokens = torch.from_numpy(run.config.words.tokens([text]).astype(np.int64))
    how = imagic.How(a.embedding_steps * way[0], a.tuning_steps * way[1], seed=a.seed)
    done = imagic.edit(run.model, x, tokens, how)
    drawn = torch.cat([done.at(s, 1, a.seed, guidance=a.guidance) for s in a.strengths])
    before = neighbours.grid(x.numpy(), data.levels)[0]
    return [measured(before, z, scene) for z in neighbours.grid(drawn.numpy(), data.levels)], drawn


def flip(rows: list[dict[str, float]], strengths: list[float]) -> float:
    """The least strength at which half as many have the new colour as at the best one; nan for none."""
    shares = [row["colour"] for row in rows]
    most = max(shares)
    return next((s for s, share in zip(strengths, shares) if most and share >= most / 2), math.nan)


def page(run: Any, rows: list[int], drawn: list[Tensor], strengths: list[float]) -> np.ndarray:
    tiles = [torch.cat([run.data.take(np.array([row])).x, x]) for row, x in zip(rows[:SHOWN], drawn[:SHOWN])]
    columns = [figures.pixels(torch.stack(column)) for column in zip(*tiles)]
    texts = [caption(recoloured(run.data.attributes[row])) for row in rows[:SHOWN]]
    return figures.sheet(columns, ["image", *(f"strength {s:g}" for s in strengths)], texts)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path)
    p.add_argument("-o", type=Path)
    p.add_argument("--strength", default="0,0.2,0.4,0.5,0.6,0.7,0.8,0.9,1")
    p.add_argument("--guidance", type=float, default=1.0)
    for name, value in (("n", 16), ("seed", 0)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--embedding-steps", type=int, default=imagic.EMBEDDING_STEPS)
    p.add_argument("--tuning-steps", type=int, default=imagic.TUNING_STEPS)
    a = p.parse_args()
    a.strengths = [float(s) for s in a.strength.split(",")]
    run = likeness.open(a.run)
    if captions.kind(run.data) != "shapes" or "tokens" not in run.model.takes:
        raise SystemExit(f"{a.run}: no run on shapes that reads texts")
    rows, results = picked(run, a.n), dict[str, Any]()
    print(f"{a.run}: {run.run.seen:,} images seen; {len(rows)} edits of a colour, guidance {a.guidance:g}")
    for name, way in WAYS.items():
        done = [edits(run, row, way, a) for row in rows]
        table = [
            {key: float(np.mean([one[i][key] for one, _ in done])) for key in done[0][0][i]}
            for i in range(len(a.strengths))
        ]
        results[name] = dict(rows=table, flip=flip(table, a.strengths))
        print(f"\n{name}; the colour flips at {results[name]['flip']:g}")
        print("| strength | edited | colour | kept | original | PSNR | PSNR outside |")
        print("|---" * 7 + "|")
        for s, row in zip(a.strengths, table):
            shares = [f"{100 * row[key]:.0f} %" for key in ("edited", "colour", "kept", "original")]
            print(
                f"| {s:g} | {' | '.join(shares)} | {row['PSNR']:.1f} | {row['PSNR outside']:.1f} |",
                flush=True,
            )
        if a.o and name == "imagic":
            storage.write(a.o, figures.png(page(run, rows, [x for _, x in done], a.strengths)))
    print(json.dumps(dict(asked={k: str(v) for k, v in vars(a).items()}, results=results)))


if __name__ == "__main__":
    main()
