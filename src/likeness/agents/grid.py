"""Four rooms, drawn as images: Sutton, Precup & Singh, "Between MDPs and semi-MDPs", 1999.

An agent starts anywhere and walks up, down, left or right to the goal in the corner; a step costs 0.02, the
goal is worth 1, and after 50 steps the episode is cut off.  Walls are not entered.  What is seen are three
planes of zeros and ones: walls, agent, goal.
"""

from __future__ import annotations

import numpy as np

from .world import Arrays, Moved, Space, World

PLAN = (
    "#########",
    "#   #   #",
    "#       #",
    "#   #   #",
    "## ### ##",
    "#   #   #",
    "#       #",
    "#   #  G#",
    "#########",
)
COST, WORTH, LIMIT = 0.02, 1.0, 50
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
COLOURS = np.array([[245, 243, 238], [70, 74, 82], [31, 99, 168], [203, 90, 24]], np.uint8)
"""of floor, wall, agent and goal"""

_cells = [(y, x) for y, row in enumerate(PLAN) for x, mark in enumerate(row) if mark != "#"]
CELLS = np.array(_cells)
"""(states, 2) row and column of each cell that may be stood on"""
GOAL = next(s for s, (y, x) in enumerate(_cells) if PLAN[y][x] == "G")
TO = np.array(
    [
        [_cells.index((y + dy, x + dx)) if PLAN[y + dy][x + dx] != "#" else s for dy, dx in MOVES]
        for s, (y, x) in enumerate(_cells)
    ]
)
"""(states, actions) the cell that an action leads to"""


def model() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Next state (states, actions), its reward, and whether the episode terminates there, as value iteration
    takes them.  Without the time limit, which no table of cells can know."""
    ends = TO == GOAL
    return TO, np.where(ends, WORTH, 0.0) - COST, ends


def _planes() -> np.ndarray:
    """(states, 3, height, width) what is seen from each cell."""
    walls = np.array([[mark == "#" for mark in row] for row in PLAN], np.uint8)
    planes = np.zeros((len(CELLS), 3, *walls.shape), np.uint8)
    planes[:, 0] = walls
    planes[np.arange(len(CELLS)), 1, CELLS[:, 0], CELLS[:, 1]] = 1
    planes[:, 2, CELLS[GOAL, 0], CELLS[GOAL, 1]] = 1
    return planes


PLANES = _planes()
START = np.array([s for s in range(len(CELLS)) if s != GOAL])


class Grid(World):
    """Four rooms, n times."""

    space = Space((3, len(PLAN), len(PLAN[0])), len(MOVES), "uint8")
    pace = 8

    def __init__(self, n: int, seed: int):
        super().__init__(n, seed)
        self.cell = np.zeros(n, np.int64)
        self.restart()

    def _begin(self, copy: int) -> None:
        self.cell[copy] = START[self._next_seed(copy) % len(START)]

    def restart(self) -> None:
        for i in range(self.n):
            self._begin(i)
        self._forget()
        self.see = PLANES[self.cell]

    def _move(self, actions: np.ndarray) -> Moved:
        self.cell = TO[self.cell, actions]
        terminated = self.cell == GOAL
        truncated = ~terminated & (self._age + 1 >= LIMIT)
        after = PLANES[self.cell]
        for i in np.flatnonzero(terminated | truncated):
            self._begin(int(i))
        self.see = PLANES[self.cell]
        return Moved(after, np.where(terminated, WORTH, 0.0) - COST, terminated, truncated, self._real)

    def frame(self, copy: int) -> np.ndarray:
        walls, agent, goal = PLANES[self.cell[copy]].astype(np.int64)
        kind = np.maximum(np.maximum(walls, 3 * goal * (1 - agent)), 2 * agent)
        return COLOURS[kind].repeat(24, 0).repeat(24, 1)

    def best(self) -> float:
        """Mean over all starts, exactly: no way is longer than the limit."""
        from .tabular import value_iteration

        return float(value_iteration(*model(), gamma=1.0).max(1)[START].mean())

    def _state(self) -> Arrays:
        return dict(cell=self.cell)

    def _restore(self, arrays: Arrays) -> None:
        self.cell = arrays["cell"].copy()
        self.see = PLANES[self.cell]
