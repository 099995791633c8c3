"""CycleGAN against its formulas, its pool against a simulation, and a map that can be known."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import likeness
from conftest import small_run, toy
from likeness import engine, figures
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.data import Data, load, picture
from likeness.models.cyclegan import CycleGAN, Pool
from likeness.runs.run import Run
from likeness.training import doctor, loop, snapshots
from likeness.training.loop import fit

SPEC = Spec(3, 16, source=(3, 16))


def model(spec: Spec = SPEC, **options: object) -> CycleGAN:
    torch.manual_seed(0)
    m = CycleGAN(spec=spec, **(dict(width=4, blocks=1, pool=0) | options))
    for p in m.parameters():
        nn.init.normal_(p, std=0.3)
    return m


def batch(n: int = 4, spec: Spec = SPEC, key: int = 1, seen: int = 0) -> Batch:
    noise = Noise(range(seen, seen + n), key=key)
    x = noise.uniform(spec.channels, spec.size, spec.size) * 2 - 1
    a = noise.uniform(spec.source[0], spec.size, spec.size) * 2 - 1
    return Batch(x, Condition(image=a), Noise(range(seen, seen + n)), seen=seen)


# The loss


def wanted(m: CycleGAN, b: Batch) -> Tensor:
    """What the generators minimise, one call after another (eq. 1 to 3 and section 5.2)."""

    def G(x: Tensor) -> Tensor:
        return m.G(x).tanh()

    def F(x: Tensor) -> Tensor:
        return m.F(x).tanh()

    x, y, total = b.y.image, b.x, torch.zeros(())
    if m.parts != "cycle":
        total = total + ((m.D_B(G(x)) - 1) ** 2).mean() + ((m.D_A(F(y)) - 1) ** 2).mean()
    if m.parts in ("full", "cycle", "forward"):
        total = total + m.cycle * (F(G(x)) - x).abs().mean()
    if m.parts in ("full", "cycle", "backward"):
        total = total + m.cycle * (G(F(y)) - y).abs().mean()
    return total + m.identity * ((G(y) - y).abs().mean() + (F(x) - x).abs().mean())


@pytest.mark.parametrize("identity", [0.0, 5.0])
@pytest.mark.parametrize("parts", ["full", "cycle", "gan", "forward", "backward"])
def test_the_loss_and_its_gradient_are_the_formulas_and_a_part_left_out_pulls_at_nothing(parts, identity):
    m, b = model(parts=parts, identity=identity), batch()
    weights = list(m.generators.parameters())
    ours, right = m.generators_loss(b).total, wanted(m, b)
    assert torch.allclose(ours, right, rtol=1e-5)
    for one, other in zip(*(torch.autograd.grad(t, weights) for t in (ours, right)), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)
    assert [p.name for p in m.players()] == ["generator", "discriminator"][: 1 + (parts != "cycle")]


def test_the_discriminators_learn_from_what_the_formula_says():
    m, b = model(), batch()
    with torch.no_grad():
        fake_a, fake_b = m.F(b.x).tanh(), m.G(b.y.image).tanh()
        right = sum(
            (((D(real) - 1) ** 2).mean() + (D(fake) ** 2).mean()) / 2
            for D, real, fake in ((m.D_A, b.y.image, fake_a), (m.D_B, b.x, fake_b))
        )
    loss = m.discriminators_loss(b)
    assert torch.allclose(loss.total, right, rtol=1e-5)
    assert all(p.grad is None for p in m.generators.parameters())
    told = [
        (D(real).flatten() > D(fake).flatten()).float().mean()
        for D, real, fake in ((m.D_A, b.y.image, fake_a), (m.D_B, b.x, fake_b))
    ]
    assert float(loss.terms["told apart"]) == pytest.approx(float(sum(told) / 2))


def test_each_image_is_drawn_once_a_step():
    """The discriminators learn from what the generators drew before their move; three passes in all."""
    m, b = model(identity=5.0).train(), batch()
    calls = {"G": 0, "F": 0}
    for name in calls:
        net = m.generators[name]
        net.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    m.generators_loss(b)
    with torch.no_grad():
        made = m.F(b.x).tanh(), m.G(b.y.image).tanh()
    calls.update(G=0, F=0)
    nn.init.zeros_(m.G.layers[-1].weight)  # as if the generators had moved
    m.drawn.kept.clear()
    m.drawn.put(b, *made)
    kept = m.discriminators_loss(b).total
    assert calls == {"G": 0, "F": 0} and not m.drawn.kept
    assert not torch.allclose(kept, m.discriminators_loss(b).total), "without them they are drawn anew"
    calls.update(G=0, F=0)
    m.generators_loss(b), m.discriminators_loss(b)
    assert calls == {"G": 2, "F": 1}


def test_what_was_drawn_is_for_the_same_step_and_for_training_only():
    m, b = model().train(), batch()
    m.generators_loss(b)
    assert m.drawn.take(replace(b, seen=4)) is None and m.drawn.take(b[:2]) is None
    assert m.drawn.take(b) is not None and m.drawn.take(b) is None
    m.eval()
    m.generators_loss(b)
    assert not m.drawn.kept


# The pool


def simulated(
    rows: list[Tensor], noises: list[Noise], places: int
) -> tuple[list[Tensor], list[Tensor | None]]:
    """One image after another: what the discriminator sees, and the pool at the end."""
    pool: list[Tensor | None] = [None] * places
    shown = []
    for images, noise in zip(rows, noises):
        draws, wishes = noise.uniform(2), dict[int, list[Tensor]]()
        for image, (where, coin) in zip(images, draws.tolist()):
            place = int(where * places)
            if pool[place] is None:
                wishes.setdefault(place, []).append(image)
                shown.append(image)
            elif coin < 0.5:
                wishes.setdefault(place, []).append(image)
                shown.append(pool[place])
            else:
                shown.append(image)
        for place, waiting in wishes.items():
            if len(waiting) == 1:
                pool[place] = waiting[0]
    return shown, pool


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_the_pool_is_its_simulation_however_a_batch_is_split(piece):
    steps, n, places = 12, 5, 4
    rows = [torch.randn(n, 2, 3, 3) for _ in range(steps)]
    noises = [Noise(range(n * i, n * i + n), key=7) for i in range(steps)]
    pool, shown = Pool(places, (2, 3, 3)), []
    for images, noise in zip(rows, noises):
        for i in range(0, n, piece):
            shown += list(pool.exchanged(images[i : i + piece], noise[i : i + piece]))
        pool.tallies()
        pool.settle()
    right, held = simulated(rows, [Noise(range(n * i, n * i + n), key=7) for i in range(steps)], places)
    assert all(map(torch.equal, shown, right)) and len(shown) == steps * n
    for i, image in enumerate(held):
        assert bool(pool.there[i]) == (image is not None)
        assert image is None or torch.equal(pool.images[i], image)
    own = sum(torch.equal(a, b) for a, b in zip(shown, itertools.chain(*rows)))
    assert 0.3 < own / len(shown) < 0.9, "some are old, some are new"


def test_processes_that_share_a_batch_have_one_pool():
    """Each adds up its own images; the sums are added over processes, as the loop does."""
    whole, *parts = (Pool(3, (1, 2, 2)) for _ in range(3))
    for step in range(8):
        images, noise = torch.randn(6, 1, 2, 2), lambda step=step: Noise(range(6 * step, 6 * step + 6))
        whole.exchanged(images, noise())
        whole.tallies(), whole.settle()
        for rank, pool in enumerate(parts):
            pool.exchanged(images[rank::2], noise()[rank::2])
        sums = [pool.tallies() for pool in parts]
        for one, other in zip(*sums):
            both = one + other
            one.copy_(both), other.copy_(both)
        for pool in parts:
            pool.settle()
        assert all(torch.equal(pool.images, whole.images) for pool in parts)
        assert all(torch.equal(pool.there, whole.there) for pool in parts)


def test_the_pool_is_part_of_what_is_saved(tmp_path):
    run, data = small_run("cyclegan", tmp_path)
    list(fit(run, data))
    held = run.tensors()["student/pool_B.images"]
    there = run.tensors()["student/pool_B.there"]
    assert bool(there.any()) and bool((held.flatten(1).abs().amax(1) > 0)[there].all())
    assert not any("pool" in name for name in run.tensors() if name.startswith("model/")), "saved once"
    assert not run.raw().pools()


def test_a_run_that_saved_its_pool_twice_opens_and_goes_on(tmp_path, monkeypatch):
    first, data = small_run("cyclegan", tmp_path)
    next(fit(first, data))
    twice = first.tensors()
    twice |= {f"model/{k[8:]}": v.clone() for k, v in twice.items() if k.startswith("student/pool")}
    monkeypatch.setattr(type(first), "tensors", lambda self: twice)
    first._saved = -1
    first.save()
    monkeypatch.undo()
    first.close()
    opened, on = Run.open(first.folder), Run.resume(first.folder)
    x = torch.zeros(1, first.config.spec.source[0], first.config.spec.size, first.config.spec.size)
    assert torch.equal(opened.model.translate(x), first.model.translate(x))
    assert torch.equal(on.student.pool_B.images, first.student.pool_B.images)
    on.close()


def test_a_pool_that_would_hardly_change_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"pool of 3 .* --pool 8 or more"):
        likeness.train("cyclegan", "day-night:80", tmp_path / "r", size=8, pool=3, batch=8, progress=False)


# Around it


def domains(n: int = 96, size: int = 8) -> Data:
    """Bright squares on a dark ground, and others after a map: dark ones on a bright ground."""

    def squares(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x = np.full((n, 1, size, size), 30, np.uint8)
        for image, (i, j) in zip(x, rng.integers(0, size - 2, (n, 2))):
            image[0, i : i + 3, j : j + 3] = 225
        return x

    rows = (np.arange(16, n), np.arange(16))
    a, b = Data("a", "a", squares(0), *rows), Data("b", "b", 255 - squares(1), *rows)
    return replace(b.with_domain(a), truth=255 - a.x[:16])


def test_a_map_that_nobody_is_told_is_learnt(tmp_path):
    """In 80 steps it is nearer to T(a) than any one image could be, and knows the way back."""
    data = load("hidden-map:300", size=16)
    options = dict(width=8, blocks=1)
    run, _ = small_run("cyclegan", tmp_path, data, options=options, batch=8, images=640, rate=2e-3, warmup=0)
    list(fit(run, data))
    a, right = picture(data.other.x[data.other.held_out]), picture(data.truth)
    error = (run.model.translate(a) - right).abs().mean()
    constant = (picture(data.x[data.train]).mean(0) - right).abs().mean()
    assert error < 0.85 * constant and error < 0.3 * (a - right).abs().mean()
    assert (run.model.translate(right, back=True) - a).abs().mean() < 0.45


def test_pictures_on_the_way_show_source_translation_and_truth(tmp_path):
    data = domains()
    run, _ = small_run("cyclegan", tmp_path, data)
    tiles = figures.ungrid(snapshots.picture(run, data, 12), 8)
    a, right = picture(data.other.x[data.other.held_out]), picture(data.truth)
    made = run.model.translate(a.to(engine.device()))
    for i in range(4):
        for k, x in enumerate((a, made, right)):
            assert np.array_equal(tiles[3 * i + k], figures.pixels(x[i : i + 1])[0])
    pairs, _ = small_run("cyclegan", tmp_path / "pairs")
    assert snapshots.picture(pairs, _, 12) is not None


def test_the_doctor_looks_at_both_discriminators_and_changes_nothing(tmp_path):
    data = domains()
    run, _ = small_run("cyclegan", tmp_path, data)
    next(fit(run, data))
    pairs = [list(doctor.logits(run, data, player, data.held_out)) for player in run.model.players()]
    assert pairs[0] == [] and len(pairs[1]) == 2
    terms = run.model.discriminators_loss(engine.put(data.take(data.held_out[:8]))).terms
    assert pairs[1][0] == pytest.approx((float(terms["on real"]), float(terms["on fake"])), abs=1e-5)
    assert not run.model.drawn.kept and not run.student.pool_A.entering


@pytest.mark.parametrize(
    "spec, options, match",
    [
        (Spec(3, 16), {}, "two kinds of images"),
        (Spec(3, 16, source=(3, 8)), {}, "one size"),
        (Spec(3, 16, source=(1, 16)), dict(identity=1.0), "--identity .* 1 channels are none of 3"),
        (SPEC, dict(parts="forward", cycle=0.0), "type --parts gan"),
        (Spec(3, 18, source=(3, 18)), {}, "--size 16"),
        (SPEC, dict(layers=3), "images of 24 pixels and more"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(spec, options, match):
    with pytest.raises(Refusal, match=match):
        CycleGAN(spec=spec, **options)


def test_what_cannot_be_translated_is_refused_with_the_reason():
    m = model(Spec(3, 16, source=(1, 16)))
    assert m.translate(torch.zeros(2, 1, 20, 32)).shape == (2, 3, 20, 32)
    assert m.translate(torch.zeros(2, 3, 20, 32), back=True).shape == (2, 1, 20, 32)
    with pytest.raises(Refusal, match="images of 1 channels and these have 3"):
        m.translate(torch.zeros(2, 3, 16, 16))
    with pytest.raises(Refusal, match="multiples of 4, 8 at least, and these have 18 x 16"):
        m.translate(torch.zeros(2, 1, 16, 18))
    with pytest.raises(Refusal, match="makes an image of another"):
        next(m.sample(Noise(range(2))))


def test_it_learns_the_same_with_fakes_kept_as_with_fakes_drawn_anew(tmp_path):
    """The discriminators then meet what the generators drew before their move, bit for bit."""
    runs = [small_run("cyclegan", tmp_path / name, toy(), options=dict(pool=0), rate=0.0)[0] for name in "ab"]
    data = small_run("cyclegan", tmp_path / "c")[1]
    runs[1].student.drawn.put = lambda *_: None  # with a rate of 0 the generators do not move
    first, second = (next(loop.fit(run, data)).losses for run in runs)
    assert first == pytest.approx(second, rel=1e-5)
