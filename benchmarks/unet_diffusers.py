"""Training steps of the U-Net that reads texts beside UNet2DConditionModel of the library diffusers.

    pip install --target /tmp/diffusers --no-deps diffusers requests charset_normalizer \\
        idna urllib3 certifi importlib_metadata zipp
    python benchmarks/unet_diffusers.py [--diffusers /tmp/diffusers] [--batch 32] [--rounds 7] [--threads 1]

Both have the same levels, attention and cross-attention at 8 pixels, and the same encoder of texts before
them; ours is widened at its lowest level until it has as many weights.  A step is the forward pass, the
derivative and Adam.  Ways alternate in rounds, and the median counts: fp32 and bf16 autocast, theirs with
channels first and last.  Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness import engine
from likeness.core import Condition
from likeness.parts.denoisers import groups
from likeness.parts.text import Texts
from likeness.parts.unet import Plan, UNet

VOCABULARY, LONGEST, WORD, SIZE, BLOCKS = 34, 30, 64, 32, 2
CHANNELS = (64, 128, 128)
Step = Callable[[], None]


class Theirs(nn.Module):
    """Their network behind our encoder of texts."""

    def __init__(self, kind: Any):
        super().__init__()
        self.text = Texts(VOCABULARY, LONGEST, WORD, "relative").encoder()
        self.net = kind(
            sample_size=SIZE,
            in_channels=3,
            out_channels=3,
            block_out_channels=CHANNELS,
            layers_per_block=BLOCKS,
            down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            cross_attention_dim=WORD,
            attention_head_dim=4,  # which is their name for the number of heads
            norm_num_groups=32,
        )

    def forward(self, x: Tensor, t: Tensor, y: Condition) -> Tensor:
        text = self.text(y)
        out: Tensor = self.net(
            x, t, encoder_hidden_states=text.words, encoder_attention_mask=text.there
        ).sample
        return out


def ours(least: int) -> UNet:
    """With `least` weights or more."""
    texts = Texts(VOCABULARY, LONGEST, WORD, "relative")
    for wide in range(CHANNELS[-1], 1024, 32):
        channels = (*CHANNELS[:-1], wide)
        net = UNet(Plan(3, 3, channels, (False, False, True), BLOCKS, groups(channels), 32, text=texts))
        if weights(net) >= least:
            return net
    raise AssertionError


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def step(
    net: nn.Module, adam: torch.optim.Optimizer, x: Tensor, y: Condition, cast: Callable[[], Any]
) -> None:
    t, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
    share = t[:, None, None, None]
    adam.zero_grad()
    with cast():
        out = net((1 - share) * x + share * noise, 1000 * t, y)
    F.mse_loss(out.float(), noise - x).backward()
    adam.step()


def bf16(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16)


def ways(kind: Any, batch: int, device: str) -> tuple[dict[str, Step], dict[str, int]]:
    made: dict[str, Step] = {}
    theirs = weights(Theirs(kind))
    sizes = {"theirs": theirs, "ours": weights(ours(theirs))}
    x = torch.randn(batch, 3, SIZE, SIZE, device=device)
    y = Condition(tokens=torch.randint(2, VOCABULARY, (batch, LONGEST), device=device))
    layouts = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
    for precision, cast in (("fp32", nullcontext), ("bf16", partial(bf16, device))):
        for name, layout in layouts.items():
            net = Theirs(kind).to(device).to(memory_format=layout)  # type: ignore[call-overload]
            adam = torch.optim.Adam(net.parameters(), 1e-3)
            made[f"theirs, {precision}, {name}"] = partial(
                step, net, adam, x.to(memory_format=layout), y, cast
            )
        net = engine.place(ours(theirs).to(device))
        adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
        made[f"ours, {precision}"] = partial(
            step, net, adam, x.to(memory_format=torch.channels_last), y, cast
        )
    return made, sizes


def measure(made: dict[str, Step], rounds: int, device: str) -> dict[str, float]:
    """Seconds of the median step."""
    took: dict[str, list[float]] = {name: [] for name in made}
    for k in range(rounds + 1):
        for name, one in made.items():
            began = time.perf_counter()
            one()
            if device == "cuda":
                torch.cuda.synchronize()
            if k:  # the first one makes what is kept
                took[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in took.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--diffusers", default="/tmp/diffusers")
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    for name, value in dict(batch=32, rounds=7, threads=1).items():
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    sys.path.append(a.diffusers)
    try:
        import diffusers
    except ImportError:
        raise SystemExit(f"pip install --target {a.diffusers} --no-deps diffusers") from None
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    made, sizes = ways(diffusers.UNet2DConditionModel, a.batch, a.device)
    times = measure(made, a.rounds, a.device)
    print(f"diffusers {diffusers.__version__}, {sizes['theirs']:,} weights; ours {sizes['ours']:,}")
    print("| a step of | ms | images/s |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {1000 * seconds:.0f} | {a.batch / seconds:.1f} |")
    best = {
        (side, kind): min(
            s for name, s in times.items() if name.startswith(side) and (kind in name or kind == "best")
        )
        for side in ("ours", "theirs")
        for kind in ("fp32", "bf16", "best")
    }
    ratios = {kind: best["theirs", kind] / best["ours", kind] for kind in ("fp32", "bf16", "best")}
    print("ours against theirs: " + ", ".join(f"{kind} {ratio:.2f}x" for kind, ratio in ratios.items()))
    print(json.dumps(dict(asked=vars(a), weights=sizes, seconds=times, times=ratios)))


if __name__ == "__main__":
    main()
