"""Painting a photo: faststyle beside the same network and weights as they are usually written.

    python benchmarks/faststyle_speed.py --size 512
    python benchmarks/faststyle_speed.py --size 1024 --rounds 3

The usual way is that of the public examples: ReflectionPad2d before each convolution, nn.InstanceNorm2d,
ReLU, interpolate(nearest), channels first; in inference mode, as it is, with channels last, under bf16
autocast, and as a module turned into bf16; the best of these is "best".  Both sides take turns in one process;
a number is the median.  Answers are compared: to 1e-3 in fp32, and the error of bf16 with that of the other side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import likeness  # noqa: F401  (sets the environment before torch is imported)

import torch  # isort: skip
from torch import Tensor, nn  # isort: skip
from torch.nn import functional as F  # isort: skip

from likeness import engine
from likeness.core import Spec
from likeness.models.faststyle import FastStyle


class Padded(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__()
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv = nn.Conv2d(inside, outside, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.pad(x))
        return y


class Residue(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv1, self.norm1 = Padded(c, c, 3), nn.InstanceNorm2d(c, affine=True)
        self.conv2, self.norm2 = Padded(c, c, 3), nn.InstanceNorm2d(c, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))


class Larger(nn.Module):
    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.layer = Padded(inside, outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(F.interpolate(x, scale_factor=2, mode="nearest"))
        return y


class Usual(nn.Module):
    """As in the public examples."""

    def __init__(self, c: int, blocks: int):
        super().__init__()
        layers: list[nn.Module] = []
        for layer, width in (
            (Padded(3, c, 7), c),
            (Padded(c, 2 * c, 3, 2), 2 * c),
            (Padded(2 * c, 4 * c, 3, 2), 4 * c),
        ):
            layers += [layer, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
        layers += [Residue(4 * c) for _ in range(blocks)]
        for layer, width in ((Larger(4 * c, 2 * c), 2 * c), (Larger(2 * c, c), c)):
            layers += [layer, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers, Padded(c, 3, 7, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.tanh()


def timed(sides: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Seconds of each, by turns."""
    each: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if turn:
                each[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in each.items()}


def models(width: int, blocks: int) -> tuple[FastStyle, Usual]:
    """With the same weights, which no training has made, but which are no special case either."""
    torch.manual_seed(0)
    model = FastStyle(spec=Spec(3, 256), width=width, blocks=blocks, network="random").eval()
    for name, p in model.net.named_parameters():
        if p.ndim == 1:
            nn.init.normal_(p, 0.0 if name.endswith("bias") else 1.0, 0.2)
    usual = Usual(width, blocks).eval()
    with torch.no_grad():
        pairs = list(zip(usual.parameters(), model.net.parameters(), strict=True))
        for to, come in pairs:
            to.copy_(come)
    return engine.place(model), usual


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="0 is all cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    model, usual = models(args.width, args.blocks)
    last, half = (models(args.width, args.blocks)[1] for _ in range(2))
    last, half = (
        last.to(memory_format=torch.channels_last),
        half.bfloat16().to(memory_format=torch.channels_last),
    )
    x = torch.rand(1, 3, args.size, args.size) * 2 - 1
    wide = x.to(memory_format=torch.channels_last)

    def cast(side: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return side(x).float()

    sides: dict[str, Callable[[], Tensor]] = {
        "usual, fp32": lambda: usual(x),
        "usual, fp32, channels last": lambda: last(wide),
        "usual, bf16 autocast": lambda: cast(usual, x),
        "usual, bf16 autocast, channels last": lambda: cast(last, wide),
        "usual, all in bf16, channels last": lambda: half(wide.bfloat16()).float(),
        "faststyle, fp32": lambda: model.translate(wide),
        "faststyle, bf16": lambda: cast(model.translate, wide),
    }
    with torch.inference_mode():
        answers = {name: side() for name, side in sides.items()}
        truth = answers["usual, fp32"]
        off = {name: float((y - truth).abs().max()) for name, y in answers.items()}
        rms = {name: float((y - truth).square().mean().sqrt()) for name, y in answers.items()}
        assert off["faststyle, fp32"] < 1e-3, off
        assert rms["faststyle, bf16"] < 1.5 * rms["usual, bf16 autocast"] + 1e-4, rms
        seconds = timed(sides, args.rounds)
    print("| | images/s | largest difference | rms |\n|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1 / value:.2f} | {off[name]:.1e} | {rms[name]:.1e} |")
    best = {
        (who, what): min(v for n, v in seconds.items() if n.startswith(who) and what in n)
        for who in ("usual", "faststyle")
        for what in ("fp32", "bf16", "")
    }
    ratios = {what or "best": best["usual", what] / best["faststyle", what] for what in ("fp32", "bf16", "")}
    ratios["fp32, as published"] = seconds["usual, fp32"] / seconds["faststyle, fp32"]
    print("faststyle is faster by: " + ", ".join(f"{name} {value:.2f}x" for name, value in ratios.items()))
    print(
        json.dumps(
            dict(args=vars(args), facts=engine.facts(), seconds=seconds, ratios=ratios, off=off, rms=rms)
        )
    )


if __name__ == "__main__":
    main()
