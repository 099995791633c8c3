"""Whether runs made by another tree of likeness, or under another PyTorch, open, draw the same and go on
alike.

    python benchmarks/old_runs.py ../base/src                       made by that tree, gone on with by this
    python benchmarks/old_runs.py src --python ../venv/bin/python   made here, gone on with elsewhere

Every family is trained for 256 images of the built-in digits with one thread, six samples are drawn, and a
copy goes on to image 512.  Then the other side opens the runs of image 256, draws the same six and goes on to
512, too.  The table says of each run whether samples, the state at 512 (weights, EMA, optimisers) and the
losses in the log are equal to the last bit, and how far the weights are apart where they are not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

SMALL = dict(width=8, depth=1, scale=0.25, latent=4, hidden=16, batch=32, seed=3, schedule="constant")
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        name: (name, "digits", {})
        for name in ("ae", "byol", "classifier", "dino", "edm", "mae", "pixelrnn", "rotation", "simclr")
    },
    **{name: (name, "digits", {}) for name in ("vicreg", "vqvae")},
    **{
        f"{name} of a class": (name, "digits", dict(conditional=True))
        for name in ("ddpm", "gan", "imagegpt", "meanflow", "pixelcnn", "pixelcnnpp", "r3gan", "vae")
    },
    "flowmatching, dit": ("flowmatching", "digits", dict(net="dit", conditional=True)),
    "flowmatching of points": ("flowmatching", "ring", {}),
    "ddpm, mirrored": ("ddpm", "digits", dict(mirror=True)),
    "pixelcnn in codes": ("pixelcnn", "vqvae", {}),
}


def go_on(folder: Path, name: str, images: int) -> None:
    import likeness
    from likeness import models

    model, source, options = RUNS[name]
    wishes = {} if folder.exists() else wanted(models.load(model), SMALL | options)
    data = str(folder.parent / source) if source == "vqvae" else source
    likeness.train(model, data, folder, images=images, progress=False, **wishes)


def wanted(kind: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that the model has, or a training."""
    kinds = {f.name: type(f.default) for f in fields(kind)} | dict(
        batch=int, seed=int, schedule=str, mirror=bool
    )
    out = {k: v for k, v in options.items() if kinds.get(k) is type(v)}
    if "heads" in kinds and "width" in out:
        out["width"] = 32  # which the heads share out
    return out


def draw(folder: Path, out: Path) -> None:
    import numpy as np

    import likeness

    run = likeness.open(folder)
    if hasattr(run.model, "sample"):
        np.save(out, run.sample(6, seed=1).x.numpy())


def make(folder: Path) -> None:
    """Runs at image 256, their samples, and copies at 512."""
    for name in RUNS:
        go_on(folder / name, name, 256)
        draw(folder / name, folder / f"{name}.npy")
        shutil.copytree(folder / name, folder / f"{name} on")
        go_on(folder / f"{name} on", name, 512)


def check(folder: Path) -> None:
    """The same from image 256 on, in copies; a line of JSON a run."""
    for name in RUNS:
        copy = folder / f"{name} here"
        shutil.copytree(folder / name, copy)
        draw(copy, folder / f"{name} here.npy")
        go_on(copy, name, 512)
        print(json.dumps(compared(folder, name)), flush=True)


def compared(folder: Path, name: str) -> dict[str, Any]:
    import numpy as np
    from safetensors.numpy import load_file

    there, here = (load_file(newest(folder / f"{name} {side}")) for side in ("on", "here"))
    arrays = [folder / f"{name}.npy", folder / f"{name} here.npy"]
    samples = bool(np.array_equal(*map(np.load, arrays))) if arrays[0].exists() else None
    state = there.keys() == here.keys() and all(np.array_equal(there[k], here[k]) for k in there)
    weights = [k for k in there if k.startswith("student/") and k in here]
    apart = max(
        float(np.abs(there[k].astype(float) - here[k].astype(float)).max()) for k in weights if there[k].size
    )
    logs = [losses(folder / f"{name} {side}") for side in ("on", "here")]
    return dict(run=name, samples=samples, state=state, apart=apart, log=logs[0] == logs[1])


def newest(folder: Path) -> Path:
    return max((folder / "state").glob("*")) / "state.safetensors"


def losses(folder: Path) -> list[Any]:
    return [json.loads(line)["losses"] for line in (folder / "log.jsonl").read_text().splitlines()]


def ask(python: str, source: Path, what: str, folder: Path) -> str:
    env = os.environ | {
        "PYTHONPATH": str(source),
        "LIKENESS_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [python, str(Path(__file__).resolve()), what, "--in", str(folder)]
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="the folder src of the tree that makes the runs")
    parser.add_argument("--python", default=sys.executable, help="of the side that goes on with them")
    parser.add_argument("--in", dest="folder", type=Path)
    args = parser.parse_args()
    if args.folder:
        dict(make=make, check=check)[args.source](args.folder)
        return
    own = Path(__file__).resolve().parents[1] / "src"
    with tempfile.TemporaryDirectory() as folder:
        ask(sys.executable, Path(args.source).resolve(), "make", Path(folder))
        print("| run | samples | state at 512 | weights apart by | log |\n|---|---|---|---|---|")
        for line in ask(args.python, own, "check", Path(folder)).splitlines():
            row = json.loads(line)
            words = {True: "equal", False: "differ", None: ""}
            cells = words[row["samples"]], words[row["state"]], f"{row['apart']:.1e}", words[row["log"]]
            print(f"| {row['run']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
