"""`likeness check`: how far it is, and what it knows when nobody waits for the end."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from likeness import cli, models
from likeness.core import duration
from likeness.data import Reading, near_duplicates
from likeness.data import check as checks
from likeness.reports import terminal
from likeness.training import throughput

SEARCH = ("looking for images of one colour", "hashing images", "comparing images with like hashes")


def noted(shares: list[tuple[str, float]]) -> dict[str, list[float]]:
    return {part: [s for p, s in shares if p == part] for part, _ in shares}


def test_each_stage_says_how_far_it_is_and_none_goes_back(monkeypatch):
    monkeypatch.setattr(near_duplicates, "at_once", lambda x: 100)
    monkeypatch.setattr(checks, "at_once", lambda x: 100)
    shares: list[tuple[str, float]] = []
    answer = checks.check("digits", notify=lambda part, share: shares.append((part, share)))
    seen = noted(shares)
    assert list(seen)[-3:] == list(SEARCH), "in this order"
    for part in SEARCH:
        assert seen[part] == sorted(seen[part]) and 0 <= seen[part][0] <= seen[part][-1] <= 1
    assert len(seen["hashing images"]) == 18, "1,797 images, 100 at a time"
    assert answer == checks.check("digits"), "to be told changes nothing"


def test_the_search_for_copies_tells_every_step_of_its_way():
    """4 bands of 64 steps at most, and what it finds is what it finds untold."""
    x = np.random.default_rng(0).integers(0, 256, (300, 1, 16, 16), dtype=np.uint8)
    x[200:] = x[:100] + (x[:100] < 255)
    hashes, told = np.arange(300, dtype=np.uint64), list[float]()
    groups = near_duplicates.near_groups(x, hashes, lambda part, share: told.append(share))
    assert [g.tolist() for g in groups] == [g.tolist() for g in near_duplicates.near_groups(x, hashes)]
    steps = [round(256 * share) for share in told[1:]]
    assert told[0] == 1.0 and set(steps) <= set(range(256)) and {s // 64 for s in steps} == {0, 1, 2, 3}


def test_what_is_known_comes_first_and_the_rest_is_not_guessed():
    first, *_, last = checks.checking("digits", Reading())
    assert first.exact is first.near is first.blank is None and first.images == 1797
    assert replace(first, exact=last.exact, near=last.near, blank=last.blank) == last


@pytest.mark.parametrize("at", [*SEARCH, "measuring"])
def test_ctrl_c_ends_a_check_with_what_is_known(at, monkeypatch, capsys):
    def interrupting(stop):
        def notify(part, share):
            if part.startswith(stop):
                raise KeyboardInterrupt

        return notify

    @contextmanager
    def stages(title, quiet=False):
        yield interrupting(at)

    monkeypatch.setattr(terminal, "stages", stages)
    assert cli.main(["check", "digits"]) == 130
    out, err = capsys.readouterr()
    assert "1,797 images" in out and "interrupted: this is what was known until then" in err
    searched = at == "measuring"
    assert ("near duplicates    6 images in 3 groups" in out) == searched
    assert ("near duplicates    not looked for to the end" in out) != searched
    assert cli.main(["check", "digits", "--json", "--model", "none"]) == (0 if searched else 130)
    near = json.loads(capsys.readouterr().out)["near"]
    assert near["groups"] == 3 if searched else near is None


def test_ctrl_c_before_anything_is_known_is_the_usual_one(monkeypatch, capsys):
    def read(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checks.sides, "load", read)
    assert cli.main(["check", "digits"]) == 130
    assert capsys.readouterr() == ("", "likeness: interrupted; what was saved before is intact\n")


def test_the_measuring_of_both_precisions_is_one_way(monkeypatch):
    """The second precision begins at a half."""
    monkeypatch.setattr(throughput.engine, "native_bf16", lambda: True)

    def fit(run, data, **_):
        while True:
            run.seen, run.seconds = run.seen + 8, run.seconds + 1.0
            yield run

    monkeypatch.setattr(throughput, "Config", lambda *a, **k: None)
    monkeypatch.setattr(throughput, "fit", fit)
    fresh = dict(seen=0, seconds=0.0, close=lambda: None)
    monkeypatch.setattr(throughput.Run, "create", lambda *a, **k: SimpleNamespace(**fresh))
    shares = list[float]()
    data = SimpleNamespace(spec=None, train=range(100))
    costs = throughput.measure("ae", models.load("ae"), data, shares.append)
    assert shares == [0.0, 0.25, 0.5, 0.75] and [c["images_per_second"] for c in costs] == [8.0, 8.0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "< 1 s"), (-3, "< 1 s"), (0.99, "< 1 s"), (1, "1 s"),
        (89.4, "89 s"), (89.6, "1 min"), (90, "2 min"),
        (60 * 89.4, "89 min"), (60 * 89.6, "1.5 h"), (9000, "2.5 h"), (360_000, "100.0 h"),
    ],
)  # fmt: skip
def test_a_duration_has_one_form(seconds, text):
    assert duration(seconds) == text


def test_a_duration_needs_no_torch():
    code = "import sys; from likeness.core import duration; print(duration(40), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "40 s False\n"
