"""Two stages, one command each: what is found, refused, resumed and shown."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import likeness
from conftest import small_run
from likeness.cli import main
from likeness.core import Decodes, Refusal, Samples, Scores, Spec
from likeness.inference import latent_space
from likeness.runs import first_stage
from likeness.runs.run import INSIDE, Run, read_config
from likeness.studies import real_and_generated
from test_models import TWO
from test_run import free_port
from test_within import GAUSS, VQ, files, trained

TINY = ["--precision", "fp32", "--no-report"]


def two_stages() -> Path:
    """Of digits, by the command line."""
    assert main(["train", VQ, "digits", "runs/vq", "--images", "1280", "--codes", "8", *TINY]) == 0
    assert (
        main(["train", "pixelcnn", "runs/vq", "--images", "640", "--width", "4", "--depth", "1", *TINY]) == 0
    )
    return Path("runs/pixelcnn-vq")


@pytest.fixture
def two(tmp_path, monkeypatch, capsys) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = two_stages()
    capsys.readouterr()
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Iterator[Path]:
    """Runs that a first stage cannot be made of, and one that it can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("many"))
        two_stages()
        runs = Path("runs").resolve()
        small_run("ae", runs / "new")[0].close()
        trained(TWO, runs / "two")
        likeness.train(
            "ae", "digits", "runs/ae", images=64, width=8, depth=1, latent=4, precision="fp32", progress=False
        )
        likeness.train(
            "ae",
            "digits",
            "runs/map",
            images=64,
            width=8,
            depth=1,
            latent=32,
            grid=4,
            precision="fp32",
            progress=False,
        )
        shutil.copytree("runs/vq", "runs/changed")
        config = runs / "changed" / "config.json"
        config.write_text(config.read_text().replace(read_config(runs / "vq").data["fingerprint"], "0" * 32))
        yield runs


def test_one_command_each(two, capsys):
    config = read_config(two)
    assert config.data == read_config(Path("runs/vq")).data and config.spec == Spec(1, 8, 10, 17)
    assert config.method == ("pixelcnn in the codes of tinyvq") and config.inside["source"] == str(
        Path("runs/vq").resolve()
    )
    assert len(list((two / "samples").glob("*.png"))) >= 3 and (two / INSIDE / "method.py").exists()
    assert main(["sample", str(two), "-n", "4", "--temperature", "0.5", "-o", "x.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["temperature"] == 0.5 and np.load("x.npy").shape == (
        4,
        8,
        8,
        1,
    )
    assert main(["train", "pixelcnn", "runs/vq", "--images", "704", *TINY]) == 0  # goes on
    assert Run.open(two).seen == 704
    assert "pixelcnn in the codes of tinyvq" in repr(likeness.open(two))


def test_scored_reported_compared_and_told_apart_like_any_run(two, capsys):
    assert main(["evaluate", str(two), "runs/vq", "-n", "60", "--network", "none"]) == 0
    cards = {
        c["name"]: c for c in json.loads((two / "scores.json").read_text())["cards"] if c["of"] == "model"
    }
    assert (
        cards["bits/dim"]["kind"] == "upper bound"
        and {"rate in nats", "distortion in nats", "codes in use", "codes: entropy"} <= cards.keys()
    )
    total = (cards["rate in nats"]["value"] + cards["distortion in nats"]["value"]) / 64 / math.log(2)
    assert (
        cards["bits/dim"]["value"] == pytest.approx(total, rel=1e-4)
        and cards["bits/dim"]["settings"]["temperature"] == 1.0
    )
    page = (two / "report.html").read_text()
    assert "<h1>pixelcnn in the codes of tinyvq on digits</h1>" in page and "first stage" in page
    assert (f"train pixelcnn {Path('runs/vq').resolve()} runs/pixelcnn-vq-again") in page and (
        "train pixelcnn runs/pixelcnn-vq/inside runs/pixelcnn-vq "
    ) in page
    assert Path("runs/compare.html").exists()
    run = likeness.open(two)
    maker, plain = (
        real_and_generated.makers([(run.run, live)], run.data)[0] for live in (dict(temperature=0.01), {})
    )
    drawn = [real_and_generated.made(m, run.data, run.data.held_out[:8], 0) for m in (maker, plain)]
    assert drawn[0].shape == (8, 1, 8, 8) and not np.array_equal(*drawn)
    assert "<img" in run._repr_html_()


def test_a_first_stage_that_learns_on_does_not_change_it(two, capsys):
    before = np.asarray(likeness.open(two).sample(4))
    assert main(["train", VQ, "digits", "runs/vq", "--images", "1920", *TINY]) == 0
    assert np.array_equal(np.asarray(likeness.open(two).sample(4)), before)
    assert main(["train", "pixelcnn", "runs/vq", "--images", "704", *TINY]) == 2
    told = capsys.readouterr().err
    assert "at image 1,280, and" in told and "at image 1,920 makes other codes" in told
    assert "likeness train pixelcnn runs/pixelcnn-vq/inside runs/pixelcnn-vq" in told
    assert (
        main(["train", "pixelcnn", "runs/pixelcnn-vq/inside", "runs/pixelcnn-vq", "--images", "704", *TINY])
        == 0
    )
    assert Run.open(two).seen == 704


def test_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    likeness.train(
        "ae", "digits", "runs/ae", images=640, width=8, depth=1, latent=4, precision="fp32", progress=False
    )
    run = likeness.train(GAUSS, "runs/ae", images=640, precision="fp32", progress=False)
    assert run.folder == Path("runs/tiny_gauss-ae") and np.asarray(run.sample(3, width=0.0)).shape == (
        3,
        1,
        8,
        8,
    )
    assert (
        run.config.training.precision == "fp32"
        and isinstance(run.model, Samples)
        and not isinstance(run.model, (Scores, Decodes))
    )
    with pytest.raises(Refusal, match="cannot make an image of a code"):
        latent_space.draw([(run.run, run.data)], "random", tmp_path / "x.png")


def test_codes_that_are_images_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "train",
                "vae",
                "digits",
                "runs/map",
                "--grid",
                "4",
                "--latent",
                "32",
                "--beta",
                "0.1",
                "--width",
                "8",
                "--images",
                "640",
                *TINY,
            ]
        )
        == 0
    )
    assert main(["train", GAUSS, "runs/map", "runs/two", "--images", "640", *TINY]) == 0
    assert main(["sample", "runs/two", "-n", "4", "-o", "x.npy"]) == 0 and np.load("x.npy").shape == (
        4,
        8,
        8,
        1,
    )
    assert main(["evaluate", "runs/map", "-n", "60", "--network", "none"]) == 0
    cards = {
        c["name"]: c
        for c in json.loads(Path("runs/map/scores.json").read_text())["cards"]
        if c["of"] == "model"
    }
    assert {"bits/dim", "PSNR", "rate in nats", "active units"} <= cards.keys()
    run = likeness.open("runs/map")
    for picture in ("random", "interpolation", "traversal"):
        latent_space.draw([(run.run, run.data)], picture, Path("x.png"), 3)


