"""Networks with named layers: padding by enumeration, one convolution for two layers, weights that are what
they should be."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import small_run, toy
from likeness.backbones import weights
from likeness.backbones.catalogue import GRAPHS, named
from likeness.backbones.layers import (
    UNIT,
    Add,
    Conv,
    Dense,
    Flatten,
    Graph,
    Hooked,
    Input,
    Norm,
    Pad,
    Relu,
    rows,
)
from likeness.core import BadData, Offline, Refusal
from likeness.features.opening import again, load
from likeness.training.loop import fit

SMALL = ("squeezenet", "mobilenet", "mobilenet_v2")


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path, monkeypatch):
    """No weights of the user's, and no network."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "weights").mkdir(parents=True)
    monkeypatch.setattr(
        weights.urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network here"))
    )


def images(n: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def shaken(net: Graph) -> Graph:
    """Batch norms that do something."""
    chance = torch.Generator().manual_seed(1)
    for layer in net.nodes.values():
        if isinstance(layer, Norm):
            for value, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.3, 0.3),
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(value, low, high, chance)
    return net


# Layers


@pytest.mark.parametrize("side", [7, 8, 9])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (1, 1), (5, 2), (2, 2)])
def test_same_is_that_of_tensorflow(side: int, kernel: int, stride: int):
    """ceil(side / stride) places; zeros are divided evenly, and the odd one stands behind."""
    if kernel == 2 and stride == 1:
        return
    conv = Conv(1, 1, kernel, stride, bias=False)
    x = torch.rand(1, 1, side, side)
    out = -(-side // stride)
    total = max((out - 1) * stride + kernel - side, 0)
    framed = np.zeros((side + total, side + total))
    framed[total // 2 : total // 2 + side, total // 2 : total // 2 + side] = x[0, 0]
    w = conv.weight[0, 0].detach().numpy()
    wanted = [
        [
            (framed[i * stride : i * stride + kernel, j * stride : j * stride + kernel] * w).sum()
            for j in range(out)
        ]
        for i in range(out)
    ]
    np.testing.assert_allclose(conv(x)[0, 0].detach().numpy(), wanted, rtol=1e-4, atol=1e-6)


def test_values_are_flattened_in_the_order_of_keras():
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    assert np.array_equal(Flatten()(x).numpy(), x.permute(0, 2, 3, 1).numpy().reshape(2, -1))
    assert rows(torch.zeros(2, 7, 3)).shape == (2, 21)


def test_bytes_and_floats_are_the_same_picture_and_grey_is_three_channels():
    x = images()
    for given in {
        "caffe": named("vgg16").input,
        "unit": UNIT,
        "squeezenet": named("squeezenet").input,
    }.values():
        assert torch.allclose(given.of(x), given.of(x.float() * (2 / 255) - 1), atol=1e-4)
        assert torch.equal(given.of(x[:, :1]), given.of(x[:, :1].expand(-1, 3, -1, -1)))
    assert named("vgg16").prepare(torch.ones(1, 3, 1, 1)).flatten().tolist() == pytest.approx(
        [255 - 103.939, 255 - 116.779, 255 - 123.68]
    )


def test_what_a_layer_sees_is_where_its_gradient_is():
    net = Graph("toy", 33, Input(), least=1)
    net.add("pad", Pad(1, 1, 1, 1))
    net.add("conv", Conv(3, 1, 3, 2, pad=0))
    net.add("pool", nn.MaxPool2d(2))
    net.add("left", Conv(1, 1, 3))
    net.add("right", Conv(1, 1, 5), "pool")
    net.add("sum", Add(), "left", "right")
    for layer in net.nodes.values():
        if isinstance(layer, Conv):
            nn.init.constant_(layer.weight, 1.0)
    assert net.fields() == {
        "input_layer": 1,
        "pad": 1,
        "conv": 3,
        "pool": 5,
        "left": 13,
        "right": 21,
        "sum": 21,
    }
    for name, wanted in net.fields().items():
        # A maximum looks at one of its places only: the largest of several random images covers them all.
        seen = torch.zeros(33, 33, dtype=torch.bool)
        for seed in range(40):
            x = (
                torch.rand(1, 3, 33, 33, generator=torch.Generator().manual_seed(seed)) + 0.1
            ).requires_grad_()
            y = net(x, [name])[name]
            y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
            seen |= x.grad[0].abs().sum(0) > 0
        assert int(seen.any(0).sum()) == wanted, name
    assert named("vgg16").fields()["block5_pool"] == 212  # as is published of it


# Asking


@pytest.mark.parametrize("name", [*SMALL, "resnet50"])
def test_a_layer_says_the_same_alone_and_among_others(name: str):
    net, x = shaken(load(name, "none")), images()
    with torch.no_grad():
        everything = net.outputs(x, list(net.layers))
        for layer in [*list(net.layers)[1::7], *list(net.layers)[-4:]]:
            alone = net.outputs(x, [layer])[layer]
            assert torch.allclose(
                alone, everything[layer], rtol=1e-3, atol=1e-4 * float(everything[layer].abs().max())
            ), layer
        assert torch.allclose(net.classify(x).softmax(1), everything[list(net.layers)[-1]], atol=1e-5)


def test_no_layer_is_run_that_nobody_needs():
    net, x = load("resnet50", "none"), images()
    called: list[str] = []
    for name, layer in net.nodes.items():
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
    net.outputs(x, ["conv2_block1_1_relu"])
    # The batch norms ran as part of their convolutions, which therefore were not called either.
    assert called == ["conv1_pad", "conv1_relu", "pool1_pad", "pool1_pool", "conv2_block1_1_relu"]


def test_weights_may_change_and_the_answer_with_them():
    net, x = shaken(load("mobilenet", "none")), images()
    with torch.no_grad():
        before = net.outputs(x, ["conv1_bn"])["conv1_bn"]
        net.nodes["conv1"].weight.data.mul_(2)
        net.nodes["conv1_bn"].running_mean.data.mul_(2)
        net.nodes["conv1_bn"].running_var.data.mul_(4).add_(3 * net.nodes["conv1_bn"].eps)
        assert torch.allclose(net.outputs(x, ["conv1_bn"])["conv1_bn"], before, atol=1e-3)


@pytest.mark.parametrize("name", ["squeezenet", "mobilenet_v2"])
def test_the_gradient_of_a_logit_is_its_slope(name: str):
    net = shaken(load(name, "none")).double()
    x = (images(1).double() / 127.5 - 1).requires_grad_()
    deep = list(net.layers)[-20]
    out = net.outputs(x, [deep, "logits"])
    (slope, inner) = torch.autograd.grad(out["logits"][0, 3], [x, out[deep]])
    assert inner.abs().sum() > 0
    way = torch.randn(x.shape, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    step = 1e-6
    with torch.no_grad():
        rise = (net.classify(x + step * way) - net.classify(x - step * way))[0, 3] / (2 * step)
    assert float((slope * way).sum()) == pytest.approx(float(rise), rel=1e-3)


def test_in_half_precision_a_depthwise_convolution_with_strides_has_its_slope_in_full():
    """Where no slope is wanted it stays as fast as it is."""
    net, x = load("mobilenet", "none").requires_grad_(False), images(1, 32).float() / 127.5 - 1
    names, types = ["conv_dw_1_bn", "conv_dw_2_bn"], []
    for wanted in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            types += [y.dtype for y in net.outputs(x.clone().requires_grad_(wanted), names).values()]
            assert torch.is_autocast_enabled("cpu") and (net.nodes["conv1"](x)).dtype == torch.bfloat16
    assert types == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
    slopes = []
    for half in (False, True):
        y = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            slopes += torch.autograd.grad(net.outputs(y, names)["conv_dw_2_bn"].float().square().sum(), [y])
    assert torch.cosine_similarity(*(slope.flatten() for slope in slopes), dim=0) > 0.98


def test_other_sizes():
    net = load("mobilenet_v2", "none")
    assert net.outputs(images(1, 96), ["out_relu"])["out_relu"].shape == (1, 1280, 3, 3)
    assert net.classify(images(1, 97)).shape == (1, 1000)
    with pytest.raises(Refusal, match="32 pixels a side"):
        net.classify(images(1, 16))
    small = Graph("toy", 32, Input())
    small.add("flatten", Flatten())
    small.add("fc", Dense(3 * 32 * 32, 4))
    with pytest.raises(Refusal, match=r"toy: .*3,072 values.*12,288; give it 32x32"):
        small.layers = {"flatten": (3072,), "fc": (4,)}
        small.outputs(images(1, 64), ["fc"])


def test_what_is_no_layer_or_no_network_is_refused():
    with pytest.raises(Refusal, match="did you mean 'block4_pool'"):
        load("vgg16", "none", ["block4_pol"])
    with pytest.raises(Refusal, match="did you mean 'vgg19'"):
        load("vgg91")


def test_a_missing_package_is_named(monkeypatch):
    for package in ("transformers", "timm"):
        monkeypatch.setitem(sys.modules, package, None)
    for what, needs in (
        ("dinov2", "pip install transformers"),
        ("transformers:x", "pip install transformers"),
        ("timm:x", "pip install timm"),
    ):
        with pytest.raises(Refusal, match=needs):
            load(what)
    with pytest.raises(Refusal, match="name one, as in timm:vit_small"):
        load("timm")


# Weights


def test_random_weights_are_those_of_their_seed():
    a, b, c = (load("squeezenet", "none", seed=seed) for seed in (0, 0, 1))
    assert a.sha256 == b.sha256 != c.sha256
    assert a.labels[7] == "7" and not any(p.requires_grad for p in a.parameters())


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {k: v.contiguous() for k, v in shaken(load("mobilenet", "none")).nodes.state_dict().items()}


def test_weights_are_read_in_torch_and_in_keras_order(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    net = load("mobilenet", str(tmp_path / "w.safetensors"))
    assert all(torch.equal(v, tensors[k]) for k, v in net.nodes.state_dict().items())
    keras = {}
    for key, value in tensors.items():
        layer, _, parameter = key.rpartition(".")
        node = net.nodes[layer]
        names = (
            dict(weight="gamma", bias="beta", running_mean="moving_mean", running_var="moving_variance")
            if isinstance(node, Norm)
            else {}
        )
        if parameter == "weight" and isinstance(node, Conv):
            names, value = (
                dict(weight="kernel"),
                value.permute(2, 3, 0, 1) if node.groups > 1 else value.permute(2, 3, 1, 0),
            )
        keras[f"{layer}/{names.get(parameter, parameter)}"] = value.numpy()
    np.savez(tmp_path / "w.npz", **keras)
    assert load("mobilenet", str(tmp_path / "w.npz")).sha256 == net.sha256


def test_batch_norm_that_is_folded_in_is_understood(tensors, tmp_path):
    """As in files made for telephones: a weight and a bias of each convolution."""
    whole = load("mobilenet", _saved(tensors, tmp_path / "whole.safetensors"))
    folded = {}
    for name, layer in whole.nodes.items():
        if isinstance(layer, Norm):
            conv = whole.parents[name][0]
            folded[f"{conv}.weight"], folded[f"{conv}.bias"] = layer.folded(whole.nodes[conv])
    folded |= {k: v for k, v in tensors.items() if k.startswith("conv_preds")}
    net, x = load("mobilenet", _saved(folded, tmp_path / "folded.safetensors")), images()
    for name in ("conv1_bn", "conv_dw_3_relu", "logits"):
        assert torch.allclose(
            net.outputs(x, [name])[name], whole.outputs(x, [name])[name], rtol=1e-3, atol=1e-4
        ), name
    with pytest.raises(Refusal, match="conv_dw_3: its weights hold the batch norm"):
        net.outputs(x, ["conv_dw_3"])


def test_layers_without_weights_are_refused_and_those_before_them_answer(tensors, tmp_path):
    part = {
        k: v
        for k, v in tensors.items()
        if k.startswith(("conv1", "conv_dw_1.", "conv_dw_1_", "conv_pw_1.", "conv_pw_1_"))
    }
    net = load("mobilenet", _saved(part, tmp_path / "part.safetensors"))
    assert net.outputs(images(), ["conv_pw_1_relu"])["conv_pw_1_relu"].shape == (2, 64, 32, 32)
    for name in ("conv_dw_2", "logits"):
        with pytest.raises(
            Refusal,
            match=r"part.safetensors has no "
            r"weights.*deepest layer "
            r"that it can "
            r"answer for is conv_pad_2",
        ):
            net.outputs(images(), [name])
    assert net.layers["conv_dw_2"] == (64, 56, 56)


def _saved(tensors: dict[str, Tensor], path: Path) -> str:
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)
    return str(path)


def test_files_that_are_something_else_are_refused(tensors, tmp_path):
    other = dict(tensors) | {"conv1.weight": torch.zeros(32, 3, 5, 5)}
    cases = {
        _saved(other, tmp_path / "shape.safetensors"): r"conv1.weight is \(32, 3, 5, "
        r"5\) and "
        r"should be "
        r"\(32, 3, 3, 3\)",
        _saved(
            {"layer4.2.conv1.weight": torch.zeros(1)}, tmp_path / "names.safetensors"
        ): "no layer for layer4.2.conv1.weight",
        _saved({"conv1.gain": torch.zeros(1)}, tmp_path / "parameter.safetensors"): "has no place in it",
        _saved({}, tmp_path / "empty.safetensors"): "holds no weights",
        str(tmp_path / "gone.npz"): "there is no file",
    }
    for name, content in (("a.safetensors", b"nonsense"), ("a.npz", b"PK nonsense")):
        (tmp_path / name).write_bytes(content)
        cases[str(tmp_path / name)] = "cannot be read as weights"
    np.savez(tmp_path / "object.npz", **{"conv1/kernel": np.array([{}], object)})
    cases[str(tmp_path / "object.npz")] = "cannot be read as weights"  # never unpickled
    np.savez(tmp_path / "text.npz", **{"conv1/kernel": np.array(["words"])})
    cases[str(tmp_path / "text.npz")] = "cannot be read as weights"
    for path, says in cases.items():
        with pytest.raises(BadData, match=says):
            load("mobilenet", path)
    with pytest.raises(Refusal, match="should end in"):
        load("mobilenet", "weights.onnx")


class Group(dict):
    """Of h5py, which may not be installed: asked for its values, as if it were a variable, it raises what
    that raises."""

    attrs: dict[str, list[bytes]]

    def __getitem__(self, key: object) -> Group:
        if key == ():
            raise TypeError("Accessing a group is done with bytes or str, not <class 'tuple'>")
        return super().__getitem__(key)


def test_a_group_in_place_of_a_variable_is_refused(tmp_path, monkeypatch):
    root, layer = Group(), Group(kernel=Group())
    root.attrs, layer.attrs, root["conv1"] = (
        dict(layer_names=[b"conv1"]),
        dict(weight_names=[b"kernel"]),
        layer,
    )
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=lambda *_: nullcontext(root)))
    (tmp_path / "w.h5").write_bytes(b"any")
    with pytest.raises(BadData, match=r"w.h5 cannot be read as weights"):
        load("mobilenet", str(tmp_path / "w.h5"))


class Fire(nn.Module):
    """As torchvision names its parts."""

    def __init__(self, inside: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def as_torchvision() -> nn.Module:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    early = [Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128), Fire(256, 32, 128), pool()]
    late = [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), *early, *late)
    return nn.ModuleDict(
        dict(features=features, classifier=nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU()))
    )


