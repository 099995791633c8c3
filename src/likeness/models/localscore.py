"""The best denoiser that looks at patches alone, in closed form: it remembers the images and draws mosaics of
them, after seconds of training.

Kamb & Ganguli, "An Analytic Theory of Creativity in Convolutional Diffusion Models", 2024.  The expected image
under the training images x_i, where the answer for pixel p may depend only on the patch Omega_p of k x k pixels
about it:

    E_k[x_0 | x_t](p) = sum_i w_i(p) x_i(p)
    w_i(p) = softmax_i of -|x_t - x_i|^2 on Omega_p / 2 sigma^2                       local score (LS)

With --shift s the sum runs over x_i moved by up to s pixels as well; moved all the way, a pixel may follow any
place of any image: the equivariant local score (ELS).  A patch of the whole image gives the ideal score, which
draws copies; one of a single pixel gives pixels that do not know of each other.  Between the two each pixel
follows those images that fit about it.  Which patch is best at a noise level is learnt: a_k(sigma) minimises

    E sum_k a_k(sigma) |E_k[x_0 | x_t] - x_0|^2,    ln sigma uniform, sum_k a_k = 1

over training images, each of which is left out of its own sum.  Images are drawn with larger patches than are
best for one step (--coherence): each step then knows what its neighbour decides.

Departures: the paper fits the patch size to a trained network, and here it is learnt from the images; the
forward process is that of Karras et al. 2022, alpha = 1; pixels outside of the image are not compared, moved
images are padded with middle grey, and no pixel follows the padding; the memory is limited (--memory), and an
image that comes twice is remembered once.
"""  # noqa: E501

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import engine
from ..core import NONE, Batch, Condition, Loss, Noise, Refusal, Training, label_of, option
from ..parts import chance, classes
from ..parts.denoising import SAMPLERS, Denoising
from ..parts.schedules import Sigmas, over

SIGMA_MIN, SIGMA_MAX = 0.02, 20.0
KNOTS = 10
"""noise levels between which a_k is interpolated, evenly spaced in ln sigma"""
SIZES = (1, 3, 5, 7, 9, 13, 17, 23, 31, 47, 63, 95, 127, 191, 255)
"""patches to choose from, in pixels; one of 2 size - 1 is the whole image wherever its centre lies"""
ROWS, BLOCK = 8, 2**22
"""noisy images, and distances, that are computed at a time: a block stays in the cache"""
COMPARED = 2**15
"""distances of each patch size that a training image may cost, on average: of a larger memory fewer images of
a batch are scored"""
NEVER = -1e30
"""log of the weight of what no pixel may follow"""


