"""What self-supervised models know of CIFAR-10's classes after so much processor time, beside what comes for
free.

    python benchmarks/ssl_cifar.py --minutes 20 --seeds 3 -o ssl_cifar.jsonl
    python benchmarks/ssl_cifar.py --minutes 3 --seeds 1 --only simclr vicreg

Every method has --minutes of processor time on one thread, which a short try turns into images, and its own
defaults but for what photographs call for: views may be mirrored.  Then its features are probed: the cosine
kNN (k = 20) and the linear probe of likeness.metrics.probing, told the labels of --known training images, on
all held-out ones.  Nothing is chosen by held-out images; the linear probe's penalty is chosen on a fifth of
those known.

    raw pixels        shrunk to 16x16
    random network    each network's first weights
    random patches    256 whitened 6x6 patches at every pixel (Coates, Lee & Ng 2011): no method has learnt anything that does not beat them
    supervised        `classifier`, a ResNet of the same trunk, told all labels of the training images for as long, without crops

The benchmark goes on where it was stopped.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measure import heading, machine, spread, table
from modes_found import Options, Row, affordable, begin, known

from likeness import data as datasets
from likeness import engine
from likeness.core import Encodes, Model
from likeness.data import Data
from likeness.metrics import probing
from likeness.training.loop import fit

METHODS: dict[str, Options] = {
    "rotation": dict(model="rotation", flip=True),
    "simclr": dict(model="simclr", flip=True),
    "byol": dict(model="byol", flip=True),
    "simsiam": dict(model="byol", flip=True, target="stopped"),
    "byol without stop-gradient": dict(model="byol", flip=True, target="joint"),
    "vicreg": dict(model="vicreg", flip=True),
    "dino": dict(model="dino", flip=True),
    "mae": dict(model="mae"),
    "supervised": dict(model="classifier", features=128),
}
FREE = ("raw pixels", "random patches")


def wanted(args: argparse.Namespace) -> Iterator[Row]:
    """Seed by seed, so that a benchmark that is stopped early has something of everything."""
    for seed in range(args.seeds):
        for name in (*FREE, *METHODS):
            if not args.only or any(part in name for part in args.only) or name in FREE:
                its = METHODS.get(name, {})
                options = {k: v for k, v in its.items() if k != "model"} | (
                    dict(precision=args.precision) if its else {}
                )
                minutes = args.minutes if its else 0
                yield dict(
                    data=args.data,
                    name=name,
                    model=its.get("model", ""),
                    options=options,
                    minutes=minutes,
                    known=args.known,
                    seed=seed,
                )


def key(row: Row) -> str:
    return json.dumps(
        {k: row[k] for k in ("data", "name", "model", "options", "minutes", "known", "seed")}, sort_keys=True
    )


def accuracies(
    known: np.ndarray, asked: np.ndarray, data: Data, rows: np.ndarray, seed: int
) -> dict[str, float]:
    """Of features of the training images `rows` and of all held-out ones."""
    labels, truth = data.y[rows], data.y[data.held_out]
    linear = probing.linear(known, labels, len(data.classes), seed)
    said = dict(knn=probing.knn(known, labels, asked), linear=linear.logits(asked).argmax(1))
    return {name: float((values == truth).mean()) for name, values in said.items()}


@torch.no_grad()
def features(model: Model, data: Data, rows: np.ndarray) -> np.ndarray:
    assert isinstance(model, Encodes)
    parts = np.array_split(rows, max(1, -(-len(rows) // 256)))
    return torch.cat(
        [model.encode(engine.put(data.take(part)).x).flatten(1).float().cpu() for part in parts]
    ).numpy()


def free(row: Row, data: Data, rows: np.ndarray) -> Row:
    if row["name"] == "raw pixels":
        known, asked = (probing.raw(data.x[part]) for part in (rows, data.held_out))
    else:
        patches = probing.Patches(data.x[rows], row["seed"], stride=1)
        known, asked = patches(data.x[rows]), patches(data.x[data.held_out])
    return dict(images=0, learnt=accuracies(known, asked, data, rows, row["seed"]))


def once(row: Row, data: Data, rows: np.ndarray, images: int) -> Row:
    """Probe the first weights, train, probe again; with what a model says of itself."""
    with (
        TemporaryDirectory() as folder,
        closing(begin(Path(folder, "run"), row["model"], data, row["options"], row["seed"], images)) as run,
    ):

        def probe() -> dict:
            known, asked = features(run.model, data, rows), features(run.model, data, data.held_out)
            return accuracies(known, asked, data, rows, row["seed"])

        random, began = probe(), time.process_time()
        for _ in fit(run, data, save_every=float("inf")):
            pass
        seconds = time.process_time() - began
        with torch.no_grad():
            verdicts = {
                name: value for name, value, _ in run.model.diagnose(engine.put(data.take(data.held_out)))
            }
        return dict(images=images, seconds=seconds, random=random, learnt=probe(), verdicts=verdicts)


def fill(args: argparse.Namespace, data: Data) -> list[Row]:
    """Every wanted row, from the file or by training now."""
    rows, images, out = (
        np.sort(np.random.default_rng(0).permutation(data.train)[: args.known]),
        dict[str, int](),
        list[Row](),
    )
    lines = {key(row): row for row in known(args.o)}
    for row in wanted(args):
        found = lines.get(key(row))
        if found is None:
            if not row["model"]:
                found = row | free(row, data, rows)
            else:
                if row["name"] not in images:
                    images[row["name"]] = affordable(row["model"], data, row["options"], 60 * args.minutes)
                found = row | once(row, data, rows, images[row["name"]])
            with args.o.open("a") as f:
                f.write(f"\n{json.dumps(found)}\n")  # the line before may be torn
            print(
                f"{found['name']}, seed {found['seed']}, {found['images']:,} images: {found['learnt']}",
                file=sys.stderr,
                flush=True,
            )
        if found["model"]:
            images[found["name"]] = found["images"]
        out.append(found)
    return out


def summary(rows: Sequence[Row]) -> Iterator[list[str]]:
    """A line of the table for each method, median (min-max) over its seeds, in %."""
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        cells = [spread([100 * row["learnt"][probe] for row in mine], 1) for probe in ("knn", "linear")]
        cells += [
            spread([100 * row["random"][probe] for row in mine], 1) if "random" in mine[0] else ""
            for probe in ("knn", "linear")
        ]
        ranks = [row["verdicts"]["RankMe"] for row in mine if "RankMe" in row.get("verdicts", {})]
        yield [name, str(len(mine)), *cells, spread(ranks, 1) if ranks else "", f"{mine[0]['images']:,}"]


HEAD = [
    "features",
    "runs",
    "kNN, %",
    "linear, %",
    "first weights: kNN, %",
    "first weights: linear, %",
    "RankMe",
    "images seen",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--minutes", type=float, default=20, help="of processor time, a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--known", type=int, default=20_000, help="training images whose labels the probes are told"
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--only", nargs="+", default=[], help="methods whose name has one of these in it")
    parser.add_argument(
        "-o", type=Path, default=Path("ssl_cifar.jsonl"), help="file of the runs, which is gone on with"
    )
    args, load = parser.parse_args(), machine()
    torch.set_num_threads(1)
    engine.start()
    data = datasets.load(args.data)
    rows = fill(args, data)
    told = (
        f"{min(args.known, len(data.train)):,} labelled training images, {len(data.held_out):,} held-out ones"
    )
    print(
        f"{heading(load)}\n\n{args.data}, {args.minutes:g} minutes of one thread a run; {told}; median "
        "(min-max) over the seeds\n"
    )
    print(table(HEAD, summary(rows)))


if __name__ == "__main__":
    main()
