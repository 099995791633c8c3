"""The doctor's rules on runs broken on purpose, and the same runs with one remedy; its silence on healthy
ones; thresholds on made-up numbers.

Of self-supervised runs see test_ssl.py.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from string import Template

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness import api, data
from likeness.cli import main
from likeness.core import Diverged
from likeness.data import Data
from likeness.evaluation.scores import load_scores, save_scores
from likeness.metrics import neighbours
from likeness.metrics.card import Score
from likeness.reports import terminal
from likeness.runs.run import Run
from likeness.training import doctor, symptoms
from likeness.training.loop import Step, fit

POINTS = dict(hidden=64, depth=2, latent=4)
HEALTHY = dict(game="relativistic", r1=0.1, r2=0.1)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes begin at half the usual number of batches."""
    monkeypatch.setattr(doctor, "FIRST", 256)


@cache
def points() -> Data:
    return data.load("ring:4000")


def trained(folder: Path, name: str, images: Data, batches: int, options: dict, **training: object) -> Run:
    """A run that the doctor has watched."""
    training = dict(batch=64, warmup=0) | training
    run, _ = small_run(name, folder, images, options=options, images=batches * training["batch"], **training)
    for _ in doctor.watch(run, images, fit(run, images)):
        pass
    return run


def on_ring(folder: Path, batches: int, **options: object) -> Run:
    training = {k: options.pop(k) for k in ("rate", "seed") if k in options}
    return trained(folder, "gan", points(), batches, POINTS | options, **(dict(rate=1e-3) | training))


def found(run: Run) -> dict[str, doctor.Noted]:
    """The first finding of each name."""
    return {noted.name: noted for noted in reversed(doctor.history(run))}


def now(run: Run, images: Data) -> dict[str, symptoms.Finding]:
    return {f.name: f for f in doctor.examine(run, images, run.model, doctor.drawn(run.model, images))}


# Runs that are well


def test_a_healthy_game_is_left_alone(tmp_path):
    run = on_ring(tmp_path, 1100, **HEALTHY)
    assert doctor.history(run) == [] and now(run, points()) == {} and run.notes == []
    assert not (run.folder / doctor.FILE).exists()


def test_a_healthy_vae_is_left_alone(tmp_path, soon):
    images = toy(400, held_out=80)
    run = trained(tmp_path, "vae", images, 260, {}, batch=32, rate=2e-3)
    assert doctor.history(run) == [] and now(run, images) == {}


def test_a_critic_under_a_penalty_is_left_alone(tmp_path):
    run = on_ring(tmp_path, 5 * 550, game="wasserstein", gradient_penalty=0.1, k=5, hidden=128)
    assert doctor.history(run) == [] and now(run, points()) == {}


@pytest.mark.parametrize(
    "name, options, batches",
    [("gan", dict(width=16, latent=16, r1=1.0), 800), ("r3gan", {}, 300), ("vqvae", dict(codes=64), 400)],
)
def test_a_healthy_model_of_images_is_left_alone(tmp_path, soon, name, options, batches):
    digits = data.load("digits")
    run = trained(tmp_path, name, digits, batches, options, rate=1e-3)
    assert doctor.history(run) == [] and now(run, digits) == {}


# Runs that are ill, and the same with one option


PAGE = Path(__file__).parents[1] / "docs" / "adversarial.md"


def broken_on_purpose() -> Iterator[tuple[list[str], str, str]]:
    """What docs/adversarial.md has of each failure: the words of its command, what it is called, and the
    option that mends it."""
    page = PAGE.read_text().split("### Break it", 1)[1].split("\n## ", 1)[0]
    shell = dict(re.findall(r'^    (\w+)="(.*)"$', page, re.MULTILINE))
    for command, name, remedy in re.findall(
        r"^\| `(.*?)` " r"\| ([\w " r"]+): .* \| " r"`(.*?)` \|$", page, re.MULTILINE
    ):
        yield Template(command).substitute(shell).split(), name, remedy


