"""The world model: its density, its evolution, its dream, its run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from likeness import cli, storage
from likeness.agents import dream, grid, load, opening, playing
from likeness.agents.cma import CMAES
from likeness.agents.drawn_cart import DrawnCart, drawn
from likeness.agents.mdn_rnn import MDNRNN, Ahead, Mixture
from likeness.agents.run import AgentRun
from likeness.core import Noise, Refusal


def mixture(k: int = 3, d: int = 2, rows: int = 4) -> Mixture:
    g = torch.Generator().manual_seed(0)
    shapes = (k,), (k, d), (k, d)
    numbers = [torch.randn(rows, *shape, generator=g, dtype=torch.float64) for shape in shapes]
    return Mixture(numbers[0].log_softmax(-1), numbers[1], numbers[2] / 2)


# The density of the next code


def test_nats_are_those_of_a_mixture_of_torch():
    m, z = mixture(), torch.randn(4, 2, dtype=torch.float64)
    parts = torch.distributions.Independent(torch.distributions.Normal(m.mean, m.log_sigma.exp()), 1)
    weights = torch.distributions.Categorical(logits=m.log_weight)
    theirs = torch.distributions.MixtureSameFamily(weights, parts)
    assert torch.allclose(m.log_prob(z), theirs.log_prob(z), atol=1e-12)
    swapped = m._replace(log_weight=m.log_weight.flip(-1))  # the fake: weights of other components
    assert (swapped.log_prob(z) - theirs.log_prob(z)).abs().max() > 0.01


def test_a_density_has_integral_1_and_the_gradient_of_its_differences():
    m = mixture(d=1, rows=1)
    x = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    wide = Mixture(*(t.expand(len(x), *t.shape[1:]) for t in m))
    assert float(wide.log_prob(x[:, None]).exp().sum() * (x[1] - x[0])) == pytest.approx(1, abs=1e-9)
    z = torch.zeros(1, 1, dtype=torch.float64)
    inputs = [t.clone().requires_grad_(True) for t in m]
    assert torch.autograd.gradcheck(lambda *p: Mixture(p[0].log_softmax(-1), *p[1:]).log_prob(z), inputs)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_draws_have_the_frequencies_of_the_mixture_at_its_temperature(tau):
    n = 40_000
    log_weight = torch.tensor([0.5, 0.2, 0.3]).log()
    mean = torch.tensor([[-50.0, 0.0], [0.0, 5.0], [50.0, 0.0]])
    sigma = torch.tensor([[1.0, 2.0], [0.5, 0.5], [3.0, 1.0]])
    m = Mixture(*(t.expand(n, *t.shape) for t in (log_weight, mean, sigma.log())))
    g = torch.Generator().manual_seed(1)
    z = m.draw(torch.rand(n, generator=g), torch.randn(n, 2, generator=g), tau)
    which = (z[:, :1] - mean[:, 0]).abs().argmin(1)
    share = (log_weight / tau).softmax(0)
    assert torch.bincount(which).div(n).sub(share).abs().max() < 0.01
    for k in range(3):
        assert torch.allclose(z[which == k].mean(0), mean[k], atol=0.1)
        assert torch.allclose(z[which == k].std(0), math.sqrt(tau) * sigma[k], rtol=0.05)
    assert torch.equal(m.draw(torch.rand(n), torch.randn(n, 2), 0.0), mean[:1].expand(n, 2))


def test_a_step_is_one_of_a_sequence():
    torch.manual_seed(0)
    net, z, action = MDNRNN(3, 4, 8, 2), torch.randn(5, 6, 3), torch.randint(4, (5, 6))
    whole, end = net(z, action)
    memory = torch.zeros(5, 16)
    for t in range(6):
        one, memory = net.step(z[:, t], action[:, t], memory)
        assert torch.allclose(one.code.mean, whole.code.mean[:, t], atol=1e-6)
        assert torch.allclose(one.end, whole.end[:, t], atol=1e-6)
    assert torch.allclose(memory, end, atol=1e-6)


def test_sigma_begins_near_1():
    out = MDNRNN(3, 4, 8, 2).read(torch.zeros(1, 2 * 7 + 3))
    assert torch.allclose(out.code.log_sigma, torch.zeros(1, 2, 3), atol=1e-6)


# CMA-ES


def minimum(matrix: np.ndarray, start: np.ndarray, generations: int, turn: np.ndarray | None = None) -> CMAES:
    """Of x' M x, its argument turned first."""
    evolution = CMAES(start, 1.0, 12, np.random.default_rng(0))
    turn = np.eye(len(start)) if turn is None else turn
    for _ in range(generations):
        x = evolution.ask()
        y = x @ turn.T
        evolution.tell(x, -np.einsum("ki,ij,kj->k", y, matrix, y))
    return evolution


