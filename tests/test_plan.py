"""A training in so many minutes: its plan against closed forms, by clocks that tick when they are asked; and
that from then on no clock decides a bit."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import likeness
from conftest import small_run, toy
from likeness import models
from likeness.cli import catalogue, main
from likeness.cli import train as train_verb
from likeness.core import Refusal, Training
from likeness.engine import distributed
from likeness.reports import progress, terminal
from likeness.runs.run import Config, Run, read_config
from likeness.training import loop, plan, session, throughput

FREE = 10.0
"""minutes in which steps are so many that the usual batch is kept"""


def config(**training: object) -> Config:
    spec = toy().spec
    return Config("vae", spec, Training(**(dict(batch=128, warmup=10_000, precision="fp32") | training)))


def costs(fixed: float, each: float, moves: int = 1):
    """Instead of a clock: what a step of a batch takes, by a line."""
    asked = []

    def measure(config: Config, seconds: float) -> tuple[float, int]:
        asked.append(config.training.batch)
        return fixed + each * config.training.batch, moves

    measure.asked = asked
    return measure


def test_the_line_through_two_steps():
    cost = plan.Cost.of(128, 0.1 + 128 * 0.01, 8, 0.1 + 8 * 0.01)
    assert cost.fixed == pytest.approx(0.1) and cost.each == pytest.approx(0.01)
    assert cost.of_step(32) == pytest.approx(0.42)
    assert plan.Cost.of(128, 1.0, 8, 1.5) == (1.0, 0.0), "noise: fewer images do not take longer"
    assert plan.Cost.of(128, 1.0, 8, 0.0).fixed >= 0, "noise: a batch does not cost less than nothing"


def test_images_are_what_fits_into_most_of_the_minutes():
    measure = costs(0.0, 0.0001)
    done = plan.planned(config(), plan.LEAST, (), dict(minutes=FREE), measure)
    steps = int(plan.SPARE * 60 * FREE / 0.0128)
    assert measure.asked == [128], "enough steps as it is"
    assert (done.training.images, done.training.batch, done.training.warmup) == (128 * steps, 128, 10_000)
    assert done.plan == dict(minutes=FREE, images=128 * steps, images_per_second=10_000.0)
    assert plan.planned(
        config(), plan.LEAST, (), dict(minutes=FREE), costs(0.0, 0.0001, 5)
    ).training.images == (5 * 128 * steps), "a player that moves five times takes five batches a step"


def test_a_warm_up_is_a_share_of_a_short_training_and_as_usual_in_a_long_one():
    measure = costs(0.0, 0.0)
    for budget in (dict(images=20_000), {}):
        short = replace(config(images=20_000), plan={})
        assert plan.planned(short, plan.LEAST, {"images"}, budget, measure).training.warmup == 1_000
    assert plan.planned(config(images=10**6), plan.LEAST, {"images"}, {}, measure).training.warmup == 10_000
    typed = plan.planned(config(images=20_000), plan.LEAST, {"images", "warmup"}, {}, measure).training
    assert typed.warmup == 10_000 and not measure.asked, "nothing is measured where images are counted"
    for name in catalogue.NAMES:
        usual = models.load(name).defaults
        assert usual.warmup <= plan.WARMUP * usual.images, "the defaults are what they were"


def test_too_few_steps_are_made_more_by_smaller_batches_where_these_are_faster():
    # of a quarter of the steps that there should be
    minutes = 128 * 0.01 * throughput.FEWEST / 4 / plan.SPARE / 60
    for least in (plan.LEAST, plan.LEAST_COMPARED, 128):
        measure = costs(0.0, 0.01)
        few = plan.planned(config(), least, (), dict(minutes=minutes), measure)
        assert few.training.batch == max(32, least) and measure.asked == [128, least][: 1 + (least < 128)]
        if least < 32:
            assert few.training.images // few.training.batch == pytest.approx(throughput.FEWEST, abs=1)
        shorter = plan.planned(config(), least, (), dict(minutes=minutes / 50), costs(0.0, 0.01))
        assert shorter.training.batch == least
    for typed in ({"batch"}, {"micro"}):
        kept = plan.planned(config(), plan.LEAST, typed, dict(minutes=minutes), costs(0.0, 0.01))
        assert kept.training.batch == 128
    alike = plan.planned(config(), plan.LEAST, (), dict(minutes=minutes), costs(1.28, 1e-4))
    assert alike.training.batch == 128, "a step costs the same whatever it is of"


def test_what_compares_images_and_what_plays_a_game_keeps_larger_batches():
    spec = replace(toy().spec, size=16)
    want = dict(vae=plan.LEAST, simclr=plan.LEAST_COMPARED, r3gan=32, gan=64)
    assert {name: plan.least(models.load(name)(spec=spec)) for name in want} == want


def test_a_step_is_timed_after_the_first_ones_by_the_clock_that_it_is_given():
    data = toy()
    settings = replace(models.load("ae").defaults, batch=16, precision="fp32")
    ticks = itertools.count(0.0, 0.25)
    options = models.load("ae")(spec=data.spec, width=8, latent=4).options()
    known = Config("ae", data.spec, settings, options)
    assert plan.measured(known, 1.0, data, clock=lambda: next(ticks)) == (0.25, 1)
    assert next(ticks) == 0.25 * 5, "asked once before, and after each of four steps"
    game = models.load("gan")(spec=data.spec, k=3, net="mlp", hidden=16, depth=1).options()
    two = replace(known, model="gan", options=game)
    assert plan.measured(two, 0.0, data, clock=lambda: next(ticks))[1] == 3


def test_of_several_processes_one_measures_its_share_alone(monkeypatch):
    data, sizes = toy(), []
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda *_: pytest.fail("nobody answers"))
    step = loop.step
    monkeypatch.setattr(loop, "step", lambda run, d: sizes.append(run.config.training.batch) or step(run, d))
    settings = replace(models.load("ae").defaults, batch=16, precision="fp32")
    options = models.load("ae")(spec=data.spec, width=8, latent=4).options()
    plan.measured(Config("ae", data.spec, settings, options), 0.0, data)
    assert set(sizes) == {8} and distributed.world() == 2


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """A machine on which a step takes ten seconds, whatever it is of; runs are kept apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "measured", lambda config, seconds, data, first=None: (10.0, 1))
    return tmp_path


