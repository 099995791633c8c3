"""The middle of the studio: the last value of every key, who watches it, and the workers that make it.

    ask     one answer runs a key; a newer question with that key takes its place
    value   kept as the last one of its key, and sent to whoever watches, one at a time: the next when the
            page says that it has drawn this one (ack); what came between is dropped for that page
    credit  a worker makes at most AHEAD values that no page has acknowledged, so it is as fast as the fastest
            page that watches, and rests when nobody does

All of it is one asyncio loop without torch.  A page that stops reading costs what is in its socket: values
are shared and replaced, never queued."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .. import storage
from ..core import Refusal
from . import protocol
from .protocol import Ack, Answer, Ask, Keep, Recall, Stop, Unwatch, Watch

AHEAD = 2
"""values that a worker makes before one is acknowledged"""
SLOTS, HELD = 256, 128 << 20
"""keys whose last value is kept, and bytes of them, where nobody watches"""
WAITING = 1000
"""replies that a page may leave unread before it is cut off"""
WATCHED = 200
"""keys that a page may watch at once"""
STATE = 4 << 20
"""bytes of all that pages have asked to keep"""
SAVE_AFTER = 0.5
"""seconds from a change of that to its being on the disk"""

Local = Callable[[dict[str, Any], protocol.Ask], Awaitable[Answer]]
"""a question that needs no torch, and is answered by the hub's own process"""


@dataclass
class Slot:
    """A key: its last value, and the answer that runs for it."""

    key: str
    seq: int = 0
    """of the last value; it never goes back"""
    data: Any = None
    entries: list[dict[str, Any]] = field(default_factory=list)
    payload: bytes = b""
    running: Ask | None = None
    worker: Worker | None = None
    owed: int = 0
    """values made that no page has acknowledged"""
    clients: dict[Client, None] = field(default_factory=dict)
    ended: dict[str, Any] | None = None
    """how the last answer ended, for a page that asks the same again after it was cut off"""
    of: str = ""
    """id of the question that the last value answers"""
    live: dict[str, Ask] = field(default_factory=dict)
    """questions on their way to the answer that runs, which goes on"""

    def frame(self) -> bytes:
        header = dict(type="value", key=self.key, seq=self.seq, id=self.of, data=self.data)
        header["arrays"] = self.entries
        return protocol.pack(header, self.payload)


@dataclass(eq=False)
class Client:
    """A page: what it has been sent, and what it still is to get."""

    send: Callable[[bytes], Awaitable[None]]
    sent: dict[str, int] = field(default_factory=dict)
    """of the keys that it watches: seq of the last value sent"""
    acked: dict[str, int] = field(default_factory=dict)
    replies: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    """(key, seq, reply): sent when the value of that key and seq has been, or is out of date"""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False

    def reply(self, header: dict[str, Any], key: str = "", seq: int = 0) -> None:
        self.replies.append((key, seq, header))
        if len(self.replies) > WAITING:
            self.gone = True
        self.wake.set()


