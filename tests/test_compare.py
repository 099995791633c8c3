"""Runs held against each other: who may be ranked, and a page, a table, CSV and JSON that survive hostile
names."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness.core import BadData, Refusal, Spec, Training, answers
from likeness.evaluation.exam import evaluate
from likeness.evaluation.scores import save_scores
from likeness.metrics.card import GROUPS, Score, from_dict
from likeness.reports import compare_page, ranking, terminal
from likeness.reports.compare import Comparison, compare
from likeness.reports.ranking import FLOOR, Data, duel, group, obstacle, rank, read, unique
from likeness.runs.run import Config, Run
from likeness.training.loop import fit
from test_report import EVIL, tree

SAME: Data = ("f00d", "{}")


def card(value: float = 2.0, spread: float = 0.1, name: str = "bits/dim", **about) -> Score:
    about = dict(n=1000, kind="exact", better="lower", low=value - spread, high=value + spread) | about
    return Score(name, value, **about)


# Ranking


def test_only_intervals_that_do_not_meet_make_one_better():
    assert duel(card(1.0), card(2.0)) == (1, "") and duel(card(2.0), card(1.0)) == (-1, "")
    # ends that touch
    assert duel(card(1.0), card(1.15)) == (0, "") and duel(card(1.0, 0.5), card(2.0, 0.5)) == (0, "")
    up = dict(better="higher", name="PSNR", kind="measured")
    assert duel(card(1.0, **up), card(2.0, **up)) == (-1, "") and duel(card(2.0, **up), card(1.0, **up)) == (
        1,
        "",
    )
    assert duel(card(0.0, 0.0), card(0.0, 0.0)) == (0, "")


@pytest.mark.parametrize(
    "change, why",
    [
        (dict(split="train"), "different split"),
        (dict(n=999), "different n"),
        (dict(against=50), "different n on the other side"),
        (dict(network="small"), "different network"),
        (dict(network_sha="0123abcd"), "different network"),
        (dict(resize="bicubic"), "different resize"),
        (dict(unit="nats"), "different unit"),
        (dict(better="higher"), "different better"),
        (dict(kind="estimate"), "estimate against exact"),
        (dict(kind="measured"), "exact against measured"),
        (dict(low=None, high=None), "no interval"),
        (dict(high=math.inf), "no interval"),
        (dict(settings={"k": 50}), "different k"),
        (dict(warnings=("below 0 bits",)), "a warning"),
    ],
)
@pytest.mark.parametrize("value", [1.0, 2.0])
def test_whatever_matters_must_agree(change, why, value):
    a, b = card(2.0, settings={"k": 1}), replace(card(value, settings={"k": 1}), **change)
    assert duel(a, b) == duel(b, a) == (None, why)
    assert rank([a, b], [SAME, SAME]) == (("", ""), f"not ranked: {why}")


def test_what_does_not_matter_need_not_agree():
    a, b = (
        card(1.0, settings={"seen": 5, "k": 1}, seed=1, note="x"),
        card(2.0, settings={"seen": 9, "temperature": 0.5}, note="y", how="z"),
    )
    assert obstacle(a, b) == "" and duel(a, b) == (1, "")


def test_a_bound_beside_an_exact_value_is_ranked_in_the_safe_direction_only():
    exact, bound = card(2.0), card(2.0, kind="upper bound")
    below, above = replace(bound, value=1.0, low=0.9, high=1.1), replace(bound, value=3.0, low=2.9, high=3.1)
    assert duel(below, exact) == (1, "") and duel(exact, below) == (-1, "")  # what it bounds is lower still
    for other in (bound, above):
        assert duel(other, exact) == duel(exact, other) == (None, "bound against exact")
    assert duel(below, above) == (1, "") and duel(bound, bound) == (0, "")
    assert duel(replace(below, kind="upper bound"), replace(exact, kind="estimate")) == (
        None,
        "bound against estimate",
    )
    up = replace(below, better="higher"), replace(exact, better="higher")
    assert duel(*up) == (-1, "")  # at most 1.1 where more is better: the exact 2.0 wins


def test_nothing_is_better_than_real():
    about = dict(name="Fréchet distance", kind="measured", floor=5.0)
    copied, good, bad = card(0.0, **about), card(5.0, **about), card(9.0, **about)
    assert duel(copied, good) == (0, "") and duel(copied, bad) == (1, "") and duel(good, bad) == (1, "")
    # the fake: without a floor the copy wins
    assert duel(replace(copied, floor=None), replace(good, floor=None)) == (1, "")
    assert duel(bad, replace(bad, value=12.0, low=11.9, high=12.1)) == (1, "")


def test_a_warning_forbids_to_win_and_not_to_lose():
    fine, warned = card(2.0), card(1.0, warnings=("below 0 bits",))
    assert duel(fine, warned) == (None, "a warning")
    assert duel(fine, replace(warned, value=3.0, low=2.9, high=3.1)) == (1, "")
    assert rank([warned, fine, card(2.5)], [SAME] * 3) == (("", "best", ""), "ranked in part: a warning")


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_places_do_not_depend_on_the_order(order):
    cells = [card(1.0), card(1.15), card(1.3), card(9.0)]  # neighbours meet, the first and the third do not
    places, why = rank([cells[i] for i in order], [SAME] * 4)
    assert [places[order.index(i)] for i in range(4)] == ["tie", "tie", "", ""] and why == ""


def test_every_combination_of_three_cards_has_at_most_one_best_and_says_why():
    kinds, values, warnings = ("exact", "upper bound"), (1.0, 1.15, 3.0), ((), ("odd",))
    cards = [card(v, kind=k, warnings=w) for v, k, w in product(values, kinds, warnings)]
    for three in product(cards, repeat=3):
        places, why = rank(three, [SAME] * 3)
        results = {(i, j): duel(three[i], three[j]) for i, j in permutations(range(3), 2)}
        assert all(
            a == (None if b is None else -b) for (i, j), (a, _) in results.items() for b, _ in [results[j, i]]
        )
        for i, place in enumerate(places):
            known = [r for (a, _), (r, _) in results.items() if a == i and r is not None]
            assert (place == "best") == (bool(known) and all(r == 1 for r in known))
            assert place != "tie" or (0 in known and -1 not in known)
            assert not place or not three[i].warning
        assert bool(why) == any(r is None for r, _ in results.values())


def test_data_must_be_the_same_and_read_in_the_same_way():
    cells = [card(1.0), card(2.0), card(3.0)]
    other, smaller, unknown = ("beef", "{}"), ("f00d", "size 8"), ("", "{}")
    assert rank(cells, [SAME, SAME, SAME]) == (("best", "", ""), "")
    assert rank(cells[:2], [SAME, other]) == (("", ""), "not ranked: different data")
    assert rank(cells[:2], [SAME, smaller]) == (("", ""), "not ranked: images read differently")
    assert rank(cells[:2], [unknown, unknown]) == (("", ""), "not ranked: unknown data")
    assert rank(cells, [other, SAME, SAME]) == (("", "best", ""), "ranked in part: different data")
    # one for each data set
    assert rank([*cells, card(0.1)], [SAME, SAME, other, other])[0] == ("best", "", "", "best")


def test_nothing_is_said_where_there_is_nothing_to_rank():
    assert rank([card(1.0)], [SAME]) == (("",), "") == rank([None], [SAME])
    assert rank([card(1.0), None, card(math.nan)], [SAME] * 3) == (("", "", ""), "")
    assert rank([card(1.0, better=""), card(2.0, better="")], [SAME] * 2) == (("", ""), "")


# Names and groups


def test_columns_have_the_shortest_names_that_tell_them_apart():
    names = lambda *folders: unique([Path(f) for f in folders])  # noqa: E731
    assert names("runs/a", "runs/b") == ["a", "b"]
    assert names("/x/runs/a", "/y/runs/a", "/y/runs/b") == ["x/runs/a", "y/runs/a", "b"]
    assert names("/a", "/b/a") == ["//a", "b/a"] and names("/a", "/a", "/a/.") == ["a", "a (2)", "a (3)"]
    assert names(".") == [Path.cwd().name]


PARTS = {
    "likelihood": ("bits/dim", "nats an image", "Parzen window"),
    "resemblance": (
        "Fréchet distance, unlimited",
        "KID",
        "precision",
        "recall",
        "class share gap",
        "C2ST accuracy",
        "resemblance",
    ),
    "modes": ("modes covered", "reverse KL", "high-quality samples"),
    "memorisation": (
        "distance to nearest training image",
        "exact duplicates",
        "nearer than held-out images",
        "AuthPct",
        "duplicate samples",
    ),
    "reconstruction": ("squared error", "PSNR", "SSIM"),
    "representation": ("kNN accuracy", "log loss", "calibration error"),
    "cost": ("training", "sampling", "peak memory of training"),
    "diagnosis": ("rate in nats", "active units", EVIL),
}


def test_a_card_of_before_gets_its_block_from_its_name_and_one_of_today_says_it():
    old = {
        name: {k: v for k, v in Score(name, 1.0).as_dict().items() if k not in ("warnings", "group")}
        for names in PARTS.values()
        for name in names
    }
    assert {
        part: tuple(name for name in old if from_dict(old[name]).group == part) for part in PARTS
    } == PARTS
    assert tuple(PARTS) == tuple(g for g in GROUPS if g not in ("translation", "text", "motion")), (
        "of which there were no cards then"
    )
    assert group(Score("PSNR", 1.0, group="cost")) == "cost" and group(Score("PSNR", 1.0)) == "diagnosis"


# Pages of made-up runs


class Silent(torch.nn.Module):
    """A model that answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))


