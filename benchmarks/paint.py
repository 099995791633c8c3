"""One stroke, "make it red", on images of one coloured shape: whether the checker reads red, and the same shape in
the same place; by family, with what a candidate more costs.

    python benchmarks/paint.py --make close.npy
    likeness train gan close.npy runs/gan ...                  (docs/painting.md has all of them)
    python benchmarks/paint.py runs/vae runs/gan runs/flow runs/pixelcnn -n 40

The images are scenes of the set `shapes`, another seed's, with one object in the centre, cut to 16 pixels around a
point up to two pixels away, which a short training can learn; the checker reads them laid back into 32 pixels.  Two
rows stand for what is no edit at all: the image itself, on which the checker must read what was drawn, and the
image with the stroke pasted on.  `projection` is what a code search begins with: what it has lost already no edit
brings back.
"""  # noqa: E501

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import heading, machine, table
from torch import Tensor

import likeness
from likeness import figures
from likeness.data import shapes
from likeness.evaluation import scenes
from likeness.inference import constraints, strokes

RED, RADIUS = "#{:02x}{:02x}{:02x}".format(*shapes.COLOURS["red"]), 0.08


def make(path: Path, n: int = 400_000) -> None:
    """uint8 (N, 16, 16, 3)."""
    known = shapes.invent(n, 32, 7)
    keep = (known.many == 1) & (known.place[:, 0] == 4)
    names = ("many", "ground", "place", "form", "colour", "large", "shift")
    few = replace(known, **{name: getattr(known, name)[keep] for name in names})
    x = np.concatenate(list(shapes.draw(few)))
    cut = [a[:, 8 - dy : 24 - dy, 8 - dx : 24 - dx] for a, (dx, dy) in zip(x, offsets(len(x)))]
    np.save(path, np.stack(cut).transpose(0, 2, 3, 1))
    print(f"{len(x):,} images: {path}")


def offsets(n: int) -> np.ndarray:
    """How far the object of each of n images is from the middle, int64 (n, 2): x and y in pixels."""
    return np.random.default_rng(0).integers(-2, 3, (n, 2))


