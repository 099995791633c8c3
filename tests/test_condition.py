"""What a model is told beside an example: rows stay together, nothing is told by leaving out, and how
networks take it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from likeness.core import NONE, PAD, Batch, Condition, Noise, Refusal, label_of
from likeness.data.captions import LONGEST, MOST, UNKNOWN, Vocabulary, words
from likeness.parts import classes
from likeness.parts.conditioning import Labels, Words, planes
from likeness.training.loop import mirrored

QUICK = settings(max_examples=40, deadline=None)


def numbered(n: int = 6) -> Condition:
    """Every part of example i says i: its label is i, its words are i + 1, its image is i / 10 but for a
    brighter left edge."""
    i = torch.arange(n)
    image = (i / 10).view(-1, 1, 1, 1).repeat(1, 2, 3, 4)
    image[..., 0] += 0.05
    return Condition(i, (i + 1)[:, None].repeat(1, 3), image)


def who(y: Condition) -> list[int]:
    """Which example of numbered() each row is; the parts must agree."""
    assert y.label is not None and y.tokens is not None and y.image is not None
    assert torch.equal(y.tokens, (y.label + 1)[:, None].expand_as(y.tokens))
    assert torch.equal((y.image[:, 0, 0, 1] * 10).round().long(), y.label)
    return [int(i) for i in y.label]


def same(a: Condition | None, b: Condition | None) -> bool:
    if a is None or b is None:
        return a is b
    one, two = a.parts(), b.parts()
    return one.keys() == two.keys() and all(
        torch.equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one
    )


# Rows


def test_rows_by_slice_number_and_mask_keep_the_parts_of_an_example_together():
    y = numbered()
    assert len(y) == 6 and who(y) == [0, 1, 2, 3, 4, 5]
    assert who(y[1:5:2]) == [1, 3] and who(y[4:]) == [4, 5] and len(y[6:]) == 0
    assert who(y[torch.tensor([5, 0, 0, 2])]) == [5, 0, 0, 2]
    assert who(y[torch.tensor([True, False, False, True, False, True])]) == [0, 3, 5]
    assert who(y.repeat(2)) == [0, 1, 2, 3, 4, 5] * 2


@given(st.integers(1, 9), st.integers(1, 9))
@QUICK
def test_a_batch_is_split_with_all_that_each_example_is_told(n: int, size: int):
    """A tuple (tokens, mask) as y was cut as a sequence once, and came to other images."""
    x, noise = torch.arange(n).float().view(-1, 1, 1, 1), Noise(range(n))
    parts = Batch(x, numbered(n), noise, 3, 7).split(size)
    assert [i for part in parts for i in who(part.y)] == list(range(n))
    for part in parts:
        assert part.x.flatten().tolist() == who(part.y) and torch.equal(
            part.noise.keys, noise.keys[part.x.flatten().long()]
        )
        assert len(part) <= size and (part.step, part.seen) == (3, 7)
    assert all(part.y is None for part in Batch(x, None, noise).split(size))


def test_parts_of_other_lengths_and_of_no_tensor_are_refused():
    with pytest.raises(ValueError, match="label has 3, tokens has 2"):
        Condition(torch.zeros(3).long(), torch.zeros(2, 5).long())
    with pytest.raises(ValueError, match="label has 1, image has 2"):
        Condition(torch.zeros(1).long(), image=torch.zeros(2, 1, 4, 4))
    with pytest.raises(TypeError, match=r"Condition\.label is list"):
        Condition([0, 1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Condition\.label is Condition"):
        Condition(numbered())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a Condition has a label, tokens or an image"):
        Condition()


def test_parts_of_another_type_of_number_say_which_is_needed():
    for name, part, wanted in (
        ("label", torch.zeros(3), r"of torch\.float32, and int64 is needed; make it label\.long\(\)"),
        ("label", torch.zeros(3, dtype=torch.bool), "int64"),
        ("tokens", torch.zeros(3, 2, dtype=torch.int32), "int64"),
        ("image", torch.zeros(3, 1, 4, 4, dtype=torch.uint8), r"float is needed; make it image\.float\(\)"),
    ):
        with pytest.raises(TypeError, match=rf"Condition\.{name} is .*{wanted}"):
            Condition(**{name: part})
    assert len(Condition(image=torch.zeros(3, 1, 4, 4, dtype=torch.bfloat16))) == 3


def test_a_batch_of_other_lengths_is_refused():
    """Of 8 images and 4 labels, split(4) made 4 with labels and 4 without."""
    x, y = torch.zeros(8, 1, 4, 4), Condition(torch.zeros(4).long())
    with pytest.raises(ValueError, match="x has 8, y 4 and noise 8"):
        Batch(x, y, Noise(range(8)))
    with pytest.raises(ValueError, match="x has 8, y none and noise 4"):
        Batch(x, None, Noise(range(4)))


def test_more_of_the_same_keeps_the_layout_of_images():
    y = numbered().to("cpu")
    for more in (y.repeat(3), y[1:4], y.dropped(torch.arange(6) < 2), y.mirrored(torch.arange(6) < 2)):
        assert more.image is not None and more.image.is_contiguous(memory_format=torch.channels_last)
    assert who(y.repeat(3)) == [0, 1, 2, 3, 4, 5] * 3


def test_the_frames_of_a_video_are_mirrored_alike():
    video, where = torch.arange(48.0).view(2, 1, 2, 3, 4), torch.tensor([True, False])
    seen = Condition(image=video).mirrored(where).image
    assert torch.equal(seen, torch.stack([video[0].flip(-1), video[1]]))


@pytest.mark.parametrize("y", [torch.zeros(2).long(), (torch.zeros(2, 3), torch.ones(2, 3)), 1])
def test_a_batch_whose_y_is_no_condition_says_what_to_write(y: object):
    with pytest.raises(
        TypeError,
        match=rf"Batch\.y is {type(y).__name__}; make it a "
        r"Condition, "
        r"such as "
        r"Condition\(label=y\)",
    ):
        Batch(torch.zeros(2, 1, 4, 4), y, Noise(range(2)))  # type: ignore[arg-type]


def test_it_moves_to_a_device_with_every_part_and_its_images_channels_last():
    y = numbered().to("meta")
    assert {name: (part.device.type, part.shape, part.dtype) for name, part in y.parts().items()} == {
        name: ("meta", part.shape, part.dtype) for name, part in numbered().parts().items()
    }
    here = numbered().to("cpu")
    assert (
        same(here, numbered())
        and here.image is not None
        and here.image.is_contiguous(memory_format=torch.channels_last)
    )


# What is told


def test_what_is_dropped_tells_nothing_and_the_others_as_before():
    y, where = numbered(), torch.tensor([False, True, False, False, True, False])
    less = y.dropped(where)
    assert who(less[~where]) == [0, 2, 3, 5] and y.label is not None and y.label.tolist() == list(range(6)), (
        "the one before is kept"
    )
    assert same(
        less[where], Condition(torch.full((2,), NONE), torch.full((2, 3), PAD), torch.zeros(2, 2, 3, 4))
    )
    assert same(
        Condition(torch.tensor([3, 4])).dropped(torch.tensor([True, False])),
        Condition(torch.tensor([NONE, 4])),
    )


def test_only_images_are_mirrored_and_only_where_they_are_to_be():
    y, where = numbered(), torch.tensor([True, False, True, False, False, True])
    seen = y.mirrored(where)
    assert y.image is not None and seen.image is not None
    for i, flipped in enumerate(where.tolist()):
        assert torch.equal(seen.image[i], y.image[i].flip(-1) if flipped else y.image[i])
    assert not torch.equal(seen.image[0], y.image[0]), "nothing is tested"
    assert seen.label is y.label and seen.tokens is y.tokens
    plain = Condition(y.label)
    assert plain.mirrored(where) is plain


def test_training_mirrors_an_image_and_the_one_that_belongs_to_it_together():
    """x once looked to the left beside a y that looked to the right."""
    x = torch.rand(64, 2, 8, 8)
    batch = Batch(x, Condition(torch.arange(64), image=-x), Noise(range(64)))
    seen = mirrored(batch)
    assert seen.y is not None and seen.y.image is not None
    assert torch.equal(seen.y.image, -seen.x) and torch.equal(seen.y.label, torch.arange(64))
    flipped = (seen.x == x.flip(3)).flatten(1).all(1)
    assert 10 < int(flipped.sum()) < 54 and torch.equal(seen.x[~flipped], x[~flipped])
    part = mirrored(Batch(x, Condition(image=-x), Noise(range(64)))[5:9])
    assert (
        torch.equal(part.x, seen.x[5:9])
        and part.y is not None
        and same(part.y, Condition(image=seen.y.image[5:9]))
    )


def test_the_parts_that_a_model_takes():
    y = numbered()
    assert same(y.only(("label", "tokens", "image")), y) and same(
        y.only(["tokens"]), Condition(tokens=y.tokens)
    )
    assert y.only(()) is None and Condition(y.label).only(("image",)) is None
    assert label_of(y) is y.label and label_of(Condition(tokens=y.tokens)) is None and label_of(None) is None


# How networks take it


def test_labels_are_an_embedding_with_one_more_row_for_no_class():
    y = Condition(torch.tensor([2, 0, 1, 0]))
    plain, null = Labels(3, 5), Labels(3, 5, null=True)
    assert (
        plain.weight.shape == (3, 5) and null.weight.shape == (4, 5) and set(null.state_dict()) == {"weight"}
    )
    by_hand, more = (
        nn.Embedding(3, 5, _weight=plain.weight.detach()),
        nn.Embedding(4, 5, _weight=null.weight.detach()),
    )
    assert torch.equal(plain(y), by_hand(y.label)) and torch.equal(null(y), more(y.label))
    some = Condition(torch.tensor([2, NONE, 1, NONE]))
    assert torch.equal(null(some), more(torch.tensor([2, 3, 1, 3])))
    nothing = more(torch.full((4,), 3))
    assert torch.equal(null(None, 4), nothing) and torch.equal(
        null(Condition(tokens=torch.ones(4, 2).long())), nothing
    )
    assert torch.equal(null(y.dropped(torch.ones(4).bool())), nothing)
    null(some).sum().backward()
    assert null.weight.grad is not None and null.weight.grad[:, 0].tolist() == [0, 1, 1, 2]
    weight = torch.randn(3, 5)
    assert torch.equal(Labels(3, 5, weight=weight)(y), weight[y.label])


@pytest.mark.parametrize("y", [None, Condition(tokens=torch.ones(2, 3).long())])
def test_without_a_row_for_it_a_missing_class_is_refused(y: Condition | None):
    with pytest.raises(Refusal, match="give labelled images"):
        Labels(3, 5)(y, 2)


def written(seed: int = 0) -> Words:
    torch.manual_seed(seed)
    net = Words(9, 8, 4)
    nn.init.normal_(net.nothing)
    with torch.no_grad():
        net.table.weight[PAD] = 5.0  # even so nothing of it is to be seen
    return net


texts = st.lists(st.lists(st.integers(1, 8), max_size=5), min_size=1, max_size=4)


def tokens_of(rows: list[list[int]], width: int) -> Tensor:
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows]).view(len(rows), width)


@given(texts)
@QUICK
def test_pads_contribute_nothing(rows: list[list[int]]):
    """The mean over the words, by hand, however many columns of PAD stand behind them."""
    net = written()
    by_hand = [
        (net.table.weight[row] + net.places[: len(row)]).mean(0) if row else net.nothing for row in rows
    ]
    for width in (5, 6, 8):
        y = Condition(tokens=tokens_of(rows, width))
        assert torch.allclose(net.vector(y), torch.stack(by_hand), atol=1e-6)
        text = net(y)
        assert text.words.shape == (len(rows), width, 4) and text.there.sum(1).tolist() == [
            len(row) for row in rows
        ]
        assert bool((text.words[~text.there] == 0).all())


def test_a_text_of_no_word_is_as_no_text_and_the_order_of_words_matters():
    net = written()
    nothing = net.nothing.expand(3, 4)
    assert torch.equal(net.vector(None, 3), nothing) and torch.equal(
        net.vector(Condition(torch.zeros(3).long())), nothing
    )
    assert torch.equal(net.vector(Condition(tokens=torch.full((3, 2), PAD))), nothing)
    y = Condition(tokens=torch.tensor([[1, 2, 3], [3, 2, 1], [1, 2, 3]]))
    assert torch.equal(net.vector(y.dropped(torch.ones(3).bool())), nothing)
    assert torch.equal(net(y).words[0], net(y).words[2]) and not torch.allclose(
        net(y).words[0], net(y).words[1].flip(0)
    )
    net.vector(Condition(tokens=tokens_of([[1, 2], [], [7]], 4))).sum().backward()
    assert net.nothing.grad is not None and net.nothing.grad.tolist() == [1.0] * 4
    assert net.table.weight.grad is not None and net.table.weight.grad[:, 0].tolist() == [
        0,
        0.5,
        0.5,
        0,
        0,
        0,
        0,
        1,
        0,
    ]


def test_the_other_image_lies_behind_the_channels_of_the_first():
    x, other = torch.rand(3, 2, 4, 4).double(), torch.rand(3, 1, 4, 4)
    y = Condition(torch.arange(3), image=other)
    both = planes(x, y, 1)
    assert both.shape == (3, 3, 4, 4) and both.dtype == x.dtype
    assert torch.equal(both[:, :2], x) and torch.equal(both[:, 2:], other.double())
    assert planes(x, y, 0) is x and planes(x, None, 0) is x
    for untold in (None, Condition(torch.arange(3))):
        assert torch.equal(planes(x, untold, 2), torch.cat([x, torch.zeros(3, 2, 4, 4).double()], 1))
    assert torch.equal(planes(x, y.dropped(torch.ones(3).bool()), 1), planes(x, None, 1))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 1, 4, 5), (2, 1, 8, 8)])
def test_another_image_of_another_shape_is_refused(shape: tuple[int, ...]):
    with pytest.raises(Refusal, match=f"should be 1x4x4, and it is {'x'.join(map(str, shape[1:]))}"):
        planes(torch.zeros(2, 2, 4, 4), Condition(image=torch.zeros(shape)), 1)


# Captions


def test_a_caption_is_words_and_signs_in_small_letters():
    assert words("A red circle, SMALL.") == ["a", "red", "circle", ",", "small", "."]
    assert words("  ") == [] and words("été\n3x") == ["été", "3x"]


def test_words_are_numbered_from_the_commonest_and_by_alphabet():
    v = Vocabulary.of(["a red circle", "A blue square.", "a red dot", ""])
    assert v.words == ("a", "red", ".", "blue", "circle", "dot", "square") and v.longest == 4 and len(v) == 9
    assert v == Vocabulary.of(["a red dot", "", "A blue square.", "a red circle"]), (
        "the order of captions is nothing"
    )
    assert v.tokens(["a red circle", "", "Red green a"]).tolist() == [
        [2, 3, 6, PAD],
        [PAD] * 4,
        [3, UNKNOWN, 2, PAD],
    ]
    assert Vocabulary.of([]).tokens(["any thing"]).tolist() == [[UNKNOWN]]


def test_what_is_longer_than_the_longest_is_cut():
    v = Vocabulary.of(["one two", "one"])
    assert v.longest == 2 and v.tokens(["two one two one"]).tolist() == [[3, 2]]
    long = Vocabulary.of([" ".join(f"w{i}" for i in range(3 * LONGEST))])
    assert long.longest == LONGEST == len(long.words), "words beyond the cut are no words of the vocabulary"
    many = Vocabulary.of([f"w{i}" for i in range(MOST + 7)] + ["common"] * 2)
    assert len(many.words) == MOST and many.words[0] == "common"


def test_words_that_no_caption_has_are_named_with_the_nearest():
    v = Vocabulary.of(["a red circle", "a blue square"])
    assert v.unknown("a Red cirlce and a blu and") == ["cirlce", "and", "blu"]
    remark = v.remark("a red cirlce")
    assert ("no training caption has the word 'cirlce'") in remark and "circle" in remark.partition(
        "known of it"
    )[2]
    assert "circle" in v.remark("a red zzz cirlce") and "square" not in v.remark("zzz cirlce"), (
        "a vocabulary is too long to be shown"
    )
    assert v.remark("A red circle") == v.remark("") == ""


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
@QUICK
def test_tokens_of_any_text_are_numbers_of_the_vocabulary(known: list[str], asked: list[str]):
    v = Vocabulary.of(known)
    for texts, new in ((known, False), (asked, True)):
        tokens = v.tokens(texts)
        assert tokens.shape == (len(texts), v.longest) and bool(((tokens >= 0) & (tokens < len(v))).all())
        assert new or UNKNOWN not in tokens or max(len(words(t)) for t in known) > LONGEST
        for row, text in zip(tokens, texts):
            there = min(len(words(text)), v.longest)
            assert bool((row[:there] != PAD).all()) and bool((row[there:] == PAD).all()), (
                "PAD only behind the last word"
            )


def test_a_class_that_is_missing_is_a_refusal_where_there_is_no_vector_for_it():
    label = torch.tensor([0, NONE])
    with pytest.raises(Refusal, match="class of each image"):
        Labels(3, 4)(Condition(label))
    with pytest.raises(Refusal, match="class of each image"):
        classes.required("vae", label)
    assert Labels(3, 4, null=True)(Condition(label)).shape == (2, 4)
