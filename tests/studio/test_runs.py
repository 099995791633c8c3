"""The screen Runs in a real browser, by keys and by pointer; trainings that outlive pages, workers and the
studio."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from likeness.core import Refusal
from likeness.studio import curves, library
from likeness.studio.jobs import Jobs

from .conftest import end, opened, start, until


def text(page, selector):
    return page.locator(selector).first.inner_text()


def state_of(page, run):
    return page.evaluate("run => window.studio.runs.find(r => r.path === run)?.state", run)


def test_the_table_is_the_folders_and_a_run_opens_by_keys(page, runs, axe):
    names = [b.inner_text() for b in page.locator("[data-run]").all()]
    assert names == sorted(p.parent.name for p in runs.glob("*/config.json"))
    until(lambda: page.evaluate("window.studio.runs.every(r => r.answers.length)"), 60)
    assert "decode" in page.evaluate("window.studio.runs.find(r => r.path === 'vae-digits').answers")
    page.locator("[data-run]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.locator("section.panel h2").wait_for()
    assert text(page, "section.panel h2") == names[-1]
    until(lambda: page.locator("canvas.w-film").get_attribute("data-frame"))
    assert text(page, "#command").startswith("likeness train vae digits ")
    assert axe(page) == []


def test_the_film_has_every_kept_step_and_a_reload_keeps_the_place(page, runs):
    kept = sorted(int(p.stem) for p in (runs / "vae-digits" / "samples").glob("*.png") if p.stem.isdigit())
    page.locator("[data-run='vae-digits']").click()
    scrubber = page.locator("input[aria-label*='frame']").first
    until(lambda: scrubber.get_attribute("max") == str(len(kept) - 1))
    scrubber.focus()
    page.keyboard.press("Home")
    until(lambda: page.locator("canvas.w-film").get_attribute("data-frame") == "0")
    assert f"step={kept[0]}" in page.url
    page.reload()
    until(lambda: page.locator("canvas.w-film").get_attribute("data-frame") == "0")
    assert page.evaluate("window.studio.run.path") == "vae-digits"


def test_two_runs_are_pinned_beside_each_other(page):
    for name in ("vae-digits", "ddpm-digits"):
        page.locator(f"[data-run='{name}']").focus()
        page.keyboard.press("p")
    until(lambda: page.locator("section.panel").count() == 2)
    page.locator("[data-run='pixelcnn-digits']").focus()
    page.keyboard.press("p")
    until(lambda: page.locator("section.panel[aria-label='run pixelcnn-digits']").count() == 1)
    assert page.locator("section.panel").count() == 2, "two at most"


def test_a_dropped_picture_of_training_restores_its_run_and_step(page, runs):
    first = sorted((runs / "vae-digits" / "samples").glob("0*.png"))[0]
    drop(page, first)
    until(lambda: page.evaluate("window.studio.run?.path") == "vae-digits", 60)
    assert f"step={int(first.stem)}" in page.url
    until(lambda: page.locator("canvas.w-film").get_attribute("data-frame") == "0")


def test_a_dropped_file_without_a_recipe_is_refused_in_a_sentence(page, tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x80\x04cos\nsystem\n")
    drop(page, tmp_path / "x.png")
    page.locator(".failed").wait_for(timeout=60_000)
    assert "carries no recipe" in text(page, ".failed") and "Traceback" not in text(page, ".failed")


def drop(page, file: Path) -> None:
    page.evaluate(
        """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
            const how = {dataTransfer: data, bubbles: true, cancelable: true};
            document.getElementById("work").dispatchEvent(new DragEvent("drop", how));
        }""",
        [file.name, list(file.read_bytes())],
    )


@pytest.mark.parametrize(
    "how", [dict(width=420, height=800), dict(width=640, height=400)], ids=["420 px", "200 %"]
)
def test_nothing_is_cut_off_on_a_phone_or_at_200_percent(browser, studio, how, axe):
    with opened(browser, studio, viewport=how, reduced_motion="reduce") as page:
        page.locator("[data-run='vae-digits']").click()
        page.locator("section.panel h2").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#menu").click()
        assert page.locator("#nav a").first.is_visible()
        assert axe(page) == []


def test_keys_are_listed_do_not_clash_and_can_be_turned_off(page):
    page.keyboard.press("?")
    assert "go to Runs" in text(page, "#dialog")
    page.locator("#letters").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") != "search"
    page.evaluate("localStorage.clear(); window.studio.keys.letters = true")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("vae?")
    assert page.locator("[data-run]").count() == 0 and not page.locator("#dialog").is_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("ddpm")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("window.studio.run?.path") == "ddpm-digits")
    clash = "studio.keys.add([{key: 'n', label: 'x', run() {}}])"
    clash = f"() => {{ try {{ {clash}; return '' }} catch (e) {{ return e.message }} }}"
    assert "taken" in page.evaluate(clash)


def test_a_training_outlives_its_page_and_the_studio_and_a_killed_one_shows_its_last_lines(browser, tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    served = start(root)
    try:
        with opened(browser, served) as page:
            page.keyboard.press("n")
            page.locator("form.panel").wait_for(timeout=60_000)
            page.locator("form.panel summary").click()
            for name, value in (("size", "8"), ("width", "8"), ("latent", "2"), ("images", "100000000")):
                page.locator(f"form.panel input[name={name}]").fill(value)
            page.locator("form.panel input[type=number]").first.fill("")
            until(lambda: "--latent 2" in text(page, "form.panel code"))
            shown = text(page, "form.panel code")
            page.locator("form.panel button[type=submit]").focus()
            page.keyboard.press("Enter")
            run = "vae-digits"
            until(lambda: state_of(page, run) == "training" and page.evaluate("studio.runs[0].seen") > 0, 240)
            assert library.read_json(root / run / "config.json")["options"]["latent"] == 2
            assert text(page, "#command").startswith(shown.split(" --")[0])
            job = page.evaluate("studio.jobs[0]")
            end(served)
            assert os.kill(job["pid"], 0) is None, "it goes on"
            page.locator("#lost").wait_for()
            page.faults.clear()  # those of the lost connection
            again = start(root)
            assert again.port == served.port
            served = again
            until(
                lambda: page.evaluate("studio.stats.connections") == 2 and state_of(page, run) == "training",
                120,
            )
            assert page.evaluate("studio.jobs[0].pid") == job["pid"]
            page.faults.clear()
            os.kill(job["pid"], signal.SIGKILL)
            until(lambda: state_of(page, run) == "failed")
            page.locator("section.panel .failed").wait_for()
            assert "killed by signal 9" in text(page, "section.panel .failed")
            page.get_by_role("button", name="Resume").click()
            until(lambda: state_of(page, run) == "training", 120)
            page.get_by_role("button", name="Pause").click()
            until(lambda: state_of(page, run) == "paused", 120)
    finally:
        for one in Jobs(root).all():
            if one["pid"]:
                os.kill(one["pid"], signal.SIGKILL)
        end(served)


# Without a browser


def test_a_job_is_done_or_failed_with_its_lines_and_a_new_object_sees_the_same(tmp_path):
    jobs = Jobs(tmp_path)
    number = jobs.start(["data", "--json"], "x", 0)
    until(lambda: Jobs(tmp_path).all()[0]["state"] == "done", 60)
    jobs.start(["nosuchverb"], "y", 5)
    failed = until(lambda: (one := Jobs(tmp_path).all()[0])["state"] == "failed" and one, 60)
    assert failed["code"] == 2 and "there is no verb" in "".join(failed["lines"]) and failed["run"] == "y"
    for bad in ("..", "000099", "1/../2"):
        with pytest.raises(Refusal, match="no training"):
            jobs.stop(bad)
    with pytest.raises(Refusal, match="does not run"):
        jobs.stop(number)


def test_a_number_that_another_process_has_now_is_not_the_training(tmp_path):
    folder = tmp_path / ".studio" / "jobs" / "000001"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(dict(command=["x"], run="r")))
    (folder / "pids.json").write_text(json.dumps(dict(training=dict(pid=os.getpid(), start="0"))))
    assert Jobs(tmp_path).all()[0]["state"] == "failed"


def test_a_curve_keeps_its_peaks_in_few_points(tmp_path):
    points = [(float(i), 1.0 if i != 5003 else 99.0) for i in range(20_000)] + [(2e4, float("nan"))]
    small = curves.envelope(points)
    assert len(small["at"]) <= curves.POINTS and max(small["high"]) == 99.0 and min(small["low"]) == 1.0
    lines = [
        dict(seen=64 * i, losses=dict(loss=1 / i), time=dict(seconds=2.0 * i, memory_mb=5)) for i in (1, 2, 3)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"seen": 25')
    of = curves.of(tmp_path)
    assert of["loss"]["mean"] == [1, 0.5, 1 / 3] and of["images/s"]["mean"] == [32, 32]
    assert of["memory, MB"]["at"] == [64, 128, 192]


def test_findings_are_those_that_last_with_the_flags_that_help(tmp_path):
    lines = [
        dict(
            seen=10,
            look="log",
            name="mode collapse",
            text="mode collapse: few.  Train anew with --r1 0.1 --r2 0.1, or --pack 2",
        ),
        dict(seen=20, look="log", name="silence", text="silence: none"),
        dict(seen=30, look="log", name="silence", text=""),
    ]
    (tmp_path / "doctor.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one, other = library.findings(tmp_path)
    assert one["remedies"] == ["--r1 0.1 --r2 0.1", "--pack 2"] and one["until"] is None
    assert one["text"] == "mode collapse: few." and other["until"] == 30


def test_a_remedy_fits_a_fork_where_the_fork_itself_can_be_made(runs, tmp_path):
    from likeness.core import Refusal
    from likeness.studio.screens import forks
    from likeness.studio.worker import Desk
    from likeness.training import fork

    def made(changes):
        options = {k: v for k, v in changes.items() if k != "rate"}
        try:
            fork.make(
                runs / "gan-digits",
                tmp_path / "fork",
                options,
                {k: changes[k] for k in changes if k == "rate"},
            )
        except Refusal:
            return False
        shutil.rmtree(tmp_path / "fork")
        return True

    remedies: list = [dict(pack=2), dict(rate=1e-4), dict(spectral=True), dict(game="hinge"), dict(r1=2)]
    asked = dict(run="gan-digits", remedies=[*remedies, dict(game="no such"), dict(rate="high")])
    (answer,) = forks.fits(Desk(runs), asked, {})
    assert answer.data["fits"] == [*map(made, remedies), False, False]
    assert answer.data["fits"][:4] == [False, True, False, True]
    for wrong in (dict(asked, remedies=3), dict(asked, remedies=[[1]]), dict(asked, run="../x")):
        with pytest.raises(Refusal):
            list(forks.fits(Desk(runs), wrong, {}))


def test_damaged_folders_are_rows_or_none_and_never_an_error(tmp_path, runs):
    for name, config in (
        ("a", "{"),
        ("b", "[]"),
        ("c", '{"model": 3, "training": [], "spec": "x"}'),
        ("d", '{"agent": "ppo"}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "log.jsonl").write_bytes(b"\xff\n[1]\n{")
    (tmp_path / "link").symlink_to(runs / "vae-digits")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "config.json").write_text("{}")
    rows = library.Table(tmp_path, library.Catalogue()).rows()
    assert [r["path"] for r in rows] == ["a", "b", "c", "d"] and [r["kind"] for r in rows][-1] == "agent"


def test_what_models_say_is_asked_once_for_all_studios(tmp_path, monkeypatch):
    """Of the same likeness; a file of it that has changed, or a damaged memory, makes the next one ask."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    asked: list = []

    def answer(code, **how):
        asked.append(code[4:-1])
        said = json.dumps(dict(models=[dict(name=n, answers=["sample"]) for n in code[4:-1]]))
        return subprocess.CompletedProcess(code, 0, said, "")

    monkeypatch.setattr(subprocess, "run", answer)
    for _ in range(2):
        one = library.Catalogue()
        one.ask(one.names)
        assert one.answers(tmp_path, "vae") == ["sample"] and len(one.known) == len(one.names)
    assert asked == [list(one.names)]
    (kept,) = (tmp_path / "studio").iterdir()
    kept.write_text('{"vae": 3')
    one = library.Catalogue()
    one.ask(["vae"])
    one.ask([str(tmp_path / "method.py")])
    assert asked[1:] == [["vae"], [str(tmp_path / "method.py")]]
    assert list(library.remembered(one.names)) == ["vae"], "files of runs are no models of likeness"
    stamp = library._stamp
    monkeypatch.setattr(library, "_stamp", lambda file: stamp(file) + file.name.startswith("vae"))
    assert library.remembered(one.names) == {}


def test_a_run_in_training_is_told_by_its_lock_which_nobody_tries(tmp_path):
    from likeness.storage import lock

    (tmp_path / "r").mkdir()
    held = lock.take(tmp_path / "r")
    assert library.in_training(tmp_path / "r", library.locks())
    os.close(held)
    if Path("/proc/locks").exists():
        assert not library.in_training(tmp_path / "r", library.locks())


def test_the_command_of_a_run_makes_the_same_run(runs, tmp_path, monkeypatch):
    from likeness import cli
    from likeness.studio.local import Runs

    own = Runs(runs)
    own.catalogue.ask(["vae"])
    command = own.made_by(runs / "vae-digits", str(tmp_path / "again"))
    assert cli.main([*command, "--no-report", "--json"]) == 0
    was, now = (library.read_json(f / "config.json") for f in (runs / "vae-digits", tmp_path / "again"))
    assert all(was[k] == now[k] for k in ("model", "options", "training", "data", "spec"))
    shutil.rmtree(tmp_path / "again")
