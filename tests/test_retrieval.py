"""A text finds its image among others where there is something to find, and by chance where there is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from likeness.core import Refusal
from likeness.data import load
from likeness.evaluation import captions, retrieval


class Perfect(retrieval.Pair):
    """The fake: the vector of an image is its number, which the pixels hold, and of a text its first word."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def of_images(self, x):
        return torch.nn.functional.one_hot(((x.flatten(1)[:, 0] + 1) * 127.5).round().long(), 256).float()

    def of_texts(self, tokens):
        return torch.nn.functional.one_hot(tokens[:, 0], 256).float()


def test_found_is_counted_as_by_hand():
    n = np.arange(250)
    x = np.broadcast_to(n[:, None, None, None], (250, 1, 4, 4)).astype(np.uint8)
    assert retrieval.found(Perfect(), x, n[:, None]).tolist() == [1.0] * 250
    other = np.roll(n, 1)[:, None]
    assert (
        retrieval.found(Perfect(), x, other).sum() <= 3
    )  # the first of a group, where its image is in another
    twins = (n // 2 * 2)[:, None]  # two images of one text: either is right
    assert retrieval.found(Perfect(), x, twins).mean() == 1
    with pytest.raises(Refusal, match="two examples"):
        retrieval.found(Perfect(), x[:1], other[:1])


def test_encoders_learn_what_captions_say_and_not_what_they_do_not():
    data = load("faces:1500", size=16)
    rows = data.held_out[:100]
    x, tokens = np.array(data.x[rows]), data.tokens[rows]
    pair = retrieval.train(data, steps=150)
    again = retrieval.train(data, steps=3), retrieval.train(data, steps=3)
    assert torch.equal(again[0].factor, again[1].factor)
    real = retrieval.found(pair, x, tokens).mean()
    shuffled = retrieval.found(pair, x, np.roll(tokens, 50, 0)).mean()
    assert real > 0.1 > 0.06 > shuffled
    nonsense = replace(data, texts=list(np.random.default_rng(0).permutation(np.array(list(data.texts)))))
    blind = retrieval.train(nonsense, steps=150)
    assert retrieval.found(blind, x, tokens).mean() < 0.06
    with pytest.raises(Refusal, match="fewer than 200"):
        retrieval.train(replace(data, train=data.train[:150]))


def test_the_nearest_caption_is_that_of_most_shared_words():
    data = load("shapes:300")
    rows = data.held_out[:5]
    result = captions.nearest_caption(data, rows)

    def shared(a: int, b: int) -> float:
        bags = [sorted(t for t in data.tokens[i].tolist() if t) for i in (a, b)]
        both = sum(min(bags[0].count(t), bags[1].count(t)) for t in set(bags[0]))
        return both / (len(bags[0]) + len(bags[1]) - both)

    for row, near in zip(rows, result):
        assert near in data.train
        assert shared(row, near) == pytest.approx(max(shared(row, other) for other in data.train))
