"""Pictures that carry their recipe, and a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import likeness
from likeness import figures
from likeness.core import BadData, Condition, Model, Noise, NotAllowed, Refusal, Training, duration, option
from likeness.data import Data
from likeness.metrics.card import Score
from likeness.reports import run_page, terminal
from likeness.runs.run import Config

EVIL = """</title><script>alert("1")</script>'"&<img src=http://evil.example/x>"""
LONE = {"meta", "img", "path", "polyline", "br"}


def floats(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Pictures


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 8, 28, 64])
def test_a_grid_can_be_cut_again(channels, size):
    x = floats(7, channels, size, size)
    page = figures.grid(x)
    assert page.dtype == np.uint8 and page.shape[2] == 3 and page.shape[1] >= 3 * figures.TILE
    assert np.array_equal(figures.ungrid(page, size)[:7], figures.pixels(x))
    assert (
        figures.ungrid(page[:-1], size) is None
        and figures.ungrid(np.zeros((0, 0, 3), np.uint8), size) is None
    )


def test_levels_survive_and_what_is_no_number_is_grey():
    levels = torch.arange(256.0)
    assert figures.pixels((levels / 127.5 - 1).view(1, 1, 16, 16))[0, :, :, 0].ravel().tolist() == list(
        range(256)
    )
    odd = torch.tensor([math.nan, math.inf, -math.inf, 5.0]).view(1, 1, 2, 2)
    assert figures.pixels(odd)[0, :, :, 0].ravel().tolist() == [128, 255, 0, 255]


def test_columns_scale_and_gap_are_honoured():
    assert figures.grid(floats(6, 1, 10, 10), columns=6, gap=1, scale=2).shape == (22, 6 * 21 + 1, 3)
    assert figures.grid(floats(2, 3, 10, 20), columns=9, gap=0, scale=1).shape == (10, 40, 3)
    with pytest.raises(Refusal, match="no image"):
        figures.grid(floats(0, 1, 8, 8))


def test_strips_put_an_image_above_its_partner():
    a, b = floats(5, 1, 8, 8), floats(5, 1, 8, 8, seed=1)
    page = figures.strips(a, b, columns=3, gap=2, scale=1)
    assert np.array_equal(page[2:10, 2:10], figures.pixels(a)[0]) and np.array_equal(
        page[14:22, 2:10], figures.pixels(b)[0]
    )
    assert figures.strips(a, b, columns=2, gap=0, scale=1).shape == (6 * 8, 16, 3)


def test_every_png_carries_its_recipe(tmp_path):
    recipe = {"command": "likeness sample 'runs/ü'", "seed": 3, "run": EVIL}
    image = figures.grid(floats(4, 3, 8, 8))
    figures.write_png(tmp_path / "x.png", image, recipe)
    assert figures.read_recipe(tmp_path / "x.png") == recipe | {"likeness": likeness.__version__}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)
    assert figures.png(image, recipe) == (tmp_path / "x.png").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_pictures_of_others_are_refused_in_a_sentence(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "bare.png")
    good = figures.png(np.zeros((4, 4, 3), np.uint8), {"a": 1})
    (tmp_path / "damaged.png").write_bytes(good.replace(b'{"a": 1', b'{"a"; 1'))
    (tmp_path / "text.png").write_text("likeness\0{}")
    for name, kind in (
        ("bare.png", Refusal),
        ("damaged.png", BadData),
        ("text.png", Refusal),
        ("none.png", Refusal),
    ):
        with pytest.raises(kind, match=name):
            figures.read_recipe(tmp_path / name)


@given(st.binary(max_size=80))
def test_no_bytes_make_reading_a_recipe_fail(tail):
    assert figures.files._text(b"\x89PNG\r\n\x1a\n" + tail, b"likeness") is None or b"likeness\0" in tail


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path, image = tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8)
    figures.write_png(path, image, {"n": 1})

    def full(*_: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(figures.files.os, "replace", full)
    with pytest.raises(NotAllowed, match="denied"):
        figures.write_png(path, image, {"n": 2})
    assert figures.read_recipe(path)["n"] == 1 and len(list(tmp_path.iterdir())) == 1


# Curves


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_an_axis_has_a_few_round_numbers_within_it(low, spread):
    axis = figures.Axis(np.array([low, low + spread]), 100.0, log=False)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8 and all(-1e-6 <= axis.place(t) <= 100 + 1e-6 for t in ticks)


@given(st.floats(1e-9, 1e9), st.floats(1.0, 1e9))
def test_a_logarithmic_axis_too(low, factor):
    axis = figures.Axis(np.array([low, low * factor]), 100.0, log=True)
    assert 1 <= len(axis.ticks()) <= 40 and all(-1e-6 <= axis.place(t) <= 100 + 1e-6 for t in axis.ticks())


def test_a_curve_shows_its_last_value_and_survives_bad_ones():
    y = np.r_[np.nan, np.linspace(9, 1, 1000), np.inf]
    svg = figures.curve(np.arange(1002.0), y, EVIL, "images seen")
    tree(svg)
    assert "<script" not in svg and html.escape(EVIL)[:20] in svg and len(svg) < 40_000
    assert figures.curve(np.zeros(3), np.full(3, np.nan), "loss", "") == ""
    assert "<polyline" in figures.curve(np.arange(2.0), np.zeros(2), "constant", "")


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=6, unique_by=lambda v: f"{v:.12g}"))
def test_two_places_of_an_axis_never_bear_one_label(ticks):
    assert len(set(figures.labels(ticks))) == len(ticks)
    assert figures.labels([0.25, 5.4, 12000.0]) == ["0.25", "5.4", "12k"]


