"""Worlds: equal to gymnasium's, endings of both kinds, and places that are remembered exactly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from likeness.agents import cart, grid, gym, opening, playing, ppo
from likeness.agents.world import Moved, Space, World, episode_seed
from likeness.core import BadData, Refusal


class Box:
    """As gymnasium's: its class is known by its name."""

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.float32):
        self.shape, self.dtype = shape, np.dtype(dtype)


class Counter:
    """An environment that counts its steps from a number drawn by its seed, and ends as it is asked to."""

    observation_space, action_space = Box((1,)), SimpleNamespace(n=2, start=0)

    def __init__(self, ends: int = 3, cut: int = 10**9, drift: bool = False, fails: int = 10**9):
        self.ends, self.cut, self.drift, self.fails = ends, cut, drift, fails
        self.born = 0

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        self.at = float(np.random.default_rng(seed).integers(1000)) + self.drift * self.born
        self.born, self.age = self.born + 1, 0
        return np.array([self.at]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.at, self.age = self.at + 1 + action, self.age + 1
        if self.age >= self.fails:
            raise RuntimeError("the wheel came off")
        return np.array([self.at]), 1.0, self.age >= self.ends, self.age >= self.cut, {}


def counters(n: int = 2, seed: int = 0, **how: Any) -> gym.Gym:
    return gym.Gym("Counter-v0", n, seed, [Counter(**how) for _ in range(n)])


def test_cart_is_gymnasiums_bit_by_bit():
    gymnasium = pytest.importorskip("gymnasium")
    ours, rng = cart.Cart(16, 5), np.random.default_rng(0)
    theirs = [gymnasium.make("CartPole-v1") for _ in range(16)]
    for i, env in enumerate(theirs):
        assert np.array_equal(env.reset(seed=episode_seed(5, i, 0))[0], ours.see[i])
    for _ in range(300):
        # one copy is held up by a rule, so that its states are not all of the first twenty steps
        action = rng.integers(2, size=16)
        action[0] = ours.at[2, 0] + 0.3 * ours.at[3, 0] > 0
        moved = ours.step(action)
        for i, env in enumerate(theirs):
            see, reward, terminated, truncated, _ = env.step(int(action[i]))
            assert np.array_equal(see, moved.after[i]) and reward == moved.reward[i]
            assert (terminated, truncated) == (moved.terminated[i], moved.truncated[i])
            if terminated or truncated:
                see = env.reset(seed=episode_seed(5, i, int(ours.episode[i])))[0]
            else:
                assert np.array_equal(env.unwrapped.state, ours.at[:, i])
            assert np.array_equal(see, ours.see[i])
    assert ours.episode.sum() > 100 and ours.episode[0] < 2


def test_the_cart_is_cut_off_after_500_steps():
    world = cart.Cart(1, 0)
    for t in range(500):
        moved = world.step(
            (world.at[2] + 0.3 * world.at[3] + 0.02 * world.at[0] + 0.05 * world.at[1] > 0).astype(int)
        )
        assert bool(moved.truncated[0]) == (t == 499) and not moved.terminated[0]
    assert world.take() == [(500.0, 500)] and world.take() == []


def test_walls_of_the_grid_are_not_entered_and_the_goal_ends():
    assert (
        len(grid.CELLS) == 40 and (grid.TO != grid.GOAL).sum() == 40 * 4 - 3 - 1
    )  # two ways in, and two walls
    world = grid.Grid(64, 0)
    assert not (world.cell == grid.GOAL).any() and len(set(world.cell.tolist())) > 20
    exact = grid.model()
    from likeness.agents.tabular import value_iteration

    best = value_iteration(*exact, gamma=1.0).argmax(1)
    totals = playing.episodes(grid.Grid(400, 1), lambda see: best[cells(see)])
    assert np.mean([e.total for e in totals]) == pytest.approx(grid.Grid(1, 0).best(), abs=0.01)
    up = playing.episodes(grid.Grid(9, 1), lambda see: np.zeros(len(see), int))
    assert {(round(e.total, 9), e.length) for e in up} == {(-1.0, 50)}


def cells(see: np.ndarray) -> np.ndarray:
    """The states that are seen."""
    return np.array([np.flatnonzero((grid.PLANES[:, 1] == one[1]).all((1, 2)))[0] for one in see])


def test_after_a_cut_the_last_sight_is_valued_and_not_the_next_first_one():
    """Critic V(s) = s, so the advantage of one step says what was valued; PPO, with both kinds of ending."""
    for how, expected in ((dict(ends=1), 0.0), (dict(ends=9, cut=1), 1.0)):
        world = counters(1, **how)
        one = ppo.PPO(world.space, ppo.PPOOptions(horizon=4, trace=0.0, gamma=0.5), 0)
        one.critic = torch.nn.Identity()
        see = world.see.copy()
        batch = one.experience(world)
        first, action = see.item(), int(batch.action[0])
        after = first + 1 + action  # the last sight of the episode, and not the first of the next
        assert batch.advantage[0].item() == pytest.approx(1 + 0.5 * expected * after - first, abs=1e-3)


class Next(World):
    """One step, then an ending, then a step that is not real, as a NEXT_STEP vector has it."""

    space = Space((1,), 2)

    def __init__(self) -> None:
        super().__init__(1, 0)
        self.restart()

    def restart(self) -> None:
        self.t, self.see = 0, np.zeros((1, 1), np.float32)

    def _move(self, actions: np.ndarray) -> Moved:
        self.t += 1
        ended, real = np.array([self.t % 3 == 2]), np.array([self.t % 3 != 0])
        self.see = np.full((1, 1), self.t, np.float32)
        return Moved(self.see, np.where(real, 1.0, 777.0), ended, np.zeros(1, bool), real)

    def frame(self, copy: int) -> np.ndarray:
        raise NotImplementedError

    def _state(self) -> dict[str, np.ndarray]:
        return {}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None: ...


def test_a_step_whose_action_is_ignored_is_not_learnt_from():
    world = Next()
    one = ppo.PPO(world.space, ppo.PPOOptions(horizon=9, trace=1.0, gamma=1.0), 0)
    one.critic = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(one.critic.weight), torch.nn.init.zeros_(one.critic.bias)
    batch = one.experience(world)
    assert batch.see.flatten().tolist() == [0, 1, 3, 4, 6, 7]
    assert batch.target.tolist() == [2, 1] * 3 and world.steps == 6  # and none of 777


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_vectors_of_gymnasium_keep_their_endings_apart(mode):
    gymnasium = pytest.importorskip("gymnasium")
    how = gymnasium.vector.AutoresetMode[mode]
    make = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=7)] * 3
    world = gym.Vector("CartPole-v1", gymnasium.vector.SyncVectorEnv(make, autoreset_mode=how), 0)
    before, unreal, cuts = world.see, 0, 0
    for t in range(60):
        moved = world.step(np.full(3, t % 2))
        for i in range(3):
            if moved.real[i]:  # a real step moves the cart by its speed, and an unreal one anywhere
                x, speed = before[i, :2]
                assert moved.after[i, 0] == pytest.approx(x + 0.02 * speed, abs=1e-6)
        unreal, cuts = unreal + int((~moved.real).sum()), cuts + int(moved.truncated.sum())
        before = world.see
    assert cuts >= 18 and (unreal >= 18 if mode == "NEXT_STEP" else unreal == 0)
    with pytest.raises(Refusal, match="not resumed"):
        world.state()


