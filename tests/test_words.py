"""Words that people bring from other tools: each is understood, or answered with what can be typed."""

from __future__ import annotations

import inspect
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import likeness
from commands import refused
from likeness import models
from likeness.cli import VERBS, arguments, main, train
from likeness.cli.words import Speaker, understood
from likeness.core import Refusal, Spec, option_fields, words
from likeness.data import load
from likeness.inference import sampling

IN_DIGITS = 1623
"""training images"""
VAE = ["vae", "digits"]


@pytest.fixture(scope="module")
def takes() -> frozenset[str]:
    """The flags and the places of `likeness train ddpm`, which has most of them."""
    with pytest.MonkeyPatch.context() as patch:
        kept = list[frozenset[str]]()
        patch.setattr(
            arguments.words, "understood", lambda speaker, argv, note: (kept.append(speaker.flags), argv)[1]
        )
        train.parsed(["ddpm", "digits"])
    return kept[0]


def typed(command: list[str]) -> dict:
    return train.parsed(command)[2]


def retyped(command: list[str]) -> dict:
    """What the command is that the refusal of this one says to type."""
    with pytest.raises(Refusal) as refusal:
        train.parsed(command)
    line = re.search(r"Type: likeness train (.*)$", str(refusal.value))
    assert line, refusal.value
    return typed(shlex.split(line[1]))


@pytest.mark.parametrize("ours", list(words.SAME))
def test_another_name_of_a_flag_is_understood_however_it_is_spelled(ours):
    for name in words.SAME[ours].split():
        said: list[str] = []
        speaker = Speaker("sample", frozenset([ours]))
        for spelling in (f"--{name}", f"--{name.replace('-', '_').upper()}", f"-{name}"):
            if spelling.lower() != ours.lower():
                assert understood(speaker, ["r", spelling, "3"], said.append) == ["r", ours, "3"], spelling
                assert said.pop() == f"{spelling} is {ours} here"


def test_a_flag_in_snake_case_and_a_value_behind_a_sign_are_understood(capsys):
    want = typed([*VAE, "--free-bits", "0.5", "--rate", "3e-4", "--batch", "16", "--size", "16"])
    assert (
        typed([*VAE, "--free_bits", "0.5", "--lr=3e-4", "--train_batch_size=16", "--resolution", "16"])
        == want
    )
    assert "--lr is --rate here" in capsys.readouterr().err


ANSWERED = {
    "epochs 2": dict(images=2 * IN_DIGITS),
    "epochs 0.5": dict(images=round(IN_DIGITS / 2)),
    "steps 100": dict(images=100 * 128),
    "iterations 1e3": dict(images=1000 * 128),
    "max-steps 10 --batch-size 16": dict(images=160, batch=16),
    "bs=8 --max_train_steps=10": dict(images=80, batch=8),
    "kimg 25": dict(images=25_000),
    "hours 2": dict(minutes=120.0),
    "warmup-steps 50": dict(warmup=50 * 128),
    "warmup-epochs 1": dict(warmup=IN_DIGITS),
    "ema-decay 0.999": dict(ema=round(128 * math.log(0.5) / math.log(0.999))),
    "gradient-accumulation-steps 4 --batch 16": dict(batch=64, micro=16),
    "fp16": dict(precision="bf16"),
    "amp": dict(precision="bf16"),
    "mixed-precision no": dict(precision="fp32"),
    "hflip": dict(mirror=True),
    "grayscale": dict(colour="grey"),
    "channels 3": dict(colour="rgb"),
    "workers 4": {},
    "num_workers=4": {},
    "output there": dict(run=Path("there")),
    "outdir there": dict(run=Path("there")),
    "resume there": dict(run=Path("there")),
    "save-every 10": {},
    "wandb": {},
    "weight-decay 0.1": {},
}


@pytest.mark.parametrize("word", list(ANSWERED))
def test_what_is_counted_otherwise_is_answered_with_what_to_type(word):
    flag, *rest = word.split(" ")
    result, plain = retyped([*VAE, f"--{flag}", *rest]), typed(VAE)
    assert result == plain | ANSWERED[word]


