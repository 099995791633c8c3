"""likeness completion: what a shell offers when TAB is pressed.

The script that a shell loads asks `likeness completion words` for the words that may stand at the cursor:
verbs, flags and their choices, names of models and of data sets, run folders.  Flags are read off the parsers
themselves. torch is kept out, which takes longer to import than anybody waits for a TAB: where a parser needs
it, the flags are those that stand in the text of the verb."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core import Refusal
from . import arguments, catalogue
from .arguments import Parser, closest
from .outline import PACKAGE, value

BASH = r"""# bash completion of likeness; put this line into ~/.bashrc:   source <(likeness completion bash)
_likeness() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$(printf %q "$word")")
    done < <("${COMP_WORDS[0]}" completion words "$COMP_CWORD" "${COMP_WORDS[@]}" 2>/dev/null)
}
complete -o default -F _likeness likeness
"""
ZSH = r"""#compdef likeness
# zsh completion of likeness; put this line into ~/.zshrc:   source <(likeness completion zsh)
_likeness() {
    local -a options
    options=("${(@f)$("${words[1]}" completion words $((CURRENT - 1)) "${(@Q)words}" 2>/dev/null)}")
    if [[ -n "${options[1]}" ]]; then compadd -a options; else _files; fi
}
# as a file _likeness in $fpath this is the function itself, when it is called for the first time
if [[ "${funcstack[1]}" == _likeness ]]; then
    _likeness "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _likeness likeness
fi
"""
FISH = r"""# fish completion:   likeness completion fish > ~/.config/fish/completions/likeness.fish
function __likeness
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    set -g __likeness_words ($before[1] completion words (count $before) $before $typed 2>/dev/null)
    set -q __likeness_words[1]
end
# file names only where there is nothing else
complete -c likeness -n __likeness -f -a '$__likeness_words'
"""
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(argv: list[str]) -> int:
    """completion bash|zsh|fish: a script that lets the shell complete verbs, flags, models and run folders"""
    if argv[:1] == ["words"]:  # the script itself asks; what follows are anybody's words, flags among them
        for word in words(argv[2:], int(argv[1])):  # of none no line, for which bash would offer one
            print(word)
        return 0
    about = "\n".join(line for text in SHELLS.values() for line in text.split("\n") if line.startswith("# "))
    parser = Parser("completion", about, "SHELL")
    parser.add_argument("shell", metavar="bash|zsh|fish")
    shell = parser.parse_args(argv).shell
    if shell not in SHELLS:
        raise Refusal(
            f"there is no completion for {shell!r}; {closest(shell, list(SHELLS))}  "
            f"There is: {', '.join(SHELLS)}."
        )
    print(SHELLS[shell], end="")
    return 0


def words(line: Sequence[str], at: int) -> list[str]:
    """What may stand at word number `at` of a command line that begins with `likeness`; nothing where a
    shell's own file names do as well."""
    from . import VERBS

    typed, before = (line[at] if at < len(line) else ""), list(line[1:at])
    if not before:
        return _that_begin(typed, [*VERBS, *(["--help", "--version"] if typed.startswith("-") else [])])
    verb, rest = before[0], before[1:]
    if verb not in VERBS:
        return []
    if verb == "completion":
        return _that_begin(typed, SHELLS)
    flags = _flags(verb, rest)
    if rest and rest[-1] in flags:
        values = flags[rest[-1]]
        if values is not None:
            return _that_begin(typed, values)
    if typed.startswith("-"):
        return _that_begin(typed, flags)
    places = [
        w
        for i, w in enumerate(rest)
        if not w.startswith("-") and not (i and flags.get(rest[i - 1]) is not None)
    ]
    wanted = (VERBS[verb].__doc__ or "").split(":")[0].split()[1:]
    here = wanted[min(len(places), len(wanted) - 1)] if wanted else ""
    return list(_operand(here.strip("[]"), typed))


def _operand(what: str, typed: str) -> Iterator[str]:
    """Candidates for an operand as the verb's first line calls it, such as MODEL or RUN..."""
    if what == "MODEL":
        yield from _that_begin(typed, catalogue.NAMES)
    if what == "AGENT":
        yield from _that_begin(typed, value("agents.__init__", "NAMES"))
    if what == "WORLD":
        yield from _that_begin(typed, value("agents.opening", "BUILT_IN"))
    if what.startswith("DATA"):
        names = (("named", "NAMES"), ("drawn", "NAMES"), ("points", "LAWS"))
        yield from _that_begin(typed, [word for file, name in names for word in value(f"data.{file}", name)])
    if what.startswith(("RUN", "DATA", "AGENT")):
        yield from runs(typed)


