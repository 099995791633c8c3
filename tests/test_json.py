"""What --json prints: of every verb one object, which names its schema first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likeness.cli import VERBS, main
from likeness.metrics.card import Score
from likeness.reports.terminal import SCHEMA, document
from likeness.studies import bayes, bayes_page, detector, image_files

TRAIN = ("--images", "16", "--batch", "8", "--no-report")
PIXELS, NOISE = "runs/pixelcnn-digits", "runs/ddpm-digits"
ASKED = {
    "train": f"train pixelcnn digits {PIXELS} --no-report --images 16",
    "sample": f"sample {PIXELS} -n 1",
    "evaluate": f"evaluate {PIXELS} -n 4 --network none",
    "reconstruct": "reconstruct runs/ae-digits -n 1",
    "walk": "walk runs/ae-digits images 0 1",
    "trace": f"trace {PIXELS}",
    "complete": f"complete {PIXELS} -n 1 --draws 1",
    "edit": f"edit {NOISE} -n 1 --draws 1 --strength 0.1 --steps 2",
    "score": f"score {PIXELS} -n 1",
    "field": f"field {PIXELS} -n 1",
    "diffuse": f"diffuse {NOISE} --picture schedule",
    "latent": "latent runs/ae-digits --picture interpolation -n 2",
    "features": "features --layers mobilenet",
    "map": "map points.npy --perplexities 3",
    "neighbours": "neighbours 1 points.npy -k 1",
    "look": "look one.png --network squeezenet --weights none --samples 1 --steps 1",
    "imagine": "imagine runs/w red -n 1 --steps 2",
    "imagic": "imagic runs/w one.png red --embedding-steps 1 --tuning-steps 1 --strength 1 --steps 2",
    "paint": f"paint {NOISE} --stroke colour:red:0.5,0.5:0.2 -n 1 --steps 2",
    "translate": "translate runs/t one.png -o translated",
    "style": "style one.png one.png --weights none --steps 2 --memory 1",
    "play": "play ppo grid p --steps 64 --horizon 8 --epochs 1",
    "bayes": "bayes digits",
    "detect": f"detect {PIXELS} -o d",
    "export": f"export {NOISE}",
    "check": "check digits --model none",
    "models": "models",
    "data": "data",
}
"""a quick question for each verb"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs that know nothing, and twenty rows of features."""
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for model, option in (("pixelcnn", "--width=8"), ("ddpm", "--net=unet"), ("ae", "--width=8")):
            assert main(["train", model, "digits", f"runs/{model}-digits", *TRAIN, option]) == 0
        task = ("train", "pix2pix", "digits", "runs/t", "--task", "edges", "--width", "8")
        assert main([*task, *TRAIN]) == 0
        text = ("train", "flowmatching", "shapes:60", "runs/w", "--size", "8", "--net", "mlp", "--text")
        assert main([*text, *TRAIN]) == 0
        np.save("points.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
        Image.new("RGB", (32, 32), (90, 30, 200)).save("one.png")
        yield folder


@pytest.mark.parametrize(
    "verb",
    [verb for verb in VERBS if verb not in ("completion", "studio")],  # a script; a link
)
def test_every_verb_prints_one_object_with_the_number_of_its_schema(there, verb, monkeypatch, capsys):
    card = Score("calibration", 0.5, low=0.4, high=float("nan"))
    monkeypatch.chdir(there)
    monkeypatch.setattr(bayes, "run", lambda *_, **__: [card])  # both train for minutes
    monkeypatch.setattr(bayes_page, "findings", lambda _: [])
    monkeypatch.setattr(detector, "learn", lambda *_, **__: [])
    monkeypatch.setattr("likeness.evaluation.scores.load_scores", lambda _: [card])
    assert main([*ASKED[verb].split(), "--json"]) == 0
    held = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert next(iter(held.items())) == ("schema", SCHEMA) and len(held) > 1


def test_what_a_detector_says_of_files_too(tmp_path, monkeypatch, capsys):
    finding = image_files.Finding("a.png", "real", 0.25, {})
    monkeypatch.setattr(detector, "load", lambda _: None)
    monkeypatch.setattr(image_files, "judge", lambda *_: [finding])
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("likeness.cli.studies.on_runs", judged_only)
    assert main(["detect", str(tmp_path), "--images", "a.png", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held == dict(schema=SCHEMA, images=[finding._asdict() | {"remarks": []}])


def judged_only(argv: list[str], parser, data: bool) -> tuple[dict, list]:
    return parser.read(argv), []


def test_what_is_no_number_is_null():
    assert json.loads(document(dict(x=[float("nan"), 1.5], p=Path("a")))) == dict(
        schema=SCHEMA, x=[None, 1.5], p="a"
    )
