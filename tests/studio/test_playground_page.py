"""The playground in Chromium: by keys and by pointer, narrow and wide, accessible, and back after a
reload."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import opened, until

SLOW = 120
"""seconds that a worker may take to begin, on a machine that does much else"""


def step(page: Any, pane: str = "a") -> int:
    return int(page.locator(f"[data-pane={pane}] .pg-plot").get_attribute("data-step") or 0)


def caption(page: Any) -> str:
    return page.locator(".pg-caption").inner_text()


def plotted(page: Any) -> list[int]:
    """Pixels of the plot that are orange, and that are blue."""
    return page.evaluate(
        """() => {
          const canvas = document.querySelector('.pg-plot'), n = [0, 0];
          const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          for (let i = 0; i < d.length; i += 4) {
            if (d[i] > d[i + 2] + 90) n[0] += 1;
            if (d[i + 2] > d[i] + 70) n[1] += 1;
          }
          return n;
        }"""
    )


@pytest.fixture(scope="module")
def play(browser: Any, studio: Any) -> Any:
    """One page for all tests: a worker begins once."""
    with opened(browser, studio) as page:
        page.set_default_timeout(SLOW * 1000)
        page.goto(f"{studio.address}/#playground")
        page.reload()
        page.locator("[data-pane=a] .pg-plot[data-step]").wait_for()
        yield page


def anew(page: Any, **setup: Any) -> None:
    """A small GAN that a step of is quick; what is typed becomes a choice of the page by hash and keep
    alike."""
    how = dict(model="gan", law="ring", options=dict(hidden=16, depth=1, batch=32)) | setup
    page.evaluate(
        "how => studio.ask('playground', 'play', {key: 'playground', ...how}, {key: 'playground'})", how
    )
    until(lambda: step(page) == 0, SLOW)
    page.locator("#work").focus()


def at_rest(play) -> int:
    """The step that is shown when no answer is under way, which is when the last frame is drawn."""
    until(lambda: play.evaluate("studio.wire.questions.size") == 0, SLOW)
    return step(play)


def test_by_keys_alone_steps_play_and_time(play):
    anew(play)
    play.keyboard.press(".")
    until(lambda: step(play) == 1)
    play.keyboard.press("d")
    until(lambda: step(play) == 2)
    assert "D has looked" in caption(play)
    play.keyboard.press("Shift+G")
    until(lambda: "G has moved" in caption(play))
    play.keyboard.press("Space")
    until(lambda: step(play) > 12, SLOW)
    play.keyboard.press("Space")
    until(lambda: play.locator("[data-do=run]").inner_text() == "Play")
    last, orange = at_rest(play), plotted(play)
    assert min(orange) > 50, "generated points and real ones are drawn"
    play.keyboard.press("ArrowLeft")
    until(lambda: step(play) < last)
    back = step(play)
    until(lambda: "frames back" in play.locator(".pg-time output").inner_text())
    play.keyboard.press("ArrowRight")
    until(lambda: step(play) > back)
    label = play.locator("[data-pane=a] .pg-plot").get_attribute("aria-label")
    assert "modes hit" in label and "D is certain on" in label and "median pull" in label
    play.keyboard.press("b")
    assert play.evaluate("document.activeElement.dataset.pick") == "break"


def test_a_remedy_forks_into_a_second_square_by_key_and_is_taken_by_pointer(play):
    anew(play)
    play.locator("#work").focus()
    play.keyboard.press("f")
    first = play.evaluate("document.activeElement.dataset.remedy")
    assert first == "pair"
    play.keyboard.press("Enter")
    play.locator("[data-pane=b] .pg-plot").wait_for()
    assert "game nonsaturating → relativistic" in play.locator("[data-pane=b] figcaption").inner_text()
    play.locator("[data-do=both]").click()
    until(lambda: step(play) == 1)
    heads = play.locator(".pg-numbers th[scope=col]").all_inner_texts()
    assert heads == ["meter", "A", "B"]
    play.locator("[data-do=keep-b]").click()
    until(lambda: play.locator("[data-pane=b]").count() == 0)
    until(lambda: play.locator("[data-option=game] select").input_value() == "relativistic")


def test_options_are_the_models_own_and_a_refusal_is_a_sentence(play):
    anew(play)
    assert play.locator("[data-option=unroll] input").get_attribute("type") == "range"
    play.locator("[data-option=smooth] input").fill("0.1")
    play.locator("[data-option=game] select").select_option("wasserstein")
    play.locator(".failed").wait_for()
    assert "--smooth is about probabilities" in play.locator(".failed").inner_text()
    play.locator(".failed button", has_text="Close").click()


def test_broken_and_seen_to_be(play):
    play.locator("[data-pick=break]").select_option("dirac")
    until(
        lambda: "closed form" in (play.locator("[data-pane=a] .pg-plot").get_attribute("aria-label") or ""),
        SLOW,
    )
    play.locator("#work").focus()
    for _ in range(3):
        play.keyboard.press(".")
    until(lambda: step(play) >= 1)
    assert play.locator(".pg-rail li:visible").count() == 0
    play.locator("[data-pick=model]").select_option("gan")
    until(lambda: play.locator(".pg-rail li:visible").count() == 5, SLOW)


def test_drawn_by_keys_points_lie_where_the_ink_is(play):
    anew(play)
    play.locator("[data-do=draw]").click()
    pen = play.locator(".pg-pen")
    pen.focus()
    for _ in range(8):
        play.keyboard.press("Shift+ArrowRight")
    play.locator(".pg-drawing button.primary").click()
    until(lambda: play.locator("[data-pick=law]").input_value() == "drawing", SLOW)
    until(lambda: plotted(play)[1] > 20)


def test_a_reload_shows_the_same_session(play):
    anew(play)
    for _ in range(2):
        play.keyboard.press(".")
    until(lambda: step(play) == 2)
    label = play.locator("[data-pane=a] .pg-plot").get_attribute("aria-label")
    play.reload()
    until(lambda: play.locator("[data-pane=a] .pg-plot[data-step]").count() and step(play) == 2, SLOW)
    until(lambda: play.locator("[data-pane=a] .pg-plot").get_attribute("aria-label") == label)


@pytest.mark.parametrize("width, height", [(1280, 800), (640, 400), (420, 900)])
def test_it_is_accessible_and_nothing_is_wider_than_the_window(play, axe, width, height):
    """640 x 400 is 1,280 x 800 at 200 %."""
    play.set_viewport_size(dict(width=width, height=height))
    assert axe(play) == []
    assert play.evaluate("document.documentElement.scrollWidth") <= width
    play.set_viewport_size(dict(width=1280, height=800))
