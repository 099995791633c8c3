"""Where randomness comes from, and what decides bits beside the config and the images seen."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..core import Noise
from .device import cuda, device
from .distributed import rank, world

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
    elif device().type == "mps":
        torch.mps.manual_seed(number)


def sampling_noise(seed: int, first: int, n: int) -> Noise:
    """The noise of samples number first ... first+n-1 of a run: sample i is sample i, whatever it is drawn
    with."""
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
        device=gpu or f"{device().type} {platform.machine()}",
        instructions=device().type if device().type != "cpu" else torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        processes=world(),
    )


def match(then: dict[str, Any]) -> list[str]:
    """Take over the thread count of a run, and say what else differs from when it was made: its bits may,
    too."""
    if isinstance(then.get("threads"), int) and 0 < then["threads"] <= 4 * (os.cpu_count() or 1):
        torch.set_num_threads(then["threads"])
    now = facts()
    return [
        f"{name} was {then.get(name)!r}, is {now[name]!r}"
        for name in now
        if name != "python" and then.get(name) != now[name]
    ]