@pytest.mark.parametrize(
    ("command", "lesson"),
    [
        (
            ["pixelcnn", "runs/vq", "runs/new", "--binarize"],
            "read with --no-binarize, not --binarize.  Leave that out",
        ),
        (["pixelcnn", "runs/pixelcnn-vq"], "codes of codes are not learnt; name the run that it learns: "),
        (
            ["pixelcnn", "digits", "runs/pixelcnn-vq"],
            "digits is images.  To go on with those it has: likeness train pixelcnn",
        ),
        (["pixelcnn", "runs/vq", "runs/pixelcnn-vq", "--depth", "3"], "--depth 1, not --depth 3"),
        (["pixelcnn", "runs/vq", "runs/vq"], "runs/vq learns images, not the codes of"),
        (["pixelcnn", "runs/two"], "has no code that images can be made from"),
        (
            ["pixelcnn", "runs/new"],
            "has no saved state, so its codes mean nothing yet; train it first: likeness train ae toy",
        ),
        (["pixelcnn", "runs/ae"], "codes that may be any number; take those of a vqvae"),
        (["pixelcnn", "runs/map"], "codes that may be any number; take those of a vqvae"),
        (["ae", "runs/map"], "at least 8 pixels a side and these have 4"),
        (["ae", "digits", "runs/ae", "--grid", "4"], "--grid 0, not --grid 4"),
        (
            ["ae", "digits", "runs/other", "--grid", "2"],
            "--grid 2 is no width that images of 8 pixels are halved to; type --grid 4.",
        ),
        (["pixelcnn", "runs/changed"], "digits has changed since"),
        (["ae", "runs/ae"], "points or codes of numbers; a model that has --net mlp takes them"),
    ],
)
def test_refusals(many, capsys, command, lesson):
    before = files(many)
    assert main(["train", *command, "--images", "704", *TINY]) == 2
    told = capsys.readouterr().err
    assert lesson in told and "Traceback" not in told
    assert files(many) == before


def test_a_folder_of_images_may_hold_a_file_of_that_name(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert (
        first_stage.find(str(tmp_path)) is None
        and first_stage.find("digits") is None
        and first_stage.find("x" * 5000) is None
    )


def test_two_processes_make_the_steps_of_one(two, tmp_path):
    command = [
        sys.executable,
        "-m",
        "likeness",
        "train",
        "pixelcnn",
        "runs/vq",
        "--images",
        "160",
        "--batch",
        "32",
        "--width",
        "4",
        "--depth",
        "1",
        *TINY,
    ]
    env = dict(os.environ, OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    ranks = [env | dict(WORLD_SIZE="2", RANK=str(r), LOCAL_RANK=str(r)) for r in (0, 1)]
    pair = [
        subprocess.Popen([*command, "runs/pair"], env=one, stderr=subprocess.PIPE, text=True) for one in ranks
    ]
    assert main([*command[3:], "runs/one"]) == 0
    errors = [p.communicate(timeout=120)[1] for p in pair]
    assert [p.returncode for p in pair] == [0, 0], errors
    a, b = (Run.open(Path(f"runs/{name}")).model.state_dict() for name in ("one", "pair"))
    for name, weight in a.items():
        assert float((weight - b[name]).norm()) <= 1e-5 * float(weight.norm()) + 1e-7, name
