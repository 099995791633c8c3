"""What the documentation names exists: files, headings, modules, verbs, flags and their values.

Nothing that a page shows is run here.  A command is parsed by the parser of its verb, with the options that
its model declares, and what the parser accepts is compared with the ranges that these options state.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from likeness import agents, data, models
from likeness.cli import VERBS, arguments, catalogue
from likeness.core import Model, Refusal, Spec, Training, option_fields

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("installed without its docs", allow_module_level=True)

GUIDES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("lab/*.md"))]
"""pages that describe likeness as it is now"""
RECORDS = sorted(DOCS.glob("results/*.md"))
"""pages of one day: their commands were typed then, and need not be valid for ever"""
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *RECORDS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
VERB_WORDS = {"likeness", ".venv/bin/likeness"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


KINDS: dict[str, type[Model]] = {name: models.load(name) for name in catalogue.NAMES}
PARTS = ("label", "tokens", "image")


# Links and paths


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    prose = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page):
    assert broken_links(page) == []


def paths_named(text: str) -> Iterator[str]:
    """`tests/test_x.py`, `parts/unet.py` of src/likeness, and paths typed in commands."""
    yield from re.findall(r"(?<![\w./-])(?:src|tests|benchmarks|docs)/[\w./-]*\w(?![\w<*])", text)
    yield from re.findall(r"`((?:\w+/)+\w+\.(?:py|js))`", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths(page):
    named = {path for path in paths_named(page.read_text()) if not re.fullmatch(r"docs/\w+\.png", path)}
    lacking = [
        path
        for path in sorted(named)
        if not any((at / path).exists() for at in (ROOT, ROOT / "src/likeness"))
    ]
    assert lacking == []


def test_tests_named_in_the_docs():
    files = list((ROOT / "tests").glob("*.py"))
    there = {path.stem for path in files}
    there |= {
        name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    there.add("test_images")  # in an .npz
    assert {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())} <= there


def test_every_picture_is_shown():
    shown = {Path(target).name for page in PAGES for target in LINK.findall(page.read_text())}
    assert [p.name for p in sorted(DOCS.glob("pictures/*")) if p.name not in shown] == []


# Python


def blocks(text: str) -> Iterator[str]:
    """Code blocks, fenced or indented by four columns."""
    for _, body in FENCE.findall(text):
        yield textwrap.dedent(body)
    for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", FENCE.sub("\n", text), re.MULTILINE):
        yield textwrap.dedent(block)


def imported(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of what is imported from likeness, and of dotted names in the text."""
    for block in blocks(text):
        try:
            tree = ast.parse(block)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("likeness"):
                yield from ((node.module or "", alias.name) for alias in node.names)
    for dotted in re.findall(r"`(likeness(?:\.\w+)+)(?:\(\w*\))?`", text):
        yield dotted.rpartition(".")[::2]


def importable(module: str, name: str) -> bool:
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_python(page):
    assert [pair for pair in imported(page.read_text()) if not importable(*pair)] == []


# Tables made from the code


def use_of(name: str, part: str) -> str:
    """How a model takes a part of a Condition: an option, without one, or not at all."""
    kind = KINDS[name]
    if not isinstance(kind.takes, property):
        return "yes" if part in kind.takes else ""
    spec = Spec(channels=1, size=8, labels=4, vocabulary=9, tokens=4, frames=2 * kind.videos)
    if part in kind(spec=spec).takes:
        return "yes"
    own = vars(kind(spec=spec))  # of dalle `text` is a weight
    for option in (name for name in ("conditional", "text") if isinstance(own.get(name), bool)):
        if part in kind(spec=spec, **{option: True}).takes:
            return f"`--{option}`"
    return ""


def test_the_table_of_what_models_take():
    rows = ["| model | class (`label`) | caption (`tokens`) | another image (`image`) |", "|---|---|---|---|"]
    rows += [f"| `{n}` | {' | '.join(use_of(n, part) for part in PARTS)} |" for n in catalogue.NAMES]
    assert "\n".join(rows) in (DOCS / "data.md").read_text()


# Commands


class Command(NamedTuple):
    words: list[str]
    whole: bool
    """from a code block, so that it can be typed as it stands"""


