"""Every family on the same images, for the same minutes, judged by the same yardsticks: the comparison that the lecture never shows.

    python benchmarks/families.py fashion-mnist --minutes 10 --seeds 3 --folder runs/families

Each stage of each model is a `likeness train` of its own, whose images are those that a short try says fit into its minutes, so that a
cosine can end with them.  A benchmark that was stopped goes on where it was; `--only NAME` is one family.  Keep the machine quiet:
what is equal is time.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


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
    "PixelCNN++": [Stage("pixelcnnpp", 1.0, ["--width", "16", "--depth", "1", "--dropout", "0", "--batch", "32", "--rate", "2e-3", *COSINE])],
    "R3GAN": [Stage("r3gan", 1.0, COSINE)],
    "DDPM": [Stage("ddpm", 1.0, COSINE)],
    "EDM": [Stage("edm", 1.0, COSINE)],
    "flow matching": [Stage("flowmatching", 1.0, COSINE)],
    "MeanFlow, one step": [Stage("meanflow", 1.0, COSINE)],
}
CARDS = {
    "Fréchet distance": "FD",
    "told apart": "told apart",
    "coverage": "coverage",
    "duplicates": "duplicates",
    "nearer than held out": "nearer than held out",
    "bits/dim": "bits/dim",
    "sampling": "seconds a sample",
}


def likeness(*words: object) -> str:
    """What a command prints; its own words on stderr go through."""
    done = subprocess.run([sys.executable, "-m", "likeness", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def affordable(stage: Stage, source: str, minutes: float, folder: Path) -> int:
    """Images that fit into so many minutes, by a try of a tenth of a minute beyond the first steps."""
    if not stage.share:
        return 60_000
    pilot = folder / "pilot"
    shutil.rmtree(pilot, ignore_errors=True)
    options = [word for word in stage.options if word not in COSINE]
    seen, seconds = [0], [0.0]
    for upto in (0.1, 0.3):
        found = json.loads(likeness("train", stage.model, source, pilot, *options, "--minutes", upto, "--no-report", "--json"))
        seen.append(found["seen"])
        seconds.append(found["seconds"])
    shutil.rmtree(pilot)
    return round((seen[2] - seen[1]) / (seconds[2] - seconds[1]) * 60 * minutes * stage.share)


def made(name: str, source: str, minutes: float, seed: int, folder: Path) -> Path:
    """The last run of a family."""
    at, run = source, folder
    for number, stage in enumerate(FAMILIES[name]):
        run = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}{'-first' * (number + 1 < len(FAMILIES[name]))}"
        budgets = folder / "budgets.json"
        known = json.loads(budgets.read_text()) if budgets.exists() else {}
        key = f"{name} {number} {minutes:g}"
        if key not in known:
            known[key] = affordable(stage, at, minutes, folder)
            budgets.write_text(json.dumps(known, indent=1))
        likeness("train", stage.model, at, run, *stage.options, "--images", known[key], "--seed", seed, "--no-report", "--json")
        at = str(run)
    return run


def judged(run: Path, n: int) -> dict[str, tuple[float, float]]:
    """Value and floor of the cards, as they are in scores.json, or made now."""
    if not (run / "scores.json").exists():
        likeness("evaluate", run, "-n", n, "--json")
    cards = json.loads((run / "scores.json").read_text())
    cards = cards["scores"] if isinstance(cards, dict) else cards
    return {c["name"]: (c["value"], c.get("floor") or math.nan) for c in cards if c["of"] == "model" and c["name"] in CARDS}


def cell(found: list[dict[str, tuple[float, float]]], card: str) -> str:
    values = [f[card][0] for f in found if card in f]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-n", type=int, default=2000, help="images and samples that are judged")
    parser.add_argument("--only", choices=list(FAMILIES), action="append")
    parser.add_argument("--folder", type=Path, default=Path("runs/families"))
    said = parser.parse_args()
    said.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, tuple[float, float]]]] = {}
    runs = []
    for seed in range(said.seeds):  # seed by seed, so that one that is stopped early has something of everything
        for name in said.only or FAMILIES:
            runs.append(made(name, said.data, said.minutes, seed, said.folder))
            found.setdefault(name, []).append(judged(runs[-1], said.n))
            print(f"{name}, seed {seed}: FD {cell(found[name][-1:], 'Fréchet distance')}", file=sys.stderr, flush=True)
    print(f"| | {' | '.join(CARDS.values())} |\n|{'---|' * (len(CARDS) + 1)}")
    for name, scores in found.items():
        print(f"| {name} | {' | '.join(cell(scores, card) for card in CARDS)} |")
    floors = [{card: (floor, floor) for card, (_, floor) in scores[0].items() if not math.isnan(floor)} for scores in found.values()]
    print(f"| real images | {' | '.join(cell([f for f in floors if card in f][:1], card) for card in CARDS)} |")
    likeness("evaluate", *runs, "-n", said.n, "-o", said.folder, "--json")
    print(f"page: {said.folder / 'compare.html'}", file=sys.stderr)


if __name__ == "__main__":
    main()
