"""What a flag is on the command line is an argument in Python, of the same name, or there is a reason."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from conftest import small_run, toy
from likeness import cli, models
from likeness.cli import completion
from likeness.core import Refusal, Training, option_fields
from likeness.data import Reading
from likeness.features import extract
from likeness.figures import read_recipe
from likeness.inference.style import How
from likeness.inference.walk import Walk
from likeness.maps import single
from likeness.reports import looks
from likeness.training.loop import fit

RUN = likeness.Trained
ASKED = {
    "train": (likeness.train, models.load("vae"), Training, Reading),
    "sample": (RUN.sample,),
    "evaluate": (RUN.evaluate,),
    "reconstruct": (RUN.reconstruct,),
    "complete": (RUN.complete,),
    "edit": (RUN.edit,),
    "score": (RUN.score,),
    "field": (RUN.field,),
    "diffuse": (RUN.diffuse,),
    "latent": (RUN.latent,),
    "walk": (RUN.walk, Walk),
    "trace": (RUN.trace,),
    "features": (RUN.features, extract.extract),
    "map": (likeness.map, single.map, Reading),
    "neighbours": (RUN.neighbours, single.collected, Reading),
    "look": (likeness.look, looks.look),
    "paint": (RUN.paint,),
    "translate": (RUN.translate,),
    "imagine": (RUN.imagine,),
    "imagic": (RUN.imagic,),
    "style": (likeness.style, How),
    "bayes": (likeness.bayes, Reading),
    "detect": (RUN.detect,),
    "export": (RUN.export,),
    "check": (likeness.check, Reading),
}
"""who answers a verb in Python, and to whom what is left of its arguments is passed"""
NOT_ASKED = {
    "models": "likeness.models.NAMES",
    "data": "likeness.data.named.listed()",
    "completion": "of shells alone",
    "play": "likeness.agents",
    "studio": "run.studio(), of one run",
}
REASONS = {
    "--help": "help(...)",
    "--json": "results are objects",
    "-o": "what comes back has save()",
    "--device": "of train(), open() and engine.choose(), for all that follow",
    "--data": "of open(), or locate()",
    "--to": "of locate()",
    "--raw": "of open(): another run to ask",
    "look --class": "`class` is a word of Python: `of`",
    "latent --images": "`groups` are three tensors",
    "diffuse --images": "`x` is a tensor",
    "complete --mask": "`known` is a tensor",
    "sample --nearest": "nearest(samples) is a method",
    "evaluate --all": "Cards hold all",
    "train --no-report": "train() scores nothing; evaluate() does",
    "walk --seconds": "of save(): what comes back is images",
    "train --from": "training.fork.make() copies the folder first",
    "train --preset": "one of **options",
    "features --network": "the run itself",
    "features --weights": "the run itself has its own",
    "features --layers": "run.model.named_modules()",
    "translate --format": "what comes back has save()",
    "style --film": "inference.style.style() yields the states on the way",
    "style --frames": "the same",
    "style --every": "the same",
    "style --sheet": "inference.style.sheet()",
    "imagine --texts": "`text` may be a list",
    "imagic --strength": "`strengths`, a list",
    "imagic --embedding-steps": "`how`",
    "imagic --tuning-steps": "`how`",
    "imagic --keep": "`folder`",
    "paint --stroke": "`strokes` is a list of them",
    "paint --teach": "teach_encoder() is a method",
    "check --model": "check() measures nothing",
    "detect --images": "asks no run: studies.image_files.judge(studies.detector.load(folder), paths)",
}  # fmt: skip


def names(one: object) -> set[str]:
    """The arguments of a function, or the options that a class declares."""
    if one in (How, Walk):
        return {field.name for field in dataclasses.fields(one)}
    if inspect.isclass(one):
        return {field.name for field in option_fields(one)}
    return set(inspect.signature(one).parameters)  # type: ignore[arg-type]


def flags(verb: str) -> set[str]:
    """Those of the parser itself: the long ones, and short ones that have no long name."""
    with (
        completion._parser_of() as parsers,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        cli.VERBS[verb]([*(["vae"] if verb == "train" else []), "--help"])
    actions = [action for parser in parsers for action in parser._actions if action.option_strings]
    assert actions, verb
    return {
        max(action.option_strings, key=lambda s: (not s.startswith("--no-"), len(s))) for action in actions
    }


def test_every_verb_is_asked_in_python_or_there_is_a_reason():
    assert set(ASKED) | set(NOT_ASKED) == set(cli.VERBS)


@pytest.mark.parametrize("verb", sorted(ASKED))
def test_every_flag_is_an_argument_of_the_same_name_or_has_a_reason(verb):
    there = set().union(*map(names, ASKED[verb]))
    missing = [
        flag
        for flag in flags(verb)
        if flag.lstrip("-").replace("-", "_") not in there and not {flag, f"{verb} {flag}"} & set(REASONS)
    ]
    assert not missing


def test_no_reason_outlives_its_flag():
    for reason in REASONS:
        verb, _, flag = reason.rpartition(" ")
        assert any(flag in flags(v) for v in ([verb] if verb else ASKED)), reason


# What the methods do with them


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> likeness.Trained:
    run, data = small_run(
        "classifier", tmp_path_factory.mktemp("runs") / "c", toy(256, channels=3), images=640
    )
    for _ in fit(run, data):
        pass
    run.close()
    return likeness.open(run.folder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "p.png"
    Image.fromarray(toy(8, channels=3).x[0].transpose(1, 2, 0)).save(path)
    return path


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("saliency", dict(samples=2, steps=4)),
        ("fool", dict(norm="l2", budget=3.0, steps=3)),
        ("invert", dict(layer="code", steps=2, blur=0.5)),
        ("dream", dict(octaves=1, steps=2, size=16)),
        ("class", dict(of=1, steps=2, jitter=0.1)),
    ],
)
def test_a_look_of_python_is_that_of_the_command_line(what, how, classifier, photo, tmp_path):
    image = None if what == "class" else photo
    here = classifier.look(image, what=what, seed=3, progress=False, **how)
    argv = [str(w) for k, v in how.items() for w in (f"--{'class' if k == 'of' else k}", v)]
    out = tmp_path / "there.png"
    network = ["--network", str(classifier.folder), "--seed", "3", "-o", str(out)]
    assert cli.main(["look", *([str(image)] if image else []), "--what", what, *argv, *network]) == 0
    assert np.array_equal(np.asarray(Image.open(out)), here.image)
    assert read_recipe(out) == read_recipe(here.save(tmp_path / "here.png"))
    beside = {p.name.replace("there", "here") for p in tmp_path.glob("there*")}
    assert beside == {p.name for p in tmp_path.glob("here*")}
    assert set(here.maps) == ({*here.maps, "Grad-CAM"} if what == "saliency" else set())


def test_a_look_at_a_tensor_is_that_at_its_file(classifier, photo):
    x = torch.from_numpy(np.asarray(Image.open(photo)).transpose(2, 0, 1) / 127.5 - 1).float()
    how = dict(samples=2, steps=4, progress=False)
    assert np.array_equal(classifier.look(x, **how).image, classifier.look(photo, **how).image)
    with pytest.raises(Refusal, match=r"x has the shape \(3, 5, 5\), and an image for .* 16 pixels a side"):
        classifier.look(torch.zeros(3, 5, 5))
    with pytest.raises(Refusal, match="saliency has no use for --budget, which is for fool"):
        classifier.look(x, budget=3)
    with pytest.raises(Refusal, match="class asks for --class NAME"):
        likeness.look(network=classifier.folder, what="class")


def test_a_map_of_python_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = likeness.map("digits", method="pca", clusters=4, n=60, seed=2, size=8, progress=False)
    line = "map digits --method pca --clusters 4 -n 60 --seed 2 --size 8 -o m.png"
    assert cli.main(line.split()) == 0
    assert np.array_equal(np.asarray(Image.open("m.png")), here.image)
    assert here.save("here.html").read_bytes() == Path("m.html").read_bytes()
    assert len(set(here.clusters.tolist())) == here.numbers["clusters"]["n"] == 4
    old = here.save("old.npz")
    placed = likeness.map("digits", into=old, n=9, size=8, progress=False)
    assert placed.y.shape == (9, 2) and placed.scores == () and placed.save("new.html").exists()
    row = likeness.map("digits", perplexities=(3, 5), n=40, size=8, progress=False)
    assert [one["perplexity"] for one in row.numbers["maps"]] == [3, 5]
    assert row.save("row.png").exists() and np.asarray(row).ndim == 3
    with pytest.raises(Refusal, match="a map by pca has no use for --starts"):
        likeness.map("digits", method="pca", starts=2)
    with pytest.raises(Refusal, match="there is no argument 'colour_by' here"):
        likeness.map("digits", colour_by="label")
    with pytest.raises(Refusal, match="png"):
        here.save("map.bmp")


# The way there


def test_a_reconstruction_is_walked_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = likeness.train("gan", "digits", "g", images=64, progress=False, width=8, latent=4)
    stages = [(stage.share, stage.pictures.x) for stage in run.reconstructing(n=3, steps=4, seed=1)]
    assert [share for share, _ in stages] == [0, 0.25, 0.5, 0.75, 1]
    x, back = run.reconstruct(n=3, steps=4, seed=1)
    assert torch.equal(stages[-1][1], back) and not torch.equal(stages[0][1], back)
    errors = [float((b - x).square().mean()) for _, b in stages]
    assert errors == sorted(errors, reverse=True), "the best so far"


def test_of_a_model_that_encodes_the_way_is_one_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = likeness.train("ae", "digits", "a", images=64, progress=False, width=8, depth=1, latent=4)
    (stage,) = run.reconstructing(n=3)
    x, back = run.reconstruct(n=3)
    assert stage.share == 1 and torch.equal(stage.pictures.x, back) and torch.equal(x, run.reconstruct(x)[0])
    classes = likeness.train("simclr", "digits", "s", images=64, progress=False, width=8, batch=32)
    with pytest.raises(Refusal, match="cannot make an image of a code"):
        classes.reconstructing()
