"""A fork goes on from another run's state with other options, and leaves that run alone."""

from __future__ import annotations

import json

import pytest

from conftest import small_run
from likeness import cli
from likeness.core import Refusal
from likeness.runs.run import Run, read_config
from likeness.training import fork, loop


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fork") / "parent"
    run, data = small_run("vae", folder, images=64, batch=16)
    for _ in loop.fit(run, data, images=64):
        pass
    run.close()
    return folder


def weights(folder):
    return {name: t.clone() for name, t in Run.open(folder).model.state_dict().items()}


def test_it_begins_where_the_other_stands_with_what_was_changed(parent, tmp_path):
    before = (parent / "config.json").read_bytes()
    config = fork.make(parent, tmp_path / "f", dict(beta=2.0), dict(rate=1e-4))
    assert (config.options["beta"], config.training.rate) == (2.0, 1e-4)
    own, theirs = weights(tmp_path / "f"), weights(parent)
    assert own.keys() == theirs.keys() and all((own[k] == theirs[k]).all() for k in own)
    assert read_config(tmp_path / "f") == config and (parent / "config.json").read_bytes() == before
    about = json.loads((tmp_path / "f" / "fork.json").read_text())
    assert about["seen"] == 64 and about["changed"] == {"beta": 2.0, "rate": 1e-4}
    resumed = Run.resume(tmp_path / "f")
    assert resumed.seen == 64 and all(o.state for o in resumed.optimizers.values()), (
        "optimisers are taken along"
    )
    resumed.close()


def test_what_does_not_fit_or_is_not_there_is_refused_and_leaves_nothing(parent, tmp_path):
    for origin, options, model, match in (
        (parent, dict(latent=9), "", "do not fit"),
        (parent, {}, "gan", "is a run of vae"),
        (parent / "state" / "000000000001", {}, "", "keeps no state"),
        (tmp_path / "nosuch", {}, "", "not a run"),
        (parent, dict(beta=-1.0), "", "beta"),
    ):
        with pytest.raises(Refusal, match=match):
            fork.make(origin, tmp_path / "f", options, {}, model)
        assert not (tmp_path / "f").exists()
    with pytest.raises(Refusal, match="holds a run already"):
        fork.make(parent, parent, {}, {})


def test_one_optimiser_does_not_go_on_with_what_another_remembers(tmp_path):
    run, data = small_run("ddpm", tmp_path / "parent", images=32, batch=16)
    for _ in loop.fit(run, data, images=32):
        pass
    run.close()
    assert run.model.optimizer == "muon"
    with pytest.raises(Refusal, match=r"--optimizer adam: .* remembers what muon has seen"):
        fork.make(tmp_path / "parent", tmp_path / "f", dict(optimizer="adam"), {})
    assert not (tmp_path / "f").exists()
    assert (
        fork.make(tmp_path / "parent", tmp_path / "f", dict(optimizer="muon"), {}).options["optimizer"]
        == "muon"
    )


def test_by_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--size", "8", "--width", "8", "--latent", "2", "--batch", "16", "--no-report", "--json"]
    assert cli.main(["train", "vae", "shapes:64", "a", "--images", "64", *small]) == 0
    rest = ["--images", "128", "--rate", "1e-4", "--from", "a", "--no-report", "--json"]
    assert cli.main(["train", "vae", "shapes:64", "b", *rest]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seen"] == 128
    assert [read_config(tmp_path / n).training.rate for n in "ab"] == [2e-3, 1e-4]
    log = [json.loads(line)["seen"] for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert log == sorted(log) and log[-1] == 128
