"""The samples screen: the same pixels as the command line, and every tab by keys and by pointer."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness import figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.inference import walk
from likeness.metrics import neighbours
from likeness.studio.protocol import Answer, Picture
from likeness.studio.screens import samples
from likeness.studio.worker import Desk

from .conftest import opened, until


@pytest.fixture
def desk(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Over copies, which may be changed."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "runs")


def asked(
    desk: Desk, method: str, run: str = "gan-digits", arrays: dict | None = None, **args: Any
) -> Answer:
    """The last value of an answer."""
    (*_, last) = samples.ASKS[method](desk, dict(args, run=run), arrays or {})
    return last


def shown(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits", "pixelcnn-digits", "ddpm-digits"])
def test_a_grid_has_the_pixels_that_its_command_writes(desk, run, capsys):
    answer = asked(desk, "grid", run, n=4, seed=3)
    verb, *words = shlex.split(answer.data["command"])[1:]
    assert main([verb, *words, "-o", "cli.npz"]) == 0
    x = np.load("cli.npz")["x"]
    assert np.array_equal(answer.arrays["images"], np.broadcast_to(x, (*x.shape[:3], 3)))
    assert answer.data["share"] == 1 and answer.data["fresh"]


def test_a_saved_grid_and_a_kept_sample_are_the_files_of_the_command_line(desk, capsys):
    for method, args in (("save", dict(n=6, seed=1)), ("keep", dict(first=5, seed=1))):
        answer = asked(desk, method, **args)
        saved = Path(answer.data["saved"])
        before = saved.read_bytes()
        saved.unlink()
        assert main(shlex.split(answer.data["command"])[1:]) == 0
        assert saved.read_bytes() == before
    assert saved.name == "000005.png" and figures.read_recipe(saved)["first"] == 5


def test_live_options_reach_the_model_and_the_command(desk):
    plain = asked(desk, "grid", "ddpm-digits", n=2)
    fewer = asked(desk, "grid", "ddpm-digits", n=2, live=dict(steps=2.0))
    assert fewer.data["command"].endswith("--steps 2") and "steps" not in plain.data["command"]
    assert not np.array_equal(plain.arrays["images"], fewer.arrays["images"])
    with pytest.raises(Refusal, match="steps"):
        asked(desk, "grid", "ddpm-digits", n=2, live=dict(steps="many"))


def test_the_nearest_training_image_is_the_nearest_by_plain_arithmetic(desk):
    answer = asked(desk, "closest", first=3)
    run = desk.run("gan-digits")
    data = run.data
    x = neighbours.grid(run.sample(1, first=3).x.numpy(), data.levels)[0, 0].astype(float)
    known = np.sqrt(((data.x[data.train, 0].astype(float) - x) ** 2).mean((1, 2)))
    assert known.min() == pytest.approx(answer.data["distance"], abs=1e-6)
    assert answer.data["row"] == data.train[known.argmin()]


def test_a_likelihood_is_that_of_the_kept_file(desk, capsys):
    import json

    answer = asked(desk, "likelihood", "pixelcnn-digits", first=2)
    asked(desk, "keep", "pixelcnn-digits", first=2)
    capsys.readouterr()
    assert main([*shlex.split(answer.data["command"])[1:], "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert (
        scored["images"][0]["bits_per_dim"] == answer.data["bits"] and scored["kind"] == answer.data["kind"]
    )
    assert scored["images"][0]["rank"] == answer.data["rank"]
    assert asked(desk, "likelihood", "gan-digits").data["says"] == "no likelihood"


WALKS = [
    ("plane", dict(x=0.5, y=-1.0, n=3, step=0.25, seed=4)),
    ("slide", dict(codes=["3"], along={"1": 1.5, "2": -0.3})),
    ("path", dict(codes=["3", "2:4"], n=5, way="line", loop=True)),
    ("arithmetic", dict(codes=["1", "2"], less=["3"], plus=["4"], strength=0.5)),
    ("tiles", dict(codes=["7", "1:2"])),
]


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits"])
@pytest.mark.parametrize("method, args", WALKS, ids=[w[0] for w in WALKS])
def test_a_walk_has_the_pixels_of_its_command(desk, run, method, args, capsys):
    answer = asked(desk, method, run, **args)
    assert main([*shlex.split(answer.data["command"])[1:], "-o", "cli.npz"]) == 0
    x = np.load("cli.npz")["x"]
    assert np.array_equal(answer.arrays["images"], np.broadcast_to(x, (*x.shape[:3], 3)))


def test_a_path_is_exported_as_its_command_writes_it(desk, capsys):
    for ending in ("gif", "apng"):
        answer = asked(desk, "export", codes=["0", "5", "9"], n=6, loop=True, format=ending, seconds=0.2)
        saved = Path(answer.data["saved"])
        before = saved.read_bytes()
        assert before == answer.arrays["film"].bytes and saved.with_suffix(".json").is_file()
        saved.unlink()
        assert main(shlex.split(answer.data["command"])[1:]) == 0
        assert saved.read_bytes() == before and figures.read_recipe(saved)["loop"] is True


def png(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize("run", ["vae-digits", "gan-digits"])
def test_an_own_photo_has_a_code_to_reckon_with(desk, run, monkeypatch):
    monkeypatch.setattr("likeness.inference.inversion.STEPS", 4)
    data = desk.run(run).data
    image = data.x[data.held_out[0], 0]
    answer = asked(desk, "own", run, dict(file=png(image)))
    code = answer.data["code"]
    assert np.array_equal(answer.arrays["image"][0, ..., 0], image)
    back = answer.arrays["back"][0].astype(float)
    away = np.sqrt(((back[..., 0] - image) ** 2).mean())
    assert answer.data["error"] == pytest.approx(away, abs=1.0)
    made = asked(desk, "arithmetic", run, codes=[code])
    assert np.array_equal(made.arrays["images"], answer.arrays["back"])
    assert f"samples/{code}" in made.data["command"]


def test_directions_are_saved_used_and_forgotten(desk):
    assert asked(desk, "directions", "vae-digits").data["named"] == []
    saved = asked(desk, "name_direction", "vae-digits", name="round", along={"1": 2.0})
    assert Path(saved.data["saved"]).name == "round.npz"
    by_name = asked(desk, "slide", "vae-digits", codes=["0"], along={"round": 1.0})
    by_number = asked(desk, "slide", "vae-digits", codes=["0"], along={"1": 1.0})
    assert np.array_equal(by_name.arrays["images"], by_number.arrays["images"])
    assert asked(desk, "forget_direction", "vae-digits", name="round").data["named"] == []


def test_the_atlas_of_a_flat_code_is_where_its_encoder_puts_images(desk):
    answer = asked(desk, "atlas", "vae-digits")
    run = desk.run("vae-digits")
    assert answer.arrays["places"].shape == (answer.data["n"], 2) and answer.data["real"]
    x = run.data.take(np.sort(np.random.default_rng(0).permutation(run.data.train)[:2000])[:3]).x
    assert np.allclose(answer.arrays["places"][:3], run.encode(x).numpy(), atol=1e-5)
    with pytest.raises(Refusal, match="--latent 2"):
        asked(desk, "atlas", "gan-digits")


HOSTILE = [
    ("grid", dict(n=10**9)),
    ("grid", dict(n="64")),
    ("grid", dict(seed=-1)),
    ("grid", dict(label=3)),
    ("grid", dict(live=[1])),
    ("plane", dict(x=float("nan"))),
    ("plane", dict(n=0)),
    ("plane", dict(step=0)),
    ("plane", dict(x=1e300)),
    ("tiles", dict(codes=["/etc/passwd"])),
    ("tiles", dict(codes=["own/../../x.png"])),
    ("tiles", dict(codes=["own/0123456789abcdef.png"])),
    ("tiles", dict(codes=["0"] * 65)),
    ("tiles", dict(codes=[1])),
    ("path", dict(codes=["0"])),
    ("path", dict(codes=["0", "1"], way="sideways")),
    ("path", dict(codes=["0"] * 7)),
    ("export", dict(codes=["0", "1"], format="exe")),
    ("name_direction", dict(name="../../x", along={"1": 1})),
    ("forget_direction", dict(name="../config")),
    ("slide", dict(codes=["0"], along={"99": 1})),
    ("slide", dict(codes=["0"], along={"1": "far"})),
    ("arithmetic", dict(codes=[])),
    ("own", {}),
]


@pytest.mark.parametrize("method, args", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **args)
    with pytest.raises(Refusal):
        asked(desk, method, "../elsewhere", **args)


def test_no_text_is_an_image(desk):
    with pytest.raises(Refusal, match="no image"):
        asked(desk, "own", arrays=dict(file=np.frombuffer(b"#!/bin/sh\nexit 0\n" * 9, np.uint8)))
    assert isinstance(Picture(b"", ""), tuple) and walk.MOST


# In a browser


@pytest.fixture(scope="module")
def copies(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A studio over copies of the runs, which a screen may write into."""
    from .conftest import end, start

    root = tmp_path_factory.mktemp("samples") / "runs"
    shutil.copytree(runs, root)
    served = start(root)
    yield served
    end(served)


