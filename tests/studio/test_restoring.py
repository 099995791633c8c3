"""What is there after a reload: nothing of it depends on what comes first, and no half of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from likeness.studio import local, protocol
from likeness.studio.hub import Client, Hub

from .conftest import Served, opened, until
from .test_wire import in_a_thread


@pytest.fixture(scope="module")
def page(browser: Any, studio: Served) -> Iterator[Any]:
    """One page for all of these."""
    with opened(browser, studio) as one:
        one.set_default_timeout(120_000)
        until(lambda: one.evaluate("studio.runs.length && studio.runs.every(r => r.answers.length)"), 120)
        yield one


def test_the_table_of_runs_comes_again_where_it_had_to_make_room(tmp_path, monkeypatch):
    """Of a key that nobody watches the hub may forget the value; whoever opens a page then gets it all the
    same, though nothing in it has changed."""
    monkeypatch.setattr(local, "EVERY", 0.01)
    own = local.Runs(tmp_path)

    async def table(hub: Hub) -> dict[str, Any]:
        got = asyncio.get_running_loop().create_future()

        async def send(frame: bytes) -> None:
            header, _ = protocol.unpack(frame)
            if header["type"] == "value" and not got.done():
                got.set_result(header["data"])

        client = Client(send)
        serving = asyncio.ensure_future(hub.serve(client))
        hub.take(client, protocol.pack(dict(type="watch", key="runs")))
        try:
            return await asyncio.wait_for(got, 20)
        finally:
            hub.leave(client)
            await serving

    async def story() -> None:
        hub = Hub(tmp_path, {}, (own.keep_table,))
        await hub.open()
        first = await table(hub)
        del hub.slots["runs"]
        assert await table(hub) == first
        await hub.close()

    in_a_thread(story())


def test_a_screen_is_there_when_its_run_is_known_however_late_that_is(page):
    """As after a reload on a busy machine: the address names a run, and its row comes after the screen."""
    empty = page.evaluate(
        """async () => {
            const all = {runs: studio.runs, jobs: []};
            const count = () => document.querySelectorAll(".empty").length;
            const mute = all.runs.map((r) => ({...r, answers: []})), seen = [];
            studio.hash.set({run: "vae-digits"});
            studio.table({runs: [], jobs: []});
            await studio.go("samples");
            seen.push(count(), document.querySelector(".empty").innerText.includes("No run is open"));
            studio.table({runs: mute, jobs: []});
            seen.push(document.querySelector(".empty").innerText.includes("cannot be asked"));
            studio.table(all);
            seen.push(count());
            return seen;
        }"""
    )
    assert empty == [1, True, True, 0]
    page.locator("[data-samples=ready]").wait_for(state="attached")


def test_a_page_begins_with_300_kilobytes_and_the_rest_comes_when_it_is_opened(page):
    page.evaluate("studio.go('runs')")
    page.reload()
    page.locator("html[data-ready=yes]").wait_for(state="attached")
    loaded = """() => performance.getEntries().filter((e) => e.decodedBodySize)
        .map((e) => [new URL(e.name).pathname, e.decodedBodySize])"""
    first = dict(page.evaluate(loaded))
    page.evaluate("studio.go('map')")
    page.locator("[data-map=ready]").wait_for(state="attached")
    assert set(dict(page.evaluate(loaded))) - set(first) >= {"/page/screens/map.js", "/page/map/plot.js"}
    assert page.evaluate("studio.screens.length") >= 10
    assert "/page/screens/runs.js" in first and sum(first.values()) <= 300_000


def test_a_page_that_did_not_wait_for_the_table_begins_anew_with_it(page):
    page.evaluate("studio.go('compare')")
    page.evaluate(
        "() => { document.querySelector('#work').innerHTML = ''; studio.late = true; "
        "studio.table({runs: studio.runs, jobs: []}); }"
    )
    page.locator(".s-picks input[value='vae-digits']").wait_for()


def test_an_answer_has_ended_when_its_last_value_is_on_the_page(page):
    """Pictures are decoded while the word that the answer has ended is there already."""
    seen = page.evaluate(
        """async () => {
            let drawn = 0;
            const slow = () => new Promise((resolve) => setTimeout(() => resolve(drawn++), 100));
            await studio.ask("diffusion", "about", {run: "ddpm-digits"}, {key: "slow", onValue: slow});
            return drawn;
        }"""
    )
    assert seen == 1


def test_what_is_kept_and_stopped_while_the_connection_ends_is_not_lost(page):
    """Between the end of a connection and the word of it the socket takes messages and sends them nowhere."""
    kept = page.evaluate(
        """async () => {
            studio.wire.socket.close();
            studio.keep("while-it-closed", [7]);
            const ends = studio.ask("nowhere", "m", {}, {key: "n"}).then(() => "stopped", () => "refused");
            studio.stop("n");
            return [await studio.recall("while-it-closed"), await ends, studio.wire.held.has("n")];
        }"""
    )
    assert kept[0] == [7] and kept[1] in ("stopped", "refused") and kept[2] is False


KEPT = """async ([screen, method, answer]) => {
    const {ask, keep} = studio, kept = [];
    studio.keep = (key, value) => kept.push([key, value]);
    studio.ask = function (s, m, ...rest) {  // slow, or replaced by the question of another tab
        if (s !== screen || m !== method) return ask.call(this, s, m, ...rest);
        const later = () => (answer ? ask.call(this, s, m, ...rest) : null);
        return new Promise((resolve) => setTimeout(() => resolve(later()), 500));
    };
    try {
        await studio.go(screen);
        await new Promise((resolve) => setTimeout(resolve, 50));
        while (!document.querySelector("#work h1")) await new Promise((resolve) => setTimeout(resolve, 20));
        await new Promise((resolve) => setTimeout(resolve, 900));
    } finally {
        Object.assign(studio, {ask, keep});
    }
    return kept.map(([, value]) => value);
}"""


def test_no_half_of_a_diffusion_is_kept_while_it_is_restored(page):
    page.evaluate("studio.open('ddpm-digits')")
    page.evaluate("studio.go('diffusion')")
    page.locator("[data-restored=yes]").wait_for(state="attached")
    page.keyboard.press("Space")
    steps = page.get_by_label("Steps 1").input_value()
    until(lambda: page.locator(".large").nth(1).get_attribute("data-step") == steps, 120)
    until(lambda: (page.evaluate("studio.recall('diffusion:state:ddpm-digits')") or {}).get("drawn"), 60)
    kept = page.evaluate(KEPT, ["diffusion", "again", True])
    assert all(value["drawn"] for value in kept), kept
    page.locator("[data-restored=yes]").wait_for(state="attached")


def test_a_way_that_was_being_drawn_is_drawn_to_its_end_after_a_reload(page):
    page.evaluate("studio.open('ddpm-digits')")
    page.evaluate("studio.go('diffusion')")
    page.locator("[data-restored=yes]").wait_for(state="attached")
    page.get_by_label("Steps 1").select_option("250")
    until(
        lambda: page.evaluate("studio.recall('diffusion:state:ddpm-digits')")["lanes"][0]["steps"] == 250, 60
    )
    page.reload()
    page.locator("[data-restored=yes]").wait_for(state="attached")
    page.keyboard.press("End")
    until(lambda: page.locator(".large").nth(1).get_attribute("data-step") == "250", 120)
    page.get_by_label("Steps 1").select_option("10")
    until(
        lambda: page.evaluate("studio.recall('diffusion:state:ddpm-digits')")["lanes"][0]["steps"] == 10, 60
    )


def test_the_last_choice_is_kept_though_the_screen_is_left_at_once(page):
    page.evaluate("studio.open('ddpm-digits')")
    page.evaluate("studio.go('diffusion')")
    page.locator("[data-restored=yes]").wait_for(state="attached")
    kept = page.evaluate(
        """async () => {
            const scrub = document.querySelector(".time input"), last = async () =>
                (await studio.recall("diffusion:state:ddpm-digits")).at;
            for (const at of [40, 41, 42]) {
                scrub.value = at;
                scrub.dispatchEvent(new Event("input"));
            }
            await studio.go("runs");
            return last();
        }"""
    )
    assert kept == 42


def test_pixels_keep_where_they_were_if_the_answer_is_another_tabs(page):
    page.evaluate("studio.open('pixelcnn-digits')")
    assert page.evaluate(KEPT, ["pixels", "draw", False]) == []


def test_a_playground_is_not_begun_anew_because_its_process_has_ended(page):
    """Its session lies in a file, which a new one would overwrite: it is asked for again."""
    asked = page.evaluate(
        """async () => {
            const {ask} = studio, {Failed} = await import("/page/wire.js"), asked = [];
            studio.ask = async (s, m, a) => {
                asked.push(m);
                if (m === "models") return {models: [], laws: [], failures: []};
                throw new Failed({what: "The process that computes has ended.", why: "", do: ""});
            };
            try {
                await studio.go("playground");
                const soon = () => new Promise((resolve) => setTimeout(resolve, 20));
                while (!document.querySelector(".failed")) await soon();
            } finally {
                studio.ask = ask;
            }
            return asked;
        }"""
    )
    assert asked == ["models", "act", "models", "act"]
    assert page.locator(".failed").count() == 1
    page.evaluate("studio.fail(null)")