def test_torchvisions_squeezenet_says_what_it_says_there(tmp_path):
    theirs, x, path = as_torchvision(), images(2, 96), tmp_path / "squeezenet1_1-b8a52dc0.pth"
    torch.save(theirs.state_dict(), path)
    prepared = (x / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        inner = theirs["features"](prepared)
        logits = nn.Sequential(*theirs["classifier"][1:])(inner).mean((2, 3))
        said = load("squeezenet", str(path)).outputs(x, ["fire9/concat", "logits"])
    assert torch.allclose(said["fire9/concat"], inner, rtol=1e-3, atol=1e-5) and torch.allclose(
        said["logits"], logits, rtol=1e-3, atol=1e-5
    )


class Harm:
    def __reduce__(self):
        return (print, ("harm",))


ONE = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}


@pytest.mark.parametrize(
    ("network", "content", "lesson"),
    [
        ("squeezenet", ONE, "holds other tensors"),
        ("squeezenet", {"features.0.weight": Harm()}, "holds other tensors"),
        ("squeezenet", [1, 2], "holds other tensors"),
        ("vgg16", ONE, "is read for squeezenet only"),
    ],
)
def test_an_archive_of_something_else_is_refused_and_its_pickle_not_opened(
    network, content, lesson, tmp_path, capsys
):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(Refusal, match=lesson):
        load(network, str(tmp_path / "w.pth"))
    assert capsys.readouterr().out == ""


