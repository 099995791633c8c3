"""The playground without its page: closed forms, the past to the bit, forks on the same noise, failures that
fail."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from likeness import models
from likeness.core import Refusal
from likeness.data import load
from likeness.models import load as load_model
from likeness.parts.adversarial import GAMES
from likeness.studio.playground import dirac, games, meters, points
from likeness.studio.playground.pane import Pane, by_logit
from likeness.studio.playground.session import Session
from likeness.studio.screens import playground

TINY: dict[str, Any] = dict(hidden=16, depth=1, batch=32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(model: str = "gan", law: str = "ring", **options: Any) -> Pane:
    data = games.data_for(model, law)
    return Pane(games.config(model, data, options or TINY), data)


# Meters


def gauss(mu: float, sigma: float, edges: np.ndarray) -> np.ndarray:
    """Masses between the edges, and last of what lies outside."""
    inside = np.diff(stats.norm.cdf(edges, mu, sigma))
    return np.append(inside, 1 - inside.sum())


def test_kl_and_js_of_gaussians_are_the_closed_forms():
    edges = np.linspace(-12, 12, 4001)
    (m1, s1), (m2, s2) = (0.0, 1.0), (0.7, 1.4)
    p, q = gauss(m1, s1, edges), gauss(m2, s2, edges)
    kl = math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    assert meters.kl(p, q) == pytest.approx(kl / math.log(2), abs=1e-4)
    f, g = stats.norm(m1, s1).pdf, stats.norm(m2, s2).pdf

    def integrand(x: float) -> float:
        m = (f(x) + g(x)) / 2
        return (f(x) * np.log2(f(x) / m) + g(x) * np.log2(g(x) / m)) / 2

    assert meters.js(p, q) == pytest.approx(integrate.quad(integrand, -12, 12)[0], abs=1e-4)
    assert meters.js(p, p) == 0 and meters.js(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert meters.kl(np.array([0.5, 0.5]), np.array([1.0, 0])) == math.inf


def test_masses_add_up_to_one_wherever_the_points_lie():
    """In GAN Lab the masses of the true points add up to 0.336: two thirds of its samples are undefined."""
    x = np.array([[0.0, 0.0], [1.2, -1.2], [1.25, 0.0], [9, 9], [math.nan, 0], [-1.25, -1.25]])
    found = meters.masses(x, cells=2)
    assert found.sum() == pytest.approx(1) and found[-1] == 0.5  # 1.25 itself, 9 and nan are outside
    assert found[:-1].tolist() == pytest.approx([1 / 6, 1 / 6, 0, 1 / 6])
    assert meters.masses(x, alpha=1.0).sum() == pytest.approx(1) and (meters.masses(x, alpha=1.0) > 0).all()
    ring = load("ring:8000").x.reshape(-1, 2)
    assert meters.js(meters.masses(ring), meters.masses(ring)) == 0
    assert 0 < meters.js_floor(ring, 512) < 0.1 < meters.js(meters.masses(ring), meters.masses(ring * 0.5))


def test_sliced_w2_of_a_shifted_set_is_its_shift():
    """A shift by d along a random direction is |d|^2 cos^2 on average: |d| / sqrt 2."""
    x = np.random.default_rng(0).normal(size=(300, 2))
    assert meters.sliced_w2(x, x) == 0
    d = np.array([0.6, 0.8])
    cos = np.random.default_rng((0, 0x51CE)).standard_normal((meters.DIRECTIONS, 2))
    cos = cos @ d / np.linalg.norm(cos, axis=1)
    assert meters.sliced_w2(x, x + d) == pytest.approx(math.sqrt((cos**2).mean()), rel=1e-6)
    assert meters.sliced_w2(x, x + d) == pytest.approx(1 / math.sqrt(2), rel=0.15)
    assert math.isnan(meters.sliced_w2(x * math.nan, x))


@pytest.mark.parametrize("name", list(GAMES))
def test_the_slope_by_a_logit_is_that_of_the_formula(name):
    f, r = torch.tensor([-3.0, 0.5, 2.0]), torch.tensor([1.0, 0.0, -1.0])
    s = torch.sigmoid
    known = {
        "minimax": -s(f),
        "nonsaturating": -s(-f),
        "least-squares": f - 1,
        "hinge": -torch.ones(3),
        "wasserstein": -torch.ones(3),
        "relativistic": -s(r - f),
    }
    assert torch.allclose(by_logit(name, f, r), known[name], atol=1e-6)


def test_the_pull_is_the_derivative_of_the_loss_at_each_point():
    pane = tiny(game="minimax", **TINY)
    for _ in range(5):
        pane.step()
    x = pane.fakes()[:7]
    _, push = pane.pulls(x)
    by_hand, h = torch.zeros(7, 2, dtype=torch.float64), 1e-3
    model = pane.run.student.double()
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = h
        up, down = (
            -torch.nn.functional.softplus(model.D((x.double() + sign * step).view(-1, 2, 1, 1)))
            for sign in (1, -1)
        )
        by_hand[:, k] = -(up - down).detach() / (2 * h)
    assert torch.allclose(push.double(), by_hand, atol=1e-4)


# The Dirac-GAN


def walk(n: int, **options: Any) -> np.ndarray:
    pane = tiny("dirac", **options)
    places = [pane.place()]
    for _ in range(n):
        pane.step()
        places.append(pane.place())
    return np.array(places)


def test_the_orbit_of_wasserstein_is_the_ellipse_and_with_r1_the_spiral():
    h = 0.1
    places = walk(200, game="wasserstein", rate=h)
    theta, psi = places.T
    assert np.allclose(theta**2 + psi**2 - h * theta * psi, 1, atol=2e-5)
    assert np.abs(places).max() > 0.9 and theta.min() < -0.9, "it goes all the way round"
    closed = dirac.orbit(1, 0, h, "wasserstein", 0, 2000)
    assert all(np.linalg.norm(closed - at, axis=1).min() < 4e-3 for at in places)
    mended = walk(150, game="wasserstein", rate=h, r1=0.5)
    assert np.allclose(mended[:150], dirac.orbit(1, 0, h, "wasserstein", 0.5, 150), atol=1e-5)
    values = np.abs(np.linalg.eigvals(dirac.matrix(h, 0.5)))
    assert values.max() < 1 and np.hypot(*mended[-1]) < 0.1
    assert np.linalg.det(dirac.matrix(h)) == pytest.approx(1), "without a penalty no step gains or loses area"


def test_the_minimax_orbit_stays_near_the_circle_of_the_flow_and_drifts_with_large_steps():
    near = walk(300, game="minimax", rate=0.02)
    assert np.allclose(np.hypot(*near.T), 1, atol=0.02)
    assert len(dirac.orbit(1, 0, 0.1, "minimax", 0)) and not len(dirac.orbit(1, 0, 0.1, "hinge", 0))
    assert np.allclose(np.hypot(*dirac.orbit(0.6, 0.8, 0.1, "minimax", 0).T), 1)


# Which models there are


def test_models_that_draw_points_appear_by_themselves(monkeypatch, tmp_path):
    found = games.entries()
    assert {"gan", "r3gan", "vae", "ddpm", "edm", "flowmatching", "pixelcnn", "dirac"} <= found.keys()
    assert found.keys() & {"classifier", "cyclegan", "byol", "mae"} == set()
    assert found["vae"].options["net"] == "mlp" and found["vae"].lattice and not found["gan"].lattice
    (tmp_path / "mine.py").write_text(
        "'''Points that stand still: a model of a test.'''\n"
        "import torch\nfrom torch import nn\nfrom ..core import Loss, Model, option\n"
        "class Mine(Model):\n    spread: float = option(0.5, 'how far they lie apart', 0.0, 1.0)\n"
        "    def build(self): self.at = nn.Parameter(torch.zeros(2))\n"
        "    def loss(self, batch): return Loss((batch.x.flatten(1) - self.at).square().mean())\n"
        "    def sample(self, noise, y=None):\n"
        "        yield (self.at + self.spread * noise.normal(2)).detach().view(-1, 2, 1, 1)\n"
    )
    kind = load_model(str(tmp_path / "mine.py"))
    monkeypatch.setattr(models, "NAMES", ("gan", "mine"))
    monkeypatch.setattr(models, "load", lambda name: kind if name == "mine" else load_model(name))
    games.entries.cache_clear()
    try:
        assert set(games.entries()) == {"gan", "mine", "dirac"}
        session = Session(dict(model="mine", law="moons", options=dict(spread=0.25)))
        session.advance()
        _, arrays = session.view()
        assert arrays["a.fake"].shape == (512, 2)
        spread = next(o for o in session.about()["panes"]["a"]["options"] if o["name"] == "spread")
        assert (spread["value"], spread["low"], spread["high"], spread["kind"]) == (0.25, 0.0, 1.0, "float")
    finally:
        games.entries.cache_clear()


@pytest.mark.parametrize("name", ["gan", "r3gan", "vae", "flowmatching", "pixelcnn", "dirac"])
def test_each_kind_of_model_trains_and_shows_itself(name):
    session = Session(dict(model=name, law="grid"))
    session.layers = {"heat", "arrows", "warp", "lines"}
    session.step("both", 2)
    data, arrays = session.view()
    shown = session.about()["panes"]["a"]["shows"]
    json.dumps(data)
    assert data["panes"]["a"]["step"] == 2 and all(a.dtype in (np.float32, np.uint8) for a in arrays.values())
    kinds = {k.partition(".")[2] for k in arrays} - {"fake", "real"}
    assert (
        kinds
        == {
            "gan": {"heat", "push", "warp", "lines"},
            "r3gan": {"heat", "push", "warp", "lines"},
            "vae": {"density", "warp", "lines"},
            "flowmatching": {"field", "warp", "lines"},
            "pixelcnn": {"density"},
            "dirac": {"trail", "orbit"},
        }[name]
    )
    assert len(shown) == len(kinds) or name == "dirac"
    assert all(np.isfinite(a).all() for a in arrays.values())


def test_a_lattice_holds_the_same_points():
    data = load("moons:8000")
    there = points.plane(points.on_lattice(data), np.arange(8000)).numpy()
    assert np.abs(there - data.x.reshape(-1, 2)).max() <= points.REACH / 255 + 1e-6
    cells = points.lattice(4)
    assert cells[0].tolist() == [-0.9375, 0.9375] and cells[1].tolist() == [-0.3125, 0.9375]


def test_a_drawing_becomes_points_where_it_is_dark():
    ink = np.zeros((40, 40), np.uint8)
    ink[:10, 30:] = 200
    x = points.load(points.DRAWING, ink).x.reshape(-1, 2)
    assert (x[:, 0] >= 0.5).all() and (x[:, 1] >= 0.5).all() and len(x) == points.COUNT
    for bad in (None, np.zeros((9, 9), np.uint8), np.ones((1, 9), np.uint8), np.ones((9, 9), np.float32)):
        with pytest.raises(Refusal, match="draw"):
            points.load(points.DRAWING, bad)


# Time


def test_rewinding_and_running_gives_the_same_points_to_the_bit():
    session = Session(dict(options=TINY | dict(spectral=True)))
    session.step("discriminator", 2)
    for _ in range(4):
        session.step("both", 3)
    early, later = session.past[1][0], session.past[3][0]
    once = session.panes["a"].fakes()
    session.rewind(early)
    assert session.at == early and session.panes["a"].steps == {"discriminator": 2, "generator": 0}
    session.rewind(session.past[-1][0])
    assert session.at is None and torch.equal(session.panes["a"].fakes(), once), "forward again"
    session.rewind(1)  # where no optimiser had made a step
    session.rewind(later)
    session.step("both", 3)
    session.step("both", 3)
    assert session.past[-1][0] == later + 2 and torch.equal(session.panes["a"].fakes(), once)
    fresh = Session(dict(options=TINY | dict(spectral=True)))
    fresh.step("discriminator", 2)
    fresh.step("both", 12)
    assert torch.equal(fresh.panes["a"].fakes(), once), "and so does a session without a past"


def test_the_past_is_limited_in_frames_and_bytes(monkeypatch):
    monkeypatch.setattr("likeness.studio.playground.session.PAST_BYTES", 10 * 4 * 10_000)
    session = Session(dict(options=TINY))
    size = session.past[0][1]["a"].bytes
    for _ in range(60):
        session.step("both", 1)
    assert len(session.past) == min(61, 400_000 // session.past[-1][1]["a"].bytes) and size < 40_000
    session.rewind(0)
    assert session.at == session.past[0][0]


# Breaking and mending


def test_in_vanish_the_saturating_gradient_is_at_least_ten_times_smaller():
    session = Session({"break": "vanish"})
    _, vanished = session.view(), session.view()[0]["panes"]["a"]
    assert vanished["d_real"] == vanished["d_fake"] == 1.0
    assert 10 * vanished["pulls"]["minimax"] <= vanished["pulls"]["nonsaturating"]
    session.step("both", 3)
    pulls = session.view()[0]["panes"]["a"]["pulls"]
    assert 10 * pulls["minimax"] <= pulls["nonsaturating"], "and it stays so while both train"
    fair = Session(dict(options=dict(game="minimax"))).view()[0]["panes"]["a"]["pulls"]
    assert fair["nonsaturating"] < 2 * fair["minimax"], "with an untrained D both pull alike"


def test_a_fork_goes_on_with_the_same_weights_noise_and_data():
    session = Session(dict(options=TINY | dict(r1=0.1)))
    session.step("both", 4)
    session.mend("", dict(rate=2e-3))  # the rate that it has
    a, b = session.panes["a"], session.panes["b"]
    assert session.fresh == [] and torch.equal(a.fakes(), b.fakes())
    session.step("both", 3)
    assert torch.equal(a.fakes(), b.fakes()), "equal options: equal to the bit, optimisers' memories and all"
    session.mend("loss", {})
    assert session.about()["panes"]["b"]["diff"] == []  # it is nonsaturating already
    session.mend("pair", {})
    about = session.about()
    assert about["panes"]["b"]["diff"] == [["game", "nonsaturating", "relativistic"]]
    before = session.panes["a"].fakes()
    assert torch.equal(session.panes["b"].fakes(), before)
    session.step("both", 2)
    assert not torch.equal(session.panes["b"].fakes(), session.panes["a"].fakes())
    first = session.past[0][0]
    session.rewind(first)
    assert torch.equal(session.panes["a"].fakes(), before) and torch.equal(session.panes["b"].fakes(), before)
    session.close("b")
    assert list(session.panes) == ["a"] and session.panes["a"].config.options["game"] == "relativistic"


def test_a_remedy_that_changes_a_layer_says_what_begins_anew():
    session = Session(dict(options=TINY))
    session.step("both", 3)
    session.mend("spectral", {})
    same = session.panes["a"].run.student.D.trunk[0][1][0].weight
    other = session.panes["b"].run.student.D.trunk[0][1][0].parametrizations.weight.original
    assert session.fresh == [] and torch.equal(same, other), "a weight under another name is the same weight"
    session.mend("pack", {})
    assert session.fresh == ["D.trunk.0.1.0.weight"]
    listed = {r["id"]: r["diff"] for r in session.about()["remedies"]}
    assert listed["r1r2"] == [["r1", 0.0, 0.1], ["r2", 0.0, 0.1]] and listed["rate"] == [
        ["rate", 2e-3, 6.7e-4]
    ]
    assert "loss" not in listed and "even" not in listed, "what it has already is no remedy"


def test_the_remedies_are_those_that_the_model_has():
    r3 = Session(dict(model="r3gan"))
    assert {r["id"] for r in r3.about()["remedies"]} == {"rate"}
    wasserstein = Session(dict(options=TINY | dict(game="wasserstein")))
    assert "smooth" not in {r["id"] for r in wasserstein.about()["remedies"]}, "refused by the model"
    with pytest.raises(Refusal, match="smooth"):
        wasserstein.mend("smooth", {})
    assert list(wasserstein.panes) == ["a"]


def test_numbers_that_are_none_freeze_the_pane_and_fifty_back_it_is_well():
    session = Session(dict(options=TINY))
    for _ in range(3):
        session.advance()
    good = session.panes["a"].fakes()
    with torch.no_grad():
        next(session.panes["a"].run.student.G.parameters()).fill_(math.nan)
    session.start(True)
    session.advance()
    assert not session.running and "diverged at step" in session.view()[0]["panes"]["a"]["diverged"]
    session.start(True)
    assert not session.running
    session.rewind(session.frame - 1)
    assert torch.equal(session.panes["a"].fakes(), good) and not session.panes["a"].diverged


def test_a_setup_that_cannot_be_is_refused():
    for setup, word in (
        (dict(model="nosuch"), "no model of points"),
        (dict(law="nosuch"), "no points"),
        (dict(options=dict(nosuch=1)), "no option"),
        (dict(options=dict(game="nosuch")), "none of"),
        (dict(options=dict(hidden=10**9)), "between"),
        ({"break": "nosuch"}, "nothing is broken"),
    ):
        with pytest.raises(Refusal, match=word):
            Session(setup)


def test_the_command_makes_the_same_model():
    session = Session(dict(options=dict(game="minimax", hidden=32)))
    command = session.about()["panes"]["a"]["command"]
    assert command.startswith("likeness train gan ring runs/playground ") and "--game minimax" in command
    from likeness.training.session import Wishes

    words = command.split()[5:]
    typed = dict(zip((w[2:] for w in words[::2]), words[1::2]))
    wishes = Wishes.sort(load_model("gan"), typed)
    own = session.panes["a"].config
    assert all(str(own.options[k]) == v for k, v in wishes.options.items())
    assert all(str(getattr(own.training, k)) == v for k, v in wishes.training.items())


def test_a_saved_session_opens_to_the_bit(tmp_path):
    ink = np.tri(32, dtype=np.uint8) * 255
    session = Session(dict(law=points.DRAWING, options=TINY), ink)
    session.step("both", 3)
    session.mend("pair", {})
    session.step("both", 2)
    assert session.save(tmp_path, "a b") == "playground/a b"
    assert sorted(p.name for p in (tmp_path / "playground" / "a b").iterdir()) == [
        "frame.png",
        "recipe.json",
        "state.safetensors",
    ]
    again = Session.open(tmp_path, "a b")
    for name in "ab":
        assert torch.equal(again.panes[name].fakes(), session.panes[name].fakes())
    for one in (session, again):
        one.step("both", 2)
    assert torch.equal(again.panes["b"].fakes(), session.panes["b"].fakes())
    for bad in ("a b", "../x", ".x", "", "x" * 61):
        with pytest.raises(Refusal):
            session.save(tmp_path, bad)
    for bad in ("nosuch", "../playground/a b"):
        with pytest.raises(Refusal):
            Session.open(tmp_path, bad)
    (tmp_path / "playground" / "a b" / "recipe.json").write_text("{}")
    with pytest.raises(Refusal, match="cannot be read"):
        Session.open(tmp_path, "a b")


# What a page asks


class Desk(SimpleNamespace):
    """As the worker's: a root, and the actions that wait."""

    def inbox(self, key: str) -> list[Any]:
        waiting, self.waiting = self.waiting, []
        return waiting