def _that_begin(typed: str, words: Any) -> list[str]:
    return [word for word in words if word.startswith(typed)]


def runs(typed: str) -> list[str]:
    """Run folders whose path begins so: here, or one folder further down.  None of a path that begins with ~:
    a shell would quote it in what it is offered, and completes it itself."""
    if typed.startswith("~"):
        return []
    folder, _, stem = typed.rpartition("/")
    base = Path(folder or ("/" if typed.startswith("/") else "."))
    out = list[str]()
    for one in _folders(Path(os.path.expanduser(base)), stem):
        shown = f"{folder}/{one.name}" if folder or typed.startswith("/") else one.name
        inside = [f"{shown}/{two.name}" for two in _folders(one, "") if (two / "config.json").is_file()]
        out += [shown] if (one / "config.json").is_file() else inside
    return out


def _folders(base: Path, stem: str) -> list[Path]:
    with contextlib.suppress(OSError):
        with os.scandir(base) as there:
            names = [
                e.name for e in there if e.is_dir() and e.name.startswith(stem) and not e.name.startswith(".")
            ]
        return [base / name for name in sorted(names)]
    return []


# Flags


def _flags(verb: str, rest: Sequence[str]) -> dict[str, list[str] | None]:
    """The flags of a verb with the values that may follow each: none where anything may (an empty list), and
    None where nothing does."""
    from . import VERBS

    model = next((w for w in rest if w in catalogue.NAMES), None) if verb == "train" else None
    more = (_kept(model) or _written(model)) if model else {}
    try:
        with (
            _parser_of() as parsers,
            _without_torch(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            VERBS[verb](["--help"])
        own = {flag: _values(a) for parser in parsers for a in parser._actions for flag in a.option_strings}
        return more | own
    except (ImportError, Refusal):
        text = Path(sys.modules[VERBS[verb].__module__].__file__ or "").read_text(encoding="utf-8")
        return {key: list[str]() for key in re.findall(r'"(--[a-z][a-z-]*)"', text)}


def _kept(model: str) -> dict[str, list[str] | None]:
    """The flags of a model by the table of the catalogue, of whatever day: to see whether it is of today
    takes longer than all the rest.  Nothing where there is none."""
    from ..storage import cache

    with contextlib.suppress(Refusal, OSError, ValueError, KeyError, TypeError):
        _, _, options, training, _ = json.loads((cache.where() / catalogue.FILE).read_text())[model]
        declared = [arguments.Declared(*row) for row in (*options, *training)]
        return {
            flag: None if isinstance(one.default, bool) else list(one.choices or [])
            for one in declared
            for flag in _spelled(one.name, isinstance(one.default, bool))
        }
    return {}


def _written(model: str) -> dict[str, list[str] | None]:
    """The flags of a model's training and options, off the text of its file and of the one that all denoisers
    share, where there is no such table yet."""
    files = [PACKAGE / "core" / "model.py", PACKAGE / "models" / f"{model}.py"]
    texts = [path.read_text(encoding="utf-8") for path in files]
    if "parts.denoising" in texts[1]:
        texts.append((PACKAGE / "parts" / "denoising.py").read_text(encoding="utf-8"))
    options = re.findall(r"^    (\w+): (\w+) = option\(", "\n".join(texts), re.MULTILINE)
    return {
        flag: None if kind == "bool" else []
        for name, kind in options
        for flag in _spelled(name, kind == "bool")
    }


def _spelled(name: str, switch: bool) -> list[str]:
    flag = name.replace("_", "-")
    return [f"--{flag}", f"--no-{flag}"] if switch else [f"--{flag}"]


def _values(action: argparse.Action) -> list[str] | None:
    if action.nargs == 0:
        return None
    if action.dest == "model":
        return [*catalogue.NAMES]
    shown = str(action.metavar or "")
    return [str(c) for c in action.choices] if action.choices else shown.split("|") if "|" in shown else []


@contextlib.contextmanager
def _parser_of() -> Iterator[list[argparse.ArgumentParser]]:
    """The parsers that were asked for their help within, instead of that help."""
    asked = list[argparse.ArgumentParser]()
    own = arguments.Parser.print_help
    arguments.Parser.print_help = lambda self, file=None: asked.append(self)  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        arguments.Parser.print_help = own  # type: ignore[method-assign]


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """To import torch is an ImportError within."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
