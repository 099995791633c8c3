"""Where the weights of a network come from, and exactly which file that must be.

A published file is looked for in weights/ under LIKENESS_DATA, among Keras' own downloads and in the cache,
then fetched once over https.  Keras pins an MD5 of most of its files, and that is compared; where nobody has
published a hash nothing is fetched, and whoever trusts a file names it.

    tensors are  <layer>.weight ...     as torch has them (.safetensors, .npz)
    or           <layer>/kernel ...     as Keras has them: np.savez("w.npz", **{w.path: np.array(w) for w in model.weights})
    or an .h5    in Keras' older format, that of the published files; needs the package h5py
    or a .pth    of torchvision's SqueezeNet; its first layer is rewritten for the colours that ours is given

The names of ImageNet's classes come beside the weights that are fetched, from the file that Keras decodes
predictions with.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import http.client
import importlib
import json
import os
import re
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..core import BadData, Offline, Refusal
from ..storage import cache
from ..storage.cache import Progress
from ..storage.partial import partial
from . import hub
from .layers import LOGITS, Conv, Dense, Graph, Input, Norm

AS_NPZ = 'np.savez("w.npz", **{w.path: np.array(w) for w in model.weights})'
ENDINGS = (".safetensors", ".npz", ".h5", ".hdf5", ".pth")
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""red, green and blue as torchvision's networks are given them: minus the one, over the other"""


@dataclass(frozen=True)
class Published:
    file: str
    url: str
    """empty for a copy that is only ever found on this machine"""
    kind: str
    """of the hash; empty where nobody has published one"""
    digest: str
    ends: str
    """the deepest layer that it has weights for"""
    input: Input | None = None
    """where its images were prepared in another way than the network's usual one"""


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_TF = "weights_tf_dim_ordering_tf_kernels"


def _keras(folder: str, file: str, digest: str, ends: str = "predictions") -> Published:
    return Published(f"{file}.h5", f"{_KERAS}/{folder}/{file}.h5", "md5" if digest else "", digest, ends)


CLASSES = (
    Published(
        "imagenet_classes.txt",
        "",
        "sha256",
        "0e1578d4e024609028374c1b9697f5936147cc8194f71d3adb725a9a4551f52e",
        "",
    ),
    Published(
        "imagenet_class_index.json",
        "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
        "md5",
        "c2c37ea517e94d9795004a39431a14cb",
        "",
    ),
)
"""lists of ImageNet's classes: a line each with a number, a tab and names, or Keras' {"0": ["n01440764",
"tench"], ...}"""
FILES: dict[str, tuple[Published, ...]] = {
    "vgg16": (
        _keras("vgg16", f"vgg16_{_TF}", "64373286793e3c8b2b4e3219cbf3544b"),
        _keras("vgg16", f"vgg16_{_TF}_notop", "6d6bbae143d832006294945121d1f1fc", "flatten"),
        Published(
            "vgg16_block1-3_f16.safetensors",
            "",
            "sha256",
            "fe9478ea67933feff255a731b7068a801db2c27e4e1e72d68611f7cd0366cd29",
            "block3_pool",
        ),
    ),
    "vgg19": (
        _keras("vgg19", f"vgg19_{_TF}", "cbe5617147190e668d6c5d5026f83318"),
        _keras("vgg19", f"vgg19_{_TF}_notop", "253f8cb515780f3b799900260a226db6", "flatten"),
    ),
    "mobilenet": (
        _keras("mobilenet", "mobilenet_1_0_224_tf", ""),
        Published(
            "mobilenet_v1_1.0_224_f16.safetensors",
            "",
            "sha256",
            "f614d0f7719b6f2d8b972919fc08216fd0dd5d99cd1d9ac714c2569bb76e79de",
            "predictions",
            Input(scale=(128.0, 128.0, 128.0), shift=1.0),
        ),
    ),
    "mobilenet_v2": (
        _keras("mobilenet_v2", f"mobilenet_v2_{_TF}_1.0_224", ""),
        Published(
            "mobilenet_v2_1.0_224_keras_f16.safetensors",
            "",
            "sha256",
            "5674da4b424056a4889825eea68e830d7954161bc316f4fc6c34eaafc027b993",
            "predictions",
        ),
    ),
    "squeezenet": (
        Published(
            "squeezenet_v1.1_f16.safetensors",
            "",
            "sha256",
            "cdabfee153069711625bc5631bc12d12c68fdcfaf6970cb101678cb89052f5dd",
            "prob",
        ),
        Published(
            "squeezenet1_1-b8a52dc0.pth",
            "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
            "sha256",
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            "prob",
        ),
    ),
    "resnet50": (
        _keras("resnet", f"resnet50_{_TF}", "2cb95161c43110f7111970584f804107"),
        _keras("resnet", f"resnet50_{_TF}_notop", "4d473c1dd8becc155b73f8504c6f6626", "avg_pool"),
    ),
}
"""those with all layers first; the hashes are those in the source of Keras 3.15, of the small half-precision
copies themselves, or that of PyTorch's file, which begins with what stands in its name"""


