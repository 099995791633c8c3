"""The class-conditional VAE: p(x|y) against sums over every image, and against data whose p(x|y) is known."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import small_run, toy
from likeness import engine
from likeness.core import Batch, Condition, Noise, Refusal, Spec, answers
from likeness.evaluation import exam
from likeness.models.vae import VAE
from likeness.runs.run import Run
from likeness.training.loop import fit

EVERY = torch.tensor([[(i >> j & 1) * 2.0 - 1 for j in range(9)] for i in range(512)]).view(-1, 1, 3, 3)
NATS = 9 * math.log(2)


def same_class(x: Tensor, c: int) -> Batch:
    return Batch(x, Condition(torch.full((len(x),), c)), Noise(range(len(x))))


def test_every_class_has_probability_one_and_its_bound_is_never_exceeded() -> None:
    """log p(x|y) is a sum over a line of codes, for each of the 512 images of 3x3 pixels."""
    torch.manual_seed(1)
    model = VAE(spec=Spec(1, 3, 3, 2), net="mlp", latent=1, hidden=8, conditional=True)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.normal_()
        for p in model.encoder[-1][-1].parameters():
            p.mul_(0.1)  # q(z|x,y) near the prior: no importance weight is extreme
    z, found = torch.linspace(-8, 8, 401)[:, None], []
    for c in range(3):
        batch = same_class(EVERY, c)
        with torch.no_grad():
            log_p = torch.stack(
                [model.log_likelihood(EVERY, v.expand(512, 1), batch.y) for v in z]
            ) + torch.distributions.Normal(0, 1).log_prob(z)
        exact = log_p.logsumexp(0) + math.log(0.04)
        assert exact.exp().sum().item() == pytest.approx(1, abs=1e-4)
        best, bounds = (exact.exp() * exact).sum().item(), []
        for k in (1, 500):
            model.k = k
            bounds.append(
                (exact.exp() * -model.bits_per_dim(same_class(EVERY, c)).values * NATS).sum().item()
            )
        assert bounds[0] < best + 0.02 and bounds[1] == pytest.approx(best, abs=0.05)
        found.append(exact)
    assert (found[0] - found[1]).abs().max() > 0.1, "the class says nothing"
    unaware = torch.stack(found).logsumexp(0)  # the fake: joint probabilities taken for conditional ones
    assert unaware.exp().sum().item() == pytest.approx(3, abs=1e-3)


DARK = 0.1


def two_kinds(n: int) -> tuple[Tensor, Tensor]:
    """3x3 pixels, independent: black with probability 0.9 in class 0, and 0.1 in class 1."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    x = (
        torch.rand(n, 1, 3, 3, generator=g) < torch.where(y == 0, DARK, 1 - DARK)[:, None, None, None]
    ).float() * 2 - 1
    return x, y


def trained(conditional: bool) -> VAE:
    torch.manual_seed(0)
    x, y = two_kinds(4096)
    model = VAE(spec=Spec(1, 3, 2, 2), net="mlp", latent=1, hidden=16, depth=1, conditional=conditional)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 300)
        at = torch.arange(step * 128, step * 128 + 128) % 4096
        optimizer.zero_grad()
        model.loss(Batch(x[at], Condition(y[at]), Noise(at))).total.backward()
        optimizer.step()
    model.k = 20
    return model


def test_bits_are_the_entropy_of_a_class_and_without_the_class_that_of_the_mixture() -> None:
    x, y = two_kinds(2000)
    batch = Batch(x, Condition(y), Noise(range(2000)))
    log_p = torch.stack(
        [torch.distributions.Bernoulli(p).log_prob((x.flatten(1) + 1) / 2).sum(1) for p in (DARK, 1 - DARK)]
    )
    of_class, of_mixture = (
        -log_p.gather(0, y[None]).mean() / NATS,
        -(log_p.logsumexp(0) - math.log(2)).mean() / NATS,
    )
    aware, unaware = trained(True), trained(False)
    assert aware.bits_per_dim(batch).values.mean().item() == pytest.approx(of_class.item(), abs=0.01)
    # one Gaussian for a code that has two places
    loose = unaware.bits_per_dim(batch).values.mean() - of_mixture
    assert -0.005 < loose < 0.04 < 0.09 < of_mixture - of_class
    fake = aware.bits_per_dim(Batch(x, Condition(1 - y), Noise(range(2000)))).values.mean()  # the wrong class
    assert fake > of_class + 1

    vote = (x.flatten(1).sum(1) > 0).long()
    assert torch.equal(aware.likeliest(x), vote), "Bayes' rule is the vote of the pixels here"
    code = aware.encode(x)
    assert code.shape == (2000, 3) and torch.equal(code[:, 1:].argmax(1), vote)
    assert torch.equal(aware.encode(x, Condition(y))[:, 1:].argmax(1), y)
    *_, drawn = aware.sample(Noise(range(50)), Condition(torch.arange(50) % 2))
    assert bool((drawn[::2] < 0).all()) and bool((drawn[1::2] > 0).all())
    *_, any_class = aware.sample(Noise(range(400)))
    assert 140 < int((any_class.mean((1, 2, 3)) > 0).sum()) < 260, "classes are drawn where none is said"


