"""DINO: its loss and its centre by hand, views of two sizes, and who learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import small_run
from likeness.core import Batch, Noise, Spec
from likeness.models.dino import DINO, cross_entropy
from likeness.training.loop import fit

SMALL = dict(width=8, depth=1, heads=2, hidden=16, bottleneck=8, prototypes=12)


def batch(n: int = 4, size: int = 16) -> Batch:
    return Batch(
        torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0)).clamp(-1, 1),
        None,
        Noise(range(n)),
    )


def test_the_loss_by_hand_never_compares_a_view_with_itself():
    rng = np.random.default_rng(0)
    p_t, p_s = rng.dirichlet(np.ones(5), (2, 3)), rng.dirichlet(np.ones(5), (4, 3))
    pairs = [(i, j) for i in range(2) for j in range(4) if i != j]
    by_hand = np.mean(
        [-sum(p_t[i, n, k] * np.log(p_s[j, n, k]) for k in range(5)) for i, j in pairs for n in range(3)]
    )
    assert len(pairs) == 6
    assert float(
        cross_entropy(tuple(torch.from_numpy(p_t)), list(torch.from_numpy(p_s).log()))
    ) == pytest.approx(by_hand)


def test_the_whole_loss_by_hand():
    model, b = DINO(spec=Spec(3, 16), **SMALL).train(), batch()
    model.c.uniform_(-0.1, 0.1)
    seen = []
    model.view = lambda *_: seen.append(b.x + 0.1 * len(seen)) or seen[-1]
    loss = model.loss(b)
    with torch.no_grad():
        teacher, student = ([net(x) for x in seen] for net in (model.teacher, model.student))
        p_t = [torch.softmax((g - model.c) / 0.04, 1) for g in teacher]
        log_s = [torch.log_softmax(g / 0.1, 1) for g in student]
        wanted = (-(p_t[0] * log_s[1]).sum(1).mean() - (p_t[1] * log_s[0]).sum(1).mean()) / 2
    assert float(loss.total.detach()) == pytest.approx(float(wanted), rel=1e-4)
    assert float(loss.terms["entropy"] + loss.terms["divergence"]) == pytest.approx(float(wanted), rel=1e-4)
    assert float(loss.terms["chance"]) == pytest.approx(np.log(12))


def test_the_centre_is_an_average_of_what_the_teacher_says_and_the_teacher_of_the_student(tmp_path):
    run, data = small_run("dino", tmp_path, options=SMALL | dict(centring=0.8, keep=0.7), micro=5)
    model, said, means = run.student, [], []
    note = model.note
    model.note = lambda g: (said.append(g.clone()), note(g))[1]
    old = {name: value.clone() for name, value in model.teacher.named_buffers()}
    for number, _ in enumerate(fit(run, data)):
        means.append(torch.cat(said).mean(0))
        weights = torch.tensor([0.8 ** (number - i) for i in range(number + 1)])
        average = (torch.stack(means) * weights[:, None]).sum(0) / weights.sum()
        assert torch.allclose(model.c, average, atol=1e-5), number
        for name, p in model.student.named_parameters():
            old[name] = 0.7 * old[name] + 0.3 * p.detach()
            assert torch.allclose(model.teacher.get_buffer(name), old[name], atol=1e-5)
        said.clear()
    assert not bool(model.tally.any()) and len(means) == 8


def test_no_gradient_reaches_the_teacher_and_looking_leaves_no_trace():
    model = DINO(spec=Spec(3, 16), **SMALL)
    assert all(name.startswith("student.") for name, _ in model.named_parameters())
    model.eval().loss(batch())
    assert not bool(model.tally.any())


@pytest.mark.parametrize("size, small", [(8, 4), (16, 6), (28, 12), (32, 12)])
def test_local_views_are_small_and_go_to_the_student_alone(size, small):
    model, b = DINO(spec=Spec(3, size), **SMALL, local=3).train(), batch(size=size)
    sizes: dict[str, list[tuple[int, ...]]] = dict(student=[], teacher=[])
    for name in sizes:
        getattr(model, name).backbone.register_forward_hook(
            lambda _, given, __, name=name: sizes[name].append(given[0].shape)
        )
    assert bool(model.loss(b).total.isfinite()) and model.small == small
    assert [s[-1] for s in sizes["teacher"]] == [size] and [s[-1] for s in sizes["student"]] == [size] + 3 * [
        small
    ]
    assert sizes["teacher"][0][0] == 8


def test_encode_asks_the_token_of_no_patch():
    model, b = DINO(spec=Spec(3, 16), **SMALL).eval(), batch()
    assert torch.equal(model.encode(b.x), model.student.backbone(b.x)[:, 0]) and model.encode(b.x).shape == (
        4,
        8,
    )


def test_one_prototype_for_all_is_named():
    model, b = DINO(spec=Spec(3, 16), **SMALL).eval(), batch(20)
    model.c[1:] = 10.0
    *_, (name, used, warning) = model.diagnose(b)
    assert (name, used) == ("prototypes used", 1.0) and "collapsed" in warning