def fill(
    net: Graph, file: str, layers: Sequence[str] = (), seed: int = 0, progress: Progress | None = None
) -> None:
    """Give a network without values its weights, and say of which layers it has none; see opening.load."""
    if file == "none":
        draw(net, seed)
        net.source = f"random weights, seed {seed}"
    else:
        path, known = (Path(os.path.expanduser(file)), None) if file else find(net, layers, progress)
        put(net, read(path, net), path)
        net.input = known.input if known and known.input else net.input
        net.source = path.name
    for layer in net.nodes.values():
        if isinstance(layer, Conv):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.sha256 = hub.digest(net.nodes.state_dict())
    net.labels = labels(net.layers[LOGITS][0])


def draw(net: Graph, seed: int) -> None:
    """Random weights that keep the size of what they are given (He et al. 2015, section 2.2)."""
    chance = torch.Generator().manual_seed(seed)
    for name, layer in net.nodes.items():
        layer.to_empty(device="cpu")
        if isinstance(layer, (Conv, Dense)):
            nn.init.normal_(
                layer.weight, 0, ((1 if name == LOGITS else 2) / layer.weight[0].numel()) ** 0.5, chance
            )
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, Norm):
            for value, start in (
                (layer.weight, 1),
                (layer.bias, 0),
                (layer.running_mean, 0),
                (layer.running_var, 1),
            ):
                nn.init.constant_(value, start)


# Which file


def find(net: Graph, layers: Sequence[str], progress: Progress | None = None) -> tuple[Path, Published]:
    """The published file that answers for these layers, or for as many as there are on this machine."""
    order = list(net.layers)
    deepest = max((order.index(name) for name in layers), default=0)
    able = [f for f in FILES[net.name] if order.index(f.ends) >= deepest]
    for file in able:
        if path := lookup(file):
            return verified(path, file), file
    fetch = [f for f in able if f.digest and f.url]
    if fetch:
        smallest = fetch[-1] if layers else fetch[0]
        path = _download(smallest, lambda why: _out_of_reach(net, smallest, why), progress)
        # the network answers without names, and unnamed() says where they belong
        with suppress(Offline, BadData):
            if not any(lookup(file) for file in CLASSES):
                _download(CLASSES[-1], Offline)
        return path, smallest
    raise Offline(_nowhere(net, able, order[deepest]))


def _nowhere(net: Graph, able: list[Published], deepest: str) -> str:
    here = next(
        (f"; {f.file}, which is on this machine, ends with {f.ends}" for f in FILES[net.name] if lookup(f)),
        "",
    )
    url = next(f.url for f in able if f.url)
    says = (
        f"the weights of {net.name} are published at {url} without a hash, so they are not fetched "
        f"unseen{here}"
    )
    return f"{says}; fetch that file and name it: --weights FILE, or type --weights none for random ones."


def places() -> Iterator[Path]:
    """Folders where the files of networks may be."""
    if home := os.environ.get("LIKENESS_DATA"):
        yield Path(os.path.expanduser(home)) / "weights"
    yield Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "models"
    yield cache.where() / "weights"


