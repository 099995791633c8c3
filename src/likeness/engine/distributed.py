"""The other processes of a training, if torchrun started several.

Every process draws the same order and the same noise, takes the images rank, rank + world, ... of each batch,
and adds up
gradients: the same step as one process makes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .device import cuda, device

# Processes


def start() -> None:
    """Join the other processes, if torchrun started this one."""
    parallel = cuda()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if parallel:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # the first may read a million images
        dist.init_process_group("nccl" if parallel else "gloo", timeout=timedelta(hours=24))


def finish() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Within, this process is one of one: for work that is no concern of the others, who wait meanwhile."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def share() -> slice:
    """This process's images of a batch."""
    return slice(rank(), None, world())


def sum_gradients(params: list[nn.Parameter]) -> None:
    """Each process has weighted its loss by its share of the batch, so the sum is the gradient of
    the whole."""
    if world() > 1:
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for p, g in zip(params, flat.split([p.numel() for p in params])):
            # in the layout of p: a fused optimiser reads both in the order of memory
            p.grad = torch.empty_like(p).copy_(g.view_as(p))


def sum_over_processes(values: Tensor) -> Tensor:
    if world() > 1:
        dist.all_reduce(values)
    return values


def largest(*values: int) -> list[int]:
    """The largest of each over all processes."""
    if world() == 1:
        return list(values)
    both = torch.tensor(values, device=device())
    dist.all_reduce(both, dist.ReduceOp.MAX)
    return both.tolist()


def broadcast_text(text: str = "") -> str:
    """What the first process says, to all: it is short, and the others wait for it however long it takes."""
    if world() == 1:
        return text
    size = torch.tensor([len(text.encode())], device=device())
    dist.broadcast(size, 0)
    blob = torch.zeros(int(size), dtype=torch.uint8, device=device())
    if rank() == 0:
        blob.copy_(torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else blob)
    dist.broadcast(blob, 0)
    return bytes(blob.tolist()).decode()


def may_ask() -> bool:
    """Whether asking the other processes at every step is cheap: on GPUs it would wait for the step."""
    return world() == 1 or device().type == "cpu"