class Draws(Silent):
    spec, takes = Spec(3, 8), ()
    refuses = False

    def sample(self, noise, y=None):
        if self.refuses:
            raise Refusal(f"not today {EVIL}")
        yield noise.uniform(3, 8, 8) * 2 - 1


def made(
    folder: str | Path,
    log: list | None = None,
    model: torch.nn.Module | None = None,
    fingerprint: str = "f00d",
    name: str = "toy",
    **options,
) -> Run:
    data = dict(source="photos", fingerprint=fingerprint, size=8)
    config = Config(name, Spec(3, 8), Training(), options, data, {"torch": "2.13"})
    lines = [
        dict(
            seen=64 * i,
            losses={"model": 9.0 / i},
            time=dict(seconds=0.5 * i, images_per_second=90.0, memory_mb=300),
        )
        for i in range(1, 30)
    ]
    run = SimpleNamespace(
        folder=Path(folder),
        config=config,
        model=model or Silent(),
        seen=6400,
        seconds=3.5,
        notes=[],
        log=lambda: lines if log is None else log,
    )
    return run  # type: ignore[return-value]


def find(c: Comparison, name: str, of: str = "model") -> ranking.Row:
    [row] = [row for row in c.rows if row.key.name == name and row.key.of == of]
    return row


def strict(text: str):
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