@pytest.mark.parametrize(
    "make", [lambda: grid.Grid(3, 1), lambda: cart.Cart(3, 1), lambda: counters(3, 1, ends=4)]
)
def test_a_world_goes_on_exactly_where_it_was(make):
    rng, one, two = np.random.default_rng(0), make(), make()
    for _ in range(30):
        one.step(rng.integers(2, size=3))
    arrays, facts = one.state()
    two.restore({k: v.copy() for k, v in arrays.items()}, facts)
    assert np.array_equal(one.see, two.see) and two.take() == one.take()
    for _ in range(60):
        a = rng.integers(2, size=3)
        for x, y in zip(one.step(a), two.step(a)):
            assert np.array_equal(x, y)
        assert np.array_equal(one.see, two.see)
    assert one.take() == two.take() and one.steps == two.steps


def test_an_environment_that_is_no_function_of_its_seed_is_not_resumed():
    one, two = counters(2, ends=5, drift=True), counters(2, ends=5, drift=True)
    for _ in range(12):
        one.step(np.zeros(2, int))
    with pytest.raises(BadData, match="cannot be resumed exactly"):
        two.restore(*one.state())


def test_neighbouring_seeds_share_no_episode():
    seeds = {episode_seed(s, i, e) for s in range(4) for i in range(8) for e in range(16)}
    assert len(seeds) == 4 * 8 * 16


