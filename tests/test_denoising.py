"""What every denoising model answers, by one of them: its code, guidance, edits, and the likelihood by the
flow."""

from __future__ import annotations

import math

import pytest
import torch

from likeness.core import NONE, Batch, Condition, Noise, Refusal, Spec
from likeness.models.edm import EDM
from likeness.models.flowmatching import FlowMatching
from likeness.models.meanflow import MeanFlow
from mixture_truth import THREE, Mixture

POINTS = Spec(2, 1, labels=2, levels=0)


def knowing(law: Mixture, **options: object) -> FlowMatching:
    """A model that knows the law instead of learning it."""
    model = FlowMatching(spec=POINTS, scale=0.25, **options)
    perfect = law.denoiser(model.schedule)
    model.predict = lambda x_t, t, y=None: perfect(x_t, t)
    return model


def drawn(law: Mixture, n: int) -> torch.Tensor:
    return law.draw(n, 7).float().view(n, 2, 1, 1)


def test_the_code_of_a_point_is_noise_and_leads_back_to_it():
    model, x = knowing(THREE, steps=100), drawn(THREE, 400)
    z = model.encode(x)
    assert (
        z.shape == (400, 2)
        and float(z.mean()) == pytest.approx(0, abs=0.1)
        and float(z.std()) == pytest.approx(1, abs=0.1)
    )
    errors = []
    for steps in (10, 20, 40, 80):
        model.steps = steps
        errors.append(float((model.decode(model.encode(x)) - x).norm(dim=1).mean()))
    assert errors[-1] < 0.02 and errors[-1] < errors[0] / 4


def test_the_density_by_the_flow_is_the_laws():
    model, x = knowing(THREE, tolerance=1e-6), drawn(THREE, 60)
    found = model.density(Batch(x, None, Noise(range(60)))).log_p
    assert torch.allclose(found, THREE.log_density(x), atol=5e-3)
    bits = model.bits_per_dim(Batch(x, None, Noise(range(60))))
    assert bits.kind == "estimate" and float(bits.values.mean()) == pytest.approx(
        -float(THREE.log_density(x).mean()) / (2 * math.log(2)), abs=5e-3
    )


def test_bits_by_the_flow_say_how_far_their_solution_is_off() -> None:
    """Of points, and of images with signs and a draw of their own, which both solutions meet."""
    close, x = knowing(THREE, tolerance=1e-6).double(), THREE.draw(30, 7).view(30, 2, 1, 1)
    for tolerance in (1e-3, 1e-4):
        found = knowing(THREE, tolerance=tolerance).bits_per_dim(Batch(x, None, Noise(range(30))))
        off = found.values - close.bits_per_dim(Batch(x, None, Noise(range(30)))).values
        assert found.error is not None and 0.4 < found.error / float(off.square().mean().sqrt()) < 2.5
    model = EDM(spec=Spec(1, 2, levels=17), net="mlp", scale=0.25, likelihood="ode", sigma_min=0.02)
    images = Batch(torch.zeros(12, 1, 2, 2), None, Noise(range(12)))
    chance = float(model.density(images).error.square().mean().sqrt()) / (4 * math.log(2))
    bits = model.bits_per_dim(images)
    assert bits.error is not None and 0 < bits.error < 0.05 * max(chance, 1e-2)
    assert model.bits_per_dim(images[:1]).values[0] == pytest.approx(float(bits.values[0]), abs=1e-5)
    model.likelihood = "bound"
    assert model.bits_per_dim(images).error is None


