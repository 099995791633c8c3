"""The log as a table and for TensorBoard: the same numbers as log.jsonl, no step twice after a crash, and
bytes that an independent reader of the format takes."""

import csv
import struct
from pathlib import Path

import pytest

from conftest import small_run, toy
from likeness.core import Refusal
from likeness.figures import events
from likeness.runs.run import Run
from likeness.training import log_writers, loop, session
from likeness.training.log_writers import CSV, EVENTS

LOG = ("csv", "tensorboard")


def trained(folder: Path, images: int, log: tuple[str, ...] = LOG) -> Run:
    if (folder / "config.json").exists():
        run, data = Run.resume(folder), toy()
    else:
        run, data = small_run("ae", folder)
    session.work(run, data, lambda step: None, log, images=images)
    run.close()
    return run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / CSV).open(newline="") as file:
        return list(csv.DictReader(file))


def held(blob: bytes) -> list[tuple[int, int, bytes | int]]:
    """The fields of a protocol buffer, by the published wire format and by nothing of ours: number, type,
    value."""
    out, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = blob[at]
            value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
            if byte < 128:
                return value

    while at < len(blob):
        key = number()
        n = {0: 0, 1: 8, 5: 4}.get(key & 7)
        value = number() if key & 7 in (0, 2) else 0
        if n != 0:
            n = value if n is None else n
            value, at = blob[at : at + n], at + n
        out.append((key >> 3, key & 7, value))
    return out


def crc(data: bytes) -> int:
    """CRC32C bit by bit, by polynomial division, then masked as in TensorFlow's crc32c.h."""
    remainder = 0xFFFFFFFF
    for bit in (byte >> i & 1 for byte in data for i in range(8)):
        remainder = remainder >> 1 ^ (0x82F63B78 if (remainder ^ bit) & 1 else 0)
    remainder ^= 0xFFFFFFFF
    return ((remainder >> 15) | (remainder << 17) & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF


def board(path: Path) -> tuple[list[tuple[int, dict[str, float]]], dict[int, bytes]]:
    """Scalars by step, and pictures by step; every checksum is looked at."""
    blob, at, lines, pictures = path.read_bytes(), 0, [], {}
    while at < len(blob):
        (n,) = struct.unpack("<Q", blob[at : at + 8])
        event = blob[at + 12 : at + 12 + n]
        assert struct.unpack("<I", blob[at + 8 : at + 12])[0] == crc(blob[at : at + 8])
        if n < 2000:  # of pictures once, below: bit by bit is slow
            assert struct.unpack("<I", blob[at + 12 + n : at + 16 + n])[0] == crc(event)
        at += 16 + n
        fields = {number: value for number, _, value in held(event)}
        if 5 not in fields:
            assert fields[3] == b"brain.Event:2" and not lines
            continue
        values = [{k: (kind, v) for k, kind, v in held(value)} for _, _, value in held(fields[5])]
        if 4 in values[0]:
            pictures[fields[2]] = {k: v for k, _, v in held(values[0][4][1])}[4]
            assert values[0][1][1] == b"samples"
        else:
            assert all(value[2][0] == 5 for value in values)
            named = {value[1][1].decode(): struct.unpack("<f", value[2][1])[0] for value in values}
            lines.append((fields[2], named))
    return lines, pictures


def test_crc32c_is_that_of_the_standard():
    """RFC 3720, appendix B.4, and the check value of the catalogue of CRCs."""
    assert events.crc32c(bytes(32)) == 0x8A9136AA and events.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert events.crc32c(bytes(range(32))) == 0x46DD794E and events.crc32c(b"123456789") == 0xE3069283
    assert events.masked(b"abc") == crc(b"abc")


def test_both_hold_what_the_log_holds_and_the_snapshots(tmp_path):
    run = trained(tmp_path / "r", 512)
    log, (lines, pictures) = run.log(), board(tmp_path / "r" / EVENTS)
    assert (
        [step for step, _ in lines]
        == [line["seen"] for line in log]
        == [int(r["seen"]) for r in rows(tmp_path / "r")]
    )
    for line, (_, values), row in zip(log, lines, rows(tmp_path / "r"), strict=True):
        want = {f"loss/{k}": v for k, v in line["losses"].items()} | {
            f"time/{k}": v for k, v in line["time"].items()
        }
        assert (
            values == pytest.approx(want, rel=1e-6)
            and {k: float(v) for k, v in row.items() if k != "seen"} == want
        )
    shots = {int(p.stem): p.read_bytes() for p in (tmp_path / "r" / "samples").glob("*.png")}
    assert pictures == shots and 512 in shots and len(shots) > 2


def test_after_a_crash_no_step_is_there_twice(tmp_path):
    """The state is of image 384; what was logged after it, and the torn ends, are gone when it goes on."""
    folder = tmp_path / "r"
    trained(folder, 384)
    run, data = Run.resume(folder), toy()
    steps = log_writers.record(run, LOG, loop.fit(run, data, images=640, save_every=1e9))
    for step in steps:
        if step.seen == 544:
            break  # killed: nothing is saved
    run.close()
    steps.close()
    torn = folder / EVENTS
    whole = torn.read_bytes()
    assert board(torn)[0][-1][0] == 512
    torn.write_bytes(whole[:-5])
    with (folder / CSV).open("a") as file:
        file.write("512,0.1")
    run = trained(folder, 528)
    log = [line["seen"] for line in run.log()]
    assert [step for step, _ in board(torn)[0]] == log == [int(r["seen"]) for r in rows(folder)]
    assert log == sorted(set(log)) and log[-1] == 512


def test_whoever_asks_late_gets_all_of_it_and_nobody_else_gets_a_file(tmp_path):
    run = trained(tmp_path / "r", 256, log=())
    assert not (tmp_path / "r" / CSV).exists() and not (tmp_path / "r" / EVENTS).exists()
    before = (tmp_path / "r" / "log.jsonl").read_bytes()
    run = trained(tmp_path / "r", 384)
    assert (tmp_path / "r" / "log.jsonl").read_bytes().startswith(before)
    lines, pictures = board(tmp_path / "r" / EVENTS)
    assert (
        [step for step, _ in lines]
        == [line["seen"] for line in run.log()]
        == [int(r["seen"]) for r in rows(tmp_path / "r")]
    )
    assert list(pictures) == sorted(pictures) and 256 in pictures


def test_a_new_quantity_becomes_a_column(tmp_path):
    run, _ = small_run("ae", tmp_path / "r")
    run.note(dict(seen=16, losses=dict(a=1.0)))
    table = log_writers.Table(run)
    run.note(line := dict(seen=32, losses=dict(a=2.0, b=3.0)))
    table.line(line)
    assert (tmp_path / "r" / CSV).read_text() == "seen,loss/a,loss/b\n16,1.0,\n32,2.0,3.0\n"
    run.close()


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path):
    run, data = small_run("ae", tmp_path / "r")
    (tmp_path / "r" / "tensorboard").write_text("in the way")
    session.work(run, data, lambda step: None, LOG, images=128)
    run.close()
    assert run.seen == 128 and rows(tmp_path / "r") and any("tensorboard" in note for note in run.notes)
    with pytest.raises(Refusal, match="csv"):
        log_writers.refuse(["cvs"])
