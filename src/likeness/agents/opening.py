"""A world by its name."""

from __future__ import annotations

from typing import Any

from ..core import Refusal
from .world import World

BUILT_IN = ("grid", "CartPole-v1", "CartPole-drawn")


def world(name: str, n: int, seed: int, drawn: bool = False) -> World:
    """n copies.  drawn: whether frames of it are wanted.

    Raises Refusal for a name that there is not, and where the package that it needs is not installed.
    """
    if name == "grid":
        from .grid import Grid

        return Grid(n, seed)
    if name == "CartPole-v1":
        from .cart import Cart

        return Cart(n, seed)
    if name == "CartPole-drawn":
        from .drawn_cart import DrawnCart

        return DrawnCart(n, seed)
    if "-" not in name and "/" not in name:  # gymnasium's have a version
        raise Refusal(
            f"there is no world {name!r}.  Built in are: {', '.join(BUILT_IN)}; those of gymnasium have a "
            "version, such as Acrobot-v1."
        )
    from . import gym

    how: dict[str, Any] = dict(render_mode="rgb_array") if drawn else {}
    return gym.Gym(name, n, seed, [gym.make(name, **how) for _ in range(n)])
