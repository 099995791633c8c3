"""Files that are not read here, told by their first bytes or names, and what to type to have them read.

Nothing in these files is opened by a library that could run what is in it; of HDF5, Zarr and MATLAB the names
of arrays are listed, so that the command that is suggested can be typed as it stands.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import TiffImagePlugin

HDF5, PICKLE, RAR, ZIP7 = b"\x89HDF\r\n\x1a\n", b"\x80", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c"
MOST_ARRAYS = 10_000
"""files of a Zarr store that are looked through"""
Named = tuple[str, tuple[int, ...]]
"""an array in a file, and its shape"""


def advice(path: Path, head: bytes = b"") -> str:
    """What a file or folder is that cannot be read, and the command that makes an .npy of it; else nothing.

    head: its first 512 bytes or more, where it is a file.
    """
    ending = path.suffix.lower() if head else ""
    if head.startswith(HDF5) or head[512:].startswith(HDF5) or ending in (".h5", ".hdf5"):
        return _hdf5(path)
    if path.suffix.lower() == ".zarr" or any(
        (path / n).is_file() for n in ("zarr.json", ".zgroup", ".zarray")
    ):
        return _zarr(path)
    if head.startswith((RAR, ZIP7)) or ending in (".rar", ".7z"):
        kind = "RAR" if head[:1] == b"R" or ending == ".rar" else "7-Zip"
        return f"is packed as {kind} does; unpack it, and name the folder"
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return _matlab(path)
    if (head[:1] == PICKLE and head[1:2] in (b"\2", b"\3", b"\4", b"\5")) or ending in (".pkl", ".pickle"):
        return _pickle(path)
    if (path / "data.mdb").is_file() and (path / "lock.mdb").is_file():
        return (
            "is an LMDB, in which images may lie in any way; write them as files into a folder, and name it"
        )
    if ending in (".pt", ".pth"):
        return "is a file of torch; write numpy.save('images.npy', x.numpy()) in the program that made it"
    return ""


def _python(modules: str, array: str, file: str = "images.npy") -> str:
    """The command that saves what an expression gives."""
    code = f"import numpy, {modules}; numpy.save({file!r}, {array})"
    return _typed(code)


def _typed(code: str) -> str:
    """As a shell takes it, with as few quotes as that needs."""
    return shlex.join(["python", "-c", code]) if set(code) & set('"$`\\!') else f'python -c "{code}"'


def _chosen(arrays: list[Named]) -> str | None:
    """The name of the array that is likeliest to hold images: the largest with three or four axes."""
    images = [(size(shape), name) for name, shape in arrays if len(shape) in (3, 4)]
    return max(images)[1] if images else None


def size(shape: tuple[int, ...]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _listed(what: str, arrays: list[Named], command: str) -> str:
    names = ", ".join(f"{name} {shape}" for name, shape in arrays[:8])
    return f"{what}{f' with {names}' if names else ''}; type: {command}, then name images.npy"


def _hdf5(path: Path) -> str:
    arrays = list[Named]()
    with suppress(Exception):  # not installed, or a file that is damaged
        h5py: Any = importlib.import_module("h5py")

        def keep(name: str, one: Any) -> None:
            if hasattr(one, "shape"):
                arrays.append((name, tuple(one.shape)))

        with h5py.File(path, "r") as file:
            file.visititems(keep)
    if name := _chosen(arrays):
        command = _python("h5py", f"h5py.File({str(path)!r})[{name!r}][()]")
        return _listed("is HDF5", arrays, command)
    command = _typed(f"import h5py; h5py.File({str(path)!r}).visititems(print)")
    return (
        f"is HDF5, in which images may lie in any way; see what they are called: {command} (pip install h5py)"
        f", and save them: {_python('h5py', f'h5py.File({str(path)!r})[{chr(39)}NAME{chr(39)}][()]')}"
    )


def _zarr(path: Path) -> str:
    arrays = list(_zarr_arrays(path))
    name = _chosen(arrays)
    opened = f"zarr.open({str(path)!r}, mode='r')"
    at = "" if name == "" else f"[{name or 'NAME'!r}]"
    return _listed("is a Zarr store", arrays, _python("zarr", f"{opened}{at}[:]")) + " (pip install zarr)"


def _zarr_arrays(path: Path) -> Iterator[Named]:
    """By the .json of each array (Zarr 2: .zarray, Zarr 3: zarr.json)."""
    for k, (folder, _, files) in enumerate(os.walk(path)):
        if k > MOST_ARRAYS:
            return
        for name in {".zarray", "zarr.json"} & set(files):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                about = json.loads((Path(folder) / name).read_text())
                inside = Path(folder).relative_to(path).as_posix()
                yield "" if inside == "." else inside, tuple(int(n) for n in about["shape"])


def _matlab(path: Path) -> str:
    arrays = list[Named]()
    with suppress(Exception):
        io_: Any = importlib.import_module("scipy.io")
        arrays = [(name, tuple(shape)) for name, shape, _ in io_.whosmat(str(path))]
    name = _chosen(arrays) or "NAME"
    shape = dict(arrays).get(name, ())
    # MATLAB counts images last
    turned = ".transpose(3, 0, 1, 2)" if len(shape) == 4 else ".transpose(2, 0, 1)" if len(shape) == 3 else ""
    return _listed(
        "is a file of MATLAB",
        arrays,
        _python("scipy.io", f"scipy.io.loadmat({str(path)!r})[{name!r}]{turned}"),
    )


def _pickle(path: Path) -> str:
    beside = path.parent / "batches.meta"
    if beside.exists():
        return "is CIFAR as a pickle, and no pickle is opened here; name the built-in set cifar10 instead"
    return (
        "is a pickle, which runs whatever is in it when it is opened, and so never is here; write "
        "numpy.save('images.npy', x) in the program that made it"
    )


def objects(path: Path) -> str:
    """What to do with an array of Python objects."""
    code = (
        "import numpy, pathlib; from PIL import Image; pathlib.Path('images').mkdir(); "
        f"f = numpy.load({str(path)!r}, allow_pickle=True); "
        "a = f if isinstance(f, numpy.ndarray) else f[f.files[0]]; "
        "[Image.fromarray(x).save(f'images/{i:06}.png') for i, x in enumerate(a)]"
    )
    return (
        "it holds Python objects, which is what numpy makes of images of several sizes; they are pickled, "
        "and a pickle runs whatever is in it, so that none is opened here; if you trust the file, write its "
        f"uint8 images as files and name the folder images: {_typed(code)}"
    )


def picture(blob: bytes, format: str) -> tuple[str, str] | None:
    """Reason and detail, for a picture of a kind that Pillow does not read."""
    if format == "JPEG" and (bits := _jpeg_bits(blob)) not in (0, 8):
        return (
            f"JPEG of {bits} bits",
            "Pillow reads 8; save it as a PNG of 16 bits with the program that made it",
        )
    return tiff(blob) if format == "TIFF" and _tiff(blob) else None


def tiff(blob: bytes) -> tuple[str, str]:
    """The same of a TIFF that Pillow would not read, or not as it should."""
    array = "numpy.stack([tifffile.imread(p) for p in sorted(glob.glob('*.tif*'))])"
    return (
        "TIFF that Pillow does not read",
        f"{_tiff(blob)}; type there: {_python('glob, tifffile', array)} (pip install tifffile), then "
        "name images.npy",
    )


def _jpeg_bits(blob: bytes) -> int:
    """Of a sample, as the frame header says (SOF, ISO/IEC 10918-1 B.2.2); 0 where there is none."""
    at = 2
    while at + 5 <= len(blob) and blob[at] == 0xFF:
        marker = blob[at + 1]
        if marker == 0xFF or marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return blob[at + 4]
        at += 2 + int.from_bytes(blob[at + 2 : at + 4], "big")
    return 0


def _tiff(blob: bytes) -> str:
    """What the pixels of a TIFF are, in words; nothing if that cannot be told."""
    with suppress(Exception):  # hostile files raise everything
        wide = blob[2:4] in (b"+\0", b"\0+")
        tags = TiffImagePlugin.ImageFileDirectory_v2(blob[: 16 if wide else 8])
        file = io.BytesIO(blob)
        file.seek(tags.next)
        tags.load(file)
        kind = {1: "whole numbers", 2: "signed numbers", 3: "fractions"}.get(tags.get(339, (1,))[0], "values")
        apart = ", each channel apart" if tags.get(284, 1) == 2 else ""
        return (
            f"{tags.get(277, 1)} channels of {tags[258][0]}-bit {kind}{apart}, compression {tags.get(259, 1)}"
        )
    return ""
