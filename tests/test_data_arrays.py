"""Array files: layouts, number types, labels, and files that mean harm."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_helpers import idx_bytes, same, write_idx_set
from likeness.core import BadData, Refusal
from likeness.data import arrays, formats, load, pixels
from likeness.data.formats import read_idx
from likeness.data.pixels import fit, resize
from likeness.runs.run import _spelled_out

anyway = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    return tmp_path / "cache"


# Arrays


def rows(n: int = 12, side: int = 10, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, side, side), np.uint8)


def saved(tmp_path: Path, x: np.ndarray, name: str = "a.npy") -> Path:
    np.save(tmp_path / name, x)
    return tmp_path / name


def test_layouts_are_told_apart(tmp_path):
    x = rows()
    for y in (x, x.transpose(0, 2, 3, 1)):
        assert np.array_equal(load(saved(tmp_path, y)).x, x)
    assert np.array_equal(load(saved(tmp_path, x[:, 0])).x, x[:, :1])
    for shape in ((12, 3, 10, 3), (12, 100), (12, 5, 10, 10)):
        with pytest.raises(Refusal, match="channels"):
            load(saved(tmp_path, np.zeros(shape, np.uint8)))
    for shape in ((0, 3, 8, 8), (4, 0, 8)):
        with pytest.raises(Refusal, match="holds no pixels"):
            load(saved(tmp_path, np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("form", ["npy", "npz", "last"])
def test_grey_stored_in_colour_is_read_as_grey_and_told(tmp_path, form, kind):
    x = np.repeat(rows(channels=1), 3, 1)
    y = (x / 255).astype(kind) if kind is np.float32 else x
    path = tmp_path / f"a.{form[:3]}"
    if form == "npz":
        np.savez(path, x_train=y)
    else:
        path = saved(tmp_path, y if form == "npy" else y.transpose(0, 2, 3, 1))
    spelled = load(path, colour="rgb")  # as runs have it that were made before
    assert np.array_equal(spelled.x, x) and "stored in colour" not in spelled.verdict
    for _ in range(2):
        data = load(path)
        assert np.array_equal(data.x, x[:, :1]) and data.settings["colour"] == "grey"
        assert "; stored in colour, grey in every pixel, and read as grey: --colour rgb" in data.verdict
    assert same(data, load(path, colour="grey")) and same(spelled, load(path, **spelled.settings))


def test_one_value_in_the_last_image_makes_an_array_colour(tmp_path):
    x = np.repeat(rows(n=5000, channels=1), 3, 1)
    x[-1, 2, 9, 9] ^= 1
    data = load(saved(tmp_path, x))
    assert np.array_equal(data.x, x) and "stored in colour" not in data.verdict


def test_arrays_without_a_dimension_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.uint8(3))
    np.savez(tmp_path / "y.npz", x=rows(), y=np.int64(3))
    np.savez(tmp_path / "t.npz", x=rows(), y=np.arange(12) % 2, x_test=np.uint8(3), y_test=np.int64(3))
    for source in (saved(tmp_path, np.uint8(3)), *tmp_path.glob("*.npz")):
        with pytest.raises(Refusal):
            load(source)


def test_a_plain_npy_is_mapped_and_nothing_is_copied(tmp_path, place):
    data = load(saved(tmp_path, rows()))
    assert np.array_equal(data.x, rows()) and not list(place.glob("*/x.u8"))
    assert same(data, load(tmp_path / "a.npy", **data.settings))
    assert np.array_equal(load(saved(tmp_path, np.asfortranarray(rows()), "f.npy")).x, rows())


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda u: u / 255, {}),
        (lambda u: u.astype(np.float32) / 255, {}),
        (lambda u: u / 127.5 - 1, {}),
        (lambda u: u.astype(np.int64), {}),
        (lambda u: u.astype(np.float32), dict(white=255.0)),
        (lambda u: u.astype(np.uint16) * 257, dict(white=65535.0)),
    ],
)
def test_numbers_of_any_type_become_the_same_bytes(tmp_path, make, how):
    u = rows()
    assert np.array_equal(load(saved(tmp_path, make(u)), **how).x, u)


@pytest.mark.parametrize(
    "x",
    [
        rows().astype(np.float32),  # 0 to 255 as floats
        rows().astype(np.uint16) * 200,
        (rows() > 128).astype(np.uint8),  # 0 and 1 as bytes
        rows() / 50 - 2,
    ],
)
def test_what_could_mean_two_things_is_refused_and_the_flag_named(tmp_path, x):
    with pytest.raises(Refusal, match="--white"):
        load(saved(tmp_path, x))


def test_bits_are_black_and_white(tmp_path):
    bits = rows() > 128
    data = load(saved(tmp_path, bits))
    assert np.array_equal(data.x, bits * np.uint8(255)) and data.spec.levels == 2
    assert np.array_equal(load(saved(tmp_path, bits.astype(np.uint8), "b.npy"), white=1.0).x, data.x)


def test_values_outside_a_declared_range_or_not_finite_are_bad(tmp_path):
    with pytest.raises(BadData, match="lie from"):
        load(saved(tmp_path, rows().astype(np.float32)), white=100.0)
    with pytest.raises(BadData, match="finite"):
        load(saved(tmp_path, np.full((4, 8, 8), np.nan), "n.npy"))


def test_size_and_colour_of_arrays(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 20, 30), np.uint8)
    data = load(saved(tmp_path, x))
    assert np.array_equal(data.x, x[..., 5:25])
    small = load(saved(tmp_path, x), size=10, colour="grey")
    want = np.stack([np.asarray(fit(Image.fromarray(a.transpose(1, 2, 0)), 10).convert("L")) for a in x])
    assert small.x.shape == (9, 1, 10, 10) and abs(small.x[:, 0].astype(int) - want).max() <= 1
    grey = load(saved(tmp_path, x), colour="grey").x[:, 0]
    assert np.array_equal(
        grey,
        np.stack([np.asarray(Image.fromarray(a.transpose(1, 2, 0)).convert("L")) for a in x])[:, :, 5:25],
    )


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("arr_0", "arr_1")])
def test_npz_with_labels(tmp_path, keys):
    y = np.arange(12) % 3 * 5
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(keys, (rows(), y))))
    data = load(tmp_path / "a.npz")
    assert (
        np.array_equal(data.x, rows()) and data.classes == ("0", "5", "10") and np.array_equal(data.y, y // 5)
    )


def test_npz_with_text_labels_and_a_test_split(tmp_path):
    x = rows()
    np.savez(
        tmp_path / "a.npz",
        x_train=x[:8],
        y_train=np.array(["b", "a"] * 4),
        x_test=x[6:],
        y_test=np.array(["a", "b"] * 3),
    )
    data = load(tmp_path / "a.npz")
    assert (
        data.classes == ("a", "b")
        and data.held_out.tolist() == list(range(8, 14))
        and data.train.tolist() == list(range(6))
    )
    assert "copies of held-out images: 2" in data.verdict


def medical(folder, n=(6, 4, 2)):
    """An .npz file with the three parts of MedMNIST, or those of which there are any; all images differ."""
    x, y = rows()[: sum(n)], np.arange(sum(n)) % 2
    ends = np.cumsum(n)
    parts = {}
    for name, a, b in zip(("train", "val", "test"), ends - n, ends):
        parts |= {f"{name}_images": x[a:b], f"{name}_labels": y[a:b, None]} if b > a else {}
    np.savez(folder / "m.npz", **parts)
    return folder / "m.npz", x, y


@pytest.mark.parametrize(
    ("n", "validation", "train", "held_out", "says"),
    [
        ((6, 4, 2), "auto", 10, 2, "the 4 for validation are trained on; the 2 of the official test split"),
        (
            (6, 4, 2),
            "held-out",
            6,
            6,
            "the 2 of the official test split are held out; the 4 of the validation",
        ),
        ((6, 4, 2), "none", 6, 2, "those for validation are left out; the 2 of the official test split"),
        ((7, 5, 0), "auto", 7, 5, "the 5 of the validation part are held out"),
        ((7, 5, 0), "train", 11, 1, "the 5 for validation are trained on; 1 are held out"),
    ],
)
def test_a_validation_part_is_used_and_named(tmp_path, n, validation, train, held_out, says):
    path, x, y = medical(tmp_path, n)
    data = load(path, validation=validation)
    assert (len(data.train), len(data.held_out)) == (train, held_out) and says in data.verdict
    used = len(x) - n[1] * (validation == "none")
    assert len(data.x) == used and len(np.unique(data.x.reshape(used, -1), axis=0)) == used
    of = {image.tobytes(): label for image, label in zip(x, y)}
    assert all(of[image.tobytes()] == label for image, label in zip(data.x, data.y))
    official = {image.tobytes() for image in x[n[0] + n[1] :]}
    assert official <= {data.x[row].tobytes() for row in data.held_out}
    again = load(path, **data.settings)
    assert again.fingerprint == data.fingerprint and load(path, validation="train").verdict != ""


def test_a_run_from_before_the_validation_part_was_read_keeps_its_data(tmp_path):
    path, *_ = medical(tmp_path)
    without = np.load(path)
    np.savez(tmp_path / "old.npz", **{k: without[k] for k in without if "val" not in k})
    assert load(path, validation="none").fingerprint == load(tmp_path / "old.npz").fingerprint
    assert _spelled_out(dict(size=8))["validation"] == "none"


def test_labels_that_do_not_fit_are_refused(tmp_path):
    for y in (np.arange(5), np.arange(12), np.zeros((12, 3)), np.array([b"a"] * 12)):
        np.savez(tmp_path / "a.npz", x=rows(), y=y)
        with pytest.raises(BadData):
            load(tmp_path / "a.npz")


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress, lzma.compress])
def test_idx_plain_and_compressed(tmp_path, pack):
    x = rows(channels=1)[:, 0]
    (tmp_path / "some-images-idx3-ubyte").write_bytes(pack(idx_bytes(x)))
    (tmp_path / "some-labels-idx1-ubyte").write_bytes(pack(idx_bytes(np.arange(12) % 4)))
    data = load(tmp_path / "some-images-idx3-ubyte")
    assert np.array_equal(data.x[:, 0], x) and data.y.tolist() == [0, 1, 2, 3] * 3


def test_a_folder_of_the_four_idx_files(tmp_path):
    x, y, tx, ty = write_idx_set(tmp_path / "set")
    data = load(tmp_path / "set")
    assert np.array_equal(data.x[:, 0], np.concatenate([x, tx])) and np.array_equal(
        data.y, np.concatenate([y, ty])
    )
    assert data.held_out.tolist() == list(range(30, 40))
    (tmp_path / "set" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(BadData):
        load(tmp_path / "set")


def npy_with(header: bytes, body: bytes = b"\0" * 100) -> bytes:
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + body


HOSTILE = {
    "promises a petabyte": npy_with(
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 1024)}"
    ),
    "holds objects": npy_with(b"{'descr': '|O', 'fortran_order': False, 'shape': (10,)}"),
    "has a negative size": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 8, 8)}"),
    "has nested brackets": npy_with(b"(" * 5000),
    "has a truth for a size": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (True,)}", b"x"),
    "calls a function": npy_with(b"__import__('os').system('true')"),
    "is cut off": npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (40, 8, 8)}"),
    "has an unknown version": b"\x93NUMPY\x09\0" + b"\0" * 90,
    "is only its magic": b"\x93NUMPY",
    "idx promises a petabyte": b"\0\0\x08\3" + b"\xff" * 12,
    "idx is cut off": idx_bytes(np.zeros((4, 8, 8)))[:-5],
    "idx is too long": idx_bytes(np.zeros((4, 8, 8))) + b"more",
    "zip of nothing": b"PK\5\6" + bytes(18),
    "zip that is broken": b"PK\3\4" + b"\xff" * 60,
    "gzip that is broken": gzip.compress(idx_bytes(np.zeros((4, 8, 8))))[:-9],
    "xz that is broken": lzma.compress(idx_bytes(np.zeros((4, 8, 8))))[:-9],
    "an empty file": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused_politely(tmp_path, name):
    (tmp_path / "a").write_bytes(HOSTILE[name])
    with pytest.raises(BadData, match="cannot be read as"):
        load(tmp_path / "a")


def test_a_pickle_in_npz_is_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="object"):
        load(tmp_path / "a.npz")


def test_a_zip_bomb_is_read_no_further_than_its_header_promises(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", buffer.getvalue() + bytes(50_000_000))
    with pytest.raises(BadData, match="holds more"):
        load(tmp_path / "a.npz")


def promising(path: Path, sizes: dict[str, int]) -> Path:
    """An .npz whose members claim so many bytes each, and hold none."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in sizes.items():
            archive.writestr(
                f"{name}.npy",
                npy_with(
                    b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 8, 8)}" % (size // 64), b""
                ),
            )
    return path