CARDS = [
    card(2.0, settings={"seen": 5, "k": 1}, kind="upper bound", group="likelihood"),
    card(8.0, of="uniform", note="every image equally likely", group="likelihood"),
    card(
        7.0,
        name="Fréchet distance",
        network="small",
        network_sha="0123abcd",
        resize="none",
        floor=1.5,
        kind="measured",
        note="between Gaussians",
        group="resemblance",
    ),
    Score(
        "active units",
        0.0,
        n=30,
        warnings=("the posterior has collapsed; so it seems", "lower beta"),
        group="diagnosis",
    ),
    Score("refused one", math.nan, n=30, warnings=("too few",)),
]


def test_runs_are_columns_and_measures_rows():
    better = [replace(CARDS[0], value=1.0, low=0.9, high=1.1), *CARDS[1:]]
    c = compare([made("runs/a"), made("runs/b"), made("runs/new")], [CARDS, better, []])
    bits = find(c, "bits/dim")
    assert (
        [card and card.value for card in bits.cells] == [2.0, 1.0, None]
        and bits.places == ("", "best", "")
        and bits.why == ""
    )
    assert [card and card.value for card in find(c, "bits/dim", "uniform").cells] == [8.0, 8.0, None]
    assert find(c, "Fréchet distance", FLOOR).cells[0].value == 1.5 and find(
        c, "Fréchet distance"
    ).places == ("tie", "tie", "")
    assert [c.columns.index(column) for column in c.columns if column.trouble] == [
        2
    ] and "likeness evaluate runs/new" in c.columns[2].warnings[0]
    assert c.columns[0].warnings[0].startswith("Samples are worse than real images in 1 of ")
    assert c.columns[0].warnings[1:] == [
        "the posterior has collapsed; so it seems (active units)",
        "lower beta (active units)",
        "too few (refused one)",
    ]
    parts = [row.group for row in c.rows]
    assert parts == sorted(parts, key=GROUPS.index) and find(c, "weights").group == "cost"
    assert [
        find(c, name).cells[2].value for name in ("images seen", "weights", "peak memory of training")
    ] == [6400, 3, 300]