def test_cma_es_comes_to_the_minimum_and_to_the_shape_of_the_valley():
    scales = 10.0 ** np.arange(5)
    one = minimum(np.diag(scales), np.full(5, 3.0), 300)
    assert np.abs(one.mean * np.sqrt(scales)).max() < 1e-7
    shape = np.diag(one.c) * scales  # C is the inverse of M but for a factor
    assert shape.max() / shape.min() < 20
    round_ = CMAES(np.full(5, 3.0), 1.0, 12, np.random.default_rng(0))  # the fake: steps without a shape
    round_.c_1 = round_.c_mu = 1e-12
    round_.decomposed = 10**9
    for _ in range(300):
        x = round_.ask()
        round_.tell(x, -(scales * x * x).sum(1))
    assert np.abs(round_.mean * np.sqrt(scales)).max() > 1e-3


def test_cma_es_knows_the_order_alone_and_no_direction():
    def path(values, turn):
        evolution = CMAES(turn.T @ np.array([3.0, 1.0, 2.0]), 1.0, 8, np.random.default_rng(1))
        out = []
        for _ in range(40):
            z = evolution.rng.standard_normal((8, 3))
            # the same draws in the turned space
            root = evolution.axes * evolution.scales @ evolution.axes.T
            x = evolution.mean + evolution.sigma * (z @ turn) @ root
            evolution.tell(x, values(x @ turn.T))
            out.append(turn @ evolution.mean)
        return np.array(out)

    def bowl(x):
        return -(x * x * [1.0, 10.0, 100.0]).sum(1)

    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    plain = path(bowl, np.eye(3))
    assert np.abs(path(lambda x: np.arctan(bowl(x)) ** 3, np.eye(3)) - plain).max() < 1e-9
    assert np.abs(path(bowl, turn) - plain).max() < 1e-6
    assert np.abs(path(lambda x: bowl(x + 1), np.eye(3)) - plain).max() > 0.1  # the fake: another function


def test_constants_of_cma_es():
    """Weights of (49) to (53) of n = 10, lambda = 10, as the tutorial's default has them."""
    one = CMAES(np.zeros(10), 1.0, 10, np.random.default_rng(0))
    raw = [math.log(5.5) - math.log(i) for i in range(1, 6)]
    assert one.weights == pytest.approx([w / sum(raw) for w in raw])
    assert one.mu_eff == pytest.approx(3.167, abs=1e-3)
    # sigma stays where the best are any: E log sigma' = log sigma of values that know nothing
    logs, traces = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        one = CMAES(np.zeros(10), 1.0, 10, rng)
        for _ in range(20):
            one.tell(one.ask(), rng.normal(size=10))
        logs.append(math.log(one.sigma))
        traces.append(np.trace(one.c) / 10)
    assert abs(np.mean(logs)) < 0.2 and np.mean(traces) == pytest.approx(1, abs=0.1)


# The dream


class Perfect:
    """Of the grid: its table, with cells as codes."""

    code, actions, hidden = len(grid.CELLS), 4, 1
    to = torch.from_numpy(grid.TO)

    def first(self, seeds: np.ndarray) -> torch.Tensor:
        return torch.eye(self.code)[grid.START[seeds % len(grid.START)]]

    def step(self, z: torch.Tensor, action: torch.Tensor, memory: torch.Tensor) -> tuple[Ahead, torch.Tensor]:
        cell = self.to[z.argmax(1), action]
        mean = torch.eye(self.code)[cell][:, None]
        code = Mixture(torch.zeros(len(z), 1), mean, torch.full_like(mean, -math.inf))
        ends = cell == grid.GOAL
        reward = torch.tensor([0.0, grid.WORTH], dtype=torch.float64).expand(len(z), 2) - grid.COST
        return Ahead(code, reward, torch.where(ends, math.inf, -math.inf)), memory