def read(x: Tensor, off: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """What the checker sees on images (B, 3, 16, 16), laid back to where they were cut."""
    pixels = figures.pixels(x.clamp(-1, 1)).transpose(0, 3, 1, 2)
    rim = np.concatenate(
        [pixels[:, :, [0, -1]].reshape(len(x), 3, -1), pixels[..., [0, -1]].reshape(len(x), 3, -1)], 2
    )
    whole = np.repeat(np.repeat(np.median(rim, 2).astype(np.uint8)[..., None, None], 32, 2), 32, 3)
    for canvas, image, (dx, dy) in zip(whole, pixels, off):
        canvas[:, 8 - dy : 24 - dy, 8 - dx : 24 - dx] = image
    return scenes.read(whole)


def only(scene: dict[str, Any]) -> dict[str, Any] | None:
    return scene["objects"][0] if len(scene["objects"]) == 1 else None


def chosen(run: likeness.Trained, n: int) -> tuple[Tensor, list[dict[str, Any]]]:
    """Held-out images of one shape that is not red, as the checker reads them."""
    rows = run.data.held_out[: 4 * n]
    x, off = run.data.take(rows).x, offsets(len(run.data.x))[rows]
    both = [
        (image, it | dict(off=tuple(o)))
        for image, scene, o in zip(x, read(x, off), off.tolist())
        if (it := only(scene)) and it["colour"] != "red"
    ]
    return torch.stack([image for image, _ in both[:n]]), [it for _, it in both[:n]]


def on(old: dict[str, Any]) -> strokes.Stroke:
    """One touch of red in the middle of an object."""
    (dx, dy), x, y = old["off"], old["x"], old["y"]
    return strokes.parse(f"colour:{RED}:{(x - 8 + dx) / 16:.4f},{(y - 8 + dy) / 16:.4f}:{RADIUS}")


def share(of: Iterable[bool]) -> str:
    """With Wilson's interval of 95 %."""
    hits = list(of)
    n, p, z = len(hits), sum(hits) / len(hits), 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (abs(middle + s * half) / (1 + z * z / n) for s in (-1, 1))
    return f"{p:.0%} ({low:.0%} to {high:.0%})"


def row(name: str, x: Tensor, wanted: list[dict[str, Any]], *more: str) -> str:
    found = [only(scene) or {} for scene in read(x, [old["off"] for old in wanted])]
    red = [it.get("colour") == "red" for it in found]
    shape = [it.get("shape") == old["shape"] for it, old in zip(found, wanted)]
    place = [it.get("place") == old["place"] for it, old in zip(found, wanted)]
    every = [all(three) for three in zip(red, shape, place)]
    return f"| {' | '.join([name, *map(share, (red, shape, place, every)), *more])} |"


def edits(run: likeness.Trained, x: Tensor, wanted: list[dict[str, Any]], candidates: int) -> None:
    best, any_of, backs, before, after, rest, seconds = [], [], [], [], [], [], []
    for image, old in zip(x, wanted):
        stroke = on(old)
        begin = time.process_time()
        made = run.paint([stroke], image, n=candidates)
        seconds.append(time.process_time() - begin)
        at = made.painted
        base = image if at.back is None else at.back
        c = constraints.compiled([stroke], 3, run.config.spec.size, base)
        before.append(float(c.terms(base[None])["colour"]))
        after.append(float(c.terms(at.x[:1])["colour"]))
        rest.append(float(c.terms(at.x[:1])["rest"]) ** 0.5 * 127.5)
        best.append(at.x[0])
        asked = ("red", old["shape"], old["place"])
        seen = [it for it in map(only, read(at.x, [old["off"]] * len(at.x))) if it]
        any_of.append(any((it["colour"], it["shape"], it["place"]) == asked for it in seen))
        if at.back is not None:
            backs.append(at.back)
    name = f"{run.folder.name} ({run.config.model}, {run.run.seen:,} images seen)"
    if backs:
        print(row(f"{name}: projection", torch.stack(backs), wanted, "", "", "", ""))
    lower, kept = 1 - np.mean(after) / np.mean(before), f"{np.median(rest):.1f}"
    more = (share(any_of), f"{lower:.0%}", kept, f"{np.median(seconds):.2f}")
    print(row(name, torch.stack(best), wanted, *more), flush=True)


def costs(run: likeness.Trained, x: Tensor, old: dict[str, Any]) -> str:
    """CPU time of the search with 1 and with 8 candidates, without the projection."""
    from likeness.inference import manifold

    stroke = on(old)
    result = []
    for n in (1, 8):
        took = []
        for _ in range(3):
            c = constraints.compiled([stroke], 3, run.config.spec.size, x)
            states = manifold.painting(run.model, c, manifold.How(n))
            next(states)  # after the projection
            begin = time.process_time()
            for _ in states:
                pass
            took.append(time.process_time() - begin)
        result.append(min(took))
    return f"| {run.folder.name} | {result[0]:.2f} | {result[1]:.2f} | {result[1] / result[0]:.1f} |"


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("-n", type=int, default=40, help="images")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--make", type=Path, help="write the images")
    typed, load = parser.parse_args(), machine()
    if typed.make:
        make(typed.make)
        return
    torch.set_num_threads(1)
    runs = [likeness.open(folder) for folder in typed.runs]
    x, wanted = chosen(runs[0], typed.n)
    print(heading(load))
    print(f"{len(x)} held-out images of {x.shape[-1]} pixels; best of {typed.candidates} candidates\n")
    print(
        table(
            [
                *("run", "red", "same shape", "same place", "all three", "all three, any candidate"),
                *("error in the stroke lower by", "rest off, grey levels", "CPU s"),
            ],
            [],
        )
    )
    pasted = []
    for image, old in zip(x, wanted):
        c = constraints.compiled([on(old)], 3, x.shape[-1], image)
        pasted.append(c.painted(image[None])[0])
    print(row("the image itself", x, wanted, "", "", "", ""))
    print(row("the stroke pasted on", torch.stack(pasted), wanted, "", "", "", ""))
    for run in runs:
        edits(run, x, wanted, typed.candidates)
    print("\n" + table(["run", "1 candidate, CPU s", "8 candidates", "times"], []))
    for run in runs:
        print(costs(run, x[0], wanted[0]), flush=True)


if __name__ == "__main__":
    main()