SMALL = dict(width=4, depth=0, features=8, hidden=8, projection=8, precision="fp32", progress=False)


def states(folder: Path) -> dict[str, torch.Tensor]:
    return Run.resume(folder, lock=False).tensors()


def test_a_rate_that_falls_ends_with_its_plan_and_a_resume_is_exact(slow):
    minutes = 2.0  # 108 seconds of steps
    likeness.train("simclr", "digits", "whole", minutes=minutes, **SMALL)
    whole = read_config(Path("whole"))
    assert whole.training.images == 10 * 128 and whole.training.schedule == "cosine"
    assert loop.pace(whole.training, whole.training.images) == 0.0
    first = session.Wishes.sort(models.load("simclr"), {k: v for k, v in SMALL.items() if k != "progress"})
    for steps in (3, 4, 5):
        with session.begin("simclr", "digits", Path("cut"), first, dict(minutes=minutes)) as (run, data):
            for _ in itertools.islice(loop.fit(run, data, minutes=minutes), steps):
                pass
            run.save()
    a, b = states(Path("whole")), states(Path("cut"))
    assert Run.open(Path("whole")).seen == Run.open(Path("cut")).seen == 1280
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_more_minutes_move_the_end_of_a_schedule(slow, capsys):
    likeness.train("simclr", "digits", "r", minutes=2.0, **SMALL)
    run = Run.resume(Path("r"), lock=False)
    assert plan.extended(run, dict(minutes=2.0)) == run.config == plan.extended(run, {})
    run.seconds = 64.0
    longer = plan.extended(run, dict(minutes=4.0))
    assert longer.training.images == 1280 + int(plan.SPARE * (240 - 64) * 1280 / 64) // 128 * 128
    assert longer.plan["minutes"] == 4.0 and longer.plan["images"] == longer.training.images
    assert plan.extended(run, dict(images=5_000)).training.images == 5_000
    assert plan.extended(run, dict(images=500)) == run.config
    constant = replace(run.config, training=replace(run.config.training, schedule="constant"))
    run.config = constant
    assert plan.extended(run, dict(minutes=4.0)) == constant, "its end decides no bits"
    likeness.train("simclr", "digits", "r", images=1536, **SMALL | dict(progress=True))
    assert "the schedule ends at image 1,536 from now on, and not at 1,280" in capsys.readouterr().err
    assert read_config(Path("r")).training.images == Run.open(Path("r")).seen == 1536
    likeness.train("simclr", "digits", "r", minutes=2.0, **SMALL | dict(progress=True))
    assert "nothing is left to do: r has seen 1,536 images" in capsys.readouterr().err
    with pytest.raises(Refusal, match="--images 1536, not --images 640"):
        likeness.train("simclr", "digits", "r", images=640, **SMALL)


