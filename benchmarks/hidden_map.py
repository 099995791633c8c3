"""Whether a map that nobody was told is learnt from two heaps of images, and by which parts of the loss.

    OMP_NUM_THREADS=1 python benchmarks/hidden_map.py --seeds 0 1 2 --pictures hidden-map

On the built-in set hidden-map, B is T(A) of other scenes (T: thicker outlines, inverted, tinted).  For each
seed and each of --parts: the mean error of G(a) to T(a) of held-out images in grey levels of 255, the same of
the way back, and the share of them whose class a classifier still sees that was trained on images of B.
Beside them what costs nothing: identity, the mean image of B, an image of B by chance.

What it must show: cycle alone has some map that can be undone, and T only by chance; gan alone loses
classes; full has the smallest error of all and keeps at least 90 % of classes.
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
from torch import Tensor

from likeness import data as datasets
from likeness import engine, figures, models
from likeness.core import Model
from likeness.data import Data, picture
from likeness.runs.run import Config, Run
from likeness.training import loop

PARTS = ("cycle", "gan", "full")


def trained(
    name: str, data: Data, seed: int, options: dict[str, Any], **training: Any
) -> tuple[Model, float]:
    """The model as it answers, and seconds of processor time."""
    kind = models.load(name)
    spec = data.spec
    settings = engine.settle(replace(kind.defaults, seed=seed, **training), spec)
    built = kind(spec=spec, **options)
    config = Config(
        name, spec, settings, built.options(), data.identity, engine.facts(), {}, list(data.classes)
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", config)
        began = time.process_time()
        for _ in loop.fit(run, data, save_every=1e9):
            pass
        took = time.process_time() - began
        run.close()
        return run.model, took


def eye(data: Data, images: int) -> tuple[Model, float]:
    """A classifier of B, and its accuracy on held-out images of B."""
    alone = replace(data, other=None, pairs=None)
    model, _ = trained("classifier", alone, 0, {}, images=images)
    x, y = picture(data.x[data.held_out]), data.y[data.held_out]
    return model, accuracy(model, x, y)


@torch.no_grad()
def accuracy(model: Model, x: Tensor, y: np.ndarray) -> float:
    return float(
        (
            model.classify(x.to(engine.device(), memory_format=torch.channels_last)).argmax(1).cpu().numpy()
            == y
        ).mean()
    )


def levels(x: Tensor, y: Tensor) -> float:
    """Mean absolute difference in grey levels of 255."""
    return float((x - y).abs().mean()) * 127.5


def baselines(a: Tensor, right: Tensor, b: Tensor, kept: Any) -> dict[str, dict[str, float]]:
    chance = b[torch.from_numpy(np.random.default_rng(0).integers(0, len(b), len(a)))]
    candidates = {"identity": a, "mean of B": b.mean(0, keepdim=True).expand_as(a), "any of B": chance}
    return {name: dict(error=levels(x, right), kept=kept(x)) for name, x in candidates.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="hidden-map")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", default=PARTS)
    parser.add_argument("--images", type=int, default=100_000, help="to see, of each domain")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--set", nargs="*", default=[], help="options of cyclegan, such as width=16")
    parser.add_argument("--classifier", type=int, default=40_000, help="images that the classifier sees")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each: source, made, right")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data = datasets.load(args.data, size=args.size)
    assert data.other is not None and data.truth is not None
    a, right = picture(data.other.x[data.other.held_out]), picture(data.truth)
    classes = data.other.y[data.other.held_out]
    judge, sure = eye(data, args.classifier)

    def kept(x: Tensor) -> float:
        return accuracy(judge, x, classes)

    table: dict[str, Any] = dict(
        classifier=dict(on_B=sure, on_truth=kept(right)),
        baselines=baselines(a, right, picture(data.x[data.train]), kept),
        runs=[],
    )
    print(json.dumps(table), flush=True)
    extra = {k: kind_of(v) for k, v in (word.split("=") for word in args.set)}
    for seed in args.seeds:
        for parts in args.parts:
            options = dict(parts=parts) | extra
            training = dict(images=args.images, batch=args.batch, rate=args.rate)
            model, took = trained("cyclegan", data, seed, options, **training)
            made = model.translate(a.to(engine.device(), memory_format=torch.channels_last)).cpu()
            back = model.translate(
                right.to(engine.device(), memory_format=torch.channels_last), back=True
            ).cpu()
            row = dict(
                seed=seed,
                parts=parts,
                error=levels(made, right),
                error_back=levels(back, a),
                kept=kept(made),
                cpu_seconds=took,
            )
            table["runs"].append(row)
            print(json.dumps(row), flush=True)
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                page = figures.beside(a[:24], made[:24], right[:24], across=9)
                figures.write_png(args.pictures / f"{parts}-{seed}.png", page, row | dict(data=args.data))
    print(shown(table))


def kind_of(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def shown(table: dict[str, Any]) -> str:
    lines = [f"{'':12}{'seed':>6}{'error':>8}{'back':>8}{'kept':>8}{'cpu s':>8}"]
    for name, row in table["baselines"].items():
        lines.append(f"{name:12}{'':6}{row['error']:8.1f}{'':8}{row['kept']:8.1%}")
    lines += [
        f"{row['parts']:12}{row['seed']:6}{row['error']:8.1f}{row['error_back']:8.1f}{row['kept']:8.1%}"
        f"{row['cpu_seconds']:8.0f}"
        for row in table["runs"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