def test_an_answer_runs_until_it_is_stopped_and_goes_on_by_the_next_action(tmp_path):
    desk = Desk(root=tmp_path, waiting=[])
    frames = playground.play(desk, dict(key="k", options=TINY, run=True), {})
    first = next(frames)
    assert first.data["about"]["law"] == "ring" and first.data["running"]
    steps = [next(frames).data["panes"]["a"]["step"] for _ in range(3)]
    assert 0 < steps[0] < steps[1] < steps[2]
    desk.waiting = [("act", dict(key="k", do="run", on=False), {})]
    last = list(frames)[-1].data
    assert not last["running"] and last["about"] is None
    (one,) = playground.act(desk, dict(key="k", do="step", who="generator", n=2), {})
    assert one.data["panes"]["a"]["step"] == last["panes"]["a"]["step"] + 2 and one.data["refused"] == [0, ""]
    (no,) = playground.act(desk, dict(key="k", do="mend", remedy="nosuch"), {})
    assert (
        no.data["refused"][0] == 1
        and "no remedy" in no.data["refused"][1]
        and no.data["frame"] == one.data["frame"]
    )
    (mended,) = playground.act(desk, dict(key="k", do="mend", remedy="pair"), {})
    assert set(mended.data["panes"]) == {"a", "b"} and mended.data["about"]["remedy"] == "pair"
    with pytest.raises(Refusal, match="gone"):
        playground.act(desk, dict(key="other", do="show"), {})


