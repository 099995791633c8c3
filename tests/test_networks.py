"""Feature networks: trained once and kept, named by their hash, refused in one sentence."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import small_run, toy
from likeness.backbones import catalogue
from likeness.backbones.hub import HUB, digest
from likeness.cli import main
from likeness.core import BadData, Offline, Refusal
from likeness.data import Data
from likeness.features import named, networks, opening
from likeness.features.networks import INCEPTION, INCEPTION_SHA256, Network, Recipe
from likeness.runs.run import Run
from likeness.training.loop import fit

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A cache of its own, recipes that take a second, and no user's data."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    monkeypatch.setattr(networks, "OWN", {"classifier": Recipe(4, 50), "vicreg": Recipe(4, 50)})


@pytest.fixture
def data() -> Data:
    return toy(160, size=8)


def unlabelled(data: Data) -> Data:
    return replace(data, y=None, classes=(), fingerprint="no labels")


# Hashes


def test_the_hash_is_of_names_shapes_and_bytes_in_the_order_of_names():
    a, b = torch.arange(6.0).view(2, 3), torch.ones(2, dtype=torch.int64)
    by_hand = hashlib.sha256(
        b"a torch.float32 (2, 3)\n"
        + np.arange(6, dtype="<f4").tobytes()
        + b"b torch.int64 (2,)\n"
        + np.ones(2, dtype="<i8").tobytes()
    ).hexdigest()
    assert digest({"b": b, "a": a}) == digest({"a": a, "b": b}) == by_hand
    assert digest({"a": a.T.contiguous().T, "b": b}) == by_hand, "the layout in memory is not the weights"
    others = [
        {"a": a.view(3, 2), "b": b},
        {"c": a, "b": b},
        {"a": a + 1e-6, "b": b},
        {"a": a.double(), "b": b},
    ]
    assert len({by_hand, *map(digest, others)}) == 5


# Networks of our own


@pytest.mark.parametrize("kind, dims", [("classifier", 64), ("vicreg", 128)])
def test_it_is_trained_once_and_then_found(data, kind, dims):
    steps: list[tuple[int, int]] = []
    assert (f"training the {kind} that toy is compared with, once: 576 images, about ") in networks.outlook(
        data, kind
    )
    network = networks.own(data, kind, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (576, 576) and networks.outlook(data, kind) == ""
    again = networks.own(data, kind, progress=lambda *_: pytest.fail("trained twice"))
    assert (network.name, network.dims, network.resize, network.scope) == (
        kind,
        dims,
        "none",
        "only within toy",
    )
    assert (
        network.sha256 == again.sha256
        and len(network.sha256) == 64
        and network.label == f"{kind} {network.sha256[:12]}"
    )
    assert np.array_equal(network.features(data.x[:9]), again.features(data.x[:9]))


def test_the_same_data_make_the_same_weights_and_others_do_not(data, tmp_path, monkeypatch):
    one = networks.own(data)
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "another"))
    torch.manual_seed(7)
    assert networks.own(data).sha256 == one.sha256
    assert networks.own(replace(data, fingerprint="toy-2", train=data.train[:100])).sha256 != one.sha256


def test_nothing_of_a_training_in_between_is_touched(data, tmp_path):
    alone, small_data = small_run("ae", tmp_path / "a")
    list(fit(alone, small_data))
    watched, _ = small_run("ae", tmp_path / "b")
    for number, _ in enumerate(fit(watched, small_data)):
        if number == 3:
            torch.manual_seed(5)
            before = torch.get_rng_state()
            networks.outlook(data), networks.own(data)
            assert torch.equal(before, torch.get_rng_state())
    a, b = alone.tensors(), watched.tensors()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_at_once_train_one(data):
    trained, found = list[str](), list[Network]()

    def ask(name: str) -> None:
        found.append(networks.own(data, progress=lambda *_: trained.append(name)))

    both = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    [t.start() for t in both], [t.join(60) for t in both]
    assert len(set(trained)) == 1 and len(found) == 2 and found[0].sha256 == found[1].sha256


def test_what_was_stopped_or_damaged_is_trained_anew(data, tmp_path):
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        networks.own(data, progress=stop)
    place = tmp_path / "cache" / "networks"
    assert not [p for p in place.iterdir() if p.is_dir()] and networks.outlook(data)
    network = networks.own(data)
    (kept,) = (p for p in place.iterdir() if p.is_dir())
    (place / f"{kept.name}.tmp-killed").mkdir()
    for state in kept.glob("state/*/state.safetensors"):
        state.write_bytes(b"damaged")
    assert networks.own(data).sha256 == network.sha256
    assert [p for p in place.iterdir() if p.is_dir()] == [kept]


def test_features_do_not_depend_on_the_chunks(data, tmp_path, monkeypatch):
    network = networks.own(data)
    np.save(tmp_path / "x.npy", data.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole, none = network.features(data.x), network.features(data.x[:0])
    monkeypatch.setattr(networks, "CHUNK", 7 * 3 * 64)
    parts = network.features(mapped)
    assert whole.shape == (160, 64) and whole.dtype == np.float32 and none.shape == (0, 64)
    assert np.allclose(whole, parts, atol=1e-5) and not np.allclose(whole[0], whole[1])


def test_probabilities_are_those_of_a_network_with_classes(data):
    p = networks.own(data).probabilities(data.x[:20])
    assert p.shape == (20, 2) and np.allclose(p.sum(1), 1, atol=1e-5)
    assert networks.own(data, "vicreg").probabilities(data.x[:20]) is None


def test_the_best_network_is_a_classifier_where_labels_teach_one(data):
    assert networks.best(data) == "classifier"
    assert networks.best(unlabelled(data)) == "vicreg"
    assert networks.best(replace(data, train=data.train[:39])) == "vicreg", "20 images a class"
    assert networks.best(replace(data, y=np.zeros(160, np.int64))) == "vicreg", "one class only"
    assert networks.load("auto", data).name == "classifier"


def test_what_cannot_be_is_refused(data):
    with pytest.raises(Refusal, match=r"8x8 and cannot look at 1x16x16.*--size 8"):
        networks.own(data).features(toy(4).x)
    with pytest.raises(Refusal, match="30 training images are too few"):
        networks.own(replace(data, train=data.train[:30]))
    with pytest.raises(Refusal, match="train vicreg"):
        networks.own(unlabelled(data), "classifier")
    with pytest.raises(Refusal, match="did you mean 'inception'"):
        networks.load("incepton", data)


def test_a_run_that_encodes_is_a_network(data, tmp_path):
    run, small_data = small_run("vae", tmp_path / "run")
    list(fit(run, small_data))
    network = networks.load(str(tmp_path / "run"), small_data)
    with torch.no_grad():
        codes = Run.open(tmp_path / "run").model.encode(small_data.take(np.arange(5)).x)
    assert np.allclose(network.features(small_data.x[:5]), codes, atol=1e-5) and network.dims == 8
    assert network.name == "vae in run" and network.sha256 == digest(run.model.state_dict())
    with pytest.raises(Refusal, match="looks at images of 1x16x16, and those of toy are 1x8x8"):
        networks.load(str(tmp_path / "run"), data)
    with pytest.raises(Refusal, match="is not a run"):
        networks.load(str(tmp_path), data)


# TorchScript


class Script(nn.Module):
    """Called like the published Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 4)

    def forward(
        self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        h = x.float().mean((2, 3)) / 255
        if return_features:
            return h
        return torch.softmax(h @ self.last.weight.T if no_output_bias else self.last(h), 1)


class Deaf(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def script(tmp_path):
    torch.manual_seed(0)
    module = Script()
    torch.jit.script(module).save(str(tmp_path / "mine.pt"))
    return module, tmp_path / "mine.pt"


def test_a_torchscript_file_is_taken_at_its_word_and_carries_its_own_hash(script, data):
    module, file = script
    network = networks.load(str(file), data)
    assert network.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() != INCEPTION_SHA256
    assert (network.name, network.dims, network.scope) == ("mine", 3, "anywhere") and "grey" in network.resize
    colour = toy(12, size=8, channels=3).x * np.array([1, 0, 0], np.uint8)[:, None, None]
    assert np.allclose(network.features(colour), colour.mean((2, 3)) / 255, atol=1e-6)
    grey = network.features(data.x[:5])
    assert np.allclose(grey, np.repeat(data.x[:5].mean((2, 3)) / 255, 3, 1), atol=1e-6), (
        "grey in three channels"
    )
    logits = grey @ module.last.weight.detach().numpy().T
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(network.probabilities(data.x[:5]), expected, atol=1e-5), (
        "without the bias of the last layer"
    )


def test_another_file_in_the_place_of_inception_is_refused_with_both_hashes(
    script, tmp_path, monkeypatch, data
):
    _, file = script
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "data"))
    with pytest.raises(
        Offline, match=r"(?s)fetch " rf"https://.*{INCEPTION} and " r"put it at " rf"{tmp_path}/data/weights"
    ):
        networks.load("inception", data)
    place = tmp_path / "data" / "weights" / INCEPTION
    place.parent.mkdir(parents=True)
    place.write_bytes(file.read_bytes())
    mine = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(BadData, match=f"{mine}, not {INCEPTION_SHA256}"):
        networks.load("inception", data)
    assert networks.inception(place).sha256 == mine, "named by its path it is taken"
    monkeypatch.setattr(networks, "INCEPTION_SHA256", mine)
    assert networks.load("inception", data).name == "inception" and "299x299" in networks.inception().resize


