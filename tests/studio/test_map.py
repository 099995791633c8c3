"""The map screen: the files and the neighbours of the command line, and what the page draws and selects."""

from __future__ import annotations

import csv
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness import figures
from likeness.cli import main
from likeness.core import Refusal
from likeness.maps import embedding, pictures
from likeness.maps.embedding import Axes, Map
from likeness.studio.protocol import Answer
from likeness.studio.screens import map as screen
from likeness.studio.worker import Desk

from .conftest import Served, end, opened, start, until


def photographs(folder: Path, n: int = 60) -> None:
    """Small images of three colours, in three folders, which are their labels."""
    rng = np.random.default_rng(0)
    for i in range(n):
        colour = np.eye(3)[i % 3] * 180
        image = (colour + rng.uniform(0, 70, (12, 12, 3))).astype(np.uint8)
        place = folder / "rgb"[i % 3] / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps") / "runs"
    photographs(root / "photos")
    return root


@pytest.fixture
def desk(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(filled.parent)
    return Desk(filled)


def asked(desk: Desk, ask: str, arrays: dict | None = None, /, **args: Any) -> Answer:
    (*_, last) = screen.ASKS[ask](desk, args, arrays or {})
    return last


@pytest.fixture(scope="module")
def made(filled: Path) -> Answer:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(filled.parent)
        return asked(Desk(filled), "make", data="photos", size=8, method="pca")


def test_a_map_is_the_files_of_its_command_to_the_byte(desk, made, capsys):
    files = [desk.root / "maps" / f"photos{e}" for e in (".npz", ".png", ".html", ".json")]
    before = [f.read_bytes() for f in files]
    for f in files:
        f.unlink()
    assert main(shlex.split(made.data["command"])[1:]) == 0
    assert [f.read_bytes() for f in files] == before
    known = Map.load(files[0])
    assert np.array_equal(np.stack([made.arrays["x"], made.arrays["y"]], 1), known.y)
    for name, number, _ in made.data["stated"]:
        assert name in capsys.readouterr().out + name and number


def test_a_map_that_is_opened_is_the_one_that_was_made(desk, made):
    screen._open.clear()
    again = asked(desk, "open", map=made.data["map"])
    assert again.data["groups"] == made.data["groups"] and again.data["stated"] == made.data["stated"]
    assert again.data["images"] and again.data["features"] == "pixels" and not again.data["why"]
    assert {k: v.tobytes() for k, v in again.arrays.items()} == {
        k: v.tobytes() for k, v in made.arrays.items()
    }
    labels = Map.load(desk.root / made.data["map"]).labels
    first = again.data["groups"][0]
    assert [first["names"][i] for i in again.arrays["group0"]] == list(labels)
    assert first["counts"] == [20, 20, 20] and first["colours"] == list(pictures.COLOURS[:3])


def test_neighbours_are_those_of_brute_force(desk, made, capsys):
    answer = asked(desk, "neighbours", map=made.data["map"], row=7)
    shown = screen._opened(desk, dict(map=made.data["map"]))
    x = shown.of.features.astype(np.float64)
    far = np.sqrt(((x - x[7]) ** 2).sum(1))
    far[7] = np.inf
    order = np.argsort(far, kind="stable")[:24]
    assert answer.data["rows"] == order.tolist()
    assert answer.data["distances"] == pytest.approx(far[order])
    assert answer.data["names"] == [shown.made.names[i] for i in order]
    assert answer.arrays["images"].shape[0] == 24 and answer.data["query"]["name"] == shown.made.names[7]
    assert main([*shlex.split(answer.data["command"])[1:], "--json"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in answer.data["names"])


def test_an_own_image_finds_the_one_that_it_is(desk, made):
    shown = screen._opened(desk, dict(map=made.data["map"]))
    file = np.frombuffer((desk.root / "photos" / shown.made.names[4]).read_bytes(), np.uint8)
    answer = asked(desk, "own", dict(file=file), map=made.data["map"])
    assert answer.data["rows"][0] == 4 and answer.data["distances"][0] == 0


def test_a_selection_is_exported_as_csv_list_and_matrix(desk, made, capsys):
    mask = np.zeros(60, np.uint8)
    mask[[3, 8, 20, 21, 22]] = 1
    shown = screen._opened(desk, dict(map=made.data["map"]))
    saved = {
        f: asked(desk, "export", dict(mask=mask), map=made.data["map"], format=f)
        for f in ("csv", "files", "npy")
    }
    lines = list(csv.DictReader(Path(saved["csv"].data["saved"]).read_text().splitlines()))
    names = [shown.made.names[i] for i in np.flatnonzero(mask)]
    assert [line["file"] for line in lines] == names
    assert [float(line["x"]) for line in lines] == shown.made.y[mask > 0, 0].tolist()
    assert Path(saved["files"].data["saved"]).read_text().split("\n")[:-1] == names
    matrix = Path(saved["npy"].data["saved"])
    assert np.array_equal(np.load(matrix), shown.of.features[mask > 0])
    assert len({v.data["saved"].rpartition(".")[0] for v in saved.values()}) == 3, "nothing is overwritten"
    assert main(["map", str(matrix), "--method", "pca", "-o", str(desk.root.parent / "sub.png")]) == 0


def synthetic(path: Path, n: int = 10_000, groups: int = 4, seed: int = 0) -> Map:
    """Blobs that are a map, of features that are not at hand."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, groups, n)
    middle = np.stack([np.cos(2 * np.pi * of / groups), np.sin(2 * np.pi * of / groups)], 1) * 20
    y = (middle + rng.normal(size=(n, 2))).astype(np.float32)
    reduced = np.concatenate([y, rng.normal(size=(n, 3)).astype(np.float32)], 1)
    settings = dict(method="pca", seed=seed, data="gone.npy", features="blobs", dimensions=5)
    axes = Axes(np.zeros(8, np.float32), np.eye(8, dtype=np.float32)[:5], 1.0)
    names = tuple(f"row {i}" for i in range(n))
    made = Map(y, np.arange(n), names, tuple(f"blob {i}" for i in of), settings, axes, reduced)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return made


def test_a_map_without_its_features_says_so_and_has_neighbours_by_components(desk):
    made = synthetic(desk.root / "maps/blobs.npz", 500)
    answer = asked(desk, "open", map="maps/blobs.npz")
    assert "gone.npy is not there" in answer.data["why"] and not answer.data["images"]
    near = asked(desk, "neighbours", map="maps/blobs.npz", row=3)
    far = ((made.reduced.astype(float) - made.reduced[3]) ** 2).sum(1)
    far[3] = np.inf
    assert near.data["rows"] == np.argsort(far, kind="stable")[:24].tolist() and not near.data["command"]
    mask = dict(mask=np.ones(500, np.uint8))
    with pytest.raises(Refusal, match="not at hand"):
        asked(desk, "export", mask, map="maps/blobs.npz", format="npy")


def test_more_groups_than_a_byte_holds_have_two(desk):
    many = synthetic(desk.root / "maps/many.npz", 900, 300)
    answer = asked(desk, "open", map="maps/many.npz")
    wide = answer.arrays["group0"].reshape(-1).view("<u2")
    assert [answer.data["groups"][0]["names"][i] for i in wide] == list(many.labels)


HOSTILE = [
    ("open", dict(map="../x.npz")),
    ("open", dict(map="/etc/passwd")),
    ("open", dict(map="photos")),
    ("open", dict(map="photos/r/00.png")),
    ("open", dict(map=3)),
    ("make", dict(data="../elsewhere")),
    ("make", dict(data="--help")),
    ("make", dict(data="/etc")),
    ("make", dict(data="photos", method="magic")),
    ("make", dict(data="photos", size=10**9)),
    ("make", dict(data="photos", perplexity=float("nan"))),
    ("make", dict(data="photos", perplexity=1000.0)),
    ("make", dict(data="photos", network="/tmp/evil.pt")),
    ("make", dict(data="photos", n=2)),
    ("tiles", dict(rows=[60])),
    ("tiles", dict(rows=[-1])),
    ("tiles", dict(rows=[True])),
    ("tiles", dict(rows="all")),
    ("tiles", dict(rows=[0] * 321)),
    ("names", dict(rows=[0] * 501)),
    ("neighbours", dict(row=1e300)),
    ("one", dict(row="0")),
    ("own", {}),
    ("export", dict(format="exe")),
    ("export", dict(format="csv")),
]


@pytest.mark.parametrize("method, args", HOSTILE)
def test_whatever_a_page_may_send_is_a_refusal_at_most(desk, made, method, args):
    with pytest.raises(Refusal):
        asked(desk, method, **(dict(map=made.data["map"]) | args))


def test_no_text_is_an_image_and_no_other_mask_a_selection(desk, made):
    for method, arrays in (
        ("own", dict(file=np.frombuffer(b"#!/bin/sh\nexit 0\n" * 9, np.uint8))),
        ("export", dict(mask=np.zeros(60, np.uint8))),
        ("export", dict(mask=np.ones(61, np.uint8))),
        ("export", dict(mask=np.ones(60, np.float32))),
    ):
        with pytest.raises(Refusal):
            asked(desk, method, arrays, map=made.data["map"], format="csv")


def test_a_map_that_nobody_wants_any_more_ends(desk):
    answer = screen.make(desk, dict(data="digits", n=900, size=8), {})
    next(answer)
    answer.close()
    assert not list((desk.root / "maps").glob("digits*"))


def test_what_there_is_is_listed(desk, made):
    there = asked(desk, "sources").data
    assert {"photos/r", "photos/g", "photos/b"} & set(there["folders"]) or "photos" in there["folders"]
    assert made.data["map"] in [m["path"] for m in there["maps"]]
    recipe = figures.read_recipe((desk.root / made.data["map"]).with_suffix(".png"))
    settings = next(m["settings"] for m in there["maps"] if m["path"] == made.data["map"])
    assert all(recipe[k] == settings[k] for k in ("data", "method", "seed")), "so it is found again"


def test_a_map_by_tsne_shows_its_steps_on_the_way(desk, made, monkeypatch):
    whole = embedding.arrange
    monkeypatch.setattr(embedding, "arrange", lambda *a, **k: itertools.islice(whole(*a, **k), 40))
    monkeypatch.setattr(screen, "OFTEN", 0.001)
    *way, last = screen.make(desk, dict(data="photos", size=8, n=30, perplexity=5.0), {})
    steps = [w for w in way if "x" in w.arrays]
    assert steps and all(w.arrays["x"].shape == (30,) and w.data["n"] == 30 for w in steps)
    assert "--perplexity 5" in last.data["command"] and last.data["settings"]["perplexity"] == 5
    assert last.data["map"] == "maps/photos-2.npz", "nothing is overwritten"


def test_neighbours_by_a_network_are_those_of_its_matrix(desk, capsys):
    how = dict(data="photos/g", network="squeezenet", weights="none", method="pca")
    made = asked(desk, "make", **how)
    near = asked(desk, "neighbours", map=made.data["map"], row=2)
    assert near.data["features"].startswith("squeezenet") and near.arrays["images"].shape[0] == 19
    words = shlex.split(near.data["command"])
    assert words[3].endswith(".npy")
    assert main([*words[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["neighbours"]
    assert [n["name"] for n in told] == near.data["names"]


# In a browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("mapped") / "runs"
    photographs(root / "photos")
    synthetic(root / "maps/blobs.npz")
    one = start(root)
    yield one
    end(one)


def at(page: Any, points: np.ndarray) -> np.ndarray:
    """Where points of the map lie, in pixels of the plot, float64 (n, 2)."""
    x, y, scale = until(lambda: page.evaluate("studio.hash.get('view', null)"))
    box = page.locator(".m-plot").evaluate("e => [e.clientWidth, e.clientHeight]")
    points = points.astype(np.float64)
    return np.stack([(points[:, 0] - x) * scale + box[0] / 2, box[1] / 2 - (points[:, 1] - y) * scale], 1)


def inside(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Point in polygon by the even-odd rule, (n,)."""
    odd = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(line, np.roll(line, 1, 0)):
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = points[:, 0] < (bx - ax) * (points[:, 1] - ay) / (by - ay) + ax
        odd ^= ((ay > points[:, 1]) != (by > points[:, 1])) & crosses
    return odd


PIXEL = """([x, y]) => { const from = document.querySelector('.m-points');
const to = new OffscreenCanvas(from.width, from.height);
to.getContext('2d').drawImage(from, 0, 0);
return [...to.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3) }"""


def drawn(page: Any) -> None:
    page.locator(".m-plot[data-drawn]").wait_for()


def test_points_have_the_colour_of_their_label_and_a_lasso_counts_as_numpy(browser, served: Served, axe):
    made = Map.load(served.root / "maps/blobs.npz")
    with opened(browser, served) as page:
        page.set_default_timeout(100_000)
        page.evaluate("location.hash = '#map&map=maps/blobs.npz'")
        page.locator("main[data-map=ready]").wait_for()
        drawn(page)
        places = at(page, made.y)
        for label in range(4):
            own = np.array([one == f"blob {label}" for one in made.labels])
            rows = np.flatnonzero(own)
            x, y = places[rows[((places[rows] - places[rows].mean(0)) ** 2).sum(1).argmin()]]
            seen = "#" + "".join(f"{v:02x}" for v in page.evaluate(PIXEL, [int(x), int(y)]))
            assert seen == pictures.colour(label)
        page.locator(".m-plot").focus()
        page.keyboard.press("x")
        box = page.locator(".m-plot").bounding_box()
        middle = places.mean(0)
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        wave = 100 + 60 * np.sin(5 * turn)
        round_about = wave[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
        line = np.round(middle + np.array([150, 0]) + round_about)
        for i, (x, y) in enumerate(line):
            page.mouse.move(box["x"] + 1 + x, box["y"] + 1 + y)
            if not i:
                page.mouse.down()
        page.mouse.up()
        corner = "e => [e.getBoundingClientRect().left, e.getBoundingClientRect().top]"
        offset = page.locator(".m-plot").evaluate(corner)
        line += np.array([box["x"] + 1, box["y"] + 1]) - offset
        expected = int(inside(places, line).sum())
        assert expected > 100
        page.get_by_role("heading", name=f"Selection: {expected:,} of 10,000").wait_for()
        assert axe(page) == []
        page.get_by_role("button", name="CSV").click()
        file = served.root / "maps/blobs-selection-1.csv"
        until(file.is_file)
        assert len(file.read_text().splitlines()) == 1 + expected
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="blob 2").click()
        page.get_by_role("heading", name=f"Selection: {made.labels.count('blob 2'):,} of").wait_for()


def test_a_map_is_made_walked_and_opened_by_keys_alone(browser, served: Served, axe):
    with opened(browser, served, viewport=dict(width=420, height=800)) as page:
        page.set_default_timeout(100_000)
        page.evaluate("location.hash = '#map'")
        page.locator("main[data-map=ready]").wait_for()
        page.locator("summary", has_text="Make a new map").press("Enter")
        page.get_by_label("folder, matrix of features, run, or set").fill("photos")
        page.get_by_role("combobox", name="method").select_option("pca")
        page.get_by_label("pixels a side").fill("8")
        page.get_by_role("button", name="Make the map").press("Enter")
        page.get_by_role("heading", name="Selection: 0 of 60").wait_for()
        assert (served.root / "maps/photos.png").is_file()
        assert "likeness map" in page.evaluate("studio.command")
        drawn(page)
        page.locator(".m-plot").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        row = page.evaluate("studio.hash.get('at', -1)")
        made = Map.load(served.root / "maps/photos.npz")
        page.locator(".m-reading", has_text=made.names[row]).wait_for()
        page.keyboard.press("n")
        page.get_by_role("heading", name=f"24 neighbours of {made.names[row]}").wait_for()
        page.keyboard.press("Space")
        page.get_by_role("heading", name="Selection: 1 of 60").wait_for()
        page.get_by_text("neighbours kept", exact=True).wait_for()
        page.get_by_text("distances between them mean nothing").wait_for()
        assert axe(page) == []
        beyond = "e => e.getBoundingClientRect().right > innerWidth + 1"
        wide = f"[...document.querySelectorAll('body *')].filter({beyond})"
        assert page.evaluate(f"{wide}.map(e => e.tagName + e.className)") == [], "no sideways scrolling"
        page.locator(".m-plot").focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("img").wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Close").press("Enter")
        page.reload()
        page.get_by_role("heading", name="Selection: 1 of 60").wait_for()
        image = str(served.root / "photos" / made.names[3])
        page.get_by_label("your own photo").set_input_files(image)
        page.get_by_role("heading", name="24 neighbours of your image").wait_for()
        page.evaluate("studio.go('runs')")
        recipe = figures.read_recipe(served.root / "maps/photos.png")
        page.evaluate("r => studio.restore(r, '')", recipe)
        page.get_by_role("heading", name="of 60").wait_for()
        assert page.evaluate("studio.hash.get('map', '')") == "maps/photos.npz"