def test_a_network_trained_anew_shares_the_row_and_is_not_ranked():
    other = [replace(CARDS[2], network_sha="4567abcd", value=1.0, low=0.9, high=1.1)]
    row = find(compare([made("a"), made("b")], [CARDS[2:3], other]), "Fréchet distance")
    assert row.why == "not ranked: different network" and row.places == ("", "")
    page = tree(compare([made("a"), made("b")], [CARDS[2:3], other]).page())
    assert (
        "small 0123abcd" in page.text
        and "small 4567abcd" in page.text
        and ("not ranked: different network") in page.text
    )
    c = compare([made("a"), made("b")], [CARDS[2:3], [replace(CARDS[2], network="inception")]])
    assert sum(row.key.name == "Fréchet distance" and row.key.of == "model" for row in c.rows) == 2


def test_cards_of_one_name_are_all_shown():
    twice = [card(1.0, settings={"k": 1}), card(0.9, settings={"k": 50})]
    c = compare([made("a"), made("b")], [twice, twice])
    assert [[cell.value for cell in row.cells] for row in c.rows if row.key.name == "bits/dim"] == [
        [1.0, 1.0],
        [0.9, 0.9],
    ]


def test_a_floor_that_has_its_card_is_shown_once():
    real = [CARDS[2], replace(CARDS[2], of="real images", value=1.5, floor=None)]
    c = compare([made("a")], [real])
    assert [row.key.of for row in c.rows if row.key.name == "Fréchet distance"] == ["model", "real images"]


def test_different_data_are_not_ranked():
    c = compare([made("a"), made("b", fingerprint="beef")], [CARDS, CARDS])
    assert {row.why for row in c.rows if row.key.of == "model" and row.cards[0].better} == {
        "not ranked: different data"
    }
    assert "different data" in c.table() and "not ranked: different data" in tree(c.page()).text


def test_damaged_and_missing_scores_are_told(tmp_path):
    run = made(tmp_path)
    assert read(run) == []
    (tmp_path / "scores.json").write_text("{")
    said = read(run)
    assert isinstance(said, BadData)
    c = compare([run, made("b")], [said, CARDS])
    assert (
        "cannot be read" in c.columns[0].warnings[0]
        and "cannot be read" in tree(c.page()).text
        and "cannot be read" in c.table()
    )
    save_scores(tmp_path, CARDS)
    assert [s.name for s in read(run)] == [s.name for s in CARDS]


def test_no_run_is_refused_and_too_few_scores_are_our_fault():
    with pytest.raises(Refusal, match="no run"):
        compare([], [])
    with pytest.raises(ValueError):
        compare([made("a")], [])


def test_the_page_needs_nothing_but_itself():
    text = compare(
        [made("a", model=Draws()), made("b", model=Draws(), latent=3), made("c")], [CARDS, CARDS, []]
    ).page()
    page = tree(text)
    assert "default-src 'none'" in text and not {"script", "link", "iframe", "object", "base", "form"} & {
        tag for tag, _ in page.seen
    }
    for tag, attrs in page.seen:
        assert not {a for a in attrs if a.startswith("on")} and "href" not in attrs
        assert tag != "img" or (attrs["src"].startswith("data:image/png;base64,") and attrs["alt"])
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert (
        "http:" not in outside
        and "https:" not in outside
        and "//" not in outside
        and "url(" not in outside
        and "@import" not in outside
    )
    for words in (
        "3 runs side by side",
        "likelihood",
        "8.000",
        "real against real",
        "n = 1,000 held out",
        "Without samples: c.",
        "seconds of training",
        "latent",
    ):
        assert words in page.text
    assert (
        sum(tag == "img" for tag, _ in page.seen) == 2 and sum(tag == "polyline" for tag, _ in page.seen) == 6
    )


