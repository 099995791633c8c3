"""How well the video model moves, and how fast it is; for a quiet machine.

python benchmarks/video.py --checker        the checker's baselines alone, half a minute
python benchmarks/video.py --minutes 60     training on moving-shapes at 32 pixels, then all cards of motion and text,
                                            guidance 1, 2 and 4, and the time of one clip of 16 frames
"""  # noqa: E501

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import likeness
from likeness import data as datasets
from likeness import engine
from likeness.core import final
from likeness.evaluation import captions, clips, scenes
from likeness.inference import sampling


def checker(n: int = 32) -> None:
    data = datasets.load("moving-shapes:400")
    # those that evaluate chooses
    rows = data.held_out[:n]
    x, texts = np.array(data.x[rows]), captions.wanted_of(data, rows)
    sides = {
        "held-out clips": x,
        "nearest caption's clip": np.array(data.x[captions.nearest_caption(data, rows)]),
        "best static frame": clips.static(x),
        "independent frames": clips.independent(x),
    }
    for name, part in sides.items():
        values = clips.motion(scenes.watch(part), texts, x.shape[-1])
        print(name, {k: round(float(v.mean()), 3) for k, v in values.items()})


def judged(run: likeness.Trained, guidance: float, n: int) -> None:
    data = run.data
    rows = data.held_out[np.arange(n) % len(data.held_out)]
    model = sampling.tuned(run.model, guidance=guidance)
    began = time.perf_counter()
    x = sampling.samples(model, n, 0, data)
    seconds = (time.perf_counter() - began) / n
    levels = ((x + 1) * 127.5).round().byte().numpy()
    seen, texts = scenes.watch(levels), captions.wanted_of(data, rows)
    said = {k: round(float(np.nanmean(v)), 3) for k, v in captions.agreements(seen, texts).items()}
    moved = {k: round(float(v.mean()), 3) for k, v in clips.motion(seen, texts, 32).items() if len(v)}
    print(f"guidance {guidance:g}: {said | moved}; {seconds:.2f} s a clip")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checker", action="store_true")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--run", default="runs/video-benchmark")
    parser.add_argument("-n", type=int, default=200)
    args = parser.parse_args()
    checker()
    if args.checker:
        return
    run = likeness.train("video", "moving-shapes", args.run, minutes=args.minutes)
    for guidance in (1.0, 2.0, 4.0):
        judged(run, guidance, args.n)
    began = time.perf_counter()
    y = sampling.conditions(run.model, np.arange(1), run.data)
    with torch.no_grad():
        final(run.model.sample(engine.sampling_noise(0, 0, 1), None if y is None else y.to(engine.device())))
    seconds = time.perf_counter() - began
    print(f"one clip of 16 frames alone: {seconds:.1f} s, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