def parts(line: str) -> Iterator[list[str]]:
    """The words of each command of a line of shell; comments are dropped."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&;|<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if set(word) <= set("&;|<>"):
            yield words
            words = []
        else:
            words.append(word)


def commands(text: str) -> Iterator[Command]:
    """Every `likeness VERB ...` of a page."""
    lines = [
        (line.removeprefix("$ "), True)
        for block in blocks(text)
        for line in block.replace("\\\n", " ").splitlines()
        if re.search(r"(^|[ /])likeness ", line)
    ]
    lines += [(code, False) for code in CODE.findall(text) if "likeness " in code]
    for line, whole in lines:
        for words in parts(line):
            start = next((i for i, word in enumerate(words) if word in VERB_WORDS), None)
            module = words[:1] == ["torchrun"] or words[:2] == ["python", "-m"]
            if start is not None and (start == 0 or module or all("=" in word for word in words[:start])):
                yield Command([word for word in words[start + 1 :] if word != "..."], whole)


class Parsed(Exception):
    """Ends a verb where its arguments have been read."""


def kinds_of(words: list[str], trained: dict[str, str]) -> list[type[Model]]:
    """The models that a command on runs may be about: those of the runs it names, else all."""
    runs = [trained.get(word) or guess(word) for word in words]
    return [KINDS[name] for name in runs if name in KINDS] or list(KINDS.values())


def guess(word: str) -> str:
    """runs/vae-digits is a run of vae."""
    return word.removeprefix("runs/").split("-")[0] if word.startswith("runs/") else ""


def check(command: Command, trained: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is wrong with a command, or nothing."""
    verb, *words = command.words or [""]
    if verb.startswith("-") or verb == "VERB" or (verb == "train" and words[:1] in (["MODEL"], ["NAME"])):
        return ""  # stands for any
    if verb == "play" and words[:1] and words[0].startswith("runs/"):
        return ""  # shows a run, whose folder must be there
    if verb not in VERBS:
        return f"there is no verb {verb!r}"
    flags_typed = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    args: dict[str, Any] = {}

    def read(self: Any, argv: list[str]) -> None:
        taken = {action.dest for action in self._actions}
        if any(action.dest == "run" for action in self._actions) and verb != "train":
            for kind in kinds_of(words, trained):
                arguments.flags(self, kind.__name__, kind, kind, live=True, leave_out=taken)
                taken |= {f.name for f in option_fields(kind, live=True)}
        known = {flag for action in self._actions for flag in action.option_strings}
        if strange := [flag for flag in flags_typed if flag not in known and flag != "--help"]:
            raise Refusal(f"no flag {', '.join(strange)}")
        if command.whole and "--help" not in words:
            typed, extras = argparse.ArgumentParser.parse_known_intermixed_args(self, words)
            if extras:
                raise Refusal(f"unrecognized arguments: {' '.join(extras)}")
            args.update(vars(typed))
            for action in self._actions:
                value, choices = args.get(action.dest), str(action.metavar).split("|")
                if len(choices) > 1 and isinstance(value, str) and value not in (*choices, action.default):
                    raise Refusal(f"{action.option_strings} {value} is none of {choices}")
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(arguments.Parser, "parse_intermixed_args", read)
        patch.setattr(
            arguments.Parser, "parse_known_intermixed_args", read
        )  # where no run is named that exists
        try:
            VERBS[verb](words)
        except Parsed:
            pass
        except Refusal as refusal:
            # a sentence may name `likeness train` and no model
            return "" if verb == "train" and not command.whole and not flags_typed else str(refusal)
    return values(verb, args)


def values(verb: str, args: dict[str, Any]) -> str:
    """Whether what was typed is in the range of its option."""
    owners: list[type] = [data.Reading]
    if verb == "train" and args.get("model") in KINDS:
        owners += [Training, KINDS[args["model"]]]
    if verb == "play" and args.get("agent") in agents.NAMES:
        owners = [agents.load(args["agent"]).Options]
    for owner in owners:
        for f in option_fields(owner):
            value, says = args.get(f.name, f.default), f.metadata
            outside = isinstance(value, (int, float)) and not (
                (says["low"] is None or value >= says["low"])
                and (says["high"] is None or value <= says["high"])
            )
            if outside or (says["choices"] and value not in says["choices"]):
                return f"--{f.name} {value} is refused"
    return ""


