"""Every picture that likeness writes says how it was made: whatever verb writes it, in a file or inside a
page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from likeness import api, cli
from likeness.figures import png, read_recipe

TINY = ["--width", "8", "--depth", "1", "--latent", "2", "--precision", "fp32"]
WRITES = {
    "sample": [
        ["sample", "runs/v", "-n", "4", "-o", "one.png"],
        ["sample", "runs/v", "-n", "3", "-o", "files"],
        ["sample", "runs/v", "-n", "2"],
    ],
    "reconstruct": [
        ["reconstruct", "runs/v", "-n", "4", "-o", "back.png"],
        ["reconstruct", "runs/v", "-n", "4"],
        ["reconstruct", "runs/v", "-n", "4", "-o", "back.WEBP"],
        ["reconstruct", "runs/v", "-n", "4", "-o", "back.npz"],
    ],
    "trace": [["trace", "runs/p", "-o", "trace.png"]],
    "walk": [["walk", "runs/v", "path", "0", "1", "-o", "walk.png"]],
    "latent": [
        ["latent", "runs/v", "--picture", p, "-n", "2", "-o", f"{p}.png"]
        for p in ("random", "interpolation", "traversal", "plane")
    ],
    "complete": [
        ["complete", "runs/p", "-n", "2", "-o", "rest.png"],
        ["complete", "runs/p", "-n", "2", "-o", "rests"],
    ],
    "score": [["score", "runs/p", "-n", "2", "-o", "maps.png"]],
    "field": [
        ["field", "runs/p", "-n", "1", "-o", "field.png"],
        ["field", "runs/p", "-n", "1", "-o", "field.jpg"],
    ],
    "edit": [["edit", "runs/d", "-n", "2", "-o", "edits.png"], ["edit", "runs/d", "-n", "2", "-o", "edits"]],
    "paint": [
        ["paint", "runs/v", "--stroke", "colour:#999:0.5,0.5", "-n", "1", "--steps", "2", "-o", "painted"],
        [
            "paint",
            "runs/d",
            "--stroke",
            "colour:#999:0.5,0.5",
            "-n",
            "1",
            "--steps",
            "2",
            "-o",
            "painted.png",
        ],
    ],
    "diffuse": [
        ["diffuse", "runs/d", "--picture", p, "-n", "2", "-o", f"{p}.png"]
        for p in ("forward", "reverse", "schedule", "rate", "distortion")
    ],
    "evaluate": [["evaluate", "runs/v", "-n", "40"]],
    "map": [
        ["map", "digits", "-n", "60", "-o", "map.png"],
        ["map", "digits", "-n", "60", "--method", "pca", "-o", "pca.webp"],
        ["map", "digits", "-n", "60", "--perplexities", "3", "9", "-o", "maps.png"],
    ],
    "style": [
        ["style", "one.png", "one.png", "--weights", "none", "--steps", "2", "-o", "styled.png"],
        ["style", "one.png", "one.png", "--weights", "none", "--steps", "1", "--sheet", "-o", "sheet.png"],
    ],
    "translate": [["translate", "runs/t", "one.png", "-o", "translated"]],
    "neighbours": [["neighbours", "5", "digits", "-o", "near.png"]],
    "look": [
        ["look", "digits", "--pick", "3", "--network", "runs/c", *look]
        for look in ([], ["--what", "fool", "-o", "fooled.png"])
    ],
}
"""the verbs that write pictures, with commands that make them write; `train` writes before these"""
WRITES_NONE = {"train", "models", "data", "check", "detect", "export", "features", "completion"}
ELSEWHERE = {
    "bayes": "tests/test_bayes.py, since it trains for minutes",
    "imagine": "tests/test_imagine.py, since it needs a run that reads",
    "imagic": "tests/test_imagic.py, likewise",
    "studio": "tests/studio, since a browser asks it",
    "play": "tests/test_agents_runs.py, since its runs are of another kind",
}
ENCODERS = {
    "figures/files.py": "the one that adds the recipe",
    "figures/films.py": "the same of clips",
    "figures/photo_files.py": "the same of photos, with EXIF, colour profile and transparency",
    "inference/stylise.py": "a film, whose comment is the recipe",
    "explain/fooling.py": "JPEG that a fooling image must survive, decoded again at once",
    "data/unread.py": "a command that is printed for the user to type",
    "metrics/likelihood.py": "files that are weighed and thrown away",
    "studies/real_and_generated.py": "JPEG as a treatment, decoded again at once",
}
SRC = Path(cli.__file__).parent.parent


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder in which every verb that writes pictures has done so."""
    torch.set_num_threads(1)
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("LIKENESS_CACHE", str(here.parent / "cache"))
        assert cli.main(["train", "vae", "digits", "runs/v", "--images", "640", "--no-report", *TINY]) == 0
        assert (
            cli.main(
                [
                    "train",
                    "pixelcnn",
                    "digits",
                    "runs/p",
                    "--images",
                    "640",
                    "--no-report",
                    *(t for t in TINY if t not in ("--latent", "2")),
                ]
            )
            == 0
        )
        assert (
            cli.main(
                [
                    "train",
                    "ddpm",
                    "digits",
                    "runs/d",
                    "--images",
                    "320",
                    "--no-report",
                    "--scale",
                    "0.25",
                    "--steps",
                    "3",
                    "--precision",
                    "fp32",
                ]
            )
            == 0
        )
        assert (
            cli.main(
                [
                    "train",
                    "classifier",
                    "digits",
                    "runs/c",
                    "--images",
                    "640",
                    "--no-report",
                    "--precision",
                    "fp32",
                ]
            )
            == 0
        )
        Image.new("RGB", (32, 32), (90, 30, 200)).save("one.png")
        task = ["train", "pix2pix", "digits", "runs/t", "--task", "edges", "--images", "16", "--width", "8"]
        assert cli.main([*task, "--no-report", "--batch", "8", "--precision", "fp32"]) == 0
        for commands in WRITES.values():
            for command in commands:
                assert cli.main(command) == 0, command
    return here


