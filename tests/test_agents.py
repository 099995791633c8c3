"""Agents against closed forms, enumerations and Stable-Baselines3; each check is followed by its fake."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from likeness.agents import dqn, grid, load, opening, ppo, reinforce, returns, tabular
from likeness.agents.adam import Adam
from likeness.agents.agent import drawn
from likeness.agents.networks import Perceptron
from likeness.agents.relu import Relu
from likeness.agents.world import Moved, Space, World
from likeness.core import Refusal
from likeness.metrics.returns import iqm, stratified

VECTOR = Space((4,), 2)


# Tables


def test_value_iteration_is_the_solution_of_the_linear_equations_of_its_policy():
    to, reward, ends = grid.model()
    q = tabular.value_iteration(to, reward, ends, 0.9)
    best, s = q.argmax(1), np.arange(len(to))
    p = np.zeros((len(to), len(to)))
    p[s, to[s, best]] = np.where(ends[s, best], 0.0, 1.0)
    v = np.linalg.solve(np.eye(len(to)) - 0.9 * p, reward[s, best])
    assert np.allclose(v, q.max(1), atol=1e-10)
    far = grid.CELLS.tolist().index([1, 1])  # eleven or more steps from the goal, all of which cost
    assert q[far].max() == pytest.approx(0.9**11 * 1 - 0.02 * sum(0.9**k for k in range(12)), abs=1e-9)


def test_without_discount_a_reward_for_ever_has_no_value():
    with pytest.raises(Refusal, match="discount below 1"):
        tabular.value_iteration(np.array([[0]]), np.array([[1.0]]), np.array([[False]]), 1.0)


def test_q_learning_comes_to_the_values_of_value_iteration():
    to, reward, ends = grid.model()
    exact = tabular.value_iteration(to, reward, ends, 0.9)
    (q,) = deque(tabular.q_learning(to, reward, ends, 0.9, 25_000, np.random.default_rng(0)), 1)
    states = np.arange(len(to)) != grid.GOAL
    assert np.abs(q - exact)[states].max() < 0.05
    chosen = np.take_along_axis(exact, q.argmax(1)[:, None], 1)[:, 0]
    assert np.allclose(chosen[states], exact.max(1)[states])  # a best action everywhere
    blind = tabular.value_iteration(to, reward, np.zeros_like(ends), 0.9)  # the fake: endings bootstrap
    assert np.abs(blind - exact)[states].max() > 1


# Advantages


def record(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=(2, 12, 3))
    terminated, truncated = rng.random((2, 12, 3)) < 0.15
    truncated &= ~terminated
    ahead = np.where(terminated, 0.0, rng.normal(size=(12, 3)))
    return dict(reward=reward, value=value, ahead=ahead, ended=terminated | truncated)


def sums(r: dict[str, np.ndarray], gamma: float, trace: float) -> np.ndarray:
    """(16) as it is written, each sum by itself to the end of its episode."""
    out = np.zeros_like(r["reward"])
    delta = r["reward"] + gamma * r["ahead"] - r["value"]
    for t, i in np.ndindex(*out.shape):
        for k in range(t, len(out)):
            out[t, i] += (gamma * trace) ** (k - t) * delta[k, i]
            if r["ended"][k, i]:
                break
    return out


def test_advantages_are_the_sums_of_their_equation():
    r = record()
    assert np.allclose(returns.advantages(**r, gamma=0.9, trace=0.7), sums(r, 0.9, 0.7), atol=1e-13)
    across = returns.advantages(**r | {"ended": np.zeros_like(r["ended"])}, gamma=0.9, trace=0.7)
    assert np.abs(across - sums(r, 0.9, 0.7)).max() > 0.1  # the fake: a sum that crosses an ending


def test_trace_0_is_the_temporal_difference_and_trace_1_the_return_less_the_value():
    r = record(1)
    td = r["reward"] + 0.9 * r["ahead"] - r["value"]
    assert np.array_equal(returns.advantages(**r, gamma=0.9, trace=0.0), td)
    r["ahead"] = np.where(r["ended"], r["ahead"], np.vstack([r["value"][1:], r["ahead"][-1:]]))
    monte_carlo = returns.to_go(r["reward"], r["ahead"], r["ended"], 0.9) - r["value"]
    assert np.allclose(returns.advantages(**r, gamma=0.9, trace=1.0), monte_carlo, atol=1e-13)


# REINFORCE


def test_the_gradient_of_a_bandit_is_exact():
    """Actions in proportion to their probabilities make the sample mean the expectation."""
    worth = torch.tensor([1.0, 3.0, -2.0])
    logits = torch.tensor([0.5, 0.25, 0.25]).log().requires_grad_()
    action = torch.tensor([0, 0, 1, 2])
    pi = logits.detach().exp()
    exact = pi * (worth - (pi * worth).sum())  # d/dz sum pi r

    def gradient(baseline: torch.Tensor) -> torch.Tensor:
        loss = reinforce.surrogate(logits.expand(4, 3), action, worth[action], baseline)
        return -torch.autograd.grad(loss, logits)[0]

    for b in (0.0, 5.0):  # whatever is expected of the state changes nothing
        assert torch.allclose(gradient(torch.full((4,), b)), exact, atol=1e-6)
    biased = gradient(0.5 * worth[action])  # the fake: a baseline that knows the action
    assert (biased - exact).abs().max() > 0.1


# PPO


def agent(seed: int = 0, **options: object) -> ppo.PPO:
    return ppo.PPO(VECTOR, ppo.PPOOptions(**options), seed)


def batch(one: ppo.PPO, n: int = 64) -> ppo.Batch:
    g = torch.Generator().manual_seed(0)
    see = torch.randn(n, 4, generator=g)
    action = torch.randint(2, (n,), generator=g)
    with torch.no_grad():
        log = F.log_softmax(one.actor(see), 1).gather(1, action[:, None]).squeeze(1)
    return ppo.Batch(see, action, torch.randn(n, generator=g), torch.randn(n, generator=g), log)


def test_on_the_first_minibatch_the_ratio_is_1_and_nothing_is_clipped():
    one = agent(epochs=1, batch=64)
    b = batch(one)
    now = ppo.losses(one.actor(b.see), one.critic(b.see).squeeze(1), b, 0.2)
    assert torch.equal(now.ratio, torch.ones(64)) and abs(float(now.policy.detach())) < 1e-6
    said = one.learn(b, 0.01, 0.2)
    assert said["clipped"] == 0 and said["first ratio off"] == 0
    fake = b._replace(log_old=b.log_old.roll(1))  # the fake: whose probabilities are of other steps
    assert (ppo.losses(one.actor(b.see), b.target, fake, 0.2).ratio - 1).abs().max() > 0.01


def test_beyond_the_clip_the_objective_is_flat():
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    log = F.log_softmax(logits.detach(), 1)[:, 0]
    zero = torch.zeros(2, dtype=torch.long)
    b = ppo.Batch(
        torch.zeros(2, 4), zero, torch.tensor([1.0, -1.0]), torch.zeros(2), log - torch.tensor([1.0, -1.0])
    )
    (gradient,) = torch.autograd.grad(ppo.losses(logits, torch.zeros(2), b, 0.2).policy, logits)
    assert torch.equal(gradient, torch.zeros(2, 2))  # good and already likelier, bad and already rarer


def test_the_chain_has_the_gradients_of_autograd():
    torch.manual_seed(0)
    ours = Perceptron([4, 16, 16, 2], 0.5)
    plain = nn.Sequential(*[m for layer in ours.layers for m in (layer, nn.Tanh())][:-1])
    x, weight = torch.randn(9, 4), torch.randn(9, 2)
    expected = torch.autograd.grad((plain(x) * weight).sum(), list(ours.parameters()))
    actual = torch.autograd.grad((ours(x) * weight).sum(), list(ours.parameters()))
    for a, b in zip(actual, expected):
        assert torch.allclose(a, b, atol=1e-5)
    with torch.no_grad():
        still = ours(x)
    assert torch.equal(still, ours(x))


@pytest.mark.parametrize("fused", [False, True])
def test_adam_over_one_vector_is_torch_adam_over_many(fused):
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = Adam(nets[0], eps=1e-5, fused=fused)
    theirs = torch.optim.Adam(nets[1].parameters(), 1e-2, eps=1e-5)
    for i in range(5):
        x = torch.randn(7, 3) * 10**i
        ours.step(nets[0](x).square().mean(), 1e-2, 0.5)
        theirs.zero_grad()
        nets[1](x).square().mean().backward()
        nn.utils.clip_grad_norm_(nets[1].parameters(), 0.5)
        theirs.step()
    for a, b in zip(nets[0].parameters(), nets[1].parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_actions_are_drawn_by_their_probabilities():
    logits = np.log(np.tile([0.5, 0.2, 0.3], (50_000, 1))).astype(np.float32) + 3
    share = np.bincount(drawn(logits, np.random.default_rng(0)), minlength=3) / 50_000
    assert np.abs(share - [0.5, 0.2, 0.3]).max() < 0.01
    assert (drawn(np.tile([-np.inf, 0.0], (9, 1)), np.random.default_rng(0)) == 1).all()


# DQN


def test_double_q_learning_takes_the_action_of_one_and_the_value_of_the_other():
    target, online = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    assert dqn.ahead(target).item() == 5 and dqn.ahead(target, online).item() == 1


def test_dueling_advantages_have_no_mean():
    torch.manual_seed(0)
    net, x = dqn.Dueling(VECTOR, 8), torch.randn(6, 4)
    assert torch.allclose(net(x).mean(1), net.value(net.torso(x)).squeeze(1), atol=1e-6)


@pytest.mark.parametrize("n", [1, 3])
def test_n_rewards_are_summed_to_the_ending_and_not_beyond(n):
    """Each complete row against the sum as it is written, with endings of both kinds and steps that are
    not real."""
    rng, T, gamma = np.random.default_rng(0), 60, 0.9
    reward, sights = rng.normal(size=(T, 2)), rng.normal(size=(T + 1, 2, 1))
    terminated, truncated = rng.random((2, T, 2)) < 0.2
    truncated &= ~terminated
    ended = terminated | truncated
    real = ~np.vstack([np.zeros((1, 2), bool), ended[:-1]])
    pending, rows = dqn.Pending(n, gamma), []
    for t in range(T):
        row = pending.add(
            sights[t], np.full(2, t), Moved(sights[t + 1], reward[t], terminated[t], truncated[t], real[t])
        )
        rows += [] if row is None else [row]
    assert len(rows) == T - n + 1
    for t, row in enumerate(rows):
        copies = np.flatnonzero(real[t])
        assert len(row["action"]) == len(copies) and (row["action"] == t).all()
        for at, i in enumerate(copies):
            last = next((k for k in range(t, t + n) if ended[k, i]), t + n - 1)
            total = sum(gamma ** (k - t) * reward[k, i] for k in range(t, last + 1))
            assert row["reward"][at] == pytest.approx(total) and row["after"][at] == sights[last + 1, i]
            on = 0.0 if terminated[last, i] else gamma ** (last - t + 1)
            assert row["discount"][at] == pytest.approx(on)


@pytest.mark.parametrize("space", [VECTOR, Space((3, 10, 10), 4, "bool")])
def test_gradients_of_dqn_by_hand_are_those_of_autograd(space):
    """With errors on both sides of Huber's bend, and hidden units that are off."""
    one = dqn.DQN(space, dqn.DQNOptions(hidden=24), 0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        one.adam.flat += 0.02 * torch.randn(len(one.adam.flat), generator=g)
    see = torch.randn(20, *space.shape, generator=g)
    see = see > 0.5 if space.dtype == "bool" else see
    action, y = torch.arange(20) % space.actions, torch.randn(20, generator=g)
    wants = []
    one.adam.descend = lambda rate, clip: wants.append(one.adam.gradient.clone())
    told = one._by_autograd(see, action, y, 0.0), one._by_hand(see, action, y, 0.0)
    off = (one.net(see.float()).gather(1, action[:, None])[:, 0] - y).abs()
    assert 3 < (off > 1).sum() < 17 and wants[0].abs().max() > 0.01
    assert torch.allclose(*wants, atol=1e-6) and told[0] == pytest.approx(told[1], rel=1e-5)
    with torch.inference_mode():
        assert torch.allclose(one._answer(one.net, see), one.net(see.float()), atol=1e-6)


def test_a_run_of_before_goes_on_with_its_rate_and_by_autograd():
    ours, steps = dqn.DQN(VECTOR, dqn.DQNOptions(hidden=8), 0), dict[str, list[float]](new=[], old=[])
    old = dqn.DQN(VECTOR, dqn.DQNOptions(hidden=8), 0)
    old.restore(ours.tensors(), {k: v for k, v in ours.facts().items() if k != "falls"})
    again = dqn.DQN(VECTOR, dqn.DQNOptions(hidden=8), 0)
    again.restore(old.tensors(), old.facts())
    for one, rates in ((ours, steps["new"]), (again, steps["old"])):
        one.learn = lambda memory, rate, rates=rates: rates.append(rate) or {}
        world = opening.world("CartPole-v1", 8, 0)
        world.steps = 50_000
        one.update(world)
    assert again.by_hand is None and not again.adam.fused and ours.by_hand and ours.adam.fused
    assert steps["old"] == [2.5e-4] and steps["new"] == [pytest.approx(2.5e-4 * (1 - 50_064 / 100_000))]


def test_a_network_that_is_no_chain_of_relu_is_left_to_autograd():
    assert Relu.of(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    bent = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    padded = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    for other in (dqn.Dueling(VECTOR, 8), bent, padded, nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))):
        assert Relu.of(other) is None


