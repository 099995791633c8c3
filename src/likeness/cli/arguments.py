"""What the verbs of the command line read their arguments with.  Every flag of a model is one of its options;
none is declared here."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import words

if TYPE_CHECKING:
    from ..api import Trained


class Parser(argparse.ArgumentParser):
    """Refuses in one sentence, with the flag that was probably meant."""

    def __init__(self, verb: str, text: str, usage: str):
        super().__init__(
            f"likeness {verb}",
            usage=f"likeness {verb} {usage}",
            description=text,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.verb = verb
        self.batch = 0
        """images a step unless --batch is typed, where there is training"""

    def read(self, argv: list[str]) -> dict[str, Any]:
        """What was typed, by name.  Raises Refusal."""
        ours = words.understood(self._speaker(), argv, _note)
        args = vars(self.parse_intermixed_args(ours))
        _choose(args.pop("device", None))
        return args

    def _speaker(self) -> words.Speaker:
        flags = [flag for action in self._actions for flag in action.option_strings]
        places = [str(action.metavar) for action in self._actions if not action.option_strings]
        return words.Speaker(self.verb, frozenset([*flags, *places]), self.batch, self._count)

    def _count(self, argv: list[str]) -> int | None:
        """The training images of DATA, read as was typed."""
        from ..core import Refusal, option_fields
        from ..data import Reading
        from ..data.quick import training_images

        try:
            known = vars(self.parse_intermixed_args(argv))
        except Refusal:
            return None
        reading = {f.name: known[f.name] for f in option_fields(Reading) if f.name in known}
        return training_images(known.get("data") or "", reading)

    def error(self, message: str) -> NoReturn:
        from ..core import Refusal

        known = [flag for action in self._actions for flag in action.option_strings]
        wrong = re.search(r"(--?[A-Za-z][\w-]*)", message) if message.startswith("unrecognized") else None
        meant = closest(wrong[1], known) if wrong else ""
        hint = meant and f"  {meant}"
        raise Refusal(f"{message}.{hint}  likeness {self.verb} --help shows what there is.")


def _choose(device: str | None) -> None:
    """Compute there, where one was named.  Raises Refusal for one that this machine does not have."""
    if device is None:
        return
    with undisturbed():
        from .. import engine
    engine.choose(device)


def _note(text: str) -> None:
    from ..reports import terminal

    terminal.say(f"note: {text}")


def closest(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"Did you mean {near[0]}?" if near else ""


def flags(
    parser: argparse.ArgumentParser,
    title: str,
    owner: type,
    defaults: object,
    live: bool = False,
    leave_out: Set[str] = frozenset(),
) -> None:
    """A flag for each declared option; an option that is not typed is absent from the result."""
    listed(parser, title, [one for one in declared(owner, defaults, live) if one.name not in leave_out])


class Declared(NamedTuple):
    """An option, as its flag needs it."""

    name: str
    default: Any
    """of the class that declares it: its type is that of the flag"""
    here: Any
    """the default where it is asked about"""
    help: str
    low: float | None
    high: float | None
    choices: Sequence[str] | None


def declared(owner: type, defaults: object, live: bool = False) -> list[Declared]:
    """The options that a class declares with core.option, with the values that `defaults` has for them."""
    from ..core import option_fields

    says = ("help", "low", "high", "choices")
    return [
        Declared(f.name, f.default, getattr(defaults, f.name, f.default), *(f.metadata[k] for k in says))
        for f in option_fields(owner, live)
    ]


def listed(parser: argparse.ArgumentParser, title: str, options: Sequence[Declared]) -> None:
    """A flag for each of these options."""
    group = parser.add_argument_group(title)
    for one in options:
        flag, where = (
            f"--{one.name.replace('_', '-')}",
            dict[str, Any](dest=one.name, default=argparse.SUPPRESS),
        )
        span = (
            (f", {_short(one.low)} to {_short(one.high)}")
            if one.low is not None and one.high is not None
            else ""
        )
        text, kind = f"{one.help} [{_short(one.here)}{span}]".replace("%", "%%"), type(one.default)
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text, **where)
        elif one.choices:
            group.add_argument(flag, metavar="|".join(one.choices), help=text, **where)
        else:
            group.add_argument(flag, type=_number(kind), metavar=kind.__name__.upper(), help=text, **where)


def _number(kind: type) -> Callable[[str], Any]:
    """1e6 and 10_000 are whole numbers, too."""

    def read(text: str) -> Any:
        if kind is not int or text.lstrip("+-").isdigit():
            return kind(text)
        if not float(text).is_integer():
            raise ValueError(text)
        return int(float(text))

    read.__name__ = {"int": "whole number", "float": "number"}.get(kind.__name__, kind.__name__)
    return read


def _short(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def natural(text: str) -> int:
    value: int = _number(int)(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**31 - 1}")
    return value


def count(text: str) -> int:
    value: int = _number(int)(text)
    if not 0 < value <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 10,000,000")
    return value


DEVICES = r"cpu|mps|cuda(:\d+)?"


def device_name(text: str) -> str:
    if not re.fullmatch(DEVICES, text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of: cpu, cuda, cuda:1 (the second GPU ...), mps")
    return text


SEED_OF_CHOICE = "random seed of the choice of held-out images"


def picture_file(*others: str) -> str:
    """The help of -o where a picture is written, or one of these other endings; "" is a folder."""
    from . import outline

    known = [ending for ending in (*outline.value("figures.files", "ENDINGS"), *others) if ending]
    return f"output file ({', '.join(known)}){', or a folder' if '' in others else ''}"


def common(parser: argparse.ArgumentParser, *names: str, **helps: str) -> None:
    """The flags that mean the same for every verb.  helps: of n, seed and o, what they are for this verb."""
    known: dict[str, dict[str, Any]] = {
        "--json": dict(action="store_true", help="print the result as JSON"),
        "--seed": dict(type=natural, default=0, help=f"{helps.get('seed', 'random seed')} [0]"),
        "--raw": dict(
            action="store_true", help="use the weights as trained, instead of their moving average (EMA)"
        ),
        "--device": dict(
            type=device_name,
            metavar="cpu|cuda|cuda:1|mps",
            help="device to compute on [a CUDA GPU where there is one, else the CPU]",
        ),
        "-n": dict(type=count, metavar="N", help=helps.get("n", "number of images")),
        "-o": dict(
            type=Path,
            metavar="FOLDER" if helps.get("o", "").startswith("output folder") else "FILE",
            help=helps.get("o", "output file"),
        ),
    }
    for name in names:
        parser.add_argument(name, **known[name])


VALUED = ("-o", "--network", "--beside", "--data", "--to", "--device")
"""flags whose value may be called like a run"""


def on_runs(
    argv: list[str], parser: Parser, data: bool = True
) -> tuple[dict[str, Any], list[tuple[Trained, dict[str, Any]]]]:
    """Parse for a verb on runs: what was said, and the runs, each with those of the typed live options that
    it has.  data: whether it may be said where the data of the runs are now."""
    from ..core import Refusal
    from ..reports import terminal
    from ..runs.folder import is_run

    folders = [
        Path(a)
        for before, a in zip(["", *argv], argv)
        if not a.startswith("-") and before not in VALUED and is_run(Path(a))
    ]
    if data:
        parser.add_argument(
            "--data",
            dest="place",
            metavar="PLACE",
            help="where the data of the run are now, if they have moved",
        )
        parser.add_argument(
            "--to",
            dest="place_of_second",
            metavar="PLACE",
            help="where the second domain of the run is now, if it has moved",
        )
    common(parser, "--device")
    if folders:
        _choose(_typed_device(argv))
    opened = _opened(folders, raw="--raw" in argv)
    taken = {action.dest for action in parser._actions}  # a verb's own flag means what the verb says
    turns = {f: _live(t) - taken for f, t in opened.items()}
    known: set[str] = set()
    for t in opened.values():
        flags(
            parser,
            f"options of {type(t.model).__name__.lower()} that can be changed after training",
            type(t.model),
            t.model,
            live=True,
            leave_out=known | taken,
        )
        known |= turns[t.folder]
    # where there is no run its flags are not known, and that there is none is what must be heard
    args = parser.read(argv) if opened else vars(parser.parse_known_intermixed_args(argv)[0])
    wanted = args["run"] if isinstance(args["run"], list) else [args["run"]]
    if len(wanted) > 1:  # what a shell makes of runs/* holds files, too: our own comparisons among them
        passed = [f for f in wanted if f not in opened and f.is_file()]
        wanted = [f for f in wanted if f not in passed]
        if strange := [str(f) for f in passed if f.stem != "compare"]:
            terminal.say(f"note: passed over, since they are no runs: {', '.join(strange)}")
    if missing := [folder for folder in wanted if folder not in opened]:
        here = ", ".join(str(p.parent) for p in sorted(Path("runs").glob("*/config.json")))
        raise Refusal(f"{missing[0]} is not a run: it has no config.json.  Runs here: {here or 'none'}.")
    typed = {name for name in known if name in args}
    for folder in wanted:
        if lacking := typed - turns[folder]:
            terminal.say(f"note: {folder} has no option {', '.join(sorted(lacking))}; it is asked without")
    args["run"] = wanted
    for folder in wanted if data and (args["place"] or args["place_of_second"]) else ():
        opened[folder].locate(args["place"] or "", args["place_of_second"] or "")
    return args, [(opened[f], {name: args[name] for name in typed & turns[f]}) for f in wanted]


def _typed_device(argv: list[str]) -> str | None:
    """What --device says, before all flags are known; None where that is nothing, or is refused later."""
    typed = " ".join(argv).replace("--device=", "--device ").split(" ")
    name = dict(pairwise(typed)).get("--device", "")
    return name if re.fullmatch(DEVICES, name) else None


def _opened(folders: list[Path], raw: bool) -> dict[Path, Trained]:
    """The runs.  Where there is none torch is not imported: what is refused for that is refused at once."""
    if not folders:
        return {}
    with undisturbed():
        from .. import api
    return {folder: api.open(folder, raw) for folder in folders}


def _live(run: Trained) -> set[str]:
    from ..core import option_fields

    return {option.name for option in option_fields(type(run.model), live=True)}


@contextmanager
def undisturbed() -> Iterator[None]:
    """While torch is imported nothing is garbage, and what it leaves in memory stays to the end: a third of
    its import, and of the end of the process, is spent on looking for cycles in it."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()


def target(named: Path | None, usual: Path, *endings: str) -> Path:
    """Where to write, refused if the name asks for a format that is not written; in any case of letters."""
    from ..core import Refusal

    if named is not None and named.suffix.lower() not in endings:
        raise Refusal(
            f"-o {named} should end in "
            f"{' or '.join(e for e in endings if e)}{', or be a folder' if '' in endings else ''}."
        )
    return named or usual


def writable(out: Path) -> Path:
    """The same, or a Refusal before there is work to lose.  Nothing is made yet."""
    import os

    from ..core import NotAllowed, Refusal

    there = next(p for p in (out.parent, *out.parent.parents) if os.path.exists(p))
    if out.is_dir() or not there.is_dir():
        wrong, what = (out, "is a folder") if out.is_dir() else (there, "is no folder")
        raise Refusal(f"{out} cannot be written, since {wrong} {what}; name another file with -o.")
    if not os.access(there, os.W_OK):
        raise NotAllowed(
            f"{out} cannot be written, since {there} takes no files from you; name another file with -o."
        )
    return out
