"""The page of Diffusion, by keys and by pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from likeness import api, figures
from likeness.parts.schedules import mixed
from studio.conftest import opened, until

RUN = "ddpm-digits"


def show(page: Any, width: int = 1280) -> None:
    page.set_default_timeout(45_000)
    until(lambda: page.evaluate(f"studio.runs.some(r => r.path === '{RUN}' && r.answers.length)"), 90)
    page.locator("#run").select_option(RUN)
    page.evaluate("studio.go('diffusion')")
    page.get_by_role("button", name="Draw", exact=True).wait_for()
    until(lambda: page.locator("[data-restored=yes]").count() == 1, 90)


def step(page: Any, lane: int, n: int) -> None:
    until(lambda: page.locator(".large").nth(lane).get_attribute("data-step") == str(n), 90)


def idle(page: Any) -> None:
    page.get_by_role("button", name="Draw", exact=True).wait_for()


def test_the_page_adds_noise_as_the_library_does(page: Any, runs: Path) -> None:
    """x_t in the page, at times and of views that it shows, against the schedule's own; within 1e-3."""
    show(page)
    got = page.evaluate(
        """async () => {
            const { noised } = await import("/page/screens/diffusion/noise.js");
            let about, given;
            const copy = (a) => Object.fromEntries(Object.entries(a).map(([n, v]) => [n, v.data.slice()]));
            const run = "ddpm-digits", about_is = (d, a) => (about = copy(a));
            const given_is = (d, a) => (given = copy(a));
            await studio.ask("diffusion", "about", {run}, {key: "t1", onValue: about_is});
            await studio.ask("diffusion", "forward", {run, held: 1, seed: 3}, {key: "t2", onValue: given_is});
            const at = [0, 77, 256, 430, 512];
            return {x_0: [...given.x_0], eps: [...given.eps], t: at.map((i) => about.t[i]),
                    x: at.map((i) => [...noised(about, i, given.x_0, given.eps).x])};
        }"""
    )
    schedule: Any = api.open(runs / RUN).model.schedule
    x_0, eps = (torch.tensor(got[name]).view(1, 1, 8, 8) for name in ("x_0", "eps"))
    for t, x in zip(got["t"], got["x"]):
        library = mixed(schedule, x_0, eps, torch.tensor([t], dtype=torch.float64)).flatten()
        assert np.abs(np.array(x) - library.numpy()).max() < 1e-3


def test_by_keys_alone(page: Any, axe: Any, runs: Path) -> None:
    show(page)
    page.keyboard.press("Space")
    steps = int(page.get_by_label("Steps 1").input_value())
    step(page, 1, steps)
    idle(page)
    assert page.locator("#command").inner_text().startswith("likeness trace ")
    page.keyboard.press("ArrowLeft")
    step(page, 1, steps - 1)
    page.keyboard.press("Home")
    step(page, 1, 0)
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    step(page, 1, 2)
    page.keyboard.press("b")
    page.get_by_text("Branch after step 2").wait_for()
    step(page, 2, 2)
    page.keyboard.press("v")
    assert page.get_by_label("Shown").input_value() == "x_0"
    page.keyboard.press("End")
    step(page, 2, steps)
    idle(page)
    page.keyboard.press("d")
    assert page.get_by_text("Branch after step 2").is_hidden()
    page.keyboard.press("l")
    page.get_by_text("the rate of the bound").wait_for()
    assert axe(page) == []
    slowest = page.evaluate(
        """() => Math.max(...Array.from({length: 40}, (_, i) => {
            const input = document.querySelector(".time input");
            input.value = 12 * i;
            input.dispatchEvent(new Event("input"));
            return studio.scrubbed;
        }).slice(5))"""
    )
    assert slowest < 200, (
        "a step of the scrubber takes a millisecond or two; this is a ceiling for a busy machine"
    )


def test_by_pointer_with_two_samplers_and_what_is_saved(page: Any, runs: Path) -> None:
    show(page)
    page.get_by_label("Sampler 1").select_option("ddim")
    step(page, 1, int(page.get_by_label("Steps 1").input_value()))
    page.get_by_label("Steps 1").select_option("10")
    step(page, 1, 10)
    idle(page)
    page.get_by_role("button", name="Second sampler").click()
    page.get_by_label("Sampler 2").select_option("heun")
    step(page, 2, 10)
    idle(page)
    box = page.locator(".track").nth(0).bounding_box()
    page.mouse.click(box["x"] + 30, box["y"] + 20)
    assert page.get_by_label("Time, as log").input_value() in {str(i) for i in range(8)}
    page.get_by_role("button", name="Save the way").click()
    until(lambda: "trajectories" in page.locator("#saved").inner_text(), 60)
    paths = [Path(p) for p in page.locator("#saved").inner_text().removeprefix("saved ").split(", ")]
    seed = int(page.get_by_label("Seed of the noise").input_value())
    sample = api.open(runs / RUN).sample(1, seed=seed, sampler="ddim", steps=10)
    assert (np.asarray(Image.open(paths[2])) == figures.pixels(sample.x)[0]).all()
    assert figures.read_recipe(paths[0])["sampler"] == "ddim"
    drawn = page.locator("#command").inner_text()
    page.reload()
    step(page, 1, 0)  # where the playhead was, of frames that the server has kept
    page.keyboard.press("End")
    step(page, 2, 10)
    until(lambda: "heun" in page.locator("#command").inner_text(), 60)
    page.get_by_role("button", name="Second sampler").click()
    assert page.locator("#command").inner_text() == drawn, "of the way that is left"


def test_cancelled_it_keeps_its_frames(page: Any) -> None:
    show(page)
    page.get_by_label("Steps 1").select_option("1000")
    until(lambda: int(page.locator(".large").nth(1).get_attribute("data-step") or 0) > 30, 90)
    page.keyboard.press("Escape")
    page.get_by_text("frames are kept").wait_for()
    idle(page)
    page.get_by_role("button", name="Save the way").click()
    until(lambda: "trajectories" in page.locator("#saved").inner_text(), 60)
    file = page.locator("#saved").inner_text().split(", ")[1]
    with np.load(file) as kept:
        assert 1 < len(kept["t"]) < 100 and kept["sigma"][-1] > 0
    page.get_by_label("Steps 1").select_option("10")
    step(page, 1, 10)


def test_at_420_pixels_and_with_less_motion(browser: Any, studio: Any, axe: Any) -> None:
    with opened(browser, studio, viewport=dict(width=420, height=800), reduced_motion="reduce") as page:
        show(page)
        page.get_by_role("button", name="Draw", exact=True).click()
        step(page, 1, int(page.get_by_label("Steps 1").input_value()))
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        assert axe(page) == []


def test_a_dropped_picture_restores_the_way(page: Any, runs: Path, tmp_path: Path) -> None:
    traced = api.open(runs / RUN).trace(seed=77, sampler="ddim", steps=10)
    traced.save(tmp_path / "w.png")
    page.set_default_timeout(45_000)
    until(lambda: page.evaluate(f"studio.runs.some(r => r.path === '{RUN}' && r.answers.length)"), 90)
    data = list((tmp_path / "w.png").read_bytes())
    page.evaluate("(bytes) => studio.dropped(new File([new Uint8Array(bytes)], 'w.png'))", data)
    until(lambda: page.locator("input[aria-label='Seed of the noise']").count() == 1, 90)
    until(lambda: page.get_by_label("Seed of the noise").input_value() == "77", 90)
    step(page, 1, 10)
