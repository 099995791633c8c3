"""What strangers and accidents do to the studio: damaged folders, deep JSON, links outward, pictures whose
recipes lie, runs that vanish, workers and watchers that are killed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likeness.cli import main
from likeness.core import Refusal
from likeness.figures import files
from likeness.studio import curves, hub, library, local, protocol, worker
from likeness.studio.hub import Client, Hub
from likeness.studio.jobs import Jobs
from likeness.studio.protocol import Answer
from likeness.studio.screens import recipe

from .conftest import end, opened, start, until
from .test_runs import drop, text
from .test_wire import MANY, Page, ask, in_a_thread, said, screen, settle  # noqa: F401

DOT = np.zeros((2, 2, 3), np.uint8)


def nested(levels: int) -> list[Any]:
    out: list[Any] = []
    for _ in range(levels - 1):
        out = [out]
    return out


def test_json_that_is_deeper_than_anything_here_is_refused_on_arrival():
    assert protocol.deep(nested(protocol.DEPTH + 2)) and not protocol.deep(nested(protocol.DEPTH))
    assert protocol.deep(dict(a=nested(900))) and not protocol.deep([3, "x", None, {}])
    frame = protocol.pack(dict(type="keep", key="k", value=nested(100)))
    with pytest.raises(Refusal, match="levels"):
        protocol.message(frame)
    with pytest.raises(Refusal):
        protocol.text(dict(a="\ud800"), "a")


def test_a_hostile_picture_is_a_refusal_and_its_worker_lives(tmp_path):
    desk = worker.Desk(tmp_path)
    for lie in (dict(a=nested(300)), dict(a="x" * recipe.LONGEST)):
        file = np.frombuffer(files.png(DOT, lie), np.uint8)
        with pytest.raises(Refusal, match="none that likeness wrote"):
            next(recipe.read(desk, {}, dict(file=file)))
    huge = b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR" + bytes(99)  # a chunk of 4 GB, and none behind it
    with pytest.raises(Refusal, match="no recipe"):
        next(recipe.read(desk, {}, dict(file=np.frombuffer(huge, np.uint8))))


def test_an_answer_that_no_frame_holds_is_a_refusal_and_the_worker_goes_on(screen):  # noqa: F811
    def long(desk, args, arrays):
        yield Answer(dict(text="x" * protocol.HEADER))

    screen.ASKS["long"] = long
    one = worker.Worker(Path("."), out := io.BytesIO())
    one._take(ask(screen="fake", method="long"))
    one._pull("k")
    assert b"too much for a page" in out.getvalue() and not one.running


def test_of_two_runs_with_one_name_the_one_that_a_picture_names_is_opened(tmp_path):
    for name in ("one/vae", "two/vae"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    desk = worker.Desk(tmp_path)
    for known, path in (
        (dict(run="/elsewhere/two/vae"), "two/vae"),
        (dict(run="one/vae"), "one/vae"),
        (dict(runs=[dict(run="vae")]), "one/vae"),
        (dict(runs=["vae", 3]), ""),
        (dict(run=["vae"]), ""),
    ):
        (answer,) = recipe.read(desk, {}, dict(file=np.frombuffer(files.png(DOT, known), np.uint8)))
        assert answer.data["run"] == path, known


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run folder with everything wrong that a crash, a stranger or a spoilt disk can do."""
    bad = tmp_path / "runs" / "bad"
    (bad / "state" / "²").mkdir(parents=True)
    (bad / "samples").mkdir()
    config = dict(model=["x"], data=dict(source=[1]), training=dict(images="x"), options=3, spec=[])
    (bad / "config.json").write_text(json.dumps(config))
    big = "1" + "0" * 400
    lines = ['{"seen": 1e999, "losses": {"a": 1e999, "b": ' + big + "}}", '{"seen": 3, "losses": {"a": 2.5}}']
    (bad / "log.jsonl").write_text("\n".join(lines))
    (bad / "doctor.jsonl").write_text('{"look": [1], "name": {}, "text": "odd.  Train anew with --r1 1"}\n')
    (tmp_path / "outside.png").write_bytes(b"secret")
    for name in ("samples/000000000001.png", "film.gif"):
        (bad / name).symlink_to(tmp_path / "outside.png")
    (bad / "samples" / "²²².png").write_bytes(b"x")
    return bad