def test_an_archive_that_is_damaged_is_refused(tmp_path):
    torch.save(as_torchvision().state_dict(), tmp_path / "whole.pth")
    torch.save(ONE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "whole.pth").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (
        b"",
        b"no pickle",
        b"this",
        bytes(flipped),
        (tmp_path / "old.pth").read_bytes(),
        *(whole[:n] for n in (1, 100, len(whole) // 2, len(whole) - 1)),
    ):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(BadData, match="cannot be read as weights"):
            load("squeezenet", str(tmp_path / "w.pth"))


# Published files


def published(monkeypatch, content: bytes, **changes) -> weights.Published:
    file = weights.Published(
        "m.safetensors",
        "https://somewhere/m.safetensors",
        "md5",
        hashlib.md5(content).hexdigest(),
        "predictions",
    )
    file = replace(file, **changes)
    monkeypatch.setitem(weights.FILES, "mobilenet", (file,))
    return file


def answering(monkeypatch, content: bytes, length: int | None = None) -> None:
    class Answer(io.BytesIO):
        headers = {"Content-Length": str(len(content) if length is None else length)}

    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *_, **__: Answer(content))


def test_a_published_file_is_fetched_once_and_compared(tensors, tmp_path, monkeypatch):
    content = Path(_saved(tensors, tmp_path / "m.safetensors")).read_bytes()
    published(monkeypatch, content)
    answering(monkeypatch, content)
    heard: list[tuple[int, int]] = []
    assert (
        load("mobilenet", progress=lambda done, total: heard.append((done, total))).source == "m.safetensors"
    )
    assert heard[-1] == (len(content), len(content))
    answering(monkeypatch, b"")
    assert load("mobilenet").source == "m.safetensors"  # from the cache


@pytest.mark.parametrize("content", [b"short", b"x" * 100])
def test_another_file_than_the_published_one_leaves_nothing_behind(tmp_path, monkeypatch, content):
    published(monkeypatch, b"the right content")
    answering(monkeypatch, content)
    with pytest.raises(BadData, match="is not the published file: its md5 is"):
        load("mobilenet")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def served(monkeypatch, **files: bytes) -> list[str]:
    """A local fake of what lies on the servers, by the ends of the addresses; returns those that were asked
    for."""
    asked: list[str] = []

    def answer(url: str, **_: object) -> io.BytesIO:
        asked.append(url)
        found = io.BytesIO(
            next(
                (blob for name, blob in files.items() if url.rpartition("/")[2].startswith(name)), b"not here"
            )
        )
        found.headers = {}
        return found

    monkeypatch.setattr(weights.urllib.request, "urlopen", answer)
    return asked


NAMED = json.dumps({str(i): [f"n{i:08}", f"great_thing_{i}"] for i in range(1000)}).encode()


@pytest.fixture
def names_of_classes(monkeypatch) -> weights.Published:
    file = replace(weights.CLASSES[-1], digest=hashlib.md5(NAMED).hexdigest())
    monkeypatch.setattr(weights, "CLASSES", (*weights.CLASSES[:-1], file))
    return file


def test_names_of_classes_are_fetched_beside_the_weights(tensors, tmp_path, monkeypatch, names_of_classes):
    content = Path(_saved(tensors, tmp_path / "m.safetensors")).read_bytes()
    published(monkeypatch, content)
    asked = served(monkeypatch, m=content, imagenet_class_index=NAMED)
    assert load("mobilenet").labels[:2] == ("great thing 0", "great thing 1")
    assert asked == [
        "https://somewhere/m.safetensors",
        "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    ]
    assert load("mobilenet").labels[999] == "great thing 999" and len(asked) == 2  # from the cache
    assert weights.unnamed(load("mobilenet").labels) == ""


def test_without_names_the_classes_have_numbers_and_it_is_said_which_file_has_them(
    tensors, tmp_path, monkeypatch, names_of_classes
):
    content = Path(_saved(tensors, tmp_path / "m.safetensors")).read_bytes()
    published(monkeypatch, content)
    served(monkeypatch, m=content, imagenet_class_index=b"something else")
    net = load("mobilenet")
    place = tmp_path / "cache" / "weights" / "imagenet_class_index.json"
    assert net.labels[7] == "7" and not place.exists()
    assert (
        f"fetch {names_of_classes.url} (md5 {names_of_classes.digest}) and put it at {place}, "
    ) in weights.unnamed(net.labels)
    assert weights.unnamed(("0", "1")) == ""
    place.write_bytes(b"another list")
    assert load("mobilenet").labels[7] == "7"
    place.unlink()
    (tmp_path / "data" / "weights" / place.name).write_bytes(NAMED)
    assert load("mobilenet").labels[7] == "great thing 7"


def test_without_a_network_the_refusal_says_what_to_do():
    with pytest.raises(
        Offline,
        match=r"vgg19 needs https://storage.googleapis.com/.*notop.h5, .*no "
        r"network "
        r"here.*put it "
        r"at .*cache/weights/.*--weights FILE, or none",
    ):
        load("vgg19", layers=["block4_pool"])
    with pytest.raises(Offline, match=r"tf_kernels.h5, which"):
        load("vgg19", layers=["fc2"])


def test_files_without_a_published_hash_are_not_fetched():
    with pytest.raises(
        Offline,
        match=r"published at " r"https://.*mobilenet_1_0_224_tf.h5 " r"without a " r"hash.*--weights FILE",
    ):
        load("mobilenet")


def test_a_file_of_the_user_is_compared_too_and_says_how_deep_it_goes(tensors, tmp_path, monkeypatch):
    path = tmp_path / "data" / "weights" / "vgg16_block1-3_f16.safetensors"
    path.write_bytes(b"not it")
    with pytest.raises(BadData, match="is not the published file: its sha256 is"):
        load("vgg16", layers=["block3_pool"])
    with pytest.raises(
        Offline,
        match=r"vgg16_block1-3_f16.safetensors, which is on this " r"machine, " r"ends with " r"block3_pool",
    ):
        load("vgg16", layers=["block4_pool"])


def test_every_published_file_ends_with_a_layer_of_its_network():
    for name, files in weights.FILES.items():
        assert all(f.ends in named(name).layers for f in files) and name in GRAPHS
        assert all(len(f.digest) == dict(md5=32, sha256=64)[f.kind] for f in files if f.kind)


# Other people's modules, and runs


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.twice = (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            nn.Linear(4, 5),
            nn.Identity(),
        )

    def code(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(self.body(x))).mean((2, 3))


def test_a_module_is_asked_for_its_sub_modules_and_runs_no_further():
    module = Branching()
    net = Hooked(
        "mine",
        module,
        dict(code=module.code, logits=lambda x: module.head(module.code(x))),
        lambda x: x,
        (3, 8, 8),
    )
    assert net.layers == {
        "body.0": (4, 6, 6),
        "body.1": (4, 6, 6),
        "body": (4, 6, 6),
        "head": (5,),
        "code": (4,),
        "logits": (5,),
    }
    x = torch.randn(2, 3, 8, 8)
    found = net.outputs(x, ["logits", "body.0", "code", "head"])
    assert (
        torch.equal(found["body.0"], module.body[0](x))
        and torch.equal(found["code"], module.code(x))
        and torch.equal(found["logits"], found["head"])
    )
    module.head.register_forward_hook(lambda *_: pytest.fail("it ran further than it was asked"))
    assert list(net.outputs(x, ["body.1"])) == ["body.1"]


def test_a_run_that_encodes_is_a_network(tmp_path):
    data = toy(160, size=8)
    run, _ = small_run("classifier", tmp_path / "run", data, batch=16, images=32)
    for _ in fit(run, data, save_every=0):
        pass
    run.close()
    net = load(str(tmp_path / "run"))
    x = torch.from_numpy(data.x[:5])
    model = run.model
    ours = x.float() / 127.5 - 1
    found = net.outputs(x.expand(-1, 3, -1, -1), ["code", "logits"])
    assert torch.allclose(found["code"], model.encode(ours).flatten(1), atol=1e-5) and torch.allclose(
        found["logits"], model.classify(ours), atol=1e-5
    )
    assert again(net) == str((tmp_path / "run").resolve()) and net.labels == ("disc", "square")
    assert len(net.layers) > 4 and net.side == 8 and net.scaling == "fit"
    with pytest.raises(Refusal, match="cannot look at 9x9; type --size 8"):
        net.outputs(torch.zeros(1, 3, 9, 9), ["code"])
    with pytest.raises(Refusal, match="leave --weights out"):
        load(str(tmp_path / "run"), "none")


def test_classes_of_a_run_are_called_as_in_the_images_that_it_learnt(tmp_path):
    run, _ = small_run("classifier", tmp_path / "run", toy(64, size=8))
    run.close()
    assert load(str(tmp_path / "run")).labels == ("disc", "square")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["classes"]  # of before they were written down
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert load(str(tmp_path / "run")).labels == ("0", "1")


def test_dinov2_is_a_network(tmp_path, monkeypatch):
    """With a stand-in for the package: the class token, and its sub-modules."""

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 6, 14, 14)

        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=self.embed(pixel_values).flatten(2).mT)

    monkeypatch.setitem(
        sys.modules,
        "transformers",
        SimpleNamespace(AutoModel=SimpleNamespace(from_pretrained=lambda *_, **__: Vit())),
    )
    net = load("dinov2")
    assert net.layers == {"embed": (6, 16, 16), "code": (6,)}
    x = images(2, 224)
    found = net.outputs(x, ["embed", "code"])
    assert torch.allclose(found["code"], found["embed"][:, :, 0, 0])
    unit = (x.float() / 255 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / torch.tensor(
        (0.229, 0.224, 0.225)
    ).view(3, 1, 1)
    assert torch.allclose(net.prepare(x), unit, atol=1e-5)
    assert again(net) == "dinov2" and again(load(f"dinov2:{tmp_path}")) == f"dinov2:{tmp_path}"


def test_relu_in_place_spares_what_was_asked_for():
    net = Graph("toy", 32, Input(), least=1)
    net.add("conv", Conv(3, 4, 3))
    net.add("relu", Relu())
    net.layers = dict.fromkeys(("conv", "relu"), (4, 32, 32))
    found = net.outputs(images(1, 32), ["conv", "relu"])
    assert found["conv"].min() < 0 and torch.equal(found["relu"], found["conv"].clamp(min=0))
