"""TAB: real bash, zsh and fish, with the script that `likeness completion SHELL` prints."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from likeness import cli, models
from likeness.cli import catalogue, completion
from likeness.core import Refusal
from likeness.data import named

BIN = Path(sys.executable).parent


def with_likeness(folder: Path) -> dict[str, str]:
    """An environment in which the shell has a command of that name."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "likeness").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m likeness "$@"\n'
    )
    (folder / "bin" / "likeness").chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]])
    return os.environ | {"PATH": path, "HOME": str(folder)}


def pressed(line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line, by its own machinery: the script, COMP_WORDS and the
    function that `complete` has registered."""
    words = line.split(" ")
    script = f"""
source <(likeness completion bash)
COMP_WORDS=({" ".join(shlex.quote(w) for w in words)}); COMP_CWORD={len(words) - 1}
COMP_LINE={shlex.quote(line)}
spec=$(complete -p likeness); [[ $spec == *"-o default"* ]] || exit 3
name=${{spec#*-F }}; ${{name%% *}} likeness {shlex.quote(words[-1])} {shlex.quote(words[-2])}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=with_likeness(folder),
        check=True,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.split("\n")[:-1] if word]


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
    for line in ("likeness sample ~/alo", "likeness check pho"):
        assert pressed(line, here) == [], "nothing, so that bash completes it, which expands ~"


def fish(line: str, folder: Path) -> list[str]:
    """What fish offers."""
    source = f"source (likeness completion fish | psub); complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", source],
        capture_output=True,
        text=True,
        cwd=folder,
        env=with_likeness(folder),
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
def test_fish_completes_verbs_models_runs_and_files(here):
    assert fish("likeness tr", here) == ["trace", "train", "translate"]
    assert fish("likeness completion z", here) == ["zsh"]
    assert set(fish("likeness ", here)) == set(cli.VERBS), "and no files among them"
    assert fish("likeness train vq", here) == ["vqvae"]
    assert fish("likeness sample runs/", here) == ["runs/ddpm photos", "runs/vae-digits"]
    assert fish("likeness check pho", here) == ["photos/"] == fish("likeness score alone pho", here)
    assert fish("likeness sample ~/alo", here) == ["~/alone/"]
    assert "--network" in fish("likeness evaluate alone --n", here)


class Zsh:
    """One at a terminal, as somebody uses it."""

    def __init__(self, folder: Path, setup: str):
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            env = with_likeness(folder) | {"TERM": "dumb", "PS1": "", "ZDOTDIR": str(folder)}
            os.execvpe("zsh", ["zsh", "-f", "-i"], env)
        self.type(f"unsetopt zle_bracketed_paste prompt_cr prompt_sp; {setup}; echo rea''dy\n")
        self.until("ready")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, pattern: str) -> str:
        """What is on the terminal up to there."""
        text, end = "", time.monotonic() + 60
        while not re.search(pattern, text):
            assert time.monotonic() < end, text
            if select.select([self.terminal], [], [], 0.1)[0]:
                text += os.read(self.terminal, 65536).decode(errors="replace")
        return text

    def pressed(self, line: str, becomes: str) -> None:
        """The line, after TAB, is that; and is thrown away."""
        self.type(f"{line}\t")
        self.until(re.escape(becomes))
        self.type("\x15")

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh here")
@pytest.mark.parametrize(
    "setup",
    [
        "source <(likeness completion zsh)",
        "autoload -Uz compinit; compinit -u; source <(likeness completion zsh)",
        "mkdir f; likeness completion zsh > f/_likeness; fpath=($PWD/f $fpath); "
        "autoload -Uz compinit; compinit -u",
    ],
    ids=["alone", "compinit", "fpath"],
)
def test_zsh_completes_verbs_models_runs_and_files(setup, here):
    shell = Zsh(here, setup)
    try:
        shell.pressed("likeness ev", "likeness evaluate ")
        shell.pressed("likeness train vq", "likeness train vqvae ")
        shell.pressed("likeness sample runs/d", "likeness sample runs/ddpm\\ photos ")
        shell.pressed("likeness sample runs/ddpm\\ p", "likeness sample runs/ddpm\\ photos ")
        shell.pressed("likeness check pho", "likeness check photos/")
        shell.pressed("likeness sample ~/alo", "likeness sample ~/alone/")
    finally:
        shell.close()


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