def test_a_session_outlives_its_process(tmp_path):
    desk = Desk(root=tmp_path, waiting=[])
    list(playground.play(desk, dict(key="w", options=TINY), {}))
    list(playground.act(desk, dict(key="w", do="mend", remedy="pair"), {}))
    (last,) = playground.act(desk, dict(key="w", do="step", n=3), {})
    playground.SESSIONS.clear()  # as in a new process
    (again,) = playground.act(desk, dict(key="w", do="show"), {})
    assert all(np.array_equal(again.arrays[k], v) for k, v in last.arrays.items()), "to the bit"
    assert again.data["panes"]["b"]["step"] == 3 and again.data["about"]["remedy"] == "pair"
    (file,) = (tmp_path / ".studio" / "playground").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    playground.SESSIONS.clear()
    with pytest.raises(Refusal, match="gone"):
        playground.act(desk, dict(key="w", do="show"), {})


def test_an_action_counts_though_the_next_one_takes_its_answer_or_time_stands_still(tmp_path):
    desk = Desk(root=tmp_path, waiting=[])
    (first,) = playground.play(desk, dict(key="q", options=TINY), {})
    playground.act(desk, dict(key="q", do="step"), {})  # closed before its first frame
    frames = playground.act(desk, dict(key="q", do="step"), {})
    assert next(frames).data["panes"]["a"]["step"] == first.data["panes"]["a"]["step"] + 2
    desk.waiting = [("act", dict(key="q", do="step"), {})]  # after the last frame, before the end
    assert [f.data["panes"]["a"]["step"] for f in frames] == [3]


