"""Runs of agents: killed and resumed bit for bit, and the verb."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from likeness import cli, storage
from likeness.agents import evaluation, gym, page
from likeness.agents.run import AgentRun, learn
from likeness.core import DiskTrouble, Diverged, Refusal

SHORT = dict(
    ppo=dict(steps=2_000, horizon=16, worlds=4, batch=32, epochs=2, hidden=8),
    dqn=dict(
        steps=2_000, worlds=4, hidden=8, memory=500, begin=100, every=32, gradients=2, n_step=3, double=True
    ),
    reinforce=dict(steps=2_000, worlds=4, hidden=8),
    a2c=dict(steps=2_000, worlds=4, hidden=8),
    pqn=dict(steps=2_000, horizon=16, worlds=4, batch=32, hidden=8),
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
    [
        ("ppo", "CartPole-v1"),
        ("dqn", "CartPole-v1"),
        ("reinforce", "CartPole-v1"),
        ("ppo", "grid"),
        ("a2c", "CartPole-v1"),
        ("pqn", "CartPole-v1"),
    ],
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


def test_kill_9_at_any_moment_leaves_the_learning_curve(tmp_path):
    """A process of its own, killed in the midst of writing, as often as it takes to come to the end."""
    train(tmp_path / "whole", "dqn")
    flags = [f"--{k.replace('_', '-')}" + ("" if v is True else f"={v}") for k, v in SHORT["dqn"].items()]
    command = ["play", "dqn", "CartPole-v1", str(tmp_path / "cut"), "--seed", "0", *flags]
    code = (
        "import sys, likeness.agents.run as run, likeness.cli as cli; run.EVERY = 0.0; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    log = tmp_path / "cut" / "log.jsonl"
    child = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL)
    while child.poll() is None and (not log.exists() or len(log.read_bytes().splitlines()) < 4):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    train(tmp_path / "cut", "dqn")
    assert (tmp_path / "whole" / "log.jsonl").read_bytes() == log.read_bytes()
    assert bits(tmp_path / "whole") == bits(tmp_path / "cut")


class Fails:
    """An environment that raises in the midst of an episode."""

    observation_space, action_space = SimpleNamespace(), SimpleNamespace(n=2, start=0)

    def __init__(self, after: int):
        self.left, self.observation_space = after, type("Box", (), dict(shape=(4,), dtype=np.dtype("f4")))()

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        self.rng, self.age = np.random.default_rng(seed), 0
        return self.rng.normal(size=4), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left, self.age = self.left - 1, self.age + 1
        if not self.left:
            raise RuntimeError("the wheel came off")
        return self.rng.normal(size=4), 1.0, self.age >= 9, False, {}


def test_an_environment_that_fails_loses_nothing(tmp_path, monkeypatch):
    left = [200]
    monkeypatch.setattr(gym, "make", lambda name, **how: Fails(left[0]))
    with monkeypatch.context() as m:
        m.setattr("likeness.agents.run.EVERY", 0.0)
        run = AgentRun.begin(tmp_path / "r", "ppo", "Wheel-v0", 0, SHORT["ppo"])
        with pytest.raises(Refusal, match=r"Wheel-v0 has failed in step \d of an episode .*wheel came off"):
            [*run.fit()]
        run.close()
    left[0] = 10**9  # mended, it goes on from where it was saved, to the curve of one that never failed
    for name in ("r", "whole"):
        run = AgentRun.begin(tmp_path / name, "ppo", "Wheel-v0", 0, SHORT["ppo"])
        assert (run.world.steps > 0) == (name == "r")
        [*run.fit()]
        run.close()
    assert (tmp_path / "r" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


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


def test_a_disk_that_ends_in_the_midst_of_a_state_is_told_and_the_run_can_go_on(tmp_path):
    """Processes with a memory for 10^6 steps: the state of 1,000 of them fits, that of 4,000 does not."""
    head = "import sys, resource, likeness.cli as cli; "
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); "
    flags = ["--memory", "1000000", "--hidden", "8", "--gradients", "1", "--seed", "0"]

    def play(name: str, steps: int, code: str = head) -> subprocess.CompletedProcess:
        command = ["play", "dqn", "CartPole-v1", str(tmp_path / name), "--steps", str(steps), *flags]
        code += "sys.exit(cli.main(sys.argv[1:]))"
        return subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)

    assert play("r", 1_000, head + limit).returncode == 0
    before = bits(tmp_path / "r")
    full = play("r", 4_000, head + limit)
    assert full.returncode == 74 and "what was saved before is intact" in full.stderr
    assert "Traceback" not in full.stderr and bits(tmp_path / "r") == before
    assert len([*(tmp_path / "r" / "state").iterdir()]) == 1  # nothing half-written is left to fill the disk
    assert [play(*how).returncode for how in (("r", 4_000), ("whole", 1_000), ("whole", 4_000))] == [0, 0, 0]
    assert bits(tmp_path / "r") == bits(tmp_path / "whole")
    assert (tmp_path / "r" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


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
    flags = "--total-timesteps 1500 --horizon 16 --num-envs 4 --epochs 1 --no-normalise --json"
    assert cli.main(f"play ppo CartPole-v1 r --seeds 2 {flags}".split()) == 0  # two processes at once
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["run"], second["run"], second["seed"]) == ("r-seed0", "r-seed1", 1)
    assert first["steps"] >= 1500 and first["return"] != second["return"]
    assert not AgentRun.open(Path("r-seed1")).options.normalise
    film = verb(capsys, "play r-seed0 -o f.webp -n 2 --drawn --json")
    assert len(film["returns"]) == 2 and film["frames"] == sum(film["returns"]) and Path("f.webp").exists()
    told = verb(capsys, "evaluate r-seed0 r-seed1 -n 20 --json")
    cards = told["runs"]["r-seed0"]
    rows = {card["of"]: card for card in cards if card["name"] == "return"}
    assert rows["random policy"]["value"] == pytest.approx(22, abs=6)
    assert rows["best possible"]["value"] == 500
    other = {card["name"]: card for card in cards}
    assert (
        other["steps to half"]["value"] is None and "was not reached" in other["steps to half"]["warnings"][0]
    )
    assert other["speed"]["value"] > 100 and 10 < other["return while it learnt"]["value"] < 60
    (over,) = told["over_seeds"]
    means = [own[0]["value"] for own in told["runs"].values()]
    assert over["iqm"] == pytest.approx(np.mean(means)) and "2 runs" in over["warning"]
    page = Path("compare.html").read_text()
    assert "ppo" in page and "data:image/png" in page and "2 runs" in page
    verb(capsys, "evaluate r-seed0 r-seed1 -n 2 -o new/place --json")
    assert Path("new/place/compare.html").exists()
    report = Path("r-seed0/report.html").read_text()
    assert "Learning curve" in report and "--no-normalise" in report and "<script" not in report
    assert cli.main(["evaluate", "r-seed0", "-n", "10"]) == 0
    assert "random policy" in capsys.readouterr().out


def test_what_all_seeds_would_refuse_is_refused_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["play", "ppo", "nosuch", "r", "--seeds", "2"]) == 2
    assert "there is no world" in capsys.readouterr().err and not Path("r-seed0").exists()


def test_sample_efficiency_in_numbers():
    table = np.array([[100.0, 10.0], [200.0, 30.0], [400.0, 50.0]])
    assert evaluation.over_training(table) == pytest.approx((10 + 30 + 2 * 50) / 4)
    assert evaluation.reached(table, 20.0) == 200 and evaluation.reached(table, 20.0, lines=1) == 200
    assert evaluation.reached(table, 30.0) == 400 and np.isnan(evaluation.reached(table, 31.0))
    up = lambda by: np.array([0.0, by])  # noqa: E731
    places, middle = page.together([table, table + up(2), table + up(100), table - up(100)])
    assert places[0] == 100 and middle[-1] == pytest.approx(51, abs=1e-9)


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