def test_memory_is_a_ring():
    memory = dqn.Memory(VECTOR, 64, 1)
    for i in range(70):
        one = np.full(1, i)
        memory.add(see=np.full((1, 4), i), after=np.full((1, 4), i), action=one, reward=one, discount=one)
    assert memory.filled == 64 and sorted(memory.arrays["action"]) == list(range(6, 70))


def test_a_memory_that_there_is_no_room_for_is_told():
    with pytest.raises(Refusal, match=r"--memory 10,000,000,000,000 .* 5,736,947 GiB"):
        dqn.Memory(Space((3, 10, 10), 4, "bool"), 10**13, 1)


# Returns of several seeds


FAR = np.array([0, 100, 200])


def test_iqm_and_its_interval():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    assert iqm(scores) == pytest.approx(np.sort(scores.ravel())[3:12].mean())
    low, high = stratified(scores + FAR)
    assert low < iqm(scores + FAR) < high and high - low < 5
    mixed = np.random.default_rng(0).permutation((scores + FAR).ravel()).reshape(5, 3)
    assert np.diff(stratified(mixed)) > 20  # the fake: tasks are drawn for each other
    with pytest.raises(Refusal, match="two runs"):
        stratified(scores[:1])


def test_an_agent_that_there_is_not():
    with pytest.raises(Refusal, match="'dqn'"):
        load("dqm")


