"""likeness play: agents that learn in a world, and what they have learnt; their part of likeness evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, closest, common, count, flags, natural, undisturbed
from .outline import value

if TYPE_CHECKING:
    from ..agents.run import AgentRun
    from ..metrics.card import Score

EPISODES = 100
"""that an evaluation plays"""
KINDS = {".gif": "GIF", ".webp": "WEBP"}


def play(argv: list[str]) -> int:
    """play AGENT WORLD [RUN]: train an agent (ppo, dqn, world-model ...); play RUN makes a film of one"""
    names = value("agents.__init__", "NAMES")
    words = [word for word in argv if not word.startswith("-")]
    if words and words[0] in names:
        return _train(argv, words[0])
    if words and not _is_agent(Path(words[0])):
        from ..core import Refusal

        raise Refusal(
            f"{words[0]} is neither an agent ({', '.join(names)}) nor the run of one.  "
            f"{closest(words[0], list(names))}  Begin with: likeness play ppo CartPole-v1"
        )
    if words:
        return _show(argv)
    parser = _training("AGENT", None)
    parser.read(argv)
    return 2  # without operands the parser has refused or helped


def _is_agent(folder: Path) -> bool:
    """Whether an agent has run there.  It needs no torch."""
    try:
        return "agent" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


# Training


def _training(agent: str, kind: Any) -> Parser:
    worlds = ", ".join(value("agents.opening", "BUILT_IN"))
    parser = Parser(
        "play",
        "An agent that learns by doing.  The same command goes on where a run was stopped, bit by bit.",
        f"{agent} WORLD [RUN] [options]",
    )
    parser.add_argument("agent", metavar="AGENT", help=", ".join(value("agents.__init__", "NAMES")))
    parser.add_argument("world", metavar="WORLD", help=f"{worlds}, or one of gymnasium, such as Acrobot-v1")
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="folder [runs/AGENT-WORLD]")
    parser.add_argument("--seed", type=natural, help="random seed [0]")
    parser.add_argument(
        "--seeds", type=count, metavar="N", help="train N runs together, of this seed and those that follow"
    )
    common(parser, "--json")
    if kind is not None:
        flags(parser, f"options of {agent}", kind.Options, kind.Options())
    return parser


def _train(argv: list[str], name: str) -> int:
    with undisturbed():
        from .. import agents
    kind = agents.load(name)
    args = _training(name, kind).read(argv)
    typed = {k: v for k, v in args.items() if k not in ("agent", "world", "run", "seed", "seeds", "json")}
    plain = args["world"].replace("/", "-")
    folder = args["run"] or Path("runs") / f"{args['agent']}-{plain}"
    if args["seeds"] is None:
        return _one(args, folder, args["seed"], typed, args["json"])
    seeds = range(args["seed"] or 0, (args["seed"] or 0) + args["seeds"])
    _checked(args, typed)
    folders = [folder.with_name(f"{folder.name}-seed{seed}") for seed in seeds]
    commands = [_command(args, folder, seed, typed) for folder, seed in zip(folders, seeds)]
    code = _together(commands, args["json"])
    if not args["json"] and not code:
        print(f"measure them together: likeness evaluate {' '.join(map(str, folders))}")
    return code


def _checked(args: dict[str, Any], typed: dict[str, Any]) -> None:
    """Refuse here what every run would refuse."""
    from ..agents import opening
    from ..agents.run import settled

    settled(args["agent"], args["world"], typed)
    opening.world(args["world"], 1, 0)


def _command(args: dict[str, Any], folder: Path, seed: int, typed: dict[str, Any]) -> list[str]:
    """What trains one of several runs."""
    flags = [sys.executable, "-m", "likeness", "play", args["agent"], args["world"], str(folder)]
    for name, setting in typed.items():
        flag = name.replace("_", "-")
        if isinstance(setting, bool):
            flags.append(f"--{flag}" if setting else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(setting)]
    return [*flags, "--seed", str(seed), *(["--json"] if args["json"] else [])]


def _together(commands: Sequence[list[str]], as_json: bool) -> int:
    """Run them, as many at once as there are processors, and show what each says when it is done, in their
    order.  A signal stops all, which save; the first code that is not 0, or 0."""
    from ..reports import terminal
    from ..training.signals import stopping

    running: list[subprocess.Popen[str]] = []
    codes, waiting = list[int](), list(commands)
    # a session of their own: the signal of a terminal would reach them twice, and the second ends at once
    pipe = subprocess.PIPE
    how: dict[str, Any] = dict(text=True, stdout=pipe, stderr=pipe, start_new_session=True)
    with stopping() as stop, terminal.status(as_json) as status:
        passed_on = False
        while running or waiting:
            while waiting and len(running) < (os.cpu_count() or 1):
                running.append(subprocess.Popen(waiting.pop(0), **how))
            if stop.signal and not passed_on:
                passed_on, waiting = True, []
                for child in running:
                    child.send_signal(stop.signal)
            if running[0].poll() is not None:
                codes.append(_said(running.pop(0)))
                waiting = waiting if codes[-1] == 0 else []
                continue
            status(f"{len(codes)} of {len(commands)} runs are done")
            time.sleep(0.1)
    return next(filter(None, codes), 0)


def _said(child: subprocess.Popen[str]) -> int:
    said, errors = child.communicate()
    sys.stdout.write(said)
    if child.returncode:
        sys.stderr.write(errors)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _one(args: dict[str, Any], folder: Path, seed: int | None, typed: dict[str, Any], as_json: bool) -> int:
    """Train one run."""
    from ..agents.run import AgentRun
    from ..reports import terminal
    from ..training.signals import stopping

    run = AgentRun.begin(folder, args["agent"], args["world"], seed, typed)
    try:
        for note in run.notes:
            terminal.say(f"note: {note}", as_json)
        with stopping() as stop:
            _walk(run, lambda: bool(stop.signal), as_json)
            number = stop.signal
    finally:
        run.close()
    if number:
        terminal.say(f"stopped and saved at step {run.steps:,}; the same command goes on from here")
        return 128 + number
    result = _result(run)
    lately = "" if result["return"] is None else f", return {result['return']:.1f} lately"
    speed = f"{result['steps_per_second']:,.0f} steps/s of processor"
    terminal.result(
        result,
        as_json,
        f"done: {folder}, {run.steps:,} steps{lately}, {speed}\nsee it: likeness play {folder}\n"
        f"measure it: likeness evaluate {folder}",
    )
    return 0


def _walk(run: AgentRun, stop: Any, as_json: bool) -> None:
    """To the end, with a word on how it goes."""
    from ..reports import terminal

    with terminal.status(as_json) as status:
        for line in run.fit(stop):
            text = f"{run.folder}: step {line['steps']:,} of {run.options.steps:,}"
            text += f", {line['clock'] / run.agent.whole(run.options.steps):.0%}" if "clock" in line else ""
            text += "".join(f"  {k} {line[k]:.2f}" for k in ("return", "dream return") if k in line)
            status(text)


def _result(run: AgentRun) -> dict[str, Any]:
    """Of a run that is done; its return is the mean of the last tenth of its log."""
    log = run.log()
    lately = [line for line in log[-max(1, len(log) // 10) :] if "return" in line]
    episodes = sum(line["episodes"] for line in lately)
    mean = sum(line["return"] * line["episodes"] for line in lately) / episodes if episodes else None
    return {
        "run": str(run.folder),
        "agent": run.config.agent,
        "world": run.config.world,
        "seed": run.config.seed,
        "steps": run.steps,
        "return": mean,
        "seconds": round(run.seconds, 2),
        "steps_per_second": round(run.steps / max(run.seconds, 1e-9)),
    }


# Films


def _show(argv: list[str]) -> int:
    parser = Parser("play", "A film of what an agent has learnt.", "RUN [-o film.gif] [-n 1] [--drawn]")
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--drawn", action="store_true", help="draw actions from the policy, not its best")
    helps = dict(
        n="episodes in a row [1]", o="output file (.gif, .webp) [RUN/film.gif]", seed="of the episodes"
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args = parser.read(argv)
    from .. import storage
    from ..agents import evaluation, opening, playing
    from ..core import Refusal
    from ..reports import terminal
    from .arguments import writable

    path = args["o"] or args["run"] / "film.gif"
    if path.suffix.lower() not in KINDS:
        raise Refusal(f"-o {path} should end in {' or '.join(KINDS)}.")
    writable(path)
    run = _opened(args["run"])
    world = opening.world(run.config.world, 1, evaluation.seed_of("film", args["seed"]), drawn=True)
    choose = evaluation.chooser(run, args["drawn"], args["seed"])
    pictures = list(run.agent.frames(world, choose, args["n"] or 1))
    storage.make(path.parent)
    storage.write(path, playing.film(pictures, world.pace, KINDS[path.suffix.lower()]))
    played = world.take()
    text = ", ".join(f"return {e.total:.4g} in {e.length} steps" for e in played) or "cut off"
    result = dict(
        run=str(run.folder), film=str(path), frames=len(pictures), returns=[e.total for e in played]
    )
    terminal.result(result, args["json"], f"{text}\n{path}")
    return 0


def _opened(folder: Path) -> AgentRun:
    with undisturbed():
        from ..agents.run import AgentRun
    run = AgentRun.open(folder)
    if not run.steps:
        from ..core import Refusal

        raise Refusal(
            f"{folder} has no state yet; likeness play {run.config.agent} {run.config.world} {folder}"
        )
    return run


# Evaluation


def of_agents(argv: Sequence[str]) -> bool:
    """Whether likeness evaluate is asked about runs of agents.  Raises Refusal for a mixture."""
    from ..runs.folder import is_run

    folders = [Path(word) for word in argv if not word.startswith("-") and is_run(Path(word))]
    agents = [folder for folder in folders if _is_agent(folder)]
    if agents and len(agents) < len(folders):
        from ..core import Refusal

        other = next(folder for folder in folders if folder not in agents)
        raise Refusal(
            f"{agents[0]} is the run of an agent and {other} is none; evaluate them one after the other."
        )
    return bool(agents)


def evaluate(argv: list[str]) -> int:
    """The returns of agents: each run, and of several of one kind their interquartile mean over seeds."""
    parser = Parser("evaluate", "Returns of agents.", "RUN [RUN ...] [-n 100] [--drawn]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--drawn", action="store_true", help="draw actions from the policy, not its best")
    helps = dict(
        n=f"episodes of each run [{EPISODES}]",
        seed="of the episodes",
        o="output folder of compare.html, of two runs or more [the folder that the runs have in common]",
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args = parser.read(argv)
    from ..agents import evaluation, page
    from ..evaluation.scores import save_scores
    from ..reports import terminal

    n = args["n"] or EPISODES
    runs = [_opened(folder) for folder in dict.fromkeys(args["run"])]
    cards: dict[Path, list[Score]] = {}
    kinds: dict[tuple[str, str], list[Path]] = {}
    for run in runs:
        cards[run.folder] = evaluation.cards(run, n, args["seed"], args["drawn"])
        save_scores(run.folder, cards[run.folder])
        page.report(run, cards[run.folder])
        kinds.setdefault((run.config.agent, run.config.world), []).append(run.folder)
    rows = [evaluation.over_seeds(*kind, own, cards, args["seed"]) for kind, own in kinds.items()]
    where = [run.folder / page.PAGE for run in runs]
    if len(runs) > 1:
        together = args["o"] or Path(os.path.commonpath([run.folder.resolve().parent for run in runs]))
        where = [page.compare(runs, cards, rows, together)]
    if args["json"]:
        shown = {str(folder): [c.as_dict() for c in own] for folder, own in cards.items()}
        print(terminal.document(dict(runs=shown, over_seeds=rows), indent=1))
        return 0
    head = ("run", "steps", "return of the last policy", "random policy", "best possible", "to half", "speed")
    terminal.columns(head, [_line(folder, own) for folder, own in cards.items()])
    print(
        f"means of {n} episodes with 95 % intervals over them; {'drawn' if args['drawn'] else 'best'} actions"
    )
    for folder, own in cards.items():
        for card in own:
            if card.group == "reconstruction":  # of a world model
                print(f"{folder}: {card.name} of {card.of}: {card.number}")
    for row in rows:
        if row["runs"] > 1:
            print(f"{row['agent']} on {row['world']}: IQM over {row['runs']} runs {row['iqm']:.4g} "
                  f"[{row['low']:.4g}, {row['high']:.4g}], random {row['random']:.4g}")  # fmt: skip
        if row["warning"]:
            print(f"warning: {row['agent']} on {row['world']}: {row['warning']}")
    for folder, own in cards.items():
        for text in own[-1].warnings:
            print(f"warning: {folder}: {text}")
    terminal.say(f"report: {where[0]}")
    return 0


def _line(folder: Path, cards: list[Score]) -> tuple[str, ...]:
    from ..agents.evaluation import BEST, RANDOM, SOLVED

    of = {card.of: card.number for card in cards if card.name == "return"}
    other = {card.name: card for card in cards}
    best = of.get(BEST) or (f"solved at {of[SOLVED]}" if SOLVED in of else "unknown")
    half = other.get("steps to half")
    slow = "" if half is None else "not reached" if half.refused else f"{half.value:,.0f} steps"
    steps, speed = cards[0].settings["steps"], f"{other['speed'].value:,.0f} steps/s"
    return str(folder), f"{steps:,}", of["model"], of[RANDOM], best, slow, speed
