"""Any model may learn the codes of a frozen autoencoder: the composition is the two stages and
nothing else."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import SMALL, small_run, toy
from likeness import engine, models
from likeness.core import BadData, Batch, Bits, Condition, Diagnoses, Noise, Refusal, Spec, answers, ask
from likeness.inference import sampling
from likeness.parts.conditionals import value
from likeness.runs import first_stage, latent_model
from likeness.runs.run import INSIDE, Config, Run, Stage, read_config
from likeness.training import session, snapshots
from likeness.training.loop import fit, refuse
from test_models import TWO, curves, same

VQ, GAUSS = (str(Path(__file__).with_name(f"tiny_{name}.py")) for name in ("vq", "gauss"))
PRIOR = dict(width=4, depth=1, first=3)
"""a small pixelcnn"""


MAP = dict(options=dict(latent=32, grid=4))
"""of a small ae or vae whose code is an image of 2 channels"""


def trained(name: str, folder: Path, data=None, options: dict | None = None, **training) -> Run:
    run, data = small_run(name, folder, data, options=options, **training)
    list(fit(run, data))
    run.close()
    return Run.open(folder)


def composed(
    name: str, folder: Path, first: Run, data=None, options: dict | None = None, **training
) -> tuple[Run, object]:
    """A run of `name` on the codes of `first`."""
    kind, data = models.load(name), data or toy()
    stage = first_stage.stage(first, data)
    settings = replace(
        kind.defaults, **(dict(images=128, batch=16, precision="fp32", warmup=32, ema=64) | training)
    )
    chosen = options or {
        k: v for k, v in (SMALL | PRIOR).items() if name == "pixelcnn" and k in (*PRIOR, "width", "depth")
    }
    built = latent_model.make(kind, data.spec, chosen, stage.model).options()
    config = Config(
        name, data.spec, settings, built, first.config.data, engine.facts(), first_stage.identity(first)
    )
    return Run.create(folder, config, stage), data


@pytest.fixture
def vq(tmp_path) -> Run:
    return trained(VQ, tmp_path / "vq")


def files(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def batch_of(data, n: int = 6) -> Batch:
    return engine.put(data.take(data.held_out[:n], Noise(range(n), 5)))


# The two stages


def test_what_the_inner_model_needs_is_at_hand_before_it_is_trained(tmp_path, vq, monkeypatch):
    run, _ = composed("pixelcnn", tmp_path / "run", vq)

    def prepare(self) -> None:
        raise Refusal("not at hand")

    monkeypatch.setattr(type(run.student._inner), "prepare", prepare)
    with pytest.raises(Refusal, match="not at hand"):
        refuse("pixelcnn", run.config.training, run.student)


def test_only_the_inner_model_is_trained_saved_and_averaged(tmp_path, vq):
    before = files(vq.folder)
    run, data = composed("pixelcnn", tmp_path / "run", vq)
    weights = {k: v.clone() for k, v in run.student._first.state_dict().items()}
    first = {k: v.clone() for k, v in run.student.named_parameters()}
    alone = models.load("pixelcnn")(spec=vq.model.code, **run.config.options)
    list(fit(run, data))
    assert {k for k, v in run.student.named_parameters() if torch.equal(v, first[k])} == set()
    assert set(run.student.state_dict()) == {f"_inner.{name}" for name in alone.state_dict()} and not any(
        "_first" in name for name in run.tensors()
    )
    assert sum(p.numel() for p in run.model.parameters()) == sum(p.numel() for p in alone.parameters())
    for part in (run.student, run.model, Run.resume(run.folder, lock=False).student):
        assert not part._first.training and not any(p.requires_grad for p in part._first.parameters())
        assert all(torch.equal(v, weights[k]) for k, v in part._first.state_dict().items())
    assert files(vq.folder) == before


def test_its_first_weights_do_not_depend_on_the_first_stage(tmp_path, vq):
    other = trained(VQ, tmp_path / "other", seed=1)
    made = [composed("pixelcnn", tmp_path / f"run{i}", first)[0] for i, first in enumerate((vq, other))]
    again = Run.resume(made[0].folder, lock=False)
    for name, value_ in made[0].student.state_dict().items():
        assert torch.equal(value_, made[1].student.state_dict()[name]) and torch.equal(
            value_, again.student.state_dict()[name]
        )


def test_stopping_and_resuming_changes_no_bit(tmp_path):
    """Of a code that says what it is, and of those that had to be measured; one of these killed before the
    first save, too."""
    kinds = (
        ("pixelcnn", trained(VQ, tmp_path / "vq"), 5),
        (GAUSS, trained("ae", tmp_path / "ae"), 0),
        (GAUSS, trained("vae", tmp_path / "vae", **MAP), 5),
    )
    for name, first, broken_at in kinds:
        straight, data = composed(name, tmp_path / f"{first.folder.name}-a", first, images=192)
        list(fit(straight, data))
        broken, _ = composed(name, tmp_path / f"{first.folder.name}-b", first, images=192)
        if broken_at:
            list(itertools.islice(fit(broken, data), broken_at))
            broken.save()
        list(itertools.islice(fit(broken, data), 2))  # steps that no state remembers, as at a kill
        broken.close()
        broken = Run.resume(broken.folder)
        list(fit(broken, data))
        assert same(straight, broken) and curves(straight) == curves(broken)
        pair = [dict(run.model._first.state_dict()) for run in (straight, broken)]
        assert all(torch.equal(v, pair[1][k]) for k, v in pair[0].items())


def test_it_needs_its_own_folder_only(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path / "run", vq)
    list(fit(run, data))
    run.close()
    *_, before = run.model.sample(Noise(range(3)))
    shutil.rmtree(vq.folder)
    (tmp_path / "run").rename(tmp_path / "moved")
    *_, after = Run.open(tmp_path / "moved").model.sample(Noise(range(3)))
    assert torch.equal(before, after)
    frozen = Run.open(tmp_path / "moved" / INSIDE)  # a run that can be asked
    assert frozen.seen == 128 and torch.equal(
        frozen.model.compress(batch_of(data).x), vq.model.compress(batch_of(data).x)
    )
    with pytest.raises(BadData, match="do not fit"):
        Run.resume(tmp_path / "moved" / INSIDE)
    shutil.rmtree(tmp_path / "moved" / INSIDE)
    with pytest.raises(BadData, match="the autoencoder whose codes this run learns is gone"):
        Run.open(tmp_path / "moved")


def test_what_a_killed_process_left_of_a_first_stage_is_not_used(tmp_path, vq):
    later = trained(VQ, tmp_path / "later", images=256)
    Stage(later, later.model).freeze(tmp_path / "run" / INSIDE)
    run, _ = composed("pixelcnn", tmp_path / "run", vq)
    assert Run.open(run.folder / INSIDE).seen == 128 and run.config.inside["seen"] == 128


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_old_runs_still_open(tmp_path, name):
    run = trained(name, tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said.pop("inside") == {} and said["options"].pop("grid") == 0
    (tmp_path / "config.json").write_text(json.dumps(said))
    old = Run.open(tmp_path)
    assert old.config.inside == {} and old.config.method == name
    x = batch_of(toy()).x
    assert torch.equal(old.model.decode(old.model.encode(x)), run.model.decode(run.model.encode(x)))
    assert first_stage.stage(old, toy()).code == Spec(8, 1, 2, levels=0)


def test_pieces_of_a_batch_optimise_the_same(tmp_path, vq):
    whole, data = composed("pixelcnn", tmp_path / "a", vq, clip=0.0)
    pieces, _ = composed("pixelcnn", tmp_path / "b", vq, clip=0.0, micro=5)
    one, two = next(fit(whole, data)), next(fit(pieces, data))
    assert two.losses["model"] == pytest.approx(one.losses["model"], rel=1e-5)
    grads = [
        torch.cat([p.grad.flatten() for p in run.student.parameters() if p.grad is not None])
        for run in (whole, pieces)
    ]
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-6 * float(grads[0].abs().max()))


def test_two_players_a_buffer_and_the_rule_of_a_whole_batch_are_those_of_the_inner_model(tmp_path, vq):
    run, data = composed(TWO, tmp_path / "two", vq, options=dict(width=4))
    list(itertools.islice(fit(run, data), 3))
    assert [(p.name, p.steps, p.rate) for p in run.players] == [("a", 2, 1.0), ("b", 1, 0.1)] and int(
        run.student._inner.steps
    ) == 3
    tally = torch.ones(2)
    run.student._inner.tallies = lambda: (tally,)
    assert run.student.tallies()[0] is tally and not run.student.whole_batch
    assert latent_model.make(models.load("vicreg"), data.spec, dict(width=4), vq.model).whole_batch


def test_its_precision_is_chosen_for_the_size_of_the_code(tmp_path, vq, monkeypatch):
    """On a CPU images of 16 pixels are quicker in bf16, and codes of 8 are not."""
    monkeypatch.setattr(engine, "native_bf16", lambda: True)
    monkeypatch.setattr(engine, "cuda", lambda: False)
    data, wishes = toy(), session.Wishes(options=PRIOR)
    found = [
        session._config("pixelcnn", models.load("pixelcnn"), data, wishes, {}, stage).training.precision
        for stage in (None, first_stage.stage(vq, data))
    ]
    assert found == ["bf16", "fp32"]


def test_precision_and_type(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path / "run", vq, precision="bf16")
    assert math.isfinite(next(fit(run, data)).losses["model"])
    numbers = composed(GAUSS, tmp_path / "numbers", trained("ae", tmp_path / "ae"), options=dict(width=1.0))[
        0
    ].student
    z = numbers._codes(batch_of(data)).x
    with torch.autocast(engine.device().type, torch.bfloat16):
        assert torch.equal(numbers._codes(batch_of(data)).x, z)
    double, batch = run.model.double(), batch_of(data)
    bits = double.bits_per_dim(replace(batch, x=batch.x.double())).values
    assert bits.dtype == torch.float64 and next(double._first.parameters()).dtype == torch.float64


# What it answers


def test_it_answers_what_the_two_answer_together(tmp_path, vq):
    ae = trained("ae", tmp_path / "ae")
    data = toy()
    prior, gauss, encoder = models.load("pixelcnn"), models.load(GAUSS), models.load("ae")
    on_vq, on_ae = vq.model, first_stage.stage(ae, data).model
    # no completion, no map of surprise: those are of codes
    assert answers(latent_model.make(prior, data.spec, PRIOR, on_vq)) == ("sample", "bits_per_dim")
    assert (
        answers(latent_model.make(gauss, data.spec, {}, on_vq))
        == answers(latent_model.make(gauss, data.spec, {}, on_ae))
        == ("sample",)
    )
    two = latent_model.make(encoder, data.spec, dict(net="mlp", hidden=8, latent=3), on_vq)
    assert answers(two) == ("encode", "decode") and two.latent == 3
    x = batch_of(data).x
    assert two.encode(x).shape == (6, 3) and torch.equal(
        two.decode(two.encode(x)), on_vq.expand(two._inner.decode(two.encode(x)))
    )
    assert isinstance(latent_model.make(encoder, data.spec, dict(net="mlp"), on_ae), Diagnoses) is False
    seen = latent_model.make(models.load("classifier"), data.spec, dict(width=4, depth=0), on_vq)
    assert (
        answers(seen) == ("encode", "classify")
        and seen.takes == ("label",)
        and torch.equal(seen.classify(x), seen._inner.classify(on_vq.compress(x)))
    )
    with pytest.raises(Refusal, match="pixelcnn within tinyvq cannot complete an image"):
        ask(latent_model.make(prior, data.spec, PRIOR, on_vq), "complete")


def test_a_sample_is_a_sample_of_the_prior_expanded(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path, vq)
    list(fit(run, data))
    got = list(run.model.sample(Noise(range(5), 3)))
    by_hand = [vq.model.expand(z) for z in run.model._inner.sample(Noise(range(5), 3))]
    some = [by_hand[i] for i in (0, 1, 3, 7)]  # ever fewer of the versions, and the last
    assert (
        len(by_hand) == 8
        and len(got) == 4
        and all(map(torch.equal, got, some))
        and got[-1].shape == (5, *data.spec.shape)
    )
    *_, alone = run.model.sample(Noise([4], 3))
    assert torch.allclose(alone[0], got[-1][4], atol=1e-5)


def test_an_image_is_drawn_anew_by_way_of_its_code(tmp_path):
    class Shifts(models.load(GAUSS)):
        def redraw(self, x, strength, noise, y=None):
            yield x
            yield self.width * (x + strength * noise.normal(*x.shape[1:]) + y.label[:, None, None, None])

        complete = denoise = redraw  # answers that are not those of a code

    first = first_stage.stage(trained("vae", tmp_path, **MAP), toy()).model
    made, x, y = (
        latent_model.make(Shifts, toy().spec, {}, first),
        batch_of(toy()).x,
        Condition(torch.arange(6) % 2),
    )
    assert answers(made) == ("sample", "redraw")
    made.width = 0.5  # a live option
    same_, drawn = made.redraw(x, 0.25, Noise(range(6)), y)
    z = first.compress(x)
    assert torch.equal(same_, first.expand(z)) and not drawn.requires_grad
    assert torch.equal(
        drawn, first.expand(0.5 * (z + 0.25 * Noise(range(6)).normal(2, 4, 4) + y.label[:, None, None, None]))
    )


def test_live_options_are_those_of_the_prior_and_turn_nothing_else(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path, vq)
    list(fit(run, data))
    cold = sampling.tuned(run.model, temperature=0.01)
    *_, plain = run.model.sample(Noise(range(8)))
    *_, drawn = cold.sample(Noise(range(8)))
    assert cold.temperature == 0.01 and run.model.temperature == run.model._inner.temperature == 1.0
    *_, again = run.model.sample(Noise(range(8)))
    assert float(drawn.std(0).mean()) < float(plain.std(0).mean()) and torch.equal(plain, again)
    with pytest.raises(Refusal, match="pixelcnn within tinyvq; live options are: temperature"):
        sampling.tuned(run.model, k=3)
    assert run.model.options() == run.config.options == run.model._inner.options()


def test_classes_are_those_of_the_prior(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path / "run", vq, options=PRIOR | dict(conditional=True))
    list(fit(run, data))
    assert (
        run.model.takes == ("label",)
        and run.model._inner.spec.labels == 2
        and snapshots.view(run, data, 4).shape == (4, *data.spec.shape)
    )
    batch = batch_of(data)
    one, other = (
        run.model.bits_per_dim(replace(batch, y=Condition(torch.full((6,), k)))).values for k in (0, 1)
    )
    assert bool((one != other).all())
    *_, x = run.model.sample(Noise(range(4)), Condition(torch.tensor([1, 1, 1, 1])))
    *_, z = run.model._inner.sample(Noise(range(4)), Condition(torch.tensor([1, 1, 1, 1])))
    assert torch.equal(x, vq.model.expand(z))


def test_an_option_may_have_any_name(vq):
    kind = models.load("pixelcnn")
    made = latent_model.make(kind, toy().spec, PRIOR, vq.model)
    assert made.first == 3 and made._first is vq.model


# Likelihood


def test_the_bits_are_those_of_the_code_and_those_of_the_image_given_the_code(tmp_path, vq):
    run, data = composed("pixelcnn", tmp_path, vq)
    list(fit(run, data))
    batch = batch_of(data)
    z = vq.model.compress(batch.x)
    rate = run.model._inner.bits_per_dim(Batch(z, batch.y, batch.noise)).values * 64 * math.log(2)
    distortion = vq.model.distortion(batch.x, z)
    bits = run.model.bits_per_dim(batch)
    assert bits.kind == "upper bound" and torch.allclose(
        bits.values, (rate + distortion) / 256 / math.log(2), rtol=1e-6
    )
    known = {name: number for name, number, _ in run.model.diagnose(batch)}
    assert known["rate in nats"] == pytest.approx(float(rate.mean()), rel=1e-5)
    assert known["distortion in nats"] == pytest.approx(float(distortion.mean()), rel=1e-5)
    assert "codes in use" in known


def test_a_bound_on_a_sum_that_can_be_taken():
    """2x2 black-and-white images, 3 levels of 2x2 codes: P(x) is a sum over 81 codes, and the probabilities
    of 16 images add up to 1."""
    torch.manual_seed(0)
    spec = Spec(1, 2, levels=2)
    first = models.load(VQ)(spec=spec, codes=3, patch=1)
    first.encoder.weight.data[:], first.encoder.bias.data[:], first.decoder.bias.data[:] = (
        torch.tensor([1.0, 0.0]).view(2, 1, 1, 1),
        0,
        0,
    )
    first.book.data[:] = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    first.decoder.weight.data[:] = 1.5  # log odds of white at the third vector, of black at the first
    model = latent_model.make(models.load("pixelcnn"), spec, PRIOR, first)
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)  # a prior that is not even
    model.double()
    x, z = (value(torch.cartesian_prod(*[torch.arange(n)] * 4), n).view(-1, 1, 2, 2).double() for n in (2, 3))
    log_z = -model._inner.bits_per_dim(Batch(z, None, Noise(range(81)))).values * 4 * math.log(2)
    joint = torch.stack([log_z - first.distortion(image.expand(81, 1, 2, 2), z) for image in x])
    exact = joint.logsumexp(1)
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-6)
    bound = -model.bits_per_dim(Batch(x, None, Noise(range(16)))).values * 4 * math.log(2)
    assert bool((bound <= exact).all()) and float((exact - bound).max()) > 0.1
    assert float(bound.exp().sum()) < 1
    forgetful = -first.distortion(x, first.compress(x))  # the fake: the bits of the code are left out
    assert bool((forgetful > exact).any()) and float(forgetful.exp().sum()) > 1


def test_a_density_of_codes_is_no_probability(vq):
    prior = models.load("pixelcnn")(spec=vq.model.code, **PRIOR)
    assert latent_model.Bounding in latent_model._abilities(prior, vq.model)
    prior.spec = replace(prior.spec, levels=0)
    assert latent_model.Bounding not in latent_model._abilities(prior, vq.model)


def test_an_estimate_stays_one_and_the_noise_is_that_of_the_batch(vq):
    made = latent_model.make(models.load("pixelcnn"), toy().spec, PRIOR, vq.model)
    heard = []

    def noisy(self, batch: Batch) -> Bits:
        heard.append(batch.noise)
        return Bits(batch.noise.uniform(), "estimate")

    made._inner.__class__ = type("Noisy", (type(made._inner),), dict(bits_per_dim=noisy))
    batch = batch_of(toy())
    assert made.bits_per_dim(batch).kind == "estimate" and heard == [batch.noise]


# Codes that are any number


def test_codes_that_are_any_number_are_measured_and_samples_are_images(tmp_path):
    first = trained("ae", tmp_path / "ae", images=1600)
    run, data = composed(GAUSS, tmp_path / "run", first, images=3200, batch=48, options=dict(width=1.0))
    assert read_config(tmp_path / "run").options == dict(width=1.0) and run.model._inner.spec == Spec(
        8, 1, 2, levels=0
    )
    x = data.take(data.train).x
    z = run.student._compressed(x)
    assert (
        z.shape == (48, 8, 1, 1)
        and z.mean(0).abs().max() < 1e-4
        and (z.std(0, correction=0) - 1).abs().max() < 1e-4
    )
    assert torch.allclose(run.model._first.expand(z), first.model.decode(first.model.encode(x)), atol=1e-5)
    list(fit(run, data))
    *_, drawn = run.model.sample(Noise(range(2000)))
    assert drawn.shape == (2000, *data.spec.shape) and float(drawn.abs().max()) <= 1
    back = first.model.encode(x)
    assert (
        float(run.model._inner.mean.abs().max()) < 0.1 and float(run.model._inner.log_std.abs().max()) < 0.1
    )
    still = sampling.tuned(run.model, width=0.0)
    *_, middle = still.sample(Noise(range(2)))
    assert torch.allclose(middle[0], first.model.decode(back.mean(0, keepdim=True))[0], atol=0.1)
    # the fake: codes as if they were N(0, I) already
    unmeasured = first.model.decode(Noise(range(2000)).normal(8))
    real = first.model.decode(back).mean(0)
    assert (drawn.mean(0) - real).square().mean() < 0.5 * (unmeasured.mean(0) - real).square().mean()


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_codes_that_are_images_are_measured_by_the_channel(tmp_path, name):
    first = trained(name, tmp_path / "first", images=1600, **MAP)
    run, data = composed(GAUSS, tmp_path / "run", first, images=3200, batch=48, options=dict(width=1.0))
    assert run.model._inner.spec == run.model._first.code == Spec(2, 4, 2, levels=0)
    x = data.take(data.train).x
    z = run.student._compressed(x)
    assert (
        z.shape == (48, 2, 4, 4)
        and z.mean((0, 2, 3)).abs().max() < 1e-4
        and (z.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    )
    assert z.mean(0).abs().max() > 0.1, "the places of a channel are not made alike"
    vectors, stage = first.model.encode(x), run.model._first
    assert vectors.shape == (48, 32) and torch.allclose(
        z[:, 1].flatten(1), (vectors[:, 16:] - stage.mean[1]) / stage.std[1]
    )
    assert torch.allclose(stage.expand(z), first.model.decode(vectors), atol=1e-5)
    list(fit(run, data))
    *_, drawn = run.model.sample(Noise(range(50)))
    assert drawn.shape == (50, *data.spec.shape) and float(drawn.abs().max()) <= 1
    run.close()
    shutil.rmtree(first.folder)
    *_, again = Run.open(run.folder).model.sample(Noise(range(50)))
    assert torch.equal(drawn, again), "the shape of the code is that of the model in the folder"


def test_a_model_of_images_may_learn_codes_that_are_images(tmp_path):
    first = first_stage.stage(trained("vae", tmp_path, options=dict(latent=128, grid=8)), toy()).model
    two, x = (
        latent_model.make(models.load("ae"), toy().spec, dict(latent=5, width=8, depth=1), first),
        batch_of(toy()).x,
    )
    assert answers(two) == ("encode", "decode") and two.latent == 5 and two._inner.net == "conv"
    assert two.encode(x).shape == (6, 5) and torch.equal(
        two.decode(two.encode(x)), first.expand(two._inner.decode(two.encode(x)))
    )


def test_a_number_that_never_varies_is_left_as_it_is(tmp_path):
    first, data = trained("ae", tmp_path), toy()
    last = [m for m in first.model.encoder.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.weight.data[3], last.bias.data[3] = 0, 7
    stage = first_stage.stage(first, data).model
    assert float(stage.std[3]) == 1 and bool((stage.compress(batch_of(data).x)[:, 3].abs() < 1e-5).all())


def test_a_conditional_vae_is_a_first_stage_with_the_class_in_its_code(tmp_path):
    run, data = small_run("vae", tmp_path / "vae", options=dict(conditional=True))
    list(fit(run, data))
    made, _ = composed(GAUSS, tmp_path / "run", Run.open(tmp_path / "vae"), options=dict(width=1.0))
    *_, x = made.model.sample(Noise(range(3)))
    assert made.model._first.code.channels == 10 and x.shape == (3, *data.spec.shape)


def test_the_gaussian_of_codes_that_the_comparison_fits_has_their_moments() -> None:
    model = models.load(str(Path(__file__).parents[1] / "benchmarks" / "code_gaussian.py"))(
        spec=Spec(3, 1, levels=0)
    )
    g = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 3, generator=g) @ torch.tensor(
        [[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.2]]
    ) + torch.tensor([1.0, -2.0, 5.0])
    for part in z.view(-1, 3, 1, 1).split(500):
        model.loss(Batch(part, None, Noise(range(len(part)))))
    (drawn,) = model.sample(Noise(range(20_000)))
    drawn = drawn.flatten(1)
    assert torch.allclose(drawn.mean(0), z.mean(0), atol=0.06)
    assert torch.allclose(drawn.T.cov(), z.T.cov(), atol=0.15)
