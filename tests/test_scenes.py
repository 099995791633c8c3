"""The checker reads from pixels what was drawn, and agreement with a text is what a count by hand says."""

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from likeness.core import Refusal
from likeness.data import load, moving_shapes, shapes
from likeness.evaluation import captions, scenes


@cache
def drawn(name: str, size: int = 32):
    return load(name, size=size)


def changed(x: np.ndarray, how) -> np.ndarray:
    """Each picture of (..., 3, H, W), as Pillow sees it, changed."""
    flat = x.reshape(-1, 3, *x.shape[-2:]).transpose(0, 2, 3, 1)
    out = [np.asarray(how(Image.fromarray(np.ascontiguousarray(a)))) for a in flat]
    return np.stack(out).transpose(0, 3, 1, 2).reshape(x.shape)


def jpeg(image: Image.Image) -> Image.Image:
    image.save(blob := io.BytesIO(), "JPEG", quality=90)
    return Image.open(blob)


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1))


def noisy(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(np.rint(x + rng.normal(0, 16, x.shape)), 0, 255).astype(np.uint8)


def right(data, seen) -> float:
    rows = np.arange(len(seen))
    return float(captions.agreements(seen, captions.wanted_of(data, rows))[captions.ALL].mean())


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_are_read_as_they_were_drawn(size):
    data = drawn("shapes:400", size)
    x = np.array(data.x)
    seen = scenes.read(x)
    assert right(data, seen) == 1
    for scene, truth in zip(seen, data.attributes):
        there = {o["place"]: o for o in scene["objects"]}
        for o in truth["objects"]:
            assert abs(there[o["place"]]["x"] - o["x"]) < 0.3 * size / 32
    assert right(data, scenes.read(noisy(x))) >= 0.995
    assert right(data, scenes.read(changed(x, blurred))) >= 0.995
    assert right(data, scenes.read(changed(x, jpeg))) >= 0.97


def test_clips_are_read_as_they_were_drawn():
    data = drawn("moving-shapes:60")
    x = np.array(data.x)
    seen = scenes.watch(x)
    assert right(data, seen) == 1
    for scene, truth in zip(seen, data.attributes):
        there = {o["colour"]: o for o in scene["objects"]}
        for o in truth["objects"]:
            here = there[o["colour"]]
            assert np.abs(np.array(here["x"]) - o["x"]).max() < 0.5 and abs(here["vx"] - o["vx"]) < 0.03
            assert abs(here["vy"] - o["vy"]) < 0.03 and here["bent"] < 0.25 and here["kept"] > 0.8
    few = x[:20]
    assert right(data, scenes.watch(noisy(few))) == 1
    frames = changed(few.swapaxes(1, 2), blurred).swapaxes(1, 2)
    assert right(data, scenes.watch(frames)) >= 0.95


def test_shuffled_captions_agree_by_chance_alone():
    """The share is that of equal attributes in the truth itself, counted without any pixel."""
    data = drawn("shapes:400")
    seen, texts = scenes.read(np.array(data.x)), captions.wanted_of(data, np.arange(400))
    other = [texts[(i + 7) % 400] for i in range(400)]
    by_truth = captions.agreements(data.attributes, other)
    by_pixels = captions.agreements(seen, other)
    assert by_truth.keys() == by_pixels.keys()
    for name, values in by_truth.items():
        assert np.array_equal(values, by_pixels[name]), name
    assert by_pixels[captions.ALL].mean() < 0.01 and 0.2 < by_pixels["background"].mean() < 0.3


def test_a_clip_played_backwards_moves_the_other_way():
    data = drawn("moving-shapes:60")
    x, n = np.array(data.x[:20]), len(moving_shapes.DIRECTIONS)
    ahead, back = scenes.watch(x), scenes.watch(x[:, :, ::-1])
    for a, b in zip(ahead, back):
        turned = {o["colour"]: o["direction"] for o in b["objects"]}
        for o in a["objects"]:
            k = moving_shapes.DIRECTIONS.index(o["direction"])
            assert turned[o["colour"]] == moving_shapes.DIRECTIONS[(k + n // 2) % n]
    still = scenes.watch(np.repeat(x[:, :, :1], 16, 2))
    assert right(data, still) < 0.3 and max(abs(o["vx"]) for s in still for o in s["objects"]) < 0.01


def test_another_object_per_frame_is_not_kept():
    data = drawn("moving-shapes:60")
    alone = next(i for i, a in enumerate(data.attributes) if len(a["objects"]) == 1)
    x = np.array(data.x[alone : alone + 1])
    ground = x[:, :, :1, :1, :1]
    x[:, 0, ::2] = np.where((x != ground).any(1, keepdims=True)[:, 0, ::2], 20, x[:, 0, ::2])
    x[:, 1, ::2] = np.where((x != ground).any(1, keepdims=True)[:, 0, ::2], 250 - x[:, 1, ::2], x[:, 1, ::2])
    seen = scenes.watch(x)[0]["objects"]
    assert not seen or seen[0]["kept"] < 0.8


def test_a_text_says_what_its_caption_was_made_from():
    for name in ("shapes:300", "moving-shapes:60"):
        data = drawn(name)
        for text, wanted in zip(data.texts, captions.wanted_of(data, np.arange(len(data.texts)))):
            assert captions.said(text) == wanted
    assert captions.said("A red circle, please") == {"objects": [{"colour": "red", "shape": "circle"}]}
    assert captions.said("a star moving up left on a grey background") == {
        "objects": [{"shape": "star", "direction": "up left"}],
        "background": "grey",
    }
    with pytest.raises(Refusal, match="names no shape"):
        captions.said("")


def test_agreement_is_counted_as_by_hand():
    scene = dict(
        background="white",
        objects=[
            dict(shape="circle", colour="red", size="small", place=shapes.PLACES[0]),
            dict(shape="star", colour="blue", size="large", place=shapes.PLACES[4]),
        ],
    )
    wanted = captions.said("a large blue star in the centre and a small green circle at the top left")
    assert captions.agreement(scene, wanted) == {
        "number": 1,
        "shape": 1,
        "colour": 0.5,
        "size": 1,
        "place": 1,
        captions.ALL: 0,
    }
    assert captions.agreement(scene, captions.said("a star")) == {"number": 0, "shape": 1, captions.ALL: 0}
    empty = dict(background="white", objects=[])
    assert captions.agreement(empty, captions.said("a star"))[captions.ALL] == 0


def test_what_cannot_be_read_is_refused():
    with pytest.raises(Refusal, match="three colours"):
        scenes.read(np.zeros((2, 1, 32, 32), np.uint8))
    with pytest.raises(Refusal, match="one frame has no direction"):
        scenes.watch(np.zeros((2, 3, 1, 32, 32), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    assert all(scene["off"] > 40 for scene in scenes.read(noise))
