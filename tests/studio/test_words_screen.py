"""The screen of words: the bytes of the command line, a queue that outlives page and server, and Imagic."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from likeness import figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.studio.protocol import Answer
from likeness.studio.queue import MOST, Queue
from likeness.studio.screens import words
from likeness.studio.worker import Desk

from .conftest import end, opened, start, until


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads texts, one of clips, and one that reads none."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("words") / "runs"
    data, films = root.parent / "data", root.parent / "films"
    data.mkdir()
    films.mkdir()
    lines, clips = list[str](), list[str]()
    for i in range(12):
        light = i % 2
        Image.fromarray(np.full((8, 8), 60 + 130 * light + i, np.uint8)).save(data / f"{i}.png")
        caption = f"a {'light' if light else 'dark'} square"
        lines.append(json.dumps({"file_name": f"{i}.png", "text": caption}))
        frames = [Image.fromarray(np.full((8, 8), (40 * i + 60 * k) % 256, np.uint8)) for k in range(4)]
        frames[0].save(films / f"{i}.gif", save_all=True, append_images=frames[1:], duration=100)
        clips.append(json.dumps({"file_name": f"{i}.gif", "text": caption}))
    (data / "metadata.jsonl").write_text("\n".join(lines))
    (films / "metadata.jsonl").write_text("\n".join(clips))
    how: dict[str, Any] = dict(images=16, batch=8, progress=False, size=8, precision="fp32")
    tiny = dict(text=True, net="mlp", scale=0.25, steps=3, optimizer="adam", sampler="dpm2m")
    likeness.train("flowmatching", data, root / "flow-text", **(how | dict(images=160)), **tiny, rate=0.03)
    likeness.train("video", films, root / "clips", **how, net="unet", scale=0.25, steps=2, frames=4)
    likeness.train("vae", data, root / "vae", **how, width=8, depth=1, latent=2)
    return root


@pytest.fixture
def desk(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copytree(written, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    words._QUEUES.clear()
    words._EDITS.clear()
    return Desk(tmp_path / "runs")


def asked(desk: Desk, method: str, run: str = "flow-text", arrays: dict | None = None, **args: Any) -> Answer:
    (*_, last) = words.ASKS[method](desk, dict(args, run=run), arrays or {})
    return last


def drawn(desk: Desk, **args: Any) -> Answer:
    """What the queue makes of one question."""
    asked(desk, "add", **args)
    *_, last, end = words.work(desk, {}, {})
    assert end.data["queue"] == [] and last.data["share"] == 1
    return last


def pixels(file: str | Path) -> np.ndarray:
    with np.load(file) as known:
        return known["x"]


# Words


def test_unknown_words_have_a_place_and_the_nearest_known_ones(desk):
    answer = asked(desk, "read", text="A lihgt, squre", negative="drak").data
    places = [(w["word"], w["start"], w["end"]) for w in answer["text"]]
    assert places == [("lihgt", 2, 7), (",", 7, 8), ("squre", 9, 14)]
    assert [w["near"][:1] for w in answer["text"]] == [["light"], [], ["square"]]
    assert answer["negative"][0]["near"][0] == "dark" and len(answer["notes"]) >= 2
    about = asked(desk, "about").data
    often = dict(zip(about["words"], asked(desk, "counts").data["counts"]))
    texts, train = desk.run("flow-text").data.texts, desk.run("flow-text").data.train
    assert often == {w: sum(texts[int(r)].split().count(w) for r in train) for w in often} and often["a"] > 0
    shutil.rmtree(desk.root.parent / "data", ignore_errors=True)
    assert set(asked(desk, "about").data["words"]) == {"a", "light", "dark", "square"}


def test_a_run_without_texts_is_refused(desk):
    with pytest.raises(Refusal, match="learnt nothing of texts"):
        asked(desk, "about", "vae")


# Drawing


@pytest.mark.parametrize(
    "more",
    [
        {},
        dict(negative="dark", live=dict(guidance=3.0, steps=2)),
        dict(n=1, grid=["guidance=1,3", "steps=1,2"], live=dict(guidance=2.0)),
    ],
)
def test_what_is_drawn_are_the_bytes_of_the_command(desk, more, capsys):
    answer = drawn(desk, text="a light square", seed=3, **more)
    saved = Path(answer.data["saved"])
    arrays = pixels(saved.with_suffix(".npz"))
    assert np.array_equal(answer.arrays["images"], arrays) and len(arrays) == len(answer.data["names"])
    before = saved.read_bytes(), saved.with_suffix(".npz").read_bytes()
    saved.unlink()
    command = shlex.split(answer.data["command"])[1:]
    assert main(command) == 0 and saved.read_bytes() == before[0]
    assert main([*command[:-1], "cli.npz"]) == 0 and Path("cli.npz").read_bytes() == before[1]
    shown = asked(desk, "show", name=saved.stem)
    assert np.array_equal(shown.arrays["images"], arrays) and shown.data["args"]["seed"] == 3


def test_equal_seeds_are_equal_and_two_seeds_differ(desk):
    one, again, other = (drawn(desk, text="a dark square", seed=s).arrays["images"] for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_a_cell_of_a_grid_is_the_single_picture(desk):
    grid = drawn(desk, text="a square", seed=5, n=2, grid=["guidance=1,2,4", "steps=1,3"])
    assert grid.data["columns"] == 4 and grid.data["names"][6] == "guidance 2.0, steps 3, image 0"
    single = drawn(desk, text="a square", seed=5, n=2, live=dict(guidance=2.0, steps=3))
    assert np.array_equal(grid.arrays["images"][6:8], single.arrays["images"])
    assert not np.array_equal(grid.arrays["images"][:2], single.arrays["images"])


def test_each_step_is_shown_and_its_end_is_the_last(desk):
    asked(desk, "add", text="a square")
    steps = list(words.work(desk, {}, {}))
    assert steps[0].data["share"] < 1 and steps[0].arrays["images"].shape == (4, 8, 8, 1)
    assert steps[-2].data["step"] >= 3


def test_clips_are_a_film_of_the_command(desk, capsys):
    answer = drawn(desk, run="clips", text="a light square", n=2)
    saved = Path(answer.data["saved"])
    assert answer.arrays["images"].shape == (2, 4, 8, 8, 1) and saved.suffix == ".gif"
    before = saved.read_bytes()
    assert main([*shlex.split(answer.data["command"])[1:-1], "cli.gif"]) == 0
    assert Path("cli.gif").read_bytes() == before
    assert not asked(desk, "about", "clips").data["edits"]


HOSTILE: list[tuple[dict, str]] = [
    (dict(text=3), "text of at most"),
    (dict(text="x" * 3000), "text of at most"),
    (dict(text="--seed 3"), "begins with a word"),
    (dict(text="a", n=10**9), "whole number from"),
    (dict(text="a", seed=-1), "whole number from"),
    (dict(text="a", grid=["guidance=1"] * 3), "one or two options"),
    (dict(text="a", grid=["__class__=1"]), "write an option of this run"),
    (dict(text="a", grid=["guidance=a"]), "no value of"),
    (dict(text="a", grid=["guidance=" + ",".join("1" * 100)], n=60), "more than 256"),
    (dict(text="a", live=[1]), "object of options"),
    (dict(text="a", live=dict(steps=-3)), "steps"),
    (dict(text="a", negative="dark", live=dict(guidance=1.0)), "guidance"),
    (dict(text="a", label="cat"), "not class-conditional"),
]


@pytest.mark.parametrize("args, why", HOSTILE)
def test_what_cannot_be_drawn_is_said_before_it_waits(desk, args, why):
    with pytest.raises(Refusal, match=why):
        asked(desk, "add", **args)
    assert asked(desk, "queue").data["queue"] == []


@pytest.mark.parametrize("name", ["../../etc", "0" * 16, "x", ""])
def test_no_file_outside_the_gallery_is_shown_or_deleted(desk, name):
    for method in ("show", "forget"):
        with pytest.raises(Refusal, match=r"no longer in the folder|at most"):
            asked(desk, method, name=name)


def test_the_gallery_has_the_newest_first_and_forgets(desk):
    for seed in (1, 2):
        last = drawn(desk, text="a square", seed=seed)
    there = asked(desk, "gallery").data["gallery"]
    assert [one["args"]["seed"] for one in there] == [2, 1] and there[0]["url"].startswith("/files/")
    left = asked(desk, "forget", name=last.data["name"]).data["gallery"]
    assert [one["args"]["seed"] for one in left] == [1] and not Path(last.data["saved"]).exists()


# The queue


def test_the_queue_outlives_its_process_and_what_was_begun_is_drawn(desk):
    for seed in (1, 2):
        asked(desk, "add", text="a square", seed=seed)
    begun = words.work(desk, {}, {})
    next(begun)
    begun.close()
    words._QUEUES.clear()  # as a new process has it
    assert [e["text"] for e in asked(desk, "queue").data["queue"]] == ["a square"] * 2
    assert list(words.work(desk, {}, {}))[-1].data["queue"] == []
    assert len(asked(desk, "gallery").data["gallery"]) == 2


def test_an_entry_that_is_cancelled_while_it_is_drawn_ends(desk):
    name = asked(desk, "add", text="a square").data["id"]
    going = words.work(desk, {}, {})
    next(going)
    asked(desk, "cancel", id=name)
    assert list(going)[-1].data["queue"] == [] and asked(desk, "gallery").data["gallery"] == []


def test_one_that_fails_says_why_and_lets_the_others_through(desk, written):
    asked(desk, "add", text="a square", seed=1)
    words._queue(desk).add("gone", dict(text="a"), "")
    asked(desk, "add", text="a square", seed=2)
    (failed,) = list(words.work(desk, {}, {}))[-1].data["queue"]
    assert failed["run"] == "gone" and failed["why"]
    assert len(asked(desk, "gallery").data["gallery"]) == 2


def test_a_damaged_queue_is_an_empty_one_and_a_long_one_ends(tmp_path):
    for text in ("{", "[]", '{"entries": 3}', '{"entries": [1, {"id": 2}]}'):
        (tmp_path / "words.json").write_text(text)
        assert Queue(tmp_path / "words.json").entries == []
    queue = Queue(tmp_path / "words.json")
    for _ in range(MOST):
        queue.add("r", {}, "")
    with pytest.raises(Refusal, match="wait already"):
        queue.add("r", {}, "")
    last = queue.entries[-1]["id"]
    queue.first(last)
    assert Queue(tmp_path / "words.json").entries[0]["id"] == last


# Imagic


def photo() -> np.ndarray:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3)
    import io

    file = io.BytesIO()
    image.save(file, "png")
    return np.frombuffer(file.getvalue(), np.uint8)


def test_an_edit_is_learnt_once_and_drawn_at_any_strength_as_the_command_does(desk, capsys):
    image = asked(desk, "own", arrays={"file": photo()}).data["image"]
    about = dict(image=image, text="a dark square", seed=1, embedding_steps=3, tuning_steps=4)
    assert not asked(desk, "learnt", **about).data["ready"]
    with pytest.raises(Refusal, match="nothing has been learnt"):
        asked(desk, "strength", **about)
    steps = [a.data for a in words.ASKS["learn"](desk, dict(about, run="flow-text"), {})]
    assert {s["part"] for s in steps} == {"the embedding", "the model", ""} and steps[-1]["ready"]
    fresh = asked(desk, "strength", strength=0.35, **about)
    words._EDITS.clear()  # from the disk
    assert asked(desk, "learnt", **about).data["ready"]
    again = asked(desk, "strength", strength=0.35, **about)
    assert np.array_equal(fresh.arrays["images"], again.arrays["images"])
    assert main([*shlex.split(again.data["command"])[1:], "-o", "cli.npz"]) == 0
    assert np.array_equal(pixels("cli.npz"), again.arrays["images"])
    other = asked(desk, "strength", strength=1.0, **about).arrays["images"]
    assert not np.array_equal(other, again.arrays["images"])
    saved = asked(desk, "save_edit", strengths=[0, 0.5, 1], **about).data
    before = Path(saved["saved"]).read_bytes()
    Path(saved["saved"]).unlink()
    assert main(shlex.split(saved["command"])[1:]) == 0 and Path(saved["saved"]).read_bytes() == before


def test_what_imagic_cannot_take_is_refused(desk):
    with pytest.raises(Refusal, match="no image file"):
        asked(desk, "own", arrays={"file": np.zeros(20, np.uint8)})
    image = asked(desk, "own", arrays={"file": photo()}).data["image"]
    for args, why in (
        (dict(image="../own.png", text="a"), "bring an image first"),
        (dict(image="own/" + "0" * 16 + ".png", text="a"), "no longer in the folder"),
        (dict(image=image, text="a", tuning_steps=10**9), "whole number"),
        (dict(image=image, text=""), "no word"),
    ):
        with pytest.raises(Refusal, match=why):
            asked(desk, "learn", **args)


# The page


@pytest.fixture(scope="module")
def served(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A studio over a copy, which the screen writes into."""
    root = tmp_path_factory.mktemp("page") / "runs"
    shutil.copytree(written, root)
    there = [start(root)]
    yield there
    end(there[0])