def inside(page: str) -> list[bytes]:
    """The pictures within a page."""
    return [
        base64.b64decode(found) for found in re.findall(r"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", page)
    ]


def recipe(file: bytes) -> dict:
    """Of a PNG, JPEG or WebP file, by Pillow instead of by our own reader."""
    with Image.open(io.BytesIO(file)) as image:
        described = image.getexif().get(0x010E) if image.format == "WEBP" else None
        said = image.info.get("likeness") or image.info.get("comment") or described or "{}"
    return json.loads(said)


def names_its_run(said: dict) -> bool:
    runs = said.get("runs", [said])
    return bool(runs) and all(
        isinstance(r.get("run"), str) and r["run"] and isinstance(r.get("seen"), int) for r in runs
    )


def of_the_lab(said: dict) -> bool:
    """No run, but images, or a network with the hash of its weights, and what was done with them."""
    return {"picture", "data", "features"} <= said.keys() or (
        {"network", "weights"} < said.keys() and ("look" in said or {"style", "content"} <= said.keys())
    )


def test_every_picture_file_names_its_run_and_how_far_that_was(written):
    files = sorted(p for p in written.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".webp"))
    assert {p.name for p in files} >= {
        "one.png",
        "back.png",
        "back.WEBP",
        "field.jpg",
        "pca.webp",
        "pca-points.webp",
        "random.png",
        "plane.png",
        "rest.png",
        "maps.png",
        "field.png",
        "000000.png",
        "seed-0-n-2.png",
        "000000000640.png",
    }
    lacking = [
        str(p.relative_to(written))
        for p in files
        if not (names_its_run(said := recipe(p.read_bytes())) or of_the_lab(said))
    ]
    assert lacking == []
    assert all(read_recipe(p) == recipe(p.read_bytes()) for p in files)


def test_every_picture_inside_a_page_does_too(written):
    pages = sorted(written.rglob("*.html"))
    assert [p.name for p in pages].count("report.html") == 1
    for page in pages:
        found = inside(page.read_text())
        assert found and all(names_its_run(said := recipe(file)) or of_the_lab(said) for file in found), page


def test_a_sample_says_which_one_it_is(written):
    said = recipe((written / "files" / "000002.png").read_bytes())
    assert said["number"] == 2 and said["seed"] == 0 and said["model"] == "vae"
    again = api.open(written / "runs" / "v").sample(1, seed=said["seed"], first=said["number"])
    pixels = np.asarray(Image.open(written / "files" / "000002.png"))
    assert np.array_equal(
        ((np.asarray(again)[0, 0].clip(-1, 1) + 1) * 127.5).round().astype(np.uint8), pixels
    ), "from the recipe alone"


def test_no_verb_is_forgotten():
    """A new verb belongs into WRITES, with a command, or into one of the two sets beside it."""
    assert set(cli.VERBS) <= set(WRITES) | WRITES_NONE | set(ELSEWHERE)


def encodes(text: str) -> bool:
    """Whether a module writes pictures with Pillow or matplotlib itself."""
    return bool(
        re.search(
            r"""\.save\([^)]*["'](PNG|JPEG|WEBP|GIF|TIFF)["']|savefig\(|\.save\([^)]*\.(png|jpe?g|webp)["']|imsave\(""",
            text,
        )
    )


def test_nothing_writes_pictures_but_the_module_that_adds_the_recipe():
    found = {str(p.relative_to(SRC)) for p in SRC.rglob("*.py") if encodes(p.read_text())}
    assert "figures/files.py" in found and found <= set(ENCODERS)
    assert (
        encodes('Image.fromarray(x).save("out.png")')
        and encodes('image.save(file, "JPEG", quality=90)')
        and not encodes("run.save()")
    )


def test_a_picture_without_its_recipe_is_noticed(tmp_path):
    """The fakes: a chunk of another name, no run, and a file saved anew."""
    assert names_its_run(recipe(png(np.zeros((4, 4), np.uint8), dict(run="v", seen=3))))
    assert not names_its_run(recipe(png(np.zeros((4, 4), np.uint8), dict(seed=0))))
    again = io.BytesIO()
    Image.open(io.BytesIO(png(np.zeros((4, 4), np.uint8), dict(run="v", seen=3)))).save(again, "PNG")
    assert not names_its_run(recipe(again.getvalue()))
    assert not of_the_lab(dict(picture="map")) and not of_the_lab(dict(look="dream", network="vgg19"))


def test_pictures_of_the_docs_carry_theirs():
    docs = SRC.parents[1] / "docs" / "pictures"
    if not docs.is_dir():
        pytest.skip("installed without its docs")
    said = {p.name: recipe(p.read_bytes()) for p in docs.glob("*.png")}
    enough = {"data", "seed"}, {"run", "command"}
    lacking = [
        name
        for name, by in said.items()
        if not (names_its_run(by) or of_the_lab(by) or any(keys <= by.keys() for keys in enough))
    ]
    assert lacking == []
