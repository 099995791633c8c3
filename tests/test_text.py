"""Encoders of texts: each word sees its own text and nothing else, and a frozen one says what its library
says."""

import sys

import pytest
import torch

from likeness.core import PAD, Condition, Refusal
from likeness.parts.text import Frozen, TextEncoder

TEXTS = torch.tensor([[2, 3, 4, PAD], [5, PAD, PAD, PAD], [PAD] * 4, [2, 3, 4, 5]])


def made() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(6, 4, 16, depth=2, heads=2).double()


def test_a_text_depends_on_its_own_words_alone():
    net = made()
    words, there = net(Condition(tokens=TEXTS))
    assert there.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] + [False] * 3, [True] * 4]
    assert not words[~there].any() and words.shape == (4, 4, 16)
    for i in range(4):
        alone = net(Condition(tokens=TEXTS[i : i + 1]))
        assert torch.allclose(words[i], alone.words[0], atol=1e-12)
    cut, _ = net(Condition(tokens=TEXTS[:, :3]))
    assert torch.allclose(cut[:3], words[:3], atol=1e-12)
    longer = torch.nn.functional.pad(TEXTS, (0, 5), value=3)
    assert torch.equal(net(Condition(tokens=longer)).words[3], words[3])


def test_every_word_sees_every_word_of_its_text():
    net = made()
    words, _ = net(Condition(tokens=TEXTS))
    for place in range(3):
        other = TEXTS.clone()
        other[0, place] = 5
        changed, _ = net(Condition(tokens=other))
        assert (changed[0, :3] != words[0, :3]).any(1).all()
        assert torch.equal(changed[1:], words[1:])


def test_order_counts_and_no_text_is_one_vector():
    net = made()
    a, b = (net.vector(Condition(tokens=torch.tensor([row]))) for row in ([2, 3, PAD, PAD], [3, 2, PAD, PAD]))
    assert not torch.allclose(a, b, atol=1e-3)
    silent = net(Condition(tokens=TEXTS)).words[2]
    for y, n in ((None, 2), (Condition(label=torch.zeros(2, dtype=torch.int64)), 0)):
        words, there = net(y, n)
        assert torch.equal(words[0], silent) and there.sum(1).tolist() == [1, 1]
    words, _ = net(Condition(tokens=TEXTS))
    words.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.fixture
def folder(tmp_path):
    """A BERT of two layers with random weights, and a tokeniser of whole words."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=10,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle", "a", "blue"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    return tmp_path


def test_a_frozen_encoder_says_what_its_library_says(folder):
    import transformers

    net = Frozen(f"transformers:{folder}", ("red", "circle", "a"), 4)
    y = Condition(tokens=torch.tensor([[4, 2, 3, PAD], [2, PAD, PAD, PAD], [PAD] * 4]))
    words, there = net(y)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokeniser = transformers.AutoTokenizer.from_pretrained(folder)
    for i, text in enumerate(("a red circle", "red", "")):
        with torch.no_grad():
            expected = model(**tokeniser(text, return_tensors="pt")).last_hidden_state[0]
        n = len(expected)
        assert torch.allclose(words[i, :n], expected, atol=1e-5) and there[i].tolist() == [
            k < n for k in range(there.shape[1])
        ]
        assert not words[i, n:].any()
    assert net.width == 8 and list(net.parameters()) == [] and net.state_dict() == {}
    assert net(None, 2).words.shape[0] == 2


def test_code_that_lies_beside_an_encoder_is_not_run(folder, tmp_path):
    import json

    config = json.loads((folder / "config.json").read_text())
    config |= dict(model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(Refusal, match="cannot be opened as a text encoder"):
        Frozen(str(folder), ("red",), 4)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


def test_an_encoder_with_missing_weights_and_one_that_is_not_there_are_refused(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(Refusal, match=r"lacks 1 of its encoder's weights, such as encoder\.layer\.1"):
        Frozen(str(folder), ("red",), 4)
    with pytest.raises(Refusal, match=r"names no folder with a config\.json"):
        Frozen("transformers:/nowhere", ("red",), 4)
