"""Runs of agents: killed and resumed bit for bit, and the verb."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from likeness import cli, storage
from likeness.agents.run import AgentRun, learn
from likeness.core import DiskTrouble, Diverged, Refusal

SHORT = dict(
    ppo=dict(steps=2_000, horizon=16, worlds=4, batch=32, epochs=2, hidden=8),
    dqn=dict(
        steps=2_000, worlds=4, hidden=8, memory=500, begin=100, every=32, gradients=2, n_step=3, double=True
    ),
    reinforce=dict(steps=2_000, worlds=4, hidden=8),
)


def train(folder: Path, agent: str, world: str = "CartPole-v1", until: int = 10**9) -> AgentRun:
    """Until so many lines of the log were written, and then killed without a word."""
    run = AgentRun.begin(folder, agent, world, 0, SHORT[agent])
    for lines, _ in enumerate(run.fit(), 1):
        if lines == until:
            break
    run.close()
    return run


def bits(folder: Path) -> tuple:
    tensors, facts, _ = storage.newest(folder / "state")
    return {k: t.numpy().tobytes() for k, t in tensors.items()}, facts["agent"], facts["world"]


@pytest.mark.parametrize(
    ("agent", "world"),
    [("ppo", "CartPole-v1"), ("dqn", "CartPole-v1"), ("reinforce", "CartPole-v1"), ("ppo", "grid")],
)
def test_a_killed_run_has_the_learning_curve_of_one_that_was_not(tmp_path, monkeypatch, agent, world):
    train(tmp_path / "whole", agent, world)
    with monkeypatch.context() as m:
        m.setattr("likeness.agents.run.EVERY", 0.0)
        train(tmp_path / "cut", agent, world, until=7)
    with (tmp_path / "cut" / "log.jsonl").open("a") as file:
        file.write('{"steps": 1999, "episodes": 3}\n{"ste')  # of after the last state
    train(tmp_path / "cut", agent, world)
    whole, cut = ((tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", "cut"))
    assert whole == cut and bits(tmp_path / "whole") == bits(tmp_path / "cut")
    assert len(whole.splitlines()) > 10


def test_a_run_goes_on_to_more_steps_and_to_nothing_else(tmp_path):
    train(tmp_path / "r", "dqn")
    with pytest.raises(Refusal, match="hidden 8, not 9"):
        AgentRun.begin(tmp_path / "r", "dqn", "CartPole-v1", 0, dict(hidden=9))
    with pytest.raises(Refusal, match="agent dqn, not ppo"):
        AgentRun.begin(tmp_path / "r", "ppo", "CartPole-v1", 0, {})
    run = AgentRun.begin(tmp_path / "r", "dqn", "CartPole-v1", None, dict(steps=2_500))
    assert [*run.fit()][-1]["steps"] >= 2_500 and run.log()[0]["steps"] < 100
    run.close()


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    train(tmp_path / "r", "dqn")
    before = bits(tmp_path / "r")
    run = AgentRun.begin(tmp_path / "r", "dqn", "CartPole-v1", 0, SHORT["dqn"] | dict(steps=2_400))

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(Path, "write_bytes", full)
        with pytest.raises(DiskTrouble, match="disk is full"):
            [*run.fit()]
    run.close()
    assert bits(tmp_path / "r") == before


def test_numbers_that_are_none_end_the_run_before_they_are_saved(tmp_path):
    run = AgentRun.begin(tmp_path / "r", "ppo", "CartPole-v1", 0, SHORT["ppo"])
    run.agent.adam.flat[:] = np.nan
    run.agent.actor.requires_grad_(True)
    with pytest.raises(Diverged, match="smaller --rate"):
        [*run.fit()]
    run.close()
    assert storage.newest(tmp_path / "r" / "state") is None


def test_ppo_learns_to_balance():
    from likeness.agents import load, opening, playing

    kind = load("ppo")
    options = kind.Options(**kind.settings["CartPole-v1"] | dict(steps=6_000, epochs=10))
    world = opening.world("CartPole-v1", options.worlds, 0)
    one = kind(world.space, options, 0)
    for _ in learn(one, world, options.steps):
        pass
    played = playing.episodes(opening.world("CartPole-v1", 30, 7), one.choose)
    assert np.mean([e.total for e in played]) > 70  # chance has 22


def verb(capsys, command: str) -> dict:
    assert cli.main(command.split()) == 0
    return json.loads(capsys.readouterr().out)


def test_train_show_and_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "--total-timesteps 1500 --horizon 16 --num-envs 4 --epochs 1 --json"
    assert cli.main(f"play ppo CartPole-v1 r --seeds 2 {flags}".split()) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["run"], second["run"], second["seed"]) == ("r-seed0", "r-seed1", 1)
    assert first["steps"] >= 1500 and first["return"] != second["return"]
    film = verb(capsys, "play r-seed0 -o f.webp -n 2 --drawn --json")
    assert len(film["returns"]) == 2 and film["frames"] == sum(film["returns"]) and Path("f.webp").exists()
    said = verb(capsys, "evaluate r-seed0 r-seed1 -n 20 --json")
    rows = {card["of"]: card for card in said["runs"]["r-seed0"]}
    assert (
        rows["random policy"]["value"] == pytest.approx(22, abs=6) and rows["best possible"]["value"] == 500
    )
    (over,) = said["over_seeds"]
    means = [own[0]["value"] for own in said["runs"].values()]
    assert over["iqm"] == pytest.approx(np.mean(means)) and "2 runs" in over["warning"]
    assert cli.main(["evaluate", "r-seed0", "-n", "10"]) == 0
    assert "random policy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("play pop CartPole-v1", "Did you mean ppo"),
        ("play ppo CartPole-v1 r --horizn 3", "Did you mean --horizon"),
        ("play ppo CartPole-v1 r --gamma 2", "between 0 and 1"),
        ("play r -o f.mp4", "neither an agent"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, capsys, command, why):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 2
    assert why in capsys.readouterr().err


def test_other_verbs_say_what_an_agents_run_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(Path("r"), "reinforce")
    for command in ("sample r", "train vae digits r", "evaluate r nosuch"):
        assert cli.main(command.split()) == 2
    text = capsys.readouterr().err
    assert text.count("likeness play r shows it") == 2 and "nosuch" in text
    assert cli.main(["play", "r", "-o", "f.png"]) == 2 and ".gif or .webp" in capsys.readouterr().err