def test_a_damaged_run_is_shown_as_far_as_it_goes_and_no_link_leads_out(damaged, monkeypatch):
    runs = local.Runs(damaged.parent)
    monkeypatch.setattr(runs.catalogue, "ask", lambda names: None)
    assert [r["path"] for r in runs.table()["runs"]] == ["bad"]
    seen = runs.details(dict(path="bad"))
    assert seen["samples"] == [] and seen["film"] == "" and seen["states"] == []
    assert seen["findings"][0]["remedies"] == ["--r1 1"]
    assert curves.of(damaged)["a"]["mean"] == [None, 2.5] and "b" not in curves.of(damaged)


def test_one_folder_that_fails_takes_no_other_along_and_the_table_goes_on(tmp_path, monkeypatch, capfd):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    row = library.row
    monkeypatch.setattr(library, "row", lambda root, f, c: row(root, f, c) if f.name == "b" else int("x"))
    runs = local.Runs(tmp_path)
    assert [r["path"] for r in runs.table()["runs"]] == ["b"]
    monkeypatch.setattr(local, "EVERY", 0.01)
    monkeypatch.setattr(runs.catalogue, "wanted", lambda root: [])
    table, calls = runs.table, []

    def fails_once():
        calls.append(0)
        return table() if len(calls) > 1 else int("x")

    monkeypatch.setattr(runs, "table", fails_once)

    async def story() -> None:
        middle = Hub(tmp_path, {}, [runs.keep_table])
        await middle.open()
        page = Page(middle)
        middle.take(page.client, said("watch", key="runs"))
        until_ = time.monotonic() + 20
        while not any(h["type"] == "value" and h["data"] for h in page.got) and time.monotonic() < until_:
            await asyncio.sleep(0.02)
            middle.take(page.client, said("ack", key="runs", seq=middle.slots["runs"].seq))
        assert len(calls) > 1 and page.got[-1]["data"]["runs"][0]["path"] == "b"
        await middle.close()

    in_a_thread(story())


def test_a_training_that_two_pages_resume_at_once_starts_once(tmp_path, monkeypatch):
    begun: list[Path] = []
    monkeypatch.setattr(Jobs, "_watch_over", staticmethod(begun.append))  # slow to write its number down
    jobs = Jobs(tmp_path)
    number = jobs.start(["train"], "r", 0)
    folder = jobs.folder / number
    (folder / "ended.json").write_text('{"code": -9}')
    os.utime(folder / "job.json", (1, 1))  # long ago
    jobs.again(number)
    assert jobs.one(folder)["state"] == "starting"
    with pytest.raises(Refusal, match="pause it first"):
        jobs.again(number)
    assert len(begun) == 2, "the start, and one resumption"
    (folder / "pids.json").write_text('{"training": 7}')
    assert jobs.one(folder)["state"] in ("starting", "failed")


def test_questions_on_their_way_to_a_worker_that_dies_end_as_well(tmp_path, monkeypatch):
    class Silent:
        group, sent = "ask", []

        def ask(self, one):
            self.sent.append(one)

        send = ask

        async def end(self):
            pass

    async def story() -> None:
        middle, silent = Hub(tmp_path), Silent()
        middle.workers["ask"] = silent
        monkeypatch.setattr(hub, "live", lambda name: frozenset({"turn"}))
        page = Page(middle)
        middle.take(page.client, ask(id="a-1", screen="recipe", method="read"))
        middle.take(page.client, ask(id="a-2", screen="recipe", method="turn"))
        middle.lost(silent, -9)
        await settle()
        assert {(h["type"], h["id"]) for h in page.got} == {("error", "a-1"), ("error", "a-2")}
        assert all("has ended" in h["what"] for h in page.got)
        await middle.close()

    in_a_thread(story())


def test_a_worker_that_cannot_be_started_is_a_sentence(tmp_path, monkeypatch):
    async def refuses(*_, **__):
        raise OSError(11, "no more processes")

    async def story() -> None:
        middle = Hub(tmp_path)
        page = Page(middle)
        middle.take(page.client, ask(id="a-1", screen="recipe", method="read"))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if page.got:
                break
        assert page.got[0]["type"] == "error" and "has ended" in page.got[0]["what"]
        assert not middle.workers
        await middle.close()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuses)
    in_a_thread(story())