class LocalScore(Denoising):
    sampler: str = option(
        "ddim",
        "way from noise to an image; all but heun ask for the expected image once a step, heun twice",
        choices=SAMPLERS,
        live=True,
    )
    steps: int = option(30, "of the sampler", 1, 10_000, live=True)
    memory: int = option(
        4096,
        "images that are remembered, the first that come; time and the saved state grow with it",
        1,
        1_000_000,
    )
    coherence: float = option(
        2.0,
        "times as large a patch as is best for a single step: 1 draws loose pixels, 3 mostly copies",
        0.1,
        100.0,
        live=True,
    )
    shift: int = option(
        0,
        "pixels by which a patch may lie elsewhere in a remembered image; time grows with its square",
        0,
        256,
        live=True,
    )

    defaults = Training(batch=32, rate=0.1, images=4_000, warmup=0, ema=1_000, clip=0.0)

    def build(self) -> None:
        spec, name = self.spec, type(self).__name__.lower()
        if spec.symbols:
            raise Refusal(
                f"{name}: it averages numbers, and these are the names of codes; take those of an ae or a "
                "vae, or train pixelcnn on these."
            )
        if self.conditional:
            classes.several(name, spec)
        self.schedule: Sigmas = Sigmas(SIGMA_MIN, SIGMA_MAX)
        self.sizes = [k for k in SIZES if k < 2 * spec.size]
        self.log_a = nn.ParameterList(torch.zeros(len(self.sizes)) for _ in range(KNOTS))
        kind = torch.uint8 if spec.levels else torch.float32
        self.images = nn.Buffer(torch.zeros(self.memory, *spec.shape, dtype=kind))
        self.labels = nn.Buffer(torch.full((self.memory,), NONE))
        self.keys = nn.Buffer(torch.zeros(self.memory, dtype=torch.long))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.factors = nn.Buffer(Noise([0], key=1).bits(spec.dims)[0], persistent=False)
        self.entering: list[tuple[Tensor, Tensor, Tensor]] = []

    def prepare(self) -> None:
        if (processes := engine.world()) > 1:
            raise Refusal(
                f"localscore has one memory, and {processes} processes would each fill their own; train it "
                "with one."
            )

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("label",) * self.conditional

    # What is remembered

    def on_grid(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] as they are kept: the numbers of their levels, in a byte."""
        top = self.spec.levels - 1
        return ((x + 1) * (top / 2)).round().clamp(0, top).to(torch.uint8) if self.spec.levels else x

    def off_grid(self, kept: Tensor) -> Tensor:
        return kept.float() * (2 / (self.spec.levels - 1)) - 1 if self.spec.levels else kept

    def key(self, kept: Tensor) -> Tensor:
        """A number (B,) for each of kept images, the same where they are: a product modulo 2^64 with random
        factors."""
        whole = kept.contiguous() if self.spec.levels else kept.contiguous().view(torch.int32)
        return ((whole.flatten(1).long() + 1) * self.factors).sum(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """The images of the step enter, in their order, as long as there is room: each once."""
        entering, self.entering = self.entering, []
        if not entering or (count := int(self.count)) == self.memory:
            return
        kept, labels, keys = (torch.cat(part) for part in zip(*entering))
        again = (keys[:, None] == keys).tril(-1).any(1) | torch.isin(keys, self.keys[:count])
        new = (~again).nonzero()[: self.memory - count, 0]
        to = slice(count, count + len(new))
        self.images[to], self.labels[to], self.keys[to] = kept[new], labels[new], keys[new]
        self.count.fill_(count + len(new))

    # The denoiser

    def sums(self, e: Tensor, k: int) -> Tensor:
        """Of numbers (H, W, M), over the k x k pixels about each, as far as the image goes."""
        near = (torch.arange(len(e), device=e.device)[:, None] - torch.arange(len(e), device=e.device)).abs()
        band = (near <= k // 2).to(e)
        return band @ (band @ e.flatten(1)).view_as(e)

    @torch.no_grad()
    def expected(self, z: Tensor, sigma: Tensor, k: int, kept: Tensor, own: Tensor | None = None) -> Tensor:
        """E_k[x_0 | x_t = z], (B, C, H, W), of noise sigma (B,), under images `kept` (N, C, H, W); grey where
        there are none.  own: bool (B, N), of the images that are left out."""
        with torch.autocast(z.device.type, enabled=False):
            parts = [
                self._expected(z[at], sigma[at].to(z.dtype), k, kept, None if own is None else own[at])
                for i in range(0, len(z), ROWS)
                for at in [slice(i, i + ROWS)]
            ]
            return torch.cat(parts) if parts else z

    def _expected(self, z: Tensor, sigma: Tensor, k: int, kept: Tensor, own: Tensor | None) -> Tensor:
        """The softmax is taken block by block, as a running maximum, sum of weights and weighted sum."""
        B, C, H, W = z.shape
        Z, columns = z.permute(2, 3, 0, 1).reshape(H * W, B, C), max(1, BLOCK // (H * W * ROWS))
        most = z.new_full((H * W, B, 1), NEVER)
        weight, total = torch.zeros_like(most), torch.zeros_like(Z)
        for i in range(0, len(kept), columns):
            x = self.off_grid(kept[i : i + columns]).to(z.dtype)
            for moved, outside in self.moved(x):
                X = moved.permute(2, 3, 0, 1).reshape(H * W, len(x), C)
                e = Z @ X.mT - X.square().sum(2)[:, None] / 2  # -|z - x|^2 / 2, but for what all x share
                e = self.sums(e.view(H, W, -1), k).view(H * W, B, -1) / sigma[:, None].square()
                e = e.masked_fill_(outside.view(-1, 1, 1), NEVER)
                if own is not None:
                    e = e.masked_fill_(own[:, i : i + columns], NEVER)
                higher = torch.maximum(most, e.amax(2, keepdim=True))
                w, fade = (e - higher).exp_(), (most - higher).exp_()
                w = w.masked_fill_(higher <= NEVER, 0)
                weight, total, most = weight * fade + w.sum(2, keepdim=True), total * fade + w @ X, higher
        return (total / weight.clamp(min=1e-30)).view(H, W, B, C).permute(2, 3, 0, 1)

    def moved(self, x: Tensor) -> Any:
        """Yields images (N, C, H, W) moved by up to `shift` pixels either way, grey where nothing has come,
        and bool (H, W) of where that is."""
        far = min(self.shift, self.spec.size - 1)
        H, W = x.shape[2:]
        padded = nn.functional.pad(x, [far] * 4)
        there = nn.functional.pad(x.new_ones(H, W), [far] * 4) > 0
        for i in range(2 * far + 1):
            for j in range(2 * far + 1):
                yield padded[..., i : i + H, j : j + W], ~there[i : i + H, j : j + W]

    def a(self, sigma: Tensor) -> Tensor:
        """log a_k(sigma), (B, K), of noise (B,)."""
        place = (sigma.log() - math.log(SIGMA_MIN)) / math.log(SIGMA_MAX / SIGMA_MIN) * (KNOTS - 1)
        below = place.floor().clamp(0, KNOTS - 2).long()
        knots = torch.stack(list(self.log_a))
        return (
            knots[below].lerp(knots[below + 1], (place - below).clamp(0, 1).float()[:, None]).log_softmax(1)
        )

    def patch(self, sigma: Tensor) -> list[int]:
        """Pixels of the patch by which is answered at each of noise levels (B,): the geometric mean under
        a_k, times `coherence`, as an odd number."""
        log_k = torch.tensor([math.log(k) for k in self.sizes], device=sigma.device)
        mean = (self.a(sigma).exp() * log_k).sum(1).exp()
        whole = 2 * self.spec.size - 1
        return [min(whole, max(1, round(self.coherence * k)) // 2 * 2 + 1) for k in mean.tolist()]

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        sigma = t.clamp(min=SIGMA_MIN).to(torch.float64)
        patch = torch.tensor(self.patch(sigma), device=x_t.device)
        label = label_of(y) if self.conditional else None
        label = torch.full_like(patch, NONE) if label is None else label
        result, kept, labels = torch.empty_like(x_t), *self.filled()
        for k, c in torch.stack([patch, label], 1).unique(dim=0).tolist():
            rows = ((patch == k) & (label == c)).nonzero()[:, 0]
            own = kept if c == NONE else kept[labels == c]
            result[rows] = self.expected(x_t[rows], sigma[rows], k, own)
        return result

    def filled(self) -> tuple[Tensor, Tensor]:
        """The images and the classes that are remembered so far."""
        count = int(self.count)
        return self.images[:count], self.labels[:count]

    def loss(self, batch: Batch) -> Loss:
        x_0, label, told = batch.x, label_of(self.told_of(batch)), label_of(self.condition(batch))
        chosen, sigma = batch.noise.uniform(), self.spread(batch.noise.uniform())
        z = x_0 + over(sigma, x_0) * batch.noise.normal(*self.spec.shape)
        with torch.no_grad():
            kept = self.on_grid(x_0)
            key = self.key(kept)
            if self.training:
                self.entering.append((kept, torch.full_like(key, NONE) if label is None else label, key))
        share = min(1.0, COMPARED / max(1, int(self.count) * self.spec.size**2 * self.moves))
        if not int(self.count):  # every patch says the same, and nothing is learnt
            return Loss(x_0.square().mean() + 0 * sum(p.sum() for p in self.log_a))
        rows = (chosen < share).nonzero()[:, 0]
        a = self.a(sigma[rows]).exp()
        told = None if told is None else told[rows]
        squares = self.errors(x_0[rows], z[rows], sigma[rows], key[rows], told).to(a)
        return Loss((a * squares).sum() / (share * len(x_0)))

    @property
    def moves(self) -> int:
        return (2 * min(self.shift, self.spec.size - 1) + 1) ** 2

    @torch.no_grad()
    def errors(self, x_0: Tensor, z: Tensor, sigma: Tensor, key: Tensor, label: Tensor | None) -> Tensor:
        """Mean squares (B, K) of what each patch size leaves, of images of which the memory knows only
        others."""
        kept, labels = self.filled()
        own = key[:, None] == self.keys[: len(kept)]
        if label is not None:
            own = own | ((labels != label[:, None]) & (label != NONE)[:, None])
        off = [(self.expected(z, sigma, k, kept, own) - x_0).square().flatten(1).mean(1) for k in self.sizes]
        return torch.stack(off, 1)

    @staticmethod
    def spread(share: Tensor) -> Tensor:
        """Noise levels, evenly in ln sigma, of shares (B,) in (0, 1)."""
        return (math.log(SIGMA_MIN) + math.log(SIGMA_MAX / SIGMA_MIN) * share.double()).exp()

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows no more of each pixel than its mean and its variance."""
        sigma = self.spread(chance.shares())
        one, nothing = torch.ones_like(sigma), torch.zeros_like(sigma)
        linear = bool(self.spec.levels)
        return {"model": chance.unexplained(batch.x, one, sigma, nothing, one, linear=linear)}