@contextlib.contextmanager
def visit(browser: Any, copies: Any, run: str, more: str = "", **how: Any) -> Any:
    with opened(browser, copies, **how) as page:
        page.set_default_timeout(150_000)
        until(lambda: page.evaluate("studio.runs.some(r => r.answers.length)"), 60)
        page.evaluate(f"location.hash = '#samples&run={run}{more}'")
        page.locator("main[data-samples=ready]").wait_for()
        yield page


def command(page: Any, pattern: str) -> str:
    page.wait_for_function("p => new RegExp(p).test(studio.command)", arg=pattern)
    return page.evaluate("studio.command")


def test_a_grid_is_walked_kept_and_saved_by_keys_alone(browser, copies, axe):
    with visit(browser, copies, "gan-digits") as page:
        box = page.get_by_role("listbox", name="Samples")
        assert box.get_by_role("option").count() == 64
        assert command(page, "sample .*gan-digits -n 64 --seed 0$")
        box.focus()
        for key in ("ArrowRight", "ArrowDown", "k"):
            page.keyboard.press(key)
        file = copies.root / "gan-digits/samples/keep/seed-0/000009.png"
        until(file.is_file)
        assert box.get_by_role("option", selected=True).all_inner_texts() == ["sample 9, kept"]
        assert "--first 9" in command(page, "--first 9")
        page.keyboard.down("n")
        page.get_by_text("levels (of 255) from the nearest training image").wait_for()
        assert page.get_by_role("img", name="nearest training image").count() == 1
        page.keyboard.up("n")
        page.wait_for_function("() => !document.querySelector('main [aria-label^=nearest]')")
        page.get_by_role("button", name="Likelihood").press("Enter")
        page.get_by_text("no likelihood").wait_for()
        page.keyboard.press("s")
        until((copies.root / "gan-digits/samples/seed-0-n-64.png").is_file)
        page.keyboard.press("l")
        page.keyboard.press("r")
        assert page.evaluate("studio.hash.get('seed', 0)") == 0, "the seed is locked"
        assert axe(page) == []
    with visit(browser, copies, "gan-digits", "&tab=path") as page:  # another tab: what was kept is there
        assert page.get_by_role("heading", name="Kept: 1").count() == 1
        page.get_by_role("button", name="put back sample 9, seed 0").press("Enter")
        page.get_by_role("heading", name="Kept").wait_for(state="detached")