def test_a_schedule_that_the_minutes_cut_short_is_told_with_the_minutes_that_it_takes(tmp_path):
    run, _ = small_run("ae", tmp_path, batch=16, images=1600, schedule="cosine", warmup=0)
    run.seen, run.seconds = 800, 60.0
    said = plan.cut_short(run)
    assert "at 50% of the schedule, at image 800 of 1,600: the rate was still 50%" in said
    minutes = float(said.split("--minutes ")[1].split()[0])
    assert minutes == 2.2  # a minute so far, and another that is planned with nine tenths
    run.config = replace(run.config, plan=dict(minutes=1.0, images=1600, images_per_second=20.0))
    assert plan.extended(run, dict(minutes=minutes)).training.images in range(1600, 1680)
    for run.seen in (0, 1600):
        assert not plan.cut_short(run)


def test_minutes_end_what_has_no_schedule_and_what_has_one(tmp_path):
    run, data = small_run("ae", tmp_path / "a", images=64)
    assert len(list(itertools.islice(loop.fit(run, data, minutes=10), 9))) == 9, "beyond its 4 steps"
    run, data = small_run("ae", tmp_path / "b", images=64, schedule="cosine")
    assert len(list(itertools.islice(loop.fit(run, data, minutes=10), 9))) == 4
    run.seen, run.seconds = 0, 600.0
    assert not list(loop.fit(run, data, minutes=10))


# What is shown


def test_time_left_is_by_the_speed_since_the_first_step_or_by_the_minutes(tmp_path):
    run, _ = small_run("ae", tmp_path, batch=16, images=1600, schedule="cosine")
    left = progress.left(run, {})
    run.seen, run.seconds = 16, 100.0  # a slow first step
    assert left() == ""
    run.seen, run.seconds = 416, 104.0  # 100 images a second
    assert left() == "12 s left"
    assert progress.left(run, dict(minutes=3.0))() == "76 s left", "by the minutes, while no speed is known"
    by_both = progress.left(run, dict(minutes=2.0))
    by_both()
    run.seen, run.seconds = 816, 108.0
    assert by_both() == "8 s left", "the plan ends before the minutes do"
    assert progress.left(run, dict(minutes=1.8))() == "< 1 s left"


def test_terms_bear_their_unit_and_nats_a_dimension_are_shown_in_bits():
    units = {"model": "nats/dim", "rate": "nats", "nats/dim": "nats/dim"}
    assert progress.terms(dict(model=5.545177, rate=13.0, gradient=1.0), units) == (
        "model 8 bits/dim  rate 13 nats  gradient 1"
    )
    gan = {"discriminator": 1.37, "on real": 0.2, "chance": 1.386, "told apart": 0.75, "generator": 0.7}
    assert progress.terms(gan | {"generator gradient": 2.0}, {}) == (
        "discriminator 1.37  told apart 0.75  generator 0.7"
    ), "the doctor reads the rest in the log"
    name, values, unit = progress.measured("nats/dim", np.log([2.0, 4.0]), units)
    assert (name, unit) == ("bound", "bits/dim") and values == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("name", ["vae", "pixelcnn"])