@contextlib.contextmanager
def visit(browser: Any, served: list, run: str, more: str = "", **how: Any) -> Any:
    with opened(browser, served[0], **how) as page:
        page.set_default_timeout(150_000)
        until(lambda: page.evaluate("studio.runs.some(r => r.answers.length)"), 90)
        page.evaluate(f"location.hash = '#words&run={run}{more}'")
        page.locator("main[data-words=ready]").wait_for()
        yield page


def gallery(page: Any, n: int) -> None:
    page.wait_for_function("n => document.querySelectorAll('.t-gallery figure').length === n", arg=n)


def test_a_text_is_mended_drawn_and_brought_back_by_keys(browser, served, axe):
    with visit(browser, served, "flow-text") as page:
        text = page.get_by_label("What the image shall show")
        text.focus()
        page.keyboard.type("a lihgt square")
        page.locator(".t-behind .t-unknown", has_text="lihgt").wait_for()
        page.get_by_role("button", name="write light for lihgt").press("Enter")
        assert text.input_value() == "a light square"
        page.wait_for_function("() => !document.querySelector('.t-unknown')")
        page.keyboard.press("Control+Enter")
        gallery(page, 1)
        page.wait_for_function("() => /imagine .*'a light square' -n 4 --seed 0 -o/.test(studio.command)")
        assert page.get_by_role("listbox", name="Images").get_by_role("option").count() == 4
        text.fill("a dark square")
        page.keyboard.press("Control+Enter")
        gallery(page, 2)
        for key, want in (("Up", "a dark square"), ("Up", "a light square"), ("Down", "a dark square")):
            page.keyboard.press(f"Alt+Arrow{key}")
            assert text.input_value() == want
        page.locator(".s-options summary", has_text="this run knows").press("Enter")
        page.get_by_role("button", name="insert square").wait_for()
        page.locator(".t-glossary small").first.wait_for()
        assert axe(page) == []
        page.get_by_role("button", name="show a light square").press("Enter")
        page.get_by_role("button", name="take over a light square").press("Enter")
        assert text.input_value() == "a light square" and page.get_by_label("seed").first.input_value() == "0"
        (saved,) = [
            f for f in (served[0].root / "flow-text/imagined").glob("*.png") if recipe(f)["seed"] == 0
        ]
        back = page.evaluate(
            "async (r) => (await import('/page/screens/words.js')).default.open(r)", recipe(saved)
        )
        assert back["text"] == "a light square" and back["n"] == 4 and back["tab"] == "draw"
        page.evaluate("r => studio.restore(r, 'flow-text')", recipe(saved))
        page.locator("main[data-words=ready]").wait_for()
        assert page.get_by_label("What the image shall show").input_value() == "a light square"


def recipe(file: Path) -> dict[str, Any]:
    return figures.read_recipe(file)


def test_imagic_by_three_cards(browser, served, axe, tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(photo().tobytes())
    more = "&tab=edit&text=a dark square&embedding=3&tuning=4"
    with visit(browser, served, "flow-text", more, viewport=dict(width=420, height=800)) as page:
        page.locator("#t-own").set_input_files(own)
        page.get_by_text("as the model sees it").wait_for()
        page.get_by_role("button", name="Learn").click()
        page.locator("[data-strength]").wait_for()
        page.get_by_role("slider", name="strength").press("ArrowRight")
        page.locator("[data-strength='0.55']").wait_for()
        assert "--strength 0.55" in page.evaluate("studio.command")
        page.get_by_role("button", name="Save this strength").press("Enter")
        page.wait_for_function("() => /imagic.drawn.*png$/.test(studio.command)")
        assert axe(page) == []
        for tab in ("Images", "Imagic"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 420, tab