def test_every_row_has_an_answer_that_can_be_typed(takes):
    """Of each word, with a value and without one; those of devices are told, since there may be none."""
    for names, (needs, _) in words.ANSWERS.items():
        assert not needs or needs in takes, names
        for name in names.split():
            for value in ([], ["1"]):
                with pytest.raises(Refusal) as refusal:
                    understood(
                        Speaker("train", takes - {"--steps", "--data", "--optimizer"}, 8, lambda argv: 100),
                        [f"--{name}", *value],
                        print,
                    )
                text = str(refusal.value)
                assert text.startswith(f"--{name}") and re.search(
                    r"Type( something like)?: likeness train", text
                )
                for flag in re.findall(r"(--[\w-]+)", text.partition("likeness train")[2]):
                    assert flag in takes, text


def test_a_word_is_found_under_one_meaning_only(takes):
    """Of two rows that a verb could mean, only the first would ever be seen."""
    for names, (needs, _) in words.ANSWERS.items():
        for name in names.split():
            rows = [n for n, (needs_, _) in words.ANSWERS.items() if name in n.split() and needs_ == needs]
            assert rows == [names], name
    all_verbs = [name for names in words.VERBS.values() for name in names.split()]
    assert len(all_verbs) == len(set(all_verbs)) and not set(all_verbs) & set(VERBS)
    assert set(words.VERBS) == set(VERBS)


def test_devices_are_named(takes):
    for word, device in (
        ("gpu 1", "cuda:1"),
        ("gpus 1", "cuda"),
        ("gpus 0", "cpu"),
        ("accelerator gpu", "cuda"),
        ("no-cuda", "cpu"),
    ):
        with pytest.raises(Refusal, match=f"Type: likeness train --device {device}$"):
            understood(Speaker("train", takes), f"--{word}".split(" "), print)
    with pytest.raises(Refusal, match="torchrun --nproc-per-node 4 -m likeness train"):
        understood(Speaker("train", takes), ["--gpus", "4"], print)


def test_all_words_of_a_command_are_answered_at_once(capsys):
    command = "train vae digits --epochs 10 --lr 1e-4 --batch-size 32 --workers 4 --output out"
    err = refused(capsys, *command.split())
    assert err.endswith("Type: likeness train vae digits --images 16230 --rate 1e-4 --batch 32 out\n")
    assert "10 x 1,623 training images are 16,230" in err


def test_images_of_a_folder_are_counted_as_they_would_be_read(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / f"{i}.png")
    train_images = len(load(tmp_path, 8).train)
    err = refused(capsys, "train", "vae", "--epochs", "3", str(tmp_path), "--size", "8")
    assert f"--images {3 * train_images}" in err and 0 < train_images < 30
    assert "--images IMAGES" in refused(capsys, "train", "vae", "cifar10", "--epochs", "3")


def test_the_steps_of_a_sampler_are_told_from_those_of_a_training(capsys):
    assert "Type: likeness train ddpm digits --images 640000" in refused(
        capsys, "train", "ddpm", "digits", "--steps", "20000"
    )
    assert retyped(["ddpm", "digits", "--num-steps", "10", "--images", "5"])["images"] == 320
    assert train.parsed(["ddpm", "digits", "--steps", "50"])[2]["steps"] == 50
    assert "how long to train is --images or --minutes" in capsys.readouterr().err


def test_values_are_no_flags_and_what_nobody_knows_is_still_refused(capsys):
    assert typed([*VAE, "--lr", "1e-3", "-o=x"][:-1])["rate"] == 1e-3
    assert understood(Speaker("x", frozenset(["--rate"])), ["--", "--lr", "3"], print) == ["--", "--lr", "3"]
    assert "unrecognized arguments: --nonsense 3" in refused(capsys, "train", *VAE, "--nonsense", "3")
    assert "runs/no is not a run" in refused(capsys, "sample", "runs/no", "--num-inference-steps", "20")


@pytest.mark.parametrize("word", ["generate", "eval", "inpaint", "img2img", "tsne", "knn"])
def test_a_verb_by_another_name(capsys, word):
    assert f"that is likeness {words.verb(word)} here" in refused(capsys, word, "x")


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (dict(lr=1e-3), r"it is called rate here: write rate=0\.001\."),
        (dict(epochs=3), "write images=4869"),
        (dict(max_steps=100, batch=16), "write images=1600"),
        (dict(fp16=True), "write precision='bf16'"),
        (dict(num_workers=4), "leave it out"),
        (dict(output_dir="x"), "that is the argument folder of likeness.train"),
        (dict(n_epochs="all"), "write images=IMAGES"),
    ],
)
def test_python_has_the_same_words(tmp_path, wrong, lesson):
    with pytest.raises(Refusal, match=lesson):
        likeness.train("vae", "digits", tmp_path / "w", progress=False, **wrong)
    assert not (tmp_path / "w").exists()