# Stable-Baselines3


def test_losses_of_ppo_are_those_of_stable_baselines3():
    sb3, gymnasium = pytest.importorskip("stable_baselines3"), pytest.importorskip("gymnasium")
    theirs = sb3.PPO("MlpPolicy", gymnasium.make("CartPole-v1"), n_steps=64, batch_size=64, n_epochs=1,
                     ent_coef=0.01, device="cpu", seed=0)  # fmt: skip
    theirs.learn(64)
    buffer, one = theirs.rollout_buffer, agent()
    logged: dict[str, float] = {}
    theirs.logger.record = lambda key, value, *rest, **more: logged.__setitem__(key, value)
    pairs = [(one.actor, [*theirs.policy.mlp_extractor.policy_net, theirs.policy.action_net]),
             (one.critic, [*theirs.policy.mlp_extractor.value_net, theirs.policy.value_net])]  # fmt: skip
    for ours, parts in pairs:
        layers = [m for m in parts if isinstance(m, nn.Linear)]
        for a, b in zip(ours.layers, layers):
            a.load_state_dict(b.state_dict())
    names = ("observations", "actions", "advantages", "returns", "log_probs")
    see, *others = (torch.as_tensor(np.asarray(getattr(buffer, name))) for name in names)
    action, advantage, target, log = (x.flatten() for x in others)
    b = ppo.Batch(see.reshape(64, 4), action.long(), advantage, target, log)
    now = ppo.losses(one.actor(b.see), one.critic(b.see).squeeze(1), b, 0.2)
    theirs.train()
    assert now.policy.item() == pytest.approx(logged["train/policy_gradient_loss"], abs=1e-5)
    assert now.value.item() == pytest.approx(logged["train/value_loss"], rel=1e-5)
    assert -now.entropy.item() == pytest.approx(logged["train/entropy_loss"], abs=1e-5)
    total = now.policy + 0.5 * now.value - 0.01 * now.entropy
    assert total.item() == pytest.approx(logged["train/loss"], rel=1e-5)