def test_hostile_names_stay_names():
    cards = [
        replace(
            card(name=EVIL, warnings=(EVIL,), network=EVIL, resize=EVIL, note=EVIL, settings={EVIL: EVIL}),
            of=of,
            unit=EVIL,
        )
        for of in ("model", EVIL)
    ]
    log = [dict(seen=i, losses={EVIL: 1.0 + i}, time={"seconds": i}) for i in range(5)]
    runs = [
        made(
            f"runs/{i}{EVIL.replace('/', '')}",
            log=log,
            name=EVIL,
            model=Draws(),
            fingerprint=EVIL,
            **{EVIL: f"{i}{EVIL}"},
        )
        for i in range(2)
    ]
    text = compare(runs, [cards, cards]).page()
    page = tree(text)
    assert (
        "<script" not in text
        and "<img src=http" not in text
        and text.split("<style>")[0].count("<title>") == 1
    )
    assert not {"script", "link", "iframe", "a", "form"} & {tag for tag, _ in page.seen}
    assert all(attrs["src"].startswith("data:") for tag, attrs in page.seen if tag == "img")
    assert "evil.example" in page.text


def test_a_baseline_is_told_once_only_where_it_is_that_of_all():
    one = compare([made("a"), made("b"), made("new")], [CARDS, CARDS, []]).page()
    assert one.count('colspan="3"') == 2 and one.count("8.000") == 1  # the floor, too
    other = compare([made("a"), made("b", fingerprint="beef")], [CARDS, CARDS]).page()
    assert "colspan" not in other and other.count("8.000") == 2
    assert "colspan" not in compare([made("a"), made("b")], [CARDS, []]).page()


def test_what_a_group_has_in_common_is_told_once():
    page = tree(compare([made("a"), made("b")], [CARDS, CARDS]).page()).text
    assert page.count("small 0123abcd") == 1 and page.count("k = 1") == 1 and page.count("upper bound") == 1
    apart = [replace(card, n=500) for card in CARDS]
    page = tree(compare([made("a"), made("b")], [CARDS, apart]).page()).text
    assert "n = 1,000 held out" in page and "n = 500 held out" in page and "not ranked: different n" in page


def test_a_refusal_to_draw_is_a_warning():
    model = Draws()
    model.refuses = True
    c = compare([made("a", model=model)], [CARDS])
    assert (
        answers(model) == ("sample",)
        and c.columns[0].x is None
        and any("not today" in text for text in c.columns[0].warnings)
    )
    assert "<script" not in c.page()


def test_pictures_are_of_the_same_noise():
    c = compare([made("a", model=Draws()), made("b", model=Draws())], [[], []])
    assert torch.equal(c.columns[0].x, c.columns[1].x) and len(c.columns[0].x) == ranking.SHOWN


@pytest.mark.parametrize(
    "log",
    [
        [],
        [dict(seen=1, losses={})],
        [dict(seen=i, losses={"model": math.nan, "rate": "high"}, time="soon") for i in range(4)],
        [dict(seen=i, losses={"model": -1.0}) for i in range(4)],
        [
            dict(seen="far", losses=[1, 2], time={"seconds": None, "images_per_second": "fast"}),
            dict(seen=3, losses=None),
        ],
        [dict(seen=10 - i, losses={"model": 1.0 + i}, time={"seconds": 5.0}) for i in range(4)],
    ],
)
def test_odd_logs_have_a_page(log):
    c = compare([made("a", log=log), made("b")], [CARDS, CARDS])
    tree(c.page())
    strict(c.json())


def test_curves_of_one_model_share_a_chart():
    c = compare([made("a"), made("b"), made("c", name="other")], [[], [], []])
    text = c.page()
    charts = re.findall(r'<svg class="curve".*?</svg>', text)
    assert [chart.count("<polyline") for chart in charts] == [2, 2, 1, 1]
    assert ["seconds of training" in chart for chart in charts] == [True, False, True, False]
    assert len(set(re.findall(r'polyline class="smooth" style="([^"]*)"', text))) == 3


def test_twenty_four_runs_can_be_told_apart():
    c = compare([made(f"runs/{i:02d}") for i in range(24)], [CARDS] * 24)
    page = c.page()
    assert (
        len({compare_page._ink(i) for i in range(24)}) == 24
        and page.count('scope="col"') >= 24
        and len(page) < 1_000_000
    )
    assert "position:sticky" in page and "overflow-x:auto" in page
    assert max(map(len, c.table(100).splitlines()[:40])) <= 130