def test_a_day_of_messages_leaves_nothing_behind(tmp_path):
    """24 hours at a message a second are 86,400; LIKENESS_FUZZ=100000 makes them all."""

    async def now(args, _):
        return Answer(dict(i=1), dict(x=np.zeros(1 << 12, np.uint8)))

    sizes: list[int] = []

    async def story() -> None:
        middle = Hub(tmp_path, {"here": {"now": now}})
        tracemalloc.start()
        for i in range(MANY):
            if i % 100 == 0:  # a reload
                page = Client(lambda frame: asyncio.sleep(0))
                life = asyncio.ensure_future(middle.serve(page))
            key = f"here/{i // 100 % 997}"
            middle.take(page, ask(id=f"a-{i}", screen="here", method="now", key=key))
            middle.take(page, said("keep", key=f"k{i % 9}", value=dict(i=i)))
            await settle()
            middle.take(page, said("ack", key=key, seq=middle.slots[key].seq))
            if i % 100 == 99:
                page.gone = True
                page.wake.set()
                await life
            if i in (MANY // 2, MANY - 1):
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(middle.slots) <= hub.SLOTS + 1 and not middle.clients and len(middle._tasks) < 5
        await middle.close()

    in_a_thread(story())
    half, whole = sizes
    held = hub.SLOTS * (1 << 12) * 2
    print(
        f"{MANY:,} messages: {half:,} bytes after half, {whole:,} at the end; "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:,} kB at most"
    )
    assert whole < half + held


# In a browser