def test_a_file_that_is_no_such_network_is_refused(tmp_path, data):
    (tmp_path / "text.pt").write_text("not a network")
    torch.jit.script(Deaf()).save(str(tmp_path / "deaf.pt"))
    with pytest.raises(BadData, match="is no TorchScript network"):
        networks.load(str(tmp_path / "text.pt"), data)
    with pytest.raises(Refusal, match="return_features=True"):
        networks.load(str(tmp_path / "deaf.pt"), data)
    with pytest.raises(BadData, match="cannot be read"):
        networks.load(str(tmp_path / "nowhere.pt"), data)


# DINOv2 and CLIP, with a stand-in for the package


class Stub(nn.Module):
    """Answers as the models of transformers do; `wrapped`: as those of version 5."""

    def __init__(self, wrapped: bool = False) -> None:
        super().__init__()
        self.wrapped, self.scale = wrapped, nn.Parameter(torch.tensor(2.0))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        token = self.scale * pixel_values.mean((2, 3))
        return SimpleNamespace(last_hidden_state=torch.stack([token, torch.zeros_like(token)], 1))

    def get_image_features(self, pixel_values: torch.Tensor) -> object:
        found = pixel_values.amax((2, 3))
        return SimpleNamespace(pooler_output=found) if self.wrapped else found


