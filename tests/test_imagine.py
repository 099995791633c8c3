"""likeness imagine: a text that somebody types becomes images; what is drawn depends on it, and unknown words
are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from commands import ask, refused
from likeness.cli import main
from likeness.core import Refusal
from likeness.data.captions import Vocabulary
from likeness.figures import read_recipe
from likeness.inference import imagine

WORDS = Vocabulary(("a", "red", "circle", "large", "on"), 4)


# What is read


def test_a_text_is_read_in_the_words_of_the_run():
    assert imagine.read("A red circle", WORDS) == imagine.Text("A red circle", (), ())
    text = imagine.read("a rde circel", WORDS)
    assert text.unknown == ("rde", "circel")
    assert "for 'rde' did you mean 'red'?" in text.notes[0] and "did you mean 'circle'?" in text.notes[0]
    (note,) = imagine.read("", WORDS).notes
    assert "as if nothing were asked for" in note


def test_what_is_too_long_is_cut_and_told():
    long = imagine.read(" ".join(["large red circle a"] * 2500), WORDS)
    assert long.text == "large red circle a" and len(long.notes) == 1
    assert "10,000 words" in long.notes[0] and "up to 'a', word 4" in long.notes[0]
    strange = imagine.read(" ".join(f"word{i}" for i in range(10_000)), Vocabulary(("a",), 77))
    assert "69 more" in strange.notes[1] and len(strange.notes[1]) < 500


def test_texts_of_a_file_are_its_lines(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\ufeffa red circle\n\n  on \r\n", encoding="utf-8")
    assert imagine.texts_of(file) == ["a red circle", "on"]
    for wrong, why in ((b"\n\n", "has 0 texts"), (b"\xff\xfe\x00a", "no text in UTF-8")):
        file.write_bytes(wrong)
        with pytest.raises(Refusal, match=why):
            imagine.texts_of(file)
    with pytest.raises(Refusal, match="cannot be read"):
        imagine.texts_of(tmp_path / "none")


# A run


def captioned(folder: Path, n: int = 24) -> Path:
    """Images of one brightness, which their captions name."""
    folder.mkdir()
    lines = []
    for i in range(n):
        light = i % 2
        Image.fromarray(np.full((8, 8), 60 + 130 * light + i, np.uint8)).save(folder / f"{i}.png")
        lines.append(
            json.dumps({"file_name": f"{i}.png", "text": f"a {'light' if light else 'dark'} square"})
        )
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """One that has learnt hardly anything, and its weights shaken so that words count."""
    here = tmp_path_factory.mktemp("imagine")
    data, out = captioned(here / "data"), {}
    for name, options in (
        ("edm", dict(text=True, net="mlp", scale=0.25, steps=2)),
        ("dalle", dict(width=8, depth=1, heads=2)),
        ("vae", dict(width=8, depth=1, latent=2)),
    ):
        out[name] = here / name
        likeness.train(name, data, out[name], images=32, batch=16, progress=False, size=8, **options)
    return out


def shaken(folder: Path) -> likeness.api.Trained:
    run = likeness.open(folder)
    torch.manual_seed(0)
    for p in run.model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return run


def test_what_is_drawn_depends_on_the_text_and_on_nothing_else(runs):
    run = shaken(runs["edm"])
    both = run.imagine(["a light square", "a dark square"], n=3, seed=1)
    assert len(both) == 6 and both.recipe["texts"] == ["a light square", "a dark square"]
    alone = run.imagine("a dark square", n=3, seed=1)
    assert torch.allclose(both.x[3:], alone.x, atol=1e-5), "in any company"
    assert torch.allclose(run.imagine("a dark square", n=1, seed=1).x, alone.x[:1], atol=1e-5)
    assert not torch.allclose(both.x[:3], both.x[3:], atol=1e-2)
    assert not torch.allclose(alone.x, run.imagine("a dark square", n=3, seed=2).x, atol=1e-2)
    (tokens,) = run.config.words.tokens(["a dark square"])
    y = likeness.core.Condition(tokens=torch.tensor(tokens).long().expand(3, -1))
    by_hand = likeness.core.final(run.model.sample(likeness.engine.sampling_noise(1, 0, 3), y))
    assert torch.allclose(by_hand, alone.x, atol=1e-5)


def test_a_grid_has_each_value_of_its_options(runs):
    run = shaken(runs["edm"])
    drawn = run.imagine("a light square", n=2, grid=dict(guidance=[1.0, 3.0], steps=[1, 2, 3]))
    assert len(drawn) == 12 and drawn.recipe["grid"] == dict(guidance=[1.0, 3.0], steps=[1, 2, 3])
    single = run.imagine("a light square", n=2, guidance=3.0, steps=2)
    assert torch.allclose(drawn.x[8:10], single.x, atol=1e-5), "row by row"
    tile = 64
    assert drawn.page.shape[0] >= 2 * tile and drawn.page.shape[1] >= 6 * tile
    several = run.imagine(["a light square", "a dark square"], n=1, grid=dict(guidance=[1.0, 3.0]))
    alone = run.imagine("a dark square", n=1, guidance=3.0)
    assert torch.allclose(several.x[3:], alone.x, atol=1e-5), "cell by cell, in it text by text"
    with pytest.raises(Refusal, match="one or two options"):
        run.imagine("a", grid=dict(guidance=[1.0], steps=[1], eta=[0.0]))


def test_the_page_puts_each_image_where_its_words_are():
    asked = imagine.Asked(("x", "y"), 2, grid=dict(guidance=[1.0, 2.0], steps=[5, 6]))
    x = torch.linspace(-0.8, 0.7, asked.total)[:, None, None, None].expand(-1, 1, 8, 8)
    page = imagine.page(x, asked)
    levels = [int(v) for v in ((x[:, 0, 0, 0] + 1) * 127.5).round()]
    found = {}
    for level in levels:
        same = (page == level).all(-1)
        inside = same[:-63, :-63] & same[63:, 63:] & same[:-63, 63:] & same[63:, :-63]
        found[level] = tuple(np.argwhere(inside)[0])
    rows, columns = ([*dict.fromkeys(sorted(at[k] for at in found.values()))] for k in (0, 1))
    order = [(rows.index(found[v][0]), columns.index(found[v][1])) for v in levels]
    # of each cell (guidance, steps): text x twice, text y twice
    expected = [(2 * g + t, 2 * s + i) for g in (0, 1) for s in (0, 1) for t in (0, 1) for i in (0, 1)]
    assert order == expected


def test_a_negative_text_leads_away_and_needs_guidance(runs):
    for name in ("edm", "dalle"):
        run = shaken(runs[name])
        usual = run.imagine("a light square", n=2, guidance=3.0)
        away = run.imagine("a light square", n=2, guidance=3.0, negative="a dark square")
        assert not torch.equal(usual.x, away.x) and away.recipe["negative"] == "a dark square"
        same = run.imagine("a light square", n=2, guidance=3.0, negative="a light square")
        assert torch.allclose(same.x, run.imagine("a light square", n=2).x, atol=1e-4), "away from itself"
        with pytest.raises(Refusal, match="--guidance 1 is not at all"):
            run.imagine("a light square", negative="a dark square")


def test_models_without_texts_are_refused_with_what_to_train(runs, tmp_path):
    with pytest.raises(Refusal, match="dalle, and ddpm, edm, flowmatching and meanflow"):
        likeness.open(runs["vae"]).imagine("a")
    run = likeness.open(runs["edm"])
    run.model.text = False
    with pytest.raises(Refusal, match="likeness train edm DATA --text"):
        run.imagine("a")


# The command line


def test_the_command_writes_a_picture_with_its_recipe(runs, tmp_path, capsys):
    run, out = str(runs["edm"]), tmp_path / "out.png"
    result = ask(capsys, "imagine", run, "a", "lihgt", "square", "-n", "2", "-o", str(out), "--guidance", "2")
    assert result["texts"] == ["a lihgt square"], "words that a shell has taken apart"
    assert result["unknown"] == ["lihgt"] and result["path"] == str(out)
    recipe = read_recipe(out)
    assert recipe["texts"] == ["a lihgt square"] and recipe["guidance"] == 2 and recipe["n"] == 2
    assert main(["imagine", run, "a lihgt square", "-n", "1", "-o", str(out)]) == 0
    assert "did you mean 'light'?" in capsys.readouterr().err
    texts = tmp_path / "texts.txt"
    texts.write_text("a light square\na dark square\n")
    array = tmp_path / "x.npy"
    grid = ["--grid", "guidance=1,2,4", "steps=1,2"]
    assert ask(capsys, "imagine", run, "--texts", str(texts), "-o", str(array), *grid)["grid"]["steps"] == [
        1,
        2,
    ]
    assert np.load(array).shape == (12, 8, 8, 1)
    for ending in (".webp", ""):
        assert main(["imagine", run, "", "-o", str(tmp_path / f"other{ending}")]) == 0
    assert "as if nothing were asked for" in capsys.readouterr().err
    assert ask(capsys, "imagine", str(runs["dalle"]), "a light square", "-n", "1")["model"] == "dalle"


def test_a_text_of_ten_thousand_words_is_cut(runs, tmp_path, capsys):
    long = " ".join(["light square"] * 5000)
    assert main(["imagine", str(runs["edm"]), long, "-n", "1", "-o", str(tmp_path / "x.png")]) == 0
    assert "10,000 words" in capsys.readouterr().err
    assert read_recipe(tmp_path / "x.png")["texts"] == ["light square light"]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ([], "no text was typed"),
        (["a", "--grid", "guidance"], "guidance=1,2,4"),
        (["a", "--grid", "width=1,2"], "its options are"),
        (["a", "--grid", "steps=1,x"], "no value of --steps"),
        (["a", "--grid", "steps=1,2", "--steps", "3"], "say the same"),
        (["a", "--grid", "steps=1,2", "eta=0,1", "guidance=1,2"], "one or two options"),
        (["a", "-o", "x.bmp"], "should end in"),
        (["a", "--grid", "guidance=-3,1"], "guidance must be between"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(runs, capsys, typed, why):
    assert why in refused(capsys, "imagine", str(runs["edm"]), *typed)
