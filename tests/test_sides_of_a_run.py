"""Runs that learn pairs, domains or a task are opened, resumed and found again, whichever side has moved."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import commands
import likeness
from likeness import storage
from likeness.cli import main
from likeness.core import Refusal
from likeness.data import load
from likeness.runs import origin
from likeness.runs.run import read_config

CONDITIONED = str(Path(__file__).parent / "conditioned.py")
UNPAIRED = str(Path(__file__).parent / "unpaired.py")
SMALL = ["--batch", "16", "--size", "8", "--no-report"]


def refused(capsys, *argv: str) -> str:
    capsys.readouterr()  # of what came before
    return commands.refused(capsys, *argv)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two folders of pictures, which are pairs by name as well."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    for side, seed in (("day", 0), ("night", 100)):
        for i in range(24):
            path = tmp_path / "project" / side / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            x = np.random.default_rng(seed + i).integers(0, 256, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(x).save(path)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


HOW = {
    "domains": (UNPAIRED, ["day", "--to", "night"]),
    "pairs of two folders": (CONDITIONED, ["day", "--to", "night", "--layout", "pairs"]),
    "drawn pairs": (CONDITIONED, ["outlines:60"]),
    "drawn domains": (UNPAIRED, ["hidden-map:60"]),
    "a task": (CONDITIONED, ["day", "--task", "inpaint"]),
    "tiles": (CONDITIONED, ["day", "--tiles", "--task", "edges"]),
}


def train(model: str, data: list[str], run: str, images: int) -> int:
    return main(["train", model, data[0], run, *data[1:], *SMALL, "--images", str(images)])


@pytest.mark.parametrize("kind", HOW)
def test_a_run_that_was_stopped_ends_in_the_same_bits(kind, project):
    model, data = HOW[kind]
    for run, images in (("whole", (96,)), ("cut", (48, 96))):
        for n in images:
            assert train(model, data, run, n) == 0
    (one, _, _), (other, _, _) = (storage.newest(Path(run) / "state") for run in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    run = likeness.open("cut")
    config = read_config(Path("cut"))
    assert run.data.fingerprint == config.data["fingerprint"] and config.spec.source == run.data.spec.source
    assert run.sample(3).x.shape == (3, *config.spec.shape) if model == CONDITIONED else True


@pytest.mark.parametrize("layout", [[], ["--layout", "pairs"]])
def test_both_places_are_found_when_the_project_moves_and_each_when_it_moves_alone(project, layout, capsys):
    model = CONDITIONED if layout else UNPAIRED
    assert train(model, ["day", "--to", "night", *layout], "runs/r", 16) == 0
    config = read_config(Path("runs/r"))
    assert config.data["to"] == str(project / "night")
    assert (config.origin["relative"], config.origin["to"]) == ("../../day", "../../night")
    os.chdir(project.parent)
    project.rename(project.parent / "moved")
    os.chdir(project.parent / "moved")
    there = likeness.open("runs/r").data
    assert there.fingerprint == config.data["fingerprint"]
    assert there.settings["to"] == str(project.parent / "moved" / "night")
    shutil.move("night", "dusk")
    text = caught(Path("runs/r"))
    assert "--to PLACE" in text and "second" in text
    likeness.open("runs/r").locate(to="dusk")  # remembered
    assert read_config(Path("runs/r")).data["to"] == str(project.parent / "moved" / "dusk")
    assert likeness.open("runs/r").data.fingerprint == config.data["fingerprint"]
    shutil.move("day", "dawn")
    likeness.open("runs/r").locate("dawn")
    shutil.move("dawn", "noon")
    shutil.move("dusk", "eve")
    assert train(model, ["noon", "--to", "eve", *layout], "runs/r", 32) == 0
    now = read_config(Path("runs/r"))
    assert (now.data["source"], now.data["to"]) == tuple(str(Path(p).resolve()) for p in ("noon", "eve"))
    assert (now.origin["relative"], now.origin["to"]) == ("../../noon", "../../eve")
    assert "no longer the same" in refused(
        capsys, "train", model, "eve", "runs/r", "--to", "noon", "--images", "48"
    )


def caught(run: Path) -> str:
    with pytest.raises(Refusal) as refusal:
        origin.load(read_config(run), run)
    return str(refusal.value)


def test_the_side_that_has_changed_is_named(project, capsys):
    assert train(UNPAIRED, ["day", "--to", "night"], "r", 16) == 0
    again = ["train", UNPAIRED, "day", "r", "--to", "night", "--images", "32"]
    kept = Path("night/3.png").read_bytes()
    os.remove("night/3.png")
    text = refused(capsys, *again)
    assert "the domain B" in text and "night) is no longer the same" in text and "domain A" not in text
    assert "there were 24 images, and there are 23 now" in text
    Path("night/3.png").write_bytes(kept)
    for i in (1, 2):
        os.remove(f"day/{i}.png")
    text = refused(capsys, *again)
    assert "the domain A" in text and "day) is no longer the same" in text and "domain B" not in text
    assert "there were 24 images, and there are 22 now" in text


def test_pairs_of_one_folder_name_the_side_too(project, capsys):
    os.mkdir("d")
    shutil.move("day", "d/A")
    shutil.move("night", "d/B")
    assert train(CONDITIONED, ["d"], "r", 16) == 0
    assert read_config(Path("r")).data["layout"] == "pairs"
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save("d/A/4.png")
    text = refused(capsys, "train", CONDITIONED, "d", "r", "--images", "32")
    assert "the sources A of the pairs" in text and "targets" not in text


def test_a_folder_of_pairs_that_a_run_has_learnt_as_one_set_stays_that(project):
    """As today's main wrote it down: layout auto, and nothing of tasks."""
    os.mkdir("d")
    shutil.move("day", "d/A")
    shutil.move("night", "d/B")
    small = ["--batch", "16", "--size", "8", "--no-report"]
    assert main(["train", "vae", "d", "r", "--layout", "together", *small, "--images", "16"]) == 0
    written = json.loads(Path("r/config.json").read_text())
    for name in ("task", "to", "tiles", "swap"):
        written["data"].pop(name)
    written["data"]["layout"] = "auto"
    Path("r/config.json").write_text(json.dumps(written))
    assert len(likeness.open("r").data.x) == 48 and likeness.open("r").data.pairs is None
    assert main(["train", "vae", "d", "r", *small, "--images", "32"]) == 0