def lookup(file: Published) -> Path | None:
    return next((p / file.file for p in places() if (p / file.file).is_file()), None)


def verified(path: Path, file: Published) -> Path:
    """Raises BadData for another content than the published one; where there is no hash only Keras' own
    download is taken at its word."""
    if not file.digest:
        return path
    try:
        with path.open("rb") as handle:
            result = hashlib.file_digest(
                handle, lambda: hashlib.new(file.kind, usedforsecurity=False)
            ).hexdigest()
    except OSError as why:
        raise BadData(f"{path} cannot be read ({why.strerror}); put a good copy in its place.") from None
    if result != file.digest:
        raise BadData(
            f"{path} is not the published file: its {file.kind} is {result} and should be {file.digest}; "
            "delete it, or name it with --weights."
        )
    return path


def _download(file: Published, explain: Callable[[str], Offline], progress: Progress | None = None) -> Path:
    """Fetched beside its place and compared before it takes it: a file with this name is always the whole
    published one."""
    path = cache.where() / "weights" / file.file
    with partial(path, "weights") as out:
        for part, total in _body(file, explain):
            out.write(part)
            if progress:
                progress(out.tell(), total)
        out.flush()
        verified(Path(out.name), file)
    return path


def _body(file: Published, explain: Callable[[str], Offline]) -> Iterator[tuple[bytes, int]]:
    """The download in pieces, each with the length of the whole."""
    try:
        with urllib.request.urlopen(file.url, timeout=30) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while part := answer.read(1 << 20):
                yield part, total
    except (OSError, ValueError, http.client.HTTPException) as why:
        raise explain(str(getattr(why, "reason", why))) from None


def _out_of_reach(net: Graph, file: Published, why: str) -> Offline:
    here = next(
        (f"  {f.file}, which is on this machine, ends with {f.ends}." for f in FILES[net.name] if lookup(f)),
        "",
    )
    return Offline(
        f"{net.name} needs {file.url}, which cannot be fetched ({why}); fetch it elsewhere and put it at "
        f"{cache.where() / 'weights' / file.file}, or into weights/ of the folder that LIKENESS_DATA names, "
        f"or type --weights FILE, or none for random ones.{here}"
    )


def labels(classes: int) -> tuple[str, ...]:
    """The names of ImageNet's classes, where a list of them is at hand; else their numbers."""
    for path, file in ((place / file.file, file) for place in places() for file in CLASSES):
        if classes == 1000 and path.is_file():
            with suppress(BadData):  # another list: unnamed() says which it should be
                text = verified(path, file).read_text("utf-8")
                named = (
                    [line.split("\t")[1] for line in text.splitlines()]
                    if path.suffix == ".txt"
                    else [v[1] for _, v in _numbered(text)]
                )
                return tuple(name.split(",")[0].replace("_", " ") for name in named)
    return tuple(map(str, range(classes)))


def _numbered(text: str) -> list[tuple[str, list[str]]]:
    return sorted(json.loads(text).items(), key=lambda item: int(item[0]))


def unnamed(names: Sequence[str]) -> str:
    """The end of a refusal to a name, where ImageNet's classes have numbers only: which file is missing, and
    where it belongs.  Else nothing."""
    if list(names) != list(map(str, range(1000))):
        return ""
    file = CLASSES[-1]
    return (
        f"its classes have numbers and no names here; fetch {file.url} ({file.kind} {file.digest}) and put "
        f"it at {cache.where() / 'weights' / file.file}, or name the class by its number."
    )


# Reading files

Arrays = dict[tuple[str, str], Tensor]
"""by layer and parameter, as torch has them"""
VARIABLES = dict(
    kernel="weight",
    depthwise_kernel="weight",
    bias="bias",
    gamma="weight",
    beta="bias",
    moving_mean="running_mean",
    moving_variance="running_var",
)
ALIASES = {"predictions": LOGITS, "Logits": LOGITS}