def test_bits_by_the_flow_and_by_the_bound_of_a_perfect_denoiser_are_the_laws():
    from test_ddpm import on_a_grid

    spec = Spec(2, 1, levels=8)
    law = on_a_grid(spec)
    model = EDM(spec=spec, net="mlp", scale=0.25, sigma_min=0.02, evaluations=64)
    perfect = law.denoiser(model.schedule)
    model.predict = lambda x_t, t, y=None: perfect(x_t, t)
    batch = Batch(law.draw(300).float().view(-1, 2, 1, 1), None, Noise(range(300)))
    bound = model.bits_per_dim(batch)
    model.likelihood = "ode"
    flow = model.bits_per_dim(batch)
    rows = ((batch.x.flatten(1).double() + 1) * 3.5).round().long() @ torch.tensor([8, 1])
    truth = -float(law.w[rows].log2().mean()) / 2
    assert (bound.kind, flow.kind) == ("upper bound", "estimate")
    assert float(flow.values.mean()) == pytest.approx(truth, abs=0.06) and float(
        bound.values.mean()
    ) == pytest.approx(truth, abs=0.15)


class Told(FlowMatching):
    """Knows two Gaussians, one for each class, and their mixture where no class is said."""

    def predict(self, x_t, t, y=None):
        laws = [Mixture([1.0], [[m, 0.0]], [0.04]) for m in (-1.0, 1.0)] + [
            Mixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.04, 0.04])
        ]
        found = torch.stack([law.denoiser(self.schedule)(x_t, t) for law in laws])
        return (
            found[2] if y is None else found[torch.where(y.label == NONE, 2, y.label), torch.arange(len(y))]
        )