@pytest.fixture
def fifty_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that docs/adversarial.md makes, beside which we are."""
    monkeypatch.chdir(tmp_path)
    exec(
        textwrap.dedent(PAGE.read_text().split("`fifty` is ", 1)[1].split("\n\n", 1)[1].split("\n## ", 1)[0]),
        {},
    )


def trained_as(words: list[str]) -> tuple[Run, Data]:
    assert main(["train", *words, "--no-report"]) == 0
    trained = api.open(words[2])
    return trained.run, trained.data


@pytest.mark.parametrize(
    "words, name, remedy",
    list(broken_on_purpose()),
    ids=lambda it: " ".join(it) if isinstance(it, list) else None,
)
def test_each_failure_of_the_docs_is_named_and_one_option_mends_it(fifty_digits, words, name, remedy):
    ill, data = trained_as(words)
    said = {name: noted.text for name, noted in found(ill).items()} | {
        name: finding.text for name, finding in now(ill, data).items()
    }
    assert remedy in said[name]
    well, data = trained_as([*words[:2], "runs/well", *words[3:], *remedy.split()])
    assert well.seen >= doctor.FIRST * doctor.stride(well), "what it draws has been looked at"
    lasting = {noted.name for noted in doctor.history(well) if noted.until is None}
    assert name not in lasting and name not in now(well, data)


def test_the_docs_have_every_failure_of_games_and_codes():
    names = [name for _, name, _ in broken_on_purpose()]
    assert len(names) == 12 and set(names) == {
        *(
            "vanishing gradient",
            "discriminator too strong",
            "zero generator gradient",
            "oscillation",
            "divergence",
        ),
        *("mode collapse", "dropped modes", "memorisation", "active units", "codes used"),
    }


def test_a_flow_draws_eight_images_over_again_and_not_yet_at_half_the_time(tmp_path, soon):
    digits = data.load("digits")
    few = replace(digits, train=np.random.default_rng(0).permutation(digits.train)[:8])
    training = dict(batch=16, warmup=0, rate=4e-3, images=9600)
    run, _ = small_run("flowmatching", tmp_path, few, options=dict(steps=20, optimizer="adam"), **training)
    for step in fit(run, few):
        if step.seen == 4800:
            assert "memorisation" not in now(run, few)
    said = now(run, few)["memorisation"]
    assert "levels from a training image" in said.evidence and said.remedies == ("--images 4800",)


# Rules on numbers that are known


def lines(n: int = 20, images: int = 3200, **terms: object) -> list[symptoms.Line]:
    """A line of the log each so many images; a term is a number or a function of the line's place."""
    value = lambda v, i: float(v(i) if callable(v) else v)  # noqa: E731
    names = {
        k.replace("_", " "): v
        for k, v in (dict(told_apart=0.7, pull=0.5, on_real=0.2, on_fake=-0.2) | terms).items()
    }
    return [dict(seen=images * (i + 1), losses={k: value(v, i) for k, v in names.items()}) for i in range(n)]


def test_saturation_asks_for_a_lead_that_lasts():
    assert symptoms.saturation(lines(told_apart=1, pull=0.01)).name == "vanishing gradient"
    assert symptoms.saturation(lines(told_apart=1)).name == "discriminator too strong"
    assert symptoms.saturation(lines(told_apart=0.96)) is None
    assert symptoms.saturation(lines(told_apart=0.6, pull=0.01)) is None, "the generator is ahead"
    assert symptoms.saturation(lines(told_apart=lambda i: 1 if i > 16 else 0.6, pull=0.01)) is None
    assert symptoms.saturation(lines(5, told_apart=1)) is None, "too early"
    assert symptoms.saturation([dict(seen=64, losses=dict(model=1.0))] * 20) is None, "no game at all"


