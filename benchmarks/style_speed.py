"""Gatys: seconds to a given loss and peak memory, beside an implementation as tutorials write it.

    LIKENESS_DATA=../shared/data python benchmarks/style_speed.py photo.jpg painting.jpg --size 512 --steps 200
    LIKENESS_DATA=../shared/data python benchmarks/style_speed.py photo.jpg painting.jpg --size 1024 --memory

Both sides have the same network (VGG16 up to block3_conv3, means instead of maxima), weights, layers, loss, start and
images.  `usual` is the layers in a list with hooks on three of them, ReLU not in place, the loss by autograd,
torch.optim.LBFGS with its defaults and lr 1.  `ours` is likeness.inference.style.  The goal is the loss that `usual`
reaches with --steps evaluations, times 1.01; early: times 2.  Losses are those of the picture as it is written,
clamped to black and white, compared in fp32, outside of the clock, whatever the precision of the walk.  --memory: each side in a process of its own, five evaluations, and the most it held.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likeness.data import user_images
from likeness.inference import style as transfer
from likeness.inference.style_loss import Goal, Objective
from likeness.parts.perceptual import Perceptual

SIDES = ("usual", "ours")


def usual_network(net: Perceptual) -> tuple[nn.Sequential, dict[str, int]]:
    """The same layers as torchvision's `features` has them, and the places of those that are asked for."""
    layers, places = list[nn.Module](), dict[str, int]()
    for name, layer in net.net.nodes.items():
        if isinstance(layer, nn.Conv2d):
            conv = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            conv.load_state_dict({k: v.contiguous() for k, v in layer.state_dict().items()})
            layers += [conv, nn.ReLU(inplace=False)]
            places[name] = len(layers) - 1
        else:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers).eval().requires_grad_(False), places


def gram(h: Tensor) -> Tensor:
    b, c, high, wide = h.size()
    features = h.view(b * c, high * wide)
    return torch.mm(features, features.t()).div(c * high * wide)


class Reached(Exception):
    """So many evaluations, or seconds, were made."""


def usual(net: Perceptual, content: Tensor, painting: Tensor, how: transfer.How, bf16: bool, steps: int):
    """Yield nothing; return [(seconds, place)], one for each evaluation."""
    layers, places = usual_network(net)
    heard: dict[str, Tensor] = {}
    for name in {*how.of_style, how.of_content}:
        layers[places[name]].register_forward_hook(lambda m, i, y, name=name: heard.__setitem__(name, y))

    def features(x: Tensor) -> dict[str, Tensor]:
        heard.clear()
        layers(net.net.input.of(x).contiguous())
        return {name: y.float() for name, y in heard.items()}

    with torch.no_grad():
        wanted = {name: gram(y) for name, y in features(painting).items() if name in how.of_style}
        target = features(content)[how.of_content].clone()
    x, way, began, spent = (
        content.clone().requires_grad_(),
        list[tuple[float, Tensor]](),
        time.perf_counter(),
        0.0,
    )
    optimizer = torch.optim.LBFGS([x], lr=1)

    def closure() -> Tensor:
        nonlocal spent
        before = time.perf_counter()
        way.append((before - began - spent, x.detach().clone()))
        spent += time.perf_counter() - before  # a copy for our books is none of theirs
        if len(way) > steps:
            raise Reached
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            seen = features(x)
        loss = how.content_weight * F.mse_loss(seen[how.of_content], target) / target.square().mean()
        for name, goal in wanted.items():
            style = F.mse_loss(gram(seen[name]), goal) / goal.square().mean()
            loss = loss + how.style_weight * style / len(wanted)
        loss.backward()
        return loss

    try:
        while True:
            optimizer.step(closure)
    except Reached:
        return way


def ours(net: Perceptual, content: Tensor, painting: Tensor, how: transfer.How, steps: int):
    way, began, spent, size = list[tuple[float, Tensor]](), time.perf_counter(), 0.0, tuple(content.shape[2:])
    for state in transfer.style(net, content, [painting], how):
        before = time.perf_counter()
        if state.size == size:
            way.append((before - began - spent, state.x.clone()))
        spent += time.perf_counter() - before
    return way


