"""The built-in set `faces`: portraits drawn by code, with captions and exact attributes.

Everything about image i is a function of (seed, i).  A head may be moved, tilted, larger and wider by a
little, so that hardly any two images are equal.  All lengths are in halves of the image's side: x to the
right and y down, both from -1 to 1, whatever the size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lazy import Lazy
from .pixels import AT_ONCE

Colours = dict[str, tuple[int, int, int]]
GROUNDS: Colours = dict(
    white=(245, 245, 245),
    blue=(150, 195, 235),
    green=(165, 215, 160),
    yellow=(250, 225, 140),
    pink=(250, 190, 200),
    purple=(195, 170, 225),
)
SKINS: Colours = dict(
    pale=(252, 222, 200), light=(240, 195, 160), tan=(214, 160, 115), brown=(160, 105, 70), dark=(98, 62, 45)
)
COLOURS: Colours = dict(
    black=(35, 30, 32), brown=(105, 65, 35), blond=(235, 195, 95), red=(190, 75, 30), grey=(175, 175, 180)
)
SHIRTS: Colours = dict(
    red=(205, 50, 50),
    green=(50, 140, 80),
    blue=(50, 90, 190),
    orange=(240, 140, 40),
    black=(50, 50, 58),
    white=(235, 235, 235),
)
CLASSES = ("bald", "short hair", "long hair", "curly hair")
BALD, SHORT, LONG, CURLY = range(4)
MOUTHS = ("smiling", "laughing", "serious", "sad")
SMILING, LAUGHING, SERIOUS, SAD = range(4)
EYES = ("open", "glasses", "sunglasses")
OPEN, GLASSES, SUNGLASSES = range(3)
BEARDS = ("none", "beard", "moustache")
NONE, BEARD, MOUSTACHE = range(3)
OFTEN = 0.6
"""share of the first of EYES and of BEARDS; the others share the rest equally"""
POSE = np.array([[-0.06, 0.06], [-0.05, 0.05], [-0.13, 0.13], [0.92, 1.06], [0.92, 1.08]], np.float32)
"""least and most of x, y, tilt in radians, size and width of the head"""
CHIN = 0.45
"""y of the point around which a head is tilted"""
WHITE, INK, LIPS = ((250, 250, 250), (30, 30, 30), (165, 45, 50))
VERSION = 1
"""raised whenever the same face would be drawn otherwise"""


@dataclass(frozen=True)
class Portraits(Lazy[dict[str, Any]]):
    """What was drawn: (N,) places in the tables above, and the pose (N, 5)."""

    side: int
    ground: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    colour: np.ndarray
    shirt: np.ndarray
    mouth: np.ndarray
    eyes: np.ndarray
    beard: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.ground)

    @property
    def y(self) -> np.ndarray:
        """The class of each, int64 (N,): its hair."""
        return self.hair

    def item(self, i: int) -> dict[str, Any]:
        x, y, tilt, size, width = (round(float(v), 3) for v in self.pose[i])
        return dict(
            hair=CLASSES[self.hair[i]],
            colour=tuple(COLOURS)[self.colour[i]],
            skin=tuple(SKINS)[self.skin[i]],
            mouth=MOUTHS[self.mouth[i]],
            eyes=EYES[self.eyes[i]],
            beard=BEARDS[self.beard[i]],
            shirt=tuple(SHIRTS)[self.shirt[i]],
            background=tuple(GROUNDS)[self.ground[i]],
            **dict(x=x, y=y, tilt=tilt, size=size, width=width),
        )


def caption(face: dict[str, Any]) -> str:
    """Such as "a smiling person with light skin, long red hair, a moustache and sunglasses in a blue shirt on
    a pink background"."""
    kind, _, hair = face["hair"].partition(" ")
    has = [f"{face['skin']} skin"]
    if hair:
        has.append(f"{kind} {face['colour']} {hair}")
    if face["beard"] != "none":
        has.append(f"a {face['colour']} {face['beard']}")
    if face["eyes"] != "open":
        has.append(face["eyes"])
    *most, last = has
    bald, an = "" if hair else "bald ", "an" if face["shirt"] == "orange" else "a"
    return (
        f"a {face['mouth']} {bald}person with {', '.join(most) + ' and ' if most else ''}{last} in {an} "
        f"{face['shirt']} shirt on a {face['background']} background"
    )