def test_silence_is_a_gradient_that_moves_nothing_and_lasts():
    assert symptoms.silence(lines(told_apart=0.5, generator_gradient=0)).name == "zero generator gradient"
    assert symptoms.silence(lines(told_apart=0.5, generator_gradient=lambda i: 0 if i % 4 else 6e-5)), (
        "a unit that wakes up for a batch"
    )
    assert "90.0% of pairs" in symptoms.silence(lines(told_apart=0.9, generator_gradient=0)).evidence
    assert symptoms.silence(lines(told_apart=0.5, generator_gradient=1e-7)) is None, "Adam moves by that"
    assert symptoms.silence(lines(told_apart=1, pull=1e-9, generator_gradient=0)) is None, (
        "that is a vanishing gradient"
    )
    assert symptoms.silence(lines(told_apart=0.5, generator_gradient=lambda i: 0 if i > 16 else 0.1)) is None
    assert (
        symptoms.silence(lines(told_apart=0.5)) is None
        and symptoms.silence(lines(5, told_apart=0.5, generator_gradient=0)) is None
    )


def test_oscillation_is_told_from_noise_and_its_period_is_found():
    wave = lines(
        told_apart=lambda i: 0.5 + 0.2 * math.sin(2 * math.pi * (i + 0.5) / 5),
        on_real=lambda i: 0.1 * i * math.sin(2 * math.pi * (i + 0.5) / 5),
        on_fake=0,
    )
    said = symptoms.oscillation(wave)
    period = float(said.evidence.split("about ")[1].split(" images")[0].replace(",", ""))
    assert period == pytest.approx(5 * 3200, rel=0.15) and "growing" in said.evidence
    rng = np.random.default_rng(0)

    def guess(images: int) -> list:
        return lines(images=images, told_apart=lambda i: 0.5 + rng.normal(0, 0.5 / math.sqrt(images)))

    noise = [symptoms.oscillation(guess(images)) for images in (400, 3200) for _ in range(200)]
    assert not any(noise), "a perfect equilibrium is a guess, with the noise of counting"
    assert symptoms.oscillation(lines(told_apart=lambda i: 0.75 + 0.2 * (-1) ** i)) is None, (
        "ahead by more or by less is no turn"
    )


def test_divergence_passes_over_a_spike_and_what_is_small():
    grown = symptoms.divergence(lines(model=1, model_gradient=lambda i: 2.0**i))
    assert grown.name == "divergence" and "from 1 to " in grown.evidence
    assert symptoms.divergence(lines(model=1, model_gradient=lambda i: 1e9 if i == 19 else 1)) is None
    assert symptoms.divergence(lines(model=1, model_gradient=lambda i: 1e-9 * 2**i)) is None
    assert symptoms.divergence(lines(generator=lambda i: 1e3 * i, generator_gradient=1)) is None, (
        "a critic may add any number to all its values"
    )
    assert "gap" in symptoms.divergence(lines(on_real=lambda i: 1e3 * i, generator_gradient=1)).evidence


def test_collapse_sees_sameness_and_twins_and_no_blur():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(128, 3, 4, 4))
    assert symptoms.collapse(rng.normal(size=(128, 3, 4, 4)), real) is None
    assert symptoms.collapse(0.6 * real[::-1], real) is None
    assert "variance" in symptoms.collapse(0.1 * rng.normal(size=(128, 3, 4, 4)), real).evidence
    twins = np.repeat(rng.normal(size=(16, 3, 4, 4)), 8, 0)
    assert "next to it" in symptoms.collapse(twins + 1e-3 * rng.normal(size=twins.shape), real).evidence


def test_dropped_modes_are_counted_against_what_is_usual():
    real = np.repeat(np.arange(10), 100)
    assert symptoms.dropped(np.arange(128) % 10, real, "classes") is None
    said = symptoms.dropped(np.arange(128) % 8, real, "classes")
    assert "2 of 10 classes are missing" in said.evidence and "8, 9" in said.evidence
    assert symptoms.dropped(np.zeros(128, int), np.repeat([0, 1], [999, 1]), "classes") is None, (
        "a kind so rare may be absent by chance"
    )


def test_by_heart_is_the_share_of_two_gaussians_and_not_only_significant():
    rng = np.random.default_rng(0)
    images = lambda ahead, m=16: rng.normal(ahead, 1, (m, symptoms.TOGETHER)).mean(1)  # noqa: E731
    assert "in 92% of pairs" in symptoms.by_heart(images(2.0, 4000), images(0.0, 4000), images(0.0)).evidence
    assert symptoms.by_heart(images(0.5, 4000), images(0.0, 4000), images(0.0)) is None, "certain, but little"
    assert not any(symptoms.by_heart(images(0.0), images(0.0), images(0.0)) for _ in range(200))
    assert symptoms.by_heart(images(9.0, 1), images(0.0, 1), images(0.0)) is None