def test_the_local_mean_is_calmer_than_the_curve():
    even, wild = np.linspace(0, 1, 1000), np.random.default_rng(0).normal(size=1000)
    assert figures.smooth(even, np.full(1000, 5.0)) == pytest.approx(np.full(1000, 5.0))
    assert figures.smooth(even, wild).std() < 0.2 * wild.std()
    assert np.array_equal(figures.smooth(even[:1000:100], wild[:10]), wild[:10])


@pytest.mark.parametrize("log", [False, True])
def test_the_local_mean_lags_nowhere(log):
    """A falling line, logged every 64 images and drawn over either axis: the dark line must lie upon it."""
    x = np.arange(1, 401) * 64.0
    axis = figures.Axis(x, 1.0, log)
    places = np.array([axis.place(v) for v in x])
    lag = figures.smooth(places, 1 - places) - (1 - places)
    # at both ends one side is missing
    assert abs(lag).max() < 0.016 and abs(lag[(places > 0.6) & (places < 0.9)]).max() < 0.005
    average, out = 1 - places[0], []
    for value in 1 - places:
        average += (value - average) / 20
        out.append(average)
    # the fake: an average of what came before
    assert abs(np.array(out) - (1 - places)).max() > (0.1 if log else 0.03)


# The page


class Tree(HTMLParser):
    """Every tag closed in its order, every attribute seen."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in LONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def tree(text: str) -> Tree:
    parser = Tree()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


class Painter(Model):
    latent: int = option(4, "numbers in the code", 1, 99)
    name: str = option("plain", "text")
    draw: bool = option(True, "draw", live=True)

    training = Training(rate=2e-3)

    def build(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : self.latent]

    def decode(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(len(z), *self.spec.shape)

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield noise.uniform(*self.spec.shape) * 2 - 1


class Mute(Model):
    def build(self) -> None:
        pass


def world(
    folder, kind: type[Model] = Painter, source: str = "photos", seen: int = 6400, size: int = 8, **options
):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (90, 3, size, size)).astype(np.uint8)
    data = Data(
        source,
        "f00d" * 16,
        x,
        np.arange(60),
        np.arange(60, 90),
        verdict=f"90 images: 90 used ({source})",
        classes=(source,),
        y=np.zeros(90, np.int64),
    )
    model = kind(spec=data.spec, **options).eval()
    facts = {"likeness": "0.1.0", "torch": "2.13", "threads": 1, "device": source}
    config = Config(
        source,
        data.spec,
        Training(rate=5e-3, precision="fp32"),
        model.options(),
        dict(source=source, fingerprint="f00d"),
        facts,
    )
    times = [dict(seconds=i * 1.5, images_per_second=900.0 + i, memory_mb=300) for i in range(30)]
    lines = [
        dict(seen=64 * 2**i, losses={"model": 9.0 / (i + 1), source: float(i)}, time=t)
        for i, t in enumerate(times[: 12 * bool(seen)])
    ]
    return SimpleNamespace(
        folder=folder,
        config=config,
        model=model,
        seen=seen,
        seconds=times[11]["seconds"],
        weights="EMA",
        log=lambda: lines,
    ), data


def snapshots(folder, n: int, size: int = 8) -> None:
    (folder / "samples").mkdir()
    for i in range(n):
        figures.write_png(
            folder / "samples" / f"{64 * 2**i:012d}.png",
            figures.grid(floats(9, 3, size, size, seed=i)),
            {"seen": i},
        )


SCORES = [
    Score(
        "bits/dim",
        5.0,
        n=30,
        low=4.9,
        high=5.1,
        how="95 % bootstrap over images",
        kind="upper bound",
        better="lower",
        settings={"seen": 6400, "k": 1},
    ),
    Score(
        "bits/dim", 8.0, of="uniform", n=30, kind="exact", better="lower", note="every image equally likely"
    ),
    Score("bits/dim", 4.0, of="independent pixels", n=30, against=60, kind="exact", better="lower"),
    Score("active units", 0.0, n=30, warnings=(f"the posterior has collapsed {EVIL}",)),
    Score("refused one", math.nan, n=30, warnings=(EVIL,)),
]


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    run, data = world(tmp_path)
    snapshots(tmp_path, 11)
    path = run_page.write(run, data, SCORES[:3])
    text = path.read_text()
    page = tree(text)
    (tmp_path / "plain").touch()
    assert path == tmp_path / "report.html" and path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert "default-src 'none'" in text and not {"script", "link", "iframe", "object", "base", "form"} & {
        tag for tag, _ in page.seen
    }
    for tag, attrs in page.seen:
        assert not {a for a in attrs if a.startswith("on")} and "href" not in attrs
        assert tag != "img" or (attrs["src"].startswith("data:image/png;base64,") and "alt" in attrs)
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert (
        "http:" not in outside
        and "https:" not in outside
        and "//" not in outside
        and "url(" not in outside
        and "@import" not in outside
    )
    for words in (
        "Samples",
        "Reconstructions",
        "Nearest training images",
        "Over time",
        "Learning curves",
        "Scores",
        "How to make it again",
        "6,400",
        "4.900 – 5.100",
    ):
        assert words in page.text
    assert all(attrs.get("aria-label") for tag, attrs in page.seen if attrs.get("role") == "img")


def test_the_time_of_a_training_is_that_at_its_end_and_not_at_the_last_line_of_its_log(tmp_path):
    run, data = world(tmp_path)
    last = next(line["time"]["seconds"] for line in reversed(run.log()) if "time" in line)
    run.seconds = last + 3600
    known = run_page._facts(run, data)
    assert f"<dt>training time</dt><dd>{duration(run.seconds)}</dd>" in known
    run.seen = 0
    assert "training time" not in run_page._facts(run, data)


def test_hostile_names_stay_names(tmp_path):
    run, data = world(tmp_path, source=EVIL, name=EVIL)
    text = run_page.page(run, data, SCORES)
    page = tree(text)
    assert (
        "<script" not in text
        and "evil.example" in page.text
        and text.split("<style>")[0].count("<title>") == 1
    )
    assert all(attrs["src"].startswith("data:") for tag, attrs in page.seen if tag == "img")


def test_the_same_run_gives_the_same_page(tmp_path):
    assert run_page.page(*world(tmp_path), SCORES) == run_page.page(*world(tmp_path), SCORES)


def test_warnings_come_first_and_baselines_are_named(tmp_path):
    page = tree(run_page.page(*world(tmp_path), SCORES)).text
    assert (
        ("60 training images are few") in page
        and ("behind independent pixels (4.000)") in page
        and "collapsed" in page
    )
    assert page.index("collapsed") < page.index("Samples")
    assert "behind" not in tree(run_page.page(*world(tmp_path), SCORES[:2])).text
    assert "not been evaluated" in tree(run_page.page(*world(tmp_path), [])).text


def test_a_run_that_has_done_nothing_and_says_nothing_has_a_page(tmp_path):
    run, data = world(tmp_path, kind=Mute, seen=0)
    page = tree(run_page.page(run, data, []))
    assert (
        ("too early to judge") in page.text
        and "Samples" not in page.text
        and "Learning curves" not in page.text
    )
    assert "stopped at 0%" in page.text


def test_the_command_makes_the_same_run(tmp_path):
    run, data = world(tmp_path / "it's a run", source="my photos; rm", latent=9, draw=False)
    codes = re.findall(r"<code>(.*?)</code>", run_page.page(run, data, []))
    said = shlex.split(html.unescape(codes[0]))
    # in the old one it would resume
    assert said[:5] == ["likeness", "train", "my photos; rm", "my photos; rm", f"{run.folder}-again"]
    assert "in a new folder" in run_page.page(run, data, []) and shlex.split(html.unescape(codes[1]))[
        4
    ] == str(run.folder)
    assert said[5:] == [
        "--latent",
        "9",
        "--no-draw",
        "--rate",
        "0.005",
        "--precision",
        "fp32",
        "--images",
        "6400",
    ]


def test_pictures_in_the_page_carry_recipes(tmp_path):
    run, data = world(tmp_path)
    first = next(a["src"] for tag, a in tree(run_page.page(run, data, [])).seen if tag == "img")
    file = base64.b64decode(first.split(",")[1])
    (tmp_path / "one.png").write_bytes(file)
    recipe = figures.read_recipe(tmp_path / "one.png")
    assert recipe["seen"] == 6400 and recipe["sample"] == 0
    *_, x = run.model.sample(run_page.engine.sampling_noise(0, 0, 1))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), figures.pixels(x)[0])


def test_large_images_make_no_large_page(tmp_path):
    run, data = world(tmp_path, size=256)
    snapshots(tmp_path, 9, size=256)
    text = run_page.page(run, data, [])
    images = [a["src"] for tag, a in tree(text).seen if tag == "img"]
    assert len(images) == 12 + 2 * 8 + 2 * 8 + 2 * run_page.MOMENTS and all(
        i.startswith("data:image/jpeg;base64,") for i in images
    )
    assert len(text) < 8e6  # of noise, which no codec shrinks: 12 MB as PNG
    with Image.open(io.BytesIO(base64.b64decode(images[0].split(",")[1]))) as file:
        assert file.size == (256, 256) and json.loads(file.info["comment"])["seen"] == 6400


def test_neighbours_are_looked_up_only_for_what_is_shown(tmp_path, monkeypatch):
    found, asked = run_page.neighbours.nearest, []
    monkeypatch.setattr(
        run_page.neighbours, "nearest", lambda x, *rest: asked.append(len(x)) or found(x, *rest)
    )
    assert "The first 16 samples, nearest first" in run_page.page(*world(tmp_path), [])
    assert asked == [16]


def test_names_that_are_no_text_are_shown_as_text(tmp_path):
    evil = "bad\udcff"
    run, data = world(tmp_path / evil, source=evil)
    text = run_page.page(run, data, [Score("bits/dim", 5.0, warnings=(evil,))])
    assert "bad\\udcff" in text.encode().decode() and run_page.cards([Score(evil, 1.0)]).encode()
    run.folder.mkdir()
    assert run_page.write(run, data, []).exists()


def test_a_definition_and_settings_share_a_row():
    page = tree(
        run_page.cards(
            [
                Score("squared error", 1.0, note="mean over pixels", settings={"seen": 1, "code": 3}),
                Score("squared error", 2.0, of="x", note="none"),
            ]
        )
    )
    assert "mean over pixels; code = 3" in page.text


def test_the_film_shows_the_first_and_the_last_moment(tmp_path):
    run, _ = world(tmp_path)
    snapshots(tmp_path, 20)
    (tmp_path / "samples" / "notes.png").write_text("not a moment")
    film = tree(run_page._film(run))
    moments = [a["aria-label"] for tag, a in film.seen if tag == "figure"]
    assert (
        len(moments) == run_page.MOMENTS
        and moments[0] == "after 64 images"
        and moments[-1] == f"after {64 * 2**19:,} images"
    )
    assert sum(tag == "img" for tag, _ in film.seen) == 6 * run_page.MOMENTS


def test_the_film_survives_other_pictures(tmp_path):
    run, _ = world(tmp_path)
    snapshots(tmp_path, 2)
    Image.new("L", (33, 21)).save(tmp_path / "samples" / f"{999:012d}.png")
    (tmp_path / "samples" / f"{1999:012d}.png").write_bytes(b"\x89PNG torn")
    film = tree(run_page._film(run))
    assert sum(tag == "img" for tag, _ in film.seen) == 6 + 6 + 1


def test_cards_stand_best_first_with_headers():
    page = tree(run_page.cards(SCORES))
    assert page.text.index("independent pixels") < page.text.index("model") < page.text.index("uniform")
    assert {a.get("scope") for tag, a in page.seen if tag == "th"} == {"col", "row", "rowgroup"}
    upwards = tree(
        run_page.cards([Score("PSNR", 1.0, better="higher"), Score("PSNR", 2.0, of="zebra", better="higher")])
    ).text
    assert upwards.index("zebra") < upwards.index("model")
    assert run_page.cards([]) == ""


def test_a_baseline_that_was_refused_is_not_a_number_on_the_terminal(capsys):
    cards = [Score("PSNR", 21.5), Score("PSNR", 18.0, of="copy"), Score("PSNR", math.nan, of="mean image")]
    terminal.scores(cards, False)
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("PSNR"))
    assert "copy 18" in line and "mean image" not in line and "nan" not in line


def test_what_was_refused_has_no_number_of_samples_on_the_terminal(capsys):
    refused = Score("resemblance", math.nan, n=0, split="samples")
    terminal.scores([refused, Score("near-duplicates", 0.1, n=256, split="samples")], False)
    assert "intervals are 95 %; n = 256 samples\n" in capsys.readouterr().out
    terminal.scores([refused], False)
    assert "intervals are 95 %\n" in capsys.readouterr().out
