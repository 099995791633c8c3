"""The only file that knows devices, precision, compilation and other processes.

Started by torchrun, every process draws the same order and the same noise, takes the images
rank, rank + world, ... of each batch, and adds up gradients: the same step as one process makes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from ..core import Batch, Player, Refusal, Spec, Training, leave_alone

M = TypeVar("M", bound=nn.Module)


_asked = ""
"""the device that choose() was asked for; nothing is the usual one"""


def there() -> tuple[str, ...]:
    """The devices of this machine, as they are named: cpu, then mps or each GPU."""
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *mps, *(f"cuda:{i}" for i in range(torch.cuda.device_count())))


def choose(name: str) -> torch.device:
    """Compute on the device of this name from now on: cpu, cuda (the first GPU), cuda:1, mps.

    A process computes on one device: what lies on another already is not moved.  Raises Refusal for one that
    is not there, for another than that in use, and for a numbered one where torchrun gives out the numbers.
    """
    global _asked
    kind, _, number = name.partition(":")
    known = there()
    if not any(name in (one, one.partition(":")[0]) for one in known):
        raise Refusal(f"--device {name} is not on this machine; there are: {', '.join(known)}.")
    if number and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refusal(
            f"--device {name} is one GPU, and each process that torchrun has started has its own; type "
            "--device cuda."
        )
    if _placed and name not in (_placed[0], _placed[0].partition(":")[0]):
        raise Refusal(
            f"this process computes on {_placed[0]}, where a model lies already, and a process computes on "
            f"one device; name {name} before anything else is opened."
        )
    if kind == "cuda":
        torch.cuda.set_device(int(number or torch.cuda.current_device()))
    _asked = kind
    return device()


_placed: list[str] = []
"""the device on which there are models, once there is one"""


@cache
def _gpu() -> bool:
    """Whether there is a GPU.  From the first answer on, its convolutions and products add up in a fixed
    order: without that no resume is exact.

    And what memory this process has been given, it keeps.
    """
    _keep_memory()
    result = torch.cuda.is_available()
    if result:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return result


def cuda() -> bool:
    """Whether this process computes on a GPU of CUDA."""
    return _gpu() and _asked in ("", "cuda")


def _keep_memory() -> None:
    """Tell glibc not to hand every large tensor back to the system: taking it anew costs thousands of page
    faults a step."""
    mmap_threshold, trim_threshold = -3, -1
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def give_back_memory() -> None:
    """What is free of the memory that this process has kept goes back to the system; a few milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


# Devices and precision


def device() -> torch.device:
    """Where this process computes: what choose() was asked for, else a GPU of CUDA where there is one, else
    the CPU."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if cuda()
        else torch.device("mps" if _asked == "mps" else "cpu")
    )


def native_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere autocast only costs."""
    if cuda():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = ("avx512_bf16", "amx_bf16")
    try:
        with open("/proc/cpuinfo") as f:
            return any(flag in line.split() for line in f if line.startswith("flags") for flag in flags)
    except OSError:
        return False


SMALL = 16
"""pixels a side below which fp32 is faster on a CPU: casting costs more than the products save (`likeness
check` measures both)"""


def settle(training: Training, spec: Spec) -> Training:
    """Put what `auto` means on this machine into words, since it decides bits."""
    if training.precision != "auto":
        return training
    fast = native_bf16() and (cuda() or spec.size >= SMALL)
    return replace(training, precision="bf16" if fast else "fp32")


def autocast(training: Training) -> AbstractContextManager[Any]:
    return torch.autocast(device().type, torch.bfloat16) if training.precision == "bf16" else nullcontext()


def place(module: M) -> M:
    """Onto the device, channels last: the layout that convolutions are fastest in, on GPUs and with bf16 on
    CPUs above all."""
    if not _placed:
        _placed.append(str(device()))
    return module.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compiled(players: tuple[Player, ...], training: Training) -> tuple[Player, ...]:
    """Their losses compiled, if that is asked for: networks, noise and likelihood become few passes over
    memory."""
    if not training.compile:
        return players
    leave_alone()
    return tuple(replace(p, loss=torch.compile(p.loss)) for p in players)


def put(batch: Batch) -> Batch:
    """A batch, ready for a model that place() has placed."""
    layout = torch.channels_last if batch.x.ndim == 4 else torch.preserve_format
    x = batch.x.to(device(), memory_format=layout, non_blocking=True)
    y = None if batch.y is None else batch.y.to(device())
    return replace(batch, x=x, y=y, noise=batch.noise if device().type == "cpu" else batch.noise.to(device()))


def memory_mb() -> float:
    """The most memory this process has held: of the GPU if there is one, else of the machine."""
    if cuda():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def synchronise() -> None:
    if cuda():
        torch.cuda.synchronize()
    elif _asked == "mps":
        torch.mps.synchronize()
