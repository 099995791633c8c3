"""Images in .zip, .tar and Parquet: read where they lie as a folder would be, whatever hostile archives
claim."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import counted, encoded, no_leak, photo, same, write_photos
from likeness.core import BadData, Refusal, Training
from likeness.data import Data, archive, folder, load, metadata
from likeness.features.images import pictures
from likeness.runs import origin
from likeness.runs.run import Config, _spelled_out


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_DATA", raising=False)
    return tmp_path / "cache"


PNG = [encoded(photo(i), "PNG") for i in range(40)]


def zipped(
    path: Path, members: dict[str, bytes], prepare: Callable[[zipfile.ZipFile], None] = lambda z: None
) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, blob in members.items():
            file.writestr(name, blob)
        prepare(file)
    return path


def tarred(path: Path, members: dict[str, bytes], others: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w") as file:
        for name, blob in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            file.addfile(info, io.BytesIO(blob))
        for info in others:
            file.addfile(info)
    return path


MAKE = {"zip": zipped, "tar": tarred}


def photos(n: int = 12, form: str = "{}.png") -> dict[str, bytes]:
    return {form.format(i): PNG[i] for i in range(n)}


def by_name(data: Data, values: Any) -> dict[str, Any]:
    return {str(name): values[row] for row, name in enumerate(data.names)}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("top", ["", "./", "my photos/", "a/b/"])
def test_an_archive_is_read_as_the_folder_that_it_was_made_from(tmp_path, kind, top):
    inside = {
        f"{part}/{what}/{i}.png": PNG[i]
        for i in range(24)
        for part in [("train", "test")[i % 6 == 5]]
        for what in [("cat", "dog")[i % 2]]
    }
    inside["metadata.jsonl"] = b"\n".join(
        json.dumps(dict(file_name=name, text=f"text of {name}")).encode() for name in list(inside)[:9]
    )
    for name, blob in inside.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(blob)
    want, data = (
        load(tmp_path / "d", size=16),
        load(MAKE[kind](tmp_path / f"d.{kind}", {top + n: b for n, b in inside.items()}), size=16),
    )
    assert (
        data.verdict == want.verdict
        and data.classes == want.classes == ("cat", "dog")
        and "9 have captions" in data.verdict
    )
    for values in ("x", "y", "texts"):
        mine, other = by_name(data, getattr(data, values)), by_name(want, getattr(want, values))
        assert mine.keys() == other.keys() and all(np.array_equal(mine[name], other[name]) for name in other)
    assert {data.names[i] for i in data.held_out} == {want.names[i] for i in want.held_out} and no_leak(data)


@pytest.mark.parametrize("kind", MAKE)
def test_a_split_of_our_own_is_that_of_the_folder(tmp_path, kind):
    write_photos(tmp_path / "d", 30)
    packed = MAKE[kind](tmp_path / f"d.{kind}", {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()})
    a, b = load(tmp_path / "d", size=16), load(packed, size=16)
    assert {a.names[i] for i in a.held_out} == {b.names[i] for i in b.held_out}


@pytest.mark.parametrize("kind", MAKE)
def test_names_that_lead_out_of_an_archive_are_skipped_and_counted(tmp_path, kind, place):
    outside = {"../evil.png": PNG[30], "a/../../evil.png": PNG[31]}
    data = load(MAKE[kind](tmp_path / f"d.{kind}", photos() | outside | {"/root.png": PNG[32]}), size=16)
    assert (
        data.verdict.startswith("15 images: 13 used, 2 skipped (2 named outside of their archive)")
        and "root.png" in data.names
    )
    assert (
        not list(tmp_path.rglob("*.png"))
        and not Path("/root.png").exists()
        and not (tmp_path.parent / "evil.png").exists()
    )


def special(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def test_links_and_devices_in_a_tar_are_skipped_and_counted(tmp_path):
    others = (
        special("a.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("b.png", tarfile.LNKTYPE, "0.png"),
        special("c.png", tarfile.CHRTYPE),
    )
    data = load(
        tarred(
            tmp_path / "d.tar",
            photos(),
            (*others, special("pipe", tarfile.FIFOTYPE), special("sub", tarfile.DIRTYPE)),
        ),
        size=16,
    )
    assert data.verdict.startswith(
        "15 images: 12 used, 3 skipped (2 links in archives, 1 not regular files); 1 other files passed over"
    )


def test_a_link_in_a_zip_is_not_followed(tmp_path):
    def link(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")

    assert ("13 images: 12 used, 1 skipped (1 links in archives)") in load(
        zipped(tmp_path / "d.zip", photos(), link), size=16
    ).verdict


def encrypt(names: set[str]) -> Callable[[zipfile.ZipFile], None]:
    def mark(file: zipfile.ZipFile) -> None:
        for info in file.infolist():
            info.flag_bits |= info.filename in names

    return mark


def test_an_encrypted_zip_is_told(tmp_path):
    with pytest.raises(BadData, match=r"encrypted.*name the folder"):
        load(zipped(tmp_path / "all.zip", photos(), encrypt(set(photos()))))
    some = load(zipped(tmp_path / "some.zip", photos(), encrypt({"3.png"})), size=16)
    assert "12 images: 11 used, 1 skipped (1 encrypted)" in some.verdict


def test_what_unpacks_to_far_more_than_it_is_is_not_unpacked(tmp_path, monkeypatch):
    bomb = encoded(photo(0).resize((2000, 1000)).point(lambda _: 0), "BMP")
    path = zipped(tmp_path / "d.zip", photos() | {"bomb.bmp": bomb})
    real, opened = zipfile.ZipFile.open, []
    monkeypatch.setattr(
        zipfile.ZipFile,
        "open",
        lambda self, info, *a: (opened.append(info.filename), real(self, info, *a))[1],
    )
    assert "13 images: 12 used, 1 skipped (1 too large)" in load(path, size=16).verdict
    assert sorted(opened) == sorted(photos())


@pytest.mark.parametrize("kind", MAKE)
def test_a_member_over_the_limit_is_not_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("likeness.data.decode.MOST_BYTES", len(PNG[0]) + 1000)
    large = encoded(photo(1, 200, 200), "PNG")
    assert ("13 images: 12 used, 1 skipped (1 too large)") in load(
        MAKE[kind](tmp_path / f"d.{kind}", photos() | {"large.png": large}), size=16
    ).verdict


def test_a_member_whose_checksum_is_wrong_is_damaged(tmp_path):
    path = zipped(tmp_path / "d.zip", photos() | {"x.bmp": encoded(photo(20), "BMP")}, lambda z: None)
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("x.bmp")
    blob = bytearray(path.read_bytes())
    at = blob.index(info.CRC.to_bytes(4, "little"), info.header_offset + 100)  # in the list at the end
    blob[at] ^= 1
    path.write_bytes(blob)
    assert "13 images: 12 used, 1 skipped (1 damaged)" in load(path, size=16).verdict


def test_a_tar_that_breaks_off_says_so(tmp_path):
    path = tarred(tmp_path / "d.tar", photos())
    size = path.stat().st_size
    with tarfile.open(path) as file:
        last = file.getmembers()[-1]
    os.truncate(path, last.offset_data + last.size // 2)
    verdict = load(path, size=16).verdict
    # the last image, and that the list ended there
    assert "2 skipped (2 truncated)" in verdict and size > path.stat().st_size
    blob = bytearray(tarred(path, photos()).read_bytes())
    blob[last.offset : last.offset + 100] = b"\xff" * 100  # its header
    path.write_bytes(blob)
    assert "12 images: 11 used, 1 skipped (1 truncated)" in load(path, size=16).verdict


def test_a_header_of_a_tar_cannot_ask_for_memory(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    path = tarred(tmp_path / "d.tar", photos())
    with tarfile.open(path) as file:
        last = file.getmembers()[-1].offset
    blob = path.read_bytes()
    path.write_bytes(blob[:last] + info.tobuf(tarfile.GNU_FORMAT) + blob[last:])
    data = load(path, size=16)
    assert "12 images: 11 used, 1 skipped (1 truncated)" in data.verdict
    assert "a header claims" in Path(data.verdict.split(" -> ")[1]).read_text()


@pytest.mark.parametrize("kind", MAKE)
def test_hidden_members_and_what_is_no_image_are_passed_over(tmp_path, kind):
    others = {"__MACOSX/._0.png": b"x", ".DS_Store": b"x", "read me.md": b"x", "inner.zip": b"x"}
    data = load(MAKE[kind](tmp_path / f"d.{kind}", photos() | others), size=16)
    assert data.verdict.startswith("12 images: 12 used, 0 skipped; 4 other files passed over")


def test_folders_of_a_zip_from_windows_are_folders(tmp_path):
    data = load(
        zipped(
            tmp_path / "d.zip",
            photos(6, "d\\cat\\{}.png") | {f"d\\dog\\{i}.png": PNG[i] for i in range(6, 12)},
        ),
        size=16,
    )
    assert data.classes == ("cat", "dog") and data.y.sum() == 6


# WebDataset


@settings(max_examples=200, deadline=None)
@given(st.text("ab./", max_size=12))
def test_a_key_ends_at_the_first_dot_of_the_last_part_of_a_name(name):
    base = name.split("/")[-1]
    of, ending = archive.key(name.encode())
    assert of + b"." * ("." in base) + ending == name.encode() and b"." not in of.split(b"/")[-1]


def test_captions_and_classes_beside_the_images_of_a_tar(tmp_path):
    members = {}
    for i in range(12):
        members |= {
            f"v1.0/{i:03}.jpg": encoded(photo(i), "JPEG"),
            f"v1.0/{i:03}.cls": b"%d\n" % (10 if i % 2 else 9),
            f"v1.0/{i:03}.txt": b"text %d" % i,
        }
    data = load(tarred(tmp_path / "d.tar", members), size=16)
    assert (
        data.classes == ("9", "10")
        and data.y.tolist() == [0, 1] * 6
        and list(data.texts) == [f"text {i}" for i in range(12)]
    )
    assert counted(data) == "12 images: 12 used, 0 skipped; 12 have captions"
    # .txt and .cls say it too, and count
    members["v1.0/000.json"] = b'{"caption": "of the json", "label": "9"}'
    del members["v1.0/001.txt"], members["v1.0/001.cls"]
    members["v1.0/001.json"] = '{"caption": "ünï", "label": 10}'.encode()
    data = load(tarred(tmp_path / "d.tar", members), size=16)
    assert list(data.texts[:3]) == ["text 0", "ünï", "text 2"] and data.y.tolist() == [0, 1] * 6
    del members["v1.0/002.cls"]
    data = load(tarred(tmp_path / "d.tar", members), size=16)
    assert data.y.tolist() == [0, 1, -1, *[1, 0] * 4, 1] and "1 unlabelled" in data.verdict


def test_broken_notes_are_no_captions(tmp_path):
    notes = {
        "0.json": b"[" * 1000,
        "1.json": b"\xff",
        "2.json": b"3",
        "3.json": b'{"text": 3, "label": true}',
        "4.cls": b"\0\1",
    }
    data = load(tarred(tmp_path / "d.tar", photos() | notes), size=16)
    assert data.texts is None and data.y is None and counted(data) == "12 images: 12 used, 0 skipped"


# Shards


@pytest.mark.parametrize("kind", MAKE)
def test_a_folder_of_shards_is_one_set_whose_names_tell_the_split(tmp_path, kind):
    (tmp_path / "d").mkdir()
    for k, name in enumerate(("set-train-000", "set-train-001", "set-val-000")):
        MAKE[kind](
            tmp_path / "d" / f"{name}.{kind}",
            {f"{i}.png": PNG[10 * k + i] for i in range(5)} | ({"2.txt": b"%d" % k} if kind == "tar" else {}),
        )
    (tmp_path / "d" / "README.md").write_text("x")
    (tmp_path / "d" / "LICENSE").write_text("x")
    data = load(tmp_path / "d", size=40)
    assert np.array_equal(
        data.x.transpose(0, 2, 3, 1), [np.asarray(photo(10 * k + i)) for k in range(3) for i in range(5)]
    )
    assert (
        data.held_out.tolist() == [10, 11, 12, 13, 14]
        and data.classes == ()
        and ("; 2 other files passed over") in data.verdict
    )
    if kind == "tar":  # keys of different shards are different
        assert [data.texts[i] for i in (2, 7, 12)] == ["0", "1", "2"] and not data.texts[0]


def test_archives_beside_images_or_of_several_kinds_are_not_read(tmp_path):
    write_photos(tmp_path / "d", 4)
    zipped(tmp_path / "d" / "backup.zip", photos())
    assert len(load(tmp_path / "d", size=16).x) == 4
    for name in (tmp_path / "d").glob("*.png"):
        name.rename(name.with_suffix(""))  # still images, by their first bytes
    assert len(load(tmp_path / "d", size=16).x) == 4
    (tmp_path / "e").mkdir()
    zipped(tmp_path / "e" / "a.zip", photos())
    tarred(tmp_path / "e" / "a.tar", photos())
    with pytest.raises(Refusal, match="several kinds"):
        load(tmp_path / "e")


@pytest.mark.parametrize("kind", MAKE)
def test_networks_look_at_the_members_themselves_and_not_at_small_versions(tmp_path, kind):
    large = {
        f"{what}/{i}.png": encoded(photo(i, 120, 120), "PNG") for i in range(4) for what in ("cat", "dog")
    }
    seen = pictures(str(MAKE[kind](tmp_path / f"d.{kind}", large)), 120, "nearest")
    assert seen.total == 8 and {seen.label(i) for i in range(8)} == {"cat", "dog"}
    assert all(
        np.array_equal(seen.get(i).transpose(1, 2, 0), np.asarray(photo(i // 2, 120, 120))) for i in range(8)
    )


# The cache


@pytest.mark.parametrize("kind", MAKE)
def test_an_archive_is_decoded_once_and_again_when_it_changes(tmp_path, kind, monkeypatch):
    path = MAKE[kind](tmp_path / f"d.{kind}", photos())
    first, real = load(path, size=16), folder.decoded
    monkeypatch.setattr(folder, "decoded", lambda *a: pytest.fail("decoded again"))
    assert same(first, load(path, size=16)) and same(first, load(path, **first.settings))
    monkeypatch.setattr(folder, "decoded", real)
    MAKE[kind](path, photos() | {"3.png": PNG[30]})
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert load(path, size=16).fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", MAKE)
def test_members_wait_on_the_disk_not_in_memory(tmp_path, kind):
    path = MAKE[kind](tmp_path / f"d.{kind}", photos())
    listing = archive.pack(path, [path])
    readers, held = listing.readers(range(12))
    assert held == 0 and [read() for read in readers] == PNG[:12]


def test_an_archive_that_changes_between_listing_and_decoding_is_noticed(tmp_path, monkeypatch):
    path = tarred(tmp_path / "d.tar", photos())
    real = archive.pack

    def list_then_change(*how: Any) -> Any:
        found = real(*how)
        tarred(path, photos(3))
        return found

    monkeypatch.setattr(archive, "pack", list_then_change)
    with pytest.raises(BadData, match="12 changed meanwhile"):
        load(path, size=16)


# What is none


@pytest.mark.parametrize("name", ["d.tar.gz", "d.tgz", "d.tar.xz"])
def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path, name):
    with tarfile.open(tmp_path / name, "w:xz" if name.endswith("xz") else "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(Refusal, match="unpack it"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "head", "what"),
    [
        ("d.h5", b"\x89HDF\r\n\x1a\n", "HDF5.*numpy.save"),
        ("d.hdf5", b"", "HDF5.*numpy.save"),
        ("d", b"\x89HDF\r\n\x1a\n", "HDF5.*numpy.save"),
        ("d.rar", b"Rar!\x1a\x07\x01", "RAR.*unpack it"),
        ("d.bin", b"Rar!\x1a\x07\x01", "RAR.*unpack it"),
        ("d.7z", b"7z\xbc\xaf\x27\x1c", "7-Zip.*unpack it"),
        ("d.zarr", b"", "Zarr.*numpy.save"),
    ],
)
def test_what_is_not_read_says_what_is(tmp_path, name, head, what):
    (tmp_path / name).write_bytes(head + bytes(600))
    with pytest.raises(Refusal, match=rf"{what}.*\.zip, \.tar or \.parquet") as refusal:
        load(tmp_path / name)
    assert refusal.value.code == 2
    (tmp_path / "folder.zarr").mkdir()
    write_photos(tmp_path / "folder.zarr" / "0.0", 1)
    with pytest.raises(Refusal, match="Zarr store"):
        load(tmp_path / "folder.zarr")


@pytest.mark.parametrize("kind", MAKE)
def test_an_archive_without_images_or_that_is_none_is_refused(tmp_path, kind):
    for blob in (b"", b"PK\3\4 junk", b"x" * 2000):
        (tmp_path / f"d.{kind}").write_bytes(blob)
        with pytest.raises(Refusal):
            load(tmp_path / f"d.{kind}")
    with pytest.raises(BadData, match="two images at least"):
        load(MAKE[kind](tmp_path / f"d.{kind}", {"a.txt": b"x"}))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["zip", "tar"]),
    st.integers(0, 10**6),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 3000),
)
def test_overwritten_or_cut_archives_end_in_a_sentence(tmp_path_factory, kind, at, junk, cut):
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    path = MAKE[kind](
        folder / f"d.{kind}",
        {f"{i}.png": SMALL for i in range(4)} | {"metadata.csv": b"file_name,text\n0.png,a\n"},
    )
    blob = bytearray(path.read_bytes())
    blob[at % len(blob) : at % len(blob) + len(junk)] = junk
    path.write_bytes(blob[: len(blob) - cut] if cut % 3 == 0 else blob)
    try:
        archive.format_of(path) and folder_listing(path)
    except Refusal:
        return


SMALL = encoded(photo(1, 8, 8), "PNG")


def folder_listing(path: Path) -> None:
    listing = folder.listed(path)
    with_words = folder.descriptions(listing)
    for read in listing.readers(range(len(listing)))[0] if len(listing) else ():
        folder.decoded(read, folder.Reading(size=8))
    assert all(with_words.of(listing, i) is not None for i in range(len(listing)))


# metadata.csv


def test_a_table_of_captions_and_labels_beside_the_images(tmp_path):
    write_photos(tmp_path / "d", 6)
    table = tmp_path / "d" / "metadata.csv"
    table.write_text(
        '\ufefffile_name,text\r\nphoto000.png,"a cat, ""old"""\r\nphoto001.png,a dog\nnowhere.png,x\n',
        encoding="utf-8",
    )
    data = load(tmp_path / "d", size=16)
    assert (
        list(data.texts) == ['a cat, "old"', "a dog", "", "", "", ""]
        and data.y is None
        and "2 have captions" in data.verdict
    )
    table.write_text(
        "file_name,text,label\n"
        + "".join(f"photo{i:03}.png,text {i},{'dog' if i % 2 else 'cat'}\n" for i in range(6))
    )
    labelled = load(tmp_path / "d", size=16)
    assert (
        labelled.classes == ("cat", "dog")
        and labelled.y.tolist() == [0, 1] * 3
        and labelled.texts[5] == "text 5"
    )
    assert labelled.fingerprint != data.fingerprint
    table.write_text("file_name,label\nphoto000.png,cat\n")
    assert "1 have labels, which make no classes" in load(tmp_path / "d", size=16).verdict


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ""),
        ("id,colour\n1,red\n", "; metadata.csv: no column file_name (columns: id, colour)"),
        (
            "filename;caption\nphoto000.png;a cat\n",
            "; metadata.csv: no column file_name (columns: filename, caption)",
        ),
        (
            "file_name,width\nphoto000.png,40\n",
            "; metadata.csv: no column text or label (columns: file_name, width)",
        ),
    ],
)
def test_another_table_is_no_matter_and_is_named(tmp_path, text, says):
    write_photos(tmp_path / "d", 6)
    (tmp_path / "d" / "metadata.csv").write_text(text)
    data = load(tmp_path / "d", size=16)
    assert data.texts is None and data.y is None
    assert data.verdict.startswith(f"6 images: 6 used, 0 skipped{says}; ")