def test_advantages_are_those_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3.common.buffers")
    spaces = pytest.importorskip("gymnasium.spaces")
    rng, T, n = np.random.default_rng(0), 20, 3
    buffer = sb3.RolloutBuffer(T, spaces.Box(-1, 1, (4,)), spaces.Discrete(2), "cpu", 0.8, 0.98, n)
    reward, value = rng.normal(size=(2, T, n)).astype(np.float32)
    terminated, last = rng.random((T, n)) < 0.2, rng.normal(size=n).astype(np.float32)
    starts = np.vstack([np.zeros((1, n)), terminated[:-1]])
    for t in range(T):
        blank = np.zeros((n, 4), np.float32)
        buffer.add(blank, np.zeros((n, 1)), reward[t], starts[t], torch.tensor(value[t]), torch.zeros(n))
    buffer.compute_returns_and_advantage(torch.tensor(last), terminated[-1])
    ahead = np.where(terminated, 0.0, np.vstack([value[1:], last[None]]))
    ours = returns.advantages(reward, value, ahead, terminated, 0.98, 0.8)
    assert np.abs(ours - buffer.advantages).max() < 1e-5


def test_loss_of_dqn_is_that_of_stable_baselines3():
    sb3, gymnasium = pytest.importorskip("stable_baselines3"), pytest.importorskip("gymnasium")
    theirs = sb3.DQN("MlpPolicy", gymnasium.make("CartPole-v1"), learning_starts=10, seed=0, device="cpu",
                     policy_kwargs=dict(net_arch=[32, 32]))  # fmt: skip
    theirs.learn(64)
    rows = theirs.replay_buffer.sample(32)
    theirs.replay_buffer.sample = lambda *a, **k: rows
    logged: dict[str, float] = {}
    theirs.logger.record = lambda key, value, *rest, **more: logged.__setitem__(key, value)
    with torch.no_grad():
        ahead = dqn.ahead(theirs.q_net_target(rows.next_observations))
        y = rows.rewards.flatten() + 0.99 * (1 - rows.dones.flatten()) * ahead
        ours = dqn.loss(theirs.q_net(rows.observations), rows.actions.flatten().long(), y)
    theirs.train(1, 32)
    assert ours.item() == pytest.approx(logged["train/loss"], abs=1e-5)


