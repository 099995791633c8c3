"""Frames, messages, and the hub between pages and workers: what is no message is refused, the last value
wins, and a page that stops reading costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from likeness.core import Refusal
from likeness.studio import hub, protocol, worker
from likeness.studio.hub import Client, Hub
from likeness.studio.protocol import Answer, Picture

MANY = int(os.environ.get("LIKENESS_FUZZ", 3000))


def in_a_thread(story):
    """asyncio.run, also where the browser of another test has a loop in this thread."""
    with ThreadPoolExecutor(1) as one:
        one.submit(asyncio.run, story).result()


def ask(key="k", id="a-1", screen="here", method="m", **args):
    return protocol.pack(dict(type="ask", id=id, key=key, screen=screen, method=method, args=args))


def said(kind, **more):
    return protocol.pack(dict(type=kind, **more))


def test_a_frame_is_what_was_put_into_it_and_every_array_is_aligned():
    arrays = {
        "a": np.arange(5, dtype=np.uint8),
        "b": np.arange(6, dtype=np.int32).reshape(2, 3),
        "c": np.float32([[0.5], [np.nan]]),
        "d": Picture(b"\x89PNG", "image/png"),
    }
    frame = protocol.encode(dict(type="value", x=float("nan"), n=np.int64(3), ä="ü"), arrays)
    (length,) = struct.unpack_from("<I", frame)
    assert (4 + length) % 8 == 0
    header, payload = protocol.unpack(frame)
    assert header["x"] is None and header["n"] == 3 and header["ä"] == "ü"
    assert all(e["offset"] % 8 == 0 for e in header["arrays"]) and header["arrays"][3]["mime"] == "image/png"
    back = protocol.arrays_of(header, payload)
    for name in "abc":
        assert back[name].dtype == arrays[name].dtype and np.array_equal(
            back[name], arrays[name], equal_nan=name == "c"
        )
    assert back["d"].tobytes() == b"\x89PNG"


@pytest.mark.parametrize(
    "entry",
    [
        dict(name="x", dtype="f4", shape=[2], offset=0, bytes=7),
        dict(name="x", dtype="f8", shape=[1], offset=0, bytes=8),
        dict(name="x", dtype="u1", shape=[99], offset=0, bytes=99),
        dict(name="x", dtype="u1", shape=[-1], offset=0, bytes=-1),
        dict(name="x", dtype="u1", shape=[4], offset=4, bytes=4),
        dict(name="x", dtype="u1", shape=[True], offset=0, bytes=1),
        dict(name="x", dtype="u1", shape=[2**40, 0], offset=0, bytes=0),
        "x",
    ],
)
def test_an_array_that_does_not_lie_in_its_frame_is_refused(entry):
    with pytest.raises(Refusal):
        protocol.unpack(protocol.pack(dict(type="ask", arrays=[entry]), bytes(16)))


def hostile(rng: random.Random) -> bytes:
    """A message with something wrong in it, or nothing but noise."""
    kinds = ["ask", "stop", "watch", "unwatch", "ack", "keep", "recall", "value", "", None, 3, [], {}]
    values = ["k", "", "x" * 500, "\0", "../..", None, -1, 2**70, 1.5, [], {}, True, "runs", "a-1"]
    names = ["id", "key", "screen", "method", "args", "seq", "value", "arrays"]
    header = {"type": rng.choice(kinds)} | {n: rng.choice(values) for n in names if rng.random() < 0.8}
    frame = bytearray(protocol.pack(header, rng.randbytes(rng.randrange(20))))
    if rng.random() < 0.4:
        for _ in range(rng.randrange(1, 6)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
    return bytes(frame[: rng.randrange(len(frame) + 1)] if rng.random() < 0.1 else frame)


def test_of_any_bytes_a_hub_says_a_refusal_and_nothing_else(tmp_path):
    async def all_of_them() -> None:
        middle, rng = Hub(tmp_path, {"here": {}}), random.Random(0)
        page = Client(lambda frame: asyncio.sleep(0))
        for _ in range(MANY):
            try:
                middle.take(page, hostile(rng))
            except Refusal as refusal:
                assert "Traceback" not in str(refusal)
            page.replies.clear()
        assert len(middle.slots) <= hub.SLOTS + 1 and len(page.sent) <= hub.WATCHED
        await middle.close()

    in_a_thread(all_of_them())


def test_no_path_leads_outside(tmp_path):
    root, rng = tmp_path / "runs", random.Random(1)
    (root / "r").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path)
    parts = [
        "..",
        ".",
        "",
        "r",
        "out",
        "secret",
        "/",
        "\\",
        "~",
        ".studio",
        "%2e%2e",
        "\0",
        "a" * 300,
        "ü",
        "\n",
    ]
    for _ in range(MANY):
        name = rng.choice(["/", "", "//"]) + rng.choice("/\\").join(rng.choices(parts, k=rng.randrange(1, 6)))
        with contextlib.suppress(Refusal):
            assert protocol.confined(root, name).is_relative_to(root)
    assert protocol.confined(root, "r") == root / "r"
    for name in ("out/secret", "../secret", str(tmp_path / "secret"), ".studio/token", "", ".", "r/../.."):
        with pytest.raises(Refusal):
            protocol.confined(root, name)


@pytest.mark.parametrize("value", [float("nan"), True, "3", None, [], 10**400, -1, 11])
def test_numbers_are_numbers_in_their_range(value):
    with pytest.raises(Refusal):
        protocol.number({"n": value}, "n", 0, 10)
    with pytest.raises(Refusal):
        protocol.whole({"n": value}, "n", 0, 10)
    assert protocol.whole({"n": 4.0}, "n", 0, 10) == 4 and protocol.number({}, "n", 0, 1, 0.5) == 0.5


class Page:
    """A page that takes what it is sent, and acknowledges when the test says so."""

    def __init__(self, middle: Hub):
        self.got = list[dict]()
        self.client = Client(self.take)
        self.life = asyncio.ensure_future(middle.serve(self.client))

    async def take(self, frame: bytes) -> None:
        self.got.append(protocol.unpack(frame)[0])

    def values(self) -> list[int]:
        return [h["data"]["i"] for h in self.got if h["type"] == "value"]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_last_value_wins_and_each_page_gets_the_next_when_it_has_drawn(tmp_path):
    async def story() -> None:
        middle = Hub(tmp_path)
        quick, slow = Page(middle), Page(middle)
        for page in (quick, slow):
            middle.take(page.client, said("watch", key="k"))
        for i in range(1, 6):
            middle.publish("k", dict(i=i))
            await settle()
            middle.take(quick.client, said("ack", key="k", seq=i))
        assert quick.values() == [1, 2, 3, 4, 5] and slow.values() == [1]
        middle.take(slow.client, said("ack", key="k", seq=9))  # of none that it was sent
        await settle()
        assert slow.values() == [1]
        middle.take(slow.client, said("ack", key="k", seq=1))
        await settle()
        assert slow.values() == [1, 5], "what came between is dropped"
        late = Page(middle)
        middle.take(late.client, said("watch", key="k"))
        await settle()
        assert late.values() == [5], "the last value at once"
        await middle.close()

    in_a_thread(story())


def test_an_answer_ends_after_its_last_value_and_a_newer_question_takes_its_place(tmp_path):
    async def story() -> None:
        gate = asyncio.Event()

        async def waits(args, _):
            await gate.wait()
            return Answer(dict(i=1))

        async def at_once(args, _):
            return Answer(dict(i=2), dict(x=np.zeros(1, np.uint8)))

        middle = Hub(tmp_path, {"here": {"waits": waits, "now": at_once}})
        page = Page(middle)
        middle.take(page.client, ask(id="a-1", method="waits"))
        middle.take(page.client, ask(id="a-2", method="now"))
        gate.set()
        await settle()
        kinds = [(h["type"], h.get("id")) for h in page.got]
        assert kinds == [("done", "a-1"), ("value", "a-2"), ("done", "a-2")]
        assert page.got[0]["replaced"] and page.got[2]["data"] == {"i": 2}
        middle.take(page.client, ask(id="a-2", method="now"))  # as after a lost connection: not asked twice
        await settle()
        assert [h["type"] for h in page.got[3:]] == ["done"]
        middle.take(page.client, ask(id="a-3", screen="here", method="nosuch"))
        middle.take(page.client, ask(id="a-4", screen="nosuch"))
        await settle()
        assert [h["type"] for h in page.got[4:]] == ["error", "error"]
        await middle.close()

    in_a_thread(story())


def test_a_page_that_does_not_read_holds_one_value_and_is_cut_off_when_it_asks_on(tmp_path):
    async def story() -> None:
        middle, sent = Hub(tmp_path), list[int]()

        async def stuck(frame: bytes) -> None:
            sent.append(len(frame))
            await asyncio.Event().wait()

        page = Client(stuck)
        life = asyncio.ensure_future(middle.serve(page))
        middle.take(page, said("watch", key="k"))
        for _ in range(300):
            middle.publish("k", {}, [], bytes(1 << 20))
            await asyncio.sleep(0)
        assert len(sent) == 1 and sum(len(s.payload) for s in middle.slots.values()) == 1 << 20
        for i in range(hub.WAITING + 1):
            middle.take(page, said("recall", key=f"{i}"))
        assert page.gone
        life.cancel()
        await middle.close()

    in_a_thread(story())


def test_what_pages_keep_is_there_after_a_restart_and_is_bounded(tmp_path):
    async def story() -> None:
        middle, page = Hub(tmp_path), Client(lambda frame: asyncio.sleep(0))
        middle.take(page, said("keep", key="samples", value={"seed": 3}))
        with pytest.raises(Refusal, match="larger"):
            middle.take(page, said("keep", key="x", value="y" * (protocol.KEPT + 1)))
        with pytest.raises(Refusal, match="no more room"):
            for i in range(100):
                middle.take(page, said("keep", key=f"{i}", value="y" * 60_000))
        await middle.close()
        again = Page(Hub(tmp_path))
        middle = Hub(tmp_path)
        again = Page(middle)
        middle.take(again.client, said("recall", key="samples"))
        await settle()
        assert again.got == [{"type": "recalled", "key": "samples", "value": {"seed": 3}}]
        await middle.close()

    in_a_thread(story())
    (tmp_path / ".studio" / "state.json").write_text("{ torn")
    assert Hub(tmp_path).state == {}


@pytest.fixture
def screen(monkeypatch):
    """A screen whose answers count, as far as they are asked to."""
    ended = list[str]()

    def count(desk, args, arrays):
        try:
            for i in range(args.get("n", 10**9)):
                for method, live, _ in desk.inbox("k"):
                    yield Answer(dict(live=method, **live))
                yield Answer(dict(i=i))
        finally:
            ended.append("count")

    def fails(desk, args, arrays):
        yield Answer(dict(i=0))
        raise args["how"]("no such thing; do another")

    made = types.ModuleType("likeness.studio.screens.fake")
    made.ASKS, made.LIVE, made.ended = {"count": count, "fails": fails}, {"turn"}, ended
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_worker_makes_two_values_and_waits_until_they_are_drawn(screen):
    one = worker.Worker(Path("."), io.BytesIO())
    one._take(ask(screen="fake", method="count"))
    for _ in range(5):
        [one._pull(k) for k in list(one.running) if one.credit[k] > 0]
    assert one.last["k"] == {"i": hub.AHEAD - 1}
    one._take(said("credit", key="k", values=1))
    [one._pull(k) for k in list(one.running) if one.credit[k] > 0]
    assert one.last["k"] == {"i": hub.AHEAD}
    one._take(ask(id="a-2", screen="fake", method="turn", by=3))
    one._take(said("credit", key="k", values=1))
    one._pull("k")
    assert one.last["k"] == {"live": "turn", "by": 3}, "the answer that runs takes it up"
    one._take(ask(id="a-3", screen="fake", method="count", n=1))
    assert screen.ended == ["count"], "a newer question closes the older"
    one._take(said("stop", key="k"))
    assert not one.running and len(screen.ended) == 1  # that of n=1 had not begun


def test_a_refusal_of_a_screen_is_a_sentence_and_a_fault_is_no_traceback(screen, capfd):
    one = worker.Worker(Path("."), out := io.BytesIO())
    for how in (Refusal, ZeroDivisionError):
        screen.ASKS["fails"] = lambda desk, args, arrays, how=how: _failing(how)
        one._take(ask(screen="fake", method="fails"))
        one._pull("k")
    text = out.getvalue().decode(errors="replace")
    assert "No such thing." in text and "Do another" in text and "defect" in text and "Traceback" not in text
    assert "ZeroDivisionError" in capfd.readouterr().err, "which the terminal shows"


def _failing(how):
    raise how("no such thing; do another")
    yield


def test_methods_that_go_on_are_read_off_the_text_of_a_screen(tmp_path):
    assert hub.live("recipe") == frozenset()
    with pytest.raises(Refusal):
        hub.worker_of("../hub")


def test_the_hub_imports_no_torch():
    code = "import sys; import likeness.studio.running; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_state_is_json_and_no_more(tmp_path):
    in_a_thread(Hub(tmp_path).close())
    assert json.loads((tmp_path / ".studio" / "state.json").read_text()) == {}


def test_a_killed_worker_is_an_error_and_the_next_question_starts_another(tmp_path):
    async def story() -> None:
        middle = Hub(tmp_path)
        page = Page(middle)
        for i in (1, 2):
            middle.take(page.client, ask(id=f"a-{i}", screen="recipe", method="read"))
            if i == 1:
                while middle.workers["ask"].process is None:
                    await asyncio.sleep(0.01)
                os.kill(middle.workers["ask"].process.pid, signal.SIGKILL)
            while len(page.got) < i:
                await asyncio.sleep(0.05)
        killed, refused = page.got
        assert "has ended" in killed["what"] and "-9" in killed["why"]
        assert refused["type"] == "error" and refused["what"].startswith("Drop one picture")
        await middle.close()

    in_a_thread(story())


def test_a_notebook_holds_the_page_in_a_frame(tmp_path):
    from likeness.reports.framed import Frame

    frame = Frame(tmp_path, "a b", height=300)
    try:
        assert "localhost" in frame.link and frame.link.endswith("#samples&run=a%20b")
        assert frame._repr_html_().startswith("<iframe src=") and 'height="300"' in frame._repr_html_()
    finally:
        frame.close()
        frame.process.wait(20)
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="is no folder"):
        Frame(tmp_path / "file" / "runs")