def shown(loss: Objective, x: Tensor) -> float:
    """Of the picture that is written, whose values end at black and white."""
    return float(loss(x.clamp(-1, 1)))


def first_below(way: list[tuple[float, Tensor]], loss: Objective, goal: float) -> tuple[float, int] | None:
    """Seconds and evaluations to a place of no more than that loss: searched from the end, then halved."""
    values: dict[int, float] = {}

    def at(i: int) -> float:
        values[i] = values.get(i) or shown(loss, way[i][1])
        return values[i]

    known = [i for i in range(0, len(way), max(1, len(way) // 40)) if at(i) <= goal]
    if not known:
        return None
    first = known[0]
    while first and at(first - 1) <= goal:
        first -= 1
    return way[first][0], first


def speed(args: argparse.Namespace) -> list[dict[str, object]]:
    net, content, painting, how = setting(args)
    goal: Goal = transfer.aim(net, content, [painting], [1.0], how, 0)
    exact, rows = Objective(net, goal), list[dict[str, object]]()
    for precision in ("fp32", "bf16"):
        side = transfer.replace(how, precision=precision)
        ways = dict(usual=usual(net, content, painting, side, precision == "bf16", args.steps))
        ways["ours"] = ours(net, content, painting, side, args.steps)
        coarse = transfer.replace(side, coarse=True, steps=args.coarse_steps)
        ways["ours, from half the size"] = ours(net, content, painting, coarse, args.steps)
        best = min(shown(exact, x) for _, x in ways["usual"][-max(1, args.steps // 20) :])
        for early, wanted in (("early", 2.0), ("late", 1.01)):
            for name, way in ways.items():
                hit = first_below(way, exact, best * wanted)
                rows.append(
                    dict(
                        precision=precision,
                        side=name,
                        goal=early,
                        loss=best * wanted,
                        seconds=hit and round(hit[0], 2),
                        evaluations=hit and hit[1],
                        each=round(way[-1][0] / max(1, len(way) - 1), 3),
                    )
                )
    return rows


def setting(args: argparse.Namespace) -> tuple[Perceptual, Tensor, Tensor, transfer.How]:
    how = transfer.How(
        coarse=False,
        precision="fp32",
        steps=args.steps,
        memory=args.budget,
        content_weight=args.content_weight,
    )
    content = user_images.whole(args.content, args.size).x
    painting = transfer.with_long_side(user_images.whole(args.painting, args.size).x, max(content.shape[2:]))
    return how.open(args.weights), content, painting, how


def held(args: argparse.Namespace) -> None:
    """Five evaluations of one side in this process; prints the most memory that it held."""
    args.steps = min(args.steps, 5)
    net, content, painting, how = setting(args)
    how = transfer.replace(how, precision=args.precision)
    if args.only == "usual":
        usual(net, content, painting, how, args.precision == "bf16", args.steps)
    else:
        transfer.final(transfer.style(net, content, [painting], how))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def memory() -> list[dict[str, object]]:
    rows = list[dict[str, object]]()
    for precision in ("fp32", "bf16"):
        for side in SIDES:
            command = [sys.executable, *sys.argv, "--only", side, "--precision", precision]
            peak = float(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
            )
            rows.append(dict(precision=precision, side=side, gigabytes=round(peak, 2)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("content")
    parser.add_argument("painting")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--coarse-steps", type=int, default=60, help="at each size of `from half the size`")
    parser.add_argument("--content-weight", type=float, default=transfer.CONTENT_WEIGHT)
    parser.add_argument("--weights", default="")
    parser.add_argument("--budget", type=float, default=1.2, help="GB that ours is allowed (--memory)")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    if args.only:
        held(args)
        return
    args.budget = args.budget if args.memory else 16.0
    rows = memory() if args.memory else speed(args)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
    print(
        json.dumps(dict(threads=torch.get_num_threads(), torch=torch.__version__, size=args.size, rows=rows))
    )


if __name__ == "__main__":
    main()