@pytest.mark.parametrize("head", ["file_name{}label{}text", "\ufeff label{0}file_name {0}text"])
@pytest.mark.parametrize("by", [",", ";", "\t"])
def test_tables_of_semicolons_and_tabs_are_read(tmp_path, by, head):
    write_photos(tmp_path / "d", 4)
    lines = [head.format(by, by)]
    for i in range(5):
        row = [f"photo{i:03}.png", ["cat", "dog"][i % 2]]
        lines.append(by.join([*(row if head[0] == "f" else row[::-1]), f'"{i}, a; b"']))
    (tmp_path / "d" / "metadata.csv").write_text("\r\n".join(lines), encoding="utf-8")
    data = load(tmp_path / "d", size=16)
    assert data.classes == ("cat", "dog") and data.y.tolist() == [0, 1, 0, 1]
    assert list(data.texts) == [f"{i}, a; b" for i in range(4)]
    assert "; metadata.csv: 1 row names no image here: photo004.png" in data.verdict


def test_labels_in_json_are_classes_and_files_add_to_one_another(tmp_path):
    write_photos(tmp_path / "d", 4)
    words, table = tmp_path / "d" / "metadata.jsonl", tmp_path / "d" / "metadata.csv"
    rows = [dict(file_name=f"photo{i:03}.png", text=f"text {i}") for i in range(4)]
    for labels in (["cat", "dog", " cat", None], [3, 7, 3.0, [1]]):
        words.write_text("\n".join(json.dumps(r | dict(label=k)) for r, k in zip(rows, labels)))
        data = load(tmp_path / "d", size=16)
        assert data.y.tolist() == [0, 1, 0, -1]
        assert data.classes == (("cat", "dog") if labels[0] == "cat" else ("3", "7"))
    words.write_text("\n".join(map(json.dumps, [*rows, dict(file_name="a.png", text="x"), rows[0]])))
    table.write_text("file_name,label\n" + "".join(f"photo{i:03}.png,{'ab'[i % 2]}\n" for i in range(4)))
    both = load(tmp_path / "d", size=16)
    assert list(both.texts) == [f"text {i}" for i in range(4)] and both.y.tolist() == [0, 1, 0, 1]
    assert "; metadata.jsonl: 1 row names no image here: a.png" in both.verdict
    words.write_text('{"file_name": "photo000.png", "width": 40}\n')
    assert "; metadata.jsonl: no line has a text or a label" in load(tmp_path / "d", size=16).verdict


