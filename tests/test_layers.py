"""Imports point downward only, models do not know each other, and asking for help is quick because nothing heavy is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import likeness

WINGS = [
    ["core"],
    ["storage", "metrics"],
    ["figures", "engine", "data"],
    ["backbones"],
    ["parts", "explain"],
    ["models"],
    ["runs"],
    ["inference"],
    ["training"],
    ["features"],
    ["evaluation"],
    ["reports"],
    ["maps", "studies"],
    ["api"],
    ["cli"],
    ["__main__"],
]
"""from the bottom up: a wing imports from those below it"""
ROOT = Path(likeness.__path__[0])


def imported(node: ast.AST, here: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What an import names, from the top of likeness on; an absolute import of likeness begins with its name."""
    if isinstance(node, ast.Import):
        return [tuple(a.name.split(".")) for a in node.names if a.name.split(".")[0] == "likeness"]
    if not isinstance(node, ast.ImportFrom):
        return []
    stem = tuple((node.module or "").split(".")) if node.module else ()
    if not node.level:
        return [stem] if stem[:1] == ("likeness",) else []
    base = here[: len(here) - node.level]
    return [base + stem] if stem else [(*base, a.name) for a in node.names]


def by_name(node: ast.AST) -> str:
    """The module of likeness that a call imports by its name, as import_module("likeness.x") does; or nothing."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return ""
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    return str(node.args[0].value) if name in ("import_module", "__import__") and "likeness" in str(node.args[0].value) else ""


def violations(root: Path) -> list[str]:
    level, found = {name: i for i, names in enumerate(WINGS) for name in names}, []
    for file in sorted(root.rglob("*.py")):
        here = file.relative_to(root).with_suffix("").parts
        if here == ("__init__",):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            where = "/".join(here)
            found += [f"{where} imports {name} by its name"] if (name := by_name(node)) else []
            for other in imported(node, here):
                if other[:1] == ("likeness",):
                    found.append(f"{where} imports {'.'.join(other)} by its name")
                elif other[0] not in ("__version__", here[0]) and level[other[0]] >= level[here[0]]:
                    found.append(f"{where} imports {other[0]}")
                elif here[0] == "models" and other[0] == "models" and here[-1] != "__init__":
                    found.append(f"{where} imports another model")
    return found


def test_imports_point_downward():
    assert violations(ROOT) == []


def test_every_wing_has_its_line_and_nothing_else_lies_beside_the_wings():
    there = {p.stem for p in ROOT.iterdir() if (p.is_dir() and p.name != "__pycache__") or p.suffix == ".py"}
    assert there - {"__init__"} == {name for names in WINGS for name in names}
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "api.py"}


def test_the_test_sees_a_violation(tmp_path):
    for wing in ("models", "core", "parts", "figures"):
        (tmp_path / wing).mkdir()
    (tmp_path / "models" / "bad.py").write_text("from ..training.loop import fit\nfrom .vae import VAE\n")
    (tmp_path / "core" / "batch.py").write_text("from ..engine import device\nfrom .noise import Noise\n")
    (tmp_path / "parts" / "sly.py").write_text("def f():\n    import_module('likeness.features.opening')\n    import likeness.api\n")
    (tmp_path / "figures" / "grids.py").write_text("from .. import data, core\n")
    assert sorted(violations(tmp_path)) == [
        "core/batch imports engine",
        "figures/grids imports data",
        "models/bad imports another model",
        "models/bad imports training",
        "parts/sly imports likeness.api by its name",
        "parts/sly imports likeness.features.opening by its name",
    ]


def test_no_unsafe_loading_anywhere():
    for file in ROOT.rglob("*.py"):
        text = file.read_text()
        for word in ("pickle.load", "import pickle", "torch.load(", "torch.save(", "allow_pickle=True", "shell=True"):
            assert word not in text, f"{file.name} uses {word}"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from likeness.cli import main; main(['--help']); print([m for m in ('torch', 'numpy', 'rich', 'PIL', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]") and "likeness train MODEL DATA" in out
