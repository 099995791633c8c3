"""Maps: what stands beside them against scikit-learn and against fakes, new images on old maps, pictures
without overlap, pages without network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import LocalOutlierFactor

from likeness.backbones import catalogue
from likeness.cli import map as verb
from likeness.cli.neighbours import neighbours
from likeness.core import BadData, Refusal
from likeness.figures import read_recipe
from likeness.maps import clusters, collection, embedding, pictures, tsne
from likeness.maps import page as map_page

HOSTILE = '</script><img src=x onerror=alert(1)>"&\u2028.png'


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().data[:500].astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return load_digits().target[:500]


@pytest.fixture(scope="module")
def made(digits, labels) -> embedding.Map:
    axes = embedding.principal(digits)
    *_, last = embedding.arrange(axes.of(digits))
    settings = dict(data="digits", features="pixels", method="tsne", perplexity=30.0, seed=0)
    return embedding.Map(
        last.y.numpy(),
        np.arange(500),
        tuple(f"{i}.png" for i in range(500)),
        tuple(map(str, labels)),
        settings,
        axes,
        axes.of(digits),
    )


# Principal components


@pytest.mark.parametrize("n, wide", [(300, 64), (40, 3000), (1500, 1200)])
def test_principal_components_are_those_of_scikit_learn(n, wide):
    x = (np.random.default_rng(0).normal(size=(n, 30)) * np.geomspace(10, 1, 30)) @ np.random.default_rng(
        1
    ).normal(size=(30, wide)) + 7
    x = x.astype(np.float32)
    mine, theirs = embedding.principal(x, 10), PCA(10, svd_solver="full").fit(x)
    assert np.abs((mine.vectors * theirs.components_).sum(1)) == pytest.approx(1, abs=1e-3)
    assert mine.share == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-4)
    assert np.abs(mine.of(x)) == pytest.approx(np.abs(theirs.transform(x)), rel=2e-2, abs=0.3)
    assert (mine.vectors == embedding.principal(x, 10).vectors).all()


def test_blocks_of_rows_change_nothing(digits, monkeypatch):
    whole = embedding.principal(digits)
    monkeypatch.setattr(embedding, "ROWS", 64 * 37)
    assert np.abs(embedding.principal(digits).of(digits)) == pytest.approx(
        np.abs(whole.of(digits)), rel=1e-3, abs=0.02
    )


def test_features_that_say_nothing_are_refused():
    with pytest.raises(Refusal, match="are equal"):
        embedding.principal(np.ones((20, 5), np.float32))
    with pytest.raises(Refusal, match="not finite"):
        embedding.principal(np.full((20, 5), np.nan, np.float32))


@pytest.mark.parametrize("power", [-80, 63, 120])
def test_a_map_does_not_depend_on_the_unit_of_its_features(power, digits, made, tmp_path):
    """Nor any number beside it: squares of 1e-24, 1e19 and 1e36 are 0 and infinite in float32."""
    few = digits[:120]
    large = few * np.float32(2.0) ** power
    one, other = (embedding.principal(x) for x in (few, large))
    assert other.share == pytest.approx(one.share, rel=1e-6) and np.abs(other.vectors) == pytest.approx(
        np.abs(one.vectors), abs=1e-4
    )
    reduced = [axes.of(x) for axes, x in ((one, few), (other, large))]
    assert other.unit * reduced[1].astype(float) == pytest.approx(
        2.0**power * reduced[0].astype(float), rel=1e-3, abs=2.0**power * 1e-3
    )
    for method in ("tsne", "pca"):
        *_, last = embedding.arrange(reduced[1], method, 10.0)
        settings = dict(data="digits", features="pixels", method=method, seed=0)
        there = embedding.Map(
            last.y.numpy(), np.arange(120), tuple(map(str, range(120))), (), settings, other, reduced[1]
        )
        there.save(tmp_path / "m.npz")
        back = embedding.Map.load(tmp_path / "m.npz")
        assert back.axes.unit == other.unit and back.settings == settings
        assert embedding.place(back, large[:9]) == pytest.approx(
            there.y[:9], abs=0.25 * float(np.ptp(there.y))
        )
        cards = {(c.name, c.of): c.value for c in embedding.cards(large, there)}
        assert (
            cards["trustworthiness", "map"] > (0.95 if method == "tsne" else 0.75)
            and cards["neighbours kept", "map"] > 0.25
        )
    assert (
        len(clusters.clusters(reduced[1], 3).middle) == 3
        and np.isfinite(clusters.aloneness(reduced[1])).all()
    )
    x = torch.from_numpy(large)
    assert torch.allclose(
        tsne.affinities(x, 10.0).p, tsne.affinities(torch.from_numpy(few), 10.0).p, rtol=1e-3, atol=1e-7
    )


def test_features_that_float32_cannot_hold_are_refused(digits, made):
    for value in (1e39, np.inf, np.nan):
        spoilt = digits.astype(np.float64)
        spoilt[7, 3] = value
        for ask in (embedding.principal, made.axes.of, lambda x: embedding.kept(x, dict(map=made.y))):
            with pytest.raises(Refusal, match="look at these images"):
                ask(spoilt)
    assert np.isfinite(embedding.place(made, digits[:3] * np.float32(1e17))).all(), (
        "far off the map is still a place"
    )


def test_neighbours_that_are_equally_near_are_all_kept():
    """Thirty copies of two pictures: whichever ten of a picture's copies the map shows nearest, they are
    right."""
    x = np.repeat(np.eye(2, 5, dtype=np.float32), 30, 0)
    y = np.repeat(np.array([[0, 0], [9, 0]], np.float32), 30, 0) + np.random.default_rng(0).normal(
        size=(60, 2)
    ).astype(np.float32)
    found = embedding.kept(x, dict(map=y))["map"]
    assert (found.recall == 1).all() and (found.trust == 1).all()


# How far it may be believed


def test_trustworthiness_is_that_of_scikit_learn(digits, made):
    found = embedding.kept(digits, dict(map=made.y))["map"]
    assert found.trust.mean() == pytest.approx(trustworthiness(digits, made.y, n_neighbors=10), abs=1e-4)


def test_a_pca_plot_called_tsne_is_found_out(digits, labels, made):
    cards = {(c.name, c.of): c for c in embedding.cards(digits, made, labels)}
    assert cards["neighbours kept", "map"].value > 0.6 and cards["neighbours kept", "PCA plot"].value < 0.3
    assert cards["neighbours kept", "chance"].value == pytest.approx(10 / 499)
    assert cards["trustworthiness", "map"].value > 0.98 and cards["trustworthiness", "PCA plot"].value < 0.87
    assert cards["label of neighbours", "map"].value > 0.9 > cards["label of neighbours", "PCA plot"].value
    # the fake: a PCA plot, handed in as the map
    fake = embedding.kept(digits, dict(map=made.reduced[:, :2]))["map"]
    assert fake.recall.mean() == cards["neighbours kept", "PCA plot"].value


def test_points_at_random_keep_what_chance_keeps(digits):
    found = embedding.kept(
        digits, dict(map=np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32))
    )["map"]
    assert found.recall.mean() == pytest.approx(10 / 499, abs=0.01) and found.trust.mean() == pytest.approx(
        0.5, abs=0.03
    )


def test_a_map_that_is_the_features_keeps_all():
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    found = embedding.kept(x, dict(map=3 * x[:, ::-1]))["map"]
    assert (found.recall == 1).all() and (found.trust == 1).all()
    assert (embedding.overlap([x, -x]) == 1).all() and embedding.overlap(
        [x, np.random.default_rng(1).permutation(x)]
    ).mean() < 0.2


def test_several_maps_are_told_in_one_walk_over_the_features_whatever_is_held(
    digits, made, labels, monkeypatch
):
    walked, distances = [], embedding.distances
    monkeypatch.setattr(
        embedding, "distances", lambda x, some: walked.append((x.shape[1], len(some))) or distances(x, some)
    )
    ys = dict(map=made.y, plot=made.reduced[:, :2].copy())
    whole = embedding.kept(digits, ys, labels)
    assert walked == [(64, 500), (2, 500), (2, 500)]
    walked.clear()
    monkeypatch.setattr(embedding, "HELD", 500 * 200)
    parts = embedding.kept(digits, ys, labels)
    assert sorted(walked) == [(2, 100)] * 2 + [(2, 200)] * 4 + [(64, 100), (64, 200), (64, 200)]
    for name, y in ys.items():
        assert all((a == b).all() for a, b in zip(whole[name], parts[name]))
        assert all(
            (a == b).all() for a, b in zip(whole[name], embedding.kept(digits, {name: y}, labels)[name])
        )


# New images on an old map


def test_training_rows_land_near_themselves_and_each_by_itself(digits, made):
    y = embedding.place(made, digits[:60])
    radius = np.sqrt(tsne.nearest(torch.from_numpy(made.y), 10)[0][:, -1].median().item())
    apart = np.linalg.norm(y - made.y[:60], axis=1)
    assert np.median(apart) < 0.3 * radius and (apart < radius).mean() > 0.95
    assert embedding.place(made, digits[7:8]) == pytest.approx(y[7:8], abs=1e-2)


def test_new_images_land_among_their_kind(made, labels):
    new, kind = load_digits().data[500:700].astype(np.float32), load_digits().target[500:700]
    y = embedding.place(made, new)
    near = np.linalg.norm(y[:, None] - made.y, axis=2).argmin(1)
    assert (labels[near] == kind).mean() > 0.85
    with pytest.raises(Refusal, match="64 numbers, and these have 3"):
        embedding.place(made, new[:, :3])


def test_between_two_islands_it_lands_on_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32) + np.repeat([[0.0], [6.0]], 40, 0).astype(np.float32)
    y = rng.normal(size=(80, 2)).astype(np.float32) + np.repeat([[0.0], [50.0]], 40, 0).astype(np.float32)
    axes = embedding.principal(x)
    made = embedding.Map(y, np.arange(80), tuple(map(str, range(80))), (), dict(seed=0), axes, axes.of(x))
    placed = embedding.place(made, np.full((1, 4), 3.1, np.float32))[0]
    # the fake, the mean of its neighbours, lies in the void
    assert np.linalg.norm(y - placed, axis=1).min() < 3


def test_a_map_is_read_back_without_pickle(made, tmp_path):
    made.save(tmp_path / "m.npz")
    back = embedding.Map.load(tmp_path / "m.npz")
    assert (
        (back.y == made.y).all()
        and back.names == made.names
        and back.labels == made.labels
        and back.settings == made.settings
    )
    assert (back.reduced == made.reduced).all() and (back.axes.vectors == made.axes.vectors).all()
    (tmp_path / "bad.npz").write_bytes((tmp_path / "m.npz").read_bytes()[:1000])
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    for name in ("bad.npz", "other.npz"):
        with pytest.raises(BadData, match="is no map"):
            embedding.Map.load(tmp_path / name)
    with pytest.raises(Refusal, match="there is no map"):
        embedding.Map.load(tmp_path / "none.npz")


def test_a_map_of_wrong_shapes_is_no_map_and_one_in_double_precision_is(made, digits, tmp_path):
    made.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as f:
        arrays = dict(f)
    np.savez(
        tmp_path / "wide.npz",
        **{k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in arrays.items()},
    )
    back = embedding.Map.load(tmp_path / "wide.npz")
    assert (embedding.place(back, digits[:5]) == embedding.place(made, digits[:5])).all()
    wrong = dict(
        coordinates=np.float32(1),
        reduced=arrays["reduced"][:3],
        mean=np.float32(0),
        rows=arrays["rows"][:, None],
        labels=arrays["labels"][:3],
    )
    holes = arrays["reduced"] * np.where(np.arange(500) == 7, np.nan, 1)[:, None]
    for name, value in [*wrong.items(), ("reduced", holes)]:
        np.savez(tmp_path / "wrong.npz", **(arrays | {name: value}))
        with pytest.raises(BadData, match=r"is no map|is a damaged map"):
            embedding.Map.load(tmp_path / "wrong.npz")


# Clusters, outliers, copies


def test_clusters_that_are_there_are_found():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(n, 5)) + 30 * rng.normal(size=5) for n in (60, 50, 40, 30)]).astype(
        np.float32
    )
    found = clusters.clusters(x)
    assert (
        len(found.middle) == 4
        and np.bincount(found.of).tolist() == [60, 50, 40, 30]
        and found.silhouette > 0.7
    )
    assert [found.of[i] for i in found.middle] == [0, 1, 2, 3] and "no clear" not in found.says
    assert "no clear clusters" in clusters.clusters(rng.normal(size=(300, 30)).astype(np.float32)).says
    assert len(clusters.clusters(x, 7).middle) == 7
    with pytest.raises(Refusal, match="more than the 180 different"):
        clusters.clusters(x, 181)


def test_all_rows_are_sorted_only_where_a_number_of_clusters_leaves_it_open(monkeypatch):
    sorted_, unique = [], np.unique
    monkeypatch.setattr(
        np,
        "unique",
        lambda x, *a, axis=None, **k: (axis == 0 and sorted_.append(len(x))) or unique(x, *a, axis=axis, **k),
    )
    monkeypatch.setattr(clusters, "LOOKED_AT", 60)
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    for k in (0, 5, 100):
        clusters.clusters(x, k)
    assert sorted_ == [60, 60, 60, 200]
    with pytest.raises(Refusal, match="more than the 200 different"):
        clusters.clusters(x, 201)


def test_a_single_cluster_has_no_silhouette():
    assert (
        clusters.clusters(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), 1).says
        == "1 cluster by k-means, as many as were asked for"
    )


def test_who_is_alone_is_known_from_neighbours_that_were_looked_up_before():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    wide, narrow = (tsne.nearest(torch.from_numpy(x), k) for k in (60, 5))
    assert all((clusters.aloneness(x, near=near) == clusters.aloneness(x)).all() for near in (wide, narrow))


def test_aloneness_is_the_local_outlier_factor():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    x[17] += 20
    assert clusters.aloneness(x) == pytest.approx(
        -LocalOutlierFactor(20).fit(x).negative_outlier_factor_, rel=1e-4
    )
    assert clusters.alone(x)[0][0] == 17
    assert np.isfinite(clusters.aloneness(np.zeros((30, 2), np.float32))).all()


def test_copies_are_found():
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8).repeat(4, 2).repeat(4, 3)
    x[5] = x[2]
    x[9] = np.clip(x[4].astype(int) + 3, 0, 255)
    equal, near = clusters.copies(x)
    assert [g.tolist() for g in equal] == [[2, 5]] and [sorted(g.tolist()) for g in near] == [[4, 9]]


# Pictures


@pytest.mark.parametrize("n", [3, 40, 500, 5000])
def test_no_image_lies_over_another_and_each_is_near_its_place(n):
    y = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32) * [3, 1]
    found = pictures.snap(y)
    assert len(np.unique(found.cell, axis=0)) == len(found.cell) == len(found.row)
    assert (found.cell >= 0).all() and (found.cell < [found.columns, found.lines]).all()
    at, tall = pictures._fitted(y, 1000)
    moved = np.abs(found.cell - at[found.row] / [1000, tall] * [found.columns - 1, found.lines - 1]).max(1)
    if n <= found.columns * found.lines / 2:
        assert len(found.row) == n and np.median(moved) <= 1
    else:
        assert len(found.row) < n and (moved <= pictures.NEAR + 0.5).all()


def test_a_picture_of_images_holds_each_where_it_should():
    x = np.zeros((3, 3, 8, 8), np.uint8)
    for i in range(3):
        x[i, i] = 255
    page, n = pictures.images(np.array([[0, 1], [1, 1], [0, 0]], np.float32), x)
    where = [np.argwhere((page == np.eye(3, dtype=np.uint8)[i] * 255).all(2)).mean(0) for i in range(3)]
    # y is up
    assert n == 3 and where[0][0] == where[1][0] < where[2][0] and where[0][1] == where[2][1] < where[1][1]


def test_colours_follow_labels_in_the_order_of_numbers():
    groups = pictures.grouped(["10", "9", "", "x", "9"])
    assert groups.names == ("9", "10", "x") and groups.of.tolist() == [1, 0, -1, 2, 0]
    page = pictures.points(np.random.default_rng(0).normal(size=(5, 2)), groups, HOSTILE)
    assert page.dtype == np.uint8 and page.ndim == 3
    for g in (0, 2):
        assert (page == np.array([int(pictures.COLOURS[g][k : k + 2], 16) for k in (1, 3, 5)])).all(2).any()


def test_sprites_are_cut_from_where_the_page_looks():
    x = np.random.default_rng(0).integers(0, 256, (11, 1, 8, 8)).astype(np.uint8)
    found = pictures.sprites(x)
    for i in range(11):
        top, left = i // found.columns * found.side, i % found.columns * found.side
        assert (found.sheet[top : top + 8, left : left + 8, 0] == x[i, 0]).all()


# The page


def test_the_page_needs_nothing_and_escapes_everything(digits, made, labels):
    names = [HOSTILE, *made.names[1:]]
    groups = pictures.grouped([HOSTILE, *map(str, labels[1:])])
    x = digits.reshape(-1, 1, 8, 8).astype(np.uint8)
    cards, lists = embedding.cards(digits, made), [map_page.Listed("Alone", "", [(HOSTILE, [(0, HOSTILE)])])]
    page = map_page.page(
        HOSTILE, HOSTILE, made.y, names, [groups], x, cards, lists, {HOSTILE: HOSTILE}, under=made.y[:5]
    )
    assert "<img src=x" not in page and page.count("<script") == page.count("</script>") == 2
    tags: list[tuple[str, str]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.extend((k, v or "") for k, v in attrs)
    parser.feed(page)
    assert all(v.startswith("data:") for k, v in tags if k in ("src", "href")) and not any(
        k.startswith("on") for k, _ in tags
    )
    assert not re.search(r"url\(|@import|://|fetch\(|XMLHttp|import\(", page)
    assert "default-src 'none'" in page
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
    assert (
        data["names"] == names
        and data["groups"][0]["names"][-1] == HOSTILE
        and len(data["x"]) == len(data["y"]) == 500
    )
    assert all(0 <= v <= 1 for v in data["x"] + data["y"] + data["under"])
    high = int(made.y[:, 1].argmax())
    assert data["y"][high] == min(data["y"])  # up is up


def test_the_page_names_its_script_by_its_hash(made):
    import base64
    import hashlib

    page = map_page.page("a", "b", made.y, made.names, [], None, [], [], {})
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page and "data:," in page


# The commands


def strict(text: str) -> dict:
    """What JSON says, in which there is no NaN."""

    def unknown(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=unknown)


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert verb.map([*argv, "--json"]) == 0
    return strict(capsys.readouterr().out)


@pytest.fixture
def short(monkeypatch):
    """A walk of t-SNE that is soon over."""
    monkeypatch.setattr(tsne.descend, "__defaults__", (20, 20))


def test_a_map_of_images_with_all_that_stands_beside_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tsne, "LATE", 50)
    monkeypatch.setattr(tsne.descend, "__defaults__", (50, 50))
    out = tmp_path / "maps" / "m.png"
    told = asked(capsys, "digits", "-n", "120", "-o", str(out), "--seed", "3")
    assert (
        told["images"] == 120
        and told["perplexity"] == 30
        and {s["name"] for s in told["scores"]} >= {"neighbours kept", "trustworthiness", "stability"}
    )
    assert (
        read_recipe(out)["perplexity"] == 30
        and read_recipe(out)["seed"] == 3
        and read_recipe(out)["shown"] == 120
    )
    back = embedding.Map.load(tmp_path / "maps" / "m.npz")
    assert (
        len(back.names) == 120
        and back.names[0] == f"row {back.rows[0]}"
        and set(back.labels) <= set("0123456789")
    )
    assert (tmp_path / "maps" / "m.html").stat().st_size > 20_000 and len(
        json.loads((tmp_path / "maps" / "m.json").read_text())["cluster"]
    ) == 120
    first = back.y.tobytes()
    asked(capsys, "digits", "-n", "120", "-o", str(out), "--seed", "3", "--starts", "0")
    assert embedding.Map.load(tmp_path / "maps" / "m.npz").y.tobytes() == first
    placed = asked(
        capsys,
        "digits",
        "-n",
        "20",
        "--into",
        str(tmp_path / "maps" / "m.npz"),
        "-o",
        str(tmp_path / "new.png"),
    )
    assert len(placed["places"]) == 20 and (tmp_path / "new.html").exists()
    many = asked(capsys, "digits", "-n", "60", "--perplexities", "3", "10", "-o", str(out))
    assert [row["perplexity"] for row in many["maps"]] == [3, 10] and read_recipe(
        tmp_path / "maps" / "m-perplexities.png"
    )["perplexities"] == [3, 10]


@pytest.mark.parametrize("n", [5, 6, 7, 8])
def test_a_handful_of_images_makes_a_map(n, short, tmp_path, capsys):
    told = asked(capsys, "digits", "-n", str(n), "-o", str(tmp_path / "m.png"))
    assert told["images"] == n and 1 < told["perplexity"] <= (n - 1) / 3
    assert embedding.usual_perplexity(60) == 19 and embedding.usual_perplexity(10_000) == 30


def test_what_is_no_number_is_nothing_in_json(short, tmp_path, capsys):
    told = asked(capsys, "digits", "-n", "20", "--clusters", "1", "-o", str(tmp_path / "m.png"))
    written = strict((tmp_path / "m.json").read_text())
    assert (
        told["clusters"]["n"] == 1
        and told["clusters"]["silhouette"] is written["clusters"]["silhouette"] is None
    )


def test_who_is_near_is_looked_up_once_for_all_maps(short, tmp_path, capsys, monkeypatch):
    widths, nearest = [], tsne.nearest
    monkeypatch.setattr(tsne, "nearest", lambda x, k: widths.append(x.shape[1]) or nearest(x, k))
    asked(capsys, "digits", "-n", "80", "--starts", "3", "-o", str(tmp_path / "m.png"))
    assert [w for w in widths if w > 2] == [50]


def test_what_cannot_be_done_is_refused_before_the_work(tmp_path, monkeypatch):
    def refused(*argv: str) -> str:
        with pytest.raises(Refusal) as why:
            verb.map([*argv])
        return str(why.value)

    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    np.save(tmp_path / "same.npy", np.arange(10, dtype=np.float32)[np.arange(30) % 10, None])
    monkeypatch.setattr(tsne, "descend", lambda *a: pytest.fail("work"))
    out = ("-o", str(tmp_path / "new" / "m.png"))
    assert ("--clusters 51 is more than the 50 images") in refused(
        "digits", "-n", "50", "--clusters", "51", *out
    )
    assert ("--clusters 11 is more than the 10 different") in refused(
        str(tmp_path / "same.npy"), "--clusters", "11", *out
    )
    monkeypatch.setattr(embedding, "principal", lambda *a, **k: pytest.fail("work"))
    assert "type --perplexity 16.3 or less" in refused("digits", "-n", "50", "--perplexity", "30", *out)
    assert ("type --perplexity 16.3 or less") in refused(
        "digits", "-n", "50", "--perplexities", "5", "30", *out
    )
    monkeypatch.setattr(verb, "gathered", lambda *a: pytest.fail("work"))
    assert ("folder.png is a folder; name another file") in refused(
        "digits", "-o", str(tmp_path / "folder.png")
    )
    assert ("file is no folder; name another file") in refused(
        "digits", "-o", str(tmp_path / "file" / "a" / "m.png")
    )
    assert "there is no map" in refused("digits", "--into", str(tmp_path / "none.npz"), *out)
    assert "there is no method 'isomap'" in refused("digits", "--method", "isomap", *out)
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert "pip install 'likeness[maps]'" in refused("digits", "--method", "umap", *out)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "argv, says",
    [
        (
            ["--into", "a.npz", "--perplexity", "5"],
            "an old map has no use for --perplexity, which is for a map by tsne; leave it out",
        ),
        (["--into", "a.npz", "--clusters", "5"], "no use for --clusters"),
        (["--into", "a.npz", "--method", "tsne"], "no use for --method"),
        (["--into", "a.npz", "--perplexities", "5"], "no use for --perplexities, which is for a row of maps"),
        (["--perplexities", "5", "9", "--clusters", "5"], "a row of maps has no use for --clusters"),
        (["--perplexities", "5", "9", "--starts", "0"], "no use for --starts"),
        (["--perplexities", "5", "9", "--perplexity", "5"], "no use for --perplexity,"),
        (["--perplexities", "5", "9", "--method", "pca"], "no use for --method"),
        (["--method", "pca", "--perplexity", "5"], "a map by pca has no use for --perplexity"),
        (["--method", "pca", "--starts", "2"], "no use for --starts"),
    ],
)
def test_what_a_map_has_no_use_for_is_refused(argv, says, monkeypatch):
    monkeypatch.setattr(verb, "gathered", lambda *a: pytest.fail("work"))
    with pytest.raises(Refusal, match=says):
        verb.map(["digits", *argv])


def test_a_matrix_of_features_with_its_names(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    np.save(tmp_path / "features.npy", x)
    (tmp_path / "features.csv").write_text(
        "row,file,label\n" + "".join(f'{i},"a, {i}.png",{"cat" if i % 2 else ""}\n' for i in range(30))
    )
    told = asked(capsys, str(tmp_path / "features.npy"), "--method", "pca", "-o", str(tmp_path / "m.png"))
    back = embedding.Map.load(tmp_path / "m.npz")
    assert (
        told["images"] == 30
        and told["method"] == "pca"
        and back.names[3] == "a, 3.png"
        and back.labels[:2] == ("", "cat")
    )
    assert read_recipe(tmp_path / "m.png")["method"] == "pca"
    for sha in ("1" * 64, "2" * 64):  # as features.py writes it
        told = dict(
            asked=dict(
                source="", network="net", layers=["fc"], pool="", size=8, interpolation="fit", sha256=sha
            ),
            files=dict(fc="features.npy"),
        )
        (tmp_path / "features.json").write_text(json.dumps(told))
        if sha[0] == "1":
            assert (
                asked(
                    capsys, str(tmp_path / "features.npy"), "--method", "pca", "-o", str(tmp_path / "m.png")
                )["features"]
                == "net fc"
            )
            into = ("--into", str(tmp_path / "m.npz"), "-o", str(tmp_path / "new.png"))
            assert len(asked(capsys, str(tmp_path / "features.npy"), *into)["places"]) == 30
    with pytest.raises(Refusal, match="made otherwise: weights 111"):
        verb.map([str(tmp_path / "features.npy"), *into])
    (tmp_path / "features.csv").write_text("row,file,label\n0,a,b\n")
    with pytest.raises(BadData, match="1 lines for 30 features"):
        verb.map([str(tmp_path / "features.npy")])


def test_the_usual_distance_has_the_unit_of_the_others(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32) * np.float32(1e19)
    np.save(tmp_path / "features.npy", x)
    assert asked(capsys, str(tmp_path / "features.npy"), "-o", str(tmp_path / "m.png"))["images"] == 30
    assert (
        neighbours(["5", str(tmp_path / "features.npy"), "-k", "1", "-o", str(tmp_path / "n.png"), "--json"])
        == 0
    )
    far = np.sqrt(((x[:, None].astype(float) - x) ** 2).sum(2))
    np.fill_diagonal(far, np.inf)
    assert json.loads(capsys.readouterr().out)["usual"] == pytest.approx(np.median(far.min(1)), rel=1e-4)


def test_neighbours_of_an_image(tmp_path, capsys):
    out = tmp_path / "n.png"
    assert neighbours(["5", "digits", "-k", "4", "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    x = (load_digits().images * (255 / 16)).round().reshape(1797, -1)
    far = np.linalg.norm(x - x[5], axis=1)
    far[5] = np.inf
    assert [n["row"] for n in told["neighbours"]] == np.argsort(far, kind="stable")[:4].tolist()
    assert (
        told["neighbours"][0]["distance"] == pytest.approx(far.min(), rel=1e-4)
        and read_recipe(out)["query"] == "5"
    )
    with pytest.raises(Refusal, match="no file, and no name or row"):
        neighbours(["nowhere.png", "digits"])
    with pytest.raises(Refusal, match="1,796 other images"):
        neighbours(["5", "digits", "-k", "2000"])


def test_an_image_from_outside_is_read_as_the_others_were(tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "q").mkdir()
    (tmp_path / "set").mkdir()
    for i in range(6):
        (tmp_path / f"{i}.png").rename(tmp_path / "set" / f"{i}.png")
    (tmp_path / "q" / "mine.png").write_bytes((tmp_path / "set" / "4.png").read_bytes())
    assert (
        neighbours(
            [
                str(tmp_path / "q" / "mine.png"),
                str(tmp_path / "set"),
                "-k",
                "2",
                "-o",
                str(tmp_path / "n.png"),
                "--json",
            ]
        )
        == 0
    )
    nearest = json.loads(capsys.readouterr().out)["neighbours"][0]
    assert nearest["name"] == "4.png" and nearest["distance"] == 0


def test_refusals_are_lessons(tmp_path, monkeypatch):
    def refused(*argv: str) -> str:
        with pytest.raises(Refusal) as why:
            verb.map([*argv])
        return str(why.value)

    out = ("-o", str(tmp_path / "m.png"))
    assert "type --perplexity 16.3 or less" in refused("digits", "-n", "50", "--perplexity", "30", *out)
    assert "are a map already" in refused("ring")
    assert "should end in .png" in refused("digits", "-o", "map.bmp")
    assert "there is no method 'isomap'" in refused("digits", "-n", "50", "--method", "isomap", *out)
    assert "--layer, --pool and --weights are of a network" in refused("digits", "--layer", "fc2")
    assert "there is no file" in refused(str(tmp_path / "none.npy"))
    assert "4 images make no map, and 5 or more do" in refused("digits", "-n", "4", *out)
    assert "type 0, or 2 to 20" in refused("digits", "--starts", "1")
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert "pip install 'likeness[maps]'" in refused("digits", "-n", "50", "--method", "umap", *out)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    with pytest.raises(BadData, match="cannot be read as an array"):
        collection.gather(str(tmp_path / "broken.npy"), print)


@pytest.mark.parametrize(
    "name, layer",
    [("vgg16", "fc2"), ("mobilenet", "global_average_pooling2d"), ("resnet50", "avg_pool")],
)
def test_a_map_of_a_network_takes_the_layer_before_its_classes(name, layer):
    assert collection.usual_layer(catalogue.named(name)) == layer