def test_a_run_keeps_what_metadata_files_were_read_as_when_it_was_made(tmp_path):
    write_photos(tmp_path / "d", 4)
    bare = load(tmp_path / "d", size=16)
    (tmp_path / "d" / "metadata.csv").write_text("file_name;text\nphoto000.png;a cat\n")
    (tmp_path / "d" / "metadata.jsonl").write_text(
        "\n".join(json.dumps(dict(file_name=f"photo{i:03}.png", label=i % 2)) for i in range(4))
    )
    old = load(tmp_path / "d", size=16, about=metadata.PLAIN)
    now = load(tmp_path / "d", size=16)
    assert old.fingerprint == bare.fingerprint != now.fingerprint and now.texts[0] == "a cat"
    then = {name: value for name, value in bare.identity.items() if name != "layout"}
    config = Config("vae", bare.spec, Training(), data=_spelled_out(then))
    there = origin._read(config, str(tmp_path / "d"))
    assert there.fingerprint == bare.fingerprint and not origin.changed(config, tmp_path, there)


@pytest.mark.parametrize(
    "line",
    [b"photo000.png", b"photo000.png,a,b", b",a", b"\xff\xfe,a", b'"photo000.png,a', b"a" * 200_000 + b",b"],
)
def test_a_bad_line_of_a_table_is_named(tmp_path, line):
    write_photos(tmp_path / "d", 3)
    (tmp_path / "d" / "metadata.csv").write_bytes(b"file_name,text\nphoto001.png,ok\n" + line + b"\n")
    with pytest.raises(BadData, match=r"metadata\.csv, line 3"):
        load(tmp_path / "d", size=16)


