"""From images of one kind to another and back, learnt from two heaps that nobody has paired.

Zhu, Park, Isola & Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
2017.  G makes B of A, F makes A of B, and D_B and D_A tell what they make from images of B and of A.

    L_GAN(G, D_B) = E_b[log D_B(b)] + E_a[log(1 - D_B(G(a)))]                             (1)
    L_cyc(G, F)   = E_a[|F(G(a)) - a|] + E_b[|G(F(b)) - b|]                               (2)
    L = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda L_cyc(G, F)                                (3)
    L_identity(G, F) = E_b[|G(b) - b|] + E_a[|F(a) - a|]                                  (section 5.2)

The game is that of least squares: G minimises E[(D(G(a)) - 1)^2], D minimises E[(D(b) - 1)^2] + E[D(G(a))^2],
halved (section 4).  The discriminators see images of earlier steps as well, half of the time, from a pool of
50 (section 4, after Shrivastava et al. 2017).

--parts takes the loss apart as tables 4 and 5 do: cycle alone, gan alone, or one half of (2).

Departures: fewer channels and blocks, batches of several images.  A place of the pool is drawn by each
image of a batch; it is filled if it is empty, and else changes hands or not at even odds; where
two images of a batch draw the same place it stays as it is, so that the pool does not depend on how a batch
is split.  Transposed convolutions have a kernel of 4, not 3, which gives every pixel as many terms;
normalisations have weights, and blocks begin as the identity.  D judges patches of 16 pixels in images below
64, of 34 below 128, then 70 as there.  The rate falls along a cosine, not a line after a plateau.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ..core import Batch, Condition, Loss, Model, Noise, Player, Refusal, Training, option
from ..parts import translators
from ..parts.adversarial import GAMES, pair_accuracy, pull, undecided


class Pool(nn.Module):
    """Images of earlier steps.  Its buffers are saved with the weights, so a resume is exact."""

    images: Tensor
    there: Tensor

    def __init__(self, places: int, shape: tuple[int, ...]):
        super().__init__()
        self.images = nn.Buffer(torch.zeros(places, *shape))
        self.there = nn.Buffer(torch.zeros(places, dtype=torch.bool))
        self.entering: list[tuple[Tensor, Tensor, Tensor]] = []
        self.sums: tuple[Tensor, ...] = ()

    def exchanged(self, fake: Tensor, noise: Noise) -> Tensor:
        """Each of these images (B, C, H, W), or one of an earlier step whose place it will take.

        All see the pool as it was before this step; it changes in settle().
        """
        draw = noise.uniform(2)
        place = (draw[:, 0] * len(self.images)).long()
        held = self.there[place]
        old = held & (draw[:, 1] < 0.5)
        self.entering.append((place, old | ~held, fake))
        return torch.where(old.view(-1, 1, 1, 1), self.images[place], fake)

    def tallies(self) -> tuple[Tensor, ...]:
        """How many images want each place, and their sum: of one image it is that image."""
        many, total = torch.zeros_like(self.there, dtype=torch.float32), torch.zeros_like(self.images)
        for place, enters, fake in self.entering:
            many.index_add_(0, place, enters.float())
            total.index_add_(0, place, fake.to(total.dtype) * enters.view(-1, 1, 1, 1))
        self.entering.clear()
        self.sums = (many, total)
        return self.sums

    def settle(self) -> None:
        if self.sums:
            many, total = self.sums
            alone = many == 1
            self.images.copy_(torch.where(alone.view(-1, 1, 1, 1), total, self.images))
            self.there.logical_or_(alone)
            self.sums = ()


class CycleGAN(Model):
    parts: str = option(
        "full",
        "of the loss, as in tables 4 and 5; forward: |F(G(a)) - a| only, backward: |G(F(b)) - b|",
        choices=("full", "cycle", "gan", "forward", "backward"),
    )
    cycle: float = option(10.0, "lambda, weight of coming back to where one started", 0.0, 1e4)
    identity: float = option(
        0.0, "weight of leaving alone what is of the right kind already: 5 keeps the colours", 0.0, 1e4
    )
    pool: int = option(50, "images of earlier steps that the discriminators see again; 0 is none", 0, 10_000)
    width: int = option(16, "channels of the first layers", 4, 256)
    blocks: int = option(4, "residual blocks of a generator; 6 or 9 in the paper", 0, 32)
    layers: int = option(0, "of D, 1 to 5: patches of 16, 34, 70, 142, 286 pixels; 0 is by the size", 0, 5)
    d_rate: float = option(1.0, "how many times faster the discriminators learn", 0.01, 100.0)

    defaults = Training(batch=8, rate=5e-4, images=100_000, warmup=0, ema=2_000, clip=0.0, schedule="cosine")
    presets = {
        "photographs": dict(mirror=True),
        "paintings": dict(mirror=True, identity=5.0),
    }
    takes = ("image",)
    needs = "domains"
    scale = 1

    def build(self) -> None:
        self.check()
        a, b, size = self.spec.source[0], self.spec.channels, self.spec.size
        layers = self.layers or translators.fitting(size)
        made = dict(G=(a, b), F=(b, a))
        self.generators = nn.ModuleDict(
            {name: translators.Residual(*of, self.width, self.blocks) for name, of in made.items()}
        )
        if self.parts != "cycle":
            judged = dict(A=a, B=b)
            self.discriminators = nn.ModuleDict(
                {name: translators.patches(c, self.width, layers) for name, c in judged.items()}
            )
            if self.pool:
                self.pool_A, self.pool_B = Pool(self.pool, (a, size, size)), Pool(self.pool, (b, size, size))
        self.stride, self.halo = 4, translators.reach_of_residual(self.blocks)
        self.largest_batch = self.pool if self.pools() else 0
        self.drawn = translators.Kept()

    @property
    def G(self) -> nn.Module:
        return self.generators["G"]

    @property
    def F(self) -> nn.Module:
        return self.generators["F"]

    @property
    def D_A(self) -> nn.Module:
        return self.discriminators["A"]

    @property
    def D_B(self) -> nn.Module:
        return self.discriminators["B"]

    def check(self) -> None:
        """Refuse options that do not go together, each with the reason."""
        (channels, source), size = self.spec.source, self.spec.size
        layers = self.layers or translators.fitting(size)
        for wrong, why in (
            (
                not channels,
                "it learns from two kinds of images; name a folder with trainA/ and trainB/, one folder and "
                "the other by --to, or the built-in set day-night.",
            ),
            (
                channels and source != size,
                f"both kinds need one size, and these are of {source} and of {size}; superres enlarges.",
            ),
            (
                self.identity and channels != self.spec.channels,
                f"--identity shows each generator what it should make, and images of {channels} channels are "
                f"none of {self.spec.channels}; leave it out, or read both with --colour rgb.",
            ),
            (
                self.parts in ("full", "cycle", "forward", "backward") and not self.cycle,
                f"--parts {self.parts} is with a cycle and --cycle 0 is without; type --parts gan.",
            ),
            (
                self.spec.symbols,
                "it draws brightness, and these are the names of codes.",
            ),
            (
                size % 4 or size < 8,
                f"it takes images of a multiple of 4 pixels, 8 at least, and these have {size}; read them "
                f"with --size {max(8, round(size / 4) * 4)}.",
            ),
            (
                (size >> layers) < 3,
                f"--layers {layers} judges patches of images of {3 << layers} pixels and more, and these "
                f"have {size}; take fewer layers or a larger --size.",
            ),
        ):
            if wrong:
                raise Refusal(f"cyclegan: {why}")

    # The game

    def players(self) -> tuple[Player, ...]:
        beta = partial(Adam, betas=(0.5, 0.999))
        generators = Player("generator", self.generators, self.generators_loss, optimizer=beta)
        if self.parts == "cycle":
            return (generators,)
        D = self.discriminators
        return generators, Player("discriminator", D, self.discriminators_loss, 1, self.d_rate, beta)

    def generators_loss(self, batch: Batch) -> Loss:
        """Each generator once for all that needs nothing else first: three passes in all."""
        a, b = translators.source_of("cyclegan", batch.y), batch.x
        there, back = self.parts in ("full", "cycle", "forward"), self.parts in ("full", "cycle", "backward")
        own = bool(self.identity)
        fake_b, *same_b = self.made(self.G, a, *[b] * own)
        fake_a, *rest = self.made(self.F, b, *[a] * own, *[fake_b] * there)
        loss, terms = fake_b.new_zeros(()), dict[str, Tensor]()
        if there:
            terms["cycle A"] = (rest[-1] - a).abs().mean()  # (2)
        if back:
            terms["cycle B"] = (self.made(self.G, fake_a)[0] - b).abs().mean()
        loss = loss + self.cycle * sum(terms.values())
        if own:
            terms["identity"] = (same_b[0] - b).abs().mean() + (rest[0] - a).abs().mean()
            loss = loss + self.identity * terms["identity"]
        if self.parts != "cycle":
            f_a, f_b = self.judged(self.D_A, fake_a), self.judged(self.D_B, fake_b)
            terms |= {"fools A": (f_a - 1).square().mean(), "fools B": (f_b - 1).square().mean()}
            loss = loss + terms["fools A"] + terms["fools B"]  # (3)
            terms["pull"] = (pulled(f_a) + pulled(f_b)) / 2
            if self.training:
                self.drawn.put(batch, fake_a, fake_b)
        return Loss(loss, terms)

    def discriminators_loss(self, batch: Batch) -> Loss:
        a, b = translators.source_of("cyclegan", batch.y), batch.x
        with torch.no_grad():
            kept = self.drawn.take(batch) if self.training else None
            fake_a, fake_b = kept or (*self.made(self.F, b), *self.made(self.G, a))
            if self.training and self.pool:
                fake_a = self.pool_A.exchanged(fake_a, batch.noise)
                fake_b = self.pool_B.exchanged(fake_b, batch.noise)
        r_a, f_a = self.judged(self.D_A, torch.cat([a, fake_a])).chunk(2)
        r_b, f_b = self.judged(self.D_B, torch.cat([b, fake_b])).chunk(2)
        loss_a, loss_b = (
            ((r - 1).square().mean() + f.square().mean()) / 2 for r, f in ((r_a, f_a), (r_b, f_b))
        )
        r, f = torch.cat([r_a, r_b]), torch.cat([f_a, f_b])
        terms = {"on real": r.mean(), "on fake": f.mean(), "told apart": pair_accuracy(r, f)}
        terms["chance"] = r.new_tensor(2 * undecided("least-squares"), dtype=torch.float32)
        return Loss(loss_a + loss_b, terms | {"D A": loss_a, "D B": loss_b})

    def made(self, net: nn.Module, *images: Tensor) -> list[Tensor]:
        """What a generator makes of several batches, in one pass."""
        x: Tensor = net(torch.cat(images) if len(images) > 1 else images[0]).float()
        return list((x.tanh() if self.spec.levels else x).split(len(images[0])))

    def judged(self, D: nn.Module, x: Tensor) -> Tensor:
        """The value of each patch, (B, patches)."""
        values: Tensor = D(x).flatten(1).float()
        return values

    def pools(self) -> tuple[Pool, ...]:
        return (self.pool_A, self.pool_B) if hasattr(self, "pool_A") else ()

    def tallies(self) -> tuple[Tensor, ...]:
        return tuple(tally for pool in self.pools() for tally in pool.tallies())

    def answering(self) -> None:
        if self.pools():
            del self.pool_A, self.pool_B

    def after_step(self) -> None:
        self.drawn.kept.clear()
        for pool in self.pools():
            pool.settle()

    # Answers

    @torch.no_grad()
    def translate(self, x: Tensor, back: bool = False) -> Tensor:
        """A to B, or B to A: (B, C, H, W) in [-1, 1] of any multiple of `stride` to (B, C', H, W)."""
        translators.check("cyclegan", x, self.spec.channels if back else self.spec.source[0], self.stride)
        made: Tensor = (self.F if back else self.G)(x).float()
        return made.tanh() if self.spec.levels else made

    @torch.no_grad()
    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        """Translations of the images of y, which have nothing of chance."""
        yield self.made(self.G, translators.source_of("cyclegan", y))[0]


def pulled(f: Tensor) -> Tensor:
    """As `pull` of the game: 1/2 at a guess."""
    return pull(GAMES["least-squares"], torch.zeros_like(f), f)
