"""Sampling has one home: what a sample is of, who may watch it become better, and what is left of it after
Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import likeness
from conftest import toy
from likeness.cli import main
from likeness.core import Condition, Model, Noise, Refusal, final
from likeness.data import picture
from likeness.inference import sampling

GAUSS = str(Path(__file__).with_name("tiny_gauss.py"))


class Told(Model):
    """Shows what it is told: the class as brightness of the first pixel, the text and the image in the
    others."""

    takes = ("label",)

    def build(self) -> None:
        self.weight = nn.Parameter(torch.zeros(1))

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        x = torch.zeros(len(noise), *self.spec.shape)
        yield x
        if y is not None and y.label is not None:
            x[:, 0, 0, 0] = y.label
        if y is not None and y.tokens is not None:
            x[:, 0, 1, : y.tokens.shape[1]] = y.tokens.float()
        if y is not None and y.image is not None:
            x[:, 0, 2:] = y.image[:, 0, 2:]
        yield x


class Reads(Told):
    takes = ("label", "tokens")


class Looks(Told):
    takes = ("image",)


def told(model: Model, n: int, data=None, **of) -> Tensor:
    y = sampling.conditions(model, np.arange(n), data, **of)
    return torch.cat(list(sampling.batches(sampling.draw(model, y, n, 0))))


def test_classes_take_turns_or_are_those_asked_for_and_nobody_is_told_what_it_does_not_take():
    data = toy()
    model = Told(spec=data.spec)
    assert told(model, 5)[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert told(model, 3, label=1)[:, 0, 0, 0].tolist() == [1, 1, 1]
    assert told(model, 3, classes=np.array([1, 1, 0]))[:, 0, 0, 0].tolist() == [1, 1, 0]
    assert sampling.conditions(model, np.arange(7, 10)).label.tolist() == [1, 0, 1], (
        "by its number, not by its place in a batch"
    )
    model.takes = ()
    assert sampling.conditions(model, np.arange(3), label=1) is None


def test_texts_and_images_are_those_of_held_out_examples_in_turns():
    texts = [f"{'a' if i % 2 else 'the'} {'disc' if i % 3 else 'square'}" for i in range(64)]
    data = replace(toy(), texts=texts)
    x = told(Reads(spec=data.spec), 20, data)
    rows = data.held_out[np.arange(20) % 16]
    assert np.array_equal(x[:, 0, 1, : data.spec.tokens].numpy(), data.tokens[rows]) and np.array_equal(
        x[:, 0, 0, 0].numpy(), data.y[rows]
    )
    assert told(Reads(spec=data.spec), 3, data, label=1)[:, 0, 0, 0].tolist() == [1, 1, 1]
    paired = toy().with_pairs(255 - toy().x)
    assert torch.equal(
        told(Looks(spec=paired.spec), 20, paired)[:, :, 2:], picture(paired.pairs[rows])[:, :, 2:]
    )
    apart = toy().with_domain(replace(toy(), x=255 - toy().x))
    assert torch.equal(
        told(Looks(spec=apart.spec), 20, apart)[:, :, 2:], picture(apart.other.x[rows])[:, :, 2:]
    )
    with pytest.raises(Refusal, match="reads draws from a text, which only its data have"):
        told(Reads(spec=data.spec), 3)
    with pytest.raises(Refusal, match="the examples of toy have no tokens"):
        told(Reads(spec=data.spec), 3, toy())


def test_whoever_walks_through_it_sees_every_state_and_keeps_the_gradients():
    model = Told(spec=toy().spec)
    seen: list[tuple] = []
    for state in sampling.kept(
        sampling.draw(model, sampling.conditions(model, np.arange(5)), 5, 0, at_once=2)
    ):
        assert torch.is_grad_enabled() and not state.x.requires_grad
        seen.append((state.first, state.done, round(state.share, 1), len(state.images)))
    assert seen[:3] == [(0, False, 0, 2), (0, False, 0, 2), (0, True, 0.4, 2)] and seen[-1] == (4, True, 1, 5)
    assert len(seen) == 9 and torch.equal(state.images, told(model, 5))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return likeness.train(GAUSS, "digits", "g", images=64, progress=False, precision="fp32")


def test_a_run_lets_its_sampling_be_walked_through(run):
    stages = list(run.sampling(70, seed=1))
    assert [s.share for s in stages] == sorted(s.share for s in stages) and stages[-1].share == 1
    assert (
        torch.equal(stages[-1].pictures.x, run.sample(70, seed=1).x)
        and stages[-1].pictures.recipe == run.sample(70, seed=1).recipe
    )
    first = next(iter(run.sampling(70, seed=1))).pictures
    assert len(first) == 64 and float(first.x.abs().max()) == 0, (
        "the first version of the first batch is grey"
    )
    with pytest.raises(Refusal, match="label"):
        run.sampling(3, label=2)  # before anybody takes a step


def test_completions_and_edits_may_be_walked_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = likeness.train(
        "pixelcnn", "digits", "p", images=64, progress=False, precision="fp32", width=8, depth=1
    )
    stages = list(pixels.completing(n=2, keep=0.75, draws=3))
    assert len(stages) > 1 and torch.equal(stages[-1].pictures.x, pixels.complete(n=2, keep=0.75, draws=3).x)
    assert (
        np.array_equal(stages[-1].pictures.page, pixels.complete(n=2, keep=0.75, draws=3).page)
        and stages[0].pictures.page is not None
    )
    flow = likeness.train(
        "flowmatching", "digits", "f", images=64, progress=False, precision="fp32", scale=0.25
    )
    x = flow.data.take(flow.data.held_out[:2]).x
    stages = list(flow.editing(x, strength=0.5, draws=2, steps=4))
    assert torch.allclose(stages[0].pictures.x, x.repeat_interleave(2, 0), atol=2 / 255), (
        "it begins with the images themselves"
    )
    assert (
        torch.equal(final(stages).pictures.x, flow.edit(x, strength=0.5, draws=2, steps=4).x)
        and len(final(stages).pictures) == 4
    )


# Ctrl-C


@pytest.mark.parametrize("verb", ["sample", "complete", "edit"])
def test_ctrl_c_between_two_states_ends_a_verb_and_leaves_what_was_there(run, verb, monkeypatch, capsys):
    states = list(run.sampling(2))

    def stages(*_, **__):
        yield from states
        raise KeyboardInterrupt

    monkeypatch.setattr(
        likeness.api.Trained,
        {"sample": "sampling", "complete": "completing", "edit": "editing"}[verb],
        stages,
    )
    Path("out.npy").write_bytes(b"before")
    assert main([verb, "g", "-o", "out.npy"]) == 130
    out, err = capsys.readouterr()
    assert not out and "Traceback" not in err and "what was saved before is intact" in err
    assert Path("out.npy").read_bytes() == b"before"


@pytest.mark.parametrize("name", ["out.npy", "out.png"])
def test_ctrl_c_while_a_file_is_written_leaves_the_old_one_and_nothing_beside_it(run, name, monkeypatch):
    def fsync(handle: int) -> None:
        raise KeyboardInterrupt

    Path("out").mkdir()
    (path := Path("out") / name).write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        run.sample(2).save(path)
    assert path.read_bytes() == b"before" and [p.name for p in Path("out").iterdir()] == [name]
