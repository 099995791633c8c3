"""Pixel by pixel: the server's side against the command line's functions; the page by keys and pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likeness import cli, figures
from likeness.core import Refusal
from likeness.parts.conditionals import level
from likeness.studio.screens import pixels
from likeness.studio.worker import Desk
from studio.conftest import opened, until

RUN = "pixelcnn-digits"
DIMS = 64


@pytest.fixture(scope="module")
def desk(runs: Path) -> Desk:
    return Desk(runs)


def last(desk: Desk, method: str, args: dict[str, Any] | None = None, **arrays: np.ndarray) -> Any:
    *_, answer = pixels.ASKS[method](desk, dict(run=RUN) | (args or {}), arrays)
    return answer


def test_about(desk: Desk) -> None:
    data = last(desk, "about").data
    assert (data["size"], data["channels"], data["levels"], data["classes"]) == (8, 1, 17, [])


def test_a_drawing_is_the_sample_of_its_seed_however_it_is_asked_for(desk: Desk) -> None:
    sample = level(desk.run(RUN).sample(1, seed=9, first=2).x, 17).numpy()[0]
    plan = dict(seed=9, number=2)
    whole = last(desk, "draw", plan | dict(upto=DIMS))
    assert (whole.arrays["levels"] == sample).all()
    for upto in (5, 6, 40, 12, DIMS):  # forth and back
        part = last(desk, "draw", plan | dict(upto=upto))
        assert part.data["place"] == upto
        order = part.arrays["levels"].ravel()
        assert (order[:upto] == sample.ravel()[:upto]).all() and (order[upto:] == -1).all()
    pixels._drawings.clear()  # as when the worker was killed
    assert (
        last(desk, "draw", plan | dict(upto=50)).arrays["levels"].ravel()[:50] == sample.ravel()[:50]
    ).all()


def test_running_bits_end_at_those_of_score(desk: Desk) -> None:
    done = last(desk, "draw", dict(seed=1, upto=DIMS))
    x = torch.from_numpy(done.arrays["levels"][None]).float() * (2 / 16) - 1
    scored = desk.run(RUN).score(x)
    assert done.data["bits"] / DIMS == pytest.approx(scored.bits[0], abs=1e-4)
    assert np.allclose(done.arrays["bits"], scored.surprise[0], atol=1e-3)
    assert done.arrays["p"].sum() == pytest.approx(1, abs=1e-5)


def test_a_fixed_pixel_is_unchanged_and_redraws_what_follows_alone(desk: Desk) -> None:
    free = last(desk, "draw", dict(seed=3, upto=DIMS)).arrays["levels"].ravel()
    other = 16 - int(free[20]) if free[20] != 8 else 0
    held = last(desk, "draw", dict(seed=3, upto=DIMS, fixed={"20": other})).arrays["levels"].ravel()
    assert held[20] == other and (held[:20] == free[:20]).all()


def test_a_change_of_temperature_counts_from_its_place_on(desk: Desk) -> None:
    free = last(desk, "draw", dict(seed=3, upto=DIMS)).arrays["levels"].ravel()
    last(desk, "draw", dict(seed=3, upto=30))
    warm = last(desk, "draw", dict(seed=3, upto=DIMS, heat=[[0, 1.0], [30, 4.0]])).arrays["levels"].ravel()
    assert (warm[:30] == free[:30]).all() and (warm[30:] != free[30:]).any()


def test_branches_are_what_complete_draws(desk: Desk) -> None:
    run = desk.run(RUN)
    held = last(desk, "image", dict(held=0))
    done = last(desk, "branch", dict(seed=7, known=30, draws=4), start=held.arrays["levels"][0])
    x = torch.from_numpy(held.arrays["levels"]).float() * (2 / 16) - 1
    known = (torch.arange(64) < 30).view(8, 8)
    assert (done.arrays["levels"] == level(run.complete(x, known=known, draws=4, seed=7).x, 17).numpy()).all()
    own = last(desk, "draw", dict(seed=7, known=30, number=2, upto=DIMS), start=held.arrays["levels"][0])
    assert (own.arrays["levels"] == done.arrays["levels"][2]).all()


def test_the_softmax_at_a_place_is_the_one_it_was_drawn_from(desk: Desk) -> None:
    done = last(desk, "draw", dict(seed=4, upto=29))
    at = last(desk, "at", dict(row=3, column=4), levels=done.arrays["levels"])
    assert np.allclose(at.arrays["p"], done.arrays["p"], atol=1e-5)
    assert at.data["level"] == done.arrays["levels"][0, 3, 4]
    assert -np.log2(at.data["p"]) == pytest.approx(float(done.arrays["bits"][0, 3, 4]), abs=1e-3)


def test_the_field_sees_nothing_later(desk: Desk) -> None:
    levels = last(desk, "draw", dict(upto=DIMS)).arrays["levels"]
    seen = last(desk, "field", dict(row=4, column=3), levels=levels)
    influence = seen.arrays["influence"].ravel()
    assert influence[:35].max() > 0 and (influence[36:] == 0).all() and seen.data["later"] == 0
    assert seen.data["command"] == f"likeness field {desk.run(RUN).folder}"


def test_judging_is_score(desk: Desk, tmp_path: Path) -> None:
    run = desk.run(RUN)
    judged = last(desk, "judge", dict(held=1, rank="yes"))
    assert (
        judged.data["bits"] / DIMS == pytest.approx(judged.data["bits_per_dim"])
        and judged.data["against"] > 0
    )
    x = torch.from_numpy(judged.arrays["levels"]).float() * (2 / 16) - 1
    assert judged.data["bits_per_dim"] == pytest.approx(float(run.score(x).bits[0]), abs=1e-4)
    figures.write_png(tmp_path / "own.png", figures.pixels(x)[0], {})
    file = np.frombuffer((tmp_path / "own.png").read_bytes(), np.uint8)
    own = last(desk, "judge", dict(name="own.png"), file=file)
    assert (own.arrays["levels"] == judged.arrays["levels"]).all() and own.data["name"] == "own.png"
    assert own.data["bits_per_dim"] == pytest.approx(judged.data["bits_per_dim"], abs=1e-4)
    assert judged.data["command"] == f"likeness score {run.folder}"
    assert own.data["command"] == f"likeness score {run.folder} own.png"


@pytest.mark.parametrize(
    "method, args",
    [
        ("draw", dict(upto=65)),
        ("draw", dict(upto=-1)),
        ("draw", dict(upto="1")),
        ("draw", dict(upto=1, known=3)),
        ("draw", dict(upto=1, fixed={"64": 0})),
        ("draw", dict(upto=1, fixed={"x": 0})),
        ("draw", dict(upto=1, fixed={"0": 17})),
        ("draw", dict(upto=1, heat=[[0, 0.0]])),
        ("draw", dict(upto=1, heat=[])),
        ("draw", dict(upto=1, heat=[[0]])),
        ("draw", dict(upto=1, label=0)),
        ("at", dict(row=0, column=0)),
        ("branch", dict(draws=99)),
        ("judge", dict(held=-1)),
        ("about", dict(run="../x")),
        ("about", dict(run="vae-digits")),
    ],
)
def test_what_a_page_must_not_ask_is_refused(desk: Desk, method: str, args: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        last(desk, method, args)


def test_a_file_that_is_no_image_is_refused(desk: Desk) -> None:
    with pytest.raises(Refusal):
        last(desk, "image", {}, file=np.frombuffer(b"no image" * 9, np.uint8))


# The page


def show(page: Any, run: str, screen: str) -> None:
    page.set_default_timeout(45_000)
    until(lambda: page.evaluate(f"studio.runs.some(r => r.path === '{run}' && r.answers.length)"), 90)
    page.locator("#run").select_option(run)
    page.get_by_role("link", name=screen).click()
    page.get_by_role("heading", name=screen, exact=True).wait_for()


def place(page: Any, n: int) -> None:
    until(lambda: page.locator(".pixel-stage canvas").get_attribute("data-place") == str(n), 90)


def test_the_page_by_keys_alone(page: Any, axe: Any, desk: Desk) -> None:
    show(page, RUN, "Pixel by pixel")
    place(page, 0)
    page.keyboard.press("End")
    place(page, DIMS)
    bits = float(page.locator("output.big").inner_text().split()[0])
    sample = desk.run(RUN).sample(1, seed=0).x
    assert bits == pytest.approx(desk.run(RUN).score(sample).bits[0], abs=1e-4)
    assert page.locator("#command").inner_text().endswith(RUN)
    page.keyboard.press("Home")
    place(page, 0)
    for key, upto in ((".", 1), (".", 2), ("ArrowDown", 8), ("ArrowDown", 16)):
        page.keyboard.press(key)
        place(page, upto)
    assert page.get_by_text("row 2, column 8: level").count() == 1
    page.keyboard.press("f")  # the level that is there
    until(lambda: "--fix 2,8,1=" in page.locator("#command").inner_text(), 60)
    page.keyboard.press("Control+z")
    until(lambda: "--fix" not in page.locator("#command").inner_text(), 60)
    page.keyboard.press("b")
    page.locator(".tree button").nth(3).wait_for()
    page.keyboard.press("v")
    assert page.get_by_label("Shown", exact=True).input_value() == "surprise"
    page.keyboard.press("j")
    page.get_by_text("bits/dim; more than").wait_for()
    assert axe(page) == []


def test_the_page_by_pointer(page: Any, desk: Desk, tmp_path: Path) -> None:
    show(page, RUN, "Pixel by pixel")
    page.get_by_role("button", name="New seed").wait_for()
    page.get_by_role("spinbutton", name="Seed").fill("12")
    page.get_by_role("spinbutton", name="Seed").press("Enter")
    page.get_by_role("button", name="To the end").click()
    place(page, DIMS)
    box = page.locator(".pixel-stage canvas").bounding_box()
    page.locator(".pixel-stage canvas").click(
        position=dict(x=box["width"] * 3.5 / 8, y=box["height"] * 2.5 / 8)
    )
    page.get_by_text("row 3, column 4: level").wait_for()
    page.get_by_label("Level of the cursor's sub-pixel").fill("13")
    page.get_by_role("button", name="Fix").click()
    page.get_by_text("row 3, column 4: level 13 of 16").wait_for()
    want = desk.run(RUN).trace(seed=12, fix={19: 13}).way.levels[0].ravel()
    page.get_by_role("button", name="To the end").click()
    page.get_by_role("button", name="Save picture").click()
    until(lambda: "pixels-" in page.locator("#saved").inner_text(), 60)
    file = Path(page.locator("#saved").inner_text().removeprefix("saved ").split(", ")[1])
    with np.load(file) as kept:
        assert (kept["levels"].ravel() == want).all()
    words = page.locator("#command").inner_text().split()
    assert cli.main([*words[1:], "-o", str(tmp_path / "again.png")]) == 0  # as it can be copied
    with np.load(file) as kept, np.load(tmp_path / "again.npz") as again:
        assert (kept["levels"] == again["levels"]).all() and np.allclose(
            kept["nats"], again["nats"], atol=1e-5
        )


def kept_where_it_stands(page: Any) -> str:
    """The place that is shown, once nothing is under way and the server has it; else nothing."""
    at: str = page.evaluate(
        """async () => {
            const there = (await studio.recall("pixels:state:pixelcnn-digits"))?.place;
            const at = document.querySelector(".pixel-stage canvas").dataset.place;
            return studio.wire.questions.size || String(there) !== at ? "" : at;
        }"""
    )
    return at


def test_paused_and_reloaded_it_goes_on_where_it_was(page: Any, studio: Any, desk: Desk) -> None:
    show(page, RUN, "Pixel by pixel")
    page.get_by_role("spinbutton", name="Seed").fill("21")
    page.get_by_role("spinbutton", name="Seed").press("Enter")
    place(page, 0)
    page.get_by_role("button", name="Play").click()
    until(lambda: int(page.locator(".pixel-stage canvas").get_attribute("data-place")) > 4, 90)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Play").wait_for()
    at = until(lambda: kept_where_it_stands(page))
    page.reload()
    place(page, int(at))
    page.get_by_role("button", name="To the end").click()
    place(page, DIMS)
    whole = last(desk, "draw", dict(seed=21, upto=DIMS))
    assert page.locator("output.big").inner_text() == f"{whole.data['bits'] / DIMS:.4f} bits/dim"


def test_at_420_pixels_and_with_less_motion(browser: Any, studio: Any, axe: Any) -> None:
    with opened(browser, studio, viewport=dict(width=420, height=800), reduced_motion="reduce") as page:
        page.set_default_timeout(45_000)
        until(lambda: page.evaluate("studio.runs.every(r => r.answers.length) && studio.runs.length"), 90)
        page.locator("#run").select_option(RUN)
        page.evaluate("studio.go('pixels')")
        page.get_by_text("as fast as it goes").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        assert axe(page) == []


def test_a_dropped_picture_restores_its_plan(page: Any, desk: Desk, tmp_path: Path) -> None:
    run = desk.run(RUN)
    start = run.trace(seed=31, until=40).x
    run.trace(start, seed=5, known=20, fix={50: 9}).save(tmp_path / "p.png")
    page.set_default_timeout(45_000)
    until(lambda: page.evaluate(f"studio.runs.some(r => r.path === '{RUN}' && r.answers.length)"), 90)
    data = list((tmp_path / "p.png").read_bytes())
    page.evaluate("(bytes) => studio.dropped(new File([new Uint8Array(bytes)], 'p.png'))", data)
    until(lambda: page.locator(".pixel-stage canvas").count() == 1, 90)
    place(page, DIMS)
    assert "--known 20 --seed 5 --fix 7,3,1=9" in page.locator("#command").inner_text()
    want = run.trace(start, seed=5, known=20, fix={50: 9}).way.total[0] / DIMS
    assert page.locator("output.big").inner_text() == f"{want:.4f} bits/dim"
