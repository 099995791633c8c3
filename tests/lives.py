"""What the processes do that test_kills.py kills."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

BATCH = 16
SLOW = dict(meanflow=50) | dict.fromkeys(
    ("ddpm", "edm", "flowmatching", "pixelcnnpp", "pixelrnn", "r3gan"), 75
)
"""steps of models of which no life makes as many as of the others"""


def images(name: str) -> int:
    """That a run is for: more than it makes before its last kill."""
    return SLOW.get(name, 150) * BATCH


def wait_in_a_save(at: int, ready: Connection) -> None:
    """At the `at`-th flush of a file or folder of a state that is still being written, say so and wait to be
    killed."""
    from likeness.storage import states

    flushed, fsync = 0, states.fsync

    def watched(path: Path) -> None:
        nonlocal flushed
        fsync(path)
        flushed += ".tmp-" in str(path)
        if flushed == at:
            ready.send("saving")
            time.sleep(600)

    states.fsync = watched


def live(name: str, folder: Path, save_every: float, ready: Connection, wait_at: int = 0) -> None:
    """Begin or go on with a run, saving after every step, to the end, or until it waits within a save."""
    from conftest import small_run, suited, toy
    from likeness.runs.run import CONFIG, Run
    from likeness.training.loop import fit

    torch.set_num_threads(1)
    run, data = (
        (Run.resume(folder), suited(name, toy(size=8)))
        if (folder / CONFIG).exists()
        else small_run(name, folder, toy(size=8), images=images(name))
    )
    wait_in_a_save(wait_at, ready)
    ready.send("training")
    for _ in fit(run, data, save_every=save_every):
        pass
    run.close()
