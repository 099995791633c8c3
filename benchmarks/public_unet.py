"""The U-Net and the training step of DDPM as they are commonly written, for the side of the benchmark that is
not ours: from the paper.

Images are channels first, in fp32, each operation by itself; layers are named as in diffusers, so that
weights can be carried over.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class ResnetBlock(nn.Module):
    def __init__(self, inside: int, outside: int, time_dim: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, outside)
        self.norm2 = nn.GroupNorm(groups, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(t))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.conv_shortcut(x)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, groups: int):
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.group_norm(x).view(b, c, h * w).transpose(1, 2)
        q, k, v = (
            layer(tokens).view(b, h * w, self.heads, -1).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.to_out[0](out).transpose(1, 2).reshape(b, c, h, w)


class Sampler(nn.Module):
    """Downsample or upsample."""

    def __init__(self, dim: int, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, stride=1 if up else 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x)


class Stage(nn.Module):
    def __init__(
        self,
        inside: list[int],
        outside: int,
        time_dim: int,
        groups: int,
        attends: int,
        heads: int,
        sampler: str,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(n, outside, time_dim, groups) for n in inside)
        self.attentions = nn.ModuleList(Attention(outside, heads, groups) for _ in range(attends))
        if sampler:
            self.add_module(f"{sampler}samplers", nn.ModuleList([Sampler(outside, sampler == "up")]))


class TimeEmbedding(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.linear_1 = nn.Linear(dim, 4 * dim)
        self.linear_2 = nn.Linear(4 * dim, 4 * dim)

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        freqs = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
        args = t[:, None].float() * freqs[None]
        return self.linear_2(F.silu(self.linear_1(torch.cat([args.cos(), args.sin()], dim=-1))))


class Unet(nn.Module):
    def __init__(
        self,
        channels: int,
        dims: tuple[int, ...],
        attends: tuple[bool, ...],
        layers: int,
        groups: int,
        head: int | None,
    ):
        super().__init__()
        time_dim, last = 4 * dims[0], len(dims) - 1
        self.conv_in = nn.Conv2d(channels, dims[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(dims[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, dim = [dims[0]], dims[0]
        for i, n in enumerate(dims):
            self.down_blocks.append(
                Stage(
                    [dim] + [n] * (layers - 1),
                    n,
                    time_dim,
                    groups,
                    layers * attends[i],
                    n // (head or n),
                    "down" if i < last else "",
                )
            )
            skips += [n] * (layers + (i < last))
            dim = n
        self.mid_block = Stage([dim, dim], dim, time_dim, groups, 1, dim // (head or dim), "")
        for i, n in reversed(list(enumerate(dims))):
            inside = [d + skips.pop() for d in [dim] + [n] * layers]
            self.up_blocks.append(
                Stage(
                    inside, n, time_dim, groups, len(inside) * attends[i], n // (head or n), "up" if i else ""
                )
            )
            dim = n
        self.conv_norm_out = nn.GroupNorm(groups, dim)
        self.conv_out = nn.Conv2d(dim, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = self.time_embedding(t)
        x = self.conv_in(x)
        skips = [x]
        for stage in self.down_blocks:
            for i, resnet in enumerate(stage.resnets):
                x = resnet(x, t)
                x = stage.attentions[i](x) if len(stage.attentions) else x
                skips.append(x)
            if hasattr(stage, "downsamplers"):
                x = stage.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, t)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x), t)
        for stage in self.up_blocks:
            for i, resnet in enumerate(stage.resnets):
                x = resnet(torch.cat([x, skips.pop()], dim=1), t)
                x = stage.attentions[i](x) if len(stage.attentions) else x
            if hasattr(stage, "upsamplers"):
                x = stage.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def train(net: nn.Module, batches: Iterator[Tensor], rate: float, T: int = 1000) -> Iterator[int]:
    """L_simple, Adam, gradients clipped, an EMA every tenth step; yields images seen."""
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, T), 0)
    device = next(net.parameters()).device
    sqrt_alphas, sqrt_rest = alphas_cumprod.sqrt().to(device), (1 - alphas_cumprod).sqrt().to(device)
    optimizer, ema, seen = (
        torch.optim.Adam(net.parameters(), lr=rate, betas=(0.9, 0.99)),
        copy.deepcopy(net),
        0,
    )
    for step, x in enumerate(batches):
        t, noise = torch.randint(0, T, (len(x),), device=device), torch.randn_like(x)
        noised = sqrt_alphas[t].view(-1, 1, 1, 1) * x + sqrt_rest[t].view(-1, 1, 1, 1) * noise
        loss = F.mse_loss(net(noised, t), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            with torch.no_grad():
                for a, b in zip(ema.parameters(), net.parameters()):
                    a.lerp_(b, 0.005)
        seen += len(x)
        yield seen
