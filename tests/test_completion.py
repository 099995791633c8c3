"""TAB: real bash, with the script that `likeness completion bash` prints."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from likeness import cli, models
from likeness.cli import catalogue, completion
from likeness.core import Refusal
from likeness.data import named

BIN = Path(sys.executable).parent


def pressed(line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line, by its own machinery: the script, COMP_WORDS and the
    function that `complete` has registered."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "likeness").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m likeness "$@"\n'
    )
    (folder / "bin" / "likeness").chmod(0o755)
    words = line.split(" ")
    script = f"""
source <(likeness completion bash)
COMP_WORDS=({" ".join(shlex.quote(w) for w in words)}); COMP_CWORD={len(words) - 1}
COMP_LINE={shlex.quote(line)}
spec=$(complete -p likeness); [[ $spec == *"-o default"* ]] || exit 3
name=${{spec#*-F }}; ${{name%% *}} likeness {shlex.quote(words[-1])} {shlex.quote(words[-2])}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("runs/vae-digits", "runs/ddpm photos", "elsewhere/gan-x", "alone"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bash_completes_verbs_models_and_runs(here):
    assert pressed("likeness ev", here) == ["evaluate"]
    assert pressed("likeness sample runs/d", here) == ["runs/ddpm\\ photos"]


def words(line: str) -> list[str]:
    typed = ["likeness", *line.split(" ")]
    return completion.words(typed, len(typed) - 1)


def test_what_may_stand_where(here):
    assert set(words("")) == set(cli.VERBS) and words("train vq") == ["vqvae"]
    assert words("train vae dig") == ["digits"] and words("train vae runs/v") == ["runs/vae-digits"]
    assert words("evaluate alone ") == ["alone", "elsewhere/gan-x", "runs/ddpm photos", "runs/vae-digits"]
    assert words("sample nosuch/") == [] and words("nosuch ") == [] and words("completion z") == ["zsh"]
    assert words("sample " + str(here / "al")) == [str(here / "alone")]
    assert words("check photos --model pixel") == ["pixelcnn", "pixelcnnpp", "pixelrnn"]
    assert words("train vae digits --log ") == ["tensorboard", "csv"] and words(
        "train vae digits --colour g"
    ) == ["grey"]
    catalogue.entry("vae")
    assert words("train vae digits --schedule c") == ["constant", "cosine"]
    assert words("train vae --mirror dig") == ["digits"]
    assert words("train vae --minutes ") == [] and words("train --json va") == ["vae"]


def test_flags_are_those_of_the_parser_and_need_no_torch(here):
    """With the table of the catalogue and before there is one, in a process of its own."""
    catalogue.entry("vae")
    for place in (os.environ["LIKENESS_CACHE"], str(here / "empty")):
        code = (
            "import sys; from likeness.cli.completion import words as w;"
            "print(*w(['likeness', 'train', 'vae', 'digits', '--'], 4));"
            "print(*w(['likeness', 'export', 'r', '--'], 3));"
            "print(*w(['likeness', 'look', 'x', '--'], 3)); print('torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"LIKENESS_CACHE": place},
        )
        train, export, look, heavy = done.stdout.splitlines()
        options = {
            f"--{o.name.replace('_', '-')}"
            for o in (*catalogue.entry("vae").options, *catalogue.entry("vae").training)
        }
        assert options | {"--minutes", "--size", "--help"} <= set(train.split())
        assert (
            {"--raw", "--json", "--help"} <= set(export.split())
            and "--seed" in look.split()
            and heavy == "False"
        )


def test_names_of_data_sets_are_those_there_are(here):
    there = {name for name in words("train vae ") if "/" not in name} - {"alone"}
    assert there == {name for name in named.NAMES if "PICTURE" not in name}
    assert catalogue.NAMES == models.NAMES


def test_every_shell_has_a_script_that_asks_the_words(capsys):
    for shell in ("bash", "zsh", "fish"):
        assert cli.main(["completion", shell]) == 0
        assert "completion words" in capsys.readouterr().out
    with pytest.raises(Refusal, match="Did you mean zsh"):
        completion.completion(["zhs"])