def read(path: Path, net: Graph) -> Arrays:
    """The tensors of a file.  Raises BadData where it is damaged or does not belong to the network, Refusal
    for other formats."""
    if path.suffix not in ENDINGS:
        raise Refusal(f"--weights {path} should end in {', '.join(ENDINGS)} (squeezenet alone), or be none.")
    if not path.is_file():
        raise BadData(f"there is no file {path}; name one that holds the weights of {net.name}.")
    try:
        if path.suffix in (".h5", ".hdf5"):
            return _from_h5(path, net)
        if path.suffix == ".pth":
            return _from_torchvision(path, net)
        return dict(
            _placed(net, key, value, path)
            for key, value in (_safetensors(path) if path.suffix == ".safetensors" else _npz(path))
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        SafetensorError,
        RuntimeError,
    ) as why:
        raise BadData(
            f"{path} cannot be read as weights ({str(why)[:200]}); put a good copy in its place."
        ) from None


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no dict
            yield key, file.get_tensor(key)


def _npz(path: Path) -> Iterator[tuple[str, Tensor]]:
    with np.load(path) as file:  # without pickle, as numpy does unless told otherwise
        for key in file.files:
            yield key, torch.from_numpy(file[key])


def _from_h5(path: Path, net: Graph) -> Arrays:
    """Keras' older format lists layers and, in each, its variables; layers are told by their names, or where
    those differ by their order, as Keras itself does."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise Refusal(
            f"{path.name} needs a package that is not installed; type: pip install h5py, or save the "
            f"weights in Keras with {AS_NPZ}."
        ) from None
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise BadData(
                f"{path} is not of the older .h5 format that Keras 2 wrote; save the weights in Keras with "
                f"{AS_NPZ}."
            )
        groups = [
            (_text(g), [torch.from_numpy(root[g][w][()]) for w in map(_text, root[g].attrs["weight_names"])])
            for g in map(_text, root.attrs["layer_names"])
        ]
    filled = [(name, values) for name, values in groups if values]
    ours = [name for name, layer in net.nodes.items() if isinstance(layer, (Conv, Dense, Norm))]
    if not {ALIASES.get(name, name) for name, _ in filled} <= set(ours):
        filled = [(ours[i] if i < len(ours) else name, values) for i, (name, values) in enumerate(filled)]
    result: Arrays = {}
    for name, values in filled:
        key = ALIASES.get(name, name)
        for parameter, value in zip(_parameters(net.nodes[key]) if key in ours else (), values):
            result[key, parameter] = _turned(net.nodes[key], value) if parameter == "weight" else value
    return result


def _from_torchvision(path: Path, net: Graph) -> Arrays:
    """Of SqueezeNet alone, whose layers stand in the same order: those of others differ in more than their
    names (strides, what is flattened).

    A .pth is an archive of a pickle, which may run anything and is not opened, and of one record of plain
    numbers a tensor, in the order of layers.
    """
    if net.name != "squeezenet":
        raise Refusal(
            f"--weights {path}: a .pth is read for squeezenet only; name {net.name}'s weights as Keras has "
            "them, or in a .safetensors."
        )
    ours = [
        (name, parameter)
        for name, layer in net.nodes.items()
        if isinstance(layer, Conv)
        for parameter in ("weight", "bias")
    ]
    result: Arrays = {}
    with zipfile.ZipFile(path) as file:
        records = sorted(
            (int(at[1]), name) for name in file.namelist() if (at := re.fullmatch(r"[^/]+/data/(\d+)", name))
        )
        shapes = [getattr(net.nodes[name], parameter).shape for name, parameter in ours]
        if [file.getinfo(name).file_size for _, name in records] != [4 * shape.numel() for shape in shapes]:
            raise BadData(
                f"{path} is not torchvision's {net.name}: it holds other tensors; name another file, or "
                "another network."
            )
        for key, shape, (_, name) in zip(ours, shapes, records):
            result[key] = torch.from_numpy(np.frombuffer(file.read(name), "<f4").reshape(shape).copy())
    first = result[ours[0]].double() / torch.tensor(DEVIATION).double().view(3, 1, 1)
    apart = torch.tensor(net.input.mean[::-1]).double() - torch.tensor(MEAN).double()
    # exact, since no zeros are put around the image
    result[ours[1]] = result[ours[1]] + first.sum((2, 3)) @ apart
    result[ours[0]] = first.flip(1)
    return result


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _parameters(layer: nn.Module) -> tuple[str, ...]:
    """In Keras' order."""
    if isinstance(layer, Norm):
        return ("weight", "bias", "running_mean", "running_var")
    return ("weight",) if layer.bias is None else ("weight", "bias")


