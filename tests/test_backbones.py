"""Networks of other people's packages: small ones of transformers that are made here, and timm itself where
it can be imported, or a stand-in."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from likeness.backbones import packages
from likeness.core import BadData, Offline, Refusal
from likeness.explain import dream, saliency
from likeness.features.extract import extract
from likeness.features.opening import again, load

SEEN = dict(
    do_resize=True,
    size=dict(height=32, width=32),
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=[0.5] * 3,
    image_std=[0.25] * 3,
)


def images(n: int, side: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, side, side), dtype=np.uint8))


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="pip install transformers")


@pytest.fixture
def vit(transformers, tmp_path):
    """A small ViT that decides between three classes, in a folder as the hub has them."""
    torch.manual_seed(0)
    names = {0: "cat", 1: "dog", 2: "hen"}
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        id2label=names,
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(SEEN))
    return tmp_path / "vit", model


def test_any_model_of_transformers_answers_its_layers_its_code_and_its_classes(vit):
    folder, model = vit
    net = load(f"transformers:{folder}")
    x = images(2, 32)
    unit = (x.float() / 255 - 0.5) / 0.25
    assert torch.allclose(net.prepare(x), unit, atol=1e-6) and net.side == 32 and net.scaling == "bilinear"
    with torch.no_grad():
        whole = model(pixel_values=unit, output_hidden_states=True)
        last = model.vit(pixel_values=unit).last_hidden_state
    assert net.labels == ("cat", "dog", "hen") and torch.allclose(net.classify(x), whole.logits, atol=1e-5)
    found = net.outputs(x, ["vit.layernorm", "code"])
    assert torch.allclose(found["vit.layernorm"], last, atol=1e-5) and net.layers["code"] == (24,)
    assert torch.allclose(found["code"], last.mean(1), atol=1e-5), "a model that decides has no pooler"
    assert again(net) == f"transformers:{folder}" and len(net.sha256) == 64


def test_without_a_pooled_answer_the_code_is_the_mean(transformers, tmp_path):
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dino")
    (tmp_path / "dino" / "preprocessor_config.json").write_text(
        json.dumps(
            SEEN | dict(size=dict(shortest_edge=40), crop_size=dict(height=28, width=28), do_center_crop=True)
        )
    )
    net = load(f"transformers:{tmp_path / 'dino'}")
    assert net.side == 28 and net.layers["code"] == (16,) and not net.labels
    tokens = SimpleNamespace(pooler_output=None, last_hidden_state=torch.arange(12.0).view(1, 3, 4))
    places = SimpleNamespace(last_hidden_state=torch.arange(12.0).view(1, 3, 2, 2))
    assert packages.pooled(lambda pixel_values: tokens, images(1, 4)).tolist() == [[4.0, 5.0, 6.0, 7.0]]
    assert packages.pooled(lambda pixel_values: places, images(1, 4)).tolist() == [[1.5, 5.5, 9.5]]


def test_half_precision_weights_are_computed_in_single(vit):
    folder, model = vit
    model.half().save_pretrained(folder)
    net = load(f"transformers:{folder}")
    assert {p.dtype for p in net.module.parameters()} == {torch.float32}


def test_what_was_not_saved_is_not_made_up(transformers, vit):
    """A pooler may be missing, and its answer is not taken; anything else is refused."""
    folder, model = vit
    torch.manual_seed(1)
    transformers.ViTForMaskedImageModeling(model.config).save_pretrained(folder)
    one, two = (load(f"transformers:{folder}").outputs(images(1, 32), ["code"])["code"] for _ in range(2))
    assert torch.equal(one, two)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | dict(num_hidden_layers=3, architectures=["ViTModel"]))
    )
    with pytest.raises(BadData, match="would be random"):
        load(f"transformers:{folder}")


def test_a_repository_does_not_run_its_own_python(vit, monkeypatch):
    folder, _ = vit
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(
            config | dict(model_type="mine", auto_map=dict(AutoConfig="mine.Mine", AutoModel="mine.Mine"))
        )
    )
    (folder / "mine.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    with pytest.raises(Offline):
        load(f"transformers:{folder}")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", "garbage"),
        ("preprocessor_config.json", "[]"),
        ("preprocessor_config.json", json.dumps(SEEN | dict(rescale_offset=True))),
        ("config.json", "{}"),
    ],
    ids=["weights", "a list", "an offset", "no model"],
)
def test_files_that_make_no_sense_are_told(vit, file, content):
    folder, _ = vit
    (folder / file).write_text(content)
    with pytest.raises(Offline, match="cannot be loaded"):
        load(f"transformers:{folder}")


def test_defaults_of_a_processor_count(vit):
    folder, _ = vit
    (folder / "preprocessor_config.json").write_text(
        json.dumps(dict(image_processor_type="ViTImageProcessor", size=dict(height=32, width=32)))
    )
    net = load(f"transformers:{folder}")
    assert (
        net.prepare(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).unique().tolist() == [-1.0]
        and net.scaling == "bilinear"
    )


def test_a_size_of_ones_own_is_refused(vit, tmp_path):
    folder, _ = vit
    Image.fromarray(images(1, 32)[0].permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    with pytest.raises(Refusal, match="leave --size out"):
        extract(
            load(f"transformers:{folder}"), str(tmp_path / "a.png"), ["code"], tmp_path / "f.npy", size=64
        )
    with pytest.raises(Refusal, match="has its own weights"):
        load(f"transformers:{folder}", "none")


def test_a_network_that_hides_a_part_of_what_it_sees_is_refused(transformers, tmp_path):
    config = transformers.ViTMAEConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=16,
        decoder_num_attention_heads=2,
    )
    transformers.ViTMAEModel(config).save_pretrained(tmp_path / "mae")
    (tmp_path / "mae" / "preprocessor_config.json").write_text(json.dumps(SEEN))
    with pytest.raises(Refusal, match="answers differently each time"):
        load(f"transformers:{tmp_path / 'mae'}")


def test_a_model_of_texts_is_refused_and_a_missing_one_is_offline(transformers, tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "preprocessor_config.json").write_text(
        json.dumps(SEEN | dict(image_processor_type="ViTImageProcessor"))
    )
    with pytest.raises(Refusal, match="name a model of images"):
        load(f"transformers:{tmp_path / 'bert'}")
    with pytest.raises(Offline, match=r"config\.json"):
        load(f"transformers:{tmp_path}")


def test_its_features_become_a_matrix(vit, tmp_path):
    folder, model = vit
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(images(3, 32)[i].permute(1, 2, 0).numpy()).save(tmp_path / "photos" / f"{i}.png")
    *_, _ = extract(load(f"transformers:{folder}"), str(tmp_path / "photos"), ["logits"], tmp_path / "f.npy")
    with torch.no_grad():
        assert np.allclose(
            np.load(tmp_path / "f.npy"),
            model(pixel_values=(images(3, 32).float() / 255 - 0.5) / 0.25).logits,
            atol=1e-5,
        )


@pytest.mark.parametrize(
    ("seen", "mean", "scale", "bgr"),
    [
        (SEEN, 127.5, 63.75, False),
        (SEEN | dict(do_normalize=False), 0.0, 255.0, False),
        (SEEN | dict(rescale_factor=1 / 127.5), 63.75, 31.875, False),
        (SEEN | dict(do_rescale=False, image_mean=[100.0] * 3, image_std=[50.0] * 3), 100.0, 50.0, False),
        (SEEN | dict(do_flip_channel_order=True), 127.5, 63.75, True),
    ],
    ids=["usual", "only rescaled", "to two", "in levels", "blue first"],
)
def test_images_are_scaled_as_their_own_preprocessing_says(seen, mean, scale, bgr):
    given = packages.input_of(seen)
    assert given.bgr is bgr and np.allclose(given.mean, mean) and np.allclose(given.scale, scale)


# timm


class Net(nn.Module):
    """What timm promises of a model."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.mean((2, 3)) if pre_logits else self.head(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@pytest.fixture
