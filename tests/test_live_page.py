"""The report while a run is being trained: it reloads until the training ends, and costs next to nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import small_run
from likeness.core import DiskTrouble, Training
from likeness.reports import live_page, run_page
from likeness.runs.run import Run
from likeness.training import session, snapshots


def scripts(text: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


def live(text: str) -> bool:
    return bool(scripts(text))


def test_it_reloads_while_a_run_is_trained_and_then_waits_for_scores(tmp_path):
    run, data = small_run("ae", tmp_path / "r")
    page, seen = tmp_path / "r" / run_page.PAGE, []

    def tick(step):
        seen.append((step.seen, page.read_text()))

    with live_page.kept(run, data, dict(images=256), tick) as both:
        assert live(page.read_text()) and "training: 0% of 256 images" in page.read_text()
        session.work(run, data, both, images=256)
    run.close()
    assert [at for at, _ in seen] == list(range(16, 272, 16)) and all(live(text) for _, text in seen)
    last = page.read_text()
    assert live(last) and "trained, and being scored" in last and "Learning curves" in last
    newest = base64.b64encode((tmp_path / "r" / "samples" / "000000000256.png").read_bytes()).decode()
    assert f"data:image/png;base64,{newest}" in last
    (script,) = scripts(last)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in last and "default-src 'none'" in last
    run_page.write(Run.open(tmp_path / "r"), data, [])
    assert not live(page.read_text())


@pytest.mark.parametrize("how", ["stopped", "broken"])
def test_a_training_that_ends_early_leaves_a_page_that_rests(tmp_path, how):
    run, data = small_run("ae", tmp_path / "r")
    with pytest.raises(KeyboardInterrupt), live_page.kept(run, data, dict(images=256), lambda step: None):
        run.seen = 64
        if how == "broken":
            raise KeyboardInterrupt
        with live_page.kept(run, data, dict(images=256), lambda step: None):
            pass
        raise KeyboardInterrupt
    run.close()
    text = (tmp_path / "r" / run_page.PAGE).read_text()
    assert not live(text) and "stopped at 25% of 256 images" in text


def test_pictures_on_the_way_take_a_quarter_of_the_time_and_the_last_one_is_smaller_if_it_must(monkeypatch):
    """By a clock of its own: a step takes a second, and a tile as many as said."""
    clock, taken = [0.0], list[tuple[int, int]]()

    def steps(run):
        for seen in range(128, 128 * 121, 128):
            clock[0] += 1.0
            run.seen = seen
            yield SimpleNamespace(seen=seen)

    def recorded(seconds_a_tile, slower=1.0):
        run = SimpleNamespace(seen=0)
        taken.clear()
        clock[0] = 0.0

        def snapshot(run, data, n):
            taken.append((run.seen, n))
            clock[0] += n * seconds_a_tile * (slower if run.seen == 128 * 120 else 1)

        monkeypatch.setattr(snapshots, "snapshot", snapshot)
        assert len(list(snapshots.record(run, None, steps(run), n=36, clock=lambda: clock[0]))) == 120
        return list(taken)

    crossed = [128 * k for k in (1, 2, 3, 4, 6, 8, 12, 16, 23, 32, 46, 64, 91)]
    assert recorded(0.001) == [(seen, 36) for seen in (*crossed, 128 * 120)]
    slow = recorded(1.0)
    assert slow[0] == (128, 36) and len(slow) == 3, "a second of 36 s would have been half of the time"
    end = 128 * 120
    assert slow[1:] == [(end, 4), (end, 26)], "a quarter of 120 s"
    assert recorded(100.0)[1:] == [(end, snapshots.FEWEST)]
    assert recorded(0.2)[-2:] == [(end, 4), (end, 36)]
    assert recorded(0.2, slower=40)[-1] == (end, 4), "a model that has become slow since the picture before"


def test_pages_take_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    """By a clock of its own: a page takes two seconds, a step one, and there is a snapshot at each."""
    clock, written = [0.0], []

    def draft(run, *_):
        clock[0] += 2.0
        written.append(run.seen)
        return "<head></head>"

    monkeypatch.setattr(
        live_page, "time", SimpleNamespace(monotonic=lambda: clock[0], strftime=str, time=lambda: 0.0)
    )
    monkeypatch.setattr(run_page, "draft", draft)
    (tmp_path / "samples").mkdir()
    training = Training(images=10_000)
    run = SimpleNamespace(
        folder=tmp_path, seen=0, notes=[], seconds=0.0, config=SimpleNamespace(training=training)
    )
    page = live_page.Page(run, None, {})
    page.write(live=True)
    for at in range(1, 1001):
        clock[0] += 1.0
        run.seen = at
        (tmp_path / "samples" / f"{at:012d}.png").touch()
        page.look(at)
    assert written == [0, 200, 400, 600, 800, 1000]  # 200 s of steps for the 2 s of a page


def test_without_a_snapshot_it_is_written_every_half_minute(tmp_path, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr(
        live_page, "time", SimpleNamespace(monotonic=lambda: clock[0], strftime=str, time=lambda: 0.0)
    )
    monkeypatch.setattr(run_page, "draft", lambda run, *_: written.append(clock[0]) or "<head></head>")
    training = Training(images=10_000)
    run = SimpleNamespace(
        folder=tmp_path, seen=0, notes=[], seconds=0.0, config=SimpleNamespace(training=training)
    )
    page = live_page.Page(run, None, {})
    page.write(live=True)
    for at in range(1, 100):
        clock[0] = float(at)
        page.look(at)
    assert np.diff(written).tolist() == [31.0, 31.0, 31.0]


def test_a_page_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    run, data = small_run("ae", tmp_path / "r")

    def full(*_):
        raise DiskTrouble("the disk is full")

    monkeypatch.setattr(live_page.storage, "write", full)
    with live_page.kept(run, data, {}, lambda step: None):
        pass
    monkeypatch.undo()
    run.close()
    assert "the disk is full" in run.notes


def test_whoever_wants_no_report_gets_none(tmp_path):
    run, data = small_run("ae", tmp_path / "r")
    with live_page.kept(run, data, {}, print, off=True) as tick:
        assert tick is print
    run.close()
    assert not (tmp_path / "r" / run_page.PAGE).exists()