def test_the_pixels_of_a_grid_are_those_of_the_model(browser, copies):
    with visit(browser, copies, "vae-digits") as page:
        seen = page.evaluate(
            """() => { const c = document.querySelector("main .pixels").getContext("2d");
                 return [...c.getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 0); }"""
        )
    x = Desk(copies.root).run("vae-digits").sample(1).numpy()[0, ..., 0]
    assert np.array_equal(np.array(seen).reshape(8, 8), x)


def test_the_plane_is_dragged_and_walked(browser, copies, axe):
    with visit(browser, copies, "gan-digits", "&tab=plane") as page:
        canvas = page.locator(".s-plane")
        canvas.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("+")
        assert command(page, "plane -n 5 --at 0.5 0.5 --step 0.4")
        page.get_by_label("distance of images").fill("1")
        page.get_by_label("distance of images").press("Enter")
        page.get_by_role("spinbutton", name="x", exact=True).fill("0")
        page.get_by_role("spinbutton", name="x", exact=True).press("Enter")
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 200 - box["width"] / 5, box["y"] + 150, steps=4)
        page.mouse.up()
        assert command(page, "--at 1 0.5 --step 1$"), "a tile to the left is a step to the right"
        page.mouse.wheel(0, 100)
        assert command(page, "--step 1.15$")
        assert axe(page) == []


def test_a_flat_code_shows_its_own_plane_with_the_data(browser, copies):
    with visit(browser, copies, "vae-digits", "&tab=plane") as page:
        page.locator(".caption", has_text="dots are codes of training images").wait_for()
        page.locator(".w-legend li").first.wait_for()
        assert page.locator(".w-legend li").count() == 10
        page.get_by_label("data points").press("Space")


