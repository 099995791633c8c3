"""Files that people really have: each is treated as promised, counted and listed, and never ends in a
traceback."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_helpers import counted, encoded, photo, write_photos
from likeness.core import BadData, NotAllowed, Refusal
from likeness.data import Reading, load
from likeness.data import decode as decoding
from likeness.data.decode import Decoded, Skip, decode
from likeness.data.listing import printable, walk

# The reader of a folder deals with these around all files; here single files are decoded.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Twenty good photos, among which up to five bad files are tolerated."""
    write_photos(tmp_path / "photos", 20)
    return tmp_path / "photos"


def png_header(w: int, h: int) -> bytes:
    """A PNG of any size in 60 bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def flipped(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :]


JPEG, PNG = encoded(photo(99, 200, 200), "JPEG"), encoded(photo(98), "PNG")
BAD = {
    "zero bytes": (b"", "empty"),
    "text": (b"hello, I am a picture", "not images"),
    "HTML": (b"<!doctype html><html><body>404</body></html>", "not images"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "not images"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not images"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', "not images"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated PNG": (PNG[: len(PNG) // 2], "truncated"),
    "PNG with a flipped bit": (flipped(PNG, len(PNG) // 2), "damaged"),
    "120 megapixels in a few bytes": (png_header(12_000, 10_000), "too large"),
    "a side of 60000": (png_header(60_000, 1), "too large"),
    "1x1": (encoded(photo(1, 1, 1), "PNG"), "too small"),
    "7 pixels high": (encoded(photo(1, 70, 7), "PNG"), "too small"),
    "aspect of 21": (encoded(photo(1, 210, 10), "PNG"), "too elongated"),
    "float TIFF of unknown range": (
        encoded(Image.fromarray(np.linspace(-3, 900, 1600, dtype=np.float32).reshape(40, 40)), "TIFF"),
        "no known white",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_skipped_counted_and_listed(folder, name):
    blob, reason = BAD[name]
    (folder / "bad.jpg").write_bytes(blob)
    data = load(folder, size=16)
    assert len(data.x) == 20
    line, path = counted(data).split(" -> ")
    assert line == f"21 images: 20 used, 1 skipped (1 {reason})"
    (row,) = Path(path).read_text().splitlines()
    assert row.startswith(f"{reason}\t") and row.endswith("\tbad.jpg")
    assert load(folder, size=16).verdict == data.verdict  # from the cache


def test_every_flipped_bit_of_a_png_body_is_noticed():
    body = PNG.index(b"IDAT")
    for at in range(body, len(PNG) - 12, 7):
        with pytest.raises(Skip):
            decoding.check_png(flipped(PNG, at))
    decoding.check_png(PNG)


def test_pixels_of_a_png_whose_checksum_is_wrong_are_not_believed(tmp_path):
    blob = encoded(photo(1), "PNG", compress_level=0)
    bad = flipped(blob, len(blob) - 14)  # in the checksum
    Image.open(io.BytesIO(bad)).load()  # Pillow does not mind
    found = one(tmp_path, bad)
    assert isinstance(found, Skip) and found.reason == "damaged"


def one(tmp_path: Path, blob: bytes, **how: object) -> Decoded | Skip:
    path = tmp_path / "one"
    path.write_bytes(blob)
    s = path.stat()
    return decode(os.fsencode(path), (s.st_size, s.st_mtime_ns), Reading(**{"size": 40, **how}))


def pixels(tmp_path: Path, blob: bytes, **how: object) -> np.ndarray:
    found = one(tmp_path, blob, **how)
    assert isinstance(found, Decoded), found
    return found.pixels


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"])
def test_every_promised_format_is_read(tmp_path, format):
    x = pixels(tmp_path, encoded(photo(5), format))
    assert x.shape == (3, 40, 40)
    want = np.asarray(photo(5)).transpose(2, 0, 1)
    assert abs(x.astype(int) - want).mean() < 12


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_the_first_frame_of_many_is_used(tmp_path, format):
    how = dict(
        save_all=True, append_images=[photo(6), photo(7)], **({"lossless": True} if format == "WEBP" else {})
    )
    found = one(tmp_path, encoded(photo(5), format, **how))
    note = "several pages, the first" if format == "TIFF" else "animated, first frame"
    assert isinstance(found, Decoded) and found.notes == (note,)
    assert abs(found.pixels.astype(int) - np.asarray(photo(5)).transpose(2, 0, 1)).mean() < 12


def test_cmyk_is_converted_and_counted(folder):
    photo(50).convert("CMYK").save(folder / "print.jpg")
    data = load(folder, size=40)
    assert counted(data) == "21 images: 21 used (1 CMYK), 0 skipped"
    row = list(data.names).index("print.jpg")
    assert abs(data.x[row].astype(int) - np.asarray(photo(50)).transpose(2, 0, 1)).mean() < 8


def test_16_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 1600).round().astype(np.uint16).reshape(40, 40)
    x = pixels(tmp_path, encoded(Image.fromarray(ramp), "PNG"))
    assert np.array_equal(x[0], np.rint(ramp / 257))
    clipped = np.asarray(Image.fromarray(ramp).convert("L"))  # what a plain convert("L") does
    assert not np.array_equal(x[0], clipped)


def test_float_tiff_needs_a_known_white(tmp_path):
    ramp = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(ramp), "TIFF"))[0], np.rint(ramp * 255))
    big = encoded(Image.fromarray(ramp * 4000), "TIFF")
    refused = one(tmp_path, big)
    assert isinstance(refused, Skip) and "--white" in refused.detail
    assert np.array_equal(pixels(tmp_path, big, white=4000.0)[0], np.rint(ramp * 255))
    assert isinstance(one(tmp_path, encoded(Image.fromarray(ramp * np.nan), "TIFF")), Skip)


@pytest.mark.parametrize(("background", "want"), [("white", 255), ("black", 0), ("#ff0000", (255, 0, 0))])
def test_what_is_transparent_shows_the_background(tmp_path, background, want):
    hidden = np.zeros((40, 40, 4), np.uint8)
    hidden[..., :3] = (10, 200, 30)  # colours that nobody should see
    hidden[:, 20:, 3] = 255
    x = pixels(tmp_path, encoded(Image.fromarray(hidden), "PNG"), background=background)
    assert np.array_equal(x[:, 0, 0], np.broadcast_to(want, 3)) and x[:, 0, 39].tolist() == [10, 200, 30]


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "RGBA"])
def test_transparency_of_any_mode_is_composited(tmp_path, mode):
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    how: dict[str, object] = {}
    if mode == "P":
        image, how = Image.new("P", (40, 40), 3), dict(transparency=3)
        image.putpalette([0, 0, 0] * 256)
    elif mode != "RGBA":
        image = image.convert("LA" if mode == "LA" else "PA")
    assert (pixels(tmp_path, encoded(image, "TIFF" if mode == "PA" else "PNG", **how)) == 255).all()


def test_grey_with_alpha_stays_grey(tmp_path):
    assert pixels(tmp_path, encoded(Image.new("LA", (40, 40), (50, 255)), "PNG")).shape == (1, 40, 40)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path, turn):
    upright = photo(3, 80, 40)
    exif = Image.Exif()
    exif[0x0112] = turn
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(turn, turn)
    lying = upright.transpose(decoding.TURNS[inverse]) if inverse in decoding.TURNS else upright
    x = pixels(tmp_path, encoded(lying, "PNG", exif=exif))
    want = np.asarray(upright.crop((20, 0, 60, 40))).transpose(2, 0, 1)
    assert np.array_equal(x, want)


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100)


def heif(image: Image.Image, **how: object) -> bytes:
    pytest.importorskip("pillow_heif")
    assert decoding.heif_opener()
    return encoded(image, "HEIF", quality=95, **how)


@pytest.mark.parametrize(
    ("brands", "format"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIF"),
        (b"mif1\0\0\0\0mif1heic", "HEIF"),
        (b"heix\0\0\0\0", "HEIF"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"avif\0\0\0\0mif1miaf", "AVIF"),
        (b"isom\0\0\0\0mp4heixx", None),  # "heix" lies across two brands
        (b"qt  \0\0\0\0qt  ", None),
    ],
)
def test_photographs_of_telephones_are_told_from_films_by_their_brands(brands, format):
    assert decoding.kind((b"\0\0\0\x1cftyp" + brands)[:32]) == format


def test_heic_without_its_library_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(decoding, "heif_opener", decoding.heif_opener.__wrapped__)
    for i in range(3):
        (folder / f"{i}.heic").write_bytes(HEIC)
    assert counted(load(folder, size=16)).startswith(
        "23 images: 20 used, 3 skipped (3 HEIC photographs need pip install 'likeness[heic]') ->"
    )


def test_heic_is_read_by_its_content_once_its_library_is_there(folder, monkeypatch):
    blob = heif(photo(50))
    (folder / "called.jpg").write_bytes(blob)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        without.setattr(decoding, "heif_opener", decoding.heif_opener.__wrapped__)
        without.setattr("likeness.data.folder.heif_version", tuple)
        assert "1 skipped" in load(folder, size=40).verdict
    data = load(folder, size=40)  # not the cached answer of before
    assert counted(data) == "21 images: 21 used, 0 skipped"
    row = list(data.names).index("called.jpg")
    assert abs(data.x[row].astype(int) - np.asarray(photo(50)).transpose(2, 0, 1)).mean() < 8


@pytest.mark.parametrize("turn", range(1, 9))
def test_heic_is_turned_once(tmp_path, turn):
    """Cameras write EXIF and the container's own turn; the latter counts, and libheif has obeyed it."""
    exif = Image.Exif()
    exif[0x0112] = turn
    lying = photo(3, 80, 40)
    lying.info["exif"] = exif.tobytes()  # from here pillow-heif writes both
    blob = heif(lying)
    assert (b"irot" in blob or b"imir" in blob) == (turn > 1)
    upright = photo(3, 80, 40).transpose(decoding.TURNS[turn]) if turn > 1 else photo(3, 80, 40)
    want = np.asarray(decoding.fit(upright, 40)).transpose(2, 0, 1)
    assert abs(pixels(tmp_path, blob).astype(int) - want).mean() < 8


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_avif_is_turned_once(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    want = np.asarray(decoding.fit(photo(3, 80, 40).transpose(decoding.TURNS[turn]), 40)).transpose(2, 0, 1)
    assert (
        abs(
            pixels(tmp_path, encoded(photo(3, 80, 40), "AVIF", exif=exif, quality=95)).astype(int) - want
        ).mean()
        < 8
    )


def test_a_heic_cut_short_is_truncated(tmp_path):
    blob = heif(photo(3))
    found = one(tmp_path, blob[: len(blob) // 2])
    assert isinstance(found, Skip) and found.reason == "truncated"


def test_damaged_exif_beside_good_pixels_is_no_matter(tmp_path):
    assert pixels(tmp_path, encoded(photo(3), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).shape == (
        3,
        40,
        40,
    )


def test_black_and_white_mode_counts_as_two_levels(tmp_path):
    for i in range(4):
        photo(i).convert("1").save(tmp_path / f"{i}.png")
    data = load(tmp_path, size=40)
    assert data.spec.levels == 2 and data.spec.channels == 1


def test_large_pictures_lose_no_more_than_filtering_by_the_jpeg_shortcut(tmp_path):
    image = photo(8, 1200, 800)
    x = pixels(tmp_path, encoded(image, "JPEG", quality=95), size=64)
    want = np.asarray(image.crop((200, 0, 1000, 800)).resize((64, 64), Image.Resampling.LANCZOS)).transpose(
        2, 0, 1
    )
    assert abs(x.astype(int) - want).max() <= 6


# Names and places


def test_hostile_names_are_read_and_shown_safely(tmp_path):
    names = [
        "ünï—код 图.png".encode(),
        b'it\'s "quoted".PNG',
        b"new\nline.Png",
        b"\x1b[31mred.png",
        b"bad\xff\xfeutf8.png",
        b"no ending",
        b"-rf",
        b"a.jpeg.png",
    ]
    folder = os.fsencode(tmp_path / "odd name ö")
    os.mkdir(folder)
    for i, name in enumerate(names):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(encoded(photo(i), "PNG"))
    data = load(os.fsdecode(folder), size=16)
    assert len(data.x) == len(names) and "0 skipped" in data.verdict
    assert sorted(data.names) == sorted(printable(n) for n in names)
    assert all(n.isprintable() and n.encode() for n in data.names)


def test_links_pipes_and_loops_never_block(folder, tmp_path):
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "copy.png").symlink_to(folder / "photo000.png")
    (folder / "x.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    data = load(folder, size=16)
    assert len(data.x) == 21  # with the link to a good file
    line, path = counted(data).split(" -> ")
    assert line == (
        "24 images: 21 used, 3 skipped (2 dangling links, 1 not regular files); 3 other files passed over"
    )
    listed = Path(path).read_text()
    assert all(
        f"\t{name}\n" in listed for name in ("self.png", "gone.png", "pipe.png", "pipe", "loop", "x.png")
    )


def test_sidecars_and_hidden_files_are_passed_over_not_held_against_the_folder(folder):
    for i in range(40):
        (folder / f"photo{i:03}.txt").write_text("a caption")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / ".git").mkdir()
    (folder / ".git" / "object").write_bytes(b"x")
    assert "20 images: 20 used, 0 skipped; 42 other files passed over ->" in counted(load(folder, size=16))


def test_an_unreadable_file_or_folder_is_listed(folder, monkeypatch):
    (folder / "secret").mkdir()
    real_open, real_scan = os.open, os.scandir

    def no_open(path, *rest, **more):
        if os.fsencode(path).endswith(b"photo003.png"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest, **more)

    def no_scan(path):
        if not isinstance(path, int) and os.fsencode(path).endswith(b"secret"):
            raise PermissionError(13, "Permission denied")
        return real_scan(path)

    monkeypatch.setattr(os, "open", no_open)
    monkeypatch.setattr(os, "scandir", no_scan)
    assert "21 images: 19 used, 2 skipped (2 unreadable)" in load(folder, size=16).verdict


def test_a_folder_that_may_not_be_read_is_refused(folder, monkeypatch):
    real = os.scandir

    def no_scan(path):
        if not isinstance(path, int) and os.fsencode(path).rstrip(b"/") == os.fsencode(folder):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", no_scan)
    with pytest.raises(NotAllowed):
        load(folder)


WATCHED: list[list[str]] = []


def watch(event: str, args: tuple[object, ...]) -> None:
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if WATCHED and (
        writes
        or event
        in (
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.utime",
            "os.link",
            "os.symlink",
            "os.truncate",
        )
    ):
        WATCHED[-1].extend(
            os.fsdecode(a)
            for a in args[:2]
            if isinstance(a, (str, bytes, os.PathLike)) and len(os.fsdecode(a)) > 3
        )


sys.addaudithook(watch)


@contextlib.contextmanager
def touched():
    """Paths that are written to meanwhile, by whichever function: audit events cannot be gone round."""
    WATCHED.append([])
    try:
        yield WATCHED[-1]
    finally:
        WATCHED.pop()


def test_nothing_is_ever_written_into_the_folder(folder):
    """Stands for a read-only folder, which root may write to all the same."""
    (folder / "bad.jpg").write_bytes(b"bad")
    before = {p: p.stat().st_mtime_ns for p in (folder, *folder.rglob("*"))}
    folder.chmod(0o555)
    try:
        with touched() as paths:
            load(folder, size=16)
    finally:
        folder.chmod(0o755)
    assert before == {p: p.stat().st_mtime_ns for p in (folder, *folder.rglob("*"))}
    assert any("entry.json" in path for path in paths) and not [
        path for path in paths if path.startswith(str(folder))
    ]


def test_every_way_of_writing_would_be_seen(tmp_path):
    with touched() as paths:
        (tmp_path / "a").write_text("x")
        builtins.open(tmp_path / "b", "wb").close()
        os.close(os.open(tmp_path / "c", os.O_WRONLY | os.O_CREAT))
        (tmp_path / "d").mkdir()
        (tmp_path / "d").rename(tmp_path / "e")
        os.listdir(tmp_path)
        (tmp_path / "a").read_text()
    assert [Path(p).name for p in paths] == ["a", "b", "c", "d", "d", "e"]


def test_a_file_that_changes_or_goes_between_listing_and_decoding_is_skipped(folder, monkeypatch):
    import likeness.data.folder as reader

    def list_then_change(path):
        found = walk(path)
        (folder / "photo001.png").unlink()
        (folder / "photo002.png").write_bytes(encoded(photo(77, 50, 50), "PNG"))
        (folder / "photo003.png").unlink()
        os.mkfifo(folder / "photo003.png")
        return found

    monkeypatch.setattr(reader, "walk", list_then_change)
    assert "20 images: 17 used, 3 skipped (3 changed meanwhile)" in load(folder, size=16).verdict


# When to stop


def test_too_many_bad_files_stop_with_the_commonest_reasons(folder):
    for i in range(6):
        (folder / f"bad{i}.jpg").write_bytes(b"nothing")
    (folder / "empty.png").write_bytes(b"")
    with pytest.raises(BadData) as stop:
        load(folder, size=16)
    text = str(stop.value)
    assert (
        stop.value.code == 65
        and ("6 not images, such as bad0.jpg") in text
        and ("1 empty, such as empty.png") in text
    )
    assert len(Path(text.split("the full list is ")[1].removesuffix(".")).read_text().splitlines()) == 7


def test_a_fifth_of_bad_files_is_just_tolerated(folder):
    for i in range(5):
        (folder / f"bad{i}.jpg").write_bytes(b"nothing")
    assert "25 images: 20 used, 5 skipped" in load(folder, size=16).verdict


@pytest.mark.parametrize("good", [0, 1])
def test_fewer_than_two_usable_images_stop(tmp_path, good):
    write_photos(tmp_path / "few", good)
    with pytest.raises(BadData, match="two images at least"):
        load(tmp_path / "few")


def test_thousands_are_written_with_commas(tmp_path):
    (tmp_path / "many").mkdir()
    blob = encoded(photo(1), "BMP")
    for i in range(1200):
        (tmp_path / "many" / f"{i}.bmp").write_bytes(blob if i else encoded(photo(2), "BMP"))
    assert load(tmp_path / "many", size=8).verdict.startswith("1,200 images: 1,200 used, 0 skipped")


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", *decoding.MAGIC, b"RIFF\0\0\0\0WEBP", b"\0\0\0\x1cftypavif", HEIC[:32]]),
)
def test_random_bytes_are_skipped_whatever_they_pretend_to_be(tmp_path_factory, blob, magic):
    found = one(tmp_path_factory.getbasetemp(), magic + blob)
    assert isinstance(found, (Skip, Decoded))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    st.integers(0, 10**6),
    st.binary(min_size=1, max_size=8),
)
def test_good_files_with_overwritten_bytes_never_raise(tmp_path_factory, format, at, junk):
    blob = bytearray(encoded(photo(4, 24, 24), format))
    at %= len(blob)
    blob[at : at + len(junk)] = junk
    assert isinstance(one(tmp_path_factory.getbasetemp(), bytes(blob), size=16), (Skip, Decoded))


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"text": "no name"}',
        '{"file_name": 3}',
        "[1]",
        '{"file_name": "a", "text": 7}',
        "[" * 100_000,
    ],
)
def test_a_bad_line_of_captions_is_named(folder, line):
    (folder / "metadata.jsonl").write_text(
        json.dumps(dict(file_name="photo000.png", text="ok")) + "\n" + line + "\n"
    )
    with pytest.raises(BadData, match="line 2"):
        load(folder, size=16)


@pytest.mark.parametrize(
    "how",
    [dict(size=-1), dict(size=10**6), dict(colour="blue"), dict(background="nonsense"), dict(white=-1.0)],
)
def test_a_setting_that_makes_no_sense_is_refused(folder, how):
    with pytest.raises(Refusal):
        load(folder, **how)
