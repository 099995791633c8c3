"""What a painted photo's loss is, beside that of L-BFGS on its pixels after 20 and 100 iterations.

    export LIKENESS_DATA=../shared/data
    likeness train faststyle PHOTOS runs/painter --style starry_night.jpg --size 256 --minutes 10
    python benchmarks/faststyle_loss.py runs/painter photo.jpg ... --size 256

The loss is that of the run: same network, layers, weights and painting (inference/style_loss.py).  L-BFGS
begins at the photo, which is where the network's work begins, too.  Johnson et al. 2016, figure 5: the
network's loss is that of 50 to 100 iterations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import likeness  # noqa: F401  (sets the environment before torch is imported)

import numpy as np  # isort: skip
import torch  # isort: skip
from PIL import Image, ImageOps  # isort: skip
from torch import Tensor  # isort: skip

from likeness.engine.minimize import LBFGS, minimize
from likeness.inference.style_loss import Goal, Objective
from likeness.models.faststyle import FastStyle
from likeness.parts.perceptual import Perceptual
from likeness.runs.run import Run


def photo(file: Path, size: int) -> Tensor:
    picture = ImageOps.fit(Image.open(file).convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def objective(model: FastStyle, eye: Perceptual, x: Tensor) -> Objective:
    with torch.no_grad():
        content = {model.content_layer: eye.features(x)[model.content_layer]}
    equal = dict.fromkeys(model.layers, 1.0)
    weights = (model.style_weight, model.content_weight, model.tv_weight)
    return Objective(eye, Goal(model.painting(), content, *weights, equal))


def optimised(loss: Objective, x: Tensor, marks: tuple[int, ...]) -> dict[int, float]:
    """The lowest loss within so many evaluations of L-BFGS, as `likeness style` has it."""
    losses = [float(s.loss.sum()) for s in minimize([x], loss, max(marks), 0.1, optimizer=LBFGS)]
    return {n: min(losses[: n + 1]) for n in marks}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--marks", type=int, nargs=2, default=[20, 100])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = Run.open(args.run).model
    assert isinstance(model, FastStyle), "a run of faststyle is needed"
    eye = Perceptual(
        model.network, tuple(dict.fromkeys((*model.layers, model.content_layer))), weights=model.weights
    )
    few, many = args.marks
    rows = []
    print(f"| photo | as it is | L-BFGS {few} | faststyle | L-BFGS {many} |\n|---|---|---|---|---|")
    for file in args.photos:
        x = photo(file, args.size)
        loss = objective(model, eye, x)
        began = time.perf_counter()
        made = model.translate(x)
        seconds = time.perf_counter() - began
        row = dict(photo=file.name, start=float(loss.measured(x)[0]), network=float(loss.measured(made)[0]))
        row |= dict(seconds=seconds, few=0.0, many=0.0) | dict(
            zip(("few", "many"), optimised(loss, x, (few, many)).values())
        )
        rows.append(row)
        print("| {photo} | {start:.3f} | {few:.3f} | {network:.3f} | {many:.3f} |".format(**row), flush=True)
    means = {
        key: statistics.mean(float(row[key]) for row in rows) for key in ("start", "few", "network", "many")
    }
    between = means["many"] <= means["network"] <= means["few"]
    print(f"mean {means}; the network lies between {few} and {many} iterations: {between}")
    result = dict(size=args.size, rows=rows, means=means, between=between)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