def side(size: int) -> int:
    """Pixels at which images of `size` are drawn: as many, up to 512."""
    return min(size or 32, 512)


def invent(n: int, side: int, seed: int = 0) -> Portraits:
    """Decide what images 0 ... n-1 of this seed show."""
    import torch

    from ..core import Noise

    noise = Noise(torch.arange(n), key=0xFACE5 + seed)

    def pick(many: int) -> np.ndarray:
        return (noise.uniform(1).double().numpy()[:, 0] * many).astype(np.int64)

    def rarely(many: int) -> np.ndarray:
        u = (noise.uniform(1).double().numpy()[:, 0] - OFTEN) / (1 - OFTEN)
        return np.where(u < 0, 0, 1 + u * (many - 1)).astype(np.int64)

    ground, skin, hair, colour = pick(len(GROUNDS)), pick(len(SKINS)), pick(len(CLASSES)), pick(len(COLOURS))
    shirt, mouth, eyes, beard = pick(len(SHIRTS)), pick(len(MOUTHS)), rarely(len(EYES)), rarely(len(BEARDS))
    least, most = POSE.T
    pose = least + (most - least) * noise.uniform(5).numpy()
    return Portraits(side, ground, skin, hair, colour, shirt, mouth, eyes, beard, pose)


def draw(faces: Portraits, most: int = 500) -> Iterator[np.ndarray]:
    """The images in order, as uint8 (step, 3, side, side), each edge anti-aliased over one pixel."""
    step = max(1, min(most, AT_ONCE // (12 * faces.side**2)))
    for start in range(0, len(faces), step):
        yield _Canvas(faces, np.arange(start, min(start + step, len(faces)))).portrait()


class _Canvas:
    """Some of the faces, layer by layer from behind.

    A layer is a form, given by the signed distance of every pixel from its edge (negative inside), and a
    colour; which: those faces that have it.
    """

    def __init__(self, faces: Portraits, rows: np.ndarray):
        self.faces, self.rows = faces, rows
        self.tables = {k: np.array(list(c.values()), np.float32) for k, c in TABLES.items()}
        self.image = np.empty((len(rows), 3, faces.side, faces.side), np.float32)
        self.image[:] = self._colour("ground")[..., None, None]
        axis = (np.arange(faces.side, dtype=np.float32) + 0.5) * (2 / faces.side) - 1
        left, top, tilt, size, self.width = faces.pose[rows].T[..., None, None]
        self.x, self.y = axis[None, None, :] - left, axis[None, :, None] - top
        across, down = self.x / size, (self.y - CHIN) / size
        self.u = across * np.cos(tilt) + down * np.sin(tilt)  # of the head, before tilt and size
        self.v = down * np.cos(tilt) - across * np.sin(tilt) + CHIN

    def portrait(self) -> np.ndarray:
        self._behind()
        self._head()
        self._above()
        self._eyes()
        self._mouth()
        return np.rint(self.image).astype(np.uint8)

    def _colour(self, name: str) -> np.ndarray:
        """(n, 3)"""
        return self.tables[name][getattr(self.faces, name)[self.rows]]

    def _is(self, name: str, kind: int) -> np.ndarray:
        return getattr(self.faces, name)[self.rows] == kind

    def _paint(
        self,
        distance: np.ndarray,
        colour: np.ndarray | tuple[int, int, int],
        which: np.ndarray | None = None,
    ) -> None:
        cover = np.clip(0.5 - distance * (self.faces.side / 2), 0, 1)[:, None]
        if which is not None:
            cover = cover * which[:, None, None, None]
        self.image += cover * (np.asarray(colour, np.float32)[..., None, None] - self.image)

    def _behind(self) -> None:
        """Hair behind the head, shoulders and neck."""
        u, v, hair = self.u, self.v, self._colour("colour")
        self._paint(_box(u, v - 0.18, 0.56 * self.width, 0.66, 0.3), 0.85 * hair, self._is("hair", LONG))
        self._paint(_ellipse(u, v + 0.22, 0.68 * self.width, 0.56), 0.9 * hair, self._is("hair", CURLY))
        self._paint(_ellipse(self.x, self.y - 1.2, 0.82, 0.62), self._colour("shirt"))
        self._paint(_box(u, v - 0.55, 0.16, 0.25, 0.05), 0.82 * self._colour("skin"))

    def _head(self) -> None:
        """Ears, head and beard."""
        u, v, skin = self.u, self.v, self._colour("skin")
        self._paint(_ellipse(abs(u) - 0.47 * self.width, v - 0.02, 0.09, 0.13), 0.82 * skin)
        head = _ellipse(u, v + 0.05, 0.48 * self.width, 0.58)
        self._paint(head, skin)
        self._paint(np.maximum(head, 0.2 - v), 0.95 * self._colour("colour"), self._is("beard", BEARD))

    def _above(self) -> None:
        """Hair on the head: a cap that ends in a straight line, in a parting, or in curls."""
        u, v, hair = self.u, self.v, self._colour("colour")
        cap = _ellipse(u, v + 0.1, 0.53 * self.width, 0.6)
        self._paint(np.maximum(cap, v + 0.3), hair, self._is("hair", SHORT))
        self._paint(np.maximum(cap, v + 0.34 - 0.45 * abs(u)), hair, self._is("hair", LONG))
        curls = [
            np.hypot(u - 0.52 * self.width * np.sin(a), v + 0.18 + 0.48 * np.cos(a)) - 0.17
            for a in np.linspace(-1.75, 1.75, 8, dtype=np.float32)
        ]
        form = np.minimum(np.minimum.reduce(curls), np.maximum(cap, v + 0.38))
        self._paint(form, hair, self._is("hair", CURLY))

    def _eyes(self) -> None:
        """Eyes, brows and nose, and what is worn over them."""
        u, v = abs(self.u) - 0.19 * self.width, self.v + 0.06
        self._paint(_ellipse(u, v, 0.115, 0.1), WHITE)
        self._paint(np.hypot(u, v) - 0.06, INK)
        self._paint(_box(u, v + 0.17, 0.1, 0.025), 0.7 * self._colour("colour"))
        self._paint(_box(self.u, self.v - 0.12, 0.03, 0.06, 0.02), 0.82 * self._colour("skin"))
        bridge = _box(self.u, self.v + 0.08, 0.04, 0.02)
        rims = abs(np.hypot(u, v) - 0.17) - 0.028
        self._paint(np.minimum(rims, bridge), INK, self._is("eyes", GLASSES))
        self._paint(np.minimum(_box(u, v, 0.17, 0.12, 0.05), bridge), INK, self._is("eyes", SUNGLASSES))

    def _mouth(self) -> None:
        u, v = self.u, self.v - 0.33
        self._paint(
            _ellipse(u, v + 0.11, 0.19, 0.055), 0.95 * self._colour("colour"), self._is("beard", MOUSTACHE)
        )
        for kind, up in ((SMILING, 1), (SAD, -1)):
            arc = abs(np.hypot(u, v + up * 0.16) - 0.2) - 0.03
            self._paint(np.maximum(arc, -up * (v + up * 0.1)), LIPS, self._is("mouth", kind))
        below = -(v + 0.06)
        laughs = self._is("mouth", LAUGHING)
        self._paint(np.maximum(_ellipse(u, v + 0.06, 0.19, 0.17), below), LIPS, laughs)
        self._paint(np.maximum(_ellipse(u, v + 0.06, 0.15, 0.05), below), WHITE, laughs)
        self._paint(_box(u, v, 0.13, 0.028, 0.02), LIPS, self._is("mouth", SERIOUS))


TABLES: dict[str, Colours] = dict(ground=GROUNDS, skin=SKINS, colour=COLOURS, shirt=SHIRTS)


def _ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: float) -> np.ndarray:
    """Half axes a and b.  Near the edge this is the distance; far away it is only of the right sign."""
    return (np.hypot(x / a, y / b) - 1) * np.minimum(a, b)


def _box(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: float, r: float = 0) -> np.ndarray:
    """Half sides a and b, corners rounded by r."""
    across, down = abs(x) - a + r, abs(y) - b + r
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - r
