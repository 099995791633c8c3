"""Imports point downward only, models do not know each other, and asking for help is quick because nothing heavy is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import likeness

LEVELS = [
    ["noise"],
    ["core"],
    ["parts"],
    ["data", "models", "metrics", "pictures"],
    ["engine", "store", "symptoms"],
    ["within"],
    ["run"],
    ["loop"],
    ["networks", "watch", "cost", "given", "minimize", "nearest", "doctor", "exchange"],
    ["latent", "completion", "surprise", "field"],
    ["distribution", "inside", "laws", "editing", "diffusion"],
    ["evaluate"],
    ["report", "show", "sides"],
    ["bayes_page", "comparison", "results"],
    ["compare_page"],
    ["bayes", "detect", "compare"],
    ["judge"],
    ["api"],
    ["arguments"],
    ["probes"],
    ["asking", "lab"],
    ["cli"],
    ["__main__"],
]
ROOT = Path(likeness.__path__[0])


def imported(node: ast.ImportFrom, here: tuple[str, ...]) -> list[str]:
    """The top-level pieces of likeness that a relative import names."""
    if node.level != len(here):
        return []
    return [node.module.split(".")[0]] if node.module else [a.name for a in node.names]


def violations(root: Path) -> list[str]:
    level, found = {name: i for i, names in enumerate(LEVELS) for name in names}, []
    for file in sorted(root.rglob("*.py")):
        here = file.relative_to(root).with_suffix("").parts
        if here == ("__init__",):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            others = [t for t in imported(node, here) if t not in ("__version__", here[0])]
            found += [f"{'/'.join(here)} imports {t}" for t in others if level[t] >= level[here[0]]]
            if here[0] == "models" and node.level == 1 and here[-1] != "__init__":
                found.append(f"{'/'.join(here)} imports another model")
    return found


def test_imports_point_downward():
    assert violations(ROOT) == []


def test_the_test_sees_a_violation(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text("from ..loop import fit\nfrom .vae import VAE\n")
    (tmp_path / "core.py").write_text("from .engine import device\n")
    assert violations(tmp_path) == ["core imports engine", "models/bad imports loop", "models/bad imports another model"]


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