def alike(model: Perfect, tau: float) -> bool:
    """Whether 300 steps of the dream are those of the grid."""
    asleep, awake = dream.Dream(model, 6, 3, grid.LIMIT, tau), grid.Grid(6, 3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        action = rng.integers(4, size=6)
        a, b = asleep.step(action), awake.step(action)
        same = all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:]))
        if not same or not np.array_equal(asleep.see[:, :-1].argmax(1), awake.cell):
            return False
    return asleep.take() == awake.take()


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_dream_of_a_perfect_model_is_the_world(tau):
    assert alike(Perfect(), tau)
    fake = Perfect()
    fake.to = Perfect.to.clone()
    fake.to[grid.START[0]] = grid.START[1]  # one cell that leads elsewhere
    assert not alike(fake, tau)


class Coin(Perfect):
    """Somewhere, whatever is done; ends with probability 0.2."""

    def step(self, z: torch.Tensor, action: torch.Tensor, memory: torch.Tensor) -> tuple[Ahead, torch.Tensor]:
        mean = torch.zeros(len(z), 1, self.code)
        end = torch.full((len(z),), math.log(0.2 / 0.8))
        return Ahead(Mixture(torch.zeros(len(z), 1), mean, mean), torch.ones(len(z), 2), end), memory


def test_an_ending_comes_as_often_as_the_model_says():
    world = dream.Dream(Coin(), 500, 0, 10_000)
    lengths = [e.length for e in playing.episodes(world, lambda see: np.zeros(len(see), np.int64))]
    assert np.mean(lengths) == pytest.approx(5, abs=0.6)


def test_copies_of_one_noise_dream_the_same_and_others_do_not():
    world = dream.Dream(Coin(), 6, 0, 50, noises=3)
    see = world.step(np.zeros(6, np.int64)).after
    assert np.array_equal(see[:3], see[3:]) and not np.array_equal(see[0], see[1])
    apart = dream.Dream(Coin(), 6, 0, 50)
    see = apart.step(np.zeros(6, np.int64)).after
    assert not np.array_equal(see[:3], see[3:])


def test_a_dream_is_restored_where_it_was():
    def world():
        return dream.Dream(Coin(), 4, 0, 50)

    one, other, action = world(), world(), np.zeros(4, np.int64)
    for _ in range(7):
        one.step(action)
    arrays, facts = one.state()
    other.restore({k: a.copy() for k, a in arrays.items()}, facts)
    for _ in range(20):
        a, b = one.step(action), other.step(action)
        assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_the_return_of_each_controller_is_that_of_its_own_episodes():
    """Value iteration as a controller, beside one that walks up for ever."""
    best = torch.zeros(2, 4, 1 + Perfect.code + 1)
    best[0, :, 1:-1] = torch.from_numpy(grid_values().T).float()
    best[1, 0, 0] = 1.0
    world = dream.Dream(Perfect(), 2 * 50, 0, grid.LIMIT, noises=50)
    first, second = dream.returns(world, best, 1.0)
    cells = np.array([grid.START[dream.episode_seed(0, i, 0) % len(grid.START)] for i in range(50)])
    assert first == pytest.approx(grid_values().max(1)[cells].mean(), abs=1e-6) and second < 0
    halved = dream.returns(dream.Dream(Perfect(), 50, 0, grid.LIMIT), best[1:], 0.5)
    assert halved[0] == pytest.approx(-0.04, abs=1e-6)  # 0.02 (1 + 1/2 + 1/4 ...)


def grid_values() -> np.ndarray:
    from likeness.agents.tabular import value_iteration

    return value_iteration(*grid.model(), gamma=1.0)


