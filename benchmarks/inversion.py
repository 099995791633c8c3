"""What an image loses on its way to noise and back: by DDIM and by Heun's rule, at the calls each of them
took.

    likeness train ddpm fashion-mnist runs/ddpm --images 100000 --schedule cosine
    python benchmarks/inversion.py runs/ddpm -n 64

Held-out images; the error is the root mean square over them in grey levels of 255, between the image and what
its noise leads back to. How near the noise is to N(0, I) is its mean square, which should be 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from measure import heading, machine, table
from torch import Tensor

import likeness
from likeness import engine
from likeness.core import Noise
from likeness.parts import samplers
from likeness.parts.denoising import Denoiser

STEPS = (10, 20, 50, 100)
Way = Callable[[Tensor], tuple[Tensor, Tensor]]
"""images to their noise, and to the images that this leads to"""


class Counted:
    """A denoiser that knows how often an image was asked about, on average."""

    def __init__(self, model: Denoiser):
        self.model, self.asked = model, 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.asked += len(x_t)
        return self.model.predict(x_t, t)


def by_steps(denoise: Counted, sampler: str, steps: int) -> Way:
    def there_and_back(x: Tensor) -> tuple[Tensor, Tensor]:
        down = denoise.model.schedule.levels(steps)
        up = [level for level in reversed(down) if level.sigma]
        walk = samplers.ddim if sampler == "ddim" else samplers.heun
        *_, noisy = walk(denoise, up, up[0].alpha * x, Noise([]))
        *_, again = walk(denoise, down, noisy.x, Noise([]))
        return noisy.x / up[-1].sigma, again.x

    return there_and_back


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=64, help="held-out images")
    said, load = parser.parse_args(), machine()
    run = likeness.open(said.run)
    model = run.model
    assert isinstance(model, Denoiser), f"{said.run} does not denoise"
    x = run.data.take(run.data.held_out[: said.n]).x.to(engine.device())
    denoise = Counted(model)
    ways = [(f"{name}, {n} steps", by_steps(denoise, name, n)) for name in ("ddim", "heun") for n in STEPS]
    print(heading(load), f"\n{run.config.model}, {run.run.seen:,} images seen; {said.n} held-out images\n")
    print(table(["way", "calls, there and back", "error in levels", "mean square of the noise"], []))
    for name, way in ways:
        denoise.asked = 0
        with torch.no_grad():
            z, again = way(x)
        error = float((again - x).square().mean().sqrt()) * 127.5
        print(
            f"| {name} | {denoise.asked / len(x):.0f} | {error:.2f} | {float(z.square().mean()):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