@pytest.mark.parametrize("net", ["conv", "mlp"])
def test_it_answers_what_the_other_answers(net: str) -> None:
    model = VAE(spec=Spec(3, 8, 5), latent=4, width=4, hidden=16, net=net, conditional=True)
    batch = Batch(torch.rand(6, 3, 8, 8) * 2 - 1, Condition(torch.arange(6) % 5), Noise(range(6)))
    assert answers(model) == answers(VAE(spec=Spec(3, 8), net=net))
    together = model.bits_per_dim(batch).values
    assert torch.allclose(
        together, torch.cat([model.bits_per_dim(b).values for b in batch.split(1)]), atol=1e-5
    )
    assert not torch.equal(
        together, model.bits_per_dim(Batch(batch.x, Condition(batch.y.label.flip(0)), Noise(range(6)))).values
    )  # type: ignore[union-attr]
    code = model.encode(batch.x)
    assert code.shape == (6, 9) and model.decode(code).shape == batch.x.shape
    assert torch.equal(model.decode(code), model.decode(torch.cat([code[:, :4], 7 * code[:, 4:]], 1))), (
        "only the largest number of the class counts"
    )
    alone = torch.cat([list(model.sample(Noise([i])))[-1] for i in range(5)])
    assert torch.allclose(list(model.sample(Noise(range(5))))[-1], alone, atol=1e-5)
    model.loss(batch).total.backward()
    assert all(p.grad is not None for p in model.parameters()) and bool((model.planes.weight.grad != 0).all())


def test_without_the_option_nothing_is_added_and_labels_change_nothing() -> None:
    model = VAE(spec=Spec(1, 8, 5), latent=4)
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    with_labels, without = (
        model.loss(Batch(x, y, Noise(range(6)))).total for y in (Condition(torch.arange(6) % 5), None)
    )
    assert torch.equal(with_labels, without) and not model.conditional
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}
    assert model.encoder[0].weight.shape[1] == 1 and model.decoder[0].weight.shape[1] == 4


def test_refusals() -> None:
    with pytest.raises(Refusal, match="two classes or more and these have 0"):
        VAE(spec=Spec(1, 8), conditional=True)
    model = VAE(spec=Spec(1, 8, 3), latent=4, conditional=True)
    x = torch.zeros(2, 1, 8, 8)
    for ask in (model.loss, model.bits_per_dim):
        with pytest.raises(Refusal, match="labelled images"):
            ask(Batch(x, None, Noise(range(2))))
    with pytest.raises(Refusal, match="4 \\+ 3 numbers"):
        model.decode(torch.zeros(2, 4))


def test_a_run_of_it_is_a_run_like_any_other(tmp_path: Path) -> None:
    """Resume changes no bit, every weight moves, the evaluator asks all its questions."""
    options = {"conditional": True}
    straight, data = small_run("vae", tmp_path / "a", toy(96), options=options)
    before = {k: v.clone() for k, v in straight.student.named_parameters()}
    list(fit(straight, data))
    assert all(not torch.equal(v, before[k]) for k, v in straight.student.named_parameters())
    broken, _ = small_run("vae", tmp_path / "b", toy(96), options=options)
    list(itertools.islice(fit(broken, data), 3))
    broken.save(), broken.close()
    again = Run.resume(tmp_path / "b")
    list(fit(again, data))
    one, two = straight.tensors(), again.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    names = {score.name for score in exam.evaluate(straight, data, 16)}
    assert {"bits/dim", "PSNR", "near-duplicates", "active units"} <= names
    assert engine.device().type == "cuda" or straight.model.encode(data.take(data.held_out).x).shape == (
        16,
        8 + 2,
    )