@pytest.mark.parametrize(
    "bad",
    [
        dict(do="nosuch"),
        dict(do="step", n=10**9),
        dict(do="step", who=3),
        dict(do="pace", steps=0),
        dict(do="look", layers=["x"]),
        dict(do="look", layers="heat"),
        dict(do="rewind", frame=-1),
        dict(do="set", options=[1]),
        dict(do="set", options={"game": {}}),
        dict(do="set", options={"game": "x" * 99}),
        dict(do="save", name="../../x"),
        dict(do="close", keep="c"),
        dict(do="run", on="yes"),
    ],
)
def test_hostile_actions_are_refused_and_change_nothing(tmp_path, bad):
    desk = Desk(root=tmp_path, waiting=[])
    (first,) = playground.play(desk, dict(key="h", options=TINY), {})
    (after,) = playground.act(desk, dict(key="h", **bad), {})
    assert after.data["refused"][0] == 1 and after.data["frame"] == first.data["frame"]
    assert {p.name for p in tmp_path.iterdir()} <= {".studio"}


def looks(failure: str, steps: int, every: int) -> list[tuple[int, float, np.ndarray]]:
    """Modes hit, W2 and centre of the points, as a screen that is broken so shows them in turn."""
    session, out = Session({"break": failure}), []
    for _ in range(0, steps, every):
        session.step("both", every)
        out.append((session.view()[0]["panes"]["a"], session.panes["a"].fakes().numpy().mean(0)))
    return [(meters_["modes"], meters_["w2"], centre) for meters_, centre in out]


def test_what_is_called_collapse_is_a_collapse_by_its_meters():
    assert max(modes for modes, _, _ in looks("collapse", 300, 60)) <= 8, "of 25"


def test_what_is_called_oscillation_goes_around_and_never_comes_near():
    seen = looks("oscillate", 300, 50)
    assert all(w2 > 0.5 for _, w2, _ in seen) and max(modes for modes, _, _ in seen) <= 2
    angles = [math.atan2(centre[1], centre[0]) for _, _, centre in seen]
    assert len({int((a + math.pi) // (math.pi / 2)) for a in angles}) >= 3, (
        "three quarters of the ring, or all"
    )