def test_a_conditional_model_draws_the_class_it_is_told():
    model = Told(spec=POINTS, scale=0.25, conditional=True)
    *_, x = model.sample(Noise(range(200)), Condition(torch.zeros(200, dtype=torch.long)))
    assert float(x[:, 0].mean()) == pytest.approx(-1, abs=0.05)
    *_, both = model.sample(Noise(range(400)))
    assert float((both[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.1), (
        "where none is said it is drawn"
    )


def test_guidance_moves_from_all_to_the_class_and_beyond():
    model = Told(spec=POINTS, scale=0.25, conditional=True, steps=40)
    y, spreads = Condition(torch.ones(300, dtype=torch.long)), []
    for w in (0.0, 1.0, 3.0):
        model.guidance = w
        *_, x = model.sample(Noise(range(300)), y)
        spreads.append((float((x[:, 0] > 0).float().mean()), float(x[:, 0].std())))
    assert spreads[0][0] == pytest.approx(0.5, abs=0.1), "a guidance of 0 ignores the class"
    assert spreads[1][0] == 1.0 and spreads[1][1] == pytest.approx(0.2, abs=0.03)
    assert spreads[2][0] == 1.0


def test_the_density_is_told_the_class_of_each():
    """Images leave the solver one by one; each keeps its class."""
    model = Told(spec=POINTS, scale=0.25, conditional=True, tolerance=1e-5)
    y = torch.arange(40) % 2
    x = (
        torch.stack(
            [Mixture([1.0], [[m, 0.0]], [0.04]).draw(1, i)[0] for i, m in enumerate((2.0 * y - 1).tolist())]
        )
        .float()
        .view(40, 2, 1, 1)
    )
    found = model.density(Batch(x, Condition(y), Noise(range(40)))).log_p
    want = torch.stack(
        [
            Mixture([1.0], [[m, 0.0]], [0.04]).log_density(x[i : i + 1])[0]
            for i, m in enumerate((2.0 * y - 1).tolist())
        ]
    )
    assert torch.allclose(found, want, atol=2e-2)


def test_guidance_that_has_nothing_to_begin_from_is_refused():
    y = Condition(torch.zeros(2, dtype=torch.long))
    with pytest.raises(Refusal, match="knows no classes"):
        list(knowing(THREE, guidance=2.0).sample(Noise(range(2))))
    with pytest.raises(Refusal, match="--label-dropout 0"):
        list(
            Told(spec=POINTS, scale=0.25, conditional=True, label_dropout=0.0, guidance=2.0).sample(
                Noise(range(2)), y
            )
        )


def test_bounds_are_without_guidance():
    spec = Spec(1, 8, labels=2)
    torch.manual_seed(0)
    model = EDM(spec=spec, scale=0.25, conditional=True)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    batch = Batch(torch.rand(4, 1, 8, 8) * 2 - 1, Condition(torch.tensor([0, 1, 0, 1])), Noise(range(4)))
    plain = model.bits_per_dim(batch).values
    model.guidance = 4.0
    assert torch.equal(model.bits_per_dim(batch).values, plain)
    other = Batch(batch.x, Condition(1 - batch.y.label), Noise(range(4)))
    assert not torch.equal(model.bits_per_dim(other).values, plain), "it is told the class"


def test_what_is_completed_and_redrawn_has_the_class_that_is_said():
    model = Told(spec=POINTS, scale=0.25, conditional=True, steps=30)
    x, y = torch.zeros(60, 2, 1, 1), Condition(torch.ones(60, dtype=torch.long))
    *_, new = model.redraw(x, 1.0, Noise(range(60)), y)
    *_, rest = model.complete(x, torch.zeros(1, 1, dtype=torch.bool), Noise(range(60)), y)
    assert float((new[:, 0] > 0).float().mean()) == 1 and float((rest[:, 0] > 0).float().mean()) == 1


def test_meanflow_is_guided_as_well():
    from likeness.models.meanflow import MeanFlow

    torch.manual_seed(0)
    model = MeanFlow(spec=Spec(1, 8, labels=3), scale=0.25, conditional=True)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    y = Condition(torch.tensor([0, 1, 2]))
    (*_, plain), (*_, again) = model.sample(Noise(range(3)), y), model.sample(Noise(range(3)), y)
    model.guidance = 3.0
    *_, guided = model.sample(Noise(range(3)), y)
    assert torch.equal(plain, again) and not torch.allclose(plain, guided, atol=1e-4)


def test_a_run_of_points_is_judged_and_images_are_reconstructed(tmp_path, monkeypatch, capsys):
    from commands import ask
    from likeness.cli import main

    monkeypatch.chdir(tmp_path)
    small = ["--scale", "0.25", "--precision", "fp32", "--images", "640"]
    assert main(["train", "edm", "ring", "runs/p", "--batch", "64", *small]) == 0
    assert main(["train", "edm", "digits", "runs/d", "--no-report", "--steps", "3", *small]) == 0
    capsys.readouterr()
    found = {
        card["name"]: card
        for card in ask(capsys, "evaluate", "runs/p", "-n", "40")["runs"]["runs/p"]
        if card["of"] == "model"
    }
    assert found["bits/dim"]["kind"] == "estimate" and math.isfinite(found["bits/dim"]["value"])
    assert ask(capsys, "reconstruct", "runs/d", "-n", "2")["n"] == 2
    assert ask(capsys, "edit", "runs/d", "-n", "2", "--strength", "0.01")["n"] == 2


def test_some_classes_are_left_unsaid_in_training():
    model = Told(spec=POINTS, scale=0.25, conditional=True, label_dropout=0.25)
    y = model.condition(
        Batch(torch.zeros(8000, 2, 1, 1), Condition(torch.ones(8000, dtype=torch.long)), Noise(range(8000)))
    )
    assert set(y.label.tolist()) == {1, NONE} and float((y.label == NONE).float().mean()) == pytest.approx(
        0.25, abs=0.02
    )
    with pytest.raises(Refusal, match="class of each image"):
        model.condition(Batch(torch.zeros(2, 2, 1, 1), None, Noise(range(2))))


def test_a_code_keeps_the_class_behind_it():
    model, x = (
        Told(spec=POINTS, scale=0.25, conditional=True, steps=60),
        torch.tensor([[-1.1, 0.1], [0.9, -0.2]]).view(2, 2, 1, 1),
    )
    z = model.encode(x, Condition(torch.tensor([0, 1])))
    assert z.shape == (2, 4) and torch.equal(z[:, 2:], torch.eye(2))
    assert torch.allclose(model.decode(z), x, atol=0.05)
    other = model.decode(torch.cat([z[:, :2], z[:, 2:].flip(1)], 1))
    assert float((other - x)[0, 0]) > 1.5, "the same noise and the other class"
    assert torch.equal(model.encode(x)[:, 2:], torch.zeros(2, 2))


def test_steps_are_spaced_by_what_is_drawn_from():
    """From noise alone as in Karras et al.; from an image, whose strength is a share of the model's own
    clock, evenly; and as is said."""
    flow = FlowMatching(spec=POINTS, scale=0.25, steps=6)
    assert flow.levels() == flow.schedule.levels(6, "karras") and flow.way() == flow.schedule.levels(
        6, "even"
    )
    flow.sampler = "ancestral"
    assert flow.levels() == flow.schedule.levels(6, "even")
    flow.sampler, flow.spacing = "dpm2m", "even"
    assert flow.levels() == flow.schedule.levels(6, "even")
    flow.spacing = "karras"
    assert flow.way() == flow.schedule.levels(6, "karras")
    one = MeanFlow(spec=POINTS, scale=0.25)
    assert [level.t for level in one.levels()] == [1.0, 0.0], "a jump begins at noise alone"


def test_an_image_of_levels_is_drawn_from_a_little_noise_at_once():
    """Points keep every step: of the modes of a ring nothing is left at a ratio of .02."""
    image = FlowMatching(spec=Spec(1, 8), scale=0.25, steps=6)
    assert image.levels() == image.schedule.levels(6, "karras", least=0.02)
    assert image.levels()[-2].ratio == pytest.approx(0.02) and image.levels()[-1].sigma == 0
    codes = FlowMatching(spec=Spec(4, 8, levels=0), scale=0.25, steps=6)
    edm = EDM(spec=Spec(1, 8), scale=0.25)
    assert codes.levels()[-2].ratio < 0.01 and edm.levels()[-2].ratio < 0.01
    image.spacing = "karras"
    assert image.levels()[-2].ratio < 0.01


def test_redrawing_keeps_as_much_as_the_strength_leaves():
    model, x = knowing(THREE, steps=40), torch.tensor([[0.8, -0.4]]).repeat(200, 1).view(200, 2, 1, 1)
    assert list(model.redraw(x, 0.0, Noise(range(200)))) == []
    far = []
    for strength in (0.2, 0.6, 1.0):
        *_, y = model.redraw(x, strength, Noise(range(200)))
        far.append(float((y - x).norm(dim=1).mean()))
    assert far[0] < far[1] < far[2] and far[0] < 0.3
    *_, fresh = model.redraw(x, 1.0, Noise(range(2000))[:200])
    assert float((THREE.member(fresh) == 0).float().mean()) == pytest.approx(0.5, abs=0.12), (
        "at 1 nothing is left of it"
    )


@torch.no_grad()
def test_a_model_of_images_keeps_to_what_an_image_can_be():
    torch.manual_seed(0)
    model = EDM(spec=Spec(1, 8), scale=0.25)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = 5 * torch.randn(4, 1, 8, 8)
    assert (
        float(model.denoise(x, torch.full((4,), 2.0)).abs().max())
        <= 1
        < float(model.predict(x, torch.full((4,), 2.0)).abs().max())
    )
    *_, drawn = model.sample(Noise(range(4)))
    assert float(drawn.abs().max()) <= 1 + 1e-6 and math.isfinite(float(drawn.sum()))


def test_guidance_beside_a_weaker_model_goes_away_from_it():
    """Both know a Gaussian, the weaker a wider one: what is drawn is narrower than either."""
    narrow, wide = (Mixture([1.0], [[0.3, 0.0]], [v]) for v in (0.04, 0.16))
    strong, weak = knowing(narrow, steps=40), knowing(wide)
    model = strong.beside(weak)
    model.guidance = 2.0
    (*_, plain), (*_, guided) = strong.sample(Noise(range(400))), model.sample(Noise(range(400)))
    assert float(plain.std(0)[0]) == pytest.approx(0.2, abs=0.03) and float(guided.std(0)[0]) < 0.6 * float(
        plain.std(0)[0]
    )
    assert float(guided[:, 0].mean()) == pytest.approx(0.3, abs=0.05)
    with pytest.raises(Refusal, match="another flowmatching"):
        strong.beside(EDM(spec=POINTS, scale=0.25))
