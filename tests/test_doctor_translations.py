"""What the doctor says of models that make images of others: each failure on a run that is broken on purpose,
and silence on the same run unbroken; thresholds on made-up images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conftest import small_run
from likeness.data import Data
from likeness.runs.run import Run
from likeness.training import doctor, symptoms, translated
from likeness.training.loop import fit
from likeness.training.translated import Translated

FILE = str(Path(__file__).parent / "broken_translator.py")


def patterns(n: int = 96, size: int = 16, seed: int = 0, colours: int = 1) -> np.ndarray:
    """Smooth blobs, uint8 (n, C, S, S), darker than not."""
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(n, colours, 4, 4, generator=g).square()
    wide = F.interpolate(low, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    grain = 0.03 * torch.rand(n, 1, size, size, generator=g)
    return ((0.9 * wide + grain) * 255).clamp(0, 255).byte().numpy()


def tinted(a: np.ndarray) -> np.ndarray:
    """Another gain for each colour."""
    gains = np.array([1.0, 0.6, 0.3]).reshape(1, 3, 1, 1)
    return (a * gains + 20).clip(0, 255).astype(np.uint8)


def data_of(x: np.ndarray, held: int = 32) -> Data:
    rows = np.arange(len(x))
    return Data("blobs", f"blobs {x.shape} {int(x.sum())}", x, rows[held:], rows[:held])


def pairs() -> Data:
    a = patterns()
    return data_of(tinted(a)).with_pairs(a)


def domains() -> Data:
    return data_of(tinted(patterns())).with_domain(data_of(np.repeat(patterns(seed=5), 3, 1)))


def trained(folder: Path, data: Data, learns: str, images: int = 3200) -> Run:
    run, _ = small_run(FILE, folder, data, options=dict(learns=learns), images=images, rate=1e-2, warmup=0)
    for _ in doctor.watch(run, data, fit(run, data)):
        pass
    return run


@pytest.fixture
def soon(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "FIRST", 64)


BROKEN = {
    "negative": ("inverted colours", "of targets"),
    "source": ("copies its source", "nothing is changed"),
    "grey": ("collapsed output", "each becomes the same image"),
    "checkers": ("checkerboard", "a period of 2 pixels"),
}


@pytest.mark.parametrize("learns", BROKEN)
def test_a_run_that_is_broken_on_purpose_is_named_with_a_remedy(tmp_path, soon, learns):
    data = pairs()
    run = trained(tmp_path / "run", data, learns)
    name, evidence = BROKEN[learns]
    noted = {line.name: line.text for line in doctor.history(run)}
    assert noted.keys() == {name}, noted
    (now,) = [f for f in doctor.examine(run, data, run.model) if f.name == name]
    assert now.text == noted[name] or now.name == name
    assert evidence.replace("of targets", "of their targets") in now.evidence
    assert any(r.startswith("--images") for r in now.remedies) and "--parts full" not in now.remedies
    assert ("--identity 5" in now.remedies) == (name == "inverted colours"), (
        "remedies are options that it has"
    )


def test_a_healthy_run_is_left_alone(tmp_path, soon):
    data = pairs()
    run = trained(tmp_path / "run", data, "target")
    assert doctor.history(run) == [] and list(doctor.examine(run, data, run.model)) == []


def test_a_discriminator_that_wins_for_certain_is_named_and_one_that_is_ahead_is_not(tmp_path, monkeypatch):
    """Beside an error of pixels a game may be lost without harm (99 % told apart by logits 3 apart)."""
    monkeypatch.setattr(symptoms, "RECENT", 4)
    monkeypatch.setattr(doctor, "EARLY", 20)
    data = pairs()
    run = trained(tmp_path / "run", data, "game", images=4800)
    noted = {line.name: line.text for line in doctor.history(run)}
    assert (
        "discriminator too strong" in noted
        and "of pairs apart" in noted["discriminator too strong"]
        and "--rate" in noted["discriminator too strong"]
    )

    def lines(real: float, **more: float) -> list[dict]:
        losses = {"told apart": 0.995, "pull": 0.9, "on real": real, "on fake": -1.5} | more
        return [dict(seen=i, losses=losses) for i in range(8)]

    assert symptoms.saturation(lines(1.7)) is not None and symptoms.saturation(lines(1.7, L1=0.1)) is None
    assert symptoms.saturation(lines(6.0, L1=0.1)).name == "discriminator too strong"


@pytest.mark.parametrize("learns, name", [("negative", "inverted colours"), ("source", "copies its source")])
def test_of_domains_it_is_what_the_two_sets_look_like_that_counts(learns, name):
    """Nobody knows what belongs together, so the outputs here are made by hand."""
    data = domains()
    a, b = (torch.from_numpy(x).float() / 127.5 - 1 for x in (data.other.x, data.x))
    right = torch.from_numpy(tinted(data.other.x[:, :1])).float() / 127.5 - 1
    output = {"negative": -right, "source": a}[learns]
    found = {f.name for f in translated.findings(Translated(a, output, b, False)) if f}
    assert found == {name}
    assert not any(translated.findings(Translated(a, right, b, False)))
    # B is inverted: then it is the upright output that is wrong, and the negative is right
    inverted = Translated(a, -right, -b, False)
    assert not any(translated.findings(inverted))
    assert {f.name for f in translated.findings(inverted._replace(output=right)) if f} == {"inverted colours"}


# Thresholds


def blobs(n: int = 64, size: int = 32, seed: int = 0) -> Tensor:
    return torch.from_numpy(patterns(n, size, seed)).float() / 127.5 - 1


def test_luminances_go_together_apart_or_not_at_all():
    a = blobs()
    assert translated.along(a, 0.3 * a + 0.2) == pytest.approx(1, abs=1e-4)
    assert translated.along(a, -a) == pytest.approx(-1, abs=1e-4)
    assert abs(translated.along(a, blobs(seed=9))) < 0.2 and translated.along(a, 0 * a) == 0


def test_a_symmetric_domain_has_no_polarity():
    noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert translated.polarity(noise, other) == 0
    assert translated.polarity(blobs(), 0.5 * blobs(seed=3)) == 1
    assert translated.polarity(blobs(), -blobs(seed=3)) == -1
    sky = noise + torch.linspace(1, -1, 8).view(8, 1)
    assert translated.polarity(sky, other + torch.linspace(1, -1, 8).view(8, 1)) == 1
    assert translated.polarity(sky, other + torch.linspace(-1, 1, 8).view(8, 1)) == -1


def test_copies_are_those_that_had_something_to_change():
    a = blobs()
    assert translated.copied(Translated(a, a, -a, True)) is not None
    assert translated.copied(Translated(a, a, a + 0.001, True)) is None, "the target is the source"
    assert translated.copied(Translated(a, a, -a, True, enlarged=True)) is None
    assert translated.copied(Translated(a, -0.5 * a, -a, True)) is None
    assert translated.copied(Translated(a, a, blobs(seed=4), False)) is None, "both domains are one"


def test_a_blur_is_not_collapsed_and_a_little_noise_is():
    a = blobs()
    blurred = F.avg_pool2d(a, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert translated.collapsed(Translated(a, blurred, a, True)) is None
    one = a[:1].expand_as(a) + 0.01 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    assert "each becomes the same image" in translated.collapsed(Translated(a, one, a, True)).evidence


@pytest.mark.parametrize("period, size", [(2, 16), (2, 32), (4, 32), (4, 64)])
def test_a_checkerboard_is_found_at_its_period_and_real_grids_are_left_alone(period, size):
    a = blobs(size=size)
    board = a.clone()
    board[..., ::period, ::period] += 0.06
    assert f"a period of {period} pixels" in translated.checkered(board, a).evidence
    assert translated.checkered(a, a) is None and translated.checkered(board, board) is None
    faint = a.clone()
    faint[..., ::period, ::period] += 0.002
    assert translated.checkered(faint, faint.round(decimals=1)) is None
    noisy = a + 0.1 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    assert translated.checkered(noisy, a) is None, "noise has all frequencies alike"


def test_the_amplitude_of_a_known_wave_is_in_levels():
    """cos(pi x) of 3 levels in every row: at (0, 1/2) its power is that of one exponential."""
    wave = torch.zeros(4, 1, 32, 32) + 3 * translated.translation.LEVEL * torch.cos(
        torch.pi * torch.arange(32)
    )
    share, amplitude = translated.peak(wave, 2)
    assert amplitude == pytest.approx(3, rel=1e-4) and share > 1e6


def test_style_and_content_that_weigh_nothing_are_read_from_the_log():
    def lines(content: float, style: float) -> list[dict]:
        return [dict(seen=i, losses=dict(content=content, style=style)) for i in range(5)]

    guess = {"style": 2.0}
    unheard = translated.weighed(lines(0.01, 1.95), guess)
    assert unheard.name == "style weight too low" and unheard.remedies[0].startswith("--style-weight")
    lost = translated.weighed(lines(5.0, 0.02), guess)
    assert lost.name == "content weight too low" and lost.remedies[0].startswith("--content-weight")
    assert translated.weighed(lines(0.3, 0.4), guess) is translated.weighed(lines(1.1, 0.12), guess) is None
    assert translated.weighed(lines(0.9, 1.9), guess) is None, "nothing is learnt yet: another rule says so"
    assert translated.weighed(lines(0.01, 1.95)[:2], guess) is None
    assert translated.weighed([dict(seen=1, losses=dict(L1=1.0))] * 5, guess) is None


def test_nothing_is_probed_of_models_that_make_no_image_of_another(tmp_path):
    data = data_of(tinted(patterns()))
    run, _ = small_run("vae", tmp_path / "run", data)
    assert translated.probe(data, run.model, draws=True) is None


def test_a_denoiser_is_probed_where_drawing_is_asked_for(tmp_path):
    data = pairs()
    run, _ = small_run("flowmatching", tmp_path / "run", data, options=dict(net="mlp", steps=2))
    assert translated.probe(data, run.model, draws=False) is None
    made = translated.probe(data, run.model, draws=True)
    assert made.paired and made.output.shape == made.target.shape == made.source.shape == (32, 3, 16, 16)


def test_looking_changes_nothing_and_words_that_are_no_numbers_are_no_remedy(tmp_path):
    assert doctor.asked("--adversarial cgan", dict(adversarial=0.5)) == {}
    assert doctor.asked("--identity 0", dict(identity=5.0)) == dict(identity=0.0)
    assert doctor.asked("--identity 0", dict(identity=0.0)) == {}
    data = replace(pairs(), held_out=np.arange(4))
    run, _ = small_run(FILE, tmp_path / "run", data)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    made = translated.probe(data, run.model, draws=False)
    assert len(made.output) == len(data.train), "too few are held out, so training images are looked at"
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
