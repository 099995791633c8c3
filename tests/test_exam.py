"""One evaluator for all: what is refused stops nothing else, the report shows what was scored, and p(x|y) is
not ranked with p(x)."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import likeness
from likeness.cli import main
from likeness.core import BadData, Batch, Bits, Condition, Model, Noise, Refusal
from likeness.data import Data
from likeness.evaluation import distribution
from likeness.evaluation import exam as evaluation
from likeness.evaluation.scores import load_scores, save_scores, scores_of
from likeness.metrics.card import GROUPS, Score, from_dict, sentences
from likeness.reports import ranking, run_page
from test_evaluate import Mean, named, photos, trained

GAUSS = str(Path(__file__).with_name("tiny_gauss.py"))


# p(x|y) and p(x)


class OfClass(Model):
    """-log2 p(x|y) / dims is 3 of every image."""

    takes = ("label",)

    def build(self) -> None:
        pass

    def bits_per_dim(self, batch: Batch) -> Bits:
        assert batch.y is not None
        return Bits(torch.full((len(batch),), 3.0), "exact")


class OfText(OfClass):
    takes = ("label", "tokens", "image")

    def bits_per_dim(self, batch: Batch) -> Bits:
        assert (batch.y is None) == (not self.spec.parts(self.takes))
        return Bits(torch.full((len(batch),), 3.0), "exact")


def test_bits_given_the_class_have_a_name_of_their_own_and_a_bound_on_those_without_beside_them():
    data = photos()
    scores = [
        s
        for s in evaluation.evaluate(trained(OfClass, data), data, network="none")
        if s.group == "likelihood"
    ]
    of_class, bound = named(scores, "bits/dim given the class"), named(scores, "bits/dim")
    assert of_class.value == 3 and of_class.kind == "exact" and scores[0] is of_class
    assert (
        bound.value == pytest.approx(3 + math.log2(2) / 36)
        and bound.kind == "upper bound"
        and "p(x|y) p(y)" in bound.note
    )
    assert {s.of for s in scores if s.name == of_class.name} == {"model", "training images"}, (
        "what costs nothing is of p(x)"
    )
    assert all(
        "of p(x)" in named(scores, "bits/dim", of).note for of in ("uniform", "independent pixels", "PNG")
    )


def test_a_likelihood_is_named_after_what_the_examples_have_of_what_the_model_takes():
    def names(data: Data) -> set[str]:
        scores = evaluation.evaluate(trained(OfText, data), data, network="none")
        return {s.name for s in scores if s.of == "model" and s.group == "likelihood"}

    classed = photos()
    assert names(classed) == {"bits/dim given the class", "bits/dim"}
    captioned = replace(classed, texts=["a picture"] * len(classed.x))
    assert names(captioned) == {"bits/dim given the class and the text"}
    assert names(replace(captioned, y=None, classes=())) == {"bits/dim given the text"}
    assert names(replace(classed, y=None, classes=())) == {"bits/dim"}


def test_a_warning_of_one_likelihood_does_not_stand_on_the_other():
    """8 bits/dim are those of chance, and so the bound alone lies above."""

    class AsChance(OfClass):
        def bits_per_dim(self, batch: Batch) -> Bits:
            return Bits(torch.full((len(batch),), 8.0), "exact")

    class Below(OfClass):
        def bits_per_dim(self, batch: Batch) -> Bits:
            return Bits(torch.full((len(batch),), -0.01), "exact")

    data = photos()
    scores = list(evaluation.evaluate(trained(AsChance, data), data, network="none"))
    worse = "worse than giving every image the same probability"
    assert worse not in named(scores, "bits/dim given the class").warning
    assert worse in named(scores, "bits/dim").warning
    scores = list(evaluation.evaluate(trained(Below, data), data, network="none"))
    assert "below 0 bits" in named(scores, "bits/dim given the class").warning
    assert "below 0 bits" not in named(scores, "bits/dim").warning, "-0.01 + log2(2) / 36 = 0.018"


def test_likelihoods_of_schema_1_have_the_name_of_today_and_are_not_ranked_among_others(tmp_path):
    def old(**more: object) -> dict:
        return dict(name="bits/dim", value=1.0, low=0.9, high=1.1, n=30, kind="exact", better="lower") | more

    cards = [old(), old(of="training images", split="train"), old(of="PNG"), old(name="nats an image")]
    (tmp_path / "scores.json").write_text(json.dumps(cards))
    run = trained(OfClass, photos(), tmp_path)
    scores = scores_of(run)
    assert [(s.name, s.of) for s in scores] == [
        ("bits/dim given the class", "model"),
        ("bits/dim given the class", "training images"),
        ("bits/dim", "PNG"),
        ("nats an image given the class", "model"),
    ]
    assert ranking.read(run) == scores
    assert [s.name for s in scores_of(trained(Mean, photos(), tmp_path))] == [card["name"] for card in cards]
    save_scores(tmp_path, load_scores(tmp_path))
    assert [s.name for s in scores_of(run)] == [card["name"] for card in cards], "there it is of p(x)"


def test_the_bound_lies_above_the_mixture_of_all_classes_by_enumeration():
    """Four images, two classes with a law each: -log2 sum_y p(x|y) / 2 is at most the card's, for
    each image."""
    p = np.array([[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.3, 0.6]])

    class Law(OfClass):
        def bits_per_dim(self, batch: Batch) -> Bits:
            which = (batch.x[:, 0].flatten(1)[:, :2] > 0).long() @ torch.tensor([1, 2])
            return Bits(-torch.from_numpy(p)[batch.y.label, which].log2() / 4, "exact")

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    which = np.array([rng.choice(4, p=p[k]) for k in y])
    x = np.zeros((60, 1, 2, 2), np.uint8)
    x[:, 0].reshape(60, 4)[:, :2] = 255 * ((which[:, None] >> np.arange(2)) & 1)
    data = replace(photos(), x=x, y=y, train=np.arange(20), held_out=np.arange(20, 60), levels=2)
    scores = list(evaluation.evaluate(trained(Law, data), data, network="none"))
    held = evaluation.prepare(trained(Law, data), data, 1000, 0, "none").rows
    mixture = -np.log2(p.mean(0))[which[held]] / 4
    assert named(scores, "bits/dim given the class").value == pytest.approx(
        (-np.log2(p[y[held], which[held]]) / 4).mean()
    )
    assert (mixture <= (1 - np.log2(p[y[held], which[held]])) / 4 + 1e-12).all() and mixture.mean() < named(
        scores, "bits/dim"
    ).value
    assert named(scores, "nats an image").value == pytest.approx(
        named(scores, "nats an image given the class").value + math.log(2)
    )


def test_a_conditional_model_is_not_starred_for_being_told_the_class():
    told = [
        Score(
            "bits/dim given the class",
            1.0,
            low=0.9,
            high=1.1,
            n=30,
            kind="exact",
            better="lower",
            group="likelihood",
        )
    ]
    plain = [
        Score("bits/dim", 2.0, low=1.9, high=2.1, n=30, kind="exact", better="lower", group="likelihood")
    ]
    columns = [
        ranking.Column(str(i), "", "m", ("f", "{}"), {}, 0, tuple(cards), (), None, {})
        for i, cards in enumerate((told, plain))
    ]
    rows = list(ranking.rows_of(columns))
    assert len(rows) == 2 and all(row.places == ("", "") for row in rows)
    behind = Score("bits/dim", 1.5, of="independent pixels", n=30)
    assert run_page.standing([replace(told[0], value=9.0), behind]) == [] and run_page.standing(
        [replace(plain[0], value=9.0), behind]
    )


# What is refused


@pytest.mark.parametrize(
    ("n", "flags", "why"),
    [
        (70, (), "30 at least, and there are"),
        (280, ("--network", "vicreg"), "too few to learn features from"),
    ],
)
def test_too_few_images_for_features_are_one_card_and_every_other_measure_stands(
    n, flags, why, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distribution, "FEWEST", 26 if flags else 30)  # a tenth is held out
    np.save("few.npy", np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8))
    run = likeness.train(GAUSS, "few.npy", "g", images=64, progress=False, precision="fp32")
    assert len(run.data.train) < 256 and "scoring g on" in run.outlook()
    assert main(["evaluate", "g", *flags, "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)["runs"]["g"]
    (refused,) = [c for c in cards if c["name"] == "resemblance"]
    assert refused["value"] is None and refused["group"] == "resemblance" and why in refused["warnings"][0]
    assert {"near-duplicates", "findings", "sampling"} <= {c["name"] for c in cards if c["value"] is not None}
    if flags:
        assert "type --network RUN" in refused["warnings"][0]
    assert (
        main(["evaluate", "g", "--network", "nonsense"]) == 2
        and ("there is no network 'nonsense'") in capsys.readouterr().err
    )


def test_a_model_that_refuses_to_draw_is_scored_by_what_it_answers():
    class Dumb(Mean):
        def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
            raise Refusal("not today.")
            yield

    data = photos()
    exam = evaluation.prepare(trained(Dumb, data), data, 60, 0)
    assert "scoring" in exam.outlook() and exam.drawn is None
    scores = list(replace(exam, network="none").cards())
    assert (
        named(scores, "PSNR").value > 0
        and named(scores, "near-duplicates").warnings == ("not today.",)
        and named(scores, "training").value == 12.5
    )


# The report


def shown(page: str) -> list[tuple[dict, np.ndarray]]:
    """Recipe and picture of each image under Samples."""
    part = re.search(r"<h2>Samples</h2>.*?</section>", page, re.S)[0]
    blobs = [base64.b64decode(blob) for blob in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", part)]
    opened = [Image.open(io.BytesIO(blob)) for blob in blobs]
    return [
        (
            json.loads(next(v for v in image.info.values() if isinstance(v, str) and v.startswith("{"))),
            np.asarray(image.convert("L")),
        )
        for image in opened
    ]


def test_the_report_shows_the_samples_that_were_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = likeness.train(GAUSS, "digits", "g", images=64, progress=False, precision="fp32")
    monkeypatch.setattr(run_page, "samples", lambda *_: pytest.fail("drawn again"))
    run.evaluate(n=20, seed=5, network="none", width=0.5)
    scored = evaluation.prepare(run.run, run.data, 20, 5, "none", width=0.5).samples
    found = shown(Path("g/report.html").read_text())
    assert len(found) == len(scored) == 20 and run.drawn.seed == 5
    for i, (recipe, image) in enumerate(found):
        assert (
            recipe["seed"] == 5
            and recipe["sample"] == i
            and recipe["width"] == 0.5
            and np.array_equal(image, scored[i, 0])
        )
    assert ("of seed 5, not chosen, drawn from the EMA of the weights, as they were scored") in Path(
        "g/report.html"
    ).read_text()
    column = ranking.column_of("g", run.run, load_scores(Path("g")), run.drawn)
    assert column.seed == 5 and len(column.x) == 20
    again = ranking.column_of("g", run.run, load_scores(Path("g")))
    assert again.seed == 5 and torch.equal(
        again.x, torch.from_numpy(np.asarray(run.sample(ranking.SHOWN, seed=5))).clamp(-1, 1)
    )


# Cards


def test_every_card_says_which_block_it_belongs_to():
    data = photos(levels=256)
    scores = list(evaluation.evaluate(trained(Mean, data), data, n=60, network="none"))
    blocks = {s.name: s.group for s in scores}
    assert (
        set(blocks.values()) <= set(GROUPS)
        and blocks["PSNR"] == "reconstruction"
        and blocks["near-duplicates"] == "memorisation"
    )
    assert (
        blocks["kNN accuracy"] == "representation"
        and blocks["training"] == "cost"
        and blocks["active units"] == "diagnosis"
    )


def test_warnings_are_sentences_even_where_one_holds_a_semicolon():
    card = Score("PSNR", 1.0, warnings=sentences(("one; and a half", ""), "two", "two"))
    assert card.warnings == ("one; and a half", "two") and card.warning == "one; and a half; two"
    assert from_dict(json.loads(json.dumps(card.as_dict()))) == card


def test_scores_of_before_are_read_and_those_of_later_refused(tmp_path):
    old = Score("C2ST accuracy", 0.7, n=9).as_dict()
    for name in ("warnings", "network_sha", "scope", "group"):
        del old[name]
    old |= dict(warning="a; b", network="classifier 0123456789ab, only within a, b")
    (tmp_path / "scores.json").write_text(
        json.dumps([old, dict(old, network="coordinates, anywhere", warning="")])
    )
    card, other = load_scores(tmp_path)
    assert (card.network, card.network_sha, card.scope) == (
        "classifier",
        "0123456789ab",
        "only within a, b",
    ) and card.warnings == ("a", "b")
    assert (other.network, other.network_sha, other.scope, other.warnings) == (
        "coordinates",
        "",
        "anywhere",
        (),
    ) and card.group == "resemblance"
    assert card.features == "classifier 0123456789ab, only within a, b"
    save_scores(tmp_path, [card, other])
    held = json.loads((tmp_path / "scores.json").read_text())
    assert held["schema"] == 2 and len(held["cards"]) == 2 and load_scores(tmp_path) == [card, other]
    (tmp_path / "scores.json").write_text(json.dumps(held | {"schema": 3}))
    with pytest.raises(BadData, match="of schema 3"):
        load_scores(tmp_path)
