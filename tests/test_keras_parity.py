"""Our networks against Keras' own, with the same random weights: every layer that has a name, and the
preprocessing.

Keras is asked by nothing but this, on torch.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras h5py")
if keras.backend.backend() != "torch":
    pytest.skip("set KERAS_BACKEND=torch", allow_module_level=True)

from likeness.backbones import catalogue  # noqa: E402 - it would be imported for nothing
from likeness.features import opening  # noqa: E402
from likeness.features.extract import extract  # noqa: E402

NETWORKS = {
    "vgg16": (keras.applications.VGG16, "vgg16"),
    "vgg19": (keras.applications.VGG19, "vgg19"),
    "mobilenet": (keras.applications.MobileNet, "mobilenet"),
    "mobilenet_v2": (keras.applications.MobileNetV2, "mobilenet_v2"),
    "resnet50": (keras.applications.ResNet50, "resnet"),
}


def shaken(name: str, whole: bool):
    """Keras' network with random weights: its batch norms know averages that are not those they begin with,
    and it is no larger than it must be."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    shape = (224, 224, 3) if whole else (65, 97, 3)
    model = NETWORKS[name][0](weights=None, include_top=whole, input_shape=shape)
    chance = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [
                    chance.uniform(low, high, n).astype("f4")
                    for low, high in ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))
                ]
            )
        elif layer.weights and len(layer.weights) == 2:
            layer.set_weights(
                [np.array(layer.weights[0]), chance.normal(0, 0.1, layer.weights[1].shape).astype("f4")]
            )
    return model


def moved(model, path: Path) -> str:
    np.savez(path, **{w.path: keras.ops.convert_to_numpy(w) for w in model.weights})
    return str(path)


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("whole", [True, False], ids=["224x224 with the top", "97x65 without"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_that_of_keras(name: str, whole: bool, tmp_path: Path):
    model = shaken(name, whole)
    net = opening.load(name, moved(model, tmp_path / "w.npz"))
    theirs = [layer.name for layer in model.layers]
    ours = [n for n in net.layers if n != "logits" and n not in net.lost]
    assert ours[: len(theirs)] == theirs
    assert ours[len(theirs) :] in (
        [],
        ["flatten"],
        ["avg_pool"],
        ["global_average_pooling2d"],
        ["global_average_pooling2d", "dropout"],
    )

    x = images(*model.input_shape[1:3])
    prepared = preprocess(name)(x.astype("f4"))
    with torch.no_grad():
        wanted = keras.Model(model.input, [layer.output for layer in model.layers])(prepared)
        together = net.outputs(torch.from_numpy(x).permute(0, 3, 1, 2), theirs)
    for layer, want in zip(theirs, wanted):
        check(together[layer], want, layer)
        if list(net.layers[layer])[1:] and whole:
            assert net.layers[layer] == tuple(np.moveaxis(np.array(want), -1, 1).shape[1:])
    if name.startswith("vgg"):  # whose convolutions have a shorter way, of many images
        with torch.no_grad(), net.hurried(theirs):
            shorter = net.outputs(torch.from_numpy(x).permute(0, 3, 1, 2), theirs)
        for layer, want in zip(theirs, wanted):
            check(shorter[layer], want, layer)
        assert not whole or not torch.equal(shorter["block4_pool"], together["block4_pool"])
    # Asked for alone, a batch norm is part of its convolution, and a ReLU overwrites what stands before it.
    with torch.no_grad():
        for layer, want in list(zip(theirs, wanted))[-1 :: -max(1, len(theirs) // (3 if whole else 12))]:
            check(net.outputs(torch.from_numpy(x).permute(0, 3, 1, 2), [layer])[layer], want, layer)
    if whole:
        logits = net.classify(torch.from_numpy(x).permute(0, 3, 1, 2))
        check(logits.softmax(1), wanted[-1], "predictions")


def preprocess(name: str):
    """Keras' preprocess_input of the network."""
    return importlib.import_module(f"keras.applications.{NETWORKS[name][1]}").preprocess_input


def check(ours: torch.Tensor, theirs, layer: str) -> None:
    ours, theirs = ours.movedim(1, -1).numpy(), keras.ops.convert_to_numpy(theirs)
    assert ours.shape == theirs.shape, layer
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), layer


@pytest.mark.parametrize("name", NETWORKS)
def test_preprocessing_is_that_of_keras_to_the_bit(name: str):
    x = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3).copy()
    x[..., 1] = x[..., 1][:, ::-1]
    ours = catalogue.named(name).prepare(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(ours, preprocess(name)(x.astype("f4")))


def test_the_older_h5_of_keras_is_read_by_name_and_by_order(tmp_path: Path):
    """What Keras 2 wrote and the published files are: groups of layers, each with the names of
    its variables."""
    h5py = pytest.importorskip("h5py")
    model = shaken("mobilenet_v2", True)
    for change in (lambda name: name, lambda name: f"mobl_{name}"):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file.attrs["layer_names"] = [change(layer.name).encode() for layer in model.layers]
            for layer in model.layers:
                group = file.create_group(change(layer.name))
                group.attrs["weight_names"] = [
                    f"{change(layer.name)}/v{i}:0".encode() for i in range(len(layer.weights))
                ]
                for i, w in enumerate(layer.weights):
                    group[f"{change(layer.name)}/v{i}:0"] = keras.ops.convert_to_numpy(w)
        net = opening.load("mobilenet_v2", str(tmp_path / "w.h5"))
        other = opening.load("mobilenet_v2", moved(model, tmp_path / "w.npz"))
        assert net.sha256 == other.sha256 and not net.lost


def test_features_are_the_matrix_of_the_lab(tmp_path: Path):
    """The program as Keras' documentation has it: load_img, img_to_array, preprocess_input,
    predict, flatten."""
    chance, folder = np.random.default_rng(3), tmp_path / "photos"
    folder.mkdir()
    for i, size in enumerate(((200, 150, 3), (64, 300), (500, 333, 3))):
        keras.utils.save_img(
            folder / f"{i}.{'png' if i == 1 else 'jpg'}", chance.integers(0, 256, (*size, 1)[:3]), scale=False
        )
    model = shaken("mobilenet", True)
    part = keras.Model(model.input, model.get_layer("conv_pw_6_relu").output)
    wanted = []
    for file in sorted(folder.iterdir()):
        x = keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
        wanted.append(part.predict(preprocess("mobilenet")(np.expand_dims(x, axis=0)), verbose=0).flatten())
    net = opening.load("mobilenet", moved(model, tmp_path / "w.npz"))
    for _ in extract(net, str(folder), ["conv_pw_6_relu"], tmp_path / "features.npy"):
        pass
    found = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert found.shape == (3, 14 * 14 * 512)
    assert np.abs(found - np.stack(wanted)).max() <= 1e-4 * np.abs(wanted).max()
