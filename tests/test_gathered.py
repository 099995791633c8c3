"""Which images a map or a search is about: by the eyes of a run and of others, with their names, whatever
lies beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_run
from likeness import data
from likeness.cli import map as maps
from likeness.cli.neighbours import neighbours
from likeness.core import BadData, Refusal
from likeness.features import extract, images
from likeness.features.opening import load
from likeness.maps import collection
from likeness.maps.collection import gather
from likeness.runs.run import CONFIG, Run

READING = dict(size=16, colour="grey", binarize=True, background="black")


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve pictures in colour of two classes, every third transparent in part."""
    folder, chance = tmp_path_factory.mktemp("gathered") / "photos", np.random.default_rng(0)
    for i in range(12):
        image = Image.fromarray(
            np.kron(chance.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))
        )
        if i % 3 == 0:
            image.putalpha(Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (40, 1))))
        place = folder / ("cats" if i % 2 else "dogs") / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """An autoencoder of these in black and white, at its first weights."""
    return made(tmp_path_factory.mktemp("runs") / "ae-toy", data.load(photos, **READING))


def made(folder: Path, of: data.Data) -> Path:
    run, _ = small_run("ae", folder, of)
    run.close()
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | dict(data=of.identity)))
    return folder


@pytest.fixture
def outside(photos, tmp_path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return Path(shutil.copy(photos / "dogs" / "04.png", tmp_path / "elsewhere" / "mine.png"))


def asked(capsys, *argv: object) -> dict:
    assert neighbours([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# A run


def test_a_run_as_data_is_read_as_it_was_in_training(photos, run, tmp_path):
    of = data.load(photos, **READING)
    assert of.levels == 2 and of.x.shape[1] == 1
    found = gather(str(run), silent, folder=tmp_path)
    with torch.no_grad():
        wanted = Run.open(run).model.encode(of.take(np.arange(12)).x).flatten(1).numpy()
    np.testing.assert_allclose(found.features, wanted, rtol=1e-4, atol=1e-5)
    assert found.names == tuple(of.names) and found.labels[:2] == ("cats", "cats") and found.x is not None
    assert found.made["reading"] == dict(colour="grey", binarize=True, background="black") and found.how[
        "reading"
    ].startswith("colour grey")
    again = gather(str(photos), silent, network=str(run), folder=tmp_path)
    assert (again.features == found.features).all() and len(list(tmp_path.glob("*.npy"))) == 1


def test_a_run_of_arrays_is_read_as_it_was_in_training(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (9, 20, 20, 3), dtype=np.uint8))
    of = data.load(tmp_path / "x.npy", **READING)
    found = gather(str(made(tmp_path / "run", of)), silent, folder=tmp_path)
    with torch.no_grad():
        wanted = Run.open(tmp_path / "run").model.encode(of.take(np.arange(9)).x).flatten(1).numpy()
    np.testing.assert_allclose(found.features, wanted, rtol=1e-4, atol=1e-5)


def test_colours_become_grey_for_a_run_as_they_did_in_training(photos, tmp_path):
    of = data.load(photos, size=16, colour="grey")
    net, bright = load(str(made(tmp_path / "run", of))), data.load(photos, size=16, colour="rgb").x
    x = torch.from_numpy(np.array(bright))
    assert torch.equal(net.prepare(x), torch.from_numpy(np.array(of.x)).float() / 127.5 - 1)
    floats = (x.double() / 127.5 - 1).requires_grad_()
    assert torch.allclose(net.prepare(floats), net.prepare(x).double(), atol=1 / 127)
    (slope,) = torch.autograd.grad(net.prepare(floats).sum(), floats)
    assert torch.allclose(
        slope[0, :, 0, 0], torch.tensor([0.299, 0.587, 0.114], dtype=torch.double), atol=1e-5
    )


def test_a_map_of_a_run(run, tmp_path, capsys):
    assert maps.map([str(run), "--method", "pca", "-o", str(tmp_path / "m.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 12 and told["features"] == "ae-toy code"


def test_a_network_that_would_look_at_nothing_is_refused(run, photos, tmp_path, capsys):
    """A row of a matrix has its features already; no network is called pixels, in every verb alike."""
    *_, _ = extract.extract(load(str(run)), str(photos), ["code"], tmp_path / "codes.npy")
    argv = [tmp_path / "codes.npy", "-k", 2, "-o", tmp_path / "n.png"]
    rows = asked(capsys, 0, *argv)
    for idle in (["--network", "pixels"], ["--network", str(run)], ["--weights", "none"]):
        with pytest.raises(Refusal, match=f"no network looks at it; leave {idle[0]} out"):
            asked(capsys, 0, *argv, *idle)
    named = [photos, "--size", 16, "-k", 2, "-o", tmp_path / "n.png"]
    by_pixels = asked(capsys, 0, *named)
    assert asked(capsys, 0, *named, "--network", "pixels") == by_pixels
    by_run = asked(capsys, 0, photos, "--network", run, "-k", 2, "-o", tmp_path / "n.png")
    assert by_run["neighbours"][0]["distance"] == pytest.approx(rows["neighbours"][0]["distance"], rel=1e-4)


def test_an_image_from_outside_is_compared_by_the_run_that_made_the_features(
    photos, outside, tmp_path, capsys, monkeypatch
):
    """Whether the run is DATA, or the matrix says which it was, wherever one stands; or it is named where it
    went."""
    run = made(tmp_path / "runs" / "ae-toy", data.load(photos, size=16, colour="grey"))
    monkeypatch.chdir(run.parent)
    *_, _ = extract.extract(load(run.name), str(photos), ["code"], tmp_path / "codes.npy")
    for how in ([run.name], [photos, "--network", run.name], [tmp_path / "codes.npy"]):
        first = asked(capsys, outside, *how, "-k", 2, "-o", tmp_path / "n.png")["neighbours"]
        assert first[0]["name"] == "dogs/04.png" and first[0]["distance"] < 1e-4 < first[1]["distance"]
        monkeypatch.chdir(tmp_path if how[0] == photos else run.parent)
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    told = json.loads((tmp_path / "codes.json").read_text())
    told["asked"]["opens"] = str(tmp_path / "gone")
    (tmp_path / "codes.json").write_text(json.dumps(told))
    with pytest.raises(
        Refusal,
        match=r"made by the run .*gone, which is not there; say " r"where it " r"is with " r"--network",
    ):
        neighbours([str(outside), str(tmp_path / "codes.npy"), "-k", "2"])
    assert (
        asked(capsys, outside, tmp_path / "codes.npy", "--network", moved, "-k", 2, "-o", tmp_path / "n.png")[
            "neighbours"
        ]
        == first
    )
    other = made(tmp_path / "other", data.load(photos, size=16))
    with pytest.raises(Refusal, match="other weights than those that made"):
        neighbours([str(outside), str(tmp_path / "codes.npy"), "--network", str(other), "-k", "2"])


# A network


def few(photos: Path, folder: Path, **how: object) -> collection.Collection:
    return gather(
        str(photos),
        silent,
        network="squeezenet",
        weights="none",
        layer="fire2/concat",
        pool="avg",
        folder=folder,
        **how,
    )


def test_a_folder_that_has_grown_is_asked_anew(photos, tmp_path):
    grown = Path(shutil.copytree(photos, tmp_path / "photos"))
    assert len(few(grown, tmp_path).names) == 12
    shutil.copy(photos / "dogs" / "00.png", grown / "dogs" / "99.png")
    assert len(few(grown, tmp_path).names) == 13
    small, usual = few(grown, tmp_path, reading=data.Reading(size=48)), few(grown, tmp_path)
    assert small.made["size"] == 48 != usual.made["size"] and (small.features != usual.features).any()
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_how_images_are_read_counts_by_a_network_too(photos, tmp_path):
    usual = few(photos, tmp_path, reading=data.Reading(size=48))
    grey = few(photos, tmp_path, reading=data.Reading(size=48, colour="grey", background="black"))
    assert (usual.features != grey.features).any(1).all() and grey.how["reading"] == (
        "colour grey, background black"
    )


def test_so_many_cost_no_more_than_that(photos, tmp_path, monkeypatch):
    looked = []
    decoded = images.decoded
    monkeypatch.setattr(
        images, "decoded", lambda read, *rest: (looked.append(read.args), decoded(read, *rest))[1]
    )
    monkeypatch.setattr(data, "read", lambda *_: pytest.fail("the whole folder was decoded"))
    found = few(photos, tmp_path, n=5, seed=1)
    assert len(found.names) == len(found.x) == 5 and len(set(looked)) == 5
    assert found.x.shape == (5, 3, 64, 64)


def test_some_of_a_set_without_names_keep_their_rows(tmp_path, capsys):
    found = gather(
        "digits",
        silent,
        network="squeezenet",
        weights="none",
        layer="fire2/concat",
        pool="avg",
        folder=tmp_path,
        n=6,
        seed=2,
    )
    x = data.load("digits").x
    assert (
        found.rows.tolist() == images.some(6, 1797, 2).tolist() and found.names[1] == f"row {found.rows[1]}"
    )
    assert (found.x == x[found.rows]).all()
    told = asked(capsys, found.rows[3], next(tmp_path.glob("*.npy")), "-k", 2, "-o", tmp_path / "n.png")
    assert {n["row"] for n in told["neighbours"]} < set(found.rows.tolist())


def test_black_and_white_are_pixels_too(photos, outside, tmp_path):
    found = gather(str(photos), silent, reading=data.Reading(**READING))
    assert (found.x == data.load(photos, **READING).x).all() and set(np.unique(found.features)) == {0, 255}
    assert set(np.unique(collection.looked_at(str(outside), found)[0])) == {0, 255}


def test_flags_that_would_change_nothing_are_refused(photos, run, tmp_path):
    np.save(tmp_path / "f.npy", np.eye(5, dtype=np.float32))
    for argv, says in (
        (["f.npy", "--size", "32", "--binarize"], "holds features already; leave --size, --binarize out"),
        (["f.npy", "--network", "vgg16", "--weights", "none"], "leave --network, --weights out"),
        (
            [str(run), "--colour", "rgb"],
            "is a run, which reads its images as it did in training; leave --colour out",
        ),
        (
            [str(photos), "--network", str(run), "--background", "red", "--size", "16"],
            "reads images as it did in training; leave --background out",
        ),
    ):
        with pytest.raises(Refusal, match=says):
            maps.map(
                [*(str(tmp_path / a) if a == "f.npy" else a for a in argv), "-o", str(tmp_path / "m.png")]
            )


# A matrix, and what lies beside it


def test_features_of_several_layers_keep_names_labels_and_pictures(photos, tmp_path, monkeypatch):
    layers = ["fire2/concat", "pool10"]
    monkeypatch.chdir(photos.parent)
    *_, _ = extract.extract(load("squeezenet", "none"), "photos", layers, tmp_path / "f.npy", "avg", 48)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text('["of another program"]')
    for layer in layers:
        found = gather(f"f-{layer.replace('/', '-')}.npy", silent)
        assert (
            found.seen == (f"squeezenet {layer} avg")
            and found.names[0] == "cats/01.png"
            and set(found.labels) == {"cats", "dogs"}
            and found.x is not None
        )


def test_a_table_of_others_is_not_taken(photos, tmp_path):
    *_, _ = extract.extract(
        load("squeezenet", "none"), str(photos), ["pool10"], tmp_path / "features.npy", "avg", 48
    )
    x = np.random.default_rng(0).normal(size=(12, 4))
    np.save(tmp_path / "mine.npy", x)
    found = gather(str(tmp_path / "mine.npy"), silent)
    assert found.names[0] == "row 0" and not found.labels and not found.made and found.x is None
    (tmp_path / "mine.csv").write_text("row,file,label\n" + "".join(f"{i},my {i},\n" for i in range(12)))
    assert gather(str(tmp_path / "mine.npy"), silent).names[3] == "my 3"
    np.save(tmp_path / "mine.npy", x[:5])
    with pytest.raises(BadData, match="12 lines for 5 features"):
        gather(str(tmp_path / "mine.npy"), silent)
