"""What the processes do that test_kills.py kills."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import torch

STEPS, BATCH = 250, 16


def live(name: str, folder: Path, save_every: float, ready: Connection) -> None:
    """Begin or go on with a run, saving after every step, to the end."""
    from conftest import small_run, toy
    from likeness.loop import fit
    from likeness.run import CONFIG, Run

    torch.set_num_threads(1)
    run, data = (Run.resume(folder), toy(size=8)) if (folder / CONFIG).exists() else small_run(name, folder, toy(size=8), images=STEPS * BATCH)
    ready.send("training")
    for _ in fit(run, data, save_every=save_every):
        pass
    run.close()