def test_pictures_have_the_colours_of_the_grid():
    world = grid.Grid(1, 0)
    page = dream.picture(world.see[0].astype(float))
    assert np.array_equal(page[12::24, 12::24], world.frame(0)[12::24, 12::24])


# CartPole as pictures


def test_the_drawn_pole_stands_where_the_cart_is():
    images = drawn(np.array([0.0, 1.2, 0.0]), np.array([0.0, 0.0, 0.15]))[:, 0] / 255.0
    x = (np.arange(32) + 0.5) / 32 * 4.8 - 2.4
    dark = 1 - images
    base, top = dark[:, -2], dark[:, 8]
    assert (base @ x / base.sum(1))[:2] == pytest.approx([0, 1.2], abs=1e-2)
    height = 1.25 - 8.5 / 32 * 1.25 - 0.14
    assert top[2] @ x / top[2].sum() == pytest.approx(height * math.tan(0.15), abs=2e-2)
    a, b = DrawnCart(3, 5), opening.world("CartPole-v1", 3, 5)
    for t in range(40):
        action = np.full(3, t % 2)
        one, two = a.step(action), b.step(action)
        assert np.array_equal(one.terminated, two.terminated) and one.after.shape == (3, 1, 32, 32)


# The run


TINY = dict(steps=320, worlds=8, hidden=8, latent=4, mixtures=2, batch=8, vae_gradients=30, rnn_gradients=30,
            window=6, generations=6, population=4, rollouts=2, limit=8)  # fmt: skip


def train(folder, until: int = 10**9, **more) -> AgentRun:
    run = AgentRun.begin(folder, "world-model", "grid", 0, TINY | more)
    for lines, _ in enumerate(run.fit(), 1):
        if lines == until:
            break
    run.close()
    return run


def bits(folder) -> tuple:
    tensors, facts, _ = storage.newest(folder / "state")
    return {k: t.numpy().tobytes() for k, t in tensors.items()}, facts["agent"], facts["world"]


