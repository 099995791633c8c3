"""One file, one method.  The folder is the list: there is no registry to keep in step.

`load("vae")` is the class in vae.py; `load("my/idea.py")` is the class in any file.

Departures that all share and no file repeats: sizes, batches and rates are a laptop's; the optimiser is Adam
unless a player names another; the rate rises over the first images, gradients are clipped at norm 1 unless
--clip says otherwise, and what answers is a running average of the weights that forgets by images. What else
differs from a paper stands in its file after "Departures:".
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from ..core import Model, Refusal

NAMES = tuple(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Model]:
    """The one subclass of Model that the file defines.  Raises Refusal, with the nearest name, if there is none."""
    module = _from_file(Path(name)) if name.endswith(".py") else _from_folder(name)
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Model) and c.__module__ == module.__name__]
    if len(found) != 1:
        raise Refusal(f"{name} defines {len(found)} subclasses of Model; a model's file defines exactly one.")
    return found[0]


def closest(name: str, names: tuple[str, ...]) -> str:
    """The end of a refusal: what was probably meant, or all there is."""
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}."


def _from_folder(name: str) -> ModuleType:
    if name not in NAMES:
        raise Refusal(f"no model is called {name!r}; {closest(name, NAMES)}  A file of your own is named with its path: ./{name}.py")
    return importlib.import_module(f"{__name__}.{name}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise Refusal(f"there is no file {path}; a model is a name ({', '.join(NAMES)}) or a Python file.")
    # Loaded as if it lay in models/, so that `from ..core import Model` works in it; its text is in its name, so that
    # an edited file is another module.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}_{digest}", path)
    assert spec is not None and spec.loader is not None
    if spec.name not in sys.modules:
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            del sys.modules[spec.name]
            raise Refusal(f"{path}, line {error.lineno}: {error.msg}; a model's file must be Python that can be imported.") from None
        except BaseException:
            del sys.modules[spec.name]
            raise
    return sys.modules[spec.name]