@pytest.fixture(scope="module")
def copies(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A studio over runs that may be changed, moved and deleted."""
    root = tmp_path_factory.mktemp("hostile") / "runs"
    shutil.copytree(runs, root)
    notes = dict(
        seen=64,
        look="game",
        name="gradient",
        text="It is flat.  Train anew with --pack 2, or --spectral, or --rate 1e-4",
    )
    with (root / "gan-digits" / "doctor.jsonl").open("a") as f:
        f.write(json.dumps(notes) + "\n")
    served = start(root)
    yield served
    end(served)


def test_an_address_that_is_no_code_opens_the_page(browser, copies):
    with opened(browser, copies) as page:
        page.goto(f"{copies.address}/#%zz&run=%&seed=%e0%a4%a&tab={{")
        page.reload()
        page.locator("html[data-ready=yes]").wait_for(state="attached")
        assert page.evaluate("studio.screen.id") == "runs"


MADE = {
    "sample": (["sample", "vae-digits", "-n", "4", "--seed", "7"], "samples", "seed=7"),
    "walk": (["walk", "vae-digits", "plane", "-n", "3"], "samples", "tab=plane"),
    "reconstruct": (["reconstruct", "vae-digits", "-n", "2"], "samples", "tab=sum"),
    "latent": (["latent", "vae-digits", "--picture", "interpolation"], "samples", "tab=path"),
}


def test_pictures_of_the_command_line_restore_the_screen_that_shows_the_same(browser, copies, tmp_path):
    with opened(browser, copies) as page:
        page.set_default_timeout(120_000)
        until(lambda: page.evaluate("studio.runs.every(r => r.answers.length)"), 120)
        for verb, (words, shown, choice) in MADE.items():
            out = tmp_path / f"{verb}.png"
            words = [words[0], str(copies.root / words[1]), *words[2:]]
            assert main([*words, "-o", str(out)]) == 0
            page.evaluate("location.hash = '#runs'")
            until(lambda: page.evaluate("studio.screen.id") == "runs")
            drop(page, out)
            until(lambda s=shown: page.evaluate("studio.screen.id") == s, 120)
            assert choice in page.url and page.evaluate("studio.run.path") == "vae-digits", verb


def test_which_screen_a_picture_comes_back_to_is_told_by_its_recipe(browser, copies):
    """Of screens that may not be there: those that take the run, in order."""
    with opened(browser, copies) as page:
        places = "async r => (await import('/page/recipes.js')).places(r).map(p => p.screen)"
        base = dict(run="x", model="m", seen=3, seed=1, n=4)
        for more, first in (
            (dict(draws=3, known=9), "pixels"),
            (dict(draws=3, strength=0.5), "diffusion"),
            (dict(picture="field", runs=[{}]), "pixels"),
            (dict(picture="reverse", runs=[{}]), "diffusion"),
            (dict(steps=0), "samples"),
            (dict(), "pixels"),
        ):
            assert page.evaluate(places, base | more)[0] == first, more
        assert page.evaluate(places, base | dict(texts=["a dog"])) == []
        assert page.evaluate(places, base | dict(picture="constructor", runs=[{}])) == []


LIES: list[dict[str, Any]] = [
    dict(run="vae-digits", picture="walk plane", seed=1),
    dict(run="vae-digits", picture="walk path", codes=3, n="x"),
    dict(run="vae-digits", studio=dict(screen="samples", hash=[1])),
    dict(run="vae-digits", studio=dict(screen="samples", hash=dict(tab="__proto__", seed={}, put=[1]))),
    dict(run="vae-digits", studio=3, seed="<img src=x onerror=alert(1)>", n={}, first=[]),
    dict(studio=dict(screen="playground", hash=dict(open="../../x", model="nosuch", law=[1], options=3))),
]


def test_recipes_that_lie_lead_to_a_screen_or_a_sentence(browser, copies, tmp_path):
    with opened(browser, copies) as page:
        page.set_default_timeout(120_000)
        until(lambda: page.evaluate("studio.runs.every(r => r.answers.length)"), 120)
        for lie in LIES:
            (tmp_path / "x.png").write_bytes(files.png(DOT, lie))
            before = page.evaluate("studio.stats.frames")
            drop(page, tmp_path / "x.png")
            until(lambda b=before: page.evaluate("studio.stats.frames") > b, 120)
            page.wait_for_timeout(400)
            assert page.locator("h1").first.is_visible(), lie
            assert page.locator("#work img[src=x]").count() == 0


def test_a_saved_playground_comes_back_by_its_picture(browser, copies):
    with opened(browser, copies) as page:
        page.set_default_timeout(120_000)
        tiny = dict(model="gan", law="moons", options=dict(hidden=16, depth=1, batch=32))
        act = "a => studio.ask('playground', 'act', {key: 'playground', ...a}, {key: 'playground'})"
        play = "a => studio.ask('playground', 'play', {key: 'playground', ...a}, {key: 'playground'})"
        page.evaluate(play, tiny)
        page.evaluate(act, dict(do="step", who="both", n=7))
        page.evaluate(act, dict(do="save", name="seven"))
        page.evaluate(play, dict(tiny, law="ring"))
        drop(page, copies.root / "playground" / "seven" / "frame.png")
        page.locator("[data-pane=a] .pg-plot[data-step='7']").wait_for()
        assert page.evaluate("studio.screen.id") == "playground" and "moons" in page.url


def test_the_doctors_button_starts_a_run_with_the_remedy(browser, copies):
    with opened(browser, copies) as page:
        page.set_default_timeout(120_000)
        page.locator("[data-run='gan-digits']").click()
        page.get_by_role("button", name="Train anew with --spectral").wait_for()
        # of these two D is another network; a rate fits any
        page.locator("[data-remedy='--rate 1e-4']").wait_for()
        assert not page.locator("[data-remedy='--pack 2']").is_visible()
        assert not page.locator("[data-remedy='--spectral']").is_visible()
        page.get_by_role("button", name="Train anew with --spectral").click()
        until(lambda: "--spectral" in text(page, "form.panel code"), 120)
        page.locator("form.panel input[type=number]").first.fill("0.02")
        page.locator("form.panel button[type=submit]").focus()
        page.keyboard.press("Enter")
        config = copies.root / "gan-digits-b" / "config.json"
        until(lambda: library.read_json(config).get("options", {}).get("spectral") is True, 120)


def test_a_training_that_is_refused_before_it_has_a_folder_says_so(browser, copies):
    jobs = copies.root / ".studio" / "jobs" / "000900"
    jobs.mkdir(parents=True)
    (jobs / "job.json").write_text(json.dumps(dict(command=["train"], run="never", nice=0, began=1)))
    (jobs / "ended.json").write_text('{"code": 2}')
    (jobs / "out").write_text("likeness: gan: a penalty does not go with that\n")
    with opened(browser, copies) as page:
        page.goto(f"{copies.address}/#runs&run=never")
        page.reload()
        page.get_by_text("The training of never did not begin.").wait_for()
        assert "does not go with that" in text(page, ".failed")


def test_a_run_that_is_deleted_while_open_is_a_sentence_and_the_page_goes_on(browser, copies):
    with opened(browser, copies) as page:
        page.set_default_timeout(120_000)
        until(lambda: page.evaluate("studio.runs.every(r => r.answers.length)"), 120)
        page.goto(f"{copies.address}/#samples&run=pixelcnn-digits")
        page.reload()
        page.locator("[data-samples=ready]").wait_for(state="attached")
        shutil.rmtree(copies.root / "pixelcnn-digits")
        page.keyboard.press("r")
        page.locator(".failed").wait_for()
        assert "defect" not in text(page, ".failed")
        until(lambda: page.evaluate("studio.run") is None)
        page.keyboard.press("g")
        page.keyboard.press("r")
        until(lambda: page.locator("[data-run='pixelcnn-digits']").count() == 0)
        assert page.locator("[data-run='vae-digits']").count() == 1