def test_copies_from_behind_are_copies_where_images_are_mirrored():
    data = toy(n=64)
    behind = data.x[data.train[:32], :, :, ::-1]
    named = [{f.name for f in doctor.beside_training(data, behind, mirror) if f} for mirror in (True, False)]
    assert "memorisation" in named[0] and "memorisation" not in named[1]


def test_copies_of_training_images_are_found_and_blurred_ones_are_not():
    near = lambda d: neighbours.Nearest(np.full((128, 1), d), np.zeros((128, 1), np.int64))  # noqa: E731
    assert symptoms.copying(near(5.0), near(40.0)).name == "memorisation"
    assert symptoms.copying(near(20.0), near(40.0)) is None


def test_a_missing_class_of_images_is_found_by_their_neighbours():
    digits = data.load("digits")
    fine = digits.x[doctor.chosen(digits.held_out, 128)]
    no_zeros = np.resize(digits.held_out[digits.y[digits.held_out] != 0], 128)
    assert not list(filter(None, doctor.beside_training(digits, fine)))
    (said,) = filter(None, doctor.beside_training(digits, digits.x[no_zeros]))
    assert said.name == "dropped modes"
    assert said.evidence == "1 of 10 classes are missing from 128 samples (0)"


def advised(run: Run, *remedies: str) -> tuple[str, ...]:
    return next(doctor.suited(run, [None, symptoms.Finding("", "", remedies)])).remedies


def test_only_what_a_model_has_and_is_not_yet_set_is_advised(tmp_path):
    run, _ = small_run("gan", tmp_path / "a", options=dict(k=5, r1=0.1), rate=3e-3)
    asked = ("--game relativistic --r1 0.1 --r2 0.1", "--k 1", "--pack 1", symptoms.SLOWER, "--pills 3")
    assert advised(run, *asked) == ("--game relativistic --r2 0.1", "--k 1", "--rate 0.0002"), (
        "the model's own, from which this one is far"
    )
    narrow, _ = small_run("vae", tmp_path / "b", options=dict(latent=2), images=128)
    assert advised(narrow, *symptoms.VARIED) == ("--latent 16", "--images 256")
    wide, _ = small_run("vae", tmp_path / "c", options=dict(latent=12), images=128)
    assert advised(wide, *symptoms.VARIED) == ("--images 256",)
    flat, _ = small_run("gan", tmp_path / "d", points(), options=dict(latent=1))
    assert advised(flat, *symptoms.VARIED)[0] == "--latent 2"


def test_nobody_is_told_to_take_less_of_what_helps(tmp_path):
    strong = dict(r1=10.0, r2=10.0, pack=4, d_rate=0.25)
    run, _ = small_run("gan", tmp_path / "a", options=strong, batch=16)
    assert advised(run, symptoms.CALM, "--pack 2", "--d-rate 1", "--game relativistic --r1 1") == (
        "--r1 30 --r2 30",
        "--game relativistic",
    )
    for augment, told in (
        ("none", ("--augment gentle", "--augment full")),
        ("translation", ("--augment gentle", "--augment full")),
        ("full", ()),
    ):
        changed, _ = small_run("gan", tmp_path / augment, options=dict(augment=augment))
        assert advised(changed, *symptoms.CHANGED[:2], "--d-rate 1") == told
    for gamma, told in ((0.0, "--gamma 1"), (0.1, "--gamma 0.3")):
        r3, _ = small_run("r3gan", tmp_path / f"gamma{gamma}", options=dict(gamma=gamma), images=128)
        assert advised(r3, *symptoms.VARIED) == (told, "--images 256")
    cheap, _ = small_run("vae", tmp_path / "c", options=dict(beta=0.3))
    assert advised(cheap, "--beta 1") == ()
    for clip, told in ((0.0, ("--clip 1",)), (0.3, ()), (5.0, ("--clip 1",))):
        run, _ = small_run("ae", tmp_path / f"clip{clip}", clip=clip)
        assert advised(run, "--clip 1") == told


