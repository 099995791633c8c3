"""What values mean: black and white of arrays and files, 16 bits, and hints that are followed."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from likeness.core import BadData, Refusal, Spec
from likeness.data import Reading, load, user_images
from likeness.data.decode import Decoded, Skip, decode

tifffile = pytest.importorskip("tifffile")  # of scikit-image, which the tests need


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def ramp(n: int = 8, side: int = 16, channels: int = 3) -> np.ndarray:
    """Floats (n, side, side, channels), all values of 0 to 1 and no two images alike."""
    values = np.linspace(0, 1, n * side * side * channels)
    return np.random.default_rng(0).permutation(values).reshape(n, side, side, channels)


def bytes_of(x: np.ndarray, white: float = 1.0, black: float = 0.0) -> np.ndarray:
    """uint8 (n, C, H, W), computed apart from the package."""
    return np.floor((np.clip(x, black, white) - black) / (white - black) * 255 + 0.5).transpose(0, 3, 1, 2)


def saved(x: np.ndarray, name: str = "a.npy") -> Path:
    np.save(name, x)
    return Path(name)


# Overshoots


def bicubic() -> np.ndarray:
    """Black and white digits, enlarged four times: from -.26 to 1.26, 40 % of them outside of 0 to 1."""
    bits = (load_digits().images[:40] > 8).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(b).resize((32, 32), Image.Resampling.BICUBIC)) for b in bits])


def with_one(value: float) -> np.ndarray:
    x = ramp()
    x[0, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "black", "by"),
    [
        (with_one(-0.01), 0, "0.01"),
        (with_one(1.004), 0, "0.004"),
        (ramp() * 1.02 - 0.01, 0, "0.01"),
        (ramp() * 2.02 - 1.01, -1, "0.01"),
    ],
)
def test_small_overshoots_are_clipped_and_counted(x, black, by):
    data = load(saved(x))
    assert np.abs(data.x - bytes_of(x, 1, black)).max() <= (black < 0)  # ties of rounding
    outside = ((x < black) | (x > 1)).sum()
    assert f"{outside} of 6,144 float64 value" in data.verdict and f"by {by} at most" in data.verdict
    assert f"are read with {black} as black and 1 as white" in data.verdict


def test_bicubic_overshoots_do_not_turn_black_into_grey():
    x = bicubic()
    assert x.min() < -0.2 and (x < 0).mean() > 0.25
    data = load(saved(x))
    assert np.array_equal(data.x[:, 0], np.rint(x.clip(0, 1) * 255)) and (data.x == 0).mean() > 0.25


def test_images_of_minus_one_to_one_are_read_as_such_and_said_so():
    x = ramp() * 2 - 1
    data = load(saved(x))
    assert np.abs(data.x - bytes_of(x, 1, -1)).max() <= 1 and data.x.min() == 0 and data.x.max() == 255
    assert (
        "from -1 to 1 are read with -1 as black and 1 as white" in data.verdict
        and "clipped" not in data.verdict
    )


# Hints


def followed(x: np.ndarray, text: str) -> np.ndarray:
    """The bytes that come of doing what a message says."""
    if hint := re.search(r"--white (\d[\d.e+]*\d|\d)", text):
        return load(saved(x, "again.npy"), white=float(hint[1])).x
    if "nan_to_num" in text:
        return load(saved(np.nan_to_num(x), "again.npy")).x
    expression = re.search(r"save (\(?x.+?) instead", text)
    assert expression, text
    return load(saved(eval(expression[1], dict(x=x)), "again.npy")).x


REFUSED = {
    "and a little beyond": ramp() * 255.9 - 0.5,
    "to 1.5": ramp() * 1.5,
    "standardised": (ramp() - 0.5) / ramp().std(),
    "Hounsfield units": (ramp() * 4000 - 1024).astype(np.int16),
    "a huge one": np.where(ramp() == 1, 1e30, ramp()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_hint_for_what_is_refused_leads_to_images(name):
    x = REFUSED[name]
    with pytest.raises(Refusal) as refusal:
        load(saved(x))
    y = followed(x, str(refusal.value))
    assert y.min() == 0 and y.max() > 150
    assert name == "a huge one" or len(np.unique(y)) > 150


@pytest.mark.parametrize("white", [100.0, 0.1])
def test_a_hint_for_a_white_that_is_wrong_is_right(white):
    x = ramp() * 255 - (300 if white < 1 else 0)
    with pytest.raises(BadData) as refusal:
        load(saved(x), white=white)
    y = followed(x, str(refusal.value).replace(f"--white {white:g}", ""))
    assert (y.min(), y.max(), len(np.unique(y))) == (0, 255, 256)


def test_what_is_not_finite_can_be_mended_as_the_hint_says():
    x = ramp()
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(BadData) as refusal:
        load(saved(x))
    assert followed(x, str(refusal.value))[0, 0, 0, 0] == 0


# Dark and flat, of every kind of file


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def png16(x: np.ndarray, interlaced: bool = False, *more: bytes) -> bytes:
    """uint16 (H, W, 1 to 4), by the specification: row k of each pass by filter k mod 5."""
    kind, (h, w) = {1: 0, 2: 4, 3: 2, 4: 6}[x.shape[2]], x.shape[:2]
    passes = ADAM7 if interlaced else ((0, 1, 0, 1),)
    body = b"".join(filtered(x[a::b, d::e]) for a, b, d, e in passes if x[a::b, d::e].size)
    head = struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, interlaced)
    parts = (chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def filtered(x: np.ndarray) -> bytes:
    raw = x.astype(">u2").reshape(len(x), -1).view(np.uint8).astype(int)
    step, out = 2 * x.shape[2], b""
    for k, row in enumerate(raw):
        above = raw[k - 1] if k else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros(step, int), r[:-step]]) for r in (row, above))
        p = left + above - corner
        far = np.stack([abs(p - left), abs(p - above), abs(p - corner)])
        paeth = np.choose(far.argmin(0), [left, above, corner])
        guess = [0 * row, left, above, (left + above) // 2, paeth][k % 5]
        out += bytes([k % 5]) + (row - guess).astype(np.uint8).tobytes()
    return out


def tiff(x: np.ndarray, **how: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, x, **{"photometric": "rgb" if x.ndim == 3 else "minisblack"} | how)
    return file.getvalue()


def pnm(x: np.ndarray, white: int, plain: bool = False) -> bytes:
    h, w, c = x.shape
    kind = (2 if plain else 5) + (c == 3)
    body = " ".join(map(str, x.ravel())).encode() if plain else x.astype(">u2").tobytes()
    return b"P%d\n# made by hand\n%d %d\n%d\n" % (kind, w, h, white) + body


def png8(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG")
    return file.getvalue()


DARK = {
    "png 8 bits": (png8, 255, np.uint8),
    "png 16 bits": (png16, 65535, np.uint16),
    "tiff 16 bits": (tiff, 65535, np.uint16),
    "tiff of floats": (lambda x: tiff(x[..., 0]), 1, np.float32),
    "ppm": (lambda x: pnm(x, 65535), 65535, np.uint16),
}


@pytest.mark.parametrize("name", [*DARK, "npy of bytes", "npy of floats", "npz of floats"])
def test_what_is_dark_is_remarked_for_every_kind_of_file_and_the_hint_helps(name, tmp_path):
    x, source = ramp() * 0.06, tmp_path / "dark"
    if name in DARK:
        make, white, kind = DARK[name]
        source.mkdir()
        for i, one in enumerate(x):
            (source / f"{i}.{name[:4].strip()}").write_bytes(make((one * white).astype(kind)))
    elif name == "npz of floats":
        source = tmp_path / "dark.npz"
        np.savez(source, x=x)
    else:
        source = saved(x if "floats" in name else (x * 255).astype(np.uint8))
    data = load(source, size=16)
    assert data.x.max() <= 16 and "so they are dark" in data.verdict
    hint = re.search(r"if it should be white, say --white ([\d.]+\d|\d)", data.verdict)
    assert hint, data.verdict
    bright = load(source, size=16, white=float(hint[1]))
    assert bright.x.max() >= 128 and "dark" not in bright.verdict


def test_what_is_flat_is_remarked_and_the_hint_helps(tmp_path):
    x = ramp() * 0.1 - 0.05
    verdict = load(saved(x)).verdict
    assert "read with -1 as black" in verdict and "so they are flat" in verdict
    y = followed(x, verdict.partition("so they are flat")[2])
    assert (y.min(), y.max(), len(np.unique(y))) == (0, 255, 256)
    (tmp_path / "f").mkdir()
    for i, one in enumerate(ramp() * 30 + 200):
        (tmp_path / "f" / f"{i}.png").write_bytes(png8(one.astype(np.uint8)))
    assert "all 8-bit values lie from 200 to 230, so they are flat" in load(tmp_path / "f", size=16).verdict


# Bits


def one(tmp_path: Path, blob: bytes, **how: float) -> Decoded | Skip:
    path = tmp_path / "one"
    path.write_bytes(blob)
    status = path.stat()
    return decode(bytes(path), (status.st_size, status.st_mtime_ns), Reading(size=16, **how))


def pixels(tmp_path: Path, blob: bytes, **how: float) -> np.ndarray:
    result = one(tmp_path, blob, **how)
    assert isinstance(result, Decoded), result
    return result.pixels


def words(channels: int, most: int = 4095) -> np.ndarray:
    """uint16 (16, 16, channels), opaque where there is opacity."""
    x = np.random.default_rng(1).integers(0, most + 1, (16, 16, channels)).astype(np.uint16)
    if channels in (2, 4):
        x[..., -1] = 65535
    return x


DEEP = {
    "png": png16,
    "png interlaced": lambda x: png16(x, True),
    "tiff": tiff,
    "tiff big-endian": lambda x: tiff(x, byteorder=">"),
    "tiff compressed": lambda x: tiff(x, compression="zlib", predictor=True),
    "tiff big-endian compressed": lambda x: tiff(x, byteorder=">", compression="zlib", predictor=True),
    "tiff in tiles": lambda x: tiff(x, tile=(16, 16), compression="lzma"),
    "tiff in strips": lambda x: tiff(x, rowsperstrip=3),
    "tiff of planes": lambda x: tiff(x.transpose(2, 0, 1).copy(), planarconfig="separate"),
    "tiff of planes, big-endian": lambda x: tiff(
        x.transpose(2, 0, 1).copy(), planarconfig="separate", byteorder=">"
    ),
    "ppm": lambda x: pnm(x, 65535),
}
CASES = [
    (name, c) for name in DEEP for c in (2, 3, 4) if c == 3 or "png" in name or ("tiff" in name and c == 4)
]


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_no_bit_of_16_is_lost_where_white_is_declared(tmp_path, name, channels):
    x = words(channels)
    colours = x[..., : channels - (channels % 2 == 0)].astype(float)
    want = np.rint(colours * 255 / 4095).transpose(2, 0, 1)
    how = dict(extrasamples=["unassalpha"]) if channels == 4 and "tiff" in name else {}
    blob = tiff(x, **how) if how else DEEP[name](x)
    assert np.array_equal(pixels(tmp_path, blob, white=4095.0), want)


def test_colours_that_were_multiplied_by_opacity_are_divided_with_all_their_bits(tmp_path):
    x = words(4)
    x[..., 3] = 30000
    stored = np.concatenate([np.rint(x[..., :3] * (30000 / 65535)), x[..., 3:]], -1).astype(np.uint16)
    a, b = (
        pixels(tmp_path, tiff(part, extrasamples=[kind]), white=4095.0)
        for part, kind in ((x, "unassalpha"), (stored, "assocalpha"))
    )
    assert np.abs(a.astype(int) - b).max() <= 1 and np.ptp(a) > 100


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_16_bits_is_compared_with_all_of_them(tmp_path, channels):
    x = np.full((16, 16, channels), 0x0A0B, np.uint16)
    x[:8] = 0x0A0C  # alike in the upper byte
    blob = png16(x, False, chunk(b"tRNS", struct.pack(f">{channels}H", *[0x0A0B] * channels)))
    y = pixels(tmp_path, blob, white=4095.0)
    assert (y[:, 8:] == 255).all() and (y[:, :8] == round(0x0A0C * 255 / 4095)).all()


def test_planes_that_libtiff_halves_are_refused_with_a_declared_white(tmp_path):
    x = words(3, 65535)
    blob = tiff(x.transpose(2, 0, 1).copy(), planarconfig="separate", compression="zlib")
    refused = one(tmp_path, blob, white=4095.0)
    assert (
        isinstance(refused, Skip) and "each channel apart" in refused.detail and "tifffile" in refused.detail
    )
    assert np.array_equal(pixels(tmp_path, blob), (x >> 8).transpose(2, 0, 1))


def test_16_bits_without_a_declared_white_are_what_old_runs_have_learnt(tmp_path):
    x = words(3, 65535)
    assert np.array_equal(pixels(tmp_path, png16(x)), (x >> 8).transpose(2, 0, 1))
    for name in ("tiff", "tiff of planes", "tiff of planes, big-endian"):
        assert np.array_equal(pixels(tmp_path, DEEP[name](x)), (x >> 8).transpose(2, 0, 1))


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_tiff_whose_zero_is_white_is_turned_around(tmp_path, kind, white):
    x = np.linspace(0, white, 256).astype(kind).reshape(16, 16)
    y = pixels(tmp_path, tiff(x, photometric="miniswhite"))
    assert np.array_equal(y[0], np.rint((white - x.astype(float)) * 255 / white))


def test_8_bits_obey_a_smaller_white_and_refuse_one_that_cannot_be(tmp_path):
    classes = np.arange(256).reshape(16, 16).astype(np.uint8) % 5
    assert np.array_equal(pixels(tmp_path, png8(classes), white=4.0)[0], np.rint(classes * 63.75))
    refused = one(tmp_path, png8(classes * 50), white=4.0)
    assert (
        isinstance(refused, Skip) and refused.reason == "no known white" and "--white 255" in refused.detail
    )


def test_the_white_of_an_array_is_not_forced_on_a_photograph(tmp_path):
    """A run that learnt from arrays of 0 and 1, asked about a picture of 8 bits."""
    x = (ramp(1)[0] * 255).astype(np.uint8)
    Path("photo.png").write_bytes(png8(x))
    own = user_images.images("photo.png", Spec(3, 16), dict(white=1.0), 1)
    assert np.array_equal(own.x[0].add(1).mul(127.5).round().numpy(), x.transpose(2, 0, 1))


def test_what_was_assumed_of_an_array_that_is_brought_is_noted():
    own = user_images.images(str(saved(ramp())), Spec(3, 16), {}, 8)
    assert own.notes == ("float64 values from 0 to 1 are read with 0 as black and 1 as white",)


def test_the_remedy_for_a_folder_fits_all_of_its_files(tmp_path):
    """The first file alone would call for --white 255."""
    (tmp_path / "f").mkdir()
    for i, most in enumerate((200, 900, 3000, 4000)):
        (tmp_path / "f" / f"{i}.tif").write_bytes(tiff((ramp(4)[i, ..., 0] * most).astype(np.float32)))
    with pytest.raises(BadData) as refusal:
        load(tmp_path / "f", size=16)
    hint = re.search(r"in all: say what white is, such as --white (\d+)", str(refusal.value))
    assert hint and hint[1] == "4095"
    assert len(load(tmp_path / "f", size=16, white=4095.0).x) == 4


# Several pictures in a file


def test_a_mpo_of_a_telephone_is_a_photograph(tmp_path):
    file, photo = io.BytesIO(), Image.fromarray((ramp(1, 32)[0] * 60).astype(np.uint8))
    photo.save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32), "white")])
    result = one(tmp_path, file.getvalue())
    assert isinstance(result, Decoded) and result.notes == ("MPO, its photograph",)
    assert result.pixels.max() < 128


# What Pillow does not read


def test_a_jpeg_of_12_bits_says_so(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    blob = file.getvalue()
    at = blob.index(b"\xff\xc0") + 4
    result = one(tmp_path, blob[:at] + b"\x0c" + blob[at + 1 :])
    assert isinstance(result, Skip) and result.reason == "JPEG of 12 bits" and "16 bits" in result.detail


def command(text: str) -> str:
    found = re.search(r'python -c "([^"]+)"', text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_tiff_that_pillow_does_not_read_names_the_command_that_does(tmp_path, monkeypatch, kind):
    (tmp_path / "f").mkdir()
    for i, x in enumerate(ramp()):
        blob = tiff((x if kind == np.float32 else x[..., 0]).astype(kind))
        (tmp_path / "f" / f"{i}.tif").write_bytes(blob)
    with pytest.raises(BadData, match="TIFF that Pillow does not read") as refusal:
        load(tmp_path / "f")
    monkeypatch.chdir(tmp_path / "f")
    exec(command(str(refusal.value)))
    want = bytes_of(ramp()) if kind == np.float32 else bytes_of(ramp()[..., :1])
    assert np.abs(load("images.npy").x - want).max() <= 1


@pytest.mark.parametrize("name", ["a.h5", "renamed.dat", "v73.mat"])
def test_hdf5_names_its_arrays_and_the_command(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    x = (ramp() * 255).astype(np.uint8)
    with h5py.File(name, "w", userblock_size=512 if "mat" in name else 0) as file:
        file["labels"], file["train/images"] = np.arange(8), x
    with pytest.raises(Refusal, match="labels") as refusal:
        load(name)
    exec(command(str(refusal.value)))
    assert np.array_equal(load("images.npy").x, x.transpose(0, 3, 1, 2))


def test_a_file_of_matlab_names_the_command():
    io_ = pytest.importorskip("scipy.io")
    x = (ramp() * 255).astype(np.uint8)
    io_.savemat("a.mat", dict(X=x.transpose(1, 2, 3, 0), y=np.arange(8)))
    with pytest.raises(Refusal, match="MATLAB") as refusal:
        load("a.mat")
    exec(command(str(refusal.value)))
    assert np.array_equal(load("images.npy").x, x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("folder", ["a.zarr", "plain"])
def test_a_zarr_store_is_known_by_what_is_in_it(tmp_path, folder):
    for name, shape in (("labels", [8]), ("train/x", [8, 16, 16, 3])):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / ".zarray").write_text(f'{{"shape": {shape}}}')
    (tmp_path / folder / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(Refusal, match="Zarr") as refusal:
        load(tmp_path / folder)
    assert "'train/x'" in command(str(refusal.value)) and "pip install zarr" in str(refusal.value)


@pytest.mark.parametrize("packed", [False, True])
def test_objects_of_numpy_name_the_command_that_writes_files(tmp_path, packed):
    x = np.empty(4, object)
    for i, one in enumerate(ramp(4)):
        x[i] = (one[: 16 - i] * 255).astype(np.uint8)
    np.savez("a.npz", x=x) if packed else np.save("a.npy", x, allow_pickle=True)
    with pytest.raises(BadData, match="objects") as refusal:
        load("a.npz" if packed else "a.npy")
    text = command(str(refusal.value))
    exec(text, {})
    assert len(load("images", size=12).x) == 4


def test_a_pickle_is_named_and_not_opened(tmp_path):
    Path("data_batch_1").write_bytes(b"\x80\x04cos\nsystem\n(S'touch harm'\ntR.")
    Path("batches.meta").write_bytes(b"")
    with pytest.raises(Refusal, match="cifar10"):
        load("data_batch_1")
    assert not Path("harm").exists()


def test_one_image_has_no_spread_of_codes():
    import torch

    from likeness.models.vae import VAE

    model = VAE(Spec(1, 8), latent=2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        units = model.active_units(torch.zeros(1, 1, 8, 8))
    assert "one image" in units.verdict and units.spread.tolist() == [0, 0]
