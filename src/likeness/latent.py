"""Pictures of a code.

random          what a model makes of codes that no image had: the difference between AE and VAE, on one picture for several runs
interpolation   the way from one held-out image to another, along a straight line between their codes
traversal       one held-out image, with one number of its code changed at a time; the busiest numbers first
plane           all codes of a model with --latent 2, laid out on the plane (Kingma & Welling 2014, figure 4)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from . import engine, pictures, store
from .core import Decodes, Model, Refusal, Samples, ask
from .data import Data
from .models import closest
from .run import Run

CODES = 2000
"""training images whose codes say where codes are"""


class Subject(NamedTuple):
    """A run that encodes and decodes, and where its codes lie."""

    name: str
    model: Model
    data: Data
    codes: Tensor
    """(N, latent) of training images"""

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, latent), in memory."""
        assert isinstance(self.model, Decodes)
        return torch.cat([self.model.decode(part.to(engine.device())).float().cpu() for part in z.split(256)])

    def encode(self, x: Tensor) -> Tensor:
        encode = ask(self.model, "encode")
        return torch.cat([encode(part.to(engine.device())).float().cpu() for part in x.split(256)])

    def held_out(self, n: int, seed: int) -> Tensor:
        rows = np.random.default_rng((seed, 0x1A7)).permutation(self.data.held_out)[:n]
        return self.data.take(rows).x


def draw(runs: Sequence[tuple[Run, Data]], picture: str, target: Path, n: int | None = None, seed: int = 0) -> None:
    """Write one picture of all the runs.  n: rows, or images a side; 10 unless said, 20 for the plane."""
    n = n or (20 if picture == "plane" else 10)
    if picture not in PICTURES:
        raise Refusal(f"there is no picture {picture!r}; {closest(picture, tuple(PICTURES))}")
    with torch.no_grad():
        page = pictures.stacked(*(PICTURES[picture](_subject(run, data), n, seed) for run, data in runs), gap=16)
    store.make(target.parent)
    recipe = dict(picture=picture, n=n, seed=seed, runs=[dict(run=run.folder.name, seen=run.seen) for run, _ in runs])
    pictures.write_png(target, page, recipe)


def _subject(run: Run, data: Data) -> Subject:
    ask(run.model, "encode"), ask(run.model, "decode")
    subject = Subject(f"{run.config.model}, {run.seen:,} images seen", run.model, data, torch.empty(0))
    rows = np.sort(np.random.default_rng(0).permutation(data.train)[:CODES])
    return subject._replace(codes=subject.encode(data.take(rows).x))


def random_codes(subject: Subject, n: int, seed: int) -> np.ndarray:
    """Codes of images, codes of N(0, I), and codes of a Gaussian that was fitted to those of the training images."""
    noise = engine.sampling_noise(seed, 0, n * n).to("cpu")
    z = noise.normal(subject.codes.shape[1])
    mean, cov = subject.codes.mean(0), torch.cov(subject.codes.T).reshape(z.shape[1], z.shape[1])
    values, vectors = torch.linalg.eigh(cov)
    fitted = mean + z @ (vectors * values.clamp(min=0).sqrt()).T
    real = subject.held_out(n * n, seed)
    panels = {"held-out images, reconstructed": subject.encode(real), "codes drawn from N(0, I)": z, "from a Gaussian fitted to the codes": fitted}
    return beside([titled(pictures.grid(subject.decode(codes), n), f"{subject.name}\n{text}") for text, codes in panels.items()])


def interpolation(subject: Subject, n: int, seed: int) -> np.ndarray:
    ends = subject.held_out(2 * n, seed)
    n = len(ends) // 2
    if n == 0:
        raise Refusal("an interpolation needs two held-out images, and there is only one; train on more images.")
    z, way = subject.encode(ends), torch.linspace(0, 1, 9)
    lines = []
    for i in range(n):
        between = subject.decode(z[i].lerp(z[n + i], way[:, None]))
        lines.append(torch.cat([ends[i : i + 1], between, ends[n + i : n + i + 1]]))
    return titled(pictures.grid(torch.cat(lines), 11), f"{subject.name}\nheld-out images at both ends, codes in between")


def traversal(subject: Subject, n: int, seed: int) -> np.ndarray:
    spread = subject.codes.std(0)
    busiest = spread.argsort(descending=True)[:n].tolist()
    z, steps = subject.encode(subject.held_out(1, seed)), torch.linspace(-2.5, 2.5, 11)
    lines = []
    for j in busiest:
        line = z.repeat(len(steps), 1)
        line[:, j] = subject.codes[:, j].mean() + steps * spread[j]
        lines.append(subject.decode(line))
    return titled(pictures.grid(torch.cat(lines), len(steps)), f"{subject.name}\na row a number of the code, over 2.5 standard deviations to both sides")


def plane(subject: Subject, n: int, seed: int) -> np.ndarray:
    if subject.codes.shape[1] != 2:
        raise Refusal(f"{subject.name} has a code of {subject.codes.shape[1]} numbers, and a plane has 2; train with --latent 2.")
    q = (torch.arange(n) + 0.5) / n
    if isinstance(subject.model, Samples):  # equal steps of probability under the prior
        across = down = torch.special.ndtri(q)
    else:
        low, high = subject.codes.quantile(0.02, 0), subject.codes.quantile(0.98, 0)
        across, down = (low[i] + q * (high[i] - low[i]) for i in (0, 1))
    z = torch.stack([torch.stack([a, d]) for d in down for a in across])
    return titled(pictures.grid(subject.decode(z), n, gap=0), f"{subject.name}\nthe plane of codes")


PICTURES = {"random": random_codes, "interpolation": interpolation, "traversal": traversal, "plane": plane}


def titled(image: np.ndarray, text: str) -> np.ndarray:
    """The picture with two lines of text above it."""
    high = 44
    page = Image.new("RGB", (image.shape[1], image.shape[0] + high), (255, 255, 255))
    ImageDraw.Draw(page).multiline_text((4, 4), text, fill=(40, 40, 40), font=ImageFont.load_default(14), spacing=4)
    out = np.array(page)
    out[high:] = image
    return out


def beside(panels: list[np.ndarray]) -> np.ndarray:
    """Panels from left to right: stacked, when rows are columns."""
    return pictures.stacked(*(p.transpose(1, 0, 2) for p in panels), gap=16).transpose(1, 0, 2)