def timm(monkeypatch):
    asked = []

    def create_model(name: str, pretrained: bool) -> Net:
        asked.append(pretrained)
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        if pretrained:
            raise OSError("no network")
        return Net()

    config = dict(input_size=(3, 16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), interpolation="bicubic")
    package = SimpleNamespace(
        create_model=create_model, data=SimpleNamespace(resolve_model_data_config=lambda model: config)
    )
    monkeypatch.setitem(sys.modules, "timm", package)
    return asked


def test_any_model_of_timm_answers(timm, tmp_path):
    net = load("timm:small", "none", seed=3)
    x = images(2, 16)
    assert torch.allclose(
        net.prepare(x),
        (x.float() / 255 - torch.tensor((0.5, 0.4, 0.3)).view(3, 1, 1))
        / torch.tensor((0.2, 0.2, 0.1)).view(3, 1, 1),
        atol=1e-6,
    )
    found = net.outputs(x, ["stem", "code", "logits"])
    assert (
        torch.allclose(found["code"], found["stem"].mean((2, 3)))
        and net.classify(x).shape == (2, 4)
        and net.labels == ("0", "1", "2", "3")
    )
    assert torch.equal(
        net.module.stem.weight, load("timm:small", "none", seed=3).module.stem.weight
    ) and timm == [False, False]
    assert again(net) == "timm:small" and net.source == "random weights, seed 3"
    save_file({k: v + 1 for k, v in net.module.state_dict().items()}, tmp_path / "w.safetensors")
    other = load("timm:small", str(tmp_path / "w.safetensors"))
    assert torch.allclose(other.module.head.weight, net.module.head.weight + 1) and other.sha256 != net.sha256


def test_what_timm_cannot_give_is_told(timm, tmp_path):
    with pytest.raises(Refusal, match=r"timm:large cannot be made.*Unknown model"):
        load("timm:large", "none")
    with pytest.raises(Offline, match="none for random ones"):
        load("timm:small")
    with pytest.raises(BadData, match="cannot be read"):
        load("timm:small", str(tmp_path / "gone.safetensors"))
    save_file({"head.weight": torch.zeros(4, 6)}, tmp_path / "half.safetensors")
    with pytest.raises(BadData, match="do not fit"):
        load("timm:small", str(tmp_path / "half.safetensors"))


def test_timm_itself(monkeypatch):
    try:
        import timm
    except (ImportError, RuntimeError):
        pytest.skip("timm wants a torchvision that fits this torch")
    model = timm.create_model("test_resnet", pretrained=False)
    net = load("timm:test_resnet", "none")
    net.module.load_state_dict(model.state_dict())
    x = images(2, net.side)
    with torch.no_grad():
        assert torch.allclose(net.classify(x), model.eval()(net.prepare(x)), atol=1e-5)
    assert net.layers["code"] == (model.num_features,) and len(net.layers) > 10


def test_tokens_are_no_places(vit):
    net = load(f"transformers:{vit[0]}")
    with pytest.raises(Refusal, match="are tokens"):
        saliency.last_with_places(net)
    assert len(net.layers[layer := dream.usual_layer(net)]) < 3 and "norm" not in layer