# Watching


def notes_of(run: Run) -> str:
    path = run.folder / doctor.FILE
    return path.read_text() if path.exists() else ""


def test_watching_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 4)
    images = data.load("digits")
    alone, _ = small_run("gan", tmp_path / "a", images, options=dict(r1=1.0), images=20 * 16)
    list(fit(alone, images))
    watched, _ = small_run("gan", tmp_path / "b", images, options=dict(r1=1.0), images=20 * 16)
    for _ in doctor.watch(watched, images, fit(watched, images)):
        list(doctor.examine(watched, images, watched.model, doctor.drawn(watched.model, images)))
    one, two = alone.tensors(), watched.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_a_killed_run_notes_nothing_twice_and_all_that_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 8)
    options = dict(
        options=POINTS | dict(game="wasserstein", d_rate=100.0),
        images=160 * 64,
        batch=64,
        rate=1e-3,
        warmup=0,
        ema=64,
    )
    straight, _ = small_run("gan", tmp_path / "a", points(), **options)
    list(doctor.watch(straight, points(), fit(straight, points())))
    broken, _ = small_run("gan", tmp_path / "b", points(), **options)
    for stop in (40, 80):
        list(itertools.islice(doctor.watch(broken, points(), fit(broken, points())), stop))
        broken.save()
        # steps that no state remembers
        list(itertools.islice(doctor.watch(broken, points(), fit(broken, points())), 40))
        broken.close()
        broken = Run.resume(tmp_path / "b")
    list(doctor.watch(broken, points(), fit(broken, points())))
    assert notes_of(straight) == notes_of(broken) and len(doctor.history(straight)) >= 2
    assert broken.notes == [], "what was said before is not said again"


def test_a_finding_is_said_once_however_often_it_comes_and_goes(tmp_path):
    run, _ = small_run("ae", tmp_path)
    notes, ill = doctor.Notes(run), [symptoms.Finding("fever", "39 degrees", ("--rest 1",))]
    for seen, findings in enumerate((ill, ill, [], ill, ill, [], [])):
        notes.take("log", seen, findings)
    notes.take("probe", 9, [])
    assert run.notes == ["fever: 39 degrees.  Train anew with --rest 1"]
    assert [(n.since, n.until) for n in doctor.history(run)] == [(0, 2), (3, 5)]
    with (run.folder / doctor.FILE).open("a") as f:
        f.write('{"seen": 12, "lo')
    assert len(doctor.history(run)) == 2, "a line that a crash has torn"


@pytest.mark.parametrize("old, new", symptoms.RENAMED.items())
def test_findings_of_before_are_shown_under_their_names_of_today(tmp_path, old, new):
    """In logs, where one that still lasts is not noted anew, and in scores."""
    run, _ = small_run("ae", tmp_path / "r")
    line = dict(seen=0, look="log", name=old, text=f"{old}: 98% of pairs: all")
    (run.folder / doctor.FILE).write_text(json.dumps(line) + "\n")
    assert doctor.history(run) == [(new, f"{new}: 98% of pairs: all", 0, None)]
    doctor.Notes(run).take("log", 1, [symptoms.Finding(new, "98% of pairs: all")])
    assert len(doctor.history(run)) == 1 and run.notes == []
    card, other = Score("findings", 1, warnings=(line["text"],)), Score("x", 1, warnings=(line["text"],))
    save_scores(tmp_path, [card, other])
    assert [one.warnings for one in load_scores(tmp_path)] == [(f"{new}: 98% of pairs: all",), other.warnings]


def test_whoever_trains_hears_of_it_once(tmp_path, capsys):
    run, images = small_run("ae", tmp_path)
    with terminal.training(run, images, {}) as tick:
        tick(Step(16, {}))
        run.notes.append("fever: 39 degrees")
        tick(Step(32, {}))
        tick(Step(48, {}))
        run.notes.append("chills")
    said = capsys.readouterr().err
    assert said.count("fever: 39 degrees") == 1 and said.count("chills") == 1


