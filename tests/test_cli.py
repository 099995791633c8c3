"""The command line, as a person meets it: what it says, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likeness import models
from likeness.cli import VERBS, main
from likeness.figures import read_recipe
from likeness.runs.run import Run

TINY = ["--width", "8", "--depth", "1", "--latent", "4", "--precision", "fp32"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys) -> tuple[str, str]:
    out = capsys.readouterr()
    return out.out, out.err


@pytest.fixture
def vae(here, capsys) -> Path:
    assert main(["train", "vae", "digits", "runs/v", "--images", "640", "--no-report", *TINY]) == 0
    said(capsys)
    return Path("runs/v")


def test_the_main_job_leaves_all_that_it_promises(here, capsys):
    assert main(["train", "vae", "digits", "--images", "640", *TINY, "--json"]) == 0
    out, _ = said(capsys)
    result = json.loads(out)
    run = Path(result["run"])
    assert (
        result["seen"] == 640
        and run == Path("runs/vae-digits")
        and set(result["losses"]) == {"model", "distortion", "rate", "model gradient"}
    )
    for name in ("config.json", "log.jsonl", "scores.json", "report.html"):
        assert (run / name).stat().st_size > 100, name
    cards = json.loads((run / "scores.json").read_text())["cards"]
    assert {c["name"] for c in cards} >= {"bits/dim", "PSNR", "SSIM", "distance to nearest training image"}
    assert {c["of"] for c in cards if c["name"] == "bits/dim"} >= {
        "model",
        "uniform",
        "PNG",
        "independent pixels",
    }
    assert len(list((run / "samples").glob("*.png"))) >= 3


def test_the_same_command_goes_on_and_a_finished_one_has_nothing_to_do(vae, capsys):
    command = ["train", "vae", "digits", str(vae), "--no-report"]
    assert main([*command, "--images", "1280", "--json"]) == 0
    assert json.loads(said(capsys)[0])["seen"] == 1280
    assert main([*command, "--images", "1280", "--json"]) == 0
    assert json.loads(said(capsys)[0])["seen"] == 1280


def test_flags_may_stand_anywhere_and_numbers_may_be_written_as_people_do(here, capsys):
    assert (
        main(["train", "--images", "1.28e2", "vae", *TINY, "digits", "--no-report", "--json", "runs/x"]) == 0
    )
    assert json.loads(said(capsys)[0]) | {"losses": 0, "seconds": 0} == dict(
        schema=2, run="runs/x", seen=128, seconds=0, losses=0, report=None
    )


@pytest.mark.parametrize(
    ("command", "lesson"),
    [
        (["trian", "vae", "digits"], "there is no verb 'trian'; Did you mean train?"),
        (["train"], "required: MODEL, DATA"),
        (["train", "vea", "digits"], "did you mean 'vae'?"),
        (["train", "vae"], "required: DATA"),
        (["train", "vae", "digist"], "did you mean 'digits'?"),
        (["train", "vae", "digits", "--latnt", "4"], "Did you mean --latent?"),
        (
            ["train", "vae", "digits", "--latent", "four"],
            "argument --latent: invalid whole number value: 'four'",
        ),
        (
            ["train", "vae", "digits", "--latent", "-3"],
            "--latent must be between 1 and 4,096; -3 was given",
        ),
        (["train", "vae", "digits", "--batch", "0"], "--batch must be between 1 and 1,000,000; 0 was given"),
        (["train", "vae", "digits", "--minutes", "0"], "0 is not above 0"),
        (["train", "vae", "digits", "--likelihood", "bernouli"], "is none of: auto, bernoulli"),
        (
            ["train", "vae", "digits", "--likelihood", "bernoulli"],
            "type --likelihood logistic, or make the images black and white with --binarize",
        ),
        (["train", "vae", "digits", "--rate", "nan"], "--rate must be between 0 and 10; nan was given"),
        (["train", "./nothing.py", "digits"], "there is no file nothing.py"),
        (["sample", "runs/none"], "runs/none is not a run"),
        (["evaluate"], "required: RUN"),
        (["sample", "runs/v", "-n", "0"], "0 is not between 1 and"),
        (
            ["sample", "runs/v", "-o", "x.bmp"],
            "should end in .png or .jpg or .jpeg or .webp or .npy or .npz, or be a folder",
        ),
        (["reconstruct", "runs/v", "-o", "x.html"], "should end in .png"),
        (["sample", "runs/v", "--label", "3"], "is not class-conditional, so that it has no class 3"),
        (["sample", "runs/v", "--seed", "-1"], "-1 is not between 0 and"),
        (["sample", "runs/v", "-n", "inf"], "invalid count value"),
        (["train", "vae", "digits", "--latent", "1e400"], "invalid whole number value: '1e400'"),
        (["train", "vae", "digits", "--latent", "2.5"], "invalid whole number value: '2.5'"),
        (["train", "vea", "digits", "ae"], "did you mean 'vae'?"),
        (["train", "digits", "vae"], "no model is called 'digits'"),
        (["train", "vae", ""], "DATA is an empty text"),
        (["train", "vae", "digits", "runs/v/config.json"], "cannot be a folder"),
        (
            ["train", "vae", "digits", "--preset", "photos"],
            "vae has no preset 'photos'; its presets are: photographs",
        ),
        (["train", "vae", "digits", "--free-bits", "0.1", "--micro", "8"], "which --micro 8 would split"),
        (["sample", "runs/v", "--k", "0"], "--k must be between 1 and"),
        (["latent", "runs/v", "--picture", "plan"], "did you mean 'plane'?"),
        (["latent", "runs/v", "--picture", "plane"], "train with --latent 2"),
        (
            ["train", "vae", "digits", "runs/v", "--latent", "9"],
            "runs/v was made with --latent 4, not --latent 9",
        ),
        (["train", "ae", "digits", "runs/v"], "made with model vae, not ae"),
        (["train", "vae", "shapes:100", "runs/v"], "made with data digits, not data shapes:100"),
        (["train", "vae", "digits", "runs/v", "--size", "16"], "made with --size 8, not --size 16"),
        (["check", "nowhere"], "there is no folder, file or set called 'nowhere'"),
    ],
)
def test_errors_are_lessons_without_a_traceback(vae, capsys, command, lesson):
    assert main(command) == 2
    out, err = said(capsys)
    assert lesson in err and err.startswith("likeness: ") and "Traceback" not in err and not out


def test_a_question_that_a_model_does_not_answer_is_refused_with_what_it_does(here, capsys):
    assert main(["train", "ae", "digits", "runs/a", "--images", "64", "--no-report", *TINY]) == 0
    assert main(["sample", "runs/a"]) == 2
    assert "ae cannot draw images (likeness sample); it can: encode an image (features)" in said(capsys)[1]


def test_samples_are_a_picture_an_array_or_files_each_with_its_recipe(vae, capsys):
    for target in ("a.png", "a.npy", "folder"):
        assert main(["sample", str(vae), "-n", "5", "--seed", "3", "-o", target]) == 0
    array = np.load("a.npy")
    assert array.shape == (5, 8, 8, 1) and array.dtype == np.uint8
    files = sorted(Path("folder").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(5)]
    assert np.array_equal(np.asarray(Image.open(files[4]).convert("L")), array[4, :, :, 0])
    assert read_recipe(files[4]) | {
        "run": "v",
        "seed": 3,
        "number": 4,
        "model": "vae",
        "seen": 640,
    } == read_recipe(files[4])
    assert main(["sample", str(vae), "-n", "2", "--seed", "3", "-o", "b.npy"]) == 0
    assert np.abs(np.load("b.npy").astype(int) - array[:2]).max() <= 1


def timeless(cards: dict) -> dict:
    return {run: [c for c in own if c["name"] not in ("training", "sampling")] for run, own in cards.items()}


def test_evaluate_is_deterministic_and_takes_live_options(vae, capsys):
    assert main(["evaluate", str(vae), "--json", "-n", "50"]) == 0
    first = timeless(json.loads(said(capsys)[0])["runs"])
    assert main(["evaluate", str(vae), "--json", "-n", "50"]) == 0
    assert timeless(json.loads(said(capsys)[0])["runs"]) == first
    assert main(["evaluate", str(vae), "--json", "-n", "50", "--k", "20"]) == 0
    tighter = json.loads(said(capsys)[0])["runs"]
    elbo, iwae = (
        next(c for c in r[str(vae)] if c["name"] == "bits/dim" and c["of"] == "model")
        for r in (first, tighter)
    )
    assert iwae["value"] < elbo["value"] and iwae["settings"]["k"] == 20 and elbo["settings"]["k"] == 1


def test_runs_are_put_side_by_side_again_and_again(vae, capsys):
    assert main(["train", "vae", "digits", "runs/w", "--images", "640", "--no-report", *TINY]) == 0
    for _ in range(2):  # the second time runs/* holds the page of the first, and whatever else lies there
        assert (
            main(["evaluate", *map(str, sorted(Path("runs").iterdir())), "-n", "40", "--network", "none"])
            == 0
        )
        out, err = said(capsys)
        assert "bits/dim" in out and Path("runs/compare.html").exists() and Path("runs/compare.csv").exists()
        (Path("runs") / "notes.txt").write_text("mine")
    assert "passed over, since they are no runs: runs/notes.txt" in err
    assert main(["evaluate", "runs/v", "runs/w", "-n", "40", "--network", "nonsense", "--json"]) == 2
    assert said(capsys)[0] == ""
    assert main(["evaluate", "runs/v", "-o", "x"]) == 2 and "two runs or more" in said(capsys)[1]


def test_what_is_refused_leaves_nothing_behind(here, capsys):
    assert main(["train", "vae", "digits", "runs/x", "--free-bits", "0.1", "--micro", "8"]) == 2
    assert main(["train", "vae", "digits", "runs/x", "--batch", "0"]) == 2
    assert not Path("runs/x").exists()


def test_the_same_command_with_auto_goes_on(here, capsys):
    command = [
        "train",
        "ae",
        "digits",
        "runs/a",
        "--precision",
        "auto",
        "--no-report",
        "--images",
        "64",
        "--width",
        "8",
        "--depth",
        "1",
    ]
    assert main(command) == 0 and main(command) == 0


def test_a_run_finds_its_folder_of_images_from_anywhere(here, capsys, monkeypatch):
    (here / "mine").mkdir()
    for i in range(20):
        Image.fromarray(np.full((20, 20, 3), 10 * i, np.uint8)).save(here / "mine" / f"{i}.png")
    command = ["--images", "64", "--no-report", "--size", "8", *TINY]
    assert main(["train", "ae", "mine", "runs/m", *command]) == 0
    for same in ("mine/", "./mine", str(here / "mine")):
        assert main(["train", "ae", same, "runs/m", *command]) == 0
    monkeypatch.chdir(here / "runs")
    said(capsys)
    assert main(["evaluate", "m", "--json"]) == 0
    assert json.loads(said(capsys)[0])["runs"]["m"][0]["n"] >= 1


def test_a_file_that_has_changed_is_another_model(here, capsys):
    text = """
