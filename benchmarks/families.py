"""Every family on the same images, for the same minutes, judged by the same yardsticks: the comparison that
the lecture never shows.

    OMP_NUM_THREADS=1 python benchmarks/families.py fashion-mnist --minutes 20 --seeds 3 --folder
    runs/families -o families.jsonl

Each stage of each model is a `likeness train` of its own, whose images are those that a short try says fit
into its minutes, so that a cosine can end with them.  One thread for twenty minutes is what two cores do in
ten, and two such benchmarks, each with some of the families (--only), may run side by side, but nothing else:
what is equal is time.

A benchmark that was stopped goes on where it was: a run that is judged is a line of the file, which is enough
for the table, and RUN.png has its first samples; families.png has them of all families.  The page shows the
runs whose folders are still there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import heading, machine, table
from modes_found import known
from PIL import Image

from likeness import api, figures
from likeness.metrics.card import RENAMED

HERE = Path(__file__).parent
Cards = dict[str, float]
Row = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    model: str
    share: float = 1.0
    """of the minutes; 0 for one that counts once through the images"""
    options: list[str] = field(default_factory=list)


COSINE = ["--schedule", "cosine"]
FAMILIES: dict[str, list[Stage]] = {
    "AE and a Gaussian": [Stage("ae", 1.0, COSINE), Stage(str(HERE / "code_gaussian.py"), 0.0)],
    "VAE": [Stage("vae", 1.0, COSINE)],
    "VQ-VAE and PixelCNN": [Stage("vqvae", 0.4, COSINE), Stage("pixelcnn", 0.6, COSINE)],
    "PixelCNN++": [
        Stage(
            "pixelcnnpp",
            1.0,
            ["--width", "16", "--depth", "1", "--dropout", "0", "--batch", "32", "--rate", "2e-3", *COSINE],
        )
    ],
    "R3GAN": [Stage("r3gan", 1.0, COSINE)],
    "DDPM": [Stage("ddpm", 1.0, COSINE)],
    "flow matching": [Stage("flowmatching", 1.0, COSINE)],
    "MeanFlow, one step": [Stage("meanflow", 1.0, COSINE)],
}
CARDS = {
    "Fréchet distance": "FD",
    "C2ST accuracy": "C2ST accuracy",
    "coverage": "coverage",
    "duplicate samples": "duplicate samples",
    "nearer than held-out images": "nearer than held-out images",
    "bits/dim": "bits/dim",
    "sampling": "seconds a sample",
}


def likeness(*words: object) -> str:
    """What a command prints; its own words on stderr go through."""
    done = subprocess.run(
        [sys.executable, "-m", "likeness", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def affordable(stage: Stage, source: str, minutes: float, folder: Path) -> int:
    """Images that fit into so many minutes, by a try of a fifth of a minute beyond the first steps."""
    if not stage.share:
        return 60_000
    options = [word for word in stage.options if word not in COSINE]
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        tries = [
            (
                "train",
                stage.model,
                source,
                Path(inside, "pilot"),
                *options,
                "--minutes",
                upto,
                "--no-report",
                "--json",
            )
            for upto in (0.1, 0.3)
        ]
        first, last = (json.loads(likeness(*words)) for words in tries)
    return round(
        (last["seen"] - first["seen"]) / (last["seconds"] - first["seconds"]) * 60 * minutes * stage.share
    )


def made(said: argparse.Namespace, name: str, seed: int) -> Path:
    """The last run of a family.  What its budgets come to in images is a line of the file too, so that every
    seed gets the same."""
    at, run = said.data, said.folder
    for number, stage in enumerate(FAMILIES[name]):
        run = (
            said.folder
            / f"{name.replace(' ', '-').replace(',', '')}-{seed}{'-first' * (number + 1 < len(FAMILIES[name]))}"  # noqa: E501
        )
        asked = dict(data=said.data, budget=name, stage=number, minutes=said.minutes)
        images = next((row["images"] for row in known(said.o) if asked.items() <= row.items()), None)
        if images is None:
            images = affordable(stage, at, said.minutes, said.folder)
            write(said.o, asked | dict(images=images))
        likeness(
            "train",
            stage.model,
            at,
            run,
            *stage.options,
            "--images",
            images,
            "--seed",
            seed,
            "--no-report",
            "--json",
        )
        at = str(run)
    return run


def judged(run: Path, n: int) -> dict[str, Cards]:
    """Value and floor of the cards."""
    likeness("evaluate", run, "-n", n, "--json")
    cards = json.loads((run / "scores.json").read_text())
    cards = cards["cards"]
    mine = [c for c in cards if c["of"] == "model" and c["name"] in CARDS]
    return dict(
        values={c["name"]: c["value"] for c in mine},
        floors={c["name"]: c["floor"] for c in mine if c.get("floor") is not None},
    )


def strip(run: Path) -> None:
    """Its first samples in a row: RUN.png, beside the run."""
    drawn = api.open(run).sample(12)
    replace(drawn, page=figures.grid(drawn.x, 12, scale=2)).save(run.with_suffix(".png"))


def pictures_of(said: argparse.Namespace, rows: Sequence[Row]) -> None:
    """The strips of the first seed, one below the other, in FOLDER/families.png."""
    strips = [
        path for row in rows if row["seed"] == 0 and (path := said.folder / f"{row['run']}.png").exists()
    ]
    if strips:
        page = figures.stacked(*(np.asarray(Image.open(path).convert("RGB")) for path in strips))
        recipe = dict(
            data=said.data, seed=0, command="benchmarks/families.py", order=[path.stem for path in strips]
        )
        figures.write_png(said.folder / "families.png", page, recipe)


def budget(said: argparse.Namespace, name: str) -> str:
    """What its minutes came to, a number for each stage."""
    budgets = {
        row["stage"]: row["images"]
        for row in known(said.o)
        if dict(data=said.data, budget=name, minutes=said.minutes).items() <= row.items()
    }
    return " + ".join(f"{budgets[stage]:,}" for stage in sorted(budgets))


def renamed(values: dict[str, float]) -> dict[str, float]:
    """By the names that measures have today: a file of judged runs may be older."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def cell(found: Sequence[Cards], card: str) -> str:
    values = [f[card] for f in found if card in f]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-n", type=int, default=2000, help="images and samples that are judged")
    parser.add_argument("--only", choices=list(FAMILIES), action="append")
    parser.add_argument("--folder", type=Path, default=Path("runs/families"))
    parser.add_argument(
        "-o", type=Path, default=Path("families.jsonl"), help="file of the judged runs, which is gone on with"
    )
    said, load = parser.parse_args(), machine()
    said.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in fill(said) if row["name"] in (said.only or FAMILIES)]
    by_name = {
        name: [row for row in rows if row["name"] == name]
        for name in FAMILIES
        if any(row["name"] == name for row in rows)
    }
    print(f"{heading(load)}\n")
    body = [
        [
            name,
            str(len(mine)),
            *(cell([renamed(row["values"]) for row in mine], card) for card in CARDS),
            budget(said, name),
        ]
        for name, mine in by_name.items()
    ]
    floors = [row["floors"] for row in rows]
    body.append(
        ["real images", "", *(cell([f for f in floors if card in f][:1], card) for card in CARDS), ""]
    )
    print(table(["", "runs", *CARDS.values(), "budget in images, by stage"], body))
    pictures_of(said, [row for mine in by_name.values() for row in mine])
    runs = [
        said.folder / row["run"]
        for row in rows
        if row["seed"] == 0 and (said.folder / row["run"] / "scores.json").exists()
    ]
    if len(runs) > 1:
        likeness("evaluate", *runs, "-n", said.n, "-o", said.folder, "--json")
        print(f"page: {said.folder / 'compare.html'}", file=sys.stderr)


def fill(said: argparse.Namespace) -> list[Row]:
    """Every wanted row, from the file or made now: seed by seed, so that one that is stopped early has
    something of everything."""
    rows = []
    for seed in range(said.seeds):
        for name in said.only or FAMILIES:
            asked = dict(data=said.data, name=name, minutes=said.minutes, seed=seed, n=said.n)
            row = next((row for row in known(said.o) if asked.items() <= row.items()), None)
            if row is None:
                run = made(said, name, seed)
                row = asked | dict(run=run.name) | judged(run, said.n)
                write(said.o, row)
                strip(run)
                print(
                    f"{name}, seed {seed}: FD {cell([row['values']], 'Fréchet distance')}",
                    file=sys.stderr,
                    flush=True,
                )
            rows.append(row)
    return rows


def write(path: Path, row: Row) -> None:
    with path.open("a") as f:
        f.write(f"\n{json.dumps(row)}\n")  # the line before may be torn


if __name__ == "__main__":
    main()