class Hub:
    """root: the folder of runs.  local: questions answered here, by screen and method."""

    def __init__(
        self,
        root: Path,
        local: Mapping[str, Mapping[str, Local]] | None = None,
        keepers: Sequence[Callable[[Hub], Awaitable[None]]] = (),
    ):
        """keepers: what runs beside it from the start, such as the one that keeps the table of runs."""
        self.root, self.local, self.keepers = root, local or {}, keepers
        self.slots = OrderedDict[str, Slot]()
        self.clients = dict[Client, None]()
        self.workers = dict[str, Worker]()
        self.folder = root / ".studio"
        self.state = _read_state(self.folder / "state.json")
        self._saving: asyncio.Task[None] | None = None
        self._tasks = set[asyncio.Task[None]]()

    async def open(self) -> None:
        """Begin; the loop runs."""
        for keeper in self.keepers:
            self._task(keeper(self))

    # Pages

    async def serve(self, client: Client) -> None:
        """Send to a page what it is to get, until it is gone."""
        self.clients[client] = None
        try:
            while not client.gone:
                await client.wake.wait()
                client.wake.clear()
                await self._flush(client)
        finally:
            self.leave(client)

    async def _flush(self, client: Client) -> None:
        """Values in turn, so that no key keeps another from being sent; replies after the values they end."""
        busy = True
        while busy and not client.gone:
            busy = False
            for key in list(client.sent):
                slot = self.slots.get(key)
                if slot is not None and self._due(client, slot):
                    client.sent[key] = slot.seq
                    await client.send(slot.frame())
                    busy = True
            ready = [r for r in client.replies if client.sent.get(r[0], r[1]) >= r[1]]
            client.replies = [r for r in client.replies if r not in ready] if ready else client.replies
            for _, _, header in ready:
                await client.send(protocol.pack(header))
                busy = True

    @staticmethod
    def _due(client: Client, slot: Slot) -> bool:
        sent = client.sent[slot.key]
        return slot.seq > sent and client.acked.get(slot.key, 0) >= sent

    def leave(self, client: Client) -> None:
        client.gone = True
        client.wake.set()
        self.clients.pop(client, None)
        for key in list(client.sent):
            self._unwatch(client, key)

    def take(self, client: Client, frame: bytes) -> None:
        """A message of a page.  Raises Refusal for what is none; never anything else."""
        match protocol.message(frame):
            case Ask() as ask:
                self._ask(client, ask)
            case Stop(key):
                self._stop(key)
            case Watch(key):
                self._watch(client, key)
            case Unwatch(key):
                self._unwatch(client, key)
            case Ack(key, seq):
                self._ack(client, key, seq)
            case Keep(key, value):
                self._keep(key, value)
            case Recall(key):
                client.reply(dict(type="recalled", key=key, value=self.state.get(key)))

    def _slot(self, key: str) -> Slot:
        slot = self.slots.setdefault(key, Slot(key))
        self.slots.move_to_end(key)
        held = sum(len(s.payload) for s in self.slots.values())
        for other in list(self.slots.values()):
            if len(self.slots) <= SLOTS and held <= HELD:
                break
            if other is not slot and not other.clients and other.running is None:
                held -= len(other.payload)
                del self.slots[other.key]
        return slot

    def _watch(self, client: Client, key: str, anew: bool = False) -> Slot:
        """anew: the value that is there is of another question, which this page did not ask."""
        if key not in client.sent and len(client.sent) >= WATCHED:
            raise Refusal(f"a page may watch {WATCHED} keys at once.")
        slot = self._slot(key)
        if key not in client.sent:
            client.sent[key] = slot.seq if anew else 0
            client.acked[key] = client.sent[key]
            slot.clients[client] = None
            if slot.owed >= AHEAD:  # it rested, since nobody watched
                self._credit(slot, slot.owed - AHEAD + 1)
        client.wake.set()
        return slot

    def _unwatch(self, client: Client, key: str) -> None:
        client.sent.pop(key, None)
        client.acked.pop(key, None)
        if (slot := self.slots.get(key)) is not None:
            slot.clients.pop(client, None)

    def _ack(self, client: Client, key: str, seq: int) -> None:
        slot = self.slots.get(key)
        if slot is None or key not in client.sent or seq > client.sent[key] or seq <= client.acked[key]:
            return
        client.acked[key] = seq
        client.wake.set()
        drawn = max(0, slot.owed - (slot.seq - seq))
        self._credit(slot, drawn)

    def _credit(self, slot: Slot, values: int) -> None:
        if values > 0:
            slot.owed = max(0, slot.owed - values)
            if slot.worker is not None and slot.running is not None:
                slot.worker.send(dict(type="credit", key=slot.key, values=values))

    # Questions

    def _ask(self, client: Client, ask: Ask) -> None:
        slot = self.slots.get(ask.key)
        if slot is not None and slot.running is not None and slot.running.id == ask.id:
            self._watch(client, ask.key)  # the same page, back again
            return
        if slot is not None and slot.ended is not None and slot.ended.get("id") == ask.id:
            self._watch(client, ask.key)
            client.reply(slot.ended, ask.key, slot.seq)
            return
        if slot is not None and self._goes_on(slot, ask):
            self._watch(client, ask.key)
            return
        slot = self._watch(client, ask.key, anew=True)
        answer = self.local.get(ask.screen, {}).get(ask.method)
        if answer is not None:
            self._begin(slot, ask, None)
            self._task(self._answer(slot, ask, answer))
            return
        if ask.screen in self.local:
            self._end(slot, ask, failed(ask, Refusal(f"{ask.screen} has no question {ask.method}.")))
            return
        try:
            worker = self._worker(ask.screen)
        except Refusal as refusal:
            self._end(slot, ask, failed(ask, refusal))
            return
        self._begin(slot, ask, worker)
        worker.ask(ask)

    def _goes_on(self, slot: Slot, ask: Ask) -> bool:
        """Pass a live question to the answer that runs; False where it is none, or nothing runs."""
        runs = slot.running
        if (
            runs is None
            or slot.worker is None
            or runs.screen != ask.screen
            or ask.method not in live(ask.screen)
        ):
            return False
        slot.live[ask.id] = ask
        slot.worker.ask(ask)
        return True

    def _begin(self, slot: Slot, ask: Ask, worker: Worker | None) -> None:
        """It takes the place of the answer that runs, which ends without a word of its own."""
        if slot.running is not None and slot.running.id != ask.id:
            old = slot.running
            self._tell(slot, dict(type="done", id=old.id, key=slot.key, data=None, replaced=True), slot.seq)
            if slot.worker is not None and slot.worker is not worker:
                slot.worker.send(dict(type="stop", key=slot.key))
        slot.running, slot.worker, slot.owed, slot.ended = ask, worker, 0, None
        slot.live.clear()

    async def _answer(self, slot: Slot, ask: Ask, answer: Local) -> None:
        try:
            value = await answer(ask.args, ask)
        except Refusal as refusal:
            self._end(slot, ask, failed(ask, refusal))
            return
        except Exception as error:
            report(error)
            self._end(slot, ask, fault(ask))
            return
        if slot.running is ask:
            entries, payload = protocol.described(value.arrays)
            if value.arrays:
                slot.of = ask.id
                self.publish(slot.key, value.data, entries, payload)
            self._end(slot, ask, dict(type="done", id=ask.id, key=ask.key, data=value.data))

    def _end(self, slot: Slot, ask: Ask, how: dict[str, Any]) -> None:
        if slot.running is ask or slot.running is None:
            slot.running, slot.worker, slot.ended, slot.owed = None, None, how, 0
        self._tell(slot, how, slot.seq)

    def _tell(self, slot: Slot, header: dict[str, Any], seq: int) -> None:
        for client in list(slot.clients):
            client.reply(header, slot.key, seq)

    def _stop(self, key: str) -> None:
        slot = self.slots.get(key)
        if slot is not None and slot.running is not None:
            if slot.worker is not None:
                slot.worker.send(dict(type="stop", key=key))
            ask = slot.running
            self._end(slot, ask, dict(type="done", id=ask.id, key=key, data=None, stopped=True))

    # Values

    def publish(
        self, key: str, data: Any, entries: list[dict[str, Any]] | None = None, payload: bytes = b""
    ) -> None:
        """The new value of a key."""
        slot = self._slot(key)
        slot.seq += 1
        slot.data, slot.entries, slot.payload = data, entries or [], payload
        for client in slot.clients:
            client.wake.set()

    def heard(self, worker: Worker, header: dict[str, Any], payload: memoryview) -> None:
        """What a worker says; of an answer that was replaced meanwhile nothing is passed on."""
        slot = self.slots.get(header["key"])
        taken = None if slot is None else slot.live.pop(header["id"], None)
        if slot is not None and taken is not None and header["type"] != "live" and slot.running is None:
            self._begin(slot, taken, worker)  # the answer had just ended: it has begun one
        if header["type"] == "live":  # taken up by an answer that goes on
            if slot is not None:
                self._tell(slot, dict(type="done", id=header["id"], key=slot.key, data=None), slot.seq)
            return
        if slot is None or slot.running is None or slot.running.id != header["id"]:
            return
        if header["type"] == "value":
            slot.of = header["id"]
            self.publish(slot.key, header["data"], header["arrays"], bytes(payload))
            slot.owed += 1
        else:
            self._end(slot, slot.running, header)

    # Workers

    def _worker(self, screen: str) -> Worker:
        group = worker_of(screen)
        if group not in self.workers:
            self.workers[group] = Worker(group, self.root, self)
        return self.workers[group]

    def lost(self, worker: Worker, code: int | None) -> None:
        """A worker has ended; the last values stay, and the next question starts another."""
        if self.workers.get(worker.group) is worker:
            del self.workers[worker.group]
        for slot in self.slots.values():
            if slot.worker is not worker:
                continue
            for waiting in slot.live.values():  # on its way to what has ended
                self._tell(slot, fault(waiting) | GONE, slot.seq)
            slot.live.clear()
            if slot.running is not None:
                ask = slot.running
                self._end(
                    slot,
                    ask,
                    dict(
                        type="error",
                        id=ask.id,
                        key=ask.key,
                        **GONE
                        | dict(why=f"Its exit status is {code}{': it was killed' * ((code or 0) < 0)}."),
                    ),
                )

    # State

    def _keep(self, key: str, value: Any) -> None:
        known = dict(self.state)
        known.pop(key, None)
        if value is not None:
            known[key] = value
        if len(json.dumps(known)) > STATE:
            raise Refusal(f"the studio keeps {STATE:,} bytes of state, and there is no more room.")
        self.state = known
        if self._saving is None or self._saving.done():
            self._saving = self._task(self._save_soon())

    async def _save_soon(self) -> None:
        await asyncio.sleep(SAVE_AFTER)
        self.save()

    def save(self) -> None:
        """State of the pages, on the disk."""
        with contextlib.suppress(Refusal):
            storage.make(self.folder)
            storage.write(self.folder / "state.json", json.dumps(self.state).encode())

    def _task(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """State is saved, workers are ended; trainings go on."""
        self.save()
        for client in list(self.clients):
            self.leave(client)
        await asyncio.gather(*(worker.end() for worker in list(self.workers.values())))
        for task in list(self._tasks):
            task.cancel()


@cache
def live(screen: str) -> frozenset[str]:
    """The methods that a screen takes up in an answer that goes on: its LIVE, a literal, read off its
    text."""
    import ast

    text = (Path(__file__).parent / "screens" / f"{screen}.py").read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        names = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(at, ast.Name) and at.id == "LIVE" for at in names):
            return frozenset(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return frozenset()


GONE = dict(what="The process that computes has ended.", why="", do="Ask again; it is started anew.")
PLAY = ("playground", "paint")
"""screens that compute all the time, and so have a worker to themselves"""


def worker_of(screen: str) -> str:
    """The worker that answers a screen's questions.  Raises Refusal where there is no such screen."""
    there = screen.isidentifier() and (Path(__file__).parent / "screens" / f"{screen}.py").is_file()
    if not there or screen.startswith("_"):
        raise Refusal(f"there is no screen {screen}.")
    return screen if screen in PLAY else "ask"


class Worker:
    """A process that answers, and the pipes to it: frames, as on the wire."""

    def __init__(self, group: str, root: Path, hub: Hub):
        self.group, self.root, self.hub = group, root, hub
        self.process: asyncio.subprocess.Process | None = None
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._life = hub._task(self._live())

    def ask(self, ask: Ask) -> None:
        self._outbox.put_nowait(ask.frame)

    def send(self, header: dict[str, Any]) -> None:
        self._outbox.put_nowait(protocol.pack(header))

    async def _live(self) -> None:
        try:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "likeness.studio.worker", str(self.root)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 22,
                start_new_session=True,  # Ctrl-C is for the hub, which ends it
            )
        except OSError as error:  # no memory, or no more processes
            self.hub.lost(self, error.errno)
            return
        writing = self.hub._task(self._write())
        try:
            await self._read()
        finally:
            writing.cancel()
            self.hub.lost(self, await self._ended())

    async def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        out = self.process.stdout
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length = int.from_bytes(await out.readexactly(8), "little")
                header, payload = protocol.unpack(await out.readexactly(length))
                self.hub.heard(self, header, payload)

    async def _write(self) -> None:
        assert self.process is not None and self.process.stdin is not None
        into = self.process.stdin
        with contextlib.suppress(ConnectionError):
            while (frame := await self._outbox.get()) is not None:
                into.write(len(frame).to_bytes(8, "little") + frame)
                await into.drain()
            into.close()

    async def end(self) -> None:
        """It ends by itself when there is nothing more to read."""
        self._outbox.put_nowait(None)
        if self.process is not None:
            await self._ended(3)

    async def _ended(self, patience: float = 1) -> int:
        """The exit status of the process, which is killed after so many seconds; not by Process.kill(), which
        takes the status away from whoever waits for it."""
        assert self.process is not None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.process.wait(), patience)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        return await self.process.wait()


def failed(ask: Ask, refusal: Refusal) -> dict[str, Any]:
    """A refusal as the page shows it: what, why, and what to do."""
    what, why, do = sentences(str(refusal))
    return dict(type="error", id=ask.id, key=ask.key, what=what, why=why, do=do)


def sentences(text: str) -> tuple[str, str, str]:
    """Our refusals are "what, why; what to do" in one sentence."""
    head, _, tail = text.strip().partition(";")
    what = head[:1].upper() + head[1:]
    do = tail.strip()
    return what.rstrip(".") + ".", "", do[:1].upper() + do[1:]


def fault(ask: Ask) -> dict[str, Any]:
    return dict(
        type="error",
        id=ask.id,
        key=ask.key,
        what="That is a defect of likeness, not of your input.",
        why="Its lines are in the terminal where the studio runs.",
        do="Ask for something else; nothing is lost.",
    )


def report(error: BaseException) -> None:
    """Our own faults go to the terminal, never to a page."""
    import traceback

    traceback.print_exception(error)


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
