"""The only file that knows devices, precision, compilation and other processes.

Started by torchrun, every process draws the same order and the same noise, takes the images
rank, rank + world, ... of each batch, and adds up gradients: the same step as one process makes.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import os
import platform
import resource
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from .core import Batch, Noise, Player, Spec, Training

M = TypeVar("M", bound=nn.Module)


@cache
def cuda() -> bool:
    """Whether there is a GPU.  From the first answer on, its convolutions and products add up in a fixed order: without that no resume is exact.

    And what memory this process has been given, it keeps.
    """
    _keep_memory()
    found = torch.cuda.is_available()
    if found:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return found


# Processes


def start() -> None:
    """Join the other processes, if torchrun started this one."""
    parallel = cuda()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if parallel:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if parallel else "gloo", timeout=timedelta(hours=24))  # the first may read a million images


def _keep_memory() -> None:
    """Tell glibc not to hand every large tensor back to the system: taking it anew costs thousands of page faults a step."""
    mmap_threshold, trim_threshold = -3, -1
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def finish() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> slice:
    """This process's images of a batch."""
    return slice(rank(), None, world())


def sum_gradients(params: list[nn.Parameter]) -> None:
    """Each process has weighted its loss by its share of the batch, so the sum is the gradient of the whole."""
    if world() > 1:
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for p, g in zip(params, flat.split([p.numel() for p in params])):
            p.grad = torch.empty_like(p).copy_(g.view_as(p))  # in the layout of p: a fused optimiser reads both in the order of memory


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


def told(text: str = "") -> str:
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


# Devices and precision


def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if cuda() else torch.device("cpu")


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
"""pixels a side below which fp32 is faster on a CPU: casting costs more than the products save (`likeness check` measures both)"""


def settle(training: Training, spec: Spec) -> Training:
    """Put what `auto` means on this machine into words, since it decides bits."""
    if training.precision != "auto":
        return training
    fast = native_bf16() and (cuda() or spec.size >= SMALL)
    return replace(training, precision="bf16" if fast else "fp32")


def autocast(training: Training) -> AbstractContextManager[Any]:
    return torch.autocast(device().type, torch.bfloat16) if training.precision == "bf16" else nullcontext()


def place(module: M) -> M:
    """Onto the device, channels last: the layout that convolutions are fastest in, on GPUs and with bf16 on CPUs above all."""
    return module.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compiled(players: tuple[Player, ...], training: Training) -> tuple[Player, ...]:
    """Their losses compiled, if that is asked for: networks, noise and likelihood become few passes over memory."""
    return tuple(replace(p, loss=torch.compile(p.loss)) for p in players) if training.compile else players


def put(batch: Batch) -> Batch:
    """A batch, ready for a model that place() has placed."""
    layout = torch.channels_last if batch.x.ndim == 4 else torch.preserve_format
    x = batch.x.to(device(), memory_format=layout, non_blocking=True)
    y = None if batch.y is None else batch.y.to(device(), non_blocking=True)
    return replace(batch, x=x, y=y, noise=batch.noise.to(device()) if cuda() else batch.noise)


def optimizer(player: Player, rate: float) -> Optimizer:
    params = [p for p in player.module.parameters() if p.requires_grad]
    make = player.optimizer
    inner = getattr(make, "func", make)
    fused = {"fused": True} if "fused" in inspect.signature(inner).parameters else {}
    return make(params, lr=rate * player.rate, **fused)


def may_exceed(norm: Tensor, limit: float) -> bool:
    """Whether a gradient may have to be scaled down: a GPU is not asked, since the answer would wait for the step."""
    return cuda() or not float(norm) < limit - 1e-5


class Average:
    """The running average of a student's weights, kept in a module of its own.

    The pairs of weights are found once: walking through the modules takes longer than a small step.  Buffers may be
    replaced by the model, so they are looked up again, where there are any.
    """

    def __init__(self, average: nn.Module, student: nn.Module):
        self.average, self.student = average, student
        self.mine: list[Tensor] = list(average.parameters())
        self.theirs: list[Tensor] = list(student.parameters())
        self.has_buffers = any(True for _ in student.buffers())

    @torch.no_grad()
    def fade(self, keep: float) -> None:
        """average <- keep * average + (1 - keep) * student; buffers are copied."""
        torch._foreach_lerp_(self.mine, self.theirs, 1 - keep)
        if self.has_buffers:
            torch._foreach_copy_(list(self.average.buffers()), list(self.student.buffers()))


# Randomness and what decides bits


def derive(*where: int | str) -> int:
    """A number below 2^63 that is a function of where one is: no random state is ever saved."""
    return int.from_bytes(hashlib.blake2b(repr(where).encode(), digest_size=8).digest()) >> 1


def seed(*where: int | str) -> None:
    """Seed torch's own generator, for whatever in a model does not draw from its batch's noise."""
    number = derive(*where, rank())
    torch.default_generator.manual_seed(number)
    if cuda():
        torch.cuda.manual_seed(number)


def sampling_noise(seed: int, first: int, n: int) -> Noise:
    """The noise of samples number first ... first+n-1 of a run: sample i is sample i, whatever it is drawn with."""
    return Noise(range(first, first + n), derive("sample", seed), device())


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, Any]:
    """All that decides bits beside config and images seen."""
    gpu = torch.cuda.get_device_name() if cuda() else ""
    return dict(
        likeness=installed("likeness"),
        torch=torch.__version__,
        numpy=installed("numpy"),
        python=platform.python_version(),
        device=gpu or f"cpu {platform.machine()}",
        instructions="cuda" if gpu else torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        processes=world(),
    )


def match(then: dict[str, Any]) -> list[str]:
    """Take over the thread count of a run, and say what else differs from when it was made: its bits may, too."""
    if isinstance(then.get("threads"), int) and 0 < then["threads"] <= 4 * (os.cpu_count() or 1):
        torch.set_num_threads(then["threads"])
    now = facts()
    return [f"{name} was {then.get(name)!r}, is {now[name]!r}" for name in now if name != "python" and then.get(name) != now[name]]


def memory_mb() -> float:
    """The most memory this process has held: of the GPU if there is one, else of the machine."""
    if cuda():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def synchronise() -> None:
    if cuda():
        torch.cuda.synchronize()