def test_the_log_and_the_card_speak_of_one_number(name, tmp_path):
    """At the first weights, of the same images: the loss as it is shown, and bits_per_dim."""
    run, data = small_run(name, tmp_path)
    batch = data.batch(0, 0, 64)
    with torch.no_grad():
        loss = float(run.student.eval().loss(batch).total)
        bits = float(run.student.bits_per_dim(batch).values.mean())
    _, shown, unit = progress.measured("model", loss, run.model.units)
    assert unit == "bits/dim" and shown == pytest.approx(bits, rel=0.01)
    assert models.load("vae")(spec=data.spec, beta=2.0).units.get("model") is None, "no bound, no unit"


def test_a_part_says_its_share_and_the_time_left_once_that_is_known():
    now = iter([0.0, 0.0, 1.0, 10.0, 10.0, 40.0])
    parts = progress.Parts(lambda: next(now))
    assert [parts.text("drawing", share) for share in (0.0, 0.5, 0.5)] == [
        "drawing",
        " 50%  drawing",
        " 50%  drawing, 10 s left",
    ]
    assert [parts.text("judging", share) for share in (0.0, 1.0)] == ["judging", "judging"]


def test_where_nobody_watches_lines_are_few(capsys):
    hands = [0.0]
    with terminal.stages("scoring", clock=lambda: hands[0]) as told:
        for hands[0], part, share in (
            (1.0, "bits/dim", 0.0),  # too soon
            (5.0, "drawing", 0.0),  # new
            (14.0, "drawing", 0.3),  # too soon
            (25.0, "drawing", 0.5),
            (26.0, "judging", 0.0),  # too soon
        ):
            told(part, share)
    assert capsys.readouterr().err.splitlines() == ["scoring: drawing", "scoring:  50%  drawing, 20 s left"]
    with terminal.stages("scoring", quiet=True, clock=lambda: hands[0]) as told:
        hands[0] = 1e6
        told("drawing", 0.5)
    assert not capsys.readouterr().err


def test_scoring_tells_how_far_it_is(tmp_path):
    from likeness.evaluation import exam
    from likeness.evaluation.kept import Watch

    heard: dict[str, list[float]] = {}
    run, data = small_run("vae", tmp_path)
    watch = Watch(lambda part, share: heard.setdefault(part, []).append(share))
    list(exam.evaluate(run, data, 16, network="none", watch=watch))
    assert heard["drawing 16 samples"] == [0.0, 1.0] and heard["bits/dim"][:2] == [0.0, 1.0]
    assert hash(watch) == hash(Watch()) and watch == Watch(), "who watches is no part of what is kept"