def _placed(net: Graph, key: str, value: Tensor, path: Path) -> tuple[tuple[str, str], Tensor]:
    """Which parameter of which layer is meant by `fc1.weight`, `fc1/kernel` or `fire2.squeeze1x1.weight`, and
    its value."""
    cut = max(key.rfind("/"), key.rfind("."))
    layer, parameter = key[:cut], key[cut + 1 :].removesuffix(":0")
    ours = next((n for n in (ALIASES.get(layer, layer), layer.replace(".", "/")) if n in net.nodes), "")
    if not ours:
        raise BadData(
            f"{path} is not of {net.name}, which has no layer for {key}; name another file, or another "
            "network."
        )
    value = _turned(net.nodes[ours], value) if parameter.endswith("kernel") else value
    return (ours, VARIABLES.get(parameter, parameter)), value


def _turned(layer: nn.Module, value: Tensor) -> Tensor:
    """A kernel of Keras, (height, width, in, out) or (in, out), as torch has it."""
    if value.ndim == 4:
        return (
            value.permute(2, 3, 0, 1)
            if isinstance(layer, Conv) and layer.groups > 1
            else value.permute(3, 2, 0, 1)
        )
    return value.T if isinstance(layer, Dense) else value


# Giving them to the network


def put(net: Graph, arrays: Arrays, path: Path) -> None:
    """Raises BadData where a tensor has no place or another shape; layers without weights, and all behind
    them, are lost."""
    _unfold(net, arrays)
    for (name, parameter), value in arrays.items():
        layer = net.nodes[name]
        wanted = getattr(layer, parameter, None)
        if not isinstance(wanted, Tensor) or wanted.shape != value.shape:
            has = f"should be {tuple(wanted.shape)}" if isinstance(wanted, Tensor) else "has no place in it"
            raise BadData(
                f"{path} is not of {net.name}: {name}.{parameter} is {tuple(value.shape)} and {has}; name "
                "another file, or another network."
            )
        value = value.float().contiguous()
        if isinstance(wanted, nn.Parameter):
            setattr(layer, parameter, nn.Parameter(value, requires_grad=False))
        else:
            layer.register_buffer(parameter, value)
    _lose(net, path)


def _unfold(net: Graph, arrays: Arrays) -> None:
    """Where batch norm is folded into a convolution its scale is 1 from now on: the layers behind it are
    right, the convolution's own is not."""
    for name, layer in net.nodes.items():
        before = net.parents[name][0]
        if isinstance(layer, Norm) and (name, "weight") not in arrays and (before, "bias") in arrays:
            bias = arrays.pop((before, "bias"))
            one = torch.ones_like(bias)
            arrays |= {
                (name, "weight"): one,
                (name, "bias"): bias,
                (name, "running_mean"): 0 * one,
                (name, "running_var"): one * (1 - layer.eps),
            }
            net.lost[before] = "its weights hold the batch norm that follows, so its own output is not known"


def _lose(net: Graph, path: Path) -> None:
    """Write down what cannot be answered for, and let go of tensors without values."""
    gone: dict[str, None] = {}
    for name, layer in net.nodes.items():
        empty = [
            p
            for p, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
            if value.is_meta
        ]
        if empty or any(p in gone for p in net.parents[name]):
            gone[name] = None
        for parameter in empty:
            setattr(layer, parameter, None)
    whole = [name for name in net.nodes if name not in gone]
    if len(gone) == len(net.nodes) or not any(isinstance(net.nodes[name], (Conv, Dense)) for name in whole):
        raise BadData(f"{path} holds no weights of {net.name}; name another file, or another network.")
    for name in gone:
        net.lost[name] = f"{path.name} has no weights for it or for a layer before it"