def install(monkeypatch: pytest.MonkeyPatch, model: Stub | Exception) -> list[tuple[str, bool]]:
    asked: list[tuple[str, bool]] = []

    def from_pretrained(place: str, use_safetensors: bool, trust_remote_code: bool) -> Stub:
        asked.append((place, use_safetensors and not trust_remote_code))
        if isinstance(model, Exception):
            raise model
        return model

    monkeypatch.setitem(
        sys.modules,
        "transformers",
        SimpleNamespace(AutoModel=SimpleNamespace(from_pretrained=from_pretrained)),
    )
    return asked


def test_without_the_package_it_is_said_what_to_install(monkeypatch, data):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("dinov2", "clip"):
        with pytest.raises(Refusal, match="pip install transformers"):
            networks.load(name, data)


def test_dinov2_answers_its_class_token_and_clip_its_image_features(monkeypatch, data):
    asked = install(monkeypatch, Stub())
    network, x = networks.load("dinov2", data), data.x[:3]
    pixels = bicubic(x, 224) / 255 - torch.tensor(HUB["dinov2"].mean).view(3, 1, 1)
    pixels = pixels / torch.tensor(HUB["dinov2"].std).view(3, 1, 1)
    assert asked == [("facebook/dinov2-large", True)], "safetensors only, and no code of the repository"
    assert np.allclose(network.features(x), 2 * pixels.mean((2, 3)), atol=1e-5) and network.sha256 == digest(
        {"scale": torch.tensor(2.0)}
    )
    install(monkeypatch, Stub(wrapped=True))
    five = networks.load("clip:some/where", data)
    install(monkeypatch, Stub())
    four = networks.load("clip:some/where", data)
    assert (
        five.name == "clip in where"
        and np.array_equal(five.features(x), four.features(x))
        and five.scope == "anywhere"
    )
    install(monkeypatch, OSError("no such file"))
    with pytest.raises(Offline, match=r"no such file.*clip:FOLDER"):
        networks.load("clip", data)


# Layers of the networks that are built here


def bicubic(x: np.ndarray, side: int) -> torch.Tensor:
    """uint8 (n, C, H, W) to float (n, 3, side, side), by Pillow."""
    pages = [Image.fromarray(a[0] if len(a) == 1 else a.transpose(1, 2, 0)).convert("RGB") for a in x]
    large = [np.asarray(page.resize((side, side), Image.Resampling.BICUBIC)) for page in pages]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).float()


