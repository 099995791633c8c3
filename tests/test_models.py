"""The promises, for every model by the mere presence of its file."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import small_run, toy
from likeness import engine, models
from likeness.core import (
    Batch,
    Classifies,
    Decodes,
    Denoises,
    Diverged,
    Encodes,
    Noise,
    Refusal,
    Samples,
    Scores,
    Spec,
    Stylises,
    Translates,
    answers,
    ask,
)
from likeness.inference.sampling import conditions
from likeness.runs.run import Run
from likeness.training import snapshots
from likeness.training.loop import fit

CPU = engine.device().type == "cpu"
"""a GPU picks another way to convolve for another batch, in arithmetic of ten bits"""

TWO = str(Path(__file__).with_name("two_players.py"))
every_model = pytest.mark.parametrize("name", [*models.NAMES, TWO], ids=[*models.NAMES, "two-players"])


def state_of(run: Run) -> dict[str, torch.Tensor]:
    return dict(sorted(run.tensors().items()))


def same(a: Run, b: Run) -> bool:
    one, two = state_of(a), state_of(b)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def curves(run: Run) -> list[str]:
    """The lines of the log as they are written, but for what the clock says."""
    return [line.partition(', "time"')[0] for line in (run.folder / "log.jsonl").read_text().splitlines()]


@every_model
def test_stopping_and_resuming_changes_no_bit(name, tmp_path):
    straight, data = small_run(name, tmp_path / "a", images=256)
    first = [s.losses for s in fit(straight, data)]
    broken, _ = small_run(name, tmp_path / "b", images=256)
    second = []
    for _ in range(2):  # once in the middle of a line of the log, once after it
        second += [s.losses for s in itertools.islice(fit(broken, data), 5)]
        broken.save()
        list(itertools.islice(fit(broken, data), 2))  # steps that no state remembers, as at a kill
        broken.close()
        broken = Run.resume(tmp_path / "b")
    second += [s.losses for s in fit(broken, data)]
    assert first == second and len(first) == 256 // stride(straight)
    assert same(straight, broken)
    assert curves(straight) == curves(broken)


def stride(run: Run) -> int:
    """Images a step."""
    return run.config.training.batch * max(player.steps for player in run.players)


@every_model
def test_watching_sampling_and_evaluating_change_nothing(name, tmp_path):
    alone, data = small_run(name, tmp_path / "a")
    list(fit(alone, data))
    watched, _ = small_run(name, tmp_path / "b")
    for step in snapshots.record(watched, data, fit(watched, data), n=4):
        assert all(map(math.isfinite, step.losses.values()))
        snapshots.view(watched, data, 4)
        if isinstance(watched.model, Scores):
            watched.model.bits_per_dim(engine.put(data.take(data.held_out[:3])))
    assert same(alone, watched)
    shows = isinstance(alone.model, Samples | Translates | Stylises) or (
        isinstance(alone.model, Encodes) and isinstance(alone.model, Decodes)
    )
    assert bool(list((tmp_path / "b" / "samples").glob("*.png"))) == shows


@every_model
def test_every_weight_moves_and_every_frozen_one_does_not(name, tmp_path):
    run, data = small_run(name, tmp_path / "a")
    frozen = next(iter(run.student.named_parameters()))[0]
    run.student.get_parameter(frozen).requires_grad_(False)
    run.optimizers = {p.name: engine.optimizer(p, run.config.training.rate) for p in run.players}
    before = {k: v.clone() for k, v in run.student.named_parameters()}
    list(fit(run, data))
    still = {k for k, v in run.student.named_parameters() if torch.equal(v, before[k])}
    assert still == {k for k, v in run.student.named_parameters() if not v.requires_grad} == {frozen}


@every_model
def test_sample_i_is_sample_i(name, tmp_path):
    run, data = small_run(name, tmp_path)
    if not isinstance(run.model, Samples):
        assert "sample" not in answers(run.model)
        with pytest.raises(Refusal, match=r"cannot draw images .likeness sample.; it can: "):
            ask(run.model, "sample")
        return
    list(fit(run, data))
    y = conditions(run.model, np.arange(6), data) if run.model.needs else None
    y = None if y is None else y.to(engine.device())
    one = None if y is None else y[4:5]
    *_, a = run.model.sample(engine.sampling_noise(3, 0, 6), y)
    *_, b = run.model.sample(engine.sampling_noise(3, 4, 1), one)
    *_, other = run.model.sample(engine.sampling_noise(4, 4, 1), one)
    assert a.shape == (6, *data.spec.shape) and bool(a.isfinite().all()) and float(a.abs().max()) <= 1
    assert torch.allclose(a[4], b[0], atol=1e-5 if CPU else 1e-2), "sample 4 depends on its company"
    translated = y is not None and isinstance(run.model, Translates)
    assert translated or not torch.allclose(b[0], other[0], atol=1e-3), "the seed is not used"


@every_model
def test_what_it_answers_has_the_right_shape(name, tmp_path):
    run, data = small_run(name, tmp_path)
    model, batch = run.model, engine.put(data.take(data.held_out[:6]))
    if isinstance(model, Scores):
        bits = model.bits_per_dim(batch)
        assert (
            bits.values.shape == (6,)
            and bits.kind in ("exact", "upper bound", "estimate")
            and not bits.values.requires_grad
        )
        part = model.bits_per_dim(batch[2:4]).values
        assert torch.allclose(bits.values[2:4], part, rtol=1e-5 if CPU else 1e-3), (
            "an image's bits depend on its company"
        )
    if isinstance(model, Encodes):
        assert len(model.encode(batch.x)) == 6
    if isinstance(model, Decodes):
        assert model.decode(torch.randn(3, model.latent, device=engine.device())).shape == (
            3,
            *data.spec.shape,
        )
    if isinstance(model, Denoises):
        assert (
            model.denoise(batch.x, torch.zeros(6, dtype=torch.long, device=engine.device())).shape
            == batch.x.shape
        )
    if isinstance(model, Translates):
        assert model.translate(batch.y.image if model.needs else batch.x).shape == batch.x.shape
    if isinstance(model, Stylises):
        assert model.stylise(batch.x, [batch.x.flip(0)]).shape == batch.x.shape
    if isinstance(model, Classifies):
        assert model.classify(batch.x).shape == (6, data.spec.labels)
    assert answers(model), "a model that answers nothing is of no use"


@every_model
def test_splitting_a_batch_optimises_the_same(name, tmp_path):
    if name == TWO:
        pytest.skip("dropout draws anew for each piece")
    # Adam's first step makes much of a rounding error, and the next player meets it
    whole, data = small_run(name, tmp_path / "a", clip=0.0, rate=0.0)
    if whole.student.whole_batch:
        pieces, _ = small_run(name, tmp_path / "b", micro=5)
        with pytest.raises(Refusal, match="use a smaller --batch"):
            next(fit(pieces, data))
        return
    pieces, _ = small_run(name, tmp_path / "b", micro=5, clip=0.0, rate=0.0)
    first, second = next(fit(whole, data)), next(fit(pieces, data))
    for term, value in first.losses.items():
        # of the features of a set, which a piece of it is not; nothing learns by it
        if term.startswith("feature "):
            continue
        assert second.losses[term] == pytest.approx(value, rel=1e-5)
    grads = [
        torch.cat([p.grad.flatten() for p in r.student.parameters() if p.grad is not None])
        for r in (whole, pieces)
    ]
    # what a normalisation takes away again is left of a sum as rounding errors of its terms
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-5 * float(grads[0].abs().max()))


@every_model
def test_a_loss_that_is_no_number_stops_with_the_good_state_intact(name, tmp_path):
    run, data = small_run(name, tmp_path / "a")
    list(itertools.islice(fit(run, data), 3))
    run.save()
    good, player = state_of(run), run.players[0]
    good = {k: v.clone() for k, v in good.items()}

    def broken(batch: Batch):
        loss = player.loss(batch)
        return loss._replace(total=loss.total * torch.tensor(math.nan))

    run.players = (replace(player, loss=broken), *run.players[1:])
    with pytest.raises(Diverged, match=rf"{player.name} became nan at image {4 * stride(run)}.*--rate"):
        list(fit(run, data))
    run.close()
    resumed = Run.resume(tmp_path / "a")
    kept = state_of(resumed)
    assert resumed.seen == 3 * stride(run) and all(torch.equal(kept[k], good[k]) for k in good)


@every_model
def test_the_loss_falls(name, tmp_path):
    run, data = small_run(name, tmp_path, toy(64, held_out=8), images=3200, batch=32, rate=1e-3)
    losses = [s.losses[run.players[0].name] for s in fit(run, data)]
    if len(run.players) == 1:
        assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@every_model
def test_options_have_help_and_are_refused_out_of_range(name):
    kind = models.load(name)
    spec = Spec(1, 16)
    for f in fields(kind):
        if f.name == "spec":
            continue
        assert f.metadata.get("help"), f"{f.name} has no help"
        if f.metadata["high"] is not None:
            with pytest.raises(Refusal, match=r"must be between .* was given"):
                kind(spec=spec, **{f.name: type(f.default)(f.metadata["high"] * 2 + 1)})
        if f.metadata["choices"]:
            with pytest.raises(Refusal, match="is none of"):
                kind(spec=spec, **{f.name: "nonsense"})


@pytest.mark.parametrize("name", models.NAMES)
def test_what_departs_from_the_paper_is_stated(name):
    text = sys.modules[models.load(name).__module__].__doc__ or ""
    assert text.count("Departures: ") == 1 and len(text.partition("Departures: ")[2]) > 40


@every_model
def test_no_term_depends_on_the_labels_of_a_model_without_conditions(name, tmp_path):
    """A batch without labels must do for every model that was built for a Spec without them."""
    data = replace(toy(), y=None, classes=())
    if isinstance(small_run(name, tmp_path / "with")[0].model, Classifies):
        with pytest.raises(Refusal, match="labels"):
            small_run(name, tmp_path, data)
        return
    run, data = small_run(name, tmp_path, data)
    assert next(fit(run, data)).seen == stride(run)


def test_a_gradient_that_is_no_number_never_reaches_the_disk(tmp_path):
    """A finite loss may have an infinite slope: the weights are spoilt before any loss shows it."""
    run, data = small_run("ae", tmp_path / "a", images=80)
    player = run.players[0]

    def steep(batch: Batch):
        loss = player.loss(batch)
        cliff = torch.sqrt(loss.total - loss.total.detach()) if run.seen == 64 else 0.0
        return loss._replace(total=loss.total + cliff)

    run.players = (replace(player, loss=steep),)
    with pytest.raises(Diverged, match="model gradient became"):
        list(fit(run, data, save_every=0.0))
    run.close()
    resumed = Run.resume(tmp_path / "a")
    assert resumed.seen == 64 and all(bool(v.isfinite().all()) for v in resumed.tensors().values())


def test_each_player_has_its_rate_its_moves_and_a_clipped_gradient(tmp_path):
    run, data = small_run(TWO, tmp_path, clip=1e-3, warmup=0, rate=0.01)
    taken = dict.fromkeys(run.optimizers, 0)
    for name, optimizer in run.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: taken.__setitem__(name, taken[name] + 1))
    list(itertools.islice(fit(run, data), 3))
    assert (
        taken == {"a": 6, "b": 3} and run.seen == 96 and int(run.model.steps) == int(run.student.steps) == 3
    )
    assert [run.optimizers[n].param_groups[0]["lr"] for n in ("a", "b")] == pytest.approx([0.01, 0.001])
    for player in run.players:
        assert float(nn.utils.get_total_norm([p.grad for p in player.module.parameters()])) <= 1e-3 * 1.001


def test_batch_normalisation_makes_a_batch_whole(tmp_path):
    (tmp_path / "norm.py").write_text(
        MINE.replace(
            "nn.Conv2d(self.spec.channels, self.spec.channels, 1)", "nn.BatchNorm2d(self.spec.channels)"
        )
    )
    run, data = small_run(str(tmp_path / "norm.py"), tmp_path / "run", micro=5)
    with pytest.raises(Refusal, match="use a smaller --batch"):
        next(fit(run, data))


def test_bf16_trains(tmp_path):
    run, data = small_run("ae", tmp_path / "a", precision="bf16")
    assert all(map(math.isfinite, list(fit(run, data))[-1].losses.values()))


MINE = '''
"""A model of one's own."""
from torch import Tensor, nn
from ..core import Batch, Loss, Model, option

