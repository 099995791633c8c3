"""Pictures of a latent space.

random          images of random codes: the difference between AE and VAE, of several runs in one picture
interpolation   images along the line between the codes of two held-out images
traversal       one held-out image, with its code changed along one direction at a time; directions in order
                of variance
plane           the images of a grid of codes, of a model with --latent 2 (Kingma & Welling 2014, figure 4)
arithmetic      mean code of images A, minus that of B, plus that of C (Radford et al. 2016, figure 7)

The code of an image comes from the encoder.  For a model that only decodes it is searched for, and the
directions are those that change its images most: the prior of such a model is isotropic, so that no
coordinate of the code is special.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .. import engine, figures, storage
from ..core import Condition, Encodes, Model, Refusal, Samples, ask, closest
from ..data import Data
from ..runs.run import Run
from . import inversion

CODES = 2000
"""codes that say where codes are: of training images, or drawn"""
MEMBERS = 10
"""images whose codes are averaged, for arithmetic"""
SLOPES = 4096
"""images decoded to find the directions that change them most"""
SHORTER = 0.7
"""times a drawn code: fewer odd images, and less variety (truncation)"""


class Subject(NamedTuple):
    """A run that decodes, and where its codes lie."""

    name: str
    model: Model
    data: Data
    codes: Tensor
    """(N, ...) of training images, or from the prior of a model that only decodes"""

    @property
    def latent(self) -> int:
        """Numbers of a code, without the class of a conditional model."""
        return int(ask(self.model, "decode").__self__.latent)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, ...), in memory."""
        return inversion.decoded(self.model, z)

    def encode(self, x: Tensor, y: Condition | None = None) -> Tensor:
        """Codes in memory: as the model says, or as they are found."""
        return inversion.codes(self.model, x, y)

    def held_out(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """n held-out images, or all there are, with their codes; drawn codes with their images where none
        were held out, if the model only decodes."""
        rows = np.random.default_rng((seed, 0x1A7)).permutation(self.data.held_out)[:n]
        if not len(rows) and not isinstance(self.model, Encodes):
            return self.decode(z := inversion.draws(self.model, engine.sampling_noise(seed, 0, n)).cpu()), z
        batch = self.data.take(rows)
        return batch.x, self.encode(batch.x, batch.y)


def draw(
    runs: Sequence[tuple[Run, Data]],
    picture: str,
    target: Path,
    n: int | None = None,
    seed: int = 0,
    groups: Sequence[Tensor] = (),
) -> None:
    """Write what page() makes."""
    image, recipe = page(runs, picture, n, seed, groups)
    storage.make(target.parent)
    figures.write(target, image, recipe)


def page(
    runs: Sequence[tuple[Run, Data]],
    picture: str,
    n: int | None = None,
    seed: int = 0,
    groups: Sequence[Tensor] = (),
) -> tuple[np.ndarray, dict[str, Any]]:
    """One picture of all the runs, uint8 (height, width, 3), and its recipe.  n: rows, or images a side; 10
    unless it is set, 20 for the plane.

    groups: for arithmetic, three sets of images (B, C, H, W), of which the second is taken off the first, and
    the third added.
    """
    n = n or (20 if picture == "plane" else 10)
    if picture not in PICTURES:
        raise Refusal(f"there is no picture {picture!r}; {closest(picture, tuple(PICTURES))}")
    if groups and picture != "arithmetic":
        raise Refusal(
            f"the picture {picture!r} is of held-out images and takes no others; type --picture arithmetic, "
            "or leave --images out."
        )
    make = partial(arithmetic, groups=groups) if groups else PICTURES[picture]
    with torch.no_grad():
        image = figures.stacked(
            *(make(_subject(run, data, picture not in FEW), n, seed) for run, data in runs), gap=16
        )
    recipe = dict(
        picture=picture, n=n, seed=seed, runs=[dict(run=run.folder.name, seen=run.seen) for run, _ in runs]
    )
    return image, recipe


FEW = ("interpolation", "arithmetic")
"""pictures of some codes, for which nobody need know where all of them lie"""


def _subject(run: Run, data: Data, all_codes: bool = True) -> Subject:
    ask(run.model, "decode")
    subject = Subject(f"{run.config.model}, {run.seen:,} images seen", run.model, data, torch.empty(0))
    if not all_codes:
        return subject
    if not isinstance(run.model, Encodes):
        return subject._replace(codes=inversion.draws(run.model, engine.sampling_noise(0, 0, CODES)).cpu())
    rows = np.sort(np.random.default_rng(0).permutation(data.train)[:CODES])
    return subject._replace(codes=subject.encode(data.take(rows).x))


def random_codes(subject: Subject, n: int, seed: int) -> np.ndarray:
    """Codes of images, codes of N(0, I), and codes of a Gaussian fitted to those of the training images; of
    the prior's own, if it only decodes."""
    noise = engine.sampling_noise(seed, 0, n * n)
    _, codes = subject.held_out(n * n, seed)
    if isinstance(subject.model, Encodes):
        z = noise.to("cpu").normal(subject.codes.shape[1])
        panels = {
            "held-out images, reconstructed": codes,
            "codes drawn from N(0, I)": z,
            "from a Gaussian fitted to the codes": fitted(subject.codes, z),
        }
    else:
        z = inversion.draws(subject.model, noise).cpu()
        shorter = torch.cat([SHORTER * z[:, : subject.latent], z[:, subject.latent :]], 1)
        panels = {
            "held-out images, as near as it comes": codes,
            "codes drawn from N(0, I)": z,
            f"the same, {SHORTER} times as long": shorter,
        }
    return beside(
        [titled(tiles(subject.decode(codes), n), f"{subject.name}\n{text}") for text, codes in panels.items()]
    )


def fitted(codes: Tensor, z: Tensor) -> Tensor:
    """What z (B, latent) of N(0, I) is as a draw of the Gaussian with the mean and covariance of the codes
    (N, latent)."""
    mean, cov = codes.mean(0), torch.cov(codes.T).reshape(z.shape[1], z.shape[1])
    values, vectors = torch.linalg.eigh(cov)
    return mean + z @ (vectors * values.clamp(min=0).sqrt()).T


def interpolation(subject: Subject, n: int, seed: int) -> np.ndarray:
    ends, z = subject.held_out(2 * n, seed)
    n = len(ends) // 2
    if n == 0:
        raise Refusal(
            "an interpolation needs two held-out images, and there is only one; train on more images."
        )
    gaussian, latent, way, lines = (
        isinstance(subject.model, Samples),
        subject.latent,
        torch.linspace(0, 1, 9),
        [],
    )
    for a, b, first, last in zip(z[:n], z[n:], ends[:n], ends[n:]):
        path = straight(a, b, way)  # of classes, too
        if gaussian:
            path[:, :latent] = arc(a[:latent], b[:latent], way)
        lines.append(torch.cat([first[None], subject.decode(path), last[None]]))
    text = (
        f"held-out images at both ends, codes in between, along {'an arc' if gaussian else 'a straight line'}"
    )
    return titled(tiles(torch.cat(lines), 11), f"{subject.name}\n{text}")


def straight(a: Tensor, b: Tensor, way: Tensor) -> Tensor:
    return a.lerp(b, way[:, None])


def arc(a: Tensor, b: Tensor, way: Tensor) -> Tensor:
    """Codes (n, latent) at the places `way` (n,) from 0 to 1 along the great circle from a to b, each
    (latent,): for a Gaussian prior.

    White, "Sampling Generative Networks", 2016.  Drawn codes have nearly the same length, sqrt(latent), and
    nearly right angles between them.  Halfway along a straight line a code would be shorter by sqrt(2), where
    nearly none is drawn.
    """
    angle = torch.arccos(F.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    if float(angle.sin()) < 1e-4:  # the same direction; or opposite ones, with an arc on every side
        return straight(a, b, way)
    return (torch.sin((1 - way) * angle)[:, None] * a + torch.sin(way * angle)[:, None] * b) / angle.sin()


def traversal(subject: Subject, n: int, seed: int) -> np.ndarray:
    axes, steps = directions(subject, n), torch.linspace(-2.5, 2.5, 11)
    _, z = subject.held_out(1, seed)
    lines = []
    for axis in axes:
        along = subject.codes @ axis
        lines.append(subject.decode(z + (along.mean() + steps * along.std() - z @ axis)[:, None] * axis))
    what = "number of the code" if isinstance(subject.model, Encodes) else "direction of the code"
    return titled(
        tiles(torch.cat(lines), len(steps)),
        f"{subject.name}\na row a {what}, over 2.5 standard deviations to both sides",
    )


def directions(subject: Subject, n: int) -> Tensor:
    """Unit vectors (n, ...): the axes along which the codes of images differ most, or the directions that
    change drawn images most.

    The latter are eigenvectors of the mean of J'J, where J is the derivative of the image by the code, here
    by differences.
    """
    size = subject.codes.shape[1]
    if isinstance(subject.model, Encodes):
        return torch.eye(size)[subject.codes.std(0).argsort(descending=True)[:n]]
    latent, products = subject.latent, torch.zeros(())
    eye = 0.1 * torch.eye(latent, size)
    for z in subject.codes[: max(4, SLOPES // (2 * latent))]:
        there = (subject.decode(z + eye) - subject.decode(z - eye)).flatten(1)
        products = products + there @ there.T
    return F.pad(torch.linalg.eigh(products)[1].flip(1).T[:n], (0, size - latent))


def arithmetic(subject: Subject, n: int, seed: int, groups: Sequence[Tensor] = ()) -> np.ndarray:
    """Rows of A - B + C, of mean codes, and beside it the same done with the pixels."""
    if "label" in subject.model.takes:
        raise Refusal(
            f"{subject.name} is told the class and keeps it out of the code, where arithmetic would be "
            "done; name a run without --conditional."
        )
    if subject.data.spec.points:
        raise Refusal(
            f"{subject.name} draws points, and these have no look to add up; type --picture interpolation."
        )
    kinds = [("yours", some) for some in groups] or members(subject.data, seed)
    codes = [
        z.mean(0) for z in subject.encode(torch.cat([x for _, x in kinds])).split([len(x) for _, x in kinds])
    ]
    rng = np.random.default_rng((seed, 0xA7))
    rows = (
        [(0, 1, 2)]
        if groups
        else [tuple(rng.choice(len(kinds), 3, replace=False).tolist()) for _ in range(n)]
    )
    columns, titles = list[Tensor](), []
    for k, letter in enumerate("ABC"):
        columns += [
            torch.stack([kinds[row[k]][1][0] for row in rows]),
            subject.decode(torch.stack([codes[row[k]] for row in rows])),
        ]
        titles += [letter, f"mean of {letter}"]
    columns += [subject.decode(torch.stack([codes[a] - codes[b] + codes[c] for a, b, c in rows]))]
    columns += [
        torch.stack([kinds[a][1].mean(0) - kinds[b][1].mean(0) + kinds[c][1].mean(0) for a, b, c in rows])
    ]
    notes = [] if groups else [f"{kinds[a][0]} - {kinds[b][0]} + {kinds[c][0]}" for a, b, c in rows]
    return titled(
        figures.sheet([figures.pixels(c) for c in columns], [*titles, "A - B + C", "in pixels"], notes),
        f"{subject.name}\nmean codes of images",
    )


def members(data: Data, seed: int) -> list[tuple[str, Tensor]]:
    """Some held-out images of each class of which there are any, with its name."""
    if data.y is None or len(result := np.unique(data.y[data.labelled.held_out])) < 3:
        raise Refusal(
            "arithmetic is done with three kinds of images, and these have no three classes; name yours: "
            "--images A B C, a folder or file each."
        )
    rows = np.random.default_rng((seed, 0xA7)).permutation(data.held_out)
    return [(data.classes[y], data.take(rows[data.y[rows] == y][:MEMBERS]).x) for y in result]


def plane(subject: Subject, n: int, seed: int) -> np.ndarray:
    if subject.codes.shape[1] != 2:
        raise Refusal(
            f"{subject.name} has a code of {subject.codes.shape[1]} numbers, and a plane has 2; train with "
            "--latent 2."
        )
    q = (torch.arange(n) + 0.5) / n
    if isinstance(subject.model, Samples):  # equal steps of probability under the prior
        across = down = torch.special.ndtri(q)
    else:
        low, high = subject.codes.quantile(0.02, 0), subject.codes.quantile(0.98, 0)
        across, down = (low[i] + q * (high[i] - low[i]) for i in (0, 1))
    z = torch.stack([torch.stack([a, d]) for d in down for a in across])
    return titled(tiles(subject.decode(z), n, gap=0), f"{subject.name}\nthe plane of codes")


PICTURES = {
    "random": random_codes,
    "interpolation": interpolation,
    "traversal": traversal,
    "plane": plane,
    "arithmetic": arithmetic,
}


def tiles(x: Tensor, columns: int, gap: int = figures.GAP) -> np.ndarray:
    """Images side by side, or points in the plane."""
    return figures.shown(x) if x.shape[1:] == (2, 1, 1) else figures.grid(x, columns, gap)


def titled(image: np.ndarray, text: str) -> np.ndarray:
    """The picture with two lines of text above it."""
    high = 44
    page = Image.new("RGB", (image.shape[1], image.shape[0] + high), (255, 255, 255))
    ImageDraw.Draw(page).multiline_text(
        (4, 4), text, fill=(40, 40, 40), font=ImageFont.load_default(14), spacing=4
    )
    out = np.array(page)
    out[high:] = image
    return out


def beside(panels: list[np.ndarray]) -> np.ndarray:
    """Panels from left to right: stacked, when rows are columns."""
    return figures.stacked(*(p.transpose(1, 0, 2) for p in panels), gap=16).transpose(1, 0, 2)