def test_scoring_may_be_skipped_and_a_finished_run_says_so(slow, capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = ["train", "ae", "digits", "r", "--images", "64", "--batch", "32", "--width", "4", "--latent", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(train_verb, "scored_page", interrupted)
        assert main(words) == 0
        err = capsys.readouterr().err
        assert "scoring skipped; the run is saved" in err and "likeness evaluate r" in err
    assert Run.open(Path("r")).seen == 64
    pages = []
    monkeypatch.setattr(
        train_verb, "scored_page", lambda folder, *_: pages.append(folder) or Path(folder, "report.html")
    )
    assert main(words) == 0 and len(pages) == 1, "it is scored now"
    err = capsys.readouterr().err
    assert "nothing is left to do: r has seen 64 images" in err and "--images 128" in err
    Path("r", "scores.json").write_text("[]")
    Path("r", "report.html").write_text("kept")
    assert main(words) == 0 and len(pages) == 1, "it has its scores"
    assert Path("r", "report.html").read_text() == "kept"
    assert main([*words, "--images", "96"]) == 0 and len(pages) == 2
    assert "nothing is left" not in capsys.readouterr().err.split("going on")[-1]


# Presets


def test_a_preset_stands_for_its_options_and_what_is_typed_wins():
    kind = models.load("r3gan")
    known = session.Wishes.sort(kind, dict(preset="photographs", scale=1, size=32))
    assert known.options == dict(features="squeezenet", augment="translation", gamma=0.02, scale=1)
    assert known.training == dict(mirror=True, batch=16, rate=1e-3, schedule="cosine")
    assert known.reading == dict(size=32)


def test_every_preset_names_options_that_there_are():
    for name in catalogue.NAMES:
        kind = models.load(name)
        options = {f.name: f for owner in (kind, Training) for f in fields(owner)}
        for preset in kind.presets.values():
            assert preset.keys() <= options.keys()
            session.Wishes.sort(kind, dict(preset))


def test_help_names_the_presets_as_one_would_type_them(capsys):
    with pytest.raises(SystemExit):
        main(["train", "r3gan", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "--preset NAME photographs: --features squeezenet --augment translation --gamma 0.02" in out
    assert json.loads(json.dumps(catalogue.entry("r3gan").presets)) == models.load("r3gan").presets


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "seconds, chosen",
    [({4: 1.0, 2: 0.5, 1: 0.3}, 1), ({4: 1.0, 2: 0.5, 1: 0.49}, 2), ({4: 1.0, 2: 0.95}, 4)],
)
def test_as_many_threads_as_are_fastest(four_threads, monkeypatch, seconds, chosen):
    measure = lambda config, for_about: (seconds[torch.get_num_threads()], 1)  # noqa: E731
    assert plan.threads(config(), dict(minutes=FREE), measure) == chosen
    assert torch.get_num_threads() == 4, "they are set by whoever asked"
    assert plan.threads(config(), dict(images=100), measure) == 4, "nothing is measured without minutes"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert plan.threads(config(), dict(minutes=FREE), measure) == 4, "they were chosen by hand"


def test_a_run_has_its_own_threads_and_leaves_those_of_the_process(four_threads, monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "threads", lambda *_: 2)
    small = dict(width=4, depth=0, latent=2, precision="fp32", progress=False)
    run = likeness.train("vae", "digits", tmp_path / "v", minutes=0.002, **small)
    assert run.config.facts["threads"] == 2 and torch.get_num_threads() == 4
    longer = run.run.seconds / 60 + 0.02  # however long the first one took on a busy machine
    likeness.train("vae", "digits", tmp_path / "v", minutes=longer, progress=False)
    assert json.loads((tmp_path / "v" / "log.jsonl").read_text().splitlines()[-1])["seen"] > run.run.seen
    assert read_config(tmp_path / "v").facts["threads"] == 2


def test_what_draws_for_long_says_so_where_nobody_watches(capsys):
    hands = [0.0]

    def stages():
        for k in range(8):
            hands[0] += 4.0
            yield SimpleNamespace(share=k / 8)

    assert len(list(terminal.walked(stages(), "drawing samples", clock=lambda: hands[0]))) == 8
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].endswith("drawing samples: 25% after 12 s")
    assert len(list(terminal.walked(stages(), "x", quiet=True, clock=lambda: hands[0]))) == 8
    assert capsys.readouterr().err == ""


def test_what_is_done_for_long_is_said_where_nobody_watches(capsys):
    hands = iter(range(0, 100, 4))
    with terminal.status(clock=lambda: float(next(hands))) as status:
        for k in range(8):
            status(f"[step] {k}")
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3 and lines[0] == "[step] 2"
    with terminal.status(quiet=True) as status:
        status("nothing")
    assert capsys.readouterr().err == ""


def test_nothing_shows_its_progress_to_terminals_alone():
    source = Path(likeness.__file__).parent
    silent = [p.name for p in source.rglob("*.py") if "err.status(" in p.read_text()]
    assert not silent, "terminal.status and terminal.stages say it in pipes as well"