class Mine(Model):
    width: int = option(4, "channels", 1, 8)

    def build(self) -> None:
        self.net = nn.Conv2d(self.spec.channels, self.spec.channels, 1)

    def loss(self, batch: Batch) -> Loss:
        return Loss((self.net(batch.x) - batch.x).square().mean())
'''


def test_a_file_outside_the_package_is_a_model(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    run, data = small_run(str(tmp_path / "mine.py"), tmp_path / "run")
    list(fit(run, data))
    run.close()
    (tmp_path / "mine.py").unlink()
    again = Run.resume(tmp_path / "run")
    assert again.seen == 128 and again.config.model == "method.py" and again.config.options == {"width": 8}


def test_misspelled_names_are_met_with_the_nearest():
    with pytest.raises(Refusal, match="did you mean 'vae'"):
        models.load("vea")
    with pytest.raises(Refusal, match=r"no file .*nowhere\.py"):
        models.load("nowhere.py")


def test_noise_is_a_function_of_key_seed_call_and_place():
    a, b = Noise(range(10), key=7), Noise([4], key=7)
    assert torch.equal(a.normal(3, 5)[4], b.normal(3, 5)[0])
    assert torch.equal(a.uniform(2)[4], b.uniform(2)[0])
    assert not torch.equal(a.normal(3), Noise(range(10), key=8).normal(3))
    assert torch.equal(Noise(range(10))[3:5].normal(4), Noise([3, 4]).normal(4))


def test_noise_is_normal_uniform_and_uncorrelated():
    from scipy import stats

    x = Noise(range(500)).normal(400)
    assert stats.kstest(x.flatten().double().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(Noise(range(500)).uniform(400).flatten().double().numpy(), "uniform").pvalue > 1e-3
    n = math.sqrt(x.numel())
    for other in (x.roll(1, 0), x.roll(1, 1), x.roll(200, 1), Noise(range(1, 501)).normal(400).roll(1, 1)):
        assert abs(float((x * other).mean())) * n < 4.5
    noise = Noise(range(2000))
    drawn = torch.stack([noise.choose(torch.tensor([0.0, 1.0, 2.0]).log().expand(2000, 3)) for _ in range(5)])
    assert abs(float((drawn == 2).float().mean()) - 2 / 3) < 0.02 and not bool((drawn == 0).any())


def test_the_log_has_early_lines_and_then_one_every_fifty_steps(tmp_path):
    run, data = small_run("ae", tmp_path, images=16 * 120)
    list(fit(run, data))
    assert [line["seen"] // 16 for line in run.log()] == [1, 2, 4, 8, 16, 32, 50, 100]
    assert set(run.log()[0]["time"]) == {"seconds", "images_per_second", "memory_mb"}