def test_a_question_in_python_has_the_same_words():
    model = models.load("ddpm")(spec=Spec(1, 8), scale=0.25)
    for wrong, lesson in ((dict(num_inference_steps=9), "write steps=9"), (dict(num_samples=4), "write n=4")):
        with pytest.raises(Refusal, match=lesson):
            sampling.tuned(model, **wrong)
    assert sampling.tuned(model, steps=9).steps == 9


def test_words_are_answered_without_torch():
    code = (
        "import sys\nfrom likeness.cli import main\n"
        "main('train vae digits --epochs 3 --lr 1e-3 --device cpu'.split())\nprint('torch' in sys.modules)"
    )
    main(["models"])  # what the models take is then in the cache
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n" and "--images 4869" in done.stderr


def commands_of_the_glossary() -> list[str]:
    text = (Path(__file__).parents[1] / "docs" / "glossary.md").read_text()
    lecture = text.partition("## From a word of the lecture")[2].partition("\n## ")[0]
    return re.findall(r"`likeness ([^`]*)`", lecture)


def test_the_commands_of_the_glossary_can_be_typed(tmp_path, monkeypatch):
    """Those that train as they stand; of the others the verb, and flags that its parser or a model has."""
    lines = commands_of_the_glossary()
    assert {line.split()[1] for line in lines if line.startswith("train ")} == set(models.NAMES)
    live = {f"--{f.name}" for name in models.NAMES for f in option_fields(models.load(name), live=True)}
    for line in lines:
        verb, *argv = shlex.split(line)
        if verb == "train":
            kind, args = train.parsed(argv)[1:]
            own = {f.name for f in option_fields(kind)} & args.keys()
            small = 4 if "upscale" in args.get("task", "") else 8
            frames = 4 if kind.videos else 0
            kind(
                spec=Spec(1, 8, 10, frames=frames, source=(1, small), vocabulary=5, tokens=3),
                **{name: args[name] for name in own},
            )
        else:
            text = inspect.getsource(inspect.getmodule(VERBS[verb]))
            unknown = [word for word in argv if word.startswith("--") and f'"{word}"' not in text]
            assert set(unknown) <= live | {"--network"}, line


# Devices


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "ae",
        "digits",
        "r",
        "--images",
        "64",
        "--width",
        "8",
        "--depth",
        "1",
        "--no-report",
        "--json",
        "--device",
    ]
    assert "--device cuda:7 is not on this machine; there are: cpu" in refused(capsys, *command, "cuda:7")
    assert "is none of: cpu, cuda" in refused(capsys, *command, "gpu") and not Path("r").exists()
    assert main([*command, "cpu"]) == 0 and capsys.readouterr().out
    assert json.loads(Path("r/config.json").read_text())["facts"]["device"].startswith("cpu ")
    assert "--device cuda:7 is not" in refused(capsys, "reconstruct", "r", "--device", "cuda:7")
    assert main(["reconstruct", "r", "--device=cpu", "-n", "2"]) == 0
    with pytest.raises(Refusal, match="cuda:7 is not on this machine"):
        likeness.open("r", device="cuda:7")
    assert likeness.open("r", device="cpu").run.seen > 0


def test_a_process_computes_on_one_device(monkeypatch):
    device = sys.modules["likeness.engine.device"]  # the package has a function of that name

    monkeypatch.setattr(device, "there", lambda: ("cpu", "cuda:0", "cuda:1"))
    monkeypatch.setattr(device, "_placed", ["cpu"])
    with pytest.raises(Refusal, match="computes on cpu, where a model lies already"):
        device.choose("cuda:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Refusal, match="each process that torchrun has started has its own"):
        device.choose("cuda:1")


def test_a_chosen_cpu_is_used_though_there_is_a_gpu(monkeypatch):
    device = sys.modules["likeness.engine.device"]  # the package has a function of that name

    monkeypatch.setattr(device, "_gpu", lambda: True)
    monkeypatch.setattr(device, "_asked", "")
    monkeypatch.setattr(device.torch.cuda, "current_device", lambda: 1)
    assert device.cuda() and str(device.device()) == "cuda:1"
    assert str(device.choose("cpu")) == "cpu" and not device.cuda()


def test_data_typed_as_a_flag_are_answered(capsys):
    assert main(["train", "vae", "--data", "digits"]) == 2
    assert "Type: likeness train vae digits" in capsys.readouterr().err
    assert main(["train", "vae"]) == 2 and "required: DATA" in capsys.readouterr().err