def test_all_arrays_of_a_file_together_may_take_half_of_the_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "available", lambda: 1 << 20)
    for sizes in (dict(x=600_000), dict(x_train=400_000, x_test=400_000), dict(x=400_000, y=400_000)):
        with pytest.raises(BadData, match="unpacks to"):
            load(promising(tmp_path / "a.npz", sizes))
    with pytest.raises(BadData, match="and it holds 0"):
        load(promising(tmp_path / "a.npz", dict(x=400_000)))
    np.savez(tmp_path / "good.npz", x=rows())
    assert len(load(tmp_path / "good.npz").x) == 12


def test_what_memory_is_available_is_believable():
    assert 1 << 24 < formats.available() < 1 << 50


def test_a_stump_and_a_bomb_are_read_no_further_than_promised():
    with pytest.raises(ValueError, match="holds 5"):
        formats.bounded(io.BytesIO(b"short"), 1 << 16)
    bomb = io.BytesIO(bytes(1 << 22))
    with pytest.raises(ValueError, match="more"):
        formats.bounded(bomb, 1 << 10)
    assert bomb.tell() == (1 << 10) + 1


def test_large_arrays_are_converted_few_at_a_time(tmp_path, monkeypatch):
    parts: list[int] = []
    monkeypatch.setattr(arrays, "resize", lambda x, size: (parts.append(len(x)), resize(x, size))[1])
    monkeypatch.setattr(pixels, "AT_ONCE", 3 * 10 * 10 * 2)
    load(saved(tmp_path, rows() / 255))
    assert parts == [2] * 6


@anyway
@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"\x93NUMPY\1\0\x36\0",
            b"PK\3\4",
            b"\x1f\x8b\x08\0",
            b"\xfd7zXZ\0",
            b"\0\0\x08\3",
            b"\0\0\x0d\1",
        ]
    ),
)
def test_random_bytes_give_nothing_but_a_refusal(tmp_path, blob, magic):
    (tmp_path / "a").write_bytes(magic + blob)
    with contextlib.suppress(Refusal):
        load(tmp_path / "a")


@anyway
@given(st.binary(max_size=60))
def test_random_npy_headers_give_nothing_but_a_refusal(tmp_path, header):
    (tmp_path / "a").write_bytes(
        npy_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + header + b"}")
    )
    with pytest.raises(Refusal):
        load(tmp_path / "a")


@anyway
@given(st.sampled_from([8, 9, 11, 12, 13, 14]), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_idx_of_every_type_and_shape_comes_back(code, shape):
    kind = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}[code]
    x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    blob = bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes() + x.tobytes()
    assert np.array_equal(read_idx(io.BytesIO(blob)), x)