def test_what_cannot_be_written_does_not_end_the_training(tmp_path):
    run, _ = small_run("ae", tmp_path)
    (run.folder / doctor.FILE).mkdir()
    notes = doctor.Notes(run)
    notes.take("log", 1, [symptoms.Finding("fever", "39 degrees")])
    assert run.notes[0] == "fever: 39 degrees" and len(run.notes) == 2


def test_train_writes_it_down(tmp_path):
    with pytest.raises(Diverged):
        api.train(
            "vae",
            "digits",
            tmp_path / "r",
            images=64_000,
            batch=32,
            rate=10.0,
            clip=0.0,
            warmup=0,
            progress=False,
        )
    ill = api.train(
        "gan",
        "ring:4000",
        tmp_path / "s",
        images=6400,
        game="wasserstein",
        d_rate=100.0,
        rate=1e-3,
        hidden=64,
        depth=2,
        progress=False,
    )
    assert [json.loads(line)["name"] for line in notes_of(ill.run).splitlines()] == ["divergence"]


def test_a_remedy_is_one_that_the_model_accepts(tmp_path):
    """Each with a base that refuses one of the flags; --beta of ddpm is the name of a schedule."""
    for options, refused in ((dict(norm="batch"), symptoms.CALM), (dict(smooth=0.1), symptoms.PAIRED)):
        run, _ = small_run("gan", tmp_path / refused[2:5], options=options)
        assert advised(run, refused, "--d-rate 0.5") == ("--d-rate 0.5",)
    run, _ = small_run("ddpm", tmp_path / "ddpm")
    assert advised(run, "--beta 1", "--clip 0.5") == ("--clip 0.5",)


def test_a_generator_that_moves_seldom_is_given_time(tmp_path):
    """Of twenty steps of D a line has the last, and a hundred steps of G take 2,000 batches."""
    run, _ = small_run("gan", tmp_path, points(), options=dict(k=20), batch=64)
    guess = np.random.default_rng(0)
    told = lambda i: guess.binomial(160, 0.5) / 160  # noqa: E731
    assert not any(
        "oscillation" in {f.name for f in doctor.consult(run, lines(100, told_apart=told))} for _ in range(50)
    )
    won = lines(48, told_apart=1.0)
    assert not list(doctor.consult(run, won[:40])) and [f.name for f in doctor.consult(run, won)] == [
        "discriminator too strong"
    ]


def test_guesses_of_packs_are_as_noisy_as_there_are_packs():
    rng = np.random.default_rng(0)
    wild = [
        [
            dict(
                seen=3200 * i,
                losses={"told apart": rng.binomial(200, 0.5) / 200, "on real": 0.0, "on fake": 0.0},
            )
            for i in range(20)
        ]
        for _ in range(100)
    ]
    assert not any(symptoms.oscillation(log, 16) for log in wild) and any(
        symptoms.oscillation(log) for log in wild
    )


def test_a_critic_under_a_penalty_may_tell_all_apart():
    assert symptoms.saturation(lines(told_apart=1, pull=1)).name == "discriminator too strong"
    assert symptoms.saturation(lines(told_apart=1, pull=1), critic=True) is None


def test_a_generator_hears_those_that_look_through_a_network_when_the_other_has_won():
    assert symptoms.saturation(lines(told_apart=1, pull=0.01, told_apart_by_features=1)) is None
    for pull in (1, 1e-9):
        assert (
            symptoms.silence(
                lines(told_apart=1, pull=pull, generator_gradient=0, told_apart_by_features=1)
            ).name
            == "zero generator gradient"
        )


def test_looking_at_packs_of_many_does_not_end_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 4)
    data = toy(400, size=8, held_out=160)
    run, _ = small_run("gan", tmp_path, data, options=dict(net="mlp", pack=16), images=256, batch=32)
    assert list(doctor.watch(run, data, fit(run, data)))[-1].seen == 256
    assert (
        len(list(doctor.logits(run, data, run.model.players()[0], data.held_out)))
        == 160 // (16 * symptoms.TOGETHER)
        == 1
    )
