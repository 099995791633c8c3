"""An encoder for a run that has none: where the search for the code of an image may begin.

Zhu et al. 2016, section 3.2:  minimise over E  E_x |G(E(x)) - x|^2, on the run's own images, and on drawn ones,
whose codes are known:  E_z |E(G(z)) - z|^2.  G stays as it is.  E is kept in the run's folder, in paint/, and is
asked only by that state of the run which it was taught by.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import engine, storage
from ..core import Decodes, Encodes, Model, Noise, Refusal
from ..data import Data
from ..parts import resnet
from . import inversion

BATCH, RATE, WIDTH = 32, 1e-3, 16
KNOWN = 0.1
"""weight of the codes of drawn images"""
FOLDER = "paint"


class Learnt(NamedTuple):
    step: int
    off: float
    """mean squared difference of G(E(x)) and x, of the run's own images"""
    net: nn.Module


def network(model: Model) -> nn.Module:
    spec = model.spec
    return resnet.encoder(spec.channels, spec.size, _latent(model), WIDTH, 1).to(engine.device())


def _latent(model: Model) -> int:
    return int(cast(Decodes, model).latent)


def teach(model: Model, data: Data, steps: int, seed: int = 0) -> Iterator[Learnt]:
    """Yield after each step.  Raises Refusal of a model that encodes, does not decode, or is told classes."""
    name = type(model).__name__.lower()
    if isinstance(model, Encodes) or not isinstance(model, Decodes):
        raise Refusal(
            f"{name} {'has an encoder' if isinstance(model, Encodes) else 'has no codes'}; leave --teach out."
        )
    if "label" in model.takes:
        raise Refusal(
            f"this {name} is told classes, which an encoder taught later does not know; leave --teach out."
        )
    torch.manual_seed(engine.derive("teach", seed) % 2**31)
    net = network(model)
    adam, key = torch.optim.Adam(net.parameters(), RATE), engine.derive("teach", seed)
    for step in range(steps):
        noise = Noise(range(step * BATCH, (step + 1) * BATCH), key)
        rows = data.train[(noise.uniform(1)[:, 0].double().numpy() * len(data.train)).astype(int)]
        x, z = data.take(rows).x.to(engine.device()), noise.normal(_latent(model)).to(engine.device())
        with torch.enable_grad():
            with torch.no_grad():
                drawn = model.decode(z)
            off = (model.decode(net(x).float()) - x).square().mean()
            known = (net(drawn).float() - z).square().mean()
            adam.zero_grad()
            (off + KNOWN * known).backward()
            adam.step()
        yield Learnt(step + 1, float(off.detach()), net)


def keep(net: nn.Module, folder: Path, facts: dict[str, Any]) -> Path:
    target = folder / FOLDER
    storage.make(target)
    storage.save(target, 0, {name: t.cpu() for name, t in net.state_dict().items()}, dict(facts=facts))
    return target


def kept(model: Model, folder: Path, facts: dict[str, Any]) -> Any:
    """What keep() has written of the same state of the run, as a function of images; None where there is none
    such."""
    target = folder / FOLDER
    if isinstance(model, Encodes) or not target.is_dir() or (state := storage.newest(target)) is None:
        return None
    if state[1].get("facts") != facts:
        return None
    net = network(model).eval()
    net.load_state_dict(state[0])

    def guess(x: Tensor) -> Tensor:
        with torch.no_grad():
            return cast(Tensor, net(x)).float()

    return guess


def facts(model: Model, seen: int) -> dict[str, Any]:
    return dict(seen=seen, latent=_latent(model), shape=list(model.spec.shape))


def errors(
    model: Model, x: Tensor, guess: Any, steps: int = inversion.STEPS, seed: int = 0
) -> dict[str, Tensor]:
    """Of images (B, C, H, W), mean squared errors (B,): of the guess, of optimisation from drawn codes, and
    of the two together."""
    noise = engine.sampling_noise(seed, 0, inversion.among(model))
    result = {}
    if guess is not None:
        with torch.no_grad():
            back = cast(Decodes, model).decode(guess(x))
        result["guess"] = inversion.error(back.flatten(1), x.flatten(1))
    nothing = cast(Any, lambda x: None)
    for name, how in (("optimisation", nothing), ("both", guess or nothing)):
        *_, best = inversion.project(model, x, noise, steps=steps, guess=how)
        result[name] = best.error
    return result