def test_a_killed_run_is_one_that_was_not(tmp_path, monkeypatch):
    """In each stage: of the world, of V, of M, of C."""
    whole = train(tmp_path / "whole")
    for until in (20, 42, 44, 48):
        with monkeypatch.context() as m:
            m.setattr("likeness.agents.run.EVERY", 0.0)
            train(tmp_path / f"cut{until}", until=until)
        train(tmp_path / f"cut{until}")
        a, b = ((tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", f"cut{until}"))
        assert a == b and bits(tmp_path / "whole") == bits(tmp_path / f"cut{until}")
    assert len(a.splitlines()) == 40 + 3 + 3 + 6 and whole.steps == 320


def test_it_goes_on_to_more_generations(tmp_path):
    train(tmp_path / "r")
    run = train(tmp_path / "r", generations=8)
    assert run.agent.cma.generation == 8 and run.world.steps == 320
    with pytest.raises(Refusal, match="steps 320, not 400"):
        train(tmp_path / "r", steps=400)


def test_the_world_is_not_asked_after_the_first_stage(tmp_path, monkeypatch):
    run = AgentRun.begin(tmp_path / "r", "world-model", "grid", 0, TINY)
    for line in run.fit():
        if line["steps"] >= 320:
            monkeypatch.setattr(run.world, "step", None)
    run.close()
    assert run.agent.cma.generation == 6


def test_what_is_learnt_from_lies_inside_one_episode(tmp_path):
    """The loss of a batch against that of its stretches, one after the other and each to its ending."""
    one = train(tmp_path / "r").agent
    o, (T, n) = one.o, one.seen["action"].shape
    one.seen["ended"][::7], one.seen["real"][1::7] = True, False
    o.rate = 0.0  # the weights stay
    state = one.rng.bit_generator.state
    terms = one.learn_stretches()
    one.rng.bit_generator.state = state
    first, copy = one.rng.integers(T, size=(o.batch, 1))[:, 0], one.rng.integers(n, size=(o.batch, 1))[:, 0]
    noise = Noise(one.rng.integers(2**62, size=o.batch).tolist()).normal(2, o.window, o.latent)
    nats, squares, mean, deviation = [], [], *one.rewards
    for b, (t, i) in enumerate(zip(first, copy)):
        memory = torch.zeros(1, 2 * o.hidden)
        for k in range(o.window):
            if t + k == T:
                break
            z, after = (
                one.codes[name].mu[t + k, i] + (one.codes[name].log_var[t + k, i] / 2).exp() * noise[b, m, k]
                for m, name in enumerate(("see", "after"))
            )
            action = torch.tensor([one.seen["action"][t + k, i]])
            ahead, memory = one.rnn.step(z[None], action, memory)
            if one.seen["real"][t + k, i]:
                nats.append(-float(ahead.code.log_prob(after[None]).detach()))
                reward = (one.seen["reward"][t + k, i] - mean) / deviation
                squares.append(
                    (float(ahead.reward.detach()[0, int(one.seen["terminated"][t + k, i])]) - reward) ** 2
                )
            if one.seen["ended"][t + k, i]:
                break
    assert 5 < len(nats) < o.batch * o.window - 5
    assert terms["code"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert terms["reward"] == pytest.approx(np.mean(squares), rel=1e-4)


def test_the_memory_is_of_one_episode(tmp_path):
    """After an ending the player acts as at the beginning; during it, by what came before."""
    one = train(tmp_path / "r").agent
    world = grid.Grid(2, 0)
    player = one.playing()
    player(world.see)
    moved = world.step(player.actions)
    assert player.memory.abs().sum() > 0
    ended = np.array([True, False])
    player.moved(moved._replace(terminated=ended, truncated=~ended & False))
    assert player.memory[0].abs().sum() == 0 and player.memory[1].abs().sum() > 0


def test_foresight_of_a_model_that_knows_beside_a_copy(tmp_path, monkeypatch):
    """A code that is the image, and a prediction that is right: no error; a copy is wrong in two pixels of
    243 where the agent has moved."""
    one = train(tmp_path / "r").agent
    world = grid.Grid(4, 1)
    cells = {grid.PLANES[s].tobytes(): s for s in range(len(grid.CELLS))}

    class Q:
        def __init__(self, see):
            self.mu = torch.eye(len(grid.CELLS))[[cells[x.tobytes()] for x in see]]

    perfect = Perfect()
    monkeypatch.setattr(one, "encode", Q)
    monkeypatch.setattr(one, "decode", lambda z: grid.PLANES[z.argmax(1)].astype(np.float32))
    monkeypatch.setattr(one, "step", perfect.step)
    seen = one.foresight(world, np.random.default_rng(0))
    assert seen.predicted == (0, 0) and seen.coded == (0, 0) and seen.n == 200
    moved, rng, same = 0, np.random.default_rng(0), grid.Grid(4, 1)
    for _ in range(50):
        before = same.see
        moved += int((same.step(rng.integers(4, size=4)).after != before).sum())
    assert seen.copied[1] == pytest.approx(moved / (200 * 243)) and moved > 0


def test_train_film_and_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = " ".join(f"--{k.replace('worlds', 'num-envs').replace('steps', 'total-timesteps')} {v}"
                     for k, v in TINY.items())  # fmt: skip
    assert cli.main(f"play world-model grid r {flags} --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 320
    assert cli.main(["play", "r", "-o", "f.gif", "--json"]) == 0
    film = json.loads(capsys.readouterr().out)
    assert 2 <= film["frames"] <= 51
    from PIL import Image

    assert Image.open("f.gif").size == (8 + 3 * (216 + 8), 216 + 18 + 8)
    assert cli.main(["evaluate", "r", "-n", "10"]) == 0
    text = capsys.readouterr().out
    assert "wrong pixels of the last frame, copied" in text and "random policy" in text
    page = Path("r/report.html").read_text()
    assert "dream return" in page and "clock" in page and "steps to half" not in page


def test_a_world_of_numbers_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["play", "world-model", "CartPole-v1", "r"]) == 2
    assert "CartPole-drawn" in capsys.readouterr().err
    assert load("world-model").longer == "generations"
