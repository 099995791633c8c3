"""Questions that need no torch: the hub's own process answers them, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import library
from .hub import Hub, Local
from .protocol import Answer, Ask

EVERY = 1.0
"""seconds between two looks at the run folders"""


async def keep_table(hub: Hub) -> None:
    """The value `runs`: published anew when something has changed, while a page watches."""
    catalogue, last = library.Catalogue(), None
    while True:
        slot = hub.slots.get("runs")
        if slot is not None and slot.clients:
            new = await asyncio.to_thread(library.table, hub.root, catalogue)
            if new != last:
                hub.publish("runs", dict(runs=new, jobs=[]))
                last = new
            if wanted := await asyncio.to_thread(catalogue.wanted, hub.root):
                await asyncio.to_thread(catalogue.ask, wanted)
                continue
        await asyncio.sleep(EVERY)


def questions(root: Path) -> dict[str, dict[str, Local]]:
    """By screen and method."""
    return {"runs": {}}


def threaded(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Local:
    async def ask(args: dict[str, Any], _: Ask) -> Answer:
        return Answer(await asyncio.to_thread(answer, args))

    return ask