def runs_trained() -> dict[str, str]:
    """The model of each run folder that some page trains."""
    return {
        command.words[3]: command.words[1]
        for page in GUIDES
        for command in commands(page.read_text())
        if command.words[:1] == ["train"] and len(command.words) > 3 and not command.words[3].startswith("-")
    }


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no run of this machine is opened
    trained = runs_trained()
    wrong = {
        " ".join(command.words): problem
        for command in commands(page.read_text())
        if (problem := check(command, trained, monkeypatch))
    }
    assert wrong == {}


def test_the_check_sees_what_is_wrong(monkeypatch, tmp_path):
    """Commands that a user would be refused, and some that are right."""
    monkeypatch.chdir(tmp_path)

    def problem(line: str, whole: bool = True) -> str:
        (words,) = (words for words in parts(line) if words)
        return check(Command(words, whole), {"runs/a": "vae"}, monkeypatch)

    assert "no verb" in problem("teach vae digits")
    assert "--lattent" in problem("train vae digits --lattent 3")
    assert "--codes" in problem("train vae digits --codes 3"), "an option of another model"
    assert "--temperature" in problem("sample runs/a --temperature 1")
    assert problem("sample runs/pixelcnn-x --temperature 1") == "" == problem("sample RUN --temperature 1")
    assert "--likelihood" in problem("train vae digits --likelihood poisson")
    assert "--rate" in problem("train vae digits --rate 11")
    assert "--picture" in problem("latent runs/a --picture plain")
    assert "invalid" in problem("train vae digits --minutes soon")
    assert "required" in problem("train vae") and problem("train vae", whole=False) == ""
    assert "unrecognized" in problem("check photos/      what is in it")
    assert problem("check photos/      # what is in it") == ""


def test_flags_named_in_sentences_exist():
    """`--flag` outside of a command: it belongs to some verb, model, or script."""
    own = {f.name for kind in (*KINDS.values(), Training, data.Reading) for f in option_fields(kind)}
    own |= {f.name for name in agents.NAMES for f in option_fields(agents.load(name).Options)}
    cli = "\n".join(path.read_text() for path in (ROOT / "src/likeness/cli").glob("*.py"))
    scripts = "\n".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    there = (
        {f"--{name.replace('_', '-')}" for name in own}
        | {f"--no-{name.replace('_', '-')}" for name in own}
        | set(re.findall(r'"(--[\w-]+)"', cli + scripts))
        | {"--help", "--version", "--index-url", "--nproc-per-node", "--all", "--user"}
    )
    for page in (
        page for page in GUIDES if page.name != "glossary.md"
    ):  # which has those of other tools, too
        named = {
            flag
            for code in CODE.findall(page.read_text())
            for flag in re.findall(r"(?<!\S)--[a-z][\w-]+", code)
        }
        named -= {"--lr", "--epochs", "--batch-size"} if page.name == "README.md" else set()  # of other tools
        assert named <= there, f"{name_of(page)}: {named - there}"


def test_benchmarks_take_the_flags_that_pages_type():
    for page in PAGES:
        for script, rest in re.findall(r"python (?:-m )?(benchmarks/\w+\.py)([^\n`]*)", page.read_text()):
            source = (ROOT / script).read_text()
            helpers = [ROOT / "benchmarks" / f"{name}.py" for name in re.findall(r"import (\w+)", source)]
            source += "".join(path.read_text() for path in helpers if path.exists())
            typed = re.findall(r"(?<!\S)--[a-z][\w-]+", rest)
            lacking = [flag for flag in typed if f'"{flag}"' not in source]
            assert not lacking, f"{name_of(page)}: {script} {lacking}"


def test_each_page_of_a_lecture_topic_begins_with_a_command_and_a_picture():
    """Before the first heading below the title and within a screen; the picture is there, and small."""
    text = (DOCS / "course.md").read_text()
    pages = sorted(set(re.findall(r"\]\(((?:lab/)?[\w-]+\.md)[#)]", text.partition("| topic | page")[2])))
    assert {"adversarial.md", "diffusion.md", "lab/README.md", "look.md"} <= set(pages)
    for page in set(pages) - {"data.md"}:
        top = "\n".join((DOCS / page).read_text().split("\n")[:14])
        picture = re.search(r"!\[.+\]\((.+?)\)", top.partition("\n## ")[0])
        assert picture and "\n    likeness " in top[: picture.start()], page
        assert 0 < ((DOCS / page).parent / picture[1]).stat().st_size < 300_000, page
