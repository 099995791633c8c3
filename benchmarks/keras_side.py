"""The program of the lab: features of a folder of images by keras.applications, as its documentation shows
it.

Run by features_keras.py with whatever Python has Keras; it prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

MODULES = dict(
    vgg16="vgg16", vgg19="vgg19", mobilenet="mobilenet", mobilenet_v2="mobilenet_v2", resnet50="resnet"
)
CLASSES = dict(
    vgg16="VGG16", vgg19="VGG19", mobilenet="MobileNet", mobilenet_v2="MobileNetV2", resnet50="ResNet50"
)


def main(folder: str, network: str, layer: str, weights: str, out: str, batch: int) -> None:
    """batch 1: one image after another, as in the lab.  More: all images are read first, and predicted in
    batches of so many."""
    keras.utils.set_random_seed(0)
    module = import_module(f"keras.applications.{MODULES[network]}")
    whole = getattr(keras.applications, CLASSES[network])(weights=None)
    if not Path(weights).exists():
        np.savez(weights, **{w.path: keras.ops.convert_to_numpy(w) for w in whole.weights})
    else:
        with np.load(weights) as saved:
            for w in whole.weights:
                w.assign(saved[w.path])
    model = keras.Model(inputs=whole.input, outputs=whole.get_layer(layer).output)
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    model.predict(read(module, files[0]), verbose=0)
    wall, cpu = time.perf_counter(), time.process_time()
    if batch == 1:
        rows = [model.predict(read(module, file), verbose=0).flatten() for file in files]
    else:
        rows = list(
            model.predict(
                np.concatenate([read(module, file) for file in files]), batch_size=batch, verbose=0
            ).reshape(len(files), -1)
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(out, np.stack(rows))
    backend = keras.backend.backend()
    version = metadata.version("tensorflow-cpu" if backend == "tensorflow" else backend)
    print(
        json.dumps(
            dict(
                images=len(files),
                wall=wall,
                cpu=cpu,
                program=f"Keras {keras.__version__} on {backend} {version}",
            )
        )
    )


def read(module: Any, file: Path) -> np.ndarray:
    image = keras.utils.load_img(file, target_size=(224, 224))
    x: np.ndarray = module.preprocess_input(np.expand_dims(keras.utils.img_to_array(image), axis=0))
    return x


if __name__ == "__main__":
    main(*sys.argv[1:6], int(sys.argv[6]))
