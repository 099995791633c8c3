"""A run folder survives what disks, people and other processes do to it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import small_run, toy
from likeness import engine, models, storage
from likeness.core import (
    BadData,
    Batch,
    Busy,
    Condition,
    DiskTrouble,
    Loss,
    Noise,
    NotAllowed,
    Player,
    Refusal,
    Spec,
    Training,
    eagerly,
)
from likeness.runs.run import Run, read_config
from likeness.training.loop import THIN, fade, fit, halflife, mirrored, pace, refuse


def trained(folder: Path, name: str = "ae", **training) -> Run:
    run, data = small_run(name, folder, **training)
    list(fit(run, data))
    run.close()
    return run


def states(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "state").iterdir())


def test_two_good_states_are_kept(tmp_path):
    run, data = small_run("ae", tmp_path)
    for _ in fit(run, data, save_every=0.0):
        pass
    assert states(tmp_path) == ["000000000112", "000000000128"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "empty manifest", "gone"])
def test_a_damaged_state_is_passed_over(tmp_path, damage):
    run, data = small_run("ae", tmp_path / "run", images=64)
    list(fit(run, data, save_every=0.0))
    run.close()
    newest = tmp_path / "run" / "state" / states(tmp_path / "run")[-1]
    payload, manifest = newest / "state.safetensors", newest / "manifest.json"
    if damage == "flip":
        content = bytearray(payload.read_bytes())
        content[-5] ^= 1
        payload.write_bytes(content)
    elif damage == "truncate":
        payload.write_bytes(payload.read_bytes()[:-100])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "empty manifest":
        manifest.write_text("")
    else:
        payload.unlink()
    again = Run.resume(tmp_path / "run")
    assert again.seen == 48 and "damaged" in again.notes[0]
    assert [line["seen"] for line in again.log()] == [16, 32]
    list(fit(again, data))
    fresh = trained(tmp_path / "fresh", images=64)
    assert all(torch.equal(v, fresh.tensors()[k]) for k, v in again.tensors().items())


def test_when_every_state_is_damaged_it_says_so(tmp_path):
    trained(tmp_path)
    for state in (tmp_path / "state").iterdir():
        (state / "manifest.json").write_text("{}")
    with pytest.raises(BadData, match=r"every saved state .* damaged"):
        Run.open(tmp_path)


@pytest.mark.parametrize("where", ["write_bytes", "write_text", "fsync", "rename"])
def test_a_full_disk_leaves_the_earlier_state(tmp_path, monkeypatch, where):
    run, data = small_run("ae", tmp_path / "run")
    list(itertools.islice(fit(run, data), 2))
    run.save()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(*((Path, where) if where.startswith("write") else (os, where)), full)
        with pytest.raises(DiskTrouble, match=r"disk is full.*what was saved before is intact") as error:
            list(fit(run, data))
    assert error.value.code == 74
    run.close()
    assert states(tmp_path / "run") == ["000000000032"]
    again = Run.resume(tmp_path / "run")
    list(fit(again, data))
    fresh = trained(tmp_path / "fresh")
    assert all(torch.equal(v, fresh.tensors()[k]) for k, v in again.tensors().items())


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(NotAllowed, match="may not be used"):
        small_run("ae", tmp_path / "x")


def test_a_second_trainer_is_kept_out(tmp_path):
    run, _ = small_run("ae", tmp_path)
    with pytest.raises(Busy, match="trained by another process"):
        Run.resume(tmp_path)
    assert Run.open(tmp_path).seen == 0  # but questions may be asked
    run.close()
    Run.resume(tmp_path).close()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"model": "ae"}',
        '{"model": "ae", "spec": 3, "training": {}, "options": {}, "data": {}, "facts": {}}',
        "\x00\x01",
    ],
)
def test_a_config_that_cannot_be_read_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadData, match="cannot be read"):
        Run.open(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_config_are_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("c")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(Refusal):
        Run.open(folder)


def test_no_run_is_refused_with_how_to_make_one(tmp_path):
    with pytest.raises(Refusal, match=r"is not a run.*likeness train"):
        Run.open(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    trained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    said["options"]["latent"] = 9
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(BadData, match="do not fit"):
        Run.open(tmp_path)
    said["options"]["gone"] = 1
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(BadData, match="gone, which ae does not have"):
        Run.open(tmp_path)


def test_differences_are_shown_and_a_longer_budget_is_none(tmp_path):
    run, _ = small_run("ae", tmp_path)
    config = read_config(tmp_path)
    assert config.differences(dict(options={"latent": 8}, training={"images": 10**6})) == []
    assert config.differences(dict(options={"latent": 9}, training={"rate": 1.0}))[0] == (
        "--latent 8, not --latent 9"
    )
    cosine = replace(config, training=replace(config.training, schedule="cosine"))
    assert cosine.differences(dict(training={"images": 10**6}))
    run.close()


def test_a_longer_budget_ends_where_it_would_have_from_the_start(tmp_path):
    trained(tmp_path / "a", images=64)
    longer = Run.resume(tmp_path / "a")
    list(fit(longer, toy(), images=128))
    fresh = trained(tmp_path / "b", images=128)
    assert all(torch.equal(v, fresh.tensors()[k]) for k, v in longer.tensors().items())


def test_a_resume_that_cannot_be_exact_says_why(tmp_path):
    trained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    said["facts"] |= dict(torch="1.0", instructions="VSX")
    (tmp_path / "config.json").write_text(json.dumps(said))
    run = Run.resume(tmp_path)
    assert (
        "not bit by bit" in run.notes[0]
        and "torch was '1.0'" in run.notes[0]
        and ("instructions was 'VSX'") in run.notes[0]
    )


def test_the_thread_count_belongs_to_the_run(tmp_path):
    trained(tmp_path)
    torch.set_num_threads(2)
    run = Run.resume(tmp_path)
    assert torch.get_num_threads() == 1 and run.notes == []


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path):
    trained(tmp_path)
    before = Run.open(tmp_path).log()
    with (tmp_path / "log.jsonl").open("a") as f:
        f.write('{"seen": 144, "los')
    assert Run.open(tmp_path).log() == before
    Run.resume(tmp_path)
    assert (tmp_path / "log.jsonl").read_text().count("\n") == len(before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_store_write_replaces_a_file_or_leaves_it(tmp_path):
    storage.write(tmp_path / "a", b"old")
    with pytest.raises(Refusal):
        storage.write(Path("/dev/full/a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_the_rate_and_the_average_are_functions_of_images_seen(tmp_path):
    training = small_run("ae", tmp_path)[0].config.training
    training = replace(training, warmup=160, images=1000, schedule="cosine", ema=100)
    assert (
        pace(training, 0) == pytest.approx(0.1)
        and pace(training, 1000) == pytest.approx(0.0)
        and pace(training, 500) == pytest.approx(0.5)
    )
    assert pace(replace(training, schedule="constant"), 10**9) == 1.0
    assert halflife(training, 200) == 10 and halflife(training, 10**6) == 100


def test_a_slow_average_takes_in_every_eighth_step_and_forgets_no_slower(tmp_path):
    run, _ = small_run("ae", tmp_path, ema=4000)
    first, stride = 160_000, 16
    with torch.no_grad():
        for mine, theirs in zip(run.average.averages, run.average.weights):
            mine.zero_(), theirs.fill_(1.0)
    seen = []
    for run.seen in range(first, first + 10 * THIN * stride, stride):
        fade(run, run.seen + stride)
        seen.append(float(run.average.averages[0].flatten()[0].detach()))
    assert len(set(seen)) == 10 + (seen[0] == 0)
    assert 1 - seen[-1] == pytest.approx(0.5 ** (10 * THIN * stride / 4000), rel=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_it_learns_the_same_and_resumes_bit_by_bit(tmp_path):
    plain = trained(tmp_path / "plain", images=64)
    whole = trained(tmp_path / "compiled", images=64, compile=True)
    assert all(
        torch.allclose(v.float(), plain.tensors()[k].float(), atol=1e-5) for k, v in whole.tensors().items()
    )
    run, data = small_run("ae", tmp_path / "killed", images=64, compile=True)
    list(itertools.islice(fit(run, data), 2))
    run.save()
    run.close()
    again = Run.resume(tmp_path / "killed")
    list(fit(again, data))
    assert all(torch.equal(v, whole.tensors()[k]) for k, v in again.tensors().items())


def test_a_compiler_is_kept_out_of_marked_functions_from_the_first_compilation_on():
    """Of functions marked before, and of functions marked after, as in a model that is loaded later."""
    seen: list[bool] = []

    def looked(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.compiler.is_compiling())
        return x + 1

    marked = eagerly(looked)
    assert marked(torch.zeros(1)) == 1 and seen == [False]
    engine.compiled(
        (Player("one", torch.nn.Linear(1, 1), lambda batch: Loss(batch.x.sum())),), Training(compile=True)
    )
    late = eagerly(looked)
    for function, among in ((looked, {True}), (marked, {False}), (late, {False})):
        seen.clear()
        compiled = torch.compile(lambda x, f=function: f(x.sin()).cos(), backend="eager")
        assert torch.equal(compiled(torch.ones(3)), (torch.ones(3).sin() + 1).cos()) and set(seen) == among


def test_an_image_is_mirrored_or_not_by_its_own_noise():
    batch = Batch(torch.rand(400, 3, 8, 8), Condition(torch.arange(400)), Noise(range(400)))
    seen = mirrored(batch)
    kept, behind = ((seen.x == x).flatten(1).all(1) for x in (batch.x, batch.x.flip(3)))
    assert (
        bool((kept ^ behind).all())
        and 160 < int(behind.sum()) < 240
        and torch.equal(seen.y.label, batch.y.label)
    )
    alone = mirrored(Batch(batch.x[5:9], None, Noise(range(5, 9))))
    assert torch.equal(alone.x, seen.x[5:9])


def test_mirrored_images_are_what_is_learnt_and_a_resumed_run_meets_the_same(tmp_path):
    data = toy()
    symmetric = replace(data, x=np.maximum(data.x, data.x[..., ::-1]))
    pieces, _ = small_run("ae", tmp_path / "pieces", data, mirror=True, micro=5, clip=0.0)
    whole, _ = small_run("ae", tmp_path / "in one", data, mirror=True, clip=0.0)
    list(fit(pieces, data))
    list(fit(whole, data))
    assert all(
        torch.allclose(v.float(), whole.tensors()[k].float(), atol=1e-3) for k, v in pieces.tensors().items()
    )
    for images, alike in ((symmetric, True), (data, False)):
        runs = [small_run("ae", tmp_path / f"{alike} {m}", images, mirror=m)[0] for m in (False, True)]
        for run in runs:
            list(fit(run, images))
        assert all(torch.equal(v, runs[0].tensors()[k]) for k, v in runs[1].tensors().items()) == alike
    run, _ = small_run("ae", tmp_path / "killed", data, mirror=True)
    list(itertools.islice(fit(run, data), 3))
    run.save()
    run.close()
    again = Run.resume(tmp_path / "killed")
    list(fit(again, data))
    assert all(torch.equal(v, runs[1].tensors()[k]) for k, v in again.tensors().items())


@pytest.mark.parametrize(
    "spec",
    [Spec(2, 1, levels=0), Spec(4, 8, levels=0), Spec(1, 8, levels=16, symbols=True)],
    ids=["points", "numbers", "names"],
)
def test_what_has_no_left_and_right_is_not_mirrored(spec):
    model = models.load("ae")(spec=Spec(1, 16))
    model.spec = spec
    with pytest.raises(Refusal, match="--mirror is for images"):
        refuse("ae", Training(mirror=True), model)
    refuse("ae", Training(), model)


def test_minutes_are_of_training_in_all(tmp_path):
    run, data = small_run("ae", tmp_path)
    list(itertools.islice(fit(run, data, minutes=10), 3))
    run.seconds = 601.0
    assert list(fit(run, data, minutes=10)) == []
    assert len(list(itertools.islice(fit(run, data, minutes=11), 3))) == 3


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_make_the_steps_of_one(tmp_path):
    """torchrun's environment, gloo: after ten steps the weights agree to 1e-6 relative."""
    words = "train vae digits --images 320 --batch 32 --no-report --precision fp32 --width 8 --mirror"
    command = [sys.executable, "-m", "likeness", *words.split(), "--warmup", "10000"]
    env = dict(
        os.environ,
        OMP_NUM_THREADS="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(free_port()),
        LIKENESS_CACHE=str(tmp_path / "cache"),
    )
    one = subprocess.run([*command, str(tmp_path / "one")], env=env, capture_output=True, text=True)
    assert one.returncode == 0, one.stderr
    pair = [
        subprocess.Popen(
            [*command, str(tmp_path / "two")],
            env=env | dict(WORLD_SIZE="2", RANK=str(r), LOCAL_RANK=str(r)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in (0, 1)
    ]
    errors = [p.communicate(timeout=120)[1] for p in pair]
    assert [p.returncode for p in pair] == [0, 0], errors
    a, b = Run.resume(tmp_path / "one"), Run.resume(tmp_path / "two")
    assert a.seen == b.seen == 320 and b.config.facts["processes"] == 2
    for name, value in a.student.state_dict().items():
        other = b.student.state_dict()[name]
        assert float((value - other).norm()) <= 1e-6 * float(value.norm()), name
    for mine, theirs in zip(a.log(), b.log()):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
