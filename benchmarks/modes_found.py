"""What the benchmarks of modes share: runs of equal budgets, each judged by the modes that it finds, and each
a line of a file.

A budget is so many images, or so many seconds of processor time, where a short try tells how many images that
is.  A benchmark that was stopped goes on after its last line; a line is known by all that decides it but the
code.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from measure import spread

from likeness import engine, models
from likeness.core import Diverged, Training
from likeness.data import Data
from likeness.evaluation import exam as evaluate
from likeness.evaluation import known_modes
from likeness.evaluation.known_modes import Law
from likeness.metrics import modes
from likeness.runs.run import Config, Run, is_run
from likeness.training.loop import fit

Options = dict[str, Any]
Row = dict[str, Any]
KINDS = ("raw", "average")
"""the generator as training leaves it, and the EMA of its weights"""
TRY, WARM = 60, 20
"""steps that tell what one costs, and steps before them"""


def begin(folder: Path, model: str, data: Data, options: Options, seed: int, images: int) -> Run:
    """A new run, or the one that was stopped there.  options: of the model, of its training, and
    `noise_share` of the budget after which noise is gone."""
    if is_run(folder):
        return Run.resume(folder)
    kind = models.load(model)
    own = {f.name for f in fields(Training)}
    training = replace(
        kind.defaults, seed=seed, images=images, **{k: v for k, v in options.items() if k in own}
    )
    chosen = {k: v for k, v in options.items() if k not in own}
    if share := chosen.pop("noise_share", 0.0):
        chosen["noise_images"] = max(1, int(share * images))
    return Run.create(
        folder,
        Config(model, data.spec, engine.settle(training, data.spec), chosen, data.identity, engine.facts()),
    )


def affordable(model: str, data: Data, options: Options, seconds: float) -> int:
    """How many images are seen in so many seconds of processor time: whole batches."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(begin(Path(folder, "run"), model, data, options, 0, 10**9)) as run,
    ):
        steps = fit(run, data, save_every=math.inf)
        *_, first = islice(steps, WARM)
        began = time.process_time()
        *_, last = islice(steps, TRY)
        each = (time.process_time() - began) / (last.seen - first.seen)
    return max(1, int(seconds / each / run.config.training.batch)) * run.config.training.batch


def once(folder: Path, model: str, data: Data, law: Law, row: Row) -> Row:
    """Train and judge."""
    with closing(begin(folder, model, data, row["options"], row["seed"], row["images"])) as run:
        start, began, diverged = run.seen, time.process_time(), False
        try:
            for _ in fit(run, data):
                pass
        except Diverged:
            diverged = True
        new = run.seen - start  # none, if it was trained elsewhere: then nobody has counted
        # of one that was stopped meanwhile, about
        seconds = (time.process_time() - began) * run.seen / new if new else math.nan
        if diverged:
            return dict(seconds=seconds)
        average = evaluate.prepare(run, data, 1, row["seed"])
        exams = zip(KINDS, (replace(average, model=run.raw()), average))
        return dict(seconds=seconds) | {
            kind: counted(law, law.modes_of(exam.made(law.n))) for kind, exam in exams
        }


def counted(law: Law, mode: np.ndarray) -> Options:
    """Of samples of these modes (n,): modes found, share near any, reverse KL."""
    counts = modes.counts(mode, len(law.shares))
    kl = float(modes.reverse_kl(counts, law.shares))
    return dict(
        modes=int(modes.covered(counts)),
        quality=float((mode != modes.NONE).mean()),
        reverse_kl=math.inf if math.isnan(kl) else kl,
    )


# The file


def known(path: Path) -> Iterator[Row]:
    """The lines of an earlier call; a last one that a kill has torn is left out."""
    for line in path.read_text().split("\n") if path.exists() else []:
        if not line:
            continue
        try:
            yield json.loads(line)
        except ValueError:
            print(f"{path}: a torn line is left out", file=sys.stderr)


