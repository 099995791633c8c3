"""How many of the 1,000 modes of stacked MNIST are found, and how evenly, at equal budgets of processor time.

    python benchmarks/stacked_mnist.py --seconds 1800 --folder runs/stacked -o stacked.jsonl

Three digits of MNIST are the channels of an image (Metz et al. 2017, section 3.3.1).  A classifier of our own
tells which digits 26,000 samples show (Lin et al., "PacGAN", 2018, section 4.2); its accuracy is printed, and
what real images get that it was not trained on.  Published at other budgets and with other classifiers: DCGAN
99 modes, 3.40 nats; PacDCGAN2 1,000, 0.06 (Lin et al. 2018, table 2); R3GAN 1,000, 0.029 (Huang et al. 2024,
table 1).  The runs are kept in --folder, where a run that was stopped goes on, and where one of several
processes may be made by `torchrun -m likeness train`, whose processor seconds are then not known (nan).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import modes_found
from measure import heading, machine, table
from modes_found import Options

from likeness import data as datasets
from likeness import engine
from likeness.evaluation import known_modes

DCGAN: Options = dict(net="dcgan", schedule="cosine")
SETTINGS: dict[str, Options] = {
    "DCGAN, nonsaturating": DCGAN | dict(game="nonsaturating"),
    "WGAN-GP": DCGAN | dict(game="wasserstein", gradient_penalty=10.0, k=5, beta1=0.0, beta2=0.9),
    "PacGAN, 2 at once": DCGAN | dict(game="nonsaturating", pack=2),
    "DCGAN, relativistic + r1 + r2": DCGAN | dict(game="relativistic", r1=1.0, r2=1.0),
    "R3GAN": dict(model="r3gan", schedule="cosine"),
    "R3GAN, scale 2": dict(model="r3gan", schedule="cosine", scale=2),
    "R3GAN, gamma 3": dict(model="r3gan", schedule="cosine", scale=2, gamma=3.0, batch=64),
    "R3GAN, scale 3": dict(model="r3gan", schedule="cosine", scale=3),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes_found.arguments(parser, 1, 1800, "stacked_mnist.jsonl")
    parser.add_argument(
        "--data", default="stacked-mnist", help="stacked-mnist, or stacked-mnist:50000 for as many images"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/stacked-mnist"), help="of the runs")
    args, load = parser.parse_args(), machine()
    engine.start()
    data = datasets.load(args.data)
    law = known_modes.find(data)
    rows = modes_found.fill(modes_found.wanted(args.data, "gan", SETTINGS, args), data, args.o, args.folder)
    real = modes_found.counted(law, law.real)
    print(
        f"{heading(load)}\n\n{args.data}: {law.n:,} samples, {law.note}\n{law.n:,} {law.who}: "
        f"{real['modes']} modes, reverse KL {real['reverse_kl']:.4f}"
    )
    print(f"{law.doubt}\n\n{table(modes_found.head(False), modes_found.summary(rows, False))}")


if __name__ == "__main__":
    main()