from torch import Tensor, nn
from ..core import Batch, Loss, Model

class Mine(Model):
    def build(self) -> None:
        self.net = nn.Conv2d(1, 1, 1)

    def loss(self, batch: Batch) -> Loss:
        return Loss(self.net(batch.x).square().mean())
"""
    Path("mine.py").write_text(text)
    command = ["train", "./mine.py", "digits", "runs/m", "--images", "64", "--no-report"]
    assert main(command) == 0 and main(command) == 0
    Path("mine.py").write_text(text.replace("1, 1, 1", "1, 1, 3, padding=1"))
    assert main(command) == 2 and "no longer what this run was made with" in said(capsys)[1]
    Path("mine.py").write_text("class Mine(:")
    assert main(["train", "./mine.py", "digits"]) == 2 and "line 1: invalid syntax" in said(capsys)[1]
    assert main(["train", "vae", "digits", "runs/m"]) == 2


def test_runs_of_several_kinds_are_asked_what_each_can_be(vae, capsys):
    assert main(["train", "ae", "digits", "runs/a", "--images", "64", "--no-report", *TINY]) == 0
    said(capsys)
    assert main(["evaluate", "runs/a", str(vae), "--k", "3", "-n", "20", "--json"]) == 0
    out, err = said(capsys)
    held = json.loads(out)["runs"]
    cards = {name: {c["name"]: c for c in cs if c["of"] == "model"} for name, cs in held.items()}
    assert (
        cards[str(vae)]["bits/dim"]["settings"]["k"] == 3
        and "bits/dim" not in cards["runs/a"]
        and "runs/a has no option k" in err
    )


def test_reconstruct_held_out_images_and_ones_own(vae, here, capsys):
    assert main(["reconstruct", str(vae), "-o", "r.png", "--json"]) == 0
    assert json.loads(said(capsys)[0])["n"] == 16 and read_recipe(Path("r.png"))["n"] == 16
    (here / "mine").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 30, 3), 60 * i, np.uint8)).save(here / "mine" / f"{i}.png")
    assert main(["reconstruct", str(vae), "mine", "-o", "m.png", "--json"]) == 0
    assert json.loads(said(capsys)[0])["n"] == 3


@pytest.mark.parametrize("picture", ["random", "interpolation", "traversal"])
def test_pictures_of_the_code(vae, picture):
    assert main(["latent", str(vae), "--picture", picture, "-n", "3", "-o", "p.png"]) == 0
    assert np.asarray(Image.open("p.png")).std() > 5 and read_recipe(Path("p.png"))["picture"] == picture


def test_the_plane_of_a_code_of_two(here):
    assert (
        main(["train", "vae", "digits", "runs/p", "--images", "128", "--no-report", *TINY, "--latent", "2"])
        == 0
    )
    assert main(["latent", "runs/p", "--picture", "plane", "-o", "p.png"]) == 0


def test_check_says_what_is_there_and_what_training_costs(here, capsys):
    assert main(["check", "digits", "--json"]) == 0
    found = json.loads(said(capsys)[0])
    assert "1,797 images" in found["verdict"]
    assert found["cost"][0]["images_per_second"] > 1 and found["cost"][0]["model"] == "vae"


def test_models_and_data_are_listed(capsys):
    assert main(["models", "--json"]) == 0
    rows = {r["name"]: r for r in json.loads(said(capsys)[0])["models"]}
    assert rows["vae"]["answers"] == ["sample", "bits_per_dim", "encode", "decode"] and rows["ae"][
        "answers"
    ] == ["encode", "decode"]
    assert main(["data", "--json"]) == 0
    assert {r["name"] for r in json.loads(said(capsys)[0])["sets"]} >= {
        "digits",
        "shapes",
        "mnist",
        "fashion-mnist",
        "cifar10",
    }


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0 and f"likeness {verb}" in said(capsys)[0]


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_has_help(name, capsys):
    """An option named like a flag of the training or of reading the data could not be typed."""
    with pytest.raises(SystemExit) as end:
        main(["train", name, "--help"])
    assert end.value.code == 0 and f"options of {name}" in said(capsys)[0]


def test_the_help_of_a_model_shows_its_options_and_answers(capsys):
    with pytest.raises(SystemExit):
        main(["train", "vae", "--help"])
    out, _ = said(capsys)
    assert (
        "Kingma" in out
        and "--free-bits" in out
        and ("Answers: sample, bits_per_dim, encode, decode") in out
        and "--rate" in out
        and "--size" in out
    )


def start(folder: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "likeness",
        "train",
        "ae",
        "digits",
        str(folder),
        "--minutes",
        "5",
        *TINY,
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS="1")
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not (folder / "log.jsonl").exists():
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(tmp_path, number, code):
    process = start(tmp_path / "r")
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == code and "stopped and saved at image" in err and "Traceback" not in err
    run = Run.open(tmp_path / "r")
    assert run.seen > 0 and f"{run.seen:,}" in err


def test_a_pipe_that_closes_is_no_defect():
    process = subprocess.Popen(
        [sys.executable, "-m", "likeness", "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert "Traceback" not in process.stderr.read() and process.wait(60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--help"], ["data"]], ids=" ".join)
def test_an_output_that_is_full_is_no_defect(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "likeness", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (
        done.returncode == 74
        and done.stderr.startswith("likeness: the disk is full")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("verb", ["evaluate", "bayes", "features", "latent", "diffuse"])
def test_help_names_what_is_typed_and_no_part_of_the_source(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    text = said(capsys)[0]
    assert not re.search(r"\w/\w+\.py|`[a-z_]+`", text)
    if verb == "evaluate":
        from likeness.features import named

        assert all(word in text for word in named.words(named.SCORES))