@pytest.fixture
def unpublished(monkeypatch):
    """Random weights instead of the published ones, the same each time."""
    load = opening.load
    monkeypatch.setattr(opening, "load", lambda what, layers: load(what, "none", layers, seed=3))
    return lambda name: load(name, "none", seed=3)


def test_samples_are_compared_by_the_code_of_a_network_that_is_built_here(data, unpublished):
    network, x = networks.load("squeezenet", data), data.x[:2]
    net = unpublished("squeezenet")
    with torch.no_grad():
        places = net.outputs(bicubic(x, 227) / 127.5 - 1, ["fire9/concat"])["fire9/concat"]
    assert places.shape[1:] == (512, 14, 14) and network.dims == 512
    assert np.allclose(network.features(x), places.mean((2, 3)), rtol=1e-3, atol=1e-4)
    assert network.name == "squeezenet fire9/concat" and network.scope == "anywhere" and network.judge is None
    assert network.resize == "Pillow bicubic, antialiased, to 227x227; grey in three channels"


def test_the_hash_is_of_the_weights_on_the_way_to_the_layer(data, unpublished, monkeypatch):
    sha, net = networks.load("squeezenet", data).sha256, unpublished("squeezenet")
    classes = {"conv10.weight", "conv10.bias"}
    assert sha == digest({k: v for k, v in net.nodes.state_dict().items() if k not in classes})
    for name, same in (("conv10", True), ("fire9/squeeze1x1", False)):
        with torch.no_grad():
            net.nodes[name].weight.add_(1)
        monkeypatch.setattr(opening, "load", lambda *_, **__: net)
        assert (networks.load("squeezenet", data).sha256 == sha) is same, name


def test_each_network_that_is_built_here_has_a_code_before_its_classes():
    assert catalogue.CODES.keys() == catalogue.GRAPHS.keys()
    widths = {name: catalogue.named(name).layers[layer][0] for name, layer in catalogue.CODES.items()}
    assert widths == dict(
        vgg16=4096, vgg19=4096, mobilenet=1024, mobilenet_v2=1280, squeezenet=512, resnet50=2048
    )


# What a name stands for


def test_what_a_name_stands_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("clip", "run"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, expected in {
        "auto": ("auto", "auto", ""),
        "vicreg": ("own", "vicreg", ""),
        "vgg16": ("graph", "vgg16", ""),
        "clip": ("hub", "clip", ""),
        "clip:some/where": ("hub", "clip", "some/where"),
        "timm:vit:small": ("package", "timm", "vit:small"),
        "./clip": ("run", "./clip", ""),
        "~/run": ("run", "~/run", ""),
        "./run/../x.pt": ("script", "./run/../x.pt", ""),
    }.items():
        assert named.parse(text, named.SCORES) == expected, text
    assert named.parse("~/run", named.LAYERS).path == tmp_path / "run"
    assert named.WORDS["own"] == tuple(networks.OWN)


@pytest.mark.parametrize(
    ("text", "takes", "lesson"),
    [
        ("incepton", named.SCORES, r"no network 'incepton'; did you mean 'inception'.*a \.pt file"),
        ("vgg15", named.LAYERS, r"no network 'vgg15'; did you mean 'vgg\d+'.*a run that encodes\.$"),
        ("foo", named.SCORES, r"no network 'foo'\.  There are: auto, none"),
        ("vgg16:x", named.LAYERS, "no network 'vgg16:x'"),
        (
            "inception",
            named.LAYERS,
            r"'inception' is only available for evaluate; for layers use one of: vgg16",
        ),
        ("a.pt", named.LAYERS, r"'a\.pt' is only available for evaluate"),
        (".", named.LAYERS, r"\. is not a run: it has no config\.json"),
    ],
)
def test_what_stands_for_nothing_is_refused(tmp_path, monkeypatch, text, takes, lesson):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=lesson):
        named.parse(text, takes)


def test_the_help_of_each_verb_names_what_it_takes(capsys):
    for verb, takes in dict(evaluate=named.SCORES, features=named.LAYERS, look=named.LAYERS).items():
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        for kind in takes:
            words = named.WORDS.get(kind, ("run",))
            assert kind in ("points", "script") or any(word in text for word in words), (verb, kind)
