"""Encoders of texts: each word sees its own text and nothing else, and a frozen one says what its library
says."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from likeness.core import PAD, Condition, Refusal, Spec
from likeness.models.flowmatching import FlowMatching
from likeness.parts.text import Frozen, Relative, TextEncoder, Texts
from likeness.runs.run import _of_its_time

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
    tmp_path = tmp_path / "bert"
    tmp_path.mkdir()
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


def test_a_phrase_is_the_same_wherever_it_stands():
    """Of relative places: a word after which nothing follows that reaches it is what it was one place
    earlier, and an absolute place would be another vector."""
    torch.manual_seed(0)
    net = Relative(6, 8, 16, depth=2, heads=2).double()
    phrase = torch.tensor([[2, 3, 4, 5]])
    early = net(Condition(tokens=phrase))
    # words in front of it are told as not there, which leaves their places free
    late = torch.cat([phrase.new_full((1, 3), PAD), phrase], 1)
    assert torch.allclose(net.through(net.table(late), late != PAD)[0, 3:], early.words[0], atol=1e-12)
    swapped = net(Condition(tokens=phrase[:, [1, 0, 2, 3]]))
    assert not torch.allclose(swapped.words[0, [1, 0, 2, 3]], early.words[0], atol=1e-3), "order counts"


def test_a_relative_reader_takes_as_many_words_as_there_are():
    torch.manual_seed(0)
    net = Relative(6, 4, 16, depth=2, heads=2).double()
    words, there = net(Condition(tokens=TEXTS))
    assert there.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] + [False] * 3, [True] * 4]
    for i in range(4):
        alone = net(Condition(tokens=TEXTS[i : i + 1]))
        n = alone.words.shape[1]
        assert n == int(there[i].sum()) and torch.allclose(words[i, :n], alone.words[0], atol=1e-12)
        assert not words[i, n:].any()
    assert torch.allclose(net(None, 2).words[0], net(Condition(tokens=TEXTS[2:3])).words[0], atol=1e-12)
    words.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_reader_is_one_that_there_is():
    assert isinstance(Texts.read_by("absolute", 6, 4, 16).encoder(), TextEncoder)
    assert isinstance(Texts.read_by("relative", 6, 4, 16).encoder(), Relative)
    with pytest.raises(Refusal, match="no --reader nearest; it is relative or absolute"):
        Texts.read_by("nearest", 6, 4, 16)
    with pytest.raises(Refusal, match=r"names no folder with a config\.json"):
        Texts.read_by("transformers:/nowhere", 6, 4, 16)


@pytest.mark.parametrize("net", ["unet", "patches", "dit", "mlp"])
def test_a_denoiser_reads_by_a_frozen_encoder(folder, net):
    """Nothing of it is trained, saved or copied, and what is drawn depends on what it says."""
    spec = Spec(1, 8, vocabulary=5, tokens=3)
    torch.manual_seed(0)
    model = FlowMatching(spec=spec, net=net, scale=0.25, text=True, reader=f"transformers:{folder}")
    model.knows(("red", "circle", "blue"))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    (frozen,) = [m for m in model.modules() if isinstance(m, Frozen)]
    assert not any("text." in name for name in model.state_dict()) and frozen.words == (
        "red",
        "circle",
        "blue",
    )
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 0.9])
    told = model.velocity(x, t, Condition(tokens=torch.tensor([[2, 3, PAD], [4, 3, PAD]])))
    same = model.velocity(x, t, Condition(tokens=torch.tensor([[2, 3, PAD], [2, 3, PAD]])))
    assert torch.allclose(told[0], same[0], atol=1e-5) and not torch.allclose(told[1], same[1], atol=1e-4)
    (other,) = [m for m in copy.deepcopy(model).modules() if isinstance(m, Frozen)]
    assert other.__dict__["_net"] is frozen.__dict__["_net"]
    told.sum().backward()
    assert all(p.grad is None for p in frozen.__dict__["_net"].parameters())


def test_a_run_keeps_its_frozen_encoder_and_draws_the_same_when_it_is_opened(folder, tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    lines = []
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(pictures / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": ("a red circle", "a blue circle")[i % 2]}))
    (pictures / "metadata.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(folder.parent)
    asked = dict(text=True, net="unet", scale=0.25, steps=2, images=32, batch=16, progress=False, size=8)
    run = likeness.train(
        "flowmatching", pictures, tmp_path / "run", reader=f"transformers:{folder.name}", **asked
    )
    assert run.config.options["reader"] == f"transformers:{folder}", "the whole path"
    drawn, again = (
        run.imagine("a red circle", n=2),
        likeness.open(tmp_path / "run").imagine("a red circle", n=2),
    )
    assert torch.equal(drawn.x, again.x)
    assert not any("_net" in name for name in run.model.state_dict())


def test_a_run_that_names_no_reader_is_from_when_places_were_absolute(tmp_path):
    assert _of_its_time(dict(text=True, label_dropout=0.1))["reader"] == "absolute"
    assert _of_its_time(dict(text=True, label_dropout=0.1, reader="relative"))["reader"] == "relative"
    for others in (dict(text=0.14, drop_text=0.1), dict(label_dropout=0.1)):
        assert "reader" not in _of_its_time(others)


def test_a_denoiser_that_names_no_optimiser_is_from_when_it_was_adam():
    assert _of_its_time(dict(net="patches", label_dropout=0.1))["optimizer"] == "adam"
    assert _of_its_time(dict(net="dit", label_dropout=0.1, optimizer="muon"))["optimizer"] == "muon"
    for others in (dict(net="resnet"), dict(label_dropout=0.1)):
        assert "optimizer" not in _of_its_time(others)