# Other forms


def test_csv_is_a_line_a_card_and_no_formula():
    names = ["=cmd|' C calc'!A0", "+1", "-1", "@SUM(A1)", "a,=1;=2", "x\t=3", "\u200b＝4", "fine"]
    runs = [made(f"runs/{name}") for name in names]
    cards = [card(-1.5, name="=NAME()", of="model", warnings=("+ a\n=b",), unit="@")]
    text = compare(runs, [cards] * len(runs)).csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["run"] for row in rows} >= {
        "'=cmd|' C calc'!A0",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "a,'=1;'=2",
        "fine",
    }
    for row in rows:
        for value in row.values():
            number = re.fullmatch(r"-?[\d.e+-]*", value)
            assert number or not re.search(r"(^|[,;\t\r\n])\s*[=+\-@＝]", value)
    mine = [row for row in rows if row["run"] == "fine" and row["measure"] == "'=NAME()"]
    assert (
        float(mine[0]["value"]) == -1.5
        and mine[0]["why"] == ("not ranked: a warning")
        and mine[0]["place"] == ""
    )


def test_json_says_the_same_without_nan():
    c = compare([made("a"), made("b")], [[*CARDS, card(math.inf, settings={"t": math.nan})], []])
    said = strict(c.json())
    assert said["schema"] == terminal.SCHEMA
    assert [run["name"] for run in said["runs"]] == ["a", "b"] and "not been scored" in said["runs"][1][
        "warnings"
    ][0]
    [row] = [row for row in said["rows"] if row["measure"] == "refused one"]
    assert row["cells"][0]["value"] is None and row["cells"][0]["run"] == "a" and row["cells"][1] is None
    assert next(row for row in said["rows"] if row["measure"] == "bits/dim")["cells"][0]["value"] == 2.0


def test_the_terminal_gets_blocks_that_fit_and_no_control_characters():
    runs = [made(f"runs/{name}") for name in ("\x1b[2Jred", "two", "bad\udcff")]
    c = compare(runs, [[*CARDS, card(name="\x1b]0;x\x07")]] * 3)
    for width in (40, 80, 200):
        text = c.table(width)
        assert text.encode() and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        assert "2.000 [1.900, 2.100] =" in text and "real against real" in text and "LIKELIHOOD" in text
        assert text.count("LIKELIHOOD") == {40: 3, 80: 2, 200: 1}[width]
        assert width == 40 or max(map(len, text.split("\n\n")[0].splitlines())) <= width
    assert "warning: two: lower beta (active units)" in c.table()


def test_all_three_are_written(tmp_path):
    c = compare([made(tmp_path / "bad\udcff"), made(tmp_path / "b")], [[card(warnings=("\udcff",))], []])
    path = c.write(tmp_path / "new" / "folder")
    assert path.parent == tmp_path / "new" / "folder" and sorted(p.name for p in path.parent.iterdir()) == [
        "compare.csv",
        "compare.html",
        "compare.json",
    ]
    tree(path.read_text())
    strict((path.parent / "compare.json").read_text())
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="file"):
        c.write(tmp_path / "file")


# Real runs


def test_real_runs_side_by_side(tmp_path):
    data, runs = toy(300, held_out=120), []
    for name, model, options in (("ae", "ae", {}), ("vae", "vae", {}), ("tight", "vae", {"latent": 2})):
        run, _ = small_run(model, tmp_path / name, data, options=options, images=320)
        for _ in fit(run, data):
            pass
        run.close()
        save_scores(run.folder, list(evaluate(Run.open(run.folder), data, network="none")))
        runs.append(Run.open(run.folder))
    c = compare(runs, [read(run) for run in runs])
    assert [column.name for column in c.columns] == ["ae", "vae", "tight"]
    assert find(c, "bits/dim").cells[0] is None
    assert find(c, "bits/dim").why == "not ranked: a warning", (
        "after 20 steps they are worse than a histogram, and say so"
    )
    assert find(c, "squared error").why.endswith("different code")
    assert find(c, "images seen").cells[1].value == 320 and not find(c, "training").why
    page = tree(c.page())
    assert "Learning curves" in page.text and "What differs" in page.text and "likelihood" in page.text
    assert np.array_equal(c.columns[1].x, compare(runs, [read(run) for run in runs]).columns[1].x)