# Parquet


@pytest.fixture
def parquet():
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    def write(
        path: Path,
        images: list[Any],
        group: int = 7,
        features: dict[str, Any] | None = None,
        **columns: list[Any],
    ) -> Path:
        struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        kind = struct if any(isinstance(image, dict) for image in images) else pyarrow.binary()
        table = pyarrow.table({"image": pyarrow.array(images, kind), **columns})
        if features:
            table = table.replace_schema_metadata(
                {b"huggingface": json.dumps(dict(info=dict(features=features))).encode()}
            )
        path.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, path, row_group_size=group)
        return path

    return write


HUGGING = dict(image={"_type": "Image"}, label=dict(_type="ClassLabel", names=["zebra", "ant"]))


@pytest.mark.parametrize("form", ["struct", "bytes"])
@pytest.mark.parametrize("group", [1, 7, 100])
def test_a_parquet_file_is_read_row_by_row(tmp_path, parquet, form, group):
    images = [
        dict(bytes=PNG[i], path=f"some/where/{i}.png") if form == "struct" else PNG[i] for i in range(40)
    ]
    data = load(
        parquet(
            tmp_path / "d.parquet",
            images,
            group,
            label=[i % 2 for i in range(40)],
            text=[f"text {i}" for i in range(39)] + [None],
        ),
        size=40,
    )
    assert (
        np.array_equal(data.x.transpose(0, 2, 3, 1), [np.asarray(photo(i)) for i in range(40)])
        and len(data.x) == 40
    )
    assert (
        data.classes == ("0", "1")
        and data.y.tolist() == [0, 1] * 20
        and data.texts[38] == "text 38"
        and not data.texts[39]
    )
    assert data.names[3] == ("3.png" if form == "struct" else "d-0000003")