def test_sliders_move_are_locked_reset_and_named(browser, copies, axe):
    with visit(browser, copies, "vae-digits", "&tab=slide") as page:
        one = page.get_by_role("slider", name="direction 1")
        one.focus()
        page.keyboard.press("Shift+ArrowRight")
        assert command(page, "slide 0 --along 1:0.5$")
        page.get_by_label("lock direction 1").press("Space")
        page.get_by_role("slider", name="direction 2").press("ArrowRight")
        page.get_by_role("button", name="Reset").press("Enter")
        assert command(page, "slide 0 --along 1:0.5$"), "what is locked stays"
        page.get_by_label("name of the direction").fill("round")
        page.keyboard.press("Enter")
        page.get_by_role("slider", name="round").press("ArrowLeft")
        assert command(page, "--along .*round:-0.05")
        assert axe(page) == []
        page.wait_for_function("() => JSON.stringify(studio.hash.get('along', {})).includes('round')")
        page.reload()  # what was chosen is still there
        page.get_by_role("slider", name="direction 1").wait_for()
        assert page.get_by_role("slider", name="direction 1").get_attribute("aria-valuetext") == "0.5 σ"


def test_a_path_is_made_and_exported_by_keys(browser, copies, axe):
    with visit(browser, copies, "gan-digits", reduced_motion="reduce") as page:
        box = page.get_by_role("listbox", name="Samples")
        box.focus()
        for key in ("Enter", "ArrowRight", "Enter", "End", "Enter"):
            page.keyboard.press(key)
        page.get_by_role("heading", name="Kept: 3").wait_for()
        page.get_by_role("tab", name="Grid").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        for code in ("0", "1", "63"):
            page.get_by_role("button", name=f"add sample {code}, seed 0").press("Enter")
        assert command(page, "path 0:0 0:1 0:63 -n 24$")
        page.keyboard.press("i")
        assert command(page, "--way line$")
        page.get_by_label("loop").press("Space")
        page.wait_for_function("() => document.querySelector('.s-film').dataset.frame === '0'")
        page.get_by_role("slider", name="Path, frame").press("End")
        page.wait_for_function("() => document.querySelector('.s-film').dataset.frame === '23'")
        page.get_by_role("button", name="Save APNG").press("Enter")
        assert command(page, "apng$")
        (saved,) = (copies.root / "gan-digits/paths").glob("*.apng")
        assert figures.read_recipe(saved)["codes"] == ["0:0", "0:1", "0:63"]
        assert axe(page) == []
        # the file, dropped on the page, brings the path back
        page.evaluate("studio.hash.set({tab: 'grid', way: 'arc', loop: false})")
        restored = page.evaluate(
            "async (r) => (await import('/page/screens/samples.js')).default.open(r)",
            figures.read_recipe(saved),
        )
        assert (
            restored["way"] == "line"
            and restored["loop"]
            and restored["put"] == {"stops": ["0:0", "0:1", "0:63"]}
        )


def test_arithmetic_by_pointer_with_an_own_photo(browser, copies, axe, tmp_path):
    photo = tmp_path / "own.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(photo)
    with visit(browser, copies, "vae-digits") as page:
        canvas = page.locator(".w-tiles canvas").bounding_box()
        page.mouse.click(canvas["x"] + 30, canvas["y"] + 30)
        page.mouse.click(canvas["x"] + 100, canvas["y"] + 30)
        page.get_by_role("heading", name="Kept: 2").wait_for()
        page.get_by_role("tab", name="Arithmetic").click()
        page.get_by_role("button", name="put back sample 0").drag_to(
            page.get_by_role("region", name="A: begin with")
        )
        assert command(page, "sum 0:0$")
        kept = page.get_by_role("button", name="put back sample 1").element_handle()
        page.get_by_label("add to C").select_option("0:1")
        assert command(page, "sum 0:0 --plus 0:1$")
        assert kept.evaluate("node => node.isConnected"), "what is dragged must not be made anew meanwhile"
        page.locator("#s-own").set_input_files(photo)
        page.get_by_text("what its code gives").wait_for()
        page.get_by_label("add to B").select_option(label="own image")
        assert "samples/own/" in command(page, "--less .*own/")
        page.get_by_role("slider", name="strength").press("ArrowLeft")
        assert command(page, "--strength 0.95$")
        assert axe(page) == []


def test_on_a_telephone_nothing_is_cut_off(browser, copies):
    with visit(browser, copies, "vae-digits", viewport=dict(width=420, height=800)) as page:
        for tab in ("Grid", "Plane", "Sliders", "Path", "Arithmetic"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(200)
            wide = page.evaluate("document.scrollingElement.scrollWidth")
            assert wide <= 420, f"{tab} is {wide} pixels wide"


def test_a_model_without_codes_has_the_grid_alone_and_says_why(browser, copies):
    with visit(browser, copies, "pixelcnn-digits") as page:
        assert page.get_by_role("tab").count() == 1
        page.get_by_text("cannot make an image of a code").wait_for()
        page.get_by_role("button", name="Likelihood").click()
        page.get_by_text("bits/dim (exact)").wait_for()
