"""One file, one method.  The folder is the list: there is no registry to keep in step.

`load("vae")` is the class in vae.py; `load("my/idea.py")` is the class in any file.

Departures that all share and no file repeats: sizes, batches and rates are a laptop's; the optimiser is Adam
unless a player names another; the rate rises over the first images, gradients are clipped at norm 1 unless
--clip says otherwise, and what answers is an EMA of the weights that forgets by images. What else
differs from a paper stands in its file after "Departures:".
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ..core import Batch, Condition, Model, Player, Refusal, closest, label_of

NAMES = tuple(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Model]:
    """The one subclass of Model that the file defines.  Raises Refusal, with the nearest name, if there is
    none."""
    module = _from_file(Path(name)) if name.endswith(".py") else _from_folder(name)
    result = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Model) and c.__module__ == module.__name__
    ]
    if len(result) != 1:
        raise Refusal(
            f"{name} defines {len(result)} subclasses of Model; a model's file defines exactly one."
        )
    before = "conditional" in vars(result[0]) and "takes" not in vars(result[0])
    return labelled(result[0]) if before else result[0]


ASKED = (
    "loss",
    "players",
    "bits_per_dim",
    "sample",
    "complete",
    "redraw",
    "surprise",
    "entropy",
    "denoise",
    "encode",
    "diagnose",
)


def labelled(kind: type[Model]) -> type[Model]:
    """A class as version 0.1 had them, with `conditional` and classes (B,) as y, made to take a Condition:
    its methods still see the classes."""
    for name in (n for n in ASKED if n in vars(kind)):
        setattr(kind, name, _plain(getattr(kind, name)))
    kind.takes = property(lambda self: ("label",) if self.conditional else ())  # type: ignore[assignment]
    return kind


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, called with classes wherever it is called with a Condition, also within a Batch; so are the
    losses of the players it returns."""

    @functools.wraps(method)
    def call(*args: Any, **more: Any) -> Any:
        out = method(*map(_classes, args), **{name: _classes(value) for name, value in more.items()})
        if isinstance(out, tuple) and out and all(isinstance(player, Player) for player in out):
            return tuple(replace(player, loss=_plain(player.loss)) for player in out)
        return out

    return call


def _classes(value: Any) -> Any:
    if isinstance(value, Condition):
        return value.label
    if isinstance(value, Batch) and not isinstance(value, Labelled):  # it is one where a method calls another
        return Labelled(value.x, cast(Any, label_of(value.y)), value.noise, value.step, value.seen)
    return value


class Labelled(Batch):
    """A batch whose y is the classes (B,), or None."""

    def __post_init__(self) -> None:
        """Nothing is checked: y is no Condition here."""

    def __getitem__(self, rows: slice) -> Labelled:
        y: Any = self.y
        return Labelled(self.x[rows], None if y is None else y[rows], self.noise[rows], self.step, self.seen)


def _from_folder(name: str) -> ModuleType:
    if name not in NAMES:
        raise Refusal(
            f"no model is called {name!r}; {closest(name, NAMES)}  A file of your own is named with its "
            f"path: ./{name}.py"
        )
    return importlib.import_module(f"{__name__}.{name}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise Refusal(f"there is no file {path}; a model is a name ({', '.join(NAMES)}) or a Python file.")
    # Files of version 0.1 import likeness.noise.
    sys.modules.setdefault("likeness.noise", importlib.import_module("..core.noise", __name__))
    # Loaded as if it lay in models/, so that `from ..core import Model` works in it; its text is in its name,
    # so that an edited file is another module.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}_{digest}", path)
    assert spec is not None and spec.loader is not None
    if spec.name not in sys.modules:
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            del sys.modules[spec.name]
            raise Refusal(
                f"{path}, line {error.lineno}: {error.msg}; a model's file must be Python that can be "
                "imported."
            ) from None
        except BaseException:
            del sys.modules[spec.name]
            raise
    return sys.modules[spec.name]