def test_what_does_not_fit_is_refused_in_a_sentence(project, capsys):
    text = refused(capsys, "train", "vae", "day", "r", "--task", "upscale2", "--size", "8")
    assert "learnt by a model that takes an image" in text and not Path("r").exists()
    assert main(["train", "vae", "day", "v", "--to", "night", *SMALL, "--images", "16"]) == 0  # B alone
    assert np.array_equal(likeness.open("v").data.x, load("night", size=8).x)
    with pytest.raises(Refusal, match="has learnt from one place"):
        likeness.train("vae", "night", "w", size=8, images=16, batch=16, progress=False).locate(to="day")
    assert "made with no --task, not --task edges" in refused(
        capsys, "train", "vae", "night", "w", "--task", "edges", "--images", "32"
    )


def test_the_command_line_says_what_pairs_are(project, capsys):
    assert main(["check", "day", "--to", "night", "--size", "8", "--model", "none"]) == 0
    text = capsys.readouterr().out
    assert "learnt from        3x8x8, of another domain: " in text and "two domains." in text
    assert main(["check", "day", "--task", "colourise", "--size", "8", "--model", "none"]) == 0
    assert "learnt from        1x8x8, one beside each (pairs)" in capsys.readouterr().out
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("outlines", "day-night", "hidden-map"))


def test_what_a_run_has_learnt_lies_where_b_does(project):
    small = dict(size=8, images=16, batch=16, progress=False)
    run = likeness.train("vae", "day", "r", to="night", **small)
    assert run.data.place == str(project / "night") and run.data.source == str(project / "day")
    back = likeness.train("vae", "day", "s", to="night", swap=True, **small)
    assert back.data.place == str(project / "day")
    for one in (run, back):
        assert np.array_equal(one.data.x, load(one.data.place, size=8).x)


@pytest.mark.parametrize("layout", ["pairs", "side-by-side"])
def test_maps_and_features_of_a_run_of_pairs_are_of_its_targets(tmp_path, monkeypatch, layout):
    """By pixels, and by the run's own code; a folder that holds no pairs is read whole."""
    from likeness.features import opening
    from likeness.features.images import pictures
    from likeness.maps import collection

    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    both = np.random.default_rng(0).integers(0, 256, (12, 2, 20, 20, 3)).astype(np.uint8)
    for i, (a, b) in enumerate(both):
        files = {"images": a, "photo": b} if layout == "pairs" else {"": np.concatenate([a, b], 1)}
        for side, x in files.items():
            (tmp_path / "d" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(tmp_path / "d" / side / f"{i:02}.png")
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.fromarray(a).save(tmp_path / "flat" / f"{i:02}.png")
    flags = ["--size", "8", "--batch", "8", "--images", "8", "--no-report", "--layout", layout]
    assert main(["train", "vae", "d", "r", "--width", "4", *flags]) == 0
    learnt = load("d", size=8, layout=layout)
    assert len(learnt.x) == 12 and learnt.pairs is not None
    pixels = collection.gather("r", print, network="pixels")
    assert np.array_equal(pixels.x, learnt.x) and list(pixels.names) == list(learnt.names)
    net = opening.load("r")
    seen = pictures("d", 8, "fit", net.reading)
    assert [seen.name(i) for i in range(seen.total)] == list(learnt.names)
    assert np.array_equal([seen.get(i) for i in range(12)], learnt.x)
    coded = collection.gather("r", print, folder=tmp_path / "out")
    assert len(coded.names) == 12
    assert pictures("flat", 8, "fit", net.reading).total == 12
    assert not isinstance(pictures("flat", 8, "fit", net.reading).get(0), Exception)
