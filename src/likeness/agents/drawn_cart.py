"""CartPole-v1 of which the picture is seen and nothing else: one picture has no speeds in it, so an agent
that acts by the last one alone cannot balance for long.

32 x 32 pixels of 256 levels of grey; x spans what the episode allows, and heights are three times as large
as widths.  Edges are as soft as a pixel, so that what moves by less than one is seen.
"""

from __future__ import annotations

import numpy as np

from . import cart
from .cart import Cart
from .world import Space

SIDE, LEVELS = 32, 256
HIGH = 1.25
"""height that is seen, in lengths of the pole"""
THICK, BODY = 0.11, (0.30, 0.14)
"""half of the width of the pole; half of that of the cart, and its height"""

_x = (np.arange(SIDE) + 0.5) / SIDE * 2 * cart.FAR - cart.FAR
_y = HIGH - (np.arange(SIDE) + 0.5) / SIDE * HIGH
_WIDE, _TALL = 2 * cart.FAR / SIDE, HIGH / SIDE


def drawn(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(n, 1, 32, 32) uint8, of positions and angles (n,)."""
    top = BODY[1]
    # the pole: points whose distance from it, measured along x, is less than its half width
    axis = x[:, None] + (_y - top) * np.tan(angle)[:, None]
    inside = 0.5 + (THICK - np.abs(_x - axis[..., None])) / _WIDE
    tip = top + 2 * cart.LENGTH * np.cos(angle)[:, None]
    along = np.minimum((tip - _y) / _TALL, (_y - top) / _TALL) + 0.5
    pole = inside.clip(0, 1) * along.clip(0, 1)[..., None]
    wide = (0.5 + (BODY[0] - np.abs(_x - x[:, None])) / _WIDE).clip(0, 1)
    body = wide[:, None] * (0.5 + (top - _y) / _TALL).clip(0, 1)[:, None]
    light = 1 - np.maximum(0.75 * pole, body)
    return (light * (LEVELS - 1)).round().astype(np.uint8)[:, None]


class DrawnCart(Cart):
    """CartPole-v1 by its pictures, n times."""

    space = Space((1, SIDE, SIDE), 2, "uint8", LEVELS)

    def _look(self) -> np.ndarray:
        return drawn(self.at[0], self.at[2])
