"""Where the data of a run lie: found again when they, or the project that holds both, have moved.

A run writes down the absolute place of its data, and the place as seen from its own folder, which a move of
the whole project does not change.  What they are is told by the fingerprint alone: the same images in another
place are the same data.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import data as datasets
from .. import storage
from ..core import NotAllowed, Refusal
from ..data import Data, points
from ..data.folder import LANCZOS
from ..data.metadata import PLAIN
from ..data.source import parse
from .folder import CONFIG

if TYPE_CHECKING:
    from .run import Config


def of(data: Data, folder: Path, files: dict[str, str] | None = None) -> dict[str, Any]:
    """What a run in `folder` writes down beside the identity of its data.  files: absolute places of those
    that its options name."""
    away = {name: _from(path, folder) for name, path in (files or {}).items()}
    result: dict[str, Any] = dict(images=len(data.x), parts=data.parts)
    if parse(data.source).path is not None:
        result["relative"] = _from(_path(data.source), folder)
    if (to := data.settings.get("to")) and parse(to).path is not None:
        result["to"] = _from(to, folder)
    if data.other is not None:
        result["others"] = len(data.other.x)
    return result | ({"files": away} if away else {})


def _path(source: str) -> str:
    """Of a source that is no name; that of the drawing where it is one of points."""
    path = parse(source).path
    return source if path is None else str(path)


def _from(path: str, folder: Path) -> str:
    place, name = os.path.split(os.path.abspath(os.path.expanduser(path)))  # which may be a link itself
    return os.path.relpath(os.path.join(os.path.realpath(place), name), folder.resolve())


def _there(relative: str, folder: Path) -> str:
    return os.path.normpath(os.path.join(folder.resolve(), relative))


def places(config: Config, folder: Path) -> list[str]:
    """Sources that may be the data of the run in `folder`, the likeliest first: those that exist."""
    source = str(config.data.get("source", ""))
    if parse(source).path is None:
        return [source]
    result = [source]
    if relative := config.origin.get("relative"):
        drawn = f"{points.DENSITY}:" if parse(source).kind == "points" else ""
        result.append(drawn + _there(relative, folder))
    return [s for s in dict.fromkeys(result) if os.path.exists(_path(s))]


def seconds(config: Config, folder: Path) -> list[str]:
    """As places(), of what --to named; [""] of a run that has no such thing."""
    to = str(config.data.get("to") or "")
    if not to or parse(to).path is None:
        return [to]
    relative = config.origin.get("to")
    result = [to, *([_there(relative, folder)] if relative else [])]
    return [s for s in dict.fromkeys(result) if os.path.exists(os.path.expanduser(s))]


def missing_files(config: Config, folder: Path) -> dict[str, str]:
    """Options of the run that name a file which is gone, and lies where it lay as seen from the run."""
    asked = {name: _there(path, folder) for name, path in config.origin.get("files", {}).items()}
    gone = {n for n in asked if not os.path.exists(str(config.options.get(n, "")))}
    return {name: path for name, path in asked.items() if name in gone and os.path.exists(path)}


def load(config: Config, folder: Path, place: str = "", to: str = "") -> Data:
    """The data that the run in `folder` has learnt, from `place`, or from wherever they are; to: the second
    place, of a run that has learnt from two.

    What is there may have changed: changed() says so.  Raises Refusal where nothing is there.
    """
    if to and not config.data.get("to"):
        raise Refusal(
            f"{folder} has learnt from one place, and --to says where a second one is: leave it out."
        )
    wanted = [parse(place).anywhere.text] if place else places(config, folder)
    others = [parse(to).anywhere.text] if to else seconds(config, folder)
    if not wanted:
        raise Refusal(
            f"the data of {folder} lay in {_path(str(config.data.get('source', '')))}, and nothing is there "
            f"now; say where they are with --data PLACE, or once and for all: likeness train {config.model} "
            f"PLACE {folder}"
        )
    if not others:
        raise Refusal(
            f"the second domain of {folder} lay in {config.data.get('to')}, and nothing is there now; say "
            f"where it is with --to PLACE, or once and for all: likeness train {config.model} {wanted[0]} "
            f"{folder} --to PLACE"
        )
    first = None
    for source, other in product(wanted, others):
        data = _read(config, source, other)
        if not changed(config, folder, data):
            return data
        first = first or data
    assert first is not None
    return first


def _read(config: Config, source: str, to: str = "") -> Data:
    """With the classes of the run in its order, whatever their order would be today."""
    known = config.classes or (None if config.spec.labels else [])
    if to:
        config = replace(config, data=config.data | {"to": to})
    data = datasets.load(source, **config.reading, classes=known)
    if known is None and data.fingerprint != config.data.get("fingerprint"):
        old = datasets.load(source, **config.reading, classes=sorted(data.classes))  # of version 0.1
        data = old if old.fingerprint == config.data.get("fingerprint") else data
    if data.fingerprint != config.data.get("fingerprint") and config.reading.get("layout") == "classes":
        # from when metadata files were read in another way
        old = datasets.load(source, **config.reading, classes=known, about=PLAIN)
        data = old if old.fingerprint == config.data.get("fingerprint") else data
    if data.fingerprint != config.data.get("fingerprint") and data.other is not None:
        # from when domains were split each for itself
        old = datasets.load(source, **config.reading, classes=known, apart=True)
        data = old if old.fingerprint == config.data.get("fingerprint") else data
    if data.fingerprint != config.data.get("fingerprint") and data.pairs is not None:
        # from when label maps were scaled by Lanczos, and of two columns of a table one was read
        old = datasets.load(source, **config.reading, classes=known, about=LANCZOS)
        data = old if old.fingerprint == config.data.get("fingerprint") else data
    return data


def changed(config: Config, folder: Path, data: Data) -> str:
    """What differs between the data that the run in `folder` has learnt and these, as the beginning of a
    sentence; nothing where they are the same."""
    if data.fingerprint == config.data.get("fingerprint", data.fingerprint):
        return ""
    parts = config.origin.get("parts", {})
    differ = [name for name, digest in data.parts.items() if parts.get(name) != digest]
    if "A" in data.parts and parts:
        return _side_changed(config, folder, data, differ)
    then, now = config.origin.get("images"), len(data.x)
    kind = "points" if data.spec.points else "images"
    here = data.source == config.data.get("source")
    what = f"{data.source} has changed since {folder} was made" if here else f"{data.source} holds other data"
    if then is None:
        return f"{what}: {now:,} {kind} are there now (how many there were this run is too old to say)"
    if then != now:
        return f"{what}: there were {then:,} {kind}, and there are {now:,} now"
    return f"{what}: there were {then:,} {kind} and there are as many, but {_other(differ)}"


def _side_changed(config: Config, folder: Path, data: Data, differ: list[str]) -> str:
    """As changed(), of data with two sides: which of them differs, and in what."""
    sides = []
    own = [name for name in differ if name != "A"]
    then, now = config.origin.get("others"), 0 if data.other is None else len(data.other.x)
    if "A" in differ:
        where = data.source if data.other is None else data.other.source
        how = f": there were {then:,} images, and there are {now:,} now" if then and then != now else ""
        what = "the domain A" if data.other is not None else "the sources A of the pairs"
        sides.append(f"{what} ({where}) {'is' if data.other is not None else 'are'} no longer the same{how}")
    if own or not sides:
        then, now = config.origin.get("images"), len(data.x)
        how = f"there were {then:,} images, and there are {now:,} now" if then != now else _other(own)
        what = "the domain B" if data.other is not None else "the targets B of the pairs"
        be = "is" if data.other is not None else "are"
        sides.append(f"{what} ({data.place}) {be} no longer the same: {how}")
    return f"of what {folder} has learnt, {'; and '.join(sides)}"


def _other(parts: list[str]) -> str:
    if "pixels" in parts:
        return "not with the same pixels"
    if "order" in parts:
        return "in another order, as when files are renamed"
    return f"with other {' and '.join(parts) or 'settings'}"


def refuse_changed(config: Config, folder: Path, data: Data) -> None:
    """Raises Refusal where a run cannot go on with these data."""
    if why := changed(config, folder, data):
        command = f"likeness train {config.model}"
        more = f" --to {to}" if (to := data.settings.get("to")) else ""
        raise Refusal(
            f"{why}.  To go on, put back what {folder} has learnt, or say where it lies now: {command} PLACE "
            f"{folder}; to learn what is there now, name another folder: {command} {data.source} OTHER{more}"
        )


def moved(config: Config, folder: Path, data: Data) -> Config:
    """The same with the place where its data, or equal ones, are now."""
    if data.fingerprint != config.data.get("fingerprint"):
        return config
    now = config.origin | of(data, folder)
    place = {"source": data.source} | ({"to": data.settings["to"]} if config.data.get("to") else {})
    return replace(config, data=config.data | place, origin=now)


def remember(config: Config, folder: Path, data: Data) -> Config:
    """Write the new place of equal data into the run, if one may."""
    result = moved(config, folder, data)
    if result.data != config.data:
        try:
            storage.write(folder / CONFIG, json.dumps(asdict(result), indent=2).encode())
        except (NotAllowed, Refusal, OSError):
            return config
    return result


def rebased(config: Config, old: Path, new: Path) -> Config:
    """The same for a copy of the run in another folder."""
    origin = dict(config.origin)
    for name in {"relative", "to"} & origin.keys():
        origin[name] = _from(_there(origin[name], old), new)
    if "files" in origin:
        origin["files"] = {name: _from(_there(path, old), new) for name, path in origin["files"].items()}
    return replace(config, origin=origin)
