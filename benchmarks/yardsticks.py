"""Which yardstick sees which fault: trains every bad generator on a data set, scores it, and prints one
table.

python benchmarks/yardsticks.py mnist -n 10000 --folder runs/bad
"""

from __future__ import annotations

import argparse
from pathlib import Path

import likeness
from likeness import data as datasets
from likeness.evaluation import distribution
from likeness.evaluation import exam as evaluate
from likeness.metrics.card import Score, short
from likeness.models import load
from likeness.runs.run import Run

FILE = Path(__file__).with_name("bad_generators.py")
COLUMNS = {
    "Fréchet distance": "FD",
    "KID": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "C2ST accuracy": "C2ST accuracy",
    "sliced Wasserstein": "sliced W",
    "brightness histogram": "brightness histogram",
    "AuthPct": "AuthPct",
    "duplicate samples": "duplicate samples",
    "missing classes": "missing",
    "class share gap": "class share gap",
    "classifier score": "score",
}


def cell(card: Score) -> str:
    return f"**{short(card.value)}**" if card.beyond else short(card.value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/bad"))
    args = parser.parse_args()
    data = datasets.load(args.data)
    kinds = next(
        f.metadata["choices"] for f in load(str(FILE)).__dataclass_fields__.values() if f.name == "kind"
    )
    print("| set |", " | ".join(COLUMNS.values()), "| flagged by |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for kind in kinds:
        folder = args.folder / f"{args.data}-{kind}"
        if not folder.exists():
            likeness.train(str(FILE), args.data, folder, kind=kind, progress=False)
        exam = evaluate.prepare(Run.open(folder), data, args.n, 0)
        cards = {card.name: card for card in distribution.cards(exam) if card.of == "model"}
        if kind == kinds[0]:
            floors = [short(cards[name].floor or 0.0) for name in COLUMNS]
            print("| real training images |", " | ".join(floors), "| |", flush=True)
        flags = sum(bool(card.beyond) for card in cards.values())
        print(
            f"| {kind} |",
            " | ".join(cell(cards[name]) for name in COLUMNS),
            f"| {flags} of {len(cards)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