def test_shards_of_hugging_face_have_their_split_and_the_names_of_classes(tmp_path, parquet):
    for k, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001")):
        images = [dict(bytes=PNG[10 * k + i], path=None) for i in range(5)]
        parquet(tmp_path / "d" / f"{name}.parquet", images, features=HUGGING, label=[0, 1, 1, 1, 0])
    (tmp_path / "d" / "README.md").write_text("x")
    data = load(tmp_path / "d", size=16)
    assert (
        data.held_out.tolist() == [10, 11, 12, 13, 14]
        and data.classes == ("zebra", "ant")
        and data.y.tolist() == [0, 1, 1, 1, 0] * 3
    )
    assert "the 5 of the official test split are held out" in data.verdict


def test_rows_without_an_image_are_counted(tmp_path, parquet, monkeypatch):
    monkeypatch.setattr(folder, "HELD", 0)  # nothing waits
    odd = [
        None,
        dict(bytes=None, path="/etc/passwd"),
        dict(bytes=b"", path="a"),
        dict(bytes=b"<html>", path="b"),
    ]
    data = load(
        parquet(tmp_path / "d.parquet", [dict(bytes=PNG[i], path="../x") for i in range(20)] + odd), size=16
    )
    assert "24 images: 20 used, 4 skipped (2 not in the file, 1 empty, 1 not images)" in data.verdict


