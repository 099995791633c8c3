"""How surprising an image is, where in it, and what a prediction depends on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import likeness
from commands import ask, refused
from conftest import small_run, toy
from likeness import api, figures
from likeness import data as datasets
from likeness.cli import main
from likeness.core import Batch, Condition, Model, Noise, Refusal, Spec, answers
from likeness.data import user_images
from likeness.figures import read_recipe
from likeness.inference import inputs, receptive_field, score
from likeness.models import load
from likeness.parts.causal import CausalConv, groups

TINY = [
    "--width",
    "8",
    "--depth",
    "1",
    "--precision",
    "fp32",
    "--images",
    "3200",
    "--warmup",
    "0",
    "--no-report",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    here = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_CACHE", str(here.parent / "cache"))
        assert main(["train", "pixelcnn", "digits", str(here / "g"), *TINY]) == 0
        assert main(["train", "pixelcnn", "digits", str(here / "c"), "--conditional", *TINY]) == 0
        assert main(["train", "vae", "digits", str(here / "v"), "--latent", "2", *TINY]) == 0
        assert main(["train", "ae", "digits", str(here / "a"), "--latent", "2", *TINY]) == 0
        assert main(["train", "pixelcnn", "digits", str(here / "b"), "--binarize", *TINY]) == 0
    return here


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "gcvab":
        (tmp_path / name).symlink_to(trained / name)
    return tmp_path


# Numbers


@pytest.mark.parametrize("channels", [1, 3])
def test_the_surprise_map_sums_to_the_bits(tmp_path, channels):
    run = api.Trained(*small_run("pixelcnn", tmp_path / "r", toy(size=8, channels=channels)))
    scored = run.score(n=7)
    assert scored.kind == "exact" and scored.surprise is not None and scored.entropy is not None
    assert scored.surprise.shape == scored.entropy.shape == (7, channels, 8, 8)
    assert np.allclose(scored.surprise.flatten(1).mean(1), scored.bits, rtol=1e-5)
    assert not np.allclose(scored.entropy.flatten(1).mean(1), scored.bits, rtol=1e-3), (
        "the entropy is no copy of it"
    )
    assert float(scored.entropy.min()) >= 0 and float(scored.entropy.max()) <= 8 + 1e-5
    again = run.score(scored.x, names=[f"{i}.png" for i in range(7)])
    assert (
        np.allclose(again.bits, scored.bits, rtol=1e-6)
        and np.allclose(again.rank, scored.rank)
        and again.names[2] == "2.png"
    )


def test_a_rank_is_the_share_of_held_out_images_with_fewer_bits():
    usual = np.array([1.0, 2.0, 2.0, 3.0])
    assert score.rank(np.array([0.5, 1.0, 2.0, 2.5, 9.0]), usual).tolist() == [0, 0.125, 0.5, 0.75, 1]
    assert np.isnan(score.rank(np.array([1.0]), usual[:0])).all()


def test_ranks_of_all_held_out_images_are_spread_evenly(tmp_path):
    run = api.Trained(*small_run("pixelcnn", tmp_path / "r", toy(size=8)))
    scored = run.score(n=1000)
    assert len(scored) == scored.against == 16
    assert np.allclose(np.sort(scored.rank), (np.arange(16) + 0.5) / 16)
    assert [row["name"] for row in scored.rows()] == [
        scored.names[i] for i in np.argsort(-scored.bits, kind="stable")
    ]


def test_what_the_model_has_never_seen_is_surprising(here):
    scored = api.open("g").score(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert scored.rank.min() > 0.9


def test_without_held_out_images_there_is_no_rank(tmp_path):
    run = api.Trained(*small_run("pixelcnn", tmp_path / "r", toy(size=8, held_out=0)))
    with pytest.raises(Refusal, match="no image of toy was held out; name images of your own"):
        run.score()
    scored = run.score(torch.zeros(2, 1, 8, 8))
    assert scored.against == 0 and scored.rows()[0]["rank"] is None and "rank" not in repr(scored)


def test_values_between_two_levels_go_to_the_nearest():
    exact = pictures_of(17)
    assert torch.equal(inputs.on_grid(exact, 17), exact), "bits of what is on the grid stay"
    assert torch.allclose(inputs.on_grid(exact + 0.05, 17), exact.clamp(max=1)) and torch.equal(
        inputs.on_grid(exact * 0.9, 0), exact * 0.9
    )


def pictures_of(levels: int) -> Tensor:
    return (
        torch.from_numpy(np.round(np.arange(levels) * 255 / (levels - 1))).float().mul(2 / 255).sub(1)
        if levels == 256
        else torch.linspace(-1, 1, levels)
    )


def test_images_of_ones_own_become_black_and_white_by_the_rule_of_the_training(tmp_path, monkeypatch, capsys):
    """Each pixel by chance: they cost what held-out ones of the training cost, and a set is read as a
    training on it would read it."""
    monkeypatch.chdir(tmp_path)
    shade = np.where(np.arange(8) < 4, 80, 170) + np.random.default_rng(0).integers(-20, 21, (600, 8, 8))
    np.save("grey.npy", shade.astype(np.uint8))
    small = dict(width=8, depth=1, images=2560, rate=1e-2, warmup=0, ema=64, precision="fp32")
    run = likeness.train("pixelcnn", "grey.npy", "b", binarize=True, **small, progress=False)
    rows = run.data.held_out
    np.save("mine.npy", np.load("grey.npy")[rows])
    found = user_images.images("mine.npy", run.config.spec, run.config.data, len(rows))
    said, usual = run.score(found.x, maps=False), run.score(run.data.take(rows).x, maps=False)
    cut = run.score(torch.where(found.x > 0, 1.0, -1.0), maps=False)  # the fake
    error = math.sqrt((said.bits.var() + usual.bits.var()) / len(rows))
    assert (
        abs(said.bits.mean() - usual.bits.mean())
        < 4 * error
        < 20 * error
        < abs(cut.bits.mean() - usual.bits.mean())
    )
    assert torch.equal(said.x, datasets.load("mine.npy", binarize=True).take(np.arange(len(rows))).x)
    assert torch.equal(usual.x, run.data.take(rows).x), "what is black and white stays"
    assert torch.equal(run.score(found.x[:7], maps=False).x, said.x[:7]), "it depends on the other images"
    assert torch.equal(run.complete(found.x[:7], keep=0.5).x[:, :, :4], said.x[:7, :, :4])
    rows_said = {
        r["name"]: r["bits_per_dim"] for r in ask(capsys, "score", "b", "mine.npy", "-n", "9")["images"]
    }
    assert rows_said == pytest.approx(dict(zip(said.names[:9], said.bits[:9].tolist())))


# The verb


def test_held_out_images_are_scored_the_most_surprising_first(here, capsys):
    said = ask(capsys, "score", "g", "-n", "5", "-o", "maps.png")
    rows = said["images"]
    assert said["kind"] == "exact" and said["against"] > 100 and len(rows) == 5 and said["path"] == "maps.png"
    assert [r["bits_per_dim"] for r in rows] == sorted((r["bits_per_dim"] for r in rows), reverse=True)
    assert all(
        r["bits"] == pytest.approx(64 * r["bits_per_dim"]) and 0 <= r["rank"] <= 1 and "nats" not in r
        for r in rows
    )
    assert read_recipe(Path("maps.png")).items() >= dict(run="g", n=5, seed=0, model="pixelcnn").items()
    assert ask(capsys, "score", "g", "-n", "2")["path"] == "g/samples/surprise.png"
    assert {r["name"] for r in ask(capsys, "score", "g", "-n", "5", "--seed", "1")["images"]} != {
        r["name"] for r in rows
    }


def test_a_table_for_people(here, capsys):
    assert main(["score", "g", "-n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].split() == ["image", "bits/dim", "bits", "rank"]
        and len(lines) == 6
        and lines[-1] == "maps: g/samples/surprise.png"
    )
    assert "bits are exact; rank: share of" in lines[-2]


def test_a_likelihood_given_the_class_says_so(here, capsys):
    assert ask(capsys, "score", "g", "-n", "2")["measure"] == "bits/dim"
    assert ask(capsys, "score", "c", "-n", "2")["measure"] == "bits/dim given the class"
    assert main(["score", "c", "-n", "2"]) == 0
    assert "bits are exact, of an image given the class; rank" in capsys.readouterr().out


def test_black_and_white_images_are_scored_in_nats_too(here, capsys):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save("grey.png")
    row = ask(capsys, "score", "b", "grey.png", "-o", "maps.npz")["images"][0]
    assert row["nats"] == pytest.approx(row["bits"] * math.log(2)) and row["name"] == "grey.png"


def test_maps_are_saved_as_numbers(here, capsys):
    said = ask(capsys, "score", "g", "-n", "4", "-o", "maps.npz")
    with np.load("maps.npz") as file:
        kept = {name: file[name] for name in file.files}
    assert (
        kept["surprise_bits"].shape == kept["entropy_bits"].shape == (4, 1, 8, 8)
        and kept["surprise_bits"].dtype == np.float32
    )
    assert np.allclose(kept["surprise_bits"].sum((1, 2, 3)) / 64, kept["bits_per_dim"], rtol=1e-5)
    assert {r["name"]: r["bits_per_dim"] for r in said["images"]} == dict(
        zip(kept["names"].tolist(), kept["bits_per_dim"].tolist())
    )
    assert json.loads(str(kept["recipe"]))["run"] == "g"


def test_images_of_ones_own_have_the_names_of_their_files(here, capsys):
    (here / "mine" / "deep").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 20, 3), np.uint8)).save(
            here / "mine" / "deep" / f"noise {i}.png"
        )
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(here / "mine" / "black.png")
    Image.fromarray(np.full((9, 20), 99, np.uint8)).save(here / "mine" / "grey.png")
    (here / "mine" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert main(["score", "g", "mine", "--json"]) == 0
    out, err = capsys.readouterr()
    rows = {r["name"]: r for r in json.loads(out)["images"]}
    assert (
        set(rows) == {"black.png", "grey.png", *(f"deep/noise {i}.png" for i in range(3))}
        and "1 skipped" in err
    )
    assert rows["black.png"]["rank"] < 0.05 and rows["deep/noise 1.png"]["rank"] > 0.95
    np.save("mine.npy", np.zeros((3, 8, 8), np.uint8))
    assert [r["name"] for r in ask(capsys, "score", "g", "mine.npy")["images"]] == [
        "image 0",
        "image 1",
        "image 2",
    ]


def test_a_model_without_maps_gives_numbers(here, capsys):
    said = ask(capsys, "score", "v", "-n", "3")
    assert said["kind"] == "upper bound" and said["path"] is None and len(said["images"]) == 3
    assert ask(capsys, "score", "v", "-n", "3", "--k", "20")["images"] != said["images"], (
        "live options are used"
    )
    assert main(["score", "v", "-n", "3"]) == 0 and "bits are an upper bound" in capsys.readouterr().out
    assert (
        repr(api.open("v").score(n=2)).count("bits/dim") == 2
        and api.open("v").score(n=2)._repr_png_() is None
    )
    with pytest.raises(Refusal, match="numbers of whole images"):
        api.open("v").score(n=2).save("x.png")
    assert not Path("x.png").exists()


def test_what_cannot_be_scored_is_refused_with_a_lesson(here, capsys):
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save("grey.png")
    cases = {
        (
            "score",
            "v",
            "-o",
            "maps.png",
        ): "vae cannot say where in an image its bits are (likeness field",
        ("score", "a"): "ae cannot say how likely an image is (likeness score); it can: ",
        ("score", "a", "-o", "maps.png"): "ae cannot say how likely",
        ("score", "g", "-o", "maps.npy"): "should end in .png or .jpg or .jpeg or .webp or .npz",
        ("score", "g", "nowhere"): "there is no folder, file or set called 'nowhere'",
        ("score", "c", "grey.png"): "judges an image of a class, so say which as its label; name one of: 0",
        ("score", "c", "--label", "3"): "held-out images have classes of their own",
        ("score", "g", "grey.png", "--label", "3"): "not class-conditional",
        ("field", "v"): "vae cannot say where in an image its bits are (likeness field",
        ("field", "g", "-o", "field.npy"): "should end in .png",
    }
    for argv, lesson in cases.items():
        assert lesson in refused(capsys, *argv), argv
    assert (
        ask(capsys, "score", "c", "grey.png", "--label", "3")["images"]
        != ask(capsys, "score", "c", "grey.png", "--label", "4")["images"]
    )
    assert len(ask(capsys, "score", "c", "-n", "2")["images"]) == 2


# The picture


def test_the_picture_has_a_row_an_image_and_a_map_a_channel(tmp_path):
    grey, colour = (
        api.Trained(*small_run("pixelcnn", tmp_path / str(c), toy(size=8, channels=c))).score(n=3)
        for c in (1, 3)
    )
    assert colour.page().shape[1] > grey.page().shape[1] + 2 * 84 and grey.page().dtype == np.uint8
    assert (
        api.Trained(*small_run("pixelcnn", tmp_path / "many", toy(200, size=8, held_out=100)))
        .score(n=100)
        .page()
        .shape[0]
        < 33 * 110
    )


def test_colours_rise_with_the_number():
    ramp = figures.heat(np.linspace(0, 1, 50)).astype(float) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(ramp) > 0).all()
    assert np.array_equal(
        figures.heat(np.array([-1.0, 2.0, np.nan])), figures.heat(np.array([0.0, 1.0, 0.0]))
    )
    assert [score._round(v) for v in (0.0, 0.071, 1.0, 1.2, 4.9, 7.5)] == pytest.approx(
        [1, 0.1, 1, 1.5, 5, 10]
    )


# The receptive field

Offsets = set[tuple[int, int]]
BLOCK: Offsets = {(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)}
ABOVE: Offsets = {(r, c) for r in (-1, 0) for c in (-1, 0, 1)}


def reached(a: Offsets, b: Offsets) -> Offsets:
    return {(r + s, c + d) for r, c in a for s, d in b}


def by_counting(net: str, depth: int) -> Offsets:
    """What a network of kernels of 3 sees, as places before the pixel, by walking through its kernels."""
    down, along, plain = {(-1, c) for c in (-1, 0, 1)}, {(0, -1)}, BLOCK - {(0, 0)}
    for _ in range(depth):
        plain, down = reached(plain, BLOCK), reached(down, ABOVE)
        along = reached(along, {(0, -1), (0, 0)}) | down
    return {"plain": plain, "gated": along}[net]


def expected(net: str, depth: int, size: int, row: int, column: int) -> set[tuple[int, int]]:
    found = {(row + r, column + c) for r, c in by_counting(net, depth)}
    return {(r, c) for r, c in found if 0 <= r < size and 0 <= c < size}


def seen(one: receptive_field.Field) -> set[tuple[int, int]]:
    return {(int(r), int(c)) for r, c in (one.influence * one.before).nonzero()}


@pytest.fixture
def nets(tmp_path) -> dict[str, list[receptive_field.Field]]:
    options = dict(depth=2, first=3, kernel=3, width=16)
    return {
        n: api.Trained(
            *small_run("pixelcnn", tmp_path / n, toy(size=12), options=options | dict(net=n))
        ).field()
        for n in ("plain", "gated")
    }


def test_the_blind_spot_is_seen_and_counted_exactly(nets):
    for net, found in nets.items():
        assert [(one.row, one.column, one.how) for one in found] == [
            (6, 6, "derivatives"),
            (11, 6, "derivatives"),
        ]
        for one in found:
            assert seen(one) == expected(net, 2, 12, one.row, one.column) and one.leaks == 0, net
            assert one.seen == len(seen(one)) and f"sees {one.seen} of {one.row * 12 + 6} earlier" in one.says
    plain, gated = (seen(nets[n][0]) for n in ("plain", "gated"))
    assert plain < gated and {(5, 8), (5, 9), (4, 9)} == gated - plain, "the wedge above and to the right"


def test_of_symbols_there_is_no_derivative_and_changes_find_the_same(tmp_path):
    torch.manual_seed(0)
    for net in ("plain", "gated"):
        spec = Spec(2, 8, levels=5, symbols=True)
        model = load("pixelcnn")(spec=spec, net=net, depth=1, first=3, kernel=3, width=8).eval()
        x = torch.randint(0, 5, (2, 2, 8, 8)) / 2 - 1
        for one in receptive_field.fields(model, Batch(x, None, Noise(range(2))), "codes"):
            assert (
                one.how == "changed levels"
                and one.leaks == 0
                and seen(one) == expected(net, 1, 8, one.row, one.column)
            )


class Cheat(Model):
    """Sees its neighbours on all sides, which is no factorisation."""

    def build(self) -> None:
        self.net = nn.Conv2d(1, 1, 3, padding=1)

    def surprise(self, x: Tensor, y: Condition | None = None) -> Tensor:
        return self.net(x).square()

    entropy = surprise


def test_a_model_that_looks_ahead_is_found_out():
    one = receptive_field.fields(
        Cheat(spec=Spec(1, 8)), Batch(torch.rand(2, 1, 8, 8), None, Noise(range(2))), "cheat"
    )[0]
    assert one.seen == 4 and one.leaks == 5 and "and ITSELF and 4 LATER ones: a defect" in one.says


@pytest.mark.parametrize("channels, symbols", [(1, False), (3, False), (1, True), (2, True)])
@pytest.mark.parametrize("net", ["plain", "gated"])
def test_a_model_whose_pixels_see_themselves_is_found_out(net, channels, symbols):
    """REFERENCE 1.1's fake, mask B in the first layer: log p(x_i) may change with x_i, what is expected of it
    may not."""
    torch.manual_seed(0)
    spec = Spec(channels, 8, levels=4, symbols=symbols)
    model = load("pixelcnn")(spec=spec, net=net, depth=1, first=3, kernel=3, width=12).eval()
    batch = Batch(torch.randint(0, 4, (2, channels, 8, 8)) * (2 / 3) - 1, None, Noise(range(2)))
    honest = receptive_field.fields(model, batch, "honest")
    assert [one.leaks for one in honest] == [0, 0]
    first = next(m for m in model.modules() if isinstance(m, CausalConv) and m.mask is not None)
    allowed = (
        groups(first.out_channels, channels)[:, None, None, None]
        >= groups(first.in_channels, channels)[:, None, None]
    )
    first.mask[:, :, -1:, first.left : first.left + 1] = allowed
    for one, before in zip(receptive_field.fields(model, batch, "cheat"), honest):
        assert (
            one.leaks == 1
            and ("and ITSELF: a defect") in one.says
            and one.how == before.how == ("changed levels" if symbols else "derivatives")
        )
        assert one.as_dict()["later"] == 1 and seen(one) >= seen(before)


def test_the_verb_puts_runs_side_by_side(here, capsys):
    said = ask(capsys, "field", "g", "b", "-n", "2", "-o", "field.png")
    assert [(f["name"], f["row"], f["column"], f["later"]) for f in said["fields"]] == [
        (f"{r}: pixelcnn", row, 4, 0) for r in "gb" for row in (4, 7)
    ]
    assert all(0 < f["seen"] <= f["earlier"] == f["row"] * 8 + 4 for f in said["fields"])
    recipe = read_recipe(Path("field.png"))
    assert [r["run"] for r in recipe["runs"]] == ["g", "b"] and recipe["n"] == 2
    assert main(["field", "c", "-o", "c.png"]) == 0 and "earlier pixels" in capsys.readouterr().out


def test_the_panel_marks_what_is_not_seen(nets):
    page = receptive_field.page(list(nets.values()), 4)
    counts = {
        net: int((receptive_field._panel(found[0]) == np.array(receptive_field.UNSEEN)).all(-1).sum())
        for net, found in nets.items()
    }
    assert counts == {net: 78 - found[0].seen for net, found in nets.items()} and page.dtype == np.uint8
    assert (receptive_field._panel(nets["gated"][0])[6, 6] == np.array(receptive_field.OWN)).all()


def test_the_questions_are_declared_by_the_methods():
    assert {"complete", "surprise"} <= set(answers(load("pixelcnn"))) and not {"complete", "surprise"} & set(
        answers(load("vae"))
    )


@pytest.mark.parametrize("verb", ["complete", "score", "field"])
def test_the_verbs_have_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0 and f"likeness {verb} RUN" in capsys.readouterr().out