# PPO by hand, A2C, PQN


@pytest.mark.parametrize("normalise", [True, False])
def test_the_gradient_by_hand_is_that_of_autograd(normalise):
    """On a batch with ratios on both sides of the clip."""
    one = agent(entropy=0.03, value=0.7, normalise=normalise)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        one.adam.flat += 0.3 * torch.randn(len(one.adam.flat), generator=g)
    b = batch(one)
    b = b._replace(log_old=b.log_old + 0.3 * torch.randn(64, generator=g))
    told = one._by_autograd(b, 0.2).told()
    expected = one.adam.gradient.clone()
    one.adam.gradient.fill_(9.0)
    now = one._by_hand(one.actor, one.critic, ppo.Slopes(b, 2, normalise), 0.2).told()
    clipped = np.abs(told.ratio - 1) > 0.2
    assert 5 < clipped.sum() < 60 and expected.abs().max() > 0.01
    assert torch.allclose(one.adam.gradient, expected, atol=1e-6)
    assert now[:3] == pytest.approx(told[:3], abs=1e-6) and np.allclose(now.ratio, told.ratio, atol=1e-6)
    one._by_hand(one.actor, one.critic, ppo.Slopes(b, 2, normalise), 1e9)  # the fake: nothing is clipped
    assert (one.adam.gradient - expected).abs().max() > 1e-3


def test_a2c_is_the_policy_gradient_of_its_equation():
    from likeness.agents import a2c

    one = a2c.A2C(VECTOR, a2c.A2COptions(entropy=0.02, value=0.4, clip=1e9), 0)
    b = batch(one)
    log = F.log_softmax(one.actor(b.see), 1)
    policy = -(log.gather(1, b.action[:, None])[:, 0] * b.advantage).mean()
    entropy = -(log.exp() * log).sum(1).mean()
    error = (one.critic(b.see)[:, 0] - b.target).square().mean()
    one.adam.gradient.zero_()
    (policy + 0.4 * error - 0.02 * entropy).backward()
    expected = one.adam.gradient.clone()
    one.adam.descend = lambda *rest: None
    one.learn(b, 1e-3, 1.0)
    assert torch.allclose(one.adam.gradient, expected, atol=1e-6)
    assert sum(1 for _ in one._batches(b)) == 1


