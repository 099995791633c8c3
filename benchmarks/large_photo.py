"""What a large photo takes: seconds, and the most memory that the process holds, of a translation in strips
and, where there is room, in one piece; and how far the two are apart.

    python benchmarks/large_photo.py                        4,000 x 3,000 pixels
    python benchmarks/large_photo.py --width 1600 --height 1200 --whole
    python benchmarks/large_photo.py --verb                 the command `likeness translate`, JPEG to JPEG

With --verb, cyclegan (width 32, 9 blocks), faststyle and superres (x2) are trained for a few small images,
and a JPEG file goes through `likeness translate`: seconds and peak memory are those of that process, from its
start to its end.  It exits with 1 where one holds more than LIMIT.

Without, each network is a process of its own, with weights as they are drawn: what they are decides no time
and no memory.  translator: the generator of cyclegan and faststyle, width 32, 9 blocks, instance
normalisation; plain: the same without normalisation; superres: x2, width 48, 8 blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NETWORKS = ("translator", "plain", "superres")
RUNS = dict(
    cyclegan="day-night:24 {run} --width 32 --blocks 9",
    faststyle="shapes:24 {run} --network random",
    superres="shapes:24 {run} --task upscale2",
)
"""how the runs of --verb are trained"""
FEW = "--size 32 --images 4 --batch 2 --no-report"
LIMIT = 3.0
"""billions of bytes that a translation may hold"""


def network(name: str) -> tuple[Any, int]:
    """The network, and its scale."""
    import torch

    from likeness.parts import translators

    torch.manual_seed(0)
    if name == "superres":
        from likeness.models.superres import Upscaler

        net: Any = Upscaler(3, 48, 8, 2)
        torch.nn.init.normal_(net.last.weight, 0, 0.05)
        return net, 2
    norm = translators.NORMS["none" if name == "plain" else "instance"]
    net = translators.Residual(3, 3, 32, 9, norm=norm)
    for module in net.modules():  # no block is nothing, no output a constant
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif getattr(module, "weight", None) is not None:
            torch.nn.init.constant_(module.weight, 0.5)
    return net, 1


def measure(name: str, width: int, height: int, bf16: bool, whole: bool) -> dict[str, object]:
    """One network in this process."""
    import contextlib

    import numpy as np
    import torch

    from likeness import engine
    from likeness.inference import strips

    net, scale = network(name)
    net = engine.place(net.eval())
    photo = smooth(width, height)
    number = 2 if bf16 else 4
    cast = torch.autocast(engine.device().type, torch.bfloat16) if bf16 else contextlib.nullcontext()
    out = np.empty((height * scale, width * scale, 3), np.float32 if whole else np.uint8)

    def rows(a: int, b: int) -> torch.Tensor:
        part = torch.from_numpy(photo[a:b]).permute(2, 0, 1)[None].to(engine.device()).float()
        return part.mul_(2 / 255).sub_(1).contiguous(memory_format=torch.channels_last)

    def bounded(x: torch.Tensor) -> torch.Tensor:
        y = net(x)
        return y.clamp(-1, 1) if name == "superres" else y.tanh()

    def use(span: tuple[int, int], part: torch.Tensor) -> None:
        x = part[0].permute(1, 2, 0).float().cpu()
        out[slice(*span)] = x.numpy() if whole else ((x + 1) * 127.5).round().byte().numpy()

    with torch.no_grad(), cast:
        began = time.perf_counter()
        plan = strips.planned(bounded, (1, 3, height, width), number, engine.device())
        strips.run(bounded, (1, 3, height, width), rows, use, plan, number=number, device=engine.device())
        seconds = time.perf_counter() - began
        result: dict[str, object] = dict(
            network=name,
            precision="bf16" if bf16 else "fp32",
            photo=f"{width} x {height}",
            seconds=round(seconds, 1),
            peak_gb=round(peak(), 2),
            operations=f"{plan.work:.3g}",
            threads=torch.get_num_threads(),
        )
        if whole:
            began = time.perf_counter()
            reference = bounded(rows(0, height))[0].permute(1, 2, 0).float().cpu().numpy()
            apart = abs(reference - out.astype(np.float32)).max()
            result |= dict(
                whole_seconds=round(time.perf_counter() - began, 1),
                whole_peak_gb=round(peak(), 2),
                apart_of_255=round(float(apart) * 127.5, 4),
            )
    return result


def smooth(width: int, height: int) -> Any:
    """Something like a photo, uint8 (H, W, 3): different on its two sides, with fine detail."""
    import numpy as np

    draw = np.random.default_rng(0)
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    planes = [160 * x**2 + 60 * y, 120 + 100 * np.sin(9 * x * y), 200 - 150 * y + 0 * x]
    image = np.stack(planes, -1) + draw.normal(0, 12, (height, width, 1))
    return image.clip(0, 255).astype(np.uint8)


def peak() -> float:
    """Billions of bytes that this process has held at most."""
    return billions(resource.getrusage(resource.RUSAGE_SELF))


def billions(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


# The verb


def by_verb(name: str, width: int, height: int, folder: Path) -> dict[str, Any]:
    """Train a run of this model, and put a JPEG file of this size through it by the command line."""
    run, photo, out = folder / name, folder / f"{width}x{height}.jpg", folder / f"{name}-out"
    train = ["train", name, *RUNS[name].format(run=run).split(), *FEW.split()]
    if not (run / "config.json").exists():
        subprocess.run([sys.executable, "-m", "likeness", *train], check=True, capture_output=True)
    if not photo.exists():  # in another process: what this one holds would count for those that it starts
        words = ["--photo", str(photo), "--width", str(width), "--height", str(height)]
        subprocess.run([sys.executable, __file__, *words], check=True)
    command = [sys.executable, "-m", "likeness", "translate", str(run), str(photo), "-o", str(out), "--json"]
    began = time.perf_counter()
    with (folder / "output.json").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone, not of all
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(
            f"likeness translate of {name} ended with status {os.waitstatus_to_exitcode(status)}"
        )
    (result,) = json.loads((folder / "output.json").read_text())["images"]
    assert result["new"], f"{out} holds an earlier result"
    return dict(
        run=name,
        photo=f"{width} x {height}",
        seconds=round(seconds),
        processor_seconds=round(usage.ru_utime + usage.ru_stime),
        peak_gb=round(billions(usage), 2),
        megabytes=round(Path(result["path"]).stat().st_size / 1e6, 1),
    )


def verb(names: list[str], width: int, height: int, folder: Path) -> None:
    rows = []
    for name in names:
        rows.append(by_verb(name, width, height, folder))
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    print(json.dumps(rows))
    if any(row["peak_gb"] > LIMIT for row in rows):
        raise SystemExit(f"more than {LIMIT} GB")


def written(path: Path, width: int, height: int) -> None:
    from PIL import Image

    Image.fromarray(smooth(width, height)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="which of them, with commas between")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument(
        "--whole", action="store_true", help="in one piece as well, and how far the two are apart"
    )
    parser.add_argument("--here", action="store_true", help="in this process, and print its JSON alone")
    parser.add_argument("--verb", action="store_true", help="the command `likeness translate`")
    parser.add_argument("--runs", default=",".join(RUNS), help="of --verb, with commas between")
    parser.add_argument(
        "--folder",
        type=Path,
        help="of --verb: keeps runs, photos and results [a temporary one]",
    )
    parser.add_argument("--photo", type=Path, help="write a photo of this size, and no more")
    args = parser.parse_args()
    if args.photo:
        return written(args.photo, args.width, args.height)
    if args.verb:
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            return verb(args.runs.split(","), args.width, args.height, folder)
    known = [(name, kind) for name in args.networks.split(",") for kind in args.precisions.split(",")]
    if args.here:
        for name, kind in known:
            print(json.dumps(measure(name, args.width, args.height, kind == "bf16", args.whole)))
        return
    rows = []
    for name, kind in known:
        words = [
            "--networks",
            name,
            "--precisions",
            kind,
            "--width",
            str(args.width),
            "--height",
            str(args.height),
        ]
        words += ["--here", *(["--whole"] if args.whole else [])]
        done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