def test_rows_of_a_parquet_file_can_be_asked_for_in_any_order(tmp_path, parquet):
    from likeness.data.parquet import Parquet

    file = Parquet(parquet(tmp_path / "d.parquet", [PNG[i % 40] + b"%d" % i for i in range(700)], 150))
    real, parts = file._stream, []
    file._stream = lambda group: (parts.append(part) or part for part in real(group))
    assert all(file.read(at, 0) == PNG[at % 40] + b"%d" % at for at in range(700))
    # in order nothing is read twice
    assert [part[0] for part in parts] == sorted({part[0] for part in parts})
    for at in (0, 699, 3, 150, 149, 299, 300, 10, 690, *range(200, 420, 7)):
        assert file.read(at, 0) == PNG[at % 40] + b"%d" % at


@pytest.mark.parametrize(
    "other, source", [("conditioning_image", "conditioning_image"), ("mask", "image"), ("target", "image")]
)
def test_two_columns_of_images_are_pairs(tmp_path, parquet, other, source):
    beside = [dict(bytes=PNG[39 - i], path=None) for i in range(20)]
    beside[4] = None
    images = [dict(bytes=PNG[i], path=f"{i}.png") for i in range(20)]
    texts = [f"text {i}" for i in range(20)]
    for k, name in enumerate(("train-00000-of-00001", "test-00000-of-00001")):
        part = slice(0, 16) if k == 0 else slice(16, 20)
        parquet(tmp_path / "d" / f"{name}.parquet", images[part], text=texts[part], **{other: beside[part]})
    data = load(tmp_path / "d", size=40)
    number = {str(text): row for row, text in enumerate(data.texts)}
    assert len(data.x) == 19 and "text 4" not in number and data.pairs is not None
    assert sorted(data.texts[row] for row in data.held_out) == [f"text {i}" for i in range(16, 20)]
    for i in (0, 3, 5, 19):
        row = number[f"text {i}"]
        want = [np.asarray(photo(k)).transpose(2, 0, 1) for k in (i, 39 - i)]
        want = want[::-1] if source == other else want
        assert np.array_equal(data.pairs[row], want[0]) and np.array_equal(data.x[row], want[1])
    assert f"{source} is the source" in data.verdict and "not in the file" in data.verdict
    assert load(tmp_path / "d", **data.settings).fingerprint == data.fingerprint
    alone = load(tmp_path / "d", size=40, layout="together")
    assert alone.pairs is None and np.array_equal(
        alone.x[list(alone.texts).index("text 0")], np.asarray(photo(0)).transpose(2, 0, 1)
    )


def test_a_parquet_file_without_one_column_of_images_is_refused(tmp_path, parquet):
    import pyarrow
    import pyarrow.parquet

    for columns in (dict(a=[1, 2]), dict(left=[b"1"], right=[b"2"])):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
        with pytest.raises(BadData, match="`image`"):
            load(tmp_path / "d.parquet")
    for blob in (b"PAR1", b"PAR1" + bytes(100) + b"PAR1"):
        (tmp_path / "d.parquet").write_bytes(blob)
        with pytest.raises(BadData, match="cannot be read as a parquet"):
            load(tmp_path / "d.parquet")


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    for source in (tmp_path / "d" / "d.parquet", tmp_path / "d"):
        with pytest.raises(Refusal, match=r"pip install 'likeness\[parquet\]'"):
            load(source)