class Chain(World):
    """Sights 0, 1, 2 ...; ends as the lists say."""

    space = Space((4,), 2)

    def __init__(self, terminated: np.ndarray, truncated: np.ndarray):
        super().__init__(terminated.shape[1], 0)
        self.ends, self.rng, self.t = (terminated, truncated), np.random.default_rng(0), 0
        self.see = self._look()

    def _look(self) -> np.ndarray:
        return self.rng.normal(size=(self.n, 4)).astype(np.float32)

    def _move(self, actions: np.ndarray) -> Moved:
        after, (terminated, truncated) = self._look(), (ends[self.t] for ends in self.ends)
        self.see = np.where((terminated | truncated)[:, None], self._look(), after)
        self.t += 1
        return Moved(after, self.rng.normal(size=self.n), terminated, truncated, self._real)

    frame = restart = _state = _restore = None


def test_returns_of_pqn_are_those_of_their_recursion():
    from likeness.agents import pqn

    T, n, gamma, trace = 9, 3, 0.9, 0.6
    rng = np.random.default_rng(3)
    terminated = rng.random((T, n)) < 0.2
    truncated = (rng.random((T, n)) < 0.2) & ~terminated
    options = pqn.PQNOptions(horizon=T, worlds=n, gamma=gamma, trace=trace, hidden=8)
    one, seen = pqn.PQN(VECTOR, options, 0), []
    Chain.__abstractmethods__ = frozenset()
    world = Chain(terminated, truncated)
    step = world.step
    world.step = lambda action: (seen.append((world.see, step(action))), seen[-1][1])[1]
    see, _, target = one.experience(world, 0.3)

    def best(sight: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return one.scores(sight).amax(1).numpy()

    expected, later = np.zeros((T, n)), best(world.see)
    for t in range(T - 1, -1, -1):
        moved, ahead = seen[t][1], best(seen[t][1].after)
        mixed = np.where(truncated[t], ahead, trace * later + (1 - trace) * ahead)
        later = expected[t] = moved.reward + gamma * np.where(terminated[t], 0.0, mixed)
    assert np.allclose(target.numpy(), expected.ravel(), atol=1e-5)
    assert torch.equal(see, torch.from_numpy(np.concatenate([s for s, _ in seen])))
    q = torch.tensor([[1.0, 4.0]])
    assert pqn.loss(q, torch.tensor([1]), torch.tensor([1.0])).item() == 4.5


def test_layers_of_pqn_have_no_mean_and_one_deviation():
    from likeness.agents.networks import torso

    for space, x in ((VECTOR, torch.randn(5, 4) * 100), (Space((3, 6, 6), 2), torch.randn(5, 3, 6, 6) * 9)):
        net = torso(space, nn.Identity, 16, norm=True)(x)
        assert torch.allclose(net.mean(1), torch.zeros(5), atol=1e-5)
        assert torch.allclose(net.std(1, unbiased=False), torch.ones(5), atol=1e-2)


def test_random_actions_become_rare_in_a_straight_line():
    from likeness.agents.agent import falling, mostly

    assert [falling(s, 100, 0.2) for s in (0, 50, 100, 900)] == pytest.approx([1, 0.6, 0.2, 0.2])
    actions = mostly(np.zeros(40_000, int), 0.3, 3, np.random.default_rng(0))
    assert (actions > 0).mean() == pytest.approx(0.2, abs=0.01)


def test_iqm_and_its_interval_are_those_of_rliable():
    library = pytest.importorskip("rliable.library", reason="rliable is not installed")
    from rliable import metrics

    scores = np.random.default_rng(0).normal(size=(10, 4)) * [1, 2, 3, 4] + [0, 5, 9, 20]
    points, intervals = library.get_interval_estimates(
        {"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=2000
    )
    assert iqm(scores) == pytest.approx(points["a"][0], abs=1e-12)
    assert np.allclose(stratified(scores), intervals["a"][:, 0], atol=0.1)  # both are draws