def key(row: Row) -> str:
    return json.dumps(
        {k: row[k] for k in ("data", "name", "model", "options", "budget", "seed")}, sort_keys=True
    )


def fill(wanted: Iterable[Row], data: Data, path: Path, keep: Path | None = None) -> list[Row]:
    """Every wanted row, from the file or by training now.  keep: a folder for the runs, which are else thrown
    away."""
    law, rows, images = known_modes.find(data), list[Row](), dict[str, int]()
    lines = {key(row): row for row in known(path)}
    for row in wanted:
        setting = key(row | dict(seed=0))
        found = lines.get(key(row))
        if found is None:
            if setting not in images:
                images[setting] = row["budget"].get("images") or affordable(
                    row["model"], data, row["options"], row["budget"]["seconds"]
                )
            found = row | dict(images=images[setting])
            with place(keep, found) as folder:
                found |= once(folder, found["model"], data, law, found)
            with path.open("a") as f:
                f.write(f"\n{json.dumps(found)}\n")  # the line before may be torn
            print(line_of(found), file=sys.stderr, flush=True)
        images[setting] = found["images"]
        rows.append(found)
    return rows


@contextmanager
def place(keep: Path | None, row: Row) -> Iterator[Path]:
    """For a run."""
    if keep is not None:
        yield keep / f"{row['name'].replace(' ', '-')}-{row['images']}-{row['seed']}"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "run")


def wanted(source: str, model: str, settings: dict[str, Options], args: argparse.Namespace) -> Iterator[Row]:
    """Seed by seed, so that a benchmark that is stopped early has something of everything.  A setting may
    name another model."""
    budget = dict(images=args.images) if args.images else dict(seconds=args.seconds)
    for seed in range(args.seeds):
        for name, options in settings.items():
            if not args.only or any(part in name for part in args.only):
                its = options.get("model", model)
                yield dict(
                    data=source,
                    name=name,
                    model=its,
                    options={k: v for k, v in options.items() if k != "model"},
                    budget=budget,
                    seed=seed,
                )


# Words


def line_of(row: Row) -> str:
    start = f"{row['name']}, seed {row['seed']}, {row['images']:,} images, {row['seconds']:.0f} s: "
    if "raw" not in row:
        return start + "diverged"
    return start + "; ".join(
        f"{kind} {m['modes']} modes, {m['quality']:.1%}, {m['reverse_kl']:.4f}"
        for kind, m in ((k, row[k]) for k in KINDS)
    )


def head(quality: bool) -> list[str]:
    measures = ["modes", *(["high quality, %"] if quality else []), "reverse KL"]
    return [
        "setting",
        "runs",
        "diverged",
        *(f"{kind}: {measure}" for kind in KINDS for measure in measures),
        "processor seconds",
        "images",
    ]


def summary(rows: Sequence[Row], quality: bool) -> Iterator[list[str]]:
    """A row of the table for each setting, median (min-max) over its seeds; a run that diverged has found
    nothing."""
    nothing = dict(modes=0, quality=0.0, reverse_kl=math.inf)
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        cells = [name, str(len(mine)), str(sum("raw" not in row for row in mine))]
        for kind in KINDS:
            found = [row.get(kind, nothing) for row in mine]
            shares = [spread([100 * m["quality"] for m in found], 1)] if quality else []
            cells += [
                spread([m["modes"] for m in found]),
                *shares,
                spread([m["reverse_kl"] for m in found], 3),
            ]
        yield [
            *cells,
            spread([row["seconds"] for row in mine]),
            f"{statistics.median(row['images'] for row in mine):,.0f}",
        ]


def arguments(parser: argparse.ArgumentParser, seeds: int, seconds: float, file: str) -> None:
    parser.add_argument("--only", nargs="+", default=[], help="settings whose name has one of these in it")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of processor time, a run")
    parser.add_argument("--images", type=int, default=0, help="images (or points) a run, instead")
    parser.add_argument("-o", type=Path, default=Path(file), help="file of the runs, which is gone on with")
