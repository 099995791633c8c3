"""Imports point downward only, models do not know each other, and asking for help is quick because nothing
heavy is imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import likeness
from likeness import cli, models
from likeness.cli import catalogue, outline
from likeness.inference import diffusion_process, inversion, latent_space, receptive_field

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
    ["maps", "studies", "agents"],
    ["api"],
    ["studio"],
    ["cli"],
    ["__main__"],
]
"""from the bottom up: a wing imports from those below it"""
ROOT = Path(likeness.__path__[0])


def imported(node: ast.AST, here: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What an import names, from the top of likeness on; an absolute import of likeness begins
    with its name."""
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
    """The module of likeness that a call imports by its name, as import_module("likeness.x") does; or
    nothing."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return ""
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    return (
        str(node.args[0].value)
        if name in ("import_module", "__import__") and "likeness" in str(node.args[0].value)
        else ""
    )


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
    (tmp_path / "parts" / "sly.py").write_text(
        "def f():\n    import_module('likeness.features.opening')\n    import likeness.api\n"
    )
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
        for word in (
            "pickle.load",
            "import pickle",
            "torch.load(",
            "torch.save(",
            "allow_pickle=True",
            "shell=True",
        ):
            if (file.name, word) == ("unread.py", "allow_pickle=True"):
                continue  # in a command that is printed for people who trust their own file
            assert word not in text, f"{file.name} uses {word}"


def imported_by(code: str, *names: str) -> tuple[list[str], str]:
    """Which of these modules a new process has imported after the code, and what it printed until then."""
    code += f"\nimport sys; print(*[m for m in {names!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *printed, last = done.stdout.split("\n")[:-1]
    return last.split(), "\n".join(printed) + done.stderr


def test_help_imports_nothing_heavy():
    heavy, printed = imported_by(
        "from likeness.cli import main; main(['--help'])", "torch", "numpy", "rich", "PIL", "matplotlib"
    )
    assert heavy == [] and "likeness train MODEL DATA" in printed


def test_samples_need_torch_and_no_more(tmp_path, monkeypatch, capsys):
    """torch._dynamo and sympy take longer to import than torch itself, and a single torch.compiler.disable
    would bring them back."""
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(
            [
                "train",
                "vae",
                "shapes:40",
                "r",
                "--images",
                "64",
                "--size",
                "8",
                "--width",
                "8",
                "--no-report",
                "--json",
            ]
        )
        == 0
    )
    code = "import likeness.api; from likeness.cli import main; main(['sample', 'r', '-n', '4'])"
    heavy, printed = imported_by(
        code, "torch", "sklearn", "scipy", "rich", "torch._dynamo", "torch._inductor", "sympy"
    )
    assert heavy == ["torch"] and printed == "4 images: r/samples/seed-0-n-4.png"


def test_what_needs_no_torch_is_answered_or_refused_without_it():
    for name in models.NAMES:
        catalogue.entry(name)  # as the first `likeness models` does, which has to ask the classes
    commands = [
        "sample runs/nosuch",
        "evaluate runs/nosuch",
        "latent runs/nosuch",
        "train vae digits --wrong 1",
        "bayes x --wrong",
        "map x --wrong",
        "models",
        "data --json",
    ]
    code = f"from likeness.cli import main\nfor command in {commands!r}: main(command.split())"
    heavy, printed = imported_by(code, "torch")
    assert (
        heavy == [] and printed.count("runs/nosuch is not a run") == 3 and "Did you mean --json?" in printed
    )
    assert '"name": "cifar10"' in printed and "vqvae" in printed


def test_an_outline_is_what_the_module_says_itself():
    for module in (diffusion_process, inversion, latent_space, receptive_field):
        assert outline.about(module.__name__.removeprefix("likeness.")) == module.__doc__
    assert outline.value("inference.latent_space", "PICTURES") == tuple(latent_space.PICTURES)
    assert outline.value("inference.diffusion_process", "PICTURES") == tuple(diffusion_process.PICTURES)
    assert outline.value("inference.inversion", "STEPS") == inversion.STEPS


def test_a_kept_entry_is_what_the_class_says_until_the_text_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    assert catalogue.NAMES == models.NAMES
    for name in models.NAMES:
        catalogue.entry(name)
    asked, kinds = [], {name: models.load(name) for name in models.NAMES}
    with monkeypatch.context() as m:
        m.setattr(models, "load", lambda name, load=models.load: (asked.append(name), load(name))[1])
        for name in models.NAMES:
            kept, said = catalogue.entry(name), catalogue.of(kinds[name])
            assert json.dumps(kept) == json.dumps(said) and [type(o.default) for o in kept.options] == [
                type(o.default) for o in said.options
            ], name
        assert asked == []
        m.setattr(catalogue, "_digest", lambda: "the text of another day")
        catalogue.entry("vae")
        assert asked == ["vae"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"digest": 1}'])
def test_a_damaged_table_is_made_anew(tmp_path, monkeypatch, text):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    (tmp_path / catalogue.FILE).write_text(text)
    assert catalogue.entry("ae").answers == ["encode", "decode"]
    assert json.loads((tmp_path / catalogue.FILE).read_text()).keys() == {"digest", "ae"}


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "file" / "cache"))
    assert catalogue.entry("ae").answers == ["encode", "decode"]
