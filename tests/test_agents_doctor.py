"""The doctor of agents, each finding on a run that is broken on purpose, and none on one that learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from likeness.agents import doctor
from likeness.agents.doctor import Known, examine
from likeness.agents.run import AgentRun

CART = Known(20.0, 25.0, 500.0)
DQN = dict(
    worlds=8, hidden=16, begin=100, every=16, gradients=4, double=False, n_step=1, gamma=0.99, batch=64
)
BROKEN = {
    "no exploration left": [
        ("reinforce", dict(steps=3_000, worlds=4, hidden=8, rate=0.9), "--rate 0.3"),
        ("dqn", DQN | dict(steps=1_500, epsilon=0.0, exploration=0.0, rate=1e-5), "--epsilon 0.05"),
    ],
    "value explosion": [
        (
            "dqn",
            DQN | dict(steps=2_000, hidden=32, target_every=1, rate=0.1, clip=1e9, gamma=1.0),
            "--target-every 3",
        ),
    ],
    "advantage not normalised": [
        (
            "ppo",
            dict(steps=3_000, hidden=8, worlds=4, epochs=1, horizon=128, trace=1.0, gamma=1.0, rate=1e-5)
            | dict(normalise=False),
            "--normalise",
        ),
    ],
    "target never updated": [("dqn", DQN | dict(steps=1_500, target_every=10**6), "--target-every 30")],
    "return below random": [("dqn", DQN | dict(steps=1_500, epsilon=0.0, exploration=0.0, rate=1e-5), "")],
    "Q overestimates": [
        ("dqn", DQN | dict(steps=2_000, hidden=32, target_every=1, rate=0.02), "--double"),
    ],
}


def trained(folder: Path, agent: str, options: dict) -> AgentRun:
    run = AgentRun.begin(folder, agent, "CartPole-v1", 0, options)
    for _ in run.fit():
        pass
    run.close()
    return run


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_numbers_and_a_remedy_that_the_agent_has(tmp_path, name):
    for i, (agent, options, remedy) in enumerate(BROKEN[name]):
        run = trained(tmp_path / str(i), agent, options)
        found = {finding.name: finding for finding in examine(run, CART)}
        assert name in found, (agent, list(found))
        assert any(c.isdigit() for c in found[name].evidence)
        assert not remedy or remedy in found[name].remedies


def test_a_run_that_learns_has_no_findings(tmp_path):
    ppo = dict(steps=6_000, epochs=10, horizon=32, trace=0.8, gamma=0.98, rate=1e-3)
    assert list(examine(trained(tmp_path / "ppo", "ppo", ppo), CART)) == []
    dqn = dict(steps=6_000, hidden=64, rate=2.3e-3, every=64, gradients=32, target_every=64, gamma=0.95)
    assert list(examine(trained(tmp_path / "dqn", "dqn", dqn), CART)) == []


def test_a_policy_that_is_sure_and_right_is_no_finding():
    sure = [{"return": 499.0, "entropy": 1e-4}] * 10
    assert not doctor.short(sure, CART) and doctor.no_exploration(sure, {}, 2) is not None
    assert doctor.short([{"return": 30.0}] * 10, CART) and not doctor.short([], CART)
    assert not doctor.short([{"return": 30.0}], Known(20.0, 25.0))  # without a best, chance is what counts


def test_values_are_held_against_returns_of_their_own_episodes():
    rng = np.random.default_rng(0)
    came = rng.normal(10, 1, 40)
    assert doctor.overestimates(came + rng.normal(0, 1, 40), came) is None
    assert doctor.overestimates(came - 9, came) is None  # too low is another matter
    assert "Q says 14.94" in doctor.overestimates(came + 5, came).evidence


def test_the_discounted_return_of_a_truncated_episode_goes_on_with_its_value(tmp_path):
    """Of a Q that says c everywhere the return of an episode cut off after T rewards of 1 is a closed
    form."""
    run = trained(tmp_path / "r", "dqn", DQN | dict(steps=8, gamma=0.9))
    run.agent.adam.flat.zero_()
    run.agent.net[-1].bias.data[:] = 3.0
    said, came = doctor.values(run)
    assert np.allclose(said, 3)
    length = np.log(1 - (1 - 0.9) * came) / np.log(0.9)  # each falls: (1 - 0.9^T) / (1 - 0.9)
    assert np.allclose(length, np.round(length), atol=1e-4) and length.min() > 7