def test_what_is_refused(monkeypatch):
    for name, why in (("gird", "Built in are: grid"), ("NoSuch-v9", "no environment|pip install")):
        with pytest.raises(Refusal, match=why):
            opening.world(name, 1, 0)
    with pytest.raises(Refusal, match="discrete actions"):
        gym.space_of("Pendulum-v1", Box((3,)), Box((1,)))
    with pytest.raises(Refusal, match="a vector of numbers or an image"):
        gym.space_of("Text-v0", SimpleNamespace(), SimpleNamespace(n=2))
    with pytest.raises(Refusal, match=r"step 2 of an episode .*the wheel came off.*saved before is intact"):
        for _ in range(3):
            world = locals().get("world") or counters(1, fails=2)
            world.step(np.zeros(1, int))
    monkeypatch.setattr(gym, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(Refusal, match=r"likeness\[rl\].*grid and CartPole-v1"):
        opening.world("Acrobot-v1", 1, 0)


def test_images_have_their_channels_first():
    space = gym.space_of("Breakout", Box((10, 10, 4), bool), SimpleNamespace(n=6))
    assert space == Space((4, 10, 10), 6, "bool")
    see = np.zeros((2, 10, 10, 4), bool)
    see[1, 2, 3, 0] = True
    assert gym.seen(space, see).shape == (2, 4, 10, 10) and gym.seen(space, see)[1, 0, 2, 3]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_a_film_lasts_as_long_as_its_frames(kind):
    import io

    from PIL import Image

    shots = [np.full((8, 8, 3), 40 * (i // 2), np.uint8) for i in range(6)]
    film = Image.open(io.BytesIO(playing.film(shots, 10, kind)))
    times = []
    for i in range(film.n_frames):
        film.seek(i)
        film.load()
        times.append(film.info["duration"])
    assert times == [200, 200, 200]
    with pytest.raises(Refusal, match="no frame"):
        playing.film([], 10, kind)


@pytest.mark.parametrize("game", ["Breakout", "Freeway", "SpaceInvaders", "Asterix", "Seaquest"])
def test_minatar_is_resumed_exactly(game):
    """The package keeps the last action beyond an ending, and repeats it at random."""
    pytest.importorskip("minatar", reason="minatar is not installed")
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    name, rng = f"MinAtar/{game}-v1", np.random.default_rng(0)
    one, other = (opening.world(name, 4, 5) for _ in range(2))
    for _ in range(150):
        one.step(rng.integers(one.space.actions, size=4))
    other.restore(*one.state())
    for _ in range(50):
        action = rng.integers(one.space.actions, size=4)
        for a, b in zip(one.step(action), other.step(action)):
            assert np.array_equal(a, b)
    assert one.space.dtype == "bool" and one.see.shape == (4, *one.space.shape)
    assert np.array_equal(one.frame(1), other.frame(1)) and one.frame(1).shape == (240, 240, 3)


def test_minatar_forgets_its_last_action(monkeypatch):
    """With actions that are always repeated, a second episode begins as a first one does."""
    pytest.importorskip("minatar", reason="minatar is not installed")
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    env = gym.make("MinAtar/Breakout-v1")
    env.env.game.sticky_action_prob = 1.0
    seen = []
    for action in (1, 2):
        env.env.game.last_action = action
        env.reset(seed=3)
        seen.append(env.step(action)[0])
    assert np.array_equal(*seen)


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("likeness.agents.minatar.import_module", missing)
    with pytest.raises(Refusal, match="pip install minatar"):
        gym.minatar.register(SimpleNamespace(registry={}))
