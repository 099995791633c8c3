"""BYOL: the distance, the target that follows exactly, and where gradients go."""

from __future__ import annotations

import pytest
import torch

from conftest import small_run
from likeness.core import Batch, Noise, Spec
from likeness.models.byol import BYOL, distance
from likeness.training.loop import fit

SMALL = dict(width=4, features=8, hidden=16, projection=8)


def batch(n: int = 8) -> Batch:
    return Batch(
        torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1),
        None,
        Noise(range(n)),
    )


def test_the_distance_is_that_of_unit_vectors_squared():
    p, z = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = [v / v.norm(dim=1, keepdim=True) for v in (p, z)]
    assert float(distance(p, z)) == pytest.approx(float((unit[0] - unit[1]).square().sum(1).mean()))
    assert float(distance(p, 3 * p)) == pytest.approx(0, abs=1e-12) and float(
        distance(p, -p)
    ) == pytest.approx(4)


def test_the_target_is_the_average_of_the_paper_after_every_step(tmp_path):
    run, data = small_run("byol", tmp_path, options=dict(tau=0.9, rise=256))
    model = run.student
    xi = {name: value.clone() for name, value in model.xi.named_buffers()}
    for number, _ in enumerate(fit(run, data)):
        tau = 1 - (1 - 0.9) * (torch.tensor(torch.pi * number * 16 / 256).cos().item() + 1) / 2
        for name, theta in model.theta.named_parameters():
            xi[name] = tau * xi[name] + (1 - tau) * theta.detach()
            assert torch.allclose(model.xi.get_buffer(name), xi[name], rtol=1e-5, atol=1e-6), (number, name)
    assert not torch.equal(model.xi.get_buffer("0.0.0.weight"), model.theta[0][0][0].weight)


def gradient_of_the_target(target: str) -> torch.Tensor:
    """Of the loss with respect to what is to be predicted."""
    model = BYOL(spec=Spec(1, 16), target=target, **SMALL).train()
    kept = []
    aim = model.aim

    def watched(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        kept.append(aim(x, z))
        return kept[-1]

    model.aim = watched
    model.loss(batch()).total.backward()
    return torch.tensor([float(out.requires_grad) for out in kept])


def test_no_gradient_reaches_the_target_unless_it_is_let_through():
    assert not gradient_of_the_target("average").any() and not gradient_of_the_target("stopped").any()
    assert gradient_of_the_target("joint").all()


def test_only_the_network_of_the_paper_has_a_target_and_it_is_no_weight():
    for target in ("average", "stopped", "joint"):
        model = BYOL(spec=Spec(1, 16), target=target, **SMALL)
        assert (model.xi is not None) == (target == "average")
        assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"theta", "q"}
        model.after_step()


@pytest.mark.parametrize("target", ["average", "stopped"])
def test_each_view_predicts_what_the_target_says_of_the_other(target):
    model, b = BYOL(spec=Spec(1, 16), target=target, **SMALL).train(), batch()
    xi = model.theta if model.xi is None else model.xi
    with torch.no_grad():
        for value in xi.buffers():
            value.add_(0.1 if value.is_floating_point() else 0)
    seen = []
    model.view = lambda b: seen.append(b.x + len(seen)) or seen[-1]
    total = float(model.loss(b).total.detach())
    v, other = seen
    with torch.no_grad():
        by_hand = [distance(model.q(model.theta(x)), xi(aim)) for x, aim in ((v, other), (other, v))]
        wrong = [distance(model.q(model.theta(x)), xi(x)) for x in (v, other)]
    assert total == pytest.approx(float(sum(by_hand)), rel=1e-5) and abs(total - float(sum(wrong))) > 1e-3
